//! Why an archive was not written.
//!
//! Lives here: every error of it, with its text. May not live here: exit
//! codes.

use std::io;

use super::source::SourceError;
use crate::format::chunk::ChunkNameError;
use crate::format::compression;
use crate::format::escape::Escaped;
use crate::format::header::HeaderError;
use crate::format::manifest::ManifestError;
use crate::format::tar;
use crate::fsm::refused::Refused;

/// Why an archive was not written. Texts name the subject, what was found and
/// what was wanted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// What is backed up cannot be read, or changes meanwhile.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The target cannot take it.
    #[error("{path}: {call}: {cause}")]
    Target {
        /// The archive, as it was named, escaped.
        path: String,
        /// What was tried.
        call: &'static str,
        /// The system's own words.
        cause: io::Error,
    },
    /// There is something under the archive's name.
    #[error(
        "{path}: found an existing file; wanted none, nothing was replaced"
    )]
    Exists {
        /// The archive, as it was named, escaped.
        path: String,
    },
    /// The header of a member cannot be written.
    #[error(transparent)]
    Member(#[from] tar::EncodeError),
    /// A name that no member can have.
    #[error(transparent)]
    Name(#[from] ChunkNameError),
    /// Compression failed.
    #[error(transparent)]
    Compression(#[from] compression::EncodeError),
    /// The header cannot be written.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The manifest cannot be written.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// Chunks of a size that no reader should meet.
    #[error("chunk size {found} bytes; wanted {least} to {most} bytes")]
    ChunkSize {
        /// What was asked for.
        found: u64,
        /// The least.
        least: u64,
        /// The most.
        most: u64,
    },
    /// More files than one archive may have.
    #[error("{found} files; wanted {limit} at most")]
    TooManyFiles {
        /// How many there are.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// A file whose members no manifest can list.
    #[error(
        "{}: a control character in the name, which no manifest can list; \
         wanted another name, or no manifest", Escaped(.name)
    )]
    Unlisted {
        /// Its name in the archive.
        name: Vec<u8>,
    },
    /// The system's random source.
    #[error("random bits: {0}")]
    Random(io::Error),
    /// A thread could not be started.
    #[error("thread: {0}")]
    Thread(io::Error),
    /// It failed, and there is more to know of what is on the disk now.
    #[error("{cause}; {note}")]
    Noted {
        /// The first failure.
        cause: Box<Self>,
        /// What is in place, or left, as a sentence.
        note: String,
    },
    /// A bug: a thread has ended and did not say how.
    #[error("thread: ended without a word; wanted its last one")]
    Silent,
    /// A cancel was accepted.
    #[error("canceled")]
    Canceled,
    /// A bug: an answer that its effect cannot have.
    #[error(transparent)]
    Refused(#[from] Refused),
}

impl WriteError {
    /// Whether it ended so because a cancel was accepted.
    #[must_use]
    pub fn is_cancel(&self) -> bool {
        match self {
            Self::Canceled => true,
            Self::Noted { cause, .. } => cause.is_cancel(),
            Self::Source(_)
            | Self::Target { .. }
            | Self::Exists { .. }
            | Self::Unlisted { .. }
            | Self::Member(_)
            | Self::Name(_)
            | Self::Compression(_)
            | Self::Header(_)
            | Self::Manifest(_)
            | Self::ChunkSize { .. }
            | Self::TooManyFiles { .. }
            | Self::Random(_)
            | Self::Thread(_)
            | Self::Silent
            | Self::Refused(_) => false,
        }
    }
}
