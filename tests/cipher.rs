//! `openssl enc`: the same bytes, pieces of any size, every refusal in full.

#![cfg(feature = "backup")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may fail loudly"
)]

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::thread;

use proptest::prelude::*;
use qubes_fsm::format::cipher::{Cipher, CipherError, Decryptor, Encryptor};

const PASSPHRASE: &str = "correct horse";
const DATA: &[u8] = b"seventeen bytes!!";
const SALT: [u8; 8] = *b"NaClNaCl";

/// [`DATA`] with [`PASSPHRASE`] and [`SALT`], by openssl 3.0.19: what is
/// behind the salt.
const VECTORS: &[(&str, &str)] = &[
    (
        "aes-128-cbc",
        "afd7afb3626862500e3b3790c93735f88654f34dbc00b11c3b4f0c7b7f6c6995",
    ),
    (
        "aes-192-cbc",
        "b161a58651a16146c3302df7c357f0d0430f0ac6a5eba1f467bfaebdcf6c084f",
    ),
    (
        "aes-256-cbc",
        "235905f642e6da981c8013e192eebc7e5470e6800f712a672c8aefa70f4bcf19",
    ),
    #[cfg(feature = "legacy-ciphers")]
    ("des-ede3-cbc", "ddf87cc43debed59f8e4b55b929ebd23ca1cfaa8124145f4"),
    #[cfg(feature = "legacy-ciphers")]
    (
        "camellia-128-cbc",
        "a7afe3e42d5725f8631ded2ebc128f31ed7b3ed518316998844e656fb2147618",
    ),
    #[cfg(feature = "legacy-ciphers")]
    (
        "camellia-192-cbc",
        "4fcc43d1cf36dde126903aaff0c46ca18f67b5940cd932e066cf3d8e072ae4ba",
    ),
    #[cfg(feature = "legacy-ciphers")]
    (
        "camellia-256-cbc",
        "af8b5e75d40e2eab05390f0b817ee041f78126a14e72455f94b0c36ffd81bcb8",
    ),
    #[cfg(feature = "legacy-ciphers")]
    ("bf-cbc", "c1a9b9137d43e95aec1658d3efdf3d378219c90752f12b77"),
    #[cfg(feature = "legacy-ciphers")]
    ("cast5-cbc", "daf85e5cc973da6e224d27126e863ce62851ff4f25e15c5c"),
];

fn hex(digits: &str) -> Vec<u8> {
    let pairs = digits.as_bytes().chunks(2);
    pairs
        .map(|pair| {
            u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()
        })
        .collect()
}

fn encrypt(cipher: Cipher, pieces: &[&[u8]]) -> Vec<u8> {
    let mut encryptor = Encryptor::new(cipher, PASSPHRASE.as_bytes(), SALT);
    let mut out = Vec::new();
    for piece in pieces {
        encryptor.update(piece, &mut out);
    }
    encryptor.finish(&mut out);
    out
}

fn decrypt_with(
    cipher: Cipher,
    passphrase: &str,
    pieces: &[&[u8]],
) -> Result<Vec<u8>, CipherError> {
    let mut decryptor = Decryptor::new(cipher, passphrase.as_bytes());
    // What is in the output before stays there.
    let mut out = b"before".to_vec();
    for piece in pieces {
        decryptor.update(piece, &mut out)?;
    }
    decryptor.finish(&mut out)?;
    Ok(out.strip_prefix(b"before").unwrap().to_vec())
}

fn decrypt(cipher: Cipher, pieces: &[&[u8]]) -> Result<Vec<u8>, CipherError> {
    decrypt_with(cipher, PASSPHRASE, pieces)
}

fn error(stream: &[u8]) -> String {
    decrypt(Cipher::Aes256, &[stream]).unwrap_err().to_string()
}

/// `openssl enc`, both ways.
fn openssl(
    cipher: Cipher,
    passphrase: &str,
    way: &str,
    data: &[u8],
) -> Vec<u8> {
    let mut command = Command::new("openssl");
    command.args(["enc", way, &format!("-{cipher}"), "-md", "md5"]);
    if ["bf-cbc", "cast5-cbc"].contains(&cipher.name()) {
        // In openssl 3 with its legacy provider only.
        command.args(["-provider", "legacy", "-provider", "default"]);
    }
    command.args(["-pass", &format!("pass:{passphrase}")]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl is needed: install the package openssl");
    let mut stdin = child.stdin.take().unwrap();
    let data = data.to_vec();
    let writer = thread::spawn(move || stdin.write_all(&data).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success(), "openssl enc -{cipher}: {output:?}");
    output.stdout
}

#[test]
fn fixed_vectors() {
    assert_eq!(VECTORS.len(), Cipher::ALL.len());
    for (cipher, (name, body)) in Cipher::ALL.iter().zip(VECTORS) {
        assert_eq!(cipher.name(), *name);
        let stored = [&b"Salted__"[..], &SALT, &hex(body)].concat();
        assert_eq!(encrypt(*cipher, &[DATA]), stored, "{name}");
        assert_eq!(decrypt(*cipher, &[&stored]).unwrap(), DATA, "{name}");
    }
}

//= spec/format3.md#the-key-of-a-stream
#[test]
fn openssl_reads_and_writes_the_same() {
    for cipher in Cipher::ALL {
        for length in [0, 1, 7, 8, 15, 16, 17, 4096, 100_001] {
            let data: Vec<u8> =
                (0..length).map(|i: u32| (i % 251) as u8).collect();
            let theirs = openssl(*cipher, PASSPHRASE, "-e", &data);
            assert_eq!(decrypt(*cipher, &[&theirs]).unwrap(), data, "{cipher}");
            let ours = encrypt(*cipher, &[&data]);
            let theirs = openssl(*cipher, PASSPHRASE, "-d", &ours);
            assert_eq!(theirs, data, "{cipher}");
        }
    }
}

#[test]
fn passphrases_of_any_bytes() {
    let long = "l".repeat(300);
    for passphrase in ["x", "zażółć !$'\"\\", &long] {
        let theirs = openssl(Cipher::Aes256, passphrase, "-e", DATA);
        let found = decrypt_with(Cipher::Aes256, passphrase, &[&theirs]);
        assert_eq!(found.unwrap(), DATA, "{passphrase}");
    }
}

#[test]
fn names() {
    for cipher in Cipher::ALL {
        for name in [cipher.name(), &cipher.name().to_uppercase()] {
            assert_eq!(Cipher::from_name(name), Ok(*cipher));
        }
        assert!([8, 16].contains(&cipher.block_bytes()));
    }
    let known: Vec<_> = VECTORS.iter().map(|(name, _)| *name).collect();
    let known = known.join(", ");
    for (name, shown) in [
        ("", ""),
        ("aes-256-ctr", "aes-256-ctr"),
        ("AES256", "AES256"),
        ("rc4\x1b", "rc4\\u{1b}"),
    ] {
        assert_eq!(
            Cipher::from_name(name).unwrap_err().to_string(),
            format!("cipher \"{shown}\": not supported; wanted {known}")
        );
    }
}

#[test]
#[cfg(not(feature = "legacy-ciphers"))]
fn a_build_says_what_it_leaves_out() {
    for name in [
        "des-ede3-cbc",
        "camellia-128-cbc",
        "camellia-192-cbc",
        "camellia-256-cbc",
        "bf-cbc",
        "CAST5-cbc",
    ] {
        assert_eq!(
            Cipher::from_name(name).unwrap_err().to_string(),
            format!(
                "cipher \"{name}\": not in this build; wanted one with the \
                 feature legacy-ciphers"
            )
        );
    }
}

#[test]
fn no_salt() {
    assert_eq!(
        error(b"\x1f\x8b\x08\0\0\0\0\0\0\x03"),
        "encrypted stream: it begins with \
         \"\\u{1f}\\x8b\\u{8}\\u{0}\\u{0}\\u{0}\\u{0}\\u{0}\"; \
         wanted \"Salted__\""
    );
    assert_eq!(
        error(b"Salt!"),
        "encrypted stream: it begins with \"Salt!\"; wanted \"Salted__\""
    );
    // Known at the eighth byte, and not forgotten.
    let mut decryptor = Decryptor::new(Cipher::Aes256, b"x");
    let mut out = Vec::new();
    assert_eq!(decryptor.update(b"Salted_", &mut out), Ok(()));
    let found = b"Salted_-".to_vec();
    let no_salt = Err(CipherError::NoSalt { found });
    assert_eq!(decryptor.update(b"-", &mut out), no_salt);
    assert_eq!(decryptor.update(b"Salted__", &mut out), no_salt);
    assert_eq!(decryptor.finish(&mut out), no_salt);
    assert!(out.is_empty());
}

#[test]
fn truncated_anywhere() {
    let stored = encrypt(Cipher::Aes256, &[DATA]);
    assert_eq!(stored.len(), 48);
    for length in 0..=16 {
        assert_eq!(
            error(&stored[..length]),
            format!("encrypted stream: {length} bytes; wanted 32 at least")
        );
    }
    for length in (17..32).chain(33..48) {
        assert_eq!(
            error(&stored[..length]),
            format!(
                "encrypted stream: {} bytes behind the salt; wanted a multiple \
                 of 16",
                length - 16
            )
        );
    }
    // Without its last block: what is left ends with data.
    assert_eq!(
        error(&stored[..32]),
        "encrypted stream: its last block ends with byte 33; wanted as many \
         equal bytes, 1 to 16, as each of them says"
    );
}

/// Blocks of one's choice, by making the padding a block of its own and
/// leaving it out.
fn with_last_block(last: [u8; 16]) -> Vec<u8> {
    let mut stored = encrypt(Cipher::Aes256, &[&[7; 16], &last]);
    stored.truncate(48);
    stored
}

//= spec/format3.md#padding
#[test]
fn padding() {
    let last = |bytes: &[u8]| {
        let mut last = [7; 16];
        last[16 - bytes.len()..].copy_from_slice(bytes);
        with_last_block(last)
    };
    for (end, shown) in [
        (&[0][..], 0),
        (&[17], 17),
        (&[255], 255),
        (&[1, 2], 2),
        (&[2, 3, 3], 3),
        (&[15; 14], 15),
    ] {
        assert_eq!(
            error(&last(end)),
            format!(
                "encrypted stream: its last block ends with byte {shown}; \
                 wanted as many equal bytes, 1 to 16, as each of them says"
            )
        );
    }
    for (end, length) in [(&[1][..], 31), (&[2, 2], 30), (&[16; 16], 16)] {
        let data = decrypt(Cipher::Aes256, &[&last(end)]).unwrap();
        assert_eq!(data, [7; 32][..length]);
    }
}

#[test]
fn the_last_block_is_kept_back() {
    let stored = encrypt(Cipher::Aes256, &[&[7; 32]]);
    let mut decryptor = Decryptor::new(Cipher::Aes256, PASSPHRASE.as_bytes());
    let mut out = Vec::new();
    let mut sizes = Vec::new();
    for byte in &stored {
        decryptor.update(&[*byte], &mut out).unwrap();
        sizes.push(out.len());
    }
    // Magic and salt 16, then three blocks.
    let wanted = (0..64_usize).map(|at| at.saturating_sub(16) / 16 * 16);
    assert_eq!(sizes, wanted.collect::<Vec<_>>());
    decryptor.finish(&mut out).unwrap();
    assert_eq!(out, [7; 32]);
}

#[test]
fn nothing_secret_is_shown() {
    let decryptor = Decryptor::new(Cipher::Aes256, PASSPHRASE.as_bytes());
    assert_eq!(format!("{decryptor:?}"), "Decryptor(aes-256-cbc, ..)");
    let encryptor = Encryptor::new(Cipher::Aes256, b"x", SALT);
    assert_eq!(format!("{encryptor:?}"), "Encryptor(..)");
}

#[test]
fn a_wrong_passphrase_never_gives_the_data() {
    let stored = encrypt(Cipher::Aes256, &[DATA]);
    for number in 0..300 {
        let passphrase = format!("wrong {number}");
        let found = decrypt_with(Cipher::Aes256, &passphrase, &[&stored]);
        assert_ne!(found.as_deref(), Ok(DATA));
    }
}

/// Data, and where it is cut.
fn cut() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let piece = prop::collection::vec(any::<u8>(), 0..70);
    prop::collection::vec(piece, 0..7)
}

fn slices(pieces: &[Vec<u8>]) -> Vec<&[u8]> {
    pieces.iter().map(|piece| &piece[..]).collect()
}

proptest! {
    /// Both ways, cut in any places: the same as whole.
    #[test]
    fn pieces_of_any_size(
        pieces in cut(), size in 1..70_usize, at in 0..Cipher::ALL.len(),
    ) {
        let (cipher, data) = (Cipher::ALL[at], pieces.concat());
        let stored = encrypt(cipher, &slices(&pieces));
        prop_assert_eq!(&stored, &encrypt(cipher, &[&data]));
        let cut: Vec<_> = stored.chunks(size).collect();
        prop_assert_eq!(decrypt(cipher, &cut).unwrap(), data);
    }

    /// No bytes panic, and how they are cut does not change the answer.
    #[test]
    fn any_bytes(pieces in cut(), salted: bool, at in 0..Cipher::ALL.len()) {
        let cipher = Cipher::ALL[at];
        let head: &[u8] = if salted { b"Salted__" } else { b"" };
        let mut cut = slices(&pieces);
        cut.insert(0, head);
        let whole = cut.concat();
        prop_assert_eq!(decrypt(cipher, &cut), decrypt(cipher, &[&whole]));
    }
}
