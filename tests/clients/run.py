#!/usr/bin/python3
"""Real clients through the sidecar, as an application would use them: curl, and Python's urllib, requests, httpx and aiohttp,
Node's fetch, and from npm undici, axios, openai, and a collector for what the sidecar tells OpenTelemetry.

    tests/clients/run.py        programs from $BUILD (build)

JSON, a large upload, a streamed answer event by event, and a WebSocket. Prints `N passed, N failed`.
"""
import asyncio
import hashlib
import hmac
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.request
import uuid

BUILD = os.environ.get("BUILD", "build")
KEY = "po_demoDemo0000000000000001"
SECRET = "demo-secret-key-of-the-stand-in"
AUTH = {"Authorization": "Bearer " + KEY}
UPLOAD = os.urandom(8 << 20)
DIGEST = hashlib.sha256(UPLOAD).hexdigest()
PROMPT = "/v1/client/prompts/prompt-1"


class Programs:
    """The stand-in API and the sidecar in front of it, on free ports."""

    def __init__(self, *flags):
        self.flags = flags

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory()
        self.origin = subprocess.Popen([BUILD + "/promptops-origin", "--listen", "127.0.0.1:0", "--no-limits"], stdout=subprocess.PIPE, text=True)
        upstream = self.origin.stdout.readline().rsplit(" ", 1)[1].strip()
        self.upstream = "http://" + upstream
        self.sidecar = subprocess.Popen([BUILD + "/promptops-sidecar", "--upstream", "http://" + upstream, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", *self.flags],
                                        stderr=subprocess.PIPE, text=True)
        self.url = self.admin = None
        while not (self.url and self.admin):
            line = self.sidecar.stderr.readline()
            if not line:
                raise RuntimeError("the sidecar ended")
            event = json.loads(line)
            if event.get("event") == "listening":
                self.url = "http://" + event["address"]
            elif event.get("event") == "admin_listening":
                self.admin = "http://" + event["address"]
        # The log is read on, so that the pipe never fills.
        self.log = subprocess.Popen(["cat"], stdin=self.sidecar.stderr, stdout=subprocess.DEVNULL)
        return self

    def metric(self, name):
        """The value of the series with exactly this name and labels."""
        with urllib.request.urlopen(self.admin + "/metrics", timeout=30) as r:
            return next(float(line.rsplit(b" ", 1)[1]) for line in r if line.startswith(name.encode() + b" "))

    def settled(self, name, wanted):
        """Waits until the series has this value."""
        end = time.monotonic() + 20
        while self.metric(name) != wanted:
            if time.monotonic() > end:
                raise AssertionError("%s is %g, not %g" % (name, self.metric(name), wanted))
            time.sleep(0.02)

    def __exit__(self, *_):
        for process in (self.sidecar, self.origin):
            process.terminate() if process is self.origin else process.send_signal(2)
            process.wait(timeout=20)
        self.log.wait(timeout=20)
        self.folder.cleanup()


def same(got, wanted, what):
    if got != wanted:
        raise AssertionError("%s: got %r, wanted %r" % (what, got, wanted))


def check_prompt(body):
    prompt = json.loads(body)
    if "prompt-1" not in json.dumps(prompt):
        raise AssertionError("not the prompt: %r" % prompt)


def curl(p, *args):
    return subprocess.run(["curl", "-sS", "-m", "30", "-f", *args], check=True, capture_output=True).stdout


def test_curl_json(p):
    check_prompt(curl(p, "-H", "Authorization: " + AUTH["Authorization"], p.url + PROMPT))


def test_curl_upload(p):
    path = os.path.join(p.folder.name, "upload")
    with open(path, "wb") as f:
        f.write(UPLOAD)
    for extra in ([], ["-H", "Transfer-Encoding: chunked"], ["-H", "Expect: 100-continue"]):
        same(json.loads(curl(p, *extra, "--data-binary", "@" + path, p.url + "/upload"))["sha256"], DIGEST, "digest %r" % extra)


def test_curl_head_and_range(p):
    out = curl(p, "-I", p.url + "/bytes/1234").decode().lower()
    if "content-length: 1234" not in out:
        raise AssertionError(out)
    same(len(curl(p, p.url + "/chunked/100000/777")), 100000, "chunked answer")


def test_curl_stream(p):
    out = curl(p, "-N", p.url + "/sse/5/50").decode()
    same(out.count("data:"), 5, "events")


def test_curl_of_other_versions_and_methods(p):
    """What curl asks for beside plain HTTP/1.1: each is answered, and the upstream is asked in HTTP/1.1."""
    for extra in (["--http1.0"], ["--http2"], ["--compressed"], ["-0", "-H", "Connection: keep-alive"], ["--tr-encoding"]):
        asked = json.loads(curl(p, *extra, p.url + "/echo"))
        same((asked["target"], asked["minor"]), ("/echo", 1), "request of curl %s" % extra)
        dropped = {"upgrade", "http2-settings", "connection"} & {name.lower() for name, _ in asked["headers"]}
        same(dropped, set(), "fields for one hop, curl %s" % extra)
    path = os.path.join(p.folder.name, "put")
    with open(path, "wb") as f:
        f.write(UPLOAD)
    same(json.loads(curl(p, "-T", path, "-X", "POST", p.url + "/upload"))["sha256"], DIGEST, "digest of -T")
    with open(path, "rb") as f:     # of unknown length: in chunks
        out = subprocess.run(["curl", "-sS", "-m", "30", "-f", "-T", "-", "-X", "POST", p.url + "/upload"], stdin=f, check=True, capture_output=True).stdout
    same(json.loads(out)["sha256"], DIGEST, "digest of -T -")


def test_connections_are_kept(p):
    """Many requests of one client come on one connection, whatever is between them."""
    import httpx
    import requests
    before = p.metric("promptops_client_accepted_total")
    curl(p, *[p.url + path for path in ("/echo", "/bytes/100000", "/chunked/5000/7", "/echo") for _ in range(3)])
    session, client = requests.Session(), httpx.Client(timeout=30)
    for method, path in [("GET", "/echo"), ("HEAD", "/bytes/5000"), ("POST", "/upload"), ("GET", "/status/204"), ("GET", "/status/304"), ("GET", "/status/404"), ("GET", "/chunked/5000/7")] * 3:
        session.request(method, p.url + path, data=b"x" * 1000 if method == "POST" else None, timeout=30)
        client.request(method, p.url + path, content=b"x" * 1000 if method == "POST" else None)
    same(p.metric("promptops_client_accepted_total") - before, 3, "connections of three clients")
    session.close()
    client.close()


def test_as_a_forward_proxy(p):
    """Clients that are told of a proxy send the whole URL: whatever its host, the request goes to the API and to nobody else."""
    import aiohttp
    import httpx
    import requests
    target = "http://api.example.test/echo?a=b"

    async def by_aiohttp():
        async with aiohttp.ClientSession() as session, session.get(target, proxy=p.url) as r:
            return await r.text()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({"http": p.url}))
    answers = {
        "curl": lambda: curl(p, "-x", p.url, target),
        "urllib": lambda: opener.open(target, timeout=30).read(),
        "requests": lambda: requests.get(target, proxies={"http": p.url}, timeout=30).text,
        "httpx": lambda: httpx.get(target, proxies=p.url, timeout=30).text,
        "aiohttp": lambda: asyncio.run(by_aiohttp()),
    }
    for name, ask in answers.items():
        asked = json.loads(ask())
        same((asked["method"], [v for n, v in asked["headers"] if n == "Host"]), ("GET", [p.upstream[len("http://"):]]), "request of " + name)
        same({n for n, _ in asked["headers"] if n.lower().startswith("proxy-")}, set(), "fields for the proxy, " + name)
    tunnel = subprocess.run(["curl", "-sS", "-m", "30", "-x", p.url, "-p", "-w", "%{http_connect}", target], capture_output=True, text=True)
    same((tunnel.stdout, tunnel.returncode != 0), ("405", True), "answer to CONNECT")


def test_downloads_that_are_given_up(p):
    """The client goes away in the middle of a large answer: its upstream request ends, and nothing is left behind."""
    import aiohttp
    import httpx
    import requests
    url = p.url + "/bytes/10000000000"

    def by_curl():
        with subprocess.Popen(["curl", "-sS", "-m", "30", url], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            process.stdout.read(100000)
            process.kill()

    def by_requests():
        with requests.get(url, stream=True, timeout=30) as r:
            next(r.iter_content(100000))

    def by_httpx():
        with httpx.stream("GET", url, timeout=30) as r:
            next(r.iter_bytes())

    async def by_aiohttp():
        async with aiohttp.ClientSession() as session:
            r = await session.get(url)
            await r.content.readexactly(100000)
            r.close()

    async def cancelled():
        async with aiohttp.ClientSession() as session:
            try:
                await session.get(p.url + "/delay/60000", timeout=aiohttp.ClientTimeout(total=0.2))
            except asyncio.TimeoutError:
                return
            raise AssertionError("it was answered")
    for leave in (by_curl, by_requests, by_httpx, lambda: asyncio.run(by_aiohttp()), lambda: asyncio.run(cancelled())):
        leave()
        p.settled("promptops_active_requests", 0)
        p.settled('promptops_pool_connections{state="active"}', 0)
        check_prompt(curl(p, "-H", "Authorization: " + AUTH["Authorization"], p.url + PROMPT))


def test_urllib(p):
    with urllib.request.urlopen(urllib.request.Request(p.url + PROMPT, headers=AUTH), timeout=30) as r:
        check_prompt(r.read())
    with urllib.request.urlopen(urllib.request.Request(p.url + "/upload", data=UPLOAD), timeout=30) as r:
        same(json.load(r)["sha256"], DIGEST, "digest")


def test_requests(p):
    import requests
    session = requests.Session()
    for _ in range(5):
        r = session.get(p.url + PROMPT, headers=AUTH, timeout=30)
        same(r.status_code, 200, "status")
    same("hit" in r.headers["Cache-Status"], True, "a hit")
    same(session.post(p.url + "/upload", data=UPLOAD, timeout=30).json()["sha256"], DIGEST, "digest")
    same(session.post(p.url + "/upload", data=(UPLOAD[i:i + 65536] for i in range(0, len(UPLOAD), 65536)), timeout=30).json()["sha256"], DIGEST, "chunked digest")
    with session.get(p.url + "/sse/5/100", stream=True, timeout=30) as r:
        times = [time.monotonic() for line in r.iter_lines() if line.startswith(b"data:")]
    same(len(times), 5, "events")
    same(times[-1] - times[0] > 0.2, True, "events came one by one")


def test_httpx(p):
    import httpx
    with httpx.Client(base_url=p.url, timeout=30) as client:
        check_prompt(client.get(PROMPT, headers=AUTH).content)
        same(client.post("/upload", content=UPLOAD).json()["sha256"], DIGEST, "digest")
        with client.stream("GET", "/sse/3/20") as r:
            same(sum(line.startswith("data:") for line in r.iter_lines()), 3, "events")

    async def run():
        async def parts():
            for at in range(0, len(UPLOAD), 65536):
                yield UPLOAD[at:at + 65536]
        async with httpx.AsyncClient(base_url=p.url, timeout=30) as client:
            answers = await asyncio.gather(*[client.get(PROMPT, headers=AUTH) for _ in range(20)])
            same({a.status_code for a in answers}, {200}, "statuses")
            same((await client.post("/upload", content=parts())).json()["sha256"], DIGEST, "digest of chunks")
    asyncio.run(run())


def test_aiohttp(p):
    import aiohttp

    async def run():
        async with aiohttp.ClientSession(p.url) as session:
            answers = await asyncio.gather(*[session.get(PROMPT, headers=AUTH) for _ in range(40)])
            same({a.status for a in answers}, {200}, "statuses")
            check_prompt(await answers[0].read())
            for a in answers:
                a.release()
            async with session.post("/upload", data=UPLOAD) as r:
                same((await r.json(content_type=None))["sha256"], DIGEST, "digest")
            async def parts():
                for at in range(0, len(UPLOAD), 65536):
                    yield UPLOAD[at:at + 65536]
            async with session.post("/upload", data=parts()) as r:
                same((await r.json(content_type=None))["sha256"], DIGEST, "digest of chunks")
            async with session.get("/sse/5/60") as r:
                times = [time.monotonic() async for line in r.content if line.startswith(b"data:")]
            same((len(times), times[-1] - times[0] > 0.12), (5, True), "events, one by one")
            async with session.ws_connect("/ws") as ws:
                for text in ("one", "two" * 10000):
                    await ws.send_str(text)
                    same((await ws.receive(timeout=20)).data, text, "echo")
    asyncio.run(run())


def control(p, body=None):
    """What the stand-in has counted; with a body, its settings are changed."""
    ask = urllib.request.Request(p.upstream + "/__control", data=body and json.dumps(body).encode())
    with urllib.request.urlopen(ask, timeout=30) as r:
        return json.load(r)


def signed_by_python(method, target, body=b""):
    """A request's fields as the PromptOps Python client signs it: time, nonce and, with the key, a signature of them all."""
    stamp, nonce = str(int(time.time())), uuid.uuid4().hex
    message = ":".join([method, target, stamp, nonce] + ([hashlib.sha256(body).hexdigest()] if body else []))
    return {"Authorization": "PromptOps " + KEY, "X-PromptOps-Timestamp": stamp, "X-PromptOps-Nonce": nonce,
            "X-PromptOps-Signature": hmac.new(KEY.encode(), message.encode(), hashlib.sha256).hexdigest()}


def test_requests_that_sign_themselves(p):
    import requests
    session, before = requests.Session(), control(p)["received"]
    batch = json.dumps({"prompt_ids": ["prompt-3"]}).encode()
    for number in range(5):
        r = session.get(p.url + "/v1/client/prompts/prompt-3", headers=signed_by_python("GET", "/v1/client/prompts/prompt-3"), timeout=30)
        same((r.status_code, "hit" in r.headers["Cache-Status"]), (200, number > 0), "status, hit")
        path = "/v1/client/prompts/batch"
        same(session.post(p.url + path, data=batch, headers={**signed_by_python("POST", path, batch), "Content-Type": "application/json"}, timeout=30).status_code, 200, "batch")
    after = control(p)["received"]
    same((after["unauthorized"] - before["unauthorized"], after["replays"] - before["replays"]), (0, 0), "refusals")


def test_clients_without_a_key(_):
    """The sidecar holds it: curl, urllib and requests say nothing, in each scheme; the stand-in checks every signature."""
    import requests
    for scheme in ("bearer", "signed", "promptops"):
        with tempfile.TemporaryDirectory() as folder:
            files = {}
            for name, value in (("key", KEY), ("secret", SECRET)):
                files[name] = os.path.join(folder, name)
                with open(files[name], "w") as f:
                    f.write(value + "\n")
            flags = ["--set", "auth.scheme=" + scheme, "--set", "auth.api_key_file=" + files["key"]]
            flags += ["--set", "auth.secret_key_file=" + files["secret"]] if scheme == "signed" else []
            with Programs(*flags) as p:
                control(p, {"auth": {"required": True, "signature_required": scheme == "signed"}})
                check_prompt(curl(p, p.url + PROMPT))
                with urllib.request.urlopen(p.url + PROMPT + "?project_id=project-1", timeout=30) as r:
                    check_prompt(r.read())
                batch = json.dumps({"prompt_ids": ["prompt-1"]}).encode()
                for data in (batch, (batch[i:i + 5] for i in range(0, len(batch), 5))):  # with a length, and chunked
                    r = requests.post(p.url + "/v1/client/prompts/batch", data=data, headers={"Content-Type": "application/json"}, timeout=30)
                    same((r.status_code, r.json()["total_found"]), (200, 1), scheme)
                curl(p, "-H", "Expect: 100-continue", "-H", "Content-Type: application/json", "--data-binary", batch.decode(), p.url + "/v1/client/prompts/batch")
                large = requests.post(p.url + "/upload", data=UPLOAD, timeout=30)
                same(large.status_code, 413 if scheme == "promptops" else 200, "a body of 8 MiB, " + scheme)
                same(control(p)["received"]["unauthorized"], 0, "refusals, " + scheme)


def node(p, script):
    subprocess.run(["node", "--input-type=module", "-e", script], check=True, timeout=60, env={**os.environ, "URL_OF_SIDECAR": p.url, "KEY": KEY})


def test_node_fetch(p):
    node(p, """
        const url = process.env.URL_OF_SIDECAR, headers = { Authorization: 'Bearer ' + process.env.KEY };
        const answers = await Promise.all(Array.from({ length: 20 }, () => fetch(url + '/v1/client/prompts/prompt-2', { headers })));
        if (!answers.every((a) => a.status === 200)) throw new Error('status');
        const body = Buffer.alloc(4 << 20, 'x');
        const up = await (await fetch(url + '/upload', { method: 'POST', body })).json();
        if (up.length !== body.length) throw new Error('upload ' + JSON.stringify(up));
        const stream = await fetch(url + '/sse/3/30'); let text = '';
        for await (const part of stream.body) text += Buffer.from(part).toString();
        if (text.split('data:').length !== 4) throw new Error('events ' + text);
    """)


class Skipped(Exception):
    """The test cannot run here; says why."""


def run_node(name):
    """NAME/test.mjs with the packages that its lock file names, which npm brings when they are not there."""
    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), name)
    if not os.path.isdir(os.path.join(folder, "node_modules")):
        try:
            installed = subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=folder, capture_output=True, text=True, timeout=120)
        except (FileNotFoundError, subprocess.TimeoutExpired) as error:
            raise Skipped("npm ci: %s" % error)
        if installed.returncode:
            raise Skipped("npm ci: %s" % installed.stderr.strip()[-200:])
    done = subprocess.run(["node", os.path.join(folder, "test.mjs")], capture_output=True, text=True, timeout=300, env={**os.environ, "BUILD": os.path.abspath(BUILD)})
    if done.returncode:
        raise AssertionError(done.stdout + done.stderr)


def test_node_packages(_):
    """undici, axios and openai from npm, with an upstream of their own."""
    run_node("node")


def test_node_otlp(_):
    """A collector with OpenTelemetry's own generated decoder, by gRPC and HTTP."""
    run_node("otlp")


def main():
    passed = failed = skipped = 0
    with Programs() as programs:
        for name, test in sorted(globals().items()):
            if not name.startswith("test_"):
                continue
            if name.startswith("test_node") and subprocess.run(["sh", "-c", "command -v node"], capture_output=True).returncode:
                print("SKIPPED %s: node is not installed" % name)
                skipped += 1
                continue
            try:
                test(programs)
                passed += 1
            except Skipped as why:
                print("SKIPPED %s: %s" % (name, why))
                skipped += 1
            except Exception:  # pylint: disable=broad-except
                print("FAILED %s" % name)
                traceback.print_exc(file=sys.stdout)
                failed += 1
    print("%d passed, %d failed%s" % (passed, failed, ", %d skipped" % skipped if skipped else ""))
    return 1 if failed else 0


sys.exit(main())
