"""The rules of RFC 9111 and its neighbours that test_30 does not hold yet, one row a rule, named after the section."""
import os
import threading
import time

from harness import *
from test_30_cache import ETAG, PLAIN, SHARED, Counted, cc, date, fill_in, outcome

AUTH = [("Authorization", "Bearer a")]

# (name, fields of the answer, status, the first request's fields, the second's, outcome)
ROWS = [
    ("9111 3 a final status with explicit freshness: 299", cc("max-age=60"), 299, (), (), "hit"),
    ("9111 3 599 with explicit freshness", cc("max-age=60"), 599, (), (), "hit"),
    ("9111 4.2.2 299 has no heuristic", [("Last-Modified", "LONGAGO")], 299, (), (), "miss"),
    ("9111 5.2.2.3 must-understand, a status that is not", cc("must-understand, max-age=60"), 299, (), (), "miss"),
    ("9111 5.2.2.3 must-understand and no-store, a status that is not", cc("must-understand, no-store, max-age=60"), 299, (), (), "miss"),
    ("9111 5.2.2.3 must-understand, a status that is", cc("must-understand, max-age=60"), 200, (), (), "hit"),
    ("9111 4.1 Content-Language is the one wanted most", cc("max-age=60") + [("Vary", "Accept-Language"), ("Content-Language", "de")], 200,
     [("Accept-Language", "de, en;q=0.5")], [("Accept-Language", "fr;q=0.3, de;q=0.9, en;q=0.8")], "hit"),
    ("9111 4.1 Content-Language is one of two wanted most", cc("max-age=60") + [("Vary", "Accept-Language"), ("Content-Language", "de")], 200,
     [("Accept-Language", "de, en;q=0.5")], [("Accept-Language", "de, en")], "miss"),
    ("9111 4.1 Content-Language is not wanted most", cc("max-age=60") + [("Vary", "Accept-Language"), ("Content-Language", "de")], 200,
     [("Accept-Language", "de, en;q=0.5")], [("Accept-Language", "en, de;q=0.5")], "miss"),
    ("9111 4.1 Accept-Encoding without case, order and blanks", cc("max-age=60") + [("Vary", "Accept-Encoding")], 200,
     [("Accept-Encoding", "gzip, br;q=0.5")], [("Accept-Encoding", "BR; q=0.5,gzip")], "hit"),
    ("9111 4.1 another Accept-Encoding", cc("max-age=60") + [("Vary", "Accept-Encoding")], 200, [("Accept-Encoding", "gzip")], [("Accept-Encoding", "gzip, br")], "miss"),
    ("9111 4.1 the same name in two lines of Vary", cc("max-age=60") + [("Vary", "X-A"), ("Vary", "x-a, X-B")], 200, [("X-A", "1"), ("X-B", "2")], [("X-B", "2"), ("X-A", "1")], "hit"),
    ("9111 4.1 a second line of Vary counts", cc("max-age=60") + [("Vary", "X-A"), ("Vary", "X-B")], 200, [("X-A", "1"), ("X-B", "2")], [("X-A", "1"), ("X-B", "3")], "miss"),
    ("9111 4.1 a quoted comma is part of its member", cc("max-age=60") + [("Vary", "X-A")], 200, [("X-A", '"a , b"')], [("X-A", '"a,b"')], "miss"),
    ("9111 4.1 Vary that is no list of names", cc("max-age=60") + [("Vary", "a b")], 200, (), (), "miss"),
    ("9111 4.2.1 max-age with a plus", ETAG + cc("max-age=+60"), 200, (), (), "validated"),
    ("9111 4.2.1 max-age in hexadecimal", ETAG + cc("max-age=0x60"), 200, (), (), "validated"),
    ("9111 4.2.1 max-age without a value", ETAG + cc("max-age"), 200, (), (), "validated"),
    ("9111 4.2.1 max-age with an empty value", ETAG + cc("max-age="), 200, (), (), "validated"),
    ("9111 4.2.1 max-age in single quotes", ETAG + cc("max-age='60'"), 200, (), (), "validated"),
    ("9111 4.2.1 a quote that is not closed", ETAG + cc('max-age="60'), 200, (), (), "validated"),
    ("9111 4.2.1 max-age and then a blank", ETAG + cc("max-age= 60"), 200, (), (), "validated"),
    ("9111 4.2.1 leading zeros", cc("max-age=00060"), 200, (), (), "hit"),
    ("9111 5.2 empty members", cc(", ,max-age=60,,"), 200, (), (), "hit"),
    ("9111 5.2 semicolons are no commas", ETAG + cc("public; max-age=60"), 200, (), (), "validated"),
    ("9111 5.2 a directive that begins like another", ETAG + cc("max-ages=60"), 200, (), (), "validated"),
    ("9111 5.2 no-store in upper case, on a second line", cc("max-age=60") + cc("NO-STORE"), 200, (), (), "miss"),
    ("9111 5.2.2.4 no-cache with names keeps the answer", cc('max-age=60, no-cache="X-A"') + [("X-A", "1")], 200, (), (), "hit"),
    ("9111 5.2.2.4 no-cache with an empty list means all", ETAG + cc('max-age=60, no-cache=""'), 200, (), (), "validated"),
    ("9111 5.2.2.4 no-cache without a quote at its end means all", ETAG + cc('max-age=60, no-cache="X-A'), 200, (), (), "validated"),
    ("9111 5.2.2.4 no-cache and nothing to validate", cc("no-cache, max-age=60"), 200, (), (), "miss"),
    ("9111 5.2.2.8 must-revalidate, stale", ETAG + cc("must-revalidate, max-age=60") + [("Age", "100")], 200, (), cc("max-stale=1000"), "validated"),
    ("9111 5.2.2.7 private with names is not for a private cache", cc('private="X-A", max-age=60') + [("X-A", "1")], 200, (), (), "hit"),
    ("9111 5.2.2.9 proxy-revalidate is not for a private cache", cc("proxy-revalidate, max-age=60") + [("Age", "100")], 200, (), cc("max-stale=1000"), "hit"),
    ("9111 5.4 Pragma in an answer says nothing", cc("max-age=60") + [("Pragma", "no-cache")], 200, (), (), "hit"),
    ("9111 5.4 Pragma: no-cache in a request", ETAG + cc("max-age=60"), 200, (), [("Pragma", "no-cache")], "validated"),
    ("9111 5.4 Pragma: no-cache beside Cache-Control", ETAG + cc("max-age=60"), 200, (), [("Pragma", "no-cache")] + cc("max-age=600"), "hit"),
    ("9111 5.2.1.1 a request's max-age that is no number", ETAG + cc("max-age=600") + [("Age", "100")], 200, (), cc("max-age=x"), "validated"),
    ("9111 5.2.1.2 max-stale on what was never fresh", ETAG + cc("max-age=0"), 200, (), cc("max-stale"), "hit"),
    ("9111 5.2.1.2 max-stale that is no number", ETAG + cc("max-age=60") + [("Age", "100")], 200, (), cc("max-stale=x"), "validated"),
    ("9111 5.2.1.3 min-fresh beyond the lifetime", ETAG + cc("max-age=60"), 200, (), cc("min-fresh=61"), "validated"),
    ("9111 5.2.1.4 no-cache with names in a request", ETAG + cc("max-age=60"), 200, (), cc('no-cache="X-A"'), "hit"),
    ("9111 5.2.1.6 no-transform changes nothing", cc("max-age=60, no-transform"), 200, (), cc("no-transform"), "hit"),
    ("9111 5.1 Age with a fraction is ignored", cc("max-age=60") + [("Age", "100.5")], 200, (), (), "hit"),
    ("9111 5.1 the first of two lines of Age", ETAG + cc("max-age=60") + [("Age", "100"), ("Age", "0")], 200, (), (), "validated"),
    ("9111 5.1 Age and blanks", ETAG + cc("max-age=60") + [("Age", " 100 ")], 200, (), (), "validated"),
    ("9111 4.2.3 a Date ahead makes no age", cc("max-age=60") + [("Date", "AHEAD")], 200, (), (), "hit"),
    ("9111 4.2.3 the larger of apparent age and Age", ETAG + cc("max-age=60") + [("Date", "LONGAGO"), ("Age", "1")], 200, (), (), "validated"),
    ("9111 4.2.1 Expires counts from Date, not from now", cc("public") + [("Date", "AHEAD"), ("Expires", "AHEAD")] + ETAG, 200, (), (), "validated"),
    ("9110 5.6.7 a date in any letter case", [("Expires", "thu, 01 jan 2099 00:00:00 gmt")], 200, (), (), "hit"),
    ("9110 5.6.7 a year of two digits more than 50 years ahead lies in the past", ETAG + [("Expires", "Thursday, 01-Jan-98 00:00:00 GMT")], 200, (), (), "validated"),
    ("9110 5.6.7 seconds beyond 32 bits", [("Expires", "Thu, 01 Jan 2399 00:00:00 GMT")], 200, (), (), "hit"),
    ("9111 4.1 Vary with a star between names", cc("max-age=60") + [("Vary", "X-A, *, X-B")], 200, (), (), "miss"),
    ("9111 4.1 Vary with a star on its second line", cc("max-age=60") + [("Vary", "X-A"), ("Vary", "*")], 200, (), (), "miss"),
    ("9111 4.1 an absent field and an empty one", cc("max-age=60") + [("Vary", "X-A")], 200, (), [("X-A", "")], "miss"),
    ("9111 5.2.1.1 a huge max-age in a request", cc("max-age=600") + [("Age", "100")], 200, (), cc("max-age=99999999999999999999"), "hit"),
    ("9111 5.2.1.1 max-age and max-stale, young enough", cc("max-age=60") + [("Age", "100")], 200, (), cc("max-age=1000, max-stale=1000"), "hit"),
    ("9111 5.2.1.1 max-age and max-stale, too old", ETAG + cc("max-age=60") + [("Age", "100")], 200, (), cc("max-age=50, max-stale=1000"), "validated"),
    ("9111 5.2.1.2 a huge max-stale", cc("max-age=60") + [("Age", "100")], 200, (), cc("max-stale=99999999999999999999"), "hit"),
    ("9111 5.2.1.2 a quoted max-stale", cc("max-age=60") + [("Age", "100")], 200, (), cc('max-stale="1000"'), "hit"),
    ("9111 5.2.1.3 a huge min-fresh", ETAG + cc("max-age=60"), 200, (), cc("min-fresh=99999999999999999999"), "validated"),
    ("9111 5.2.1.4 no-cache on the second line of a request", ETAG + cc("max-age=60"), 200, (), cc("foo") + cc("No-Cache"), "validated"),
    ("9111 5.2.1.5 no-store in the first request", cc("max-age=60"), 200, cc("no-store"), (), "miss"),
    ("9111 5.3 an Expires that is no date beside Last-Modified", [("Expires", "-1"), ("Last-Modified", "LONGAGO")], 200, (), (), "validated"),
    ("9111 4.2.2 no heuristic where no-cache is said", [("Last-Modified", "LONGAGO")] + cc("no-cache"), 200, (), (), "validated"),
    ("9111 5.1 an empty first line of Age", cc("max-age=60") + [("Age", ""), ("Age", "100")], 200, (), (), "hit"),
    ("9111 5.2.2.1 max-age=60 and then a quoted 0", cc('max-age=60, max-age="0"'), 200, (), (), "hit"),
    ("9110 14.2 two ranges are answered whole", cc("max-age=60"), 200, (), [("Range", "bytes=0-1,3-4")], "hit"),
    ("9110 14.2 an unknown unit is answered whole", cc("max-age=60"), 200, (), [("Range", "lines=0-1")], "hit"),
    ("9110 13.1.5 If-Range with a weak tag is answered whole", cc("max-age=60") + [("ETag", 'W/"v1"')], 200, (), [("Range", "bytes=0-1"), ("If-Range", 'W/"v1"')], "hit"),
    ("9110 13.1.5 If-Range with a date that is not the stored one", cc("max-age=60") + [("Last-Modified", "LONGAGO")], 200, (), [("Range", "bytes=0-1"), ("If-Range", "Thu, 01 Jan 1998 00:00:00 GMT")], "hit"),
    ("9110 13.1.3 If-Modified-Since twice is none", cc("max-age=60") + [("Last-Modified", "LONGAGO")], 200, (), [("If-Modified-Since", "Thu, 01 Jan 2099 00:00:00 GMT")] * 2, "hit"),
    ("9110 13.1.3 If-None-Match that differs beats If-Modified-Since", ETAG + cc("max-age=60") + [("Last-Modified", "LONGAGO")], 200, (), [("If-None-Match", '"v2"'), ("If-Modified-Since", "Thu, 01 Jan 2099 00:00:00 GMT")], "hit"),
] + [("9110 5.6.7 no date: " + text, ETAG + [("Expires", text)], 200, (), (), "validated") for text in (
    "Thu, 01 Jan 2099 00:00:00 EST", "Thu, 01 Jan 2099 00:00:00 +0000", "Thu, 01-Jan-2099 00:00:00 GMT", "Thu, 01 Jan 2099 0:00:00 GMT", "Thu  01 Jan 2099 00:00:00 GMT",
    "Thu, 01 Jan  2099 00:00:00 GMT", "01 Jan 2099 00:00:00 GMT", "Thu, 01 Jan 2099 00:00:00", "Thu, 1 Jan 2099 00:00:00 GMT", "Thu, 32 Jan 2099 00:00:00 GMT",
    "Thu, 30 Feb 2099 00:00:00 GMT", "Thu, 01 Jan 2099 24:00:00 GMT", "2099-01-01T00:00:00Z", "4070908800", "Thu, 01 Jan 2099 00:00:00 GMT, Thu, 01 Jan 2099 00:00:00 GMT")]

TARGET = "CDN-Cache-Control"
SHARED_ROWS = [
    ("9111 5.2.2.9 proxy-revalidate, stale", ETAG + cc("proxy-revalidate, max-age=60") + [("Age", "100")], (), cc("max-stale=1000"), "validated"),
    ("9111 5.2.2.10 s-maxage forbids stale", ETAG + cc("s-maxage=60") + [("Age", "100")], (), cc("max-stale=1000"), "validated"),
    ("9111 5.2.2.10 s-maxage that is no number", ETAG + cc("s-maxage=x, max-age=60"), (), (), "validated"),
    ("9111 5.2.2.7 private in upper case", cc("PRIVATE, max-age=60"), (), (), "miss"),
    ("9111 5.2.2.7 private with an empty list means all", cc('private="", max-age=60'), (), (), "miss"),
    ("9111 3.5 Authorization, the second time only", cc("max-age=60"), (), AUTH, "hit"),
    ("9111 3.5 Authorization and private, public", cc("private, public, max-age=60"), AUTH, AUTH, "miss"),
    ("9111 5.2.2.7 Cookie is no credential to a shared cache", cc("max-age=60"), [("Cookie", "a=1")], [("Cookie", "a=2")], "hit"),
    ("9213 2.2 it beats Expires", ETAG + [("Expires", "AHEAD"), (TARGET, "max-age=0")], (), (), "validated"),
    ("9213 2.2 it beats s-maxage", ETAG + cc("s-maxage=60") + [(TARGET, "max-age=0")], (), (), "validated"),
    ("9213 2.2 unknown members alone replace Cache-Control", ETAG + cc("max-age=60") + [(TARGET, "foo")], (), (), "validated"),
    ("9213 2.2 without freshness Expires does not count either", ETAG + [("Expires", "AHEAD"), (TARGET, "public")], (), (), "validated"),
    ("9213 2.1 names are case-sensitive", ETAG + cc("max-age=60") + [(TARGET, "MAX-AGE=60, foo")], (), (), "hit"),
    ("9213 2.1 a wrong type: a string", ETAG + cc("max-age=60") + [(TARGET, 'max-age="60"')], (), (), "validated"),
    ("9213 2.1 a wrong type: a token", ETAG + cc("max-age=60") + [(TARGET, "max-age=a")], (), (), "validated"),
    ("9213 2.1 a wrong type: a decimal", ETAG + cc("max-age=60") + [(TARGET, "max-age=60.0")], (), (), "validated"),
    ("9213 2.1 false is not there", cc("no-store") + [(TARGET, "max-age=60, no-store=?0")], (), (), "hit"),
    ("9213 2.1 the last of duplicates counts", ETAG + [(TARGET, "max-age=60, max-age=0")], (), (), "validated"),
    ("9213 2.1 the last of duplicates has a wrong type", ETAG + cc("max-age=60") + [(TARGET, "max-age=60, max-age=a")], (), (), "validated"),
    ("9111 3.5 Authorization and must-revalidate", cc("must-revalidate, max-age=60"), AUTH, (), "hit"),
    ("9111 3.5 Authorization and proxy-revalidate", cc("proxy-revalidate, max-age=60"), AUTH, AUTH, "miss"),
    ("9213 2.1 parameters are ignored", [(TARGET, "max-age=60;x=1")], (), (), "hit"),
    ("9213 2.1 two lines are one dictionary", [(TARGET, "max-age=60"), (TARGET, "foo=(1 2)")], (), (), "hit"),
    ("9213 2.1 an invalid second line makes it all invalid", ETAG + cc("max-age=0") + [(TARGET, "max-age=60"), (TARGET, "(")], (), (), "validated"),
    ("9213 2.1 a blank behind the equals sign is invalid", cc("max-age=60") + [(TARGET, "max-age= 0")], (), (), "hit"),
    ("9213 2.1 a comma at the end is invalid", cc("max-age=60") + [(TARGET, "no-store,")], (), (), "hit"),
    ("9213 2.2 private", cc("max-age=60") + [(TARGET, "private, max-age=60")], (), (), "miss"),
]


def test_rules(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, PLAIN)
    for number, (name, fields, status, first, second, wanted) in enumerate(ROWS):
        with t.case(name):
            equal(outcome(sidecar, Counted(origin, "/r%d" % number, fill_in(fields), status), first, second), wanted, "outcome")


def test_rules_of_a_shared_cache(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, SHARED)
    for number, (name, fields, first, second, wanted) in enumerate(SHARED_ROWS):
        with t.case(name):
            equal(outcome(sidecar, Counted(origin, "/s%d" % number, fill_in(fields)), first, second), wanted, "outcome")
    with t.case("9111 5.2.2.7 private with names: those fields are not stored"):
        Counted(origin, "/pf", cc('max-age=60, private="X-A, x-c"') + [("X-A", "1"), ("X-B", "2"), ("X-C", "3")])
        first, second = sidecar.request("/pf"), sidecar.request("/pf")
        check("hit" in second.get("Cache-Status"), "Cache-Status: %r" % second.get("Cache-Status"))
        equal([[r.get(n) for n in ("X-A", "X-B", "X-C")] for r in (first, second)], [["1", "2", "3"], [None, "2", None]], "fields")


def test_pain_21_an_encoded_answer_goes_to_who_accepts_it(t):
    """An origin that forgets Vary: an encoded answer is kept as if Accept-Encoding were there."""
    origin = t.origin()
    sidecar = t.sidecar(origin, PLAIN)
    gzip = cc("max-age=60") + [("Content-Encoding", "gzip")]
    rows = [("the same", "gzip", "gzip", "hit"), ("more", "gzip", "br, gzip;q=0.2", "hit"), ("its other name", "gzip", "x-gzip", "hit"), ("anything", "gzip", "*", "hit"),
            ("none asked for", "gzip", None, "miss"), ("an empty list", "gzip", "", "miss"), ("identity", "gzip", "identity", "miss"), ("another", "gzip", "br", "miss"),
            ("refused", "gzip", "gzip;q=0", "miss"), ("all others refused", "gzip", "br, *;q=0", "miss")]
    for number, (name, first, second, wanted) in enumerate(rows):
        with t.case(name):
            counted = Counted(origin, "/g%d" % number, gzip)
            equal(outcome(sidecar, counted, [("Accept-Encoding", first)], [] if second is None else [("Accept-Encoding", second)]), wanted, "outcome")
    with t.case("both variants stay"):
        counted = Counted(origin, "/both", gzip)
        accept = [("Accept-Encoding", "gzip")]
        one = sidecar.request("/both", fields=accept).body
        counted.fields = cc("max-age=60")
        two = sidecar.request("/both").body
        equal((sidecar.request("/both").body, len(counted.seen)), (two, 2), "the plain one again")
        check(sidecar.request("/both", fields=accept).body in (one, two), "either will do for who accepts both")
        equal(len(counted.seen), 2, "requests at the origin")
    with t.case("who waits for the same fetch and does not accept it goes alone"):
        release = threading.Event()

        def answer(conn, request):
            release.wait(PATIENCE)
            conn.reply(200, gzip if request.has("Accept-Encoding") else cc("max-age=60"), b"packed" if request.has("Accept-Encoding") else b"plain")
        origin.on["/wait"] = answer
        with sidecar.client() as first, sidecar.client() as second:
            first.send(make_request("/wait", fields=[("Accept-Encoding", "gzip")]))
            origin.wait_requests(1, "/wait")
            second.send(make_request("/wait"))
            wait_for(lambda: sidecar.metric("promptops_active_requests") >= 2, "two active requests")
            release.set()
            equal((first.response().body, second.response().body), (b"packed", b"plain"), "bodies")


def test_9111_3_1_hop_by_hop_fields_are_not_stored(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, PLAIN)
    named = [("Connection", "X-Listed, close-not"), ("Keep-Alive", "timeout=5"), ("Proxy-Connection", "keep-alive"), ("Proxy-Authenticate", "Basic"),
             ("Proxy-Authentication-Info", "x=1"), ("Proxy-Authorization", "Basic x"), ("TE", "trailers"), ("Upgrade", "x/1"), ("X-Listed", "1")]
    kept = [("Set-Cookie", "a=b"), ("X-Empty", ""), ("Warning", '110 - "x"'), ("Public", "GET"), ("Accept-Ranges", "none"), ("X-Latin", "\xe9")]
    Counted(origin, "/hop", cc("max-age=60") + named + kept)
    sidecar.request("/hop")
    second = sidecar.request("/hop")
    check("hit" in second.get("Cache-Status"), "a hit")
    for name, _ in named:
        with t.case("not stored: " + name):
            if name == "Connection":
                check("X-Listed" not in second.get(name, ""), "Connection: %r" % second.get(name))
            else:
                check(not second.has(name), "%s: %r" % (name, second.get(name)))
    for name, value in kept:
        with t.case("stored: " + name):
            equal(second.all(name), [value], "values")


def test_9111_4_3_4_what_a_304_replaces(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, PLAIN)
    rows = [(name, True) for name in ("Cache-Control", "Expires", "X-Own", "Set-Cookie", "Content-Foo", "Content-Location", "Content-Language", "X-New", "Last-Modified-Not", "Link")]
    rows += [(name, False) for name in ("Content-Encoding", "Content-Type", "Content-Range")]
    for name, replaced in rows:
        with t.case("%s is %s" % (name, "replaced" if replaced else "kept")):
            old, new = ("max-age=60", "max-age=61") if name == "Cache-Control" else (date(1000), date(2000)) if name == "Expires" else ("old", "new")
            path = "/u-" + name
            base = ETAG + ([] if name == "Cache-Control" else cc("max-age=60"))
            counted = Counted(origin, path, base + [("Age", "100")] + ([] if name == "X-New" else [(name, old)]))
            sidecar.request(path)
            counted.fields = base + [(name, new)]
            for what in ("the validated answer", "a later hit"):
                equal(sidecar.request(path).all(name), [new if replaced else old], what)
            equal(len(counted.seen), 2, "requests at the origin")
    with t.case("a wrong Content-Length of a 304 is not believed"):
        counted = Counted(origin, "/len", cc("max-age=60") + ETAG + [("Age", "100")])
        body = sidecar.request("/len").body
        origin.on["/len"] = b'HTTP/1.1 304 Not Modified\r\nETag: "v1"\r\nCache-Control: max-age=60\r\nContent-Length: 3\r\n\r\n'
        for _ in range(2):
            response = sidecar.request("/len")
            equal((response.body, response.all("Content-Length")), (body, [str(len(body))]), "answer")
    with t.case("all lines of a field are replaced together"):
        counted = Counted(origin, "/lines", cc("max-age=60") + ETAG + [("Age", "100"), ("X-L", "1"), ("X-L", "2"), ("X-L", "3")])
        sidecar.request("/lines")
        counted.fields = cc("max-age=60") + ETAG + [("x-l", "4"), ("x-l", "5")]
        equal(sidecar.request("/lines").all("X-L"), ["4", "5"], "lines")
    with t.case("Age starts anew"):
        counted = Counted(origin, "/age", cc("max-age=600") + ETAG + [("Age", "700")])
        sidecar.request("/age")
        counted.fields = cc("max-age=600") + ETAG
        near(int(sidecar.request("/age").get("Age")), 0, 5, "Age")
        check("hit" in sidecar.request("/age").get("Cache-Status"), "fresh again")
    with t.case("4.3.4 a 304 with another strong validator is about something else: asked again"):
        counted = Counted(origin, "/other", cc("max-age=60") + ETAG + [("Age", "100")])
        sidecar.request("/other")

        def other(conn, request):
            if request.has("If-None-Match"):
                conn.reply(304, [("ETag", '"v9"')], b"")
            else:
                conn.reply(200, cc("max-age=60") + [("ETag", '"v9"')], b"nine")
        origin.on["/other"] = other
        equal([sidecar.request("/other").body for _ in range(2)], [b"nine", b"nine"], "bodies")
    with t.case("a 304 that says no-store is served, and the entry goes"):
        counted = Counted(origin, "/ns", cc("max-age=60") + ETAG + [("Age", "100")])
        body = sidecar.request("/ns").body
        counted.fields = cc("no-store") + ETAG
        equal(sidecar.request("/ns").body, body, "body")
        sidecar.request("/ns")
        check(not counted.seen[2].has("If-None-Match"), "nothing is left to validate")


def test_names_in_directives_hold_through_a_304(t):
    """5.2.2.4, 5.2.2.7: which fields are not stored is said by the Cache-Control in force, whichever answer carried the field."""
    origin = t.origin()
    named, plain, old = 'max-age=60, %s="X-A"', "max-age=60", [("Age", "100")]
    for scope, settings in [("shared", SHARED), ("private", PLAIN)]:
        sidecar = t.sidecar(origin, settings)
        for directive in ("no-cache", "private"):
            kept = directive == "private" and scope == "private"
            for number, (name, first, second) in enumerate([("stored, the 304 says nothing", named, None), ("stored and said again", named, named), ("said by the 304 only", plain, named)]):
                with t.case("%s cache, %s: %s" % (scope, directive, name)):
                    path = "/%s-%s-%d" % (scope, directive, number)
                    counted = Counted(origin, path, ETAG + old + cc(first.replace("%s", directive)) + [("X-A", "1"), ("X-B", "1")])
                    sidecar.request(path)
                    counted.fields = ETAG + (cc(second.replace("%s", directive)) if second else []) + [("X-A", "2"), ("X-B", "2")]
                    sidecar.request(path)
                    response = sidecar.request(path)
                    equal(len(counted.seen), 2, "requests at the origin")
                    equal((response.all("X-A"), response.all("X-B")), (["2"] if kept else [], ["2"]), "fields of a hit")


def test_9111_5_2_1_7_only_if_cached(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, PLAIN)
    tag = ("If-Match", '"v1"')
    # name, fields of the stored answer, the request's directives, its other fields, status
    rows = [("fresh", [], "only-if-cached", [], 200), ("stale", [("Age", "100")], "only-if-cached", [], 504), ("stale, and taken", [("Age", "100")], "only-if-cached, max-stale", [], 200),
            ("no-cache", [], "only-if-cached, no-cache", [], 504), ("no-store", [], "no-store, only-if-cached", [], 504), ("If-Match is for the origin", [], "only-if-cached", [tag], 504),
            ("too old", [("Age", "50")], "only-if-cached, max-age=10", [], 504), ("upper case, with a value", [("Age", "100")], "ONLY-IF-CACHED=1", [], 504)]
    for number, (name, fields, directives, more, status) in enumerate(rows):
        with t.case(name):
            counted = Counted(origin, "/c%d" % number, ETAG + cc("max-age=60") + fields)
            sidecar.request(counted.path)
            equal(sidecar.request(counted.path, fields=cc(directives) + more).status, status, "status")
            equal(len(counted.seen), 1, "requests at the origin")
    with t.case("nothing stored"):
        equal([sidecar.request("/none", method, cc("only-if-cached")).status for method in ("GET", "HEAD")], [504, 504], "statuses")
        equal(origin.count("/none"), 0, "requests at the origin")


def test_9111_4_3_1_conditions_that_are_sent(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, PLAIN)
    with t.case("the client's own are dropped, ours are sent, with the fields that Vary names"):
        counted = Counted(origin, "/v", cc("max-age=60") + [("Age", "100"), ("ETag", 'W/"x\\y"'), ("Vary", "X-A")])
        sidecar.request("/v", fields=[("X-A", "1")])
        sidecar.request("/v", fields=[("X-A", "1"), ("If-None-Match", '"mine"'), ("If-Modified-Since", date(-5)), ("Range", "bytes=0-1"), ("If-Range", '"mine"')])
        seen = counted.seen[1]
        equal([seen.all(n) for n in ("If-None-Match", "If-Modified-Since", "X-A", "Range", "If-Range")], [['W/"x\\y"'], [], ["1"], [], []], "what the origin was asked")
    with t.case("an unquoted ETag goes back as it came"):
        counted = Counted(origin, "/uq", cc("max-age=60") + [("Age", "100"), ("ETag", "abc")])
        sidecar.request("/uq")
        sidecar.request("/uq")
        equal(counted.seen[1].all("If-None-Match"), ["abc"], "condition")
    with t.case("a Last-Modified that is no date is no validator"):
        counted = Counted(origin, "/bad", cc("max-age=60") + [("Age", "100"), ("Last-Modified", "yesterday")])
        sidecar.request("/bad")
        sidecar.request("/bad")
        equal(counted.seen[1].all("If-Modified-Since"), [], "condition")
    with t.case("an ETag with bytes above 127"):
        counted = Counted(origin, "/obs", cc("max-age=60") + [("ETag", '"\xe9\xff"')])
        sidecar.request("/obs")
        equal((sidecar.request("/obs", fields=[("If-None-Match", '"a", "\xe9\xff"')]).status, len(counted.seen)), (304, 1), "status, requests at the origin")
    with t.case("If-Match and If-Unmodified-Since are for the origin"):
        for name, value in [("If-Match", '"v1"'), ("If-Unmodified-Since", date())]:
            counted = Counted(origin, "/" + name, cc("max-age=60") + ETAG)
            sidecar.request("/" + name)
            sidecar.request("/" + name, fields=[(name, value)])
            equal((len(counted.seen), counted.seen[1].get(name)), (2, value), "requests, condition")


def test_9111_4_3_5_head_freshens_or_contradicts(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, PLAIN)
    modified = date(-5000)
    stored = cc("max-age=60") + [("Age", "100"), ("ETag", '"v1"'), ("Last-Modified", modified), ("X-V", "old")]
    # name, fields of the HEAD's answer, outcome of a GET then
    rows = [("the same ETag", ETAG, "hit"), ("the same ETag and Last-Modified", ETAG + [("Last-Modified", modified)], "hit"), ("the same Last-Modified", [("Last-Modified", modified)], "hit"),
            ("no validator", [], "validated"), ("another ETag", [("ETag", '"v2"')], "miss"), ("another Last-Modified", ETAG + [("Last-Modified", date(-4000))], "miss"),
            ("another length", ETAG + [("Content-Length", "999")], "miss")]
    for number, (name, fields, wanted) in enumerate(rows):
        with t.case(name):
            path = "/h%d" % number
            counted = Counted(origin, path, stored, body=b"0123456789")
            sidecar.request(path)
            length = [] if any(n == "Content-Length" for n, _ in fields) else [("Content-Length", "10")]
            origin.on[path] = lambda conn, request, f=fields + length: conn.send(make_response(200, cc("max-age=60") + f + [("X-V", "new"), ("Date", date())], b"", length=False))
            equal(sidecar.request(path, "HEAD").status, 200, "status of the HEAD")
            counted.fields, origin.on[path] = stored, counted.answer
            response = sidecar.request(path)
            got = "hit" if len(counted.seen) == 1 else "validated" if counted.seen[1].has("If-None-Match") else "miss"
            equal(got, wanted, "outcome of the GET")
            if wanted == "hit":
                equal((response.body, response.get("X-V")), (b"0123456789", "new"), "body and field")
    with t.case("9110 9.3.2 HEAD of a stale GET goes to the origin, and is not stored as one"):
        counted = Counted(origin, "/stale", stored, body=b"0123456789")
        sidecar.request("/stale")
        sidecar.request("/stale", "HEAD")
        equal([r.method for r in counted.seen], ["GET", "HEAD"], "requests at the origin")


def test_9111_4_4_invalidation(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, PLAIN)
    here = "http://127.0.0.1:%d" % origin.port
    # name, method, status, fields with {} for the other path, is the target dropped, is the other
    rows = [("Location", "POST", 201, [("Location", "{}")], True, True), ("Content-Location", "PUT", 200, [("Content-Location", "{}")], True, True),
            ("an absolute URI of this origin", "POST", 200, [("Location", here + "{}")], True, True), ("another host", "POST", 201, [("Location", "http://other.example{}")], True, False),
            ("another port", "POST", 201, [("Location", "http://127.0.0.1:1{}")], True, False), ("a redirect", "POST", 303, [("Location", "{}")], True, True),
            ("a relative path with dots", "DELETE", 204, [("Location", "/x/..{}")], True, True), ("400", "POST", 400, [("Location", "{}")], False, False),
            ("500", "PUT", 500, [("Location", "{}")], False, False), ("a safe method", "OPTIONS", 200, [("Location", "{}")], False, False),
            ("an unknown method", "FROB", 200, [], True, False)]
    for number, (name, method, status, fields, target, other) in enumerate(rows):
        with t.case(name):
            one, two = Counted(origin, "/t%d" % number, cc("max-age=60")), Counted(origin, "/o%d" % number, cc("max-age=60"))
            for counted in (one, two):
                sidecar.request(counted.path)
            origin.on[one.path] = lambda conn, request, c=one, f=fields, s=status, o=two: conn.reply(s, [(n, v.format(o.path)) for n, v in f], b"") if request.method != "GET" else c.answer(conn, request)
            sidecar.request(one.path, method)
            for counted in (one, two):
                sidecar.request(counted.path)
            equal((len(one.seen), len(two.seen)), (2 if target else 1, 2 if other else 1), "requests at the origin")
    with t.case("each credential for itself"):
        counted = Counted(origin, "/cred", cc("max-age=60"))
        for method, credential in [("GET", "a"), ("GET", "b"), ("POST", "a"), ("GET", "b"), ("GET", "a")]:
            sidecar.request("/cred", method, [("Authorization", credential)])
        equal([(r.method, r.get("Authorization")) for r in counted.seen], [("GET", "a"), ("GET", "b"), ("POST", "a"), ("GET", "a")], "requests at the origin")


def test_a_star_purges_all_tags_that_begin_so(t):
    origin = t.origin()
    routes = [{"match": {"path": "/things/{id}/{rest...}", "methods": ["GET"]}, "operation": "read", "cache": {"ttl": "1h", "tags": ["thing:{id}:{rest}"]}},
              {"match": {"path": "/things/{id}", "methods": ["PUT"]}, "operation": "write", "invalidates": ["thing:{id}:*"]}]
    sidecar = t.sidecar(origin, {**PLAIN, "routes": routes})
    paths = ["/things/1/a", "/things/1/b", "/things/12/a", "/things/2/a"]
    for path in paths + paths:
        sidecar.request(path)
    equal([origin.count(path) for path in paths], [1, 1, 1, 1], "requests before the write")
    sidecar.request("/things/1", "PUT", body=b"x")
    for path in paths:
        sidecar.request(path)
    equal([origin.count(path) for path in paths], [2, 2, 1, 1], "requests after it")
    sidecar.request("/things/2*", "PUT", body=b"x")
    sidecar.request("/things/2/a")
    equal(origin.count("/things/2/a"), 1, "a star that came in with a path is only a byte")


def test_9110_9_3_3_a_post_may_be_stored(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, PLAIN)
    rows = [("its own Content-Location", cc("max-age=60"), "{}", "hit"), ("a relative one", cc("max-age=60"), ".{}", "hit"), ("another", cc("max-age=60"), "/else", "miss"),
            ("none", cc("max-age=60"), None, "miss"), ("no explicit freshness", [("Last-Modified", date(-100000))], "{}", "miss"), ("no-store", cc("no-store"), "{}", "miss")]
    for number, (name, fields, location, wanted) in enumerate(rows):
        with t.case(name):
            counted = Counted(origin, "/p%d" % number, fields + ([("Content-Location", location.format("/p%d" % number))] if location else []))
            posted = sidecar.request(counted.path, "POST", body=b"question").body
            got = sidecar.request(counted.path)
            equal(len(counted.seen), 1 if wanted == "hit" else 2, "requests at the origin")
            check(wanted == "miss" or got.body == posted, "body")
            sidecar.request(counted.path, "POST", body=b"question")
            equal(counted.seen[-1].method, "POST", "a POST is never answered from the store")


def test_5861_windows(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, {**PLAIN, "upstream.response_timeout": "2s"})
    old = [("Age", "100")]
    for status in (500, 502, 503, 504):
        with t.case("4 stale-if-error covers %d, inside its window" % status):
            path = "/e%d" % status
            counted = Counted(origin, path, cc("max-age=60, stale-if-error=1000") + old)
            body = sidecar.request(path).body
            counted.status, counted.fields = status, []
            equal(sidecar.request(path).body, body, "body")
    for status in (400, 403, 404, 429, 501):
        with t.case("4 stale-if-error does not cover %d" % status):
            path = "/n%d" % status
            counted = Counted(origin, path, cc("max-age=60, stale-if-error=1000") + old)
            sidecar.request(path)
            counted.status, counted.fields = status, []
            equal(sidecar.request(path).status, status, "status")
    with t.case("4 a lost connection, inside and outside of the window"):
        for path, window, status in [("/in", 1000, 200), ("/out", 10, 502)]:
            Counted(origin, path, cc("max-age=60, stale-if-error=%d" % window) + old)
            sidecar.request(path)
            origin.on[path] = lambda conn, request: (conn.reset(), False)[1]
            equal(sidecar.request(path).status, status, "status")
    with t.case("4 the request's own stale-if-error"):
        counted = Counted(origin, "/own", cc("max-age=60") + old)
        sidecar.request("/own")
        counted.status, counted.fields = 503, []
        equal([sidecar.request("/own", fields=cc("stale-if-error=%d" % n)).status for n in (1000, 10)], [200, 503], "statuses")
    with t.case("3 one background refresh, however many ask"):
        counted = Counted(origin, "/swr", cc("max-age=60, stale-while-revalidate=1000") + old)
        first = sidecar.request("/swr").body
        release = threading.Event()
        origin.on["/swr"] = lambda conn, request: (counted.seen.append(request), release.wait(PATIENCE), conn.reply(200, cc("max-age=60"), b"new"))[2]
        equal([sidecar.request("/swr").body for _ in range(5)], [first] * 5, "bodies meanwhile")
        release.set()
        wait_for(lambda: sidecar.request("/swr").body == b"new", "the refreshed body")
        equal(len(counted.seen), 2, "requests at the origin")
    with t.case("3 a refresh that fails leaves what is there"):
        counted = Counted(origin, "/swrf", cc("max-age=60, stale-while-revalidate=1000") + old)
        first = sidecar.request("/swrf").body
        counted.status, counted.fields = 503, []
        sidecar.request("/swrf")
        wait_for(lambda: len(counted.seen) >= 2, "the refresh")
        equal(sidecar.request("/swrf").body, first, "body")
    for name, directive in [("must-revalidate", "must-revalidate"), ("no-cache", "no-cache")]:
        with t.case("3 %s forbids it" % name):
            counted = Counted(origin, "/" + name, ETAG + cc("max-age=60, stale-while-revalidate=1000, " + directive) + old)
            equal(outcome(sidecar, counted), "validated", "outcome")


def test_9111_4_2_3_the_delay_of_an_answer_is_age(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, PLAIN)

    def late(conn, _):
        now = date()
        time.sleep(2.1)                   # how long the answer is under way is what is tested
        conn.reply(200, cc("max-age=600") + [("Date", now), ("Age", "10")], b"late")
    origin.on["/late"] = late
    sidecar.request("/late")
    near(int(sidecar.request("/late").get("Age")), 12, 16, "Age: ten and the delay")


SHIM = """
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
time_t time(time_t *out)
{
    struct timespec now;
    long offset = 0;
    FILE *f = fopen(getenv("CLOCK_OFFSET_FILE"), "r");
    if (f) {
        if (fscanf(f, "%ld", &offset) != 1)
            offset = 0;
        fclose(f);
    }
    clock_gettime(CLOCK_REALTIME, &now);
    if (out)
        *out = now.tv_sec + offset;
    return now.tv_sec + offset;
}
"""


def test_clock_jumps(t):
    """The wall clock is set while answers are stored: their age goes on by the monotonic clock."""
    if sanitized():
        raise Skip("the shim that moves the clock does not go with a sanitizer")
    shim, offset = os.path.join(t.directory, "clock.so"), os.path.join(t.directory, "offset")
    with open(shim + ".c", "w", encoding="ascii") as source:
        source.write(SHIM)
    command_or_skip("cc", "-shared", "-fPIC", "-o", shim, shim + ".c")

    def jump(seconds):
        with open(offset + "~", "w", encoding="ascii") as out:
            out.write("%d\n" % seconds)
        os.rename(offset + "~", offset)
    jump(0)
    origin = t.origin()
    sidecar = t.sidecar(origin, PLAIN, env={"LD_PRELOAD": shim, "CLOCK_OFFSET_FILE": offset})
    day = 86400
    for name, seconds in [("a day forwards", day), ("a day back", -day), ("to 1970", -int(time.time()) + 1), ("beyond 32 bits", 1 << 33)]:
        with t.case("stored, then " + name):
            jump(0)
            path = "/" + name.replace(" ", "-")
            counted = Counted(origin, path, cc("max-age=600") + [("Age", "100")])
            sidecar.request(path)
            jump(seconds)
            response = sidecar.request(path)
            check("hit" in response.get("Cache-Status"), "Cache-Status: %r" % response.get("Cache-Status"))
            near(int(response.get("Age")), 100, 105, "Age")
            equal(len(counted.seen), 1, "requests at the origin")
    with t.case("our clock is a day ahead of the origin's when the answer comes: it looks a day old"):
        jump(day)
        counted = Counted(origin, "/ahead", ETAG + cc("max-age=600"))
        equal(outcome(sidecar, counted), "validated", "outcome")
    with t.case("our clock is a day behind: it is new"):
        jump(-day)
        equal(outcome(sidecar, Counted(origin, "/behind", cc("max-age=600"))), "hit", "outcome")


def test_hit_for_miss_ends_when_an_answer_can_be_stored(t):
    """Pain 10: what proved uncacheable is passed side by side for a while; one that can be stored ends that."""
    origin = t.origin()
    sidecar = t.sidecar(origin, PLAIN)
    counted = Counted(origin, "/x", cc("no-store"))
    sidecar.request("/x")
    check("fwd=bypass" in sidecar.request("/x").get("Cache-Status"), "known to be uncacheable")
    counted.fields = cc("max-age=60")
    sidecar.request("/y-other")
    with t.case("each path for itself"):
        equal(outcome(sidecar, Counted(origin, "/z", cc("max-age=60"))), "hit", "outcome")
    with t.case("each credential for itself"):
        equal(outcome(sidecar, counted, AUTH, AUTH) if len(counted.seen) == 0 else sidecar.request("/x", fields=AUTH).status, 200, "status")
        check("hit" in sidecar.request("/x", fields=AUTH).get("Cache-Status"), "a hit of the other credential")
    with t.case("an error is not remembered so"):
        counted = Counted(origin, "/err", [], 503)
        sidecar.request("/err")
        counted.status, counted.fields = 200, cc("max-age=60")
        sidecar.request("/err")
        check("hit" in sidecar.request("/err").get("Cache-Status"), "stored after the error")


def test_9211_every_reason(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, {**PLAIN, "cache.stale_if_error": "1h"})
    with t.case("bypass"):
        Counted(origin, "/b", cc("no-store"))
        sidecar.request("/b")
        check("fwd=bypass" in sidecar.request("/b").get("Cache-Status"), "known to be uncacheable")
    with t.case("request: no-store"):
        check("fwd=request" in sidecar.request("/r", fields=cc("no-store")).get("Cache-Status"), "Cache-Status")
    with t.case("ttl rounds down, also below 0"):
        counted = Counted(origin, "/ttl", cc("max-age=100, stale-while-revalidate=1000") + [("Age", "100")])
        sidecar.request("/ttl")
        origin.on["/ttl"] = lambda conn, request: (conn.gone(), False)[1]
        status = sidecar.request("/ttl").get("Cache-Status")
        check("ttl=-" in status, "stale by less than a second: %r" % status)
    for name, act, words in [("an error", lambda conn, request: conn.reply(503), ["fwd=stale", "fwd-status=503", "detail=stale-if-error", "ttl=-"]),
                             ("no answer", lambda conn, request: (conn.close(), False)[1], ["fwd=stale", "detail=stale-if-error", "ttl=-"])]:
        with t.case("2.1 stale after %s was forwarded, and is no hit" % name):
            path = "/sie-" + name.replace(" ", "-")
            Counted(origin, path, cc("max-age=60") + [("Age", "100")])
            sidecar.request(path)
            origin.on[path] = act
            status = sidecar.request(path).get("Cache-Status")
            check(all(word in status for word in words) and "hit" not in status, "Cache-Status: %r, wanted %r" % (status, words))
    with t.case("no key is told"):
        for path in ("/b", "/ttl"):
            check("key=" not in sidecar.request(path).get("Cache-Status", ""), "the key is told")
    with t.case("what came from another cache stays in front"):
        origin.on["/o"] = make_response(200, cc("max-age=60") + [("Cache-Status", "other; hit")], b"x")
        equal([v.split(";")[0] for v in sidecar.request("/o").all("Cache-Status")], ["other", "promptops-sidecar"], "members")


def test_request_with_a_store_of_none(t):
    """cache.enabled: false is a tunnel for all of this."""
    origin = t.origin()
    sidecar = t.sidecar(origin, {"cache.enabled": False})
    counted = Counted(origin, "/off", cc("max-age=60"))
    equal(outcome(sidecar, counted), "miss", "outcome")
