"""What is measured: how each subject is configured and started. Configurations are made in the bench's own folder."""

import os
import shutil
import subprocess

from measure import BenchError, free_port

MAX_CONNECTIONS = 12000


class Origin:
    """promptops-origin on the load's processor, plain or with TLS."""

    def __init__(self, bench, name="origin", tls=False):
        command = [bench.tool("promptops-origin"), "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", "--no-auth"]
        if tls:
            command += ["--tls-cert", bench.certificate(), "--tls-key", bench.path("key.pem")]
        self.tls = tls
        self.process = bench.processes.start(name, command, bench.load_cpus, stdout=subprocess.PIPE)
        self.control = bench.processes.listening_line(self.process, "control on ")
        self.address = bench.processes.listening_line(self.process)


class Subject:
    """One program under measurement. `cached`: with its cache on."""

    name = "?"
    program = "?"
    in_tree = False  # built by us: missing means not built

    def __init__(self, bench, origin, cached=False, workers=1):
        self.bench, self.origin, self.cached, self.workers = bench, origin, cached, workers
        self.label = "%s%s%s%s" % (
            self.name,
            "-cache" if cached else "",
            "-tls" if origin and origin.tls else "",
            "-%d" % workers if workers > 1 else "",
        )

    @classmethod
    def found(cls, bench):
        if cls.in_tree:
            path = bench.tool(cls.program)
            return path if os.access(path, os.X_OK) else None
        return shutil.which(cls.program) or shutil.which(cls.program, path="/usr/sbin:/usr/local/sbin")

    def start(self):
        self.address = "127.0.0.1:%d" % free_port()
        command = self.command(self.found(self.bench))
        self.process = self.bench.processes.start(
            self.label, command, self.bench.subject_cpus, stdout=self.output(), stdin=subprocess.DEVNULL
        )
        self.started()
        self.bench.processes.wait_ready(self.process, self.address, self.ready_path())
        return self

    def stop(self):
        self.bench.processes.stop(self.process)

    def output(self):
        return subprocess.DEVNULL

    def started(self):
        pass

    def ready_path(self):
        return "/bytes/1"

    def path(self, size):
        return "/cacheable/%d?max-age=3600" % size if self.cached else "/bytes/%d" % size

    def write(self, suffix, text):
        path = self.bench.path(self.label + suffix)
        with open(path, "w") as f:
            f.write(text)
        return path


class Null(Subject):
    """The do-nothing server; a size each."""

    name, program, in_tree = "bench-null", "bench-null", True

    def __init__(self, bench, size):
        super().__init__(bench, None)
        self.size = size
        self.label = "bench-null-%d" % size

    def command(self, program):
        return [program, "--listen", self.address, "--bytes", str(self.size)]


class Forward(Subject):
    name, program, in_tree = "bench-forward", "bench-forward", True

    def command(self, program):
        return [program, "--listen", self.address, "--upstream", self.origin.address]


class Sidecar(Subject):
    name, program, in_tree = "promptops-sidecar", "promptops-sidecar", True

    def command(self, program):
        upstream = "  url: %s://%s\n" % (
            "https" if self.origin.tls else "http",
            "localhost:" + self.origin.address.rsplit(":", 1)[1] if self.origin.tls else self.origin.address,
        )
        if self.origin.tls:
            upstream += "  tls: {ca_file: %s}\n" % self.bench.certificate()
        config = (
            "workers: %d\n" % self.workers
            + "log: {level: warn, access: false}\n"  # as access_log off
            + "listen: {address: %s, max_connections: %d}\n" % (self.address, MAX_CONNECTIONS)
            + "admin: {address: 127.0.0.1:%d}\n" % free_port()
            + "upstream:\n"
            + upstream
            + "pool: {max_size: 64}\n"
            + "cache: {enabled: %s}\n" % ("true" if self.cached else "false")
            + "preset: none\n"
        )
        return [program, "--config", self.write(".yaml", config)]


class Nginx(Subject):
    name, program = "nginx", "nginx"

    def command(self, program):
        folder = self.bench.path(self.label)
        os.makedirs(folder, exist_ok=True)
        temporary = "".join(
            "  %s_temp_path %s/%s;\n" % (kind, folder, kind) for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        cache = (
            "  proxy_cache_path %s/cache levels=1:2 keys_zone=z:10m max_size=1g inactive=60m use_temp_path=off;\n" % folder
            + "  open_file_cache max=1000 inactive=60m;\n"
            if self.cached
            else ""
        )
        tls = (
            "      proxy_ssl_trusted_certificate %s; proxy_ssl_verify on; proxy_ssl_name localhost;\n"
            "      proxy_ssl_server_name on; proxy_ssl_session_reuse on;\n" % self.bench.certificate()
            if self.origin.tls
            else ""
        )
        config = (
            ("user root;\n" if os.geteuid() == 0 else "")
            + "daemon off; worker_processes %d; error_log stderr error; pid %s/pid;\n" % (self.workers, folder)
            + "worker_rlimit_nofile 20000;\n"
            + "events { worker_connections 16000; }\n"
            + "http {\n  access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000;\n"
            + "  keepalive_timeout 1h; proxy_buffers 16 16k; proxy_max_temp_file_size 0;\n"
            + temporary
            + cache
            + "  upstream origin { server %s; keepalive 64; keepalive_requests 1000000000; }\n" % self.origin.address
            + "  server {\n    listen %s%s;\n    location / {\n" % (self.address, " reuseport" if self.workers > 1 else "")
            + "      proxy_pass %s://origin; proxy_http_version 1.1; proxy_set_header Connection '';\n"
            % ("https" if self.origin.tls else "http")
            + ("      proxy_cache z;\n" if self.cached else "")
            + tls
            + "    }\n  }\n}\n"
        )
        return [program, "-p", folder, "-e", "stderr", "-c", self.write(".conf", config)]


class Haproxy(Subject):
    name, program = "haproxy", "haproxy"

    def command(self, program):
        tls = " ssl verify required ca-file %s sni str(localhost)" % self.bench.certificate() if self.origin.tls else ""
        config = (
            "global\n  no strict-limits\n  nbthread %d\n  maxconn %d\n" % (self.workers, MAX_CONNECTIONS)
            + "defaults\n  mode http\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n  http-reuse always\n"
            + ("cache c\n  total-max-size 64\n  max-object-size 600000\n  max-age 3600\n" if self.cached else "")
            + "frontend f\n  bind %s\n  default_backend b\n" % self.address
            + "backend b\n"
            + ("  http-request cache-use c\n  http-response cache-store c\n" if self.cached else "")
            + "  server o %s%s\n" % (self.origin.address, tls)
        )
        return [program, "-db", "-f", self.write(".cfg", config)]


RIVALS = [Sidecar, Nginx, Haproxy]


def available(bench, wanted):
    """The rivals that are there; what is missing is said once."""
    found = []
    for rival in RIVALS:
        if wanted and rival.name not in wanted:
            continue
        if rival.found(bench):
            found.append(rival)
        else:
            bench.say("%s is missing%s: skipped" % (rival.name, " (not built)" if rival.in_tree else ""))
    for tool in ("bench-null", "bench-forward", "bench-load", "promptops-origin"):
        if not os.access(bench.tool(tool), os.X_OK):
            raise BenchError("%s is missing: `make bench-tools all` builds it" % bench.tool(tool))
    return found
