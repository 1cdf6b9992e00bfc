//! The calls of `fsm::call`, made for real: the only file of the store with
//! system calls.
//!
//! Lives here: one arm per effect, and what its arguments are. May not live
//! here: the order of calls. Every descriptor is close-on-exec: a child that
//! inherited one would hold the lock too (`spec/assumptions.md`).

use core::fmt;
use std::cell::RefCell;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::{self, Errno as Os};
use sha2::{Digest as _, Sha256};

use crate::fsm::Perform;
use crate::fsm::call::{Access, Effect, Errno, Event, Fd, FileId, Name};
use crate::fsm::log::Logged;

/// How long to wait for the lock.
#[derive(Clone, Debug, Default)]
pub struct Wait {
    /// Give up at this moment; `None`: never.
    pub deadline: Option<Instant>,
    /// Give up when somebody sets this.
    pub canceled: Option<Arc<AtomicBool>>,
}

/// Hears of every call and its answer, in the thread that made it.
#[derive(Clone)]
pub struct Observer(Arc<dyn Fn(&Logged) + Send + Sync>);

/// The kernel, for one session on one store.
#[derive(Debug)]
pub struct Kernel {
    directory: OwnedFd,
    path: PathBuf,
    name: OsString,
    bytes_max: u64,
    wait: Wait,
    observer: Option<(Observer, u64)>,
    inner: RefCell<Inner>,
}

/// What a session has: the driver's half of a process.
#[derive(Debug, Default)]
struct Inner {
    /// The open files; an [`Fd`] is an index.
    files: Vec<Option<Arc<OwnedFd>>>,
    content: Vec<u8>,
    loaded: Option<Loaded>,
    temp: Option<OsString>,
    failure: Option<Failure>,
}

/// What was loaded, to see whether it is there still.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Loaded {
    stamp: Stamp,
    digest: [u8; 32],
}

/// What changes when somebody else saves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Stamp {
    file: FileId,
    size: i64,
    seconds: i64,
    nanoseconds: i64,
}

/// The first call that failed: its errors are the ones to report.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Failure {
    /// The call.
    pub effect: Effect,
    /// Why.
    pub errno: Errno,
    /// What was found, where the number alone does not say it.
    pub found: Found,
}

/// What was found instead of what was wanted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Found {
    /// See the number.
    Nothing,
    /// A file of another kind.
    Kind(FileType),
    /// More bytes than the limit.
    Bytes(u64),
    /// The group that the new file could not be given.
    Group(u32),
}

/// Temporary files of a store `NAME` are called `.NAME.qubes-fsm-UNIQUE`.
const TEMP_MARK: &str = ".qubes-fsm-";
/// Names that are tried before creating a temporary file fails.
const TEMP_TRIES: u32 = 64;
/// The first pause between two attempts to get the lock.
const PAUSE_MIN: Duration = Duration::from_micros(200);
/// The longest: what a waiting process is late at most.
const PAUSE_MAX: Duration = Duration::from_millis(10);
/// `EFBIG`: a file larger than somebody allows.
pub(crate) const TOO_BIG: Errno = Errno(27);
/// `EISDIR`, here for anything that is no regular file.
pub(crate) const NOT_REGULAR: Errno = Errno(21);
const BAD_FD: Errno = Errno(9);

impl Kernel {
    /// The kernel for the store `name` in `directory`.
    ///
    /// # Errors
    /// The directory cannot be opened.
    pub fn new(
        directory: &Path,
        name: &OsStr,
        bytes_max: u64,
        wait: Wait,
    ) -> Result<Self, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self {
            directory: fs::open(directory, flags, Mode::empty())
                .map_err(own)?,
            path: directory.join(name),
            name: name.to_owned(),
            bytes_max,
            wait,
            observer: None,
            inner: RefCell::default(),
        })
    }

    /// Tells `observer` of every call from now on, as one session.
    #[must_use]
    pub fn observed(mut self, observer: Observer) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(1);
        let session = COUNT.fetch_add(1, Ordering::Relaxed);
        self.observer = Some((observer, session));
        self
    }

    /// The store's path, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes that are read at most.
    pub fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// What the last read gave, or the last save wrote.
    pub fn content(&self) -> Vec<u8> {
        self.inner.borrow().content.clone()
    }

    /// What the next save writes.
    pub fn set_content(&self, content: Vec<u8>) {
        self.inner.borrow_mut().content = content;
    }

    /// The first failure since the last call of this, if there was one.
    pub fn take_failure(&self) -> Option<Failure> {
        self.inner.borrow_mut().failure.take()
    }

    /// Removes temporary files that dead processes left. Call it only while
    /// holding the store's lock: then no living process that follows the
    /// protocol has one, and one that a stranger has locked stays.
    ///
    /// Gives how many were removed; what cannot be removed harms nobody.
    pub fn sweep(&self) -> usize {
        //= spec/lock.md#leftovers-are-swept
        let Ok(entries) = fs::Dir::read_from(&self.directory) else {
            return 0;
        };
        let mark = temp_prefix(&self.name);
        let is_ours = |name: &[u8]| name.starts_with(mark.as_encoded_bytes());
        let names = entries.filter_map(Result::ok);
        names
            .filter(|entry| is_ours(entry.file_name().to_bytes()))
            .filter(|entry| {
                let name = entry.file_name();
                let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                fs::openat(&self.directory, name, flags, Mode::empty())
                    .is_ok_and(|file| {
                        set_lock(file.as_fd(), Access::Write, false).is_ok()
                            && fs::unlinkat(
                                &self.directory,
                                name,
                                AtFlags::empty(),
                            )
                            .is_ok()
                    })
            })
            .count()
    }

    /// Asks for the lock once, without waiting.
    pub fn try_lock(&self, fd: Fd, access: Access) -> Event {
        let locked = self.with(fd, |file| set_lock(file, access, false));
        event(locked.map(|()| Event::Locked))
    }

    fn lock(&self, fd: Fd, access: Access) -> Result<Event, Errno> {
        let Wait { deadline, canceled } = &self.wait;
        if deadline.is_none() && canceled.is_none() {
            return self
                .with(fd, |file| set_lock(file, access, true))
                .map(|()| Event::Locked);
        }
        //= spec/lock.md#a-wait-has-an-end
        // F_OFD_SETLKW knows no deadline: ask again and again.
        let mut pause = PAUSE_MIN;
        loop {
            match self.with(fd, |file| set_lock(file, access, false)) {
                Ok(()) => return Ok(Event::Locked),
                Err(Errno::AGAIN) => {}
                Err(errno) => return Err(errno),
            }
            let is_set = |flag: &Arc<AtomicBool>| flag.load(Ordering::Relaxed);
            if canceled.as_ref().is_some_and(is_set) {
                return Err(Errno::CANCELED);
            }
            let left = deadline.map(|d| d.duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Err(Errno::DEADLINE);
            }
            std::thread::sleep(left.map_or(pause, |left| left.min(pause)));
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    fn open(&self, name: Name, access: Access) -> Result<Event, Errno> {
        let flags = match access {
            Access::Read => OFlags::RDONLY,
            Access::Write => OFlags::RDWR,
        };
        //= spec/lock.md#close-on-exec
        // Not blocking: a FIFO in place of the store must not hang us.
        let flags = flags
            | OFlags::CLOEXEC
            | OFlags::NOFOLLOW
            | OFlags::NOCTTY
            | OFlags::NONBLOCK;
        let (flags, mode) = match name {
            Name::LockFile => {
                let mode = Mode::from_raw_mode(0o660);
                (OFlags::RDWR | OFlags::CREATE | flags, mode)
            }
            Name::Store | Name::Temp => (flags, Mode::empty()),
        };
        let file = fs::openat(&self.directory, self.at(name)?, flags, mode)
            .map_err(own)?;
        let stat = fs::fstat(&file).map_err(own)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::RegularFile {
            self.note(
                Effect::Open(name, access),
                NOT_REGULAR,
                Found::Kind(kind),
            );
            return Err(NOT_REGULAR);
        }
        Ok(Event::Opened(self.put(file)))
    }

    fn read(&self, fd: Fd) -> Result<Event, Errno> {
        let (stamp, content) = self.with(fd, |file| {
            let stamp = Stamp::of(&fs::fstat(file).map_err(own)?);
            Ok((stamp, self.read_all(fd, file)?))
        })?;
        let digest = Sha256::digest(&content).into();
        let mut inner = self.inner.borrow_mut();
        inner.loaded = Some(Loaded { stamp, digest });
        inner.content = content;
        Ok(Event::Read)
    }

    fn read_all(&self, fd: Fd, file: BorrowedFd<'_>) -> Result<Vec<u8>, Errno> {
        let mut content = Vec::new();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let at = content.len() as u64;
            let count = match io::pread(file, &mut buffer, at) {
                Err(Os::INTR) => continue,
                count => count.map_err(own)?,
            };
            content.extend(buffer.get(..count).unwrap_or_default());
            if count == 0 {
                return Ok(content);
            }
            if content.len() as u64 > self.bytes_max {
                let stat = fs::fstat(file).map_err(own)?;
                let bytes = (stat.st_size as u64).max(content.len() as u64);
                self.note(Effect::Read(fd), TOO_BIG, Found::Bytes(bytes));
                return Err(TOO_BIG);
            }
        }
    }

    fn create(&self) -> Result<Event, Errno> {
        let old = self.stat(Name::Store)?;
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        // Nobody may look inside before mode and group are the store's.
        let private = Mode::from_raw_mode(0o600);
        let mut tries = 0;
        let (file, name) = loop {
            let name = temp_name(&self.name);
            match fs::openat(&self.directory, &name, flags, private) {
                Err(Os::EXIST) if tries < TEMP_TRIES => tries += 1,
                file => break (file.map_err(own)?, name),
            }
        };
        if let Err(errno) = self.adopt(&file, &old) {
            let at = AtFlags::empty();
            let _ = fs::unlinkat(&self.directory, &name, at);
            return Err(errno);
        }
        self.inner.borrow_mut().temp = Some(name);
        Ok(Event::Opened(self.put(file)))
    }

    /// Gives `file` the group and mode of the file it will replace, and its
    /// owner where that is allowed.
    fn adopt(&self, file: &OwnedFd, old: &fs::Stat) -> Result<(), Errno> {
        //= spec/lock.md#mode-and-group-are-kept
        let new = fs::fstat(file).map_err(own)?;
        if new.st_uid != old.st_uid {
            let _ = fs::fchown(file, Some(uid(old)), None);
        }
        if new.st_gid != old.st_gid
            && let Err(errno) = fs::fchown(file, None, Some(gid(old)))
        {
            let errno = own(errno);
            self.note(Effect::Create, errno, Found::Group(old.st_gid));
            return Err(errno);
        }
        let mode = Mode::from_raw_mode(old.st_mode & 0o777);
        fs::fchmod(file, mode).map_err(own)
    }

    fn write(&self, fd: Fd) -> Result<Event, Errno> {
        let content = self.content();
        self.with(fd, |file| {
            let mut left = content.as_slice();
            while !left.is_empty() {
                match io::write(file, left) {
                    Ok(0) => return Err(Errno::IO),
                    Ok(count) => left = left.get(count..).unwrap_or_default(),
                    Err(Os::INTR) => {}
                    Err(errno) => return Err(own(errno)),
                }
            }
            Ok(Event::Written)
        })
    }

    fn compare_stat(&self) -> Result<Event, Errno> {
        let found = match self.stat(Name::Store) {
            Ok(stat) => Some(Stamp::of(&stat)),
            Err(Errno::NO_ENTRY) => None,
            Err(errno) => return Err(errno),
        };
        let loaded = self.inner.borrow().loaded.map(|loaded| loaded.stamp);
        Ok(if found == loaded { Event::Same } else { Event::Changed })
    }

    fn compare_content(&self, fd: Fd) -> Result<Event, Errno> {
        let content = self.with(fd, |file| self.read_all(fd, file))?;
        let digest: [u8; 32] = Sha256::digest(&content).into();
        let loaded = self.inner.borrow().loaded.map(|loaded| loaded.digest);
        Ok(if Some(digest) == loaded { Event::Same } else { Event::Changed })
    }

    fn rename(&self) -> Result<Event, Errno> {
        let temp = self.at(Name::Temp)?;
        // `renameat2`, as most programs: one name to look for in a trace.
        let (here, flags) = (&self.directory, RenameFlags::empty());
        fs::renameat_with(here, &temp, here, &self.name, flags).map_err(own)?;
        // The name leads to the new file whatever `stat` says: a failure now
        // is none of the rename, and the next save refuses.
        let stamp = self.stat(Name::Store).ok().map(|stat| Stamp::of(&stat));
        let mut inner = self.inner.borrow_mut();
        let digest = Sha256::digest(&inner.content).into();
        inner.loaded = stamp.map(|stamp| Loaded { stamp, digest });
        inner.temp = None;
        Ok(Event::Renamed)
    }

    fn unlink(&self) -> Result<Event, Errno> {
        let temp = self.at(Name::Temp)?;
        self.inner.borrow_mut().temp = None;
        fs::unlinkat(&self.directory, &temp, AtFlags::empty()).map_err(own)?;
        Ok(Event::Unlinked)
    }

    fn close(&self, fd: Fd) -> Result<Event, Errno> {
        let mut inner = self.inner.borrow_mut();
        let slot = inner.files.get_mut(usize::from(fd.0));
        // Dropping the last `OwnedFd` closes it.
        slot.and_then(Option::take).map(|_| Event::Closed).ok_or(BAD_FD)
    }

    fn stat(&self, name: Name) -> Result<fs::Stat, Errno> {
        let name = self.at(name)?;
        fs::statat(&self.directory, &name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(own)
    }

    fn at(&self, name: Name) -> Result<OsString, Errno> {
        match name {
            Name::Store => Ok(self.name.clone()),
            Name::LockFile => {
                let mut name = self.name.clone();
                name.push(".lock");
                Ok(name)
            }
            Name::Temp => {
                let temp = &self.inner.borrow().temp;
                temp.clone().ok_or(Errno::NO_ENTRY)
            }
        }
    }

    fn with<T>(
        &self,
        fd: Fd,
        call: impl FnOnce(BorrowedFd<'_>) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let file = {
            let inner = self.inner.borrow();
            let slot = inner.files.get(usize::from(fd.0));
            let file = slot.and_then(Option::as_ref).ok_or(BAD_FD)?;
            Arc::clone(file)
        };
        call(file.as_fd())
    }

    fn put(&self, file: OwnedFd) -> Fd {
        let file = Arc::new(file);
        let files = &mut self.inner.borrow_mut().files;
        let free = files.iter().position(Option::is_none);
        let number = free.unwrap_or(files.len());
        match files.get_mut(number) {
            Some(slot) => *slot = Some(file),
            None => files.push(Some(file)),
        }
        // A session has two files open at most.
        Fd(u8::try_from(number).unwrap_or(u8::MAX))
    }

    fn note(&self, effect: Effect, errno: Errno, found: Found) {
        let failure = &mut self.inner.borrow_mut().failure;
        failure.get_or_insert(Failure { effect, errno, found });
    }
}

impl Perform for Kernel {
    fn perform(&self, effect: Effect) -> Event {
        let answer = match effect {
            Effect::Open(name, access) => self.open(name, access),
            Effect::Lock(fd, access) => self.lock(fd, access),
            Effect::TryLock(fd) => Ok(self.try_lock(fd, Access::Write)),
            Effect::StatFd(fd) => self.with(fd, |file| {
                let stat = fs::fstat(file).map_err(own)?;
                Ok(Event::File(file_id(&stat)))
            }),
            Effect::StatName(name) => {
                self.stat(name).map(|stat| Event::File(file_id(&stat)))
            }
            Effect::Read(fd) => self.read(fd),
            // What it cannot remove is no failure of the save.
            Effect::Sweep => {
                self.sweep();
                Ok(Event::Swept)
            }
            Effect::Create => self.create(),
            Effect::Write(fd) => self.write(fd),
            Effect::Sync(fd) => self.with(fd, |file| {
                fs::fsync(file).map_err(own)?;
                Ok(Event::Synced)
            }),
            Effect::CompareStat => self.compare_stat(),
            Effect::CompareContent(fd) => self.compare_content(fd),
            Effect::Rename => self.rename(),
            Effect::SyncDirectory => {
                fs::fsync(&self.directory).map(|()| Event::Synced).map_err(own)
            }
            Effect::Unlink => self.unlink(),
            Effect::Close(fd) => self.close(fd),
        };
        let event = event(answer);
        if let Event::Failed(errno) = event {
            self.note(effect, errno, Found::Nothing);
        } else if event == Event::Changed {
            self.note(effect, Errno::CHANGED, Found::Nothing);
        }
        if let Some((observer, session)) = &self.observer {
            let (process, session) = (std::process::id(), *session);
            (observer.0)(&Logged { process, session, effect, event });
        }
        event
    }
}

/// Who drops a session closes its files: the observer hears of that too.
impl Drop for Kernel {
    fn drop(&mut self) {
        let count = self.inner.borrow().files.len();
        let open = |fd: &Fd| {
            let inner = self.inner.borrow();
            let slot = inner.files.get(usize::from(fd.0));
            slot.is_some_and(Option::is_some)
        };
        let all = (0..count).filter_map(|n| u8::try_from(n).ok()).map(Fd);
        let open: Vec<_> = all.filter(open).collect();
        for fd in open {
            self.perform(Effect::Close(fd));
        }
    }
}

impl Observer {
    /// Calls `hear` after each call; it should not take long, a lock is held.
    pub fn new(hear: impl Fn(&Logged) + Send + Sync + 'static) -> Self {
        Self(Arc::new(hear))
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Observer")
    }
}

impl Stamp {
    fn of(stat: &fs::Stat) -> Self {
        Self {
            file: file_id(stat),
            size: stat.st_size,
            seconds: stat.st_mtime,
            nanoseconds: stat.st_mtime_nsec as i64,
        }
    }
}

/// Takes an OFD lock on the whole file.
//= spec/lock.md#locks-are-ofd-locks
fn set_lock(
    file: BorrowedFd<'_>,
    access: Access,
    wait: bool,
) -> Result<(), Errno> {
    let kind = match access {
        Access::Read => libc::F_RDLCK,
        Access::Write => libc::F_WRLCK,
    };
    let lock = libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    loop {
        let set = if wait {
            FcntlArg::F_OFD_SETLKW(&lock)
        } else {
            FcntlArg::F_OFD_SETLK(&lock)
        };
        match fcntl(file, set) {
            Ok(_) => return Ok(()),
            Err(nix::Error::EINTR) => {}
            // POSIX lets a refusal be either.
            Err(nix::Error::EACCES) => return Err(Errno::AGAIN),
            Err(errno) => return Err(Errno(errno as i32)),
        }
    }
}

fn temp_prefix(store: &OsStr) -> OsString {
    let mut name = OsString::from(".");
    name.push(store);
    name.push(TEMP_MARK);
    name
}

/// A name that no other process and no other thread makes.
fn temp_name(store: &OsStr) -> OsString {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.unwrap_or_default().as_nanos();
    let mut name = temp_prefix(store);
    name.push(format!("{}-{count}-{now:x}", std::process::id()));
    name
}

fn event(answer: Result<Event, Errno>) -> Event {
    answer.unwrap_or_else(Event::Failed)
}

fn file_id(stat: &fs::Stat) -> FileId {
    FileId { device: stat.st_dev, inode: stat.st_ino }
}

fn uid(stat: &fs::Stat) -> fs::Uid {
    fs::Uid::from_raw(stat.st_uid)
}

fn gid(stat: &fs::Stat) -> fs::Gid {
    fs::Gid::from_raw(stat.st_gid)
}

fn own(errno: Os) -> Errno {
    Errno(errno.raw_os_error())
}
