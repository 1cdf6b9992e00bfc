//! What GNU tar made of an archive, looked at through the kernel.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, SeekFrom, Stat, chmodat, openat,
    readlinkat, seek, statat,
};

use crate::wanted::{Wanted, What, bytes};

/// Asserts that all of it is there. Paths may be as long as the kernel takes,
/// so all calls begin at the directory.
pub(crate) fn check(directory: &Path, all: &[Wanted]) {
    let top = File::open(directory).unwrap();
    for wanted in all {
        check_one(&top, wanted);
    }
    // Not before: to read a file its mode is changed, and links share one.
    for wanted in all.iter().filter(|w| matches!(w.what, What::File(..))) {
        check_data(&top, wanted);
    }
}

fn stat(top: &File, path: &[u8]) -> Stat {
    statat(top, path, AtFlags::SYMLINK_NOFOLLOW).unwrap()
}

fn check_one(top: &File, wanted: &Wanted) {
    let name = wanted.path.escape_ascii();
    let found = stat(top, &wanted.path);
    let kind = FileType::from_raw_mode(found.st_mode);
    let time = (wanted.mtime.seconds, u64::from(wanted.mtime.nanoseconds));
    assert_eq!((found.st_mtime, found.st_mtime_nsec), time, "{name}");
    if kind != FileType::Symlink {
        assert_eq!(found.st_mode & 0o7777, u32::from(wanted.mode), "{name}");
    }
    match &wanted.what {
        What::File(size, _) => {
            assert_eq!(kind, FileType::RegularFile, "{name}");
            assert_eq!(found.st_size.cast_unsigned(), *size, "{name}");
        }
        What::Directory => assert_eq!(kind, FileType::Directory, "{name}"),
        What::Symlink(target) => {
            assert_eq!(kind, FileType::Symlink, "{name}");
            let found = readlinkat(top, &*wanted.path, vec![]).unwrap();
            assert_eq!(found.as_bytes(), target, "{name}");
        }
        What::HardLink(target) => {
            assert_eq!(stat(top, target).st_ino, found.st_ino, "{name}");
        }
    }
}

/// The bytes, and holes wherever a whole block of the file system is one.
fn check_data(top: &File, wanted: &Wanted) {
    const PAGE: u64 = 4096;
    let name = wanted.path.escape_ascii();
    // For others than root.
    let (path, flags) = (&*wanted.path, OFlags::RDONLY | OFlags::CLOEXEC);
    chmodat(top, path, Mode::from_raw_mode(0o600), AtFlags::empty()).unwrap();
    let file: File = openat(top, path, flags, Mode::empty()).unwrap().into();
    let mut blocks: Vec<(u64, u64)> = Vec::new();
    for segment in wanted.data() {
        let mut found = vec![0; segment.length.try_into().unwrap()];
        file.read_exact_at(&mut found, segment.offset).unwrap();
        assert_eq!(found, bytes(segment), "{name} at {}", segment.offset);
        let start = segment.offset / PAGE * PAGE;
        let end = segment.offset + segment.length;
        let end = end.next_multiple_of(PAGE).min(wanted.size());
        match blocks.last_mut() {
            Some(last) if last.1 >= start => last.1 = end,
            _ => blocks.push((start, end)),
        }
    }
    if wanted.is_sparse() {
        assert_eq!(data_of(file.into(), wanted.size()), blocks, "{name}");
    }
}

/// Where the kernel says data is: begin and end.
fn data_of(file: OwnedFd, size: u64) -> Vec<(u64, u64)> {
    let mut found = Vec::new();
    let mut end = 0;
    while end < size {
        let Ok(start) = seek(file.as_fd(), SeekFrom::Data(end)) else { break };
        end = seek(file.as_fd(), SeekFrom::Hole(start)).unwrap();
        found.push((start, end));
    }
    found
}

/// Lets whoever runs the tests remove what was extracted.
pub(crate) fn unlock(directory: &Path, all: &[Wanted]) {
    let top = File::open(directory).unwrap();
    for wanted in all.iter().filter(|w| w.what == What::Directory) {
        let mode = Mode::from_raw_mode(0o700);
        chmodat(&top, &*wanted.path, mode, AtFlags::empty()).unwrap();
    }
}
