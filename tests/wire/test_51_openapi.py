"""The OpenAPI document of the admin port against its real answers: every path, status and required member."""
import http.client
import json

from harness import *

# Where an operation needs more than its path to be answered well.
FILL = {"{name}": "upstream", "{id}": "no-such"}
BODIES = {"/api/v1/cache/purge": {"all": True}, "/api/v1/config": {"server_timing": None}, "/api/v1/debug": {"modules": {"pool": "debug"}, "seconds": 5},
          "/api/v1/session": {"token": "no-such"}, "/api/v1/custom-metrics": {"name": "tests_total", "value": 1, "type": "counter"}}
BUILT_LATER = "501"


def document(t, sidecar):
    status, _, told = sidecar.admin("/api/v1/openapi.json")
    equal(status, 200, "status")
    return told


def fits(schema, value, where):
    """The part of JSON Schema that the document uses."""
    if "$ref" in schema:
        return fits(ERRORS[schema["$ref"].rsplit("/", 1)[1]], value, where)
    types = schema.get("type", [])
    types = types if isinstance(types, list) else [types]
    kinds = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None), "integer": int, "number": (int, float)}
    if types:
        good = any(isinstance(value, kinds[kind]) and not (isinstance(value, bool) and kind in ("integer", "number")) for kind in types)
        check(good, "%s is %r, not %s" % (where, value, types))
    for name in schema.get("required", []):
        check(name in value, "%s has no %s" % (where, name))
    for name, inner in schema.get("properties", {}).items():
        if isinstance(value, dict) and name in value:
            fits(inner, value[name], "%s.%s" % (where, name))


ERRORS = {}
QUERY = {"metric_type": "ERROR_RATE", "by": "operation"}   # good values of required query parameters


def ask(sidecar, method, path, body):
    status, fields, told = sidecar.admin(path, method, body)
    return status, fields, told


def test_every_operation_answers_as_the_document_says(t):
    sidecar = t.sidecar(t.origin(), {"cache.enabled": True})
    told = document(t, sidecar)
    ERRORS.update(told["components"]["schemas"])
    seen = 0
    for path, operations in told["paths"].items():
        for method, operation in operations.items():
            if path == "/drain":
                continue   # last, below
            with t.case("%s %s" % (method.upper(), path)):
                one(sidecar, path, method.upper(), operation)
            seen += 1
    check(seen >= 30, "only %d operations" % seen)
    one(sidecar, "/drain", "POST", told["paths"]["/drain"]["post"])


def one(sidecar, path, method, operation):
    place = path
    for name, value in FILL.items():
        place = place.replace(name, value)
    required = [one["name"] for one in operation.get("parameters", ()) if one["in"] == "query" and one.get("required")]
    if required:
        place += "?" + "&".join("%s=%s" % (name, QUERY[name]) for name in required)
    status, fields, told = ask(sidecar, method, place, BODIES.get(path, {}) if "requestBody" in operation else None)
    check(str(status) in operation["responses"], "status %d is not in the document: %s" % (status, sorted(operation["responses"])))
    if path == "/api/v1/stream":
        equal(status, 426, "status without an upgrade")
    elif (path, method) == ("/api/v1/session", "POST"):
        equal(status, 409, "status where no token is asked for")
    else:
        check((path, status) == ("/", 501) or status in (200, 201, 202, 204, 404) or (status in (400, 404) and path.endswith("}")) or status in (400, 501) and not operation["x-built"] or status == 400 and "requestBody" in operation,
              "status %d of a good request: %r" % (status, told))
    if path == "/" and status == 501:
        return                              # built without npm: the page says so
    equal(status == 501, not operation["x-built"], "x-built")
    content = operation["responses"][str(status)].get("content", {})
    kind = fields.get("Content-Type", "").split(";")[0]
    if kind == "application/json":
        check("application/json" in content, "JSON is not in the document")
        fits(content["application/json"]["schema"], told, "answer")
    kept = "no-cache" if path == "/" else "no-store"  # the page may be kept, and is asked about each time
    for name, value in (("X-Content-Type-Options", "nosniff"), ("Cache-Control", kept), ("Referrer-Policy", "no-referrer")):
        equal(fields.get(name), value, name)
    check("frame-ancestors 'none'" in fields.get("Content-Security-Policy", ""), "Content-Security-Policy")


def test_statuses_of_what_is_wrong(t):
    sidecar = t.sidecar(t.origin())
    told = document(t, sidecar)
    for path, operations in told["paths"].items():
        place = path
        for name, value in FILL.items():
            place = place.replace(name, value)
        methods = {m.upper() for m in operations}
        with t.case("OPTIONS " + path):
            status, fields, _ = sidecar.admin(place, "OPTIONS")
            equal(status, 204, "status")
            equal({m.strip() for m in fields["Allow"].split(",")}, methods | {"OPTIONS"} | ({"HEAD"} if "GET" in methods else set()), "Allow")
        wrong = "PUT" if "PUT" not in methods else "POST"
        if wrong in methods:
            continue
        with t.case("%s %s" % (wrong, path)):
            status, fields, error = sidecar.admin(place, wrong, {})
            equal(status, 405, "status")
            check("Allow" in fields, "no Allow")
            fits(told["components"]["schemas"]["Error"], error, "the error")
        for operation in operations.values():
            for parameter in operation["parameters"]:
                if parameter["in"] == "query" and operation["x-built"] and parameter["schema"].get("type") != "string":
                    with t.case("%s?%s=x" % (path, parameter["name"])):
                        status, _, error = sidecar.admin("%s?%s=x" % (place, parameter["name"]))
                        equal(status, 400, "status")
                        check(parameter["name"] in error["error"], "the error does not name the parameter: %r" % error)


def test_head_is_get_without_content(t):
    sidecar = t.sidecar(t.origin())
    for path in ("/api/v1", "/api/v1/config", "/health/live", "/metrics"):
        with t.case(path):
            connection = http.client.HTTPConnection(*sidecar.admin_address, timeout=PATIENCE)
            connection.request("HEAD", path)
            response = connection.getresponse()
            equal(response.status, 200, "status")
            check(int(response.getheader("Content-Length")) > 0, "Content-Length")
            equal(response.read(), b"", "content")
            connection.close()
