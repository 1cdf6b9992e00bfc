//! What is backed up: the files of a directory with the layout that a restore
//! makes, or of the qubes of a store; each as an inner archive that can be read
//! from here.
//!
//! Lives here: what a caller sees. May not live here: what belongs to a backup
//! (`dir`, `store`), the order inside of a file (`walk`), bytes (`archiver`),
//! system calls (`kernel`).
//!
//! ```
//! use qubes_fsm::backup::write::source::Contents;
//!
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path();
//! std::fs::write(path.join("qubes.xml"), "<QubesVmCollection>\
//!     <QubesAppVm name=\"work\" backup_content=\"True\" \
//!     backup_path=\"vm5\"/></QubesVmCollection>")?;
//! std::fs::create_dir(path.join("vm5"))?;
//! std::fs::write(path.join("vm5/private.img"), b"data")?;
//!
//! let contents = Contents::from_dir(path, &[], &[])?;
//! let names: Vec<_> = contents.files.iter().map(|f| &*f.name).collect();
//! assert_eq!(names, [&b"qubes.xml"[..], b"vm5/private.img"]);
//! let mut archiver = contents.open(1)?;
//! let mut room = vec![0; 1 << 20];
//! assert_eq!(archiver.fill(&mut room)?, 10_240);
//! assert_eq!(archiver.fill(&mut room)?, 0);
//! assert_eq!(archiver.finish()?.members, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod archiver;
mod dir;
mod error;
mod kernel;
mod map;
mod store;
mod walk;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::FileType;

pub use archiver::{Archiver, Facts};
pub use error::SourceError;
pub use store::dated;

use crate::backup::error::kind_name;
use crate::format::escape::Escaped;
use crate::format::manifest::is_listable;
use crate::format::tar::safe_components;
use kernel::{Folder, Stat};

/// All that will be in a backup.
#[derive(Debug)]
pub struct Contents {
    /// In the order in which they are written: `qubes.xml` first, then qube
    /// by qube, templates behind the others and dom0's home last.
    pub files: Vec<SourceFile>,
    /// What is in the directory and left out, and what should be there and is
    /// not; each a sentence. Not empty: done with omissions.
    pub omissions: Vec<String>,
    place: Arc<Place>,
}

/// One file of the backup: a file, or a tree of directories, files and links.
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// Its name in the archive: `vm5/private.img`, `dom0-home/user`; `vm9/.`
    /// for all of a template.
    pub name: Vec<u8>,
    /// The qube that it belongs to; none for `qubes.xml`.
    pub qube: Option<String>,
    /// Files, directories and links in it.
    pub members: u64,
    /// Bytes of all files in it, holes included.
    pub apparent: u64,
    /// Bytes that it takes on the disk.
    pub on_disk: u64,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    /// `qubes.xml`: the bytes that were judged are the ones that are written.
    Held { bytes: Arc<[u8]>, stat: Stat },
    /// Read when it is its turn.
    OnDisk {
        kind: FileType,
        /// What was left out of it.
        omitted: Arc<[String]>,
    },
}

/// The directory that was opened, and its path for messages.
#[derive(Debug)]
struct Place {
    folder: Folder,
    path: PathBuf,
    /// What is somewhere else than its name in the archive says.
    moved: Vec<Moved>,
}

/// A directory of the archive, and where it is.
#[derive(Debug)]
struct Moved {
    name: Vec<u8>,
    place: Arc<Place>,
    /// The path of it there.
    real: Vec<u8>,
}

/// Sentences about what is left out of one file, the first ones in full.
#[derive(Debug, Default)]
struct Omitted {
    sentences: Vec<String>,
    more: u64,
}

/// The document.
const STORE_NAME: &[u8] = b"qubes.xml";
/// Sentences about one file of the backup: a home may be full of sockets.
const OMITTED_MAX: usize = 1_000;

impl Contents {
    /// Begins to read the file of that number, from 0. Each can be read any
    /// number of times, several at once.
    ///
    /// # Errors
    /// `Unfinished` if there is no such number; `Changed` or `Kind` if the
    /// file cannot be reached any more.
    pub fn open(&self, index: usize) -> Result<Archiver, SourceError> {
        let Some(file) = self.files.get(index) else {
            return Err(SourceError::Unfinished { path: self.place.real(b"") });
        };
        Archiver::new(&self.place, file)
    }

    /// Leaves out the files that no manifest can list, each with a sentence.
    pub fn leave_out_unlisted(&mut self) {
        let files = std::mem::take(&mut self.files).into_iter();
        let (listed, others): (Vec<_>, Vec<_>) =
            files.partition(|file| is_listable(&file.name));
        self.files = listed;
        self.omissions.extend(others.iter().map(|file| {
            format!(
                "{}: left out: a control character in the name, which no \
                 manifest can list",
                Escaped(&file.name)
            )
        }));
    }

    /// The bytes of `qubes.xml` as they will be in the backup.
    #[must_use]
    pub fn document(&self) -> &[u8] {
        let held = self.files.iter().find_map(|file| match &file.what {
            What::Held { bytes, .. } => Some(bytes),
            What::OnDisk { .. } => None,
        });
        held.map_or(&[], |bytes| bytes)
    }

    /// Bytes of all files, holes included.
    #[must_use]
    pub fn apparent(&self) -> u64 {
        let sizes = self.files.iter().map(|file| file.apparent);
        sizes.fold(0, u64::saturating_add)
    }

    /// Bytes that all of it takes on the disk.
    #[must_use]
    pub fn on_disk(&self) -> u64 {
        let sizes = self.files.iter().map(|file| file.on_disk);
        sizes.fold(0, u64::saturating_add)
    }
}

impl Place {
    /// Where a file of the archive is.
    fn real(&self, name: &[u8]) -> PathBuf {
        if let Some((place, name)) = self.moved(name) {
            return place.real(&name);
        }
        let components = safe_components(name).unwrap_or_default();
        let names = components.into_iter().map(OsStr::from_bytes);
        self.path.join(names.collect::<PathBuf>())
    }

    /// The place and the path there of a file that is somewhere else.
    fn moved(&self, name: &[u8]) -> Option<(&Arc<Self>, Vec<u8>)> {
        self.moved.iter().find_map(|moved| {
            let rest = name.strip_prefix(moved.name.as_slice())?;
            let is_in = rest.is_empty() || rest.starts_with(b"/");
            is_in.then(|| (&moved.place, [&moved.real, rest].concat()))
        })
    }
}

impl Omitted {
    /// Notes a member that no inner archive of a backup may have; says whether
    /// it is one.
    fn see(&mut self, name: &[u8], stat: &Stat) -> bool {
        let is_one = match stat.kind {
            FileType::RegularFile | FileType::Directory | FileType::Symlink => {
                return false;
            }
            FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => true,
        };
        // Without the `.` of a template.
        let name = safe_components(name).unwrap_or_default().join(&b'/');
        let (name, kind) = (Escaped(&name), kind_name(stat.kind));
        self.add(format!("{name}: {kind}, left out"));
        is_one
    }

    fn add(&mut self, sentence: String) {
        if self.sentences.len() < OMITTED_MAX {
            self.sentences.push(sentence);
        } else {
            self.more = self.more.saturating_add(1);
        }
    }

    fn finish(mut self, name: &[u8]) -> Vec<String> {
        if self.more > 0 {
            let (name, more) = (Escaped(name), self.more);
            let sentence = format!("{name}: left out, besides these: {more}");
            self.sentences.push(sentence);
        }
        self.sentences
    }
}
