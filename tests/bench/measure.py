"""Processes of the bench: started pinned, measured from /proc, and stopped whatever happens."""

import ctypes
import json
import os
import resource
import signal
import socket
import subprocess
import time

TICK = os.sysconf("SC_CLK_TCK")
PAGE_KIB = os.sysconf("SC_PAGE_SIZE") // 1024
PR_SET_PDEATHSIG = 1


class BenchError(Exception):
    pass


def free_port():
    """A port that was free a moment ago, for programs that cannot be told to take any."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Processes:
    """All that was started; `with` stops it."""

    def __init__(self, folder):
        self.folder = folder
        self.running = []
        self.libc = ctypes.CDLL(None)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.running):
            self.stop(process)

    def start(self, name, command, cpus, **options):
        """Starts it on these processors, with as many files as it may have; its end comes with ours."""
        log = open(os.path.join(self.folder, name + ".log"), "wb")
        parent = os.getpid()

        def prepare():
            self.libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:
                os._exit(1)
            os.sched_setaffinity(0, cpus)
            hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

        try:
            process = subprocess.Popen(command, stderr=log, preexec_fn=prepare, **options)
        except OSError as error:
            raise BenchError("%s: %s" % (command[0], error)) from error
        finally:
            log.close()
        process.bench_name = name
        self.running.append(process)
        return process

    def stop(self, process):
        if process in self.running:
            self.running.remove(process)
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe:
                pipe.close()

    def log_of(self, process):
        with open(os.path.join(self.folder, process.bench_name + ".log"), errors="replace") as f:
            return f.read()[-2000:].strip()

    def listening_line(self, process, words="listening on "):
        """ADDRESS:PORT from the line that our own programs print."""
        line = process.stdout.readline().decode()
        if words not in line:
            raise BenchError("%s did not start: %s %s" % (process.bench_name, line.strip(), self.log_of(process)))
        return line.strip().rsplit(" ", 1)[1]

    def wait_ready(self, process, address, path, seconds=10):
        """Until GET path is answered with 200."""
        host, port = address.rsplit(":", 1)
        deadline = time.monotonic() + seconds
        seen = "no connection"
        while time.monotonic() < deadline:
            if process.poll() is not None:
                break
            try:
                with socket.create_connection((host, int(port)), timeout=2) as s:
                    s.sendall(("GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % path).encode())
                    seen = s.makefile("rb").readline().decode(errors="replace").strip()
                if " 200" in seen:
                    return
            except OSError as error:
                seen = str(error)
            time.sleep(0.02)
        raise BenchError("%s is not ready: %s\n%s" % (process.bench_name, seen, self.log_of(process)))


def family(pid):
    """The process and all that descend from it."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open("/proc/%s/stat" % entry) as f:
                    parents[int(entry)] = int(f.read().rsplit(")", 1)[1].split()[1])
            except OSError:
                pass
    found = [pid]
    for one in found:
        found.extend(child for child, parent in parents.items() if parent == one)
    return found


def stat_seconds(pid):
    """utime and stime: exact, but told in ticks of 10 ms."""
    with open("/proc/%d/stat" % pid) as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def schedstat_seconds(pid):
    """The same time in nanoseconds, where the kernel tells it; only of threads that still live."""
    total = 0
    for thread in os.listdir("/proc/%d/task" % pid):
        with open("/proc/%d/task/%s/schedstat" % (pid, thread)) as f:
            total += int(f.read().split()[0])
    return total / 1e9


def cpu_seconds(pid):
    """Processor time that the process, its threads and its children have used."""
    total = 0
    for one in family(pid):
        try:
            ticks = stat_seconds(one)
        except OSError:
            continue
        try:
            fine = schedstat_seconds(one)
        except (OSError, ValueError, IndexError):
            fine = 0
        # Where both are told they agree to a tick or two; else the finer one is not to be trusted.
        total += fine if abs(fine - ticks) <= 0.03 + ticks / 50 else ticks
    return total


def rss_kib(pid):
    """Resident memory of the process and its children. Shared pages count once a process."""
    total = 0
    for one in family(pid):
        try:
            with open("/proc/%d/statm" % one) as f:
                total += int(f.read().split()[1]) * PAGE_KIB
        except OSError:
            pass
    return total


def load(processes, tool, cpus, options):
    """Runs the load generator to its end; its report, as a dictionary."""
    command = [tool]
    for name, value in options.items():
        if value is True:
            command.append("--" + name)
        elif value is not None and value is not False:
            command += ["--" + name, str(value)]
    process = processes.start("bench-load", command, cpus, stdout=subprocess.PIPE)
    try:
        out, _ = process.communicate(timeout=600)
    finally:
        processes.stop(process)
    try:
        report = json.loads(out)
    except ValueError:
        raise BenchError("bench-load: %s" % processes.log_of(process)) from None
    if process.returncode != 0:
        raise BenchError("wrong or broken answers: %s" % out.decode().strip())
    return report
