//! Where the passphrase comes from. The terminal is in `terminal`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::fs;
use std::process::Command;

use crate::archive::PASSPHRASE;
use crate::running::{Done, Running};
use crate::scene::Scene;

fn verify(scene: &Scene, source: &[&str]) -> Done {
    let arguments = [&["verify", "ARCHIVE"], source].concat();
    Running::start(&mut scene.bare(&arguments)).finish()
}

#[test]
fn from_a_file() {
    let scene = Scene::new();
    let of = |content: &[u8]| {
        fs::write(scene.path("passphrase"), content).unwrap();
        verify(&scene, &["--passphrase-file", "PASSPHRASE"])
    };
    for end in ["", "\n", "\nnot this\n"] {
        assert_eq!(of(format!("{PASSPHRASE}{end}").as_bytes()).code, 0);
    }
    // A carriage return is part of it, as any other byte.
    for wrong in [&b"wrong"[..], b"\xff\xfe", b"correct horse\r\n"] {
        let done = of(wrong);
        assert_eq!(done.code, 12, "{done:?}");
        assert_eq!(
            done.error(),
            "backup-header: no digest makes its authentication code; wanted \
             the passphrase of this backup"
        );
    }
    for empty in ["", "\n", "\ncorrect horse\n"] {
        let done = of(empty.as_bytes());
        assert_eq!(done.code, 2, "{done:?}");
        let text = ": an empty first line; wanted a passphrase";
        assert!(done.error().ends_with(text), "{}", done.err);
    }
    let done = of(&vec![b'x'; 70_000]);
    assert_eq!(done.code, 17, "{done:?}");
    fs::remove_file(scene.path("passphrase")).unwrap();
    let done = verify(&scene, &["--passphrase-file", "PASSPHRASE"]);
    assert_eq!(done.code, 10, "{done:?}");
}

#[test]
fn from_a_descriptor() {
    let scene = Scene::new();
    let of = |script: &str, arguments: &[&str]| {
        let ours = scene.bare(arguments);
        let mut command = Command::new("sh");
        command.args(["-c", script]).arg(ours.get_program());
        command.args(ours.get_args()).current_dir(scene.directory.path());
        Running::start(&mut command).finish()
    };
    let five = ["verify", "ARCHIVE", "--passphrase-fd", "5"];
    let done = of("exec \"$0\" \"$@\" 5< passphrase", &five);
    assert_eq!(done.code, 0, "{done:?}");
    let done = of("printf wrong | \"$0\" \"$@\" 5<&0", &five);
    assert_eq!(done.code, 12, "{done:?}");
    // The writer stays: a line is enough.
    let stays = "(echo 'correct horse'; exec >&-; sleep 0) | \"$0\" \"$@\"";
    let zero = ["verify", "ARCHIVE", "--passphrase-fd", "0"];
    assert_eq!(of(stays, &zero).code, 0);
    // One that is closed, and that would become one of the command's own.
    for number in ["3", "4", "5", "6", "7", "8", "9"] {
        let arguments = [&five[..3], &[number]].concat();
        let closed = format!("exec \"$0\" \"$@\" {number}<&-");
        let done = of(&closed, &arguments);
        assert_eq!(done.code, 2, "{done:?}");
        let text = "--passphrase-fd <N>': it is not open; wanted an open";
        assert!(done.error().contains(text), "{}", done.err);
    }
    // Two things from one pipe.
    let done = of("exec \"$0\" \"$@\"", &["verify", "-", zero[2], "0"]);
    assert_eq!(done.code, 2, "{done:?}");
    assert!(done.error().starts_with("descriptor 0: "), "{}", done.err);
}

#[test]
fn a_writer_that_stays_is_not_waited_for() {
    let scene = Scene::new();
    let arguments = ["verify", "ARCHIVE", "--passphrase-fd", "0"];
    let mut running = Running::start(&mut scene.bare(&arguments));
    running.write(b"correct horse\n");
    let done = running.end();
    assert_eq!(done.code, 0, "{done:?}");
}

#[test]
fn from_a_command() {
    let scene = Scene::new();
    let of = |text| verify(&scene, &["--passphrase-command", text]);
    let done = of("echo 'correct horse'; echo 'second line'");
    assert_eq!(done.code, 0, "{done:?}");
    for (text, status) in [
        ("exit 7", "exit status: 7"),
        ("echo 'correct horse'; exit 1", "exit status: 1"),
        ("kill -9 $$", "signal: 9 (SIGKILL)"),
        ("no-such-command-at-all 2>&-", "exit status: 127"),
    ] {
        let done = of(text);
        assert_eq!(done.code, 18, "{done:?}");
        let error = format!("passphrase command: {status}; wanted exit 0");
        assert_eq!(done.error(), error);
    }
    assert_eq!(of("echo wrong").code, 12);
    assert_eq!(of("true").code, 2);
    // What it says itself is shown, and its stdin is not ours.
    let done = of("echo 'of the command' >&2; cat; exit 3");
    assert!(done.err.starts_with("of the command\n"), "{}", done.err);
}

#[test]
fn from_no_argument_and_no_variable() {
    let scene = Scene::new();
    for name in ["--passphrase", "--password", "-p"] {
        let done = verify(&scene, &[name, PASSPHRASE]);
        assert_eq!(done.code, 2, "{done:?}");
    }
    let twice =
        ["--passphrase-file", "PASSPHRASE", "--passphrase-command", "x"];
    assert_eq!(verify(&scene, &twice).code, 2);
    // Without a terminal nobody can be asked.
    let mut command = Command::new("setsid");
    let ours = scene.bare(&["verify", "ARCHIVE"]);
    command.arg("--wait").arg(ours.get_program()).args(ours.get_args());
    for name in ["PASSPHRASE", "QUBES_FSM_PASSPHRASE", "PASSWORD"] {
        command.env(name, PASSPHRASE);
    }
    let done = Running::start(&mut command).finish();
    assert_eq!(done.code, 2, "{done:?}");
    assert_eq!(
        done.error(),
        "passphrase: no terminal to ask on; wanted --passphrase-file, \
         --passphrase-fd or --passphrase-command"
    );
}
