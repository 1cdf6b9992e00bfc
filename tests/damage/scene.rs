//! A directory that is restored into: what is there before, what may be
//! there after, and nothing else.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use tempfile::TempDir;

use crate::writer::{FILES, MTIME, STORE, image};

/// What a name leads to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Fact {
    Directory,
    Link(String),
    /// Content, mode, time of the last change (0: of the test itself).
    File(Vec<u8>, u32, i64),
}

pub(crate) type Facts = BTreeMap<String, Fact>;

/// A directory in memory, where there is one: restoring waits for the disk.
pub(crate) fn directory() -> TempDir {
    let memory = Path::new("/dev/shm");
    tempfile::tempdir_in(memory).or_else(|_| tempfile::tempdir()).unwrap()
}

/// Everything that one file of the backup holds.
fn of(name: &str) -> Facts {
    let file = |content: &[u8]| Fact::File(content.to_vec(), 0o644, MTIME);
    let link = |target: &str| Fact::Link(target.to_owned());
    let facts: Vec<(&str, Fact)> = match name {
        "qubes.xml" => vec![(name, file(STORE.as_bytes()))],
        "vm5/private.img" => vec![(name, file(&image(5)))],
        "vm5/firewall.xml" => vec![(name, file(b"<firewall/>"))],
        "vm6/private.img" => vec![(name, file(&image(6)))],
        "vm7/." => vec![
            ("vm7/private.img", file(b"template")),
            ("vm7/root.img", file(&[7; 700])),
            ("vm7/kernel", link("root.img")),
        ],
        "dom0-home/user" => vec![
            ("dom0-home/user/.bashrc", file(b"export A=1\n")),
            ("dom0-home/user/up", link("../../x")),
        ],
        other => panic!("no file {other}"),
    };
    facts.into_iter().map(|(n, fact)| (n.to_owned(), fact)).collect()
}

/// Those files in place, with what was there before.
pub(crate) fn expected(files: &[&str], before: &Facts) -> Facts {
    let mut facts = before.clone();
    for file in files {
        facts.extend(of(file));
    }
    let paths: Vec<String> = facts.keys().cloned().collect();
    for path in paths {
        for above in Path::new(&path).ancestors().skip(1) {
            let above = above.to_str().unwrap().to_owned();
            if !above.is_empty() {
                facts.insert(above, Fact::Directory);
            }
        }
    }
    facts
}

/// All files but these.
pub(crate) fn but(lost: &[&str]) -> Vec<&'static str> {
    FILES.into_iter().filter(|file| !lost.contains(file)).collect()
}

/// Puts files of somebody else there, one of them beside a restored one.
pub(crate) fn occupy(directory: &Path) {
    fs::create_dir(directory.join("vm5")).unwrap();
    fs::write(directory.join("vm5/notes"), "mine").unwrap();
    fs::write(directory.join("keep.txt"), "mine too").unwrap();
}

/// Everything below a directory, hidden and temporary names included.
pub(crate) fn facts(root: &Path) -> Facts {
    let mut found = Facts::new();
    let mut left = vec![root.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let fact = if meta.is_dir() {
                left.push(path.clone());
                Fact::Directory
            } else if meta.is_symlink() {
                let target = fs::read_link(&path).unwrap();
                Fact::Link(target.display().to_string())
            } else {
                assert!(meta.is_file(), "{}", path.display());
                let mode = meta.permissions().mode() & 0o7777;
                Fact::File(fs::read(&path).unwrap(), mode, meta.mtime())
            };
            let name = path.strip_prefix(root).unwrap();
            found.insert(name.display().to_string(), fact);
        }
    }
    found
}

/// How two directories differ, in short.
pub(crate) fn difference(found: &Facts, expected: &Facts) -> Vec<String> {
    let extra = found
        .iter()
        .filter(|(name, _)| !expected.contains_key(*name))
        .map(|(name, _)| format!("not expected: {name}"));
    let other =
        expected.iter().filter_map(|(name, fact)| match found.get(name) {
            None => Some(format!("missing: {name}")),
            Some(found) if found != fact => Some(format!("other: {name}")),
            Some(_) => None,
        });
    extra.chain(other).collect()
}
