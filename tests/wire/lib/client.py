"""RawClient: a client that sends whatever bytes a test wants, and reads strictly."""
import socket
import struct
import time

from .message import Gone, Incomplete, Reader, Response, make_request, read_body, read_chunk, read_head, read_response
from .wait import PATIENCE, Failed


def send_pieces(sock, data, size):
    """Sends `data` in pieces of `size` bytes, each in a segment of its own as far as we can tell."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for at in range(0, len(data), size):
        sock.sendall(data[at:at + size])


def reset(sock):
    """Closes with RST instead of FIN."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except OSError:
        pass
    sock.close()


class RawClient:
    def __init__(self, address, timeout=None, receive_buffer=None, connect=True):
        """address: (host, port), or the path of a unix socket."""
        unix = isinstance(address, str)
        self.sock = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.timeout = PATIENCE if timeout is None else timeout
        self.sock.settimeout(self.timeout)
        self.reader = Reader(self.sock, self.timeout)
        if connect:
            self.sock.connect(address)
            if not unix:
                self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, data):
        self.sock.settimeout(self.timeout)
        self.sock.sendall(data)
        return self

    def send_if_open(self, data):
        """Sends; that the peer has closed already is no error."""
        try:
            self.send(data)
        except (BrokenPipeError, ConnectionResetError):
            pass
        return self

    def pieces(self, data, size=1):
        self.sock.settimeout(self.timeout)
        send_pieces(self.sock, data, size)
        return self

    def request(self, target="/", method="GET", fields=(), body=None, **more):
        """Sends a request and reads its response."""
        self.send(make_request(target, method, fields, body, **more))
        return self.response(method)

    def response(self, method="GET", timeout=None):
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        return read_response(self.reader, method, deadline)

    def head(self):
        """The next head alone, interim or final; its body is left to be read."""
        return read_head(self.reader, Response)

    def body(self, response, method="GET"):
        return read_body(self.reader, response, method)

    def chunk(self, response):
        """The next chunk of a chunked body: its bytes, or None after the last."""
        before = len(response.body)
        return bytes(response.body[before:]) if read_chunk(self.reader, response) else None

    def exactly(self, n):
        return self.reader.exactly(n)

    def closed(self, timeout=None):
        """Expects the end of the connection and not one more byte. Returns eof or reset."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        left = self.reader.rest(deadline)
        if left:
            raise Failed("bytes before the close: %r" % left[:300])
        return self.reader.ended

    def silent(self, seconds):
        """Expects that nothing comes, for this long (for what must not happen there is no event to wait for)."""
        end = time.monotonic() + seconds
        self.sock.settimeout(seconds)
        try:
            data = self.sock.recv(1)
        except (socket.timeout, TimeoutError):
            return
        raise Failed("unexpected %r after %.3f s" % (data, seconds - (end - time.monotonic())))

    def half_close(self):
        self.sock.shutdown(socket.SHUT_WR)
        return self

    def reset(self):
        reset(self.sock)

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def broken(client, method="GET"):
    """Expects a response that visibly breaks off: returns it, or None when not even its head came."""
    try:
        response = client.response(method)
    except Incomplete as gone:
        return gone.message
    except Gone:
        return None
    raise Failed("a complete answer: %r" % response)
