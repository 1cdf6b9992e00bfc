//! `.hmac` files: every generation of openssl, every digest, every refusal.

#![cfg(feature = "backup")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may fail loudly"
)]

use std::io::Write as _;
use std::process::{Command, Stdio};

use proptest::prelude::*;
use qubes_fsm::format::hmac::{
    Digest, Guess, Mac, MacText, MacTextError, guess,
};

const KEY: &[u8] = b"correct horse";
const DATA: &[u8] = b"correct data";

/// Of [`DATA`] with [`KEY`], by openssl 3.0.19 (whirlpool: legacy provider).
const VECTORS: [(&str, &str); 17] = [
    (
        "SHA512",
        "69b62cf96b130e76aaa7adb4aa1f0cf21fb1a089f01cd1dd8b4548f75a97ef90\
         695332bfcb07130b3254603850215a5371b8b4f1f611db4c848e355a7be675ad",
    ),
    ("SHA1", "6011537fe0bf23fda930e8280fd492f1d62f1635"),
    (
        "SHA256",
        "2424ed0063c688a225304a91a2e6e5d0d8166c3c298e0d8bb66e2d833bbd58a8",
    ),
    (
        "SHA384",
        "c417411b0ea42cc5d1cd6bc23f459505370252858d0c34dd4d06c3a9d0cf16f5\
         abc469b451eae1280e295dedee74ba45",
    ),
    ("SHA224", "2af134420d9bd4ffe0745a623351b6580f53db1e7c54f4d67b95b940"),
    ("RIPEMD160", "a63a506344d1f2554cd244508cea0c8d9916abd3"),
    ("MD5", "0fd001749baa49c8ad316f3d73823f5a"),
    (
        "whirlpool",
        "4995d8e148cc904e8b067eff570a85e6a22b7d57879a2403134e99b70785afe6\
         a99aed23ff7b23d6f96c74fd37da08ce08ca31a60da4b98495674ff76bafa0ed",
    ),
    (
        "SHA512-256",
        "3ac533c80965555009ef771abcca3868f9684ff50b8e15bbbd6a921a1c49f962",
    ),
    ("SHA512-224", "cbf49abbf92c9dae9cf672249b1ed00dc5d5bff23d89dbd434383980"),
    ("SHA3-224", "8686a09cd91b2c1de83da417be4c35eea28853d47d30148fdac21200"),
    (
        "SHA3-256",
        "00382a704e6003647306cca886b28715d19b105ca2b8c0bde636fb004f3060e8",
    ),
    (
        "SHA3-384",
        "4cb0881223307026bc7dce5fa48e2c9b342f820768f836596fb0f259f07c0bf2\
         a879f05b221ffafa8820d57c18fe1285",
    ),
    (
        "SHA3-512",
        "c31fb53f145e2a48a08f8bb3a3f0643d3412faab29b21af3a3a64e2db44f8a75\
         e2ed126157bb6b65f3b947fd5e2464b17f075c109981dd0604f03731b38467b6",
    ),
    (
        "BLAKE2b512",
        "44d093d3b4083b973ebf7fe17e1705c2f80fd2530947da8083639038ca854f1b\
         af6b8bd3816bc8413b6331dc7fd26cad7376887d09bc4629f8242566cfc82685",
    ),
    (
        "BLAKE2s256",
        "fe16ddab1122904dc826a1ba6f4fa5b8c0fc9c2031c8caa4216121debd695f36",
    ),
    ("SM3", "007174e5b4b41ba2eba44cd6e7eba639c2bb1d85d1797ea3ea1a8fb3589a3d65"),
];

/// What openssl makes of the data.
fn openssl(digest: &str, key: &str, data: &[u8]) -> Vec<u8> {
    let mut command = Command::new("openssl");
    command.arg("dgst");
    if digest == "whirlpool" {
        // In openssl 3 with its legacy provider only.
        command.args(["-provider", "legacy", "-provider", "default"]);
    }
    command.args([&format!("-{}", digest.to_lowercase()), "-hmac", key]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("openssl is needed: install the package openssl");
    // Small: it fits in the pipe.
    child.stdin.take().unwrap().write_all(data).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "openssl dgst -{digest}: {output:?}");
    output.stdout
}

fn text(value: &str) -> MacText {
    MacText::parse(format!("(stdin)= {value}\n").as_bytes()).unwrap()
}

fn mac(digest: Digest, key: &[u8], pieces: &[&[u8]]) -> MacText {
    let mut mac = Mac::new(digest, key);
    for piece in pieces {
        mac.update(piece);
    }
    mac.finish().into()
}

//= spec/format3.md#digests-are-tried-in-one-order
#[test]
fn fixed_vectors_in_the_fixed_order() {
    assert_eq!(VECTORS.len(), Digest::ALL.len());
    for (digest, (name, value)) in Digest::ALL.into_iter().zip(VECTORS) {
        assert_eq!(digest.name(), name);
        assert_eq!(digest.to_string(), name);
        assert_eq!(value.len(), 2 * digest.bytes(), "{name}");
        assert_eq!(mac(digest, KEY, &[DATA]), text(value), "{name}");
        assert_eq!(guess(KEY, DATA, &text(value)), Some(digest));
    }
}

#[test]
fn keys_longer_than_a_block() {
    let key = [b'k'; 200];
    for (digest, value) in [
        (
            Digest::Sha512,
            "3bea04514dec7eac85d846ec90cead0c22ff461ba7250c03635876766055b829\
             aac0109c567fa359e5f177a9e8c30233a682a33467845ac6f966813635668f7a",
        ),
        (Digest::Md5, "033c26afc9bb030281cd23a8890e9b08"),
        (
            Digest::Sha3_512,
            "e7e08f66b7f516467e8a6d147e70ed310c369255a485650e81c7454cd70b2616\
             e4ce1d2d0213406ef0105d7b28410415a9efa3bf366bd3d96912ebff647a83fe",
        ),
        (
            Digest::Blake2b512,
            "6d57f83aca2d737ce6e7e7ad46eb831e25682814b90a765d0949c1051f08b794\
             a7c1fb94c7ba388c066bfcb7efed9d8b7b91c904275bc7927b85a36fb45f0e3e",
        ),
    ] {
        assert_eq!(mac(digest, &key, &[b"x"]), text(value), "{digest}");
    }
}

/// Keys around the sizes of blocks, and data around them, as openssl has it.
//= spec/format3.md#key-and-message
#[test]
fn openssl_says_the_same() {
    for digest in Digest::ALL {
        for (key, data) in [(1, 0), (64, 1), (65, 128), (129, 127), (300, 5000)]
        {
            let key = "kż".repeat(key).chars().take(key).collect::<String>();
            let data = vec![7; data];
            let theirs = openssl(digest.name(), &key, &data);
            let theirs = MacText::parse(&theirs).unwrap();
            assert_eq!(
                mac(digest, key.as_bytes(), &[&data]),
                theirs,
                "{digest}"
            );
            assert_eq!(guess(key.as_bytes(), &data, &theirs), Some(digest));
        }
    }
}

#[test]
fn names_in_any_case() {
    for digest in Digest::ALL {
        let name = digest.name();
        for name in [name, &name.to_lowercase(), &name.to_uppercase()] {
            assert_eq!(Digest::from_name(name), Some(digest));
        }
    }
    assert_eq!(Digest::from_name("rmd160"), Some(Digest::Ripemd160));
    assert_eq!(Digest::from_name("Ripemd"), Some(Digest::Ripemd160));
    for name in ["", "SHA", "SHA-512", "RSA-SHA512", "scrypt", "SHA512 "] {
        assert_eq!(Digest::from_name(name), None, "{name}");
    }
}

//= spec/format3.md#text-of-a-code
#[test]
fn every_generation_of_openssl() {
    let value = VECTORS[1].1;
    for label in [
        "(stdin)",
        "SHA1(stdin)",
        "SHA2-512(stdin)",
        "SHA2-512/256(stdin)",
        "HMAC-SHA512(backup-header)",
        "HMAC-SHA2-512(a (1)/qubes.xml.000)",
        "HMAC-SHA1(\u{17c}\u{f3}\u{142}w)",
        "()",
    ] {
        for end in ["\n", "\r\n", ""] {
            let found =
                MacText::parse(format!("{label}= {value}{end}").as_bytes());
            assert_eq!(found, Ok(text(value)), "{label}{end:?}");
        }
    }
    // A name need not be UTF-8.
    let bytes = [b"SHA1(\xff)= ", value.as_bytes()].concat();
    assert_eq!(MacText::parse(&bytes), Ok(text(value)));
}

#[test]
fn the_oldest_text_is_written() {
    let written = mac(Digest::Sha512, KEY, &[DATA]).to_text();
    assert_eq!(written.len(), 138);
    assert_eq!(written, format!("(stdin)= {}\n", VECTORS[0].1).as_bytes());
    assert_eq!(MacText::parse(&written).unwrap(), text(VECTORS[0].1));
}

/// A backup of format 4 is not a damaged one.
#[test]
fn what_scrypt_encrypts_is_named() {
    let text = [&b"scrypt\0\x0a\0\0\0\x08"[..], &[b'='; 86], b"\n\n"].concat();
    let error = MacText::parse(&text).unwrap_err();
    assert_eq!(error, MacTextError::Scrypt);
    assert_eq!(
        error.to_string(),
        "hmac text: encrypted by scrypt, as in format 4; wanted format 3"
    );
    assert!(matches!(
        MacText::parse(b"scrypt= 00").unwrap_err(),
        MacTextError::Label { .. }
    ));
}

#[test]
fn refusals() {
    let value = VECTORS[1].1;
    let label = |label: &str| {
        format!(
            "hmac text: label \"{label}\"; wanted \"(NAME)\", \"DIGEST(NAME)\" \
             or \"HMAC-DIGEST(NAME)\""
        )
    };
    let bad = |value: &str| {
        format!(
            "hmac text: value \"{value}\"; wanted one space and digits 0-9 a-f \
             in lower case"
        )
    };
    let equals = |text: &str, found: u32| {
        format!("hmac text \"{text}\": {found} times \"=\"; wanted it once")
    };
    let upper = value.to_uppercase();
    for (text, expected) in [
        (String::new(), equals("", 0)),
        ("\n".into(), equals("", 0)),
        (value.into(), equals(value, 0)),
        ("(a=b)= 00".into(), equals("(a=b)= 00", 2)),
        ("(stdin)= 00= 00".into(), equals("(stdin)= 00= 00", 2)),
        ("a\nb".into(), "hmac text: 2 lines; wanted one".into()),
        ("(stdin)= 00\n\n".into(), "hmac text: 2 lines; wanted one".into()),
        (format!("= {value}"), label("")),
        (format!("stdin= {value}"), label("stdin")),
        (format!("SHA 1(stdin)= {value}"), label("SHA 1(stdin)")),
        (format!("(stdin) = {value}"), label("(stdin) ")),
        (format!("(= {value}"), label("(")),
        (format!("(\x1b[1m)= {value}"), label("(\\u{1b}[1m)")),
        (format!("(stdin)={value}"), bad(value)),
        (format!("(stdin)=  {value}"), bad(&format!("  {value}"))),
        (format!("(stdin)= {value} "), bad(&format!(" {value} "))),
        (format!("(stdin)= {upper}"), bad(&format!(" {upper}"))),
        (format!("(stdin)= {value}\r\r\n"), bad(&format!(" {value}\\u{{d}}"))),
        ("(stdin)= ".into(), bad(" ")),
        ("(stdin)= 0g".into(), bad(" 0g")),
    ] {
        let error = MacText::parse(text.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), expected, "{text:?}");
    }
    for digits in [1, 2, 31, 33, 39, 41, 126, 127, 130] {
        let text = format!("(stdin)= {}", "0".repeat(digits));
        assert_eq!(
            MacText::parse(text.as_bytes()).unwrap_err().to_string(),
            format!(
                "hmac text: a value of {digits} digits; wanted 32, 40, 56, 64, \
                 96 or 128"
            )
        );
    }
}

#[test]
fn at_most_4096_bytes() {
    let rest = 4096 - "()= ".len() - 40;
    let text = |length| format!("({})= {}", "n".repeat(length), VECTORS[1].1);
    assert!(MacText::parse(text(rest).as_bytes()).is_ok());
    assert_eq!(
        MacText::parse(text(rest + 1).as_bytes()).unwrap_err().to_string(),
        "hmac text: 4097 bytes; wanted 4096 at most"
    );
}

#[test]
fn a_wrong_passphrase_or_changed_data_matches_nothing() {
    for (_, value) in VECTORS {
        assert_eq!(guess(b"wrong horse", DATA, &text(value)), None);
        assert_eq!(guess(b"", DATA, &text(value)), None);
        assert_eq!(guess(KEY, b"correct datb", &text(value)), None);
        // Zeros behind a key are no other key: that is HMAC, not a bug.
        assert!(guess(b"correct horse\0", DATA, &text(value)).is_some());
    }
}

//= spec/format3.md#a-code-is-compared-in-constant-time
#[test]
fn a_value_of_another_length_does_not_match() {
    for digest in Digest::ALL {
        for (_, value) in VECTORS {
            let mut mac = Mac::new(digest, KEY);
            mac.update(DATA);
            let is_own = text(value) == crate::mac(digest, KEY, &[DATA]);
            assert_eq!(mac.verify(&text(value)), is_own);
        }
    }
    // Not even one that is the beginning.
    let mut mac = Mac::new(Digest::Sha512, KEY);
    mac.update(DATA);
    assert!(!mac.verify(&text(&VECTORS[0].1[..64])));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Pieces of any size give the same value, and the same guess.
    #[test]
    fn pieces_of_any_size(
        pieces in prop::collection::vec(
            prop::collection::vec(any::<u8>(), 0..150), 0..8),
        at in 0..Digest::ALL.len(),
    ) {
        let (digest, whole) = (Digest::ALL[at], pieces.concat());
        let pieces: Vec<_> = pieces.iter().map(|piece| &piece[..]).collect();
        let value = mac(digest, KEY, &[&whole]);
        prop_assert_eq!(&mac(digest, KEY, &pieces), &value);
        let mut guess = Guess::new(KEY);
        for piece in pieces {
            guess.update(piece);
        }
        prop_assert_eq!(guess.finish(&value), Some(digest));
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = MacText::parse(&bytes);
        let _ = MacText::parse(&[b"(stdin)= ", &bytes[..]].concat());
    }

    /// One changed byte is refused, or is another value, or only in the label.
    #[test]
    fn a_changed_byte_never_matches(at in 0..138_usize, byte: u8) {
        let mut bytes = mac(Digest::Sha512, KEY, &[DATA]).to_text();
        prop_assume!(bytes[at] != byte);
        bytes[at] = byte;
        if let Ok(changed) = MacText::parse(&bytes) {
            let is_same = guess(KEY, DATA, &changed).is_some();
            prop_assert_eq!(is_same, at < 7);
        }
    }
}
