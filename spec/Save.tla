-------------------------------- MODULE Save --------------------------------
(* The shipped protocol of Lock.tla with crashes and faults: a process     *)
(* dies, the power is cut, or a call fails, at any step.  What a process   *)
(* sees is as in Lock.tla; below it lies the medium, which knows only what *)
(* was synced.  Where nothing crashes, somebody who does not follow the    *)
(* protocol may change the store.                                          *)
EXTENDS Naturals, FiniteSets
CONSTANTS Writers,  \* the processes
          Saves,    \* saves of one writer in its session
          Slots,    \* inode slots
          Crashes, Faults, \* so many at most
          Changes,  \* by somebody who does not follow, at most
          Errnos    \* what a call may fail with
VARIABLES path, content, whole, lock, pc, fd, tmp, name, base, saved,
                    \* as in Lock.tla; saved begins again with the session
          main,     \* writer -> number of its main descriptor, 0 or 1: the
                    \* kernel gives the lowest that is free
          made,     \* writer -> renames done in all its sessions
          leftover, \* inodes whose temporary name has no living maker
          below,    \* inode -> what it holds for sure, if that is not what
                    \* is seen: at most one of <<"empty">>, <<"torn">> and
                    \* <<"whole", updates>>
          past,     \* states of the directory that a cut may bring back:
                    \* <<what the store held (if not its file of today),
                    \*   temporary names>>
          acked,    \* updates that were acknowledged
          crashes,  \* that may still come
          gone,     \* has a cut left what must not be?
          faults,   \* that may still come
          why,      \* writer -> <<>>, or <<what its session will report>>
          cause,    \* writer -> <<>>, or <<what it must report>>
          changes,  \* by somebody who does not follow, that may come
          deposed   \* writers that held the store when it was changed so
seen == <<path, content, whole, lock, fd, main, tmp, name, base, saved, made,
          leftover>>
medium == <<below, past>>
rest   == <<acked, faults, cause>>
vars == <<path, content, whole, lock, pc, fd, main, tmp, name, base, saved,
          made, leftover, below, past, acked, crashes, gone, faults, why,
          cause, changes, deposed>>

Inodes == 1..Slots
None   == 0
First  == 1
Update(p) == <<p, made[p] + 1>>
(* The updates of those who do not follow, the first one first.            *)
Others == "others"

ASSUME Changes = 0 \/ Crashes = 0

Init == /\ path = First
        /\ content = [i \in Inodes |-> {}]
        /\ whole = [i \in Inodes |-> i = First]
        /\ lock = [i \in Inodes |-> {}]
        /\ pc = [p \in Writers |-> "open"]
        /\ fd = [p \in Writers |-> None]
        /\ main = [p \in Writers |-> 0]
        /\ tmp = [p \in Writers |-> None]
        /\ name = [p \in Writers |-> None]
        /\ base = [p \in Writers |-> {}]
        /\ saved = [p \in Writers |-> 0]
        /\ made = [p \in Writers |-> 0]
        /\ leftover = {}
        /\ below = [i \in Inodes |-> <<>>]
        /\ past = {}
        /\ acked = {}
        /\ crashes = Crashes
        /\ gone = FALSE
        /\ faults = Faults
        /\ why = [p \in Writers |-> <<>>]
        /\ cause = [p \in Writers |-> <<>>]
        /\ changes = Changes
        /\ deposed = {}

-----------------------------------------------------------------------------
(* What is seen.                                                           *)
Linked(a, n, l) == {a} \cup {n[p] : p \in Writers} \cup l
Live(a, f, t, n, l) == Linked(a, n, l) \cup {f[p] : p \in Writers}
                                       \cup {t[p] : p \in Writers}
Free     == Inodes \ Live(path, fd, tmp, name, leftover)
Least(S) == CHOOSE i \in S : \A j \in S : i <= j
Blank(L) ==
  /\ content' = [i \in Inodes |-> IF i \in L THEN content[i] ELSE {}]
  /\ whole' = [i \in Inodes |-> i \in L /\ whole[i]]
Unlocked(p, i) == [lock EXCEPT ![i] = @ \ {p}]

-----------------------------------------------------------------------------
(* What is below.                                                          *)
Seen(i) == IF whole[i] THEN <<"whole", content[i]>> ELSE <<"torn">>
(* What the file of the store may hold after a cut: what was not synced is *)
(* the old content, nothing, a part, or the new content.                   *)
Contents == IF below[path] = <<>> THEN {Seen(path)}
            ELSE {below[path][1], <<"empty">>, <<"torn">>, Seen(path)}
Names(n, l) == Cardinality(({n[p] : p \in Writers} \ {None}) \cup l)
Today == <<<<>>, Names(name, leftover)>>
Outcomes ==
  UNION {IF d[1] # <<>> THEN {<<d[1][1], d[2]>>}
         ELSE {<<c, d[2]>> : c \in Contents} : d \in past \cup {Today}}

Holds(p) == pc[p] \notin {"open", "lock", "statfd", "statname", "reopen",
                          "close", "done", "refused"}

(* The medium after a call of which it need not know more: b and d are     *)
(* below and past so far, n and l the temporary names after the call, a    *)
(* the file of the store.  When the last crash has come, nobody will ever  *)
(* look at it again.  Nothing happens once an acknowledged update is gone, *)
(* and who has given the store back is not deposed any more.               *)
Keep(b, d, a, n, l) ==
  /\ ~gone
  /\ deposed' = {p \in deposed : Holds(p)'}
  /\ UNCHANGED <<crashes, gone, changes>>
  /\ IF crashes = 0 THEN UNCHANGED medium
     ELSE /\ below' = [i \in Inodes |-> IF i \in Linked(a, n, l) THEN b[i]
                                        ELSE <<>>]
          /\ past' = d \ {<<<<>>, Names(n, l)>>}
(* Names went or came, one after the other: each number in between.        *)
Renamed(n, l) ==
  LET was == Names(name, leftover)
      is  == Names(n, l)
  IN {<<<<>>, k>> : k \in {j \in 0..was : j > is \/ j = was}}
Same == Keep(below, past, path, name, leftover)

-----------------------------------------------------------------------------
(* A writer gets the lock.                                                 *)
(* A close that fails has closed all the same: what it does stands apart.  *)
Works == UNCHANGED <<faults, cause>>
Go(p, call) == pc' = [pc EXCEPT ![p] = call] /\ UNCHANGED why
Fail(p, call, with) == /\ pc' = [pc EXCEPT ![p] = call]
                       /\ why' = [why EXCEPT ![p] = <<with>>]

Open(p) ==
  /\ pc[p] = "open" /\ Go(p, "lock")
  /\ fd' = [fd EXCEPT ![p] = path]
  /\ UNCHANGED main
  /\ Same
  /\ UNCHANGED <<path, content, whole, lock, tmp, name, base, saved, made,
                 leftover, rest>>

Lock(p) ==
  /\ pc[p] = "lock" /\ Go(p, "statfd")
  /\ lock[fd[p]] \ {p} = {}
  /\ lock' = [lock EXCEPT ![fd[p]] = {p}]
  /\ Same
  /\ UNCHANGED <<path, content, whole, fd, main, tmp, name, base, saved, made,
                 leftover, rest>>

Statfd(p) ==
  /\ pc[p] = "statfd" /\ Go(p, "statname")
  /\ Same
  /\ UNCHANGED <<seen, rest>>

Statname(p) ==
  /\ pc[p] = "statname" /\ Go(p, IF path = fd[p] THEN "load" ELSE "reopen")
  /\ Same
  /\ UNCHANGED <<seen, rest>>

Reopens(p) ==
  /\ pc[p] = "reopen" /\ Go(p, "open")
  /\ fd' = [fd EXCEPT ![p] = None]
  /\ main' = [main EXCEPT ![p] = 0]
  /\ Blank(Live(path, fd', tmp, name, leftover))
  /\ lock' = Unlocked(p, fd[p])
  /\ Same
  /\ UNCHANGED <<path, tmp, name, base, saved, made, leftover, acked>>
Reopen(p) == Reopens(p) /\ Works

Load(p) ==
  /\ pc[p] = "load" /\ Go(p, "sweep")
  /\ base' = [base EXCEPT ![p] = content[fd[p]]]
  /\ Same
  /\ UNCHANGED <<path, content, whole, lock, fd, main, tmp, name, saved, made,
                 leftover, rest>>

-----------------------------------------------------------------------------
(* It saves.  A temporary file that nobody has locked was left by somebody *)
(* who died: only a holder has one.                                        *)
Sweep(p) ==
  /\ pc[p] = "sweep" /\ Go(p, "create")
  /\ LET n == [q \in Writers |-> IF name[q] = None \/ lock[name[q]] # {}
                                 THEN name[q] ELSE None]
         l == {i \in leftover : lock[i] # {}}
     IN /\ name' = n /\ leftover' = l
        /\ Blank(Live(path, fd, tmp, n, l))
        /\ Keep(below, past \cup Renamed(n, l), path, n, l)
  /\ UNCHANGED <<path, lock, fd, main, tmp, base, saved, made, rest>>

(* A new file is empty on the medium, whatever is written, until the sync. *)
Create(p) ==
  /\ pc[p] = "create" /\ Go(p, "write")
  /\ Free # {}
  /\ tmp' = [tmp EXCEPT ![p] = Least(Free)]
  /\ name' = [name EXCEPT ![p] = Least(Free)]
  /\ Keep([below EXCEPT ![Least(Free)] = <<<<"empty">>>>],
          past \cup Renamed(name', leftover), path, name', leftover)
  /\ UNCHANGED <<path, content, whole, lock, fd, main, base, saved, made,
                 leftover, rest>>

Write(p) ==
  /\ pc[p] = "write" /\ Go(p, "sync")
  /\ content' = [content EXCEPT ![tmp[p]] = base[p] \cup {Update(p)}]
  /\ whole' = [whole EXCEPT ![tmp[p]] = TRUE]
  /\ Same
  /\ UNCHANGED <<path, lock, fd, main, tmp, name, base, saved, made, leftover,
                 rest>>

Sync(p) ==
  /\ pc[p] = "sync" /\ Go(p, "locktmp")
  /\ Keep([below EXCEPT ![tmp[p]] = <<>>], past, path, name, leftover)
  /\ UNCHANGED <<seen, rest>>

Locktmp(p) ==
  /\ pc[p] = "locktmp" /\ Go(p, "cmpread")
  /\ lock[tmp[p]] = {}
  /\ lock' = [lock EXCEPT ![tmp[p]] = {p}]
  /\ Same
  /\ UNCHANGED <<path, content, whole, fd, main, tmp, name, base, saved, made,
                 leftover, rest>>

(* The content first, the name last: whoever comes between is still seen.  *)
(* Whoever was deposed must say why it does not save.                      *)
Differs(p) == /\ Fail(p, "unlink", "changed")
              /\ cause' = IF p \in deposed /\ cause[p] = <<>>
                          THEN [cause EXCEPT ![p] = <<"changed">>] ELSE cause
Cmpread(p) ==
  /\ pc[p] = "cmpread"
  /\ IF content[fd[p]] = base[p] THEN Go(p, "cmpstat") /\ UNCHANGED cause
     ELSE Differs(p)
  /\ Same
  /\ UNCHANGED <<seen, acked, faults>>

Cmpstat(p) ==
  /\ pc[p] = "cmpstat"
  /\ IF path = fd[p] THEN Go(p, "rename") /\ UNCHANGED cause ELSE Differs(p)
  /\ Same
  /\ UNCHANGED <<seen, acked, faults>>

(* Until the directory is synced a cut may bring back what the name led to *)
(* before, with what that file may hold.                                   *)
Renames(p) ==
  /\ name[p] # None /\ Go(p, "syncdir")
  /\ path' = name[p]
  /\ name' = [name EXCEPT ![p] = None]
  /\ Blank(Live(path', fd, tmp, name', leftover))
  /\ base' = [base EXCEPT ![p] = @ \cup {Update(p)}]
  /\ saved' = [saved EXCEPT ![p] = @ + 1]
  /\ made' = [made EXCEPT ![p] = @ + 1]
  /\ LET fixed(d) == IF d[1] # <<>> THEN {d}
                     ELSE {<<<<c>>, d[2]>> : c \in Contents}
     IN Keep(below, UNION {fixed(d) : d \in past \cup {Today}}, path', name',
             leftover)
  /\ UNCHANGED <<lock, fd, main, tmp, leftover, rest>>
(* A deposed writer swept the new file before it was locked.               *)
Missing(p) ==
  /\ name[p] = None /\ Fail(p, "unlink", "ENOENT")
  /\ cause' = IF cause[p] = <<>> THEN [cause EXCEPT ![p] = <<"ENOENT">>]
              ELSE cause
  /\ Same
  /\ UNCHANGED <<seen, acked, faults>>
Rename(p) == pc[p] = "rename" /\ (Renames(p) \/ Missing(p))

Syncdir(p) ==
  /\ pc[p] = "syncdir" /\ Go(p, "closeold")
  /\ acked' = acked \cup {<<p, made[p]>>}
  /\ Keep(below, {}, path, name, leftover)
  /\ Works
  /\ UNCHANGED seen

Closeolds(p) ==
  /\ pc[p] = "closeold"
  /\ Go(p, IF why[p] = <<>> /\ saved[p] < Saves THEN "sweep" ELSE "release")
  /\ fd' = [fd EXCEPT ![p] = tmp[p]]
  /\ main' = [main EXCEPT ![p] = 1 - @]
  /\ tmp' = [tmp EXCEPT ![p] = None]
  /\ Blank(Live(path, fd', tmp', name, leftover))
  /\ lock' = Unlocked(p, fd[p])
  /\ saved' = [saved EXCEPT ![p] = IF why[p] = <<>> THEN @ ELSE @ - 1]
  /\ Same
  /\ UNCHANGED <<path, name, base, made, leftover, acked>>
Closeold(p) == Closeolds(p) /\ Works

(* Back: what was loaded is not there any more, or a call has failed.      *)
Unlink(p) ==
  /\ pc[p] = "unlink" /\ Go(p, "discard")
  /\ name' = [name EXCEPT ![p] = None]
  /\ Blank(Live(path, fd, tmp, name', leftover))
  /\ Keep(below, past \cup Renamed(name', leftover), path, name', leftover)
  /\ UNCHANGED <<path, lock, fd, main, tmp, base, saved, made, leftover, rest>>

Discards(p) ==
  /\ pc[p] = "discard" /\ Go(p, "release")
  /\ tmp' = [tmp EXCEPT ![p] = None]
  /\ Blank(Live(path, fd, tmp', name, leftover))
  /\ lock' = Unlocked(p, tmp[p])
  /\ Same
  /\ UNCHANGED <<path, fd, main, name, base, saved, made, leftover, acked>>
Discard(p) == Discards(p) /\ Works

Releases(p) ==
  /\ pc[p] = "release" /\ Go(p, IF why[p] = <<>> THEN "done" ELSE "refused")
  /\ fd' = [fd EXCEPT ![p] = None]
  /\ main' = [main EXCEPT ![p] = 0]
  /\ Blank(Live(path, fd', tmp, name, leftover))
  /\ lock' = Unlocked(p, fd[p])
  /\ base' = [base EXCEPT ![p] = {}]
  /\ Same
  /\ UNCHANGED <<path, tmp, name, saved, made, leftover, acked>>
Release(p) == Releases(p) /\ Works

(* The lock was not to be had.                                             *)
Closes(p) ==
  /\ pc[p] = "close" /\ Go(p, "refused")
  /\ fd' = [fd EXCEPT ![p] = None]
  /\ main' = [main EXCEPT ![p] = 0]
  /\ Blank(Live(path, fd', tmp, name, leftover))
  /\ lock' = Unlocked(p, fd[p])
  /\ Same
  /\ UNCHANGED <<path, tmp, name, base, saved, made, leftover, acked>>
Close(p) == Closes(p) /\ Works

-----------------------------------------------------------------------------
(* A call fails, and does nothing; but a close has closed all the same,    *)
(* and a name that could not be removed is nobody's.  A failed sweep or    *)
(* close is not reported.                                                  *)
Instead(p) ==
  CASE pc[p] = "open" -> "refused"
    [] pc[p] \in {"lock", "statfd", "statname"} -> "close"
    [] pc[p] \in {"load", "create"} -> "release"
    [] pc[p] \in {"write", "sync", "locktmp", "cmpread", "cmpstat",
                  "rename"} -> "unlink"
    [] pc[p] = "syncdir" -> "closeold"
    [] OTHER -> "nowhere"
Spent(p, harmless, with) ==
  /\ faults > 0 /\ faults' = faults - 1
  /\ cause' = IF harmless \/ cause[p] # <<>> THEN cause
              ELSE [cause EXCEPT ![p] = <<with>>]
Fault(p) ==
  \/ /\ Spent(p, TRUE, "")
     /\ \/ Reopens(p) \/ Closeolds(p) \/ Discards(p) \/ Releases(p)
        \/ Closes(p)
        \/ /\ pc[p] = "sweep" /\ Go(p, "create")
           /\ Same
           /\ UNCHANGED <<seen, acked>>
  \/ \E with \in Errnos :
       /\ Spent(p, FALSE, with)
       /\ Instead(p) # "nowhere" /\ Fail(p, Instead(p), with)
       /\ Same
       /\ UNCHANGED <<seen, acked>>
  \/ \E with \in Errnos :
       /\ Spent(p, FALSE, with)
       /\ pc[p] = "unlink" /\ Go(p, "discard")
       /\ name' = [name EXCEPT ![p] = None]
       /\ leftover' = leftover \cup ({name[p]} \ {None})
       /\ Keep(below, past, path, name', leftover')
       /\ UNCHANGED <<path, content, whole, lock, fd, main, tmp, base, saved,
                      made, acked>>

-----------------------------------------------------------------------------
(* Crashes.  Who was at work starts its session again.                     *)
Over(p) == pc[p] \in {"done", "refused"}
Forget == IF crashes = 1
          THEN below' = [i \in Inodes |-> <<>>] /\ past' = {}
          ELSE UNCHANGED medium

(* A process dies: descriptors and locks go, its temporary file stays.     *)
Kill(p) ==
  /\ crashes > 0 /\ ~gone /\ ~Over(p) /\ (pc[p] # "open" \/ saved[p] # 0)
  /\ crashes' = crashes - 1
  /\ pc' = [pc EXCEPT ![p] = "open"]
  /\ fd' = [fd EXCEPT ![p] = None]
  /\ main' = [main EXCEPT ![p] = 0]
  /\ tmp' = [tmp EXCEPT ![p] = None]
  /\ name' = [name EXCEPT ![p] = None]
  /\ leftover' = leftover \cup ({name[p]} \ {None})
  /\ base' = [base EXCEPT ![p] = {}]
  /\ saved' = [saved EXCEPT ![p] = 0]
  /\ lock' = [i \in Inodes |-> lock[i] \ {p}]
  /\ Blank(Live(path, fd', tmp', name', leftover'))
  /\ why' = [why EXCEPT ![p] = <<>>]
  /\ cause' = [cause EXCEPT ![p] = <<>>]
  /\ Forget
  /\ UNCHANGED <<path, made, acked, gone, faults, changes, deposed>>

(* The power is cut: any outcome that the medium allows.  Nothing that was *)
(* acknowledged may be missing, unless it was overwritten before.          *)
Cut ==
  /\ crashes > 0 /\ ~gone
  /\ \E o \in Outcomes :
       LET is   == o[1][1] = "whole"
           left == IF is THEN o[1][2] ELSE {}
       IN /\ gone' = ~(is /\ (acked \cap content[path]) \subseteq left)
          /\ content' = [i \in Inodes |-> IF i = First THEN left ELSE {}]
          /\ whole' = [i \in Inodes |-> i = First /\ is]
          /\ leftover' = 2..(o[2] + 1)
  /\ path' = First
  /\ lock' = [i \in Inodes |-> {}]
  /\ pc' = [p \in Writers |-> IF Over(p) THEN pc[p] ELSE "open"]
  /\ saved' = [p \in Writers |-> IF Over(p) THEN saved[p] ELSE 0]
  /\ fd' = [p \in Writers |-> None]
  /\ main' = [p \in Writers |-> 0]
  /\ tmp' = [p \in Writers |-> None]
  /\ name' = [p \in Writers |-> None]
  /\ base' = [p \in Writers |-> {}]
  /\ below' = [i \in Inodes |-> <<>>] /\ past' = {}
  /\ why' = [p \in Writers |-> IF Over(p) THEN why[p] ELSE <<>>]
  /\ cause' = [p \in Writers |-> IF Over(p) THEN cause[p] ELSE <<>>]
  /\ crashes' = crashes - 1
  /\ UNCHANGED <<made, acked, faults, changes, deposed>>

-----------------------------------------------------------------------------
(* Somebody who does not follow the protocol adds an update, by a rename   *)
(* of its own or in place, at any moment but between the last look of a    *)
(* save that could see it and the rename.                                  *)
Changed == content[path] \cup {<<Others, Changes - changes + 1>>}
Change(blind) ==
  /\ changes > 0
  /\ \A p \in Writers : pc[p] \notin blind
  /\ changes' = changes - 1
  /\ deposed' = deposed \cup {p \in Writers : Holds(p)}
  /\ UNCHANGED <<lock, pc, fd, main, tmp, name, base, saved, made, leftover,
                 medium, crashes, gone, why, rest>>
Replace ==
  /\ Change({"rename"})
  /\ Free # {}
  /\ path' = Least(Free)
  /\ LET live == Live(path', fd, tmp, name, leftover)
     IN /\ content' = [i \in Inodes |-> IF i = path' THEN Changed
                                        ELSE IF i \in live THEN content[i]
                                        ELSE {}]
        /\ whole' = [i \in Inodes |-> i = path' \/ (i \in live /\ whole[i])]
Overwrite ==
  /\ Change({"cmpstat", "rename"})
  /\ content' = [content EXCEPT ![path] = Changed]
  /\ UNCHANGED <<path, whole>>

Step(p) == \/ Open(p) \/ Lock(p) \/ Statfd(p) \/ Statname(p) \/ Reopen(p)
           \/ Load(p) \/ Sweep(p) \/ Create(p) \/ Write(p) \/ Sync(p)
           \/ Locktmp(p) \/ Cmpread(p) \/ Cmpstat(p) \/ Rename(p)
           \/ Syncdir(p) \/ Closeold(p) \/ Unlink(p) \/ Discard(p)
           \/ Release(p) \/ Close(p)
Next == \/ Cut \/ \E p \in Writers : Step(p) \/ Kill(p) \/ Fault(p)
        \/ Replace \/ Overwrite
Spec == Init /\ [][Next]_vars
FairSpec == Spec /\ \A p \in Writers : WF_vars(Step(p))

-----------------------------------------------------------------------------
(* Properties: spec/lock.md.                                               *)
(* On the way back, or out, because something has failed.                  *)
Back(p) == why[p] # <<>> /\ pc[p] # "closeold"
SlotsSuffice == Free # {} \/ \A p \in Writers : pc[p] # "create"
S1NoLostUpdate == gone \/ acked \subseteq content[path]
S1NoStaleRead ==
  \A p \in Writers \ deposed : (Holds(p) /\ pc[p] # "load" /\ ~Back(p))
                                 => base[p] = content[path]
S2OneHolder ==
  /\ \A p, q \in Writers \ deposed : (Holds(p) /\ Holds(q)) => p = q
  /\ \A p \in Writers \ deposed : Holds(p) =>
       path = IF pc[p] \in {"syncdir", "closeold"} THEN tmp[p] ELSE fd[p]
S3Whole == gone \/ whole[path]
S4NotGone == ~gone
(* Unless a call failed: it may have been the sweep.                       *)
S5Swept == faults < Faults \/ \A p \in Writers :
  (Holds(p) /\ pc[p] \notin {"load", "sweep", "create", "release"})
    => leftover = {}
S5NoLeftovers == \A p \in Writers : Over(p) =>
  /\ fd[p] = None /\ tmp[p] = None /\ name[p] = None
  /\ \A i \in Inodes : p \notin lock[i]
S6FirstCause == \A p \in Writers :
  Over(p) => IF cause[p] # <<>> THEN pc[p] = "refused" /\ why[p] = cause[p]
             ELSE pc[p] = "done"
S8OthersStay ==
  \A k \in 1..(Changes - changes) : <<Others, k>> \in content[path]
S7Finishes == \A p \in Writers : <>(gone \/ Over(p))
=============================================================================
