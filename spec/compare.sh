#!/usr/bin/env bash
# Runs TLC on Lock.tla and the explorer on the machine, and prints their
# numbers side by side. Fails where any of them differ. Needs what tlc.sh needs,
# python3, and the release build of qubes-fsm (or QUBES_FSM, its path).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
program=${QUBES_FSM:-$here/../target/release/qubes-fsm}
"$here/tlc.sh" "$@" | python3 "$here/compare.py" "$program"
