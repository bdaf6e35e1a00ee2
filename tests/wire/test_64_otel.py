"""OpenTelemetry: metrics and traces at a collector, by both protocols; answers of the collector; one that hangs or is away."""
import json
import math

from harness import *

PROTOCOLS = ("grpc", "http/protobuf")


def collector(t, protocol, script=None, certificate=None):
    try:
        from lib.otlp import Collector
        made = Collector(protocol, script, certificate)
    except ImportError as error:
        raise Skip("python3-grpcio and python3-protobuf are not here: %s" % error)
    t.cleanups.append((made.close, ()))
    return made


def start(t, c, origin, config=None, **more):
    sidecar = t.sidecar(origin, dict({"performance.opentelemetry_enabled": True, "performance.opentelemetry_endpoint": c.url, "performance.opentelemetry_protocol": c.protocol,
                                      "performance.export_interval": "1s", "performance.opentelemetry_traces": False}, **(config or {})), **more)
    sidecar.leak_check = c.protocol == "grpc"   # else the connection is kept for the next message
    return sidecar


def post(sidecar, *samples):
    equal(sidecar.admin("/api/v1/custom-metrics", "POST", list(samples))[0], 200, "custom metrics")


# /metrics against OTLP

def as_prometheus(points):
    """{name{labels}: value} of the own metrics, by the rule of the README; histograms as _count and _sum."""
    found = {}
    for p in points:
        if p.scope.endswith("/custom"):
            name = "promptops_custom_" + "".join(c if c.isalnum() else "_" for c in p.name)
        elif p.name.startswith("promptops."):
            name = p.name.replace(".", "_", 1)
        else:
            continue
        if p.kind == "sum":
            name = (name[:-6] if name.endswith("_total") else name) + "_total"
        labels = {k.replace(".", "_"): v for k, v in p.attributes.items()}
        key = lambda suffix: name + suffix + ("{%s}" % ",".join('%s="%s"' % pair for pair in sorted(labels.items())) if labels else "")
        if p.kind == "exponential_histogram":
            found[key("_count")] = p.data.count
            found[key("_sum")] = p.data.sum
            equal(p.data.count, p.data.zero_count + sum(p.data.positive.bucket_counts) + sum(p.data.negative.bucket_counts), name)
        else:
            found[key("")] = p.value
    return found


def sorted_labels(metrics):
    found = {}
    for sample, value in metrics.items():
        name, brace, labels = sample.partition("{")
        found[name + ("{%s}" % ",".join(sorted(labels[:-1].split(","))) if brace else "")] = value
    return found


# What goes on changing by itself, and by the export and the scrape themselves.
LIVELY = ("process_", "promptops_memory_pool_", "promptops_otlp_", "promptops_admin_", "promptops_build_info", "promptops_retry_budget", "promptops_log_", "promptops_circuit_")


def compare(sidecar, c):
    """All that /metrics shows is at the collector, with the same value, and the other way round."""
    c.wait_metrics(2)   # the second of them began after all that was done before
    ours = {k: v for k, v in sorted_labels(sidecar.metrics()).items() if not k.startswith(LIVELY) and "_bucket{" not in k}
    theirs = {k: v for k, v in as_prometheus(c.points()).items() if not k.startswith(LIVELY)}
    empty = {k for k, v in ours.items() if k not in theirs and v == 0 and (k.partition("{")[0].endswith(("_count", "_sum")))}  # histograms without a record are left out
    equal(sorted(set(ours) - set(theirs) - empty), [], "missing at the collector")
    equal(sorted(set(theirs) - set(ours)), [], "missing in /metrics")
    for k, v in theirs.items():
        check(math.isclose(ours[k], v, rel_tol=1e-9), "%s: /metrics says %r, OTLP %r" % (k, ours[k], v))
    return len(theirs)


def mixed(conn):
    while True:
        request = conn.request()
        if request.target == "/slow":
            time.sleep(0.05)                   # what the upstream takes: a duration that can be told from another
        conn.reply(status=503 if request.target == "/bad" else 200)


@slow(90)
def test_metrics_agree(t):
    """/metrics, gRPC and HTTP show the same, all three of one run."""
    first, second = collector(t, "grpc"), collector(t, "http/protobuf")
    sidecar = start(t, first, t.origin(mixed), {"routes": [{"match": {"path": "/slow"}, "operation": "slow"}], "workers": 2, "cache.enabled": True})
    sidecar.leak_check = False                 # the second keeps its connection
    began = time.time()
    for target in ("/", "/slow", "/slow", "/bad", "/a?token=secret"):
        sidecar.request(target)
    sidecar.request("/", method="POST", body=b"x")
    post(sidecar, {"name": "app.jobs_total", "value": 2, "type": "counter", "attributes": {"app.queue": "a"}}, {"name": "app.size", "value": -3.5, "type": "histogram"},
         {"name": "app.size", "value": 400, "type": "histogram"}, {"name": "app.load", "value": 0.25, "type": "gauge"})
    for c in (first, second):
        if c is second:
            equal(sidecar.admin("/api/v1/config", "PATCH", {"performance.opentelemetry_endpoint": c.url, "performance.opentelemetry_protocol": c.protocol})[0], 200, "status")
        with t.case(c.protocol):
            check(compare(sidecar, c) > 80, "few metrics")
            equal(c.wrong, [], "messages")
            resource = c.points()[0].resource
            equal((resource["service.name"], resource["host.arch"] != "", resource["process.pid"]), ("promptops-sidecar", True, sidecar.pid), "resource")
            look_at_conventions(c, sidecar, began)
    told = [{k: v for k, v in as_prometheus(c.points()).items() if not k.startswith(LIVELY)} for c in (first, second)]
    equal({k: v for k, v in told[0].items() if not k.startswith("promptops_config")}, {k: v for k, v in told[1].items() if not k.startswith("promptops_config")}, "gRPC and HTTP of one run")
    sidecar.request("/slow")
    before = second.points("promptops.requests", operation="slow")[0]
    wait_for(lambda: second.points("promptops.requests", operation="slow")[0].value == 3, "the next message")
    after = second.points("promptops.requests", operation="slow")[0]
    equal((after.start, after.time > before.time), (before.start, True), "times")


def look_at_conventions(c, sidecar, began):
    """http.server.request.duration and http.client.request.duration."""
    server = c.points("http.server.request.duration", http__route="/slow")
    equal(len(server), 1, "points of /slow")
    point = server[0]
    equal({k: v for k, v in point.attributes.items()}, {"http.request.method": "GET", "url.scheme": "http", "http.response.status_code": 200, "http.route": "/slow"}, "attributes")
    equal((point.unit, point.data.count), ("s", 2), "point")
    near(point.data.sum, 0.1, 1, "sum")
    scale, offset, n = point.data.scale, point.data.positive.offset, len(point.data.positive.bucket_counts)
    low, last, high = (2 ** (i / 2 ** scale) for i in (offset, offset + n - 1, offset + n))
    check(last * 0.99 <= point.data.max <= high * 1.01, "the last bucket is from %r to %r, the longest %r" % (last, high, point.data.max))
    check(low * 0.99 <= point.data.sum - point.data.max, "the first bucket begins at %r, the shortest was %r" % (low, point.data.sum - point.data.max))
    near(point.data.max, 0.05, 0.6, "max")
    bad = c.points("http.server.request.duration", http__response__status_code=503)
    equal([p.attributes["error.type"] for p in bad], ["503"], "error.type")
    client = c.points("http.client.request.duration", http__response__status_code=503)
    equal([(p.attributes["error.type"], p.attributes["server.address"], p.attributes["http.request.method"]) for p in client], [("503", "127.0.0.1", "GET")], "the client's side")
    equal(sum(p.data.count for p in c.points("http.server.request.duration")), 6, "requests")
    for p in c.points():
        check(p.kind == "gauge" or began - 30 < p.start / 1e9 <= p.time / 1e9 < time.time() + 1, "%s begins at %d" % (p.name, p.start))
        check("secret" not in str(p.attributes), p.attributes)


def test_who_reports(t):
    c = collector(t, "http/protobuf")
    env = {"OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=a%20b,service.name=no,host.name=mine,broken", "OTEL_SERVICE_NAME": "from-env", "KUBERNETES_SERVICE_HOST": "10.0.0.1",
           "POD_NAME": "pod-1", "POD_NAMESPACE": "shop", "NODE_NAME": "n1", "POD_UID": "u-1", "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20s3cret, x-tenant = t1 ,bad name=x"}
    sidecar = start(t, c, t.origin(), env=env)
    c.wait_metrics()
    resource = c.points()[0].resource
    equal({k: resource.get(k) for k in ("service.name", "deployment.environment.name", "host.name", "k8s.pod.name", "k8s.namespace.name", "k8s.node.name", "k8s.pod.uid", "os.type")},
          {"service.name": "from-env", "deployment.environment.name": "a b", "host.name": "mine", "k8s.pod.name": "pod-1", "k8s.namespace.name": "shop", "k8s.node.name": "n1", "k8s.pod.uid": "u-1",
           "os.type": "linux"}, "resource")
    check(resource["service.version"] and len(resource["service.instance.id"]) == 36, resource)
    equal((c.fields[-1].get("authorization"), c.fields[-1].get("x-tenant")), ("Bearer s3cret", "t1"), "header fields")
    wait_for(lambda: sidecar.logged("OTEL_EXPORTER_OTLP_HEADERS: 1 entries"), "the bad one is told")
    check(not sidecar.logged("s3cret") and "s3cret" not in json.dumps(sidecar.admin("/api/v1/config")[2]), "the token is shown")
    other = collector(t, "grpc")
    equal(sidecar.admin("/api/v1/config", "PATCH", {"performance.service_name": "set", "performance.opentelemetry_endpoint": other.url, "performance.opentelemetry_protocol": "grpc"})[0], 200, "status")
    other.wait_metrics()
    equal((other.points()[0].resource["service.name"], other.fields[-1].get("authorization")), ("set", "Bearer s3cret"), "after a change")


def test_by_tls(t):
    from test_43_tls import Authority
    authority = Authority(t)
    certificate = authority.issue("collector", "IP:127.0.0.1")
    for protocol in PROTOCOLS:
        with t.case(protocol):
            c = collector(t, protocol, certificate=certificate)
            sidecar = start(t, c, t.origin(), env={"OTEL_EXPORTER_OTLP_CERTIFICATE": authority.certificate})
            sidecar.leak_check = False         # the connection is kept, by gRPC as well
            c.wait_metrics(2)
            wait_for(lambda: sidecar.metric("promptops_otlp_calls_total", result="ok") >= 2, "calls")
            equal(sidecar.metric("promptops_otlp_calls_total") - sidecar.metric("promptops_otlp_calls_total", result="ok"), 0, "failed calls")
            stranger = start(t, c, t.origin())
            wait_for(lambda: stranger.metric("promptops_otlp_calls_total", result="unreachable") >= 1, "an authority that is not known to be refused")


def items(sidecar, signal, result):
    return sidecar.metric("promptops_otlp_items_total", signal=signal, result=result)


def test_answers_of_the_collector(t):
    cases = [("grpc", ("UNAVAILABLE", []), "unavailable", True), ("grpc", ("INTERNAL", []), "refused", False), ("grpc", ("RESOURCE_EXHAUSTED", []), "refused", False),
             ("grpc", ("RESOURCE_EXHAUSTED", [("grpc-status-details-bin", retry_info())]), "unavailable", True), ("http/protobuf", (503, [("Retry-After", "1")]), "unavailable", True),
             ("http/protobuf", (400, []), "refused", False), ("http/protobuf", (429, []), "unavailable", True), ("http/protobuf", (500, []), "refused", False)]
    running = []
    for protocol, answer, result, again in cases:
        c = collector(t, protocol, lambda kind, number, answer=answer: answer if number == 1 else None)
        running.append((c, start(t, c, t.origin()), "%s %s" % (protocol, answer[0]), result, again))
    for c, sidecar, name, result, again in running:
        with t.case(name):
            wait_for(lambda: sidecar.metric("promptops_otlp_calls_total", result=result) == 1, "the call to be counted")
            wait_for(lambda: items(sidecar, "metrics", "exported") > 0, "a message that is taken")
            equal(items(sidecar, "metrics", "rejected") > 0, not again, "points that were refused")
            equal(items(sidecar, "metrics", "failed"), 0, "points given up")


def retry_info():
    """google.rpc.Status with a RetryInfo of one second, by hand."""
    delay = b"\x0a\x02\x08\x01"                                       # retry_delay { seconds: 1 }
    any_ = b"\x0a\x28type.googleapis.com/google.rpc.RetryInfo" + b"\x12" + bytes([len(delay)]) + delay
    return b"\x08\x08\x1a" + bytes([len(any_)]) + any_


def test_what_the_collector_leaves_out(t):
    for protocol in PROTOCOLS:
        with t.case(protocol):
            c = collector(t, protocol, lambda kind, number: 3 if number == 1 else None)
            sidecar = start(t, c, t.origin())
            wait_for(lambda: items(sidecar, "metrics", "rejected") == 3, "the count")
            wait_for(lambda: sidecar.logged("left out 3 of"), "the log")


@slow(60)
def test_a_collector_that_hangs_or_is_away(t):
    for name, script in (("hangs", lambda kind, number: "hang"), ("is away", None)):
        with t.case(name):
            c = collector(t, "grpc", script)
            if name == "is away":
                c.close()
            sidecar = start(t, c, t.origin())
            if name == "hangs":
                wait_for(lambda: c.calls >= 1, "a call")
            else:
                wait_for(lambda: sidecar.metric("promptops_otlp_calls_total", result="unreachable") >= 1, "a call")
            began = time.monotonic()
            for _ in range(20):
                equal(sidecar.request("/").status, 200, "status")
            check(time.monotonic() - began < 5, "requests wait for it")
            sidecar.signal(signal.SIGINT)
            began = time.monotonic()
            equal(sidecar.wait_exit(), 0, "exit")
            check(time.monotonic() - began < 5, "the end waits for it")


def test_the_last_of_it_arrives_at_the_end(t):
    c = collector(t, "grpc")
    sidecar = start(t, c, t.origin(), {"performance.export_interval": "600s"})
    sidecar.request("/")
    sidecar.signal(signal.SIGINT)
    equal(sidecar.wait_exit(), 0, "exit")
    equal([p.value for p in c.points("promptops.requests")], [1], "the last message")


# Traces

SERVER, CLIENT, INTERNAL, ERROR = 2, 3, 1, 2
TRACED = {"performance.opentelemetry_traces": True}


def trace_of(c, n, root=1):
    """Waits for n spans in all; returns (server span, [client spans by time]) when there is one trace."""
    wait_for(lambda: len(c.spans()) >= n, "%d spans" % n)
    spans = c.spans()
    equal(len({s.trace for s in spans}), 1, "traces")
    server = [s for s in spans if s.kind == SERVER]
    equal(len(server), root, "server spans")
    return server[0], sorted((s for s in spans if s.kind == CLIENT), key=lambda s: s.start)


def test_a_retry_makes_a_tree(t):
    for protocol in PROTOCOLS:
        with t.case(protocol):
            c = collector(t, protocol)
            statuses = [503, 200]

            def script(conn):
                while True:
                    conn.request()
                    conn.reply(status=statuses.pop(0))
            origin = t.origin(script)
            sidecar = start(t, c, origin, dict(TRACED, **{"retry.max_attempts": 3, "retry.base_delay": "20ms", "retry.budget": 1, "cache.enabled": True,
                                                          "routes": [{"match": {"path": "/v1/{id}"}, "operation": "get_it"}]}))
            parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
            equal(sidecar.request("/v1/7?api_key=hidden-query", fields=[("traceparent", parent), ("tracestate", "a=b"), ("Authorization", "Bearer hidden-key")]).status, 200, "status")
            server, clients = trace_of(c, 3)
            equal((server.trace, server.parent), (parent[3:35], parent[36:52]), "whose child it is")
            equal((server.name, server.attributes["http.route"], server.attributes["url.path"], server.attributes["http.response.status_code"]), ("GET /v1/{id}", "/v1/{id}", "/v1/7", 200), "server")
            equal((server.attributes["http.request.method"], server.attributes["url.scheme"], server.attributes["promptops.cache"], server.status), ("GET", "http", "miss", 0), "server")
            check(server.attributes["server.address"], server.attributes)
            equal([s.parent for s in clients], [server.id] * 2, "parents")
            equal([s.attributes["http.response.status_code"] for s in clients], [503, 200], "statuses")
            equal([(s.status, s.attributes.get("error.type"), s.attributes.get("http.request.resend_count")) for s in clients], [(ERROR, "503", None), (0, None, 1)], "status of the spans")
            equal(clients[0].attributes["url.full"], "http://127.0.0.1:%d/v1/7" % origin.port, "url.full")
            events = dict(server.events)
            check("promptops.cache.lookup" in events and events["promptops.retry"]["promptops.retry.delay"] > 0, server.events)
            equal((events["promptops.retry"]["promptops.retry.cause"], events["promptops.retry"]["http.response.status_code"]), ("unavailable", 503), "retry")
            check(server.start <= clients[0].start <= clients[0].end <= clients[1].start <= clients[1].end <= server.end + 1000000, "times")
            sent = [r.get("traceparent") for r in origin.requests]
            equal(sent, ["00-%s-%s-01" % (server.trace, s.id) for s in clients], "what went up")
            equal(origin.requests[0].get("tracestate"), "a=b", "tracestate")
            check("hidden" not in str([(s.attributes, s.events, s.name) for s in c.spans()]), "a secret is shown")
            equal(c.wrong, [], "messages")


def test_who_is_sampled(t):
    c = collector(t, "http/protobuf")
    origin = t.origin()
    sidecar = start(t, c, origin, dict(TRACED, **{"performance.sample_rate": 0}))
    trace = "00-%032x-%016x-%02x"
    sidecar.request("/root")
    sidecar.request("/unsampled", fields=[("traceparent", trace % (1, 1, 0))])
    sidecar.request("/sampled", fields=[("traceparent", trace % (2, 2, 1))])
    wait_for(lambda: len(c.spans()) == 2, "the sampled one")
    equal({s.trace for s in c.spans()}, {"%032x" % 2}, "who was sampled")
    flags = {r.target: r.get("traceparent")[-2:] for r in origin.requests}
    equal((flags["/sampled"], flags["/unsampled"]), ("01", "00"), "flags")
    check(int(flags["/root"], 16) & 1 == 0, flags)
    equal(sidecar.admin("/api/v1/config", "PATCH", {"performance.sample_rate": 0.5})[0], 200, "status")
    for _ in range(200):
        sidecar.request("/half")
    roots = lambda: [s for s in c.spans(url__path="/half") if s.kind == SERVER]
    wait_for(lambda: len(roots()) > 60, "half of them")
    sampled = {r.get("traceparent")[3:35] for r in origin.requests if r.target == "/half" and int(r.get("traceparent")[-2:], 16) & 1}
    wait_for(lambda: {s.trace for s in roots()} == sampled, "each that was sent on as sampled")
    near(len(sampled), 60, 140, "share")
    equal({s.parent for s in roots()}, {""}, "parents of roots")


def test_hits_refreshes_and_failures(t):
    c = collector(t, "grpc")

    def script(conn):
        while True:
            request = conn.request()
            if request.target == "/broken":
                conn.reset()
                return
            conn.reply(fields=[("Cache-Control", "max-age=1, stale-while-revalidate=60" if request.target == "/stale" else "max-age=60")])
    sidecar = start(t, c, t.origin(script), dict(TRACED, **{"cache.enabled": True}))
    for _ in range(2):
        sidecar.request("/hit")
    spans = lambda path, kind=None: [s for s in c.spans() if (s.attributes.get("url.path") == path or s.attributes.get("url.full", "").endswith(path)) and kind in (None, s.kind)]
    wait_for(lambda: len(spans("/hit")) == 3, "two requests, one of them from the cache")
    equal(sorted(s.attributes["promptops.cache"] for s in spans("/hit", SERVER)), ["hit", "miss"], "verdicts")
    equal(len(spans("/hit", CLIENT)), 1, "attempts")
    check(all(s.end > s.start for s in spans("/hit")), "a span of no length")
    equal(sidecar.request("/broken").status, 502, "status")
    wait_for(lambda: len(spans("/broken")) == 3, "the failed one, and the connection that might have been stale")
    server, client = spans("/broken", SERVER)[0], spans("/broken", CLIENT)[-1]
    equal((server.status, server.attributes["error.type"], client.status), (ERROR, "502", ERROR), "errors")
    check("http.response.status_code" not in client.attributes and client.attributes["error.type"].startswith("reset"), client.attributes)
    sidecar.request("/stale")
    time.sleep(1.2)                            # max-age is over: the age of what is stored is what is tested
    sidecar.request("/stale")
    wait_for(lambda: spans("/stale", INTERNAL), "the refresh")
    refresh = spans("/stale", INTERNAL)[0]
    stale = [s for s in spans("/stale", SERVER) if s.attributes["promptops.cache"] == "stale"][0]
    equal((refresh.parent, refresh.trace), (stale.id, stale.trace), "the refresh's parent")
    wait_for(lambda: [s for s in spans("/stale", CLIENT) if s.parent == refresh.id and s.attributes["promptops.attempt"] == "refresh"], "its attempt")


def test_exemplars_point_to_traces(t):
    c = collector(t, "grpc")
    sidecar = start(t, c, t.origin(mixed), TRACED)
    for target in ("/", "/slow", "/bad"):
        sidecar.request(target)
    found = {}

    def exemplars():
        for message in list(c.metric_messages):
            for p in message:
                if p.name.startswith("http."):
                    for e in p.data.exemplars:
                        found[(p.name, p.attributes.get("http.response.status_code"))] = (e.trace_id.hex(), e.span_id.hex(), e.as_double)
        return len(found) == 4
    wait_for(exemplars, "exemplars of both histograms, for 200 and 503")
    for (name, status), (trace, span, value) in found.items():
        spans = [s for s in c.spans() if s.id == span]
        equal([(s.trace, s.kind) for s in spans], [(trace, SERVER if "server" in name else CLIENT)], "the span of an exemplar")
        check(value >= 0 and spans[0].attributes["http.response.status_code"] == status, "its value")


def test_off_costs_no_spans(t):
    c = collector(t, "grpc")
    origin = t.origin()
    sidecar = start(t, c, origin, {"performance.opentelemetry_traces": False})
    sidecar.request("/", fields=[("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")])
    c.wait_metrics(2)
    equal(c.spans(), [], "spans")
    check(origin.requests[0].get("traceparent").startswith("00-0af7651916cd43dd8448eb211c80319c-"), "the trace goes on")
    equal(sidecar.admin("/api/v1/config", "PATCH", {"performance.opentelemetry_traces": True})[0], 200, "status")
    sidecar.request("/")
    wait_for(lambda: len(c.spans()) == 2, "spans once it is on")


@slow(120)
def test_spans_that_find_no_room_are_counted(t):
    c = collector(t, "grpc", lambda kind, number: "hang" if kind == "TraceRequest" else None)
    sidecar = start(t, c, t.origin(), dict(TRACED, **{"cache.enabled": True, "cache.default_ttl": 60}))
    with sidecar.client() as client:
        client.request("/")
        for _ in range(250):
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 100)
            for _ in range(100):
                client.response("GET")
    sent = 25002
    counted = lambda: sum(items(sidecar, "traces", result) for result in ("exported", "rejected", "failed", "dropped"))
    wait_for(lambda: items(sidecar, "traces", "dropped") > 0, "spans that are dropped")
    check(counted() < sent, "more than were sent: %d" % counted())
    near(sidecar.rss_kib(), 1, 100000 if not sanitized() else 1e9, "memory")
    c.script = lambda kind, number: None
    c.released.set()
    wait_for(lambda: counted() == sent, "each span to be counted once", timeout=30)
    arrived = len({s.id for s in c.spans()})    # a message that hung came in, too, though nobody waited for its answer any more
    check(items(sidecar, "traces", "exported") <= arrived < sent, "arrived: %d" % arrived)


def test_what_is_fetched_ahead_has_a_trace_of_its_own(t):
    from test_62_prefetch import Walk
    c = collector(t, "grpc")
    walk = Walk(t, dict(TRACED, **{"performance.opentelemetry_enabled": True, "performance.opentelemetry_endpoint": c.url}))
    walk.learn()
    walk.walk()
    issued = walk.sidecar.metric("promptops_prefetch_issued_total")
    check(issued >= 4, "only %d were fetched ahead" % issued)
    ahead = lambda: [s for s in c.spans() if s.kind == INTERNAL]
    wait_for(lambda: len(ahead()) == issued, "their spans")
    for span in ahead():
        equal((span.name[:9], span.parent), ("prefetch ", ""), "span")
        equal([s.attributes["promptops.attempt"] for s in c.spans() if s.parent == span.id], ["prefetch"], "its attempt")


def test_a_batch_is_shown_under_the_request_that_began_it(t):
    from test_63_batching import BATCH, ON, Prompts, all_at_once, prove
    c = collector(t, "grpc")
    api = Prompts(t)
    sidecar = t.sidecar(api.url, {**ON, **TRACED, "performance.opentelemetry_enabled": True, "performance.opentelemetry_endpoint": c.url, "batching.window": "150ms"})
    prove(sidecar)
    answers = all_at_once(t, sidecar, ["cold-%d" % i for i in range(10)])
    equal({a.status for a in answers}, {200}, "statuses")
    batches = lambda: [s for s in c.spans() if s.kind == INTERNAL and s.name.startswith("batch POST") and s.attributes["url.path"] == BATCH]
    wait_for(batches, "the batch")
    wait_for(lambda: len([s for s in c.spans() if s.kind == SERVER and "/cold-" in s.attributes["url.path"]]) == 10, "the requests")
    for batch in batches():
        attempts = [s for s in c.spans() if s.parent == batch.id]
        equal([s.attributes["promptops.attempt"] for s in attempts], ["batch"], "its attempt")
        server = [s for s in c.spans() if s.id == batch.parent]
        equal([(s.kind, s.trace) for s in server], [(SERVER, batch.trace)], "who began it")
