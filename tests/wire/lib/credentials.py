"""What a credential test needs: the API's two signatures made by Python's hmac (no code of ours takes part), key files
as Kubernetes mounts them, the stand-in API, and the memory of a process that a core dump would hold."""
import hashlib
import hmac
import json
import os
import re
import secrets
import shutil
import subprocess
import time
import http.client

from .sidecar import BINARY, ROOT
from .wait import Failed, equal

API_KEY = "po_demoDemo0000000000000001"      # the stand-in's own
SECRET_KEY = "demo-secret-key-of-the-stand-in"
SCHEMES = ("bearer", "signed", "promptops")
SIGNATURE_FIELDS = ("X-PromptOps-Timestamp", "X-PromptOps-Nonce", "X-PromptOps-Signature")


def mac(key, message):
    return hmac.new(key.encode(), message.encode(), hashlib.sha256).hexdigest()


def documented_signature(method, target, timestamp, key=API_KEY, secret=SECRET_KEY):
    return mac(secret, "%s:%s:%s:%s" % (key, timestamp, method, target.split("?")[0]))


def python_signature(method, target, timestamp, nonce, body=b"", key=API_KEY):
    message = "%s:%s:%s:%s" % (method, target, timestamp, nonce)
    return mac(key, message + (":" + hashlib.sha256(body).hexdigest() if body else ""))


def naive_utc(when=None):
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(when))


def python_client(method, target, body=b"", key=API_KEY, when=None, nonce=None):
    """The fields of a request as the Python client signs it."""
    timestamp = str(int(time.time() if when is None else when))
    nonce = nonce or secrets.token_hex(16)
    return [("Authorization", "PromptOps " + key), ("X-PromptOps-Timestamp", timestamp), ("X-PromptOps-Nonce", nonce),
            ("X-PromptOps-Signature", python_signature(method, target, timestamp, nonce, body, key))]


def documented_client(method, target, when=None, key=API_KEY, secret=SECRET_KEY):
    timestamp = naive_utc(when)
    return [("Authorization", "Bearer " + key), ("X-PromptOps-Timestamp", timestamp),
            ("X-PromptOps-Signature", documented_signature(method, target, timestamp, key, secret))]


def is_signed(request, scheme, key=API_KEY, secret=SECRET_KEY, form="naive_utc"):
    """Raises unless a request that reached a scripted origin is signed so, once, by the sidecar."""
    wanted = ("PromptOps " if scheme == "promptops" else "Bearer ") + key
    equal(request.all("Authorization"), [wanted], "Authorization of %r" % request)
    if scheme == "bearer":
        equal([request.all(n) for n in SIGNATURE_FIELDS], [[], [], []], "fields of a signature")
        return
    timestamps, nonces, signatures = [request.all(n) for n in SIGNATURE_FIELDS]
    equal((len(timestamps), len(nonces), len(signatures)), (1, int(scheme == "promptops"), 1), "fields of the signature of %r" % request)
    forms = {"naive_utc": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", "zulu": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "unix": r"\d{10}"}
    if not re.fullmatch(forms[form], timestamps[0]):
        raise Failed("timestamp %r is not %s" % (timestamps[0], form))
    if scheme == "signed":
        equal(signatures[0], documented_signature(request.method, request.target, timestamps[0], key, secret), "signature of %r" % request)
    else:
        equal(signatures[0], python_signature(request.method, request.target, timestamps[0], nonces[0], request.body, key), "signature of %r" % request)


class Mounted:
    """Keys as Kubernetes mounts a secret: files behind a link `..data` that is swapped in one step."""

    def __init__(self, t, api_key=API_KEY, secret_key=SECRET_KEY):
        self.folder = os.path.join(t.directory, "secret-%d" % len(os.listdir(t.directory)))
        self.version = 0
        os.mkdir(self.folder)
        self.swap(api_key, secret_key)
        for name in ("api", "secret"):
            os.symlink("..data/" + name, os.path.join(self.folder, name))

    def swap(self, api_key, secret_key=SECRET_KEY):
        self.version += 1
        data = "..%d" % self.version
        os.mkdir(os.path.join(self.folder, data))
        for name, value in (("api", api_key), ("secret", secret_key)):
            with open(os.path.join(self.folder, data, name), "w") as out:
                out.write(value + "\n")
            os.chmod(os.path.join(self.folder, data, name), 0o400)
        os.symlink(data, os.path.join(self.folder, "..new"))
        os.rename(os.path.join(self.folder, "..new"), os.path.join(self.folder, "..data"))

    def config(self, scheme, **more):
        found = {"auth.scheme": scheme, "auth.api_key_file": os.path.join(self.folder, "api")}
        if scheme == "signed":
            found["auth.secret_key_file"] = os.path.join(self.folder, "secret")
        found.update(more)
        return found


class Api:
    """promptops-origin, which refuses stale timestamps, replayed nonces and wrong signatures."""

    def __init__(self, t, *options):
        beside = os.path.join(os.path.dirname(BINARY), "promptops-origin")
        command = beside if os.path.exists(beside) else os.path.join(ROOT, "build", "promptops-origin")
        self.process = subprocess.Popen([command, "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", *options], stdout=subprocess.PIPE, text=True)
        self.control_port = self.port_of("control on ")
        self.port = self.port_of("listening on ")
        self.url = "http://127.0.0.1:%d" % self.port
        self.connections, self.requests = [], []    # of which it tells only the counts
        t.origins.append(self)                       # stopped before the sidecars are looked at

    def port_of(self, words):
        line = self.process.stdout.readline()
        if words not in line:
            raise Failed("the stand-in API said %r" % line)
        return int(line.rsplit(":", 1)[1])

    def stop(self):
        self.process.terminate()
        self.process.wait(10)
        self.process.stdout.close()

    def ask(self, method, path, body=None, fields=None, port=None):
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=10)
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None, fields or {})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"null")
        finally:
            connection.close()

    def set(self, **settings):
        status, answer = self.ask("POST", "/__control", settings, port=self.control_port)
        equal(status, 200, "answer %r of the stand-in's control" % answer)

    def counts(self):
        return self.ask("GET", "/__control", port=self.control_port)[1]["received"]

    def new_key(self):
        """(id, api key, secret key)"""
        path = "/v1/client/auth/api-keys"
        status, answer = self.ask("POST", path, {"name": "rotation"}, dict(documented_client("POST", path)))
        if status not in (200, 201):
            raise Failed("no new key: %d %r" % (status, answer))
        return answer["api_key_data"]["id"], answer["api_key"], answer["secret_key"]

    def revoke(self, key_id):
        path = "/v1/client/auth/api-keys/" + key_id
        status, answer = self.ask("DELETE", path, fields=dict(documented_client("DELETE", path)))
        if status not in (200, 204):
            raise Failed("not revoked: %d %r" % (status, answer))


def real_core(t, pid):
    """The same as gdb's gcore writes it, registers included; nothing where there is no gcore."""
    if not shutil.which("gcore"):
        return []
    path = os.path.join(t.directory, "core")
    subprocess.run(["gcore", "-o", path, str(pid)], stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
    path += ".%d" % pid
    if not os.path.exists(path):
        return []
    with open(path, "rb") as core:
        data = core.read()
    os.unlink(path)
    return [("a core that gcore wrote", data)]


def dumpable_memory(pid):
    """Everything that a core dump of the process would hold: its writable private mappings, those left out of dumps (dd)
    left out here too. A list of (name, bytes)."""
    regions = []
    with open("/proc/%d/smaps" % pid) as maps:
        for line in maps:
            head = re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \S+\s*(.*)", line)
            if head:
                regions.append([int(head[1], 16), int(head[2], 16), head[3], head[4], ""])
            elif line.startswith("VmFlags:"):
                regions[-1][4] = line[8:]
    found = []
    with open("/proc/%d/mem" % pid, "rb", 0) as memory:
        for start, end, rights, name, flags in regions:
            if not rights.startswith("rw") or " dd" in flags or name in ("[vvar]", "[vsyscall]"):
                continue
            try:
                memory.seek(start)
                found.append((name or "%x" % start, memory.read(end - start)))
            except (OSError, ValueError, OverflowError):
                continue
    if sum(len(data) for _, data in found) < 100000:
        raise Failed("the process's memory could not be read")
    return found
