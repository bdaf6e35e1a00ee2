#!/bin/sh
# Makes promptops-sidecar_VERSION_ARCH.deb of what is built, into OUT: BUILD=build deploy/debian/build.sh VERSION [OUT]
# The dependencies are what dpkg-shlibdeps finds in the programs; times come from SOURCE_DATE_EPOCH, so that the same
# build gives the same package.
set -eu
top=$(cd "$(dirname "$0")/../.." && pwd)
version=$1 out=${2:-$top/${BUILD:-build}}
build=$top/${BUILD:-build}
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$top" log -1 --format=%ct 2>/dev/null || echo 0)}
export SOURCE_DATE_EPOCH
arch=$(dpkg --print-architecture)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
umask 022

install -D -m 0755 -t "$root/usr/bin" "$build/promptops-sidecar" "$build/promptops-perf"
strip "$root/usr/bin/promptops-sidecar" "$root/usr/bin/promptops-perf"
install -D -m 0644 -t "$root/lib/systemd/system" "$top"/deploy/systemd/promptops-sidecar*.service "$top"/deploy/systemd/promptops-sidecar*.socket
install -D -m 0644 "$top/deploy/debian/sidecar.yaml" "$root/etc/promptops-sidecar/sidecar.yaml"
install -D -m 0644 "$top/README.md" "$root/usr/share/doc/promptops-sidecar/README.md"
install -D -m 0644 -t "$root/usr/share/doc/promptops-sidecar/prometheus" "$top"/deploy/prometheus/promptops.rules.yml
install -D -m 0644 -t "$root/usr/share/doc/promptops-sidecar/grafana" "$top"/deploy/grafana/promptops-sidecar.json
install -D -m 0644 -t "$root/usr/share/doc/promptops-sidecar" "$top/deploy/debian/copyright"
{
    printf 'promptops-sidecar (%s) unstable; urgency=medium\n\n  * Version %s. What changed is told by the history of the sources.\n\n' "$version" "$version"
    printf ' -- PromptOps <support@promptops.ai>  %s\n' "$(LC_ALL=C date -u -R -d "@$SOURCE_DATE_EPOCH")"
} | gzip -9n >"$root/usr/share/doc/promptops-sidecar/changelog.gz"
mkdir -p "$root/usr/share/man/man1" "$root/usr/share/bash-completion/completions"
"$top/deploy/manual.sh" "$build/promptops-sidecar" | gzip -9n >"$root/usr/share/man/man1/promptops-sidecar.1.gz"
"$build/promptops-perf" manual | gzip -9n >"$root/usr/share/man/man1/promptops-perf.1.gz"
"$build/promptops-perf" completion bash >"$root/usr/share/bash-completion/completions/promptops-perf"

mkdir -p "$work/debian"
printf 'Source: promptops-sidecar\n\nPackage: promptops-sidecar\nArchitecture: any\n' >"$work/debian/control"
depends=$(cd "$work" && dpkg-shlibdeps -O root/usr/bin/promptops-sidecar root/usr/bin/promptops-perf 2>/dev/null | sed -n 's/^shlibs:Depends=//p')
[ -n "$depends" ] || { echo "deb: dpkg-shlibdeps found no dependencies" >&2; exit 1; }

mkdir -p "$root/DEBIAN"
cat >"$root/DEBIAN/control" <<CONTROL
Package: promptops-sidecar
Version: $version
Architecture: $arch
Maintainer: PromptOps <support@promptops.ai>
Installed-Size: $(du -sk "$root" | cut -f 1)
Depends: $depends, ca-certificates
Section: net
Priority: optional
Homepage: https://promptops.ai
Description: caching reverse proxy beside an application, in front of the PromptOps API
 It pools connections, caches answers, joins equal requests, retries within a
 budget, and answers from what it has while the API is down. An admin port
 shows what it did; promptops-perf is its command line.
CONTROL
echo /etc/promptops-sidecar/sidecar.yaml >"$root/DEBIAN/conffiles"
install -m 0755 "$top/deploy/debian/postinst" "$top/deploy/debian/prerm" "$top/deploy/debian/postrm" "$root/DEBIAN/"
(cd "$root" && find . -type f ! -path './DEBIAN/*' -printf '%P\0' | sort -z | xargs -0 md5sum >DEBIAN/md5sums)
find "$root" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
dpkg-deb --root-owner-group -Zxz --build "$root" "$out/promptops-sidecar_${version}_$arch.deb"
