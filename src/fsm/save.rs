//! One save: a new file beside the old one, made durable, then renamed over it.
//!
//! Lives here: the states and every transition from a locked, loaded store to
//! a replaced one, and the way back when a call fails. May not live here: the
//! content. Actions are named as in `spec/Lock.tla`.

use core::ops::ControlFlow::{self, Break, Continue};

use super::call::{Effect, Errno, Event, Fd};
use super::protocol::{Keep, Protocol, Target};
use super::{Machine, Unexpected};

/// Saves the content that the driver holds.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Save {
    /// Which variant of the protocol.
    pub protocol: Protocol,
    /// The descriptor that carries the lock when the save begins.
    pub held: Fd,
    /// Where we are.
    pub state: State,
}

/// What we wait for. `temp` is the descriptor of the new file.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum State {
    /// What crashed processes left is being removed.
    Sweeping,
    /// The temporary file is being created.
    Creating,
    /// Its content is being written.
    Writing(Fd),
    /// Its content is being made durable.
    Syncing(Fd),
    /// It is being locked, before anybody can find it.
    LockingTemp(Fd),
    /// It is being closed; only its name is left of it.
    ClosingTemp(Fd),
    /// The locked file is read again: is it the content that was loaded?
    ComparingContent(Option<Fd>),
    /// The name is looked at: is it the file that was loaded? The last look,
    /// since it is the shortest: reading takes as long as the file is.
    ComparingStat(Option<Fd>),
    /// The temporary file gets the store's name.
    Renaming(Option<Fd>),
    /// The rename is being made durable.
    SyncingDirectory(Option<Fd>),
    /// The old file is being closed, and with it goes its lock. The errno is
    /// why the rename may not be durable.
    ClosingOld(Option<Fd>, Option<Errno>),
    /// A call failed: the temporary name goes first.
    Unlinking(Option<Fd>, Errno),
    /// Then its descriptor.
    Discarding(Fd, Errno),
    /// The end.
    Ended(Outcome),
}

/// How a save ended. `Fd` is the descriptor that carries the lock now.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Outcome {
    /// The new content is there and durable; `None`: the lock is gone.
    Saved(Option<Fd>),
    /// The new content is there, and may be lost when the power fails.
    NotDurable(Option<Fd>, Errno),
    /// The store is as it was, and no temporary file is left, or one that
    /// could not be removed.
    Refused(Fd, Errno),
}

impl Save {
    /// Starts from the descriptor that carries the lock.
    pub fn new(protocol: Protocol, held: Fd) -> Self {
        let state =
            if protocol.sweep { State::Sweeping } else { State::Creating };
        Self { protocol, held, state }
    }

    /// The old file's descriptor is closed at the end of a save only where it
    /// is the store's: a lock file stays.
    fn after_directory(self, temp: Option<Fd>, lost: Option<Errno>) -> State {
        match self.protocol.target {
            Target::Store => State::ClosingOld(temp, lost),
            Target::LockFile => State::Ended(outcome(Some(self.held), lost)),
        }
    }

    fn ready(self, temp: Option<Fd>) -> State {
        if self.protocol.verify {
            State::ComparingContent(temp)
        } else {
            State::Renaming(temp)
        }
    }
}

impl State {
    /// Whether the temporary file has its own name still: between the
    /// creation and the rename or the unlink.
    pub fn has_temp_name(self) -> bool {
        match self {
            Self::Writing(_)
            | Self::Syncing(_)
            | Self::LockingTemp(_)
            | Self::ClosingTemp(_)
            | Self::ComparingContent(_)
            | Self::ComparingStat(_)
            | Self::Renaming(_)
            | Self::Unlinking(..) => true,
            Self::Sweeping
            | Self::Creating
            | Self::SyncingDirectory(_)
            | Self::ClosingOld(..)
            | Self::Discarding(..)
            | Self::Ended(_) => false,
        }
    }

    /// The new file's descriptor, once the store's name leads to that file
    /// and until the save ends; the inner `None`: it was closed before.
    pub fn renamed(self) -> Option<Option<Fd>> {
        match self {
            Self::SyncingDirectory(temp) | Self::ClosingOld(temp, _) => {
                Some(temp)
            }
            Self::Sweeping
            | Self::Creating
            | Self::Writing(_)
            | Self::Syncing(_)
            | Self::LockingTemp(_)
            | Self::ClosingTemp(_)
            | Self::ComparingContent(_)
            | Self::ComparingStat(_)
            | Self::Renaming(_)
            | Self::Unlinking(..)
            | Self::Discarding(..)
            | Self::Ended(_) => None,
        }
    }
}

impl Machine for Save {
    type Output = Outcome;

    fn effect(self) -> ControlFlow<Outcome, Effect> {
        Continue(match self.state {
            State::Sweeping => Effect::Sweep,
            State::Creating => Effect::Create,
            State::Writing(temp) => Effect::Write(temp),
            State::Syncing(temp) => Effect::Sync(temp),
            State::LockingTemp(temp) => Effect::TryLock(temp),
            State::ClosingTemp(temp) | State::Discarding(temp, _) => {
                Effect::Close(temp)
            }
            State::ComparingContent(_) => Effect::CompareContent(self.held),
            State::ComparingStat(_) => Effect::CompareStat,
            State::Renaming(_) => Effect::Rename,
            State::SyncingDirectory(_) => Effect::SyncDirectory,
            State::ClosingOld(..) => Effect::Close(self.held),
            State::Unlinking(..) => Effect::Unlink,
            State::Ended(outcome) => return Break(outcome),
        })
    }

    /// Every transition there is; the last arm refuses the rest.
    fn step(self, event: Event) -> Result<Self, Unexpected> {
        let state = match (self.state, event) {
            // What cannot be removed harms nobody: names are unique.
            //= spec/lock.md#leftovers-are-swept
            (State::Sweeping, Event::Swept | Event::Failed(_)) => {
                State::Creating
            }
            (State::Creating, Event::Opened(temp)) => State::Writing(temp),
            (State::Creating, Event::Failed(errno)) => {
                State::Ended(Outcome::Refused(self.held, errno))
            }
            (State::Writing(temp), Event::Written) => State::Syncing(temp),
            //= spec/lock.md#durable-before-the-rename
            (State::Syncing(temp), Event::Synced) => match self.protocol.keep {
                Keep::Locked => State::LockingTemp(temp),
                Keep::Unlocked => self.ready(Some(temp)),
                Keep::Nothing => State::ClosingTemp(temp),
            },
            //= spec/lock.md#lock-the-new-file-before-the-rename
            (State::LockingTemp(temp), Event::Locked) => self.ready(Some(temp)),
            (State::ClosingTemp(_), Event::Closed | Event::Failed(_)) => {
                self.ready(None)
            }
            //= spec/lock.md#refuse-what-was-not-loaded
            (State::ComparingContent(temp), Event::Same) => {
                State::ComparingStat(temp)
            }
            (State::ComparingStat(temp), Event::Same) => State::Renaming(temp),
            (
                State::ComparingContent(temp) | State::ComparingStat(temp),
                Event::Changed,
            ) => State::Unlinking(temp, Errno::CHANGED),
            (State::Renaming(temp), Event::Renamed) => {
                State::SyncingDirectory(temp)
            }
            //= spec/lock.md#durable-after-the-rename
            (State::SyncingDirectory(temp), Event::Synced) => {
                self.after_directory(temp, None)
            }
            // Too late to go back: the new content may have been read.
            (State::SyncingDirectory(temp), Event::Failed(errno)) => {
                self.after_directory(temp, Some(errno))
            }
            (
                State::ClosingOld(temp, lost),
                Event::Closed | Event::Failed(_),
            ) => State::Ended(outcome(temp, lost)),

            //= spec/lock.md#a-failed-save-changes-nothing
            (
                State::Writing(temp)
                | State::Syncing(temp)
                | State::LockingTemp(temp),
                Event::Failed(errno),
            ) => State::Unlinking(Some(temp), errno),
            (
                State::ComparingContent(temp)
                | State::ComparingStat(temp)
                | State::Renaming(temp),
                Event::Failed(errno),
            ) => State::Unlinking(temp, errno),
            // The first cause is the one to report; what cannot be removed
            // now is removed by the next save.
            (
                State::Unlinking(temp, cause),
                Event::Unlinked | Event::Failed(_),
            ) => match temp {
                Some(temp) => State::Discarding(temp, cause),
                None => State::Ended(Outcome::Refused(self.held, cause)),
            },
            (State::Discarding(_, cause), Event::Closed | Event::Failed(_)) => {
                State::Ended(Outcome::Refused(self.held, cause))
            }
            (state, event) => return Err(Unexpected::new(state, event)),
        };
        Ok(Self { state, ..self })
    }

    fn label(self) -> String {
        match self.state {
            State::Sweeping => "sweeping",
            State::Creating => "creating",
            State::Writing(_) => "writing",
            State::Syncing(_) => "syncing",
            State::LockingTemp(_) => "locking temp",
            State::ClosingTemp(_) => "closing temp",
            State::ComparingContent(_) => "comparing content",
            State::ComparingStat(_) => "comparing stat",
            State::Renaming(_) => "renaming",
            State::SyncingDirectory(_) => "syncing directory",
            State::ClosingOld(_, None) => "closing old",
            State::ClosingOld(_, Some(_)) => "closing old, not durable",
            State::Unlinking(..) => "unlinking",
            State::Discarding(..) => "discarding",
            State::Ended(Outcome::Saved(_)) => "saved",
            State::Ended(Outcome::NotDurable(..)) => "not durable",
            State::Ended(Outcome::Refused(..)) => "refused",
        }
        .to_owned()
    }
}

fn outcome(held: Option<Fd>, lost: Option<Errno>) -> Outcome {
    match lost {
        None => Outcome::Saved(held),
        Some(errno) => Outcome::NotDurable(held, errno),
    }
}
