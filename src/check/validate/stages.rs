//! What a process may do next: the machines of `fsm`, in the order in which
//! the types of `store` let a caller use them.
//!
//! Lives here: stages between and inside the machines, and the set of those
//! that a process may be in. May not live here: texts of a trace.

use core::ops::ControlFlow::{Break, Continue};

use crate::fsm::call::{Access, Effect, Errno, Event, Fd, FileId, Name};
use crate::fsm::lock::Acquire;
use crate::fsm::protocol::{Keep, Protocol, Target};
use crate::fsm::save::{Outcome, Save};
use crate::fsm::{Machine, lock};

/// Where a process is. One call may lead to several: a trace does not say
/// what a program makes of an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// It has nothing open.
    Outside,
    /// It reads without a lock, as every program may.
    Unlocked(Fd),
    /// It takes the lock.
    Acquiring(Acquire),
    /// It has the lock.
    Held(Fd, Access),
    /// It has the lock of a lock file, and the store open beside it; whether
    /// it has what the store holds.
    Beside(Fd, Fd, Access, bool),
    /// It has the lock, and what the store holds.
    Loaded(Fd, Access),
    /// It saves.
    Saving(Save),
}

/// A call that was seen, as what it may mean.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// Calls of the machine, with their answers.
    pub(super) meanings: Vec<(Effect, Event)>,
    /// When the process may be where it was before.
    pub(super) stays: Stays,
}

/// When a call leaves a process where it was.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Stays {
    /// It has a meaning, or it is not allowed.
    #[default]
    Never,
    /// It changes nothing: allowed also where it has no meaning.
    WithoutMeaning,
    /// It failed, and may be tried again.
    Always,
}

/// The stages that a process may be in.
#[derive(Clone, Debug)]
pub(super) struct Stages {
    protocol: Protocol,
    /// The trace has system calls: some calls of the machine are none that
    /// is traced.
    traced: bool,
    stages: Vec<Stage>,
}

impl Stages {
    /// Every call is in the log.
    pub(super) fn of_log(protocol: Protocol) -> Self {
        Self { protocol, traced: false, stages: vec![Stage::Outside] }
    }

    /// Reading, writing and sweeping are not in the trace.
    pub(super) fn of_calls(protocol: Protocol) -> Self {
        let stages = vec![Stage::Outside];
        Self { protocol, traced: true, stages }
    }

    /// Whether the process has given everything back.
    pub(super) fn is_outside(&self) -> bool {
        self.stages.contains(&Stage::Outside)
    }

    /// Begins again: what was open went with the process.
    pub(super) fn reset(&mut self) {
        self.stages = vec![Stage::Outside];
    }

    /// Goes on by one call; `Err` has the calls that would have been allowed.
    pub(super) fn advance(&mut self, seen: &Seen) -> Result<(), Vec<Effect>> {
        let before = self.closure();
        let mut after = Vec::new();
        for stage in &before {
            let mut has_meaning = false;
            for (effect, event) in &seen.meanings {
                for next in stage.step(self.protocol, *effect, *event) {
                    has_meaning = true;
                    put(&mut after, next);
                }
            }
            let stays = match seen.stays {
                Stays::Never => false,
                Stays::WithoutMeaning => !has_meaning,
                Stays::Always => true,
            };
            if stays {
                put(&mut after, *stage);
            }
        }
        if after.is_empty() {
            let mut allowed = Vec::new();
            for stage in &before {
                for effect in stage.effects(self.protocol) {
                    if !self.is_silent(effect) && !allowed.contains(&effect) {
                        allowed.push(effect);
                    }
                }
            }
            return Err(allowed);
        }
        self.stages = after;
        Ok(())
    }

    /// These stages, and all that calls lead to that no trace shows.
    fn closure(&self) -> Vec<Stage> {
        let mut all = self.stages.clone();
        let mut at = 0;
        while let Some(stage) = all.get(at).copied() {
            at += 1;
            for effect in stage.effects(self.protocol) {
                for event in self.unseen(effect) {
                    for next in stage.step(self.protocol, effect, event) {
                        put(&mut all, next);
                    }
                }
            }
        }
        all
    }

    fn is_silent(&self, effect: Effect) -> bool {
        !self.unseen(effect).is_empty()
    }

    /// What a call may have answered that no trace shows.
    fn unseen(&self, effect: Effect) -> Vec<Event> {
        if !self.traced {
            return Vec::new();
        }
        match effect {
            Effect::Read(fd)
            | Effect::Write(fd)
            | Effect::CompareContent(fd) => {
                let file = FileId { device: 0, inode: 0 };
                effect.answers(fd, file, Errno::IO)
            }
            Effect::Sweep => vec![Event::Swept],
            // The history's programs do not sync; the model lets them, so
            // that it shows what is wrong with the lock and nothing else.
            Effect::Sync(_) | Effect::SyncDirectory
                if self.protocol.keep != Keep::Locked
                    && self.protocol.target == Target::Store =>
            {
                vec![Event::Synced]
            }
            Effect::Open(..)
            | Effect::Lock(..)
            | Effect::TryLock(_)
            | Effect::StatFd(_)
            | Effect::StatName(_)
            | Effect::Create
            | Effect::Sync(_)
            | Effect::CompareStat
            | Effect::Rename
            | Effect::SyncDirectory
            | Effect::Unlink
            | Effect::Close(_) => Vec::new(),
        }
    }
}

fn put(stages: &mut Vec<Stage>, stage: Stage) {
    if !stages.contains(&stage) {
        stages.push(stage);
    }
}

impl Stage {
    /// The calls that may come next.
    fn effects(self, protocol: Protocol) -> Vec<Effect> {
        match self {
            Self::Outside => {
                let mut effects: Vec<_> = [Access::Write, Access::Read]
                    .into_iter()
                    .filter_map(|access| next_call(begin(protocol, access)))
                    .collect();
                let reading = Effect::Open(Name::Store, Access::Read);
                if !effects.contains(&reading) {
                    effects.push(reading);
                }
                effects
            }
            Self::Unlocked(fd) => vec![Effect::Read(fd), Effect::Close(fd)],
            Self::Acquiring(acquire) => {
                next_call(acquire).into_iter().collect()
            }
            Self::Held(fd, _) => {
                let load = match protocol.target {
                    Target::Store => Effect::Read(fd),
                    Target::LockFile => Effect::Open(Name::Store, Access::Read),
                };
                vec![load, Effect::Close(fd)]
            }
            Self::Beside(_, fd, ..) => {
                vec![Effect::Read(fd), Effect::Close(fd)]
            }
            Self::Loaded(fd, access) => {
                let load = match protocol.target {
                    Target::Store => Effect::Read(fd),
                    Target::LockFile => Effect::Open(Name::Store, Access::Read),
                };
                let mut effects = vec![load];
                if access == Access::Write {
                    effects.extend(next_call(Save::new(protocol, fd)));
                }
                if protocol.verify {
                    effects.push(Effect::CompareStat);
                    effects.push(Effect::CompareContent(fd));
                }
                effects.push(Effect::Close(fd));
                effects
            }
            Self::Saving(save) => next_call(save).into_iter().collect(),
        }
    }

    /// Where this call and its answer lead; nowhere if it is not allowed.
    fn step(
        self,
        protocol: Protocol,
        effect: Effect,
        event: Event,
    ) -> Vec<Self> {
        let mut next = Vec::new();
        if !self.effects(protocol).contains(&effect) {
            return next;
        }
        match (self, effect, event) {
            (Self::Outside, Effect::Open(name, access), event) => {
                let acquire = begin(protocol, access);
                if next_call(acquire) == Some(effect) {
                    next.extend(acquire.step(event).map(acquiring));
                }
                if let (Name::Store, Access::Read, Event::Opened(fd)) =
                    (name, access, event)
                {
                    next.push(Self::Unlocked(fd));
                }
                if let Event::Failed(_) = event {
                    next.push(Self::Outside);
                }
            }
            (Self::Acquiring(acquire), _, event) => {
                next.extend(acquire.step(event).map(acquiring));
            }
            (Self::Saving(save), _, event) => {
                next.extend(save.step(event).map(saving));
            }
            (
                Self::Unlocked(fd),
                Effect::Read(_),
                Event::Read | Event::Failed(_),
            ) => next.push(Self::Unlocked(fd)),
            (
                Self::Unlocked(_) | Self::Held(..) | Self::Loaded(..),
                Effect::Close(_),
                Event::Closed | Event::Failed(_),
            ) => next.push(Self::Outside),
            (Self::Held(fd, access), Effect::Read(_), Event::Read)
            | (
                Self::Loaded(fd, access),
                Effect::Read(_)
                | Effect::CompareStat
                | Effect::CompareContent(_),
                Event::Read | Event::Same,
            ) => {
                next.push(Self::Loaded(fd, access));
            }
            // What was loaded is no longer there: load again, or release.
            (
                Self::Held(fd, access) | Self::Loaded(fd, access),
                Effect::Read(_)
                | Effect::CompareStat
                | Effect::CompareContent(_),
                Event::Changed | Event::Failed(_),
            ) => next.push(Self::Held(fd, access)),
            (Self::Held(held, access), Effect::Open(..), Event::Opened(fd)) => {
                next.push(Self::Beside(held, fd, access, false));
            }
            (
                Self::Loaded(held, access),
                Effect::Open(..),
                Event::Opened(fd),
            ) => next.push(Self::Beside(held, fd, access, true)),
            (
                Self::Held(..) | Self::Loaded(..),
                Effect::Open(..),
                Event::Failed(_),
            ) => next.push(self),
            (
                Self::Beside(held, fd, access, _),
                Effect::Read(_),
                Event::Read | Event::Failed(_),
            ) => {
                let has = event == Event::Read;
                next.push(Self::Beside(held, fd, access, has));
            }
            (
                Self::Beside(held, _, access, has),
                Effect::Close(_),
                Event::Closed | Event::Failed(_),
            ) => next.push(match has {
                true => Self::Loaded(held, access),
                false => Self::Held(held, access),
            }),
            (Self::Loaded(fd, Access::Write), effect, event) => {
                let save = Save::new(protocol, fd);
                if next_call(save) == Some(effect) {
                    next.extend(save.step(event).map(saving));
                }
            }
            // Refused: an answer that this call cannot have.
            (
                Self::Outside
                | Self::Unlocked(_)
                | Self::Held(..)
                | Self::Beside(..)
                | Self::Loaded(..),
                _,
                _,
            ) => {}
        }
        next
    }
}

/// The next call of a machine, if there is one.
fn next_call(machine: impl Machine) -> Option<Effect> {
    match machine.effect() {
        Continue(effect) => Some(effect),
        Break(_) => None,
    }
}

fn begin(protocol: Protocol, access: Access) -> Acquire {
    Acquire { protocol, access, state: lock::State::Opening }
}

fn acquiring(acquire: Acquire) -> Stage {
    match acquire.effect() {
        Continue(_) => Stage::Acquiring(acquire),
        Break(Ok(fd)) => Stage::Held(fd, acquire.access),
        Break(Err(_)) => Stage::Outside,
    }
}

fn saving(save: Save) -> Stage {
    match save.effect() {
        Continue(_) => Stage::Saving(save),
        Break(Outcome::Saved(Some(fd))) => Stage::Loaded(fd, Access::Write),
        Break(Outcome::Saved(None) | Outcome::NotDurable(None, _)) => {
            Stage::Outside
        }
        Break(Outcome::NotDurable(Some(fd), _) | Outcome::Refused(fd, _)) => {
            Stage::Held(fd, Access::Write)
        }
    }
}
