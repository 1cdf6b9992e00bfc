//! The table of manipulations of the manifest, row by row, on archives that
//! our writer made: each is caught, at the place that the table names, and
//! nothing wrong gets its name.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::io::{Cursor, Read as _};

use qubes_fsm::backup::read::{
    Goal, Options, ReadError, read_into, read_seekable_into,
};
use qubes_fsm::backup::report::Report;
use qubes_fsm::backup::tree::Target;

use crate::scene::{FORM, Form, Scene, directory, names, passphrase};
use crate::trees::{Layout, noise, write};
use crate::writer::{Made, PASSPHRASE, Piece, encrypt, gzip, hex, mac, one};

/// Where a reader of a file that can seek notices it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Place {
    /// Before a byte of any chunk is looked at.
    Early,
    /// At a chunk, before its bytes are used: this is not there.
    Chunk(&'static str),
    /// At the manifest, when all else is in place: nothing had promised it.
    Late,
}
use Place::{Chunk, Early, Late};

/// Errors, as their debug text begins.
type Errors = &'static [&'static str];

const DIGEST: Errors = &["Manifest(MemberDigest"];
const MISSING: Errors = &["Manifest(MemberMissing"];
const EXTRA: Errors = &["Manifest(MemberExtra"];
const MAC: Errors = &["Manifest(Mac"];

/// Two backups of two states of one tree.
struct Backups {
    sealed: bool,
    old: Made,
    new: Made,
    /// The new state without a manifest.
    unbound: Made,
}

const SEALED: Form =
    Form { encrypt: true, filter: Some("gzip"), chunk: 9_000, ..FORM };
const CLEAR: Form = Form { chunk: 9_000, ..FORM };

fn scene(seed: usize) -> Scene {
    Scene::with(Layout::Hidden, |from| {
        write(&from.join("vm5/private.img"), &noise(40_000 + seed));
        write(&from.join("vm3/private.img"), &noise(41_000));
    })
}

/// Members of an archive of ours.
fn apart(archive: &[u8], form: Form) -> Made {
    let mut made = Made {
        sealed: form.encrypt,
        bound: form.manifest,
        pieces: Vec::new(),
        bytes: Vec::new(),
    };
    let mut archive = tar::Archive::new(archive);
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path_bytes().into_owned();
        let mut data = Vec::new();
        entry.read_to_end(&mut data).unwrap();
        made.pieces.push(Piece { name, data, raw: None });
    }
    made
}

impl Backups {
    fn new(form: Form) -> Self {
        let (old, new) = (scene(0), scene(1));
        let unbound = Form { manifest: false, ..form };
        Self {
            sealed: form.encrypt,
            old: apart(&old.written(form), form),
            new: apart(&new.written(form), form),
            unbound: apart(&new.written(unbound), unbound),
        }
    }

    /// The text of the manifest of the new one, without its last line.
    fn body(&self) -> String {
        let mut listed = self.new.clone();
        listed.take("backup-manifest");
        let text = listed.manifest(&id(&self.new));
        let text = String::from_utf8(text).unwrap();
        text[..text.rfind("mac=").unwrap()].to_owned()
    }
}

fn id(made: &Made) -> String {
    let header = &made.pieces[made.at("backup-header")].data;
    let header = String::from_utf8(header.clone()).unwrap();
    let id = header.lines().find_map(|l| l.strip_prefix("backup-manifest=1-"));
    id.unwrap().to_owned()
}

fn with_mac(body: &str, key: &[u8]) -> Vec<u8> {
    let value = hex(&mac(key, body.as_bytes()));
    format!("{body}mac={value}\n").into_bytes()
}

fn key(id: &str) -> Vec<u8> {
    [format!("{id}!backup-manifest!").as_bytes(), PASSPHRASE].concat()
}

/// Puts members of the other archive in the place of those here.
fn replace(made: &mut Made, start: &str, other: &Made) {
    let is_one = |piece: &Piece| piece.name.starts_with(start.as_bytes());
    let at = made.pieces.iter().position(is_one).unwrap();
    made.take(start);
    made.pieces.splice(at..at, other.clone().take(start));
}

/// What a whole archive leaves, nothing is there after an early error.
fn run(
    archive: &[u8],
    seekable: bool,
) -> (Result<(), ReadError>, Report, Vec<String>) {
    let to = directory();
    let target = Target::open(to.path(), false).unwrap();
    let goal = Goal::Restore { target, wanted: Vec::new() };
    let options = Options::new(passphrase(), goal);
    let mut report = Report::default();
    let outcome = if seekable {
        read_seekable_into(Cursor::new(archive), options, &mut report)
    } else {
        read_into(archive, options, &mut report)
    };
    (outcome, report, names(to.path()))
}

fn check(
    name: &str,
    damage: impl Fn(&mut Made, &Backups),
    wanted: Errors,
    place: Place,
) {
    for form in [CLEAR, SEALED] {
        let backups = Backups::new(form);
        let mut made = backups.new.clone();
        damage(&mut made, &backups);
        refused(name, &made, wanted, place);
    }
}

fn refused(name: &str, made: &Made, wanted: Errors, place: Place) {
    let name = format!("{name}, {}", made.sealed);
    let archive = made.pack_single();
    let (outcome, report, left) = run(&archive, true);
    let Err(error) = outcome else { panic!("{name}: accepted") };
    let text = format!("{error:?}");
    let is_it = wanted.iter().any(|start| text.starts_with(start));
    assert!(is_it, "{name}: {text}; wanted {wanted:?}");
    let chunks: u32 = report.files.iter().map(|file| file.chunks).sum();
    match place {
        Early => {
            assert_eq!(left, [""; 0], "{name}");
            assert_eq!(chunks, 0, "{name}: {:?}", report.files);
        }
        Chunk(file) => {
            assert!(!left.contains(&file.to_owned()), "{name}: {left:?}");
            assert!(chunks > 0 || left.is_empty(), "{name}: {left:?}");
        }
        Late => {}
    }
    let (outcome, _, left) = run(&archive, false);
    assert!(outcome.is_err(), "{name}: accepted from a pipe");
    if place != Late {
        assert_eq!(left, [""; 0], "{name}: from a pipe");
    }
}

#[test]
fn what_is_not_damaged_is_accepted() {
    for form in [CLEAR, SEALED] {
        let backups = Backups::new(form);
        for made in [&backups.old, &backups.new, &backups.unbound] {
            for seekable in [true, false] {
                let (outcome, _, left) = run(&made.pack_single(), seekable);
                outcome.unwrap();
                assert_eq!(left.len(), 5, "{left:?}");
            }
        }
    }
}

#[test]
fn chunks_at_another_place() {
    let (one, two) = ("vm5/private.img.001", "vm5/private.img.002");
    check("reordered", |made, _| made.exchange(one, two), DIGEST, Chunk("vm5"));
    check(
        "exchanged between qubes",
        |made, _| made.exchange(one, "vm3/private.img.001"),
        DIGEST,
        Chunk("vm3"),
    );
    check(
        "repeated under the next number",
        |made, _| {
            for suffix in ["", ".hmac"] {
                let from = made.at(&format!("{one}{suffix}"));
                let to = made.at(&format!("{two}{suffix}"));
                made.pieces[to].data = made.pieces[from].data.clone();
            }
        },
        DIGEST,
        Chunk("vm5"),
    );
    for (start, top) in [
        ("vm5/private.img.001", "vm5"),
        ("vm5/private.img", "vm5"),
        ("qubes.xml", "qubes.xml"),
    ] {
        check(
            "from another backup",
            |made, backups| {
                let mut old = backups.old.clone();
                if start == "qubes.xml" {
                    // The same size, so that only its digest tells.
                    let at = old.at("qubes.xml.000");
                    let mut data = old.pieces[at].data.clone();
                    let end = data.len() - 1;
                    data[end] ^= 1;
                    old.sign("qubes.xml.000", data);
                }
                replace(made, start, &old);
            },
            &["Manifest(MemberDigest", "Manifest(MemberSize"],
            Chunk(top),
        );
    }
    check(
        "changed and signed again",
        |made, _| {
            let mut data = made.pieces[made.at(one)].data.clone();
            data[77] ^= 1;
            made.sign(one, data);
        },
        DIGEST,
        Chunk("vm5"),
    );
}

#[test]
fn members_that_are_left_out_or_named_otherwise() {
    for start in ["vm5/firewall.xml", "vm5/private.img", "dom0-home", "vm7"] {
        let left_out = |made: &mut Made, _: &Backups| {
            made.take(start);
        };
        check(start, left_out, MISSING, Early);
    }
    check(
        "the last chunk left out",
        |made, _| {
            let mut chunks = made.pieces.iter().filter(|piece| {
                piece.name.starts_with(b"vm5/private.img.")
                    && !piece.name.ends_with(b".hmac")
            });
            let last = chunks.next_back().unwrap().name.clone();
            made.take(std::str::from_utf8(&last).unwrap());
        },
        MISSING,
        Early,
    );
    check(
        "the tail left out, the manifest kept",
        |made, _| {
            let at = made.at("vm7/..000");
            let manifest = made.take("backup-manifest");
            made.pieces.truncate(at);
            made.pieces.extend(manifest);
        },
        MISSING,
        Early,
    );
    let other = "vm5/firewall.xmm.000";
    check(
        "a file renamed",
        |made, _| made.rename("vm5/firewall.xml.000", other),
        MISSING,
        Early,
    );
    check(
        "a qube renamed",
        |made, _| {
            for piece in &mut made.pieces {
                if piece.name.starts_with(b"vm3/") {
                    piece.name[2] = b'4';
                }
            }
        },
        MISSING,
        Early,
    );
}

#[test]
fn members_that_are_added_moved_or_resized() {
    check(
        "a file added",
        |made, backups| {
            let inner = one(b"vm5/added", b"added");
            let stored =
                if backups.sealed { encrypt(&gzip(&inner)) } else { inner };
            made.insert(made.at("vm7/..000"), "vm5/added.000", stored);
        },
        EXTRA,
        Early,
    );
    check(
        "in another order",
        |made, _| {
            let firewall = made.take("vm5/firewall.xml");
            let at = made.at("vm5/private.img.000");
            made.pieces.splice(at..at, firewall);
        },
        &["Manifest(MemberOrder"],
        Early,
    );
    check(
        "size changed and signed again",
        |made, _| {
            let at = made.at("vm5/firewall.xml.000");
            let mut data = made.pieces[at].data.clone();
            data.extend([0; 512]);
            made.sign("vm5/firewall.xml.000", data);
        },
        &["Manifest(MemberSize"],
        Early,
    );
}

#[test]
fn archives_that_are_cut_off() {
    for form in [CLEAR, SEALED] {
        let backups = Backups::new(form);
        let whole = backups.new.pieces.len();
        for count in 0..whole {
            let mut made = backups.new.clone();
            made.pieces.truncate(count);
            let wanted: Errors = &["Manifest(Missing", "Truncated"];
            refused(&format!("{count} members"), &made, wanted, Early);
        }
    }
    check(
        "the manifest removed",
        |made, _| {
            made.take("backup-manifest");
        },
        &["Manifest(Missing"],
        Early,
    );
}

#[test]
fn manifests_and_headers_of_another_backup() {
    for start in ["backup-manifest", "backup-header"] {
        check(
            start,
            |made, backups| replace(made, start, &backups.old),
            &["Manifest(OtherBackup"],
            Early,
        );
    }
    check(
        "both",
        |made, backups| {
            replace(made, "backup-header", &backups.old);
            replace(made, "backup-manifest", &backups.old);
        },
        &["Manifest(MemberDigest", "Manifest(MemberSize"],
        Chunk("vm5"),
    );
    check(
        "header of a backup without manifest, manifest left in",
        |made, backups| replace(made, "backup-header", &backups.unbound),
        &["Manifest(Unpromised"],
        Late,
    );
}

#[test]
fn manifests_that_are_not_last_or_not_one() {
    check(
        "a file behind it",
        |made, _| {
            let home = made.take("dom0-home");
            made.pieces.extend(home);
        },
        &["Manifest(NotLast", "Manifest(MemberMissing"],
        Early,
    );
    check(
        "a file added behind it",
        |made, _| made.push("vm8/added.000", Vec::new()),
        &["Manifest(NotLast"],
        Early,
    );
    check(
        "in two chunks",
        |made, _| {
            let at = made.at("backup-manifest.000");
            let mut data = made.pieces[at].data.clone();
            let tail = data.split_off(1_000);
            made.sign("backup-manifest.000", data);
            made.push("backup-manifest.001", tail);
        },
        &["Manifest(NotOneChunk", "Manifest(Undecodable", "Manifest(Mac"],
        Early,
    );
}

#[test]
fn texts_that_are_forged_or_edited() {
    check(
        "with the passphrase alone",
        |made, backups| {
            made.replace_manifest(&with_mac(&backups.body(), PASSPHRASE));
        },
        MAC,
        Early,
    );
    check(
        "with the key of another backup",
        |made, backups| {
            let key = key(&id(&backups.old));
            made.replace_manifest(&with_mac(&backups.body(), &key));
        },
        MAC,
        Early,
    );
    check(
        "edited, its last line kept",
        |made, backups| {
            let text = with_mac(&backups.body(), &key(&id(made)));
            let text = String::from_utf8(text).unwrap();
            let edited = text.replace("vm5/firewall", "vm5/firewalk");
            assert_ne!(text, edited);
            made.replace_manifest(edited.as_bytes());
        },
        MAC,
        Early,
    );
    // The same with the right key is the manifest: what is refused above is
    // refused for the key.
    for form in [CLEAR, SEALED] {
        let backups = Backups::new(form);
        let mut made = backups.new.clone();
        let text = with_mac(&backups.body(), &key(&id(&made)));
        made.replace_manifest(&text);
        run(&made.pack_single(), true).0.unwrap();
    }
}

/// A qube that has seen an archive has a manifest for it in its image. The
/// next backup puts a valid code on the chunk that it fills.
#[test]
fn a_manifest_that_a_qube_has_in_its_image() {
    let form = Form { chunk: 10_240, ..FORM };
    let mut old = apart(&scene(0).written(form), form);
    let id = id(&old);
    let mut listed = old.clone();
    listed.take("backup-manifest");
    listed.take("vm3");
    let text = String::from_utf8(listed.manifest(&id)).unwrap();
    let text = &text[..text.rfind("mac=").unwrap()];
    let forged = one(b"backup-manifest", &with_mac(text, b"guessed"));
    let size = forged.len().next_multiple_of(10_240);
    let form = Form { chunk: size as u64, ..FORM };
    let tree = |image: &[u8]| {
        Scene::with(Layout::Hidden, |from| {
            write(&from.join("vm5/private.img"), image);
        })
    };
    // Where its data begins in the inner archive.
    let image = noise(3 * size);
    let made = apart(&tree(&image).written(form), form);
    let first = &made.pieces[made.at("vm5/private.img.000")].data;
    let headers = first.windows(64).position(|w| w == &image[..64]).unwrap();
    let mut image = image;
    image[size - headers..][..size].fill(0);
    image[size - headers..][..forged.len()].copy_from_slice(&forged);
    let new = apart(&tree(&image).written(form), form);
    let chunk = new.at("vm5/private.img.001");
    assert!(new.pieces[chunk].data.starts_with(&forged));

    old.take("vm3");
    for (suffix, at) in [("", chunk), (".hmac", chunk + 1)] {
        let here = old.at(&format!("backup-manifest.000{suffix}"));
        old.pieces[here].data = new.pieces[at].data.clone();
    }
    refused("from an image", &old, MAC, Early);
}

#[test]
fn promises_that_are_wrong() {
    let promise = |edit: fn(&str, &str) -> String, wanted: Errors| {
        check(
            "promise",
            |made, _| {
                let id = id(made);
                let at = made.at("backup-header");
                let header = made.pieces[at].data.clone();
                let header = String::from_utf8(header).unwrap();
                let edited = edit(&header, &id);
                assert_ne!(header, edited);
                made.sign("backup-header", edited.into_bytes());
            },
            wanted,
            Early,
        );
    };
    promise(
        |header, _| header.replace("manifest=1-", "manifest=2-"),
        &["Header(PromiseUnknown"],
    );
    promise(
        |header, id| header.replace(id, &id[1..]),
        &["Header(PromiseInvalid"],
    );
    promise(
        |header, id| format!("{header}backup-manifest=1-{id}\n"),
        &["Header(PromiseInvalid"],
    );
}

/// Without a manifest the same are no errors of ours: that is why there is
/// one. What is said then is `not bound`.
#[test]
fn without_a_manifest_most_of_it_is_not_noticed() {
    let backups = Backups::new(CLEAR);
    let mut made = backups.unbound.clone();
    made.take("vm5/firewall.xml");
    let (outcome, report, _) = run(&made.pack_single(), true);
    outcome.unwrap();
    assert!(matches!(
        report.binding,
        qubes_fsm::backup::report::Binding::NotBound
    ));
}
