"""Bodies that flow (issue 2.3): each byte passes when it comes, memory stays flat, a slow reader stops the sender."""
import threading
import time

from harness import *

BIG = (1 << 30) if FULL else (256 << 20)
CHUNKED_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
SSE_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n"


def as_chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


def test_the_first_bytes_pass_before_the_last_are_sent(t):
    origin = t.origin()
    sidecar = t.sidecar(origin)
    rows = [("length", b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n", b"abc", b"def"), ("chunked", CHUNKED_HEAD, as_chunk(b"abc"), as_chunk(b"def") + b"0\r\n\r\n"),
            ("until close", b"HTTP/1.1 200 OK\r\n\r\n", b"abc", b"def"), ("inside a chunk", CHUNKED_HEAD, b"6\r\nabc", b"def\r\n0\r\n\r\n")]
    for name, head, first, second in rows:
        for version in ("1.1", "1.0"):
            with t.case("%s, HTTP/%s" % (name, version)):
                release = threading.Event()

                def answer(conn, _, parts=(head, first, second), release=release):
                    conn.send(parts[0] + parts[1])
                    release.wait(PATIENCE)
                    conn.send(parts[2])
                    return False
                origin.on["/s"] = answer
                with sidecar.client() as client:
                    client.send(make_request("/s", version=version))
                    client.head()
                    wait_for(lambda: b"abc" in bytes(client.reader.buffer) or more(client), "the first bytes")
                    release.set()
                    wait_for(lambda: b"def" in bytes(client.reader.buffer) or more(client), "the last bytes")


def more(client):
    client.reader.more()
    return False


def test_the_head_passes_before_the_body(t):
    release = threading.Event()
    origin = t.origin()
    origin.on["/h"] = lambda conn, request: (conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"), release.wait(PATIENCE), conn.send(b"ok"))[2]
    with t.sidecar(origin).client() as client:
        client.send(make_request("/h"))
        response = client.head()
        release.set()
        equal(client.body(response).body, b"ok", "body")


def test_sse_events_are_flushed_one_by_one(t):
    """The origin sends an event only when the client has the one before."""
    turn = threading.Semaphore(0)

    def events(conn, _):
        conn.send(SSE_HEAD)
        for number in range(20):
            conn.send(as_chunk(b"data: %d\n\n" % number))
            if not turn.acquire(timeout=PATIENCE):
                return False
        conn.send(b"0\r\n\r\n")
        return True
    origin = t.origin()
    origin.on["/sse"] = events
    for config in ({}, {"cache.enabled": True}):
        with t.case(repr(config)):
            with t.sidecar(origin, config).client() as client:
                client.send(make_request("/sse", fields=[("Accept", "text/event-stream")]))
                response = client.head()
                response.framing = "chunked"
                for number in range(20):
                    equal(client.chunk(response), b"data: %d\n\n" % number, "event")
                    turn.release()
                equal(client.chunk(response), None, "end")
                equal(client.request("/next").body, b"ok", "the next answer")


def test_a_request_body_passes_as_it_comes(t):
    """Known length and chunked: the origin has the first half before the second is sent."""
    for name, fields, wrap, end in [("length", [("Content-Length", "12")], lambda d: d, b""), ("chunked", [("Transfer-Encoding", "chunked")], as_chunk, b"0\r\n\r\n")]:
        with t.case(name):
            origin = t.origin()
            sidecar = t.sidecar(origin, {"retry.max_buffered_body": 0})
            with sidecar.client() as client:
                client.send(make_request("/up", "POST", fields) + wrap(b"first "))
                wait_for(lambda: origin.connections and b"first " in origin.connections[0].reader.seen, "the first half at the origin")
                client.send(wrap(b"second") + end)
                equal(client.response("POST").status, 200, "status")
            equal(origin.last().body, b"first second", "body at the origin")


def test_a_large_request_body_is_streamed_by_default(t):
    """Above retry.max_buffered_body it is not held back."""
    origin = t.origin()
    sidecar = t.sidecar(origin, {"retry.max_buffered_body": "64KiB", "retry.max_attempts": 3})
    half = b"x" * (1 << 20)
    with sidecar.client() as client:
        client.send(make_request("/up", "PUT", [("Content-Length", str(2 * len(half)))]) + half)
        wait_for(lambda: origin.connections and len(origin.connections[0].reader.buffer) >= len(half) // 2, "half a mebibyte at the origin")
        client.send(half)
        equal(client.response("PUT").status, 200, "status")
    equal(len(origin.last().body), 2 * len(half), "bytes at the origin")


def test_both_directions_at_once(t):
    """The answer begins before the request ends, and they go on in turn."""
    def script(conn):
        request = conn.request(body=False)
        conn.send(CHUNKED_HEAD)
        while read_chunk(conn.reader, request):
            conn.send(as_chunk(request.body))
            request.body = b""
        conn.send(b"0\r\n\r\n")
        conn.gone()
    sidecar = t.sidecar(t.origin(script), {"retry.max_buffered_body": 0})
    with sidecar.client() as client:
        client.send(make_request("/echo", "POST", [("Transfer-Encoding", "chunked")]) + as_chunk(b"one"))
        response = client.head()
        equal(client.chunk(response), b"one", "first echo")
        for word in (b"two", b"three", b"x" * 5000):
            client.send(as_chunk(word))
            got = b""
            while len(got) < len(word):
                got += client.chunk(response)
            equal(got, word, "echo")
        client.send(b"0\r\n\r\n")
        equal(client.chunk(response), None, "end")


def test_9112_9_3_an_early_answer_to_an_unfinished_upload(t):
    """The client gets it whole; the upstream connection does not go back to the pool."""
    for name, close in [("kept open", False), ("closed", True)]:
        with t.case(name):
            def script(conn, close=close):
                request = conn.request(body=False)
                conn.origin.record(request)
                if request.method == "POST":
                    conn.send(make_response(413, [("Connection", "close")] if close else [], b"too much"))
                    conn.half_close() if close else None
                    conn.gone()
                else:
                    conn.reply()
                    conn.gone()
            origin = t.origin(script)
            sidecar = t.sidecar(origin, {"retry.max_buffered_body": 0})
            with sidecar.client() as client:
                client.send(make_request("/up", "POST", [("Content-Length", "10000000")]) + b"x" * 1000)
                response = client.response("POST")
                equal((response.status, response.body), (413, b"too much"), "answer")
            equal(sidecar.request("/next").body, b"ok", "the next answer")
            equal(len(origin.connections), 2, "upstream connections")


def test_an_early_answer_while_the_client_keeps_sending(t):
    def script(conn):
        conn.request(body=False)
        conn.send(make_response(413, [("Connection", "close")], b"too much"))
        conn.close()
    sidecar = t.sidecar(t.origin(script), {"retry.max_buffered_body": 0})
    body = b"x" * (2 << 20)
    with sidecar.client() as client:
        sender = t.thread(client.send_if_open, make_request("/up", "POST", [("Content-Length", str(len(body)))]) + body)
        response = client.response("POST")
        check((response.status, response.body) == (413, b"too much") or response.status == 502, "answer %r" % response)
        sender.result()
        if "close" in response.members("Connection"):
            client.closed()


def pour_blocks(conn, blocks, block):
    conn.sock.settimeout(60)
    for _ in range(blocks):
        conn.sock.sendall(block)


def peak_growth(sidecar, before):
    return sidecar.rss_kib("VmHWM") - before


@slow(90)
def test_a_big_answer_in_constant_memory(t):
    block = bytes(65536)
    rows = [("length", b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % BIG, block, b"", BIG // 65536),
            ("chunked", CHUNKED_HEAD, b"10000\r\n" + block + b"\r\n", b"0\r\n\r\n", BIG // 65536)]
    origin = t.origin(patience=60)
    sidecar = t.sidecar(origin, {"cache.enabled": True})
    for name, head, piece, end, blocks in rows:
        with t.case(name):
            origin.on["/big"] = lambda conn, request, h=head, p=piece, e=end, b=blocks: (conn.send(h), pour_blocks(conn, b, p), conn.send(e))[2]
            before = sidecar.rss_kib()
            with sidecar.client(timeout=60) as client:
                client.send(make_request("/big", fields=[("Cache-Control", "no-store")]))
                head_seen = client.head()
                equal(head_seen.status, 200, "status")
                check(count_body(client, head_seen.has("Transfer-Encoding"), BIG), "the whole body")
            if not sanitized():
                check(peak_growth(sidecar, before) < 8192, "%d KiB more than before" % peak_growth(sidecar, before))


def count_body(client, is_chunked, wanted):
    """Reads a big body without keeping it."""
    got, reader = 0, client.reader
    if not is_chunked:
        while got < wanted:
            got += drop(reader)
        return got == wanted
    while True:
        size = int(reader.line(), 16)
        if size == 0:
            reader.line()
            return got == wanted
        left = size
        while left:
            if not reader.buffer and not reader.more(limit=1 << 18):
                raise Gone(reader.ended)
            take = min(left, len(reader.buffer))
            del reader.buffer[:take]
            left -= take
        reader.line()
        got += size


def drop(reader):
    if not reader.buffer and not reader.more(limit=1 << 18):
        raise Gone(reader.ended)
    n = len(reader.buffer)
    reader.buffer.clear()
    return n


@slow(90)
def test_a_big_upload_in_constant_memory(t):
    def script(conn):
        request = conn.request(body=False)
        conn.reader.timeout = 60
        got = 0
        if request.framing == "length":
            while got < BIG:
                got += drop(conn.reader)
        else:
            got = BIG if count_body(conn, True, BIG) else 0
        conn.reply(body=b"%d" % got)
        conn.gone()
    for name, fields in [("length", [("Content-Length", str(BIG))]), ("chunked", [("Transfer-Encoding", "chunked")])]:
        with t.case(name):
            sidecar = t.sidecar(t.origin(script, patience=60))
            before = sidecar.rss_kib()
            with sidecar.client(timeout=60) as client:
                block = bytes(65536)
                client.send(make_request("/up", "POST", fields))
                for _ in range(BIG // len(block)):
                    client.sock.sendall(block if name == "length" else b"10000\r\n" + block + b"\r\n")
                if name == "chunked":
                    client.send(b"0\r\n\r\n")
                equal(client.response("POST").body, b"%d" % BIG, "bytes at the origin")
            if not sanitized():
                check(peak_growth(sidecar, before) < 8192, "%d KiB more than before" % peak_growth(sidecar, before))


def test_a_slow_reader_stops_the_sender(t):
    """Nobody reads: the origin is soon blocked, though it wants to send 200 MiB; then all arrives."""
    total = 200 << 20     # more than what kernels take by themselves: 36 MiB seen
    sent = [0]
    blocked = threading.Event()

    def script(conn):
        conn.request()
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
        conn.sock.settimeout(0.5)
        while sent[0] < total:
            try:
                sent[0] += conn.sock.send(bytes(min(65536, total - sent[0])))
            except TimeoutError:
                blocked.set()
        blocked.set()
        conn.gone()
    sidecar = t.sidecar(t.origin(script))
    before = sidecar.rss_kib()
    with sidecar.client(receive_buffer=65536) as client:
        client.send(make_request("/"))
        client.head()
        check(blocked.wait(PATIENCE), "the sender to be stopped")
        check(sent[0] < total // 2, "%d of %d bytes were taken though nobody reads" % (sent[0], total))
        if not sanitized():
            check(peak_growth(sidecar, before) < 4096, "%d KiB held" % peak_growth(sidecar, before))
        check(count_body(client, False, total), "the whole body")


def test_a_slow_origin_stops_the_client(t):
    release = threading.Event()
    total = 64 << 20

    def script(conn):
        request = conn.request(body=False)
        release.wait(PATIENCE * 2)
        got = 0
        while got < total:
            got += drop(conn.reader)
        conn.reply(body=request.method.encode())
        conn.gone()
    sidecar = t.sidecar(t.origin(script, receive_buffer=65536))
    before = sidecar.rss_kib()
    with sidecar.client() as client:
        client.send(make_request("/up", "POST", [("Content-Length", str(total))]))
        client.sock.settimeout(0.5)
        sent = 0
        try:
            while sent < total:
                sent += client.sock.send(bytes(min(65536, total - sent)))
        except TimeoutError:
            pass
        check(sent < total // 2, "%d of %d bytes were taken though the origin reads none" % (sent, total))
        if not sanitized():
            check(peak_growth(sidecar, before) < 4096, "%d KiB held" % peak_growth(sidecar, before))
        release.set()
        client.send(bytes(total - sent))
        equal(client.response("POST").body, b"POST", "answer")


def taken(sidecar, client):
    """Has the sidecar read all that the client has sent, or all that it will for now? The kernel shows what lies unread."""
    port = client.sock.getsockname()[1]
    with open("/proc/%d/net/tcp" % sidecar.pid) as table:
        for row in (line.split() for line in table.readlines()[1:]):
            if int(row[2].rpartition(":")[2], 16) == port and int(row[1].rpartition(":")[2], 16) == sidecar.address[1]:
                return row[3] == "08" and int(row[4].rpartition(":")[2], 16) <= 1     # its end has come; it counts as a byte
    return True


def test_9112_9_6_a_half_close_behind_a_body_that_has_to_wait(t):
    """The end of the client's side is read while a part of its body is still kept here, because no connection is free or the
    origin is slow: the whole request goes on all the same, and is answered."""
    for name, most in [("no connection is free", 1), ("a slow origin", 10)]:
        release = threading.Event()

        def serve(conn):
            while True:
                request = conn.request(body=False)
                check(release.wait(PATIENCE), "the release")
                read_body(conn.reader, request)
                conn.reply(body=b"%d" % len(request.body))
        origin = t.origin(serve, receive_buffer=8192)
        sidecar = t.sidecar(origin, {"retry.max_buffered_body": 0, "pool.max_size": most})
        for size in list(range(70000, 190000, 8000)) + ([4208000, 4236000, 4250000, 4271000, 4299000] if name == "a slow origin" else []):
            with t.case("%s, %d bytes" % (name, size)), sidecar.client() as before, sidecar.client() as client:
                release.clear()
                seen = origin.count()
                before.send(make_request("/before"))
                origin.wait_requests(seen + 1)
                sender = t.thread(lambda: client.send(make_request("/body", "POST", body=b"x" * size)).half_close())
                if size < 150000:
                    wait_for(lambda: taken(sidecar, client), "the sidecar to read")
                release.set()
                equal(client.response("POST").body, b"%d" % size, "bytes that reached the origin")
                client.closed()
                sender.result()
                equal(before.response().body, b"0", "the answer before")


def test_a_client_that_never_reads_is_given_up(t):
    """listen.idle_timeout holds for a client that stands still while its answer waits."""
    origin = t.origin()

    def pour(conn, _):
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (1 << 30))
        pour_blocks(conn, 1 << 14, bytes(65536))
    origin.on["/pour"] = pour
    sidecar = t.sidecar(origin, {"listen.idle_timeout": "500ms"})
    client = t.client(sidecar, receive_buffer=4096)
    client.send(make_request("/pour"))
    origin.wait_requests(1)
    wait_for(lambda: not origin.connections[0].open, "the upstream connection to be closed")


def test_response_timeout_is_504(t):
    origin = t.origin()
    origin.on["/never"] = lambda conn, request: (conn.gone(), False)[1]
    origin.on["/interim"] = lambda conn, request: (conn.send(b"HTTP/1.1 103 Early Hints\r\n\r\n"), conn.gone(), False)[2]
    sidecar = t.sidecar(origin, {"upstream.response_timeout": "300ms"})
    for path in ("/never", "/interim"):
        with t.case(path):
            started = time.monotonic()
            response = made_up(sidecar.request(path), 504)
            near(time.monotonic() - started, 0.25, 5, "seconds")
            check("timeout" in response.get("Proxy-Status"), response.get("Proxy-Status"))
            wait_for(lambda: not origin.alive(), "the upstream connection to be closed")
    equal(sidecar.request("/good").status, 200, "the next status")


def test_response_timeout_does_not_count_the_upload(t):
    """The clock for the answer runs from the end of the request."""
    origin = t.origin()
    sidecar = t.sidecar(origin, {"upstream.response_timeout": "300ms"})
    with sidecar.client() as client:
        client.send(make_request("/", "POST", [("Content-Length", "8")]))
        for _ in range(8):
            client.send(b"x")
            time.sleep(0.1)             # the pace of the client is what is tested
        equal(client.response("POST").status, 200, "status")


def test_stream_idle_timeout_cuts_a_body_that_stands_still(t):
    origin = t.origin()
    for name, start in [("length", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"), ("chunked", CHUNKED_HEAD + as_chunk(b"abc")), ("until close", b"HTTP/1.1 200 OK\r\n\r\nabc")]:
        with t.case(name):
            origin.on["/stall"] = lambda conn, request, s=start: (conn.send(s), conn.gone(), False)[2]
            sidecar = t.sidecar(origin, {"upstream.stream_idle_timeout": "300ms"})
            with sidecar.client() as client:
                client.send(make_request("/stall"))
                cut = broken(client)
                check(cut is None or cut.body in (b"", b"abc"), "body %r" % cut)
            wait_for(lambda: not origin.alive(), "the upstream connection to be closed")


def test_pain_16_the_three_timers_are_apart(t):
    """A first token later than stream_idle_timeout, and a stream longer than response_timeout, both pass."""
    origin = t.origin()

    def late(conn, _):
        time.sleep(0.6)                 # the origin's pace is what is tested, here and below
        conn.reply(body=b"late")

    def long(conn, _):
        conn.send(SSE_HEAD)
        for number in range(10):
            conn.send(as_chunk(b"data: %d\n\n" % number))
            time.sleep(0.1)
        conn.send(b"0\r\n\r\n")
    origin.on["/late"], origin.on["/long"] = late, long
    with t.case("a late first byte"):
        sidecar = t.sidecar(origin, {"upstream.response_timeout": "5s", "upstream.stream_idle_timeout": "200ms", "listen.idle_timeout": "200ms"})
        equal(sidecar.request("/late").body, b"late", "body")
    with t.case("a long stream"):
        sidecar = t.sidecar(origin, {"upstream.response_timeout": "400ms", "upstream.stream_idle_timeout": "5s", "listen.idle_timeout": "400ms", "retry.max_total_time": "400ms"})
        equal(sidecar.request("/long").body.count(b"data:"), 10, "events")


def test_many_streams_at_once(t):
    """50 SSE clients, each with its own events; none gets another's."""
    origin = t.origin()

    def events(conn, request):
        conn.send(SSE_HEAD)
        for number in range(20):
            conn.send(as_chunk(b"data: %s %d\n\n" % (request.target.encode(), number)))
        conn.send(b"0\r\n\r\n")
    for number in range(50):
        origin.on["/s%d" % number] = events
    sidecar = t.sidecar(origin, {"workers": 2, "pool.max_size": 60})
    clients = [t.client(sidecar) for _ in range(50)]
    for number, client in enumerate(clients):
        client.send(make_request("/s%d" % number))
    for number, client in enumerate(clients):
        equal(client.response().body, b"".join(b"data: /s%d %d\n\n" % (number, i) for i in range(20)), "events of client %d" % number)
