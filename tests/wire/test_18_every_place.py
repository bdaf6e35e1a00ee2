"""Messages with one byte more, fewer or another, in every place (RFC 9112): each is accepted as lib/judge.py says, or refused and
nothing of it, or behind it, passed on. Some by chance; WIRE_EVERY=1 takes all, some fifty thousand."""
import os
import random

from harness import *
from lib.judge import answer_of, requests_of

SHARE = int(os.environ.get("WIRE_EVERY", "20"))    # one in so many

REQUESTS = [
    b"GET /r HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /r?a=b HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"POST /r HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    b"PUT /r HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=\"y\"\r\n world\r\n0\r\nT: u\r\n\r\n",
    b"GET http://a:80/r HTTP/1.1\r\nHost: a\r\nX-Y: z\r\n\r\n",
    b"POST /r HTTP/1.1\r\nHost: [::1]:80\r\nContent-Length: 30\r\nConnection: x-a\r\nX-A: b\r\n\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
]

ANSWERS = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Y: z\r\n\r\n5\r\nhello\r\n6;x=\"y\"\r\n world\r\n0\r\nT: u\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\nhello",
    b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nContent-Length: 5\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 34\r\nConnection: close\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length:0\r\n",
]

ODD = [bytes([byte]) for byte in b"\r\n\0 \t\x0b\x0c\x7f\x80\xa0:,;0+-#@\\\"/"] + [b"\r\n", b"\r\n ", b"\r\n\t", b"\r\n\r\n", b"\n\n", b"\r\r\n", b"\xef\xbb\xbf"]


def changed(message):
    """The message as it is, then with each change in each place."""
    yield message
    for at in range(len(message) + 1):
        before, here, after = message[:at], message[at:at + 1], message[at + 1:]
        for odd in ODD:
            yield before + odd + here + after
        if here:
            yield before + after
            yield before + here + here + after
            yield from (before + odd + after for odd in ODD if len(odd) == 1 and odd != here)


def some(messages):
    seed = random.SystemRandom().randrange(1 << 30)
    dice = random.Random(seed)
    return [data for message in messages for number, data in enumerate(changed(message)) if number == 0 or not dice.randrange(SHARE)]


def answers_to(client, methods):
    """All answers until the connection ends, which it must without a reset."""
    found = []
    try:
        while True:
            found.append(client.response(methods[len(found)] if len(found) < len(methods) else "GET"))
    except Incomplete as cut:
        raise Failed("an answer that breaks off: %r" % cut.message)
    except Gone as gone:
        equal(gone.how, "eof", "end of the connection")
    return found


def ask(sidecar, origin, data):
    """The client sends all and ends its side: what it must see, and what the origin must."""
    wanted, end = requests_of(data)
    before = origin.count()
    with sidecar.client() as client:
        client.send_if_open(data)
        try:
            client.half_close()
        except OSError:
            pass    # refused and closed before its end was sent
        answers = answers_to(client, [method for method, _, _ in wanted])
    equal([(r.method, r.target, bytes(r.body)) for r in origin.requests[before:]], wanted, "requests at the origin")
    equal([a.status for a in answers[:len(wanted)]], [200] * len(wanted), "answers to what is good")
    for refusal in answers[len(wanted):]:
        made_up(refusal, refusal.status)
        check("close" in refusal.members("Connection"), "no Connection: close")
        check(refusal.status in ((400, 405, 417, 501, 505) if end == "bad" else (400, 408)), "status %d" % refusal.status)
    left = len(answers) - len(wanted)
    check(left == 1 if end == "bad" else left == 0 or end == "more", "%d answers more, for what ends in %r" % (left, end))


@slow(60 + 600 // SHARE)
def test_9112_requests_that_are_changed_in_every_place(t):
    origin = t.origin()
    for name, config in [("", {}), ("cached", {"cache.enabled": True, "cache.default_ttl": 0, "retry.max_attempts": 3})]:
        sidecar = t.sidecar(origin, config)
        wrong = []
        for data in some(REQUESTS):
            try:
                ask(sidecar, origin, data + b"GET /tail HTTP/1.1\r\nHost: a\r\n\r\n")
            except (Failed, OSError) as error:
                wrong.append("%r: %s" % (data, error))
        with t.case("requests" + name):
            check(not wrong, "%d are not taken as they should be:\n%s" % (len(wrong), "\n".join(wrong[:20])))


def see(client, method):
    """(status, body) of what came: body None when it breaks off."""
    client.send(make_request("/x", method))
    try:
        answer = client.response(method)
        if answer.status == 502:
            made_up(answer, 502)
            return None, None
        return answer.status, bytes(answer.body)
    except Incomplete as cut:
        return cut.message.status if cut.message else None, None


@slow(60 + 600 // SHARE)
def test_9112_answers_that_are_changed_in_every_place(t):
    origin = t.origin()
    now = [b""]
    origin.on["/x"] = lambda conn, request: (conn.send(now[0]), conn.half_close(), conn.gone(), False)[3]
    sidecar = t.sidecar(origin, {"upstream.response_timeout": "5s"})
    wrong = []
    for number, data in enumerate(some(ANSWERS)):
        method = "HEAD" if number % 5 == 4 else "GET"
        wanted = answer_of(data, method)
        now[0] = data
        try:
            with sidecar.client() as client:
                got = see(client, method)
            check(got == wanted or wanted[1] is None and got == (None, None), "%s: got %r, wanted %r" % (method, got, wanted))
            if number % 50 == 0:
                equal(sidecar.request("/good").body, b"ok", "the next answer")
        except (Failed, OSError, Gone) as error:
            wrong.append("%r: %s" % (data, error))
    with t.case("answers"):
        check(not wrong, "%d are not taken as they should be:\n%s" % (len(wrong), "\n".join(wrong[:20])))
