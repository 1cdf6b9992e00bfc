//! The model of the store under loom: real threads' schedules, by its rules.
//!
//! Lives here: machine and disk behind loom's `Mutex` and `Condvar`. A disk
//! is a value, so the ordinary binary can do this; `--cfg loom` is for code
//! that has threads of its own. May not live here: the machine, the disk, or
//! the properties; they are those of [`lock`](super::lock).
//!
//! loom runs every schedule from its beginning and stores no states, so it
//! sees far smaller models than the explorer; what it adds is that it knows
//! nothing of our explorer. It allows five threads, the main one included,
//! and aborts the process when a sixth starts or when a deadlock is found
//! while a guard is held: run one model per process.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex as StdMutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use loom::sync::{Arc, Condvar, Mutex};

use super::explore::Coverage;
use super::lock::{Call, Progress, Sessions, World};
use crate::fsm::call::Effect;

/// How far loom may go, and what for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Bounds {
    /// The only property to look at; `None`: all of [`Sessions::SAFETY`].
    pub property: Option<&'static str>,
    /// How often a thread may be interrupted that could go on; `None`: as
    /// often as possible.
    pub preemptions: Option<usize>,
    /// Wall time. loom itself says nothing when it is over.
    pub time_max: Duration,
}

/// What loom found.
#[derive(Clone, Debug)]
pub struct Interleaved {
    /// Schedules that were run.
    pub executions: u64,
    /// Wall time.
    pub elapsed: Duration,
    /// Exhaustive without a bound, bounded with one, or cut.
    pub coverage: Coverage,
    /// The first violation: not the shortest.
    pub violation: Option<Violation>,
}

/// A property that a schedule violates.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Violation {
    /// Its name, or loom's own words.
    pub property: String,
    /// The calls up to there.
    pub calls: Vec<Call>,
}

/// More threads than loom has room for.
pub const PROCESSES_MAX: usize = 4;
/// Schedules between two looks at the time; by default loom has 20,000.
pub(super) const LOOKED_AT: usize = 256;
/// Choices of the scheduler in one schedule; a session has about 20 calls.
const BRANCHES_MAX: usize = 100_000;

/// What threads of one execution share.
struct Shared {
    world: Mutex<World>,
    /// Notified when a descriptor is closed: its lock is free.
    closed: Condvar,
}

/// What outlives an execution; invisible to loom.
#[derive(Default)]
struct Log {
    calls: StdMutex<Vec<Call>>,
    property: StdMutex<Option<String>>,
    found: AtomicBool,
    executions: AtomicU64,
}

/// Runs every schedule of `model` within `bounds`, until one violates a
/// property. At most [`PROCESSES_MAX`] processes.
pub fn interleave(model: Sessions, bounds: Bounds) -> Interleaved {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = bounds.preemptions;
    builder.max_duration = Some(bounds.time_max);
    builder.checkpoint_interval = LOOKED_AT;
    builder.max_permutations = None;
    builder.max_branches = BRANCHES_MAX;
    builder.log = false;
    let log = std::sync::Arc::new(Log::default());
    let started = Instant::now();
    let inner = std::sync::Arc::clone(&log);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        builder.check(move || execute(model, bounds.property, &inner));
    }));
    let elapsed = started.elapsed();
    let property = match outcome {
        Ok(()) => None,
        // Ours has a name; a panic of loom's own has a text.
        Err(panic) => Some(take(&log.property).unwrap_or_else(|| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text
                .or_else(|| panic.downcast_ref::<&str>().map(|&t| t.into()));
            text.unwrap_or_else(|| "loom stopped".to_owned())
        })),
    };
    let calls = std::mem::take(&mut *lock(&log.calls));
    let violation = property.map(|property| Violation { property, calls });
    let coverage = match (bounds.preemptions, &violation) {
        (_, None) if elapsed >= bounds.time_max => Coverage::Cut,
        (None, None) => Coverage::Exhaustive,
        (Some(_), None) | (_, Some(_)) => Coverage::Bounded,
    };
    let executions = log.executions.load(Ordering::Relaxed);
    Interleaved { executions, elapsed, coverage, violation }
}

/// One schedule.
fn execute(
    model: Sessions,
    only: Option<&'static str>,
    log: &std::sync::Arc<Log>,
) {
    log.executions.fetch_add(1, Ordering::Relaxed);
    lock(&log.calls).clear();
    let shared = Arc::new(Shared {
        world: Mutex::new(model.start()),
        closed: Condvar::new(),
    });
    let threads: Vec<_> = (1..model.processes())
        .map(|process| {
            let shared = Arc::clone(&shared);
            let log = std::sync::Arc::clone(log);
            loom::thread::spawn(move || {
                session(model, process, only, &shared, &log);
            })
        })
        .collect();
    session(model, 0, only, &shared, log);
    for thread in threads {
        let _ = thread.join();
    }
    if log.found.load(Ordering::Relaxed) {
        // All guards are gone: loom may end the search here.
        resume_unwind(Box::new("violated"));
    }
}

/// The session of one process, on a thread of its own.
fn session(
    model: Sessions,
    process: usize,
    only: Option<&'static str>,
    shared: &Shared,
    log: &Log,
) {
    loop {
        let Ok(mut world) = shared.world.lock() else { return };
        let call = loop {
            if log.found.load(Ordering::Relaxed) {
                return;
            }
            match model.advance(&mut world, process) {
                Progress::Moved(call) => break call,
                Progress::Done => return,
                // A lock that waits is a wait for a close: never a spin.
                Progress::Blocked(_) => match shared.closed.wait(world) {
                    Ok(again) => world = again,
                    Err(_) => return,
                },
                Progress::Refused(_, unexpected) => {
                    found(log, unexpected.to_string());
                    return;
                }
            }
        };
        lock(&log.calls).push(call);
        let violated = Sessions::SAFETY
            .iter()
            .filter(|(name, _)| only.is_none_or(|only| only == *name))
            .find(|(_, holds)| !holds(&model, &world));
        if let Some((name, _)) = violated {
            found(log, (*name).to_owned());
        }
        if matches!(call.effect, Effect::Close(_)) || violated.is_some() {
            shared.closed.notify_all();
        }
    }
}

fn found(log: &Log, property: String) {
    lock(&log.property).get_or_insert(property);
    log.found.store(true, Ordering::Relaxed);
}

fn take(property: &StdMutex<Option<String>>) -> Option<String> {
    lock(property).take()
}

fn lock<T>(mutex: &StdMutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
