//! On a terminal: the prompt, progress, colours. python3 makes the terminal.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::process::Command;

use rustix::process::Signal;

use crate::archive::PASSPHRASE;
use crate::running::{Done, Running, await_it, catches, kill};
use crate::scene::Scene;

const TERMINAL: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/terminal.py");

/// `script` in a shell on a terminal, with the command as `"$0" "$@"`.
fn shell(scene: &Scene, script: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("python3");
    let ours = scene.bare(arguments);
    command.args(["-I", "-S", TERMINAL, "sh", "-c", script]);
    command.arg(ours.get_program()).args(ours.get_args());
    command.env_remove("NO_COLOR").env("TERM", "xterm");
    command.current_dir(scene.directory.path());
    command
}

fn start(command: &mut Command) -> Running {
    let version = Command::new("python3").arg("-V").output();
    assert!(version.is_ok(), "no python3; install the package python3");
    Running::start(command)
}

fn asked(running: &Running) {
    await_it("the prompt", || running.out_so_far().contains("Passphrase: "));
}

/// What the terminal was left as.
fn echo(done: &Done) -> &str {
    done.err.lines().last().unwrap()
}

/// The command itself, while it waits.
fn command_of(running: &Running) -> u32 {
    let shell = || running.err_so_far().lines().next()?.parse::<u32>().ok();
    await_it("the number of the process", || shell().is_some());
    let number = shell().unwrap();
    await_it("handlers of signals", || catches(number));
    number
}

#[test]
fn the_passphrase_is_asked_for_while_stdin_is_the_archive() {
    let scene = Scene::new();
    let piped = "exec \"$0\" \"$@\" < archive";
    for (typed, code, says) in [
        (PASSPHRASE, 0, "not bound"),
        // A line can be corrected: the kernel does it.
        ("correct horsx\x7fe", 0, "not bound"),
        ("wrong", 12, "ERROR: backup-header: no digest makes"),
        ("", 2, "ERROR: passphrase: an empty first line"),
    ] {
        let command = &mut shell(&scene, piped, &["verify", "-"]);
        let mut running = start(command);
        asked(&running);
        running.write(format!("{typed}\n").as_bytes());
        let done = running.end();
        assert_eq!(done.code, code, "{done:?}");
        assert!(done.out.contains(says), "{}", done.out);
        assert!(!done.out.contains("correct"), "{}", done.out);
        assert_eq!(echo(&done), "echo");
    }
}

#[test]
fn a_prompt_is_canceled_and_the_terminal_shows_again() {
    let scene = Scene::new();
    let direct = "exec \"$0\" \"$@\"";
    let arguments = ["restore", "ARCHIVE", "--to", "TO"];
    for by in ["ctrl-c", "term", "end"] {
        let command = &mut shell(&scene, direct, &arguments);
        let mut running = start(command);
        asked(&running);
        let number = command_of(&running);
        let code = match by {
            "ctrl-c" => {
                running.write(b"half of it\x03");
                130
            }
            "term" => {
                kill(number, Signal::TERM);
                143
            }
            _ => {
                running.write(b"\x04");
                2
            }
        };
        let done = running.end();
        assert_eq!(done.code, code, "{by}: {done:?}");
        assert_eq!(done.out.matches("ERROR: passphrase: ").count(), 1);
        assert!(!done.out.contains("half"), "{}", done.out);
        assert_eq!(echo(&done), "echo", "{by}");
        assert!(!scene.path("to").exists());
    }
}

/// The archive comes slowly enough for progress to be told.
const SLOWLY: &str = "{ head -c 100000 archive; sleep 1; \
                      tail -c +100001 archive; } | \
                      \"$0\" \"$@\" --passphrase-file passphrase";

#[test]
fn progress_is_for_a_terminal_that_wants_it() {
    let scene = Scene::new();
    let shown = |more: &[&str], script: &str, no_color: bool| {
        let arguments = [&["verify", "-"], more].concat();
        let mut command = shell(&scene, script, &arguments);
        if no_color {
            command.env("NO_COLOR", "1");
        }
        let done = start(&mut command).end();
        assert_eq!(done.code, 0, "{done:?}");
        done.out
    };
    let progress = |text: &str| text.contains(" MB/s, ");
    for no_color in [false, true] {
        let text = shown(&[], SLOWLY, no_color);
        assert!(progress(&text), "{text}");
        // The line is cleared; nothing has a colour.
        assert!(text.contains("\x1b[K"), "{text}");
        assert!(!is_coloured(&text), "{text}");
    }
    let text = shown(&["-q"], SLOWLY, false);
    assert!(!progress(&text) && !text.contains('\x1b'), "{text}");
    assert!(text.contains("verified"), "{text}");
    // stderr elsewhere: none there, and none on stdout.
    let elsewhere = format!("{SLOWLY} 2> errors");
    let text = shown(&[], &elsewhere, false);
    assert!(!progress(&text) && !text.contains('\x1b'), "{text}");
    let errors = std::fs::read_to_string(scene.path("errors")).unwrap();
    assert_eq!(errors, "");
    // Lines of JSON have it as data, with a terminal or without.
    let text = shown(&["--json"], &elsewhere, false);
    assert!(text.contains("\"type\":\"progress\""), "{text}");
}

fn is_coloured(text: &str) -> bool {
    let mut codes = text.split("\x1b[").skip(1);
    codes.any(|code| {
        let end = code.find(|c: char| !c.is_ascii_digit() && c != ';');
        end.is_some_and(|at| code[at..].starts_with('m'))
    })
}

#[test]
fn colours_are_for_a_terminal_that_wants_them() {
    let scene = Scene::new();
    let direct = "exec \"$0\" \"$@\"";
    let command = || shell(&scene, direct, &["verify", "--no-such-option"]);
    let done = start(&mut command()).end();
    assert_eq!(done.code, 2, "{done:?}");
    assert!(is_coloured(&done.out), "{}", done.out);
    let done = start(command().env("NO_COLOR", "1")).end();
    assert!(!is_coloured(&done.out), "{}", done.out);
    assert!(done.out.starts_with("qubes-fsm: ERROR: "), "{}", done.out);
    let mut plain = scene.bare(&["verify", "--no-such-option"]);
    let done = Running::start(&mut plain).finish();
    assert!(!is_coloured(&done.err), "{}", done.err);
    assert_eq!(done.err.matches("ERROR").count(), 1, "{}", done.err);
}

/// A service reads and writes what a terminal would be.
#[test]
fn the_service_of_a_qube_is_no_terminal() {
    let scene = Scene::new();
    let script = "exec \"$0\" \"$@\"";
    let file = ["--passphrase-file", "passphrase"];
    let arguments = [&["verify", "-", "--from-qube"][..], &file].concat();
    let done = start(&mut shell(&scene, script, &arguments)).finish();
    assert_eq!(done.code, 2, "{done:?}");
    let text = "ERROR: --from-qube: stdout is a terminal; wanted the stdin of \
                a service qubes.Restore";
    assert!(done.out.contains(text), "{done:?}");
}
