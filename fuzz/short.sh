#!/usr/bin/env bash
# Each target for a short time, with the stable compiler: coverage by LLVM's
# own pass, no sanitizer, since there is no unsafe code to sanitize.
#   usage: short.sh [SECONDS]
# For a campaign use cargo-fuzz with a nightly compiler: cargo fuzz run TARGET
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:-20}
passes='-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters
-Cllvm-args=-sanitizer-coverage-pc-table -Ccodegen-units=1'
host=$(rustc -vV | sed -n 's/^host: //p')
# With --target, build scripts and macros are left alone.
RUSTFLAGS="--cfg fuzzing ${passes//$'\n'/ }" \
    cargo build --release --target "$host" --target-dir target
# Archives to begin with: no fuzzer guesses a checksum.
seeds=corpus/tar_inner
mkdir -p "$seeds"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
truncate -s 40000 "$work/sparse"
printf middle | dd of="$work/sparse" bs=1 seek=20000 conv=notrunc status=none
ln -s sparse "$work/link"
ln "$work/sparse" "$work/hard"
for form in gnu 'posix --sparse-version=0.0' 'posix --sparse-version=0.1' \
    'posix --sparse-version=1.0'; do
    # shellcheck disable=SC2086
    tar -c --sparse --format=$form -C "$work" . | head -c 8192 \
        >"$seeds/${form//[^a-z0-9]/-}" || true
done
for target in fuzz_targets/*.rs; do
    name=$(basename "$target" .rs)
    mkdir -p "corpus/$name" "artifacts/$name"
    dictionary=()
    [ -f "dictionaries/$name" ] && dictionary=(-dict="dictionaries/$name")
    "target/$host/release/$name" -max_total_time="$seconds" -max_len=8192 \
        -timeout=10 -rss_limit_mb=2048 -artifact_prefix="artifacts/$name/" \
        "${dictionary[@]}" "corpus/$name" 2>&1 | tail -n 3
done
