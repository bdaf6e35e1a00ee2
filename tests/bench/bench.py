#!/usr/bin/env python3
"""Measures promptops-sidecar beside nginx, HAProxy and programs that do nothing, in one run.

Processor time a request is read from /proc for the subject alone, over a bounded number of requests; the subject has a
processor of its own, and load and origin share another one. Subjects take turns over several rounds, and the medians
count. What was forwarded and what came from a cache is checked with the origin's own counts.

    make bench [ARGS="--quick | --readme | --only hit,forward | --rounds 5 | ..."]
"""

import argparse
import http.client
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import report  # noqa: E402
import undisturbed  # noqa: E402
from measure import BenchError, Processes, cpu_seconds, load, rss_kib  # noqa: E402
from subjects import Forward, Null, Origin, Sidecar, available  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PARTS = ("hit", "forward", "tls", "latency", "undisturbed", "idle", "workers")
REQUESTS = {1024: 100000, 16384: 50000, 262144: 8000}


class Bench:
    def __init__(self, arguments, folder, processes):
        self.arguments, self.folder, self.processes = arguments, folder, processes
        cpus = sorted(os.sched_getaffinity(0))
        if len(cpus) < 2:
            raise BenchError("it needs two processors: one for the subject, one for load and origin")
        self.cpus = cpus
        self.load_cpus, self.subject_cpus = {cpus[0]}, {cpus[1]}
        self.build = os.path.join(ROOT, os.environ.get("BUILD", "build"))
        self.rivals = available(self, arguments.subjects)
        self.plain = Origin(self)
        self.data = {"cost": {}, "latency": {}, "undisturbed": {}, "idle": {}, "workers": {}, "workers_judged": len(cpus) >= 4}

    def say(self, text):
        print("bench: " + text, file=sys.stderr, flush=True)

    def tool(self, name):
        return os.path.join(self.build, name)

    def path(self, name):
        return os.path.join(self.folder, name)

    def certificate(self):
        """A certificate for localhost, made at the first call; its key lies beside it."""
        path = self.path("cert.pem")
        if not os.path.exists(path):
            subprocess.run(
                ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                 "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
                 "-out", path, "-keyout", self.path("key.pem")],
                check=True, stderr=subprocess.DEVNULL,
            )  # fmt: skip
        return path

    def requests(self, size):
        return max(200, int(REQUESTS[size] * self.arguments.scale))

    def sizes(self):
        return [1024, 16384] if self.arguments.quick else [1024, 16384, 262144]

    # --- one measurement ---

    def received(self, origin):
        host, port = origin.control.rsplit(":", 1)
        connection = http.client.HTTPConnection(host, int(port), timeout=10)
        try:
            connection.request("GET", "/__control")
            return json.loads(connection.getresponse().read())["received"]["requests"]
        finally:
            connection.close()

    def run_load(self, subject, path, size, **options):
        options = {"connections": self.arguments.connections, **options}
        return load(
            self.processes,
            self.tool("bench-load"),
            self.load_cpus,
            {"connect": subject.address, "path": path, "bytes": size, **options},
        )

    def measure(self, subject, size):
        """Processor time a request and capacity, after a warm-up; checks where the answers came from."""
        path, count = subject.path(size), self.requests(size)
        self.run_load(subject, path, size, requests=max(100, count // 10))
        before_origin = self.received(subject.origin) if subject.origin else 0
        before = cpu_seconds(subject.process.pid)
        run = self.run_load(subject, path, size, requests=count)
        used = cpu_seconds(subject.process.pid) - before
        if subject.origin:
            share = (self.received(subject.origin) - before_origin) / count
            if (share > 0.01) if subject.cached else (share < 0.99):
                raise BenchError("%s: %.0f %% of the requests reached the origin" % (subject.label, 100 * share))
        return {"us": used * 1e6 / count, "rate": run["rate"], "rss_kib": rss_kib(subject.process.pid)}

    def rounds(self, work, size, subjects, floor):
        """Lets the subjects take turns; the medians."""
        samples = {s: [] for s in subjects}
        for i in range(self.arguments.rounds):
            turn = i % len(subjects)
            for subject in subjects[turn:] + subjects[:turn]:
                try:
                    samples[subject].append(self.measure(subject, size))
                except BenchError as error:
                    self.say("%s, %s: %s" % (work, report.size_text(size), error))
        results = {}
        for subject, taken in samples.items():
            if taken:
                results[subject.name] = {k: statistics.median(t[k] for t in taken) for k in taken[0]}
                results[subject.name]["floor"] = subject is floor
                self.say("%s %s %s: %.2f us" % (work, report.size_text(size), subject.name, results[subject.name]["us"]))
        self.data["cost"][(work, size)] = results

    def started(self, subjects):
        """Those of them that start."""
        good = []
        for subject in subjects:
            try:
                good.append(subject.start())
            except BenchError as error:
                self.say("%s: skipped: %s" % (subject.label, error))
        return good

    def stop(self, subjects):
        for subject in subjects:
            subject.stop()

    # --- the parts ---

    def part_hit(self):
        cached = self.started([rival(self, self.plain, cached=True) for rival in self.rivals])
        for size in self.sizes():
            null = self.started([Null(self, size)])
            self.rounds("cached answer", size, null + cached, null[0] if null else None)
            self.stop(null)
        self.stop(cached)

    def part_forward(self):
        subjects = self.started([Forward(self, self.plain)] + [rival(self, self.plain) for rival in self.rivals])
        for size in self.sizes():
            self.rounds("forwarded answer", size, subjects, next((s for s in subjects if isinstance(s, Forward)), None))
        self.stop(subjects)

    def part_tls(self):
        origin = Origin(self, "origin-tls", tls=True)
        subjects = self.started([rival(self, origin) for rival in self.rivals])
        for size in [1024] if self.arguments.quick else [1024, 16384]:
            if subjects:
                self.rounds("TLS upstream", size, subjects, None)
        self.stop(subjects)
        self.processes.stop(origin.process)

    def latency_of(self, subject, path):
        seconds = max(1, int(4 * min(1, self.arguments.scale)))
        self.run_load(subject, path, 1024, requests=1000)
        runs = []
        for _ in range(self.arguments.rounds):
            runs.append(self.run_load(subject, path, 1024, rate=self.arguments.rate, seconds=seconds)["latency_us"])
        return {q: statistics.median(r[q] for r in runs) for q in ("p50", "p99", "p999")}

    def part_latency(self):
        for work, cached in (("forwarded answer", False), ("cached answer", True)):
            results = {}
            self.plain.label = "direct"
            results["direct"] = self.latency_of(self.plain, "/bytes/1024")
            for subject in self.started([rival(self, self.plain, cached=cached) for rival in self.rivals]):
                try:
                    results[subject.name] = self.latency_of(subject, subject.path(1024))
                except BenchError as error:
                    self.say("latency of %s: %s" % (subject.label, error))
                subject.stop()
            self.data["latency"][(work, self.arguments.rate)] = results

    def part_undisturbed(self):
        if Sidecar in self.rivals:
            self.data["undisturbed"] = undisturbed.measure(self)

    def idle_of(self, subject, count):
        start = rss_kib(subject.process.pid)
        self.run_load(subject, subject.path(1024), 1024, requests=200)
        before = rss_kib(subject.process.pid)
        command = [self.tool("bench-load"), "--connect", subject.address, "--path", subject.path(1024), "--bytes", "1024",
                   "--connections", str(count), "--idle"]  # fmt: skip
        idle = self.processes.start(
            "bench-idle", command, self.load_cpus, stdout=subprocess.PIPE, stdin=subprocess.PIPE
        )
        try:
            line = idle.stdout.readline()
            if not line or json.loads(line)["idle"] != count:
                raise BenchError("idle connections: %s %s" % (line, self.processes.log_of(idle)))
            each = (rss_kib(subject.process.pid) - before) * 1024 / count
        finally:
            self.processes.stop(idle)
        return {"start_kib": start, "connections": count, "bytes_each": each}

    def part_idle(self):
        count = 1000 if self.arguments.quick else self.arguments.idle
        for subject in [rival(self, self.plain, cached=True) for rival in self.rivals]:
            try:
                subject.start()
                self.data["idle"][subject.name] = self.idle_of(subject, count)
                subject.stop()
            except BenchError as error:
                self.say("%s: %s" % (subject.label, error))

    def part_workers(self):
        """Capacity with one and two workers. With fewer than four processors the load takes its share from them."""
        mine, theirs = (self.cpus[2:4], self.cpus[:2]) if len(self.cpus) >= 4 else (self.cpus[:2], self.cpus[:2])
        self.load_cpus, self.subject_cpus = set(theirs), set(mine)
        for rival in self.rivals:
            results = {}
            for workers in (1, 2):
                subject = rival(self, self.plain, cached=True, workers=workers)
                try:
                    subject.start()
                    results[workers] = self.measure(subject, 1024)
                    subject.stop()
                except BenchError as error:
                    self.say("%s: %s" % (subject.label, error))
            self.data["workers"][rival.name] = results
        self.load_cpus, self.subject_cpus = {self.cpus[0]}, {self.cpus[1]}

    def part_soak(self):
        """Memory over many requests."""
        if Sidecar not in self.rivals:
            return
        subject = Sidecar(self, self.plain, cached=True).start()
        self.run_load(subject, subject.path(1024), 1024, requests=min(100000, self.arguments.soak))
        before = rss_kib(subject.process.pid)
        self.run_load(subject, subject.path(1024), 1024, requests=self.arguments.soak)
        grown = rss_kib(subject.process.pid) - before
        self.data["soak"] = {"requests": self.arguments.soak, "grown_kib": grown}
        subject.stop()

    def about(self):
        versions = []
        for command in (["nginx", "-v"], ["haproxy", "-v"]):
            program = shutil.which(command[0]) or shutil.which(command[0], path="/usr/sbin")
            if program:
                shown = subprocess.run([program, command[1]], capture_output=True, text=True)
                versions.append((shown.stdout or shown.stderr).split("\n")[0].strip())
        return (
            "%s, Linux %s, %d processors; subject on one of them, load (%d connections) and origin on another; medians of "
            "%d rounds; %s. Access logs are off everywhere (`log.access: false`, `access_log off`). Forwards are measured "
            "with the cache off." % (
                time.strftime("%Y-%m-%d"), platform.release().split("-")[0], len(self.cpus), self.arguments.connections,
                self.arguments.rounds, "; ".join(versions) or "no other proxy",
            )
        )  # fmt: skip

    def run(self):
        for part in PARTS:
            if part in self.arguments.only:
                getattr(self, "part_" + part)()
        if self.arguments.soak:
            self.part_soak()
        self.data["about"] = self.about()
        self.data["bars"] = report.Bars(self.data).all()


def read_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a run of less than a minute, good for a look only")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, from: " + ",".join(PARTS))
    parser.add_argument("--subjects", default="", help="promptops-sidecar,nginx,haproxy")
    parser.add_argument("--rounds", type=int, help="rounds to take medians of (5; quick: 1)")
    parser.add_argument("--scale", type=float, help="share of the usual number of requests (1; quick: 0.2)")
    parser.add_argument("--connections", type=int, default=20, help="of the load")
    parser.add_argument("--rate", type=int, default=5000, help="of the open loop, requests a second")
    parser.add_argument("--idle", type=int, default=10000, help="idle connections")
    parser.add_argument("--soak", type=int, default=0, help="also: memory over so many requests")
    parser.add_argument("--readme", action="store_true", help="write the tables into README.md, between its markers")
    parser.add_argument("--json", metavar="FILE", help="write the numbers as well")
    arguments = parser.parse_args()
    arguments.only = [part for part in arguments.only.split(",") if part]
    arguments.subjects = [s for s in arguments.subjects.split(",") if s]
    for part in arguments.only:
        if part not in PARTS:
            parser.error("--only: %s is none of %s" % (part, ", ".join(PARTS)))
    for name in arguments.subjects:
        if name not in ("promptops-sidecar", "nginx", "haproxy"):
            parser.error("--subjects: %s is none of promptops-sidecar, nginx, haproxy" % name)
    arguments.rounds = arguments.rounds or (1 if arguments.quick else 5)
    arguments.scale = arguments.scale or (0.2 if arguments.quick else 1)
    return arguments


def write_json(path, data):
    flat = dict(data)
    for name in ("cost", "latency"):
        flat[name] = {"%s/%s" % key: value for key, value in data[name].items()}
    with open(path, "w") as f:
        json.dump(flat, f, indent=1)


def main():
    arguments = read_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = tempfile.mkdtemp(prefix="promptops-bench-")
    try:
        with Processes(folder) as processes:
            bench = Bench(arguments, folder, processes)
            bench.run()
    except BenchError as error:
        print("bench: %s" % error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    text = report.whole(bench.data)
    print(text)
    if arguments.json:
        write_json(arguments.json, bench.data)
    if arguments.readme and not report.write_readme(os.path.join(ROOT, "README.md"), text):
        print("bench: README.md lacks the lines %s and %s" % (report.BEGIN, report.END), file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
