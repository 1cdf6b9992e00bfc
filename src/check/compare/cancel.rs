//! The gate's world in the words of `spec/Cancel.tla`.
//!
//! Lives here: which variables its states are, and which actions its steps.
//! May not live here: either model.

use super::Specified;
use super::value::Value;
use crate::check::phases::cancel::{
    Cancelation, Canceler, Ended, Outcome, Process, Signal, Step, Worker, World,
};
use crate::fsm::cancel::{Cancel, Gate};

impl Specified for Cancelation {
    const MODULE: &'static str = "Cancel";

    fn variables(&self, world: &World) -> Vec<(&'static str, Value)> {
        let gate = match world.gate {
            Gate::Open(_) => "open",
            Gate::Flagged(_) => "flagged",
            Gate::Decided(_) => "decided",
        };
        let running =
            world.gate.running().map(|child| Value::number(child.0 + 1));
        let cancelers = world.cancelers.iter().take(self.cancelers);
        let cancelers = cancelers.enumerate().map(|(number, canceler)| {
            (Value::Name(format!("c{}", number + 1)), reply(*canceler))
        });
        vec![
            ("gate", Value::text(gate)),
            ("running", Value::set(running)),
            ("worker", worker(world.worker)),
            ("child", Value::sequence(world.children.map(process))),
            ("canceler", Value::function(cancelers)),
            ("accepted", Value::Truth(world.accepted)),
            ("failed", Value::Truth(world.failed)),
            ("stray", Value::Truth(world.stray)),
        ]
    }

    fn action(&self, world: &World, step: &Step) -> &'static str {
        match *step {
            Step::Worker => match world.worker {
                Worker::Looking(_) => "Look",
                Worker::Starting(_) => "Start",
                Worker::Registering(_) => "Register",
                Worker::Killing(_) => "Kill",
                Worker::Waiting(_) => "Await",
                Worker::Forgetting(..) => "Forget",
                Worker::Reaping(..) => "Reap",
                Worker::Deciding(_) => "Decide",
                Worker::Publishing => "Publish",
                Worker::Cleaning(_) => "Clean",
                Worker::Over(_) => "-",
            },
            Step::Cancels(_) => "Cancel",
            Step::Canceler(canceler) => match world.cancelers[canceler] {
                Canceler::Idle => "-",
                Canceler::Patient => "Escalate",
                Canceler::Flagging => "FLAG",
                Canceler::Signalling(_) => "SIGNAL",
                Canceler::Replied(_) => "-",
            },
            Step::Obeys(_) => "Obey",
            Step::Ends(..) => "End",
            Step::Wait => "WAIT",
        }
    }
}

/// A word with what belongs to it. Words that the specification does not have
/// are in capitals.
fn tuple<const N: usize>(word: &str, rest: [Value; N]) -> Value {
    Value::sequence(core::iter::once(Value::text(word)).chain(rest))
}

fn worker(worker: Worker) -> Value {
    let at = |child: usize| Value::number(child as u32 + 1);
    match worker {
        Worker::Looking(child) => tuple("look", [at(child)]),
        Worker::Starting(child) => tuple("start", [at(child)]),
        Worker::Registering(child) => tuple("register", [at(child)]),
        Worker::Killing(child) => tuple("kill", [at(child)]),
        Worker::Waiting(child) => tuple("await", [at(child)]),
        Worker::Forgetting(child, end) => {
            tuple("forget", [at(child), ended(end)])
        }
        Worker::Reaping(child, end) => tuple("reap", [at(child), ended(end)]),
        Worker::Deciding(well) => tuple("decide", [Value::Truth(well)]),
        Worker::Publishing => tuple("publish", []),
        Worker::Cleaning(end) => tuple("clean", [outcome(end)]),
        Worker::Over(end) => tuple("over", [outcome(end)]),
    }
}

fn outcome(outcome: Outcome) -> Value {
    Value::text(match outcome {
        Outcome::Done => "done",
        Outcome::Failed => "failed",
        Outcome::Canceled => "canceled",
    })
}

fn ended(ended: Ended) -> Value {
    Value::text(match ended {
        Ended::Good => "good",
        Ended::Bad => "bad",
        Ended::Killed => "killed",
    })
}

fn process(process: Process) -> Value {
    match process {
        Process::Absent => tuple("absent", []),
        Process::Running(signal) => {
            let signal = match signal {
                None => "none",
                Some(Signal::Term) => "term",
                Some(Signal::Kill) => "kill",
            };
            tuple("running", [Value::text(signal)])
        }
        Process::Zombie(end) => tuple("zombie", [ended(end)]),
        Process::Reaped => tuple("reaped", []),
    }
}

fn reply(canceler: Canceler) -> Value {
    match canceler {
        Canceler::Idle => Value::text("idle"),
        Canceler::Patient => Value::text("patient"),
        Canceler::Replied(Cancel::Accepted) => Value::text("accepted"),
        Canceler::Replied(Cancel::Already) => Value::text("already"),
        Canceler::Replied(Cancel::TooLate) => Value::text("toolate"),
        Canceler::Flagging => Value::text("FLAGGING"),
        Canceler::Signalling(children) => {
            tuple("SIGNALLING", [Value::number(children)])
        }
    }
}
