//! What each call does when nothing goes wrong.
//!
//! Lives here: one function per call. May not live here: which call is made,
//! and what may be in its way (`disk`).

use super::{Disk, EEXIST, Handle, INODES, Updates, bit, event};
use crate::fsm::call::{Errno, Event, Fd, Name};

impl Disk {
    pub(super) fn open(&mut self, process: usize, name: Name) -> Event {
        event(
            self.lookup(process, name)
                .and_then(|inode| self.put(process, Handle::of(inode)))
                .map(Event::Opened),
        )
    }

    pub(super) fn read(&mut self, process: usize, fd: Fd) -> Event {
        event(self.handle(process, fd).map(|handle| {
            let file = self.inodes[usize::from(handle.inode)];
            let owner = &mut self.processes[process];
            owner.memory = file.content;
            owner.loaded = (handle.inode + 1, file.mtime);
            Event::Read
        }))
    }

    /// Removes every temporary name whose file nobody has locked.
    pub(super) fn sweep(&mut self) -> Event {
        for inode in 0..INODES as u8 {
            if self.is_locked(inode) {
                continue;
            }
            self.leftover &= !bit(inode);
            for owner in &mut self.processes {
                owner.temp = owner.temp.filter(|temp| *temp != inode);
            }
            self.forget(inode);
        }
        Event::Swept
    }

    pub(super) fn create(&mut self, process: usize) -> Event {
        if self.processes[process].temp.is_some() {
            return Event::Failed(EEXIST);
        }
        let free = (0..INODES as u8).find(|&inode| self.is_free(inode));
        let Some(inode) = free else {
            return Event::Failed(Errno::NO_SPACE);
        };
        match self.put(process, Handle::of(inode)) {
            Ok(fd) => {
                self.inodes[usize::from(inode)].mtime = self.now;
                self.processes[process].temp = Some(inode);
                Event::Opened(fd)
            }
            Err(errno) => Event::Failed(errno),
        }
    }

    pub(super) fn write(&mut self, process: usize, fd: Fd) -> Event {
        event(self.handle(process, fd).map(|handle| {
            let owner = self.processes[process];
            let file = &mut self.inodes[usize::from(handle.inode)];
            file.content =
                owner.memory.with(Updates::one(process, owner.saves));
            file.whole = true;
            file.mtime = self.now;
            Event::Written
        }))
    }

    pub(super) fn compare_stat(&self, process: usize) -> Event {
        let loaded = self.processes[process].loaded;
        let (inode, file) = self.store();
        if loaded == (inode + 1, file.mtime) {
            Event::Same
        } else {
            Event::Changed
        }
    }

    pub(super) fn compare_content(&self, process: usize, fd: Fd) -> Event {
        event(self.handle(process, fd).map(|handle| {
            let file = self.inodes[usize::from(handle.inode)];
            if file.content == self.processes[process].memory {
                Event::Same
            } else {
                Event::Changed
            }
        }))
    }

    pub(super) fn rename(&mut self, process: usize) -> Event {
        let Some(inode) = self.processes[process].temp else {
            return Event::Failed(Errno::NO_ENTRY);
        };
        let replaced = self.store;
        self.store = inode;
        let file = self.inodes[usize::from(inode)];
        let owner = &mut self.processes[process];
        owner.temp = None;
        owner.memory = owner.memory.with(Updates::one(process, owner.saves));
        owner.saves = owner.saves.saturating_add(1);
        owner.loaded = (inode + 1, file.mtime);
        self.forget(replaced);
        Event::Renamed
    }

    pub(super) fn unlink(&mut self, process: usize) -> Event {
        match self.processes[process].temp.take() {
            Some(inode) => {
                self.forget(inode);
                Event::Unlinked
            }
            None => Event::Failed(Errno::NO_ENTRY),
        }
    }

    pub(super) fn close(&mut self, process: usize, fd: Fd) -> Event {
        let handle = match self.handle(process, fd) {
            Ok(handle) => handle,
            Err(errno) => return Event::Failed(errno),
        };
        let owner = &mut self.processes[process];
        owner.handles[usize::from(fd.0)] = None;
        if owner.handles.iter().all(Option::is_none) {
            owner.memory = Updates::default();
            owner.loaded = (0, 0);
        }
        // Any close of any descriptor of the file drops its POSIX locks.
        self.inodes[usize::from(handle.inode)].posix[process] = None;
        self.forget(handle.inode);
        Event::Closed
    }
}
