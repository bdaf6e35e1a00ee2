"""TLS on both sides (issue 2.4; pain 25): who is believed, what is sent, and certificates that change."""
import os
import signal
import socket
import ssl
import subprocess
import threading

from harness import *


class Authority:
    """A certificate authority of the test's own, made by the openssl command."""

    def __init__(self, t, name="ca"):
        self.folder = os.path.join(t.directory, "pki-" + name)
        os.mkdir(self.folder)
        self.number = 1
        self.key, self.certificate = self.path(name + ".key"), self.path(name + ".pem")
        self.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", self.key, "-out", self.certificate,
                     "-days", "30", "-subj", "/CN=wire test " + name, "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign")

    def path(self, name):
        return os.path.join(self.folder, name)

    def openssl(self, *words):
        try:
            done = subprocess.run(("openssl",) + words, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=False)
        except FileNotFoundError:
            raise Skip("there is no openssl command")
        if done.returncode:
            raise Failed("openssl %s: %s" % (" ".join(words), done.stderr.decode()))

    def issue(self, name, names, days=30):
        """(certificate file, key file) for subjectAltName `names` ("IP:127.0.0.1,DNS:localhost"). days < 0: expired."""
        key, request, certificate, extensions = (self.path(name + end) for end in (".key", ".csr", ".pem", ".ext"))
        self.openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", request, "-subj", "/CN=" + name)
        with open(extensions, "w") as out:
            out.write("subjectAltName=%s\n" % names)
        self.number += 1
        words = ["x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.key, "-out", certificate, "-set_serial", str(self.number), "-extfile", extensions]
        self.openssl(*(words + ["-days", str(days)]))
        for path in (key, certificate):
            os.chmod(path, 0o644)
        return certificate, key

    def server(self, name="server", names="IP:127.0.0.1,DNS:localhost", days=30):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.issue(name, names, days))
        return context


def test_upstream_tls(t):
    authority = Authority(t)
    context = authority.server()
    context.set_alpn_protocols(["http/1.1"])
    origin = t.origin(tls=context)
    sidecar = t.sidecar(origin, {"upstream.tls.ca_file": authority.certificate})
    body = bytes(range(256)) * 4000
    origin.on["/echo"] = lambda conn, request: conn.reply(body=request.body)
    with sidecar.client() as client:
        for _ in range(3):
            equal(client.request("/echo", "POST", body=body).body == body, True, "a mebibyte there and back")
    equal(len(origin.connections), 1, "upstream connections")
    sock = origin.connections[0].sock
    check(sock.version() in ("TLSv1.2", "TLSv1.3"), "version %s" % sock.version())
    check(sock.selected_alpn_protocol() in ("http/1.1", None), "ALPN %s" % sock.selected_alpn_protocol())


def test_9112_9_3_records_right_behind_an_answer(t):
    """More lies in the socket than the answer: the next request, which is there already, is not sent on that connection."""
    evil = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL"
    authority = Authority(t)
    origin = t.origin(tls=authority.server())
    sidecar = t.sidecar(origin, {"upstream.tls.ca_file": authority.certificate, "pool.max_size": 1})
    def more(conn, size):
        conn.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)    # records of one segment: they are there at once
        conn.reply(body=b"x" * size)
        conn.send(evil)
        conn.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
        conn.gone()
        return False
    for size in (2, 16000, 32500, 50000):
        with t.case("%d bytes" % size):
            origin.on["/more"] = lambda conn, request, size=size: more(conn, size)
            with sidecar.client() as client:
                client.send(make_request("/more") + make_request("/next") * 2)
                equal(len(client.response().body), size, "the answer")
                equal([client.response().body for _ in range(2)], [b"ok"] * 2, "the next answers")


def test_upstream_certificates_that_are_refused(t):
    authority, stranger = Authority(t), Authority(t, "stranger")
    rows = [("another authority", stranger.server(), {}), ("another name", authority.server("other", "DNS:other.example"), {}),
            ("another address", authority.server("address", "IP:127.0.0.2"), {}), ("expired", authority.server("old", days=-1), {}),
            ("the system's authorities know nothing of it", authority.server("system"), {"upstream.tls.ca_file": ""}),
            ("server_name that it has not", authority.server("named", "IP:127.0.0.1"), {"upstream.tls.server_name": "api.promptops.ai"})]
    for name, context, config in rows:
        with t.case(name):
            origin = t.origin(tls=context)
            sidecar = t.sidecar(origin, {"upstream.tls.ca_file": authority.certificate, **config})
            response = made_up(sidecar.request("/"), 502)
            check("tls_certificate_error" in response.get("Proxy-Status"), response.get("Proxy-Status"))
            equal(origin.count(), 0, "requests at the origin")
    with t.case("verify: false believes it all the same"):
        origin = t.origin(tls=stranger.server("again"))
        equal(t.sidecar(origin, {"upstream.tls.verify": False}).request("/").status, 200, "status")


def test_upstream_server_name(t):
    """SNI: the setting, else the URL's name; none for an address."""
    authority = Authority(t)
    seen = []

    def contexts(names):
        context = authority.server("sni%d" % len(seen), names)
        context.sni_callback = lambda sock, name, ctx: seen.append(name)
        return context
    for name, url, config, wanted in [("setting", None, {"upstream.tls.server_name": "api.promptops.ai"}, "api.promptops.ai"), ("the URL's name", "https://localhost:%d", {}, "localhost"),
                                      ("an address has none", None, {}, None)]:
        with t.case(name):
            origin = t.origin(tls=contexts("IP:127.0.0.1,DNS:localhost,DNS:api.promptops.ai"))
            sidecar = t.sidecar(url % origin.port if url else origin.url, {"upstream.tls.ca_file": authority.certificate, **config})
            equal(sidecar.request("/").status, 200, "status")
            equal(seen[-1], wanted, "server name in the handshake")


def test_upstream_client_certificate(t):
    authority = Authority(t)
    context = authority.server()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority.certificate)
    origin = t.origin(tls=context)
    certificate, key = authority.issue("sidecar", "DNS:sidecar")
    with t.case("shown"):
        sidecar = t.sidecar(origin, {"upstream.tls.ca_file": authority.certificate, "upstream.tls.certificate_file": certificate, "upstream.tls.key_file": key})
        equal(sidecar.request("/").status, 200, "status")
        subject = origin.connections[-1].sock.getpeercert()["subject"]
        equal(subject, ((("commonName", "sidecar"),),), "subject")
    with t.case("missing"):
        sidecar = t.sidecar(origin, {"upstream.tls.ca_file": authority.certificate})
        made_up(sidecar.request("/"), 502)


def test_upstream_min_version(t):
    authority = Authority(t)
    context = authority.server()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    origin = t.origin(tls=context)
    config = {"upstream.tls.ca_file": authority.certificate}
    equal(t.sidecar(origin, config).request("/").status, 200, "status with 1.2 allowed")
    made_up(t.sidecar(origin, {**config, "upstream.tls.min_version": "1.3"}).request("/"), 502)


def test_upstream_sessions_are_resumed(t):
    authority = Authority(t)
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        with t.case(version.name):
            context = authority.server(version.name)
            context.maximum_version = version
            reused = []

            def script(conn, reused=reused):
                conn.request()
                reused.append(conn.sock.session_reused)
                conn.reply(fields=[("Connection", "close")])
            origin = t.origin(script, tls=context)
            sidecar = t.sidecar(origin, {"upstream.tls.ca_file": authority.certificate})
            for _ in range(4):
                equal(sidecar.request("/").status, 200, "status")
            check(any(reused[1:]), "no session was resumed: %r" % reused)


def test_an_upstream_that_speaks_no_tls(t):
    origin = t.origin(lambda conn: (conn.send(b"HTTP/1.1 400 Bad Request\r\n\r\n"), conn.gone()))
    sidecar = t.sidecar("https://127.0.0.1:%d" % origin.port)
    response = made_up(sidecar.request("/"), 502)
    check("tls" in response.get("Proxy-Status"), response.get("Proxy-Status"))


def test_an_upstream_that_never_ends_its_handshake(t):
    origin = t.origin(lambda conn: conn.gone())
    sidecar = t.sidecar("https://127.0.0.1:%d" % origin.port, {"upstream.connect_timeout": "300ms"})
    made_up(sidecar.request("/"), 504)


def test_a_body_until_close_needs_a_close_notify(t):
    """Without it somebody may have cut the connection: the client must see a broken answer (RFC 9112 9.8)."""
    authority = Authority(t)
    for name, polite in [("with", True), ("without", False)]:
        with t.case(name):
            def script(conn, polite=polite):
                conn.request()
                conn.send(b"HTTP/1.1 200 OK\r\n\r\nhello")
                if polite:
                    conn.sock.settimeout(PATIENCE)
                    try:
                        conn.sock.unwrap().close()
                    except OSError:
                        conn.sock.close()
                    conn.open = False
                else:
                    raw = socket.socket(fileno=conn.sock.detach())
                    raw.shutdown(socket.SHUT_RDWR)
                    raw.close()
                    conn.open = False
            origin = t.origin(script, tls=authority.server(name))
            sidecar = t.sidecar(origin, {"upstream.tls.ca_file": authority.certificate})
            with sidecar.client() as client:
                client.send(make_request("/"))
                if polite:
                    equal(client.response().body, b"hello", "body")
                else:
                    try:
                        equal(client.response().status, 502, "status of a complete answer")
                    except Gone:
                        pass


def listening(t, authority, config=None, names="IP:127.0.0.1,DNS:localhost"):
    certificate, key = authority.issue("listen", names)
    return t.sidecar(t.origin(), {"listen.tls.certificate_file": certificate, "listen.tls.key_file": key, **(config or {})})


def tls_client(sidecar, authority, certificate=None):
    context = ssl.create_default_context(cafile=authority.certificate)
    if certificate:
        context.load_cert_chain(*certificate)
    sock = socket.create_connection(sidecar.address, PATIENCE)
    return context.wrap_socket(sock, server_hostname="localhost")


def ask(sock, target="/", body=None):
    sock.sendall(make_request(target, "POST" if body else "GET", (), body))
    return read_response(Reader(sock))


def test_listening_with_tls(t):
    authority = Authority(t)
    sidecar = listening(t, authority)
    with tls_client(sidecar, authority) as sock:
        for _ in range(3):
            equal(ask(sock, body=b"x" * 500000).status, 200, "status")
    with t.case("plain HTTP on that port"):
        with sidecar.client() as client:
            client.send_if_open(make_request("/"))
            left = client.reader.rest()
            check(b"200 OK" not in left, "it was served: %r" % left)
    with t.case("a handshake that never ends"):
        sidecar = listening(t, Authority(t, "two"), {"listen.header_timeout": "300ms"})
        with sidecar.client() as client:
            client.send(b"\x16\x03\x01")
            client.closed()
    with t.case("many bytes of nonsense"):
        with sidecar.client() as client:
            client.send_if_open(b"\x16\x03\x01\x40\x00" + os.urandom(50000))
            client.reader.rest()
        check(sidecar.alive(), "it ended")


def handshake(sidecar, authority, alpn=None, name="localhost", most=None):
    """(ALPN chosen, status of a request), or the error."""
    context = ssl.create_default_context(cafile=authority.certificate)
    context.check_hostname = False
    if alpn:
        context.set_alpn_protocols(alpn)
    if most:
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, most
    try:
        with context.wrap_socket(socket.create_connection(sidecar.address, PATIENCE), server_hostname=name) as sock:
            return sock.selected_alpn_protocol(), ask(sock).status
    except (ssl.SSLError, ConnectionResetError) as error:
        return error


def test_9110_7_8_the_end_of_a_tunnel_passes_through_tls(t):
    """An application that dies leaves no tunnel behind: TLS on either side hears of the end, and may have the last word."""
    authority = Authority(t)

    def script(conn):
        conn.request()
        conn.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        conn.sock.suppress_ragged_eofs = False
        conn.send(b"got " + conn.gone())
    asked = make_request("/ws", fields=[("Connection", "Upgrade"), ("Upgrade", "websocket")])
    with t.case("upstream"):
        origin = t.origin(script, tls=authority.server())
        sidecar = t.sidecar(origin, {"upstream.tls.ca_file": authority.certificate})
        with sidecar.client() as client:
            equal(client.send(asked).response().status, 101, "status")
            client.send(b"abc").half_close()
            equal(client.exactly(7), b"got abc", "what the origin had to say")
            client.closed()
        equal(origin.connections[0].reader.ended, "eof", "end at the origin")
    with t.case("client"):
        certificate, key = authority.issue("listen", "DNS:localhost")
        ends = threading.Event()

        def close_first(conn):
            conn.request()
            conn.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nbye")
            conn.half_close()
            ends.wait(PATIENCE)
        sidecar = t.sidecar(t.origin(close_first), {"listen.tls.certificate_file": certificate, "listen.tls.key_file": key})
        with tls_client(sidecar, authority) as sock:
            sock.suppress_ragged_eofs = False
            sock.sendall(asked)
            reader = Reader(sock)
            equal(read_response(reader).status, 101, "status")
            equal((reader.rest(), reader.ended), (b"bye", "eof"), "what follows")
        ends.set()


def test_7301_3_2_what_a_client_may_offer(t):
    """ALPN: http/1.1 or none; who speaks others only is told so, and served nothing. Any server name; TLS 1.2 at least."""
    authority = Authority(t)
    sidecar = listening(t, authority)
    for name, more, wanted in [("http/1.1", {"alpn": ["http/1.1"]}, ("http/1.1", 200)), ("h2 and http/1.1", {"alpn": ["h2", "http/1.1"]}, ("http/1.1", 200)),
                               ("none", {}, (None, 200)), ("another server name", {"name": "api.promptops.ai"}, (None, 200)), ("no server name", {"name": None}, (None, 200)),
                               ("TLS 1.2", {"most": ssl.TLSVersion.TLSv1_2}, (None, 200))]:
        with t.case(name):
            equal(handshake(sidecar, authority, **more), wanted, "protocol and status")
    for name, more in [("h2 only", {"alpn": ["h2"]}), ("nonsense", {"alpn": ["x"]}), ("TLS 1.1", {"most": ssl.TLSVersion.TLSv1_1})]:
        with t.case(name):
            check(isinstance(handshake(sidecar, authority, **more), Exception), "it was served")


def test_9112_9_6_a_refusal_over_tls_is_seen_whole(t):
    """The answer, a close_notify, and no reset, whatever else the client sends; nothing is forwarded."""
    authority = Authority(t)
    origin = t.origin()
    certificate, key = authority.issue("listen", "DNS:localhost")
    sidecar = t.sidecar(origin, {"listen.tls.certificate_file": certificate, "listen.tls.key_file": key})
    for data, status in [(b"GET / HTTP/1.1\r\n\r\n", 400), (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505), (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
                         (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", 400), (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 100000, 431)]:
        with t.case("%r" % data[:50]), tls_client(sidecar, authority) as sock:
            sock.suppress_ragged_eofs = False
            sender = t.thread(send_over, sock, data + b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n" * 1000)
            reader = Reader(sock)
            equal(read_response(reader).status, status, "status")
            equal((reader.rest(), reader.ended), (b"", "eof"), "what follows")
            sender.result()
    equal(origin.count(), 0, "requests at the origin")


def send_over(sock, data):
    try:
        sock.sendall(data)
    except OSError:
        pass


def test_listening_wants_a_client_certificate(t):
    authority, stranger = Authority(t), Authority(t, "stranger")
    sidecar = listening(t, authority, {"listen.tls.client_ca_file": authority.certificate})
    with tls_client(sidecar, authority, authority.issue("client", "DNS:client")) as sock:
        equal(ask(sock).status, 200, "status with a good certificate")
    for name, certificate in [("none", None), ("a stranger's", stranger.issue("client", "DNS:client"))]:
        with t.case(name):
            try:
                with tls_client(sidecar, authority, certificate) as sock:
                    check(ask(sock).status != 200, "it was served")
            except (OSError, Gone):
                pass


def serial(sock):
    return sock.getpeercert()["serialNumber"]


def test_pain_25_a_renewed_certificate_is_picked_up(t):
    """By HUP and by the changed file alone; connections that are open stay so."""
    authority = Authority(t)
    certificate, key = authority.issue("listen", "DNS:localhost")
    sidecar = t.sidecar(t.origin(), {"listen.tls.certificate_file": certificate, "listen.tls.key_file": key})
    kept = tls_client(sidecar, authority)
    first = serial(kept)
    equal(ask(kept).status, 200, "status")
    for name, hup in [("HUP", True), ("changed files", False)]:
        with t.case(name):
            with tls_client(sidecar, authority) as sock:
                before = serial(sock)
            new_certificate, new_key = authority.issue("new", "DNS:localhost")
            os.rename(new_key, key)
            os.rename(new_certificate, certificate)
            if hup:
                sidecar.signal(signal.SIGHUP)

            def renewed(before=before):
                try:
                    with tls_client(sidecar, authority) as sock:
                        return serial(sock) != before
                except ssl.SSLError:
                    return False
            wait_for(renewed, "the new certificate")
            equal(ask(kept).status, 200, "status on the connection that stayed")
    check(serial(kept) == first, "the old connection's certificate")
    with t.case("a broken one is not taken"):
        with tls_client(sidecar, authority) as sock:
            before = serial(sock)
        with open(certificate + ".bad", "w") as out:
            out.write("not a certificate")
        os.rename(certificate + ".bad", certificate)
        lines = len(sidecar.log)
        sidecar.signal(signal.SIGHUP)
        wait_for(lambda: len(sidecar.log) > lines, "the log to speak")
        with tls_client(sidecar, authority) as sock:
            equal(serial(sock), before, "certificate")
    kept.close()


def test_pain_25_a_renewed_authority_of_the_upstream(t):
    one, two = Authority(t), Authority(t, "two")
    path = os.path.join(t.directory, "ca.pem")
    with open(one.certificate) as source, open(path, "w") as out:
        out.write(source.read())
    origin = t.origin(tls=two.server())
    sidecar = t.sidecar(origin, {"upstream.tls.ca_file": path})
    made_up(sidecar.request("/"), 502)
    with open(two.certificate) as source, open(path + ".new", "w") as out:
        out.write(source.read())
    os.rename(path + ".new", path)
    sidecar.signal(signal.SIGHUP)
    wait_for(lambda: sidecar.request("/").status == 200, "the new authority")


def test_tls_on_both_sides_under_load(t):
    authority = Authority(t)
    origin = t.origin(tls=authority.server())
    certificate, key = authority.issue("listen", "DNS:localhost")
    sidecar = t.sidecar(origin, {"listen.tls.certificate_file": certificate, "listen.tls.key_file": key, "upstream.tls.ca_file": authority.certificate, "workers": 2, "pool.max_size": 10})

    def many():
        with tls_client(sidecar, authority) as sock:
            return {ask(sock, "/%d" % n, b"y" * 20000).status for n in range(20)}
    threads = [t.thread(many) for _ in range(8)]
    for thread in threads:
        equal(thread.result(), {200}, "statuses")
    equal(origin.count(), 160, "requests at the origin")


def test_a_stream_over_tls_is_flushed_and_stopped(t):
    authority = Authority(t)
    turn = threading.Semaphore(0)

    def script(conn):
        conn.request()
        conn.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number in range(5):
            conn.send(b"1\r\n%d\r\n" % number)
            turn.acquire(timeout=PATIENCE)
        conn.send(b"0\r\n\r\n")
        conn.gone()
    origin = t.origin(script, tls=authority.server())
    sidecar = t.sidecar(origin, {"upstream.tls.ca_file": authority.certificate})
    with sidecar.client() as client:
        client.send(make_request("/"))
        response = client.head()
        for number in range(5):
            equal(client.chunk(response), b"%d" % number, "chunk")
            turn.release()
        equal(client.chunk(response), None, "end")
