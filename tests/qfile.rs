//! qfile streams and replies: what is written is read, wherever it is cut;
//! what breaks a rule is refused with a text that says which.

#![cfg(feature = "backup")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use proptest::collection::vec;
use proptest::prelude::*;
use qubes_fsm::format::qfile::{
    Code, Decoder, Encoder, Entry, Event, HEADER_BYTES, Kind, Limits, Place,
    QfileError, Reply, ReplyDecoder, ReplyError, Time,
};

/// A file and what is in it.
type Sent = (Entry, Vec<u8>);

fn entry(name: &str, kind: Kind, size: u64) -> Entry {
    Entry {
        name: name.into(),
        kind,
        mode: 0o644,
        size,
        accessed: Time { seconds: 1, nanoseconds: 2 },
        modified: Time { seconds: 1_400_000_000, nanoseconds: 999_999_999 },
    }
}

fn file(name: &str, data: &[u8]) -> Sent {
    (entry(name, Kind::File, data.len() as u64), data.to_vec())
}

fn encoded(entries: &[Sent]) -> (Vec<u8>, Encoder) {
    let (mut encoder, mut stream) = (Encoder::default(), Vec::new());
    for (entry, data) in entries {
        encoder.entry(entry, &mut stream).unwrap();
        encoder.data(data).unwrap();
        stream.extend(data);
    }
    encoder.end(&mut stream).unwrap();
    (stream, encoder)
}

/// With links, which a backup has none of.
fn all() -> Limits {
    Limits { links: true, ..Limits::default() }
}

/// Everything that was decoded; data is passed where there is `passes`.
fn decoded<'s>(
    pieces: impl IntoIterator<Item = &'s [u8]>,
    decoder: &mut Decoder,
    passes: bool,
) -> Result<Vec<Sent>, QfileError> {
    let (mut sent, mut open) = (Vec::new(), None);
    for piece in pieces {
        let mut rest = piece;
        loop {
            let left = decoder.data_left();
            if passes && left > 0 && !rest.is_empty() {
                let taken = decoder.pass(rest);
                assert_eq!(taken as u64, left.min(rest.len() as u64));
                let (_, data): &mut Sent = open.as_mut().unwrap();
                data.extend(&rest[..taken]);
                rest = &rest[taken..];
                continue;
            }
            let (taken, event) = decoder.push(rest)?;
            rest = &rest[taken..];
            match event {
                Some(Event::Entry(entry)) => {
                    assert_eq!(open.replace((entry, Vec::new())), None);
                }
                Some(Event::Data(bytes)) => {
                    assert!(!bytes.is_empty());
                    open.as_mut().unwrap().1.extend(bytes);
                }
                Some(Event::EndOfEntry) => sent.push(open.take().unwrap()),
                Some(Event::End) => {
                    assert!(open.is_none() && decoder.is_ended());
                }
                None => {
                    assert!(rest.is_empty(), "all of it is taken");
                    break;
                }
            }
        }
    }
    decoder.finish()?;
    Ok(sent)
}

fn refusal(stream: &[u8]) -> QfileError {
    refusal_by(stream, Limits::default())
}

fn refusal_by(stream: &[u8], limits: Limits) -> QfileError {
    let mut decoder = Decoder::new(limits);
    let error = decoded([stream], &mut decoder, false).unwrap_err();
    // Wherever it is cut, and for ever.
    let mut bytes = Decoder::new(limits);
    let again = decoded(stream.chunks(1), &mut bytes, true).unwrap_err();
    assert_eq!(again, error);
    if !matches!(error, QfileError::Truncated { .. }) {
        assert_eq!(decoder.push(b"more"), Err(error.clone()));
    }
    assert_eq!(decoder.finish(), Err(error.clone()));
    assert!(!decoder.is_ended());
    error
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let component = vec(any::<u8>(), 1..20).prop_map(|mut name| {
        for byte in &mut name {
            if [0, b'/', b'.'].contains(byte) {
                *byte = b'_';
            }
        }
        name
    });
    vec(component, 1..4).prop_map(|parts| parts.join(&b'/'))
}

fn sent() -> impl Strategy<Value = Sent> {
    let kind = prop_oneof![
        3 => Just(Kind::File),
        1 => Just(Kind::Directory),
        1 => Just(Kind::Symlink),
    ];
    let time = || {
        (any::<u32>(), 0..1_000_000_000_u32)
            .prop_map(|(seconds, nanoseconds)| Time { seconds, nanoseconds })
    };
    let data = vec(any::<u8>(), 0..200);
    (name(), kind, 0..0o10000_u16, time(), time(), data).prop_map(
        |(name, kind, mode, accessed, modified, mut data)| {
            if kind == Kind::Directory {
                data.clear();
            }
            let size = data.len() as u64;
            (Entry { name, kind, mode, size, accessed, modified }, data)
        },
    )
}

proptest! {
    /// The model is the list itself.
    #[test]
    fn what_is_encoded_is_decoded_wherever_it_is_cut(
        entries in vec(sent(), 0..8),
        cuts in vec(any::<prop::sample::Index>(), 0..20),
        passes in any::<bool>(),
    ) {
        let (stream, encoder) = encoded(&entries);
        let mut cuts: Vec<usize> =
            cuts.iter().map(|cut| cut.index(stream.len())).collect();
        cuts.sort_unstable();
        cuts.push(stream.len());
        let mut start = 0;
        let pieces = cuts.into_iter().map(|end| {
            let piece = &stream[start..end];
            start = end;
            piece
        });
        let mut decoder = Decoder::new(all());
        let found = decoded(pieces, &mut decoder, passes).unwrap();
        prop_assert_eq!(&found, &entries);
        prop_assert_eq!(decoder.crc(), encoder.crc());
        let last = entries.last().map(|(entry, _)| entry.name.clone());
        prop_assert_eq!(decoder.last(), last.unwrap_or_default());
        let crc = u64::from(decoder.crc());
        let reply = Reply { code: 0, crc, last: None };
        prop_assert_eq!(encoder.judge(&reply), Ok(()));
    }

    #[test]
    fn replies_come_back(
        code in any::<u32>(),
        crc in any::<u64>(),
        last in prop::option::of(vec(any::<u8>(), 0..300)),
        size in 1..40_usize,
    ) {
        let reply = Reply { code, crc, last };
        let mut decoder = ReplyDecoder::default();
        for piece in reply.to_bytes().chunks(size) {
            decoder.push(piece).unwrap();
        }
        prop_assert_eq!(decoder.finish(), Ok(reply));
    }
}

/// Byte for byte as `tar2qfile` wrote it: a directory, a file, an end.
#[test]
fn the_bytes_are_those_of_the_format() {
    let mut stream = Vec::new();
    // Name of 4 bytes with its NUL, 0o40644, no data, times.
    stream.extend(b"\x04\0\0\0\xa4\x41\0\0\0\0\0\0\0\0\0\0");
    stream.extend(b"\0\x4e\x72\x53\0\0\0\0\0\x4e\x72\x53\0\0\0\0vm1\0");
    stream.extend(b"\x0c\0\0\0\xa4\x81\0\0\x03\0\0\0\0\0\0\0");
    stream.extend(b"\0\x4e\x72\x53\0\0\0\0\0\x4e\x72\x53\0\0\0\0vm1/..000.x\0");
    stream.extend(b"abc");
    let time = Time { seconds: 1_400_000_000, nanoseconds: 0 };
    // What follows was in the sender's memory.
    stream.extend([&[0; 4][..], &[0xa5; 28]].concat());
    let mut decoder = Decoder::new(Limits::default());
    let found = decoded([stream.as_slice()], &mut decoder, false).unwrap();
    let of = |name, kind, size| Entry {
        accessed: time,
        modified: time,
        ..entry(name, kind, size)
    };
    assert_eq!(
        found,
        [
            (of("vm1", Kind::Directory, 0), vec![]),
            (of("vm1/..000.x", Kind::File, 3), b"abc".to_vec()),
        ]
    );
    let length = stream.len();
    stream.splice(length - 28.., [0; 28]);
    assert_eq!(encoded(&found).0, stream);
    // By zlib, of the 32 zeros of an end alone.
    assert_eq!(encoded(&[]).1.crc(), 0x190a_55ad);
}

#[test]
fn a_stream_cut_at_every_byte_is_truncated() {
    let (stream, _) = encoded(&[
        file("a", b"content"),
        (entry("dir", Kind::Directory, 0), vec![]),
        file("dir/empty", b""),
    ]);
    let mut texts = std::collections::BTreeSet::new();
    for end in 0..stream.len() {
        let error = refusal(&stream[..end]);
        let QfileError::Truncated { at, inside, missing } = &error else {
            panic!("{end}: {error}")
        };
        assert_eq!(at.offset, end as u64);
        texts.insert(*inside);
        // With what is missing just that is whole.
        let next = end + *missing as usize;
        assert!(next <= stream.len());
        let mut decoder = Decoder::new(Limits::default());
        let whole = decoded([&stream[..next]], &mut decoder, false);
        if let Err(QfileError::Truncated { at, .. }) = &whole {
            assert_eq!(at.offset, next as u64);
        } else {
            whole.unwrap();
        }
    }
    let all = [
        "within a header",
        "within a name",
        "within the data",
        "without its last entry",
    ];
    assert!(texts.into_iter().eq(all));
    assert_eq!(
        refusal(&stream[..40]).to_string(),
        "qfile byte 40, entry \"a\": the stream ends within the data, at least \
         1 more bytes expected"
    );
    assert_eq!(
        refusal(b"").to_string(),
        "qfile byte 0: the stream ends without its last entry, at least 32 \
         more bytes expected"
    );
}

/// One file, with other bytes from `at` on.
fn with(at: usize, bytes: &[u8]) -> Vec<u8> {
    let (mut stream, _) = encoded(&[file("name", b"data")]);
    stream[at..at + bytes.len()].copy_from_slice(bytes);
    stream
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let named = |name: &str| {
        let mut stream = encoded(&[file(&"x".repeat(name.len()), b"")]).0;
        stream[32..32 + name.len()].copy_from_slice(name.as_bytes());
        stream
    };
    for (name, found) in [
        ("/etc/passwd", "an absolute name"),
        ("..", "a component \"..\""),
        ("../a", "a component \"..\""),
        ("a/../b", "a component \"..\""),
        ("a/..", "a component \"..\""),
        ("./a", "a component \".\""),
        ("a/./b", "a component \".\""),
        ("a/.", "a component \".\""),
        (".", "a component \".\""),
        ("a//b", "an empty component"),
        ("a/", "an empty component"),
        ("a\0b", "a NUL within the name"),
    ] {
        let error = refusal(&named(name));
        let at = Place { offset: 32, entry: Some(name.as_bytes().into()) };
        assert_eq!(error, QfileError::Name { at, found }, "{name:?}");
        // Nor are they sent.
        let mut encoder = Encoder::default();
        let (sent, _) = file(name, b"");
        let refused = encoder.entry(&sent, &mut Vec::new()).unwrap_err();
        let at = Place { offset: 0, entry: Some(name.as_bytes().into()) };
        assert_eq!(refused, QfileError::Name { at, found }, "{name:?}");
    }
    for name in ["...", "..000", ".a", "a..", "a/..000", "ü", "\u{1b}[1m"] {
        let stream = named(name);
        let mut decoder = Decoder::new(Limits::default());
        let found = decoded([stream.as_slice()], &mut decoder, false).unwrap();
        assert_eq!(found[0].0.name, name.as_bytes());
    }
    assert_eq!(
        refusal(&named("a/../\u{1b}")).to_string(),
        "qfile byte 32, entry \"a/../\\u{1b}\": a component \"..\"; wanted \
         components that are neither empty, \".\" nor \"..\""
    );
    assert_eq!(
        refusal(&with(0, &[1])).to_string(),
        "qfile byte 32, entry \"\": the name ends with byte 0x6e, expected NUL"
    );
    let mut empty = with(0, &[1]);
    empty[32] = 0;
    assert_eq!(
        refusal(&empty).to_string(),
        "qfile byte 32, entry \"\": an empty name; wanted components that are \
         neither empty, \".\" nor \"..\""
    );
}

#[test]
fn each_rule_of_a_header_has_its_error() {
    let billion = 1_000_000_000_u32.to_le_bytes();
    for (stream, text) in [
        (
            with(0, &16_384_u32.to_le_bytes()),
            "qfile byte 0: a name of 16384 bytes, at most 16383 allowed",
        ),
        (
            with(0, &[0xff; 4]),
            "qfile byte 0: a name of 4294967295 bytes, at most 16383 allowed",
        ),
        (
            with(4, &0o010_644_u32.to_le_bytes()),
            "qfile byte 0: mode 0o10644, expected a regular file or a \
             directory",
        ),
        (
            with(4, &0o120_777_u32.to_le_bytes()),
            "qfile byte 0: mode 0o120777, expected a regular file or a \
             directory",
        ),
        (
            with(4, &0o644_u32.to_le_bytes()),
            "qfile byte 0: mode 0o644, expected a regular file or a directory",
        ),
        (
            with(4, &0o20_100_644_u32.to_le_bytes()),
            "qfile byte 0: mode 0o20100644, expected a regular file or a \
             directory",
        ),
        (
            with(20, &billion),
            "qfile byte 0: 1000000000 nanoseconds of the access time, at most \
             999999999",
        ),
        (
            with(28, &billion),
            "qfile byte 0: 1000000000 nanoseconds of the modification time, \
             at most 999999999",
        ),
        (
            with(4, &0o040_755_u32.to_le_bytes()),
            "qfile byte 0: a directory with 4 bytes of data, expected 0",
        ),
        (
            with(8, &u64::MAX.to_le_bytes()),
            "qfile byte 0: bytes of data 18446744073709551615, at most \
             17592186044416 allowed",
        ),
    ] {
        assert_eq!(refusal(&stream).to_string(), text);
    }
    let mut behind = encoded(&[]).0;
    behind.push(0);
    assert_eq!(
        refusal_at_end(&behind).to_string(),
        "qfile byte 32: byte 0x00 behind the end, expected nothing"
    );
}

/// As `refusal`, where the end was seen before.
fn refusal_at_end(stream: &[u8]) -> QfileError {
    let mut decoder = Decoder::new(Limits::default());
    assert_eq!(decoder.push(stream), Ok((HEADER_BYTES, Some(Event::End))));
    decoder.push(&stream[HEADER_BYTES..]).unwrap_err()
}

#[test]
fn limits_count_bytes_entries_names_and_links() {
    let (stream, _) = encoded(&[
        (entry("d", Kind::Directory, 0), vec![]),
        file("d/a", b"12345"),
        file("d/b", b"12345"),
    ]);
    let limits = Limits::default();
    let check =
        |limits| decoded([stream.as_slice()], &mut Decoder::new(limits), true);
    assert!(check(Limits { bytes_max: 10, ..limits }).is_ok());
    assert!(check(Limits { entries_max: 3, ..limits }).is_ok());
    assert!(check(Limits { name_bytes_max: 4, ..limits }).is_ok());
    let refused = |limits| refusal_by(&stream, limits).to_string();
    assert_eq!(
        refused(Limits { bytes_max: 9, ..limits }),
        "qfile byte 75: bytes of data 10, at most 9 allowed"
    );
    assert_eq!(
        refused(Limits { entries_max: 2, ..limits }),
        "qfile byte 75: entries 3, at most 2 allowed"
    );
    assert_eq!(
        refused(Limits { name_bytes_max: 3, ..limits }),
        "qfile byte 34: a name of 4 bytes, at most 3 allowed"
    );
    // Names as long as they may be, and targets.
    let long = "n".repeat(16_382);
    let link = (entry("l", Kind::Symlink, 16_383), vec![b'x'; 16_383]);
    let (stream, _) = encoded(&[file(&long, b""), link.clone()]);
    let mut decoder = Decoder::new(all());
    let found = decoded([stream.as_slice()], &mut decoder, false).unwrap();
    assert_eq!(found[1], link);
    let mut encoder = Encoder::default();
    let (sent, _) = file(&"n".repeat(16_383), b"");
    let error = encoder.entry(&sent, &mut Vec::new()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "qfile byte 0: a name of 16384 bytes, at most 16383 allowed"
    );
    let (stream, _) =
        encoded(&[(entry("l", Kind::Symlink, 4), b"aim?".into())]);
    assert_eq!(
        refusal_by(&stream, Limits { name_bytes_max: 3, ..all() }).to_string(),
        "qfile byte 0: the target of a link of 4 bytes, at most 3 allowed"
    );
}

#[test]
fn the_encoder_keeps_the_order() {
    let order = |error: QfileError| {
        let QfileError::Order { at, found, expected } = error else {
            panic!("{error}")
        };
        (at.offset, found, expected)
    };
    let (a, _) = file("a", b"12");
    let mut encoder = Encoder::default();
    let mut out = Vec::new();
    encoder.entry(&a, &mut out).unwrap();
    encoder.data(b"1").unwrap();
    let rest = "the rest of the data";
    let again = encoder.entry(&a, &mut out).unwrap_err();
    assert_eq!(order(again), (35, "an entry", rest));
    let end = encoder.end(&mut out).unwrap_err();
    assert_eq!(order(end), (35, "the end", rest));
    let more = encoder.data(b"23").unwrap_err();
    let found = "more data than announced";
    assert_eq!(order(more), (35, found, "what is left"));
    encoder.data(b"2").unwrap();
    encoder.end(&mut out).unwrap();
    let nothing = "nothing behind the end";
    let late = encoder.entry(&a, &mut out).unwrap_err();
    assert_eq!(order(late), (68, "an entry", nothing));
    let twice = encoder.end(&mut out).unwrap_err();
    assert_eq!(order(twice), (68, "the end", nothing));
    // Nothing that was refused is in it.
    assert_eq!(out.len(), 34 + 32);
    let (mut wrong, _) = file("a", b"");
    wrong.mode = 0o10000;
    let error = Encoder::default().entry(&wrong, &mut out).unwrap_err();
    assert_eq!(
        error.to_string(),
        "qfile byte 0: mode 0o10000, expected permissions of 12 bits"
    );
}

#[test]
fn replies_are_judged() {
    let sent = [file("a", b"1")];
    let (_, encoder) = encoded(&sent);
    let crc = u64::from(encoder.crc());
    let reply = |code, crc| Reply { code, crc, last: Some(b"a\x1b".to_vec()) };
    let text = |reply: &Reply| encoder.judge(reply).unwrap_err().to_string();
    assert_eq!(encoder.judge(&reply(0, crc)), Ok(()));
    let found = crc ^ 1;
    assert_eq!(
        text(&reply(0, found)),
        format!("qfile reply: checksum {found:#010x}, expected {crc:#010x}")
    );
    // All 64 bits count.
    let found = crc | 1 << 40;
    let error = encoder.judge(&reply(0, found));
    assert_eq!(error, Err(ReplyError::Crc { found, wanted: crc }));
    for code in [122, (-122_i32).cast_unsigned()] {
        assert_eq!(
            text(&reply(code, crc)),
            "qfile reply: error 122, last file \"a\\u{1b}\", expected 0"
        );
    }
    assert_eq!(
        text(&Reply { code: 5, crc: 0, last: None }),
        "qfile reply: error 5, last file \"?\", expected 0"
    );
    let cut = reply(31_415_926, 0);
    assert_eq!(Code::Cut.number(), 31_415_926);
    assert_eq!(
        text(&cut),
        "qfile reply: the stream was cut off, expected its end"
    );
    // The same before the end.
    let mut early = Encoder::default();
    early.entry(&sent[0].0, &mut Vec::new()).unwrap();
    let crc = early.crc().into();
    assert_eq!(
        early.judge(&reply(0, crc)).unwrap_err().to_string(),
        "qfile reply: success after 34 bytes, expected it at the end"
    );
    assert_eq!(early.judge(&cut), Err(ReplyError::Cut));
}

#[test]
fn a_reply_that_is_none_says_why() {
    let bytes = Reply { code: 0, crc: 7, last: Some(b"last".to_vec()) };
    let bytes = bytes.to_bytes();
    let finish = |bytes: &[u8]| {
        let mut decoder = ReplyDecoder::default();
        decoder.push(bytes).and_then(|()| decoder.finish())
    };
    for end in 0..bytes.len() {
        let wanted = match end {
            0..16 => 16,
            // An old receiver says no name.
            16 => {
                assert_eq!(finish(&bytes[..end]).unwrap().last, None);
                continue;
            }
            17..20 => 20,
            _ => 24,
        };
        let cut = ReplyError::Truncated { found: end, wanted };
        assert_eq!(finish(&bytes[..end]), Err(cut));
    }
    let text = |bytes: &[u8]| finish(bytes).unwrap_err().to_string();
    assert_eq!(text(&bytes[..3]), "qfile reply: 3 bytes, at least 16 expected");
    assert_eq!(
        text(&[&bytes[..], b"x"].concat()),
        "qfile reply: 25 bytes, expected 24 with the name"
    );
    let mut padded = bytes.clone();
    padded[5] = 1;
    assert_eq!(text(&padded), "qfile reply: 0x100 behind the code, expected 0");
    assert_eq!(
        text(&[0; 16_404]),
        "qfile reply: 16404 bytes or more, at most 16403 allowed"
    );
}
