"""The admin port's guards, live configuration, audit log, TLS and limits (INTERFACE 4)."""
import http.client
import json
import os
import signal
import socket
import ssl
import struct
import subprocess
import time

from harness import *
from lib.sidecar import BINARY
from test_43_tls import *
from test_30_cache import PLAIN, Counted, cc


def options(sidecar, key):
    return sidecar.admin("/api/v1/config")[2]["options"][key]


def patch(sidecar, body, query=""):
    return sidecar.admin("/api/v1/config" + query, "PATCH", body)


def test_a_change_says_what_it_changed_and_is_taken_back(t):
    sidecar = t.sidecar(t.origin(), {"retry.max_attempts": 2})
    status, _, told = patch(sidecar, {"retry": {"max_attempts": 4, "budget": 0.3}, "cache.targets": ["X", "Y"], "pool.acquire_timeout": "3s"})
    equal(status, 200, "status")
    changed = {c["key"]: c for c in told["changed"]}
    equal((changed["retry.max_attempts"]["from"], changed["retry.max_attempts"]["to"]), (2, 4), "from and to")
    check(sidecar.config_path in changed["retry.max_attempts"]["from_origin"], changed["retry.max_attempts"]["from_origin"])
    equal(changed["retry.max_attempts"]["origin"], "admin", "origin")
    equal(changed["cache.targets"]["to"], ["X", "Y"], "a list")
    equal(changed["retry.budget"]["from_origin"], "default", "where the other came from")
    told = patch(sidecar, {"retry.max_attempts": None})[2]["changed"][0]
    equal((told["from"], told["to"], told["from_origin"]), (4, 2, "admin"), "taken back")
    equal(options(sidecar, "retry.max_attempts")["value"], 2, "in force")
    equal(options(sidecar, "retry.budget")["value"], 0.3, "the other change stays")
    changed = {c["key"]: c["to"] for c in patch(sidecar, {"pool.min_size": 50})[2]["changed"]}
    equal(changed, {"pool.min_size": 50, "pool.max_size": 50}, "what follows from a change is told, too")


def test_changes_are_kept_over_a_reload(t):
    sidecar = t.sidecar(t.origin(), {"retry.max_attempts": 2})
    equal(patch(sidecar, {"retry.max_attempts": 5, "server_timing": True})[0], 200, "status")
    sidecar.write_config({"retry.max_attempts": 3, "retry.budget": 0.25})
    os.kill(sidecar.pid, signal.SIGHUP)
    wait_for(lambda: options(sidecar, "retry.budget")["value"] == 0.25, "the reload")
    equal((options(sidecar, "retry.max_attempts")["value"], options(sidecar, "retry.max_attempts")["origin"]), (5, "admin"), "the change")
    check(sidecar.request("/").has("Server-Timing"), "the other change is in force")
    equal(patch(sidecar, {"retry.max_attempts": None, "server_timing": None})[0], 200, "taken back")
    equal(options(sidecar, "retry.max_attempts")["value"], 3, "what the new file says")
    wait_for(lambda: not sidecar.request("/").has("Server-Timing"), "Server-Timing to go")


def test_the_log_and_the_resolver_change_live(t):
    sidecar = t.sidecar(t.origin())
    path = os.path.join(t.directory, "moved.log")
    equal(patch(sidecar, {"log.file": path, "log.format": "text", "upstream.dns_refresh": "7s"})[0], 200, "status")
    equal(patch(sidecar, {"log.level": "debug"})[0], 200, "another change")
    os.kill(sidecar.pid, signal.SIGHUP)
    wait_for(lambda: "config: reloaded\n" in open(path).read(), "a plain line in the new file")
    equal(patch(sidecar, {"log.file": t.directory})[0] in (400, 409), True, "a directory is refused")
    os.kill(sidecar.pid, signal.SIGHUP)
    wait_for(lambda: open(path).read().count("config: reloaded\n") == 2, "the old file stays")


def test_a_refused_change_changes_nothing(t):
    sidecar = t.sidecar(t.origin())
    before = sidecar.admin("/api/v1/config")[2]
    for name, body, word in [("unknown", {"retry.max_atempts": 3}, "max_attempts"), ("good and bad", {"server_timing": True, "retry.max_attempts": 0}, "retry.max_attempts"),
                             ("restart", {"workers": 3}, "restart"), ("combination", {"pool.min_size": 50, "pool.max_size": 10}, "pool"), ("object", {"retry.budget": {"a": 1}}, "retry.budget"),
                             ("nested list", {"cache.targets": [["a"]]}, "cache.targets"), ("twice", {"retry": {"budget": 0.2}, "retry.budget": 0.3}, "twice"),
                             ("list of mappings", {"routes": [{"a": 1}]}, "routes"), ("NUL", {"performance.service_name": "a\0b"}, "JSON"), ("a file", {"auth.api_key_file": "/nonexistent"}, "auth")]:
        with t.case(name):
            status, _, told = patch(sidecar, body)
            equal(status, 400, "status")
            check(word in told["error"], told["error"])
    equal(patch(sidecar, {"server_timing": True}, "?dry_run=true")[2]["in_force"], False, "in_force of a dry run")
    check(sidecar.admin("/api/v1/config")[2] == before, "the configuration has changed")


def test_the_audit_log_tells_who_what_from_to(t):
    audit, token = os.path.join(t.directory, "audit"), os.path.join(t.directory, "token")
    with open(token, "w") as out:
        out.write("s3cret")
    sidecar = t.sidecar(t.origin(), {"admin.audit_log": audit, "admin.token_file": token})
    bearer = {"Authorization": "Bearer s3cret"}
    equal(sidecar.admin("/api/v1/config", "PATCH", {"retry.budget": 0.4}, bearer)[0], 200, "status")
    equal(sidecar.admin("/api/v1/config", "PATCH", {"retry.budget": 7}, bearer)[0], 400, "status of a bad one")
    with open(audit) as lines:
        entries = [json.loads(line) for line in lines]
    equal([(e["who"], e["peer"], e["status"]) for e in entries], [("token", "127.0.0.1", 200), ("token", "127.0.0.1", 400)], "entries")
    change = entries[0]["changes"][0]
    equal((change["key"], change["from"], change["to"], change["origin"]), ("retry.budget", 0.1, 0.4, "admin"), "the change")
    check("s3cret" not in json.dumps(entries), "the token is in the audit log")


def test_the_token_is_read_again_and_a_foreign_host_is_refused(t):
    token = os.path.join(t.directory, "token")
    with open(token, "w") as out:
        out.write("first")
    sidecar = t.sidecar(t.origin(), {"admin.token_file": token})
    with open(token + ".new", "w") as out:
        out.write("second-one")
    os.rename(token + ".new", token)
    equal(sidecar.admin("/api/v1/pool", fields={"Authorization": "Bearer second-one"})[0], 200, "the new one")
    equal(sidecar.admin("/api/v1/pool", fields={"Authorization": "Bearer first"})[0], 401, "the old one")
    plain = t.sidecar(t.origin())
    for host, status in (("evil.example", 421), ("localhost", 200), ("127.0.0.1:1", 200), ("[::1]", 200), ("localhost.evil.example", 421)):
        equal(plain.admin("/api/v1/pool", fields={"Host": host})[0], status, host)


def test_a_public_address_without_a_token_is_refused(t):
    for words in ([], ["--check"]):
        with t.case(" ".join(words) or "start"):
            command = [BINARY, "--upstream", "http://127.0.0.1:9", "--listen", "127.0.0.1:0", "--admin", "0.0.0.0:0", *words]
            run = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
            equal(run.returncode, 2, "exit code")
            check("admin.token_file" in run.stderr + run.stdout, run.stderr)


def test_wrong_tokens_are_slowed_and_the_right_one_is_not(t):
    token = os.path.join(t.directory, "token")
    with open(token, "w") as out:
        out.write("right")
    sidecar = t.sidecar(t.origin(), {"admin.token_file": token})
    statuses = [sidecar.admin("/api/v1/pool", fields={"Authorization": "Bearer wrong%d" % n})[0] for n in range(60)]
    check(statuses[0] == 401 and 429 in statuses, statuses)
    equal(sidecar.admin("/api/v1/pool", fields={"Authorization": "Bearer right"})[0], 200, "the right one")
    equal(sidecar.admin("/health/live")[0], 200, "health")


def test_requests_are_limited(t):
    sidecar = t.sidecar(t.origin())
    connection = http.client.HTTPConnection(*sidecar.admin_address, timeout=PATIENCE)
    for n in range(5000):
        connection.request("GET", "/api/v1/circuit")
        response = connection.getresponse()
        response.read()
        if response.status == 429:
            check(int(response.getheader("Retry-After")) >= 1, "Retry-After")
            break
    else:
        raise Failed("5000 requests were answered")
    connection.close()
    equal(sidecar.admin("/health/ready")[0], 200, "health")


def test_those_who_sit_there_keep_nobody_out(t):
    sidecar = t.sidecar(t.origin())
    held = []
    for n in range(300):
        client = RawClient(sidecar.admin_address)
        client.send_if_open(b"GET /api/v1/config HTTP/1.1\r\nHo")
        held.append(client)
    equal(sidecar.admin("/health/live")[0], 200, "live")
    with open("/proc/%d/status" % sidecar.pid) as status:
        check(status.read(), "status")
    wait_for(lambda: len(os.listdir("/proc/%d/fd" % sidecar.pid)) < 200, "most of them to be cut")
    for client in held:
        client.close()


def test_the_admin_port_over_tls(t):
    certificate, key = Authority(t).issue("admin", "IP:127.0.0.1")
    sidecar = t.sidecar(t.origin(), {"admin.tls.certificate_file": certificate, "admin.tls.key_file": key})
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for _ in range(2):
        connection = http.client.HTTPSConnection(*sidecar.admin_address, timeout=PATIENCE, context=context)
        for path in ("/health/ready", "/api/v1/config", "/metrics"):
            connection.request("GET", path)
            response = connection.getresponse()
            equal(response.status, 200, path)
            check(len(response.read()) > 20, "content of " + path)
        connection.close()
    plain = RawClient(sidecar.admin_address)
    plain.send_if_open(b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n")
    plain.close()


def test_entries_are_listed_and_credentials_are_not(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, PLAIN)
    for n, path in enumerate(("/a", "/b", "/c?api_key=topsecret")):
        Counted(origin, path.split("?")[0], cc("max-age=%d" % (60 * (n + 1))))
        for _ in range(n + 2):
            sidecar.request(path, fields=[("Authorization", "Bearer hidden-key")])
    status, _, told = sidecar.admin("/api/v1/cache/entries?sort=hits&limit=2")
    equal((status, told["total"], len(told["entries"])), (200, 3, 2), "status, total, entries")
    check(told["entries"][0]["hits"] >= told["entries"][1]["hits"] and told["entries"][0]["uri"].startswith("/c"), told)
    check("topsecret" not in json.dumps(told) and "hidden-key" not in json.dumps(told), told)
    uris = [e["uri"] for e in sidecar.admin("/api/v1/cache/entries?sort=uri")[2]["entries"]]
    equal(uris, sorted(uris), "by uri")
    equal(sidecar.admin("/api/v1/cache/entries?sort=color")[0], 400, "an unknown order")


def test_the_costliest_entries_are_those_that_took_longest_to_fetch(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, PLAIN)
    fresh = make_response(200, [("Cache-Control", "max-age=60")], b"x")

    def late(conn, request):
        time.sleep(0.1)                        # what fetching it costs
        return conn.send(fresh)
    origin.on.update({"/quick": fresh, "/late": late})
    for path in ("/quick", "/late", "/quick", "/quick"):
        sidecar.request(path)
    first, second = sidecar.admin("/api/v1/cache/entries?sort=cost")[2]["entries"]
    equal((first["uri"], second["uri"]), ("/late", "/quick"), "by cost")
    check(0.1 <= first["cost"] < 5 and second["cost"] < first["cost"], (first, second))


def unpack(data, at=0):
    """A MessagePack value and where it ends; what the port sends."""
    head = data[at]
    at += 1
    if head < 0x80 or head >= 0xe0:
        return (head if head < 0x80 else head - 256), at
    if head in (0xc0, 0xc2, 0xc3):
        return {0xc0: None, 0xc2: False, 0xc3: True}[head], at
    sized = {0xd9: (">B", "s"), 0xda: (">H", "s"), 0xdb: (">I", "s"), 0xdc: (">H", "a"), 0xdd: (">I", "a"), 0xde: (">H", "m"), 0xdf: (">I", "m")}
    numbers = {0xcb: ">d", 0xca: ">f", 0xcc: ">B", 0xcd: ">H", 0xce: ">I", 0xcf: ">Q", 0xd0: ">b", 0xd1: ">h", 0xd2: ">i", 0xd3: ">q"}
    if head in numbers:
        form = numbers[head]
        return struct.unpack_from(form, data, at)[0], at + struct.calcsize(form)
    if head in sized:
        form, kind = sized[head]
        count = struct.unpack_from(form, data, at)[0]
        at += struct.calcsize(form)
    else:
        kind = "m" if head < 0x90 else "a" if head < 0xa0 else "s"
        count = head & (0x1f if kind == "s" else 0x0f)
    if kind == "s":
        return data[at:at + count].decode(), at + count
    items = []
    for _ in range(count * (2 if kind == "m" else 1)):
        item, at = unpack(data, at)
        items.append(item)
    return (dict(zip(items[::2], items[1::2])) if kind == "m" else items), at


def test_msgpack_says_the_same(t):
    sidecar = t.sidecar(t.origin(), {"cache.enabled": True})
    for path in ("/api/v1", "/api/v1/config", "/api/v1/openapi.json", "/api/v1/circuit", "/api/v1/nothing", "/api/v1/cache/entries", "/health/ready"):
        with t.case(path):
            connection = http.client.HTTPConnection(*sidecar.admin_address, timeout=PATIENCE)
            connection.request("GET", path, headers={"Accept": "application/msgpack"})
            response = connection.getresponse()
            data = response.read()
            equal(response.getheader("Content-Type"), "application/msgpack", "Content-Type")
            told, end = unpack(data)
            equal(end, len(data), "one value")
            other = sidecar.admin(path)[2]
            if path == "/api/v1/circuit":
                for one in (told, other):
                    one["upstream"].pop("retry_budget")
                    for circuit in one.values():
                        circuit.pop("seconds_in_state")
            equal(told, other, "the value")
            connection.close()
