//! What is so in a state of the phase worlds, in words.
//!
//! Lives here: one line per thing that a reader of a run wants to see beside
//! its steps: gate, children, files, what stands under which name. May not
//! live here: the steps themselves (`words`).

use super::backup::{self, Found};
use super::cancel::{self, Ended, Process, Signal};
use super::commit::{self, Files, Folder, Who};
use super::restore::{self, Fate};
use super::{ahead, members};
use crate::fsm::ahead::{Slot, Verdict};
use crate::fsm::cancel::Gate;

const NO_ROW: &str = "the machine refuses what it was told";

fn gate(gate: &Gate) -> String {
    let word = match gate {
        Gate::Open(_) => "open",
        Gate::Flagged(_) => "a cancel was accepted",
        Gate::Decided(_) => "decided",
    };
    format!("gate: {word}")
}

fn yes(is_so: bool, text: &str) -> Option<String> {
    is_so.then(|| text.to_owned())
}

pub(super) fn of_members(world: &members::World) -> Vec<String> {
    let members::World { begun, whole, read, given, ended, .. } = world;
    let end = match ended {
        None => "runs",
        Some(true) => "has ended well",
        Some(false) => "has died",
    };
    let mut facts = vec![
        format!("source: {end}; members begun: {begun}, whole: {whole}"),
        format!("names read: {read}, members given: {given}"),
    ];
    facts.extend(yes(world.no_row, NO_ROW));
    facts
}

pub(super) fn of_ahead(world: &ahead::World) -> Vec<String> {
    let slot = |(number, slot): (usize, &Slot)| {
        let text = match slot {
            Slot::Free => "free".to_owned(),
            Slot::Busy(chunk) => format!("chunk {chunk} is hashed"),
            Slot::Done(chunk, Verdict::Good) => format!("chunk {chunk} good"),
            Slot::Done(chunk, Verdict::Bad) => format!("chunk {chunk} bad"),
            Slot::Out(chunk) => format!("chunk {chunk} is decoded"),
        };
        format!("slot {}: {text}", number + 1)
    };
    let mut facts: Vec<_> =
        world.ahead.slots().iter().enumerate().map(slot).collect();
    facts.push(format!("chunks decoded: {}", world.released));
    facts.extend(yes(world.no_row, NO_ROW));
    facts
}

pub(super) fn of_cancel(world: &cancel::World) -> Vec<String> {
    let child = |(number, child): (usize, &Process)| {
        let text = match child {
            Process::Absent => return None,
            Process::Running(None) => "runs",
            Process::Running(Some(Signal::Term)) => "runs, SIGTERM sent",
            Process::Running(Some(Signal::Kill)) => "runs, SIGKILL sent",
            Process::Zombie(Ended::Good) => "ended well, not reaped",
            Process::Zombie(Ended::Bad) => "ended badly, not reaped",
            Process::Zombie(Ended::Killed) => "ended by a signal, not reaped",
            Process::Reaped => "reaped: its number may be anybody's",
        };
        Some(format!("child {}: {text}", number + 1))
    };
    let registered: Vec<_> =
        world.gate.running().map(|child| (child.0 + 1).to_string()).collect();
    let registered = match registered.as_slice() {
        [] => "registered: nobody".to_owned(),
        some => format!("registered: child {}", some.join(", ")),
    };
    let mut facts = vec![gate(&world.gate), registered];
    facts.extend(world.children.iter().enumerate().filter_map(child));
    facts
}

pub(super) fn of_backup(world: &backup::World) -> Vec<String> {
    let source = match world.source {
        backup::Source::None => "nothing runs".to_owned(),
        backup::Source::Running { taken, .. } => {
            format!("runs; halves taken: {taken}")
        }
        backup::Source::Dead { .. } => "has died".to_owned(),
    };
    let written = &world.written;
    let header = match written.header {
        0 => "nothing",
        1 => "the header",
        _ => "the header and its code",
    };
    let mut facts =
        vec![gate(&world.gate), format!("maker of the stream: {source}")];
    facts.push(match (written.header, written.chunks) {
        (0 | 1, _) | (_, 0) => format!("written: {header}"),
        (_, chunks) => format!(
            "written: {header}, file {} up to chunk {}{}",
            written.file,
            chunks.saturating_sub(1),
            if written.pending.is_some() { ", its code not yet" } else { "" }
        ),
    });
    let disk = &world.disk;
    facts.extend(
        [
            yes(disk.temporary, "there is a temporary file"),
            yes(disk.published, "the archive has its name"),
            yes(disk.synced, "what is written is on the disk"),
            yes(disk.dir_synced, "the name is on the disk"),
            yes(disk.closed, "the stream is closed"),
            yes(world.no_row, NO_ROW),
        ]
        .into_iter()
        .flatten(),
    );
    facts.extend(world.cut.map(|found| {
        let found = match found {
            Found::Nothing => "nothing",
            Found::Whole => "the archive",
            Found::Torn => "no whole archive",
        };
        format!("after the power cut the name leads to: {found}")
    }));
    facts
}

pub(super) fn of_commit(world: &commit::World, qubes: u16) -> Vec<String> {
    let lock = match world.lock {
        None => "nobody",
        Some(Who::We) => "this restore",
        Some(Who::They) => "the other",
    };
    let mut facts =
        vec![gate(&world.gate), format!("the store is locked by: {lock}")];
    let qube = |(number, folder): (usize, &Folder)| {
        let entry = world.store.ours & commit::bit(number) != 0;
        let entry = if entry { "in the store" } else { "not in the store" };
        let folder = match folder {
            Folder::Absent => "no folder",
            Folder::Theirs => "somebody else's folder",
            Folder::Ours { files: Files::Torn, .. } => "a torn folder",
            Folder::Ours { named: true, files: Files::Synced } => {
                "its folder, durable"
            }
            Folder::Ours { .. } => "its folder, not yet durable",
        };
        format!("qube {number}: {entry}; {folder}")
    };
    let folders = world.folders.iter().take(usize::from(qubes));
    facts.extend(folders.enumerate().map(qube));
    let held = world.stage.map(|stage| stage.held);
    facts.extend(
        [
            yes(world.store.theirs, "the other's entry is in the store"),
            yes(world.unsure, "a power cut may take our entries back"),
            yes(world.note, "there is a note"),
            yes(held == Some(true), "there is a stage, and it is held"),
            yes(held == Some(false), "there is a stage that nobody holds"),
            yes(world.hurt, "something of somebody else's is gone"),
            yes(world.no_row, NO_ROW),
        ]
        .into_iter()
        .flatten(),
    );
    facts
}

pub(super) fn of_restore(world: &restore::World) -> Vec<String> {
    let mut facts = vec![gate(&world.gate)];
    facts.extend(world.chunk.map(|chunk| {
        let verified = if chunk.verified { "verified" } else { "not verified" };
        format!(
            "in memory: chunk {} of file {}, {verified}",
            chunk.name.chunk, chunk.name.name
        )
    }));
    let fate = |(number, fate): (usize, &Fate)| {
        let text = match fate {
            Fate::Absent => return None,
            Fate::Writing => "is written, under a temporary name",
            Fate::Ready { whole: true, .. } => "complete, no name yet",
            Fate::Ready { whole: false, .. } => "taken as complete, and is not",
            Fate::Published => "has its name",
            Fate::Lost => "given up",
        };
        let name = match number {
            0 => "'qubes.xml'".to_owned(),
            number => format!("file {number}"),
        };
        Some(format!("{name}: {text}"))
    };
    facts.extend(world.fates.iter().enumerate().filter_map(fate));
    facts.extend(yes(world.no_row, NO_ROW));
    facts
}
