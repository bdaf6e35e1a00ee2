"""Lifetimes that nobody gave, learnt from observed change (cache.enable_adaptive_ttl)."""
import email.utils
import re
import time

from harness import *

LEARNING = {"cache.enabled": True, "cache.default_ttl": 0, "cache.enable_adaptive_ttl": True, "cache.enable_prefetching": False,
            "cache.stale_while_revalidate": 0}
NOW = [("Cache-Control", "no-cache")]


class Document:
    """Last-Modified says ten days ago whatever happens; the ETag is the truth."""

    def __init__(self, origin, path, fields=()):
        self.version, self.fields, self.seen = 1, list(fields), []
        origin.on[path] = self.answer

    def answer(self, conn, request):
        self.seen.append(request)
        old = email.utils.formatdate(time.time() - 864000, usegmt=True)
        fields = [("Date", email.utils.formatdate(usegmt=True)), ("ETag", '"%d"' % self.version), ("Last-Modified", old)] + self.fields
        if request.get("If-None-Match") == '"%d"' % self.version:
            conn.reply(304, fields, b"")
        else:
            conn.reply(200, fields, b"version %d" % self.version)


def ttl(answer):
    found = re.search(r"ttl=(-?\d+)", answer.get("Cache-Status", ""))
    check(found, "Cache-Status has no ttl: %r" % answer.get("Cache-Status"))
    return int(found.group(1))


def scene(t, settings, fields=()):
    origin = t.origin()
    document = Document(origin, "/d", fields)
    sidecar = t.sidecar(origin, settings)
    equal(sidecar.request("/d").body, b"version 1", "first")
    return document, sidecar


def test_9111_4_2_2_a_document_that_is_found_changed_is_trusted_no_longer(t):
    for on, looks in ((True, 3), (False, 2)):
        with t.case("adaptive %s" % on):
            document, sidecar = scene(t, {**LEARNING, "cache.enable_adaptive_ttl": on})
            check(ttl(sidecar.request("/d")) > 80000, "a tenth of its age at first")
            document.version = 2
            equal(sidecar.request("/d", "GET", NOW).body, b"version 2", "asked anew")
            equal(sidecar.request("/d").body, b"version 2", "afterwards")
            equal(len(document.seen), looks, "looks")


def test_9111_4_2_2_a_look_that_came_early_shortens_nothing(t):
    document, sidecar = scene(t, LEARNING)
    sidecar.request("/d", "GET", NOW)
    equal(len(document.seen), 2, "looks")
    check(ttl(sidecar.request("/d")) > 80000, "still a tenth of its age")
    equal(len(document.seen), 2, "looks")


def test_9111_4_2_2_an_explicit_lifetime_is_not_overridden(t):
    document, sidecar = scene(t, LEARNING, [("Cache-Control", "max-age=500")])
    document.version = 2
    equal(sidecar.request("/d", "GET", NOW).body, b"version 2", "asked anew")
    check(490 <= ttl(sidecar.request("/d")) <= 500, "the origin's word")
    equal(len(document.seen), 2, "looks")
