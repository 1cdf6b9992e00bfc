//! Why an archive was refused.
//!
//! Lives here: every error of reading an archive, with its text: subject,
//! what was found, what was wanted. May not live here: exit codes.

use super::decode::DecodeError;
use super::filter::ProgramError;
use super::tree::TreeError;
use crate::format::chunk::ChunkNameError;
use crate::format::cipher::CipherError;
use crate::format::compression::CompressionError;
use crate::format::document::DocumentError;
use crate::format::header::HeaderError;
use crate::format::hmac::MacTextError;
use crate::format::manifest::ManifestError;
use crate::format::qfile::QfileError;
use crate::format::tar::TarError;
use crate::fsm::refused::Refused;

/// Qubes that an error names.
const NAMED: usize = 20;

fn more(count: usize) -> String {
    match count.checked_sub(NAMED) {
        None | Some(0) => String::new(),
        Some(more) => format!(" and {more} more"),
    }
}

/// Why an archive was refused. Names are escaped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// Reading failed.
    #[error("archive: byte {offset}: {cause}")]
    Io {
        /// How far it was read.
        offset: u64,
        /// Why.
        cause: std::io::Error,
    },
    /// The outer archive.
    #[error(transparent)]
    Outer(#[from] TarError),
    /// What another qube sends.
    #[error(transparent)]
    Qfile(#[from] QfileError),
    /// A member's name.
    #[error(transparent)]
    Name(#[from] ChunkNameError),
    /// A member that does not fit into memory.
    #[error("{name}: {found} bytes; wanted at most {limit}")]
    TooLarge {
        /// Its name.
        name: String,
        /// Its size.
        found: u64,
        /// The limit.
        limit: u64,
    },
    /// More files than a backup has.
    #[error("{name}: more than {limit} files; wanted at most so many")]
    TooManyFiles {
        /// The first chunk of the one that is too much.
        name: String,
        /// [`FILES_MAX`](crate::format::limits::FILES_MAX).
        limit: usize,
    },
    /// The archive ends too early.
    #[error("archive: ends after {after}; wanted {wanted}")]
    Truncated {
        /// The last member, or `nothing`.
        after: String,
        /// What should follow.
        wanted: String,
    },
    /// A member stands where no writer puts it.
    #[error("{found}: comes after {after}; wanted {wanted}")]
    Sequence {
        /// Its name.
        found: String,
        /// The member before it, or `nothing`.
        after: String,
        /// What should stand there.
        wanted: String,
    },
    /// No digest fits the first code.
    #[error(
        "{name}: no digest makes its authentication code; wanted the \
         passphrase of this backup"
    )]
    Passphrase {
        /// The first member.
        name: String,
    },
    /// A code does not fit its chunk.
    #[error(
        "{name}: its authentication code does not fit; wanted the chunk \
         that was written (before byte {offset} of the archive)"
    )]
    Mac {
        /// The chunk.
        name: String,
        /// Where it ends, with its code.
        offset: u64,
    },
    /// The text of a code.
    #[error("{name}: {cause}")]
    MacText {
        /// The member.
        name: String,
        /// What is wrong with it.
        cause: MacTextError,
    },
    /// The header.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The header names a cipher that is not known.
    #[error(transparent)]
    Cipher(#[from] CipherError),
    /// The header names a filter that is not known.
    #[error(transparent)]
    Filter(#[from] CompressionError),
    /// The header names a filter that no program is run for.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// What is inside a file.
    #[error("{name}: {cause} (before byte {offset} of the archive)")]
    Inner {
        /// The chunk at hand.
        name: String,
        /// How far the archive was read.
        offset: u64,
        /// What is wrong.
        cause: Box<DecodeError>,
    },
    /// Writing failed.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The archive's `qubes.xml`.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// The manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// `--require-manifest`, and there is none.
    #[error("backup-header: promises no manifest; wanted one")]
    NotBound,
    /// Nothing of these qubes is there.
    #[error("{}{}: nothing in the archive; wanted the files of {}",
        .qubes.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", "),
        more(.qubes.len()), if .qubes.len() == 1 { "it" } else { "them" })]
    Missing {
        /// Their names.
        qubes: Vec<String>,
    },
    /// What was asked for is not there.
    #[error("{name}: not in the archive; wanted a qube or file that is")]
    NotFound {
        /// The name that was asked for.
        name: String,
    },
    /// Somebody canceled.
    #[error("canceled")]
    Canceled,
    /// A bug of this library.
    #[error(transparent)]
    Bug(#[from] Refused),
}
