//! The world of reading a backup in the words of `spec/Restore.tla`.
//!
//! Lives here: which variables its states are, and which actions its steps.
//! May not live here: either model.

use super::Specified;
use super::value::Value;
use crate::check::phases::archive::{Content, Decoder, NAMES, Spot};
use crate::check::phases::restore::{
    Chunk, Edit, Fate, Reading, Step, World, Wrong,
};
use crate::fsm::cancel::Gate;
use crate::fsm::restore::{
    At, Cause, Ctx, Effect, End, Event, Failure, Lead, Next, State,
};

impl Specified for Reading {
    const MODULE: &'static str = "Restore";

    fn variables(&self, world: &World) -> Vec<(&'static str, Value)> {
        let gate = match world.gate {
            Gate::Open(_) => "open",
            Gate::Flagged(_) => "flagged",
            Gate::Decided(_) => "decided",
        };
        let names = (0..NAMES as u16).filter_map(|n| world.numbers.given(n));
        let mut variables = vec![
            ("st", state(world.state)),
            ("gate", Value::text(gate)),
            ("accepted", Value::Truth(world.accepted)),
            ("place", Value::number(world.place)),
            ("edits", Value::number(world.edits)),
            ("faults", Value::number(world.faults)),
            ("numbers", Value::sequence(names.map(Value::number))),
            ("chunk", option(world.chunk.map(chunk))),
            ("header", Value::Truth(world.header)),
            ("decoder", decoder(world.decoder)),
            ("fates", Value::sequence(world.fates.map(fate))),
            ("wrong", wrong(world.wrong)),
        ];
        // Names are noted for R9 alone: the specification does not.
        if self.names {
            let canon = format!("{:?}", world.canon);
            variables.push(("CANON", Value::Text(canon)));
        }
        if world.no_row {
            variables.push(("NO_ROW", Value::Truth(true)));
        }
        variables
    }

    fn action(&self, _: &World, step: &Step) -> &'static str {
        match *step {
            Step::Cancel => "Cancel",
            Step::Edit(Edit::Jump(_), _) => "Jump",
            Step::Edit(Edit::Content(_), _) => "Content",
            Step::Edit(Edit::Name(_), _) => "Name",
            Step::Answer(_, Event::Canceled) => "Canceled",
            Step::Answer(_, Event::Failed(Failure(0))) => "Fault",
            Step::Answer(effect, _) => match effect {
                Effect::Next => "Member",
                Effect::VerifyLead(..) => "Guess",
                Effect::Parse => "Parse",
                Effect::Verify(..) => "VerifyMac",
                Effect::Release(..) => "Release",
                Effect::Finish(_) => "Finish",
                Effect::Publish(_) => "Publish",
                Effect::Drop(_) => "Drop",
                Effect::Count { .. } => "Count",
                Effect::Bind => "Bind",
                Effect::Decide => "Decide",
                Effect::Rename(_) => "Rename",
                Effect::Stop => "Stop",
            },
        }
    }
}

/// A word with what belongs to it.
fn tuple<const N: usize>(word: &str, rest: [Value; N]) -> Value {
    Value::sequence(core::iter::once(Value::text(word)).chain(rest))
}

/// A sequence of one, or of none.
fn option(value: Option<Value>) -> Value {
    Value::sequence(value)
}

fn state(state: State) -> Value {
    let lead = |lead| {
        Value::text(match lead {
            Lead::Header => "header",
            Lead::Chunk => "chunk",
        })
    };
    let digest = |digest: u8| Value::number(digest);
    match state {
        State::First => tuple("first", []),
        State::FirstMac(l) => tuple("firstmac", [lead(l)]),
        State::Guessing(l, d) => tuple("guess", [lead(l), digest(d)]),
        State::Parsing(d) => tuple("parse", [digest(d)]),
        State::Data(c) => tuple("data", [ctx(c)]),
        State::Mac(c, a) => tuple("mac", [ctx(c), at(a)]),
        State::Verifying(c, a) => tuple("verify", [ctx(c), at(a)]),
        State::Releasing(c, a) => tuple("release", [ctx(c), at(a)]),
        State::Finishing(c, n) => tuple("finish", [ctx(c), next(n)]),
        State::Publishing(c, n) => tuple("publish", [ctx(c), next(n)]),
        State::Dropping(c, n) => tuple("drop", [ctx(c), next(n)]),
        State::Counting(c) => tuple("count", [ctx(c)]),
        State::Binding(c) => tuple("bind", [ctx(c)]),
        State::Deciding(e, held) => {
            tuple("decide", [end(e), Value::number(held)])
        }
        State::Renaming(e, n, held) => {
            tuple("rename", [end(e), Value::number(n), Value::number(held)])
        }
        State::Stopping(e) => tuple("stop", [end(e)]),
        State::Over(e) => tuple("over", [end(e)]),
    }
}

fn ctx(c: Ctx) -> Value {
    let last = c.at.map_or_else(|| Value::sequence([]), at);
    Value::record([
        ("digest", Value::number(c.digest)),
        ("at", last),
        ("opened", Value::number(c.opened)),
        ("lost", Value::number(c.lost)),
        ("ready", Value::number(c.ready)),
        ("losing", Value::Truth(c.losing)),
        ("headerless", Value::Truth(c.headerless)),
    ])
}

fn at(at: At) -> Value {
    Value::sequence([Value::number(at.file), Value::number(at.chunk)])
}

fn next(next: Next) -> Value {
    match next {
        Next::Member => tuple("member", []),
        Next::File(a) => tuple("file", [at(a)]),
        Next::End => tuple("end", []),
    }
}

fn end(end: End) -> Value {
    match end {
        End::Done => tuple("done", []),
        End::Omitted { headerless, lost } => {
            let headerless = option(headerless.map(Value::number));
            tuple("omitted", [headerless, Value::number(lost)])
        }
        End::Failed(c) => tuple("failed", [cause(c)]),
        End::Canceled(c) => {
            let seen = c.map_or_else(|| Value::sequence([]), cause);
            tuple("canceled", [seen])
        }
    }
}

fn cause(cause: Cause) -> Value {
    match cause {
        Cause::Truncated => tuple("truncated", []),
        Cause::Sequence => tuple("sequence", []),
        Cause::Passphrase => tuple("passphrase", []),
        Cause::Header => tuple("header", []),
        Cause::Mac(a) => tuple("mac", [at(a)]),
        Cause::Missing => tuple("missing", []),
        Cause::Binding => tuple("binding", []),
        Cause::Failed(Failure(0)) => tuple("call", []),
        Cause::Failed(Failure(1)) => tuple("decoder", []),
        Cause::Failed(Failure(n)) => tuple("FAILED", [Value::number(n)]),
    }
}

fn spot(spot: Spot) -> Value {
    Value::sequence([Value::number(spot.name), Value::number(spot.chunk)])
}

fn content(content: Content) -> Value {
    match content {
        Content::This(s) => tuple("this", [spot(s)]),
        Content::Older(s) => tuple("older", [spot(s)]),
        Content::Forged => tuple("forged", []),
    }
}

fn chunk(chunk: Chunk) -> Value {
    Value::record([
        ("name", spot(chunk.name)),
        ("content", content(chunk.content)),
        ("place", Value::number(chunk.place)),
        ("fits", Value::Truth(chunk.fits)),
        ("verified", Value::Truth(chunk.verified)),
    ])
}

fn decoder(decoder: Decoder) -> Value {
    option(decoder.fed().map(|fed| {
        Value::record([
            ("begun", content(fed.begun)),
            ("count", Value::number(fed.count)),
            ("ended", Value::Truth(fed.ended)),
            ("even", Value::Truth(fed.even)),
            ("forged", Value::Truth(fed.forged)),
        ])
    }))
}

fn fate(fate: Fate) -> Value {
    match fate {
        Fate::Absent => tuple("absent", []),
        Fate::Writing => tuple("writing", []),
        Fate::Ready { whole, exact } => {
            tuple("ready", [Value::Truth(whole), Value::Truth(exact)])
        }
        Fate::Published => tuple("published", []),
        Fate::Lost => tuple("lost", []),
    }
}

fn wrong(wrong: Wrong) -> Value {
    let all = [
        ("early", wrong.early),
        ("torn", wrong.torn),
        ("other", wrong.other),
        ("index", wrong.other_index),
    ];
    let found = all.into_iter().filter(|(_, found)| *found);
    Value::set(found.map(|(name, _)| Value::text(name)))
}
