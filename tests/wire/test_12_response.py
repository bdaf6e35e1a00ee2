"""What comes from upstream (RFC 9112 4, 5, 6, 7): a broken answer is 502, or visibly cut when it was begun,
and leaves nothing for the next request."""
import threading

from harness import *

OK = b"HTTP/1.1 200 OK\r\n"


def bad_answers(t, rows, config=None):
    """Each row: the origin sends these bytes and keeps the connection; the client must get 502."""
    origin = t.origin()
    sidecar = t.sidecar(origin, config)
    for name, data in rows:
        with t.case(name):
            origin.on["/bad"] = lambda conn, request, data=data: (conn.send(data), conn.gone(), False)[2]
            with sidecar.client() as client:
                made_up(client.request("/bad"), 502)
            clean_after(origin, sidecar)


def clean_after(origin, sidecar):
    """The connection of the last request is given up, and the next request gets its own answer on another."""
    last = origin.connections[origin.last().connection]
    wait_for(lambda: last.reader.ended or not last.open, "the sidecar to close the upstream connection")
    response = sidecar.request("/good")
    equal((response.status, response.body), (200, b"ok"), "the next answer")
    check(origin.last().connection != last.number, "the connection was used again")


def test_9112_4_bad_status_lines(t):
    rest = b"Content-Length: 2\r\n\r\nok"
    bad_answers(t, [
        (repr(line), line + rest) for line in [
            b"HTTP/1.1  200 OK\r\n", b"HTTP/1.1 200\tOK\r\n", b"HTTP/1.1\t200 OK\r\n", b"HTTP/1.1 20 OK\r\n", b"HTTP/1.1 2000 OK\r\n",
            b"HTTP/1.1 2x0 OK\r\n", b"HTTP/1.1 -200 OK\r\n", b"HTTP/1.1 099 OK\r\n", b"HTTP/1.1 000 OK\r\n", b"HTTP/1.1 OK\r\n", b"HTTP/1.1\r\n",
            b"HTTP/2.0 200 OK\r\n", b"HTTP/0.9 200 OK\r\n", b"HTTP/11 200 OK\r\n", b"HTTP/1.10 200 OK\r\n", b"http/1.1 200 OK\r\n",
            b" HTTP/1.1 200 OK\r\n", b"ICY 200 OK\r\n", b"200 OK\r\n", b"\r\n\r\nHTTP/1.1 200 OK\r\n", b"hello\r\n", b"<html>\r\n",
            b"HTTP/1.1 200 OK\n", b"HTTP/1.1 200 O\0K\r\n", b"HTTP/1.1 200 O\rK\r\n", b"HTTP/1.1 200OK\r\n", b"HTTP/1.1 200 O\x01K\r\n",
            b"GET / HTTP/1.1\r\n", b"\x15\x03\x01\x00\x02\x02\x46\r\n"]])


def test_9112_5_bad_response_fields(t):
    def with_field(line):
        return OK + b"A: b\r\n" + line + b"\r\nContent-Length: 2\r\n\r\nok"
    bad_answers(t, [
        ("space before the colon", with_field(b"X : a")), ("tab before the colon", with_field(b"X\t: a")), ("no colon", with_field(b"X a")),
        ("empty name", with_field(b": a")), ("NUL in a value", with_field(b"X: a\0b")), ("bare CR in a value", with_field(b"X: a\rb")),
        ("bare LF in a value", with_field(b"X: a\nb")), ("NUL in a name", with_field(b"X\0: a")), ("8-bit byte in a name", with_field(b"X\xe9: a")),
        ("parenthesis in a name", with_field(b"X(: a")), ("control byte in a value", with_field(b"X: a\x01b")),
        ("space before the first name", OK + b" X: a\r\nContent-Length: 2\r\n\r\nok"),
        ("bare LF everywhere", b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok"), ("CR CR LF", with_field(b"X: a\r")),
        ("space before the colon of Content-Length", OK + b"Content-Length : 2\r\n\r\nok"),
    ])


def test_9112_5_2_a_folded_response_field(t):
    """Replaced by a space, or refused; never passed on."""
    origin = t.origin()
    sidecar = t.sidecar(origin)
    origin.on["/fold"] = lambda conn, request: (conn.send(OK + b"X: a\r\n  b\r\nContent-Length: 2\r\n\r\nok"), conn.gone(), False)[2]
    response = sidecar.request("/fold")
    if response.status == 200:
        equal(" ".join(response.get("X").split()), "a b", "value")
    else:
        made_up(response, 502)


def test_9112_6_bad_response_lengths(t):
    def head(*fields):
        return OK + b"".join(f + b"\r\n" for f in fields) + b"\r\n"
    rows = [("Content-Length: %r" % v, head(b"Content-Length: " + v) + b"hello")
            for v in [b"", b"+5", b"-5", b"5x", b"0x5", b"5 5", b"5, 6", b"5,", b"five", b"9223372036854775808", b"18446744073709551621", b"5.0", b"5;"]]
    rows += [("Transfer-Encoding: %r" % v, head(b"Transfer-Encoding: " + v) + b"5\r\nhello\r\n0\r\n\r\n")
             for v in [b"xchunked", b"chunked, identity", b"identity", b"gzip", b"gzip, chunked", b"chunked, chunked", b"", b"chunked;a=b", b"chunked,"]]
    bad_answers(t, rows + [
        ("two lengths", head(b"Content-Length: 5", b"Content-Length: 6") + b"hello!"),
        ("TE and CL", head(b"Transfer-Encoding: chunked", b"Content-Length: 5") + b"5\r\nhello\r\n0\r\n\r\n"),
        ("CL and TE", head(b"Content-Length: 5", b"Transfer-Encoding: chunked") + b"0\r\n\r\n"),
        ("two codings", head(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked") + b"0\r\n\r\n"),
        ("TE in HTTP/1.0", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ])


def test_9112_6_3_equal_response_lengths_collapse_or_are_refused(t):
    origin = t.origin()
    sidecar = t.sidecar(origin)
    origin.on["/twice"] = OK + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello"
    response = sidecar.request("/twice")
    check(response.status == 502 or response.body == b"hello" and response.all("Content-Length") == ["5"], repr(response))


def test_upstream_unknown_transfer_coding_until_close(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, {"upstream.unknown_transfer_coding": "until_close"})
    origin.on["/odd"] = lambda conn, request: (conn.send(OK + b"Transfer-Encoding: odd\r\n\r\nsome bytes"), conn.close(), False)[2]
    response = sidecar.request("/odd")
    equal((response.status, response.body), (200, b"some bytes"), "answer")
    equal(sidecar.request("/good").status, 200, "the next status")


def test_limits_of_a_response_head(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, {"upstream.max_header_bytes": "2KiB"})

    def head(size):
        start = OK + b"Content-Length: 2\r\nX: "
        return start + b"x" * (size - len(start) - 4) + b"\r\n\r\nok"
    for name, size, status in [("at the limit", 2048, 200), ("one over", 2049, 502), ("far over", 100000, 502)]:
        with t.case(name):
            origin.on["/big"] = lambda conn, request, size=size: (conn.send(head(size)), True)[1]
            equal(sidecar.request("/big").status, status, "status")
            equal(sidecar.request("/good").body, b"ok", "the next answer")


def test_no_answer_at_all(t):
    origin = t.origin()
    sidecar = t.sidecar(origin)
    for name, act in [("close", lambda c: c.close()), ("reset", lambda c: c.reset()),
                      ("half a head", lambda c: (c.send(b"HTTP/1.1 200 OK\r\nX-A: "), c.close())),
                      ("half a head, reset", lambda c: (c.send(b"HTTP/1.1 200 OK\r\nX-A: "), c.reset())),
                      ("half a status line", lambda c: (c.send(b"HTTP/1."), c.close())),
                      ("interim only", lambda c: (c.send(b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"), c.close()))]:
        with t.case(name):
            origin.on["/none"] = lambda conn, request, act=act: (act(conn), False)[1]
            made_up(sidecar.request("/none"), 502)
            equal(sidecar.request("/good").status, 200, "the next status")


CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
BROKEN_BODIES = [
    ("length, closed early", OK + b"Content-Length: 10\r\n\r\nhello", "close"),
    ("length, reset early", OK + b"Content-Length: 10\r\n\r\nhello", "reset"),
    ("length, nothing came", OK + b"Content-Length: 10\r\n\r\n", "close"),
    ("chunked, closed before the last chunk", CHUNKED + b"5\r\nhello\r\n", "close"),
    ("chunked, reset", CHUNKED + b"5\r\nhello\r\n", "reset"),
    ("chunked, closed inside a chunk", CHUNKED + b"9\r\nhello", "close"),
    ("chunked, closed inside a size", CHUNKED + b"5\r\nhello\r\n5", "close"),
    ("chunked, closed in the last chunk", CHUNKED + b"5\r\nhello\r\n0\r\n", "close"),
    ("chunked, closed in the trailers", CHUNKED + b"5\r\nhello\r\n0\r\nA: b\r\n", "close"),
    ("until close, reset", OK + b"\r\nhello", "reset"),
    ("chunk size with 0x", CHUNKED + b"5\r\nhello\r\n0x5\r\nhello\r\n0\r\n\r\n", "keep"),
    ("chunk size with a sign", CHUNKED + b"5\r\nhello\r\n+5\r\nhello\r\n0\r\n\r\n", "keep"),
    ("chunk size with a blank", CHUNKED + b"5\r\nhello\r\n5 \r\nhello\r\n0\r\n\r\n", "keep"),
    ("chunk size of 64 bits", CHUNKED + b"5\r\nhello\r\nffffffffffffffff\r\nhello\r\n0\r\n\r\n", "keep"),
    ("chunk size of letters", CHUNKED + b"5\r\nhello\r\nxyz\r\n", "keep"),
    ("chunk without CRLF", CHUNKED + b"5\r\nhello5\r\nhello\r\n0\r\n\r\n", "keep"),
    ("chunk with bare LF", CHUNKED + b"5\r\nhello\r\n5\nhello\r\n0\r\n\r\n", "keep"),
    ("chunk data with bare LF", CHUNKED + b"5\r\nhello\r\n5\r\nhello\n0\r\n\r\n", "keep"),
    ("endless extension", CHUNKED + b"5\r\nhello\r\n5;" + b"a" * 20000 + b"\r\nhello\r\n0\r\n\r\n", "keep"),
    ("bad trailer", CHUNKED + b"5\r\nhello\r\n0\r\na b\r\n\r\n", "keep"),
    ("endless trailers", CHUNKED + b"5\r\nhello\r\n0\r\n" + b"a: b\r\n" * 30000 + b"\r\n", "keep"),
]


def finish_badly(conn, data, how):
    try:
        conn.send(data)
        {"close": conn.close, "reset": conn.reset, "keep": conn.gone}[how]()
    except (ConnectionResetError, BrokenPipeError):
        pass
    return False


def test_9112_8_a_broken_body_is_visibly_broken(t):
    """502 while nothing of the answer was sent, else a cut: never a clean end, and nothing for the next."""
    origin = t.origin()
    sidecar = t.sidecar(origin)
    for name, data, how in BROKEN_BODIES:
        with t.case(name):
            origin.on["/broken"] = lambda conn, request, d=data, h=how: finish_badly(conn, d, h)
            with sidecar.client() as client:
                expect_broken(client)
            clean_after(origin, sidecar)


def expect_broken(client):
    client.send(make_request("/broken"))
    try:
        response = client.response()
        made_up(response, 502)
    except Incomplete as cut:
        if cut.message is not None:
            equal(cut.message.status, 200, "status of what was begun")
            check(b"hello".startswith(cut.message.body[:5]), "other bytes: %r" % cut.message.body)
    except Gone:
        pass


def test_9112_8_a_broken_body_is_visible_to_an_http_1_0_client(t):
    """There the end of the connection is the end of the body: only a reset or a length can say that it broke."""
    origin = t.origin()
    sidecar = t.sidecar(origin)
    for name, data, how in BROKEN_BODIES[:10]:
        with t.case(name):
            origin.on["/broken"] = lambda conn, request, d=data, h=how: finish_badly(conn, d, h)
            with sidecar.client() as client:
                client.send(make_request("/broken", version="1.0"))
                try:
                    response = client.response()
                    equal(response.status, 502, "status of a complete answer")
                except Gone as gone:
                    check(gone.how == "reset" or gone.message is None or gone.message.has("Content-Length"), "a clean end: %r" % gone.message)


def test_9112_6_3_valid_answers(t):
    """The client gets status, reason and body, in our own framing."""
    origin = t.origin()
    sidecar = t.sidecar(origin)
    text = bytes(range(256)) * 300
    rows = [
        ("length", OK + b"Content-Length: 5\r\n\r\nhello", 200, b"hello", "length"),
        ("length 0", OK + b"Content-Length: 0\r\n\r\n", 200, b"", "length"),
        ("length in odd case and blanks", OK + b"cONTENT-lENGTH: \t 5 \t\r\n\r\nhello", 200, b"hello", "length"),
        ("chunked", CHUNKED + b"5\r\nhello\r\n0\r\n\r\n", 200, b"hello", "chunked"),
        ("chunked in odd case", OK + b"TRANSFER-encoding: CHUNKED\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 200, b"hello", "chunked"),
        ("chunked, empty", CHUNKED + b"0\r\n\r\n", 200, b"", None),
        ("chunked, extensions", CHUNKED + b"5;a=\"b;c\"\r\nhello\r\n0;d\r\n\r\n", 200, b"hello", "chunked"),
        ("chunked, zeros in front", CHUNKED + b"00005\r\nhello\r\n00\r\n\r\n", 200, b"hello", "chunked"),
        ("all bytes", OK + b"Content-Length: %d\r\n\r\n" % len(text) + text, 200, text, "length"),
        ("all bytes, chunked", CHUNKED + chunked(text[:1], text[1:66000], text[66000:]), 200, text, "chunked"),
        ("HTTP/1.0 with a length", b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, b"hello", "length"),
        ("HTTP/1.2", b"HTTP/1.2 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, b"hello", "length"),
        ("204", b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", "none"),
        ("204 with a length of 0", b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", 204, b"", "none"),
        ("304", b"HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n", 304, b"", "none"),
        ("304 with a length", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n", 304, b"", "none"),
        ("205", b"HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n", 205, b"", None),
        ("299", b"HTTP/1.1 299 Odd\r\nContent-Length: 1\r\n\r\nx", 299, b"x", "length"),
        ("404", b"HTTP/1.1 404 Not Found\r\nContent-Length: 1\r\n\r\nx", 404, b"x", "length"),
        ("500", b"HTTP/1.1 500 Internal\r\nContent-Length: 1\r\n\r\nx", 500, b"x", "length"),
        ("599", b"HTTP/1.1 599 Odd\r\nContent-Length: 1\r\n\r\nx", 599, b"x", "length"),
        ("no reason phrase", b"HTTP/1.1 200 \r\nContent-Length: 1\r\n\r\nx", 200, b"x", "length"),
    ]
    for name, data, status, body, framing in rows:
        for pieces in (False, True):
            if pieces and len(data) > 1000:
                continue
            with t.case(name + (", byte by byte" if pieces else "")):
                origin.on["/v"] = (lambda conn, request, d=data: conn.pieces(d)) if pieces else data
                response = sidecar.request("/v")
                equal((response.status, response.body), (status, body), "answer")
                check(framing in (None, response.framing), "framing %s" % response.framing)
                check(not response.interim, "an interim answer from nowhere")
    with t.case("reason phrase passes"):
        origin.on["/v"] = b"HTTP/1.1 200 Caf\xe9 au lait\r\nContent-Length: 0\r\n\r\n"
        equal(sidecar.request("/v").reason, "Caf\xe9 au lait", "reason phrase")
    with t.case("304 keeps what it says of the length, or leaves it out"):
        origin.on["/v"] = b"HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\nETag: \"a\"\r\n\r\n"
        check(sidecar.request("/v").all("Content-Length") in ([], ["500"]), "another length")


def test_9112_6_3_answers_until_close(t):
    origin = t.origin()
    sidecar = t.sidecar(origin)
    text = b"x" * 100000
    for name, start in [("HTTP/1.1", b"HTTP/1.1 200 OK\r\n\r\n"), ("HTTP/1.1 with close", OK + b"Connection: close\r\n\r\n"),
                        ("HTTP/1.0", b"HTTP/1.0 200 OK\r\n\r\n"), ("HTTP/1.0 keep-alive without a length", b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n")]:
        for body in (b"", b"hello", text):
            with t.case("%s, %d bytes" % (name, len(body))):
                origin.on["/c"] = lambda conn, request, d=start + body: (conn.send(d), conn.close(), False)[2]
                with sidecar.client() as client:
                    response = client.request("/c")
                    equal((response.status, response.body), (200, body), "answer")
                    equal(response.framing, "chunked", "framing to an HTTP/1.1 client")
                    equal(client.request("/again").body, b"ok", "the next answer on the same connection")


def test_9112_6_3_bytes_behind_an_answer(t):
    """They close the upstream connection and reach no client."""
    smuggled = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL"
    rows = [("length", "GET", OK + b"Content-Length: 2\r\n\r\nok", 200), ("length and one byte", "GET", OK + b"Content-Length: 2\r\n\r\nok!", 200),
            ("length 0", "GET", OK + b"Content-Length: 0\r\n\r\n", 200), ("chunked", "GET", CHUNKED + b"2\r\nok\r\n0\r\n\r\n", 200),
            ("HEAD with a body", "HEAD", OK + b"Content-Length: 2\r\n\r\nok", 200), ("HEAD, chunked, with a body", "HEAD", CHUNKED + b"2\r\nok\r\n0\r\n\r\n", 200),
            ("204 with a body", "GET", b"HTTP/1.1 204 No\r\nContent-Length: 2\r\n\r\nok", 204), ("304 with a body", "GET", b"HTTP/1.1 304 No\r\nContent-Length: 2\r\n\r\nok", 304),
            ("204 with chunks", "GET", b"HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 204)]
    origin = t.origin()
    sidecar = t.sidecar(origin)
    for name, method, data, status in rows:
        with t.case(name):
            origin.on["/extra"] = lambda conn, request, d=data + smuggled: (conn.send(d), conn.gone(), False)[2]
            with sidecar.client() as client:
                response = client.request("/extra", method)
                check(response.status in (status, 502), "status %d" % response.status)
                check(response.status == 502 or response.body in (b"", b"ok"), "body %r" % response.body)
                equal(client.request("/good").body if not response.members("Connection") else b"ok", b"ok", "the next answer on the connection")
            clean_after_extra(origin, sidecar)


def clean_after_extra(origin, sidecar):
    number = [r for r in origin.requests if r.target == "/extra"][-1].connection
    wait_for(lambda: origin.connections[number].reader.ended, "the sidecar to close the upstream connection")
    for _ in range(3):
        equal(sidecar.request("/good").body, b"ok", "the next answers")
    check(all(r.connection != number for r in origin.requests[-3:]), "the connection was used again")


def test_an_answer_before_its_request_is_discarded(t):
    """Bytes on a fresh connection, and on an idle one."""
    evil = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL"
    with t.case("while idle"):
        origin = t.origin()
        sidecar = t.sidecar(origin)
        equal(sidecar.request("/a").body, b"ok", "answer")
        connection = origin.connections[0]
        connection.send(evil)
        wait_for(lambda: connection.reader.ended, "the sidecar to close the connection")
        equal(sidecar.request("/b").body, b"ok", "the next answer")
        equal(len(origin.connections), 2, "upstream connections")
    with t.case("at once on connecting"):
        ready = threading.Event()

        def script(conn):
            if conn.number == 0:
                conn.send(evil)
                ready.set()
                conn.gone()
            else:
                conn.origin.serve(conn)
        origin = t.origin(script)
        sidecar = t.sidecar(origin)
        response = sidecar.request("/a")
        check(response.body != b"EVIL" or origin.connections[0].requests, "the answer of nobody's request")
        equal(sidecar.request("/b").body, b"ok", "the next answer")


def test_9110_15_2_interim_answers(t):
    origin = t.origin()
    sidecar = t.sidecar(origin)
    final = OK + b"Content-Length: 2\r\n\r\nok"
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\nX: y\r\n\r\n"
    with t.case("103 is relayed at once"):
        release = threading.Event()
        origin.on["/hints"] = lambda conn, request: (conn.send(hints), release.wait(PATIENCE), conn.send(final))[2]
        with sidecar.client() as client:
            client.send(make_request("/hints"))
            early = client.head()
            equal((early.status, early.get("Link")), (103, "</a>; rel=preload"), "interim answer")
            release.set()
            equal(client.response().body, b"ok", "final answer")
    rows = [("100 not asked for", b"HTTP/1.1 100 Continue\r\n\r\n", []), ("102", b"HTTP/1.1 102 Processing\r\n\r\n", [102]),
            ("199", b"HTTP/1.1 199 Odd\r\n\r\n", [199]), ("several", hints * 3, [103] * 3), ("100 and 103", b"HTTP/1.1 100 Continue\r\n\r\n" + hints, [103]),
            ("with a length", b"HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\n", [103])]
    for name, interim, statuses in rows:
        with t.case(name):
            origin.on["/i"] = interim + final
            response = sidecar.request("/i")
            equal((response.status, response.body), (200, b"ok"), "final answer")
            got = [i.status for i in response.interim]
            check(got in (statuses, []), "interim answers %r" % got)
        with t.case(name + ", to an HTTP/1.0 client"):
            response = sidecar.request("/i", version="1.0")
            equal((response.status, response.interim), (200, []), "answer")
    with t.case("too many are 502"):
        origin.on["/i"] = lambda conn, request: finish_badly(conn, hints * 2000, "keep")
        response = sidecar.request("/i")
        equal(response.status, 502, "status")
    with t.case("101 unasked is 502"):
        origin.on["/i"] = lambda conn, request: finish_badly(conn, b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nraw", "keep")
        made_up(sidecar.request("/i"), 502)


def test_9112_7_1_2_trailers_of_an_answer(t):
    """They pass to a client that says TE: trailers, may be dropped otherwise, and never turn into fields."""
    origin = t.origin()
    sidecar = t.sidecar(origin)
    origin.default = OK + b"Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(
        b"hello", trailers=b"X-Sum: 42\r\nContent-Length: 3\r\nSet-Cookie: a=b\r\nTransfer-Encoding: x\r\nConnection: x\r\n")
    response = sidecar.request("/", fields=[("TE", "trailers"), ("Connection", "TE")])
    equal(response.body, b"hello", "body")
    equal(response.trailers, [("X-Sum", "42")], "trailers")
    check(not response.has("X-Sum"), "a trailer became a field")
    response = sidecar.request("/")
    check(response.trailers in ([("X-Sum", "42")], []), "trailers to a client that did not ask: %r" % response.trailers)
    response = sidecar.request("/", version="1.0")
    equal(response.body, b"hello", "body to an HTTP/1.0 client")
