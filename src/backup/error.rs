//! Why restored files could not be staged or published.
//!
//! Lives here: every error of the restored tree, with its text. May not live
//! here: exit codes and advice; the command line knows.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::kernel::Failed;
use crate::format::escape::Escaped;

/// Why restored files could not be staged or published. Texts name the
/// subject, what was found and what was wanted.
///
/// A path is that of the archive for what the archive is to blame for, and
/// one with the directory in front for everything else.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// A name that must not be written.
    #[error(
        "{}: found {found}; wanted names of 1 to 255 bytes, none of them \
         \".\" or \"..\"",
        shown(path)
    )]
    BadPath {
        /// The path in the archive.
        path: PathBuf,
        /// What is wrong with it.
        found: &'static str,
    },
    /// A symbolic link that cannot be made.
    #[error(
        "{}: found a link target {found}; wanted 1 to 4,095 bytes, none of \
         them NUL",
        shown(path)
    )]
    BadTarget {
        /// The path in the archive.
        path: PathBuf,
        /// What is wrong with its target.
        found: &'static str,
    },
    /// A time that does not exist.
    #[error(
        "{}: found {nanoseconds} nanoseconds; wanted at most 999999999",
        shown(path)
    )]
    BadTime {
        /// The path in the archive.
        path: PathBuf,
        /// What was found.
        nanoseconds: u32,
    },
    /// One path, two members.
    #[error("{}: found a second member; wanted each path once", shown(path))]
    Twice {
        /// The path in the archive.
        path: PathBuf,
    },
    /// A member below something that is no directory.
    #[error(
        "{}: found {found} at {}; wanted a directory",
        shown(path),
        shown(above)
    )]
    NoDirectory {
        /// The path in the archive.
        path: PathBuf,
        /// The part of it that is no directory.
        above: PathBuf,
        /// What is there.
        found: &'static str,
    },
    /// A hard link to something that is not there, or is no file.
    #[error(
        "{}: hard link to {}: found {found}; wanted a file of the same \
         archive",
        shown(path),
        shown(to)
    )]
    LinkTarget {
        /// The path in the archive.
        path: PathBuf,
        /// What it should be another name of.
        to: PathBuf,
        /// What is there.
        found: &'static str,
    },
    /// Bytes behind the end that was announced.
    #[error(
        "{}: found bytes up to {end}; wanted at most {size} bytes",
        shown(path)
    )]
    PastEnd {
        /// The path in the archive.
        path: PathBuf,
        /// Where the bytes would end.
        end: u64,
        /// The announced size.
        size: u64,
    },
    /// More than is kept in memory, or than a path may have.
    #[error("{}: found {found} {what}; wanted at most {max}", shown(path))]
    Limit {
        /// The path in the archive.
        path: PathBuf,
        /// What was counted.
        what: &'static str,
        /// How much there is.
        found: u64,
        /// The limit.
        max: u64,
    },
    /// Nothing was staged.
    #[error("{}: found no member; wanted at least one", shown(path))]
    NoMember {
        /// The path that should have been staged.
        path: PathBuf,
    },
    /// A member that is not of the file that was announced.
    #[error(
        "{}: found a member outside; wanted only {} and what is below it, \
         nothing of it was published",
        shown(path),
        shown(top)
    )]
    MemberOutside {
        /// The path in the archive.
        path: PathBuf,
        /// Where all members must be.
        top: PathBuf,
    },
    /// Files were begun, and not closed without an error.
    #[error(
        "{}: files begun and not closed: {files}; wanted 0, nothing of it was \
         published",
        shown(path)
    )]
    Unfinished {
        /// The staging directory.
        path: PathBuf,
        /// How many.
        files: u64,
    },
    /// Something is there already, and may not be replaced.
    #[error(
        "{}: found an existing file; wanted none, nothing was replaced",
        shown(path)
    )]
    Exists {
        /// The final path.
        path: PathBuf,
    },
    /// Something else than what the archive has, or needs.
    #[error("{}: found {found}; wanted {wanted}", shown(path))]
    InTheWay {
        /// What is in the way.
        path: PathBuf,
        /// What it is.
        found: &'static str,
        /// What could be there.
        wanted: &'static str,
    },
    /// A directory tree was merged, but only in part.
    #[error(
        "{}: merged in part, files and directories in place: {moved}, each of \
         them whole; wanted all of them",
        shown(path)
    )]
    Partly {
        /// The final path of the tree.
        path: PathBuf,
        /// What has been moved.
        moved: u64,
        /// Why not the rest.
        #[source]
        cause: Box<Self>,
    },
    /// All contents are in place, but something after that failed.
    #[error(
        "{}: in place, but perhaps not durable or not with all modes and \
         times; wanted both",
        shown(path)
    )]
    Unsettled {
        /// The final path.
        path: PathBuf,
        /// What failed.
        #[source]
        cause: Box<Self>,
    },
    /// Staged files could not be removed.
    #[error("{}: left behind; wanted it removed", shown(path))]
    Left {
        /// What is left.
        path: PathBuf,
        /// Why.
        #[source]
        cause: Box<Self>,
    },
    /// The disk, a quota or a file size limit is used up.
    #[error("{}: {call}: {text}; wanted room for the file", shown(path))]
    NoSpace {
        /// The file.
        path: PathBuf,
        /// The call that found out.
        call: &'static str,
        /// The kernel's words.
        text: String,
    },
    /// The directory to restore into, or what is above it, is not there.
    #[error("{}: {call}: {text}", shown(path))]
    NotFound {
        /// The directory.
        path: PathBuf,
        /// The call.
        call: &'static str,
        /// The kernel's words.
        text: String,
    },
    /// Any other call that failed.
    #[error("{}: {call}: {text}", shown(path))]
    Call {
        /// The file or directory.
        path: PathBuf,
        /// The call.
        call: &'static str,
        /// The kernel's words.
        text: String,
    },
}

impl TreeError {
    /// The error for a failed call on `path` below `directory`.
    pub(super) fn of(directory: &Path, path: &Path, failed: Failed) -> Self {
        let Failed { call, errno, in_the_way } = &failed;
        if let Some((part, kind)) = in_the_way {
            let part = std::ffi::OsStr::from_bytes(part);
            return Self::InTheWay {
                path: directory.join(part),
                found: kind_name(*kind),
                wanted: "a directory",
            };
        }
        let path = match path.as_os_str().is_empty() {
            true => directory.to_owned(),
            false => directory.join(path),
        };
        let text = std::io::Error::from_raw_os_error(*errno).to_string();
        if failed.is_no_space() {
            return Self::NoSpace { path, call, text };
        }
        Self::Call { path, call, text }
    }
}

pub(super) fn kind_name(kind: FileType) -> &'static str {
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

fn shown(path: &Path) -> String {
    Escaped(path.as_os_str().as_bytes()).to_string()
}
