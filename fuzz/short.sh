#!/usr/bin/env bash
# Each target for a short time, with the stable compiler: coverage by LLVM's
# own pass, no sanitizer, since there is no unsafe code to sanitize.
#   usage: short.sh [SECONDS [TARGET...]], 20 seconds and all targets if not
#   said; the seeds are written first, what is found stays in corpus/.
# For a campaign use cargo-fuzz with a nightly compiler: cargo fuzz run TARGET
# -- -dict=fuzz/dictionaries/TARGET
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:-20}
# To libFuzzer 0 is for ever.
[ "$seconds" -gt 0 ] ||
    { echo "short.sh: seconds: $seconds; wanted 1 or more" >&2; exit 2; }
shift $(($# > 0 ? 1 : 0))
targets=("$@")
if [ "${#targets[@]}" = 0 ]; then
    for file in fuzz_targets/*.rs; do
        targets+=("$(basename "$file" .rs)")
    done
fi
command -v g++ >/dev/null || { echo "g++: missing; install g++" >&2; exit 1; }
cargo run -q --example seeds --target-dir target .
passes='-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters
-Cllvm-args=-sanitizer-coverage-pc-table -Ccodegen-units=1'
host=$(rustc -vV | sed -n 's/^host: //p')
# With --target, build scripts and macros are left alone.
RUSTFLAGS="--cfg fuzzing ${passes//$'\n'/ }" \
    cargo build --release --target "$host" --target-dir target
failed=0
for name in "${targets[@]}"; do
    mkdir -p "corpus/$name" "artifacts/$name"
    dictionary=()
    [ -f "dictionaries/$name" ] && dictionary=(-dict="dictionaries/$name")
    log=$(mktemp)
    code=0
    "target/$host/release/$name" -max_total_time="$seconds" -max_len=8192 \
        -timeout=10 -rss_limit_mb=2048 -artifact_prefix="artifacts/$name/" \
        -print_final_stats=1 "${dictionary[@]}" "corpus/$name" \
        >"$log" 2>&1 || code=$?
    grep -E '^Done |average_exec' "$log" | sed "s/^/$name: /" || true
    if [ "$code" != 0 ]; then
        failed=1
        echo "$name: exit $code" >&2
        grep -A 4 panicked "$log" | cut -c 1-400 >&2 || true
        tail -n 8 "$log" | cut -c 1-400 >&2
    fi
    rm -f "$log"
done
exit "$failed"
