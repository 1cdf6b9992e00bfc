//! Inodes, one directory, descriptors and record locks.
//!
//! Lives here: what each call does to the disk and what it answers. May not
//! live here: who calls, in which order, or whether that was wise.
//!
//! Everything is small and fixed so that a state can be copied, compared and
//! hashed: [`PROCESSES`] processes with [`DESCRIPTORS`] descriptors each and
//! [`INODES`] inodes. What no name and no descriptor leads to is blank, so
//! that two disks that behave alike are equal.

mod astray;
mod calls;

use crate::fsm::call::{Access, Effect, Errno, Event, Fd, FileId, Name};

/// Processes that fit on the disk.
pub const PROCESSES: usize = 5;
/// Descriptors that a process can have open: the locked file, the temporary.
pub const DESCRIPTORS: usize = 2;
/// One for the store, one for a lock file, one for each process's temporary.
pub const INODES: usize = PROCESSES + 2;
/// Saves of a process in one session.
pub const SAVES: usize = 3;
/// Saves of a process that content can tell apart: after a crash a session
/// starts again, and saves all of it again.
pub const UPDATES: usize = 4;

const NO_INODE: u8 = u8::MAX;
const EMFILE: Errno = Errno(24);
const EBADF: Errno = Errno(9);
const EEXIST: Errno = Errno(17);

/// What a call comes to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Answer {
    /// The call returned.
    Event(Event),
    /// The call waits; the disk is unchanged.
    Blocked,
}

/// The content of a file: which updates it holds, one bit each.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Updates(pub u32);

impl Updates {
    /// The `save`-th update (from 0) of `process`.
    pub fn one(process: usize, save: u8) -> Self {
        let bit = process * UPDATES + usize::from(save);
        Self(1u32.checked_shl(bit as u32).unwrap_or(0))
    }

    /// The `change`-th update (from 0) of those who do not follow any
    /// protocol.
    pub fn of_others(change: u8) -> Self {
        Self::one(PROCESSES, change)
    }

    /// Whose updates there are.
    pub fn processes(self) -> impl Iterator<Item = usize> {
        (0..PROCESSES).filter(move |&process| {
            (0..UPDATES as u8).any(|save| self.has(Self::one(process, save)))
        })
    }

    /// All updates of both.
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The updates that both have.
    pub fn shared(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The same with other names of processes: `i` is what `order[i]` was.
    fn renamed(self, order: &[usize]) -> Self {
        let own = (1_u32 << UPDATES) - 1;
        let bits = order.iter().enumerate().map(|(process, old)| {
            ((self.0 >> (old * UPDATES)) & own) << (process * UPDATES)
        });
        let others = self.0 >> (PROCESSES * UPDATES) << (PROCESSES * UPDATES);
        Self(bits.fold(others, |all, bits| all | bits))
    }

    /// Whether every update of `other` is here.
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// A file.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Inode {
    /// Whether the content is complete: not between creation and write.
    pub whole: bool,
    /// What it holds.
    pub content: Updates,
    /// When it was written, in ticks of the clock.
    pub mtime: u8,
    /// POSIX record locks: they belong to a process.
    posix: [Option<Access>; PROCESSES],
}

/// An open file of a process.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Handle {
    /// The file.
    pub inode: u8,
    /// OFD record lock: it belongs to the open file description.
    pub ofd: Option<Access>,
    /// `flock`: another world, neither sees the other.
    flock: Option<Access>,
    /// Descriptors that share one description; 0: this one is alone.
    shared: u8,
}

/// What a process has: open files, and the store's content in its memory.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Process {
    handles: [Option<Handle>; DESCRIPTORS],
    /// What was loaded, and since then saved.
    pub memory: Updates,
    /// Inode (plus one; 0: nothing) and time of what was loaded, as long as
    /// anybody may look at it.
    loaded: (u8, u8),
    /// Renames made.
    pub saves: u8,
    /// Where the temporary name leads.
    temp: Option<u8>,
}

impl Process {
    /// Where its temporary name leads.
    pub fn temp(&self) -> Option<u8> {
        self.temp
    }
}

/// The disk and the processes that use it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Disk {
    inodes: [Inode; INODES],
    processes: [Process; PROCESSES],
    /// Where `qubes.xml` leads.
    store: u8,
    /// Where `qubes.xml.lock` leads.
    lock_file: u8,
    /// The clock that stamps files.
    now: u8,
    /// Files with a temporary name whose maker is gone, one bit each.
    leftover: u8,
}

/// The three kinds of lock that Linux has for whole files.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LockKind {
    /// `F_OFD_SETLK`.
    Ofd,
    /// `F_SETLK`, `lockf`, Python's `fcntl.lockf`.
    Posix,
    /// `flock`, `std::fs::File::lock`.
    Flock,
}

impl Disk {
    /// An empty directory but for the store, complete and without updates.
    pub fn new() -> Self {
        let mut disk = Self {
            inodes: [Inode::default(); INODES],
            processes: [Process::default(); PROCESSES],
            store: 0,
            lock_file: NO_INODE,
            now: 0,
            leftover: 0,
        };
        disk.inodes[0].whole = true;
        disk
    }

    /// The same with a lock file beside the store.
    pub fn with_lock_file() -> Self {
        let mut disk = Self { lock_file: 1, ..Self::new() };
        disk.inodes[1].whole = true;
        disk
    }

    /// Lets the clock tick: files written from now on have a later time.
    pub fn tick(&mut self) {
        self.now = self.now.saturating_add(1);
    }

    /// Makes one call of `process`.
    pub fn apply(&mut self, process: usize, effect: Effect) -> Answer {
        Answer::Event(match effect {
            Effect::Open(name, _) => self.open(process, name),
            Effect::Lock(fd, access) => {
                return match self.lock(process, fd, LockKind::Ofd, access) {
                    Err(Errno::AGAIN) => Answer::Blocked,
                    answer => {
                        Answer::Event(event(answer.map(|()| Event::Locked)))
                    }
                };
            }
            Effect::TryLock(fd) => {
                let answer =
                    self.lock(process, fd, LockKind::Ofd, Access::Write);
                event(answer.map(|()| Event::Locked))
            }
            Effect::StatFd(fd) => event(
                self.handle(process, fd)
                    .map(|handle| Event::File(file_id(handle.inode))),
            ),
            Effect::StatName(name) => event(
                self.lookup(process, name).map(|i| Event::File(file_id(i))),
            ),
            Effect::Read(fd) => self.read(process, fd),
            Effect::Sweep => self.sweep(),
            Effect::Create => self.create(process),
            Effect::Write(fd) => self.write(process, fd),
            // What is not synced may be lost in a crash; there is none here.
            Effect::Sync(fd) => {
                event(self.handle(process, fd).map(|_| Event::Synced))
            }
            Effect::SyncDirectory => Event::Synced,
            Effect::CompareStat => self.compare_stat(process),
            Effect::CompareContent(fd) => self.compare_content(process, fd),
            Effect::Rename => self.rename(process),
            Effect::Unlink => self.unlink(process),
            Effect::Close(fd) => self.close(process, fd),
        })
    }

    /// Whether `effect` of `process` would wait. A call that does not wait
    /// is never blocked.
    pub fn blocks(&self, process: usize, effect: Effect) -> bool {
        match effect {
            Effect::Lock(fd, access) => {
                self.conflict(process, fd, LockKind::Ofd, access)
                    == Err(Errno::AGAIN)
            }
            Effect::Open(..)
            | Effect::TryLock(_)
            | Effect::StatFd(_)
            | Effect::StatName(_)
            | Effect::Read(_)
            | Effect::Sweep
            | Effect::Create
            | Effect::Write(_)
            | Effect::Sync(_)
            | Effect::CompareStat
            | Effect::CompareContent(_)
            | Effect::Rename
            | Effect::SyncDirectory
            | Effect::Unlink
            | Effect::Close(_) => false,
        }
    }

    /// Asks for a lock of any kind without waiting.
    ///
    /// # Errors
    /// `EAGAIN`: another owner holds one that excludes it; `EBADF`.
    pub fn lock(
        &mut self,
        process: usize,
        fd: Fd,
        kind: LockKind,
        access: Access,
    ) -> Result<(), Errno> {
        let granted = self.conflict(process, fd, kind, access);
        // A refused `flock` has given up what it held (flock(2)); the record
        // locks keep it.
        if granted.is_err() && kind != LockKind::Flock {
            return granted;
        }
        let handle = self.handle(process, fd)?;
        if kind == LockKind::Posix {
            let inode = usize::from(handle.inode);
            self.inodes[inode].posix[process] = Some(access);
            return Ok(());
        }
        let all = self.processes.iter_mut().enumerate();
        for (owner, other) in all {
            for (number, slot) in other.handles.iter_mut().enumerate() {
                let Some(other) = slot else { continue };
                let same = owner == process && number == usize::from(fd.0);
                if same || (handle.shared != 0 && other.shared == handle.shared)
                {
                    match kind {
                        LockKind::Flock => {
                            other.flock = granted.ok().map(|()| access);
                        }
                        LockKind::Ofd | LockKind::Posix => {
                            other.ofd = Some(access);
                        }
                    }
                }
            }
        }
        granted
    }

    /// The file that `qubes.xml` leads to.
    pub fn store(&self) -> (u8, Inode) {
        (self.store, self.inodes[usize::from(self.store)])
    }

    /// The temporary file of `process` that has a name, and its number.
    pub fn temporary(&self, process: usize) -> Option<(u8, Inode)> {
        let number = self.processes.get(process)?.temp?;
        Some((number, *self.inodes.get(usize::from(number))?))
    }

    /// The same with other names of processes: `i` is what `order[i]` was.
    /// Descriptors that share a description are not renamed.
    pub fn renamed(&self, order: &[usize]) -> Self {
        let mut new = *self;
        for (process, old) in order.iter().enumerate() {
            let slots = new.processes.get_mut(process);
            if let (Some(new), Some(old)) = (slots, self.processes.get(*old)) {
                *new = Process { memory: old.memory.renamed(order), ..*old };
            }
        }
        for (new, old) in new.inodes.iter_mut().zip(&self.inodes) {
            new.content = old.content.renamed(order);
            for (posix, owner) in new.posix.iter_mut().zip(order) {
                *posix = old.posix.get(*owner).copied().flatten();
            }
        }
        new
    }

    /// How many temporary files are there whose makers are gone.
    pub fn leftovers(&self) -> u8 {
        self.leftover.count_ones() as u8
    }

    /// Whether a temporary name leads to it whose maker is gone.
    pub fn is_leftover(&self, inode: u8) -> bool {
        self.leftover & bit(inode) != 0
    }

    /// How many temporary names there are, of living makers too.
    pub fn temp_names(&self) -> u8 {
        let temps = self.processes.iter().filter_map(|p| p.temp);
        temps.fold(self.leftover, |all, i| all | bit(i)).count_ones() as u8
    }

    /// A file by its number; what is no file is blank.
    pub fn inode(&self, inode: u8) -> Inode {
        self.inodes.get(usize::from(inode)).copied().unwrap_or_default()
    }

    /// `process` will never ask again whether the store is what it loaded:
    /// states that differ in that alone are one. By then its inode's number
    /// may be another file's.
    pub fn forget_loaded(&mut self, process: usize) {
        if let Some(owner) = self.processes.get_mut(process) {
            owner.loaded = (0, 0);
        }
    }

    /// The file that the lock file's name leads to, where there is one.
    pub fn lock_file(&self) -> Option<u8> {
        (self.lock_file != NO_INODE).then_some(self.lock_file)
    }

    /// An open file of `process`.
    pub fn opened(&self, process: usize, fd: Fd) -> Option<Handle> {
        self.handle(process, fd).ok()
    }

    /// What `process` has.
    pub fn process(&self, process: usize) -> &Process {
        &self.processes[process]
    }

    /// Whether any name leads to that inode.
    pub fn is_linked(&self, inode: u8) -> bool {
        let temps = || self.processes.iter().filter_map(|p| p.temp);
        inode == self.store
            || inode == self.lock_file
            || self.leftover & bit(inode) != 0
            || temps().any(|temp| temp == inode)
    }

    /// How many descriptors lead to that inode.
    pub fn users(&self, inode: u8) -> usize {
        self.open_files().filter(|(_, _, file)| file.inode == inode).count()
    }

    /// Whether `process` has nothing left: no descriptor, no lock, no name.
    pub fn is_clean(&self, process: usize) -> bool {
        let owner = &self.processes[process];
        owner.handles.iter().all(Option::is_none)
            && owner.temp.is_none()
            && self.inodes.iter().all(|i| i.posix[process].is_none())
    }

    fn lookup(&self, process: usize, name: Name) -> Result<u8, Errno> {
        match name {
            Name::Store => Some(self.store),
            Name::LockFile => self.lock_file(),
            Name::Temp => self.processes[process].temp,
        }
        .ok_or(Errno::NO_ENTRY)
    }

    fn handle(&self, process: usize, fd: Fd) -> Result<Handle, Errno> {
        let owner = self.processes.get(process).ok_or(EBADF)?;
        let slot = owner.handles.get(usize::from(fd.0)).ok_or(EBADF)?;
        slot.ok_or(EBADF)
    }

    /// Puts an open file at the lowest free number.
    fn put(&mut self, process: usize, handle: Handle) -> Result<Fd, Errno> {
        let owner = self.processes.get_mut(process).ok_or(EBADF)?;
        let free = owner.handles.iter().position(Option::is_none);
        let number = free.ok_or(EMFILE)?;
        owner.handles[number] = Some(handle);
        Ok(Fd(number as u8))
    }

    /// Whether anybody has a record lock on the file.
    fn is_locked(&self, inode: u8) -> bool {
        let mut open = self.open_files();
        let file = self.inodes.get(usize::from(inode));
        open.any(|(_, _, held)| held.inode == inode && held.ofd.is_some())
            || file.is_some_and(|f| f.posix.iter().any(Option::is_some))
    }

    fn is_free(&self, inode: u8) -> bool {
        !self.is_linked(inode)
            && self.open_files().all(|(_, _, handle)| handle.inode != inode)
    }

    /// Blanks an inode that nothing leads to any more.
    fn forget(&mut self, inode: u8) {
        if self.is_free(inode) {
            self.inodes[usize::from(inode)] = Inode::default();
        }
    }

    fn open_files(&self) -> impl Iterator<Item = (usize, usize, Handle)> {
        self.processes.iter().enumerate().flat_map(|(process, owner)| {
            owner.handles.iter().enumerate().filter_map(
                move |(number, slot)| {
                    slot.map(|handle| (process, number, handle))
                },
            )
        })
    }

    /// `EAGAIN` where another owner's lock on the file excludes this one.
    fn conflict(
        &self,
        process: usize,
        fd: Fd,
        kind: LockKind,
        access: Access,
    ) -> Result<(), Errno> {
        let asker = self.handle(process, fd)?;
        let excludes = |held: Option<Access>| {
            held.is_some_and(|held| {
                held == Access::Write || access == Access::Write
            })
        };
        for (owner, number, held) in self.open_files() {
            let same = owner == process && number == usize::from(fd.0);
            let one = asker.shared != 0 && held.shared == asker.shared;
            if held.inode != asker.inode {
                continue;
            }
            let lock = match kind {
                LockKind::Flock => held.flock,
                LockKind::Ofd | LockKind::Posix => held.ofd,
            };
            // A POSIX lock is not the description's: even our own OFD lock
            // on the same descriptor is another owner's.
            let own = kind != LockKind::Posix && (same || one);
            if !own && excludes(lock) {
                return Err(Errno::AGAIN);
            }
        }
        if kind != LockKind::Flock {
            let file = self.inodes[usize::from(asker.inode)];
            for (owner, lock) in file.posix.into_iter().enumerate() {
                let own = kind == LockKind::Posix && owner == process;
                if !own && excludes(lock) {
                    return Err(Errno::AGAIN);
                }
            }
        }
        Ok(())
    }
}

impl Default for Disk {
    fn default() -> Self {
        Self::new()
    }
}

impl Handle {
    fn of(inode: u8) -> Self {
        Self { inode, ofd: None, flock: None, shared: 0 }
    }
}

/// The bit of an inode in a set of them.
fn bit(inode: u8) -> u8 {
    1u8.checked_shl(u32::from(inode)).unwrap_or(0)
}

fn file_id(inode: u8) -> FileId {
    FileId { device: 0, inode: u64::from(inode) }
}

fn event(answer: Result<Event, Errno>) -> Event {
    answer.unwrap_or_else(Event::Failed)
}
