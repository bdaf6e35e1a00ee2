#!/bin/sh
# Builds the dashboard and writes it as C: metrics/dashboard/build.sh OUT.c
# Without node, npm or (the first time) the network the dashboard is left out: OUT.c then holds a sentence instead, and
# is given an old time, so that the next make tries again. What was built once is kept beside the packages, for other
# build directories.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$(dirname "$1")"
out=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
log=$out.log

leave_out() {
    echo "  NOTE  the dashboard is left out: $1" >&2
    printf '#include "proxy/page_assets.h"\n\nconst struct page_asset page_assets[] = {{0}};\nconst char page_left_out[] = "%s";\n' "$1" >"$out.new"
    touch -d '2001-01-01' "$out.new"
    if cmp -s "$out.new" "$out"; then rm "$out.new"; else mv "$out.new" "$out"; fi
    exit 0
}
command -v node >/dev/null || leave_out "node is not installed (Debian: apt-get install nodejs npm)."
command -v npm >/dev/null || leave_out "npm is not installed (Debian: apt-get install npm)."
[ "$(node -p 'parseInt(process.versions.node)')" -ge 18 ] || leave_out "node is older than 18."

cd "$here"
# Two builds at once would install the packages into each other's way.
exec 9<. && flock 9
if ! cmp -s package-lock.json node_modules/.dashboard-lock; then
    echo "  NPM   metrics/dashboard"
    npm ci --fetch-retries=1 --fetch-retry-mintimeout=1000 --fetch-timeout=20000 --loglevel=error >"$log" 2>&1 || {
        sed 's/^/        /' "$log" | tail -n 5 >&2
        leave_out "its packages could not be installed by npm ci (is there a network?)."
    }
    cp package-lock.json node_modules/.dashboard-lock
fi
key=$(find . -name node_modules -prune -o -type f ! -name '*.md' ! -name '*.webp' ! -name '*.png' -print | LC_ALL=C sort | xargs sha256sum | sha256sum | cut -c1-16)
kept=node_modules/.dashboard-$key.c
if [ ! -f "$kept" ]; then
    echo "  VITE  metrics/dashboard"
    node_modules/.bin/vite build --outDir "$out.d" --emptyOutDir --logLevel warn >"$log" 2>&1 && node embed.mjs "$out.d" "$kept.$$" >>"$log" 2>&1 || {
        cat "$log" >&2
        exit 1
    }
    rm -f node_modules/.dashboard-*.c
    mv "$kept.$$" "$kept"
    rm -rf "$out.d"
fi
cp "$kept" "$out.new" && mv "$out.new" "$out"
