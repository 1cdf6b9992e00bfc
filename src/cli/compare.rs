//! `qubes-fsm check MODEL --compare-tla FILE`: the graph of one model beside
//! the one that TLC wrote.
//!
//! Lives here: which model is meant, the answer, the exit code. May not live
//! here: reading the file and the walk (`check::compare`).

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use super::exit::{self, Failure};
use crate::check::compare::dump::{Dump, DumpError};
use crate::check::compare::{Compared, Specified, compare};
use crate::check::explore::Limits;
use crate::check::lock::Sessions;
use crate::check::phases::{Phase, World};
use crate::check::plan::Task;
use crate::check::trouble::Troubled;

/// The models that have one.
pub(super) const SPECIFIED: &str =
    "lock, members, ahead, cancel, backup, restore, verify or commit";

/// One model, and its specification.
pub(super) enum Wanted {
    /// The store, `spec/Lock.tla`.
    Store(Sessions),
    /// The same with crashes and faults, `spec/Save.tla`.
    Troubled(Troubled),
    /// A world of a phase, of the module of its name in `spec/`.
    Phase(Phase),
}

impl Wanted {
    /// Of the worlds of a model the one that is meant: the only one, or that
    /// of these bounds.
    pub(super) fn of_phases(
        model: &str,
        phases: Vec<Phase>,
        bounds: Option<&str>,
    ) -> Result<Self, Failure> {
        let all: Vec<_> = phases.iter().map(|p| p.world.bounds()).collect();
        let meant = |phase: &Phase| {
            bounds.is_none_or(|bounds| phase.world.bounds() == bounds)
        };
        let mut meant = phases.into_iter().filter(meant);
        match (meant.next(), meant.next()) {
            (Some(phase), None) => Ok(Self::Phase(phase)),
            (None, _) | (Some(_), Some(_)) => {
                let found = bounds.map_or_else(
                    || "none given".to_owned(),
                    |bounds| format!("{bounds:?}"),
                );
                let all = all.iter().map(|bounds| format!("{bounds:?}"));
                let all: Vec<_> = all.collect();
                Err(Failure::usage(&format!(
                    "--bounds: {found}; of {model} wanted one of {}",
                    all.join(", ")
                )))
            }
        }
    }

    /// Reads the file, compares, and says what came of it.
    pub(super) fn run(
        &self,
        path: &Path,
        limits: Limits,
    ) -> Result<u8, Failure> {
        let dump = read(path)?;
        match self {
            Self::Store(model) => {
                say(&Task::Explore(*model).title(), model, &dump, limits)
            }
            Self::Troubled(model) => {
                say(&Task::Trouble(*model).title(), model, &dump, limits)
            }
            Self::Phase(phase) => {
                let title = Task::Phase(*phase).title();
                match &phase.world {
                    World::Cancel(model) => say(&title, model, &dump, limits),
                    World::Reading(model) => say(&title, model, &dump, limits),
                    World::Members(model) => say(&title, model, &dump, limits),
                    World::Ahead(model) => say(&title, model, &dump, limits),
                    World::Writing(model) => say(&title, model, &dump, limits),
                    World::Committing(model) => {
                        say(&title, model, &dump, limits)
                    }
                    World::WritingAgain(_) | World::ReadingAgain(_) => {
                        Err(Failure::usage(&format!(
                            "--compare-tla: {} with crashes has no \
                             specification in TLA+; wanted it without",
                            phase.model
                        )))
                    }
                }
            }
        }
    }
}

/// For a model without one.
pub(super) fn unspecified(model: &str) -> Failure {
    Failure::usage(&format!(
        "--compare-tla: {model} has no specification in TLA+; wanted \
         {SPECIFIED}"
    ))
}

fn read(path: &Path) -> Result<Dump, Failure> {
    let shown = exit::shown(path);
    let file = File::open(path).map_err(|error| Failure::io(&shown, &error))?;
    Dump::read(BufReader::new(file)).map_err(|error| {
        let code = match &error {
            DumpError::TooMuch { .. } => exit::LIMIT,
            DumpError::Read { .. } => exit::OTHER,
            DumpError::Line { .. }
            | DumpError::State { .. }
            | DumpError::Twice { .. }
            | DumpError::NoState { .. } => exit::INTEGRITY,
        };
        Failure::other(&shown, &error.to_string()).with_code(code)
    })
}

fn say<M: Specified>(
    title: &str,
    model: &M,
    dump: &Dump,
    limits: Limits,
) -> Result<u8, Failure> {
    let compared = compare(model, dump, limits);
    exit::print(compared.text(title, M::MODULE).as_bytes())?;
    Ok(match compared {
        Compared::Equal { .. } => 0,
        Compared::Different(_) => exit::CHECK,
        Compared::Cut { .. } => exit::OMISSIONS,
    })
}
