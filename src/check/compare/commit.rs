//! The world of putting qubes into the store in the words of
//! `spec/Commit.tla`.
//!
//! Lives here: which variables its states are, and which actions its steps.
//! May not live here: either model.

use super::Specified;
use super::value::Value;
use crate::check::phases::commit::{
    Committing, Files, Folder, Other, Stage, Step, Store, Who, World,
};
use crate::fsm::cancel::Gate;
use crate::fsm::commit::{
    Clean, Effect, End, Event, Failure, Over, Reach, State, Sweep, Then,
};

impl Specified for Committing {
    const MODULE: &'static str = "Commit";

    fn variables(&self, world: &World) -> Vec<(&'static str, Value)> {
        let gate = match world.gate {
            Gate::Open(_) => "open",
            Gate::Flagged(_) => "flagged",
            Gate::Decided(_) => "decided",
        };
        let lock = match world.lock {
            None => "free",
            Some(Who::We) => "we",
            Some(Who::They) => "they",
        };
        // Those that this restore does not have are shown if they are there.
        let last = world.folders.iter().rposition(|f| *f != Folder::Absent);
        let shown = last.map_or(0, |last| last + 1);
        let shown = shown.max(usize::from(self.plan.qubes));
        let folders = world.folders.iter().take(shown);
        let mut variables = vec![
            ("st", state(self.plan.qubes, world.state)),
            ("gate", Value::text(gate)),
            ("accepted", Value::Truth(world.accepted)),
            ("faults", Value::number(world.faults)),
            ("crashes", Value::number(world.crashes)),
            ("earlier", Value::Truth(world.earlier)),
            ("lock", Value::text(lock)),
            ("loaded", store(world.loaded)),
            ("store", store(world.store)),
            ("unsure", Value::Truth(world.unsure)),
            ("note", Value::Truth(world.note)),
            ("stage", world.stage.map_or(Value::sequence([]), stage)),
            ("folders", Value::sequence(folders.map(|f| folder(*f)))),
            ("hurt", Value::Truth(world.hurt)),
            ("other", other(self.plan.qubes, world.other)),
        ];
        // In capitals what the specification does not have.
        if world.no_row {
            variables.push(("NO_ROW", Value::Truth(true)));
        }
        variables
    }

    fn action(&self, _: &World, step: &Step) -> &'static str {
        match *step {
            Step::Answer(_, Event::Canceled) => "Refuse",
            Step::Answer(effect, _) => call(effect),
            Step::Fails(_, Event::Unsure(_)) => "UnsureSave",
            Step::Fails(..) => "Fault",
            Step::Cancel => "Cancel",
            Step::Killed => "Kill",
            Step::KilledIn(_) => "KillInSave",
            Step::PowerCut => "Cut",
            Step::Again => "Again",
            Step::TheirLock => "TheirLock",
            Step::TheirSave => "TheirSave",
            Step::TheirUnlock => "TheirUnlock",
            Step::TheirFolder => "TheirFolder",
            Step::TheirSweep(..) => "TheirSweep",
        }
    }
}

fn call(effect: Effect) -> &'static str {
    match effect {
        Effect::Lock => "Lock",
        Effect::Settle => "Settle",
        Effect::Sweep => "Sweep",
        Effect::Forget => "Forget",
        Effect::Unlock => "Unlock",
        Effect::Stage => "Stage",
        Effect::SyncFiles => "SyncFiles",
        Effect::Check => "Check",
        Effect::Note => "Note",
        Effect::Move(_) => "Move",
        Effect::SyncDirs => "SyncDirs",
        Effect::Decide => "Decide",
        Effect::Save { .. } => "Save",
        Effect::Undo => "Undo",
        Effect::Clear => "Clear",
    }
}

/// A word with what belongs to it. Words that the specification does not have
/// are in capitals.
fn tuple<const N: usize>(word: &str, rest: [Value; N]) -> Value {
    Value::sequence(core::iter::once(Value::text(word)).chain(rest))
}

fn state(qubes: u16, state: State) -> Value {
    match state {
        State::Sweeping(step) => tuple("sweep", [sweep(step)]),
        State::Keeping => tuple("keep", []),
        State::Staging => tuple("stage", []),
        State::SyncingFiles => tuple("syncfiles", []),
        State::Locking => tuple("lock", []),
        State::Checking => tuple("check", []),
        State::Noting => tuple("note", []),
        State::Moving(qube) => {
            tuple("move", [Value::number(qube.saturating_add(1))])
        }
        State::SyncingDirs => tuple("syncdirs", []),
        State::Deciding(Then::Save) => decide("save"),
        State::Deciding(Then::Keep) => decide("keep"),
        State::Deciding(Then::Conflict) => decide("conflict"),
        State::Deciding(Then::Fail(cause, far)) => tuple(
            "decide",
            [Value::text("fail"), number(cause), Value::text(reach(far))],
        ),
        // One save, of all of them.
        State::Saving(0, to) if to == qubes => tuple("save", []),
        State::Saving(from, to) => {
            tuple("SAVE", [Value::number(from), Value::number(to)])
        }
        State::Undoing(rest) => clean("undo", rest),
        State::Forgetting(rest) => clean("forget", rest),
        State::Unlocking(rest) => clean("unlock", rest),
        State::Clearing(rest) => clean("clear", rest),
        State::Over(Over { end, owed }) => {
            tuple("over", [ended(end), Value::Truth(owed)])
        }
    }
}

fn decide(then: &str) -> Value {
    tuple("decide", [Value::text(then)])
}

fn clean(call: &str, rest: Clean) -> Value {
    let Clean { end, stage, owed } = rest;
    tuple(call, [ended(end), Value::Truth(stage), Value::Truth(owed)])
}

fn sweep(step: Sweep) -> Value {
    Value::text(match step {
        Sweep::Lock => "lock",
        Sweep::Settle => "settle",
        Sweep::Stages => "stages",
        Sweep::Note => "note",
        Sweep::Unlock => "unlock",
    })
}

fn reach(reach: Reach) -> &'static str {
    match reach {
        Reach::Nothing => "nothing",
        Reach::Swept => "swept",
        Reach::Staged => "staged",
        Reach::Locked => "locked",
        Reach::Noted => "noted",
    }
}

fn ended(end: End) -> Value {
    match end {
        End::Done => tuple("done", []),
        End::Conflict => tuple("conflict", []),
        End::Failed { cause, saved } => {
            tuple("failed", [number(cause), Value::Truth(saved)])
        }
        End::Canceled(seen) => {
            tuple("canceled", [Value::sequence(seen.map(number))])
        }
    }
}

/// Which of the calls that failed: the first is 1, and 0 none of them.
fn number(failure: Failure) -> Value {
    Value::number(failure.0)
}

/// Entries: our qubes from 1, and 0 for somebody else's.
fn store(store: Store) -> Value {
    let theirs = store.theirs.then_some(0);
    let ours = (0..u8::BITS).filter(|qube| store.ours >> qube & 1 != 0);
    Value::set(ours.map(|qube| qube + 1).chain(theirs).map(Value::number))
}

fn stage(stage: Stage) -> Value {
    Value::sequence([Value::Truth(stage.held), Value::Truth(stage.synced)])
}

fn folder(folder: Folder) -> Value {
    match folder {
        Folder::Absent => tuple("absent", []),
        Folder::Theirs => tuple("theirs", []),
        Folder::Ours { named, files } => {
            let files = match files {
                Files::Written => "written",
                Files::Synced => "synced",
                Files::Torn => "torn",
            };
            tuple("ours", [Value::Truth(named), Value::text(files)])
        }
    }
}

fn other(qubes: u16, other: Other) -> Value {
    match other {
        Other::Over => tuple("over", []),
        Other::Waits => tuple("waits", []),
        Other::HasRead(read) => tuple("read", [store(read)]),
        Other::Saved => tuple("saved", []),
        Other::Sweeps(at) => state(qubes, at),
    }
}
