//! Untrusted bytes as the text of a code: what is accepted has a value that is
//! written, in the one form, and read again.
//!
//! Lives here: that, and texts to begin with. May not live here: computing a
//! code over data of an archive.

use qubes_fsm::format::hmac::{Digest, Mac, MacText};

use super::{Seed, refused, texts};

/// Whether it is the text of a code.
pub fn run(untrusted_text: &[u8]) -> bool {
    let mac = match MacText::parse(untrusted_text) {
        Ok(mac) => mac,
        Err(error) => return refused(&error),
    };
    let text = mac.to_text();
    let again = MacText::parse(&text).expect("its own text");
    assert_eq!(again.value(), mac.value());
    assert_eq!(again.to_text(), text);
    let lengths = Digest::ALL.map(Digest::bytes);
    assert!(lengths.contains(&mac.value().len()), "a length of no digest");
    true
}

/// What openssl writes, old and new, for each digest.
pub fn seeds() -> Vec<Seed> {
    let mut seeds = Vec::new();
    let labels = ["(stdin)= ", "SHA2-512(stdin)= ", "HMAC-SHA512(a/b)= "];
    for (index, digest) in Digest::ALL.into_iter().enumerate() {
        let mut mac = Mac::new(digest, b"correct horse");
        mac.update(b"data");
        let mac = mac.finish();
        let hex = mac.bytes().iter().map(|byte| format!("{byte:02x}"));
        let hex: String = hex.collect();
        let text = format!("{}{hex}\n", labels[index % labels.len()]);
        seeds.push(Seed::good(digest.name(), text.as_bytes()));
    }
    let good = String::from_utf8(seeds[0].bytes.clone()).unwrap();
    let edit = |from: &str, to: &str| good.replacen(from, to, 1).into_bytes();
    seeds.extend([
        Seed::good("no-newline", good.trim_end().as_bytes()),
        Seed::bad("upper", good.to_uppercase().as_bytes()),
        Seed::bad("no-equals", &edit("= ", " ")),
        Seed::bad("no-hex", &edit("= ", "= x")),
        Seed::bad("short", &good.as_bytes()[..100]),
        Seed::bad("long", &[good.as_bytes(), &[b'0'; 5000]].concat()),
        Seed::bad("empty", b""),
    ]);
    seeds
}

/// Labels and a value.
pub fn words() -> Vec<Vec<u8>> {
    texts(&[
        "(stdin)= ",
        "SHA2-512(stdin)= ",
        "HMAC-SHA512(NAME)= ",
        "da39a3ee5e6b4b0d3255bfef95601890afd80709",
        "= ",
    ])
}
