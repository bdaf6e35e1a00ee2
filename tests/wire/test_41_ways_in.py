"""Ways in and narrow places (issue 2.8, 2.9): unix socket, redirected connections, read-only root, any user."""
import os
import socket
import stat

from harness import *


def test_unix_socket_listener(t):
    path = os.path.join(t.directory, "sidecar.sock")
    origin = t.origin()
    sidecar = t.sidecar(origin, {"listen.address": "unix:" + path})
    equal(sidecar.address, path, "address in the log")
    check(stat.S_ISSOCK(os.stat(path).st_mode), "no socket at the path")
    with sidecar.client() as client:
        for number in range(3):
            equal(client.request("/%d" % number, "POST", body=b"x" * 100000).status, 200, "status")
    equal([len(r.body) for r in origin.requests], [100000] * 3, "bodies at the origin")


def test_unix_socket_left_behind_is_replaced(t):
    path = os.path.join(t.directory, "sidecar.sock")
    first = t.sidecar(t.origin(), {"listen.address": "unix:" + path})
    first.kill()
    first.exit_code = 0                 # killed on purpose: its socket file stays
    check(os.path.exists(path), "the file that a crash leaves behind")
    second = t.sidecar(t.origin(), {"listen.address": "unix:" + path})
    equal(second.request("/").status, 200, "status")


def test_unix_socket_in_use_is_not_taken_away(t):
    path = os.path.join(t.directory, "sidecar.sock")
    first = t.sidecar(t.origin(), {"listen.address": "unix:" + path})
    code, _, errors = run_once(["--upstream", "http://127.0.0.1:1", "--listen", "unix:" + path, "--admin", "127.0.0.1:0"])
    equal(code, 1, "exit code")
    check(path in errors, "message: %r" % errors[-300:])
    equal(first.request("/").status, 200, "status of the first")


def test_unix_socket_path_too_long_is_said(t):
    code, _, errors = run_once(["--upstream", "http://127.0.0.1:1", "--listen", "unix:/" + "x" * 200, "--admin", "127.0.0.1:0"])
    check(code in (1, 2), "exit code %d" % code)
    check("107 bytes" in errors, "message: %r" % errors[-300:])
    del t


def test_listening_on_ipv6(t):
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError as error:
            raise Skip("no IPv6 loopback: %s" % error)
    sidecar = t.sidecar(t.origin(), {"listen.address": "[::1]:0"})
    equal(sidecar.address[0], "::1", "host in the log")
    with socket.create_connection(sidecar.address, PATIENCE) as sock:
        sock.sendall(make_request("/", host="[::1]:%d" % sidecar.address[1]))
        equal(read_response(Reader(sock)).status, 200, "status")


def needs_root():
    if os.geteuid() != 0:
        raise Skip("only root can become somebody else")


def readable_binary():
    """Somebody else must be able to reach the binary."""
    path = BINARY
    while path != "/":
        path = os.path.dirname(path)
        if not os.stat(path).st_mode & stat.S_IXOTH:
            raise Skip("%s is closed to other users" % path)


DROPPED = ["setpriv", "--reuid", "54321", "--regid", "54321", "--clear-groups", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]


def test_transparent_redirect(t):
    """Connections meant for the API's own address are turned to the sidecar by iptables, all but the sidecar's own."""
    needs_root()
    readable_binary()
    in_new_namespace("net")
    command_or_skip("ip", "addr", "add", "10.203.0.1/32", "dev", "lo")
    command_or_skip("ip", "addr", "add", "10.203.0.2/32", "dev", "lo")
    command_or_skip(*DROPPED, "true")
    origin, other = t.origin(host="10.203.0.1"), t.origin(host="10.203.0.2")
    sidecar = t.sidecar(origin, {"listen.transparent": True}, wrapper=DROPPED)
    for target in (origin, other):
        command_or_skip("iptables", "-t", "nat", "-A", "OUTPUT", "-p", "tcp", "-d", target.host, "--dport", str(target.port), "-m", "owner", "!", "--uid-owner", "54321",
                        "-j", "REDIRECT", "--to-ports", str(sidecar.address[1]))
    with t.case("for the upstream's address"):
        with RawClient((origin.host, origin.port)) as client:
            for number in range(3):
                response = client.request("/%d" % number, host="api.promptops.ai")
                equal((response.status, response.body), (200, b"ok"), "answer to a redirected connection")
        check(origin.last().has("Via"), "it did not pass the sidecar")
        equal(origin.last().get("Host"), "%s:%d" % (origin.host, origin.port), "Host at the origin")
    with t.case("for another address: no open proxy, and no answer in its name"):
        before = origin.count()
        with RawClient((other.host, other.port)) as client:
            equal(client.request("/", host="other.example").status, 421, "status")
        equal((origin.count() - before, len(other.connections)), (0, 0), "requests at the origin, connections to the other")
    with t.case("on a connection that was not redirected"):
        equal(sidecar.request("/direct").status, 200, "status")


def test_an_arbitrary_user_without_privileges(t):
    needs_root()
    readable_binary()
    command_or_skip(*DROPPED, "true")
    sidecar = t.sidecar(t.origin(), wrapper=DROPPED)
    with open("/proc/%d/status" % sidecar.pid) as status:
        text = status.read()
    check("Uid:\t54321\t54321\t54321\t54321" in text and "CapEff:\t0000000000000000" in text, "it runs as somebody else:\n" + text)
    equal(sidecar.request("/").status, 200, "status")


def test_a_read_only_root(t):
    """No file is written: a read-only root, an unknown user, no home, an empty environment."""
    needs_root()
    readable_binary()
    in_new_namespace("mnt")
    origin = t.origin()
    command_or_skip(*DROPPED, "true")
    read_only = ["unshare", "--mount", "--propagation", "private", "sh", "-c", "mount --bind / / && mount -o remount,ro,bind / && exec \"$@\"", "sh"]
    command_or_skip(*read_only, "true")
    sidecar = t.sidecar(origin, {"cache.enabled": True}, wrapper=read_only + ["env", "-i"] + DROPPED)
    equal(sidecar.request("/").status, 200, "status")
    equal(sidecar.admin("/health/ready")[0], 200, "ready")


def test_started_with_descriptors_closed(t):
    """Standard input closed, as some supervisors leave it."""
    sidecar = t.sidecar(t.origin(), preexec=lambda: os.close(0))
    equal(sidecar.request("/").status, 200, "status")


def test_connect_to_another_address_than_the_urls(t):
    """The name in Host stays that of upstream.url: in a pod whose hosts file leads that name to the sidecar itself."""
    origin = t.origin()
    sidecar = t.sidecar("http://api.example.invalid", {"upstream.connect_to": "127.0.0.1:%d" % origin.port})
    equal(sidecar.request("/").status, 200, "status")
    equal(origin.requests[0].get("Host"), "api.example.invalid", "Host")
