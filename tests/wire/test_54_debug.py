"""Debugging a live sidecar: a trace of chosen requests and log levels, which switch themselves off."""
from harness import *


def traced(sidecar):
    return [line for line in sidecar.log if '"module":"trace"' in line]


def test_a_trace_of_one_request(t):
    sidecar = t.sidecar(t.origin())
    equal(sidecar.admin("/api/v1/config", "PATCH", {"log.level": "error"})[0], 200, "log.level")
    equal(sidecar.admin("/api/v1/debug", "PUT", {"trace": {"request_id": "wanted-1"}, "seconds": 60})[0], 200, "status")
    sidecar.request("/", fields=[("X-Request-Id", "other-2")])
    sidecar.request("/", fields=[("X-Request-Id", "wanted-1")])
    wait_for(lambda: any("to over" in line for line in traced(sidecar)), "the trace")
    check(all("wanted-1" in line for line in traced(sidecar)), traced(sidecar))
    for phase in ("queued", "sent", "relay", "over"):
        check(any("to " + phase in line for line in traced(sidecar)), "no line of " + phase)
    told = sidecar.admin("/api/v1/debug", "DELETE")[2]
    equal(told["trace"], None, "the trace")
    before = len(traced(sidecar))
    sidecar.request("/", fields=[("X-Request-Id", "wanted-1")])
    equal(len(traced(sidecar)), before, "lines after the end")


def test_a_trace_of_one_client(t):
    sidecar = t.sidecar(t.origin())
    with sidecar.client() as one, sidecar.client() as other:
        wanted = "%s:%d" % one.sock.getsockname()
        equal(sidecar.admin("/api/v1/debug", "PUT", {"trace": {"client": wanted}, "seconds": 60})[2]["trace"]["client"], wanted, "the trace")
        other.request("/", fields=[("X-Request-Id", "other")])
        one.request("/", fields=[("X-Request-Id", "mine")])
        wait_for(lambda: any("to over" in line for line in traced(sidecar)), "the trace")
        check(all("request mine of %s:" % wanted in line for line in traced(sidecar)), traced(sidecar))
        sidecar.admin("/api/v1/debug", "PUT", {"trace": {"client": "127.0.0.1"}})
        other.request("/", fields=[("X-Request-Id", "other")])
        wait_for(lambda: any("request other" in line and "to over" in line for line in traced(sidecar)), "any port")
        sidecar.admin("/api/v1/debug", "PUT", {"trace": {"client": "127.0.0.2"}})
        before = len(traced(sidecar))
        other.request("/")
        equal(len(traced(sidecar)), before, "lines of another address")


def test_the_command_line_switches_and_shows(t):
    import json
    from test_53_perf import perf
    sidecar = t.sidecar(t.origin())
    code, out, told = perf(sidecar, "debug", "--client", "127.0.0.1", "--phase", "over", "--level", "debug", "--module", "pool", "--seconds", "60", "--format", "json")
    shown = json.loads(out)
    equal((code, shown["trace"]["client"], shown["trace"]["phase"], shown["modules"]["pool"]["level"]), (0, "127.0.0.1", "over", "debug"), "what is on: " + told)
    check(0 < shown["trace"]["seconds_left"] <= 60, shown)
    code, out, _ = perf(sidecar, "debug")
    check(code == 0 and "127.0.0.1" in out, out)
    sidecar.request("/")
    wait_for(lambda: len(traced(sidecar)) == 1 and "to over" in traced(sidecar)[0], "one line")
    code, out, _ = perf(sidecar, "debug", "--off", "--format", "json")
    equal((code, json.loads(out)["trace"]), (0, None), "off")
    for words, code in ((("--client", "localhost"), 1), (("--phase", "x"), 1), (("--level", "loud"), 1), (("--seconds", "0"), 1), (("--seconds", "x"), 2), (("--module", "pool"), 2),
                        (("--off", "--phase", "over"), 2), (("more",), 2)):
        got, _, told = perf(sidecar, "debug", *words)
        check(got == code and told, "%r: %d %s" % (words, got, told))


def test_it_switches_itself_off(t):
    sidecar = t.sidecar(t.origin())
    told = sidecar.admin("/api/v1/debug", "PUT", {"trace": {"phase": "sent"}, "modules": {"admin": "info"}, "seconds": 1})[2]
    equal((told["modules"]["admin"]["level"], told["trace"]["phase"]), ("info", "sent"), "what is on")
    wait_for(lambda: sidecar.admin("/api/v1/debug")[2]["trace"] is None, "the end of the trace")
    equal(sidecar.admin("/api/v1/debug")[2]["modules"]["admin"]["level"], None, "the level")


def test_what_is_wrong_is_refused_whole(t):
    sidecar = t.sidecar(t.origin())
    for body in ({"modules": {"nothing": "debug"}}, {"modules": {"pool": "loud"}}, {"trace": {"phase": "x"}}, {"trace": {"request_id": 1}}, {"trace": {}}, {"trace": {"client": "localhost"}}, {"trace": {"client": "1.2.3.4:"}}, {"trace": {"client": "[::1"}}, {"trace": {"phase": "sent relay"}}, {"seconds": 0, "modules": {"pool": "debug"}},
                 {"modules": {"pool": "debug"}, "trace": []}):
        with t.case(repr(body)):
            equal(sidecar.admin("/api/v1/debug", "PUT", body)[0], 400, "status")
    check(all(m["level"] is None for m in sidecar.admin("/api/v1/debug")[2]["modules"].values()), "something was switched on")
