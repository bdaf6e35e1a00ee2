"""Values that are meant to hurt: each is named in Cache-Status, counted, and survived; the next plain request is served and stored."""
from harness import *
from test_30_cache import ETAG, PLAIN, SHARED, Counted, cc, date

BIG = 40000                      # bytes of one value; the head limit is 64 KiB

# name, fields of the answer, may it be a hit the second time (None: either way), detail in Cache-Status
ANSWERS = [
    ("Vary of 17 names", cc("max-age=60") + [("Vary", ", ".join("x-%d" % n for n in range(17)))], False, "unusable-vary"),
    ("Vary of one huge name", cc("max-age=60") + [("Vary", "x" * BIG)], False, "unusable-vary"),
    ("Vary of ten thousand names", cc("max-age=60") + [("Vary", ",".join("a%d" % n for n in range(7000)))], False, "unusable-vary"),
    ("Vary of thousands of commas", cc("max-age=60") + [("Vary", "," * BIG)], True, None),
    ("Vary of the same name thousands of times", cc("max-age=60") + [("Vary", "accept," * 5000)], True, None),
    ("Vary on 60 lines", cc("max-age=60") + [("Vary", "x-%d" % n) for n in range(60)], False, "unusable-vary"),
    ("Vary with 8-bit bytes", cc("max-age=60") + [("Vary", "\xe9\xff")], False, "unusable-vary"),
    ("Vary with an open quote", cc("max-age=60") + [("Vary", '"Accept')], False, "unusable-vary"),
    ("Cache-Control of ten thousand members", cc("max-age=60" + ",a=b" * 10000), True, None),
    ("Cache-Control of commas", cc("," * BIG + "max-age=60"), True, None),
    ("Cache-Control of quotes", cc('"' * BIG), False, None),
    ("Cache-Control of backslashes in a quote", cc('a="' + "\\" * BIG + '", max-age=60'), None, None),
    ("Cache-Control with a number of 40,000 digits", cc("max-age=" + "9" * BIG), True, None),
    ("Cache-Control with 8-bit bytes", cc("max-age=60, \xff\xfe=\xe9"), True, None),
    ("33 names in no-cache", cc('max-age=60, no-cache="' + ",".join("x-%d" % n for n in range(33)) + '"'), False, "too-many-names"),
    ("32 names in no-cache", cc('max-age=60, no-cache="' + ",".join("x-%d" % n for n in range(32)) + '"'), True, None),
    ("no-cache names the fields of a cache", cc('max-age=60, no-cache="Date, Cache-Control, Vary, ETag, Content-Length"') + ETAG, True, None),
    ("Age of 40,000 digits", cc("max-age=60") + [("Age", "9" * BIG)], False, None),
    ("Age on 60 lines", cc("max-age=60") + [("Age", "1")] * 60, True, None),
    ("Age with a sign", cc("max-age=60") + [("Age", "-9223372036854775808")], True, None),
    ("Age just below 2^63", cc("max-age=60") + [("Age", "9223372036854775807")], False, None),
    ("Age and lifetime at their most", cc("max-age=2147483648, stale-while-revalidate=99999999999, stale-if-error=99999999999") + [("Age", "2147483647")], True, None),
    ("Date in the year 9999", cc("max-age=60") + [("Date", "Fri, 31 Dec 9999 23:59:59 GMT")], True, None),
    ("Date in the year 0000", cc("max-age=60") + [("Date", "Sat, 01 Jan 0000 00:00:00 GMT")], None, None),
    ("Date in 1970", cc("max-age=60") + [("Date", "Thu, 01 Jan 1970 00:00:00 GMT")], False, None),
    ("Date of 40,000 bytes", cc("max-age=60") + [("Date", "x" * BIG)], True, None),
    ("Date on 60 lines", cc("max-age=60") + [("Date", "Thu, 01 Jan 1998 00:00:00 GMT")] * 60, None, None),
    ("Expires in the year 9999", [("Date", "Sat, 01 Jan 0000 00:00:00 GMT"), ("Expires", "Fri, 31 Dec 9999 23:59:59 GMT")], None, None),
    ("Last-Modified after Date", [("Last-Modified", "Fri, 31 Dec 9999 23:59:59 GMT")], None, None),
    ("ETag of 40,000 bytes", cc("max-age=60") + [("ETag", '"' + "e" * BIG + '"')], True, None),
    ("ETag without an end", cc("max-age=60") + [("ETag", '"abc')], True, None),
    ("ETag of commas and backslashes", cc("max-age=60") + [("ETag", '"a,\\",W/"')], True, None),
    ("ETag empty", cc("max-age=60") + [("ETag", "")], True, None),
    ("ETag on 60 lines", cc("max-age=60") + [("ETag", '"%d"' % n) for n in range(60)], True, None),
    ("a hundred fields", cc("max-age=60") + [("X-%d" % n, "v" * 300) for n in range(100)], True, None),
    ("Content-Encoding on 60 lines", cc("max-age=60") + [("Content-Encoding", "x" * 300)] * 60, True, None),
    ("Content-Language of 40,000 bytes", cc("max-age=60") + [("Vary", "Accept-Language"), ("Content-Language", "e" * BIG)], True, None),
]

# name, fields of a request on a path that is stored
REQUESTS = [
    ("Cache-Control of ten thousand members", cc("a=b," * 10000)), ("Cache-Control of quotes", cc('"' * BIG)), ("max-stale without bounds", cc("max-stale=" + "9" * BIG)),
    ("min-fresh without bounds", cc("min-fresh=" + "9" * BIG)), ("max-age without bounds", cc("max-age=" + "9" * BIG)), ("If-None-Match of thousands of tags", [("If-None-Match", '"x",' * 9000)]),
    ("If-None-Match of quotes", [("If-None-Match", '"' * BIG)]), ("If-None-Match on 60 lines", [("If-None-Match", '"x"')] * 60), ("If-Modified-Since of 40,000 bytes", [("If-Modified-Since", "x" * BIG)]),
    ("Range of thousands of ranges", [("Range", "bytes=" + "0-1," * 9000)]), ("Range with huge numbers", [("Range", "bytes=%s-%s" % ("9" * 20000, "9" * 20000))]), ("Range on 60 lines", [("Range", "bytes=0-1")] * 60),
    ("If-Range of 40,000 bytes", [("Range", "bytes=0-1"), ("If-Range", "x" * BIG)]), ("Accept-Encoding of thousands of members", [("Accept-Encoding", "gzip;q=0.1," * 4000)]),
    ("Accept-Language of thousands of members", [("Accept-Language", "de;q=0.1," * 4000)]), ("Pragma of thousands of members", [("Pragma", "no-cache," * 4000)]),
]


def test_hostile_answers(t):
    for scope, base in (("private", PLAIN), ("shared", SHARED)):
        origin = t.origin()
        sidecar = t.sidecar(origin, base)
        for number, (name, fields, hit, detail) in enumerate(ANSWERS):
            with t.case("%s, %s" % (name, scope)):
                counted = Counted(origin, "/h%d" % number, fields)
                first = sidecar.request(counted.path)
                equal((first.status, first.body), (200, b"%s 1" % counted.path.encode()), "the first answer")
                check((detail or "detail=") in first.get("Cache-Status") if detail else "detail=" not in first.get("Cache-Status"), "Cache-Status: %r, wanted %r" % (first.get("Cache-Status"), detail))
                second = sidecar.request(counted.path)
                equal(second.status, 200, "the second status")
                check(hit is None or (len(counted.seen) == 1) == hit, "%d requests at the origin" % len(counted.seen))
        with t.case("and counted, " + scope):
            wanted = sum(d == "unusable-vary" for _, _, _, d in ANSWERS)
            check(sidecar.metric("promptops_cache_not_stored_total", reason="vary") >= wanted, "unusable Vary")
            check(sidecar.metric("promptops_cache_not_stored_total", reason="names") >= 1, "too many names")
        with t.case("and survived, " + scope):
            counted = Counted(origin, "/plain", cc("max-age=60"))
            equal([sidecar.request("/plain").body for _ in range(2)], [b"/plain 1"] * 2, "bodies")


def test_hostile_heads_are_refused_by_name(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, PLAIN)
    for name, data in [("more fields than are read", make_response(200, [("X-%d" % n, "v") for n in range(5000)], b"x")), ("more bytes than are read", make_response(200, [("X", "v" * 100000)], b"x")),
                       ("NUL in Vary", b"HTTP/1.1 200 OK\r\nVary: a\0b\r\nContent-Length: 1\r\n\r\nx"), ("CR in ETag", b"HTTP/1.1 200 OK\r\nETag: \"a\rb\"\r\nContent-Length: 1\r\n\r\nx")]:
        with t.case(name):
            origin.on["/bomb"] = lambda conn, request, d=data: (conn.send(d), conn.close(), False)[2]
            made_up(sidecar.request("/bomb"), 502)
    with t.case("and survived"):
        Counted(origin, "/plain", cc("max-age=60"))
        equal([sidecar.request("/plain").body for _ in range(2)], [b"/plain 1"] * 2, "bodies")


def test_hostile_requests(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, PLAIN)
    body = b"0123456789" * 10
    for number, (name, fields) in enumerate(REQUESTS):
        with t.case(name):
            path = "/q%d" % number
            origin.on[path] = make_response(200, cc("max-age=60") + ETAG + [("Date", date()), ("Vary", "Accept-Encoding, Accept-Language")], body)
            sidecar.request(path)
            response = sidecar.request(path, fields=fields)
            check(response.status in (200, 206, 304, 416, 431), "status %d" % response.status)
            check(response.status != 200 or response.body == body, "body")
            equal(sidecar.request(path).body, body, "the next one")


def test_a_flood_of_variants_is_bounded(t):
    """One URI, a Vary, and thousands of values: it takes no more than its share, and others are not put out by it."""
    origin = t.origin()
    sidecar = t.sidecar(origin, PLAIN)
    origin.on["/v"] = make_response(200, cc("max-age=60") + [("Vary", "X-A")], b"x")
    counted = Counted(origin, "/other", cc("max-age=60"))
    sidecar.request("/other")
    with sidecar.client() as client:
        for number in range(400):
            equal(client.request("/v", fields=[("X-A", "value %d" % number)]).status, 200, "status")
    check(sidecar.metric("promptops_cache_entries") <= 34, "%d entries" % sidecar.metric("promptops_cache_entries"))
    check(sidecar.metric("promptops_cache_evictions_total") >= 300, "counted")
    sidecar.request("/other")
    equal(len(counted.seen), 1, "requests for the other path")


@alone
@slow(120)
def test_a_flood_of_keys_is_bounded(t):
    """Paths without end, long ones, cacheable and not, from credentials without end: entries, bytes and memory stay within the limits."""
    origin = t.origin()
    sidecar = t.sidecar(origin, {**PLAIN, "cache.max_memory_bytes": "2MiB", "cache.max_size": 500, "listen.max_target_bytes": "16KiB"})
    answers = [make_response(200, cc("max-age=60"), b"x" * 100), make_response(200, cc("no-store"), b"x"), make_response(404, cc("max-age=60"), b"none"),
               make_response(200, cc("max-age=60") + [("X-Long", "v" * 20000)], b"x")]
    turn = [0]

    def answer(conn, _):
        turn[0] += 1
        conn.send(answers[turn[0] % len(answers)])
    origin.on["/f"] = answer

    def flood(client, start, count):
        for number in range(start, start + count):
            equal(client.request("/f?%d%s" % (number, "y" * (number * 37 % 9000)), fields=[("Authorization", "Bearer %d" % number)]).status in (200, 404), True, "status")
    with sidecar.client() as client:
        flood(client, 0, 1500)
        before = sidecar.rss_kib()
        flood(client, 1500, 6000)
    check(sidecar.metric("promptops_cache_entries") <= 500, "entries")
    check(sidecar.metric("promptops_cache_bytes") <= 2 << 20, "bytes")
    if not sanitized():
        check(sidecar.rss_kib() < before + 6000, "memory grew from %d to %d KiB" % (before, sidecar.rss_kib()))
    Counted(origin, "/plain", cc("max-age=60"))
    equal([sidecar.request("/plain").body for _ in range(2)], [b"/plain 1"] * 2, "bodies")


def test_an_entry_larger_than_the_store(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, {**PLAIN, "cache.max_memory_bytes": "64KiB", "cache.max_object_bytes": "64KiB"})
    small = Counted(origin, "/small", cc("max-age=60"))
    rows = [("its length is told", make_response(200, cc("max-age=60"), bytes(200000))), ("its length is not told", None), ("it just fits by its body", make_response(200, cc("max-age=60"), bytes(65536))),
            ("its head is most of it", make_response(200, cc("max-age=60") + [("X", "v" * 50000)], bytes(20000)))]
    for number, (name, data) in enumerate(rows):
        with t.case(name):
            path = "/big%d" % number
            origin.on[path] = data or (lambda conn, request: conn.send(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(*[bytes(20000)] * 10)))
            before = sidecar.metric("promptops_cache_not_stored_total", reason="size")
            lengths = {len(sidecar.request(path).body) for _ in range(2)}
            equal((len(lengths), origin.count(path)), (1, 2), "lengths, requests at the origin")
            if number < 2:
                check(sidecar.metric("promptops_cache_not_stored_total", reason="size") > before, "counted")
            check(sidecar.metric("promptops_cache_bytes") <= 65536, "bytes")
    with t.case("named where it is known at once"):
        check("too-large" in sidecar.request("/big0").get("Cache-Status", "") or "fwd=bypass" in sidecar.request("/big0").get("Cache-Status", ""), "Cache-Status")
    with t.case("small ones go on"):
        sidecar.request("/small")
        check("hit" in sidecar.request("/small").get("Cache-Status"), "a hit")
        check(small.seen, "fetched")
