//! The block devices of this machine: what `device` says of each is what
//! `stat` and the kernel say.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use qubes_fsm::format::device::{Answer, Number, Rule, ask};
use rustix::fs::{major, minor};

use crate::run::{Dev, device};

/// Every block device that the kernel knows, with its numbers. What it hides
/// has none.
fn kernel() -> Vec<(String, Number)> {
    let Ok(entries) = fs::read_dir("/sys/class/block") else {
        eprintln!("not tested, there is no /sys/class/block");
        return Vec::new();
    };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name().into_string().unwrap();
        if let Some(number) = number_of(&entry.path()) {
            found.push((name, number));
        }
    }
    found
}

/// The numbers in `FOLDER/dev`.
fn number_of(folder: &Path) -> Option<Number> {
    let text = fs::read(folder.join("dev")).ok()?;
    Some(Number::parse(text.trim_ascii()).unwrap().unwrap())
}

/// Whether what a computed number takes for granted is so here.
fn is_as_shipped(answer: &Answer) -> bool {
    let max_part = |module: &str| {
        let path = format!("/sys/module/{module}/parameters/max_part");
        fs::read_to_string(path).unwrap_or_default().trim().to_owned()
    };
    match answer.device.unwrap().disk().kind() {
        "loop" => max_part("loop") == "0",
        "nbd" => ["16", "31"].contains(&max_part("nbd").as_str()),
        "ram" => max_part("brd") == "1",
        "mmcblk" => false,
        _ => true,
    }
}

fn stat(number: Number) -> (Option<u64>, Option<u64>) {
    (Some(number.major.into()), Some(number.minor.into()))
}

#[test]
fn what_is_computed_is_what_the_kernel_gave() {
    let mut compared = 0;
    for (name, number) in kernel() {
        let Ok(answer) = ask(name.as_bytes()) else {
            eprintln!("not tested, no kind that is known: {name}");
            continue;
        };
        match answer.number {
            None => assert_eq!(answer.rule, Rule::NeedsDeviceFile),
            Some(computed) if is_as_shipped(&answer) => {
                assert_eq!(computed, number, "{name}");
                compared += 1;
            }
            Some(_) => eprintln!("not compared, set up differently: {name}"),
        }
    }
    if compared == 0 {
        eprintln!("not tested, no block device here has a fixed number");
    }
}

#[test]
fn a_node_for_every_device_of_the_kernel_is_told_right() {
    let dev = Dev::new();
    for (name, number) in kernel() {
        // In a file name the kernel's ! is a /, which is another test.
        if name.contains('!') || !dev.make(&name, number.major, number.minor) {
            continue;
        }
        let done = dev.ask(&name);
        assert_eq!(done.code, 0, "{done:?}");
        let json = done.json();
        let found = (json["major"].as_u64(), json["minor"].as_u64());
        assert_eq!(found, stat(number), "{name}");
        assert_eq!(json["rule"], "device file");
        assert_eq!(json["file"], dev.path().join(&name).to_str().unwrap());
        // And back: by its numbers it is found again.
        let json = dev.ask(&number.to_string()).json();
        assert_eq!(json["file"], dev.path().join(&name).to_str().unwrap());
    }
}

/// All block devices below a directory; links are not followed.
fn nodes(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            found.extend(nodes(&entry.path()));
        } else if kind.is_block_device() {
            found.push(entry.path());
        }
    }
    found
}

#[test]
fn every_block_device_in_dev_is_told_as_stat_tells_it() {
    let nodes = nodes(Path::new("/dev"));
    if nodes.is_empty() {
        eprintln!("not tested, /dev has no block device");
    }
    for node in nodes {
        let Ok(found) = fs::metadata(&node) else { continue };
        let number =
            Number { major: major(found.rdev()), minor: minor(found.rdev()) };
        let done = device(&[node.as_os_str(), "--json".as_ref()]);
        // Devices come and go, also by the test below.
        if !node.exists() {
            continue;
        }
        assert_eq!(done.code, 0, "{done:?}");
        let json = done.json();
        let found = (json["major"].as_u64(), json["minor"].as_u64());
        assert_eq!(found, stat(number), "{node:?}");
        assert_eq!(json["rule"], "device file");
    }
}

/// A loop device over a file, with two partitions.
struct Attached(String);

impl Attached {
    /// `None`, and a line on stderr, where we may not.
    fn new(directory: &Path) -> Option<Self> {
        let image = directory.join("image");
        fs::write(&image, vec![0; 4 << 20]).unwrap();
        let image = image.to_str().unwrap();
        let show = ["--find", "--show", "--partscan", image];
        let attached = Self(run("losetup", &show)?);
        // Told, not read from a table: the kernel may know no kind of those.
        for (number, first) in [("1", "2048"), ("2", "4096")] {
            run("addpart", &[&attached.0, number, first, "2048"])?;
        }
        Some(attached)
    }
}

/// What a program says; `None`, and a line on stderr, where it is refused.
fn run(program: &str, arguments: &[&str]) -> Option<String> {
    let why = match Command::new(program).args(arguments).output() {
        Ok(output) if output.status.success() => {
            let text = String::from_utf8(output.stdout).unwrap();
            return Some(text.trim().to_owned());
        }
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => error.to_string(),
    };
    eprintln!("not tested, {program} is refused: {}", why.trim());
    None
}

impl Drop for Attached {
    fn drop(&mut self) {
        let done = Command::new("losetup").args(["-d", &self.0]).status();
        assert!(done.is_ok_and(|status| status.success()), "losetup -d");
    }
}

#[test]
fn partitions_of_a_loop_device_need_their_files_and_are_found_by_them() {
    let dev = Dev::new();
    let Some(attached) = Attached::new(dev.path()) else { return };
    let name = attached.0.strip_prefix("/dev/").unwrap().to_owned();
    let folder = Path::new("/sys/class/block").join(&name);
    let disk = number_of(&folder).unwrap();
    for partition in ["p1", "p2"] {
        let name = format!("{name}{partition}");
        let number = number_of(&folder.join(&name)).unwrap();
        let answer = ask(name.as_bytes()).unwrap();
        assert_eq!(answer.number, None);
        assert_eq!(answer.rule, Rule::NeedsDeviceFile);
        // Nor is it what 2014 took it for: minor 1 is that of loop1.
        assert_ne!((number.major, number.minor), (7, 1));
        assert_ne!(number, disk);
        let done = dev.ask(&name);
        assert_eq!(done.code, 3, "{done:?}");
        if !dev.make(&name, number.major, number.minor) {
            return;
        }
        let done = dev.ask(&name);
        assert_eq!(done.code, 0, "{done:?}");
        let json = done.json();
        let found = (json["major"].as_u64(), json["minor"].as_u64());
        assert_eq!(found, stat(number));
        assert_eq!(json["kind"], "loop");
        assert_eq!(json["partition"].to_string(), partition[1..]);
    }
}
