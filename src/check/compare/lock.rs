//! The store's model in the words of `spec/Lock.tla`.
//!
//! Lives here: which variables its states are, and which actions its steps.
//! May not live here: either model.

use super::Specified;
use super::value::Value;
use crate::check::lock::{Call, Sessions, World};
use crate::fsm::call::{Errno, Fd};
use crate::fsm::lock::State as Lock;
use crate::fsm::protocol::Target;
use crate::fsm::save::State as Save;
use crate::fsm::session::{Part, State};
use crate::sim::disk::{DESCRIPTORS, UPDATES, Updates};

/// A model, and how many inodes its specification has room for.
pub(super) struct View<'m> {
    pub(super) model: &'m Sessions,
    pub(super) slots: usize,
}

impl View<'_> {
    /// The variables that modules of the store have in common.
    pub(super) fn variables(
        &self,
        world: &World,
    ) -> Vec<(&'static str, Value)> {
        let disk = &world.disk;
        let each = |of: &dyn Fn(usize) -> Value| {
            let all =
                (0..self.model.processes()).map(|p| (self.name(p), of(p)));
            Value::function(all)
        };
        let main = |p| main(&world.sessions[p]);
        let inode = |p, fd| {
            let handle = disk.opened(p, fd);
            self.number(handle.map(|handle| handle.inode))
        };
        // There are two descriptors: one that the machine does not know of
        // is shown too.
        let second = |p: usize| {
            let all = (0..DESCRIPTORS as u8).map(Fd);
            let mut others = all.filter(|fd| Some(*fd) != main(p));
            let open = others.find(|fd| disk.opened(p, *fd).is_some());
            open.map_or(Value::number(0), |fd| inode(p, fd))
        };
        let files = |count, of: &dyn Fn(usize) -> Value| {
            Value::sequence((1..=count).map(of))
        };
        let content = |slot| {
            let file = disk.inode(self.place(slot));
            self.updates(file.content)
        };
        let whole = |slot| Value::Truth(disk.inode(self.place(slot)).whole);
        let holders = |slot| {
            let locks = |p: &usize| {
                let all = (0..DESCRIPTORS as u8).map(Fd);
                let mut open = all.filter_map(|fd| disk.opened(*p, fd));
                open.any(|handle| {
                    handle.inode == self.place(slot) && handle.ofd.is_some()
                })
            };
            let holders = (0..self.model.processes()).filter(locks);
            Value::set(holders.map(|p| self.name(p)))
        };
        let lockable = self.slots
            + usize::from(self.model.protocol.target == Target::LockFile);
        let memory = |p| self.updates(disk.process(p).memory);
        vec![
            ("path", self.number(Some(disk.store().0))),
            ("content", files(self.slots, &content)),
            ("whole", files(self.slots, &whole)),
            ("lock", files(lockable, &holders)),
            ("pc", each(&|p| Value::text(pc(&world.sessions[p])))),
            (
                "fd",
                each(&|p| main(p).map_or(Value::number(0), |fd| inode(p, fd))),
            ),
            ("tmp", each(&second)),
            ("name", each(&|p| self.number(disk.process(p).temp()))),
            ("base", each(&memory)),
            ("saved", each(&|p| Value::number(world.sessions[p].saved))),
        ]
    }

    /// Writers w1, w2 and so on, then readers r1, r2.
    pub(super) fn name(&self, process: usize) -> Value {
        Value::Name(match process.checked_sub(self.model.writers) {
            None => format!("w{}", process + 1),
            Some(reader) => format!("r{}", reader + 1),
        })
    }

    /// The inode of a slot: the lock file is the last of the specification's
    /// files and the second of the disk's.
    pub(super) fn place(&self, slot: usize) -> u8 {
        let place = match (self.model.protocol.target, slot) {
            (Target::Store, _) | (Target::LockFile, 1) => slot - 1,
            (Target::LockFile, slot) if slot > self.slots => 1,
            (Target::LockFile, slot) => slot,
        };
        u8::try_from(place).unwrap_or(u8::MAX)
    }

    /// The slot of an inode; 0: of none.
    pub(super) fn number(&self, inode: Option<u8>) -> Value {
        let slot = (1..=self.slots + 1)
            .find(|slot| Some(self.place(*slot)) == inode)
            .unwrap_or(0);
        Value::number(slot as u32)
    }

    pub(super) fn updates(&self, updates: Updates) -> Value {
        let all = (0..self.model.processes()).flat_map(|process| {
            (0..UPDATES as u8).map(move |save| (process, save))
        });
        let held = all.filter(|(process, save)| {
            updates.has(Updates::one(*process, *save))
        });
        let held = held.map(|(process, save)| {
            Value::sequence([self.name(process), Value::number(save + 1)])
        });
        let others = (0..UPDATES as u8)
            .filter(|change| updates.has(Updates::of_others(*change)))
            .map(|n| {
                Value::sequence([Value::text("others"), Value::number(n + 1)])
            });
        Value::set(held.chain(others))
    }
}

impl Specified for Sessions {
    const MODULE: &'static str = "Lock";

    fn variables(&self, world: &World) -> Vec<(&'static str, Value)> {
        // Processes, and two: `Slots` of the specification.
        View { model: self, slots: self.processes() + 2 }.variables(world)
    }

    fn action(&self, world: &World, call: &Call) -> &'static str {
        match pc(&world.sessions[call.process]) {
            "open" => "Open",
            "lock" => "Lock",
            "statfd" => "Statfd",
            "statname" => "Statname",
            "reopen" => "Reopen",
            "storeopen" => "Storeopen",
            "load" => "Load",
            "storeclose" => "Storeclose",
            "sweep" => "Sweep",
            "create" => "Create",
            "write" => "Write",
            "sync" => "Sync",
            "locktmp" => "Locktmp",
            "closetmp" => "Closetmp",
            "cmpstat" => "Cmpstat",
            "cmpread" => "Cmpread",
            "unlink" => "Unlink",
            "discard" => "Discard",
            "rename" => "Rename",
            "syncdir" => "Syncdir",
            "closeold" => "Closeold",
            "release" => "Release",
            "close" => "Close",
            // Nobody moves there.
            _ => "-",
        }
    }
}

/// The main descriptor, as the machine knows it.
pub(super) fn main(state: &State) -> Option<Fd> {
    match state.part {
        Part::Acquiring(state) => match state {
            Lock::Opening | Lock::Failed(_) => None,
            Lock::Locking(fd)
            | Lock::StattingFd(fd)
            | Lock::StattingName(fd, _)
            | Lock::Reopening(fd)
            | Lock::Closing(fd, _)
            | Lock::Held(fd) => Some(fd),
        },
        Part::OpeningStore(fd)
        | Part::Loading(fd, _)
        | Part::ClosingStore(fd, ..)
        | Part::Saving(fd, _)
        | Part::Releasing(fd, _) => Some(fd),
        Part::Done(_) => None,
    }
}

/// The next call. What the specification has no word for is in capitals.
fn pc(state: &State) -> &'static str {
    match state.part {
        Part::Acquiring(state) => match state {
            Lock::Opening => "open",
            Lock::Locking(_) => "lock",
            Lock::StattingFd(_) => "statfd",
            Lock::StattingName(..) => "statname",
            Lock::Reopening(_) => "reopen",
            Lock::Closing(..) => "close",
            Lock::Failed(_) => "FAILED",
            Lock::Held(_) => "HELD",
        },
        Part::OpeningStore(_) => "storeopen",
        Part::Loading(..) => "load",
        Part::ClosingStore(_, _, None) => "storeclose",
        Part::Saving(_, state) => match state {
            Save::Sweeping => "sweep",
            Save::Creating => "create",
            Save::Writing(_) => "write",
            Save::Syncing(_) => "sync",
            Save::LockingTemp(_) => "locktmp",
            Save::ClosingTemp(_) => "closetmp",
            Save::ComparingStat(_) => "cmpstat",
            Save::ComparingContent(_) => "cmpread",
            Save::Renaming(_) => "rename",
            Save::SyncingDirectory(_) => "syncdir",
            Save::ClosingOld(..) => "closeold",
            Save::Unlinking(..) => "unlink",
            Save::Discarding(..) => "discard",
            Save::Ended(_) => "ENDED",
        },
        Part::ClosingStore(_, _, Some(_)) => "FAILED",
        Part::Releasing(..) => "release",
        Part::Done(None) => "done",
        Part::Done(Some(_)) => "refused",
    }
}

/// What the session will report, or has reported.
pub(super) fn reason(state: &State) -> Option<Errno> {
    match state.part {
        Part::Acquiring(state) => match state {
            Lock::Closing(_, errno) | Lock::Failed(errno) => Some(errno),
            Lock::Opening
            | Lock::Locking(_)
            | Lock::StattingFd(_)
            | Lock::StattingName(..)
            | Lock::Reopening(_)
            | Lock::Held(_) => None,
        },
        Part::OpeningStore(_) | Part::Loading(..) => None,
        Part::Saving(_, state) => match state {
            Save::ClosingOld(_, lost) => lost,
            Save::Unlinking(_, errno) | Save::Discarding(_, errno) => {
                Some(errno)
            }
            Save::Sweeping
            | Save::Creating
            | Save::Writing(_)
            | Save::Syncing(_)
            | Save::LockingTemp(_)
            | Save::ClosingTemp(_)
            | Save::ComparingStat(_)
            | Save::ComparingContent(_)
            | Save::Renaming(_)
            | Save::SyncingDirectory(_)
            | Save::Ended(_) => None,
        },
        Part::ClosingStore(_, _, failed)
        | Part::Releasing(_, failed)
        | Part::Done(failed) => failed,
    }
}
