#!/bin/sh
# Holds the README's table of options to policy/options.def. The table stands between the lines
#   <!-- options: begin -->   and   <!-- options: end -->
# and is printed by the program itself.
#   tests/lint/readme_options.sh [--write] [PROGRAM] [README]
# Exits 1 when they differ; --write puts the new table in place.
set -eu
write=no
if [ "${1:-}" = --write ]; then
    write=yes
    shift
fi
program=${1:-build/promptops-sidecar}
readme=${2:-README.md}
new=$(mktemp)
trap 'rm -f "$new" "$new.table"' EXIT

"$program" --print-options-markdown >"$new.table"
if ! grep -q '^<!-- options: begin -->$' "$readme" || ! grep -q '^<!-- options: end -->$' "$readme"; then
    echo "$readme: has no lines <!-- options: begin --> and <!-- options: end -->" >&2
    exit 1
fi
awk -v table="$new.table" '
    $0 == "<!-- options: end -->" { inside = 0 }
    !inside { print }
    $0 == "<!-- options: begin -->" { inside = 1; while ((getline line < table) > 0) print line }
' "$readme" >"$new"
if cmp -s "$new" "$readme"; then
    exit 0
fi
if [ $write = yes ]; then
    cat "$new" >"$readme"
    echo "$readme: options written anew"
    exit 0
fi
echo "$readme: the table of options is not that of policy/options.def; run tests/lint/readme_options.sh --write" >&2
diff -u "$readme" "$new" | head -20 >&2 || true
exit 1
