#!/usr/bin/env python3
"""cache-sim and resilience-sim as their users run them: answers on traces small enough to work out by hand, and
errors that say where. Exits 1 when a check fails."""
import json
import os
import random
import re
import subprocess
import sys
import tempfile

BUILD = os.environ.get("BUILD", "build")
WANTED = {"requests", "hits", "hit_ratio", "byte_hit_ratio", "cost_saved_ratio", "evictions", "prefetch", "ns_per_request", "bytes_per_entry"}
failures = []


def check(good, what):
    if not good:
        failures.append(what)
        print("FAILED " + what)


def run(program, *args, text=""):
    done = subprocess.run([os.path.join(BUILD, program), *args], input=text, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout, done.stderr


def simulate(text, *args):
    code, out, err = run("cache-sim", *args, text=text)
    check(code == 0, "cache-sim %s: exit %d, %s" % (" ".join(args), code, err))
    return json.loads(out) if code == 0 else {}


def trace(keys, size=10, cost=1):
    return "".join("%d,%s,%d,%s\n" % (i, key, size, cost) for i, key in enumerate(keys))


def by_hand():
    rows = [("lru", "abcacbd", 2, 1), ("lru", "abacab", 2, 2), ("fifo", "abacab", 2, 1), ("lru", "aaaa", 1, 3), ("fifo", "abab", 1, 0), ("adaptive", "aaab", 1, 2), ("lfu", "aaab", 1, 2)]
    for policy, keys, size, hits in rows:
        r = simulate(trace(keys), "--policy", policy, "--max-size", str(size))
        check(WANTED <= set(r), "%s: fields %s are missing" % (policy, WANTED - set(r)))
        check(r.get("requests") == len(keys), "%s, %s: %s requests" % (policy, keys, r.get("requests")))
        check(r.get("hits") == hits, "%s, %s at %d: %s hits, wanted %d" % (policy, keys, size, r.get("hits"), hits))
    r = simulate("0,a,100,3\n1,b,300,1\n2,a,100,3\n", "--policy", "lru", "--max-bytes", "1KiB")
    check(abs(r["byte_hit_ratio"] - 0.2) < 1e-6, "byte hit ratio %s" % r["byte_hit_ratio"])
    check(abs(r["cost_saved_ratio"] - 3 / 7) < 1e-6, "cost saved %s" % r["cost_saved_ratio"])
    check(simulate("", "--policy", "lru", "--max-size", "5")["requests"] == 0, "an empty trace")
    check(simulate("# words\n\n1e300,a,1\n", "--policy", "lru", "--max-size", "5")["requests"] == 1, "comments, empty lines, late times")


def prediction():
    rng = random.Random(3)
    keys = ["k%d" % (int(rng.paretovariate(0.4)) % 20000) for _ in range(60000)]
    small = simulate(trace(keys), "--policy", "lru", "--max-size", "500", "--predict", "2.0")
    large = simulate(trace(keys), "--policy", "lru", "--max-size", "1000")
    off = abs(small["predicted_hit_ratio"] - large["hit_ratio"])
    check(off < 0.02, "predicted %.4f at twice the size, was %.4f" % (small["predicted_hit_ratio"], large["hit_ratio"]))
    check(small["hit_ratio"] + 0.005 < large["hit_ratio"], "the larger cache is no better: the prediction shows nothing")


def prefetching():
    rng = random.Random(5)
    walk = [start * 20 + step for start in (rng.randrange(200) for _ in range(4000)) for step in range(20)]
    anywhere = [rng.randrange(4000) for _ in range(40000)]
    for strategy in ("always", "adaptive", "predictive"):
        r = simulate(trace(walk), "--policy", "adaptive", "--max-size", "1000", "--prefetch", strategy)
        plain = simulate(trace(walk), "--policy", "adaptive", "--max-size", "1000", "--prefetch", "none")
        p = r["prefetch"]
        check(r["hit_ratio"] > plain["hit_ratio"] + 0.3, "%s: %.3f against %.3f on sequences" % (strategy, r["hit_ratio"], plain["hit_ratio"]))
        check(0.8 <= p["precision"] <= 1 and 0 < p["used"] <= p["issued"] and 0 < p["coverage"] <= 1, "%s: %s" % (strategy, p))
        check(plain["prefetch"]["issued"] == 0, "none: it fetched ahead")
    r = simulate(trace(anywhere), "--policy", "adaptive", "--max-size", "1000", "--prefetch", "adaptive")
    check(r["prefetch"]["issued"] <= 0.01 * len(anywhere), "random: %s" % r["prefetch"])


def errors():
    good = ("--policy", "lru", "--max-size", "2")
    check(run("cache-sim", "--help")[0] == 0, "cache-sim --help")
    for args in ([], ["--policy", "best", "--max-size", "1"], ["--policy", "lru"], ["--policy", "lru", "--max-size", "0"], ["--policy", "lru", "--max-bytes", "x"],
                 [*good, "--prefetch", "some"], [*good, "--predict", "-1"], [*good, "more"]):
        code, out, err = run("cache-sim", *args)
        check(code == 2 and err and not out, "cache-sim %s: exit %d, %s" % (args, code, err))
    for line in ("1,a", "x,a,1", "1,,1", "1,a,-1", "1,a,1.5", "1,a,1,nan", "1,a,1,1,1", "1,a,999999999999999999999"):
        code, out, err = run("cache-sim", *good, text="0,a,1\n%s\n" % line)
        check(code == 1 and "line 2" in err and not out, "%s: exit %d, %s" % (line, code, err))
    check(run("resilience-sim", "--help")[0] == 0, "resilience-sim --help")
    check(run("resilience-sim")[0] == 2, "resilience-sim without a scenario")
    code, _, err = run("resilience-sim", "--scenario", "tests/sim/scenarios/none.yaml")
    check(code in (1, 2) and "none.yaml" in err, "a scenario that is not there: exit %d, %s" % (code, err))
    code, out, err = run("resilience-sim", "--scenario", "tests/sim/scenarios/steady.yaml")
    check(code == 0 and json.loads(out), "steady.yaml: exit %d, %s" % (code, err))


BAD_SCENARIOS = [                                      # text, where and what is said of it
    ("", ":1:1: is empty"), ("a: [1\n", ":2:1: not well-formed YAML"), ("- a\n", ":1:1: must be a mapping"), ("duration: 5s\n", "clients: is missing"),
    ("nmae: a\nclients: {rate: 1}\n", ":1:1: nmae: no such key; did you mean name?"), ("clients: {rate: 1, arrival: now}\n", ":1:29: clients.arrival: not one of poisson"),
    ("clients: {rate: .nan}\n", "clients.rate: not a number"), ("clients: {rate: 1}\nclients: {rate: 2}\n", ":2:1: clients: the key is there twice"),
    ("clients: {rate: 1}\n---\nclients: {rate: 2}\n", ":3:1: is a second document"), ("clients: {rate: 1}\nsidecar: &a {retry: *a}\n", "nested too deeply"),
    ("clients: &a [*a]\n", "clients[0]: must be a mapping"), ("clients: {rate: 1}\nsidecar: {retry: {max_atempts: 3}}\n", ":2:19: retry.max_atempts: unknown key, did you mean retry.max_attempts?"),
    ("clients: {rate: 1}\nfaults: [{kind: outage}]\n", ":2:10: faults[0]: has no length"), ("clients: {rate: 1}\nupstream: {workers: 0}\n", "upstream.workers: must be from 1"),
    ("clients: {rate: 1}\nexpect: {goodput.share: 1}\n", ":2:25: goodput.share: not a bound"), ("clients: {count: 10000, rate: 1000}\n", "more than a million requests a second")]
GOOD_SCENARIOS = ["clients: {rate: 1}\nupstream:\nfaults:\nlimits: ~\nsidecar: null\nexpect:\n", "clients: {arrival: closed}\nupstream: {latency: 0}\nduration: 2\n",
                  "clients: {rate: 5}\norigin: {capacity: 3, latency: 10ms}\noutages: {at: 1, for: 1, kind: outage}\nduration: 5s\n"]


def scenarios():
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as f:
        def write(text):
            f.seek(0)
            f.truncate()
            f.write(text)
            f.flush()
        for text, what in BAD_SCENARIOS:
            write(text)
            code, out, err = run("resilience-sim", "--scenario", f.name)
            check(code == 2 and what in err and err.startswith(f.name) and not out, "%r: exit %d, %s" % (text, code, err))
        for text in GOOD_SCENARIOS:
            write(text)
            code, out, err = run("resilience-sim", "--scenario", f.name)
            check(code == 0 and "oracle" in json.loads(out), "%r: exit %d, %s" % (text, code, err))
    code, out, err = run("resilience-sim", "--scenario", "tests/sim/reference.yaml")
    check(code == 0 and json.loads(out)["expectations_met"] is True, "reference.yaml: exit %d, %s" % (code, err))
    with open("tests/sim/reference.yaml") as f:
        reference = f.read()
    for line in run("resilience-sim", "--help")[1].split("The file:")[1].splitlines():
        if line.startswith("  "):
            check(re.search(r"\b%s:" % line.split()[0], reference), "reference.yaml has no %s" % line.split()[0])
    families = {"steady", "outage", "brown-out", "slow-calls", "flapping", "retry-storm", "metastable", "overload", "recovery", "rate-limit-real", "rate-limit-draft10"}
    there = {name[:-5] for name in os.listdir("tests/sim/scenarios")}
    check(families <= there, "scenarios are missing: %s" % (families - there))


for part in (by_hand, prediction, prefetching, errors, scenarios):
    part()
print("%d failed" % len(failures))
sys.exit(1 if failures else 0)
