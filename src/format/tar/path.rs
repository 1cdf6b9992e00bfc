//! A path of a member, cut in the components that may be walked one by one.
//!
//! Lives here: which paths cannot be meant well. May not live here: what
//! exists, and whether a component is a link.

use crate::format::escape::Escaped;

/// Why a path was refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// Begins with `/`.
    #[error("path \"{}\" is absolute, expected a relative one", Escaped(path))]
    Absolute {
        /// The path.
        path: Vec<u8>,
    },
    /// Has a component `..`.
    #[error("path \"{}\" has a component \"..\", expected none", Escaped(path))]
    Parent {
        /// The path.
        path: Vec<u8>,
    },
    /// Has two slashes in a row.
    #[error("path \"{}\" has an empty component, expected none", Escaped(path))]
    EmptyComponent {
        /// The path.
        path: Vec<u8>,
    },
    /// Is empty, or consists of `.` alone.
    #[error("path \"{}\" names nothing, expected a name", Escaped(path))]
    Nameless {
        /// The path.
        path: Vec<u8>,
    },
    /// Holds a NUL byte.
    #[error("path \"{}\" holds a NUL byte, expected none", Escaped(path))]
    Nul {
        /// The path.
        path: Vec<u8>,
    },
}

/// The components of a relative path that stays below where it starts.
///
/// One trailing `/` is dropped (directories have it), components `.` are
/// dropped wherever they stand (a template's members are `vm9/./root.img`).
/// There is at least one component left, none is empty, `.` or `..`. Links
/// are not known here: each step has to refuse them.
///
/// Source: FORMAT, "Streams" and "Extraction".
///
/// ```
/// use qubes_fsm::format::tar::safe_components;
/// let found = safe_components(b"vm9/./root.img")?;
/// assert_eq!(found, [b"vm9".as_slice(), b"root.img"]);
/// assert_eq!(safe_components(b"./a/")?, [b"a"]);
/// assert!(safe_components(b"a/../b").is_err());
/// # Ok::<(), qubes_fsm::format::tar::PathError>(())
/// ```
///
/// # Errors
/// One variant for each thing that is refused.
pub fn safe_components(untrusted_path: &[u8]) -> Result<Vec<&[u8]>, PathError> {
    let path = || untrusted_path.to_vec();
    if untrusted_path.contains(&0) {
        return Err(PathError::Nul { path: path() });
    }
    if untrusted_path.starts_with(b"/") {
        return Err(PathError::Absolute { path: path() });
    }
    let trimmed = untrusted_path.strip_suffix(b"/").unwrap_or(untrusted_path);
    let mut components = Vec::new();
    if !trimmed.is_empty() {
        for component in trimmed.split(|byte| *byte == b'/') {
            match component {
                b"" => return Err(PathError::EmptyComponent { path: path() }),
                b".." => return Err(PathError::Parent { path: path() }),
                b"." => {}
                name => components.push(name),
            }
        }
    }
    if components.is_empty() {
        return Err(PathError::Nameless { path: path() });
    }
    Ok(components)
}
