"""No byte crosses partitions: whatever is asked in whatever order, an answer was made for who asks, and after the last purge or refusal (pain 11)."""
import random
import threading

from harness import *
from test_30_cache import PLAIN, date

# What says who asks: fields in the order sent. Some are made to look alike to a careless key.
PRINCIPALS = [
    (), (("Authorization", "Bearer a"),), (("Authorization", "Bearer b"),), (("Authorization", "bearer a"),), (("Authorization", "Bearer a,b"),),
    (("X-API-Key", "Bearer a"),), (("Cookie", "Bearer a"),), (("Authorization", "Bearer a"), ("Cookie", "s=1")), (("Authorization", "Bearer a"), ("Cookie", "s=2")),
    (("Authorization", "Bearer a"), ("X-API-Key", "s=1")), (("X-API-Key", "a"), ("X-API-Key", "b")), (("X-API-Key", "a, b"),), (("X-API-Key", "ab"),), (("X-API-Key", ""),),
    (("Cookie", "a=1"), ("Cookie", "b=2")), (("Cookie", "a=1; b=2"),), (("Cookie", "b=2; a=1"),)]
NAMES = ("authorization", "x-api-key", "cookie")
PATHS = ["/v1/a", "/v1/b?x=1", "/v1/b?x=2", "/v2/c"]
TOKENS = 24
ROUNDS = 1500


def principal_of(request):
    """As the origin sees it: which fields, in which order of names, with which values."""
    return tuple((name, value) for wanted in NAMES for name, value in ((n.lower(), v) for n, v in request.fields) if name == wanted)


class World:
    """An origin whose every body tells for whom, for what and when it was made, byte by byte."""

    def __init__(self, origin):
        self.lock = threading.Lock()
        self.number = 0
        self.made = {}            # ETag -> (principal, path, language, number, body)
        self.refuse = {}          # principal -> (status, body)
        for path in {p.split("?")[0] for p in PATHS} | {"/refused"}:
            origin.on[path] = self.answer

    def answer(self, conn, request):
        principal, language = principal_of(request), request.get("X-Language", "")
        with self.lock:
            self.number += 1
            number = self.number
        if request.target == "/refused":
            conn.reply(*self.refuse[principal])
            return
        kind = number % 7
        etag = ('W/"%d"' if kind == 3 else '"%d"') % number
        body = (b"%08d;" % number) * TOKENS
        with self.lock:
            self.made[etag] = (principal, request.target, language if kind % 2 else None, number, body)
        fields = [("Date", date()), ("ETag", etag), ("Cache-Control", ["max-age=60", "private, max-age=60", "public, max-age=60", "max-age=60", "max-age=0", "no-store", "max-age=1"][kind])]
        if kind % 2:
            fields.append(("Vary", "X-Language"))
        wanted = request.get("Range")
        if request.method == "POST":
            conn.reply(200, fields + [("Content-Location", request.target)], body)
        elif wanted and not request.has("If-Range"):
            first, last = (int(n) for n in wanted[6:].split("-"))
            conn.reply(206, fields + [("Content-Range", "bytes %d-%d/%d" % (first, last, len(body)))], body[first:last + 1])
        else:
            conn.reply(200, fields, body if request.method != "HEAD" else b"")


def judge(world, response, principal, path, language, after):
    etag = response.get("ETag")
    made_for, made_path, made_language, number, body = world.made[etag]
    equal(made_for, principal, "whom the answer was made for")
    equal(made_path, path, "which path it was made for")
    check(made_language in (None, language), "it was made for X-Language %r, not %r" % (made_language, language))
    check(number > after, "answer %d is from before the purge or refusal at %d" % (number, after))
    if response.status == 206:
        first, last = (int(n) for n in response.get("Content-Range")[6:].split("/")[0].split("-"))
        equal(response.body, body[first:last + 1], "the bytes of the part")
    elif response.status == 200 and response.body:
        equal(response.body, body, "the bytes")


@slow(180)
def test_pain_11_random_principals_purges_and_refusals(t):
    origin = t.origin()
    world = World(origin)
    sidecar = t.sidecar(origin, {**PLAIN, "workers": 2, "cache.max_size": 60})
    hits = 0
    for seed in range(3):
        rng = random.Random(seed)
        after = {}                # (principal, path) -> the number before which nothing may be served
        with t.case("seed %d" % seed):
            clients = [t.client(sidecar) for _ in range(4)]
            for _ in range(ROUNDS // 3):
                fields, path, language = rng.choice(PRINCIPALS), rng.choice(PATHS), rng.choice(["", "de", "en"])
                principal = tuple((n.lower(), v) for n, v in sorted(fields, key=lambda f: NAMES.index(f[0].lower())))
                client, dice = rng.choice(clients), rng.random()
                more = [("X-Language", language)] if language else []
                if dice < 0.03:
                    status, text, real = rng.choice([(401, b'{"detail":"Invalid API key"}', True), (403, b"{}", True), (401, b'{"detail":"Rate limit exceeded"}', False)])
                    world.refuse[principal] = (status, [], text)
                    equal(client.request("/refused", fields=list(fields)).status, status, "status")
                    if real and fields:
                        after.update({(principal, p): world.number for p in PATHS})
                    continue
                if dice < 0.06:
                    purge = rng.choice([{"all": True}, {"prefix": "/v1/"}, {"key": path}])
                    equal(sidecar.admin("/api/v1/cache/purge", "POST", purge)[0], 200, "purge")
                    gone = [p for p in PATHS if "all" in purge or p.startswith(purge.get("prefix", "\0")) or p == purge.get("key")]
                    after.update({(tuple((n.lower(), v) for n, v in sorted(f, key=lambda x: NAMES.index(x[0].lower()))), p): world.number for f in PRINCIPALS for p in gone})
                    continue
                method = "POST" if dice < 0.1 else "HEAD" if dice < 0.15 else "GET"
                if method == "GET" and dice < 0.3:
                    first = rng.randrange(100)
                    more.append(("Range", "bytes=%d-%d" % (first, first + rng.randrange(100))))
                response = client.request(path, method, list(fields) + more, **({"body": b"x"} if method == "POST" else {}))
                judge(world, response, principal, path, language, after.get((principal, path), 0))
                hits += "; hit" in response.get("Cache-Status")
                if method == "POST":      # an unsafe request: what was stored before is no longer true
                    after[(principal, path)] = world.made[response.get("ETag")][3] - 1
    check(hits > ROUNDS / 50, "%d hits in %d requests: the test would prove nothing" % (hits, ROUNDS))


def test_pain_11_the_same_at_the_same_time(t):
    """Principals side by side on the same paths, coalesced on two workers."""
    origin = t.origin()
    world = World(origin)
    sidecar = t.sidecar(origin, {**PLAIN, "workers": 2, "pool.max_size": 40})

    def one(seed):
        rng = random.Random(seed)
        with sidecar.client() as client:
            for _ in range(120):
                fields, path, language = rng.choice(PRINCIPALS[:6]), rng.choice(PATHS), rng.choice(["", "de"])
                principal = tuple((n.lower(), v) for n, v in fields)
                response = client.request(path, fields=list(fields) + ([("X-Language", language)] if language else []))
                judge(world, response, principal, path, language, 0)
        return True
    equal([job.result() for job in [t.thread(one, seed) for seed in range(8)]], [True] * 8, "all went well")
    check(sidecar.metric("promptops_cache_hits_total") > 50, "hits")


def test_who_loses_what_by_a_refusal(t):
    """401 to whatever it did, and 403 to a read, cost a credential what is stored for it; nobody else, and nothing of a shared cache."""
    fields = [("Authorization", "Bearer a")]
    rows = [("private", "GET", 401, 2), ("private", "GET", 403, 2), ("private", "POST", 401, 2), ("private", "DELETE", 401, 2), ("private", "POST", 403, 1), ("private", "GET", 404, 1),
            ("shared", "GET", 401, 1), ("shared", "GET", 403, 1), ("shared", "POST", 401, 1)]
    for scope, method, status, wanted in rows:
        with t.case("%s, %s, %d" % (scope, method, status)):
            origin = t.origin()
            sidecar = t.sidecar(origin, {**PLAIN, "cache.scope": scope})
            origin.on["/mine"] = origin.on["/other"] = make_response(200, [("Cache-Control", "public, max-age=60")], b"x")
            for path, who in (("/mine", fields), ("/other", [("Authorization", "Bearer b")])):
                sidecar.request(path, fields=who)
            origin.on["/no"] = make_response(status, [], b"{}")
            sidecar.request("/no", method, fields)
            for path, who in (("/mine", fields), ("/other", [("Authorization", "Bearer b")])):
                sidecar.request(path, fields=who)
            equal((origin.count("/mine"), origin.count("/other")), (wanted, 1), "requests at the origin")
