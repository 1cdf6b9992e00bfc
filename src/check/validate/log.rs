//! A log that the library wrote, read again: one line of JSON per call.
//!
//! Lives here: which words stand for which call and answer. May not live
//! here: whether a call was allowed; writing a log (`fsm::log`).

use serde::Deserialize;

use crate::fsm::call::{Access, Effect, Errno, Event, Fd, FileId, Name};
use crate::fsm::log::Logged;

/// A line as it stands there.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct UntrustedLine {
    process: u32,
    session: u64,
    call: String,
    name: Option<String>,
    access: Option<String>,
    fd: Option<u8>,
    answer: String,
    new: Option<u8>,
    device: Option<u64>,
    inode: Option<u64>,
    errno: Option<i32>,
}

/// One line; `None` if it says no call and answer.
pub(super) fn parse(untrusted_line: &[u8]) -> Option<Logged> {
    let line: UntrustedLine = serde_json::from_slice(untrusted_line).ok()?;
    let (effect, event) = (effect(&line)?, event(&line)?);
    let (process, session) = (line.process, line.session);
    let logged = Logged { process, session, effect, event };
    // What is written back differently has words too many.
    (logged.to_string().as_bytes() == untrusted_line).then_some(logged)
}

fn effect(line: &UntrustedLine) -> Option<Effect> {
    let fd = line.fd.map(Fd);
    let access = match line.access.as_deref() {
        Some("read") => Some(Access::Read),
        Some("write") => Some(Access::Write),
        Some(_) | None => None,
    };
    let name = match line.name.as_deref() {
        Some("store") => Some(Name::Store),
        Some("lock_file") => Some(Name::LockFile),
        Some("temp") => Some(Name::Temp),
        Some(_) | None => None,
    };
    Some(match line.call.as_str() {
        "open" => Effect::Open(name?, access?),
        "lock" => Effect::Lock(fd?, access?),
        "try_lock" => Effect::TryLock(fd?),
        "stat_fd" => Effect::StatFd(fd?),
        "stat_name" => Effect::StatName(name?),
        "read" => Effect::Read(fd?),
        "sweep" => Effect::Sweep,
        "create" => Effect::Create,
        "write" => Effect::Write(fd?),
        "sync" => Effect::Sync(fd?),
        "compare_stat" => Effect::CompareStat,
        "compare_content" => Effect::CompareContent(fd?),
        "rename" => Effect::Rename,
        "sync_directory" => Effect::SyncDirectory,
        "unlink" => Effect::Unlink,
        "close" => Effect::Close(fd?),
        _ => return None,
    })
}

fn event(line: &UntrustedLine) -> Option<Event> {
    Some(match line.answer.as_str() {
        "opened" => Event::Opened(Fd(line.new?)),
        "locked" => Event::Locked,
        "file" => {
            let (device, inode) = (line.device?, line.inode?);
            Event::File(FileId { device, inode })
        }
        "read" => Event::Read,
        "swept" => Event::Swept,
        "written" => Event::Written,
        "synced" => Event::Synced,
        "same" => Event::Same,
        "changed" => Event::Changed,
        "renamed" => Event::Renamed,
        "unlinked" => Event::Unlinked,
        "closed" => Event::Closed,
        "failed" => Event::Failed(Errno(line.errno?)),
        _ => return None,
    })
}
