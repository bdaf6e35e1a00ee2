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


def test_it_switches_itself_off(t):
    sidecar = t.sidecar(t.origin())
    told = sidecar.admin("/api/v1/debug", "PUT", {"trace": {"phase": "sent"}, "modules": {"admin": "info"}, "seconds": 1})[2]
    equal((told["modules"]["admin"]["level"], told["trace"]["phase"]), ("info", "sent"), "what is on")
    wait_for(lambda: sidecar.admin("/api/v1/debug")[2]["trace"] is None, "the end of the trace")
    equal(sidecar.admin("/api/v1/debug")[2]["modules"]["admin"]["level"], None, "the level")


def test_what_is_wrong_is_refused_whole(t):
    sidecar = t.sidecar(t.origin())
    for body in ({"modules": {"nothing": "debug"}}, {"modules": {"pool": "loud"}}, {"trace": {"phase": "x"}}, {"trace": {"request_id": 1}}, {"seconds": 0, "modules": {"pool": "debug"}},
                 {"modules": {"pool": "debug"}, "trace": []}):
        with t.case(repr(body)):
            equal(sidecar.admin("/api/v1/debug", "PUT", body)[0], 400, "status")
    check(all(m["level"] is None for m in sidecar.admin("/api/v1/debug")[2]["modules"].values()), "something was switched on")
