//! The gate: canceled or not, at one point in time.
//!
//! Lives here: who is running, whether a cancel came first or the decision.
//! May not live here: a mutex, a signal, a process. The driver keeps one
//! [`Gate`] in one mutex; whoever calls first, [`Gate::cancel`] or
//! [`Gate::decide`], wins, and the other learns it.
//!
//! The working thread, for each child: look at [`Gate::is_canceled`], start,
//! [`Gate::register`] (refused: end the child, go on to wait), wait for its
//! end without reaping it, [`Gate::forget`], reap. At the end, good or bad:
//! [`Gate::decide`], then publish or clean up.
//!
//! It replaces what core-admin f4194c9d and 0cd8281a did with a flag and the
//! process ids of some children: set after the kill, asked after the record
//! was gone, and looked at before the rename, not at it.

use std::collections::BTreeSet;

/// A child process or a waker, as the driver numbers them. A number may be
/// given again once it was forgotten and reaped.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Child(pub u32);

/// The linearization point of a run; each variant with who is running.
///
/// ```
/// use qubes_fsm::fsm::cancel::{Cancel, Canceled, Child, Gate};
///
/// let mut gate = Gate::default();
/// gate.register(Child(1)).unwrap();
/// // Another thread, in the same critical section as the signals:
/// assert_eq!(gate.cancel(), Cancel::Accepted);
/// assert!(gate.running().eq([Child(1)]));
/// // From here on nothing new starts, and the end is known.
/// assert_eq!(gate.register(Child(2)), Err(Canceled));
/// gate.forget(Child(1));
/// assert_eq!(gate.decide(), Err(Canceled));
/// ```
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Gate {
    /// Neither was called.
    Open(BTreeSet<Child>),
    /// A cancel was accepted: the end is `Canceled`.
    Flagged(BTreeSet<Child>),
    /// The decision was made before any cancel. Clean-up may still run
    /// children, and no cancel touches them.
    Decided(BTreeSet<Child>),
}

/// The refusal of [`Gate::register`] and [`Gate::decide`]: a cancel came
/// first.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, thiserror::Error)]
#[error("canceled")]
pub struct Canceled;

/// What becomes of a request to cancel.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Cancel {
    /// The run ends `Canceled`. Signal all of [`Gate::running`] before the
    /// mutex is released: afterwards a number may be anybody's.
    Accepted,
    /// Somebody else has canceled it: signal nobody.
    Already,
    /// The end was decided: signal nobody.
    TooLate,
}

impl Default for Gate {
    /// Open, and nobody is running.
    fn default() -> Self {
        Self::Open(BTreeSet::new())
    }
}

impl Gate {
    /// The working thread, right after it started `child`.
    ///
    /// # Errors
    /// A cancel was accepted meanwhile and has not signalled this child:
    /// whoever started it ends it.
    pub fn register(&mut self, child: Child) -> Result<(), Canceled> {
        match self {
            Self::Open(running) | Self::Decided(running) => {
                running.insert(child);
                Ok(())
            }
            Self::Flagged(_) => Err(Canceled),
        }
    }

    /// The working thread, once `child` has ended and **before** it is
    /// reaped: from then on its process id may be anybody's.
    pub fn forget(&mut self, child: Child) {
        let (Self::Open(running)
        | Self::Flagged(running)
        | Self::Decided(running)) = self;
        running.remove(&child);
    }

    /// The canceling thread. If accepted: signal all of
    /// [`running`](Self::running), still in the same critical section.
    pub fn cancel(&mut self) -> Cancel {
        match self {
            Self::Open(running) => {
                *self = Self::Flagged(core::mem::take(running));
                Cancel::Accepted
            }
            Self::Flagged(_) => Cancel::Already,
            Self::Decided(_) => Cancel::TooLate,
        }
    }

    /// The working thread, before it commits to any end, good or bad.
    ///
    /// # Errors
    /// A cancel was accepted: the end is `Canceled`, whatever it was to be.
    pub fn decide(&mut self) -> Result<(), Canceled> {
        match self {
            Self::Open(running) => {
                *self = Self::Decided(core::mem::take(running));
                Ok(())
            }
            Self::Flagged(_) => Err(Canceled),
            Self::Decided(_) => Ok(()),
        }
    }

    /// Who is running. After [`Cancel::Accepted`] these get TERM, and what
    /// is still here two seconds later gets KILL, again under the mutex.
    pub fn running(&self) -> impl Iterator<Item = Child> + '_ {
        let (Self::Open(running)
        | Self::Flagged(running)
        | Self::Decided(running)) = self;
        running.iter().copied()
    }

    /// Whether neither a cancel nor a decision came: somebody still waits for
    /// what a thread reads ahead.
    pub fn is_open(&self) -> bool {
        matches!(self, Self::Open(_))
    }

    /// Whether a cancel was accepted: what a driver looks at before it
    /// performs an effect.
    pub fn is_canceled(&self) -> bool {
        matches!(self, Self::Flagged(_))
    }
}
