//! The protocols as state machines: what to do next, and what an answer means.
//!
//! Lives here: states, effects, events, every transition, and the walk that
//! turns a machine into a table. May not live here: descriptors of the
//! operating system, paths, clocks, threads, logging, content of files.
//!
//! A [`Machine`] never does anything. It names the next [`Effect`], a driver
//! performs it and hands the answer, an [`Event`], back. The driver is the
//! kernel (`store::kernel`), a simulated disk (`sim::disk`), or that disk
//! shared between the threads of loom (`check::interleave`): the machine cannot tell
//! them apart.

pub mod ahead;
pub mod backup;
pub mod backup_call;
pub mod call;
pub mod cancel;
pub mod commit;
pub mod commit_call;
pub mod lock;
pub mod log;
pub mod members;
pub mod phase_table;
pub mod protocol;
pub mod refused;
pub mod restore;
pub mod restore_call;
pub mod save;
pub mod session;
pub mod table;

use core::fmt;
use core::hash::Hash;
use core::ops::ControlFlow;

pub use call::{Access, Effect, Errno, Event, Fd, FileId, Name};

/// Something that goes from call to call until it is finished.
///
/// ```
/// use core::ops::ControlFlow::{Break, Continue};
/// use qubes_fsm::fsm::{Effect, Event, Fd, Machine, lock, protocol::SHIPPED};
///
/// let opening = lock::Acquire::exclusive(SHIPPED);
/// let locking = opening.step(Event::Opened(Fd(0))).unwrap();
/// assert!(matches!(locking.effect(), Continue(Effect::Lock(Fd(0), _))));
/// // A bug of a driver, never of the world, is an `Err`:
/// assert!(locking.step(Event::Written).is_err());
/// ```
pub trait Machine: Copy + fmt::Debug + Eq + Hash {
    /// What the machine has to say once there is no further call to make.
    type Output;

    /// The next call to make, or the end.
    fn effect(self) -> ControlFlow<Self::Output, Effect>;

    /// The machine after the answer `event` to the call that
    /// [`effect`](Self::effect) named.
    ///
    /// # Errors
    /// The event is no answer to that call: a bug of the driver.
    fn step(self, event: Event) -> Result<Self, Unexpected>;

    /// The state alone, for people: no configuration, no numbers that only
    /// tell two instances apart.
    fn label(self) -> String;
}

/// Whoever makes the calls: the kernel, a simulated disk, loom.
pub trait Perform {
    /// Makes one call and waits for its answer. A failed call is an answer
    /// too, [`Event::Failed`].
    fn perform(&self, effect: Effect) -> Event;
}

/// Drives `machine` to its end: the only loop there is.
///
/// # Errors
/// `performer` gave an answer that its call cannot have.
pub fn run<M: Machine>(
    mut machine: M,
    performer: &impl Perform,
) -> Result<M::Output, Unexpected> {
    loop {
        match machine.effect() {
            ControlFlow::Continue(effect) => {
                machine = machine.step(performer.perform(effect))?;
            }
            ControlFlow::Break(output) => return Ok(output),
        }
    }
}

/// An answer that the call before it cannot have: a bug of a driver.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("state {state}: event {event:?} is no answer to the call made there")]
pub struct Unexpected {
    /// The state, as `Debug` writes it.
    pub state: String,
    /// The event that has no row in the table.
    pub event: Event,
}

impl Unexpected {
    pub(crate) fn new(state: impl fmt::Debug, event: Event) -> Self {
        Self { state: format!("{state:?}"), event }
    }
}
