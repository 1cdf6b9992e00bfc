------------------------------- MODULE MCSave -------------------------------
(* Model of Save for TLC, with the reachability twins: each says that a    *)
(* state in which a property could have failed is never reached, and is    *)
(* expected to be violated.                                                *)
EXTENDS Save

(* S4: a cut could undo what nobody was promised.                          *)
TNoDoubt == crashes > 0 => Cardinality({o[1] : o \in Outcomes}) = 1
(* S5: a save finds what a crash left.                                     *)
TNoLeftover == leftover = {} \/ \A p \in Writers : pc[p] # "sweep"
(* S6: a session reports a failure; one of them that it has saved, and not *)
(* for sure.                                                               *)
TNotReported == \A p \in Writers : ~(Over(p) /\ cause[p] # <<>>)
TNotInDoubt == \A p \in Writers : pc[p] = "closeold" => why[p] = <<>>
(* S7: all is saved, after a crash.                                        *)
TNotAfterCrash == crashes = 0 => \E p \in Writers : pc[p] # "done"
=============================================================================
