"""What users of proxies suffer from (pains.md), each a test by its number. Others lie where their subject is:
3 in test_23, 7 in test_24, 9 to 12 in test_31, 16 in test_21, 17, 18, 23 and 25 in test_40, 23 in test_42, 25 in test_43, 24 in test_50."""
import gzip
import os
import threading
import time

from harness import *
from test_30_cache import PLAIN, Counted, cc


def dies_under_its_second_request(act):
    """A server whose connection dies just as its second request arrives: reads it, and act(conn)s."""
    def script(conn):
        conn.request()
        conn.reply()
        conn.request()
        if conn.number == 0:
            act(conn)
        else:
            conn.reply()
            conn.origin.serve(conn)
    return script


def test_pain_01_stale_pooled_connection(t):
    """The upstream closed the idle connection first: a fresh one takes its place, without an attempt being used up."""
    for name, act in [("close", lambda c: c.close()), ("reset", lambda c: c.reset())]:
        for method, body, attempts in [("GET", None, 1), ("HEAD", None, 1), ("DELETE", None, 1), ("PUT", b"x", 2)]:
            with t.case("%s under a %s" % (name, method)):
                origin = t.origin(dies_under_its_second_request(act))
                sidecar = t.sidecar(origin, {"retry.max_attempts": attempts, "retry.budget": 0})  # a free replacement takes nothing from the budget
                equal(sidecar.request("/first").status, 200, "first status")
                equal(sidecar.request("/second", method, body=body).status, 200, "second status")
                equal([r.target for r in origin.requests], ["/first", "/second", "/second"], "requests at the origin")
                equal(len(origin.connections), 2, "upstream connections")
    with t.case("closed while idle, before a POST"):
        origin = t.origin(lambda conn: (conn.request(), conn.reply(), conn.close()))
        sidecar = t.sidecar(origin, {"retry.max_attempts": 1})
        for number in range(5):
            equal(sidecar.request("/%d" % number, "POST", body=b"x").status, 200, "status of POST %d" % number)
            wait_for(lambda: sidecar.connections_to(origin.port) == 0, "the closed connection to be given up")
        equal(len(origin.requests), 5, "requests at the origin")
    with t.case("a fresh connection that dies is no free ride"):
        origin = t.origin(lambda conn: (conn.request(), conn.close()))
        sidecar = t.sidecar(origin, {"retry.max_attempts": 1})
        equal(sidecar.request("/").status, 502, "status")
        equal(origin.count(), 1, "requests at the origin")


def test_pain_01_a_server_with_a_short_idle_timeout(t):
    """Requests come at just the pace at which the server gives up its idle connections: none fails."""
    def script(conn):
        while True:
            try:
                conn.request(timeout=0.03)
            except Slow:
                conn.close()
                return
            conn.reply()
    origin = t.origin(script)
    sidecar = t.sidecar(origin, {"retry.max_attempts": 1})
    with sidecar.client() as client:
        statuses = []
        for _ in range(50):
            statuses.append(client.request("/").status)
            time.sleep(0.03)            # the pace of the application is what is tested
    equal(set(statuses), {200}, "statuses")


def test_pain_02_a_post_that_reached_the_server_is_never_replayed(t):
    """Whatever becomes of its connection, pooled or fresh, retries on or off."""
    for attempts in (1, 3):
        for name, act in [("close", lambda c: c.close()), ("reset", lambda c: c.reset()), ("half an answer", lambda c: (c.send(b"HTTP/1.1 200 OK\r\nConte"), c.close()))]:
            with t.case("%s, pooled, %d attempts" % (name, attempts)):
                origin = t.origin(dies_under_its_second_request(act))
                sidecar = t.sidecar(origin, {"retry.max_attempts": attempts, "retry.base_delay": "1ms"})
                equal(sidecar.request("/first").status, 200, "first status")
                made_up(sidecar.request("/pay", "POST", body=b"10 euro"), 502)
                equal([r.target for r in origin.requests], ["/first", "/pay"], "requests at the origin")
    with t.case("with an Idempotency-Key it may be"):
        origin = t.origin(dies_under_its_second_request(lambda c: c.close()))
        sidecar = t.sidecar(origin, {"retry.max_attempts": 2})
        sidecar.request("/first")
        equal(sidecar.request("/pay", "POST", [("Idempotency-Key", "k")], b"10 euro").status, 200, "status")


def test_pain_05_retries_end_when_the_client_leaves(t):
    origin = t.origin()
    origin.default = make_response(503, [], b"down")
    sidecar = t.sidecar(origin, {"retry.max_attempts": 20, "retry.base_delay": "150ms", "retry.strategy": "fixed_delay", "retry.jitter": "none", "retry.budget": 1.0, "retry.success_rate_threshold": 0})
    client = t.client(sidecar)
    client.send(make_request("/"))
    origin.wait_requests(2)
    client.reset()
    wait_for(lambda: sidecar.metric("promptops_active_requests") == 0, "the request to be given up")
    before = origin.count()
    time.sleep(0.5)                     # time for three more attempts, which must not come
    equal(origin.count(), before, "requests at the origin")


def test_pain_06_retry_after_is_passed_on(t):
    origin = t.origin()
    sidecar = t.sidecar(origin)
    for status in (429, 503):
        for value in ("7", "Wed, 21 Oct 2099 07:28:00 GMT"):
            with t.case("%d, %s" % (status, value)):
                origin.default = make_response(status, [("Retry-After", value)], b"later")
                response = sidecar.request("/")
                equal((response.status, response.all("Retry-After"), response.body), (status, [value], b"later"), "answer")


def test_pain_13_what_is_gone_upstream_is_gone_here(t):
    """404 or 410 on a refresh ends the entry at once, stale windows or not."""
    for status in (404, 410):
        for windows in ("stale-while-revalidate=1000", "stale-if-error=1000"):
            with t.case("%d, %s" % (status, windows)):
                origin = t.origin()
                counted = Counted(origin, "/prompt", cc("max-age=60, " + windows) + [("Age", "100"), ("ETag", '"1"')])
                sidecar = t.sidecar(origin, PLAIN)
                equal(sidecar.request("/prompt").status, 200, "first status")
                counted.status, counted.fields = status, []
                wait_for(lambda: sidecar.request("/prompt").status == status, "the answer to be gone")
                for _ in range(3):
                    equal(sidecar.request("/prompt").status, status, "status afterwards")


def test_pain_13_a_write_is_seen_at_once(t):
    origin = t.origin()
    base = "/v1/client/prompts/p1"
    sidecar = t.sidecar(origin, {**PLAIN, "preset": "promptops"})
    for method in ("PUT", "PATCH", "DELETE"):
        with t.case(method):
            one = {path: Counted(origin, path) for path in (base, base + "/versions", base + "/model/openai/gpt-4")}
            for path in one:
                sidecar.request(path)
            sidecar.request(base, method, body=b"{}" if method != "DELETE" else None)
            before = {path: len(c.seen) for path, c in one.items()}
            for path in one:
                sidecar.request(path)
            equal({path: len(c.seen) - before[path] for path, c in one.items()}, {path: 1 for path in one}, "fetches after the write")


@slow(90)
@alone
def test_pain_15_memory_is_flat(t):
    """Ever new keys, ever new connections: the size of the process stays where its limits put it."""
    if sanitized():
        raise Skip("a sanitizer keeps freed memory")
    origin = t.origin()
    body = b"x" * 4000
    origin.default = make_response(200, cc("max-age=600"), body)
    sidecar = t.sidecar(origin, {**PLAIN, "cache.strategy": "adaptive", "cache.max_memory_bytes": "2MiB", "cache.max_size": 400, "performance.metrics_buffer_size": 1000})

    def go(begin, end):
        with sidecar.client() as client:
            for number in range(begin, end):
                client.send(make_request("/key/%d" % number, fields=[("Authorization", "Bearer %d" % (number % 50))]))
                client.response()
    go(0, 3000)
    warm = sidecar.rss_kib()
    go(3000, 9000)
    grown = sidecar.rss_kib() - warm
    check(grown < 1024, "%d KiB more after 6000 more keys" % grown)
    held = sidecar.metric("promptops_cache_bytes")
    check(held <= 2 << 20, "%d bytes in the cache" % held)


def test_pain_19_a_changed_address_is_found(t):
    """The name points elsewhere: new requests go there, and the old address's connections are given up."""
    in_new_namespace("mnt")
    hosts = os.path.join(t.directory, "hosts")
    write(hosts, "127.0.0.1 api.test\n")
    command_or_skip("mount", "--bind", hosts, "/etc/hosts")
    t.at_end(command_or_skip, "umount", "/etc/hosts")
    old = t.origin(host="127.0.0.1")
    new = t.origin(host="127.0.0.2", port=old.port)
    sidecar = t.sidecar("http://api.test:%d" % old.port, {"upstream.dns_refresh": "1s"})
    equal(sidecar.request("/").status, 200, "status")
    equal((old.count(), new.count()), (1, 0), "requests at the old and the new address")
    write(hosts, "127.0.0.2 api.test\n")
    wait_for(lambda: sidecar.request("/").status == 200 and new.count() > 0, "the new address to be used")
    wait_for(lambda: not old.alive(), "the old address's connections to be closed")
    write(hosts, "\n")
    before = new.count()
    end = time.monotonic() + 1.5
    while time.monotonic() < end:       # the resolver has failed by now: the last good address serves on
        equal(sidecar.request("/").status, 200, "status while the name is unknown")
        time.sleep(0.05)
    check(new.count() > before, "requests at the new address")


def write(path, text):
    with open(path, "w") as out:
        out.write(text)


def test_pain_20_smuggling(t):
    """Whatever an attacker sends on one connection, the victim on another gets its own answer, and no hidden request is seen."""
    origin = t.origin()
    sidecar = t.sidecar(origin, {"cache.enabled": True, "cache.default_ttl": 60})
    origin.on["/victim"] = make_response(200, [], b"for the victim")
    hidden = b"GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n"
    body = b"0\r\n\r\n" + hidden
    attacks = {
        "CL.TE": b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n" % len(body) + body,
        "TE.CL": b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(hidden), hidden),
        "TE.TE": b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-encoding: cow\r\n\r\n" + body,
        "TE with a tab": b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\tchunked\r\nContent-Length: %d\r\n\r\n" % len(body) + body,
        "two lengths": b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: %d\r\n\r\n" % len(hidden) + hidden,
        "bare LF in a field": b"GET /a HTTP/1.1\r\nHost: a\r\nX: y\nTransfer-Encoding: chunked\r\n\r\n" + body,
        "HTTP/1.0 chunked": b"POST /a HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + body,
        "upgrade and go on": b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\nContent-Length: %d\r\n\r\n" % len(hidden) + hidden,
    }
    for name, data in attacks.items():
        with t.case(name):
            with sidecar.client() as attacker:
                attacker.send_if_open(data)
                attacker.half_close()
                attacker.reader.rest()
            equal(sidecar.request("/victim").body, b"for the victim", "the victim's answer")
            check(not any(r.target == "/hidden" for r in origin.requests), "the hidden request was seen")


def test_pain_20_cache_poisoning_by_fields(t):
    """Fields that an origin may believe in must not change what others get from the cache: Host never reaches the origin."""
    origin = t.origin()
    origin.on["/page"] = lambda conn, request: conn.reply(200, cc("max-age=60"), ("link to %s" % request.get("Host")).encode())
    sidecar = t.sidecar(origin, {**PLAIN, "cache.scope": "shared"})
    first = sidecar.request("/page", host="evil.example").body
    check(b"evil" not in first, "the attacker's Host reached the origin")
    equal(sidecar.request("/page").body, first, "the victim's answer")
    with t.case("a method that is overridden"):
        origin.on["/over"] = lambda conn, request: conn.reply(200, cc("max-age=60"), request.method.encode())
        sidecar.request("/over", "POST", body=b"x")
        equal(sidecar.request("/over").body, b"GET", "the victim's answer")
    with t.case("a body on a GET is no part of anybody's answer"):
        origin.on["/fat"] = lambda conn, request: conn.reply(200, cc("max-age=60"), b"got %s" % request.body)
        sidecar.request("/fat", body=b"evil")
        equal(sidecar.request("/fat").body, b"got ", "the victim's answer")


def test_pain_21_a_coded_answer_only_for_those_who_can_read_it(t):
    origin = t.origin()
    plain = b"hello, " * 500

    def answer(conn, request):
        fields = cc("max-age=60") + [("Vary", "Accept-Encoding")]
        if "gzip" in request.members("Accept-Encoding"):
            conn.reply(200, fields + [("Content-Encoding", "gzip"), ("ETag", '"g"')], gzip.compress(plain))
        else:
            conn.reply(200, fields + [("ETag", '"p"')], plain)
    for order in (["gzip", None, "gzip", "identity", None], [None, "gzip", "identity", "gzip"]):
        with t.case(order):
            path = "/c%d" % len(order)
            origin.on[path] = answer
            sidecar = t.sidecar(origin, PLAIN)
            for coding in order:
                response = sidecar.request(path, fields=[("Accept-Encoding", coding)] if coding else [])
                if response.has("Content-Encoding"):
                    equal(coding, "gzip", "a coded answer for a client that accepts")
                    equal(gzip.decompress(response.body), plain, "body")
                else:
                    equal(response.body, plain, "body")


def test_pain_14_a_shared_cache_that_is_away_is_no_matter(t):
    """Nothing listens where redis_url points: the sidecar starts, serves and caches as without it (more in test_60)."""
    sidecar = t.sidecar(t.origin(), {**PLAIN, "cache.redis_url": "redis://127.0.0.1:1/0"})
    equal(sidecar.request("/").status, 200, "status without the shared cache")


def test_pain_18_an_application_that_stops_slowly(t):
    """After TERM the application still has work to finish: a write, on a new connection, in the middle of the drain."""
    import signal
    origin = t.origin()
    begun = threading.Event()

    def slow_write(conn, request):
        begun.set()
        time.sleep(0.3)                 # longer than drain_idle
        conn.reply(201, (), b"stored %d" % len(request.body))
    origin.on["/write"] = slow_write
    sidecar = t.sidecar(origin, {"drain_idle": "150ms", "drain_timeout": "20s"})
    kept = t.client(sidecar)
    kept.request("/")
    sidecar.signal(signal.SIGTERM)
    wait_for(lambda: sidecar.admin("/health/ready")[0] == 503, "readiness to fail")
    response = sidecar.request("/write", "POST", body=b"z" * 50000)
    equal((response.status, response.body), (201, b"stored 50000"), "answer")
    equal(sidecar.wait_exit(), 0, "exit code")
