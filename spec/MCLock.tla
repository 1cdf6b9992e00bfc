------------------------------- MODULE MCLock -------------------------------
(* Model of Lock for TLC, with the reachability twins: each says that a    *)
(* state in which a property could have failed is never reached, and is    *)
(* expected to be violated.                                                *)
EXTENDS Lock

(* S2: somebody has to wait for a lock.                                    *)
T2NoWait == \A p \in Procs : pc[p] = "lock" => Granted(p)
(* S1, S2: a check finds that the file was replaced (needs a check).       *)
T2NoReplaced == \A p \in Procs : pc[p] = "statname" => fd[p] = path
(* S1: somebody goes on from the acknowledged update of another.           *)
T1NoHandover == \A p, q \in Procs :
                  (p # q /\ Loaded(p)) => \A u \in base[p] : u[1] # q
(* S3: there is an empty file, though not under the name of the store.     *)
T3NoTorn == \A p \in Procs : name[p] # None => whole[name[p]]
(* S5: an inode slot of the past is in use again.                          *)
T5NoReuse == path = First => \A p \in Procs : saved[p] = 0
(* S2: two readers hold together (needs two readers).                      *)
T2NoShare == \A p, q \in Readers : (Holder(p) /\ Holder(q)) => p = q
(* The compare before the rename finds a stranger: not in these models,    *)
(* this one is expected to hold with Verify and a check after the lock.    *)
NoRefusal == \A p \in Procs : ~Refusing(p)
=============================================================================
