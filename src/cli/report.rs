//! What a run came to, in words and as JSON lines.
//!
//! Lives here: the form of a report. May not live here: the facts
//! (`backup::report`), when it is printed.

use std::time::Duration;

use serde_json::{Value, json};

use super::exit;
use crate::backup::report::{Binding, FileState, Report};
use crate::format::escape::Escaped;

fn word(state: FileState) -> &'static str {
    match state {
        FileState::Begun => "begun",
        FileState::Verified => "verified",
        FileState::Restored => "restored",
        FileState::Unbound => "not bound",
        FileState::LeftOut => "left out",
        FileState::Unknown => "unknown",
        FileState::Withheld => "withheld",
        FileState::Lost => "lost",
        FileState::NotRead => "not read",
    }
}

pub(super) fn binding(report: &Report) -> String {
    match report.binding {
        Binding::Unknown => {
            "not bound: no header was accepted that could promise a manifest"
                .to_owned()
        }
        Binding::NotBound => {
            "not bound: the header promises no manifest, so chunks or files \
             of an older backup under the same passphrase would not be noticed"
                .to_owned()
        }
        Binding::NotCompared => {
            "not bound: the manifest that the header promises was not \
             compared with all that was read"
                .to_owned()
        }
        Binding::Refused => {
            "not bound: the manifest that the header promises is missing, or \
             does not fit what was read"
                .to_owned()
        }
        Binding::Bound(id) => format!("bound: {id}"),
        Binding::Partly { id, read, of } => {
            format!("bound: {read} of {of} members read: {id}")
        }
    }
}

pub(super) fn header(report: &Report) -> Value {
    json!({
        "digest": report.header.digest,
        "cipher": report.header.cipher,
        "filter": report.header.filter,
        "headerless": report.header.headerless,
    })
}

/// A line for each file, and the summary; `error` is why it failed.
pub(super) fn json_lines(
    report: &Report,
    elapsed: Duration,
    exit: u8,
    error: Option<&str>,
) -> String {
    let mut text = String::new();
    for file in &report.files {
        let line = json!({
            "type": "file",
            "name": Escaped(&file.name).to_string(),
            "state": word(file.state),
            "chunks": file.chunks,
            "stored_bytes": file.stored_bytes,
            "decoded_bytes": file.decoded_bytes,
        });
        text.push_str(&format!("{line}\n"));
    }
    let omissions: Vec<String> =
        report.omissions.iter().map(|text| exit::escaped(text)).collect();
    let line = json!({
        "type": "summary",
        "header": header(report),
        "files": report.files.len(),
        "archive_bytes": report.archive_bytes,
        "seconds": elapsed.as_secs_f64(),
        "binding": binding(report),
        "dropped_bits": report.dropped_bits.as_ref().map(|dropped| json!({
            "count": dropped.count,
            "first": Escaped(&dropped.first).to_string(),
        })),
        "omissions": omissions,
        "exit": exit,
        "error": error,
    });
    text.push_str(&format!("{line}\n"));
    text
}

/// The same for people: nothing, if nothing was read.
pub(super) fn lines(report: &Report, elapsed: Duration) -> String {
    let mut text = String::new();
    if report.files.is_empty() && report.header.digest.is_empty() {
        return text;
    }
    for file in &report.files {
        text.push_str(&format!(
            "{:8}  {:>14}  {}\n",
            word(file.state),
            file.decoded_bytes,
            Escaped(&file.name)
        ));
    }
    for omission in &report.omissions {
        let omission = exit::escaped(omission);
        text.push_str(&format!("omission: {omission}\n"));
    }
    if let Some(dropped) = &report.dropped_bits {
        let (count, first) = (dropped.count, Escaped(&dropped.first));
        text.push_str(&format!(
            "note: setuid, setgid and sticky are not restored; files and \
             directories that had one: {count}, the first is {first}\n"
        ));
    }
    let seconds = elapsed.as_secs_f64();
    text.push_str(&format!(
        "{} files, {} bytes of archive in {seconds:.2} s; digest {}; {}\n",
        report.files.len(),
        report.archive_bytes,
        report.header.digest,
        binding(report)
    ));
    text
}
