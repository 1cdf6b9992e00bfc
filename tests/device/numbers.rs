//! `MAJOR:MINOR` and the ids of Xen, read and turned into names.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use qubes_fsm::format::device::{Answer, Number, Rule, XenId, ask};

fn columns(answer: &Answer) -> [String; 3] {
    let dash = |text: Option<String>| text.unwrap_or("-".to_owned());
    [
        dash(answer.device.map(|device| device.to_string())),
        dash(answer.number.map(|number| number.to_string())),
        dash(answer.xen_id.map(|id| id.to_string())),
    ]
}

/// What is asked; name, number and id, or the text of the error.
fn check(rows: &[(&str, [&str; 3])], refused: &[(&str, &str)]) {
    for (text, wanted) in rows {
        let answer = ask(text.as_bytes()).unwrap();
        assert_eq!(columns(&answer), *wanted, "{text}");
    }
    for (text, wanted) in refused {
        let error = ask(text.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), *wanted, "{text}");
    }
}

/// Source: devices.txt; `sd.c` and `xen-blkfront.c` for minors above 255.
#[test]
fn numbers_are_named_by_the_kernels_tables() {
    let rows = [
        ("1:0", ["ram0", "1:0", "-"]),
        ("3:1", ["hda1", "3:1", "769"]),
        ("3:127", ["hdb63", "3:127", "895"]),
        ("91:64", ["hdt", "91:64", "-"]),
        ("7:3", ["loop3", "7:3", "-"]),
        ("8:0", ["sda", "8:0", "2048"]),
        ("8:255", ["sdp15", "8:255", "2303"]),
        ("8:256", ["sdiw", "8:256", "-"]),
        ("71:240", ["sddx", "71:240", "-"]),
        ("128:0", ["sddy", "128:0", "-"]),
        ("135:241", ["sdiv1", "135:241", "-"]),
        ("9:127", ["md127", "9:127", "-"]),
        ("11:1", ["sr1", "11:1", "-"]),
        ("43:33", ["nbd1p1", "43:33", "-"]),
        ("179:9", ["mmcblk1p1", "179:9", "-"]),
        ("202:1", ["xvda1", "202:1", "51713"]),
        ("202:4096", ["xvdq", "202:4096", "268439552"]),
        // Given by an extended id, since the short one has no partition 17.
        ("202:273", ["xvdb17", "202:273", "268435729"]),
        // Nothing in the tables.
        ("0:0", ["-", "0:0", "-"]),
        ("3:128", ["-", "3:128", "-"]),
        ("11:256", ["-", "11:256", "-"]),
        ("136:0", ["-", "136:0", "-"]),
        ("253:3", ["-", "253:3", "-"]),
        ("259:0", ["-", "259:0", "-"]),
        ("4095:1048575", ["-", "4095:1048575", "-"]),
    ];
    let refused = [
        ("4096:0", "device \"4096:0\": number \"4096\"; wanted 4095 at most"),
        (
            "8:1048576",
            "device \"8:1048576\": number \"1048576\"; wanted 1048575 at most",
        ),
        (
            "8:99999999999999999999999",
            "device \"8:99999999999999999999999\": number \
             \"99999999999999999999999\"; wanted 1048575 at most",
        ),
        ("08:1", "device \"08:1\": number \"08\"; wanted no 0 in front"),
        ("8:01", "device \"8:01\": number \"01\"; wanted no 0 in front"),
    ];
    check(&rows, &refused);
    for text in ["8:", ":1", "8:1:2", "8:-1", "a:1", "8: 1", ":", "8:1\n"] {
        assert!(Number::parse(text.as_bytes()).is_none(), "{text}");
        assert!(ask(text.as_bytes()).is_err(), "{text}");
    }
}

#[test]
fn the_rule_for_numbers_says_whether_a_table_has_them() {
    assert_eq!(ask(b"8:1").unwrap().rule, Rule::Computed);
    assert_eq!(ask(b"253:1").unwrap().rule, Rule::NeedsDeviceFile);
}

/// Source: xen-vbd-interface(7), "Concrete encoding in the VBD interface".
#[test]
fn ids_are_what_xen_says() {
    let rows = [
        ("51712", ["xvda", "202:0", "51712"]),
        ("51713", ["xvda1", "202:1", "51713"]),
        ("51840", ["xvdi", "202:128", "51840"]),
        ("51967", ["xvdp15", "202:255", "51967"]),
        ("2048", ["sda", "8:0", "2048"]),
        ("2067", ["sdb3", "8:19", "2067"]),
        ("768", ["hda", "3:0", "768"]),
        ("895", ["hdb63", "3:127", "895"]),
        ("5634", ["hdc2", "22:2", "5634"]),
        ("5759", ["hdd63", "22:127", "5759"]),
        ("268439552", ["xvdq", "202:4096", "268439552"]),
        ("268572709", ["xvdtq37", "202:137253", "268572709"]),
        // The short form would do; Linux takes it as it is.
        ("268435456", ["xvda", "202:0", "268435456"]),
        ("268435473", ["xvda17", "202:17", "268435473"]),
        // The last minor, and one above: Xen has it, Linux has not.
        ("269484031", ["xvdfan255", "202:1048575", "269484031"]),
        ("269484032", ["xvdfao", "-", "269484032"]),
        ("536870911", ["xvdbgqcv255", "-", "536870911"]),
        // Deprecated: numbers of Linux as an id.
        ("16640", ["sdq", "65:0", "16640"]),
        ("34801", ["sdiv1", "135:241", "34801"]),
        ("8448", ["hde", "33:0", "8448"]),
    ];
    let reserved = |id| {
        format!(
            "device id {id}: reserved by Xen; wanted that of an xvd, sd or hd"
        )
    };
    // The first of the future, the last of all, what other majors would
    // make, and a third disk of the first IDE interface.
    let ids = ["536870912", "4294967295", "0", "1795", "2304", "45824", "896"];
    let texts = ids.map(reserved);
    let refused: Vec<(&str, &str)> =
        ids.into_iter().zip(texts.iter().map(String::as_str)).collect();
    check(&rows, &refused);
    let refused = [
        (
            "4294967296",
            "device \"4294967296\": number \"4294967296\"; wanted 4294967295 \
             at most",
        ),
        (
            "051712",
            "device \"051712\": number \"051712\"; wanted no 0 in front",
        ),
    ];
    check(&[], &refused);
}

#[test]
fn ids_are_deprecated_where_xen_says_so() {
    let is_deprecated = |id: u32| XenId(id).is_deprecated();
    assert!(
        [51712, 2048, 768, 5632, 268439552]
            .into_iter()
            .all(|id| !is_deprecated(id))
    );
    assert!([16640, 34801, 8448].into_iter().all(is_deprecated));
    let notes = |text: &[u8]| ask(text).unwrap().notes();
    assert_eq!(notes(b"16640"), ["Xen deprecates ids of such disks"]);
    assert_eq!(notes(b"51712"), [""; 0]);
}

#[test]
fn what_a_computed_number_takes_for_granted_is_said() {
    let notes = |text: &[u8]| ask(text).unwrap().notes();
    assert_eq!(notes(b"loop3"), ["if loop has its default max_part=0"]);
    assert_eq!(notes(b"nbd1"), ["if nbd has its default max_part=16"]);
    assert_eq!(notes(b"ram1"), ["if brd has its default max_part=1"]);
    assert_eq!(
        notes(b"mmcblk1"),
        [
            "if each card has the default of 8 numbers, in the order of the cards"
        ]
    );
    assert_eq!(notes(b"sda"), [""; 0]);
    // Nothing was computed.
    assert_eq!(notes(b"loop0p1"), [""; 0]);
    assert_eq!(notes(b"253:0"), ["no table says what has these numbers"]);
    assert_eq!(
        notes(b"nvme0c0n1"),
        ["one path of several, which the kernel gives no file"]
    );
    assert_eq!(
        notes(b"xvdfao"),
        ["more disks than Linux can have of this kind"]
    );
    assert_eq!(notes(b"mmcblk0rpmb"), ["since Linux 4.14 a character device"]);
}

#[test]
fn a_file_knows_better_than_its_name() {
    let number = Number { major: 7, minor: 48 };
    let answer = Answer::of_file(b"loop3", number);
    assert_eq!(answer.number, Some(number));
    assert_eq!(answer.rule, Rule::DeviceFile);
    assert_eq!(answer.notes(), ["from the name alone: 7:3"]);
    let answer = Answer::of_file(b"loop3", Number { major: 7, minor: 3 });
    assert_eq!(answer.notes(), [""; 0]);
    // Not a kernel's name: the tables.
    let answer = Answer::of_file(b"root", Number { major: 8, minor: 1 });
    assert_eq!(columns(&answer), ["sda1", "8:1", "2049"]);
    let answer = Answer::of_file(b"root", Number { major: 253, minor: 1 });
    assert_eq!(columns(&answer), ["-", "253:1", "-"]);
}
