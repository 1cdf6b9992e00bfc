//! Every name of `names.txt`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::collections::BTreeSet;

use qubes_fsm::format::device::{
    Answer, Device, DeviceError, Disk, Rule, ask, ask_untrusted,
};

const NAMES: &str = include_str!("names.txt");

/// A line: the name, the columns, the source.
fn rows() -> Vec<(&'static str, Vec<&'static str>, &'static str)> {
    let lines = NAMES.lines().filter(|line| !line.starts_with('#'));
    let rows = lines.map(|line| {
        let (columns, source) = line.split_once(" | ").unwrap();
        let mut columns = columns.split(' ');
        (columns.next().unwrap(), columns.collect(), source)
    });
    rows.collect()
}

/// The variant of an error.
fn variant(error: &DeviceError) -> String {
    let debug = format!("{error:?}");
    debug.split([' ', '{', '(']).next().unwrap().to_owned()
}

fn dash<T: ToString>(value: Option<T>) -> String {
    value.map_or("-".to_owned(), |value| value.to_string())
}

fn columns(answer: &Answer) -> Vec<String> {
    let device = answer.device.unwrap();
    vec![
        device.disk().kind().to_owned(),
        device.disk().index().to_string(),
        device.partition().to_string(),
        dash(answer.number),
        dash(answer.xen_id),
    ]
}

#[test]
fn every_name_is_what_its_source_says() {
    let mut wrong = Vec::new();
    for (name, wanted, source) in rows() {
        let found = match ask(name.as_bytes()) {
            Ok(answer) => columns(&answer),
            Err(error) => vec!["!".to_owned(), variant(&error)],
        };
        if found != wanted {
            wrong.push(format!(
                "{name}: {found:?}; wanted {wanted:?}: {source}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_table_is_large_and_has_no_name_twice() {
    let rows = rows();
    let names: BTreeSet<&str> = rows.iter().map(|(name, ..)| *name).collect();
    assert_eq!(names.len(), rows.len());
    assert!(names.len() >= 200, "{}", names.len());
    assert!(rows.iter().all(|(_, _, source)| source.len() >= 3));
    let kinds: BTreeSet<&str> = rows.iter().map(|(_, of, _)| of[0]).collect();
    assert_eq!(kinds.len(), 14 + 1, "{kinds:?}");
}

#[test]
fn a_name_of_another_qube_is_computed_in_the_same_way() {
    for (name, ..) in rows() {
        let name = name.as_bytes();
        assert_eq!(ask_untrusted(name), ask(name));
    }
}

#[test]
fn the_rule_says_whether_there_are_numbers() {
    for (name, wanted, _) in rows() {
        let Ok(answer) = ask(name.as_bytes()) else { continue };
        let rule = match wanted[3] {
            "-" => Rule::NeedsDeviceFile,
            _ => Rule::Computed,
        };
        assert_eq!(answer.rule, rule, "{name}");
    }
}

#[test]
fn a_name_is_written_as_it_was_read() {
    for (name, ..) in rows() {
        let Ok(device) = Device::parse(name.as_bytes()) else { continue };
        let wanted = match name.strip_prefix("scd") {
            Some(number) => format!("sr{number}"),
            None => name.to_owned(),
        };
        assert_eq!(device.to_string(), wanted);
    }
}

#[test]
fn areas_and_paths_are_told_apart() {
    let disk = |name: &str| Device::parse(name.as_bytes()).unwrap().disk();
    let Disk::Nvme { subsystem, path, namespace } = disk("nvme1c2n3") else {
        panic!("no nvme")
    };
    assert_eq!((subsystem, path, namespace), (1, Some(2), 3));
    let Disk::Nvme { path, namespace, .. } = disk("nvme10n12p3") else {
        panic!("no nvme")
    };
    assert_eq!((path, namespace), (None, 12));
    let Disk::Mmcblk { card, area } = disk("mmcblk7gp3p1") else {
        panic!("no mmcblk")
    };
    assert_eq!((card, area.to_string()), (7, "gp3".to_owned()));
}

/// People search for these.
#[test]
fn errors_say_subject_found_and_wanted() {
    let text = |name: &[u8]| ask(name).unwrap_err().to_string();
    assert_eq!(
        text(b"sd"),
        "device \"sd\": found \"\" there; wanted the letters of a disk, a to z"
    );
    assert_eq!(
        text(b"loop0x"),
        "device \"loop0x\": found \"x\" there; wanted p and a partition, or no \
         more"
    );
    assert_eq!(
        text(b"sda01"),
        "device \"sda01\": number \"01\"; wanted no 0 in front"
    );
    assert_eq!(
        text(b"loop4294967296"),
        "device \"loop4294967296\": number \"4294967296\"; wanted 4294967295 \
         at most"
    );
    assert_eq!(text(b"sda0"), "device \"sda0\": partition 0; wanted 1 to 255");
    assert_eq!(text(b"sr0p1"), "device \"sr0\": it cannot have partitions");
    assert_eq!(
        text(b"mmcblk0boot2"),
        "device \"mmcblk0boot2\": wanted boot0, boot1, rpmb or gp0 to gp3"
    );
    assert_eq!(
        text(b"nvme0n0"),
        "device \"nvme0n0\": namespace 0; wanted 1 at least"
    );
    assert_eq!(
        text(b"nvme0"),
        "device \"nvme0\": a controller, which is a character device; wanted \
         a block device"
    );
    assert_eq!(
        text(b"\x1b]0;x\x07"),
        "device \"\\u{1b}]0;x\\u{7}\": of no known kind; wanted sd, xvd, hd, \
         vd, sr, scd, loop, md, md_d, mmcblk, nvme, nbd, zram, dm- or ram, and \
         which"
    );
    let long = [b'a'; 256];
    assert_eq!(
        text(&long),
        format!(
            "device \"{}\": 256 bytes; wanted 255 at most",
            "a".repeat(255)
        )
    );
}

#[test]
fn a_name_of_another_qube_has_the_characters_of_kernel_names() {
    let text = |name: &[u8]| ask_untrusted(name).unwrap_err().to_string();
    for name in ["sda/../sdb", "sda.1", "sda 1", "8:1", "sd\u{e4}", "a\n"] {
        let at = name.find(|c: char| !c.is_ascii_alphanumeric()).unwrap();
        let error = ask_untrusted(name.as_bytes()).unwrap_err();
        let name = name.as_bytes().to_vec();
        assert_eq!(error, DeviceError::Character { name, at });
    }
    assert_eq!(
        text(b"sda\x1b[1m"),
        "device \"sda\\u{1b}[1m\": byte 3 is no character of a kernel name; \
         wanted a-z, A-Z, 0-9, \"-\", \"_\" or \"!\""
    );
    let error = ask_untrusted(&[b'/'; 256]).unwrap_err();
    assert_eq!(variant(&error), "TooLong");
    assert!(ask_untrusted(b"").is_err());
}
