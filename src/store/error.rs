//! Why a store could not be locked, read or saved.
//!
//! Lives here: every error of the store, with its text. May not live here:
//! exit codes and advice; the command line knows.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::kernel::{Found, Kernel, NOT_REGULAR, TOO_BIG};
use crate::format::escape::Escaped;
use crate::fsm::Unexpected;
use crate::fsm::call::{Effect, Errno};

/// Why a store could not be locked, read or saved. Texts name the subject,
/// what was found and what was wanted.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// No file has that name.
    #[error("{}: no such file; wanted an existing store", shown(path))]
    NotFound {
        /// The store.
        path: PathBuf,
    },
    /// The name leads to something else than a regular file.
    #[error("{}: found {found}; wanted a regular file", shown(path))]
    NotAFile {
        /// The store.
        path: PathBuf,
        /// What is there.
        found: &'static str,
    },
    /// The file is larger than the limit.
    #[error("{}: {bytes} bytes; wanted at most {bytes_max} bytes", shown(path))]
    TooLarge {
        /// The store.
        path: PathBuf,
        /// How large it is, or would be.
        bytes: u64,
        /// The limit.
        bytes_max: u64,
    },
    /// Another process held the lock until the wait was over.
    #[error(
        "{}: locked by another process until the time to wait was over; \
         wanted the lock",
        shown(path)
    )]
    Locked {
        /// The store.
        path: PathBuf,
    },
    /// The caller asked to stop waiting.
    #[error("{}: canceled while waiting for the lock", shown(path))]
    Canceled {
        /// The store.
        path: PathBuf,
    },
    /// Somebody else changed the store between load and save.
    #[error(
        "{}: changed by somebody else since it was loaded; wanted the file \
         that was loaded, nothing was saved",
        shown(path)
    )]
    Changed {
        /// The store.
        path: PathBuf,
    },
    /// The disk, a quota or a file size limit is used up.
    #[error(
        "{}: {call}: {text}; wanted room for the new file, the store is as \
         it was",
        shown(path)
    )]
    NoSpace {
        /// The store.
        path: PathBuf,
        /// The call that found out.
        call: &'static str,
        /// The kernel's words.
        text: String,
    },
    /// The new file cannot have the group that the old one has.
    #[error(
        "{}: {text}; wanted group {group} for the new file too, the store is \
         as it was",
        shown(path)
    )]
    Group {
        /// The store.
        path: PathBuf,
        /// The group that must be kept.
        group: u32,
        /// The kernel's words.
        text: String,
    },
    /// The new content is in place, but may not survive a power cut.
    #[error(
        "{}: saved, but perhaps not durable; wanted the directory on disk",
        shown(path)
    )]
    NotDurable {
        /// The store.
        path: PathBuf,
        /// What failed.
        #[source]
        cause: Box<Self>,
    },
    /// Any other call that failed.
    #[error("{}: {call}: {text}", shown(path))]
    Call {
        /// The store, or its directory.
        path: PathBuf,
        /// The call.
        call: &'static str,
        /// The kernel's words.
        text: String,
    },
    /// A bug of this library.
    #[error(transparent)]
    Bug(#[from] Unexpected),
}

const ENOTDIR: i32 = 20;
const ENOSPC: i32 = 28;
const ELOOP: i32 = 40;
const EDQUOT: i32 = 122;

impl StoreError {
    /// The error for the first call that failed.
    pub(crate) fn of(kernel: &Kernel, bytes_max: u64) -> Self {
        let path = kernel.path().to_owned();
        let Some(failure) = kernel.take_failure() else {
            let text = "no call failed".to_owned();
            return Self::Call { path, call: "none", text };
        };
        let call = verb(failure.effect);
        match (failure.errno, failure.found) {
            (Errno::DEADLINE, _) => Self::Locked { path },
            (Errno::CANCELED, _) => Self::Canceled { path },
            (Errno::CHANGED, _) => Self::Changed { path },
            (NOT_REGULAR, Found::Kind(kind)) => {
                Self::NotAFile { path, found: kind_name(kind) }
            }
            // What is opened for writing is refused before we can look.
            (NOT_REGULAR, _) => Self::NotAFile { path, found: "a directory" },
            (Errno(ELOOP), _) => {
                Self::NotAFile { path, found: "a symbolic link" }
            }
            (TOO_BIG, Found::Bytes(bytes)) => {
                Self::TooLarge { path, bytes, bytes_max }
            }
            (errno, Found::Group(group)) => {
                Self::Group { path, group, text: text(errno) }
            }
            (errno @ (Errno(ENOSPC | EDQUOT) | TOO_BIG), _) => {
                Self::NoSpace { path, call, text: text(errno) }
            }
            // It may also go while we wait for the lock.
            (Errno::NO_ENTRY, _)
                if matches!(
                    failure.effect,
                    Effect::Open(..) | Effect::StatName(_)
                ) =>
            {
                Self::NotFound { path }
            }
            // It was there when it was loaded.
            (Errno::NO_ENTRY, _) if failure.effect == Effect::Create => {
                Self::Changed { path }
            }
            (errno, _) => Self::Call { path, call, text: text(errno) },
        }
    }

    pub(crate) fn call(path: &Path, call: &'static str, errno: Errno) -> Self {
        let path = path.to_owned();
        match errno {
            Errno::NO_ENTRY | Errno(ENOTDIR) => Self::NotFound { path },
            errno => Self::Call { path, call, text: text(errno) },
        }
    }

    pub(crate) fn from_io(
        path: &Path,
        call: &'static str,
        error: &std::io::Error,
    ) -> Self {
        match error.raw_os_error() {
            Some(number) => Self::call(path, call, Errno(number)),
            None => {
                let text = error.to_string();
                Self::Call { path: path.to_owned(), call, text }
            }
        }
    }
}

fn shown(path: &Path) -> String {
    Escaped(path.as_os_str().as_bytes()).to_string()
}

fn text(Errno(number): Errno) -> String {
    std::io::Error::from_raw_os_error(number).to_string()
}

fn kind_name(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "a regular file",
        FileType::Directory => "a directory",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a named pipe",
        FileType::Socket => "a socket",
        FileType::CharacterDevice => "a character device",
        FileType::BlockDevice => "a block device",
        FileType::Unknown => "a file of unknown kind",
    }
}

fn verb(effect: Effect) -> &'static str {
    match effect {
        Effect::Open(..) => "open",
        Effect::Lock(..) | Effect::TryLock(_) => "lock",
        Effect::StatFd(_) => "fstat",
        Effect::StatName(_) | Effect::CompareStat => "stat",
        Effect::Read(_) | Effect::CompareContent(_) => "read",
        Effect::Sweep => "unlink left-over temporary files",
        Effect::Create => "create temporary file",
        Effect::Write(_) => "write temporary file",
        Effect::Sync(_) => "fsync temporary file",
        Effect::Rename => "rename",
        Effect::SyncDirectory => "fsync directory",
        Effect::Unlink => "unlink temporary file",
        Effect::Close(_) => "close",
    }
}
