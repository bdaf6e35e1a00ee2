"""Recommendations: planted cases are found, the estimate is what is measured; what does harm is taken back; without a case there is none."""
import itertools
import json
import random
import re

from harness import *
from test_63_batching import KEY, ON, PROMPTS, Prompts

QUICK = {"performance.recommendation_interval": "2s", "performance.experiment_slice": "2s"}
POINTS = 0.05


class Load:
    """Clients that go on until the test ends; `ask(client, random)` is one request."""

    def __init__(self, t, sidecar, ask, clients=1, pause=0):
        self.sidecar, self.ask, self.pause, self.over = sidecar, ask, pause, False
        self.failures = []
        self.threads = [threading.Thread(target=self.run, args=(n,), daemon=True) for n in range(clients)]
        for thread in self.threads:
            thread.start()
        t.clients.append(self)                 # stopped before the peers are

    def run(self, n):
        dice = random.Random(n)
        try:
            with self.sidecar.client() as client:
                while not self.over:
                    self.ask(client, dice)
                    if self.pause:
                        time.sleep(self.pause)     # the pace of the application is part of what is tested
        except Exception as e:
            if not self.over:
                self.failures.append(e)

    def close(self):
        self.over = True
        for thread in self.threads:
            thread.join(10)
        check(not self.failures, self.failures)


def advice(sidecar, name):
    found = [r for r in sidecar.admin("/api/v1/recommendations")[2]["recommendations"] if r["id"] == name]
    return found[0] if found else None


def state(sidecar, name):
    return (advice(sidecar, name) or {}).get("state")


def proposed(sidecar, name):
    wait_for(lambda: state(sidecar, name) == "proposed", "the recommendation " + name, timeout=60)
    return advice(sidecar, name)


def tried(sidecar, name, timeout=120):
    status, _, told = sidecar.admin("/api/v1/recommendations/%s/apply" % name, "POST")
    equal(status, 200, "status of apply: %r" % told)
    equal(told["state"], "trying", "state")
    wait_for(lambda: state(sidecar, name) != "trying", "the end of the experiment", timeout=timeout)
    return advice(sidecar, name)


def option(sidecar, key):
    one = sidecar.admin("/api/v1/config")[2]["options"][key]
    return one["value"], one["origin"]


def estimate_holds(sidecar, name, key, value):
    proposed(sidecar, name)

    def sure():
        """A window in which the load had hardly begun is outweighed, or forgotten: after twelve more."""
        found = advice(sidecar, name)
        return found if found and found["estimate"]["margin"] <= POINTS else None
    one = wait_for(sure, "an estimate that is sure to %.2f" % POINTS, timeout=90)
    estimate = one["estimate"]["improvement"]
    check(0.5 < one["confidence"] < 1 and one["evidence"]["windows"] >= 3, one)
    equal(one["change"]["key"], key, "key")
    done = tried(sidecar, name)
    equal((done["state"], done["experiment"]["verdict"]), ("applied", "improved"), "state: %r" % done)
    within = POINTS + (done["experiment"]["margin"] or 0)    # of what was measured: a busy machine measures less surely
    check(abs(done["measured_improvement"] - estimate) <= within, "estimated %.3f, measured %.3f" % (estimate, done["measured_improvement"]))
    equal(option(sidecar, key), (value, "admin"), "the setting")
    return done


def late(conn):
    while True:
        conn.request()
        time.sleep(0.05)                       # what the upstream takes
        conn.reply()


def cacheable(conn):
    while True:
        request = conn.request()
        conn.reply(fields=[("Cache-Control", "max-age=3600")], body=request.target.encode() * 8)


@loaded
def test_a_cache_that_is_too_small(t):
    sidecar = t.sidecar(t.origin(cacheable), dict(QUICK, **{"cache.enabled": True, "cache.strategy": "lru", "cache.max_size": 20}))
    Load(t, sidecar, lambda client, dice: equal(client.request("/%d" % dice.randrange(60)).status, 200, "status"))
    proposed(sidecar, "cache-size")
    points = sidecar.admin("/api/v1/cache/curve")[2]["points"]
    equal([p["factor"] for p in points], [0.5, 2.0, 4.0], "factors")
    near(points[1]["hit_ratio"], 0.62, 0.71, "the hit ratio at twice the size")
    estimate_holds(sidecar, "cache-size", "cache.max_size", 40)


@loaded
def test_a_lifetime_that_is_too_short(t):
    origin = t.origin(lambda conn: [(conn.request(), conn.reply(body=b"the same")) for _ in itertools.count()])
    sidecar = t.sidecar(origin, dict(QUICK, **{"cache.enabled": True, "cache.default_ttl": "1s", "cache.stale_while_revalidate": 0, "performance.experiment_slice": "5s", "performance.recommendation_interval": "8s"}))
    Load(t, sidecar, lambda client, dice: equal(client.request("/%d" % dice.randrange(40)).status, 200, "status"), pause=0.001)
    estimate_holds(sidecar, "cache-ttl", "cache.default_ttl", "4s")


@loaded
def test_a_lifetime_that_is_right(t):
    """What changes each time is not to be kept for longer."""
    numbers = itertools.count()
    origin = t.origin(lambda conn: [(conn.request(), conn.reply(body=b"version %d" % next(numbers))) for _ in itertools.count()])
    sidecar = t.sidecar(origin, dict(QUICK, **{"cache.enabled": True, "cache.default_ttl": "1s", "cache.stale_while_revalidate": 0}))
    Load(t, sidecar, lambda client, dice: equal(client.request("/%d" % dice.randrange(10)).status, 200, "status"), pause=0.001)
    wait_for(lambda: len(sidecar.admin("/api/v1/cache/curve")[2]["points"]) > 0 and sidecar.admin("/api/v1/cache/curve")[2]["points"][0]["windows"] >= 5, "five windows", timeout=60)
    equal(advice(sidecar, "cache-ttl"), None, "a recommendation")


@loaded
def test_a_pool_that_is_too_small(t):
    sidecar = t.sidecar(t.origin(late), dict(QUICK, **{"pool.strategy": "fixed", "pool.max_size": 2}))
    Load(t, sidecar, lambda client, dice: equal(client.request("/").status, 200, "status"), clients=8)
    estimate_holds(sidecar, "pool-size", "pool.max_size", 8)


@loaded
def test_a_retry_storm(t):
    def half(conn):
        while True:
            request = conn.request()
            conn.reply(status=503 if request.target == "/bad" else 200)
    sidecar = t.sidecar(t.origin(half), dict(QUICK, **{"retry.max_attempts": 3, "retry.budget": 1, "retry.base_delay": "1ms", "retry.max_delay": "2ms", "retry.strategy": "fixed_delay",
                                                       "retry.success_rate_threshold": 0}))
    Load(t, sidecar, lambda client, dice: client.request(dice.choice(["/bad", "/good"])), pause=0.002)
    done = estimate_holds(sidecar, "retry-attempts", "retry.max_attempts", 1)
    check(done["measured_improvement"] > 0.3, done)


@loaded
def test_a_circuit_breaker_that_is_off(t):
    def failing(conn):
        while True:
            conn.request()
            time.sleep(0.05)                   # what the upstream takes to fail
            conn.reply(status=503)
    sidecar = t.sidecar(t.origin(failing), dict(QUICK, **{"pool.max_size": 20, "circuit_breaker.circuit_breaker_timeout": "30s"}))
    Load(t, sidecar, lambda client, dice: check(client.request("/").status == 503, "status"), clients=4, pause=0.02)
    estimate_holds(sidecar, "circuit-breaker", "circuit_breaker.enable_circuit_breaker", True)


@loaded
def test_a_harmful_change_is_taken_back(t):
    busy = [0]
    lock = threading.Lock()

    def fragile(conn):
        """Two at a time are served in 30 ms each; more than that bring it to its knees."""
        while True:
            conn.request()
            with lock:
                busy[0] += 1
                n = busy[0]
            time.sleep(0.03 if n <= 2 else 0.6)
            with lock:
                busy[0] -= 1
            conn.reply()
    audit = os.path.join(tempfile.mkdtemp(), "audit")
    sidecar = t.sidecar(t.origin(fragile), dict(QUICK, **{"pool.strategy": "fixed", "pool.max_size": 2, "admin.audit_log": audit}))
    Load(t, sidecar, lambda client, dice: equal(client.request("/").status, 200, "status"), clients=8)
    proposed(sidecar, "pool-size")
    began = time.monotonic()
    done = tried(sidecar, "pool-size", timeout=60)
    check(time.monotonic() - began < 60, "it took %.0f s" % (time.monotonic() - began))
    equal((done["state"], done["experiment"]["verdict"]), ("reverted", "harmful"), "state: %r" % done)
    equal(option(sidecar, "pool.max_size")[0], 2, "the setting")
    check(option(sidecar, "pool.max_size")[1] != "admin", "its origin")
    equal(sidecar.admin("/api/v1/recommendations/pool-size/apply", "POST")[0], 409, "apply again")
    lines = [json.loads(line) for line in open(audit)]
    equal([line["action"] for line in lines if line["who"] == "optimizer"], ["a change is tried", "a change is taken back"], "the audit log")
    check(any(line["who"] != "optimizer" for line in lines), "the request is not in the audit log")


@loaded
def test_by_hand_and_by_itself(t):
    sidecar = t.sidecar(t.origin(late), dict(QUICK, **{"pool.strategy": "fixed", "pool.max_size": 2}))
    Load(t, sidecar, lambda client, dice: equal(client.request("/").status, 200, "status"), clients=8)
    ask = lambda verb, name="pool-size": sidecar.admin("/api/v1/recommendations/%s/%s" % (name, verb), "POST")[0]
    for verb in ("apply", "dismiss", "revert"):
        equal(ask(verb, "no-such"), 404, verb)
    proposed(sidecar, "pool-size")
    equal(ask("revert"), 409, "revert of what was not applied")
    equal(ask("apply"), 200, "apply")
    equal(ask("apply"), 409, "apply twice")
    equal(ask("dismiss"), 409, "dismiss of what is tried")
    equal(ask("revert"), 200, "revert")
    equal((state(sidecar, "pool-size"), option(sidecar, "pool.max_size")[0]), ("reverted", 2), "taken back")
    equal(ask("dismiss"), 200, "dismiss")
    equal(advice(sidecar, "pool-size"), None, "what was dismissed")


@loaded
def test_applied_without_being_asked(t):
    sidecar = t.sidecar(t.origin(late), dict(QUICK, **{"pool.strategy": "fixed", "pool.max_size": 2, "performance.optimization_auto_apply": True}))
    Load(t, sidecar, lambda client, dice: equal(client.request("/").status, 200, "status"), clients=8)
    wait_for(lambda: state(sidecar, "pool-size") == "trying", "the experiment", timeout=60)
    equal(sidecar.admin("/api/v1/config", "PATCH", {"pool.max_size": 5})[0], 200, "a change by somebody else")
    wait_for(lambda: state(sidecar, "pool-size") == "reverted", "its end")
    equal(option(sidecar, "pool.max_size"), (5, "admin"), "the setting is left alone")
    check("Somebody else" in advice(sidecar, "pool-size")["experiment"]["why"], advice(sidecar, "pool-size"))


@loaded
def test_nothing_to_recommend(t):
    for name, ask in (("no traffic", None), ("random traffic", lambda client, dice: equal(client.request("/%d" % dice.getrandbits(60)).status, 200, "status"))):
        with t.case(name):
            sidecar = t.sidecar(t.origin(cacheable), dict(QUICK, **{"cache.enabled": True, "cache.max_size": 20, "pool.max_size": 4}))
            if ask:
                Load(t, sidecar, ask, clients=2)
            wait_for(lambda: any(p["windows"] >= 5 for p in sidecar.admin("/api/v1/cache/curve")[2]["points"]) if ask else sidecar.admin("/api/v1/summary")[2]["uptime"] > 12, "windows", timeout=60)
            equal(sidecar.admin("/api/v1/recommendations")[2]["recommendations"], [], "recommendations")


@loaded
def test_the_command_line(t):
    from test_53_perf import perf
    busy = {"id": "busy", "metric_type": "MEMORY_USAGE", "condition": "> 1", "severity": "error", "message": "m"}
    sidecar = t.sidecar(t.origin(late), dict(QUICK, **{"pool.strategy": "fixed", "pool.max_size": 2, "alerts": [busy], "performance.alert_interval": "1s"}))
    equal(perf(sidecar, "optimize", "--auto-apply")[::2], (0, "nothing to apply\n"), "nothing")
    Load(t, sidecar, lambda client, dice: equal(client.request("/").status, 200, "status"), clients=8)
    proposed(sidecar, "pool-size")
    code, out, _ = perf(sidecar, "optimize", "--pool")
    check(code == 0 and "pool-size" in out and "pool.max_size" in out, out)
    near(int(re.search(r"(\d+)% less request latency", out)[1]), 40, 80, "per cent: of 75, once the windows before the load are forgotten")
    check("pool-size" not in perf(sidecar, "optimize", "--cache")[1], "the wrong kind")
    code, out, told = perf(sidecar, "optimize", "--pool", "--auto-apply", "--format", "json")
    check(code == 0 and "pool-size: is being tried" in told, told)
    equal(state(sidecar, "pool-size"), "trying", "state")
    code, out, _ = perf(sidecar, "analyze", "--recommendations", "--issues")
    check(code == 0 and "trying" in out and "high_latency" in out, out)
    wait_for(lambda: "busy" in perf(sidecar, "alerts", "--state", "firing")[1], "the alert")
    check("raised" in perf(sidecar, "alerts", "history", "--limit", "5")[1], "history")
    equal(perf(sidecar, "alerts", "silence", "busy", "--seconds", "60")[0], 0, "silence")
    told = json.loads(perf(sidecar, "alerts", "--format", "json")[1])
    check([a["silenced_until"] for a in told if a["id"] == "busy"][0], told)
    for words, code in ((("silence", "no-such"), 1), (("silence",), 2), (("--state", "loud"), 2), (("silence", "busy", "--seconds", "x"), 2), (("history", "--limit", "9999"), 2), (("shout",), 2)):
        equal(perf(sidecar, "alerts", *words)[0], code, " ".join(words))
    equal(perf(sidecar, "alerts", "remove", "busy")[0], 0, "remove")


@loaded
def test_prompts_that_are_asked_for_together(t):
    """Misses at the same time are seen; applied, batching proves itself on the live upstream within its turns, and is kept."""
    if not FULL:
        raise Skip("takes 40 s: run with --full")
    api = Prompts(t)
    api.pace = 0.06                            # what the upstream takes
    numbers = itertools.count()
    sidecar = t.sidecar(api.url, dict(QUICK, **{**ON, "batching.enabled": False, "batching.window": "10ms"}))
    Load(t, sidecar, lambda client, dice: equal(client.request(PROMPTS + "p-%d" % next(numbers), fields=KEY).status, 200, "status"), clients=12, pause=0.02)
    one = proposed(sidecar, "batching")
    check(one["estimate"]["improvement"] > 0.1, one)
    done = tried(sidecar, "batching")
    equal((done["state"], done["experiment"]["verdict"]), ("applied", "improved"), "state: %r" % done)
    check(done["measured_improvement"] > 0.1, done["measured_improvement"])
    equal(option(sidecar, "batching.enabled"), (True, "admin"), "the setting")
