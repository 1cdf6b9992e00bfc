//! The world of writing a backup in the words of `spec/Backup.tla`.
//!
//! Lives here: which variables its states are, and which actions its steps.
//! May not live here: either model.

use super::Specified;
use super::value::Value;
use crate::check::phases::backup::{
    CHUNK, Found, Source, Step, World, Writing, Written,
};
use crate::fsm::backup::{
    At, Effect, End, Event, Failure, Next, Over, State, Then,
};
use crate::fsm::cancel::Gate;

impl Specified for Writing {
    const MODULE: &'static str = "Backup";

    fn variables(&self, world: &World) -> Vec<(&'static str, Value)> {
        let gate = match world.gate {
            Gate::Open(_) => "open",
            Gate::Flagged(_) => "flagged",
            Gate::Decided(_) => "decided",
        };
        let known = world.gate.running().next().is_some();
        let disk = world.disk;
        let name = match (disk.temporary, disk.published) {
            (false, false) => "none",
            (true, false) => "temporary",
            (false, true) => "final",
            (true, true) => "BOTH",
        };
        let mut variables = vec![
            ("st", state(world.state)),
            ("gate", Value::text(gate)),
            ("known", Value::Truth(known)),
            ("accepted", Value::Truth(world.accepted)),
            ("faults", Value::number(world.faults)),
            ("first", first(world)),
            ("source", source(world.source)),
            ("archive", self.archive(&world.written)),
            ("name", Value::text(name)),
            ("synced", Value::Truth(disk.synced)),
            ("named", Value::Truth(disk.dir_synced)),
            ("closed", Value::Truth(disk.closed)),
            ("found", Value::sequence(world.cut.map(found))),
        ];
        // What the list of members does not show.
        let Written { broken, extra, .. } = world.written;
        if broken || extra {
            variables.push(("BROKEN", Value::Truth(broken)));
        }
        if world.no_row {
            variables.push(("NO_ROW", Value::Truth(true)));
        }
        variables
    }

    fn action(&self, _: &World, step: &Step) -> &'static str {
        match *step {
            Step::Cancel => "Cancel",
            Step::PowerCut => "PowerCut",
            Step::Dies(..) => "Die",
            Step::Wait => "WAIT",
            Step::Answer(_, Event::Canceled) => "Canceled",
            Step::Fails(..) => "Fault",
            Step::Answer(effect, _) => match effect {
                Effect::Create => "Create",
                Effect::EmitHeader | Effect::EmitHeaderMac => "Header",
                Effect::Open(_) => "Open",
                Effect::Fill(_) => "Fill",
                Effect::Emit(_) => "Send",
                Effect::Reap(_) => "Reap",
                Effect::EmitMac(_) => "WriteCode",
                Effect::Sync => "Sync",
                Effect::Decide => "Decide",
                Effect::Rename => "Rename",
                Effect::SyncDir => "SyncDir",
                Effect::Close => "Close",
                Effect::Stop => "Stop",
                Effect::Remove => "Remove",
            },
        }
    }
}

impl Writing {
    /// The members that were written, in order: of a file before the last all
    /// that it has.
    fn archive(&self, written: &Written) -> Value {
        let mut members = Vec::new();
        for member in
            ["header", "headercode"].iter().take(written.header.into())
        {
            members.push(tuple(member, []));
        }
        for file in 0..written.file {
            let length = self.length(file);
            let chunks = length.div_ceil(CHUNK).max(1);
            let whole = Written { file, chunks, halves: length, ..*written };
            chunks_of(Written { pending: None, ..whole }, true, &mut members);
        }
        chunks_of(*written, !written.dead, &mut members);
        Value::sequence(members)
    }
}

/// Every chunk of the file but the last one is full.
fn chunks_of(written: Written, alive: bool, members: &mut Vec<Value>) {
    let Written { file, chunks, halves, pending, .. } = written;
    for number in 0..chunks {
        let at = At { file: file.into(), chunk: number.into() };
        let from = number.saturating_mul(CHUNK);
        let last = number + 1 == chunks;
        let size = match pending {
            _ if !last => CHUNK,
            Some(size) => size,
            None => halves.saturating_sub(from),
        };
        let numbers = [from, size].map(Value::number);
        let [from, size] = numbers;
        members.push(tuple("chunk", [place(at), from, size]));
        if !last || pending.is_none() {
            let alive = Value::Truth(!last || alive);
            members.push(tuple("code", [place(at), alive]));
        }
    }
}

/// A word with what belongs to it. Words that the specification does not have
/// are in capitals.
fn tuple<const N: usize>(word: &str, rest: [Value; N]) -> Value {
    Value::sequence(core::iter::once(Value::text(word)).chain(rest))
}

fn state(state: State) -> Value {
    match state {
        State::Creating => tuple("create", []),
        State::Header => tuple("header", []),
        State::HeaderMac => tuple("headercode", []),
        State::Opening(file) => tuple("open", [Value::number(file)]),
        State::Filling(at) => tuple("fill", [place(at)]),
        State::Sending(at, n) => tuple("send", [place(at), next(n)]),
        State::Reaping(at, n) => tuple("reap", [place(at), next(n)]),
        State::Macing(at, n) => tuple("code", [place(at), next(n)]),
        State::Syncing => tuple("sync", []),
        State::Deciding(t) => tuple("decide", [then(t)]),
        State::Renaming => tuple("rename", []),
        State::SyncingDir => tuple("syncdir", []),
        State::Closing => tuple("close", []),
        State::Stopping(e) => tuple("stop", [end(e)]),
        State::Removing(e) => tuple("remove", [end(e)]),
        State::Over(Over { end: e, left }) => {
            tuple("over", [end(e), Value::Truth(left)])
        }
    }
}

fn place(at: At) -> Value {
    Value::sequence([Value::number(at.file), Value::number(at.chunk)])
}

fn next(next: Next) -> Value {
    Value::text(match next {
        Next::Chunk => "chunk",
        Next::File => "file",
        Next::Nothing => "nothing",
    })
}

fn then(then: Then) -> Value {
    match then {
        Then::Publish => tuple("publish", []),
        Then::LastMac(at) => tuple("lastcode", [place(at)]),
        Then::Fail(Failure(n)) => tuple("fail", [Value::number(n)]),
        Then::Done => tuple("DONE", []),
    }
}

fn end(end: End) -> Value {
    match end {
        End::Done => tuple("done", []),
        End::Failed { cause: Failure(n), published } => {
            tuple("failed", [Value::number(n), Value::Truth(published)])
        }
        End::Canceled(seen) => {
            let seen = seen.map(|Failure(n)| Value::number(n));
            tuple("canceled", [Value::sequence(seen)])
        }
    }
}

/// The first failure: of a call, or of a child with what it said.
fn first(world: &World) -> Value {
    let Some(Failure(number)) = world.first else {
        return Value::sequence([]);
    };
    let number = Value::number(number);
    match (world.child_failed, world.said) {
        (false, true) => tuple("call", [number]),
        (true, true) => tuple("child", [number, Value::text("said")]),
        (_, false) => tuple("UNHEARD", [number]),
    }
}

fn source(source: Source) -> Value {
    let pair = |(halves, from): (u8, u8)| {
        Value::sequence([Value::number(from), Value::number(halves)])
    };
    match source {
        Source::None => Value::sequence([]),
        Source::Running { taken, chunk } => {
            tuple("running", [Value::number(taken), pair(chunk)])
        }
        Source::Dead { chunk } => tuple("dead", [pair(chunk)]),
    }
}

fn found(found: Found) -> Value {
    Value::text(match found {
        Found::Nothing => "nothing",
        Found::Whole => "whole",
        Found::Torn => "torn",
    })
}
