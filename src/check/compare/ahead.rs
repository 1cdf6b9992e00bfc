//! The world of hashing ahead in the words of `spec/Ahead.tla`.
//!
//! Lives here: which variables its states are, and which actions its steps.
//! May not live here: either model.

use super::Specified;
use super::value::Value;
use crate::check::phases::ahead::{End, Pool, World};
use crate::fsm::ahead::{Event, Slot, SourceEnd, Verdict};

impl Specified for Pool {
    const MODULE: &'static str = "Ahead";

    fn variables(&self, world: &World) -> Vec<(&'static str, Value)> {
        let bad = (0..self.chunks).filter(|n| world.bad & (1 << n) != 0);
        let decoding = world.decoding.map(Value::number);
        let source = world.ahead.source().map(|end| {
            Value::text(match end {
                SourceEnd::Clean => "clean",
                SourceEnd::Failed => "failed",
            })
        });
        let mut variables = vec![
            ("bad", Value::set(bad.map(Value::number))),
            ("fails", Value::number(world.fails_at)),
            ("slots", Value::sequence(world.ahead.slots().iter().map(slot))),
            ("next", Value::number(world.ahead.read())),
            ("source", Value::sequence(source)),
            ("decoding", Value::sequence(decoding)),
            // Each in its turn, or a verdict was wrong.
            (
                "released",
                Value::sequence((0..world.released).map(Value::number)),
            ),
            ("end", world.end.map_or_else(|| Value::sequence([]), end)),
        ];
        // What goes without saying while nothing is wrong.
        let stopped = world.ahead.is_stopped() == world.end.is_some();
        let turn = world.ahead.taken() == world.released;
        if world.wrong || !stopped || !turn {
            variables.push(("WRONG", Value::Truth(world.wrong)));
        }
        if world.no_row {
            variables.push(("NO_ROW", Value::Truth(true)));
        }
        variables
    }

    fn action(&self, _: &World, event: &Event) -> &'static str {
        match event {
            Event::Read(_) => "Read",
            Event::Ended(_) => "SourceEnds",
            Event::Finished(..) => "Finish",
            Event::Take => "Take",
            Event::Freed(_) => "Decoded",
            Event::Stop => "Stop",
        }
    }
}

/// A word with what belongs to it.
fn tuple<const N: usize>(word: &str, rest: [Value; N]) -> Value {
    Value::sequence(core::iter::once(Value::text(word)).chain(rest))
}

fn slot(slot: &Slot) -> Value {
    match *slot {
        Slot::Free => tuple("free", []),
        Slot::Busy(n) => tuple("busy", [Value::number(n)]),
        Slot::Done(n, verdict) => {
            let good = Value::Truth(verdict == Verdict::Good);
            tuple("done", [Value::number(n), good])
        }
        Slot::Out(n) => tuple("out", [Value::number(n)]),
    }
}

fn end(end: End) -> Value {
    match end {
        End::Done => tuple("done", []),
        End::Bad(n) => tuple("bad", [Value::number(n)]),
        End::Source => tuple("source", []),
    }
}
