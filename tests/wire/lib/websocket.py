"""A WebSocket client (RFC 6455) that hides nothing: every frame is checked, and any bytes can be sent."""
import base64
import hashlib
import json
import os
import socket
import ssl
import struct

from .wait import PATIENCE, Failed

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10


class Refused(Failed):
    def __init__(self, status, fields, body):
        super().__init__("the handshake was answered %d: %s" % (status, body))
        self.status, self.fields, self.body = status, fields, body


class Closed(Failed):
    def __init__(self, code, reason):
        super().__init__("closed: %s %s" % (code, reason))
        self.code, self.reason = code, reason


class WebSocket:
    def __init__(self, address, path="/api/v1/stream", fields=(), receive_buffer=None, tls=None, behind=b"", key=None):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(address)
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")
        key = key or base64.b64encode(os.urandom(16)).decode()
        lines = ["GET %s HTTP/1.1" % path]
        asked = {"Host": "%s:%d" % address, "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": key, **dict(fields)}
        lines += ["%s: %s" % pair for pair in asked.items() if pair[1] is not None]
        self.socket.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + behind)
        self.data = b""
        head = self.until(b"\r\n\r\n").decode().split("\r\n")
        status = int(head[0].split()[1])
        self.fields = {k.lower(): v for k, v in (line.split(": ", 1) for line in head[1:] if line)}
        if status != 101:
            n = int(self.fields.get("content-length", 0))
            raise Refused(status, self.fields, self.take(n).decode())
        accept = base64.b64encode(hashlib.sha1(key.encode() + GUID).digest()).decode()
        if self.fields.get("sec-websocket-accept") != accept:
            raise Failed("Sec-WebSocket-Accept is %r" % self.fields.get("sec-websocket-accept"))

    def more(self):
        piece = self.socket.recv(65536)
        if not piece:
            raise Closed(1006, "end of the stream")
        self.data += piece

    def until(self, mark):
        while mark not in self.data:
            self.more()
        found, self.data = self.data.split(mark, 1)
        return found

    def take(self, n):
        while len(self.data) < n:
            self.more()
        found, self.data = self.data[:n], self.data[n:]
        return found

    def frame(self):
        """(opcode, payload) of the next frame; pings are answered by whoever asked."""
        first, second = self.take(2)
        if first & 0x70:
            raise Failed("reserved bits in %#x" % first)
        if second & 0x80:
            raise Failed("a server must not mask")
        n = second & 0x7F
        if n == 126:
            n = struct.unpack("!H", self.take(2))[0]
        elif n == 127:
            n = struct.unpack("!Q", self.take(8))[0]
        if not first & 0x80:
            raise Failed("a fragment")
        return first & 15, self.take(n)

    def message(self):
        """The next text message as a tree. Pings are answered; a close is raised."""
        while True:
            opcode, payload = self.frame()
            if opcode == PING:
                self.send(PONG, payload)
            elif opcode == CLOSE:
                try:
                    self.send(CLOSE, payload[:2])
                except OSError:
                    pass  # it has gone already
                raise Closed(struct.unpack("!H", payload[:2])[0] if payload else 1005, payload[2:].decode())
            elif opcode == TEXT:
                return json.loads(payload.decode())
            elif opcode != PONG:
                raise Failed("opcode %d" % opcode)

    def wait(self, good, what="the message", most=200):
        for _ in range(most):
            told = self.message()
            if good(told):
                return told
        raise Failed("%s did not come in %d messages" % (what, most))

    def send(self, opcode, payload=b"", masked=True, fin=True):
        head = bytes([(0x80 if fin else 0) | opcode])
        bit = 0x80 if masked else 0
        if len(payload) < 126:
            head += bytes([bit | len(payload)])
        elif len(payload) < 65536:
            head += bytes([bit | 126]) + struct.pack("!H", len(payload))
        else:
            head += bytes([bit | 127]) + struct.pack("!Q", len(payload))
        if masked:
            mask = os.urandom(4)
            head += mask
            payload = bytes(b ^ mask[i % 4] for i, b in enumerate(payload))
        self.socket.sendall(head + payload)

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
