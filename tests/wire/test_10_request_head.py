"""The request line and the fields (RFC 9112 2, 3, 5; RFC 9110 4, 5, 7): what is refused, and what passes unchanged."""
from harness import *

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
HOST = b"Host: a\r\n"


def refused(sidecar, origin, data, statuses):
    """Expects an error answer, a close, and nothing at the origin, whatever follows on the connection."""
    before = origin.count()
    with sidecar.client() as client:
        client.send_if_open(data + SMUGGLED)
        response = client.response()
        check(response.status in statuses, "status %d, wanted %s" % (response.status, statuses))
        made_up(response, response.status)
        check("close" in response.members("Connection"), "no Connection: close on the error")
        client.closed()
    equal(origin.count(), before, "requests at the origin")


def refuse_table(t, rows):
    origin = t.origin()
    sidecar = t.sidecar(origin)
    for name, data, *statuses in rows:
        with t.case(name):
            refused(sidecar, origin, data, statuses)
    with t.case("and still serves"):
        equal(sidecar.request("/after").status, 200, "status")


def lines(*rows):
    return b"\r\n".join(rows) + b"\r\n\r\n"


def start(line):
    return lines(line, b"Host: a")


def test_9112_3_bad_request_lines(t):
    refuse_table(t, [
        ("two spaces behind the method", start(b"GET  / HTTP/1.1"), 400),
        ("two spaces behind the target", start(b"GET /  HTTP/1.1"), 400),
        ("tab behind the method", start(b"GET\t/ HTTP/1.1"), 400),
        ("tab behind the target", start(b"GET /\tHTTP/1.1"), 400),
        ("space at the beginning", start(b" GET / HTTP/1.1"), 400),
        ("space at the end", start(b"GET / HTTP/1.1 "), 400),
        ("tab at the end", start(b"GET / HTTP/1.1\t"), 400),
        ("no version: HTTP/0.9", b"GET /\r\n\r\n", 400),
        ("no target", start(b"GET HTTP/1.1"), 400),
        ("no target, two spaces", start(b"GET  HTTP/1.1"), 400),
        ("method only", start(b"GET"), 400),
        ("empty method", start(b" / HTTP/1.1"), 400),
        ("method with a parenthesis", start(b"GE(T / HTTP/1.1"), 400),
        ("method with a colon", start(b"GET: / HTTP/1.1"), 400),
        ("method with an 8-bit byte", start(b"G\xc9T / HTTP/1.1"), 400),
        ("method with NUL", start(b"GE\0T / HTTP/1.1"), 400),
        ("method without end", b"G" * 5000 + b" / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("words in the line", start(b"GET / and more HTTP/1.1"), 400),
        ("version in lower case", start(b"GET / http/1.1"), 400),
        ("version with two digits", start(b"GET / HTTP/1.10"), 400),
        ("version with a long major", start(b"GET / HTTP/11.1"), 400),
        ("version without minor", start(b"GET / HTTP/1"), 400),
        ("version without digits", start(b"GET / HTTP/x.y"), 400),
        ("version with a sign", start(b"GET / HTTP/1.+1"), 400),
        ("another protocol", start(b"GET / ICAP/1.0"), 400),
        ("garbage", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        ("text without sense", b"hello, world\r\n\r\n", 400),
        ("two empty lines first", b"\r\n\r\n" + start(b"GET / HTTP/1.1"), 400),
        ("bare LF first", b"\n" + start(b"GET / HTTP/1.1"), 400),
        ("major version 2", start(b"GET / HTTP/2.0"), 505),
        ("major version 3", start(b"GET / HTTP/3.0"), 505),
        ("major version 9", start(b"GET / HTTP/9.9"), 505),
        ("version 0.9 in words", start(b"GET / HTTP/0.9"), 400, 505),
        ("preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, 505),
    ])


def test_9112_3_2_bad_targets(t):
    rows = [("byte 0x%02x" % byte, start(b"GET /a" + bytes([byte]) + b"b HTTP/1.1"), 400)
            for byte in (0x00, 0x01, 0x08, 0x0b, 0x0c, 0x0d, 0x0a, 0x1b, 0x1f, 0x7f, 0x80, 0xa0, 0xe9, 0xff)]
    refuse_table(t, rows + [
        ("fragment", start(b"GET /a#b HTTP/1.1"), 400),
        ("fragment alone", start(b"GET # HTTP/1.1"), 400),
        ("no slash first", start(b"GET a/b HTTP/1.1"), 400),
        ("query only", start(b"GET ?a=b HTTP/1.1"), 400),
        ("backslash first", start(b"GET \\a HTTP/1.1"), 400),
        ("asterisk with GET", start(b"GET * HTTP/1.1"), 400),
        ("asterisk with POST", start(b"POST * HTTP/1.1"), 400),
        ("asterisk and more", start(b"OPTIONS *a HTTP/1.1"), 400),
        ("authority with GET", start(b"GET a:80 HTTP/1.1"), 400),
        ("absolute, other scheme", start(b"GET ftp://a/ HTTP/1.1"), 400),
        ("absolute, empty host", start(b"GET http:///b HTTP/1.1"), 400),
        ("absolute, user", start(b"GET http://user@a/ HTTP/1.1"), 400),
        ("absolute, user and password", start(b"GET http://user:pass@a/ HTTP/1.1"), 400),
        ("absolute, port too large", start(b"GET http://a:65536/ HTTP/1.1"), 400),
        ("absolute, port not a number", start(b"GET http://a:8o/ HTTP/1.1"), 400),
        ("absolute, bracket open", start(b"GET http://[::1/ HTTP/1.1"), 400),
        ("absolute, one slash", start(b"GET http:/a HTTP/1.1"), 400),
        ("absolute, fragment", start(b"GET http://a/b#c HTTP/1.1"), 400),
        ("absolute, backslash", start(b"GET http://a\\@b/ HTTP/1.1"), 400),
    ])


def test_9110_9_3_6_connect_is_refused(t):
    refuse_table(t, [
        ("authority", start(b"CONNECT a:443 HTTP/1.1"), 405),
        ("with a body announced", lines(b"CONNECT a:443 HTTP/1.1", b"Host: a:443", b"Content-Length: 5") + b"hello", 405),
        ("path", start(b"CONNECT / HTTP/1.1"), 400, 405),
    ])


def test_9110_7_2_bad_hosts(t):
    def with_host(value):
        return lines(b"GET / HTTP/1.1", b"Host: " + value)
    values = [b"a b", b"a,b", b"user@a", b"a:b", b"a:65536", b"a:-1", b"a:+1", b"a:80:90", b"a: 80", b"[::1", b"::1",
              b"[::1]x", b"[::1]:x", b"[]", b"[g::1]", b"a/b", b"http://a", b"a#b", b"a?b", b"a\\b", b"a\"b", b"a<b>",
              b"a:99999999999999999999", b"a%", b"a%zz", b"a\xe9", b"@", b":80:", b"a\tb", b"a{b}", b"a|b", b"a^b", b"a`b"]
    refuse_table(t, [("Host: %r" % value, with_host(value), 400) for value in values] + [
        ("none in 1.1", lines(b"GET / HTTP/1.1", b"A: b"), 400),
        ("none in 1.2", lines(b"GET / HTTP/1.2", b"A: b"), 400),
        ("twice, differing", lines(b"GET / HTTP/1.1", b"Host: a", b"Host: b"), 400),
        ("twice, the same", lines(b"GET / HTTP/1.1", b"Host: a", b"Host: a"), 400),
        ("twice in 1.0", lines(b"GET / HTTP/1.0", b"Host: a", b"Host: b"), 400),
        ("invalid in 1.0", lines(b"GET / HTTP/1.0", b"Host: a b"), 400),
        ("invalid beside an absolute target", lines(b"GET http://a/ HTTP/1.1", b"Host: a b"), 400),
        ("none beside an absolute target", lines(b"GET http://a/ HTTP/1.1", b"A: b"), 400),
    ])


def test_9112_5_bad_fields(t):
    def with_field(line):
        return lines(b"GET / HTTP/1.1", b"Host: a", line, b"Z: z")
    rows = [("control byte 0x%02x in a value" % byte, with_field(b"X: a" + bytes([byte]) + b"b"), 400)
            for byte in (0x00, 0x01, 0x07, 0x08, 0x0a, 0x0b, 0x0c, 0x0d, 0x1b, 0x1f, 0x7f)]
    rows += [("%r in a name" % chr(byte), with_field(b"X" + bytes([byte]) + b"Y: a"), 400)
             for byte in b"\0\x01\t \"(),/;<=>?@[\\]{}\x7f\x80\xe9\xff"]
    refuse_table(t, rows + [
        ("space before the colon", with_field(b"X : a"), 400),
        ("tab before the colon", with_field(b"X\t: a"), 400),
        ("space before the colon of Content-Length", with_field(b"Content-Length : 5"), 400),
        ("space before the colon of Transfer-Encoding", with_field(b"Transfer-Encoding : chunked"), 400),
        ("empty name", with_field(b": a"), 400),
        ("no colon", with_field(b"X"), 400),
        ("no colon, spaces", with_field(b"X a b"), 400),
        ("folded by a space", with_field(b"X: a\r\n b"), 400),
        ("folded by a tab", with_field(b"X: a\r\n\tb"), 400),
        ("folded, empty", with_field(b"X: a\r\n "), 400),
        ("folded Host", lines(b"GET / HTTP/1.1", b"Host: a\r\n b"), 400),
        ("folded Transfer-Encoding", with_field(b"Transfer-Encoding:\r\n chunked"), 400),
        ("space before the first name", lines(b"GET / HTTP/1.1", b" X: a", b"Host: a"), 400),
        ("a line of blanks first", lines(b"GET / HTTP/1.1", b"  ", b"Host: a"), 400),
        ("bare LF behind the request line", b"GET / HTTP/1.1\nHost: a\r\n\r\n", 400),
        ("bare LF behind a field", b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", 400),
        ("bare LF only", b"GET / HTTP/1.1\nHost: a\n\n", 400),
        ("bare LF at the end of the head", b"GET / HTTP/1.1\r\nHost: a\r\n\n", 400),
        ("bare CR behind a field", b"GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", 400),
        ("CR CR LF", b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", 400),
        ("CR CR LF at the end of the head", b"GET / HTTP/1.1\r\nHost: a\r\n\r\r\n", 400),
        ("bare CR behind the request line", b"GET / HTTP/1.1\rHost: a\r\n\r\n", 400),
        ("NUL in the empty line", b"GET / HTTP/1.1\r\nHost: a\r\n\0\r\n", 400),
    ])


# What is sent, and what of the request line the origin must see. All answered by 200.
ODD_LINES = [
    ("one empty line first", b"\r\nGET /x HTTP/1.1\r\n", "GET", "/x"),
    ("minor version 2", b"GET /x HTTP/1.2\r\n", "GET", "/x"),
    ("minor version 9", b"GET /x HTTP/1.9\r\n", "GET", "/x"),
    ("minor version 0", b"GET /x HTTP/1.0\r\n", "GET", "/x"),
    ("method in lower case", b"get /x HTTP/1.1\r\n", "get", "/x"),
    ("method unheard of", b"BREW /x HTTP/1.1\r\n", "BREW", "/x"),
    ("method of odd bytes", b"!#$%&'*+-.^_`|~0 /x HTTP/1.1\r\n", "!#$%&'*+-.^_`|~0", "/x"),
    ("method M-SEARCH", b"M-SEARCH /x HTTP/1.1\r\n", "M-SEARCH", "/x"),
    ("dots are left alone", b"GET /a/../b/./c HTTP/1.1\r\n", "GET", "/a/../b/./c"),
    ("slashes are left alone", b"GET //a///b HTTP/1.1\r\n", "GET", "//a///b"),
    ("escapes are left alone", b"GET /%41%2f%00%zz%e9% HTTP/1.1\r\n", "GET", "/%41%2f%00%zz%e9%"),
    ("query of odd bytes", b"GET /?a=%20&b=[]{}|\\^`\"<>;,'!$()*+:@=?/ HTTP/1.1\r\n", "GET",
     "/?a=%20&b=[]{}|\\^`\"<>;,'!$()*+:@=?/"),
    ("empty query", b"GET /x? HTTP/1.1\r\n", "GET", "/x?"),
    ("parameters", b"GET /x;y=1;z HTTP/1.1\r\n", "GET", "/x;y=1;z"),
    ("an address in the path", b"GET /http://b/c HTTP/1.1\r\n", "GET", "/http://b/c"),
]


def test_9112_3_odd_but_valid_lines(t):
    origin = t.origin()
    sidecar = t.sidecar(origin)
    for name, line, method, target in ODD_LINES:
        with t.case(name):
            response = sidecar.raw(line + b"Host: a\r\n\r\n")
            equal(response.status, 200, "status")
            equal((origin.last().method, origin.last().target), (method, target), "what the origin saw")
            equal(origin.last().minor, 1, "our minor version")


def test_9112_5_1_odd_but_valid_fields(t):
    """Values pass unchanged but for the white space around them."""
    origin = t.origin()
    sidecar = t.sidecar(origin)
    rows = [("empty", b"X:", ""), ("blank", b"X: \t ", ""), ("no space", b"X:a", "a"),
            ("white space around", b"X:\t  a b \t", "a b"), ("tab inside", b"X: a\tb", "a\tb"),
            ("obs-text", b"X: caf\xe9 \xff\x80", "caf\xe9 \xff\x80"), ("utf-8", b"X: \xc3\xa9", "\xc3\xa9"),
            ("colons", b"X: :a:b:", ":a:b:"), ("quoted", b"X: \"a, b\\\"c\"", "\"a, b\\\"c\""),
            ("commas", b"X: ,a,,b,", ",a,,b,"), ("long", b"X: " + b"a" * 8000, "a" * 8000)]
    for name, line, value in rows:
        with t.case(name):
            equal(sidecar.raw(b"GET / HTTP/1.1\r\nHost: a\r\n" + line + b"\r\n\r\n").status, 200, "status")
            equal(origin.last().all("X"), [value], "value at the origin")
    with t.case("name of odd bytes"):
        name = "!#$%&'*+-.^_`|~09azAZ"
        sidecar.request("/", fields=[(name, "a")])
        equal([v for n, v in origin.last().fields if n == name], ["a"], "value at the origin")


def test_9110_5_3_order_and_case_are_kept(t):
    origin = t.origin()
    sidecar = t.sidecar(origin)
    sent = [("aCCept", "b"), ("Accept", "a"), ("X-B", "1"), ("x-a", "2"), ("X-B", "3"), ("Cookie", "c=1"),
            ("COOKIE", "d=2"), ("Accept-Language", "de"), ("accept-language", "en"), ("User-Agent", "wire"),
            ("Authorization", "Bearer po_x"), ("X-PromptOps-Timestamp", "2026-01-01T00:00:00"), ("X-PromptOps-Signature", "00ff")]
    equal(sidecar.request("/", fields=sent).status, 200, "status")
    names = {n.lower() for n, _ in sent}
    equal([f for f in origin.last().fields if f[0].lower() in names], sent, "fields at the origin")


def test_9110_5_3_order_and_case_of_an_answer_are_kept(t):
    origin = t.origin()
    sent = [("SET-Cookie", "a=1"), ("X-B", "1"), ("Set-Cookie", "b=2; Path=/"), ("x-a", ""), ("X-B", "2"), ("vARY", "Accept"),
            ("Vary", "Origin"), ("Server", "uvicorn"), ("Date", "Tue, 06 Jan 2026 10:00:00 GMT"), ("X-Obs", "caf\xe9"),
            ("X-RateLimit-Remaining-Minute", "59"), ("WWW-Authenticate", "Bearer"), ("Link", "</a>; rel=b, </c>")]
    origin.default = make_response(200, sent, b"ok")
    response = t.sidecar(origin).request("/")
    names = {n.lower() for n, _ in sent}
    equal([f for f in response.fields if f[0].lower() in names], sent, "fields at the client")


LIMITS = {"listen.max_header_bytes": "2KiB", "listen.max_header_fields": 16, "listen.max_target_bytes": 256}


def head_of(size):
    """A request whose head has so many bytes."""
    head = b"GET / HTTP/1.1\r\nHost: a\r\nX: "
    return head + b"x" * (size - len(head) - 4) + b"\r\n\r\n"


def fields_of(count):
    return b"GET / HTTP/1.1\r\nHost: a\r\n" + b"".join(b"X-%d: x\r\n" % i for i in range(count - 1)) + b"\r\n"


def test_6585_5_limits_of_the_head(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, LIMITS)

    def target(n):
        return b"GET /" + b"t" * (n - 1) + b" HTTP/1.1\r\nHost: a\r\n\r\n"
    rows = [("target at the limit", target(256), 200), ("target one over", target(257), 414),
            ("target far over", target(1500), 414), ("head at the limit", head_of(2048), 200),
            ("head one over", head_of(2049), 431), ("head far over", head_of(60000), 431),
            ("fields at the limit", fields_of(16), 200), ("fields one over", fields_of(17), 431),
            ("fields far over", fields_of(170), 431)]
    for name, data, status in rows:
        with t.case(name):
            if status == 200:
                equal(sidecar.raw(data).status, 200, "status")
            else:
                refused(sidecar, origin, data, [status])


def test_6585_5_a_head_without_end_is_refused_before_it_ends(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, LIMITS)
    for name, data, status in [("target", b"GET /" + b"t" * 3000, 414), ("field", b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 3000, 431),
                               ("name", b"GET / HTTP/1.1\r\nHost: a\r\n" + b"x" * 3000, 431)]:
        with t.case(name):
            with sidecar.client() as client:
                client.send_if_open(data)
                equal(client.response().status, status, "status")
                client.closed()
    equal(origin.count(), 0, "requests at the origin")


def test_9112_2_any_cut_gives_the_same(t):
    """The request is sent in two segments, cut at every byte; then byte by byte."""
    origin = t.origin()
    sidecar = t.sidecar(origin)
    data = b"POST /cut?a=b HTTP/1.1\r\nHost: a\r\nX-Y: z\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: u\r\n\r\n"
    with sidecar.client() as client:
        for at in range(1, len(data)):
            client.send(data[:at]).send(data[at:])
            equal(client.response("POST").status, 200, "status when cut at %d" % at)
            equal((origin.last().target, origin.last().body), ("/cut?a=b", b"abc"), "request when cut at %d" % at)
        client.pieces(data)
        equal(client.response("POST").status, 200, "status when sent byte by byte")
    with t.case("bad ones, byte by byte"):
        for bad, status in [(b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n", 400), (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505)]:
            with sidecar.client() as client:
                try:
                    client.pieces(bad)
                except (BrokenPipeError, ConnectionResetError):
                    pass                     # refused before its end
                equal(client.response().status, status, "status")
