----------------------------- MODULE MCRestore ------------------------------
(* Model of Restore for TLC, with the reachability twins: each says that a *)
(* state in which a property could have failed is never reached, and is    *)
(* expected to be violated.                                                *)
EXTENDS Restore

TNotDone     == ~Ended("done")
TNotOmitted  == ~Ended("omitted")
TNotFailed   == ~Ended("failed")
TNotCanceled == ~Ended("canceled")
(* A chunk of an older backup is in memory, with a mac that fits.          *)
TNoOlder == chunk # <<>> => ~(chunk[1].fits /\ chunk[1].content[1] = "older")
(* A file is lost, and the reader goes on.                                 *)
TNoneLost == \A f \in 1..3 : fates[f] # <<"lost">>
(* A file waits for the end of the archive.                                *)
TNoneHeld == st[1] # "rename"
=============================================================================
