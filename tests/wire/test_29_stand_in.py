"""Each row of policy/README.md's table of bars against promptops-origin, over sockets, at a tenth of the rates. Short, with
bounds that leave room for the luck of few calls; `make bars` (BARS=full) takes as long as the simulation does, and its bounds."""
import collections
import importlib.util
import os
import socket
import subprocess
import threading
import time

from harness import *
from lib.open_loop import Load
from lib.window import Window

FULL = os.environ.get("BARS") == "full"
PATH = "/v1/client/prompts/prompt-1"
STAND_INS_KEY = [("Authorization", "Bearer po_demoDemo0000000000000001")]
# As an application runs it, but for the cache: what is measured is what goes up.
AS_USED = {"preset": "promptops", "retry.max_attempts": 3, "retry.base_delay": "20ms", "circuit_breaker.enable_circuit_breaker": True, "concurrency.mode": "adaptive",
           "rate_limit.enable_rate_limit_detection": True, "rate_limit.assume": "never", "pool.max_size": 300, "cache.enabled": False}


def stand_in(t, *options, **settings):
    spec = importlib.util.spec_from_file_location("origin_harness", os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "origin", "harness.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    origin = module.Origin(*options)
    t.origins.append(origin)
    origin.connections, origin.requests = [], []
    origin.set(**settings)
    origin.url = "http://127.0.0.1:%d" % origin.port
    return origin


def unlimited(t, *options, **settings):
    return stand_in(t, *options, "--no-auth", rate_limit={"enabled": False}, **settings)


def slow_by(factor, mean=100):
    return {"faults": [{"latency": {"mean_ms": mean * factor, "distribution": "exponential"}}]}


def address(sidecar):
    host, port = sidecar.address
    return host, port


def load(sidecar, rate, timeout, seed=1, **more):
    return Load(address(sidecar), lambda n: "%s?n=%d" % (PATH, n), rate, timeout, [("Cookie", "a=b")], seed, **more)


def is_open(sidecar):
    return any(c["state"] == "open" for c in sidecar.admin("/api/v1/circuit")[2].values())


def closed_loop(t, sidecar, count, clients=8):
    """So many requests by some clients that ask one after the other; their statuses."""
    seen, lock = collections.Counter(), threading.Lock()

    def client(share):
        mine = collections.Counter()
        with sidecar.client() as c:
            for _ in range(share):
                mine[c.request(PATH).status] += 1
        with lock:
            seen.update(mine)
    for done in [t.thread(client, count // clients) for _ in range(clients)]:
        done.result(120)
    return seen


@alone
@slow(400)
def test_a_hard_outage(t):
    """503 at once, all connections refused: at most 1.15 calls for each request, 5 % of them once a breaker is open; back in 5 s."""
    for outage in ("503",) if not FULL else ("503", "refuse", "reset"):
        with t.case(outage):
            origin = unlimited(t, workers=20, **slow_by(1, 20))
            sidecar = t.sidecar(origin.url, {**AS_USED, "pool.health_check_interval": 1, "circuit_breaker.circuit_breaker_timeout": "1s" if not FULL else "5s"})
            begins, lasts, after = (0.5, 1.5, 4) if not FULL else (10, 30, 20)
            marks = {}

            def down():
                marks["before"] = sent(sidecar, origin)
                origin.set(outage=outage)

            def opened():
                marks["opened"] = (sent(sidecar, origin), is_open(sidecar))

            def up():
                marks["end"] = sent(sidecar, origin)
                origin.set(outage="none")
            run = load(sidecar, 80, 2).run(begins + lasts + after, [(begins, down), (begins + 0.5, opened), (begins + lasts, up)])
            offered = 80 * lasts
            calls, late = marks["end"] - marks["before"], marks["end"] - marks["opened"][0]
            check(marks["opened"][1], "no breaker is open half a second after %s began" % outage)
            check(calls <= 1.15 * offered, "%d calls for %d requests" % (calls, offered))
            check(late <= 0.05 * 80 * (lasts - 0.5) + (0 if FULL else 3), "%d of %d requests went up to it once a breaker was open" % (late, 80 * (lasts - 0.5)))
            recovery = run.recovery(begins + lasts, span=1 if not FULL else 5)
            check(recovery <= 5, "recovery %s s" % recovery)
            print("%s: load %.3f, %.3f once open, recovery %s s" % (outage, calls / offered, late / (80 * (lasts - 0.5)), recovery))


def sent(sidecar, origin):
    """Attempts that were made, whether or not there was anybody to answer."""
    return int(sidecar.metric("promptops_upstream_requests_total"))


@alone
@slow(200)
def test_a_gray_outage(t):
    """Ten workers become five times slower: at least 0.9 of what they can do comes in time, and all does again 5 s later."""
    workers, rate = (10, 80) if FULL else (40, 320)
    begins, lasts, after = (10, 30, 30) if FULL else (5, 2.5, 3)
    origin = unlimited(t, workers=workers, **slow_by(1))
    sidecar = t.sidecar(origin.url, {**AS_USED, "retry.per_try_timeout": "1s"})
    run = load(sidecar, rate, 2).run(begins + lasts + after, [(begins, lambda: origin.set(**slow_by(5))), (begins + lasts, lambda: origin.set(**slow_by(1)))])
    offered, share = run.share(begins, begins + lasts)
    # In 2 s a client has two tries of 1 s; one within a second: 1 - exp(-1 / 0.5). A fifth of the rate is served.
    bound = workers * 2.0 * lasts * (1 - 2.718281828 ** -2) / offered
    steady = run.share(0.5, begins)[1]
    recovery = run.recovery(begins + lasts, span=5 if FULL else 1)
    again = run.share(begins + lasts + (recovery if recovery < 5 else 5), begins + lasts + after)[1]
    print("gray: steady %.3f, in it %.3f of bound %.3f = %.3f, recovery %s s, then %.3f" % (steady, share, bound, share / bound, recovery, again))
    check(steady >= 0.99, "steady: %.3f" % steady)
    check(share >= (0.9 if FULL else 0.6) * bound, "%.3f of the requests, of %.3f that can be served" % (share, bound))
    check(recovery <= 5, "recovery %s s" % recovery)
    check(again >= 0.97, "afterwards %.3f: a second wave" % again)


@alone
@slow(120)
def test_random_errors(t):
    """One call in ten, in a hundred, fails by chance: what is answered well, and the calls that took."""
    for errors, least, most, count in ((0.1, 0.99, 1.12, 2000), (0.01, 0.999, 1.02, 2000)):
        with t.case("%g" % errors):
            origin = unlimited(t, faults=[{"errors": {"503": errors}}])
            sidecar = t.sidecar(origin.url, {**AS_USED, "retry.base_delay": "1ms"})
            count *= 10 if FULL else 1
            seen = closed_loop(t, sidecar, count)
            calls = origin.counts()["requests"]
            luck = 3 * (errors * (1 - errors) / count) ** 0.5        # of the dice
            print("errors %g: %.4f answered well, %.4f calls each" % (errors, seen[200] / count, calls / count))
            check(seen[200] >= (least - luck) * count if errors > 0.05 else seen[200] >= least * count, "%s" % seen)
            check(calls <= (most + luck) * count, "%d calls for %d requests" % (calls, count))
            check(not is_open(sidecar), "a breaker has opened")


@alone
def test_no_attempt_that_cannot_end_in_time(t):
    """Attempts take 150 ms and fail; 400 ms in all: after the second nothing begins, and the client hears at once."""
    origin = unlimited(t, faults=[{"latency": {"mean_ms": 150}}])
    sidecar = t.sidecar(origin.url, {**AS_USED, "retry.max_attempts": 10, "retry.base_delay": "1ms", "retry.max_total_time": "400ms", "retry.budget": 1, "retry.success_rate_threshold": 0, "circuit_breaker.enable_circuit_breaker": False})
    equal(closed_loop(t, sidecar, 24, 4), {200: 24}, "it learns how long a call takes")
    origin.set(faults=[{"latency": {"mean_ms": 150}, "errors": {"503": 1}}])
    before, count = origin.counts()["requests"], 6
    for _ in range(count):
        began = time.monotonic()
        with sidecar.client() as c:
            equal(c.request(PATH).status, 503, "status")
        check(time.monotonic() - began < 0.6 or sanitized(), "answered after %.3f s" % (time.monotonic() - began))
    calls = origin.counts()["requests"] - before
    check(count <= calls <= 2 * count, "%d attempts for %d requests: a third cannot end in time" % (calls, count))


class SlowHandshake:
    """A way to the stand-in's TLS port on which connecting takes so long."""

    def __init__(self, port, seconds):
        self.port, self.seconds, self.opened = port, seconds, 0
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            self.opened += 1
            threading.Thread(target=self.serve, args=(near,), daemon=True).start()

    def serve(self, near):
        time.sleep(self.seconds)                 # the pace of a peer that is far away
        far = socket.create_connection(("127.0.0.1", self.port))
        for a, b in ((near, far), (far, near)):
            b.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.pump, args=(a, b), daemon=True).start()

    @staticmethod
    def pump(a, b):
        try:
            while data := a.recv(65536):
                b.sendall(data)
            b.shutdown(socket.SHUT_WR)
        except OSError:
            pass


@alone
@slow(60)
def test_idle_to_burst(t):
    """Nothing, then 500 a second: nobody waits for a connection for longer than two connect times."""
    connect, work = 0.25, 0.02
    certificate, key = own_certificate(t)
    origin = stand_in(t, "--no-auth", "--tls-cert", certificate, "--tls-key", key, rate_limit={"enabled": False})
    origin.ask("POST", "/__control", {"faults": [{"latency": {"mean_ms": work * 1000}}]}, port=origin.control_port)
    way = SlowHandshake(origin.port, connect)
    t.at_end(way.listener.close)
    sidecar = t.sidecar("https://127.0.0.1:%d" % way.listener.getsockname()[1], {**AS_USED, "upstream.tls.ca_file": certificate, "upstream.tls.server_name": "localhost", "retry.max_attempts": 1})
    rate = 500 if FULL else 100
    run = load(sidecar, rate, 5, even=True).run(3 if FULL else 1.5)
    late = sorted(took for _, took, status in run.done)
    equal({s for _, _, s in run.done}, {200}, "answers")
    worst = late[-1]
    print("burst: longest %.3f s, connections %d" % (worst, way.opened))
    check(worst <= 2 * connect + work + 0.2 or sanitized(), "the longest took %.3f s, connecting %.3f" % (worst, connect))


def own_certificate(t):
    cert, key = os.path.join(t.directory, "cert.pem"), os.path.join(t.directory, "key.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"], check=True, capture_output=True)
    return cert, key


@slow(300)
def test_a_quota(t):
    """Ten clients that want 5 a second each: no refusal, at least 0.97 of the quota used, the clients' shares within 10 %. The
    long form: three minutes of the stand-in's 60 a minute. The short one: 200 in eleven seconds."""
    ask, refused, quota, seconds = three_minutes(t) if FULL else one_window(t)
    until, answered = time.monotonic() + seconds, [0] * 10

    def client(n):
        with ask() as c:
            while time.monotonic() < until:
                began = time.monotonic()
                status = c.request(PATH, fields=STAND_INS_KEY).status
                answered[n] += status == 200 and time.monotonic() < until
                time.sleep(max(0, 0.2 - (time.monotonic() - began)))  # as often as it wants
    for done in [t.thread(client, n) for n in range(10)]:
        done.result(240)
    print("quota: %s, refused by the API: %d" % (answered, refused()))
    equal(refused(), 0, "refusals by the API")
    check(sum(answered) >= 0.97 * quota, "used %d of %d" % (sum(answered), quota))
    check(all(abs(g - quota / 10) <= 0.1 * quota / 10 + 1 for g in answered), "shares %s" % answered)


def three_minutes(t):
    origin = stand_in(t, rate_limit={"minute": 60, "dialect": "documented", "headers": True, "retry_after": 0})
    sidecar = t.sidecar(origin.url, {**AS_USED, "rate_limit.max_wait": "20s"})
    time.sleep(60 - time.time() % 60 + 0.2)      # its windows are the clock's minutes
    return lambda: sidecar.client(timeout=40), lambda: origin.counts()["rate_limited"], 180, 179


def one_window(t):
    origin = t.origin()
    window = Window(origin, 200, 11)
    sidecar = t.sidecar(origin, {**AS_USED, "rate_limit.max_wait": "5s"})
    return sidecar.client, lambda: window.refused, 200, 10.9
