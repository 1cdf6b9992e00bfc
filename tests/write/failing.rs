//! What cannot be written, and what changes while it is read: an error that
//! names it, and nothing under the name.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::fs::{self, File};
use std::io::{Read as _, Write};
use std::os::unix::fs::{FileExt as _, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use qubes_fsm::backup::write::source::SourceError;
use qubes_fsm::backup::write::{Options, WriteError, to_file, to_stream};

use crate::running::Running;
use crate::scene::{FORM, Form, Scene, directory, options, restored};
use crate::trees::{Layout, noise, write};

/// More than anybody reads ahead.
const LARGE: usize = 8 << 20;

fn scene() -> Scene {
    Scene::with(Layout::Small, |from| {
        write(&from.join("vm5/root.img"), &noise(LARGE));
    })
}

/// Puts something else where the image was.
type Change = fn(&Path);
const CHANGES: [(&str, Change); 5] = [
    ("written", |image| {
        let file = File::options().write(true).open(image).unwrap();
        file.write_all_at(b"other", 100).unwrap();
    }),
    ("shrunk", |image| {
        let file = File::options().write(true).open(image).unwrap();
        file.set_len(100).unwrap();
    }),
    ("shrunk by one", |image| {
        let file = File::options().write(true).open(image).unwrap();
        file.set_len(LARGE as u64 - 1).unwrap();
    }),
    ("grown", |image| {
        let mut file = File::options().append(true).open(image).unwrap();
        file.write_all(b"more").unwrap();
    }),
    ("replaced", |image| {
        fs::remove_file(image).unwrap();
        symlink("/etc/passwd", image).unwrap();
    }),
];

fn is_changed(outcome: Result<impl std::fmt::Debug, WriteError>, what: &str) {
    let Err(error) = outcome else { panic!("{what}: {outcome:?}") };
    assert!(
        matches!(error, WriteError::Source(SourceError::Changed { .. })),
        "{what}: {error:?}"
    );
    let text = error.to_string();
    assert!(text.contains("/from/vm5/root.img: "), "{what}: {text}");
}

#[test]
fn a_file_that_changes_while_a_file_is_written() {
    for (what, change) in CHANGES {
        for filter in [None, Some("gzip:1")] {
            let scene = scene();
            let image = scene.path("from/vm5/root.img");
            let mut is_new = true;
            let progress = Box::new(move |bytes: u64, name: &[u8]| {
                if is_new && name == b"vm5/root.img" && bytes > 1 << 20 {
                    is_new = false;
                    change(&image);
                }
            });
            let form = Form { filter, ..FORM };
            let options = Options { progress, ..options(form) };
            let path = scene.path("out/archive");
            is_changed(to_file(&scene.contents(), &path, options), what);
            assert_eq!(scene.out(), [""; 0], "{what}");
        }
    }
}

/// Changes the image when so much has gone out.
struct Changing<'a> {
    written: Vec<u8>,
    change: Option<(Change, &'a Path)>,
}

impl Write for &mut Changing<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.written.extend(bytes);
        if self.written.len() > 1 << 20
            && let Some((change, image)) = self.change.take()
        {
            change(image);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Of an archive without an end.
fn last_member(archive: &[u8]) -> String {
    let mut archive = tar::Archive::new(archive);
    let mut last = Vec::new();
    for entry in archive.entries().unwrap() {
        let Ok(entry) = entry else { break };
        last = entry.path_bytes().into_owned();
    }
    String::from_utf8(last).unwrap()
}

#[test]
fn a_file_that_changes_while_a_pipe_is_written() {
    for (what, change) in CHANGES {
        let scene = scene();
        let image = scene.path("from/vm5/root.img");
        let change = Some((change, image.as_path()));
        let mut target = Changing { written: Vec::new(), change };
        let contents = scene.contents();
        is_changed(to_stream(&contents, &mut target, options(FORM)), what);
        let to = directory();
        assert!(restored(&target.written, to.path()).is_err(), "{what}");
        // The code of its last chunk was kept back.
        let last = last_member(&target.written);
        assert!(last.starts_with("vm5/root.img."), "{what}: {last}");
        assert!(!last.ends_with(".hmac"), "{what}: {last}");
    }
}

#[test]
fn a_file_that_changes_before_it_is_its_turn() {
    let scene = scene();
    let path = scene.path("out/archive");
    let contents = scene.contents();
    fs::remove_file(scene.path("from/vm5/root.img")).unwrap();
    let error = to_file(&contents, &path, options(FORM)).unwrap_err();
    assert!(error.to_string().contains("/from/vm5/root.img: "), "{error}");
    assert_eq!(scene.out(), [""; 0]);
}

#[test]
fn a_process_says_what_has_changed() {
    let scene = scene();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut command =
        scene.backup(&["--to", "-", "--json", "--chunk-size", "100000"]);
    let running = Running::start_to(&mut command, writer.into());
    drop(command);
    let mut first = vec![0; 1 << 20];
    reader.read_exact(&mut first).unwrap();
    let image = scene.path("from/vm5/root.img");
    let file = File::options().write(true).open(&image).unwrap();
    file.set_len(10).unwrap();
    reader.read_to_end(&mut first).unwrap();
    let done = running.end();
    assert_eq!(done.code, 1, "{done:?}");
    let name = image.to_str().unwrap();
    assert!(done.error().starts_with(name), "{done:?}");
    // The summary, on stderr, knows it too.
    let line = done.err.lines().find(|line| line.starts_with('{')).unwrap();
    assert!(done.err.contains("\"exit\":1"), "{line}");
}

/// A script in a mount namespace of its own, where that may be.
fn in_namespace(script: &str) -> Option<Command> {
    let may = Command::new("unshare")
        .args(["-m", "mount", "-t", "tmpfs", "none", "/mnt"])
        .stderr(Stdio::null())
        .status();
    if !may.is_ok_and(|status| status.success()) {
        eprintln!("NOT TESTED: no mount of one's own is permitted here");
        return None;
    }
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script]);
    Some(command)
}

/// `script`, with the command of ours as `"$@"`.
fn shell(scene: &Scene, mut shell: Command, more: &[&str]) -> Running {
    let ours = scene.backup(more);
    shell.arg("sh").arg(ours.get_program()).args(ours.get_args());
    shell.current_dir(scene.directory.path());
    Running::start(&mut shell)
}

#[test]
fn a_full_disk() {
    let scene = scene();
    let script = "mount -t tmpfs -o size=1m tmpfs out || exit 99
        \"$@\"; code=$?; ls -A out >&2; exit $code";
    let Some(command) = in_namespace(script) else { return };
    let done = shell(&scene, command, &["--to", "out/archive", "--json"]).end();
    assert_eq!(done.code, 16, "{done:?}");
    assert_eq!(done.lines().last().unwrap()["exit"], 16);
    // Nothing was listed behind the error.
    assert_eq!(done.err.lines().count(), 1, "{done:?}");
    assert!(done.error().starts_with("out/archive: write: "), "{done:?}");
}

#[test]
fn a_limit_of_the_size_of_files() {
    let scene = scene();
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -f 1000; exec \"$@\""]);
    let done = shell(&scene, command, &["--to", "ARCHIVE"]).end();
    assert_eq!(done.code, 16, "{done:?}");
    assert!(done.error().contains("/out/archive: write: "), "{done:?}");
    assert_eq!(scene.out(), [""; 0]);
}

#[test]
fn a_pipe_that_is_full_closed_or_leads_nowhere() {
    let scene = scene();
    for way in [&["--to", "-"][..], &["--to", "-", "--json"]] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut command = scene.backup(way);
        let done = Running::start_to(&mut command, full.into()).end();
        assert_eq!(done.code, 16, "{done:?}");
        assert!(done.error().contains("No space left"), "{done:?}");

        let (mut reader, writer) = std::io::pipe().unwrap();
        let mut command = scene.backup(way);
        let running = Running::start_to(&mut command, writer.into());
        reader.read_exact(&mut [0; 5_000]).unwrap();
        drop(reader);
        let done = running.end();
        assert_eq!(done.code, 1, "{done:?}");
        assert!(done.error().contains("Broken pipe"), "{done:?}");
    }
    // The report alone: nobody need read it.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = scene.backup(&["--to", "ARCHIVE"]);
    let done = Running::start_to(&mut command, writer.into()).end();
    assert_eq!((done.code, done.err.as_str()), (0, ""));
    scene.assert_whole();
}
