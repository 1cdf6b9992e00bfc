//! Where the system gives no thread, or fewer than wanted, a command says so
//! or does without; none panics.

#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

mod archive;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use archive::{Form, PASSPHRASE, members, outer, source};

const OURS: &str = env!("CARGO_BIN_EXE_qubes-fsm");
/// Larger than any address space.
const STACK_MAX: &str = "140737488355328";
/// Stacks of which the address space has room for exactly so many.
const STACK: u64 = 4 << 30;
/// More threads than any of these commands has at once.
const THREADS: u64 = 12;
const STORE: &str = "<QubesVmCollection>\n  \
    <QubesAppVm qid=\"5\" name=\"work\" label=\"red\"/>\n\
    </QubesVmCollection>\n";

/// What the commands need, in a directory in which they run.
fn place() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::create_dir(at("from")).unwrap();
    source(&at("from"));
    let form = Form { filter: Some("gzip"), ..Form::default() };
    fs::write(at("archive"), outer(&members(&at("from"), form))).unwrap();
    fs::write(at("passphrase"), format!("{PASSPHRASE}\n")).unwrap();
    fs::write(at("qubes.xml"), STORE).unwrap();
    let restore = format!("restore archive --to restored {WITH}");
    let output = run(directory.path(), "", &restore);
    assert!(output.status.success(), "{output:?}");
    directory
}

const WITH: &str = "--passphrase-file passphrase";

/// Each by a shell, whose `$0` is the program.
fn commands() -> Vec<(&'static str, String)> {
    let store = "store update --store qubes.xml --wait 30s -- sh -c \
                 'exec sed s/red/blue/'";
    [
        ("check", "check golden --writers 2 --threads 2".to_owned()),
        ("loom", "check lock --engine loom --protocol 2013".to_owned()),
        ("conform", "check --conform 'echo ready'".to_owned()),
        (
            "store get",
            "store get --store qubes.xml --wait 30s work label".to_owned(),
        ),
        ("store update", store.to_owned()),
        ("list", format!("list archive {WITH}")),
        ("list -", format!("list - {WITH} < archive")),
        (
            "list by command",
            "list archive --passphrase-command 'cat passphrase'".to_owned(),
        ),
        ("verify", format!("verify archive {WITH}")),
        ("restore", format!("restore archive --to to {WITH}")),
        ("backup", format!("backup --from restored --to made {WITH}")),
    ]
    .into()
}

/// Runs it with stacks of that size, behind what the shell does first.
fn run(directory: &Path, first: &str, command: &str) -> Output {
    let script = format!("{first} \"$0\" {command}");
    Command::new("sh")
        .args(["-c", &script, OURS])
        .current_dir(directory)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// How it ended, which is never a panic.
#[track_caller]
fn ended(directory: &Path, first: &str, command: &str) -> (i32, String) {
    let output = run(directory, first, command);
    let err = String::from_utf8(output.stderr).unwrap();
    let code = output.status.code();
    assert!(!err.contains("panicked"), "{first} {command}: {err}");
    (code.unwrap_or_else(|| panic!("{first} {command}: {err}")), err)
}

#[test]
fn a_command_without_any_thread_fails_or_does_without() {
    let place = place();
    let first = format!("RUST_MIN_STACK={STACK_MAX} exec");
    let refused = "qubes-fsm: ERROR: signals: start a thread: Resource \
                   temporarily unavailable (os error 11)\n";
    for (name, command) in commands() {
        let found = ended(place.path(), &first, &command);
        match name {
            "store get" => assert_eq!(found, (0, String::new())),
            "store update" => {
                let text = refused.replace("signals", "sh");
                assert_eq!(found, (1, text));
                let store = fs::read_to_string(place.path().join("qubes.xml"));
                assert_eq!(store.unwrap(), STORE);
            }
            _ => assert_eq!(found, (1, refused.to_owned()), "{name}"),
        }
    }
}

/// So that each thread of a command is once the one that is not given.
#[test]
fn a_command_with_few_threads_fails_or_does_without() {
    let place = place();
    for (name, command) in commands() {
        let codes = (0..=THREADS).map(|threads| {
            let room = (threads * STACK + STACK / 2) >> 10;
            let first = format!(
                "rm -rf to made && ulimit -v {room} && \
                 RUST_MIN_STACK={STACK} exec"
            );
            let (code, err) = ended(place.path(), &first, &command);
            eprintln!("{name} {threads}: {code} {err}");
            code
        });
        let codes: Vec<i32> = codes.collect();
        let done = if name == "conform" { 18 } else { 0 };
        assert_eq!(codes.last(), Some(&done), "{name}");
        let others = codes.iter().filter(|code| ![done, 1].contains(code));
        assert_eq!(others.count(), 0, "{name}: {codes:?}");
    }
}
