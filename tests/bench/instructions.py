#!/usr/bin/env python3
"""Counts what a request costs the worker in instructions and in system calls, exactly and on a busy machine too.

The sidecar (one worker, access log off, no preset) runs under callgrind, then under strace; the load and the origin run
free. Each piece of work is done twice, with few and with many requests; the difference over the requests between them is
a request's, without start and end. Only the worker's thread counts: the one whose count grew most.

    make bench-instructions [ARGS="--only hit,forward --functions 40 --by function|file|line --no-calls"]
"""

import argparse
import collections
import functools
import glob
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from measure import BenchError, Processes, family, free_port, load  # noqa: E402
from subjects import Origin, Sidecar  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
WORK = {"hit": True, "forward": False}  # whether the cache is on


class Counted(Sidecar):
    """The sidecar under a tool that counts."""

    def __init__(self, bench, origin, cached, wrapper):
        super().__init__(bench, origin, cached)
        self.wrapper = wrapper

    def command(self, program):
        return self.wrapper + super().command(program)


class Bench:
    def __init__(self, arguments, folder, processes):
        self.arguments, self.folder, self.processes = arguments, folder, processes
        self.build = os.path.join(ROOT, os.environ.get("BUILD", "build"))
        cpus = os.sched_getaffinity(0)
        self.load_cpus = self.subject_cpus = cpus

    def tool(self, name):
        return os.path.join(self.build, name)

    def path(self, name):
        return os.path.join(self.folder, name)

    def run(self, origin, cached, requests, wrapper):
        """One life of the sidecar, with so many requests in it."""
        subject = Counted(self, origin, cached, wrapper)
        subject.address = "127.0.0.1:%d" % free_port()
        process = self.processes.start(
            subject.label, subject.command(subject.found(self)), self.subject_cpus, stdout=subprocess.DEVNULL
        )
        try:
            self.processes.wait_ready(process, subject.address, subject.path(self.arguments.bytes), 120)
            load(self.processes, self.tool("bench-load"), self.load_cpus, {
                "connect": subject.address, "path": subject.path(self.arguments.bytes), "requests": requests,
                "connections": self.arguments.connections, "bytes": self.arguments.bytes,
            })  # fmt: skip
            os.kill(family(process.pid)[-1], signal.SIGTERM)  # strace keeps signals to itself
            process.wait(120)
        finally:  # what strace was tracing outlives it
            for pid in reversed(family(process.pid)):
                if process.poll() is None:
                    os.kill(pid, signal.SIGKILL)

    def difference(self, origin, cached, wrapper_of, read):
        """What the worker did for one request, as a count of each place."""
        few, many = self.arguments.requests
        threads = []
        for requests in (few, many):
            folder = self.path("%s-%d" % ("hit" if cached else "forward", requests))
            shutil.rmtree(folder, ignore_errors=True)
            os.makedirs(folder)
            self.run(origin, cached, requests, wrapper_of(folder))
            threads.append([read(f) for f in sorted(glob.glob(folder + "/*[-.]*"), key=thread_of)])
        if len(threads[0]) != len(threads[1]):
            raise BenchError("not the same threads in both runs")
        grown = [collections.Counter(b) for b in threads[1]]
        for before, after in zip(threads[0], grown):
            after.subtract(before)
        worker = max(grown, key=lambda c: sum(c.values()))
        return {place: n / (many - few) for place, n in worker.items() if n}


def thread_of(path):
    """Threads in the order in which they began: the number at the end of the file's name."""
    return int(re.search(r"\d+$", path).group())


# --- callgrind's file format, as far as self cost goes ---


class Names:
    """Compressed names: `(3) name` once, then `(3)`."""

    def __init__(self):
        self.known = {}

    def read(self, text):
        number, _, name = text.partition(" ")
        if name:
            self.known[number] = name
        return self.known.get(number, number)


def read_profile(path, by):
    """Instructions of a thread, by function, file or line."""
    files, functions = Names(), Names()
    cost = collections.Counter()
    file = function = "?"
    line, skip = 0, False
    with open(path, errors="replace") as f:
        for text in f:
            text = text.rstrip("\n")
            key, equals, value = text.partition("=")
            if text and text[0] in "0123456789+-*":
                position, _, n = text.partition(" ")
                if position != "*":
                    line = line + int(position) if position[0] in "+-" else int(position)
                if not skip and n:
                    place = {"function": function, "file": file, "line": "%s:%d" % (file, line)}[by]
                    cost[place] += int(n)
                skip = False
            elif not equals:
                continue
            elif key in ("fl", "fi", "fe"):
                file = short(files.read(value))
            elif key in ("cfl", "cfi"):
                files.read(value)
            elif key == "fn":
                function = functions.read(value)
            elif key == "cfn":
                functions.read(value)
            elif key == "calls":
                skip = True  # the next line is what was called, counted where it was spent
    return cost


@functools.lru_cache(maxsize=None)
def short(path):
    """Below the project's root, also when a compiler's cache remembers another place of the same file."""
    parts = os.path.normpath(path).split("/")
    tails = ("/".join(parts[i:]) for i in range(len(parts) - 1))
    return next((tail for tail in tails if tail and os.path.exists(os.path.join(ROOT, tail))), path)


def read_calls(path):
    """System calls of a thread, by name."""
    with open(path, errors="replace") as f:
        return collections.Counter(m.group(1) for m in map(re.compile(r"([a-z_0-9]+)\(").match, f) if m)


def instructions(bench, origin, name):
    def wrapper(folder):
        return [
            "valgrind", "--tool=callgrind", "--quiet", "--separate-threads=yes", "--callgrind-out-file=%s/cost" % folder,
        ]  # fmt: skip

    return bench.difference(origin, WORK[name], wrapper, lambda path: read_profile(path, bench.arguments.by))


def calls(bench, origin, name):
    def wrapper(folder):
        return ["strace", "-ff", "-qq", "-o", folder + "/calls"]

    return bench.difference(origin, WORK[name], wrapper, read_calls)


def show(name, cost, calls_made, rows):
    print("%s: %.0f instructions a request" % (name, sum(cost.values())))
    for place, n in sorted(cost.items(), key=lambda item: -item[1])[:rows]:
        if n >= 0.5:
            print("  %8.1f  %s" % (n, place))
    if calls_made:
        print("  system calls: " + ", ".join(
            "%s %.2f" % (call, n) for call, n in sorted(calls_made.items(), key=lambda item: -item[1]) if n >= 0.005
        ))  # fmt: skip
    sys.stdout.flush()


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="hit,forward", help="parts, with commas between")
    parser.add_argument("--bytes", type=int, default=1024, help="of the body")
    parser.add_argument("--connections", type=int, default=10)
    parser.add_argument("--requests", default="500,4500", help="few and many")
    parser.add_argument("--functions", type=int, default=30, help="rows that are shown")
    parser.add_argument("--by", choices=("function", "file", "line"), default="function")
    parser.add_argument("--no-calls", action="store_true", help="no system calls")
    out = parser.parse_args()
    out.requests = [int(n) for n in out.requests.split(",")]
    out.only = out.only.split(",")
    if len(out.requests) != 2 or out.requests[0] >= out.requests[1] or not set(out.only) <= set(WORK):
        parser.error("--requests FEW,MANY; --only of " + ", ".join(WORK))
    return out


def main():
    options = arguments()
    needed = ["valgrind"] + ([] if options.no_calls else ["strace"])
    missing = [tool for tool in needed if not shutil.which(tool)]
    if missing:
        raise BenchError("not found: %s (apt-get install %s)" % (", ".join(missing), " ".join(missing)))
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, Processes(folder) as processes:
        bench = Bench(options, folder, processes)
        origin = Origin(bench)
        for name in options.only:
            cost = instructions(bench, origin, name)
            show(name, cost, None if options.no_calls else calls(bench, origin, name), options.functions)


if __name__ == "__main__":
    try:
        main()
    except BenchError as error:
        sys.exit("bench: %s" % error)
