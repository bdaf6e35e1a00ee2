#!/usr/bin/python3
"""Makes promptops-sidecar.json, the dashboard for Grafana (10 or later): deploy/grafana/dashboard.py [--check]

A row of PANELS is (title, unit, what it says, [(query, legend), ...]). $job and $instance choose the sidecars.
"""
import json
import os
import sys

PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "promptops-sidecar.json")
S = '{job=~"$job",instance=~"$instance"}'


def rate(name, by="", labels=""):
    selector = S if not labels else S[:-1] + "," + labels + "}"
    return "sum%s (rate(%s%s[$__rate_interval]))" % (" by (%s)" % by if by else "", name, selector)


def quantile(q, name, by=""):
    return "histogram_quantile(%s, sum by (le%s) (rate(%s_bucket%s[$__rate_interval])))" % (q, "," + by if by else "", name, S)


HITS = "(%s + %s + %s)" % (rate("promptops_cache_hits_total"), rate("promptops_cache_stale_total"), rate("promptops_cache_coalesced_total"))
ROWS = [
    ("At a glance", [
        ("Requests", "reqps", "Finished requests a second.", [(rate("promptops_requests_total"), "requests")]),
        ("Failures", "percentunit", "Requests that failed for the application: 5xx, 429, or broken off.",
         [("%s / (%s > 0)" % (rate("promptops_request_failures_total"), rate("promptops_requests_total")), "failed")]),
        ("Answered from the cache", "percentunit", "Hits, stale answers and joined requests, of all that were looked up.",
         [("%s / (%s + %s > 0)" % (HITS, HITS, rate("promptops_cache_misses_total")), "from the cache")]),
        ("Alerts of the sidecars", "short", "What the sidecars' own alerts say.", [("sum by (severity) (promptops_alerts_active%s)" % S, "{{severity}}")]),
    ]),
    ("Requests", [
        ("Requests by operation", "reqps", "", [(rate("promptops_requests_total", "operation"), "{{operation}}")]),
        ("Requests by status", "reqps", "0: no answer was sent.", [(rate("promptops_requests_total", "code"), "{{code}}")]),
        ("Latency", "s", "From the first byte of the request to the last of the answer.",
         [(quantile(q, "promptops_request_duration_seconds"), "p%s" % p) for q, p in (("0.5", "50"), ("0.95", "95"), ("0.99", "99"))]),
        ("Requests under way", "short", "", [("sum by (instance) (promptops_active_requests%s)" % S, "{{instance}}")]),
    ]),
    ("The API", [
        ("Attempts by outcome", "reqps", "", [(rate("promptops_upstream_requests_total", "outcome"), "{{outcome}}")]),
        ("Latency of an attempt", "s", "", [(quantile(q, "promptops_upstream_duration_seconds"), "p%s" % p) for q, p in (("0.5", "50"), ("0.99", "99"))]),
        ("To connect, 95th percentile", "s", "", [(quantile("0.95", "promptops_upstream_connect_seconds", "phase"), "{{phase}}")]),
        ("Retries by reason", "reqps", "", [(rate("promptops_retries_total", "reason"), "{{reason}}")]),
        ("Circuits", "short", "0 closed, 1 half-open, 2 open: the worst of all sidecars.", [("max by (name) (promptops_circuit_state%s)" % S, "{{name}}")]),
        ("Refused by a limit", "reqps", "By the API's quota, an open circuit, the concurrency limit.",
         [(rate("promptops_rate_limit_refused_total"), "quota"), (rate("promptops_circuit_refused_total"), "circuit"), (rate("promptops_concurrency_shed_total"), "concurrency")]),
        ("Left of the rate limit", "short", "The least of all sidecars.", [("min by (window) (promptops_rate_limit_remaining%s)" % S, "{{window}}")]),
        ("Concurrency limit", "short", "", [("promptops_concurrency_limit" + S, "{{instance}}")]),
    ]),
    ("The cache", [
        ("By verdict", "reqps", "", [(rate("promptops_requests_total", "cache"), "{{cache}}")]),
        ("Entries", "short", "", [("sum by (tier) (promptops_cache_entries%s)" % S, "{{tier}}")]),
        ("Memory of entries", "bytes", "", [("sum by (tier) (promptops_cache_bytes%s)" % S, "{{tier}}")]),
        ("Made room and ended", "ops", "", [(rate("promptops_cache_evictions_total"), "evicted"), (rate("promptops_cache_expired_total"), "expired"), (rate("promptops_cache_purged_total"), "purged")]),
        ("Calls saved", "reqps", "", [(rate("promptops_cache_saved_requests_total"), "saved")]),
        ("Shared level in Redis", "ops", "", [(rate("promptops_shared_cache_looks_total", "result"), "{{result}}")]),
    ]),
    ("Connections", [
        ("Upstream connections", "short", "", [("sum by (state) (promptops_pool_connections%s)" % S, "{{state}}")]),
        ("Waiting for a connection", "s", "", [(quantile("0.99", "promptops_pool_wait_seconds"), "p99")]),
        ("Client connections", "short", "", [("sum by (instance) (promptops_client_connections%s)" % S, "{{instance}}")]),
        ("Refused and failed", "ops", "", [(rate("promptops_client_refused_total"), "clients refused"), (rate("promptops_pool_connect_failures_total"), "connects failed"),
                                           (rate("promptops_pool_timeouts_total"), "waited in vain")]),
    ]),
    ("The process", [
        ("Processor", "percentunit", "Of one processor.", [("rate(process_cpu_seconds_total%s[$__rate_interval])" % S, "{{instance}}")]),
        ("Memory", "bytes", "", [("process_resident_memory_bytes" + S, "{{instance}}")]),
        ("Files", "short", "", [("process_open_fds" + S, "{{instance}}")]),
        ("What should be zero", "ops", "Reloads that were refused, log lines dropped, system calls denied, key refused by the API.",
         [(rate("promptops_config_reloads_total", labels='result="failure"'), "reloads refused"), (rate("promptops_log_dropped_total"), "log lines dropped"),
          (rate("promptops_denied_calls_total"), "system calls denied"), (rate("promptops_auth_refused_total"), "key refused")]),
    ]),
]


def panel(number, title, unit, text, queries, x, y):
    return {"id": number, "type": "timeseries", "title": title, "description": text, "datasource": {"type": "prometheus", "uid": "${datasource}"},
            "gridPos": {"x": x, "y": y, "w": 6, "h": 7}, "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
            "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
            "targets": [{"refId": chr(65 + i), "expr": expr, "legendFormat": legend} for i, (expr, legend) in enumerate(queries)]}


def variable(name, query):
    return {"name": name, "type": "query", "datasource": {"type": "prometheus", "uid": "${datasource}"}, "query": query, "refresh": 2,
            "multi": True, "includeAll": True, "current": {"text": "All", "value": "$__all"}}


def dashboard():
    panels, y, number = [], 0, 1
    for title, row in ROWS:
        panels.append({"id": number, "type": "row", "title": title, "collapsed": False, "gridPos": {"x": 0, "y": y, "w": 24, "h": 1}, "panels": []})
        number, y = number + 1, y + 1
        for i, (name, unit, text, queries) in enumerate(row):
            panels.append(panel(number, name, unit, text, queries, i % 4 * 6, y + i // 4 * 7))
            number += 1
        y += (len(row) + 3) // 4 * 7
    return {"uid": "promptops-sidecar", "title": "promptops-sidecar", "tags": ["promptops"], "schemaVersion": 39, "version": 1, "editable": True,
            "refresh": "30s", "time": {"from": "now-1h", "to": "now"}, "timezone": "browser",
            "templating": {"list": [{"name": "datasource", "type": "datasource", "query": "prometheus", "current": {}},
                                    variable("job", "label_values(promptops_build_info, job)"), variable("instance", 'label_values(promptops_build_info{job=~"$job"}, instance)')]},
            "panels": panels}


def main():
    text = json.dumps(dashboard(), indent=1) + "\n"
    if "--check" not in sys.argv:
        with open(PATH, "w") as out:
            out.write(text)
        return 0
    with open(PATH) as there:
        if there.read() == text:
            return 0
    print("%s is not what dashboard.py makes; run it" % PATH, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
