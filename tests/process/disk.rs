//! Disks that are full or go away, and directories that others move.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::scene::{FIRST, FORM, Scene, files};

/// A small disk in memory, for as long as this lives.
struct Mounted(PathBuf);

impl Mounted {
    /// `None`, and a line on stderr, where we may not.
    fn new(directory: &Path, size: &str) -> Option<Self> {
        fs::create_dir(directory).unwrap();
        let size = format!("size={size},mode=0700");
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(directory)
            .output()
            .unwrap_or_else(|_| panic!("mount; install the package mount"));
        if output.status.success() {
            return Some(Self(directory.to_owned()));
        }
        eprintln!(
            "not tested, mount is refused: {}; a_limit_of_file_sizes is what \
             is left",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        None
    }

    /// Out of sight; who has it open keeps it.
    fn detach(self) {
        let done = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(done.is_ok_and(|status| status.success()), "umount -l");
        std::mem::forget(self);
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let done = Command::new("umount").arg(&self.0).status();
        assert!(done.is_ok_and(|status| status.success()), "umount");
    }
}

/// With an image in vm7 that is no hole.
fn large() -> Scene {
    Scene::with(FORM, |from| {
        fs::write(from.join("vm7/root.img"), vec![7; 1 << 20]).unwrap();
    })
}

#[test]
fn a_full_disk_keeps_what_is_whole_and_nothing_else() {
    let scene = large();
    let to = scene.path("to");
    let Some(_mounted) = Mounted::new(&to, "400k") else { return };
    let done = scene.run(&["restore", "ARCHIVE", "--to", "TO", "--json"]);
    assert_eq!(done.code, 16, "{done:?}");
    let error = done.error();
    assert!(error.contains("vm7/root.img: write: No space left"), "{error}");
    let there = ["qubes.xml", "vm5/firewall.xml", "vm5/private.img"];
    assert_eq!(files(&to), there);
    for name in there {
        assert!(fs::read(to.join(name)).unwrap() == scene.original(name));
    }
    let told = done.files();
    assert_eq!(told[3], ("begun".into(), "vm7/.".into()));
    assert_eq!(told[4], ("not read".into(), "dom0-home/user".into()));
}

#[test]
fn a_limit_of_file_sizes_is_no_space() {
    let scene = large();
    let mut command = Command::new("sh");
    // 100 blocks of 512 or 1,024 bytes.
    command.args(["-c", "ulimit -f 200; exec \"$0\" \"$@\""]);
    let ours = scene.command(&["restore", "ARCHIVE", "--to", "TO", "fedora"]);
    command.arg(ours.get_program()).args(ours.get_args());
    let done = crate::running::Running::start(&mut command).finish();
    assert_eq!(done.code, 16, "{done:?}");
    assert!(done.error().contains("File too large"), "{}", done.err);
    assert_eq!(files(&scene.path("to")), [""; 0]);
}

/// The directory was opened once: a restore ends in what it has opened,
/// wherever that is by now, and touches nothing else.
#[test]
fn a_disk_that_is_taken_away() {
    let scene = Scene::new();
    let to = scene.path("to");
    let Some(mounted) = Mounted::new(&to, "4m") else { return };
    let mut running = scene.half_restored(&[]);
    mounted.detach();
    running.write(&scene.second_half());
    let done = running.finish();
    assert_eq!((done.code, done.err.as_str()), (0, ""), "{done:?}");
    assert_eq!(files(&to), [""; 0]);
}

#[test]
fn a_directory_that_is_removed() {
    let scene = Scene::new();
    let to = scene.path("to");
    let mut running = scene.half_restored(&["--json"]);
    fs::remove_dir_all(&to).unwrap();
    running.write(&scene.second_half());
    let done = running.finish();
    assert_eq!(done.code, 1, "{done:?}");
    let error = done.error();
    assert!(error.contains("No such file or directory"), "{error}");
    done.lines();
    assert!(!to.exists());
}

/// A link to a directory is followed, as `cp` and `tar -C` do, when the
/// directory is opened, and never again.
#[test]
fn a_link_to_a_directory_is_followed_once() {
    let scene = Scene::new();
    let (to, real) = (scene.path("to"), scene.path("real"));
    fs::create_dir(&real).unwrap();
    symlink("real", &to).unwrap();
    let mut running = scene.half_restored(&[]);
    assert_eq!(fs::read_link(&to).unwrap(), Path::new("real"));
    // Now it leads elsewhere.
    let other = scene.path("other");
    fs::create_dir(&other).unwrap();
    fs::remove_file(&to).unwrap();
    symlink("other", &to).unwrap();
    running.write(&scene.second_half());
    assert_eq!(running.finish().code, 0);
    assert_eq!(files(&other), [""; 0]);
    assert!(files(&real).contains(&"vm7/root.img".to_owned()));
    // A link to nothing is refused: nothing is made where it leads.
    fs::remove_dir(&other).unwrap();
    let done = scene.run(&["restore", "ARCHIVE", "--to", "TO"]);
    assert_eq!(done.code, 10, "{done:?}");
    assert!(!other.exists());
}

#[test]
fn a_directory_that_becomes_a_link_meanwhile() {
    let scene = Scene::new();
    let (to, moved) = (scene.path("to"), scene.path("moved"));
    let outside = scene.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("mine"), "mine").unwrap();
    let mut running = scene.half_restored(&["--overwrite"]);
    fs::rename(&to, &moved).unwrap();
    symlink(&outside, &to).unwrap();
    running.write(&scene.second_half());
    assert_eq!(running.finish().code, 0);
    assert_eq!(files(&outside), ["mine"]);
    assert!(files(&moved).contains(&"vm7/root.img".to_owned()));
}

/// The same below it, where an attacker may write: a qube's folder.
#[test]
fn a_folder_that_becomes_a_link_meanwhile() {
    let scene = Scene::new();
    let outside = scene.path("outside");
    fs::create_dir(&outside).unwrap();
    let mut running = scene.half_restored(&["--overwrite", "--json"]);
    let folder = scene.path("to/vm5");
    fs::rename(&folder, scene.path("to/old")).unwrap();
    symlink(&outside, &folder).unwrap();
    running.write(&scene.second_half());
    let done = running.finish();
    assert_eq!(done.code, 1, "{done:?}");
    let text = "vm5: found a symbolic link; wanted a directory; --overwrite \
                does not replace it";
    assert!(done.error().ends_with(text), "{}", done.err);
    assert_eq!(files(&outside), [""; 0]);
    assert_eq!(files(&scene.path("to")), ["old/private.img", FIRST[0], "vm5"]);
    let withheld = ("withheld".to_owned(), "vm5/firewall.xml".to_owned());
    assert_eq!(done.files()[2], withheld);
}
