"""What supervisors do with the process: notifications, sockets that are handed over, an upgrade under load, --health,
and what the process has given up."""
import http.client
import os
import random
import signal
import socket
import ssl
import sys
import threading
import time

from harness import *
from lib.redis import Redis
from test_43_tls import Authority
from test_64_otel import collector

# Opens listening sockets, hands them over as systemd does, and becomes the program: FD by name in LISTEN_FDNAMES.
ACTIVATE = """
import os, socket, sys
names, ports = sys.argv[1], sys.argv[2].split(",")
for number, port in enumerate(ports):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("127.0.0.1", int(port)))
    s.listen(64)
    os.dup2(s.fileno(), 100 + number)
    s.close()
for number in range(len(ports)):
    os.dup2(100 + number, 3 + number)
    os.set_inheritable(3 + number, True)
os.closerange(3 + len(ports), 200)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(ports)))
if names:
    os.environ["LISTEN_FDNAMES"] = names
os.execv(sys.argv[3], sys.argv[3:])
"""


def activated(names, *ports):
    return [sys.executable, "-c", ACTIVATE, names, ",".join(map(str, ports))]


def free_ports(count):
    """Below those that the kernel gives away by itself: none is taken by chance before it is used."""
    held = []
    while len(held) < count:
        try:
            held.append(socket.create_server(("127.0.0.1", random.randrange(12000, 32000))))
        except OSError:
            continue
    ports = [s.getsockname()[1] for s in held]
    for s in held:
        s.close()
    return ports


class Supervisor:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, t, abstract=False):
        self.name = "@wire-%d" % os.getpid() if abstract else os.path.join(t.directory, "notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + self.name[1:] if abstract else self.name)
        self.socket.settimeout(PATIENCE)
        t.at_end(self.socket.close)

    def hears(self, word):
        while True:
            text = self.socket.recv(4096).decode()
            if word in text.split("\n"):
                return text


def test_the_supervisor_is_told(t):
    for abstract in (False, True):
        with t.case("abstract" if abstract else "path"):
            supervisor = Supervisor(t, abstract)
            sidecar = t.sidecar(t.origin(), env={"NOTIFY_SOCKET": supervisor.name})
            check("MAINPID=%d" % sidecar.pid in supervisor.hears("READY=1"), "no MAINPID beside READY=1")
            equal(sidecar.request("/").status, 200, "status once READY=1 was said")
            sidecar.signal(signal.SIGHUP)
            check("MONOTONIC_USEC=" in supervisor.hears("RELOADING=1"), "no MONOTONIC_USEC beside RELOADING=1")
            supervisor.hears("READY=1")
            sidecar.signal(signal.SIGINT)
            supervisor.hears("STOPPING=1")
            equal(sidecar.wait_exit(), 0, "exit code")


def test_the_watchdog_is_fed(t):
    supervisor = Supervisor(t)
    t.sidecar(t.origin(), env={"NOTIFY_SOCKET": supervisor.name, "WATCHDOG_USEC": "2000000"})
    supervisor.hears("WATCHDOG=1")
    supervisor.hears("WATCHDOG=1")


def test_sockets_of_a_supervisor_are_taken(t):
    for names, workers in (("", 1), ("listen:admin", 2), ("admin:listen", 2)):
        with t.case("%s, %d workers" % (names or "no names", workers)):
            ports = free_ports(2)
            sidecar = t.sidecar(t.origin(), {"workers": workers, "listen.address": "127.0.0.1:1", "admin.address": "127.0.0.1:2"},
                                wrapper=activated(names, *ports))
            listen, admin = reversed(ports) if names.startswith("admin") else ports
            equal(sidecar.address, ("127.0.0.1", listen), "where it listens")
            for _ in range(8):
                equal(sidecar.request("/").status, 200, "status")
            sidecar.admin_address = ("127.0.0.1", admin)
            equal(sidecar.admin("/health/ready")[0], 200, "ready")


def test_more_sockets_than_workers_are_all_served(t):
    ports = free_ports(4)
    sidecar = t.sidecar(t.origin(), {"workers": 2}, wrapper=activated("a:b:c:admin", *ports))
    for port in ports[:3]:
        with RawClient(("127.0.0.1", port)) as client:
            equal(client.request("/").status, 200, "status on port %d" % port)
    check(sidecar.alive(), "it ended")


# As ACTIVATE, but the sockets are those of the test, which keeps them: they outlive the program.
HANDED = """
import os, socket, sys
door = socket.socket(socket.AF_UNIX)
door.connect(sys.argv[1])
fds = socket.recv_fds(door, 1, 2)[1]
for number, fd in enumerate(fds):
    os.dup2(fd, 100 + number)
for number in range(len(fds)):
    os.dup2(100 + number, 3 + number)
    os.set_inheritable(3 + number, True)
os.closerange(5, 200)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="2", LISTEN_FDNAMES="listen:admin")
os.execv(sys.argv[2], sys.argv[2:])
"""


def keeper_of_sockets(t):
    """Two listening sockets, given to each who connects to the path: (that path, the sockets)."""
    kept = [socket.create_server(("127.0.0.1", 0), backlog=256) for _ in range(2)]
    path = os.path.join(t.directory, "door")
    door = socket.socket(socket.AF_UNIX)
    door.bind(path)
    door.listen(4)

    def give():
        while True:
            try:
                peer, _ = door.accept()
            except OSError:
                return
            with peer:
                socket.send_fds(peer, [b"x"], [s.fileno() for s in kept])
    threading.Thread(target=give, daemon=True).start()

    def close():
        door.shutdown(socket.SHUT_RDWR)
        for s in kept + [door]:
            s.close()
    t.at_end(close)
    return path, kept


def test_a_restart_by_the_supervisor_loses_no_request(t):
    """It is told to end and started again, on sockets that stay open: who keeps a connection and who comes anew are all served, and
    it does not take drain_timeout, though somebody always asks."""
    origin, stop = t.origin(), threading.Event()
    path, kept = keeper_of_sockets(t)
    address, served = kept[0].getsockname(), [0, 0]

    def start():
        return t.sidecar(origin, {"workers": 2, "drain_timeout": "60s"}, wrapper=[sys.executable, "-c", HANDED, path])

    def keeps():
        client = None
        while not stop.is_set():
            client = client or RawClient(address)
            response = client.request("/kept")
            equal(response.status, 200, "status")
            served[0] += 1
            if "close" in response.members("Connection"):
                client.close()
                client = None
        if client:
            client.close()

    def comes_anew():
        while not stop.is_set():
            with RawClient(address) as client:
                equal(client.request("/new").status, 200, "status")
            served[1] += 1
    sidecar = start()
    equal(sidecar.address, address, "where it listens")
    threads = [t.thread(keeps) for _ in range(3)] + [t.thread(comes_anew) for _ in range(3)]
    for _ in range(3):
        counts = list(served)
        wait_for(lambda: served[0] > counts[0] + 20 and served[1] > counts[1] + 20, "requests")
        sidecar.signal(signal.SIGTERM)
        equal(sidecar.wait_exit(), 0, "exit code")
        sidecar = start()
    counts = list(served)
    wait_for(lambda: served[0] > counts[0] + 20 and served[1] > counts[1] + 20, "requests through the last one")
    stop.set()
    for thread in threads:
        thread.result()


def test_who_keeps_still_does_not_hold_up_a_restart(t):
    """A connection that is kept open and not used ends after drain_idle: others wait for the next process."""
    path, kept = keeper_of_sockets(t)
    sidecar = t.sidecar(t.origin(), {"drain_timeout": "60s", "drain_idle": "100ms"}, wrapper=[sys.executable, "-c", HANDED, path])
    with RawClient(kept[0].getsockname()) as client:
        equal(client.request("/").status, 200, "status")
        sidecar.signal(signal.SIGTERM)
        equal(sidecar.wait_exit(), 0, "exit code")
        check(client.closed(), "the connection is still open")


def test_a_descriptor_that_is_no_socket_is_refused(t):
    environment = {"LISTEN_FDS": "1"}
    code, _, errors = run_once(["-c", 'LISTEN_PID=$$ exec "$@" 3</dev/null', "sh", BINARY, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0",
                                "--upstream", "http://127.0.0.1:1"], env=environment, binary="/bin/sh")
    equal(code, 1, "exit code")
    check("LISTEN_FDS: descriptor 3 is not a listening stream socket" in errors, errors)


def test_others_sockets_are_left_alone(t):
    """LISTEN_PID names somebody else: the variables were inherited by mistake."""
    sidecar = t.sidecar(t.origin(), env={"LISTEN_FDS": "1", "LISTEN_PID": "1"})
    equal(sidecar.request("/").status, 200, "status")


# ---- an upgrade ----------------------------------------------------------------------------------------------


def handed_over(t, origin, workers=2, **more):
    """A sidecar whose sockets the next one takes over; both have the same addresses in their configuration."""
    listen, admin = more.pop("ports")
    return t.sidecar(origin, {"workers": workers, "listen.address": "127.0.0.1:%d" % listen, "admin.address": "127.0.0.1:%d" % admin,
                              "listen.handover": os.path.join(t.directory, "handover"), "drain_timeout": "20s"}, **more)


@slow(60)
def test_an_upgrade_under_load_loses_no_request(t):
    """Five times a next process takes over, while some clients keep connections and others make a new one each time."""
    origin, ports, stop = t.origin(), free_ports(2), threading.Event()
    served = [0, 0]

    def keeps():
        client = None
        while not stop.is_set():
            client = client or RawClient(("127.0.0.1", ports[0]))
            response = client.request("/kept")
            equal(response.status, 200, "status")
            served[0] += 1
            if "close" in response.members("Connection"):
                client.close()
                client = None
        if client:
            client.close()

    def comes_anew():
        while not stop.is_set():
            with RawClient(("127.0.0.1", ports[0])) as client:
                equal(client.request("/new").status, 200, "status")
            served[1] += 1
    sidecar = handed_over(t, origin, ports=ports)
    threads = [t.thread(keeps) for _ in range(3)] + [t.thread(comes_anew) for _ in range(3)]
    for workers in (2, 1, 4, 2, 2):
        before, counts = sidecar, list(served)
        sidecar = handed_over(t, origin, workers, ports=ports)
        equal(before.wait_exit(), 0, "exit code of the one before")
        wait_for(lambda: served[0] > counts[0] + 20 and served[1] > counts[1] + 20, "requests through the next process")
        equal(sidecar.admin("/health/ready")[0], 200, "the next one's readiness")
    stop.set()
    for thread in threads:
        thread.result()


def test_who_keeps_a_connection_is_served_by_the_one_before(t):
    origin, ports = t.origin(), free_ports(2)
    old = handed_over(t, origin, ports=ports)
    kept = t.client(old)
    kept.request("/")
    new = handed_over(t, origin, ports=ports)
    wait_for(lambda: old.logged("the next process serves"), "the old one to leave")
    time.sleep(0.3)                     # the client's pace: it stands still for a while
    check(old.alive(), "it ended with a client's connection open")
    response = kept.request("/after")
    equal(response.status, 200, "status on the kept connection")
    check("close" in response.members("Connection"), "the client is not told to come anew")
    equal(old.wait_exit(), 0, "exit code")
    equal(new.request("/").status, 200, "status of the next one")


def test_a_next_process_that_fails_takes_nothing_along(t):
    origin, ports = t.origin(), free_ports(2)
    old = handed_over(t, origin, ports=ports)
    bad = ["--config", old.config_path, "--set", "log.level=error", "--set", "upstream.tls.ca_file=/dev/null", "--upstream", "https://localhost:1"]
    code, _, errors = run_once(bad)
    check(code != 0, "it started: %s" % errors)
    for _ in range(10):
        equal(old.request("/").status, 200, "status of the old one")
    equal(old.admin("/health/ready")[0], 200, "its readiness")


def test_sockets_go_only_to_one_who_listens_there(t):
    origin, ports = t.origin(), free_ports(2)
    old = handed_over(t, origin, ports=ports)
    other = t.sidecar(origin, {"listen.handover": os.path.join(t.directory, "handover")})
    check(other.logged("it listens at 127.0.0.1:%d" % ports[0]), "it does not say why nothing was handed over")
    equal(other.request("/").status, 200, "status of the other")
    equal(old.request("/").status, 200, "status of the old one")


# ---- --health --------------------------------------------------------------------------------------------------


def test_health_by_the_binary_itself(t):
    sidecar = t.sidecar(t.origin(), {"drain_idle": "20s"})
    admin = "%s:%d" % sidecar.admin_address
    with t.case("ready"):
        code, out, errors = run_once(["--health", "--admin", admin])
        equal((code, errors), (0, ""), "exit code and errors")
        check('"ready":true' in out, out)
    with t.case("a URL"):
        equal(run_once(["--health", "http://%s/health/live" % admin])[0], 0, "exit code")
        equal(run_once(["--health=http://%s" % admin])[0], 0, "exit code")
        equal(run_once(["--health", "http://%s/no/such/path" % admin])[0], 1, "exit code")
    with t.case("by the configuration, TLS"):
        equal(run_once(["--health", "ftp://x"])[0], 2, "exit code")
    with t.case("draining"):
        sidecar.signal(signal.SIGTERM)
        wait_for(lambda: run_once(["--health", "--admin", admin])[0] == 1, "readiness to fail")
        sidecar.signal(signal.SIGINT)
        sidecar.wait_exit()
    with t.case("nobody there"):
        code, _, errors = run_once(["--health", "--admin", admin])
        equal(code, 1, "exit code")
        check("cannot connect" in errors, errors)


def test_health_gives_up(t):
    """Somebody accepts and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        code, _, errors = run_once(["--health", "http://127.0.0.1:%d" % silent.getsockname()[1]])
        equal(code, 1, "exit code")
        near(time.monotonic() - started, 2.5, 8, "seconds")
        check("no answer within three seconds" in errors, errors)


# ---- what was given up ------------------------------------------------------------------------------------------


def status_of(sidecar, field):
    with open("/proc/%d/status" % sidecar.pid) as status:
        return next(line.split()[1] for line in status if line.startswith(field + ":"))


def dumpable(sidecar):
    """Files of a process that may not be dumped belong to root, whoever runs it."""
    with open("/proc/%d/limits" % sidecar.pid) as limits:
        return next(line for line in limits if line.startswith("Max core file size")).split()[4] != "0"


def test_what_the_process_gives_up(t):
    sidecar = t.sidecar(t.origin(), {"security.core_dumps": False})
    equal(status_of(sidecar, "NoNewPrivs"), "1", "NoNewPrivs")
    if not sanitized():
        check(not dumpable(sidecar), "cores are allowed")
        for task in os.listdir("/proc/%d/task" % sidecar.pid):
            with open("/proc/%d/task/%s/status" % (sidecar.pid, task)) as status:
                check("Seccomp:\t2" in status.read(), "thread %s has no filter" % task)
    off = t.sidecar(t.origin(), {"security.seccomp": False, "security.core_dumps": True})
    equal(status_of(off, "Seccomp"), "0", "Seccomp")


def test_with_all_features_on_no_system_call_is_denied(t):
    """A sidecar that does all that the filter's list is for, and the next one that takes its sockets over: what was denied is told at the
    end at the latest."""
    redis, authority, ports = Redis(t.directory), Authority(t), free_ports(2)
    t.at_end(redis.close)
    otlp = collector(t, "http/protobuf")
    certificate, key = authority.issue("listen", "IP:127.0.0.1")
    os.mkdir(os.path.join(t.directory, "tier"), 0o700)
    origin = t.origin()
    origin.default = make_response(200, [("Cache-Control", "max-age=60")], b"x" * 20000)
    settings = {"listen.address": "127.0.0.1:%d" % ports[0], "admin.address": "127.0.0.1:%d" % ports[1], "listen.handover": os.path.join(t.directory, "handover"),
                "upstream.url": "http://localhost:%d" % origin.port, "upstream.dns_refresh": "1s", "workers": 2, "listen.tls.certificate_file": certificate,
                "listen.tls.key_file": key, "cache.redis_url": redis.url, "rate_limit.share_through_redis": True, "cache.frozen_path": os.path.join(t.directory, "tier"),
                "cache.max_memory_bytes": "1MiB", "cache.max_object_bytes": "64KiB", "performance.opentelemetry_enabled": True, "performance.opentelemetry_endpoint": otlp.url,
                "performance.opentelemetry_protocol": "http/protobuf", "performance.export_interval": "1s", "performance.history_file": os.path.join(t.directory, "history"),
                "retry.hedge.enabled": True, "batching.enabled": True, "server_timing": True, "drain_timeout": "5s",
                "notifications.webhooks": [{"url": "http://127.0.0.1:1/x", "format": "json"}]}

    def ask():
        for n in range(120):                    # more than memory holds: the tier on disk and Redis get theirs
            connection = http.client.HTTPSConnection("127.0.0.1", ports[0], timeout=PATIENCE, context=ssl._create_unverified_context())
            connection.request("GET", "/%d" % n, headers={"Accept-Encoding": "gzip"})
            equal(connection.getresponse().status, 200, "status")
            connection.close()
    first = t.sidecar(None, settings)
    first.leak_check = False
    ask()
    authority.issue("listen", "IP:127.0.0.1")   # a new certificate under the old name, then a reload of all
    first.write_config({"cache.max_memory_bytes": "2MiB", "upstream.tls.ca_file": authority.certificate})
    first.signal(signal.SIGHUP)
    first.signal(signal.SIGUSR1)
    wait_for(lambda: first.logged("reloaded"), "the reload")
    wait_for(lambda: otlp.points(), "an export")
    ask()
    next_one = t.sidecar(None, settings)
    next_one.leak_check = False
    equal(first.wait_exit(), 0, "exit code of the first")
    ask()
    next_one.signal(signal.SIGTERM)
    equal(next_one.wait_exit(), 0, "exit code of the next")
    for sidecar in (first, next_one):
        check(not sidecar.logged("was denied"), "a system call was denied")


def test_the_control_thread_gives_way(t):
    """Where they share a processor, who looks at the sidecar is not to be felt by who uses it."""
    sidecar = t.sidecar(t.origin(), {"workers": 2})

    def nice(thread):
        with open("/proc/%d/task/%s/stat" % (sidecar.pid, thread)) as f:
            return int(f.read().rsplit(")", 1)[1].split()[16])
    usual = os.getpriority(os.PRIO_PROCESS, 0)
    wait_for(lambda: nice(sidecar.pid) == min(19, usual + 5), "the control thread's niceness")
    others = [nice(thread) for thread in os.listdir("/proc/%d/task" % sidecar.pid) if thread != str(sidecar.pid)]
    check(others.count(usual) >= 2, "workers: %r" % others)
