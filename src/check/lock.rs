//! The model of the store: sessions of `fsm::session` on a `sim::disk`.
//!
//! Lives here: how machine and disk are put together, and what must be true
//! of both (S1 to S7 of `spec/lock.md`). May not live here: a second version
//! of either. The explorer and loom both move a [`World`] by
//! [`Sessions::advance`].

use core::ops::ControlFlow::{Break, Continue};

use super::{Model, Property};
use crate::fsm::call::{Effect, Event, Fd};
use crate::fsm::lock::State as Lock;
use crate::fsm::protocol::{Protocol, Target};
use crate::fsm::session::{Part, Role, Session, State};
use crate::fsm::{Machine, Unexpected};
use crate::sim::disk::{Answer, Disk, PROCESSES, SAVES, Updates};

/// Writers and readers that use one store by one protocol.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Sessions {
    /// Which variant of the protocol.
    pub protocol: Protocol,
    /// Processes that save.
    pub writers: usize,
    /// Processes that only load; together at most [`PROCESSES`].
    pub readers: usize,
    /// Saves of each writer in its session, at most [`SAVES`].
    pub saves: u8,
}

/// Machine and disk: all that decides what can happen next.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct World {
    /// The disk.
    pub disk: Disk,
    /// Where each process is.
    pub sessions: [State; PROCESSES],
}

/// Processes that held the store when somebody who does not follow the
/// protocol changed it, and have not given it back yet: one bit each.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Deposed(u8);

impl Deposed {
    /// Whether `process` is one.
    pub fn has(self, process: usize) -> bool {
        self.0 & Self::bit(process) != 0
    }

    /// With `process`.
    #[must_use]
    pub fn with(self, process: usize) -> Self {
        Self(self.0 | Self::bit(process))
    }

    /// Without `process`.
    #[must_use]
    pub fn without(self, process: usize) -> Self {
        Self(self.0 & !Self::bit(process))
    }

    fn bit(process: usize) -> u8 {
        1 << (process & 7)
    }
}

/// Where a session stands whose machine refused what it was told. A part that
/// has ended is never stored, so that nobody else is there.
const NO_ROW: Part = Part::Acquiring(Lock::Held(Fd(u8::MAX)));

impl World {
    /// The machine of `process` has no row for what it was told.
    pub(super) fn refuse(&mut self, process: usize) {
        if let Some(state) = self.sessions.get_mut(process) {
            state.part = NO_ROW;
        }
    }

    /// A machine had no row for what it was told: a deadlock.
    pub fn no_row(&self) -> bool {
        self.sessions.iter().any(|state| state.part == NO_ROW)
    }
}

/// A call that was made, and its answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Call {
    /// Who made it.
    pub process: usize,
    /// The call.
    pub effect: Effect,
    /// Its answer.
    pub event: Event,
}

/// What came of an attempt to go on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Progress {
    /// A call was made.
    Moved(Call),
    /// The next call waits; nothing changed.
    Blocked(Effect),
    /// There is no next call.
    Done,
    /// The disk gave an answer that the machine does not know, and nobody goes
    /// on from there: a bug of ours.
    Refused(Call, Unexpected),
}

/// A configuration that the model has no room for.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "{writers} writers, {readers} readers, {saves} saves: the model has room \
     for 1 to {PROCESSES} processes and 1 to {SAVES} saves, and only \
     protocols that keep the lock can save twice"
)]
pub struct NoRoom {
    writers: usize,
    readers: usize,
    saves: u8,
}

impl Sessions {
    /// A model of so many processes.
    ///
    /// # Errors
    /// There is no room for them.
    pub fn new(
        protocol: Protocol,
        writers: usize,
        readers: usize,
        saves: u8,
    ) -> Result<Self, NoRoom> {
        let processes = writers.saturating_add(readers);
        let keeps = protocol.keep != crate::fsm::protocol::Keep::Nothing;
        let fits = (1..=PROCESSES).contains(&processes)
            && (1..=SAVES).contains(&usize::from(saves))
            && (saves == 1 || keeps);
        if fits {
            // Where nobody crashes there is nothing to sweep.
            let protocol = Protocol { sweep: false, ..protocol };
            Ok(Self { protocol, writers, readers, saves })
        } else {
            Err(NoRoom { writers, readers, saves })
        }
    }

    /// The error for more than there is room for.
    pub(super) fn no_room(&self) -> NoRoom {
        let Self { writers, readers, saves, .. } = *self;
        NoRoom { writers, readers, saves }
    }

    /// How many processes there are.
    pub fn processes(&self) -> usize {
        self.writers + self.readers
    }

    /// Where it begins.
    pub fn start(&self) -> World {
        let disk = match self.protocol.target {
            Target::Store => Disk::new(),
            Target::LockFile => Disk::with_lock_file(),
        };
        let session = Session::new(self.protocol, Role::Reader);
        World { disk, sessions: [session.state; PROCESSES] }
    }

    /// The session of `process`: writers come first.
    pub fn session(&self, world: &World, process: usize) -> Session {
        let role = if process < self.writers {
            Role::Writer { saves: self.saves }
        } else {
            Role::Reader
        };
        let state = world.sessions[process];
        Session { protocol: self.protocol, role, state }
    }

    /// Lets `process` make its next call.
    pub fn advance(&self, world: &mut World, process: usize) -> Progress {
        let session = self.session(world, process);
        let effect = match session.effect() {
            Continue(effect) => effect,
            Break(_) => return Progress::Done,
        };
        let event = match world.disk.apply(process, effect) {
            Answer::Event(event) => event,
            Answer::Blocked => return Progress::Blocked(effect),
        };
        match session.step(event) {
            Ok(next) => {
                world.sessions[process] = next.state;
                if !next.may_compare() {
                    world.disk.forget_loaded(process);
                }
                Progress::Moved(Call { process, effect, event })
            }
            Err(unexpected) => {
                world.refuse(process);
                let call = Call { process, effect, event };
                Progress::Refused(call, unexpected)
            }
        }
    }

    /// The call that `process` waits in, if it does.
    pub fn blocked(&self, world: &World, process: usize) -> Option<Effect> {
        match self.session(world, process).effect() {
            Continue(effect) => {
                world.disk.blocks(process, effect).then_some(effect)
            }
            Break(_) => None,
        }
    }

    /// Every property that must hold, with its name: what the explorer checks
    /// in each state and loom after each call.
    pub const SAFETY: [(&'static str, super::Test<Self>); 6] = [
        (S1, Self::no_lost_update),
        (S1_STALE, Self::no_stale_read),
        (S2, Self::one_holder),
        (S3, Self::never_torn),
        (S5, Self::nothing_left),
        (NO_FAILURE, Self::no_failure),
    ];

    //= spec/lock.md#s1-no-lost-update
    fn no_lost_update(&self, world: &World) -> bool {
        let (_, file) = world.disk.store();
        (0..self.writers).all(|process| {
            let session = self.session(world, process);
            (0..session.acknowledged())
                .all(|save| file.content.has(Updates::one(process, save)))
        })
    }

    //= spec/lock.md#s1-no-stale-read
    fn no_stale_read(&self, world: &World) -> bool {
        self.no_stale_read_but(world, Deposed::default())
    }

    /// The same of all but these.
    pub(super) fn no_stale_read_but(
        &self,
        world: &World,
        but: Deposed,
    ) -> bool {
        let (_, file) = world.disk.store();
        (0..self.processes()).all(|process| {
            but.has(process)
                || !self.session(world, process).has_current_view()
                || world.disk.process(process).memory == file.content
        })
    }

    //= spec/lock.md#s2-one-holder
    fn one_holder(&self, world: &World) -> bool {
        self.one_holder_but(world, Deposed::default())
    }

    /// The same of all but these.
    pub(super) fn one_holder_but(&self, world: &World, but: Deposed) -> bool {
        let (store, _) = world.disk.store();
        let locked = match self.protocol.target {
            Target::Store => Some(store),
            Target::LockFile => world.disk.lock_file(),
        };
        let mut readers = 0;
        let mut writers = 0;
        for process in 0..self.processes() {
            let Some(fd) = self.session(world, process).holds() else {
                continue;
            };
            if but.has(process) {
                continue;
            }
            let file = world.disk.opened(process, fd).map(|h| h.inode);
            if file != locked {
                return false;
            }
            if process < self.writers {
                writers += 1;
            } else {
                readers += 1;
            }
        }
        writers == 0 || (writers == 1 && readers == 0)
    }

    //= spec/lock.md#s3-never-torn
    pub(super) fn never_torn(&self, world: &World) -> bool {
        world.disk.store().1.whole
    }

    //= spec/lock.md#s5-nothing-is-left
    pub(super) fn nothing_left(&self, world: &World) -> bool {
        (0..self.processes()).all(|process| {
            let done = matches!(world.sessions[process].part, Part::Done(_));
            !done || world.disk.is_clean(process)
        })
    }

    /// Nobody interferes and no call fails here: nothing is refused.
    fn no_failure(&self, world: &World) -> bool {
        world.sessions.iter().all(|s| !matches!(s.part, Part::Done(Some(_))))
    }

    //= spec/lock.md#s7-everyone-finishes
    fn finished(&self, world: &World) -> bool {
        (0..self.processes())
            .all(|p| matches!(world.sessions[p].part, Part::Done(_)))
    }

    fn finished_with_every_update(&self, world: &World) -> bool {
        let (_, file) = world.disk.store();
        let all = (0..self.writers)
            .flat_map(|p| (0..self.saves).map(move |s| Updates::one(p, s)))
            .fold(Updates::default(), Updates::with);
        self.finished(world) && file.content == all
    }

    pub(super) fn somebody_waits(&self, world: &World) -> bool {
        (0..self.processes()).any(|p| self.blocked(world, p).is_some())
    }

    /// Somebody got the lock of a file that no name leads to: what the race
    /// needs. So it is until the descriptor is given up, by whatever comes.
    fn lock_on_unlinked(&self, world: &World) -> bool {
        (0..self.processes()).any(|process| {
            let session = self.session(world, process);
            let fd = match session.state.part {
                Part::Acquiring(
                    Lock::StattingFd(fd)
                    | Lock::StattingName(fd, _)
                    | Lock::Reopening(fd),
                ) => Some(fd),
                Part::Acquiring(_)
                | Part::OpeningStore(_)
                | Part::Loading(..)
                | Part::ClosingStore(..)
                | Part::Saving(..)
                | Part::Releasing(..)
                | Part::Done(_) => session.holds(),
            };
            let file = fd.and_then(|fd| world.disk.opened(process, fd));
            file.is_some_and(|file| {
                file.ofd.is_some() && !world.disk.is_linked(file.inode)
            })
        })
    }

    fn readers_share(&self, world: &World) -> bool {
        let readers = self.writers..self.processes();
        let holds = |p: &usize| self.session(world, *p).holds().is_some();
        readers.filter(holds).count() > 1
    }

    fn saving(&self, world: &World) -> bool {
        (0..self.writers).any(|p| {
            self.session(world, p).has_temp_name() && !world.disk.is_clean(p)
        })
    }
}

/// Name of S1, for writers.
pub const S1: &str = "S1 no lost update";
/// Name of S1, for what a holder has in memory.
pub const S1_STALE: &str = "S1 no stale read";
/// Name of S2.
pub const S2: &str = "S2 one holder";
/// Name of S3.
pub const S3: &str = "S3 never torn";
/// Name of S5.
pub const S5: &str = "S5 nothing is left";
/// Name of the property that nothing fails where nothing can.
pub const NO_FAILURE: &str = "nothing fails";
/// Name of the twin of S2: two readers hold the lock at a time.
pub const READERS_SHARE: &str = "readers share the lock";
/// Name of S8.
pub const S8: &str = "S8 others' changes stay";
/// Name of S7.
pub const S7: &str = "S7 everyone finishes";

impl Model for Sessions {
    type State = World;
    type Step = Call;

    fn initial(&self) -> Vec<World> {
        vec![self.start()]
    }

    fn steps(&self, world: &World, steps: &mut Vec<(Call, World)>) {
        if world.no_row() {
            return;
        }
        for process in 0..self.processes() {
            let mut next = *world;
            match self.advance(&mut next, process) {
                Progress::Moved(call) | Progress::Refused(call, _) => {
                    steps.push((call, next));
                }
                Progress::Blocked(_) | Progress::Done => {}
            }
        }
    }

    fn is_end(&self, world: &World) -> bool {
        self.finished(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties: Vec<_> = Self::SAFETY
            .into_iter()
            .map(|(name, test)| Property::always(name, test))
            .collect();
        properties.push(Property::eventually(S7, Self::finished));
        // Twins: states in which the above could have failed.
        properties.push(Property::sometimes(
            "all done, with every update",
            Self::finished_with_every_update,
        ));
        if self.writers > 0 {
            properties
                .push(Property::sometimes("a save is under way", Self::saving));
        }
        if self.readers > 1 {
            properties
                .push(Property::sometimes(READERS_SHARE, Self::readers_share));
        }
        if self.writers > 0 && self.processes() > 1 {
            properties.push(Property::sometimes(
                "somebody waits for the lock",
                Self::somebody_waits,
            ));
            if self.protocol.target == Target::Store {
                properties.push(Property::sometimes(
                    "a lock is granted on an unlinked file",
                    Self::lock_on_unlinked,
                ));
            }
        }
        properties
    }

    fn actor(&self, call: &Call) -> usize {
        call.process
    }
}
