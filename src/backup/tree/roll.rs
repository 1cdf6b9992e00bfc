//! Which members of an inner archive may stand beside one another: all that
//! its bytes alone decide, so that who only looks says what who restores says.
//!
//! Lives here: names, paths that come twice, what hard links need, limits. May
//! not live here: files, and what only a file system knows.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::BuildHasher as _;

use super::path::RelPath;
use super::{
    MEMBERS_MAX, REMEMBERED_BYTES_MAX, STAGE_PREFIX, TARGET_BYTES_MAX, Time,
    TreeError,
};

/// Every path that was given so far, and every directory above one.
///
/// A path is kept as a hash with a key of its own, so that no archive can be
/// made in which two of them meet by intent; by chance two of 14 million do
/// once in 10 million million such archives. The table has up to 2^24 places
/// of 13 bytes: 218 MB, and half as much again while it grows to that.
#[derive(Debug, Default)]
pub(in crate::backup) struct Roll {
    names: HashMap<Name, What>,
    keys: [RandomState; 2],
    /// Hard links to what was not there yet, and that.
    waiting: Vec<(RelPath, RelPath)>,
    members: u64,
    /// Bytes of directories and links, which who restores remembers.
    remembered: u64,
}

/// What has a name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum What {
    File,
    Directory,
    Symlink,
    HardLink,
}

/// A path, hashed.
type Name = [u8; 11];
const _: () = assert!(size_of::<(Name, What)>() == 12);

/// What remembering one more costs besides its bytes.
const REMEMBERED_EACH: u64 = 96;
const NANOSECONDS_MAX: u32 = 999_999_999;

impl Roll {
    //= spec/format3.md#what-is-verified-can-be-restored
    /// A directory; a second time for the same path is allowed.
    pub(in crate::backup) fn directory(
        &mut self,
        path: &[impl AsRef<[u8]>],
        time: Time,
    ) -> Result<RelPath, TreeError> {
        let path = RelPath::new(path)?;
        check_time(&path, time)?;
        self.count(&path, path.0.len())?;
        self.enter(&path, What::Directory)?;
        Ok(path)
    }

    /// A regular file.
    pub(in crate::backup) fn file(
        &mut self,
        path: &[impl AsRef<[u8]>],
        time: Time,
    ) -> Result<RelPath, TreeError> {
        let path = RelPath::new(path)?;
        check_time(&path, time)?;
        self.count(&path, 0)?;
        self.enter(&path, What::File)?;
        Ok(path)
    }

    /// A symbolic link; its target may be anything that the kernel takes.
    pub(in crate::backup) fn symlink(
        &mut self,
        path: &[impl AsRef<[u8]>],
        target: &[u8],
        time: Time,
    ) -> Result<RelPath, TreeError> {
        let path = RelPath::new(path)?;
        let found = match target {
            [] => Some("without a byte"),
            target if target.contains(&0) => Some("with a NUL"),
            target if target.len() > TARGET_BYTES_MAX => {
                Some("of more than 4,095 bytes")
            }
            _ => None,
        };
        if let Some(found) = found {
            return Err(TreeError::BadTarget { path: (&path).into(), found });
        }
        check_time(&path, time)?;
        self.count(&path, path.0.len() + target.len())?;
        self.enter(&path, What::Symlink)?;
        Ok(path)
    }

    /// One more name of a file or link that was given before, or of a file
    /// that comes later; its path, and the other. [`Roll::complete`] judges
    /// those that wait.
    pub(in crate::backup) fn hard_link(
        &mut self,
        path: &[impl AsRef<[u8]>],
        to: &[impl AsRef<[u8]>],
    ) -> Result<(RelPath, RelPath), TreeError> {
        let path = RelPath::new(path)?;
        let to = RelPath::new(to)?;
        self.count(&path, path.0.len() + to.0.len())?;
        match self.what(&to) {
            Some(What::File | What::Symlink | What::HardLink) => {}
            Some(What::Directory) => {
                return Err(link_target(&path, &to, What::Directory.word()));
            }
            None => self.waiting.push((path.clone(), to.clone())),
        }
        self.enter(&path, What::HardLink)?;
        Ok((path, to))
    }

    /// Nothing more comes. Links are made last and in their order, so that a
    /// hard link to one that came later has nothing to lead to.
    pub(in crate::backup) fn complete(&mut self) -> Result<(), TreeError> {
        for (path, to) in &self.waiting {
            match self.what(to) {
                Some(What::File) => {}
                Some(What::Directory) => {
                    return Err(link_target(path, to, What::Directory.word()));
                }
                Some(What::Symlink | What::HardLink) | None => {
                    return Err(link_target(path, to, "nothing"));
                }
            }
        }
        self.waiting = Vec::new();
        Ok(())
    }

    /// The memory is needed elsewhere.
    pub(in crate::backup) fn close(&mut self) {
        self.names = HashMap::default();
    }

    fn what(&self, path: &RelPath) -> Option<What> {
        let (_, name) = Steps::new(&self.keys, &path.0).last()?;
        self.names.get(&name).copied()
    }

    /// Gives a path, and those above it, their names.
    fn enter(&mut self, path: &RelPath, what: What) -> Result<(), TreeError> {
        for (end, name) in Steps::new(&self.keys, &path.0) {
            let is_last = end == path.0.len();
            let wanted = if is_last { what } else { What::Directory };
            let found = self.names.len() as u64;
            match self.names.entry(name) {
                Entry::Vacant(_) if found >= MEMBERS_MAX => {
                    let (path, max) = (path.into(), MEMBERS_MAX);
                    let what = "members and directories above them";
                    let found = found.saturating_add(1);
                    return Err(TreeError::Limit { path, what, found, max });
                }
                Entry::Vacant(free) => {
                    free.insert(wanted);
                }
                Entry::Occupied(there) => match (*there.get(), wanted) {
                    (What::Directory, What::Directory) => {}
                    _ if is_last => {
                        return Err(TreeError::Twice { path: path.into() });
                    }
                    (found, _) => {
                        let above = path.0.get(..end).unwrap_or_default();
                        let above = RelPath(above.to_owned());
                        return Err(TreeError::NoDirectory {
                            path: path.into(),
                            above: (&above).into(),
                            found: found.word(),
                        });
                    }
                },
            }
        }
        Ok(())
    }

    /// Counts a member, and what of it is remembered.
    fn count(
        &mut self,
        path: &RelPath,
        remembered: usize,
    ) -> Result<(), TreeError> {
        self.members += 1;
        if remembered > 0 {
            self.remembered += remembered as u64 + REMEMBERED_EACH;
        }
        let limits = [
            ("members", self.members, MEMBERS_MAX),
            (
                "bytes of directories and links",
                self.remembered,
                REMEMBERED_BYTES_MAX,
            ),
        ];
        for (what, found, max) in limits {
            if found > max {
                let path = path.into();
                return Err(TreeError::Limit { path, what, found, max });
            }
        }
        Ok(())
    }
}

impl What {
    fn word(self) -> &'static str {
        match self {
            // Which a hard link is of is not kept; most are of files.
            Self::File | Self::HardLink => "a regular file",
            Self::Directory => "a directory",
            Self::Symlink => "a symbolic link",
        }
    }
}

/// A path from its first component to its last: where each ends, and the name
/// of what is there. Each byte is hashed once.
struct Steps<'p, H> {
    path: &'p [u8],
    at: usize,
    hashers: [H; 2],
}

impl<'p> Steps<'p, std::hash::DefaultHasher> {
    fn new(keys: &[RandomState; 2], path: &'p [u8]) -> Self {
        let hashers = keys.each_ref().map(RandomState::build_hasher);
        Self { path, at: 0, hashers }
    }
}

impl<H: std::hash::Hasher> Iterator for Steps<'_, H> {
    type Item = (usize, Name);

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.path.get(self.at..).filter(|rest| !rest.is_empty())?;
        // Behind the first component it begins with a slash.
        let slash = rest.iter().skip(1).position(|&b| b == b'/');
        let end = slash.map_or(rest.len(), |slash| slash + 1);
        let step = rest.get(..end).unwrap_or_default();
        self.hashers.iter_mut().for_each(|hasher| hasher.write(step));
        self.at += end;
        let [a, b] = self.hashers.each_ref().map(H::finish);
        let [a0, a1, a2, a3, a4, a5, a6, a7] = a.to_le_bytes();
        let [b0, b1, b2, ..] = b.to_le_bytes();
        let name = [a0, a1, a2, a3, a4, a5, a6, a7, b0, b1, b2];
        Some((self.at, name))
    }
}

fn link_target(path: &RelPath, to: &RelPath, found: &'static str) -> TreeError {
    TreeError::LinkTarget { path: path.into(), to: to.into(), found }
}

/// Refuses a path that no member of a backup, nor what it is in, can have.
pub(in crate::backup) fn check_path(
    path: &[impl AsRef<[u8]>],
) -> Result<(), TreeError> {
    let checked = RelPath::new(path)?;
    // The next restore would take it for what a dead one left.
    if checked.0.starts_with(STAGE_PREFIX.as_bytes()) {
        let found = "the name of an unfinished restore";
        return Err(TreeError::BadPath { path: (&checked).into(), found });
    }
    Ok(())
}

fn check_time(path: &RelPath, time: Time) -> Result<(), TreeError> {
    let nanoseconds = time.nanoseconds;
    if nanoseconds > NANOSECONDS_MAX {
        return Err(TreeError::BadTime { path: path.into(), nanoseconds });
    }
    Ok(())
}
