"""One budget for several sidecars that share an API key through a real Redis: spent whole and fairly, no refusal by the API, Redis killed and
started again empty in the middle; refusals are told; a Redis that stands still is not felt. BUDGET_MINUTES=3 runs it against the stand-in as well."""
import importlib.util
import os
import signal
import threading
import time

from harness import *
from lib.redis import Redis
from lib.window import Window

KEY = [("Authorization", "Bearer po_shared_by_all_of_them_1")]
OTHER = [("Authorization", "Bearer po_shared_by_all_of_them_2")]
SHARED = {"pool.strategy": "lazy", "pool.min_size": 0, "pool.max_idle_time": 5, "pool.prune_interval": 1, "rate_limit.enable_rate_limit_detection": True, "rate_limit.mode": "pace", "retry.max_attempts": 1, "cache.enabled": False, "rate_limit.share_through_redis": True, "circuit_breaker.enable_circuit_breaker": False, "concurrency.mode": "off"}


def limits(sidecar):
    return sidecar.admin("/api/v1/rate-limits")[2]


def in_touch(sidecar, count):
    shared = limits(sidecar)["shared"]
    return shared["in_touch"] and shared["sidecars"] == count


class Crew:
    """Some sidecars, one Redis, one upstream."""

    def __init__(self, t, upstream, config=None, count=3):
        self.redis = Redis(t.directory)
        t.at_end(self.redis.close)
        self.all = [t.sidecar(upstream, {**SHARED, "cache.redis_url": self.redis.url, **(config or {})}) for _ in range(count)]
        self.meet()

    def meet(self):
        for sidecar in self.all:
            wait_for(lambda s=sidecar: in_touch(s, len(self.all)), "all know of each other")


def keep_asking(t, crew, until, clients=2, key=KEY):
    """Clients that want far more than there is. Returns what they were answered."""
    seen, lock = [], threading.Lock()

    def client(number, sidecar):
        with sidecar.client() as c:
            while time.monotonic() < until:
                response = c.request("/%d/x" % number, fields=key)
                with lock:
                    seen.append(response.status)
                if response.status != 200:
                    time.sleep(0.05)
    for done in [t.thread(client, n, s) for n, s in enumerate(crew.all) for _ in range(clients)]:
        done.result(400)
    return seen


def fair(accepted, count):
    mean = sum(accepted.values()) / count
    shares = sorted(accepted.get(str(n), 0) / mean for n in range(count))
    check(0.9 <= shares[0] and shares[-1] <= 1.1, "shares %s" % shares)


@slow(80)
def test_spent_whole_and_fairly_with_redis_away_in_the_middle(t):
    origin = t.origin()
    window = Window(origin, 44, 11)
    crew = Crew(t, origin, {"rate_limit.max_wait": "5s"})

    def away():
        time.sleep(6)
        crew.redis.kill()
        time.sleep(8)
        crew.redis.start()
    gone = t.thread(away)
    seen = keep_asking(t, crew, time.monotonic() + 21.5)
    gone.result(30)
    equal(window.refused, 0, "refusals by the API")
    accepted = {str(n): sum(w.get(str(n), 0) for w in window.accepted[:2]) for n in range(3)}
    check(sum(accepted.values()) >= 0.97 * 2 * 44, "of %d were used: %s" % (2 * 44, window.accepted))
    fair(accepted, 3)
    crew.meet()


def test_a_refusal_is_told_to_the_others(t):
    origin = t.origin()
    answers = [make_response(429, [("Retry-After", "900")], b"later")]
    origin.default = lambda conn, request: conn.send(answers.pop() if answers else make_response(200, [], b"ok"))
    crew = Crew(t, origin, {"rate_limit.max_wait": 0, "rate_limit.assume": "never"})
    a, b, c = crew.all
    equal(a.request("/", fields=KEY).status, 429, "the API refuses one")
    for other in (b, c):
        began = time.monotonic()
        wait_for(lambda o=other: o.request("/", fields=KEY).status == 429, "the others hear of it")
        check(time.monotonic() - began < 2, "after %.1f s" % (time.monotonic() - began))
        refused = made_up(other.request("/", fields=KEY), 429)
        check(850 < int(refused.get("Retry-After")) <= 901, refused.get("Retry-After"))
        equal(other.request("/", fields=OTHER).status, 200, "another key")


def test_a_redis_that_stands_still_is_not_felt(t):
    origin = t.origin()
    Window(origin, 100000, 3600)
    crew = Crew(t, origin, count=2)
    a = crew.all[0]
    equal(a.request("/0/x", fields=KEY).status, 200, "before")
    crew.redis.freeze()
    try:
        wait_for(lambda: not limits(a)["shared"]["in_touch"], "it is noticed")
        equal(limits(a)["shared"]["sidecars"], 2, "the number that was seen last")
        with a.client() as c:
            began = time.monotonic()
            for _ in range(50):
                equal(c.request("/0/x", fields=KEY).status, 200, "meanwhile")
            check(time.monotonic() - began < 5, "50 calls took %.2f s" % (time.monotonic() - began))
    finally:
        crew.redis.thaw()
    crew.meet()


def test_nothing_of_a_key_is_in_redis_and_who_leaves_gives_back(t):
    origin = t.origin()
    Window(origin, 60, 60)
    crew = Crew(t, origin, count=2)
    for sidecar in crew.all:
        equal(sidecar.request("/0/x", fields=KEY).status, 200, "status")

    def members():
        found = {}
        for key in crew.redis.call("KEYS", "promptops:1:budget:*"):
            check(b"po_shared" not in key, key)
            if not key.endswith(b":sidecars"):
                flat = crew.redis.call("HGETALL", key)
                check(b"po_shared" not in b" ".join(flat), flat)
                found.update({k: v for k, v in zip(flat[::2], flat[1::2]) if k.startswith(b"m")})
        return found
    wait_for(lambda: len(members()) == 2, "both are in the ledger")
    crew.all[1].process.send_signal(signal.SIGINT)
    crew.all[1].wait_exit()
    left = [v.split() for v in members().values()]
    check(any(used == held and wants == b"0" for used, held, wants, _ in left), "it still holds some: %s" % left)


def test_without_redis_url_it_is_refused(t):
    code, out, errors = run_once(["--set", "rate_limit.share_through_redis=true", "--set", "upstream.url=http://127.0.0.1:9", "--check"])
    check(code == 2 and "rate_limit.share_through_redis: needs cache.redis_url" in out + errors, (code, out, errors))


@slow(600)
def test_minutes_against_the_stand_in(t):
    """60 a minute, refused in disguise and without a word before: three sidecars, Redis away for 50 s in the middle."""
    minutes = int(os.environ.get("BUDGET_MINUTES", "0"))
    if not minutes:
        return
    spec = importlib.util.spec_from_file_location("origin_harness", os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "origin", "harness.py"))
    stand_in = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(stand_in)
    origin = stand_in.Origin()
    t.at_end(origin.stop)
    crew = Crew(t, "http://127.0.0.1:%d" % origin.port, {"rate_limit.max_wait": "5s", "rate_limit.assume": "always"})
    while time.time() % 60 > 0.5:
        time.sleep(0.1)
    counts, lock, until = [{} for _ in crew.all], threading.Lock(), time.monotonic() + 60 * minutes - 1

    def client(number, sidecar):
        with sidecar.client() as c:
            while time.monotonic() < until:
                status = c.request("/v1/client/prompts/greeting", fields=[("Authorization", "Bearer " + stand_in.API_KEY)]).status
                with lock:
                    counts[number][status] = counts[number].get(status, 0) + 1
                if status == 429:
                    time.sleep(0.05)

    def away():
        time.sleep(70)
        crew.redis.kill()
        time.sleep(50)
        crew.redis.start()
    threads = [t.thread(away)] + [t.thread(client, n, s) for n, s in enumerate(crew.all) for _ in range(4)]
    for done in threads:
        done.result(60 * minutes + 60)
    print("answers of each sidecar: %s" % counts)
    good = [c.get(200, 0) + c.get(404, 0) for c in counts]
    equal(sum(c.get(401, 0) for c in counts), 0, "refusals by the API")
    check(sum(good) >= 0.97 * 60 * minutes, "used %d of %d" % (sum(good), 60 * minutes))
    fair({str(n): g for n, g in enumerate(good)}, len(good))
