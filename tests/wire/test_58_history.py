"""Time series by the admin port (INTERFACE 4): every type, formats, malformed queries, a streamed export, promptops-perf."""
import json
import os

from harness import *
from test_53_perf import perf

TYPES = ["REQUEST_LATENCY", "MEMORY_USAGE", "CPU_USAGE", "CACHE_HIT_RATE", "ERROR_RATE", "THROUGHPUT", "CONNECTION_POOL_SIZE", "RETRY_COUNT"]


def series(sidecar, kind, more="&step=1s&start_time=-5m"):
    status, _, told = sidecar.admin("/api/v1/metrics?metric_type=%s%s" % (kind, more))
    equal(status, 200, "status of %s (%s)" % (kind, told))
    return told


def busy(t, count=20):
    origin = t.origin()
    sidecar = t.sidecar(origin, {"preset": "promptops", "cache.enabled": True, "cache.default_ttl": "60s"})
    for i in range(count):
        equal(sidecar.request("/v1/client/prompts/p%d" % i).status, 200, "status")
    wait_for(lambda: sum(p["count"] for p in series(sidecar, "REQUEST_LATENCY")["points"]) == count, "all requests in the series")
    return sidecar


def test_every_type_has_points(t):
    sidecar = busy(t)
    wait_for(lambda: len(series(sidecar, "MEMORY_USAGE")["points"]) >= 2, "two seconds")
    for kind in TYPES:
        with t.case(kind):
            told = series(sidecar, kind)
            check(told["points"] and told["unit"], told)
            for p in told["points"]:
                check(p["min"] <= p["p50"] * 1.01 and p["p50"] <= p["p95"] <= p["p99"] <= p["max"] * 1.01, p)
    equal({p["mean"] for p in series(sidecar, "ERROR_RATE")["points"]}, {0}, "no error")
    check(max(p["mean"] for p in series(sidecar, "MEMORY_USAGE")["points"]) > 1, "resident memory")
    own = series(sidecar, "REQUEST_LATENCY", "&step=1s&start_time=-5m&operation=get_prompt")
    equal((own["operation"], sum(p["count"] for p in own["points"])), ("get_prompt", 20), "of one operation")


def test_a_heat_map_has_every_sample_in_one_cell(t):
    sidecar = busy(t)
    query = "/api/v1/metrics/heatmap?metric_type=%s&start_time=-5m&step=10s&buckets=%s"
    status, _, told = sidecar.admin(query % ("REQUEST_LATENCY", 12))
    equal(status, 200, "status")
    bounds, columns = told["bounds"], told["columns"]
    equal((len(bounds), bounds), (13, sorted(bounds)), "bounds")
    equal({len(c["counts"]) for c in columns}, {12}, "rows")
    equal((sum(c["count"] for c in columns), sum(sum(c["counts"]) for c in columns)), (20, 20), "samples")
    points = series(sidecar, "REQUEST_LATENCY")["points"]
    check(bounds[0] <= min(p["min"] for p in points) and bounds[-1] >= max(p["max"] for p in points) * 0.99, "the rows hold all")
    check(sum(c["count"] for c in sidecar.admin(query % ("MEMORY_USAGE", 5))[2]["columns"]) >= 1, "a gauge")
    for buckets in ("1", "101", "x"):
        equal(sidecar.admin(query % ("REQUEST_LATENCY", buckets))[0], 400, "buckets=" + buckets)
    told = sidecar.admin(query.replace("-5m", "-5m&end_time=-4m") % ("REQUEST_LATENCY", 5))[2]
    equal((told["bounds"], told["columns"]), ([], []), "nothing was measured")


def test_what_a_range_holds_is_told_apart(t):
    origin = t.origin()
    sidecar = t.sidecar(origin, {"preset": "promptops", "cache.enabled": True, "cache.default_ttl": "60s"})
    for i in (1, 2, 1, 2, 1):
        equal(sidecar.request("/v1/client/prompts/p%d" % i).status, 200, "status")
    equal(sidecar.request("/v1/client/prompts/p1", "POST", [("Content-Type", "application/json")], b"{}").status, 200, "status of a write")

    def parts(kind, by, more="&start_time=-5m"):
        status, _, told = sidecar.admin("/api/v1/metrics/parts?metric_type=%s&by=%s%s" % (kind, by, more))
        equal(status, 200, told)
        equal(told["by"], by, "by")
        return {p["part"]: p for p in told["parts"]}

    def counts(kind, by, more="&start_time=-5m"):
        return {name: p["count"] for name, p in parts(kind, by, more).items()}

    wait_for(lambda: sum(counts("THROUGHPUT", "status").values()) == 6, "all requests")
    equal(counts("THROUGHPUT", "status"), {"200": 6}, "by status")
    by_cache = counts("THROUGHPUT", "cache")
    equal((by_cache["hit"], by_cache["miss"], sum(by_cache.values())), (3, 2, 6), by_cache)
    equal(sum(counts("THROUGHPUT", "operation").values()), 6, "by operation")
    equal(counts("THROUGHPUT", "operation")["get_prompt"], 5, "of one operation")
    equal(counts("THROUGHPUT", "outcome"), {"ok": 3}, "attempts by outcome")
    phases = parts("NETWORK_LATENCY", "phase")
    check(0 < phases["first_byte"]["p50"] <= phases["first_byte"]["p99"], phases)
    check({"idle", "active"} <= set(parts("CONNECTION_POOL_SIZE", "state")), "by state")
    equal(counts("RETRY_COUNT", "reason"), {}, "nothing was retried")
    equal(counts("THROUGHPUT", "status", "&start_time=-2h&end_time=-1h"), {}, "long ago")
    equal(sum(p["count"] for p in series(sidecar, "THROUGHPUT", "&step=1s&start_time=-5m&cache=hit")["points"]), 3, "a part is a series, too")
    for query, field in (("metric_type=MEMORY_USAGE&by=operation", "by"), ("metric_type=THROUGHPUT&by=phase", "by"), ("metric_type=THROUGHPUT", "by"),
                         ("metric_type=THROUGHPUT&by=status&operation=get_prompt", "operation"), ("metric_type=THROUGHPUT&by=status&cache=hit", "cache"),
                         ("metric_type=NONE&by=status", "metric_type"), ("metric_type=THROUGHPUT&by=status&start_time=x", "start_time")):
        status, _, told = sidecar.admin("/api/v1/metrics/parts?" + query)
        equal(status, 400, query)
        check("`%s`" % field in told["error"], told)


def test_malformed_queries_name_the_field(t):
    sidecar = t.sidecar(t.origin())
    for name, query, field in [("no type", "", "metric_type"), ("unknown type", "metric_type=LATENCY", "metric_type"), ("bad time", "metric_type=ERROR_RATE&start_time=yesterday", "start_time"),
                               ("bad end", "metric_type=ERROR_RATE&end_time=2024-13-01T00:00:00", "end_time"), ("not finite", "metric_type=ERROR_RATE&start_time=nan", "start_time"),
                               ("year 9999", "metric_type=ERROR_RATE&start_time=9999-01-01T00:00:00", "start_time"), ("too far apart", "metric_type=ERROR_RATE&start_time=-8999999999&end_time=8999999999", "end_time"),
                               ("before 1970", "metric_type=ERROR_RATE&start_time=1901-01-01T00:00:00", "start_time"),
                               ("inverted", "metric_type=ERROR_RATE&start_time=2024-01-02T00:00:00&end_time=2024-01-01T00:00:00", "start_time"),
                               ("too many", "metric_type=ERROR_RATE&start_time=-30d&step=1s", "step"), ("no step", "metric_type=ERROR_RATE&step=0", "step"), ("half a second", "metric_type=ERROR_RATE&step=0.5", "step"),
                               ("operation", "metric_type=ERROR_RATE&operation=nobody", "operation"), ("operation of memory", "metric_type=MEMORY_USAGE&operation=get_prompt", "operation"),
                               ("format", "metric_type=ERROR_RATE&format=xml", "format")]:
        with t.case(name):
            status, _, told = sidecar.admin("/api/v1/metrics?" + query)
            equal(status, 400, "status")
            check("`%s`" % field in told["error"] and told["remedy"], told)


def test_the_command_line_reads_the_real_answers(t):
    sidecar = busy(t)
    code, out, errors = perf(sidecar, "export", "--metric-type", "REQUEST_LATENCY", "--format", "csv", "--start-time", "-5m")
    equal(code, 0, errors)
    equal(out.splitlines()[0], "time,count,min,max,mean,p50,p95,p99", "heading")
    equal(sum(int(line.split(",")[1]) for line in out.splitlines()[1:]), 20, "requests")
    code, out, errors = perf(sidecar, "export", "--format", "json")
    equal(code, 0, errors)
    rows = [p for p in json.loads(out)["points"] if p["metric_type"] == "REQUEST_LATENCY"]
    equal(sum(p["count"] for p in rows if not p["operation"]), 20, "requests in the export")
    equal(sum(p["count"] for p in rows if p["operation"] == "get_prompt"), 20, "of the operation")
    code, out, errors = perf(sidecar, "export", "--format", "csv")
    equal((code, out.splitlines()[0].split(",")[:4]), (0, ["time", "seconds", "metric_type", "operation"]), "all as CSV")
    code, out, errors = perf(sidecar, "analyze", "--trends", "--format", "json")
    equal(code, 0, errors)
    check({row["metric"] for row in json.loads(out)} >= {"REQUEST_LATENCY", "MEMORY_USAGE"}, out)


def test_an_export_that_nobody_reads_holds_nobody_up(t):
    sidecar = busy(t)
    lazy = sidecar.connect_admin() if hasattr(sidecar, "connect_admin") else None
    import socket
    lazy = lazy or socket.create_connection(sidecar.admin_address)
    lazy.sendall(b"GET /api/v1/export HTTP/1.1\r\nHost: localhost\r\n\r\n")
    equal(sidecar.request("/v1/client/prompts/p1").status, 200, "the data path")
    equal(sidecar.admin("/api/v1/summary")[0], 200, "the admin port")
    lazy.close()
    equal(sidecar.admin("/api/v1/summary")[0], 200, "behind it")


def test_history_outlives_a_restart(t):
    """Points, operations by name, and phases come back from the file; a damaged file is told and costs nothing."""
    path = os.path.join(t.directory, "history")
    config = {"preset": "promptops", "performance.history_file": path}
    origin = t.origin()
    first = t.sidecar(origin, config)
    for i in range(10):
        equal(first.request("/v1/client/prompts/p%d" % i).status, 200, "status")
    wait_for(lambda: sum(p["count"] for p in series(first, "REQUEST_LATENCY")["points"]) == 10, "all requests in the series")
    phases = sum(p["count"] for p in series(first, "NETWORK_LATENCY", "&step=1s&start_time=-5m&phase=first_byte")["points"])
    equal(phases, 10, "first bytes")
    equal(first.admin("/api/v1/metrics?metric_type=NETWORK_LATENCY&phase=luck")[0], 400, "no such phase")
    equal(first.admin("/api/v1/metrics?metric_type=ERROR_RATE&phase=dns")[0], 400, "a phase of something else")
    check(any(p["operation"] == "first_byte" for p in first.admin("/api/v1/export")[2]["points"]), "phases in the export")
    idle = series(first, "CONNECTION_POOL_SIZE", "&step=1s&start_time=-5m&state=idle")
    equal((idle["state"], idle["points"][-1]["max"]), ("idle", 1), "connections that are idle")
    equal(first.admin("/api/v1/metrics?metric_type=CONNECTION_POOL_SIZE&state=lazy")[0], 400, "no such state")
    for value in (3, -4, 5):
        equal(first.admin("/api/v1/custom-metrics", "POST", {"name": "app.queue", "value": value, "type": "gauge"})[0], 200, "posted")
    posted = "/api/v1/metrics?metric_type=CUSTOM_METRIC&name=app.queue&step=1s&start_time=-5m"
    wait_for(lambda: sum(p["count"] for p in first.admin(posted)[2]["points"]) == 3, "the posted values")
    first.signal(2)
    equal(first.wait_exit(), 0, "exit code")
    equal(os.stat(path).st_mode & 0o777, 0o600, "mode")
    routes = [{"match": {"path": "/other/{x}"}, "operation": "other_things"}]  # so that numbers of operations are others
    again = t.sidecar(origin, {**config, "routes": routes})
    wait_for(lambda: sum(p["count"] for p in series(again, "REQUEST_LATENCY")["points"]) == 10, "what was before")
    more = "&step=1s&start_time=-5m&operation=get_prompt"
    equal(sum(p["count"] for p in series(again, "REQUEST_LATENCY", more)["points"]), 10, "of the operation")
    equal(sum(p["count"] for p in series(again, "REQUEST_LATENCY", "&step=1h&start_time=-2h")["points"]), 10, "in the coarse points, too")
    equal(sum(p["count"] for p in series(again, "NETWORK_LATENCY", "&step=1s&start_time=-5m&phase=first_byte")["points"]), 10, "of the phase")
    check(series(again, "CONNECTION_POOL_SIZE", "&step=1s&start_time=-5m&state=in_flight")["points"], "of what was in flight")
    points = again.admin(posted)[2]["points"]
    equal((sum(p["count"] for p in points), min(p["min"] for p in points), max(p["max"] for p in points)), (3, -4, 5), "custom metrics")
    heat = again.admin(posted.replace("/metrics?", "/metrics/heatmap?") + "&buckets=9")[2]
    equal((len(heat["bounds"]), sum(c["count"] for c in heat["columns"]), sum(sum(c["counts"]) for c in heat["columns"])), (10, 3, 3), "their heat map")
    equal((heat["bounds"][0], heat["bounds"][-1]), (-4, 5), "from the least to the greatest")
    equal(again.admin("/api/v1/alerts/q", "PUT", {"metric_type": "CUSTOM_METRIC", "metric_name": "app.queue", "condition": "> 0"})[2]["value"], None, "an alert has no value before one is posted again")
    again.request("/v1/client/prompts/p1")
    wait_for(lambda: sum(p["count"] for p in series(again, "REQUEST_LATENCY", more)["points"]) == 11, "what came after")
    again.signal(2)
    again.wait_exit()
    with open(path, "r+b") as f:
        f.seek(40)
        f.write(b"\xff\xff")
    third = t.sidecar(origin, config)
    check(third.logged("is damaged"), third.tail())
    equal(third.request("/v1/client/prompts/p1").status, 200, "status")
