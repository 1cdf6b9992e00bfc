------------------------------ MODULE MCMembers ------------------------------
(* Model of Members for TLC, with the reachability twins: each says that a  *)
(* state in which a property could have failed is never reached, and is     *)
(* expected to be violated.                                                 *)
EXTENDS Members

TNoneGiven == given = 0
TNotAll    == ~(st = <<"over", TRUE>> /\ given = Members)
(* The source dies with a member half written, which was announced.         *)
TNotHalf   == ~(ended = "badly" /\ begun > whole /\ st = <<"over", FALSE>>)
(* It dies, and what it had completed is given all the same.                *)
TNoRest    == ~(ended = "badly" /\ st[1] = "give")
(* The source waits for room.                                               *)
TNoWait    == begun - Consumed < Room
=============================================================================
