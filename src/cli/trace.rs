//! `qubes-fsm check --trace FILE`: is what a program did a run of the
//! protocol? And `--trace FILE` of `store`, which writes such a file.
//!
//! Lives here: reading and writing that file, the answer, the exit code. May
//! not live here: the judgement (`check::validate`).

use std::fs::File;
use std::io::{Read as _, Write as _, stdin};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde_json::json;

use super::Talk;
use super::exit::{self, Failure};
use crate::check::validate::{self, Source, TraceError, Validated};
use crate::fsm::protocol::Protocol;
use crate::store::Observer;

/// Reads, judges, and says what came of it.
pub(super) fn judge(
    path: &Path,
    protocol: Protocol,
    store: Option<&Path>,
    as_json: bool,
) -> Result<u8, Failure> {
    let shown = exit::shown(path);
    let untrusted_text = read(path, &shown)?;
    let absolute = store.map(std::path::absolute).transpose();
    let store = absolute.map_err(|error| Failure::io("--store", &error))?;
    let store = store.as_ref().map(|path| path.as_os_str().as_bytes());
    let validated = validate::validate(&untrusted_text, protocol, store)
        .map_err(|error| {
            Failure::other(&shown, &error.to_string()).with_code(code(&error))
        })?;
    let text = if as_json { json(&validated) } else { validated.text() };
    exit::print(text.as_bytes())?;
    Ok(if validated.refused.is_some() { exit::CHECK } else { 0 })
}

fn read(path: &Path, shown: &str) -> Result<Vec<u8>, Failure> {
    let failed = |error| Failure::io(shown, &error);
    let mut text = Vec::new();
    let limit = validate::BYTES_MAX + 1;
    if path.as_os_str() == "-" {
        stdin().lock().take(limit).read_to_end(&mut text).map_err(failed)?;
    } else {
        let file = File::open(path).map_err(failed)?;
        file.take(limit).read_to_end(&mut text).map_err(failed)?;
    }
    if text.len() as u64 == limit {
        let bytes_max = validate::BYTES_MAX;
        let text = format!("more bytes; wanted at most {bytes_max}");
        return Err(Failure::other(shown, &text).with_code(exit::LIMIT));
    }
    Ok(text)
}

fn code(error: &TraceError) -> u8 {
    match error {
        TraceError::Empty | TraceError::Line { .. } => exit::INTEGRITY,
        TraceError::LineTooLong { .. }
        | TraceError::Lines { .. }
        | TraceError::Processes { .. } => exit::LIMIT,
        TraceError::NoDirectory { .. } => exit::UNSUPPORTED,
        TraceError::NoLock
        | TraceError::SeveralLocks { .. }
        | TraceError::NoCalls { .. } => exit::NOT_FOUND,
    }
}

fn json(validated: &Validated) -> String {
    let processes: Vec<_> = validated
        .processes
        .iter()
        .map(|of| {
            json!({
                "process": of.process,
                "session": of.session,
                "calls": of.calls,
                "finished": of.finished,
                "unfinished": of.unfinished,
            })
        })
        .collect();
    let refused = validated.refused.as_ref().map(|refused| {
        json!({
            "line": refused.line,
            "process": refused.process,
            "call": refused.call,
            "allowed": refused.allowed,
        })
    });
    let source = match validated.source {
        Source::Log => "log",
        Source::Strace => "strace",
    };
    let object = json!({
        "source": source,
        "protocol": validated.protocol,
        "store": validated.store,
        "processes": processes,
        "notes": validated.notes,
        "verdict": if refused.is_none() { "holds" } else { "violated" },
        "refused": refused,
    });
    format!("{object:#}\n")
}

/// Appends each call to the file: one write per line, so that several
/// processes may share it.
pub(super) fn log_to(path: &Path, talk: Talk) -> Result<Observer, Failure> {
    let shown = exit::shown(path);
    let file = File::options()
        .append(true)
        .create(true)
        .open(path)
        .map_err(|error| Failure::io(&shown, &error))?;
    let file = Mutex::new(Some(file));
    Ok(Observer::new(move |logged| {
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        let line = format!("{logged}\n");
        let written = file.as_mut().map(|f| f.write_all(line.as_bytes()));
        // The store goes first: a log that is full is not its failure.
        if let Some(Err(error)) = written {
            *file = None;
            talk.note(&format!("{shown}: {error}; the trace ends here"));
        }
    }))
}
