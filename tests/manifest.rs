//! The manifest: the worked example, its place, its mac, every difference.

#![cfg(feature = "backup")]
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use proptest::prelude::*;
use qubes_fsm::format::chunk::Member;
use qubes_fsm::format::header::Header;
use qubes_fsm::format::hmac::{Digest, Mac, MacValue};
use qubes_fsm::format::manifest::{
    BackupId, Entry, Manifest, ManifestError, Place,
};

const PASSPHRASE: &[u8] = b"correct horse";
const ID: &str = "00112233445566778899aabbccddeeff";
/// MANIFEST.md, "Example".
const HEADER: &str = "version=3\nhmac-algorithm=SHA256\n\
                      crypto-algorithm=aes-256-cbc\nencrypted=False\n\
                      compressed=False\n\
                      backup-manifest=1-00112233445566778899aabbccddeeff\n";
const HEADER_LINE: &str = "\
4053e63defae48a6a8a704b577e76cb2385122a35edd96a32151c80cac3bb568 145 \
backup-header";
const STORE_LINE: &str = "\
78448cd9c922816cca0e7fa07cc108c2aa223f5c950a94dd309b819c3707574b 10240 \
qubes.xml.000";
const IMAGE_LINE: &str = "\
5a2953b12aa0fe59cef82508ee0703f6e225b6ce11f21256836b0f694266d636 10240 \
vm5/private.img.000";
const MAC: &str =
    "0c8dbdb56139c675eb09649744f9a34337f103305b8444cc436d3fa44bfa58e9";

fn header() -> Header {
    Header::parse(HEADER.as_bytes()).unwrap()
}

fn without_promise() -> Header {
    let text = HEADER.replace(&format!("backup-manifest=1-{ID}\n"), "");
    Header::parse(text.as_bytes()).unwrap()
}

fn head() -> String {
    format!("backup-manifest=1\nbackup-id={ID}\nhmac-algorithm=sha256\n")
}

/// The text of the example.
fn example() -> String {
    let body = [HEADER_LINE, STORE_LINE, IMAGE_LINE].join("\n");
    format!("{}{body}\nmac={MAC}\n", head())
}

fn hmac(key: &[u8], data: &[u8]) -> MacValue {
    let mut mac = Mac::new(Digest::Sha256, key);
    mac.update(data);
    mac.finish()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A text with a mac that fits, whatever it says.
fn signed(body: impl AsRef<[u8]>) -> Vec<u8> {
    let key = [ID.as_bytes(), b"!backup-manifest!", PASSPHRASE].concat();
    let mac = hex(hmac(&key, body.as_ref()).bytes());
    [body.as_ref(), format!("mac={mac}\n").as_bytes()].concat()
}

fn parse(text: impl AsRef<[u8]>) -> Result<Manifest, ManifestError> {
    Manifest::parse(text.as_ref(), &header(), PASSPHRASE)
}

fn error(text: impl AsRef<[u8]>) -> String {
    parse(text).unwrap_err().to_string()
}

const BAD_MAC: &str = "manifest: its mac does not fit; wanted a text made by \
                       this backup's writer";

#[test]
fn the_example_to_the_last_digit() {
    assert_eq!(HEADER.len(), 145);
    let mac = hmac(PASSPHRASE, HEADER.as_bytes());
    assert_eq!(hex(mac.bytes()), HEADER_LINE[..64]);
    let key = b"00112233445566778899aabbccddeeff!backup-manifest!correct horse";
    let body = example().replace(&format!("mac={MAC}\n"), "");
    assert_eq!(hex(hmac(key, body.as_bytes()).bytes()), MAC);
    assert_eq!(signed(&body), example().as_bytes());

    let manifest = parse(example()).unwrap();
    assert_eq!(manifest.id().to_string(), ID);
    assert_eq!(format!("{:?}", manifest.id()), format!("BackupId({ID})"));
    let found: Vec<_> = manifest
        .entries()
        .iter()
        .map(|entry| {
            let name = String::from_utf8(entry.name.clone()).unwrap();
            format!("{} {} {name}", hex(&entry.mac), entry.size)
        })
        .collect();
    assert_eq!(found, [HEADER_LINE, STORE_LINE, IMAGE_LINE]);
    assert_eq!(manifest.entries()[0].check_mac(&mac), Ok(()));
    assert_eq!(manifest.to_text(PASSPHRASE).unwrap(), example().as_bytes());

    // And written anew.
    let mut written = Manifest::new(&header()).unwrap();
    for entry in manifest.entries() {
        written.push(entry.clone()).unwrap();
    }
    assert_eq!(written, manifest);
    assert_eq!(written.to_text(PASSPHRASE).unwrap(), example().as_bytes());
}

#[test]
fn ids() {
    assert_eq!(BackupId::new([0xab; 16]).to_string(), "ab".repeat(16));
    for digits in ["", "0", &ID[1..], &format!("{ID}00"), &ID.to_uppercase()] {
        assert_eq!(BackupId::parse(digits.as_bytes()), None, "{digits}");
    }
}

//= spec/format3.md#key-of-the-manifest
#[test]
fn no_line_is_used_before_the_mac_fits() {
    let text = example();
    let other_key = |key: &[u8]| {
        let body = text.replace(&format!("mac={MAC}\n"), "");
        format!("{body}mac={}\n", hex(hmac(key, body.as_bytes()).bytes()))
    };
    for edited in [
        String::new(),
        "\n".into(),
        format!("mac={MAC}\n"),
        "nonsense\nmac=00\n".into(),
        // Bad lines, which are not even looked at.
        text.replace("10240 vm5", "10240  vm5"),
        text.replace("10240", "10241"),
        text.replace(&format!("{IMAGE_LINE}\n"), ""),
        text.replace("backup-manifest=1", "backup-manifest=2"),
        // The last line.
        text.replace(MAC, &MAC.to_uppercase()),
        text.replace(MAC, &MAC[2..]),
        text.replace(MAC, &format!("{MAC}00")),
        text.replace("mac=", "MAC="),
        text.trim_end().to_owned(),
        format!("{text}\n"),
        format!("{text}{text}"),
        // With the passphrase alone, which a qube's data gets as well.
        other_key(PASSPHRASE),
        other_key(&[b"!backup-manifest!", PASSPHRASE].concat()),
    ] {
        assert_eq!(error(&edited), BAD_MAC, "{edited:?}");
    }
    let wrong = Manifest::parse(text.as_bytes(), &header(), b"wrong horse");
    assert_eq!(wrong, Err(ManifestError::Mac));
}

#[test]
fn another_backup() {
    let other = "ffeeddccbbaa99887766554433221100";
    let text = format!("manifest: it is of backup {other}; wanted backup {ID}");
    // Its own mac fits its own id.
    let body = example().replace(ID, other);
    assert_eq!(error(&body), text);
    // Even with a mac that fits ours.
    let body = head().replace(ID, other) + HEADER_LINE + "\n";
    assert_eq!(error(signed(body)), text);
}

#[test]
fn without_promise_there_is_none() {
    let text = "manifest: the header promises none; wanted no member of \
                backup-manifest";
    let header = without_promise();
    let found = Manifest::parse(example().as_bytes(), &header, PASSPHRASE);
    assert_eq!(found.unwrap_err().to_string(), text);
    assert_eq!(Manifest::new(&header), Err(ManifestError::Unpromised));
}

//= spec/format3.md#text-of-the-manifest
#[test]
fn the_grammar() {
    let hex = &STORE_LINE[..64];
    let (size, name, line, once) = (
        "a size of 1 to 19 digits, none in front",
        "a name of 1 to 255 bytes without control characters",
        "HEX SIZE NAME, with the length of the digest",
        "every name once",
    );
    let long = "n".repeat(256);
    for (text, expected) in [
        (String::new(), line),
        (hex.into(), size),
        (format!("{hex} 1"), name),
        (format!("{hex} 1 "), name),
        (format!("{hex}  1 a"), size),
        (format!("{} 1 a", &hex[1..]), line),
        (format!("{} 1 a", &hex[2..]), line),
        (format!("{hex}00 1 a"), line),
        (format!("{} 1 a", hex.to_uppercase()), line),
        (format!(" {hex} 1 a"), line),
        (format!("{hex} 01 a"), size),
        (format!("{hex} +1 a"), size),
        (format!("{hex} -1 a"), size),
        (format!("{hex} 00 a"), size),
        (format!("{hex} 10000000000000000000 a"), size),
        (format!("{hex} 1 a\r"), name),
        (format!("{hex} 1 a\x7f"), name),
        (format!("{hex} 1 {long}"), name),
        (format!("{hex} 1 backup-header"), once),
    ] {
        let body = format!("{}{HEADER_LINE}\n{text}\n", head());
        let error = parse(signed(body)).unwrap_err();
        let expected =
            ManifestError::Syntax { line: 5, text: text.into(), expected };
        assert_eq!(error, expected);
    }
    assert_eq!(
        error(signed(format!("{}{HEADER_LINE}\nx\x1b\n", head()))),
        format!("manifest line 5: \"x\\u{{1b}}\"; wanted {line}")
    );
    assert_eq!(
        error(signed(head())),
        format!("manifest line 4: \"\"; wanted {line}")
    );
    // The largest size, the longest name, bytes that are not UTF-8.
    let name = [b"\xff\x80 ", "n".repeat(252).as_bytes()].concat();
    let line = format!("{hex} 9999999999999999999 ");
    let body = [head().as_bytes(), line.as_bytes(), &name, b"\n"].concat();
    let manifest = parse(signed(&body)).unwrap();
    assert_eq!(manifest.entries()[0].size, 9_999_999_999_999_999_999);
    assert_eq!(manifest.entries()[0].name, name);
    assert_eq!(manifest.to_text(PASSPHRASE).unwrap(), signed(&body));
}

#[test]
fn the_head() {
    let lines = head() + HEADER_LINE + "\n";
    let id = "\"backup-id=\" and the id of the header";
    let algorithm = "\"hmac-algorithm=\" and that of the header in lower case";
    for (from, to, line, shown, expected) in [
        ("=1\n", "=2\n", 1, "backup-manifest=2", "\"backup-manifest=1\""),
        (
            "=1\n",
            "=1\r\n",
            1,
            "backup-manifest=1\\u{d}",
            "\"backup-manifest=1\"",
        ),
        ("backup-id=", "Backup-id=", 2, &format!("Backup-id={ID}"), id),
        ("sha256", "SHA256", 3, "hmac-algorithm=SHA256", algorithm),
        ("sha256", "sha512", 3, "hmac-algorithm=sha512", algorithm),
    ] {
        assert_eq!(
            error(signed(lines.replacen(from, to, 1))),
            format!("manifest line {line}: \"{shown}\"; wanted {expected}")
        );
    }
    // All there is.
    assert_eq!(
        error(signed("backup-manifest=1\n")),
        format!("manifest line 2: \"\"; wanted {id}")
    );
}

#[test]
fn at_most_64_mib() {
    let text = vec![b'\n'; (64 << 20) + 1];
    assert_eq!(
        error(&text),
        "manifest: 67108865 bytes; wanted 67108864 at most"
    );
    assert_eq!(error(&text[1..]), BAD_MAC);
}

#[test]
fn what_cannot_be_written() {
    let mut manifest = Manifest::new(&header()).unwrap();
    let member = "HEX SIZE NAME, with the length of the digest";
    assert_eq!(
        manifest.to_text(PASSPHRASE).unwrap_err().to_string(),
        format!("manifest line 4: \"\"; wanted {member}")
    );
    let entry = |mac: &[u8], name: &str| Entry {
        mac: mac.to_vec(),
        size: 1,
        name: name.into(),
    };
    let zeros = "0".repeat(64);
    for (entry, text) in [
        (
            entry(&[0; 20], "a"),
            format!("\"{} 1 a\"; wanted {member}", &zeros[..40]),
        ),
        (
            entry(&[0; 32], ""),
            format!(
                "\"{zeros} 1 \"; wanted a name of 1 to 255 bytes without \
                 control characters"
            ),
        ),
        (
            entry(&[0; 32], "a\nb"),
            format!(
                "\"{zeros} 1 a\\u{{a}}b\"; wanted a name of 1 to 255 bytes \
                 without control characters"
            ),
        ),
    ] {
        assert_eq!(
            manifest.push(entry).unwrap_err().to_string(),
            format!("manifest line 4: {text}")
        );
    }
    let huge = Entry { size: u64::MAX, ..entry(&[0; 32], "a") };
    assert!(manifest.push(huge).is_err());
    assert!(manifest.entries().is_empty());
}

/// Lists and sees members `a`, `b`, ..; the size is the letter.
fn entries(names: &str) -> Vec<Entry> {
    let entry = |name: char| Entry {
        mac: hmac(PASSPHRASE, &[name as u8]).bytes().to_vec(),
        size: u64::from(name),
        name: name.to_string().into(),
    };
    names.chars().map(entry).collect()
}

fn manifest(names: &str) -> Manifest {
    let mut manifest = Manifest::new(&header()).unwrap();
    for entry in entries(names) {
        manifest.push(entry).unwrap();
    }
    manifest
}

fn sizes(seen: &[Entry]) -> Vec<(Vec<u8>, u64)> {
    seen.iter().map(|entry| (entry.name.clone(), entry.size)).collect()
}

//= spec/format3.md#members-are-compared-in-pairs
#[test]
fn members_seen_and_listed() {
    let missing =
        |name| format!("no member \"{name}\"; wanted all that it lists");
    let extra = |name| {
        format!("member \"{name}\" is not listed; wanted only those that are")
    };
    let order = |found, expected| {
        format!("member \"{found}\"; wanted \"{expected}\" at its place")
    };
    for (seen, text) in [
        ("", missing("a")),
        ("bcd", missing("a")),
        ("acd", missing("b")),
        ("abc", missing("d")),
        // Renamed, and the last two left out.
        ("abxd", missing("c")),
        ("ab", missing("c")),
        ("abcde", extra("e")),
        ("xabcd", extra("x")),
        ("abxcd", extra("x")),
        // Twice: the second is not listed.
        ("aabcd", extra("a")),
        ("abbcd", extra("b")),
        ("abcdd", extra("d")),
        ("bacd", order("b", "a")),
        ("abdc", order("d", "c")),
    ] {
        let seen = entries(seen);
        let text = format!("manifest: {text}");
        let manifest = manifest("abcd");
        let found = manifest.compare(&seen).unwrap_err();
        let found = found.to_string();
        assert_eq!(found, text);
        let headers = manifest.compare_headers(&sizes(&seen)).unwrap_err();
        assert_eq!(headers.to_string(), found);
    }
    let whole = entries("abcd");
    assert_eq!(manifest("abcd").compare(&whole), Ok(()));
    assert_eq!(manifest("abcd").compare_headers(&sizes(&whole)), Ok(()));
}

#[test]
fn members_of_other_size_or_data() {
    let manifest = manifest("abcd");
    let mut seen = entries("abcd");
    seen[2].mac = entries("d")[0].mac.clone();
    let text = "manifest: member \"c\": its data is not what was backed up; \
                wanted the data of the listed hmac";
    assert_eq!(manifest.compare(&seen).unwrap_err().to_string(), text);
    // Headers say nothing of data; the member itself does.
    assert_eq!(manifest.compare_headers(&sizes(&seen)), Ok(()));
    let listed = &manifest.entries()[2];
    assert_eq!(listed.check_mac(&hmac(PASSPHRASE, b"c")), Ok(()));
    let found = listed.check_mac(&hmac(PASSPHRASE, b"d")).unwrap_err();
    assert_eq!(found.to_string(), text);
    seen[2].mac.truncate(16);
    assert_eq!(manifest.compare(&seen).unwrap_err().to_string(), text);

    seen[1].size += 1;
    let text = "manifest: member \"b\": 99 bytes; wanted 98";
    assert_eq!(manifest.compare(&seen).unwrap_err().to_string(), text);
    let found = manifest.compare_headers(&sizes(&seen)).unwrap_err();
    assert_eq!(found.to_string(), text);
}

/// Goes through the members of an archive, to its end.
fn place(header: &Header, names: &[&str]) -> Result<Vec<bool>, String> {
    let mut place = Place::new(header);
    let found = names
        .iter()
        .map(|name| place.accept(Member::parse(name.as_bytes()).unwrap()))
        .collect::<Result<_, _>>();
    let found = found.and_then(|found| place.finish().map(|()| found));
    found.map_err(|error| error.to_string())
}

//= spec/format3.md#place-of-the-manifest
#[test]
fn the_place_in_the_archive() {
    let start = ["backup-header", "backup-header.hmac", "a.000", "a.000.hmac"];
    let with = |end: &[&'static str]| [&start[..], end].concat();
    let (own, mac) = ("backup-manifest.000", "backup-manifest.000.hmac");
    let mut is_own = vec![false; 4];
    assert_eq!(place(&without_promise(), &start), Ok(is_own.clone()));
    is_own.extend([true, true]);
    assert_eq!(place(&header(), &with(&[own, mac])), Ok(is_own));

    let unpromised = "the header promises none; wanted no member of \
                      backup-manifest";
    for name in [own, mac, "backup-manifest.001"] {
        let found = place(&without_promise(), &with(&[name]));
        assert_eq!(found, Err(format!("manifest: {unpromised}")));
    }
    let missing = "the archive ends without it; wanted the one that the header \
                   promises";
    let chunks =
        |name| format!("member \"{name}\"; wanted backup-manifest.000 alone");
    let last = |name| {
        format!("member \"{name}\" comes after it; wanted it to be the last")
    };
    for (end, text) in [
        (&[][..], missing.to_owned()),
        (&[mac], missing.to_owned()),
        (&["backup-manifest.001"], chunks("backup-manifest.001")),
        (&[own, mac, "backup-manifest.001"], chunks("backup-manifest.001")),
        (&[own, "b.000"], last("b.000")),
        (&[own, mac, "b.000"], last("b.000")),
        (&[own, mac, "backup-header"], last("backup-header")),
        (&[own, own], last(own)),
        (&[own, mac, own], last(own)),
        (&[own, mac, mac], last(mac)),
    ] {
        let found = place(&header(), &with(end));
        assert_eq!(found, Err(format!("manifest: {text}")), "{end:?}");
    }
    // A file of that name elsewhere is any file.
    assert_eq!(
        place(&without_promise(), &["vm1/backup-manifest.000"]),
        Ok(vec![false])
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_is_written_is_read(
        list in prop::collection::btree_map(
            prop::collection::vec(any::<u8>(), 0..20),
            (prop::array::uniform32(any::<u8>()), any::<u64>()),
            0..8,
        ),
    ) {
        let mut manifest = Manifest::new(&header()).unwrap();
        for (name, (mac, size)) in list {
            let (mac, size) = (mac.to_vec(), size >> 8);
            let _ = manifest.push(Entry { mac, size, name });
        }
        if let Ok(text) = manifest.to_text(PASSPHRASE) {
            prop_assert_eq!(parse(text), Ok(manifest));
        }
    }

    /// One changed byte anywhere is found.
    #[test]
    fn a_changed_byte_is_found(at in 0..example().len(), byte: u8) {
        let mut text = example().into_bytes();
        prop_assume!(text[at] != byte);
        text[at] = byte;
        let is_found = matches!(
            parse(text),
            Err(ManifestError::Mac | ManifestError::OtherBackup { .. })
        );
        prop_assert!(is_found);
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(parse(&bytes).is_err());
        prop_assert!(parse(signed(&bytes)).is_err());
        let _ = parse(signed([head().as_bytes(), &bytes].concat()));
    }

    /// Model: two lists are the same, or they are not.
    #[test]
    fn any_difference_is_found(seen in "[a-f]{0,6}") {
        let found = manifest("abcd").compare(&entries(&seen));
        prop_assert_eq!(found.is_ok(), seen == "abcd");
    }
}
