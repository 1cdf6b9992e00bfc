//! What Qubes OS made of names in 2014.
//!
//! The numbers are worked out by hand from its formula: `core/qubesutils.py`
//! of core-admin, `block_name_to_majorminor` and `block_name_to_devid`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use qubes_fsm::format::device::{as_2014, ask};

#[test]
fn names_get_the_numbers_of_then() {
    let rows: &[(&str, [i64; 3])] = &[
        // Right, then as now.
        ("xvda", [202, 0, 51712]),
        ("xvdb2", [202, 18, 51730]),
        ("sda1", [8, 1, 2049]),
        ("sdp15", [8, 255, 2303]),
        ("sr1", [11, 1, 2817]),
        ("scd1", [11, 1, 2817]),
        ("mmcblk0p1", [179, 1, 45825]),
        ("mmcblk1p2", [179, 10, 45834]),
        ("loop0", [7, 0, 1792]),
        // Every loop device had the minors of the first.
        ("loop3", [7, 0, 1792]),
        ("loop0p1", [7, 1, 1793]),
        ("loop12p3", [7, 3, 1795]),
        ("loop", [7, 0, 1792]),
        // Only the last letter counted.
        ("xvdaa", [202, 0, 51712]),
        ("xvdab3", [202, 19, 51731]),
        ("sdaq", [8, 256, 2304]),
        // A minor above 255, whose id is that of md0.
        ("sdq", [8, 256, 2304]),
        ("sdz15", [8, 415, 2463]),
        ("sda16", [8, 16, 2064]),
        // 8 numbers for each array; the first major for modules.
        ("md0", [9, 0, 2304]),
        ("md1", [9, 8, 2312]),
        ("md127p1", [9, 1017, 3065]),
        ("dm-0", [253, 0, 64768]),
        ("dm-3", [253, 3, 64771]),
        // Names that nothing has.
        ("sd-", [8, -832, -832]),
        ("loopp1", [7, 0, 1792]),
        ("mmcblkp1", [179, 8, 45832]),
        ("sda007", [8, 7, 2055]),
        // Numbers as ids.
        ("51712", [202, 0, 51712]),
        ("0", [0, 0, 0]),
        ("268439552", [1048592, 0, 268439552]),
        // Kinds that were not known.
        ("nvme0n1", [0, 0, 0]),
        ("hda", [0, 0, 0]),
        ("vda1", [0, 0, 0]),
        ("zram0", [0, 0, 0]),
        ("", [0, 0, 0]),
    ];
    for (name, wanted) in rows {
        let found = as_2014(name.as_bytes()).unwrap();
        assert_eq!([found.major, found.minor, found.id], *wanted, "{name}");
    }
}

#[test]
fn names_that_were_refused_are_refused() {
    let names = [
        "sda1x",
        "sdA",
        "sd_a",
        "sda1p1",
        "md_d0",
        "md0p",
        "md0x",
        "mmcblk",
        "mmcblk0boot0",
        "loop0p",
        "loop0p1p2",
        "loop-control",
        "dm-0p1",
        "dm-x",
        "sr0p1",
        "sd1a",
    ];
    for name in names {
        let error = as_2014(name.as_bytes()).unwrap_err();
        let wanted = format!("device \"{name}\": refused in 2014, too");
        assert_eq!(error.to_string(), wanted);
    }
    // Python counts on; nothing has such numbers.
    let last = as_2014(b"sda9223372036854775807").unwrap();
    assert_eq!(last.minor, i64::MAX);
    for name in ["99999999999999999999", "md9223372036854775807"] {
        let error = as_2014(name.as_bytes()).unwrap_err();
        assert!(error.to_string().contains("at most"), "{error}");
    }
    let error = as_2014(b"md1152921504606846976p1").unwrap_err();
    assert!(error.to_string().contains("wanted 9223372036854775807 at most"));
    let error = as_2014(b"sdb9223372036854775807").unwrap_err();
    assert!(error.to_string().contains("wanted 9223372036854775807 at most"));
}

/// Where the two differ, they differ for good reasons.
#[test]
fn today_is_right_where_2014_was_not() {
    let today = |name: &str| ask(name.as_bytes()).unwrap().number;
    assert_eq!(today("loop3").unwrap().to_string(), "7:3");
    assert_eq!(today("loop0p1"), None);
    assert_eq!(today("sdq").unwrap().to_string(), "65:0");
    assert_eq!(today("xvdaa").unwrap().to_string(), "202:6656");
    assert_eq!(today("md1").unwrap().to_string(), "9:1");
    assert_eq!(today("dm-3"), None);
}
