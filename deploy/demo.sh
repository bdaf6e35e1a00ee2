#!/bin/sh
# The quick start: the stand-in API and the sidecar beside each other, some traffic, the first summary.
# Stops both on Ctrl-C. With DEMO_SECONDS=N, or without a terminal, it stops by itself after N (5) seconds.
set -eu
build=${BUILD:-build}
work=$(mktemp -d)
origin= sidecar=
stop() {
    trap - EXIT INT TERM
    [ -z "$sidecar" ] || kill -INT "$sidecar" 2>/dev/null || true
    [ -z "$origin" ] || kill "$origin" 2>/dev/null || true
    [ -z "$sidecar" ] || wait "$sidecar" 2>/dev/null || true
    [ -z "$origin" ] || wait "$origin" 2>/dev/null || true
    rm -rf "$work"
    echo "Stopped."
}
trap stop EXIT
trap 'exit 0' INT TERM

# wait_for FILE PATTERN: until a line of the file matches.
wait_for() {
    tries=0
    until grep -q "$2" "$1" 2>/dev/null; do
        tries=$((tries + 1))
        [ "$tries" -lt 100 ] || { echo "demo: nothing about \"$2\" in:" >&2; cat "$1" >&2; exit 1; }
        sleep 0.1
    done
}
address() { sed -n "s/.*\"event\":\"$1\",\"address\":\"\([^\"]*\)\".*/\1/p" "$work/sidecar.log" | head -n 1; }

echo "Starting the stand-in for the PromptOps API ..."
"$build/promptops-origin" --listen 127.0.0.1:0 >"$work/origin.log" 2>&1 &
origin=$!
wait_for "$work/origin.log" "listening on"
upstream=http://$(sed -n 's/.*listening on //p' "$work/origin.log" | head -n 1)

start_sidecar() {
    "$build/promptops-sidecar" --upstream "$upstream" --listen "$1" --admin "$2" 2>"$work/sidecar.log" &
    sidecar=$!
    tries=0
    until grep -q '"event":"admin_listening"' "$work/sidecar.log"; do
        kill -0 "$sidecar" 2>/dev/null || { sidecar=; return 1; }
        tries=$((tries + 1))
        [ "$tries" -lt 100 ] || return 1
        sleep 0.05
    done
}
echo "Starting the sidecar in front of $upstream ..."
start_sidecar 127.0.0.1:8080 127.0.0.1:9901 || {
    echo "Ports 8080 or 9901 are taken: using free ones."
    start_sidecar 127.0.0.1:0 127.0.0.1:0 || { cat "$work/sidecar.log" >&2; exit 1; }
}
proxy=http://$(address listening) admin=http://$(address admin_listening)
key=po_demoDemo0000000000000001

echo "Sending traffic: ten prompts, five times each, through $proxy ..."
for round in 1 2 3 4 5; do
    for id in 1 2 3 4 5 6 7 8 9 10; do
        code=$(curl -s -o "$work/answer" -w '%{http_code}' -m 10 -H "Authorization: Bearer $key" "$proxy/v1/client/prompts/prompt-$id")
        [ "$code" = 200 ] || { echo "demo: prompt-$id was answered $code:" >&2; cat "$work/answer" >&2; exit 1; }
    done
done
echo
echo "The last answer, as the application sees it:"
curl -s -m 10 -D - -o /dev/null -H "Authorization: Bearer $key" "$proxy/v1/client/prompts/prompt-1" | grep -iE '^(HTTP|cache-status|age|via)'
echo
echo "What the sidecar did (GET $admin/api/v1/summary):"
if [ -x "$build/promptops-perf" ]; then
    "$build/promptops-perf" --admin "$admin" summary
else
    curl -s -m 10 "$admin/api/v1/summary"; echo
fi
echo
echo "Sidecar  $proxy   try: curl -H 'Authorization: Bearer $key' $proxy/v1/client/prompts/prompt-1"
echo "Dashboard $admin/"
echo "Admin    $admin/metrics, $admin/api/v1/summary, $admin/health/ready"
if [ -n "${DEMO_SECONDS:-}" ] || [ ! -t 0 ]; then
    echo "Stopping by itself in ${DEMO_SECONDS:-5} s."
    sleep "${DEMO_SECONDS:-5}"
else
    echo "Ctrl-C stops both."
    wait "$sidecar"
fi
