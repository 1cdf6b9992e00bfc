//! Bits flipped, members missing, doubled, exchanged, renamed: what happens to
//! an archive on its way, and what can be done to it without the passphrase.

use qubes_fsm::backup::decode::DecodeError;
use qubes_fsm::backup::read::ReadError;
use qubes_fsm::format::chunk::ChunkNameError;
use qubes_fsm::format::cipher::CipherError;
use qubes_fsm::format::compression::CompressionError;
use qubes_fsm::format::manifest::ManifestError;
use qubes_fsm::format::tar::TarError;

use crate::row::{Row, Want, check};
use crate::writer::{FILES, Made, Piece, Recipe, STORE, image, one};

const IMAGE_LOST: Want = Want::Lost(&["vm5/private.img"]);

const NOT_LISTED: Want =
    refused!(ReadError::Manifest(ManifestError::MemberMissing { .. }), 15, 0);

const OTHER_DATA: Want =
    refused!(ReadError::Manifest(ManifestError::MemberDigest { .. }), 13, 0);

/// A member of an undamaged archive.
struct Member {
    name: String,
    /// Which file it is a chunk of, or the code of one.
    file: Option<&'static str>,
    /// Files before this one.
    before: usize,
    is_mac: bool,
    is_first: bool,
}

fn members() -> Vec<Member> {
    let made = Recipe::new(false, false).make();
    let member = |piece: &Piece| {
        let name = String::from_utf8(piece.name.clone()).unwrap();
        let file = FILES.iter().position(|file| {
            name.strip_prefix(file).is_some_and(|rest| rest.starts_with('.'))
        });
        Member {
            file: file.map(|file| FILES[file]),
            before: file.unwrap_or(0),
            is_mac: name.ends_with(".hmac"),
            is_first: name.contains(".000"),
            name,
        }
    };
    let members: Vec<_> = made.pieces.iter().map(member).collect();
    assert!(members.len() > 25);
    members
}

fn lost(file: &'static str) -> Want {
    Want::Lost(Vec::leak(vec![file]))
}

#[test]
fn nothing_is_wrong_with_what_is_damaged_here() {
    check(&[Row::written("whole", |_| {}, Want::Whole(&[]))]);
}

/// A bit in the data of every member, and a digit of every code: at the
/// first, a middle and the last place.
#[test]
fn flips() {
    let mut rows = Vec::new();
    for member in members() {
        for place in 0..3 {
            let name = member.name.clone();
            let flip = move |made: &mut Made| {
                let at = made.at(&name);
                let data = &mut made.pieces[at].data;
                // The label of a code is looked at elsewhere.
                let label = b"(stdin)= ";
                let is_mac = data.starts_with(label);
                let first = if is_mac { label.len() } else { 0 };
                let last = data.len() - 1 - usize::from(is_mac);
                let byte =
                    &mut data[[first, first.midpoint(last), last][place]];
                *byte = match *byte {
                    b'0' if is_mac => b'1',
                    _ if is_mac => b'0',
                    other => other ^ 0x10,
                };
            };
            let want = match member.file {
                None => refused!(ReadError::Passphrase { .. }, 12, 0),
                Some(_) => refused!(ReadError::Mac { .. }, 13, member.before),
            };
            let name = format!("{} at {place}", member.name);
            let mut row = Row::done(name, flip, want);
            if let Some(file) = member.file.filter(|f| *f != "qubes.xml") {
                row = row.keep(lost(file));
            }
            rows.push(row);
        }
    }
    check(&rows);
}

/// Every member alone: left out, doubled, exchanged with the next.
#[test]
fn members_alone() {
    let mut rows = Vec::new();
    let members = members();
    for (at, member) in members.iter().enumerate() {
        let sequence = |left| refused!(ReadError::Sequence { .. }, 15, left);
        let before = member.before;
        // What follows ends the file before, or nothing does.
        let early = before - usize::from(member.is_first && before > 0);
        let (name, left) = match member.is_mac {
            true => (format!("{} exchanged", member.name), before),
            false => (format!("{} exchanged", member.name), early),
        };
        let exchange = move |made: &mut Made| made.pieces.swap(at, at + 1);
        let is_last = at + 1 == members.len();
        let row = Row::done(name, exchange, sequence(left));
        // There is nothing to exchange the last with, but the manifest.
        rows.push(if is_last { row.only(|case| case.bound) } else { row });

        let name = format!("{} doubled", member.name);
        let double = move |made: &mut Made| {
            made.pieces.insert(at, made.pieces[at].clone());
        };
        rows.push(Row::done(name, double, sequence(before)));

        let name = format!("{} missing", member.name);
        let remove = move |made: &mut Made| {
            made.pieces.remove(at);
        };
        let left = if member.is_mac { before } else { early };
        let row = Row::done(name, remove, sequence(left));
        let cut = refused!(ReadError::Truncated { .. }, 15, left);
        rows.push(if is_last {
            row.when(|case| !case.bound, cut)
        } else {
            row
        });
    }
    check(&rows);
}

/// Chunks, and files, with their codes.
#[test]
fn chunks_and_files() {
    let take = |start: &'static str| {
        move |made: &mut Made| {
            made.take(start);
        }
    };
    let sequence = |left| refused!(ReadError::Sequence { .. }, 15, left);
    let missing =
        |without| refused!(ReadError::Missing { .. }, 15, FILES.len(), without);
    let not_listed = NOT_LISTED;
    check(&[
        Row::done("first chunk", take("vm5/private.img.000"), sequence(0)),
        Row::done("middle chunk", take("vm5/private.img.001"), sequence(1)),
        Row::done(
            "last chunk",
            take("vm5/private.img.003"),
            inner!(DecodeError::Tar(TarError::Truncated { .. }), 15, 1),
        )
        .sealed(inner!(
            DecodeError::CipherTruncated {
                cause: CipherError::BadLength { .. }
            },
            15,
            1
        ))
        .keep(IMAGE_LOST)
        .early(),
        Row::done("qubes.xml", take("qubes.xml"), sequence(0)),
        Row::done("last file", take("dom0-home"), missing(&["dom0-home/user"])),
        Row::done("template", take("vm7"), missing(&["vm7/."])),
        Row::done("only image", take("vm6"), missing(&["vm6/private.img"])),
        Row::done(
            "the image of a qube, not all of it",
            take("vm5/private"),
            Want::Omits(&["vm5/private.img"]),
        )
        .bound(not_listed),
        Row::done(
            "a file that not every qube has: cannot know",
            take("vm5/firewall"),
            Want::Whole(&["vm5/firewall.xml"]),
        )
        .bound(not_listed),
        Row::done(
            "a chunk doubled, with its code",
            |made| {
                let at = made.at("vm5/private.img.001");
                let pair = made.pieces[at..at + 2].to_vec();
                made.pieces.splice(at..at, pair);
            },
            sequence(1),
        ),
        Row::done(
            "a file again, after another",
            |made| {
                let at = made.at("vm5/firewall.xml.000");
                let pair = made.pieces[at..at + 2].to_vec();
                let at = made.at("vm7/..000");
                made.pieces.splice(at..at, pair);
            },
            sequence(3),
        ),
        Row::done(
            "the header again, after qubes.xml",
            |made| {
                let pair = made.pieces[..2].to_vec();
                made.pieces.splice(4..4, pair);
            },
            sequence(0),
        ),
        Row::done(
            "files in another order: cannot know",
            |made| {
                let taken = made.take("vm6");
                let at = made.at("vm5/private.img.000");
                made.pieces.splice(at..at, taken);
            },
            Want::Whole(&[]),
        )
        .bound(refused!(
            ReadError::Manifest(ManifestError::MemberOrder { .. }),
            13,
            0
        )),
        Row::done(
            "qubes.xml after a file",
            |made| {
                let taken = made.take("qubes.xml");
                let at = made.at("vm5/firewall.xml.000");
                made.pieces.splice(at..at, taken);
            },
            sequence(0),
        ),
    ]);
}

/// The names of chunks, with those of their codes.
#[test]
fn renumbered_and_renamed() {
    let rename = |name: &str, old: &'static str, new: &'static str, want| {
        let damage = move |made: &mut Made| made.rename(old, new);
        Row::done(format!("{name}: {new}"), damage, want)
    };
    let sequence = |left| refused!(ReadError::Sequence { .. }, 15, left);
    let canonical =
        refused!(ReadError::Name(ChunkNameError::NotCanonical { .. }), 13, 1);
    let outside = |left| inner!(DecodeError::Outside { .. }, 13, left);
    let not_listed = NOT_LISTED;
    let [first, second, fourth] =
        ["vm5/private.img.000", "vm5/private.img.001", "vm5/private.img.003"];
    let firewall = "vm5/firewall.xml.000";
    check(&[
        rename("gap at the start", first, "vm5/private.img.001", sequence(0)),
        rename("gap", second, "vm5/private.img.002", sequence(1)),
        rename("gap at the end", fourth, "vm5/private.img.004", sequence(1)),
        rename("back", second, "vm5/private.img.000", sequence(1)),
        rename("huge", fourth, "vm5/private.img.4294967295", sequence(1)),
        rename("two digits", second, "vm5/private.img.01", canonical),
        rename("four digits", second, "vm5/private.img.0001", canonical),
        rename(
            "no digits",
            second,
            "vm5/private.img.",
            refused!(ReadError::Name(ChunkNameError::NoNumber { .. }), 13, 1),
        ),
        rename(
            "a sign",
            second,
            "vm5/private.img.+01",
            refused!(ReadError::Name(ChunkNameError::NoNumber { .. }), 13, 1),
        ),
        rename(
            "above 32 bits",
            second,
            "vm5/private.img.4294967296",
            refused!(
                ReadError::Name(ChunkNameError::NumberTooLarge { .. }),
                13,
                1
            ),
        ),
        rename("another file", firewall, "vm5/firewall.xmL.000", outside(2))
            .keep(lost("vm5/firewall.xml_"))
            .bound(outside(0))
            .only(|case| !case.keep_going),
        rename("another qube", firewall, "vm6/firewall.xml.000", outside(2))
            .only(|case| !case.keep_going),
        rename(
            "no qube of qubes.xml, left out: cannot know",
            firewall,
            "vm9/firewall.xml.000",
            Want::Whole(&["vm5/firewall.xml"]),
        )
        .bound(not_listed),
    ]);
}

/// Valid codes under valid names, but not those that belong together.
#[test]
fn exchanged_and_from_other_backups() {
    let exchange = |name: &str, one: &'static str, two: &'static str, want| {
        let damage = move |made: &mut Made| made.exchange(one, two);
        Row::done(name, damage, want)
    };
    /// The same file of the same backup, some days before.
    fn older(made: &Made) -> Made {
        let mut recipe = Recipe::new(made.sealed, false);
        recipe.inner("vm5/private.img", &[]);
        recipe.file("vm5/private.img").inner =
            one(b"vm5/private.img", &image(55));
        recipe.make()
    }
    let corrupt = |left| {
        inner!(
            DecodeError::Compression(CompressionError::Corrupt { .. }),
            13,
            left
        )
    };
    let no_salt =
        inner!(DecodeError::Cipher(CipherError::NoSalt { .. }), 13, 1);
    let [first, second, third] =
        ["vm5/private.img.000", "vm5/private.img.001", "vm5/private.img.002"];
    // In the clear the bytes of an image are what a qube wants them to be.
    let clear = |row: Row| {
        row.bound(OTHER_DATA)
            .sealed(corrupt(1))
            .when(|case| case.sealed && case.keep_going, IMAGE_LOST)
    };
    check(&[
        exchange(
            "the first chunk and the next",
            first,
            second,
            inner!(DecodeError::Tar(TarError::Number { .. }), 13, 1),
        )
        .sealed(no_salt)
        .keep(IMAGE_LOST),
        clear(exchange(
            "chunks of one file in the clear: cannot know",
            second,
            third,
            Want::CannotKnow,
        )),
        clear(Row::done(
            "a chunk twice, instead of the next, in the clear: cannot know",
            move |made| {
                let data = made.pieces[made.at(second)].data.clone();
                made.sign(third, data);
            },
            Want::CannotKnow,
        )),
        clear(Row::done(
            "a chunk of an older backup, in the clear: cannot know",
            move |made| {
                let old = older(made);
                let data = old.pieces[old.at(second)].data.clone();
                made.sign(second, data);
            },
            Want::CannotKnow,
        )),
        Row::done(
            "a file of an older backup: cannot know",
            |made| {
                let old = older(made).take("vm5/private");
                let at = made.at("vm5/private.img.000");
                made.take("vm5/private");
                made.pieces.splice(at..at, old);
            },
            Want::CannotKnow,
        )
        .bound(OTHER_DATA),
        Row::done(
            "qubes.xml of an older backup: cannot know",
            |made| {
                let mut recipe = Recipe::new(made.sealed, false);
                let end = STORE.find("  <QubesAppVm qid=\"6\"").unwrap();
                let text = format!("{}</QubesVmCollection>\n", &STORE[..end]);
                recipe.file("qubes.xml").inner =
                    one(b"qubes.xml", text.as_bytes());
                let old = recipe.make().take("qubes.xml");
                made.pieces.splice(2..4, old);
            },
            Want::CannotKnow,
        )
        .bound(OTHER_DATA),
        Row::done(
            "the images of two qubes",
            |made| {
                let (one, two) = (made.take("vm5/private"), made.take("vm6"));
                let rename = |pieces: Vec<Piece>, qube: &str| {
                    pieces
                        .into_iter()
                        .map(|mut piece| {
                            piece.name[..3].copy_from_slice(qube.as_bytes());
                            piece
                        })
                        .collect::<Vec<_>>()
                };
                let at = made.at("vm7/..000");
                made.pieces.splice(at..at, rename(one, "vm6"));
                let at = made.at("vm5/firewall.xml.000");
                made.pieces.splice(at..at, rename(two, "vm5"));
            },
            inner!(DecodeError::Outside { .. }, 13, 1),
        )
        .keep(Want::Lost(&["vm5/private.img", "vm6/private.img"])),
    ]);
}
