"""What must be accepted, and what must not: the rules of framing (RFC 9110, 9112, the stricter where there is a choice) as short
as they can be said, over whole byte strings, written apart from the sidecar's parser and from message.py.

message.py reads what the sidecar sends; this judges what is sent to it.
"""
import ipaddress
import re

TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
AUTHORITY = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|(?:[A-Za-z0-9._~!$&'()*+;=-]|%[0-9A-Fa-f]{2})+)(?::([0-9]{0,5}))?\Z")
REQUEST_LINE = re.compile(rb"(%s) ([!-~]+) HTTP/([0-9])\.([0-9])\Z" % TOKEN)
STATUS_LINE = re.compile(rb"HTTP/1\.([0-9]) ([1-9][0-9][0-9])(?: .*)?\Z", re.S)
FIELD = re.compile(rb"(%s):[ \t]*(.*?)[ \t]*\Z" % TOKEN, re.S)
CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
CHUNK = re.compile(rb"([0-9A-Fa-f]{1,16})(;[^\r\n]*)?\r\n")
CHUNK_BEGUN = re.compile(rb"(?:[0-9A-Fa-f]{1,16}(?:;[\t -~\x80-\xff]*)?\r?)?\Z")
EXTENSION = re.compile(rb"(?:[;= \t!#$%&'*+.^_`|~0-9A-Za-z-]|\"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*\")*\Z")
MOST = 1 << 63


class Bad(Exception):
    """Must be refused; the word says why."""


class More(Exception):
    """Not whole."""


def take_line(data):
    """(line, the rest). A line ends with CRLF, and has no other control byte but HTAB."""
    control = CONTROL.search(data)
    if not control or data[control.start():] == b"\r":
        raise More
    if data[control.start():control.start() + 2] != b"\r\n":
        raise Bad("line end")
    return data[:control.start()], data[control.start() + 2:]


def field(line):
    found = FIELD.match(line)
    if not found:
        raise Bad("field")
    return found[1].lower(), found[2]


def take_head(data, start_line):
    """(what start_line makes of the first, fields, the rest). Each line is judged before the next is looked for."""
    line, data = take_line(data)
    start, fields = start_line(line), []
    while True:
        line, data = take_line(data)
        if not line:
            return start, fields, data
        fields.append((*field(line), line))


def values(fields, name):
    return [value for n, value, _ in fields if n == name]


def members(fields, name):
    return [m for m in (m.strip(b" \t").lower() for v in values(fields, name) for m in v.split(b",")) if m]


def authority_good(text):
    found = AUTHORITY.match(text)
    if not found or int(found[2] or b"0") > 65535:
        return False
    try:
        return text[:1] != b"[" or bool(ipaddress.IPv6Address(found[1][1:-1].decode()))
    except ValueError:
        return False


def take_chunks(data):
    """(body, the rest) of a chunked body with its trailers."""
    body = b""
    while True:
        found = CHUNK.match(data)
        if not found:
            raise More if CHUNK_BEGUN.match(data) else Bad("chunk")
        if not EXTENSION.match(found[2] or b"") or int(found[1], 16) >= MOST:
            raise Bad("extension or size of a chunk")
        size, data = int(found[1], 16), data[found.end():]
        if size == 0:
            break
        if len(data) <= size or data[size:] == b"\r":
            raise More
        if data[size:size + 2] != b"\r\n":
            raise Bad("end of a chunk")
        body, data = body + data[:size], data[size + 2:]
    while True:
        line, data = take_line(data)
        if not line:
            return body, data
        field(line)


def framing(fields, minor):
    """"chunked", a length, or None."""
    codings, lengths = values(fields, b"transfer-encoding"), values(fields, b"content-length")
    if codings:
        line = next(line for name, _, line in fields if name == b"transfer-encoding")
        if minor == 0 or lengths or [c.lower() for c in codings] != [b"chunked"] or b"\t" in line:
            raise Bad("coding")
        return "chunked"
    if not lengths:
        return None
    if not all(re.match(rb"[0-9]+\Z", length) for length in lengths) or len(set(map(int, lengths))) > 1 or int(lengths[0]) >= MOST:
        raise Bad("length")
    return int(lengths[0])


def request_line(line):
    found = REQUEST_LINE.match(line)
    if not found or b"#" in found[2] or found[3] != b"1":
        raise Bad("request line")
    return found[1], found[2], int(found[4])


def target_at_origin(method, target):
    if target == b"*" and method != b"OPTIONS":
        raise Bad("asterisk")
    if target == b"*" or target[:1] == b"/":
        return target
    found = re.match(rb"https?://([^/?]+)(/.*)?\Z", target, re.I)
    if not found or not authority_good(found[1]):
        raise Bad("target")
    return found[2] or (b"*" if method == b"OPTIONS" else b"/")


def take_request(data):
    """((method, target, body) as the origin must see them, the rest, does the connection live on?)"""
    if data[:2] == b"\r\n":
        data = data[2:]
    elif data == b"\r":
        raise More
    (method, target, minor), fields, data = take_head(data, request_line)
    hosts = values(fields, b"host")
    if method in (b"CONNECT", b"TRACE"):
        raise Bad("method")
    if len(hosts) > 1 or (minor and not hosts) or not all(map(authority_good, hosts)):
        raise Bad("host")
    if minor and set(members(fields, b"expect")) - {b"100-continue"}:
        raise Bad("expectation")
    target = target_at_origin(method, target)
    length, body = framing(fields, minor), b""
    if length == "chunked":
        body, data = take_chunks(data)
    elif length:
        if len(data) < length:
            raise More
        body, data = data[:length], data[length:]
    options = members(fields, b"connection")
    lives = b"close" not in options and (minor > 0 or b"keep-alive" in options)
    return (method.decode(), target.decode("latin-1"), body), data, lives


def requests_of(data):
    """([(method, target, body)], how it ends): "end", "close" after one that says so, "more" to come, or "bad"."""
    found = []
    while data and data != b"\r\n":
        try:
            request, data, lives = take_request(data)
        except Bad:
            return found, "bad"
        except More:
            return found, "more"
        found.append(request)
        if not lives:
            return found, "close"
    return found, "end"


def status_line(line):
    found = STATUS_LINE.match(line)
    if not found:
        raise Bad("status line")
    return int(found[2]), int(found[1])


def answer_of(data, method):
    """(status, body) of all that an origin sends before it closes; body None: it breaks off or is broken, of which the client
    must see the break, or 502; status None: no answer that may be begun, so it must see 502."""
    try:
        while True:
            (status, minor), fields, data = take_head(data, status_line)
            if status == 101:
                return None, None
            if status >= 200:
                break
        if method == "HEAD" or status in (204, 304):
            return status, b""
        length = framing(fields, minor)
    except (Bad, More):
        return None, None
    if length is None:
        return status, data
    try:
        return status, take_chunks(data)[0] if length == "chunked" else data[:length] if len(data) >= length else None
    except (Bad, More):
        return status, None
