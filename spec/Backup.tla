------------------------------- MODULE Backup -------------------------------
(* Writing a backup: one archive, a writer, whatever makes the stream of a  *)
(* file, calls that fail, somebody who cancels, a power cut.  One action is *)
(* one call of the writer with its answer, or one deed of the others.       *)
(* Lengths are in halves of a chunk: a chunk is full, half full or empty.   *)
(* A place <<file, number>> is that of a chunk, both from 0.  Where         *)
(* something may be absent it is a sequence of at most one.                 *)
EXTENDS Naturals, Sequences
CONSTANTS Files,         \* at least one, at most three
          First, Second, Third, \* their lengths
          Target,        \* "file" "stream"
          Faults,        \* calls that fail and children that die, at most
          MayCancel,     \* does anybody cancel?
          MayCut         \* may the power fail?
VARIABLES st,       \* what the writer waits for, with what it knows
          gate,     \* "open" "flagged" "decided"
          known,    \* does the gate know of a running child?
          accepted, \* has a cancel been accepted?
          faults,   \* that are left
          first,    \* the first failure that was seen
          source,   \* what makes the stream, with the chunk in memory
          archive,  \* the members that were written, in order
          name,     \* of the file: "none" "temporary" "final"
          synced,   \* is all that was written on the disk?
          named,    \* is the final name?
          closed,   \* has the receiver of the stream said that it is well?
          found     \* what is under the final name after a power cut
vars == <<st, gate, known, accepted, faults, first, source, archive, name,
          synced, named, closed, found>>

ASSUME /\ Files \in 1..3
       /\ Target \in {"file", "stream"}
       /\ MayCancel \in BOOLEAN /\ MayCut \in BOOLEAN

Length(f) == CASE f = 0 -> First [] f = 1 -> Second [] f = 2 -> Third
Full == 2
Least(a, b) == IF a < b THEN a ELSE b

Init == /\ st = <<"create">>
        /\ gate = "open" /\ known = FALSE /\ accepted = FALSE
        /\ faults = Faults /\ first = <<>>
        /\ source = <<>> /\ archive = <<>>
        /\ name = "none" /\ synced = FALSE /\ named = FALSE /\ closed = FALSE
        /\ found = <<>>

-----------------------------------------------------------------------------
(* What was written, as a strict reader sees it: a header and its code,     *)
(* then chunks, each with its code behind it.  A chunk follows the one      *)
(* before it, or begins the next file where that one ended.                 *)
Chunk(at, from, halves) == <<"chunk", at, from, halves>>
(* With each code: did the maker of the stream live, as far as was known?   *)
Code(at, alive)         == <<"code", at, alive>>
Place(member)    == member[2]
Behind(chunk)    == chunk[3] + chunk[4]
Ends(chunk)      == Behind(chunk) = Length(Place(chunk)[1])
Follows(before, chunk) ==
  \/ /\ Place(chunk) = <<Place(before)[1], Place(before)[2] + 1>>
     /\ chunk[3] = Behind(before)
  \/ /\ Ends(before)
     /\ Place(chunk) = <<Place(before)[1] + 1, 0>>
     /\ chunk[3] = 0
InPlace(i) ==
  CASE i = 1 -> archive[i][1] = "header"
    [] i = 2 -> archive[i][1] = "headercode"
    [] i = 3 -> /\ archive[i][1] = "chunk"
                /\ Place(archive[i]) = <<0, 0>> /\ archive[i][3] = 0
    [] i > 3 /\ i % 2 = 1 -> /\ archive[i][1] = "chunk"
                             /\ Follows(archive[i - 2], archive[i])
    [] i > 3 /\ i % 2 = 0 -> /\ archive[i][1] = "code"
                             /\ Place(archive[i]) = Place(archive[i - 1])
Accepted ==
  LET n == Len(archive)
  IN /\ n >= 4 /\ n % 2 = 0
     /\ \A i \in 1..n : InPlace(i)
     /\ Place(archive[n])[1] = Files - 1 /\ Ends(archive[n - 1])
(* No code of a stream whose maker ended badly.                             *)
Honest == \A i \in 1..Len(archive) : archive[i][1] = "code" => archive[i][3]

-----------------------------------------------------------------------------
(* Where the writer goes next.  Every end is decided, good or bad.  Whoever *)
(* is about to rename has asked before; of a stream the gate is asked again *)
(* and says the same.  An archive that has its name keeps it.               *)
Stopped(failure) == <<"stop", <<"failed", failure, name = "final">>>>
Fail(failure)    == IF st[1] \in {"rename", "syncdir"} THEN Stopped(failure)
                    ELSE <<"decide", <<"fail", failure>>>>
After(at, more) == IF more THEN "chunk"
                    ELSE IF at[1] + 1 < Files THEN "file" ELSE "nothing"
Settled(at, next) ==
  CASE next = "chunk" -> <<"fill", <<at[1], at[2] + 1>>>>
    [] next = "file" -> <<"open", at[1] + 1>>
    [] next = "nothing" -> IF Target = "file" THEN <<"sync">> ELSE <<"close">>

(* Calls that are made although somebody has canceled.                      *)
CleanUp == {"rename", "syncdir", "stop", "remove"}
Runs        == found = <<>>
Ready(call) == Runs /\ st[1] = call /\ (gate = "flagged" => call \in CleanUp)

Create ==
  /\ Ready("create")
  /\ name' = IF Target = "file" THEN "temporary" ELSE name
  /\ st' = <<"header">>
  /\ UNCHANGED <<gate, known, accepted, faults, first, source, archive,
                 synced, named, closed, found>>

Header ==
  /\ \/ Ready("header") /\ st' = <<"headercode">>
     \/ Ready("headercode") /\ st' = <<"open", 0>>
  /\ archive' = Append(archive, st)
  /\ UNCHANGED <<gate, known, accepted, faults, first, source, name, synced,
                 named, closed, found>>

Open ==
  /\ Ready("open")
  /\ source' = <<"running", 0, <<0, 0>>>>
  /\ known' = TRUE
  /\ st' = <<"fill", <<st[2], 0>>>>
  /\ UNCHANGED <<gate, accepted, faults, first, archive, name, synced, named,
                 closed, found>>

(* A chunk is taken, and one byte behind it is looked at.                   *)
Filled(left) == Least(left, Full)
Fill ==
  /\ Ready("fill") /\ source[1] = "running"
  /\ LET at == st[2]
         taken == source[2]
         left == Length(at[1]) - taken
     IN /\ source' = <<"running", taken + Filled(left),
                       <<taken, Filled(left)>>>>
        /\ st' = <<"send", at, After(at, left > Full)>>
  /\ UNCHANGED <<gate, known, accepted, faults, first, archive, name, synced,
                 named, closed, found>>

(* The child dies instead.  Its output ends at once, but for the byte that  *)
(* was looked at; or it is padded, and nothing but its exit status tells.   *)
Die ==
  /\ Ready("fill") /\ source[1] = "running" /\ faults > 0
  /\ LET at == st[2]
         taken == source[2]
         seen == IF at[2] > 0 THEN 1 ELSE 0
     IN /\ \E halves \in {seen, Filled(Length(at[1]) - taken)} :
             source' = <<"dead", <<taken, halves>>>>
        /\ st' = <<"send", at, After(at, FALSE)>>
  /\ faults' = faults - 1
  /\ UNCHANGED <<gate, known, accepted, first, archive, name, synced, named,
                 closed, found>>

InMemory == source[Len(source)]
Send ==
  /\ Ready("send")
  /\ archive' = Append(archive, Chunk(st[2], InMemory[1], InMemory[2]))
  /\ synced' = FALSE
  /\ st' = <<IF st[3] = "chunk" THEN "code" ELSE "reap", st[2], st[3]>>
  /\ UNCHANGED <<gate, known, accepted, faults, first, source, name, named,
                 closed, found>>

(* The code of a file's last chunk waits until its maker has ended well;    *)
(* that of a stream's last chunk also for the gate.  The chunk stays in     *)
(* memory.                                                                  *)
Number == Faults - faults
Seen(failure) == IF first = <<>> THEN failure ELSE first
Reap ==
  /\ Ready("reap")
  /\ known' = FALSE
  /\ IF source[1] = "dead"
     THEN (* What it said is part of the failure.                           *)
          /\ first' = Seen(<<"child", Number, "said">>)
          /\ st' = Fail(Number)
     ELSE /\ UNCHANGED first
          /\ st' = IF st[3] = "nothing" /\ Target = "stream"
                   THEN <<"decide", <<"lastcode", st[2]>>>>
                   ELSE <<"code", st[2], st[3]>>
  /\ UNCHANGED <<gate, accepted, faults, source, archive, name, synced,
                 named, closed, found>>

WriteCode ==
  /\ Ready("code")
  /\ archive' = Append(archive, Code(st[2], source[1] # "dead"))
  /\ synced' = FALSE
  /\ st' = Settled(st[2], st[3])
  /\ source' = IF st[3] = "file" THEN <<>> ELSE source
  /\ UNCHANGED <<gate, known, accepted, faults, first, name, named, closed,
                 found>>

Sync ==
  /\ Ready("sync")
  /\ synced' = TRUE
  /\ st' = <<"decide", <<"publish">>>>
  /\ UNCHANGED <<gate, known, accepted, faults, first, source, archive, name,
                 named, closed, found>>

Decide ==
  /\ Ready("decide")
  /\ gate' = "decided"
  /\ LET then == st[2]
     IN st' = CASE then[1] = "publish" -> <<"rename">>
                [] then[1] = "lastcode" -> <<"code", then[2], "nothing">>
                [] then[1] = "fail" -> Stopped(then[2])
  /\ UNCHANGED <<known, accepted, faults, first, source, archive, name,
                 synced, named, closed, found>>

Rename ==
  /\ Ready("rename")
  /\ name' = "final"
  /\ st' = <<"syncdir">>
  /\ UNCHANGED <<gate, known, accepted, faults, first, source, archive,
                 synced, named, closed, found>>

Over(end, left) == <<"over", end, left>>
Finish ==
  /\ st' = Over(<<"done">>, FALSE)
  /\ source' = <<>>
  /\ UNCHANGED <<gate, known, accepted, faults, first, archive, name, synced,
                 found>>
SyncDir == Ready("syncdir") /\ named' = TRUE /\ Finish /\ UNCHANGED closed
Close   == Ready("close") /\ closed' = TRUE /\ Finish /\ UNCHANGED named

-----------------------------------------------------------------------------
(* Clean-up.                                                                *)
Stop ==
  /\ Ready("stop")
  /\ known' = FALSE /\ source' = <<>>
  /\ st' = IF Target = "file" /\ name # "final" THEN <<"remove", st[2]>>
           ELSE Over(st[2], FALSE)
  /\ UNCHANGED <<gate, accepted, faults, first, archive, name, synced, named,
                 closed, found>>

Remove ==
  /\ Ready("remove")
  /\ name' = "none"
  /\ st' = Over(st[2], FALSE)
  /\ UNCHANGED <<gate, known, accepted, faults, first, source, archive,
                 synced, named, closed, found>>

-----------------------------------------------------------------------------
(* A call fails.  The gate always answers, and whoever ends children takes  *)
(* no failure for an answer.                                                *)
Fault ==
  /\ faults > 0
  /\ \E call \in {"create", "header", "headercode", "open", "fill", "send",
                  "reap", "code", "sync", "rename", "syncdir", "close",
                  "remove"} : Ready(call)
  /\ faults' = faults - 1
  /\ LET number == Faults - faults'
     IN /\ first' = Seen(<<"call", number>>)
        /\ st' = IF st[1] = "remove" THEN Over(st[2], TRUE) ELSE Fail(number)
  /\ UNCHANGED <<gate, known, accepted, source, archive, name, synced, named,
                 closed, found>>

Cancel ==
  /\ Runs /\ MayCancel /\ gate = "open" /\ st[1] # "over"
  /\ gate' = "flagged" /\ accepted' = TRUE
  /\ UNCHANGED <<st, known, faults, first, source, archive, name, synced,
                 named, closed, found>>

(* The next call is answered by the gate, with what had been seen to fail.  *)
Canceled ==
  /\ Runs /\ gate = "flagged"
  /\ st[1] \notin CleanUp \cup {"over"}
  /\ st' = <<"stop", <<"canceled",
               IF st[1] = "decide" /\ st[2][1] = "fail" THEN <<st[2][2]>>
               ELSE <<>>>>>>
  /\ UNCHANGED <<gate, known, accepted, faults, first, source, archive, name,
                 synced, named, closed, found>>

(* A name that is not synced may be lost; so may contents.                  *)
PowerCut ==
  /\ Runs /\ MayCut
  /\ \E it \in
       (IF name = "final" /\ named THEN {} ELSE {"nothing"}) \cup
       (IF name # "final" THEN {}
        ELSE IF ~synced THEN {"torn"}
        ELSE IF Accepted THEN {"whole"} ELSE {"torn"}) :
       found' = <<it>>
  /\ UNCHANGED <<st, gate, known, accepted, faults, first, source, archive,
                 name, synced, named, closed>>

Write == \/ Create \/ Header \/ Open \/ Fill \/ Send \/ Reap \/ WriteCode
         \/ Sync \/ Decide \/ Rename \/ SyncDir \/ Close
         \/ Stop \/ Remove \/ Canceled
Next == Write \/ Die \/ Fault \/ Cancel \/ PowerCut
Spec == Init /\ [][Next]_vars
(* No call need fail, nobody must cancel, the power may stay.               *)
FairSpec == Spec /\ WF_vars(Write)

-----------------------------------------------------------------------------
(* Properties: spec/phases.md.                                              *)
IsOver == st[1] = "over"
Ended(how) == IsOver /\ st[2][1] = how
Whole == Accepted /\ Honest
B1Whole    == name = "final" => Whole
B1cCut     == found # <<"torn">>
B2Durable  ==
  Ended("done") => /\ Whole
                   /\ IF Target = "file"
                      THEN name = "final" /\ synced /\ named ELSE closed
B3Decided  == (Target = "stream" /\ Accepted) => (gate = "decided" /\ Honest)
B4Canceled ==
  IsOver => /\ Ended("canceled") = accepted
            /\ Ended("canceled") =>
                 IF Target = "file" THEN name # "final" ELSE ~Accepted
B5NothingLeft == IsOver => ~known /\ (st[3] \/ name # "temporary")
B6Cause ==
  /\ Ended("failed") => first # <<>> /\ first[2] = st[2][2]
  /\ (Ended("canceled") /\ st[2][2] # <<>>) =>
       first # <<>> /\ first[2] = st[2][2][1]
B7NoEmpty ==
  \A i \in 1..Len(archive) :
    archive[i][1] = "chunk" => archive[i][4] > 0 \/ Place(archive[i])[2] = 0
B8Heard ==
  (Ended("failed") /\ first # <<>> /\ first[1] = "child") =>
    first[3] = "said"
LEnds == <>(IsOver \/ found # <<>>)
=============================================================================
