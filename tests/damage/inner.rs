//! What is inside of a file: ciphers and filters that end wrongly, hostile
//! members of the inner archive, hostile sparse maps.

use qubes_fsm::backup::decode::DecodeError;
use qubes_fsm::backup::read::{Goal, Options, ReadError, read};
use qubes_fsm::backup::tree::{Target, TreeError};
use qubes_fsm::format::cipher::CipherError;
use qubes_fsm::format::compression::CompressionError;
use qubes_fsm::format::tar::{PathError, TarError};

use crate::row::{Row, Want, check, options};
use crate::scene::{directory, facts};
use crate::writer::{
    Recipe, archive, block, body, encrypt, end, entry, gzip, image, link, one,
    pax, sealed, set,
};

const IMAGE: &str = "vm5/private.img";
const PATH: &[u8] = b"vm5/private.img";
const IMAGE_LOST: Want = Want::Lost(&["vm5/private.img"]);
const HOME_LOST: Want = Want::Lost(&["dom0-home/user"]);

/// Another inner archive for an image. `keep_going` leaves that file out.
fn in_image(name: &str, entries: Vec<Vec<u8>>, want: Want) -> Row {
    let damage = move |recipe: &mut Recipe| recipe.inner(IMAGE, &entries);
    Row::written(name, damage, want).keep(IMAGE_LOST)
}

/// Another inner archive for a home directory, the last file.
fn in_home(name: &str, entries: Vec<Vec<u8>>, want: Want) -> Row {
    let damage =
        move |recipe: &mut Recipe| recipe.inner("dom0-home/user", &entries);
    Row::written(name, damage, want).keep(HOME_LOST)
}

fn in_home_below(name: &str, entries: Vec<Vec<u8>>, want: Want) -> Row {
    let top = entry(b"dom0-home/user/", b'5', b"");
    in_home(name, [vec![top], entries].concat(), want)
}

fn file(path: &str) -> Vec<u8> {
    entry(path.as_bytes(), b'0', b"evil")
}

//= spec/format3.md#inner-names-stay-within-the-file
#[test]
fn names_in_an_image() {
    let named =
        |name: &str, path: &str, want| in_image(name, vec![file(path)], want);
    let parent = inner!(DecodeError::Path(PathError::Parent { .. }), 13, 1);
    let outside = inner!(DecodeError::Outside { .. }, 13, 1);
    let absolute = inner!(DecodeError::Path(PathError::Absolute { .. }), 13, 1);
    let long = "n".repeat(4_097);
    check(&[
        named("above", "../evil", parent),
        named("above, behind the own name", "vm5/private.img/../evil", parent),
        named("above, at the end", "vm5/..", parent),
        named("absolute", "/tmp/evil", absolute),
        named("the own name, absolute", "/vm5/private.img", absolute),
        named("another qube's", "vm6/private.img", outside),
        named("another file of the qube", "vm5/firewall.xml", outside),
        named("begins as the own", "vm5/private.imgx", outside),
        named("the directory of the own", "vm5", outside),
        named("other case", "vm5/Private.img", outside),
        named("not the directory", "private.img", outside),
        named("a backslash", "vm5\\private.img", outside),
        named("the document", "qubes.xml", outside),
        named(
            "empty component",
            "vm5//private.img",
            inner!(DecodeError::Path(PathError::EmptyComponent { .. }), 13, 1),
        ),
        named(
            "no name",
            "",
            inner!(DecodeError::Tar(TarError::Name { .. }), 13, 1),
        ),
        named(
            "a dot",
            ".",
            inner!(DecodeError::Path(PathError::Nameless { .. }), 13, 1),
        ),
        in_image(
            "the own, then another",
            vec![entry(PATH, b'0', &image(5)), file("vm6/private.img")],
            outside,
        ),
        in_image(
            "4,097 bytes, by a PAX header",
            vec![pax(&[("path", &long)]), file("x")],
            inner!(DecodeError::Tar(TarError::Limit { .. }), 17, 1),
        ),
        in_image(
            "4,097 bytes, by a GNU header",
            vec![
                entry(b"././@LongLink", b'L', format!("{long}\0").as_bytes()),
                file("x"),
            ],
            inner!(DecodeError::Tar(TarError::Limit { .. }), 17, 1),
        ),
        in_image(
            "another, by a PAX header",
            vec![pax(&[("path", "../evil")]), entry(PATH, b'0', b"evil")],
            parent,
        ),
        in_home_below(
            "256 bytes in a component",
            vec![
                pax(&[("path", &format!("dom0-home/user/{}", &long[..256]))]),
                file("x"),
            ],
            inner!(DecodeError::Tree(TreeError::BadPath { .. }), 13, 5),
        ),
    ]);
}

#[test]
fn kinds_in_an_image() {
    let mut rows = Vec::new();
    for kind in b"3467ABDEGIMNVXYZg" {
        let mut block = block(PATH, *kind, 0);
        if matches!(kind, b'3' | b'4') {
            set(&mut block, 329, b"0000010\0");
            set(&mut block, 337, b"0000001\0");
        }
        let name = format!("type {}", *kind as char);
        let want = inner!(DecodeError::Tar(TarError::Type { .. }), 14, 1);
        rows.push(in_image(&name, vec![sealed(block)], want));
    }
    let no_file = |kind: u8| {
        let mut block = block(PATH, kind, 4);
        set(&mut block, 157, b"x");
        body(sealed(block), b"data")
    };
    let size = inner!(DecodeError::Tar(TarError::SizeOfKind { .. }), 13, 1);
    rows.push(in_image("a directory with data", vec![no_file(b'5')], size));
    rows.push(in_image("a link with data", vec![no_file(b'2')], size));
    rows.push(in_image("a hard link with data", vec![no_file(b'1')], size));
    check(&rows);
}

/// A qube's file, a template and a home are what `qubes.xml` announces, not
/// a link to something else, nor something else.
#[test]
fn kinds_at_the_top() {
    let top = |name: &str, file: &'static str, entry: Vec<u8>, left| {
        let damage = move |recipe: &mut Recipe| {
            recipe.inner(file, std::slice::from_ref(&entry));
        };
        let want = inner!(DecodeError::Kind { .. }, 13, left);
        let lost = Want::Lost(Vec::leak(vec![file]));
        Row::written(format!("{file}: {name}"), damage, want).keep(lost)
    };
    let (rules, home) = ("vm5/firewall.xml", "dom0-home/user");
    check(&[
        top("a link", rules, link(rules.as_bytes(), b'2', b"/etc/passwd"), 2),
        top("a link", IMAGE, link(PATH, b'2', b"../vm6/private.img"), 1),
        top("a hard link", IMAGE, link(PATH, b'1', PATH), 1),
        top("a directory", IMAGE, entry(b"vm5/private.img/", b'5', b""), 1),
        top("a link", "vm7/.", link(b"vm7", b'2', b"vm6"), 4),
        top("a file", "vm7/.", entry(b"vm7", b'0', b"x"), 4),
        top("a link", home, link(home.as_bytes(), b'2', b"/root"), 5),
        top("a file", home, entry(home.as_bytes(), b'0', b"x"), 5),
    ]);
}

#[test]
fn links() {
    let home = |name: &str, entries, want| in_home_below(name, entries, want);
    let twice = inner!(DecodeError::Tree(TreeError::Twice { .. }), 13, 5);
    let target = inner!(DecodeError::Tree(TreeError::LinkTarget { .. }), 13, 5);
    let no_directory =
        inner!(DecodeError::Tree(TreeError::NoDirectory { .. }), 13, 5);
    let (own, below) = ("dom0-home/user/own", "dom0-home/user/own/below");
    let symlink = |to: &[u8]| link(own.as_bytes(), b'2', to);
    let hard = |to: &[u8]| link(own.as_bytes(), b'1', to);
    check(&[
        home(
            "a file through a link to outside",
            vec![symlink(b"/tmp"), file(below)],
            no_directory,
        ),
        home(
            "a file through a link to above",
            vec![symlink(b"../../.."), file(below)],
            no_directory,
        ),
        home("a file over a link", vec![symlink(b"/tmp/x"), file(own)], twice),
        home("a link over a file", vec![file(own), symlink(b"/tmp/x")], twice),
        home(
            "a link twice",
            vec![symlink(b"/tmp/x"), symlink(b"/tmp/y")],
            twice,
        ),
        home(
            "a directory over a link",
            vec![symlink(b"/tmp"), entry(own.as_bytes(), b'5', b"")],
            twice,
        ),
        home(
            "a hard link through a link",
            vec![
                symlink(b"/etc"),
                link(b"dom0-home/user/y", b'1', b"dom0-home/user/own/passwd"),
            ],
            target,
        ),
        home(
            "a hard link to above",
            vec![hard(b"../../../etc/passwd")],
            inner!(DecodeError::Path(PathError::Parent { .. }), 13, 5),
        ),
        home(
            "a hard link to the system",
            vec![hard(b"/etc/passwd")],
            inner!(DecodeError::Path(PathError::Absolute { .. }), 13, 5),
        ),
        home(
            "a hard link to another file of the backup",
            vec![hard(b"vm5/private.img")],
            target,
        ),
        home(
            "a hard link to nothing",
            vec![hard(b"dom0-home/user/no")],
            target,
        ),
        home("a hard link to itself", vec![hard(own.as_bytes())], target),
        home(
            "a hard link to a directory",
            vec![hard(b"dom0-home/user")],
            target,
        ),
        home("a file twice", vec![file(own), file(own)], twice),
        home(
            "a directory, then a file of its name",
            vec![entry(own.as_bytes(), b'5', b""), file(own)],
            twice,
        ),
        home(
            "a file, then a directory of its name",
            vec![file(own), entry(own.as_bytes(), b'5', b"")],
            twice,
        ),
        home("a file below a file", vec![file(own), file(below)], no_directory),
        home(
            "an empty target",
            vec![symlink(b"")],
            inner!(DecodeError::Tar(TarError::Name { .. }), 13, 5),
        ),
        home(
            "a target above 4,096 bytes",
            vec![
                entry(
                    b"././@LongLink",
                    b'K',
                    &[&[b'x'; 4_097][..], b"\0"].concat(),
                ),
                symlink(b"x"),
            ],
            inner!(DecodeError::Tar(TarError::Limit { .. }), 17, 5),
        ),
    ]);
}

/// A symbolic link that is in place already is not followed either. It stays:
/// an archive may hold one.
#[test]
fn a_file_below_a_link_of_another_file() {
    for bits in 0..16 {
        let (is_sealed, bound) = (bits & 1 > 0, bits & 2 > 0);
        // The link in the last place of what leads there, or before it.
        let evil = if bits & 8 > 0 { "sub/evil" } else { "evil" };
        let to = directory();
        let outside = directory();
        std::fs::create_dir(outside.path().join("sub")).unwrap();
        let before = facts(outside.path());
        let link_to = outside.path().to_str().unwrap().as_bytes();
        let mut recipe = Recipe::new(is_sealed, bound);
        // The one file that may be a link.
        let name = "vm5/icon.png";
        let mut icon = recipe.file("vm5/firewall.xml").clone();
        icon.name = name.to_owned();
        icon.inner = archive(&[link(name.as_bytes(), b'2', link_to)]);
        let mut below = icon.clone();
        below.name = format!("{name}/{evil}");
        below.inner = one(below.name.as_bytes(), b"evil");
        recipe.files.splice(3..3, [icon, below]);
        let packed = recipe.make().pack();
        let target = Target::open(to.path(), false).unwrap();
        let goal = Goal::Restore { target, wanted: Vec::new() };
        let keep_going = bits & 4 > 0;
        let options = Options { keep_going, ..options(goal) };
        let text = "at, above or below vm5/icon.png, which is another file";
        let found = match read(packed.as_slice(), options) {
            Err(error) if !keep_going => error.to_string(),
            Ok(report) if keep_going => report.omissions.concat(),
            outcome => panic!("{outcome:?}"),
        };
        assert!(found.contains(text), "{found}");
        assert_eq!(facts(outside.path()), before);
        let left = facts(to.path()).into_keys();
        let left: Vec<_> = left.filter(|l| l.contains("icon")).collect();
        let waits = bound && !keep_going;
        let whole: &[&str] = if waits { &[] } else { &[name] };
        assert_eq!(left, whole);
    }
}

#[test]
fn ends_of_inner_archives() {
    let damaged = |name: &str, damage: fn(Vec<u8>) -> Vec<u8>, want| {
        let damage = move |recipe: &mut Recipe| {
            let inner = recipe.file(IMAGE).inner.clone();
            recipe.file(IMAGE).inner = damage(inner);
        };
        Row::written(name, damage, want).keep(IMAGE_LOST)
    };
    let cut = inner!(DecodeError::Tar(TarError::Truncated { .. }), 15, 1);
    let whole = Want::Whole(&[]);
    check(&[
        damaged(
            "no end mark",
            |inner| inner[..inner.len() - 1_024].to_vec(),
            cut,
        ),
        damaged(
            "half an end mark",
            |inner| inner[..inner.len() - 512].to_vec(),
            cut,
        ),
        damaged(
            "cut in the end mark",
            |inner| inner[..inner.len() - 1].to_vec(),
            cut,
        ),
        damaged("cut in the data", |inner| inner[..9_000].to_vec(), cut),
        damaged("cut in the header", |inner| inner[..100].to_vec(), cut),
        damaged(
            "only an end mark",
            |_| end(),
            inner!(DecodeError::Empty { .. }, 13, 1),
        ),
        damaged(
            "a byte behind the end",
            |inner| [inner, vec![1]].concat(),
            inner!(DecodeError::Tar(TarError::AfterEnd { .. }), 13, 1),
        ),
        damaged(
            "a member behind the end",
            |inner| [inner, one(b"vm5/private.img", b"evil")].concat(),
            inner!(DecodeError::Tar(TarError::AfterEnd { .. }), 13, 1),
        ),
        damaged(
            "zeros, then a member",
            |inner| [vec![0; 512], inner].concat(),
            inner!(DecodeError::Tar(TarError::Structure { .. }), 13, 1),
        ),
        damaged(
            "a bit in a header",
            |mut inner| {
                inner[3] ^= 1;
                inner
            },
            inner!(DecodeError::Tar(TarError::Checksum { .. }), 13, 1),
        ),
        damaged(
            "zeros behind the end: mean nothing",
            |inner| [inner, vec![0; 9_217]].concat(),
            whole,
        )
        .keep(whole),
    ]);
}

#[test]
fn ciphers_and_filters() {
    fn stored(name: &str, damage: fn(&[u8]) -> Vec<u8>, want: Want) -> Row {
        let damage = move |recipe: &mut Recipe| {
            let inner = recipe.file(IMAGE).inner.clone();
            recipe.file(IMAGE).stored = Some(damage(&inner));
        };
        let row = Row::written(name, damage, want).keep(IMAGE_LOST);
        row.only(|case| case.sealed)
    }
    macro_rules! cipher {
        ($variant:ident, $exit:expr) => {
            inner!(DecodeError::Cipher(CipherError::$variant { .. }), $exit, 1)
        };
    }
    macro_rules! cut {
        ($variant:ident) => {
            inner!(
                DecodeError::CipherTruncated {
                    cause: CipherError::$variant { .. }
                },
                15,
                1
            )
        };
    }
    macro_rules! filter {
        ($variant:ident, $exit:expr) => {
            inner!(
                DecodeError::Compression(CompressionError::$variant { .. }),
                $exit,
                1
            )
        };
    }
    check(&[
        stored("nothing at all", |_| Vec::new(), cipher!(Truncated, 15)),
        stored("no salt", gzip, cipher!(NoSalt, 13)),
        stored(
            "only a salt",
            |_| b"Salted__saltsalt".to_vec(),
            cipher!(Truncated, 15),
        ),
        stored(
            "half a salt",
            |_| b"Salted__salt".to_vec(),
            cipher!(Truncated, 15),
        ),
        stored(
            "a byte less",
            |inner| {
                let mut stored = encrypt(&gzip(inner));
                stored.pop();
                stored
            },
            cut!(BadLength),
        ),
        stored(
            "a block less",
            |inner| {
                let stored = encrypt(&gzip(inner));
                stored[..stored.len() - 16].to_vec()
            },
            cut!(BadPadding),
        ),
        // All but the end of the padding is there: what is missing, the
        // bytes do not tell.
        stored(
            "a block less behind the end of the archive",
            |inner| {
                let stored = encrypt(&[gzip(inner), vec![0; 64]].concat());
                stored[..stored.len() - 16].to_vec()
            },
            inner!(
                DecodeError::CipherEnd {
                    cause: CipherError::BadPadding { .. }
                },
                13,
                1
            ),
        ),
        stored(
            "blocks exchanged",
            |inner| {
                let mut stored = encrypt(&gzip(inner));
                let (one, two) = stored[6_416..6_448].split_at_mut(16);
                one.swap_with_slice(two);
                stored
            },
            filter!(Corrupt, 13),
        ),
        stored("encrypted, not compressed", encrypt, filter!(Corrupt, 13)),
        stored(
            "cut before its sum",
            |inner| {
                let zipped = gzip(inner);
                encrypt(&zipped[..zipped.len() - 8])
            },
            filter!(Truncated, 15),
        ),
        stored(
            "cut in the middle",
            |inner| encrypt(&gzip(inner)[..9_000]),
            filter!(Truncated, 15),
        ),
        stored(
            "a bit in its sum",
            |inner| {
                let mut zipped = gzip(inner);
                let sum = zipped.len() - 5;
                zipped[sum] ^= 1;
                encrypt(&zipped)
            },
            filter!(Corrupt, 13),
        ),
        stored(
            "letters behind it",
            |inner| encrypt(&[gzip(inner), b"more".to_vec()].concat()),
            filter!(Corrupt, 13),
        ),
        stored(
            "letters behind zeros",
            |inner| encrypt(&[gzip(inner), b"\0\0more".to_vec()].concat()),
            filter!(Corrupt, 13),
        ),
        stored(
            "another archive behind it",
            |inner| encrypt(&[gzip(inner), gzip(inner)].concat()),
            inner!(DecodeError::Tar(TarError::AfterEnd { .. }), 13, 1),
        ),
    ]);
}

/// An old GNU sparse file of that real size, with these pieces.
fn gnu_sparse(
    pieces: &[(u64, u64)],
    real: u64,
    stored: usize,
    extended: bool,
) -> Vec<u8> {
    let mut block = block(PATH, b'S', stored as u64);
    set(&mut block, 257, b"ustar  \0");
    let octal = |number: u64| format!("{number:011o}\0").into_bytes();
    for (slot, (offset, length)) in pieces.iter().enumerate() {
        set(&mut block, 386 + 24 * slot, &octal(*offset));
        set(&mut block, 398 + 24 * slot, &octal(*length));
    }
    block[482] = u8::from(extended);
    set(&mut block, 483, &octal(real));
    body(sealed(block), &vec![7; stored])
}

/// A sparse file of PAX format 1.0 with this text for a map.
fn pax_sparse(map: &str, real: &str, data: usize) -> Vec<Vec<u8>> {
    let keys = pax(&[
        ("GNU.sparse.major", "1"),
        ("GNU.sparse.minor", "0"),
        ("GNU.sparse.name", IMAGE),
        ("GNU.sparse.realsize", real),
    ]);
    let mut text = map.as_bytes().to_vec();
    text.resize(text.len().next_multiple_of(512), 0);
    text.extend(vec![7; data]);
    vec![keys, entry(b"vm5/GNUSparseFile.0/private.img", b'0', &text)]
}

/// One of PAX format 0.1.
fn pax_01(map: &str, count: &str, real: &str, data: usize) -> Vec<Vec<u8>> {
    let keys = pax(&[
        ("GNU.sparse.size", real),
        ("GNU.sparse.numblocks", count),
        ("GNU.sparse.map", map),
    ]);
    vec![keys, entry(PATH, b'0', &vec![7; data])]
}

#[test]
fn sparse_maps() {
    macro_rules! sparse {
        ($variant:ident) => {
            inner!(DecodeError::Tar(TarError::$variant { .. }), 13, 1)
        };
    }
    let gnu = |name: &str, pieces: &[(u64, u64)], real, stored, want| {
        let file = gnu_sparse(pieces, real, stored, false);
        in_image(&format!("GNU: {name}"), vec![file], want)
    };
    let pax = |name: &str, map: &str, real: &str, data, want| {
        in_image(&format!("1.0: {name}"), pax_sparse(map, real, data), want)
    };
    let limit = inner!(DecodeError::Tar(TarError::Limit { .. }), 17, 1);
    let max = "9223372036854775807";
    check(&[
        gnu(
            "overlap",
            &[(0, 512), (0, 512)],
            1_024,
            1_024,
            sparse!(SparseOrder),
        ),
        gnu(
            "backwards",
            &[(1_024, 512), (0, 512)],
            2_048,
            1_024,
            sparse!(SparseOrder),
        ),
        gnu("behind the end", &[(1_024, 512)], 1_024, 512, sparse!(SparseEnd)),
        gnu(
            "more stored",
            &[(0, 512), (4_096, 0)],
            4_096,
            1_024,
            sparse!(SparseSum),
        ),
        gnu(
            "less stored",
            &[(0, 1_024), (4_096, 0)],
            4_096,
            512,
            sparse!(SparseSum),
        ),
        gnu("no end", &[(0, 512)], 4_096, 512, sparse!(SparseShort)),
        gnu(
            "not whole blocks",
            &[(0, 100), (512, 512)],
            1_024,
            612,
            sparse!(SparseAlignment),
        ),
        in_image(
            "GNU: more to come of a map that has ended",
            vec![gnu_sparse(&[(0, 512)], 4_096, 512, true)],
            sparse!(Structure),
        ),
        in_image(
            "GNU: more to come, and data does",
            vec![gnu_sparse(
                &[(0, 128), (128, 128), (256, 128), (384, 128)],
                4_096,
                512,
                true,
            )],
            sparse!(SparseAlignment),
        ),
        in_image(
            "GNU: more to come, and text does",
            vec![gnu_sparse(
                &[(0, 512), (512, 0), (512, 0), (512, 0)],
                4_096,
                512,
                true,
            )],
            sparse!(Number),
        ),
        in_image(
            "GNU: 16 TiB and a byte",
            vec![{
                let mut block = block(PATH, b'S', 0);
                set(&mut block, 257, b"ustar  \0");
                let mut real = [0; 12];
                real[0] = 0x80;
                real[4..].copy_from_slice(&((16_u64 << 40) + 1).to_be_bytes());
                set(&mut block, 386, &real);
                set(&mut block, 398, b"00000000000\0");
                set(&mut block, 483, &real);
                sealed(block)
            }],
            limit,
        ),
        pax(
            "overlap",
            "2\n0\n512\n100\n512\n",
            "2048",
            1_024,
            sparse!(SparseOrder),
        ),
        pax(
            "a sum above 64 bits",
            &format!("1\n{max}\n{max}\n"),
            "512",
            0,
            sparse!(SparseEnd),
        ),
        pax(
            "above 2^63",
            "1\n9223372036854775808\n0\n",
            "512",
            0,
            sparse!(Number),
        ),
        pax("negative", "1\n-1\n512\n", "512", 512, sparse!(Number)),
        pax("blanks", "1\n 0\n512\n", "512", 512, sparse!(Number)),
        pax("more pieces than 4 million", "4000001\n", "512", 512, limit),
        pax(
            "more pieces than said",
            "18446744073709551615\n",
            "512",
            0,
            sparse!(Number),
        ),
        pax("fewer pieces than said", "2\n0\n512\n", "512", 0, sparse!(Number)),
        pax("no text", "", "512", 512, sparse!(Number)),
        pax(
            "a real size of 2^63",
            "0\n",
            "9223372036854775808",
            0,
            sparse!(Number),
        ),
        pax(
            "a real size above the limit",
            &format!("1\n{max}\n0\n"),
            max,
            0,
            limit,
        ),
        in_image(
            "0.1: overlap",
            pax_01("0,512,0,512", "2", "1024", 1_024),
            sparse!(SparseOrder),
        ),
        in_image(
            "0.1: an odd number",
            pax_01("0,512,9", "2", "1024", 512),
            sparse!(Number),
        ),
        in_image(
            "0.1: another count",
            pax_01("0,512", "2", "512", 512),
            sparse!(Structure),
        ),
        in_image(
            "0.1: behind the end",
            pax_01("0,512", "1", "511", 512),
            sparse!(SparseEnd),
        ),
        in_image(
            "an unknown format",
            {
                let mut file = pax_sparse("0\n", "0", 0);
                file[0] = crate::writer::pax(&[
                    ("GNU.sparse.major", "2"),
                    ("GNU.sparse.minor", "0"),
                    ("GNU.sparse.realsize", "0"),
                ]);
                file
            },
            inner!(DecodeError::Tar(TarError::SparseVersion { .. }), 14, 1),
        ),
    ]);
}

#[test]
fn sizes_in_an_image() {
    let claimed = |name: &str, size: &[u8], want| {
        let mut block = block(PATH, b'0', 0);
        block[124..136].fill(0);
        set(&mut block, 124, size);
        in_image(name, vec![sealed(block)], want)
    };
    let number = inner!(DecodeError::Tar(TarError::Number { .. }), 13, 1);
    let limit = inner!(DecodeError::Tar(TarError::Limit { .. }), 17, 1);
    let bits = |high: u64| {
        let mut size = vec![0x80, 0, 0, 0];
        size.extend(high.to_be_bytes());
        size
    };
    check(&[
        claimed("2^64-1", &bits(u64::MAX), number),
        claimed("2^63", &bits(1 << 63), number),
        claimed("2^63-1", &bits(i64::MAX as u64), limit),
        claimed("-1", &[0xff; 12], number),
        claimed(
            "1 TiB of which nothing is there",
            &bits(1 << 40),
            inner!(DecodeError::Tar(TarError::Truncated { .. }), 15, 1),
        ),
        claimed("letters", b"12345678xyz\0", number),
        in_image(
            "by a PAX header 2^64",
            vec![
                pax(&[("size", "18446744073709551616")]),
                entry(PATH, b'0', b""),
            ],
            number,
        ),
        in_image(
            "by a PAX header -1",
            vec![pax(&[("size", "-1")]), entry(PATH, b'0', b"")],
            number,
        ),
        in_image(
            "a time above 64 bits",
            vec![
                pax(&[("mtime", "9223372036854775808")]),
                entry(PATH, b'0', b""),
            ],
            number,
        ),
        in_image(
            "one part of several",
            vec![pax(&[("GNU.volume.size", "1")]), entry(PATH, b'0', b"")],
            inner!(DecodeError::Tar(TarError::Key { .. }), 14, 1),
        ),
    ]);
    let _ = archive(&[]);
}
