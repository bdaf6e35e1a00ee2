"""The admin port's parts (INTERFACE 4): health, metrics, summary, pool, circuit, configuration, purge."""
import os
import re
import threading

from harness import *
from test_30_cache import PLAIN, Counted, cc

SAMPLE = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(\{(?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*",?)*\})? (NaN|[+-]Inf|[-+0-9.eE]+)\Z')
WANTED = ["promptops_requests_total", "promptops_request_duration_seconds", "promptops_upstream_requests_total", "promptops_upstream_duration_seconds",
          "promptops_upstream_connect_seconds", "promptops_active_requests", "promptops_cache_hits_total", "promptops_cache_misses_total", "promptops_cache_stale_total",
          "promptops_cache_coalesced_total", "promptops_cache_evictions_total", "promptops_cache_expired_total", "promptops_cache_entries", "promptops_cache_bytes",
          "promptops_cache_saved_seconds_total", "promptops_pool_connections", "promptops_pool_wait_seconds", "promptops_retries_total", "promptops_retry_budget_remaining",
          "promptops_circuit_state"]


def test_metrics_are_well_formed(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, PLAIN)
    Counted(origin, "/a", cc("max-age=60"))
    for path in ("/a", "/a", "/b"):
        sidecar.request(path)
    status, fields, text = sidecar.admin("/metrics")
    equal(status, 200, "status")
    check(fields["Content-Type"].startswith("text/plain"), fields["Content-Type"])
    check(text.endswith("\n"), "the last line has no end")
    types, seen = {}, set()
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            check(name not in types, "two TYPE lines for %s" % name)
            types[name] = kind
        elif not line.startswith("#"):
            match = SAMPLE.match(line)
            check(match, "not a sample: %r" % line)
            check(line.rpartition(" ")[0] not in seen, "twice: %r" % line)
            seen.add(line.rpartition(" ")[0])
            base = re.sub(r"_(bucket|sum|count)\Z", "", match.group(1))
            check(match.group(1) in types or base in types, "no TYPE for %r" % line)
    equal([name for name in WANTED if name not in types], [], "names that are missing")


def test_histograms_add_up(t):
    sidecar = t.sidecar(t.origin())
    for _ in range(7):
        sidecar.request("/")
    metrics = sidecar.metrics()
    buckets = [(k, v) for k, v in metrics.items() if k.startswith("promptops_request_duration_seconds_bucket")]
    values = [v for _, v in buckets]
    equal(values, sorted(values), "buckets that only grow")
    equal(values[-1], 7, "the last bucket")
    equal(sidecar.metric("promptops_request_duration_seconds_count"), 7, "count")


def test_counts_are_exact(t):
    """Every request is counted once: hits, misses, errors, those that broke off."""
    origin = t.origin()
    sidecar = t.sidecar(origin, {**PLAIN, "workers": 2})
    Counted(origin, "/hit", cc("max-age=60"))
    origin.on["/cut"] = lambda conn, request: (conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab"), conn.close(), False)[2]
    origin.on["/500"] = make_response(500, [], b"")
    for path, times in (("/hit", 10), ("/miss", 5), ("/500", 4)):
        for _ in range(times):
            sidecar.request(path)
    for _ in range(3):
        with sidecar.client() as client:
            client.send(make_request("/cut"))
            broken_or_answered(client)
    wait_for(lambda: sidecar.metric("promptops_requests_total") == 22, "22 requests in promptops_requests_total (%s)" % sidecar.metric("promptops_requests_total"))
    equal(sidecar.metric("promptops_requests_total", code="500"), 4, "code 500")
    equal(sidecar.metric("promptops_requests_total", cache="hit"), 9, "hits")
    equal(sidecar.metric("promptops_cache_hits_total"), 9, "promptops_cache_hits_total")
    equal(sidecar.metric("promptops_upstream_requests_total"), 13, "promptops_upstream_requests_total")
    equal(sidecar.metric("promptops_active_requests"), 0, "promptops_active_requests")


def broken_or_answered(client):
    try:
        client.response()
    except Gone:
        pass


def test_active_requests_returns_to_zero(t):
    origin = t.origin()
    release = threading.Event()
    origin.on["/hold"] = lambda conn, request: (release.wait(PATIENCE), conn.reply())[1]
    sidecar = t.sidecar(origin)
    clients = [t.client(sidecar) for _ in range(4)]
    for client in clients:
        client.send(make_request("/hold"))
    wait_for(lambda: sidecar.metric("promptops_active_requests") == 4, "four active requests")
    clients[0].reset()
    wait_for(lambda: sidecar.metric("promptops_active_requests") == 3, "three active requests")
    release.set()
    for client in clients[1:]:
        client.response()
    wait_for(lambda: sidecar.metric("promptops_active_requests") == 0, "no active request")


def test_summary(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, PLAIN)
    Counted(origin, "/a", cc("max-age=60"))
    for _ in range(4):
        sidecar.request("/a")
    status, _, summary = sidecar.admin("/api/v1/summary")
    equal(status, 200, "status")
    for key in ("cache_hit_rate", "error_rate", "throughput", "request_latency", "network_latency", "memory_usage_mb", "cpu_usage", "active_requests", "connection_pool_size",
                "retry_count", "batch_size", "compression_ratio", "requests_total", "upstream_requests_total", "cost", "uptime"):
        check(key in summary, "no %s" % key)
    for key in ("mean", "p50", "p90", "p95", "p99", "max"):
        check(key in summary["request_latency"], "no request_latency.%s" % key)
    for key in ("fetch_seconds_saved", "requests_saved", "bytes_saved"):
        check(key in summary["cost"], "no cost.%s" % key)
    equal((summary["requests_total"], summary["upstream_requests_total"], summary["cost"]["requests_saved"]), (4, 1, 3), "counts")
    near(summary["cache_hit_rate"], 0.7, 0.8, "cache_hit_rate")
    equal(sidecar.admin("/api/v1/summary?window=30m")[0], 200, "status with a window")
    check(sidecar.admin("/api/v1/summary?window=soon")[0] in (400, 422), "status with a bad window")


def test_msgpack_when_asked_for(t):
    sidecar = t.sidecar(t.origin())
    import http.client
    connection = http.client.HTTPConnection(*sidecar.admin_address, timeout=PATIENCE)
    connection.request("GET", "/api/v1/summary", headers={"Accept": "application/msgpack"})
    response = connection.getresponse()
    body = response.read()
    connection.close()
    equal(response.getheader("Content-Type"), "application/msgpack", "Content-Type")
    check(body[:1] in (b"\xde", b"\xdf") or 0x80 <= body[0] <= 0x8f, "not a map: %r" % body[:20])
    check(b"cache_hit_rate" in body, "no cache_hit_rate")


def test_unknown_paths_and_methods(t):
    sidecar = t.sidecar(t.origin())
    for path, method, statuses in [("/nope", "GET", (404,)), ("/metrics", "DELETE", (405,)), ("/api/v1/summary", "POST", (405,)), ("/../../etc/passwd", "GET", (400, 404)),
                                   ("/api/v1/cache/purge", "GET", (404, 405))]:
        with t.case("%s %s" % (method, path)):
            check(sidecar.admin(path, method)[0] in statuses, "status")


def test_the_token_guards_all_but_health(t):
    path = os.path.join(t.directory, "token")
    with open(path, "w") as out:
        out.write("s3cret-token\n")
    sidecar = t.sidecar(t.origin(), {"admin.token_file": path})
    for place in ("/metrics", "/api/v1/summary", "/api/v1/config", "/api/v1/pool"):
        with t.case(place):
            equal(sidecar.admin(place)[0], 401, "status without")
            equal(sidecar.admin(place, fields={"Authorization": "Bearer wrong"})[0], 401, "status with a wrong one")
            equal(sidecar.admin(place, fields={"Authorization": "Bearer s3cret-token"})[0], 200, "status with it")
            equal(sidecar.admin(place, fields={"Authorization": "Bearer s3cret-toke"})[0], 401, "status with a part of it")
    for place in ("/health/live", "/health/ready", "/health/startup"):
        equal(sidecar.admin(place)[0], 200, place)
    check(not sidecar.logged("s3cret"), "the log tells the token")


def test_configuration_is_told(t):
    sidecar = t.sidecar(t.origin(), {"retry.max_attempts": 2})
    status, _, told = sidecar.admin("/api/v1/config")
    equal(status, 200, "status")
    equal(told["options"]["retry.max_attempts"]["value"], 2, "a value")
    check(sidecar.config_path in told["options"]["retry.max_attempts"]["origin"], "where it came from")
    equal(told["options"]["retry.budget"]["origin"], "default", "where another came from")


def test_configuration_is_changed(t):
    sidecar = t.sidecar(t.origin())
    check(not sidecar.request("/").has("Server-Timing"), "off at first")
    status = sidecar.admin("/api/v1/config", "PATCH", {"server_timing": True})[0]
    equal(status, 200, "status of the change")
    wait_for(lambda: sidecar.request("/").has("Server-Timing"), "the change to take effect")
    for name, body in [("unknown key", {"no_such": 1}), ("bad value", {"retry.max_attempts": "many"}), ("a key that needs a restart", {"workers": 7}), ("not an object", [1])]:
        with t.case(name):
            check(sidecar.admin("/api/v1/config", "PATCH", body)[0] in (400, 409, 422), "status")
    check(sidecar.request("/").has("Server-Timing"), "a refused change undid another")


def test_purge(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, {**PLAIN, "preset": "promptops"})
    base = "/v1/client/prompts/p"
    for name, body, gone in [("tag", {"tag": "prompt:p1"}, ["1"]), ("all", {"all": True}, ["1", "2"])]:
        with t.case(name):
            counted = {n: Counted(origin, base + n) for n in ("1", "2")}
            sidecar.admin("/api/v1/cache/purge", "POST", {"all": True})
            for one in counted.values():
                sidecar.request(one.path)
            equal(sidecar.admin("/api/v1/cache/purge", "POST", body)[0], 200, "status")
            for one in counted.values():
                sidecar.request(one.path)
            equal({n: len(c.seen) for n, c in counted.items()}, {n: 2 if n in gone else 1 for n in counted}, "requests at the origin")


def test_a_change_from_another_page_is_refused(t):
    """A web page that the operator looks at must not purge or change anything."""
    sidecar = t.sidecar(t.origin())
    for fields in ({"Origin": "https://evil.example"}, {"Origin": "null"}):
        with t.case(repr(fields)):
            equal(sidecar.admin("/api/v1/cache/purge", "POST", {"all": True}, {**fields, "Content-Type": "text/plain"})[0], 403, "status")


def test_the_admin_port_survives_bad_input(t):
    sidecar = t.sidecar(t.origin())
    for data in (b"\0" * 1000, b"GET /metrics HTTP/1.1\r\n" + b"X: y\r\n" * 100000, b"POST /api/v1/cache/purge HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n{",
                 b"POST /api/v1/cache/purge HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 4\r\n\r\n[[[[", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00"):
        client = RawClient(sidecar.admin_address)
        client.send_if_open(data)
        client.close()
        equal(sidecar.admin("/health/live")[0], 200, "live after %r" % data[:30])
    check(sidecar.request("/").status == 200, "the proxy itself")


def test_pain_24_labels_are_bounded(t):
    """2000 paths, 60 methods, many hosts and statuses: the number of series stays small."""
    origin = t.origin()
    sidecar = t.sidecar(origin, {"preset": "promptops"})
    with sidecar.client() as client:
        for number in range(2000):
            client.request("/random/%d/x%d" % (number, number * 7), host="h%d.example" % number)
        for number in range(60):
            client.request("/m", "METHOD%d" % number)
        for number in range(200, 600):
            if number not in (204, 304):
                origin.default = make_response(number, [], b"")
                client.request("/s")
    series = len(sidecar.metrics())
    check(series < 2000, "%d series" % series)
    requests = [k for k in sidecar.metrics() if k.startswith("promptops_requests_total")]
    check(len(requests) < 500, "%d series of promptops_requests_total" % len(requests))
    check(not any("random" in k or "METHOD1" in k for k in sidecar.metrics()), "a label is what a client sent")
    equal(sidecar.metric("promptops_requests_total"), 2000 + 60 + 398, "requests counted all the same")


def test_the_access_log(t):
    """One JSON object a request, whatever the request holds."""
    sidecar = t.sidecar(t.origin(), {"log.access": True})
    sidecar.request("/plain?q=1")
    sidecar.request("/odd\"\\<>", fields=[("User-Agent", "caf\xe9 \"x\"")])
    sidecar.raw(b"BAD\r\n\r\n")
    entries = wait_for(lambda: [e for e in sidecar.entries() if "/plain" in str(e)] and [e for e in sidecar.entries() if "/odd" in str(e)], "both requests in the log")
    check(entries[0], "no entry")
    text = [line for line in sidecar.log + sidecar.out if "/plain" in line][0]
    for word in ("GET", "200"):
        check(word in text, "no %s in %r" % (word, text))
