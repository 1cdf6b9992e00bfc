//! What the encoder writes, read by our decoder, GNU tar, Python and tar-core:
//! the same members, to the byte; and what it does not write, with the reason.

#![cfg(feature = "backup")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

#[path = "tar_writer/extracted.rs"]
mod extracted;
#[path = "tar_writer/odd.rs"]
mod odd;
#[allow(dead_code, reason = "one of its readers is enough here")]
#[path = "tar_support/readers.rs"]
mod readers;
mod tar_support;
#[path = "tar_writer/wanted.rs"]
mod wanted;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use qubes_fsm::format::limits::SPARSE_SEGMENTS_MAX;
use qubes_fsm::format::tar::{
    Decoder, EncodeError, Event, Limits, Mtime, NewEntry, NewKind, Segment,
    TarError, encode, encoded_size, end, end_size, outer_header, padding,
};
use readers::{gnu_paths, ours, tar_core_rows};
use sha2::{Digest as _, Sha256};
use tar_support::{Member, drive, inner, members, mtime, outer, run};
use wanted::{TIMES, Wanted, What, bytes, pieces, written};

/// Our reader, with no limit on sizes.
fn decoded(archive: &[u8]) -> Result<Vec<Member>, TarError> {
    let limits = Limits { decoded_bytes_max: u64::MAX, ..Limits::INNER };
    let (seen, result) = drive(Decoder::inner(limits), archive, 1 << 20);
    result.map(|()| members(&seen))
}

fn check_decoded(all: &[Wanted], archive: &[u8]) {
    let found = decoded(archive).unwrap();
    for (found, wanted) in found.iter().zip(all) {
        let name = wanted.path.escape_ascii();
        let wanted = wanted.member();
        assert_eq!(found.entry, wanted.entry, "{name}");
        assert!(found.data == wanted.data, "data of {name}");
    }
    assert_eq!(found.len(), all.len());
}

/// GNU tar's output; a warning is a failure.
fn gnu_tar(arguments: &[&str], archive: &Path) -> Vec<u8> {
    let output = Command::new("tar")
        .args(arguments)
        .arg("-f")
        .arg(archive)
        .env("LC_ALL", "C.UTF-8")
        .env("TZ", "UTC")
        .stdin(Stdio::null())
        .output();
    let output = output.unwrap_or_else(|error| {
        panic!("tar: {error}; install the package tar (GNU tar)")
    });
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(errors, "", "tar {arguments:?}");
    assert!(output.status.success(), "tar {arguments:?}");
    output.stdout
}

/// What GNU tar lists: kind and mode, owner and size of each, and the paths.
fn check_listed(all: &[Wanted], archive: &Path) {
    let long = ["-tv", "--numeric-owner", "--quoting-style=escape"];
    let output = String::from_utf8(gnu_tar(&long, archive)).unwrap();
    let mut lines = output.lines();
    for wanted in all {
        let line = lines.next().unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        let kind = match wanted.what {
            What::File(..) => '-',
            What::Directory => 'd',
            What::Symlink(_) => 'l',
            What::HardLink(_) => 'h',
        };
        assert!(words[0].starts_with(kind), "{line}");
        let owner = format!("{}/{}", wanted.uid, wanted.gid);
        assert_eq!(words[1..3], [owner, wanted.size().to_string()], "{line}");
    }
    assert_eq!(lines.next(), None);
    let without_slash =
        |path: &[u8]| path.strip_suffix(b"/").unwrap_or(path).to_vec();
    let paths: Vec<_> = all.iter().map(|w| without_slash(&w.path)).collect();
    assert_eq!(gnu_paths(archive).unwrap(), paths);
}

/// A line for each member. Data is hashed segment by segment, so that a hole
/// of gigabytes costs nothing.
const PYTHON: &str = r#"
import hashlib, sys, tarfile
def hexed(text):
    return text.encode("utf-8", "surrogateescape").hex() or "-"
with tarfile.open(sys.argv[1], "r:", encoding="utf-8",
                  errors="surrogateescape") as tar:
    for m in tar:
        kind = ("f" if m.isreg() else "d" if m.isdir() else
                "s" if m.issym() else "h" if m.islnk() else "?")
        link = m.linkname if kind in "sh" else ""
        where, digest = "-", "-"
        if kind == "f":
            sparse = [(0, m.size)] if m.sparse is None else m.sparse
            sparse = [(at, size) for at, size in sparse if size]
            where = ",".join("%d+%d" % pair for pair in sparse) or "-"
            data, digest = tar.extractfile(m), hashlib.sha256()
            for at, size in sparse if len(sys.argv) == 2 else []:
                data.seek(at)
                digest.update(data.read(size))
            digest = digest.hexdigest()
        time = m.pax_headers.get("mtime", "%d.000000000" % m.mtime)
        print(hexed(m.name), kind, hexed(link), m.size, m.mode, m.uid, m.gid,
              time, m.issparse(), where, digest)
"#;

fn hexed(bytes: &[u8]) -> String {
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    if hex.is_empty() { "-".to_owned() } else { hex }
}

/// The line that Python should print; without data if that is too much.
fn python_line(wanted: &Wanted, with_data: bool) -> String {
    let Wanted { path, what, mode, uid, gid, mtime } = wanted;
    let path = hexed(path.strip_suffix(b"/").unwrap_or(path));
    let time = python_time(mtime.seconds, mtime.nanoseconds);
    let facts = format!("{mode} {uid} {gid} {time}");
    let without_data = |kind: char, target: &[u8]| {
        let target = hexed(target);
        format!("{path} {kind} {target} 0 {facts} False - -")
    };
    let map = match what {
        What::File(_, map) => map,
        What::Directory => return without_data('d', b""),
        What::Symlink(target) => return without_data('s', target),
        What::HardLink(target) => return without_data('h', target),
    };
    let size = wanted.size();
    // As it was given: no reader but ours joins what touches.
    let all = [Segment { offset: 0, length: size }];
    let map = map.as_deref().filter(|_| wanted.is_sparse()).unwrap_or(&all);
    let mut digest = Sha256::new();
    let mut places = Vec::new();
    for segment in map.iter().filter(|segment| segment.length > 0) {
        places.push(format!("{}+{}", segment.offset, segment.length));
        if with_data {
            digest.update(bytes(*segment));
        }
    }
    if places.is_empty() {
        places.push("-".to_owned());
    }
    let places = places.join(",");
    let is_sparse = if wanted.is_sparse() { "True" } else { "False" };
    let digest = hexed(&digest.finalize());
    format!("{path} f - {size} {facts} {is_sparse} {places} {digest}")
}

/// Nanoseconds since 1970 as a decimal number.
fn python_time(seconds: i64, nanoseconds: u32) -> String {
    let all = i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
    let sign = if all < 0 { "-" } else { "" };
    let all = all.unsigned_abs();
    let (whole, fraction) = (all / 1_000_000_000, all % 1_000_000_000);
    format!("{sign}{whole}.{fraction:09}")
}

fn check_python(all: &[Wanted], archive: &Path, with_data: bool) {
    let mut arguments = vec!["-c", PYTHON, archive.to_str().unwrap()];
    if !with_data {
        arguments.push("without data");
    }
    let output = String::from_utf8(run("python3", &arguments)).unwrap();
    let mut lines = output.lines();
    for wanted in all {
        let line = python_line(wanted, with_data);
        assert_eq!(lines.next(), Some(&*line), "{:?}", wanted.path);
    }
    assert_eq!(lines.next(), None);
}

/// All readers, and what GNU tar extracts.
fn check_everywhere(all: &[Wanted]) {
    let archive = written(all);
    check_decoded(all, &archive);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("archive.tar");
    fs::write(&path, &archive).unwrap();
    check_listed(all, &path);
    check_python(all, &path, true);
    let target = directory.path().join("extracted");
    fs::create_dir(&target).unwrap();
    let place = target.to_str().unwrap();
    let arguments = ["-xp", "--no-same-owner", "-C", place];
    // What is before 1970 is implausible to it, and extracted all the same.
    let quiet = ["--warning=no-timestamp"];
    gnu_tar(&[&quiet[..], &arguments].concat(), &path);
    extracted::check(&target, all);
    extracted::unlock(&target, all);
}

#[test]
fn names_and_links_are_the_same_everywhere() {
    let all = odd::names();
    check_everywhere(&all);
    let lengths: BTreeSet<usize> = all.iter().map(|w| w.path.len()).collect();
    assert!(lengths.contains(&4095));
}

#[test]
fn holes_are_the_same_everywhere() {
    check_everywhere(&odd::maps());
}

#[test]
fn modes_owners_and_times_are_the_same_everywhere() {
    check_everywhere(&odd::facts());
}

#[test]
fn far_times_are_listed_by_all() {
    let all = odd::far_times();
    let archive = written(&all);
    check_decoded(&all, &archive);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("archive.tar");
    fs::write(&path, &archive).unwrap();
    check_listed(&all, &path);
}

#[test]
fn names_are_bytes_in_every_locale() {
    let all = odd::names();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("archive.tar");
    fs::write(&path, written(&all)).unwrap();
    let output = Command::new("tar")
        .args(["-t", "--quoting-style=escape", "-f"])
        .arg(&path)
        .env("LC_ALL", "C")
        .output()
        .unwrap_or_else(|error| {
            panic!("tar: {error}; install the package tar (GNU tar)")
        });
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let paths = gnu_paths(&path).unwrap();
    assert_eq!(readers::listed(&output.stdout), paths);
}

/// Members that store more than 8 GiB, in an archive that is a sparse file.
#[test]
fn data_of_more_than_8_gib_is_found_the_same_by_all() {
    const SIZE: u64 = 9 << 30;
    let map = vec![
        Segment { offset: 512, length: SIZE - 512 },
        Segment { offset: SIZE + 4096, length: 100 },
    ];
    let mut all = Vec::new();
    for (name, time) in ["gnu", "pax"].into_iter().zip(TIMES) {
        let plain = What::File(SIZE + 1, None);
        let sparse = What::File(SIZE + 8192, Some(map.clone()));
        for (kind, what) in [("plain", plain), ("sparse", sparse)] {
            let mut wanted = Wanted::new(format!("{name}-{kind}"), what);
            wanted.mtime = time;
            all.push(wanted);
        }
    }
    all.push(Wanted::new("last", What::File(0, None)));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("archive.tar");
    let file = File::create(&path).unwrap();
    let mut decoder = Decoder::inner(Limits::INNER);
    let (mut offset, mut found) = (0, Vec::new());
    let mut push = |decoder: &mut Decoder, mut rest: &[u8]| {
        while let (used, Some(event)) = decoder.push(rest).unwrap() {
            rest = &rest[used..];
            match event {
                Event::Entry(entry) => found.push(entry),
                Event::EndOfEntry | Event::EndOfArchive => {}
                Event::Data { .. } => panic!("data that was passed"),
            }
        }
    };
    for wanted in &all {
        let mut out = Vec::new();
        let data = encode(&wanted.entry(), &mut out).unwrap();
        file.write_all_at(&out, offset).unwrap();
        push(&mut decoder, &out);
        let mut passed = 0;
        while decoder.data_left() > 0 {
            passed += decoder.pass(decoder.data_left());
        }
        assert_eq!(passed, data);
        push(&mut decoder, &vec![0; padding(data)]);
        let size = out.len() as u64 + data + padding(data) as u64;
        assert_eq!(Ok(size), encoded_size(&wanted.entry()));
        offset += size;
    }
    let mut out = Vec::new();
    end(offset, &mut out);
    file.write_all_at(&out, offset).unwrap();
    push(&mut decoder, &out);
    decoder.finish().unwrap();
    let sizes: Vec<_> = all.iter().map(Wanted::size).collect();
    assert_eq!(found.iter().map(|e| e.size).collect::<Vec<_>>(), sizes);
    check_listed(&all, &path);
    check_python(&all, &path, false);
}

/// Bytes of all sorts, but for those that end names.
fn component() -> impl Strategy<Value = Vec<u8>> {
    let byte =
        any::<u8>().prop_map(|b| if matches!(b, 0 | b'/') { 1 } else { b });
    let short = vec(byte.clone(), 1..8);
    let long = vec(byte, 1..300);
    prop_oneof![short, long].prop_map(|name| match name.as_slice() {
        b"." | b".." => b"dot".to_vec(),
        _ => name,
    })
}

fn path() -> impl Strategy<Value = Vec<u8>> {
    vec(component(), 1..13).prop_map(|names| names.join(&b'/'))
}

/// Whole blocks, but for the last; up to the end of the file or before it.
fn file() -> impl Strategy<Value = What> {
    let gap = prop_oneof![Just(0), 1..3000_u64, 1..1_u64 << 40];
    let piece = (gap.clone(), 0..5_u64);
    let mapped = (vec(piece, 0..60), 0..600_u64, gap).prop_map(
        |(pieces, last, behind)| {
            let mut end = 0;
            let mut map = Vec::new();
            for (gap, blocks) in pieces {
                let (offset, length) = (end + gap, blocks * 512);
                map.push(Segment { offset, length });
                end = offset + length;
            }
            map.push(Segment { offset: end, length: last });
            What::File(end + last + behind, Some(map))
        },
    );
    let plain = (0..2000_u64).prop_map(|size| What::File(size, None));
    prop_oneof![1 => plain, 3 => mapped]
}

fn what() -> impl Strategy<Value = What> {
    let target = vec(1..=u8::MAX, 1..300);
    prop_oneof![
        4 => file(),
        1 => Just(What::Directory),
        1 => target.prop_map(What::Symlink),
        1 => path().prop_map(What::HardLink),
    ]
}

fn any_wanted() -> impl Strategy<Value = Wanted> {
    let seconds =
        prop_oneof![-(1_i64 << 34)..1 << 34, Just(0), Just(-1), any::<i64>()];
    let nanoseconds = prop_oneof![Just(0), 1..1_000_000_000_u32];
    let ids = (any::<u32>(), 0..4_000_000_u32);
    let time = (seconds, nanoseconds);
    (path(), what(), 0..=0o7777_u16, ids, time).prop_map(
        |(path, what, mode, (uid, gid), (seconds, nanoseconds))| {
            let mtime = mtime(seconds, nanoseconds);
            Wanted { path, what, mode, uid, gid, mtime }
        },
    )
}

proptest! {
    /// Sizes are compared in `written`, on the way.
    #[test]
    fn what_is_written_is_read_again(all in vec(any_wanted(), 0..8)) {
        check_decoded(&all, &written(&all));
    }

    /// Whatever is said of a member, it is written or refused; what is
    /// refused leaves nothing behind.
    #[test]
    fn a_wrong_map_is_refused_and_a_right_one_read(
        map in vec((0..12_u64, 0..4_u64), 0..4),
        odd in 0..3_u64,
        size in 0..14_u64,
        wanted in any_wanted(),
    ) {
        let map = map.into_iter().map(|(offset, length)| Segment {
            offset: offset * 512,
            length: length * 512 + odd,
        });
        let map: Vec<Segment> = map.collect();
        let what = What::File(size * 512, Some(map.clone()));
        let wanted = Wanted { what, ..wanted };
        let mut out = b"before".to_vec();
        let data = encode(&wanted.entry(), &mut out);
        let counted = encoded_size(&wanted.entry());
        prop_assert_eq!(data.as_ref().err(), counted.as_ref().err());
        // A model of bytes: each is stored once, in order, in whole blocks.
        let stored = map.iter().flat_map(|s| s.offset..s.offset + s.length);
        let stored: Vec<u64> = stored.collect();
        let starts = map.iter().map(|s| s.offset);
        let ends = map.iter().map(|s| s.offset + s.length);
        let last = map.iter().rposition(|s| s.length > 0).unwrap_or(0);
        let is_right = stored.is_sorted_by(|a, b| a < b)
            && starts.skip(1).zip(ends.clone()).all(|(next, end)| end <= next)
            && ends.max().unwrap_or(0) <= size * 512
            && map[..last.min(map.len())].iter().all(|s| s.length % 512 == 0);
        prop_assert_eq!(data.is_ok(), is_right);
        match data {
            Ok(data) => prop_assert_eq!(data, stored.len() as u64),
            Err(_) => prop_assert_eq!(out, b"before"),
        }
    }

    #[test]
    fn the_end_fills_the_record(total in 0..100_000_u64) {
        let mut out = Vec::new();
        end(total, &mut out);
        let padded = total.next_multiple_of(512);
        let wanted = (padded + 1024).next_multiple_of(10_240) - total;
        prop_assert_eq!(out.len() as u64, wanted);
        prop_assert_eq!(out.len(), end_size(total));
        prop_assert!(out.iter().all(|byte| *byte == 0));
    }

    #[test]
    fn outer_headers_are_read_again(
        name in path(),
        size in 0..1_u64 << 33,
        seconds in 0..1_u64 << 33,
    ) {
        let slashes = name.iter().enumerate().filter(|(_, b)| **b == b'/');
        let fits = name.len() <= 100 || slashes.clone().any(|(at, _)| {
            at <= 155 && name.len() - at - 1 <= 100
        });
        let fits = fits && name.len() <= 255;
        let header = outer_header(&name, size, seconds);
        prop_assert_eq!(header.is_ok(), fits);
        let Ok(header) = header else { return Ok(()) };
        let mut decoder = Decoder::outer(Limits::OUTER);
        let (_, event) = decoder.push(&header).unwrap();
        let Some(Event::Entry(entry)) = event else { panic!("{event:?}") };
        prop_assert_eq!(entry.path, name);
        prop_assert_eq!(entry.size, size);
        prop_assert_eq!(entry.mode, 0o644);
        prop_assert_eq!(entry.mtime, mtime(seconds.cast_signed(), 0));
    }
}

/// One archive of all sorts, since tools are slow to start.
#[test]
fn members_of_all_sorts_are_the_same_in_python_and_tar() {
    let mut runner = TestRunner::deterministic();
    let mut all =
        vec(any_wanted(), 400).new_tree(&mut runner).unwrap().current();
    for wanted in &mut all {
        // Python keeps times that have no record as floating point.
        wanted.mtime.seconds %= 1 << 40;
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("archive.tar");
    fs::write(&file, written(&all)).unwrap();
    check_listed(&all, &file);
    check_python(&all, &file, true);
}

#[test]
fn tar_core_reads_it_too() {
    let mut all = odd::names();
    all.extend(odd::facts());
    // It knows no time before 1970.
    all.retain(|wanted| wanted.mtime.seconds >= 0);
    let archive = written(&all);
    let theirs = tar_core_rows(&archive);
    assert_eq!(theirs, Ok(ours(&archive).unwrap()));
    assert_eq!(theirs.unwrap().len(), all.len());
}

#[test]
fn every_cut_and_piece_is_read_the_same() {
    let mut all = vec![Wanted::new("a", What::File(20, None))];
    let what = What::File(1 << 20, Some(pieces(27, 8192)));
    all.extend(wanted::in_both(vec![
        Wanted::new("image", what),
        Wanted::new(vec![b'l'; 200], What::Symlink(vec![b't'; 200])),
    ]));
    let found = inner(&written(&all)).unwrap();
    let wanted: Vec<_> = all.iter().map(Wanted::member).collect();
    assert_eq!(found, wanted);
}

/// Wherever the last digit of a map falls in a block.
#[test]
fn a_map_of_any_length_has_the_size_that_was_said() {
    for stride in [513, 1024, 1 << 20, 10_000_000_000] {
        for count in 0..400 {
            let map = pieces(count, stride);
            let sizes = TIMES.map(|time| {
                let entry = image(count * stride + 1, &map, time);
                let mut out = Vec::new();
                let data = encode(&entry, &mut out).unwrap();
                let size = out.len() as u64 + data;
                assert_eq!(Ok(size), encoded_size(&entry), "{count}");
                size
            });
            let blocks = count.saturating_sub(3).div_ceil(21);
            assert_eq!(sizes[0], (1 + blocks + count) * 512, "{count}");
        }
    }
}

fn image(size: u64, map: &[Segment], mtime: Mtime) -> NewEntry<'_> {
    let kind = NewKind::File { size, map: Some(map) };
    NewEntry { path: b"image", kind, mode: 0, uid: 0, gid: 0, mtime }
}

#[test]
fn a_map_of_4_million_segments_is_written_and_no_larger_one() {
    // The mark at the end of the file counts.
    let count = SPARSE_SEGMENTS_MAX as u64 - 1;
    let segment = |n| Segment { offset: n * 1024, length: 512 };
    let mut map: Vec<Segment> = (0..count).map(segment).collect();
    for time in TIMES {
        let size = count * 1024;
        let entry = image(size, &map, time);
        let mut out = Vec::new();
        let data = encode(&entry, &mut out).unwrap();
        assert_eq!(data, count * 512);
        assert_eq!(out.len() as u64 + data, encoded_size(&entry).unwrap());
        let mut decoder = Decoder::inner(Limits::INNER);
        let (used, event) = decoder.push(&out).unwrap();
        assert_eq!(used, out.len());
        let Some(Event::Entry(found)) = event else { panic!("{event:?}") };
        assert_eq!(found.size, size);
        let mut passed = 0;
        while decoder.data_left() > 0 {
            assert_eq!(decoder.data_left(), 512);
            passed += decoder.pass(512);
        }
        assert_eq!(passed, data);
    }
    map.push(segment(count));
    let size = count * 1024 + 512;
    assert!(encoded_size(&image(size, &map, mtime(0, 0))).is_ok());
    let entry = image(size + 1, &map, mtime(0, 0));
    assert_eq!(
        encode(&entry, &mut Vec::new()).unwrap_err().to_string(),
        "entry \"image\": sparse map of 4000001 segments; wanted 4000000 at \
         most"
    );
}

#[test]
fn every_refusal_has_its_text() {
    let file = NewKind::File { size: 0, map: None };
    let good = NewEntry {
        path: b"a\x1b",
        kind: file,
        mode: 0,
        uid: 0,
        gid: 0,
        mtime: mtime(0, 0),
    };
    let path = |path| NewEntry { path, ..good };
    let kind = |kind| NewEntry { kind, ..good };
    let size = |size, map| kind(NewKind::File { size, map });
    let segment = |offset, length| Segment { offset, length };
    let long = [b"n".repeat(200), b"m".repeat(3896)].join(&b'/');
    let dot = NewKind::HardLink { target: b"../a" };
    let order = [segment(0, 512), segment(511, 1)];
    let ends = [segment(1, 512)];
    let overflow = [segment(u64::MAX, 2)];
    let odd = [segment(0, 100), segment(512, 1)];
    let texts = [
        (path(b""), "path \"\" names nothing, expected a name"),
        (path(b"/a"), "path \"/a\" is absolute, expected a relative one"),
        (path(b"a\0"), r#"path "a\u{0}" holds a NUL byte, expected none"#),
        (
            path(b"a/"),
            "entry \"a/\": \"/\" at its end; wanted that for a directory only",
        ),
        (
            kind(NewKind::Symlink { target: b"" }),
            r#"entry "a\u{1b}": link target of 0 bytes; wanted 1 at least"#,
        ),
        (
            kind(NewKind::Symlink { target: b"ab\0" }),
            r#"entry "a\u{1b}": link target with a NUL at byte 2; wanted none"#,
        ),
        (
            kind(NewKind::HardLink { target: &long }),
            "entry \"a\\u{1b}\": link target of 4097 bytes; wanted 4096 at \
             most",
        ),
        (
            kind(dot),
            "entry \"a\\u{1b}\": hard link target: path \"../a\" has a \
             component \"..\", expected none",
        ),
        (
            NewEntry { mode: 0o10_000, ..good },
            r#"entry "a\u{1b}": mode 0o10000; wanted 0o7777 at most"#,
        ),
        (
            NewEntry { mtime: mtime(0, 1_000_000_000), ..good },
            "entry \"a\\u{1b}\": 1000000000 nanoseconds; wanted 999999999 at \
             most",
        ),
        (
            size(1 << 63, None),
            "entry \"a\\u{1b}\": 9223372036854775808 bytes; wanted \
             9223372036854775807 at most",
        ),
        (
            size(1 << 63, Some(&[])),
            "entry \"a\\u{1b}\": 9223372036854775808 bytes; wanted \
             9223372036854775807 at most",
        ),
        (
            size(1024, Some(&order)),
            "entry \"a\\u{1b}\": sparse segment 1 begins at 511; wanted 512 \
             at least",
        ),
        (
            size(512, Some(&ends)),
            "entry \"a\\u{1b}\": sparse segment 0 of 512 bytes at 1; wanted \
             to end within 512",
        ),
        (
            size(512, Some(&overflow)),
            "entry \"a\\u{1b}\": sparse segment 0 of 2 bytes at \
             18446744073709551615; wanted to end within 512",
        ),
        (
            size(1024, Some(&odd)),
            "entry \"a\\u{1b}\": sparse segment 1 after 100 bytes of data; \
             wanted whole blocks of 512",
        ),
    ];
    for (entry, text) in texts {
        let mut out = Vec::new();
        let error = encode(&entry, &mut out).unwrap_err();
        assert_eq!(error.to_string(), text);
        assert_eq!(encoded_size(&entry), Err(error));
        assert!(out.is_empty(), "{text}");
    }
    let error = encoded_size(&path(&long)).unwrap_err().to_string();
    let end = "mm\"...: path of 4097 bytes; wanted 4096 at most";
    assert!(error.ends_with(end), "{error}");
    // A map beside the data is counted in the same field.
    let whole = [segment(0, (1 << 63) - 512)];
    let mut entry = size((1 << 63) - 1, Some(&whole));
    assert!(encoded_size(&entry).is_ok());
    entry.mtime.nanoseconds = 1;
    assert_eq!(
        encoded_size(&entry).unwrap_err().to_string(),
        "entry \"a\\u{1b}\": 9223372036854775808 bytes; wanted \
         9223372036854775807 at most"
    );
}

#[test]
fn every_refusal_of_an_outer_header_has_its_text() {
    let text = |name: &[u8], size, seconds| {
        outer_header(name, size, seconds).unwrap_err().to_string()
    };
    let name = b"n".repeat(101);
    assert_eq!(
        text(&name, 0, 0),
        format!(
            "member \"{}\": 101 bytes without a slash to cut it at; wanted \
             100 at most, or 155, a slash and 100",
            "n".repeat(101)
        )
    );
    let too_long = [b"n".repeat(155), b"n".repeat(100)].join(&b'/');
    let found = text(&too_long, 0, 0);
    let end = "\"...: name of 256 bytes; wanted 255 at most";
    assert!(found.ends_with(end), "{found}");
    assert_eq!(
        text(b"x", 1 << 33, 0),
        "member \"x\": 8589934592 bytes; wanted 8589934591 at most"
    );
    assert_eq!(
        text(b"x", 0, 1 << 33),
        "member \"x\": 8589934592 seconds since 1970; wanted 8589934591 at \
         most"
    );
    assert_eq!(
        text(b"x/", 0, 0),
        "entry \"x/\": \"/\" at its end; wanted that for a directory only"
    );
    assert_eq!(
        text(b"x//y", 0, 0),
        "path \"x//y\" has an empty component, expected none"
    );
}

/// The outer archive byte by byte, as `tar2qfile` wants it.
//= spec/format3.md#written-as-plain-ustar
#[test]
fn an_outer_header_is_pure_ustar() {
    let header = outer_header(b"vm1/private.img.000", 0o1234567, 0o7654321);
    let header = header.unwrap();
    let mut wanted = vec![0; 512];
    let fields: [(usize, &[u8]); 11] = [
        (0, b"vm1/private.img.000"),
        (100, b"0000644\0"),
        (108, b"0000000\0"),
        (116, b"0000000\0"),
        (124, b"00001234567\0"),
        (136, b"00007654321\0"),
        (148, b"        "),
        (156, b"0"),
        (257, b"ustar\x0000"),
        (329, b"0000000\0"),
        (337, b"0000000\0"),
    ];
    for (at, text) in fields {
        wanted[at..at + text.len()].copy_from_slice(text);
    }
    let sum: u32 = wanted.iter().map(|byte| u32::from(*byte)).sum();
    let sum = format!("{sum:06o}\0 ");
    wanted[148..156].copy_from_slice(sum.as_bytes());
    assert_eq!(
        header.escape_ascii().to_string(),
        wanted.escape_ascii().to_string()
    );
}

/// What an outer archive is made of, patched as a file would be.
#[test]
fn an_outer_archive_is_read_by_all() {
    let deep = [b"d".repeat(155), b"n".repeat(99)].join(&b'/');
    let short = [b"d".repeat(3), b"n".repeat(99)].join(&b'/');
    let names: [&[u8]; 4] = [b"backup-header", b"vm1/x.000", &deep, &short];
    let mut archive = Vec::new();
    let mut all = Vec::new();
    for (index, name) in names.into_iter().enumerate() {
        let header = archive.len();
        archive.extend(outer_header(name, 0, 1_400_000_000).unwrap());
        let data = bytes(Segment { offset: 0, length: index as u64 * 300 });
        archive.extend(&data);
        archive.resize(archive.len() + padding(data.len() as u64), 0);
        let again = outer_header(name, data.len() as u64, 1_400_000_000);
        archive[header..header + 512].copy_from_slice(&again.unwrap());
        let mut wanted = Wanted::new(name, What::File(data.len() as u64, None));
        (wanted.mode, wanted.gid) = (0o644, 0);
        all.push(wanted);
    }
    end(archive.len() as u64, &mut archive);
    assert!(archive.len().is_multiple_of(10_240));
    let wanted: Vec<_> = all.iter().map(Wanted::member).collect();
    assert_eq!(outer(&archive).unwrap(), wanted);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("outer.tar");
    fs::write(&path, &archive).unwrap();
    check_listed(&all, &path);
    check_python(&all, &path, true);
}

/// The member's own header in PAX, behind that of one block of records.
fn posix_names(path: impl Into<Vec<u8>>, what: What) -> (Vec<u8>, Vec<u8>) {
    let mut wanted = Wanted::new(path, what);
    wanted.mtime.nanoseconds = 1;
    let mut out = Vec::new();
    encode(&wanted.entry(), &mut out).unwrap();
    let text = |field: &[u8]| {
        field.iter().copied().take_while(|byte| *byte != 0).collect()
    };
    (text(&out[1024..][345..500]), text(&out[1024..][..100]))
}

#[test]
fn names_are_cut_as_posix_says() {
    let (dirs, name) = (b"d".repeat(154), b"n".repeat(100));
    let both = [&*dirs, &name].join(&b'/');
    let header = outer_header(&both, 0, 0).unwrap();
    assert_eq!(header[..100], name);
    assert_eq!(header[345..500], [&*dirs, b"\0"].concat());
    assert_eq!(posix_names(both, What::File(0, None)), (dirs, name.clone()));
    // A name is never empty: this path stands in a record.
    let slash = [&*name, b"/"].concat();
    let found = posix_names(slash, What::Directory);
    assert_eq!(found, (vec![], name));
}

#[test]
fn who_knows_no_sparse_files_finds_another_name() {
    let found = posix_names("vm1/private.img", What::File(1, Some(vec![])));
    let wanted = (vec![], b"vm1/GNUSparseFile.0/private.img".to_vec());
    assert_eq!(found, wanted);
    let found = posix_names("image", What::File(1, Some(vec![])));
    assert_eq!(found, (vec![], b"GNUSparseFile.0/image".to_vec()));
}

#[test]
fn the_dialect_follows_the_time() {
    let map = Some(pieces(1, 8192));
    let all = wanted::in_both(vec![
        Wanted::new("plain", What::File(1, None)),
        Wanted::new("image", What::File(8192, map)),
    ]);
    let first = |wanted: &Wanted| {
        let mut out = Vec::new();
        encode(&wanted.entry(), &mut out).unwrap();
        (out[156] as char, out[257..265].to_vec())
    };
    let (gnu, posix) = (tar_support::GNU.to_vec(), tar_support::POSIX.to_vec());
    let found: Vec<_> = all.iter().map(first).collect();
    let wanted =
        [('0', gnu.clone()), ('x', posix.clone()), ('S', gnu), ('x', posix)];
    assert_eq!(found, wanted);
    assert!(matches!(
        encoded_size(&NewEntry { mode: u16::MAX, ..all[0].entry() }),
        Err(EncodeError::Mode { found: u16::MAX, .. })
    ));
}
