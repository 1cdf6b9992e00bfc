//! The system calls of writing an archive.
//!
//! Lives here: a file without a name, its bytes, its name; random bits. May
//! not live here: what is written where, or when.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::fs::{
    self, Advice, AtFlags, CWD, FlockOperation, Mode, OFlags, RenameFlags,
};
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

/// A call that fails on purpose, in tests: the one of that number, from 0.
#[doc(hidden)]
#[derive(Clone, Debug, Default)]
pub struct Faults(Option<Arc<Fault>>);

#[derive(Debug)]
struct Fault {
    /// Calls that still work.
    left: AtomicU64,
    errno: i32,
    /// It came so far.
    is_met: AtomicBool,
    /// From then on no call works.
    stays: bool,
}

/// A directory, and the name that the archive gets in it.
#[derive(Debug)]
pub(super) struct Place {
    faults: Faults,
    directory: File,
    name: PathBuf,
    path: PathBuf,
    /// Files have names from the beginning, and are not renamed.
    is_old: bool,
}

/// An archive that is being written.
#[derive(Debug)]
pub(super) struct NewArchive {
    faults: Faults,
    file: File,
    /// Its temporary name; a file system that can does without.
    name: Option<Vec<u8>>,
}

/// Temporary archives are called this and something unique, where they must
/// have a name.
pub(super) const TEMPORARY_PREFIX: &str = ".qubes-fsm-backup-";
/// How often one that is swept at once is made again.
const UNIQUE_TRIES: u32 = 64;
/// Whoever backs up may read it, and nobody else.
const ARCHIVE_MODE: u32 = 0o600;

impl Faults {
    #[must_use]
    pub fn at(call: u64, errno: i32) -> Self {
        Self::new(call, errno, false)
    }

    #[must_use]
    pub fn from(call: u64, errno: i32) -> Self {
        Self::new(call, errno, true)
    }

    fn new(call: u64, errno: i32, stays: bool) -> Self {
        let left = AtomicU64::new(call);
        let is_met = AtomicBool::new(false);
        Self(Some(Arc::new(Fault { left, errno, is_met, stays })))
    }

    /// Whether there was a call of that number.
    #[must_use]
    pub fn is_met(&self) -> bool {
        let fault = self.0.as_ref();
        fault.is_some_and(|fault| fault.is_met.load(Ordering::Relaxed))
    }

    /// Every call of this file begins with it.
    fn call(&self) -> io::Result<()> {
        let Some(fault) = &self.0 else { return Ok(()) };
        let order = Ordering::Relaxed;
        let left = |left: u64| left.checked_sub(1);
        let is_it = fault.left.fetch_update(order, order, left).is_err()
            && (!fault.is_met.swap(true, order) || fault.stays);
        if is_it {
            return Err(io::Error::from_raw_os_error(fault.errno));
        }
        Ok(())
    }
}

impl Place {
    /// Opens the directory of `path`; nothing may be under its name.
    pub(super) fn open(path: &Path, faults: Faults) -> io::Result<Self> {
        let name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?;
        let directory = match path.parent() {
            Some(parent) if parent != Path::new("") => File::open(parent)?,
            Some(_) | None => File::open(".")?,
        };
        let (name, path) = (name.into(), path.to_owned());
        let is_old = false;
        let place = Self { faults, directory, name, path, is_old };
        if place.is_taken()? {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        Ok(place)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Works as where neither `O_TMPFILE` nor `RENAME_NOREPLACE` is known.
    pub(super) fn pretend_old(&mut self) {
        self.is_old = true;
    }

    fn is_taken(&self) -> io::Result<bool> {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        match fs::statat(&self.directory, &self.name, flags) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Creates an archive without a name; with a temporary one where the
    /// file system cannot do that.
    pub(super) fn create(&self) -> io::Result<NewArchive> {
        self.faults.call()?;
        let faults = self.faults.clone();
        let mode = Mode::from_raw_mode(ARCHIVE_MODE);
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let unnamed = flags | OFlags::TMPFILE;
        let opened = match self.is_old {
            true => Err(Errno::OPNOTSUPP),
            false => fs::openat(&self.directory, ".", unnamed, mode),
        };
        match opened {
            Ok(fd) => {
                let (file, name) = (fd.into(), None);
                return Ok(NewArchive { faults, file, name });
            }
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
        let named = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        for _ in 0..UNIQUE_TRIES {
            let unique = random::<8>()?;
            let digits = unique.map(|byte| format!("{byte:02x}")).concat();
            let name = [TEMPORARY_PREFIX, &digits].concat().into_bytes();
            let fd = fs::openat(&self.directory, name.as_slice(), named, mode)?;
            let file = fd.into();
            if self.hold(&file, &name)? {
                return Ok(NewArchive { faults, file, name: Some(name) });
            }
        }
        Err(Errno::AGAIN.into())
    }

    /// Locks a temporary archive, so that whoever sweeps sees that it is in
    /// use; `false`: one had it before that, and it has no name any more.
    //= spec/phases.md#b11-no-living-run-loses-its-file
    fn hold(&self, file: &File, name: &[u8]) -> io::Result<bool> {
        let lock = FlockOperation::NonBlockingLockExclusive;
        // Where nothing can be locked, nothing is swept.
        if fs::flock(file, lock) == Err(Errno::WOULDBLOCK) {
            return Ok(false);
        }
        let stat = fs::fstat(file)?;
        match fs::statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(at) => Ok((at.st_dev, at.st_ino) == (stat.st_dev, stat.st_ino)),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Gives the archive its name; never over one that exists.
    pub(super) fn publish(&self, archive: &NewArchive) -> io::Result<()> {
        self.faults.call()?;
        let to = &self.directory;
        let Some(temporary) = &archive.name else {
            let fd = format!("/proc/self/fd/{}", archive.file.as_raw_fd());
            let follow = AtFlags::SYMLINK_FOLLOW;
            return Ok(fs::linkat(CWD, fd, to, &self.name, follow)?);
        };
        let temporary = OsStr::from_bytes(temporary);
        let flags = RenameFlags::NOREPLACE;
        let renamed = match self.is_old {
            true => Err(Errno::NOSYS),
            false => fs::renameat_with(to, temporary, to, &self.name, flags),
        };
        match renamed {
            Err(Errno::INVAL | Errno::NOSYS) => {
                let none = AtFlags::empty();
                fs::linkat(to, temporary, to, &self.name, none)?;
                fs::unlinkat(to, temporary, none).map_err(|errno| {
                    // It failed, and so nothing is published.
                    let _ = fs::unlinkat(to, &self.name, none);
                    errno.into()
                })
            }
            renamed => Ok(renamed?),
        }
    }

    /// Waits until the name is on disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.faults.call()?;
        self.directory.sync_all()
    }

    /// Where the archive is so far: under its temporary name, if it has one.
    pub(super) fn path_of(&self, archive: &NewArchive) -> PathBuf {
        match &archive.name {
            Some(name) => self.path.with_file_name(OsStr::from_bytes(name)),
            None => self.path.clone(),
        }
    }

    /// Removes the temporary name, if there is one.
    pub(super) fn remove(&self, archive: &NewArchive) -> io::Result<()> {
        let Some(temporary) = &archive.name else { return Ok(()) };
        self.faults.call()?;
        let name = OsStr::from_bytes(temporary);
        Ok(fs::unlinkat(&self.directory, name, AtFlags::empty())?)
    }

    /// Removes temporary archives that dead processes left; gives how many.
    pub(super) fn sweep(&self) -> usize {
        let Ok(entries) = fs::Dir::read_from(&self.directory) else { return 0 };
        let names = entries.flatten().map(|e| e.file_name().to_owned());
        let prefix = TEMPORARY_PREFIX.as_bytes();
        let old = names.filter(|name| name.to_bytes().starts_with(prefix));
        old.filter(|name| {
            // It may be anything, a named pipe that nobody writes as well.
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let flags = flags | OFlags::NONBLOCK;
            let name = name.as_c_str();
            let fd = fs::openat(&self.directory, name, flags, Mode::empty());
            let lock = FlockOperation::NonBlockingLockExclusive;
            fd.is_ok_and(|fd| fs::flock(&fd, lock).is_ok())
                && fs::unlinkat(&self.directory, name, AtFlags::empty()).is_ok()
        })
        .count()
    }
}

impl NewArchive {
    /// The same file, for a thread that reads it.
    pub(super) fn reader(&self) -> io::Result<ArchiveReader> {
        let (faults, file) = (self.faults.clone(), self.file.try_clone()?);
        Ok(ArchiveReader { faults, file })
    }

    pub(super) fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.faults.call()?;
        self.file.write_all_at(bytes, at)
    }

    /// Asks the kernel to begin writing this to the disk; it need not.
    pub(super) fn begin_writing(&self, at: u64, length: u64) {
        let length = std::num::NonZero::new(length);
        let _ = fs::fadvise(&self.file, at, length, Advice::DontNeed);
    }

    /// Gives it its size, and waits until it is on disk.
    pub(super) fn sync(&self, size: u64) -> io::Result<()> {
        self.faults.call()?;
        self.file.set_len(size)?;
        self.file.sync_all()
    }
}

/// What was written, to be read again.
pub(super) struct ArchiveReader {
    faults: Faults,
    file: File,
}

impl ArchiveReader {
    pub(super) fn read_at(&self, room: &mut [u8], at: u64) -> io::Result<()> {
        self.faults.call()?;
        self.file.read_exact_at(room, at)
    }
}

/// Bits from the system's random source.
pub(super) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bits = [0; N];
    let mut filled = 0;
    while let Some(room) = bits.get_mut(filled..).filter(|r| !r.is_empty()) {
        match getrandom(room, GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> usize {
        std::fs::read_dir(directory).unwrap().count()
    }

    /// Between the creation of a file and its lock, somebody may sweep.
    //= spec/phases.md#b10-what-a-crash-left-is-swept
    //= spec/phases.md#b11-no-living-run-loses-its-file
    #[test]
    fn what_is_swept_before_it_is_locked_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let to = directory.path().join("archive");
        let mut place = Place::open(&to, Faults::default()).unwrap();
        place.pretend_old();
        let name = [TEMPORARY_PREFIX, "1"].concat();
        let path = directory.path().join(&name);
        let file = File::create_new(&path).unwrap();
        assert_eq!(place.sweep(), 1);
        assert!(!place.hold(&file, name.as_bytes()).unwrap());
        // Who sweeps has it right now.
        let file = File::create_new(&path).unwrap();
        let theirs = File::open(&path).unwrap();
        fs::flock(&theirs, FlockOperation::LockExclusive).unwrap();
        assert!(!place.hold(&file, name.as_bytes()).unwrap());
        drop(theirs);
        // Somebody else's file has the name by now.
        std::fs::rename(&path, directory.path().join("other")).unwrap();
        File::create_new(&path).unwrap();
        assert!(!place.hold(&file, name.as_bytes()).unwrap());
        // That one is of the dead; what a living run made is not.
        let archive = place.create().unwrap();
        assert_eq!(names(directory.path()), 3);
        assert_eq!(place.sweep(), 1);
        assert!(path_is_there(&place, &archive));
        drop(archive);
        assert_eq!(place.sweep(), 1);
        assert_eq!(names(directory.path()), 1);
    }

    fn path_is_there(place: &Place, archive: &NewArchive) -> bool {
        place.path_of(archive).exists()
    }
}
