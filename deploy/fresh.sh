#!/bin/sh
# Proves the quick start in a new Debian 12 root with nothing but git and make: `make demo`, then `make test`.
# Needs root and mmdebstrap. The root is kept in FRESH_ROOT when that is set, else removed.
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
"$top/deploy/install-packages.sh" fresh
root=${FRESH_ROOT:-$(mktemp -d)}
clean() {
    umount "$root/proc" 2>/dev/null || true
    [ -n "${FRESH_ROOT:-}" ] || rm -rf "$root"
}
trap clean EXIT
if [ ! -x "$root/usr/bin/git" ]; then
    echo "Making a new Debian root in $root ..."
    mmdebstrap --variant=minbase --include=git,make,ca-certificates bookworm "$root"
fi
for file in /etc/resolv.conf /etc/hosts; do cp "$file" "$root$file" 2>/dev/null || true; done
for file in /etc/apt/sources.list /etc/apt/sources.list.d /etc/apt/apt.conf.d /etc/apt/keyrings; do
    [ ! -e "$file" ] || cp -r "$file" "$root/etc/apt/" 2>/dev/null || true
done
mount -t proc proc "$root/proc"
rm -rf "$root/src"
git clone -q "$top" "$root/src/sidecar"
for goal in demo test; do
    echo "== make $goal in the new root"
    chroot "$root" /usr/bin/env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin DEMO_SECONDS=1 make -C /src/sidecar "$goal" </dev/null
done
echo "fresh: both commands work"
