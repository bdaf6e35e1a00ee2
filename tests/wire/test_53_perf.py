"""promptops-perf against a running sidecar (INTERFACE 5): exit codes, formats, a terminal, a benchmark that omits nothing."""
import http.client
import json
import os
import pty
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
