#!/usr/bin/env bash
# Builds the workspace's tests once, runs each suite (a crate's unit tests, a file of tests/tests)
# by itself, prints its result and its seconds, and closes with why tests failed and one line:
# N passed, N failed.
# Arguments are names of suites to run instead of all. The exit code is 0 only when all passed.
set -euo pipefail
cd "$(dirname "$0")/../.."

log="$(mktemp)"
trap 'rm -f "$log"' EXIT

# A build that fails prints its errors and ends the run: no test was run.
build() {
    cargo build --workspace --bin weir --bin weir-load
    cargo test --workspace --no-run --message-format=json-render-diagnostics >"$log"
}

# Prints "directory executable" for each test program, units first.
suites() {
    sed -n 's/.*"manifest_path":"\([^"]*\)\/Cargo.toml".*"executable":"\([^"]*\)".*/\1 \2/p' "$log" |
        grep '/deps/' | sort -u
}

# weir_core-0123456789abcdef is the suite weir_core.
name_of() {
    basename "$1" | sed 's/-[0-9a-f]*$//'
}

passed=0 failed=0 broken=0

# Runs one suite in its crate's directory, as cargo would, and adds its counts to the sum.
run() {
    local name="$1" directory="$2" start seconds code=0
    shift 2
    start="$(date +%s%N)"
    (cd "$directory" && "$@") >"$output" 2>&1 </dev/null || code=$?
    seconds="$(awk "BEGIN { printf \"%.1f\", ($(date +%s%N) - $start) / 1e9 }")"
    count "$name" "$seconds" "$code"
}

count() {
    local name="$1" seconds="$2" code="$3" good bad
    good="$(sum passed)" bad="$(sum failed)"
    passed=$((passed + good)) failed=$((failed + bad))
    printf '%-24s %4d passed %3d failed %8s s\n' "$name" "$good" "$bad" "$seconds"
    sed -n 's/^fuzz /    /p' "$output"
    if [ "$code" != 0 ]; then
        cat "$output"
        why "$name" >>"$reasons"
        # A suite that died without counting a failure (a crash, a signal) is a failure.
        [ "$bad" != 0 ] || broken=$((broken + 1))
    fi
}

# What a suite's failed tests said, without the log of the servers between them.
why() {
    echo "$1:"
    grep -A 4 'panicked at' "$output" | grep -v '^stack backtrace' | cut -c 1-500 | sed 's/^/    /' |
        head -60 || true
}

# Adds up one word of the "test result: ok. 3 passed; 0 failed; ..." lines.
sum() {
    awk -v word="$1" '/^test result:/ { for (i = 2; i <= NF; i++) if ($i ~ word) n += $(i - 1) }
        END { print n + 0 }' "$output"
}

wanted() {
    [ "${#only[@]}" = 0 ] && return
    local name
    for name in "${only[@]}"; do [ "$name" = "$1" ] && return; done
    return 1
}

only=("$@")
build
output="$(mktemp)" reasons="$(mktemp)"
trap 'rm -f "$log" "$output" "$reasons"' EXIT
target="$(cargo metadata --format-version 1 --no-deps |
    sed 's/.*"target_directory":"\([^"]*\)".*/\1/')"
export TESTED_WEIR="$target/debug/weir"

while read -r directory executable; do
    name="$(name_of "$executable")"
    ! wanted "$name" || run "$name" "$directory" "$executable"
done < <(suites)
! wanted doc || run doc . cargo test --workspace --doc --quiet
! wanted fuzz || run fuzz . tests/setup/fuzz.sh "${FUZZ_SECONDS:-60}"

echo
cat "$reasons"
echo "$passed passed, $((failed + broken)) failed"
[ "$((failed + broken))" = 0 ] && [ "$passed" != 0 ]
