-------------------------------- MODULE Lock --------------------------------
(* One directory with one store, qubes.xml, that several processes lock,   *)
(* load, replace and unlock.  One action is one system call; an action is  *)
(* named after the program counter at which it happens.  Writers save      *)
(* Saves times in one session, readers load once.  Nothing crashes here    *)
(* and no call fails, so sync and syncdir only mark their place.           *)
EXTENDS Naturals, FiniteSets
CONSTANTS Writers, Readers, \* the processes, two disjoint sets
          Saves,            \* saves of one writer in its session
          Slots,            \* inode slots: Inodes is 1..Slots
          Check,            \* is it still the file? "never" "before" "after"
          Keep,             \* of the new file: "locked" "unlocked" "nothing"
          Verify,           \* compare the file with what was loaded?
          LockFile          \* lock a file of its own, never unlinked?
VARIABLES path,    \* the inode that the name qubes.xml leads to
          content, \* inode -> the set of updates in it
          whole,   \* inode -> has it been written since its creation?
          lock,    \* inode -> who locks it (a writer excludes all others)
          pc,      \* process -> its next call
          fd,      \* process -> inode of its main descriptor
          tmp,     \* process -> inode of its second descriptor
          name,    \* process -> inode of its temporary name
          base,    \* process -> the updates it has in memory
          saved    \* process -> renames done
vars == <<path, content, whole, lock, pc, fd, tmp, name, base, saved>>

Procs   == Writers \cup Readers
Inodes  == 1..Slots
None    == 0                 \* no inode
First   == 1                 \* the store at the beginning
LockIno == Slots + 1         \* the lock file, if there is one
Files   == IF LockFile THEN 1..LockIno ELSE Inodes
Updates == Writers \X (1..Saves)
Update(p) == <<p, saved[p] + 1>>

ASSUME /\ Writers \cap Readers = {}
       /\ Check \in {"never", "before", "after"}
       /\ Keep \in {"locked", "unlocked", "nothing"}
       /\ Verify \in BOOLEAN /\ LockFile \in BOOLEAN
       /\ (Keep = "nothing" => Saves = 1)
       /\ (LockFile => Check = "never" /\ Keep = "nothing")

Init == /\ path = First
        /\ content = [i \in Inodes |-> {}]
        /\ whole = [i \in Inodes |-> i = First]
        /\ lock = [i \in Files |-> {}]
        /\ pc = [p \in Procs |-> "open"]
        /\ fd = [p \in Procs |-> None]
        /\ tmp = [p \in Procs |-> None]
        /\ name = [p \in Procs |-> None]
        /\ base = [p \in Procs |-> {}]
        /\ saved = [p \in Procs |-> 0]

(* An inode lives while a name or a descriptor leads to it; after that its *)
(* slot is as if never used.  Create takes the lowest free slot.           *)
Live(a, f, t, n) == {a} \cup {f[p] : p \in Procs} \cup {t[p] : p \in Procs}
                        \cup {n[p] : p \in Procs}
Free     == Inodes \ Live(path, fd, tmp, name)
Least(S) == CHOOSE i \in S : \A j \in S : i <= j
(* Contents after a call that took a name or a descriptor away: L is Live  *)
(* afterwards.                                                             *)
Sweep(L) ==
  /\ content' = [i \in Inodes |-> IF i \in L THEN content[i] ELSE {}]
  /\ whole' = [i \in Inodes |-> i \in L /\ whole[i]]
(* What close does to locks: the caller's lock on that inode is gone.      *)
Unlocked(p, i) == [j \in Files |-> IF j = i THEN lock[j] \ {p} ELSE lock[j]]

-----------------------------------------------------------------------------
(* Where the protocols part.                                               *)
AfterOpen == IF Check = "before" THEN "statfd" ELSE "lock"
AfterLock == IF LockFile THEN "storeopen"
             ELSE IF Check = "after" THEN "statfd" ELSE "load"
AfterStat == IF Check = "before" THEN "lock" ELSE "load"
AfterRead(p) == IF p \in Readers THEN "release" ELSE "create"
AfterLoad(p) == IF LockFile THEN "storeclose" ELSE AfterRead(p)
AfterKeep == IF Verify THEN "cmpread" ELSE "rename"
AfterSync == IF Keep = "locked" THEN "locktmp"
             ELSE IF Keep = "nothing" THEN "closetmp" ELSE AfterKeep
AfterSyncdir == IF LockFile THEN "release" ELSE "closeold"
AfterClose(p) == IF Keep = "nothing" THEN "done"
                 ELSE IF saved[p] < Saves THEN "create" ELSE "release"

-----------------------------------------------------------------------------
(* Writers and readers: get the lock.                                      *)
Open(p) ==
  /\ pc[p] = "open"
  /\ fd' = [fd EXCEPT ![p] = IF LockFile THEN LockIno ELSE path]
  /\ pc' = [pc EXCEPT ![p] = AfterOpen]
  /\ UNCHANGED <<path, content, whole, lock, tmp, name, base, saved>>

(* A writer asks for an exclusive lock, a reader for a shared one.         *)
Granted(p) == IF p \in Writers THEN lock[fd[p]] \ {p} = {}
              ELSE lock[fd[p]] \cap Writers = {}
Lock(p) ==
  /\ pc[p] = "lock"
  /\ Granted(p)
  /\ lock' = [lock EXCEPT ![fd[p]] = lock[fd[p]] \cup {p}]
  /\ pc' = [pc EXCEPT ![p] = AfterLock]
  /\ UNCHANGED <<path, content, whole, fd, tmp, name, base, saved>>

Statfd(p) ==
  /\ pc[p] = "statfd"
  /\ pc' = [pc EXCEPT ![p] = "statname"]
  /\ UNCHANGED <<path, content, whole, lock, fd, tmp, name, base, saved>>

Statname(p) ==
  /\ pc[p] = "statname"
  /\ pc' = [pc EXCEPT ![p] = IF path = fd[p] THEN AfterStat ELSE "reopen"]
  /\ UNCHANGED <<path, content, whole, lock, fd, tmp, name, base, saved>>

Reopen(p) ==
  /\ pc[p] = "reopen"
  /\ LET f == [fd EXCEPT ![p] = None]
     IN fd' = f /\ Sweep(Live(path, f, tmp, name))
  /\ lock' = Unlocked(p, fd[p])
  /\ pc' = [pc EXCEPT ![p] = "open"]
  /\ UNCHANGED <<path, tmp, name, base, saved>>

(* Only with a lock file: the store is opened to be read and closed.       *)
Storeopen(p) ==
  /\ pc[p] = "storeopen"
  /\ tmp' = [tmp EXCEPT ![p] = path]
  /\ pc' = [pc EXCEPT ![p] = "load"]
  /\ UNCHANGED <<path, content, whole, lock, fd, name, base, saved>>

Load(p) ==
  /\ pc[p] = "load"
  /\ base' = [base EXCEPT ![p] = content[IF LockFile THEN tmp[p] ELSE fd[p]]]
  /\ pc' = [pc EXCEPT ![p] = AfterLoad(p)]
  /\ UNCHANGED <<path, content, whole, lock, fd, tmp, name, saved>>

Storeclose(p) ==
  /\ pc[p] = "storeclose"
  /\ LET t == [tmp EXCEPT ![p] = None]
     IN tmp' = t /\ Sweep(Live(path, fd, t, name))
  /\ pc' = [pc EXCEPT ![p] = AfterRead(p)]
  /\ UNCHANGED <<path, lock, fd, name, base, saved>>

-----------------------------------------------------------------------------
(* Writers: save.                                                          *)
Create(p) ==
  /\ pc[p] = "create"
  /\ Free # {}
  /\ tmp' = [tmp EXCEPT ![p] = Least(Free)]
  /\ name' = [name EXCEPT ![p] = Least(Free)]
  /\ pc' = [pc EXCEPT ![p] = "write"]
  /\ UNCHANGED <<path, content, whole, lock, fd, base, saved>>

Write(p) ==
  /\ pc[p] = "write"
  /\ content' = [content EXCEPT ![tmp[p]] = base[p] \cup {Update(p)}]
  /\ whole' = [whole EXCEPT ![tmp[p]] = TRUE]
  /\ pc' = [pc EXCEPT ![p] = "sync"]
  /\ UNCHANGED <<path, lock, fd, tmp, name, base, saved>>

Sync(p) ==
  /\ pc[p] = "sync"
  /\ pc' = [pc EXCEPT ![p] = AfterSync]
  /\ UNCHANGED <<path, content, whole, lock, fd, tmp, name, base, saved>>

Locktmp(p) ==
  /\ pc[p] = "locktmp"
  /\ lock[tmp[p]] = {}
  /\ lock' = [lock EXCEPT ![tmp[p]] = {p}]
  /\ pc' = [pc EXCEPT ![p] = AfterKeep]
  /\ UNCHANGED <<path, content, whole, fd, tmp, name, base, saved>>

Closetmp(p) ==
  /\ pc[p] = "closetmp"
  /\ tmp' = [tmp EXCEPT ![p] = None]
  /\ pc' = [pc EXCEPT ![p] = AfterKeep]
  /\ UNCHANGED <<path, content, whole, lock, fd, name, base, saved>>

(* The content first, the name last: whoever comes between is still seen.  *)
Cmpread(p) ==
  /\ pc[p] = "cmpread"
  /\ pc' = [pc EXCEPT ![p] = IF content[fd[p]] = base[p]
                             THEN "cmpstat" ELSE "unlink"]
  /\ UNCHANGED <<path, content, whole, lock, fd, tmp, name, base, saved>>

Cmpstat(p) ==
  /\ pc[p] = "cmpstat"
  /\ pc' = [pc EXCEPT ![p] = IF path = fd[p] THEN "rename" ELSE "unlink"]
  /\ UNCHANGED <<path, content, whole, lock, fd, tmp, name, base, saved>>

Unlink(p) ==
  /\ pc[p] = "unlink"
  /\ LET n == [name EXCEPT ![p] = None]
     IN name' = n /\ Sweep(Live(path, fd, tmp, n))
  /\ pc' = [pc EXCEPT ![p] = "discard"]
  /\ UNCHANGED <<path, lock, fd, tmp, base, saved>>

Discard(p) ==
  /\ pc[p] = "discard"
  /\ LET t == [tmp EXCEPT ![p] = None]
     IN tmp' = t /\ Sweep(Live(path, fd, t, name))
  /\ lock' = Unlocked(p, tmp[p])
  /\ pc' = [pc EXCEPT ![p] = "release"]
  /\ UNCHANGED <<path, fd, name, base, saved>>

Rename(p) ==
  /\ pc[p] = "rename"
  /\ path' = name[p]
  /\ LET n == [name EXCEPT ![p] = None]
     IN name' = n /\ Sweep(Live(name[p], fd, tmp, n))
  /\ base' = [base EXCEPT ![p] = base[p] \cup {Update(p)}]
  /\ saved' = [saved EXCEPT ![p] = saved[p] + 1]
  /\ pc' = [pc EXCEPT ![p] = "syncdir"]
  /\ UNCHANGED <<lock, fd, tmp>>

Syncdir(p) ==
  /\ pc[p] = "syncdir"
  /\ pc' = [pc EXCEPT ![p] = AfterSyncdir]
  /\ UNCHANGED <<path, content, whole, lock, fd, tmp, name, base, saved>>

(* The new descriptor, if kept, becomes the main one; if not, this close   *)
(* ends the session.                                                       *)
Closeold(p) ==
  /\ pc[p] = "closeold"
  /\ LET f == [fd EXCEPT ![p] = tmp[p]]
         t == [tmp EXCEPT ![p] = None]
     IN fd' = f /\ tmp' = t /\ Sweep(Live(path, f, t, name))
  /\ lock' = Unlocked(p, fd[p])
  /\ base' = [base EXCEPT ![p] = IF Keep = "nothing" THEN {} ELSE base[p]]
  /\ pc' = [pc EXCEPT ![p] = AfterClose(p)]
  /\ UNCHANGED <<path, name, saved>>

-----------------------------------------------------------------------------
(* Writers and readers: the last close.  A writer that comes here with a   *)
(* save undone has refused it.                                             *)
Undone(p) == p \in Writers /\ saved[p] < Saves
Release(p) ==
  /\ pc[p] = "release"
  /\ LET f == [fd EXCEPT ![p] = None]
     IN fd' = f /\ Sweep(Live(path, f, tmp, name))
  /\ lock' = Unlocked(p, fd[p])
  /\ base' = [base EXCEPT ![p] = {}]
  /\ pc' = [pc EXCEPT ![p] = IF Undone(p) THEN "refused" ELSE "done"]
  /\ UNCHANGED <<path, tmp, name, saved>>

Step(p) == \/ Open(p) \/ Lock(p) \/ Statfd(p) \/ Statname(p) \/ Reopen(p)
           \/ Storeopen(p) \/ Load(p) \/ Storeclose(p)
           \/ Create(p) \/ Write(p) \/ Sync(p) \/ Locktmp(p) \/ Closetmp(p)
           \/ Cmpread(p) \/ Cmpstat(p) \/ Unlink(p) \/ Discard(p)
           \/ Rename(p) \/ Syncdir(p) \/ Closeold(p) \/ Release(p)
Next == \E p \in Procs : Step(p)
Spec == Init /\ [][Next]_vars
Fairness == \A p \in Procs : WF_vars(Step(p))
FairSpec == Spec /\ Fairness

-----------------------------------------------------------------------------
(* Properties.                                                             *)
Pcs == {"open", "lock", "statfd", "statname", "reopen", "storeopen", "load",
        "storeclose", "create", "write", "sync", "locktmp", "closetmp",
        "cmpread", "cmpstat", "unlink", "discard", "rename", "syncdir",
        "closeold", "release", "done", "refused"}
TypeOK ==
  /\ path \in Inodes
  /\ content \in [Inodes -> SUBSET Updates]
  /\ whole \in [Inodes -> BOOLEAN]
  /\ lock \in [Files -> SUBSET Procs]
  /\ \A i \in Files : lock[i] \cap Writers # {} => Cardinality(lock[i]) = 1
  /\ pc \in [Procs -> Pcs]
  /\ fd \in [Procs -> Files \cup {None}]
  /\ tmp \in [Procs -> Inodes \cup {None}]
  /\ name \in [Procs -> Inodes \cup {None}]
  /\ base \in [Procs -> SUBSET Updates]
  /\ saved \in [Procs -> 0..Saves]
SlotsSuffice == Free # {} \/ \A p \in Procs : pc[p] # "create"

Finished(p) == pc[p] \in {"done", "refused"}
Refusing(p) == pc[p] \in {"unlink", "discard"}
               \/ (pc[p] = "release" /\ Undone(p))
(* A holder has the lock and, where the protocol checks after it, has seen *)
(* that its file is the store, up to its last close.  Who keeps nothing of *)
(* the new file holds nothing once it is renamed.                          *)
Dropped(p) == /\ Keep = "nothing" /\ ~LockFile
              /\ pc[p] \in {"syncdir", "closeold"}
Holder(p) == /\ pc[p] \in {"load", "storeopen", "storeclose", "create",
                           "write", "sync", "locktmp", "closetmp", "cmpread",
                           "cmpstat", "unlink", "discard", "rename",
                           "syncdir", "closeold", "release"}
             /\ ~Dropped(p)
Loaded(p) == /\ Holder(p) /\ ~Refusing(p)
             /\ pc[p] \notin {"storeopen", "load"}
HeldFile(p) == IF pc[p] \in {"syncdir", "closeold"} THEN tmp[p] ELSE fd[p]
(* Saves whose syncdir has been answered.                                  *)
Acked(p) == IF pc[p] = "syncdir" THEN saved[p] - 1 ELSE saved[p]

S1NoLostUpdate ==
  \A p \in Writers : \A k \in 1..Acked(p) : <<p, k>> \in content[path]
S1NoStaleRead == \A p \in Procs : Loaded(p) => base[p] = content[path]
S2OneHolder ==
  /\ \A p, q \in Procs : (p # q /\ Holder(p) /\ Holder(q))
                         => (p \in Readers /\ q \in Readers)
  /\ \A p \in Procs : (Holder(p) /\ ~LockFile) => HeldFile(p) = path
S3Whole == whole[path]
S5NoLeftovers ==
  \A p \in Procs : Finished(p) =>
    /\ fd[p] = None /\ tmp[p] = None /\ name[p] = None
    /\ \A i \in Files : p \notin lock[i]
S7Finishes == \A p \in Procs : <>Finished(p)
=============================================================================
