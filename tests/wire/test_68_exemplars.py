"""Exemplars: the OpenMetrics answer leads from a bucket to the trace of a request that lies in it; a real Prometheus keeps them."""
import json
import re
import shutil
import socket
import subprocess
import tempfile
import urllib.parse
import urllib.request

from harness import *

OPEN = {"Accept": "application/openmetrics-text; version=1.0.0; charset=utf-8"}
LINE = re.compile(r'^(\w+_bucket)\{(.*)le="([^"]+)"\} (\d+) # \{trace_id="([0-9a-f]{32})"(?:,span_id="([0-9a-f]{16})")?\} (\S+) (\d+\.\d{3})$')


def traceparent(n, flags="01"):
    return ("traceparent", "00-%032x-%016x-%s" % (n, n, flags))


def exemplars(sidecar):
    text = sidecar.admin("/metrics", fields=OPEN)[2]
    text = text if isinstance(text, str) else text.decode()
    check(text.endswith("# EOF\n"), "the end mark")
    rows = [line for line in text.splitlines() if " # {" in line]
    return [(LINE.match(row) or check(False, row)).groups() for row in rows]


def test_traces_that_are_recorded_are_shown(t):
    sidecar = t.sidecar(t.origin())
    began = time.time()
    sidecar.request("/", fields=[traceparent(1)])
    sidecar.request("/", fields=[traceparent(2, "00")])          # nobody records it
    sidecar.request("/")
    rows = wait_for(lambda: exemplars(sidecar), "an exemplar")
    equal([(row[0], row[4], row[5]) for row in rows], [("promptops_request_duration_seconds_bucket", "%032x" % 1, None)], "exemplars")
    name, labels, bound, count, trace, span, value, when = rows[0]
    check(0 < float(value) <= float(bound) and int(count) >= 1, rows[0])
    near(float(when), began - 1, time.time() + 1, "its time")
    for accept in (None, "text/plain"):
        plain = sidecar.admin("/metrics", fields={"Accept": accept} if accept else None)[2]
        check("trace_id" not in (plain if isinstance(plain, str) else plain.decode()), "exemplars where they are not understood")


def test_they_are_bounded(t):
    sidecar = t.sidecar(t.origin())
    with sidecar.client() as client:
        for n in range(300):
            client.request("/", fields=[traceparent(n + 1)])
    rows = exemplars(sidecar)
    check(0 < len(rows) <= 20, "%d exemplars" % len(rows))
    equal(len({(row[1], row[2]) for row in rows}), len(rows), "one a bucket")


def test_a_real_prometheus_keeps_them(t):
    if not shutil.which("prometheus"):
        raise Skip("there is no prometheus here")
    sidecar = t.sidecar(t.origin())
    place = tempfile.mkdtemp()
    t.at_end(shutil.rmtree, place)
    with open(place + "/p.yml", "w") as out:
        json.dump({"scrape_configs": [{"job_name": "sidecar", "scrape_interval": "1s", "scrape_timeout": "1s", "static_configs": [{"targets": ["%s:%d" % sidecar.admin_address]}]}]}, out)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    prometheus = subprocess.Popen(["prometheus", "--config.file=%s/p.yml" % place, "--storage.tsdb.path=%s/data" % place, "--web.listen-address=127.0.0.1:%d" % port,
                                   "--enable-feature=exemplar-storage"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    t.at_end(lambda: (prometheus.kill(), prometheus.wait()))

    def ask(path):
        try:
            with urllib.request.urlopen("http://127.0.0.1:%d%s" % (port, path), timeout=5) as answer:
                return json.load(answer)["data"]
        except (OSError, ValueError):
            return None

    def kept():
        sidecar.request("/", fields=[traceparent(0xabc)])
        query = urllib.parse.urlencode({"query": "promptops_request_duration_seconds_bucket", "start": time.time() - 600, "end": time.time() + 60})
        return [e["labels"]["trace_id"] for one in ask("/api/v1/query_exemplars?" + query) or [] for e in one["exemplars"]]
    wait_for(lambda: kept(), "an exemplar in Prometheus", timeout=50)
    equal(set(kept()), {"%032x" % 0xabc}, "its trace")
    equal([one["health"] for one in ask("/api/v1/targets")["activeTargets"]], ["up"], "the target")
    prometheus.kill()                          # and its connection goes with it
    prometheus.wait()
