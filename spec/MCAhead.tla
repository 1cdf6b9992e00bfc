------------------------------- MODULE MCAhead ------------------------------
(* Model of Ahead for TLC, with the reachability twins: each says that a   *)
(* state in which a property could have failed is never reached, and is    *)
(* expected to be violated.                                                *)
EXTENDS Ahead

TNotDone     == end # <<"done">>
TNotSource   == end # <<"source">>
(* A3: a later chunk is bad.                                               *)
TNoLaterBad  == ~(Ended /\ end[1] = "bad" /\ end[2] > 0)
(* A1: a later chunk is finished first (needs two slots).                  *)
TNotFirst    == \A p \in Places : slots[p][1] = "done" => slots[p][2] = Turn
(* A3: the source has failed, and what is before it is not known yet.      *)
TNotAhead    == ~(source = <<"failed">> /\ Busy # {})
(* A4: the reader ends while hashes run (needs two slots).                 *)
TNotRunning  == ~(Ended /\ Busy # {})
=============================================================================
