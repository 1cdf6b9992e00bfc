//! Ends that come early, and what is said and left then.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::running::{Done, Running};
use crate::scene::Scene;
use crate::writer::{Recipe, block, body, entry, sealed, set};

fn summary(text: &str) -> Value {
    let line = text.lines().last().unwrap_or_default();
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!(line["type"], "summary");
    line
}

/// A directory or file with another mode.
fn with_mode(path: &[u8], kind: u8, mode: &str) -> Vec<u8> {
    let mut block = block(path, kind, 0);
    set(&mut block, 100, format!("{mode}\0").as_bytes());
    body(sealed(block), b"")
}

#[test]
fn bits_that_give_rights_are_counted() {
    let mut recipe = Recipe::new(false, true);
    recipe.inner(
        "vm7/.",
        &[
            with_mode(b"vm7/./", b'5', "0002710"),
            with_mode(b"vm7/./su", b'0', "0004755"),
            with_mode(b"vm7/./plain", b'0', "0000755"),
            entry(b"vm7/./private.img", b'0', b""),
            entry(b"vm7/./root.img", b'0', b""),
        ],
    );
    recipe.inner(
        "dom0-home/user",
        &[with_mode(b"dom0-home/user/", b'5', "0001777")],
    );
    let scene = Scene::of(&recipe.make().pack());
    let done = scene.run(&["restore", "ARCHIVE", "--to", "TO"]);
    assert_eq!(done.code, 0, "{done:?}");
    let note = "note: setuid, setgid and sticky are not restored; files and \
                directories that had one: 3, the first is vm7\n";
    assert_eq!(done.out.matches("note: ").count(), 1, "{}", done.out);
    assert!(done.out.contains(note), "{}", done.out);
    // The directory of a qube has its mode where the archive has it.
    for (name, mode) in [("vm7", 0o710), ("vm7/su", 0o755)] {
        let path = scene.path("to").join(name);
        let found = fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(found & 0o7777, mode, "{name}");
    }
    let again = ["restore", "ARCHIVE", "--to", "TO", "--overwrite", "--json"];
    let dropped = summary(&scene.run(&again).out)["dropped_bits"].clone();
    assert_eq!(dropped, serde_json::json!({ "count": 3, "first": "vm7" }));

    let scene = Scene::of(&Recipe::new(false, true).make().pack());
    let done = scene.run(&["restore", "ARCHIVE", "--to", "TO", "--json"]);
    assert_eq!(summary(&done.out)["dropped_bits"], Value::Null);
}

#[test]
fn a_restore_that_fails_takes_its_empty_directory_with_it() {
    let scene = Scene::of(b"no archive");
    let to = scene.path("to");
    let restore = ["restore", "ARCHIVE", "--to", "TO"];
    assert_ne!(scene.run(&restore).code, 0);
    assert!(!to.exists());
    // That of somebody else stays.
    fs::create_dir(&to).unwrap();
    assert_ne!(scene.run(&restore).code, 0);
    assert!(to.exists());
}

#[test]
fn a_directory_below_nothing_is_not_found_by_both() {
    let scene = Scene::new();
    let none = scene.path("no/such/dir");
    let none = none.to_str().unwrap();
    let from = scene.path("from");
    let from = from.to_str().unwrap();
    let done = scene.run(&["restore", "ARCHIVE", "--to", none]);
    assert_eq!(done.code, 10, "{done:?}");
    let done = scene.run(&["backup", "--from", from, "--to", none]);
    assert_eq!(done.code, 10, "{done:?}");
}

#[test]
fn a_backup_that_fails_early_has_a_summary() {
    let scene = Scene::new();
    let ends = |done: &Done, text: &str, code: i32| {
        assert_eq!(done.code, code, "{done:?}");
        let summary = summary(text);
        assert_eq!(summary["exit"], code);
        let error = format!("qubes-fsm: ERROR: {}\n", summary["error"]);
        assert!(done.err.contains(&error.replace('"', "")), "{done:?}");
    };
    let none = scene.path("none");
    let none = none.to_str().unwrap();
    let done = scene.run(&["backup", "--from", none, "--to", "TO", "--json"]);
    ends(&done, &done.out, 10);
    let done = scene.run(&["backup", "--from", none, "--to", "-", "--json"]);
    ends(&done, done.err.lines().next().unwrap(), 10);
    assert_eq!(done.out, "");
    let from = scene.path("from");
    let from = from.to_str().unwrap();
    let mut command =
        scene.bare(&["backup", "--from", from, "--to", "TO", "--json"]);
    command.args(["--passphrase-file", none]);
    let done = Running::start(&mut command).finish();
    ends(&done, &done.out, 10);
    // A plan is one document.
    let plan = ["backup", "--from", none, "--to", "TO", "--json", "--dry-run"];
    assert_eq!(scene.run(&plan).out, "");
}

#[test]
fn what_binds_is_said_as_far_as_it_is_known() {
    let scene = Scene::of(&Recipe::new(false, true).make().pack());
    let binding = |arguments: &[&str]| {
        summary(&scene.run(arguments).out)["binding"].clone()
    };
    let restore = ["restore", "ARCHIVE", "--to", "TO", "--json", "mistyped"];
    assert_eq!(
        binding(&restore),
        "not bound: the manifest that the header promises was not compared \
         with all that was read"
    );
    fs::write(scene.path("passphrase"), "wrong").unwrap();
    assert_eq!(
        binding(&["verify", "ARCHIVE", "--json"]),
        "not bound: no header was accepted that could promise a manifest"
    );
    let mut made = Recipe::new(false, true).make();
    made.replace_manifest(b"backup-manifest=1\n");
    let scene = Scene::of(&made.pack());
    let binding = |archive: &str| {
        let done = scene.run(&["verify", archive, "--json"]);
        summary(&done.out)["binding"].clone()
    };
    assert_eq!(
        binding("ARCHIVE"),
        "not bound: the manifest that the header promises is missing, or does \
         not fit what was read"
    );
}

#[test]
fn help_that_nobody_gets_is_a_failure() {
    for option in ["--help", "--version"] {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_qubes-fsm"));
        command.arg(option).stdout(full).stderr(Stdio::piped());
        let output = command.output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(16), "{err}");
        assert_eq!(
            err,
            "qubes-fsm: ERROR: stdout: No space left on device (os error 28)\n"
        );
    }
}

#[test]
fn a_report_is_in_its_file_whole_or_not_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("report");
    let check = |limit: &str| {
        let script =
            format!("trap '' XFSZ; ulimit -f {limit}; exec \"$0\" \"$@\"");
        let mut command = Command::new("sh");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_qubes-fsm"), "check"]);
        command.args(["lock", "--protocol", "shipped", "--format", "html"]);
        command.arg("--out").arg(&out);
        command.output().unwrap().status.code()
    };
    let names = || {
        let entries = fs::read_dir(directory.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name());
        names.collect::<Vec<_>>()
    };
    assert_eq!(check("1"), Some(16));
    assert!(names().is_empty(), "{:?}", names());
    fs::write(&out, "old").unwrap();
    fs::set_permissions(&out, fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(check("1"), Some(16));
    assert_eq!(fs::read(&out).unwrap(), b"old");
    assert_eq!(check("unlimited"), Some(0));
    assert!(fs::metadata(&out).unwrap().len() > 1024);
    let mode = fs::metadata(&out).unwrap().permissions().mode();
    assert_eq!((mode & 0o777, names()), (0o640, vec!["report".into()]));
}
