//! The vocabulary: one effect is one system call, one event is its answer.
//!
//! Lives here: names of calls and of what they answer, and which answers a
//! call can have. May not live here: any meaning; that is in the machines.

use core::fmt;

/// A descriptor, as its owner numbers it: the lowest number that is free, as
/// the kernel does. Meaningful only to the driver that gave it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Fd(pub u8);

/// Which file is meant, where a call takes a name.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Name {
    /// The store itself, `qubes.xml`.
    Store,
    /// The separate lock file that only [`lock-file`] uses.
    ///
    /// [`lock-file`]: super::protocol::LOCK_FILE
    LockFile,
    /// The temporary file of this process, whose name is its alone.
    Temp,
}

/// Reading shares, writing excludes: both for `open` and for the lock.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Access {
    /// `O_RDONLY`, `F_RDLCK`.
    Read,
    /// `O_RDWR`, `F_WRLCK`.
    Write,
}

/// What makes a file that file: `st_dev` and `st_ino`.
///
/// The number is given to another file as soon as no name and no descriptor
/// is left (`spec/assumptions.md`, "inode numbers"): compare it only while
/// holding a descriptor.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct FileId {
    /// `st_dev`.
    pub device: u64,
    /// `st_ino`.
    pub inode: u64,
}

/// One call for the driver to make.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Effect {
    /// `open(name, O_CLOEXEC | ...)`.
    Open(Name, Access),
    /// `fcntl(fd, F_OFD_SETLKW)`: waits.
    Lock(Fd, Access),
    /// `fcntl(fd, F_OFD_SETLK, F_WRLCK)`: does not wait.
    TryLock(Fd),
    /// `fstat(fd)`.
    StatFd(Fd),
    /// `stat(name)`.
    StatName(Name),
    /// `read(fd)` from the start to the end; the driver keeps the content.
    Read(Fd),
    /// Lock and `unlink` each temporary file that nobody has locked: what
    /// crashed processes left.
    Sweep,
    /// `open(temp, O_CREAT | O_EXCL | O_CLOEXEC)`, with mode and group of the
    /// file that it will replace.
    Create,
    /// `write(fd)`: all of the new content.
    Write(Fd),
    /// `fsync(fd)`.
    Sync(Fd),
    /// `stat(store)`: is it still the file, size and time that were loaded?
    CompareStat,
    /// `read(fd)`: is its content still the one that was loaded?
    CompareContent(Fd),
    /// `rename(temp, store)`.
    Rename,
    /// `fsync` of the directory.
    SyncDirectory,
    /// `unlink(temp)`.
    Unlink,
    /// `close(fd)`; with it go the locks of that description.
    Close(Fd),
}

/// The answer to the last call: the only way in for news from outside.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Event {
    /// `open` and `Create` gave this descriptor.
    Opened(Fd),
    /// The lock is ours.
    Locked,
    /// `stat` or `fstat`: this file.
    File(FileId),
    /// The content is in the driver's hands.
    Read,
    /// What could be removed of what others left is gone.
    Swept,
    /// All bytes were taken.
    Written,
    /// The content of the file, or the directory, is durable.
    Synced,
    /// What was loaded is what is there.
    Same,
    /// Somebody else changed it meanwhile.
    Changed,
    /// The store's name leads to the temporary file now.
    Renamed,
    /// The temporary name is gone.
    Unlinked,
    /// The descriptor is gone.
    Closed,
    /// The call failed and changed nothing.
    Failed(Errno),
}

/// Why a call failed: the kernel's number, and three of our own below zero.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Errno(pub i32);

impl Errno {
    /// The wait for the lock lasted longer than the caller allows. Ours.
    pub const DEADLINE: Self = Self(-1);
    /// The caller asked to stop waiting. Ours.
    pub const CANCELED: Self = Self(-2);
    /// What was loaded is not what is there any more. Ours.
    pub const CHANGED: Self = Self(-3);
    /// `EINTR`.
    pub const INTERRUPTED: Self = Self(4);
    /// `EACCES`.
    pub const NO_ACCESS: Self = Self(13);
    /// `EDQUOT`.
    pub const QUOTA: Self = Self(122);
    /// `EIO`.
    pub const IO: Self = Self(5);
    /// `EAGAIN`: the lock is held by another.
    pub const AGAIN: Self = Self(11);
    /// `ENOENT`.
    pub const NO_ENTRY: Self = Self(2);
    /// `ENOSPC`.
    pub const NO_SPACE: Self = Self(28);
}

impl Effect {
    /// Every answer this call can have, with `fd` and `file` where an answer
    /// carries a descriptor or a file, and `errno` where it can fail.
    ///
    /// `tests/lock_table.rs` checks that each machine takes exactly these.
    pub fn answers(self, fd: Fd, file: FileId, errno: Errno) -> Vec<Event> {
        let failed = Event::Failed(errno);
        match self {
            Self::Open(..) | Self::Create => vec![Event::Opened(fd), failed],
            Self::Lock(..) | Self::TryLock(_) => vec![Event::Locked, failed],
            Self::StatFd(_) | Self::StatName(_) => {
                vec![Event::File(file), failed]
            }
            Self::Read(_) => vec![Event::Read, failed],
            Self::Sweep => vec![Event::Swept, failed],
            Self::Write(_) => vec![Event::Written, failed],
            Self::Sync(_) | Self::SyncDirectory => {
                vec![Event::Synced, failed]
            }
            Self::CompareStat | Self::CompareContent(_) => {
                vec![Event::Same, Event::Changed, failed]
            }
            Self::Rename => vec![Event::Renamed, failed],
            Self::Unlink => vec![Event::Unlinked, failed],
            Self::Close(_) => vec![Event::Closed, failed],
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Store => "'qubes.xml'",
            Self::LockFile => "'qubes.xml.lock'",
            Self::Temp => "temp-file",
        })
    }
}

/// The call as a trace shows it. Descriptors count from 3, as they do in a
/// process that has its three standard ones.
impl fmt::Display for Effect {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = |fd: &Fd| u16::from(fd.0) + 3;
        match self {
            Self::Open(name, Access::Read) => {
                write!(out, "open({name}, O_RDONLY)")
            }
            Self::Open(name, Access::Write) => {
                write!(out, "open({name}, O_RDWR)")
            }
            Self::Lock(fd, Access::Read) => {
                write!(out, "fcntl({}, SETLKW, F_RDLCK)", n(fd))
            }
            Self::Lock(fd, Access::Write) => {
                write!(out, "fcntl({}, SETLKW, F_WRLCK)", n(fd))
            }
            Self::TryLock(fd) => {
                write!(out, "fcntl({}, SETLK, F_WRLCK)", n(fd))
            }
            Self::StatFd(fd) => write!(out, "fstat({})", n(fd)),
            Self::StatName(name) => write!(out, "stat({name})"),
            Self::Read(fd) => write!(out, "read({})", n(fd)),
            Self::Sweep => write!(out, "unlink(left-over temp-files)"),
            Self::Create => write!(out, "open(temp-file, O_CREAT|O_EXCL)"),
            Self::Write(fd) => write!(out, "write({}, ...)", n(fd)),
            Self::Sync(fd) => write!(out, "fsync({})", n(fd)),
            Self::CompareStat => write!(out, "stat('qubes.xml') as loaded"),
            Self::CompareContent(fd) => {
                write!(out, "read({}) as loaded", n(fd))
            }
            Self::Rename => write!(out, "rename(temp-file, 'qubes.xml')"),
            Self::SyncDirectory => write!(out, "fsync(directory)"),
            Self::Unlink => write!(out, "unlink(temp-file)"),
            Self::Close(fd) => write!(out, "close({})", n(fd)),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Opened(fd) => write!(out, "{}", u16::from(fd.0) + 3),
            Self::Locked => out.write_str("granted"),
            Self::File(file) => write!(out, "inode {}", file.inode),
            Self::Same => out.write_str("same"),
            Self::Changed => out.write_str("changed"),
            Self::Failed(errno) => write!(out, "{errno}"),
            Self::Read
            | Self::Swept
            | Self::Written
            | Self::Synced
            | Self::Renamed
            | Self::Unlinked
            | Self::Closed => out.write_str("0"),
        }
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::DEADLINE => out.write_str("the time to wait is over"),
            Self::CANCELED => out.write_str("canceled"),
            Self::CHANGED => out.write_str("changed by somebody else"),
            Self::INTERRUPTED => out.write_str("EINTR"),
            Self::NO_ACCESS => out.write_str("EACCES"),
            Self::QUOTA => out.write_str("EDQUOT"),
            Self::IO => out.write_str("EIO"),
            Self::AGAIN => out.write_str("EAGAIN"),
            Self::NO_ENTRY => out.write_str("ENOENT"),
            Self::NO_SPACE => out.write_str("ENOSPC"),
            Self(number) => write!(out, "errno {number}"),
        }
    }
}
