"""Where a request ends (RFC 9112 6, 7): one reading, or none. Smuggling lives on a second one."""
import threading

from harness import *
from test_10_request_head import lines, refuse_table

# The bodies that follow, for whoever would read one: a whole request hides in each.
CHUNKED_BODY = b"0\r\n\r\n"


def post(*fields, body=b"", version=b"1.1"):
    return lines(b"POST / HTTP/" + version, b"Host: a", *fields) + body


def test_9112_6_1_transfer_encoding_and_content_length(t):
    refuse_table(t, [
        ("TE then CL", post(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=CHUNKED_BODY), 400),
        ("CL then TE", post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=CHUNKED_BODY), 400),
        ("TE and CL 0", post(b"Transfer-Encoding: chunked", b"Content-Length: 0", body=CHUNKED_BODY), 400),
        ("TE identity and CL", post(b"Transfer-Encoding: identity", b"Content-Length: 5", body=b"hello"), 400, 501),
        ("TE and CL on a GET", lines(b"GET / HTTP/1.1", b"Host: a", b"Transfer-Encoding: chunked", b"Content-Length: 5") + CHUNKED_BODY, 400),
        ("TE and a bad CL", post(b"Transfer-Encoding: chunked", b"Content-Length: x", body=CHUNKED_BODY), 400),
        ("TE in HTTP/1.0", post(b"Transfer-Encoding: chunked", version=b"1.0", body=CHUNKED_BODY), 400),
        ("TE in HTTP/1.0 with keep-alive", post(b"Connection: keep-alive", b"Transfer-Encoding: chunked", version=b"1.0", body=CHUNKED_BODY), 400),
        ("TE named by Connection, and CL", post(b"Connection: Transfer-Encoding", b"Transfer-Encoding: chunked", b"Content-Length: 5", body=CHUNKED_BODY), 400),
    ])


def test_9112_6_1_transfer_codings(t):
    values = [b"xchunked", b"chunkedx", b"chunked, identity", b"identity, chunked", b"identity", b"gzip", b"gzip, chunked", b"chunked, gzip",
              b"chunked, chunked", b"chunked,", b",chunked", b", chunked", b"chunked;q=1", b"chunked; a=b", b"\"chunked\"", b"'chunked'", b"",
              b"chunked\x0b", b"\x0bchunked", b"chunked\x0c", b"\x00chunked", b"chunked\x00", b"chun ked", b"chunk", b"c", b"\x01chunked",
              b"chunked\xa0", b"\xa0chunked", b"chunked\x7f", b"chunked\x1f", b"x, chunked", b"trailers", b"[chunked]", b"chunked chunked",
              b"chunked\tx", b"cow"]
    rows = [("%r" % v, post(b"Transfer-Encoding: " + v, body=CHUNKED_BODY), 400, 501) for v in values]
    refuse_table(t, rows + [
        ("two lines", post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=CHUNKED_BODY), 400, 501),
        ("two lines, the first unknown", post(b"Transfer-Encoding: x", b"Transfer-Encoding: chunked", body=CHUNKED_BODY), 400, 501),
        ("two lines, the last unknown", post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: x", body=CHUNKED_BODY), 400, 501),
        ("two lines, the last empty", post(b"Transfer-Encoding: chunked", b"Transfer-Encoding:", body=CHUNKED_BODY), 400, 501),
    ])


def test_9112_6_2_content_length(t):
    values = [b"", b"+5", b"-5", b"-0", b"5 ,", b"5,", b",5", b"5, 6", b"5 5", b"0x5", b"5x", b"x5", b"5.0", b"5e0", b"five", b"\"5\"", b"5;",
              b"5\x0b", b"\x0c5", b"5\xa0", b"9223372036854775808", b"18446744073709551615", b"18446744073709551616",
              b"18446744073709551621", b"99999999999999999999999999", b"1" * 400, b"4294967301, 5", b"0, 5", b"5, ", b"5,,5", b"\xef\xbc\x95"]
    rows = [("%r" % v[:30], post(b"Content-Length: " + v, body=b"hello"), 400) for v in values]
    refuse_table(t, rows + [
        ("two lines, differing", post(b"Content-Length: 5", b"Content-Length: 6", body=b"hello!"), 400),
        ("two lines, the first 0", post(b"Content-Length: 0", b"Content-Length: 5", body=b"hello"), 400),
        ("two lines, the last empty", post(b"Content-Length: 5", b"Content-Length:", body=b"hello"), 400),
        ("two lines, 5 and 05 and 6", post(b"Content-Length: 5", b"Content-Length: 05", b"Content-Length: 6", body=b"hello"), 400),
        ("on a GET", lines(b"GET / HTTP/1.1", b"Host: a", b"Content-Length: 5, 6") + b"hello", 400),
    ])


def test_9112_6_3_equal_lengths_collapse_or_are_refused(t):
    """Both are allowed; a second reading is not."""
    origin = t.origin()
    sidecar = t.sidecar(origin)
    for name, fields in [("two lines", (b"Content-Length: 5", b"Content-Length: 5")), ("one line", (b"Content-Length: 5, 5",))]:
        with t.case(name):
            before = origin.count()
            response = sidecar.raw(post(*fields, body=b"hello"), "POST")
            if response.status == 200:
                equal((origin.last().all("Content-Length"), origin.last().body), (["5"], b"hello"), "request at the origin")
            else:
                equal((response.status, origin.count()), (400, before), "status, requests at the origin")


def test_9112_6_valid_bodies(t):
    """What the origin gets: the same bytes, framed once, by us."""
    origin = t.origin()
    sidecar = t.sidecar(origin)
    long = bytes(range(256)) * 300
    rows = [
        ("length", post(b"Content-Length: 5", body=b"hello"), b"hello"),
        ("length 0", post(b"Content-Length: 0"), b""),
        ("length with zeros in front", post(b"Content-Length: 0000000005", body=b"hello"), b"hello"),
        ("length in odd case", post(b"cOnTeNt-LeNgTh:5", body=b"hello"), b"hello"),
        ("no body", post(), b""),
        ("chunked", post(b"Transfer-Encoding: chunked", body=chunked(b"hel", b"lo")), b"hello"),
        ("chunked in odd case", post(b"transfer-ENCODING: ChUnKeD", body=chunked(b"hello")), b"hello"),
        ("chunked, blanks around", post(b"Transfer-Encoding:  chunked  ", body=chunked(b"hello")), b"hello"),
        ("chunked, empty", post(b"Transfer-Encoding: chunked", body=chunked()), b""),
        ("sizes in both cases", post(b"Transfer-Encoding: chunked", body=b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n"), b"0123456789" * 2),
        ("sizes with zeros in front", post(b"Transfer-Encoding: chunked", body=b"0000005\r\nhello\r\n000\r\n\r\n"), b"hello"),
        ("extensions", post(b"Transfer-Encoding: chunked", body=b"5;a=b;c;d=\"e;f\"\r\nhello\r\n0;last\r\n\r\n"), b"hello"),
        ("CRLF and sizes inside a chunk", post(b"Transfer-Encoding: chunked", body=chunked(b"\r\n0\r\n\r\nGET ")), b"\r\n0\r\n\r\nGET "),
        ("one byte a chunk", post(b"Transfer-Encoding: chunked", body=chunked(*[bytes([b]) for b in b"hello, world"])), b"hello, world"),
        ("all bytes, length", post(b"Content-Length: %d" % len(long), body=long), long),
        ("all bytes, chunked", post(b"Transfer-Encoding: chunked", body=chunked(long[:70000], long[70000:])), long),
    ]
    for name, data, body in rows:
        with t.case(name):
            equal(sidecar.raw(data, "POST").status, 200, "status")
            equal(origin.last().body, body, "body at the origin")
    with t.case("a GET with a body"):
        sidecar.raw(lines(b"GET /g HTTP/1.1", b"Host: a", b"Content-Length: 5") + b"hello")
        equal((origin.last().target, origin.last().body), ("/g", b"hello"), "request at the origin")
    with t.case("a DELETE with a chunked body"):
        sidecar.raw(lines(b"DELETE /d HTTP/1.1", b"Host: a", b"Transfer-Encoding: chunked") + chunked(b"hello"), "DELETE")
        equal((origin.last().target, origin.last().body), ("/d", b"hello"), "request at the origin")
    with t.case("no length is invented for a GET without a body"):
        sidecar.request("/plain")
        equal(origin.last().framing, "none", "framing at the origin")
    with t.case("extensions are dropped"):
        check(not any(b";" in bytes(c.reader.seen).split(b"hello")[0][-20:] for c in origin.connections), "an extension passed")


BAD_CHUNKS = [
    ("size with 0x", b"0x5\r\nhello\r\n0\r\n\r\n"), ("size with a sign", b"+5\r\nhello\r\n0\r\n\r\n"),
    ("size below zero", b"-5\r\nhello\r\n0\r\n\r\n"), ("blank before the size", b" 5\r\nhello\r\n0\r\n\r\n"),
    ("blank behind the size", b"5 \r\nhello\r\n0\r\n\r\n"), ("tab behind the size", b"5\t\r\nhello\r\n0\r\n\r\n"),
    ("no size", b"\r\nhello\r\n0\r\n\r\n"), ("size of no digits", b"g\r\nhello\r\n0\r\n\r\n"),
    ("size and a letter", b"5g\r\nhello\r\n0\r\n\r\n"), ("size with an underscore", b"0_5\r\nhello\r\n0\r\n\r\n"),
    ("extension without a size", b";a=b\r\nhello\r\n0\r\n\r\n"), ("comma behind the size", b"5,\r\nhello\r\n0\r\n\r\n"),
    ("64 bits", b"FFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n"), ("63 bits and one", b"8000000000000000\r\nhello\r\n0\r\n\r\n"),
    ("65 bits", b"10000000000000005\r\nhello\r\n0\r\n\r\n"), ("very many digits", b"0" * 2000 + b"5\r\nhello\r\n0\r\n\r\n"),
    ("bare LF behind the size", b"5\nhello\r\n0\r\n\r\n"), ("bare CR behind the size", b"5\rhello\r\n0\r\n\r\n"),
    ("CR CR LF behind the size", b"5\r\r\nhello\r\n0\r\n\r\n"), ("bare LF behind the data", b"5\r\nhello\n0\r\n\r\n"),
    ("nothing behind the data", b"5\r\nhello0\r\n\r\n"), ("data too long", b"5\r\nhello!\r\n0\r\n\r\n"),
    ("data too short", b"5\r\nhell\r\n0\r\n\r\n"), ("blank behind the data", b"5\r\nhello \r\n0\r\n\r\n"),
    ("bare LF in an extension", b"5;a\nb\r\nhello\r\n0\r\n\r\n"), ("bare CR in an extension", b"5;a\rb\r\nhello\r\n0\r\n\r\n"),
    ("NUL in an extension", b"5;a\0b\r\nhello\r\n0\r\n\r\n"), ("extension without bound", b"5;" + b"a" * 20000 + b"\r\nhello\r\n0\r\n\r\n"),
    ("last chunk with bare LF", b"5\r\nhello\r\n0\n\r\n"), ("end with bare LF", b"5\r\nhello\r\n0\r\n\n"),
    ("trailer without a colon", b"5\r\nhello\r\n0\r\nabc\r\n\r\n"), ("trailer with a space before the colon", b"5\r\nhello\r\n0\r\na : b\r\n\r\n"),
    ("trailer, folded", b"5\r\nhello\r\n0\r\na: b\r\n c\r\n\r\n"), ("trailer with NUL", b"5\r\nhello\r\n0\r\na: \0\r\n\r\n"),
    ("trailer, bare LF", b"5\r\nhello\r\n0\r\na: b\n\r\n"), ("trailer, bare CR", b"5\r\nhello\r\n0\r\na: b\rc: d\r\n\r\n"),
    ("trailer with an empty name", b"5\r\nhello\r\n0\r\n: b\r\n\r\n"), ("trailers without bound", b"5\r\nhello\r\n0\r\n" + b"a: b\r\n" * 30000 + b"\r\n"),
]


def test_9112_7_1_bad_chunks(t):
    """400 and a close; the origin never sees a whole request, nor one more."""
    origin = t.origin()
    sidecar = t.sidecar(origin)
    for name, body in BAD_CHUNKS:
        with t.case(name):
            before = origin.count()
            with sidecar.client() as client:
                client.send_if_open(post(b"Transfer-Encoding: chunked") + body + b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
                equal(client.response("POST").status, 400, "status")
                client.closed()
            equal(origin.count(), before, "whole requests at the origin")
    with t.case("next request is clean"):
        equal(sidecar.request("/next").status, 200, "status")
        equal(origin.last().target, "/next", "target at the origin")


def test_a_bad_chunk_cuts_the_request_upstream(t):
    """The first chunk is at the origin when the second turns out bad: the origin must see a cut, not an end."""
    seen = threading.Event()

    def script(conn):
        request = conn.request(body=False)
        read_chunk(conn.reader, request)
        seen.set()
        conn.gone()
    origin = t.origin(script)
    sidecar = t.sidecar(origin, {"retry.max_buffered_body": 0})
    with sidecar.client() as client:
        client.send(post(b"Transfer-Encoding: chunked", body=b"5\r\nhello\r\n"))
        check(seen.wait(PATIENCE), "the first chunk at the origin")
        client.send(b"zz\r\n")
        equal(client.response("POST").status, 400, "status")
        client.closed()
    connection = origin.connections[0]
    wait_for(lambda: connection.reader.ended, "the upstream connection to be cut")
    check(b"\r\n0\r\n" not in bytes(connection.reader.seen), "a clean last chunk was sent: %r" % bytes(connection.reader.seen))


def test_9110_6_5_trailers_pass(t):
    """Allowed trailers arrive as trailers; those that frame, route, authenticate or describe content are dropped."""
    origin = t.origin()
    sidecar = t.sidecar(origin)
    bad = ["Content-Length: 3", "Transfer-Encoding: chunked", "Host: evil", "Authorization: Bearer x", "Content-Type: a/b", "Content-Encoding: gzip",
           "Cookie: a=b", "Connection: close", "Trailer: x", "TE: trailers", "Upgrade: x", "Proxy-Authorization: x", "Content-Range: x",
           "X-API-Key: x", "Cache-Control: no-store", "Expect: 100-continue", "Via: x", "X-PromptOps-Signature: x", "If-None-Match: *", "Range: bytes=0-1"]
    trailers = "".join(line + "\r\n" for line in ["X-Sum: 42"] + bad + ["x-LAST:  kept \t"]).encode()
    data = post(b"Transfer-Encoding: chunked", b"Trailer: X-Sum", body=chunked(b"hello", trailers=trailers))
    equal(sidecar.raw(data, "POST").status, 200, "status")
    seen = origin.last()
    equal(seen.body, b"hello", "body")
    kept = [n.lower() for n, _ in seen.trailers]
    check(set(kept) <= {"x-sum", "x-last"}, "trailers at the origin: %r" % seen.trailers)
    equal(seen.trailers, [("X-Sum", "42"), ("x-LAST", "kept")], "trailers at the origin")


def test_9110_7_6_1_trailers_named_by_connection_stay_here(t):
    """A field that Connection names is for the next hop alone, in the trailers as in the head, both ways."""
    origin = t.origin()
    sidecar = t.sidecar(origin)
    lines_sent = b"X-Kept: 1\r\nX-HOP: 2\r\nServer-Timing: e\r\n"
    rows = [("one", b"x-hop", ["X-Kept", "Server-Timing"]), ("two, one well known", b"close, X-Hop, server-timing", ["X-Kept"]),
            ("none of them", b"x-other", ["X-Kept", "X-HOP", "Server-Timing"]), ("more than are noted", b"a1, a2, a3, a4, a5", [])]
    for name, named, kept in rows:
        with t.case("request, " + name):
            data = post(b"Transfer-Encoding: chunked", b"Connection: " + named, body=chunked(b"hello", trailers=lines_sent))
            equal(sidecar.raw(data, "POST").status, 200, "status")
            equal([n for n, _ in origin.last().trailers], kept, "trailers at the origin")
        with t.case("answer, " + name):
            origin.on["/t"] = (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: " + named + b"\r\n\r\n"
                               + chunked(b"hello", trailers=lines_sent))
            equal([n for n, _ in sidecar.request("/t", fields=[("TE", "trailers"), ("Connection", "TE")]).trailers], kept, "trailers at the client")


def test_a_request_cut_by_the_client_is_cut_upstream(t):
    """Half a body and a close: never a clean end upstream, however it is framed."""
    for name, head, first in [("length", b"Content-Length: 10", b"hello"), ("chunked", b"Transfer-Encoding: chunked", b"5\r\nhello\r\n"),
                              ("chunked, before the last", b"Transfer-Encoding: chunked", b"5\r\nhello\r\n0\r\n"),
                              ("chunked, inside a chunk", b"Transfer-Encoding: chunked", b"9\r\nhello")]:
        with t.case(name):
            origin = t.origin()
            sidecar = t.sidecar(origin, {"retry.max_buffered_body": 0})
            with sidecar.client() as client:
                client.send(post(head, body=first))
                wait_for(lambda: origin.connections and b"hello" in origin.connections[0].reader.seen, "the first bytes at the origin")
            wait_for(lambda: origin.cut, "the cut at the origin")
            equal(origin.count(), 0, "whole requests at the origin")
