#!/bin/sh
# Every test, in the order of what fails fastest. Stops at the end with one plain line; exits 1 when any part failed.
set -u
build=${BUILD:-build}
make=${MAKE:-make}
python=/usr/bin/python3
passed=0 failed=0 failures=

part() {
    name=$1
    shift
    echo "== $name"
    start=$(date +%s)
    if "$@"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        failures="$failures, $name"
    fi
    echo "   ($(($(date +%s) - start)) s)"
}

part "lint" $make --no-print-directory lint
part "unit tests" $make --no-print-directory unit
part "simulations" $make --no-print-directory sim
part "simulators" env BUILD="$build" $python tests/sim/test_programs.py
part "wire tests" env SIDECAR="$build/promptops-sidecar" $python tests/wire/run.py
part "the stand-in API" env BUILD="$build" $python tests/origin/test_origin.py
part "real clients" env BUILD="$build" $python tests/clients/run.py
part "what is shipped beside it" env BUILD="$build" $python tests/deploy/run.py
part "the dashboard in a browser" env BUILD="$build" tests/browser/run.sh
part "demo" env BUILD="$build" DEMO_SECONDS=1 sh -c 'deploy/demo.sh </dev/null >/dev/null'
part "address sanitizer: build and unit tests" $make --no-print-directory MODE=asan BUILD="$build-asan" all unit
part "address sanitizer: wire tests" env SIDECAR="$build-asan/promptops-sidecar" $python tests/wire/run.py smoke framing response pool
part "out of memory" $make --no-print-directory oom
part "fuzzers" $make --no-print-directory fuzz-smoke
[ -z "$failures" ] || echo "failed: ${failures#, }"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
