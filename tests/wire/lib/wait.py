"""Deadlines. A test waits for a condition, never for a while.

PATIENCE bounds how long anything that must happen may take. It is only used up by a
failing test, so it is generous: the machine may be busy.
"""
import os
import time

PATIENCE = float(os.environ.get("WIRE_PATIENCE", "10"))


class Failed(AssertionError):
    """An expectation of a test does not hold."""


class Skip(Exception):
    """The test cannot run here; says why."""


def wait_for(condition, what, timeout=None):
    """Calls condition() until it gives something true, and returns that."""
    end = time.monotonic() + (PATIENCE if timeout is None else timeout)
    pause = 0.001
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= end:
            raise Failed("waited in vain for: %s" % what)
        time.sleep(pause)
        pause = min(pause * 1.5, 0.02)


def held_up(*pids):
    """Seconds in which the threads of these processes were ready to run and other programs had the processor. What a
    test measures of a program's own time is without them. (0 where the kernel does not count that.)"""
    total = 0
    for pid in pids:
        for thread in os.listdir("/proc/%d/task" % pid):
            try:
                with open("/proc/%d/task/%s/schedstat" % (pid, thread)) as stat:
                    total += int(stat.read().split()[1])
            except (OSError, IndexError):
                pass                # it has ended
    return total / 1e9


def check(condition, message):
    if not condition:
        raise Failed(message)


class Reading(float):
    """A number that the sidecar counted. Its threads count a moment after the peer has its answer, so that
    equal() reads it again before it calls it wrong."""

    def __new__(cls, read):
        reading = super().__new__(cls, read())
        reading.read = read
        return reading


def settles(read, wanted, what):
    """Waits until read() gives what is wanted, which the sidecar may do a moment after its answer."""
    end = time.monotonic() + PATIENCE
    got = read()
    while got != wanted and time.monotonic() < end:
        time.sleep(0.005)
        got = read()
    if got != wanted:
        raise Failed("%s: got %r, wanted %r" % (what, got, wanted))


def equal(got, wanted, what):
    if got != wanted and isinstance(got, Reading):
        return settles(got.read, wanted, what)
    if got != wanted:
        raise Failed("%s: got %r, wanted %r" % (what, got, wanted))


def near(got, low, high, what):
    if not low <= got <= high:
        raise Failed("%s: got %r, wanted %r to %r" % (what, got, low, high))
