#!/usr/bin/python3
"""Every test: run_all.py [--list] [PART...]       (what `make test` runs)

Parts that mostly wait run beside parts that compute, as many as the processors carry; what times are taken in (the wire
tests) goes before what has none (compilers, fuzzers), which is run with a lower priority. Each line of a part is shown
as it comes, behind the part's name; each part's end with its time. The last line is `N passed, N failed, N skipped`:
parts, of which those are skipped that need a failed one. Exits 1 when any failed.

PART...: only these, with the builds that they need. Programs into $BUILD (build), by $MAKE (make). V=1 shows all lines.
"""
import os
import re
import selectors
import signal
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.environ.get("BUILD", "build")
ASAN = BUILD + "-asan"
PROCESSORS = len(os.sched_getaffinity(0))
PYTHON = "/usr/bin/python3"
LIMIT = 1800    # seconds for one part
# What goes well and says so: lines of builds, of Check, and of Node's runner of tests.
QUIET = re.compile(rb"^make(\[\d+\])?: Nothing to be done|^  (CC|LINK|SIM|VITE|NPM) |^Running suite|^100%: Checks|^ *(# Subtest: |ok \d+ - |--- *$|duration_ms: |type: |\.\.\.$|1\.\.\d+$)|^TAP version")


def make(*words, parallel=False):
    return [*os.environ.get("MAKE", "make").split(), "--no-print-directory", *(["-j%d" % PROCESSORS] if parallel else []), *words]


def python(*words, **environment):
    return ["env", *("%s=%s" % pair for pair in environment.items()), PYTHON, *words]


class Part:
    """cores: how many processors it keeps busy in the mean. needs: names of parts that must have passed."""

    def __init__(self, name, command, needs=(), cores=1.0, nice=0):
        self.name, self.command, self.needs, self.cores, self.nice = name, command, needs, cores, nice
        self.state = "waits"      # runs, passed, failed, skipped
        self.process = None
        self.rest = b""           # of a line that is not whole yet

    def start(self):
        environment = dict(os.environ, JOBS=str(PROCESSORS))
        # Whoever called this with -j shares no job server with it: the parts are what runs at the same time.
        flags = [f for f in environment.get("MAKEFLAGS", "").split(" ") if not re.match(r"-j|--jobserver", f)]
        environment["MAKEFLAGS"] = " ".join(flags)
        self.started = time.monotonic()
        self.state = "runs"
        self.process = subprocess.Popen(["nice", "-n", str(self.nice), *self.command], cwd=ROOT, env=environment, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)

    def show(self, data):
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            if os.environ.get("V") == "1" or not QUIET.match(line):
                say("%-*s | %s" % (WIDTH, self.name, line.decode("utf-8", "replace")))

    def end(self):
        """Its output has ended: so has it, or it is made to."""
        if self.rest:
            self.show(b"\n")
        _, status, used = os.wait4(self.process.pid, 0)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        self.state = "failed" if self.process.returncode else "passed"
        say("== %s: %s (%d s, of which it computed %d s)" % (
            self.name, self.state, time.monotonic() - self.started, used.ru_utime + used.ru_stime))

    def kill(self, number=signal.SIGKILL):
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            pass


def wire(*words, build=BUILD):
    return python("tests/wire/run.py", *words, SIDECAR=build + "/promptops-sidecar", BUILD=BUILD)


# In the order in which they start, as far as what they need and the processors allow: what is long or fails fast is first.
PARTS = [
    Part("build", make("all", parallel=True), cores=PROCESSORS),
    Part("wire tests", wire(), ["build"]),
    Part("lint", make("lint"), ["build"], nice=10),
    Part("unit tests", make("unit"), ["build"], nice=10),
    Part("ASan build", make("MODE=asan", "BUILD=" + ASAN, "all", "unit-programs", "oom-programs", parallel=True), ["build"], nice=10),
    Part("ASan unit tests", make("MODE=asan", "BUILD=" + ASAN, "unit"), ["ASan build"], nice=10),
    Part("fuzzers build", make("fuzz-programs", parallel=True), ["build"], nice=10),
    Part("browser", ["env", "BUILD=" + BUILD, "tests/browser/run.sh"], ["build"]),
    Part("fuzzers", make("fuzz-smoke"), ["fuzzers build"], nice=10),
    Part("out of memory", make("oom"), ["ASan build", "ASan unit tests"], nice=5),
    Part("ASan wire tests", wire("smoke", "framing", "response", "test_22_pool", "pooled", build=ASAN), ["ASan build"], cores=0.5),
    Part("stand-in API", python("tests/origin/test_origin.py", BUILD=BUILD), ["build"], cores=0.5),
    Part("real clients", python("tests/clients/run.py", BUILD=BUILD), ["build"], cores=0.5),
    Part("what is shipped", python("tests/deploy/run.py", BUILD=BUILD), ["build"]),
    Part("simulations", make("sim"), ["build"], nice=10),
    Part("simulators", python("tests/sim/test_programs.py", BUILD=BUILD), ["simulations"], nice=10),
    Part("demo", ["env", "BUILD=" + BUILD, "DEMO_SECONDS=1", "sh", "-c", "deploy/demo.sh >/dev/null"], ["build"], cores=0.2),
]
WIDTH = max(len(part.name) for part in PARTS)


def say(line):
    print(line, flush=True)


def chosen(names):
    """The parts of these names and, before them, what they need."""
    by_name = {part.name: part for part in PARTS}
    wanted = set()

    def want(name):
        wanted.add(name)
        for needed in by_name[name].needs:
            want(needed)
    for name in names or by_name:
        if name not in by_name:
            sys.exit("run_all: there is no part %r; there are: %s" % (name, ", ".join(by_name)))
        want(name)
    return [part for part in PARTS if part.name in wanted]


class Schedule:
    def __init__(self, parts):
        self.parts = parts
        self.by_name = {part.name: part for part in parts}
        self.selector = selectors.DefaultSelector()

    def running(self):
        return [part for part in self.parts if part.state == "runs"]

    def start_what_can(self):
        for part in self.parts:
            if part.state != "waits":
                continue
            states = {self.by_name[name].state for name in part.needs}
            if states & {"failed", "skipped"}:
                part.state = "skipped"
                say("== %s: skipped, it needs what failed" % part.name)
            elif states <= {"passed"} and self.has_room(part):
                part.start()
                self.selector.register(part.process.stdout, selectors.EVENT_READ, part)

    def has_room(self, part):
        busy = sum(other.cores for other in self.running())
        return not busy or busy + part.cores <= PROCESSORS

    def run(self):
        self.start_what_can()
        while self.running():
            for key, _ in self.selector.select(1):
                part, data = key.data, os.read(key.fd, 1 << 16)
                if data:
                    part.show(data)
                    continue
                self.selector.unregister(part.process.stdout)
                part.end()
                self.start_what_can()
            for part in self.running():
                if time.monotonic() - part.started > LIMIT:
                    part.show(b"\ntook more than %d s\n" % LIMIT)
                    part.kill()

    def stop(self):
        for part in self.running():
            part.kill(signal.SIGINT)     # so that they clear away what they started
        end = time.monotonic() + 5
        for part in self.running():
            try:
                part.process.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                pass
            part.kill()


def main(names):
    if names == ["--list"]:
        print("\n".join(part.name for part in PARTS))
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    schedule = Schedule(chosen(names))
    started = time.monotonic()
    try:
        schedule.run()
    except KeyboardInterrupt:
        schedule.stop()
        say("interrupted")
        return 130
    count = {state: [part.name for part in schedule.parts if part.state == state] for state in ("passed", "failed", "skipped")}
    say("== all of it: %d s" % (time.monotonic() - started))
    if count["failed"]:
        say("failed: %s" % ", ".join(count["failed"]))
    say("%d passed, %d failed, %d skipped" % (len(count["passed"]), len(count["failed"]), len(count["skipped"])))
    return 1 if count["failed"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
