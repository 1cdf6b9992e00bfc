//! Partial order reduction: where the step of one process alone is enough.
//!
//! Lives here: the contract, what the calls of the store's model read and
//! write, and whose step may be taken alone. May not live here: the search
//! (`wide`); liveness: a fair cycle may be among the orders that are left out.
//!
//! A step is taken alone, before all others, where (after Baier and Katoen,
//! *Principles of Model Checking*, 8.2, conditions A1 to A4):
//!
//! - it is enabled, so that no state loses all of its steps;
//! - no run of the *others* comes to a step that depends on it: each of them
//!   commutes with it and neither enables nor disables it. What others may
//!   still read and write is taken from where they are
//!   ([`Sessions::ahead`]), never only from what they do next;
//! - it *mends nothing*: a state that violates a property, or that a twin
//!   looks for, is one still after it. That is enough for properties of
//!   states, and less than invisible: an order with the step first comes to
//!   such a state too;
//! - it never closes a cycle: a session goes in circles only through the close
//!   before it opens again, and that is never taken alone. So only so many
//!   such steps follow each other.
//!
//! Then the states between are not kept either: a search looks at states in
//! which nobody's step may be taken alone ([`settle`]). Whose turn comes first
//! there does not matter, since what may be taken alone stays so.
//!
//! With symmetry it goes together: from a state that violates, walk back to a
//! beginning. Each step of that run, taken from the representative, either is
//! the one taken alone or commutes with it; the run gets shorter, or there are
//! fewer steps left that could be taken alone, under whatever names.
//!
//! None of this is a matter of belief: `tests/partial_order.rs` looks at
//! every state of small instances.

use core::ops::ControlFlow::{Break, Continue};

use super::Model;
use super::golden::Golden;
use super::lock::{Progress, Sessions, World};
use crate::fsm::Machine as _;
use crate::fsm::call::{Access, Effect, Event, Fd, Name};
use crate::fsm::lock::State as Lock;
use crate::fsm::protocol::{Compare, Target};
use crate::fsm::save::State as Save;
use crate::fsm::session::{Part, Role};
use crate::sim::disk::{DESCRIPTORS, INODES, PROCESSES};

/// A model that knows which steps need not be taken in every order.
pub trait Ordered: Model {
    /// Whose next step may be taken alone in `state`, for properties of
    /// safety and their twins: see the conditions of this module.
    fn alone(&self, state: &Self::State) -> Option<usize>;

    /// The only next step of this actor.
    fn step_of(
        &self,
        state: &Self::State,
        actor: usize,
    ) -> Option<(Self::Step, Self::State)> {
        let mut steps = Vec::new();
        self.steps(state, &mut steps);
        steps.into_iter().find(|(step, _)| self.actor(step) == actor)
    }
}

/// Takes steps alone until there is none more, and tells each.
pub fn settle<M: Ordered>(
    model: &M,
    mut state: M::State,
    say: &mut dyn FnMut(M::Step, &M::State),
) -> M::State {
    while let Some(actor) = model.alone(&state)
        && let Some((step, next)) = model.step_of(&state, actor)
    {
        say(step, &next);
        state = next;
    }
    state
}

/// Its counts are what it is there for: nothing is taken alone.
impl Ordered for Golden {
    fn alone(&self, _: &Self::State) -> Option<usize> {
        None
    }
}

/// What a call, or all calls that a process may still make, read and write:
/// one bit for each part of the disk.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Footprint {
    /// What it depends on.
    pub reads: u32,
    /// What it changes.
    pub writes: u32,
}

/// Where `qubes.xml` leads.
pub const STORE_NAME: u32 = 1;
/// Where the lock file's name leads; nobody changes it.
pub const LOCK_NAME: u32 = 1 << 1;
/// Which inode numbers are free: a new file gets the lowest, and the last
/// close of a file without a name gives one back.
pub const NUMBERS: u32 = 1 << 2;
/// Every part there is.
const EVERYTHING: u32 = u32::MAX;

/// Descriptors and memory of a process, its temporary name, and where it is.
pub fn own(process: usize) -> u32 {
    1 << (3 + process.min(PROCESSES - 1))
}

/// What a file holds, and when it was written.
pub fn content(inode: u8) -> u32 {
    of_file(inode, 0)
}

/// Who has locked it.
pub fn locks(inode: u8) -> u32 {
    of_file(inode, 1)
}

/// What leads to it: names and descriptors.
pub fn links(inode: u8) -> u32 {
    of_file(inode, 2)
}

fn of_file(inode: u8, part: usize) -> u32 {
    let inode = usize::from(inode).min(INODES - 1);
    1 << (3 + PROCESSES + 3 * inode + part)
}

const _: () = assert!(3 + PROCESSES + 3 * INODES <= 32, "a bit for each part");

impl Footprint {
    fn reading(self, parts: u32) -> Self {
        Self { reads: self.reads | parts, ..self }
    }

    fn writing(self, parts: u32) -> Self {
        Self { writes: self.writes | parts, ..self }
    }

    fn with(self, other: Self) -> Self {
        self.reading(other.reads).writing(other.writes)
    }

    /// Whether one changes what the other reads or changes.
    pub fn depends_on(self, other: Self) -> bool {
        self.writes & (other.reads | other.writes) != 0
            || self.reads & other.writes != 0
    }
}

impl Ordered for Sessions {
    fn alone(&self, world: &World) -> Option<usize> {
        if world.no_row() {
            return None;
        }
        (0..self.processes()).find(|process| self.may_go_alone(world, *process))
    }

    fn step_of(
        &self,
        world: &World,
        actor: usize,
    ) -> Option<(Self::Step, World)> {
        let mut next = *world;
        match self.advance(&mut next, actor) {
            Progress::Moved(call) => Some((call, next)),
            // What is refused is looked at in every order.
            Progress::Blocked(_) | Progress::Done | Progress::Refused(..) => {
                None
            }
        }
    }
}

impl Sessions {
    /// Whether the next step of `process` may be taken before all others.
    pub fn may_go_alone(&self, world: &World, process: usize) -> bool {
        if !self.mends_nothing(world, process) {
            return false;
        }
        let Some((call, _)) = self.step_of(world, process) else {
            return false;
        };
        // Who turns back is looked at no more.
        if matches!(call.event, Event::Changed | Event::Failed(_)) {
            return false;
        }
        let own = self.footprint(world, process);
        let others = (0..self.processes()).filter(|other| *other != process);
        let mut others = others.map(|other| self.ahead(world, other, process));
        others.all(|other| !own.depends_on(other))
    }

    /// Whether what is violated, or what a twin looks for, is so after the
    /// next step of `process` too, and the step is not the one that every
    /// circle of a session has.
    pub fn mends_nothing(&self, world: &World, process: usize) -> bool {
        match self.session(world, process).state.part {
            // What is given up is held no more; and then it opens again.
            Part::Acquiring(Lock::Reopening(_)) | Part::Releasing(..) => false,
            Part::Acquiring(
                Lock::Opening
                | Lock::Locking(_)
                | Lock::StattingFd(_)
                | Lock::StattingName(..),
            )
            | Part::OpeningStore(_)
            | Part::Loading(..) => true,
            Part::ClosingStore(_, fd, _) => self.lets_wait(world, process, fd),
            Part::Saving(held, state) => match state {
                Save::Creating
                | Save::Writing(_)
                | Save::Syncing(_)
                | Save::LockingTemp(_)
                | Save::ComparingStat(_)
                | Save::ComparingContent(_)
                | Save::SyncingDirectory(_) => true,
                Save::ClosingTemp(fd) => self.lets_wait(world, process, fd),
                Save::ClosingOld(..) => self.lets_wait(world, process, held),
                // Content that was lost may come back.
                Save::Sweeping
                | Save::Renaming(_)
                | Save::Unlinking(..)
                | Save::Discarding(..)
                | Save::Ended(_) => false,
            },
            Part::Acquiring(
                Lock::Closing(..) | Lock::Held(_) | Lock::Failed(_),
            )
            | Part::Done(_) => false,
        }
    }

    /// Whether nobody waits for a lock of `process` on that file, who would
    /// wait no more without it.
    fn lets_wait(&self, world: &World, process: usize, fd: Fd) -> bool {
        let inode =
            |process, fd| world.disk.opened(process, fd).map(|file| file.inode);
        (0..self.processes()).all(|other| {
            let asked = match self.session(world, other).effect() {
                Continue(Effect::Lock(fd, _)) => inode(other, fd),
                Continue(_) | Break(_) => None,
            };
            asked.is_none()
                || asked != inode(process, fd)
                || !self.waits_for(world, other, process)
        })
    }

    /// What the next call of `process` reads and writes, whether it waits or
    /// not.
    pub fn footprint(&self, world: &World, process: usize) -> Footprint {
        let disk = &world.disk;
        let session = self.session(world, process);
        let effect = match session.effect() {
            Continue(effect) => effect,
            Break(_) => return Footprint::default(),
        };
        let (store, _) = disk.store();
        let inode = |fd| disk.opened(process, fd).map(|file| file.inode);
        let temp = disk.process(process).temp();
        let call = Footprint::default().writing(own(process));
        let of = |inode: Option<u8>, what: &dyn Fn(u8) -> Footprint| {
            inode.map_or(call, |inode| call.with(what(inode)))
        };
        let reads = |parts| Footprint::default().reading(parts);
        let writes = |parts| Footprint::default().writing(parts);
        match effect {
            Effect::Open(name, _) => {
                let inode = match name {
                    Name::Store => Some(store),
                    Name::LockFile => disk.lock_file(),
                    Name::Temp => temp,
                };
                of(inode, &|inode| writes(links(inode))).reading(named(name))
            }
            // The lock of another is what it waits for.
            Effect::Lock(fd, _) | Effect::TryLock(fd) => {
                of(inode(fd), &|inode| writes(locks(inode)))
            }
            Effect::StatFd(_) | Effect::Sync(_) | Effect::SyncDirectory => call,
            Effect::StatName(name) => {
                // It asks whether the name leads to its file still. Once that
                // has no name it gets none again, and as long as we have it
                // open its number is no other's.
                let asked = match session.state.part {
                    Part::Acquiring(Lock::StattingName(fd, _)) => inode(fd),
                    Part::Acquiring(_)
                    | Part::OpeningStore(_)
                    | Part::Loading(..)
                    | Part::ClosingStore(..)
                    | Part::Saving(..)
                    | Part::Releasing(..)
                    | Part::Done(_) => None,
                };
                match asked.is_some_and(|inode| !disk.is_linked(inode)) {
                    true => call,
                    false => call.reading(named(name)),
                }
            }
            Effect::Read(fd) | Effect::CompareContent(fd) => {
                of(inode(fd), &|inode| reads(content(inode)))
            }
            Effect::Create => call.writing(NUMBERS),
            Effect::Write(fd) => of(inode(fd), &|inode| writes(content(inode))),
            Effect::CompareStat => call.reading(STORE_NAME | content(store)),
            Effect::Rename => {
                let replaced = freed(world, store, 0, 1);
                of(temp, &|inode| writes(links(inode)))
                    .writing(STORE_NAME | links(store) | replaced)
            }
            Effect::Unlink => of(temp, &|inode| {
                writes(links(inode) | freed(world, inode, 0, 1))
            }),
            Effect::Close(fd) => of(inode(fd), &|inode| {
                let freed = freed(world, inode, 1, 0);
                writes(links(inode) | locks(inode) | freed)
            }),
            // Other people's names.
            Effect::Sweep => {
                Footprint { reads: EVERYTHING, writes: EVERYTHING }
            }
        }
    }

    /// All that `process` may read and write before `still` makes its next
    /// step: what it has open now, what names may lead to by then, and what
    /// else its session comes to. Rather too much than too little.
    pub fn ahead(
        &self,
        world: &World,
        process: usize,
        still: usize,
    ) -> Footprint {
        let disk = &world.disk;
        let session = self.session(world, process);
        let part = session.state.part;
        // Who waits for one that stands still stands still too.
        if matches!(part, Part::Done(_))
            || self.waits_for(world, process, still)
        {
            return Footprint::default();
        }
        let mut ahead = Footprint::default().writing(own(process) | NUMBERS);
        let fds = (0..DESCRIPTORS as u8).map(Fd);
        for file in fds.filter_map(|fd| disk.opened(process, fd)) {
            ahead = ahead
                .writing(links(file.inode) | locks(file.inode))
                .reading(content(file.inode));
        }
        if let Some(temp) = disk.process(process).temp() {
            ahead = ahead.writing(links(temp) | content(temp));
        }
        let does = Ahead::of(self, world, process);
        // A sweep looks at every name.
        if does.renames && self.protocol.sweep {
            return Footprint { reads: EVERYTHING, writes: EVERYTHING };
        }
        if does.opens {
            ahead = ahead.reading(STORE_NAME | LOCK_NAME);
            for inode in
                (0..INODES as u8).filter(|i| may_open(world, *i, still))
            {
                ahead = ahead
                    .writing(links(inode) | locks(inode))
                    .reading(content(inode));
            }
        }
        if does.looks {
            ahead = ahead.reading(STORE_NAME | LOCK_NAME);
        }
        if does.renames {
            ahead = ahead.writing(STORE_NAME | links(disk.store().0));
        }
        ahead
    }

    /// Whether the lock that `process` asks for is one that `holder` has.
    fn waits_for(&self, world: &World, process: usize, holder: usize) -> bool {
        let (fd, access) = match self.session(world, process).effect() {
            Continue(Effect::Lock(fd, access)) => (fd, access),
            Continue(_) | Break(_) => return false,
        };
        let Some(asked) = world.disk.opened(process, fd) else { return false };
        self.holds_lock(world, holder, asked.inode, access)
    }

    /// Whether `holder` has a lock on that file that excludes `access`.
    fn holds_lock(
        &self,
        world: &World,
        holder: usize,
        inode: u8,
        access: Access,
    ) -> bool {
        let fds = (0..DESCRIPTORS as u8).map(Fd);
        let mut held = fds.filter_map(|fd| world.disk.opened(holder, fd));
        held.any(|file| {
            file.inode == inode
                && match file.ofd {
                    Some(Access::Write) => true,
                    Some(Access::Read) => access == Access::Write,
                    None => false,
                }
        })
    }
}

/// Which calls a session may come to, its own next one among them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Ahead {
    /// A name is opened.
    pub opens: bool,
    /// It is asked where a name leads.
    pub looks: bool,
    /// A name leads elsewhere.
    pub renames: bool,
}

impl Ahead {
    /// From where `process` is.
    pub fn of(model: &Sessions, world: &World, process: usize) -> Self {
        let session = model.session(world, process);
        let Sessions { protocol, .. } = *model;
        let writes = matches!(session.role, Role::Writer { .. });
        let reopens = protocol.compare != Compare::Never;
        let saves = Self {
            opens: false,
            looks: writes && protocol.verify,
            renames: writes,
        };
        let locked_elsewhere = protocol.target == Target::LockFile;
        match session.state.part {
            Part::Acquiring(state) => Self {
                opens: locked_elsewhere
                    || match state {
                        Lock::Opening => true,
                        Lock::Locking(_) => {
                            protocol.compare == Compare::AfterLock
                        }
                        Lock::StattingFd(_)
                        | Lock::StattingName(..)
                        | Lock::Reopening(_) => true,
                        Lock::Closing(..) | Lock::Held(_) | Lock::Failed(_) => {
                            false
                        }
                    },
                looks: saves.looks || reopens,
                ..saves
            },
            Part::OpeningStore(_) => Self { opens: true, ..saves },
            Part::Loading(..) | Part::ClosingStore(..) => saves,
            Part::Saving(_, state) => match state {
                Save::Sweeping
                | Save::Creating
                | Save::Writing(_)
                | Save::Syncing(_)
                | Save::LockingTemp(_)
                | Save::ClosingTemp(_)
                | Save::ComparingStat(_)
                | Save::ComparingContent(_)
                | Save::Renaming(_) => saves,
                Save::SyncingDirectory(_) | Save::ClosingOld(..)
                    if session.state.saved < model.saves =>
                {
                    saves
                }
                Save::SyncingDirectory(_)
                | Save::ClosingOld(..)
                | Save::Unlinking(..)
                | Save::Discarding(..)
                | Save::Ended(_) => Self::default(),
            },
            Part::Releasing(..) | Part::Done(_) => Self::default(),
        }
    }
}

/// Whether a name may lead to that file before `still` makes its next step:
/// not to one that is open and has no name, nor to its temporary file.
fn may_open(world: &World, inode: u8, still: usize) -> bool {
    let disk = &world.disk;
    let open = disk.users(inode) > 0;
    let hidden = disk.process(still).temp() == Some(inode);
    !hidden && (disk.is_linked(inode) || !open)
}

fn named(name: Name) -> u32 {
    match name {
        Name::Store => STORE_NAME,
        Name::LockFile => LOCK_NAME,
        // It is the process's own.
        Name::Temp => 0,
    }
}

/// What changes with a file that so many descriptors and names leave, if
/// nothing else leads to it.
fn freed(world: &World, inode: u8, descriptors: usize, names: usize) -> u32 {
    let disk = &world.disk;
    let linked = usize::from(disk.is_linked(inode));
    if linked <= names && disk.users(inode) <= descriptors {
        NUMBERS | content(inode) | locks(inode)
    } else {
        0
    }
}
