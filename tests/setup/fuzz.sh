#!/usr/bin/env bash
# Replays the corpus of every fuzz target, then fuzzes all of them for SECONDS in sum (argument 1).
# What a crash was found with is kept in fuzz/artifacts; replay it with the command that is printed.
# Prints one line in the form of cargo's tests, so that run.sh can count it.
set -euo pipefail
cd "$(dirname "$0")/../.."

seconds="${1:?usage: fuzz.sh SECONDS}"
triple="$(rustc -vV | sed -n 's/^host: //p')"

# libFuzzer's coverage without a nightly compiler: the passes that cargo-fuzz would ask for.
# Naming the target keeps them away from build scripts.
build() {
    RUSTC_BOOTSTRAP=1 \
    RUSTFLAGS="--cfg fuzzing -Cforce-frame-pointers=yes -Cdebug-assertions -Ccodegen-units=1 \
-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares" \
        cargo build --manifest-path fuzz/Cargo.toml --release --target "$triple"
}

targets() {
    basename -s .rs fuzz/fuzz_targets/*.rs
}

# Runs one target with libFuzzer's flags; a failure prints what it said and how to see it again.
run() {
    local target="$1" program="${CARGO_TARGET_DIR:-fuzz/target}/$triple/release/$1"
    shift
    mkdir -p "fuzz/corpus/$target" "fuzz/artifacts/$target"
    # libFuzzer ends an input after 10 s and itself at its time; the outer limit is for neither.
    if timeout "$((seconds + 60))" "$program" -artifact_prefix="fuzz/artifacts/$target/" \
        -rss_limit_mb=512 -timeout=10 "$@" >"$log" 2>&1; then
        return
    fi
    tail -n 40 "$log"
    echo "replay with: $program fuzz/artifacts/$target/<file>"
    return 1
}

log="$(mktemp)" new="$(mktemp -d)"
trap 'rm -rf "$log" "$new"' EXIT
build
passed=0 failed=0
count="$(targets | wc -l)"
for target in $(targets); do
    start="$(date +%s)" runs=0
    # A run with files only replays them; one with folders fuzzes, and writes what is new to the first.
    if run "$target" -runs=0 "fuzz/corpus/$target" &&
        run "$target" -max_total_time=$((seconds / count)) -print_final_stats=1 \
            "$new" "fuzz/corpus/$target"; then
        runs="$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")"
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
    fi
    rm -rf "${new:?}"/*
    echo "fuzz $target: $(find "fuzz/corpus/$target" -type f | wc -l) files replayed," \
        "$runs new runs, $(($(date +%s) - start)) s"
done
echo "test result: fuzz. $passed passed; $failed failed"
[ "$failed" = 0 ]
