//! Which worlds of the phase machines are checked, and what each violates.
//!
//! Lives here: worlds by name, what is right and what was done wrong once,
//! and the verdicts expected. May not live here: the worlds, running them.

use super::again_rows::{
    backup_again_mutants, backup_again_right, restore_again_mutants,
    restore_again_right,
};
use super::ahead::{A1, A2, A3, A4, Pool};
use super::backup_rows::{backup_mutants, backup_right};
use super::cancel::{C1, C2, C3, C4, Cancelation, Mutant, Outcome};
use super::commit_rows::{commit_mutants, commit_right};
use super::members::{M1, M2, M3, Source};
use super::restore::{Binding, Flaw, Reading};
use super::restore_rules::{R1, R2, R3, R3_INDEX, R4, R5, R6, R7, R8, R9, R10};
use super::schedules::{Life, PAIRS, Schedules};
use super::{ENDS, Phase, World};
use crate::fsm::members::{Announces, Members};
use crate::fsm::restore::{Plan, Variant};
use crate::fsm::{ahead, members};

/// Every world, model by model: first what is right, then the mutants.
pub fn all() -> Vec<Phase> {
    let parts = [
        members_right(),
        members_mutants(),
        ahead_right(),
        ahead_mutants(),
        cancel_right(),
        cancel_mutants(),
        backup_right(),
        backup_mutants(),
        backup_again_right(),
        backup_again_mutants(),
        restore_right(),
        restore_unbound(),
        restore_mutants(),
        restore_again_right(),
        restore_again_mutants(),
        verify_right(),
        verify_mutants(),
        commit_right(),
        commit_mutants(),
    ];
    parts.into_iter().flatten().collect()
}

/// A world of the machine as it is.
pub(super) fn right(
    model: &'static str,
    protocol: &'static str,
    world: World,
    about: &'static str,
) -> Phase {
    Phase {
        model,
        protocol,
        world,
        violated: &[],
        mutant: false,
        by_default: true,
        about,
    }
}

/// A world in which something is done wrong.
pub(super) fn mutant(
    model: &'static str,
    protocol: &'static str,
    world: World,
    violated: &'static [&'static str],
    about: &'static str,
) -> Phase {
    Phase {
        violated,
        mutant: true,
        by_default: false,
        ..right(model, protocol, world, about)
    }
}

impl Phase {
    /// Only where its model is named.
    pub(super) fn named(self) -> Self {
        Self { by_default: false, ..self }
    }

    /// History, or what nobody should miss.
    pub(super) fn shown(self) -> Self {
        Self { by_default: true, ..self }
    }
}

const MEMBERS: &str = "members";

fn members_right() -> Vec<Phase> {
    let world = |announces, count| {
        let about = match announces {
            Announces::Before => "names come before the member, as of tar -v",
            Announces::After => "names come behind the last byte, as of qfile",
        };
        let protocol = match announces {
            Announces::Before => "before",
            Announces::After => "after",
        };
        let world = World::Members(Source::new(announces, count));
        right(MEMBERS, protocol, world, about)
    };
    vec![
        world(Announces::Before, 4),
        world(Announces::Before, 6).named(),
        world(Announces::After, 4),
        world(Announces::After, 6).named(),
    ]
}

fn members_mutants() -> Vec<Phase> {
    use members::Variant;
    let taken = |announces, for_| Source {
        machine: Members::new(for_),
        ..Source::new(announces, 4)
    };
    let (before, after) = (Announces::Before, Announces::After);
    let wrong = |announces, variant| {
        let mut source = Source::new(announces, 4);
        source.machine.variant = variant;
        source
    };
    let mutant = |protocol, source, violated, about| {
        mutant(MEMBERS, protocol, World::Members(source), violated, about)
    };
    vec![
        mutant(
            "before-as-after",
            taken(before, after),
            &[M1],
            "a member is read although it is only begun",
        )
        .shown(),
        mutant(
            "after-as-before",
            taken(after, before),
            &[M3, ENDS],
            "the last whole member is judged missing, or both wait",
        )
        .shown(),
        mutant(
            "read-ahead-kept",
            wrong(after, Variant::ReadAheadKept),
            &[M2, M3],
            "a name read ahead is never cleared (before client 7e507cba)",
        )
        .shown(),
        mutant(
            "held-kept",
            wrong(before, Variant::HeldKept),
            &[M2],
            "the name that is held is never replaced",
        ),
        mutant(
            "given-after-death",
            wrong(before, Variant::GivenAfterDeath),
            &[M1, M3],
            "the last member is given although the extractor died",
        ),
        mutant(
            "last-dropped",
            wrong(before, Variant::LastDropped),
            &[M3],
            "the last member is dropped at a clean end",
        ),
        mutant(
            "room-for-two",
            Source { room: 2, ..Source::new(before, 4) },
            &[ENDS],
            "room for a chunk and its mac, not for the next one's name",
        ),
    ]
}

const AHEAD: &str = "ahead";

fn ahead_right() -> Vec<Phase> {
    let world = |slots, chunks| {
        let variant = ahead::Variant::Right;
        let world = World::Ahead(Pool { slots, chunks, variant });
        right(AHEAD, "shipped", world, "verdicts in the archive's order")
    };
    vec![
        world(1, 4).named(),
        world(2, 3).named(),
        world(2, 4),
        world(3, 4),
        world(4, 6),
        world(3, 7).named(),
    ]
}

fn ahead_mutants() -> Vec<Phase> {
    use ahead::Variant;
    let mutant = |protocol, variant, violated, about| {
        let pool = Pool { slots: 2, chunks: 4, variant };
        mutant(AHEAD, protocol, World::Ahead(pool), violated, about)
    };
    vec![
        mutant(
            "as-finished",
            Variant::AsFinished,
            &[A1, A3],
            "verdicts come out as they finish",
        ),
        mutant(
            "bad-first",
            Variant::BadFirst,
            &[A1, A3],
            "the first bad verdict in time comes out first",
        )
        .shown(),
        mutant(
            "source-first",
            Variant::SourceFirst,
            &[A3],
            "a source that fails overtakes the verdicts before it",
        ),
        mutant(
            "no-wait",
            Variant::NoWait,
            &[A4],
            "the end does not wait for hashes that run",
        ),
        mutant(
            "no-bound",
            Variant::NoBound,
            &[A2],
            "chunks are read without regard to room",
        ),
    ]
}

/// The name of the model of [`schedules`].
pub const CANCEL: &str = "cancel";

fn cancel_right() -> Vec<Phase> {
    let world = |cancelers, stubborn| {
        let model = Cancelation { stubborn, ..Cancelation::new(cancelers) };
        let about = if stubborn {
            "children that do not end on TERM"
        } else {
            "two children, one after the other"
        };
        right(CANCEL, "shipped", World::Cancel(model), about)
    };
    vec![world(1, false), world(1, true), world(2, false), world(2, true)]
}

fn cancel_mutants() -> Vec<Phase> {
    let world = |mutant| Cancelation { mutant, ..Cancelation::new(1) };
    let second = |mutant| Cancelation { mutant, ..Cancelation::new(2) };
    let mutant = |protocol, model, violated, about| {
        mutant(CANCEL, protocol, World::Cancel(model), violated, about)
    };
    vec![
        mutant(
            "flag-after-kill",
            world(Mutant::FlagAfterKill),
            &[C1, C3, C4, ENDS],
            "children are killed, then the flag is set (f4194c9d, 2014)",
        )
        .shown(),
        mutant(
            "register-blind",
            world(Mutant::RegisterBlind),
            &[ENDS],
            "look at the flag, start, register without looking (2014)",
        )
        .shown(),
        mutant(
            "second-unregistered",
            world(Mutant::SecondUnregistered),
            &[ENDS],
            "the second child is never registered (2014)",
        )
        .shown(),
        mutant(
            "record-dropped",
            world(Mutant::RecordDropped),
            &[C1, C3],
            "the record is dropped, then asked (0cd8281a, 2014)",
        )
        .shown(),
        mutant(
            "look-then-publish",
            world(Mutant::LookThenPublish),
            &[C1],
            "the flag is looked at before the rename, not at it",
        ),
        mutant(
            "fail-undecided",
            world(Mutant::FailUndecided),
            &[C1],
            "a failure is reported without asking the gate",
        ),
        mutant(
            "flag-only",
            world(Mutant::FlagOnly),
            &[ENDS],
            "a flag that is polled, and no signals",
        ),
        mutant(
            "reap-first",
            world(Mutant::ReapFirst),
            &[C4],
            "a child is reaped before it is forgotten",
        ),
        mutant(
            "signal-later",
            world(Mutant::SignalLater),
            &[C4],
            "signals go by process id after the mutex is released",
        ),
        mutant(
            "signal-later-by-pidfd",
            world(Mutant::SignalLaterByPidfd),
            &[],
            "no error: a pidfd is of one process for ever, ended or not",
        ),
        mutant(
            "refused-left",
            world(Mutant::RefusedLeft),
            &[C2],
            "a child that the gate refused is left running",
        ),
        mutant(
            "second-signals",
            second(Mutant::SecondSignals),
            &[C4],
            "a second cancel signals again, outside the mutex",
        ),
        mutant(
            "term-only",
            Cancelation { stubborn: true, ..world(Mutant::TermOnly) },
            &[ENDS],
            "KILL never follows on TERM",
        ),
    ]
}

/// Models of the gate under loom, and what should come of them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Schedule {
    /// [`CANCEL`].
    pub model: &'static str,
    /// Which configuration of it, or what is done wrong.
    pub protocol: &'static str,
    /// Who takes part, in a few words.
    pub bounds: &'static str,
    /// One after the other, each with the ends that it must reach.
    pub models: Vec<(Schedules, &'static [Outcome])>,
    /// The property that must be violated.
    pub violated: Option<&'static str>,
    /// It is checked without being asked for.
    pub by_default: bool,
    /// What is so in it.
    pub about: &'static str,
}

/// What loom is asked of the gate: its own threads, and a real mutex.
pub fn schedules() -> Vec<Schedule> {
    let [hang, late, good, bad] = PAIRS.map(|(lives, _)| lives);
    let right = |bounds, models, about| Schedule {
        model: CANCEL,
        protocol: "shipped",
        bounds,
        models,
        violated: None,
        by_default: true,
        about,
    };
    let pairs =
        PAIRS.map(|(lives, ends)| (Schedules::new(Mutant::Right, lives), ends));
    let more = [
        ([Life::MayFail, Life::Hangs], 1),
        ([Life::MayFail, Life::EndsWell], 2),
        ([Life::EndsWell, Life::MayFail], 2),
    ];
    let ends: &[Outcome] = &[Outcome::Failed, Outcome::Canceled];
    let more = more.map(|(lives, cancelers)| {
        let base = Schedules::new(Mutant::Right, lives);
        (Schedules { cancelers, preemptions: Some(2), ..base }, ends)
    });
    let wrong = |protocol, mutant, lives, property, about| Schedule {
        protocol,
        violated: Some(property),
        by_default: false,
        ..right(
            "1 canceler",
            vec![(Schedules::new(mutant, lives), ends)],
            about,
        )
    };
    vec![
        right("1 canceler", pairs.into(), "a mutex, and every schedule"),
        right("1 or 2 cancelers", more.into(), "a child may fail any time"),
        wrong(
            "flag-after-kill",
            Mutant::FlagAfterKill,
            hang,
            C3,
            "children are killed, then the flag is set (f4194c9d, 2014)",
        ),
        wrong(
            "record-dropped",
            Mutant::RecordDropped,
            hang,
            C3,
            "the record is dropped, then asked (0cd8281a, 2014)",
        ),
        wrong(
            "look-then-publish",
            Mutant::LookThenPublish,
            good,
            C1,
            "the flag is looked at before the rename, not at it",
        ),
        wrong(
            "fail-undecided",
            Mutant::FailUndecided,
            bad,
            C1,
            "a failure is reported without asking the gate",
        ),
        wrong(
            "reap-first",
            Mutant::ReapFirst,
            late,
            C4,
            "a child is reaped before it is forgotten",
        ),
        wrong(
            "signal-later",
            Mutant::SignalLater,
            late,
            C4,
            "signals go by process id after the mutex is released",
        ),
        wrong(
            "refused-left",
            Mutant::RefusedLeft,
            hang,
            C2,
            "a child that the gate refused is left running",
        ),
    ]
}

const RESTORE: &str = "restore";
const VERIFY: &str = "verify";

pub(super) fn planned(base: Reading, plan: impl FnOnce(&mut Plan)) -> Reading {
    let mut reading = base;
    plan(&mut reading.plan);
    reading
}

pub(super) fn held(base: Reading) -> Reading {
    let binding = Binding::ManifestAtEnd;
    planned(Reading { binding, ..base }, |plan| plan.hold = true)
}

pub(super) fn keeps_going(base: Reading) -> Reading {
    planned(base, |plan| plan.keep_going = true)
}

fn verifies(base: Reading) -> Reading {
    planned(base, |plan| plan.verify = true)
}

/// Made with the last digest that is tried, and without a header.
fn headerless() -> Reading {
    let mut reading = Reading::honest(2, 2);
    reading.archive.headerless = true;
    reading.archive.digest = 2;
    reading
}

fn noting_names(chunks: u8) -> Reading {
    Reading { names: true, ..Reading::attacked(2, chunks, 3) }
}

fn restore_right() -> Vec<Phase> {
    let right = |protocol, reading, about| {
        right(RESTORE, protocol, World::Reading(reading), about)
    };
    let attacked = Reading::attacked;
    let shipped = "chunks bound one by one, or the manifest read first";
    let hold = "the manifest is read last: files are held until then";
    let keeps = "a bad file is left out, and the others are restored";
    vec![
        right("shipped", Reading::honest(2, 2), shipped),
        right("shipped", attacked(2, 2, 3), shipped),
        right("shipped", attacked(2, 3, 2), shipped).named(),
        right("keep-going", keeps_going(attacked(2, 2, 3)), keeps),
        right("keep-going", keeps_going(attacked(2, 3, 3)), keeps).named(),
        right("hold", held(attacked(2, 2, 3)), hold),
        right(
            "hold-keep-going",
            keeps_going(held(attacked(2, 2, 2))),
            "both of these",
        ),
        right("headerless", headerless(), "the digest is found by trying"),
        right(
            "names",
            noting_names(2),
            "names are noted: one archive has one meaning",
        )
        .named(),
    ]
}

/// The machine as it is, and archives that nothing binds to this backup.
fn restore_unbound() -> Vec<Phase> {
    let unbound = |protocol, binding, edits, violated, about| {
        let reading = Reading { binding, ..Reading::attacked(2, 2, edits) };
        let world = World::Reading(reading);
        Phase { violated, ..right(RESTORE, protocol, world, about) }
    };
    let bound_by_file = "a filter's checksum binds the chunks of one file";
    vec![
        unbound(
            "unbound",
            Binding::Nothing,
            1,
            &[R3, R3_INDEX],
            "plain format 3: a chunk of an older backup passes",
        ),
        unbound("checksum", Binding::Checksum, 1, &[R3_INDEX], bound_by_file),
        unbound(
            "checksum",
            Binding::Checksum,
            2,
            &[R3, R3_INDEX],
            bound_by_file,
        ),
        unbound(
            "manifest-late",
            Binding::ManifestAtEnd,
            1,
            &[R3, R3_INDEX],
            "published file by file, a manifest comes too late",
        )
        .named(),
    ]
}

fn restore_mutants() -> Vec<Phase> {
    let base = Reading::attacked(2, 3, 2);
    let honest = Reading::honest(2, 2);
    let manifest = held(Reading::attacked(2, 2, 2));
    let names = noting_names(3);
    let variant = |protocol, base, variant, violated, about| {
        let reading = planned(base, |plan| plan.variant = variant);
        let world = World::Reading(reading);
        mutant(RESTORE, protocol, world, violated, about)
    };
    let flaw = |protocol, base, flaw, violated, about| {
        let world = World::Reading(Reading { flaw, ..base });
        mutant(RESTORE, protocol, world, violated, about)
    };
    vec![
        variant(
            "digest-forgotten",
            headerless(),
            Variant::DigestForgotten,
            &[R7],
            "the digest found by trying is not kept (before dba6798a)",
        )
        .shown(),
        variant(
            "not-counted",
            base,
            Variant::NotCounted,
            &[R4],
            "nothing is counted against qubes.xml (client 02bc30a)",
        )
        .shown(),
        variant(
            "errors-logged",
            keeps_going(base),
            Variant::ErrorsLogged,
            &[R4],
            "errors are logged, then it is done (client 02bc30a)",
        )
        .shown(),
        variant(
            "feeds-early",
            base,
            Variant::FeedsEarly,
            &[R1],
            "the decoder is fed as data comes, the mac compared later",
        ),
        variant(
            "publishes-early",
            base,
            Variant::PublishesEarly,
            &[R2, R3, R3_INDEX, R4],
            "a file is published before it is finished",
        ),
        variant(
            "numbers-unchecked",
            base,
            Variant::NumbersUnchecked,
            &[R3],
            "the numbers of chunks are not checked",
        ),
        variant(
            "last-unfinished",
            honest,
            Variant::LastUnfinished,
            &[R7],
            "the last file is never finished",
        ),
        variant(
            "success-undecided",
            base,
            Variant::SuccessUndecided,
            &[R5],
            "success is reported without asking the gate",
        ),
        variant(
            "failure-undecided",
            base,
            Variant::FailureUndecided,
            &[R5],
            "failure is reported without asking the gate",
        ),
        variant(
            "manifest-ignored",
            manifest,
            Variant::ManifestIgnored,
            &[R3, R3_INDEX],
            "the manifest is ignored",
        ),
        variant(
            "renames-early",
            manifest,
            Variant::RenamesEarly,
            &[R5],
            "held files are renamed before the gate decides",
        ),
        variant(
            "stripped-header-is-done",
            base,
            Variant::StrippedHeaderIsDone,
            &[R10],
            "an archive without its header ends well",
        ),
        variant(
            "files-twice",
            names,
            Variant::FilesTwice,
            &[R9],
            "a file may be opened twice",
        ),
        variant(
            "mac-name-unchecked",
            names,
            Variant::MacNameUnchecked,
            &[R9],
            "the name of a mac is not compared",
        ),
        variant(
            "last-mac-optional",
            base,
            Variant::LastMacOptional,
            &[],
            "survives: the inner end and the count catch what it lets through",
        ),
        variant(
            "lost-forgotten",
            keeps_going(base),
            Variant::LostForgotten,
            &[],
            "survives: the count catches what it lets through",
        ),
        flaw(
            "any-end",
            base,
            Flaw::AnyEnd,
            &[R2, R3],
            "any end of a decoder is taken for the inner end of archive",
        ),
        flaw(
            "leaves-temporary",
            base,
            Flaw::LeavesTemporary,
            &[R6],
            "temporary files are left",
        ),
        flaw(
            "index-anywhere",
            names,
            Flaw::IndexAnywhere,
            &[R9],
            "qubes.xml need not come first",
        ),
    ]
}

fn verify_right() -> Vec<Phase> {
    let right = |protocol, reading, about| {
        let world = World::Reading(verifies(reading));
        right(VERIFY, protocol, world, about)
    };
    let all = "everything that restore does but write";
    let keeps = Reading::attacked(2, 3, 2);
    vec![
        right("shipped", Reading::honest(2, 2), all).named(),
        right("shipped", Reading::attacked(2, 2, 3), all),
        right(
            "keep-going",
            keeps_going(keeps),
            "a bad file is named, and the others are verified",
        ),
        right("hold", held(Reading::attacked(2, 2, 2)), "manifest read last")
            .named(),
    ]
}

fn verify_mutants() -> Vec<Phase> {
    let base = verifies(Reading::attacked(2, 3, 2));
    let macs_only =
        planned(base, |plan| plan.variant = Variant::VerifiesMacsOnly);
    let any_end = Reading { flaw: Flaw::AnyEnd, ..base };
    vec![
        mutant(
            VERIFY,
            "macs-only",
            World::Reading(macs_only),
            &[R4, R8],
            "macs are compared, nothing is decoded (client 02bc30a)",
        )
        .shown(),
        mutant(
            VERIFY,
            "any-end",
            World::Reading(any_end),
            &[R8],
            "any end of a decoder is taken for the inner end of archive",
        ),
    ]
}
