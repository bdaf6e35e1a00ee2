"""Fields between the hops (RFC 9110 7.6, 7.2; Trace Context; INTERFACE 3): what is dropped, kept, added and rewritten."""
import re

from harness import *

OURS = {"host", "via", "traceparent", "tracestate", "x-request-id", "content-length", "transfer-encoding", "connection", "te"}


def names(message):
    return [n.lower() for n, _ in message.fields]


def test_9110_7_6_1_hop_by_hop_fields_are_not_forwarded(t):
    origin = t.origin()
    sidecar = t.sidecar(origin)
    rows = [("Keep-Alive", "timeout=5"), ("Proxy-Connection", "keep-alive"), ("Proxy-Connection", "close"), ("TE", "gzip"),
            ("TE", "trailers, deflate;q=0.5"), ("Upgrade", "h2c"), ("Proxy-Authorization", "Basic eDp5"), ("Trailer", "X-Sum"),
            ("HTTP2-Settings", "AAMAAABkAAQAAP__"), ("Proxy-Authenticate", "Basic")]
    for name, value in rows:
        with t.case("%s: %s" % (name, value)):
            equal(sidecar.request("/", fields=[(name, value), ("X-Kept", "1")]).status, 200, "status")
            seen = origin.last()
            check(not seen.has(name) or name == "TE" and seen.members("TE") == ["trailers"], "forwarded: %r" % seen.fields)
            equal(seen.get("X-Kept"), "1", "another field")


def test_9110_7_6_1_fields_named_by_connection(t):
    origin = t.origin()
    sidecar = t.sidecar(origin)
    rows = [("X-Hop", ["X-Hop"]), ("close, X-Hop", ["X-Hop"]), ("keep-alive,x-hop,  X-OTHER", ["X-Hop", "X-Other"]),
            (",, X-Hop ,", ["X-Hop"]), ("X-Absent", []), ("\tX-Hop\t", ["X-Hop"])]
    for value, dropped in rows:
        with t.case("Connection: %r" % value):
            sidecar.request("/", fields=[("X-Hop", "1"), ("X-Other", "2"), ("Connection", value), ("X-Kept", "3")])
            seen = origin.last()
            equal(sorted(n for n in ("X-Hop", "X-Other", "X-Kept") if not seen.has(n)), sorted(dropped), "fields dropped")
            check(not set(seen.members("Connection")) & {"x-hop", "x-other", "x-absent"}, "Connection was copied")
    with t.case("on several lines"):
        sidecar.request("/", fields=[("X-Hop", "1"), ("X-Other", "2"), ("Connection", "X-Hop"), ("Connection", "X-Other")])
        check(not origin.last().has("X-Hop") and not origin.last().has("X-Other"), "forwarded")


def test_9110_7_6_1_connection_cannot_drop_what_is_needed(t):
    """`Connection: close, Host` must not take away framing, routing or security."""
    origin = t.origin()
    sidecar = t.sidecar(origin)
    fields = [("Authorization", "Bearer po_x"), ("Cookie", "a=b"), ("X-API-Key", "k"), ("Cache-Control", "no-cache"), ("Content-Type", "text/plain"),
              ("Range", "bytes=0-1"), ("If-None-Match", "\"x\""), ("Idempotency-Key", "i"), ("Max-Forwards", "3")]
    for named in ["Host", "Content-Length"] + [n for n, _ in fields]:
        with t.case(named):
            response = sidecar.request("/", "POST", fields + [("Connection", "keep-alive, %s" % named)], b"hello")
            equal(response.status, 200, "status")
            seen = origin.last()
            equal(seen.body, b"hello", "body")
            check(seen.has("Host"), "no Host")
            equal([n for n, v in fields if seen.get(n) != v], [], "fields that were lost")


def test_9110_7_6_1_hop_by_hop_fields_of_an_answer(t):
    origin = t.origin()
    origin.default = make_response(200, [("Keep-Alive", "timeout=5, max=100"), ("Connection", "keep-alive, X-Hop, Content-Type"), ("X-Hop", "1"),
                                         ("Proxy-Connection", "keep-alive"), ("Proxy-Authenticate", "Basic"), ("Upgrade", "h2c"), ("TE", "gzip"), ("X-Kept", "2"),
                                         ("Content-Type", "text/plain"), ("WWW-Authenticate", "Bearer")], b"ok")
    response = t.sidecar(origin).request("/")
    equal(response.status, 200, "status")
    for name in ("X-Hop", "Proxy-Connection", "Proxy-Authenticate", "Upgrade", "TE"):
        check(not response.has(name), "%s was forwarded" % name)
    check(response.get("Keep-Alive") != "timeout=5, max=100", "Keep-Alive was copied")
    equal((response.get("X-Kept"), response.get("Content-Type"), response.get("WWW-Authenticate")), ("2", "text/plain", "Bearer"), "fields that stay")
    check(not set(response.members("Connection")) & {"x-hop", "content-type"}, "Connection was copied")


def test_9110_10_1_4_te_trailers_passes(t):
    origin = t.origin()
    sidecar = t.sidecar(origin)
    sidecar.request("/", fields=[("TE", "trailers"), ("Connection", "TE")])
    seen = origin.last()
    if seen.has("TE"):
        equal(seen.members("TE"), ["trailers"], "TE")
        check("te" in seen.members("Connection"), "TE without Connection: TE")


def via(message):
    """Via's members without the comments that tell one sidecar from another."""
    return [re.sub(r" \([0-9a-f]+\)$", "", member) for member in message.members("Via")]


def test_9110_7_6_3_via_both_ways(t):
    origin = t.origin()
    origin.default = make_response(200, [("Via", "1.1 inner")], b"ok")
    sidecar = t.sidecar(origin)
    with t.case("added"):
        response = sidecar.request("/")
        equal(via(origin.last()), ["1.1 promptops-sidecar"], "Via at the origin")
        equal(response.members("Via"), ["1.1 inner", "1.1 promptops-sidecar"], "Via at the client")
    with t.case("behind those that are there"):
        sidecar.request("/", fields=[("Via", "1.0 fred, 1.1 p.example"), ("Via", "1.1 q")])
        equal(via(origin.last()), ["1.0 fred", "1.1 p.example", "1.1 q", "1.1 promptops-sidecar"], "Via at the origin")
    with t.case("of an HTTP/1.0 client"):
        sidecar.request("/", version="1.0")
        equal(via(origin.last()), ["1.0 promptops-sidecar"], "Via at the origin")
    with t.case("on an answer of our own"):
        equal(sidecar.raw(b"GET / HTTP/1.1\r\n\r\n").members("Via"), ["1.1 promptops-sidecar"], "Via at the client")


def test_9110_7_2_host_is_the_upstreams(t):
    origin = t.origin()
    sidecar = t.sidecar(origin)
    wanted = "%s:%d" % (origin.host, origin.port)
    for host in ["localhost", "127.0.0.1:8080", "api.promptops.ai", "api.promptops.ai:443", "[::1]:8080", "EXAMPLE.com", "a_b.example", "xn--9ca.example"]:
        with t.case(host):
            equal(sidecar.request("/", host=host).status, 200, "status")
            equal(origin.last().all("Host"), [wanted], "Host at the origin")
    with t.case("without, in HTTP/1.0"):
        equal(sidecar.request("/", host=None, version="1.0").status, 200, "status")
        equal(origin.last().all("Host"), [wanted], "Host at the origin")


def test_9112_3_2_2_absolute_form(t):
    """Rewritten to origin-form; its authority wins over Host; only the configured upstream is ever reached."""
    origin = t.origin()
    other = t.origin()
    sidecar = t.sidecar(origin)
    wanted = "%s:%d" % (origin.host, origin.port)
    rows = [("http://%s/a?b=c" % wanted, wanted, "/a?b=c"), ("http://%s/a" % wanted, "localhost", "/a"), ("http://%s" % wanted, wanted, "/"),
            ("HTTP://%s/" % wanted, wanted, "/")]
    for target, host, path in rows:
        with t.case("%s, Host: %s" % (target.replace(wanted, "UPSTREAM"), host.replace(wanted, "UPSTREAM"))):
            equal(sidecar.request(target, host=host).status, 200, "status")
            seen = origin.last()
            equal((seen.target, seen.all("Host")), (path, [wanted]), "target and Host at the origin")
    with t.case("another host is never reached"):
        before = origin.count()
        with sidecar.client() as client:
            response = client.request("http://%s:%d/" % (other.host, other.port), host=wanted)
        equal(response.status, 200, "status")
        equal((origin.count() - before, len(other.connections)), (1, 0), "requests at the origin and at the other")
        equal(origin.last().all("Host"), [wanted], "Host at the origin")


def test_upstream_path_prefix(t):
    """upstream.url may have a path, put before every request's."""
    origin = t.origin()
    sidecar = t.sidecar(origin.url + "/base")
    equal(sidecar.request("/a?b").status, 200, "status")
    equal(origin.last().target, "/base/a?b", "target at the origin")


def test_9110_10_2_2_a_redirect_by_the_api_to_itself_leads_back_here(t):
    """A server that takes away a slash answers with its own address: who follows it would go past the sidecar, and past the key that it holds."""
    origin = t.origin()
    host = "%s:%d" % (origin.host, origin.port)
    sidecar = t.sidecar(origin, {"cache.enabled": True})
    rows = [("307", 307, "http://HOST/v1/client/prompts?limit=2", "/v1/client/prompts?limit=2"), ("308 that is stored", 308, "http://HOST/b", "/b"),
            ("201", 201, "http://HOST/made", "/made"), ("https, said by what is behind TLS", 302, "https://HOST/c", "/c"),
            ("another host", 302, "http://elsewhere.example/d", "http://elsewhere.example/d"), ("another port", 302, "http://127.0.0.1:1/d", "http://127.0.0.1:1/d"),
            ("two slashes, which would name a host", 302, "http://HOST//evil.example/", "http://HOST//evil.example/"), ("a path", 302, "/e", "/e")]
    for number, (name, status, location, wanted) in enumerate(rows):
        with t.case(name):
            path = "/from%d" % number
            origin.on[path] = make_response(status, [("Location", location.replace("HOST", host)), ("Cache-Control", "max-age=60")], b"")
            for _ in range(2):
                response = sidecar.request(path)
                equal((response.status, response.all("Location")), (status, [wanted.replace("HOST", host)]), "status and Location")
    with t.case("an upstream with a path before ours"):
        origin.on["/base/f"] = make_response(302, [("Location", "http://%s/base/g" % host)], b"")
        equal(t.sidecar(origin.url + "/base").request("/f").all("Location"), ["http://%s/base/g" % host], "Location")


TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})\Z")


def parent_of(request):
    values = request.all("traceparent")
    equal(len(values), 1, "number of traceparent lines")
    match = TRACEPARENT.match(values[0])
    check(match and match.group(1) != "0" * 32 and match.group(2) != "0" * 16, "traceparent %r" % values)
    return match.groups()


def test_trace_context_is_continued(t):
    origin = t.origin()
    sidecar = t.sidecar(origin)
    trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    for flags in ("01", "00"):
        with t.case("flags " + flags):
            sidecar.request("/", fields=[("traceparent", "00-%s-%s-%s" % (trace, span, flags)), ("tracestate", "a=1,b=2")])
            got = parent_of(origin.last())
            equal(got[0], trace, "trace id")
            equal(int(got[2], 16) & 1, int(flags, 16) & 1, "sampled flag")
            equal(origin.last().members("tracestate"), ["a=1", "b=2"], "tracestate")
    with t.case("a later version is read as far as it is known"):
        sidecar.request("/", fields=[("traceparent", "01-%s-%s-01-extra" % (trace, span))])
        equal(parent_of(origin.last())[0], trace, "trace id")
    with t.case("begun where there is none"):
        sidecar.request("/")
        first = parent_of(origin.last())
        sidecar.request("/")
        check(first[0] != parent_of(origin.last())[0], "the same trace twice")


def test_trace_context_bad_starts_a_new_trace(t):
    origin = t.origin()
    sidecar = t.sidecar(origin)
    trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    bad = ["", "00", "00-%s-%s" % (trace, span), "00-%s-%s-1" % (trace, span), "00-%s-%s-01-x" % (trace, span), "ff-%s-%s-01" % (trace, span),
           "00-%s-%s-01" % ("0" * 32, span), "00-%s-%s-01" % (trace, "0" * 16), "00-%s-%s-01" % (trace.upper(), span), "00-%s-%s-zz" % (trace, span),
           "00-%sx-%s-01" % (trace[:-1], span), "00_%s_%s_01" % (trace, span), "0-%s-%s-01" % (trace, span), "00-%s-%s-01" % (trace + "0", span), "junk" * 200]
    for value in bad:
        with t.case(repr(value[:60])):
            equal(sidecar.request("/", fields=[("traceparent", value), ("tracestate", "a=1")]).status, 200, "status")
            check(parent_of(origin.last())[0] != trace, "the trace of a bad traceparent was continued")
            check(not origin.last().has("tracestate"), "tracestate without its traceparent")
    with t.case("two lines"):
        good = ("traceparent", "00-%s-%s-01" % (trace, span))
        sidecar.request("/", fields=[good, ("traceparent", "00-%s-%s-01" % ("1" * 32, span))])
        parent_of(origin.last())


def test_x_request_id_is_kept_or_made(t):
    origin = t.origin()
    sidecar = t.sidecar(origin)
    with t.case("kept"):
        response = sidecar.request("/", fields=[("X-Request-Id", "abc-123")])
        equal(origin.last().all("X-Request-Id"), ["abc-123"], "at the origin")
        check(response.all("X-Request-Id") in (["abc-123"], []), "at the client: %r" % response.all("X-Request-Id"))
    with t.case("made, each its own"):
        made = set()
        for _ in range(3):
            sidecar.request("/")
            equal(len(origin.last().all("X-Request-Id")), 1, "lines at the origin")
            made.add(origin.last().get("X-Request-Id"))
        equal(len(made), 3, "different ids")
        check(all(len(m) >= 16 for m in made), "too short: %r" % made)
    with t.case("an over-long one is not believed, or passed whole"):
        sidecar.request("/", fields=[("X-Request-Id", "x" * 4000)])
        check(len(origin.last().get("X-Request-Id")) in (4000,) or len(origin.last().get("X-Request-Id")) <= 128, "cut")


def test_every_answer_says_where_it_came_from(t):
    """Cache-Status on forwarded answers; Proxy-Status on our own only."""
    origin = t.origin()
    sidecar = t.sidecar(origin, {"cache.enabled": True})
    response = sidecar.request("/")
    check(re.match(r"promptops-sidecar; *(fwd|hit)", response.get("Cache-Status", "")), "Cache-Status: %r" % response.get("Cache-Status"))
    check(not response.has("Proxy-Status"), "Proxy-Status on the origin's answer")
    origin.default = make_response(200, [("Cache-Status", "Inner; hit"), ("Proxy-Status", "inner; error=x")], b"ok")
    response = sidecar.request("/inner")
    equal(response.members("Cache-Status")[0], "inner; hit", "what an inner cache said comes first")
    check("promptops-sidecar" in response.all("Cache-Status")[-1], "our own member: %r" % response.all("Cache-Status"))
    equal(response.get("Proxy-Status"), "inner; error=x", "an inner proxy's own")


def test_made_up_answers_have_the_apis_error_body(t):
    origin = t.origin()
    origin.stop_listening()
    sidecar = t.sidecar(origin.url)
    response = made_up(sidecar.request("/"), 502)
    check("error=connection_refused" in response.get("Proxy-Status"), response.get("Proxy-Status"))
    check("application/json" in response.get("Content-Type", ""), "Content-Type")
    with t.case("HEAD has no body"):
        equal(sidecar.request("/", "HEAD").status, 502, "status")
    with t.case("not for caches"):
        check("no-store" in response.members("Cache-Control") or not response.has("Cache-Control"), response.get("Cache-Control"))


def test_server_timing(t):
    origin = t.origin()
    check(not t.sidecar(origin).request("/").has("Server-Timing"), "off by default")
    timing = t.sidecar(origin, {"server_timing": True}).request("/").all("Server-Timing")
    check(timing and "dur=" in timing[-1], "Server-Timing: %r" % timing)


def test_the_credential_passes_and_is_logged_nowhere(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, {"log.access": True, "log.level": "debug", "cache.enabled": True, "cache.default_ttl": 60})
    secret = "po_SECRETSECRETSECRETSECRET"
    fields = [("Authorization", "Bearer " + secret), ("Cookie", "session=" + secret), ("X-API-Key", secret)]
    sidecar.request("/one", fields=fields)
    equal([origin.last().get(n) for n, _ in fields], [v for _, v in fields], "credentials at the origin")
    sidecar.request("/two?api_key=1", fields=fields)
    for path in ("/metrics", "/api/v1/summary"):
        check(secret not in str(sidecar.admin(path)), "%s tells the credential" % path)
    wait_for(lambda: any("/two" in line for line in sidecar.log + sidecar.out), "the access log line")
    check(not sidecar.logged(secret), "the log tells the credential")
