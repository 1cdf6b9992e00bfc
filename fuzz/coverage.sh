#!/usr/bin/env bash
# Lines of src/format that the corpora alone reach: the replay of the seeds
# runs under callgrind, which counts what each line costs; the lines there are
# come from the debug information. Needs no compiler but the stable one.
#   usage: coverage.sh
# With MISSED=1 it names the lines that were not reached.
set -euo pipefail
cd "$(dirname "$0")/.."
for tool in valgrind:valgrind objdump:binutils python3:python3; do
    command -v "${tool%:*}" >/dev/null ||
        { echo "${tool%:*}: missing; install ${tool#*:}" >&2; exit 1; }
done
# Not optimized: a line of the source is a line of the program.
export CARGO_PROFILE_TEST_OPT_LEVEL=0 CARGO_PROFILE_TEST_CODEGEN_UNITS=16
program=$(cargo test --test fuzz_seeds --no-run --message-format json \
    --target-dir target/coverage |
    sed -n 's/.*"executable":"\([^"]*fuzz_seeds[^"]*\)".*/\1/p')
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
valgrind -q --tool=callgrind --compress-strings=no --compress-pos=no \
    --callgrind-out-file="$work/costs" "$program" --test-threads 1 \
    --skip every \
    >"$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; exit 1; }
objdump --dwarf=decodedline "$program" >"$work/lines" 2>/dev/null
python3 - "$work/lines" "$work/costs" <<'PYTHON'
import collections, os, re, sys
def place(path):
    at = path.rfind("src/format/")
    return path[at:] if at >= 0 else None
covered = collections.defaultdict(set)
file = None
for line in open(sys.argv[2], errors="replace"):
    if line[:3] in ("fl=", "fi=", "fe="):
        file = place(line[3:].strip())
    elif file and line[0].isdigit():
        covered[file].add(int(line.split()[0]))
there = collections.defaultdict(set)
file = None
for line in open(sys.argv[1], errors="replace"):
    name = re.match(r"(\S+\.rs):?(\[\+\+\])?$", line.strip())
    if name:
        file = place(name[1])
        continue
    fields = line.split()
    if file and len(fields) >= 3 and fields[1].isdigit():
        there[file].add(int(fields[1]))
there = {name: {n for n in lines if n} for name, lines in there.items()}
total = reached = 0
for name in sorted(there):
    hit = len(covered[name] & there[name])
    total, reached = total + len(there[name]), reached + hit
    share = 100 * hit / len(there[name])
    print(f"{share:6.1f} %  {hit:5} of {len(there[name]):5}  {name}")
    if os.environ.get("MISSED"):
        print("         not:", *sorted(there[name] - covered[name]))
print(f"{100 * reached / max(total, 1):6.1f} %  {reached:5} of {total:5}")
sys.exit(total == 0)
PYTHON
