"""Custom metrics: posted, refused, bounded, in /metrics, in the time series, in alerts, pushed on."""
import json

from harness import *

QUICK = {"performance.alert_interval": "1s", "performance.alert_window": "10s", "performance.alert_cooldown_seconds": 0}


def post(sidecar, *samples):
    status, _, told = sidecar.admin("/api/v1/custom-metrics", "POST", samples[0] if len(samples) == 1 else list(samples))
    return status, told


def sample(name="app.jobs", value=1, kind="counter", **attributes):
    return {"name": name, "value": value, "type": kind, **({"attributes": attributes} if attributes else {})}


def test_each_type_is_counted_and_shown(t):
    sidecar = t.sidecar(t.origin())
    equal(post(sidecar, sample(value=2, queue="a")), (200, {"accepted": 1, "folded": 0}), "one")
    equal(post(sidecar, sample(value=3, queue="a"), sample(value=0.5, queue='b"\\x'), sample("app.temperature", -3.5, "gauge"), sample("app.temperature", -4, "gauge"),
               sample("app.size", 3, "histogram", unit="kB", hot=True, n=7), sample("app.size", 40, "histogram", unit="kB", hot=True, n=7)), (200, {"accepted": 6, "folded": 0}), "a list")
    found = sidecar.metrics()
    equal(found['promptops_custom_app_jobs_total{queue="a"}'], 5, "a counter adds")
    equal(found['promptops_custom_app_jobs_total{queue="b\\"\\\\x"}'], 0.5, "escapes")
    equal(found["promptops_custom_app_temperature"], -4, "a gauge is what came last")
    series = 'hot="true",n="7",unit="kB"'
    equal([found["promptops_custom_app_size_bucket{%s,le=\"%s\"}" % (series, le)] for le in ("2.5", "5.0", "25.0", "50.0", "+Inf")], [0, 1, 1, 2, 2], "buckets")
    equal((found["promptops_custom_app_size_sum{%s}" % series], found["promptops_custom_app_size_count{%s}" % series]), (43, 2), "sum and count")
    equal(sidecar.metric("promptops_posted_values_total"), 7, "values")
    text = sidecar.admin("/metrics")[2]
    equal(text.count("# TYPE promptops_custom_app_jobs_total counter"), 1, "the family")
    text = sidecar.admin("/metrics", fields={"Accept": "application/openmetrics-text"})[2]
    check("# TYPE promptops_custom_app_jobs counter\n" in text and "\npromptops_custom_app_jobs_total{" in text, "OpenMetrics")


def test_what_is_wrong(t):
    sidecar = t.sidecar(t.origin())
    equal(post(sidecar, sample("known", 1, "gauge"), sample("a.b", 1))[0], 200, "status")
    for body, field in (({}, "name"), ({"name": "x", "type": "gauge"}, "value"), ({"name": "x", "value": 1}, "type"), (sample("9x"), "name"), (sample("a b"), "name"), (sample("x" * 129), "name"),
                        (sample("x\0"), "JSON"), (sample(value="1"), "value"), (sample(value=-1), "value"), (sample(kind="summary"), "type"), (sample("known"), "type"), (sample("a_b"), "name"),
                        (sample("x_total", 1, "gauge"), "name"), (sample("x_count", 1, "histogram"), "name"), (sample(le="1"), "attributes.le"), (sample(__x="1"), "attributes.__x"),
                        (sample(x=["y"]), "attributes.x"), (sample(x="y" * 129), "attributes.x"), (sample(x="a\nb"), "attributes.x"), (sample(**{"a.b": 1, "a_b": 2}), "attributes.a"),
                        (sample(**{"k%d" % i: 1 for i in range(9)}), "attributes"), (dict(sample(), colour="red"), "colour"), ([], "list"), ([sample("z"), sample("z", 1, "gauge")], "Item 1: `type`"),
                        ([sample("z"), 3], "Item 1"), ([sample("z")] * 513, "512"), ([sample("z"), sample("z", -1)], "Item 1: `value`")):
        with t.case(json.dumps(body)[:70]):
            status, _, told = sidecar.admin("/api/v1/custom-metrics", "POST", body)
            equal(status, 400, "status")
            check(field in told["error"] and told["details"]["remedy"] if isinstance(told.get("details"), dict) else field in told["error"], told)
    equal(sidecar.metric("promptops_posted_values_total"), 2, "nothing of them counts")
    check("promptops_custom_z" not in sidecar.admin("/metrics")[2], "half a list was counted")


def test_names_and_series_are_bounded(t):
    sidecar = t.sidecar(t.origin())
    told = [post(sidecar, *[sample(value=2, user=str(i)) for i in range(n, n + 50)])[1] for n in range(0, 200, 50)]
    equal([one["folded"] for one in told], [0, 0, 50, 50], "folded")
    found = sidecar.metrics()
    equal(found['promptops_custom_app_jobs_total{attributes="other"}'], 200, "other")
    equal(found["promptops_posted_folded_total"], 100, "the count of what was folded")
    equal(sum(v for k, v in found.items() if k.startswith("promptops_custom_app_jobs_total")), 400, "nothing is lost")
    equal(post(sidecar, *[sample("n%d" % i) for i in range(127)])[0], 200, "127 further names")
    status, told = post(sidecar, sample("one.more"))
    equal(status, 409, "one more")
    check("128 names" in told["error"], told)
    equal(post(sidecar, sample("n5"))[0], 200, "a name that is known")


def points(sidecar, query):
    status, _, told = sidecar.admin("/api/v1/metrics?metric_type=CUSTOM_METRIC" + query)
    return told["points"] if status == 200 else (status, told["error"])


def test_time_series(t):
    sidecar = t.sidecar(t.origin())
    post(sidecar, *[sample("app.load", v, "gauge") for v in (-1e-9, 2.5, 1e12)])
    wait_for(lambda: points(sidecar, "&name=app.load"), "a point")
    one = points(sidecar, "&name=app.load")[0]
    equal((one["count"], one["min"], one["max"]), (3, -1e-9, 1e12), "point")
    near(one["p50"], 2.5 * 0.99, 2.5 * 1.01, "p50")
    near(one["mean"], (1e12 + 2.5) / 3 * 0.999, (1e12 + 2.5) / 3 * 1.001, "mean")
    equal(points(sidecar, "")[0], 400, "no name")
    equal(points(sidecar, "&name=none")[0], 400, "an unknown name")
    equal(points(sidecar, "&name=app.load&operation=other")[0], 400, "an operation")
    equal(sidecar.admin("/api/v1/metrics?metric_type=ERROR_RATE&name=app.load")[0], 400, "a name of another type")
    rows = [row for row in sidecar.admin("/api/v1/export?format=csv")[2].split("\r\n") if "CUSTOM_METRIC" in row]
    check(rows and rows[0].endswith(",app.load"), rows)
    exported = sidecar.admin("/api/v1/export")[2]["points"]
    equal([p["name"] for p in exported if p["metric_type"] == "CUSTOM_METRIC"], ["app.load"], "export")


def test_alerts(t):
    rules = [{"id": kind, "metric_type": "CUSTOM_METRIC", "metric_name": "app." + kind, "condition": "> 5", "severity": "info", "message": "x", "cooldown_period": 0} for kind in ("counter", "gauge", "histogram")]
    sidecar = t.sidecar(t.origin(), dict(QUICK, alerts=rules))
    find = lambda name: [a for a in sidecar.admin("/api/v1/alerts")[2]["alerts"] if a["id"] == name][0]
    equal([find(kind)["value"] for kind in ("counter", "gauge", "histogram")], [None] * 3, "nothing was posted")
    post(sidecar, sample("app.counter", 4), sample("app.counter", 3), sample("app.gauge", 6, "gauge", a="b"), sample("app.histogram", 4, "histogram"), sample("app.histogram", 10, "histogram"))
    for kind, value in (("counter", 7), ("gauge", 6), ("histogram", 7)):
        wait_for(lambda: find(kind)["state"] == "firing", "the alert on the " + kind)
        equal(find(kind)["value"], value, kind)
    post(sidecar, sample("app.gauge", 1, "gauge", c="d"))
    wait_for(lambda: find("gauge")["state"] != "firing", "its end")


def test_pushed_on(t):
    statuses = [503]

    def script(conn):
        while True:
            conn.request()
            conn.reply(status=statuses.pop(0) if statuses else 200)
    endpoint = t.origin(script)
    sidecar = t.sidecar(t.origin(), {"performance.custom_metrics_endpoint": endpoint.url + "/hook/hidden", "performance.export_interval": "1s", "performance.service_name": 'a"b'})
    sidecar.leak_check = False                 # the connection is kept for the next message
    post(sidecar, sample(value=2, queue='x"y'), sample("app.size", 3, "histogram"))
    endpoint.wait_requests(2)                  # refused once, and tried again
    request = endpoint.requests[1]
    equal((request.method, request.target, request.get("Content-Type"), request.body), ("POST", "/hook/hidden", "application/json", endpoint.requests[0].body), "request")
    told = json.loads(request.body)
    equal((told["version"], told["service"]), (1, 'a"b'), "message")
    found = {m["name"]: m for m in told["metrics"]}
    equal((found["app.jobs"]["type"], found["app.jobs"]["value"], found["app.jobs"]["attributes"]), ("counter", 2, {"queue": 'x"y'}), "the counter")
    equal((found["app.size"]["count"], found["app.size"]["sum"], found["app.size"]["max"], found["app.size"]["p50"]), (1, 3, 3, 3), "the histogram")
    post(sidecar, sample(value=5, queue='x"y'))
    endpoint.wait_requests(3)
    told = json.loads(endpoint.requests[2].body)["metrics"]
    equal([(m["name"], m["value"]) for m in told], [("app.jobs", 7)], "only what changed, with all that it counts")
    wait_for(lambda: sidecar.metric("promptops_push_messages_total", result="sent") == 2, "the count")
    equal(sidecar.metric("promptops_push_messages_total", result="retried"), 1, "retries")
    check(not sidecar.logged("hidden"), "the log shows the endpoint's secret")


def test_what_was_posted_last_arrives_at_the_end(t):
    endpoint = t.origin()
    sidecar = t.sidecar(t.origin(), {"performance.custom_metrics_endpoint": endpoint.url, "performance.export_interval": "600s"})
    post(sidecar, sample())
    sidecar.signal(signal.SIGINT)
    equal(sidecar.wait_exit(), 0, "exit")
    equal(json.loads(endpoint.requests[0].body)["metrics"][0]["value"], 1, "message")
