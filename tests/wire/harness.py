"""What a wire test is written with.

    from harness import *

    def test_9112_9_3_keep_alive(t):
        origin = t.origin()
        sidecar = t.sidecar(origin)
        with sidecar.client() as client:
            equal(client.request("/one").status, 200, "status")

A test is a function test_*(t) in a test_*.py. Rows of a table are cases, each counted:

        for name, line in TABLE:
            with t.case(name):
                ...

At its end everything is closed, and the test fails when the sidecar crashed, leaked a
descriptor, printed a sanitizer report or did not stop cleanly, or when an origin's script failed.
"""
import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import traceback

from lib.client import RawClient, broken, reset, send_pieces
from lib.message import (BadMessage, Gone, Incomplete, Message, Reader, Request, Response, Slow, chunked, make_request,
                         make_response, read_body, read_chunk, read_head, read_request, read_response)
from lib.origin import OriginConnection, ScriptedOrigin
from lib.sidecar import BASE, BINARY, ROOT, Sidecar, nested, parse_address, run_once, to_yaml
from lib.wait import PATIENCE, Failed, Reading, Skip, check, equal, held_up, near, settles, wait_for

FULL = bool(os.environ.get("WIRE_FULL"))  # the long forms of the long tests


def sanitized():
    """Is the binary built with a sanitizer? Its memory says nothing then."""
    with open(BINARY, "rb") as binary:
        data = binary.read()
    return b"__asan_" in data or b"__tsan_" in data


def slow(seconds):
    """Gives a test more time than the runner's default."""
    def mark(function):
        function.time_limit = seconds
        return function
    return mark


def in_new_namespace(*kinds):
    """Takes this test's process, and all that it starts, into Linux namespaces of its own: "net", "mnt".
    Must come before the first thread. Skips the test where that is not permitted."""
    flags = {"net": 0x40000000, "mnt": 0x00020000}
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(sum(flags[kind] for kind in kinds)) != 0:
        raise Skip("no namespace (%s) is permitted here: %s" % (", ".join(kinds), os.strerror(ctypes.get_errno())))
    if "mnt" in kinds:
        command_or_skip("mount", "--make-rprivate", "/")
    if "net" in kinds:
        command_or_skip("ip", "link", "set", "lo", "up")


def command_or_skip(*words):
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=PATIENCE, check=False)
    except FileNotFoundError:
        raise Skip("there is no %s here" % words[0])
    if done.returncode != 0:
        raise Skip("`%s` is not permitted here: %s" % (" ".join(words), done.stdout.decode("utf-8", "replace").strip()[-200:]))
    return done.stdout.decode("utf-8", "replace")


def loaded(function):
    """Marks a test that keeps the sidecar under load all the while, and measures: only some of these run at once."""
    function.loaded = True
    return slow(150)(function)


def alone(function):
    """Runs a test with no other beside it: it measures time or memory."""
    function.alone = True
    return function


class Test:
    """The `t` of a test: makes its peers and clears them away."""

    def __init__(self, name):
        self.name = name
        self.cases = []       # (name, None or what went wrong)
        self.origins = []
        self.sidecars = []
        self.clients = []
        self.cleanups = []
        self.made = 0
        self.directory = tempfile.mkdtemp(prefix="wire-")
        os.chmod(self.directory, 0o755)

    def origin(self, script=None, **more):
        origin = ScriptedOrigin(script, **more)
        self.origins.append(origin)
        return origin

    def sidecar(self, upstream=None, config=None, kind=Sidecar, **more):
        """upstream: a ScriptedOrigin, a URL, or None (then config says where). kind: a class made from Sidecar."""
        settings = {}
        if upstream is not None:
            settings["upstream.url"] = upstream if isinstance(upstream, str) else upstream.url
        settings.update(config or {})
        directory = os.path.join(self.directory, "sidecar-%d" % self.made)
        self.made += 1
        os.mkdir(directory)
        sidecar = kind(directory, settings, wait=False, **more)
        self.sidecars.append(sidecar)
        sidecar.wait_ready()
        return sidecar

    def client(self, sidecar, **more):
        client = sidecar.client(**more)
        self.clients.append(client)
        return client

    def thread(self, function, *args):
        """Runs function beside the test; .result() waits for it and gives its value or raises its error."""
        return Beside(function, args)

    @contextlib.contextmanager
    def case(self, name):
        try:
            yield
            self.cases.append((str(name), None))
        except Skip:
            raise
        except Exception:  # pylint: disable=broad-except
            self.cases.append((str(name), traceback.format_exc(limit=-4) + self.health()))

    def health(self):
        dead = [s for s in self.sidecars if not s.alive() and s.exit_code is None]
        return "".join("the sidecar has ended with %s\n%s\n" % (s.process.returncode, s.tail()) for s in dead)

    def at_end(self, function, *args):
        self.cleanups.append((function, args))

    def finish(self):
        """Closes clients, then origins, then the sidecars. Gives the first thing that was wrong, or None."""
        wrong = []

        def attempt(function, *args):
            try:
                function(*args)
            except Exception:  # pylint: disable=broad-except
                wrong.append(traceback.format_exc(limit=-3))
        for client in self.clients:
            attempt(client.close)
        for origin in self.origins:
            attempt(origin.stop)
        for sidecar in self.sidecars:
            attempt(sidecar.stop)
        for function, args in reversed(self.cleanups):
            attempt(function, *args)
        shutil.rmtree(self.directory, ignore_errors=True)
        return "\n".join(wrong) or None

    def story(self):
        """What the peers saw, for a failure's report."""
        lines = []
        for number, sidecar in enumerate(self.sidecars):
            if sidecar.log:
                lines.append("-- sidecar %d said:\n%s" % (number, sidecar.tail(25)))
        for number, origin in enumerate(self.origins):
            lines.append("-- origin %d: %d connections, %d requests" % (
                number, len(origin.connections), len(origin.requests)))
            for request in origin.requests[-5:]:
                lines.append("   on %s: %r" % (request.connection, request))
        return "\n".join(lines)


class Beside:
    def __init__(self, function, args):
        self.value = None
        self.error = None
        self.thread = threading.Thread(target=self.run, args=(function, args), daemon=True)
        self.thread.start()

    def run(self, function, args):
        try:
            self.value = function(*args)
        except BaseException as error:  # pylint: disable=broad-except
            self.error = error

    def done(self):
        return not self.thread.is_alive()

    def result(self, timeout=None):
        self.thread.join(PATIENCE * 2 if timeout is None else timeout)
        if self.thread.is_alive():
            raise Failed("a thread of the test did not end")
        if self.error:
            raise self.error
        return self.value


def made_up(response, status):
    """Expects an answer that the sidecar made itself: Proxy-Status, and the API's own error body."""
    import json
    equal(response.status, status, "status")
    proxy_status = response.get("Proxy-Status", "")
    check(proxy_status.startswith("promptops-sidecar"), "Proxy-Status: %r" % proxy_status)
    if response.body:
        error = json.loads(response.body)
        equal(error.get("success"), False, "body's success")
        equal(error.get("status_code"), status, "body's status_code")
        for key in ("error", "timestamp", "details"):
            check(key in error, "no %s in the error body %r" % (key, error))
    return response
