//! The world of a source of members in the words of `spec/Members.tla`.
//!
//! Lives here: which variables its states are, and which actions its steps.
//! May not live here: either model.

use super::Specified;
use super::value::Value;
use crate::check::phases::members::{Source, Step, World};
use crate::fsm::members::{Event, Member, State, Then};

impl Specified for Source {
    const MODULE: &'static str = "Members";

    fn variables(&self, world: &World) -> Vec<(&'static str, Value)> {
        let ended = match world.ended {
            None => "no",
            Some(true) => "well",
            Some(false) => "badly",
        };
        let mut variables = vec![
            ("st", state(world.machine.state)),
            ("begun", Value::number(world.begun)),
            ("whole", Value::number(world.whole)),
            ("read", Value::number(world.read)),
            ("given", Value::number(world.given)),
            ("ended", Value::text(ended)),
            ("half", Value::Truth(world.half)),
            ("wrong", Value::Truth(world.wrong)),
        ];
        // In capitals what the specification does not have.
        if world.no_row {
            variables.push(("NO_ROW", Value::Truth(true)));
        }
        variables
    }

    fn action(&self, _: &World, step: &Step) -> &'static str {
        match step {
            Step::Begin => "Begin",
            Step::Complete => "Complete",
            Step::Exit => "Exit",
            Step::Die => "Die",
            Step::Answer(Event::Named(_) | Event::End { .. }) => "Ask",
            Step::Answer(Event::Given) => "Give",
            Step::Wait => "WAIT",
        }
    }
}

fn state(state: State) -> Value {
    match state {
        State::Asking(held) => {
            tuple("ask", [Value::sequence(held.map(member))])
        }
        State::Giving(given, follows) => {
            tuple("give", [member(given), then(follows)])
        }
        State::Over { clean } => tuple("over", [Value::Truth(clean)]),
    }
}

fn then(then: Then) -> Value {
    match then {
        Then::Ask => tuple("ask", []),
        Then::Hold(name) => tuple("hold", [member(name)]),
        Then::End => tuple("end", []),
    }
}

fn member(member: Member) -> Value {
    Value::number(member.0)
}

/// A word with what belongs to it.
fn tuple<const N: usize>(word: &str, rest: [Value; N]) -> Value {
    Value::sequence(core::iter::once(Value::text(word)).chain(rest))
}
