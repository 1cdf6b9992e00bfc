//! Untrusted bytes as an inner archive: the same whatever the pieces, data in
//! order and within the size; and beside tar-core the same entries, or a named
//! refusal of ours. Each input is judged twice, as it is and with checksums
//! that are right, since no fuzzer guesses one.
//!
//! Lives here: that, and archives to begin with. May not live here: paths on
//! a disk.

use qubes_fsm::format::tar::{
    Decoder, Entry, Event, Kind, Limits, TarError, safe_components,
};
use tar_core::EntryType;
use tar_core::parse::{ParseEvent, ParsedEntry, Parser};

use super::{Seed, refused, texts};
use crate::random::Random;
use crate::tar_support as write;

/// Whether it is an archive as it stands.
pub fn run(untrusted_bytes: &[u8]) -> bool {
    let good = judge(untrusted_bytes);
    let mut sealed = untrusted_bytes.to_vec();
    write::seal(&mut sealed);
    if sealed != untrusted_bytes {
        judge(&sealed);
    }
    good
}

/// What both readers say of a member, where they may not differ.
#[derive(Debug, PartialEq)]
struct Row {
    path: Vec<u8>,
    kind: char,
    target: Vec<u8>,
    size: u64,
    mode: u32,
    seconds: i64,
    /// What is stored, joined where it touches.
    data: Vec<(u64, Vec<u8>)>,
}

fn judge(untrusted_bytes: &[u8]) -> bool {
    let whole = decode(untrusted_bytes, usize::MAX);
    assert_eq!(decode(untrusted_bytes, 7), whole);
    assert_eq!(decode(untrusted_bytes, 512), whole);
    if let Err(error) = whole.1 {
        return refused(&error);
    }
    let rows: Vec<Row> = whole.0.into_iter().map(|(_, row)| row).collect();
    for row in &rows {
        // Which paths are safe is said without a look at the disk.
        if let Err(error) = safe_components(&row.path) {
            refused(&error);
        }
    }
    let mut theirs = theirs(untrusted_bytes);
    if let Err(error) = &theirs
        && THEIRS.iter().any(|known| error.starts_with(known))
    {
        return true;
    }
    for (their, our) in theirs.iter_mut().flatten().zip(&rows) {
        if our.seconds < 0 {
            their.seconds = our.seconds;
        }
    }
    assert_eq!(theirs, Ok(rows));
    true
}

/// What tar-core refuses, and GNU tar and Python read as we do.
const THEIRS: [&str; 3] = [
    // Base-256 in a field that nothing depends on, such as a device.
    "header error: invalid octal field: [128, ",
    "header error: invalid octal field: [255, ",
    // A key that is not UTF-8, such as that of an attribute.
    "invalid UTF-8 in PAX key",
];

type Found = (Vec<(Entry, Row)>, Result<(), TarError>);

/// What a run found, without how the data was cut.
fn decode(untrusted_bytes: &[u8], piece: usize) -> Found {
    // The other reader holds all of it.
    let limits = Limits { decoded_bytes_max: 1 << 24, ..Limits::INNER };
    let mut decoder = Decoder::inner(limits);
    let mut found: Vec<(Entry, Row)> = Vec::new();
    for piece in untrusted_bytes.chunks(piece) {
        let mut rest = piece;
        loop {
            let (taken, event) = match decoder.push(rest) {
                Ok(step) => step,
                Err(error) => return (found, Err(error)),
            };
            rest = &rest[taken..];
            match event {
                None => break,
                Some(Event::Entry(entry)) => {
                    let row = row(&entry);
                    found.push((entry, row));
                }
                Some(Event::Data { offset, bytes }) => {
                    let (_, row) = found.last_mut().expect("an entry before");
                    assert!(!bytes.is_empty());
                    let last = row.data.last();
                    let end = last.map_or(0, |(at, b)| at + b.len() as u64);
                    assert!(offset >= end, "data that overlaps");
                    let behind = offset + bytes.len() as u64;
                    assert!(behind <= row.size, "data beyond the size");
                    append(&mut row.data, offset, bytes);
                }
                Some(Event::EndOfEntry | Event::EndOfArchive) => {}
            }
        }
    }
    (found, decoder.finish())
}

fn append(data: &mut Vec<(u64, Vec<u8>)>, offset: u64, bytes: &[u8]) {
    match data.last_mut() {
        _ if bytes.is_empty() => {}
        Some((at, last)) if *at + last.len() as u64 == offset => {
            last.extend(bytes);
        }
        _ => data.push((offset, bytes.to_vec())),
    }
}

fn row(entry: &Entry) -> Row {
    Row {
        path: without_slash(&entry.path),
        kind: match entry.kind {
            Kind::File => 'f',
            Kind::Directory => 'd',
            Kind::Symlink { .. } => 's',
            Kind::HardLink { .. } => 'h',
        },
        target: write::target(entry).unwrap_or_default().to_vec(),
        size: entry.size,
        mode: entry.mode.into(),
        seconds: entry.mtime.seconds,
        data: Vec::new(),
    }
}

/// Some readers show the slash of a directory, some do not.
fn without_slash(path: &[u8]) -> Vec<u8> {
    let end = path.iter().rposition(|byte| *byte != b'/');
    path[..end.map_or(0, |end| end + 1)].to_vec()
}

/// What tar-core finds in an archive that ours accepts.
fn theirs(bytes: &[u8]) -> Result<Vec<Row>, String> {
    let mut parser = Parser::new(tar_core::parse::Limits::permissive());
    // It knows no signed checksums; that they are right, ours has checked.
    parser.set_verify_checksums(false);
    // It takes a time before 1970 for an error, which POSIX allows.
    parser.set_ignore_pax_errors(true);
    let (mut rows, mut rest) = (vec![], bytes);
    loop {
        let event = parser.parse(rest).map_err(|error| error.to_string())?;
        let (consumed, entry, sparse) = match event {
            ParseEvent::End { .. } => return Ok(rows),
            ParseEvent::NeedData { .. } => return Err("cut".to_owned()),
            ParseEvent::GlobalExtensions { .. } => return Err("g".to_owned()),
            ParseEvent::Entry { consumed, entry } => (consumed, entry, None),
            ParseEvent::SparseEntry {
                consumed,
                entry,
                sparse_map,
                real_size,
            } => (consumed, entry, Some((sparse_map, real_size))),
        };
        let size = usize::try_from(entry.size).map_err(|e| e.to_string())?;
        let after = rest.get(consumed..).ok_or("cut")?;
        let content = after.get(..size).ok_or("cut")?;
        let mut row = their_row(&entry);
        row.size = entry.size;
        match sparse {
            None => append(&mut row.data, 0, content),
            Some((map, size)) => {
                row.size = size;
                let mut left = content;
                for segment in map {
                    let length = usize::try_from(segment.length);
                    let length = length.map_err(|e| e.to_string())?;
                    let cut = left.split_at_checked(length);
                    let (now, after) = cut.ok_or("a map beyond the data")?;
                    append(&mut row.data, segment.offset, now);
                    left = after;
                }
            }
        }
        rows.push(row);
        let end = size.next_multiple_of(512);
        rest = after.get(end..).ok_or("cut")?;
    }
}

fn their_row(entry: &ParsedEntry<'_>) -> Row {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the rest differs")]
    let kind = match entry.entry_type {
        EntryType::Regular | EntryType::GnuSparse => 'f',
        EntryType::Directory => 'd',
        EntryType::Symlink => 's',
        EntryType::Link => 'h',
        _ => '?',
    };
    let is_link = matches!(kind, 's' | 'h');
    let target = entry.link_target.as_deref().filter(|_| is_link);
    Row {
        path: without_slash(&entry.path),
        kind,
        target: target.unwrap_or_default().to_vec(),
        size: 0,
        mode: entry.mode & 0o7777,
        seconds: entry.mtime.cast_signed(),
        data: Vec::new(),
    }
}

/// Every form of a member, archives of several, and what is refused.
pub fn seeds() -> Vec<Seed> {
    use write::{
        GNU, POSIX, Raw, archive, file, gnu_sparse, long, pax, pax_sparse_0,
        pax_sparse_1, slots,
    };
    let map = [(512, 512), (2048, 512), (4096, 0)];
    let data = [b'd'; 1024];
    let many: Vec<_> = (0..30).map(|i| (i * 1024, 512)).collect();
    let all = vec![b'm'; 30 * 512];
    let overlap = [(0, 1024), (512, 512), (4096, 0)];
    let overlapping = [b'o'; 1536];
    let link = |kind, target: &[u8]| {
        let mut raw = Raw::new(POSIX, kind, b"link", 0);
        raw.link = target.to_vec();
        raw.with(b"")
    };
    // What a reader that cuts at newlines takes for a record.
    let newlines = b"x\n10 size=9\n17 path=elsewhere\ny=\n";
    let name = [b"n".repeat(90), b"m".repeat(90)].join(&b'/');
    let mut prefixed = Raw::new(POSIX, b'0', b"name", 3);
    prefixed.prefix = b"prefix".to_vec();
    let mut gnu_overlap = Raw::new(GNU, b'S', b"s", 1536);
    gnu_overlap.sparse = slots(&overlap);
    gnu_overlap.sparse.resize(97, 0);
    gnu_overlap.sparse.extend(write::number(4096));
    let good: [(&str, Vec<u8>); 17] = [
        ("empty", vec![]),
        ("file", file(b"file", b"content")),
        ("gnu", Raw::new(GNU, b'0', b"file", 7).with(b"content")),
        ("prefix", prefixed.with(b"abc")),
        ("directory", Raw::new(POSIX, b'5', b"d/", 0).with(b"")),
        ("symlink", link(b'2', b"../to")),
        ("hard-link", [file(b"a", b"1"), link(b'1', b"a")].concat()),
        (
            "gnu-long",
            [long(b'L', &name), Raw::new(GNU, b'0', b"n", 1).with(b"1")]
                .concat(),
        ),
        (
            "gnu-long-link",
            [long(b'K', &name), {
                let mut raw = Raw::new(GNU, b'2', b"n", 0);
                raw.link = b"n".to_vec();
                raw.with(b"")
            }]
            .concat(),
        ),
        (
            "pax",
            [
                pax(&[(b"path", &name), (b"mtime", b"-1.5"), (b"size", b"3")]),
                file(b"n", b"abc"),
            ]
            .concat(),
        ),
        (
            "pax-newlines",
            [pax(&[(b"comment", newlines)]), file(b"n", b"abc")].concat(),
        ),
        (
            "pax-path-newlines",
            [pax(&[(b"path", newlines)]), file(b"n", b"abc")].concat(),
        ),
        ("gnu-sparse", gnu_sparse(b"s", 4096, &map, &data)),
        ("gnu-sparse-many", gnu_sparse(b"s", 30_208, &many, &all)),
        ("sparse-0.0", pax_sparse_0(b"s", 4096, &map, &data, true)),
        ("sparse-0.1", pax_sparse_0(b"s", 4096, &map, &data, false)),
        ("sparse-1.0", pax_sparse_1(b"vm1/s", 4096, &map, &data)),
    ];
    let bad = [
        ("gnu-overlap", gnu_overlap.with(&overlapping)),
        ("0.0-overlap", pax_sparse_0(b"s", 4096, &overlap, &overlapping, true)),
        (
            "0.1-overlap",
            pax_sparse_0(b"s", 4096, &overlap, &overlapping, false),
        ),
        ("1.0-overlap", pax_sparse_1(b"s", 4096, &overlap, &overlapping)),
        ("device", Raw::new(POSIX, b'3', b"null", 0).with(b"")),
        ("global", Raw::new(POSIX, b'g', b"g", 0).with(b"")),
        ("size-of-directory", Raw::new(POSIX, b'5', b"d/", 1).with(b"1")),
        (
            "key-twice",
            [pax(&[(b"path", b"a"), (b"path", b"b")]), file(b"n", b"")]
                .concat(),
        ),
    ];
    let mut seeds = Vec::new();
    for (name, members) in good {
        seeds.push(Seed::good(name, &archive(&[members])));
    }
    for (name, members) in bad {
        seeds.push(Seed::bad(name, &archive(&[members])));
    }
    // Archives all the same: what becomes of a path is not for tar to say.
    let paths = ["/absolute", "a/../up", "a//empty", ".", "./a/./b"];
    for (index, path) in paths.into_iter().enumerate() {
        let bytes = archive(&[file(path.as_bytes(), b"")]);
        seeds.push(Seed::good(&format!("path-{index}"), &bytes));
    }
    let cut = archive(&[file(b"file", b"content")]);
    seeds.push(Seed::bad("cut", &cut[..1024]));
    for seed in 0..200 {
        let bytes = Random(seed).whole();
        if bytes.len() <= 6144 {
            seeds.push(Seed::good(&format!("random-{seed:03}"), &bytes));
        }
        let (mut random, mut bytes) = (Random(seed), bytes);
        random.damage(&mut bytes);
        if seed % 4 == 0 && bytes.len() <= 6144 {
            let name = format!("damaged-{seed:03}");
            seeds.push(Seed { name, good: None, bytes });
        }
    }
    seeds
}

/// Magic, keys, numbers.
pub fn words() -> Vec<Vec<u8>> {
    let mut words = texts(&[
        "ustar\x0000",
        "ustar  \x00",
        "././@LongLink",
        "5 a=\n",
        "10 path=a\n",
        "10 size=9\n",
        "12 mtime=-1\n",
        " linkpath=",
        "22 GNU.sparse.major=1\n",
        "22 GNU.sparse.minor=0\n",
        " GNU.sparse.name=",
        " GNU.sparse.realsize=",
        " GNU.sparse.size=",
        " GNU.sparse.numblocks=",
        " GNU.sparse.map=",
        " GNU.sparse.offset=",
        " GNU.sparse.numbytes=",
        "00000001000\x00",
        "0,512,",
        "512\n",
    ]);
    words.push(vec![0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0]);
    words.push(vec![0xff; 12]);
    words
}
