//! The world of `fsm::cancel`: a worker with children, and who cancels it.
//!
//! Lives here: the order of calls of the working thread, processes and their
//! signals, C1 to C4. May not live here: the gate. Only here its critical
//! sections are single steps; that a mutex makes them so is loom's part.

use super::ENDS;
use crate::check::liveness::UNFAIR;
use crate::check::{Model, Property};
use crate::fsm::cancel::{Cancel, Child, Gate};

/// Children that there is room for.
pub const CHILDREN: usize = 2;
/// Canceling threads that there is room for.
pub const CANCELERS: usize = 2;

/// A worker with children, one after the other, and those who cancel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cancelation {
    /// Canceling threads, at most [`CANCELERS`].
    pub cancelers: usize,
    /// Children do not end on TERM.
    pub stubborn: bool,
    /// [`Mutant::Right`], or what is done wrong around the gate.
    pub mutant: Mutant,
}

/// What is done wrong around the gate. 2014: core-admin f4194c9d, 0cd8281a.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Mutant {
    /// Nothing.
    Right,
    /// Signals go out without the mutex, then the flag is set; nobody
    /// escalates (2014).
    FlagAfterKill,
    /// Look at the flag, start, register without looking again (2014).
    RegisterBlind,
    /// The second child is never registered (2014).
    SecondUnregistered,
    /// A flag and no signals.
    FlagOnly,
    /// Look, then publish: nothing is decided.
    LookThenPublish,
    /// A failure is reported without a decision.
    FailUndecided,
    /// The record is dropped on the way out of a failure, then asked (2014).
    RecordDropped,
    /// A child is reaped before it is forgotten.
    ReapFirst,
    /// Signals go by process id after the mutex is released.
    SignalLater,
    /// The same with pidfds: no error, since a pidfd never names another.
    SignalLaterByPidfd,
    /// A refused child is left running.
    RefusedLeft,
    /// A second cancel signals again, outside the mutex.
    SecondSignals,
    /// TERM is never followed by KILL.
    TermOnly,
}

/// Gate, worker, processes, cancelers.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct World {
    /// The gate.
    pub gate: Gate,
    /// The working thread.
    pub worker: Worker,
    /// Its children.
    pub children: [Process; CHILDREN],
    /// Who cancels.
    pub cancelers: [Canceler; CANCELERS],
    /// A cancel was accepted.
    pub accepted: bool,
    /// A child failed by itself.
    pub failed: bool,
    /// A signal went to a process that is not ours.
    pub stray: bool,
}

/// Where the working thread is, and with which child.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Worker {
    /// Before it looks at the flag.
    Looking(usize),
    /// Before the start.
    Starting(usize),
    /// Before it registers.
    Registering(usize),
    /// Refused: before it ends the child itself.
    Killing(usize),
    /// It waits for the end.
    Waiting(usize),
    /// Before it forgets.
    Forgetting(usize, Ended),
    /// Before it reaps.
    Reaping(usize, Ended),
    /// Before it decides, for success or not.
    Deciding(bool),
    /// Before it publishes.
    Publishing,
    /// Before it cleans up.
    Cleaning(Outcome),
    /// The end.
    Over(Outcome),
}

/// How the worker ended.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Outcome {
    /// Published.
    Done,
    /// Reported as failed.
    Failed,
    /// Reported as canceled.
    Canceled,
}

/// A process of ours.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Process {
    /// Not started.
    Absent,
    /// Running, with the signal that it got.
    Running(Option<Signal>),
    /// Ended and not reaped.
    Zombie(Ended),
    /// Its number may be anybody's.
    Reaped,
}

/// Signals to children.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Signal {
    /// A child may ignore it.
    Term,
    /// It may not.
    Kill,
}

/// How a child ended.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Ended {
    /// Well, by itself.
    Good,
    /// Badly, by itself.
    Bad,
    /// By a signal.
    Killed,
}

/// A thread that cancels.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Canceler {
    /// Nobody asked for a cancel yet.
    Idle,
    /// It has killed, and will set the flag.
    Flagging,
    /// It has released the mutex; bit n: child n is to be signalled.
    Signalling(u8),
    /// It waits two seconds, then sends KILL.
    Patient,
    /// The user was told.
    Replied(Cancel),
}

/// Who took a step.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// The working thread.
    Worker,
    /// This canceling thread begins: nobody must.
    Cancels(usize),
    /// This canceling thread goes on.
    Canceler(usize),
    /// This child ended because of a signal.
    Obeys(usize),
    /// This child ended by itself: it need not.
    Ends(usize, Ended),
    /// Nothing, for ever: only an unfair step could go on.
    Wait,
}

impl Cancelation {
    /// So many cancelers, children that end on TERM, nothing done wrong.
    pub fn new(cancelers: usize) -> Self {
        Self { cancelers, stubborn: false, mutant: Mutant::Right }
    }

    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == mutant
    }

    /// One step of the working thread, unless it waits or is over.
    fn work(&self, world: &World) -> Option<World> {
        let mut next = world.clone();
        next.worker = match world.worker {
            Worker::Looking(child) if child == CHILDREN => {
                Worker::Deciding(true)
            }
            Worker::Looking(_) if world.gate.is_canceled() => {
                Worker::Deciding(false)
            }
            Worker::Looking(child) => Worker::Starting(child),
            Worker::Starting(child) => {
                next.children[child] = Process::Running(None);
                if child == 1 && self.is(Mutant::SecondUnregistered) {
                    Worker::Waiting(child)
                } else {
                    Worker::Registering(child)
                }
            }
            Worker::Registering(child) => {
                match next.gate.register(Child(child as u32)) {
                    Ok(()) => Worker::Waiting(child),
                    Err(_) if self.is(Mutant::RegisterBlind) => {
                        Worker::Waiting(child)
                    }
                    Err(_) if self.is(Mutant::RefusedLeft) => {
                        Worker::Deciding(false)
                    }
                    Err(_) => Worker::Killing(child),
                }
            }
            Worker::Killing(child) => {
                self.signal(&mut next, child, Signal::Kill);
                Worker::Waiting(child)
            }
            Worker::Waiting(child) => match world.children[child] {
                Process::Zombie(ended) if self.is(Mutant::ReapFirst) => {
                    Worker::Reaping(child, ended)
                }
                Process::Zombie(ended) => Worker::Forgetting(child, ended),
                Process::Absent | Process::Running(_) | Process::Reaped => {
                    return None;
                }
            },
            Worker::Forgetting(child, ended) => {
                next.gate.forget(Child(child as u32));
                if self.is(Mutant::ReapFirst) {
                    Self::after(child, ended)
                } else {
                    Worker::Reaping(child, ended)
                }
            }
            Worker::Reaping(child, ended) => {
                next.children[child] = Process::Reaped;
                if self.is(Mutant::ReapFirst) {
                    Worker::Forgetting(child, ended)
                } else {
                    if self.is(Mutant::RecordDropped) && ended != Ended::Good {
                        next.gate = Gate::default();
                    }
                    Self::after(child, ended)
                }
            }
            Worker::Deciding(success) => self.decide(&mut next.gate, success),
            Worker::Publishing => Worker::Over(Outcome::Done),
            Worker::Cleaning(outcome) => Worker::Over(outcome),
            Worker::Over(_) => return None,
        };
        Some(next)
    }

    fn after(child: usize, ended: Ended) -> Worker {
        match ended {
            Ended::Good => Worker::Looking(child + 1),
            Ended::Bad | Ended::Killed => Worker::Deciding(false),
        }
    }

    fn decide(&self, gate: &mut Gate, success: bool) -> Worker {
        let only_looks = if success {
            self.is(Mutant::LookThenPublish)
        } else {
            self.is(Mutant::FailUndecided)
        };
        let canceled = if only_looks {
            gate.is_canceled()
        } else {
            gate.decide().is_err()
        };
        match (canceled, success) {
            (true, _) => Worker::Cleaning(Outcome::Canceled),
            (false, true) => Worker::Publishing,
            (false, false) => Worker::Cleaning(Outcome::Failed),
        }
    }

    /// One step of a canceling thread.
    fn cancel(&self, world: &World, canceler: usize) -> Option<World> {
        let mut next = world.clone();
        next.cancelers[canceler] = match world.cancelers[canceler] {
            Canceler::Idle if self.is(Mutant::FlagAfterKill) => {
                Canceler::Signalling(running(&next.gate))
            }
            // It says so whatever the worker has come to meanwhile.
            Canceler::Flagging => {
                next.gate.cancel();
                next.accepted = true;
                Canceler::Replied(Cancel::Accepted)
            }
            Canceler::Idle => {
                let reply = next.gate.cancel();
                next.accepted |= reply == Cancel::Accepted;
                self.replied(&mut next, reply)
            }
            Canceler::Signalling(0) if self.is(Mutant::FlagAfterKill) => {
                Canceler::Flagging
            }
            Canceler::Signalling(0) => Canceler::Replied(Cancel::Accepted),
            Canceler::Signalling(children) => {
                let child = children.trailing_zeros() as usize;
                self.signal(&mut next, child, Signal::Kill);
                Canceler::Signalling(children & (children - 1))
            }
            Canceler::Patient => {
                self.signal_running(&mut next, Signal::Kill);
                Canceler::Replied(Cancel::Accepted)
            }
            Canceler::Replied(_) => return None,
        };
        Some(next)
    }

    fn replied(&self, next: &mut World, reply: Cancel) -> Canceler {
        match (reply, self.mutant) {
            (
                Cancel::Accepted,
                Mutant::SignalLater | Mutant::SignalLaterByPidfd,
            )
            | (Cancel::Already, Mutant::SecondSignals) => {
                Canceler::Signalling(running(&next.gate))
            }
            (Cancel::Accepted, Mutant::FlagOnly) => Canceler::Replied(reply),
            (Cancel::Accepted, Mutant::RegisterBlind | Mutant::TermOnly) => {
                self.signal_running(next, Signal::Term);
                Canceler::Replied(reply)
            }
            (Cancel::Accepted, _) => {
                self.signal_running(next, Signal::Term);
                Canceler::Patient
            }
            (Cancel::Already | Cancel::TooLate, _) => Canceler::Replied(reply),
        }
    }

    fn signal_running(&self, next: &mut World, signal: Signal) {
        let running: Vec<Child> = next.gate.running().collect();
        for child in running {
            self.signal(next, child.0 as usize, signal);
        }
    }

    fn signal(&self, next: &mut World, child: usize, signal: Signal) {
        match &mut next.children[child] {
            Process::Running(got) => *got = (*got).max(Some(signal)),
            Process::Zombie(_) => {}
            Process::Absent | Process::Reaped => {
                next.stray |= !self.is(Mutant::SignalLaterByPidfd);
            }
        }
    }

    /// What children do: obeying is fair, ending by itself is not.
    fn live(&self, world: &World, steps: &mut Vec<(Step, World)>) {
        for child in 0..CHILDREN {
            let Process::Running(signal) = world.children[child] else {
                continue;
            };
            let mut end = |step, ended| {
                let mut next = world.clone();
                next.children[child] = Process::Zombie(ended);
                next.failed |= ended == Ended::Bad;
                steps.push((step, next));
            };
            let obeys = match signal {
                None => false,
                Some(Signal::Term) => !self.stubborn,
                Some(Signal::Kill) => true,
            };
            if obeys {
                end(Step::Obeys(child), Ended::Killed);
            }
            for ended in [Ended::Good, Ended::Bad] {
                end(Step::Ends(child, ended), ended);
            }
        }
    }

    fn outcome(world: &World) -> Option<Outcome> {
        match world.worker {
            Worker::Over(outcome) => Some(outcome),
            Worker::Looking(_)
            | Worker::Starting(_)
            | Worker::Registering(_)
            | Worker::Killing(_)
            | Worker::Waiting(_)
            | Worker::Forgetting(..)
            | Worker::Reaping(..)
            | Worker::Deciding(_)
            | Worker::Publishing
            | Worker::Cleaning(_) => None,
        }
    }

    /// Without a cancel a child may run as long as it likes. Once one was
    /// accepted the end must come, even if no child ends by itself.
    fn ends(&self, world: &World) -> bool {
        let runs = |p: &Process| matches!(p, Process::Running(_));
        Self::outcome(world).is_some()
            || (!world.accepted && world.children.iter().any(runs))
    }

    fn exact(&self, world: &World) -> bool {
        Self::outcome(world)
            .is_none_or(|end| (end == Outcome::Canceled) == world.accepted)
    }

    fn nobody_runs(&self, world: &World) -> bool {
        let gone = |p: &Process| matches!(p, Process::Absent | Process::Reaped);
        Self::outcome(world).is_none() || world.children.iter().all(gone)
    }

    fn own_failure(&self, world: &World) -> bool {
        Self::outcome(world) != Some(Outcome::Failed) || world.failed
    }
}

/// Bit n: child n is registered.
fn running(gate: &Gate) -> u8 {
    gate.running().fold(0, |set, child| set | 1 << child.0)
}

/// Name of C1.
//= spec/phases.md#c1-canceled-iff-accepted
pub const C1: &str = "C1 canceled iff accepted";
/// Name of C2.
//= spec/phases.md#c2-at-an-end-no-child-is-left
pub const C2: &str = "C2 at an end no child is left";
/// Name of C3.
//= spec/phases.md#c3-failed-only-by-itself
pub const C3: &str = "C3 failed only by itself";
/// Name of C4.
//= spec/phases.md#c4-no-signal-to-others
pub const C4: &str = "C4 no signal to others";

impl Model for Cancelation {
    type State = World;
    type Step = Step;

    fn initial(&self) -> Vec<World> {
        vec![World {
            gate: Gate::default(),
            worker: Worker::Looking(0),
            children: [Process::Absent; CHILDREN],
            cancelers: [Canceler::Idle; CANCELERS],
            accepted: false,
            failed: false,
            stray: false,
        }]
    }

    fn steps(&self, world: &World, steps: &mut Vec<(Step, World)>) {
        steps.extend(self.work(world).map(|next| (Step::Worker, next)));
        self.live(world, steps);
        for canceler in 0..self.cancelers {
            let idle = world.cancelers[canceler] == Canceler::Idle;
            let step = if idle { Step::Cancels } else { Step::Canceler };
            let next = self.cancel(world, canceler);
            steps.extend(next.map(|next| (step(canceler), next)));
        }
        let fair = |(step, _): &(Step, World)| self.actor(step) != UNFAIR;
        let running = Self::outcome(world).is_none();
        if world.accepted && running && !steps.iter().any(fair) {
            steps.push((Step::Wait, world.clone()));
        }
    }

    fn is_end(&self, world: &World) -> bool {
        Self::outcome(world).is_some()
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(C1, Self::exact),
            Property::always(C2, Self::nobody_runs),
            Property::always(C3, Self::own_failure),
            Property::always(C4, |_, world: &World| !world.stray),
            Property::eventually(ENDS, Self::ends),
        ];
        // Twins: states in which the above could have failed.
        let twins: [(&str, crate::check::Test<Self>); 5] = [
            ("it is done", |_, world| {
                Self::outcome(world) == Some(Outcome::Done)
            }),
            ("it failed by itself", |_, world| {
                Self::outcome(world) == Some(Outcome::Failed)
            }),
            ("it is canceled", |_, world| {
                Self::outcome(world) == Some(Outcome::Canceled)
            }),
            ("a cancel comes too late", |_, world| {
                world.cancelers.contains(&Canceler::Replied(Cancel::TooLate))
            }),
            ("a child is refused", |_, world| {
                matches!(world.worker, Worker::Killing(_))
            }),
        ];
        properties.extend(
            twins
                .into_iter()
                .map(|(name, test)| Property::sometimes(name, test)),
        );
        properties
    }

    fn actor(&self, step: &Step) -> usize {
        match *step {
            Step::Worker | Step::Wait => 0,
            Step::Canceler(canceler) => 1 + canceler,
            Step::Obeys(child) => 1 + CANCELERS + child,
            Step::Cancels(_) | Step::Ends(..) => UNFAIR,
        }
    }
}
