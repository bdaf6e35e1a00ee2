"""Redis: a real redis-server of a test's own, on a unix socket and a free port, and a client for it of a few lines."""
import os
import shutil
import signal
import socket
import subprocess

from .wait import wait_for


class Redis:
    def __init__(self, directory, *more):
        self.directory = os.path.join(directory, "redis-%d" % id(self))
        os.makedirs(self.directory)
        self.socket = os.path.join(self.directory, "s")
        self.more = list(more)
        self.process = None
        self.start()

    @property
    def url(self):
        return "redis+unix://" + self.socket

    def start(self):
        if not shutil.which("redis-server"):
            raise RuntimeError("redis-server is not installed")
        self.process = subprocess.Popen(
            ["redis-server", "--port", "0", "--unixsocket", self.socket, "--save", "", "--appendonly", "no", "--dir", self.directory, *self.more],
            stdout=subprocess.DEVNULL)
        wait_for(self.answers, "redis-server answers")

    def answers(self):
        try:
            return self.call("PING") == b"PONG"
        except (OSError, RuntimeError):     # not there, or still reading its file
            return False

    def kill(self):
        if self.process:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()
            self.process = None

    def on_disk(self, key):
        """Whether its append-only file names the key."""
        for folder, _, names in os.walk(self.directory):
            for name in names:
                if name.endswith(".aof"):
                    with open(os.path.join(folder, name), "rb") as file:
                        if key in file.read():
                            return True
        return False

    def freeze(self):
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)

    def close(self):
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def call(self, *words):
        """One command; bytes, an int, None or a list. An error is raised."""
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(10)
            s.connect(self.socket)
            words = [w if isinstance(w, bytes) else str(w).encode() for w in words]
            s.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words))
            return self.read(s.makefile("rb"))

    def read(self, f):
        line = f.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else f.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return None if rest == b"-1" else [self.read(f) for _ in range(int(rest))]
        raise RuntimeError("redis: %r" % line)

    def entries(self):
        """Names of stored answers."""
        return sorted(k for k in self.call("KEYS", "promptops:*") if not k.endswith((b":purges", b":places")))


class Sentinels:
    """A master and a replica on free ports, and a real Sentinel that watches them."""
    NAME = "prompts"

    def __init__(self, directory, *more):
        self.ports = []
        held = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
        self.ports = [s.getsockname()[1] for s in held]
        for s in held:
            s.close()
        address = ["--bind", "127.0.0.1", "--repl-diskless-sync-delay", "0", *more]
        self.servers = [Redis(directory, *address, "--port", str(self.ports[0])),
                        Redis(directory, *address, "--port", str(self.ports[1]), "--replicaof", "127.0.0.1", str(self.ports[0]))]
        path = os.path.join(directory, "sentinel.conf")
        self.socket = os.path.join(directory, "sentinel.sock")
        with open(path, "w") as out:
            out.write("port %d\nbind 127.0.0.1\nunixsocket %s\ndir %s\nsentinel monitor %s 127.0.0.1 %d 1\nsentinel down-after-milliseconds %s 300\n"
                      "sentinel failover-timeout %s 2000\n" % (self.ports[2], self.socket, directory, self.NAME, self.ports[0], self.NAME, self.NAME))
        self.process = subprocess.Popen(["redis-server", path, "--sentinel"], stdout=subprocess.DEVNULL)
        wait_for(lambda: self.ask("SENTINEL", "REPLICAS", self.NAME), "the Sentinel knows the replica", 30)

    @property
    def url(self):
        return "redis+sentinel://127.0.0.1:%d/%s" % (self.ports[2], self.NAME)

    def ask(self, *words):
        try:
            with socket.socket(socket.AF_UNIX) as s:
                s.settimeout(5)
                s.connect(self.socket)
                s.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w.encode()) for w in words))
                return self.servers[0].read(s.makefile("rb"))
        except (OSError, RuntimeError):
            return None

    def master(self):
        """The server that the Sentinel names now."""
        found = self.ask("SENTINEL", "get-master-addr-by-name", self.NAME)
        return self.servers[self.ports.index(int(found[1]))] if found else None

    def close(self):
        self.process.kill()
        self.process.wait()
        for server in self.servers:
            server.close()
