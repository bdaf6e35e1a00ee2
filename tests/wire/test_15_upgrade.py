"""Upgrade and WebSocket (RFC 9110 7.8): a tunnel after 101, and not one byte before."""
import threading

from harness import *

WEBSOCKET = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="), ("Sec-WebSocket-Version", "13")]
SWITCH = (b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
          b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")


def tunnel(t, after, config=None, first=b""):
    """A client whose upgrade was answered by 101; `after` goes on with the origin's end."""
    def script(conn):
        conn.request()
        conn.send(SWITCH + first)
        after(conn)
    origin = t.origin(script)
    sidecar = t.sidecar(origin, config)
    client = t.client(sidecar)
    client.send(make_request("/ws", fields=WEBSOCKET))
    response = client.response()
    equal(response.status, 101, "status")
    return origin, sidecar, client, response


def echo(conn):
    while True:
        data = conn.reader.exactly(1)
        data += bytes(conn.reader.buffer)
        conn.reader.buffer.clear()
        conn.send(data)


def test_9110_7_8_a_tunnel_after_101(t):
    origin, _, client, response = tunnel(t, echo)
    seen = origin.last()
    equal((seen.members("Upgrade"), "upgrade" in seen.members("Connection")), (["websocket"], True), "fields at the origin")
    equal(seen.get("Sec-WebSocket-Key"), "dGhlIHNhbXBsZSBub25jZQ==", "key at the origin")
    equal((response.members("Upgrade"), "upgrade" in response.members("Connection")), (["websocket"], True), "fields at the client")
    equal(response.get("Sec-WebSocket-Accept"), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "Sec-WebSocket-Accept")
    for data in (b"\x81\x05hello", b"\0\r\n\r\nGET / HTTP/1.1\r\n\r\n", bytes(range(256))):
        client.send(data)
        equal(client.exactly(len(data)), data, "echo")


def test_9110_7_8_bytes_right_behind_the_101(t):
    _, _, client, _ = tunnel(t, echo, first=b"\x81\x02hi")
    equal(client.exactly(4), b"\x81\x02hi", "first bytes")


def test_9110_7_8_much_in_both_directions(t):
    size = 4 << 20
    data = bytes(range(256)) * (size // 256)
    _, _, client, _ = tunnel(t, echo)
    sender = t.thread(client.sock.sendall, data)
    equal(client.exactly(size) == data, True, "all bytes came back")
    sender.result()


def test_9110_7_8_closes_pass_through(t):
    for name, act in [("close", lambda c: c.close()), ("reset", lambda c: c.reset())]:
        with t.case("client, " + name):
            origin, _, client, _ = tunnel(t, lambda conn: conn.gone())
            act(client)
            wait_for(lambda: origin.connections[0].reader.ended, "the end at the origin")
        with t.case("origin, " + name):
            _, _, client, _ = tunnel(t, lambda conn, act=act: (conn.reader.exactly(1), act(conn)))
            client.send(b"x")
            client.closed()
    with t.case("what was sent before the close still arrives"):
        _, _, client, _ = tunnel(t, lambda conn: (conn.send(b"z" * 200000), conn.close()))
        equal(len(client.exactly(200000)), 200000, "bytes")
        equal(client.closed(), "eof", "end")


def test_9110_7_8_half_closes_pass_through(t):
    origin, _, client, _ = tunnel(t, lambda conn: conn.send(b"got " + conn.gone()))
    client.send(b"abc").half_close()
    equal(client.exactly(7), b"got abc", "answer behind the half-close")
    client.closed()
    equal(origin.connections[0].reader.ended, "eof", "end at the origin")


def test_9110_7_8_nothing_passes_before_101(t):
    """What a client sends behind its upgrade request is held until the origin has agreed."""
    early = b"GET /early HTTP/1.1\r\nHost: a\r\n\r\n"
    decide = threading.Event()
    seen = []

    def script(conn):
        request = conn.request()
        if request.target == "/ws":
            decide.wait(PATIENCE)
            seen.append(bytes(conn.reader.buffer))
            conn.sock.setblocking(False)
            try:
                seen.append(conn.sock.recv(1000))
            except BlockingIOError:
                pass
            conn.reply(403, body=b"no")
        conn.origin.serve(conn)
    origin = t.origin(script)
    sidecar = t.sidecar(origin)
    with sidecar.client() as client:
        client.send(make_request("/ws", fields=WEBSOCKET) + early)
        origin.wait_requests(1)
        client.silent(0.1)
        decide.set()
        response = client.response()
        equal((response.status, response.body), (403, b"no"), "answer")
        equal(b"".join(seen), b"", "bytes that reached the origin before its answer")
        if "close" not in response.members("Connection"):
            equal(client.response().body, b"ok", "the answer to the request behind")
            check(origin.last().has("Via"), "it went through raw")


def test_9110_7_8_a_refused_upgrade(t):
    origin = t.origin()
    sidecar = t.sidecar(origin)
    for status in (200, 403, 426, 500):
        with t.case(status):
            origin.on["/ws"] = make_response(status, [("X", "y")], b"no tunnel")
            with sidecar.client() as client:
                response = client.request("/ws", fields=WEBSOCKET)
                equal((response.status, response.body, response.get("X")), (status, b"no tunnel", "y"), "answer")
                equal(client.request("/next").body, b"ok", "the next answer on the connection")


def test_9110_7_8_upgrade_of_an_http_1_0_client_is_ignored(t):
    origin = t.origin()
    sidecar = t.sidecar(origin)
    equal(sidecar.request("/", fields=WEBSOCKET, version="1.0").status, 200, "status")
    check(not origin.last().has("Upgrade"), "Upgrade was forwarded")


def test_9110_7_8_upgrade_not_named_by_connection_is_dropped(t):
    origin = t.origin()
    sidecar = t.sidecar(origin)
    equal(sidecar.request("/", fields=WEBSOCKET[1:]).status, 200, "status")
    check(not origin.last().has("Upgrade"), "Upgrade was forwarded")


def test_a_tunnel_outlives_the_idle_timer_of_requests(t):
    _, _, client, _ = tunnel(t, echo, {"listen.idle_timeout": "200ms", "upstream.response_timeout": "200ms", "listen.header_timeout": "200ms"})
    client.silent(0.6)
    client.send(b"still")
    equal(client.exactly(5), b"still", "echo")


def test_a_tunnel_that_stands_still_is_ended_by_stream_idle_timeout(t):
    origin, _, client, _ = tunnel(t, lambda conn: conn.gone(), {"upstream.stream_idle_timeout": "300ms"})
    client.closed()
    wait_for(lambda: origin.connections[0].reader.ended, "the end at the origin")


def test_a_tunnel_with_a_slow_reader_stops_the_sender(t):
    sent = [0]

    def pour(conn):
        conn.sock.settimeout(0.5)
        try:
            while sent[0] < 200 << 20:
                sent[0] += conn.sock.send(b"x" * 65536)
        except (TimeoutError, OSError):
            pass
    origin, sidecar, client, _ = tunnel(t, pour)
    wait_for(lambda: not origin.connections[0].open, "the sender to be stopped")
    check(sent[0] < 64 << 20, "%d bytes were taken from the origin though nobody reads" % sent[0])
    check(sidecar.rss_kib() < 200 << 10, "%d KiB in use" % sidecar.rss_kib())
    client.reset()
