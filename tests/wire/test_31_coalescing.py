"""Many clients, one fetch; and no byte from one credential to another (pains 9 to 12)."""
import threading
import time

from harness import *
from lib.credentials import python_client
from test_30_cache import PLAIN, Counted, cc


class Held:
    """An origin's answer that begins at once and ends when told; says how many it has begun."""

    def __init__(self, origin, path, head, parts):
        self.release = threading.Semaphore(0)
        self.begun = 0
        self.lock = threading.Lock()
        self.head, self.parts = head, parts
        origin.on[path] = self.answer

    def answer(self, conn, _):
        with self.lock:
            self.begun += 1
        conn.send(self.head)
        for part in self.parts:
            if not self.release.acquire(timeout=PATIENCE * 2):
                raise Failed("a held answer was never let go")
            conn.send(part)

    def go(self, count=1):
        for _ in range(count):
            self.release.release()


FRESH = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 6\r\n\r\n"


def ask_all(t, sidecar, count, path, fields=()):
    clients = [t.client(sidecar) for _ in range(count)]
    for client in clients:
        client.send(make_request(path, fields=fields))
    return clients


def active(sidecar, count):
    wait_for(lambda: sidecar.metric("promptops_active_requests") >= count, "%d active requests" % count)


def test_pain_09_fifty_clients_one_fetch(t):
    for workers in (1, 2):
        with t.case("%d workers" % workers):
            origin = t.origin()
            held = Held(origin, "/key", b"", [FRESH + b"abc", b"def"])
            sidecar = t.sidecar(origin, {**PLAIN, "workers": workers, "pool.max_size": 60})
            clients = ask_all(t, sidecar, 50, "/key")
            active(sidecar, 50)
            held.go(2)
            answers = [client.response() for client in clients]
            equal({a.body for a in answers}, {b"abcdef"}, "bodies")
            equal(held.begun, 1, "fetches")
            check(any("collapsed" in a.get("Cache-Status", "") for a in answers), "no Cache-Status says collapsed")
            check(sidecar.metric("promptops_cache_coalesced_total") >= 1, "promptops_cache_coalesced_total")


def test_pain_09_an_expired_key_is_fetched_once(t):
    origin = t.origin()
    counted = Counted(origin, "/old", cc("max-age=60") + [("Age", "100"), ("ETag", '"a"')])
    sidecar = t.sidecar(origin, PLAIN)
    sidecar.request("/old")
    held = Held(origin, "/old", b"", [b"HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nCache-Control: max-age=600\r\n\r\n"])
    clients = ask_all(t, sidecar, 30, "/old")
    active(sidecar, 30)
    held.go()
    equal({client.response().body for client in clients}, {b"/old 1"}, "bodies")
    equal((held.begun, len(counted.seen)), (1, 1), "validations and fetches")


def test_waiters_get_the_bytes_as_they_come(t):
    origin = t.origin()
    held = Held(origin, "/stream", FRESH + b"abc", [b"def"])
    sidecar = t.sidecar(origin, PLAIN)
    clients = ask_all(t, sidecar, 5, "/stream")
    for client in clients:
        client.head()
        equal(client.exactly(3), b"abc", "first bytes, before the last are sent")
    late = t.client(sidecar)
    late.send(make_request("/stream"))
    late.head()
    equal(late.exactly(3), b"abc", "first bytes for one who came later")
    held.go()
    for client in clients + [late]:
        equal(client.exactly(3), b"def", "last bytes")
    equal(held.begun, 1, "fetches")


def test_the_first_client_leaves_and_the_others_are_served(t):
    origin = t.origin()
    held = Held(origin, "/left", b"", [FRESH + b"abc", b"def"])
    sidecar = t.sidecar(origin, PLAIN)
    first = t.client(sidecar)
    first.send(make_request("/left"))
    origin.wait_requests(1)
    others = ask_all(t, sidecar, 5, "/left")
    active(sidecar, 6)
    first.reset()
    held.go(20)
    equal({client.response().body for client in others}, {b"abcdef"}, "bodies")
    check(held.begun <= 2, "%d fetches" % held.begun)


def test_all_clients_leave_and_the_fetch_is_cancelled(t):
    origin = t.origin()
    Held(origin, "/left", b"", [FRESH])
    origin.on["/left"] = lambda conn, request: (conn.gone(), False)[1]
    sidecar = t.sidecar(origin, PLAIN)
    clients = ask_all(t, sidecar, 5, "/left")
    active(sidecar, 5)
    for client in clients:
        client.reset()
    # A leader that was handed the fetch may have dialled before it left too: that connection carried nothing and may be pooled.
    wait_for(lambda: origin.requests and all(c.reader.ended for c in origin.connections if c.requests), "the upstream request to be cancelled")
    wait_for(lambda: sidecar.metric("promptops_active_requests") == 0, "the requests to be forgotten")


def test_a_slow_waiter_does_not_hold_up_the_others(t):
    origin = t.origin()
    size = 6 << 20
    origin.on["/big"] = make_response(200, cc("max-age=60"), bytes(size))
    sidecar = t.sidecar(origin, {**PLAIN, "cache.max_object_bytes": "8MiB"})
    slow = t.client(sidecar, receive_buffer=4096)
    slow.send(make_request("/big"))
    quick = t.client(sidecar)
    origin.wait_requests(1)
    quick.send(make_request("/big"))
    equal(len(quick.response().body), size, "bytes for the quick one")
    equal(len(slow.response().body), size, "bytes for the slow one")


def test_a_reader_that_stands_still_is_cut_when_the_others_wait_for_it(t):
    """An answer too large to store is held for who reads along only so far: who does not read is cut, whoever came first."""
    size = 16 << 20
    for name, first_is_slow in [("who joined", False), ("whose request fetches", True)]:
        with t.case(name):
            origin = t.origin()
            release = threading.Event()

            def big(conn, _, release=release):
                conn.send(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n")
                release.wait(PATIENCE)
                conn.send(chunked(*[bytes(1 << 16)] * (size >> 16)))
            origin.on["/big"] = big
            sidecar = t.sidecar(origin, {**PLAIN, "cache.max_object_bytes": "64KiB"})
            first, second = (t.client(sidecar, receive_buffer=4096 if slow else None) for slow in (first_is_slow, not first_is_slow))
            first.send(make_request("/big"))
            heads = [first.head()]
            second.send(make_request("/big"))
            heads.append(second.head())
            check("collapsed" in heads[1].get("Cache-Status"), "the second reads along")
            release.set()
            (slow, slow_head), (quick, quick_head) = sorted(zip((first, second), heads), key=lambda pair: (pair[0] is first) != first_is_slow)
            quick.body(quick_head)
            equal((len(quick_head.body), origin.count("/big")), (size, 1), "bytes for the one that reads, fetches")
            try:
                slow.body(slow_head)
                raise Failed("the one that stood still got all of it")
            except Gone:
                pass


def test_a_failed_fetch_is_told_to_all_or_tried_again(t):
    origin = t.origin()
    release = threading.Event()
    begun = []

    def fail(conn, _):
        begun.append(1)
        release.wait(PATIENCE)
        conn.close()
        return False
    origin.on["/fail"] = fail
    sidecar = t.sidecar(origin, {**PLAIN, "pool.max_size": 30})
    clients = ask_all(t, sidecar, 10, "/fail")
    active(sidecar, 10)
    release.set()
    equal({client.response().status for client in clients}, {502}, "statuses")
    check(len(begun) <= 10, "%d fetches" % len(begun))


def test_a_fetch_cut_in_the_middle_is_visibly_cut_for_all(t):
    origin = t.origin()
    held = Held(origin, "/cut", FRESH + b"abc", [b""])
    inner = held.answer
    origin.on["/cut"] = lambda conn, request: (inner(conn, request), conn.reset(), False)[2]
    sidecar = t.sidecar(origin, PLAIN)
    clients = ask_all(t, sidecar, 5, "/cut")
    for client in clients:
        client.head()
        equal(client.exactly(3), b"abc", "first bytes")
    held.go(5)
    for client in clients:
        try:
            client.exactly(3)
            raise Failed("the answer went on")
        except Gone:
            pass


def test_pain_10_uncacheable_answers_are_not_serialised(t):
    """Once a key proved uncacheable, its requests go side by side."""
    origin = t.origin()
    sidecar = t.sidecar(origin, {**PLAIN, "pool.max_size": 30})
    origin.on["/un"] = make_response(200, cc("no-store"), b"x")
    sidecar.request("/un")
    held = Held(origin, "/un", b"", [make_response(200, cc("no-store"), b"mine")])
    clients = ask_all(t, sidecar, 10, "/un")
    wait_for(lambda: held.begun == 10, "ten requests side by side at the origin (%d)" % held.begun)
    held.go(10)
    equal({client.response().body for client in clients}, {b"mine"}, "bodies")


def test_pain_10_the_first_uncacheable_answer_frees_the_waiters(t):
    """They waited for a fill that turned out theirs to share with nobody: each gets an answer of its own, soon."""
    origin = t.origin()
    number = [0]
    lock = threading.Lock()
    release = threading.Event()

    def answer(conn, _):
        with lock:
            number[0] += 1
            mine = number[0]
        release.wait(PATIENCE)
        time.sleep(0.1)                 # what a request costs at the origin: ten in a row would be seen
        conn.reply(200, cc("no-store"), b"%d" % mine)
    origin.on["/un"] = answer
    sidecar = t.sidecar(origin, {**PLAIN, "pool.max_size": 30})
    clients = ask_all(t, sidecar, 20, "/un")
    active(sidecar, 20)
    started = time.monotonic()
    release.set()
    bodies = {client.response().body for client in clients}
    equal(len(bodies), 20, "different bodies: an uncacheable answer is for one only")
    check(time.monotonic() - started < 1.5, "%.1f s: one after the other" % (time.monotonic() - started))


PARTITIONS = [("Authorization", "Bearer a", "Bearer b"), ("Authorization", "Token po_a", "Token po_b"), ("Authorization", "Bearer a", None),
              ("Authorization", None, "Bearer a"), ("X-API-Key", "a", "b"), ("Cookie", "s=a", "s=b"), ("Authorization", "Bearer a", "bearer a"), ("Authorization", "Bearer a", "Bearer a ,b")]


def one_field(name, value):
    return [] if value is None else [(name, value)]


def test_pain_11_no_answer_crosses_credentials(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, PLAIN)
    for number, (name, one, two) in enumerate(PARTITIONS):
        for directive in ("max-age=60", "private, max-age=60", "public, max-age=60"):
            with t.case("%s: %s and %s, %s" % (name, one, two, directive)):
                path = "/secret%d%s" % (number, directive.partition(",")[0])
                counted = Counted(origin, path, cc(directive) + [("X-For", "")])
                first = sidecar.request(path, fields=one_field(name, one)).body
                other = sidecar.request(path, fields=one_field(name, two)).body
                check(first != other, "the answer of one credential was served to another")
                equal(sidecar.request(path, fields=one_field(name, one)).body, first, "one's own answer again")
                equal(len(counted.seen), 2, "requests at the origin")


def test_pain_11_coalescing_does_not_cross_credentials(t):
    origin = t.origin()
    held = Held(origin, "/both", b"", [FRESH + b"abcdef"])
    sidecar = t.sidecar(origin, {**PLAIN, "pool.max_size": 30})
    mine, yours = ask_all(t, sidecar, 5, "/both", [("Authorization", "Bearer a")]), ask_all(t, sidecar, 5, "/both", [("Authorization", "Bearer b")])
    wait_for(lambda: held.begun == 2, "one fetch for each credential (%d)" % held.begun)
    active(sidecar, 10)
    held.go(2)
    equal({client.response().status for client in mine + yours}, {200}, "statuses")
    equal(sorted(r.get("Authorization") for r in origin.requests), ["Bearer a", "Bearer b"], "requests at the origin")


def test_pain_11_the_credential_is_in_no_dump(t):
    origin = t.origin()
    secret = "po_NOTTOBESEENANYWHERE00001"
    sidecar = t.sidecar(origin, {**PLAIN, "log.access": True, "log.level": "debug"})
    Counted(origin, "/dump", cc("max-age=60"))
    sidecar.request("/dump", fields=[("Authorization", "Bearer " + secret)])
    for path in ("/api/v1/cache/entries", "/api/v1/cache", "/api/v1/snapshot", "/api/v1/requests", "/metrics", "/api/v1/config"):
        with t.case(path):
            check(secret not in str(sidecar.admin(path)), "it tells the credential")
    check(not sidecar.logged(secret), "the log tells the credential")


def test_pain_12_authorised_answers_are_cached_in_their_partition(t):
    origin = t.origin()
    counted = Counted(origin, "/auth", cc("max-age=60"))
    sidecar = t.sidecar(origin, PLAIN)
    fields = [("Authorization", "Bearer a")]
    check("stored" in sidecar.request("/auth", fields=fields).get("Cache-Status"), "Cache-Status of the first")
    check("hit" in sidecar.request("/auth", fields=fields).get("Cache-Status"), "Cache-Status of the second")
    equal(len(counted.seen), 1, "requests at the origin")


def test_signatures_are_no_part_of_the_key(t):
    """Timestamp, nonce and signature differ on every request and say nothing about who asks. More in test_28."""
    origin = t.origin()
    counted = Counted(origin, "/signed", cc("max-age=60"))
    sidecar = t.sidecar(origin, PLAIN)
    for number in range(5):
        sidecar.request("/signed", fields=python_client("GET", "/signed", key="po_a", when=time.time() - number, nonce="n%d" % number))
    equal(len(counted.seen), 1, "requests at the origin")


def test_a_refused_credential_loses_its_partition(t):
    """After 401 or 403 its stored answers are not served any more; a rate limit in disguise changes nothing."""
    for status, body, kept in [(401, b'{"detail":"Invalid API key"}', False), (403, b'{"detail":"Forbidden"}', False), (401, b'{"detail":"Rate limit exceeded"}', True)]:
        with t.case("%d %s" % (status, body.decode())):
            origin = t.origin()
            counted = Counted(origin, "/mine", cc("max-age=60"))
            sidecar = t.sidecar(origin, {**PLAIN, "rate_limit.enable_rate_limit_detection": True, "rate_limit.mode": "observe"})
            fields = [("Authorization", "Bearer a")]
            sidecar.request("/mine", fields=fields)
            origin.on["/other"] = make_response(status, [("Content-Type", "application/json")], body)
            equal(sidecar.request("/other", fields=fields).status, status, "status")
            sidecar.request("/mine", fields=fields)
            equal(len(counted.seen), 1 if kept else 2, "requests at the origin")


def test_a_shared_cache_collapses_across_credentials_only_when_public(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, {**PLAIN, "cache.scope": "shared"})
    Counted(origin, "/pub", cc("public, max-age=60"))
    counted = Counted(origin, "/auth", cc("max-age=60"))
    bodies = {sidecar.request("/auth", fields=[("Authorization", a)]).body for a in ("Bearer a", "Bearer b")}
    equal((len(bodies), len(counted.seen)), (2, 2), "bodies and requests at the origin")
