"""Methods, expectations and what answers have no body (RFC 9110 9, 10.1.1; RFC 9112 3.2)."""
import threading

from harness import *


def test_9110_9_all_methods_pass(t):
    origin = t.origin()
    sidecar = t.sidecar(origin)
    for method in ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND", "QUERY"):
        for body in (None, b"", b"hello"):
            with t.case("%s with %r" % (method, body)):
                equal(sidecar.request("/m", method, body=body).status, 200, "status")
                equal((origin.last().method, origin.last().target, origin.last().body), (method, "/m", body or b""), "at the origin")


def test_9110_9_3_2_head(t):
    """No body whatever the answer claims; Content-Length stays what the origin said; the connection lives on."""
    origin = t.origin()
    sidecar = t.sidecar(origin)
    rows = [("length", b"Content-Length: 500\r\n", ["500"]), ("no length", b"", []), ("chunked", b"Transfer-Encoding: chunked\r\n", []),
            ("length 0", b"Content-Length: 0\r\n", ["0"])]
    with sidecar.client() as client:
        for name, line, lengths in rows:
            with t.case(name):
                origin.on["/h"] = b"HTTP/1.1 200 OK\r\n" + line + b"\r\n"
                response = client.request("/h", "HEAD")
                equal((response.status, response.all("Content-Length")), (200, lengths), "status and length")
                equal(origin.last().method, "HEAD", "method at the origin")
                equal(client.request("/next").body, b"ok", "the next answer on the connection")
    with t.case("404"):
        origin.on["/h"] = b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\n"
        equal(sidecar.request("/h", "HEAD").status, 404, "status")


def test_9110_9_3_8_trace_is_refused(t):
    """TRACE tells the application what secrets travel: it is not forwarded."""
    origin = t.origin()
    sidecar = t.sidecar(origin)
    for fields in ([], [("Max-Forwards", "0")], [("Max-Forwards", "5")]):
        with t.case(repr(fields)):
            response = sidecar.request("/", "TRACE", fields + [("Authorization", "Bearer SECRET")])
            check(response.status == 405 or fields == [("Max-Forwards", "0")] and response.status == 200, "status %d" % response.status)
            check(b"SECRET" not in response.body, "the credential came back")
    equal(origin.count(), 0, "requests at the origin")


def test_9110_9_3_7_options(t):
    origin = t.origin()
    sidecar = t.sidecar(origin)
    with t.case("asterisk passes as it is"):
        equal(sidecar.request("*", "OPTIONS").status, 200, "status")
        equal((origin.last().method, origin.last().target), ("OPTIONS", "*"), "at the origin")
    with t.case("path"):
        equal(sidecar.request("/a", "OPTIONS").status, 200, "status")
        equal(origin.last().target, "/a", "target at the origin")
    for target in ("http://other.example", "http://other.example/"):
        with t.case("%s: 9112 3.2.4" % target):
            equal(sidecar.request(target, "OPTIONS").status, 200, "status")
            equal(origin.last().target, "/" if target.endswith("/") else "*", "target at the origin")


def test_9110_7_6_2_max_forwards(t):
    """0 is answered here; more is counted down; other methods ignore it."""
    origin = t.origin()
    sidecar = t.sidecar(origin)
    for target, hops in [("*", "0"), ("/a", "0"), ("/a", "000")]:
        with t.case("OPTIONS %s, %s" % (target, hops)):
            before = origin.count()
            response = sidecar.request(target, "OPTIONS", [("Max-Forwards", hops)])
            check(response.status in (200, 204), "status %d" % response.status)
            equal(origin.count(), before, "requests at the origin")
    for sent, seen in [("1", "0"), ("10", "9"), ("007", "6")]:
        with t.case("OPTIONS, %s" % sent):
            sidecar.request("/a", "OPTIONS", [("Max-Forwards", sent)])
            equal(origin.last().get("Max-Forwards"), seen, "Max-Forwards at the origin")
    with t.case("GET, 0"):
        equal(sidecar.request("/g", fields=[("Max-Forwards", "0")]).status, 200, "status")
        equal((origin.last().target, origin.last().get("Max-Forwards")), ("/g", "0"), "at the origin")
    for value in ("x", "-1", "", "99999999999999999999999"):
        with t.case("OPTIONS, %r" % value):
            check(sidecar.request("/a", "OPTIONS", [("Max-Forwards", value)]).status in (200, 400), "status")


EXPECT = [("Expect", "100-continue")]


def head_with_expect(length=5, target="/e", version="1.1"):
    return make_request(target, "POST", EXPECT + [("Content-Length", str(length))], version=version)


def test_9110_10_1_1_expect_is_answered_before_the_body(t):
    """The client waits for 100: whether the sidecar or the origin gives it, it must come, and then the body passes."""
    def serve(conn):
        while True:
            request = conn.request(body=False)
            if request.members("Expect"):
                conn.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            read_body(conn.reader, request)
            conn.origin.record(request)
            conn.reply(body=request.body)
    origin = t.origin(serve)
    sidecar = t.sidecar(origin)
    for name, head, body in [("length", head_with_expect(), b"hello"),
                             ("chunked", make_request("/e", "POST", EXPECT + [("Transfer-Encoding", "chunked")]), chunked(b"hello")),
                             ("odd case", make_request("/e", "POST", [("expect", "100-Continue"), ("Content-Length", "5")]), b"hello")]:
        with t.case(name):
            with sidecar.client() as client:
                client.send(head)
                interim = client.head()
                equal(interim.status, 100, "interim status")
                client.send(body)
                response = client.response("POST")
                equal((response.status, response.body, response.interim), (200, b"hello", []), "answer")
                equal(client.request("/next", "POST", body=b"x").body, b"x", "the next answer on the connection")


def test_9110_10_1_1_expect_and_an_origin_that_says_nothing(t):
    """An HTTP/1.1 origin without 100 must not leave the client waiting for ever."""
    origin = t.origin()
    sidecar = t.sidecar(origin)
    with sidecar.client() as client:
        client.send(head_with_expect())
        wait_for(lambda: origin.connections and b"\r\n\r\n" in origin.connections[0].reader.seen or client_has_bytes(client), "the head at the origin, or 100")
        client.send(b"hello")
        response = client.response("POST")
        equal(response.status, 200, "status")
        check(all(i.status == 100 for i in response.interim), "interim answers")
    equal(origin.last().body, b"hello", "body at the origin")


def client_has_bytes(client):
    import select
    return bool(select.select([client.sock], [], [], 0)[0])


def test_9110_10_1_1_expect_with_the_body_at_once(t):
    origin = t.origin()
    sidecar = t.sidecar(origin)
    with sidecar.client() as client:
        client.send(head_with_expect() + b"hello")
        equal(client.response("POST").status, 200, "status")
        equal(origin.last().body, b"hello", "body at the origin")
        equal(client.request("/next").status, 200, "the next status")


def test_9110_10_1_1_expect_refused_by_the_origin(t):
    """417 or 401 in place of 100: the client gets it, the body is never wanted, the upstream connection is not used again."""
    def serve(conn):
        request = conn.request(body=False)
        conn.origin.record(request)
        if request.members("Expect") or request.get("Content-Length") == "500000":
            conn.reply(401, body=b"no")
            conn.gone()
        else:
            conn.reply(200)
            conn.gone()
    origin = t.origin(serve)
    sidecar = t.sidecar(origin)
    with sidecar.client() as client:
        client.send(head_with_expect(500000))
        response = client.response("POST")
        equal((response.status, response.body), (401, b"no"), "answer")
    equal(sidecar.request("/next").status, 200, "the next status")
    equal(len(origin.connections), 2, "upstream connections")


def test_9110_10_1_1_other_expectations_are_417(t):
    origin = t.origin()
    sidecar = t.sidecar(origin)
    for value in ("200-ok", "100-continue, x", "x", "100-continue; a=b", "100-continued"):
        with t.case(value):
            with sidecar.client() as client:
                client.send(make_request("/", "POST", [("Expect", value)], b"hello"))
                made_up(client.response("POST"), 417)
    equal(origin.count(), 0, "requests at the origin")


def test_9110_10_1_1_expect_of_an_http_1_0_client_is_ignored(t):
    origin = t.origin()
    sidecar = t.sidecar(origin)
    response = sidecar.raw(head_with_expect(version="1.0") + b"hello", "POST")
    equal((response.status, response.interim), (200, []), "answer")
    equal(origin.last().body, b"hello", "body at the origin")


def test_9110_15_2_1_expect_and_a_late_100(t):
    """The origin takes its time: the body waits for it, or has gone before; either way one final answer."""
    release = threading.Event()

    def serve(conn):
        request = conn.request(body=False)
        release.wait(PATIENCE)
        conn.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        read_body(conn.reader, request)
        conn.reply(body=request.body)
        conn.gone()
    origin = t.origin(serve)
    sidecar = t.sidecar(origin)
    with sidecar.client() as client:
        client.send(head_with_expect())
        wait_for(lambda: origin.connections and b"\r\n\r\n" in origin.connections[0].reader.seen, "the head at the origin")
        release.set()
        equal(client.head().status, 100, "interim status")
        client.send(b"hello")
        response = client.response("POST")
        equal((response.status, response.body), (200, b"hello"), "answer")


def test_method_names_are_case_sensitive(t):
    """`head` is not HEAD: its answer has a body."""
    origin = t.origin()
    sidecar = t.sidecar(origin)
    response = sidecar.request("/", "head")
    equal(response.body, b"ok", "body")
