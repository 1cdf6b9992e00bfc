-------------------------------- MODULE Ahead --------------------------------
(* Hashing ahead: a source of chunks, slots in which they are hashed at the *)
(* same time, a reader that takes the verdicts in the order of the archive. *)
(* Chunks are numbers from 0.  Where something may be absent it is a        *)
(* sequence of at most one.                                                 *)
EXTENDS Naturals, Sequences, FiniteSets
CONSTANTS Slots,  \* how many
          Chunks  \* of the archive
VARIABLES bad,      \* chunks whose code does not fit
          fails,    \* the source fails instead of this one, or never
          slots,    \* slot -> <<"free">>, <<"busy", chunk>>,
                    \*         <<"done", chunk, good?>>, <<"out", chunk>>
          next,     \* the chunk to read next
          source,   \* how the source ended: "clean" "failed"
          decoding, \* the chunk that the reader is busy with
          released, \* the chunks that it has got, in order
          end       \* how the reader ended
vars == <<bad, fails, slots, next, source, decoding, released, end>>

Numbers == 0..(Chunks - 1)
Places  == 1..Slots
Free    == <<"free">>

Init == /\ bad \in SUBSET Numbers
        /\ fails \in 0..Chunks
        /\ slots = [p \in Places |-> Free]
        /\ next = 0
        /\ source = <<>>
        /\ decoding = <<>>
        /\ released = <<>>
        /\ end = <<>>

Put(p, what) == slots' = [slots EXCEPT ![p] = what]
Ended == end # <<>>

-----------------------------------------------------------------------------
(* The source is asked only where there is room, and goes on being read     *)
(* until it ends or the reader does.                                        *)
Room == {p \in Places : slots[p] = Free}
Asked == Room # {} /\ source = <<>> /\ ~Ended

Read ==
  /\ Asked /\ next < Chunks /\ next # fails
  /\ Put(CHOOSE p \in Room : \A q \in Room : p <= q, <<"busy", next>>)
  /\ next' = next + 1
  /\ UNCHANGED <<bad, fails, source, decoding, released, end>>

SourceEnds ==
  /\ Asked
  /\ \/ next = Chunks /\ source' = <<"clean">>
     \/ next < Chunks /\ next = fails /\ source' = <<"failed">>
  /\ UNCHANGED <<bad, fails, slots, next, decoding, released, end>>

(* A hash is known, in any order; what finishes late is thrown away.        *)
Finish(p) ==
  /\ slots[p][1] = "busy"
  /\ Put(p, IF Ended THEN Free
            ELSE <<"done", slots[p][2], slots[p][2] \notin bad>>)
  /\ UNCHANGED <<bad, fails, next, source, decoding, released, end>>

-----------------------------------------------------------------------------
(* The reader: one chunk at a time.                                         *)
Turn == Len(released)
Idle == decoding = <<>> /\ ~Ended
Due(p, good) == slots[p][1] = "done" /\ slots[p] = <<"done", Turn, good>>

Take(p) ==
  /\ Idle /\ Due(p, TRUE)
  /\ Put(p, <<"out", Turn>>)
  /\ decoding' = <<Turn>>
  /\ released' = Append(released, Turn)
  /\ UNCHANGED <<bad, fails, next, source, end>>

(* The chunk was decoded, and only now its room is free.                    *)
Decoded(p) ==
  /\ ~Ended /\ decoding # <<>> /\ slots[p] = <<"out", decoding[1]>>
  /\ Put(p, Free)
  /\ decoding' = <<>>
  /\ UNCHANGED <<bad, fails, next, source, released, end>>

(* The first trouble in the archive is the end, not the first in time: the  *)
(* source's own end comes when all before it was taken.  What runs still is *)
(* awaited.                                                                 *)
Stop ==
  /\ Idle
  /\ \/ /\ \E p \in Places : Due(p, FALSE)
        /\ end' = <<"bad", Turn>>
     \/ /\ source # <<>> /\ Turn = next
        /\ end' = IF source = <<"clean">> THEN <<"done">> ELSE <<"source">>
  /\ slots' = [p \in Places |-> IF slots[p][1] = "busy" THEN slots[p]
                                ELSE Free]
  /\ UNCHANGED <<bad, fails, next, source, decoding, released>>

Next == \/ Read \/ SourceEnds \/ Stop
        \/ \E p \in Places : Finish(p) \/ Take(p) \/ Decoded(p)
Spec == Init /\ [][Next]_vars
FairSpec == Spec /\ WF_vars(Next)

-----------------------------------------------------------------------------
(* Properties: spec/phases.md.                                              *)
Busy == {p \in Places : slots[p][1] = "busy"}
Over == Ended /\ Busy = {}
A1InOrder == /\ \A i \in 1..Len(released) : released[i] = i - 1
             /\ (Ended /\ end[1] = "bad") => end[2] = Len(released)
(* Read, and not yet decoded.                                               *)
A2Bounded == ~Ended => next + Len(decoding) - Len(released) <= Slots
(* A reader with one thread: it stops at the first chunk that it cannot     *)
(* read, or whose code does not fit.                                        *)
Serial == LET stops == bad \cup {fails, Chunks}
              at == CHOOSE n \in stops : \A m \in stops : n <= m
          IN IF at = Chunks THEN <<<<"done">>, at>>
             ELSE IF at = fails THEN <<<<"source">>, at>>
             ELSE <<<<"bad", at>>, at>>
A3AsSerial == Ended => <<end, Len(released)>> = Serial
(* A hash that is not awaited would be in no slot.                          *)
A4NothingRuns == Over => \A p \in Places : slots[p] = Free
LEnds == <>Over
=============================================================================
