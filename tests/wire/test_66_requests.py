"""Single requests by the admin port: what is kept, where the time went, each in a sentence (INTERFACE 4)."""
import threading
import time

from harness import *
from test_30_cache import PLAIN, Counted, cc
from test_53_perf import perf


def requests(sidecar, query=""):
    status, _, told = sidecar.admin("/api/v1/requests" + query)
    equal(status, 200, "status")
    return told["requests"]


def one(sidecar, path):
    """The newest kept request of a path."""
    found = []

    def there():
        found[:] = [r for r in requests(sidecar, "?limit=1000") if r["path"] == path]
        return found
    wait_for(there, "a request of " + path)
    return found[0]


def test_the_phases_add_up(t):
    """An answer that begins late and comes slowly, behind a retry: the phases are where the time went."""
    origin = t.origin()
    tries = []

    def slow(conn, request):
        tries.append(1)
        if len(tries) == 1:
            conn.reply(503)
            return True
        time.sleep(0.1)   # the pace of the origin is what is tested
        conn.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        time.sleep(0.1)
        conn.send(b"3\r\ndef\r\n0\r\n\r\n")
        return True
    origin.on["/slow"] = slow
    sidecar = t.sidecar(origin, {"retry.max_attempts": 3, "retry.base_delay": "50ms", "retry.jitter": "none", "retry.strategy": "fixed_delay", "server_timing": True})
    with sidecar.client() as client:
        answer = client.request("/slow", fields=[("TE", "trailers"), ("X-Request-Id", "mine"), ("Connection", "TE")])
        equal(answer.status, 200, "status")
        timing = " ".join(v for k, v in answer.fields if k.lower() == "server-timing")
    for word in ("upstream;dur=", "retry;dur=", "total;dur="):
        check(word in timing, "%s is not in %r" % (word, timing))
    r = one(sidecar, "/slow")
    p = r["phases"]
    near(p["wait"], 0.09, 1, "wait")
    near(p["body"], 0.09, 1, "body")
    near(p["retry_delay"], 0.045, 1, "retry_delay")
    near(sum(w["duration"] for w in r["waterfall"]), r["duration"] * 0.97 - 0.002, r["duration"] + 0.001, "the sum")
    equal([(a["status"], a["outcome"]) for a in r["tried"]], [(503, r["tried"][0]["outcome"]), (200, r["tried"][1]["outcome"])], "attempts")
    check(r["tried"][1]["at"] >= 0.045 and r["tried"][1]["duration"] >= 0.19, r["tried"])
    equal((r["circuit"], r["retries"], r["attempts"]), ("not_asked" if r["circuit"] == "not_asked" else "closed", 1, 2), "circuit and retries")
    for words in ("was answered 200", "the first ended with 503", "pausing between attempts", "waiting for the API's answer to begin"):
        check(words in r["explanation"], "%r is not in %r" % (words, r["explanation"]))
    for name in (r["id"], "mine"):
        status, _, told = sidecar.admin("/api/v1/requests/" + name)
        equal((status, told["path"]), (200, "/slow"), "by " + name)
    equal(sidecar.admin("/api/v1/requests/9-9")[0], 404, "an unknown one")
    code, out, errors = perf(sidecar, "analyze", "--request", "mine")
    check(code == 0 and "was answered 200" in out, out + errors)
    code, out, errors = perf(sidecar, "analyze", "--requests")
    check(code == 0 and "/slow" in out, out + errors)
    equal(perf(sidecar, "analyze", "--request", "no such")[0], 1, "exit code for an unknown one")


def test_the_wait_for_a_place_is_queue(t):
    origin = t.origin()
    release = threading.Event()
    origin.on["/hold"] = lambda conn, request: (release.wait(PATIENCE), conn.reply())[1]
    sidecar = t.sidecar(origin, {"concurrency.mode": "fixed", "concurrency.max": 1, "concurrency.min": 1, "concurrency.queue_timeout": "10s", "server_timing": True})
    first, second = t.client(sidecar), t.client(sidecar)
    first.send(make_request("/hold"))
    origin.wait_requests(1)
    second.send(make_request("/second"))
    wait_for(lambda: sidecar.admin("/api/v1/rate-limits")[2]["concurrency"]["waiting"] == 1, "the second to wait")
    time.sleep(0.05)  # how long it waits is what is looked at
    release.set()
    first.response()
    timing = " ".join(v for k, v in second.response().fields if k.lower() == "server-timing")
    check("queue;dur=" in timing, timing)
    r = one(sidecar, "/second")
    near(r["phases"]["queue_wait"], 0.045, 5, "queue_wait")
    check("held back by the rate limit or the concurrency limit" in r["explanation"], r["explanation"])


def test_failed_and_slow_ones_stay(t):
    origin = t.origin()
    origin.on["/500"] = make_response(500, [], b"")
    origin.on["/late"] = lambda conn, request: (time.sleep(0.2), conn.reply())[1]
    sidecar = t.sidecar(origin, {**PLAIN, "performance.metrics_buffer_size": 100, "performance.sample_rate": 0.5})
    Counted(origin, "/hit", cc("max-age=60"))
    sidecar.request("/500")
    sidecar.request("/late")
    with sidecar.client() as client:
        for _ in range(600):
            client.request("/hit")
    wait_for(lambda: sidecar.metric("promptops_requests_total") == 602, "all to be counted")
    equal([r["path"] for r in requests(sidecar, "?kept=failed")], ["/500"], "failed")
    equal(requests(sidecar, "?kept=slow&sort=slowest")[0]["path"], "/late", "slowest")
    sampled = requests(sidecar, "?kept=sample&limit=1000")
    near(len(sampled), 90, 100 + 64, "the sample's room, and those of it that are kept as slow")
    equal([r["status"] for r in requests(sidecar, "?status=500")], [500], "by status")
    check(all(r["duration"] >= 0.1 for r in requests(sidecar, "?min_duration=100ms")), "by duration")
    check(all(r["cache"] == "hit" for r in requests(sidecar, "?cache=hit")), "by cache")
    equal(sidecar.admin("/api/v1/requests?kept=all")[0], 400, "an unknown word")
    equal(sidecar.admin("/api/v1/config", "PATCH", {"performance.sample_rate": 0})[0], 200, "no sample, live")
    newest = max(r["ended"] for r in requests(sidecar, "?kept=sample"))
    with sidecar.client() as client:
        for _ in range(200):
            client.request("/hit")
    wait_for(lambda: sidecar.metric("promptops_requests_total") == 802, "all to be counted")
    equal(max(r["ended"] for r in requests(sidecar, "?kept=sample")), newest, "the sample's newest")


def test_a_hit_takes_time(t):
    """A hit begins and ends within one turn of the loop: it is measured all the same."""
    origin = t.origin()
    sidecar = t.sidecar(origin, PLAIN)
    Counted(origin, "/hit", cc("max-age=60"))
    with sidecar.client() as client:
        for _ in range(50):
            client.request("/hit")
    hits = requests(sidecar, "?cache=hit&limit=100")
    equal(len(hits), 49, "hits")
    check(all(0 < r["duration"] < 0.1 for r in hits), "durations: %s" % sorted(r["duration"] for r in hits))
    check("came fresh from the cache" in hits[0]["explanation"], hits[0]["explanation"])


def test_measuring_can_be_switched_off(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, {**PLAIN, "performance.enabled": False})
    for _ in range(5):
        equal(sidecar.request("/x").status, 200, "status")
    equal(requests(sidecar), [], "requests")
    equal(sidecar.metric("promptops_request_duration_seconds_count"), 0, "durations")
    equal(sidecar.metric("promptops_active_requests"), 0, "what the sidecar needs itself")
    check(sidecar.metric("promptops_pool_opened_total") >= 1, "connections")
    equal(sidecar.admin("/api/v1/config", "PATCH", {"performance.enabled": True})[0], 200, "status")
    sidecar.request("/x")
    wait_for(lambda: sidecar.metric("promptops_request_duration_seconds_count") == 1, "one that is measured")


def test_lookups_of_the_name_are_measured(t):
    origin = t.origin()
    sidecar = t.sidecar("http://localhost:%d" % origin.port)
    sidecar.request("/")
    wait_for(lambda: sidecar.metric("promptops_upstream_connect_seconds_count", phase="dns") >= 1, "a lookup that is counted")
    check(sidecar.metric("promptops_upstream_connect_seconds_sum", phase="dns") > 0, "its time")
    equal(t.sidecar(origin).admin("/api/v1/snapshot")[2]["network"]["phases"]["dns"]["count"], 0, "an address needs no lookup")


def test_memory_of_each_bounded_pool(t):
    sidecar = t.sidecar(t.origin(lambda conn: [(conn.request(), conn.reply(fields=[("Cache-Control", "max-age=60")], body=b"x" * 20000)) for _ in range(50)]), {"cache.enabled": True, "cache.max_memory_bytes": "1MiB"})
    take = lambda pool: sidecar.metric("promptops_memory_pool_bytes", pool=pool)
    most = lambda pool: sidecar.metric("promptops_memory_pool_limit_bytes", pool=pool)
    before = {pool: take(pool) for pool in ("cache", "history", "notes", "requests")}
    with sidecar.client() as client:
        for i in range(20):
            equal(client.request("/%d" % i).status, 200, "status")
    near(take("cache") - before["cache"], 400000, 440000, "what 20 answers of 20 kB take")
    check(take("requests") - before["requests"] >= 20 * 200, "what 20 kept requests take")
    wait_for(lambda: take("history") > before["history"], "the time series to grow")
    equal(most("cache"), 1 << 20, "the cache's limit")
    idle = take("connections")
    check(idle > 0, "open connections take something")
    half = [sidecar.client() for _ in range(30)]
    for client in half:
        client.send(b"GET / HTTP/1.1\r\nX-Long: " + b"x" * 8000)
    wait_for(lambda: take("connections") - idle >= 30 * 8000, "heads that are half there to be counted")
    for client in half:
        client.close()
    wait_for(lambda: take("connections") <= idle, "what they took to be given back")
    for pool in ("cache", "history", "requests"):
        check(0 < take(pool) <= most(pool), pool)
