"""Client connections (RFC 9112 9; RFC 9110 7): persistence, pipelining, timers, limits, and clients that leave."""
import os
import resource
import socket
import threading
import time

from harness import *


def test_9112_9_3_persistence(t):
    origin = t.origin()
    sidecar = t.sidecar(origin)
    rows = [("1.1", [], True), ("1.1", [("Connection", "keep-alive")], True), ("1.1", [("Connection", "close")], False),
            ("1.1", [("Connection", "CLOSE")], False), ("1.1", [("Connection", "foo, close")], False), ("1.1", [("Connection", "close, keep-alive")], False),
            ("1.1", [("Connection", "foo"), ("Connection", "close")], False), ("1.1", [("Connection", "closed")], True),
            ("1.0", [], False), ("1.0", [("Connection", "keep-alive")], True), ("1.0", [("Connection", "Keep-Alive, foo")], True),
            ("1.0", [("Connection", "close, keep-alive")], False), ("1.2", [], True)]
    for version, fields, lives in rows:
        with t.case("%s %r" % (version, [v for _, v in fields])):
            with sidecar.client() as client:
                response = client.request("/", fields=fields, version=version)
                equal((response.status, response.body), (200, b"ok"), "answer")
                if lives:
                    check("close" not in response.members("Connection"), "Connection: close")
                    check(version != "1.0" or "keep-alive" in response.members("Connection"), "no Connection: keep-alive to HTTP/1.0")
                    equal(client.request("/again").body, b"ok", "the next answer")
                else:
                    check("close" in response.members("Connection") or version == "1.0", "no Connection: close")
                    client.closed()


def test_9112_9_3_the_origins_close_is_not_the_clients(t):
    origin = t.origin(lambda conn: (conn.request(), conn.reply(fields=[("Connection", "close")]), conn.close()))
    sidecar = t.sidecar(origin)
    with sidecar.client() as client:
        for _ in range(4):
            equal(client.request("/").body, b"ok", "answer")
    equal(len(origin.connections), 4, "upstream connections")


def test_9112_9_3_an_http_1_0_origin(t):
    """Without keep-alive its connection is not used again, with it it is."""
    origin = t.origin()
    sidecar = t.sidecar(origin)
    origin.default = b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok"
    for _ in range(3):
        equal(sidecar.request("/").body, b"ok", "answer")
    equal(len(origin.connections), 1, "upstream connections with keep-alive")
    origin.default = b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"
    for _ in range(3):
        equal(sidecar.request("/").body, b"ok", "answer")
    equal(len(origin.connections), 3, "upstream connections")


def test_9112_9_3_2_pipelining(t):
    """Answers in order, bodies and all, whatever the origin's pace."""
    origin = t.origin()
    origin.on["/slow"] = lambda conn, request: (time.sleep(0.05), conn.reply(body=b"slow"))[1]
    for number in range(10):
        origin.on["/%d" % number] = make_response(200, [], b"answer %d" % number)
    origin.on["/chunked"] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    origin.on["/empty"] = b"HTTP/1.1 204 No Content\r\n\r\n"
    origin.on["/echo"] = lambda conn, request: conn.reply(body=request.body)
    sidecar = t.sidecar(origin)
    sent = [("/0", "GET", None), ("/slow", "GET", None), ("/echo", "POST", b"first"), ("/1", "HEAD", None), ("/empty", "GET", None), ("/chunked", "GET", None),
            ("/echo", "POST", b""), ("/2", "GET", None), ("/slow", "GET", None), ("/3", "GET", b"unused body"), ("/echo", "PUT", b"\r\n\r\nGET / HTTP/1.1\r\n\r\n")]
    wanted = [b"answer 0", b"slow", b"first", b"", b"", b"abc", b"", b"answer 2", b"slow", b"answer 3", b"\r\n\r\nGET / HTTP/1.1\r\n\r\n"]
    data = b"".join(make_request(target, method, (), body) for target, method, body in sent)
    for name, send in [("in one piece", lambda c: c.send(data)), ("byte by byte", lambda c: c.pieces(data)), ("in pieces of 7", lambda c: c.pieces(data, 7))]:
        with t.case(name):
            before = origin.count()
            with sidecar.client() as client:
                send(client)
                got = [client.response(method).body for _, method, _ in sent]
                equal(got, wanted, "bodies in order")
                equal([r.target for r in origin.requests[before:]], [target for target, _, _ in sent], "order at the origin")
    with t.case("the last says close"):
        with sidecar.client() as client:
            client.send(make_request("/0") + make_request("/1", fields=[("Connection", "close")]) + make_request("/2"))
            equal([client.response().body, client.response().body], [b"answer 0", b"answer 1"], "bodies")
            client.closed()
    with t.case("an error ends it"):
        before = origin.count()
        with sidecar.client() as client:
            client.send(make_request("/0") + b"GET / HTTP/1.1\r\n\r\n" + make_request("/1"))
            equal([client.response().status, client.response().status], [200, 400], "statuses")
            client.closed()
        equal(origin.count() - before, 1, "requests at the origin")


def test_9112_9_3_2_deep_pipelining(t):
    origin = t.origin()
    sidecar = t.sidecar(origin)
    count = 500
    with sidecar.client() as client:
        sender = t.thread(client.sock.sendall, b"".join(make_request("/%d" % i) for i in range(count)))
        for _ in range(count):
            equal(client.response().body, b"ok", "answer")
        sender.result()
    equal([r.target for r in origin.requests], ["/%d" % i for i in range(count)], "order at the origin")


def test_9112_6_1_an_http_1_0_client_gets_no_chunks(t):
    origin = t.origin()
    sidecar = t.sidecar(origin)
    origin.on["/c"] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    for fields in ([], [("Connection", "keep-alive")]):
        with t.case(repr(fields)):
            with sidecar.client() as client:
                response = client.request("/c", fields=fields, version="1.0")
                equal(response.body, b"abcde", "body")
                check(response.framing in ("close", "length"), "framing %s" % response.framing)
                if response.framing == "close":
                    check("keep-alive" not in response.members("Connection"), "keep-alive on an answer without a length")
    with t.case("a length stays a length"):
        equal(sidecar.request("/", version="1.0").framing, "length", "framing")


def test_9112_9_5_slow_head_is_408(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, {"listen.header_timeout": "300ms", "listen.idle_timeout": "20s"})
    for name, data in [("half a line", b"GET / HT"), ("half a head", b"GET / HTTP/1.1\r\nHost: a\r\n"), ("one byte", b"G")]:
        with t.case(name):
            with sidecar.client() as client:
                client.send(data)
                made_up(client.response(timeout=5), 408)
                client.closed()
    with t.case("bytes that drip do not help"):
        with sidecar.client() as client:
            stop = threading.Event()
            dripping = t.thread(drip, client, b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 2000, stop)
            started = time.monotonic()
            equal(client.response(timeout=5).status, 408, "status")
            check(time.monotonic() - started < 4, "it took %.1f s" % (time.monotonic() - started))
            stop.set()
            dripping.result()
    with t.case("the second request too"):
        with sidecar.client() as client:
            equal(client.request("/").status, 200, "status")
            client.send(b"GET / HTTP/1.1\r\nHo")
            equal(client.response(timeout=5).status, 408, "status")
    equal(origin.count(), 1, "requests at the origin")


def drip(client, data, stop):
    for byte in data:
        if stop.wait(0.02):
            return
        try:
            client.sock.send(bytes([byte]))
        except OSError:
            return


def test_9112_9_5_idle_connections_are_closed(t):
    sidecar = t.sidecar(t.origin(), {"listen.idle_timeout": "300ms", "listen.header_timeout": "300ms"})
    with t.case("between requests, without a word"):
        with sidecar.client() as client:
            equal(client.request("/").status, 200, "status")
            started = time.monotonic()
            equal(client.closed(5), "eof", "end")
            near(time.monotonic() - started, 0.2, 4, "seconds until the close")
    with t.case("before the first request"):
        with sidecar.client() as client:
            data = client.reader.rest(time.monotonic() + 5)
            check(data == b"" or data.startswith(b"HTTP/1.1 408"), "bytes %r" % data[:100])


def test_9112_9_5_slow_body(t):
    """A body that stands still ends in 408 or a close; its upstream request is cut, not ended."""
    origin = t.origin()
    sidecar = t.sidecar(origin, {"listen.idle_timeout": "300ms", "retry.max_buffered_body": 0})
    for name, head, part in [("length", ("Content-Length", "10"), b"hello"), ("chunked", ("Transfer-Encoding", "chunked"), b"5\r\nhello\r\n"),
                             ("no byte", ("Content-Length", "10"), b"")]:
        with t.case(name):
            with sidecar.client() as client:
                client.send(make_request("/", "POST", [head]) + part)
                try:
                    equal(client.response("POST", 5).status, 408, "status")
                except Gone:
                    pass
                client.closed()
            wait_for(lambda: not origin.alive(), "the upstream connection to be cut")
    equal(origin.count(), 0, "whole requests at the origin")


def test_9112_9_5_a_body_that_moves_is_not_cut(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, {"listen.idle_timeout": "500ms", "listen.header_timeout": "500ms"})
    with sidecar.client() as client:
        client.send(make_request("/", "POST", [("Content-Length", "10")]))
        for _ in range(10):
            client.send(b"x")
            time.sleep(0.1)             # the pace of the client is what is tested
        equal(client.response("POST").status, 200, "status")
    equal(origin.last().body, b"x" * 10, "body at the origin")


def test_9112_9_6_half_closed_clients_are_answered(t):
    origin = t.origin()
    sidecar = t.sidecar(origin)
    for name, data, count in [("one request", make_request("/"), 1), ("three", make_request("/") * 3, 3), ("a body", make_request("/", "POST", body=b"x" * 100000), 1)]:
        with t.case(name):
            with sidecar.client() as client:
                client.send(data).half_close()
                for _ in range(count):
                    equal(client.response().body, b"ok", "answer")
                client.closed()


def test_9112_9_6_half_a_request_and_a_half_close(t):
    origin = t.origin()
    sidecar = t.sidecar(origin)
    for data in (b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: a\r\n", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab"):
        with t.case(repr(data[-12:])):
            with sidecar.client() as client:
                client.send(data).half_close()
                left = client.reader.rest()
                check(left == b"" or left.startswith(b"HTTP/1.1 400") or left.startswith(b"HTTP/1.1 408"), "answer %r" % left[:60])
    equal(origin.count(), 0, "whole requests at the origin")


def test_a_client_that_leaves_cancels_its_upstream_request(t):
    """Before the answer, and in the middle of it; the upstream connection is not used again."""
    origin = t.origin()
    origin.on["/hold"] = lambda conn, request: (conn.gone(), False)[1]
    origin.on["/begun"] = lambda conn, request: (conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabc"), conn.gone(), False)[2]
    origin.on["/stream"] = lambda conn, request: pour(conn)
    sidecar = t.sidecar(origin)
    for path in ("/hold", "/begun", "/stream"):
        for name, leave in [("close", lambda c: c.close()), ("reset", lambda c: c.reset())]:
            with t.case("%s, %s" % (path[1:], name)):
                client = t.client(sidecar)
                client.send(make_request(path))
                origin.wait_requests(1, path)
                if path != "/hold":
                    equal(client.head().status, 200, "status")
                connection = origin.connections[[r for r in origin.requests if r.target == path][-1].connection]
                leave(client)
                wait_for(lambda: connection.reader.ended or not connection.open, "the upstream connection to be closed")
                equal(sidecar.request("/next").body, b"ok", "the next answer")
                check(origin.last().connection != connection.number, "the connection was used again")


def pour(conn):
    conn.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        conn.send(b"400\r\n" + b"x" * 1024 + b"\r\n")


def test_lingering_close(t):
    """A client that is still sending sees the error answer, not a reset."""
    origin = t.origin()
    sidecar = t.sidecar(origin)
    body = b"x" * (2 << 20)
    rows = [("no Host", b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body), 400),
            ("bad expectation", b"POST / HTTP/1.1\r\nHost: a\r\nExpect: x\r\nContent-Length: %d\r\n\r\n" % len(body), 417),
            ("head too large", b"POST / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * (1 << 20), 431),
            ("CONNECT", b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", 405)]
    for name, head, status in rows:
        with t.case(name):
            with sidecar.client() as client:
                sender = t.thread(client.send_if_open, head + body)
                equal(client.response("POST").status, status, "status")
                client.reader.rest()
                sender.result()
    equal(origin.count(), 0, "requests at the origin")


def test_listen_max_connections(t):
    """At the limit the next is refused in words; one that leaves makes room."""
    sidecar = t.sidecar(t.origin(), {"listen.max_connections": 5})
    clients = [t.client(sidecar) for _ in range(5)]
    for client in clients:
        equal(client.request("/").status, 200, "status within the limit")
    with sidecar.client() as client:
        client.send_if_open(make_request("/"))
        response = made_up(client.response(), 503)
        check(response.has("Retry-After"), "no Retry-After")
        client.closed()
    clients[0].close()

    def served():
        with sidecar.client() as client:
            client.send_if_open(make_request("/"))
            return client.response().status == 200
    wait_for(served, "a place for another client")
    for client in clients[1:]:
        equal(client.request("/").status, 200, "status of those that stayed")


def cpu_seconds(pid):
    with open("/proc/%d/stat" % pid) as stat:
        row = stat.read().rpartition(")")[2].split()
    return (int(row[11]) + int(row[12])) / os.sysconf("SC_CLK_TCK")


def test_emfile_is_survived(t):
    """Out of descriptors: those that are served stay so, no spinning, and all is well once some are free."""
    origin = t.origin()
    sidecar = t.sidecar(origin, files=48)
    clients = []
    for _ in range(100):
        client = t.client(sidecar, timeout=PATIENCE)
        client.send(make_request("/"))
        clients.append(client)
    first = clients[0].response()
    check(first.status in (200, 502, 503), "status %d" % first.status)
    before, wall = cpu_seconds(sidecar.pid), time.monotonic()
    time.sleep(0.5)                     # the span over which processor time is measured
    used = (cpu_seconds(sidecar.pid) - before) / (time.monotonic() - wall)
    check(used < 0.5, "%.0f %% of a processor while nothing can be done" % (used * 100))
    check(sidecar.alive(), "it died")
    for client in clients:
        client.close()

    def serves():
        try:
            return sidecar.request("/").status == 200
        except (Gone, OSError):
            return False
    wait_for(serves, "requests to be served again")


@slow(60)
def test_a_thousand_idle_connections(t):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 3000:
        raise Skip("only %d descriptors are allowed" % hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4000), hard))
    sidecar = t.sidecar(t.origin())
    before = sidecar.rss_kib()
    clients = [t.client(sidecar) for _ in range(1000)]
    for client in clients:
        client.send(make_request("/"))
        equal(client.response().status, 200, "status")
    if not sanitized():
        grown = sidecar.rss_kib() - before
        check(grown < 4096, "%d KiB for 1000 idle connections" % grown)
    equal(clients[500].request("/").status, 200, "status of one of them")
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_requests_on_many_connections_at_once(t):
    for workers in (1, 2):
        with t.case("%d workers" % workers):
            origin = t.origin()
            sidecar = t.sidecar(origin, {"workers": workers, "pool.max_size": 20})

            def many(number):
                with sidecar.client() as client:
                    return [client.request("/%d/%d" % (number, i)).status for i in range(20)]
            threads = [t.thread(many, number) for number in range(20)]
            equal({status for thread in threads for status in thread.result()}, {200}, "statuses")
            equal(len({r.target for r in origin.requests}), 400, "different requests at the origin")
            check(len(origin.connections) <= 20, "%d upstream connections with a limit of 20" % len(origin.connections))


def test_a_connection_that_only_connects_and_leaves(t):
    sidecar = t.sidecar(t.origin())
    for number in range(50):
        client = sidecar.client()
        client.reset() if number % 2 else client.close()
    equal(sidecar.request("/").status, 200, "status")


def test_tcp_nodelay_small_answers_do_not_wait(t):
    """Two small requests in a row on one connection are not held up by delayed acknowledgements."""
    sidecar = t.sidecar(t.origin())
    with sidecar.client() as client:
        client.request("/")
        started = time.monotonic()
        for _ in range(20):
            client.sock.sendall(b"GET / HTTP/1.1\r\n")
            client.sock.sendall(b"Host: a\r\n\r\n")
            client.response()
        took = time.monotonic() - started
    check(took < 0.6, "%.3f s for 20 requests" % took)


def test_listen_backlog_holds_a_burst(t):
    """200 connections in one go, all served."""
    origin = t.origin()
    sidecar = t.sidecar(origin, {"pool.acquire_timeout": 30})
    clients = [t.client(sidecar) for _ in range(200)]
    for client in clients:
        client.send(make_request("/"))
    equal({client.response().status for client in clients}, {200}, "statuses")


def test_so_reuse_of_the_port_after_a_stop(t):
    """A stopped sidecar's port can be listened on at once, though connections linger in TIME_WAIT."""
    origin = t.origin()
    first = t.sidecar(origin)
    host, port = first.address
    equal(first.request("/").status, 200, "status")
    idle = first.client()
    first.leak_check = False
    first.stop()
    idle.close()
    second = t.sidecar(origin, {"listen.address": "%s:%d" % (host, port)})
    equal(second.request("/").status, 200, "status")
    equal(second.address, (host, port), "address")


def test_address_in_use_is_said(t):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        address = "127.0.0.1:%d" % taken.getsockname()[1]
        code, _, errors = run_once(["--upstream", "http://127.0.0.1:1", "--listen", address, "--admin", "127.0.0.1:0"])
    equal(code, 1, "exit code")
    check(address in errors and "in use" in errors.lower(), "message: %r" % errors[-500:])
