------------------------------- MODULE Cancel -------------------------------
(* A worker runs two children, one after the other, then publishes.  Other *)
(* threads may cancel it.  Between them stands the gate: one mutex around  *)
(* "open", "flagged" or "decided" and who is running.  One action is one   *)
(* critical section, or one call of the worker outside of it.              *)
EXTENDS Naturals, FiniteSets
CONSTANTS Cancelers, \* threads that may cancel, once each
          Stubborn   \* do children ignore TERM?
VARIABLES gate,     \* "open" "flagged" "decided"
          running,  \* registered children: those that a cancel signals
          worker,   \* <<its next call, child, how the child ended>>
          child,    \* child -> <<"absent">>, <<"running", signal it got>>,
                    \*          <<"zombie", how it ended>>, <<"reaped">>
          canceler, \* canceler -> "idle", "patient", or what it was told
          accepted, \* has a cancel been accepted?
          failed,   \* has a child failed by itself?
          stray     \* has a signal met a process that is not ours?
vars == <<gate, running, worker, child, canceler, accepted, failed, stray>>

Children == 1..2
Last     == 2

ASSUME Stubborn \in BOOLEAN

Init == /\ gate = "open"
        /\ running = {}
        /\ worker = <<"look", 1>>
        /\ child = [i \in Children |-> <<"absent">>]
        /\ canceler = [c \in Cancelers |-> "idle"]
        /\ accepted = FALSE
        /\ failed = FALSE
        /\ stray = FALSE

At(call)  == worker[1] = call
Mine      == worker[2]
(* A signal to each of S.  KILL is never taken back by TERM; a zombie does *)
(* not notice; who is not there, or was reaped, is somebody else by now.   *)
Stronger(new, old) == IF old = "kill" THEN old ELSE new
Signalled(S, signal) ==
  [i \in Children |-> IF i \in S /\ child[i][1] = "running"
                      THEN <<"running", Stronger(signal, child[i][2])>>
                      ELSE child[i]]
Strays(S) == \E i \in S : child[i][1] \in {"absent", "reaped"}
Send(S, signal) == /\ child' = Signalled(S, signal)
                   /\ stray' = (stray \/ Strays(S))

-----------------------------------------------------------------------------
(* The worker.                                                             *)
Look ==
  /\ At("look")
  /\ worker' = IF Mine > Last THEN <<"decide", TRUE>>
               ELSE IF gate = "flagged" THEN <<"decide", FALSE>>
               ELSE <<"start", Mine>>
  /\ UNCHANGED <<gate, running, child, canceler, accepted, failed, stray>>

Start ==
  /\ At("start")
  /\ child' = [child EXCEPT ![Mine] = <<"running", "none">>]
  /\ worker' = <<"register", Mine>>
  /\ UNCHANGED <<gate, running, canceler, accepted, failed, stray>>

(* Refused once a cancel was accepted, which cannot know of this child:    *)
(* whoever started it ends it.                                             *)
Register ==
  /\ At("register")
  /\ IF gate = "flagged"
     THEN worker' = <<"kill", Mine>> /\ UNCHANGED running
     ELSE worker' = <<"await", Mine>> /\ running' = running \cup {Mine}
  /\ UNCHANGED <<gate, child, canceler, accepted, failed, stray>>

Kill ==
  /\ At("kill")
  /\ Send({Mine}, "kill")
  /\ worker' = <<"await", Mine>>
  /\ UNCHANGED <<gate, running, canceler, accepted, failed>>

(* Waits for the end, and leaves the zombie: its number stays taken.       *)
Await ==
  /\ At("await")
  /\ child[Mine][1] = "zombie"
  /\ worker' = <<"forget", Mine, child[Mine][2]>>
  /\ UNCHANGED <<gate, running, child, canceler, accepted, failed, stray>>

Forget ==
  /\ At("forget")
  /\ running' = running \ {Mine}
  /\ worker' = <<"reap", Mine, worker[3]>>
  /\ UNCHANGED <<gate, child, canceler, accepted, failed, stray>>

Reap ==
  /\ At("reap")
  /\ child' = [child EXCEPT ![Mine] = <<"reaped">>]
  /\ worker' = IF worker[3] = "good" THEN <<"look", Mine + 1>>
               ELSE <<"decide", FALSE>>
  /\ UNCHANGED <<gate, running, canceler, accepted, failed, stray>>

(* Before any end, good or bad: whoever comes first wins.                  *)
Decide ==
  /\ At("decide")
  /\ IF gate = "flagged"
     THEN worker' = <<"clean", "canceled">> /\ UNCHANGED gate
     ELSE /\ gate' = "decided"
          /\ worker' = IF worker[2] THEN <<"publish">>
                       ELSE <<"clean", "failed">>
  /\ UNCHANGED <<running, child, canceler, accepted, failed, stray>>

Publish ==
  /\ At("publish")
  /\ worker' = <<"over", "done">>
  /\ UNCHANGED <<gate, running, child, canceler, accepted, failed, stray>>

Clean ==
  /\ At("clean")
  /\ worker' = <<"over", worker[2]>>
  /\ UNCHANGED <<gate, running, child, canceler, accepted, failed, stray>>

-----------------------------------------------------------------------------
(* A canceling thread.  TERM goes out while the mutex is held, and KILL to *)
(* whoever is still there two seconds later, again under the mutex.        *)
Cancel(c) ==
  /\ canceler[c] = "idle"
  /\ IF gate = "open"
     THEN /\ gate' = "flagged"
          /\ accepted' = TRUE
          /\ Send(running, "term")
          /\ canceler' = [canceler EXCEPT ![c] = "patient"]
     ELSE /\ canceler' = [canceler EXCEPT ![c] =
               IF gate = "flagged" THEN "already" ELSE "toolate"]
          /\ UNCHANGED <<gate, accepted, child, stray>>
  /\ UNCHANGED <<running, worker, failed>>

Escalate(c) ==
  /\ canceler[c] = "patient"
  /\ Send(running, "kill")
  /\ canceler' = [canceler EXCEPT ![c] = "accepted"]
  /\ UNCHANGED <<gate, running, worker, accepted, failed>>

-----------------------------------------------------------------------------
(* A child: it obeys a signal, or ends by itself, well or badly.           *)
Obey(i) ==
  /\ child[i][1] = "running"
  /\ child[i][2] = "kill" \/ (child[i][2] = "term" /\ ~Stubborn)
  /\ child' = [child EXCEPT ![i] = <<"zombie", "killed">>]
  /\ UNCHANGED <<gate, running, worker, canceler, accepted, failed, stray>>

End(i) ==
  /\ child[i][1] = "running"
  /\ \E how \in {"good", "bad"} :
       /\ child' = [child EXCEPT ![i] = <<"zombie", how>>]
       /\ failed' = (failed \/ how = "bad")
  /\ UNCHANGED <<gate, running, worker, canceler, accepted, stray>>

Work == \/ Look \/ Start \/ Register \/ Kill \/ Await \/ Forget \/ Reap
        \/ Decide \/ Publish \/ Clean
Next == \/ Work
        \/ \E c \in Cancelers : Cancel(c) \/ Escalate(c)
        \/ \E i \in Children : Obey(i) \/ End(i)
Spec == Init /\ [][Next]_vars
(* Nobody must cancel, and no child must end by itself.                    *)
Fairness == /\ WF_vars(Work)
            /\ \A c \in Cancelers : WF_vars(Escalate(c))
            /\ \A i \in Children : WF_vars(Obey(i))
FairSpec == Spec /\ Fairness

-----------------------------------------------------------------------------
(* Properties: spec/phases.md.                                             *)
TypeOK ==
  /\ gate \in {"open", "flagged", "decided"}
  /\ running \in SUBSET Children
  /\ canceler \in [Cancelers -> {"idle", "patient", "accepted", "already",
                                 "toolate"}]
  /\ accepted \in BOOLEAN /\ failed \in BOOLEAN /\ stray \in BOOLEAN
Over == At("over")
C1Exact == Over => (worker[2] = "canceled") = accepted
C2NobodyRuns ==
  Over => \A i \in Children : child[i][1] \in {"absent", "reaped"}
C3OwnFailure == (Over /\ worker[2] = "failed") => failed
C4NoStray == ~stray
(* A child that nobody cancels may run as long as it likes.                *)
LEnds == accepted ~> Over
=============================================================================
