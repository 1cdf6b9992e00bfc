------------------------------ MODULE Members -------------------------------
(* A source writes the members of an archive, one after the other, into a  *)
(* room that it shares with a reader, and says the name of each: before it *)
(* writes one, or after.  The reader gives a member on when it is whole.   *)
(* The source may die.  One action is a deed of the source, or one call of *)
(* the reader with its answer.  Members are numbered from 0.               *)
EXTENDS Naturals
CONSTANTS Announces, \* when is a name said? "before" "after"
          Members,   \* of the archive
          Room,      \* members that there is room for
          Dies       \* may the source die?
VARIABLES st,    \* what the reader waits for, with what it knows
          begun, \* members that were begun
          whole, \* members that are whole
          read,  \* names that were read
          given, \* members that were given on
          ended, \* the source: "no" "well" "badly"
          half,  \* was a member given that was not whole?
          wrong  \* was one given out of order?
vars == <<st, begun, whole, read, given, ended, half, wrong>>

ASSUME /\ Announces \in {"before", "after"}
       /\ Dies \in BOOLEAN

Init == /\ st = <<"ask", <<>>>>
        /\ begun = 0 /\ whole = 0 /\ read = 0 /\ given = 0
        /\ ended = "no"
        /\ half = FALSE /\ wrong = FALSE

Over == st[1] = "over"
(* What the source does once the reader is over, nobody sees.              *)
Runs == ended = "no" /\ ~Over

-----------------------------------------------------------------------------
(* The source.  A chunk is consumed together with its mac: room comes back *)
(* in pairs.                                                               *)
Consumed == given - (given % 2)

Begin ==
  /\ Runs
  /\ begun = whole
  /\ begun < Members
  /\ begun - Consumed < Room
  /\ begun' = begun + 1
  /\ UNCHANGED <<st, whole, read, given, ended, half, wrong>>

Complete ==
  /\ Runs
  /\ begun > whole
  /\ whole' = whole + 1
  /\ UNCHANGED <<st, begun, read, given, ended, half, wrong>>

Exit ==
  /\ Runs
  /\ whole = Members
  /\ ended' = "well"
  /\ UNCHANGED <<st, begun, whole, read, given, half, wrong>>

Die ==
  /\ Runs
  /\ Dies
  /\ ended' = "badly"
  /\ UNCHANGED <<st, begun, whole, read, given, half, wrong>>

-----------------------------------------------------------------------------
(* The reader.  It holds at most one member that was announced and is not  *)
(* proven whole yet.                                                       *)
Said == IF Announces = "before" THEN begun ELSE whole
(* A name: behind the last byte it says that its member is whole; before   *)
(* the first, that the one before it is.                                   *)
Named(held, n) ==
  IF Announces = "after" THEN <<"give", n, <<"ask">>>>
  ELSE IF held = <<>> THEN <<"ask", <<n>>>>
  ELSE <<"give", held[1], <<"hold", n>>>>
(* The end, which proves the held one whole if it is a good one.           *)
Ended(held, well) ==
  IF held # <<>> /\ well THEN <<"give", held[1], <<"end">>>>
  ELSE <<"over", well>>

(* Names that were said can still be read when the source has ended.       *)
Ask ==
  /\ st[1] = "ask"
  /\ IF read < Said
     THEN read' = read + 1 /\ st' = Named(st[2], read)
     ELSE ended # "no" /\ UNCHANGED read /\ st' = Ended(st[2], ended = "well")
  /\ UNCHANGED <<begun, whole, given, ended, half, wrong>>

Give ==
  /\ st[1] = "give"
  /\ half' = (half \/ st[2] >= whole)
  /\ wrong' = (wrong \/ st[2] # given)
  /\ given' = given + 1
  /\ st' = CASE st[3][1] = "ask" -> <<"ask", <<>>>>
             [] st[3][1] = "hold" -> <<"ask", <<st[3][2]>>>>
             [] st[3][1] = "end" -> <<"over", TRUE>>
  /\ UNCHANGED <<begun, whole, read, ended>>

Write == Begin \/ Complete \/ Exit
Read  == Ask \/ Give
Next  == Write \/ Die \/ Read
Spec  == Init /\ [][Next]_vars
(* Nobody must die.                                                        *)
FairSpec == Spec /\ WF_vars(Write) /\ WF_vars(Read)

-----------------------------------------------------------------------------
(* Properties: spec/phases.md.                                             *)
TypeOK ==
  /\ begun \in 0..Members /\ whole \in 0..begun
  /\ read \in 0..Members /\ given \in 0..read
  /\ begun - whole \in 0..1 /\ begun - Consumed <= Room
  /\ ended \in {"no", "well", "badly"}
  /\ half \in BOOLEAN /\ wrong \in BOOLEAN
M1WholeOnly == ~half
M2InOrder == ~wrong
M3CleanIsAll ==
  /\ st = <<"over", TRUE>> => ended = "well" /\ given = Members
  /\ st = <<"over", FALSE>> =>
       ended = "badly" /\ (Announces = "after" => given = whole)
LEnds == <>Over
=============================================================================
