------------------------------- MODULE Restore -------------------------------
(* Reading a backup: one archive, a reader, an attacker who may change what *)
(* comes next, calls that fail, somebody who cancels.  One action is one    *)
(* call of the reader with its answer, or one deed of the others.           *)
(* A chunk is <<file, number>>, both from 0; file 0 is qubes.xml, which is  *)
(* one chunk.  Where something may be absent it is a sequence of at most    *)
(* one.                                                                     *)
EXTENDS Naturals, Sequences, FiniteSets
CONSTANTS Files, Chunks,  \* files besides qubes.xml; chunks of each
          Digests, Made,  \* digests that are tried, from 0; that of the archive
          Headerless,     \* was the archive written without a header?
          Verify,         \* decode, but write nothing?
          KeepGoing,      \* leave a bad file out and go on?
          Hold,           \* do files wait for the end of the archive?
          Binding,        \* "nothing" "checksum" "perchunk" "atend"
          Edits, Faults,  \* so many at most
          MayCancel       \* does anybody cancel?
VARIABLES st,       \* what the reader waits for, with what it knows
          gate,     \* "open" "flagged" "decided"
          accepted, \* has a cancel been accepted?
          place,    \* where the next member stands
          edits, faults, \* that are left
          numbers,  \* the names that have a number, in order
          chunk,    \* the chunk in memory
          header,   \* have header and mac been read as they were written?
          decoder,  \* what the decoder has seen of the open file
          fates,    \* number + 1 -> what became of the file
          wrong     \* what has gone wrong
vars == <<st, gate, accepted, place, edits, faults, numbers, chunk, header,
          decoder, fates, wrong>>

ASSUME /\ Binding \in {"nothing", "checksum", "perchunk", "atend"}
       /\ Made \in 0..(Digests - 1)

-----------------------------------------------------------------------------
(* The archive as it was written: header and mac, then each chunk and mac. *)
ChunksOf(name) == IF name = 0 THEN 1 ELSE Chunks
Spots == {<<0, 0>>} \cup ((1..Files) \X (0..(Chunks - 1)))
Nth(i) == IF i = 0 THEN <<0, 0>>
          ELSE <<1 + (i - 1) \div Chunks, (i - 1) % Chunks>>
Skipped == IF Headerless THEN 2 ELSE 0
Len0 == 2 * (2 + Files * Chunks)
End0 == Len0 - Skipped
Piece(p) ==
  LET q == p + Skipped
      kind == IF q % 2 = 1 THEN "mac" ELSE "chunk"
  IN IF q >= Len0 THEN <<"end">>
     ELSE IF q = 0 THEN <<"header">>
     ELSE IF q = 1 THEN <<"headermac">>
     ELSE <<kind, Nth(q \div 2 - 1)>>

(* What is in a chunk: what this backup has there, what an older one with  *)
(* the same passphrase has, or anything else, for which there is no mac.   *)
This(spot)  == <<"this", spot>>
Older(spot) == <<"older", spot>>
Forged      == <<"forged">>
Genuine(c)  == c # Forged

Init == /\ st = <<"first">>
        /\ gate = "open" /\ accepted = FALSE
        /\ place = 0 /\ edits = Edits /\ faults = Faults
        /\ numbers = <<0>>
        /\ chunk = <<>> /\ header = FALSE /\ decoder = <<>>
        /\ fates = [i \in 1..3 |-> <<"absent">>]
        /\ wrong = {}

-----------------------------------------------------------------------------
(* Where the reader goes next.  c is what it carries from chunk to chunk.  *)
Ctx(d) == [digest |-> d, at |-> <<>>, opened |-> 0, lost |-> 0, ready |-> 0,
           losing |-> FALSE, headerless |-> FALSE]
(* Every end is decided, good or bad.                                      *)
Fail(cause) == <<"decide", <<"failed", cause>>, 0>>
(* A file is lost, if we may go on without it.                             *)
Lose(c, at, cause, then) ==
  IF ~KeepGoing \/ at[1] = 0 THEN Fail(cause)
  ELSE <<"drop", [c EXCEPT !.at = at, !.lost = @ + 1, !.losing = TRUE], then>>
GoOn(c, then) ==
  CASE then[1] = "member" -> <<"data", c>>
    [] then[1] = "file" ->
         <<"mac", [c EXCEPT !.opened = @ + 1, !.losing = FALSE], then[2]>>
    [] then[1] = "end" -> <<"count", c>>
(* No further chunk of the open file will come.                            *)
Leave(c, then) == IF c.at = <<>> \/ c.losing THEN GoOn(c, then)
                  ELSE <<"finish", c, then>>
Whole(c, then) == IF Verify THEN GoOn(c, then)
                  ELSE IF Hold THEN GoOn([c EXCEPT !.ready = @ + 1], then)
                  ELSE <<"publish", c, then>>
Close(c) ==
  LET found == IF c.headerless THEN <<c.digest>> ELSE <<>>
      end == IF c.headerless \/ c.lost > 0 THEN <<"omitted", found, c.lost>>
             ELSE <<"done">>
  IN <<"decide", end, c.ready>>

Follows(c, at) == c.at # <<>> /\ at = <<c.at[1], c.at[2] + 1>>
Begins(c, at)  == at = <<c.opened, 0>>
Lead == st[2]
(* The reader is told of a member by kind, and by number of its file.      *)
Told(m) ==
  CASE st[1] = "first" ->
         IF m = <<"header">> THEN <<"firstmac", "header">>
         ELSE IF m = <<"chunk", <<0, 0>>>> THEN <<"firstmac", "chunk">>
         ELSE IF m[1] = "end" THEN Fail(<<"truncated">>)
         ELSE Fail(<<"sequence">>)
    [] st[1] = "firstmac" ->
         IF m = (IF Lead = "header" THEN <<"headermac">>
                 ELSE <<"mac", <<0, 0>>>>)
         THEN <<"guess", Lead, 0>>
         ELSE IF m[1] = "end" THEN Fail(<<"truncated">>)
         ELSE Fail(<<"sequence">>)
    [] st[1] = "data" ->
         LET c == st[2]
         IN IF m[1] = "end"
            THEN IF c.at = <<>> THEN Fail(<<"truncated">>)
                 ELSE Leave(c, <<"end">>)
            ELSE IF m[1] = "chunk" /\ Follows(c, m[2]) THEN <<"mac", c, m[2]>>
            ELSE IF m[1] = "chunk" /\ Begins(c, m[2])
            THEN Leave(c, <<"file", m[2]>>)
            ELSE Fail(<<"sequence">>)
    [] st[1] = "mac" ->
         LET c == st[2]
         IN IF m[1] = "end" THEN Fail(<<"truncated">>)
            ELSE IF m # <<"mac", st[3]>> THEN Fail(<<"sequence">>)
            ELSE IF c.losing THEN <<"data", [c EXCEPT !.at = st[3]]>>
            ELSE <<"verify", c, st[3]>>

-----------------------------------------------------------------------------
(* A member comes: that at place p, under this name, with this content.    *)
Numbered(name) == \E i \in 1..Len(numbers) : numbers[i] = name
NumberOf(seq, name) == (CHOOSE i \in 1..Len(seq) : seq[i] = name) - 1
Behind(p) == chunk # <<>> /\ chunk[1].place + 1 = p
Own(p) == IF Piece(p)[1] \notin {"chunk", "mac"} THEN <<>>
          ELSE IF Piece(p)[1] = "mac" /\ Behind(p) THEN chunk[1].name
          ELSE Piece(p)[2]
Written(p) == IF Piece(p)[1] = "chunk" THEN This(Piece(p)[2]) ELSE Forged
Come(p, name, content) ==
  LET piece == Piece(p)
      seq == IF piece[1] = "chunk" /\ ~Numbered(name[1])
             THEN Append(numbers, name[1]) ELSE numbers
      known == CASE piece[1] = "chunk" -> TRUE
                 [] piece[1] = "mac" -> Numbered(name[1])
                 [] OTHER -> FALSE
      m == IF piece[1] \notin {"chunk", "mac"} THEN piece
           ELSE IF known
           THEN <<piece[1], <<NumberOf(seq, name[1]), name[2]>>>>
           ELSE <<"other">>
      (* An edit of a chunk is one of the mac behind it too.               *)
      fits == IF piece[1] # "mac" \/ chunk = <<>> THEN FALSE
              ELSE IF Behind(p) THEN Genuine(chunk[1].content)
              ELSE chunk[1].content = This(piece[2])
  IN /\ place' = IF p >= End0 THEN End0 ELSE p + 1
     /\ numbers' = seq
     /\ header' = IF piece[1] = "headermac" THEN p = place ELSE header
     /\ chunk' =
          IF piece[1] = "chunk"
          THEN <<[name |-> name, content |-> content, place |-> p,
                  fits |-> FALSE, verified |-> FALSE]>>
          ELSE IF piece[1] = "mac" /\ chunk # <<>>
          THEN <<[chunk[1] EXCEPT !.fits = fits]>>
          ELSE chunk
     /\ st' = Told(m)
     /\ UNCHANGED <<gate, accepted, faults, decoder, fates, wrong>>

Ready(calls) == st[1] \in calls /\ gate # "flagged"
Asks == Ready({"first", "firstmac", "data", "mac"})
Edit == Asks /\ edits > 0 /\ edits' = edits - 1

Member == /\ Asks
          /\ Come(place, Own(place), Written(place))
          /\ UNCHANGED edits
(* The attacker goes on elsewhere, or ends the archive,                    *)
Jump == /\ Edit
        /\ \E p \in (0..End0) \ {place} : Come(p, Own(p), Written(p))
(* changes the name of a chunk and its mac, or of a mac alone,             *)
Name == /\ Edit
        /\ Piece(place)[1] \in {"chunk", "mac"}
        /\ \E s \in Spots \ {Piece(place)[2]} : Come(place, s, Written(place))
(* or puts something else into a chunk, with the mac that fits.            *)
Content ==
  /\ Edit
  /\ Piece(place)[1] = "chunk"
  /\ LET own == Piece(place)[2]
     IN \E c \in {This(s) : s \in Spots \ {own}} \cup {Older(own), Forged} :
          Come(place, own, c)

-----------------------------------------------------------------------------
(* Verdicts.                                                               *)
Bound(c) == Binding # "perchunk" \/ c.content = This(c.name)
Good(d) == /\ chunk # <<>> /\ chunk[1].fits /\ Bound(chunk[1])
           /\ d = Made
Verified(good) == IF good THEN <<[chunk[1] EXCEPT !.verified = TRUE]>>
                  ELSE chunk

Guess ==
  /\ Ready({"guess"})
  /\ LET d == st[3]
         good == IF Lead = "header" THEN header /\ d = Made ELSE Good(d)
     IN /\ chunk' = IF Lead = "header" THEN chunk ELSE Verified(good)
        /\ st' = IF ~good
                 THEN IF d + 1 < Digests THEN <<"guess", Lead, d + 1>>
                      ELSE Fail(<<"passphrase">>)
                 ELSE IF Lead = "header" THEN <<"parse", d>>
                 ELSE <<"release", [Ctx(d) EXCEPT !.opened = 1,
                                                  !.headerless = TRUE],
                        <<0, 0>>>>
  /\ UNCHANGED <<gate, accepted, place, edits, faults, numbers, header,
                 decoder, fates, wrong>>

Parse ==
  /\ Ready({"parse"})
  /\ st' = IF st[2] = Made THEN <<"data", Ctx(Made)>> ELSE Fail(<<"header">>)
  /\ UNCHANGED <<gate, accepted, place, edits, faults, numbers, chunk, header,
                 decoder, fates, wrong>>

VerifyChunk(good) ==
  /\ chunk' = Verified(good)
  /\ st' = IF good THEN <<"release", st[2], st[3]>>
           ELSE Lose(st[2], st[3], <<"mac", st[3]>>, <<"member">>)
VerifyMac ==
  /\ Ready({"verify"})
  /\ VerifyChunk(Good(st[2].digest))
  /\ UNCHANGED <<gate, accepted, place, edits, faults, numbers, header,
                 decoder, fates, wrong>>

-----------------------------------------------------------------------------
(* The decoder: without a checksum it sees only a stream that begins with  *)
(* no begin, or goes on behind its end.                                    *)
LastOf(c) == IF c = Forged THEN FALSE ELSE c[2][2] + 1 = ChunksOf(c[2][1])
Takes(dec, c) == IF dec = <<>> THEN c = Forged \/ c[2][2] = 0
                 ELSE ~dec[1].ended
InStep(fed, c) == /\ fed.begun # Forged
                  /\ c = <<fed.begun[1], <<fed.begun[2][1], fed.count>>>>
Fed(dec, c) ==
  IF dec = <<>>
  THEN <<[begun |-> c, count |-> 1, ended |-> LastOf(c), even |-> TRUE,
          forged |-> c = Forged]>>
  ELSE <<[dec[1] EXCEPT !.count = @ + 1, !.ended = LastOf(c),
                        !.even = @ /\ InStep(dec[1], c),
                        !.forged = @ \/ c = Forged]>>
InnerEnd(name) == /\ decoder # <<>>
                  /\ decoder[1].begun # Forged
                  /\ decoder[1].ended /\ ~decoder[1].forged
                  /\ decoder[1].begun[2][1] = name
Exact(name) == /\ InnerEnd(name) /\ decoder[1].even
               /\ decoder[1].begun = This(<<name, 0>>)
               /\ decoder[1].count = ChunksOf(name)

Release ==
  /\ Ready({"release"})
  /\ LET c == st[2]
         at == st[3]
         f == at[1] + 1
         fresh == IF fates[f] = <<"writing">> THEN decoder ELSE <<>>
         readable == (c.headerless /\ at = <<0, 0>>) => c.digest = Made
         takes == /\ readable /\ chunk # <<>>
                  /\ Takes(fresh, chunk[1].content)
         held == chunk # <<>>
     IN /\ wrong' = IF held /\ ~chunk[1].verified THEN wrong \cup {"early"}
                    ELSE wrong
        /\ chunk' = IF held /\ chunk[1].verified THEN <<>> ELSE chunk
        /\ fates' = IF held THEN [fates EXCEPT ![f] = <<"writing">>] ELSE fates
        /\ decoder' = IF takes THEN Fed(fresh, chunk[1].content)
                      ELSE IF held THEN fresh ELSE decoder
        /\ st' = IF takes THEN <<"data", [c EXCEPT !.at = at]>>
                 ELSE Lose(c, at, <<"decoder">>, <<"member">>)
  /\ UNCHANGED <<gate, accepted, place, edits, faults, numbers, header>>

(* The file that is open.                                                  *)
Open == st[2].at[1] + 1
Finish ==
  /\ Ready({"finish"})
  /\ LET c == st[2]
         name == numbers[Open]
         checked == Binding # "checksum" \/ (decoder # <<>>
                                             /\ decoder[1].even)
         well == InnerEnd(name) /\ checked
     IN /\ fates' = IF well THEN [fates EXCEPT ![Open] =
                                    <<"ready", TRUE, Exact(name)>>]
                    ELSE fates
        /\ decoder' = IF well THEN <<>> ELSE decoder
        /\ st' = IF well THEN Whole(c, st[3])
                 ELSE Lose(c, c.at, <<"decoder">>, st[3])
  /\ UNCHANGED <<gate, accepted, place, edits, faults, numbers, chunk, header,
                 wrong>>

(* File f gets its name: what became of the files, and what went wrong.    *)
Named(f) == [fates EXCEPT ![f] = <<"published">>]
Judged(f) ==
  LET is == fates[f]
      torn  == IF is[1] = "ready" /\ is[2] THEN {} ELSE {"torn"}
      other == IF is[1] = "ready" /\ is[3] THEN {}
               ELSE IF numbers[f] = 0 THEN {"index"} ELSE {"other"}
  IN wrong \cup torn \cup other

Publish ==
  /\ Ready({"publish"})
  /\ fates' = Named(Open) /\ wrong' = Judged(Open)
  /\ st' = GoOn(st[2], st[3])
  /\ UNCHANGED <<gate, accepted, place, edits, faults, numbers, chunk, header,
                 decoder>>

Count ==
  /\ Ready({"count"})
  /\ LET complete == {f \in 1..3 : fates[f][1] \in {"ready", "published"}}
     IN st' = IF Cardinality(complete) + st[2].lost < Files + 1
              THEN Fail(<<"missing">>)
              ELSE IF Hold THEN <<"bind", st[2]>> ELSE Close(st[2])
  /\ UNCHANGED <<gate, accepted, place, edits, faults, numbers, chunk, header,
                 decoder, fates, wrong>>

(* The manifest fits an archive that nobody changed.                       *)
Bind ==
  /\ Ready({"bind"})
  /\ st' = IF edits = Edits THEN Close(st[2]) ELSE Fail(<<"binding">>)
  /\ UNCHANGED <<gate, accepted, place, edits, faults, numbers, chunk, header,
                 decoder, fates, wrong>>

Decide ==
  /\ Ready({"decide"})
  /\ gate' = "decided"
  /\ st' = IF st[3] > 0 /\ st[2][1] # "failed"
           THEN <<"rename", st[2], 0, st[3]>> ELSE <<"stop", st[2]>>
  /\ UNCHANGED <<accepted, place, edits, faults, numbers, chunk, header,
                 decoder, fates, wrong>>

-----------------------------------------------------------------------------
(* What is done although somebody has canceled: clean-up, and what stands  *)
(* behind the decision.                                                    *)
Drop ==
  /\ st[1] = "drop"
  /\ fates' = [fates EXCEPT ![Open] = <<"lost">>]
  /\ chunk' = <<>> /\ decoder' = <<>>
  /\ st' = GoOn(st[2], st[3])
  /\ UNCHANGED <<gate, accepted, place, edits, faults, numbers, header, wrong>>

Held == {f \in 1..3 : fates[f][1] = "ready"}
Rename ==
  /\ st[1] = "rename"
  /\ LET first == CHOOSE f \in Held : \A g \in Held : f <= g
     IN fates' = Named(first) /\ wrong' = Judged(first)
  /\ st' = IF st[3] + 1 < st[4] THEN <<"rename", st[2], st[3] + 1, st[4]>>
           ELSE <<"stop", st[2]>>
  /\ UNCHANGED <<gate, accepted, place, edits, faults, numbers, chunk, header,
                 decoder>>

Temporary(fate) == fate[1] \in {"writing", "ready"}
Stop ==
  /\ st[1] = "stop"
  /\ fates' = [f \in 1..3 |-> IF Temporary(fates[f]) /\ ~Verify
                              THEN <<"absent">> ELSE fates[f]]
  /\ chunk' = <<>> /\ decoder' = <<>>
  /\ st' = <<"over", st[2]>>
  /\ UNCHANGED <<gate, accepted, place, edits, faults, numbers, header, wrong>>

-----------------------------------------------------------------------------
(* A call fails, or a limit is passed.  The gate always answers, and what  *)
(* cannot be removed is named in a report.                                 *)
Fault ==
  /\ faults > 0
  /\ \/ Ready({"first", "firstmac", "guess", "parse", "data", "mac", "verify",
               "release", "finish", "publish", "count", "bind"})
     \/ st[1] \in {"drop", "rename"}
  /\ faults' = faults - 1
  /\ st' = CASE st[1] = "release" ->
                  Lose(st[2], st[3], <<"call">>, <<"member">>)
             [] st[1] = "finish" -> Lose(st[2], st[2].at, <<"call">>, st[3])
             [] st[1] = "drop" -> GoOn(st[2], st[3])
             [] st[1] = "rename" -> <<"stop", <<"failed", <<"call">>>>>>
             [] OTHER -> Fail(<<"call">>)
  /\ UNCHANGED <<gate, accepted, place, edits, numbers, chunk, header,
                 decoder, fates, wrong>>

Cancel ==
  /\ MayCancel /\ gate = "open"
  /\ gate' = "flagged" /\ accepted' = TRUE
  /\ UNCHANGED <<st, place, edits, faults, numbers, chunk, header, decoder,
                 fates, wrong>>

(* The next call is answered by the gate, with what had been seen to fail. *)
Canceled ==
  /\ gate = "flagged"
  /\ st[1] \notin {"drop", "rename", "stop", "over"}
  /\ st' = <<"stop", <<"canceled",
               IF st[1] = "decide" /\ st[2][1] = "failed" THEN st[2][2]
               ELSE <<>>>>>>
  /\ UNCHANGED <<gate, accepted, place, edits, faults, numbers, chunk, header,
                 decoder, fates, wrong>>

Read == \/ Member \/ Jump \/ Name \/ Content \/ Guess \/ Parse \/ VerifyMac
        \/ Release \/ Finish \/ Publish \/ Count \/ Bind \/ Decide
        \/ Drop \/ Rename \/ Stop \/ Canceled
Next == Read \/ Fault \/ Cancel
Spec == Init /\ [][Next]_vars
FairSpec == Spec /\ WF_vars(Read)

-----------------------------------------------------------------------------
(* Properties: spec/phases.md.                                             *)
Over == st[1] = "over"
Ended(how) == Over /\ st[2][1] = how
Complete == {f \in 1..3 : fates[f][1] \in {"ready", "published"}}
R1NothingEarly == "early" \notin wrong
R2Whole == "torn" \notin wrong
R3Exact == "other" \notin wrong
R3Index == "index" \notin wrong
R4Everything ==
  /\ Ended("done") => Cardinality(Complete) = Files + 1
  /\ Ended("omitted") =>
       /\ st[2][2] # <<>> \/ st[2][3] > 0
       /\ Cardinality(Complete) + st[2][3] = Files + 1
R5Canceled ==
  Over => /\ Ended("canceled") = accepted
          /\ (accepted /\ Hold) => \A f \in 1..3 : fates[f] # <<"published">>
R6NothingLeft == (Over /\ ~Verify) => \A f \in 1..3 : ~Temporary(fates[f])
R7Honest ==
  (Over /\ Edits = 0 /\ Faults = 0 /\ ~MayCancel) =>
    st[2] = IF Headerless THEN <<"omitted", <<Made>>, 0>> ELSE <<"done">>
R8Decoded == (Verify /\ Ended("done")) =>
  Cardinality({f \in 1..3 : fates[f][1] = "ready" /\ fates[f][2]}) = Files + 1
R10Header == Ended("done") => header
LEnds == <>Over
=============================================================================
