//! What can be done wrong around the machine: by a driver, or by a disk.
//!
//! Lives here: flaws as data, and what each changes of one call. May not live
//! here: flaws of the protocol, which are values of
//! [`Protocol`](crate::fsm::protocol::Protocol); whether a flaw is found.

use super::{Step, Struck, Troubled};
use crate::fsm::call::{Access, Effect, Errno, Event, FileId, Name};
use crate::fsm::save;
use crate::fsm::session::Part;
use crate::sim::disk::{Answer, LockKind};

/// One thing that is done wrong.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Flaw {
    /// Nothing.
    #[default]
    None,
    /// The new file is not synced.
    FileNotSynced,
    /// The directory is not synced.
    DirectoryNotSynced,
    /// The store is opened and written in place.
    InPlace,
    /// The lock is given up before the rename.
    UnlockedEarly,
    /// One temporary name for all, and `O_EXCL`: who finds it tries again.
    FixedExclusive,
    /// One temporary name for all; who finds it truncates it.
    FixedTruncated,
    /// Nothing is swept.
    NotSwept,
    /// Leftovers are removed before the lock is taken.
    SweptEarly,
    /// The temporary file of a save that fails stays.
    TempLeft,
    /// A failed write is taken for a good one.
    WriteUnchecked,
    /// A failed sync of the file is taken for a good one.
    SyncUnchecked,
    /// A failed sync of the directory is taken for a good one.
    DirectoryUnchecked,
    /// A failed rename is taken for a good one.
    RenameUnchecked,
    /// The last failure is reported, not the first.
    LastCause,
    /// What a failed save leaves is renamed, not removed.
    RenamedAnyway,
    /// The lock is given up when a save fails, before its file is removed.
    UnlockedFailed,
    /// POSIX locks, and all are threads of one process.
    PosixThreads,
    /// POSIX locks, and another thread opens and closes the store.
    PosixClosed,
    /// P1 takes an `flock`, the others take OFD locks.
    Flock,
    /// The whole of `stat` is compared, with the time of access.
    WholeStat,
    /// What was loaded before the lock is what is used after it.
    LoadedEarly,
    /// What was loaded in an earlier session is used if the store has the
    /// same inode number.
    SameInode,
    /// The same if it has the same time of modification.
    SameTime,
    /// A sync of the file is answered as a write is, for which the machine has
    /// no row.
    SyncMisworded,
    /// The lock file is unlinked when the lock is given back.
    LockFileUnlinked,
    /// Before the rename only the file is looked at, not its content.
    ContentUnchecked,
    /// Before the rename only the content is looked at, not the file.
    StatUnchecked,
    /// Before the rename the file is looked at first, then the content.
    StatFirst,
}

impl Flaw {
    /// Whether `effect` is answered without being made, so that the medium
    /// knows nothing of it.
    pub(super) fn is_answered_only(self, effect: Effect) -> bool {
        matches!(
            (self, effect),
            (Self::FileNotSynced, Effect::Sync(_))
                | (Self::DirectoryNotSynced, Effect::SyncDirectory)
        )
    }
}

/// What happens before the call that is next, as a step of its own.
pub(super) fn before(
    model: &Troubled,
    to: &mut Struck,
    process: usize,
    effect: Effect,
) -> Option<Step> {
    let session = model.sessions.session(&to.world, process);
    let disk = &mut to.world.disk;
    match (model.flaw, effect) {
        (Flaw::UnlockedEarly, Effect::Rename)
        | (Flaw::UnlockedFailed, Effect::Unlink) => {
            let Part::Saving(held, _) = session.state.part else {
                return None;
            };
            disk.opened(process, held)?.ofd?;
            disk.unlock(process, held);
            let text = "fcntl(SETLK, F_UNLCK) = 0";
            Some(Step::Odd(process, text))
        }
        _ => None,
    }
}

/// Makes a call the wrong way; `None`: it waits.
pub(super) fn perform(
    model: &Troubled,
    to: &mut Struck,
    process: usize,
    effect: Effect,
) -> Option<Event> {
    let session = model.sessions.session(&to.world, process);
    let disk = &mut to.world.disk;
    let by_kind =
        |kind, fd, access, disk: &mut crate::sim::disk::Disk| match disk
            .lock(process, fd, kind, access)
        {
            Ok(()) => Some(Event::Locked),
            Err(Errno::AGAIN) => None,
            Err(errno) => Some(Event::Failed(errno)),
        };
    match (model.flaw, effect) {
        (Flaw::FileNotSynced, Effect::Sync(_))
        | (Flaw::DirectoryNotSynced, Effect::SyncDirectory) => {
            return Some(Event::Synced);
        }
        (Flaw::SyncMisworded, Effect::Sync(_)) => {
            return Some(Event::Written);
        }
        (Flaw::NotSwept, Effect::Sweep) => return Some(Event::Swept),
        (Flaw::TempLeft, Effect::Unlink) => return Some(Event::Unlinked),
        (Flaw::RenamedAnyway, Effect::Unlink) => {
            disk.apply(process, Effect::Rename);
            return Some(Event::Unlinked);
        }
        (Flaw::InPlace, Effect::Create) => {
            return Some(disk.open_in_place(process));
        }
        (Flaw::InPlace, Effect::Rename) => {
            return Some(disk.saved_in_place(process));
        }
        (Flaw::FixedExclusive, Effect::Create) if disk.temp_names() > 0 => {
            return None;
        }
        (Flaw::FixedTruncated, Effect::Create) => disk.unlink_temps(),
        (Flaw::SweptEarly, Effect::Open(Name::Store, _)) => {
            disk.apply(process, Effect::Sweep);
        }
        (Flaw::SweptEarly, Effect::Sweep) => return Some(Event::Swept),
        (Flaw::PosixThreads, Effect::Lock(..) | Effect::TryLock(_)) => {
            return Some(Event::Locked);
        }
        (Flaw::PosixClosed, Effect::Lock(fd, access)) => {
            return by_kind(LockKind::Posix, fd, access, disk);
        }
        (Flaw::PosixClosed, Effect::TryLock(fd)) => {
            return by_kind(LockKind::Posix, fd, Access::Write, disk);
        }
        (Flaw::Flock, Effect::Lock(fd, access)) if process == 0 => {
            return by_kind(LockKind::Flock, fd, access, disk);
        }
        (Flaw::Flock, Effect::TryLock(fd)) if process == 0 => {
            return by_kind(LockKind::Flock, fd, Access::Write, disk);
        }
        (Flaw::WholeStat, Effect::StatFd(_)) => {
            to.touched &= !bit(process);
        }
        (Flaw::WholeStat, Effect::StatName(_))
            if to.touched & bit(process) != 0 =>
        {
            // Another time of access makes it another file.
            return Some(Event::File(FileId { device: 1, inode: 0 }));
        }
        (Flaw::LoadedEarly, Effect::Open(Name::Store, access)) => {
            let opened = disk.apply(process, Effect::Open(Name::Store, access));
            if let Answer::Event(Event::Opened(fd)) = opened {
                disk.apply(process, Effect::Read(fd));
            }
            return made(opened);
        }
        (Flaw::LoadedEarly, Effect::Read(_)) => return Some(Event::Read),
        (Flaw::SameInode, Effect::Read(_)) if disk.store().0 == 0 => {
            return Some(disk.remember(process));
        }
        (Flaw::SameTime, Effect::Read(_)) if disk.store().1.mtime == 0 => {
            return Some(disk.remember(process));
        }
        (Flaw::LockFileUnlinked, Effect::Open(Name::LockFile, _)) => {
            disk.make_lock_file();
        }
        (Flaw::LockFileUnlinked, Effect::Close(_))
            if matches!(session.state.part, Part::Releasing(..)) =>
        {
            disk.unlink_lock_file();
        }
        (Flaw::ContentUnchecked, Effect::CompareContent(_))
        | (Flaw::StatUnchecked, Effect::CompareStat) => {
            return Some(Event::Same);
        }
        (Flaw::StatFirst, Effect::CompareContent(_)) => {
            return made(disk.apply(process, Effect::CompareStat));
        }
        (Flaw::StatFirst, Effect::CompareStat) => {
            let Part::Saving(held, _) = session.state.part else {
                return None;
            };
            return made(disk.apply(process, Effect::CompareContent(held)));
        }
        _ => {}
    }
    made(to.world.disk.apply(process, effect))
}

fn made(answer: Answer) -> Option<Event> {
    match answer {
        Answer::Event(event) => Some(event),
        Answer::Blocked => None,
    }
}

/// The answer to a call that failed, as the machine gets it.
pub(super) fn failed(model: &Troubled, effect: Effect, errno: Errno) -> Event {
    match (model.flaw, effect) {
        (Flaw::WriteUnchecked, Effect::Write(_)) => Event::Written,
        (Flaw::SyncUnchecked, Effect::Sync(_))
        | (Flaw::DirectoryUnchecked, Effect::SyncDirectory) => Event::Synced,
        (Flaw::RenameUnchecked, Effect::Rename) => Event::Renamed,
        _ => Event::Failed(errno),
    }
}

/// A later failure takes the place of the first in what will be reported.
pub(super) fn reworded(model: &Troubled, part: Part, errno: Errno) -> Part {
    match (model.flaw, part) {
        (
            Flaw::LastCause,
            Part::Saving(held, save::State::Discarding(fd, _)),
        ) => Part::Saving(held, save::State::Discarding(fd, errno)),
        (Flaw::LastCause, Part::Releasing(fd, Some(_))) => {
            Part::Releasing(fd, Some(errno))
        }
        (_, part) => part,
    }
}

/// What somebody else does beside the sessions.
pub(super) fn beside(
    model: &Troubled,
    from: &Struck,
    steps: &mut Vec<(Step, Struck)>,
) {
    if model.flaw == Flaw::PosixClosed {
        for process in 0..model.sessions.processes() {
            let mut to = *from;
            if to.world.disk.close_elsewhere(process) {
                let text = "another thread: open, close";
                steps.push((Step::Odd(process, text), to));
            }
        }
    }
    if model.flaw == Flaw::WholeStat {
        let all = (0..model.sessions.processes()).map(bit);
        let touched = all.fold(0, |all, one| all | one);
        if from.touched != touched {
            steps.push((Step::Touched, Struck { touched, ..*from }));
        }
    }
}

fn bit(process: usize) -> u8 {
    1 << (process & 7)
}
