//! Every exit code that these commands can give, each by what gives it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::fs::{self, File};
use std::process::Stdio;

use rustix::process::Signal;

use crate::archive::{Form, outer};
use crate::running::Running;
use crate::scene::{FORM, Scene};

/// All but those of other commands: 11 and 19 are of the store, 20 of check.
const ALL: [i32; 14] = [0, 1, 2, 3, 10, 12, 13, 14, 15, 16, 17, 18, 130, 143];

/// Exit code, and the error's text up to what was found, if there is one.
type Row = (i32, String);

fn row(scene: &Scene, arguments: &[&str]) -> Row {
    of(Running::start(&mut scene.command(arguments)))
}

fn of(running: Running) -> Row {
    let done = running.end();
    let text = match done.code {
        0 | 3 => {
            assert_eq!(done.err, "");
            String::new()
        }
        _ => done.error().split(';').next().unwrap().to_owned(),
    };
    (done.code, text)
}

#[test]
fn every_code_has_something_that_gives_it() {
    let mut scene = Scene::new();
    let verify = ["verify", "ARCHIVE"];
    let mut rows: Vec<Row> = vec![row(&scene, &verify)];

    fs::create_dir(scene.path("to")).unwrap();
    fs::write(scene.path("to/qubes.xml"), "mine").unwrap();
    rows.push(row(&scene, &["restore", "ARCHIVE", "--to", "TO"]));

    fs::write(scene.path("empty"), "").unwrap();
    let empty = scene.path("empty");
    let file = ["--passphrase-file", empty.to_str().unwrap()];
    let bare = |source: &[&str]| {
        let arguments = [&verify[..], source].concat();
        of(Running::start(&mut scene.bare(&arguments)))
    };
    rows.push(bare(&file));
    rows.push(row(&scene, &["verify", "missing"]));
    rows.push(row(&scene, &["cat", "ARCHIVE", "missing"]));
    rows.push(row(
        &scene,
        &["restore", "ARCHIVE", "--to", "TO", "missing", "--overwrite"],
    ));
    rows.push(bare(&["--passphrase-command", "echo wrong"]));
    rows.push(bare(&["--passphrase-command", "exit 1"]));
    rows.push(row(&scene, &["verify", "/"]));
    rows.push(row(&scene, &["cat", "ARCHIVE", "dom0-home/user/up"]));
    rows.push(row(&scene, &["verify", "ARCHIVE", "--require-manifest"]));

    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut command = scene.command(&["list", "ARCHIVE"]);
    rows.push(of(Running::start_to(&mut command, Stdio::from(full))));

    for signal in [Signal::INT, Signal::TERM] {
        let running = Running::start(&mut scene.command(&["list", "-"]));
        running.await_handlers();
        running.signal(signal);
        rows.push(of(running));
    }

    scene.write(&outer(&scene.members[..8]));
    rows.push(row(&scene, &verify));
    scene.write(&outer(&scene.members[..9]));
    rows.push(row(&scene, &verify));
    scene.damage("vm5/private.img.000");
    rows.push(row(&scene, &verify));
    scene.members[0].1 = vec![b'x'; 5_000];
    scene.write(&outer(&scene.members));
    rows.push(row(&scene, &verify));
    // Without a header: done, but who took it away is not known.
    let scene = Scene::with(Form { header: false, ..FORM }, |_| {});
    rows.push(row(&scene, &verify));
    let of = |code, text: &str| (code, text.to_owned());
    let names: Vec<Row> =
        rows.iter().map(|(code, text)| (*code, last_words(text))).collect();
    let wanted = [
        of(0, ""),
        of(1, "found an existing file"),
        of(2, "an empty first line"),
        of(10, "No such file or directory (os error 2)"),
        of(10, "not in the archive"),
        of(10, "not in the archive"),
        of(12, "no digest makes its authentication code"),
        of(18, "exit status: 1"),
        of(14, "a directory"),
        of(14, "a symbolic link to ../../x"),
        of(13, "promises no manifest"),
        of(16, "No space left on device (os error 28)"),
        of(130, "canceled by SIGINT"),
        of(143, "canceled by SIGTERM"),
        of(15, "nothing in the archive"),
        of(15, "ends after vm7/..000"),
        of(13, "its authentication code does not fit"),
        of(17, "5000 bytes"),
        of(3, ""),
    ];
    assert_eq!(names, wanted);
    let mut codes: Vec<i32> = rows.into_iter().map(|(code, _)| code).collect();
    codes.sort_unstable();
    codes.dedup();
    assert_eq!(codes, ALL);
}

/// What stands behind the last colon, which ends the subject.
fn last_words(text: &str) -> String {
    match text.rsplit_once(": exit status") {
        Some((_, number)) => format!("exit status{number}"),
        None => text.rsplit(": ").next().unwrap_or_default().to_owned(),
    }
}
