//! Untrusted bytes inside the text of an error.
//!
//! Lives here: quotes and the length. May not live here: what is escaped
//! (`format::escape`).

use core::fmt;

use super::escape::Escaped;

/// Shows bytes in double quotes, escaped; what comes after 255 bytes, the
/// longest name of a member and of a file, is left out.
pub(super) struct Quoted<'a>(pub(super) &'a [u8]);

/// How much of a text is shown: no name is longer.
const SHOWN_BYTES_MAX: usize = 255;

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.get(..SHOWN_BYTES_MAX) {
            Some(start) if start.len() < self.0.len() => {
                write!(out, "\"{}\"...", Escaped(start))
            }
            Some(_) | None => write!(out, "\"{}\"", Escaped(self.0)),
        }
    }
}
