//! Programs under every schedule of two: who loses an update, and what is
//! said of a program that does not answer as it should.

#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

/// Exit code, stdout, stderr of `check --conform`.
fn conform(program: &str, arguments: &[&str]) -> (i32, String, String) {
    let directory = tempfile::tempdir().unwrap();
    // Without a disk below it a sync costs nothing.
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() { memory } else { directory.path() };
    let place = tempfile::tempdir_in(place).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_qubes-fsm"))
        .env("TMPDIR", place.path())
        .args(["check", "--conform", program])
        .args(arguments)
        .output()
        .unwrap();
    // Whatever happens, no directory stays.
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0, "{program}");
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let code = output.status.code().unwrap();
    (code, text(output.stdout), text(output.stderr))
}

fn rows(program: &str, arguments: &[&str]) -> (i32, Vec<Value>) {
    let json = [arguments, &["--json"]].concat();
    let (code, out, err) = conform(program, &json);
    assert_eq!(err, "", "{program}");
    (code, serde_json::from_str(&out).unwrap())
}

fn example(protocol: &str) -> String {
    let root = env!("CARGO_MANIFEST_DIR");
    format!("exec python3 '{root}/examples/conform/protocols.py' {protocol}")
}

fn odd(kind: &str) -> String {
    let root = env!("CARGO_MANIFEST_DIR");
    format!("exec python3 '{root}/tests/python/odd_child.py' {kind}")
}

/// (protocol, steps to a lost update)
const EXAMPLES: [(&str, Option<u64>); 4] =
    [("2013", Some(16)), ("2014", None), ("2016", Some(20)), ("shipped", None)];

/// As the explorer says of the machines; there the first two have two syncs
/// each, which those programs do not make.
#[test]
fn each_example_fares_as_its_protocol_does() {
    //= spec/lock.md#s1-no-lost-update
    for (protocol, steps) in EXAMPLES {
        let (code, rows) = rows(&example(protocol), &[]);
        assert_eq!(code, if steps.is_some() { 20 } else { 0 }, "{protocol}");
        let verdicts: Vec<_> = rows.iter().map(|r| &r["verdict"]).collect();
        let first = if steps.is_some() { "violated" } else { "holds" };
        assert_eq!(verdicts, [first, "holds", "holds"], "{protocol}");
        assert_eq!(rows[0]["steps"].as_u64(), steps, "{protocol}");
        assert_eq!(rows[0]["coverage"], "bounded", "{protocol}");
        assert_eq!(rows[0]["bound"], "2 preemptions", "{protocol}");
        // Not for want of trying.
        let note = rows[0]["note"].as_str().unwrap();
        let waited = note.rsplit_once("one waited in ").unwrap().1;
        assert!(waited.parse::<u32>().unwrap() > 10, "{note}");
    }
}

#[test]
fn the_shortest_schedule_is_shown_in_two_columns() {
    let (code, out, err) = conform(&example("2013"), &[]);
    assert_eq!((code, err.as_str()), (20, ""));
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(
        lines[0],
        "conform (2w, kernel): S1 no lost update, violated in 16 steps"
    );
    let column = lines[2].find("P2").unwrap();
    for wanted in [
        "fcntl(3, SETLK, F_WRLCK) ... waits",
        "... fcntl(3, SETLK, F_WRLCK) = granted",
        "*** the update of P1 is lost: 'qubes.xml' is without it",
    ] {
        let line = lines.iter().find(|line| line.contains(wanted));
        assert_eq!(line.and_then(|line| line.find(wanted)), Some(column));
    }
    assert!(out.contains(" of 74 schedules end so; "), "{out}");
    assert!(out.contains("bounded (2 preemptions)"), "{out}");
    assert_eq!(*lines.last().unwrap(), "3 verdicts, 1 not the one expected");
}

/// With no interruption sessions are one behind the other.
#[test]
fn the_bound_decides_what_is_seen() {
    let (code, rows) = rows(&example("2013"), &["--preemptions", "0"]);
    assert_eq!((code, &rows[0]["executions"]), (0, &2.into()));
    assert_eq!(rows[0]["bound"], "0 preemptions");
    let found = self::rows(&example("2013"), &["--preemptions", "1"]);
    assert_eq!(found.0, 20);
}

/// Two sessions of two calls and an end each can be laid into each other in
/// 6! / (3! 3!) = 20 ways, and all are run.
#[test]
fn without_a_bound_that_matters_every_schedule_is_run() {
    let (code, rows) = rows(&odd("polite"), &["--preemptions", "9"]);
    assert_eq!(code, 0, "{rows:?}");
    assert_eq!(rows[0]["executions"], 20);
    assert_eq!(rows[0]["coverage"], "exhaustive");
    assert_eq!(rows[0]["bound"], Value::Null);
    let (code, rows) = self::rows(&odd("append"), &["--preemptions", "9"]);
    assert_eq!((code, &rows[0]["executions"]), (20, &20.into()));
    assert_eq!(rows[0]["steps"], 4);
    // Nothing is lost if both calls of one come before those of the other; then
    // its end can be at four places: 2 times 4.
    let note = rows[0]["note"].as_str().unwrap();
    assert!(note.starts_with("12 of 20 schedules end so; "), "{note}");
}

#[test]
fn a_store_that_is_torn_and_a_wait_without_end_are_found() {
    for (kind, row, note) in [
        ("torn", 1, "*** 'qubes.xml' has \"start\\u{a}PP\""),
        ("gone", 1, "*** 'qubes.xml' does not exist"),
    ] {
        let (code, rows) = rows(&odd(kind), &[]);
        assert_eq!((code, &rows[row]["verdict"]), (20, &"violated".into()));
        let trace = rows[row]["trace"].as_array().unwrap();
        assert_eq!(trace.last().unwrap()["text"], note);
    }
    // Nobody saves, and nobody says why: that is what is wrong.
    let (code, rows) = rows(&odd("stuck"), &[]);
    assert_eq!((code, &rows[2]["verdict"]), (20, &"violated".into()));
    let trace = rows[2]["trace"].as_array().unwrap();
    let last = &trace.last().unwrap()["text"];
    assert_eq!(last, "*** waits, and nobody can go on");
}

/// (how the program is wrong, what is said)
const WRONG: [(&str, &str); 10] = [
    ("dies", "P1 ended: exit status: 7; wanted an answer"),
    ("mute", "P1 ended: exit status: 3; wanted an answer"),
    ("unready", "P1 answered \"no\"; wanted ready"),
    ("hangs", "P1: no answer for 5s; wanted one"),
    (
        "nonsense",
        "P1 answered \"\\u{1b}[1mwhat?\"; wanted did CALL, wait CALL, \
         failed TEXT or done",
    ),
    ("eager", "P1 answered \"did one\"; wanted nothing before a question"),
    (
        "fails",
        "in no schedule did both save: no space \\u{1b} left; wanted one at \
         least",
    ),
    (
        "changes",
        "P1, step 2: the end in a schedule that was repeated; wanted a call \
         as before",
    ),
    ("endless", "more calls in one schedule; wanted at most 10000"),
    ("long", "P1 answered \"did xxx"),
];

#[test]
fn a_program_that_does_not_answer_is_named_and_ended() {
    let directory = tempfile::tempdir().unwrap();
    for (kind, wanted) in WRONG {
        let numbers = directory.path().join(kind);
        let program = format!("{} '{}'", odd(kind), numbers.display());
        let limit = if kind == "hangs" { "5s" } else { "1min" };
        let (code, out, err) = conform(&program, &["--answer-max", limit]);
        assert_eq!((code, out.as_str()), (18, ""), "{kind}: {err}");
        // Either may be the first that speaks without a question.
        let err = match kind {
            "eager" => err.replace("P2 answered", "P1 answered"),
            _ => err,
        };
        let prefix = "qubes-fsm: ERROR: check: conform: ";
        if kind == "long" {
            assert!(err.starts_with(&format!("{prefix}{wanted}")), "{err}");
            let end = "x\"; wanted a line of at most 4096 bytes\n";
            assert!(err.ends_with(end), "{err}");
        } else {
            assert_eq!(err, format!("{prefix}{wanted}\n"), "{kind}");
        }
        let numbers = fs::read_to_string(numbers).unwrap();
        assert!((1..=2).contains(&numbers.lines().count()), "{kind}");
        for number in numbers.lines() {
            let left = Path::new("/proc").join(number).exists();
            assert!(!left, "{kind}: {number} is left");
        }
    }
    let (code, _, err) = conform("exit 5", &[]);
    assert_eq!(code, 18);
    assert!(err.ends_with("P1 ended: exit status: 5; wanted an answer\n"));
}

/// A shell between us and the program: the program is ended all the same.
#[test]
fn what_a_program_has_started_is_ended_too() {
    let directory = tempfile::tempdir().unwrap();
    let numbers = directory.path().join("numbers");
    // Its stderr is not ours: if it is left we must not wait for its end.
    let program = format!(
        "{} '{}' 2>/dev/null; true",
        &odd("hangs")[5..],
        numbers.display()
    );
    let (code, _, err) = conform(&program, &["--answer-max", "5s"]);
    assert_eq!(code, 18, "{err}");
    for number in fs::read_to_string(numbers).unwrap().lines() {
        let path = Path::new("/proc").join(number).join("stat");
        // Killed; its parent is gone, so nobody here has waited for its end,
        // and somebody else has to reap it.
        let state = || {
            let stat = fs::read_to_string(&path).unwrap_or(") Z".to_owned());
            stat.rsplit_once(") ").unwrap().1.to_owned()
        };
        let since = Instant::now();
        while !state().starts_with('Z') && since.elapsed().as_secs() < 60 {
            std::thread::sleep(Duration::from_millis(10));
        }
        let state = state();
        assert!(state.starts_with('Z'), "{number}: {state}");
    }
}

#[test]
fn a_search_that_is_cut_says_so() {
    let (code, rows) = rows(&example("shipped"), &["--time-max", "1ms"]);
    assert_eq!((code, &rows[0]["coverage"]), (3, &"cut".into()));
    assert_eq!(rows[0]["verdict"], "undecided");
}

#[test]
fn arguments_of_other_checks_are_refused() {
    for argument in
        [["--writers", "2"], ["--protocol", "2013"], ["--threads", "2"]]
    {
        assert_eq!(conform("true", &argument).0, 2);
    }
    let (code, _, _) = conform("true", &["lock"]);
    assert_eq!(code, 2);
}
