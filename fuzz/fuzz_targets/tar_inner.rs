//! Untrusted bytes as an inner archive: the same whatever the pieces, data in
//! order and within the size, and memory that does not follow the claims.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qubes_fsm::format::tar::{Decoder, Event, Limits};

/// What a run found, without how the data was cut.
#[derive(Debug, Default, PartialEq)]
struct Found {
    entries: Vec<String>,
    data: Vec<(u64, u8)>,
    end: String,
}

fn decode(untrusted_bytes: &[u8], piece: usize) -> Found {
    let mut decoder = Decoder::inner(Limits::INNER);
    let mut found = Found::default();
    let (mut size, mut at) = (0, 0);
    for piece in untrusted_bytes.chunks(piece) {
        let mut rest = piece;
        loop {
            let (taken, event) = match decoder.push(rest) {
                Ok(step) => step,
                Err(error) => {
                    found.end = error.to_string();
                    return found;
                }
            };
            rest = &rest[taken..];
            match event {
                None => break,
                Some(Event::Entry(entry)) => {
                    (size, at) = (entry.size, 0);
                    found.entries.push(format!("{entry:?}"));
                }
                Some(Event::Data { offset, bytes }) => {
                    assert!(offset >= at && !bytes.is_empty());
                    at = offset + bytes.len() as u64;
                    assert!(at <= size, "data beyond the size");
                    let places = bytes.iter().enumerate();
                    found.data.extend(
                        places.map(|(i, byte)| (offset + i as u64, *byte)),
                    );
                }
                Some(Event::EndOfEntry | Event::EndOfArchive) => {}
            }
        }
    }
    found.end = match decoder.finish() {
        Ok(()) => "whole".to_owned(),
        Err(error) => error.to_string(),
    };
    found
}

fuzz_target!(|untrusted_bytes: &[u8]| {
    let whole = decode(untrusted_bytes, usize::MAX);
    assert_eq!(decode(untrusted_bytes, 7), whole);
    assert_eq!(decode(untrusted_bytes, 512), whole);
});
