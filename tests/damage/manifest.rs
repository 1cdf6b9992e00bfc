//! What only a manifest can tell, row by row of the table of manipulations.
//! From a pipe all of it is caught before anything is in place.

use qubes_fsm::backup::decode::DecodeError;
use qubes_fsm::backup::read::{Goal, ReadError, read};
use qubes_fsm::format::manifest::ManifestError;
use qubes_fsm::format::tar::TarError;

use crate::row::{Row, Want, check, options};
use crate::writer::{
    CHUNK, ID, Made, OTHER_ID, PASSPHRASE, Recipe, encrypt, entry, gzip, hex,
    image, link, mac, one,
};

macro_rules! manifest {
    ($variant:ident, $exit:expr) => {
        refused!(ReadError::Manifest(ManifestError::$variant { .. }), $exit, 0)
    };
}

const IMAGE_LOST: Want = Want::Lost(&["vm5/private.img"]);

/// Caught by names and sizes, or by the manifest itself.
fn bound(name: &str, damage: fn(&mut Made), want: Want) -> Row {
    at_chunk(name, damage, want).early()
}

/// Caught where the data is.
fn at_chunk(name: &str, damage: fn(&mut Made), want: Want) -> Row {
    Row::done(name, damage, want).only(|case| case.bound).late(want)
}

/// What is wrong is wrong with the manifest itself, and that is what is said,
/// with `keep_going` too: it is no file that may be left out.
fn in_manifest(name: &str, damage: fn(&mut Made), want: Want) -> Row {
    bound(name, damage, want)
}

/// The same tree as another backup of the same passphrase.
fn other(made: &Made) -> Made {
    let mut recipe = Recipe::new(made.sealed, true);
    recipe.id = OTHER_ID;
    recipe.file("vm5/private.img").inner = one(b"vm5/private.img", &image(55));
    recipe.make()
}

fn replace(made: &mut Made, start: &str, other: &Made) {
    let at = made
        .pieces
        .iter()
        .position(|piece| piece.name.starts_with(start.as_bytes()));
    made.take(start);
    let at = at.unwrap();
    made.pieces.splice(at..at, other.clone().take(start));
}

/// Another text, with the right code around it and a `mac` of this key.
fn with_mac(body: &str, key: &[u8]) -> Vec<u8> {
    let value = hex(&mac(key, body.as_bytes()));
    format!("{body}mac={value}\n").into_bytes()
}

/// The text without its last line.
fn body(made: &Made) -> String {
    let mut listed = made.clone();
    listed.take("backup-manifest");
    let text = String::from_utf8(listed.manifest(ID)).unwrap();
    let end = text.rfind("mac=").unwrap();
    text[..end].to_owned()
}

fn own_key() -> Vec<u8> {
    [format!("{ID}!backup-manifest!").as_bytes(), PASSPHRASE].concat()
}

/// An edit of the text by who knows the key.
fn edited(name: &str, edit: fn(String) -> String, want: Want) -> Row {
    let damage = move |made: &mut Made| {
        let before = body(made);
        let after = edit(before.clone());
        assert_ne!(before, after);
        made.replace_manifest(&with_mac(&after, &own_key()));
    };
    Row::done(name, damage, want).only(|case| case.bound).late(want).early()
}

/// The same, where the text itself is refused.
fn no_text(name: &str, edit: fn(String) -> String) -> Row {
    edited(name, edit, manifest!(Syntax, 13))
}

#[test]
fn members_that_are_not_those_listed() {
    check(&[
        at_chunk(
            "qubes.xml of another backup, changed",
            |made| {
                let mut recipe = Recipe::new(made.sealed, true);
                recipe.store("\"work\"", "\"play\"");
                replace(made, "qubes.xml", &recipe.make());
            },
            manifest!(MemberDigest, 13),
        ),
        at_chunk(
            "a whole file of another backup",
            |made| {
                let other = other(made);
                replace(made, "vm5/private", &other);
            },
            manifest!(MemberDigest, 13),
        ),
        bound(
            "the first file renamed, to no qube",
            |made| {
                made.rename("vm5/firewall.xml.000", "vm8/firewall.xml.000");
            },
            manifest!(MemberMissing, 15),
        ),
        bound(
            "a file added",
            |made| {
                let at = made.at("backup-manifest.000");
                let inner = one(b"vm5/added", b"added");
                let stored =
                    if made.sealed { encrypt(&gzip(&inner)) } else { inner };
                made.insert(at, "vm5/added.000", stored);
            },
            manifest!(MemberExtra, 13),
        ),
        bound(
            "a file added in the middle",
            |made| {
                let at = made.at("vm7/..000");
                let inner = one(b"vm5/added", b"added");
                let stored =
                    if made.sealed { encrypt(&gzip(&inner)) } else { inner };
                made.insert(at, "vm5/added.000", stored);
            },
            manifest!(MemberExtra, 13),
        ),
        bound(
            "a file of no qube added",
            |made| {
                let at = made.at("backup-manifest.000");
                made.insert(at, "vm8/added.000", b"anything".to_vec());
            },
            manifest!(MemberExtra, 13),
        ),
        bound(
            "an empty chunk added",
            |made| {
                let at = made.at("vm5/firewall.xml.000");
                made.insert(at, "vm5/private.img.004", Vec::new());
            },
            manifest!(MemberExtra, 13),
        ),
        bound(
            "two files exchanged",
            |made| {
                let mail = made.take("vm6");
                let at = made.at("vm5/firewall.xml.000");
                made.pieces.splice(at..at, mail);
            },
            manifest!(MemberOrder, 13),
        ),
        bound(
            "zeros more in the last chunk, signed",
            |made| {
                let at = made.at("vm5/private.img.003");
                let mut data = made.pieces[at].data.clone();
                data.extend([0; 512]);
                made.sign("vm5/private.img.003", data);
            },
            manifest!(MemberSize, 13),
        )
        .sealed(inner!(DecodeError::Compression(_), 13, 0))
        .when(|case| case.sealed && case.keep_going, IMAGE_LOST),
        bound(
            "zeros more at the end of a tree, signed",
            |made| {
                let at = made.at("dom0-home/user.000");
                let mut data = made.pieces[at].data.clone();
                data.extend([0; 512]);
                made.sign("dom0-home/user.000", data);
            },
            manifest!(MemberSize, 13),
        )
        .only(|case| case.bound && !case.sealed),
        at_chunk(
            "a chunk changed and signed",
            |made| {
                let at = made.at("vm5/private.img.001");
                let mut data = made.pieces[at].data.clone();
                data[100] ^= 1;
                made.sign("vm5/private.img.001", data);
            },
            manifest!(MemberDigest, 13),
        )
        .only(|case| case.bound && !case.sealed),
    ]);
}

fn no_archive(made: &mut Made) {
    made.sign("backup-manifest.000", b"text".repeat(200));
}

fn cut_off(made: &mut Made) {
    let data = made.pieces[made.at("backup-manifest.000")].data.clone();
    made.sign("backup-manifest.000", data[..900].to_vec());
}

#[test]
fn manifests_that_are_missing_or_misplaced() {
    check(&[
        bound(
            "removed",
            |made| {
                made.take("backup-manifest");
            },
            manifest!(Missing, 15),
        ),
        bound(
            "its code removed",
            |made| {
                made.remove("backup-manifest.000.hmac");
            },
            refused!(ReadError::Truncated { .. }, 15, 0),
        ),
        bound(
            "the manifest removed, its code left",
            |made| {
                made.remove("backup-manifest.000");
            },
            refused!(ReadError::Sequence { .. }, 15, 0),
        ),
        bound(
            "a file behind it",
            |made| {
                let firewall = made.take("vm5/firewall");
                made.pieces.extend(firewall);
            },
            manifest!(NotLast, 13),
        ),
        bound(
            "a file added behind it",
            |made| {
                made.push("vm8/added.000", Vec::new());
            },
            manifest!(NotLast, 13),
        ),
        bound(
            "twice",
            |made| {
                let twice = made.clone().take("backup-manifest");
                made.pieces.extend(twice);
            },
            manifest!(NotLast, 13),
        ),
        bound(
            "a second chunk of it",
            |made| {
                made.push("backup-manifest.001", Vec::new());
            },
            manifest!(NotOneChunk, 13),
        ),
        bound(
            "in two chunks",
            |made| {
                let at = made.at("backup-manifest.000");
                let mut data = made.pieces[at].data.clone();
                let tail = data.split_off(1_000);
                made.sign("backup-manifest.000", data);
                made.push("backup-manifest.001", tail);
            },
            manifest!(NotOneChunk, 13),
        ),
        bound(
            "as chunk 001",
            |made| {
                made.rename("backup-manifest.000", "backup-manifest.001");
            },
            manifest!(NotOneChunk, 13),
        ),
        Row::done(
            "one that nobody promised",
            |made| {
                let text = made.manifest(ID);
                made.push_manifest(&text);
            },
            refused!(ReadError::Manifest(ManifestError::Unpromised), 13, 5),
        )
        .only(|case| !case.bound),
        Row::done(
            "header without promise, manifest left in",
            |made| {
                let mut other = Recipe::new(made.sealed, true).make();
                made.pieces.extend(other.take("backup-manifest"));
            },
            refused!(ReadError::Manifest(ManifestError::Unpromised), 13, 5),
        )
        .only(|case| !case.bound),
        in_manifest(
            "another name in its inner archive",
            |made| {
                let text = body(made);
                let inner =
                    one(b"backup-manifesT", &with_mac(&text, &own_key()));
                let data =
                    if made.sealed { encrypt(&gzip(&inner)) } else { inner };
                made.sign("backup-manifest.000", data);
            },
            inner!(DecodeError::Outside { .. }, 13, 0),
        ),
        in_manifest(
            "a link in its inner archive",
            |made| {
                let to = link(b"backup-manifest", b'2', b"/dev/zero");
                let inner = [to, vec![0; 1_024]].concat();
                let data =
                    if made.sealed { encrypt(&gzip(&inner)) } else { inner };
                made.sign("backup-manifest.000", data);
            },
            inner!(DecodeError::NotOneFile, 13, 0),
        ),
        in_manifest(
            "two files in its inner archive",
            |made| {
                let text = with_mac(&body(made), &own_key());
                let file = entry(b"backup-manifest", b'0', &text);
                let inner = [file.clone(), file, vec![0; 1_024]].concat();
                let data =
                    if made.sealed { encrypt(&gzip(&inner)) } else { inner };
                made.sign("backup-manifest.000", data);
            },
            inner!(DecodeError::NotOneFile, 13, 0),
        ),
        in_manifest(
            "no file in its inner archive",
            |made| {
                let inner = vec![0; 1_024];
                let data =
                    if made.sealed { encrypt(&gzip(&inner)) } else { inner };
                made.sign("backup-manifest.000", data);
            },
            inner!(DecodeError::Empty { .. }, 13, 0),
        ),
        in_manifest(
            "not even an archive",
            no_archive,
            inner!(DecodeError::Tar(_), 13, 0),
        )
        .only(|case| case.bound && !case.sealed),
        in_manifest(
            "not even encrypted",
            no_archive,
            inner!(DecodeError::Cipher(_), 13, 0),
        )
        .only(|case| case.bound && case.sealed),
        // Not cut off by accident, as its code fits: no manifest.
        in_manifest(
            "its inner archive cut off",
            cut_off,
            inner!(DecodeError::Tar(TarError::Truncated { .. }), 13, 0),
        )
        .only(|case| case.bound && !case.sealed),
        in_manifest(
            "its stream cut off",
            cut_off,
            inner!(DecodeError::CipherTruncated { .. }, 13, 0),
        )
        .only(|case| case.bound && case.sealed),
        in_manifest(
            "a bit in its chunk",
            |made| {
                let at = made.at("backup-manifest.000");
                made.pieces[at].data[600] ^= 1;
            },
            refused!(ReadError::Mac { .. }, 13, 0),
        ),
        in_manifest(
            "its code no code",
            |made| {
                let at = made.at("backup-manifest.000.hmac");
                made.pieces[at].data = b"no code".to_vec();
            },
            refused!(ReadError::MacText { .. }, 13, 0),
        ),
    ]);
}

#[test]
fn manifests_of_another_backup() {
    check(&[
        in_manifest(
            "the manifest",
            |made| {
                let other = other(made);
                replace(made, "backup-manifest", &other);
            },
            manifest!(OtherBackup, 13),
        ),
        in_manifest(
            "the header",
            |made| {
                let other = other(made);
                replace(made, "backup-header", &other);
            },
            manifest!(OtherBackup, 13),
        ),
        at_chunk(
            "header and manifest",
            |made| {
                let other = other(made);
                replace(made, "backup-header", &other);
                replace(made, "backup-manifest", &other);
            },
            manifest!(MemberDigest, 13),
        ),
        bound(
            "the whole of another, with a note: cannot know",
            |made| {
                *made = other(made);
            },
            Want::CannotKnow,
        ),
    ]);
}

#[test]
fn texts_that_are_forged_or_edited() {
    fn forged(name: &str, text: fn(&Made) -> Vec<u8>, want: Want) -> Row {
        let damage = move |made: &mut Made| {
            let text = text(made);
            made.replace_manifest(&text);
        };
        let row = Row::done(name, damage, want).only(|case| case.bound);
        row.late(want).early()
    }
    check(&[
        forged(
            "with the passphrase alone, as a qube gets it",
            |made| with_mac(&body(made), PASSPHRASE),
            manifest!(Mac, 13),
        ),
        forged(
            "with the key of another backup",
            |made| {
                let key = format!("{OTHER_ID}!backup-manifest!");
                with_mac(&body(made), &[key.as_bytes(), PASSPHRASE].concat())
            },
            manifest!(Mac, 13),
        ),
        forged(
            "a bit in it",
            |made| {
                let mut text = with_mac(&body(made), &own_key());
                text[200] ^= 1;
                text
            },
            manifest!(Mac, 13),
        ),
        forged(
            "a line left out",
            |made| {
                let text = with_mac(&body(made), &own_key());
                let text = String::from_utf8(text).unwrap();
                let is_kept =
                    |line: &&str| !line.ends_with("vm6/private.img.001");
                let lines: Vec<&str> = text.lines().filter(is_kept).collect();
                (lines.join("\n") + "\n").into_bytes()
            },
            manifest!(Mac, 13),
        ),
        forged(
            "without its last line",
            |made| body(made).into_bytes(),
            manifest!(Mac, 13),
        ),
        forged(
            "a line behind its last",
            |made| {
                let mut text = with_mac(&body(made), &own_key());
                text.extend(b"x\n");
                text
            },
            manifest!(Mac, 13),
        ),
        forged(
            "a mac of another length",
            |made| format!("{}mac=00\n", body(made)).into_bytes(),
            manifest!(Mac, 13),
        ),
        forged("empty", |_| Vec::new(), manifest!(Mac, 13)),
        no_text("a digest in capitals", |text| {
            let line = text.lines().last().unwrap();
            text.replace(line, &line.to_uppercase())
        }),
        no_text("a size with a zero before it", |text| {
            text.replace(" 5000 ", " 05000 ")
        }),
        no_text("a size of 20 digits", |text| {
            text.replace(" 5000 ", " 50000000000000000000 ")
        }),
        edited(
            "a size of u64 that is not so",
            |text| text.replacen(" 5000 ", " 9999999999999999999 ", 1),
            manifest!(MemberSize, 13),
        ),
        no_text("a name with a newline's neighbour", |text| {
            text.replacen(" vm5/", " vm5\t", 1)
        }),
        no_text("a name twice", |text| {
            let last = text.lines().last().unwrap().to_owned();
            format!("{text}{last}\n")
        }),
        no_text("no members", |text| {
            let head: Vec<&str> = text.lines().take(3).collect();
            head.join("\n") + "\n"
        }),
        no_text("an empty line", |text| text + "\n"),
        no_text("another version", |text| {
            text.replacen("manifest=1", "manifest=2", 1)
        }),
        no_text("another digest", |text| text.replacen("sha512", "sha256", 1)),
        edited(
            "a member that is not there",
            |text| {
                let line = text.lines().last().unwrap();
                let line = line.replace("dom0-home/user", "vm5/more");
                format!("{text}{line}\n")
            },
            manifest!(MemberMissing, 15),
        ),
    ]);
}

/// A forged manifest inside of an image of an older backup in the clear, in a
/// chunk with a code of the passphrase: moved to the end, it is refused.
#[test]
fn forged_in_the_image_of_a_qube() {
    fn forge(made: &mut Made) {
        let forged = with_mac(&body(made), PASSPHRASE);
        let forged = one(b"backup-manifest", &forged);
        // The writer cuts this image where the forged manifest begins.
        let mut image = vec![1; 5 * CHUNK - 512];
        image.extend(&forged);
        let mut recipe = Recipe::new(false, false);
        let inner = one(b"vm5/private.img", &image);
        recipe.file("vm5/private.img").inner = inner;
        let mut pair = recipe.make().take("vm5/private.img.005");
        assert!(pair[0].data.starts_with(b"backup-manifest\0"));
        pair[0].name = b"backup-manifest.000".to_vec();
        pair[1].name = b"backup-manifest.000.hmac".to_vec();
        made.take("backup-manifest");
        made.pieces.extend(pair);
    }
    let row = in_manifest("forged by a qube", forge, manifest!(Mac, 13));
    check(&[row.only(|case| case.bound && !case.sealed)]);
}

#[test]
fn promises() {
    let archive = Recipe::new(false, false).make().pack();
    let mut options = options(Goal::Verify);
    options.require_manifest = true;
    let error = read(archive.as_slice(), options).unwrap_err();
    assert!(matches!(error, ReadError::NotBound), "{error}");
    // Stripped of header, promise and manifest it says only "not bound".
    let stripped = Row::done(
        "header of a backup without manifest, manifest removed: cannot know",
        |made| {
            let header = Recipe::new(made.sealed, false).make();
            replace(made, "backup-header", &header);
        },
        Want::Whole(&[]),
    );
    check(&[stripped.only(|case| !case.bound)]);
}
