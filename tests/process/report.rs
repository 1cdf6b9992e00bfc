//! What became of each file, on every outcome, for people and as JSON.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::fs;

use crate::archive::outer;
use crate::running::{Done, Running};
use crate::scene::{FIRST, Scene, files};
use crate::writer::Recipe;

fn pairs(done: &Done) -> Vec<(String, String)> {
    done.files()
}

fn wanted(files: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |&(state, name): &(&str, &str)| (state.into(), name.into());
    files.iter().map(owned).collect()
}

#[test]
fn a_whole_archive() {
    let scene = Scene::new();
    let done = scene.run(&["verify", "ARCHIVE", "--json"]);
    assert_eq!(done.code, 0, "{done:?}");
    let all = [
        ("verified", "qubes.xml"),
        ("verified", "vm5/private.img"),
        ("verified", "vm5/firewall.xml"),
        ("verified", "vm7/."),
        ("verified", "dom0-home/user"),
    ];
    assert_eq!(pairs(&done), wanted(&all));
    assert_eq!(done.err, "");
    let done = scene.run(&["restore", "ARCHIVE", "--to", "TO", "--json"]);
    let all = all.map(|(_, name)| ("restored", name));
    assert_eq!(pairs(&done), wanted(&all));
}

#[test]
fn a_failure_says_what_is_verified_and_what_was_not_read() {
    let mut scene = Scene::new();
    scene.damage("vm7/..000");
    let done = scene.run(&["verify", "ARCHIVE", "--json"]);
    assert_eq!(done.code, 13, "{done:?}");
    assert_eq!(
        pairs(&done),
        wanted(&[
            ("verified", "qubes.xml"),
            ("verified", "vm5/private.img"),
            ("verified", "vm5/firewall.xml"),
            ("begun", "vm7/."),
            ("not read", "dom0-home/user"),
        ])
    );
    // The same for people: the report on stdout, the error on stderr.
    let done = scene.run(&["verify", "ARCHIVE"]);
    assert_eq!(done.code, 13);
    let error = done.error();
    assert!(error.starts_with("vm7/..000: its authentication code"), "{error}");
    assert!(!done.out.contains("authentication code"), "{}", done.out);
    let lines: Vec<Vec<&str>> = done
        .out
        .lines()
        .map(|line| line.split("  ").map(str::trim).collect())
        .collect();
    assert_eq!((lines[0][0], *lines[0].last().unwrap()), {
        ("verified", "qubes.xml")
    });
    assert_eq!((lines[4][0], *lines[4].last().unwrap()), {
        ("not read", "dom0-home/user")
    });
    assert!(lines[5][0].starts_with("5 files, "), "{}", done.out);
}

#[test]
fn a_failed_restore_says_what_is_in_place() {
    let mut scene = Scene::new();
    scene.damage("vm7/..000");
    let done = scene.run(&["restore", "ARCHIVE", "--to", "TO", "--json"]);
    assert_eq!(done.code, 13, "{done:?}");
    assert_eq!(
        pairs(&done),
        wanted(&[
            ("restored", "qubes.xml"),
            ("restored", "vm5/private.img"),
            ("restored", "vm5/firewall.xml"),
            ("begun", "vm7/."),
            ("not read", "dom0-home/user"),
        ])
    );
    let there = ["qubes.xml", "vm5/firewall.xml", "vm5/private.img"];
    assert_eq!(files(&scene.path("to")), there);
    // Only a part was asked for: nothing else is missed.
    fs::remove_dir_all(scene.path("to")).unwrap();
    let arguments = ["restore", "ARCHIVE", "--to", "TO", "--json", "fedora"];
    let done = scene.run(&arguments);
    assert_eq!(
        pairs(&done),
        wanted(&[
            ("verified", "qubes.xml"),
            ("left out", "vm5/private.img"),
            ("left out", "vm5/firewall.xml"),
            ("begun", "vm7/."),
        ])
    );
}

#[test]
fn what_is_lost_and_what_goes_on() {
    let mut scene = Scene::new();
    scene.damage("vm7/..000");
    let arguments = ["restore", "ARCHIVE", "--to", "TO", "--json"];
    let done = scene.run(&[&arguments[..], &["--keep-going"]].concat());
    assert_eq!(done.code, 3, "{done:?}");
    assert_eq!(
        pairs(&done)[3..],
        wanted(&[("lost", "vm7/."), ("restored", "dom0-home/user"),])
    );
    let lines = done.lines();
    let omissions = lines.last().unwrap()["omissions"].to_string();
    assert!(omissions.contains("vm7/.: left out: "), "{omissions}");
}

#[test]
fn what_exists_keeps_a_whole_file_from_its_name() {
    let scene = Scene::new();
    // Nothing that every qube has: it is found when it is to be published.
    fs::create_dir_all(scene.path("to/vm5")).unwrap();
    fs::write(scene.path("to/vm5/firewall.xml"), "mine").unwrap();
    let done = scene.run(&["restore", "ARCHIVE", "--to", "TO", "--json"]);
    assert_eq!(done.code, 1, "{done:?}");
    assert_eq!(
        pairs(&done)[1..3],
        wanted(&[
            ("restored", "vm5/private.img"),
            ("withheld", "vm5/firewall.xml"),
        ])
    );
    let found = fs::read(scene.path("to/vm5/firewall.xml")).unwrap();
    assert_eq!(found, b"mine");
}

#[test]
fn files_that_wait_for_a_manifest_are_withheld() {
    let mut made = Recipe::new(false, true).make();
    let at = made.at("vm7/..000");
    made.pieces[at].data[600] ^= 1;
    let scene = Scene::of(&made.pack());
    let arguments = ["restore", "-", "--to", "TO", "--json"];
    let mut running = Running::start(&mut scene.command(&arguments));
    running.write(&made.pack());
    let done = running.finish();
    assert_eq!(done.code, 13, "{done:?}");
    assert_eq!(
        pairs(&done),
        wanted(&[
            ("withheld", "qubes.xml"),
            ("withheld", "vm5/private.img"),
            ("withheld", "vm5/firewall.xml"),
            ("withheld", "vm6/private.img"),
            ("begun", "vm7/."),
            ("not read", "dom0-home/user"),
        ])
    );
    assert_eq!(files(&scene.path("to")), [""; 0]);
    // Wrong before anything is known: the manifest alone names the files.
    let mut early = Recipe::new(false, true).make();
    let at = early.at("qubes.xml.000");
    early.pieces[at].data[600] ^= 1;
    scene.write(&early.pack());
    let done = scene.run(&["restore", "ARCHIVE", "--to", "TO", "--json"]);
    let (first, rest) = (&pairs(&done)[0], &pairs(&done)[1..]);
    assert_eq!(first, &wanted(&[("begun", "qubes.xml")])[0]);
    assert_eq!(rest.len(), 5, "{rest:?}");
    assert!(rest.iter().all(|(state, _)| state == "not read"));
    scene.write(&made.pack());
    // From a file the manifest is read first, and names what is missed.
    let done = scene.run(&["verify", "ARCHIVE", "--json"]);
    assert_eq!(
        pairs(&done)[4..],
        wanted(&[("begun", "vm7/."), ("not read", "dom0-home/user"),])
    );
}

#[test]
fn a_summary_comes_even_if_nothing_was_read() {
    let scene = Scene::new();
    for (code, arguments) in [
        (10, &["verify", "missing", "--passphrase-file", "PASSPHRASE"][..]),
        (10, &["verify", "ARCHIVE", "--passphrase-file", "missing"]),
        (18, &["verify", "ARCHIVE", "--passphrase-command", "exit 4"]),
        (12, &["verify", "ARCHIVE", "--passphrase-command", "echo no"]),
        (14, &["verify", "/", "--passphrase-file", "PASSPHRASE"]),
        (
            1,
            &[
                "restore",
                "ARCHIVE",
                "--to",
                "/dev/null/no",
                "--passphrase-file",
                "PASSPHRASE",
            ],
        ),
    ] {
        let arguments = [arguments, &["--json"]].concat();
        let done = Running::start(&mut scene.bare(&arguments)).finish();
        assert_eq!(done.code, code, "{done:?}");
        done.error();
        assert_eq!(pairs(&done), [], "{arguments:?}");
        // For people there is nothing but the error.
        let arguments = &arguments[..arguments.len() - 1];
        let done = Running::start(&mut scene.bare(arguments)).finish();
        assert_eq!((done.code, done.out.as_str()), (code, ""), "{arguments:?}");
    }
}

#[test]
fn a_cut_archive_has_its_file_lines() {
    let scene = Scene::new();
    scene.write(&outer(&scene.members[..9]));
    let done = scene.run(&["restore", "ARCHIVE", "--to", "TO", "--json"]);
    assert_eq!(done.code, 15, "{done:?}");
    assert_eq!(
        pairs(&done)[..3],
        wanted(&[
            ("restored", "qubes.xml"),
            ("restored", "vm5/private.img"),
            ("restored", "vm5/firewall.xml"),
        ])
    );
    let there = [FIRST[0], "vm5/firewall.xml", FIRST[1]];
    assert_eq!(files(&scene.path("to")), there);
}
