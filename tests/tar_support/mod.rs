//! What the tests of the tar decoder share: a driver, and a writer by hand.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::process::{Command, Stdio};

use qubes_fsm::format::tar::{
    Decoder, Entry, Event, Kind, Limits, Mtime, TarError,
};

/// An event that does not depend on how the input was cut.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Seen {
    Entry(Entry),
    Data(u64, Vec<u8>),
    EndOfEntry,
    EndOfArchive,
}

/// A member with its stored bytes, joined where they touch.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Member {
    pub(crate) entry: Entry,
    pub(crate) data: Vec<(u64, Vec<u8>)>,
}

impl Member {
    pub(crate) fn path(&self) -> String {
        String::from_utf8_lossy(&self.entry.path).into_owned()
    }

    /// All bytes, holes included.
    pub(crate) fn content(&self) -> Vec<u8> {
        let mut content = vec![0; usize::try_from(self.entry.size).unwrap()];
        for (offset, bytes) in &self.data {
            let start = usize::try_from(*offset).unwrap();
            content[start..][..bytes.len()].copy_from_slice(bytes);
        }
        content
    }
}

/// Pushes pieces of a size; the events before an error count too.
pub(crate) fn drive(
    mut decoder: Decoder,
    archive: &[u8],
    piece: usize,
) -> (Vec<Seen>, Result<(), TarError>) {
    let mut seen = Vec::new();
    for mut rest in archive.chunks(piece) {
        loop {
            let (used, event) = match decoder.push(rest) {
                Ok(pushed) => pushed,
                Err(error) => {
                    let again = decoder.push(b"more").unwrap_err();
                    assert_eq!(again, error, "an error stays");
                    assert_eq!(decoder.finish(), Err(error.clone()));
                    return (seen, Err(error));
                }
            };
            let is_over = event.is_none();
            assert!(!is_over || used == rest.len(), "all taken, or an event");
            rest = &rest[used..];
            match event {
                None => break,
                Some(Event::Entry(entry)) => seen.push(Seen::Entry(entry)),
                Some(Event::EndOfEntry) => seen.push(Seen::EndOfEntry),
                Some(Event::EndOfArchive) => seen.push(Seen::EndOfArchive),
                Some(Event::Data { offset, bytes }) => {
                    assert!(!bytes.is_empty(), "data is never empty");
                    match seen.last_mut() {
                        Some(Seen::Data(start, before))
                            if *start + before.len() as u64 == offset =>
                        {
                            before.extend(bytes);
                        }
                        _ => seen.push(Seen::Data(offset, bytes.to_vec())),
                    }
                }
            }
        }
    }
    (seen, decoder.finish())
}

/// Checks the order of events on the way.
pub(crate) fn members(seen: &[Seen]) -> Vec<Member> {
    let mut members: Vec<Member> = Vec::new();
    let (mut open, mut ended) = (false, false);
    for event in seen {
        assert!(!ended, "an event after the end");
        match event {
            Seen::Entry(entry) => {
                assert!(!open, "an entry in an entry");
                open = true;
                members.push(Member { entry: entry.clone(), data: vec![] });
            }
            Seen::Data(offset, bytes) => {
                assert!(open, "data of nothing");
                let last = members.last_mut().unwrap();
                let end = offset + bytes.len() as u64;
                assert!(end <= last.entry.size, "data behind the file");
                last.data.push((*offset, bytes.clone()));
            }
            Seen::EndOfEntry => {
                assert!(open, "the end of nothing");
                open = false;
            }
            Seen::EndOfArchive => {
                assert!(!open, "an end in an entry");
                ended = true;
            }
        }
    }
    members
}

/// The pieces that every archive is cut in.
pub(crate) const PIECES: [usize; 7] = [1, 2, 7, 511, 512, 513, usize::MAX >> 1];

/// Decodes; pieces of every size must give the same.
pub(crate) fn decode(
    make: impl Fn() -> Decoder,
    archive: &[u8],
) -> Result<Vec<Member>, TarError> {
    let whole = drive(make(), archive, usize::MAX >> 1);
    for piece in PIECES {
        let pieces = drive(make(), archive, piece);
        assert_eq!(pieces, whole, "pieces of {piece}");
    }
    let (seen, result) = whole;
    result.map(|()| members(&seen))
}

pub(crate) fn inner(archive: &[u8]) -> Result<Vec<Member>, TarError> {
    decode(|| Decoder::inner(Limits::INNER), archive)
}

pub(crate) fn outer(archive: &[u8]) -> Result<Vec<Member>, TarError> {
    decode(|| Decoder::outer(Limits::OUTER), archive)
}

/// Every cut, with the error that `finish` or `push` gives.
pub(crate) fn cuts(
    make: impl Fn() -> Decoder,
    archive: &[u8],
) -> Vec<Result<(), TarError>> {
    let cut = |end| drive(make(), &archive[..end], 4096).1;
    (0..archive.len()).map(cut).collect()
}

/// Runs a tool on an input, and gives what it wrote.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Vec<u8> {
    let package = match program {
        "tar" => "tar (GNU tar)",
        other => other,
    };
    let output = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C.UTF-8")
        .env("TZ", "UTC")
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| {
            panic!("{program}: {error}; install the package {package}")
        });
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    output.stdout
}

/// A header to be written by hand.
#[derive(Clone, Debug)]
pub(crate) struct Raw {
    pub(crate) name: Vec<u8>,
    pub(crate) prefix: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) kind: u8,
    pub(crate) mode: Vec<u8>,
    pub(crate) size: Vec<u8>,
    pub(crate) mtime: Vec<u8>,
    pub(crate) magic: [u8; 8],
    pub(crate) signed_sum: bool,
    pub(crate) sum_error: i64,
    /// Slots and the rest of a GNU sparse header, from byte 386.
    pub(crate) sparse: Vec<u8>,
    pub(crate) padding: u8,
}

pub(crate) const POSIX: [u8; 8] = *b"ustar\x0000";
pub(crate) const GNU: [u8; 8] = *b"ustar  \0";

/// Octal, or base-256 where that is too small.
pub(crate) fn number(value: u64) -> Vec<u8> {
    match value {
        0..0o1000_0000_0000 => format!("{value:011o}\0").into_bytes(),
        _ => base256(value.into()),
    }
}

pub(crate) fn base256(value: i128) -> Vec<u8> {
    let mut bytes = value.to_be_bytes()[4..].to_vec();
    bytes[0] = if value < 0 { 0xff } else { 0x80 };
    bytes
}

impl Raw {
    pub(crate) fn new(
        magic: [u8; 8],
        kind: u8,
        name: &[u8],
        size: u64,
    ) -> Self {
        Self {
            name: name.to_vec(),
            prefix: vec![],
            link: vec![],
            kind,
            mode: b"0000644\0".to_vec(),
            size: number(size),
            mtime: number(1_000_000_000),
            magic,
            signed_sum: false,
            sum_error: 0,
            sparse: vec![],
            padding: 0,
        }
    }

    pub(crate) fn block(&self) -> Vec<u8> {
        let mut block = vec![0_u8; 512];
        let mut put = |at: usize, bytes: &[u8], room: usize| {
            let bytes = &bytes[..bytes.len().min(room)];
            block[at..at + bytes.len()].copy_from_slice(bytes);
        };
        put(0, &self.name, 100);
        put(100, &self.mode, 8);
        put(108, b"0001750\0", 8);
        put(116, b"0001750\0", 8);
        put(124, &self.size, 12);
        put(136, &self.mtime, 12);
        put(148, b"        ", 8);
        put(156, &[self.kind], 1);
        put(157, &self.link, 100);
        put(257, &self.magic, 8);
        put(345, &self.prefix, 155);
        put(386, &self.sparse, 126);
        let sum: i64 = if self.signed_sum {
            block.iter().map(|byte| i64::from(byte.cast_signed())).sum()
        } else {
            block.iter().map(|byte| i64::from(*byte)).sum()
        };
        let sum = format!("{:06o}\0 ", sum + self.sum_error);
        block[148..156].copy_from_slice(sum.as_bytes());
        block
    }

    /// The header and its padded data.
    pub(crate) fn with(&self, data: &[u8]) -> Vec<u8> {
        let mut bytes = self.block();
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(512), self.padding);
        bytes
    }
}

pub(crate) fn file(name: &[u8], data: &[u8]) -> Vec<u8> {
    Raw::new(POSIX, b'0', name, data.len() as u64).with(data)
}

/// One record, its length worked out.
pub(crate) fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    let mut record = format!("{length} ").into_bytes();
    record.extend([key, b"=", value, b"\n"].concat());
    record
}

/// A PAX header of these records.
pub(crate) fn pax(records: &[(&[u8], &[u8])]) -> Vec<u8> {
    let body: Vec<u8> =
        records.iter().flat_map(|(key, value)| record(key, value)).collect();
    pax_body(&body)
}

pub(crate) fn pax_body(body: &[u8]) -> Vec<u8> {
    let size = body.len() as u64;
    Raw::new(POSIX, b'x', b"PaxHeaders/x", size).with(body)
}

/// GNU `L` or `K`.
pub(crate) fn long(kind: u8, name: &[u8]) -> Vec<u8> {
    let body = [name, b"\0"].concat();
    Raw::new(GNU, kind, b"././@LongLink", body.len() as u64).with(&body)
}

/// Slots of an old GNU map, 12 octal bytes for each number.
pub(crate) fn slots(segments: &[(u64, u64)]) -> Vec<u8> {
    let slot = |(at, len): &(u64, u64)| [number(*at), number(*len)].concat();
    segments.iter().flat_map(slot).collect()
}

/// An old GNU sparse member: header, continuation blocks, data.
pub(crate) fn gnu_sparse(
    name: &[u8],
    size: u64,
    segments: &[(u64, u64)],
    data: &[u8],
) -> Vec<u8> {
    let mut raw = Raw::new(GNU, b'S', name, data.len() as u64);
    let (first, rest) = segments.split_at(segments.len().min(4));
    raw.sparse = slots(first);
    raw.sparse.resize(96, 0);
    raw.sparse.push(u8::from(!rest.is_empty()));
    raw.sparse.extend(number(size));
    let mut bytes = raw.block();
    let mut blocks = rest.chunks(21).peekable();
    while let Some(block) = blocks.next() {
        let mut more = slots(block);
        more.resize(504, 0);
        more.push(u8::from(blocks.peek().is_some()));
        more.resize(512, 0);
        bytes.extend(more);
    }
    bytes.extend(data);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

/// The map of PAX 1.0, padded.
pub(crate) fn map_text(segments: &[(u64, u64)]) -> Vec<u8> {
    let mut text = format!("{}\n", segments.len());
    for (offset, length) in segments {
        text.push_str(&format!("{offset}\n{length}\n"));
    }
    let mut text = text.into_bytes();
    text.resize(text.len().next_multiple_of(512), 0);
    text
}

/// A PAX sparse 1.0 member as Qubes' tarwriter makes it.
pub(crate) fn pax_sparse_1(
    name: &[u8],
    size: u64,
    segments: &[(u64, u64)],
    data: &[u8],
) -> Vec<u8> {
    let size = size.to_string();
    let header = pax(&[
        (b"GNU.sparse.major", b"1"),
        (b"GNU.sparse.minor", b"0"),
        (b"GNU.sparse.name", name),
        (b"GNU.sparse.realsize", size.as_bytes()),
    ]);
    let body = [map_text(segments), data.to_vec()].concat();
    [header, file(b"vm1/GNUSparseFile.1/x", &body)].concat()
}

/// A PAX sparse 0.1 member, or 0.0 where `list` is set.
pub(crate) fn pax_sparse_0(
    name: &[u8],
    size: u64,
    segments: &[(u64, u64)],
    data: &[u8],
    list: bool,
) -> Vec<u8> {
    let size = size.to_string();
    let count = segments.len().to_string();
    let numbers: Vec<String> = segments
        .iter()
        .flat_map(|(at, len)| [at.to_string(), len.to_string()])
        .collect();
    let map = numbers.join(",");
    let mut records: Vec<(&[u8], &[u8])> = vec![
        (b"GNU.sparse.size", size.as_bytes()),
        (b"GNU.sparse.numblocks", count.as_bytes()),
    ];
    if list {
        for (index, number) in numbers.iter().enumerate() {
            let key: &[u8] = match index % 2 {
                0 => b"GNU.sparse.offset",
                _ => b"GNU.sparse.numbytes",
            };
            records.push((key, number.as_bytes()));
        }
        return [pax(&records), file(name, data)].concat();
    }
    records.push((b"GNU.sparse.name", name));
    records.push((b"GNU.sparse.map", map.as_bytes()));
    [pax(&records), file(b"GNUSparseFile.1/x", data)].concat()
}

/// Members, then two blocks of zeros.
pub(crate) fn archive(members: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = members.concat();
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

pub(crate) fn target(entry: &Entry) -> Option<&[u8]> {
    match &entry.kind {
        Kind::File | Kind::Directory => None,
        Kind::Symlink { target } | Kind::HardLink { target } => Some(target),
    }
}

pub(crate) fn mtime(seconds: i64, nanoseconds: u32) -> Mtime {
    Mtime { seconds, nanoseconds }
}

/// Makes the checksum of every block that looks like a header right.
pub(crate) fn seal(bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(512) {
        if block[257..262] == *b"ustar" {
            block[148..156].fill(b' ');
            let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
            block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        }
    }
}
