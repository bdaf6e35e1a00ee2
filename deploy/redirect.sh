#!/bin/sh
# Sends this network namespace's connections to the API into the sidecar (listen.transparent). For an init container
# with NET_ADMIN; the rules live as long as the pod.
#   HOST=api.promptops.ai PORT=443 TO_PORT=8443 EXEMPT_UID=65532 redirect.sh
# Only the addresses that HOST has now are redirected: a connection to one that it gets later goes to the API itself,
# as without the sidecar. The sidecar's own connections are exempt by its user.
set -eu
host=${HOST:-api.promptops.ai} port=${PORT:-443} to=${TO_PORT:-8443} uid=${EXEMPT_UID:-65532}
found=$(getent ahosts "$host" | awk '{ print $1 }' | sort -u)
[ -n "$found" ] || { echo "redirect: $host has no address" >&2; exit 1; }
for address in $found; do
    tables=iptables
    case $address in *:*) tables=ip6tables ;; esac
    $tables -t nat -A OUTPUT -p tcp -d "$address" --dport "$port" -m owner ! --uid-owner "$uid" -j REDIRECT --to-ports "$to" || {
        [ $tables = ip6tables ] || exit 1
        echo "redirect: no IPv6 rules here; $address is not redirected" >&2
        continue
    }
    echo "redirect: $address port $port goes to $to, except for user $uid"
done
