#!/usr/bin/python3
"""Makes the chart's values.schema.json: values.schema.base.json with the option table as the schema of `config`.

    deploy/helm/values_schema.py [--check] [PROGRAM]      PROGRAM: build/promptops-sidecar
"""
import json
import os
import subprocess
import sys

CHART = os.path.join(os.path.dirname(os.path.abspath(__file__)), "promptops-sidecar")


def main():
    arguments = [a for a in sys.argv[1:] if a != "--check"]
    program = arguments[0] if arguments else "build/promptops-sidecar"
    with open(os.path.join(CHART, "values.schema.base.json")) as base:
        schema = json.load(base)
    options = json.loads(subprocess.run([program, "--print-schema"], check=True, capture_output=True, text=True).stdout)
    del options["$schema"]
    # The pod's addresses are looked at by the templates.
    options["required"] = ["listen", "admin", "upstream"]
    schema["properties"]["config"] = options
    text = json.dumps(schema, indent=1) + "\n"
    path = os.path.join(CHART, "values.schema.json")
    if "--check" not in sys.argv:
        with open(path, "w") as out:
            out.write(text)
        return 0
    with open(path) as there:
        if there.read() == text:
            return 0
    print("%s is not what policy/options.def says; run deploy/helm/values_schema.py" % path, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
