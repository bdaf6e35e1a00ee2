"""An upstream with a rate limit that it states."""
import threading
import time


class Window:
    """An upstream that allows so many calls in each so many seconds, and says what is left (draft-ietf-httpapi-ratelimit-headers-10)."""

    def __init__(self, origin, quota, length):
        self.quota, self.length = quota, length
        self.lock, self.began, self.used = threading.Lock(), None, 0
        self.accepted, self.refused = [{}], 0     # of each window, of each sidecar
        origin.default = self.answer

    def answer(self, conn, request):
        who = request.target.split("/")[1]
        with self.lock:
            now = time.monotonic()
            if self.began is None:
                self.began = now
            if now - self.began >= self.length:
                self.began += (now - self.began) // self.length * self.length
                self.used = 0
                self.accepted.append({})
            good = self.used < self.quota
            self.used += good
            left, reset = self.quota - self.used, int(self.length - (now - self.began)) + 1
            if good:
                self.accepted[-1][who] = self.accepted[-1].get(who, 0) + 1
            else:
                self.refused += 1
        fields = [("RateLimit-Policy", '"p";q=%d;w=%d' % (self.quota, self.length)), ("RateLimit", '"p";r=%d;t=%d' % (left, reset))]
        conn.reply(200 if good else 429, fields, b"ok")
