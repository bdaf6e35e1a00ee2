"""The tiers of the cache: what was seen before a restart is answered after it, from disk; purges and refusals reach the disk; damage, full disks and other processes cost hits, not requests."""
import os
import signal
import stat

from harness import *
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
