"""Recommendations that no setting of the sidecar can follow: slow names, uncompressed texts. Planted, found, measured."""
import json
import random
import socket
import struct
import subprocess
import zlib

from harness import *
from test_57_recommendations import Load, advice, proposed

QUICK = {"performance.recommendation_interval": "1s"}


def text_of(n):
    """JSON as an API writes it."""
    rows = []
    while sum(map(len, rows)) < n:
        i = len(rows)
        rows.append(json.dumps({"id": i * 7919 % 10007, "name": "prompt-%d" % i, "version": "1.%d.0" % (i % 13), "tags": ["a", "b"], "active": i % 3 == 0}))
    return "".join(rows)[:n].encode()


@slow(90)
def test_uncompressed_texts_are_found(t):
    origin = t.origin()
    body = text_of(8000)
    origin.on["/json"] = make_response(200, [("Content-Type", "application/json; charset=utf-8")], body)
    origin.on["/noise"] = make_response(200, [("Content-Type", "application/octet-stream")], random.Random(1).randbytes(8000))
    sidecar = t.sidecar(origin, QUICK)
    Load(t, sidecar, lambda client, dice: client.request("/json"), pause=0.005)
    r = proposed(sidecar, "compression")
    measured = 1 - len(zlib.compress(body[:4096])) / 4096  # what deflate saves; heads make the share a little less than all

    def estimate():
        found = advice(sidecar, "compression")    # None while a window had too few requests to tell
        return found["estimate"]["improvement"] if found else 0
    wait_for(lambda: measured * 0.85 <= estimate() <= measured * 1.1,
             "an estimate beside zlib's %.2f, once windows before the load are forgotten" % measured, timeout=35)
    equal((r["strategy"], r["change"]), ("COMPRESSION", None), "nothing of ours to set")
    equal(sidecar.admin("/api/v1/recommendations/compression/apply", "POST")[0], 409, "it cannot be tried")


def test_what_is_compressed_or_no_text_gives_none(t):
    origin = t.origin()
    noise = random.Random(1).randbytes(4000)
    origin.on["/gzip"] = make_response(200, [("Content-Type", "application/json"), ("Content-Encoding", "gzip")], text_of(4000))
    origin.on["/noise"] = make_response(200, [("Content-Type", "image/png")], noise)
    origin.on["/random"] = make_response(200, [("Content-Type", "text/plain")], noise)
    sidecar = t.sidecar(origin, QUICK)
    Load(t, sidecar, lambda client, dice: client.request(dice.choice(["/gzip", "/noise", "/random"])), pause=0.003)
    wait_for(lambda: sidecar.metric("promptops_requests_total") > 800, "some windows", timeout=60)
    equal(advice(sidecar, "compression"), None, "advice")
    equal(advice(sidecar, "network-dns"), None, "advice about an address")


def name_server(address, delay):
    """Answers every question about any name after a while: 127.0.0.1, and no AAAA."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((address, 53))

    def answer(data, peer):
        time.sleep(delay)  # how slow the name server is, is what is planted
        end = data.index(b"\0", 12) + 5
        kind = struct.unpack("!H", data[end - 4:end - 2])[0]
        found = b"\xc0\x0c\0\x01\0\x01\0\0\0\x01\0\x04\x7f\0\0\x01" if kind == 1 else b""
        server.sendto(data[:2] + b"\x81\x80\0\x01" + struct.pack("!H", 1 if found else 0) + b"\0\0\0\0" + data[12:end] + found, peer)

    def run():
        while True:
            data, peer = server.recvfrom(512)
            threading.Thread(target=answer, args=(data, peer), daemon=True).start()
    threading.Thread(target=run, daemon=True).start()


@slow(90)
def test_a_slow_name_server_is_found(t):
    in_new_namespace("net", "mnt")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    path = os.path.join(t.directory, "resolv.conf")
    with open(path, "w") as out:
        out.write("nameserver 127.0.0.1\n")
    subprocess.run(["mount", "--bind", path, "/etc/resolv.conf"], check=True)
    name_server("127.0.0.1", 0.3)
    origin = t.origin()
    sidecar = t.sidecar("http://api.slow.test:%d" % origin.port, {**QUICK, "upstream.dns_refresh": "1s"})
    with sidecar.client() as client:  # comes before the name is known
        equal(client.request("/first").status, 200, "status")
    first = [r for r in sidecar.admin("/api/v1/requests")[2]["requests"] if r["path"] == "/first"][0]
    check("name" in first["explanation"] or first["phases"].get("dns", 0) == 0, first["explanation"])
    Load(t, sidecar, lambda client, dice: client.request("/"), pause=0.005)
    r = proposed(sidecar, "network-dns")
    near(r["current_value"], 0.3, 1.5, "seconds of a lookup")
    wait_for(lambda: (advice(sidecar, "network-dns") or r)["estimate"]["improvement"] >= 0.6, "a share of the time to the first connection, once windows that knew too little are outweighed", timeout=35)
    near(advice(sidecar, "network-dns")["estimate"]["improvement"], 0.6, 1, "share")
    near(sidecar.metric("promptops_upstream_connect_seconds_sum", phase="dns") / sidecar.metric("promptops_upstream_connect_seconds_count", phase="dns"), 0.3, 1.5, "the metric")
