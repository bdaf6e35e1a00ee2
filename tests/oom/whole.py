#!/usr/bin/env python3
"""The whole sidecar while its allocations fail: it may refuse, it may not crash, hang, leak or stay broken.

    BUILD=build-asan python3 tests/oom/whole.py

Uses BUILD/oom/promptops-sidecar, whose malloc fails on order (tests/oom/inject.c), in front of BUILD/promptops-origin.
"""
import http.client
import json
import mmap
import os
import re
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time

BUILD = os.environ.get("BUILD", "build-asan")
PATIENCE = 30  # seconds; no request may take longer, with memory or without
KEY = "Bearer po_demoDemo0000000000000001"
EVERY = [1, 2, 3, 5, 7, 11, 17, 29, 53]
REQUESTS = 25


class Control:
    """The other side of struct control in inject.c."""
    def __init__(self, path):
        with open(path, "wb") as file:
            file.write(bytes(32))
        self.file = open(path, "r+b")
        self.map = mmap.mmap(self.file.fileno(), 32)

    def get(self, index):
        return struct.unpack_from("q", self.map, 8 * index)[0]

    def set(self, index, value):
        struct.pack_into("q", self.map, 8 * index, value)

    def reset(self):
        for index in range(4):
            self.set(index, 0)


running = []  # processes to end whatever happens


def end_all():
    for process in running:
        if process.poll() is None:
            process.kill()
            process.wait()


def fail(what, log=None):
    print("oom: " + what, file=sys.stderr)
    if log:
        with open(log, encoding="utf-8", errors="replace") as file:
            print(file.read()[-6000:], file=sys.stderr)
    sys.exit(1)


def wait_for(path, pattern, process):
    """The first group of the pattern once the file has it; None when the process ended before."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        ended = process.poll() is not None
        with open(path, encoding="utf-8", errors="replace") as file:
            found = re.search(pattern, file.read())
        if found:
            return found.group(1)
        if ended:
            return None
        time.sleep(0.01)
    fail("nothing like %s within %d s" % (pattern, PATIENCE), path)


class Sidecar:
    def __init__(self, folder, control, upstream):
        self.log = os.path.join(folder, "sidecar.log")
        environment = dict(os.environ, OOM_CONTROL=control, ASAN_OPTIONS="detect_leaks=1:exitcode=99", UBSAN_OPTIONS="print_stacktrace=1")
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [os.path.join(BUILD, "oom/promptops-sidecar"), "--upstream", upstream, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0",
                 "--set", "workers=2", "--set", "drain_idle=0s", "--set", "circuit_breaker.enable_circuit_breaker=false",
                 "--set", "performance.opentelemetry_enabled=true", "--set", "performance.opentelemetry_endpoint=http://127.0.0.1:1", "--set", "performance.export_interval=1s",
                 "--set", "batching.enabled=true", "--set", "batching.window=5ms"],
                stderr=log, stdout=log, env=environment)
        running.append(self.process)
        self.port = wait_for(self.log, r'"event":"listening","address":"127\.0\.0\.1:(\d+)"', self.process)
        self.admin = wait_for(self.log, r'"event":"admin_listening","address":"127\.0\.0\.1:(\d+)"', self.process) if self.port else None

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def stop(self):
        """The exit code after an interrupt; complains when it does not end or a sanitizer does."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            code = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            fail("does not stop", self.log)
        with open(self.log, encoding="utf-8", errors="replace") as file:
            if "Sanitizer" in file.read() or "runtime error" in open(self.log, encoding="utf-8", errors="replace").read():
                fail("a sanitizer complains", self.log)
        if code < 0 or code == 99:
            fail("ended with %d" % code, self.log)
        return code


def ask(port, method, path, body=None):
    """The status, or 0 when the connection was closed on us. Never waits longer than PATIENCE."""
    connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=PATIENCE)
    try:
        connection.request(method, path, body=body, headers={"Authorization": KEY, "Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        return answer.status
    except TimeoutError:
        return -1
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def together(sidecar, turn):
    """Prompts that are asked for at the same time, which may become a batch; and a client's own batch."""
    statuses = []
    ids = ["prompt-%d" % (11 + 8 * turn + i) for i in range(8)]
    threads = [threading.Thread(target=lambda i=i: statuses.append(ask(sidecar.port, "GET", "/v1/client/prompts/" + i))) for i in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    more = json.dumps({"prompt_ids": ids[:4] + ["prompt-%d" % (100 - turn)], "include_versions": False, "include_metadata": True}).encode()
    return statuses + [ask(sidecar.port, "POST", "/v1/client/prompts/batch", more) for _ in range(3)]


def traffic(sidecar, turn):
    """A bit of everything; new keys each turn. The statuses."""
    statuses = []
    for i in range(REQUESTS):
        statuses.append(ask(sidecar.port, "GET", "/v1/client/prompts/prompt-%d?turn=%d" % (i % 10, turn)))
        statuses.append(ask(sidecar.port, "GET", "/v1/client/prompts/prompt-1"))
        if i % 5 == 0:
            statuses.append(ask(sidecar.port, "POST", "/v1/client/unknown", b'{"x": "' + b"y" * 100000 + b'"}'))
            statuses.append(ask(sidecar.port, "GET", "/nothing/here?%d" % turn))
    statuses += together(sidecar, turn)
    for path in ("/metrics", "/api/v1/summary", "/api/v1/config", "/health/ready", "/api/v1/pool"):
        statuses.append(ask(sidecar.admin, "GET", path))
    return statuses


def under_traffic(folder, upstream):
    control = Control(os.path.join(folder, "control"))
    sidecar = Sidecar(folder, os.path.join(folder, "control"), upstream)
    if not sidecar.admin:
        fail("does not start", sidecar.log)
    traffic(sidecar, 0)
    for turn, every in enumerate(EVERY, 1):
        before = control.get(2)
        control.set(0, every)
        statuses = traffic(sidecar, turn)
        control.set(0, 0)
        failed = control.get(2) - before
        if -1 in statuses:
            fail("a request hung with every %d. allocation failing" % every, sidecar.log)
        if sidecar.process.poll() is not None:
            fail("died with every %d. allocation failing" % every, sidecar.log)
        if failed == 0:
            fail("nothing failed with every %d. allocation: this tests nothing" % every)
        bad = sorted({s for s in statuses if s not in (0, 200, 201, 401, 404, 405, 422, 429, 500, 502, 503, 504)})
        if bad:
            fail("odd statuses with every %d. allocation failing: %s" % (every, bad), sidecar.log)
        print("  every %3d. fails: %5d failures, %3d answered well, %3d refused, %3d closed" % (
            every, failed, sum(200 <= s < 500 for s in statuses), sum(s >= 500 for s in statuses), statuses.count(0)))
        after = [ask(sidecar.port, "GET", "/v1/client/prompts/prompt-2?after=%d" % turn), ask(sidecar.admin, "GET", "/health/ready"),
                 ask(sidecar.admin, "GET", "/metrics")]
        if after != [200, 200, 200]:
            fail("still broken after every %d. allocation failed: %s" % (every, after), sidecar.log)
    if sidecar.stop() != 0:
        fail("did not stop cleanly", sidecar.log)


def stops(folder, upstream):
    """An order to stop is not lost because there was no memory when it came: it stops then, or once there is some again."""
    path = os.path.join(folder, "control")
    control = Control(path)
    for number in (signal.SIGINT, signal.SIGTERM):
        control.reset()
        sidecar = Sidecar(folder, path, upstream)
        ask(sidecar.port, "GET", "/v1/client/prompts/prompt-1")
        control.set(0, 1)
        sidecar.process.send_signal(number)
        time.sleep(1)  # without memory; nothing to wait for: it may have ended, or not
        control.set(0, 0)
        try:
            sidecar.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            fail("%s was lost when memory was out: runs on, %d s after memory came back" % (number.name, PATIENCE))
        sidecar.stop()
    print("  stop: INT and TERM without memory are obeyed")


def at_the_start(folder, upstream):
    """Each allocation of the start fails once: the sidecar either starts and serves, or says why not and ends with 1 or 2."""
    path = os.path.join(folder, "control")
    control = Control(path)
    sidecar = Sidecar(folder, path, upstream)
    total = control.get(1)
    sidecar.stop()
    started = refused = 0
    step = max(1, total // 60)
    for nth in list(range(1, 21)) + list(range(21, total + 1, step)):
        control.reset()
        control.set(3, nth)
        sidecar = Sidecar(folder, path, upstream)
        if sidecar.admin and ask(sidecar.admin, "GET", "/health/live") == 200:
            started += 1
            if sidecar.stop() != 0:
                fail("did not stop cleanly when allocation %d of the start had failed" % nth, sidecar.log)
            continue
        code = sidecar.stop()
        with open(sidecar.log, encoding="utf-8", errors="replace") as log:
            said = log.read().strip()
        if code not in (1, 2) or not said:
            fail("ended with %d, saying \"%s\", when allocation %d of the start failed" % (code, said[-300:], nth))
        refused += 1
    print("  start: %d allocations, one failing at a time: started %d times, refused %d times" % (total, started, refused))


def main():
    with tempfile.TemporaryDirectory() as folder:
        log = os.path.join(folder, "origin.log")
        with open(log, "wb") as file:
            origin = subprocess.Popen([os.path.join(BUILD, "promptops-origin"), "--listen", "127.0.0.1:0", "--no-limits"], stdout=file, stderr=file)
        running.append(origin)
        try:
            upstream = "http://" + wait_for(log, r"listening on (\S+)", origin)
            print("  RUN   the whole program")
            if ask(upstream.rsplit(":", 1)[1], "POST", "/__control", b'{"batch": {"whole": true}}') != 200:
                fail("the stand-in takes no settings", log)
            under_traffic(folder, upstream)
            at_the_start(folder, upstream)
            stops(folder, upstream)
        finally:
            end_all()


main()
