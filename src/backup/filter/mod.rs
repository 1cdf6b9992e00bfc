//! Outside programs as decompressors, on explicit request.
//!
//! Lives here: which programs there may be, where they are, and the running
//! one as a push decoder. May not live here: system calls (`kernel`), what is
//! built in (`format::compression`), what the decoded bytes mean.
//!
//! The program gets three pipes, `-d -c`, an empty environment, `/` as its
//! directory and a process group of its own; no shell is involved. Whatever
//! it does, one thread serves all of its pipes, so that nobody waits for
//! nobody, and it is ended and reaped when its [`ExternalFilter`] goes. Out of
//! reach is only what left the group and was not the program itself.

mod error;
mod kernel;
mod running;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use error::{ProgramError, PushError, Said};
pub use kernel::Ended;
use kernel::{Failed, Pipes, Process, Ready};
pub use running::Running;

use crate::format::compression::PIECE_BYTES;
use crate::fsm::cancel::Child;

/// Names that a header may ask for.
///
/// What is built in, so that somebody can have the program instead, and what
/// Debian packages besides that decodes stdin to stdout with `-d -c`, writes
/// no file and asks no question. Not here: `pixz` and `lrzip`, which want
/// files that they can seek in; `compress`, whose format has no checksum.
///
/// The zeros that tar fills up with are refused by `lz4`, `lzma`, `pbzip2`
/// and `zstd`; the decoders that are built in pass over them.
pub const ALLOWED: [&str; 13] = [
    "gzip", "pigz", "bzip2", "pbzip2", "lbzip2", "xz", "lzma", "zstd",
    "zstdmt", "lz4", "lzop", "lzip", "plzip",
];

/// Where programs are, in this order: the system's own, then what its
/// administrator has added. `PATH` is not asked.
pub const DIRECTORIES: [&str; 3] = ["/usr/bin", "/bin", "/usr/local/bin"];

/// The end of a program's stderr that is kept.
pub const TAIL_BYTES_MAX: usize = 64 * 1024;

/// How long a program may live on without its output, or its output without
/// it: only a program that is broken, or has left another one behind, does
/// that.
const LINGER_MAX: Duration = Duration::from_secs(5);

/// How often the gate is looked at while nothing happens.
const LOOK: Duration = Duration::from_millis(100);

/// Reads of stderr after the end: more than a pipe holds, so that they end
/// even if somebody else still writes.
const LAST_READS: usize = 32;

/// The request to decode with outside programs.
#[derive(Clone, Debug)]
pub struct External {
    /// Where they are.
    pub programs: Programs,
    /// Where they are registered.
    pub running: Running,
}

/// The directories that programs are looked for in; by default
/// [`DIRECTORIES`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Programs {
    /// In this order.
    pub directories: Vec<PathBuf>,
}

/// A program that was found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Program {
    path: PathBuf,
}

impl Default for Programs {
    fn default() -> Self {
        Self { directories: DIRECTORIES.map(PathBuf::from).to_vec() }
    }
}

impl Programs {
    /// Looks for the program of a filter, once for all that it has to decode.
    ///
    /// # Errors
    /// `NotAllowed`, or `NotFound`.
    pub fn find(&self, untrusted_name: &[u8]) -> Result<Program, ProgramError> {
        let Some(name) = allowed(untrusted_name) else {
            let name = untrusted_name.to_vec();
            return Err(ProgramError::NotAllowed { name });
        };
        let directories = self.directories.iter();
        let mut paths = directories.map(|directory| directory.join(name));
        match paths.find(|path| kernel::is_program(path)) {
            Some(path) => Ok(Program { path }),
            None => {
                let directories = self.directories.clone();
                Err(ProgramError::NotFound { name, directories })
            }
        }
    }
}

/// The name, if it is one of [`ALLOWED`].
#[must_use]
pub fn allowed(untrusted_name: &[u8]) -> Option<&'static str> {
    let mut names = ALLOWED.into_iter();
    names.find(|name| name.as_bytes() == untrusted_name)
}

/// A running program that decodes one stream; input comes in pieces of any
/// size, output goes to a sink in pieces of at most [`PIECE_BYTES`].
///
/// Dropped before its end it gets TERM, and KILL two seconds later; no drop
/// returns before it is reaped.
#[derive(Debug)]
pub struct ExternalFilter {
    program: Program,
    process: Arc<Process>,
    child: Child,
    running: Running,
    pipes: Pipes,
    buffer: Vec<u8>,
    tail: Vec<u8>,
    /// Bytes of output so far.
    given: u64,
    /// How it ended; not reaped yet.
    ended: Option<Ended>,
    /// Reaped: its number is not ours any more.
    reaped: bool,
}

impl ExternalFilter {
    /// Starts the program at the start of a stream.
    ///
    /// # Errors
    /// `Call` if it does not start, or `Canceled`.
    pub fn start(
        program: &Program,
        running: &Running,
    ) -> Result<Self, ProgramError> {
        if running.is_canceled() {
            return Err(ProgramError::Canceled);
        }
        let (process, pipes) = kernel::start(&program.path)
            .map_err(|failed| ProgramError::call(&program.path, failed))?;
        let process = Arc::new(process);
        let (child, answer) = running.register(&process);
        let filter = Self {
            program: program.clone(),
            process,
            child,
            running: running.clone(),
            pipes,
            buffer: vec![0; PIECE_BYTES],
            tail: Vec::new(),
            given: 0,
            ended: None,
            reaped: false,
        };
        // Refused: nobody else ends it, so the drop does.
        answer.map_err(|_| ProgramError::Canceled)?;
        Ok(filter)
    }

    /// The process id of the program, and of its group.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.number()
    }

    /// Takes a piece of the stream and gives what comes out meanwhile to
    /// `sink`. Returns once the piece is in the pipe.
    ///
    /// # Errors
    /// `Program` if it failed or ended too early, or `Sink` with what the
    /// sink says. After an error the filter is of no further use.
    pub fn push<E>(
        &mut self,
        untrusted_bytes: &[u8],
        sink: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), PushError<E>> {
        let mut left = untrusted_bytes;
        while !left.is_empty() {
            if self.ended.is_some() || self.pipes.output.is_none() {
                self.complete(sink)?;
                return Ok(self.check_unread(left)?);
            }
            let taken = self.turn(left, sink)?;
            left = left.get(taken..).unwrap_or_default();
        }
        Ok(())
    }

    /// Says that the stream is over, gives the rest to `sink`, and waits for
    /// the program's end.
    ///
    /// # Errors
    /// As for [`push`](Self::push).
    pub fn finish<E>(
        mut self,
        sink: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), PushError<E>> {
        self.pipes.input = None;
        self.complete(sink)?;
        Ok(self.check_unread(&[])?)
    }

    /// Waits until something can go on, and does it. Gives how many bytes of
    /// `input` were taken.
    fn turn<E>(
        &mut self,
        input: &[u8],
        sink: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<usize, PushError<E>> {
        if self.running.is_canceled() {
            return Err(ProgramError::Canceled.into());
        }
        let wanted = Ready {
            input: !input.is_empty(),
            output: true,
            errors: true,
            ended: self.ended.is_none(),
        };
        let ready = self.pipes.poll(&self.process, wanted, LOOK);
        let ready = ready.map_err(|failed| self.call(failed))?;
        if ready.errors {
            self.read_errors()?;
        }
        if ready.output {
            let count = self.read_output()?;
            let piece = self.buffer.get(..count).unwrap_or_default();
            if !piece.is_empty() {
                self.given = self.given.saturating_add(piece.len() as u64);
                sink(piece).map_err(PushError::Sink)?;
            }
        }
        if ready.ended {
            let ended = self.process.ended();
            self.ended = ended.map_err(|failed| self.call(failed))?;
        }
        match &self.pipes.input {
            Some(pipe) if ready.input => kernel::write(pipe, input)
                .map_err(|failed| self.call(failed).into()),
            _ => Ok(0),
        }
    }

    fn read_output(&mut self) -> Result<usize, ProgramError> {
        let Some(pipe) = &self.pipes.output else { return Ok(0) };
        let read = kernel::read(pipe, &mut self.buffer);
        let count = read.map_err(|failed| self.call(failed))?;
        if count == Some(0) {
            self.pipes.output = None;
        }
        Ok(count.unwrap_or_default())
    }

    /// Whether there was anything.
    fn read_errors(&mut self) -> Result<bool, ProgramError> {
        let Some(pipe) = &self.pipes.errors else { return Ok(false) };
        let read = kernel::read(pipe, &mut self.buffer);
        let count = read.map_err(|failed| self.call(failed))?;
        if count == Some(0) {
            self.pipes.errors = None;
        }
        let count = count.unwrap_or_default();
        self.tail.extend(self.buffer.get(..count).unwrap_or_default());
        let over = self.tail.len().saturating_sub(TAIL_BYTES_MAX);
        self.tail.drain(..over);
        Ok(count > 0)
    }

    /// Takes the output to its end, and the program to its own, which is
    /// looked at last.
    fn complete<E>(
        &mut self,
        sink: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), PushError<E>> {
        let mut since = Instant::now();
        let mut given = self.given;
        loop {
            let found = match (self.ended, &self.pipes.output) {
                (Some(Ended::Exit(0)), None) => break,
                (Some(Ended::Exit(0)), Some(_)) => {
                    "it has ended, and its output has not"
                }
                // The rest of its output does not matter any more.
                (Some(_), _) => break,
                (None, None) => "its output has ended, and it has not",
                (None, Some(_)) => "",
            };
            if found.is_empty() || given != self.given {
                since = Instant::now();
                given = self.given;
            } else if since.elapsed() >= LINGER_MAX {
                return Err(ProgramError::Lingers {
                    program: error::one(&self.program.path),
                    found,
                    seconds: LINGER_MAX.as_secs(),
                }
                .into());
            }
            self.turn(&[], sink)?;
        }
        Ok(self.judge()?)
    }

    /// What its end means.
    fn judge(&mut self) -> Result<(), ProgramError> {
        for _ in 0..LAST_READS {
            if !self.read_errors()? {
                break;
            }
        }
        self.reap();
        if self.running.is_canceled() {
            return Err(ProgramError::Canceled);
        }
        match self.ended {
            Some(ended) if ended != Ended::Exit(0) => {
                Err(ProgramError::Status {
                    program: error::one(&self.program.path),
                    ended,
                    said: self.said(),
                })
            }
            _ => Ok(()),
        }
    }

    /// What a program that ended well did not read must be the zeros that tar
    /// fills up with, the rest of this piece included.
    fn check_unread(&mut self, rest: &[u8]) -> Result<(), ProgramError> {
        let mut is_zero = is_zero(rest);
        while is_zero {
            let read = self.pipes.read_unread(&mut self.buffer);
            match read.map_err(|failed| self.call(failed))? {
                Some(count) => {
                    let piece = self.buffer.get(..count).unwrap_or_default();
                    is_zero = self::is_zero(piece);
                }
                None => return Ok(()),
            }
        }
        let program = error::one(&self.program.path);
        Err(ProgramError::Unread { program, said: self.said() })
    }

    fn said(&mut self) -> Said {
        Said(std::mem::take(&mut self.tail))
    }

    fn call(&self, failed: Failed) -> ProgramError {
        ProgramError::call(&self.program.path, failed)
    }

    /// Gives its number back; whatever it left in its group is killed first.
    fn reap(&mut self) {
        if !self.reaped {
            self.reaped = true;
            self.running.forget(self.child);
            self.process.kill();
            self.process.reap();
        }
    }
}

impl Drop for ExternalFilter {
    fn drop(&mut self) {
        if self.reaped {
            return;
        }
        self.pipes.input = None;
        self.pipes.output = None;
        self.pipes.errors = None;
        if self.ended.is_none() {
            self.process.terminate();
            self.process.await_end(running::PATIENCE);
            self.process.kill();
            // For ever if need be: a number that was not reaped is a process.
            while matches!(self.process.ended(), Ok(None)) {
                self.process.await_end(running::PATIENCE);
            }
        }
        self.reap();
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}
