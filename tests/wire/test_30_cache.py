"""Caching basics (http-rules part 2), one row a rule. Most rows need no waiting: an Age field makes an answer old."""
import email.utils
import time

from harness import *

PLAIN = {"cache.enabled": True, "cache.scope": "private", "cache.default_ttl": 0, "cache.enable_adaptive_ttl": False, "cache.enable_prefetching": False,
         "cache.stale_while_revalidate": 0, "cache.stale_if_error": 0, "cache.strategy": "lru"}
SHARED = {**PLAIN, "cache.scope": "shared"}


def date(offset=0):
    return email.utils.formatdate(time.time() + offset, usegmt=True)


class Counted:
    """An origin that says in each body how many requests for the path it has seen; a matching validator gives 304."""

    def __init__(self, origin, path, fields=(), status=200, body=None):
        self.origin, self.path, self.fields, self.status, self.body = origin, path, list(fields), status, body
        self.seen = []
        origin.on[path] = self.answer

    def answer(self, conn, request):
        self.seen.append(request)
        fields = [("Date", date())] if not any(n == "Date" for n, _ in self.fields) else []
        fields += self.fields
        tags = [v for n, v in self.fields if n == "ETag"]
        if tags and request.get("If-None-Match") == tags[0]:
            conn.reply(304, fields, b"")
        else:
            conn.reply(self.status, fields, self.body if self.body is not None else b"%s %d" % (self.path.encode(), len(self.seen)))


def outcome(sidecar, counted, first=(), second=(), method="GET"):
    """Asks twice: hit (once at the origin), validated (the second was conditional), or miss."""
    one = sidecar.request(counted.path, "GET", first)
    equal(one.status, counted.status, "first status")
    two = sidecar.request(counted.path, method, second)
    equal(two.status, counted.status, "second status")
    status = two.get("Cache-Status", "")
    if len(counted.seen) == 1:
        check("hit" in status, "Cache-Status of a hit: %r" % status)
        check(two.has("Age"), "no Age on a hit")
        check(method == "HEAD" or two.body == one.body, "another body on a hit")
        return "hit"
    check("; hit" not in status.replace(" ", "").replace(";", "; ") or counted.seen[1].has("If-None-Match") or counted.seen[1].has("If-Modified-Since"),
          "Cache-Status says hit: %r" % status)
    if counted.seen[1].has("If-None-Match") or counted.seen[1].has("If-Modified-Since"):
        return "validated"
    return "miss"


def cc(value):
    return [("Cache-Control", value)]


ETAG = [("ETag", '"v1"')]
FRESHNESS = [
    # name, fields of the answer, wanted
    ("9111 4.2.1 max-age", cc("max-age=60"), "hit"),
    ("9111 3 nothing said, nothing to validate", [], "miss"),
    ("9111 3 nothing said, a validator", ETAG, "validated"),
    ("9111 5.2.2.5 no-store", cc("no-store, max-age=60"), "miss"),
    ("9111 5.2.2.5 no-store with a validator", ETAG + cc("no-store"), "miss"),
    ("9111 5.2.2.4 no-cache", ETAG + cc("no-cache, max-age=60"), "validated"),
    ("9111 5.2.2.7 private, one's own partition", cc("private, max-age=60"), "hit"),
    ("9111 5.2.2.1 max-age=0", ETAG + cc("max-age=0"), "validated"),
    ("9111 5.3 Expires ahead", [("Expires", "AHEAD")], "hit"),
    ("9111 5.3 Expires behind", ETAG + [("Expires", "BEHIND")], "validated"),
    ("9111 5.3 Expires: 0", ETAG + [("Expires", "0")], "validated"),
    ("9111 5.3 Expires twice", ETAG + [("Expires", "AHEAD"), ("Expires", "AHEAD")], "validated"),
    ("9111 5.3 Expires not in GMT", ETAG + [("Expires", "Thu, 01 Jan 2099 00:00:00 UTC")], "validated"),
    ("9111 5.3 Expires without a comma", ETAG + [("Expires", "Thu 01 Jan 2099 00:00:00 GMT")], "validated"),
    ("9111 5.3 Expires far ahead", [("Expires", "Thu, 01 Jan 2099 00:00:00 GMT")], "hit"),
    ("9110 5.6.7 Expires in RFC 850", [("Expires", "Thursday, 01-Jan-35 00:00:00 GMT")], "hit"),
    ("9110 5.6.7 Expires in asctime", [("Expires", "Thu Jan  1 00:00:00 2099")], "hit"),
    ("9111 5.3 max-age beats Expires", cc("max-age=60") + [("Expires", "BEHIND")], "hit"),
    ("9111 5.2.2.10 s-maxage is not for a private cache", cc("s-maxage=0, max-age=60"), "hit"),
    ("9111 5.2.2.10 s-maxage alone is no freshness here", ETAG + cc("s-maxage=60"), "validated"),
    ("9111 4.2.1 the first of two counts", cc("max-age=60, max-age=0"), "hit"),
    ("9111 4.2.1 the first of two counts, reversed", ETAG + cc("max-age=0, max-age=60"), "validated"),
    ("9111 4.2.1 on two lines", cc("max-age=60") + cc("max-age=0"), "hit"),
    ("9111 5.2 quoted number", cc('max-age="60"'), "hit"),
    ("9111 5.2 blank before the equals sign", ETAG + cc("max-age =60"), "validated"),
    ("9111 4.2.1 not all digits", ETAG + cc("max-age=60s"), "validated"),
    ("9111 4.2.1 negative", ETAG + cc("max-age=-60"), "validated"),
    ("9111 4.2.1 decimal", ETAG + cc("max-age=60.5"), "validated"),
    ("9111 1.2.2 above 2^31", cc("max-age=99999999999"), "hit"),
    ("9111 1.2.2 above 2^64", cc("max-age=99999999999999999999999999"), "hit"),
    ("9111 5.2 upper case", cc("MAX-AGE=60"), "hit"),
    ("9111 5.2.3 unknown directives", cc("foo, bar=baz, max-age=60"), "hit"),
    ("9111 5.2 directives in quotes are none", cc('x="no-store, max-age=0", max-age=60'), "hit"),
    ("9111 5.2.2.3 must-understand lifts no-store", cc("no-store, must-understand, max-age=60"), "hit"),
    ("9111 4.2.3 Age beyond", ETAG + cc("max-age=60") + [("Age", "100")], "validated"),
    ("9111 4.2.3 Age within", cc("max-age=600") + [("Age", "100")], "hit"),
    ("9111 5.1 first member of Age", ETAG + cc("max-age=60") + [("Age", "100, 5")], "validated"),
    ("9111 5.1 Age of letters is ignored", cc("max-age=60") + [("Age", "abc")], "hit"),
    ("9111 5.1 negative Age is ignored", cc("max-age=60") + [("Age", "-7200")], "hit"),
    ("9111 5.1 Age beyond 2^31", ETAG + cc("max-age=60") + [("Age", "99999999999")], "validated"),
    ("9111 4.2.3 apparent age", ETAG + cc("max-age=60") + [("Date", "LONGAGO")], "validated"),
    ("9110 6.6.1 an invalid Date is the receipt time", cc("max-age=60") + [("Date", "yesterday")], "hit"),
    ("9111 4.2.2 heuristic", [("Last-Modified", "LONGAGO")], "hit"),
    ("9111 4.2.2 heuristic, just modified", [("Last-Modified", "NOW")], "validated"),
    ("9111 5.2.2.8 must-revalidate while fresh", cc("must-revalidate, max-age=60"), "hit"),
    ("8246 immutable", cc("immutable, max-age=60"), "hit"),
    ("9213 targeted fields are not for a private cache", cc("max-age=60") + [("CDN-Cache-Control", "no-store")], "hit"),
    ("9111 4.1 Vary: *", cc("max-age=60") + [("Vary", "*")], "miss"),
    ("9111 4.1 Vary among others: *", cc("max-age=60") + [("Vary", "Accept, *")], "miss"),
    ("9111 4.1 Vary on an absent field", cc("max-age=60") + [("Vary", "X-Absent")], "hit"),
    ("9111 3.1 Set-Cookie in one's own partition", cc("max-age=60") + [("Set-Cookie", "a=b")], "hit"),
]
SHARED_FRESHNESS = [
    ("9111 5.2.2.7 private", cc("private, max-age=60"), (), "miss"),
    ("9111 5.2.2.10 s-maxage", cc("s-maxage=60, max-age=0"), (), "hit"),
    ("9111 5.2.2.10 s-maxage=0", ETAG + cc("s-maxage=0, max-age=60"), (), "validated"),
    ("9111 3.5 Authorization", cc("max-age=60"), [("Authorization", "Bearer a")], "miss"),
    ("9111 3.5 Authorization and public", cc("public, max-age=60"), [("Authorization", "Bearer a")], "hit"),
    ("9111 3.5 Authorization and s-maxage", cc("s-maxage=60"), [("Authorization", "Bearer a")], "hit"),
    ("9111 3.5 Authorization and must-revalidate", cc("must-revalidate, max-age=60"), [("Authorization", "Bearer a")], "hit"),
    ("9213 targeted field wins", cc("no-store") + [("CDN-Cache-Control", "max-age=60")], (), "hit"),
    ("9213 targeted no-store wins", cc("max-age=60") + [("CDN-Cache-Control", "no-store")], (), "miss"),
    ("9213 an invalid targeted field is ignored", cc("max-age=60") + [("CDN-Cache-Control", "no-store, \"")], (), "hit"),
    ("9213 an empty targeted field is ignored", cc("max-age=60") + [("CDN-Cache-Control", "")], (), "hit"),
]
STATUSES = [(200, "hit"), (203, "hit"), (300, "hit"), (301, "hit"), (308, "hit"), (404, "hit"), (405, "hit"), (410, "hit"), (414, "hit"), (501, "hit"),
            (201, "miss"), (202, "miss"), (302, "miss"), (307, "miss"), (403, "miss"), (500, "miss"), (502, "miss"), (503, "miss"), (504, "miss"), (599, "miss")]


def fill_in(fields):
    words = {"AHEAD": date(3600), "BEHIND": date(-3600), "LONGAGO": date(-100000), "NOW": date()}
    return [(n, words.get(v, v)) for n, v in fields]


def test_freshness(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, PLAIN)
    for number, (name, fields, wanted) in enumerate(FRESHNESS):
        with t.case(name):
            counted = Counted(origin, "/f%d" % number, fill_in(fields))
            got = outcome(sidecar, counted)
            check(got == wanted or (wanted, got) == ("validated", "miss") and name.startswith("9111 4.2.2"), "%s, wanted %s" % (got, wanted))


def test_freshness_of_a_shared_cache(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, SHARED)
    for number, (name, fields, request, wanted) in enumerate(SHARED_FRESHNESS):
        with t.case(name):
            equal(outcome(sidecar, Counted(origin, "/s%d" % number, fill_in(fields)), request, request), wanted, "outcome")
    with t.case("9111 3.5 what is public then serves anybody"):
        counted = Counted(origin, "/any", cc("public, max-age=60"))
        equal(outcome(sidecar, counted, [("Authorization", "Bearer a")], [("Authorization", "Bearer b")]), "hit", "outcome")
    with t.case("9213 the targeted field is relayed"):
        Counted(origin, "/relay", cc("no-store") + [("CDN-Cache-Control", "max-age=60")])
        equal(sidecar.request("/relay").get("CDN-Cache-Control"), "max-age=60", "field")


def test_statuses(t):
    """Heuristic freshness holds for some statuses; explicit freshness for any final one; public makes any heuristic."""
    origin = t.origin()
    sidecar = t.sidecar(origin, PLAIN)
    for status, wanted in STATUSES:
        old = [("Last-Modified", date(-100000))]
        with t.case("9111 4.2.2 %d, heuristic" % status):
            got = outcome(sidecar, Counted(origin, "/h%d" % status, old, status))
            check(got == wanted or (wanted, got) == ("miss", "validated"), "%s, wanted %s" % (got, wanted))
        with t.case("9111 3 %d, explicit" % status):
            equal(outcome(sidecar, Counted(origin, "/e%d" % status, cc("max-age=60"), status)), "hit", "outcome")
        if wanted == "miss":
            with t.case("9111 4.2.2 %d, public" % status):
                equal(outcome(sidecar, Counted(origin, "/p%d" % status, old + cc("public"), status)), "hit", "outcome")


def test_9111_4_1_vary(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, PLAIN)
    rows = [("same", "Accept", [("Accept", "a")], [("Accept", "a")], "hit"), ("other", "Accept", [("Accept", "a")], [("Accept", "b")], "miss"),
            ("absent and present", "Accept", [], [("Accept", "a")], "miss"), ("present and absent", "Accept", [("Accept", "a")], [], "miss"),
            ("name in odd case", "aCCept", [("Accept", "a")], [("Accept", "b")], "miss"), ("blanks around commas", "Accept", [("Accept", "a, b")], [("Accept", "a,b")], "hit"),
            ("lines joined", "Accept", [("Accept", "a"), ("Accept", "b")], [("Accept", "a, b")], "hit"), ("order matters", "Accept", [("Accept", "a, b")], [("Accept", "b, a")], "miss"),
            ("case of a value matters", "X-A", [("X-A", "a")], [("X-A", "A")], "miss"), ("two fields", "Accept, X-A", [("Accept", "a"), ("X-A", "1")], [("Accept", "a"), ("X-A", "2")], "miss"),
            ("a field not named", "X-A", [("Accept", "a")], [("Accept", "b")], "hit"),
            ("Accept-Language without case and order", "Accept-Language", [("Accept-Language", "en, DE")], [("Accept-Language", "de,EN")], "hit")]
    for number, (name, vary, first, second, wanted) in enumerate(rows):
        with t.case(name):
            equal(outcome(sidecar, Counted(origin, "/v%d" % number, cc("max-age=60") + [("Vary", vary)]), first, second), wanted, "outcome")
    with t.case("several variants of one URI"):
        counted = Counted(origin, "/many", cc("max-age=60") + [("Vary", "Accept")])
        bodies = [sidecar.request("/many", fields=[("Accept", a)]).body for a in ("a", "b", "c", "a", "b", "c")]
        equal((bodies[:3] == bodies[3:], len(set(bodies)), len(counted.seen)), (True, 3, 3), "bodies and requests at the origin")


def test_9111_2_the_key(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, PLAIN)
    for number, (name, one, two, same) in enumerate([
            ("query", "/k?a=1", "/k?a=2", False), ("empty query", "/l", "/l?", False), ("order of the query", "/m?a&b", "/m?b&a", False),
            ("case of the path", "/n", "/N", False), ("slash at the end", "/o", "/o/", False), ("Host is no part of it", "/p", "/p", True)]):
        with t.case(name):
            origin.on[one.split("?")[0]] = origin.on[two.split("?")[0]] = make_response(200, cc("max-age=60") + [("Date", date())], b"x")
            before = origin.count()
            sidecar.request(one, host="a")
            sidecar.request(two, host="b")
            equal(origin.count() - before, 1 if same else 2, "requests at the origin")
        del number


def test_9111_methods(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, PLAIN)
    with t.case("3 POST is not served from a stored GET"):
        counted = Counted(origin, "/a", cc("max-age=60"))
        equal(outcome(sidecar, counted, method="POST"), "miss", "outcome")
    with t.case("9110 9.3.2 HEAD is served from a stored GET"):
        counted = Counted(origin, "/b", cc("max-age=60"), body=b"twelve bytes")
        equal(outcome(sidecar, counted, method="HEAD"), "hit", "outcome")
        equal(sidecar.request("/b", "HEAD").get("Content-Length"), "12", "Content-Length")
    with t.case("a stored HEAD is no GET"):
        counted = Counted(origin, "/c", cc("max-age=60"))
        sidecar.request("/c", "HEAD")
        check(sidecar.request("/c").body.startswith(b"/c"), "body")
    for method in ("POST", "PUT", "DELETE", "PATCH", "BREW"):
        with t.case("4.4 %s invalidates" % method):
            counted = Counted(origin, "/i" + method, cc("max-age=60"))
            for verb in ("GET", method, "GET"):
                sidecar.request(counted.path, verb)
            equal(len(counted.seen), 3, "requests at the origin")
    with t.case("4.4 a failed POST does not"):
        counted = Counted(origin, "/keep", cc("max-age=60"))
        sidecar.request("/keep")
        counted.status = 500
        sidecar.request("/keep", "POST")
        counted.status = 200
        sidecar.request("/keep")
        equal(len(counted.seen), 2, "requests at the origin")
    with t.case("4.4 Location and Content-Location of this origin"):
        counted = Counted(origin, "/made", cc("max-age=60"))
        other = Counted(origin, "/made2", cc("max-age=60"))
        sidecar.request("/made")
        sidecar.request("/made2")
        origin.on["/make"] = make_response(201, [("Location", "/made"), ("Content-Location", "/made2")], b"")
        sidecar.request("/make", "POST")
        sidecar.request("/made")
        sidecar.request("/made2")
        equal((len(counted.seen), len(other.seen)), (2, 2), "requests at the origin")
    with t.case("4.4 OPTIONS does not"):
        counted = Counted(origin, "/opt", cc("max-age=60"))
        for verb in ("GET", "OPTIONS", "GET"):
            sidecar.request("/opt", verb)
        equal([r.method for r in counted.seen], ["GET", "OPTIONS"], "requests at the origin")


def test_9111_5_2_1_request_directives(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, PLAIN)
    fresh = cc("max-age=600") + ETAG + [("Age", "100")]
    stale = cc("max-age=60") + [("Age", "100")] + ETAG
    rows = [("no-cache", fresh, "no-cache", "validated"), ("max-age=0", fresh, "max-age=0", "validated"), ("max-age below the age", fresh, "max-age=50", "validated"),
            ("max-age above the age", fresh, "max-age=500", "hit"), ("min-fresh met", fresh, "min-fresh=100", "hit"), ("min-fresh not met", fresh, "min-fresh=550", "validated"),
            ("max-stale", stale, "max-stale", "hit"), ("max-stale enough", stale, "max-stale=1000", "hit"), ("max-stale too small", stale, "max-stale=10", "validated"),
            ("only-if-cached, stored", fresh, "only-if-cached", "hit"), ("unknown", fresh, "foo=bar", "hit")]
    for number, (name, fields, directive, wanted) in enumerate(rows):
        with t.case(name):
            equal(outcome(sidecar, Counted(origin, "/q%d" % number, fields), second=cc(directive)), wanted, "outcome")
    with t.case("only-if-cached, not stored"):
        before = origin.count()
        equal(sidecar.request("/never", fields=cc("only-if-cached")).status, 504, "status")
        equal(origin.count(), before, "requests at the origin")
    with t.case("no-store is not stored"):
        equal(outcome(sidecar, Counted(origin, "/nostore", cc("max-age=60")), first=cc("no-store")), "miss", "outcome")
    with t.case("Authorization differs: another partition"):
        equal(outcome(sidecar, Counted(origin, "/auth", cc("max-age=60")), [("Authorization", "Bearer a")], [("Authorization", "Bearer b")]), "miss", "outcome")


def test_9111_4_3_validation(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, PLAIN)
    with t.case("4.3.1 both validators are sent as they came"):
        modified = date(-50)
        counted = Counted(origin, "/both", cc("no-cache") + [("ETag", 'W/"a,b"'), ("Last-Modified", modified)])
        sidecar.request("/both")
        equal(sidecar.request("/both").body, b"/both 1", "body from the store")
        equal((counted.seen[1].get("If-None-Match"), counted.seen[1].get("If-Modified-Since")), ('W/"a,b"', modified), "conditions")
    with t.case("4.3.4 a 304 freshens and replaces fields"):
        counted = Counted(origin, "/upd", cc("max-age=60") + ETAG + [("Age", "100"), ("X-V", "old"), ("X-Stay", "s"), ("Content-Type", "text/plain")])
        sidecar.request("/upd")
        counted.fields = cc("max-age=600") + ETAG + [("X-V", "new"), ("Content-Type", "text/html"), ("Content-Length-Not", "1")]
        second = sidecar.request("/upd")
        equal((second.status, second.body, second.get("X-V"), second.get("X-Stay"), second.get("Content-Type")),
              (200, b"/upd 1", "new", "s", "text/plain"), "freshened answer")
        sidecar.request("/upd")
        equal(len(counted.seen), 2, "requests at the origin: it is fresh again")
    with t.case("a 200 replaces what was stored"):
        counted = Counted(origin, "/chg", cc("max-age=60") + ETAG + [("Age", "100")])
        sidecar.request("/chg")
        counted.fields = cc("max-age=60") + [("ETag", '"v2"')]
        equal(sidecar.request("/chg").body, b"/chg 2", "body")
        equal(sidecar.request("/chg").body, b"/chg 2", "body from the store")
    with t.case("410 on a refresh takes the entry away"):
        counted = Counted(origin, "/gone", cc("max-age=60") + ETAG + [("Age", "100")])
        sidecar.request("/gone")
        counted.status, counted.fields = 410, []
        equal(sidecar.request("/gone").status, 410, "status")
        equal(sidecar.request("/gone").status, 410, "status")
    for name, fields, status in [
            ("weak comparison", [("If-None-Match", 'W/"v1"')], 304), ("in a list", [("If-None-Match", '"x", "v1"')], 304), ("asterisk", [("If-None-Match", "*")], 304),
            ("on two lines", [("If-None-Match", '"x"'), ("If-None-Match", '"v1"')], 304), ("no match", [("If-None-Match", '"x"')], 200),
            ("match beats an old date", [("If-None-Match", '"v1"'), ("If-Modified-Since", "Thu, 01 Jan 1998 00:00:00 GMT")], 304),
            ("no match beats a new date", [("If-None-Match", '"x"'), ("If-Modified-Since", "Thu, 01 Jan 2099 00:00:00 GMT")], 200),
            ("date after", [("If-Modified-Since", "AFTER")], 304), ("date before", [("If-Modified-Since", "Thu, 01 Jan 1998 00:00:00 GMT")], 200),
            ("date in RFC 850", [("If-Modified-Since", "Thursday, 01-Jan-35 00:00:00 GMT")], 304), ("date in asctime", [("If-Modified-Since", "Thu Jan  1 00:00:00 2099")], 304),
            ("bad date", [("If-Modified-Since", "now")], 200)]:
        with t.case("4.3.2 a fresh hit answers the client's condition: " + name):
            path = "/cond-" + name.replace(" ", "-")
            counted = Counted(origin, path, cc("max-age=60") + ETAG + [("Last-Modified", date(-1000))])
            sidecar.request(path)
            response = sidecar.request(path, fields=[(n, date(-500) if v == "AFTER" else v) for n, v in fields])
            equal((response.status, len(counted.seen)), (status, 1), "status, requests at the origin")
            check(status == 200 or response.get("ETag") == '"v1"', "ETag of the 304")
    with t.case("4.3.3 a stale hit with a condition is validated with ours, answered 304 itself"):
        counted = Counted(origin, "/stalecond", cc("max-age=60") + ETAG + [("Age", "100")])
        sidecar.request("/stalecond")
        response = sidecar.request("/stalecond", fields=[("If-None-Match", '"v1"')])
        equal((response.status, counted.seen[1].all("If-None-Match")), (304, ['"v1"']), "answer and condition")
    with t.case("4.3.1 the client's own condition is relayed when nothing is stored"):
        counted = Counted(origin, "/relay", cc("max-age=60") + ETAG)
        equal(sidecar.request("/relay", fields=[("If-None-Match", '"v1"')]).status, 304, "status")
        equal(counted.seen[0].get("If-None-Match"), '"v1"', "condition at the origin")
        equal(sidecar.request("/relay").body[:6], b"/relay", "the 304 was not stored as an answer")


def test_9110_14_ranges(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, PLAIN)
    counted = Counted(origin, "/r", cc("max-age=60") + ETAG, body=b"0123456789")
    sidecar.request("/r")
    rows = [("bytes=0-3", 206, b"0123", "bytes 0-3/10"), ("bytes=4-", 206, b"456789", "bytes 4-9/10"), ("bytes=-3", 206, b"789", "bytes 7-9/10"),
            ("bytes=8-100", 206, b"89", "bytes 8-9/10"), ("bytes=0-0", 206, b"0", "bytes 0-0/10"), ("bytes=-100", 206, b"0123456789", "bytes 0-9/10"),
            ("bytes=10-", 416, None, "bytes */10"), ("bytes=20-30", 416, None, "bytes */10"), ("bytes=5-2", 200, b"0123456789", None), ("lines=0-3", 200, b"0123456789", None),
            ("bytes=a-b", 200, b"0123456789", None)]
    for value, status, body, content_range in rows:
        with t.case(value):
            response = sidecar.request("/r", fields=[("Range", value)])
            equal((response.status, response.get("Content-Range")), (status, content_range), "status and Content-Range")
            check(body is None or response.body == body, "body %r" % response.body)
    with t.case("If-Range that matches"):
        equal(sidecar.request("/r", fields=[("Range", "bytes=0-3"), ("If-Range", '"v1"')]).status, 206, "status")
    with t.case("If-Range that does not"):
        equal(sidecar.request("/r", fields=[("Range", "bytes=0-3"), ("If-Range", '"x"')]).status, 200, "status")
    equal(len(counted.seen), 1, "requests at the origin")
    with t.case("a range that is not stored passes with its 206"):
        origin.on["/part"] = b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-3/10\r\nCache-Control: max-age=60\r\nETag: \"p\"\r\nContent-Length: 4\r\n\r\n0123"
        response = sidecar.request("/part", fields=[("Range", "bytes=0-3")])
        equal((response.status, response.body), (206, b"0123"), "answer")
        origin.on["/part"] = make_response(200, cc("max-age=60"), b"0123456789")
        equal(sidecar.request("/part").body, b"0123456789", "a part is never the whole")


def test_9111_4_2_4_stale(t):
    """Served when the upstream is away, unless that is forbidden; swr and sie inside their windows only."""
    origin = t.origin()
    sidecar = t.sidecar(origin, {**PLAIN, "upstream.response_timeout": "1s", "cache.stale_if_error": "1h"})
    old = [("Age", "100")]

    def broken_by(act):
        return lambda conn, request: (act(conn), False)[1]
    for name, fields, act, status in [
            ("disconnect", cc("max-age=60"), lambda c: c.close(), 200), ("disconnect, must-revalidate", cc("max-age=60, must-revalidate"), lambda c: c.close(), 502),
            ("disconnect, no-cache", cc("no-cache"), lambda c: c.close(), 502),
            ("stale-if-error and 500", cc("max-age=60, stale-if-error=1000"), lambda c: c.reply(500), 200), ("stale-if-error and 503", cc("max-age=60, stale-if-error=1000"), lambda c: c.reply(503), 200),
            ("stale-if-error over", cc("max-age=60, stale-if-error=10"), lambda c: c.reply(503), 503), ("stale-if-error and 404", cc("max-age=60, stale-if-error=1000"), lambda c: c.reply(404), 404),
            ("stale-if-error, must-revalidate", cc("max-age=60, must-revalidate, stale-if-error=1000"), lambda c: c.reply(503), 503)]:
        with t.case(name):
            path = "/stale-" + name.replace(" ", "-")
            Counted(origin, path, fields + old + ETAG)
            sidecar.request(path)
            origin.on[path] = broken_by(act)
            response = sidecar.request(path)
            check(response.status == status or status == 502 and response.status == 504, "status %d, wanted %d" % (response.status, status))
    with t.case("5861 stale-while-revalidate serves at once and refreshes behind"):
        counted = Counted(origin, "/swr", cc("max-age=60, stale-while-revalidate=1000") + old)
        sidecar.request("/swr")
        counted.fields = cc("max-age=60")
        response = sidecar.request("/swr")
        equal(response.body, b"/swr 1", "the stale body")
        check(int(response.get("Age")) >= 100, "Age")
        origin.wait_requests(2, "/swr")
        wait_for(lambda: sidecar.request("/swr").body == b"/swr 2", "the refreshed body")
        equal(len(counted.seen), 2, "requests at the origin")
    with t.case("5861 after the window there is none"):
        counted = Counted(origin, "/swr2", cc("max-age=60, stale-while-revalidate=10") + old)
        sidecar.request("/swr2")
        equal(sidecar.request("/swr2").body, b"/swr2 2", "body")


def test_9111_3_1_what_is_stored(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, PLAIN)
    Counted(origin, "/hop", cc("max-age=60") + [("Connection", "X-Hop"), ("X-Hop", "1"), ("Keep-Alive", "timeout=9"), ("Proxy-Authenticate", "Basic"), ("X-Kept", "caf\xe9"),
                                                ("Set-Cookie", "a=b"), ("Set-Cookie", "c=d"), ("X-Empty", ""), ("Content-Encoding", "x-odd")], body=b"\0\xff body")
    first, second = sidecar.request("/hop"), sidecar.request("/hop")
    check("hit" in second.get("Cache-Status"), "not a hit: %r" % second)
    for name in ("X-Hop", "Proxy-Authenticate"):
        check(not second.has(name), "%s was stored" % name)
    equal((second.body, second.get("X-Kept"), second.all("Set-Cookie"), second.all("X-Empty"), second.get("Content-Encoding")),
          (first.body, "caf\xe9", ["a=b", "c=d"], [""], "x-odd"), "what stays")
    with t.case("5.2.2.4 no-cache with a field name drops that field"):
        Counted(origin, "/nc", cc('max-age=60, no-cache="X-A"') + [("X-A", "1"), ("X-B", "2")])
        sidecar.request("/nc")
        second = sidecar.request("/nc")
        check("hit" not in second.get("Cache-Status") or not second.has("X-A"), "the field was reused")
        equal(second.get("X-B"), "2", "another field")
    with t.case("chunked, with trailers"):
        origin.on["/ch"] = lambda conn, request: conn.send(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"abc", b"def", trailers=b"X-T: 1\r\n"))
        equal([sidecar.request("/ch").body for _ in range(2)], [b"abcdef"] * 2, "bodies")
        equal(origin.count("/ch"), 1, "requests at the origin")
    with t.case("empty body"):
        equal(outcome(sidecar, Counted(origin, "/empty", cc("max-age=60"), body=b"")), "hit", "outcome")


def test_9111_3_incomplete_answers_are_not_stored(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, PLAIN)
    for name, data, how in [("length", b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 10\r\n\r\nabc", "close"),
                            ("chunked", b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", "close"),
                            ("until close, reset", b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n\r\nabc", "reset")]:
        with t.case(name):
            origin.on["/cut"] = lambda conn, request, d=data, h=how: (conn.send(d), getattr(conn, h)(), False)[2]
            with sidecar.client() as client:
                client.send(make_request("/cut"))
                try:
                    equal(client.response().status, 502, "status of a complete answer")
                except Gone:
                    pass
            origin.on["/cut"] = make_response(200, [], b"whole")
            equal(sidecar.request("/cut").body, b"whole", "the next body")


def test_limits_of_the_store(t):
    origin = t.origin()
    with t.case("max_object_bytes"):
        sidecar = t.sidecar(origin, {**PLAIN, "cache.max_object_bytes": "4KiB"})
        equal(outcome(sidecar, Counted(origin, "/at", cc("max-age=60"), body=b"x" * 4096)), "hit", "outcome at the limit")
        equal(outcome(sidecar, Counted(origin, "/over", cc("max-age=60"), body=b"x" * 4097)), "miss", "outcome above")
        origin.on["/overchunked"] = lambda conn, request: conn.send(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"x" * 3000, b"y" * 3000))
        equal([len(sidecar.request("/overchunked").body) for _ in range(2)], [6000, 6000], "bodies")
        equal(origin.count("/overchunked"), 2, "requests at the origin")
    with t.case("max_size"):
        sidecar = t.sidecar(origin, {**PLAIN, "cache.max_size": 20})
        origin.default = make_response(200, cc("max-age=60"), b"x")
        for number in range(200):
            sidecar.request("/many/%d" % number)
        entries = sidecar.metric("promptops_cache_entries")
        check(0 < entries <= 20, "%s entries" % entries)
    with t.case("max_memory_bytes"):
        sidecar = t.sidecar(origin, {**PLAIN, "cache.max_memory_bytes": "1MiB", "cache.max_size": 0})
        origin.default = make_response(200, cc("max-age=60"), b"x" * 20000)
        for number in range(200):
            sidecar.request("/big/%d" % number)
        held = sidecar.metric("promptops_cache_bytes")
        check(0 < held <= 1 << 20, "%s bytes" % held)


def test_default_ttl_routes_and_preset(t):
    origin = t.origin()
    with t.case("cache.default_ttl"):
        equal(outcome(t.sidecar(origin, {**PLAIN, "cache.default_ttl": 60}), Counted(origin, "/ttl")), "hit", "outcome")
    with t.case("a route's ttl"):
        routes = [{"match": {"path": "/routed/{id}"}, "operation": "routed", "cache": {"ttl": "1h"}}, {"match": {"path": "/never/{id}"}, "operation": "never", "cache": {"enabled": False}}]
        sidecar = t.sidecar(origin, {**PLAIN, "routes": routes})
        equal(outcome(sidecar, Counted(origin, "/routed/1")), "hit", "outcome")
        equal(outcome(sidecar, Counted(origin, "/routed/2", cc("no-store"))), "miss", "outcome: what the origin says wins")
        equal(outcome(sidecar, Counted(origin, "/never/1", cc("max-age=60"))), "miss", "outcome of a route that is not cached")
    with t.case("the API's own paths"):
        sidecar = t.sidecar(origin, {**PLAIN, "preset": "promptops"})
        base = "/v1/client/prompts"
        for path, wanted in [(base + "/p1", "hit"), (base + "/p1/versions/1.0.0", "hit"), (base + "/p1/versions", "hit"), (base, "hit"), ("/api/prompts/p1", "hit"),
                             ("/v1/client/usage/stats", "miss"), ("/v1/client/usage/limits", "miss"), ("/v1/client/auth/api-keys", "miss"), ("/health", "miss")]:
            equal(outcome(sidecar, Counted(origin, path)), wanted, "outcome of " + path)
    with t.case("a write purges the prompt's tag"):
        counted = Counted(origin, base + "/p9")
        sidecar.request(counted.path)
        sidecar.request(counted.path, "PUT", body=b"{}")
        sidecar.request(counted.path)
        equal([r.method for r in counted.seen], ["GET", "PUT", "GET"], "requests at the origin")
    with t.case("a deleted prompt's version goes too"):
        version = Counted(origin, base + "/p8/versions/1")
        sidecar.request(version.path)
        origin.on[base + "/p8"] = make_response(200, [], b"{}")
        sidecar.request(base + "/p8", "DELETE")
        sidecar.request(version.path)
        equal(len(version.seen), 2, "requests at the origin")


def test_a_write_of_a_prompt_is_seen_by_the_next_read(t):
    """The body of a create alone names its prompt, and the API keeps each version under an id of its own, p-v1.2.0, of which p is the latest."""
    origin = t.origin()
    base, writes = "/v1/client/prompts", "/v1/prompts"
    rows = [("a create: the latest of any prompt", "POST", writes, base + "/p", 2),
            ("a create: all versions", "POST", base, base + "/p/versions", 2),
            ("a create: a version by number stays", "POST", writes, base + "/p/versions/1.0.0", 1),
            ("a create that failed", "POST", "/api/prompts", base + "/p", 1),
            ("a version's own id: the latest", "PUT", writes + "/p-v1.2.0/1.2.0", base + "/p", 2),
            ("a version's own id: the version by number", "PUT", writes + "/p-v1.2.0/1.2.0", base + "/p/versions/1.2.0", 2),
            ("a version is activated", "POST", writes + "/p-v1.2.0/1.2.0/activate", base + "/p", 2),
            ("the prompt's id: what was asked by a version's id", "DELETE", base + "/p", base + "/p-v1.2.0", 2),
            ("another prompt", "PUT", writes + "/q-v1.2.0/1.2.0", base + "/p", 1)]
    for name, method, written, read, wanted in rows:
        with t.case(name):
            sidecar = t.sidecar(origin, {**PLAIN, "preset": "promptops"})
            reads = Counted(origin, read)
            origin.on[written] = make_response(409 if "failed" in name else 200, [], b"{}")
            for m, path in (("GET", read), (method, written), ("GET", read)):
                sidecar.request(path, m, body=b"{}" if m in ("POST", "PUT") else None)
            equal(len([r for r in reads.seen if r.method == "GET"]), wanted, "reads at the origin")


def test_whether_a_key_is_good_is_always_asked(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, {**PLAIN, "preset": "promptops", "cache.default_ttl": "1h"})
    for path in ("/auth/validate", "/api/v1/auth/me", "/v1/client/auth/other"):
        with t.case(path):
            equal(outcome(sidecar, Counted(origin, path)), "miss", "outcome")


def test_9211_cache_status(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, PLAIN)
    Counted(origin, "/cs", cc("max-age=60") + ETAG)
    rows = [("miss", "/cs", (), ["fwd=uri-miss", "stored"]), ("hit", "/cs", (), ["hit", "ttl="]), ("no-cache", "/cs", cc("no-cache"), ["fwd=request"])]
    for name, path, fields, words in rows:
        with t.case(name):
            status = sidecar.request(path, fields=fields).get("Cache-Status", "")
            check(status.startswith("promptops-sidecar;") and all(w in status for w in words), "Cache-Status: %r, wanted %r" % (status, words))
            check("key=" not in status, "the key is told")
    with t.case("method"):
        check("fwd=method" in sidecar.request("/cs", "POST").get("Cache-Status", ""), "Cache-Status of a POST")
    with t.case("vary"):
        Counted(origin, "/vs", cc("max-age=60") + [("Vary", "Accept")])
        sidecar.request("/vs", fields=[("Accept", "a")])
        check("fwd=vary-miss" in sidecar.request("/vs", fields=[("Accept", "b")]).get("Cache-Status", ""), "Cache-Status of another variant")
    with t.case("stale"):
        Counted(origin, "/st", cc("max-age=60") + ETAG + [("Age", "100")])
        sidecar.request("/st")
        status = sidecar.request("/st").get("Cache-Status", "")
        check("fwd=stale" in status and "fwd-status=304" in status, "Cache-Status of a revalidation: %r" % status)


def test_age_counts_on(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, PLAIN)
    Counted(origin, "/age", cc("max-age=600") + [("Age", "100")])
    equal(sidecar.request("/age").all("Age"), ["100"], "Age of the first")
    first = int(sidecar.request("/age").get("Age"))
    near(first, 100, 105, "Age of a hit")
    wait_for(lambda: int(sidecar.request("/age").get("Age")) > first, "Age to grow")


def test_the_cache_works_across_workers(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, {**PLAIN, "workers": 2})
    counted = Counted(origin, "/w", cc("max-age=60"))
    bodies = {sidecar.request("/w").body for _ in range(30)}
    equal((bodies, len(counted.seen)), ({b"/w 1"}, 1), "bodies and requests at the origin")
