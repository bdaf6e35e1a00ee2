"""The second level that sidecars share in a real Redis: hits and purges reach the others; Redis away, standing still, full, wiped or lying costs hits, not requests."""
import time

from harness import *
from lib.redis import Redis, Sentinels
from test_30_cache import PLAIN, Counted

ME, YOU = [("Authorization", "Bearer po_secret_of_me_24chars")], [("Authorization", "Bearer po_of_somebody_else")]
FRESH = [("Cache-Control", "max-age=300")]


class Pair:
    """Two sidecars, one Redis, one origin."""

    def __init__(self, t, *more, count=2, config=None):
        self.redis = Redis(t.directory, *more)
        t.at_end(self.redis.close)
        self.origin = t.origin()
        self.settings = {**PLAIN, "cache.redis_url": self.redis.url, **(config or {})}
        self.all = [t.sidecar(self.origin, self.settings) for _ in range(count)]
        self.a, self.b = self.all[0], self.all[1]
        self.wait_used()

    def wait_used(self):
        for sidecar in self.all:
            wait_for(lambda s=sidecar: used(s), "the shared level is in use")

    def counted(self, path, fields=None, **more):
        return Counted(self.origin, path, FRESH if fields is None else fields, **more)

    def stored(self, count):
        wait_for(lambda: len(self.redis.entries()) >= count, "%d entries in Redis" % count)


def level(sidecar):
    return sidecar.admin("/api/v1/cache")[2]["shared"]


def used(sidecar):
    return level(sidecar)["in_use"]


def test_a_hit_on_the_second_sidecar(t):
    pair = Pair(t)
    counted = pair.counted("/p", body=b"b" * 3000)
    first = pair.a.request("/p", fields=ME)
    pair.stored(1)
    second = pair.b.request("/p", fields=ME)
    equal((second.status, second.body), (200, first.body), "the second sidecar's answer")
    equal(len(counted.seen), 1, "upstream requests")
    check("; hit" in second.get("Cache-Status"), second.get("Cache-Status"))
    check(second.has("Age"), "no Age")
    equal(pair.b.request("/p", fields=ME).body, first.body, "from memory now")
    equal(level(pair.b)["hits"], 1, "hits in the level")
    equal(pair.b.metric("promptops_shared_cache_looks_total", result="hit"), 1, "metric")
    equal(pair.a.metric("promptops_shared_cache_stores_total", result="stored"), 1, "stores")
    pair.b.request("/p", fields=YOU)
    equal(len(counted.seen), 2, "another credential has its own")


def test_nothing_readable_is_in_redis(t):
    pair = Pair(t)
    pair.counted("/very/telling/path", body=b"the prompt itself")
    pair.a.request("/very/telling/path", fields=ME)
    pair.stored(1)
    pair.a.request("/very/telling/path", "POST", ME, body=b"x")
    wait_for(lambda: level(pair.b)["purges_heard"] >= 1, "the purge is heard")
    pair.a.request("/very/telling/path", fields=ME)
    pair.stored(1)
    for key in pair.redis.call("KEYS", "*"):
        dump = key + (pair.redis.call("DUMP", key) or b"")
        for word in (b"po_secret", b"telling", b"prompt itself", b"Bearer"):
            check(word not in dump, "%r in %r" % (word, key))


def test_vary_is_kept_apart(t):
    pair = Pair(t)
    def answer(conn, request):
        counts.append(request)
        conn.reply(200, FRESH + [("Vary", "X-Kind")], b"kind " + request.get("X-Kind", "none").encode())
    counts = []
    pair.origin.on["/v"] = answer
    for kind in ("one", "two", None):
        pair.a.request("/v", fields=ME + ([("X-Kind", kind)] if kind else []))
    pair.stored(4)
    for kind in ("one", "two", None):
        response = pair.b.request("/v", fields=ME + ([("X-Kind", kind)] if kind else []))
        equal(response.body, b"kind " + (kind or "none").encode(), "the variant")
    equal(len(counts), 3, "upstream requests")
    pair.b.request("/v", fields=ME + [("X-Kind", "three")])
    equal(len(counts), 4, "a new variant is fetched")


def test_a_purge_reaches_the_other_within_a_second(t):
    pair = Pair(t)
    ways = {"key": {"key": "/p-key"}, "prefix": {"prefix": "/p-pre"}, "all": {"all": True}, "tag": {"tag": "prompt:7"}}
    for name, body in ways.items():
        with t.case(name):
            path = "/v1/client/prompts/7" if name == "tag" else "/p-" + name
            sidecars = pair.all
            if name == "tag":
                sidecars = [t.sidecar(pair.origin, {**pair.settings, "preset": "promptops"}) for _ in range(2)]
                for s in sidecars:
                    wait_for(lambda s=s: used(s), "in use")
            a, b = sidecars
            counted = pair.counted(path)
            stored = len(pair.redis.entries())
            before = a.request(path, fields=ME).body
            pair.stored(stored + 1)
            equal(b.request(path, fields=ME).body, before, "the other's answer")
            equal(len(counted.seen), 1, "upstream requests")
            began = time.monotonic()
            a.admin("/api/v1/cache/purge", "POST", body)
            wait_for(lambda: b.request(path, fields=ME).body != before, "the purge reached the other")
            check(time.monotonic() - began < 1, "it took %.2f s" % (time.monotonic() - began))
            equal(len(counted.seen), 2, "fetched again")


def test_what_is_written_behind_a_purge_is_not_used(t):
    """A value of before the purge comes into Redis after it: from a slow writer, or put back by who rules Redis."""
    pair = Pair(t)
    purges = {"key": lambda path: pair.a.admin("/api/v1/cache/purge", "POST", {"key": path}), "write": lambda path: pair.a.request(path, "POST", ME, body=b"x"),
              "all": lambda path: pair.a.admin("/api/v1/cache/purge", "POST", {"all": True})}
    for name, purge in purges.items():
        with t.case(name):
            path = "/w-" + name
            pair.counted(path)
            before = set(pair.redis.entries())
            old = pair.a.request(path, fields=ME).body
            pair.stored(len(before) + 1)
            key = (set(pair.redis.entries()) - before).pop()
            value = pair.redis.call("GET", key)
            heard, purged = level(pair.b)["purges_heard"], level(pair.b)["purged"]
            purge(path)
            wait_for(lambda: level(pair.b)["purges_heard"] > heard and level(pair.a)["purges_waiting"] == 0, "the purge is heard")
            pair.redis.call("SET", key, value)
            check(pair.b.request(path, fields=ME).body != old, "the old one was used")
            equal(level(pair.b)["purged"], purged + 1, "values not used")
            pair.stored(len(before) + 1)
            wait_for(lambda: pair.redis.call("GET", key) != value, "the new one is stored")
            pair.redis.call("SET", key, value)
            late = t.sidecar(pair.origin, pair.settings)
            wait_for(lambda: used(late), "in use")
            check(late.request(path, fields=ME).body != old, "a sidecar that came later used it")
    with t.case("nobody knows what was purged"):
        pair.counted("/w-lost")
        before = set(pair.redis.entries())
        old = pair.a.request("/w-lost", fields=ME).body
        pair.stored(len(before) + 1)
        for stream in pair.redis.call("KEYS", "*:purges"):
            pair.redis.call("DEL", stream)
        late = t.sidecar(pair.origin, pair.settings)
        wait_for(lambda: used(late), "in use")
        check(late.request("/w-lost", fields=ME).body != old, "it was used")


def test_a_write_through_one_is_seen_by_the_other(t):
    pair = Pair(t)
    counted = pair.counted("/p")
    pair.a.request("/p", fields=ME)
    pair.stored(1)
    old = pair.b.request("/p", fields=ME).body
    others = pair.b.request("/p", fields=YOU).body
    pair.a.request("/p", "POST", ME, body=b"x")
    wait_for(lambda: pair.b.request("/p", fields=ME).body != old, "the write reached the other")
    equal(pair.b.request("/p", fields=YOU).body, others, "another credential's stays")


def test_a_purge_while_redis_is_away_is_told_later(t):
    pair = Pair(t)
    counted = pair.counted("/p")
    pair.a.request("/p", fields=ME)
    pair.stored(1)
    old = pair.b.request("/p", fields=ME).body
    pair.redis.kill()
    wait_for(lambda: not used(pair.a), "it is away")
    equal(pair.a.admin("/api/v1/cache/purge", "POST", {"key": "/p"})[0], 200, "purge")
    equal(pair.b.request("/p", fields=ME).body, old, "the other could not hear it")
    pair.redis.start()
    wait_for(lambda: pair.b.request("/p", fields=ME).body != old, "it is told when Redis is back")


def test_a_place_purged_while_redis_was_away_is_gone_from_it(t):
    """The record of a purge is forgotten after some hundred others; its value must be gone by then, and not come up again."""
    pair = Pair(t, "--appendonly", "yes", "--appendfsync", "always")   # else a kill may lose what was just written
    pair.counted("/p")
    pair.a.request("/p", fields=ME)
    pair.stored(1)
    key = pair.redis.entries()[0]
    pair.redis.kill()
    wait_for(lambda: not used(pair.a), "it is away")
    pair.a.request("/p", "POST", ME, body=b"x")
    settles(lambda: level(pair.a)["purges_waiting"], 1, "purges that wait")
    check(pair.redis.on_disk(key), "Redis has lost it by itself")   # once it runs again, the purge may be quicker than we
    pair.redis.start()
    wait_for(lambda: level(pair.a)["purges_waiting"] == 0, "the purge is confirmed")
    check(key not in pair.redis.entries(), "the value is still in Redis")


def test_a_purge_for_a_credential_that_was_forgotten(t):
    """More credentials than a sidecar remembers the keys of: what others purge of theirs still leaves its memory."""
    pair = Pair(t, config={"cache.max_size": 20000})
    pair.counted("/p")
    who = [[("Authorization", "Bearer po_number_%06d" % i)] for i in range(7000)]
    with pair.a.client() as client:
        old = [client.request("/p", fields=one).body for one in who]
        for one in who[:5]:
            check("; hit" in client.request("/p", fields=one).get("Cache-Status"), "not in memory")
    for one in who[:5]:
        pair.b.request("/p", "POST", one, body=b"x")
    for i, one in enumerate(who[:5]):
        wait_for(lambda: pair.a.request("/p", fields=one).body != old[i], "the write of credential %d is seen" % i)


def slowest(sidecar, paths):
    """Seconds of the slowest of these requests; all must be answered."""
    worst = 0
    with sidecar.client() as client:
        for path in paths:
            began = time.monotonic()
            equal(client.request(path, fields=ME).status, 200, "status")
            worst = max(worst, time.monotonic() - began)
    return worst


def test_pain_14_redis_that_dies_and_comes_back(t):
    pair = Pair(t)
    pair.redis.kill()
    check(slowest(pair.a, ["/k%d" % i for i in range(20)]) < 1, "requests waited")
    wait_for(lambda: not used(pair.a), "it is away")
    pair.redis.start()
    pair.wait_used()
    counted = pair.counted("/again")
    pair.a.request("/again", fields=ME)
    pair.stored(1)
    pair.b.request("/again", fields=ME)
    equal(len(counted.seen), 1, "shared again")


def test_pain_14_redis_that_stands_still(t):
    """Each look waits for the level's patience at most, and after the breaker has opened none does."""
    pair = Pair(t)
    for path in ["/f%d" % i for i in range(40)]:
        pair.counted(path)
    pair.redis.freeze()
    try:
        check(slowest(pair.a, ["/f%d" % i for i in range(20)]) < 1, "a request waited for long")
        wait_for(lambda: not used(pair.a), "the breaker has opened")
        skipped = level(pair.a)["skipped"]
        began = time.monotonic()
        slowest(pair.a, ["/f%d" % i for i in range(20, 40)])
        equal(level(pair.a)["skipped"], skipped + 20, "looks not made")
        check(time.monotonic() - began < 20 * 0.06, "requests still waited")
        check(level(pair.a)["failures"] <= 10, "failures: %d" % level(pair.a)["failures"])
    finally:
        pair.redis.thaw()
    pair.wait_used()


def test_pain_14_redis_that_is_full(t):
    pair = Pair(t, "--maxmemory", "3mb", "--maxmemory-policy", "noeviction")
    for i in range(100):
        pair.counted("/big%d" % i, body=b"%02d" % i * 25000)
        equal(pair.a.request("/big%d" % i, fields=ME).status, 200, "status")
    wait_for(lambda: level(pair.a)["store_failures"] > 0, "Redis refused")
    equal(pair.a.request("/big99", fields=ME).status, 200, "status")
    check(used(pair.a), "what is there can still be read")


def test_pain_14_redis_that_is_wiped(t):
    pair = Pair(t)
    counted = pair.counted("/p")
    pair.a.request("/p", fields=ME)
    pair.stored(1)
    pair.redis.call("FLUSHALL")
    equal(pair.b.request("/p", fields=ME).status, 200, "status")
    equal(len(counted.seen), 2, "fetched again")
    pair.stored(1)
    late = t.sidecar(pair.origin, pair.settings)
    wait_for(lambda: used(late), "a new sidecar begins in an empty Redis")
    old = late.request("/p", fields=ME).body
    pair.a.admin("/api/v1/cache/purge", "POST", {"key": "/p"})
    wait_for(lambda: late.request("/p", fields=ME).body != old, "purges reach it")


def test_values_that_lie_are_not_believed(t):
    """What is damaged, cut, foreign, moved or made up is fetched as if it were not there."""
    pair = Pair(t)
    made = 0
    for name, lie in {"damaged": lambda v: v[:40] + bytes([v[40] ^ 1]) + v[41:], "cut": lambda v: v[:len(v) // 2], "longer": lambda v: v + b"x", "empty": lambda v: b"",
                      "text": lambda v: b"hello", "of another place": lambda v: other}.items():
        with t.case(name):
            path = "/lie-" + name.replace(" ", "-")
            counted = pair.counted(path)
            pair.redis.call("FLUSHALL")    # nobody writes just now
            pair.counted("/other")
            pair.a.request("/other" + "?" + path, fields=ME)
            pair.stored(1)
            other_key = pair.redis.entries()[0]
            other = pair.redis.call("GET", other_key)
            pair.a.request(path, fields=ME)
            pair.stored(2)
            key = next(k for k in pair.redis.entries() if k != other_key)
            pair.redis.call("SET", key, lie(pair.redis.call("GET", key)))
            response = pair.b.request(path, fields=ME)
            equal((response.status, len(counted.seen)), (200, 2), "answer, upstream requests")
            made += 1
            equal(level(pair.b)["damaged"], made, "counted")
            wait_for(lambda: level(pair.b)["stores"] == made, "the good one is stored again")
    with t.case("another type"):
        pair.counted("/typed")
        pair.redis.call("FLUSHALL")
        pair.a.request("/typed", fields=ME)
        pair.stored(1)
        key = pair.redis.entries()[0]
        pair.redis.call("DEL", key)
        pair.redis.call("LPUSH", key, "x")
        equal(pair.b.request("/typed", fields=ME).status, 200, "status")


def test_records_that_lie_purge_nothing_of_a_credential(t):
    pair = Pair(t)
    counted = pair.counted("/p")
    pair.a.request("/p", fields=ME)
    pair.stored(1)
    pair.a.request("/p", "POST", ME, body=b"x")      # so that the credential's name in Redis can be seen
    pair.a.request("/p", fields=ME)
    stream = wait_for(lambda: pair.redis.call("KEYS", "*:places"), "the purge in its stream")[0]
    record = dict(zip(*[iter(pair.redis.call("XRANGE", stream, "-", "+")[0][1])] * 2))
    seen = len(counted.seen)
    damaged = level(pair.a)["damaged"]
    for kind in (b"p", b"w"):
        pair.redis.call("XADD", stream, "*", "k", kind, "s", "1", "n", "1", "w", record[b"w"], "t", b"x" * 40)
    pair.redis.call("XADD", stream, "*", "nonsense", "x")
    wait_for(lambda: level(pair.a)["damaged"] == damaged + 2, "seen for what they are")
    pair.a.request("/p", fields=ME)
    equal(len(counted.seen), seen, "still in memory")


def test_a_wrong_url_is_said(t):
    for url, word in {"http://x": "no URL", "redis+sentinel://h": "no master", "rediss+sentinel://h/m": "without TLS", "redis://a:1,b:2": "Cluster", "redis://:hunter2@h:x": "port"}.items():
        with t.case(url):
            code, out, errors = run_once(["--set", "cache.redis_url=" + url, "--check"])
            equal(code, 2, "exit code")
            check("cache.redis_url" in errors and word in errors and "hunter2" not in out + errors, out + errors)
    with t.case("a file that is not there"):
        code, out, errors = run_once(["--set", "cache.redis_url=rediss://:hunter2@h?ca_file=/nowhere", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
        check(code == 1 and "/nowhere" in out + errors and "hunter2" not in out + errors, out + errors)


# ---- Sentinel -------------------------------------------------------------------------------------------------------


@slow(60)
def test_the_master_is_asked_of_a_sentinel(t):
    """What one sidecar stores the other finds: before and after the master is killed, and after it was made a replica for a while. No
    request waits or fails meanwhile."""
    sentinels = Sentinels(t.directory)
    t.at_end(sentinels.close)
    origin = t.origin()
    sidecars = [t.sidecar(origin, {**PLAIN, "cache.redis_url": sentinels.url}) for _ in range(2)]
    tries = []

    def found():
        """Does the second find what the first has fetched a moment ago?"""
        path = "/try-%d" % len(tries)
        tries.append(Counted(origin, path, FRESH))
        began = time.monotonic()
        equal(sidecars[0].request(path, fields=ME).status, 200, "status")
        time.sleep(0.02)                # it is stored behind the answer's back
        equal(sidecars[1].request(path, fields=ME).status, 200, "status")
        check(time.monotonic() - began < 5, "a request waited")
        return len(tries[-1].seen) == 1
    wait_for(found, "what is shared through the first master", 30)
    first = sentinels.master()
    first.kill()
    wait_for(lambda: not any(used(s) for s in sidecars), "the level to be left alone", 30)
    check(not found(), "found without a master")
    wait_for(lambda: sentinels.master() not in (None, first), "another master", 30)
    wait_for(found, "what is shared through the second master", 30)
    second = sentinels.master()
    second.call("REPLICAOF", "127.0.0.1", "1")
    wait_for(lambda: (found(), not used(sidecars[0]))[1], "a replica to be noticed", 30)
    second.call("REPLICAOF", "NO", "ONE")
    wait_for(found, "what is shared when it is the master again", 30)
    for sidecar in sidecars:            # connections to the new master, not leaks
        sidecar.base_sockets = sidecar.sockets()
