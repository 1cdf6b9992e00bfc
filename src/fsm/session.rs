//! A whole session: lock, load, save as often as wished, release.
//!
//! Lives here: the order of the parts. May not live here: the parts
//! (`fsm::lock`, `fsm::save`). The library gives a caller the parts one by
//! one, as types (`store`); the explorer, loom and the replay drive a session
//! from end to end, made of the same parts.

use core::ops::ControlFlow::{self, Break, Continue};

use super::call::{Access, Effect, Errno, Event, Fd, Name};
use super::protocol::{Protocol, Target};
use super::save::Outcome;
use super::{Machine, Unexpected, lock, save};

/// Who runs a session.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Role {
    /// Shares the lock, loads, releases.
    Reader,
    /// Takes the lock alone, loads, saves so many times, releases.
    Writer {
        /// How many saves, at least 1.
        saves: u8,
    },
}

/// A session of one process.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Session {
    /// Which variant of the protocol.
    pub protocol: Protocol,
    /// Who runs it.
    pub role: Role,
    /// Where we are.
    pub state: State,
}

/// Where a session is, and how many saves are behind it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct State {
    /// The part at work.
    pub part: Part,
    /// Renames that have happened, without one that may not be durable once
    /// its save has ended.
    pub saved: u8,
}

/// The part of a session at work.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Part {
    /// Taking the lock.
    Acquiring(lock::State),
    /// Opening the store, where the lock is on another file.
    OpeningStore(Fd),
    /// Reading: held descriptor, and the one to read where it is another.
    Loading(Fd, Option<Fd>),
    /// Closing the store, where the lock is on another file.
    ClosingStore(Fd, Fd, Option<Errno>),
    /// Saving, with the descriptor that was held when it began.
    Saving(Fd, save::State),
    /// Giving the lock back.
    Releasing(Fd, Option<Errno>),
    /// The end, and the first failure on the way.
    Done(Option<Errno>),
}

impl Session {
    /// A session that has not begun.
    pub fn new(protocol: Protocol, role: Role) -> Self {
        let part = Part::Acquiring(lock::State::Opening);
        Self { protocol, role, state: State { part, saved: 0 } }
    }

    fn access(self) -> Access {
        match self.role {
            Role::Reader => Access::Read,
            Role::Writer { .. } => Access::Write,
        }
    }

    fn acquire(self, state: lock::State) -> lock::Acquire {
        let (protocol, access) = (self.protocol, self.access());
        lock::Acquire { protocol, access, state }
    }

    fn save(self, held: Fd, state: save::State) -> save::Save {
        save::Save { protocol: self.protocol, held, state }
    }

    /// The descriptor by which this process believes to hold the lock, if it
    /// does: after the lock is granted and, where the protocol compares after
    /// it, the comparison has said "the same".
    pub fn holds(self) -> Option<Fd> {
        match self.state.part {
            Part::Acquiring(_) | Part::Done(_) => None,
            Part::OpeningStore(fd)
            | Part::Loading(fd, _)
            | Part::ClosingStore(fd, ..)
            | Part::Releasing(fd, _) => Some(fd),
            // From the rename on the new file is the held one, where a save
            // keeps one at all.
            Part::Saving(old, state) => {
                let renamed = match self.protocol.target {
                    Target::Store => state.renamed(),
                    Target::LockFile => None,
                };
                renamed.unwrap_or(Some(old))
            }
        }
    }

    /// Whether this process may still ask whether the store is what it loaded.
    pub fn may_compare(self) -> bool {
        self.protocol.verify
            && match self.state.part {
                Part::Acquiring(_)
                | Part::OpeningStore(_)
                | Part::Loading(..)
                | Part::ClosingStore(..)
                | Part::Saving(..) => true,
                Part::Releasing(..) | Part::Done(_) => false,
            }
    }

    /// Whether what this process has in memory must be what the store holds:
    /// it holds the lock and has loaded.
    pub fn has_current_view(self) -> bool {
        match self.state.part {
            Part::Acquiring(_)
            | Part::OpeningStore(_)
            | Part::Loading(..)
            | Part::Done(_) => false,
            Part::ClosingStore(_, _, failed) | Part::Releasing(_, failed) => {
                failed.is_none()
            }
            Part::Saving(_, state) => {
                self.holds().is_some()
                    && !matches!(
                        state,
                        save::State::Unlinking(..)
                            | save::State::Discarding(..)
                    )
            }
        }
    }

    /// How many saves were acknowledged: the directory was synced too.
    pub fn acknowledged(self) -> u8 {
        let in_doubt = matches!(
            self.state.part,
            Part::Saving(
                _,
                save::State::SyncingDirectory(_)
                    | save::State::ClosingOld(_, Some(_))
            )
        );
        self.state.saved.saturating_sub(u8::from(in_doubt))
    }

    /// Whether the temporary name of this process leads to a file.
    pub fn has_temp_name(self) -> bool {
        matches!(self.state.part, Part::Saving(_, state)
            if state.has_temp_name())
    }

    /// The session after taking the lock went on.
    fn acquired(self, acquire: lock::Acquire) -> Part {
        match (acquire.effect(), self.protocol.target) {
            (Continue(_), _) => Part::Acquiring(acquire.state),
            (Break(Ok(fd)), Target::Store) => Part::Loading(fd, None),
            (Break(Ok(fd)), Target::LockFile) => Part::OpeningStore(fd),
            (Break(Err(errno)), _) => Part::Done(Some(errno)),
        }
    }

    fn loaded(self, held: Fd) -> Part {
        match self.role {
            Role::Reader => Part::Releasing(held, None),
            Role::Writer { .. } => self.begin(held),
        }
    }

    /// A save from its beginning.
    fn begin(self, held: Fd) -> Part {
        Part::Saving(held, save::Save::new(self.protocol, held).state)
    }

    /// The session after a save went on.
    fn saved(self, save: save::Save, saved: u8) -> Part {
        let Break(outcome) = save.effect() else {
            return Part::Saving(save.held, save.state);
        };
        let more = match self.role {
            Role::Reader => false,
            Role::Writer { saves } => saved < saves,
        };
        match outcome {
            Outcome::Saved(Some(fd)) if more => self.begin(fd),
            Outcome::Saved(Some(fd)) => Part::Releasing(fd, None),
            Outcome::Saved(None) => Part::Done(None),
            Outcome::NotDurable(Some(fd), errno)
            | Outcome::Refused(fd, errno) => Part::Releasing(fd, Some(errno)),
            Outcome::NotDurable(None, errno) => Part::Done(Some(errno)),
        }
    }
}

impl Machine for Session {
    /// `Err` names the first call that failed.
    type Output = Result<(), Errno>;

    fn effect(self) -> ControlFlow<Self::Output, Effect> {
        let inner = |effect: ControlFlow<(), Effect>| match effect {
            Continue(effect) => Continue(effect),
            // A part that has ended is never stored: see `acquired`, `saved`.
            Break(()) => Break(Ok(())),
        };
        match self.state.part {
            Part::Acquiring(state) => {
                inner(self.acquire(state).effect().map_break(|_| ()))
            }
            Part::OpeningStore(_) => {
                Continue(Effect::Open(Name::Store, Access::Read))
            }
            Part::Loading(held, other) => {
                Continue(Effect::Read(other.unwrap_or(held)))
            }
            Part::ClosingStore(_, fd, _) | Part::Releasing(fd, _) => {
                Continue(Effect::Close(fd))
            }
            Part::Saving(held, state) => {
                inner(self.save(held, state).effect().map_break(|_| ()))
            }
            Part::Done(None) => Break(Ok(())),
            Part::Done(Some(errno)) => Break(Err(errno)),
        }
    }

    fn step(self, event: Event) -> Result<Self, Unexpected> {
        let mut saved = self.state.saved;
        let part = match (self.state.part, event) {
            (Part::Acquiring(state), event) => {
                self.acquired(self.acquire(state).step(event)?)
            }
            (Part::OpeningStore(held), Event::Opened(fd)) => {
                Part::Loading(held, Some(fd))
            }
            (Part::OpeningStore(held), Event::Failed(errno)) => {
                Part::Releasing(held, Some(errno))
            }
            (Part::Loading(held, None), Event::Read) => self.loaded(held),
            (Part::Loading(held, None), Event::Failed(errno)) => {
                Part::Releasing(held, Some(errno))
            }
            (Part::Loading(held, Some(fd)), Event::Read) => {
                Part::ClosingStore(held, fd, None)
            }
            (Part::Loading(held, Some(fd)), Event::Failed(errno)) => {
                Part::ClosingStore(held, fd, Some(errno))
            }
            (
                Part::ClosingStore(held, _, failed),
                Event::Closed | Event::Failed(_),
            ) => match failed {
                None => self.loaded(held),
                Some(errno) => Part::Releasing(held, Some(errno)),
            },
            (Part::Saving(held, state), event) => {
                let save = self.save(held, state).step(event)?;
                if event == Event::Renamed {
                    saved = saved.saturating_add(1);
                }
                let part = self.saved(save, saved);
                if let Break(Outcome::NotDurable(..)) = save.effect() {
                    saved = saved.saturating_sub(1);
                }
                part
            }
            (Part::Releasing(_, failed), Event::Closed | Event::Failed(_)) => {
                Part::Done(failed)
            }
            (part, event) => return Err(Unexpected::new(part, event)),
        };
        Ok(Self { state: State { part, saved }, ..self })
    }

    fn label(self) -> String {
        match self.state.part {
            Part::Acquiring(state) => self.acquire(state).label(),
            Part::OpeningStore(_) => "opening store".to_owned(),
            Part::Loading(..) => "loading".to_owned(),
            Part::ClosingStore(..) => "closing store".to_owned(),
            Part::Saving(held, state) => self.save(held, state).label(),
            Part::Releasing(..) => "releasing".to_owned(),
            Part::Done(None) => "done".to_owned(),
            Part::Done(Some(_)) => "failed".to_owned(),
        }
    }
}
