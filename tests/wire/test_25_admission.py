"""The rate limit and the concurrency limit on the wire: paced, refused with the time of the next free call, never taken for
a failure or for bad credentials (pains 6, 8)."""
import os
import sys
import threading
import time

from harness import *

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "origin"))

ONCE = {"retry.max_attempts": 1, "cache.enabled": False, "rate_limit.enable_rate_limit_detection": True, "rate_limit.mode": "pace"}
KEY = [("Authorization", "Bearer po_demoDemo0000000000000001")]
OTHER = [("Authorization", "Bearer po_demoDemo0000000000000002")]
SPENT = [("X-RateLimit-Limit-Hour", "100"), ("X-RateLimit-Remaining-Hour", "0"), ("X-RateLimit-Reset-Hour", "900")]


def limits(sidecar):
    return sidecar.admin("/api/v1/rate-limits")[2]


def idle(sidecar):
    """Nothing is held and nobody waits."""
    seen = limits(sidecar)
    return all(k["in_flight"] == 0 and k["waiting"] == 0 for k in seen["keys"]) and seen["concurrency"]["in_flight"] == 0 and seen["concurrency"]["waiting"] == 0


def in_seconds(response):
    return int(response.get("Retry-After", "-1"))


def test_nothing_left_is_refused_here(t):
    origin = t.origin()
    origin.default = make_response(200, SPENT, b"last")
    sidecar = t.sidecar(origin, ONCE)
    equal(sidecar.request("/a", fields=KEY).status, 200, "the last call")
    before = origin.count()
    refused = made_up(sidecar.request("/b", fields=KEY), 429)
    check(890 <= in_seconds(refused) <= 902, "Retry-After: %d" % in_seconds(refused))
    equal(origin.count(), before, "calls at the origin")
    equal(sidecar.request("/c", fields=OTHER).status, 200, "another key has its own limit")
    equal(sidecar.metric("promptops_rate_limit_remaining", window="hour"), 0, "gauge")
    equal(sidecar.metric("promptops_rate_limit_refused_total"), 1, "counter")
    hour = limits(sidecar)["keys"][0]["windows"][0]
    equal((hour["window"], hour["limit"], hour["remaining"], hour["source"]), ("hour", 100, 0, "upstream"), "window")
    check("po_demo" not in str(limits(sidecar)), "the key itself is shown")
    check(idle(sidecar), "something is still held")


def test_observing_holds_nobody_back(t):
    origin = t.origin()
    origin.default = make_response(200, SPENT, b"ok")
    for name, more in (("observe", {"rate_limit.mode": "observe"}), ("off", {"rate_limit.enable_rate_limit_detection": False})):
        with t.case(name):
            sidecar = t.sidecar(origin, {**ONCE, **more})
            for _ in range(5):
                equal(sidecar.request("/", fields=KEY).status, 200, "status")


def test_retry_after_closes_a_gate_for_all(t):
    origin = t.origin()
    answers = [make_response(429, [("Retry-After", "1")], b"slow down")]
    origin.on["/"] = lambda conn, request: conn.send(answers.pop() if answers else make_response(200, [], b"ok"))
    sidecar = t.sidecar(origin, ONCE)
    equal(sidecar.request("/", fields=KEY).status, 429, "the upstream's own 429 is passed on")
    began = time.monotonic()
    waiting = [t.thread(sidecar.request, "/", "GET", KEY) for _ in range(3)]
    for w in waiting:
        equal(w.result(10).status, 200, "who waited")
    check(time.monotonic() - began >= 0.9, "they did not wait")
    equal(sidecar.metric("promptops_circuit_state"), 0, "throttling opened the breaker")
    check(idle(sidecar), "something is still held")


def test_a_wait_too_long_is_refused_at_once(t):
    origin = t.origin()
    origin.default = make_response(429, [("Retry-After", "3")], b"slow down")
    sidecar = t.sidecar(origin, {**ONCE, "rate_limit.max_wait": "500ms"})
    equal(sidecar.request("/", fields=KEY).status, 429, "the upstream's own")
    refused = made_up(sidecar.request("/", fields=KEY), 429)
    check(2 <= in_seconds(refused) <= 4, "Retry-After: %d" % in_seconds(refused))
    equal(origin.count(), 1, "calls at the origin")


def test_a_refusal_in_disguise(t):
    """401 that says "Rate limit exceeded": the documented limits are believed from then on, and the window is closed."""
    origin = t.origin()
    origin.default = make_response(401, [("Content-Type", "application/json")], b'{"detail":"Rate limit exceeded"}')
    sidecar = t.sidecar(origin, {**ONCE, "rate_limit.max_wait": 0})
    equal(sidecar.request("/", fields=KEY).status, 401, "passed on as it is")
    wait_for(lambda: limits(sidecar)["keys"][0]["upstream_refusals"] == 1, "the refusal to be seen through")
    refused = made_up(sidecar.request("/", fields=KEY), 429)
    check(1 <= in_seconds(refused) <= 62, "Retry-After: %d" % in_seconds(refused))
    equal(origin.count(), 1, "calls at the origin")
    equal({w["window"]: w["source"] for w in limits(sidecar)["keys"][0]["windows"]}, {"minute": "own_count", "hour": "own_count", "day": "own_count"}, "windows")


def disguised(words=b'{"detail":"Rate limit exceeded"}', status=401):
    return make_response(status, [("Content-Type", "application/json")], words)


def outcomes(sidecar):
    """Attempts by outcome, over all operations."""
    seen = {}
    for name, value in sidecar.metrics().items():
        if name.startswith("promptops_upstream_requests_total{"):
            outcome = name.partition('outcome="')[2].partition('"')[0]
            seen[outcome] = seen.get(outcome, 0) + value
    return {k: v for k, v in seen.items() if v}


def test_a_refusal_in_disguise_is_retried_like_a_429(t):
    """Held until its body is known: the client sees the answer to the second attempt alone, the breaker and the credential hear nothing."""
    origin = t.origin()
    answers = [disguised()]
    origin.on["/"] = lambda conn, request: conn.send(answers.pop() if answers else make_response(200, [], b"ok"))
    more = {"retry.max_attempts": 2, "retry.retry_on": [429], "retry.base_delay": 0, "rate_limit.mode": "observe",
            "circuit_breaker.enable_circuit_breaker": True, "circuit_breaker.circuit_breaker_threshold": 1}
    sidecar = t.sidecar(origin, {**ONCE, **more})
    response = sidecar.request("/", fields=KEY)
    equal((response.status, response.body), (200, b"ok"), "answer")
    equal(origin.count("/"), 2, "attempts")
    settles(lambda: outcomes(sidecar), {"throttled": 1, "ok": 1}, "outcomes")
    equal(sidecar.metric("promptops_circuit_state"), 0, "throttling opened the breaker")
    equal(sidecar.metric("promptops_rate_limit_answers_total"), 1, "counter")


def test_doubtful_answers_go_through_whole(t):
    """Whatever becomes of the doubt, status, fields and bytes are the origin's own."""
    big = b"x" * 70000
    rows = {
        "bad credentials": (401, b'{"detail":"Invalid API key"}', "bad_credentials"),
        "no body": (401, b"", "bad_credentials"),
        "more than is held": (403, big, "bad_credentials"),
        "words behind what is held": (403, big + b"rate limit", "bad_credentials"),
        "as much as is held": (401, b"y" * 4096, "bad_credentials"),
        "disguised, and not retried": (403, b"RATE LIMIT reached", "throttled"),
    }
    for name, (status, body, outcome) in rows.items():
        for chunked in (False, True):
            with t.case("%s%s" % (name, ", chunked" if chunked else "")):
                origin = t.origin()
                fields = [("X-Own", "1")]
                origin.default = make_response(status, fields + [("Transfer-Encoding", "chunked")], b"", length=False) + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) \
                    if chunked and body else make_response(status, fields, body)
                sidecar = t.sidecar(origin, {**ONCE, "rate_limit.mode": "observe"})
                with sidecar.client() as client:
                    for _ in range(2):  # the connections stay usable
                        response = client.request("/", fields=KEY)
                        equal((response.status, response.body, response.get("X-Own")), (status, body, "1"), "answer")
                settles(lambda: outcomes(sidecar), {outcome: 2}, "outcomes")
                equal(len(origin.connections), 1, "connections")


def test_doubt_lasts_a_second(t):
    """A body that does not come is not waited for: the head goes down, and what follows it as well."""
    origin = t.origin()
    rest = threading.Event()

    def slow(conn, request):
        conn.send(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 10\r\n\r\n01234")
        rest.wait(20)
        return conn.send(b"56789")
    origin.on["/"] = slow
    sidecar = t.sidecar(origin, ONCE)
    with sidecar.client() as client:
        client.send(make_request("/", fields=KEY))
        head = client.head()
        equal(head.status, 401, "status while the body stands still")
        rest.set()
        equal(client.body(head).body, b"0123456789", "body")


def test_own_disguises(t):
    origin = t.origin()
    origin.default = disguised(b"Slow down please", 400)
    for name, more, outcome in (("configured", {"rate_limit.disguised": ["400:slow down"]}, "throttled"), ("not configured", {}, "client_error")):
        with t.case(name):
            sidecar = t.sidecar(origin, {**ONCE, "rate_limit.mode": "observe", **more})
            equal(sidecar.request("/", fields=KEY).status, 400, "status")
            settles(lambda: outcomes(sidecar), {outcome: 1}, "outcomes")


def test_real_bad_credentials_close_nothing(t):
    origin = t.origin()
    origin.default = make_response(401, [], b'{"detail":"Invalid API key"}')
    sidecar = t.sidecar(origin, ONCE)
    for _ in range(3):
        equal(sidecar.request("/", fields=KEY).status, 401, "status")
    equal(origin.count(), 3, "calls at the origin")
    equal(limits(sidecar)["keys"][0]["upstream_refusals"], 0, "refusals")


def test_own_count_when_the_api_says_nothing(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, {**ONCE, "rate_limit.max_wait": 0, "rate_limit.assume": "always"})
    statuses = [sidecar.request("/p%d" % i, fields=KEY).status for i in range(40)]
    went = statuses.count(200)
    check(1 <= went <= 33, "%d of 40 went at once" % went)  # half of a minute's calls, or what is left of the minute
    equal(went + statuses.count(429), 40, "statuses %s" % statuses)
    equal(origin.count(), went, "calls at the origin")
    for assume in ("auto", "never"):  # nothing was refused: nothing is believed
        other = t.sidecar(origin, {**ONCE, "rate_limit.assume": assume})
        equal([other.request("/p", fields=KEY).status for _ in range(200)].count(200), 200, "assume: " + assume)


def test_the_stand_in_refuses_once(t):
    """Four clients that want far more than 60 a minute against the stand-in with its real limits: one refusal, and it is believed."""
    import importlib.util
    spec = importlib.util.spec_from_file_location("origin_harness", os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "origin", "harness.py"))
    stand_in = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(stand_in)
    while not 1.5 < time.time() % 60 < 52:  # its windows are the clock's minutes: all of the test within one
        time.sleep(0.1)
    origin = stand_in.Origin()
    try:
        ask_too_often(t, origin, stand_in.API_KEY)
    finally:
        origin.stop()


def ask_too_often(t, origin, api_key):
    sidecar = t.sidecar("http://127.0.0.1:%d" % origin.port, {**ONCE, "rate_limit.max_wait": "2s"})
    key = [("Authorization", "Bearer " + api_key)]
    seen, lock, until = [], threading.Lock(), time.monotonic() + 4

    def client(number):
        count = 0
        with sidecar.client() as c:
            while time.monotonic() < until:
                status = c.request("/v1/client/prompts/greeting?n=%d-%d" % (number, count), fields=key).status
                count += 1
                with lock:
                    seen.append(status)
                if status == 429:
                    time.sleep(0.05)
    for done in [t.thread(client, n) for n in range(4)]:
        done.result(20)
    check(seen.count(401) <= 1, "%d refusals by the API" % seen.count(401))
    check(seen.count(200) + seen.count(404) >= 60, "answers: %s" % seen[:50])
    check(429 in seen, "nobody was held back")
    wait_for(lambda: idle(sidecar), "all to be given back")


def test_stale_is_served_instead_of_waiting(t):
    origin = t.origin()
    origin.default = make_response(200, [("Cache-Control", "max-age=1, stale-if-error=600"), *SPENT], b"stored")
    sidecar = t.sidecar(origin, {**ONCE, "cache.enabled": True, "cache.stale_while_revalidate": 0})
    equal(sidecar.request("/", fields=KEY).status, 200, "status")
    wait_for(lambda: "stale-if-error" in sidecar.request("/", fields=KEY).get("Cache-Status", ""), "a stale answer")
    equal(origin.count(), 1, "calls at the origin")


def test_concurrency_limit(t):
    origin = t.origin()
    release = threading.Event()

    def slow(conn, request):
        release.wait(20)
        return conn.reply(body=b"slow")
    origin.on["/slow"] = slow
    sidecar = t.sidecar(origin, {**ONCE, "concurrency.mode": "fixed", "concurrency.max": 2, "concurrency.min": 1, "concurrency.queue_timeout": "10s"})
    held = [t.thread(sidecar.request, "/slow") for _ in range(2)]
    wait_for(lambda: limits(sidecar)["concurrency"]["in_flight"] == 2, "two at the upstream")
    third = t.thread(sidecar.request, "/")
    wait_for(lambda: limits(sidecar)["concurrency"]["waiting"] == 1, "the third to wait")
    equal(origin.count("/"), 0, "the third at the origin")
    gone = t.client(sidecar)
    gone.send(make_request("/gone"))
    wait_for(lambda: limits(sidecar)["concurrency"]["waiting"] == 2, "the fourth to wait")
    gone.close()
    wait_for(lambda: limits(sidecar)["concurrency"]["waiting"] == 1, "the fourth to be given up")
    release.set()
    for h in held:
        equal(h.result(20).status, 200, "the first two")
    equal(third.result(20).status, 200, "the third")
    wait_for(lambda: idle(sidecar), "all to be given back")
    equal(origin.count("/gone"), 0, "who left while waiting was sent")
    equal(sidecar.metric("promptops_concurrency_limit"), 2, "gauge")


def test_concurrency_queue_ends_with_503(t):
    origin = t.origin()
    release = threading.Event()

    def slow(conn, request):
        release.wait(20)
        return conn.reply(body=b"slow")
    origin.on["/slow"] = slow
    sidecar = t.sidecar(origin, {**ONCE, "concurrency.mode": "fixed", "concurrency.max": 1, "concurrency.min": 1, "concurrency.queue_timeout": "100ms"})
    held = t.thread(sidecar.request, "/slow")
    wait_for(lambda: limits(sidecar)["concurrency"]["in_flight"] == 1, "one at the upstream")
    refused = made_up(sidecar.request("/"), 503)
    check(in_seconds(refused) >= 1, "Retry-After")
    equal(sidecar.metric("promptops_concurrency_shed_total"), 1, "counter")
    release.set()
    equal(held.result(20).status, 200, "the first")
    equal(sidecar.request("/").status, 200, "then")


def test_an_open_breaker_spends_no_quota(t):
    origin = t.origin()
    origin.default = make_response(503, [], b"down")
    sidecar = t.sidecar(origin, {**ONCE, "circuit_breaker.enable_circuit_breaker": True, "circuit_breaker.circuit_breaker_threshold": 3, "circuit_breaker.circuit_breaker_timeout": "30s", "rate_limit.assume": "always"})
    for _ in range(3):
        equal(sidecar.request("/", fields=KEY).status, 503, "status")
    equal(sidecar.metric("promptops_circuit_state"), 2, "open")
    sent = limits(sidecar)["keys"][0]["sent"]
    for _ in range(20):
        equal(sidecar.request("/", fields=KEY).status, 503, "status")
    equal(limits(sidecar)["keys"][0]["sent"], sent, "let go while open")
    check(idle(sidecar), "something is still held")
