//! The text that `strace -f -y` writes: one call per line, or per two lines
//! where another process came between.
//!
//! Lives here: how a line is taken apart, and joined. May not live here: what
//! a call means.

use std::collections::{BTreeMap, BTreeSet};

use super::{LINE_BYTES_MAX, LINES_MAX, PROCESSES_MAX, TraceError};
use crate::fsm::call::Errno;

/// One call of one process, complete.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Call {
    /// Where it begins, from 1.
    pub(super) line: usize,
    /// Number of the process; 0: the only one, which strace does not name.
    pub(super) process: u32,
    /// What it is called, and what was given: as it stands there.
    pub(super) text: Vec<u8>,
    pub(super) name: String,
    pub(super) arguments: Vec<Vec<u8>>,
    pub(super) result: Result<Value, Errno>,
}

/// What a call gave, where it did not fail.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Value {
    pub(super) number: i64,
    /// Where that descriptor leads, as `-y` says it.
    pub(super) path: Option<Vec<u8>>,
}

/// One thing that a trace tells.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Told {
    /// A call.
    Call(Call),
    /// The process is gone, and all that it had open.
    Ended(u32),
}

/// The calls that may be about a store.
const NAMES: [&str; 19] = [
    "close",
    "creat",
    "fcntl",
    "fcntl64",
    "fdatasync",
    "fstat",
    "fstat64",
    "fstatat64",
    "fsync",
    "lstat",
    "newfstatat",
    "open",
    "openat",
    "rename",
    "renameat",
    "renameat2",
    "stat",
    "unlink",
    "unlinkat",
];

/// What a process has begun and not completed.
struct Begun {
    line: usize,
    name: String,
    text: Vec<u8>,
}

/// Reads a whole trace. Calls that cannot be about a store are left out.
pub(super) fn read(untrusted_text: &[u8]) -> Result<Vec<Told>, TraceError> {
    let mut reader = Reader::default();
    let lines = untrusted_text.split(|byte| *byte == b'\n');
    for (number, untrusted_line) in lines.enumerate() {
        let line = number + 1;
        if line > LINES_MAX {
            return Err(TraceError::Lines { lines_max: LINES_MAX });
        }
        if untrusted_line.len() > LINE_BYTES_MAX {
            let (bytes, bytes_max) = (untrusted_line.len(), LINE_BYTES_MAX);
            return Err(TraceError::LineTooLong { line, bytes, bytes_max });
        }
        reader
            .line(line, untrusted_line)
            .map_err(|wanted| TraceError::line(line, untrusted_line, wanted))?;
        if reader.alive.len() > PROCESSES_MAX {
            return Err(TraceError::Processes { processes_max: PROCESSES_MAX });
        }
    }
    let first = reader.first.unwrap_or(0);
    let mut told = reader.told;
    for told in &mut told {
        let (Told::Call(Call { process, .. }) | Told::Ended(process)) = told;
        if *process == 0 {
            *process = first;
        }
    }
    Ok(told)
}

#[derive(Default)]
struct Reader {
    told: Vec<Told>,
    begun: BTreeMap<u32, Begun>,
    alive: BTreeSet<u32>,
    /// Processes whose birth was told: the first one's is not.
    attached: BTreeSet<u32>,
    /// The number of the process whose first lines had none.
    first: Option<u32>,
}

type Wanted = &'static str;

impl Reader {
    fn line(&mut self, line: usize, text: &[u8]) -> Result<(), Wanted> {
        let text = text.trim_ascii();
        if let Some(rest) = text.strip_prefix(b"strace: ") {
            let words = rest.strip_prefix(b"Process ").map(number);
            if let Some((Some(process), _)) = words {
                self.attached.insert(process);
            }
            return Ok(());
        }
        let (process, text) = self.process(text);
        let text = without_time(text);
        if text.is_empty() {
            return Ok(());
        }
        let is_first = self.alive.insert(process);
        if text.starts_with(b"+++ ") {
            self.alive.remove(&process);
            self.begun.remove(&process);
            self.told.push(Told::Ended(process));
            return Ok(());
        }
        if text.starts_with(b"--- ") {
            return Ok(());
        }
        if let Some(rest) = text.strip_prefix(b"<... ") {
            // strace was attached while it was in that call.
            return if is_first { Ok(()) } else { self.resumed(process, rest) };
        }
        let (name, rest) = word(text);
        let Some(given) = rest.strip_prefix(b"(").filter(|_| !name.is_empty())
        else {
            return Err("a call NAME(...) = RESULT, or a note of strace");
        };
        if let Some(begun) = given.strip_suffix(b"<unfinished ...>") {
            let text = begun.trim_ascii_end().to_vec();
            let begun = Begun { line, name, text };
            return match self.begun.insert(process, begun) {
                None => Ok(()),
                Some(_) => Err("the end of the call that was begun before"),
            };
        }
        self.complete(process, line, name, given)
    }

    /// The second half of a call.
    fn resumed(&mut self, process: u32, rest: &[u8]) -> Result<(), Wanted> {
        const WANTED: Wanted = "the rest of a call that was begun before";
        let (name, rest) = word(rest);
        let rest = rest.trim_ascii_start().strip_prefix(b"resumed>");
        let begun = self.begun.remove(&process);
        let (Some(rest), Some(begun)) = (rest, begun) else {
            return Err(WANTED);
        };
        if begun.name != name {
            return Err(WANTED);
        }
        let mut given = begun.text;
        if given.len() + rest.len() > LINE_BYTES_MAX {
            return Err("a shorter call");
        }
        // strace puts a blank where it broke the line.
        given.extend(rest);
        self.complete(process, begun.line, name, &given)
    }

    fn complete(
        &mut self,
        process: u32,
        line: usize,
        name: String,
        given: &[u8],
    ) -> Result<(), Wanted> {
        let is_known = NAMES.contains(&name.as_str());
        let (arguments, result) = match taken_apart(given) {
            Some(parts) => parts,
            // Of other calls only that they are complete is of interest.
            None if !is_known && given.contains(&b'=') => return Ok(()),
            None => return Err("arguments, `)` and `= RESULT`"),
        };
        // A call that a signal interrupts comes again.
        let Some(result) = result.filter(|_| is_known) else { return Ok(()) };
        let mut text = name.clone().into_bytes();
        text.push(b'(');
        text.extend(given);
        let call = Call { line, process, text, name, arguments, result };
        self.told.push(Told::Call(call));
        Ok(())
    }

    /// Whose line it is, and the rest of it.
    fn process<'a>(&mut self, text: &'a [u8]) -> (u32, &'a [u8]) {
        let (found, rest) = match text.strip_prefix(b"[pid ") {
            Some(rest) => {
                let (found, rest) = number(rest.trim_ascii_start());
                (found, rest.strip_prefix(b"]").unwrap_or(rest))
            }
            None => number(text),
        };
        // `12:34:56` and `1700000000.5` are times.
        let is_number = rest.first().is_none_or(u8::is_ascii_whitespace);
        match found.filter(|_| is_number) {
            Some(process) => {
                // It had no number while it was alone.
                if self.first.is_none()
                    && self.alive.contains(&0)
                    && !self.attached.contains(&process)
                {
                    self.first = Some(process);
                }
                let known = self.first == Some(process);
                (if known { 0 } else { process }, rest.trim_ascii_start())
            }
            None => {
                let mut alive = self.alive.iter();
                let alone = match (alive.next(), alive.next()) {
                    (Some(process), None) => *process,
                    (_, _) => 0,
                };
                (alone, text)
            }
        }
    }
}

/// Digits at the beginning.
fn number(text: &[u8]) -> (Option<u32>, &[u8]) {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = text.split_at(digits);
    let digits = core::str::from_utf8(digits).ok();
    (digits.and_then(|digits| digits.parse().ok()), rest)
}

/// The name of a call at the beginning.
fn word(text: &[u8]) -> (String, &[u8]) {
    let is_letter = |byte: &&u8| byte.is_ascii_alphanumeric() || **byte == b'_';
    let (word, rest) = text.split_at(text.iter().take_while(is_letter).count());
    (String::from_utf8_lossy(word).into_owned(), rest)
}

/// `12:34:56.789 `, `1700000000.123 ` or `0.001 ` of -t, -ttt and -r.
fn without_time(text: &[u8]) -> &[u8] {
    let is_time = |byte: &&u8| byte.is_ascii_digit() || b":.+-".contains(byte);
    let (time, rest) = text.split_at(text.iter().take_while(is_time).count());
    let has_digit = time.iter().any(u8::is_ascii_digit);
    match rest.first() {
        Some(b' ') if has_digit => rest.trim_ascii_start(),
        _ => text,
    }
}

type Parts = (Vec<Vec<u8>>, Option<Result<Value, Errno>>);

/// Arguments and result of `...) = RESULT`; no result where it is `?`.
fn taken_apart(given: &[u8]) -> Option<Parts> {
    let mut arguments = vec![Vec::new()];
    let mut open = 0_usize;
    let mut rest = given;
    loop {
        let (byte, after) = rest.split_first()?;
        let mut end = rest.len() - after.len();
        match byte {
            b'"' => end = quoted(rest)?,
            b'<' => end = annotated(rest)?,
            b'(' | b'[' | b'{' => open += 1,
            b')' if open == 0 => break,
            b')' | b']' | b'}' => open = open.checked_sub(1)?,
            b',' if open == 0 => {
                arguments.push(Vec::new());
                rest = after.trim_ascii_start();
                continue;
            }
            _ => {}
        }
        let (piece, after) = rest.split_at_checked(end)?;
        arguments.last_mut()?.extend(piece);
        rest = after;
    }
    let (_, result) = rest.split_first()?;
    let result = result.trim_ascii_start().strip_prefix(b"=")?;
    let result = result.trim_ascii_start();
    if result.first() == Some(&b'?') {
        return Some((arguments, None));
    }
    if let Some(failed) = result.strip_prefix(b"-1 ") {
        let (name, _) = word(failed);
        return (!name.is_empty())
            .then(|| (arguments, Some(Err(errno(&name)))));
    }
    let (number, rest) = descriptor(result)?;
    let path = path_beside(rest);
    Some((arguments, Some(Ok(Value { number, path }))))
}

/// A descriptor and what stands behind it.
pub(super) fn descriptor(text: &[u8]) -> Option<(i64, &[u8])> {
    let (found, rest) = number(text);
    found.map(|found| (i64::from(found), rest))
}

/// The path of `<PATH>`.
pub(super) fn path_beside(text: &[u8]) -> Option<Vec<u8>> {
    let end = annotated(text)?;
    let inner = text.get(1..end.checked_sub(1)?)?;
    unescaped(inner)
}

/// Whether a descriptor's file has no name any more.
pub(super) fn is_deleted(text: &[u8]) -> bool {
    text.ends_with(b"(deleted)")
}

/// The text of `"..."`.
pub(super) fn string(text: &[u8]) -> Option<Vec<u8>> {
    let end = quoted(text)?;
    unescaped(text.get(1..end.checked_sub(1)?)?)
}

/// Where `"..."` ends.
fn quoted(text: &[u8]) -> Option<usize> {
    let mut escaped = false;
    for (at, byte) in text.iter().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// Where `<...>` ends; a lone `<` is one of numbers.
fn annotated(text: &[u8]) -> Option<usize> {
    if text.first() != Some(&b'<') {
        return None;
    }
    if text.get(1) == Some(&b'<') {
        return Some(2);
    }
    for (at, byte) in text.iter().enumerate().skip(1) {
        // In names of connections there is `->`.
        let closes = matches!(
            text.get(at + 1),
            None | Some(b',' | b')' | b'(' | b' ' | b']' | b'}' | b'<')
        );
        if *byte == b'>' && closes {
            return Some(at + 1);
        }
    }
    None
}

/// What strace escapes: as in C, in octal or in hexadecimal.
fn unescaped(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        let digit = |byte: u8, radix| char::from(byte).to_digit(radix);
        let (mut value, radix, mut left) = match bytes.next()? {
            b'n' => (10, 0, 0),
            b't' => (9, 0, 0),
            b'r' => (13, 0, 0),
            b'v' => (11, 0, 0),
            b'f' => (12, 0, 0),
            b'x' => (0, 16, 2),
            byte => match digit(byte, 8) {
                Some(value) => (value, 8, 2),
                None => (u32::from(byte), 0, 0),
            },
        };
        while left > 0 {
            let next = bytes.peek().and_then(|byte| digit(*byte, radix));
            let Some(next) = next else { break };
            value = value * radix + next;
            bytes.next();
            left -= 1;
        }
        out.push(u8::try_from(value).ok()?);
    }
    Some(out)
}

/// The numbers of names that a store's calls fail with; that of others does
/// not matter.
fn errno(name: &str) -> Errno {
    match name {
        "EAGAIN" => Errno::AGAIN,
        // POSIX lets a refusal be either; of a lock it means the same.
        "EACCES" => Errno::NO_ACCESS,
        "EEXIST" => Errno(17),
        "EINTR" => Errno::INTERRUPTED,
        "ENOENT" => Errno::NO_ENTRY,
        "ENOSPC" => Errno::NO_SPACE,
        "EDQUOT" => Errno::QUOTA,
        _ => Errno::IO,
    }
}
