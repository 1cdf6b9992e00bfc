------------------------------ MODULE MCOthers ------------------------------
(* Model of Save for TLC where somebody who does not follow the protocol   *)
(* changes the store, with the reachability twins of S8.                   *)
EXTENDS MCSave

(* Others change what a writer holds.                                      *)
TNotDeposed == deposed = {}
(* A save refuses for that.                                                *)
TNotSeen == \A p \in Writers : ~(Over(p) /\ why[p] = <<"changed">>)
(* One fails because a deposed writer swept its new file.                  *)
TNotSwept == \A p \in Writers : ~(Over(p) /\ why[p] = <<"ENOENT">>)
=============================================================================
