"""The tiers of the cache: what was seen before a restart is answered after it, from disk; purges and refusals reach the disk; damage, full disks and other processes cost hits, not requests."""
import json
import os
import signal
import stat
import subprocess
import time

from harness import *
from lib.redis import Redis
from test_30_cache import PLAIN, Counted

ME, YOU = [("Authorization", "Bearer po_secret_of_me_24chars")], [("Authorization", "Bearer po_of_somebody_else")]
FRESH = [("Cache-Control", "max-age=300")]


class Disk:
    """An origin, and sidecars one after the other with the same directory and address of the upstream."""

    def __init__(self, t, **config):
        self.t = t
        self.path = os.path.join(t.directory, "frozen")
        os.makedirs(self.path, exist_ok=True)
        self.file = os.path.join(self.path, "frozen.mdb")
        self.origin = t.origin()
        self.settings = {**PLAIN, "cache.frozen_path": self.path, **{k.replace("__", "."): v for k, v in config.items()}}
        self.sidecar = None

    def start(self, wait=True, **config):
        self.sidecar = self.t.sidecar(self.origin, {**self.settings, **{k.replace("__", "."): v for k, v in config.items()}})
        if wait:
            wait_for(lambda: self.tier()["in_use"], "the tier is in use")
        return self.sidecar

    def restart(self, how=signal.SIGKILL, **config):
        self.end(how)
        return self.start(**config)

    def end(self, how=signal.SIGKILL):
        self.sidecar.expect_exit = -9 if how == signal.SIGKILL else 0
        os.kill(self.sidecar.pid, how)
        self.sidecar.process.wait()

    def counted(self, path, fields=None, **more):
        return Counted(self.origin, path, FRESH if fields is None else fields, **more)

    def tier(self, sidecar=None):
        return (sidecar or self.sidecar).admin("/api/v1/cache")[2]["frozen"]

    def stored(self, count):
        wait_for(lambda: self.tier()["stores"] >= count, "%d entries are on disk" % count)

    def settled(self):
        wait_for(lambda: self.tier()["purges_waiting"] == 0 and self.tier()["stores_waiting"] == 0, "nothing waits for the disk")

    def get(self, path, fields=ME):
        return self.sidecar.request(path, fields=fields)


def test_what_was_seen_is_answered_after_kill_9(t):
    disk = Disk(t)
    disk.start()
    counted = [disk.counted("/p%d" % i, body=b"%d " % i * (500 + 3000 * i)) for i in range(5)]
    before = [disk.get(c.path).body for c in counted]
    other = disk.get("/p0", YOU).body
    disk.stored(6)
    disk.restart()
    equal(disk.tier()["entries"], 6, "entries on disk")
    for c, body in zip(counted, before):
        response = disk.get(c.path)
        equal((response.status, response.body), (200, body), "the answer after the restart")
        check("; hit" in response.get("Cache-Status") and "detail=frozen" in response.get("Cache-Status"), response.get("Cache-Status"))
        check(response.has("Age"), "no Age")
        equal(disk.get(c.path).body, body, "from memory now")
    equal(disk.get("/p0", YOU).body, other, "another credential has its own")
    equal([len(c.seen) for c in counted], [2, 1, 1, 1, 1], "upstream requests")
    equal(disk.tier()["hits"], 6, "hits on disk")
    equal(disk.sidecar.metric("promptops_frozen_looks_total", result="hit"), 6, "metric")
    equal(disk.sidecar.metric("promptops_cache_entries", tier="frozen"), 6, "entries by tier")
    disk.get("/p1", YOU)
    equal(len(counted[1].seen), 2, "what nobody asked for with this credential is fetched")


def test_upstream_down_after_the_restart(t):
    """Everything seen before is answered: fresh, and stale for an error."""
    disk = Disk(t)
    disk.start()
    disk.counted("/fresh")
    stale = disk.counted("/stale", [("Cache-Control", "max-age=0, stale-if-error=600"), ("ETag", '"e"')])
    before = {path: disk.get(path).body for path in ("/fresh", "/stale")}
    disk.stored(2)
    disk.end()
    disk.origin.stop_listening()
    disk.start()
    for path, body in before.items():
        response = disk.get(path)
        equal((response.status, response.body), (200, body), path)
    equal(len(stale.seen), 1, "upstream requests")


def test_vary_is_kept_apart(t):
    disk = Disk(t)
    disk.start()
    seen = []

    def answer(conn, request):
        seen.append(request)
        conn.reply(200, FRESH + [("Vary", "X-Kind")], b"kind " + request.get("X-Kind", "none").encode())
    disk.origin.on["/v"] = answer
    kinds = ("one", "two", None)
    ask = lambda kind: disk.get("/v", ME + ([("X-Kind", kind)] if kind else []))
    for kind in kinds:
        ask(kind)
    disk.stored(3)
    disk.restart()
    for kind in kinds:
        equal(ask(kind).body, b"kind " + (kind or "none").encode(), "the variant")
    equal(len(seen), 3, "upstream requests")
    ask("three")
    equal(len(seen), 4, "a new variant is fetched")


def test_purges_hold_across_a_restart(t):
    """Of what lies in memory and on disk, and of what only lies on disk, by every way there is."""
    disk = Disk(t, preset="promptops")
    disk.start()
    ways = {"key": {"key": "/p-key"}, "prefix": {"prefix": "/p-pre"}, "tag": {"tag": "prompt:7"}, "write": None, "all": {"all": True}}
    path_of = lambda name: "/v1/client/prompts/7" if name == "tag" else "/p-" + name
    for only_on_disk in (False, True):
        for name, body in ways.items():
            with t.case("%s, %s" % (name, "only on disk" if only_on_disk else "in memory too")):
                path, stores = path_of(name), disk.tier()["stores"]
                counted = disk.counted(path, body=None)
                disk.counted("/other")
                old, other = disk.get(path).body, disk.get("/other").body
                disk.settled()
                if only_on_disk:
                    disk.restart()
                if body:
                    equal(disk.sidecar.admin("/api/v1/cache/purge", "POST", body)[0], 200, "purge")
                else:
                    equal(disk.sidecar.request(path, "POST", ME, body=b"x").status, 200, "the write")
                disk.settled()
                asked = len(counted.seen)
                disk.restart()
                check(disk.get(path).body != old, "the purged one was served")
                equal(len(counted.seen), asked + 1, "upstream requests")
                if name != "all":
                    equal(disk.get("/other").body, other, "another one stays")


def test_a_refused_credential_loses_what_it_has_on_disk(t):
    for method, status in (("POST", 401), ("GET", 403)):
        with t.case("%s %d" % (method, status)):
            disk = Disk(t)
            disk.start()
            counted = disk.counted("/p")
            old, others = disk.get("/p").body, disk.get("/p", YOU).body
            disk.stored(2)
            disk.restart()
            disk.origin.on["/q"] = lambda conn, request: conn.reply(status, [], b"no")
            equal(disk.sidecar.request("/q", method, ME, body=b"x" if method == "POST" else None).status, status, "the refusal")
            wait_for(lambda: disk.tier()["entries"] == 1, "its entry is gone")
            disk.restart()
            check(disk.get("/p").body != old, "the refused one's entry was served")
            equal(disk.get("/p", YOU).body, others, "another credential's stays")
            disk.end()
            os.unlink(disk.file)


def test_nothing_readable_is_on_disk(t):
    disk = Disk(t)
    disk.start()
    disk.counted("/very/telling/path", FRESH + [("X-Telling", "telling-field")], body=b"the prompt itself")
    disk.get("/very/telling/path")
    disk.stored(1)
    disk.end()
    for name in os.listdir(disk.path):
        with open(os.path.join(disk.path, name), "rb") as f:
            content = f.read()
        for word in (b"po_secret", b"telling", b"prompt itself", b"Bearer"):
            check(word not in content, "%r in %s" % (word, name))
        equal(stat.S_IMODE(os.stat(os.path.join(disk.path, name)).st_mode), 0o600, "mode of " + name)


def damaged(disk, change):
    with open(disk.file, "r+b") as f:
        change(f, os.path.getsize(disk.file))


def flip(at):
    def change(f, size):
        f.seek(at)
        was = f.read(64)
        f.seek(at)
        f.write(bytes(b ^ 0xA5 for b in was))
    return change


@slow(120)    # it starts a sidecar for each damage
def test_damage_is_found_and_never_served(t):
    """Bytes changed, pieces lost, foreign files: the answers are right, and it is named and counted."""
    ways = {"cut": lambda f, size: f.truncate(size // 2), "cut to a byte": lambda f, size: f.truncate(1), "emptied": lambda f, size: f.truncate(0),
            "another file": lambda f, size: (f.seek(0), f.write(b"this is no such file\n" * 1000)), "both beginnings": lambda f, size: (flip(16)(f, size), flip(4096 + 16)(f, size))}
    disk = Disk(t)
    disk.start()
    paths = ["/p%d" % i for i in range(40)]
    for path in paths:
        disk.counted(path, body=path.encode() * 300)
        disk.get(path)
    disk.stored(40)
    disk.end()
    with open(disk.file, "rb") as f:
        whole = f.read()
    for page in range(2, len(whole) // 4096):
        ways["page %d" % page] = flip(page * 4096)
        ways["within page %d" % page] = flip(page * 4096 + 2000)
    names = list(ways) if FULL else list(ways)[:5] + list(ways)[5::9]
    for name in names:
        with t.case(name):
            with open(disk.file, "wb") as f:
                f.write(whole)
            damaged(disk, ways[name])
            disk.start()
            for path in paths:
                response = disk.get(path)
                equal((response.status, response.body), (200, path.encode() * 300), path)
            if name in list(ways)[:5] and name != "emptied":
                wait_for(lambda: disk.sidecar.logged("is damaged"), "a line in the log")
                equal(disk.sidecar.metric("promptops_frozen_damaged_total"), 1, "damaged files")
            disk.end(signal.SIGTERM)
            os.unlink(disk.file)


def test_cut_short_while_in_use(t):
    disk = Disk(t)
    disk.start(cache__max_size=1)
    for i in range(40):
        disk.counted("/p%d" % i, body=b"%d" % i * 3000)
        disk.get("/p%d" % i)
    disk.stored(40)
    os.truncate(disk.file, 8192)
    for turn in range(2):
        for i in range(40):
            equal(disk.get("/p%d" % i).body, b"%d" % i * 3000, "the answer")
    wait_for(lambda: disk.sidecar.logged("is damaged"), "a line in the log")
    stores = disk.tier()["stores"]
    disk.get("/p1")
    wait_for(lambda: disk.tier()["in_use"], "a new file is in use")


def test_another_process_has_the_directory(t):
    disk = Disk(t)
    first = disk.start()
    disk.counted("/p")
    before = disk.get("/p").body
    disk.stored(1)
    second = disk.start(wait=False)
    wait_for(lambda: second.logged("another process uses this directory"), "a line in the log")
    check(not disk.tier()["in_use"], "it is in use twice")
    check("another process" in disk.tier()["why_not"], disk.tier()["why_not"])
    wait_for(lambda: second.metric("promptops_cache_errors_total") >= 1, "it is counted")
    equal(second.metric("promptops_frozen_usable"), 0, "usable")
    disk.sidecar = first
    disk.end()
    disk.sidecar = second
    wait_for(lambda: disk.tier()["in_use"], "the second takes the directory over")
    equal(disk.get("/p").body, before, "the first one's entry")


def test_no_room_and_too_large(t):
    """A file that may grow to 1 MiB: the oldest go, what was of use stays longer; what is larger than an eighth of it is kept in memory alone."""
    disk = Disk(t, cache__frozen_max_bytes="1MiB", cache__enable_compression=False)
    disk.start()
    for i in range(150):
        disk.counted("/p%d" % i, body=os.urandom(8000))
        disk.get("/p%d" % i)
    disk.settled()
    wait_for(lambda: disk.tier()["evictions"] > 20, "some were given up")
    check(disk.tier()["bytes"] <= 1 << 20 and os.path.getsize(disk.file) <= 1 << 20, "it grew to %d" % os.path.getsize(disk.file))
    equal(disk.tier()["store_failures"], 0, "failures")
    disk.counted("/large", body=b"l" * 200000)
    disk.get("/large")
    wait_for(lambda: disk.tier()["too_large"] == 1, "it is counted")
    disk.restart()
    seen = disk.origin.count()
    disk.get("/p149")
    equal(disk.origin.count(), seen, "the newest is there")
    disk.get("/p0")
    equal(disk.origin.count(), seen + 1, "the oldest is not")


def mounted(t, disk):
    """A small file system of its own under the tier's directory."""
    command_or_skip("mount")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", disk.path], capture_output=True).returncode:
        raise Skip("this machine mounts no tmpfs")
    t.at_end(lambda: subprocess.run(["umount", "-l", disk.path], capture_output=True))


def test_the_disk_is_full(t):
    disk = Disk(t)
    mounted(t, disk)
    disk.start(cache__enable_compression=False)
    for i in range(60):
        disk.counted("/p%d" % i, body=os.urandom(8000))
        equal(disk.get("/p%d" % i).status, 200, "status")
    wait_for(lambda: disk.tier()["store_failures"] > 0, "it is counted")
    wait_for(lambda: disk.sidecar.logged("no room for the frozen tier"), "a line in the log")
    wait_for(lambda: disk.sidecar.metric("promptops_cache_errors_total") > 0, "errors are counted")
    equal(disk.sidecar.admin("/api/v1/cache/purge", "POST", {"prefix": "/p"})[0], 200, "purge")
    disk.settled()
    disk.counted("/p0", body=b"new")
    disk.restart()
    equal(disk.get("/p0").body, b"new", "a purge holds on a full disk")


def test_kill_9_under_load(t):
    """Whatever was told to be on disk is there after each kill -9, and nothing is served that was not written."""
    disk = Disk(t, cache__max_size=50)
    bodies = {}

    def answer(conn, request):
        conn.reply(200, FRESH, bodies.setdefault(request.target, os.urandom(40).hex().encode() * (1 + len(bodies) % 200)))
    disk.origin.default = answer
    disk.start()
    number = 0
    for turn in range(3 if not FULL else 12):
        stop, order, known = [], [], disk.tier()["stores"]

        def load():
            nonlocal number
            with disk.sidecar.client() as client:
                while not stop:
                    path = "/k%d" % number
                    number += 1
                    try:
                        if client.request(path, fields=ME).status == 200:
                            order.append(path)
                    except Exception:  # the sidecar was killed
                        return
        beside = t.thread(load)
        wait_for(lambda: disk.tier()["stores"] > known + 60, "entries are written")
        acknowledged = disk.tier()["stores"]
        stop.append(1)
        disk.end()
        beside.result()
        disk.start()
        seen = disk.origin.count()
        for path in order[:acknowledged]:
            equal(disk.get(path).body, bodies[path], "the body after kill -9")
        equal(disk.origin.count(), seen, "acknowledged entries that are missing")
        equal((disk.tier()["damaged"], disk.sidecar.logged("damaged")), (0, False), "damage")


def test_more_fits_compressed(t):
    """A working set of twice the memory: what is given up and missed makes memory dear, so that it is compressed, and all of it fits."""
    origin = t.origin()
    text = json.dumps({"prompt": {"id": "a", "name": "a name", "content": "You are a helpful assistant. " * 60}, "success": True}).encode()

    def answer(conn, request):
        conn.reply(200, FRESH + [("Content-Type", "application/json")], request.target.encode() + text)
    origin.default = answer
    sidecar = t.sidecar(origin, {**PLAIN, "cache.max_memory_bytes": "1MiB"})
    paths = ["/c%d" % i for i in range(900)]

    def turn(client):
        before = origin.count()
        for path in paths:
            response = client.request(path, fields=ME)
            equal((response.status, response.body), (200, path.encode() + text), path)
        return origin.count() - before

    with sidecar.client() as client:
        misses = []
        wait_for(lambda: misses.append(turn(client)) or misses[-1] == 0, "all of it fits", timeout=25)
    tiers = sidecar.admin("/api/v1/cache")[2]["tiers"]
    check(tiers["cold"]["entries"] > 400, tiers)
    check(tiers["compression_ratio"] > 2, tiers)
    check(tiers["cold_hits"] > 400 and tiers["thaw_ns_per_byte"] > 0, tiers)
    check(sum(tiers[name]["bytes"] for name in ("hot", "warm", "cold")) <= 1 << 20, tiers)
    equal(sum(sidecar.metric("promptops_cache_entries", tier=name) for name in ("hot", "warm", "cold")), 900, "entries by tier")
    wait_for(lambda: sidecar.metric("promptops_compression_ratio") > 2, "the ratio is told")
    check(sidecar.admin("/api/v1/summary")[2]["compression_ratio"] > 2, "in the summary")
    kinds = {e["tier"] for e in sidecar.admin("/api/v1/cache/entries?limit=1000")[2]["entries"]}
    check("cold" in kinds and kinds <= {"hot", "warm", "cold"}, kinds)
    wait_for(lambda: sidecar.admin("/api/v1/metrics?metric_type=COMPRESSION_RATIO")[2], "a time series")


def test_without_compression_or_tiering_nothing_is_compressed(t):
    for name in ("cache.enable_compression", "cache.enable_tiering"):
        with t.case(name):
            origin = t.origin()
            origin.default = lambda conn, request: conn.reply(200, FRESH, request.target.encode() * 1000)
            sidecar = t.sidecar(origin, {**PLAIN, "cache.max_memory_bytes": "1MiB", name: False})
            tiers = lambda: sidecar.admin("/api/v1/cache")[2]["tiers"]
            began = time.monotonic()
            with sidecar.client() as client:
                def wanted():
                    for i in range(400):
                        client.request("/c%d" % i, fields=ME)
                    return time.monotonic() - began > 2.5 and tiers()["price_ns_per_byte_second"] > 0
                wait_for(wanted, "memory is wanted")
            equal(tiers()["cold"]["entries"], 0, "cold entries")


def test_a_purge_that_was_told_survives_kill_9(t):
    disk = Disk(t)
    disk.start()
    for i in range(10):
        path = "/p%d" % i
        disk.counted(path)
        old = disk.get(path).body
        disk.stored(1)
        equal(disk.sidecar.admin("/api/v1/cache/purge", "POST", {"key": path})[0], 200, "purge")
        disk.restart()
        check(disk.get(path).body != old, "the purged one was served")


def test_a_write_that_was_answered_survives_kill_9(t):
    """Once a client has the answer to its write, the old answer does not come back, whenever the process is killed."""
    disk = Disk(t, preset="promptops")
    disk.start()
    prompt, listed = "/v1/client/prompts/a%d", "/v1/client/prompts?page=%d"
    for i in range(4 if not FULL else 30):
        paths = prompt % i, listed % i
        disk.origin.default = lambda conn, request: conn.reply(200, FRESH, b"{}")
        for path in paths:
            disk.get(path)
        disk.stored(2)
        with disk.sidecar.client() as client:
            equal(client.request(paths[0], method="PUT", body=b"{}", fields=ME + [("Content-Type", "application/json")]).status, 200, "the write")
        disk.end()
        seen = disk.origin.count()
        disk.start()
        for path in paths:
            equal(disk.get(path).status, 200, "the answer after kill -9")
        equal(disk.origin.count() - seen, 2, "what was written was asked for again, turn %d" % i)
    equal(disk.tier()["damaged"], 0, "damage")


def test_a_journal_of_purges_that_is_not_whole_is_not_trusted(t):
    """What it names cannot be known any more: nothing on disk is used."""
    disk = Disk(t)
    journal = os.path.join(disk.path, "frozen.purges")
    for garbage in (b"\xff" * 4096, b"purges1\0" + b"\0" * 8 + b"\x30\0\0\0" + b"\0" * 4 + b"\xff" * 64, b"purges1\0" + b"\0" * 8 + b"\0\0\0\0\1\0\0\0"):
        disk.start()
        c = disk.counted("/j%d" % len(garbage))
        disk.get(c.path)
        disk.settled()
        disk.end()
        with open(journal, "r+b") as f:
            f.write(garbage)
        disk.start()
        seen = len(c.seen)
        equal(disk.get(c.path).status, 200, "the answer")
        equal(len(c.seen), seen + 1, "upstream requests")
        disk.get(c.path)
        disk.settled()
        disk.restart(signal.SIGTERM)
        equal(len(c.seen), seen + 1, "upstream requests")
        disk.get(c.path)
        equal(len(c.seen), seen + 1, "it works again")
        disk.end()
    os.truncate(journal, 0)
    disk.start()
    equal(disk.get("/j4096").status, 200, "the answer")


def test_a_newer_one_in_redis_comes_before_a_stale_one_on_disk(t):
    redis = Redis(t.directory)
    t.at_end(redis.close)
    disk = Disk(t, cache__redis_url=redis.url)
    used = lambda sidecar: sidecar.admin("/api/v1/cache")[2]["shared"]["in_use"]
    disk.start()
    wait_for(lambda: used(disk.sidecar), "the shared level is in use")
    counted = disk.counted("/p", [("Cache-Control", "max-age=1"), ("ETag", '"1"')])
    disk.get("/p")
    disk.stored(1)
    disk.end()
    other = t.sidecar(disk.origin, {**PLAIN, "cache.redis_url": redis.url})
    wait_for(lambda: used(other), "the shared level is in use")
    counted.fields = FRESH + [("ETag", '"2"')]
    wait_for(lambda: other.request("/p", fields=ME).get("ETag") == '"2"', "the other has a newer one")
    wait_for(lambda: other.admin("/api/v1/cache")[2]["shared"]["stores"] >= 1, "it is in Redis")
    disk.start()
    wait_for(lambda: used(disk.sidecar), "the shared level is in use")
    seen = len(counted.seen)
    response = disk.get("/p")
    equal((response.get("ETag"), len(counted.seen)), ('"2"', seen), "the newer one, and no request")
    check("detail=redis" in response.get("Cache-Status"), response.get("Cache-Status"))


def test_ready_at_once_with_many_on_disk(t):
    """A restart in which each request is answered as before, and the start does not wait for the disk."""
    count = 100000 if FULL else 4000
    disk = Disk(t, cache__max_size=2 * count, cache__max_memory_bytes="1GiB", workers=2)
    disk.origin.default = lambda conn, request: conn.reply(200, FRESH, request.target.encode() * 60)
    disk.start()
    paths = ["/k%d" % i for i in range(count)]

    def ask(part):
        with disk.sidecar.client() as client:
            for path in part:
                response = client.request(path, fields=ME)
                equal((response.status, response.body), (200, path.encode() * 60), path)
    for beside in [t.thread(ask, paths[i::4]) for i in range(4)]:
        beside.result()
    disk.stored(count)
    disk.end()
    bare = Disk(t)
    bare.settings["cache.frozen_path"] = ""

    def quickest(which):
        """Seconds to readiness, at best, without those in which other tests had the processor."""
        times = []
        for _ in range(4):
            began = time.monotonic() - held_up(os.getpid())
            which.start(wait=False)
            times.append(time.monotonic() - began - held_up(os.getpid(), which.sidecar.pid))
            which.end()
        return min(times)
    without, ready = quickest(bare), quickest(disk)
    check(sanitized() or ready < without + 0.1, "ready after %.3f s, without a tier on disk after %.3f s" % (ready, without))
    seen = disk.origin.count()
    disk.start(wait=False)
    ask(paths[::40])
    check(disk.origin.count() - seen <= count / 40 / 100, "%d of %d were fetched again" % (disk.origin.count() - seen, count / 40))


if FULL:
    test_ready_at_once_with_many_on_disk.time_limit = test_damage_is_found_and_never_served.time_limit = 600
