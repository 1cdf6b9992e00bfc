//! Runs of `backup`'s world as people read them.
//!
//! Lives here: its columns, its steps in words. May not live here: what a
//! step does.

use super::backup::{Found, Step, World, Writing};
use super::facts;
use super::words::Words;
use crate::fsm::backup::{At, Effect, End, Event, Over};

impl Words for Writing {
    fn columns(&self) -> Vec<String> {
        ["writer", "everything else"].map(str::to_owned).into()
    }

    fn say(
        &self,
        _: &World,
        step: &Step,
        after: &World,
    ) -> Vec<(usize, String)> {
        match *step {
            Step::Answer(effect, event) | Step::Fails(effect, event) => {
                vec![(0, asked(effect, event))]
            }
            Step::Dies(effect, event) => vec![
                (1, "the archiver dies, and its output ends".to_owned()),
                (0, asked(effect, event)),
            ],
            Step::Cancel => vec![(1, "cancel = accepted".to_owned())],
            Step::PowerCut => {
                let found = match after.cut {
                    Some(Found::Whole) => "the archive",
                    Some(Found::Torn) => "a torn archive",
                    Some(Found::Nothing) | None => "nothing",
                };
                let text = format!("power cut; under the name: {found}");
                vec![(1, text)]
            }
            Step::Wait => {
                vec![(1, "the archiver waits: its stderr is full".to_owned())]
            }
        }
    }

    fn facts(&self, world: &World) -> Vec<String> {
        facts::of_backup(world)
    }

    fn ending(&self, world: &World) -> Option<String> {
        let Over { end, left } = Self::end(world)?;
        let end = match end {
            End::Done => "done".to_owned(),
            End::Failed { published: false, .. } => "failed".to_owned(),
            End::Failed { published: true, .. } => {
                "failed, with the archive in place".to_owned()
            }
            End::Canceled(None) => "canceled".to_owned(),
            End::Canceled(Some(_)) => "canceled, noting a failure".to_owned(),
        };
        let left = if left { ", a temporary file is left" } else { "" };
        Some(format!("{end}{left}"))
    }
}

fn file(number: u16) -> String {
    match number {
        0 => "'qubes.xml'".to_owned(),
        number => format!("file {number}"),
    }
}

fn chunk(at: At) -> String {
    format!("chunk {} of {}", at.chunk, file(at.file))
}

fn asked(effect: Effect, event: Event) -> String {
    let effect = match effect {
        Effect::Create => "create a temporary file".to_owned(),
        Effect::EmitHeader => "write the header".to_owned(),
        Effect::EmitHeaderMac => "write the header's mac".to_owned(),
        Effect::Open(number) => {
            format!("start the archiver of {}", file(number))
        }
        Effect::Fill(at) => format!("take {}", chunk(at)),
        Effect::Emit(at) => format!("write {}", chunk(at)),
        Effect::Reap(number) => {
            format!("wait for the archiver of {}", file(number))
        }
        Effect::EmitMac(at) => format!("write the mac of {}", chunk(at)),
        Effect::Sync => "sync the file".to_owned(),
        Effect::Decide => "ask the gate".to_owned(),
        Effect::Rename => "rename".to_owned(),
        Effect::SyncDir => "sync the directory".to_owned(),
        Effect::Close => "close the stream".to_owned(),
        Effect::Stop => "end children and threads".to_owned(),
        Effect::Remove => "remove the temporary file".to_owned(),
    };
    let event = match event {
        Event::Ok => "ok",
        Event::Filled { more: true } => "ok, more follows",
        Event::Filled { more: false } => "ok, the last",
        Event::Failed(_) => "failed",
        Event::Canceled => "canceled",
    };
    format!("{effect} = {event}")
}
