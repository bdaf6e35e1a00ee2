#!/bin/sh
# Installs the Debian packages of the named groups of packages.txt that are missing, and only those.
#   deploy/install-packages.sh GROUP...
set -eu
here=$(dirname "$0")
missing=
for group in "$@"; do
    for row in $(awk -v g="$group" '$1 == g { print $2 ":" $3 }' "$here/packages.txt"); do
        package=${row%%:*} command=${row#*:}
        [ -z "$command" ] || ! command -v "$command" >/dev/null || continue
        status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
        [ "$status" = installed ] || missing="$missing $package"
    done
done
[ -n "$missing" ] || exit 0
command -v apt-get >/dev/null || {
    echo "install-packages: apt-get is not here. Install by hand what corresponds to:$missing" >&2
    exit 1
}
as_root=
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || {
        echo "install-packages: not root and no sudo. As root: apt-get install -y --no-install-recommends$missing" >&2
        exit 1
    }
    as_root=sudo
fi
echo "Installing what is missing:$missing"
export DEBIAN_FRONTEND=noninteractive
$as_root apt-get update -qq
# shellcheck disable=SC2086
$as_root apt-get install -y -qq --no-install-recommends $missing >/dev/null
