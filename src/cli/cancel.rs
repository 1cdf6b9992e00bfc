//! Signals that cancel, and waits that they end.
//!
//! Lives here: which signal came first, and threads for what may block for
//! ever. May not live here: whether a cancel was in time (`fsm::cancel`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};

use parking_lot::Mutex;
use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;

use super::exit::{self, Failure};
use super::kernel::TICK;
use super::{Talk, thread};
use crate::backup::filter::Running;
use crate::fsm::cancel::{Cancel, Gate};

/// The gate, and the signal that went through it.
pub(super) struct Canceled {
    pub(super) gate: Arc<Mutex<Gate>>,
    pub(super) running: Running,
    signal: Arc<AtomicU8>,
}

impl Canceled {
    /// From now on SIGINT and SIGTERM go through the gate: the first one
    /// cancels if it comes before the decision, further ones change nothing.
    pub(super) fn by_signal(talk: Talk) -> Result<Self, Failure> {
        let failed = |error| Failure::io("signals", &error);
        let mut signals =
            Signals::new([SIGINT, SIGTERM, SIGXFSZ]).map_err(failed)?;
        let gate = Arc::new(Mutex::new(Gate::default()));
        let signal = Arc::new(AtomicU8::new(0));
        let running = Running::new(Arc::clone(&gate));
        let canceled = Self {
            gate,
            running: running.clone(),
            signal: Arc::clone(&signal),
        };
        thread::start("signals", move || {
            for number in signals.forever() {
                // A file that grows over a limit is an error of `write`.
                if number == SIGXFSZ {
                    continue;
                }
                // Before the cancel: the run may be over right after it.
                let (first, order) = (number as u8, Ordering::SeqCst);
                let _ = signal.compare_exchange(0, first, order, order);
                let answer = running.cancel();
                if answer == Cancel::Accepted {
                    talk.note("canceling");
                    running.kill_rest();
                } else if answer == Cancel::TooLate {
                    talk.note("too late to cancel: it is complete");
                }
            }
        })?;
        Ok(canceled)
    }

    /// Whether a cancel was in time.
    pub(super) fn is_set(&self) -> bool {
        self.gate.lock().is_canceled()
    }

    /// Whether a signal came, in time or not.
    pub(super) fn has_signal(&self) -> bool {
        self.signal.load(Ordering::SeqCst) != 0
    }

    /// The end of a run that was canceled while it was at `subject`.
    pub(super) fn failure(&self, subject: &str) -> Failure {
        let signal = self.signal.load(Ordering::SeqCst);
        let (name, code) = match i32::from(signal) {
            SIGTERM => ("SIGTERM", 128 + signal),
            _ => ("SIGINT", exit::INTERRUPTED),
        };
        let text = format!("canceled by {name}; what is in place is whole");
        Failure::other(subject, &text).with_code(code)
    }

    /// Does for `subject` what may block for ever, in a thread of its own. A
    /// failure once it is canceled; the thread then ends with the process.
    pub(super) fn wait<T: Send + 'static>(
        &self,
        subject: &str,
        may_block: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let (sender, receiver) = sync_channel(1);
        thread::start(subject, move || {
            let _ = sender.send(may_block());
        })?;
        loop {
            match receiver.recv_timeout(TICK) {
                Ok(done) => return Ok(done),
                Err(RecvTimeoutError::Timeout) if !self.is_set() => {}
                // Without an answer the thread has panicked.
                Err(
                    RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected,
                ) => return Err(self.failure(subject)),
            }
        }
    }
}
