//! Why an outside program could not decode.
//!
//! Lives here: every error of the outside filters, with its text. May not
//! live here: exit codes.

use core::fmt;
use std::path::{Path, PathBuf};

use super::kernel::{Ended, Failed};
use crate::format::escape::Escaped;

/// Why an outside program could not decode. Texts name the subject, what was
/// found and what was wanted, and the program's own words last.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ProgramError {
    /// A name that is not on the list of programs.
    #[error(
        "compression filter \"{}\"; wanted one of {}",
        Escaped(name),
        super::ALLOWED.join(", ")
    )]
    NotAllowed {
        /// The name, as the header has it.
        name: Vec<u8>,
    },
    /// A program that nobody asked to run.
    #[error(
        "compression filter \"{name}\": not built in; wanted one that is, or \
         the option --external-filter, which runs the program {name}"
    )]
    NotAsked {
        /// The name.
        name: &'static str,
    },
    /// The program is in none of the directories.
    #[error(
        "compression filter \"{name}\": no such program in {}; wanted it there",
        shown(directories)
    )]
    NotFound {
        /// The name.
        name: &'static str,
        /// Where it was looked for.
        directories: Vec<PathBuf>,
    },
    /// The program did not end well.
    #[error("{program}: {ended}; wanted exit 0; it said: {said}")]
    Status {
        /// Its path, escaped.
        program: String,
        /// How it ended.
        ended: Ended,
        /// The end of its stderr.
        said: Said,
    },
    /// The program ended well and had not read all.
    #[error(
        "{program}: exit 0 before its input was read; wanted nothing but \
         zeros left of it; it said: {said}"
    )]
    Unread {
        /// Its path, escaped.
        program: String,
        /// The end of its stderr.
        said: Said,
    },
    /// Only one of both came to an end: the program, or its output.
    #[error("{program}: {found} for {seconds} seconds; wanted both to end")]
    Lingers {
        /// Its path, escaped.
        program: String,
        /// Which is still there.
        found: &'static str,
        /// How long that was watched.
        seconds: u64,
    },
    /// Somebody canceled.
    #[error("canceled")]
    Canceled,
    /// A call that failed.
    #[error("{program}: {call}: {text}")]
    Call {
        /// Its path, escaped.
        program: String,
        /// The call.
        call: &'static str,
        /// The kernel's words.
        text: String,
    },
}

/// The end of what a program wrote to its stderr, at most [`TAIL_BYTES_MAX`]
/// bytes. Shown are its last lines, escaped.
///
/// [`TAIL_BYTES_MAX`]: super::TAIL_BYTES_MAX
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Said(pub Vec<u8>);

/// The failure of a push: of the program, or of whoever takes what comes out.
#[derive(Debug)]
pub enum PushError<E> {
    /// The program, or the pipes to it.
    Program(ProgramError),
    /// The sink refused decoded bytes.
    Sink(E),
}

impl<E> From<ProgramError> for PushError<E> {
    fn from(error: ProgramError) -> Self {
        Self::Program(error)
    }
}

impl ProgramError {
    pub(super) fn call(program: &Path, failed: Failed) -> Self {
        let Failed { call, errno } = failed;
        let text = std::io::Error::from_raw_os_error(errno).to_string();
        Self::Call { program: one(program), call, text }
    }
}

/// Bytes of a tail that are shown: some lines of a terminal.
const SHOWN_BYTES_MAX: usize = 1000;

impl fmt::Display for Said {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(all) = self;
        let from = all.len().saturating_sub(SHOWN_BYTES_MAX);
        let end = all.get(from..).unwrap_or_default();
        let lines = end.split(|byte| *byte == b'\n');
        let lines = lines.map(<[u8]>::trim_ascii);
        let lines: Vec<String> = lines
            .filter(|line| !line.is_empty())
            .map(|line| Escaped(line).to_string())
            .collect();
        match lines.is_empty() {
            true => out.write_str("nothing"),
            false if from > 0 => write!(out, "...{}", lines.join("; ")),
            false => out.write_str(&lines.join("; ")),
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exit(status) => write!(out, "exit {status}"),
            Self::Signal(signal) => write!(out, "killed by signal {signal}"),
        }
    }
}

pub(super) fn one(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt as _;
    Escaped(path.as_os_str().as_bytes()).to_string()
}

fn shown(paths: &[PathBuf]) -> String {
    let paths: Vec<String> = paths.iter().map(|path| one(path)).collect();
    paths.join(", ")
}
