//! Which worlds of `backup` are checked, and what each violates.
//!
//! Lives here: what is right, what was done wrong once, and the verdicts
//! expected. May not live here: the worlds, running them.

use super::backup::{Flaw, Writing};
use super::backup_rules::{B1, B1_CUT, B2, B3, B4, B5, B6, B7, B8};
use super::rows::{mutant, right};
use super::{ENDS, Phase, World};
use crate::fsm::backup::{Target, Variant};

const BACKUP: &str = "backup";

/// The machine as it is.
pub(super) fn backup_right() -> Vec<Phase> {
    let world = |protocol, target, lengths: &[u8], faults, about| {
        let writing = Writing::troubled(target, lengths, faults);
        right(BACKUP, protocol, World::Writing(writing), about)
    };
    let file = "a temporary file, then its name";
    let stream = "a pipe: the last mac is the point of no return";
    let (to_file, to_stream) = (Target::File, Target::Stream);
    vec![
        world("shipped", to_file, &[4, 4], 1, file),
        world("shipped", to_file, &[0, 2, 3], 2, file),
        world("shipped", to_stream, &[4, 4], 1, stream),
        world("shipped", to_stream, &[0, 2, 3], 2, stream),
        world("shipped", to_file, &[4], 1, file).named(),
        world("shipped", to_file, &[7, 0, 8], 2, file).named(),
        world("shipped", to_stream, &[4], 1, stream).named(),
        world("shipped", to_stream, &[7, 0, 8], 2, stream).named(),
    ]
}

/// What was done wrong, or could be.
pub(super) fn backup_mutants() -> Vec<Phase> {
    let base = |target| Writing::troubled(target, &[2, 3], 2);
    let variant = |protocol, target, variant, violated, about| {
        let mut writing = base(target);
        writing.plan.variant = variant;
        let world = World::Writing(writing);
        mutant(BACKUP, protocol, world, violated, about)
    };
    let flaw = |protocol, target, flaw, violated, about| {
        let world = World::Writing(Writing { flaw, ..base(target) });
        mutant(BACKUP, protocol, world, violated, about)
    };
    let (file, stream) = (Target::File, Target::Stream);
    let exit = "nobody looks how the archiver ended (0cd8281a, 2014)";
    let look = "no look ahead: an empty chunk follows a full one (2014)";
    let late = "the archiver's end is awaited after the mac";
    let in_time =
        "no error of a file: it has no name before its children ended well";
    let undecided = "the gate is not asked";
    let lost = "the byte that was looked at is lost";
    let numbers = "numbers of chunks go on from file to file";
    let first = "the mac is written before its chunk";
    let stderr = "stderr is read after the exit (before 2c7fbd88)";
    let thrown = "stderr is thrown away (before 2c7fbd88)";
    let killed = "a child that a cancel killed counts as a failure";
    vec![
        flaw(
            "final-name",
            file,
            Flaw::FinalName,
            &[B1, B1_CUT, B4],
            "it is written under its final name (2014, 1ad5f9b8)",
        )
        .shown(),
        variant(
            "exit-ignored",
            file,
            Variant::ExitIgnored,
            &[B1, B1_CUT, B2, B5, B6],
            exit,
        )
        .shown(),
        variant(
            "exit-ignored",
            stream,
            Variant::ExitIgnored,
            &[B2, B3, B5, B6],
            exit,
        ),
        variant("reaped-late", file, Variant::ReapedLate, &[], in_time),
        variant("reaped-late", stream, Variant::ReapedLate, &[B3], late),
        variant(
            "decides-late",
            stream,
            Variant::DecidesLate,
            &[B2, B3, B4],
            "the gate decides after the last mac",
        ),
        variant("undecided", file, Variant::Undecided, &[B4], undecided),
        variant("undecided", stream, Variant::Undecided, &[B3, B4], undecided),
        variant(
            "decides-published",
            file,
            Variant::DecidesPublished,
            &[B4],
            "a cancel is looked for after the rename (2014)",
        )
        .shown(),
        variant(
            "unsynced",
            file,
            Variant::Unsynced,
            &[B1_CUT, B2],
            "the file is never synced",
        ),
        variant(
            "renamed-first",
            file,
            Variant::RenamedFirst,
            &[B1_CUT],
            "the rename comes before the sync",
        ),
        variant(
            "dir-unsynced",
            file,
            Variant::DirUnsynced,
            &[B2],
            "the directory is never synced",
        ),
        variant(
            "cause-replaced",
            file,
            Variant::CauseReplaced,
            &[B4, B6],
            "an error of the clean-up takes the place of the cause",
        ),
        variant(
            "stop-skipped",
            file,
            Variant::StopSkipped,
            &[B5],
            "children are not ended",
        ),
        variant(
            "remove-skipped",
            file,
            Variant::RemoveSkipped,
            &[B5],
            "the temporary file is not removed",
        ),
        variant(
            "left-unsaid",
            file,
            Variant::LeftUnsaid,
            &[B5],
            "what could not be removed is not said",
        ),
        flaw("no-look-ahead", file, Flaw::NoLookAhead, &[B7], look),
        flaw("no-look-ahead", stream, Flaw::NoLookAhead, &[B7], look).shown(),
        flaw("byte-lost", file, Flaw::ByteLost, &[B1, B1_CUT, B2, B7], lost),
        flaw("byte-lost", stream, Flaw::ByteLost, &[B2, B7], lost),
        flaw(
            "numbers-go-on",
            file,
            Flaw::NumbersGoOn,
            &[B1, B1_CUT, B2, B7],
            numbers,
        ),
        flaw("numbers-go-on", stream, Flaw::NumbersGoOn, &[B2, B7], numbers),
        variant("mac-first", file, Variant::MacFirst, &[B1, B1_CUT, B2], first),
        variant("mac-first", stream, Variant::MacFirst, &[B2], first),
        flaw("stderr-late", file, Flaw::StderrLate, &[ENDS], stderr).shown(),
        flaw("stderr-lost", file, Flaw::StderrLost, &[B8], thrown),
        flaw("killed-fails", file, Flaw::KilledFails, &[B6], killed),
    ]
}
