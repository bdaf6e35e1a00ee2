"""ScriptedOrigin: a server of raw sockets, whose every connection runs a script of the test.

    def script(conn):
        request = conn.request()          # read strictly, recorded
        conn.send(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\n")
        conn.pieces(b"ok")
        conn.close()
    origin = t.origin(script)

Without a script each request is answered by origin.on[path] (bytes, or a function of the
connection and the request), else by 200 "ok".
"""
import socket
import threading
import time

from .client import reset, send_pieces
from .message import Gone, Incomplete, Reader, Slow, make_response, read_request
from .wait import PATIENCE, Failed, wait_for


class OriginConnection:
    def __init__(self, origin, sock, number):
        self.origin = origin
        self.sock = sock
        self.number = number       # 0, 1, ... in the order of accepting
        self.reader = Reader(sock)
        self.requests = []         # whole requests of this connection
        self.open = True

    def request(self, body=True, timeout=None):
        """The next request; recorded. Gone when the sidecar closed in between, Incomplete inside one.

        Without `timeout` only the request must come quickly, once it has begun: a pooled connection may lie idle.
        """
        if timeout is None:
            self.idle()
        deadline = time.monotonic() + (self.origin.patience if timeout is None else timeout)
        try:
            request = read_request(self.reader, deadline, body)
        except Incomplete as gone:
            self.origin.cut.append(gone)
            raise
        request.connection = self.number
        self.requests.append(request)
        self.origin.record(request)
        return request

    def idle(self):
        """Waits for the first byte of a request however long it takes."""
        while not self.reader.buffer:
            try:
                if not self.reader.more():
                    raise Gone(self.reader.ended, b"")
            except Slow:
                pass

    def send(self, data):
        self.sock.settimeout(self.origin.patience)
        self.sock.sendall(data)

    def pieces(self, data, size=1):
        self.sock.settimeout(self.origin.patience)
        send_pieces(self.sock, data, size)

    def reply(self, status=200, fields=(), body=b"ok", **more):
        self.send(make_response(status, fields, body, **more))

    def gone(self, timeout=None):
        """Waits until the sidecar has closed this connection; gives the bytes that came before."""
        deadline = time.monotonic() + (self.origin.patience if timeout is None else timeout)
        return self.reader.rest(deadline)

    def half_close(self):
        self.sock.shutdown(socket.SHUT_WR)

    def close(self):
        """FIN, even when bytes lie unread (which would make it a reset)."""
        self.open = False
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.sock.close()

    def reset(self):
        self.open = False
        reset(self.sock)


class ScriptedOrigin:
    def __init__(self, script=None, port=0, host="127.0.0.1", patience=None, receive_buffer=None, tls=None):
        self.tls = tls             # an ssl.SSLContext: every connection begins with its handshake
        self.handshake_errors = []
        self.script = script or ScriptedOrigin.serve
        self.patience = PATIENCE * 2 if patience is None else patience
        self.on = {}               # path -> bytes, or f(conn, request)
        self.default = make_response(200, [("Content-Type", "text/plain")], b"ok")
        self.requests = []
        self.connections = []
        self.most_alive = 0        # connections open at the same time, at most
        self.cut = []              # requests that broke off (Incomplete)
        self.errors = []           # what went wrong in a script
        self.lock = threading.Lock()
        self.stopping = False
        self.threads = []
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.bind((host, port))
        self.socket.listen(512)
        self.host, self.port = self.socket.getsockname()[:2]
        thread = threading.Thread(target=self.accept_loop, daemon=True)
        self.threads.append(thread)
        thread.start()

    @property
    def url(self):
        return "%s://%s:%d" % ("https" if self.tls else "http", self.host, self.port)

    def accept_loop(self):
        listener = self.socket
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            with self.lock:
                if self.stopping:
                    sock.close()
                    return
                conn = OriginConnection(self, sock, len(self.connections))
                self.connections.append(conn)
                self.most_alive = max(self.most_alive, len(self.alive()))
            thread = threading.Thread(target=self.run, args=(conn,), daemon=True)
            self.threads.append(thread)
            thread.start()

    def run(self, conn):
        try:
            conn.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.tls and not self.handshake(conn):
                return
            self.script(conn) if self.script is not ScriptedOrigin.serve else self.serve(conn)
        except (Gone, BrokenPipeError, ConnectionResetError):
            pass                    # the sidecar left; tests look at .cut and .requests
        except Exception as error:  # pylint: disable=broad-except
            if not self.stopping:
                self.errors.append(error)
        finally:
            if conn.open:
                conn.close()

    def handshake(self, conn):
        try:
            conn.sock.settimeout(self.patience)
            conn.sock = conn.reader.sock = self.tls.wrap_socket(conn.sock, server_side=True)
            return True
        except OSError as error:    # ssl.SSLError is one
            self.handshake_errors.append(error)
            return False

    def serve(self, conn):
        """The default script: answers request after request."""
        while True:
            request = conn.request()
            answer = self.on.get(request.target.split("?")[0], self.default)
            if callable(answer):
                if answer(conn, request) is False:
                    return
            else:
                conn.send(answer)
            if not conn.open:
                return

    def record(self, request):
        with self.lock:
            self.requests.append(request)

    def count(self, path=None):
        with self.lock:
            return sum(1 for r in self.requests if path is None or r.target == path)

    def wait_requests(self, n, path=None):
        wait_for(lambda: self.count(path) >= n, "%d requests at the origin (%s)" % (n, path or "any"))
        return [r for r in self.requests if path is None or r.target == path]

    def wait_connections(self, n):
        wait_for(lambda: len(self.connections) >= n, "%d connections at the origin" % n)
        return self.connections

    def last(self):
        if not self.requests:
            raise Failed("no request reached the origin")
        return self.requests[-1]

    def alive(self):
        """Connections that neither side has closed."""
        return [c for c in self.connections if c.open and not c.reader.ended]

    def stop_listening(self):
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.socket.close()

    def stop(self):
        """Closes everything. Raises what went wrong in a script."""
        self.stopping = True
        self.stop_listening()
        with self.lock:
            open_ones = [c for c in self.connections if c.open]
        for conn in open_ones:
            conn.close()
        for thread in self.threads:
            thread.join(timeout=2)
        if self.errors:
            raise self.errors[0]
