//! Traces of real runs beside the protocols: what is a run, what is the first
//! call that is not, and what is no trace at all.

#![cfg(feature = "check")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use core::ops::ControlFlow::Continue;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use qubes_fsm::check::validate::{
    LINE_BYTES_MAX, PROCESSES_MAX, Source, TraceError, Validated, validate,
};
use qubes_fsm::fsm::Machine as _;
use qubes_fsm::fsm::call::{Access, Effect, Errno, Event, Fd, FileId, Name};
use qubes_fsm::fsm::log::Logged;
use qubes_fsm::fsm::protocol::{
    HISTORY_2013, HISTORY_2014, HISTORY_2016, LOCK_FILE, NAMED, Protocol,
    SHIPPED,
};
use qubes_fsm::fsm::session::{Role, Session};
use qubes_fsm::store::{Observer, Store};

fn recorded(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(root.join("tests/traces").join(name)).unwrap()
}

fn judged(text: &str, protocol: Protocol) -> Validated {
    validate(text.as_bytes(), protocol, None).unwrap()
}

/// Line, the beginning of the call, and what would have been allowed.
fn refused(text: &str, protocol: Protocol) -> (usize, String, Vec<String>) {
    let refused = judged(text, protocol).refused.unwrap();
    (refused.line, refused.call, refused.allowed)
}

/// (file, its protocol, sessions that were completed)
const RECORDED: [(&str, Protocol, &[usize]); 11] = [
    ("own.log", SHIPPED, &[1, 1]),
    ("own.strace", SHIPPED, &[1]),
    ("two-own.strace", SHIPPED, &[1, 1]),
    ("python-2013.strace", HISTORY_2013, &[1]),
    ("python-2014.strace", HISTORY_2014, &[1]),
    ("python-2016.strace", HISTORY_2016, &[1]),
    ("python-shipped.strace", SHIPPED, &[1]),
    ("two-2013.strace", HISTORY_2013, &[1, 1]),
    ("two-2014.strace", HISTORY_2014, &[1, 1]),
    ("two-2016.strace", HISTORY_2016, &[1, 1]),
    ("two-shipped.strace", SHIPPED, &[1, 1]),
];

#[test]
fn recorded_runs_are_runs_of_their_protocols() {
    for (name, protocol, finished) in RECORDED {
        let judged = judged(&recorded(name), protocol);
        assert_eq!(judged.refused, None, "{name}");
        let found: Vec<_> =
            judged.processes.iter().map(|of| of.finished).collect();
        assert_eq!(found, finished, "{name}");
        let is_log = judged.source == Source::Log;
        assert_eq!(is_log, name.ends_with(".log"), "{name}");
        let store = (!is_log).then(|| "/tmp/q/qubes.xml".to_owned());
        assert_eq!(judged.store, store, "{name}");
    }
}

/// Of each recorded run, the protocols that it is a run of. Every run of 2014
/// is one of 2013, which does not care for what is compared, and may take the
/// lock and give it back.
#[test]
fn recorded_runs_are_no_runs_of_other_protocols() {
    let allowed = |name: &str| {
        let judged = |protocol: &Protocol| {
            let judged = validate(recorded(name).as_bytes(), *protocol, None);
            judged.is_ok_and(|judged| judged.refused.is_none())
        };
        let names = NAMED.into_iter().filter(judged);
        names.map(|protocol| protocol.name).collect::<Vec<_>>()
    };
    assert_eq!(allowed("own.log"), ["shipped"]);
    assert_eq!(allowed("own.strace"), ["shipped"]);
    assert_eq!(allowed("python-2013.strace"), ["2013"]);
    assert_eq!(allowed("python-2014.strace"), ["2013", "2014"]);
    assert_eq!(allowed("python-2016.strace"), ["2016"]);
    assert_eq!(allowed("two-2014.strace"), ["2013", "2014"]);
    assert_eq!(allowed("python-shipped.strace"), ["shipped"]);
}

#[test]
fn the_first_call_that_is_none_of_the_shipped_protocol_is_named() {
    // 2013: creates the new file without having compared.
    let (line, call, allowed) =
        refused(&recorded("python-2013.strace"), SHIPPED);
    assert_eq!((line, allowed), (4, vec!["fstat(3)".to_owned()]));
    assert!(call.starts_with("openat(AT_FDCWD</tmp/q>, \"/tmp/q/qubes.xml"));
    assert!(call.contains("O_CREAT|O_EXCL"), "{call}");
    // 2016: has compared, but before it had the lock.
    let (line, call, allowed) =
        refused(&recorded("python-2016.strace"), SHIPPED);
    assert_eq!((line, allowed), (6, vec!["fstat(3)".to_owned()]));
    assert!(call.contains("O_CREAT|O_EXCL"), "{call}");
    // 2014: closes the new file, which is neither synced nor locked.
    let (line, call, allowed) =
        refused(&recorded("python-2014.strace"), SHIPPED);
    assert_eq!(
        (line, &allowed[..]),
        (7, &["fsync(4)", "unlink(temp-file)"].map(str::to_owned)[..])
    );
    assert!(call.starts_with("close(4</tmp/q/qubes.xml"), "{call}");
}

/// What each call of a save is for: without it the next one is refused.
#[test]
fn no_call_of_a_save_can_be_left_out() {
    //= spec/lock.md#compare-after-the-lock
    //= spec/lock.md#durable-before-the-rename
    //= spec/lock.md#lock-the-new-file-before-the-rename
    //= spec/lock.md#durable-after-the-rename
    let text = recorded("python-shipped.strace");
    let without = |mark: &str, nth: usize| {
        let mut seen = 0;
        let kept: Vec<_> = text
            .lines()
            .filter(|line| {
                seen += usize::from(line.contains(mark));
                !(line.contains(mark) && seen == nth)
            })
            .collect();
        assert_eq!(kept.len() + 1, text.lines().count(), "{mark}");
        kept.join("\n")
    };
    let rows = [
        ("F_SETLK", 1, "newfstatat(3", "fcntl(3, SETLKW, F_WRLCK)"),
        ("fsync(4", 1, "fcntl(4", "fsync(4)"),
        ("F_SETLK", 2, "rename(", "fcntl(4, SETLK, F_WRLCK)"),
        ("rename(", 1, "close(3", "rename(temp-file, 'qubes.xml')"),
        ("fsync(5", 1, "close(3", "fsync(directory)"),
    ];
    for (mark, nth, call, wanted) in rows {
        let text = without(mark, nth);
        let path = Some(&b"/tmp/q/qubes.xml"[..]);
        let judged = validate(text.as_bytes(), SHIPPED, path).unwrap();
        let refused = judged.refused.unwrap_or_else(|| panic!("{mark}"));
        if mark != "F_SETLK" || nth != 1 {
            assert!(refused.call.starts_with(call), "{mark}: {refused:?}");
        }
        let wanted = wanted.to_owned();
        assert!(refused.allowed.contains(&wanted), "{mark}: {refused:?}");
    }
}

/// A descriptor whose file has no name is not the file that the name leads
/// to, also where inode numbers are not shown.
#[test]
fn whoever_goes_on_with_a_deleted_file_is_refused() {
    let text = recorded("two-2014.strace");
    // It opens again after this; let it create its file instead.
    let (before, after) = text
        .split_once("close(3</tmp/q/qubes.xml>(deleted)) = 0\n15314 openat")
        .unwrap();
    let (_, after) = after.split_once(", 0) = 0\n").unwrap();
    let text = format!("{before}getpid() = 1\n{after}");
    let (_, call, allowed) = refused(&text, HISTORY_2014);
    assert!(call.contains("O_CREAT|O_EXCL"), "{call}");
    assert_eq!(allowed, ["close(3)"]);
}

/// With `strace -v` inode numbers are compared too: here another process has
/// put its file there between both calls.
#[test]
fn inode_numbers_decide_where_they_are_shown() {
    let line = |call: &str, inode: u32| {
        format!(
            "7 {call}, {{st_dev=makedev(0xfe, 0), st_ino={inode}, \
             st_mode=S_IFREG|0660, st_size=5, ...}}, 0) = 0\n"
        )
    };
    let text = |inode| {
        [
            "7 openat(AT_FDCWD</d>, \"qubes.xml\", O_RDWR|O_CLOEXEC) = \
             3</d/qubes.xml>\n",
            "7 fcntl(3</d/qubes.xml>, F_OFD_SETLKW, {l_type=F_WRLCK, \
             l_whence=SEEK_SET, l_start=0, l_len=0}) = 0\n",
            &line("newfstatat(3</d/qubes.xml>, \"\"", 41),
            &line("newfstatat(AT_FDCWD</d>, \"qubes.xml\"", inode),
            "7 openat(AT_FDCWD</d>, \"qubes.xmlab\", \
             O_RDWR|O_CREAT|O_EXCL, 0600) = 4</d/qubes.xmlab>\n",
        ]
        .concat()
    };
    assert_eq!(judged(&text(41), SHIPPED).refused, None);
    let (line, _, allowed) = refused(&text(42), SHIPPED);
    assert_eq!((line, allowed), (5, vec!["close(3)".to_owned()]));
}

#[test]
fn a_lock_that_threads_share_is_noted() {
    //= spec/lock.md#locks-are-ofd-locks
    let notes = judged(&recorded("python-shipped.strace"), SHIPPED).notes;
    assert_eq!(notes.len(), 1);
    assert!(notes[0].contains("its own threads are not"), "{notes:?}");
    assert_eq!(judged(&recorded("own.strace"), SHIPPED).notes, [""; 0]);
}

/// What no protocol does to a store, whoever does it.
#[test]
fn harm_to_the_store_is_refused() {
    let text = recorded("own.strace");
    let pid = text.split(' ').next().unwrap();
    let opened = "openat(3</tmp/q>, \"qubes.xml\", O_RDWR";
    let (before, _) = text.split_once(&format!("{pid} {opened}")).unwrap();
    let harm = [
        "openat(AT_FDCWD</tmp/q>, \"qubes.xml\", O_RDWR|O_TRUNC) = 4</tmp/q/qubes.xml>",
        "openat(AT_FDCWD</tmp/q>, \"qubes.xml\", O_WRONLY) = 4</tmp/q/qubes.xml>",
        "unlink(\"/tmp/q/../q/./qubes.xml\") = 0",
        "rename(\"/tmp/q/qubes.xml\", \"/tmp/q/old\") = 0",
        "rename(\"/tmp/q/new\", \"/tmp/q/qubes.xml\") = 0",
        "renameat2(3</tmp/q>, \"new\", 3</tmp/q>, \"qubes.xml\", 0) = 0",
    ];
    for call in harm {
        let text = format!("{before}{pid} {call}\n");
        let path = Some(&b"/tmp/q/qubes.xml"[..]);
        let judged = validate(text.as_bytes(), SHIPPED, path).unwrap();
        assert_eq!(judged.refused.unwrap().call, call);
    }
}

/// The forms of strace: numbers in brackets, none, times, halves of calls.
#[test]
fn every_form_of_a_line_is_read() {
    let own = recorded("own.strace");
    let pid = own.split(' ').next().unwrap();
    let each = |form: &dyn Fn(&str) -> String| {
        let lines = own.lines().map(|line| {
            form(line.strip_prefix(pid).unwrap().trim_start()) + "\n"
        });
        lines.collect::<String>()
    };
    let bracket = format!("[pid {pid}] ");
    let forms: [String; 6] = [
        each(&|call| call.to_owned()),
        each(&|call| format!("{bracket}{call}")),
        each(&|call| format!("{pid} 12:34:56.789012 {call}")),
        each(&|call| format!("{pid} 1700000000.123456 {call}")),
        each(&|call| format!("[pid {pid:>7}]      0.000012 {call}")),
        each(&|call| match call.split_once(") ") {
            Some((head, tail)) if !call.starts_with('+') => {
                let (name, _) = head.split_once('(').unwrap();
                format!(
                    "{pid} {head} <unfinished ...>\n99 --- SIGCHLD {{}} ---\n\
                     {pid} <... {name} resumed>) {tail}"
                )
            }
            Some(_) | None => format!("{pid} {call}"),
        }),
    ];
    for text in forms {
        let judged = judged(&text, SHIPPED);
        assert_eq!(judged.refused, None, "{text}");
        assert_eq!(judged.processes.len(), 1, "{text}");
        assert_eq!(judged.processes[0].finished, 1, "{text}");
    }
    // The first process has no number until there is a second one.
    let (head, tail) = own.split_at(own.find("\n").unwrap() + 1);
    let head = head.trim_start_matches(pid).trim_start();
    let tail = tail.replace(&format!("{pid} "), &bracket);
    let text = format!("{head}strace: Process 9 attached\n{tail}");
    let judged = judged(&text, SHIPPED);
    assert_eq!(judged.processes.len(), 1);
    assert_eq!(judged.processes[0].process.to_string(), pid);
}

#[test]
fn what_is_no_trace_is_refused_with_its_line() {
    let say = |text: &str| {
        validate(text.as_bytes(), SHIPPED, None).unwrap_err().to_string()
    };
    let own = recorded("own.strace");
    let cut = &own[..own.find("O_NOFOLLOW").unwrap()];
    let line = cut.lines().count();
    let last = cut.lines().last().unwrap();
    assert_eq!(
        say(cut),
        format!(
            "line {line}: \"{last}\"; wanted arguments, `)` and `= RESULT`"
        )
    );
    assert_eq!(
        say("  \n"),
        "trace: empty; wanted lines of strace, or of --trace"
    );
    assert_eq!(
        say("<qubes/>\n"),
        "line 1: \"<qubes/>\"; wanted a call NAME(...) = RESULT, or a note of \
         strace"
    );
    assert_eq!(
        say("7 close(1) = 0\n7 <... close resumed>) = 0\n"),
        "line 2: \"7 <... close resumed>) = 0\"; wanted the rest of a call \
         that was begun before"
    );
    assert_eq!(
        say("7 close(1 <unfinished ...>\n7 close(2 <unfinished ...>\n"),
        "line 2: \"7 close(2 <unfinished ...>\"; wanted the end of the call \
         that was begun before"
    );
    assert_eq!(
        say("{\"process\":1}\n"),
        "line 1: \"{\"process\":1}\"; wanted one call and its answer, as \
         --trace writes them"
    );
    assert_eq!(
        say("7 close(1) = 0\n"),
        "trace: no lock on a file; wanted one, or --store"
    );
    let locks = |fd: u8, path: &str| {
        format!(
            "7 fcntl({fd}<{path}>, F_SETLK, {{l_type=F_WRLCK, \
             l_whence=SEEK_SET, l_start=0, l_len=0}}) = 0\n"
        )
    };
    assert_eq!(
        say(&[locks(3, "/a"), locks(4, "/b")].concat()),
        "trace: locks on /a, /b; wanted one file, or --store"
    );
    let path = Some(&b"/c"[..]);
    let error = validate(locks(3, "/a").as_bytes(), SHIPPED, path);
    assert_eq!(
        error.unwrap_err().to_string(),
        "trace: no call on /c; wanted at least one"
    );
    let error = validate(
        b"7 rename(\"new\", \"qubes.xml\") = 0\n",
        SHIPPED,
        Some(b"/d/qubes.xml"),
    );
    assert_eq!(
        error.unwrap_err().to_string(),
        "line 1: \"qubes.xml\" in an unknown directory; wanted a trace by \
         strace -y"
    );
    let long = "a".repeat(LINE_BYTES_MAX + 1);
    let error = validate(long.as_bytes(), SHIPPED, None).unwrap_err();
    assert!(matches!(error, TraceError::LineTooLong { line: 1, .. }));
}

/// Every call and every answer, to a line and back: what is read again is a
/// log, and the machine is asked about exactly that call.
#[test]
fn every_line_of_a_log_is_read_again() {
    let fd = Fd(1);
    let mut effects = vec![
        Effect::TryLock(fd),
        Effect::StatFd(fd),
        Effect::Read(fd),
        Effect::Sweep,
        Effect::Create,
        Effect::Write(fd),
        Effect::Sync(fd),
        Effect::CompareStat,
        Effect::CompareContent(fd),
        Effect::Rename,
        Effect::SyncDirectory,
        Effect::Unlink,
        Effect::Close(fd),
    ];
    for access in [Access::Read, Access::Write] {
        effects.push(Effect::Lock(fd, access));
        for name in [Name::Store, Name::LockFile, Name::Temp] {
            effects.push(Effect::Open(name, access));
            effects.push(Effect::StatName(name));
        }
    }
    let file = FileId { device: u64::MAX, inode: 7 };
    for effect in effects {
        for event in effect.answers(fd, file, Errno::DEADLINE) {
            let logged = Logged { process: 5, session: 6, effect, event };
            let line = logged.to_string();
            let judged = validate(line.as_bytes(), LOCK_FILE, None).unwrap();
            match judged.refused {
                Some(refused) => {
                    let call = format!("{effect} = {event}");
                    assert_eq!((refused.line, refused.call), (1, call));
                }
                None => assert!(matches!(effect, Effect::Open(..)), "{line}"),
            }
            let other = line.replace("\"session\":6", "\"session\":\"6\"");
            let error = validate(other.as_bytes(), LOCK_FILE, None);
            assert!(matches!(error, Err(TraceError::Line { line: 1, .. })));
        }
    }
}

/// The library tells of every call, and of a read or a wait that failed too.
#[test]
fn what_an_observer_hears_is_a_run() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("qubes.xml");
    fs::write(&path, "<qubes/>").unwrap();
    let heard = Arc::new(Mutex::new(String::new()));
    let mut store = Store::open(&path).unwrap();
    let hears = Arc::clone(&heard);
    store.observer = Some(Observer::new(move |logged| {
        let mut heard = hears.lock().unwrap();
        heard.push_str(&format!("{logged}\n"));
    }));
    store.wait_max = Some(std::time::Duration::ZERO);
    let loaded = store.lock().unwrap().load().unwrap();
    // Another session, while the first one has the lock.
    store.lock().unwrap_err();
    // A process that another test starts has this lock too, until it becomes
    // the program that it was started for.
    store.wait_max = Some(std::time::Duration::from_secs(60));
    loaded.verify().unwrap();
    let durable = loaded.save(b"<qubes>1</qubes>".to_vec()).unwrap();
    let durable = durable.again().save(b"<qubes>2</qubes>".to_vec()).unwrap();
    durable.release();
    store.read().unwrap();
    store.read_unlocked().unwrap();
    // Somebody writes without a lock: the save is refused.
    let loaded = store.lock().unwrap().load().unwrap();
    fs::write(&path, "<qubes>other</qubes>").unwrap();
    let failed = loaded.save(b"<qubes>3</qubes>".to_vec()).unwrap_err();
    failed.locked.unwrap().load().unwrap().release();
    // Sessions that are dropped: their closes are heard too.
    drop(store.lock().unwrap());
    drop(store.lock().unwrap().load().unwrap());
    let loaded = store.lock().unwrap().load().unwrap();
    drop(loaded.save(b"<qubes>4</qubes>".to_vec()).unwrap());
    let heard = heard.lock().unwrap();
    let judged = judged(&heard, SHIPPED);
    assert_eq!(judged.refused, None, "{heard}");
    let sessions: Vec<_> = judged
        .processes
        .iter()
        .map(|of| (of.finished, of.unfinished))
        .collect();
    assert_eq!(sessions, [(1, false); 8]);
    assert!(heard.contains("\"call\":\"unlink\""), "{heard}");
    // A save that was not asked about: one line less is no run.
    let lines: Vec<_> = heard.lines().collect();
    for (number, line) in lines.iter().enumerate() {
        if line.contains("\"call\":\"sweep\"") {
            let mut less = lines.clone();
            less.remove(number);
            let judged = validate(less.join("\n").as_bytes(), SHIPPED, None);
            assert!(judged.unwrap().refused.is_some());
        }
    }
}

/// Calls as a log has them.
fn log(process: u32, session: u64, calls: &[(Effect, Event)]) -> String {
    let line = |(effect, event): &(Effect, Event)| {
        let (effect, event) = (*effect, *event);
        format!("{}\n", Logged { process, session, effect, event })
    };
    calls.iter().map(line).collect()
}

/// A session with a lock file, in which every call does what it should.
fn with_lock_file() -> Vec<(Effect, Event)> {
    let mut session = Session::new(LOCK_FILE, Role::Writer { saves: 1 });
    let file = FileId { device: 1, inode: 7 };
    let mut calls = Vec::new();
    while let Continue(effect) = session.effect() {
        let fd = Fd(u8::try_from(calls.len()).unwrap());
        let event = effect.answers(fd, file, Errno::IO)[0];
        calls.push((effect, event));
        session = session.step(event).unwrap();
    }
    calls
}

/// Every read is in a log: who has opened and closed the store, and no more,
/// has nothing that it could save.
#[test]
fn nothing_is_saved_that_was_not_loaded() {
    let calls = with_lock_file();
    assert_eq!(judged(&log(7, 1, &calls), LOCK_FILE).refused, None);
    let at = calls
        .iter()
        .position(|(effect, _)| matches!(effect, Effect::Read(_)))
        .unwrap();
    let mut unread = calls.clone();
    let (read, _) = unread.remove(at);
    let mut failed = calls.clone();
    failed[at] = (read, Event::Failed(Errno::IO));
    // Read well before, and not again or not well.
    let opens_again = |event: Option<Event>| {
        let mut twice = calls.clone();
        let mut again = calls[at - 1..=at + 1].to_vec();
        match event {
            Some(event) => again[1].1 = event,
            None => drop(again.remove(1)),
        }
        twice.splice(at + 2..at + 2, again);
        twice
    };
    let failed_later = opens_again(Some(Event::Failed(Errno::IO)));
    let sweep = format!("{} = {}", Effect::Sweep, Event::Swept);
    for (calls, refused_at) in
        [(unread, at + 2), (failed, at + 3), (failed_later, at + 6)]
    {
        let (line, call, allowed) = refused(&log(7, 1, &calls), LOCK_FILE);
        assert_eq!((line, call), (refused_at, sweep.clone()));
        assert_eq!(allowed, ["open('qubes.xml', O_RDONLY)", "close(3)"]);
    }
    for event in [None, Some(Event::Read)] {
        let text = log(7, 1, &opens_again(event));
        assert_eq!(judged(&text, LOCK_FILE).refused, None, "{event:?}");
    }
}

/// Under strace a read is not seen: it may have been there.
#[test]
fn a_read_that_strace_does_not_show_may_have_been() {
    let lock = "{l_type=F_WRLCK, l_whence=SEEK_SET, l_start=0, l_len=0}";
    let calls = [
        "openat(AT_FDCWD</d>, \"qubes.xml.lock\", O_RDWR|O_CREAT, 0600) = \
         3</d/qubes.xml.lock>",
        &format!("fcntl(3</d/qubes.xml.lock>, F_OFD_SETLKW, {lock}) = 0"),
        "openat(AT_FDCWD</d>, \"qubes.xml\", O_RDONLY) = 4</d/qubes.xml>",
        "close(4</d/qubes.xml>) = 0",
        "openat(AT_FDCWD</d>, \"qubes.xml.a\", O_RDWR|O_CREAT|O_EXCL, 0600) \
         = 4</d/qubes.xml.a>",
        "fsync(4</d/qubes.xml.a>) = 0",
        "close(4</d/qubes.xml.a>) = 0",
        "rename(\"/d/qubes.xml.a\", \"/d/qubes.xml\") = 0",
        "openat(AT_FDCWD</d>, \"/d\", O_RDONLY|O_DIRECTORY) = 4</d>",
        "fsync(4</d>) = 0",
        "close(4</d>) = 0",
        "close(3</d/qubes.xml.lock>) = 0",
    ];
    let text = calls.map(|call| format!("7 {call}\n")).concat();
    let judged = judged(&text, LOCK_FILE);
    assert_eq!(judged.refused, None);
    assert_eq!(judged.processes[0].finished, 1);
}

/// What has ended takes no room; so many may be under way.
#[test]
fn any_number_of_sessions_may_come_one_after_the_other() {
    let opens = Effect::Open(Name::Store, Access::Read);
    let opens = (opens, Event::Opened(Fd(0)));
    let closes = (Effect::Close(Fd(0)), Event::Closed);
    let many = PROCESSES_MAX as u64 * 2;
    let both = [opens, closes];
    let of_one: String = (0..many).map(|n| log(7, n, &both)).collect();
    let of_many: String = (0..many).map(|n| log(n as u32, 1, &both)).collect();
    for text in [of_one, of_many] {
        let judged = judged(&text, SHIPPED);
        assert_eq!(judged.refused, None);
        assert_eq!(judged.processes.len() as u64, many);
        for of in judged.processes {
            assert_eq!((of.calls, of.finished, of.unfinished), (2, 1, false));
        }
    }
    // The first two are the same one, which has begun again.
    let order = [(9, 5), (7, 1), (9, 5), (8, 2)];
    let text = order.map(|(process, n)| log(process, n, &both)).concat();
    let sessions: Vec<_> = judged(&text, SHIPPED)
        .processes
        .into_iter()
        .map(|of| (of.process, of.session, of.calls, of.finished))
        .collect();
    let once = |process, n| (process, Some(n), 2, 1);
    assert_eq!(sessions, [(9, Some(5), 4, 2), once(7, 1), once(8, 2)]);
    // At a time.
    let room = PROCESSES_MAX as u64;
    let mut text: String = (0..room).map(|n| log(7, n, &[opens])).collect();
    assert_eq!(judged(&text, SHIPPED).processes.len(), PROCESSES_MAX);
    let one_more = text.clone() + &log(8, 1, &[opens]);
    let error = validate(one_more.as_bytes(), SHIPPED, None).unwrap_err();
    let processes_max = PROCESSES_MAX;
    assert_eq!(error, TraceError::Processes { processes_max });
    text.push_str(&log(7, 0, &[closes]));
    text.push_str(&log(8, 1, &[opens]));
    assert_eq!(judged(&text, SHIPPED).processes.len(), PROCESSES_MAX + 1);
}

/// The command, where it is built too.
#[cfg(feature = "cli")]
mod command {
    use std::io::Write as _;
    use std::path::PathBuf;
    use std::process::{Command, Output, Stdio};

    use super::*;

    fn check(arguments: &[&str], stdin: &str) -> (i32, String, String) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_qubes-fsm"))
            .arg("check")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
        let Output { status, stdout, stderr } =
            child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (status.code().unwrap(), text(stdout), text(stderr))
    }

    #[test]
    fn the_command_says_it_and_ends_with_its_code() {
        let text = recorded("python-2014.strace");
        let (code, out, err) =
            check(&["--trace", "-", "--protocol", "2014"], &text);
        assert_eq!((code, err.as_str()), (0, ""));
        assert!(
            out.starts_with("trace: output of strace, store /tmp/q/qubes.xml")
        );
        assert!(out.ends_with("\na run of 2014\n"), "{out}");
        let (code, out, err) = check(&["--trace", "-"], &text);
        assert_eq!((code, err.as_str()), (20, ""));
        assert!(out.contains("no run of shipped: line 7, process "), "{out}");
        assert!(
            out.ends_with("allowed there:\n  fsync(4)\n  unlink(temp-file)\n")
        );
        let (code, out, _) = check(&["--trace", "-", "--json"], &text);
        let object: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!((code, &object["verdict"]), (20, &"violated".into()));
        assert_eq!(object["refused"]["line"], 7);
        assert_eq!(object["refused"]["allowed"][0], "fsync(4)");
        let store = ["--trace", "-", "--store", "/elsewhere"];
        let (code, _, err) = check(&store, &text);
        assert_eq!(code, 10);
        assert_eq!(
            err,
            "qubes-fsm: ERROR: -: trace: no call on /elsewhere; wanted at least \
             one\n"
        );
        let (code, _, err) = check(&["--trace", "-"], "nonsense\n");
        assert_eq!(code, 13);
        assert!(err.starts_with("qubes-fsm: ERROR: -: line 1: "), "{err}");
        let (code, _, _) = check(&["--trace", "/nowhere"], "");
        assert_eq!(code, 10);
        let (code, _, _) = check(&["--trace", "-", "--writers", "2"], "");
        assert_eq!(code, 2);
    }

    /// A store of one qube, and what `set` is given.
    fn store(directory: &Path) -> PathBuf {
        let path = directory.join("qubes.xml");
        let qube = "<QubesVmCollection><QubesAppVm qid=\"2\" name=\"work\"/>\
                    </QubesVmCollection>";
        fs::write(&path, qube).unwrap();
        path
    }

    #[test]
    fn what_store_traces_is_a_run() {
        let directory = tempfile::tempdir().unwrap();
        let path = store(directory.path());
        let trace = directory.path().join("trace");
        for value in ["1", "2"] {
            let set = Command::new(env!("CARGO_BIN_EXE_qubes-fsm"))
                .args(["store", "set", "--store"])
                .arg(&path)
                .arg("--trace")
                .arg(&trace)
                .args(["work", "label", value])
                .output()
                .unwrap();
            assert_eq!(set.status.code(), Some(0), "{set:?}");
        }
        let text = fs::read_to_string(&trace).unwrap();
        let (code, out, _) = check(&["--trace", "-"], &text);
        assert_eq!(code, 0, "{out}");
        // Both have appended.
        assert_eq!(out.matches("complete sessions: 1").count(), 2, "{out}");
        // A log that is full is said once, and the store is saved.
        let set = Command::new(env!("CARGO_BIN_EXE_qubes-fsm"))
            .args(["store", "set", "--trace", "/dev/full", "--store"])
            .arg(&path)
            .args(["work", "label", "3"])
            .output()
            .unwrap();
        let err = String::from_utf8(set.stderr).unwrap();
        assert_eq!(set.status.code(), Some(0), "{err}");
        assert_eq!(err.matches("the trace ends here").count(), 1, "{err}");
        assert!(fs::read_to_string(&path).unwrap().contains("label=\"3\""));
    }

    /// The real thing: our own command under strace, now.
    #[test]
    #[ignore = "needs Debian's package strace"]
    fn store_set_under_strace_is_a_run() {
        let directory = tempfile::tempdir().unwrap();
        let path = store(directory.path());
        let trace = directory.path().join("trace");
        let calls = "trace=openat,open,fcntl,newfstatat,fstat,rename,renameat2,\
                     fsync,close,unlink";
        let traced = Command::new("strace")
            .args(["-f", "-y", "-e", calls, "-o"])
            .arg(&trace)
            .arg(env!("CARGO_BIN_EXE_qubes-fsm"))
            .args(["store", "set", "--store"])
            .arg(&path)
            .args(["work", "label", "1"])
            .output();
        let traced = traced.unwrap_or_else(|error| {
            panic!("strace: {error}; wanted Debian's package strace")
        });
        let err = String::from_utf8_lossy(&traced.stderr);
        assert!(traced.status.success(), "is ptrace permitted? {err}");
        let text = fs::read_to_string(&trace).unwrap();
        let judged = judged(&text, SHIPPED);
        assert_eq!(judged.refused, None, "{text}");
        assert_eq!(judged.processes.len(), 1, "{text}");
        assert_eq!(judged.processes[0].finished, 1, "{text}");
        let found = Path::new(judged.store.as_ref().unwrap());
        assert_eq!(found, path.canonicalize().unwrap());
        assert!(
            validate(text.as_bytes(), HISTORY_2016, None)
                .unwrap()
                .refused
                .is_some()
        );
    }
}

proptest! {
    /// Whatever stands there: an answer or an error, with a line that there is.
    #[test]
    fn a_damaged_trace_is_judged_or_refused(
        which in 0..RECORDED.len(),
        edits in proptest::collection::vec(
            (any::<proptest::sample::Index>(), any::<u8>(), 0..3_u8), 1..6),
    ) {
        let (name, protocol, _) = RECORDED[which];
        let mut bytes = recorded(name).into_bytes();
        for (index, byte, how) in edits {
            let at = index.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => bytes.truncate(at.max(1)),
            }
        }
        let lines = bytes.split(|byte| *byte == b'\n').count();
        let line = match validate(&bytes, protocol, None) {
            Ok(judged) => judged.refused.map_or(1, |refused| refused.line),
            Err(TraceError::Line { line, .. }) => line,
            Err(_) => 1,
        };
        prop_assert!((1..=lines).contains(&line));
    }

    /// A process may be killed at any time: what is left is a run still.
    #[test]
    fn the_beginning_of_a_run_is_a_run(
        which in 0..RECORDED.len(), left in any::<proptest::sample::Index>(),
    ) {
        let (name, protocol, _) = RECORDED[which];
        let text = recorded(name);
        let left = left.index(text.lines().count()) + 1;
        let lines: Vec<_> = text.lines().take(left).collect();
        let path = Some(&b"/tmp/q/qubes.xml"[..]);
        match validate(lines.join("\n").as_bytes(), protocol, path) {
            Ok(judged) => prop_assert_eq!(judged.refused, None),
            Err(error) => prop_assert!(
                matches!(error, TraceError::NoCalls { .. }), "{}", error
            ),
        }
    }
}

/// An event that no call of the trace has, to see that lines are compared.
#[test]
fn an_answer_that_a_call_cannot_have_is_refused() {
    let effect = Effect::Open(Name::Store, Access::Write);
    let event = Event::Written;
    let logged = Logged { process: 5, session: 6, effect, event };
    let (line, call, allowed) = refused(&logged.to_string(), SHIPPED);
    assert_eq!((line, call.as_str()), (1, "open('qubes.xml', O_RDWR) = 0"));
    let wanted = ["open('qubes.xml', O_RDWR)", "open('qubes.xml', O_RDONLY)"];
    assert_eq!(allowed, wanted);
}

/// Of what was given back only counts are kept: a service that reads for ever
/// has a log of any length.
#[test]
fn each_read_gives_its_file_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("qubes.xml");
    fs::write(&path, "<qubes/>").unwrap();
    let log = Arc::new(Mutex::new(String::new()));
    let mut store = Store::open(&path).unwrap();
    let heard = Arc::clone(&log);
    store.observer = Some(Observer::new(move |logged| {
        heard.lock().unwrap().push_str(&format!("{logged}\n"));
    }));
    for _ in 0..2_500 {
        store.read().unwrap();
        store.read_unlocked().unwrap();
    }
    // What cannot be read is given back too.
    store.bytes_max = 1;
    assert!(store.read().is_err());
    assert!(store.read_unlocked().is_err());
    let log = log.lock().unwrap();
    let seen = validate(log.as_bytes(), SHIPPED, None).unwrap();
    assert_eq!(seen.refused, None);
    assert_eq!(seen.processes.len(), 5_002);
    assert!(seen.processes.iter().all(|one| one.finished == 1));
}
