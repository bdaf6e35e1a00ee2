"""Every endpoint of the admin port's own description, with what it must refuse: each refusal names the field and the remedy."""
import http.client
import json
import urllib.parse

from harness import *

BAD = {"integer": ["-1", "x", "1.5", "99999999999999999999", "", "1e9", " 1", "0x10", "NaN"],
       "duration": ["-5s", "x", "", "5 parsecs", "99999999999999h", "NaN", "0x5", "1e400"],
       "time": ["x", "-", "", "2024-13-01T00:00:00", "99999999999999999999", "-9999999999h"],
       "word": ["x", "", "loud", "a" * 3000, "\0", "%ff%fe"]}
NAMES = {"durations": {"window", "step", "min_duration", "interval"}, "times": {"start_time", "end_time"}}
SERIES = {"metric_type": "REQUEST_LATENCY"}


def raw(sidecar, method, path, body=None, **fields):
    """(status, fields, parsed body): also where the answer is no JSON."""
    connection = http.client.HTTPConnection(*sidecar.admin_address, timeout=20)
    try:
        connection.request(method, path, body, dict({"X-Requested-With": "wire"}, **{k.replace("_", "-"): v for k, v in fields.items()}))
        answer = connection.getresponse()
        text = answer.read()
        try:
            return answer.status, dict(answer.getheaders()), json.loads(text)
        except ValueError:
            return answer.status, dict(answer.getheaders()), text
    finally:
        connection.close()


def refused(told, status, word):
    check(isinstance(told, dict), "no JSON: %r" % (told,))
    equal((told["success"], told["status_code"]), (False, status), "the error")
    check(word in told["error"], "%r does not name %s" % (told["error"], word))
    check(told.get("remedy") or told.get("errors"), "no remedy: %r" % told)


def operations(sidecar):
    for path, methods in sidecar.admin("/api/v1/openapi.json")[2]["paths"].items():
        for method, row in methods.items():
            if path not in ("/api/v1/stream", "/drain"):
                yield path, path.replace("{name}", "nope").replace("{id}", "nope"), method.upper(), row


def bad_values(parameter):
    schema = parameter["schema"]
    if parameter["name"] in NAMES["times"]:
        return BAD["time"]
    if parameter["name"] in NAMES["durations"]:
        return BAD["duration"]
    return BAD["integer" if schema.get("type") == "integer" else "word"]


def test_every_query_parameter(t):
    sidecar = t.sidecar(t.origin(), {"cache.enabled": True})
    tried = 0
    for path, at, method, row in operations(sidecar):
        for parameter in [p for p in row.get("parameters", ()) if p["in"] == "query"]:
            name = parameter["name"]
            with t.case("%s %s ?%s" % (method, path, name)):
                for value in bad_values(parameter):
                    query = dict(SERIES if path.startswith("/api/v1/metrics") else {}, **{name: value})
                    status, _, told = raw(sidecar, method, at + "?" + "&".join(k + "=" + (v if v.startswith("%") else urllib.parse.quote(v)) for k, v in query.items()), "{}" if method == "PATCH" else None)
                    equal(status, 400, "status of %r: %r" % (value[:20], told))
                    refused(told, 400, name)
                    tried += 1
        if path.startswith("/api/v1"):
            with t.case("%s %s ?surprise" % (method, path)):
                status, _, told = raw(sidecar, method, at + "?surprise=1", "{}" if "requestBody" in row else None)
                equal(status, 400, "status: %r" % (told,))
                refused(told, 400, "surprise")
    check(tried > 80, tried)
    for path in ("/metrics", "/health/live"):
        equal(raw(sidecar, "GET", path + "?surprise=1")[0], 200, "a scraper's or probe's own mark")


def test_ranges(t):
    sidecar = t.sidecar(t.origin())
    for query, word in (("start_time=-5m&end_time=-10m", "start_time"), ("start_time=-1m&end_time=-1m", "start_time"), ("start_time=-30d&step=1s", "step"), ("step=0.5", "step"), ("step=0", "step"),
                        ("step=999999999h", "step"), ("start_time=2024-01-01T00:00:00&end_time=2023-01-01T00:00:00", "start_time"), ("operation=nope", "operation"), ("phase=tcp", "phase"), ("name=x", "name")):
        with t.case(query):
            status, _, told = raw(sidecar, "GET", "/api/v1/metrics?metric_type=REQUEST_LATENCY&" + query)
            equal(status, 400, "status: %r" % (told,))
            refused(told, 400, word)
    for kind in ("", "REQUEST", "request_latency", "X" * 4000):
        status, _, told = raw(sidecar, "GET", "/api/v1/metrics?metric_type=" + kind)
        equal(status, 400, kind[:20])
        check("REQUEST_LATENCY" in told["remedy"], told)


def test_every_body(t):
    sidecar = t.sidecar(t.origin(), {"cache.enabled": True})
    texts = [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"surprise": 1}', b'{"a":' * 5000, b'"x"', b'{"x": NaN}', b'{"a": 1, "a": 2}', b"\0" * 10, b"[[]]", b'{"surprise": {"b": []}}']
    packed = [b"", b"\xc1", b"\x81", b"\x81\xa1a", b"\xdf\xff\xff\xff\xff", b"\xdd\xff\xff\xff\xff", b"\x91" * 3000, b"\x80\x80", b"\xc7\x04\x01abcd", b"\xa1x", b"\xdb\xff\xff\xff\xffab"]
    for path, at, method, row in operations(sidecar):
        if "requestBody" not in row or path == "/api/v1/session":
            continue
        for kind, bodies in (("application/json", texts), ("application/msgpack", packed)):
            for body in bodies:
                with t.case("%s %s %s %r" % (method, path, kind, body[:12])):
                    status, _, told = raw(sidecar, method, at, body, Content_Type=kind)
                    equal(status, 400, "status: %r" % (told,))
                    refused(told, 400, "")
        with t.case("%s %s too large" % (method, path)):
            status, _, told = raw(sidecar, method, at, b" " * 100000, Content_Type="application/json")
            equal(status, 413, "status: %r" % (told,))
            refused(told, 413, "65536")
    equal(raw(sidecar, "GET", "/health/live")[0], 200, "it lives")


def test_every_wrong_method(t):
    sidecar = t.sidecar(t.origin())
    methods = {}
    for _, at, method, _ in operations(sidecar):
        methods.setdefault(at, set()).add(method)
    for at, there in methods.items():
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE"} - there:
            with t.case(method + " " + at):
                status, fields, told = raw(sidecar, method, at)
                equal(status, 405, "status: %r" % (told,))
                equal({m for m in fields["Allow"].split(", ")} - {"HEAD", "OPTIONS"}, there, "Allow")
                refused(told, 405, "")
                equal(fields["X-Content-Type-Options"], "nosniff", "X-Content-Type-Options")
                check("default-src 'none'" in fields["Content-Security-Policy"], fields)


def test_every_change_from_another_page_is_refused(t):
    """No token is set: a page of another origin could only be a visitor's browser."""
    sidecar = t.sidecar(t.origin(), {"cache.enabled": True})
    foreign = ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"})
    before = sidecar.admin("/api/v1/config")[2]
    for _, at, method, row in operations(sidecar):
        if method == "GET":
            continue
        for mark in foreign:
            with t.case("%s %s %s" % (method, at, mark)):
                connection = http.client.HTTPConnection(*sidecar.admin_address, timeout=20)
                connection.request(method, at, '{"server_timing": true}', dict(mark, **{"Content-Type": "text/plain"}))
                answer = connection.getresponse()
                told = json.loads(answer.read())
                connection.close()
                equal(answer.status, 403, "status: %r" % told)
                refused(told, 403, "")
    equal(sidecar.admin("/api/v1/config")[2], before, "the configuration")
