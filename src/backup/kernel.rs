//! Everything below one directory that is held open: the only file of the
//! restored tree with system calls.
//!
//! Lives here: how a name below a directory is reached without ever leaving
//! it, and one function per change. May not live here: the order of changes,
//! which names are allowed, texts of errors.
//!
//! A path is bytes with `/` between its components, checked by the caller; an
//! empty one is the directory itself. No function keeps a descriptor open.

use std::num::NonZero;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{
    self, Advice, AtFlags, CWD, FileType, FlockOperation, Mode, OFlags,
    RenameFlags, ResolveFlags, Timespec, Timestamps, UTIME_OMIT,
};
use rustix::io::{self, Errno as Os};

/// A directory, and how to go below it.
#[derive(Debug)]
pub(super) struct Folder {
    fd: OwnedFd,
    /// Use only what old kernels have. Shared with every folder opened below.
    old: Arc<AtomicBool>,
}

/// A new file that is being written.
#[derive(Debug)]
pub(super) struct NewFile {
    fd: OwnedFd,
    /// Up to here the kernel was asked to write to the disk.
    asked: u64,
}

/// Bytes after which the kernel is asked to begin writing.
const ASK_BYTES: u64 = 8 << 20;

/// What is under a name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) kind: FileType,
    /// Its twelve bits.
    pub(super) mode: u32,
}

/// What a file or directory is given last.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Meta {
    /// Twelve bits.
    pub(super) mode: u32,
    pub(super) time: Time,
}

/// A modification time: seconds since 1970, and nanoseconds on top.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Time {
    /// Whole seconds since 1970; negative before.
    pub seconds: i64,
    /// 0 to 999,999,999.
    pub nanoseconds: u32,
}

/// Names in one directory.
pub(super) type Names = Vec<Vec<u8>>;

/// A call that failed.
#[derive(Clone, Debug)]
pub(super) struct Failed {
    pub(super) call: &'static str,
    pub(super) errno: i32,
    /// The part of the path that is no directory, and what it is.
    pub(super) in_the_way: Option<(Vec<u8>, FileType)>,
}

/// What the owner needs to work inside a directory.
pub(super) const OWNER: u32 = 0o700;
/// Bytes of a path that the kernel is given at once: far below its limit of
/// 4,096, so that a longer one can be reached too.
const HOP_BYTES_MAX: usize = 2_048;
/// How often a path is tried while others rename around us.
const HOP_TRIES: u32 = 64;
/// How often a unique name is tried.
const UNIQUE_TRIES: u32 = 64;

impl Failed {
    pub(super) fn is_missing(&self) -> bool {
        self.errno == Os::NOENT.raw_os_error()
    }

    pub(super) fn is_there_already(&self) -> bool {
        self.errno == Os::EXIST.raw_os_error()
    }

    /// A disk, a quota or a limit on the size of files is used up.
    pub(super) fn is_no_space(&self) -> bool {
        [Os::NOSPC, Os::DQUOT, Os::FBIG]
            .iter()
            .any(|errno| errno.raw_os_error() == self.errno)
    }
}

impl Folder {
    /// Opens `path`, and creates it first where it is missing, and says so;
    /// its name is on disk then, since what is in it is only as durable as
    /// that.
    ///
    /// The path is the user's: links in it are followed, this one time.
    //= spec/phases.md#r11-done-means-durable
    pub(super) fn open_or_create(path: &Path) -> Result<(Self, bool), Failed> {
        let mut is_new = false;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = || fs::open(path, flags, Mode::empty());
        let fd = match open() {
            Err(Os::NOENT) => {
                match fs::mkdir(path, Mode::from_raw_mode(0o777)) {
                    Ok(()) => is_new = true,
                    Err(Os::EXIST) => {}
                    Err(errno) => return Err(failed("mkdir")(errno)),
                }
                open()
            }
            fd => fd,
        };
        let old = Arc::new(AtomicBool::new(false));
        let folder = Self { fd: fd.map_err(failed("open"))?, old };
        // Whoever made it may have been killed before this: always.
        folder.sync_name()?;
        Ok((folder, is_new))
    }

    /// Removes this directory if it is empty and still what `path` names.
    pub(super) fn remove_itself(&self, path: &Path) {
        let (Ok(own), Ok(at)) = (fs::fstat(&self.fd), fs::lstat(path)) else {
            return;
        };
        if (own.st_dev, own.st_ino) == (at.st_dev, at.st_ino) {
            // Only an empty one can be: nobody else's file is lost.
            let _ = fs::rmdir(path);
        }
    }

    /// Waits until the name of this directory is on disk.
    fn sync_name(&self) -> Result<(), Failed> {
        let above = fs::openat(&self.fd, "..", LIST, Mode::empty());
        let synced = above.and_then(|fd| retry(|| fs::fsync(&fd)));
        match synced {
            // What is above may not be ours to read, or knows no such call.
            Err(Os::ACCESS | Os::INVAL) => self.sync_all(),
            synced => synced.map_err(failed("fsync")),
        }
    }

    /// From now on do without `openat2` and `renameat2`.
    pub(super) fn pretend_old(&self) {
        self.old.store(true, Ordering::Relaxed);
    }

    /// Creates a private directory that no other process has, locked for as
    /// long as it is open, and gives its name.
    pub(super) fn create_unique(
        &self,
        prefix: &[u8],
    ) -> Result<(Self, Vec<u8>), Failed> {
        let mut tries = 0;
        loop {
            let name = unique_name(prefix);
            match self.make_dir(&name, OWNER) {
                Err(f) if f.is_there_already() && tries < UNIQUE_TRIES => {}
                made => {
                    made?;
                    match self.open_locked(&name) {
                        Ok(Some(folder)) => return Ok((folder, name)),
                        // One who sweeps had it before we could lock it.
                        Ok(None) => {}
                        Err(failed) => {
                            let _ = self.remove_dir(&name);
                            return Err(failed);
                        }
                    }
                }
            }
            tries += 1;
            if tries > UNIQUE_TRIES {
                return Err(failed("lock")(Os::AGAIN));
            }
        }
    }

    /// Opens and locks the directory `name`; `None` if somebody else holds
    /// it, or it is gone.
    pub(super) fn open_locked(
        &self,
        name: &[u8],
    ) -> Result<Option<Self>, Failed> {
        let fd = match self.open_dir(name, LIST) {
            Err(failed) if failed.is_missing() => return Ok(None),
            fd => fd?,
        };
        match fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
            Err(Os::WOULDBLOCK) => return Ok(None),
            locked => locked.map_err(failed("lock"))?,
        }
        let stat = fs::fstat(&fd).map_err(failed("fstat"))?;
        let at = fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW);
        let is_same = at.is_ok_and(|at| {
            (at.st_dev, at.st_ino) == (stat.st_dev, stat.st_ino)
        });
        Ok(is_same.then(|| Self { fd, old: Arc::clone(&self.old) }))
    }

    /// What is at `path`; links are not followed, at the end neither.
    pub(super) fn entry(&self, path: &[u8]) -> Result<Option<Entry>, Failed> {
        let (parent, name) = match self.parent(path) {
            Err(failed) if failed.is_missing() => return Ok(None),
            parent => parent?,
        };
        match fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(Entry::of(&stat))),
            Err(Os::NOENT) => Ok(None),
            Err(errno) => Err(failed("stat")(errno)),
        }
    }

    /// The names in the directory `path`, in order.
    pub(super) fn names(&self, path: &[u8]) -> Result<Names, Failed> {
        names_in(&self.open_dir(path, LIST)?)
    }

    /// Removes everything but directories from the directory `path`, and
    /// gives the names of those. Goes on after a failure, and gives the first.
    pub(super) fn remove_files(
        &self,
        path: &[u8],
    ) -> Result<(Names, Option<Failed>), Failed> {
        let fd = match self.open_dir(path, LIST) {
            Err(failed) if failed.errno == Os::ACCESS.raw_os_error() => {
                self.loosen(path)?;
                self.open_dir(path, LIST)?
            }
            fd => fd?,
        };
        let mode = Entry::of(&fs::fstat(&fd).map_err(failed("fstat"))?).mode;
        if mode & OWNER != OWNER {
            // If it cannot be done, the next call says so.
            let _ = set_mode(&fd, mode | OWNER);
        }
        let mut directories = Vec::new();
        let mut first = None;
        for name in names_in(&fd)? {
            match fs::unlinkat(&fd, name.as_slice(), AtFlags::empty()) {
                Ok(()) | Err(Os::NOENT) => {}
                Err(Os::ISDIR) => directories.push(name),
                Err(errno) => first = first.or(Some(failed("unlink")(errno))),
            }
        }
        Ok((directories, first))
    }

    /// Creates the directory `path` and those above it where they are
    /// missing, and calls `made` with each that was.
    pub(super) fn make_dirs(
        &self,
        path: &[u8],
        mut made: impl FnMut(&[u8]),
    ) -> Result<(), Failed> {
        let mode = Mode::from_raw_mode(0o777);
        let mut at = self.hop(&self.fd, b".", PASS);
        let mut end = 0;
        for name in path.split(|&b| b == b'/') {
            let from = at.map_err(failed("open"))?;
            end += name.len();
            match fs::mkdirat(&from, name, mode) {
                Ok(()) => made(path.get(..end).unwrap_or(path)),
                Err(Os::EXIST) => {}
                Err(errno) => return Err(failed("mkdir")(errno)),
            }
            at = self.hop(&from, name, PASS);
            if let Err(errno @ (Os::LOOP | Os::NOTDIR)) = at {
                return Err(self.blame(path, errno));
            }
            end += 1;
        }
        at.map(drop).map_err(failed("open"))
    }

    pub(super) fn make_dir(
        &self,
        path: &[u8],
        mode: u32,
    ) -> Result<(), Failed> {
        let (parent, name) = self.parent(path)?;
        fs::mkdirat(parent, name, Mode::from_raw_mode(mode))
            .map_err(failed("mkdir"))
    }

    /// Creates an empty regular file that only its owner may open.
    pub(super) fn make_file(&self, path: &[u8]) -> Result<NewFile, Failed> {
        let (parent, name) = self.parent(path)?;
        let flags = OFlags::WRONLY
            | OFlags::CREATE
            | OFlags::EXCL
            | OFlags::NOFOLLOW
            | OFlags::CLOEXEC;
        fs::openat(parent, name, flags, Mode::from_raw_mode(0o600))
            .map(|fd| NewFile { fd, asked: 0 })
            .map_err(failed("create"))
    }

    pub(super) fn make_symlink(
        &self,
        path: &[u8],
        target: &[u8],
        time: Time,
    ) -> Result<(), Failed> {
        let (parent, name) = self.parent(path)?;
        fs::symlinkat(target, &parent, name).map_err(failed("symlink"))?;
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        fs::utimensat(parent, name, &times(time), flags)
            .map_err(failed("set time"))
    }

    /// Gives the file `from` the second name `path`.
    pub(super) fn make_link(
        &self,
        path: &[u8],
        from: &[u8],
    ) -> Result<(), Failed> {
        let (old, from) = self.parent(from)?;
        let (new, name) = self.parent(path)?;
        fs::linkat(old, from, new, name, AtFlags::empty())
            .map_err(failed("link"))
    }

    /// Gives the directory `path` its mode and time.
    pub(super) fn set_meta(
        &self,
        path: &[u8],
        meta: Meta,
    ) -> Result<(), Failed> {
        let fd = self.open_dir(path, LIST)?;
        set_mode(&fd, meta.mode)?;
        fs::futimens(fd, &times(meta.time)).map_err(failed("set time"))
    }

    /// Gives the directory `path` a mode, and lets its time be.
    pub(super) fn set_dir_mode(
        &self,
        path: &[u8],
        mode: u32,
    ) -> Result<(), Failed> {
        set_mode(&self.open_dir(path, LIST)?, mode)
    }

    /// Lets the owner work inside the directory `path`; gives the mode that
    /// it had if that had to change.
    pub(super) fn loosen(&self, path: &[u8]) -> Result<Option<u32>, Failed> {
        // It may not be readable, so there is no descriptor for `fchmod`;
        // through `/proc` the mode goes to what was opened, not to a name.
        let fd = self.open_dir(path, PASS)?;
        let mode = Entry::of(&fs::fstat(&fd).map_err(failed("fstat"))?).mode;
        if mode & OWNER == OWNER {
            return Ok(None);
        }
        let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let new = Mode::from_raw_mode(mode | OWNER);
        fs::chmodat(CWD, link, new, AtFlags::empty())
            .map_err(failed("chmod"))?;
        Ok(Some(mode))
    }

    pub(super) fn remove_dir(&self, path: &[u8]) -> Result<(), Failed> {
        let (parent, name) = self.parent(path)?;
        fs::unlinkat(parent, name, AtFlags::REMOVEDIR).map_err(failed("rmdir"))
    }

    /// Waits until the file or directory `path` is on disk.
    pub(super) fn sync(&self, path: &[u8]) -> Result<(), Failed> {
        let (parent, name) = self.parent(path)?;
        let name = if name.is_empty() { b"." } else { name };
        let flags = OFlags::RDONLY
            | OFlags::NOFOLLOW
            | OFlags::NONBLOCK
            | OFlags::CLOEXEC;
        let fd = fs::openat(parent, name, flags, Mode::empty())
            .map_err(failed("open"))?;
        retry(|| fs::fsync(&fd)).map_err(failed("fsync"))
    }

    /// Waits until the whole file system is on disk: for a tree of many
    /// files far quicker than one file after the other.
    pub(super) fn sync_all(&self) -> Result<(), Failed> {
        retry(|| fs::syncfs(&self.fd)).map_err(failed("syncfs"))
    }

    /// Moves `from` of this folder to `path` of another one, where nothing
    /// is.
    pub(super) fn move_to(
        &self,
        from: &[u8],
        to: &Self,
        path: &[u8],
    ) -> Result<(), Failed> {
        let (old, from) = self.parent(from)?;
        let (new, name) = to.parent(path)?;
        if !self.old.load(Ordering::Relaxed) {
            let flags = RenameFlags::NOREPLACE;
            match fs::renameat_with(&old, from, &new, name, flags) {
                // The kernel or the file system (NFS, say) has no such call.
                Err(Os::NOSYS | Os::INVAL | Os::OPNOTSUPP | Os::PERM) => {}
                moved => return moved.map_err(failed("rename")),
            }
        }
        match fs::statat(&new, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => return Err(failed("rename")(Os::EXIST)),
            Err(Os::NOENT) => {}
            Err(errno) => return Err(failed("stat")(errno)),
        }
        let stat = fs::statat(&old, from, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(failed("stat"))?;
        if Entry::of(&stat).kind == FileType::Directory {
            // Whatever comes in between, a directory replaces nothing but
            // an empty directory.
            return fs::renameat(old, from, new, name)
                .map_err(failed("rename"));
        }
        fs::linkat(&old, from, new, name, AtFlags::empty())
            .map_err(failed("link"))?;
        fs::unlinkat(old, from, AtFlags::empty()).map_err(failed("unlink"))
    }

    /// Moves `from` of this folder to `path` of another one, whatever file
    /// is there; a link there is replaced, not followed.
    pub(super) fn replace(
        &self,
        from: &[u8],
        to: &Self,
        path: &[u8],
    ) -> Result<(), Failed> {
        let (old, from) = self.parent(from)?;
        let (new, name) = to.parent(path)?;
        fs::renameat(old, from, new, name).map_err(failed("rename"))
    }

    /// The directory that `path` is in, and its name there.
    fn parent<'p>(
        &self,
        path: &'p [u8],
    ) -> Result<(OwnedFd, &'p [u8]), Failed> {
        let (parent, name) = match path.iter().rposition(|&b| b == b'/') {
            Some(at) => {
                let (parent, name) = path.split_at(at);
                (parent, name.get(1..).unwrap_or_default())
            }
            None => (&[][..], path),
        };
        Ok((self.open_dir(parent, PASS)?, name))
    }

    /// Opens the directory `path`. No component may be a link, and none
    /// leads out, whatever others rename meanwhile.
    fn open_dir(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Failed> {
        let mut at = None;
        let mut start = 0;
        while start < path.len() {
            let old = self.old.load(Ordering::Relaxed);
            let bytes_max = if old { 0 } else { HOP_BYTES_MAX };
            let end = hop_end(path, start, bytes_max);
            let step = path.get(start..end).unwrap_or_default();
            let flags = if end == path.len() { flags } else { PASS };
            at = match self.hop(at.as_ref().unwrap_or(&self.fd), step, flags) {
                Err(errno @ (Os::LOOP | Os::NOTDIR)) => {
                    return Err(self.blame(path, errno));
                }
                fd => Some(fd.map_err(failed("open"))?),
            };
            start = end + 1;
        }
        match at {
            Some(fd) => Ok(fd),
            None => self.hop(&self.fd, b".", flags).map_err(failed("open")),
        }
    }

    /// One call of `openat2`, or where there is none one step of a walk.
    //= spec/format3.md#nothing-outside-of-the-directory
    fn hop(
        &self,
        from: &OwnedFd,
        step: &[u8],
        flags: OFlags,
    ) -> Result<OwnedFd, Os> {
        let resolve = ResolveFlags::BENEATH
            | ResolveFlags::NO_SYMLINKS
            | ResolveFlags::NO_MAGICLINKS;
        let mut tries = 0;
        while !self.old.load(Ordering::Relaxed) {
            match fs::openat2(from, step, flags, Mode::empty(), resolve) {
                Err(Os::NOSYS | Os::PERM) => self.pretend_old(),
                Err(Os::AGAIN | Os::INTR) if tries < HOP_TRIES => tries += 1,
                opened => return opened,
            }
        }
        let mut at = None;
        for name in step.split(|&b| b == b'/') {
            let from = at.as_ref().unwrap_or(from).as_fd();
            at = Some(fs::openat(from, name, flags, Mode::empty())?);
        }
        at.ok_or(Os::INVAL)
    }

    /// Says which component of `path` is no directory.
    fn blame(&self, path: &[u8], errno: Os) -> Failed {
        let mut failed = failed("open")(errno);
        let mut at = self.hop(&self.fd, b".", PASS);
        let mut end = 0;
        for name in path.split(|&b| b == b'/') {
            end += name.len();
            let Ok(from) = at else { break };
            let stat = fs::statat(&from, name, AtFlags::SYMLINK_NOFOLLOW);
            let Ok(stat) = stat else { break };
            let kind = Entry::of(&stat).kind;
            if kind != FileType::Directory {
                let part = path.get(..end).unwrap_or(path);
                failed.in_the_way = Some((part.to_vec(), kind));
                break;
            }
            at = self.hop(&from, name, PASS);
            end += 1;
        }
        failed
    }
}

impl NewFile {
    pub(super) fn write_at(
        &mut self,
        mut offset: u64,
        mut bytes: &[u8],
    ) -> Result<(), Failed> {
        while !bytes.is_empty() {
            match io::pwrite(&self.fd, bytes, offset) {
                Ok(0) => return Err(failed("write")(Os::IO)),
                Ok(count) => {
                    bytes = bytes.get(count..).unwrap_or_default();
                    offset += count as u64;
                }
                Err(Os::INTR) => {}
                Err(errno) => return Err(failed("write")(errno)),
            }
        }
        let length = NonZero::new(offset.saturating_sub(self.asked));
        if length.is_some_and(|length| length.get() >= ASK_BYTES) {
            // What was written is written to the disk from now on, so that
            // the wait at the end is short. Advice only: it may fail.
            let advice = Advice::DontNeed;
            let _ = fs::fadvise(&self.fd, self.asked, length, advice);
            self.asked = offset;
        }
        Ok(())
    }

    /// Gives the file its size, mode and time.
    pub(super) fn finish(self, size: u64, meta: Meta) -> Result<(), Failed> {
        retry(|| fs::ftruncate(&self.fd, size)).map_err(failed("set size"))?;
        set_mode(&self.fd, meta.mode)?;
        fs::futimens(&self.fd, &times(meta.time)).map_err(failed("set time"))
    }
}

impl Entry {
    fn of(stat: &fs::Stat) -> Self {
        let kind = FileType::from_raw_mode(stat.st_mode);
        Self { kind, mode: stat.st_mode & 0o7777 }
    }
}

/// Opens a directory to list it, to sync it or to change its mode.
const LIST: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
/// Opens a directory to go through it, readable or not.
const PASS: OFlags = OFlags::PATH
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

fn names_in(fd: &OwnedFd) -> Result<Names, Failed> {
    let mut names = Vec::new();
    for entry in fs::Dir::read_from(fd).map_err(failed("list"))? {
        let entry = entry.map_err(failed("list"))?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    names.sort();
    Ok(names)
}

/// Where the hop that begins at `start` ends: at a `/`, or at the end.
fn hop_end(path: &[u8], start: usize, bytes_max: usize) -> usize {
    let slashes = |from: usize| {
        let rest = path.get(from..).unwrap_or_default();
        rest.iter().position(|&b| b == b'/').map(|at| from + at)
    };
    let mut end = start;
    loop {
        end = match slashes(end) {
            Some(at) => at,
            None => path.len(),
        };
        let next = slashes(end + 1).unwrap_or(path.len());
        if end >= path.len() || next - start > bytes_max {
            return end;
        }
        end += 1;
    }
}

fn set_mode(fd: &OwnedFd, mode: u32) -> Result<(), Failed> {
    fs::fchmod(fd, Mode::from_raw_mode(mode)).map_err(failed("chmod"))
}

fn times(time: Time) -> Timestamps {
    let unchanged = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    Timestamps {
        last_access: unchanged,
        last_modification: Timespec {
            tv_sec: time.seconds,
            tv_nsec: time.nanoseconds.into(),
        },
    }
}

fn retry(mut call: impl FnMut() -> Result<(), Os>) -> Result<(), Os> {
    loop {
        match call() {
            Err(Os::INTR) => {}
            answer => return answer,
        }
    }
}

/// A name that no other process and no other thread makes.
fn unique_name(prefix: &[u8]) -> Vec<u8> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.unwrap_or_default().as_nanos();
    let tail = format!("{}-{count}-{now:x}", std::process::id());
    [prefix, tail.as_bytes()].concat()
}

fn failed(call: &'static str) -> impl Fn(Os) -> Failed {
    move |errno| {
        let errno = errno.raw_os_error();
        Failed { call, errno, in_the_way: None }
    }
}
