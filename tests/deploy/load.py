#!/usr/bin/python3
"""Load from a few clients until standard input ends: load.py HOST PORT PATH  -> one JSON object on standard output.

Half of the clients keep their connection and leave it when they are told `Connection: close`; half make a new one for each
request. Nothing is tried twice: whatever is not a 200 with a whole body is a failure, and is told in words.
"""
import http.client
import json
import sys
import threading
import time

CLIENTS, FAILURES_TOLD = 6, 5


class Load:
    def __init__(self, host, port, path):
        self.host, self.port, self.path = host, port, path
        self.stop = threading.Event()
        self.lock = threading.Lock()
        self.served, self.failures, self.longest = 0, [], 0.0

    def ask(self, connection):
        """One request; the connection, or None when it is to be kept no longer."""
        began = time.monotonic()
        try:
            connection.request("GET", self.path)
            answer = connection.getresponse()
            answer.read()
            wrong = None if answer.status == 200 else "status %d" % answer.status
            keep = not answer.will_close
        except (OSError, http.client.HTTPException) as error:
            wrong, keep = "%s: %s" % (type(error).__name__, error), False
        with self.lock:
            self.longest = max(self.longest, time.monotonic() - began)
            if wrong:
                self.failures.append("%.3f s after the start, %s" % (time.monotonic() - self.started, wrong))
            else:
                self.served += 1
        if keep:
            return connection
        connection.close()
        return None

    def client(self, keeps):
        connection = None
        while not self.stop.is_set():
            connection = self.ask(connection or http.client.HTTPConnection(self.host, self.port, timeout=60))
            if connection and not keeps:
                connection.close()
                connection = None
            self.stop.wait(0.004)          # a steady load, not all that the machine has

    def run(self):
        self.started = time.monotonic()
        threads = [threading.Thread(target=self.client, args=(n % 2 == 0,)) for n in range(CLIENTS)]
        for thread in threads:
            thread.start()
        sys.stdin.read()
        self.stop.set()
        for thread in threads:
            thread.join()
        print(json.dumps({"served": self.served, "failed": len(self.failures), "failures": self.failures[:FAILURES_TOLD], "longest": round(self.longest, 3),
                          "seconds": round(time.monotonic() - self.started, 3)}))


if __name__ == "__main__":
    Load(sys.argv[1], int(sys.argv[2]), sys.argv[3]).run()
