#!/usr/bin/env python3
"""Tests of promptops-origin: each operation, both signing schemes, replays, limits, each fault.

    python3 -m unittest discover -s tests/origin -p 'test_*.py'

The built program is build/promptops-origin; BUILD=DIR or ORIGIN=FILE say otherwise.
"""

import base64
import datetime
import hashlib
import hmac
import http.client
import json
import os
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import API_KEY, SECRET, Origin, binary, in_background, read_all  # noqa: E402

PATTERN = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-\n"


def pattern(n):
    return (PATTERN * (n // 64 + 1))[:n]


class Case(unittest.TestCase):
    """One stand-in for all tests of a class, reset before each."""

    options = ()

    @classmethod
    def setUpClass(cls):
        cls.origin = Origin(*cls.options)

    @classmethod
    def tearDownClass(cls):
        cls.origin.stop()

    def setUp(self):
        self.origin.reset()


class Prompts(Case):
    options = ("--no-limits", "--prompts", "8")

    def test_health_needs_no_key(self):
        answer = self.origin.ask("GET", "/health")
        self.assertEqual((answer.status, answer.json()["status"]), (200, "healthy"))

    def test_get_prompt(self):
        answer = self.origin.api("GET", "/v1/client/prompts/prompt-1")
        self.assertEqual(answer.status, 200)
        self.assertEqual(
            list(answer.json()),
            [
                "id", "version", "name", "description", "content", "provider_id", "target_models", "model_specific_prompts",
                "module_id", "created_by", "created_at", "updated_at", "mas_intent", "mas_fairness_notes",
                "mas_testing_notes", "mas_risk_level",
            ],
        )  # fmt: skip
        self.assertEqual(answer.json()["id"], "prompt-1")

    def test_no_cache_fields_by_default(self):
        answer = self.origin.api("GET", "/v1/client/prompts/prompt-1")
        for name in ("cache-control", "etag", "last-modified", "expires", "x-ratelimit-limit-minute"):
            self.assertIsNone(answer.header(name))

    def test_get_prompt_in_project(self):
        self.assertEqual(self.origin.api("GET", "/v1/client/prompts/prompt-1?project_id=project-1").status, 200)
        other = self.origin.api("GET", "/v1/client/prompts/prompt-1?project_id=project-2")
        self.assertEqual((other.status, other.json()), (403, {"detail": "No access to this prompt"}))

    def test_unknown_prompt(self):
        answer = self.origin.api("GET", "/v1/client/prompts/nobody")
        self.assertEqual((answer.status, answer.json()), (404, {"detail": "Prompt not found"}))

    def test_id_with_escapes(self):
        self.assertEqual(self.origin.api("POST", "/api/prompts/", {"id": "a/b c", "content": "x"}).status, 201)
        self.assertEqual(self.origin.api("GET", "/api/prompts/a%2Fb%20c").json()["content"], "x")
        answer = self.origin.api("GET", "/v1/client/prompts/a%2Fb%20c")
        self.assertEqual((answer.status, answer.json()), (400, {"detail": "Invalid prompt ID format"}))
        answer = self.origin.api("GET", "/v1/client/prompts/prompt-1?project_id=a.b")
        self.assertEqual((answer.status, answer.json()), (400, {"detail": "Invalid project ID format"}))

    def test_create_change_delete(self):
        made = self.origin.api("POST", "/api/prompts/", {"id": "mine", "name": "Mine", "content": "one"})
        self.assertEqual((made.status, made.json()["version"]), (201, "1.0.0"))
        changed = self.origin.api("PUT", "/api/prompts/mine", {"content": "two"})
        self.assertEqual((changed.status, changed.json()["version"], changed.json()["name"]), (200, "1.1.0", "Mine"))
        self.assertEqual(self.origin.api("GET", "/v1/client/prompts/mine").json()["content"], "two")
        old = self.origin.api("GET", "/v1/client/prompts/mine/versions/1.0.0").json()
        self.assertEqual(old["content"], "one")
        self.assertNotIn("mas_intent", old)
        versions = self.origin.api("GET", "/v1/client/prompts/mine/versions").json()
        self.assertEqual([v["version"] for v in versions], ["1.0.0", "1.1.0"])
        again = self.origin.api("POST", "/api/prompts/", {"id": "mine", "version": "1.0.0"})
        self.assertEqual(again.status, 409)
        self.assertEqual(self.origin.api("DELETE", "/api/prompts/mine/1.1.0").status, 200)
        self.assertEqual(self.origin.api("GET", "/v1/client/prompts/mine").json()["content"], "one")
        self.assertEqual(self.origin.api("GET", "/v1/client/prompts/mine/versions/1.1.0").status, 404)
        self.assertEqual(self.origin.api("DELETE", "/api/prompts/mine").status, 200)
        self.assertEqual(self.origin.api("GET", "/v1/client/prompts/mine").status, 404)

    def test_deleting_the_last_version_deletes_the_prompt(self):
        self.assertEqual(self.origin.api("DELETE", "/api/prompts/prompt-3/1.0.0").status, 200)
        self.assertEqual(self.origin.api("GET", "/v1/client/prompts/prompt-3/versions").status, 404)

    def test_create_makes_an_id(self):
        made = self.origin.api("POST", "/api/prompts/", {"content": "x"}).json()
        self.assertEqual(self.origin.api("GET", "/v1/client/prompts/" + made["id"]).json()["content"], "x")

    def test_bad_bodies(self):
        for body in ("", "[]", "{", '{"id":5}', '{"model_specific_prompts":{}}', '{"id":""}'):
            self.assertEqual(self.origin.api("POST", "/api/prompts/", body).status, 422, body)
        self.assertEqual(self.origin.api("PUT", "/api/prompts/nobody", {}).status, 404)

    def test_search(self):
        answer = self.origin.api("GET", "/v1/client/prompts?limit=3&offset=1").json()
        self.assertEqual([p["id"] for p in answer["prompts"]], ["prompt-7", "prompt-6", "prompt-5"])
        self.assertEqual((answer["total"], answer["has_more"]), (8, True))
        self.assertNotIn("content", answer["prompts"][0])
        by_name = self.origin.api("GET", "/v1/client/prompts?sort_by=name&sort_order=asc&limit=2").json()
        self.assertEqual([p["id"] for p in by_name["prompts"]], ["prompt-1", "prompt-2"])
        found = self.origin.api("GET", "/v1/client/prompts?query=PROMPT+5").json()
        self.assertEqual([p["id"] for p in found["prompts"]], ["prompt-5"])
        in_project = self.origin.api("GET", "/v1/client/prompts?project_id=project-2&module_id=module-2").json()
        self.assertEqual([p["id"] for p in in_project["prompts"]], ["prompt-6", "prompt-2"])
        self.assertEqual(self.origin.api("GET", "/v1/client/prompts?limit=many").status, 422)

    def test_model_prompt(self):
        special = self.origin.api("GET", "/v1/client/prompts/prompt-1/model/openai/gpt-4").json()
        self.assertTrue(special["is_model_specific"])
        self.assertEqual(special["instructions"], "Be concise and professional")
        general = self.origin.api("GET", "/v1/client/prompts/prompt-1/model/openai/other").json()
        self.assertFalse(general["is_model_specific"])
        self.assertNotIn("instructions", general)

    def test_batch(self):
        ask = {"prompt_ids": ["prompt-1", "nobody", "prompt-2"], "include_versions": True, "include_metadata": True}
        answer = self.origin.api("POST", "/v1/client/prompts/batch", ask).json()
        self.assertEqual(sorted(answer["prompts"]), ["prompt-1", "prompt-2"])
        self.assertEqual(answer["errors"], [{"prompt_id": "nobody", "error": "Prompt not found"}])
        self.assertEqual((answer["total_requested"], answer["total_found"]), (3, 2))
        one = answer["prompts"]["prompt-1"]
        self.assertEqual([v["version"] for v in one["versions"]], ["1.0.0"])
        self.assertIn("mas_risk_level", one)
        for left_out in ("provider_id", "model_specific_prompts", "mas_fairness_notes", "mas_testing_notes"):
            self.assertNotIn(left_out, one)
        self.origin.set(batch={"whole": True})
        ask = {"prompt_ids": ["prompt-1"], "include_metadata": True}
        whole = self.origin.api("POST", "/v1/client/prompts/batch", ask).json()
        self.assertEqual(whole["prompts"]["prompt-1"], self.origin.api("GET", "/v1/client/prompts/prompt-1").json())
        self.origin.set(batch={"whole": False})
        ask = {"prompt_ids": ["prompt-1"], "project_id": "project-2"}  # without metadata, unless asked for
        answer = self.origin.api("POST", "/v1/client/prompts/batch", ask).json()
        self.assertEqual(answer["errors"], [{"prompt_id": "prompt-1", "error": "No access to this prompt"}])
        ask["project_id"] = "project-1"
        answer = self.origin.api("POST", "/v1/client/prompts/batch", ask).json()
        self.assertEqual(list(answer["prompts"]["prompt-1"]), ["id", "version", "name", "content"])
        missing = self.origin.api("POST", "/v1/client/prompts/batch", {})
        self.assertEqual((missing.status, missing.json()["detail"][0]["loc"]), (422, ["body", "prompt_ids"]))
        for ids, why in (([], "ensure this value has at least 1 items"), ("a", "value is not a valid list"),
                         (["a"] * 101, "ensure this value has at most 100 items")):  # fmt: skip
            unfit = self.origin.api("POST", "/v1/client/prompts/batch", {"prompt_ids": ids})
            self.assertEqual((unfit.status, unfit.json()["detail"][0]["msg"]), (422, why))
        self.assertEqual(self.origin.api("POST", "/v1/client/prompts/batch", {"prompt_ids": ["a"] * 100}).status, 200)

    def test_older_paths(self):
        full = self.origin.api("GET", "/v1/client/prompts/prompt-1").json()
        for path in ("/api/prompts/prompt-1", "/api/prompts/prompt-1/1.0.0", "/prompts/prompt-1",
                     "/prompts/prompt-1/1.0.0", "/v1/prompts/prompt-1", "/api/v1/prompts/prompt-1"):  # fmt: skip
            self.assertEqual(self.origin.api("GET", path).json(), full, path)
        for path in ("/api/prompts/", "/prompts", "/v1/prompts", "/api/v1/prompts"):
            listed = self.origin.api("GET", path + "?limit=2&skip=1").json() if path == "/api/prompts/" else None
            if listed is not None:
                self.assertEqual([p["id"] for p in listed], ["prompt-2", "prompt-3"])
            self.assertEqual(len(self.origin.api("GET", path).json()), 8)

    def test_render(self):
        ask = {"prompt_id": "prompt-1", "model_provider": "openai", "variables": {"question": "why"}}
        answer = self.origin.api("POST", "/render", ask).json()
        self.assertEqual(answer["rendered_content"], "Answer why as GPT-4 would.")
        self.assertEqual(answer["messages"][0]["content"], answer["rendered_content"])
        self.assertEqual(self.origin.api("POST", "/render", {"prompt_id": "prompt-1", "variables": {}}).status, 422)
        self.assertEqual(self.origin.api("POST", "/render", {"prompt_id": "nobody"}).status, 404)
        compatible = self.origin.api("GET", "/prompts/prompt-1/compatibility/openai/gpt-4").json()
        self.assertTrue(compatible["compatible"] and compatible["is_compatible"])

    def test_the_typescript_client(self):
        """It asks whether its key is good, and renders with members of its own."""
        self.assertEqual(self.origin.api("GET", "/auth/validate").status, 200)
        for alias in ("latest", "1.0.0"):
            ask = {"id": "prompt-1", "alias": alias, "inputs": {"question": "why"}}
            answer = self.origin.api("POST", "/render", ask).json()
            self.assertIn("Answer why briefly", answer["messages"][0]["content"])
            self.assertEqual((answer["template_id"], answer["inputs_used"]), ("prompt-1", ask["inputs"]))
        self.assertEqual(self.origin.api("POST", "/render", {**ask, "alias": "9.9.9"}).status, 404)

    def test_usage(self):
        entry = {"endpoint": "/a", "method": "GET", "prompt_id": "prompt-1", "tokens_used": 7, "status_code": 200,
                 "processing_time_ms": 10, "estimated_cost_usd": "0.5"}  # fmt: skip
        self.assertEqual(self.origin.api("POST", "/v1/client/usage/log", entry).status, 200)
        self.assertEqual(self.origin.api("POST", "/v1/client/usage/log", dict(entry, status_code=500)).status, 200)
        self.assertEqual(self.origin.api("POST", "/v1/client/usage/log", {"method": "GET"}).status, 422)
        stats = self.origin.api("GET", "/v1/client/usage/stats").json()
        self.assertEqual(stats["total_requests"], 2)
        self.assertEqual((stats["total_tokens_used"], stats["total_cost_usd"]), (14, "1.000000"))
        self.assertEqual((stats["success_rate"], stats["requests_by_endpoint"]), (0.5, {"/a": 2}))
        self.assertEqual(stats["top_prompts"], [{"prompt_id": "prompt-1", "count": 2}])

    def test_keys(self):
        self.assertEqual(self.origin.api("POST", "/v1/client/auth/api-keys", {}).status, 422)
        made = self.origin.api("POST", "/v1/client/auth/api-keys", {"name": "app", "rate_limit_per_minute": 5}).json()
        self.assertRegex(made["api_key"], r"^po_[A-Za-z0-9]{24}$")
        data = made["api_key_data"]
        self.assertEqual((data["rate_limit_per_minute"], data["status"]), (5, "active"))
        ids = [k["id"] for k in self.origin.api("GET", "/v1/client/auth/api-keys").json()]
        self.assertIn(data["id"], ids)
        mine = {"Authorization": "Bearer " + made["api_key"]}
        self.assertEqual(self.origin.ask("GET", "/prompts/prompt-1", headers=mine).status, 200)
        self.assertEqual(self.origin.api("DELETE", "/v1/client/auth/api-keys/" + data["id"]).status, 200)
        refused = self.origin.ask("GET", "/prompts/prompt-1", headers=mine)
        self.assertEqual((refused.status, refused.json()), (401, {"detail": "API key is revoked"}))
        self.assertEqual(self.origin.api("DELETE", "/v1/client/auth/api-keys/nobody").status, 404)

    def test_validate(self):
        ask = {"api_key": API_KEY, "timestamp": "t", "method": "GET", "endpoint": "/x"}
        ask["signature"] = hmac.new(SECRET.encode(), (API_KEY + ":t:GET:/x").encode(), hashlib.sha256).hexdigest()
        self.assertTrue(self.origin.ask("POST", "/v1/client/auth/validate", ask).json()["valid"])
        ask["method"] = "PUT"
        answer = self.origin.ask("POST", "/v1/client/auth/validate", ask).json()
        self.assertEqual(answer, {"valid": False, "error": "Invalid signature"})

    def test_unknown_path_and_method(self):
        self.assertEqual(self.origin.api("GET", "/nowhere").status, 404)
        self.assertEqual(self.origin.api("PATCH", "/v1/client/prompts/prompt-1").status, 405)

    def test_head_has_the_length_and_no_body(self):
        answer = self.origin.api("HEAD", "/v1/client/prompts/prompt-1")
        full = self.origin.api("GET", "/v1/client/prompts/prompt-1")
        self.assertEqual((answer.body, answer.header("content-length")), (b"", str(len(full.body))))


class Credentials(Case):
    options = ("--no-limits",)
    path = "/v1/client/prompts/prompt-1"

    def refused(self, headers, status, detail, path=None):
        answer = self.origin.ask("GET", path or self.path, headers=headers)
        self.assertEqual((answer.status, answer.json()["detail"]), (status, detail))

    def documented(self, when=None, method="GET", path=None, secret=SECRET, suffix=""):
        when = when or datetime.datetime.now(datetime.timezone.utc)
        timestamp = when.strftime("%Y-%m-%dT%H:%M:%S") + suffix
        message = "%s:%s:%s:%s" % (API_KEY, timestamp, method, path or self.path)
        return {
            "Authorization": "Bearer " + API_KEY,
            "X-PromptOps-Timestamp": timestamp,
            "X-PromptOps-Signature": hmac.new(secret.encode(), message.encode(), hashlib.sha256).hexdigest(),
        }

    def client(self, nonce, target=None, method="GET", body=None, now=None):
        timestamp = str(int(now or time.time()))
        message = "%s:%s:%s:%s" % (method, target or self.path, timestamp, nonce)
        if body:
            message += ":" + hashlib.sha256(body.encode()).hexdigest()
        return {
            "Authorization": "PromptOps " + API_KEY,
            "X-PromptOps-Timestamp": timestamp,
            "X-PromptOps-Nonce": nonce,
            "X-PromptOps-Signature": hmac.new(API_KEY.encode(), message.encode(), hashlib.sha256).hexdigest(),
        }

    def test_none_and_wrong(self):
        self.refused({}, 403, "Not authenticated")
        self.refused({"Authorization": "Basic eA=="}, 403, "Invalid authentication credentials")
        self.refused({"Authorization": "Bearer po_other"}, 401, "Invalid API key")
        self.refused({"Authorization": "Bearer po_other"}, 401, "Invalid API key", "/auth/validate")
        self.assertEqual(self.origin.counts()["unauthorized"], 4)

    def test_bearer_alone(self):
        self.assertEqual(self.origin.api("GET", self.path).status, 200)
        self.origin.set(auth={"signature_required": True})
        self.refused({"Authorization": "Bearer " + API_KEY}, 401, "Missing signature or timestamp headers")

    def test_documented_scheme(self):
        self.assertEqual(self.origin.ask("GET", self.path, headers=self.documented()).status, 200)
        with_fraction = self.documented(suffix=".123456")
        self.assertEqual(self.origin.ask("GET", self.path, headers=with_fraction).status, 200)
        self.assertEqual(self.origin.ask("GET", self.path + "?project_id=project-1", headers=self.documented()).status, 200)

    def test_documented_scheme_refuses_what_the_real_server_refuses(self):
        self.refused(self.documented(suffix="Z"), 401, "Invalid or expired timestamp")
        unix = dict(self.documented(), **{"X-PromptOps-Timestamp": str(int(time.time()))})
        self.refused(unix, 401, "Invalid or expired timestamp")

    def test_documented_scheme_wrong_signature(self):
        self.refused(self.documented(secret="other"), 401, "Invalid signature")
        self.refused(self.documented(method="POST"), 401, "Invalid signature")
        self.refused(self.documented(path="/else"), 401, "Invalid signature")

    def test_stale_timestamps(self):
        now = datetime.datetime(2026, 1, 1, 12, 0, 0)
        self.origin.set(clock={"freeze": int(now.replace(tzinfo=datetime.timezone.utc).timestamp())})
        for seconds, status in ((300, 200), (301, 401), (-300, 200), (-301, 401)):
            headers = self.documented(now + datetime.timedelta(seconds=seconds))
            self.assertEqual(self.origin.ask("GET", self.path, headers=headers).status, status, seconds)

    def test_client_scheme(self):
        self.assertEqual(self.origin.ask("GET", self.path, headers=self.client("n1")).status, 200)
        target = self.path + "?project_id=project-1"
        self.assertEqual(self.origin.ask("GET", target, headers=self.client("n2", target)).status, 200)
        self.assertEqual(self.origin.ask("GET", target, headers=self.client("n3")).status, 200)
        body = '{"prompt_ids":["prompt-1"]}'
        headers = self.client("n4", "/v1/client/prompts/batch", "POST", body)
        self.assertEqual(self.origin.ask("POST", "/v1/client/prompts/batch", body, headers).status, 200)
        headers = self.client("n5", "/v1/client/prompts/batch", "POST", body + " ")
        self.assertEqual(self.origin.ask("POST", "/v1/client/prompts/batch", body, headers).status, 401)

    def test_client_scheme_stale(self):
        self.refused(self.client("n1", now=time.time() - 310), 401, "Invalid or expired timestamp")

    def test_replay(self):
        headers = self.client("once")
        self.assertEqual(self.origin.ask("GET", self.path, headers=headers).status, 200)
        self.refused(headers, 401, "Nonce already used")
        self.assertEqual(self.origin.counts()["replays"], 1)
        self.refused(dict(self.client("x"), **{"X-PromptOps-Signature": "0" * 64}), 401, "Invalid signature")
        self.assertEqual(self.origin.ask("GET", self.path, headers=self.client("x")).status, 200)

    def test_not_required(self):
        self.origin.set(auth={"required": False})
        self.assertEqual(self.origin.ask("GET", self.path).status, 200)


class Limits(Case):
    path = "/v1/client/prompts/prompt-1"
    noon = 1767268800  # 2026-01-01T12:00:00Z

    def spend(self, n):
        return [self.origin.api("GET", self.path).status for _ in range(n)]

    def setUp(self):
        super().setUp()
        self.origin.set(clock={"freeze": self.noon + 10})

    def test_minute(self):
        self.assertEqual(set(self.spend(60)), {200})
        over = self.origin.api("GET", self.path)
        self.assertEqual((over.status, over.json()), (401, {"detail": "Rate limit exceeded"}))
        self.assertIsNone(over.header("retry-after"))
        self.origin.set(clock={"freeze": self.noon + 59})
        self.assertEqual(self.spend(1), [401])
        self.origin.set(clock={"freeze": self.noon + 60})
        self.assertEqual(self.spend(1), [200])
        self.assertEqual(self.origin.counts()["rate_limited"], 2)

    def test_hour_and_day(self):
        self.origin.set(rate_limit={"minute": 100, "hour": 3, "day": 5})
        self.assertEqual(self.spend(4), [200, 200, 200, 401])
        self.origin.set(clock={"freeze": self.noon + 3600})
        self.assertEqual(self.spend(3), [200, 200, 401])
        self.origin.set(clock={"freeze": self.noon + 86400})
        self.assertEqual(self.spend(1), [200])

    def test_documented_dialect_and_fields(self):
        self.origin.set(rate_limit={"minute": 1, "dialect": "documented", "headers": True, "retry_after": 0})
        first = self.origin.api("GET", self.path)
        self.assertEqual((first.status, first.header("X-RateLimit-Remaining-Minute")), (200, "0"))
        self.assertEqual(first.header("X-RateLimit-Reset-Hour"), "2026-01-01T13:00:00Z")
        over = self.origin.api("GET", self.path)
        self.assertEqual((over.status, over.json()["status_code"], over.json()["success"]), (429, 429, False))
        self.assertEqual(over.header("retry-after"), "50")
        self.origin.set(rate_limit={"dialect": "forbidden", "retry_after": 7})
        over = self.origin.api("GET", self.path)
        self.assertEqual((over.status, over.header("retry-after")), (403, "7"))

    def test_usage_limits_costs_a_call(self):
        first = self.origin.api("GET", "/v1/client/usage/limits").json()
        self.assertEqual((first["current_usage_minute"], first["limits_minute"], first["remaining_minute"]), (1, 60, 59))
        self.assertEqual(first["reset_time_minute"], "2026-01-01T12:01:00")
        self.spend(70)
        self.origin.set(rate_limit={"minute": 1000})
        last = self.origin.api("GET", "/v1/client/usage/limits").json()
        self.assertEqual((last["current_usage_minute"], last["current_usage_hour"]), (72, 61))

    def test_each_key_has_its_own(self):
        made = self.origin.api("POST", "/v1/client/auth/api-keys", {"name": "a", "rate_limit_per_minute": 1}).json()
        mine = {"Authorization": "Bearer " + made["api_key"]}
        self.assertEqual([self.origin.ask("GET", self.path, headers=mine).status for _ in range(2)], [200, 401])
        self.assertEqual(self.spend(1), [200])

    def test_off(self):
        self.origin.set(rate_limit={"enabled": False})
        self.assertEqual(set(self.spend(65)), {200})


class Generic(Case):
    def test_bytes(self):
        for n in (0, 1, 64, 65535, 65536, 1000001):
            answer = self.origin.ask("GET", "/bytes/%d" % n)
            self.assertEqual((answer.status, answer.header("content-length")), (200, str(n)))
            self.assertEqual(answer.body, pattern(n))
        for bad in ("x", "-1", "1x", "99999999999999999999"):
            self.assertEqual(self.origin.ask("GET", "/bytes/" + bad).status, 400)

    def test_chunked(self):
        answer = self.origin.ask("GET", "/chunked/200000/777")
        self.assertEqual((answer.header("transfer-encoding"), answer.body), ("chunked", pattern(200000)))
        self.assertEqual(self.origin.ask("GET", "/chunked/0/5").body, b"")
        self.assertEqual(self.origin.ask("GET", "/chunked/5/0").status, 400)

    def test_http10_gets_no_chunks(self):
        with self.origin.connect() as s:
            s.sendall(b"GET /chunked/100/30 HTTP/1.0\r\n\r\n")
            data, reset = read_all(s)
        head, body = data.split(b"\r\n\r\n", 1)
        self.assertEqual((body, reset), (pattern(100), False))
        self.assertNotIn(b"transfer-encoding", head)

    def test_sse(self):
        with self.origin.connect() as s:
            s.sendall(b"GET /sse/3/150 HTTP/1.1\r\nHost: x\r\n\r\n")
            data, times = b"", []
            while not data.endswith(b"0\r\n\r\n"):
                part = s.recv(4096)
                self.assertTrue(part)
                data += part
                times.extend([time.monotonic()] * part.count(b"event: tick"))
        self.assertIn(b"content-type: text/event-stream", data)
        self.assertEqual(len(times), 3)
        self.assertGreater(times[2] - times[0], 0.2)

    def test_echo(self):
        answer = self.origin.ask("PUT", "/echo?a=1", b'x"\xff', {"X-Thing": "yes"}).json()
        self.assertEqual((answer["method"], answer["target"], answer["body"]), ("PUT", "/echo?a=1", 'x"\xff'))
        self.assertIn(["X-Thing", "yes"], answer["headers"])

    def test_status(self):
        for status in (200, 201, 204, 301, 304, 404, 429, 500, 503):
            self.assertEqual(self.origin.ask("GET", "/status/%d" % status).status, status)
        self.assertEqual(self.origin.ask("GET", "/status/99").status, 400)

    def test_delay(self):
        start = time.monotonic()
        self.assertEqual(self.origin.ask("GET", "/delay/200").status, 200)
        self.assertGreaterEqual(time.monotonic() - start, 0.2)

    def test_upload(self):
        body = os.urandom(3000000)
        want = {"length": len(body), "sha256": hashlib.sha256(body).hexdigest()}
        self.assertEqual(self.origin.ask("POST", "/upload", body).json(), want)
        parts = (body[i : i + 70001] for i in range(0, len(body), 70001))
        connection = http.client.HTTPConnection("127.0.0.1", self.origin.port, timeout=10)
        connection.request("PUT", "/upload", body=parts, encode_chunked=True, headers={"Transfer-Encoding": "chunked"})
        self.assertEqual(json.loads(connection.getresponse().read()), want)
        connection.close()

    def test_too_large_a_body_to_keep(self):
        with self.origin.connect() as s:
            s.sendall(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\n")
            try:
                s.sendall(b"x" * 9000000)
            except (ConnectionResetError, BrokenPipeError):
                pass
            data, _ = read_all(s)
        self.assertTrue(data.startswith(b"HTTP/1.1 413 "), data[:40])

    def test_expect_continue(self):
        with self.origin.connect() as s:
            s.sendall(b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
            self.assertEqual(s.recv(100), b"HTTP/1.1 100 Continue\r\n\r\n")
            s.sendall(b"ab")
            self.assertTrue(s.recv(1000).startswith(b"HTTP/1.1 200 OK\r\n"))

    def test_pipelining_in_order(self):
        many = 3000
        with self.origin.connect() as s:
            ask = b"".join(b"GET /bytes/%d HTTP/1.1\r\nHost: x\r\n\r\n" % i for i in range(many))
            send = in_background(lambda: s.sendall(ask + b"GET /status/204 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
            data, reset = read_all(s)
            send()
        self.assertFalse(reset)
        at = 0
        for i in range(many):
            end = data.index(b"\r\n\r\n", at) + 4
            self.assertIn(b"content-length: %d\r\n" % i, data[at:end])
            self.assertEqual(data[end : end + i], pattern(i))
            at = end + i
        self.assertTrue(data[at:].startswith(b"HTTP/1.1 204 "))
        self.assertEqual(self.origin.counts()["operations"]["bytes"], many)

    def test_head_in_pieces(self):
        with self.origin.connect() as s:
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in b"GET /bytes/3 HTTP/1.1\r\nHost: x\r\n\r\n":
                s.sendall(bytes([byte]))
            self.assertIn(b"\r\n\r\n012", s.recv(1000))

    def test_malformed(self):
        for ask, status in (
            (b"GET /bytes/1\r\n\r\n", 400),
            (b"GET /bytes/1 HTTP/1.1\r\n\r\n", 400),
            (b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
            (b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
            (b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
            (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 70000 + b"\r\n\r\n", 431),
        ):
            with self.origin.connect() as s:
                s.sendall(ask)
                data, _ = read_all(s)
            self.assertTrue(data.startswith(b"HTTP/1.1 %d " % status), (ask[:40], data[:40]))
            self.assertIn(b"connection: close\r\n", data)

    def test_cacheable(self):
        answer = self.origin.ask("GET", "/cacheable/100?max-age=7")
        self.assertEqual((answer.header("cache-control"), answer.body), ("max-age=7", pattern(100)))
        etag = answer.header("etag")
        again = self.origin.ask("GET", "/cacheable/100?max-age=7", headers={"If-None-Match": etag})
        self.assertEqual((again.status, again.body, again.header("etag")), (304, b"", etag))
        self.assertEqual(self.origin.ask("GET", "/cacheable/100", headers={"If-None-Match": '"x"'}).status, 200)
        self.assertEqual(self.origin.ask("GET", "/cacheable/100?max-age=x").status, 400)

    def test_client_gone_is_counted(self):
        with self.origin.connect() as s:
            s.sendall(b"GET /delay/60000 HTTP/1.1\r\nHost: x\r\n\r\n")
            self.until(lambda c: c["concurrent_now"] == 1)
        self.until(lambda c: c["aborted"] == 1)

    def until(self, condition):
        deadline = time.monotonic() + 10
        while not condition(self.origin.counts()):
            self.assertLess(time.monotonic(), deadline, "never happened")
            time.sleep(0.005)


class WebSocket(Case):
    def open(self):
        s = self.origin.connect()
        key = base64.b64encode(os.urandom(16)).decode()
        s.sendall(
            (
                "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n\r\n" % key
            ).encode()
        )
        head = b""
        while b"\r\n\r\n" not in head:
            head += s.recv(1)
        self.assertTrue(head.startswith(b"HTTP/1.1 101 "))
        accept = base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest())
        self.assertIn(accept, head)
        return s

    @staticmethod
    def frame(opcode, body, fin=True):
        mask = os.urandom(4)
        n = len(body)
        size = bytes([0x80 | n]) if n < 126 else b"\xfe" + struct.pack(">H", n) if n < 65536 else b"\xff" + struct.pack(">Q", n)
        return bytes([(0x80 if fin else 0) | opcode]) + size + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(body))

    @staticmethod
    def exactly(s, n):
        data = b""
        while len(data) < n:
            part = s.recv(n - len(data))
            if not part:
                raise EOFError(data)
            data += part
        return data

    def receive(self, s):
        first, size = self.exactly(s, 2)
        if size == 126:
            size = struct.unpack(">H", self.exactly(s, 2))[0]
        elif size == 127:
            size = struct.unpack(">Q", self.exactly(s, 8))[0]
        return first, self.exactly(s, size)

    def test_echo(self):
        with self.open() as s:
            for body in (b"", b"hello", b"x" * 125, b"y" * 126, b"z" * 70000):
                s.sendall(self.frame(1, body))
                self.assertEqual(self.receive(s), (0x81, body))
            s.sendall(self.frame(2, b"a", fin=False) + self.frame(9, b"ping") + self.frame(0, b"b"))
            self.assertEqual(self.receive(s), (0x02, b"a"))
            self.assertEqual(self.receive(s), (0x8A, b"ping"))
            self.assertEqual(self.receive(s), (0x80, b"b"))
            s.sendall(self.frame(8, b"\x03\xe8"))
            self.assertEqual(self.receive(s), (0x88, b"\x03\xe8"))
            self.assertEqual(s.recv(1), b"")

    def test_faults_of_the_peer(self):
        for bad, code in ((b"\x81\x01a", 1002), (self.frame(3, b""), 1002), (b"\x81\xff" + struct.pack(">Q", 1 << 40), 1009)):
            with self.open() as s:
                s.sendall(bad + b"\0" * 4)
                self.assertEqual(self.receive(s), (0x88, struct.pack(">H", code)))

    def test_refused(self):
        self.assertEqual(self.origin.ask("GET", "/ws").status, 426)


class Faults(Case):
    options = ("--no-auth",)
    path = "/v1/client/prompts/prompt-1"

    def faults(self, **fault):
        self.origin.set(faults=[fault])

    def raw(self, path=None):
        with self.origin.connect() as s:
            s.sendall(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % (path or self.path).encode())
            return read_all(s)

    def test_latency(self):
        for distribution in ("constant", "exponential", "lognormal"):
            self.faults(latency={"mean_ms": 30, "distribution": distribution})
            start = time.monotonic()
            for _ in range(20):
                self.assertEqual(self.origin.ask("GET", self.path).status, 200)
            took = time.monotonic() - start
            # 20 draws with mean 30 ms: 0.6 s; wide bounds, because two of them are random.
            self.assertGreater(took, 0.59 if distribution == "constant" else 0.1, distribution)
            self.assertLess(took, 6, distribution)

    def test_workers(self):
        """Six calls of 100 ms take two workers 300 ms."""
        self.origin.set(workers=2, faults=[{"latency": {"mean_ms": 100}}])
        start = time.monotonic()
        for result in [in_background(lambda: self.origin.ask("GET", self.path).status) for _ in range(6)]:
            self.assertEqual(result(), 200)
        self.assertGreater(time.monotonic() - start, 0.29)

    def test_errors_of_one_operation(self):
        self.faults(operation="get_prompt", errors={"503": 1})
        answer = self.origin.ask("GET", self.path)
        self.assertEqual((answer.status, answer.json()["status_code"]), (503, 503))
        self.assertEqual(self.origin.ask("GET", self.path + "/versions").status, 200)

    def test_error_rate(self):
        self.faults(errors={"500": 0.3, "502": 0.3})
        seen = [self.origin.ask("GET", self.path).status for _ in range(200)]
        for status in (200, 500, 502):
            self.assertGreater(seen.count(status), 10)

    def test_times(self):
        self.faults(operation="get_prompt", errors={"503": 1}, times=2)
        self.assertEqual([self.origin.ask("GET", self.path).status for _ in range(3)], [503, 503, 200])

    def test_times_survive_another_change(self):
        self.faults(errors={"503": 1}, times=2)
        self.assertEqual(self.origin.ask("GET", self.path).status, 503)
        self.origin.set(idle_timeout_ms=0)
        self.assertEqual([self.origin.ask("GET", self.path).status for _ in range(2)], [503, 200])

    def test_reset_before_answer(self):
        self.faults(reset_before=1)
        self.assertEqual(self.raw(), (b"", True))
        self.assertEqual(self.origin.counts()["resets"], 1)

    def test_reset_loses_the_answer_and_keeps_the_effect(self):
        self.faults(operation="log_usage", reset_before=1, times=1)
        with self.assertRaises(ConnectionError):
            self.origin.ask("POST", "/v1/client/usage/log", {"endpoint": "/a", "method": "GET"})
        self.assertEqual(self.origin.ask("GET", "/v1/client/usage/stats").json()["total_requests"], 1)

    def test_errors_have_no_effect(self):
        self.faults(operation="log_usage", errors={"500": 1}, times=1)
        self.origin.ask("POST", "/v1/client/usage/log", {"endpoint": "/a", "method": "GET"})
        self.assertEqual(self.origin.ask("GET", "/v1/client/usage/stats").json()["total_requests"], 0)

    def check_cut(self, path, length):
        data, reset = self.raw(path)
        head, body = data.split(b"\r\n\r\n", 1)
        self.assertTrue(head.startswith(b"HTTP/1.1 200 "))
        self.assertTrue(0 < len(body) < length, (path, len(body)))
        return reset

    def test_reset_in_body(self):
        self.faults(reset_in_body=1)
        self.assertTrue(self.check_cut(self.path, 900))
        self.assertTrue(self.check_cut("/bytes/1000000", 1000000))

    def test_truncated(self):
        self.faults(truncate=1)
        self.assertFalse(self.check_cut(self.path, 900))
        self.assertFalse(self.check_cut("/bytes/1000000", 1000000))
        self.assertFalse(self.check_cut("/chunked/1000/100", 1000))
        self.assertFalse(self.check_cut("/sse/10/0", 400))
        self.assertEqual(self.origin.counts()["truncated"], 4)

    def test_slow_body(self):
        self.faults(slow_body={"bytes_per_second": 5000})
        start = time.monotonic()
        for path in ("/bytes/1000", "/chunked/1000/300"):
            self.assertEqual(self.origin.ask("GET", path).body, pattern(1000))
        took = time.monotonic() - start
        self.assertGreater(took, 0.3)
        self.assertLess(took, 5)

    def test_hang(self):
        self.faults(hang=1)
        with self.origin.connect(timeout=0.3) as s:
            s.sendall(b"GET /bytes/1 HTTP/1.1\r\nHost: x\r\n\r\n")
            with self.assertRaises(socket.timeout):
                s.recv(1)

    def test_rate_limited(self):
        self.faults(rate_limited={})
        answer = self.origin.ask("GET", self.path)
        self.assertEqual((answer.status, answer.json()), (401, {"detail": "Rate limit exceeded"}))
        self.faults(rate_limited={"dialect": "documented", "retry_after": 3})
        answer = self.origin.ask("GET", self.path)
        self.assertEqual((answer.status, answer.header("retry-after")), (429, "3"))

    def test_outage_503_and_reset(self):
        self.origin.set(outage="503")
        self.assertEqual(self.origin.ask("GET", self.path).status, 503)
        self.origin.set(outage="reset")
        self.assertEqual(self.raw(), (b"", True))
        self.origin.set(outage="none")
        self.assertEqual(self.origin.ask("GET", self.path).status, 200)

    def until_connecting(self, works):
        deadline = time.monotonic() + 10
        while True:
            try:
                self.origin.connect().close()
                if works:
                    return
            except ConnectionRefusedError:
                if not works:
                    return
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.005)

    def test_outage_refuse(self):
        self.origin.set(outage="refuse")
        self.until_connecting(False)
        self.origin.set(outage="none")
        self.until_connecting(True)
        self.assertEqual(self.origin.ask("GET", self.path).status, 200)

    def test_control_works_in_an_outage_on_its_own_port(self):
        self.origin.set(outage="reset")
        self.assertEqual(self.origin.ask("GET", "/__control", port=self.origin.control_port).status, 200)
        self.assertEqual(self.origin.ask("GET", "/__control").status, 200)

    def test_idle_timeout(self):
        self.origin.set(idle_timeout_ms=100)
        with self.origin.connect() as s:
            s.sendall(b"GET /bytes/1 HTTP/1.1\r\nHost: x\r\n\r\n")
            data, reset = read_all(s)
        self.assertTrue(data.endswith(b"\r\n\r\n0"))
        self.assertFalse(reset)
        self.assertEqual(self.origin.counts()["idle_closed"], 1)

    def test_fields_and_validators(self):
        rule = {"operation": "get_prompt", "set": {"Cache-Control": "max-age=60", "Vary": "Accept"}, "etag": True,
                "last_modified": True}  # fmt: skip
        self.origin.set(fields=[rule])
        answer = self.origin.ask("GET", self.path)
        self.assertEqual((answer.header("cache-control"), answer.header("vary")), ("max-age=60", "Accept"))
        etag, modified = answer.header("etag"), answer.header("last-modified")
        for condition in ({"If-None-Match": etag}, {"If-None-Match": 'W/"a", ' + etag}, {"If-Modified-Since": modified}):
            again = self.origin.ask("GET", self.path, headers=condition)
            self.assertEqual((again.status, again.body), (304, b""), condition)
        other = {"If-None-Match": '"a"', "If-Modified-Since": modified}
        self.assertEqual(self.origin.ask("GET", self.path, headers=other).status, 200)
        self.assertIsNone(self.origin.ask("GET", self.path + "/versions").header("cache-control"))
        self.origin.ask("PUT", "/api/prompts/prompt-1", {"content": "new"})
        self.assertNotEqual(self.origin.ask("GET", self.path).header("etag"), etag)

    def test_bad_settings_say_which_and_change_nothing(self):
        before = self.origin.ask("GET", "/__control").json()["settings"]
        for settings, words in (
            ({"fault": []}, "fault: unknown; allowed here: faults"),
            ({"faults": {}}, "faults: must be a list"),
            ({"faults": [5]}, "faults[0]: must be an object"),
            ({"faults": [{"operation": "fly"}]}, "faults[0].operation: must be \"all\" or one of"),
            ({"faults": [{"operation": "control_get"}]}, "faults[0].operation: must be"),
            ({"faults": [{"errors": {"200": 1}}]}, "faults[0].errors.200: must be a status from 400 to 599"),
            ({"faults": [{"errors": {"500": 2}}]}, "faults[0].errors.500: must be a number from 0 to 1"),
            ({"faults": [{"latency": {"mean_ms": -1}}]}, "faults[0].latency.mean_ms: must be a number from 0"),
            ({"faults": [{"latency": {"distribution": "x"}}]}, "faults[0].latency.distribution: must be one of \"constant\""),
            ({"faults": [{}, {"times": 0}]}, "faults[1].times: must be a whole number from 1"),
            ({"faults": [{"slow_body": {"speed": 1}}]}, "faults[0].slow_body.speed: unknown; allowed here: rate"),
            ({"outage": "maybe"}, "outage: must be one of \"none\", \"refuse\""),
            ({"idle_timeout_ms": "1s"}, "idle_timeout_ms: must be a whole number"),
            ({"auth": {"required": 1}}, "auth.required: must be true or false"),
            ({"rate_limit": {"dialect": "real "}}, "rate_limit.dialect: must be one of"),
            ({"fields": [{"set": {"Content-Length": "1"}}]}, "fields[0].set.Content-Length: must be a field"),
            ({"fields": [{"set": {"X": "a\r\nb"}}]}, "fields[0].set.X: must be a field"),
        ):
            answer = self.origin.ask("POST", "/__control", settings)
            self.assertEqual(answer.status, 400, settings)
            self.assertIn(words, answer.json()["error"])
        for body in ("", "{", "[]", '{"a":1,"a":2}'):
            self.assertEqual(self.origin.ask("POST", "/__control", body).status, 400)
        self.assertEqual(self.origin.ask("GET", "/__control").json()["settings"], before)

    def test_counts(self):
        self.origin.ask("GET", self.path)
        self.origin.ask("GET", "/bytes/1000")
        counts = self.origin.counts()
        self.assertEqual((counts["requests"], counts["operations"]), (2, {"get_prompt": 1, "bytes": 1}))
        self.assertGreater(counts["bytes_out"], 1900)
        self.origin.reset()
        self.assertEqual(self.origin.counts()["requests"], 0)

    def test_concurrent_max(self):
        waits = [in_background(lambda: self.origin.ask("GET", "/delay/300").status) for _ in range(5)]
        self.assertEqual([w() for w in waits], [200] * 5)
        self.assertEqual(self.origin.counts()["concurrent_max"], 5)


class Tls(unittest.TestCase):
    def test_https(self):
        with tempfile.TemporaryDirectory() as folder:
            cert, key = os.path.join(folder, "c.pem"), os.path.join(folder, "k.pem")
            subprocess.run(
                ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                 "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-out", cert, "-keyout", key],
                check=True, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            origin = Origin("--tls-cert", cert, "--tls-key", key, "--no-auth", "--threads", "2")
            try:
                context = ssl.create_default_context(cafile=cert)
                context.set_alpn_protocols(["h2", "http/1.1"])
                with context.wrap_socket(origin.connect(), server_hostname="localhost") as s:
                    self.assertEqual(s.selected_alpn_protocol(), "http/1.1")
                    for n in (10, 1000000):
                        s.sendall(b"GET /bytes/%d HTTP/1.1\r\nHost: x\r\n\r\n" % n)
                        data = b""
                        while not data.endswith(b"\r\n\r\n" + pattern(n)):
                            part = s.recv(65536)
                            self.assertTrue(part)
                            data += part
            finally:
                origin.stop()


class CommandLine(unittest.TestCase):
    def run_it(self, *options):
        return subprocess.run([binary(), *options], capture_output=True, text=True, timeout=10)

    def test_usage(self):
        self.assertEqual(self.run_it("--help").returncode, 0)
        for options in (["--threads", "0"], ["--nonsense"], ["more"], ["--tls-cert", "x"], ["--limits", "1,2"],
                        ["--dialect", "other"], ["--api-key", "x"]):  # fmt: skip
            self.assertEqual(self.run_it(*options).returncode, 2, options)

    def test_bad_address(self):
        for where in ("nowhere", "127.0.0.1:notaport", "203.0.113.1:1"):
            answer = self.run_it("--listen", where)
            self.assertEqual(answer.returncode, 1)
            self.assertIn(where, answer.stderr)

    def test_own_key_and_missing_certificate(self):
        origin = Origin("--api-key", "po_mine:hush", "--no-limits")
        try:
            answer = origin.ask("GET", "/prompts/prompt-1", headers={"Authorization": "Bearer po_mine"})
            self.assertEqual(answer.status, 200)
        finally:
            origin.stop()
        answer = self.run_it("--tls-cert", "/nonexistent", "--tls-key", "/nonexistent")
        self.assertEqual(answer.returncode, 2)
        self.assertIn("/nonexistent", answer.stderr)


if __name__ == "__main__":
    unittest.main()
