#!/bin/sh
# The dashboard in Chromium: installs what the tests need from npm, checks the types of the dashboard's sources, runs the tests.
#   BUILD=build tests/browser/run.sh [--test-name-pattern=WORDS] [FILE.test.mjs...]
set -eu
cd "$(dirname "$0")"
if ! cmp -s package-lock.json node_modules/.lock; then
    npm ci --loglevel=error >/dev/null
    cp package-lock.json node_modules/.lock
fi
node_modules/.bin/tsc -p ../../metrics/dashboard
files=
for one in "$@"; do case $one in *.mjs) files=yes ;; esac; done
[ -n "$files" ] || set -- "$@" charts.test.mjs actions.test.mjs shape.test.mjs
exec timeout -k 5 600 node --test "$@"
