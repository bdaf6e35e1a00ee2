"""The tables, the bars, and the README's part."""

import re

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
SIZES = {1024: "1 KiB", 16384: "16 KiB", 262144: "256 KiB"}


def size_text(n):
    return SIZES.get(n, "%d B" % n)


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def cost_table(results):
    """Works and sizes, a row for each subject."""
    rows = []
    for (work, size), subjects in results.items():
        floor = next((s for s in subjects.values() if s.get("floor")), None)
        for name, s in subjects.items():
            ratio = "%.2f" % (s["us"] / floor["us"]) if floor and floor["us"] else "-"
            rows.append(
                (work, size_text(size), name, "%.2f" % s["us"], ratio, "%d" % s["rate"], "%.1f" % (s["rss_kib"] / 1024))
            )
    return table(
        ("work", "body", "subject", "processor time a request, µs", "x do-nothing", "requests/s", "memory, MiB"), rows
    )


def latency_table(results):
    rows = []
    for (work, rate), subjects in results.items():
        direct = subjects.get("direct")
        for name, s in subjects.items():
            added = ("-", "-") if s is direct or not direct else ("%+.0f" % (s["p50"] - direct["p50"]), "%+.0f" % (s["p99"] - direct["p99"]))
            rows.append((work, rate, name, "%.0f" % s["p50"], "%.0f" % s["p99"], "%.0f" % s["p999"]) + added)
    return table(("work", "requests/s", "subject", "p50, µs", "p99, µs", "p99.9, µs", "added p50", "added p99"), rows)


def undisturbed_table(results):
    rows = [(kind, "%.0f" % s["p50"], "%.0f" % s["p99"], "%.2f" % s["ratio"], s["rounds"]) for kind, s in results.items()]
    return table(("meanwhile", "p50, µs", "p99, µs", "p99 to the quiet windows beside", "windows"), rows)


def idle_table(results):
    rows = []
    for name, s in results.items():
        rows.append((name, "%.1f" % (s["start_kib"] / 1024), s["connections"], "%.0f" % s["bytes_each"]))
    return table(("subject", "memory at start, MiB", "idle connections", "bytes each"), rows)


def workers_table(results):
    rows = []
    for name, s in results.items():
        one, two = s.get(1), s.get(2)
        if one and two:
            rows.append((name, "%d" % one["rate"], "%d" % two["rate"], "%.2f" % (two["rate"] / one["rate"])))
    return table(("subject", "requests/s, 1 worker", "2 workers", "gain"), rows)


class Bars:
    """Compares the sidecar with what was to be reached. Each bar: (what, measured text, met or None when not judged)."""

    def __init__(self, data):
        self.data = data
        self.rows = []

    def us(self, work, size, name):
        s = self.data["cost"].get((work, size), {}).get(name)
        return s["us"] if s else None

    def add(self, what, value, limit, unit="x"):
        if value is None:
            self.rows.append((what, "not measured", None))
        else:
            self.rows.append((what, "%.2f %s (bar %.2f)" % (value, unit, limit), value <= limit))

    def ratio(self, work, size, other, limit):
        ours, theirs = self.us(work, size, "promptops-sidecar"), self.us(work, size, other)
        value = ours / theirs if ours and theirs else None
        self.add("%s, %s, against %s" % (work, size_text(size), other), value, limit)

    def all(self):
        null, forward, tls = "bench-null", "bench-forward", "TLS upstream"
        for work, size, other, limit in (
            ("cached answer", 1024, null, 1.3),
            ("cached answer", 1024, "haproxy", 0.8),
            ("cached answer", 1024, "nginx", 0.5),
            ("forwarded answer", 1024, forward, 1.15),
            ("forwarded answer", 1024, "nginx", 1.0),
            ("forwarded answer", 1024, "haproxy", 1.0),
            ("cached answer", 16384, null, 1.25),
            ("forwarded answer", 16384, forward, 1.15),
            ("cached answer", 262144, "nginx", 1.0),
            ("forwarded answer", 262144, forward, 1.1),
            (tls, 1024, "nginx", 1.0),
            (tls, 1024, "haproxy", 1.0),
            (tls, 16384, "nginx", 1.0),
            (tls, 16384, "haproxy", 1.0),
        ):
            self.ratio(work, size, other, limit)
        self.latency()
        self.undisturbed()
        self.memory()
        return self.rows

    def latency(self):
        subjects = next((v for (work, _), v in self.data["latency"].items() if work == "forwarded answer"), {})
        ours, direct = subjects.get("promptops-sidecar"), subjects.get("direct")
        both = ours and direct
        self.add("added latency p50", ours["p50"] - direct["p50"] if both else None, 100, "µs")
        self.add("added latency p99", ours["p99"] - direct["p99"] if both else None, 1000, "µs")

    def undisturbed(self):
        """What quiet windows differ by among themselves is the machine's."""
        results = self.data["undisturbed"]
        noise = results["nothing"]["ratio"] if results else 1
        for kind, s in results.items():
            if kind != "nothing":
                self.add("p99 with %s" % kind, s["ratio"], max(1.1, 1.1 * noise))

    def memory(self):
        ours = self.data["idle"].get("promptops-sidecar")
        self.add("memory at start", ours["start_kib"] / 1024 if ours else None, 8, "MiB")
        self.add("memory of an idle connection", ours["bytes_each"] if ours else None, 1024, "bytes")
        soak = self.data.get("soak")
        if soak:
            self.add("memory grown over %d requests" % soak["requests"], soak["grown_kib"], 256, "KiB")
        two = self.data["workers"].get("promptops-sidecar", {})
        gain = two[2]["rate"] / two[1]["rate"] if 1 in two and 2 in two else None
        if gain is None or not self.data["workers_judged"]:
            text = "not measured" if gain is None else "%.2f x; not judged: too few processors to drive them" % gain
            self.rows.append(("two workers against one", text, None))
        else:
            self.rows.append(("two workers against one", "%.2f x (bar 1.80)" % gain, gain >= 1.8))


def bars_table(rows):
    words = {True: "met", False: "MISSED", None: "-"}
    return table(("to reach", "measured", ""), [(what, text, words[met]) for what, text, met in rows])


def whole(data):
    parts = [data["about"]]
    for title, results, make in (
        ("Processor time, capacity, memory", data["cost"], cost_table),
        ("Latency, open loop", data["latency"], latency_table),
        ("Cached answers while others look", data["undisturbed"], undisturbed_table),
        ("Idle connections", data["idle"], idle_table),
        ("Two workers", data["workers"], workers_table),
    ):
        if results:
            parts.append("**%s**\n\n%s" % (title, make(results)))
    parts.append("**To reach**\n\n%s" % bars_table(data["bars"]))
    return "\n\n".join(parts)


def write_readme(path, text):
    """Puts the text between the markers. False when they are not there."""
    with open(path, encoding="utf-8") as f:
        old = f.read()
    if BEGIN not in old or END not in old:
        return False
    new = re.sub(
        re.escape(BEGIN) + ".*?" + re.escape(END), lambda _: "%s\n%s\n%s" % (BEGIN, text, END), old, count=1, flags=re.S
    )
    with open(path, "w", encoding="utf-8") as f:
        f.write(new)
    return True
