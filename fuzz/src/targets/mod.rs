//! Every fuzz target: its name, its invariants, what it begins with.
//!
//! Lives here: the list, and where the seeds are written to. May not live
//! here: libFuzzer, so that plain `cargo test` can run all of it.

#![allow(unreachable_pub, reason = "public in the library of fuzz/ only")]
#![allow(dead_code, reason = "the tests do not write, the targets do not list")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a broken invariant is told to the fuzzer by a panic"
)]

pub mod archive;
pub mod chunk_sequence;
pub mod device;
pub mod document;
pub mod header;
pub mod hmac_text;
mod judge;
pub mod kernel_log;
pub mod qfile;
mod recipe;
pub mod session;
pub mod tar_inner;
pub mod trace;

use std::io;
use std::path::Path;

/// One target.
pub struct Target {
    /// Its name: of the binary, the corpus and the dictionary.
    pub name: &'static str,
    /// Judges one input. Panics if an invariant does not hold; says whether
    /// the input was accepted.
    pub run: fn(&[u8]) -> bool,
    /// What a campaign begins with.
    pub seeds: fn() -> Vec<Seed>,
    /// Words that the format is made of.
    pub words: fn() -> Vec<Vec<u8>>,
}

/// An input to begin with.
pub struct Seed {
    /// The name of its file.
    pub name: String,
    /// Whether it must be accepted, or must not, where that is known: a seed
    /// that is not any more what it was made for is noticed.
    pub good: Option<bool>,
    /// The input.
    pub bytes: Vec<u8>,
}

/// All of them.
pub const TARGETS: [Target; 11] = [
    Target {
        name: "archive",
        run: archive::run,
        seeds: archive::seeds,
        words: Vec::new,
    },
    Target {
        name: "chunk_sequence",
        run: chunk_sequence::run,
        seeds: chunk_sequence::seeds,
        words: chunk_sequence::words,
    },
    Target {
        name: "device",
        run: device::run,
        seeds: device::seeds,
        words: device::words,
    },
    Target {
        name: "document",
        run: document::run,
        seeds: document::seeds,
        words: document::words,
    },
    Target {
        name: "header",
        run: header::run,
        seeds: header::seeds,
        words: header::words,
    },
    Target {
        name: "hmac_text",
        run: hmac_text::run,
        seeds: hmac_text::seeds,
        words: hmac_text::words,
    },
    Target {
        name: "kernel_log",
        run: kernel_log::run,
        seeds: kernel_log::seeds,
        words: kernel_log::words,
    },
    Target {
        name: "qfile",
        run: qfile::run,
        seeds: qfile::seeds,
        words: qfile::words,
    },
    Target {
        name: "session",
        run: session::run,
        seeds: session::seeds,
        words: Vec::new,
    },
    Target {
        name: "tar_inner",
        run: tar_inner::run,
        seeds: tar_inner::seeds,
        words: tar_inner::words,
    },
    Target {
        name: "trace",
        run: trace::run,
        seeds: trace::seeds,
        words: trace::words,
    },
];

impl Seed {
    /// One that must be accepted.
    pub fn good(name: &str, bytes: &[u8]) -> Self {
        let (name, bytes) = (format!("good-{name}"), bytes.to_vec());
        Self { name, good: Some(true), bytes }
    }

    /// One that must be refused.
    pub fn bad(name: &str, bytes: &[u8]) -> Self {
        let (name, bytes) = (format!("bad-{name}"), bytes.to_vec());
        Self { name, good: Some(false), bytes }
    }
}

/// The words as libFuzzer reads them, a line each.
pub fn dictionary(words: &[Vec<u8>]) -> String {
    let line = |word: &Vec<u8>| {
        let letters = word.iter().map(|byte| match byte {
            b'"' | b'\\' => format!("\\{}", char::from(*byte)),
            b' '..=b'~' => char::from(*byte).to_string(),
            _ => format!("\\x{byte:02x}"),
        });
        format!("\"{}\"\n", letters.collect::<String>())
    };
    words.iter().map(line).collect()
}

/// Writes `corpus/TARGET/SEED` and `dictionaries/TARGET` below a folder.
///
/// # Errors
/// What the file system says.
pub fn write(fuzz: &Path) -> io::Result<()> {
    for target in TARGETS {
        let corpus = fuzz.join("corpus").join(target.name);
        std::fs::create_dir_all(&corpus)?;
        for seed in (target.seeds)() {
            std::fs::write(corpus.join(seed.name), seed.bytes)?;
        }
        let words = (target.words)();
        if !words.is_empty() {
            let dictionaries = fuzz.join("dictionaries");
            std::fs::create_dir_all(&dictionaries)?;
            let text = dictionary(&words);
            std::fs::write(dictionaries.join(target.name), text)?;
        }
    }
    Ok(())
}

/// A refusal has a text, on one line, that no input can write on a terminal
/// with.
fn refused(error: &impl std::fmt::Display) -> bool {
    let text = error.to_string();
    assert!(
        !text.is_empty() && !text.chars().any(char::is_control),
        "{text:?}"
    );
    false
}

/// Words of text.
fn texts(words: &[&str]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}
