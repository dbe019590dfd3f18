#!/bin/sh
# Fuzzes the readers of foreign input with libFuzzer, guided by coverage. Needs g++ and the network (for one crate).
#
#   tests/fuzz/run.sh TARGET|all SECONDS [TARGET SECONDS]...   fuzzes, from the corpus and what was found before
#   tests/fuzz/run.sh --keep TARGET|all                        chooses a small corpus of all that was found (`keep.py`)
#
# TARGET is a folder of `corpus`. What is found stays in target/fuzz/found/TARGET, inputs that break something in
# target/fuzz/broken/TARGET: `APM_FUZZ=TARGET target/fuzz/.../apm-fuzz FILE` runs one again. It belongs into the corpus,
# with the fix. An input fails that panics, takes 10 seconds, or much more memory than it has bytes (`src/main.rs`). How it
# went is said, and kept in target/fuzz/results. Under `nice` it leaves a busy machine to others.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
out=$root/target/fuzz
INPUT_MAX=65536

usage() {
    sed -n '4,5s/^# *//p' "$0" >&2
    exit 2
}

build() {
    # As cargo-fuzz does it, without a sanitizer: there is hardly any unsafe code in what is fuzzed. RUSTFLAGS replaces what
    # .cargo/config.toml says of static binaries.
    flags='--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4'
    flags="$flags -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table"
    flags="$flags -Cllvm-args=-sanitizer-coverage-trace-compares"
    RUSTFLAGS=$flags cargo build --quiet --release --manifest-path "$here/Cargo.toml" --target-dir "$out"
    host=$(rustc -vV | sed -n 's/^host: //p')
    # A copy: apm may be built again meanwhile.
    binary=$out/apm-fuzz.$$
    trap 'rm -f "$binary"' EXIT
    trap 'exit 130' INT TERM
    cp "$out/$host/release/apm-fuzz" "$binary"
}

# number NAME FILE: the value of a final statistic.
number() {
    sed -n "s/^stat::$1: *//p" "$2"
}

# used BEFORE AFTER: seconds on a CPU between two outputs of `times`. Others may have had the CPU meanwhile.
used() {
    cat "$@" | awk 'NR % 2 == 0 { gsub("s", ""); split($1, user, "m"); split($2, kernel, "m")
        sum = 60 * (user[1] + kernel[1]) + user[2] + kernel[2] - sum } END { printf "%d\n", sum }'
}

fuzz() { # fuzz TARGET SECONDS
    found=$out/found/$1 broken=$out/broken/$1 log=$out/$1.log
    mkdir -p "$found" "$broken"
    dictionary=''
    [ ! -f "$here/$1.dict" ] || dictionary="-dict=$here/$1.dict"
    status=0 started=$(date +%s)
    times >"$log.before"
    # shellcheck disable=SC2086 # one word or none
    (
        cd "$out"
        TMPDIR=/dev/shm APM_FUZZ=$1 "$binary" -max_total_time="$2" -timeout=10 -rss_limit_mb=1024 \
            -max_len=$INPUT_MAX -print_final_stats=1 -artifact_prefix="$broken/" $dictionary "$found" "$here/corpus/$1"
    ) >"$log" 2>&1 || status=$?
    coverage=$(grep -o 'cov: [0-9]* ft: [0-9]* corp: [0-9]*' "$log" | tail -n 1)
    times >"$log.after"
    echo "$1: $(number number_of_executed_units "$log") executions in $(($(date +%s) - started)) s," \
        "$(used "$log.before" "$log.after") s of them on a CPU, $coverage," \
        "slowest $(number slowest_unit_time_sec "$log") s, peak RSS $(number peak_rss_mb "$log") MiB" | tee -a "$out/results"
    [ "$status" = 0 ] || {
        echo "$1: failed, see $log and $broken" >&2
        return 1
    }
}

keep() { # keep TARGET
    small=$out/small/$1 control=$out/$1.control found=$out/found/$1
    rm -rf "$small" "$control"
    mkdir -p "$small" "$found"
    TMPDIR=/dev/shm APM_FUZZ=$1 "$binary" -merge=1 -timeout=10 -max_len=$INPUT_MAX \
        -merge_control_file="$control" "$small" "$here/corpus/$1" "$found" >"$out/$1.merge.log" 2>&1
    python3 "$here/keep.py" "$control" "$here/corpus/$1"
}

# Sets `targets` to that of this name, or to all.
choose() {
    case $1 in
    all) targets=$(ls "$here/corpus") ;;
    */* | .* | '') usage ;;
    *)
        [ -d "$here/corpus/$1" ] || usage
        targets=$1
        ;;
    esac
}

# A wrong word is refused before an hour has passed.
check() {
    while [ $# -gt 0 ]; do
        case $1:${2-} in
        --keep:*) choose "${2-}" ;;
        *: | *:*[!0-9]*) usage ;;
        *) choose "$1" ;;
        esac
        shift 2
    done
}

[ $# -ge 2 ] || usage
check "$@"
build
failed=0
while [ $# -gt 0 ]; do
    case $1 in
    --keep) choose "$2" && for target in $targets; do keep "$target"; done ;;
    *) choose "$1" && for target in $targets; do fuzz "$target" "$2" || failed=1; done ;;
    esac
    shift 2
done
exit $failed
