"""The live stream, the snapshot and browsers' sessions of the admin port (INTERFACE 4)."""
import json
import os
import struct

from harness import *
from lib.websocket import CLOSE, PING, PONG, TEXT, Closed, Refused, WebSocket
from test_30_cache import PLAIN, Counted, cc

SECTIONS = ["time", "service", "summary", "requests", "cache", "network", "process", "alerts", "recommendations"]


def refused(sidecar, query="", fields=(), **more):
    try:
        WebSocket(sidecar.admin_address, "/api/v1/stream" + query, fields, **more).close()
    except Refused as error:
        return error.status, json.loads(error.body)
    raise Failed("it was let in")


def closed(ws):
    try:
        while True:
            ws.message()
    except Closed as end:
        return end.code


def test_the_snapshot_has_what_happened(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, {**PLAIN, "retry.max_attempts": 2, "retry.base_delay": "1ms"})
    Counted(origin, "/a", cc("max-age=60"))
    origin.on["/503"] = make_response(503, [], b"")
    for path in ("/a", "/a", "/a", "/503"):
        sidecar.request(path)
    wait_for(lambda: sidecar.metric("promptops_requests_total") == 4, "four requests")
    status, _, told = sidecar.admin("/api/v1/snapshot")
    equal(status, 200, "status")
    equal(list(told), SECTIONS, "sections")
    requests = told["requests"]
    equal(sum(o["requests"] for o in requests["by_operation"]), 4, "by_operation")
    equal({s["status"]: s["count"] for s in requests["by_status"]}, {200: 3, 503: 1}, "by_status")
    equal({c["cache"]: c["count"] for c in requests["by_cache"]}, {"hit": 2, "miss": 2}, "by_cache")
    equal([(r["reason"], r["count"]) for r in requests["retries_by_reason"]], [("503", 1)], "retries_by_reason")
    equal(sum(b["count"] for b in requests["distribution"]["buckets"]), 4, "the distribution")
    equal([r["path"] for r in requests["failed"]], ["/503"], "failed")
    equal(len(requests["slowest"]), 4, "slowest")
    equal(told["summary"]["requests_total"], 4, "summary")
    equal(told["cache"]["saved"]["requests"], 2, "saved")
    equal(sorted(tier["tier"] for tier in told["cache"]["tiers"]), ["cold", "hot", "warm"], "tiers")
    equal(sum(tier["entries"] for tier in told["cache"]["tiers"]), 1, "entries of all tiers")
    equal(told["network"]["phases"]["first_byte"]["count"], 3, "first_byte")
    check(told["process"]["resident_bytes"] > 1e6, "resident_bytes")


def test_the_stream_tells_a_snapshot_then_what_changed(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, PLAIN)
    with WebSocket(sidecar.admin_address, "/api/v1/stream?interval=1s") as ws:
        first = ws.message()
        equal(first["type"], "snapshot", "type")
        equal(list(first["data"]), SECTIONS, "sections")
        equal(first["interval"], 1, "interval")
        state = dict(first["data"])
        sidecar.request("/x")

        def fold(told):
            check(told["type"] == "update" and told["lost"] == 0, "update: %r" % told)
            check(set(told["data"]) <= set(SECTIONS), "sections of an update")
            check("recommendations" not in told["data"], "what did not change was told")
            state.update(told["data"])
            return sum(o["requests"] for o in state["requests"]["by_operation"]) == 1
        ws.wait(fold, "the request in an update", 8)
        ws.send(PING, b"hello")
        opcode, payload = ws.frame()
        while opcode != PONG:
            opcode, payload = ws.frame()
        equal(payload, b"hello", "pong")
        ws.send(CLOSE, struct.pack("!H", 1000))
        equal(closed(ws), 1000, "close code")


def test_streams_of_one_interval_share_each_look(t):
    """However they were opened: twenty dashboards cost one snapshot a second, not twenty."""
    sidecar = t.sidecar(t.origin(), PLAIN)
    with WebSocket(sidecar.admin_address, "/api/v1/stream?interval=1s") as a:
        a.message()
        a.message()  # the next are opened while the first is under way, each at another moment
        with WebSocket(sidecar.admin_address, "/api/v1/stream?interval=1s") as b, WebSocket(sidecar.admin_address, "/api/v1/stream?interval=1s") as c:
            opened = [b.message()["seq"], c.message()["seq"]]
            heard = [[ws.message()["seq"] for _ in range(3)] for ws in (a, b, c)]
    equal(heard[1], heard[2], "looks of two that were opened one after the other")
    check(len(set(heard[0]) & set(heard[1])) >= 2, "the first hears the same: %r" % heard)
    equal([n - heard[1][0] for n in heard[1]], [0, 1, 2], "one look a second for all: %r, opened at %r" % (heard, opened))


def test_events_come_at_once(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, {"circuit_breaker.enable_circuit_breaker": True, "circuit_breaker.circuit_breaker_threshold": 2, "retry.max_attempts": 1})
    origin.on["/503"] = make_response(503, [], b"")
    with WebSocket(sidecar.admin_address, "/api/v1/stream?interval=1h") as ws:
        equal(ws.message()["type"], "snapshot", "first")
        equal(sidecar.admin("/api/v1/config", "PATCH", {"server_timing": True})[0], 200, "status")
        told = ws.message()
        equal((told["type"], told["event"], told["data"]), ("event", "config", {"changed": ["server_timing"]}), "config")
        for _ in range(2):
            sidecar.request("/503")
        told = ws.message()
        equal((told["event"], told["data"]["from"], told["data"]["to"]), ("breaker", "closed", "open"), "breaker")
        sidecar.admin("/api/v1/alerts/now", "PUT", {"metric_type": "MEMORY_USAGE", "condition": "> 0", "severity": "info", "message": "there"})
        sidecar.admin("/api/v1/config", "PATCH", {"performance.alert_interval": "1s"})
        told = ws.wait(lambda m: m.get("event") == "alert" and m["data"]["id"] == "now", "the alert", 10)
        equal(told["data"]["event"], "raised", "event")
    history = sidecar.admin("/api/v1/snapshot")[2]["network"]["circuit_history"]["changes"]
    check(any(c["to"] == "open" for c in history), "the timeline: %r" % history)


def test_handshakes_that_are_refused(t):
    sidecar = t.sidecar(t.origin())
    with t.case("a plain GET"):
        status, fields, told = sidecar.admin("/api/v1/stream")
        equal((status, fields["Upgrade"], fields["Sec-WebSocket-Version"]), (426, "websocket", "13"), "answer")
        check("WebSocket" in told["error"], told["error"])
    for name, query, more, status in [("version 8", "", {"Sec-WebSocket-Version": "8"}, 426), ("a short key", "", {"Sec-WebSocket-Key": "YWJj"}, 400), ("no key", "", {"Sec-WebSocket-Key": None}, 400),
                                      ("another origin", "", {"Origin": "http://evil.example"}, 403), ("no such host", "", {"Host": "evil.example"}, 421),
                                      ("interval 0", "?interval=0", {}, 400), ("interval 2h", "?interval=2h", {}, 400), ("interval soon", "?interval=soon", {}, 400),
                                      ("close", "", {"Connection": "upgrade, close"}, 400)]:
        with t.case(name):
            equal(refused(sidecar, query, more)[0], status, "status")
    with t.case("the own page"):
        WebSocket(sidecar.admin_address, fields={"Origin": "http://%s:%d" % sidecar.admin_address}).close()
    with t.case("switched off"):
        with WebSocket(sidecar.admin_address) as ws:
            ws.message()
            equal(sidecar.admin("/api/v1/config", "PATCH", {"performance.enable_real_time_monitoring": False})[0], 200, "status")
            equal(closed(ws), 1008, "a stream that was open")
        status, told = refused(sidecar)
        equal(status, 409, "status")
        check("performance.enable_real_time_monitoring" in told["remedy"], told["remedy"])
        check(not sidecar.admin("/api/v1/snapshot")[2]["service"]["live"], "service.live")


def test_what_a_client_sends_is_bounded(t):
    sidecar = t.sidecar(t.origin())
    for name, act, code in [("a message", lambda ws: ws.send(TEXT, b"hi"), 1008), ("a long message", lambda ws: ws.send(TEXT, b"x" * 5000), 1009),
                            ("a very long message", lambda ws: ws.send(TEXT, b"x" * 100000), 1009),
                            ("no mask", lambda ws: ws.send(PING, b"", masked=False), 1002), ("an unknown opcode", lambda ws: ws.send(3), 1002)]:
        with t.case(name):
            with WebSocket(sidecar.admin_address) as ws:
                ws.message()
                act(ws)
                equal(closed(ws), code, "close code")
    with t.case("frames behind the handshake"):
        with WebSocket(sidecar.admin_address, behind=bytes([0x88, 0x80, 0, 0, 0, 0])) as ws:
            equal(ws.message()["type"], "snapshot", "first")
            closed(ws)
    with t.case("33 streams"):
        all_of = [WebSocket(sidecar.admin_address) for _ in range(32)]
        equal(refused(sidecar)[0], 503, "status")
        all_of.pop().close()
        wait_for(lambda: may(sidecar), "the place of the one that left")
        for ws in all_of:
            ws.close()
    equal(sidecar.admin("/health/live")[0], 200, "the port lives on")


def may(sidecar):
    try:
        WebSocket(sidecar.admin_address).close()
        return True
    except Refused:
        return False


def test_a_slow_reader_loses_updates_not_memory(t):
    """It reads nothing while a flood of events comes; then it is told how many it missed, and gets all that changed."""
    sidecar = t.sidecar(t.origin())
    with WebSocket(sidecar.admin_address, "/api/v1/stream?interval=1s", receive_buffer=4096) as ws:
        ws.message()
        before = sidecar.rss_kib()
        value = False
        grown = 0
        for _ in range(60):
            body = {"performance.service_name": ("a" if value else "b") * 200}
            value = not value
            equal(sidecar.admin("/api/v1/config", "PATCH", body)[0], 200, "status")
        for _ in range(400):
            ws.send(PING, b"x" * 120)
        grown = sidecar.rss_kib() - before
        check(sanitized() or grown < 8000, "grew by %d KiB" % grown)
        ws.wait(lambda m: m["type"] == "update", "an update", 2000)
    equal(sidecar.admin("/health/live")[0], 200, "alive")


def test_sessions(t):
    token = os.path.join(t.directory, "token")
    with open(token, "w") as out:
        out.write("secret-one\n")
    sidecar = t.sidecar(t.origin(), {"admin.token_file": token})

    def ask(path, method="GET", body=None, **fields):
        return sidecar.admin(path, method, body, {k.replace("_", "-"): v for k, v in fields.items()})

    own = "http://%s:%d" % sidecar.admin_address
    equal(ask("/api/v1/snapshot")[0], 401, "without")
    equal(ask("/api/v1/session")[2], {"guarded": True, "authenticated": False, "expires_in": None}, "before")
    equal(ask("/api/v1/session", "POST", {"token": "wrong"}, Origin=own)[0], 401, "a wrong token")
    equal(ask("/api/v1/session", "POST", {"token": "secret-one"}, Origin="http://evil.example")[0], 403, "from another page")
    equal(ask("/api/v1/session", "POST", {"token": "secret-one", "x": 1}, Origin=own)[0], 400, "more than a token")
    status, fields, told = ask("/api/v1/session", "POST", {"token": "secret-one"}, Origin=own)
    equal((status, told["authenticated"]), (200, True), "login")
    cookie = fields["Set-Cookie"]
    for word in ("HttpOnly", "SameSite=Strict", "Path=/", "Max-Age="):
        check(word in cookie, "%s is not in %s" % (word, cookie))
    check("secret" not in cookie, "the token is in the cookie")
    known = "a=b; " + cookie.split(";")[0]
    equal(ask("/api/v1/snapshot", Cookie=known)[0], 200, "with it")
    check(ask("/api/v1/session", Cookie=known)[2]["expires_in"] > 3600, "expires_in")
    equal(ask("/api/v1/snapshot", Cookie=known[:-1] + ("0" if known[-1] != "0" else "1"))[0], 401, "another id")
    with t.case("changes"):
        equal(ask("/api/v1/config", "PATCH", {"server_timing": True}, Cookie=known, Origin=own)[0], 200, "own page")
        equal(ask("/api/v1/config", "PATCH", {"server_timing": True}, Cookie=known, Origin="http://127.0.0.1:1", X_Requested_With="x")[0], 403, "another page of this host")
        equal(ask("/api/v1/config", "PATCH", {"server_timing": True}, Origin="http://evil.example", Authorization="Bearer secret-one")[0], 200, "a token is no cookie")
    with t.case("streams"):
        equal(refused(sidecar)[0], 401, "without")
        equal(refused(sidecar, fields={"Cookie": known, "Origin": "http://127.0.0.1:1"})[0], 403, "another page")
        WebSocket(sidecar.admin_address, fields={"Authorization": "Bearer secret-one"}).close()
        with WebSocket(sidecar.admin_address, fields={"Cookie": known, "Origin": own}) as ws:
            ws.message()
            status, fields, _ = ask("/api/v1/session", "DELETE", Cookie=known, Origin=own)
            equal((status, "Max-Age=0" in fields["Set-Cookie"]), (200, True), "logout")
            equal(closed(ws), 1008, "the session's stream")
        equal(ask("/api/v1/snapshot", Cookie=known)[0], 401, "after it")
    with t.case("another token"):
        known = ask("/api/v1/session", "POST", {"token": "secret-one"}, Origin=own)[1]["Set-Cookie"].split(";")[0]
        sidecar.write_config({"retry.max_attempts": 2})
        sidecar.signal(1)
        wait_for(lambda: ask("/api/v1/config", Cookie=known)[2]["options"]["retry.max_attempts"]["value"] == 2, "a reload, which leaves sessions alone")
        with open(token + ".new", "w") as out:
            out.write("secret-two\n")
        os.rename(token + ".new", token)
        wait_for(lambda: ask("/api/v1/snapshot", Cookie=known)[0] == 401, "the end of the session")
        equal(ask("/api/v1/snapshot", Authorization="Bearer secret-two")[0], 200, "the new token")
    check("secret-" not in "\n".join(sidecar.log), "a token is in the log")
    with t.case("no token asked for"):
        plain = t.sidecar(t.origin())
        equal(plain.admin("/api/v1/session")[2], {"guarded": False, "authenticated": True, "expires_in": None}, "session")
        equal(plain.admin("/api/v1/session", "POST", {"token": "x"})[0], 409, "login")


def test_a_stop_says_goodbye(t):
    sidecar = t.sidecar(t.origin())
    ws = WebSocket(sidecar.admin_address)
    ws.message()
    sidecar.signal(2)
    equal(closed(ws), 1001, "close code")
    ws.close()
