#!/usr/bin/env bash
# Lock.tla by TLC's own distributed mode, on this machine: a server and workers
# that it talks to over loopback. The number of states is compared with the
# explorer's. Machines instead of processes: give the server's address to each
# `tlc2.tool.distributed.TLCWorker`, and to RMI of the server.
#
# Needs what compare.sh needs.
#   usage: spec/distributed.sh [PROTOCOL [WRITERS [WORKERS]]]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
program=${QUBES_FSM:-$here/../target/release/qubes-fsm}
protocol=${1:-shipped}
writers=${2:-4}
workers=${3:-2}
address=127.0.0.1

if ! command -v java >/dev/null || [ ! -f "${TLA2TOOLS:-}" ]; then
    echo "distributed.sh: wanted Java and TLA2TOOLS, as for compare.sh" >&2
    exit 2
fi
case $protocol in
    2014) check=after keep=nothing verify=FALSE ;;
    2016) check=before keep=unlocked verify=FALSE ;;
    shipped) check=after keep=locked verify=TRUE ;;
    *) echo "distributed.sh: protocol $protocol; wanted 2014, 2016 or" \
        "shipped" >&2; exit 2 ;;
esac

work=$(mktemp -d)
processes=()
clean() {
    for process in "${processes[@]}"; do kill "$process" 2>/dev/null || true; done
    wait
    rm -rf "$work"
}
trap clean EXIT
cp "$here/Lock.tla" "$work/Run.tla"
cd "$work"
sed -i 's/MODULE Lock/MODULE Run/' Run.tla
names=$(seq -f 'w%g' -s ', ' "$writers")
cat >Run.cfg <<END
SPECIFICATION Spec
INVARIANTS TypeOK SlotsSuffice
CONSTANTS
  Writers = {$names}
  Readers = {}
  Saves = 1
  Slots = $((writers + 2))
  Check = "$check"
  Keep = "$keep"
  Verify = $verify
  LockFile = FALSE
END

run() {
    exec java -XX:+UseSerialGC -Xmx1g -Djava.io.tmpdir="$work" \
        -Djava.rmi.server.hostname="$address" -cp "$TLA2TOOLS" "$@"
}

SECONDS=0
(run tlc2.tool.distributed.TLCServer -deadlock Run.tla) >server 2>&1 &
server=$!
processes+=("$server")
for ((i = 1; i <= workers; i++)); do
    # One that comes before the server asks again.
    (run tlc2.tool.distributed.TLCWorker "$address") >"worker$i" 2>&1 &
    processes+=("$!")
done
wait "$server" || { cat server worker*; exit 1; }
grep -q '^Model checking completed. No error' server || { cat server; exit 1; }

theirs=$(sed -n 's/,//g; s/^[0-9]* states generated \([0-9]*\) distinct.*/\1/p' \
    server | tail -n 1)
# Each worker brings as many threads as there are cores.
threads=$(grep -c '^Registration for worker .* completed' server || true)
ours=$("$program" check lock --protocol "$protocol" --writers "$writers" \
    --engine explore --format json | sed -n 's/.*"states":\([0-9]*\).*/\1/p' |
    head -n 1)
echo "lock $protocol ${writers}w: TLC, $workers workers with" \
    "$threads threads, $SECONDS s: ${theirs:-no} states; explorer: $ours"
[ -n "$theirs" ] && [ "$theirs" = "$ours" ] && [ "$threads" -ge "$workers" ]
