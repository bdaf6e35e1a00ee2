#!/usr/bin/python3
"""The Debian package on a Debian that is really booted: make test-deploy.

    tests/deploy/test_system.py      programs from $BUILD (build)

A root made by mmdebstrap with systemd and what the package depends on, booted by systemd-nspawn without a network; in it the
package is installed, used, reloaded, restarted and upgraded under load, removed and purged. The stages follow one another on one
machine: the first that fails ends it. Needs root, systemd-container, mmdebstrap, lintian (group `deploy` of packages.txt).
"""
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

from kubelet import run

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
BUILD = os.path.join(ROOT, os.environ.get("BUILD", "build"))
PROMPT = "/v1/client/prompts/prompt-1"
SERVICE, SOCKETS = "promptops-sidecar.service", ("promptops-sidecar.socket", "promptops-sidecar-admin.socket")
KEYS = ("po_demoDemo0000000000000001", "po_demoDemo0000000000000002")
CONFIG = """
upstream: {url: "http://127.0.0.1:8000"}
listen: {address: "127.0.0.1:8080"}
admin: {address: "127.0.0.1:9901"}
auth: {scheme: bearer, api_key_file: /run/credentials/promptops-sidecar.service/api-key}
cache: {max_size: %d}
performance: {history_file: /var/lib/promptops-sidecar/history}
"""


def wait_for(condition, what, seconds=60):
    end = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < end, "waited in vain for %s" % what
        time.sleep(0.05)


class Machine:
    """Debian in a container of systemd-nspawn: its files below self.root, its commands by inside()."""

    def __init__(self, root):
        self.root = root
        self.log = open(root + ".log", "w+")
        # Locked memory (the keys) is denied in such a container unless asked for; on a real machine the unit alone decides.
        self.nspawn = subprocess.Popen(["systemd-nspawn", "-q", "-D", root, "--private-network", "--register=no", "--keep-unit", "--console=pipe",
                                        "--system-call-filter=@memlock", "-b"], stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        try:
            self.leader = wait_for(self.find_leader, "systemd-nspawn to start\n" + self.said())
            wait_for(lambda: self.inside("systemctl", "is-system-running", check=False).stdout.strip() in ("running", "degraded"), "systemd to boot")
        except AssertionError:
            print(self.said())
            self.stop()
            raise
        run("nsenter", "-t", self.leader, "-n", "ip", "link", "set", "lo", "up")

    def find_leader(self):
        assert self.nspawn.poll() is None, "systemd-nspawn: " + self.said()
        return subprocess.run(["pgrep", "-P", str(self.nspawn.pid)], capture_output=True, text=True).stdout.split("\n")[0]

    def said(self):
        self.log.flush()
        with open(self.log.name) as text:
            return text.read()[-3000:]

    def inside(self, *words, **more):
        return run("nsenter", "-t", self.leader, "-a", "-r", "-w", *words, **more)

    def systemctl(self, *words, **more):
        return self.inside("systemctl", "--no-pager", *words, **more).stdout.strip()

    def property(self, name, unit=SERVICE):
        return self.systemctl("show", "-p", name, "--value", unit)

    def journal(self):
        return self.inside("journalctl", "-b", "-u", SERVICE, "-o", "cat", "--no-pager").stdout

    def write(self, path, text, mode=0o644):
        full = self.root + path
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "w") as out:
            out.write(text)
        os.chmod(full, mode)

    def curl(self, url, *words, check=True):
        """(status, body) of a request from inside."""
        done = run("nsenter", "-t", self.leader, "-n", "curl", "-s", "-m", "20", "-w", "\n%{http_code}", *words, url, check=check)
        body, _, status = done.stdout.rpartition("\n")
        return int(status), body

    def proxied(self):
        return self.curl("http://127.0.0.1:8080" + PROMPT)

    def load(self):
        return subprocess.Popen(["nsenter", "-t", self.leader, "-n", sys.executable, os.path.join(HERE, "load.py"), "127.0.0.1", "8080", PROMPT],
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def served(self):
        return float(re.search(r"^promptops_requests_total\S* (\d+)", self.curl("http://127.0.0.1:9901/metrics")[1], re.M).group(1))

    def stop(self):
        if self.nspawn.poll() is None:
            self.nspawn.send_signal(signal.SIGTERM)
            try:
                self.nspawn.wait(30)
            except subprocess.TimeoutExpired:
                self.nspawn.kill()
                self.nspawn.wait()
        self.log.close()


def ended(load):
    """What the load saw, all of it answered."""
    said = json.loads(load.communicate("")[0])
    assert said["failed"] == 0 and said["served"] > 100, said
    return said


# ---- what is tested on it ---------------------------------------------------------------------------------------


def make_package(directory, version):
    run(os.path.join(ROOT, "deploy", "debian", "build.sh"), version, directory, env={**os.environ, "BUILD": os.path.relpath(BUILD, ROOT)})
    return os.path.join(directory, "promptops-sidecar_%s_%s.deb" % (version, run("dpkg", "--print-architecture").stdout.strip()))


def make_root(directory, package):
    """As a tar beside the build, until what the package depends on changes."""
    depends = [d.split()[0] for d in run("dpkg-deb", "-f", package, "Depends").stdout.strip().split(",")]
    wanted = ",".join(["systemd", "systemd-sysv", "libpam-systemd"] + depends)
    tar = os.path.join(BUILD, "system-root-%s.tar" % hashlib.sha256(wanted.encode()).hexdigest()[:12])
    if not os.path.exists(tar):
        print("  making a Debian root with systemd (about a minute) ...", flush=True)
        run("mmdebstrap", "--variant=minbase", "--dpkgopt=force-unsafe-io", "--include=" + wanted, "bookworm", tar + ".part.tar", timeout=3600)
        os.rename(tar + ".part.tar", tar)
    root = os.path.join(directory, "root")
    os.mkdir(root)
    run("tar", "-C", root, "-xf", tar, timeout=600)
    return root


def stage_lintian_has_nothing_to_say(_, packages):
    said = run("lintian", "--allow-root", "--fail-on", "error,warning", packages[0], check=False, timeout=300)
    assert said.returncode == 0, said.stdout + said.stderr


def stage_install(machine, packages):
    shutil.copy(packages[0], machine.root + "/root/first.deb")
    shutil.copy(packages[1], machine.root + "/root/second.deb")
    machine.inside("apt-get", "install", "-y", "/root/first.deb", timeout=300)
    for unit in SOCKETS:
        assert machine.systemctl("is-active", unit) == "active" and machine.systemctl("is-enabled", unit) == "enabled", unit
    assert machine.property("ActiveState") == "inactive", "it was started though nobody asked"
    machine.inside("promptops-sidecar", "--check", "--config", "/etc/promptops-sidecar/sidecar.yaml")


def stage_first_connection_starts_it(machine, _):
    machine.write("/etc/promptops-sidecar/sidecar.yaml", CONFIG % 1000)
    machine.write("/etc/promptops-sidecar/api-key", KEYS[0], 0o600)
    machine.write("/etc/systemd/system/%s.d/key.conf" % SERVICE, "[Service]\nLoadCredential=api-key:/etc/promptops-sidecar/api-key\n")
    shutil.copy(os.path.join(BUILD, "promptops-origin"), machine.root + "/usr/local/bin/")
    machine.systemctl("daemon-reload")
    machine.inside("systemd-run", "--unit=origin", "/usr/local/bin/promptops-origin", "--listen", "127.0.0.1:8000", "--no-limits", "--api-key", KEYS[1] + ":secret")
    status, body = machine.proxied()
    assert status == 200 and '"prompt-1"' in body, "%d %s\n%s" % (status, body, machine.journal())
    # Type=notify: it is active when it has said READY=1, by itself as main process.
    assert (machine.property("ActiveState"), machine.property("Type"), machine.property("NRestarts")) == ("active", "notify", "0")
    assert "2 listening sockets were handed over" in machine.journal()
    assert machine.curl("http://127.0.0.1:9901/health/ready")[0] == 200


def stage_hardened(machine, _):
    said = machine.inside("systemd-analyze", "security", "--no-pager", SERVICE).stdout
    score = float(re.search(r"exposure level for \S+: ([\d.]+)", said).group(1))
    assert score < 2, score
    status = machine.inside("cat", "/proc/%s/status" % machine.property("MainPID")).stdout
    found = dict(re.findall(r"^(\w+):\s+(.*)$", status, re.M))
    assert found["NoNewPrivs"] == "1" and found["Seccomp"] == "2" and found["CapEff"] == "0" * 16, status
    assert int(found["Uid"].split()[0]) > 60000, "not a dynamic user: %s" % found["Uid"]
    assert int(found["VmLck"].split()[0]) > 0, "the keys are not locked in memory\n" + machine.journal()
    assert "warning" not in machine.journal() and "denied" not in machine.journal(), machine.journal()
    print("  systemd exposure of the running service: %.1f; seccomp filters: %s; locked: %s" % (score, found["Seccomp_filters"], found["VmLck"]))


def stage_reload(machine, _):
    pid = machine.property("MainPID")
    machine.write("/etc/promptops-sidecar/sidecar.yaml", CONFIG % 2000)
    machine.systemctl("reload", SERVICE)
    wait_for(lambda: '"reloaded"' in machine.journal(), "the reload")
    settings = json.loads(machine.curl("http://127.0.0.1:9901/api/v1/config")[1])
    assert "2000" in json.dumps(settings), settings
    machine.write("/etc/promptops-sidecar/sidecar.yaml", "cache: {max_size: many}\n")
    machine.systemctl("reload", SERVICE)
    wait_for(lambda: "reload refused" in machine.journal(), "the refusal")
    assert machine.proxied()[0] == 200 and machine.property("MainPID") == pid and machine.property("ActiveState") == "active"
    machine.write("/etc/promptops-sidecar/sidecar.yaml", CONFIG % 2000)


def stage_restart_under_load(machine, _):
    load, longest = machine.load(), 0
    for _ in range(3):
        before, began = machine.property("MainPID"), time.monotonic()
        wait_for(lambda: machine.served() > 50, "load")
        machine.systemctl("restart", SERVICE)
        longest = max(longest, time.monotonic() - began)
        assert machine.property("MainPID") != before
    wait_for(lambda: machine.served() > 50, "load after the last restart")
    said = ended(load)
    print("  three restarts: %d requests served, none failed, the longest took %.2f s; a restart took %.1f s at most" % (said["served"], said["longest"], longest))


def stage_upgrade_under_load(machine, _):
    load, before = machine.load(), machine.property("MainPID")
    wait_for(lambda: machine.served() > 50, "load")
    machine.inside("apt-get", "install", "-y", "/root/second.deb", timeout=300)
    assert machine.property("MainPID") not in (before, "0"), "the new program was not started"
    wait_for(lambda: machine.served() > 50, "load after the upgrade")
    said = ended(load)
    assert "max_size: 2000" in machine.inside("cat", "/etc/promptops-sidecar/sidecar.yaml").stdout, "the configuration was replaced"
    version = machine.inside("dpkg-query", "-W", "-f", "${Version}", "promptops-sidecar").stdout
    print("  upgrade to %s: %d requests served, none failed, the longest took %.2f s" % (version, said["served"], said["longest"]))


def stage_a_disabled_socket_stays_so(machine, _):
    machine.systemctl("disable", "--now", SOCKETS[1])
    machine.inside("dpkg", "-i", "/root/second.deb")
    assert machine.systemctl("is-enabled", SOCKETS[1], check=False) == "disabled"
    machine.systemctl("enable", SOCKETS[1])
    machine.systemctl("restart", SERVICE)


def stage_watchdog_and_crash(machine, _):
    """One that hangs and one that is killed are started again."""
    machine.write("/etc/systemd/system/%s.d/watchdog.conf" % SERVICE, "[Service]\nWatchdogSec=2\n")
    machine.systemctl("daemon-reload")
    machine.systemctl("restart", SERVICE)
    first = machine.property("WatchdogTimestampMonotonic")
    wait_for(lambda: machine.property("WatchdogTimestampMonotonic") != first, "the watchdog to be fed")
    for number, word in ((signal.SIGSTOP, "watchdog"), (signal.SIGKILL, "kill -9")):
        pid = machine.property("MainPID")
        machine.systemctl("kill", "--kill-who=main", "-s", str(int(number)), SERVICE)
        wait_for(lambda: machine.property("MainPID") not in (pid, "0") and machine.property("ActiveState") == "active", "a new process after " + word)
        assert machine.proxied()[0] == 200
    assert machine.property("NRestarts") == "2", machine.property("NRestarts")


def stage_remove_and_purge(machine, _):
    assert machine.inside("ls", "/var/lib/private/promptops-sidecar").returncode == 0, "no state directory"
    machine.inside("apt-get", "remove", "-y", "promptops-sidecar", timeout=300)
    assert machine.curl("http://127.0.0.1:8080/", check=False)[0] == 0, "something still listens"
    assert os.path.exists(machine.root + "/etc/promptops-sidecar/sidecar.yaml"), "remove took the configuration"
    machine.inside("apt-get", "purge", "-y", "promptops-sidecar", timeout=300)
    left = machine.inside("sh", "-c", "ls -d /etc/promptops-sidecar/sidecar.yaml /var/lib/promptops-sidecar /var/lib/private/promptops-sidecar /lib/systemd/system/promptops* "
                          "/etc/systemd/system/*/promptops*.socket /var/lib/systemd/deb-systemd-helper-enabled/promptops* /usr/bin/promptops*", check=False).stdout.split()
    assert not left, left
    assert machine.systemctl("list-units", "--failed", "--no-legend", "--plain") == "", machine.systemctl("--failed")


def main():
    packages, machine, done, failed = [], None, 0, 0
    with tempfile.TemporaryDirectory(prefix="system-") as directory:
        try:
            packages = [make_package(directory, version) for version in ("1.0.0", "1.0.1")]
            machine = Machine(make_root(directory, packages[0]))
            for name, stage in [(n, f) for n, f in globals().items() if n.startswith("stage_")]:
                started = time.monotonic()
                stage(machine, packages)
                done += 1
                print("  %s (%.1f s)" % (name, time.monotonic() - started), flush=True)
        except Exception:  # pylint: disable=broad-except
            failed = 1
            print("FAILED %s\n%s" % (name if done or machine else "to make and boot the system", traceback.format_exc(limit=-4)))
        finally:
            if machine:
                machine.stop()
    print("%d passed, %d failed" % (done, failed))
    return failed


if __name__ == "__main__":
    sys.exit(main())
