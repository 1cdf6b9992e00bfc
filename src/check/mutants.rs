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
use super::lock::{NO_FAILURE, S1, S1_STALE, S2, S3, S5, S7};
use super::phases::{ENDS, Phase, World, rows as phase_rows};
use super::plan::{LOCK, Means, trouble_row};
use super::report::{HOLDS, Row, VIOLATED};
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
    /// Properties with lengths, in the order of the model; of a phase the
    /// short name of each. A lasso of the store counts with its cycle.
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

    /// Searches for it; the row says what was found.
    pub fn run(&self, limits: Limits) -> Row {
        let Search { found, row } = self.search(limits);
        let wanted: Vec<(String, usize)> =
            self.found.iter().map(|(n, at)| ((*n).to_owned(), *at)).collect();
        let expected = found == wanted;
        let (property, steps) = match found.first() {
            Some((property, steps)) => (property.clone(), Some(*steps)),
            None => ("all".to_owned(), None),
        };
        let survives = found.is_empty();
        let about = self.about;
        let note = match (expected, survives) {
            (true, false) => None,
            (true, true) => Some(format!("no error: {about}")),
            (false, _) => {
                let wanted = words(&wanted);
                let found = words(&found);
                Some(format!("{about}: found {found}; wanted {wanted}"))
            }
        };
        let verdict = if survives { HOLDS } else { VIOLATED }.to_owned();
        Row { property, steps, verdict, expected, note, ..row }
    }

    /// What is violated, in the order of the model.
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
            },
        }
    }
}

/// What a search of a mutant came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Search {
    /// Violated properties with the lengths of their runs.
    pub found: Vec<(String, usize)>,
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
    let mut found = Vec::new();
    let mut stuck = None;
    for (name, kind, verdict) in &report.verdicts {
        // What is wrong need not come where the twins are.
        let Verdict::Violated(Some(run)) = verdict else { continue };
        if *kind == Kind::Sometimes {
            continue;
        }
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
    if report.coverage == Coverage::Cut {
        found.push(("cut by a limit".to_owned(), report.states));
    }
    let row = Row {
        states: Some(report.states),
        edges: Some(report.edges),
        depth: Some(report.depth),
        seconds: report.elapsed.as_secs_f64(),
        coverage: report.coverage.word().to_owned(),
        ..base
    };
    Search { found, row }
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
            &[],
            "nothing is compared after the lock (before 247cff33)",
        ),
        row(
            "2016",
            (HISTORY_2016, two, 0, 0),
            Flaw::None,
            &[],
            "compared before the lock, new descriptor not locked (0141e1ac)",
        ),
        row(
            "no-compare",
            (never, (2, 1, 1), 0, 0),
            Flaw::None,
            &[],
            "nothing is compared after the lock",
        ),
        row(
            "compare-before-lock",
            (before, two, 0, 0),
            Flaw::None,
            &[],
            "name and descriptor are compared before the wait",
        ),
        row(
            "load-before-lock",
            (before, two, 0, 0),
            Flaw::LoadedEarly,
            &[],
            "what was loaded and compared before the wait is what is saved",
        ),
        row(
            "new-file-unlocked",
            (unlocked, (2, 0, 2), 0, 0),
            Flaw::None,
            &[],
            "the new descriptor is kept, but not locked; two saves",
        ),
        row(
            "refuses-only",
            (Protocol { verify: true, ..never }, two, 0, 0),
            Flaw::None,
            &[],
            "nothing is compared after the lock, but a save refuses",
        ),
        row(
            "same-inode",
            (LOOSE, (3, 0, 1), 0, 0),
            Flaw::SameInode,
            &[],
            "unchanged if the number of a closed inode is the same: numbers are reused",
        ),
        row(
            "same-time",
            (LOOSE, two, 0, 0),
            Flaw::SameTime,
            &[],
            "unchanged if the time of modification is the same: within one tick",
        ),
        row(
            "whole-stat",
            (LOOSE, (1, 0, 1), 0, 0),
            Flaw::WholeStat,
            &[],
            "the time of access is compared too, and somebody reads for ever",
        ),
        row(
            "unlock-before-rename",
            (HISTORY_2014, two, 0, 0),
            Flaw::UnlockedEarly,
            &[],
            "the lock is given up before the rename",
        ),
        row(
            "file-not-synced",
            (SHIPPED, two, 1, 0),
            Flaw::FileNotSynced,
            &[],
            "no fsync of the new file",
        ),
        row(
            "directory-not-synced",
            (SHIPPED, two, 1, 0),
            Flaw::DirectoryNotSynced,
            &[],
            "no fsync of the directory",
        ),
        row(
            "fixed-name",
            (unswept, two, 1, 0),
            Flaw::FixedExclusive,
            &[],
            "one temporary name, O_EXCL, tried again: a leftover stops everyone",
        ),
        row(
            "fixed-name-swept",
            (SHIPPED, two, 1, 0),
            Flaw::FixedExclusive,
            &[],
            "one temporary name, O_EXCL: who holds the lock has swept it before",
        ),
        row(
            "fixed-name-truncated",
            (unswept, two, 1, 0),
            Flaw::FixedTruncated,
            &[],
            "one temporary name, truncated under the lock: no living process has one",
        ),
        row(
            "in-place",
            (HISTORY_2014, two, 1, 0),
            Flaw::InPlace,
            &[],
            "the store is written in place",
        ),
        row(
            "not-swept",
            (SHIPPED, two, 1, 0),
            Flaw::NotSwept,
            &[],
            "leftovers are never removed",
        ),
        row(
            "swept-before-lock",
            (SHIPPED, two, 0, 0),
            Flaw::SweptEarly,
            &[],
            "the sweep does not wait for the lock: it removes what a living process made",
        ),
        row(
            "temporary-left",
            (SHIPPED, two, 0, 1),
            Flaw::TempLeft,
            &[],
            "the temporary file of a save that failed stays",
        ),
        row(
            "write-unchecked",
            (SHIPPED, two, 0, 1),
            Flaw::WriteUnchecked,
            &[],
            "a failed write is not noticed",
        ),
        row(
            "sync-unchecked",
            (SHIPPED, two, 1, 1),
            Flaw::SyncUnchecked,
            &[],
            "a failed fsync of the file is not noticed",
        ),
        row(
            "directory-unchecked",
            (SHIPPED, two, 1, 1),
            Flaw::DirectoryUnchecked,
            &[],
            "a failed fsync of the directory is not noticed",
        ),
        row(
            "rename-unchecked",
            (SHIPPED, two, 0, 1),
            Flaw::RenameUnchecked,
            &[],
            "a failed rename is not noticed",
        ),
        row(
            "posix-threads",
            (LOOSE, two, 0, 0),
            Flaw::PosixThreads,
            &[],
            "POSIX locks, between two threads of one process",
        ),
        row(
            "posix-closed",
            (LOOSE, two, 0, 0),
            Flaw::PosixClosed,
            &[],
            "POSIX locks, and another thread opens and closes the store",
        ),
        row(
            "flock",
            (LOOSE, two, 0, 0),
            Flaw::Flock,
            &[],
            "one takes an flock, the other a record lock",
        ),
        row(
            "lock-file-unlinked",
            (LOCK_FILE, two, 0, 0),
            Flaw::LockFileUnlinked,
            &[],
            "the lock file is unlinked when the lock is given back",
        ),
        row(
            "lock-file-not-synced",
            (LOCK_FILE, two, 1, 0),
            Flaw::FileNotSynced,
            &[],
            "no fsync of the new file, where the lock is on another",
        ),
    ];
    rows.into_iter().flatten().collect()
}

/// The mutants of the phases, in the order of [`phase_rows::all`].
const PHASES: [(&str, &str, Found); 0] = [];
