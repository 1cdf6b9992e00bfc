//! Checked paths below a directory.
//!
//! Lives here: which names are allowed. May not live here: what is there.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::{NAME_BYTES_MAX, PATH_BYTES_MAX, TreeError};

/// A checked path below a directory, with `/` between its components.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(in crate::backup) struct RelPath(pub(super) Vec<u8>);

impl RelPath {
    pub(super) fn new(
        components: &[impl AsRef<[u8]>],
    ) -> Result<Self, TreeError> {
        let names = components.iter().map(AsRef::as_ref);
        let joined = names.clone().collect::<Vec<_>>().join(&b'/');
        let found = match components {
            [] => Some("no name"),
            _ => names.clone().find_map(fault),
        };
        let path = PathBuf::from(OsStr::from_bytes(&joined));
        if let Some(found) = found {
            return Err(TreeError::BadPath { path, found });
        }
        let found = joined.len() as u64;
        if found > PATH_BYTES_MAX {
            let (what, max) = ("bytes of path", PATH_BYTES_MAX);
            return Err(TreeError::Limit { path, what, found, max });
        }
        Ok(Self(joined))
    }

    pub(super) fn join(&self, name: &[u8]) -> Self {
        let slash: &[u8] = if self.0.is_empty() { b"" } else { b"/" };
        Self([&self.0, slash, name].concat())
    }

    /// The directories above, the highest first.
    pub(super) fn parents(&self) -> impl DoubleEndedIterator<Item = Self> {
        let bytes = self.0.iter().enumerate();
        let slashes = bytes.filter(|(_, byte)| **byte == b'/');
        slashes.map(|(at, _)| {
            Self(self.0.get(..at).unwrap_or_default().to_owned())
        })
    }

    /// Whether it is `top` or below.
    pub(super) fn is_below(&self, top: &Self) -> bool {
        let rest = self.0.strip_prefix(top.0.as_slice());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    }

    /// How many components both begin with.
    pub(super) fn common(&self, other: &Self) -> usize {
        let ours = self.0.split(|&b| b == b'/');
        let theirs = other.0.split(|&b| b == b'/');
        ours.zip(theirs).take_while(|(a, b)| a == b).count()
    }

    pub(super) fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }
}

impl From<&RelPath> for PathBuf {
    fn from(path: &RelPath) -> Self {
        path.as_path().to_owned()
    }
}

/// Why a component must not be used.
fn fault(name: &[u8]) -> Option<&'static str> {
    match name {
        [] => Some("an empty name"),
        b"." => Some("the name \".\""),
        b".." => Some("the name \"..\""),
        name if name.contains(&b'/') => Some("a name with a slash"),
        name if name.contains(&0) => Some("a name with a NUL"),
        name if name.len() > NAME_BYTES_MAX => {
            Some("a name of more than 255 bytes")
        }
        _ => None,
    }
}
