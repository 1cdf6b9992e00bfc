//! The outer archive: members that no writer makes, damaged headers, bytes
//! where none belong.

use qubes_fsm::backup::read::ReadError;
use qubes_fsm::format::chunk::ChunkNameError;
use qubes_fsm::format::manifest::ManifestError;
use qubes_fsm::format::tar::TarError;

use crate::row::{Row, Want, check};
use crate::writer::{
    Made, block, body, end, entry, link, mac_text, pax, sealed, set,
};

/// Where hostile members are put: two files are complete there.
fn before_mail(made: &Made) -> usize {
    made.at("vm6/private.img.000")
}

/// A raw member before the third image. The file before it is complete in
/// the archive, but nobody knows before its next member.
fn raw(name: &str, bytes: Vec<u8>, want: Want) -> Row {
    let damage = move |made: &mut Made| {
        made.insert_raw(before_mail(made), bytes.clone());
    };
    Row::done(name, damage, want)
}

#[test]
fn kinds_of_members() {
    let mut rows = Vec::new();
    for kind in b"123456789ABCDEGIKLMNSVXYZgz" {
        let name = format!("type {}", *kind as char);
        let want = refused!(ReadError::Outer(TarError::Type { .. }), 14, 2);
        let target = match kind {
            b'1' | b'2' => link(b"vm5/x.000", *kind, b"/etc/passwd"),
            b'L' | b'K' => entry(b"././@LongLink", *kind, b"vm5/x.000\0"),
            _ => entry(b"vm5/x.000", *kind, b""),
        };
        rows.push(raw(&name, target, want));
    }
    check(&rows);
}

#[test]
fn names_of_members() {
    let named = |name: &str, path: &'static [u8], want| {
        let damage = move |made: &mut Made| {
            let at = before_mail(made);
            let data = b"data".to_vec();
            let mac = [path, b".hmac"].concat();
            made.insert_raw(at, entry(&mac, b'0', &mac_text(&data)));
            made.insert_raw(at, entry(path, b'0', &data));
        };
        Row::done(name, damage, want)
    };
    macro_rules! name {
        ($variant:ident, $exit:expr) => {
            refused!(ReadError::Name(ChunkNameError::$variant { .. }), $exit, 2)
        };
    }
    let extra =
        refused!(ReadError::Manifest(ManifestError::MemberExtra { .. }), 13, 0);
    let long = "n".repeat(252) + ".000";
    let long_path = pax(&[("path", &long)]);
    check(&[
        named("absolute", b"/etc/x.000", name!(Absolute, 13)),
        named("above", b"../x.000", name!(Component, 13)),
        named("above, inside", b"vm5/../../x.000", name!(Component, 13)),
        named("the directory itself", b"..000", name!(Component, 13)),
        named("no name before the number", b".000", name!(Component, 13)),
        named("no name of a file", b"vm5/.000", name!(Component, 13)),
        named("two slashes", b"vm5//x.000", name!(Component, 13)),
        named("a dot", b"vm5/./x.000", name!(Component, 13)),
        named("no number", b"vm5/x", name!(NoNumber, 13)),
        named(
            "a slash at the end",
            b"vm5/x.000/",
            refused!(ReadError::Outer(TarError::Name { .. }), 13, 2),
        ),
        named(
            "no name at all",
            b"",
            refused!(ReadError::Outer(TarError::Name { .. }), 13, 2),
        ),
        // A name like others to Linux; no qube has it.
        named(
            "a backslash, of no qube: cannot know",
            b"vm8\\..\\x.000",
            Want::Whole(&[]),
        )
        .bound(extra),
        named(
            "a terminal's commands, of no qube: cannot know",
            b"vm8\x1b[2J\n.000",
            Want::Whole(&[]),
        )
        .bound(extra),
        raw(
            "256 bytes by a PAX header",
            [long_path, entry(b"x", b'0', b"")].concat(),
            refused!(ReadError::Outer(TarError::Limit { .. }), 17, 2),
        ),
        raw(
            "a NUL by a PAX header",
            [pax(&[("path", "vm5/x\0.000")]), entry(b"x", b'0', b"")].concat(),
            refused!(ReadError::Outer(TarError::Name { .. }), 13, 2),
        ),
        raw(
            "another name by a PAX header: above",
            [pax(&[("path", "../x.000")]), entry(b"vm5/x.000", b'0', b"")]
                .concat(),
            name!(Component, 13),
        ),
        raw(
            "sparse by a PAX header",
            [
                pax(&[
                    ("GNU.sparse.major", "1"),
                    ("GNU.sparse.minor", "0"),
                    ("GNU.sparse.name", "vm5/x.000"),
                    ("GNU.sparse.realsize", "1048576"),
                ]),
                entry(b"x", b'0', b"0\n"),
            ]
            .concat(),
            refused!(ReadError::Outer(TarError::Structure { .. }), 13, 2),
        ),
        raw(
            "twice a PAX header",
            [pax(&[("mtime", "1")]), pax(&[("mtime", "2")])].concat(),
            refused!(ReadError::Outer(TarError::Twice { .. }), 13, 2),
        ),
        raw(
            "a key twice",
            pax(&[("path", "a"), ("path", "b")]),
            refused!(ReadError::Outer(TarError::RepeatedKey { .. }), 13, 2),
        ),
        raw(
            "a PAX header and no member",
            [pax(&[("mtime", "1")]), end()].concat(),
            refused!(ReadError::Outer(TarError::Structure { .. }), 13, 2),
        ),
        raw(
            "a PAX header of no records",
            entry(b"x", b'x', b"nonsense"),
            refused!(ReadError::Outer(TarError::Record { .. }), 13, 2),
        ),
    ]);
}

/// A chunk whose header claims a size, with nothing of it there.
fn of_size(path: &[u8], kind: u8, size: &[u8]) -> Vec<u8> {
    let mut block = block(path, kind, 0);
    block[124..136].fill(0);
    set(&mut block, 124, size);
    sealed(block)
}

#[test]
fn sizes_of_members() {
    let claimed = |name: &str, path: &str, size: &[u8], want| {
        raw(name, of_size(path.as_bytes(), b'0', size), want)
    };
    let number = refused!(ReadError::Outer(TarError::Number { .. }), 13, 2);
    let limit = refused!(ReadError::Outer(TarError::Limit { .. }), 17, 2);
    let large = refused!(ReadError::TooLarge { .. }, 17, 2);
    let bits = |first: u8, high: u64| {
        let mut size = vec![first, 0, 0, 0];
        size.extend(high.to_be_bytes());
        size
    };
    let chunk = "vm6/private.img.000";
    check(&[
        claimed("2^64-1", chunk, &bits(0x80, u64::MAX), number),
        claimed("2^63", chunk, &bits(0x80, 1 << 63), number),
        claimed("2^63-1", chunk, &bits(0x80, i64::MAX as u64), limit),
        claimed("-1", chunk, &[0xff; 12], number),
        claimed("a minus", chunk, b"-0000000001\0", number),
        claimed("blanks", chunk, b"            ", number),
        claimed("a 9", chunk, b"00000000009\0", number),
        claimed("8 GiB", chunk, b"77777777777\0", large),
        claimed("above 256 MiB", chunk, b"02000000001\0", large),
        claimed("a code of 4,097", "vm6/x.000.hmac", b"00000010001\0", large),
        claimed("a header of 4,097", "backup-header", b"00000010001\0", large),
        raw(
            "a PAX header of a MiB and a byte",
            of_size(b"x", b'x', b"00004000001\0"),
            limit,
        ),
        raw(
            "a PAX header of 2^63-1",
            of_size(b"x", b'x', &bits(0x80, i64::MAX as u64)),
            limit,
        ),
        raw(
            "a size of 2^63 by a PAX header",
            [
                pax(&[("size", "9223372036854775808")]),
                entry(chunk.as_bytes(), b'0', b""),
            ]
            .concat(),
            number,
        ),
        raw(
            "a size above 256 MiB by a PAX header",
            [pax(&[("size", "268435457")]), entry(chunk.as_bytes(), b'0', b"")]
                .concat(),
            large,
        ),
    ]);
}

/// Every byte of a header is under its checksum.
#[test]
fn every_byte_of_a_header() {
    let rows: Vec<Row> = (0..512)
        .filter(|place| !(148..156).contains(place))
        .map(|place| {
            let damage = move |made: &mut Made| {
                let at = before_mail(made);
                let piece = &mut made.pieces[at];
                let mut raw = entry(&piece.name, b'0', &piece.data);
                raw[place] ^= 0x01;
                piece.raw = Some(raw);
            };
            let want =
                refused!(ReadError::Outer(TarError::Checksum { .. }), 13, 2);
            let row = Row::done(format!("byte {place}"), damage, want);
            // 512 processes tell no more than a few.
            row.only(|case| !case.occupied && !case.keep_going && case.sealed)
        })
        .collect();
    check(&rows);
    let damaged = |name: &str, at: usize, bytes: &'static [u8], want| {
        let damage = move |made: &mut Made| {
            let index = before_mail(made);
            let piece = &mut made.pieces[index];
            let mut raw = entry(&piece.name, b'0', &piece.data);
            raw[at..][..bytes.len()].copy_from_slice(bytes);
            piece.raw = Some(raw);
        };
        Row::done(name, damage, want)
    };
    let number = refused!(ReadError::Outer(TarError::Number { .. }), 13, 2);
    check(&[
        damaged("no checksum", 148, b"xxxxxxxx", number),
        damaged(
            "another checksum",
            148,
            b"000001\0 ",
            refused!(ReadError::Outer(TarError::Checksum { .. }), 13, 2),
        ),
        raw(
            "no magic of tar",
            {
                let mut block = block(b"vm6/x.000", b'0', 0);
                set(&mut block, 257, b"USTAR\x0000");
                sealed(block)
            },
            refused!(ReadError::Outer(TarError::Magic { .. }), 14, 2),
        ),
        raw(
            "letters in a mode nobody needs",
            {
                let mut block = block(b"vm6/x.000", b'0', 0);
                set(&mut block, 100, b"rw-r--r-");
                sealed(block)
            },
            number,
        ),
    ]);
}

/// Bytes between members, behind the last, and where zeros fill up.
#[test]
fn bytes_where_none_belong() {
    let checksum = refused!(ReadError::Outer(TarError::Number { .. }), 13, 2);
    let behind = |name: &str, bytes: Vec<u8>, want| {
        let damage = move |made: &mut Made| made.bytes = bytes.clone();
        Row::done(name, damage, want)
    };
    // The manifest comes after the last file, and so that is whole.
    let kept =
        |row: Row, want| row.when(|case| case.bound && case.keep_going, want);
    let whole = Want::Whole(&[]);
    let junk =
        |left| refused!(ReadError::Outer(TarError::Number { .. }), 13, left);
    let cut =
        |left| refused!(ReadError::Outer(TarError::Truncated { .. }), 15, left);
    check(&[
        raw("a block of letters", vec![b'x'; 512], checksum),
        raw(
            "one bit in a block of zeros",
            {
                let mut zeros = end();
                zeros[700] = 1;
                zeros
            },
            refused!(ReadError::Outer(TarError::Checksum { .. }), 13, 2),
        ),
        raw("zeros: as tar -i reads", vec![0; 512 * 7], whole),
        kept(
            behind(
                "a block of letters behind the end",
                vec![b'x'; 512],
                junk(5),
            ),
            junk(6),
        ),
        kept(behind("one letter behind the end", vec![b'x'], cut(5)), cut(6)),
        behind(
            "another archive's member",
            entry(b"vm9/x.000", b'0', b""),
            refused!(ReadError::Outer(TarError::Truncated { .. }), 15, 6),
        )
        .bound(refused!(
            ReadError::Manifest(ManifestError::NotLast { .. }),
            13,
            0
        ))
        .late(refused!(
            ReadError::Manifest(ManifestError::NotLast { .. }),
            13,
            0
        )),
        behind("zeros behind the end", vec![0; 51_200], whole),
        kept(
            behind("zeros that are no whole block", vec![0; 1_000], cut(5)),
            cut(6),
        ),
        Row::done(
            "letters in the padding of a chunk: mean nothing",
            |made| {
                let at = before_mail(made);
                let piece = &mut made.pieces[at];
                let header = entry(&piece.name, b'0', &piece.data);
                let mut raw = body(header, b"");
                let length = raw.len();
                raw[length - 3..].copy_from_slice(b"xyz");
                piece.raw = Some(raw);
            },
            whole,
        ),
    ]);
}
