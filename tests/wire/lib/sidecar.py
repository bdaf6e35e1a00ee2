"""Sidecar: the program under test, started with a configuration, watched, and stopped.

It listens on ports of the kernel's choice and tells them on standard error, one JSON log
line each: {"event":"listening","address":"127.0.0.1:PORT"} and "admin_listening".
"""
import ctypes
import http.client
import json
import os
import re
import resource
import signal
import subprocess
import threading
import time

from .client import RawClient
from .message import make_request
from .wait import PATIENCE, Failed, Reading, wait_for

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(HERE)))
BINARY = os.path.abspath(os.environ.get("SIDECAR", os.path.join(ROOT, "build", "promptops-sidecar")))
SANITIZER = re.compile(r"(Address|Leak|Thread|UndefinedBehavior|Memory)Sanitizer|runtime error:")
SANITIZER_OPTIONS = "exitcode=86:abort_on_error=0:halt_on_error=1"

# What most tests want: a plain forwarder. A test about caching, retries or the breaker says so.
BASE = {
    "workers": 1,
    "listen.address": "127.0.0.1:0",
    "admin.address": "127.0.0.1:0",
    "log.access": False,
    "cache.enabled": False,
    "retry.max_attempts": 1,
    "circuit_breaker.enable_circuit_breaker": False,
    "concurrency.mode": "off",
    "rate_limit.enable_rate_limit_detection": False,
    "pool.strategy": "lazy",
    "pool.min_size": 0,
    "pool.health_check_interval": 3600,
    "preset": "none",
}
if os.geteuid() != 0:
    BASE["security.core_dumps"] = True  # else /proc/PID is closed to a harness that is not root


def nested(flat):
    """{"a.b": 1} as {"a": {"b": 1}}."""
    tree = {}
    for key, value in flat.items():
        at = tree
        *parents, last = key.split(".")
        for name in parents:
            at = at.setdefault(name, {})
        at[last] = value
    return tree


def to_yaml(tree, indent=0):
    """Block mappings; everything below a list as JSON, which is YAML too."""
    lines = []
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            lines.append("%s%s:" % (" " * indent, key))
            lines.append(to_yaml(value, indent + 2))
        else:
            lines.append("%s%s: %s" % (" " * indent, key, json.dumps(value)))
    return "\n".join(lines)


def die_with_parent():
    """In the child: no sidecar outlives its test."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)


def socket_states(pid):
    """{inode: state} of the TCP sockets in the process's network namespace; 0A is listening."""
    states = {}
    for name in ("tcp", "tcp6"):
        try:
            with open("/proc/%d/net/%s" % (pid, name)) as table:
                for line in table.readlines()[1:]:
                    row = line.split()
                    states[row[9]] = row[3]
        except OSError:
            pass
    return states


def inodes_of(pid, *names):
    found = set()
    for name in names:
        try:
            with open("/proc/%d/net/%s" % (pid, name)) as table:
                for line in table.readlines()[1:]:
                    found.add(line.split()[9 if name.startswith("udp") else 6])
        except OSError:
            pass
    return found


class Sidecar:
    def __init__(self, directory, config=None, args=(), env=None, base=None, wrapper=(), files=None,
                 wait=True, binary=None, stdin=None, preexec=None):
        """config: flat {"a.b": value}, laid over BASE. files: resource limit on descriptors.
        wrapper: words put before the command (ip netns exec ...)."""
        self.directory = directory
        self.config_path = os.path.join(directory, "sidecar.yaml")
        self.settings = dict(BASE if base is None else base)
        self.settings.update(config or {})
        self.log = []              # lines of standard error
        self.out = []              # lines of standard output
        self.address = None
        self.admin_address = None
        self.exit_code = None
        self.expect_exit = 0
        self.leak_check = True
        self.may_be_denied = False  # system calls, by the seccomp filter
        self.files = files
        self.write_config()
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PROMPTOPS_")}
        for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS"):
            environment.setdefault(name, SANITIZER_OPTIONS)
        environment.update(env or {})
        command = list(wrapper) + [binary or BINARY, "--config", self.config_path] + list(args)
        self.preexec = preexec
        self.started = time.monotonic()
        self.process = subprocess.Popen(command, stdin=stdin or subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, env=environment, preexec_fn=self.in_child)
        self.pid = self.process.pid
        self.readers = [threading.Thread(target=self.drain, args=(self.process.stderr, self.log, True), daemon=True),
                        threading.Thread(target=self.drain, args=(self.process.stdout, self.out, False), daemon=True)]
        for thread in self.readers:
            thread.start()
        if wait:
            self.wait_ready()

    def in_child(self):
        die_with_parent()
        if self.files:
            resource.setrlimit(resource.RLIMIT_NOFILE, (self.files, self.files))
        if self.preexec:
            self.preexec()

    def write_config(self, config=None):
        """Writes the configuration file anew (with changes), in one step as an editor would."""
        self.settings.update(config or {})
        with open(self.config_path + ".new", "w") as out:
            out.write(to_yaml(nested(self.settings)) + "\n")
        os.rename(self.config_path + ".new", self.config_path)

    def drain(self, pipe, lines, watch):
        for raw in iter(pipe.readline, b""):
            line = raw.decode("utf-8", "replace").rstrip("\n")
            lines.append(line)
            if watch and not (self.address and self.admin_address):
                self.learn(line)

    def learn(self, line):
        if '"listening"' not in line and '"admin_listening"' not in line:
            return
        try:
            entry = json.loads(line)
        except ValueError:
            return
        if entry.get("event") == "listening":
            self.address = parse_address(entry["address"])
        elif entry.get("event") == "admin_listening":
            self.admin_address = parse_address(entry["address"])

    def learn_from_file(self):
        """With log.file set, the lines are there."""
        path = self.settings.get("log.file", "-")
        if os.path.isfile(path):
            with open(path) as log:
                for line in log:
                    self.learn(line)

    def wait_ready(self):
        def ready():
            self.learn_from_file()
            if self.process.poll() is not None:
                raise Failed("the sidecar ended at once (%d):\n%s" % (self.process.returncode, self.tail()))
            return self.address and self.admin_address
        wait_for(ready, "the sidecar's two listening lines on standard error")
        self.base_sockets = self.sockets()
        self.base_files = self.other_files()

    # Talking to it.

    @property
    def host_port(self):
        return "%s:%d" % self.address

    def client(self, **more):
        return RawClient(self.address, **more)

    def request(self, target="/", method="GET", fields=(), body=None, **more):
        """One request on a connection of its own."""
        with self.client() as client:
            return client.request(target, method, fields, body, **more)

    def raw(self, data, method="GET"):
        """Sends bytes on a connection of their own, reads one response."""
        with self.client() as client:
            client.send(data)
            return client.response(method)

    def admin(self, path, method="GET", body=None, fields=None):
        """(status, fields, text) of a request to the admin port; text parsed when it is JSON."""
        connection = http.client.HTTPConnection(*self.admin_address, timeout=PATIENCE)
        try:
            payload = json.dumps(body) if body is not None else None
            asked = {} if method == "GET" else {"X-Requested-With": "wire"}  # a change must not come from another page
            asked.update(fields or {})
            connection.request(method, path, payload, asked)
            response = connection.getresponse()
            text = response.read().decode()
            if "json" in (response.getheader("Content-Type") or ""):
                text = json.loads(text)
            return response.status, dict(response.getheaders()), text
        finally:
            connection.close()

    def metrics(self):
        """{name{labels}: value} of /metrics."""
        status, _, text = self.admin("/metrics")
        if status != 200:
            raise Failed("/metrics answered %d" % status)
        found = {}
        for line in text.splitlines():
            if line and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                found[name] = float(value)
        return found

    def metric(self, name, **labels):
        """Sum of the samples of this name that have these labels, as a Reading: equal() waits for it."""
        return Reading(lambda: self.sum_of(name, labels))

    def sum_of(self, name, labels):
        total = 0.0
        for sample, value in self.metrics().items():
            if sample.partition("{")[0] == name and all('%s="%s"' % pair in sample for pair in labels.items()):
                total += value
        return total

    # Looking at it.

    def rss_kib(self, field="VmRSS"):
        with open("/proc/%d/status" % self.pid) as status:
            for line in status:
                if line.startswith(field + ":"):
                    return int(line.split()[1])
        return 0

    def links(self):
        folder = "/proc/%d/fd" % self.pid
        found = {}
        for name in os.listdir(folder):
            try:
                found[name] = os.readlink(os.path.join(folder, name))
            except OSError:
                pass
        return found

    def sockets(self):
        """Inodes of the sockets that are neither listening, nor UDP, nor unix pairs of its own."""
        held = {l[8:-1] for l in self.links().values() if l.startswith("socket:[")}
        states = socket_states(self.pid)
        listening = {inode for inode, state in states.items() if state == "0A"}
        return held - listening - inodes_of(self.pid, "udp", "udp6", "unix")

    def connections_to(self, port):
        """Connections of the sidecar to this port that are open or being opened, as the kernel sees them now."""
        held = {l[8:-1] for l in self.links().values() if l.startswith("socket:[")}
        count = 0
        with open("/proc/%d/net/tcp" % self.pid) as table:
            for line in table.readlines()[1:]:
                row = line.split()
                if row[9] in held and int(row[2].rpartition(":")[2], 16) == port and row[3] in ("01", "02"):
                    count += 1
        return count

    def other_files(self):
        return sum(1 for l in self.links().values() if not l.startswith("socket:["))

    def entries(self, event=None):
        """The JSON lines of the log."""
        found = []
        for line in list(self.log) + list(self.out):
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict) and (event is None or entry.get("event") == event):
                found.append(entry)
        return found

    def logged(self, text):
        return any(text in line for line in list(self.log) + list(self.out))

    def tail(self, lines=40):
        return "\n".join(list(self.log)[-lines:])

    # Ending it.

    def alive(self):
        return self.process.poll() is None

    def signal(self, number):
        os.kill(self.pid, number)

    def wait_exit(self, timeout=None):
        try:
            self.exit_code = self.process.wait(PATIENCE if timeout is None else timeout)
        except subprocess.TimeoutExpired:
            raise Failed("the sidecar did not end:\n%s" % self.tail())
        for thread in self.readers:
            thread.join(timeout=2)
        return self.exit_code

    def check_leaks(self):
        """All peers are closed by now: so must its sockets be."""
        try:
            wait_for(lambda: not self.alive() or not (self.sockets() - self.base_sockets),
                     "the sidecar to close its sockets (leaked descriptors)")
        except Failed as failed:
            raise Failed("%s: %s" % (failed, connections_of(self.pid, self.sockets() - self.base_sockets)))
        if self.alive() and self.other_files() > self.base_files + 4:
            raise Failed("leaked descriptors: %s" % sorted(self.links().values()))

    def check_reports(self):
        for line in list(self.log):
            if "denied" in line and "seccomp filter" in line and not self.may_be_denied:
                raise Failed("a system call that is needed is not in the list of proxy/harden.c: %s" % line)
            if SANITIZER.search(line):
                at = list(self.log).index(line)
                raise Failed("sanitizer report:\n%s" % "\n".join(list(self.log)[max(0, at - 3):at + 60]))

    def stop(self):
        """Ends it by INT. Fails when it crashed, leaked descriptors, or a sanitizer spoke."""
        try:
            if self.exit_code is None and self.alive():
                if self.leak_check and hasattr(self, "base_sockets"):
                    self.check_leaks()
                if self.alive():       # it may have been told before, by the test
                    self.signal(signal.SIGINT)
            if self.exit_code is None:
                self.wait_exit()
        except BaseException:
            self.kill()
            self.check_reports()
            raise
        self.check_reports()
        if self.exit_code != self.expect_exit:
            raise Failed("the sidecar ended with %d, not %d:\n%s" % (self.exit_code, self.expect_exit, self.tail()))

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for thread in self.readers:
            thread.join(timeout=2)


def connections_of(pid, sockets):
    """What the kernel says of these: local and remote address in hexadecimal, and the state (01 established, 08 close-wait)."""
    inodes, found = {s[len("socket:["):-1] for s in sockets}, []
    for table in ("tcp", "tcp6"):
        with open("/proc/%d/net/%s" % (pid, table)) as lines:
            found += [" ".join(words[1:5]) for words in (line.split() for line in lines) if len(words) > 9 and words[9] in inodes]
    return found or sorted(sockets)


def parse_address(text):
    """ "127.0.0.1:80" as (host, port); "unix:/path" as the path."""
    if text.startswith("unix:"):
        return text[5:]
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def run_once(args, env=None, timeout=None, binary=None):
    """Runs the program to its end: (exit code, standard output, standard error)."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PROMPTOPS_")}
    environment.update(env or {})
    done = subprocess.run([binary or BINARY] + list(args), stdin=subprocess.DEVNULL, capture_output=True,
                          env=environment, timeout=PATIENCE if timeout is None else timeout, check=False)
    errors = done.stderr.decode("utf-8", "replace")
    if SANITIZER.search(errors):
        raise Failed("sanitizer report:\n%s" % errors)
    return done.returncode, done.stdout.decode("utf-8", "replace"), errors


__all__ = ["BINARY", "BASE", "Sidecar", "make_request", "parse_address", "run_once"]
