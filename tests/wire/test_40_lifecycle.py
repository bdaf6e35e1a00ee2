"""Start, drain, stop and reload (INTERFACE 1; pains 17, 18, 23, 25)."""
import os
import signal
import socket
import threading
import time

from harness import *
from test_21_streaming import CHUNKED_HEAD, as_chunk

DRAIN = {"drain_idle": "400ms", "drain_timeout": "10s"}


def refused(sidecar):
    try:
        sidecar.client().close()
        return False
    except OSError:
        return True


@alone
def test_pain_17_ready_under_50_ms(t):
    if sanitized():
        raise Skip("a sanitizer's start takes longer")
    took = []
    while len(took) < 25 and min(took, default=1) >= 0.05:     # what else the machine does can only add to it
        before = held_up(os.getpid())
        sidecar = t.sidecar("http://127.0.0.1:1")
        took.append(time.monotonic() - sidecar.started - held_up(os.getpid(), sidecar.pid) + before)
        equal(sidecar.admin("/health/ready")[0], 200, "ready")
    check(min(took) < 0.05, "the quickest of %d starts took %.0f ms" % (len(took), min(took) * 1000))


def test_pain_17_ready_without_the_upstream(t):
    """No address, no answer, no name: none of it keeps the application from starting."""
    for url in ("http://127.0.0.1:1", "http://no-such-host.invalid", "https://192.0.2.1"):
        with t.case(url):
            sidecar = t.sidecar(url, {"pool.strategy": "adaptive", "pool.min_size": 2, "pool.health_check_interval": "100ms"})
            for path in ("/health/live", "/health/ready", "/health/startup"):
                equal(sidecar.admin(path)[0], 200, path)


def test_pain_18_term_keeps_serving_the_local_application(t):
    """Readiness fails; old and new connections are served, not told to close; when all is quiet it ends with 0."""
    sidecar = t.sidecar(t.origin(), {**DRAIN, "drain_idle": "1s"})
    kept = t.client(sidecar)
    kept.request("/before")
    sidecar.signal(signal.SIGTERM)
    wait_for(lambda: sidecar.admin("/health/ready")[0] == 503, "readiness to fail")
    equal(sidecar.admin("/health/live")[0], 200, "still live")
    response = kept.request("/kept")
    equal(response.status, 200, "status on the kept connection")
    check("close" not in response.members("Connection"), "Connection: close too early")
    equal(sidecar.request("/new").status, 200, "status on a new connection")
    quiet = time.monotonic()
    equal(sidecar.wait_exit(), 0, "exit code")
    near(time.monotonic() - quiet, 0.7, 6, "seconds of quiet before the end")


def test_pain_18_busy_drain_ends_at_drain_timeout(t):
    sidecar = t.sidecar(t.origin(), {"drain_idle": "500ms", "drain_timeout": "1500ms"})
    sidecar.signal(signal.SIGTERM)
    started = time.monotonic()
    served = 0
    try:
        while sidecar.alive() and time.monotonic() - started < 8:
            equal(sidecar.request("/").status, 200, "status while draining")
            served += 1
            time.sleep(0.1)             # the application's pace: busy all the while
    except (OSError, Gone):
        pass
    equal(sidecar.wait_exit(), 0, "exit code")
    near(time.monotonic() - started, 1.2, 6, "seconds until the end")
    check(served >= 5, "only %d requests were served" % served)


def test_pain_18_a_stream_is_finished_before_the_end(t):
    """A request in flight is not idleness, however long it takes."""
    for name, number in [("TERM", signal.SIGTERM), ("INT", signal.SIGINT)]:
        with t.case(name):
            release = threading.Event()
            origin = t.origin()

            def stream(conn, _, release=release):
                conn.send(CHUNKED_HEAD + as_chunk(b"first"))
                release.wait(PATIENCE)
                conn.send(as_chunk(b"last") + b"0\r\n\r\n")
            origin.on["/stream"] = stream
            sidecar = t.sidecar(origin, {"drain_idle": "100ms", "drain_timeout": "20s"})
            client = t.client(sidecar)
            client.send(make_request("/stream"))
            response = client.head()
            equal(client.chunk(response), b"first", "first chunk")
            sidecar.signal(number)
            client.silent(0.5)
            check(sidecar.alive(), "it ended with a request in flight")
            release.set()
            equal(client.chunk(response), b"last", "last chunk")
            equal(client.chunk(response), None, "end")
            equal(sidecar.wait_exit(), 0, "exit code")


def test_signals_that_were_blocked_at_the_start_are_heard(t):
    """A mask is inherited: some supervisors start their children with signals blocked."""
    numbers = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
    for number in (signal.SIGTERM, signal.SIGINT):
        with t.case(number.name):
            sidecar = t.sidecar(t.origin(), {"drain_idle": "10ms"}, preexec=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, numbers))
            sidecar.signal(number)
            equal(sidecar.wait_exit(), 0, "exit code")


def test_int_refuses_new_connections(t):
    release = threading.Event()
    origin = t.origin()
    origin.on["/hold"] = lambda conn, request: (release.wait(PATIENCE), conn.reply())[1]
    for name, signals in [("INT", [signal.SIGINT]), ("a second TERM", [signal.SIGTERM, signal.SIGTERM])]:
        with t.case(name):
            release.clear()
            sidecar = t.sidecar(origin, {"drain_timeout": "20s", "drain_idle": "20s"})
            client = t.client(sidecar)
            before = origin.count()
            client.send(make_request("/hold"))
            origin.wait_requests(before + 1)
            for number in signals:
                sidecar.signal(number)
                if number == signal.SIGTERM:
                    wait_for(lambda: sidecar.admin("/health/ready")[0] == 503 if len(signals) > 1 and not refused(sidecar) else True, "the signal to be seen")
            wait_for(lambda: refused(sidecar), "new connections to be refused")
            release.set()
            equal(client.response().status, 200, "status of what was in flight")
            equal(sidecar.wait_exit(), 0, "exit code")


def test_signals_do_not_break_off_a_stop(t):
    """Who asks again and again, to the last moment, still sees a clean end."""
    origin = t.origin()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        with t.case(number.name):
            for _ in range(5):
                sidecar = t.sidecar(origin, {"drain_idle": 0})
                sidecar.signal(signal.SIGINT)
                while sidecar.process.poll() is None:
                    sidecar.signal(number)
                equal(sidecar.process.returncode, 0, "exit code")


def test_int_does_not_wait_for_idle_connections(t):
    sidecar = t.sidecar(t.origin(), {"drain_timeout": "30s", "drain_idle": "30s"})
    clients = [t.client(sidecar) for _ in range(5)]
    for client in clients[:3]:
        client.request("/")
    started = time.monotonic()
    sidecar.signal(signal.SIGINT)
    equal(sidecar.wait_exit(), 0, "exit code")
    check(time.monotonic() - started < 4, "it waited for idle connections")
    for client in clients:
        client.closed()


def test_a_stop_is_bounded_by_drain_timeout(t):
    origin = t.origin()
    origin.on["/hang"] = lambda conn, request: (conn.gone(), False)[1]
    for name, number in [("TERM", signal.SIGTERM), ("INT", signal.SIGINT)]:
        with t.case(name):
            sidecar = t.sidecar(origin, {"drain_timeout": "600ms", "drain_idle": "100ms"})
            client = t.client(sidecar)
            before = origin.count()
            client.send(make_request("/hang"))
            origin.wait_requests(before + 1)
            started = time.monotonic()
            sidecar.signal(number)
            equal(sidecar.wait_exit(), 0, "exit code")
            near(time.monotonic() - started, 0.4, 6, "seconds until the end")


def test_stop_while_clients_come(t):
    """Answers that were begun are whole, whatever the moment of the signal."""
    origin = t.origin()
    sidecar = t.sidecar(origin, {"workers": 2, "drain_idle": "100ms", "drain_timeout": "2s"})
    wrong = []

    def hammer():
        while True:
            try:
                with sidecar.client() as client:
                    for _ in range(10):
                        client.request("/")
            except ConnectionRefusedError:
                return
            except Incomplete as cut:
                wrong.append(cut)
                return
            except (Gone, OSError):
                if not sidecar.alive():
                    return
    threads = [t.thread(hammer) for _ in range(4)]
    origin.wait_requests(100)
    sidecar.signal(signal.SIGINT)
    equal(sidecar.wait_exit(), 0, "exit code")
    for thread in threads:
        thread.result()
    equal(wrong, [], "answers that broke off")


def timing(sidecar):
    return sidecar.request("/").has("Server-Timing")


def test_hup_reloads(t):
    sidecar = t.sidecar(t.origin())
    kept = t.client(sidecar)
    kept.request("/")
    sidecar.write_config({"server_timing": True})
    sidecar.signal(signal.SIGHUP)
    wait_for(lambda: timing(sidecar), "the new configuration on a new connection")
    wait_for(lambda: kept.request("/").has("Server-Timing"), "the new configuration on the kept connection")


def test_a_changed_file_reloads(t):
    sidecar = t.sidecar(t.origin())
    check(not timing(sidecar), "off at first")
    sidecar.write_config({"server_timing": True})
    wait_for(lambda: timing(sidecar), "the new configuration, without a signal")


class Mounted(Sidecar):
    """Its configuration lies as Kubernetes mounts a ConfigMap: a link to ..data, itself a link that is swapped."""
    version = 0

    def write_config(self, config=None):
        self.settings.update(config or {})
        self.version += 1
        folder = os.path.join(self.directory, "..%d" % self.version)
        os.mkdir(folder)
        with open(os.path.join(folder, "sidecar.yaml"), "w") as out:
            out.write(to_yaml(nested(self.settings)) + "\n")
        link = os.path.join(self.directory, "..data")
        os.symlink("..%d" % self.version, link + "_tmp")
        os.rename(link + "_tmp", link)
        if not os.path.islink(self.config_path):
            os.symlink("..data/sidecar.yaml", self.config_path)


def test_a_swapped_link_reloads(t):
    sidecar = t.sidecar(t.origin(), kind=Mounted)
    check(not timing(sidecar), "off at first")
    for wanted in (True, False, True):
        sidecar.write_config({"server_timing": wanted})
        wait_for(lambda wanted=wanted: timing(sidecar) == wanted, "the new configuration behind the swapped link")


def test_pain_23_a_bad_reload_keeps_the_old_configuration(t):
    sidecar = t.sidecar(t.origin(), {"server_timing": True})
    bad = {"unknown key": {"no_such_key": 1}, "bad value": {"retry.max_attempts": "many"}, "out of bounds": {"retry.max_attempts": 0}}
    for name, change in bad.items():
        with t.case(name):
            before = len(sidecar.log)
            saved = dict(sidecar.settings)
            sidecar.write_config(change)
            sidecar.signal(signal.SIGHUP)
            word = list(change)[0]
            wait_for(lambda: any(word in line for line in sidecar.log[before:]), "the log to name %s" % word)
            check(timing(sidecar), "the old configuration is gone")
            sidecar.settings = saved
    with t.case("not YAML at all"):
        before = len(sidecar.log)
        with open(sidecar.config_path, "w") as out:
            out.write("a: [b\n  c: {")
        sidecar.signal(signal.SIGHUP)
        wait_for(lambda: len(sidecar.log) > before, "the log to speak")
        check(timing(sidecar), "the old configuration is gone")
    with t.case("file taken away"):
        os.rename(sidecar.config_path, sidecar.config_path + ".away")
        before = len(sidecar.log)
        sidecar.signal(signal.SIGHUP)
        wait_for(lambda: len(sidecar.log) > before, "the log to speak")
        check(timing(sidecar), "the old configuration is gone")
    with t.case("a metric says so"):
        told = {k: v for k, v in sidecar.metrics().items() if "reload" in k or "config" in k}
        check(any(v > 0 for v in told.values()), "metrics: %r" % told)
    with t.case("mended"):
        sidecar.write_config({"server_timing": False})
        sidecar.signal(signal.SIGHUP)
        wait_for(lambda: not timing(sidecar), "the mended configuration")


@slow(90)
def test_pain_25_two_hundred_reloads_under_load(t):
    """No request is lost, no connection dropped, nothing leaks, no process is left behind."""
    origin = t.origin()
    sidecar = t.sidecar(origin, {"workers": 2, "pool.max_size": 20, "performance.metrics_buffer_size": 200})  # the room for requests that are kept is full before the reloads begin
    stop = threading.Event()
    served = [0]

    def load():
        with sidecar.client() as client:
            while not stop.is_set():
                equal(client.request("/load").status, 200, "status under load")
                served[0] += 1
    threads = [t.thread(load) for _ in range(3)]
    for number in range(20):
        reload_once(sidecar, number % 2 == 0)
    memory, files = sidecar.rss_kib(), sidecar.other_files()
    for number in range(180):
        reload_once(sidecar, number % 2 == 0)
    stop.set()
    for thread in threads:
        thread.result()
    check(served[0] > 200, "only %d requests beside 200 reloads" % served[0])
    check(sidecar.other_files() <= files + 1, "files: %d before, %d after" % (files, sidecar.other_files()))
    if not sanitized():
        check(sidecar.rss_kib() - memory < 2048, "%d KiB more after 180 reloads" % (sidecar.rss_kib() - memory))
    children = [p for p in os.listdir("/proc") if p.isdigit() and parent_of(p) == sidecar.pid]
    equal(children, [], "processes left behind")


def reload_once(sidecar, wanted):
    sidecar.write_config({"server_timing": wanted})
    sidecar.signal(signal.SIGHUP)
    wait_for(lambda: timing(sidecar) == wanted, "the reload to take effect")


def parent_of(pid):
    try:
        with open("/proc/%s/stat" % pid) as stat:
            return int(stat.read().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def test_usr1_reopens_the_log(t):
    path = os.path.join(t.directory, "access.log")
    sidecar = t.sidecar(t.origin(), {"log.file": path, "log.access": True})
    sidecar.request("/first")
    wait_for(lambda: "/first" in read(path), "the first line")
    os.rename(path, path + ".1")
    sidecar.signal(signal.SIGUSR1)
    wait_for(lambda: os.path.exists(path), "the log to be opened anew")
    sidecar.request("/second")
    wait_for(lambda: "/second" in read(path), "the second line")
    check("/second" not in read(path + ".1"), "the second line went to the old file")


def read(path):
    with open(path) as file:
        return file.read()


class Unheard(Sidecar):
    """Its log can tell nothing: the ports are chosen beforehand."""

    def write_config(self, config=None):
        if not self.address:
            with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
                self.address, self.admin_address = one.getsockname(), two.getsockname()
            config = {**(config or {}), "listen.address": "%s:%d" % self.address, "admin.address": "%s:%d" % self.admin_address}
        super().write_config(config)

    def wait_ready(self):
        wait_for(lambda: not refused(self), "the port to be open")
        super().wait_ready()


def test_a_full_disk_does_not_stop_requests(t):
    sidecar = t.sidecar(t.origin(), {"log.file": "/dev/full", "log.access": True}, kind=Unheard)
    for _ in range(50):
        equal(sidecar.request("/").status, 200, "status")


def test_a_full_file_system_does_not_stop_requests(t):
    in_new_namespace("mnt")
    folder = os.path.join(t.directory, "small")
    os.mkdir(folder)
    command_or_skip("mount", "-t", "tmpfs", "-o", "size=32k", "none", folder)
    t.at_end(command_or_skip, "umount", folder)
    path = os.path.join(folder, "log")
    sidecar = t.sidecar(t.origin(), {"log.file": path, "log.access": True})
    with sidecar.client() as client:
        for number in range(500):
            equal(client.request("/%s%d" % ("x" * 100, number)).status, 200, "status")
    wait_for(lambda: os.path.getsize(path) > 20000, "the log to fill its file system")
    with open(path, "w"):
        pass                            # somebody makes room
    sidecar.signal(signal.SIGUSR1)
    wait_for(lambda: sidecar.request("/after").status == 200 and "/after" in read(path), "the log to go on")


def test_stdout_and_stderr_closed_are_survived(t):
    """Whoever read the log is gone: requests go on, and no SIGPIPE ends it."""
    sidecar = t.sidecar(t.origin(), {"log.access": True})
    reader_end = [sidecar.process.stderr.fileno(), sidecar.process.stdout.fileno()]
    null = os.open("/dev/null", os.O_RDONLY)
    for fd in reader_end:
        os.dup2(null, fd)               # the pipe's reading end is closed by this
    os.close(null)
    for _ in range(20):
        equal(sidecar.request("/").status, 200, "status")
    check(sidecar.alive(), "it ended")


def test_signals_it_does_not_know_are_harmless(t):
    sidecar = t.sidecar(t.origin())
    for number in (signal.SIGPIPE, signal.SIGHUP, signal.SIGUSR1, signal.SIGWINCH, signal.SIGCONT):
        sidecar.signal(number)
        equal(sidecar.request("/").status, 200, "status after signal %d" % number)


def test_out_of_memory_is_survived(t):
    """With little address space left, requests may be refused, but it lives and serves again."""
    if sanitized():
        raise Skip("a sanitizer reserves address space of its own")
    origin = t.origin()
    sidecar = t.sidecar(origin, {"cache.enabled": True, "retry.max_attempts": 3})
    import resource
    resource.prlimit(sidecar.pid, resource.RLIMIT_AS, ((sidecar.rss_kib("VmSize") + 8192) << 10,) * 2)
    clients = [t.client(sidecar) for _ in range(60)]
    for client in clients:
        client.send_if_open(make_request("/", "PUT", [("Content-Length", "900000")]))
    threads = [t.thread(give, client, b"x" * 900000) for client in clients]
    statuses = [thread.result() for thread in threads]
    check(sidecar.alive(), "it died: %s" % sidecar.tail())
    check(set(statuses) <= {200, 502, 503, 504, None}, "statuses %r" % set(statuses))
    for client in clients:
        client.close()
    wait_for(lambda: answers(sidecar), "requests to be served again")


def give(client, data):
    try:
        client.send(data)
        return client.response("PUT").status
    except (Gone, OSError, Failed):
        return None


def answers(sidecar):
    try:
        return sidecar.request("/").status == 200
    except (Gone, OSError):
        return False
