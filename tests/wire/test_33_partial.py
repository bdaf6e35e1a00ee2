"""Partial content (RFC 9111 3.3 and 3.4, RFC 9110 14 and 15.3.7): kept, reused, joined, made whole; only with the same strong validator."""
from harness import *
from test_30_cache import PLAIN, cc, date

DOCUMENT = b"0123456789ABCDEF"


class Document:
    """An origin's document with an ETag, which knows Range and If-Range as RFC 9110 has them."""

    def __init__(self, origin, path, etag='"v1"', document=DOCUMENT, fields=(("Cache-Control", "max-age=60"),)):
        self.etag, self.document, self.fields, self.seen = etag, document, list(fields), []
        origin.on[path] = self.answer

    def answer(self, conn, request):
        self.seen.append(request)
        fields = [("Date", date())] + ([("ETag", self.etag)] if self.etag else []) + self.fields
        wanted, condition = request.get("Range"), request.get("If-Range")
        if not wanted or (condition and (condition != self.etag or condition.startswith("W/"))):
            conn.reply(200, fields, self.document)
            return
        first, _, last = wanted.partition("=")[2].partition("-")
        size = len(self.document)
        begin, end = (int(first), int(last) if last else size - 1) if first else (size - int(last), size - 1)
        conn.reply(206, fields + [("Content-Range", "bytes %d-%d/%d" % (begin, min(end, size - 1), size))], self.document[begin:end + 1])


def ranged(sidecar, path, value, *more):
    return sidecar.request(path, fields=[("Range", "bytes=" + value)] + list(more))


def test_9111_3_3_a_part_answers_ranges_inside_it(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, PLAIN)
    stored = Document(origin, "/p")
    check("stored" in ranged(sidecar, "/p", "4-11").get("Cache-Status"), "Cache-Status of the first")
    for value, body, content_range in [("4-11", b"456789AB", "bytes 4-11/16"), ("5-6", b"56", "bytes 5-6/16"), ("11-11", b"B", "bytes 11-11/16")]:
        with t.case("inside: " + value):
            response = ranged(sidecar, "/p", value)
            equal((response.status, response.body, response.all("Content-Range"), response.get("ETag")), (206, body, [content_range], '"v1"'), "answer")
            check("hit" in response.get("Cache-Status"), "Cache-Status: %r" % response.get("Cache-Status"))
    equal(len(stored.seen), 1, "requests at the origin")
    for number, value in enumerate(["3-5", "10-12", "12-", "-4", "4-"]):
        with t.case("not inside: " + value):
            path = "/q%d" % number
            document = Document(origin, path)
            ranged(sidecar, path, "4-11")
            response = ranged(sidecar, path, value)
            equal((response.status, len(document.seen)), (206, 2), "status, requests at the origin")
            check("fwd=partial" in response.get("Cache-Status"), "Cache-Status: %r" % response.get("Cache-Status"))
    with t.case("a suffix is counted from the end of the whole"):
        document = Document(origin, "/s")
        ranged(sidecar, "/s", "-6")
        equal([ranged(sidecar, "/s", v).body for v in ("-6", "-1", "14-", "12-13")], [b"ABCDEF", b"F", b"EF", b"CD"], "bodies")
        equal(len(document.seen), 1, "requests at the origin")
    with t.case("If-Range that does not hold asks the origin"):
        document = Document(origin, "/ir")
        ranged(sidecar, "/ir", "0-3")
        equal(ranged(sidecar, "/ir", "0-3", ("If-Range", '"other"')).status, 200, "status")
        equal(len(document.seen), 2, "requests at the origin")
    with t.case("If-None-Match that matches is 304"):
        document = Document(origin, "/inm")
        ranged(sidecar, "/inm", "0-3")
        equal(ranged(sidecar, "/inm", "0-3", ("If-None-Match", '"v1"')).status, 304, "status")
        equal(len(document.seen), 1, "requests at the origin")
    with t.case("a part of one credential is not another's"):
        document = Document(origin, "/cred")
        ranged(sidecar, "/cred", "0-3", ("Authorization", "Bearer a"))
        ranged(sidecar, "/cred", "0-3", ("Authorization", "Bearer b"))
        equal(len(document.seen), 2, "requests at the origin")
    with t.case("no-store is not kept"):
        document = Document(origin, "/ns", fields=cc("no-store"))
        for _ in range(2):
            ranged(sidecar, "/ns", "0-3")
        equal(len(document.seen), 2, "requests at the origin")
    with t.case("an answer of 200 to a Range is kept as the whole"):
        origin.on["/whole"] = make_response(200, cc("max-age=60") + [("Date", date())], DOCUMENT)
        ranged(sidecar, "/whole", "0-3")
        equal((ranged(sidecar, "/whole", "1-2").body, sidecar.request("/whole").body, origin.count("/whole")), (b"12", DOCUMENT, 1), "bodies, requests")


def test_9110_14_4_parts_that_are_not_to_be_trusted(t):
    """What does not say clearly which bytes it brings goes to its client and is not kept."""
    origin = t.origin()
    sidecar = t.sidecar(origin, PLAIN)
    for number, (name, fields, status) in enumerate([
            ("no Content-Range", [], 206), ("unknown total", [("Content-Range", "bytes 4-7/*")], 206), ("last before first", [("Content-Range", "bytes 7-4/16")], 206),
            ("beyond the total", [("Content-Range", "bytes 4-7/7")], 206), ("another unit", [("Content-Range", "lines 4-7/16")], 206),
            ("twice", [("Content-Range", "bytes 4-7/16"), ("Content-Range", "bytes 4-7/16")], 206), ("another length than the body's", [("Content-Range", "bytes 4-9/16")], 206),
            ("digits without end", [("Content-Range", "bytes 4-%s/%s" % ("9" * 60, "9" * 60))], 206), ("multipart", [("Content-Type", "multipart/byteranges; boundary=x")], 206),
            ("416", [("Content-Range", "bytes */16")], 416)]):
        with t.case(name):
            path = "/bad%d" % number
            origin.on[path] = make_response(status, cc("max-age=60") + fields, b"4567")
            for _ in range(2):
                response = ranged(sidecar, path, "4-7")
                equal((response.status, response.body), (status, b"4567"), "answer")
            equal(origin.count(path), 2, "requests at the origin")
            origin.on[path] = make_response(200, cc("max-age=60"), b"whole")
            equal(sidecar.request(path).body, b"whole", "the whole, later")


def test_9111_3_4_parts_are_joined(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, PLAIN)
    with t.case("parts that meet"):
        document = Document(origin, "/j")
        for value in ("4-7", "8-11"):
            ranged(sidecar, "/j", value)
        equal(ranged(sidecar, "/j", "5-10").body, b"56789A", "body over both")
        equal(len(document.seen), 2, "requests at the origin")
    with t.case("to the last byte: the whole"):
        document = Document(origin, "/w")
        for value in ("8-", "0-9"):
            ranged(sidecar, "/w", value)
        response = sidecar.request("/w")
        equal((response.status, response.body, response.has("Content-Range"), len(document.seen)), (200, DOCUMENT, False, 2), "answer, requests at the origin")
    for name, etags in [("another ETag", ('"v1"', '"v2"')), ("a weak ETag", ('W/"v1"', 'W/"v1"')), ("no ETag", (None, None))]:
        with t.case("never with " + name):
            path = "/n-" + name.replace(" ", "-")
            document = Document(origin, path, etags[0])
            ranged(sidecar, path, "0-7")
            document.etag, document.document = etags[1], DOCUMENT[::-1]
            ranged(sidecar, path, "8-15")
            equal(sidecar.request(path).body, DOCUMENT[::-1], "the whole")
            equal(len(document.seen), 3, "requests at the origin")


def test_9111_3_3_a_beginning_is_completed(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, PLAIN)
    with t.case("the rest alone is asked for"):
        document = Document(origin, "/c")
        ranged(sidecar, "/c", "0-5")
        response = sidecar.request("/c")
        equal((response.status, response.body, response.all("Content-Length"), response.has("Content-Range")), (200, DOCUMENT, ["16"], False), "answer")
        equal((document.seen[1].get("Range"), document.seen[1].get("If-Range")), ("bytes=6-", '"v1"'), "what the origin was asked")
        check("fwd=partial" in response.get("Cache-Status") and "stored" in response.get("Cache-Status"), "Cache-Status: %r" % response.get("Cache-Status"))
        equal((sidecar.request("/c").body, len(document.seen)), (DOCUMENT, 2), "from the store")
    with t.case("it has changed: If-Range brings all of it"):
        document = Document(origin, "/ch")
        ranged(sidecar, "/ch", "0-5")
        document.etag, document.document = '"v2"', DOCUMENT[::-1]
        equal([sidecar.request("/ch").body for _ in range(2)], [DOCUMENT[::-1]] * 2, "bodies")
        equal(len(document.seen), 2, "requests at the origin")
    for name, fields in [("another ETag", [("ETag", '"x"'), ("Content-Range", "bytes 6-15/16")]), ("other bytes", [("ETag", '"v1"'), ("Content-Range", "bytes 5-14/16")]),
                         ("another total", [("ETag", '"v1"'), ("Content-Range", "bytes 6-15/17")]), ("no ETag", [("Content-Range", "bytes 6-15/16")])]:
        with t.case("a 206 that is not the rest (%s): all is asked for" % name):
            path = "/odd-" + name.replace(" ", "-")
            document = Document(origin, path)
            ranged(sidecar, path, "0-5")

            def odd(conn, request, document=document, fields=fields):
                if request.has("Range"):
                    document.seen.append(request)
                    conn.reply(206, cc("max-age=60") + fields, b"x" * 10)
                else:
                    document.answer(conn, request)
            origin.on[path] = odd
            equal((sidecar.request(path).body, [r.get("Range") for r in document.seen]), (DOCUMENT, ["bytes=0-5", "bytes=6-", None]), "body, Ranges at the origin")
    for name, rest in [("fewer", b"678"), ("more", b"6789ABCDEFGHIJ")]:
        with t.case("a chunked 206 of %s bytes than it says: all is asked for, and the client's next answer is its own" % name):
            path = "/ch-" + name
            document = Document(origin, path)
            ranged(sidecar, path, "0-5")

            def lying(conn, request, document=document, rest=rest):
                if request.has("Range"):
                    conn.send(b'HTTP/1.1 206 Partial Content\r\nETag: "v1"\r\nContent-Range: bytes 6-15/16\r\nTransfer-Encoding: chunked\r\n\r\n' + chunked(rest))
                else:
                    document.answer(conn, request)
            origin.on[path] = lying
            with sidecar.client() as client:
                equal([client.request(path).body, client.request("/else").body], [DOCUMENT, b"ok"], "bodies")
    with t.case("416 to it: all is asked for"):
        document = Document(origin, "/416")
        ranged(sidecar, "/416", "0-5")
        origin.on["/416"] = lambda conn, request: conn.reply(416, [("Content-Range", "bytes */4")], b"") if request.has("Range") else conn.reply(200, cc("max-age=60"), b"four")
        equal(sidecar.request("/416").body, b"four", "body")
    with t.case("a weak ETag: all is asked for"):
        document = Document(origin, "/weak", 'W/"v1"')
        ranged(sidecar, "/weak", "0-5")
        equal((sidecar.request("/weak").body, document.seen[1].get("Range")), (DOCUMENT, None), "body, Range")
    with t.case("others who come meanwhile read along, from the first byte"):
        document = Document(origin, "/many")
        ranged(sidecar, "/many", "0-5")
        release = []

        def held(conn, request):
            document.seen.append(request)
            conn.send(b"HTTP/1.1 206 Partial Content\r\nCache-Control: max-age=60\r\nETag: \"v1\"\r\nContent-Range: bytes 6-15/16\r\nContent-Length: 10\r\n\r\n")
            wait_for(lambda: release, "leave to go on")
            conn.send(DOCUMENT[6:])
        origin.on["/many"] = held
        clients = [t.client(sidecar) for _ in range(5)]
        for client in clients:
            client.send(make_request("/many"))
        for client in clients:
            equal(client.head().status, 200, "status")
            equal(client.exactly(6), DOCUMENT[:6], "first bytes")
        release.append(1)
        equal([client.exactly(10) for client in clients], [DOCUMENT[6:]] * 5, "last bytes")
        equal(len(document.seen), 2, "requests at the origin")


def test_9111_3_3_what_broke_off_is_completed(t):
    """The client sees it broken; the next one costs only the missing bytes."""
    origin = t.origin()
    sidecar = t.sidecar(origin, PLAIN)
    size = 1 << 18
    whole = bytes(range(256)) * (size // 256)
    for name, etag, wanted in [("a strong ETag", '"v1"', "bytes=%d-" % (size // 2)), ("a weak ETag", 'W/"v1"', None)]:
        with t.case(name):
            path = "/b-" + name.replace(" ", "-")
            document = Document(origin, path, etag, whole)
            intact = origin.on[path]

            def cut(conn, request, etag=etag):
                conn.send(make_response(200, cc("max-age=60") + [("ETag", etag), ("Content-Length", str(size))], b"", length=False) + whole[:size // 2])
                conn.close()
                return False
            origin.on[path] = cut
            with sidecar.client() as client:
                client.send(make_request(path))
                broken(client)
            origin.on[path] = intact
            equal(sidecar.request(path).body, whole, "body")
            equal(document.seen[0].get("Range"), wanted, "Range at the origin")
            equal((sidecar.request(path).body, len(document.seen)), (whole, 1), "from the store")
