//! Is what a program did a run of the protocol? Answered from a trace.
//!
//! Lives here: which of the two kinds of trace it is, whose calls go where,
//! the verdict. May not live here: reading files; the text of `strace`
//! (`strace`), of a log (`log`); what its calls mean (`calls`); what may
//! come next (`stages`).

mod calls;
mod log;
mod stages;
mod strace;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::format::escape::Escaped;
use crate::fsm::call::Effect;
use crate::fsm::protocol::Protocol;
use calls::Process;
use stages::{Seen, Stages, Stays};
use strace::Told;

/// Bytes of a trace: one of Python has some hundred thousand.
pub const BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Bytes of a line: `strace -v` writes some hundred.
pub const LINE_BYTES_MAX: usize = 64 * 1024;
/// Lines of a trace.
pub const LINES_MAX: usize = 4_000_000;
/// Processes, and sessions of a log, that are under way at a time: those that
/// have not given everything back.
pub const PROCESSES_MAX: usize = 4096;
/// Characters of a line that an error shows.
const SHOWN_MAX: usize = 160;

/// Why a trace cannot be judged.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// It has nothing in it.
    #[error("trace: empty; wanted lines of strace, or of --trace")]
    Empty,
    /// A line is damaged, or of something else.
    #[error("line {line}: \"{found}\"; wanted {wanted}")]
    Line {
        /// Which line, from 1.
        line: usize,
        /// How it begins, escaped.
        found: String,
        /// What may stand there.
        wanted: &'static str,
    },
    /// A line is too long.
    #[error("line {line}: {bytes} bytes; wanted at most {bytes_max}")]
    LineTooLong {
        /// Which line.
        line: usize,
        /// What it has.
        bytes: usize,
        /// What it may have.
        bytes_max: usize,
    },
    /// There are too many.
    #[error("trace: more lines; wanted at most {lines_max}")]
    Lines {
        /// So many may be.
        lines_max: usize,
    },
    /// Too many are under way.
    #[error("trace: more processes at a time; wanted at most {processes_max}")]
    Processes {
        /// So many may be.
        processes_max: usize,
    },
    /// A path cannot be known.
    #[error(
        "line {line}: \"{found}\" in an unknown directory; wanted a trace \
         by strace -y"
    )]
    NoDirectory {
        /// Which line.
        line: usize,
        /// The path, escaped.
        found: String,
    },
    /// No file is locked, so that none can be guessed to be the store.
    #[error("trace: no lock on a file; wanted one, or --store")]
    NoLock,
    /// Several files may be the store.
    #[error("trace: locks on {}; wanted one file, or --store", .found.join(", "))]
    SeveralLocks {
        /// They are.
        found: Vec<String>,
    },
    /// Nobody does anything with the store.
    #[error("trace: no call on {store}; wanted at least one")]
    NoCalls {
        /// The store.
        store: String,
    },
}

/// Which kind of trace it was.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Source {
    /// The library's own.
    Log,
    /// The kernel's calls.
    Strace,
}

/// What a trace shows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Validated {
    /// Its kind.
    pub source: Source,
    /// Beside which protocol it was laid.
    pub protocol: &'static str,
    /// The store; a log does not say.
    pub store: Option<String>,
    /// Who did something with it, by their first call.
    pub processes: Vec<Sessions>,
    /// The first call that is not one of the protocol.
    pub refused: Option<Refused>,
    /// What is worth knowing of calls that are.
    pub notes: Vec<String>,
}

/// The part of one process, or of one session of a log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sessions {
    /// Number of the process; 0 where the trace does not say.
    pub process: u32,
    /// Which of its sessions, where they are told apart.
    pub session: Option<u64>,
    /// Calls about the store.
    pub calls: usize,
    /// How often all was given back.
    pub finished: usize,
    /// Whether it had the store open at the end.
    pub unfinished: bool,
}

/// A call that the protocol does not have there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refused {
    /// Where it stands.
    pub line: usize,
    /// Who made it.
    pub process: u32,
    /// The call, as the trace has it.
    pub call: String,
    /// The calls that would have been allowed.
    pub allowed: Vec<String>,
}

/// Judges a trace. `store` is the path of the store in it; without one it is
/// the file that is locked.
///
/// ```
/// use qubes_fsm::check::validate::validate;
/// use qubes_fsm::fsm::protocol::SHIPPED;
///
/// let log = concat!(
///     r#"{"process":7,"session":1,"call":"open","name":"store","#,
///     r#""access":"write","answer":"opened","new":0}"#, "\n",
///     r#"{"process":7,"session":1,"call":"read","fd":0,"answer":"read"}"#,
/// );
/// let refused = validate(log.as_bytes(), SHIPPED, None)?.refused.unwrap();
/// assert_eq!(refused.line, 2);
/// assert_eq!(refused.allowed, ["fcntl(3, SETLKW, F_WRLCK)"]);
/// # Ok::<(), qubes_fsm::check::validate::TraceError>(())
/// ```
///
/// # Errors
/// The text is no trace, or too large a one, or has nothing about a store.
pub fn validate(
    untrusted_text: &[u8],
    protocol: Protocol,
    store: Option<&[u8]>,
) -> Result<Validated, TraceError> {
    let first = untrusted_text.iter().find(|byte| !byte.is_ascii_whitespace());
    match first {
        None => Err(TraceError::Empty),
        Some(b'{') => of_log(untrusted_text, protocol),
        Some(_) => of_strace(untrusted_text, protocol, store),
    }
}

/// Somebody's place in the protocol.
struct Place {
    stages: Stages,
    sessions: Sessions,
}

impl Place {
    fn new(stages: Stages, process: u32, session: Option<u64>) -> Self {
        let sessions = Sessions {
            process,
            session,
            calls: 0,
            finished: 0,
            unfinished: false,
        };
        Self { stages, sessions }
    }

    fn advance(&mut self, seen: &Seen) -> Result<(), Vec<Effect>> {
        self.stages.advance(seen)?;
        self.sessions.calls += 1;
        let outside = self.stages.is_outside();
        if outside && self.sessions.unfinished {
            self.sessions.finished += 1;
        }
        self.sessions.unfinished = !outside;
        Ok(())
    }
}

fn of_log(
    untrusted_text: &[u8],
    protocol: Protocol,
) -> Result<Validated, TraceError> {
    // Those under way; of those that have ended only what is reported.
    let mut places: BTreeMap<(u32, u64), (usize, Place)> = BTreeMap::new();
    let mut ended: BTreeMap<(u32, u64), (usize, Sessions)> = BTreeMap::new();
    let mut refused = None;
    let lines = untrusted_text.split(|byte| *byte == b'\n').enumerate();
    for (number, untrusted_line) in lines {
        let line = number + 1;
        let untrusted_line = untrusted_line.trim_ascii();
        if untrusted_line.is_empty() {
            continue;
        }
        if line > LINES_MAX {
            return Err(TraceError::Lines { lines_max: LINES_MAX });
        }
        let bytes = untrusted_line.len();
        if bytes > LINE_BYTES_MAX {
            let bytes_max = LINE_BYTES_MAX;
            return Err(TraceError::LineTooLong { line, bytes, bytes_max });
        }
        let Some(logged) = log::parse(untrusted_line) else {
            let wanted = "one call and its answer, as --trace writes them";
            return Err(TraceError::line(line, untrusted_line, wanted));
        };
        // A damaged line further on is an error all the same.
        if refused.is_some() {
            continue;
        }
        let (process, session) = (logged.process, logged.session);
        let key = (process, session);
        let count = places.len() + ended.len();
        let (order, mut place) = places.remove(&key).unwrap_or_else(|| {
            let stages = Stages::of_log(protocol);
            let place = Place::new(stages, process, Some(session));
            match ended.remove(&key) {
                Some((order, sessions)) => (order, Place { sessions, ..place }),
                None => (count, place),
            }
        });
        let meanings = vec![(logged.effect, logged.event)];
        let seen = Seen { meanings, stays: Stays::Never };
        if let Err(allowed) = place.advance(&seen) {
            let call = format!("{} = {}", logged.effect, logged.event);
            refused = Some(Refused::new(line, process, call, &allowed));
        }
        if place.sessions.unfinished {
            places.insert(key, (order, place));
        } else {
            ended.insert(key, (order, place.sessions));
        }
        if places.len() > PROCESSES_MAX {
            return Err(TraceError::Processes { processes_max: PROCESSES_MAX });
        }
    }
    let places = places.into_values();
    let places = places.map(|(order, place)| (order, place.sessions));
    let mut processes: Vec<_> = places.chain(ended.into_values()).collect();
    processes.sort_by_key(|(order, _)| *order);
    Ok(Validated {
        source: Source::Log,
        protocol: protocol.name,
        store: None,
        processes: processes.into_iter().map(|(_, of)| of).collect(),
        refused,
        notes: Vec::new(),
    })
}

fn of_strace(
    untrusted_text: &[u8],
    protocol: Protocol,
    store: Option<&[u8]>,
) -> Result<Validated, TraceError> {
    let told = strace::read(untrusted_text)?;
    let paths = match store {
        Some(store) => calls::Paths::of(store, &told),
        None => calls::Paths::guess(protocol, &told)?,
    };
    let mut processes: BTreeMap<u32, Process> = BTreeMap::new();
    let mut places: BTreeMap<u32, (usize, Place)> = BTreeMap::new();
    let mut notes = Vec::new();
    let mut refused = None;
    for told in &told {
        let call = match told {
            Told::Call(call) => call,
            Told::Ended(process) => {
                processes.remove(process);
                if let Some((_, place)) = places.get_mut(process) {
                    place.stages.reset();
                }
                continue;
            }
        };
        let process = processes.entry(call.process).or_default();
        let Some(seen) = process.sees(&paths, call)? else { continue };
        let order = places.len();
        let (_, place) = places.entry(call.process).or_insert_with(|| {
            let stages = Stages::of_calls(protocol);
            (order, Place::new(stages, call.process, None))
        });
        // Whoever looks at the store's name and does no more is nobody.
        if seen.stays != Stays::Never && place.sessions.calls == 0 {
            places.remove(&call.process);
            continue;
        }
        if let Err(allowed) = place.advance(&seen) {
            let text = shown(&call.text);
            refused =
                Some(Refused::new(call.line, call.process, text, &allowed));
            break;
        }
        if protocol.verify && process.locks_by_posix(call) {
            let note = posix(call.process);
            if !notes.contains(&note) {
                notes.push(note);
            }
        }
    }
    let mut places: Vec<_> = places.into_values().collect();
    places.sort_by_key(|(order, _)| *order);
    if places.is_empty() {
        return Err(TraceError::NoCalls { store: paths.shown() });
    }
    Ok(Validated {
        source: Source::Strace,
        protocol: protocol.name,
        store: Some(paths.shown()),
        processes: places.into_iter().map(|(_, p)| p.sessions).collect(),
        refused,
        notes,
    })
}

fn posix(process: u32) -> String {
    format!(
        "process {process} locks with F_SETLK: other processes are excluded, \
         its own threads are not (spec/lock.md#locks-are-ofd-locks)"
    )
}

impl Refused {
    fn new(
        line: usize,
        process: u32,
        call: String,
        allowed: &[Effect],
    ) -> Self {
        let allowed = allowed.iter().map(Effect::to_string).collect();
        Self { line, process, call, allowed }
    }
}

impl TraceError {
    fn line(line: usize, found: &[u8], wanted: &'static str) -> Self {
        Self::Line { line, found: shown(found), wanted }
    }
}

/// Text that nobody has looked at, fit for a message.
fn shown(untrusted_text: &[u8]) -> String {
    let text = Escaped(untrusted_text).to_string();
    match text.char_indices().nth(SHOWN_MAX) {
        None => text,
        Some((end, _)) => {
            format!("{}...", text.get(..end).unwrap_or_default())
        }
    }
}

impl Validated {
    /// What the trace shows, for people.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let source = match self.source {
            Source::Log => "a log of this library",
            Source::Strace => "output of strace",
        };
        let _ = write!(out, "trace: {source}");
        if let Some(store) = &self.store {
            let _ = write!(out, ", store {store}");
        }
        out.push('\n');
        for of in &self.processes {
            let _ = writeln!(out, "{of}");
        }
        for note in &self.notes {
            let _ = writeln!(out, "note: {note}");
        }
        let protocol = self.protocol;
        match &self.refused {
            None => {
                let _ = writeln!(out, "a run of {protocol}");
            }
            Some(Refused { line, process, call, allowed }) => {
                let _ = writeln!(
                    out,
                    "no run of {protocol}: line {line}, process {process}:\n  \
                     {call}\nallowed there:"
                );
                for call in allowed {
                    let _ = writeln!(out, "  {call}");
                }
            }
        }
        out
    }
}

impl core::fmt::Display for Sessions {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(out, "process {}", self.process)?;
        if let Some(session) = self.session {
            write!(out, ", session {session}")?;
        }
        let Self { calls, finished, .. } = self;
        write!(out, ": {calls} calls, complete sessions: {finished}")?;
        if self.unfinished {
            out.write_str(", the store open at the end")?;
        }
        Ok(())
    }
}
