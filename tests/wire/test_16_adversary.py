"""What a hostile peer tries that the tables of test_10 to test_15 do not have: desynchronised connections, protocols
that are switched to without being asked for, ends and resets in every place."""
import json
import os
import re
import select
import signal
import threading
import time

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


def test_9112_9_6_a_half_close_in_the_same_turn_as_an_answer(t):
    """The loop finds both ready at once: the first request is answered, and the client has ended its side. Those that wait behind
    it, read already, are answered all the same."""
    release = threading.Event()

    def hold(conn, _):
        release.wait(PATIENCE)
        conn.reply(body=b"first")
        answered.set()
    answered = threading.Event()
    origin = t.origin()
    origin.on["/first"] = hold
    sidecar = t.sidecar(origin)
    for behind in (1, 40):
        for half_first in (False, True):
            with t.case("%d behind it, %s" % (behind, "the end first" if half_first else "the answer first")), sidecar.client() as client:
                before = origin.count()
                release.clear()
                answered.clear()
                client.send(make_request("/first") + make_request("/next") * behind)
                origin.wait_requests(before + 1)
                os.kill(sidecar.pid, signal.SIGSTOP)
                wait_for(lambda: stopped(sidecar.pid), "the sidecar to stand still")
                if half_first:
                    client.half_close()
                release.set()
                check(answered.wait(PATIENCE), "the answer")
                if not half_first:
                    client.half_close()
                os.kill(sidecar.pid, signal.SIGCONT)
                equal([client.response().body for _ in range(behind + 1)], [b"first"] + [b"ok"] * behind, "the answers")
                client.closed()


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


# ---- the same in every place ----------------------------------------------------------------------------------------

REFUSED = [
    (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400), (b"GET /\x80 HTTP/1.1\r\nHost: a\r\n\r\n", 400), (b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505),
    (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400), (b"GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n", 400), (b"GET / HTTP/1.1\nHost: a\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501), (b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", 405),
    (b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405), (b"GET / HTTP/1.1\r\nHost: a\r\nExpect: x\r\n\r\n", 417), (b"GET /" + b"t" * 20000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 2000 + b"\r\n", 431), (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 100000 + b"\r\n\r\n", 431),
    (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nx\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nT: a\r\n b\r\n\r\n", 400),
]


def test_9112_9_3_2_whatever_is_refused_behind_requests_that_were_not(t):
    """Those before are answered, in order; then the refusal and the end. Nothing of it, or behind it, is forwarded. In one piece, and cut
    anywhere."""
    origin = t.origin()
    sidecar = t.sidecar(origin)
    origin.on["/slow"] = lambda conn, request: (time.sleep(0.01), conn.reply(body=b"slow"))[1]   # so that what follows waits in the sidecar
    before_it = make_request("/slow") + make_request("/p", "POST", body=b"x" * 3000) + make_request("/slow")
    for data, status in REFUSED:
        for size in (None, 1000):
            with t.case("%r %d%s" % (data[:60], status, ", in pieces" if size else "")):
                before = origin.count()
                with sidecar.client() as client:
                    everything = before_it + data + make_request("/smuggled")
                    try:
                        client.pieces(everything, size) if size else client.send(everything)
                    except (BrokenPipeError, ConnectionResetError):
                        pass
                    equal([client.response().body for _ in range(3)], [b"slow", b"ok", b"slow"], "the answers before")
                    made_up(client.response(), status)
                    client.closed()
                equal([r.target for r in origin.requests[before:]], ["/slow", "/p", "/slow"], "requests at the origin")


def test_9112_9_6_a_refusal_on_a_unix_socket(t):
    origin = t.origin()
    path = os.path.join(t.directory, "s")
    sidecar = t.sidecar(origin, {"listen.address": "unix:" + path})
    for data, status in REFUSED:
        with t.case("%r %d" % (data[:60], status)):
            with RawClient(path) as client:
                client.send_if_open(data + make_request("/smuggled"))
                equal(client.response().status, status, "status")
                client.closed()
    equal(origin.count(), 0, "requests at the origin")


def test_9110_7_6_1_more_options_than_are_compared(t):
    """So many names in Connection that not all can be dropped: refused, on either side, and not forwarded with some of them."""
    origin = t.origin()
    sidecar = t.sidecar(origin)
    for count, status in [(32, 200), (33, 431)]:
        with t.case("request, %d" % count):
            names = ", ".join("x-%d" % n for n in range(count))
            equal(sidecar.request("/", fields=[("Connection", names), ("X-31", "secret")]).status, status, "status")
            check(not any(r.has("X-31") for r in origin.requests), "a field that Connection names was forwarded")
        with t.case("answer, %d" % count):
            origin.on["/o"] = make_response(200, [("Connection", ", ".join("x-%d" % n for n in range(count))), ("X-31", "secret")], b"ok")
            response = sidecar.request("/o")
            equal((response.status, response.has("X-31")), (200 if status == 200 else 502, False), "status")


# ---- answers ---------------------------------------------------------------------------------------------------------

def test_9110_15_statuses_outside_the_classes(t):
    """600 to 999 are no class, and taken for what they say: passed on, with their body, framed by us."""
    origin = t.origin()
    sidecar = t.sidecar(origin, {"retry.max_attempts": 2, "circuit_breaker.enable_circuit_breaker": True, "cache.enabled": True, "cache.default_ttl": 60})
    for status in (199, 200, 299, 600, 799, 999):
        with t.case(status):
            interim = make_response(status, [], b"", length=False) if status < 200 else b""
            origin.on["/s%d" % status] = interim + make_response(200 if status < 200 else status, [], b"body")
            response = sidecar.request("/s%d" % status)
            equal((response.status, response.body), (200 if status < 200 else status, b"body"), "answer")
    equal(sidecar.admin("/metrics")[0], 200, "metrics")


def test_9110_15_2_a_body_behind_an_interim_answer_is_no_answer(t):
    origin = t.origin()
    sidecar = t.sidecar(origin)
    final = OK + b"Content-Length: 2\r\n\r\nok"
    for name, data in [("103 with a body", b"HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\nhello" + final),
                       ("100 with chunks", b"HTTP/1.1 100 Continue\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n" + final),
                       ("an empty line between", b"HTTP/1.1 103 Early Hints\r\n\r\n\r\n" + final),
                       ("folded", b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n b\r\n\r\n" + final),
                       ("without an end", b"HTTP/1.1 103 Early Hints\r\n" + b"X: y\r\n" * 20000)]:
        with t.case(name):
            origin.on["/i"] = lambda conn, request, d=data: (conn.send(d), conn.gone(), False)[2]
            made_up(sidecar.request("/i"), 502)
            equal(sidecar.request("/next").body, b"ok", "the next answer")


def test_too_many_fields_in_an_answer(t):
    origin = t.origin()
    sidecar = t.sidecar(origin)
    for count, status in [(1000, 200), (1025, 502), (20000, 502)]:
        with t.case(count):
            origin.on["/f"] = lambda conn, request, n=count: (conn.send(OK + b"a:b\r\n" * (n - 1) + b"Content-Length: 2\r\n\r\nok"), True)[1]
            equal(sidecar.request("/f").status, status, "status")
            equal(sidecar.request("/next").body, b"ok", "the next answer")


def drip(conn, data, pause=0.02):
    """A byte now and then, until the sidecar has had enough. The pace of the origin is what is tested."""
    for byte in data:
        conn.send(bytes([byte]))
        if select.select([conn.sock], [], [], pause)[0]:
            return
    conn.gone()


def test_9112_9_5_an_answer_that_drips(t):
    """Its head counts as a whole against response_timeout, interim answers too; its body may take any time as long as it moves."""
    origin = t.origin()
    sidecar = t.sidecar(origin, {"upstream.response_timeout": "300ms", "upstream.stream_idle_timeout": "2s"})
    for name, data in [("status line", b"HTTP/1.1 200 " + b"O" * 1000), ("field", OK + b"X: " + b"x" * 1000),
                       ("interim answers", b"HTTP/1.1 103 E\r\n\r\n" * 15)]:
        with t.case(name):
            origin.on["/d"] = lambda conn, request, d=data: (drip(conn, d), False)[1]
            made_up(sidecar.request("/d"), 504)
    with t.case("body"):
        origin.on["/d"] = lambda conn, request: (conn.send(OK + b"Content-Length: 30\r\n\r\n"), drip(conn, b"x" * 30), False)[2]
        equal(sidecar.request("/d").body, b"x" * 30, "body")


def test_9112_9_5_a_request_that_never_ends_is_answered_by_who_is_tired_of_it(t):
    """The origin refuses while the body still comes, and closes or resets: the client sees that answer, once, and an end."""
    origin = t.origin()

    def serve(conn):
        request = conn.request(body=False)
        conn.origin.record(request)
        conn.reply(413, body=b"too much")
        {"close": conn.close, "half": conn.half_close, "reset": conn.reset, "keep": lambda: None}[request.target[1:]]()
        if conn.open:
            conn.gone()
    origin.script = serve
    sidecar = t.sidecar(origin)
    for how in ("close", "half", "keep", "reset"):
        for fields in ([("Content-Length", str(64 << 20))], [("Transfer-Encoding", "chunked")]):
            with t.case("%s, %s" % (how, fields[0][0])):
                with sidecar.client() as client:
                    client.send(make_request("/" + how, "POST", fields))
                    piece = b"x" * 16384
                    try:
                        while not select.select([client.sock], [], [], 0)[0]:
                            client.send(b"%x\r\n%s\r\n" % (len(piece), piece) if len(fields[0][1]) == 7 else piece)
                    except (BrokenPipeError, ConnectionResetError):
                        pass
                    try:
                        response = client.response("POST")
                        check((response.status, response.body) == (413, b"too much") or how == "reset" and response.status == 502, repr(response))
                    except Incomplete as cut:      # the reset came before all of it was read
                        check(how == "reset" and cut.message and cut.message.status == 413, repr(cut))


# ---- the log -----------------------------------------------------------------------------------------------------------

def test_the_access_log_is_json_whatever_comes(t):
    sidecar = t.sidecar(t.origin(), {"log.access": True})
    rows = [("/a\"b\\c<>`{|}~", []), ("/%00%0a\"", []), ("/x", [("User-Agent", "\"\\\t\x80\xff\u00e9"), ("Referer", "\xff\"\\")]), ("/y", [("X-Request-Id", "a\"b\\c")]),
            ("/z", [("traceparent", "\"\\")])]
    for target, fields in rows:
        equal(sidecar.request(target, fields=fields).status, 200, "status")
    sidecar.raw(b"GET /bad\"\\ HTTP/9.9\r\n\r\n")
    wait_for(lambda: len(access_lines(sidecar)) >= len(rows) + 1, "the lines of the access log")


def test_the_access_log_says_who_asked(t):
    sidecar = t.sidecar(t.origin(), {"log.access": True})
    trace = "0af7651916cd43dd8448eb211c80319c"
    conn = t.client(sidecar)
    equal(conn.request("/a", fields=[("User-Agent", "tester/1"), ("traceparent", "00-%s-b7ad6b7169203331-01" % trace)]).status, 200, "status")
    equal(conn.request("/b").status, 200, "status")
    wait_for(lambda: len(access_lines(sidecar)) >= 2, "the lines of the access log")
    first, second = access_lines(sidecar)
    host, port = conn.sock.getsockname()[:2]
    equal((first["client"], first["user_agent"], first["trace_id"]), ("%s:%d" % (host, port), "tester/1", trace), "of the first")
    equal((second["client"], second.get("user_agent")), (first["client"], None), "of the second")
    check(re.fullmatch("[0-9a-f]{32}", second["trace_id"]) and second["trace_id"] != trace, second)


def access_lines(sidecar):
    return [entry for entry in map(json.loads, sidecar.log + sidecar.out) if "status" in entry]
