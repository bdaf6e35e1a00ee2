"""Chance as the adversary: messages that are changed at random, cut, reset and delayed in any place, on either side.

After each the next request must get its own answer, and nothing else; what the origin read must be what a strict reader
makes of the client's bytes; and when all is over nothing may be left in the sidecar. The seed of a round that fails is told:
WIRE_SOUP_SEED=n repeats it, WIRE_SOUP=n makes so many rounds of each kind.
"""
import os
import random
import select
import socket
import time

from harness import *

ROUNDS = int(os.environ.get("WIRE_SOUP", "30"))
SEED = os.environ.get("WIRE_SOUP_SEED")

ODD = [b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\0", b" ", b"\t", b"\x0b", b"\x7f", b"\xff", b":", b";", b",", b"0", b"-", b"+", b"#", b"*", b"/", b"\"", b"\\",
       b" \r\n", b"\r\n ", b"0\r\n\r\n", b"Content-Length: 0\r\n", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n",
       b"Host: b\r\n", b"Expect: 100-continue\r\n", b"Transfer-Encoding: identity\r\n", b"HTTP/1.0", b"HTTP/1.1 200 OK\r\n\r\n", b"GET /R/smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
       b"Upgrade: websocket\r\nConnection: upgrade\r\n", b"x" * 300, b"X: " + b"y" * 9000 + b"\r\n", b"7fffffffffffffff", b"ffffffffffffffff"]

REQUESTS = [
    b"GET /R/r HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /R/r?a=b HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"HEAD /R/r HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /R/r HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    b"PUT /R/r HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=\"y\"\r\n world\r\n0\r\nT: u\r\n\r\n",
    b"POST /R/r HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
    b"OPTIONS /R/* HTTP/1.1\r\nHost: a\r\nMax-Forwards: 3\r\n\r\n",
    b"GET http://a/R/r HTTP/1.1\r\nHost: a\r\nConnection: X-Y\r\nX-Y: z\r\n\r\n",
    b"GET /R/r HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
]

ANSWERS = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=\"y\"\r\n world\r\n0\r\nT: u\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\nhello",
    b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nContent-Length: 5\r\n\r\n",
    b"HTTP/1.1 404 Not Found\r\nCache-Control: max-age=60\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 0\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\nraw",
    b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 70000\r\n\r\n" + b"z" * 70000,
    b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-4/10\r\nContent-Length: 5\r\n\r\nhello",
]


def changed(dice, data):
    """Some bytes more, fewer, doubled or others; often none."""
    for _ in range(dice.choice([0, 0, 1, 1, 1, 2, 3])):
        at = dice.randrange(len(data) + 1)
        to = min(len(data), at + dice.choice([0, 0, 1, 1, 2, 5, 20]))
        kind = dice.randrange(4)
        if kind == 0:
            data = data[:at] + dice.choice(ODD) + data[to:]
        elif kind == 1:
            data = data[:at] + data[to:]
        elif kind == 2:
            data = data[:to] + data[at:to] + data[to:]
        else:
            data = data[:at] + bytes([dice.randrange(256)]) + data[at + 1:]
    return data


def deliver(dice, sock, data):
    """In pieces, with pauses now and then; perhaps not to its end. Gives how it ended: None, or what was done."""
    end = len(data) if dice.random() < 0.7 else dice.randrange(len(data) + 1)
    at = 0
    try:
        while at < end:
            n = dice.choice([1, 2, 7, 40, 1000, end])
            sock.sendall(data[at:min(end, at + n)])
            at += n
            if dice.random() < 0.1:
                time.sleep(0.001)      # so that pieces arrive apart
        how = dice.choice([None, "half"] + ["close", "reset"] * 4) if end < len(data) else dice.choice([None] * 5 + ["half", "close", "reset"])
        if how == "half":
            sock.shutdown(socket.SHUT_WR)
        elif how == "close":
            sock.close()
        elif how == "reset":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            sock.close()
        return how
    except OSError:
        return "broken"


CONFIG = {"pool.max_size": 8, "listen.header_timeout": "200ms", "listen.idle_timeout": "200ms", "upstream.response_timeout": "1s",
          "upstream.stream_idle_timeout": "500ms", "pool.acquire_timeout": "10s"}
KINDS = [("plain", {}), ("cached", {"cache.enabled": True, "cache.default_ttl": 60, "cache.stale_if_error": "1h"}),
         ("retried", {"retry.max_attempts": 3, "retry.base_delay": "1ms", "retry.budget": 1.0, "hedge": None, "workers": 2})]


def rounds(t, act, sidecar, origin):
    """Each round with dice of its own; a failure tells them."""
    base = random.SystemRandom().randrange(1 << 30)
    for number in [int(SEED)] if SEED else range(base, base + ROUNDS):
        dice = random.Random(number)
        try:
            act(dice, sidecar, origin)
        except Exception as error:
            raise Failed("WIRE_SOUP_SEED=%d: %r" % (number, error)) from error
        if not sidecar.alive():
            raise Failed("WIRE_SOUP_SEED=%d: the sidecar has ended\n%s" % (number, sidecar.tail()))


def nothing_left(sidecar):
    """Requests, waiting ones and clients are gone; connections to the upstream are idle or none."""
    settles(lambda: sidecar.metric("promptops_active_requests"), 0, "active requests")
    settles(lambda: sidecar.metric("promptops_pool_connections", state="active"), 0, "busy connections")


def canary(sidecar, number):
    """The next request has its own answer."""
    with sidecar.client() as client:
        response = client.request("/canary/%d" % number)
        equal((response.status, response.body), (200, b"canary %d" % number), "the next answer")


def sing(conn, request):
    conn.reply(body=b"canary " + request.target.rsplit("/", 1)[1].encode())


def reads_strictly(data):
    """What a strict reader makes of a client's bytes: (method, target, body) of the requests before the first fault."""
    ours, theirs = socket.socketpair()
    got = []
    with ours, theirs:
        sender = Beside(lambda: (ours.sendall(data), ours.shutdown(socket.SHUT_WR)), ())
        reader = Reader(theirs, 5)
        try:
            while True:
                if reader.buffer[:2] == b"\r\n" or not reader.buffer and reader.more() and reader.buffer[:2] == b"\r\n":
                    del reader.buffer[:2]          # one empty line before a request is tolerated
                request = read_request(reader)
                got.append((request.method, request.target, bytes(request.body)))
        except (Gone, Failed):
            pass
        theirs.close()
        try:
            sender.result()
        except OSError:
            pass
    return got


def client_soup(dice, sidecar, origin):
    number = dice.randrange(1 << 30)
    data = changed(dice, b"".join(dice.choice(REQUESTS) for _ in range(dice.choice([1, 1, 2, 4])))).replace(b"/R/", b"/%d/" % number)
    origin.sent[str(number)] = data
    client = sidecar.client()
    with client:
        how = deliver(dice, client.sock, data)
        if how in (None, "half"):
            drain(client)
    canary(sidecar, number)


def judge(origin):
    """Whatever reached the origin is a request that a strict reader finds in what a client sent: that round's, as far as
    the target still has its number."""
    read = {number: reads_strictly(data) for number, data in origin.sent.items()}
    everything = [request for requests in read.values() for request in requests]
    for request in list(origin.requests):
        if request.target.startswith("/canary/"):
            continue
        number = request.target.split("/")[1] if request.target.count("/") > 1 else ""
        seen = (request.method, request.target, bytes(request.body))
        check(any(same_request(seen, wanted) for wanted in read.get(number, everything)),
              "the origin read %r, which is not in what the client sent: %r" % (seen, origin.sent.get(number)))


def same_request(seen, wanted):
    target = wanted[1]
    if target.startswith("http://"):
        rest = target[7:]
        target = rest[rest.index("/"):] if "/" in rest else "*" if wanted[0] == "OPTIONS" else "/"
    return (seen[0], seen[1], seen[2]) == (wanted[0], target, wanted[2])


def drain(client):
    """Reads strictly what comes, as answers to requests of which some may be HEAD."""
    try:
        end = time.monotonic() + 5
        while time.monotonic() < end and client.reader.more(end):
            pass
    except Slow:
        raise Failed("neither an answer nor an end")


@slow(60 + ROUNDS)
def test_soup_from_the_client(t):
    for name, config in KINDS:
        with t.case(name):
            origin = t.origin()
            origin.default = make_response(200, [("Cache-Control", "max-age=1")], b"ok")
            origin.sent = {}
            serve_canaries(origin)
            sidecar = t.sidecar(origin, {k: v for k, v in {**CONFIG, **config}.items() if v is not None})
            rounds(t, client_soup, sidecar, origin)
            nothing_left(sidecar)
            judge(origin)
            check(origin.count() > ROUNDS, "%d requests at the origin" % origin.count())


def serve_canaries(origin, other=None):
    plain = origin.on

    class Table(dict):
        def get(self, path, default=None):
            if path.startswith("/canary/"):
                return sing
            return other if other else plain.get(path, default)
    origin.on = Table()


def origin_soup(dice, sidecar, origin):
    data = changed(dice, dice.choice(ANSWERS))
    number = dice.randrange(1 << 30)
    origin.soup = (dice, data)
    method, fields, body = dice.choice([("GET", [], None), ("GET", [("TE", "trailers"), ("Connection", "TE")], None), ("HEAD", [], None), ("POST", [], b"hello"),
                                        ("PUT", [], b"x" * 100000), ("POST", [("Expect", "100-continue")], b"hello"),
                                        ("GET", [("Connection", "upgrade"), ("Upgrade", "websocket")], None)])
    with sidecar.client() as client:
        client.send_if_open(make_request("/soup/%d" % number, method, fields, body, version=dice.choice(["1.1", "1.1", "1.0"]))
                            + make_request("/canary/%d" % number))
        try:
            response = client.response(method)
            if response.status != 101:
                follow(client, response, number)
        except (Gone, ConnectionResetError):
            pass
    canary(sidecar, number)


def follow(client, response, number):
    """On the same connection, if it lives: the next answer is the canary's."""
    try:
        after = client.response()
    except (Gone, ConnectionResetError):
        return
    equal((after.status, after.body), (200, b"canary %d" % number), "the next answer on the connection, behind %r" % response)


def pour_soup(conn, request):
    dice, data = conn.origin.soup
    how = deliver(dice, conn.sock, data)
    if how in ("close", "reset", "broken"):
        conn.open = False
        conn.sock.close()
        return False
    return True    # the sidecar judges whether the connection can be used again


@slow(60 + ROUNDS)
def test_soup_from_the_origin(t):
    for name, config in KINDS:
        with t.case(name):
            origin = t.origin()
            serve_canaries(origin, pour_soup)
            sidecar = t.sidecar(origin, {k: v for k, v in {**CONFIG, **config}.items() if v is not None})
            rounds(t, origin_soup, sidecar, origin)
            nothing_left(sidecar)
            sidecar.admin("/api/v1/cache/purge", "POST", {"all": True})    # bodies that are kept hold a descriptor each
