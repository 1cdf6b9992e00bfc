//! The worlds of the phase machines: what happens to them, what must hold.
//!
//! Lives here: for each machine of the phases a world that fulfils
//! [`Model`](super::Model), with faults, cancels and attackers in it, and the
//! mutants as values of its configuration. May not live here: a second
//! version of any machine.
//!
//! A cancel, a crash, a fault, a child's own end and what a stranger does may
//! never happen: these steps are [`UNFAIR`](super::liveness::UNFAIR), and who
//! could only go on by one of them is stuck. Where both sides wait for each
//! other a world has the step "wait", which changes nothing: a run that stays
//! there then shows it.

pub mod again_rows;
mod again_words;
pub mod ahead;
pub mod archive;
pub mod backup;
pub mod backup_again;
pub mod backup_again_rules;
pub mod backup_rows;
pub mod backup_rules;
pub mod backup_words;
pub mod cancel;
pub mod commit;
pub mod commit_rows;
pub mod commit_rules;
pub mod commit_words;
mod facts;
pub mod members;
pub mod restore;
pub mod restore_again;
pub mod restore_again_rules;
pub mod restore_rules;
pub mod rows;
pub mod schedules;
pub mod words;

use crate::fsm::backup::{Backup, Target};
use crate::fsm::commit::Commit;
use crate::fsm::phase_table;
use crate::fsm::refused::Refused;
use crate::fsm::restore::Restore;
use crate::fsm::table::Table;

/// Name of the property that every fair path of a world comes to an end.
//= spec/phases.md#l-every-fair-path-ends
pub const ENDS: &str = "L every fair path ends";

/// A world to check, and what should come of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Phase {
    /// Which machine: `members`, `ahead`, `cancel`, `backup`, `restore`,
    /// `verify` or `commit`.
    pub model: &'static str,
    /// Which configuration of it, or what is done wrong.
    pub protocol: &'static str,
    /// The world.
    pub world: World,
    /// The properties that must be violated; all others must hold.
    pub violated: &'static [&'static str],
    /// Something is done wrong on purpose: twins may be out of reach.
    pub mutant: bool,
    /// It is checked without being asked for.
    pub by_default: bool,
    /// What is so in it.
    pub about: &'static str,
}

/// The world of one of the machines.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum World {
    /// Of `fsm::members`.
    Members(members::Source),
    /// Of `fsm::ahead`.
    Ahead(ahead::Pool),
    /// Of `fsm::cancel`.
    Cancel(cancel::Cancelation),
    /// Of `fsm::backup`.
    Writing(backup::Writing),
    /// Of `fsm::restore`, for `restore` and `verify`.
    Reading(restore::Reading),
    /// Of `fsm::backup`, with crashes and the runs after them.
    WritingAgain(backup_again::WritingAgain),
    /// The same of `fsm::restore`.
    ReadingAgain(restore_again::ReadingAgain),
    /// Of `fsm::commit`.
    Committing(commit::Committing),
}

impl World {
    /// The table of the machine in it; `ahead` has none, its states are
    /// numbers.
    ///
    /// # Errors
    /// A possible answer was refused: the machine lacks a row.
    pub fn table(&self) -> Result<Option<Table>, Refused> {
        Ok(Some(match self {
            Self::Members(source) => phase_table::members(source.machine)?,
            Self::Ahead(_) => return Ok(None),
            Self::Cancel(_) => phase_table::gate(),
            Self::Writing(writing) => {
                phase_table::backup(Backup::new(writing.plan))?
            }
            Self::Reading(reading) => {
                phase_table::restore(Restore::new(reading.plan))?
            }
            Self::WritingAgain(model) => {
                phase_table::backup(Backup::new(model.writing.plan))?
            }
            Self::ReadingAgain(model) => {
                phase_table::restore(Restore::new(model.reading.plan))?
            }
            Self::Committing(model) => {
                phase_table::commit(Commit::new(model.plan))?
            }
        }))
    }

    /// How large it is, and what happens in it, in a few words.
    pub fn bounds(&self) -> String {
        let many = |n: usize, what: &str| {
            format!("{n} {what}{}", if n == 1 { "" } else { "s" })
        };
        match self {
            Self::Members(source) => {
                many(usize::from(source.members), "member")
            }
            Self::Ahead(pool) => {
                let chunks = many(pool.chunks as usize, "chunk");
                format!("{}, {chunks}", many(pool.slots, "slot"))
            }
            Self::Cancel(model) => {
                let stubborn = if model.stubborn { ", stubborn" } else { "" };
                format!("{}{stubborn}", many(model.cancelers, "canceler"))
            }
            Self::Writing(writing) => {
                let files = usize::from(writing.plan.files);
                let lengths = writing.lengths.iter().take(files);
                let lengths: Vec<_> = lengths.map(u8::to_string).collect();
                let target = match writing.plan.target {
                    Target::File => "file",
                    Target::Stream => "stream",
                };
                let mut text =
                    format!("{target} of {} halves", lengths.join("+"));
                text.push_str(troubles(writing.faults));
                if writing.cancel {
                    text.push_str(", cancel");
                }
                if writing.power {
                    text.push_str(", power cut");
                }
                text
            }
            Self::Reading(reading) => {
                let archive = reading.archive;
                let mut text = format!("{}x{}", archive.files, archive.chunks);
                if reading.edits > 0 {
                    text.push_str(", ");
                    text.push_str(&many(usize::from(reading.edits), "edit"));
                }
                text.push_str(troubles(reading.faults));
                if reading.cancel {
                    text.push_str(", cancel");
                }
                text
            }
            Self::WritingAgain(model) => {
                let one = Self::Writing(model.writing).bounds();
                let place = match model.place {
                    backup_again::Place::Unnamed => "",
                    backup_again::Place::Renamed => ", renamed",
                    backup_again::Place::Linked => ", linked",
                };
                let beside = if model.beside { " beside another" } else { "" };
                format!("{one}{place}{beside}{}", crashes(model.crashes))
            }
            Self::ReadingAgain(model) => {
                let one = Self::Reading(model.reading).bounds();
                let over = if model.overwrite { ", overwrite" } else { "" };
                let beside = match model.beside {
                    restore_again::Beside::Nobody => "",
                    restore_again::Beside::File => " beside a file",
                    restore_again::Beside::Restore => " beside another",
                };
                format!("{one}{over}{beside}{}", crashes(model.crashes))
            }
            Self::Committing(model) => {
                let mut text = many(usize::from(model.plan.qubes), "qube");
                text.push_str(match model.beside {
                    commit::Beside::Nobody => "",
                    commit::Beside::Writer => " beside a writer",
                    commit::Beside::SameName => " beside a namesake",
                    commit::Beside::Sweep => " beside a sweep",
                    commit::Beside::Folder => " beside a folder",
                });
                text.push_str(&crashes(model.crashes));
                text.push_str(troubles(model.faults));
                if model.cancel {
                    text.push_str(", cancel");
                }
                text
            }
        }
    }
}

/// Crashes are few.
fn crashes(crashes: u8) -> String {
    match crashes {
        0 => String::new(),
        1 => ", 1 crash".to_owned(),
        more => format!(", {more} crashes"),
    }
}

/// Faults are few.
fn troubles(faults: u8) -> &'static str {
    match faults {
        0 => "",
        1 => ", fault",
        2 => ", 2 faults",
        _ => ", faults",
    }
}
