//! What no protocol does: processes that die, calls that fail, drivers that
//! are wrong, hands that meddle.
//!
//! Lives here: what becomes of the disk then. May not live here: when it
//! happens (`sim::crash`, `sim::fault`, `check::trouble`).

use super::{
    DESCRIPTORS, Disk, Handle, INODES, Inode, NO_INODE, Updates, bit, event,
};
use crate::fsm::call::{Effect, Errno, Event, Fd};

impl Disk {
    /// Gives `child` the descriptor of `parent`, as `fork` does: one
    /// description, two descriptors.
    ///
    /// # Errors
    /// `EBADF`, `EMFILE`.
    pub fn inherit(
        &mut self,
        parent: usize,
        fd: Fd,
        child: usize,
    ) -> Result<Fd, Errno> {
        let mut handle = self.handle(parent, fd)?;
        if handle.shared == 0 {
            handle.shared = (parent * DESCRIPTORS) as u8 + fd.0 + 1;
        }
        self.processes[parent].handles[usize::from(fd.0)] = Some(handle);
        self.put(child, handle)
    }

    /// Ends `process` as a signal does: descriptors and their locks go, its
    /// temporary file stays.
    pub fn kill(&mut self, process: usize) {
        for fd in (0..DESCRIPTORS as u8).map(Fd) {
            self.close(process, fd);
        }
        self.abandon(process);
    }

    /// Somebody without a lock adds an update by a rename of its own. Whether
    /// there was room for the file.
    pub fn replaced_by_others(&mut self, change: u8) -> bool {
        let free = (0..INODES as u8).find(|&inode| self.is_free(inode));
        let Some(inode) = free else { return false };
        let (replaced, old) = self.store();
        let content = old.content.with(Updates::of_others(change));
        self.inodes[usize::from(inode)] =
            Inode { whole: true, content, mtime: self.now, ..Inode::default() };
        self.store = inode;
        self.forget(replaced);
        true
    }

    /// Somebody without a lock adds an update in place, within one tick of
    /// the clock.
    pub fn overwritten_by_others(&mut self, change: u8) {
        let file = &mut self.inodes[usize::from(self.store)];
        file.content = file.content.with(Updates::of_others(change));
    }

    /// For a mutant: opens the store to write it in place; it is empty then.
    pub fn open_in_place(&mut self, process: usize) -> Event {
        let inode = self.store;
        event(self.put(process, Handle::of(inode)).map(|fd| {
            self.inodes[usize::from(inode)].whole = false;
            Event::Opened(fd)
        }))
    }

    /// For a mutant: an update that needed no rename is made.
    pub fn saved_in_place(&mut self, process: usize) -> Event {
        let owner = &mut self.processes[process];
        owner.memory = owner.memory.with(Updates::one(process, owner.saves));
        owner.saves = owner.saves.saturating_add(1);
        Event::Renamed
    }

    /// For a mutant: `fd` has no lock any more.
    pub fn unlock(&mut self, process: usize, fd: Fd) {
        if let Some(slot) = self.processes.get_mut(process)
            && let Some(Some(handle)) = slot.handles.get_mut(usize::from(fd.0))
        {
            handle.ofd = None;
        }
    }

    /// Another thread of `process` has opened and closed the store: its POSIX
    /// lock on it is gone. Whether there was one.
    pub fn close_elsewhere(&mut self, process: usize) -> bool {
        let file = &mut self.inodes[usize::from(self.store)];
        file.posix[process].take().is_some()
    }

    /// For a mutant: what `process` had loaded in the beginning it takes for
    /// what the store holds now.
    pub fn remember(&mut self, process: usize) -> Event {
        let (inode, file) = self.store();
        let owner = &mut self.processes[process];
        owner.memory = Updates::default();
        owner.loaded = (inode + 1, file.mtime);
        Event::Read
    }

    /// For a mutant: makes the lock file, if there is none.
    pub fn make_lock_file(&mut self) {
        let free = (0..INODES as u8).find(|&inode| self.is_free(inode));
        if let (NO_INODE, Some(inode)) = (self.lock_file, free) {
            self.lock_file = inode;
            self.inodes[usize::from(inode)].whole = true;
        }
    }

    /// For a mutant: the lock file has no name any more.
    pub fn unlink_lock_file(&mut self) {
        let inode = core::mem::replace(&mut self.lock_file, NO_INODE);
        if inode != NO_INODE {
            self.forget(inode);
        }
    }

    /// For a mutant: all temporary names are one, and it leads nowhere now.
    pub fn unlink_temps(&mut self) {
        for inode in 0..INODES as u8 {
            self.leftover &= !bit(inode);
            for owner in &mut self.processes {
                owner.temp = owner.temp.filter(|temp| *temp != inode);
            }
            self.forget(inode);
        }
    }

    /// What a power cut leaves, seen after the reboot: `store`, and so many
    /// temporary files. Who had made updates has made them.
    pub fn rebooted(&self, store: Option<Updates>, leftovers: u8) -> Self {
        let mut disk = match self.lock_file() {
            None => Self::new(),
            Some(_) => Self::with_lock_file(),
        };
        let first = if disk.lock_file().is_some() { 2 } else { 1 };
        for inode in (first..INODES as u8).take(usize::from(leftovers)) {
            disk.leftover |= bit(inode);
        }
        let file = &mut disk.inodes[0];
        file.whole = store.is_some();
        file.content = store.unwrap_or_default();
        disk.now = self.now;
        for (new, old) in disk.processes.iter_mut().zip(&self.processes) {
            new.saves = old.saves;
        }
        disk
    }

    /// What `effect` does to the disk although it fails.
    pub fn fail(&mut self, process: usize, effect: Effect) {
        match effect {
            // Linux has closed it all the same, and the driver tries an
            // unlink once: the name is nobody's from then on.
            Effect::Close(fd) => {
                self.close(process, fd);
            }
            Effect::Unlink => self.abandon(process),
            // Some of the bytes may have been taken.
            Effect::Write(fd) => {
                if let Ok(handle) = self.handle(process, fd) {
                    self.inodes[usize::from(handle.inode)].whole = false;
                }
            }
            Effect::Open(..)
            | Effect::Lock(..)
            | Effect::TryLock(_)
            | Effect::StatFd(_)
            | Effect::StatName(_)
            | Effect::Read(_)
            | Effect::Sweep
            | Effect::Create
            | Effect::Sync(_)
            | Effect::CompareStat
            | Effect::CompareContent(_)
            | Effect::Rename
            | Effect::SyncDirectory => {}
        }
    }

    /// The temporary name of `process` is a leftover from now on.
    fn abandon(&mut self, process: usize) {
        if let Some(inode) = self.processes[process].temp.take() {
            self.leftover |= bit(inode);
        }
    }
}
