//! Several commands at once: on one archive, and into one directory.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::fs;

use crate::running::Running;
use crate::scene::{Scene, files};

#[test]
fn two_commands_on_one_archive() {
    let scene = Scene::new();
    let mut running = Vec::new();
    for _ in 0..3 {
        for arguments in [
            &["verify", "ARCHIVE"][..],
            &["cat", "ARCHIVE", "vm5/private.img"],
            &["list", "ARCHIVE"],
        ] {
            let command = &mut scene.command(arguments);
            running.push((arguments[0], Running::start(command)));
        }
    }
    for (verb, running) in running {
        let done = running.finish();
        assert_eq!((done.code, done.err.as_str()), (0, ""), "{verb}");
        if verb == "cat" {
            assert!(done.stdout == scene.original("vm5/private.img"));
        }
    }
}

#[test]
fn a_second_restore_into_one_directory_is_refused() {
    let scene = Scene::new();
    let mut first = scene.half_restored(&[]);
    let second = scene.run(&["restore", "ARCHIVE", "--to", "TO", "--json"]);
    assert_eq!(second.code, 1, "{second:?}");
    let text = "found an existing file; wanted none, nothing was replaced; \
                --overwrite replaces it";
    assert!(second.error().ends_with(text), "{}", second.err);
    // The first one does not notice.
    first.write(&scene.second_half());
    let first = first.finish();
    assert_eq!((first.code, first.err.as_str()), (0, ""), "{first:?}");
    for name in ["qubes.xml", "vm5/private.img", "vm5/firewall.xml"] {
        let found = fs::read(scene.path("to").join(name)).unwrap();
        assert!(found == scene.original(name), "{name}");
    }
}

#[test]
fn restores_that_may_replace_leave_whole_files() {
    let scene = Scene::new();
    let arguments = ["restore", "ARCHIVE", "--to", "TO", "--overwrite"];
    // Files alone: two that merge one tree may meet in it.
    let arguments = [&arguments[..], &["work"]].concat();
    for _ in 0..3 {
        let running: Vec<Running> = (0..4)
            .map(|_| Running::start(&mut scene.command(&arguments)))
            .collect();
        for running in running {
            let done = running.finish();
            assert_eq!((done.code, done.err.as_str()), (0, ""), "{done:?}");
        }
        let there = ["vm5/firewall.xml", "vm5/private.img"];
        assert_eq!(files(&scene.path("to")), there);
        for name in there {
            let found = fs::read(scene.path("to").join(name)).unwrap();
            assert!(found == scene.original(name), "{name}");
        }
    }
}

#[test]
fn of_restores_that_begin_together_one_wins() {
    let scene = Scene::new();
    let arguments = ["restore", "ARCHIVE", "--to", "TO"];
    for _ in 0..5 {
        let _ = fs::remove_dir_all(scene.path("to"));
        let running: Vec<Running> = (0..3)
            .map(|_| Running::start(&mut scene.command(&arguments)))
            .collect();
        let mut codes: Vec<i32> =
            running.into_iter().map(|r| r.finish().code).collect();
        codes.sort_unstable();
        assert_eq!(codes, [0, 1, 1]);
        let there = files(&scene.path("to"));
        assert!(!there.iter().any(|name| name.starts_with(".qubes-fsm")));
        let image = fs::read(scene.path("to/vm5/private.img")).unwrap();
        assert!(image == scene.original("vm5/private.img"));
    }
}
