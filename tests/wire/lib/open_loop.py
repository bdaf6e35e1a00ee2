"""Open-loop load: requests begin when they are due, whatever became of those before, and are given up after a while, as
applications do. One event loop, plain HTTP/1.1, connections kept and used again."""
import asyncio
import random
import time


class Load:
    """`rate(t)` requests a second, t being seconds since the start, at random (Poisson) or evenly; `timeout` is the client's
    patience. After run(): `done`, a list of (begun, took, status or None), seconds since the start."""

    def __init__(self, address, target, rate, timeout, fields=(), seed=1, even=False):
        self.address, self.timeout, self.even = address, timeout, even
        self.rate = rate if callable(rate) else lambda t: rate
        head = "GET %%s HTTP/1.1\r\nHost: bars\r\n%s\r\n" % "".join("%s: %s\r\n" % f for f in fields)
        self.head, self.target = head, target
        self.random = random.Random(seed)
        self.idle, self.done, self.tasks = [], [], set()

    async def connection(self):
        while self.idle:
            reader, writer = self.idle.pop()
            if not reader.at_eof() and not writer.is_closing():
                return reader, writer
            writer.close()
        return await asyncio.open_connection(*self.address)

    @staticmethod
    async def answer(reader):
        """(status, whether the connection may be used again)"""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        status = int(head[9:12])
        length = head.partition("\r\ncontent-length:")[2].partition("\r\n")[0]
        if length:
            await reader.readexactly(int(length))
        elif "\r\ntransfer-encoding:" in head:
            while size := int(await reader.readuntil(b"\r\n"), 16):
                await reader.readexactly(size + 2)
            await reader.readexactly(2)
        return status, "\r\nconnection: close" not in head and (bool(length) or "\r\ntransfer-encoding:" in head)

    async def exchange(self, number):
        reader, writer = await self.connection()
        keep = False
        try:
            writer.write((self.head % self.target(number)).encode())
            status, keep = await self.answer(reader)
            return status
        finally:
            if keep:
                self.idle.append((reader, writer))
            else:
                writer.close()

    async def request(self, number, begun):
        try:
            status = await asyncio.wait_for(self.exchange(number), self.timeout)
        except (asyncio.TimeoutError, OSError, EOFError):
            status = None
        self.done.append((begun, time.monotonic() - self.began - begun, status))

    async def all(self, seconds, events):
        self.began, due, number = time.monotonic(), 0.0, 0
        events = sorted(events, key=lambda e: e[0])
        while due < seconds:
            rate = self.rate(due)
            step = 0.01 if rate <= 0 else 1 / rate if self.even else self.random.expovariate(rate)
            due += step
            while events and events[0][0] <= due:
                await self.until(events[0][0])
                await asyncio.get_running_loop().run_in_executor(None, events.pop(0)[1])
            await self.until(due)
            if rate > 0:
                number += 1
                task = asyncio.create_task(self.request(number, due))
                self.tasks.add(task)
                task.add_done_callback(self.tasks.discard)
        await asyncio.gather(*self.tasks)
        for _, writer in self.idle:
            writer.close()

    async def until(self, due):
        wait = self.began + due - time.monotonic()
        if wait > 0:
            await asyncio.sleep(wait)

    def run(self, seconds, events=()):
        """`events`: (at, function), called at those times from another thread."""
        asyncio.run(self.all(seconds, events))
        return self

    def share(self, begin, end, good=lambda status, took: status == 200):
        """Of what began in these seconds: how many, and the share answered well."""
        seen = [(s, took) for begun, took, s in self.done if begin <= begun < end]
        return len(seen), sum(good(s, t) for s, t in seen) / max(1, len(seen))

    def recovery(self, end, least=0.95, span=5):
        """Seconds from `end` to the first of `span` seconds in a row with so large a share answered well; inf: never."""
        last = int(max(b for b, _, _ in self.done))
        good = [self.share(end + i, end + i + 1)[1] >= least for i in range(int(last - end))]
        return next((i for i in range(len(good) - span + 1) if all(good[i:i + span])), float("inf"))
