------------------------------ MODULE MCCommit -------------------------------
(* Model of Commit for TLC, with the reachability twins: each says that a   *)
(* state in which a property could have failed is never reached, and is     *)
(* expected to be violated.                                                 *)
EXTENDS Commit

TNotDone     == ~Ended("done")
TNotCanceled == ~Ended("canceled")
TNotUnsure   == ~(Ended("failed") /\ st[2][3])
(* The next run finds all in the store, or folders without an entry, or a   *)
(* stage.                                                                   *)
TNotKept     == st[1] # "keep"
TNoOrphan    == ~(st[1] = "sweep" /\ note /\ Orphan)
TNoStage     == stage # None => stage[1]
(* Or what a kill leaves, and a cut can take: a name, or the save.          *)
TNoName      == ~(st[1] = "sweep" /\ Unnamed # {})
TNoSave      == ~(st[1] = "sweep" /\ unsure)
(* A folder is left, and the note with it.                                  *)
TNothingLeft == ~(Over /\ Orphan)
(* Somebody sweeps beside a live stage.                                     *)
TNoLiveStage == ~(other[1] = "sweep" /\ stage # None /\ stage[1])
(* A power cut may take the store back, and somebody is to settle it.       *)
TNotDoubtful == ~(unsure /\ other = <<"sweep", "settle">>)
(* Beside a writer; beside who wants the same name, or makes the folder.    *)
TNotBoth     == ~(Theirs \in store /\ AllIn)
TNoConflict  == ~Ended("conflict")
TNotInTheWay == st # <<"decide", "fail", 0, "noted">>
=============================================================================
