#!/bin/sh
# Puts programs and all that they need into a directory, as the root of an image.
#   deploy/image-root.sh ROOT PROGRAM...
# Libraries are found by the loader itself (ldd); libcurl, which is loaded when a webhook or an export first wants it,
# is named here.
set -eu
root=$1
shift
mkdir -p "$root/usr/bin" "$root/etc/ssl/certs" "$root/usr/share/doc" "$root/var/lib/promptops" "$root/run/promptops" "$root/tmp"

# put_library FILE: the file where the loader looks for it, following links, and its package's copyright.
put_library() {
    [ -e "$root$1" ] && return
    mkdir -p "$root$(dirname "$1")"
    cp -L "$1" "$root$1"
    strip --strip-unneeded "$root$1" 2>/dev/null || true
    package=$(dpkg-query -S "$(readlink -f "$1")" "$1" "${1#/usr}" 2>/dev/null | sed -n '1s/[:,].*//p') || true
    if [ -n "$package" ] && [ -e "/usr/share/doc/$package/copyright" ]; then
        mkdir -p "$root/usr/share/doc/$package"
        cp -L "/usr/share/doc/$package/copyright" "$root/usr/share/doc/$package/copyright"
    fi
}

# put_libraries_of FILE
put_libraries_of() {
    for library in $(ldd "$1" | sed -n -e 's/.*=> \(\/[^ ]*\) .*/\1/p' -e 's/^[[:space:]]*\(\/[^ ]*\) (.*/\1/p'); do
        put_library "$library"
    done
}

for program in "$@"; do
    cp "$program" "$root/usr/bin/"
    strip "$root/usr/bin/$(basename "$program")"
    put_libraries_of "$program"
done
curl=$(ldconfig -p | sed -n 's/.*libcurl\.so\.4 .*=> //p' | head -n 1)
put_library "$curl"
put_libraries_of "$curl"

cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
echo 'promptops:x:65532:65532:promptops-sidecar:/:/nonexistent' >"$root/etc/passwd"
echo 'promptops:x:65532:' >"$root/etc/group"
printf 'passwd: files\ngroup: files\nhosts: files dns\n' >"$root/etc/nsswitch.conf"
chown 65532:65532 "$root/var/lib/promptops" "$root/run/promptops"
chmod 0700 "$root/var/lib/promptops" "$root/run/promptops"
chmod 1777 "$root/tmp"
# Nothing of the day of the build.
find "$root" -exec touch -h -d @0 {} +
