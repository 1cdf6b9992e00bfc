//! Everything below a directory that a restore must give back, to compare two
//! trees by: kinds, contents, holes, modes, times, links.
//!
//! Directories are opened one below the other, so that paths may be as long
//! as an archive allows, not only as long as one call takes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{SeekFrom, seek};
use sha2::{Digest as _, Sha256};

/// What is known of one name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Facts {
    pub(crate) what: What,
    pub(crate) mode: u32,
    /// Seconds and nanoseconds.
    pub(crate) time: (i64, i64),
    /// All names of the same file, this one included.
    pub(crate) names: BTreeSet<Vec<u8>>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum What {
    File {
        size: u64,
        /// Where there is data, and how much; between them are holes.
        extents: Vec<(u64, u64)>,
        /// Of the data.
        digest: String,
    },
    Directory,
    Symlink(Vec<u8>),
}

pub(crate) type Tree = BTreeMap<Vec<u8>, Facts>;

/// Every name below `root`, the path of each without it.
pub(crate) fn tree(root: &Path) -> Tree {
    let mut found = Tree::new();
    let mut inodes: BTreeMap<u64, BTreeSet<Vec<u8>>> = BTreeMap::new();
    let mut numbers = BTreeMap::new();
    walk(&File::open(root).unwrap(), b"", &mut |path, inode, facts| {
        if facts.what != What::Directory {
            inodes.entry(inode).or_default().insert(path.clone());
            numbers.insert(path.clone(), inode);
        }
        found.insert(path, facts);
    });
    for (path, inode) in &numbers {
        found.get_mut(path).unwrap().names = inodes[inode].clone();
    }
    found
}

/// How a name in an open directory is reached, however deep that is.
pub(crate) fn inside(directory: &File, name: &[u8]) -> PathBuf {
    let path =
        PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
    path.join(std::ffi::OsStr::from_bytes(name))
}

fn walk(
    directory: &File,
    above: &[u8],
    see: &mut impl FnMut(Vec<u8>, u64, Facts),
) {
    for entry in fs::read_dir(inside(directory, b".")).unwrap() {
        let name = entry.unwrap().file_name().into_vec();
        let path = inside(directory, &name);
        let meta = fs::symlink_metadata(&path).unwrap();
        let full =
            if above.is_empty() { name } else { [above, &name].join(&b'/') };
        let what = if meta.is_dir() {
            walk(&File::open(&path).unwrap(), &full, see);
            What::Directory
        } else if meta.is_symlink() {
            What::Symlink(
                fs::read_link(&path).unwrap().into_os_string().into_vec(),
            )
        } else {
            assert!(meta.is_file(), "{path:?}");
            file(&File::open(&path).unwrap(), meta.len())
        };
        let mode = meta.mode() & 0o7777;
        let time = (meta.mtime(), meta.mtime_nsec());
        let names = BTreeSet::new();
        see(full, meta.ino(), Facts { what, mode, time, names });
    }
}

fn file(file: &File, size: u64) -> What {
    let (mut extents, mut hasher) = (Vec::new(), Sha256::new());
    let mut at = 0;
    while at < size {
        // There is no more data: the rest is a hole.
        let Ok(start) = seek(file, SeekFrom::Data(at)) else { break };
        let end = seek(file, SeekFrom::Hole(start)).unwrap();
        let mut data = vec![0; usize::try_from(end - start).unwrap()];
        file.read_exact_at(&mut data, start).unwrap();
        hasher.update(&data);
        extents.push((start, end - start));
        at = end;
    }
    let digest = hasher.finalize();
    let digest = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    What::File { size, extents, digest }
}
