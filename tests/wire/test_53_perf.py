"""promptops-perf against a running sidecar (INTERFACE 5): exit codes, formats, a terminal, a benchmark that omits nothing."""
import http.client
import json
import os
import pty
import socket
import subprocess
import time

from harness import *
from lib.sidecar import BINARY
from lib.websocket import WebSocket

PERF = os.path.join(os.path.dirname(BINARY), "promptops-perf")


def perf(sidecar, *words):
    run = subprocess.run([PERF, "--admin", "%s:%d" % sidecar.admin_address, *words], capture_output=True, text=True, timeout=PATIENCE)
    return run.returncode, run.stdout, run.stderr


def test_configuration_by_the_command_line(t):
    sidecar = t.sidecar(t.origin())
    code, out, _ = perf(sidecar, "config", "--set", "retry.budget=0.25", "--format", "json")
    equal((code, json.loads(out)[0]["to"]), (0, 0.25), "the change")
    equal(perf(sidecar, "config", "--get", "retry.budget")[:2], (0, "0.25\n"), "the value")
    equal(perf(sidecar, "config", "--set", "workers=3")[0], 1, "a key that needs a restart")
    equal(perf(sidecar, "config", "--unset", "retry.budget")[0], 0, "taken back")
    equal(perf(sidecar, "config", "--get", "retry.budget")[1], "0.1\n", "the value before")
    equal(perf(sidecar, "config", "--check", sidecar.config_path)[0], 0, "a good file")
    bad = os.path.join(t.directory, "bad.yaml")
    with open(bad, "w") as out:
        out.write("retry: {max_atempts: 3}\n")
    code, told, errors = perf(sidecar, "config", "--check", bad)
    equal(code, 2, "exit code of a bad file")
    check("max_attempts" in told + errors, told + errors)


def test_the_open_loop_counts_the_wait(t):
    """One slow connection, 20 requests due each 10 ms: those that had to wait show it."""
    origin = t.origin()
    origin.on["/slow"] = lambda conn, request: (time.sleep(0.05), conn.reply())[1]  # the pace of a slow API
    sidecar = t.sidecar(origin)
    url = "http://%s/slow" % sidecar.host_port
    words = ["benchmark", "--url", url, "--concurrent", "1", "--iterations", "20", "--format", "json"]
    code, out, _ = perf(sidecar, *words, "--rate", "100")
    told = json.loads(out)
    equal((code, told["requests"], told["statuses"]), (0, 20, {"2xx": 20}), "the run")
    worst = told["percentiles"][-1]["latency_ms"]
    check(worst >= 700, "the last was due at 190 ms and answered at 1000 ms, yet counts %s ms" % worst)
    told = json.loads(perf(sidecar, *words)[1])
    check(told["percentiles"][1]["latency_ms"] < worst / 2, "a closed loop does not see it: %s" % told["percentiles"])
    equal(perf(sidecar, *words, "--max-p99", "1")[0], 1, "a threshold that is crossed")
    equal(perf(sidecar, "benchmark", "--url", "http://127.0.0.1:1/", "--iterations", "2")[0], 1, "nobody there")


def test_a_benchmark_asks_where_the_sidecar_listens(t):
    """It went to port 8080, whatever listened there, when no --url was given."""
    path = os.path.join(t.directory, "sidecar.sock")
    ports = []
    for _ in range(2):
        with socket.create_server(("127.0.0.1", 0)) as spare:
            ports.append(spare.getsockname()[1])
    for address, url in (("127.0.0.1:%d" % ports[0], "http://127.0.0.1:%d" % ports[0]), ("0.0.0.0:%d" % ports[1], "http://localhost:%d" % ports[1]), ("unix:" + path, "http://localhost")):
        with t.case(address):
            sidecar = t.sidecar(t.origin(), {"listen.address": address})
            code, out, errors = perf(sidecar, "benchmark", "--iterations", "3", "--format", "json")
            told = json.loads(out)
            equal((code, told["url"], told["statuses"]), (0, url, {"2xx": 3}), "the run: " + errors)
    with t.case("another machine's"):  # what listens there at 127.0.0.1 is not what listens here
        done = subprocess.run([PERF, "--admin", "http://192.0.2.1:9901", "benchmark", "--iterations", "1"], capture_output=True, text=True, timeout=PATIENCE)
        check(done.returncode == 1 and "192.0.2.1" in done.stderr and "--url" in done.stderr, done.stderr)
    with t.case("a port that the kernel chose"):
        code, out, errors = perf(t.sidecar(t.origin()), "benchmark", "--iterations", "1")
        check(code == 1 and "--url" in errors, errors)


def test_monitor_redraws_on_a_terminal_only(t):
    sidecar = t.sidecar(t.origin())
    words = [PERF, "--admin", "%s:%d" % sidecar.admin_address, "monitor", "--interval", "0.1", "--duration", "0.3"]
    plain = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE)
    equal(plain.returncode, 0, "exit code")
    check("\033" not in plain.stdout and len(plain.stdout.splitlines()) >= 3, plain.stdout)
    main, side = pty.openpty()
    process = subprocess.Popen(words, stdout=side, stderr=subprocess.DEVNULL)
    os.close(side)
    seen = b""
    while True:
        try:
            data = os.read(main, 65536)
        except OSError:
            break
        if not data:
            break
        seen += data
    os.close(main)
    equal(process.wait(PATIENCE), 0, "exit code on a terminal")
    check(b"\033[11A" in seen and seen.endswith(b"\033[?25h") and "▁".encode() in seen, seen[-200:])


def test_what_is_not_there_is_told_plainly(t):
    sidecar = t.sidecar(t.origin())
    code, out, errors = perf(sidecar, "monitor", "--port", "1")
    equal((code, out), (2, ""), "monitor --port without --web")
    check("--web" in errors, errors)
    equal(perf(sidecar, "nonsense")[0], 2, "usage")
    equal(perf(sidecar, "cache", "entries")[0], 0, "cache entries")


def test_every_command_and_flag(t):
    """What the manual names is understood, and works on a live sidecar."""
    sidecar = t.sidecar(t.origin(), {"cache.enabled": True, "preset": "promptops"})
    for i in range(30):
        equal(sidecar.request("/v1/client/prompts/p%d" % (i % 5)).status, 200, "status")
    url, out = "http://%s/" % sidecar.host_port, os.path.join(t.directory, "out.csv")
    for line in ("summary", "summary --window 30", "summary --format json", "summary --format csv", "summary --no-color", "monitor --duration 1 --interval 1", "export --format json",
                 "export --format csv --output " + out, "export --format json --metric-type REQUEST_LATENCY --start-time -30m --end-time -0m",
                 "export --format csv --metric-type THROUGHPUT --start-time 2024-01-01T00:00:00", "optimize", "optimize --cache", "optimize --retry", "optimize --pool", "optimize --auto-apply",
                 "benchmark --duration 1 --concurrent 2 --rate 50 --url " + url, "benchmark --iterations 20 --prompt-id p1 --url " + url,
                 "benchmark --iterations 10 --header X:1 --max-p99 60000 --max-errors 1 --url " + url, "analyze", "analyze --recommendations", "analyze --issues", "analyze --trends", "analyze --requests",
                 "config --show", "config --get cache.max_size", "config --set server_timing=true", "config --unset server_timing", "config --check " + sidecar.config_path, "cache stats", "cache entries",
                 "cache entries --sort bytes --limit 3", "cache purge --key /v1/client/prompts/p1", "cache purge --prefix /v1/", "cache purge --tag prompt:p1", "cache purge --all", "alerts", "alerts history",
                 "alerts --state firing", "debug", "completion bash", "completion zsh", "completion fish", "manual", "--help", "summary --help"):
        with t.case(line):
            code, told, errors = perf(sidecar, *line.split())
            equal(code, 0, "exit code: " + errors)
            check(told or "--output" in line, "nothing was told")
    check(open(out).read().startswith("time,"), "the exported file")


def test_every_wrong_usage_names_the_remedy(t):
    sidecar = t.sidecar(t.origin(), {"cache.enabled": True})
    usage = ("", "nope", "summary --window x", "summary --window -5", "summary --window", "summary --nope", "summary more", "export --format xml", "export --start-time yesterday --format json", "optimize more",
             "benchmark --rate x", "benchmark --duration 0", "benchmark --concurrent 0", "benchmark --iterations -1", "benchmark --url ftp://x", "benchmark --url nonsense", "benchmark --max-p99 x", "config",
             "config --check", "config --set cache.max_size", "config --show --get x", "cache", "cache nope", "cache purge", "cache purge --key a --all", "monitor --interval 0",
             "monitor --duration x", "monitor --port 80", "monitor --web --port 99999", "completion tcsh", "completion", "analyze more", "--format", "alerts silence", "debug --seconds x")
    refused = ("export --format json --metric-type NOPE", "export --format json --start-time -10m --end-time -20m --metric-type THROUGHPUT", "config --get nope", "config --set nope=1",
               "config --set cache.max_size=x", "cache entries --sort nope", "cache entries --limit x", "analyze --request nope")
    for code, lines in ((2, usage), (1, refused)):
        for line in lines:
            with t.case(line or "nothing"):
                got, told, errors = perf(sidecar, *line.split())
                equal((got, told), (code, ""), "exit code and output; it said " + errors)
                check(errors.startswith("promptops-perf: ") and len(errors) > 30, errors)
    equal(perf(sidecar, "config", "--check", "/nonexistent")[0], 2, "a file that is not there")
    for words in (("--admin", "http://127.0.0.1:1", "summary"), ("--token-file", "/nonexistent", "summary")):
        check(perf(sidecar, *words)[0] in (1, 2), words)


def test_monitor_by_a_browser(t):
    """--web serves the admin port on another, with the token added, for this page only."""
    token = os.path.join(t.directory, "token")
    with open(token, "w") as out:
        out.write("secret-one\n")
    sidecar = t.sidecar(t.origin(), {"admin.token_file": token})
    words = [PERF, "--admin", "http://%s:%d/" % sidecar.admin_address, "--token-file", token, "monitor", "--web", "--port", "0"]
    run = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        port = int(run.stdout.readline().rsplit(":", 1)[1].strip("/\n"))

        def ask(path, method="GET", body=None, **fields):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
            connection.request(method, path, json.dumps(body) if body else None, {k.replace("_", "-"): v for k, v in fields.items()})
            response = connection.getresponse()
            told = response.read().decode()
            connection.close()
            return response.status, told
        own = "http://127.0.0.1:%d" % port
        equal(ask("/api/v1/summary")[0], 200, "with the token added")
        equal(json.loads(ask("/api/v1/session")[1])["authenticated"], True, "session")
        equal(ask("/api/v1/config", "PATCH", {"server_timing": True}, Origin=own)[0], 200, "a change by its own page")
        equal(ask("/api/v1/config", "PATCH", {"server_timing": True}, Origin="http://evil.example")[0], 403, "by another page")
        equal(ask("/api/v1/summary", Sec_Fetch_Site="cross-site")[0], 403, "a read by another page")
        equal(ask("/api/v1/summary", Host="evil.example:%d" % port)[0], 403, "under another name")
        check(len(ask("/api/v1/openapi.json")[1]) > 20000, "a long answer")
        with WebSocket(("127.0.0.1", port), "/api/v1/stream?interval=1s", {"Origin": own}) as ws:
            equal(ws.message()["type"], "snapshot", "first")
            equal(ws.message()["type"], "update", "second")
        sidecar.stop()
        equal(ask("/api/v1/summary")[0], 502, "without a sidecar")
    finally:
        run.terminate()
        equal(run.wait(PATIENCE), 0, "exit code")
    equal(subprocess.run(words[:-1] + ["x"], capture_output=True).returncode, 2, "a bad port")
