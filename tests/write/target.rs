//! Where the archive goes: nothing that is there is replaced, and a name is
//! there only when all of it is.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use qubes_fsm::backup::write::{Options, WriteError, to_file};
use rustix::fs::{CWD, FileType, FlockOperation, Mode, flock, mknodat};

use crate::scene::{FORM, Form, Scene, names, options};

#[test]
fn what_is_there_is_never_replaced() {
    let scene = Scene::small();
    let path = scene.path("out/archive");
    let text = format!(
        "{}: found an existing file; wanted none, nothing was replaced",
        path.display()
    );
    fs::write(&path, "mine").unwrap();
    let before = fs::metadata(&path).unwrap();
    let done = scene.run(&["--to", "ARCHIVE"]);
    assert_eq!((done.code, done.error()), (1, text.as_str()));
    let after = fs::metadata(&path).unwrap();
    assert_eq!(before.ino(), after.ino());
    assert_eq!(before.modified().unwrap(), after.modified().unwrap());
    assert_eq!(fs::read(&path).unwrap(), b"mine");

    fs::remove_file(&path).unwrap();
    symlink("nowhere", &path).unwrap();
    let done = scene.run(&["--to", "ARCHIVE"]);
    assert_eq!((done.code, done.error()), (1, text.as_str()));
    assert_eq!(scene.out(), ["archive"]);
    assert_eq!(fs::read_link(&path).unwrap().to_str(), Some("nowhere"));

    fs::remove_file(&path).unwrap();
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR, 0).unwrap();
    let done = scene.run(&["--to", "ARCHIVE"]);
    assert_eq!((done.code, done.error()), (1, text.as_str()));
}

/// Somebody else has taken the name while the archive was written.
#[test]
fn what_comes_meanwhile_is_not_replaced() {
    for on_old_kernel in [false, true] {
        let scene = Scene::small();
        let path = scene.path("out/archive");
        let other = path.clone();
        let progress = Box::new(move |_: u64, _: &[u8]| {
            fs::write(&other, "theirs").unwrap();
        });
        let options = Options { progress, on_old_kernel, ..options(FORM) };
        let error = to_file(&scene.contents(), &path, options).unwrap_err();
        assert!(matches!(error, WriteError::Exists { .. }), "{error:?}");
        assert_eq!(scene.out(), ["archive"]);
        assert_eq!(fs::read(&path).unwrap(), b"theirs");
    }
}

#[test]
fn there_is_no_name_before_the_end() {
    for on_old_kernel in [false, true] {
        let scene = Scene::small();
        let path = scene.path("out/archive");
        let (out, seen) = (scene.path("out"), scene.path("seen"));
        let progress = Box::new(move |_: u64, _: &[u8]| {
            fs::write(&seen, names(&out).join("\n")).unwrap();
        });
        let options = Options { progress, on_old_kernel, ..options(FORM) };
        to_file(&scene.contents(), &path, options).unwrap();
        let seen = fs::read_to_string(scene.path("seen")).unwrap();
        if on_old_kernel {
            assert!(seen.starts_with(".qubes-fsm-backup-"), "{seen}");
            assert!(!seen.contains('\n'), "{seen}");
        } else {
            assert_eq!(seen, "");
        }
        assert_eq!(scene.out(), ["archive"]);
        scene.assert_whole();
        // Whoever backs up may read it, and nobody else.
        let meta = fs::metadata(&path).unwrap();
        assert_eq!(meta.permissions().mode() & 0o7777, 0o600);
        assert_eq!(meta.nlink(), 1);
    }
}

/// Temporary archives of the dead are removed, those of the living are not.
#[test]
fn what_dead_processes_left_is_removed() {
    let scene = Scene::small();
    let at = |name: &str| scene.path("out").join(name);
    let (dead, living) = (".qubes-fsm-backup-dead", ".qubes-fsm-backup-live");
    fs::write(at(dead), "half").unwrap();
    fs::write(at(living), "half").unwrap();
    let file = File::open(at(living)).unwrap();
    flock(&file, FlockOperation::LockExclusive).unwrap();
    // Nobody writes it, and nobody waits for that.
    let pipe = ".qubes-fsm-backup-pipe";
    mknodat(CWD, at(pipe), FileType::Fifo, Mode::RUSR, 0).unwrap();
    symlink(scene.path("passphrase"), at(".qubes-fsm-backup-link")).unwrap();
    fs::write(at("mine"), "mine").unwrap();
    assert_eq!(scene.run(&["--to", "ARCHIVE"]).code, 0);
    let left = scene.out();
    assert!(!left.contains(&dead.to_owned()), "{left:?}");
    assert!(left.contains(&living.to_owned()), "{left:?}");
    assert!(left.contains(&"mine".to_owned()), "{left:?}");
    assert!(scene.path("passphrase").exists());
    scene.assert_whole();
}

#[test]
fn a_directory_gets_an_archive_with_the_time_as_its_name() {
    let scene = Scene::small();
    for to in ["OUT", "out/"] {
        let mut command = scene.backup(&["--to", to]);
        command.current_dir(scene.directory.path());
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let names = scene.out();
        let [name] = names.as_slice() else { panic!("{names:?}") };
        let time = name.strip_prefix("qubes-backup-").unwrap();
        let shape: String = time
            .chars()
            .map(|c| if c.is_ascii_digit() { 'N' } else { c })
            .collect();
        assert_eq!(shape, "NNNN-NN-NNTNNNNNN");
        // It is the name that is told.
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains(&format!("{name}: 3 files, ")), "{text}");
        let archive = fs::read(scene.path("out").join(name)).unwrap();
        scene.assert_same(&archive);
        fs::remove_file(scene.path("out").join(name)).unwrap();
    }
}

#[test]
fn a_name_without_a_directory_is_in_this_one() {
    let scene = Scene::small();
    let mut command = scene.backup(&["--to", "archive"]);
    command.current_dir(scene.path("out"));
    assert_eq!(command.output().unwrap().status.code(), Some(0));
    scene.assert_whole();
}

#[test]
fn directories_that_are_missing_or_cannot_be_written() {
    let scene = Scene::small();
    for (to, says, code) in [
        ("/nowhere/at/all", "/nowhere/at/all: open: No such file", 10),
        // Nothing can be made in there, not even by root, and the system
        // says that something is not there.
        ("/proc/archive", "/proc/archive: create: ", 10),
    ] {
        let done = scene.run(&["--to", to, "--json"]);
        assert_eq!(done.code, code, "{done:?}");
        assert!(done.error().starts_with(says), "{done:?}");
        done.lines();
    }
    let done = scene.run(&["--to", "/dev/null"]);
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.error().contains("found an existing file"), "{done:?}");
}

#[test]
fn chunk_sizes_that_are_refused() {
    let scene = Scene::small();
    for (size, code) in [("0", 2), ("268435457", 2), ("268435456", 0)] {
        let done = scene.run(&["--to", "ARCHIVE", "--chunk-size", size]);
        assert_eq!(done.code, code, "{done:?}");
        if code == 2 {
            let text =
                format!("chunk size {size} bytes; wanted 1 to 268435456 bytes");
            // It is no path: nothing stands before it.
            assert!(done.err.contains(&text), "{done:?}");
            assert_eq!(scene.out(), [""; 0]);
        }
    }
}

fn chunks_of(scene: &Scene, chunk: u64, file: &str) -> (Vec<usize>, Vec<u8>) {
    let archive = scene.written(Form { chunk, ..FORM });
    let mut found = Vec::new();
    let mut read = tar::Archive::new(archive.as_slice());
    for entry in read.entries().unwrap() {
        let entry = entry.unwrap();
        let name = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
        if !name.starts_with(file) || name.ends_with(".hmac") {
            continue;
        }
        assert_eq!(name, format!("{file}.{:03}", found.len()));
        found.push(entry.size() as usize);
    }
    (found, archive)
}

/// As many chunks as it takes, the last one what is left, and none of them
/// empty.
//= spec/format3.md#where-a-chunk-ends
#[test]
fn streams_are_cut_where_they_should_be() {
    let scene = Scene::small();
    // The inner archive of 60,000 bytes: seven records.
    for (chunk, sizes) in [
        (71_680, vec![71_680]),
        (71_681, vec![71_680]),
        (71_679, vec![71_679, 1]),
        (35_840, vec![35_840; 2]),
        (10_240, vec![10_240; 7]),
        (50_000, vec![50_000, 21_680]),
        (512, vec![512; 140]),
    ] {
        let (found, archive) = chunks_of(&scene, chunk, "vm5/private.img");
        assert_eq!(found, sizes, "{chunk}");
        scene.assert_same(&archive);
        // Always one, however small the chunks are.
        let (found, _) = chunks_of(&scene, chunk, "backup-manifest");
        assert_eq!(found.len(), 1);
    }
}

#[test]
fn a_file_of_1025_chunks_and_one_without_a_byte() {
    use crate::trees::{Layout, write};
    let scene = Scene::with(Layout::Small, |from| {
        write(&from.join("vm5/icon.png"), b"");
    });
    // Not a divisor: the last chunk is a short one.
    let (found, archive) = chunks_of(&scene, 70, "vm5/private.img");
    assert_eq!(found.len(), 1_024);
    assert_eq!(found.last(), Some(&70));
    scene.assert_same(&archive);
    let (found, archive) = chunks_of(&scene, 69, "vm5/private.img");
    assert_eq!(found.len(), 1_039);
    assert_eq!(found.last(), Some(&58));
    scene.assert_same(&archive);
    let (found, _) = chunks_of(&scene, 10_240, "vm5/icon.png");
    assert_eq!(found, [10_240]);
}

/// How many compress is seen nowhere in the archive.
#[test]
fn workers_do_not_change_the_archive() {
    let scene = Scene::full(crate::trees::Layout::Hidden);
    for filter in ["gzip", "bzip2", "xz:0", "zstd"] {
        let form = Form { filter: Some(filter), manifest: false, ..FORM };
        let mut first: Option<Vec<u8>> = None;
        for workers in [1, 2, 4] {
            let path = scene.path("out/archive");
            let options = Options { workers, ..options(form) };
            to_file(&scene.contents(), &path, options).unwrap();
            let archive = fs::read(&path).unwrap();
            fs::remove_file(&path).unwrap();
            match &first {
                None => first = Some(archive),
                Some(first) => assert!(*first == archive, "{filter}"),
            }
        }
        // A pipe gets the same bytes.
        assert!(first.unwrap() == scene.written(form), "{filter}");
    }
}
