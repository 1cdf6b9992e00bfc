------------------------------- MODULE Commit -------------------------------
(* Qubes of one restore get into a store: their folders first, then one    *)
(* save.  Calls fail, somebody cancels, the process is killed, the power   *)
(* is cut, and somebody may be beside us.  After a kill or a cut the same  *)
(* restore is run again; so it is once it has ended and left something.    *)
(* One action is one call of ours with its answer, or one deed of others.  *)
(* A store is a set of entries: our qubes, from 1, and 0, which is         *)
(* somebody else's.                                                        *)
EXTENDS Naturals, FiniteSets
CONSTANTS Qubes,          \* of this restore
          Beside,         \* "nobody" "writer" "namesake" "sweep" "folder"
          Crashes, Faults, \* so many at most; kills and cuts are crashes
          MayCancel       \* does anybody cancel?
VARIABLES st,       \* what we wait for, with what we know
          gate,     \* "open" "flagged" "decided"
          accepted, \* has a cancel been accepted, in this run?
          faults, crashes, \* that are left
          earlier,  \* had an earlier run put all of it into the store?
          lock,     \* of the store: "free" "we" "they"
          loaded,   \* the store as we know it
          store,    \* the store
          unsure,   \* may a power cut take our entries back?
          note,     \* is there a note of ours?
          stage,    \* <<>>, or <<is it locked, is what is in it synced>>
          folders,  \* qube -> <<"absent">>, <<"theirs">> or
                    \*         <<"ours", is its name synced, its files>>;
                    \*         files are "written", "synced" or "torn"
          hurt,     \* has something of others been removed, or replaced?
          other     \* whoever is beside us
vars == <<st, gate, accepted, faults, crashes, earlier, lock, loaded, store,
          unsure, note, stage, folders, hurt, other>>
(* What belongs to one run of ours, and what is on the disk.               *)
run  == <<gate, accepted, faults, crashes, earlier>>
disk == <<store, unsure, note, stage, folders, hurt>>

Ours   == 1..Qubes
Theirs == 0
None   == <<>>
Absent == <<"absent">>
Mine(q) == folders[q][1] = "ours"

ASSUME Beside \in {"nobody", "writer", "namesake", "sweep", "folder"}

Init == /\ st = <<"sweep", "lock">>
        /\ gate = "open" /\ accepted = FALSE
        /\ faults = Faults /\ crashes = Crashes
        /\ earlier = FALSE
        /\ lock = "free"
        /\ loaded = {} /\ store = {} /\ unsure = FALSE
        /\ note = FALSE /\ stage = None
        /\ folders = [q \in Ours |-> Absent]
        /\ hurt = FALSE
        /\ other = CASE Beside = "nobody" -> <<"over">>
                     [] Beside = "sweep" -> <<"sweep", "lock">>
                     [] OTHER -> <<"waits">>

-----------------------------------------------------------------------------
(* What is put away before an end, by what there is: <<end, is there a     *)
(* stage of ours, is anything left>>.                                      *)
Clean(end, reach) ==
  CASE reach = "nothing" -> <<"over", end, TRUE>>
    [] reach = "swept"   -> <<"unlock", end, FALSE, TRUE>>
    [] reach = "staged"  -> <<"clear", end, TRUE, FALSE>>
    [] reach = "locked"  -> <<"unlock", end, TRUE, FALSE>>
    [] reach = "noted"   -> <<"undo", end, TRUE, FALSE>>
Rest(call)   == <<call, st[2], st[3], st[4]>>
Left(call)   == <<call, st[2], st[3], TRUE>>
Done         == <<"done">>
Conflict     == <<"conflict">>
Failed(n)    == <<"failed", n, FALSE>>
Unsure(n)    == <<"failed", n, TRUE>>
Canceled(by) == <<"canceled", by>>

(* How far we are.                                                         *)
Reach ==
  CASE st = <<"sweep", "lock">> -> "nothing"
    [] st[1] \in {"sweep", "keep"} -> "swept"
    [] st[1] \in {"stage", "syncfiles", "lock"} -> "staged"
    [] st[1] = "check" -> "locked"
    [] st[1] \in {"note", "move", "syncdirs"} -> "noted"
    [] st[1] = "decide" ->
         CASE st[2] = "keep" -> "swept"
           [] st[2] = "conflict" -> "locked"
           [] st[2] = "save" -> "noted"
           [] st[2] = "fail" -> st[4]

(* Calls that are no clean-up, and come before the decision.               *)
Begins == \/ st = <<"sweep", "lock">>
          \/ st[1] \in {"stage", "syncfiles", "lock", "check", "note", "move",
                        "syncdirs", "decide"}
(* Our next call is this one, and it is made.                              *)
At(state) == st = state /\ ~(Begins /\ gate = "flagged")
In(call)  == st[1] = call /\ ~(Begins /\ gate = "flagged")

-----------------------------------------------------------------------------
(* What earlier runs left, under the store's lock.                         *)
Lock ==
  /\ At(<<"sweep", "lock">>) \/ In("lock")
  /\ lock = "free"
  /\ lock' = "we" /\ loaded' = store
  /\ st' = IF st[1] = "lock" THEN <<"check">> ELSE <<"sweep", "settle">>
  /\ UNCHANGED <<run, disk, other>>

(* The store is synced first.  Then each folder goes that the note names,  *)
(* by its identity, and the store does not.                                *)
Settled ==
  /\ unsure' = FALSE
  /\ folders' = [q \in Ours |-> IF note /\ Mine(q) /\ q \notin store
                                THEN Absent ELSE folders[q]]
Complete == Ours \subseteq store
Settle ==
  /\ At(<<"sweep", "settle">>)
  /\ Settled
  /\ st' = IF note /\ Complete THEN <<"decide", "keep">>
           ELSE <<"sweep", "stages">>
  /\ UNCHANGED <<run, lock, loaded, store, note, stage, hurt, other>>

(* Stages go whose lock nobody has.                                        *)
Swept == stage' = IF stage # None /\ ~stage[1] THEN None ELSE stage
Sweep ==
  /\ At(<<"sweep", "stages">>) \/ In("keep")
  /\ Swept
  /\ st' = IF st[1] = "keep" THEN <<"forget", Done, FALSE, FALSE>>
           ELSE <<"sweep", "note">>
  /\ UNCHANGED <<run, lock, loaded, store, unsure, note, folders, hurt, other>>

Forget ==
  /\ At(<<"sweep", "note">>) \/ In("forget")
  /\ note' = FALSE
  /\ st' = IF st[1] = "sweep" THEN <<"sweep", "unlock">> ELSE Rest("unlock")
  /\ UNCHANGED <<run, lock, loaded, store, unsure, stage, folders, hurt, other>>

Unlock ==
  /\ At(<<"sweep", "unlock">>) \/ In("unlock")
  /\ lock' = "free"
  /\ st' = IF st[1] = "sweep" THEN <<"stage">>
           ELSE IF st[3] THEN Rest("clear") ELSE <<"over", st[2], st[4]>>
  /\ UNCHANGED <<run, loaded, disk, other>>

-----------------------------------------------------------------------------
(* Files first, without the store's lock.                                  *)
Stage ==
  /\ In("stage")
  /\ stage' = <<TRUE, FALSE>>
  /\ st' = <<"syncfiles">>
  /\ UNCHANGED <<run, lock, loaded, store, unsure, note, folders, hurt, other>>

SyncFiles ==
  /\ In("syncfiles")
  /\ stage' = <<TRUE, TRUE>>
  /\ st' = <<"lock">>
  /\ UNCHANGED <<run, lock, loaded, store, unsure, note, folders, hurt, other>>

(* A name is taken by an entry, or by a folder.                            *)
Taken == \/ loaded \cap Ours # {}
         \/ Beside = "namesake" /\ Theirs \in loaded
         \/ \E q \in Ours : folders[q] # Absent
Check ==
  /\ In("check")
  /\ st' = IF Taken THEN <<"decide", "conflict">> ELSE <<"note">>
  /\ UNCHANGED <<run, lock, loaded, disk, other>>

Note ==
  /\ In("note")
  /\ note' = TRUE
  /\ st' = <<"move", 1>>
  /\ UNCHANGED <<run, lock, loaded, store, unsure, stage, folders, hurt, other>>

(* A rename does not replace: who makes a folder need not know of the lock *)
(* of the store.  That is nobody's failure, and has the number 0.          *)
Files == IF stage[2] THEN "synced" ELSE "written"
Move ==
  /\ In("move")
  /\ IF folders[st[2]] # Absent
     THEN /\ st' = <<"decide", "fail", 0, "noted">>
          /\ UNCHANGED folders
     ELSE /\ folders' = [folders EXCEPT ![st[2]] = <<"ours", FALSE, Files>>]
          /\ st' = IF st[2] < Qubes THEN <<"move", st[2] + 1>>
                   ELSE <<"syncdirs">>
  /\ UNCHANGED <<run, lock, loaded, store, unsure, note, stage, hurt, other>>

SyncDirs ==
  /\ In("syncdirs")
  /\ folders' = [q \in Ours |-> IF Mine(q) THEN <<"ours", TRUE, folders[q][3]>>
                                ELSE folders[q]]
  /\ st' = <<"decide", "save">>
  /\ UNCHANGED <<run, lock, loaded, store, unsure, note, stage, hurt, other>>

Decide ==
  /\ In("decide")
  /\ gate' = "decided"
  /\ st' = CASE st[2] = "save" -> <<"save">>
             [] st[2] = "keep" -> <<"keep">>
             [] st[2] = "conflict" -> Clean(Conflict, "locked")
             [] st[2] = "fail" -> Clean(Failed(st[3]), st[4])
  /\ UNCHANGED <<accepted, faults, crashes, earlier, lock, loaded, disk, other>>

(* One save of all qubes, over what was loaded: an entry of the same name  *)
(* would be replaced.                                                      *)
Saved == loaded \cup Ours
Put ==
  /\ loaded' = IF Beside = "namesake" THEN Saved \ {Theirs} ELSE Saved
  /\ store' = loaded'
  /\ hurt' = (hurt \/ (Theirs \in store /\ Theirs \notin store'))
Save ==
  /\ In("save")
  /\ Put
  /\ unsure' = FALSE
  /\ st' = <<"forget", Done, TRUE, FALSE>>
  /\ UNCHANGED <<run, lock, note, stage, folders, other>>

-----------------------------------------------------------------------------
(* Back, and away with the stage.                                          *)
Undo ==
  /\ In("undo")
  /\ folders' = [q \in Ours |-> IF Mine(q) THEN Absent ELSE folders[q]]
  /\ st' = Rest("forget")
  /\ UNCHANGED <<run, lock, loaded, store, unsure, note, stage, hurt, other>>

Clear ==
  /\ In("clear")
  /\ stage' = None
  /\ st' = <<"over", st[2], st[4]>>
  /\ UNCHANGED <<run, lock, loaded, store, unsure, note, folders, hurt, other>>

-----------------------------------------------------------------------------
(* A call fails: it did nothing, but of a stage half is there, and a note  *)
(* may be.  A lock always goes, and the gate always answers.               *)
Number == Faults - faults + 1
Fault ==
  /\ faults > 0
  /\ ~(Begins /\ gate = "flagged")
  /\ st # <<"sweep", "unlock">> /\ st[1] \notin {"unlock", "decide", "over"}
  /\ faults' = faults - 1
  /\ stage' = IF st[1] = "stage" THEN <<TRUE, FALSE>> ELSE stage
  /\ note' \in IF st[1] = "note" THEN {note, TRUE} ELSE {note}
  /\ st' = CASE st[1] = "keep" -> <<"unlock", Done, FALSE, TRUE>>
             [] st[1] = "save" -> Clean(Failed(Number), "noted")
             [] st[1] \in {"undo", "forget"} -> Left("unlock")
             [] st[1] = "clear" -> <<"over", st[2], TRUE>>
             [] OTHER -> <<"decide", "fail", Number, Reach>>
  /\ UNCHANGED <<gate, accepted, crashes, earlier, lock, loaded, store, unsure,
                 folders, hurt, other>>

(* A save fails, and the store has all the same what a power cut may take. *)
UnsureSave ==
  /\ faults > 0
  /\ In("save")
  /\ faults' = faults - 1
  /\ Put
  /\ unsure' = TRUE
  /\ st' = <<"unlock", Unsure(Number), TRUE, TRUE>>
  /\ UNCHANGED <<gate, accepted, crashes, earlier, lock, note, stage, folders,
                 other>>

Cancel ==
  /\ MayCancel /\ gate = "open" /\ st[1] # "over"
  /\ gate' = "flagged" /\ accepted' = TRUE
  /\ UNCHANGED <<st, faults, crashes, earlier, lock, loaded, disk, other>>

(* The next call that is no clean-up is answered by the gate, with what    *)
(* had been seen to fail.                                                  *)
Refuse ==
  /\ Begins /\ gate = "flagged"
  /\ LET seen == IF st[1] = "decide" /\ st[2] = "fail" THEN <<st[3]>> ELSE None
     IN st' = Clean(Canceled(seen), Reach)
  /\ UNCHANGED <<run, lock, loaded, disk, other>>

-----------------------------------------------------------------------------
(* The same restore from its beginning: nobody has the lock of the stage.  *)
(* S and F are the store and the folders that are there then.              *)
Anew(S, F) ==
  /\ st' = <<"sweep", "lock">>
  /\ gate' = "open" /\ accepted' = FALSE
  /\ crashes' = crashes - 1
  /\ loaded' = {}
  /\ store' = S
  /\ earlier' = (Ours \subseteq S)
  /\ folders' = F
  /\ stage' = IF stage = None THEN None ELSE <<FALSE, stage[2]>>
  /\ lock' = IF lock = "we" THEN "free" ELSE lock
  /\ UNCHANGED <<faults, note>>

(* An end that owes something is followed by another run.                  *)
MayCut == crashes > 0 /\ (st[1] = "over" => st[3])
Again ==
  /\ st[1] = "over" /\ MayCut
  /\ Anew(store, folders)
  /\ UNCHANGED <<unsure, other, hurt>>

(* A kill takes nothing but our locks: what is not on the disk is there,   *)
(* and a later cut may take it.  In the middle of a save the store has it, *)
(* and nobody knows for how long.                                          *)
MayKill == crashes > 0 /\ st[1] # "over"
Kill ==
  /\ MayKill
  /\ Anew(store, folders)
  /\ UNCHANGED <<unsure, other, hurt>>
KillInSave ==
  /\ MayKill /\ In("save")
  /\ LET S == IF Beside = "namesake" THEN Saved \ {Theirs} ELSE Saved
     IN /\ Anew(S, folders)
        /\ hurt' = (hurt \/ (Theirs \in store /\ Theirs \notin S))
  /\ unsure' = TRUE
  /\ UNCHANGED other

(* A power cut: of names that were not synced any are kept, and contents   *)
(* that were not synced are torn.  A store that is not sure may be the     *)
(* older one, also for a writer who has just read it.  Others go on.       *)
Keeps(f) == IF f[1] # "ours" THEN f
            ELSE <<"ours", TRUE, IF f[3] = "synced" THEN "synced" ELSE "torn">>
Unnamed == {q \in Ours : Mine(q) /\ ~folders[q][2]}
Cut ==
  /\ MayCut
  /\ \E gone \in SUBSET Unnamed, back \in {FALSE, unsure} :
       LET F == [q \in Ours |-> IF q \in gone THEN Absent
                                ELSE Keeps(folders[q])]
           Back(S) == IF back THEN S \ Ours ELSE S
       IN /\ Anew(Back(store), F)
          /\ other' = IF other[1] = "read" THEN <<"read", Back(other[2])>>
                      ELSE other
  /\ unsure' = FALSE
  /\ UNCHANGED hurt

-----------------------------------------------------------------------------
(* Who is beside us: a writer, who adds an entry, and who lets it be if he *)
(* wants the name of our first qube, and has read that it is taken.        *)
Writer == Beside \in {"writer", "namesake"}
TheirLock ==
  /\ Writer /\ other[1] = "waits"
  /\ lock = "free"
  /\ lock' = "they" /\ other' = <<"read", store>>
  /\ UNCHANGED <<st, run, loaded, disk>>

Declines == Beside = "namesake" /\ 1 \in other[2]
TheirSave ==
  /\ other[1] = "read" /\ ~Declines
  /\ store' = other[2] \cup {Theirs}
  /\ unsure' = FALSE
  /\ other' = <<"saved">>
  /\ UNCHANGED <<st, run, lock, loaded, note, stage, folders, hurt>>

TheirUnlock ==
  /\ other[1] = "saved" \/ (other[1] = "read" /\ Declines)
  /\ lock' = "free" /\ other' = <<"over">>
  /\ UNCHANGED <<st, run, loaded, disk>>

(* Somebody who makes a folder of our first qube's name.                   *)
TheirFolder ==
  /\ Beside = "folder" /\ other[1] = "waits"
  /\ folders[1] = Absent
  /\ folders' = [folders EXCEPT ![1] = <<"theirs">>]
  /\ other' = <<"over">>
  /\ UNCHANGED <<st, run, lock, loaded, store, unsure, note, stage, hurt>>

(* A second restore, as far as it sweeps: the same five calls.             *)
Sweeps(call, next) == other = <<"sweep", call>> /\ other' = next
TheirSweep ==
  /\ UNCHANGED <<st, run, loaded, store, hurt>>
  /\ \/ /\ Sweeps("lock", <<"sweep", "settle">>)
        /\ lock = "free" /\ lock' = "they"
        /\ UNCHANGED <<unsure, note, stage, folders>>
     \/ /\ Sweeps("settle", <<"sweep", "stages">>)
        /\ Settled
        /\ UNCHANGED <<lock, note, stage>>
     \/ /\ Sweeps("stages", <<"sweep", "note">>)
        /\ Swept
        /\ UNCHANGED <<lock, unsure, note, folders>>
     \/ /\ Sweeps("note", <<"sweep", "unlock">>)
        /\ note' = FALSE
        /\ UNCHANGED <<lock, unsure, stage, folders>>
     \/ /\ Sweeps("unlock", <<"over">>)
        /\ lock' = "free"
        /\ UNCHANGED <<unsure, note, stage, folders>>

We == \/ Lock \/ Settle \/ Sweep \/ Forget \/ Unlock
      \/ Stage \/ SyncFiles \/ Check \/ Note \/ Move \/ SyncDirs \/ Decide
      \/ Save \/ Undo \/ Clear \/ Refuse
They == TheirLock \/ TheirSave \/ TheirUnlock \/ TheirSweep
Next == \/ We \/ They \/ TheirFolder
        \/ Fault \/ UnsureSave \/ Cancel \/ Kill \/ KillInSave \/ Cut \/ Again
Spec == Init /\ [][Next]_vars
FairSpec == Spec /\ WF_vars(We) /\ WF_vars(They)

-----------------------------------------------------------------------------
(* Properties: spec/phases.md.                                             *)
Over == st[1] = "over"
Ended(how) == Over /\ st[2][1] = how
Owed == Over /\ st[3]
AllIn == Ours \subseteq store
NoneIn == store \cap Ours = {}
Orphan == \E q \in Ours : Mine(q) /\ q \notin store
K1HasFolder ==
  \A q \in Ours \cap store : Mine(q) /\ folders[q][3] # "torn"
K2AllOrNone == AllIn \/ NoneIn
K3NotHurt == ~hurt
K4Exact ==
  Over => /\ IF Ended("done") \/ (Ended("failed") /\ st[2][3])
             THEN AllIn ELSE NoneIn \/ earlier
          /\ Ended("canceled") = accepted
K5Said ==
  Over => IF Owed THEN note \/ ~Orphan
          ELSE stage = None /\ ~note /\ ~Orphan
K6OnlyOthers ==
  Ended("conflict") => \/ Beside = "namesake" /\ Theirs \in store
                       \/ \E q \in Ours : folders[q] = <<"theirs">>
                       \/ earlier
(* From every state: a crash begins anew.                                  *)
LEnds == []<>Over
=============================================================================
