#!/usr/bin/env python3
"""Holds the rules of the house that a machine can hold. Prints each breach as FILE:LINE: what; exits 1 when there is any.

    tests/lint/lint.py [BUILD]

The include rules are ARCHITECTURE.md section 1; the lengths are the house budget.
"""
import json
import os
import re
import shutil
import subprocess
import sys

BUILD = sys.argv[1] if len(sys.argv) > 1 else "build"
breaches = []

PURE_C11 = {"assert.h", "errno.h", "float.h", "inttypes.h", "limits.h", "math.h", "stdarg.h", "stdbool.h", "stddef.h", "stdint.h",
            "stdlib.h", "string.h", "ctype.h", "emmintrin.h"}
ALLOWED = {
    "policy": (("policy/",), PURE_C11),
    "metrics": (("metrics/",), PURE_C11 | {"stdatomic.h", "stdio.h", "time.h"}),
}
# policy/config*.c format values and errors, and count references: the exceptions that the README names.
EXCEPTIONS = {"stdio.h": re.compile(r"^policy/(config|suggest|units|alert_spec|route)"), "stdatomic.h": re.compile(r"^policy/config")}
# One room a library.
ROOMS = {
    "openssl/": re.compile(r"^(proxy/(tls|signer|seal|digest)|tests/)"), "yaml.h": re.compile(r"^proxy/config_"), "msgpack": re.compile(r"^(proxy/pack[._]|tests/)"),
    "jansson.h": re.compile(r"^(proxy/(view|pack|admin|batch_json)|metrics/cli/|tests/)"), "lmdb.h": re.compile(r"^proxy/disk\.c"), "zstd.h": re.compile(r"^proxy/squeeze\.c"), "curl/": re.compile(r"^(metrics/cli/|proxy/post(_curl)?\.[ch])"), "zlib.h": re.compile(r"^proxy/admin_page\.c"), "wslay/": re.compile(r"^proxy/websocket\.c"), "seccomp.h": re.compile(r"^proxy/harden\.c"), "hiredis": re.compile(r"^proxy/redis(_reply)?\.c"),
}
BANNED = re.compile(r"\b(strcpy|strcat|sprintf|vsprintf|gets|strtok|atoi|atol|atof|rand|srand|alloca|tmpnam|mktemp)\s*\(")
MAX_FILE, MAX_FUNCTION = 900, 100
ALLOWED_SYMBOLS = re.compile(
    r"^(mem(cpy|move|set|cmp|chr|rchr)|__(mem\w+_chk|stack_chk_fail|assert_fail|snprintf_chk|vsnprintf_chk|isoc99_\w+)|str(len|cmp|ncmp|chr|rchr|pbrk|spn|cspn|str|"
    r"tod|toll|toull|ncasecmp|casecmp|nlen|dup|ndup)|malloc|calloc|realloc|free|aligned_alloc|qsort|bsearch|snprintf|vsnprintf|abort|log|exp|sqrt|pow|floor|ceil|fmod|"
    r"round|lround|llround|log1p|expm1|log2|fmin|fmax|modf|frexp|ldexp|__errno_location|__ctype_\w+|_GLOBAL_OFFSET_TABLE_|tolower|toupper|is\w+|__asan\w+|__ubsan\w+|fabs|trunc|rint|isnan|isinf)$")


def breach(path, line, what):
    breaches.append("%s:%d: %s" % (path, line, what))


def files(*patterns):
    out = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns], check=True, capture_output=True, text=True)
    return [f for f in out.stdout.split("\n") if f and os.path.exists(f)]


def check_include(path, number, name):
    room = path.split("/")[0]
    for library, where in ROOMS.items():
        if name.startswith(library) and not where.match(path) and not path.startswith("tests/"):
            breach(path, number, "%s belongs to another file: one room a library" % name)
    if name.startswith("proxy/") and room not in ("proxy", "tests"):
        breach(path, number, "only proxy/ and tests/ include proxy/")
    if room in ALLOWED and not path.startswith("metrics/cli/"):
        own, system = ALLOWED[room]
        exception = EXCEPTIONS.get(name)
        if not name.startswith(own) and name not in system and not (exception and exception.match(path)):
            breach(path, number, "%s/ may not include %s" % (room, name))


def check_file(path):
    with open(path, encoding="utf-8") as f:
        lines = f.read().split("\n")
    if len(lines) - 1 > MAX_FILE and not path.endswith(".def"):
        breach(path, len(lines) - 1, "more than %d lines" % MAX_FILE)
    if path.endswith((".c", ".h")) and not lines[0].startswith("/*"):
        breach(path, 1, "does not open with a comment that says what it is for")
    for number, line in enumerate(lines, 1):
        include = re.match(r'\s*#\s*include\s+[<"]([^>"]+)[>"]', line)
        if include:
            check_include(path, number, include.group(1))
        code = re.sub(r'"(\\.|[^"\\])*"|/\*.*?\*/|//.*', "", line)
        found = BANNED.search(code)
        if found and not code.lstrip().startswith("*") and not path.startswith("tests/"):
            breach(path, number, "%s is banned" % found.group(1))


def check_functions(paths):
    if not shutil.which("ctags"):
        print("lint: ctags is not here: lengths of functions not looked at", file=sys.stderr)
        return
    out = subprocess.run(["ctags", "--languages=C", "--kinds-C=f", "--fields=+ne", "-o", "-", *paths], check=True, capture_output=True, text=True).stdout
    for row in out.split("\n"):
        parts = row.split("\t")
        where = dict(p.split(":", 1) for p in parts[3:] if re.match(r"^(line|end):\d+$", p))
        if "line" in where and "end" in where:
            length = int(where["end"]) - int(where["line"]) + 1
            if length > MAX_FUNCTION:
                breach(parts[1], int(where["line"]), "%s has %d lines, more than %d" % (parts[0], length, MAX_FUNCTION))


def check_headers(paths):
    for path in paths:
        run = subprocess.run(["gcc", "-std=c11", "-D_GNU_SOURCE", "-I.", "-I" + BUILD, "-fsyntax-only", "-x", "c", path], capture_output=True, text=True)
        if run.returncode:
            breach(path, 1, "cannot be compiled alone: " + run.stderr.strip().split("\n")[0])


def check_symbols():
    """policy/ calls nothing of the system: its objects may miss only these symbols."""
    folder = os.path.join(BUILD, "obj/policy")
    objects = [os.path.join(folder, f) for f in os.listdir(folder) if f.endswith(".o")] if os.path.isdir(folder) else []
    defined, wanted = set(), {}
    for o in objects:
        for row in subprocess.run(["nm", o], check=True, capture_output=True, text=True).stdout.split("\n"):
            parts = row.split()
            if len(parts) == 2 and parts[0] == "U":
                wanted.setdefault(parts[1], o)
            elif len(parts) == 3:
                defined.add(parts[2])
    for symbol, o in sorted(wanted.items()):
        if symbol not in defined and not ALLOWED_SYMBOLS.match(symbol):
            breach(o, 1, "policy/ calls %s" % symbol)


def check_node(folder):
    """Each package there runs on the Node 18 that Debian 12 has; npm only warns of one that does not."""
    path = os.path.join(folder, "package-lock.json")
    with open(path) as f:
        packages = json.load(f)["packages"]
    for name, package in packages.items():
        wanted = package.get("engines", {}).get("node", "*")
        least = [int(n) for n in re.findall(r"(?:^|\|\|)[\s>=^~]*(\d+)", wanted)]
        if least and 18 not in least and min(least) > 18:
            breach(path, 1, "%s wants node %s, but Debian 12 has 18" % (name, wanted))


def main():
    sources = files("*.c", "*.h", "*.def")
    for path in sources:
        check_file(path)
    check_functions([p for p in sources if p.endswith(".c")])
    check_headers([p for p in sources if re.match(r"^(policy|metrics|proxy)/[^/]*\.h$", p)])
    check_symbols()
    check_node("metrics/dashboard")
    check_node("tests/browser")
    print("\n".join(breaches) if breaches else "lint: %d files, no breach" % len(sources))
    sys.exit(1 if breaches else 0)


main()
