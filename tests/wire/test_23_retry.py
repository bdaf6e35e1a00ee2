"""Retries: what may be sent again, how often, and never more than the budget (INTERFACE 2, 3)."""
import threading
import time

from harness import *

RETRY = {"retry.max_attempts": 3, "retry.base_delay": "5ms", "retry.max_delay": "200ms", "retry.jitter": "none", "retry.strategy": "fixed_delay", "retry.budget": 1.0,
         "retry.success_rate_threshold": 0}


def flaky(origin, failures, act, path="/flaky"):
    """The first `failures` requests meet act(conn); then it answers."""
    left = [failures]
    lock = threading.Lock()

    def answer(conn, request):
        with lock:
            left[0] -= 1
            bad = left[0] >= 0
        if bad:
            return act(conn)
        return conn.reply(body=b"at last %s" % request.body)
    origin.on[path] = answer


def say(status, fields=()):
    return lambda conn: conn.reply(status, fields, b"no")


def drop(conn):
    conn.close()
    return False


def reset_it(conn):
    conn.reset()
    return False


def hang(conn):
    conn.gone()
    return False


FAILURES = [("503", say(503)), ("502", say(502)), ("504", say(504)), ("429", say(429)), ("close", drop), ("reset", reset_it), ("timeout", hang),
            ("half an answer's head", lambda conn: (conn.send(b"HTTP/1.1 200 OK\r\nX: "), drop(conn))[1])]


def test_idempotent_requests_are_retried(t):
    origin = t.origin()
    for name, act in FAILURES:
        sidecar = t.sidecar(origin, {**RETRY, "upstream.response_timeout": "300ms"})  # each with a budget of its own
        for method, body in [("GET", None), ("HEAD", None), ("PUT", b"x"), ("DELETE", None), ("OPTIONS", None)]:
            if method not in ("GET", "PUT") and name not in ("503", "close"):
                continue
            with t.case("%s, %s" % (method, name)):
                flaky(origin, 2, act)
                before = origin.count()
                response = sidecar.request("/flaky", method, body=body)
                equal(response.status, 200, "status")
                equal(origin.count() - before, 3, "attempts")


def test_9110_9_2_2_a_post_is_not_retried(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, {**RETRY, "upstream.response_timeout": "300ms"})
    for name, act in FAILURES:
        for method in ("POST", "PATCH"):
            if method == "PATCH" and name != "503":
                continue
            with t.case("%s, %s" % (method, name)):
                flaky(origin, 1, act)
                before = origin.count()
                response = sidecar.request("/flaky", method, body=b"x")
                check(response.status >= 400, "status %d" % response.status)
                equal(origin.count() - before, 1, "attempts")


def test_idempotency_key_makes_a_post_repeatable(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, RETRY)
    for name, act in [("503", say(503)), ("close", drop)]:
        with t.case(name):
            flaky(origin, 1, act)
            before = origin.count()
            response = sidecar.request("/flaky", "POST", [("Idempotency-Key", "k1")], b"once")
            equal((response.status, response.body), (200, b"at last once"), "answer")
            equal([r.get("Idempotency-Key") for r in origin.requests[before:]], ["k1", "k1"], "keys at the origin")


def test_a_batch_get_is_retried(t):
    """A POST that the route says is a safe read."""
    origin = t.origin()
    sidecar = t.sidecar(origin, {**RETRY, "preset": "promptops"})
    flaky(origin, 1, say(503), "/v1/client/prompts/batch")
    equal(sidecar.request("/v1/client/prompts/batch", "POST", body=b'{"prompt_ids":["a"]}').status, 200, "status")
    flaky(origin, 1, say(503), "/v1/client/usage/log")
    equal(sidecar.request("/v1/client/usage/log", "POST", body=b"{}").status, 503, "status of a write")


def test_a_request_of_which_nothing_was_sent_is_retried(t):
    """Connection refused: even a POST may be tried again, when the upstream is back."""
    origin = t.origin()
    origin.stop_listening()
    sidecar = t.sidecar(origin.url, {**RETRY, "retry.max_attempts": 20, "retry.base_delay": "50ms"})
    client = t.client(sidecar)
    client.send(make_request("/", "POST", body=b"x"))
    wait_for(lambda: sidecar.metric("promptops_retries_total") >= 1, "a first retry")
    back = t.origin(port=origin.port)
    equal(client.response("POST").status, 200, "status")
    equal(back.last().body, b"x", "body at the origin")


def test_attempts_are_bounded(t):
    origin = t.origin()
    origin.default = make_response(503, [("X-Last", "yes")], b"down")
    for attempts in (1, 2, 5):
        with t.case(attempts):
            sidecar = t.sidecar(origin, {**RETRY, "retry.max_attempts": attempts})
            before = origin.count()
            response = sidecar.request("/")
            equal((response.status, response.body, response.get("X-Last")), (503, b"down", "yes"), "the origin's own answer")
            equal(origin.count() - before, attempts, "attempts")


def test_other_statuses_are_not_retried(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, RETRY)
    for status in (200, 301, 400, 401, 404, 409, 422, 500, 501):
        with t.case(status):
            origin.default = make_response(status, [], b"x")
            before = origin.count()
            equal(sidecar.request("/").status, status, "status")
            equal(origin.count() - before, 1, "attempts")


def test_retry_on_chooses(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, {**RETRY, "retry.retry_on": ["500"]})
    for status, attempts in ((500, 3), (503, 1)):
        with t.case(status):
            origin.default = make_response(status, [], b"x")
            before = origin.count()
            equal(sidecar.request("/").status, status, "status")
            equal(origin.count() - before, attempts, "attempts")


def test_never_after_a_byte_of_an_answer(t):
    """The client has part of an answer: it breaks off there, and nothing is asked again."""
    origin = t.origin()
    released = threading.Event()

    def cut(conn, _):
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        released.wait(PATIENCE)
        return drop(conn)
    origin.on["/cut"] = cut
    sidecar = t.sidecar(origin, RETRY)
    with sidecar.client() as client:
        client.send(make_request("/cut"))
        response = client.head()
        equal(client.exactly(3), b"abc", "first bytes")
        released.set()
        try:
            client.exactly(7)
            raise Failed("the answer went on")
        except Gone:
            pass
        equal(response.status, 200, "status")
    equal(origin.count(), 1, "attempts")


def test_a_body_too_large_to_keep_is_not_retried(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, {**RETRY, "retry.max_buffered_body": "128KiB"})
    for size, attempts in ((131072, 2), (131073, 1)):
        with t.case(size):
            flaky(origin, 1, say(503))
            before = origin.count()
            response = sidecar.request("/flaky", "PUT", body=b"x" * size)
            equal(response.status, 200 if attempts == 2 else 503, "status")
            equal([len(r.body) for r in origin.requests[before:]], [size] * attempts, "bodies at the origin")
    with t.case("chunked, too large"):
        flaky(origin, 1, say(503))
        before = origin.count()
        data = make_request("/flaky", "PUT", [("Transfer-Encoding", "chunked")]) + chunked(b"x" * 100000, b"y" * 100000)
        equal(sidecar.raw(data, "PUT").status, 503, "status")
        equal(origin.count() - before, 1, "attempts")
    with t.case("chunked, small enough"):
        flaky(origin, 1, say(503))
        data = make_request("/flaky", "PUT", [("Transfer-Encoding", "chunked")]) + chunked(b"abc", b"def")
        equal(sidecar.raw(data, "PUT").body, b"at last abcdef", "body")


def test_pain_03_retry_budget_bounds_amplification(t):
    """A dead upstream gets at most 1.2 times the clients' load."""
    origin = t.origin()
    origin.default = make_response(503, [], b"down")
    sidecar = t.sidecar(origin, {"retry.max_attempts": 3, "retry.base_delay": "1ms", "retry.budget": 0.1, "retry.success_rate_threshold": 0})
    count = 400
    started = time.monotonic()
    with sidecar.client() as client:
        for _ in range(count):
            equal(client.request("/").status, 503, "status")
    allowed = count * 1.1 + 10 + (time.monotonic() - started)
    check(origin.count() <= max(allowed, count * 1.2) and origin.count() <= count * 1.2, "%d requests at the origin for %d" % (origin.count(), count))
    check(origin.count() > count, "no retry at all")
    check(sidecar.metric("promptops_retry_budget_remaining") < 2, "the budget's metric")


def test_retry_after_is_obeyed(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, {**RETRY, "retry.max_delay": "5s"})
    with t.case("seconds"):
        flaky(origin, 1, say(503, [("Retry-After", "1")]))
        started = time.monotonic()
        equal(sidecar.request("/flaky").status, 200, "status")
        near(time.monotonic() - started, 0.9, 5, "seconds")
    with t.case("longer than max_delay: the answer is passed on at once"):
        flaky(origin, 1, say(429, [("Retry-After", "3600")]))
        started = time.monotonic()
        response = sidecar.request("/flaky")
        equal((response.status, response.get("Retry-After")), (429, "3600"), "answer")
        check(time.monotonic() - started < 2, "it waited")


def test_max_total_time_bounds_all_attempts(t):
    origin = t.origin()
    origin.default = make_response(503, [], b"down")
    sidecar = t.sidecar(origin, {**RETRY, "retry.max_attempts": 20, "retry.base_delay": "100ms", "retry.max_total_time": "1s"})
    started = time.monotonic()
    equal(sidecar.request("/").status, 503, "status")
    check(time.monotonic() - started < 3, "%.1f s" % (time.monotonic() - started))
    near(origin.count(), 2, 10, "attempts")


def test_per_try_timeout(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, {**RETRY, "retry.per_try_timeout": "200ms"})
    flaky(origin, 1, hang)
    started = time.monotonic()
    equal(sidecar.request("/flaky").status, 200, "status")
    check(time.monotonic() - started < 5, "it waited for response_timeout")


def test_a_route_has_its_own_attempts_and_timeout(t):
    origin = t.origin()
    routes = [{"match": {"path": "/many/{id}", "methods": ["GET"]}, "operation": "many", "retry": {"max_attempts": 4}},
              {"match": {"path": "/short"}, "operation": "short", "timeout": "300ms"}]
    sidecar = t.sidecar(origin, {**RETRY, "retry.max_attempts": 2, "routes": routes})
    origin.default = make_response(503, [], b"down")
    for path, attempts in (("/many/1", 4), ("/other", 2)):
        with t.case(path):
            before = origin.count()
            equal(sidecar.request(path).status, 503, "status")
            equal(origin.count() - before, attempts, "attempts")
    with t.case("timeout"):
        origin.on["/short"] = lambda conn, request: hang(conn)
        started = time.monotonic()
        equal(sidecar.request("/short").status, 504, "status")
        check(time.monotonic() - started < 5, "it waited for response_timeout")


def test_retries_are_counted(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, RETRY)
    flaky(origin, 2, say(503))
    equal(sidecar.request("/flaky").status, 200, "status")
    equal(sidecar.metric("promptops_retries_total"), 2, "promptops_retries_total")
    equal(sidecar.metric("promptops_upstream_requests_total"), 3, "promptops_upstream_requests_total")
    equal(sidecar.metric("promptops_requests_total"), 1, "promptops_requests_total")


def test_retried_requests_are_the_same(t):
    """Fields and body of the second attempt are those of the first; the trace goes on."""
    origin = t.origin()
    sidecar = t.sidecar(origin, RETRY)
    flaky(origin, 1, say(503))
    fields = [("X-A", "1"), ("Authorization", "Bearer x"), ("X-B", "2"), ("X-B", "3"), ("X-Request-Id", "id-1")]
    equal(sidecar.request("/flaky?q=1", "PUT", fields, b"body").status, 200, "status")
    first, second = origin.requests
    for name in [n for n, _ in fields]:
        equal(first.all(name), second.all(name), name)
    equal((first.target, first.body), (second.target, second.body), "target and body")
    equal(first.get("traceparent").split("-")[1], second.get("traceparent").split("-")[1], "trace id")


def test_pain_04_layers_of_retries_do_not_multiply(t):
    """Who says that it is itself a retry is tried once; our own retries say so; the answer may forbid or ask for one."""
    origin = t.origin()
    sidecar = t.sidecar(origin, RETRY)
    rows = [("first", [], 503, [], 3), ("a client library's first", [("X-Stainless-Retry-Count", "0")], 503, [], 3),
            ("its retry", [("X-Stainless-Retry-Count", "1")], 503, [], 1), ("another proxy's", [("X-Envoy-Attempt-Count", "2")], 503, [], 1),
            ("forbidden", [], 503, [("X-Should-Retry", "false")], 1), ("asked for", [], 409, [("X-Should-Retry", "true")], 3), ("not asked for", [], 409, [], 1)]
    for name, fields, status, said, attempts in rows:
        with t.case(name):
            origin.default = make_response(status, said, b"no")
            before = origin.count()
            equal(sidecar.request("/layers", "GET", fields).status, status, "status")
            equal(origin.count() - before, attempts, "attempts")
            if attempts > 1:
                equal([r.get("X-Retry-Count") for r in origin.requests[before:]], [None, "1", "2"], "our marks")
    with t.case("the client's own mark is replaced"):
        origin.default = make_response(503, [], b"no")
        before = origin.count()
        equal(sidecar.request("/layers", "GET", [("X-Retry-Count", "0")]).status, 503, "status")
        equal([r.all("X-Retry-Count") for r in origin.requests[before:]], [["0"], ["1"], ["2"]], "marks")


def test_a_dead_pooled_connection_is_replaced_without_an_attempt(t):
    """Also with one attempt in all: a body is kept as long as the connection may turn out to be dead."""
    origin = t.origin()
    for name, act in (("close", drop), ("reset", reset_it)):
        with t.case("a used connection, %s" % name):
            sidecar = t.sidecar(origin, {**RETRY, "retry.max_attempts": 1})
            equal(sidecar.request("/").status, 200, "status")
            flaky(origin, 1, act)
            response = sidecar.request("/flaky", "PUT", body=b"whole")
            equal((response.status, response.body), (200, b"at last whole"), "answer")
        with t.case("a connection opened ahead of need, %s" % name):
            opened = len(origin.connections)
            sidecar = t.sidecar(origin, {**RETRY, "retry.max_attempts": 1, "pool.strategy": "dynamic", "pool.min_size": 1})
            origin.wait_connections(opened + 1)
            wait_for(lambda: sidecar.metric("promptops_pool_connections", state="idle") == 1, "an idle connection")
            flaky(origin, 1, act)
            equal(sidecar.request("/flaky").status, 200, "status")


def test_what_retrying_is_worth_is_shown(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, RETRY)
    flaky(origin, 1, say(503))
    equal(sidecar.request("/flaky").status, 200, "the second attempt")
    origin.default = make_response(502, [], b"no")
    equal(sidecar.request("/never").status, 502, "none")
    metrics = sidecar.metrics()

    def count(name, reason):
        return sum(v for k, v in metrics.items() if k.startswith(name + "{") and 'reason="%s"' % reason in k)
    equal([count("promptops_retries_total", r) for r in ("503", "502")], [1, 2], "retries")
    equal([count("promptops_retries_succeeded_total", r) for r in ("503", "502")], [1, 0], "that were answered well")
    rows = {r["reason"]: (r["sent"], r["succeeded"], r["success_rate"]) for r in sidecar.admin("/api/v1/circuit")[2]["upstream"]["retries"]}
    equal(rows, {"503": (1, 1, 1), "502": (2, 0, 0)}, "on the admin port")
