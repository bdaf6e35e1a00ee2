#!/usr/bin/python3
"""What open dashboards cost the requests: one run, in which windows without and with them alternate.

    BUILD=build tests/bench/dashboards.py [--dashboards 20] [--rounds 10] [--seconds 5] [--rate 3000]

A dashboard is a script that does what the page does: it hears the live stream (each second, a thirtieth of the default
interval), and asks for the summary at each message and for the six series of the overview at every second one. The
sidecar has one worker and one processor for all its threads, so that the admin port can take time from requests; load,
origin and dashboards have another. Told: processor time a request of the worker's thread and of the whole process, how long
the worker was ready while the control thread kept the processor, and latencies at a fixed rate (open loop). The median over the rounds of with minus without is the cost, beside its quartiles.
"""
import argparse
import asyncio
import base64
import json
import multiprocessing
import os
import statistics
import subprocess
import tempfile
import time

import measure

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.path.join(HERE, "..", "..", os.environ.get("BUILD", "build"))
SERIES = ("THROUGHPUT", "REQUEST_LATENCY", "CACHE_HIT_RATE", "ERROR_RATE", "MEMORY_USAGE", "CPU_USAGE")
PATH = "/v1/client/prompts/prompt-1"


class Admin:
    """One kept connection to the admin port."""

    def __init__(self, address):
        self.address = address
        self.writer = None

    async def open(self):
        host, port = self.address.rsplit(":", 1)
        self.reader, self.writer = await asyncio.open_connection(host, int(port))

    def close(self):
        if self.writer:
            self.writer.transport.abort()

    async def get(self, path):
        self.writer.write(("GET /%s HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: gzip\r\n\r\n" % path).encode())
        head = await self.reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in head.split(b"\r\n")[0]:
            raise RuntimeError(head.decode())
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
        await self.reader.readexactly(int(fields[b"content-length"]))


async def frame(reader):
    """The payload of the next WebSocket frame; the sidecar's are not masked (RFC 6455 5.1)."""
    first, length = await reader.readexactly(2)
    if length >= 126:
        length = int.from_bytes(await reader.readexactly(2 if length == 126 else 8), "big")
    return first & 15, await reader.readexactly(length)


async def watch(address, heard):
    stream, asks = Admin(address), Admin(address)
    try:
        await stream.open()
        await asks.open()
        await follow(stream, asks, heard)
    finally:
        stream.close()
        asks.close()


async def follow(stream, asks, heard):
    key = base64.b64encode(os.urandom(16)).decode()
    stream.writer.write(("GET /api/v1/stream HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                         "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n\r\n" % key).encode())
    head = await stream.reader.readuntil(b"\r\n\r\n")
    if b" 101 " not in head.split(b"\r\n")[0]:
        raise RuntimeError(head.decode())
    count = 0
    while True:
        kind, payload = await frame(stream.reader)
        if kind == 9:  # a ping: its pong, masked by nothing
            stream.writer.write(bytes([0x8a, 0x80 | len(payload)]) + bytes(4) + payload)
        if kind != 1:
            continue
        await asks.get("api/v1/summary?window=900s")
        if count % 2 == 0:
            for name in SERIES:
                await asks.get("api/v1/metrics?metric_type=%s&start_time=-%ds&step=10s" % (name, 20 if count else 900))
        count += 1
        heard.value += 1


def dashboards(address, count, wanted, heard, cpus):
    """A process of its own: opens the dashboards while `wanted` is set, and closes them when it is not."""
    os.sched_setaffinity(0, cpus)
    os.nice(10)  # the load generator goes first: what is measured is the sidecar

    async def run():
        tasks = []
        while True:
            if wanted.is_set() and not tasks:
                for _ in range(count):
                    tasks.append(asyncio.create_task(watch(address, heard)))
                    await asyncio.sleep(0.037)  # people do not open them all at once
            elif not wanted.is_set() and tasks:
                for task in tasks:
                    task.cancel()
                for result in await asyncio.gather(*tasks, return_exceptions=True):
                    if not isinstance(result, asyncio.CancelledError):
                        print("a dashboard failed: %r" % result)
                tasks = []
            await asyncio.sleep(0.05)

    asyncio.run(run())


def threads(pid):
    """Processor time of each thread, and its time ready to run while another had the processor, ns; the first is the control thread."""
    out = {}
    for thread in os.listdir("/proc/%d/task" % pid):
        with open("/proc/%d/task/%s/schedstat" % (pid, thread)) as f:
            out[int(thread)] = tuple(int(word) for word in f.read().split()[:2])
    return out


class Window:
    def __init__(self, processes, pid, address, args, cpus):
        before = threads(pid)
        report = measure.load(processes, os.path.join(BUILD, "bench-load"), cpus,
                              {"connect": address, "path": PATH, "field": "Authorization: Bearer key", "connections": 10, "rate": args.rate, "seconds": args.seconds})
        after = threads(pid)
        used = {thread: time - before.get(thread, (0, 0))[0] for thread, (time, _) in after.items()}
        waited = {thread: wait - before.get(thread, (0, 0))[1] for thread, (_, wait) in after.items()}
        self.requests = report["requests"]
        self.path = (sum(used.values()) - used[pid]) / self.requests / 1000
        self.wait = (sum(waited.values()) - waited[pid]) / self.requests / 1000
        self.whole = sum(used.values()) / self.requests / 1000
        self.control = used[pid] / 1e9 / args.seconds
        self.latency = report["latency_us"]


def difference(name, unit, pairs):
    without = statistics.median(a for a, _ in pairs)
    differences = sorted(b - a for a, b in pairs)
    low, middle, high = statistics.quantiles(differences, n=4)
    print("%-42s %9.2f %9.2f   %+8.2f (%+.2f to %+.2f) %s" % (name, without, statistics.median(b for _, b in pairs), middle, low, high, unit))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name, value in (("dashboards", 20), ("rounds", 10), ("seconds", 5), ("rate", 3000)):
        parser.add_argument("--" + name, type=int, default=value)
    args = parser.parse_args()
    cpus = sorted(os.sched_getaffinity(0))
    mine, others = {cpus[0]}, set(cpus[1:]) or {cpus[0]}
    with tempfile.TemporaryDirectory() as folder, measure.Processes(folder) as processes:
        origin = processes.start("origin", [os.path.join(BUILD, "promptops-origin"), "--listen", "127.0.0.1:0", "--no-auth", "--no-limits"], others, stdout=subprocess.PIPE)
        upstream = processes.listening_line(origin)
        address, admin = ("127.0.0.1:%d" % measure.free_port() for _ in range(2))
        sidecar = processes.start("sidecar", [os.path.join(BUILD, "promptops-sidecar"), "--upstream", "http://" + upstream, "--listen", address, "--admin", admin,
                                              "--set", "workers=1", "--set", "log.access=false", "--set", "cache.default_ttl=1h", "--set", "performance.dashboard_refresh_interval=1s"], mine)
        processes.wait_ready(sidecar, admin, "/health/ready")
        wanted, heard = multiprocessing.Event(), multiprocessing.Value("l", 0)
        people = multiprocessing.Process(target=dashboards, args=(admin, args.dashboards, wanted, heard, others), daemon=True)
        people.start()
        windows = []
        Window(processes, sidecar.pid, address, args, others)  # warms up
        for number in range(args.rounds):
            pair = {}
            for with_them in (False, True) if number % 2 else (True, False):
                (wanted.set if with_them else wanted.clear)()
                time.sleep(1.5)  # they open, or close
                before = heard.value
                pair[with_them] = Window(processes, sidecar.pid, address, args, others)
                updates = heard.value - before
                if with_them and updates < args.dashboards * (args.seconds - 1) * 0.8:
                    print("round %d: the dashboards heard %d updates only" % (number, updates))
                if not with_them and updates:
                    print("round %d: a dashboard was still open" % number)
            windows.append((pair[False], pair[True]))
        people.terminate()
        print("%d dashboards, each second; %d requests a second, from the cache; %d rounds of %d s and %d s" % (args.dashboards, args.rate, args.rounds, args.seconds, args.seconds))
        print("%-42s %9s %9s   %s" % ("", "without", "with", "difference (quartiles)"))
        difference("processor time a request, worker", "µs", [(a.path, b.path) for a, b in windows])
        difference("wait for the processor a request, worker", "µs", [(a.wait, b.wait) for a, b in windows])
        difference("processor time a request, whole process", "µs", [(a.whole, b.whole) for a, b in windows])
        difference("control thread, of one processor", "%", [(100 * a.control, 100 * b.control) for a, b in windows])
        for name in ("p50", "p90", "p99"):
            difference("latency " + name, "µs", [(a.latency[name], b.latency[name]) for a, b in windows])


if __name__ == "__main__":
    main()
