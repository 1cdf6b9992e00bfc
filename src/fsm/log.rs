//! What a run did, one call and its answer per line.
//!
//! Lives here: the line of a log. May not live here: where a log goes (the
//! caller of `store`), reading one (`check::validate`).

use core::fmt;

use super::call::{Access, Effect, Event, Fd, Name};

/// One call of one session, and its answer. As text it is one line of JSON:
///
/// ```
/// use qubes_fsm::fsm::{Access, Effect, Event, Fd, Name, log::Logged};
///
/// let effect = Effect::Open(Name::Store, Access::Write);
/// let event = Event::Opened(Fd(0));
/// let logged = Logged { process: 4711, session: 1, effect, event };
/// assert_eq!(logged.to_string(), concat!(
///     r#"{"process":4711,"session":1,"call":"open","name":"store","#,
///     r#""access":"write","answer":"opened","new":0}"#,
/// ));
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Logged {
    /// Number of the operating system.
    pub process: u32,
    /// Which session of that process; several may be under way in threads.
    pub session: u64,
    /// The call.
    pub effect: Effect,
    /// What came of it.
    pub event: Event,
}

impl fmt::Display for Logged {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { process, session, effect, event } = self;
        write!(out, r#"{{"process":{process},"session":{session},"#)?;
        call(out, *effect)?;
        answer(out, *event)?;
        out.write_str("}")
    }
}

fn call(out: &mut fmt::Formatter<'_>, effect: Effect) -> fmt::Result {
    let plain = |out: &mut fmt::Formatter<'_>, word: &str| {
        write!(out, r#""call":"{word}","#)
    };
    let of_fd = |out: &mut fmt::Formatter<'_>, word: &str, fd: Fd| {
        write!(out, r#""call":"{word}","fd":{},"#, fd.0)
    };
    match effect {
        Effect::Open(name, access) => {
            plain(out, "open")?;
            named(out, name)?;
            accessed(out, access)
        }
        Effect::Lock(fd, access) => {
            of_fd(out, "lock", fd)?;
            accessed(out, access)
        }
        Effect::TryLock(fd) => of_fd(out, "try_lock", fd),
        Effect::StatFd(fd) => of_fd(out, "stat_fd", fd),
        Effect::StatName(name) => {
            plain(out, "stat_name")?;
            named(out, name)
        }
        Effect::Read(fd) => of_fd(out, "read", fd),
        Effect::Sweep => plain(out, "sweep"),
        Effect::Create => plain(out, "create"),
        Effect::Write(fd) => of_fd(out, "write", fd),
        Effect::Sync(fd) => of_fd(out, "sync", fd),
        Effect::CompareStat => plain(out, "compare_stat"),
        Effect::CompareContent(fd) => of_fd(out, "compare_content", fd),
        Effect::Rename => plain(out, "rename"),
        Effect::SyncDirectory => plain(out, "sync_directory"),
        Effect::Unlink => plain(out, "unlink"),
        Effect::Close(fd) => of_fd(out, "close", fd),
    }
}

fn named(out: &mut fmt::Formatter<'_>, name: Name) -> fmt::Result {
    out.write_str(match name {
        Name::Store => r#""name":"store","#,
        Name::LockFile => r#""name":"lock_file","#,
        Name::Temp => r#""name":"temp","#,
    })
}

fn accessed(out: &mut fmt::Formatter<'_>, access: Access) -> fmt::Result {
    out.write_str(match access {
        Access::Read => r#""access":"read","#,
        Access::Write => r#""access":"write","#,
    })
}

fn answer(out: &mut fmt::Formatter<'_>, event: Event) -> fmt::Result {
    let word = match event {
        Event::Opened(_) => "opened",
        Event::Locked => "locked",
        Event::File(_) => "file",
        Event::Read => "read",
        Event::Swept => "swept",
        Event::Written => "written",
        Event::Synced => "synced",
        Event::Same => "same",
        Event::Changed => "changed",
        Event::Renamed => "renamed",
        Event::Unlinked => "unlinked",
        Event::Closed => "closed",
        Event::Failed(_) => "failed",
    };
    write!(out, r#""answer":"{word}""#)?;
    match event {
        Event::Opened(fd) => write!(out, r#","new":{}"#, fd.0),
        Event::File(file) => {
            let (device, inode) = (file.device, file.inode);
            write!(out, r#","device":{device},"inode":{inode}"#)
        }
        Event::Failed(errno) => write!(out, r#","errno":{}"#, errno.0),
        Event::Locked
        | Event::Read
        | Event::Swept
        | Event::Written
        | Event::Synced
        | Event::Same
        | Event::Changed
        | Event::Renamed
        | Event::Unlinked
        | Event::Closed => Ok(()),
    }
}
