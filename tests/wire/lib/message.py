"""A strict reader of HTTP/1.1 messages, written apart from the sidecar's own.

It is the judge of everything that the sidecar sends to either side, so it accepts only
what RFC 9112 lets a sender send: CRLF everywhere, no folding, one framing.
"""
import re
import socket
import time

from .wait import PATIENCE, Failed

TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([!-~]+) HTTP/1\.([01])\Z")
STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9]) ([\t\x20-\x7e\x80-\xff]*)\Z")
CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})((?:;[\t\x20-\x7e\x80-\xff]*)?)\Z")
HEAD_LIMIT = 1 << 20


class BadMessage(Failed):
    """The peer sent something that is not HTTP."""


class Gone(Exception):
    """The connection ended. `part` holds the bytes of a message that was begun."""

    def __init__(self, how, part=b""):
        super().__init__("connection ended (%s) after %r" % (how, part[-200:]))
        self.how = how          # "eof" or "reset"
        self.part = part


class Incomplete(Gone):
    """The connection ended inside a message. `message` is what came of it, body included."""

    def __init__(self, how, part, message=None):
        super().__init__(how, part)
        self.message = message


class Slow(Failed):
    """Nothing came in time."""


class Reader:
    """Bytes of one socket, with a deadline on every wait."""

    def __init__(self, sock, timeout=None):
        self.sock = sock
        self.timeout = PATIENCE if timeout is None else timeout
        self.buffer = bytearray()
        self.ended = None
        self.seen = bytearray()  # all bytes ever received, up to a limit, for messages and checks

    def more(self, deadline=None, limit=65536):
        """Receives once. False at the end of the connection (see .ended)."""
        if self.ended:
            return False
        left = self.timeout if deadline is None else deadline - time.monotonic()
        if left <= 0:
            raise Slow("nothing more came; so far %r" % bytes(self.seen[-300:]))
        self.sock.settimeout(left)
        try:
            data = self.sock.recv(limit)
        except (socket.timeout, TimeoutError):
            raise Slow("nothing more came in %.1f s; so far %r" % (left, bytes(self.seen[-300:])))
        except (ConnectionResetError, BrokenPipeError):
            self.ended = "reset"
            return False
        except OSError as error:
            self.ended = "closed here: %s" % error
            return False
        if not data:
            self.ended = "eof"
            return False
        self.buffer += data
        if len(self.seen) < HEAD_LIMIT:
            self.seen += data
        return True

    def line(self, deadline=None):
        """One line without its CRLF. A bare LF is an error."""
        start = 0
        while True:
            at = self.buffer.find(b"\n", start)
            if at >= 0:
                break
            start = len(self.buffer)
            if start > HEAD_LIMIT:
                raise BadMessage("a line without end")
            if not self.more(deadline):
                raise Gone(self.ended, bytes(self.buffer))
        line = bytes(self.buffer[:at + 1])
        del self.buffer[:at + 1]
        if not line.endswith(b"\r\n") or b"\r" in line[:-2] or b"\0" in line:
            raise BadMessage("a line with a bare CR, bare LF or NUL: %r" % line[:200])
        return line[:-2]

    def exactly(self, n, deadline=None):
        while len(self.buffer) < n:
            if not self.more(deadline):
                raise Gone(self.ended, bytes(self.buffer))
        data = bytes(self.buffer[:n])
        del self.buffer[:n]
        return data

    def rest(self, deadline=None):
        """All bytes until the connection ends."""
        while self.more(deadline):
            pass
        data = bytes(self.buffer)
        self.buffer.clear()
        return data


def parse_fields(lines):
    fields = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not TOKEN.match(name):
            raise BadMessage("not a field line: %r" % line[:200])
        value = value.strip(b" \t")
        if any(byte < 32 and byte != 9 or byte == 127 for byte in value):
            raise BadMessage("a control byte in a field: %r" % line[:200])
        fields.append((name.decode("latin-1"), value.decode("latin-1")))
    return fields


class Message:
    """A head, and once read its body and trailers. Text is latin-1."""

    def __init__(self, start, lines):
        self.start = start
        self.lines = lines
        self.fields = parse_fields(lines)
        self.body = b""
        self.chunks = []      # sizes, as they came, when chunked
        self.trailers = []
        self.framing = "none"  # none | length | chunked | close
        self.whole = False
        self.at = time.monotonic()

    def all(self, name):
        return [v for n, v in self.fields if n.lower() == name.lower()]

    def get(self, name, default=None):
        values = self.all(name)
        return values[0] if values else default

    def has(self, name):
        return bool(self.all(name))

    def members(self, name):
        """The members of a list field, lower case."""
        return [m.strip().lower() for v in self.all(name) for m in v.split(",") if m.strip()]

    @property
    def head(self):
        return b"\r\n".join([self.start] + self.lines) + b"\r\n\r\n"

    def __repr__(self):
        return "<%s %r %d body bytes>" % (self.start.decode("latin-1"), self.fields, len(self.body))


class Request(Message):
    def __init__(self, start, lines):
        match = REQUEST_LINE.match(start)
        if not match:
            raise BadMessage("not a request line: %r" % start[:200])
        super().__init__(start, lines)
        self.method = match.group(1).decode()
        self.target = match.group(2).decode("latin-1")
        self.minor = int(match.group(3))
        self.connection = None  # the origin's connection that it came on


class Response(Message):
    def __init__(self, start, lines):
        match = STATUS_LINE.match(start)
        if not match:
            raise BadMessage("not a status line: %r" % start[:200])
        super().__init__(start, lines)
        self.minor = int(match.group(1))
        self.status = int(match.group(2))
        self.reason = match.group(3).decode("latin-1")
        self.interim = []       # the 1xx answers before this one


def read_lines(reader, deadline=None):
    lines = []
    while True:
        try:
            line = reader.line(deadline)
        except Gone as gone:
            if not lines and not gone.part:
                raise
            raise Incomplete(gone.how, b"\r\n".join(lines + [gone.part]))
        if not line:
            return lines
        lines.append(line)


def read_head(reader, kind, deadline=None):
    lines = read_lines(reader, deadline)
    if not lines:
        raise BadMessage("an empty line in place of a head")
    return kind(lines[0], lines[1:])


def content_length(message):
    values = message.all("Content-Length")
    if not values:
        return None
    if len(values) > 1 or not re.match(r"[0-9]{1,18}\Z", values[0]):
        raise BadMessage("Content-Length %r" % values)
    return int(values[0])


def framing_of(message, request_method=None):
    """none | length | chunked | close, or BadMessage when it says two things."""
    codings = message.all("Transfer-Encoding")
    length = content_length(message)
    if codings:
        if length is not None:
            raise BadMessage("both Transfer-Encoding and Content-Length")
        if [c.lower() for c in codings] != ["chunked"]:
            raise BadMessage("Transfer-Encoding %r" % codings)
        if message.minor == 0:
            raise BadMessage("Transfer-Encoding in HTTP/1.0")
    if isinstance(message, Request):
        return "chunked" if codings else "none" if length is None else "length"
    if message.status < 200 or message.status == 204:
        if codings or length is not None:
            raise BadMessage("a %d with a length" % message.status)
        return "none"
    if message.status == 304 or request_method == "HEAD":
        return "none"
    if codings:
        return "chunked"
    return "close" if length is None else "length"


def read_chunk(reader, message, deadline=None):
    """One chunk into message.body. False after the last one, trailers read."""
    line = reader.line(deadline)
    match = CHUNK_LINE.match(line)
    if not match:
        raise BadMessage("not a chunk line: %r" % line[:100])
    size = int(match.group(1), 16)
    if size == 0:
        message.trailers = parse_fields(read_lines(reader, deadline))
        return False
    data = reader.exactly(size, deadline)
    message.body += data
    message.chunks.append(size)
    if reader.exactly(2, deadline) != b"\r\n":
        raise BadMessage("no CRLF behind a chunk")
    return True


def read_body(reader, message, request_method=None, deadline=None):
    """Reads the whole body. Incomplete when the connection ends too soon."""
    message.framing = framing_of(message, request_method)
    try:
        if message.framing == "length":
            message.body = reader.exactly(content_length(message), deadline)
        elif message.framing == "chunked":
            while read_chunk(reader, message, deadline):
                pass
        elif message.framing == "close":
            message.body = reader.rest(deadline)
            if reader.ended != "eof":
                raise Gone(reader.ended, message.body)
    except Incomplete as gone:
        raise Incomplete(gone.how, gone.part, message)
    except Gone as gone:
        if message.framing == "length":
            message.body = gone.part
        raise Incomplete(gone.how, gone.part, message)
    message.whole = True
    return message


def read_response(reader, method="GET", deadline=None):
    """The final response, with the interim ones before it in .interim."""
    interim = []
    while True:
        response = read_head(reader, Response, deadline)
        if response.status >= 200 or response.status == 101:
            break
        framing_of(response)
        interim.append(response)
    response.interim = interim
    if response.status == 101:
        response.whole = True
        return response
    return read_body(reader, response, method, deadline)


def read_request(reader, deadline=None, body=True):
    request = read_head(reader, Request, deadline)
    if not body:
        request.framing = framing_of(request)
        return request
    return read_body(reader, request, None, deadline)


def make_request(target="/", method="GET", fields=(), body=None, host="localhost", version="1.1"):
    """The bytes of a request. fields: (name, value) pairs; body gives Content-Length."""
    lines = ["%s %s HTTP/%s" % (method, target, version)]
    if host is not None:
        lines.append("Host: %s" % host)
    lines += ["%s: %s" % pair for pair in fields]
    if body is not None:
        lines.append("Content-Length: %d" % len(body))
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (body or b"")


def make_response(status=200, fields=(), body=b"", reason="OK", length=True):
    """The bytes of a response, with Content-Length unless told otherwise."""
    lines = ["HTTP/1.1 %d %s" % (status, reason)]
    lines += ["%s: %s" % pair for pair in fields]
    if length and status >= 200 and status not in (204, 304):
        lines.append("Content-Length: %d" % len(body))
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def chunked(*parts, trailers=b""):
    """The bytes of a chunked body."""
    return b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in parts) + b"0\r\n" + trailers + b"\r\n"
