"""The command line and the configuration (INTERFACE 1, 2; pain 23): every error in words, and which value wins."""
import os
import re

from harness import *


def config_file(t, text, name="c.yaml"):
    path = os.path.join(t.directory, name)
    with open(path, "w") as out:
        out.write(text)
    return path


def test_check_good(t):
    code, out, errors = run_once(["--config", config_file(t, "upstream:\n  url: http://127.0.0.1:9\n"), "--check"])
    equal(code, 0, "exit code (%s)" % (out + errors))


CHECKS = [
    # name, file, line, key, words that the message must have
    ("unknown key", "workers: 1\nretri:\n  max_attempts: 2\n", 2, "retri", ["retry"]),
    ("unknown key inside", "retry:\n  max_attempt: 2\n", 2, "retry.max_attempt", ["max_attempts"]),
    ("unknown key, far from any", "a: 1\n", 1, "a", []),
    ("not a number", "retry:\n  max_attempts: many\n", 2, "retry.max_attempts", []),
    ("below the bounds", "retry:\n  max_attempts: 0\n", 2, "retry.max_attempts", ["1"]),
    ("above the bounds", "retry:\n  max_attempts: 1000\n", 2, "retry.max_attempts", ["20"]),
    ("not a duration", "drain_timeout: soon\n", 1, "drain_timeout", []),
    ("unknown unit", "drain_timeout: 5 parsecs\n", 1, "drain_timeout", []),
    ("negative duration", "drain_timeout: -5s\n", 1, "drain_timeout", []),
    ("not a size", "cache:\n  max_memory_bytes: 10 MiBs\n", 2, "cache.max_memory_bytes", []),
    ("not a choice", "cache:\n  strategy: lruu\n", 2, "cache.strategy", ["lru"]),
    ("not a boolean", "cache:\n  enabled: perhaps\n", 2, "cache.enabled", ["true"]),
    ("a mapping in place of a value", "workers:\n  a: 1\n", None, "workers", []),
    ("a list in place of a value", "workers: [1, 2]\n", 1, "workers", []),
    ("a value in place of a mapping", "retry: 5\n", 1, "retry", []),
    ("bad address", "listen:\n  address: nowhere\n", 2, "listen.address", []),
    ("bad port", "listen:\n  address: 127.0.0.1:70000\n", 2, "listen.address", []),
    ("bad URL", "upstream:\n  url: ftp://a\n", 2, "upstream.url", ["http"]),
    ("URL with a password", "upstream:\n  url: http://u:p@a\n", 2, "upstream.url", []),
    ("a file that is not there", "upstream:\n  tls:\n    ca_file: /no/such/file\n", 3, "upstream.tls.ca_file", []),
    ("a certificate that is none", "listen:\n  tls:\n    certificate_file: /etc/passwd\n    key_file: /etc/passwd\n", 3, "listen.tls.certificate_file", ["PEM"]),
    ("an authority that is none", "upstream:\n  url: https://a\n  tls: {ca_file: /etc/passwd}\n", 3, "upstream.tls.ca_file", ["PEM"]),
    ("a key twice", "workers: 1\nworkers: 2\n", 2, "workers", []),
    ("a route without a path", "routes:\n  - operation: x\n", None, "routes", []),
    ("a route's unknown key", "routes:\n  - match: {path: /a}\n    operatoin: x\n", 3, "routes", ["operation"]),
]


def test_pain_23_check_names_file_line_key_and_remedy(t):
    for name, text, line, key, words in CHECKS:
        with t.case(name):
            path = config_file(t, text)
            code, out, errors = run_once(["--config", path, "--check"])
            said = out + errors
            equal(code, 2, "exit code (%s)" % said)
            match = re.search(re.escape(path) + r":(\d+):(\d+): ([^:]+): (.+)", said)
            check(match, "no FILE:LINE:COLUMN: key: text in %r" % said)
            check(line is None or int(match.group(1)) == line, "line %s, wanted %s: %r" % (match.group(1), line, said))
            check(match.group(3).startswith(key), "key %r, wanted %r" % (match.group(3), key))
            for word in words:
                check(word in match.group(4), "no %r in %r" % (word, match.group(4)))


def test_check_prints_every_error(t):
    path = config_file(t, "workerz: 1\nretry:\n  max_attempts: many\ncache:\n  strategy: x\n  max_size: -1\n")
    code, out, errors = run_once(["--config", path, "--check"])
    equal(code, 2, "exit code")
    equal(sorted({int(n) for n in re.findall(re.escape(path) + r":(\d+):", out + errors)}), [1, 3, 5, 6], "lines with errors")


def test_a_bad_configuration_does_not_start(t):
    for name, text in [("unknown key", "workerz: 1\n"), ("not YAML", "a: [b\nc: {\n"), ("a tab", "retry:\n\tmax_attempts: 2\n"), ("a list", "- a\n- b\n"), ("a word", "hello\n"),
                       ("NUL", "workers: 1\0\n"), ("an anchor bomb", "a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\n")]:
        with t.case(name):
            code, _, errors = run_once(["--config", config_file(t, text)])
            equal(code, 2, "exit code")
            check("c.yaml" in errors, "message %r" % errors[:300])
    with t.case("no such file"):
        code, _, errors = run_once(["--config", "/no/such/file.yaml"])
        equal(code, 2, "exit code")
        check("/no/such/file.yaml" in errors, "message %r" % errors[:300])


def test_an_empty_file_is_all_defaults(t):
    for text in ("", "# nothing\n", "---\n", "{}\n"):
        with t.case(repr(text)):
            code, out, errors = run_once(["--config", config_file(t, text), "--check"])
            equal(code, 0, "exit code (%s)" % (out + errors))


def test_usage_errors(t):
    for args, words in [(["--no-such-flag"], ["--no-such-flag"]), (["--set"], ["--set"]), (["--set", "retry.max_attempts"], []), (["--set", "retri.max_attempts=1"], ["retry.max_attempts"]),
                        (["--set", "retry.max_attempts=x"], ["retry.max_attempts"]), (["--config"], ["--config"]), (["word"], ["word"]), (["--listen", "x"], []), (["--upstream", "x"], [])]:
        with t.case(" ".join(args)):
            code, out, errors = run_once(args + ["--check"] if args[-1] not in ("--set", "--config") else args)
            equal(code, 2, "exit code")
            for word in words:
                check(word in out + errors, "no %r in %r" % (word, out + errors))


def test_help_and_version(t):
    code, out, _ = run_once(["--help"])
    equal(code, 0, "exit code of --help")
    check("--config" in out and "--set" in out, "help %r" % out[:200])
    code, out, _ = run_once(["--version"])
    equal(code, 0, "exit code of --version")
    check(re.search(r"\d+\.\d+", out), "version %r" % out)
    del t


def value_of(out, key):
    """(value, whole line) of a dotted key in the YAML that --print-config prints."""
    path = []
    for line in out.splitlines():
        match = re.match(r"( *)([a-z0-9_]+):(?: +(\S+))?", line)
        if match:
            path = path[:len(match.group(1)) // 2] + [match.group(2)]
            if ".".join(path) == key:
                return match.group(3), line
    raise Failed("no %s in:\n%s" % (key, out))


def test_precedence_and_origin_of_values(t):
    """defaults < file < environment < flags; --print-config says which."""
    path = config_file(t, "cache:\n  default_ttl: 10\n  max_size: 11\n  heuristic_fraction: 0.2\n")
    environment = {"PROMPTOPS_SIDECAR_CACHE__MAX_SIZE": "22", "PROMPTOPS_SIDECAR_CACHE__HEURISTIC_FRACTION": "0.3"}
    code, out, errors = run_once(["--config", path, "--set", "cache.heuristic_fraction=0.4", "--print-config"], environment)
    equal(code, 0, "exit code (%s)" % errors)
    for key, value, source in [("cache.default_ttl", "10", "c.yaml"), ("cache.max_size", "22", "PROMPTOPS_SIDECAR_CACHE__MAX_SIZE"), ("cache.heuristic_fraction", "0.4", "--set"),
                               ("cache.compression_threshold", "1", "default")]:
        with t.case(key):
            got, line = value_of(out, key)
            check(got.startswith(value), "value %r in %r" % (got, line))
            check(source.lower() in line.lower(), "no %r in %r" % (source, line))


def test_flags_for_the_common_ones(t):
    code, out, errors = run_once(["--upstream", "http://127.0.0.1:99", "--listen", "127.0.0.1:98", "--admin", "127.0.0.1:97", "--print-config"])
    equal(code, 0, "exit code (%s)" % errors)
    for key, value in [("upstream.url", "http://127.0.0.1:99"), ("listen.address", "127.0.0.1:98"), ("admin.address", "127.0.0.1:97")]:
        equal(value_of(out, key)[0].strip('"'), value, key)
    del t


def test_an_unknown_environment_variable_is_an_error(t):
    code, out, errors = run_once(["--check"], {"PROMPTOPS_SIDECAR_CACHE__DEFAULT_TTTL": "5"})
    equal(code, 2, "exit code")
    check("PROMPTOPS_SIDECAR_CACHE__DEFAULT_TTTL" in out + errors, "message %r" % (out + errors))
    del t


def test_what_print_config_prints_can_be_read_again(t):
    _, out, _ = run_once(["--set", "cache.default_ttl=77s", "--set", "upstream.url=http://127.0.0.1:9", "--print-config"])
    code, again, errors = run_once(["--config", config_file(t, out), "--print-config"])
    equal(code, 0, "exit code (%s)" % errors)
    strip = re.compile(r"\s*#.*")
    equal([strip.sub("", line) for line in again.splitlines()], [strip.sub("", line) for line in out.splitlines()], "values")


def test_durations_and_sizes(t):
    for key, text, same in [("drain_timeout", "1500ms", "1.5s"), ("drain_timeout", "90", "90s"), ("drain_timeout", "2m", "120s"), ("upstream.stream_idle_timeout", "1h", "3600"),
                            ("cache.max_memory_bytes", "1MiB", "1048576"), ("cache.max_memory_bytes", "64KiB", "65536"), ("cache.max_memory_bytes", "1GiB", "1024MiB")]:
        with t.case("%s: %s is %s" % (key, text, same)):
            got = [value_of(run_once(["--set", "%s=%s" % (key, v), "--print-config"])[1], key)[0] for v in (text, same)]
            equal(got[0], got[1], "printed value")
