//! Why a qfile stream was refused, and where.
//!
//! Lives here: the texts. May not live here: the decision.

use core::fmt;

use crate::format::escape::Escaped;

/// Where in a stream something was found.
///
/// ```
/// use qubes_fsm::format::qfile::Place;
/// let place = Place { offset: 32, entry: Some(b"vm1/\x1b".as_slice().into()) };
/// assert_eq!(place.to_string(), r#"qfile byte 32, entry "vm1/\u{1b}""#);
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Place {
    /// Bytes of the stream before it.
    pub offset: u64,
    /// The name of the entry, if it is known there. Shown escaped.
    pub entry: Option<Box<[u8]>>,
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "qfile byte {}", self.offset)?;
        match &self.entry {
            Some(name) => write!(out, ", entry \"{}\"", Escaped(name)),
            None => Ok(()),
        }
    }
}

/// Why a stream was refused. People search for these texts.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum QfileError {
    /// The stream is over before the sender said so.
    #[error(
        "{at}: the stream ends {inside}, at least {missing} more bytes \
         expected"
    )]
    Truncated {
        /// The end of the stream.
        at: Place,
        /// What is incomplete.
        inside: &'static str,
        /// How many bytes would complete just that.
        missing: u64,
    },
    /// More than the receiver allows.
    #[error("{at}: {what} {found}, at most {limit} allowed")]
    Limit {
        /// The header that asks for it.
        at: Place,
        /// What is limited, with its unit.
        what: &'static str,
        /// How much there would be.
        found: u64,
        /// The limit.
        limit: u64,
    },
    /// A name, or the target of a link, that is too long.
    #[error("{at}: {what} of {found} bytes, at most {limit} allowed")]
    TooLong {
        /// The header.
        at: Place,
        /// Which of them.
        what: &'static str,
        /// Its length, a NUL included.
        found: u64,
        /// The limit.
        limit: u64,
    },
    /// A name that leads elsewhere, or nowhere.
    #[error(
        "{at}: {found}; wanted components that are neither empty, \".\" nor \
         \"..\""
    )]
    Name {
        /// Where the name begins.
        at: Place,
        /// What is wrong with it.
        found: &'static str,
    },
    /// A name that does not end with a NUL.
    #[error("{at}: the name ends with byte {found:#04x}, expected NUL")]
    NoNul {
        /// Where the name begins.
        at: Place,
        /// Its last byte.
        found: u8,
    },
    /// A kind of file that nobody sends, or bits that no mode has.
    #[error("{at}: mode {found:#o}, expected {expected}")]
    Mode {
        /// The header.
        at: Place,
        /// The mode.
        found: u32,
        /// What may come.
        expected: &'static str,
    },
    /// A time that does not exist.
    #[error("{at}: {found} nanoseconds of the {what} time, at most 999999999")]
    Nanoseconds {
        /// The header.
        at: Place,
        /// Which of the two times.
        what: &'static str,
        /// What was found.
        found: u32,
    },
    /// Data where there can be none.
    #[error("{at}: a directory with {found} bytes of data, expected 0")]
    DirectorySize {
        /// The header.
        at: Place,
        /// The length.
        found: u64,
    },
    /// Something behind the end.
    #[error("{at}: byte {found:#04x} behind the end, expected nothing")]
    AfterEnd {
        /// The byte.
        at: Place,
        /// Its value.
        found: u8,
    },
    /// The encoder was given something at the wrong time.
    #[error("{at}: given {found}, expected {expected}")]
    Order {
        /// Where it would have been written.
        at: Place,
        /// What it was given.
        found: &'static str,
        /// What it could take there.
        expected: &'static str,
    },
}
