#!/bin/sh
# Proves the quick start in a new Debian 12 root with nothing but git and make: `make demo`, then `make test`.
# Needs root and mmdebstrap. The root is kept in FRESH_ROOT when that is set, else removed. All mounts are made in
# a mount namespace of its own and go with it.
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
if [ "${FRESH_INSIDE:-}" != 1 ]; then
    "$top/deploy/install-packages.sh" fresh
    FRESH_INSIDE=1 exec unshare --mount --propagation private "$0"
fi
root=${FRESH_ROOT:-$(mktemp -d)}
clean() {
    umount -R "$root" 2>/dev/null || true
    [ -n "${FRESH_ROOT:-}" ] || rm -rf "$root"
}
trap clean EXIT
if [ ! -x "$root/usr/bin/git" ]; then
    echo "Making a new Debian root in $root ..."
    mmdebstrap --variant=minbase --include=git,make,ca-certificates bookworm "$root"
fi
# The network is this machine's, and so is whom it trusts.
rm -rf "$root/etc/apt/sources.list" "$root/etc/apt/sources.list.d"
for file in /etc/resolv.conf /etc/hosts /etc/ssl/certs/ca-certificates.crt; do cp "$file" "$root$file" 2>/dev/null || true; done
for file in /etc/apt/sources.list /etc/apt/sources.list.d /etc/apt/apt.conf.d /etc/apt/keyrings; do
    [ ! -e "$file" ] || cp -r "$file" "$root/etc/apt/" 2>/dev/null || true
done
# What a machine has: its root is a mount point, with processes, terminals and shared memory.
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mkdir -p "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
mount -t tmpfs tmpfs "$root/dev/shm"
ln -sf pts/ptmx "$root/dev/ptmx"
rm -rf "$root/src"
git clone -q "$top" "$root/src/sidecar"
for goal in ${FRESH_GOALS:-demo test}; do
    echo "== make $goal in the new root"
    chroot "$root" /usr/bin/env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin DEMO_SECONDS=1 make -C /src/sidecar "$goal" </dev/null
done
echo "fresh: both commands work"
