//! What reading an archive came to.
//!
//! Lives here: the facts. May not live here: how they are shown.

use crate::format::manifest::BackupId;

/// What reading an archive came to, or how far it came.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What the header says, in the names of the header.
    pub header: HeaderFacts,
    /// Qubes that `qubes.xml` announces, in its order.
    pub qubes: Vec<Qube>,
    /// Every file of the archive, in its order; of a run that failed also
    /// those that it did not come to, behind them.
    pub files: Vec<File>,
    /// What is not there and should be, or is not as it should be; each a
    /// sentence. Not empty: done with omissions.
    pub omissions: Vec<String>,
    /// Bits that were not restored, for safety; no omission.
    pub dropped_bits: Option<DroppedBits>,
    /// What binds the chunks to this backup.
    pub binding: Binding,
    /// Bytes of the archive that were read.
    pub archive_bytes: u64,
}

/// Files and directories in place that had setuid, setgid or sticky, and have
/// none of them now.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DroppedBits {
    /// How many.
    pub count: u64,
    /// The path of the first, as in the archive.
    pub first: Vec<u8>,
}

/// What the header says.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct HeaderFacts {
    /// The digest of the authentication codes.
    pub digest: String,
    /// The cipher, if the files are encrypted.
    pub cipher: Option<String>,
    /// The filter, if they are compressed.
    pub filter: Option<String>,
    /// There was no header: all of this was found by trying.
    pub headerless: bool,
}

/// A qube that `qubes.xml` announces.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Qube {
    /// Its name.
    pub name: String,
    /// Its class.
    pub class: String,
    /// Its directory in the archive.
    pub path: String,
    /// Bytes, as `qubes.xml` says.
    pub bytes: Option<u64>,
}

/// A file of the archive.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct File {
    /// Its name in the archive, without a chunk's number.
    pub name: Vec<u8>,
    /// Chunks that were read.
    pub chunks: u32,
    /// Bytes in the archive.
    pub stored_bytes: u64,
    /// Bytes of the decoded inner archive.
    pub decoded_bytes: u64,
    /// What became of it.
    pub state: FileState,
}

/// What became of a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FileState {
    /// It was begun, and the run ended inside it: nothing of it is in place.
    Begun,
    /// It was decoded to its end, and is whole.
    Verified,
    /// It is whole and in place.
    Restored,
    /// The same, but the run failed, and the manifest that is promised did
    /// not bind it: its chunks may be those of an older backup.
    Unbound,
    /// It was authenticated, and left out: not asked for.
    LeftOut,
    /// The same: `qubes.xml` does not announce it.
    Unknown,
    /// It is whole by itself; the run failed before it was put in place.
    Withheld,
    /// It is damaged, and nothing of it is in place.
    Lost,
    /// It is announced, and the run ended before it came there.
    NotRead,
}

/// What binds the chunks of an archive to each other and to one backup.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Binding {
    /// Nothing so far: no header was accepted that could promise a manifest.
    #[default]
    Unknown,
    /// Nothing: the header promises no manifest. Chunks or files of an older
    /// backup under the same passphrase would not be noticed.
    NotBound,
    /// Nothing so far: a manifest is promised, and was not compared with all
    /// that was read.
    NotCompared,
    /// Nothing: a manifest is promised, and is missing, wrong, or not that of
    /// what was read.
    Refused,
    /// The manifest: every member is the one that was written.
    Bound(BackupId),
    /// The same for so many members of all that it lists; the others were
    /// not read, or are of files that are lost.
    Partly {
        /// The id of the backup.
        id: BackupId,
        /// Members that were read and are the ones that were written.
        read: usize,
        /// Members that the manifest lists.
        of: usize,
    },
}
