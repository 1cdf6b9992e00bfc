//! `backup` to a file whose n-th system call fails, for every n: the right
//! end, and nothing left.

#![cfg(feature = "backup")]
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use qubes_fsm::backup::read::{Goal, Options as Reading, read_seekable};
use qubes_fsm::backup::write::source::Contents;
use qubes_fsm::backup::write::{Faults, Options, WriteError, to_file};
use qubes_fsm::fsm::cancel::Gate;

const ENOSPC: i32 = 28;
const EIO: i32 = 5;

fn tree(directory: &Path) {
    let store = "<QubesVmCollection default_template=\"None\">\
        <QubesAppVm qid=\"5\" name=\"work\" template_qid=\"none\" \
        backup_content=\"True\" backup_path=\"vm5\"/></QubesVmCollection>";
    fs::create_dir(directory.join("vm5")).unwrap();
    fs::write(directory.join("qubes.xml"), store).unwrap();
    let image: Vec<u8> = (0..60_000_u32).map(|n| (n % 251) as u8).collect();
    fs::write(directory.join("vm5/private.img"), image).unwrap();
    fs::write(directory.join("vm5/firewall.xml"), "").unwrap();
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name());
    names.map(|name| name.to_string_lossy().into_owned()).collect()
}

fn verify(archive: &Path) {
    let passphrase = b"correct horse".to_vec().into();
    let options = Reading {
        require_manifest: true,
        ..Reading::new(passphrase, Goal::Verify)
    };
    let report =
        read_seekable(fs::File::open(archive).unwrap(), options).unwrap();
    assert_eq!(report.omissions, [""; 0]);
}

/// The first failure is the error; what is in place is whole, and nothing
/// else is there.
#[test]
fn every_call_fails_once() {
    let source = tempfile::tempdir().unwrap();
    tree(source.path());
    let contents = Contents::from_dir(source.path(), &[], &[]).unwrap();
    let (mut failures, mut in_place) = (0, 0);
    for errno in [ENOSPC, EIO] {
        for call in 0.. {
            let to = tempfile::tempdir().unwrap();
            let archive = to.path().join("archive");
            let faults = Faults::at(call, errno);
            let options = Options {
                chunk_bytes: 10_000,
                faults: faults.clone(),
                ..Options::new(b"correct horse".to_vec().into())
            };
            let written = to_file(&contents, &archive, options);
            if !faults.is_met() {
                // There is no such call any more.
                assert!(written.is_ok(), "{call}: {written:?}");
                assert_eq!(names(to.path()), ["archive"]);
                verify(&archive);
                break;
            }
            failures += 1;
            let error = written.unwrap_err();
            // What is in place all the same is said.
            let noted = matches!(error, WriteError::Noted { .. });
            let first = if let WriteError::Noted { cause, .. } = &error {
                cause
            } else {
                &error
            };
            let WriteError::Target { cause, call: what, .. } = first else {
                unreachable!("{call}: {error}");
            };
            assert_eq!(cause.raw_os_error(), Some(errno), "{call}: {error}");
            assert_eq!(*what == "sync directory", noted, "{call}: {error}");
            if noted {
                in_place += 1;
                assert_eq!(names(to.path()), ["archive"], "{call}");
                verify(&archive);
            } else {
                assert_eq!(names(to.path()), [""; 0], "{call}: {error}");
            }
        }
    }
    // Two of them, one for each errno: the archive is whole and stays.
    assert_eq!(in_place, 2);
    assert!(failures > 60, "{failures}");
}

/// Where the archive has a name from the beginning and nothing works any
/// more, it stays under its temporary name, and that is said.
#[test]
fn what_cannot_be_removed_is_said() {
    let source = tempfile::tempdir().unwrap();
    tree(source.path());
    let contents = Contents::from_dir(source.path(), &[], &[]).unwrap();
    let left = |error: &WriteError| {
        matches!(error, WriteError::Noted { note, .. }
            if note.starts_with("left: "))
    };
    let mut said = [0; 2];
    for (cancel, said) in [false, true].into_iter().zip(&mut said) {
        for call in 0.. {
            let to = tempfile::tempdir().unwrap();
            let archive = to.path().join("archive");
            let faults = Faults::from(call, EIO);
            let gate = Arc::new(Mutex::new(Gate::default()));
            let canceling = Arc::clone(&gate);
            let options = Options {
                chunk_bytes: 10_000,
                faults: faults.clone(),
                on_old_kernel: true,
                gate,
                progress: Box::new(move |_, _| {
                    if cancel {
                        canceling.lock().cancel();
                    }
                }),
                ..Options::new(b"correct horse".to_vec().into())
            };
            let written = to_file(&contents, &archive, options);
            if !faults.is_met() {
                assert!(call > 3, "{call}: {written:?}");
                break;
            }
            let error = written.unwrap_err();
            let there = names(to.path());
            match there.as_slice() {
                // The first call of all, which makes it.
                [] => assert!(call == 0 && !left(&error), "{call}: {error}"),
                // Behind the rename nothing is left.
                [name] if name == "archive" => verify(&archive),
                [name] => {
                    assert!(left(&error), "{call}: {error}");
                    assert!(error.to_string().contains(name), "{error}");
                    *said += u32::from(error.is_cancel() == cancel);
                }
                more => unreachable!("{call}: {more:?}"),
            }
        }
    }
    assert!(said[0] > 30 && said[1] > 0, "{said:?}");
}

const CHILD: &str = "QUBES_FSM_TEST_OLD_KERNEL";

fn on_old_kernel() -> Options<'static> {
    Options {
        chunk_bytes: 10_000,
        on_old_kernel: true,
        ..Options::new(b"correct horse".to_vec().into())
    }
}

/// What `whoever_is_killed_leaves_no_half_archive` runs and kills.
#[test]
fn child_of_the_next() {
    let Some(to) = std::env::var_os(CHILD).map(PathBuf::from) else { return };
    let contents = Contents::from_dir(&to.join("from"), &[], &[]).unwrap();
    fs::write(to.join("begins"), "").unwrap();
    to_file(&contents, &to.join("to/archive"), on_old_kernel()).unwrap();
}

/// Where an archive needs a name from the beginning, a killed process leaves
/// one that is temporary, and the next run removes it.
#[test]
fn whoever_is_killed_leaves_no_half_archive() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["from", "to"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    tree(&dir.path().join("from"));
    let (to, begins) = (dir.path().join("to"), dir.path().join("begins"));
    let archive = to.join("archive");
    let (mut left, mut whole) = (0, 0);
    for round in 0..200_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_of_the_next"])
            .env(CHILD, dir.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        while !begins.exists() && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        // Longer by the round, and spread over it by a prime.
        let wait = round * 50 + round * 7919 % 500;
        std::thread::sleep(Duration::from_micros(wait));
        let _ = child.kill();
        child.wait().unwrap();
        fs::remove_file(&begins).unwrap();
        for name in names(&to) {
            if name == "archive" {
                verify(&archive);
                whole += 1;
                fs::remove_file(&archive).unwrap();
            } else {
                assert!(name.starts_with(".qubes-fsm-backup-"), "{name}");
                left += 1;
            }
        }
        if round % 20 == 19 {
            let contents =
                Contents::from_dir(&dir.path().join("from"), &[], &[]);
            to_file(&contents.unwrap(), &archive, on_old_kernel()).unwrap();
            assert_eq!(names(&to), ["archive"]);
            verify(&archive);
            fs::remove_file(&archive).unwrap();
        }
    }
    eprintln!("of 200: {left} left by those killed, {whole} whole");
}
