"""What the cache fetches ahead: what will likely be asked for next, and what will soon be stale; and what the cache saved, as measured."""
import time

from harness import *
from test_30_cache import PLAIN, Counted

ME, YOU = [("Authorization", "Bearer po_secret_of_me_24chars")], [("Authorization", "Bearer po_of_somebody_else")]
FRESH = [("Cache-Control", "max-age=300")]
DELAY = 0.1


def slowly(origin, path, seconds=DELAY, body=b"x" * 2000, fields=FRESH):
    """An answer that takes so long."""
    seen = []

    def answer(conn, request):
        seen.append(request)
        time.sleep(seconds)
        conn.reply(200, fields, body)
    origin.on[path] = answer
    return seen


def test_what_a_hit_saved_is_what_the_fetch_took(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, PLAIN)
    slowly(origin, "/slow")
    for _ in range(4):
        equal(sidecar.request("/slow", fields=ME).status, 200, "status")
    cost = sidecar.admin("/api/v1/summary")[2]["cost"]
    check(3 * DELAY <= cost["fetch_seconds_saved"] < 3 * DELAY + 3, "seconds saved: %r" % cost)
    equal(cost["requests_saved"], 3, "requests saved")
    check(3 * 2000 <= cost["bytes_saved"] < 3 * 2000 + 3 * 1000, "bytes saved: %r" % cost)
    near(sidecar.metric("promptops_cache_saved_seconds_total"), cost["fetch_seconds_saved"] - 0.01, cost["fetch_seconds_saved"] + 0.01, "metric")


def test_who_read_along_saved_what_the_fetch_took(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, PLAIN)
    seen = slowly(origin, "/slow", 0.5)
    readers = [t.thread(sidecar.request, "/slow", "GET", ME) for _ in range(3)]
    for reader in readers:
        equal(reader.result().status, 200, "status")
    equal(len(seen), 1, "upstream requests")
    cost = sidecar.admin("/api/v1/summary")[2]["cost"]
    equal(cost["requests_saved"], 2, "requests saved")
    check(1.0 <= cost["fetch_seconds_saved"] < 4, "seconds saved: %r" % cost)


def test_a_stale_answer_after_a_failed_fetch_saved_nothing(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, {**PLAIN, "cache.stale_if_error": 60, "retry.max_attempts": 1})
    answers = [200, 503]

    def answer(conn, _):
        status = answers.pop(0)
        conn.reply(status, [("Cache-Control", "max-age=10"), ("Age", "20")] if status == 200 else [], b"body")
    origin.on["/p"] = answer
    equal(sidecar.request("/p", fields=ME).status, 200, "first")
    second = sidecar.request("/p", fields=ME)
    equal((second.status, second.body), (200, b"body"), "stale")
    cost = sidecar.admin("/api/v1/summary")[2]["cost"]
    equal((cost["requests_saved"], cost["fetch_seconds_saved"]), (0, 0), "saved")
