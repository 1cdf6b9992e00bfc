//! `qubes-fsm device`, as scripts and people use it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use serde_json::{Value, json};

use crate::run::{Dev, Done, device};

fn done(code: i32, out: &str, err: &str) -> Done {
    Done { code, out: out.to_owned(), err: err.to_owned() }
}

/// Without a file: in a directory that has none.
fn empty(name: &str) -> Done {
    let dev = Dev::new();
    device(&[name, "--dev", dev.path().to_str().unwrap()])
}

#[test]
fn a_name_is_told_line_by_line() {
    let wanted = "\
name       sdb3
kind       sd
index      1
partition  3
major      8
minor      19
xen id     2067
rule       computed
";
    assert_eq!(empty("sdb3"), done(0, wanted, ""));
    let wanted = "\
name       loop3
kind       loop
index      3
partition  0, the whole disk
major      7
minor      3
xen id     -
rule       computed
note       if loop has its default max_part=0
";
    assert_eq!(empty("loop3"), done(0, wanted, ""));
}

#[test]
fn what_only_the_file_knows_is_an_omission() {
    let wanted = "\
name       nvme0c1n2
kind       nvme
index      0
path       1
namespace  2
partition  0, the whole disk
major      -
minor      -
xen id     -
rule       needs the device file
note       one path of several, which the kernel gives no file
";
    assert_eq!(empty("nvme0c1n2"), done(3, wanted, ""));
    let wanted = "\
name       mmcblk0gp1p2
kind       mmcblk
index      0
area       gp1
partition  2
major      -
minor      -
xen id     -
rule       needs the device file
";
    assert_eq!(empty("mmcblk0gp1p2"), done(3, wanted, ""));
    for name in ["loop0p1", "dm-3", "nvme0n1p2", "sda16", "253:3"] {
        let found = empty(name);
        assert_eq!((found.code, found.err.as_str()), (3, ""), "{name}");
        assert!(found.out.contains("rule       needs the device file\n"));
    }
}

/// All keys are there, whatever is known.
#[test]
fn json_is_one_document_with_every_key() {
    let dev = Dev::new();
    let done = dev.ask("xvdb2");
    assert_eq!((done.code, done.err.as_str()), (0, ""));
    let wanted = json!({
        "asked": "xvdb2", "name": "xvdb2", "kind": "xvd", "index": 1,
        "partition": 2, "area": null, "path": null, "namespace": null,
        "major": 202, "minor": 18, "xen_id": 51730, "rule": "computed",
        "file": null, "notes": [],
    });
    assert_eq!(done.json(), wanted);
    let done = dev.ask("253:3");
    assert_eq!(done.code, 3);
    let wanted = json!({
        "asked": "253:3", "name": null, "kind": null, "index": null,
        "partition": null, "area": null, "path": null, "namespace": null,
        "major": 253, "minor": 3, "xen_id": null,
        "rule": "needs the device file", "file": null,
        "notes": ["no table says what has these numbers"],
    });
    assert_eq!(done.json(), wanted);
    let nvme = dev.ask("nvme2n3p4").json();
    assert_eq!(nvme["namespace"], 3);
    assert_eq!(nvme["path"], Value::Null);
    assert_eq!(dev.ask("mmcblk1boot0").json()["area"], "boot0");
}

#[test]
fn ids_and_numbers_are_told() {
    let name = |text: &str| empty(text).out.lines().next().unwrap().to_owned();
    assert_eq!(name("51712"), "name       xvda");
    assert_eq!(name("268572709"), "name       xvdtq37");
    assert_eq!(name("65:1"), "name       sdq1");
}

#[test]
fn a_device_file_says_more_than_its_name() {
    let dev = Dev::new();
    // As with max_part=15: 16 numbers for each loop device.
    if !dev.make("loop3", 7, 48) || !dev.make("dm-0", 253, 0) {
        return;
    }
    let done = dev.ask("loop3");
    assert_eq!(done.code, 0, "{done:?}");
    let json = done.json();
    assert_eq!((&json["major"], &json["minor"]), (&json!(7), &json!(48)));
    assert_eq!(json["rule"], "device file");
    assert_eq!(json["notes"], json!(["from the name alone: 7:3"]));
    let json = dev.ask("7:48").json();
    assert_eq!(json["name"], "loop3");

    // Links below the directory, one behind the other, also absolute.
    fs::create_dir_all(dev.path().join("disk/by-label")).unwrap();
    fs::create_dir(dev.path().join("mapper")).unwrap();
    symlink("../dm-0", dev.path().join("mapper/root")).unwrap();
    let target = dev.path().join("mapper/root");
    symlink(&target, dev.path().join("disk/by-label/root")).unwrap();
    let file = dev.path().join("dm-0");
    let absolute = target.to_str().unwrap();
    for name in ["dm-0", "mapper/root", "disk/by-label/root", absolute] {
        let done = dev.ask(name);
        assert_eq!(done.code, 0, "{done:?}");
        let json = done.json();
        assert_eq!(json["file"], file.to_str().unwrap());
        assert_eq!(json["name"], "dm-0");
        assert_eq!((&json["major"], &json["minor"]), (&json!(253), &json!(0)));
        assert_eq!(json["asked"], name);
    }
    // /dev stands for the directory.
    let json = dev.ask("/dev/mapper/root").json();
    assert_eq!(json["file"], file.to_str().unwrap());

    // Of files with one number that with a kernel's name.
    assert!(dev.make("a-disk", 253, 0));
    assert_eq!(dev.ask("253:0").json()["name"], "dm-0");
    assert_eq!(dev.ask("a-disk").json()["name"], Value::Null);
    assert_eq!(dev.ask("a-disk").code, 0);
}

#[test]
fn what_is_no_block_device_is_said_so() {
    let dev = Dev::new();
    let path = dev.path();
    fs::write(path.join("sda"), "").unwrap();
    fs::create_dir(path.join("sdb")).unwrap();
    symlink("sda", path.join("cdrom")).unwrap();
    let _listener = UnixListener::bind(path.join("sdc")).unwrap();
    let dir = path.to_str().unwrap();
    for (name, what) in [
        ("sda", "a regular file"),
        ("sdb", "a directory"),
        ("sdc", "a socket"),
        ("cdrom", "DIR/sda, a regular file"),
    ] {
        let text = format!(
            "qubes-fsm: ERROR: DIR/{name}: {what}; wanted a block device\n"
        );
        let text = text.replace("DIR", dir);
        assert_eq!(dev.ask(name), done(14, "", &text));
    }
    let text = "qubes-fsm: ERROR: /dev/null: a character device; wanted a \
                block device\n";
    assert_eq!(device(&["/dev/null"]), done(14, "", text));
    assert_eq!(device(&["null"]), done(14, "", text));
    let text = "qubes-fsm: ERROR: device \"nvme0\": a controller, which is a \
                character device; wanted a block device\n";
    assert_eq!(dev.ask("nvme0"), done(14, "", text));
}

/// A device of another directory is not one of this.
#[test]
fn a_link_out_of_the_directory_is_refused() {
    let (dev, other) = (Dev::new(), Dev::new());
    other.make("sda", 8, 0);
    fs::write(other.path().join("sdb"), "").unwrap();
    for name in ["sda", "sdb"] {
        let target = other.path().join(name);
        if !target.exists() {
            continue;
        }
        symlink(&target, dev.path().join(name)).unwrap();
        let text = format!(
            "qubes-fsm: ERROR: {0}/{name}: a link to {1}, which is not below \
             {0}; wanted a device of it\n",
            dev.path().display(),
            target.display(),
        );
        assert_eq!(dev.ask(name), done(14, "", &text));
    }
    // Nor is it found by its numbers.
    assert_eq!(dev.ask("8:0").json()["file"], Value::Null);
}

#[test]
fn paths_stay_below_the_directory() {
    let dev = Dev::new();
    let dir = dev.path().to_str().unwrap();
    for name in
        ["..", "../sda", "a/../sda", "/etc/passwd", "/", "/dev", "", "."]
    {
        let text = format!(
            "qubes-fsm: ERROR: {name}: not below {dir}; wanted a name, without \
             \"..\"\n"
        );
        assert_eq!(dev.ask(name), done(2, "", &text));
    }
}

#[test]
fn what_is_not_there_is_not_found() {
    let dev = Dev::new();
    let dir = dev.path().to_str().unwrap();
    symlink("gone", dev.path().join("dangling")).unwrap();
    for name in ["cdrom", "dangling"] {
        let text = format!(
            "qubes-fsm: ERROR: device \"{name}\": of no known kind; wanted sd, \
             xvd, hd, vd, sr, scd, loop, md, md_d, mmcblk, nvme, nbd, zram, \
             dm- or ram, and which; {dir} has no such file\n"
        );
        assert_eq!(dev.ask(name), done(10, "", &text));
    }
    fs::write(dev.path().join("file"), "").unwrap();
    for name in ["disk/by-label/root", "file/sda"] {
        let text = format!(
            "qubes-fsm: ERROR: {dir}/{name}: no such file; wanted a block \
             device\n"
        );
        assert_eq!(dev.ask(name), done(10, "", &text));
    }
    let gone = dev.path().join("gone");
    let found = device(&["sda", "--dev", gone.to_str().unwrap()]);
    assert_eq!(found.code, 10, "{found:?}");
    let file = dev.path().join("file");
    let found = device(&["sda", "--dev", file.to_str().unwrap()]);
    assert_eq!(found.code, 1, "{found:?}");
    // A loop of links is neither.
    symlink("b", dev.path().join("a")).unwrap();
    symlink("a", dev.path().join("b")).unwrap();
    assert_eq!(dev.ask("a").code, 1);
}

#[test]
fn each_refusal_has_its_code() {
    for (name, code) in [
        ("sda0", 2),
        ("loop00", 2),
        ("sd", 2),
        ("mmcblk0boot2", 2),
        ("nvme0n0", 2),
        ("sr0p1", 14),
        ("0", 14),
        ("536870912", 14),
        ("loop4294967296", 17),
        ("4096:0", 17),
        ("08:0", 2),
    ] {
        let found = empty(name);
        assert_eq!((found.code, found.out.as_str()), (code, ""), "{name}");
        assert!(found.err.starts_with("qubes-fsm: ERROR: device"));
        assert_eq!(found.err.lines().count(), 1, "{}", found.err);
    }
}

#[test]
fn a_name_of_another_qube_is_not_looked_up() {
    let found = device(&["loop0", "--from-qube", "--json"]);
    assert_eq!(found.code, 0, "{found:?}");
    assert_eq!(found.json()["rule"], "computed");
    assert_eq!(found.json()["file"], Value::Null);
    // In /dev, and of no kind.
    let found = device(&["null", "--from-qube"]);
    assert_eq!(found.code, 14, "{found:?}");
    assert_eq!(device(&["nvme0n1p2", "--from-qube"]).code, 3);
    assert_eq!(device(&["51840", "--from-qube"]).code, 0);
    let text = "qubes-fsm: ERROR: device \"x\\xff\\u{1b}[1m\": byte 1 is no \
                character of a kernel name; wanted a-z, A-Z, 0-9, \"-\", \"_\" \
                or \"!\"\n";
    let name = OsStr::from_bytes(b"x\xff\x1b[1m");
    let found = device(&[name, "--from-qube".as_ref()]);
    assert_eq!(found, done(2, "", text));
    for name in ["disk/by-label/root", "../sda", "/dev/sda", "8:0", "sda "] {
        assert_eq!(device(&[name, "--from-qube"]).code, 2, "{name}");
    }
    let long = "a".repeat(256);
    assert_eq!(device(&[long.as_str(), "--from-qube"]).code, 17);
    let found = device(&["sda", "--from-qube", "--dev", "/dev"]);
    assert_eq!(found.code, 2);
}

#[test]
fn answers_of_2014_are_said_to_be() {
    let wanted = "\
name       loop3p1
kind       loop
index      3
partition  1
major      7
minor      1
xen id     1793
rule       as in 2014
note       today: needs the device file
";
    assert_eq!(device(&["loop3p1", "--as-2014"]), done(0, wanted, ""));
    let notes = |name: &str| {
        let found = device(&[name, "--as-2014", "--json"]);
        assert_eq!(found.code, 0, "{found:?}");
        found.json()["notes"].clone()
    };
    assert_eq!(notes("loop3"), json!(["today: 7:3"]));
    assert_eq!(notes("sda1"), json!([]));
    assert_eq!(
        notes("nvme0n1"),
        json!(["a kind that was not known", "today: needs the device file"])
    );
    let text = "qubes-fsm: ERROR: device \"md0x\": refused in 2014, too\n";
    assert_eq!(device(&["md0x", "--as-2014"]), done(2, "", text));
    let found = device(&["loop3", "--as-2014", "--from-qube"]);
    assert_eq!(found.code, 0);
    assert_eq!(device(&["a/b", "--as-2014", "--from-qube"]).code, 2);
    assert_eq!(device(&["loop3", "--as-2014", "--dev", "/dev"]).code, 2);
}

#[test]
fn help_and_completions_know_the_command() {
    let help = device(&["--help"]);
    assert_eq!((help.code, help.err.as_str()), (0, ""));
    for word in ["--dev <DIR>", "--from-qube", "--as-2014", "--json"] {
        assert!(help.out.contains(word), "{word}: {}", help.out);
    }
    assert_eq!(device::<&str>(&[]).code, 2);
}
