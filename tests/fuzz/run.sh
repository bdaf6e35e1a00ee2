#!/bin/sh
# Runs the fuzzers of a folder, JOBS (1) side by side, RUNS (1000000) inputs each: RUNS=N JOBS=N tests/fuzz/run.sh FOLDER [NAME...]
# Seeds are those of tests/fuzz/corpus; what is found to be new is kept in FOLDER/new. A finding is shown whole, and ends it.
set -eu
folder=$1
shift
[ $# -gt 0 ] || set -- "$folder"/fuzz_*
one='
    name=$(basename "$1") seeds=tests/fuzz/corpus
    for seeds in tests/fuzz/corpus/"${name#fuzz_}" tests/fuzz/corpus/"$name" ""; do [ ! -d "$seeds" ] || break; done
    mkdir -p "$0/new/$name"
    if "$0/$name" -runs='"${RUNS:-1000000}"' -max_len=4096 -verbosity=0 -print_final_stats=1 -artifact_prefix="$0/" "$0/new/$name" $seeds 2>"$0/$name.log"; then
        echo "  RUN   $name: $(sed -n "s/^stat::number_of_executed_units: *//p" "$0/$name.log") inputs"
    else
        echo "FAILED $name:"
        cat "$0/$name.log"
        exit 255
    fi'
for fuzzer in "$@"; do
    fuzzer=${fuzzer##*/}
    case $fuzzer in *.*) ;; *) echo "$fuzzer" ;; esac
done | xargs -n 1 -P "${JOBS:-1}" sh -c "$one" "$folder"
