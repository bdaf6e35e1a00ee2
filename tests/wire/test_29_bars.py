"""Bars of resilience on the wire (policy/README.md), where a scripted upstream can show them by counts alone, without watching the clock."""
import threading

from harness import *

RETRY = {"cache.enabled": False, "retry.strategy": "fixed_delay", "retry.base_delay": 0, "retry.jitter": "none", "retry.max_attempts": 3, "retry.budget": 0.1,
         "retry.retry_on": [502, 503, 504], "circuit_breaker.enable_circuit_breaker": True, "concurrency.mode": "adaptive"}


def opened(sidecar):
    """Is a breaker open, that of the way or of an operation?"""
    return any(c["state"] == "open" for c in sidecar.admin("/api/v1/circuit")[2].values())


def many(t, sidecar, count, clients=4):
    """So many requests by some clients; their statuses."""
    seen, lock = [], threading.Lock()

    def client(share):
        with sidecar.client() as c:
            for _ in range(share):
                status = c.request("/x").status
                with lock:
                    seen.append(status)
    for done in [t.thread(client, count // clients) for _ in range(clients)]:
        done.result(60)
    return seen


def test_a_tenth_of_the_calls_fails(t):
    """At least 99 % are answered well, with at most 1.12 calls for each request; the breaker stays closed."""
    origin = t.origin()
    lock, calls = threading.Lock(), [0]

    def answer(conn, request):
        with lock:
            calls[0] += 1
            bad = calls[0] % 10 == 0
        conn.reply(503 if bad else 200, [], b"no" if bad else b"yes")
    origin.default = answer
    sidecar = t.sidecar(origin, RETRY)
    seen = many(t, sidecar, 1000)
    check(seen.count(200) >= 0.99 * len(seen), "%d of %d" % (seen.count(200), len(seen)))
    check(calls[0] <= 1.12 * len(seen), "%d calls for %d requests" % (calls[0], len(seen)))
    check(not opened(sidecar), "a breaker has opened")


def test_a_hard_outage(t):
    """At most 1.15 calls for each request; at most 5 % of the requests reach the dead upstream once the breaker is open."""
    origin = t.origin()
    origin.default = make_response(200, [], b"yes")
    sidecar = t.sidecar(origin, {**RETRY, "circuit_breaker.circuit_breaker_timeout": "30s"})
    equal(set(many(t, sidecar, 40)), {200}, "healthy")
    origin.default = make_response(503, [], b"no")
    before, offered = origin.count(), 0
    while not opened(sidecar):
        offered += len(many(t, sidecar, 4))
        check(offered < 1000, "the breaker stays closed")
    check(origin.count() - before <= 1.15 * offered + 12, "%d calls for %d requests" % (origin.count() - before, offered))  # and one a second, ten ahead
    since = origin.count()
    seen = many(t, sidecar, 400)
    check(origin.count() - since <= 0.05 * len(seen), "%d of %d requests reached it" % (origin.count() - since, len(seen)))
    equal(set(seen), {503}, "answers")


def test_no_attempt_begins_that_cannot_end_in_time(t):
    """The wait before a retry would end behind the deadline of the whole: it is not made."""
    origin = t.origin()
    origin.default = make_response(503, [("Retry-After", "5")], b"no")
    sidecar = t.sidecar(origin, {**RETRY, "retry.max_total_time": "2s", "circuit_breaker.enable_circuit_breaker": False})
    equal(sidecar.request("/x").status, 503, "status")
    equal(origin.count(), 1, "attempts")
