------------------------------ MODULE MCCancel ------------------------------
(* Model of Cancel for TLC, with the reachability twins: each says that a  *)
(* state in which a property could have failed is never reached, and is    *)
(* expected to be violated.                                                *)
EXTENDS Cancel

TNotDone     == ~(Over /\ worker[2] = "done")
TNotFailed   == ~(Over /\ worker[2] = "failed")
TNotCanceled == ~(Over /\ worker[2] = "canceled")
(* Somebody cancels what is decided.                                       *)
TNotTooLate  == \A c \in Cancelers : canceler[c] # "toolate"
(* The gate refuses a child.                                               *)
TNotRefused  == ~At("kill")
=============================================================================
