#!/usr/bin/python3
"""Runs the wire tests: run.py [-j N] [-v] [--list] [--full] [NAME...]

NAME is a part of a test's or its file's name. SIDECAR=path tests another binary.
Each test runs in a process of its own, with a time limit, some of them at once.

A few that fail are run once more, each alone: on a busy machine some fail that depend on time. What passes then is named
at the end, as it may as well be a race; it counts as passed. What a sanitizer reported, and a crash, is never run again.
"""
import argparse
import glob
import importlib
import json
import os
import select
import signal
import sys
import tempfile
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.dont_write_bytecode = True

TIME_LIMIT = 60
PROCESSORS = len(os.sched_getaffinity(0))
JOBS = 2 + 3 * PROCESSORS    # they mostly wait
LOADED = 1 + PROCESSORS      # of those that keep the sidecar under load
AGAIN = 6    # so many tests that failed are run again, alone; more are no accident
FINAL = ("sanitizer report", "crashed", "the sidecar ended with")


def find_tests(names):
    found = []
    for path in sorted(glob.glob(os.path.join(HERE, "test_*.py"))):
        module = importlib.import_module(os.path.basename(path)[:-3])
        for name, function in vars(module).items():
            if not name.startswith("test_") or not callable(function) or function.__module__ != module.__name__:
                continue
            full = "%s:%s" % (module.__name__, name)
            if not names or any(n in full for n in names):
                found.append((full, function))
    return found


def in_child(name, function, pipe):
    """Runs one test; its report is one JSON object: cases, error, skip, story."""
    import harness
    test = harness.Test(name)
    report = {"cases": [], "error": None, "skip": None, "story": ""}
    try:
        function(test)
    except harness.Skip as skip:
        report["skip"] = str(skip)
    except Exception:  # pylint: disable=broad-except
        report["error"] = traceback.format_exc(limit=-5) + test.health()
    if report["error"] or any(wrong for _, wrong in test.cases):
        report["story"] = test.story()
    wrong = test.finish()
    if wrong:
        report["error"] = (report["error"] or "") + "at the end:\n" + wrong
        report["story"] = report["story"] or test.story()
    report["cases"] = test.cases
    data = json.dumps(report).encode()
    while data:
        data = data[os.write(pipe, data):]


class Running:
    def __init__(self, name, function):
        self.name, self.function = name, function
        self.limit = getattr(function, "time_limit", TIME_LIMIT) * float(os.environ.get("WIRE_SLOWER", "1"))
        self.started = time.monotonic()
        self.data = b""
        self.pipe, write = os.pipe()
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                os.setpgid(0, 0)
                os.close(self.pipe)
                in_child(name, function, write)
                code = 0
            finally:
                os._exit(code)
        os.close(write)

    def late(self):
        return time.monotonic() - self.started > self.limit

    def read(self):
        """True while there is more to come."""
        data = os.read(self.pipe, 1 << 16)
        self.data += data
        return bool(data)

    def kill(self):
        for pid in (-self.pid, self.pid):
            try:
                os.kill(pid, signal.SIGKILL)
                return
            except ProcessLookupError:
                pass

    def report(self, timed_out):
        os.close(self.pipe)
        _, _, used = os.wait4(self.pid, 0)
        self.took = time.monotonic() - self.started
        self.computed = used.ru_utime + used.ru_stime    # with the sidecars and programs that it has waited for
        if timed_out:
            return {"cases": [], "error": "took more than %d s" % self.limit, "skip": None, "story": ""}
        try:
            return json.loads(self.data)
        except ValueError:
            return {"cases": [], "error": "the test's own process died", "skip": None, "story": ""}


class Totals:
    def __init__(self, verbose):
        self.passed = self.failed = self.skipped = 0
        self.verbose = verbose
        self.failures = []
        self.again = {}    # tests that failed, and may be run again: their cases that did

    def add(self, name, one, report):
        failures = []
        for case, wrong in report["cases"]:
            if wrong:
                failures.append(("%s[%s]" % (name, case), wrong))
            else:
                self.passed += 1
        if report["error"]:
            failures.append((name, report["error"]))
        elif report["skip"]:
            self.skipped += 1
        elif not report["cases"]:
            self.passed += 1
        self.failed += len(failures)
        self.failures += [full for full, _ in failures]
        if failures:
            final = any(word in wrong for _, wrong in failures for word in FINAL)
            self.again[name] = None if final else [full for full, _ in failures]
        for full, wrong in failures:
            print("FAILED %s\n%s" % (full, indent(wrong)))
        if failures and report["story"]:
            print(indent(report["story"]))
        if report["skip"]:
            print("skipped %s: %s" % (name, report["skip"]))
        elif self.verbose and not failures:
            print("ok %s (%d cases, %.2f s, computed %.2f s)" % (name, max(1, len(report["cases"])), one.took, one.computed))
        sys.stdout.flush()


def run_again(tests, totals):
    """The second look at a few failures. Returns the names of the tests that passed."""
    if not totals.again or len(totals.again) > AGAIN or not all(totals.again.values()):
        return []
    good = []
    for name, function in tests:
        cases = totals.again.get(name)
        if not cases:
            continue
        alone = Totals(False)
        run_all([(name, function)], 1, alone)
        if alone.failed:
            continue
        good.append(name)
        totals.failed -= len(cases)
        totals.passed += len(cases)
        totals.failures = [full for full in totals.failures if full not in cases]
    return good


def indent(text):
    return "\n".join("    " + line for line in text.rstrip().splitlines())


def next_of(waiting, running):
    """The first that may run beside those that do; None: none may, or none is left."""
    full = sum(hasattr(one.function, "loaded") for one in running) >= LOADED
    return next((one for one in waiting if not (full and hasattr(one[1], "loaded"))), None)


def run_all(tests, jobs, totals):
    # What takes long is begun first: nothing is left to wait for then, when the rest is done.
    waiting = sorted((x for x in tests if not getattr(x[1], "alone", False)), key=lambda x: -getattr(x[1], "time_limit", 0))
    single = [x for x in tests if getattr(x[1], "alone", False)]
    running = []
    try:
        while waiting or single or running:
            while len(running) < jobs:
                one = next_of(waiting, running)
                if not one:
                    break
                waiting.remove(one)
                running.append(Running(*one))
            if not waiting and not running and single:
                running.append(Running(*single.pop(0)))
            ready, _, _ = select.select([r.pipe for r in running], [], [], 0.5)
            for one in list(running):
                ended = one.pipe in ready and not one.read()
                late = one.late()
                if ended or late:
                    one.kill()
                    running.remove(one)
                    report = one.report(late and not ended)
                    totals.add(one.name, one, report)
    finally:
        for one in running:
            one.kill()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-j", type=int, default=int(os.environ.get("WIRE_JOBS", JOBS)), help="tests at once (%d)" % JOBS)
    parser.add_argument("-v", action="store_true", help="name the tests that pass, too")
    parser.add_argument("--list", action="store_true", help="only list the tests")
    parser.add_argument("--full", action="store_true", help="the long forms of the long tests")
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    if options.full:
        os.environ["WIRE_FULL"] = "1"
    tests = find_tests(options.names)
    if options.list:
        print("\n".join(name for name, _ in tests))
        return 0
    if not tests:
        print("no test has such a name", file=sys.stderr)
        return 2
    import harness
    if not os.access(harness.BINARY, os.X_OK):
        print("there is no %s: run make first, or set SIDECAR" % harness.BINARY, file=sys.stderr)
        return 2
    totals = Totals(options.v)
    with tempfile.TemporaryDirectory(prefix="wire-") as folder:
        os.chmod(folder, 0o755)         # some tests run the sidecar as another user
        tempfile.tempdir = folder       # what a test that is killed leaves behind goes with it
        run_all(tests, options.j, totals)
        good = run_again(tests, totals)
    for name in good:
        print("it failed among others, and passed alone: %s" % name)
    if totals.failures:
        print("\nfailed:\n  " + "\n  ".join(totals.failures))
    skipped = ", %d skipped" % totals.skipped if totals.skipped else ""
    print("%d passed, %d failed%s" % (totals.passed, totals.failed, skipped))
    return 1 if totals.failed else 0


if __name__ == "__main__":
    sys.exit(main())
