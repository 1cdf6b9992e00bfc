//! Everything that is done wrong on purpose, and what must find it.
//!
//! Lives here: a row for each named change of protocol, driver, disk or phase,
//! with the properties that must fall and the lengths of their shortest runs.
//! May not live here: the changes ([`trouble::Flaw`](super::trouble::Flaw),
//! `fsm::protocol`, [`phases`](super::phases)).
//!
//! A row that survives says why it is no error. One that is not found, or
//! found by another property, or at another length, means that a check has
//! become blind or a world has changed: look before the row is changed.

use super::explore::{Limits, NO_DEADLOCK, Report, Verdict, explore};
use super::lock::{NO_FAILURE, S1, S1_STALE, S2, S3, S5, S7, S8};
use super::phases::{ENDS, Phase, World, rows as phase_rows};
use super::plan::{LOCK, Means, trouble_row};
use super::report::{HOLDS, Row, UNDECIDED, VIOLATED};
use super::trouble::{Flaw, S4, S5_SWEPT, S6, Troubled};
use super::{Coverage, Kind, Model};
use crate::fsm::protocol::{
    Compare, HISTORY_2013, HISTORY_2014, HISTORY_2016, Keep, LOCK_FILE,
    Protocol, SHIPPED,
};

/// What must fall, and in how many steps; nothing: it survives.
pub type Found = &'static [(&'static str, usize)];

/// Something that is done wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mutant {
    /// Its name in reports.
    pub name: &'static str,
    /// Where it is done wrong.
    pub subject: Subject,
    /// Properties with lengths, shortest first; of a phase the short name of
    /// each. A lasso of the store counts with its cycle.
    pub found: Found,
    /// What is wrong, or why it is not.
    pub about: &'static str,
}

/// The model that has the error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Subject {
    /// The store.
    Store(Troubled),
    /// A phase of backup or restore.
    Phase(Phase),
}

/// Every row: the store's, then those of the phases.
pub fn all() -> Vec<Mutant> {
    let mut rows = of_the_store();
    let phases = phase_rows::all().into_iter().filter(|phase| phase.mutant);
    // A phase without a row here is not found, and so is seen.
    let mut known = PHASES.into_iter();
    rows.extend(phases.map(|phase| {
        let row = known.next();
        let same = row.filter(|(model, name, _)| {
            *model == phase.model && *name == phase.protocol
        });
        Mutant {
            name: phase.protocol,
            subject: Subject::Phase(phase),
            found: same.map_or(UNKNOWN, |(_, _, found)| found),
            about: phase.about,
        }
    }));
    rows
}

/// What a phase gets that has no row: it is never found so.
const UNKNOWN: Found = &[("no row in the table", 0)];

/// The model of a row, as the command line names it.
pub fn model(number: usize) -> &'static str {
    match all().into_iter().nth(number).map(|mutant| mutant.subject) {
        Some(Subject::Phase(phase)) => phase.model,
        Some(Subject::Store(_)) | None => LOCK,
    }
}

/// A row in one line.
pub fn title(number: usize) -> String {
    let mutant = all().into_iter().nth(number);
    mutant.map_or_else(String::new, |mutant| {
        let Row { model, bounds, .. } = mutant.row();
        format!("{model} {} {bounds}", mutant.name)
    })
}

/// Runs one row: is it found as the table says?
pub fn run(number: usize, means: &Means) -> Vec<Row> {
    let mutant = all().into_iter().nth(number);
    mutant.into_iter().map(|mutant| mutant.run(means.limits)).collect()
}

impl Mutant {
    fn row(&self) -> Row {
        let row = match self.subject {
            Subject::Store(model) => trouble_row(&model),
            Subject::Phase(phase) => Row {
                model: phase.model.to_owned(),
                bounds: phase.world.bounds(),
                engine: "explore".to_owned(),
                ..Row::default()
            },
        };
        Row { protocol: self.name.to_owned(), ..row }
    }

    /// Searches for it; the row says what was found. A search that was cut
    /// is undecided.
    pub fn run(&self, limits: Limits) -> Row {
        let Search { found, unreached, row } = self.search(limits);
        // What else falls, and in how many steps, nobody knows then.
        if row.coverage == Coverage::Cut.word() {
            return Row {
                property: "all".to_owned(),
                verdict: UNDECIDED.to_owned(),
                expected: true,
                note: Some(format!("{}: cut by a limit", self.about)),
                brief: true,
                ..row
            };
        }
        let wanted: Vec<(String, usize)> =
            self.found.iter().map(|(n, at)| ((*n).to_owned(), *at)).collect();
        let survives = found.is_empty();
        // Nothing is proved by a world that never came near the error.
        let near = !survives || unreached.is_empty();
        let expected = found == wanted && near;
        let (property, steps) = match found.first() {
            Some((property, steps)) => (property.clone(), Some(*steps)),
            None => ("all".to_owned(), None),
        };
        let about = self.about;
        let note = match (expected, survives) {
            (true, false) => about.to_owned(),
            (true, true) => match REASONS.contains(&first_word(about)) {
                true => about.to_owned(),
                false => format!("survives: {about}"),
            },
            (false, true) if found == wanted => {
                format!("{about}: never reached: {}", unreached.join(", "))
            }
            (false, _) => {
                let wanted = words(&wanted);
                let found = words(&found);
                format!("{about}: found {found}; wanted {wanted}")
            }
        };
        let verdict = if survives { HOLDS } else { VIOLATED }.to_owned();
        let note = Some(note);
        Row { property, steps, verdict, expected, note, brief: true, ..row }
    }

    /// What is violated, the shortest run first.
    pub fn search(&self, limits: Limits) -> Search {
        let base = self.row();
        match self.subject {
            Subject::Store(model) => search(&model, limits, base, true),
            Subject::Phase(phase) => match phase.world {
                World::Members(m) => search(&m, limits, base, false),
                World::Ahead(m) => search(&m, limits, base, false),
                World::Cancel(m) => search(&m, limits, base, false),
                World::Writing(m) => search(&m, limits, base, false),
                World::Reading(m) => search(&m, limits, base, false),
                World::WritingAgain(m) => search(&m, limits, base, false),
                World::ReadingAgain(m) => search(&m, limits, base, false),
                World::Committing(m) => search(&m, limits, base, false),
            },
        }
    }
}

/// What a search of a mutant came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Search {
    /// Violated properties with the lengths of their runs.
    pub found: Vec<(String, usize)>,
    /// Twins that no run came to.
    pub unreached: Vec<&'static str>,
    /// Counts.
    pub row: Row,
}

fn search<M: Model>(
    model: &M,
    limits: Limits,
    base: Row,
    of_the_store: bool,
) -> Search {
    let report: Report<M> = explore(model, limits);
    let (mut found, mut unreached) = (Vec::new(), Vec::new());
    let mut stuck = None;
    for (name, kind, verdict) in &report.verdicts {
        // What is wrong and is found need not come where the twins are.
        if let (Kind::Sometimes, Verdict::Violated(_)) = (kind, verdict) {
            unreached.push(*name);
        }
        let Verdict::Violated(Some(run)) = verdict else { continue };
        let steps = if of_the_store {
            run.prefix.len() + run.cycle.len()
        } else {
            run.prefix.len()
        };
        let short = name.split(' ').next().unwrap_or(name);
        let name = if of_the_store { name } else { short };
        if name == NO_DEADLOCK || short == "no" {
            stuck = Some((NO_DEADLOCK.to_owned(), steps));
        } else {
            found.push((name.to_owned(), steps));
        }
    }
    // Who is stuck does not end either, and that is said already.
    let ends = [ENDS.split(' ').next().unwrap_or(ENDS), S7];
    if !found.iter().any(|(name, _)| ends.contains(&name.as_str())) {
        found.extend(stuck);
    }
    found.sort_by_key(|(_, steps)| *steps);
    let row = Row {
        states: Some(report.states),
        edges: Some(report.edges),
        depth: Some(report.depth),
        seconds: report.elapsed.as_secs_f64(),
        coverage: report.coverage.word().to_owned(),
        ..base
    };
    Search { found, unreached, row }
}

/// How a text begins that says why a row survives.
const REASONS: [&str; 2] = ["no", "survives:"];

fn first_word(text: &str) -> &str {
    text.split(' ').next().unwrap_or(text)
}

fn words(found: &[(String, usize)]) -> String {
    let all: Vec<_> =
        found.iter().map(|(name, at)| format!("{name} in {at}")).collect();
    if all.is_empty() { "nothing".to_owned() } else { all.join(", ") }
}

/// What refuses nothing: only then errors of the lock lose updates.
const LOOSE: Protocol = Protocol { name: "loose", verify: false, ..SHIPPED };

fn of_the_store() -> Vec<Mutant> {
    let row =
        |name, (protocol, bounds, crashes, faults), flaw, found, about| {
            let model =
                Troubled::new(protocol, bounds, crashes, faults).ok()?;
            let subject = Subject::Store(Troubled { flaw, ..model });
            Some(Mutant { name, subject, found, about })
        };
    // Where somebody who does not follow the protocol changes the store.
    let changed = |name, protocol, flaw, found, about| {
        let model = Troubled::new(protocol, (2, 0, 1), 0, 0).ok()?;
        let subject =
            Subject::Store(Troubled { flaw, ..model.changed(1).ok()? });
        Some(Mutant { name, subject, found, about })
    };
    let never = Protocol { compare: Compare::Never, ..LOOSE };
    let before = Protocol { compare: Compare::BeforeLock, ..LOOSE };
    let unlocked = Protocol { keep: Keep::Unlocked, ..LOOSE };
    let unswept = Protocol { sweep: false, ..SHIPPED };
    let two = (2, 0, 1);
    let rows = [
        row(
            "2013",
            (HISTORY_2013, two, 0, 0),
            Flaw::None,
            &[(S2, 12), (S1_STALE, 13), (S1, 18)],
            "nothing is compared after the lock (before 247cff33)",
        ),
        row(
            "2016",
            (HISTORY_2016, two, 0, 0),
            Flaw::None,
            &[(S2, 13), (S1_STALE, 16), (S1, 20)],
            "compared before the lock, new descriptor not locked (0141e1ac)",
        ),
        row(
            "no-compare",
            (never, (2, 1, 1), 0, 0),
            Flaw::None,
            &[(S2, 13), (S1_STALE, 14), (S1, 20)],
            "nothing is compared after the lock",
        ),
        row(
            "compare-before-lock",
            (before, two, 0, 0),
            Flaw::None,
            &[(S2, 17), (S1_STALE, 18), (S1, 24)],
            "name and descriptor are compared before the wait",
        ),
        row(
            "load-before-lock",
            (before, two, 0, 0),
            Flaw::LoadedEarly,
            &[(S2, 17), (S1_STALE, 18), (S1, 24)],
            "what was loaded and compared before the wait is what is saved",
        ),
        row(
            "new-file-unlocked",
            (unlocked, (2, 0, 2), 0, 0),
            Flaw::None,
            &[(S2, 14), (S1_STALE, 20), (NO_FAILURE, 26), (S1, 28)],
            "the new descriptor is kept, but not locked; two saves",
        ),
        row(
            "refuses-only",
            (Protocol { verify: true, ..never }, two, 0, 0),
            Flaw::None,
            &[(S2, 15), (S1_STALE, 16), (NO_FAILURE, 26)],
            "nothing is compared after the lock, but a save refuses",
        ),
        row(
            "same-inode",
            (LOOSE, (3, 0, 1), 0, 0),
            Flaw::SameInode,
            &[(S1_STALE, 33), (S1, 39)],
            "unchanged if a closed inode's number is the same: it is reused",
        ),
        row(
            "same-time",
            (LOOSE, two, 0, 0),
            Flaw::SameTime,
            &[(S1_STALE, 19), (S1, 25)],
            "unchanged if the time is the same: two saves within one tick",
        ),
        row(
            "whole-stat",
            (LOOSE, (1, 0, 1), 0, 0),
            Flaw::WholeStat,
            &[(S7, 7)],
            "the time of access is compared too, and somebody reads for ever",
        ),
        row(
            "unlock-before-rename",
            (HISTORY_2014, two, 0, 0),
            Flaw::UnlockedEarly,
            &[(S2, 14), (S1_STALE, 16), (S1, 23)],
            "the lock is given up before the rename",
        ),
        row(
            "file-not-synced",
            (SHIPPED, two, 1, 0),
            Flaw::FileNotSynced,
            &[(S4, 14)],
            "no fsync of the new file",
        ),
        row(
            "directory-not-synced",
            (SHIPPED, two, 1, 0),
            Flaw::DirectoryNotSynced,
            &[(S4, 15)],
            "no fsync of the directory",
        ),
        row(
            "fixed-name",
            (unswept, two, 1, 0),
            Flaw::FixedExclusive,
            &[(S7, 13)],
            "one temporary name, O_EXCL, tried again: all wait for a leftover",
        ),
        row(
            "fixed-name-swept",
            (SHIPPED, two, 1, 0),
            Flaw::FixedExclusive,
            &[],
            "no error: who holds the lock sweeps before it creates",
        ),
        row(
            "fixed-name-truncated",
            (unswept, two, 1, 0),
            Flaw::FixedTruncated,
            &[],
            "no error: under the lock no living process has a temporary file",
        ),
        row(
            "in-place",
            (HISTORY_2014, two, 1, 0),
            Flaw::InPlace,
            &[(S3, 6), (S1_STALE, 7), (S4, 7)],
            "the store is written in place",
        ),
        row(
            "not-swept",
            (SHIPPED, two, 1, 0),
            Flaw::NotSwept,
            &[(S5_SWEPT, 15)],
            "leftovers are never removed",
        ),
        row(
            "swept-before-lock",
            (SHIPPED, two, 0, 0),
            Flaw::SweptEarly,
            &[(NO_FAILURE, 17)],
            "swept without the lock: what a living process made is removed",
        ),
        row(
            "temporary-left",
            (SHIPPED, two, 0, 1),
            Flaw::TempLeft,
            &[(S5, 11)],
            "the temporary file of a save that failed stays",
        ),
        row(
            "write-unchecked",
            (SHIPPED, two, 0, 1),
            Flaw::WriteUnchecked,
            &[(S1_STALE, 13), (S3, 13), (S6, 13), (S1, 14)],
            "a failed write is not noticed",
        ),
        row(
            "sync-unchecked",
            (SHIPPED, two, 1, 1),
            Flaw::SyncUnchecked,
            &[(S6, 13), (S4, 14)],
            "a failed fsync of the file is not noticed",
        ),
        row(
            "directory-unchecked",
            (SHIPPED, two, 1, 1),
            Flaw::DirectoryUnchecked,
            &[(S4, 15), (S6, 16)],
            "a failed fsync of the directory is not noticed",
        ),
        row(
            "rename-unchecked",
            (SHIPPED, two, 0, 1),
            Flaw::RenameUnchecked,
            &[(S2, 13), (S1, 14), (S5, 16), (S6, 16), (S1_STALE, 28)],
            "a failed rename is not noticed",
        ),
        row(
            "last-cause",
            (SHIPPED, (1, 0, 1), 0, 2),
            Flaw::LastCause,
            &[(S6, 11)],
            "a failure of the clean-up takes the place of the first",
        ),
        row(
            "renamed-anyway",
            (SHIPPED, two, 0, 1),
            Flaw::RenamedAnyway,
            &[(S2, 9), (S3, 9), (S6, 9), (S1, 25)],
            "what a failed save leaves is renamed, and the failure reported",
        ),
        row(
            "unlocked-by-failure",
            (SHIPPED, two, 0, 1),
            Flaw::UnlockedFailed,
            &[(S6, 9), (S2, 13)],
            "the lock is given up when a save fails, not at the release",
        ),
        row(
            "posix-threads",
            (LOOSE, two, 0, 0),
            Flaw::PosixThreads,
            &[(S2, 8), (S1_STALE, 16), (NO_FAILURE, 20), (S1, 23)],
            "POSIX locks, between two threads of one process",
        ),
        row(
            "posix-closed",
            (LOOSE, two, 0, 0),
            Flaw::PosixClosed,
            &[(S2, 9), (S1_STALE, 17), (NO_FAILURE, 21), (S1, 24)],
            "POSIX locks, and another thread opens and closes the store",
        ),
        row(
            "flock",
            (LOOSE, two, 0, 0),
            Flaw::Flock,
            &[(S2, 8), (S1_STALE, 16), (NO_FAILURE, 20), (S1, 23)],
            "one takes an flock, the other a record lock",
        ),
        row(
            "sync-misworded",
            (SHIPPED, two, 1, 1),
            Flaw::SyncMisworded,
            &[(S7, 9)],
            "a sync is answered as a write is: the machine refuses it",
        ),
        row(
            "lock-file-unlinked",
            (LOCK_FILE, (3, 0, 1), 0, 0),
            Flaw::LockFileUnlinked,
            &[(S2, 15), (S1_STALE, 28), (NO_FAILURE, 32), (S1, 36)],
            "the lock file is unlinked when the lock is given back",
        ),
        row(
            "lock-file-not-synced",
            (LOCK_FILE, two, 1, 0),
            Flaw::FileNotSynced,
            &[(S4, 12)],
            "no fsync of the new file, where the lock is on another",
        ),
        changed(
            "not-verified",
            LOOSE,
            Flaw::None,
            &[(S8, 12), (S2, 16), (S1_STALE, 17), (S1, 24)],
            "a save refuses nothing: what others wrote is overwritten",
        ),
        changed(
            "content-unchecked",
            SHIPPED,
            Flaw::ContentUnchecked,
            &[(S8, 14)],
            "only the file is compared: who wrote in place within a tick loses",
        ),
        changed(
            "stat-unchecked",
            SHIPPED,
            Flaw::StatUnchecked,
            &[(S8, 14), (S2, 18), (S1_STALE, 19), (S1, 28)],
            "only the locked file's content is compared: who renamed loses",
        ),
        changed(
            "stat-first",
            SHIPPED,
            Flaw::StatFirst,
            &[(S8, 14), (S2, 18), (S1_STALE, 19), (S1, 28), (NO_FAILURE, 28)],
            "the name is looked at before the content: who renames between",
        ),
    ];
    rows.into_iter().flatten().collect()
}

/// The mutants of the phases, in the order of [`phase_rows::all`].
const PHASES: [(&str, &str, Found); 113] = [
    ("members", "before-as-after", &[("M1", 3)]),
    ("members", "after-as-before", &[("M3", 5), ("L", 7)]),
    ("members", "read-ahead-kept", &[("M2", 19), ("M3", 19)]),
    ("members", "held-kept", &[("M2", 10)]),
    ("members", "given-after-death", &[("M1", 5), ("M3", 5)]),
    ("members", "last-dropped", &[("M3", 17)]),
    ("members", "room-for-two", &[("L", 7)]),
    ("ahead", "as-finished", &[("A1", 4), ("A3", 4)]),
    ("ahead", "bad-first", &[("A1", 4), ("A3", 4)]),
    ("ahead", "source-first", &[("A3", 3)]),
    ("ahead", "no-wait", &[("A4", 4)]),
    ("ahead", "no-bound", &[("A2", 3)]),
    (
        "cancel",
        "flag-after-kill",
        &[("L", 6), ("C4", 9), ("C3", 11), ("C1", 12)],
    ),
    ("cancel", "register-blind", &[("L", 4)]),
    ("cancel", "second-unregistered", &[("L", 11)]),
    ("cancel", "record-dropped", &[("C1", 10), ("C3", 10)]),
    ("cancel", "look-then-publish", &[("C1", 18)]),
    ("cancel", "fail-undecided", &[("C1", 10)]),
    ("cancel", "flag-only", &[("L", 4)]),
    ("cancel", "reap-first", &[("C4", 7)]),
    ("cancel", "signal-later", &[("C4", 9)]),
    ("cancel", "signal-later-by-pidfd", &[]),
    ("cancel", "refused-left", &[("C2", 6)]),
    ("cancel", "second-signals", &[("C4", 10)]),
    ("cancel", "term-only", &[("L", 4)]),
    ("backup", "final-name", &[("B1", 1), ("B1c", 2), ("B4", 5)]),
    (
        "backup",
        "exit-ignored",
        &[("B6", 11), ("B1", 16), ("B1c", 17), ("B2", 17), ("B5", 17)],
    ),
    (
        "backup",
        "exit-ignored",
        &[("B6", 10), ("B2", 15), ("B5", 15), ("B3", 17)],
    ),
    ("backup", "reaped-late", &[]),
    ("backup", "reaped-late", &[("B3", 16)]),
    ("backup", "decides-late", &[("B3", 16), ("B2", 17), ("B4", 19)]),
    ("backup", "undecided", &[("B4", 20)]),
    ("backup", "undecided", &[("B3", 16), ("B4", 19)]),
    ("backup", "decides-published", &[("B4", 21)]),
    ("backup", "unsynced", &[("B1c", 19), ("B2", 19)]),
    ("backup", "renamed-first", &[("B1c", 19)]),
    ("backup", "dir-unsynced", &[("B2", 19)]),
    ("backup", "cause-replaced", &[("B4", 4), ("B6", 4)]),
    ("backup", "stop-skipped", &[("B5", 7)]),
    ("backup", "remove-skipped", &[("B5", 4)]),
    ("backup", "left-unsaid", &[("B5", 5)]),
    ("backup", "no-look-ahead", &[("B7", 9)]),
    ("backup", "no-look-ahead", &[("B7", 9)]),
    ("backup", "byte-lost", &[("B7", 14), ("B1", 19), ("B1c", 20), ("B2", 20)]),
    ("backup", "byte-lost", &[("B7", 14), ("B2", 18)]),
    (
        "backup",
        "numbers-go-on",
        &[("B7", 11), ("B1", 19), ("B1c", 20), ("B2", 20)],
    ),
    ("backup", "numbers-go-on", &[("B7", 11), ("B2", 18)]),
    ("backup", "mac-first", &[("B1", 19), ("B1c", 20), ("B2", 20)]),
    ("backup", "mac-first", &[("B2", 18)]),
    ("backup", "stderr-late", &[("L", 4)]),
    ("backup", "stderr-lost", &[("B8", 10)]),
    ("backup", "killed-fails", &[("B6", 9)]),
    ("backup", "final-name", &[("B1", 3), ("B1c", 4)]),
    ("backup", "renamed-first", &[("B1c", 15)]),
    ("backup", "dir-unsynced", &[("B2", 16)]),
    ("backup", "fixed-name", &[("B9", 7), ("B10", 7)]),
    ("backup", "not-swept", &[("B10", 7)]),
    ("backup", "sweeps-held", &[("B11", 5)]),
    ("backup", "not-looked-again", &[("B11", 5)]),
    ("restore", "digest-forgotten", &[("R7", 8)]),
    ("restore", "not-counted", &[("R4", 9)]),
    ("restore", "errors-logged", &[("R4", 23)]),
    ("restore", "feeds-early", &[("R1", 6)]),
    (
        "restore",
        "publishes-early",
        &[("R2", 6), ("R3x", 6), ("R3", 12), ("R4", 38)],
    ),
    ("restore", "numbers-unchecked", &[("R3", 17)]),
    ("restore", "last-unfinished", &[("R7", 32)]),
    ("restore", "success-undecided", &[("R5", 38)]),
    ("restore", "failure-undecided", &[("R5", 3)]),
    ("restore", "manifest-ignored", &[("R3", 28), ("R3x", 31)]),
    ("restore", "renames-early", &[("R5", 33)]),
    ("restore", "stripped-header-is-done", &[("R10", 38)]),
    ("restore", "files-twice", &[("R9", 48)]),
    ("restore", "mac-name-unchecked", &[("R9", 42)]),
    ("restore", "last-mac-optional", &[]),
    ("restore", "lost-forgotten", &[]),
    ("restore", "any-end", &[("R2", 13), ("R3", 13)]),
    ("restore", "leaves-temporary", &[("R6", 7)]),
    ("restore", "index-anywhere", &[("R9", 42)]),
    ("restore", "in-place", &[("R2", 13), ("R11", 51)]),
    ("restore", "renamed-first", &[("R2", 18), ("R11", 57)]),
    ("restore", "unsynced", &[("R2", 18), ("R11", 39)]),
    ("restore", "names-unsynced", &[("R11", 39)]),
    ("restore", "target-unsynced", &[("R11", 39)]),
    ("restore", "fixed-name", &[("R12", 9)]),
    ("restore", "not-swept", &[("R13", 10)]),
    ("restore", "sweeps-held", &[("R14", 6)]),
    ("restore", "not-looked-again", &[("R14", 6)]),
    ("restore", "replaces", &[("R14", 26)]),
    ("verify", "macs-only", &[("R4", 7), ("R8", 10)]),
    ("verify", "any-end", &[("R8", 23)]),
    ("commit", "entry-first", &[("K1", 9), ("K4", 12)]),
    ("commit", "saved-first", &[("K1", 12), ("K4", 18)]),
    (
        "commit",
        "one-per-qube",
        &[("K2", 15), ("K1", 17), ("K4", 17), ("K6", 27)],
    ),
    (
        "commit",
        "cancel-saves",
        &[("K2", 14), ("K1", 15), ("K4", 16), ("K6", 26)],
    ),
    ("commit", "unnoted", &[("K5", 13), ("K6", 23)]),
    ("commit", "forgets-early", &[("K4", 16), ("K5", 17), ("K6", 27)]),
    ("commit", "forgets-owed", &[("K5", 17), ("K6", 28)]),
    ("commit", "not-undone", &[("K5", 16), ("K6", 27)]),
    ("commit", "undecided", &[("K4", 17)]),
    ("commit", "swept-unlocked", &[("K1", 15), ("K5", 17), ("K6", 25)]),
    ("commit", "files-unsynced", &[("K1", 15)]),
    ("commit", "dirs-unsynced", &[("K1", 15)]),
    ("commit", "unlocked-early", &[("K5", 17), ("K1", 18)]),
    ("commit", "checked-early", &[("K3", 18)]),
    ("commit", "unchecked", &[("K3", 17), ("K1", 27)]),
    ("commit", "loaded-early", &[("K3", 18)]),
    ("commit", "judged-unsure", &[("K5", 23), ("K6", 34)]),
    ("commit", "lock-file", &[("L", 2)]),
    ("commit", "stage-kept", &[("K1", 22)]),
    ("commit", "live-stages", &[("K3", 9)]),
    ("commit", "every-folder", &[("K3", 3)]),
    ("commit", "undone-by-name", &[("K3", 14)]),
    ("commit", "replaces", &[("K3", 12)]),
];
