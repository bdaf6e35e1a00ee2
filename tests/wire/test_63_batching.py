"""Misses that go together as one batch_get, once that was shown to be the same; and batch_get out of the cache."""
import json
import threading
import time
from email.utils import formatdate

from harness import *
from lib.credentials import API_KEY, SCHEMES, SECRET_KEY, Api, Mounted, documented_client, is_signed, python_client

PROMPTS = "/v1/client/prompts/"
BATCH = PROMPTS + "batch"
KEY = [("Authorization", "Bearer po_one")]
OTHER = [("Authorization", "Bearer po_two")]
ON = {"cache.enabled": True, "preset": "promptops", "batching.enabled": True, "batching.window": "20ms", "pool.max_size": 200}
NEEDED = 4    # BATCH_PROOF_NEEDED


class Prompts:
    """get_prompt and batch_get of an API whose two forms are as told."""

    def __init__(self, t):
        self.origin = t.origin(self.serve)
        self.missing = set()        # ids that are not there
        self.left_out = set()       # members that a batch leaves out
        self.version = 1
        self.only_single = {}       # ids whose single answer has another content
        self.hold = None            # an event: single answers wait for it
        self.batch_reply = None     # f(conn, ids): another answer to batch_get
        self.single_fields, self.batch_fields = [], []
        self.pace = 0               # seconds that each answer takes
        self.limit = 0              # calls that are allowed; the rest is refused
        self.between = None         # called when a batch came in, before it is answered
        self.lock = threading.Lock()
        self.url = self.origin.url

    def prompt(self, name, project=None, owner="po_one"):
        return {"id": name, "owner": owner, "version": "%d.0.0" % self.version, "name": "Prompt \u00e9 " + name, "description": None, "content": "c\\n\"" + name,
                "weight": 0.10, "models": [{"a": 1}, []], "project": project}

    def text(self, value):
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()

    def single(self, name, project=None, owner="po_one"):
        prompt = self.prompt(name, project, owner)
        prompt.update(self.only_single.get(name, {}))
        return self.text(prompt)

    def item(self, name, project, owner="po_one"):
        prompt = self.prompt(name, project, owner)
        order = ["id", "content", "name", "version"] + [k for k in prompt if k not in ("id", "content", "name", "version")]
        return {k: prompt[k] for k in order if k not in self.left_out}

    def reply(self, conn, status, body, fields=()):
        time.sleep(self.pace)
        if self.limit:
            left = self.limit - self.origin.count()
            fields = [("RateLimit-Limit", str(self.limit)), ("RateLimit-Remaining", str(max(0, left))), ("RateLimit-Reset", "50"), *fields]
            status, body = (status, body) if left >= 0 else (429, b"{}")
        conn.send(make_response(status, [("date", formatdate(usegmt=True)), ("server", "uvicorn"), ("content-type", "application/json"), *fields], body,
                                "OK" if status == 200 else "Not"))

    def serve(self, conn):
        while conn.open:
            request = conn.request()
            path, _, query = request.target.partition("?")
            owner = (request.get("Authorization") or " ").split(" ")[1]
            if path == BATCH and request.method == "POST":
                ask = json.loads(request.body) if request.body[-1:] == b"}" else {}
                if "prompt_ids" in ask:
                    self.answer_batch(conn, ask, owner)
                else:
                    self.reply(conn, 422, b"{}")
            elif path.startswith(PROMPTS) and request.method == "GET":
                self.answer_single(conn, path[len(PROMPTS):], query, owner)
            else:
                self.reply(conn, 200, b"{}")

    def answer_single(self, conn, name, query, owner):
        if self.hold:
            self.hold.wait(PATIENCE)
        project = query.partition("project_id=")[2] or None
        if name in self.missing:
            self.reply(conn, 404, b'{"detail":"Prompt not found"}')
        else:
            self.reply(conn, 200, self.single(name, project, owner), self.single_fields)

    def answer_batch(self, conn, ask, owner):
        ids, project = ask["prompt_ids"], ask.get("project_id")
        if self.between:
            self.between()
        if self.batch_reply:
            self.batch_reply(conn, ids)
            return
        found = [i for i in ids if i not in self.missing]
        answer = {"prompts": {i: self.item(i, project, owner) for i in found},
                  "errors": [{"prompt_id": i, "error": "Prompt not found"} for i in ids if i in self.missing],
                  "total_requested": len(ids), "total_found": len(found)}
        self.reply(conn, 200, self.text(answer), self.batch_fields)

    def calls(self, since=0):
        with self.origin.lock:
            return list(self.origin.requests[since:])

    def batches(self, since=0):
        return [json.loads(r.body)["prompt_ids"] for r in self.calls(since) if r.target == BATCH]


def batching(sidecar):
    return sidecar.admin("/api/v1/cache")[2]["batching"]


def kinds(sidecar):
    return sorted(k["state"] for k in batching(sidecar)["kinds"])


def prove(sidecar, fields=KEY, query="", tag="proof", state="proven"):
    """Asks for a few prompts one after the other, which are then compared."""
    before = kinds(sidecar).count(state)
    with sidecar.client() as client:
        for i in range(NEEDED):
            equal(client.request(PROMPTS + "%s-%d%s" % (tag, i, query), fields=fields).status, 200, "status")
    try:
        wait_for(lambda: kinds(sidecar).count(state) > before, "one more kind that is " + state)
    except Failed:
        raise Failed("not %s: %r" % (state, batching(sidecar)))


def all_at_once(t, sidecar, names, fields=KEY, query=""):
    clients = [t.client(sidecar) for _ in names]
    texts = [make_request(PROMPTS + name + query, fields=fields) for name in names]
    for client, text in zip(clients, texts):
        client.sock.send(text)
    return [client.response() for client in clients]


def test_a_hundred_cold_prompts_in_a_few_calls(t):
    """60 a minute: 100 distinct prompts at once, all answered within a second with at most four calls."""
    for workers in (1, 2):
        with t.case("%d workers" % workers):
            api = Prompts(t)
            api.limit = 60
            sidecar = t.sidecar(api.url, {**ON, "workers": workers, "batching.window": "150ms", "rate_limit.enable_rate_limit_detection": True, "concurrency.mode": "adaptive"})
            prove(sidecar)
            before = len(api.calls())
            api.hold = threading.Event()                   # a single answer takes as long as it takes the others to ask
            api.between = api.hold.set
            names = ["cold-%d" % i for i in range(100)]
            began = time.monotonic()
            answers = all_at_once(t, sidecar, names)
            took = time.monotonic() - began
            equal({a.status for a in answers}, {200}, "statuses")
            equal([a.body for a in answers], [api.single(n) for n in names], "bodies")
            calls = len(api.calls()) - before
            check(calls <= 4, "%d upstream calls" % calls)
            check(took < 1 or sanitized(), "took %.2f s" % took)
            sizes = [len(b) for b in api.batches(before)]
            check(sizes and max(sizes) <= 50, "batches of %r" % sizes)
            again = all_at_once(t, sidecar, names)
            equal(len(api.calls()) - before, calls, "calls for what is stored")
            check(all("hit" in a.get("Cache-Status") for a in again), "stored")
            equal(sidecar.metric("promptops_batch_size_count"), len(sizes), "promptops_batch_size")
            equal(sidecar.metric("promptops_batch_size_sum"), sum(sizes), "prompts in batches")
            equal(sidecar.metric("promptops_upstream_requests_total", operation="batch_get"), len(api.batches()), "upstream calls of batch_get")


def race(t, api, sidecar, names, fields=KEY, query=""):
    """The first goes singly and is held; the others, who see it under way, go together. Returns the answers."""
    api.hold = threading.Event()
    before = api.origin.count()
    first = t.client(sidecar)
    first.send(make_request(PROMPTS + names[0] + query, fields=fields))
    wait_for(lambda: api.origin.count() > before, "the first at the origin")
    rest = [t.client(sidecar) for _ in names[1:]]
    for client, name in zip(rest, names[1:]):
        client.send(make_request(PROMPTS + name + query, fields=fields))
    wait_for(lambda: api.origin.count() > before + 1 or not sidecar.alive(), "a second call")
    api.hold.set()
    api.hold = None
    return [client.response() for client in [first] + rest]


def test_before_the_proof_every_prompt_is_asked_for_singly(t):
    api = Prompts(t)
    api.batch_reply = lambda conn, ids: api.reply(conn, 503, b"{}")
    sidecar = t.sidecar(api.url, ON)
    answers = all_at_once(t, sidecar, ["cold-%d" % i for i in range(20)])
    equal([a.body for a in answers], [api.single("cold-%d" % i) for i in range(20)], "bodies")
    equal(sum(r.method == "GET" for r in api.calls()), 20, "single calls")
    check(all("detail=batched" not in a.get("Cache-Status") for a in answers), "nothing out of a batch")


def test_a_split_answer_is_the_single_answer(t):
    """Byte by byte, with the head of a single answer; and stored like one, with its tags and its route's lifetime."""
    api = Prompts(t)
    api.single_fields = api.batch_fields = [("X-Served-By", "api"), ("X-RateLimit-Remaining-Minute", "7")]
    sidecar = t.sidecar(api.url, ON)
    prove(sidecar)
    fields = KEY + [("X-Request-Id", "mine-1")]
    single, *split = race(t, api, sidecar, ["a-%d" % i for i in range(4)], fields)
    check("detail=batched" in split[0].get("Cache-Status"), split[0].get("Cache-Status"))
    for i, answer in enumerate(split, 1):
        equal(answer.body, api.single("a-%d" % i), "body")
        equal(answer.get("Cache-Status"), "promptops-sidecar; fwd=uri-miss; stored; detail=batched", "Cache-Status")
        equal([n.lower() for n, _ in answer.fields], [n.lower() for n, _ in single.fields], "names and order of fields")
        for name in ("Content-Type", "Server", "Via", "X-Request-Id", "X-Served-By", "X-RateLimit-Remaining-Minute"):
            equal(answer.get(name), single.get(name), name)
        equal(answer.get("Content-Length"), str(len(answer.body)), "Content-Length")
    before = api.origin.count()
    hit = sidecar.request(PROMPTS + "a-2", fields=KEY)
    equal((hit.body, api.origin.count()), (api.single("a-2"), before), "from the cache")
    check("hit" in hit.get("Cache-Status") and 50 <= int(hit.get("Cache-Status").split("ttl=")[1].split(";")[0]) <= 60, "the route's lifetime")
    api.version = 2
    sidecar.request(PROMPTS + "a-2", "PUT", KEY, b"{}")            # a write purges it as ever
    equal(json.loads(sidecar.request(PROMPTS + "a-2", fields=KEY).body)["version"], "2.0.0", "after a write")
    records = [r for r in sidecar.admin("/api/v1/requests?limit=100")[2]["requests"] if r["cache"] == "batched"]
    equal((len(records), {r["attempts"] for r in records}), (3, {0}), "recorded as batched")
    check(all(0 < r["phases"]["joined"] <= r["duration"] for r in records), "the time in a batch is told: %r" % records[0]["phases"])


def test_members_that_a_batch_leaves_out_refute(t):
    api = Prompts(t)
    api.left_out = {"description"}
    sidecar = t.sidecar(api.url, {**ON, "performance.alert_interval": "1s"})
    prove(sidecar, state="refuted")
    kind = batching(sidecar)["kinds"][0]
    equal(kind["difference"], "members are missing in the batch", "difference")
    wait_for(lambda: sidecar.logged("batch_get does not answer as get_prompt does"), "a line in the log")
    wait_for(lambda: any(a["id"] == "batching_refuted" for a in sidecar.admin("/api/v1/alerts")[2]["alerts"] if a["state"] == "firing"), "the alert")
    before = api.origin.count()
    answers = all_at_once(t, sidecar, ["cold-%d" % i for i in range(10)])
    equal([a.body for a in answers], [api.single("cold-%d" % i) for i in range(10)], "bodies")
    equal(api.batches(before), [], "batches")


def test_whatever_differs_refutes(t):
    def value(api):
        api.only_single = {"proof-%d" % i: {"content": "other"} for i in range(NEEDED)}

    def one_of_them(api):
        api.only_single = {"proof-%d" % (NEEDED - 1): {"weight": 0.100001}}

    def more(api):
        api.only_single = {"proof-0": {"provider_id": "x"}}

    def etag(api):
        api.single_fields = [("ETag", '"1"')]

    def other_field(api):
        api.single_fields, api.batch_fields = [("X-Version", "1")], [("X-Version", "2")]

    def cookie(api):
        api.single_fields = api.batch_fields = [("Set-Cookie", "a=b")]

    def not_there(api):
        def reply(conn, ids):
            answer = {"prompts": {}, "errors": [{"prompt_id": i, "error": "no"} for i in ids], "total_requested": len(ids), "total_found": 0}
            api.reply(conn, 200, api.text(answer))
        api.batch_reply = reply

    for case in (value, one_of_them, more, etag, other_field, cookie, not_there):
        with t.case(case.__name__):
            api = Prompts(t)
            case(api)
            prove(t.sidecar(api.url, ON), state="refuted")


def test_a_prompt_that_changes_between_the_two_answers_is_no_difference(t):
    api = Prompts(t)

    def change():
        api.version += 1
    api.between = change
    sidecar = t.sidecar(api.url, ON)
    with sidecar.client() as client:
        for i in range(NEEDED):
            client.request(PROMPTS + "p-%d" % i, fields=KEY)
        wait_for(lambda: len(api.batches()) == 1 and api.origin.count() >= NEEDED + 2, "the comparison, and one look more")
        equal(kinds(sidecar), ["unproven"], "nothing is known")
        api.between = None
        for i in range(NEEDED):
            client.request(PROMPTS + "q-%d" % i, fields=KEY)
    wait_for(lambda: kinds(sidecar) == ["proven"], "the proof")


def test_nothing_passes_between_credentials_and_projects(t):
    api = Prompts(t)
    sidecar = t.sidecar(api.url, ON)
    prove(sidecar)
    for n, (name, fields, query) in enumerate((("another credential", OTHER, ""), ("another project", KEY, "?project_id=q"), ("other fields", KEY + [("Accept-Language", "de")], "")), 2):
        with t.case(name):
            before = len(api.calls())
            all_at_once(t, sidecar, ["c-%d" % i for i in range(6)], fields, query)
            check(sum(r.method == "GET" for r in api.calls(before)) == 6, "a proof of its own is asked for")
            wait_for(lambda: kinds(sidecar) == ["proven"] * n, "that proof")
    # Mixed, at the same time: each batch is of one credential and one project, and gets back what is theirs.
    everything = [(who, query, "m-%d" % i) for i in range(8) for who in (KEY, OTHER) for query in ("", "?project_id=q", "?project_id=r")]
    before = len(api.calls())
    clients = [t.client(sidecar) for _ in everything]
    for client, (who, query, name) in zip(clients, everything):
        client.send(make_request(PROMPTS + name + query, fields=who))
    for client, (who, query, name) in zip(clients, everything):
        equal(client.response().body, api.single(name, query[12:] or None, who[0][1][7:]), "body of %r" % name)
    calls = [r for r in api.calls(before) if r.target == BATCH]
    check(len(calls) >= 2, "batches")


def test_what_is_not_batched(t):
    api = Prompts(t)
    sidecar = t.sidecar(api.url, ON)
    prove(sidecar)
    rows = [("a name with an escape", "p%20q-{}", []), ("another query", "p{}?x=1", []), ("a version", "p{}/versions/1", []), ("a condition", "p{}", [("If-None-Match", '"x"')]),
            ("a range", "p{}", [("Range", "bytes=0-1")]), ("no-cache", "p{}", [("Cache-Control", "no-cache")])]
    for name, path, fields in rows:
        with t.case(name):
            before = len(api.calls())
            all_at_once(t, sidecar, [name.replace(" ", "-") + path.format(i) for i in range(5)], KEY + fields)
            equal(api.batches(before), [], "batches")
    with t.case("HEAD"):
        before = len(api.calls())
        for i in range(3):
            with sidecar.client() as client:
                client.request(PROMPTS + "head-%d" % i, "HEAD", KEY)
        equal(api.batches(before), [], "batches")
    with t.case("another batching.enabled"):
        equal(sidecar.admin("/api/v1/config", "PATCH", {"batching.enabled": False})[0], 200, "status")
        before = len(api.calls())
        all_at_once(t, sidecar, ["off-%d" % i for i in range(10)])
        equal(api.batches(before), [], "batches")


def test_errors_of_single_prompts_are_asked_for_singly(t):
    api = Prompts(t)
    api.missing = {"gone-2", "gone-4"}
    sidecar = t.sidecar(api.url, ON)
    prove(sidecar)
    before = len(api.calls())
    names = ["here-1"] + ["gone-2", "here-3", "gone-4", "here-5"]
    answers = race(t, api, sidecar, names)
    equal([a.status for a in answers], [200, 404, 200, 404, 200], "statuses")
    equal(answers[1].body, b'{"detail":"Prompt not found"}', "the API's own 404")
    equal(sorted(r.target for r in api.calls(before) if r.method == "GET"), sorted(PROMPTS + n for n in ("here-1", "gone-2", "gone-4")), "single calls")


def test_a_batch_that_fails_is_made_up_for_singly(t):
    def status(code):
        return lambda api: lambda conn, ids: api.reply(conn, code, b'{"detail":"x"}')

    def text(body, fields=()):
        return lambda api: lambda conn, ids: api.reply(conn, 200, body, fields)

    def cut(_):
        def reply(conn, ids):
            conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{\"prompts\":")
            conn.close()
        return reply

    def reset(_):
        return lambda conn, ids: conn.reset()

    def swapped(api):
        def reply(conn, ids):
            items = {i: api.item(j, None) for i, j in zip(ids, ids)}
            api.reply(conn, 200, api.text({"prompts": {**items, "another": {}}, "errors": [], "total_requested": len(ids), "total_found": len(ids)}))
        return reply

    rows = [("500", status(500)), ("404", status(404)), ("422", status(422)), ("no JSON", text(b"<html>")), ("an empty object", text(b"{}")), ("cut", cut), ("reset", reset),
            ("a prompt nobody asked for", swapped), ("a million brackets", text(b"[" * 1000000)), ("deep", text(b'{"prompts":' + b'{"a":' * 5000)),
            ("encoded", text(b"x", [("Content-Encoding", "gzip")])), ("five megabytes", text(b'{"prompts":{"' + b"a" * 5000000 + b'":{}}}'))]
    for name, make in rows:
        with t.case(name):
            api = Prompts(t)
            sidecar = t.sidecar(api.url, ON)
            prove(sidecar)
            api.batch_reply = make(api)
            names = ["f-%d" % i for i in range(5)]
            answers = race(t, api, sidecar, names)
            equal([a.body for a in answers], [api.single(n) for n in names], "bodies")
            equal({a.status for a in answers}, {200}, "statuses")
            equal(batching(sidecar)["answered"], 0, "answered out of it")
            check(batching(sidecar)["kinds"][0]["paused"], "paused")
            equal(sidecar.alive(), True, "the sidecar")


def test_an_item_that_looks_otherwise_is_asked_for_singly(t):
    api = Prompts(t)
    sidecar = t.sidecar(api.url, ON)
    prove(sidecar)
    api.only_single = {"odd-2": {"more": 1}}
    whole = api.item
    api.item = lambda name, project, owner: {**whole(name, project, owner), **({"more": 1} if name == "odd-2" else {})}
    before = len(api.calls())
    answers = race(t, api, sidecar, ["odd-%d" % i for i in range(4)])
    equal([a.body for a in answers], [api.single("odd-%d" % i) for i in range(4)], "bodies")
    check(PROMPTS + "odd-2" in [r.target for r in api.calls(before)], "odd-2 was asked for singly")


def test_other_header_fields_end_the_proof(t):
    api = Prompts(t)
    sidecar = t.sidecar(api.url, ON)
    prove(sidecar)
    api.batch_fields = [("ETag", '"of-the-batch"')]
    answers = race(t, api, sidecar, ["h-%d" % i for i in range(4)])
    check(all(a.get("ETag") is None for a in answers), "no field of a batch that no single answer has")
    equal([a.body for a in answers], [api.single("h-%d" % i) for i in range(4)], "bodies")
    check("proven" not in kinds(sidecar), "the proof is over: %r" % kinds(sidecar))


def test_clients_that_leave(t):
    """Who leaves takes nothing from the others; when all leave nothing is left behind."""
    api = Prompts(t)
    sidecar = t.sidecar(api.url, {**ON, "batching.window": "300ms"})
    prove(sidecar)
    gate = threading.Event()
    api.between = lambda: gate.wait(PATIENCE)
    api.hold = threading.Event()
    first = t.client(sidecar)
    first.send(make_request(PROMPTS + "l-0", fields=KEY))
    clients = [t.client(sidecar) for _ in range(6)]
    wait_for(lambda: sidecar.metric("promptops_active_requests") >= 1, "the first")
    for i, client in enumerate(clients, 1):
        client.send(make_request(PROMPTS + "l-%d" % i, fields=KEY))
    wait_for(lambda: sidecar.metric("promptops_active_requests") >= 7, "all")
    clients[0].reset()                                    # before the batch is sent
    wait_for(lambda: api.batches()[1:], "the batch")
    clients[1].reset()                                    # while it is under way
    gate.set()
    api.hold.set()
    for i, client in enumerate(clients[2:], 3):
        equal(client.response().body, api.single("l-%d" % i), "body")
    check("l-1" not in api.batches()[1], "who left before was not asked for: %r" % api.batches()[1])
    first.response()
    wait_for(lambda: sidecar.metric("promptops_active_requests") == 0, "nothing under way")


def test_signed_by_the_sidecar(t):
    """With keys of its own the batch is signed like any call, whatever the scheme; the stand-in API checks it."""
    for scheme in SCHEMES:
        with t.case(scheme):
            api = Api(t)
            api.set(batch={"whole": True}, auth={"required": True, "signature_required": scheme != "bearer"}, rate_limit={"enabled": False},
                    faults=[{"operation": "get_prompt", "latency": {"mean_ms": 100}}])
            sidecar = t.sidecar(api.url, {**ON, **Mounted(t).config(scheme)})
            for i in range(2, 2 + NEEDED):
                equal(sidecar.request(PROMPTS + "prompt-%d" % i).status, 200, "status")
            wait_for(lambda: kinds(sidecar) == ["proven"], "the proof: %r" % batching(sidecar))
            answers = all_at_once(t, sidecar, ["prompt-%d" % i for i in range(20, 60)])
            equal({a.status for a in answers}, {200}, "statuses")
            equal([json.loads(a.body)["id"] for a in answers], ["prompt-%d" % i for i in range(20, 60)], "ids")
            check(batching(sidecar)["answered"] >= 30, "batched: %r" % batching(sidecar))


def test_the_stand_in_api_as_it_is_refutes(t):
    api = Api(t)
    api.set(rate_limit={"enabled": False})
    sidecar = t.sidecar(api.url, ON)
    for i in range(NEEDED):
        sidecar.request(PROMPTS + "prompt-%d" % (i + 1), fields=documented_client("GET", PROMPTS + "prompt-%d" % (i + 1))[:1])
    wait_for(lambda: kinds(sidecar) == ["refuted"], "the difference")


def test_client_signed_requests_are_never_batched(t):
    api = Api(t)
    api.set(batch={"whole": True}, rate_limit={"enabled": False})
    sidecar = t.sidecar(api.url, ON)
    for sign in (python_client, documented_client):
        with t.case(sign.__name__):
            clients = [t.client(sidecar) for _ in range(12)]
            for i, client in enumerate(clients, 1):
                path = PROMPTS + "prompt-%d" % i
                client.send(make_request(path, fields=sign("GET", path)))
            equal({c.response().status for c in clients}, {200}, "statuses")
            equal(batching(sidecar)["kinds"], [], "kinds")


# ---- a client's own batch_get ----

JSON = [("Content-Type", "application/json")]


def batch_body(ids, **more):
    return json.dumps({"prompt_ids": ids, **more}).encode()


def ask_batch(client, ids, fields=KEY, **more):
    return client.request(BATCH, "POST", fields + JSON, batch_body(ids, **more))


def whole_batch(api, ids, project=None, versions=False, metadata=True):
    """What the API would say."""
    found = [i for i in ids if i not in api.missing]
    return api.text({"prompts": {i: api.item(i, project) for i in found}, "errors": [{"prompt_id": i, "error": "Prompt not found"} for i in ids if i in api.missing],
                     "total_requested": len(ids), "total_found": len(found)})


OWN = {"include_versions": False, "include_metadata": True}    # the form that the sidecar itself asks in


def test_a_clients_batch_is_answered_from_the_cache(t):
    api = Prompts(t)
    sidecar = t.sidecar(api.url, ON)
    prove(sidecar)
    ids = ["proof-%d" % i for i in (2, 0, 3, 1)]
    with sidecar.client() as client:
        before = api.origin.count()
        answer = ask_batch(client, ids, **OWN)
        equal((answer.status, answer.body), (200, whole_batch(api, ids)), "answer")
        equal(api.origin.count(), before, "upstream calls")
        check(answer.get("Cache-Status").startswith("promptops-sidecar; hit; ttl=") and answer.get("Age"), answer.fields)
        equal((answer.get("Content-Type"), answer.get("Server")), ("application/json", "uvicorn"), "fields")
        part = ids[:2] + ["new-1", "new-2"] + ids[2:]
        answer = ask_batch(client, part, **OWN)
        equal((answer.status, answer.body), (200, whole_batch(api, part)), "partly stored")
        check("fwd=partial" in answer.get("Cache-Status"), answer.get("Cache-Status"))
        equal(api.batches(before), [["new-1", "new-2"]], "asked for: what was missing")
        equal(client.request(PROMPTS + "new-2", fields=KEY).body, api.single("new-2"), "and it filled its entry")
        equal(api.origin.count(), before + 1, "upstream calls")
        api.missing = {"gone"}
        part = ["gone", ids[0], "new-3"]
        answer = ask_batch(client, part, **OWN)
        equal((answer.status, answer.body), (200, whole_batch(api, part)), "with an error")
        equal((json.loads(answer.body)["total_requested"], json.loads(answer.body)["total_found"]), (3, 2), "counts")
        equal(ask_batch(client, ["new-3"], **OWN).body, whole_batch(api, ["new-3"]), "filled")
        equal(api.origin.count(), before + 2, "upstream calls")
        api.version = 2
        client.request(PROMPTS + ids[0], "PUT", KEY, b"{}")
        answer = ask_batch(client, ids, **OWN)
        equal({i: p["version"] for i, p in json.loads(answer.body)["prompts"].items()}, {i: "2.0.0" if i == ids[0] else "1.0.0" for i in ids}, "a write purges its prompt only")
    told = batching(sidecar)
    equal((told["client_batches"], told["client_prompts"]), (5, 18), "told")


def test_a_clients_batch_that_is_not_plain_passes_untouched(t):
    api = Prompts(t)
    sidecar = t.sidecar(api.url, ON)
    prove(sidecar)
    ids = ["proof-%d" % i for i in range(NEEDED)]
    rows = [("an id twice", batch_body(ids + ids[:1], **OWN), []), ("another member", batch_body(ids, x=1, **OWN), []), ("an escape", batch_body(["a b"], **OWN), []),
            ("no-cache", batch_body(ids, **OWN), [("Cache-Control", "no-cache")]), ("another form", batch_body(ids, include_versions=True), []),
            ("no JSON", b"{", []), ("no ids", b"{}", []), ("large", batch_body(["x" * 100 + str(i) for i in range(900)], **OWN), [])]
    for name, body, fields in rows:
        with t.case(name), sidecar.client() as client:
            before = api.origin.count()
            client.request(BATCH, "POST", KEY + JSON + fields, body)
            equal((api.origin.count(), api.origin.last().body), (before + 1, body), "what went up")
    with t.case("chunked"), sidecar.client() as client:
        body = batch_body(ids, **OWN)
        client.send(b"POST %s HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer po_one\r\nTransfer-Encoding: chunked\r\n\r\n" % BATCH.encode() + chunked(body[:10], body[10:]))
        equal(client.response("POST").body, whole_batch(api, ids), "answered all the same")


def test_another_form_is_proven_by_clients_batches(t):
    """Without include_metadata there are fewer members: it cannot fill entries, but follows from them."""
    api = Prompts(t)
    sidecar = t.sidecar(api.url, ON)
    prove(sidecar)
    ids = ["proof-%d" % i for i in range(NEEDED)]
    with sidecar.client() as client:
        whole = api.item
        api.item = lambda name, project, owner="po_one": {k: v for k, v in whole(name, project, owner).items() if k in ("id", "name", "content")}
        before = api.origin.count()
        for n in (1, 1, 1):
            equal(ask_batch(client, ids, include_metadata=False).body, whole_batch(api, ids), "answer")
        equal(len(api.batches(before)), 1, "batches that went up: the first showed all four")
        equal(ask_batch(client, ids[:2] + ["more"], include_metadata=False).body, whole_batch(api, ids[:2] + ["more"]), "partly stored")
        equal(api.batches(before)[-1], ["more"], "asked for")
        before = api.origin.count()
        client.request(PROMPTS + "more", fields=KEY)
        equal(api.origin.count(), before + 1, "it did not fill the entry")
        equal(kinds(sidecar), ["proven"], "the form of the sidecar's own")


def test_an_api_that_leaves_members_out_still_has_its_batches_answered(t):
    """The real server's batch answer cannot stand for single ones; but it follows from them."""
    api = Prompts(t)
    api.left_out = {"models", "weight"}
    sidecar = t.sidecar(api.url, ON)
    prove(sidecar, state="refuted")
    wait_for(lambda: batching(sidecar)["kinds"][0]["batches_from_cache"] in ("proven", "unproven"), "a look")
    with sidecar.client() as client:
        ids = ["proof-%d" % i for i in range(NEEDED)]
        for _ in range(2):
            equal(ask_batch(client, ids, **OWN).body, whole_batch(api, ids), "answer")
        before = api.origin.count()
        equal(ask_batch(client, ids[::-1], **OWN).body, whole_batch(api, ids[::-1]), "answer")
        equal(api.origin.count(), before, "upstream calls")


def test_the_rest_of_a_batch_cannot_be_had(t):
    """Then the client's own request goes up, byte by byte."""
    def swap(api):
        def reply(conn, ids):
            if len(ids) == 2:
                api.batch_reply = None
                api.reply(conn, 200, b'{"prompts":{}}')
        return reply

    def cut(api):
        def reply(conn, ids):
            api.batch_reply = None
            conn.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{\"prompts\":")
            conn.close()
        return reply

    def no_content(api):
        def reply(conn, ids):
            api.batch_reply = None
            conn.send(b"HTTP/1.1 204 No Content\r\n\r\n")
        return reply

    for case in (swap, cut, no_content):
        with t.case(case.__name__):
            api = Prompts(t)
            sidecar = t.sidecar(api.url, ON)
            prove(sidecar)
            ids = ["proof-0", "x-1", "proof-2", "x-3"]
            with sidecar.client() as client:
                api.batch_reply = case(api)
                before = api.origin.count()
                answer = ask_batch(client, ids, **OWN)
                equal((answer.status, answer.body), (200, whole_batch(api, ids)), "answer")
                equal(api.batches(before), [["x-1", "x-3"], ids], "asked for")
                equal(api.origin.last().body, batch_body(ids, **OWN), "as it came")


def test_an_error_to_the_rest_is_the_answer(t):
    api = Prompts(t)
    sidecar = t.sidecar(api.url, ON)
    prove(sidecar)
    with sidecar.client() as client:
        api.batch_reply = lambda conn, ids: api.reply(conn, 403, b'{"detail":"no"}')
        answer = ask_batch(client, ["proof-0", "x-1"], **OWN)
        equal((answer.status, answer.body), (403, b'{"detail":"no"}'), "answer")


def test_a_purge_while_a_batch_is_under_way(t):
    """What was asked for before a write is not stored after it."""
    api = Prompts(t)
    sidecar = t.sidecar(api.url, ON)
    prove(sidecar)
    came, go = threading.Event(), threading.Event()
    api.between = lambda: (came.set(), go.wait(PATIENCE))
    client = t.client(sidecar)
    client.send(make_request(BATCH, "POST", KEY + JSON, batch_body(["w-1", "w-2"], **OWN)))
    check(came.wait(PATIENCE), "the batch at the origin")
    sidecar.request(PROMPTS + "w-1", "PUT", KEY, b"{}")
    go.set()
    client.response()
    api.version = 2
    before = api.origin.count()
    equal(json.loads(sidecar.request(PROMPTS + "w-1", fields=KEY).body)["version"], "2.0.0", "after the write")
    sidecar.request(PROMPTS + "w-2", fields=KEY)
    equal(api.origin.count(), before + 1, "the other was stored")


def test_who_comes_while_a_batch_waits_for_its_turn_joins_it(t):
    """The quota is spent for two seconds: all that is asked for meanwhile goes up in one call."""
    api = Prompts(t)
    sidecar = t.sidecar(api.url, {**ON, "rate_limit.enable_rate_limit_detection": True, "batching.window": "2ms"})
    prove(sidecar)
    api.single_fields = api.batch_fields = [("RateLimit-Limit", "100"), ("RateLimit-Remaining", "0"), ("RateLimit-Reset", "2")]
    equal(sidecar.request(PROMPTS + "last", fields=KEY).status, 200, "the last call of the window")
    api.single_fields = api.batch_fields = []
    before = api.origin.count()
    clients = [t.client(sidecar) for _ in range(30)]
    for i, client in enumerate(clients):
        client.send(make_request(PROMPTS + "j-%d" % i, fields=KEY))
        time.sleep(0.01)                                   # the pace of those who ask: longer than the window
    equal(api.origin.count(), before, "calls while there is no quota")
    equal([c.response().body for c in clients], [api.single("j-%d" % i) for i in range(30)], "bodies")
    equal([len(b) for b in api.batches(before)], [30], "batches")
    equal(api.origin.count(), before + 1, "calls")


def test_a_clients_batch_with_the_sidecars_own_key(t):
    """The scheme that signs the body: of what the client sent, and of the smaller request in its place."""
    api = Api(t)
    api.set(batch={"whole": True}, auth={"required": True, "signature_required": True}, rate_limit={"enabled": False})
    sidecar = t.sidecar(api.url, {**ON, **Mounted(t).config("promptops")})
    ids = ["prompt-%d" % i for i in range(2, 2 + NEEDED)]
    for name in ids:
        equal(sidecar.request(PROMPTS + name).status, 200, "status")
    wait_for(lambda: kinds(sidecar) == ["proven"], "the proof")
    with sidecar.client() as client:
        for more, word in ((["prompt-30"], "fwd=partial"), ([], "hit"), (["nobody"], "fwd=partial")):
            asked = ids[:2] + more + ids[2:]
            answer = ask_batch(client, asked, [], **OWN)
            equal((answer.status, list(json.loads(answer.body)["prompts"])), (200, [i for i in asked if i != "nobody"]), "answer")
            check(word in answer.get("Cache-Status"), answer.get("Cache-Status"))
            straight = api.ask("POST", BATCH, {"prompt_ids": asked, **OWN}, dict(python_client("POST", BATCH, json.dumps({"prompt_ids": asked, **OWN}).encode())))
            equal(json.loads(answer.body), straight[1], "what the API itself says")
        body = batch_body(["prompt-%d" % i for i in range(40, 80)], x=1)           # not plain: passes, and is signed
        equal(client.request(BATCH, "POST", JSON, body).status, 200, "status")
        client.send(b"POST %s HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" % BATCH.encode() + chunked(*[b'{"prompt_ids":["' + b"y" * 70000, b'"]}']))
        equal(client.response("POST").status, 200, "a large one")


def test_clients_that_mark_their_calls_are_one_kind(t):
    api = Prompts(t)
    sidecar = t.sidecar(api.url, ON)
    with sidecar.client() as client:
        for i in range(NEEDED):
            client.request(PROMPTS + "p-%d" % i, fields=KEY + [("X-Correlation-Id", "c-%d" % i), ("traceparent", "00-%032x-%016x-01" % (i + 1, i + 1)), ("b3", "%d" % i)])
    wait_for(lambda: kinds(sidecar) == ["proven"], "the proof")


def test_hostile_batches(t):
    """Whatever a proven batch_get answers, each client gets what its own request would have got, and nothing else is stored."""
    api = Prompts(t)

    def swapped(ids, items):
        return {"prompts": dict(zip(ids, [items[i] for i in ids[1:] + ids[:1]])), "errors": []}

    def also_missing(ids, items):
        return {"prompts": items, "errors": [{"prompt_id": i, "error": "Prompt not found"} for i in ids]}

    def a_list(ids, items):
        return {"prompts": [items[i] for i in ids], "errors": []}

    def nothings(ids, items):
        return {"prompts": {i: None for i in ids}, "errors": []}

    def bare(ids, items):
        return {"prompts": {i: "text" for i in ids}, "errors": []}

    def others(ids, items):
        return {"prompts": {"other-" + i: items[i] for i in ids}, "errors": []}

    def deep(ids, items):
        return ('{"prompts":{"%s":' % ids[0] + "[" * 100000 + "]" * 100000 + '},"errors":[]}').encode()

    def twice(ids, items):
        text = ",".join('"%s":%s,"%s":%s' % (i, api.text(items[j]).decode(), i, api.text(items[i]).decode()) for i, j in zip(ids, ids[1:] + ids[:1]))
        return ('{"prompts":{%s},"errors":[]}' % text).encode()

    def cut(ids, items):
        return api.text({"prompts": items, "errors": []})[:-20]

    def behind(ids, items):
        return api.text({"prompts": items, "errors": []}) + b'{"prompts":{}}'

    for number, hostile in enumerate((swapped, also_missing, a_list, nothings, bare, others, deep, twice, cut, behind)):
        with t.case(hostile.__name__):
            api.batch_reply = None
            sidecar = t.sidecar(api.url, ON)
            prove(sidecar, tag="hostile-%d" % number)

            def reply(conn, ids):
                answer = hostile(ids, {i: api.item(i, None) for i in ids})
                api.reply(conn, 200, answer if isinstance(answer, bytes) else api.text({**answer, "total_requested": len(ids), "total_found": len(ids)}))
            api.batch_reply = reply
            names = ["%s-%d" % (hostile.__name__, i) for i in range(6)]
            before = len(api.batches())
            answers = race(t, api, sidecar, names)
            check(len(api.batches()) > before, "no batch was asked for")
            for again in (False, True):
                if again:
                    answers = [sidecar.request(PROMPTS + n, fields=KEY) for n in names]
                equal([a.status for a in answers], [200] * 6, "statuses")
                equal([a.body for a in answers], [api.single(n) for n in names], "bodies" + (", stored" if again else ""))
            check(sidecar.alive(), "the sidecar lives")
