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
        self.between = None         # called when a batch came in, before it is answered
        self.lock = threading.Lock()
        self.url = self.origin.url

    def prompt(self, name, project=None):
        return {"id": name, "version": "%d.0.0" % self.version, "name": "Prompt \u00e9 " + name, "description": None, "content": "c\\n\"" + name,
                "weight": 0.10, "models": [{"a": 1}, []], "project": project}

    def text(self, value):
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()

    def single(self, name, project=None):
        prompt = self.prompt(name, project)
        prompt.update(self.only_single.get(name, {}))
        return self.text(prompt)

    def item(self, name, project):
        prompt = self.prompt(name, project)
        order = ["id", "content", "name", "version"] + [k for k in prompt if k not in ("id", "content", "name", "version")]
        return {k: prompt[k] for k in order if k not in self.left_out}

    def reply(self, conn, status, body, fields=()):
        conn.send(make_response(status, [("date", formatdate(usegmt=True)), ("server", "uvicorn"), ("content-type", "application/json"), *fields], body,
                                "OK" if status == 200 else "Not"))

    def serve(self, conn):
        while conn.open:
            request = conn.request()
            path, _, query = request.target.partition("?")
            if path == BATCH and request.method == "POST":
                self.answer_batch(conn, json.loads(request.body))
            elif path.startswith(PROMPTS) and request.method == "GET":
                self.answer_single(conn, path[len(PROMPTS):], query)
            else:
                self.reply(conn, 200, b"{}")

    def answer_single(self, conn, name, query):
        if self.hold:
            self.hold.wait(PATIENCE)
        project = query.partition("project_id=")[2] or None
        if name in self.missing:
            self.reply(conn, 404, b'{"detail":"Prompt not found"}')
        else:
            self.reply(conn, 200, self.single(name, project), self.single_fields)

    def answer_batch(self, conn, ask):
        ids, project = ask["prompt_ids"], ask.get("project_id")
        if self.between:
            self.between()
        if self.batch_reply:
            self.batch_reply(conn, ids)
            return
        found = [i for i in ids if i not in self.missing]
        answer = {"prompts": {i: self.item(i, project) for i in found},
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
    for client, name in zip(clients, names):
        client.send(make_request(PROMPTS + name + query, fields=fields))
    return [client.response() for client in clients]


def test_a_hundred_cold_prompts_in_a_few_calls(t):
    """60 a minute: 100 distinct prompts at once, all answered within a second with at most four calls."""
    for workers in (1, 2):
        with t.case("%d workers" % workers):
            api = Prompts(t)
            sidecar = t.sidecar(api.url, {**ON, "workers": workers, "rate_limit.enable_rate_limit_detection": True, "rate_limit.assume": "always",
                                          "concurrency.mode": "adaptive"})
            prove(sidecar)
            before = len(api.calls())
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
