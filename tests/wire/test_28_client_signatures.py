"""Requests that their client has signed itself, and what partitions the cache: pain 22 (signed requests that are retried), 11 and 12
(whose stored answer is shown to whom)."""
import threading
import time

from harness import *
from lib.credentials import API_KEY, SECRET_KEY, Api, Mounted, documented_client, is_signed, naive_utc, python_client, python_signature
from test_23_retry import RETRY, drop, flaky, reset_it, say

CACHE = {"cache.enabled": True, "cache.default_ttl": "1h"}
OTHER = "po_otherTenant0000000000001"


def counted(origin, path="/p"):
    """Answers with a number of its own each time, and whose request it was."""
    origin.on[path] = lambda conn, r: conn.reply(body=b"%d %s" % (origin.count(r.target), r.get("Authorization", "none").encode()))


def status_of(response):
    return response.get("Cache-Status")


# ---- the cache ----

def test_pain_12_the_python_clients_requests_hit(t):
    """Timestamp, nonce and signature differ on each request, and split nothing."""
    origin = t.origin()
    counted(origin)
    sidecar = t.sidecar(origin, CACHE)
    with sidecar.client() as client:
        first = client.request("/p?a=b", fields=python_client("GET", "/p?a=b"))
        for when in (time.time() - 200, time.time(), time.time() + 200):
            again = client.request("/p?a=b", fields=python_client("GET", "/p?a=b", when=when))
            check("; hit" in status_of(again), "Cache-Status: %s" % status_of(again))
            equal(again.body, first.body, "body")
        with t.case("signed before the library added the query, as that client does"):
            fields = python_client("GET", "/p")
            check("; hit" in status_of(client.request("/p?a=b", fields=fields)), "not a hit")
        with t.case("HEAD"):
            check("; hit" in status_of(client.request("/p?a=b", "HEAD", fields=python_client("HEAD", "/p?a=b"))), "not a hit")
        with t.case("another tenant"):
            other = client.request("/p?a=b", fields=python_client("GET", "/p?a=b", key=OTHER))
            check("fwd=uri-miss" in status_of(other) and other.body != first.body, "%s %r" % (status_of(other), other.body))
    equal(origin.count(), 2, "requests at the origin")
    equal(sidecar.metric("promptops_unchecked_signatures_total"), 0, "unchecked signatures")


def forgeries():
    good = lambda **more: python_client("GET", "/p", **more)
    change = lambda name, value: [(n, value if n == name else v) for n, v in good()]
    return [
        ("somebody's key and any signature", change("X-PromptOps-Signature", "0" * 64)),
        ("the signature of another key", change("Authorization", "PromptOps " + API_KEY[:-1] + "2")[:1] + good()[1:]),
        ("another path's signature", [("Authorization", "PromptOps " + API_KEY)] + python_client("GET", "/q")[1:]),
        ("another method's", python_client("POST", "/p")),
        ("a stale timestamp", good(when=time.time() - 310)),
        ("a timestamp of the future", good(when=time.time() + 310)),
        ("no nonce", [f for f in good() if f[0] != "X-PromptOps-Nonce"]),
        ("no signature", good()[:3]),
        ("the key alone", good()[:1]),
        ("two signatures", good() + [("X-PromptOps-Signature", "0" * 64)]),
        ("two credentials", good() + [("Authorization", "Bearer " + OTHER)]),
    ]


def test_pain_11_a_forged_signature_is_shown_nothing(t):
    """Neither what is stored, nor what is being fetched, nor what is stale; and its refusal costs the owner nothing."""
    origin = t.origin()
    counted(origin)
    sidecar = t.sidecar(origin, {**CACHE, "cache.stale_if_error": "1h"})
    with sidecar.client() as client:
        first = client.request("/p", fields=python_client("GET", "/p"))
        for name, fields in forgeries():
            with t.case(name):
                origin.on["/p"] = lambda conn, r: conn.reply(401, body=b'{"detail":"Invalid signature"}')
                forged = client.request("/p", fields=fields)
                equal((forged.status, forged.body), (401, b'{"detail":"Invalid signature"}'), "answer")
                check("fwd=bypass" in status_of(forged) and "unchecked-signature" in status_of(forged) or name == "the signature of another key",
                      "Cache-Status: %s" % status_of(forged))
                origin.on["/p"] = lambda conn, r: conn.reply(503)
                equal(client.request("/p", fields=fields).status, 503, "status, the origin being down")
                owner = client.request("/p", fields=python_client("GET", "/p"))
                check("; hit" in status_of(owner) and owner.body == first.body, "the owner: %s %r" % (status_of(owner), owner.body))
        check(sidecar.metric("promptops_unchecked_signatures_total") >= 20, "not counted")
        with t.case("a write that was signed by nobody"):
            origin.on["/p"] = lambda conn, r: conn.reply(401, [("Cache-Control", "max-age=60"), ("Content-Location", "/p")], b'{"detail":"Invalid signature"}')
            for name, fields in forgeries():
                for method in ("POST", "PUT", "DELETE"):
                    equal(client.request("/p", method, fields=fields, body=b"{}").status, 401, "status, %s, %s" % (method, name))
            owner = client.request("/p", fields=python_client("GET", "/p"))
            check("; hit" in status_of(owner) and owner.body == first.body, "the owner: %s %r" % (status_of(owner), owner.body))
    with t.case("it joins nobody"):
        gate = threading.Event()
        origin.on["/slow"] = lambda conn, r: (gate.wait(PATIENCE), conn.reply(body=b"the owner's"))[1] if len(r.get("X-PromptOps-Signature")) == 64 and r.get("X-PromptOps-Signature") != "0" * 64 else conn.reply(401)
        owner = t.thread(lambda: sidecar.request("/slow", fields=python_client("GET", "/slow")))
        origin.wait_requests(1, "/slow")
        forged = [("Authorization", "PromptOps " + API_KEY)] + python_client("GET", "/slow")[1:3] + [("X-PromptOps-Signature", "0" * 64)]
        equal(sidecar.request("/slow", fields=forged).status, 401, "status")
        gate.set()
        equal(owner.result().body, b"the owner's", "the owner's answer")


def test_pain_11_a_signature_that_only_the_api_can_check(t):
    """The documented scheme's secret is not here: such requests always go up, and store nothing that the key alone would find."""
    origin = t.origin()
    counted(origin)
    sidecar = t.sidecar(origin, CACHE)
    with sidecar.client() as client:
        for number in range(1, 4):
            answer = client.request("/p", fields=documented_client("GET", "/p"))
            equal(answer.body.split()[0], b"%d" % number, "which answer")
            check("fwd=bypass" in status_of(answer) and "unchecked-signature" in status_of(answer), "Cache-Status: %s" % status_of(answer))
        alone = client.request("/p", fields=[("Authorization", "Bearer " + API_KEY)])
        equal(alone.body.split()[0], b"4", "which answer to the key alone")
        check("; hit" in status_of(client.request("/p", fields=[("Authorization", "Bearer " + API_KEY)])), "the TypeScript client's request does not hit")
        equal(client.request("/p", fields=documented_client("GET", "/p", secret="forged")).body.split()[0], b"5", "which answer to a forged signature")
    equal(sidecar.metric("promptops_unchecked_signatures_total"), 4, "counted")


def test_the_credential_that_goes_up_partitions_the_cache(t):
    """Where the sidecar's replaces the client's, the client's says nothing; what else goes up still does."""
    for scheme in ("bearer", "signed", "promptops"):
        with t.case(scheme):
            origin = t.origin()
            counted(origin)
            mounted = Mounted(t)
            sidecar = t.sidecar(origin, {**CACHE, **mounted.config(scheme)})
            with sidecar.client() as client:
                first = client.request("/p")
                for fields in ([("Authorization", "Bearer one")], [("Authorization", "Bearer two"), ("X-API-Key", "three")], documented_client("GET", "/p"),
                               python_client("GET", "/p"), [("X-PromptOps-Signature", "x")]):
                    again = client.request("/p", fields=fields)
                    check("; hit" in status_of(again) and again.body == first.body, "%r: %s" % (fields, status_of(again)))
                for name, value in (("Cookie", "a=b"),):
                    check("fwd=uri-miss" in status_of(client.request("/p", fields=[(name, value)])), "%s goes up, and tells apart" % name)
                mounted.swap("po_new")
                wait_for(lambda: sidecar.logged("another key"), "the swapped key to be read")
                # A worker takes it up a moment after the line in the log, and until then sends the old key, and finds what is its.
                wait_for(lambda: "fwd=uri-miss" in status_of(client.request("/p")), "another key finds nothing of what the old one was given")
                check("; hit" in status_of(client.request("/p")), "the new key's own answer")
                mounted.swap(API_KEY)
                wait_for(lambda: sum("another key" in line for line in sidecar.log) == 2, "the old key to be read again")
                wait_for(lambda: client.request("/p").body == first.body, "the old key's own answer")


def test_a_client_may_keep_its_own_credential(t):
    """replace_client_credentials: false. Who brings one goes up with it, and is kept apart; who does not gets the sidecar's."""
    origin = t.origin()
    counted(origin)
    sidecar = t.sidecar(origin, {**CACHE, **Mounted(t).config("promptops"), "auth.replace_client_credentials": False})
    with sidecar.client() as client:
        bodies = {}
        for name, fields in [("none", []), ("bearer", [("Authorization", "Bearer " + OTHER)]), ("the same key as its own", [("Authorization", "Bearer " + API_KEY)]),
                             ("X-API-Key", [("X-API-Key", OTHER)]), ("signed", python_client("GET", "/p", key=OTHER)), ("only a stray signature", [("X-PromptOps-Signature", "x")])]:
            with t.case(name):
                before = origin.count()
                first, again = client.request("/p", fields=fields), client.request("/p", fields=fields)
                check("; hit" in status_of(again) and first.body == again.body, "the second answer: %s" % status_of(again))
                if name == "only a stray signature":
                    equal(first.body, bodies["none"], "the sidecar's partition")
                    continue
                equal(origin.count(), before + 1, "requests at the origin")
                check(first.body not in bodies.values(), "another's answer")
                bodies[name] = first.body
                if name == "none":
                    is_signed(origin.last(), "promptops", form="unix")
                else:
                    equal([(n, origin.last().get(n)) for n, _ in fields], fields, "the client's own")


def test_a_shared_cache_keeps_answers_to_the_sidecars_credential_apart(t):
    """RFC 9111 3.5: a request that goes up with Authorization is one with Authorization, whoever put it there."""
    origin = t.origin()
    origin.on["/p"] = lambda conn, r: conn.reply(fields=[("Cache-Control", "max-age=60")])
    origin.on["/public"] = lambda conn, r: conn.reply(fields=[("Cache-Control", "public, max-age=60")])
    sidecar = t.sidecar(origin, {**CACHE, **Mounted(t).config("bearer"), "cache.scope": "shared"})
    for _ in range(2):
        check("; hit" not in status_of(sidecar.request("/p")), "stored without leave")
    sidecar.request("/public")
    check("; hit" in status_of(sidecar.request("/public")), "not stored")


# ---- retries ----

def python_fields(target):
    return lambda: python_client("GET", target)


def test_pain_22_a_nonce_is_never_sent_twice(t):
    """The server may have seen it: whatever the method and whatever became of the attempt, the client must sign anew."""
    origin = t.origin()
    for name, act in [("503", say(503)), ("429", say(429)), ("close", drop), ("reset", reset_it)]:
        for method in ("GET", "PUT"):
            with t.case("%s, %s" % (method, name)):
                sidecar = t.sidecar(origin, RETRY)
                flaky(origin, 1, act)
                before = origin.count()
                response = sidecar.request("/flaky", method, python_client(method, "/flaky", b"x" if method == "PUT" else b"") + [("Idempotency-Key", "k")],
                                           b"x" if method == "PUT" else None)
                equal(response.status, {"503": 503, "429": 429}.get(name, 502), "status")
                equal(origin.count(), before + 1, "requests at the origin")
    with t.case("a pooled connection that dies under it"):
        origin = t.origin(lambda conn: (conn.request(), conn.reply(), conn.request(), conn.close()) if conn.number == 0 else conn.origin.serve(conn))
        sidecar = t.sidecar(origin, RETRY)
        equal(sidecar.request("/one", fields=python_client("GET", "/one")).status, 200, "first status")
        equal(sidecar.request("/two", fields=python_client("GET", "/two")).status, 502, "second status")
        equal([r.target for r in origin.requests], ["/one", "/two"], "requests at the origin")


def test_pain_22_no_byte_was_sent_so_the_nonce_is_fresh(t):
    """A connection that could not be made has shown nobody the nonce."""
    holder = t.origin()
    port = holder.port
    holder.stop()
    t.origins.remove(holder)
    sidecar = t.sidecar("http://127.0.0.1:%d" % port, {**RETRY, "retry.max_attempts": 20, "retry.base_delay": "300ms", "retry.max_delay": "300ms"})
    asked = t.thread(lambda: sidecar.request("/p", fields=python_client("GET", "/p")))
    wait_for(lambda: sidecar.metric("promptops_retries_total", reason="connect_failed") >= 1, "a retry")
    origin = t.origin(port=port)
    equal(asked.result().status, 200, "status")
    equal(origin.count(), 1, "requests at the origin")


def test_pain_22_a_304_that_fits_nothing_is_not_asked_again(t):
    """It would need the same nonce once more."""
    origin = t.origin()
    answers = [lambda conn: conn.reply(200, [("ETag", '"1"'), ("Cache-Control", "max-age=0")]), lambda conn: conn.reply(304, [("ETag", '"2"')], b"")]
    origin.on["/p"] = lambda conn, r: answers[min(origin.count("/p"), 2) - 1](conn)
    sidecar = t.sidecar(origin, {**CACHE, "cache.stale_if_error": 0})
    equal(sidecar.request("/p", fields=python_client("GET", "/p")).status, 200, "status")
    answer = made_up(sidecar.request("/p", fields=python_client("GET", "/p")), 503)
    check(b"NONCE_SPENT" in answer.body and answer.has("Retry-After"), "answer: %r" % answer)
    equal(origin.count("/p"), 2, "requests at the origin")


def test_pain_22_a_signature_is_not_retried_past_its_time(t):
    """The documented scheme has no nonce: it may be sent again, until its 300 s are over."""
    origin = t.origin()
    slow = {**RETRY, "retry.base_delay": "3s", "retry.max_delay": "3s", "retry.max_total_time": "1m"}
    for name, fields, attempts in [
            ("fresh", documented_client("GET", "/flaky"), 3),
            ("2 s left", documented_client("GET", "/flaky", when=time.time() - 298), 1),
            ("over", documented_client("GET", "/flaky", when=time.time() - 400), 1),
            ("not to be read", [("Authorization", "Bearer k"), ("X-PromptOps-Timestamp", "soon"), ("X-PromptOps-Signature", "x")], 1),
            ("in unix seconds, over", [("Authorization", "Bearer k"), ("X-PromptOps-Timestamp", str(int(time.time()) - 301)), ("X-PromptOps-Signature", "x")], 1)]:
        with t.case(name):
            sidecar = t.sidecar(origin, RETRY if attempts > 1 else slow)
            flaky(origin, 2, say(503))
            before = origin.count()
            began = time.monotonic()
            equal(sidecar.request("/flaky", fields=fields).status, 200 if attempts > 1 else 503, "status")
            equal(origin.count(), before + attempts, "attempts")
            check(time.monotonic() - began < 3, "it waited for a retry that was not to be made")


def test_pain_22_the_stand_in_sees_no_replay(t):
    """Clients that sign by themselves, through faults: what the sidecar sends again never has a nonce of before."""
    api = Api(t, "--no-limits")
    sidecar = t.sidecar(api.url, {**RETRY, "preset": "promptops"})
    api.set(faults=[{"errors": {"503": 0.3}, "reset_before": 0.3}])
    statuses = set()
    with sidecar.client() as client:
        for number in range(60):
            target = "/v1/client/prompts/prompt-%d" % (number % 5 + 1)
            answer = client.request(target, fields=python_client("GET", target))
            statuses.add(answer.status)
    equal(api.counts()["replays"], 0, "replays")
    check(statuses <= {200, 503, 502}, "statuses %r" % statuses)
    check(200 in statuses and len(statuses) > 1, "there were no faults: %r" % statuses)


def test_clients_that_sign_share_one_fetch(t):
    """Many signed requests at once, each with a nonce of its own, cost one upstream request."""
    api = Api(t, "--no-limits")
    sidecar = t.sidecar(api.url, {**CACHE, "workers": 2, "preset": "promptops"})
    api.set(faults=[{"latency": {"mean_ms": 300}}])
    target = "/v1/client/prompts/prompt-1"
    asked = [t.thread(lambda: sidecar.request(target, fields=python_client("GET", target))) for _ in range(10)]
    equal({a.result().status for a in asked}, {200}, "statuses")
    equal(api.counts()["unauthorized"], 0, "refusals")
    equal(api.counts()["operations"]["get_prompt"], 1, "upstream requests")
