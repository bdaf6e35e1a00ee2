"""Alerts on a live sidecar: raised, shown, counted, silenced, set and taken back, resolved."""
from harness import *

QUICK = {"performance.alert_interval": "1s", "performance.alert_window": "10s", "performance.alert_cooldown_seconds": 0}


def rule(**more):
    return dict({"id": "busy", "metric_type": "CONNECTION_POOL_SIZE", "condition": "> 0", "severity": "error", "message": "There is a connection.", "cooldown_period": 0}, **more)


def alert(sidecar, name):
    found = [a for a in sidecar.admin("/api/v1/alerts")[2]["alerts"] if a["id"] == name]
    return found[0] if found else None


def state(sidecar, name):
    return (alert(sidecar, name) or {}).get("state")


def events(sidecar, name):
    return [e["event"] for e in reversed(sidecar.admin("/api/v1/alerts/history?limit=500")[2]["history"]) if e["id"] == name]


def metric(sidecar, line):
    text = sidecar.admin("/metrics")[2]
    text = text if isinstance(text, str) else text.decode()
    return [float(row.rsplit(" ", 1)[1]) for row in text.splitlines() if row.startswith(line)]


def test_built_in_alerts_are_there(t):
    sidecar = t.sidecar(t.origin())
    told = sidecar.admin("/api/v1/alerts")[2]
    names = {a["id"] for a in told["alerts"]}
    for name in ("high_latency", "high_error_rate", "low_cache_hit_rate", "high_memory_usage", "high_cpu_usage", "quota_exhaustion", "circuit_open", "pool_starvation",
                 "certificate_expiry", "retry_amplification", "error_budget_fast", "error_budget_slow", "batching_refuted"):
        check(name in names, "no " + name)
    check(told["enabled"] and told["firing"] == 0, told)
    equal(sidecar.admin("/api/v1/alerts?state=firing")[2]["alerts"], [], "firing")
    equal(sidecar.admin("/api/v1/alerts?state=loud")[0], 400, "status")


def test_raised_and_resolved(t):
    sidecar = t.sidecar(t.origin(), dict(QUICK, alerts=[rule()], **{"pool.max_idle_time": "1s", "pool.prune_interval": "200ms"}))
    equal(sidecar.request("/").status, 200, "status")
    wait_for(lambda: "raised" in events(sidecar, "busy"), "the raise")
    wait_for(lambda: "resolved" in events(sidecar, "busy"), "the end")
    equal(events(sidecar, "busy")[:2], ["raised", "resolved"], "events")
    wait_for(lambda: any('"module":"alerts"' in line and "busy raised (error)" in line for line in list(sidecar.log)), "the line in the log")
    equal(metric(sidecar, 'promptops_alert_transitions_total{to="firing"}'), [1.0], "transitions")


def test_errors_are_noticed_within_two_judgements(t):
    origin = t.origin(lambda conn: [(conn.request(), conn.reply(status=500)) for _ in range(20)])
    sidecar = t.sidecar(origin, dict(QUICK, alerts=[rule(id="errors", metric_type="ERROR_RATE", condition="> 0.5", severity="critical")]))
    with sidecar.client() as client:
        for _ in range(12):
            equal(client.request("/").status, 500, "status")
    began = time.monotonic()
    wait_for(lambda: state(sidecar, "errors") == "firing", "the alert")
    check(time.monotonic() - began < 2 * 1 + 1.5, "noticed after %.1f s" % (time.monotonic() - began))   # two intervals, and the port's own time
    one = alert(sidecar, "errors")
    equal((one["value"], one["threshold"], one["origin"], one["condition"]), (1.0, 0.5, "configuration", "> 0.5"), "the alert")
    equal(metric(sidecar, 'promptops_alerts_active{severity="critical"}'), [1.0], "active")
    equal(sidecar.admin("/api/v1/alerts")[2]["firing"], 1, "firing")


def test_few_requests_are_no_rate(t):
    origin = t.origin(lambda conn: [(conn.request(), conn.reply(status=500)) for _ in range(9)])
    sidecar = t.sidecar(origin, dict(QUICK, alerts=[rule(id="errors", metric_type="ERROR_RATE", condition="> 0.5"), rule(id="any", metric_type="THROUGHPUT", condition="> 0")]))
    with sidecar.client() as client:
        for _ in range(9):
            client.request("/")
    wait_for(lambda: state(sidecar, "any") == "firing", "a judgement")
    equal((state(sidecar, "errors"), alert(sidecar, "errors")["value"]), ("inactive", None), "the alert")


def test_an_open_circuit(t):
    origin = t.origin(lambda conn: (conn.request(), conn.reset()))
    sidecar = t.sidecar(origin, dict(QUICK, **{"circuit_breaker.enable_circuit_breaker": True, "circuit_breaker.circuit_breaker_threshold": 2, "circuit_breaker.circuit_breaker_timeout": "60s"}))
    for _ in range(4):
        sidecar.request("/")
    wait_for(lambda: state(sidecar, "circuit_open") == "firing", "the alert")


def test_set_silenced_and_removed(t):
    sidecar = t.sidecar(t.origin(), QUICK)
    body = {"metric_type": "MEMORY_USAGE", "condition": "> 1", "threshold": 1, "severity": "info", "message": "It lives.", "for": 0, "cooldown_period": 0}
    status, _, told = sidecar.admin("/api/v1/alerts/alive", "PUT", body)
    equal((status, told["origin"], told["state"], told["condition"]), (200, "admin", "inactive", "> 1"), "set")
    wait_for(lambda: state(sidecar, "alive") == "firing", "the alert")
    told = sidecar.admin("/api/v1/alerts/alive/silence", "POST", {"seconds": 60})[2]
    check(told["silenced_until"], told)
    equal(sidecar.admin("/api/v1/alerts/alive/silence", "POST", {"seconds": 0})[2]["silenced_until"], None, "silence")
    sidecar.signal(signal.SIGHUP)
    wait_for(lambda: any("reloaded" in line for line in sidecar.log), "the reload")
    equal(alert(sidecar, "alive")["state"], "firing", "after a reload")
    equal(sidecar.admin("/api/v1/alerts/alive", "DELETE")[2], {"id": "alive", "removed": True}, "removed")
    equal(alert(sidecar, "alive"), None, "the alert")
    wait_for(lambda: events(sidecar, "alive") == ["raised", "resolved"], "its end")
    equal(sidecar.admin("/api/v1/alerts/high_latency", "DELETE")[2], {"id": "high_latency", "removed": False}, "switched off")
    equal(alert(sidecar, "high_latency")["enabled"], False, "enabled")
    equal(sidecar.admin("/api/v1/alerts/high_latency", "DELETE")[2]["removed"], True, "switched on again")
    equal(alert(sidecar, "high_latency")["enabled"], True, "enabled")


def test_what_is_wrong(t):
    sidecar = t.sidecar(t.origin(), QUICK)
    good = {"metric_type": "ERROR_RATE", "condition": "> 0.5"}
    for body in ({}, {"metric_type": "ERROR_RATE"}, dict(good, metric_type="ERRORS"), dict(good, condition="about 3"), dict(good, severity="fatal"), dict(good, threshold=0.4),
                 dict(good, colour="red"), dict(good, message=["x"]), dict(good, cooldown_period=-1), dict(good, id="other"), dict(good, metric_type="CUSTOM_METRIC"),
                 dict(good, **{"m%d" % i: 1 for i in range(20)})):
        with t.case(repr(body)[:60]):
            status, _, told = sidecar.admin("/api/v1/alerts/one", "PUT", body)
            equal(status, 400, "status")
            check(told["error"], told)
    equal(sidecar.admin("/api/v1/alerts/a%20b", "PUT", good)[0], 400, "a bad name")
    equal(alert(sidecar, "one"), None, "an alert of a bad body")
    for path, method, body in (("none", "DELETE", None), ("none/silence", "POST", {"seconds": 1})):
        equal(sidecar.admin("/api/v1/alerts/" + path, method, body)[0], 404, path)
    for body in ({}, {"seconds": -1}, {"seconds": "1"}, {"seconds": 1e9}, {"seconds": 1, "x": 1}):
        equal(sidecar.admin("/api/v1/alerts/high_latency/silence", "POST", body)[0], 400, repr(body))
    for i in range(256):
        equal(sidecar.admin("/api/v1/alerts/many-%d" % i, "PUT", good)[0], 200, "status")
    equal(sidecar.admin("/api/v1/alerts/one-more", "PUT", good)[0], 409, "one more")


def test_switched_off(t):
    sidecar = t.sidecar(t.origin(), dict(QUICK, alerts=[rule(id="any", metric_type="MEMORY_USAGE", condition="> 0")]))
    wait_for(lambda: state(sidecar, "any") == "firing", "the alert")
    equal(sidecar.admin("/api/v1/config", "PATCH", {"performance.enable_alerting": False})[0], 200, "status")
    told = sidecar.admin("/api/v1/alerts")[2]
    equal((told["enabled"], told["alerts"]), (False, []), "alerts")
    wait_for(lambda: metric(sidecar, 'promptops_alerts_active{severity="error"}') == [0.0], "the gauge")
    equal(events(sidecar, "any"), ["raised", "resolved"], "events")


@slow(90)
def test_what_the_built_in_ones_measure(t):
    """Each metric beside the guide's, with a value that is known."""
    from test_43_tls import Authority
    certificate, key = Authority(t).issue("soon", "IP:127.0.0.1", days=5)

    def late(conn):
        while True:
            conn.request()
            time.sleep(0.2)                    # what the upstream takes
            conn.reply()

    def quota(conn):
        conn.request()
        conn.reply(fields=[("X-RateLimit-Limit-Hour", "100"), ("X-RateLimit-Remaining-Hour", "5"), ("X-RateLimit-Reset-Hour", "900")])

    def failing(conn):
        while True:
            conn.request()
            conn.reply(status=503)
    hammer = lambda sidecar, n, headers=(): [sidecar.request("/", fields=headers) for _ in range(n)]
    cases = [
        ("CERTIFICATE_DAYS", "< 14", lambda conn: None, {"listen.tls.certificate_file": certificate, "listen.tls.key_file": key}, None, (4, 5)),
        ("CERTIFICATE_DAYS", "< 14", lambda conn: None, {"upstream.tls.certificate_file": certificate, "upstream.tls.key_file": key, "upstream.url": "https://127.0.0.1:1"}, None, (4, 5)),
        ("QUOTA_REMAINING", "< 0.1", quota, {"rate_limit.enable_rate_limit_detection": True}, lambda s: hammer(s, 1, [("X-API-Key", "k")]), (0.03, 0.06)),
        ("RETRY_AMPLIFICATION", "> 1.5", failing, {"retry.max_attempts": 3, "retry.budget": 1, "retry.base_delay": "1ms", "retry.max_delay": "2ms", "retry.success_rate_threshold": 0},
         lambda s: hammer(s, 20), (1.5, 3.001)),
        ("POOL_STARVATION", "> 0.5", late, {"pool.max_size": 1, "pool.strategy": "fixed"}, "busy", (0.5, 1)),
    ]
    for metric_type, condition, script, config, act, (low, high) in cases:
        with t.case("%s %s" % (metric_type, ", ".join(config)[:20])):
            sidecar = t.sidecar(t.origin(script), dict(QUICK, alerts=[rule(id="it", metric_type=metric_type, condition=condition)], **config))
            over = threading.Event()
            clients = [threading.Thread(target=lambda: [sidecar.request("/") for _ in iter(lambda: over.is_set(), True)], daemon=True) for _ in range(4 if act == "busy" else 0)]
            for client in clients:
                client.start()
            if callable(act):
                act(sidecar)
            try:
                wait_for(lambda: state(sidecar, "it") == "firing", "the alert", timeout=30)
                near(alert(sidecar, "it")["value"], low, high, "value")
            finally:
                over.set()
                for client in clients:
                    client.join()
