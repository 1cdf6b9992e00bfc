//! Untrusted bytes as a header: parsed or refused; what is accepted is written
//! to bytes that mean the same, and those come back byte for byte.
//!
//! Lives here: that, and headers to begin with. May not live here: the rest
//! of an archive.

use qubes_fsm::format::cipher::Cipher;
use qubes_fsm::format::header::{Header, Version};
use qubes_fsm::format::hmac::Digest;
use qubes_fsm::format::manifest::BackupId;

use super::{Seed, refused, texts};

/// Whether it is a header.
pub fn run(untrusted_bytes: &[u8]) -> bool {
    let version = Version::of(untrusted_bytes);
    let header = match Header::parse(untrusted_bytes) {
        Ok(header) => header,
        Err(error) => return refused(&error),
    };
    assert_eq!(version, Ok(Version::Three));
    let bytes = header.to_bytes();
    let again = Header::parse(&bytes).expect("its own bytes");
    assert_eq!(again.to_bytes(), bytes);
    assert_eq!(again.digest(), header.digest());
    assert_eq!(again.is_encrypted(), header.is_encrypted());
    assert_eq!(again.cipher(), header.cipher());
    assert_eq!(again.filter(), header.filter());
    assert_eq!(again.ignored(), header.ignored());
    assert_eq!(again.promise(), header.promise());
    true
}

/// One for each digest and cipher, and what is refused.
pub fn seeds() -> Vec<Seed> {
    let mut seeds = Vec::new();
    let filters = [None, Some("gzip"), Some("bzip2"), Some("xz"), Some("zstd")];
    for (index, digest) in Digest::ALL.into_iter().enumerate() {
        let cipher = Cipher::ALL[index % Cipher::ALL.len()];
        let filter = filters[index % filters.len()];
        let promise = BackupId::new([index as u8; 16]);
        let promise = (index % 3 == 0).then_some(promise);
        let encrypted = index % 2 == 0;
        let header = Header::new(digest, cipher, encrypted, filter, promise);
        let bytes = header.unwrap().to_bytes();
        seeds.push(Seed::good(digest.name(), &bytes));
    }
    let good = String::from_utf8(seeds[0].bytes.clone()).unwrap();
    let line = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        good.replacen(from, to, 1).into_bytes()
    };
    let key = line("version=3\n", "version=3\nx-of-others=1\n");
    seeds.extend([
        Seed::good("crlf", good.replace('\n', "\r\n").as_bytes()),
        Seed::good("unknown-key", &key),
        Seed::good("booleans", &line("=True", "=YES")),
        Seed::bad("version-1", &line("version=3", "version=1")),
        Seed::bad("version-2", &line("version=3\n", "")),
        Seed::bad("version-4", &line("version=3", "version=4")),
        Seed::bad("version-9", &line("version=3", "version=9")),
        Seed::bad("twice", &line("version=3\n", "version=3\nversion=3\n")),
        Seed::bad("maybe", &line("=True", "=maybe")),
        Seed::bad("no-cipher", &line("crypto-algorithm", "x")),
        Seed::bad("no-digest", &line("hmac-algorithm", "x")),
        Seed::bad("digest", &line("=SHA512", "=SHA513")),
        Seed::bad("promise-2", &line("manifest=1-", "manifest=2-")),
        Seed::bad("promise-short", &line("manifest=1-00", "manifest=1-")),
        Seed::bad("empty-line", &line("\n", "\n\n")),
        Seed::bad("two-equals", &line("=3", "=3=")),
        Seed::bad("control", &line("=3", "=\u{1b}")),
        Seed::bad("large", &vec![b'a'; 5000]),
        Seed::bad("empty", b""),
    ]);
    seeds
}

/// Lines and values.
pub fn words() -> Vec<Vec<u8>> {
    texts(&[
        "version=3\n",
        "hmac-algorithm=",
        "SHA512\n",
        "SHA1\n",
        "crypto-algorithm=aes-256-cbc\n",
        "encrypted=True\n",
        "compressed=False\n",
        "compression-filter=gzip\n",
        "backup-manifest=1-00112233445566778899aabbccddeeff\n",
        "\r\n",
        "yes",
        "0",
    ])
}
