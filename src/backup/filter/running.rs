//! The programs of a run, by the numbers that the gate knows them by.
//!
//! Lives here: who gets a signal when, under the gate's mutex. May not live
//! here: whether a cancel was in time (`fsm::cancel`), signals of our own
//! process (`cli`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::kernel::Process;
use crate::fsm::cancel::{Cancel, Canceled, Child, Gate};

/// What a program gets between TERM and KILL.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// How often [`Running::kill_rest`] looks who is left.
const LOOK: Duration = Duration::from_millis(20);

/// The programs that a run has started, so that a cancel reaches them.
///
/// A copy is the same registry. Who only flags the gate is noticed as well,
/// but not while the decoder is busy with what came out of a program, and
/// only by the thread that reads.
#[derive(Clone, Debug)]
pub struct Running {
    gate: Arc<Mutex<Gate>>,
    /// Taken while the gate is held, never the other way around.
    processes: Arc<Mutex<Processes>>,
}

#[derive(Debug, Default)]
struct Processes {
    next: u32,
    by_number: BTreeMap<Child, Arc<Process>>,
}

impl Running {
    /// Nothing runs yet; `gate` is that of the run.
    #[must_use]
    pub fn new(gate: Arc<Mutex<Gate>>) -> Self {
        Self { gate, processes: Arc::default() }
    }

    /// The canceling thread: flags the gate, and if it was in time sends TERM
    /// to all that is running, before anything of it can be reaped. Call
    /// [`kill_rest`](Self::kill_rest) then.
    pub fn cancel(&self) -> Cancel {
        let mut gate = self.gate.lock();
        let answer = gate.cancel();
        if answer == Cancel::Accepted {
            self.each(&gate, Process::terminate);
        }
        answer
    }

    /// The canceling thread, once its cancel was accepted: waits for what is
    /// running, 2 seconds at most, and sends KILL to what is left.
    pub fn kill_rest(&self) {
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            if self.gate.lock().running().next().is_none() {
                return;
            }
            std::thread::sleep(LOOK);
        }
        self.each(&self.gate.lock(), Process::kill);
    }

    fn each(&self, gate: &Gate, signal: fn(&Process)) {
        let processes = self.processes.lock();
        for child in gate.running() {
            if let Some(process) = processes.by_number.get(&child) {
                signal(process);
            }
        }
    }

    /// The working thread, right after a start.
    pub(super) fn register(
        &self,
        process: &Arc<Process>,
    ) -> (Child, Result<(), Canceled>) {
        let mut gate = self.gate.lock();
        let mut processes = self.processes.lock();
        let child = Child(processes.next);
        processes.next = processes.next.wrapping_add(1);
        let answer = gate.register(child);
        if answer.is_ok() {
            processes.by_number.insert(child, Arc::clone(process));
        }
        (child, answer)
    }

    /// The working thread, after an end and before it is reaped.
    pub(super) fn forget(&self, child: Child) {
        let mut gate = self.gate.lock();
        gate.forget(child);
        self.processes.lock().by_number.remove(&child);
    }

    pub(super) fn is_canceled(&self) -> bool {
        self.gate.lock().is_canceled()
    }
}
