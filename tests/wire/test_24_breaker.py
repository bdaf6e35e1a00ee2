"""The circuit breaker on the wire: it opens, refuses in words, probes, and closes again (pain 7)."""
import socket
import threading
import time

from harness import *

BREAKER = {"circuit_breaker.enable_circuit_breaker": True, "circuit_breaker.circuit_breaker_threshold": 5, "circuit_breaker.circuit_breaker_timeout": "300ms",
           "circuit_breaker.circuit_breaker_max_timeout": "30s", "circuit_breaker.half_open_requests": 1}


def state(sidecar):
    return sidecar.metric("promptops_circuit_state")


def fail(sidecar, count, status=503):
    for _ in range(count):
        equal(sidecar.request("/").status, status, "status")


def test_it_opens_refuses_and_recovers(t):
    origin = t.origin()
    origin.default = make_response(503, [], b"down")
    sidecar = t.sidecar(origin, BREAKER)
    equal(state(sidecar), 0, "state at first")
    fail(sidecar, 5)
    equal(state(sidecar), 2, "state after five failures")
    before = origin.count()
    response = made_up(sidecar.request("/"), 503)
    check(int(response.get("Retry-After", "0")) >= 1, "Retry-After")
    check("destination_unavailable" in response.get("Proxy-Status"), response.get("Proxy-Status"))
    equal(origin.count(), before, "requests at the origin while open")
    origin.default = make_response(200, [], b"up")
    wait_for(lambda: sidecar.request("/").status == 200, "the breaker to let a probe through")
    for _ in range(5):
        equal(sidecar.request("/").status, 200, "status when closed again")
    equal(state(sidecar), 0, "state at last")


def test_a_failed_probe_opens_it_again(t):
    origin = t.origin()
    origin.default = make_response(503, [], b"down")
    sidecar = t.sidecar(origin, BREAKER)
    fail(sidecar, 5)
    wait_for(lambda: sidecar.request("/").status and origin.count() >= 6, "a probe")
    equal(origin.count(), 6, "one probe only")
    equal(state(sidecar), 2, "state after the failed probe")


def test_an_error_that_says_for_how_long_it_holds_is_meant(t):
    """Cacheable error answers of a sound origin opened the breaker, and each was asked for three times: a page that was gone for good took the others with it."""
    lasting = ("Cache-Control", "max-age=60")
    rows = [("503 to be kept", 503, [lasting], 0, 1), ("502 that expired by Expires", 502, [("Expires", "0")], 2, 3), ("504 to be kept", 504, [lasting], 0, 1),
            ("503 with Retry-After, too", 503, [lasting, ("Retry-After", "0")], 2, 3), ("503, not to be stored", 503, [("Cache-Control", "no-store")], 2, 3), ("501", 501, [], 0, 1)]
    for name, status, fields, wanted, calls in rows:
        with t.case(name):
            origin = t.origin()
            origin.default = make_response(status, fields, b"x")
            sidecar = t.sidecar(origin, {**BREAKER, "circuit_breaker.circuit_breaker_timeout": "30s", "retry.max_attempts": 3, "retry.base_delay": "1ms",
                                         "retry.budget": 1})
            equal(sidecar.request("/first").status, status, "status")
            equal(origin.count(), calls, "attempts")
            for i in range(5):
                sidecar.request("/%d" % i)
            equal(state(sidecar), wanted, "state")


def test_what_counts_as_a_failure(t):
    rows = [("close", lambda c: (c.close(), False)[1], 502, 2), ("timeout", lambda c: (c.gone(), False)[1], 504, 2), ("500", lambda c: c.reply(500), 500, 2),
            ("404", lambda c: c.reply(404), 404, 0), ("429", lambda c: c.reply(429), 429, 0), ("401", lambda c: c.reply(401), 401, 0)]
    for name, act, status, wanted in rows:
        with t.case(name):
            origin = t.origin()
            origin.on["/"] = lambda conn, request, act=act: act(conn)
            sidecar = t.sidecar(origin, {**BREAKER, "upstream.response_timeout": "100ms", "circuit_breaker.circuit_breaker_timeout": "30s"})
            fail(sidecar, 5, status)
            equal(state(sidecar), wanted, "state")


def test_connection_refused_opens_it(t):
    origin = t.origin()
    origin.stop_listening()
    sidecar = t.sidecar(origin.url, {**BREAKER, "circuit_breaker.circuit_breaker_timeout": "30s"})
    fail(sidecar, 5, 502)
    equal(state(sidecar), 2, "state")
    made_up(sidecar.request("/"), 503)


def test_failure_rate_opens_it(t):
    """Good and bad answers in turn: never five in a row, but half of them bad."""
    origin = t.origin()
    origin.on["/bad"] = make_response(503, [], b"")
    sidecar = t.sidecar(origin, {**BREAKER, "circuit_breaker.circuit_breaker_threshold": 1000, "circuit_breaker.minimum_requests": 20,
                                 "circuit_breaker.failure_rate_threshold": 0.5, "circuit_breaker.circuit_breaker_timeout": "30s"})
    for _ in range(10):
        sidecar.request("/bad")
        sidecar.request("/good")
    wait_for(lambda: state(sidecar) == 2 or sidecar.request("/bad") is None, "the breaker to open", 5)


def test_a_client_that_leaves_says_nothing_about_the_upstream(t):
    origin = t.origin()
    origin.on["/hang"] = lambda conn, request: (conn.gone(), False)[1]
    sidecar = t.sidecar(origin, BREAKER)
    for number in range(8):
        client = sidecar.client()
        client.send(make_request("/hang"))
        origin.wait_requests(number + 1, "/hang")
        client.reset()
    wait_for(lambda: sidecar.metric("promptops_active_requests") == 0, "the requests to be cancelled")
    equal(state(sidecar), 0, "state")
    equal(sidecar.request("/").status, 200, "status")


def test_pain_07_half_open_always_ends(t):
    """The one probe's client leaves: its permit must come back, or the breaker is stuck for ever."""
    origin = t.origin()
    origin.default = make_response(503, [], b"down")
    sidecar = t.sidecar(origin, {**BREAKER, "upstream.response_timeout": "20s"})
    fail(sidecar, 5)
    origin.on["/hang"] = lambda conn, request: (conn.gone(), False)[1]

    def probe_hangs():
        client = sidecar.client()
        client.send(make_request("/hang"))
        wait_for(lambda: origin.count("/hang") or client_has_answer(client), "the probe to be taken or refused")
        if origin.count("/hang"):
            client.reset()
            return True
        client.close()
        return False
    wait_for(probe_hangs, "a probe")
    origin.default = make_response(200, [], b"up")
    wait_for(lambda: sidecar.request("/").status == 200, "the breaker to close")


def client_has_answer(client):
    import select
    return bool(select.select([client.sock], [], [], 0)[0])


def test_it_is_told_and_can_be_reset_by_hand(t):
    origin = t.origin()
    origin.default = make_response(503, [], b"down")
    sidecar = t.sidecar(origin, {**BREAKER, "circuit_breaker.circuit_breaker_timeout": "30s"})
    fail(sidecar, 5)
    status, _, circuits = sidecar.admin("/api/v1/circuit")
    equal(status, 200, "status of /api/v1/circuit")
    check("open" in str(circuits), "it is not told: %r" % circuits)
    name = [k for k, v in sidecar.metrics().items() if k.startswith("promptops_circuit_state{") and v == 2][0].partition('name="')[2].partition('"')[0]
    equal(circuits[name]["state"], "open", "state by that name")
    equal(sidecar.admin("/api/v1/circuit/nobody/reset", "POST")[0], 404, "status of a reset of what is not there")
    equal(sidecar.admin("/api/v1/circuit/%s/reset" % name, "POST")[0] // 100, 2, "status of the reset")
    origin.default = make_response(200, [], b"up")
    equal(sidecar.request("/").status, 200, "status after the reset")


def circuits(sidecar):
    """State of each by name, as numbers."""
    return {k.partition('name="')[2].partition('"')[0]: v for k, v in sidecar.metrics().items() if k.startswith("promptops_circuit_state{")}


def test_one_operation_does_not_cut_off_others(t):
    origin = t.origin()
    origin.on["/v1/client/prompts/bad/versions"] = lambda conn, request: conn.send(make_response(503, [], b"down"))
    sidecar = t.sidecar(origin, {**BREAKER, "preset": "promptops", "circuit_breaker.circuit_breaker_timeout": "30s", "retry.max_attempts": 1, "cache.enabled": False})
    for _ in range(5):
        equal(sidecar.request("/v1/client/prompts/bad/versions").status, 503, "the origin's own")
    made_up(sidecar.request("/v1/client/prompts/bad/versions"), 503)
    equal(origin.count("/v1/client/prompts/bad/versions"), 5, "sent")
    equal(sidecar.request("/v1/client/prompts/good").status, 200, "another operation")
    seen = circuits(sidecar)
    equal({k: v for k, v in seen.items() if v}, {"list_versions": 2}, "circuits that are not closed")
    check(seen["upstream"] == 0 and seen["get_prompt"] == 0, "circuits: %r" % seen)
    status, _, shown = sidecar.admin("/api/v1/circuit")
    equal((status, shown["list_versions"]["state"], shown["get_prompt"]["state"]), (200, "open", "closed"), "admin")
    origin.on.clear()
    equal(sidecar.admin("/api/v1/circuit/list_versions/reset", "POST")[0] // 100, 2, "status of the reset")
    equal(sidecar.request("/v1/client/prompts/bad/versions").status, 200, "after it")


def test_no_way_to_the_upstream_is_open_for_all(t):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: refused
        sidecar = t.sidecar("http://127.0.0.1:%d" % taken.getsockname()[1],
                            {**BREAKER, "preset": "promptops", "circuit_breaker.circuit_breaker_timeout": "30s", "retry.max_attempts": 1, "cache.enabled": False})
        for _ in range(5):
            made_up(sidecar.request("/v1/client/prompts/one"), 502)
        made_up(sidecar.request("/v1/client/prompts/one"), 503)
        made_up(sidecar.request("/v1/client/prompts/one/versions"), 503)
        equal({k: v for k, v in circuits(sidecar).items() if v}, {"upstream": 2}, "circuits that are not closed")


def test_only_as_many_probes_as_allowed(t):
    origin = t.origin()
    origin.default = make_response(503, [], b"down")
    sidecar = t.sidecar(origin, {**BREAKER, "circuit_breaker.half_open_requests": 2, "pool.max_size": 50})
    fail(sidecar, 5)
    release = threading.Event()
    inside = []

    def slow(conn, _):
        inside.append(time.monotonic())
        release.wait(PATIENCE)
        conn.reply()
    origin.on["/probe"] = slow
    statuses = []

    def one():
        with sidecar.client() as client:
            statuses.append(client.request("/probe").status)
    threads = []

    def more_probes():
        threads.append(t.thread(one))
        return len(inside) >= 2
    wait_for(more_probes, "two probes", 5)
    for _ in range(10):
        threads.append(t.thread(one))
    wait_for(lambda: statuses.count(503) >= len(threads) - 2, "all others to be refused")
    equal(len(inside), 2, "probes at the origin")
    release.set()
    for thread in threads:
        thread.result()


def test_health_checks_pass_an_open_breaker_and_bring_it_back(t):
    """A breaker that was opened again and again waits long; a good health check ends the wait."""
    origin = t.origin()
    origin.default = make_response(503, [], b"down")
    sidecar = t.sidecar(origin, {**BREAKER, "circuit_breaker.circuit_breaker_timeout": "100ms", "pool.health_check_interval": "100ms", "pool.health_check_path": "/healthz"})
    fail(sidecar, 5)
    wait_for(lambda: sidecar.request("/").status and origin.count("/") >= 9, "four probes that failed")
    equal(state(sidecar), 2, "state after a failed probe")
    seen = origin.count("/healthz")
    origin.wait_requests(seen + 2, "/healthz")
    origin.default = make_response(200, [], b"up")
    wait_for(lambda: state(sidecar) == 1, "half-open")
    wait_for(lambda: sidecar.request("/").status == 200 and state(sidecar) == 0, "closed")
