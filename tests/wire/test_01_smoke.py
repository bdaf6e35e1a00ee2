"""The shortest ways through: if these fail, look at nothing else first."""
from harness import *


def test_starts_and_stops(t):
    sidecar = t.sidecar(t.origin())
    check(sidecar.alive(), "it lives")


def test_get(t):
    origin = t.origin()
    sidecar = t.sidecar(origin)
    response = sidecar.request("/hello?a=b&c=%20")
    equal(response.status, 200, "status")
    equal(response.body, b"ok", "body")
    equal(origin.last().target, "/hello?a=b&c=%20", "target as sent")
    equal(origin.last().method, "GET", "method")


def test_post(t):
    origin = t.origin()
    origin.on["/echo"] = lambda conn, request: conn.reply(201, [("X-Kind", "echo")], request.body)
    sidecar = t.sidecar(origin)
    response = sidecar.request("/echo", "POST", [("Content-Type", "text/plain")], b"some bytes")
    equal(response.status, 201, "status")
    equal(response.get("X-Kind"), "echo", "field of the origin")
    equal(response.body, b"some bytes", "body")


def test_several_on_one_connection(t):
    origin = t.origin()
    sidecar = t.sidecar(origin)
    with sidecar.client() as client:
        for number in range(5):
            equal(client.request("/%d" % number).status, 200, "status")
    equal([r.target for r in origin.requests], ["/0", "/1", "/2", "/3", "/4"], "targets")
    equal(len(origin.connections), 1, "upstream connections")


def test_connection_refused_is_502(t):
    origin = t.origin()
    origin.stop_listening()
    sidecar = t.sidecar(origin.url)
    made_up(sidecar.request("/"), 502)
