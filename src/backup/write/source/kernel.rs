//! Files below one directory, looked at and read: the only file of the source
//! of a backup with system calls.
//!
//! Lives here: one function per call. May not live here: paths of more than
//! one component, what is left out, texts of errors.
//!
//! Nothing is followed: a name is always one component below a directory that
//! is held open.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, SeekFrom};
use rustix::io::{self, Errno as Os};

use crate::format::tar::Mtime;

/// A directory, held open to go through it.
#[derive(Debug)]
pub(super) struct Folder {
    fd: OwnedFd,
}

/// A regular file, held open to read it.
#[derive(Debug)]
pub(super) struct Content {
    fd: OwnedFd,
}

/// What the kernel says of a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stat {
    pub(super) kind: FileType,
    /// Its twelve bits.
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) size: u64,
    /// Bytes that it takes on the disk.
    pub(super) on_disk: u64,
    /// How many names it has.
    pub(super) links: u64,
    /// Device and inode: the same for all of its names.
    pub(super) id: (u64, u64),
    pub(super) mtime: Mtime,
    pub(super) ctime: Mtime,
}

/// A call that failed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failed {
    pub(super) call: &'static str,
    pub(super) errno: i32,
}

impl Failed {
    pub(super) fn is_missing(self) -> bool {
        self.errno == Os::NOENT.raw_os_error()
    }

    /// Something else than a directory, a link to one included.
    pub(super) fn is_no_directory(self) -> bool {
        [Os::NOTDIR, Os::LOOP]
            .iter()
            .any(|errno| errno.raw_os_error() == self.errno)
    }
}

impl Folder {
    /// Opens `path`, which is the user's: links in it are followed, this one
    /// time.
    pub(super) fn open(path: &Path) -> Result<Self, Failed> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = fs::open(path, flags, Mode::empty());
        Ok(Self { fd: fd.map_err(failed("open"))? })
    }

    /// Opens a directory in it, readable or not; no link.
    pub(super) fn enter(&self, name: &[u8]) -> Result<Self, Failed> {
        let flags = OFlags::PATH
            | OFlags::DIRECTORY
            | OFlags::NOFOLLOW
            | OFlags::CLOEXEC;
        let fd = fs::openat(&self.fd, name, flags, Mode::empty());
        Ok(Self { fd: fd.map_err(failed("open"))? })
    }

    /// What the directory itself is.
    pub(super) fn stat(&self) -> Result<Stat, Failed> {
        fs::fstat(&self.fd).map(Stat::of).map_err(failed("fstat"))
    }

    /// What is under a name; a link is not followed.
    pub(super) fn stat_of(&self, name: &[u8]) -> Result<Stat, Failed> {
        fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW)
            .map(Stat::of)
            .map_err(failed("stat"))
    }

    /// Calls `take` with each name in it, in no order, until that is false.
    pub(super) fn names(
        &self,
        mut take: impl FnMut(&[u8]) -> bool,
    ) -> Result<(), Failed> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = fs::openat(&self.fd, ".", flags, Mode::empty());
        let fd = fd.map_err(failed("list"))?;
        for entry in fs::Dir::new(fd).map_err(failed("list"))? {
            let entry = entry.map_err(failed("list"))?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." && !take(name) {
                break;
            }
        }
        Ok(())
    }

    /// Where a symbolic link leads.
    pub(super) fn target_of(&self, name: &[u8]) -> Result<Vec<u8>, Failed> {
        fs::readlinkat(&self.fd, name, Vec::new())
            .map(std::ffi::CString::into_bytes)
            .map_err(failed("readlink"))
    }

    /// Opens a file in it to read it. Should it be something else by now, no
    /// terminal is taken, and no other end of a pipe is waited for.
    pub(super) fn content(&self, name: &[u8]) -> Result<Content, Failed> {
        let flags = OFlags::RDONLY
            | OFlags::NOFOLLOW
            | OFlags::NONBLOCK
            | OFlags::NOCTTY
            | OFlags::CLOEXEC;
        let fd = fs::openat(&self.fd, name, flags, Mode::empty());
        Ok(Content { fd: fd.map_err(failed("open"))? })
    }
}

impl Content {
    pub(super) fn stat(&self) -> Result<Stat, Failed> {
        fs::fstat(&self.fd).map(Stat::of).map_err(failed("fstat"))
    }

    /// Where the next data begins, from there on. All is data where a file
    /// system knows of no holes.
    pub(super) fn data_from(&self, at: u64) -> Result<Option<u64>, Failed> {
        match fs::seek(&self.fd, SeekFrom::Data(at)) {
            Ok(start) => Ok(Some(start)),
            Err(Os::NXIO) => Ok(None),
            Err(Os::INVAL | Os::OPNOTSUPP) => Ok(Some(at)),
            Err(errno) => Err(failed("seek data")(errno)),
        }
    }

    /// Where the next hole begins, from there on; `None` if none does.
    pub(super) fn hole_from(&self, at: u64) -> Result<Option<u64>, Failed> {
        match fs::seek(&self.fd, SeekFrom::Hole(at)) {
            Ok(start) => Ok(Some(start)),
            Err(Os::NXIO | Os::INVAL | Os::OPNOTSUPP) => Ok(None),
            Err(errno) => Err(failed("seek hole")(errno)),
        }
    }

    /// Reads into `room`, and gives how many bytes; 0 at the end of the file.
    pub(super) fn read_at(
        &self,
        room: &mut [u8],
        offset: u64,
    ) -> Result<usize, Failed> {
        loop {
            match io::pread(&self.fd, &mut *room, offset) {
                Err(Os::INTR) => {}
                read => return read.map_err(failed("read")),
            }
        }
    }
}

impl Stat {
    #[allow(
        clippy::useless_conversion,
        clippy::unnecessary_cast,
        reason = "the types differ between architectures"
    )]
    fn of(stat: fs::Stat) -> Self {
        let time = |seconds, nanoseconds| Mtime {
            seconds,
            nanoseconds: u32::try_from(nanoseconds).unwrap_or_default(),
        };
        Self {
            kind: FileType::from_raw_mode(stat.st_mode),
            mode: (stat.st_mode & 0o7777) as u16,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: u64::try_from(stat.st_size).unwrap_or_default(),
            on_disk: u64::try_from(stat.st_blocks)
                .unwrap_or_default()
                .saturating_mul(512),
            links: u64::from(stat.st_nlink),
            id: (stat.st_dev as u64, stat.st_ino as u64),
            mtime: time(stat.st_mtime as i64, stat.st_mtime_nsec as i64),
            ctime: time(stat.st_ctime as i64, stat.st_ctime_nsec as i64),
        }
    }
}

fn failed(call: &'static str) -> impl Fn(Os) -> Failed {
    move |errno| Failed { call, errno: errno.raw_os_error() }
}
