//! The system calls of `device`: files below one directory, usually `/dev`.
//!
//! Lives here: links followed to their end, numbers of files. May not live
//! here: what a name means, texts of errors.

use std::fs::{self, FileType};
use std::io::{Error, ErrorKind};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{major, minor};

use crate::format::device::Number;

/// What a name leads to.
pub(super) enum Found {
    /// A block device: the file behind all links, and its numbers.
    Block { file: PathBuf, number: Number },
    /// Something else.
    Other { file: PathBuf, what: &'static str },
    /// A file elsewhere. Nobody who asks for a device of one directory wants
    /// that of another.
    Outside { file: PathBuf },
    /// Nothing.
    Missing,
}

/// The directory itself, behind all links.
pub(super) fn directory(path: &Path) -> Result<PathBuf, Error> {
    let directory = fs::canonicalize(path)?;
    match fs::symlink_metadata(&directory)?.is_dir() {
        true => Ok(directory),
        false => Err(ErrorKind::NotADirectory.into()),
    }
}

/// Looks a name up below a [`directory`].
pub(super) fn look_up(directory: &Path, name: &Path) -> Result<Found, Error> {
    let found = fs::canonicalize(directory.join(name));
    let file = match found {
        Err(error) if is_missing(&error) => return Ok(Found::Missing),
        found => found?,
    };
    if !file.starts_with(directory) {
        return Ok(Found::Outside { file });
    }
    // Not followed: a link that came meanwhile could lead anywhere.
    let stat = fs::symlink_metadata(&file)?;
    if !stat.file_type().is_block_device() {
        return Ok(Found::Other { file, what: kind(stat.file_type()) });
    }
    Ok(Found::Block { file, number: number(stat.rdev()) })
}

/// The files in a [`directory`], not below, with these numbers; in order.
pub(super) fn with_number(
    directory: &Path,
    wanted: Number,
) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if !entry.file_type()?.is_block_device() {
            continue;
        }
        match fs::symlink_metadata(entry.path()) {
            Ok(stat) if number(stat.rdev()) == wanted => {
                files.push(entry.path());
            }
            Ok(_) => {}
            // Devices come and go.
            Err(error) if is_missing(&error) => {}
            Err(error) => return Err(error),
        }
    }
    files.sort();
    Ok(files)
}

fn number(device: u64) -> Number {
    Number { major: major(device), minor: minor(device) }
}

fn is_missing(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

fn kind(file_type: FileType) -> &'static str {
    if file_type.is_char_device() {
        "a character device"
    } else if file_type.is_dir() {
        "a directory"
    } else if file_type.is_file() {
        "a regular file"
    } else if file_type.is_fifo() {
        "a pipe"
    } else if file_type.is_socket() {
        "a socket"
    } else {
        "a symbolic link"
    }
}
