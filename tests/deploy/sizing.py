#!/usr/bin/python3
"""Measures what deploy/README.md says under Capacity: sizing.py [PROGRAM [fleet]]  (wrk, redis-server; programs from $BUILD)

Processor time is the sidecar's own, as the kernel counts it (process_cpu_seconds_total), per request: it says what the
load costs, however busy the machine is otherwise. Memory is the resident set.
"""
import http.client
import os
import re
import socket
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.environ.get("BUILD", os.path.join(HERE, "..", "..", "build"))
PROGRAM = sys.argv[1] if len(sys.argv) > 1 else os.path.join(BUILD, "promptops-sidecar")
PROXY, ADMIN, ORIGIN, REDIS, FLEET = 28080, 29901, 28000, 26379, 30000


def fetch(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path, headers={"Authorization": "Bearer key"})
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def metric(name):
    return sum(float(v) for v in re.findall(r"^%s(?:\{[^}]*\})? (\S+)$" % name, fetch(ADMIN, "/metrics")[1], re.M))


def wait_for(port):
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)


class Sidecar:
    def __init__(self, *settings):
        words = [w for s in settings for w in ("--set", s)]
        self.process = subprocess.Popen([PROGRAM, "--upstream", "http://127.0.0.1:%d" % ORIGIN, "--listen", "127.0.0.1:%d" % PROXY, "--admin", "127.0.0.1:%d" % ADMIN,
                                         "--set", "log.access=false", "--set", "workers=1", "--set", "rate_limit.enable_rate_limit_detection=false", *words], stderr=subprocess.DEVNULL)
        while True:
            try:
                fetch(ADMIN, "/health/ready")
                return
            except OSError:
                time.sleep(0.05)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(2)
        self.process.wait()

    def rss(self):
        return metric("process_resident_memory_bytes") / 2**20


def load(path, seconds=5, connections=16, script=None):
    """(requests, processor microseconds a request) of the sidecar."""
    before, done = metric("process_cpu_seconds_total"), metric("promptops_requests_total")
    words = ["wrk", "-t", "1", "-c", str(connections), "-d", "%ds" % seconds, "-H", "Authorization: Bearer key"]
    subprocess.run(words + (["-s", script] if script else []) + ["http://127.0.0.1:%d%s" % (PROXY, path)], check=True, capture_output=True)
    count = metric("promptops_requests_total") - done
    return count, (metric("process_cpu_seconds_total") - before) / count * 1e6


def redis_cost():
    """(processor seconds, commands, clients, bytes in use) of Redis so far."""
    said = dict(re.findall(r"^(\w+):(\S+)\r?$", subprocess.run(["redis-cli", "-p", str(REDIS), "info", "all"], capture_output=True, text=True, check=True).stdout, re.M))
    return (float(said["used_cpu_user"]) + float(said["used_cpu_sys"]), int(said["total_commands_processed"]), int(said["connected_clients"]), int(said["used_memory"]))


def process_cost(processes):
    """(processor seconds, resident MiB) of all of them, as the kernel has it."""
    ticks = pages = 0
    for process in processes:
        with open("/proc/%d/stat" % process.pid) as text:
            fields = text.read().rpartition(") ")[2].split()
        ticks += int(fields[11]) + int(fields[12])
        pages += int(fields[21])
    return ticks / os.sysconf("SC_CLK_TCK"), pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def fleet(count, *settings):
    """Many sidecars with one Redis: at rest, then each asked for what none of them has."""
    before = redis_cost()
    common = ["--upstream", "http://127.0.0.1:%d" % ORIGIN, "--set", "workers=1", "--set", "log.access=false", "--set", "rate_limit.enable_rate_limit_detection=false",
              "--set", "cache.redis_url=redis://127.0.0.1:%d" % REDIS]
    words = [w for s in settings for w in ("--set", s)]
    processes = [subprocess.Popen([PROGRAM, *common, *words, "--listen", "127.0.0.1:%d" % (FLEET + n), "--admin", "127.0.0.1:%d" % (FLEET + count + n)],
                                  stderr=subprocess.DEVNULL) for n in range(count)]
    try:
        for n in range(count):
            wait_for(FLEET + n)
        while redis_cost()[2] < before[2] + count * 3:
            time.sleep(0.2)
        time.sleep(5)                                      # what happens once, after the start, is over
        held, (cpu, resident), began = redis_cost(), process_cost(processes), time.monotonic()
        time.sleep(20)                                     # at rest is what is measured
        seconds, rest, spent = time.monotonic() - began, redis_cost(), process_cost(processes)[0] - cpu
        print("%d sidecars%s at rest: %.1f MiB resident and %.2f ms of processor a second each; Redis: %.0f connections, %.1f KB and %.2f commands a second a sidecar, %.1f %% of a core in all" % (
            count, " (%s)" % ", ".join(settings) if settings else "", resident / count, spent / seconds / count * 1e3, held[2] - before[2], (held[3] - before[3]) / count / 1e3,
            (rest[1] - held[1]) / seconds / count, (rest[0] - held[0]) / seconds * 100))
        connections = [http.client.HTTPConnection("127.0.0.1", FLEET + n, timeout=30) for n in range(count)]
        start, requests, began = redis_cost(), 0, time.monotonic()
        while time.monotonic() < began + 15:
            for n, connection in enumerate(connections):
                connection.request("GET", "/v1/client/prompts/prompt-%d" % (requests % 50000 + 1), headers={"Authorization": "Bearer fleet-%d-%d" % (count, len(settings))})
                answer = connection.getresponse()
                answer.read()
                assert answer.status == 200, "%d from sidecar %d" % (answer.status, n)
                requests += 1
        end, seconds = redis_cost(), time.monotonic() - began
        idle = (rest[1] - held[1]) / 20 * seconds, (rest[0] - held[0]) / 20 * seconds
        print("    %d misses a second over all: %.2f commands of Redis and %.1f us of its processor a miss" % (
            requests / seconds, (end[1] - start[1] - idle[0]) / requests, (end[0] - start[0] - idle[1]) / requests * 1e6))
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()


def fleets():
    for count in (25, 100):
        fleet(count)
    fleet(100, "rate_limit.share_through_redis=true")


def main():
    origin = subprocess.Popen([os.path.join(BUILD, "promptops-origin"), "--listen", "127.0.0.1:%d" % ORIGIN, "--no-auth", "--prompts", "60000"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    redis = subprocess.Popen(["redis-server", "--port", str(REDIS), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"], stdout=subprocess.DEVNULL)
    try:
        wait_for(ORIGIN)
        wait_for(REDIS)
        if sys.argv[2:] == ["fleet"]:
            fleets()
            return
        with tempfile.NamedTemporaryFile("w", suffix=".lua") as script, Sidecar("cache.max_size=0", "cache.max_memory_bytes=1GiB") as sidecar:
            script.write('local n = 0\nrequest = function()\n  n = n + 1\n  return wrk.format("GET", "/v1/client/prompts/prompt-" .. (n % 50000 + 1))\nend\n')
            script.flush()
            print("at rest: %.1f MiB" % sidecar.rss())
            fetch(PROXY, "/v1/client/prompts/prompt-1")
            print("hits: %.0f requests, %.1f us of processor each" % load("/v1/client/prompts/prompt-1"))
            empty = sidecar.rss()
            count, _ = load("/", 8, script=script.name)
            failed = metric("promptops_request_failures_total")
            if failed:
                raise SystemExit("%d requests failed: the figures would mean nothing" % failed)
            entries = metric("promptops_cache_entries")
            print("stored: %.0f entries of %.0f requests, %.1f MiB more: %.0f bytes an entry (of the answers: %d)"
                  % (entries, count, sidecar.rss() - empty, (sidecar.rss() - empty) * 2**20 / max(entries, 1), len(fetch(PROXY, "/v1/client/prompts/prompt-1")[1])))
            base = sidecar.rss()
            held = []
            for _ in range(2000):
                connection = http.client.HTTPConnection("127.0.0.1", PROXY)
                connection.connect()
                held.append(connection)
            time.sleep(0.5)
            print("2000 idle connections: %.0f bytes each" % ((sidecar.rss() - base) * 2**20 / 2000))
        with Sidecar("cache.enabled=false"):
            print("forwarded: %.0f requests, %.1f us of processor each" % load("/v1/client/prompts/prompt-1"))
        with Sidecar("cache.redis_url=redis://127.0.0.1:%d" % REDIS, "cache.max_size=0", "cache.max_memory_bytes=1GiB") as sidecar, tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
            script.write('local n = 0\nrequest = function()\n  n = n + 1\n  return wrk.format("GET", "/v1/client/prompts/prompt-" .. (n % 50000 + 1))\nend\n')
            script.flush()
            count, cost = load("/", 4, script=script.name)
            stats = subprocess.run(["redis-cli", "-p", str(REDIS), "info", "all"], capture_output=True, text=True, check=True).stdout
            calls = {name: int(n) for name, n in re.findall(r"cmdstat_([\w|]+):calls=(\d+)", stats)}
            memory = int(re.search(r"used_memory_dataset:(\d+)", stats).group(1)) if "used_memory_dataset:" in stats else 0
            keys = int(re.search(r"keys=(\d+)", stats).group(1)) if "keys=" in stats else 0
            print("misses with Redis: %.0f requests, %.1f us each; commands a miss: %s; %d keys, %.0f bytes each" % (
                count, cost, {k: round(v / count, 2) for k, v in calls.items() if v > count * 0.02}, keys, memory / max(keys, 1)))
        fleets()
    finally:
        origin.kill()
        redis.kill()


if __name__ == "__main__":
    main()
