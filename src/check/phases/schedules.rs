//! The gate behind loom's mutex: a worker, its children, and who cancels.
//!
//! Lives here: threads of the working and the canceling side, in the order
//! that `fsm::cancel` tells, and a table of processes. May not live here: the
//! gate, which is that of every driver.
//!
//! The explorer takes each critical section for one step; here it is a mutex
//! that makes it so. Each model says which ends its schedules reach: one in
//! which the worker never ends by itself finds nothing wrong with a missing
//! decision. Mutants that only hang are left to the explorer: a deadlock that
//! loom finds while a guard is held aborts the process.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use loom::sync::{Arc, Condvar, Mutex, MutexGuard};

use super::cancel::{C1, C2, C3, C4, CHILDREN, Ended, Mutant, Outcome};
use crate::check::Coverage;
use crate::check::interleave::LOOKED_AT;
use crate::fsm::cancel::{Cancel, Child, Gate};

/// A worker with two children, and those who cancel, each on a thread.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Schedules {
    /// What is done wrong; those that only hang must not be run here.
    pub mutant: Mutant,
    /// What each child does.
    pub lives: [Life; CHILDREN],
    /// Canceling threads.
    pub cancelers: usize,
    /// How often a thread may be interrupted that could go on; `None`: as
    /// often as possible.
    pub preemptions: Option<usize>,
}

/// What a child does when nobody signals it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Life {
    /// It never ends.
    Hangs,
    /// It ends well, at once.
    EndsWell,
    /// It ends badly, at once.
    EndsBadly,
    /// A thread of its own lets it fail at any time.
    MayFail,
}

/// What loom found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Scheduled {
    /// Schedules that were run.
    pub executions: u64,
    /// Wall time.
    pub elapsed: Duration,
    /// Exhaustive without a bound, bounded with one, or cut.
    pub coverage: Coverage,
    /// Which ends were reached.
    pub outcomes: Vec<Outcome>,
    /// The property that the last schedule violates, or loom's own words.
    pub violated: Option<String>,
}

/// The lives that a worker and one canceler are checked with, all schedules
/// each, and the ends that these must reach.
pub const PAIRS: [([Life; CHILDREN], &[Outcome]); 4] = [
    ([Life::Hangs, Life::Hangs], &[Outcome::Canceled]),
    ([Life::EndsWell, Life::Hangs], &[Outcome::Canceled]),
    ([Life::EndsWell, Life::EndsWell], &[Outcome::Done, Outcome::Canceled]),
    ([Life::EndsWell, Life::EndsBadly], &[Outcome::Failed, Outcome::Canceled]),
];

impl Schedules {
    /// One canceler, no bound.
    pub fn new(mutant: Mutant, lives: [Life; CHILDREN]) -> Self {
        Self { mutant, lives, cancelers: 1, preemptions: None }
    }

    /// Runs every schedule within the bounds, until one violates a property
    /// or `time_max` is over.
    pub fn run(self, time_max: Duration) -> Scheduled {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = self.preemptions;
        builder.max_duration = Some(time_max);
        builder.checkpoint_interval = LOOKED_AT;
        builder.max_permutations = None;
        builder.max_branches = 10_000;
        builder.log = false;
        let log = std::sync::Arc::new(Log::default());
        let inner = std::sync::Arc::clone(&log);
        let started = Instant::now();
        let ended = catch_unwind(AssertUnwindSafe(|| {
            builder.check(move || execute(self, &inner));
        }));
        let elapsed = started.elapsed();
        let violated = ended.err().map(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text
                .or_else(|| panic.downcast_ref::<&str>().map(|&t| t.into()));
            text.unwrap_or_else(|| "loom stopped".to_owned())
        });
        // loom itself says nothing when the time is over.
        let coverage = match (self.preemptions, &violated) {
            (_, None) if elapsed >= time_max => Coverage::Cut,
            (None, None) => Coverage::Exhaustive,
            (Some(_), None) | (_, Some(_)) => Coverage::Bounded,
        };
        let reached = log.outcomes.load(Ordering::Relaxed);
        let outcomes = [Outcome::Done, Outcome::Failed, Outcome::Canceled];
        let outcomes = outcomes
            .into_iter()
            .filter(|outcome| reached & (1 << *outcome as u8) != 0)
            .collect();
        let executions = log.executions.load(Ordering::Relaxed);
        Scheduled { executions, elapsed, coverage, outcomes, violated }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Process {
    Absent,
    Running,
    Zombie(Ended),
    Reaped,
}

struct Table {
    processes: [Process; CHILDREN],
    failed: bool,
    stray: bool,
}

struct Shared {
    model: Schedules,
    gate: Mutex<Gate>,
    table: Mutex<Table>,
    ended: Condvar,
}

impl Shared {
    fn new(model: Schedules) -> Self {
        let processes = [Process::Absent; CHILDREN];
        let table = Table { processes, failed: false, stray: false };
        Self {
            model,
            gate: Mutex::new(Gate::default()),
            table: Mutex::new(table),
            ended: Condvar::new(),
        }
    }

    fn start(&self, child: usize) {
        let mut table = lock(&self.table);
        table.processes[child] = match self.model.lives[child] {
            Life::Hangs | Life::MayFail => Process::Running,
            Life::EndsWell => Process::Zombie(Ended::Good),
            Life::EndsBadly => Process::Zombie(Ended::Bad),
        };
        table.failed |= self.model.lives[child] == Life::EndsBadly;
    }

    /// A signal that cannot be ignored.
    fn kill(&self, child: usize) {
        let mut table = lock(&self.table);
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
        let mut table = lock(&self.table);
        if table.processes[child] == Process::Running {
            table.processes[child] = Process::Zombie(Ended::Bad);
            table.failed = true;
        }
        self.ended.notify_all();
    }

    fn wait(&self, child: usize) -> Ended {
        let mut table = lock(&self.table);
        loop {
            if let Process::Zombie(ended) = table.processes[child] {
                return ended;
            }
            table =
                self.ended.wait(table).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn reap(&self, child: usize) {
        lock(&self.table).processes[child] = Process::Reaped;
    }

    fn forget(&self, child: usize) {
        lock(&self.gate).forget(Child(child as u32));
    }

    fn is(&self, mutant: Mutant) -> bool {
        self.model.mutant == mutant
    }

    /// The working thread, in the order of `fsm::cancel`.
    fn work(&self) -> Outcome {
        for child in 0..CHILDREN {
            if lock(&self.gate).is_canceled() {
                return self.decide(false);
            }
            self.start(child);
            let number = Child(child as u32);
            let registered = lock(&self.gate).register(number);
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
                    *lock(&self.gate) = Gate::default();
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
        let mut gate = lock(&self.gate);
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
        let mut gate = lock(&self.gate);
        let running = |gate: &Gate| -> Vec<usize> {
            gate.running().map(|child| child.0 as usize).collect()
        };
        if self.is(Mutant::FlagAfterKill) {
            let all = running(&gate);
            all.into_iter().for_each(|child| self.kill(child));
            drop(gate);
            return lock(&self.gate).cancel() == Cancel::Accepted;
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

/// One schedule.
fn execute(model: Schedules, log: &Log) {
    log.executions.fetch_add(1, Ordering::Relaxed);
    let shared = Arc::new(Shared::new(model));
    let cancelers: Vec<_> = (0..model.cancelers)
        .map(|_| {
            let shared = Arc::clone(&shared);
            loom::thread::spawn(move || shared.cancel())
        })
        .collect();
    let fails: Vec<_> = (0..CHILDREN)
        .filter(|child| model.lives[*child] == Life::MayFail)
        .map(|child| {
            let shared = Arc::clone(&shared);
            loom::thread::spawn(move || shared.fail(child))
        })
        .collect();
    let outcome = shared.work();
    // C2 is about this moment, not about the end of all threads.
    let left = {
        let table = lock(&shared.table);
        let gone = |p: &Process| matches!(p, Process::Absent | Process::Reaped);
        !table.processes.iter().all(gone)
    };
    let accepted =
        cancelers.into_iter().filter_map(|c| c.join().ok()).filter(|a| *a);
    let accepted = accepted.count();
    for thread in fails {
        let _ = thread.join();
    }
    let (failed, stray) = {
        let table = lock(&shared.table);
        (table.failed, table.stray)
    };
    log.outcomes.fetch_or(1 << outcome as u8, Ordering::Relaxed);
    let canceled = outcome == Outcome::Canceled;
    let violated = if stray {
        C4
    } else if left {
        C2
    } else if outcome == Outcome::Failed && !failed {
        C3
    } else if canceled != (accepted == 1) || accepted > 1 {
        C1
    } else {
        return;
    };
    // No guard is held: loom may end the search here.
    resume_unwind(Box::new(violated));
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
