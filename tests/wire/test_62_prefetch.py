"""What the cache fetches ahead: what will likely be asked for next, and what will soon be stale; and what the cache saved, as measured."""
import time

from harness import *
from test_30_cache import PLAIN, Counted
from test_53_perf import perf

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


# ---- what comes next ---------------------------------------------------------------------------------------------------

AHEAD = {**PLAIN, "cache.enable_prefetching": True, "cache.strategy": "adaptive", "cache.prefetch_max_load": 0.5}
SEQUENCE = ["/a", "/b", "/c", "/d", "/e"]


def state(sidecar):
    return sidecar.admin("/api/v1/cache")[2]["prefetch"]


class Walk:
    """An origin with a sequence of documents, and clients that walk it from end to end; between two walks all is purged."""

    def __init__(self, t, config=None, paths=SEQUENCE, fields=FRESH):
        self.paths = paths
        self.origin = t.origin()
        self.counted = [Counted(self.origin, path, fields) for path in paths]
        self.sidecar = t.sidecar(self.origin, {**AHEAD, **(config or {})})
        self.t = t

    def fetched(self):
        return sum(len(c.seen) for c in self.counted)

    def walk(self, fields=ME, wait=True, client=None):
        """Gives the words of Cache-Status. `wait`: each prefetch has come in before the next request goes."""
        words = []
        for path in self.paths:
            seen = state(self.sidecar)["observed"]
            response = client.request(path, fields=fields) if client else self.sidecar.request(path, fields=fields)
            equal(response.status, 200, "status")
            status = response.get("Cache-Status")
            words.append("hit" if "; hit" in status or "collapsed" in status else "miss")
            if wait:
                wait_for(lambda: state(self.sidecar)["observed"] > seen, "the request is learnt from")
                wait_for(lambda: state(self.sidecar)["in_flight"] == 0, "nothing is being fetched ahead")
        return words

    def purge(self):
        self.sidecar.admin("/api/v1/cache/purge", "POST", {"all": True})

    def learn(self, times=3, **more):
        for _ in range(times):
            self.walk(**more)
            self.purge()


def test_a_sequence_is_learnt_and_fetched_ahead(t):
    w = Walk(t)
    w.learn()
    before = w.fetched()
    equal(w.walk(), ["miss"] + ["hit"] * 4, "the fourth walk")
    equal(w.fetched() - before, 5, "upstream requests: no more than without")
    s = state(w.sidecar)
    check(s["issued"] >= 4 and s["used"] >= 4 and s["strategy"] == "adaptive" and s["state"] == "active", "state: %r" % s)
    equal(w.sidecar.metric("promptops_prefetch_used_total"), s["used"], "used")
    equal(w.sidecar.metric("promptops_prefetch_issued_total"), s["issued"], "issued")
    summary = w.sidecar.admin("/api/v1/summary")[2]
    equal(summary["requests_total"], 4 * 5, "a prefetch is no request of a client")
    equal(summary["upstream_requests_total"], w.fetched(), "and is one to the upstream")
    equal(summary["cost"]["requests_saved"], 0, "what was fetched ahead was fetched")


def test_the_request_is_repeated_as_it_was(t):
    """With the fields that say what is wanted and by whom; without what belonged to that one message."""
    w = Walk(t)
    fields = ME + [("Accept", "application/json"), ("X-Tenant", "seven"), ("X-Request-Id", "mine"), ("Cache-Control", "max-stale=1"),
                   ("If-None-Match", '"nothing"'), ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")]
    w.learn(fields=fields)
    w.walk(fields=fields)
    ahead = w.counted[2].seen[-1]
    equal(ahead.get("Authorization"), ME[0][1], "Authorization")
    equal((ahead.get("Accept"), ahead.get("X-Tenant")), ("application/json", "seven"), "fields")
    check(ahead.get("X-Request-Id") != "mine", "the id of another request")
    check("0af7651916cd43dd8448eb211c80319c" not in ahead.get("traceparent"), "the trace of another request")
    for name in ("Cache-Control", "If-None-Match", "Range"):
        check(not ahead.has(name), "%s of another request" % name)


def test_never_across_credentials(t):
    """What one has learnt is nobody else's, and nobody's credential goes up for another."""
    w = Walk(t)
    w.learn(4)
    seen = [len(c.seen) for c in w.counted]
    equal(w.sidecar.request("/a", fields=YOU).status, 200, "status")
    wait_for(lambda: state(w.sidecar)["observed"] >= 21, "the request is learnt from")
    equal([len(c.seen) - n for c, n in zip(w.counted, seen)], [1, 0, 0, 0, 0], "upstream requests for the other")
    equal(w.sidecar.request("/b", fields=YOU).status, 200, "status")
    equal([r.get("Authorization") for r in w.counted[1].seen[seen[1]:]], [YOU[0][1]], "who asked for /b")


def test_clients_that_connect_for_each_request_have_a_sequence_too(t):
    w = Walk(t)
    w.learn()  # .request() makes a connection for each
    equal(w.walk(), ["miss"] + ["hit"] * 4, "with a connection for each")
    w2 = Walk(t)
    with w2.sidecar.client() as client:
        w2.learn(client=client)
        equal(w2.walk(client=client), ["miss"] + ["hit"] * 4, "on one connection")


def test_two_connections_that_take_turns_do_not_mix(t):
    w = Walk(t, paths=["/a", "/b", "/c", "/x", "/y", "/z"])
    with w.sidecar.client() as one, w.sidecar.client() as two:
        for _ in range(4):
            for i in range(3):
                one.request(w.paths[i], fields=ME)
                two.request(w.paths[3 + i], fields=ME)
            wait_for(lambda: state(w.sidecar)["in_flight"] == 0, "nothing in flight")
            w.purge()
        one.request("/a", fields=ME)
        wait_for(lambda: len(w.counted[1].seen) == 5, "/b is fetched ahead")
        wait_for(lambda: state(w.sidecar)["in_flight"] == 0, "nothing in flight")
        equal([len(c.seen) for c in w.counted[3:]], [4, 4, 4], "the other's")


def test_only_what_is_safe(t):
    """Not what its client signed, not other methods, not what is not stored, not on routes that are not cached."""
    signed = ME + [("X-PromptOps-Timestamp", "2026-01-01T00:00:00"), ("X-PromptOps-Signature", "00" * 32)]
    rows = [
        ("signed by its client", {}, signed, FRESH),
        ("not stored", {}, ME, [("Cache-Control", "no-store")]),
        ("a route that is not cached", {"routes": [{"match": {"path": "/{any}"}, "operation": "live", "cache": {"enabled": False}}]}, ME, FRESH),
        ("a credential in the shared scope", {"cache.scope": "shared"}, ME, [("Cache-Control", "public, max-age=300")]),
        ("a credential that is no part of the key", {"cache.partition_by": ["Authorization"]}, ME + [("Cookie", "session=1")], FRESH),
        ("strategy none", {"cache.prefetch_strategy": "none"}, ME, FRESH),
        ("off", {"cache.enable_prefetching": False}, ME, FRESH),
        ("no load allowed", {"cache.prefetch_max_load": 0}, ME, FRESH),
    ]
    for name, config, fields, answer in rows:
        with t.case(name):
            w = Walk(t, config, fields=answer)
            w.learn(5, fields=fields, wait=False)
            equal(w.fetched(), 25, "upstream requests")
            equal(state(w.sidecar)["issued"], 0, "issued")


def test_in_the_shared_scope_what_shows_no_credential(t):
    w = Walk(t, {"cache.scope": "shared"})
    w.learn(fields=[])
    equal(w.walk(fields=[]), ["miss"] + ["hit"] * 4, "the fourth walk")


def test_the_sidecars_own_credential_is_shown_anew(t):
    """With the key that the sidecar holds: each prefetch is signed for itself, and the client's fields do not go up."""
    from lib.credentials import Mounted
    mounted = Mounted(t, "po_" + "k" * 24, "s-" + "e" * 20)
    w = Walk(t, mounted.config("promptops"))
    w.learn()
    equal(w.walk(), ["miss"] + ["hit"] * 4, "the fourth walk")
    signed = [r for c in w.counted for r in c.seen]
    check(all("po_kkkk" in r.get("Authorization") and ME[0][1] not in r.get("Authorization") for r in signed), "a client's credential went up")
    nonces = [r.get("X-PromptOps-Nonce") for r in signed]
    equal(len(set(nonces)), len(signed), "nonces")


def test_the_command_line_shows_it(t):
    w = Walk(t)
    w.learn()
    w.walk()
    code, out, _ = perf(w.sidecar, "cache", "stats")
    equal(code, 0, "exit code")
    for line in ("prefetch.strategy", "prefetch.state", "prefetch.confidence", "prefetch.accuracy", "prefetch.issued", "prefetch.refresh_ahead.issued"):
        check(line in out, "%s is not in %s" % (line, out))


def test_held_back_while_there_is_nothing_to_spare(t):
    breaker = {"circuit_breaker.enable_circuit_breaker": True, "circuit_breaker.circuit_breaker_threshold": 2, "circuit_breaker.circuit_breaker_timeout": "60s"}
    scarce = [("X-RateLimit-Limit-Minute", "60"), ("X-RateLimit-Remaining-Minute", "8"), ("X-RateLimit-Reset-Minute", "50")]
    rows = [
        ("the circuit is open", breaker, [], "circuit"),
        ("the rate limit is nearly used up", {"rate_limit.enable_rate_limit_detection": True}, scarce, "spare"),
        ("the budget is used up", {"cache.prefetch_max_load": 0.01}, [], "budget"),
    ]
    for name, config, more, word in rows:
        with t.case(name):
            w = Walk(t, config)
            w.origin.on["/bad"] = lambda conn, _: conn.reply(503, [], b"")
            w.learn()
            w.counted[0].fields = FRESH + more
            w.sidecar.request("/a", fields=ME)
            wait_for(lambda: state(w.sidecar)["in_flight"] == 0, "nothing in flight")
            for _ in range(2):
                w.sidecar.request("/bad", fields=YOU)
            for path in w.paths[1:]:
                w.sidecar.admin("/api/v1/cache/purge", "POST", {"key": path})
            before = w.fetched()
            check("; hit" in w.sidecar.request("/a", fields=ME).get("Cache-Status"), "/a is no hit")
            wait_for(lambda: state(w.sidecar)["held"][word] > 0, "held back: %r" % state(w.sidecar))
            equal(w.fetched(), before, "upstream requests")
            s = state(w.sidecar)
            check(s["state"] == "paused" and s["reason"], "state: %r" % s)
            equal(w.sidecar.metric("promptops_fetch_ahead_held_total"), sum(s["held"].values()), "metric")


def test_what_is_not_used_is_counted_and_ends_it(t):
    """Guesses that turn out wrong are wasted, and after too many of them it pauses by itself."""
    origin = t.origin()
    first, second = (["/%s%d" % (kind, i) for i in range(64)] for kind in "no")
    for path in first + second:
        Counted(origin, path, FRESH)
    sidecar = t.sidecar(origin, {**AHEAD, "cache.prefetch_max_load": 1})
    with sidecar.client() as client:
        for _ in range(2):  # each n is followed by its o
            for pair in zip(first, second):
                for path in pair:
                    client.request(path, fields=ME)
            sidecar.admin("/api/v1/cache/purge", "POST", {"all": True})
        for path in reversed(first):  # and now by another n
            client.request(path, fields=ME)
            wait_for(lambda: state(sidecar)["in_flight"] == 0, "nothing in flight")
        issued = state(sidecar)["issued"]
        check(issued >= 60, "issued: %d" % issued)
        sidecar.admin("/api/v1/cache/purge", "POST", {"all": True})
        for path in first:
            client.request(path, fields=ME)
        wait_for(lambda: state(sidecar)["switched_off"] == 1, "it switches itself off")
    s = state(sidecar)
    check(s["state"] == "paused" and "accuracy" in s["reason"] and s["tried_again_in"] > 0, "state: %r" % s)
    equal((s["issued"], s["used"], s["wasted"]), (issued, 0, issued), "counts")
    equal(sidecar.metric("promptops_prefetch_wasted_total"), issued, "wasted")


# ---- what will soon be stale -------------------------------------------------------------------------------------------

def test_what_is_read_is_fresh_before_it_is_stale(t):
    """A new version shows within its time, and no read waits for it."""
    origin = t.origin()
    version = [1]
    seen = []

    def answer(conn, request):
        seen.append(request)
        conn.reply(200, [("Cache-Control", "max-age=1")], b"version %d" % version[0])
    origin.on["/p"] = answer
    sidecar = t.sidecar(origin, AHEAD)
    equal(sidecar.request("/p", fields=ME).body, b"version 1", "first")
    published, words, end = None, [], time.monotonic() + 2.6
    with sidecar.client() as client:
        while time.monotonic() < end:
            response = client.request("/p", fields=ME)
            words.append("; hit" in response.get("Cache-Status") and "ttl=-" not in response.get("Cache-Status"))
            if published and response.body == b"version 1":
                check(time.monotonic() - published < 1.1, "the old version after its time")
            if not published and len(words) > 5:
                version[0], published = 2, time.monotonic()
            time.sleep(0.05)
    check(all(words), "a read waited: %r" % words)
    equal(client_body(sidecar), b"version 2", "the new version")
    check(3 <= len(seen) <= 5, "%d requests in 2.6 lifetimes" % len(seen))
    s = state(sidecar)["refresh_ahead"]
    check(s["issued"] >= 2 and s["used"] >= 1, "counts: %r" % s)
    check(sidecar.metric("promptops_refresh_ahead_issued_total") >= s["issued"], "metric")


def client_body(sidecar):
    return sidecar.request("/p", fields=ME).body


def test_what_nobody_reads_is_left_alone(t):
    origin = t.origin()
    unread, once = Counted(origin, "/unread", [("Cache-Control", "max-age=1")]), Counted(origin, "/read", [("Cache-Control", "max-age=1")])
    sidecar = t.sidecar(origin, AHEAD)
    sidecar.request("/unread", fields=ME)
    for _ in range(4):
        sidecar.request("/read", fields=ME)
    time.sleep(2.3)  # two lifetimes: the one that was read is fetched once more, and not again
    equal((len(unread.seen), len(once.seen)), (1, 2), "upstream requests")
    equal(state(sidecar)["refresh_ahead"]["used"], 0, "used")


def test_refreshed_by_its_validator(t):
    origin = t.origin()
    counted = Counted(origin, "/p", [("Cache-Control", "max-age=1"), ("ETag", '"v1"')], body=b"one")
    sidecar = t.sidecar(origin, AHEAD)
    for _ in range(4):
        sidecar.request("/p", fields=ME)
    wait_for(lambda: len(counted.seen) == 2, "the refresh")
    equal(counted.seen[1].get("If-None-Match"), '"v1"', "If-None-Match")
    wait_for(lambda: state(sidecar)["in_flight"] == 0, "it has come in")
    response = sidecar.request("/p", fields=ME)
    equal((response.body, len(counted.seen)), (b"one", 2), "the same")
    check("; hit" in response.get("Cache-Status"), response.get("Cache-Status"))


def test_what_is_gone_is_gone_at_once(t):
    """A refresh that brings 404 or 410 takes away what is stored, before its time is over."""
    for status in (404, 410):
        with t.case(status):
            origin = t.origin()
            counted = Counted(origin, "/p", [("Cache-Control", "max-age=2")])
            sidecar = t.sidecar(origin, AHEAD)
            for _ in range(4):
                equal(sidecar.request("/p", fields=ME).status, 200, "status")
            counted.status, counted.fields = status, []
            wait_for(lambda: len(counted.seen) == 2, "the refresh")
            wait_for(lambda: state(sidecar)["in_flight"] == 0, "it has come in")
            equal(sidecar.request("/p", fields=ME).status, status, "status afterwards")


def test_a_failed_refresh_leaves_what_is_stored(t):
    origin = t.origin()
    counted = Counted(origin, "/p", [("Cache-Control", "max-age=2")], body=b"good")
    sidecar = t.sidecar(origin, {**AHEAD, "retry.max_attempts": 3})
    for _ in range(4):
        sidecar.request("/p", fields=ME)
    counted.status = 503
    wait_for(lambda: len(counted.seen) == 2, "the refresh")
    wait_for(lambda: state(sidecar)["in_flight"] == 0, "it has failed")
    response = sidecar.request("/p", fields=ME)
    equal((response.status, response.body, len(counted.seen)), (200, b"good", 2), "what is stored; and nobody retries what nobody asked for")
    equal(state(sidecar)["refresh_ahead"]["wasted"], 1, "wasted")


def test_a_refused_credential_is_not_shown_again(t):
    """401 to one of its requests: what was recorded with it is forgotten."""
    w = Walk(t)
    w.learn()
    w.counted[0].status, w.counted[0].fields = 401, []
    seen = w.fetched()
    equal(w.sidecar.request("/a", fields=ME).status, 401, "status")
    wait_for(lambda: state(w.sidecar)["observed"] >= 16, "the request is learnt from")
    wait_for(lambda: state(w.sidecar)["in_flight"] == 0, "nothing in flight")
    after = w.fetched()
    check(after - seen <= 2, "requests with a refused credential: %d" % (after - seen))  # what was guessed before the answer came
    for _ in range(3):
        w.sidecar.request("/a", fields=ME)
    equal(w.fetched() - after, 3, "nothing more is fetched with it")
