//! SIGINT and SIGTERM wherever a command waits, and SIGKILL.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::fs;
use std::io::{self, PipeReader, PipeWriter, Write as _};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use rustix::process::Signal;

use crate::running::{Done, Running, await_it};
use crate::scene::{FIRST, FORM, Scene, files};

const BOTH: [(Signal, i32, &str); 2] =
    [(Signal::INT, 130, "SIGINT"), (Signal::TERM, 143, "SIGTERM")];

/// Cancels what waits by now: both its exit and its words say by what.
fn canceled(
    running: Running,
    (signal, code, name): (Signal, i32, &str),
) -> Done {
    running.await_handlers();
    running.signal(signal);
    let done = running.end();
    assert_eq!(done.code, code, "{done:?}");
    let error = done.error();
    let text = format!(": canceled by {name}; what is in place is whole");
    assert!(error.ends_with(&text), "{error}");
    done
}

fn fifo(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

#[test]
fn a_source_that_says_nothing() {
    let scene = Scene::new();
    for signal in BOTH {
        for arguments in [
            &["list", "-"][..],
            &["verify", "-"],
            &["cat", "-", "vm5/private.img"],
            &["restore", "-", "--to", "TO"],
        ] {
            let running = Running::start(&mut scene.command(arguments));
            let done = canceled(running, signal);
            assert_eq!(done.out, "", "{arguments:?}");
        }
    }
    assert_eq!(files(&scene.path("to")), [""; 0]);
}

#[test]
fn a_named_pipe_whose_writer_never_comes_or_stalls() {
    let scene = Scene::new();
    let pipe = scene.path("pipe");
    fifo(&pipe);
    let name = pipe.to_str().unwrap();
    for signal in BOTH {
        let command = || scene.command(&["verify", name, "--json"]);
        let done = canceled(Running::start(&mut command()), signal);
        assert_eq!(done.files(), []);
        let running = Running::start(&mut command());
        let mut writer = fs::File::options().write(true).open(&pipe).unwrap();
        writer.write_all(&scene.first_half()).unwrap();
        let done = canceled(running, signal);
        done.lines();
        drop(writer);
    }
}

#[test]
fn a_restore_of_several_files_in_the_middle() {
    let scene = Scene::new();
    for (number, signal) in BOTH.into_iter().enumerate() {
        let _ = fs::remove_dir_all(scene.path("to"));
        let running = scene.half_restored(&["--json"]);
        running.signal(signal.0);
        if number == 0 {
            // Others change nothing, of either kind.
            for _ in 0..20 {
                running.signal(Signal::TERM);
                running.signal(Signal::INT);
            }
        }
        let done = canceled_already(running, signal);
        let files_told = done.files();
        let words: Vec<(&str, &str)> =
            files_told.iter().map(|(s, n)| (s.as_str(), n.as_str())).collect();
        assert_eq!(
            words,
            [
                ("restored", "qubes.xml"),
                ("restored", "vm5/private.img"),
                ("begun", "vm5/firewall.xml"),
                // What every qube has, as far as one can know.
                ("not read", "dom0-home/user"),
                ("not read", "vm7/private.img"),
                ("not read", "vm7/root.img"),
            ]
        );
        assert_eq!(files(&scene.path("to")), FIRST);
        let image = fs::read(scene.path("to/vm5/private.img")).unwrap();
        assert!(image == scene.original("vm5/private.img"));
    }
}

fn canceled_already(
    running: Running,
    (_, code, name): (Signal, i32, &str),
) -> Done {
    let done = running.end();
    assert_eq!(done.code, code, "{done:?}");
    assert!(done.error().contains(name), "{done:?}");
    assert_eq!(done.err.matches("canceling").count(), 1, "{}", done.err);
    done
}

#[test]
fn a_passphrase_that_never_comes() {
    let scene = Scene::new();
    let pipe = scene.path("pipe");
    fifo(&pipe);
    let pipe = pipe.to_str().unwrap();
    for signal in BOTH {
        for source in [
            ["--passphrase-file", pipe],
            ["--passphrase-fd", "0"],
            ["--passphrase-command", "exec sleep 1000"],
            // It has said everything, and stays.
            ["--passphrase-command", "echo x; exec >&-; exec sleep 1000"],
            // TERM does not end it.
            ["--passphrase-command", "trap '' TERM; while :; do sleep 1; done"],
        ] {
            let arguments =
                [&["restore", "ARCHIVE", "--to", "TO"][..], &source].concat();
            let running = Running::start(&mut scene.bare(&arguments));
            let done = canceled(running, signal);
            assert!(done.error().starts_with("passphrase"), "{}", done.err);
        }
    }
    // The passphrase comes first: there is not even an empty directory.
    assert!(!scene.path("to").exists());
}

#[test]
fn no_command_for_the_passphrase_outlives_a_cancel() {
    let scene = Scene::new();
    let mark = scene.path("mark");
    let text = format!("echo $$ > '{}'; exec sleep 1000", mark.display());
    let arguments = ["verify", "ARCHIVE", "--passphrase-command", &text];
    let running = Running::start(&mut scene.bare(&arguments));
    await_it("the command's number", || {
        fs::read_to_string(&mark).is_ok_and(|text| text.ends_with('\n'))
    });
    let number = fs::read_to_string(&mark).unwrap();
    let process = Path::new("/proc").join(number.trim());
    assert!(process.exists());
    canceled(running, BOTH[1]);
    assert!(!process.exists());
}

/// A pipe that is full, and whose reader does not read.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, writer) = io::pipe().unwrap();
    let flags = rustix::fs::fcntl_getfl(&writer).unwrap();
    rustix::fs::fcntl_setfl(&writer, flags | OFlags::NONBLOCK).unwrap();
    while (&writer).write(&[7; 4096]).is_ok() {}
    rustix::fs::fcntl_setfl(&writer, flags).unwrap();
    (reader, writer)
}

#[test]
fn a_stdout_that_nobody_reads() {
    let scene = Scene::with(FORM, |from| {
        fs::write(from.join("vm5/private.img"), vec![7; 4 << 20]).unwrap();
    });
    for signal in BOTH {
        for arguments in [
            &["cat", "ARCHIVE", "vm5/private.img"][..],
            &["cat", "ARCHIVE", "qubes.xml"],
            &["list", "ARCHIVE"],
            // All is done there, but nobody has heard of it.
            &["verify", "ARCHIVE"],
            &["verify", "ARCHIVE", "--json"],
            &["restore", "ARCHIVE", "--overwrite", "--to", "TO"],
        ] {
            let (reader, writer) = full_pipe();
            let mut command = scene.command(arguments);
            let running = Running::start_to(&mut command, writer.into());
            drop(command);
            if arguments[0] == "restore" {
                let last = scene.path("to/dom0-home/user/up");
                await_it("the last file", || last.is_symlink());
            }
            let done = canceled(running, signal);
            assert_eq!(done.out, "");
            drop(reader);
        }
    }
    let is_stage = |name: &String| name.starts_with(".qubes-fsm");
    assert!(!files(&scene.path("to")).iter().any(is_stage));
}

#[test]
fn a_kill_leaves_a_stage_and_the_next_restore_sweeps_it() {
    let scene = Scene::new();
    let running = scene.half_restored(&[]);
    let to = scene.path("to");
    running.slay();
    let left = files(&to);
    assert!(left[0].starts_with(".qubes-fsm-restore-"), "{left:?}");
    let whole = |name: &String| !name.starts_with(".qubes-fsm");
    let others: Vec<String> = left.into_iter().filter(whole).collect();
    assert_eq!(others, FIRST);
    // One that lives is not swept.
    let lives = scene.half_restored(&["--overwrite"]);
    let swept = "qubes-fsm: unfinished restores removed: 1\n";
    await_it("the sweep", || lives.err_so_far() == swept);
    let arguments = ["restore", "ARCHIVE", "--to", "TO", "--overwrite"];
    let done = scene.run(&arguments);
    assert_eq!((done.code, done.err.as_str()), (0, ""));
    let stages = |files: Vec<String>| {
        let is_stage =
            |name: &&String| name.starts_with(".") && !name.contains('/');
        files.iter().filter(is_stage).count()
    };
    assert_eq!(stages(files(&to)), 1);
    lives.signal(Signal::INT);
    assert_eq!(lives.end().code, 130);
    assert_eq!(stages(files(&to)), 0);
}

#[test]
fn a_program_that_decompresses_ends_with_a_cancel() {
    let form = crate::archive::Form { filter: Some("gzip"), ..FORM };
    let scene = Scene::with(form, |_| {});
    for signal in BOTH {
        let _ = fs::remove_dir_all(scene.path("to"));
        let running = scene.half_restored(&["--external-filter"]);
        let of_gzip = || {
            let mut children = children(running.id()).into_iter();
            children.find(|(_, words, _)| words.contains("gzip"))
        };
        await_it("the program", || of_gzip().is_some());
        let (number, words, variables) = &of_gzip().unwrap();
        // What it was given is seen by everybody: no passphrase is in it.
        for text in [words, variables] {
            assert!(!text.contains(crate::archive::PASSPHRASE), "{text}");
        }
        assert_eq!(variables, "");
        canceled(running, signal);
        assert!(!Path::new("/proc").join(number).exists());
        assert_eq!(files(&scene.path("to")), FIRST);
    }
}

/// Number, arguments and environment of each child of a process.
fn children(id: u32) -> Vec<(String, String, String)> {
    let above = format!("PPid:\t{id}\n");
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let facts = processes.filter_map(|process| {
        // Others may end meanwhile.
        let read = |name: &str| fs::read_to_string(process.path().join(name));
        if !read("status").ok()?.contains(&above) {
            return None;
        }
        let number = process.file_name().into_string().ok()?;
        Some((number, read("cmdline").ok()?, read("environ").ok()?))
    });
    facts.collect()
}
