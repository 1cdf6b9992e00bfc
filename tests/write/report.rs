//! What is said: before, meanwhile, at the end, to people and to programs;
//! and where the passphrase comes from.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::fs;
use std::process::Command;

use qubes_fsm::backup::write::to_stream;
use serde_json::Value;

use crate::archive::PASSPHRASE;
use crate::running::{Done, Running, await_it};
use crate::scene::{FORM, Scene, options};
use crate::trees::{Layout, noise, write};

const TERMINAL: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/terminal.py");

/// The command on a terminal, its first lines from `script`.
fn terminal(scene: &Scene, script: &str, arguments: &[&str]) -> Running {
    let mut command = Command::new("python3");
    let ours = scene.bare(arguments);
    command.args(["-I", "-S", TERMINAL, "sh", "-c", script]);
    command.arg(ours.get_program()).args(ours.get_args());
    command.env("TERM", "xterm").current_dir(scene.directory.path());
    Running::start(&mut command)
}

#[test]
fn a_dry_run_writes_nothing() {
    let scene = Scene::small();
    let done = scene.run(&["--to", "ARCHIVE", "--dry-run"]);
    assert_eq!((done.code, done.err.as_str()), (0, ""));
    let lines: Vec<&str> = done.out.lines().collect();
    assert_eq!(lines.len(), 4, "{}", done.out);
    assert!(lines[0].ends_with("on disk         apparent  file"));
    assert!(lines[1].ends_with("  qubes.xml"), "{}", done.out);
    assert!(lines[2].ends_with("60000  vm5/private.img  (work)"));
    assert!(lines[3].ends_with("  2 files"), "{}", done.out);
    let done = scene.run(&["--to", "-", "--dry-run", "--json"]);
    let plan: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(plan["files"][1]["name"], "vm5/private.img");
    assert_eq!(plan["files"][1]["qube"], "work");
    assert_eq!(plan["files"][1]["members"], 1);
    assert_eq!(plan["files"][1]["apparent_bytes"], 60_000);
    assert_eq!(plan["omissions"], Value::Array(Vec::new()));
    assert_eq!(scene.out(), [""; 0]);
    // No passphrase is asked for.
    let first = ["backup", "--from", "FROM", "--to", "ARCHIVE", "--dry-run"];
    let done = Running::start(&mut scene.bare(&first)).finish();
    assert_eq!((done.code, done.err.as_str()), (0, ""));
}

#[test]
fn omissions_are_named_and_end_with_3() {
    let scene = Scene::with(Layout::Small, |from| {
        write(&from.join("vm5/notes"), b"notes");
        write(&from.join("lost+found/x"), b"of nobody");
    });
    for more in [&["--dry-run"][..], &[]] {
        let done = scene.run(&[&["--to", "ARCHIVE"][..], more].concat());
        assert_eq!(done.code, 3, "{done:?}");
        let omission = "omission: lost+found: left out, ";
        assert!(done.out.contains(omission), "{done:?}");
        assert_eq!(done.err, "");
    }
    fs::remove_file(scene.path("out/archive")).unwrap();
    let done = scene.run(&["--to", "ARCHIVE", "--json"]);
    let lines = done.lines();
    let summary = lines.last().unwrap();
    assert_eq!(summary["omissions"].as_array().unwrap().len(), 1);
    assert_eq!(done.code, 3);
}

/// Before anything is read, and not at the end of hours.
#[test]
fn a_name_that_no_manifest_can_list_is_left_out() {
    let scene = Scene::with(Layout::Small, |from| {
        write(&from.join("vm5/zn\nm"), b"notes");
    });
    let omission = "omission: vm5/zn\\u{a}m: left out: a control character ";
    for more in [&["--dry-run"][..], &[]] {
        let done = scene.run(&[&["--to", "ARCHIVE"][..], more].concat());
        assert!(done.out.contains(omission), "{done:?}");
        assert_eq!((done.code, done.err.as_str()), (3, ""));
    }
    fs::remove_file(scene.path("out/archive")).unwrap();
    let done = scene.run(&["--to", "ARCHIVE", "--no-manifest"]);
    assert_eq!((done.code, done.err.as_str()), (0, ""));
    // The library says it as early, and writes nothing.
    let mut archive = Vec::new();
    let error = to_stream(&scene.contents(), &mut archive, options(FORM));
    assert_eq!(
        error.unwrap_err().to_string(),
        "vm5/zn\\u{a}m: a control character in the name, which no manifest can \
         list; wanted another name, or no manifest"
    );
    assert!(archive.is_empty());
}

/// Whoever throws the bytes away, as Python's `DEVNULL` does, which is open for
/// reading too, has asked for that.
#[test]
fn bytes_may_go_to_dev_null() {
    let scene = Scene::small();
    let mut null = fs::File::options();
    let null = null.read(true).write(true).open("/dev/null").unwrap();
    let mut command = scene.backup(&["--to", "-"]);
    let done = command.stdout(null).output().unwrap();
    assert_eq!(done.status.code(), Some(0), "{done:?}");
}

#[test]
fn the_report_of_a_whole_archive() {
    let scene = Scene::small();
    let done = scene.run(&["--to", "ARCHIVE"]);
    assert_eq!((done.code, done.err.as_str()), (0, ""));
    let lines: Vec<&str> = done.out.lines().collect();
    assert_eq!(lines.len(), 5, "{}", done.out);
    assert!(lines[2].contains(" 60000 "), "{}", done.out);
    assert!(lines[2].ends_with("  vm5/private.img"), "{}", done.out);
    let size = fs::metadata(scene.path("out/archive")).unwrap().len();
    let text = format!(" bytes read, {size} bytes of archive in ");
    assert!(lines[4].contains(&text), "{}", done.out);
    assert!(lines[4].contains("; manifest of backup "), "{}", done.out);
    fs::remove_file(scene.path("out/archive")).unwrap();

    let done = scene.run(&["--to", "ARCHIVE", "--json", "--no-manifest"]);
    let lines = done.lines();
    let names: Vec<&Value> = lines
        .iter()
        .filter(|line| line["type"] == "file")
        .map(|line| &line["name"])
        .collect();
    assert_eq!(names, ["qubes.xml", "vm5/private.img"]);
    let size = fs::metadata(scene.path("out/archive")).unwrap().len();
    let summary = lines.last().unwrap();
    assert_eq!(summary["archive_bytes"], size);
    assert_eq!(summary["files"], 2);
    assert!(summary["id"].is_null());
    // The archive on stdout, all else on stderr; nothing with -q.
    let done = scene.run(&["--to", "-"]);
    scene.assert_same(&done.stdout);
    assert!(done.err.contains("\nstdout: 3 files, "), "{}", done.err);
    let done = scene.run(&["-q", "--to", "-"]);
    scene.assert_same(&done.stdout);
    assert_eq!((done.code, done.err.as_str()), (0, ""));
}

#[test]
fn a_summary_whatever_the_end_is() {
    let scene = Scene::small();
    let wrong = [("0", 2), ("10240", 0), ("10240", 1)];
    for (size, code) in wrong {
        let arguments = ["--to", "ARCHIVE", "--json", "--chunk-size", size];
        let done = scene.run(&arguments);
        assert_eq!(done.code, code, "{done:?}");
        done.lines();
    }
}

#[test]
fn progress_is_for_a_terminal_that_wants_it() {
    let scene = Scene::with(Layout::Small, |from| {
        for number in 0..8 {
            let image = from.join(format!("vm5/{number}.img"));
            write(&image, &noise(300_000));
        }
    });
    // Slowly enough for progress to be told: nobody reads for a second.
    let piped = "\"$0\" \"$@\" --passphrase-file passphrase | \
                 { sleep 1; cat > archive; }";
    let arguments =
        ["backup", "--from", "FROM", "--to", "-", "--chunk-size", "100000"];
    let shown = |more: &[&str], script: &str| -> Done {
        let all = [&arguments[..], more].concat();
        let done = terminal(&scene, script, &all).end();
        assert_eq!(done.code, 0, "{done:?}");
        done
    };
    let done = shown(&[], piped);
    assert!(done.out.contains(" MB/s, "), "{}", done.out);
    assert!(done.out.contains("\x1b[K"), "{}", done.out);
    let done = shown(&["-q"], piped);
    assert!(!done.out.contains(" MB/s, "), "{}", done.out);
    let elsewhere = piped.replace("passphrase |", "passphrase 2> errors |");
    let done = shown(&[], &elsewhere);
    assert!(!done.out.contains("MB/s"), "{}", done.out);
    let errors = fs::read_to_string(scene.path("errors")).unwrap();
    assert!(!errors.contains(" MB/s, "), "{errors}");
    assert!(!errors.contains('\x1b'), "{errors}");
    scene.assert_same(&fs::read(scene.path("archive")).unwrap());
}

#[test]
fn the_passphrase_is_asked_for_twice() {
    let scene = Scene::small();
    let arguments = ["backup", "--from", "FROM", "--to", "ARCHIVE"];
    let script = "exec \"$0\" \"$@\"";
    for (second, code) in [("other", 2), (PASSPHRASE, 0)] {
        let mut running = terminal(&scene, script, &arguments);
        let asks = |text: &str| running.out_so_far().contains(text);
        await_it("the prompt", || asks("Passphrase: "));
        running.write(format!("{PASSPHRASE}\n").as_bytes());
        let asks = |text: &str| running.out_so_far().contains(text);
        await_it("the second", || asks("The same again: "));
        running.write(format!("{second}\n").as_bytes());
        let done = running.end();
        assert_eq!(done.code, code, "{done:?}");
        assert!(!done.out.contains("correct"), "{}", done.out);
        assert_eq!(done.err.lines().last(), Some("echo"));
        if code == 2 {
            let text = "ERROR: passphrase: two different ones; wanted the \
                        same twice";
            assert!(done.out.contains(text), "{}", done.out);
            assert_eq!(scene.out(), [""; 0]);
        }
    }
    scene.assert_whole();
    // Without a terminal there is nobody to ask.
    let mut command = Command::new("setsid");
    let ours = scene.bare(&arguments);
    command.arg("-w").arg(ours.get_program()).args(ours.get_args());
    let done = Running::start(&mut command).finish();
    assert_eq!(done.code, 2, "{done:?}");
    assert!(done.error().starts_with("passphrase: no terminal"), "{done:?}");
}

#[test]
fn passphrases_from_everywhere() {
    let scene = Scene::small();
    let first = ["backup", "--from", "FROM", "--to", "ARCHIVE"];
    let command = format!("echo '{PASSPHRASE}'");
    let ways: [(&[&str], i32); 6] = [
        (&["--passphrase-file", "PASSPHRASE"], 0),
        (&["--passphrase-fd", "0"], 0),
        (&["--passphrase-command", &command], 0),
        (&["--passphrase-command", "exit 3"], 18),
        (&["--passphrase-file", "/dev/null"], 2),
        (&["--passphrase-file", "/nowhere"], 10),
    ];
    for (way, code) in ways {
        let mut command = scene.bare(&[&first[..], way].concat());
        let mut running = Running::start(&mut command);
        if way.contains(&"0") {
            running.write(format!("{PASSPHRASE}\nnot this\n").as_bytes());
        }
        let done = running.finish();
        assert_eq!(done.code, code, "{way:?}: {done:?}");
        if code == 0 {
            scene.assert_whole();
            fs::remove_file(scene.path("out/archive")).unwrap();
        }
        assert_eq!(scene.out(), [""; 0], "{way:?}");
    }
}
