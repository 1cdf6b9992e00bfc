//! Bytes of unknown origin as text that a terminal can be given.
//!
//! Lives here: what is shown as it is and what is escaped. May not live here:
//! anything that guesses an encoding.

use core::fmt::{self, Write as _};

/// Shows bytes: printable UTF-8 as it is, everything else escaped.
///
/// Control characters, and characters that reorder or hide text, become
/// `\u{..}`; bytes that are not UTF-8 become `\x..`; a backslash stays, so
/// the form is for people and not for reading back.
///
/// ```
/// use qubes_fsm::format::escape::Escaped;
/// assert_eq!(Escaped(b"caf\xe9 \x1b[1m").to_string(), r"caf\xe9 \u{1b}[1m");
/// assert_eq!(Escaped("żółw".as_bytes()).to_string(), "żółw");
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Escaped<'a>(pub &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                if is_shown(character) {
                    out.write_char(character)?;
                } else {
                    write!(out, "{}", character.escape_unicode())?;
                }
            }
            for byte in chunk.invalid() {
                write!(out, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

fn is_shown(character: char) -> bool {
    // Bidirectional controls, zero-width and line separators, and the byte
    // order mark: text that does not look like what it is.
    let hides = matches!(
        character,
        '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{61c}'
    );
    !character.is_control() && !hides
}
