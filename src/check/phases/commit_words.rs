//! Runs of `commit`'s world as people read them.
//!
//! Lives here: its columns, its steps in words. May not live here: what a
//! step does.

use super::commit::{Beside, Committing, Step, World};
use super::facts;
use super::words::Words;
use crate::fsm::commit::{Effect, End, Event, Over};

impl Words for Committing {
    fn columns(&self) -> Vec<String> {
        let other = match self.beside {
            Beside::Nobody => "everything else",
            Beside::Writer => "writer",
            Beside::SameName => "writer, same name",
            Beside::Sweep => "second restore",
            Beside::Folder => "somebody else",
        };
        ["restore", other].map(str::to_owned).into()
    }

    fn say(&self, _: &World, step: &Step, _: &World) -> Vec<(usize, String)> {
        let (column, text) = match *step {
            Step::Answer(effect, event) | Step::Fails(effect, event) => {
                (0, asked(effect, event))
            }
            Step::TheirSweep(effect, event) => (1, asked(effect, event)),
            Step::Cancel => (1, "cancel = accepted".to_owned()),
            Step::Killed => (0, KILLED.to_owned()),
            Step::KilledIn(effect) => {
                (0, format!("{}: {KILLED}", called(effect)))
            }
            Step::PowerCut => (0, "power cut; it is run again".to_owned()),
            Step::Again => (0, "it is run again".to_owned()),
            Step::TheirLock => (1, "lock and load the store = ok".to_owned()),
            Step::TheirSave => (1, "save the store = ok".to_owned()),
            Step::TheirUnlock => (1, "unlock the store = ok".to_owned()),
            Step::TheirFolder => (1, "makes a folder of qube 0".to_owned()),
        };
        vec![(column, text)]
    }

    fn facts(&self, world: &World) -> Vec<String> {
        facts::of_commit(world, self.plan.qubes)
    }

    fn ending(&self, world: &World) -> Option<String> {
        let Over { end, owed } = Self::end(world)?;
        let end = match end {
            End::Done => "done",
            End::Conflict => "a name is taken",
            End::Failed { saved: false, .. } => "failed",
            End::Failed { saved: true, .. } => "failed, with all in the store",
            End::Canceled(None) => "canceled",
            End::Canceled(Some(_)) => "canceled, noting a failure",
        };
        let owed = if owed { ", the rest is for the next run" } else { "" };
        Some(format!("{end}{owed}"))
    }
}

/// What ends a run, and takes nothing from the disk.
const KILLED: &str = "ended by kill; it is run again";

fn called(effect: Effect) -> String {
    match effect {
        Effect::Lock => "lock and load the store".to_owned(),
        Effect::Settle => "undo what a note names".to_owned(),
        Effect::Sweep => "remove stages nobody holds".to_owned(),
        Effect::Forget => "remove the note".to_owned(),
        Effect::Unlock => "unlock the store".to_owned(),
        Effect::Stage => "restore into a stage".to_owned(),
        Effect::SyncFiles => "sync the stage".to_owned(),
        Effect::Check => "look whether names are free".to_owned(),
        Effect::Note => "write a note".to_owned(),
        Effect::Move(qube) => format!("move the folder of qube {qube}"),
        Effect::SyncDirs => "sync the folders' names".to_owned(),
        Effect::Decide => "ask the gate".to_owned(),
        Effect::Save { from, to } => match to.saturating_sub(1) {
            last if last <= from => format!("save with qube {from}"),
            last => format!("save with qubes {from} to {last}"),
        },
        Effect::Undo => "remove what was moved".to_owned(),
        Effect::Clear => "remove the stage".to_owned(),
    }
}

fn asked(effect: Effect, event: Event) -> String {
    let effect = called(effect);
    let event = match event {
        Event::Ok => "ok",
        Event::Whole => "the store has it all",
        Event::Taken => "taken",
        Event::Unsure(_) => "saved, not known to be durable",
        Event::Failed(_) => "failed",
        Event::Canceled => "canceled",
    };
    format!("{effect} = {event}")
}
