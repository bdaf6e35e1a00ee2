"""Whether those who look are felt on the data path: a scrape, an export of everything, a collector that hangs.

One sidecar, with a day of fifty operations in its history, under an open loop at a fixed rate. Windows alternate: quiet, disturbed,
quiet, disturbed otherwise, ... Each disturbed window is set against the quiet ones on both sides of it, and the medians of these
ratios over the rounds count. How far quiet windows are apart from each other is measured in the same way, so that what the machine itself does to
the p99 can be told from what is planted.
"""

import http.client
import socket
import statistics
import subprocess
import threading
import time

from measure import BenchError, free_port
from subjects import Sidecar

SCRAPE_EVERY = 1.0  # Prometheus' usual 15 s, made denser
KINDS = ("nothing", "a scrape a second", "exports of everything", "a collector that hangs")


class Collector:
    """Takes OTLP by HTTP, and answers each call with 200 at once; or, while it hangs, with nothing."""

    def __init__(self):
        self.hangs = False
        self.calls = self.hung = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        with connection, connection.makefile("rb") as read:
            while True:
                try:
                    length, line = 0, read.readline()
                    if not line:
                        return
                    while (line := read.readline()) not in (b"\r\n", b""):
                        if line.lower().startswith(b"content-length:"):
                            length = int(line.split(b":")[1])
                    read.read(length)
                    self.calls += 1
                    if self.hangs:
                        self.hung += 1
                        while self.hangs:
                            time.sleep(0.05)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n")
                except OSError:
                    return


class Watched(Sidecar):
    """The sidecar with a full history, telling a collector of our own."""

    def __init__(self, bench, collector, history):
        super().__init__(bench, bench.plain, cached=True)
        self.label += "-watched"
        self.collector, self.history, self.admin_port = collector, history, free_port()

    def command(self, program):
        command = super().command(program)
        with open(command[2], "a") as f:
            f.write(
                "performance: {history_file: %s, sample_rate: 0.1, opentelemetry_enabled: true, opentelemetry_protocol: http/protobuf, "
                "opentelemetry_endpoint: 'http://127.0.0.1:%d', export_interval: 1s}\n" % (self.history, self.collector.port)
            )
        return command + ["--set", "admin.address=127.0.0.1:%d" % self.admin_port]


class Looking:
    """Asks the admin port again and again while `with` lasts; counts answers and bytes."""

    def __init__(self, port, path, accept, every):
        self.port, self.path, self.accept, self.every = port, path, accept, every
        self.answers = self.bytes = 0
        self.over = threading.Event()
        self.failure = None

    def __enter__(self):
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()

    def run(self):
        while not self.over.is_set():
            began = time.monotonic()
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
                connection.request("GET", self.path, headers={"Accept": self.accept})
                answer = connection.getresponse()
                if answer.status != 200:
                    raise BenchError("%s: %d" % (self.path, answer.status))
                while piece := answer.read1(65536):
                    self.bytes += len(piece)
                    if self.over.is_set():
                        return
                self.answers += 1
            except (OSError, http.client.HTTPException, BenchError) as error:
                self.failure = error
                return
            finally:
                connection.close()
            self.over.wait(max(0, self.every - (time.monotonic() - began)))


def window(bench, subject, collector, kind):
    """The p50 and p99 of one window."""
    options = {"rate": min(bench.arguments.rate, 2000), "seconds": 2}
    measure = lambda: bench.run_load(subject, subject.path(1024), 1024, **options)["latency_us"]  # noqa: E731
    if kind == "a collector that hangs":
        collector.hangs, before = True, collector.hung
        try:
            run = measure()
        finally:
            collector.hangs = False
        if collector.hung == before:
            raise BenchError("the collector was not called while it hung")
        return run
    looks = {
        "a scrape a second": ("/metrics", "application/openmetrics-text", SCRAPE_EVERY),
        "exports of everything": ("/api/v1/export?format=json", "application/json", 0),
    }.get(kind)
    if not looks:
        return measure()
    with Looking(subject.admin_port, *looks) as looking:
        run = measure()
    if looking.failure or not looking.bytes:
        raise BenchError("%s: %s" % (kind, looking.failure or "nothing was read"))
    return run


def measure(bench):
    """{kind: {p50, p99, ratio of the p99 to the quiet windows beside it, rounds}}"""
    history = bench.path("history")
    subprocess.run([bench.tool("bench-history"), history], check=True, stdout=subprocess.DEVNULL)
    collector = Collector()
    subject = Watched(bench, collector, history).start()
    taken = {kind: [] for kind in KINDS}
    bench.run_load(subject, subject.path(1024), 1024, requests=2000)
    before = window(bench, subject, collector, None)
    for _ in range(max(2, 2 * bench.arguments.rounds)):
        for kind in KINDS:
            run = window(bench, subject, collector, kind)
            after = window(bench, subject, collector, None)
            quiet = (before["p99"] + after["p99"]) / 2
            taken[kind].append((run["p50"], run["p99"], run["p99"] / quiet if quiet else 1))
            before = after
    subject.stop()
    collector.listener.close()
    return {
        kind: dict(zip(("p50", "p99", "ratio"), (statistics.median(column) for column in zip(*rows))), rounds=len(rows))
        for kind, rows in taken.items()
    }
