"""What a hostile peer tries that the tables of test_10 to test_15 do not have: desynchronised connections, protocols
that are switched to without being asked for, ends and resets in every place."""
import os
import signal

from harness import *

OK = b"HTTP/1.1 200 OK\r\n"
EVIL = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL"
SCRATCH = 64 * 1024    # what the sidecar reads at once: proxy/block.h


def test_9112_9_3_bytes_right_behind_a_full_read(t):
    """The answer ends exactly where a read does, and more lies behind: the next request, which is there already, is
    not sent on that connection."""
    origin = t.origin()
    sidecar = t.sidecar(origin, {"pool.max_size": 1})
    for name, total in [("a read's length", SCRATCH), ("two", 2 * SCRATCH), ("a byte less", SCRATCH - 1), ("a byte more", SCRATCH + 1)]:
        with t.case(name):
            head = OK + b"Content-Length: %08d\r\n\r\n"
            body = b"x" * (total - len(head % 0))
            origin.on["/full"] = lambda conn, request, d=head % len(body) + body + EVIL: (conn.send(d), conn.gone(), False)[2]
            with sidecar.client() as client:
                client.send(make_request("/full") + make_request("/next") * 3)
                equal(client.response().body, body, "the answer")
                equal([client.response().body for _ in range(3)], [b"ok"] * 3, "the next answers")


def stopped(pid):
    """Do all its threads stand still?"""
    def state(task):
        with open("/proc/%d/task/%s/stat" % (pid, task)) as stat:
            return stat.read().rpartition(")")[2].split()[0]
    return all(state(task) == "T" for task in os.listdir("/proc/%d/task" % pid))


def test_9112_9_3_bytes_that_came_in_the_same_turn_as_the_next_request(t):
    """The loop finds both ready at once, and looks at the client first: what the idle connection has to say was said
    before it was asked."""
    origin = t.origin()
    sidecar = t.sidecar(origin)
    for number in range(20):
        with sidecar.client() as client:
            equal(client.request("/a").body, b"ok", "answer")
            connection = origin.connections[origin.last().connection]
            os.kill(sidecar.pid, signal.SIGSTOP)
            wait_for(lambda: stopped(sidecar.pid), "the sidecar to stand still")
            client.send(make_request("/b"))
            connection.send(EVIL)
            os.kill(sidecar.pid, signal.SIGCONT)
            equal(client.response().body, b"ok", "the next answer, round %d" % number)
            check(origin.last().connection != connection.number, "the connection was used")


WEBSOCKET = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="), ("Sec-WebSocket-Version", "13")]


def test_9110_7_8_other_protocols_are_not_asked_for(t):
    """h2c in a tunnel would be a second, unchecked proxy (and others nothing that the API has)."""
    origin = t.origin()
    sidecar = t.sidecar(origin)
    for value in ("h2c", "H2C", "HTTP/2.0", "TLS/1.0", "h2c, websocket", "websocket, h2c", "foo", "HTTP/3", ""):
        with t.case(value):
            response = sidecar.request("/", fields=[("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", value), ("HTTP2-Settings", "AAMAAABkAAQAAP__")])
            equal(response.status, 200, "status")
            equal(origin.last().all("Upgrade"), ["websocket"] if "websocket" in value else [], "Upgrade at the origin")
            check(not origin.last().has("HTTP2-Settings"), "HTTP2-Settings at the origin")


def test_6455_4_1_a_handshake_is_a_get_without_a_body(t):
    """Anything else is a request like others: no tunnel, whatever it says, and no 101 for it."""
    origin = t.origin()
    sidecar = t.sidecar(origin)
    for method, fields, body in [("POST", [], None), ("POST", [], b"hello"), ("GET", [], b"hello"), ("GET", [("Transfer-Encoding", "chunked")], None),
                                 ("HEAD", [], None), ("OPTIONS", [], None), ("PUT", [], b"")]:
        for agrees in (False, True):
            with t.case("%s %r %r, %s" % (method, fields, body, "101" if agrees else "200")):
                origin.on["/ws"] = (lambda conn, request: (conn.send(SWITCH), conn.gone(), False)[2]) if agrees else origin.default
                with sidecar.client() as client:
                    client.send(make_request("/ws", method, WEBSOCKET + fields, body) + (chunked(b"hello") if fields else b""))
                    equal(client.response(method).status, 502 if agrees else 200, "status")
                check(not origin.last().has("Upgrade"), "Upgrade was forwarded")


SWITCH = (b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
          b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")


def test_9110_7_8_a_101_for_another_protocol(t):
    origin = t.origin()
    sidecar = t.sidecar(origin)
    rows = [b"Connection: Upgrade\r\n" + upgrade for upgrade in (b"Upgrade: h2c\r\n", b"Upgrade: foo\r\n", b"Upgrade: websocket, h2c\r\n", b"", b"Upgrade:\r\n",
                                                               b"Upgrade: websocket\r\nUpgrade: h2c\r\n", b"Upgrade: websocketx\r\n", b"Upgrade : websocket\r\n")]
    for lines in rows + [b"Upgrade: websocket\r\n", b"Upgrade: websocket\r\nConnection: close\r\n"]:
        with t.case(repr(lines)):
            origin.on["/ws"] = lambda conn, request, d=lines: (conn.send(b"HTTP/1.1 101 Switching Protocols\r\n" + d + b"\r\nraw"), conn.gone(), False)[2]
            with sidecar.client() as client:
                made_up(client.request("/ws", fields=WEBSOCKET), 502)
    with t.case("HTTP/1.0"):
        origin.on["/ws"] = lambda conn, request: (conn.send(SWITCH.replace(b"1.1", b"1.0", 1)), conn.gone(), False)[2]
        made_up(sidecar.request("/ws", fields=WEBSOCKET), 502)
