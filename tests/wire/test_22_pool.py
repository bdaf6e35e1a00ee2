"""Upstream connections: reuse, limits, the wait for one, and connections that die while nobody looks."""
import os
import re
import signal
import socket
import threading
import time

from harness import *


class Gate:
    """An origin's answer that holds requests until they are let through."""

    def __init__(self, origin, path="/hold"):
        self.origin = origin
        self.passes = threading.Semaphore(0)
        self.path = path
        origin.on[path] = self.answer

    def answer(self, conn, request):
        if not self.passes.acquire(timeout=PATIENCE * 2):
            raise Failed("a held request was never let through")
        conn.reply(body=request.target.encode())

    def open(self, count=1):
        for _ in range(count):
            self.passes.release()


def active(sidecar, count):
    """Waits until so many requests are inside the sidecar."""
    wait_for(lambda: sidecar.metric("promptops_active_requests") >= count, "%d active requests" % count)


def test_connections_are_used_again(t):
    origin = t.origin()
    sidecar = t.sidecar(origin)
    for number in range(10):
        equal(sidecar.request("/%d" % number, "POST" if number % 2 else "GET", body=b"x" * number).status, 200, "status")
    equal(len(origin.connections), 1, "upstream connections")


def test_pool_max_size_is_never_passed(t):
    for workers in (1, 2):
        with t.case("%d workers" % workers):
            origin = t.origin()
            gate = Gate(origin)
            sidecar = t.sidecar(origin, {"pool.max_size": 3, "workers": workers, "pool.acquire_timeout": 30})
            clients = [t.client(sidecar) for _ in range(12)]
            for client in clients:
                client.send(make_request("/hold"))
            active(sidecar, 12)
            origin.wait_requests(3)
            equal((origin.count(), sidecar.connections_to(origin.port)), (3, 3), "requests at the origin, connections to it")
            answers = t.thread(lambda: [client.response().status for client in clients])
            peak = 0
            for _ in range(12):
                gate.open()
                peak = max(peak, sidecar.connections_to(origin.port))
            while not answers.done():
                peak = max(peak, sidecar.connections_to(origin.port))
            equal(set(answers.result()), {200}, "statuses")
            check(peak <= 3, "%d upstream connections at once" % peak)


def test_the_wait_for_a_connection_is_fair(t):
    """First come, first served."""
    origin = t.origin()
    gate = Gate(origin)
    sidecar = t.sidecar(origin, {"pool.max_size": 1, "pool.acquire_timeout": 30})
    clients = []
    for number in range(8):
        client = t.client(sidecar)
        client.send(make_request("/hold?%d" % number))
        clients.append(client)
        active(sidecar, number + 1)
    gate.open(8)
    for client in clients:
        equal(client.response().status, 200, "status")
    equal([r.target for r in origin.requests], ["/hold?%d" % n for n in range(8)], "order at the origin")


def test_the_wait_for_a_connection_is_bounded(t):
    origin = t.origin()
    gate = Gate(origin)
    sidecar = t.sidecar(origin, {"pool.max_size": 1, "pool.acquire_timeout": "300ms"})
    first = t.client(sidecar)
    first.send(make_request("/hold"))
    origin.wait_requests(1)
    started = time.monotonic()
    response = made_up(sidecar.request("/hold"), 503)
    near(time.monotonic() - started, 0.25, 5, "seconds of waiting")
    check(response.has("Retry-After"), "no Retry-After")
    gate.open(2)
    equal(first.response().status, 200, "status of the first")
    equal(sidecar.request("/hold").status, 200, "status afterwards")


def test_a_waiter_that_leaves_is_forgotten(t):
    origin = t.origin()
    gate = Gate(origin)
    sidecar = t.sidecar(origin, {"pool.max_size": 1, "pool.acquire_timeout": 30})
    first, leaver, last = t.client(sidecar), t.client(sidecar), t.client(sidecar)
    for number, client in enumerate((first, leaver, last)):
        client.send(make_request("/hold?%d" % number))
        active(sidecar, number + 1)
    leaver.reset()
    wait_for(lambda: sidecar.metric("promptops_active_requests") <= 2, "the leaver to be forgotten")
    gate.open(3)
    equal((first.response().status, last.response().status), (200, 200), "statuses")
    equal([r.target for r in origin.requests], ["/hold?0", "/hold?2"], "requests at the origin")


def test_idle_connections_are_closed_after_max_idle_time(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, {"pool.max_idle_time": "200ms", "pool.prune_interval": "50ms"})
    equal(sidecar.request("/").status, 200, "status")
    wait_for(lambda: origin.connections[0].reader.ended, "the idle connection to be closed")
    equal(origin.connections[0].reader.ended, "eof", "how it was closed")
    equal(sidecar.request("/").status, 200, "status")


def test_old_connections_are_not_used_again(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, {"pool.max_connection_age": "1s", "pool.prune_interval": "50ms"})
    with sidecar.client() as client:
        client.request("/")
        born = time.monotonic()
        while time.monotonic() - born < 1.2:
            equal(client.request("/").status, 200, "status")
            time.sleep(0.02)            # busy all the while: it is age that ends it, not idleness
    check(len(origin.connections) >= 2, "one connection for longer than its age")


def test_min_size_is_opened_before_the_first_request(t):
    for strategy in ("fixed", "dynamic", "adaptive"):
        with t.case(strategy):
            origin = t.origin()
            sidecar = t.sidecar(origin, {"pool.strategy": strategy, "pool.min_size": 3, "pool.max_size": 6})
            origin.wait_connections(3)
            equal(sidecar.request("/").status, 200, "status")
            check(len(origin.connections) <= 6, "%d upstream connections" % len(origin.connections))
    with t.case("lazy"):
        origin = t.origin()
        sidecar = t.sidecar(origin, {"pool.strategy": "lazy", "pool.min_size": 3})
        equal(sidecar.admin("/health/ready")[0], 200, "ready")
        equal(len(origin.connections), 0, "upstream connections before a request")
        equal(sidecar.request("/").status, 200, "status")
        equal(len(origin.connections), 1, "upstream connections")


def test_min_size_is_kept_when_the_upstream_closes(t):
    origin = t.origin()
    t.sidecar(origin, {"pool.strategy": "dynamic", "pool.min_size": 2, "pool.prune_interval": "50ms"})
    for connection in list(origin.wait_connections(2)):
        connection.half_close()
    origin.wait_connections(4)


def test_health_checks_ask_the_upstream(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, {"pool.health_check_interval": "100ms", "pool.health_check_path": "/healthz?a=b", "pool.strategy": "dynamic", "pool.min_size": 1})
    request = origin.wait_requests(2, "/healthz?a=b")[0]
    equal(request.method, "GET", "method")
    check(request.has("Host"), "no Host")
    equal(sidecar.request("/").status, 200, "status")


def test_the_keep_alive_field_of_the_upstream_is_believed(t):
    """`Keep-Alive: timeout=1`: after a second that connection is not used, though it is still open."""
    origin = t.origin()
    origin.default = make_response(200, [("Keep-Alive", "timeout=1"), ("Connection", "keep-alive")], b"ok")
    sidecar = t.sidecar(origin)
    equal(sidecar.request("/").status, 200, "status")
    equal(sidecar.request("/").status, 200, "status")
    equal(len(origin.connections), 1, "upstream connections within the second")
    time.sleep(1.05)                    # the age of the idle connection is what is tested
    equal(sidecar.request("/").status, 200, "status")
    equal(len(origin.connections), 2, "upstream connections")


def test_connect_timeout_is_504(t):
    """A listener whose queue is full answers no SYN."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
            fillers.append(filler)
        sidecar = t.sidecar("http://127.0.0.1:%d" % full.getsockname()[1], {"upstream.connect_timeout": "300ms"})
        started = time.monotonic()
        response = made_up(sidecar.request("/"), 504)
        near(time.monotonic() - started, 0.25, 5, "seconds")
        check("connection_timeout" in response.get("Proxy-Status"), response.get("Proxy-Status"))
        for filler in fillers:
            filler.close()


def test_the_upstream_comes_back(t):
    """Refused, then there again on the same port: no restart, no waiting."""
    origin = t.origin()
    sidecar = t.sidecar(origin)
    equal(sidecar.request("/").status, 200, "status")
    origin.stop()
    equal(sidecar.request("/").status, 502, "status while it is away")
    back = t.origin(port=origin.port)
    equal(sidecar.request("/").status, 200, "status when it is back")
    equal(back.count(), 1, "requests at the new origin")


def test_localhost_by_name(t):
    """Both families are tried; the one that listens is found."""
    origin = t.origin()
    sidecar = t.sidecar("http://localhost:%d" % origin.port)
    wait_for(lambda: sidecar.request("/").status == 200, "an answer")
    equal(origin.last().get("Host"), "localhost:%d" % origin.port, "Host at the origin")


def test_an_upstream_on_ipv6(t):
    probe = socket.socket(socket.AF_INET6)
    try:
        probe.bind(("::1", 0))
    except OSError as error:
        raise Skip("no IPv6 loopback: %s" % error)
    finally:
        probe.close()
    seen = []
    listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    t.at_end(listener.close)

    def serve():
        sock, _ = listener.accept()
        reader = Reader(sock)
        seen.append(read_request(reader))
        sock.sendall(make_response(body=b"six"))
        reader.rest()
        sock.close()
    thread = t.thread(serve)
    port = listener.getsockname()[1]
    sidecar = t.sidecar("http://[::1]:%d" % port)
    equal(sidecar.request("/").body, b"six", "body")
    equal(seen[0].get("Host"), "[::1]:%d" % port, "Host at the origin")
    sidecar.leak_check = False
    sidecar.stop()
    thread.result()


def test_a_name_that_does_not_exist_is_502(t):
    sidecar = t.sidecar("http://no-such-host.invalid:80", {"upstream.connect_timeout": "3s"})
    response = sidecar.request("/")
    check(response.status in (502, 504), "status %d" % response.status)
    check("dns" in response.get("Proxy-Status", ""), response.get("Proxy-Status"))


def test_pain_19_a_name_server_that_says_nothing(t):
    """Each request waits for its own bound, is told why, and the sidecar is ready, and ends, all the same."""
    in_new_namespace("net", "mnt")
    path = os.path.join(t.directory, "resolv.conf")
    with open(path, "w") as out:
        out.write("nameserver 127.0.0.1\n")
    command_or_skip("mount", "--bind", path, "/etc/resolv.conf")
    t.at_end(command_or_skip, "umount", "/etc/resolv.conf")
    silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    silent.bind(("127.0.0.1", 53))
    sidecar = t.sidecar("http://api.silent.test:80", {"pool.acquire_timeout": "300ms", "upstream.connect_timeout": "300ms", "retry.max_attempts": 2})
    equal(sidecar.admin("/health/ready")[0], 200, "ready")
    started = time.monotonic()
    clients = [t.client(sidecar) for _ in range(20)]
    for client in clients:
        client.send(make_request("/"))
    for client in clients:
        response = client.response()
        check(response.status in (503, 504), "status %d" % response.status)
        check(re.search("dns_timeout|connection_limit_reached", response.get("Proxy-Status")), response.get("Proxy-Status"))
    check(time.monotonic() - started < 5, "%.1f s" % (time.monotonic() - started))
    started = time.monotonic()
    sidecar.signal(signal.SIGINT)
    sidecar.wait_exit()
    check(time.monotonic() - started < 3, "%.1f s to end" % (time.monotonic() - started))
    silent.close()


def test_connect_failures_do_not_eat_the_pool(t):
    """Refused connections free their place: after many of them the pool still has its size."""
    origin = t.origin()
    origin.stop_listening()
    sidecar = t.sidecar(origin.url, {"pool.max_size": 2, "pool.acquire_timeout": "2s"})
    for _ in range(20):
        equal(sidecar.request("/").status, 502, "status")


def test_broken_answers_do_not_eat_the_pool(t):
    origin = t.origin()
    origin.on["/cut"] = lambda conn, request: (conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"), conn.reset(), False)[2]
    origin.on["/hang"] = lambda conn, request: (conn.gone(), False)[1]
    sidecar = t.sidecar(origin, {"pool.max_size": 2, "pool.acquire_timeout": "2s", "upstream.response_timeout": "2s"})
    for _ in range(6):
        with sidecar.client() as client:
            client.send(make_request("/cut"))
            broken_or_502(client)
        leaver = sidecar.client()
        leaver.send(make_request("/hang"))
        leaver.reset()
    equal(sidecar.request("/good").status, 200, "status")


def broken_or_502(client):
    try:
        equal(client.response().status, 502, "status")
    except Gone:
        pass


def test_pool_metrics_add_up(t):
    origin = t.origin()
    gate = Gate(origin)
    sidecar = t.sidecar(origin, {"pool.max_size": 4})
    clients = [t.client(sidecar) for _ in range(3)]
    for client in clients:
        client.send(make_request("/hold"))
    origin.wait_requests(3)
    wait_for(lambda: sum(v for k, v in sidecar.metrics().items() if k.startswith("promptops_pool_connections{") and "idle" not in k) >= 3,
             "three connections in use in the metrics")
    gate.open(3)
    for client in clients:
        client.response()
    wait_for(lambda: sidecar.metric("promptops_pool_connections", state="idle") == 3, "three idle connections in the metrics")


def test_close_by_the_origin_with_an_answer_is_honoured(t):
    """`Connection: close` and no close yet: the connection is not used for the next request."""
    origin = t.origin(lambda conn: [conn.reply(fields=[("Connection", "close")]) for _ in iter(conn.request, None)])
    sidecar = t.sidecar(origin)
    for _ in range(3):
        equal(sidecar.request("/").body, b"ok", "answer")
    equal([len(c.requests) for c in origin.connections], [1, 1, 1], "requests on each connection")


def test_upstream_connections_have_no_delay(t):
    """Head and body of a request arrive together, not 40 ms apart."""
    origin = t.origin()
    sidecar = t.sidecar(origin)
    started = time.monotonic()
    with sidecar.client() as client:
        for _ in range(20):
            equal(client.request("/", "POST", body=b"x" * 2000).status, 200, "status")
    check(time.monotonic() - started < 0.7, "%.2f s for 20 requests" % (time.monotonic() - started))


def test_descriptors_are_not_passed_to_children(t):
    sidecar = t.sidecar(t.origin())
    equal(sidecar.request("/").status, 200, "status")
    for name, link in sidecar.links().items():
        if int(name) > 2:
            try:
                with open("/proc/%d/fdinfo/%s" % (sidecar.pid, name)) as info:
                    flags = int([line for line in info if line.startswith("flags:")][0].split()[1], 8)
            except FileNotFoundError:
                continue                # closed since it was listed
            check(flags & os.O_CLOEXEC, "descriptor %s (%s) is not close-on-exec" % (name, link))
