//! Inner archives: what GNU tar writes, and what is refused.

#![cfg(feature = "backup")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

mod tar_support;

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use proptest::prelude::*;
use qubes_fsm::format::tar::{
    Decoder, Event, Kind, Limits, PathError, Place, TarError, safe_components,
};
use tar_support::{
    GNU, Member, POSIX, Raw, archive, base256, cuts, drive, file, gnu_sparse,
    inner, long, map_text, mtime, pax, pax_body, pax_sparse_0, pax_sparse_1,
    record, run, seal, slots, target,
};

/// How GNU tar is told to write each dialect.
const DIALECTS: [(&str, &[&str]); 6] = [
    ("gnu", &["--format=gnu", "--sparse"]),
    ("posix", &["--format=posix"]),
    ("ustar", &["--format=ustar"]),
    ("0.0", &["--format=posix", "--sparse", "--sparse-version=0.0"]),
    ("0.1", &["--format=posix", "--sparse", "--sparse-version=0.1"]),
    ("1.0", &["--format=posix", "--sparse", "--sparse-version=1.0"]),
];

fn gnu_tar(directory: &Path, options: &[&str], members: &[&str]) -> Vec<u8> {
    let mut arguments =
        vec!["-c", "-f", "-", "-C", directory.to_str().unwrap()];
    arguments.extend(options);
    arguments.push("--");
    arguments.extend(members);
    run("tar", &arguments)
}

/// A file with these stretches of data, and holes between them.
fn sparse_file(path: &Path, size: u64, segments: &[(u64, &[u8])]) {
    let file = File::create(path).unwrap();
    file.set_len(size).unwrap();
    for (offset, bytes) in segments {
        file.write_all_at(bytes, *offset).unwrap();
    }
}

fn find<'a>(members: &'a [Member], path: &str) -> &'a Member {
    let found = members.iter().find(|member| member.path() == path);
    found.unwrap_or_else(|| panic!("{path} is missing"))
}

/// The error of a hostile archive, as text.
fn refusal(members: &[Vec<u8>]) -> String {
    inner(&archive(members)).unwrap_err().to_string()
}

//= spec/format3.md#the-inner-archive
#[test]
fn each_dialect_of_gnu_tar_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    fs::create_dir(root.join("vm1")).unwrap();
    fs::write(root.join("vm1/plain"), vec![7; 1000]).unwrap();
    fs::write(root.join("vm1/empty"), b"").unwrap();
    std::os::unix::fs::symlink("../x y", root.join("vm1/soft")).unwrap();
    fs::hard_link(root.join("vm1/plain"), root.join("vm1/twin")).unwrap();
    let pieces: Vec<(u64, &[u8])> =
        (1..40).map(|n| (n * 65536, b"piece of data".as_slice())).collect();
    sparse_file(&root.join("vm1/holes"), 4 << 20, &pieces);
    sparse_file(&root.join("vm1/void"), 4 << 20, &[]);
    for (name, options) in DIALECTS {
        let options = [options, &["--sort=name", "--mtime=@1.25"]].concat();
        let bytes = gnu_tar(root, &options, &["vm1"]);
        let members = inner(&bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
        let kind = |path| find(&members, path).entry.kind.clone();
        assert_eq!(members.len(), 7, "{name}");
        assert_eq!(kind("vm1/"), Kind::Directory, "{name}");
        let soft = Kind::Symlink { target: b"../x y".to_vec() };
        assert_eq!(kind("vm1/soft"), soft, "{name}");
        let twin = Kind::HardLink { target: b"vm1/plain".to_vec() };
        assert_eq!(kind("vm1/twin"), twin, "{name}");
        assert_eq!(find(&members, "vm1/plain").content(), [7; 1000]);
        assert!(find(&members, "vm1/empty").data.is_empty());
        let is_sparse = options.contains(&"--sparse");
        let nanoseconds = match name {
            "gnu" | "ustar" => 0,
            _ => 250_000_000,
        };
        for path in ["vm1/holes", "vm1/void"] {
            let member = find(&members, path);
            let expected = fs::read(root.join(path)).unwrap();
            assert!(member.content() == expected, "{name} {path}");
            assert_eq!(member.entry.sparse, is_sparse, "{name} {path}");
            assert_eq!(member.entry.mtime, mtime(1, nanoseconds), "{name}");
            let stored = member.entry.stored_size;
            assert_eq!(stored < 4 << 20, is_sparse, "{name} {path}: {stored}");
        }
    }
}

#[test]
fn long_names_and_links_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let deep = vec!["d".repeat(99); 30].join("/");
    let path = format!("{deep}/é\n12 path=x\n{}", "n".repeat(200));
    let to = "t".repeat(300);
    fs::create_dir_all(root.join(&deep)).unwrap();
    sparse_file(&root.join(&path), 1 << 20, &[(0, b"a"), (600_000, b"b")]);
    std::os::unix::fs::symlink(&to, root.join("soft")).unwrap();
    fs::hard_link(root.join(&path), root.join("twin")).unwrap();
    for (name, options) in DIALECTS {
        if name == "ustar" {
            continue;
        }
        let bytes = gnu_tar(root, options, &[&path, "soft", "twin"]);
        let members = inner(&bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(members.len(), 3, "{name}");
        assert_eq!(members[0].path(), path, "{name}");
        assert_eq!(members[0].entry.size, 1 << 20, "{name}");
        assert_eq!(target(&members[1].entry), Some(to.as_bytes()), "{name}");
        assert_eq!(target(&members[2].entry), Some(path.as_bytes()), "{name}");
    }
}

#[test]
fn files_over_8_gib_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let end = 9 << 30;
    let data: [(u64, &[u8]); 2] = [(4096, b"first"), (end - 4096, b"last")];
    sparse_file(&root.join("big"), end, &data);
    for (name, options) in DIALECTS {
        if !options.contains(&"--sparse") {
            continue;
        }
        let bytes = gnu_tar(root, options, &["big"]);
        let members = inner(&bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(members[0].entry.size, end, "{name}");
        let found = |offset, text: &[u8]| {
            members[0].data.iter().any(|(start, bytes)| {
                let at = usize::try_from(offset - start.min(&offset)).unwrap();
                bytes.get(at..).is_some_and(|bytes| bytes.starts_with(text))
            })
        };
        assert!(found(4096, b"first"), "{name}");
        assert!(found(end - 4096, b"last"), "{name}");
        let limits = Limits { decoded_bytes_max: end - 1, ..Limits::INNER };
        let (_, result) = drive(Decoder::inner(limits), &bytes, 4096);
        let Err(TarError::Limit { what, found, .. }) = result else {
            panic!("{name}: {result:?}");
        };
        assert_eq!((what, found), ("decoded bytes", end), "{name}");
    }
}

#[test]
fn times_are_read() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("f"), b"x").unwrap();
    let times = [
        ("@0", 0, 0),
        ("@-1", -1, 0),
        ("@-1.5", -2, 500_000_000),
        ("@1.123456789", 1, 123_456_789),
        ("@8589934592", 1 << 33, 0),
    ];
    for (time, seconds, nanoseconds) in times {
        for format in ["--format=gnu", "--format=posix"] {
            let option = format!("--mtime={time}");
            let bytes = gnu_tar(directory.path(), &[format, &option], &["f"]);
            let members = inner(&bytes).unwrap();
            let is_posix = format == "--format=posix";
            let expected =
                mtime(seconds, if is_posix { nanoseconds } else { 0 });
            assert_eq!(members[0].entry.mtime, expected, "{time} {format}");
        }
    }
    for (text, seconds, nanoseconds) in [
        ("-0.0000000001", -1, 999_999_999),
        ("-0.5", -1, 500_000_000),
        ("1.9999999999", 1, 999_999_999),
        ("-3.", -3, 0),
        ("-9223372036854775808", i64::MIN, 0),
    ] {
        let header = pax(&[(b"mtime", text.as_bytes())]);
        let members = inner(&archive(&[header, file(b"f", b"")])).unwrap();
        assert_eq!(members[0].entry.mtime, mtime(seconds, nanoseconds));
    }
    for text in ["", "-", ".5", "1e9", "+1", "1.-5", "9223372036854775808"] {
        let header = pax(&[(b"mtime", text.as_bytes())]);
        let found = refusal(&[header, file(b"f", b"")]);
        let expected = format!(
            "tar byte 512: PAX mtime \"{text}\", expected decimal seconds of \
             64 bits, with or without a fraction"
        );
        assert_eq!(found, expected);
    }
}

//= spec/format3.md#records-of-a-pax-header
#[test]
fn a_record_in_a_value_is_no_record() {
    // DEPENDENCIES, "Surprises" 2: cut at newlines, `size` is lost, and the
    // data is taken for a member of its own.
    let smuggled = file(b"smuggled", b"");
    let header = pax(&[(b"comment", b"x\ny"), (b"size", b"512")]);
    let mut outer = Raw::new(POSIX, b'0', b"cover", 0).with(&smuggled);
    outer.truncate(1024);
    let members = inner(&archive(&[header, outer])).unwrap();
    assert_eq!(members.len(), 1);
    assert_eq!(members[0].content(), smuggled);
    let header = pax(&[(b"comment", b"x\n14 path=evil\n"), (b"path", b"good")]);
    let members = inner(&archive(&[header, file(b"f", b"")])).unwrap();
    assert_eq!(members[0].path(), "good");
}

#[test]
fn records_must_be_records() {
    let cases: [(&[u8], &str); 10] = [
        (b"x", "has no length, expected digits"),
        (b" 7 a=b\n", "has no length, expected digits"),
        (b"99999999999999999999999 a=b\n", "has no length, expected digits"),
        (b"99 a=b\n", "is longer than its header, expected to end in it"),
        (b"5 a=b\n", "does not end in a newline where its length says"),
        (b"0 a=b\n", "does not end in a newline where its length says"),
        (b"2\n", "has no blank after its length, expected one"),
        (b"5 ab\n", "has no \"=\", expected KEY=VALUE"),
        (b"7 a\0=b\n", "has a control character in its key, expected none"),
        (b"5 =b\n", "has an empty key, expected KEY=VALUE"),
    ];
    for (body, fault) in cases {
        let found = refusal(&[pax_body(body), file(b"f", b"")]);
        assert_eq!(found, format!("tar byte 512: PAX record {fault}"));
    }
    // The offset is that of the record.
    let body = [record(b"a", b"b"), b"x".to_vec()].concat();
    let found = refusal(&[pax_body(&body), file(b"f", b"")]);
    assert!(found.starts_with("tar byte 518: PAX record has no"), "{found}");
}

#[test]
fn what_is_said_twice_is_refused() {
    let f = || file(b"f", b"");
    let x = |records: &[(&[u8], &[u8])]| pax(records);
    let path = || x(&[(b"path", b"a")]);
    let gnu = Raw::new(GNU, b'0', b"f", 0).with(b"");
    let cases = [
        (
            vec![x(&[(b"path", b"a"), (b"path", b"b")]), f()],
            "tar byte 521: PAX key \"path\" twice in one header, expected \
             once",
        ),
        (
            vec![x(&[(b"odd", b"a"), (b"odd", b"a")]), f()],
            "tar byte 520: PAX key \"odd\" twice in one header, expected once",
        ),
        (
            vec![path(), path(), f()],
            "tar byte 1024, entry \"a\": a PAX header given twice for one \
             member, expected once",
        ),
        (
            vec![long(b'L', b"a"), long(b'L', b"b"), gnu.clone()],
            "tar byte 1024, entry \"a\": a GNU long path given twice for one \
             member, expected once",
        ),
        (
            vec![long(b'K', b"a"), long(b'K', b"b"), gnu.clone()],
            "tar byte 1024: a GNU long link given twice for one member, \
             expected once",
        ),
        (
            vec![long(b'L', b"a"), path(), f()],
            "tar byte 2048, entry \"a\": GNU long path and PAX header given \
             twice for one member, expected once",
        ),
        (
            vec![long(b'K', b"a"), path(), f()],
            "tar byte 2048, entry \"a\": GNU long link and PAX header given \
             twice for one member, expected once",
        ),
        (
            vec![path(), gnu],
            "tar byte 1024, entry \"a\": a PAX header before a GNU header, \
             expected a POSIX header",
        ),
    ];
    for (members, expected) in cases {
        assert_eq!(refusal(&members), expected);
    }
}

#[test]
fn numbers_are_read_as_all_readers_do() {
    let with_size = |size: &[u8]| {
        let raw = Raw { size: size.to_vec(), ..Raw::new(POSIX, b'0', b"f", 0) };
        inner(&archive(&[raw.with(b"12345678")]))
    };
    let good: [&[u8]; 8] = [
        b"00000000010\0",
        b"00000000010 ",
        b"          10",
        b"         10\0",
        b"10\0\0\0\0\0\0\0\0\0\0",
        b"10 \0\0\0\0\0\0\0\0\0",
        b"000000000010",
        &base256(8),
    ];
    for size in good {
        let found = with_size(size).map(|members| members[0].content());
        assert_eq!(found, Ok(b"12345678".to_vec()), "{size:?}");
    }
    let bad: [&[u8]; 11] = [
        b"            ",
        b"\x000000000010\0",
        b"0000000010 1",
        b"0000000010\x001",
        b"0000000008\0\0",
        b"-0000000010\0",
        b"+10\0\0\0\0\0\0\0\0\0",
        b"0x10\0\0\0\0\0\0\0\0",
        b"\x81\0\0\0\0\0\0\0\0\0\0\x08",
        &base256(-8),
        &base256(1 << 63),
    ];
    for size in bad {
        let found = with_size(size);
        let Err(TarError::Number { field: "size", .. }) = found else {
            panic!("{size:?}: {found:?}");
        };
    }
    let empty = Raw { size: vec![0; 12], ..Raw::new(POSIX, b'0', b"f", 0) };
    assert!(inner(&archive(&[empty.with(b"")])).is_ok());
}

#[test]
fn a_mode_owner_or_device_that_no_kernel_has_is_refused() {
    for (name, at) in [
        ("mode", 100),
        ("uid", 108),
        ("gid", 116),
        ("device major", 329),
        ("device minor", 337),
    ] {
        for (number, is_good) in
            [(u32::MAX.into(), true), (1 << 32, false), (-1, false)]
        {
            // tar-core wants digits for a device.
            let is_good = is_good && !name.starts_with("device");
            let mut block = Raw::new(POSIX, b'0', b"f", 0).block();
            block[at..at + 8].copy_from_slice(&base256(number)[4..]);
            block[at] = if number < 0 { 0xff } else { 0x80 };
            seal(&mut block);
            let found = inner(&archive(&[block]));
            let refused = matches!(
                found,
                Err(TarError::Number { field, .. }) if field == name
            );
            let found = (found.is_ok(), refused);
            assert_eq!(found, (is_good, !is_good), "{name}: {number}");
        }
    }
}

/// GNU tar goes by the path that counts, Python by the header's own.
#[test]
fn an_old_directory_that_is_a_file_is_refused() {
    let pax = pax(&[(b"path", b"file")]);
    for (kind, name, is_good) in [
        (0, b"name/".as_slice(), false),
        (0, b"name", true),
        (b'0', b"name/", true),
    ] {
        let header = Raw::new(POSIX, kind, name, 0).block();
        let bytes = archive(&[pax.clone(), header.clone()]);
        let found = inner(&bytes).map(|members| members[0].path());
        match is_good {
            true => assert_eq!(found, Ok("file".to_owned())),
            false => {
                let text = found.unwrap_err().to_string();
                assert!(text.contains("the name of a directory"), "{text}");
            }
        }
    }
}

/// GNU tar takes any byte but 0 for a map that goes on, tar-core 1 alone.
#[test]
fn whether_a_sparse_map_goes_on_is_0_or_1() {
    let segments: Vec<(u64, u64)> = (0..30).map(|i| (i << 10, 512)).collect();
    let data = vec![1; 30 * 512];
    let good = gnu_sparse(b"f", (29 << 10) + 512, &segments, &data);
    assert_eq!((good[482], good[512 + 504]), (1, 1));
    assert!(inner(&archive(std::slice::from_ref(&good))).is_ok());
    for at in [482, 512 + 504, 1024 + 504] {
        for flag in [2, b'/', 0xff] {
            let mut bytes = good.clone();
            bytes[at] = flag;
            seal(&mut bytes[..512]);
            let error = inner(&archive(&[bytes])).unwrap_err().to_string();
            assert!(
                error.contains("neither at its end nor goes on"),
                "{error}"
            );
        }
    }
}

#[test]
fn checksums_are_checked() {
    let name = "é".repeat(2);
    let signed =
        Raw { signed_sum: true, ..Raw::new(GNU, b'0', name.as_bytes(), 0) };
    assert!(inner(&archive(&[signed.block()])).is_ok());
    for sum_error in [-1, 1] {
        let raw = Raw { sum_error, ..Raw::new(GNU, b'0', b"f", 0) };
        let found = inner(&archive(&[raw.block()]));
        let Err(TarError::Checksum { at, found, expected }) = found else {
            panic!("{found:?}");
        };
        assert_eq!(at.offset, 0);
        assert_eq!(found.abs_diff(expected), 1);
    }
    let block = Raw::new(GNU, b'0', b"f", 0).block();
    for index in 0..512 {
        let mut block = block.clone();
        block[index] ^= 1;
        let found = inner(&archive(&[block]));
        assert!(found.is_err(), "bit of byte {index}: {found:?}");
    }
}

//= spec/format3.md#kinds-of-inner-members
#[test]
fn other_kinds_are_refused_by_name() {
    let cases = [
        (b'3', "character device"),
        (b'4', "block device"),
        (b'6', "FIFO"),
        (b'7', "contiguous file"),
        (b'g', "global PAX header"),
        (b'D', "GNU directory dump"),
        (b'M', "GNU continuation of another volume"),
        (b'V', "GNU volume label"),
        (b'Z', "unknown"),
    ];
    for (kind, name) in cases {
        let raw = Raw::new(GNU, kind, b"odd", 0);
        let found = refusal(&[file(b"f", b"x"), raw.block()]);
        let expected = format!(
            "tar byte 1024, entry \"odd\": member type '{}' ({name}), \
             expected files, directories and links only",
            kind as char
        );
        assert_eq!(found, expected);
    }
    let raw = Raw::new(*b"ustar 00", b'0', b"f", 0);
    assert_eq!(
        refusal(&[raw.block()]),
        "tar byte 0: header magic \"ustar 00\", expected \"ustar  \\0\" (GNU) \
         or \"ustar\\000\" (POSIX)"
    );
}

#[test]
fn ambiguous_members_are_refused() {
    let link =
        |kind| Raw { link: b"to".to_vec(), ..Raw::new(GNU, kind, b"l", 3) };
    let gnu_prefix =
        Raw { prefix: b"p".to_vec(), ..Raw::new(GNU, b'0', b"f", 0) };
    let to_nothing = Raw::new(GNU, b'2', b"l", 0);
    let cases = [
        (
            vec![link(b'1').with(b"abc")],
            "tar byte 0, entry \"l\": size 3 of a hard link, expected 0",
        ),
        (
            vec![link(b'2').with(b"abc")],
            "tar byte 0, entry \"l\": size 3 of a symbolic link, expected 0",
        ),
        (
            vec![Raw::new(GNU, b'5', b"d/", 3).with(b"abc")],
            "tar byte 0, entry \"d/\": size 3 of a directory, expected 0",
        ),
        (
            vec![Raw::new(GNU, b'0', b"f/", 0).with(b"")],
            "tar byte 0, entry \"f/\": path ends in \"/\", expected that of a \
             directory only",
        ),
        (
            vec![Raw::new(GNU, b'0', b"", 0).with(b"")],
            "tar byte 0, entry \"\": path is empty, expected at least one \
             byte",
        ),
        (
            vec![to_nothing.with(b"")],
            "tar byte 0, entry \"l\": link target is empty, expected at least \
             one byte",
        ),
        (
            vec![pax(&[(b"path", b"a\0b")]), file(b"f", b"")],
            "tar byte 512: path holds a NUL byte, expected none",
        ),
        (
            vec![long(b'L', b"a\0b"), Raw::new(GNU, b'0', b"f", 0).with(b"")],
            "tar byte 512: GNU long path has not one NUL byte at its end, \
             expected just that",
        ),
        (
            vec![Raw::new(GNU, b'K', b"L", 2).with(b"name\0")],
            "tar byte 512: GNU long link has not one NUL byte at its end, \
             expected just that",
        ),
        (
            vec![gnu_prefix.with(b"")],
            "tar byte 0, entry \"f\": a GNU header with bytes after its \
             fields, expected zeros",
        ),
        (
            vec![pax(&[(b"path", b"a")])],
            "tar byte 1024, entry \"a\": zeros after headers that describe a \
             member, expected its own header",
        ),
        (
            vec![pax(&[(b"GNU.volume.size", b"1")]), file(b"f", b"")],
            "tar byte 512: PAX key \"GNU.volume.size\", expected none that \
             changes the data, or a known GNU.sparse one",
        ),
        (
            vec![vec![0; 512], file(b"f", b"")],
            "tar byte 512: one block of zeros, then more, expected two blocks \
             of zeros at the end",
        ),
        (
            vec![vec![0; 1200], b"x".to_vec()],
            "tar byte 1200: byte 0x78 after the end of the archive, expected \
             zeros only",
        ),
    ];
    for (members, expected) in cases {
        assert_eq!(refusal(&members), expected);
    }
}

/// Offset and length of each.
type Segments = &'static [(u64, u64)];

type Write = fn(u64, &[(u64, u64)], &[u8]) -> Vec<u8>;

/// All four ways to write a map.
const MAPS: [(&str, Write); 4] = [
    ("gnu", |size, map, data| gnu_sparse(b"s", size, map, data)),
    ("0.0", |size, map, data| pax_sparse_0(b"s", size, map, data, true)),
    ("0.1", |size, map, data| pax_sparse_0(b"s", size, map, data, false)),
    ("1.0", |size, map, data| pax_sparse_1(b"s", size, map, data)),
];

/// 2^60.
const EXA: u64 = 1 << 60;

//= spec/format3.md#maps-of-holes
#[test]
fn maps_are_checked_in_each_dialect() {
    let cases: [(&str, u64, Segments, usize); 11] = [
        ("sparse map up to 8, expected up to 9", 9, &[(4, 4)], 4),
        (
            "sparse segment 2 after 515 bytes of data, expected whole blocks",
            9999,
            &[(0, 512), (512, 3), (600, 1)],
            516,
        ),
        // By a single byte.
        (
            "begins at 511, expected at least 512",
            600,
            &[(0, 512), (511, 1)],
            513,
        ),
        ("begins at 5, expected at least 10", 20, &[(0, 10), (5, 1)], 11),
        ("begins at 0, expected at least 10", 20, &[(9, 1), (0, 1)], 2),
        ("begins at 0, expected at least 9", 20, &[(9, 0), (0, 0)], 0),
        ("of 11 bytes at 10, expected to end within 20", 20, &[(10, 11)], 11),
        ("of 0 bytes at 21, expected to end within 20", 20, &[(21, 0)], 0),
        ("sparse map of 5 bytes, expected 4 as stored", 9, &[(0, 5)], 4),
        ("sparse map of 3 bytes, expected 4 as stored", 9, &[(0, 3)], 4),
        ("expected to end within 20", 20, &[(EXA * 7, EXA * 7)], 4),
    ];
    for (expected, size, map, data) in cases {
        for (name, write) in MAPS {
            let bytes = archive(&[write(size, map, &vec![b'x'; data])]);
            let found = inner(&bytes).unwrap_err().to_string();
            assert!(found.contains(expected), "{name}: {found}");
            assert!(found.contains("entry \"s\""), "{name}: {found}");
        }
    }
}

#[test]
fn good_maps_are_read_in_each_dialect() {
    let many: Vec<(u64, u64)> = (0..100).map(|n| (n * 600 + 1, 512)).collect();
    let cases: [(u64, &[(u64, u64)]); 6] = [
        (20, &[(20, 0)]),
        (20, &[(0, 20)]),
        (2000, &[(0, 512), (512, 512), (1030, 0), (1900, 3), (2000, 0)]),
        (59_913, &many),
        (14_913, many.get(..25).unwrap()),
        (27_513, many.get(..46).unwrap()),
    ];
    for (size, map) in cases {
        let length: u64 = map.iter().map(|(_, length)| length).sum();
        let data: Vec<u8> = (0..length).map(|n| (n % 251) as u8 + 1).collect();
        let mut expected = vec![0; usize::try_from(size).unwrap()];
        let mut rest = data.as_slice();
        for (offset, length) in map {
            let length = usize::try_from(*length).unwrap();
            let at = usize::try_from(*offset).unwrap();
            let (now, after) = rest.split_at(length);
            expected[at..][..length].copy_from_slice(now);
            rest = after;
        }
        for (name, write) in MAPS {
            let bytes = [write(size, map, &data), file(b"next", b"!")];
            let members = inner(&archive(&bytes)).unwrap();
            assert_eq!(members.len(), 2, "{name}");
            assert_eq!(members[0].path(), "s", "{name}");
            assert_eq!(members[0].content(), expected, "{name}");
            assert_eq!(members[1].content(), b"!", "{name}");
        }
    }
}

#[test]
fn bombs_are_refused() {
    // An exabyte of nothing.
    for (name, write) in MAPS {
        let bytes = archive(&[write(EXA, &[(EXA, 0)], b"")]);
        let found = inner(&bytes).unwrap_err().to_string();
        let expected = format!("decoded bytes {EXA}, at most 17592186044416");
        assert!(found.contains(&expected), "{name}: {found}");
    }
    // A count that is a lie: refused before anything is held.
    let mut text = b"4000001\n".to_vec();
    text.resize(512, 0);
    let header = pax(&[
        (b"GNU.sparse.major", b"1"),
        (b"GNU.sparse.minor", b"0"),
        (b"GNU.sparse.realsize", b"1"),
    ]);
    assert_eq!(
        refusal(&[header.clone(), file(b"s", &text)]),
        "tar byte 1536, entry \"s\": sparse segments 4000001, at most 4000000 \
         allowed"
    );
    // Digits without an end.
    let zeros = vec![b'0'; 1024];
    let found = refusal(&[header.clone(), file(b"s", &zeros)]);
    assert!(found.contains("sparse map \"000000000000000000000\""), "{found}");
    // A map that goes on into the next member.
    let found = refusal(&[header, file(b"s", b"2\n0\n0\n"), file(b"g", b"")]);
    assert!(found.contains("a sparse map longer than what is stored"));
    // Bodies that are larger than allowed.
    for (kind, size, what) in [
        (b'x', 1 << 20, "PAX header bytes 1048577, at most 1048576"),
        (b'L', 4097, "GNU long path bytes 4098, at most 4097"),
        (b'K', 4097, "GNU long link bytes 4098, at most 4097"),
    ] {
        let found = refusal(&[Raw::new(GNU, kind, b"big", size + 1).block()]);
        assert_eq!(found, format!("tar byte 0: {what} allowed"));
    }
}

#[test]
fn four_million_segments_are_allowed_and_no_more() {
    let limit = Limits::INNER.segments_max;
    // 21 old GNU slots for each block, pushed without being kept.
    let mut raw = Raw::new(GNU, b'S', b"s", limit);
    raw.sparse = slots(&[(0, 512), (1024, 512), (2048, 512), (3072, 512)]);
    raw.sparse.push(1);
    raw.sparse.extend(tar_support::number(1024 * limit + 99_999));
    let mut decoder = Decoder::inner(Limits::INNER);
    decoder.push(&raw.block()).unwrap();
    let mut count = 4;
    let error = loop {
        let map: Vec<_> =
            (count..count + 21).map(|n| (n * 1024, 512)).collect();
        let mut block = slots(&map);
        block.push(1);
        block.resize(512, 0);
        match decoder.push(&block) {
            Ok(pushed) => assert_eq!(pushed, (512, None)),
            Err(error) => break error,
        }
        count += 21;
    };
    assert!(count > limit - 21 && count <= limit, "{count}");
    let TarError::Limit { what, found, .. } = error else {
        panic!("{error}");
    };
    assert_eq!((what, found), ("sparse segments", limit + 1));
}

#[test]
fn incomplete_sparse_keys_are_refused() {
    let cases: [&[(&[u8], &[u8])]; 10] = [
        &[(b"GNU.sparse.major", b"1")],
        &[(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0")],
        &[(b"GNU.sparse.map", b"0,1")],
        &[(b"GNU.sparse.size", b"1")],
        &[(b"GNU.sparse.name", b"n")],
        &[(b"GNU.sparse.size", b"1"), (b"GNU.sparse.map", b"0")],
        &[(b"GNU.sparse.size", b"1"), (b"GNU.sparse.offset", b"0")],
        &[(b"GNU.sparse.size", b"1"), (b"GNU.sparse.numbytes", b"0")],
        // Without GNU.sparse.numblocks.
        &[(b"GNU.sparse.size", b"1"), (b"GNU.sparse.map", b"0,1")],
        &[(b"GNU.sparse.new", b"1")],
    ];
    for records in cases {
        let found = inner(&archive(&[pax(records), file(b"f", b"x")]));
        assert!(found.is_err(), "{records:?}: {found:?}");
    }
    let count: [(&[u8], &[u8]); 3] = [
        (b"GNU.sparse.size", b"1"),
        (b"GNU.sparse.numblocks", b"2"),
        (b"GNU.sparse.map", b"0,1"),
    ];
    let found = refusal(&[pax(&count), file(b"f", b"x")]);
    assert!(found.contains("GNU.sparse.numblocks other than"), "{found}");
    let version: [(&[u8], &[u8]); 3] = [
        (b"GNU.sparse.major", b"1"),
        (b"GNU.sparse.minor", b"1"),
        (b"GNU.sparse.realsize", b"1"),
    ];
    assert_eq!(
        refusal(&[pax(&version), file(b"f", b"x")]),
        "tar byte 1024, entry \"f\": PAX sparse format 1.1, expected 0.0, 0.1 \
         or 1.0"
    );
}

//= spec/format3.md#the-inner-end
#[test]
fn a_cut_is_noticed_at_every_byte() {
    let data = &[b'x'; 4 * 512 + 2];
    let map = [(0, 512), (600, 512), (1200, 512), (1800, 512), (2400, 2)];
    let mut small = vec![
        ("posix", [pax(&[(b"path", b"p")]), file(b"f", data)].concat()),
        ("whole block", file(b"f", &[1; 512])),
        (
            "long",
            [
                long(b'K', b"k"),
                long(b'L', b"l"),
                Raw::new(GNU, b'2', b"f", 0).block(),
            ]
            .concat(),
        ),
        ("empty", vec![]),
    ];
    for (name, write) in MAPS {
        small.push((name, write(2402, &map, data)));
    }
    for (name, members) in small {
        let bytes = [members, vec![0; 1024]].concat();
        assert!(inner(&bytes).is_ok(), "{name}");
        let cuts = cuts(|| Decoder::inner(Limits::INNER), &bytes);
        for (end, found) in cuts.iter().enumerate() {
            let Err(TarError::Truncated { at, missing, .. }) = found else {
                panic!("{name} cut at {end}: {found:?}");
            };
            assert_eq!(at.offset, end as u64, "{name}");
            assert!(*missing > 0, "{name}");
            let last = end as u64 + missing;
            assert!(last <= bytes.len() as u64, "{name} {end}: {missing}");
        }
    }
    let bytes = file(b"vm1/a.img", &[1; 1000]);
    let found = inner(&bytes[..600]).unwrap_err().to_string();
    assert_eq!(
        found,
        "tar byte 600, entry \"vm1/a.img\": the archive ends in the data, at \
         least 936 more bytes expected"
    );
}

#[test]
fn cuts_of_real_archives_are_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    sparse_file(&root.join("f"), 65536, &[(0, b"a"), (40960, b"b")]);
    for (name, options) in DIALECTS {
        let options = [options, &["-b1"]].concat();
        let bytes = gnu_tar(root, &options, &["f"]);
        let end = bytes.len();
        assert!(inner(&bytes).is_ok(), "{name}");
        let step = if end > 20_000 { 97 } else { 1 };
        for cut in (0..end).step_by(step) {
            let (_, found) =
                drive(Decoder::inner(Limits::INNER), &bytes[..cut], 4096);
            assert!(
                matches!(found, Err(TarError::Truncated { .. })),
                "{name} cut at {cut} of {end}: {found:?}"
            );
        }
    }
}

#[test]
fn data_is_not_copied() {
    let bytes = archive(&[file(b"f", b"data")]);
    let mut decoder = Decoder::inner(Limits::default());
    let (used, _) = decoder.push(&bytes).unwrap();
    let (_, event) = decoder.push(&bytes[used..]).unwrap();
    let Some(Event::Data { offset: 0, bytes: data }) = event else {
        panic!("{event:?}");
    };
    assert_eq!(data.as_ptr(), bytes[used..].as_ptr());
}

#[test]
fn paths_are_judged() {
    let ok = |path: &'static [u8]| safe_components(path).unwrap();
    assert_eq!(ok(b"a/b"), [b"a", b"b"]);
    assert_eq!(ok(b"a/b/"), [b"a", b"b"]);
    assert_eq!(ok(b"./a/./b/."), [b"a", b"b"]);
    assert_eq!(ok(b"..a/b.."), [b"..a", b"b.."]);
    let path = |path: &[u8]| path.to_vec();
    for (found, error) in [
        (b"".as_slice(), PathError::Nameless { path: path(b"") }),
        (b"./", PathError::Nameless { path: path(b"./") }),
        (b"/a", PathError::Absolute { path: path(b"/a") }),
        (b"/", PathError::Absolute { path: path(b"/") }),
        (b"a//b", PathError::EmptyComponent { path: path(b"a//b") }),
        (b"a//", PathError::EmptyComponent { path: path(b"a//") }),
        (b"a/../b", PathError::Parent { path: path(b"a/../b") }),
        (b"..", PathError::Parent { path: path(b"..") }),
        (b"a\0", PathError::Nul { path: path(b"a\0") }),
    ] {
        assert_eq!(safe_components(found), Err(error));
    }
    let error = safe_components(b"a/../\x1b").unwrap_err().to_string();
    assert_eq!(
        error,
        r#"path "a/../\u{1b}" has a component "..", expected none"#
    );
}

proptest! {
    /// Whatever comes: no panic, and the same for pieces of any size.
    #[test]
    fn arbitrary_bytes_do_not_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..3000),
    ) {
        let _ = inner(&bytes);
    }

    /// The same for what is nearly an archive.
    #[test]
    fn damaged_archives_do_not_panic(
        dialect in 0_usize..5,
        damage in prop::collection::vec((0_usize..4096, any::<u8>()), 0..4),
        is_sealed in any::<bool>(),
    ) {
        let map = [(0, 0), (4, 0), (8, 0), (12, 0), (16, 2)];
        let member = match MAPS.get(dialect) {
            Some((_, write)) => write(18, &map, b"01"),
            None => [long(b'L', b"l"), Raw::new(GNU, b'5', b"f", 0).block()]
                .concat(),
        };
        let mut bytes = archive(&[member, file(b"next", b"!")]);
        for (at, value) in damage {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        if is_sealed {
            seal(&mut bytes);
        }
        let _ = inner(&bytes);
    }

    /// The map of PAX 1.0, of arbitrary text.
    #[test]
    fn arbitrary_maps_do_not_panic(text in "[0-9\n]{0,40}") {
        let header = pax(&[
            (b"GNU.sparse.major", b"1"),
            (b"GNU.sparse.minor", b"0"),
            (b"GNU.sparse.realsize", b"100"),
        ]);
        let mut body = text.into_bytes();
        body.resize(512, 0);
        let _ = inner(&archive(&[header, file(b"s", &body)]));
    }
}

#[test]
fn the_map_text_may_fill_its_last_block() {
    // "31\n", 18 segments of 16 bytes, 13 of 17: 512 without padding.
    let low = (0..18).map(|n| (10_000_000_000 + n * 1000, 512));
    let high = (0..13).map(|n| (100_000_000_000 + n * 1000, 512));
    let map: Vec<(u64, u64)> = low.chain(high).collect();
    let text = map_text(&map);
    assert_eq!((text.len(), text.last()), (512, Some(&b'\n')));
    let data = vec![1; 31 * 512];
    let bytes = archive(&[pax_sparse_1(b"s", 100_000_012_512, &map, &data)]);
    let members = inner(&bytes).unwrap();
    assert_eq!(members[0].entry.stored_size, 32 * 512);
    assert_eq!(members[0].data.len(), 31);
}

/// Zeros behind the end are counted, however they are cut.
#[test]
fn zeros_behind_the_end_have_a_limit() {
    let limits = Limits { padding_bytes_max: 2_000, ..Limits::INNER };
    let decode = |bytes: &[u8], piece: usize| {
        let mut decoder = Decoder::inner(limits);
        for piece in bytes.chunks(piece) {
            let mut rest = piece;
            while let (used, Some(_)) = decoder.push(rest)? {
                rest = &rest[used..];
            }
        }
        decoder.finish()
    };
    let limit = Err(TarError::Limit {
        at: Place { offset: 1_024 + 2_000, entry: None },
        what: "bytes behind the end",
        found: 2_001,
        limit: 2_000,
    });
    for piece in [1, 511, 512, 4_000, 10_000] {
        assert_eq!(decode(&[0; 1_024 + 2_000], piece), Ok(()));
        assert_eq!(decode(&[0; 1_024 + 2_001], piece), limit);
        assert_eq!(decode(&[0; 9_000], piece), limit);
        // What comes first is said.
        let mut bytes = [0; 9_000];
        bytes[1_024 + 2_000] = 1;
        assert_eq!(decode(&bytes, piece), limit);
        bytes[1_024 + 1_999] = 2;
        let other = decode(&bytes, piece).unwrap_err();
        let found = matches!(other, TarError::AfterEnd { found: 2, .. });
        assert!(found, "{other}");
    }
}
