"""Starts promptops-origin on free ports and talks to it. Python standard library only."""

import http.client
import json
import os
import socket
import subprocess
import threading

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
API_KEY = "po_demoDemo0000000000000001"
SECRET = "demo-secret-key-of-the-stand-in"


def binary():
    return os.environ.get("ORIGIN") or os.path.join(ROOT, os.environ.get("BUILD", "build"), "promptops-origin")


class Reply:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def header(self, name):
        values = [v for n, v in self.headers if n.lower() == name.lower()]
        return values[0] if values else None

    def json(self):
        return json.loads(self.body)


class Origin:
    """A running stand-in. Its second port takes no faults: control goes there."""

    def __init__(self, *options):
        command = [binary(), "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.control_port = self._port("control on ")
        self.port = self._port("listening on ")

    def _port(self, words):
        line = self.process.stdout.readline()
        if words not in line:
            self.process.kill()
            raise RuntimeError("unexpected start: %r %r" % (line, self.process.communicate()[1]))
        return int(line.rsplit(":", 1)[1])

    def stop(self):
        self.process.terminate()
        try:
            code = self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        errors = self.process.stderr.read()
        self.process.stdout.close()
        self.process.stderr.close()
        if code != 0 or errors:
            raise AssertionError("promptops-origin ended with %d: %s" % (code, errors))

    def connect(self, port=None, timeout=10):
        return socket.create_connection(("127.0.0.1", port or self.port), timeout=timeout)

    def ask(self, method, path, body=None, headers=None, port=None):
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=10)
        try:
            if isinstance(body, (dict, list)):
                body = json.dumps(body)
            connection.request(method, path, body=body, headers=headers or {})
            answer = connection.getresponse()
            return Reply(answer.status, answer.getheaders(), answer.read())
        finally:
            connection.close()

    def api(self, method, path, body=None, headers=None):
        return self.ask(method, path, body, dict({"Authorization": "Bearer " + API_KEY}, **(headers or {})))

    def set(self, **settings):
        answer = self.ask("POST", "/__control", settings, port=self.control_port)
        if answer.status != 200:
            raise AssertionError(answer.body)
        return answer.json()

    def counts(self):
        return self.ask("GET", "/__control", port=self.control_port).json()["received"]

    def reset(self):
        answer = self.ask("POST", "/__control/reset", port=self.control_port)
        if answer.status != 200:
            raise AssertionError(answer.body)


def read_all(sock):
    """Everything until the end; (bytes, whether it ended with a reset)."""
    data = b""
    while True:
        try:
            part = sock.recv(65536)
        except ConnectionResetError:
            return data, True
        if not part:
            return data, False
        data += part


def in_background(function):
    """Runs it in a thread; the returned call waits for its result."""
    box = {}

    def run():
        try:
            box["result"] = function()
        except BaseException as error:  # handed to whoever waits
            box["error"] = error

    thread = threading.Thread(target=run)
    thread.start()

    def result():
        thread.join(30)
        if "error" in box:
            raise box["error"]
        return box["result"]

    return result
