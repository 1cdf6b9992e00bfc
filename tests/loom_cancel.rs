//! The gate behind loom's mutex: a worker, its children, and who cancels.
//!
//! The explorer takes each critical section for one step; here it is a mutex
//! that makes it so, and signals are a table of processes of its own. Every
//! model says which ends its schedules reach: one in which the worker never
//! ends by itself would find nothing wrong with a missing decision.
//!
//! Mutants that only hang are left to the explorer: a deadlock that loom
//! finds while a guard is held aborts the whole test.

#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex as StdMutex, PoisonError};

use loom::sync::{Arc, Condvar, Mutex};
use qubes_fsm::fsm::cancel::{Cancel, Child, Gate};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Mutant {
    Right,
    FlagAfterKill,
    LookThenPublish,
    FailUndecided,
    RecordDropped,
    ReapFirst,
    SignalLater,
    RefusedLeft,
}

/// What a child does when nobody signals it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Life {
    Hangs,
    EndsWell,
    EndsBadly,
    /// A thread of its own lets it fail at any time.
    MayFail,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Process {
    Absent,
    Running,
    Zombie(Ended),
    Reaped,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Ended {
    Good,
    Bad,
    Killed,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Outcome {
    Done,
    Failed,
    Canceled,
}

#[derive(Clone, Copy, Debug)]
struct Model {
    mutant: Mutant,
    lives: [Life; 2],
    cancelers: usize,
    preemptions: Option<usize>,
}

struct Table {
    processes: [Process; 2],
    failed: bool,
    stray: bool,
}

struct Shared {
    model: Model,
    gate: Mutex<Gate>,
    table: Mutex<Table>,
    ended: Condvar,
}

impl Shared {
    fn new(model: Model) -> Self {
        let processes = [Process::Absent; 2];
        let table = Table { processes, failed: false, stray: false };
        Self {
            model,
            gate: Mutex::new(Gate::default()),
            table: Mutex::new(table),
            ended: Condvar::new(),
        }
    }

    fn start(&self, child: usize) {
        let mut table = self.table.lock().unwrap();
        table.processes[child] = match self.model.lives[child] {
            Life::Hangs | Life::MayFail => Process::Running,
            Life::EndsWell => Process::Zombie(Ended::Good),
            Life::EndsBadly => Process::Zombie(Ended::Bad),
        };
        table.failed |= self.model.lives[child] == Life::EndsBadly;
    }

    /// A signal that cannot be ignored.
    fn kill(&self, child: usize) {
        let mut table = self.table.lock().unwrap();
        match table.processes[child] {
            Process::Running => {
                table.processes[child] = Process::Zombie(Ended::Killed);
            }
            Process::Zombie(_) => {}
            Process::Absent | Process::Reaped => table.stray = true,
        }
        self.ended.notify_all();
    }

    fn fail(&self, child: usize) {
        let mut table = self.table.lock().unwrap();
        if table.processes[child] == Process::Running {
            table.processes[child] = Process::Zombie(Ended::Bad);
            table.failed = true;
        }
        self.ended.notify_all();
    }

    fn wait(&self, child: usize) -> Ended {
        let mut table = self.table.lock().unwrap();
        loop {
            if let Process::Zombie(ended) = table.processes[child] {
                return ended;
            }
            table = self.ended.wait(table).unwrap();
        }
    }

    fn reap(&self, child: usize) {
        self.table.lock().unwrap().processes[child] = Process::Reaped;
    }

    fn forget(&self, child: usize) {
        self.gate.lock().unwrap().forget(Child(child as u32));
    }

    fn is(&self, mutant: Mutant) -> bool {
        self.model.mutant == mutant
    }

    /// The working thread, in the order of `fsm::cancel`.
    fn work(&self) -> Outcome {
        for child in 0..2 {
            if self.gate.lock().unwrap().is_canceled() {
                return self.decide(false);
            }
            self.start(child);
            let number = Child(child as u32);
            let registered = self.gate.lock().unwrap().register(number);
            if registered.is_err() {
                if self.is(Mutant::RefusedLeft) {
                    return self.decide(false);
                }
                self.kill(child);
            }
            let ended = self.wait(child);
            if self.is(Mutant::ReapFirst) {
                self.reap(child);
                self.forget(child);
            } else {
                self.forget(child);
                self.reap(child);
            }
            if ended != Ended::Good {
                if self.is(Mutant::RecordDropped) {
                    *self.gate.lock().unwrap() = Gate::default();
                }
                return self.decide(false);
            }
        }
        self.decide(true)
    }

    fn decide(&self, success: bool) -> Outcome {
        let only_looks = if success {
            self.is(Mutant::LookThenPublish)
        } else {
            self.is(Mutant::FailUndecided)
        };
        let mut gate = self.gate.lock().unwrap();
        let canceled = if only_looks {
            gate.is_canceled()
        } else {
            gate.decide().is_err()
        };
        match (canceled, success) {
            (true, _) => Outcome::Canceled,
            (false, true) => Outcome::Done,
            (false, false) => Outcome::Failed,
        }
    }

    /// A canceling thread; whether its cancel was accepted.
    fn cancel(&self) -> bool {
        let mut gate = self.gate.lock().unwrap();
        let running = |gate: &Gate| -> Vec<usize> {
            gate.running().map(|child| child.0 as usize).collect()
        };
        if self.is(Mutant::FlagAfterKill) {
            let all = running(&gate);
            all.into_iter().for_each(|child| self.kill(child));
            drop(gate);
            return self.gate.lock().unwrap().cancel() == Cancel::Accepted;
        }
        let accepted = gate.cancel() == Cancel::Accepted;
        let all = if accepted { running(&gate) } else { Vec::new() };
        if self.is(Mutant::SignalLater) {
            drop(gate);
            all.into_iter().for_each(|child| self.kill(child));
        } else {
            all.into_iter().for_each(|child| self.kill(child));
            drop(gate);
        }
        accepted
    }
}

/// What outlives an execution; loom does not see it.
#[derive(Default)]
struct Log {
    executions: AtomicU64,
    /// Bit n: outcome n was reached.
    outcomes: AtomicU8,
}

fn execute(model: Model, log: &Log) {
    log.executions.fetch_add(1, Ordering::Relaxed);
    let shared = Arc::new(Shared::new(model));
    let cancelers: Vec<_> = (0..model.cancelers)
        .map(|_| {
            let shared = Arc::clone(&shared);
            loom::thread::spawn(move || shared.cancel())
        })
        .collect();
    let fails: Vec<_> = (0..2)
        .filter(|child| model.lives[*child] == Life::MayFail)
        .map(|child| {
            let shared = Arc::clone(&shared);
            loom::thread::spawn(move || shared.fail(child))
        })
        .collect();
    let outcome = shared.work();
    // C2 is about this moment, not about the end of all threads.
    let left = {
        let table = shared.table.lock().unwrap();
        let gone = |p: &Process| matches!(p, Process::Absent | Process::Reaped);
        !table.processes.iter().all(gone)
    };
    let accepted =
        cancelers.into_iter().filter_map(|c| c.join().ok()).filter(|a| *a);
    let accepted = accepted.count();
    fails.into_iter().for_each(|thread| thread.join().unwrap());
    let (failed, stray) = {
        let table = shared.table.lock().unwrap();
        (table.failed, table.stray)
    };
    log.outcomes.fetch_or(1 << outcome as u8, Ordering::Relaxed);
    // No guard is held: loom may end the search here.
    let canceled = outcome == Outcome::Canceled;
    if stray {
        resume_unwind(Box::new("C4"));
    }
    if left {
        resume_unwind(Box::new("C2"));
    }
    if outcome == Outcome::Failed && !failed {
        resume_unwind(Box::new("C3"));
    }
    if canceled != (accepted == 1) || accepted > 1 {
        resume_unwind(Box::new("C1"));
    }
}

/// Executions, which ends they reached, and the property that is violated.
fn run(model: Model) -> (u64, Vec<Outcome>, Option<&'static str>) {
    static ONE_AT_A_TIME: StdMutex<()> = StdMutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = model.preemptions;
    // Without a limit of time, which loom would end well at.
    builder.max_duration = None;
    builder.max_permutations = None;
    builder.max_branches = 10_000;
    builder.log = false;
    let log = std::sync::Arc::new(Log::default());
    let inner = std::sync::Arc::clone(&log);
    let ended = catch_unwind(AssertUnwindSafe(|| {
        builder.check(move || execute(model, &inner));
    }));
    let violated = ended
        .err()
        .map(|panic| *panic.downcast_ref::<&str>().unwrap_or(&"loom stopped"));
    let reached = log.outcomes.load(Ordering::Relaxed);
    let outcomes = [Outcome::Done, Outcome::Failed, Outcome::Canceled];
    let outcomes = outcomes
        .into_iter()
        .filter(|outcome| reached & (1 << *outcome as u8) != 0)
        .collect();
    (log.executions.load(Ordering::Relaxed), outcomes, violated)
}

fn model(mutant: Mutant, lives: [Life; 2]) -> Model {
    Model { mutant, lives, cancelers: 1, preemptions: None }
}

const PAIRS: [([Life; 2], &[Outcome]); 4] = [
    ([Life::Hangs, Life::Hangs], &[Outcome::Canceled]),
    ([Life::EndsWell, Life::Hangs], &[Outcome::Canceled]),
    ([Life::EndsWell, Life::EndsWell], &[Outcome::Done, Outcome::Canceled]),
    ([Life::EndsWell, Life::EndsBadly], &[Outcome::Failed, Outcome::Canceled]),
];

/// Worker and canceler, every schedule, no bound.
#[test]
fn the_gate_holds_in_every_schedule_of_two_threads() {
    for (lives, wanted) in PAIRS {
        let (executions, outcomes, violated) = run(model(Mutant::Right, lives));
        println!("{lives:?}: {executions} executions");
        assert_eq!(violated, None, "{lives:?}");
        assert_eq!(outcomes, wanted, "{lives:?}");
        assert!(executions > 20, "{lives:?}: {executions} are too few");
    }
}

/// A child that fails at any moment, and a second canceler: two preemptions.
#[test]
fn the_gate_holds_for_more_threads_within_two_preemptions() {
    let all = [Outcome::Failed, Outcome::Canceled];
    for (lives, cancelers) in [
        ([Life::MayFail, Life::Hangs], 1),
        ([Life::MayFail, Life::EndsWell], 2),
        ([Life::EndsWell, Life::MayFail], 2),
    ] {
        let base = model(Mutant::Right, lives);
        let once = run(Model { cancelers, preemptions: Some(1), ..base });
        let twice = run(Model { cancelers, preemptions: Some(2), ..base });
        println!("{lives:?}, {cancelers}: {} executions", twice.0);
        assert_eq!(twice.2, None, "{lives:?}");
        assert_eq!(twice.1, all, "{lives:?}");
        assert!(once.0 < twice.0, "{lives:?}");
    }
}

#[test]
fn mutants_of_the_gate_are_found() {
    let [hang, late, good, bad] = PAIRS.map(|(lives, _)| lives);
    for (mutant, lives, wanted) in [
        (Mutant::FlagAfterKill, hang, "C3"),
        (Mutant::LookThenPublish, good, "C1"),
        (Mutant::FailUndecided, bad, "C1"),
        (Mutant::RecordDropped, hang, "C3"),
        (Mutant::ReapFirst, late, "C4"),
        (Mutant::SignalLater, late, "C4"),
        (Mutant::RefusedLeft, hang, "C2"),
    ] {
        let (executions, _, violated) = run(model(mutant, lives));
        println!("{mutant:?}: {executions} executions");
        assert_eq!(violated, Some(wanted), "{mutant:?}");
    }
}

/// The twin is what this is about: a worker that never comes to an end of
/// its own finds nothing wrong without a decision.
#[test]
fn a_model_without_its_own_ends_is_blind() {
    let [hang, ..] = PAIRS.map(|(lives, _)| lives);
    for mutant in [Mutant::LookThenPublish, Mutant::FailUndecided] {
        let (_, outcomes, violated) = run(model(mutant, hang));
        assert_eq!(violated, None, "{mutant:?}");
        assert_eq!(outcomes, [Outcome::Canceled], "{mutant:?}");
    }
}
