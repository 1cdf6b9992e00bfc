//! Untrusted bytes as a qfile stream, or as the reply to one: what is accepted
//! is written back to the same bytes, and wherever it is cut it is the same.
//!
//! Lives here: that, and streams to begin with. May not live here: what is in
//! the files.
//!
//! The first byte says how: 128 for a reply, 64 for links to be taken, and
//! below that the size of the pieces.

use qubes_fsm::format::qfile::{
    Code, Decoder, Encoder, Entry, Event, HEADER_BYTES, Kind, Limits,
    NAME_BYTES_MAX, QfileError, Reply, ReplyDecoder, ReplyError, Time,
};

use super::{Seed, refused, texts};

const REPLY: u8 = 128;
const LINKS: u8 = 64;

/// Whether it is a stream or a reply.
pub fn run(untrusted_bytes: &[u8]) -> bool {
    let Some((how, bytes)) = untrusted_bytes.split_first() else {
        return false;
    };
    let size = usize::from(how % LINKS) + 1;
    if how & REPLY == 0 {
        stream(bytes, how & LINKS != 0, size)
    } else {
        reply(bytes, size)
    }
}

fn stream(bytes: &[u8], links: bool, size: usize) -> bool {
    let limits = Limits { links, ..Limits::default() };
    let mut decoder = Decoder::new(limits);
    let whole = decoded(bytes.chunks(usize::MAX), &mut decoder, false);
    for passes in [false, true] {
        let mut again = Decoder::new(limits);
        let pieces = decoded(bytes.chunks(size), &mut again, passes);
        assert_eq!(pieces, whole, "in pieces of {size}");
        if whole.is_ok() {
            assert_eq!(again.crc(), decoder.crc());
            assert_eq!(again.last(), decoder.last());
        }
    }
    let entries = match whole {
        Ok(entries) => entries,
        Err(error) => return refused(&error),
    };
    let (mut encoder, mut again) = (Encoder::default(), Vec::new());
    for (entry, data) in &entries {
        assert!(links || entry.kind != Kind::Symlink);
        let name = &entry.name;
        assert!(name.len() < NAME_BYTES_MAX as usize && !name.contains(&0));
        for component in name.split(|byte| *byte == b'/') {
            assert!(![&b""[..], b".", b".."].contains(&component), "{name:?}");
        }
        encoder.entry(entry, &mut again).expect("it was accepted");
        encoder.data(data).expect("as much as was announced");
        again.extend(data);
    }
    encoder.end(&mut again).expect("nothing is missing");
    // Behind the first number of an end stands anything.
    let told = again.len() - HEADER_BYTES + 4;
    assert_eq!(again.len(), bytes.len());
    assert_eq!(again[..told], bytes[..told]);
    let crc = u64::from(decoder.crc());
    let judged = encoder.judge(&Reply { code: 0, crc, last: None });
    assert_eq!(judged.is_ok(), again == bytes, "{judged:?}");
    true
}

type Sent = (Entry, Vec<u8>);

fn decoded<'b>(
    pieces: impl Iterator<Item = &'b [u8]>,
    decoder: &mut Decoder,
    passes: bool,
) -> Result<Vec<Sent>, QfileError> {
    let mut sent: Vec<Sent> = Vec::new();
    let mut open: Option<Sent> = None;
    for mut rest in pieces {
        loop {
            if passes && decoder.data_left() > 0 && !rest.is_empty() {
                let taken = decoder.pass(rest);
                open.as_mut().expect("an entry").1.extend(&rest[..taken]);
                rest = &rest[taken..];
                continue;
            }
            let (taken, event) = decoder.push(rest)?;
            rest = &rest[taken..];
            match event {
                Some(Event::Entry(entry)) => {
                    assert!(open.replace((entry, Vec::new())).is_none());
                }
                Some(Event::Data(bytes)) => {
                    open.as_mut().expect("an entry").1.extend(bytes);
                }
                Some(Event::EndOfEntry) => {
                    let (entry, data) = open.take().expect("an entry");
                    assert_eq!(data.len() as u64, entry.size);
                    sent.push((entry, data));
                }
                Some(Event::End) => assert!(open.is_none()),
                None => break,
            }
        }
    }
    decoder.finish()?;
    Ok(sent)
}

fn reply(bytes: &[u8], size: usize) -> bool {
    let mut decoder = ReplyDecoder::default();
    let mut pushed = Ok(());
    for piece in bytes.chunks(size) {
        pushed = pushed.and_then(|()| decoder.push(piece));
    }
    let reply = match pushed.and_then(|()| decoder.finish()) {
        Ok(reply) => reply,
        Err(error) => return refused(&error),
    };
    assert_eq!(reply.to_bytes(), bytes);
    match Encoder::default().judge(&reply) {
        Ok(()) => panic!("nothing was sent: {reply:?}"),
        Err(ReplyError::Early { sent }) => {
            assert_eq!((sent, reply.errno()), (0, 0));
        }
        Err(error) => {
            refused(&error);
        }
    }
    true
}

/// Streams with something of each kind, replies, and what is refused.
pub fn seeds() -> Vec<Seed> {
    let time = Time { seconds: 1_400_000_000, nanoseconds: 999_999_999 };
    let entry = |name: &str, kind, data: &[u8]| {
        let entry = Entry {
            name: name.into(),
            kind,
            mode: 0o644,
            size: data.len() as u64,
            accessed: time,
            modified: time,
        };
        (entry, data.to_vec())
    };
    let of = |how: u8, entries: &[Sent]| {
        let (mut encoder, mut bytes) = (Encoder::default(), vec![how]);
        for (entry, data) in entries {
            encoder.entry(entry, &mut bytes).unwrap();
            bytes.extend(data);
            encoder.data(data).unwrap();
        }
        encoder.end(&mut bytes).unwrap();
        bytes
    };
    let files = [
        entry("vm1", Kind::Directory, b""),
        entry("vm1/private.img.000", Kind::File, &[7; 600]),
        entry("vm1/private.img.000.hmac", Kind::File, b"(stdin)= 0\n"),
        entry("vm1/..000", Kind::File, b""),
    ];
    let link = [entry("l", Kind::Symlink, b"../anywhere")];
    let good = of(9, &files[1..2]);
    let changed = |at: usize, with: &[u8]| {
        let mut bytes = good.clone();
        bytes[1 + at..1 + at + with.len()].copy_from_slice(with);
        bytes
    };
    let answer = |code, last: Option<&str>| {
        let last = last.map(|last| last.as_bytes().to_vec());
        let reply = Reply { code, crc: 0x190a_55ad, last };
        [&[REPLY | 2][..], &reply.to_bytes()].concat()
    };
    let end = |with: &[u8]| [&of(0, &[])[..], with].concat();
    let mut garbage = of(0, &[]);
    garbage[5..].fill(0xa5);
    vec![
        Seed::good("files", &of(63, &files)),
        Seed::good("by-bytes", &of(0, &files)),
        Seed::good("end", &of(0, &[])),
        Seed::good("end-with-memory", &garbage),
        Seed::good("link", &of(LINKS, &link)),
        Seed::good("done", &answer(0, None)),
        Seed::good("too-much", &answer(Code::TooMuch.number(), Some("a/b"))),
        Seed::good("cut", &answer(Code::Cut.number(), Some(""))),
        Seed::good("negative", &answer(u32::MAX - 83, Some("..\u{1b}"))),
        Seed::bad("no-links", &of(0, &link)),
        Seed::bad("nothing", b""),
        Seed::bad("no-end", &good[..good.len() - 32]),
        Seed::bad("half-an-end", &good[..good.len() - 1]),
        Seed::bad("in-the-data", &good[..100]),
        Seed::bad("in-the-name", &good[..40]),
        Seed::bad("behind", &end(b"\0")),
        Seed::bad("up", &changed(32, b"../up")),
        Seed::bad("absolute", &changed(32, b"/")),
        Seed::bad("here", &changed(32, b"./")),
        Seed::bad("two-slashes", &changed(35, b"//")),
        Seed::bad("nul", &changed(34, b"\0")),
        Seed::bad("no-nul", &changed(0, &[5])),
        Seed::bad("long-name", &changed(0, &[0xff; 4])),
        Seed::bad("huge", &changed(8, &[0xff; 8])),
        Seed::bad("device", &changed(4, &0o60_644_u32.to_le_bytes())),
        Seed::bad("directory", &changed(4, &0o40_755_u32.to_le_bytes())),
        Seed::bad("nanoseconds", &changed(20, &[0xff; 4])),
        Seed::bad("reply-short", &answer(0, None)[..16]),
        Seed::bad("reply-long", &[&answer(0, Some("a"))[..], b"x"].concat()),
        Seed::bad("reply-padding", &[&[REPLY][..], &[1; 16]].concat()),
    ]
}

/// Names, modes, and codes.
pub fn words() -> Vec<Vec<u8>> {
    let mut words = texts(&[
        "backup-header\0",
        "qubes.xml.000\0",
        "vm1/private.img.000\0",
        "../",
        "./",
        "//",
    ]);
    words.extend([
        0o100_644_u32.to_le_bytes().to_vec(),
        0o040_755_u32.to_le_bytes().to_vec(),
        0o120_777_u32.to_le_bytes().to_vec(),
        999_999_999_u32.to_le_bytes().to_vec(),
        31_415_926_u32.to_le_bytes().to_vec(),
        vec![0; 32],
    ]);
    words
}
