"""One fetch for many whose requests are on different workers (point by point what test_31 shows on one)."""
import random
import threading
import time

from harness import *
from test_30_cache import PLAIN, cc
from test_31_coalescing import FRESH, Held, active, ask_all

TWO = {**PLAIN, "workers": 2, "pool.max_size": 60}
CLIENTS = 24  # that all of them are on one of two workers has a chance of 2 in 2^24


def test_9_dead_leaders_hand_over_to_the_other_worker(t):
    """Each leader goes away before an answer came: as often as it takes, the next one fetches, and all who stay are answered."""
    for dead in (1, 2, 3, 6):
        with t.case("%d leaders die" % dead):
            origin = t.origin()
            lock, release, begun = threading.Lock(), threading.Event(), []

            def answer(conn, _, lock=lock, release=release, begun=begun):
                with lock:
                    begun.append(conn)
                release.wait(PATIENCE)
                conn.send(FRESH + b"abcdef")
            origin.on["/key"] = answer
            sidecar = t.sidecar(origin, TWO)
            clients = []
            for number in range(CLIENTS):      # one after the other, so that it is known who leads next
                clients += ask_all(t, sidecar, 1, "/key")
                active(sidecar, number + 1)
            for number in range(dead):
                wait_for(lambda n=number: len(begun) > n, "fetch %d" % (number + 1))
                if len(begun) > number + 1:    # the waiters were turned loose: there is no leader to kill any more
                    break
                clients.pop(0).reset()
                wait_for(lambda n=len(clients): sidecar.metric("promptops_active_requests") <= n, "the dead one to be noticed")
            release.set()
            equal({client.response().body for client in clients}, {b"abcdef"}, "bodies")
            check(dead > 3 or len(begun) <= dead + 1, "%d fetches" % len(begun))


def test_10_uncacheable_turns_the_waiters_loose(t):
    origin = t.origin()
    number, lock, release = [0], threading.Lock(), threading.Event()

    def answer(conn, _):
        with lock:
            number[0] += 1
            mine = number[0]
        release.wait(PATIENCE)
        time.sleep(0.1)                 # what a request costs at the origin: one after the other would be seen
        conn.reply(200, cc("no-store"), b"%d" % mine)
    origin.on["/un"] = answer
    sidecar = t.sidecar(origin, TWO)
    clients = ask_all(t, sidecar, CLIENTS, "/un")
    active(sidecar, CLIENTS)
    started = time.monotonic()
    release.set()
    equal(len({client.response().body for client in clients}), CLIENTS, "different bodies")
    check(time.monotonic() - started < 1.5, "%.1f s: one after the other" % (time.monotonic() - started))


def test_waiting_is_bounded(t):
    """A leader that tries again and again keeps nobody longer than one wait for a connection and one for an answer."""
    origin = t.origin()
    arrivals, lock = [], threading.Lock()

    def never(conn, _):
        with lock:
            arrivals.append(time.monotonic())
        conn.gone()
        return False
    origin.on["/never"] = never
    sidecar = t.sidecar(origin, {**TWO, "upstream.response_timeout": "600ms", "pool.acquire_timeout": "200ms", "retry.max_attempts": 10, "retry.base_delay": "10ms",
                                 "retry.budget": 1, "retry.max_total_time": "30s", "retry.max_delay": "20ms"})
    clients = ask_all(t, sidecar, 6, "/never")
    wait_for(lambda: len(arrivals) >= 3, "the waiters to go themselves")
    first = arrivals[0]
    wait_for(lambda: len([a for a in arrivals if a - first < 2.5]) >= 5, "all to go themselves in bounded time (%r)" % [round(a - first, 2) for a in arrivals])
    for client in clients:
        client.reset()
    wait_for(lambda: sidecar.metric("promptops_active_requests") == 0, "the requests to be forgotten")


def test_a_validation_is_one_for_all_workers(t):
    origin = t.origin()
    origin.on["/old"] = make_response(200, cc("max-age=60") + [("Age", "100"), ("ETag", '"a"')], b"body")
    sidecar = t.sidecar(origin, TWO)
    sidecar.request("/old")
    held = Held(origin, "/old", b"", [b"HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nCache-Control: max-age=600\r\n\r\n"])
    clients = ask_all(t, sidecar, CLIENTS, "/old")
    active(sidecar, CLIENTS)
    held.go()
    equal(({client.response().body for client in clients}, held.begun), ({b"body"}, 1), "bodies, validations")


@slow(120)
def test_many_keys_many_ends(t):
    """Leaders and waiters die at random, answers are stored, uncacheable, broken off or errors: who stays is answered, with the bytes of the own key."""
    rng = random.Random(9111)
    origin = t.origin()
    fates = {}

    def answer(conn, request):
        fate = fates[request.target]
        body = request.target.encode() * 50
        time.sleep(rng.random() / 50)
        if fate == "cut":
            conn.send(make_response(200, cc("max-age=60") + [("Content-Length", str(len(body)))], b"", length=False) + body[:100])
            conn.close()
            return False
        if fate == "close":
            conn.close()
            return False
        conn.reply(503 if fate == "error" else 200, cc("no-store" if fate == "uncacheable" else "max-age=60"), body)
        return True
    sidecar = t.sidecar(origin, TWO)
    for round_number in range(30):
        keys = ["/k%d-%d" % (round_number, n) for n in range(4)]
        for key in keys:
            fates[key] = rng.choice(["stored", "stored", "uncacheable", "cut", "close", "error"])
            origin.on[key] = answer
        asked = []
        for _ in range(30):
            key = rng.choice(keys)
            asked += [(key, client) for client in ask_all(t, sidecar, 1, key)]
        for key, client in list(asked):
            if rng.random() < 0.2:
                asked.remove((key, client))
                client.reset()
        for key, client in asked:
            whole = key.encode() * 50
            try:
                response = client.response()
            except Incomplete as gone:
                equal(fates[key], "cut", "fate of what broke off")
                check(whole.startswith(bytes(gone.message.body)), "bytes of another key")
                continue
            if fates[key] in ("stored", "uncacheable"):
                equal((response.status, response.body), (200, whole), "answer to " + key)
            else:
                check(response.status in (502, 503), "status %d of %s (%s)" % (response.status, key, fates[key]))
            client.close()
    wait_for(lambda: sidecar.metric("promptops_active_requests") == 0, "the requests to be forgotten")
