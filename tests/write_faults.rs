//! `backup` to a file whose n-th system call fails, for every n: the right
//! end, and nothing left.

#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::fs;
use std::path::Path;

use qubes_fsm::backup::read::{Goal, Options as Reading, read_seekable};
use qubes_fsm::backup::write::source::Contents;
use qubes_fsm::backup::write::{Faults, Options, WriteError, to_file};

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
