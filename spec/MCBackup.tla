------------------------------ MODULE MCBackup ------------------------------
(* Model of Backup for TLC, with the reachability twins: each says that a  *)
(* state in which a property could have failed is never reached, and is    *)
(* expected to be violated.                                                *)
EXTENDS Backup

TNotDone     == ~Ended("done")
TNotFailed   == ~Ended("failed")
TNotCanceled == ~Ended("canceled")
(* B1, B3: what made the stream has died, and its output is padded.        *)
TNoneDead    == source = <<>> \/ source[1] # "dead"
(* B2: it fails with the archive in place.                                 *)
TNotInPlace  == ~(Ended("failed") /\ name = "final")
(* B1c: the power is cut behind the rename.                                *)
TNotCutWhole == found # <<"whole">>
(* B4, B6: a failure is noted by a cancel.                                 *)
TNoneNoted   == ~(Ended("canceled") /\ st[2][2] # <<>>)
(* B5: something is left, and said (needs two faults).                     *)
TNoneLeft    == ~(IsOver /\ st[3])
(* B3: a cancel meets the last code (needs a stream).                      *)
TNotAtLast   == ~(st[1] = "decide" /\ st[2][1] = "lastcode" /\ accepted)
=============================================================================
