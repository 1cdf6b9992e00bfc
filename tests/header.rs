//! `backup-header`: what is read, what is written, every refusal in full.

#![cfg(feature = "backup")]
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use proptest::prelude::*;
use qubes_fsm::format::cipher::Cipher;
use qubes_fsm::format::header::{Header, HeaderError, Version};
use qubes_fsm::format::hmac::Digest;
use qubes_fsm::format::manifest::BackupId;

/// As the writers of 2014 to 2016 made it.
const SHIPPED: &str = "version=3\nhmac-algorithm=SHA512\n\
                       crypto-algorithm=aes-256-cbc\nencrypted=True\n\
                       compressed=True\ncompression-filter=gzip\n";
/// The least that is a header.
const LEAST: &str = "version=3\nhmac-algorithm=SHA1\nencrypted=no\n\
                     compressed=no\n";
const ID: &str = "00112233445566778899aabbccddeeff";

fn parse(text: &str) -> Header {
    Header::parse(text.as_bytes()).unwrap()
}

fn error(text: impl AsRef<[u8]>) -> String {
    Header::parse(text.as_ref()).unwrap_err().to_string()
}

/// [`LEAST`] and one more line.
fn least_and(line: &str) -> String {
    format!("{LEAST}{line}\n")
}

fn id() -> BackupId {
    BackupId::parse(ID.as_bytes()).unwrap()
}

#[test]
fn the_shipped_header_is_read() {
    let header = parse(SHIPPED);
    assert_eq!(header.digest(), Digest::Sha512);
    assert_eq!(header.algorithm(), "SHA512");
    assert!(header.is_encrypted());
    assert_eq!(header.cipher(), Ok(Some(Cipher::Aes256)));
    assert_eq!(header.filter(), Some("gzip"));
    assert_eq!(header.promise(), None);
    assert!(header.ignored().is_empty());
    assert!(!header.is_headerless());
}

#[test]
fn what_writers_write_comes_out_unchanged() {
    let plain = "version=3\nhmac-algorithm=SHA1\n\
                 crypto-algorithm=aes-256-cbc\nencrypted=False\n\
                 compressed=False\n";
    let promised = format!("{plain}backup-manifest=1-{ID}\n");
    // The filter is written even if nothing is compressed.
    let filter = format!("{plain}compression-filter=gzip\n");
    let unknown = format!("{plain}x-a=b, c!\nx-a=d\nbackup-manifest=1-{ID}\n");
    let odd_case = plain.replace("SHA1", "sHa1");
    for text in [SHIPPED, plain, &promised, &filter, &unknown, &odd_case] {
        assert_eq!(parse(text).to_bytes(), text.as_bytes(), "{text}");
    }
}

#[test]
fn a_new_header_has_the_bytes_of_the_original_order() {
    let header = |is_encrypted, filter, promise| {
        let (digest, cipher) = (Digest::Sha512, Cipher::Aes256);
        Header::new(digest, cipher, is_encrypted, filter, promise).unwrap()
    };
    let written = header(true, Some("gzip"), None);
    assert_eq!(written.to_bytes(), SHIPPED.as_bytes());
    assert_eq!(written, parse(SHIPPED));
    let written = header(false, None, Some(id()));
    let text = format!(
        "version=3\nhmac-algorithm=SHA512\ncrypto-algorithm=aes-256-cbc\n\
         encrypted=False\ncompressed=False\nbackup-manifest=1-{ID}\n"
    );
    assert_eq!(String::from_utf8(written.to_bytes()).unwrap(), text);
    assert_eq!(
        Header::new(Digest::Sha1, Cipher::Aes128, true, Some("g z"), None)
            .unwrap_err()
            .to_string(),
        "backup-header line 6: value \"g z\" of compression-filter; wanted \
         only A-Z a-z 0-9 -"
    );
}

#[test]
fn order_case_and_ends_of_lines_are_free() {
    let mut lines: Vec<_> = SHIPPED.lines().collect();
    lines.reverse();
    assert_eq!(parse(&lines.join("\n")), parse(SHIPPED));
    assert_eq!(parse(&SHIPPED.replace('\n', "\r\n")), parse(SHIPPED));
    for (value, is_true) in [
        ("1", true),
        ("true", true),
        ("YES", true),
        ("tRuE", true),
        ("0", false),
        ("False", false),
        ("no", false),
        ("NO", false),
    ] {
        let text =
            SHIPPED.replace("encrypted=True", &format!("encrypted={value}"));
        assert_eq!(parse(&text).is_encrypted(), is_true, "{value}");
    }
}

#[test]
fn names_count_only_where_they_are_used() {
    let header = parse(&least_and("crypto-algorithm=rot13"));
    assert_eq!(header.cipher(), Ok(None));
    let header = parse(&least_and("compression-filter=gzip"));
    assert_eq!(header.filter(), None);
    let header = parse(&SHIPPED.replace("aes-256-cbc", "rot13"));
    assert_eq!(
        header.cipher().unwrap_err().to_string().split(';').next(),
        Some("cipher \"rot13\": not supported")
    );
}

//= spec/format3.md#unknown-keys
#[test]
fn keys_that_mean_nothing_are_kept() {
    let header = parse(&least_and("x=~ !\nx=2\nbackup-id=abc\n="));
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(
        header.ignored(),
        [
            pair("x", "~ !"),
            pair("x", "2"),
            pair("backup-id", "abc"),
            pair("", "")
        ]
    );
}

//= spec/format3.md#keys-that-must-be-there
#[test]
fn the_header_alone_tells_the_version() {
    let two = "hmac-algorithm=SHA1\ncrypto-algorithm=aes-256-cbc\n\
               encrypted=True\ncompressed=False\n";
    let four = "version=4\nencrypted=True\ncompressed=True\n\
                compression-filter=gzip\nhmac-algorithm=scrypt\n\
                backup-id=20161020T123455-1234\n";
    for (text, version, shown) in [
        ("version=1\n", Version::One, "1"),
        (two, Version::Two, "2"),
        ("version=2\n", Version::Two, "2"),
        (four, Version::Four, "4"),
    ] {
        assert_eq!(Version::of(text.as_bytes()), Ok(version));
        assert_eq!(
            Header::parse(text.as_bytes()),
            Err(HeaderError::Unsupported { version })
        );
        assert_eq!(
            error(text),
            format!("backup-header: format version {shown}; wanted 3")
        );
    }
    assert_eq!(Version::of(SHIPPED.as_bytes()), Ok(Version::Three));
    // Not of version 2, which knew neither.
    for line in ["backup-id=1", "backup-manifest=1-0"] {
        assert_eq!(
            error(format!("{two}{line}\n")),
            "backup-header: no version; wanted it in every header"
        );
    }
    for value in ["5", "03", "", "3-1"] {
        assert_eq!(
            error(SHIPPED.replace("version=3", &format!("version={value}"))),
            format!("backup-header: version \"{value}\"; wanted 3")
        );
    }
}

//= spec/format3.md#lines-of-the-header
#[test]
fn bad_lines() {
    for (line, text) in [
        ("", "line 5: it is empty; wanted KEY=VALUE"),
        ("a", "line 5: \"a\" has 0 times \"=\"; wanted it once"),
        ("a=b=c", "line 5: \"a=b=c\" has 2 times \"=\"; wanted it once"),
        ("a b=c", "line 5: key \"a b\"; wanted only A-Z a-z 0-9 -"),
        (
            "crypto-algorithm=a_b",
            "line 5: value \"a_b\" of crypto-algorithm; wanted only A-Z a-z \
             0-9 -",
        ),
        (
            "encrypted=no",
            "line 5: encrypted again, first on line 3; wanted it once",
        ),
        ("a=\x1b", "line 5: byte 0x1b; wanted printable ASCII"),
        ("a=\u{e9}", "line 5: byte 0xc3; wanted printable ASCII"),
        ("a=\r\r", "line 5: byte 0x0d; wanted printable ASCII"),
    ] {
        let found = error(least_and(line));
        assert_eq!(found, format!("backup-header {text}"), "{line:?}");
    }
}

//= spec/format3.md#keys-that-must-be-there
//= spec/format3.md#truth-values
//= spec/format3.md#the-header-names-its-own-digest
#[test]
fn bad_values() {
    for (text, expected) in [
        (String::new(), "no version; wanted it in every header"),
        (
            LEAST.replace("hmac-algorithm=SHA1\n", ""),
            "no hmac-algorithm; wanted it in every header",
        ),
        (
            LEAST.replace("encrypted=no\n", ""),
            "no encrypted; wanted it in every header",
        ),
        (
            LEAST.replace("compressed=no\n", ""),
            "no compressed; wanted it in every header",
        ),
        (
            LEAST.replace("encrypted=no", "encrypted=yes"),
            "no crypto-algorithm; wanted it as encrypted is true",
        ),
        (
            LEAST.replace("compressed=no", "compressed=yes"),
            "no compression-filter; wanted it as compressed is true",
        ),
        (
            LEAST.replace("encrypted=no", "encrypted=maybe"),
            "value \"maybe\" of encrypted; wanted 1, true, yes, 0, false or no",
        ),
        (
            LEAST.replace("SHA1", "MD9"),
            "hmac-algorithm \"MD9\" is not supported; wanted one such as \
             SHA512",
        ),
    ] {
        assert_eq!(error(text), format!("backup-header: {expected}"));
    }
    assert_eq!(
        parse(LEAST).check_digest(Digest::Sha512).unwrap_err().to_string(),
        "backup-header: hmac-algorithm \"SHA1\"; wanted SHA512, which \
         verified the header"
    );
    assert_eq!(parse(LEAST).check_digest(Digest::Sha1), Ok(()));
}

//= spec/format3.md#bytes-of-a-header
#[test]
fn at_most_4096_bytes() {
    let line = |length: usize| format!("x={}\n", "y".repeat(length - 3));
    let rest = 4096 - LEAST.len();
    parse(&format!("{LEAST}{}", line(rest)));
    assert_eq!(
        error(format!("{LEAST}{}", line(rest + 1))),
        "backup-header: 4097 bytes; wanted 4096 at most"
    );
}

//= spec/format3.md#the-promise
#[test]
fn the_promise() {
    let promise = |value: &str| least_and(&format!("backup-manifest={value}"));
    let header = parse(&promise(&format!("1-{ID}")));
    assert_eq!(header.promise(), Some(id()));
    let upper = format!("1-{}", ID.to_uppercase());
    let (long, short) = (format!("1-{ID}0"), format!("1-{}", &ID[1..]));
    let zero = format!("01-{ID}");
    for value in ["", "1", "1-", &upper, &long, &short, &zero, "x-y", "1_2"] {
        assert_eq!(
            error(promise(value)),
            format!(
                "backup-header line 5: promise \"{value}\"; wanted \"1-\" and \
                 32 digits 0-9 a-f, once"
            )
        );
    }
    assert_eq!(
        error(format!(
            "{}backup-manifest=1-{ID}\n",
            promise(&format!("1-{ID}"))
        )),
        format!(
            "backup-header line 6: promise \"1-{ID}\"; wanted \"1-\" and 32 \
             digits 0-9 a-f, once"
        )
    );
    assert_eq!(
        error(promise("2-whatever")),
        "backup-header line 5: promise of a manifest of version 2; wanted \
         version 1"
    );
}

#[test]
fn an_artificial_header_carries_the_digest_and_what_was_told() {
    let told = |cipher, filter| {
        Header::artificial(Digest::Whirlpool, cipher, filter).unwrap()
    };
    let plain = told(None, None);
    assert!(plain.is_headerless() && !plain.is_encrypted());
    assert_eq!(plain.digest(), Digest::Whirlpool);
    assert_eq!((plain.cipher(), plain.filter()), (Ok(None), None));
    assert_eq!(plain.promise(), None);
    let full = told(Some(Cipher::Aes128), Some("gzip"));
    assert_eq!(full.cipher(), Ok(Some(Cipher::Aes128)));
    assert_eq!(full.filter(), Some("gzip"));
    // Read back it is a header like any other.
    let read = Header::parse(&full.to_bytes()).unwrap();
    assert!(!read.is_headerless());
    assert_eq!(read.digest(), full.digest());
}

/// Lines that are nearly right.
fn any_text() -> impl Strategy<Value = String> {
    let key = prop_oneof![
        Just("version"),
        Just("hmac-algorithm"),
        Just("crypto-algorithm"),
        Just("encrypted"),
        Just("compressed"),
        Just("compression-filter"),
        Just("backup-manifest"),
        Just("x"),
        Just(""),
    ];
    let value = prop_oneof![
        Just("3"),
        Just("SHA512"),
        Just("sha1"),
        Just("true"),
        Just("No"),
        Just("1-00112233445566778899aabbccddeeff"),
        Just("="),
        Just("\u{80}"),
    ];
    let end = prop_oneof![Just("\n"), Just("\r\n"), Just("")];
    let lines = prop::collection::vec((key, value, end), 0..9);
    lines.prop_map(|lines| {
        lines
            .iter()
            .map(|(key, value, end)| format!("{key}={value}{end}"))
            .collect()
    })
}

proptest! {
    /// Whatever is accepted is written in a form that says the same, and
    /// that is written to the same bytes again.
    #[test]
    fn what_is_accepted_is_written_back(text in any_text()) {
        if let Ok(header) = Header::parse(text.as_bytes()) {
            let bytes = header.to_bytes();
            let again = Header::parse(&bytes).unwrap();
            prop_assert_eq!(&again, &header);
            prop_assert_eq!(again.to_bytes(), bytes);
        }
    }

    #[test]
    fn lines_in_any_order_mean_the_same(
        lines in Just(SHIPPED.lines().collect::<Vec<_>>()).prop_shuffle(),
    ) {
        prop_assert_eq!(parse(&lines.join("\n")), parse(SHIPPED));
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Header::parse(&bytes);
        let mixed = [SHIPPED.as_bytes(), &bytes].concat();
        let _ = Header::parse(&mixed);
    }

    #[test]
    fn one_changed_byte_never_panics(at in 0..SHIPPED.len(), byte: u8) {
        let mut bytes = SHIPPED.as_bytes().to_vec();
        bytes[at] = byte;
        let _ = Header::parse(&bytes);
    }
}
