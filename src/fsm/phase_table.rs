//! The tables of the phase machines, in the form of `fsm::table`.
//!
//! Lives here: which answers the walk tries, and words for states, effects
//! and events without their numbers. May not live here: a transition; there
//! is only `step`. `fsm::ahead` has no table: its states are numbers.

use core::convert::Infallible;
use core::ops::ControlFlow::{Break, Continue};

use super::backup::{self, Backup};
use super::cancel::{Cancel, Canceled, Child, Gate};
use super::commit::{self, Commit};
use super::members::{self, Members};
use super::refused::Refused;
use super::restore::{
    At, Ctx, Effect, End, Event, Failure, Lead, Member, Restore, State,
};
use super::table::{Answer, Table, walk_by};

/// The table of `fsm::members` for one kind of source, with two members.
///
/// # Errors
/// A possible answer was refused: `step` lacks a row.
pub fn members(machine: Members) -> Result<Table, Refused> {
    use members::{Effect, Event, Member};
    walk_by(machine, members_label, |machine| {
        let effect = match machine.effect() {
            Continue(effect) => effect,
            Break(_) => return Ok(Vec::new()),
        };
        let events = [
            (Event::Named(Member(0)), "a name"),
            (Event::Named(Member(1)), "a name"),
            (Event::End { clean: true }, "a good end"),
            (Event::End { clean: false }, "a bad end"),
            (Event::Given, "given"),
        ];
        let effect_text = match effect {
            Effect::Ask => "ask",
            Effect::Give(_) => "give",
        };
        let possible = events.into_iter().filter(|(e, _)| effect.allows(*e));
        possible
            .map(|(event, text)| {
                Ok(answer(effect_text, text, machine.step(event)?))
            })
            .collect()
    })
}

fn members_label(machine: &Members) -> String {
    use members::Then;
    match machine.state {
        members::State::Asking(None) => "asking",
        members::State::Asking(Some(_)) => "asking, one announced",
        members::State::Giving(_, Then::Ask) => "giving",
        members::State::Giving(_, Then::Hold(_)) => "giving, one announced",
        members::State::Giving(_, Then::End) => "giving the last",
        members::State::Over { clean: true } => "over, clean",
        members::State::Over { clean: false } => "over, not clean",
    }
    .to_owned()
}

/// The table of the gate: every call in each of its three states.
pub fn gate() -> Table {
    let refused = |answer: Result<(), Canceled>| match answer {
        Ok(()) => "ok",
        Err(Canceled) => "canceled",
    };
    let label = |gate: &Gate| {
        match gate {
            Gate::Open(_) => "open",
            Gate::Flagged(_) => "flagged",
            Gate::Decided(_) => "decided",
        }
        .to_owned()
    };
    let walked: Result<_, Infallible> =
        walk_by(Gate::default(), label, |gate| {
            let mut answers = Vec::new();
            let mut call =
                |effect, call: &dyn Fn(&mut Gate) -> &'static str| {
                    let mut gate = gate.clone();
                    let event = call(&mut gate);
                    answers.push(answer(effect, event, gate));
                };
            call("register", &|gate| refused(gate.register(Child(1))));
            call("forget", &|gate| {
                gate.forget(Child(1));
                "ok"
            });
            call("cancel", &|gate| match gate.cancel() {
                Cancel::Accepted => "accepted",
                Cancel::Already => "already",
                Cancel::TooLate => "too late",
            });
            call("decide", &|gate| refused(gate.decide()));
            Ok(answers)
        });
    let Ok(table) = walked;
    table
}

/// Files, and chunks of each, that the walk of [`restore`] knows.
const FEW: u16 = 2;

/// The table of `fsm::restore` for one plan, with two files of two chunks.
///
/// # Errors
/// A possible answer was refused: `step` lacks a row.
pub fn restore(machine: Restore) -> Result<Table, Refused> {
    let events = vocabulary(machine.plan.digests);
    walk_by(machine, restore_label, |machine| {
        let effect = match machine.effect() {
            Continue(effect) => effect,
            Break(_) => return Ok(Vec::new()),
        };
        let mut answers = Vec::new();
        for event in events.iter().filter(|event| effect.allows(**event)) {
            let to = machine.step(*event)?;
            if within(to.state) {
                answers.push(answer(verb(effect), word(*event), to));
            }
        }
        Ok(answers)
    })
}

/// A mutant that opens files twice never stops to count them.
fn within(state: State) -> bool {
    match state {
        State::Mac(c, _) | State::Releasing(c, _) => c.opened <= FEW,
        State::First
        | State::FirstMac(_)
        | State::Guessing(..)
        | State::Parsing(_)
        | State::Data(_)
        | State::Verifying(..)
        | State::Finishing(..)
        | State::Publishing(..)
        | State::Dropping(..)
        | State::Counting(_)
        | State::Binding(_)
        | State::Deciding(..)
        | State::Renaming(..)
        | State::Stopping(_)
        | State::Over(_) => true,
    }
}

fn vocabulary(digests: u8) -> Vec<Event> {
    let mut events = vec![
        Event::Named(Member::Header),
        Event::Named(Member::HeaderMac),
        Event::Named(Member::Other),
    ];
    for file in 0..FEW {
        for chunk in 0..u32::from(FEW) {
            let at = At { file, chunk };
            events.push(Event::Named(Member::Chunk(at)));
            events.push(Event::Named(Member::Mac(at)));
        }
    }
    events.extend((0..digests).map(Event::Parsed));
    events.extend([
        Event::Ended,
        Event::Good,
        Event::Bad,
        Event::Released,
        Event::Finished,
        Event::Published,
        Event::Dropped,
        Event::Whole,
        Event::Missing,
        Event::Decided,
        Event::Renamed,
        Event::Stopped,
        Event::Failed(Failure(0)),
        Event::Canceled,
    ]);
    events
}

fn restore_label(machine: &Restore) -> String {
    let losing = |state: &str, c: Ctx| {
        let losing = if c.losing { ", file lost" } else { "" };
        format!("{state}{losing}")
    };
    let of = |state: &str, end: End| {
        let end = match end {
            End::Done => "done",
            End::Omitted { .. } => "omitted",
            End::Failed(_) => "failed",
            End::Canceled(_) => "canceled",
        };
        format!("{state}, {end}")
    };
    match machine.state {
        State::First => "first".to_owned(),
        State::FirstMac(Lead::Header) => "first mac, header".to_owned(),
        State::FirstMac(Lead::Chunk) => "first mac, chunk".to_owned(),
        State::Guessing(Lead::Header, _) => "guessing, header".to_owned(),
        State::Guessing(Lead::Chunk, _) => "guessing, chunk".to_owned(),
        State::Parsing(_) => "parsing".to_owned(),
        State::Data(c) => losing("data", c),
        State::Mac(c, _) => losing("mac", c),
        State::Verifying(..) => "verifying".to_owned(),
        State::Releasing(..) => "releasing".to_owned(),
        State::Finishing(..) => "finishing".to_owned(),
        State::Publishing(..) => "publishing".to_owned(),
        State::Dropping(..) => "dropping".to_owned(),
        State::Counting(_) => "counting".to_owned(),
        State::Binding(_) => "binding".to_owned(),
        State::Deciding(end, _) => of("deciding", end),
        State::Renaming(end, ..) => of("renaming", end),
        State::Stopping(end) => of("stopping", end),
        State::Over(end) => of("over", end),
    }
}

fn verb(effect: Effect) -> &'static str {
    match effect {
        Effect::Next => "next",
        Effect::VerifyLead(..) | Effect::Verify(..) => "verify",
        Effect::Parse => "parse",
        Effect::Release(..) => "release",
        Effect::Finish(_) => "finish",
        Effect::Publish(_) => "publish",
        Effect::Drop(_) => "drop",
        Effect::Count { .. } => "count",
        Effect::Bind => "bind",
        Effect::Decide => "decide",
        Effect::Rename(_) => "rename",
        Effect::Stop => "stop",
    }
}

fn word(event: Event) -> &'static str {
    match event {
        Event::Named(Member::Header) => "header",
        Event::Named(Member::HeaderMac) => "header mac",
        Event::Named(Member::Chunk(_)) => "chunk",
        Event::Named(Member::Mac(_)) => "mac",
        Event::Named(Member::Other) => "other",
        Event::Ended => "end",
        Event::Good => "good",
        Event::Bad => "bad",
        Event::Parsed(_) => "parsed",
        Event::Released => "released",
        Event::Finished => "finished",
        Event::Published => "published",
        Event::Dropped => "dropped",
        Event::Whole => "whole",
        Event::Missing => "missing",
        Event::Decided => "decided",
        Event::Renamed => "renamed",
        Event::Stopped => "stopped",
        Event::Failed(_) => "failed",
        Event::Canceled => "canceled",
    }
}

/// The table of `fsm::backup` for one plan, with two chunks of each file.
///
/// # Errors
/// A possible answer was refused: `step` lacks a row.
pub fn backup(machine: Backup) -> Result<Table, Refused> {
    use backup::{Event, Failure, State};
    let few = |machine: &Backup| match machine.state {
        State::Filling(at) => at.chunk < u32::from(FEW),
        State::Creating
        | State::Header
        | State::HeaderMac
        | State::Opening(_)
        | State::Sending(..)
        | State::Reaping(..)
        | State::Macing(..)
        | State::Syncing
        | State::Deciding(_)
        | State::Renaming
        | State::SyncingDir
        | State::Closing
        | State::Stopping(_)
        | State::Removing(_)
        | State::Over(_) => true,
    };
    walk_by(machine, backup_label, |machine| {
        let effect = match machine.effect() {
            Continue(effect) => effect,
            Break(_) => return Ok(Vec::new()),
        };
        let events = [
            (Event::Ok, "ok"),
            (Event::Filled { more: true }, "more"),
            (Event::Filled { more: false }, "no more"),
            (Event::Failed(Failure(0)), "failed"),
            (Event::Canceled, "canceled"),
        ];
        let mut answers = Vec::new();
        for (event, text) in events {
            if effect.allows(event) {
                let to = machine.step(event)?;
                if few(&to) {
                    answers.push(answer(backup_verb(effect), text, to));
                }
            }
        }
        Ok(answers)
    })
}

fn backup_label(machine: &Backup) -> String {
    use backup::{End, Next, State, Then};
    let next = |state: &str, next: Next| {
        let next = match next {
            Next::Chunk => "a chunk",
            Next::File => "a file",
            Next::Nothing => "nothing",
        };
        format!("{state}, {next} follows")
    };
    let of = |state: &str, end: End| {
        let end = match end {
            End::Done => "done",
            End::Failed { published: false, .. } => "failed",
            End::Failed { published: true, .. } => "failed in place",
            End::Canceled(_) => "canceled",
        };
        format!("{state}, {end}")
    };
    match machine.state {
        State::Creating => "creating".to_owned(),
        State::Header => "header".to_owned(),
        State::HeaderMac => "header mac".to_owned(),
        State::Opening(_) => "opening".to_owned(),
        State::Filling(_) => "filling".to_owned(),
        State::Sending(_, then) => next("sending", then),
        State::Reaping(_, then) => next("reaping", then),
        State::Macing(_, then) => next("macing", then),
        State::Syncing => "syncing".to_owned(),
        State::Deciding(then) => {
            let what = match then {
                Then::Publish => "publish",
                Then::LastMac(_) => "last mac",
                Then::Fail(_) => "failure",
                Then::Done => "done",
            };
            format!("deciding, {what}")
        }
        State::Renaming => "renaming".to_owned(),
        State::SyncingDir => "syncing the directory".to_owned(),
        State::Closing => "closing".to_owned(),
        State::Stopping(end) => of("stopping", end),
        State::Removing(end) => of("removing", end),
        State::Over(over) if over.left => {
            format!("{}, one left", of("over", over.end))
        }
        State::Over(over) => of("over", over.end),
    }
}

fn backup_verb(effect: backup::Effect) -> &'static str {
    use backup::Effect;
    match effect {
        Effect::Create => "create",
        Effect::EmitHeader => "emit header",
        Effect::EmitHeaderMac => "emit header mac",
        Effect::Open(_) => "open",
        Effect::Fill(_) => "fill",
        Effect::Emit(_) => "emit",
        Effect::Reap(_) => "reap",
        Effect::EmitMac(_) => "emit mac",
        Effect::Sync => "sync",
        Effect::Decide => "decide",
        Effect::Rename => "rename",
        Effect::SyncDir => "sync directory",
        Effect::Close => "close",
        Effect::Stop => "stop",
        Effect::Remove => "remove",
    }
}

/// The table of `fsm::commit` for one plan.
///
/// # Errors
/// A possible answer was refused: `step` lacks a row.
pub fn commit(machine: Commit) -> Result<Table, Refused> {
    use commit::{Event, Failure};
    walk_by(machine, commit_label, |machine| {
        let effect = match machine.effect() {
            Continue(effect) => effect,
            Break(_) => return Ok(Vec::new()),
        };
        let events = [
            (Event::Ok, "ok"),
            (Event::Whole, "whole"),
            (Event::Taken, "taken"),
            (Event::Unsure(Failure(0)), "unsure"),
            (Event::Failed(Failure(0)), "failed"),
            (Event::Canceled, "canceled"),
        ];
        let possible = events.into_iter().filter(|(e, _)| effect.allows(*e));
        possible
            .map(|(event, text)| {
                let to = machine.step(event)?;
                Ok(answer(commit_verb(effect), text, to))
            })
            .collect()
    })
}

fn commit_label(machine: &Commit) -> String {
    use commit::{Clean, End, State, Sweep, Then};
    let of = |state: &str, end: End, owed: bool| {
        let end = match end {
            End::Done => "done",
            End::Conflict => "conflict",
            End::Failed { saved: false, .. } => "failed",
            End::Failed { saved: true, .. } => "failed, saved",
            End::Canceled(_) => "canceled",
        };
        let owed = if owed { ", owed" } else { "" };
        format!("{state}, {end}{owed}")
    };
    let rest = |state: &str, Clean { end, owed, .. }| of(state, end, owed);
    match machine.state {
        State::Sweeping(Sweep::Lock) => "sweeping, lock".to_owned(),
        State::Sweeping(Sweep::Settle) => "sweeping, settle".to_owned(),
        State::Sweeping(Sweep::Stages) => "sweeping, stages".to_owned(),
        State::Sweeping(Sweep::Note) => "sweeping, note".to_owned(),
        State::Sweeping(Sweep::Unlock) => "sweeping, unlock".to_owned(),
        State::Keeping => "keeping".to_owned(),
        State::Staging => "staging".to_owned(),
        State::SyncingFiles => "syncing files".to_owned(),
        State::Locking => "locking".to_owned(),
        State::Checking => "checking".to_owned(),
        State::Noting => "noting".to_owned(),
        State::Moving(_) => "moving".to_owned(),
        State::SyncingDirs => "syncing directories".to_owned(),
        State::Deciding(then) => {
            let what = match then {
                Then::Save => "save",
                Then::Keep => "keep",
                Then::Conflict => "conflict",
                Then::Fail(..) => "failure",
            };
            format!("deciding, {what}")
        }
        State::Saving(..) => "saving".to_owned(),
        State::Undoing(clean) => rest("undoing", clean),
        State::Forgetting(clean) => rest("forgetting", clean),
        State::Unlocking(clean) => rest("unlocking", clean),
        State::Clearing(clean) => rest("clearing", clean),
        State::Over(over) => of("over", over.end, over.owed),
    }
}

fn commit_verb(effect: commit::Effect) -> &'static str {
    use commit::Effect;
    match effect {
        Effect::Lock => "lock",
        Effect::Settle => "settle",
        Effect::Sweep => "sweep",
        Effect::Forget => "forget",
        Effect::Unlock => "unlock",
        Effect::Stage => "stage",
        Effect::SyncFiles => "sync files",
        Effect::Check => "check",
        Effect::Note => "note",
        Effect::Move(_) => "move",
        Effect::SyncDirs => "sync directories",
        Effect::Decide => "decide",
        Effect::Save { .. } => "save",
        Effect::Undo => "undo",
        Effect::Clear => "clear",
    }
}

fn answer<S>(effect: &str, event: &str, to: S) -> Answer<S> {
    Answer { effect: effect.to_owned(), event: event.to_owned(), to }
}
