//! What was written.
//!
//! Lives here: the facts of a finished archive. May not live here: how they
//! are said.

use crate::format::manifest::BackupId;

/// What was written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// The files, in the order of the archive; the manifest is the last.
    pub files: Vec<WrittenFile>,
    /// Bytes of the archive.
    pub archive_bytes: u64,
    /// What the manifest names the backup, if there is one.
    pub id: Option<BackupId>,
    /// What was left out, each as a sentence.
    pub omissions: Vec<String>,
}

/// One file of the backup.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WrittenFile {
    /// Its name in the archive.
    pub name: Vec<u8>,
    /// Chunks of it.
    pub chunks: u32,
    /// Bytes of them.
    pub stored_bytes: u64,
    /// Bytes of data that were read, holes not counted.
    pub real_bytes: u64,
    /// How long it took, in seconds.
    pub seconds: f64,
}
