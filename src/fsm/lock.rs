//! Taking the lock: open, lock, then see whether the name still leads there.
//!
//! Lives here: the states and every transition of taking the lock, for readers
//! and writers. May not live here: how long a wait may last; the driver of
//! [`Effect::Lock`] knows. Actions are named as in `spec/Lock.tla`.

use core::ops::ControlFlow::{self, Break, Continue};

use super::call::{Access, Effect, Errno, Event, Fd, FileId, Name};
use super::protocol::{Compare, Protocol, Target};
use super::{Machine, Unexpected};

/// Takes the lock of a store; the configuration never changes on the way.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Acquire {
    /// Which variant of the protocol.
    pub protocol: Protocol,
    /// Shared with other readers, or alone.
    pub access: Access,
    /// Where we are.
    pub state: State,
}

/// What we wait for; a variant carries exactly the data that is valid in it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum State {
    /// The file is being opened.
    Opening,
    /// The lock was asked for.
    Locking(Fd),
    /// `fstat` was asked for.
    StattingFd(Fd),
    /// `stat` was asked for; the descriptor is this file.
    StattingName(Fd, FileId),
    /// The name leads elsewhere by now: close, start again.
    Reopening(Fd),
    /// A call failed: close, then report it.
    Closing(Fd, Errno),
    /// The lock is ours.
    Held(Fd),
    /// It is not, and nothing is open.
    Failed(Errno),
}

impl Acquire {
    /// Starts for a writer.
    pub fn exclusive(protocol: Protocol) -> Self {
        Self { protocol, access: Access::Write, state: State::Opening }
    }

    /// Starts for a reader.
    pub fn shared(protocol: Protocol) -> Self {
        Self { protocol, access: Access::Read, state: State::Opening }
    }

    /// The file that carries the lock.
    pub fn name(self) -> Name {
        match self.protocol.target {
            Target::Store => Name::Store,
            Target::LockFile => Name::LockFile,
        }
    }
}

impl Machine for Acquire {
    /// The locked descriptor, or why there is none.
    type Output = Result<Fd, Errno>;

    fn effect(self) -> ControlFlow<Self::Output, Effect> {
        Continue(match self.state {
            State::Opening => Effect::Open(self.name(), self.access),
            State::Locking(fd) => Effect::Lock(fd, self.access),
            State::StattingFd(fd) => Effect::StatFd(fd),
            State::StattingName(..) => Effect::StatName(self.name()),
            State::Reopening(fd) | State::Closing(fd, _) => Effect::Close(fd),
            State::Held(fd) => return Break(Ok(fd)),
            State::Failed(errno) => return Break(Err(errno)),
        })
    }

    /// Every transition there is; the last arm refuses the rest.
    fn step(self, event: Event) -> Result<Self, Unexpected> {
        let before = self.protocol.compare == Compare::BeforeLock;
        let after = self.protocol.compare == Compare::AfterLock;
        let state = match (self.state, event) {
            (State::Opening, Event::Opened(fd)) if before => {
                State::StattingFd(fd)
            }
            (State::Opening, Event::Opened(fd)) => State::Locking(fd),
            (State::Opening, Event::Failed(errno)) => State::Failed(errno),

            // Compare after the lock: the file may be replaced while we wait.
            //= spec/lock.md#compare-after-the-lock
            (State::Locking(fd), Event::Locked) if after => {
                State::StattingFd(fd)
            }
            (State::Locking(fd), Event::Locked) => State::Held(fd),

            (State::StattingFd(fd), Event::File(ours)) => {
                State::StattingName(fd, ours)
            }
            (State::StattingName(fd, ours), Event::File(named)) => {
                if named != ours {
                    State::Reopening(fd)
                } else if before {
                    State::Locking(fd)
                } else {
                    State::Held(fd)
                }
            }
            (
                State::Locking(fd)
                | State::StattingFd(fd)
                | State::StattingName(fd, _),
                Event::Failed(errno),
            ) => State::Closing(fd, errno),

            // A close that fails has closed all the same (close(2), Linux).
            (State::Reopening(_), Event::Closed | Event::Failed(_)) => {
                State::Opening
            }
            (State::Closing(_, errno), Event::Closed | Event::Failed(_)) => {
                State::Failed(errno)
            }
            (state, event) => return Err(Unexpected::new(state, event)),
        };
        Ok(Self { state, ..self })
    }

    fn label(self) -> String {
        match self.state {
            State::Opening => "opening",
            State::Locking(_) => "locking",
            State::StattingFd(_) => "statting fd",
            State::StattingName(..) => "statting name",
            State::Reopening(_) => "reopening",
            State::Closing(..) => "closing",
            State::Held(_) => "held",
            State::Failed(_) => "failed",
        }
        .to_owned()
    }
}
