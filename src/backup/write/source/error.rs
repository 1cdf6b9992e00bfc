//! Why what shall be backed up could not be found or read.
//!
//! Lives here: every error of the source, with its text. May not live here:
//! exit codes; the command line knows.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::kernel::{Failed, Stat};
use crate::backup::error::kind_name;
use crate::format::document::DocumentError;
use crate::format::escape::Escaped;
use crate::format::tar::{EncodeError, Mtime};

/// Why what shall be backed up could not be found or read. Texts name the
/// subject, what was found and what was wanted; a path has the directory in
/// front.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The directory, or `qubes.xml` in it.
    #[error("{}: found nothing; wanted {wanted}", shown(path))]
    Missing {
        /// What is not there.
        path: PathBuf,
        /// What it should be.
        wanted: &'static str,
    },
    /// Something else than is needed there.
    #[error("{}: found {found}; wanted {wanted}", shown(path))]
    Kind {
        /// What is in the way.
        path: PathBuf,
        /// What it is.
        found: &'static str,
        /// What could be there.
        wanted: &'static str,
    },
    /// `qubes.xml` itself, or an edit of it.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// A name that is in no document.
    #[error(
        "qube {}: not in qubes.xml, which has {qubes}; wanted the name of one \
         of them", Escaped(name.as_bytes())
    )]
    NoSuchQube {
        /// The name that was asked for.
        name: String,
        /// How many qubes there are.
        qubes: usize,
    },
    /// A qube that was asked for, of which nothing was ever to be kept.
    #[error(
        "qube {}: qubes.xml announces no files of it; wanted one of the \
         {announced} qubes that have some", Escaped(name.as_bytes())
    )]
    NotAnnounced {
        /// The name that was asked for.
        name: String,
        /// How many qubes are announced.
        announced: usize,
    },
    /// A document that must say what is left out, in a form in which that
    /// cannot be said.
    #[error(
        "qube {}: it cannot be left out of a qubes.xml in the form of release \
         4; wanted all qubes, or the form before", Escaped(name.as_bytes())
    )]
    CannotLeaveOut {
        /// The qube.
        name: String,
    },
    /// A store whose qubes are no directories.
    #[error(
        "{}: a store in the form of release 4; wanted the form before, whose \
         qubes are directories",
        shown(path)
    )]
    NotCore2 {
        /// The store.
        path: PathBuf,
    },
    /// A qube whose number cannot be the name of its directory.
    #[error(
        "qube {}: qid \"{}\" in qubes.xml; wanted a number",
        Escaped(name.as_bytes()), Escaped(qid.as_bytes())
    )]
    NoNumber {
        /// The qube.
        name: String,
        /// Its number, empty if it has none.
        qid: String,
    },
    /// A qube that was asked for, of a kind of which nothing is kept.
    #[error(
        "qube {}: its class is {}; wanted one of which files are kept",
        Escaped(name.as_bytes()), Escaped(class.as_bytes())
    )]
    NoFiles {
        /// The qube.
        name: String,
        /// Its class.
        class: String,
    },
    /// A directory that is not below the root.
    #[error(
        "qube {}: its directory is \"{}\"; wanted one below {}, or to leave \
         it out", Escaped(name.as_bytes()), Escaped(path.as_bytes()),
        shown(root)
    )]
    Outside {
        /// The qube.
        name: String,
        /// Its directory.
        path: String,
        /// Where all directories are.
        root: PathBuf,
    },
    /// dom0 was asked for, and it is not known what to keep of it.
    #[error(
        "qube {}: its home is not known; wanted the directory of a user",
        Escaped(name.as_bytes())
    )]
    NoHome {
        /// The name of dom0.
        name: String,
    },
    /// A directory that cannot be one below another.
    #[error(
        "qube {}: directory \"{}\" in qubes.xml; wanted a relative path of \
         names", Escaped(name.as_bytes()), Escaped(path.as_bytes())
    )]
    BadPath {
        /// The qube.
        name: String,
        /// Its directory.
        path: String,
    },
    /// Two qubes that would have the same files.
    #[error(
        "qube {}: its directory \"{}\" is that of qube {} or in it; wanted \
         one for each", Escaped(name.as_bytes()), Escaped(path.as_bytes()),
        Escaped(other.as_bytes())
    )]
    Shared {
        /// The qube.
        name: String,
        /// Its directory.
        path: String,
        /// The other qube.
        other: String,
    },
    /// A qube that is announced, and not there.
    #[error(
        "qube {}: found nothing of it at {}; wanted its files, or to leave \
         it out", Escaped(name.as_bytes()), shown(path)
    )]
    NothingThere {
        /// The qube.
        name: String,
        /// Its directory.
        path: PathBuf,
    },
    /// A file that changed while it was read, or since it was looked at.
    #[error(
        "{}: changed meanwhile: found {found}; wanted {wanted}",
        shown(path)
    )]
    Changed {
        /// The file.
        path: PathBuf,
        /// What it is now.
        found: String,
        /// What it was before.
        wanted: String,
    },
    /// More than is kept in memory, or than readers take.
    #[error(
        "{}: found more than {max} {what}; wanted at most so many",
        shown(path)
    )]
    Limit {
        /// The file or directory.
        path: PathBuf,
        /// What was counted.
        what: &'static str,
        /// The limit.
        max: u64,
    },
    /// What no inner archive can hold.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The end was asked for before all was read.
    #[error("{}: not read to its end; wanted all of it", shown(path))]
    Unfinished {
        /// The file.
        path: PathBuf,
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

impl SourceError {
    /// The error for a failed call on a path.
    pub(super) fn call(path: PathBuf, failed: Failed) -> Self {
        let Failed { call, errno } = failed;
        let text = std::io::Error::from_raw_os_error(errno).to_string();
        Self::Call { path, call, text }
    }

    /// The same, for what was there before.
    pub(super) fn gone(path: PathBuf, failed: Failed, before: &Stat) -> Self {
        if !failed.is_missing() {
            return Self::call(path, failed);
        }
        let wanted = kind_name(before.kind).to_owned();
        Self::Changed { path, found: "nothing".to_owned(), wanted }
    }
}

/// Fails if a file is not what it was.
pub(super) fn check_same(
    path: impl FnOnce() -> PathBuf,
    now: &Stat,
    before: &Stat,
) -> Result<(), SourceError> {
    let time = |Mtime { seconds, nanoseconds }| {
        format!("{seconds} s and {nanoseconds} ns")
    };
    let (found, wanted) = if now.kind != before.kind {
        (kind_name(now.kind).to_owned(), kind_name(before.kind).to_owned())
    } else if now.id != before.id {
        let (now, before) = (now.id.1, before.id.1);
        (format!("inode {now}"), format!("inode {before}"))
    } else if now.size != before.size {
        let (now, before) = (now.size, before.size);
        (format!("a size of {now} bytes"), format!("{before} bytes"))
    } else if now.mtime != before.mtime {
        let (now, before) = (time(now.mtime), time(before.mtime));
        (format!("modified at {now}"), format!("at {before}"))
    } else if now.ctime != before.ctime {
        let (now, before) = (time(now.ctime), time(before.ctime));
        (format!("changed at {now}"), format!("at {before}"))
    } else {
        return Ok(());
    };
    Err(SourceError::Changed { path: path(), found, wanted })
}

pub(super) fn shown(path: &Path) -> String {
    Escaped(path.as_os_str().as_bytes()).to_string()
}
