//! Restored trees: what is written, what is refused, and that nothing outside
//! of the directory is ever touched. All of it with `openat2` and without.

#![cfg(feature = "backup")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use proptest::collection::vec;
use proptest::prelude::*;
use qubes_fsm::backup::tree::{
    MEMBERS_MAX, PATH_BYTES_MAX, Published, REMEMBERED_BYTES_MAX, STAGE_PREFIX,
    Stage, Staged, Target, Time, TreeError,
};
use tempfile::TempDir;

const NOON: Time = Time { seconds: 1_400_000_000, nanoseconds: 123_456_789 };
const EARLY: Time = Time { seconds: -5, nanoseconds: 1 };
/// Set for a test that runs once more as a user who may not do everything.
const AS_USER: &str = "QUBES_FSM_TEST_AS_USER";
/// Set for a test that runs once more where files must be small.
const SMALL_FILES: &str = "QUBES_FSM_TEST_SMALL_FILES";

/// A directory to restore into, and one outside that must stay as it is.
struct Place {
    temp: TempDir,
    is_old: bool,
}

impl Place {
    fn new(is_old: bool) -> Self {
        let temp = TempDir::new().unwrap();
        fs::create_dir(temp.path().join("dir")).unwrap();
        fs::create_dir(temp.path().join("outside")).unwrap();
        fs::write(temp.path().join("outside/file"), "outside").unwrap();
        Self { temp, is_old }
    }

    fn dir(&self) -> PathBuf {
        self.temp.path().join("dir")
    }

    fn outside(&self) -> PathBuf {
        self.temp.path().join("outside")
    }

    fn target(&self, overwrite: bool) -> Target {
        let target = Target::open(&self.dir(), overwrite).unwrap();
        if self.is_old { target.on_old_kernel() } else { target }
    }

    fn stage(&self, overwrite: bool) -> Stage {
        self.target(overwrite).stage().unwrap()
    }

    fn check_outside(&self) {
        let wanted =
            BTreeMap::from([("file".to_owned(), "644 outside".to_owned())]);
        assert_eq!(list(&self.outside()), wanted, "outside was touched");
    }

    /// A text without what differs from run to run.
    fn text(&self, error: &TreeError) -> String {
        let mut text = error.to_string();
        let dir = self.dir().display().to_string();
        text = text.replace(&dir, "DIR");
        let Some(start) = text.find(STAGE_PREFIX) else { return text };
        let name = text.get(start..).unwrap();
        let end = name.find(['/', ':']).unwrap_or(name.len());
        let name = name.get(..end).unwrap().to_owned();
        text.replace(&name, "STAGE")
    }
}

/// Runs a test on a new kernel and on an old one.
fn both(test: impl Fn(Place)) {
    for is_old in [false, true] {
        eprintln!("old kernel: {is_old}");
        test(Place::new(is_old));
    }
}

/// Everything below a directory: path to mode and content.
fn list(dir: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(at) = todo.pop() {
        for entry in fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            let mode = meta.mode() & 0o7777;
            let name = path.strip_prefix(dir).unwrap().display().to_string();
            let text = if meta.is_symlink() {
                format!("-> {}", fs::read_link(&path).unwrap().display())
            } else if meta.is_dir() {
                todo.push(path);
                format!("{mode:o} /")
            } else if meta.len() > 1 << 20 {
                format!("{mode:o} {} bytes", meta.len())
            } else {
                let content = fs::read(&path).unwrap();
                format!("{mode:o} {}", String::from_utf8_lossy(&content))
            };
            found.insert(name, text);
        }
    }
    found
}

fn lines(dir: &Path) -> Vec<String> {
    list(dir).iter().map(|(path, text)| format!("{path}: {text}")).collect()
}

fn steps(path: &str) -> Vec<&str> {
    path.split('/').collect()
}

fn write(staged: &mut Staged, path: &str, text: &str) {
    put(staged, path, text).unwrap();
}

fn put(staged: &mut Staged, path: &str, text: &str) -> Result<(), TreeError> {
    let size = text.len() as u64;
    let mut file = staged.file(&steps(path), size, 0o644, NOON)?;
    file.write_at(0, text.as_bytes())?;
    file.close()
}

fn publish(staged: Staged, top: &str) -> Result<Published, TreeError> {
    staged.publish(&steps(top), false)
}

fn time_of(path: &Path) -> (i64, i64) {
    let meta = path.symlink_metadata().unwrap();
    (meta.mtime(), meta.mtime_nsec())
}

/// Runs one test of this file in a process of its own.
fn again(name: &str, before: &str, key: &str, uid: Option<u32>) -> Output {
    // Another user cannot look into the folder where tests are built.
    let temp = TempDir::new().unwrap();
    fs::set_permissions(&temp, Permissions::from_mode(0o755)).unwrap();
    let exe = temp.path().join("test");
    fs::copy(std::env::current_exe().unwrap(), &exe).unwrap();
    let scratch = temp.path().join("scratch");
    fs::create_dir(&scratch).unwrap();
    fs::set_permissions(&scratch, Permissions::from_mode(0o777)).unwrap();
    let mut command = Command::new("sh");
    let script = format!("umask 022; {before} exec \"$0\" \"$@\"");
    command.args(["-c", &script]).arg(&exe);
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]);
    command.env(key, "1").env("TMPDIR", &scratch).current_dir("/");
    if let Some(uid) = uid {
        command.uid(uid).gid(uid);
    }
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("1 passed") || !output.status.success(), "{text}");
    output
}

/// Root may read and write everywhere: what is about modes runs once more as
/// somebody else.
fn as_user(name: &str) {
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    if !is_root || std::env::var_os(AS_USER).is_some() {
        return;
    }
    let output = again(name, "", AS_USER, Some(65_534));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "as another user: {text}");
}

#[test]
fn a_tree_comes_back_as_it_was() {
    both(|place| {
        let stage = place.stage(false);
        let mut staged = stage.begin(7).unwrap();
        staged.directory(&steps("home/user"), 0o700, NOON).unwrap();
        staged.directory(&steps("home/user/ro"), 0o500, EARLY).unwrap();
        write(&mut staged, "home/user/ro/file", "one");
        write(&mut staged, "home/user/implied/deep/file", "two");
        let path = steps("home/user/image");
        let mut image = staged.file(&path, 1 << 33, 0o440, EARLY).unwrap();
        image.write_at(1 << 32, b"middle").unwrap();
        image.write_at(8, b"begin").unwrap();
        image.close().unwrap();
        let empty = staged.file(&steps("home/user/hole"), 1 << 33, 0o600, NOON);
        empty.unwrap().close().unwrap();
        for (name, target) in [
            ("relative", "ro/file"),
            ("absolute", "/etc/passwd"),
            ("dangling", "no such"),
            ("up", "../../../outside"),
        ] {
            let path = ["home", "user", name];
            staged.symlink(&path, target.as_bytes(), EARLY).unwrap();
        }
        let (one, link) = (steps("home/user/ro/file"), steps("home/user/link"));
        staged.hard_link(&link, &one).unwrap();
        let (up, link) = (steps("home/user/up"), steps("home/user/up2"));
        staged.hard_link(&link, &up).unwrap();
        let published = staged.publish(&["home", "user"], true).unwrap();
        assert_eq!(published.path, place.dir().join("home/user"));
        assert_eq!((published.members, published.replaced), (12, 0));
        stage.remove().unwrap();

        let wanted = [
            "home: 755 /",
            "home/user: 700 /",
            "home/user/absolute: -> /etc/passwd",
            "home/user/dangling: -> no such",
            "home/user/hole: 600 8589934592 bytes",
            "home/user/image: 440 8589934592 bytes",
            "home/user/implied: 755 /",
            "home/user/implied/deep: 755 /",
            "home/user/implied/deep/file: 644 two",
            "home/user/link: 644 one",
            "home/user/relative: -> ro/file",
            "home/user/ro: 500 /",
            "home/user/ro/file: 644 one",
            "home/user/up: -> ../../../outside",
            "home/user/up2: -> ../../../outside",
        ];
        assert_eq!(lines(&place.dir()), wanted);
        let user = place.dir().join("home/user");
        for (name, time) in [
            ("", NOON),
            ("ro", EARLY),
            ("ro/file", NOON),
            ("image", EARLY),
            ("hole", NOON),
            ("up", EARLY),
            ("absolute", EARLY),
        ] {
            let wanted = (time.seconds, i64::from(time.nanoseconds));
            assert_eq!(time_of(&user.join(name)), wanted, "{name}");
        }
        let blocks = |name| user.join(name).metadata().unwrap().blocks();
        assert_eq!(blocks("hole"), 0);
        assert!(blocks("image") <= 64, "{} blocks", blocks("image"));
        let inode = |name| user.join(name).symlink_metadata().unwrap().ino();
        assert_eq!(inode("link"), inode("ro/file"));
        assert_eq!(inode("up"), inode("up2"));
        let loosen = Permissions::from_mode(0o700);
        fs::set_permissions(user.join("ro"), loosen).unwrap();
        place.check_outside();
    });
    as_user("a_tree_comes_back_as_it_was");
}

#[test]
fn directories_that_lock_everybody_out_are_restored_too() {
    both(|place| {
        for _ in ["new", "merged"] {
            let stage = place.stage(true);
            let mut staged = stage.begin(1).unwrap();
            for (path, mode) in [("t", 0o000), ("t/a", 0o000), ("t/a/b", 0o300)]
            {
                staged.directory(&steps(path), mode, EARLY).unwrap();
            }
            write(&mut staged, "t/a/b/file", "x");
            publish(staged, "t").unwrap();
            stage.remove().unwrap();
        }
        let mut path = place.dir();
        for (name, mode) in [("t", 0o000), ("a", 0o000), ("b", 0o300)] {
            path.push(name);
            assert_eq!(path.metadata().unwrap().mode() & 0o7777, mode);
            assert_eq!(time_of(&path).0, EARLY.seconds);
            let loosen = Permissions::from_mode(0o700);
            fs::set_permissions(&path, loosen).unwrap();
        }
        assert_eq!(fs::read(path.join("file")).unwrap(), b"x");
    });
    as_user("directories_that_lock_everybody_out_are_restored_too");
}

//= spec/format3.md#a-file-appears-when-it-is-whole
#[test]
fn files_are_invisible_until_published_and_may_wait() {
    both(|place| {
        let target = place.target(false);
        let stage = target.stage().unwrap();
        let private = fs::metadata(stage.path()).unwrap().mode() & 0o7777;
        assert_eq!(private, 0o700);
        let mut held = Vec::new();
        for number in 0..100 {
            let mut staged = stage.begin(number).unwrap();
            write(&mut staged, &format!("vm{number}/a"), "held");
            staged.complete().unwrap();
            held.push(staged);
        }
        // Descriptors: the target and the stage, however many wait.
        let open = fs::read_dir("/proc/self/fd").unwrap().filter(|entry| {
            let link = fs::read_link(entry.as_ref().unwrap().path());
            link.is_ok_and(|link| link.starts_with(place.temp.path()))
        });
        assert_eq!(open.count(), 2);
        assert_eq!(fs::read_dir(place.dir()).unwrap().count(), 1);
        for (number, staged) in held.into_iter().enumerate() {
            publish(staged, &format!("vm{number}/a")).unwrap();
        }
        stage.remove().unwrap();
        assert_eq!(list(&place.dir()).len(), 200);
    });
}

#[test]
fn what_exists_is_kept_without_overwrite() {
    both(|place| {
        fs::create_dir_all(place.dir().join("vm5")).unwrap();
        fs::write(place.dir().join("vm5/private.img"), "mine").unwrap();
        fs::create_dir_all(place.dir().join("vm7")).unwrap();
        symlink("../../outside/new", place.dir().join("vm5/link")).unwrap();
        let before = list(&place.dir());
        let stage = place.stage(false);
        for (number, (path, top)) in [
            ("vm5/private.img", "vm5/private.img"),
            ("vm7/root.img", "vm7"),
            ("vm5/link", "vm5/link"),
        ]
        .into_iter()
        .enumerate()
        {
            let mut staged = stage.begin(number as u64).unwrap();
            write(&mut staged, path, "new");
            let error = publish(staged, top).unwrap_err();
            assert_eq!(
                place.text(&error),
                format!(
                    "DIR/{top}: found an existing file; wanted none, \
                     nothing was replaced"
                )
            );
        }
        // Beside what exists there is room.
        let mut staged = stage.begin(9).unwrap();
        write(&mut staged, "vm5/root.img", "new");
        publish(staged, "vm5/root.img").unwrap();
        stage.remove().unwrap();
        fs::remove_file(place.dir().join("vm5/root.img")).unwrap();
        assert_eq!(list(&place.dir()), before);
        place.check_outside();
    });
}

#[test]
fn preflight_names_what_is_there() {
    both(|place| {
        fs::create_dir_all(place.dir().join("vm5")).unwrap();
        fs::write(place.dir().join("vm5/private.img"), "mine").unwrap();
        symlink("nowhere", place.dir().join("dangling")).unwrap();
        symlink("../outside", place.dir().join("vm9")).unwrap();
        let target = place.target(false);
        let paths = ["vm5/private.img", "vm5/root.img", "vm6/a", "dangling"];
        let there = target.preflight(&paths.map(steps)).unwrap();
        let wanted = ["vm5/private.img", "dangling"];
        assert_eq!(there, wanted.map(|path| place.dir().join(path)));
        let error = target.preflight(&[steps("vm9/file")]).unwrap_err();
        assert_eq!(
            place.text(&error),
            "DIR/vm9: found a symbolic link; wanted a directory"
        );
        let error = target.preflight(&[steps("a/../b")]).unwrap_err();
        assert!(matches!(error, TreeError::BadPath { .. }));
    });
}

#[test]
fn a_tree_is_merged_with_overwrite() {
    both(|place| {
        let dir = place.dir();
        fs::create_dir_all(dir.join("t/sub/kept")).unwrap();
        fs::write(dir.join("t/sub/old"), "old").unwrap();
        fs::write(dir.join("t/sub/both"), "old").unwrap();
        fs::write(dir.join("t/mine"), "mine").unwrap();
        symlink("../../outside/file", dir.join("t/link")).unwrap();
        let read_only = Permissions::from_mode(0o500);
        fs::set_permissions(dir.join("t/sub"), read_only.clone()).unwrap();
        fs::create_dir(dir.join("t/other")).unwrap();
        fs::set_permissions(dir.join("t/other"), read_only).unwrap();

        let stage = place.stage(true);
        let mut staged = stage.begin(1).unwrap();
        staged.directory(&["t"], 0o750, NOON).unwrap();
        staged.directory(&steps("t/sub"), 0o555, EARLY).unwrap();
        write(&mut staged, "t/sub/both", "new");
        write(&mut staged, "t/link", "no link any more");
        write(&mut staged, "t/other/file", "new");
        staged.directory(&steps("t/new"), 0o500, EARLY).unwrap();
        write(&mut staged, "t/new/file", "new");
        staged.symlink(&steps("t/sub/old"), b"both", EARLY).unwrap();
        let published = staged.publish(&["t"], true).unwrap();
        assert_eq!((published.members, published.replaced), (8, 3));
        stage.remove().unwrap();
        let wanted = [
            "t: 750 /",
            "t/link: 644 no link any more",
            "t/mine: 644 mine",
            "t/new: 500 /",
            "t/new/file: 644 new",
            "t/other: 500 /",
            "t/other/file: 644 new",
            "t/sub: 555 /",
            "t/sub/both: 644 new",
            "t/sub/kept: 755 /",
            "t/sub/old: -> both",
        ];
        assert_eq!(lines(&dir), wanted);
        let noon = (NOON.seconds, i64::from(NOON.nanoseconds));
        let early = (EARLY.seconds, i64::from(EARLY.nanoseconds));
        assert_eq!(time_of(&dir.join("t")), noon);
        assert_eq!(time_of(&dir.join("t/sub")), early);
        assert_eq!(time_of(&dir.join("t/new")), early);
        for name in ["t/sub", "t/other", "t/new"] {
            let loosen = Permissions::from_mode(0o700);
            fs::set_permissions(dir.join(name), loosen).unwrap();
        }
        place.check_outside();
    });
    as_user("a_tree_is_merged_with_overwrite");
}

#[test]
fn one_file_is_replaced_with_overwrite() {
    both(|place| {
        let dir = place.dir();
        fs::write(dir.join("file"), "old").unwrap();
        symlink("../outside/file", dir.join("link")).unwrap();
        let stage = place.stage(true);
        for (number, name) in ["file", "link", "new"].into_iter().enumerate() {
            let mut staged = stage.begin(number as u64).unwrap();
            write(&mut staged, name, "new");
            let replaced = publish(staged, name).unwrap().replaced;
            assert_eq!(replaced, u64::from(name != "new"));
        }
        stage.remove().unwrap();
        let wanted = ["file: 644 new", "link: 644 new", "new: 644 new"];
        assert_eq!(lines(&dir), wanted);
        place.check_outside();
    });
}

#[test]
fn other_kinds_are_not_replaced_and_nothing_is_merged_then() {
    both(|place| {
        let dir = place.dir();
        fs::create_dir_all(dir.join("t/z")).unwrap();
        fs::write(dir.join("t/a"), "old").unwrap();
        fs::write(dir.join("t/y"), "old").unwrap();
        symlink("../../outside", dir.join("t/s")).unwrap();
        let before = list(&dir);
        let stage = place.stage(true);
        for (number, (bad, wanted)) in [
            ("t/z", "t/z: found a directory; wanted a file or nothing"),
            ("t/y/x", "t/y: found a regular file; wanted a directory"),
            ("t/s/file", "t/s: found a symbolic link; wanted a directory"),
        ]
        .into_iter()
        .enumerate()
        {
            let mut staged = stage.begin(number as u64).unwrap();
            write(&mut staged, "t/a", "new");
            write(&mut staged, "t/b", "new");
            write(&mut staged, bad, "new");
            let error = publish(staged, "t").unwrap_err();
            assert_eq!(place.text(&error), format!("DIR/{wanted}"));
        }
        let mut staged = stage.begin(10).unwrap();
        write(&mut staged, "t", "a file");
        let error = publish(staged, "t").unwrap_err();
        assert_eq!(
            place.text(&error),
            "DIR/t: found a directory; wanted a file or nothing"
        );
        stage.remove().unwrap();
        assert_eq!(list(&dir), before);
        place.check_outside();
    });
}

#[test]
fn members_outside_of_what_was_announced_publish_nothing() {
    type Fill = fn(&mut Staged);
    let cases: [(Fill, &str); 5] = [
        (|s| write(s, "vm5/root.img", ""), "vm5/root.img"),
        (|s| write(s, "vm5/private.img2", ""), "vm5/private.img2"),
        (|s| s.directory(&["vm5"], 0o700, NOON).unwrap(), "vm5"),
        (|s| s.symlink(&["vm6"], b"x", NOON).unwrap(), "vm6"),
        (
            |s| {
                let to = ["vm5", "private.img"];
                s.hard_link(&["other"], &to).unwrap();
            },
            "other",
        ),
    ];
    both(|place| {
        let stage = place.stage(true);
        for (number, (fill, bad)) in cases.into_iter().enumerate() {
            for first in [false, true] {
                let number = 2 * number as u64 + u64::from(first);
                let mut staged = stage.begin(number).unwrap();
                if first {
                    fill(&mut staged);
                }
                write(&mut staged, "vm5/private.img", "good");
                if !first {
                    fill(&mut staged);
                }
                let error = publish(staged, "vm5/private.img").unwrap_err();
                assert_eq!(
                    error.to_string(),
                    format!(
                        "{bad}: found a member outside; wanted only \
                         vm5/private.img and what is below it, nothing of it \
                         was published"
                    )
                );
            }
        }
        let error = publish(stage.begin(99).unwrap(), "vm5").unwrap_err();
        assert_eq!(
            error.to_string(),
            "vm5: found no member; wanted at least one"
        );
        stage.remove().unwrap();
        assert!(list(&place.dir()).is_empty());
    });
}

#[test]
fn a_file_that_was_not_finished_is_not_published() {
    both(|place| {
        let stage = place.stage(false);
        let mut staged = stage.begin(1).unwrap();
        let file = staged.file(&["a"], 4, 0o600, NOON).unwrap();
        drop(file);
        let error = publish(staged, "a").unwrap_err();
        assert_eq!(
            place.text(&error),
            "DIR/STAGE/1: files begun and not closed: 1; wanted 0, nothing \
             of it was published"
        );
        let mut staged = stage.begin(2).unwrap();
        let mut file = staged.file(&["a"], 4, 0o600, NOON).unwrap();
        file.write_at(0, b"1234").unwrap();
        let error = file.write_at(3, b"45").unwrap_err();
        let wanted = "a: found bytes up to 5; wanted at most 4 bytes";
        assert_eq!(error.to_string(), wanted);
        let error = file.write_at(u64::MAX, b"45").unwrap_err();
        assert!(matches!(error, TreeError::PastEnd { end: u64::MAX, .. }));
        let error = file.close().unwrap_err();
        assert!(matches!(error, TreeError::Unfinished { files: 1, .. }));
        assert!(publish(staged, "a").is_err());
        stage.remove().unwrap();
        assert!(list(&place.dir()).is_empty());
    });
}

#[test]
fn names_are_checked_again() {
    let place = Place::new(false);
    let stage = place.stage(false);
    let mut staged = stage.begin(1).unwrap();
    let long = [b'x'; 256];
    let wanted = "wanted names of 1 to 255 bytes, none of them \".\" or \"..\"";
    let cases: [(&[&[u8]], &str); 8] = [
        (&[], ": found no name"),
        (&[b""], ": found an empty name"),
        (&[b"a", b"", b"b"], "a//b: found an empty name"),
        (&[b"a", b"."], "a/.: found the name \".\""),
        (&[b"..", b"a"], "../a: found the name \"..\""),
        (&[b"a/b"], "a/b: found a name with a slash"),
        (&[b"a\0\x1b"], "a\\u{0}\\u{1b}: found a name with a NUL"),
        (&[&long], "x: found a name of more than 255 bytes"),
    ];
    let good = ["good"];
    for (path, found) in cases {
        let wanted = format!("{found}; {wanted}");
        let found = [
            staged.directory(path, 0o700, NOON),
            staged.file(path, 0, 0o600, NOON).map(drop),
            staged.symlink(path, b"x", NOON),
            staged.hard_link(path, &good),
            staged.hard_link(&good, path),
            stage.begin(2).unwrap().publish(path, false).map(drop),
        ];
        for found in found {
            let text = found.unwrap_err().to_string();
            let text = text.replace(&"x".repeat(256), "x");
            assert_eq!(text, wanted);
        }
        fs::remove_dir(stage.path().join("2")).unwrap_err();
    }
    let longest = [&[b'x'; 255][..]];
    staged.directory(&longest, 0o700, NOON).unwrap();
    let deep = vec!["a"; PATH_BYTES_MAX as usize / 2 + 1];
    let error = staged.directory(&deep, 0o700, NOON).unwrap_err();
    let text = error.to_string().replace(&deep.join("/"), "DEEP");
    assert_eq!(text, "DEEP: found 4097 bytes of path; wanted at most 4096");
    let late = Time { seconds: 0, nanoseconds: 1_000_000_000 };
    let error = staged.symlink(&good, b"x", late).unwrap_err();
    assert_eq!(
        error.to_string(),
        "good: found 1000000000 nanoseconds; wanted at most 999999999"
    );
    // The kernel's UTIME_NOW and UTIME_OMIT are no times.
    for nanoseconds in [0x3fff_ffff, 0x3fff_fffe] {
        let time = Time { seconds: 0, nanoseconds };
        staged.file(&good, 0, 0o600, time).unwrap_err();
    }
    let long = [b'x'; 4096];
    let bad: [(&[u8], &str); 3] = [
        (b"", "without a byte"),
        (b"a\0b", "with a NUL"),
        (&long, "of more than 4,095 bytes"),
    ];
    for (target, found) in bad {
        let error = staged.symlink(&good, target, NOON).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "good: found a link target {found}; wanted 1 to 4,095 bytes, \
                 none of them NUL"
            )
        );
    }
    staged.symlink(&good, &[b'x'; 4095], NOON).unwrap();
    staged.complete().unwrap();
}

#[test]
fn paths_and_links_of_an_archive_may_not_contradict_each_other() {
    both(|place| {
        let stage = place.stage(false);
        let mut staged = stage.begin(1).unwrap();
        write(&mut staged, "t/a", "once");
        let twice = "t/a: found a second member; wanted each path once";
        let error = put(&mut staged, "t/a", "twice").unwrap_err();
        assert_eq!(error.to_string(), twice);
        let error = staged.directory(&["t", "a"], 0o700, NOON).unwrap_err();
        assert_eq!(error.to_string(), twice);
        let error = put(&mut staged, "t/a/b", "below").unwrap_err();
        assert_eq!(
            error.to_string(),
            "t/a/b: found a regular file at t/a; wanted a directory"
        );
        assert!(put(&mut staged, "t", "a directory").is_err());
        staged.directory(&["t"], 0o700, NOON).unwrap();
        staged.directory(&["t"], 0o711, NOON).unwrap();

        let mut staged = stage.begin(2).unwrap();
        write(&mut staged, "t/a", "once");
        let error = staged.symlink(&["t", "a"], b"x", NOON).unwrap_err();
        assert_eq!(error.to_string(), twice);

        for (number, (to, found)) in [
            ("t/none", "nothing"),
            ("t/dir", "a directory"),
            ("t/later", "nothing"),
        ]
        .into_iter()
        .enumerate()
        {
            let mut staged = stage.begin(10 + number as u64).unwrap();
            staged.directory(&["t", "dir"], 0o700, NOON).unwrap();
            let linked = staged.hard_link(&["t", "link"], &steps(to));
            staged.symlink(&["t", "later"], b"x", NOON).unwrap();
            let linked = linked.and_then(|()| publish(staged, "t"));
            let error = linked.unwrap_err();
            assert_eq!(
                error.to_string(),
                format!(
                    "t/link: hard link to {to}: found {found}; wanted a file \
                     of the same archive"
                )
            );
        }
        // A link, and then a member through it.
        let mut staged = stage.begin(20).unwrap();
        let outside = place.outside();
        let outside = outside.to_str().unwrap().as_bytes();
        staged.symlink(&["t", "out"], outside, NOON).unwrap();
        let evil = ["t", "out", "evil"];
        let error = staged.symlink(&evil, b"x", NOON).unwrap_err();
        assert_eq!(
            error.to_string(),
            "t/out/evil: found a symbolic link at t/out; wanted a directory"
        );
        let mut staged = stage.begin(21).unwrap();
        staged.symlink(&["t", "out"], outside, NOON).unwrap();
        let (link, file) = (["t", "link"], ["t", "out", "file"]);
        staged.hard_link(&link, &file).unwrap();
        let error = publish(staged, "t").unwrap_err();
        assert!(matches!(error, TreeError::LinkTarget { .. }), "{error}");
        // A file below the name of a link.
        let mut staged = stage.begin(22).unwrap();
        staged.symlink(&["t", "out"], outside, NOON).unwrap();
        let error = put(&mut staged, "t/out/evil", "evil").unwrap_err();
        assert!(matches!(error, TreeError::NoDirectory { .. }), "{error}");
        stage.remove().unwrap();
        assert!(list(&place.dir()).is_empty());
        place.check_outside();
    });
}

#[test]
fn bits_that_give_rights_are_dropped_unless_wanted() {
    for wanted in [false, true] {
        let place = Place::new(false);
        let target = place.target(false).with_special_bits(wanted);
        let stage = target.stage().unwrap();
        let mut staged = stage.begin(1).unwrap();
        let mode = 0o100_000 | 0o6755;
        staged.file(&["t", "a"], 0, mode, NOON).unwrap().close().unwrap();
        staged.directory(&["t", "d"], 0o1777, NOON).unwrap();
        publish(staged, "t").unwrap();
        let mode = |name| {
            let path = place.dir().join(name);
            path.metadata().unwrap().mode() & 0o7777
        };
        let found = (mode("t/a"), mode("t/d"));
        let all = (0o6755, 0o1777);
        assert_eq!(found, if wanted { all } else { (0o755, 0o777) });
    }
}

#[test]
fn what_is_remembered_has_a_limit() {
    let place = Place::new(false);
    let stage = place.stage(false);
    let mut staged = stage.begin(1).unwrap();
    let target = [b'x'; 4095];
    let mut staged_links = 0;
    let error = loop {
        let name = format!("{staged_links:05}");
        match staged.symlink(&[name], &target, NOON) {
            Ok(()) => staged_links += 1,
            Err(error) => break error,
        }
        assert!(staged_links < REMEMBERED_BYTES_MAX / 4095);
    };
    assert_eq!(
        error.to_string(),
        "63974: found 268439100 bytes of directories and links; wanted at most \
         268435456"
    );
    assert!(MEMBERS_MAX > staged_links);
}

#[test]
fn a_link_in_the_directory_is_not_followed() {
    both(|place| {
        for overwrite in [false, true] {
            symlink("../outside", place.dir().join("vm5")).unwrap();
            let stage = place.stage(overwrite);
            let mut staged = stage.begin(1).unwrap();
            write(&mut staged, "vm5/file", "evil");
            let error = publish(staged, "vm5/file").unwrap_err();
            assert_eq!(
                place.text(&error),
                "DIR/vm5: found a symbolic link; wanted a directory"
            );
            let mut staged = stage.begin(2).unwrap();
            write(&mut staged, "vm5/new/a/b", "evil");
            publish(staged, "vm5/new/a/b").unwrap_err();
            let mut staged = stage.begin(3).unwrap();
            write(&mut staged, "vm5/file", "evil");
            publish(staged, "vm5").unwrap_err();
            stage.remove().unwrap();
            assert_eq!(lines(&place.dir()), ["vm5: -> ../outside"]);
            fs::remove_file(place.dir().join("vm5")).unwrap();
        }
        place.check_outside();
    });
}

#[test]
fn a_link_in_the_stage_is_not_followed() {
    both(|place| {
        let stage = place.stage(true);
        let mut staged = stage.begin(1).unwrap();
        write(&mut staged, "t/sub/a", "good");
        let sub = stage.path().join("1/t/sub");
        fs::remove_dir_all(&sub).unwrap();
        symlink(place.outside(), &sub).unwrap();
        let wanted = |name: &str| {
            format!(
                "t/sub/{name}: found a symbolic link at t/sub; wanted a \
                 directory"
            )
        };
        let error = put(&mut staged, "t/sub/file", "evil").unwrap_err();
        assert_eq!(error.to_string(), wanted("file"));
        let error = staged.directory(&["t", "sub", "d"], 0o700, NOON);
        assert_eq!(error.unwrap_err().to_string(), wanted("d"));
        let mut staged = stage.begin(2).unwrap();
        staged.symlink(&["t", "sub", "l"], b"x", NOON).unwrap();
        staged.directory(&["t", "sub"], 0o777, EARLY).unwrap();
        let sub = stage.path().join("2/t/sub");
        fs::remove_dir(&sub).unwrap();
        symlink(place.outside(), &sub).unwrap();
        let error = publish(staged, "t").unwrap_err();
        assert_eq!(error.to_string(), wanted("l"));
        let mut staged = stage.begin(3).unwrap();
        staged.directory(&["t", "sub"], 0o777, EARLY).unwrap();
        let sub = stage.path().join("3/t/sub");
        fs::remove_dir(&sub).unwrap();
        symlink(place.outside(), &sub).unwrap();
        publish(staged, "t").unwrap_err();
        stage.remove().unwrap();
        assert!(list(&place.dir()).is_empty());
        place.check_outside();
    });
}

/// Links in the middle of a path are not followed either, inside the
/// directory or out of it.
#[test]
fn a_link_in_the_middle_of_a_path_is_not_followed() {
    both(|place| {
        let dir = place.dir();
        let far = place.temp.path().join("far");
        let targets = [far.clone(), PathBuf::from("real"), "../far".into()];
        for target in targets {
            fs::create_dir_all(far.join("sub/deep")).unwrap();
            fs::create_dir_all(dir.join("real/sub/deep")).unwrap();
            fs::write(far.join("sub/deep/file"), "far").unwrap();
            fs::write(dir.join("real/sub/deep/file"), "far").unwrap();
            symlink(&target, dir.join("vm5")).unwrap();
            let error = place
                .target(true)
                .preflight(&[steps("vm5/sub/deep/file")])
                .unwrap_err();
            assert_eq!(
                place.text(&error),
                "DIR/vm5: found a symbolic link; wanted a directory"
            );
            let stage = place.stage(true);
            let mut staged = stage.begin(1).unwrap();
            write(&mut staged, "vm5/sub/deep/file", "evil");
            let error = publish(staged, "vm5/sub/deep/file").unwrap_err();
            assert!(matches!(error, TreeError::InTheWay { .. }), "{error}");

            let mut staged = stage.begin(2).unwrap();
            let real = stage.path().join("2/t/real/sub/deep");
            fs::create_dir_all(&real).unwrap();
            let target =
                if target.is_relative() { Path::new("real") } else { &target };
            symlink(target, stage.path().join("2/t/link")).unwrap();
            let path = "t/link/sub/deep/new";
            let wanted = format!(
                "{path}: found a symbolic link at t/link; wanted a directory"
            );
            let error = put(&mut staged, path, "evil").unwrap_err();
            assert_eq!(error.to_string(), wanted);
            let link = steps("t/link/sub/deep/link");
            staged.symlink(&link, b"evil", NOON).unwrap();
            let files = staged.file(&["t", "ok"], 0, 0o600, NOON).unwrap();
            files.close().unwrap();
            let directory = steps("t/link/sub/deep/dir");
            let error = staged.directory(&directory, 0o777, NOON);
            let wanted = wanted.replace("deep/new", "deep/dir");
            assert_eq!(error.unwrap_err().to_string(), wanted);
            drop(staged);
            assert!(fs::read_dir(&real).unwrap().next().is_none());
            stage.remove().unwrap();
            fs::remove_file(dir.join("vm5")).unwrap();
            for deep in [far.join("sub/deep"), dir.join("real/sub/deep")] {
                assert_eq!(lines(&deep), ["file: 644 far"]);
            }
        }
    });
}

#[test]
fn what_the_path_names_later_does_not_matter() {
    both(|place| {
        let stage = place.stage(true);
        let mut staged = stage.begin(1).unwrap();
        write(&mut staged, "vm5/a", "good");
        let moved = place.temp.path().join("moved");
        fs::rename(place.dir(), &moved).unwrap();
        symlink("outside", place.dir()).unwrap();
        write(&mut staged, "vm5/b", "good");
        publish(staged, "vm5").unwrap();
        stage.remove().unwrap();
        let wanted = ["vm5: 755 /", "vm5/a: 644 good", "vm5/b: 644 good"];
        assert_eq!(lines(&moved), wanted);
        place.check_outside();
    });
}

//= spec/format3.md#nothing-outside-of-the-directory
#[test]
fn somebody_who_swaps_directories_and_links_gets_nothing_out() {
    both(|place| {
        let stage = place.stage(true);
        let dir = place.dir();
        fs::create_dir_all(dir.join("vm5/sub")).unwrap();
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let spots = [dir.join("vm5"), stage.path().join("1/vm5/sub")];
                while !over.load(Ordering::Relaxed) {
                    for spot in &spots {
                        let aside = spot.with_extension("aside");
                        let _ = fs::rename(spot, &aside);
                        let _ = symlink(place.outside(), spot);
                        let _ = fs::remove_file(spot);
                        let _ = fs::rename(&aside, spot);
                    }
                }
            });
            let mut errors = 0;
            for round in 0..300 {
                let Ok(mut staged) = stage.begin(1) else { break };
                let path = format!("vm5/sub/file{round}");
                let _ = put(&mut staged, &path, "x");
                let _ = put(&mut staged, "vm5/sub/file", "evil");
                let meta = staged.directory(&["vm5", "sub"], 0o777, EARLY);
                errors += u64::from(meta.is_err());
                errors += u64::from(publish(staged, "vm5").is_err());
                let _ = fs::remove_dir_all(stage.path().join("1"));
            }
            over.store(true, Ordering::Relaxed);
            eprintln!("errors: {errors}");
        });
        let _ = stage.remove();
        place.check_outside();
    });
}

#[test]
fn dropping_removes_all_of_it() {
    both(|place| {
        let stage = place.stage(false);
        let mut staged = stage.begin(1).unwrap();
        staged.directory(&["t", "ro"], 0o500, NOON).unwrap();
        write(&mut staged, "t/ro/file", "x");
        staged.directory(&["t", "none"], 0, NOON).unwrap();
        write(&mut staged, "t/none/deep/file", "x");
        let outside = place.outside();
        let outside = outside.to_str().unwrap().as_bytes();
        staged.symlink(&["t", "out"], outside, NOON).unwrap();
        staged.complete().unwrap();
        // Whatever else somebody does to them.
        for (name, mode) in
            [("1/t/ro", 0o500), ("1/t/none/deep", 0o000), ("1/t/none", 0o000)]
        {
            let mode = Permissions::from_mode(mode);
            fs::set_permissions(stage.path().join(name), mode).unwrap();
        }
        staged.drop_it().unwrap();
        assert_eq!(fs::read_dir(stage.path()).unwrap().count(), 0);
        let mut staged = stage.begin(2).unwrap();
        write(&mut staged, "t/file", "x");
        let path = stage.path().to_owned();
        drop(stage);
        // A file that is still being staged keeps the stage.
        assert!(path.exists());
        drop(staged);
        assert!(!path.exists());
        assert!(list(&place.dir()).is_empty());
        place.check_outside();
    });
    as_user("dropping_removes_all_of_it");
}

#[test]
fn what_is_left_is_reported() {
    both(|place| {
        let stage = place.stage(false);
        let mut staged = stage.begin(1).unwrap();
        write(&mut staged, "t/file", "x");
        // Somebody has taken the stage away, and left something instead.
        let moved = place.temp.path().join("moved");
        fs::rename(stage.path(), moved).unwrap();
        fs::create_dir_all(stage.path().join("mine")).unwrap();
        let error = stage.remove().unwrap_err();
        assert_eq!(
            place.text(&error),
            "DIR/STAGE: left behind; wanted it removed"
        );
        let TreeError::Left { cause, .. } = error else { panic!() };
        assert_eq!(
            place.text(&cause),
            "DIR/STAGE: rmdir: Directory not empty (os error 39)"
        );
    });
}

#[test]
fn stages_of_the_dead_are_swept_and_of_the_living_are_not() {
    both(|place| {
        let target = place.target(false);
        let living = target.stage().unwrap();
        let dead = place.dir().join(format!("{STAGE_PREFIX}dead"));
        fs::create_dir_all(dead.join("1/a/b")).unwrap();
        fs::write(dead.join("1/a/file"), "x").unwrap();
        let link = place.dir().join(format!("{STAGE_PREFIX}link"));
        symlink("../outside", &link).unwrap();
        fs::write(place.dir().join("mine"), "x").unwrap();
        assert_eq!(target.sweep(), 1);
        assert!(living.path().exists() && !dead.exists());
        assert!(link.symlink_metadata().is_ok());
        let left = living.path().to_owned();
        living.remove().unwrap();
        assert!(!left.exists());
        place.check_outside();
    });
}

#[test]
fn a_path_as_long_as_allowed_is_staged_published_and_removed() {
    both(|place| {
        let stage = place.stage(false);
        // One component after the other, 2,048 of them take their time.
        let name = if place.is_old { "d".repeat(255) } else { "d".into() };
        let count = PATH_BYTES_MAX as usize / (name.len() + 1);
        let deep = vec![name.as_str(); count];
        for number in [1001, 1002] {
            let mut staged = stage.begin(number).unwrap();
            let file = staged.file(&deep, 0, 0o600, NOON).unwrap();
            file.close().unwrap();
            if number == 1001 {
                staged.drop_it().unwrap();
            } else {
                staged.publish(&[name.as_str()], false).unwrap();
            }
        }
        stage.remove().unwrap();
        let output = Command::new("find").arg(place.dir()).output().unwrap();
        let depth = output.stdout.iter().filter(|&&b| b == b'\n').count();
        assert_eq!(depth, 1 + deep.len());
    });
}

#[test]
fn the_directory_is_created_but_not_what_is_above() {
    let place = Place::new(false);
    let new = place.dir().join("new");
    Target::open(&new, false).unwrap();
    assert!(new.is_dir());
    let error = Target::open(&place.dir().join("a/b"), false).unwrap_err();
    assert_eq!(
        place.text(&error),
        "DIR/a/b: mkdir: No such file or directory (os error 2)"
    );
    // The user's own path may be a link; what is below it may not.
    let link = place.temp.path().join("link");
    symlink("dir/new", &link).unwrap();
    let stage = Target::open(&link, false).unwrap().stage().unwrap();
    let mut staged = stage.begin(1).unwrap();
    write(&mut staged, "vm5/a", "x");
    publish(staged, "vm5/a").unwrap();
    assert!(new.join("vm5/a").exists());
    let file = place.dir().join("file");
    fs::write(&file, "x").unwrap();
    let error = Target::open(&file, false).unwrap_err();
    assert_eq!(
        place.text(&error),
        "DIR/file: open: Not a directory (os error 20)"
    );
    let stage = place.stage(false);
    stage.begin(1).unwrap();
    let error = stage.begin(1).unwrap_err();
    assert_eq!(
        place.text(&error),
        "DIR/STAGE/1: mkdir: File exists (os error 17)"
    );
}

#[test]
fn a_full_disk_publishes_nothing() {
    let place = Place::new(false);
    let dir = place.dir();
    if !mount(&dir) {
        eprintln!("skipped: no tmpfs may be mounted; see the next test");
        return;
    }
    let result = thread::spawn({
        let target = place.target(true);
        move || {
            fs::create_dir_all(dir.join("vm5")).unwrap();
            fs::write(dir.join("vm5/private.img"), "old").unwrap();
            let stage = target.stage().unwrap();
            let mut staged = stage.begin(1).unwrap();
            let path = ["vm5", "private.img"];
            let mut file = staged.file(&path, 1 << 30, 0o600, NOON).unwrap();
            let error = file.write_at(0, &vec![1; 1 << 20]).unwrap_err();
            assert!(file.close().is_err());
            assert!(staged.publish(&path, true).is_err());
            stage.remove().unwrap();
            let wanted = ["vm5: 755 /", "vm5/private.img: 644 old"];
            assert_eq!(lines(&dir), wanted);
            error
        }
    })
    .join();
    unmount(&place.dir());
    let error = result.unwrap();
    assert!(matches!(error, TreeError::NoSpace { .. }));
    let text = place.text(&error);
    let end = text.strip_prefix("DIR/STAGE/").unwrap();
    assert_eq!(
        end,
        "vm5/private.img: write: No space left on device (os error 28); \
         wanted room for the file"
    );
}

#[test]
fn a_file_too_large_publishes_nothing() {
    if std::env::var_os(SMALL_FILES).is_none() {
        let before = "trap '' XFSZ; ulimit -f 64;";
        let name = "a_file_too_large_publishes_nothing";
        let output = again(name, before, SMALL_FILES, None);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "with small files: {text}");
        return;
    }
    both(|place| {
        let stage = place.stage(false);
        let wanted = |call: &str| {
            format!(
                "DIR/STAGE/a: {call}: File too large (os error 27); wanted \
                 room for the file"
            )
        };
        let mut staged = stage.begin(1).unwrap();
        let mut file = staged.file(&["a"], 1 << 20, 0o600, NOON).unwrap();
        let error = file.write_at(0, &vec![1; 1 << 20]).unwrap_err();
        assert_eq!(place.text(&error), wanted("write"));
        publish(staged, "a").unwrap_err();
        let mut staged = stage.begin(2).unwrap();
        let file = staged.file(&["a"], 1 << 20, 0o600, NOON).unwrap();
        assert_eq!(place.text(&file.close().unwrap_err()), wanted("set size"));
        publish(staged, "a").unwrap_err();
        stage.remove().unwrap();
        assert!(list(&place.dir()).is_empty());
    });
}

#[test]
fn a_merge_that_fails_in_the_middle_says_how_far_it_got() {
    let place = Place::new(false);
    let dir = place.dir();
    fs::create_dir_all(dir.join("t/sub")).unwrap();
    fs::write(dir.join("t/a"), "old").unwrap();
    // Nothing can be renamed into another file system.
    if !mount(&dir.join("t/sub")) {
        eprintln!("skipped: no tmpfs may be mounted");
        return;
    }
    let stage = place.stage(true);
    let mut staged = stage.begin(1).unwrap();
    write(&mut staged, "t/a", "new");
    write(&mut staged, "t/sub/b", "new");
    let result = publish(staged, "t");
    // Directories made for what then cannot be moved do not stay.
    let mut staged = stage.begin(2).unwrap();
    write(&mut staged, "t/sub/new/er/c", "new");
    let unmoved = publish(staged, "t/sub/new/er/c");
    let removed = stage.remove();
    let there = lines(&dir);
    unmount(&dir.join("t/sub"));
    removed.unwrap();
    assert!(matches!(unmoved.unwrap_err(), TreeError::Call { .. }));
    let wanted = ["t: 755 /", "t/a: 644 new", "t/sub: 1777 /"];
    assert_eq!(there, wanted);
    let error = result.unwrap_err();
    assert_eq!(
        place.text(&error),
        "DIR/t: merged in part, files and directories in place: 1, each of \
         them whole; wanted all of them"
    );
    let TreeError::Partly { moved: 1, cause, .. } = error else { panic!() };
    assert_eq!(
        place.text(&cause),
        "DIR/t/sub/b: rename: Invalid cross-device link (os error 18)"
    );
}

/// Puts a small file system there, if that is allowed.
fn mount(dir: &Path) -> bool {
    let mut command = Command::new("mount");
    command.args(["-t", "tmpfs", "-o", "size=256k", "none"]).arg(dir);
    command.output().is_ok_and(|output| output.status.success())
}

fn unmount(dir: &Path) {
    let status = Command::new("umount").arg("-l").arg(dir).status();
    assert!(status.unwrap().success());
}

#[derive(Clone, Debug)]
enum Op {
    File(Vec<&'static str>, String),
    Directory(Vec<&'static str>),
    Symlink(Vec<&'static str>, &'static str),
    Hard(Vec<&'static str>, Vec<&'static str>),
}

fn any_path() -> impl Strategy<Value = Vec<&'static str>> {
    let name = prop::sample::select(vec!["a", "b", "c"]);
    vec(name, 1..4).prop_map(|names| [vec!["t"], names].concat())
}

fn any_op() -> impl Strategy<Value = Op> {
    let target = prop::sample::select(vec![
        "a",
        "../b",
        "../../outside",
        "/etc",
        "../../outside/file",
        ".",
    ]);
    prop_oneof![
        (any_path(), "[a-z]{0,5}").prop_map(|(p, text)| Op::File(p, text)),
        any_path().prop_map(Op::Directory),
        (any_path(), target).prop_map(|(p, to)| Op::Symlink(p, to)),
        (any_path(), any_path()).prop_map(|(p, to)| Op::Hard(p, to)),
    ]
}

/// A tree too simple to be wrong: path to what is there.
#[derive(Clone, Debug, Default)]
struct Model(BTreeMap<String, String>);

impl Model {
    /// Gives whether the name was free, and all above it directories.
    fn add(&mut self, path: &[&str], text: String) -> bool {
        let mut at = String::new();
        let (name, above) = path.split_last().unwrap();
        for step in above {
            at = if at.is_empty() { (*step).into() } else { at + "/" + step };
            let there = self.0.entry(at.clone()).or_insert("/".into());
            if there != "/" {
                return false;
            }
        }
        let at = format!("{at}/{name}");
        let is_dir = text == "/";
        let there = self.0.get(&at);
        if there.is_some_and(|there| !(is_dir && there == "/")) {
            return false;
        }
        self.0.insert(at, text);
        true
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Whatever an archive says: what is published is what the model has,
    /// and otherwise there is nothing; outside never changes.
    #[test]
    fn any_archive_is_restored_as_the_model_or_refused(
        ops in vec(any_op(), 1..12),
        is_old: bool,
    ) {
        let place = Place::new(is_old);
        let stage = place.stage(false);
        let mut staged = stage.begin(1).unwrap();
        let mut model = Model::default();
        let mut good = true;
        let mut found = Ok(());
        for op in &ops {
            found = found.and(match op {
                Op::File(path, text) => {
                    good &= model.add(path, text.clone() + "!");
                    put(&mut staged, &path.join("/"), &format!("{text}!"))
                }
                Op::Directory(path) => {
                    good &= model.add(path, "/".into());
                    staged.directory(path, 0o755, NOON)
                }
                Op::Symlink(path, to) => {
                    staged.symlink(path, to.as_bytes(), NOON)
                }
                Op::Hard(path, to) => staged.hard_link(path, to),
            });
        }
        for op in &ops {
            match op {
                Op::Symlink(path, to) => {
                    good &= model.add(path, format!("-> {to}"));
                }
                Op::Hard(path, to) => {
                    let old = model.0.get(&to.join("/")).cloned();
                    let old = old.filter(|old| old != "/");
                    good &= old.is_some_and(|old| model.add(path, old));
                }
                Op::File(..) | Op::Directory(_) => {}
            }
        }
        let found = found.and_then(|()| publish(staged, "t"));
        stage.remove().unwrap();
        prop_assert_eq!(found.is_ok(), good, "{:?}", found);
        let mut there = list(&place.dir());
        for text in there.values_mut() {
            if let Some((_, rest)) = text.split_once(' ')
                && !text.starts_with("->")
            {
                *text = rest.to_owned();
            }
        }
        if good {
            prop_assert_eq!(there, model.0);
        } else {
            prop_assert!(there.is_empty());
        }
        place.check_outside();
    }
}
