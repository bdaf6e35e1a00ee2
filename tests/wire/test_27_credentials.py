"""Credentials that the sidecar holds: how they are shown and signed, that they go nowhere else, and how they are swapped
(INTERFACE 2 `auth`, promptops-api)."""
import json
import os
import signal
import threading
import time

from harness import *
from lib.credentials import API_KEY, SCHEMES, SECRET_KEY, SIGNATURE_FIELDS, Api, Mounted, dumpable_memory, is_signed, real_core
from test_23_retry import RETRY, flaky, say, drop
from test_43_tls import Authority

CLIENTS_OWN = [("Authorization", "Bearer po_theClientsOwn"), ("X-API-Key", "po_theClientsOwn"), ("X-PromptOps-Timestamp", "1"),
               ("X-PromptOps-Nonce", "2"), ("X-PromptOps-Signature", "3"), ("Cookie", "a=b"), ("X-Other", "4")]


def pieces_of(data, size):
    return [data[at:at + size] for at in range(0, len(data), size)]


def forms_of(scheme):
    """The default form of timestamps, and all that may be set."""
    return [(None, "unix" if scheme == "promptops" else "naive_utc")] + [(f, f) for f in ("naive_utc", "zulu", "unix")]


def test_every_scheme_and_form(t):
    """Each request carries the sidecar's credential, signed anew, and none of the client's own."""
    origin = t.origin()
    for scheme in SCHEMES:
        for setting, form in forms_of(scheme):
            with t.case("%s, %s" % (scheme, setting)):
                config = Mounted(t).config(scheme)
                if setting:
                    config["auth.timestamp_format"] = setting
                sidecar = t.sidecar(origin, config)
                before = origin.count()
                with sidecar.client() as client:
                    for target in ("/", "/a/b%20c?x=1&y=%2F", "/v1/client/prompts/p/"):
                        for fields in ([], CLIENTS_OWN):
                            equal(client.request(target, fields=fields).status, 200, "status")
                            is_signed(origin.last(), scheme, form=form)
                            equal(origin.last().all("X-API-Key"), [], "the client's key")
                            equal(origin.last().get("Cookie"), "a=b" if fields else None, "Cookie")
                            equal(origin.last().get("X-Other"), "4" if fields else None, "another field")
                    equal(client.request("/", "HEAD").status, 200, "status of HEAD")
                    is_signed(origin.last(), scheme, form=form)
                nonces = [r.get("X-PromptOps-Nonce") for r in origin.requests[before:] if scheme == "promptops"]
                equal(len(set(nonces)), len(nonces), "distinct nonces")


def test_the_path_of_the_upstreams_url_is_signed_too(t):
    origin = t.origin()
    for scheme in ("signed", "promptops"):
        with t.case(scheme):
            sidecar = t.sidecar(origin.url + "/base/v2", Mounted(t).config(scheme))
            equal(sidecar.request("/x?q=1").status, 200, "status")
            equal(origin.last().target, "/base/v2/x?q=1", "target")
            is_signed(origin.last(), scheme, form="unix" if scheme == "promptops" else "naive_utc")


def test_bodies(t):
    """The Python client's scheme covers the body: with a length or chunked, empty or not."""
    origin = t.origin()
    for scheme in ("signed", "promptops"):
        sidecar = t.sidecar(origin, Mounted(t).config(scheme))
        for name, body, more in [("length", b"x" * 1000, {}), ("large", os.urandom(700000), {}), ("empty", b"", {}), ("chunked", b"y" * 70000, {"chunked": True}),
                                 ("chunked and empty", b"", {"chunked": True})]:
            with t.case("%s, %s" % (scheme, name)), sidecar.client() as client:
                if more:
                    client.send(b"POST /p HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(*pieces_of(body, 7000)))
                    equal(client.response("POST").status, 200, "status")
                else:
                    equal(client.request("/p", "POST", body=body).status, 200, "status")
                equal(origin.last().body, body, "body")
                is_signed(origin.last(), scheme, form="unix" if scheme == "promptops" else "naive_utc")


def test_nothing_goes_up_before_a_body_that_is_signed_is_whole(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, Mounted(t).config("promptops"))
    with sidecar.client() as client:
        client.send(b"POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n12345")
        wait_for(lambda: sidecar.metric("promptops_active_requests") == 1, "the request to be held")
        client.send(b"6789")
        equal(sidecar.request("/other").status, 200, "another request's status")
        equal([r.target for r in origin.requests], ["/other"], "requests at the origin")
        client.send(b"0")
        equal(client.response("POST").status, 200, "status")
    equal(origin.last().body, b"1234567890", "body")
    is_signed(origin.last(), "promptops", form="unix")


def test_a_client_that_leaves_while_its_body_is_held(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, Mounted(t).config("promptops"))
    with sidecar.client() as client:
        client.send(b"POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n12345")
        wait_for(lambda: sidecar.metric("promptops_active_requests") == 1, "the request to be held")
    wait_for(lambda: sidecar.metric("promptops_active_requests") == 0, "the request to be given up")
    equal(origin.count(), 0, "requests at the origin")


def test_expect_100_of_a_body_that_is_held(t):
    """The sidecar itself asks for it: the upstream hears of the request only when it is whole."""
    origin = t.origin()
    sidecar = t.sidecar(origin, Mounted(t).config("promptops"))
    with sidecar.client() as client:
        client.send(b"POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        equal(client.exactly(len(b"HTTP/1.1 100 Continue\r\n\r\n")), b"HTTP/1.1 100 Continue\r\n\r\n", "interim answer")
        client.send(b"body")
        equal(client.response("POST").status, 200, "status")
    equal((origin.last().body, origin.last().get("Expect")), (b"body", None), "body and Expect")


def test_a_body_too_large_to_be_signed(t):
    """At the limit it is signed, beyond it refused by name; a scheme that does not cover it streams it."""
    limit = 100000
    origin = t.origin()
    sidecar = t.sidecar(origin, Mounted(t).config("promptops", **{"retry.max_buffered_body": limit}))
    for name, send in [("length", lambda c, n: c.send_if_open(b"POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % n + b"x" * n)),
                       ("chunked", lambda c, n: c.send_if_open(b"POST /p HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(*pieces_of(b"x" * n, 5000))))]:
        with t.case(name + " at the limit"), sidecar.client() as client:
            send(client, limit)
            equal(client.response("POST").status, 200, "status")
            equal(len(origin.last().body), limit, "bytes at the origin")
            is_signed(origin.last(), "promptops", form="unix")
        with t.case(name + " beyond it"), sidecar.client() as client:
            before = origin.count()
            send(client, limit + 1)
            answer = made_up(client.response("POST"), 413)
            equal(json.loads(answer.body)["details"]["reason"], "BODY_UNSIGNABLE", "reason")
            equal(origin.count(), before, "requests at the origin")
    with t.case("refused before it is sent"), sidecar.client() as client:
        client.send(b"POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n" % (limit + 1))
        made_up(client.response("POST"), 413)
    with t.case("signed"):
        sidecar = t.sidecar(origin, Mounted(t).config("signed", **{"retry.max_buffered_body": limit}))
        equal(sidecar.request("/p", "POST", body=b"x" * 3 * limit).status, 200, "status")
        is_signed(origin.last(), "signed")


def test_every_attempt_is_signed_anew(t):
    """Pain 22: a retried request has a timestamp and a nonce of its own, so that it is neither stale nor a replay."""
    origin = t.origin()
    for scheme in ("signed", "promptops"):
        for name, act in [("503", say(503)), ("close", drop)]:
            with t.case("%s, %s" % (scheme, name)):
                sidecar = t.sidecar(origin, {**RETRY, **Mounted(t).config(scheme), "retry.base_delay": "1100ms", "retry.max_delay": "2s"})
                flaky(origin, 2, act)
                before = origin.count()
                equal(sidecar.request("/flaky", "PUT", body=b"again").status, 200, "status")
                attempts = origin.requests[before:]
                equal([r.body for r in attempts], [b"again"] * 3, "bodies")
                for request in attempts:
                    is_signed(request, scheme, form="unix" if scheme == "promptops" else "naive_utc")
                equal(len({r.get("X-PromptOps-Timestamp") for r in attempts}), 3, "timestamps, with more than a second between attempts")
                if scheme == "promptops":
                    equal(len({r.get("X-PromptOps-Nonce") for r in attempts}), 3, "nonces")


CACHE = {"cache.enabled": True, "cache.stale_while_revalidate": "1h"}


def test_revalidation_refresh_and_health_checks_are_signed(t):
    origin = t.origin()
    origin.on["/etag"] = lambda conn, r: conn.reply(304, [("ETag", '"1"')], b"") if r.get("If-None-Match") else conn.reply(200, [("ETag", '"1"'), ("Cache-Control", "max-age=0, must-revalidate")])
    origin.on["/swr"] = lambda conn, r: conn.reply(200, [("ETag", '"1"'), ("Cache-Control", "max-age=1, stale-while-revalidate=60"), ("Age", "1")])
    for scheme in SCHEMES:
        with t.case(scheme):
            form = "unix" if scheme == "promptops" else "naive_utc"
            sidecar = t.sidecar(origin, {**CACHE, **Mounted(t).config(scheme), "pool.health_check_interval": "100ms", "pool.health_check_path": "/health-%s" % scheme})
            for _ in range(2):
                equal(sidecar.request("/etag", fields=CLIENTS_OWN).status, 200, "status")
            equal(origin.last().get("If-None-Match"), '"1"', "the condition")
            is_signed(origin.last(), scheme, form=form)
            before = origin.count("/swr")
            for _ in range(2):                      # the second is answered stale, and refreshed behind
                equal(sidecar.request("/swr", fields=CLIENTS_OWN).status, 200, "status")
            for request in origin.wait_requests(before + 2, "/swr")[before:] + origin.wait_requests(1, "/health-%s" % scheme)[:1]:
                is_signed(request, scheme, form=form)


def test_the_stand_in_takes_them_all(t):
    """promptops-origin checks every signature and nonce with code of its own: reads, writes, retries after faults."""
    for scheme in SCHEMES:
        with t.case(scheme):
            api = Api(t, "--no-limits")
            api.set(auth={"required": True, "signature_required": scheme == "signed"})
            sidecar = t.sidecar(api.url, {**RETRY, **Mounted(t).config(scheme), "preset": "promptops", "retry.max_attempts": 8, "retry.base_delay": "1ms"})
            with sidecar.client() as client:
                for number in range(1, 6):
                    equal(client.request("/v1/client/prompts/prompt-%d?project_id=project-%d" % (number, (number - 1) % 4 + 1)).status, 200, "status")
                body = json.dumps({"prompt_ids": ["prompt-1", "prompt-2"]}).encode()
                answer = client.request("/v1/client/prompts/batch", "POST", [("Content-Type", "application/json")], body)
                equal((answer.status, json.loads(answer.body)["total_found"]), (200, 2), "batch")
                api.set(faults=[{"errors": {"503": 0.3}, "reset_before": 0.2}])
                for _ in range(40):
                    equal(client.request("/v1/client/prompts/prompt-1").status, 200, "status under faults")
            counts = api.counts()
            equal((counts["unauthorized"], counts["replays"]), (0, 0), "refusals")
            check(sidecar.metric("promptops_retries_total") > 5, "there were no retries")


def everything_said(t, sidecar):
    """The log, the access log, the admin port's answers, and the files that the sidecar has written."""
    said = [("log", "\n".join(sidecar.log + sidecar.out))]
    for path in ("/metrics", "/api/v1/summary", "/api/v1/snapshot", "/api/v1/config", "/api/v1/cache", "/api/v1/cache/entries", "/api/v1/pool", "/api/v1/circuit",
                 "/api/v1/rate-limits", "/api/v1/requests?limit=1000", "/api/v1/alerts", "/api/v1/recommendations", "/health/ready"):
        said.append((path, json.dumps(sidecar.admin(path)[2])))
    for command in ("--print-config", "--check"):
        said.append((command, "%s %s" % run_once(["--config", sidecar.config_path, command])[1:]))
    return said


@slow(240)    # it reads the whole memory of eight processes, again and again
def test_the_keys_go_nowhere_else(t):
    """Not into logs, admin answers, printed configuration, answers of ours, nor into memory that a core dump holds."""
    authority = Authority(t)
    for scheme in SCHEMES:
        for tls in (False, True):
            with t.case("%s%s" % (scheme, " over TLS" if tls else "")):
                key, secret = "po_" + os.urandom(12).hex(), "s-" + os.urandom(20).hex()
                origin = t.origin(tls=authority.server() if tls else None)
                origin.on["/unauthorized"] = lambda conn, r: conn.reply(401, body=b"no")
                origin.on["/bad"] = lambda conn, r: (conn.send(b"HTTP/9 what\r\n\r\n"), conn.close(), False)[2]
                mounted = Mounted(t, key, secret)
                config = {**CACHE, **mounted.config(scheme), "log.access": True, "log.level": "debug"}
                if tls:
                    config["upstream.tls.ca_file"] = authority.certificate
                sidecar = t.sidecar(origin, config)
                seen = []
                with sidecar.client() as client:
                    for target in ("/", "/unauthorized", "/a", "/a"):
                        seen.append(client.request(target).head)
                    seen.append(client.request("/post", "POST", body=b"z" * 50000).head)
                seen.append(sidecar.request("/bad").head)
                mounted.swap(key, secret)          # and once more by a reload
                wait_for(lambda: sidecar.metric("promptops_config_reloads_total", result="success") >= 1, "the reload")
                seen.append(sidecar.request("/again").head)
                is_signed(origin.last(), scheme, key, secret, "unix" if scheme == "promptops" else "naive_utc")
                for where, text in everything_said(t, sidecar) + [("answers", b"".join(seen).decode("latin-1"))]:
                    check(key not in text and secret not in text, "a key is in %s" % where)
                if sanitized():
                    continue                        # which keeps what was freed
                for method, body in [("GET", None), ("POST", b"z" * 3000), ("POST", b"z" * 300000)]:
                    equal(sidecar.request("/last", method, body=body).status, 200, "status")
                    for where, data in dumpable_memory(sidecar.pid) + real_core(t, sidecar.pid):
                        check(key.encode() not in data, "the API key is in memory that a core dump holds, after a %s: %s" % (method, where))
                        check(secret.encode() not in data, "the secret key is in memory that a core dump holds, after a %s: %s" % (method, where))


def test_keys_are_swapped_under_load(t):
    """As Kubernetes swaps a mounted secret, again and again, each old key revoked at once: no request fails."""
    for scheme in SCHEMES:
        with t.case(scheme):
            api = Api(t, "--no-limits")
            api.set(auth={"required": True, "signature_required": scheme == "signed"})
            keys = [api.new_key() for _ in range(3)]
            mounted = Mounted(t)
            sidecar = t.sidecar(api.url, {**mounted.config(scheme), "workers": 2, "preset": "promptops"})
            stop, statuses = threading.Event(), [[] for _ in range(4)]

            def ask(mine):
                with sidecar.client() as client:
                    while not stop.is_set():
                        mine.append(client.request("/v1/client/prompts/prompt-1").status)

            def once_more(what):
                """Each client asks twice: its second request began after this did, and those before are through."""
                done = [len(mine) for mine in statuses]
                wait_for(lambda: all(len(mine) > n + 1 for mine, n in zip(statuses, done)), what)
            threads = [t.thread(ask, mine) for mine in statuses]
            previous = None
            for number, (key_id, key, secret) in enumerate(keys, 1):
                mounted.swap(key, secret)
                wait_for(lambda: sidecar.metric("promptops_config_reloads_total", result="success") == number, "the swapped key to be read")
                once_more("requests with the new key")
                if previous:
                    api.revoke(previous)
                previous = key_id
            for _ in range(3):
                once_more("requests with the last key alone")
            stop.set()
            for thread in threads:
                thread.result()
            equal(set(sum(statuses, [])), {200}, "statuses of %d requests" % len(sum(statuses, [])))
            equal((api.counts()["unauthorized"], api.counts()["replays"]), (0, 0), "refusals")
            settles(lambda: sum("another key" in line for line in list(sidecar.log)), 3, "swaps told in the log")


def test_a_bad_new_key_leaves_the_old_one_in_force(t):
    origin = t.origin()
    mounted = Mounted(t)
    sidecar = t.sidecar(origin, mounted.config("signed"))
    refusals = 0
    for name, keys in [("empty", ("", SECRET_KEY)), ("two lines", ("po_1\npo_2", SECRET_KEY)), ("no secret", (API_KEY, "")), ("too long", ("k" * 4000, SECRET_KEY))]:
        with t.case(name):
            mounted.swap(*keys)
            refusals += 1
            wait_for(lambda: sidecar.metric("promptops_config_reloads_total", result="failure") >= refusals, "the refused reload")
            equal(sidecar.request("/").status, 200, "status")
            is_signed(origin.last(), "signed")
    with t.case("good again"):
        mounted.swap("po_new", "new secret")
        wait_for(lambda: sidecar.metric("promptops_config_reloads_total", result="success") >= 1, "the reload")
        equal(sidecar.request("/").status, 200, "status")
        is_signed(origin.last(), "signed", "po_new", "new secret")
    with t.case("by HUP, without a change"):
        sidecar.signal(signal.SIGHUP)
        wait_for(lambda: sidecar.metric("promptops_config_reloads_total", result="success") >= 2, "the reload")
        equal(sidecar.request("/").status, 200, "status")
        is_signed(origin.last(), "signed", "po_new", "new secret")
    for words in ("auth.api_key_file", "it is empty; write the key into it", "auth.secret_key_file", "more than 3072 bytes", "at 4"):
        check(sidecar.logged(words), "the log does not say %r" % words)
    check(not sidecar.logged("po_1") and not sidecar.logged("po_2"), "a key is in the log")


def test_a_retry_is_signed_with_the_newest_key(t):
    """The key was swapped, and the old one refused, while the request waited for its next attempt."""
    origin = t.origin()
    mounted = Mounted(t)
    sidecar = t.sidecar(origin, {**RETRY, **mounted.config("promptops"), "retry.base_delay": "3s", "retry.max_delay": "3s"})
    origin.on["/flaky"] = lambda conn, r: conn.reply(503 if origin.count("/flaky") == 1 else 200)
    waiting = t.thread(sidecar.request, "/flaky")
    origin.wait_requests(1, "/flaky")
    mounted.swap("po_new")
    wait_for(lambda: sidecar.logged("another key"), "the swapped key to be read")
    equal(waiting.result().status, 200, "status")
    is_signed(origin.requests[0], "promptops", form="unix")
    is_signed(origin.requests[1], "promptops", "po_new", form="unix")


def test_the_api_refuses_the_held_key(t):
    """Counted, and told in the log once a minute: the application can do nothing about it."""
    origin = t.origin()
    origin.on["/limited"] = lambda conn, r: conn.reply(401, body=b'{"detail":"Rate limit exceeded"}')
    origin.on["/refused"] = lambda conn, r: conn.reply(401, body=b'{"detail":"Invalid API key"}')
    for name, config in [("cache", CACHE), ("no cache", {})]:
        with t.case(name):
            sidecar = t.sidecar(origin, {**config, **Mounted(t).config("bearer")})
            equal(sidecar.request("/limited").status, 401, "status")
            equal(sidecar.metric("promptops_auth_refused_total"), 0, "refusals after a rate limit")
            for method in ("GET", "POST", "GET"):
                equal(sidecar.request("/refused", method).status, 401, "status")
            equal(sidecar.metric("promptops_auth_refused_total"), 3, "refusals")
            settles(lambda: sum("auth.api_key_file" in line for line in list(sidecar.log)), 1, "warnings")


def test_check_names_what_is_wrong(t):
    key, secret, empty = (os.path.join(t.directory, name) for name in ("key", "secret", "empty"))
    for path, text in ((key, API_KEY), (secret, SECRET_KEY), (empty, "\n")):
        with open(path, "w") as out:
            out.write(text)
        os.chmod(path, 0o600)
    table = [
        (["auth.scheme=bearer"], 2, "auth.scheme: needs auth.api_key_file"),
        (["auth.scheme=signed", "auth.api_key_file=" + key], 2, "auth.scheme: needs auth.secret_key_file to sign with"),
        (["auth.api_key_file=" + key], 2, "auth.api_key_file: has no effect while auth.scheme is passthrough"),
        (["auth.scheme=bearer", "auth.api_key_file=/nowhere"], 2, "auth.api_key_file: \"/nowhere\" cannot be read"),
        (["auth.scheme=bearer", "auth.api_key_file=" + empty], 2, "--set: auth.api_key_file: %s: it is empty; write the key into it, on one line" % empty),
        (["auth.scheme=signed", "auth.api_key_file=" + key, "auth.secret_key_file=" + empty], 2, "auth.secret_key_file: %s: it is empty" % empty),
        (["cache.partition_by=[Authorization, X-PromptOps-Nonce]"], 2, "cache.partition_by: has X-PromptOps-Nonce, which differs on every request"),
        (["auth.scheme=bearer", "auth.api_key_file=" + key, "upstream.url=http://api.example"], 0, "warning: auth.scheme: the API key goes to another machine over plain http"),
        (["auth.scheme=bearer", "auth.api_key_file=" + key, "upstream.url=https://api.example"], 0, ""),
        (["auth.scheme=bearer", "auth.api_key_file=" + key, "upstream.url=http://localhost:8000"], 0, ""),
    ]
    for settings, code, words in table:
        with t.case(" ".join(os.path.basename(s) for s in settings)):
            flags = [word for setting in settings for word in ("--set", setting)]
            got, out, err = run_once(flags + ["--check"])
            equal(got, code, "exit code (%s%s)" % (out, err))
            check(words in err if words else err == "", "standard error: %r" % err)
            check(API_KEY not in out + err and SECRET_KEY not in out + err, "a key is shown")
