//! Headers, authentication codes and `qubes.xml` that say something wrong:
//! edited on the way, or signed by who has the passphrase.

use qubes_fsm::backup::decode::DecodeError;
use qubes_fsm::backup::read::{Goal, ReadError, read};
use qubes_fsm::format::cipher::CipherError;
use qubes_fsm::format::compression::CompressionError;
use qubes_fsm::format::document::DocumentError;
use qubes_fsm::format::header::HeaderError;
use qubes_fsm::format::hmac::MacTextError;
use qubes_fsm::format::tar::{PathError, TarError};
use zeroize::Zeroizing;

use crate::row::{Row, Want, check, options};
use crate::writer::{
    Made, PASSPHRASE, Recipe, entry, hex, link, mac, mac_text,
};

#[test]
fn a_wrong_passphrase() {
    for (sealed, bound) in
        [(false, false), (false, true), (true, false), (true, true)]
    {
        let archive = Recipe::new(sealed, bound).make().pack();
        for wrong in [&b"correct hors"[..], b"correct horse\n", b""] {
            let mut options = options(Goal::Verify);
            options.passphrase = Zeroizing::new(wrong.to_vec());
            let error = read(archive.as_slice(), options).unwrap_err();
            assert!(matches!(error, ReadError::Passphrase { .. }), "{error}");
        }
    }
}

/// Edits under the old code: the passphrase seems to be wrong.
#[test]
fn headers_edited_on_the_way() {
    let edited = |name: &str, old: &'static str, new: &'static str| {
        let damage = move |made: &mut Made| {
            let data = &mut made.pieces[0].data;
            let text = String::from_utf8(data.clone()).unwrap();
            assert!(text.contains(old), "{old}");
            *data = text.replacen(old, new, 1).into_bytes();
        };
        Row::done(name, damage, refused!(ReadError::Passphrase { .. }, 12, 0))
    };
    check(&[
        edited("version", "version=3", "version=4"),
        edited("encrypted", "encrypted=False", "encrypted=True")
            .only(|case| !case.sealed),
        edited("not encrypted", "encrypted=True", "encrypted=False")
            .only(|case| case.sealed),
        edited("filter", "filter=gzip", "filter=xz").only(|case| case.sealed),
        edited("digest", "SHA512", "SHA256"),
        edited("a line added", "version=3\n", "version=3\nx=y\n"),
        edited("empty", "version=3\nhmac-algorithm=SHA512\n", ""),
        edited("the promise taken away", "backup-manifest=1-", "x=")
            .only(|case| case.bound),
    ]);
}

/// Edits under a valid code: whoever writes backups may have a bug.
#[test]
fn headers_signed() {
    let edited = |name: &str, old: &'static str, new: &'static str, want| {
        let damage = move |recipe: &mut Recipe| recipe.header(old, new);
        Row::written(name, damage, want)
    };
    macro_rules! header {
        ($variant:ident, $exit:expr) => {
            refused!(ReadError::Header(HeaderError::$variant { .. }), $exit, 0)
        };
    }
    // Some 250 bytes are no block of a tar.
    let tar = inner!(DecodeError::Tar(TarError::Truncated { .. }), 15, 0);
    let crypto = "crypto-algorithm=aes-256-cbc\n";
    let mut rows = vec![
        edited("version 2", "=3", "=2", header!(Unsupported, 14)),
        edited("version 4", "=3", "=4", header!(Unsupported, 14)),
        edited("version 03", "=3", "=03", header!(UnknownVersion, 14)),
        edited("version 99", "=3", "=99", header!(UnknownVersion, 14)),
        edited(
            "no version, as format 2",
            "version=3\n",
            "",
            header!(Unsupported, 14),
        )
        .when(|case| case.bound, header!(Missing, 13)),
        edited(
            "no digest",
            "hmac-algorithm=SHA512\n",
            "",
            header!(Missing, 13),
        ),
        edited("no boolean", "compressed", "x", header!(Missing, 13)),
        edited("another digest", "SHA512", "SHA256", header!(OtherDigest, 13)),
        edited("no such digest", "SHA512", "X", header!(UnknownDigest, 14)),
        edited("maybe", "encrypted=", "encrypted=x", header!(NotBoolean, 13)),
        edited("twice", "=3\n", "=3\nversion=3\n", header!(Duplicate, 13)),
        edited("an empty line", "=3\n", "=3\n\n", header!(EmptyLine, 13)),
        edited("no equals", "=3\n", "=3\nx\n", header!(Equals, 13)),
        edited("two equals", "=3\n", "=3\nx=y=z\n", header!(Equals, 13)),
        edited("blank", "version=", "version =", header!(Key, 13)),
        edited("a NUL", "=3\n", "=3\0\n", header!(NotPrintable, 13)),
        edited(
            "not ASCII",
            "=3\n",
            "=3\nx=\u{e9}\n",
            header!(NotPrintable, 13),
        ),
        edited("of a shell", "gzip", "gzip;id", header!(Value, 13))
            .only(|case| case.sealed),
        edited("no cipher named", crypto, "", header!(Missing, 13))
            .only(|case| case.sealed),
        edited(
            "no filter named",
            "compression-filter=gzip\n",
            "",
            header!(Missing, 13),
        )
        .only(|case| case.sealed),
        edited(
            "a cipher that is unknown",
            "aes-256-cbc",
            "aes-256-ctr",
            refused!(ReadError::Cipher(CipherError::Unknown { .. }), 14, 0),
        )
        .only(|case| case.sealed),
        edited(
            "a filter that is unknown",
            "gzip",
            "sh",
            refused!(
                ReadError::Filter(CompressionError::UnknownFilter { .. }),
                14,
                0
            ),
        )
        .only(|case| case.sealed),
        edited(
            "another filter",
            "gzip",
            "xz",
            inner!(
                DecodeError::Compression(CompressionError::Corrupt { .. }),
                13,
                0
            ),
        )
        .only(|case| case.sealed),
        edited(
            "another key size",
            "aes-256-cbc",
            "aes-128-cbc",
            inner!(
                DecodeError::Compression(CompressionError::Corrupt { .. }),
                13,
                0
            ),
        )
        .only(|case| case.sealed),
        edited(
            "encrypted and is not",
            "encrypted=False",
            "encrypted=True",
            inner!(DecodeError::Cipher(CipherError::NoSalt { .. }), 13, 0),
        )
        .only(|case| !case.sealed),
        edited(
            "not encrypted and is",
            "encrypted=True",
            "encrypted=False",
            inner!(
                DecodeError::Compression(CompressionError::Corrupt { .. }),
                13,
                0
            ),
        )
        .only(|case| case.sealed),
        edited(
            "not compressed and is",
            "compressed=True",
            "compressed=False",
            tar,
        )
        .only(|case| case.sealed),
        Row::written(
            "4,097 bytes",
            |recipe| {
                let length = recipe.header.len();
                recipe.header.extend(b"x=");
                recipe.header.resize(4_096, b'y');
                recipe.header.push(b'\n');
                assert!(length < 4_000);
            },
            refused!(ReadError::TooLarge { .. }, 17, 0),
        ),
    ];
    for (name, promise, want) in [
        ("malformed", "1-00\n", header!(PromiseInvalid, 13)),
        (
            "in capitals",
            "1-00112233445566778899AABBCCDDEEFF\n",
            header!(PromiseInvalid, 13),
        ),
        (
            "of version 2",
            "2-00112233445566778899aabbccddeeff\n",
            header!(PromiseUnknown, 14),
        ),
    ] {
        rows.push(
            Row::written(
                format!("a promise {name}"),
                move |recipe| {
                    let line = format!("backup-manifest={promise}");
                    recipe.header.extend(line.bytes());
                },
                want,
            )
            .only(|case| !case.bound),
        );
    }
    rows.push(
        Row::written(
            "a promise twice",
            |recipe| {
                let line = format!("backup-manifest=1-{}\n", recipe.id);
                recipe.header.extend(line.bytes());
            },
            header!(PromiseInvalid, 13),
        )
        .only(|case| case.bound),
    );
    check(&rows);
}

/// The texts of codes: one line as openssl writes it, or none.
#[test]
fn codes() {
    fn value() -> String {
        hex(&mac(PASSPHRASE, b"something else"))
    }
    let code = |name: &str, text: fn(&[u8]) -> Vec<u8>, want| {
        let damage = move |made: &mut Made| {
            let at = made.at("vm5/private.img.001");
            made.pieces[at + 1].data = text(&made.pieces[at].data);
        };
        Row::done(name, damage, want)
    };
    macro_rules! text {
        ($variant:ident) => {
            refused!(
                ReadError::MacText { cause: MacTextError::$variant { .. }, .. },
                13,
                1
            )
        };
    }
    let whole = Want::Whole(&[]);
    // No code is no worse than a wrong one.
    let lost = |name: &str, text: fn(&[u8]) -> Vec<u8>, want| {
        code(name, text, want).keep(Want::Lost(&["vm5/private.img"]))
    };
    check(&[
        lost("empty", |_| Vec::new(), text!(Equals)),
        lost("no equals", |_| b"x\n".to_vec(), text!(Equals)),
        lost("a label of nobody", |_| b"x= 00\n".to_vec(), text!(Label)),
        lost("short", |_| b"(stdin)= 00\n".to_vec(), text!(Length)),
        lost("no hex", |_| b"(stdin)= xx\n".to_vec(), text!(Value)),
        lost(
            "capitals",
            |data| mac_text(data).to_ascii_uppercase(),
            text!(Value),
        ),
        lost("two lines", |data| mac_text(data).repeat(2), text!(Lines)),
        code(
            "4,097 bytes",
            |_| vec![b'x'; 4_097],
            refused!(ReadError::TooLarge { .. }, 17, 1),
        ),
        code(
            "of other data",
            |_| format!("(stdin)= {}\n", value()).into_bytes(),
            refused!(ReadError::Mac { .. }, 13, 1),
        )
        .keep(Want::Lost(&["vm5/private.img"])),
        code(
            "of another digest",
            |_| {
                b"SHA1(stdin)= 0000000000000000000000000000000000000000\n"
                    .to_vec()
            },
            refused!(ReadError::Mac { .. }, 13, 1),
        )
        .keep(Want::Lost(&["vm5/private.img"])),
        // Nothing binds the label, and nothing depends on it.
        code(
            "another label: cannot know, means nothing",
            |data| {
                [b"HMAC-SHA1(a file)".to_vec(), mac_text(data)[7..].to_vec()]
                    .concat()
            },
            whole,
        ),
    ]);
}

#[test]
fn documents() {
    let document = |name: &str, text: &'static str, want| {
        let damage = move |recipe: &mut Recipe| {
            let text = [entry(b"qubes.xml", b'0', text.as_bytes())];
            recipe.inner("qubes.xml", &text);
        };
        Row::written(name, damage, want)
    };
    macro_rules! document {
        ($variant:ident, $exit:expr) => {
            refused!(
                ReadError::Document(DocumentError::$variant { .. }),
                $exit,
                0
            )
        };
    }
    let edited = |name: &str, old: &'static str, new: &'static str, want| {
        let damage = move |recipe: &mut Recipe| recipe.store(old, new);
        Row::written(name, damage, want)
    };
    let path = "\"vm5\"";
    check(&[
        document("empty", "", document!(Malformed, 13)),
        document("cut", "<QubesVmCollection><a", document!(Malformed, 13)),
        document("another root", "<a/>", document!(UnknownRoot, 14)),
        document(
            "latin1",
            "<?xml version='1.0' encoding='latin1'?><a/>",
            document!(Encoding, 14),
        ),
        document(
            "entities",
            "<!DOCTYPE a [<!ENTITY b 'cc'>]><a>&b;</a>",
            document!(Doctype, 14),
        ),
        edited(
            "not UTF-8 by its mark",
            "<QubesVmCollection",
            "\u{0}<QubesVmCollection",
            document!(Encoding, 14),
        ),
        edited(
            "a qube twice",
            "\"mail\"",
            "\"work\"",
            document!(DuplicateQube, 13),
        ),
        edited(
            "an attribute twice",
            "qid=\"6\"",
            "qid=\"6\" qid=\"6\"",
            document!(Malformed, 13),
        ),
        edited(
            "a path to above",
            path,
            "\"../../evil\"",
            inner!(DecodeError::Path(PathError::Parent { .. }), 13, 0),
        ),
        edited(
            "an absolute path",
            path,
            "\"/etc\"",
            inner!(DecodeError::Path(PathError::Absolute { .. }), 13, 0),
        ),
        edited(
            "no path",
            path,
            "\"\"",
            inner!(DecodeError::Path(PathError::Absolute { .. }), 13, 0),
        ),
        Row::written(
            "a link instead",
            |recipe| {
                let to = [link(b"qubes.xml", b'2', b"/etc/passwd")];
                recipe.inner("qubes.xml", &to);
            },
            inner!(DecodeError::NotOneFile, 13, 0),
        ),
        Row::written(
            "two files",
            |recipe| {
                let file = entry(b"qubes.xml", b'0', b"<a/>");
                recipe.inner("qubes.xml", &[file.clone(), file]);
            },
            inner!(DecodeError::NotOneFile, 13, 0),
        ),
        Row::written(
            "another name",
            |recipe| {
                let file = [entry(b"qubes.xmL", b'0', b"<a/>")];
                recipe.inner("qubes.xml", &file);
            },
            inner!(DecodeError::Outside { .. }, 13, 0),
        ),
        Row::written(
            "no file",
            |recipe| recipe.inner("qubes.xml", &[]),
            inner!(DecodeError::Empty { .. }, 13, 0),
        ),
        Row::written(
            "16 MiB and a byte",
            |recipe| {
                let text = vec![b' '; (16 << 20) + 1];
                let file = [entry(b"qubes.xml", b'0', &text)];
                recipe.inner("qubes.xml", &file);
            },
            inner!(DecodeError::TooLarge { .. }, 17, 0),
        )
        .only(|case| case.sealed && !case.bound && !case.occupied),
        Row::written(
            "deep",
            |recipe| {
                let text = "<a>".repeat(100_000);
                let text = format!("<QubesVmCollection>{text}");
                let file = [entry(b"qubes.xml", b'0', text.as_bytes())];
                recipe.inner("qubes.xml", &file);
            },
            document!(TooDeep, 17),
        ),
    ]);
}
