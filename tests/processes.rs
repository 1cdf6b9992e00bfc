//! Real processes on a real file system: ours, those of 2014 in Python, and
//! threads; none loses the update of another, killed or not.
//!
//! `QUBES_FSM_PROCESSES` of each kind (2) make `QUBES_FSM_INCREMENTS` each
//! (10); `QUBES_FSM_KILLS` rounds (40) end with kill -9 at moments that
//! `QUBES_FSM_SEED` chooses.

#![cfg(feature = "cli")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may fail loudly"
)]

mod common;

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::{
    FILE, INCREMENT, OURS, Place, await_open, document, finish, increment,
    python, setting,
};
use qubes_fsm::fsm::Effect;
use qubes_fsm::store::document::{Document, Limits};
use qubes_fsm::store::{Loaded, Observer, Store, StoreError};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::{
    Pid, Signal, kill_process, kill_process_group, test_kill_process,
};

/// Longer than anybody holds a lock here.
const WAIT: [&str; 2] = ["--wait", "60s"];
/// How temporary files of ours begin.
const MARK: &str = ".qubes.xml.qubes-fsm-";

#[test]
//= spec/lock.md#s1-no-lost-update
//= spec/lock.md#mode-and-group-are-kept
fn nothing_is_lost_between_ours_and_those_of_2014() {
    let processes = setting("QUBES_FSM_PROCESSES", 2);
    let increments = setting("QUBES_FSM_INCREMENTS", 10);
    let place = Place::new();
    let before = place.seen();
    thread::scope(|scope| {
        for _ in 0..processes {
            scope.spawn(|| {
                for _ in 0..increments {
                    place.succeed(&filter());
                }
            });
            scope.spawn(|| {
                let count = increments.to_string();
                let follow = [
                    "follow",
                    place.store.to_str().unwrap(),
                    "work",
                    "backup_size",
                    &count,
                ];
                let (code, _, err) = finish(increment(&follow));
                assert_eq!(code, 0, "{err}");
            });
        }
    });
    assert_eq!(place.read(), document(2 * processes * increments));
    // Mode, owner, group and directory too, once the bytes are as before.
    fs::write(&place.store, document(0)).unwrap();
    place.assert_as(&before);
}

#[test]
//= spec/lock.md#locks-are-ofd-locks
fn nothing_is_lost_between_threads_of_one_process() {
    let place = Place::new();
    let before = place.seen();
    let store = Store::open(&place.store).unwrap();
    let mut polling = store.clone();
    polling.wait_max = Some(common::PATIENCE);
    thread::scope(|scope| {
        for store in [&store, &store, &polling, &polling] {
            scope.spawn(|| {
                for _ in 0..10 {
                    // Two saves under one lock: the second stands on a file
                    // that was locked before anybody could find it.
                    let loaded = store.lock().unwrap().load().unwrap();
                    let content = incremented(&loaded);
                    let loaded = loaded.save(content).unwrap().again();
                    let content = incremented(&loaded);
                    loaded.save(content).unwrap().release();
                }
            });
        }
    });
    assert_eq!(place.read(), document(4 * 10 * 2));
    fs::write(&place.store, document(0)).unwrap();
    place.assert_as(&before);
}

#[test]
//= spec/lock.md#a-wait-has-an-end
fn ours_waits_for_a_lock_of_python() {
    let place = Place::new();
    let before = place.seen();
    let mut holder = increment(&["hold", place.store.to_str().unwrap()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut out = BufReader::new(holder.stdout.take().unwrap());
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "held\n");

    let set = ["set", "--store", FILE, "--wait", "200ms"];
    let set = [&set[..], &["work", "backup_size", "1"]].concat();
    let text = "qubes-fsm: ERROR: FILE: locked by another process until the \
                time to wait was over; wanted the lock\n";
    assert_eq!(place.run(&set), (11, String::new(), place.fill(text)));
    place.assert_as(&before);
    let get = ["get", "--store", FILE, "--wait", "1ms", "work", "label"];
    assert_eq!(place.run(&get), (11, String::new(), place.fill(text)));

    drop(holder.stdin.take());
    assert!(holder.wait().unwrap().success());
    place.succeed(&set);
    assert_eq!(place.read(), document(1));
}

#[test]
fn python_is_refused_while_a_command_of_ours_runs() {
    let place = Place::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let fifo = elsewhere.path().join("go");
    let mode = Mode::RUSR | Mode::WUSR;
    mknodat(CWD, &fifo, FileType::Fifo, mode, 0).unwrap();
    let script = "echo ready >&2; read -r go <\"$0\"; \
                  sed 's/backup_size=\"0\"/backup_size=\"1\"/'";
    let fifo = fifo.to_str().unwrap();
    let update = ["update", "--store", FILE, "--", "sh", "-c", script, fifo];
    let mut ours = place.ours(&update).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut err = BufReader::new(ours.stderr.take().unwrap());
    err.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");

    assert_eq!(try_lock(&place), "refused\n");
    // Both ends, so that neither waits for the other.
    let mut go =
        fs::OpenOptions::new().read(true).write(true).open(fifo).unwrap();
    go.write_all(b"go\n").unwrap();
    assert!(ours.wait().unwrap().success());
    assert_eq!(try_lock(&place), "granted\n");
    assert_eq!(place.read(), document(1));
}

#[test]
//= spec/lock.md#lock-the-new-file-before-the-rename
fn the_new_file_is_locked_until_it_is_released() {
    let place = Place::new();
    let store = Store::open(&place.store).unwrap();
    let loaded = store.lock().unwrap().load().unwrap();
    let durable = loaded.save(document(1).into_bytes()).unwrap();
    assert_eq!(try_lock(&place), "refused\n");
    durable.release();
    assert_eq!(try_lock(&place), "granted\n");
}

#[test]
//= spec/lock.md#close-on-exec
fn what_a_command_leaves_running_does_not_inherit_the_lock() {
    let place = Place::new();
    let script = "sleep 100 >&- 2>&- & echo $! >&2; cat";
    // Nothing is changed, so the file stays the one that was locked.
    let update = ["update", "--store", FILE, "--", "sh", "-c", script];
    let (code, _, err) = place.run(&update);
    assert_eq!(code, 0, "{err}");
    let left = Pid::from_raw(err.trim().parse().unwrap()).unwrap();
    test_kill_process(left).unwrap();
    let answer = try_lock(&place);
    kill_process(left, Signal::KILL).unwrap();
    assert_eq!(answer, "granted\n");
}

/// The race of 2013: whoever waits, waits for the lock of the old file.
#[test]
//= spec/lock.md#compare-after-the-lock
fn who_waited_for_a_replaced_file_starts_again() {
    let place = Place::new();
    let store = Store::open(&place.store).unwrap();
    let loaded = store.lock().unwrap().load().unwrap();
    let set = ["set", "--store", FILE, "work", "label", "later"];
    let mut waiting = place.ours(&[&set[..], &WAIT].concat()).spawn().unwrap();
    await_open(&mut waiting, &place.store);
    loaded.save(document(1).into_bytes()).unwrap().release();
    assert!(waiting.wait().unwrap().success());
    let both = document(1).replace("label='a&#9;&lt;b'", "label='later'");
    assert_eq!(place.read(), both);
}

/// Whenever a stranger comes, between any two calls of a save up to the last
/// look, its change stays: a rename over the store, and a write in place that
/// leaves size and time as they were.
//= spec/lock.md#s8-others-changes-stay
//= spec/lock.md#refuse-what-was-not-loaded
#[test]
fn a_stranger_may_come_between_any_two_calls() {
    for in_place in [false, true] {
        let mut came = 0;
        for at in 0.. {
            let place = Place::new();
            let mut store = Store::open(&place.store).unwrap();
            let (path, calls) = (place.store.clone(), AtomicUsize::new(0));
            store.observer = Some(Observer::new(move |logged| {
                let loaded = calls.load(Ordering::SeqCst) > 0
                    || matches!(logged.effect, Effect::Read(_));
                if loaded && calls.fetch_add(1, Ordering::SeqCst) == at {
                    stranger(&path, in_place);
                }
            }));
            let loaded = store.lock().unwrap().load().unwrap();
            let failed = loaded.save(document(1).into_bytes());
            // Behind the last look nobody can see it.
            if failed.is_ok() {
                break;
            }
            assert!(failed.is_err(), "{in_place} {at}");
            assert_eq!(place.read(), document(7), "{in_place} {at}");
            assert!(place.others().is_empty(), "{:?}", place.others());
            came += 1;
        }
        // Behind read, sweep, create, write, fsync and lock; behind the read
        // of the content only a rename is seen.
        assert_eq!(came, if in_place { 6 } else { 7 });
    }
}

fn stranger(path: &Path, in_place: bool) {
    if in_place {
        let before = fs::metadata(path).unwrap();
        assert_eq!(before.len(), document(7).len() as u64);
        let mut file = fs::OpenOptions::new().write(true).open(path).unwrap();
        file.write_all(document(7).as_bytes()).unwrap();
        file.set_modified(before.modified().unwrap()).unwrap();
    } else {
        let beside = path.with_extension("theirs");
        fs::write(&beside, document(7)).unwrap();
        fs::rename(&beside, path).unwrap();
    }
}

#[test]
//= spec/lock.md#refuse-what-was-not-loaded
fn a_session_refuses_to_save_over_a_stranger() {
    let place = Place::new();
    let store = Store::open(&place.store).unwrap();
    let loaded = store.lock().unwrap().load().unwrap();
    fs::write(&place.store, document(7)).unwrap();
    let failed = loaded.save(document(1).into_bytes()).unwrap_err();
    let path = place.store.clone();
    assert_eq!(failed.error, StoreError::Changed { path });
    // The lock is held still: load again, and save what is wanted.
    let loaded = failed.locked.unwrap().load().unwrap();
    assert_eq!(loaded.content(), document(7).as_bytes());
    assert_eq!(try_lock(&place), "refused\n");
    loaded.save(document(8).into_bytes()).unwrap().release();
    assert_eq!(place.read(), document(8));
    assert!(place.others().is_empty(), "{:?}", place.others());
}

#[test]
//= spec/lock.md#leftovers-are-swept
fn leftovers_of_the_dead_are_swept_and_those_of_the_living_are_not() {
    let place = Place::new();
    let beside = |name: &str| place.store.with_file_name(name);
    let names = [
        ".qubes.xml.qubes-fsm-1-0-dead".to_owned(),
        ".qubes.xml.qubes-fsm-2-0-alive".to_owned(),
        ".other.xml.qubes-fsm-1-0-dead".to_owned(),
        "qubes.xml.qubes-fsm-1-0-dead".to_owned(),
    ];
    for name in &names {
        fs::write(beside(name), document(9)).unwrap();
    }
    let alive = Store::open(&beside(&names[1])).unwrap().lock().unwrap();
    set(&place, "1");
    let mut left = names[1..].to_vec();
    left.sort();
    let left: Vec<OsString> = left.into_iter().map(OsString::from).collect();
    assert_eq!(place.others(), left);
    assert_eq!(place.read(), document(1));
    alive.release();
    set(&place, "2");
    assert!(!beside(&names[1]).exists());
}

/// Increments in a loop: `try N` before, `done N` after each that ended with
/// exit 0. Arguments: the binary, start, verb, store, interpreter, filter.
const LOOP: &str = r#"
n=$1
while :; do
    n=$((n + 1))
    echo "try $n"
    case $2 in
    set) "$0" store set --store "$3" work backup_size "$n" ;;
    *) "$0" store update --store "$3" -- \
        "$4" -I -S "$5" filter work backup_size ;;
    esac || exit 1
    echo "done $n"
done 2>&1
"#;

#[test]
//= spec/lock.md#s3-never-torn
//= spec/lock.md#s5-nothing-is-left
fn kill_9_at_any_moment_loses_nothing_acknowledged() {
    let rounds = setting("QUBES_FSM_KILLS", 40);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = setting("QUBES_FSM_SEED", u64::from(now.subsec_nanos()));
    eprintln!("QUBES_FSM_SEED={seed}");
    let mut random = Random(seed);
    let place = Place::new();
    let before = place.seen();
    let mut value = 0;
    let mut cut = 0;
    for round in 0..rounds {
        let verb = if round % 2 == 0 { "set" } else { "update" };
        let pause = Duration::from_micros(random.below(30_000));
        let (acknowledged, attempted) = kill(&place, value, verb, pause);
        let found = number(&place);
        assert!(
            acknowledged.unwrap_or(value) <= found && found <= attempted,
            "round {round}: found {found}, acknowledged {acknowledged:?}, \
             attempted {attempted}"
        );
        // One complete version, and at most one temporary file.
        assert_eq!(place.read(), document(found), "round {round}");
        let others = place.others();
        assert!(others.len() <= 1, "round {round}: {others:?}");
        for name in &others {
            assert!(name.to_str().unwrap().starts_with(MARK), "{name:?}");
        }
        cut += others.len();

        // No lock is left; and the next save sweeps.
        value = found + 1;
        let text = value.to_string();
        set(&place, &text);
        assert_eq!(place.read(), document(value), "round {round}");
        let others = place.others();
        assert!(others.is_empty(), "round {round}: {others:?} is left");
    }
    eprintln!("{rounds} rounds, {cut} with a temporary file left, to {value}");
    fs::write(&place.store, document(0)).unwrap();
    place.assert_as(&before);
}

/// Starts [`LOOP`], kills all of it, and gives the last number that was
/// acknowledged and the last that was attempted.
fn kill(
    place: &Place,
    start: u64,
    verb: &str,
    pause: Duration,
) -> (Option<u64>, u64) {
    let mut group = Command::new("sh")
        .args(["-c", LOOP, OURS, &start.to_string(), verb])
        .args([place.store.to_str().unwrap(), python(), INCREMENT])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    let mut out = BufReader::new(group.stdout.take().unwrap());
    let mut text = String::new();
    out.read_line(&mut text).unwrap();
    // The moment itself: nothing is waited for.
    thread::sleep(pause);
    let leader = Pid::from_child(&group);
    kill_process_group(leader, Signal::KILL).unwrap();
    // The end of the pipe: the last of the group is gone.
    out.read_to_string(&mut text).unwrap();
    group.wait().unwrap();
    let (mut acknowledged, mut attempted) = (None, None);
    for line in text.lines() {
        let (word, number) = line.split_once(' ').unwrap_or((line, ""));
        match (word, number.parse()) {
            ("try", Ok(number)) => attempted = Some(number),
            ("done", Ok(number)) => acknowledged = Some(number),
            _ => panic!("the loop said: {text}"),
        }
    }
    (acknowledged, attempted.unwrap())
}

/// SplitMix64: what is random here must be repeatable.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

/// `store update` whose command increments.
fn filter() -> Vec<&'static str> {
    let update = ["update", "--store", FILE];
    let command = ["--", python(), "-I", "-S", INCREMENT, "filter"];
    let tail = ["work", "backup_size"];
    [&update[..], &WAIT, &command, &tail].concat()
}

/// Sets the number, soon: no lock is in the way.
fn set(place: &Place, value: &str) {
    let set = ["set", "--store", FILE, "--wait", "10s"];
    place.succeed(&[&set[..], &["work", "backup_size", value]].concat());
}

fn try_lock(place: &Place) -> String {
    let (code, out, err) =
        finish(increment(&["try", place.store.to_str().unwrap()]));
    assert_eq!(code, 0, "{err}");
    out
}

fn parsed(content: &[u8]) -> Document {
    Document::parse(content.to_vec(), &Limits::default()).unwrap()
}

fn number(place: &Place) -> u64 {
    let document = parsed(place.read().as_bytes());
    document.get("work", "backup_size").unwrap().parse().unwrap()
}

fn incremented(loaded: &Loaded) -> Vec<u8> {
    let document = parsed(loaded.content());
    let number = document.get("work", "backup_size").unwrap();
    let number = number.parse::<u64>().unwrap() + 1;
    document.set("work", "backup_size", &number.to_string()).unwrap()
}
