//! What changes while it is read is an error that names it.

use std::fs;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};

use qubes_fsm::backup::write::source::{Archiver, SourceError};

use crate::scene::{Scene, all, qube, read_to, until_seen};
use crate::trees::{noise, write};

const IMAGE: &str = "vm5/private.img";

fn image() -> Scene {
    let scene = Scene::with(&qube("AppVm", "work", "vm5"), &[]);
    write(&scene.at(IMAGE), &noise(100_000));
    scene
}

fn home() -> Scene {
    let home = qube("AdminVm", "dom0", "dom0-home/user");
    Scene::with(
        &home,
        &[
            "dom0-home/user/a/file",
            "dom0-home/user/b",
            "dom0-home/user/m/middle",
            "dom0-home/user/z/file",
        ],
    )
}

/// A part of it was read.
fn begun(scene: &Scene) -> Archiver {
    let mut archiver = scene.open(IMAGE);
    assert_eq!(archiver.fill(&mut [0; 5_000]), Ok(5_000));
    archiver
}

/// The text of the error with which it ends, and nothing comes after it.
fn changed(scene: &Scene, mut archiver: Archiver) -> String {
    let mut room = vec![0; 1_000];
    let error = loop {
        match archiver.fill(&mut room) {
            Ok(0) => break archiver.finish().unwrap_err(),
            Ok(_) => {}
            Err(error) => {
                for _ in 0..2 {
                    let again = archiver.fill(&mut room).unwrap_err();
                    assert!(matches!(again, SourceError::Unfinished { .. }));
                }
                let end = archiver.finish().unwrap_err();
                assert!(matches!(end, SourceError::Unfinished { .. }));
                break error;
            }
        }
    };
    assert!(matches!(error, SourceError::Changed { .. }), "{error}");
    scene.text(&error)
}

#[test]
fn a_shorter_file() {
    let scene = image();
    let archiver = begun(&scene);
    let file = fs::File::options().write(true).open(scene.at(IMAGE)).unwrap();
    file.set_len(50_000).unwrap();
    assert_eq!(
        changed(&scene, archiver),
        "vm5/private.img: changed meanwhile: found its end at byte 50000; \
         wanted 100000 bytes"
    );
}

#[test]
fn a_longer_file() {
    let scene = image();
    let archiver = begun(&scene);
    let file = fs::File::options().write(true).open(scene.at(IMAGE)).unwrap();
    file.set_len(100_001).unwrap();
    assert_eq!(
        changed(&scene, archiver),
        "vm5/private.img: changed meanwhile: found a size of 100001 bytes; \
         wanted 100000 bytes"
    );
}

#[test]
fn other_bytes_of_the_same_number() {
    let scene = image();
    let archiver = begun(&scene);
    let path = scene.at(IMAGE);
    let file = fs::File::options().write(true).open(&path).unwrap();
    until_seen(&path, || file.write_all_at(b"x", 0).unwrap());
    let text = changed(&scene, archiver);
    let begin = "vm5/private.img: changed meanwhile: found modified at ";
    assert!(text.starts_with(begin), "{text}");
}

/// Who sets the time back cannot set back that of the change.
#[test]
fn a_modification_time_that_is_set_back() {
    let scene = image();
    let archiver = begun(&scene);
    let path = scene.at(IMAGE);
    let file = fs::File::options().write(true).open(&path).unwrap();
    let time = fs::metadata(&path).unwrap().modified().unwrap();
    until_seen(&path, || {
        file.write_all_at(b"x", 0).unwrap();
        file.set_modified(time).unwrap();
    });
    let text = changed(&scene, archiver);
    let begin = "vm5/private.img: changed meanwhile: found changed at ";
    assert!(text.starts_with(begin), "{text}");
}

#[test]
fn a_file_that_is_removed() {
    let scene = image();
    let archiver = scene.open(IMAGE);
    fs::remove_file(scene.at(IMAGE)).unwrap();
    let text = "vm5/private.img: changed meanwhile: found nothing; wanted ";
    let found = changed(&scene, archiver);
    assert_eq!(found, format!("{text}what was there"));
    // While it is read: its bytes are there, its name is not.
    let scene = image();
    let archiver = begun(&scene);
    let path = scene.directory.path().join("link");
    fs::hard_link(scene.at(IMAGE), &path).unwrap();
    until_seen(&path, || {
        let mode = fs::Permissions::from_mode(0o600);
        fs::set_permissions(&path, mode).unwrap();
    });
    fs::remove_file(scene.at(IMAGE)).unwrap();
    changed(&scene, archiver);
}

/// Nobody looks at it again at the end.
#[test]
fn a_file_in_a_tree() {
    let scene = home();
    let path = scene.at("dom0-home/user/b");
    write(&path, &noise(50_000));
    let mut archiver = scene.open("dom0-home/user");
    read_to(&mut archiver, "dom0-home/user/b");
    let mut room = [0; 10_000];
    assert_eq!(archiver.fill(&mut room), Ok(10_000));
    let file = fs::File::options().write(true).open(&path).unwrap();
    until_seen(&path, || file.write_all_at(b"x", 0).unwrap());
    let text = changed(&scene, archiver);
    let begin = "dom0-home/user/b: changed meanwhile: found modified at ";
    assert!(text.starts_with(begin), "{text}");
}

/// Not seen at the end of its data, but by its name.
#[test]
fn another_file_of_that_name() {
    let scene = image();
    let mut archiver = scene.open(IMAGE);
    let mut room = vec![0; 1 << 20];
    assert!(archiver.fill(&mut room).unwrap() > 100_000);
    let new = scene.at("new");
    write(&new, &noise(100_000));
    fs::rename(&new, scene.at(IMAGE)).unwrap();
    let text = changed(&scene, archiver);
    let begin = "vm5/private.img: changed meanwhile: found inode ";
    assert!(text.starts_with(begin), "{text}");
    let scene = image();
    let mut archiver = scene.open(IMAGE);
    assert!(archiver.fill(&mut room).unwrap() > 100_000);
    fs::remove_file(scene.at(IMAGE)).unwrap();
    assert_eq!(
        changed(&scene, archiver),
        "vm5/private.img: changed meanwhile: found nothing; wanted a regular \
         file"
    );
}

/// Between the plan and its turn.
#[test]
fn another_kind() {
    let scene = image();
    let archiver = scene.open(IMAGE);
    fs::rename(scene.at(IMAGE), scene.at("moved")).unwrap();
    symlink("../moved", scene.at(IMAGE)).unwrap();
    assert_eq!(
        changed(&scene, archiver),
        "vm5/private.img: changed meanwhile: found a symbolic link; wanted a \
         regular file"
    );
    let scene = image();
    let contents = scene.contents();
    fs::rename(scene.at("vm5"), scene.at("moved")).unwrap();
    symlink("moved", scene.at("vm5")).unwrap();
    assert_eq!(
        scene.text(&contents.open(1).unwrap_err()),
        "vm5: found a symbolic link; wanted a directory"
    );
}

#[test]
fn a_name_that_goes() {
    let scene = home();
    let mut archiver = scene.open("dom0-home/user");
    read_to(&mut archiver, "dom0-home/user/b");
    fs::remove_dir_all(scene.at("dom0-home/user/z")).unwrap();
    assert_eq!(
        changed(&scene, archiver),
        "dom0-home/user/z: changed meanwhile: found nothing; wanted what was \
         listed"
    );
}

#[test]
fn a_name_that_comes() {
    let scene = home();
    let mut archiver = scene.open("dom0-home/user");
    read_to(&mut archiver, "dom0-home/user/m/middle");
    let folder = scene.at("dom0-home/user/m");
    let mut number = 0;
    until_seen(&folder, || {
        number += 1;
        fs::write(folder.join(number.to_string()), "").unwrap();
    });
    let text = changed(&scene, archiver);
    let begin = "dom0-home/user/m: changed meanwhile: found ";
    assert!(text.starts_with(begin), "{text}");
}

/// A directory that is left for a link meanwhile leads nowhere.
#[test]
fn a_directory_that_becomes_a_link() {
    let scene = home();
    let mut archiver = scene.open("dom0-home/user");
    read_to(&mut archiver, "dom0-home/user/z");
    fs::rename(scene.at("dom0-home/user/z"), scene.at("z")).unwrap();
    symlink("/", scene.at("dom0-home/user/z")).unwrap();
    let error = all(archiver, 1_000).unwrap_err();
    assert!(scene.text(&error).starts_with("dom0-home/user/z: "), "{error}");
}

/// The second name would be that of other bytes.
#[test]
fn a_file_with_two_names_that_changes_between_them() {
    let scene = home();
    let first = scene.at("dom0-home/user/a/file");
    fs::hard_link(&first, scene.at("dom0-home/user/z/again")).unwrap();
    let mut archiver = scene.open("dom0-home/user");
    read_to(&mut archiver, "dom0-home/user/m/middle");
    until_seen(&first, || fs::write(&first, "dom0-home/user/A/file").unwrap());
    let text = changed(&scene, archiver);
    let begin = "dom0-home/user/z/again: changed meanwhile: found modified at ";
    assert!(text.starts_with(begin), "{text}");
}

#[test]
fn the_end_is_not_said_before_the_end() {
    let scene = image();
    let mut archiver = scene.open(IMAGE);
    let mut room = vec![0; 100_001];
    assert_eq!(archiver.fill(&mut room), Ok(100_001));
    let text = scene.text(&archiver.finish().unwrap_err());
    assert_eq!(text, "vm5/private.img: not read to its end; wanted all of it");
    // The document is in memory, and has an end all the same.
    let mut archiver = scene.open("qubes.xml");
    assert_eq!(archiver.fill(&mut [0; 512]), Ok(512));
    let error = archiver.finish().unwrap_err();
    assert!(matches!(error, SourceError::Unfinished { .. }));
}

/// The document that was judged is the one that is written.
#[test]
fn a_document_that_is_replaced_later() {
    let scene = image();
    let contents = scene.contents();
    let text = fs::read(scene.at("qubes.xml")).unwrap();
    fs::write(scene.at("qubes.xml"), "<other/>").unwrap();
    let (archive, _) = all(contents.open(0).unwrap(), 512).unwrap();
    assert_eq!(crate::tar_support::inner(&archive).unwrap()[0].content(), text);
}
