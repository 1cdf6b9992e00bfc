//! Names of members and their order: what is taken, every refusal in full.

#![cfg(feature = "backup")]
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use proptest::prelude::*;
use qubes_fsm::format::chunk::Step::{NewFile, NextChunk};
use qubes_fsm::format::chunk::{Chunk, Member, Order};

fn chunk(name: &[u8]) -> Chunk<'_> {
    match Member::parse(name).unwrap() {
        Member::Chunk(chunk) | Member::ChunkMac(chunk) => Some(chunk),
        Member::Header | Member::HeaderMac => None,
    }
    .unwrap()
}

#[track_caller]
fn refused(name: impl AsRef<[u8]>, text: &str) {
    let error = Member::parse(name.as_ref()).unwrap_err();
    assert_eq!(error.to_string(), format!("member name {text}"));
}

#[test]
fn members_of_real_archives() {
    assert_eq!(Member::parse(b"backup-header"), Ok(Member::Header));
    assert_eq!(Member::parse(b"backup-header.hmac"), Ok(Member::HeaderMac));
    let names: [(&[u8], &[u8], u32); 10] = [
        (b"qubes.xml.000", b"qubes.xml", 0),
        (b"vm5/private.img.017", b"vm5/private.img", 17),
        (b"vm5/private.img.999", b"vm5/private.img", 999),
        (b"vm5/private.img.1000", b"vm5/private.img", 1000),
        (b"appvms/work/apps.templates.000", b"appvms/work/apps.templates", 0),
        // A template is one file `.`.
        (b"vm1/..000", b"vm1/.", 0),
        (
            b"vm-templates/fedora-20-x64/..001",
            b"vm-templates/fedora-20-x64/.",
            1,
        ),
        // What the reader of 2014 cannot strip.
        (b"dom0-home/user0.000", b"dom0-home/user0", 0),
        (b"dom0-home/x.0.000", b"dom0-home/x.0", 0),
        (b"dom0-home/\xff\xfe.4294967295", b"dom0-home/\xff\xfe", u32::MAX),
    ];
    for (name, file, number) in names {
        let (chunk, mac) = (chunk(name), [name, b".hmac"].concat());
        assert_eq!((chunk.file(), chunk.number()), (file, number));
        assert_eq!(Member::parse(name), Ok(Member::Chunk(chunk)));
        assert_eq!(Member::parse(&mac), Ok(Member::ChunkMac(chunk)));
        assert_eq!(Member::Chunk(chunk).mac(), Some(Member::ChunkMac(chunk)));
        assert_eq!(Member::Chunk(chunk).name(), name);
        assert_eq!(Member::ChunkMac(chunk).name(), mac);
        assert_eq!(Member::ChunkMac(chunk).mac(), None);
        assert_eq!(Chunk::new(file, number), Ok(chunk));
    }
    assert_eq!(Member::Header.mac(), Some(Member::HeaderMac));
    assert_eq!(Member::Header.name(), b"backup-header");
    assert_eq!(Member::HeaderMac.name(), b"backup-header.hmac");
}

//= spec/format3.md#names-of-chunks
#[test]
fn numbers() {
    let none = "no number after the last \".\"; wanted FILE.NNN";
    for name in ["private.img", "a", "a.", "a.00x", "a.+00", "a.000 ", ""] {
        refused(name, &format!("\"{name}\": {none}"));
    }
    refused("a.000.hmac.hmac", &format!("\"a.000.hmac.hmac\": {none}"));
    refused(".hmac", &format!("\".hmac\": {none}"));
    for (found, expected) in
        [("1", "001"), ("0001", "001"), ("01000", "1000"), ("0000", "000")]
    {
        refused(
            format!("a.{found}"),
            &format!(
                "\"a.{found}\": number \"{found}\"; wanted \"{expected}\""
            ),
        );
    }
    for number in ["4294967296", "99999999999999999999999"] {
        refused(
            format!("a.{number}"),
            &format!(
                "\"a.{number}\": the number is too large; wanted 4294967295 at \
                 most"
            ),
        );
    }
}

#[test]
fn paths() {
    refused("/a.000", "\"/a.000\": an absolute path; wanted a relative one");
    for (name, component) in [
        (".000", ""),
        ("a//b.000", ""),
        ("a/.000", ""),
        ("..000", "."),
        ("./a.000", "."),
        ("a/./b.000", "."),
        ("../a.000", ".."),
        ("a/../b.000", ".."),
        ("a/...000", ".."),
        ("...000", ".."),
    ] {
        refused(
            name,
            &format!(
                "\"{name}\": component \"{component}\" of the path; wanted the \
                 name of a file"
            ),
        );
    }
    // Three dots are a name like any other.
    assert_eq!(chunk(b"a/....000").file(), b"a/...");
}

#[test]
fn bytes() {
    refused("a\0b.000", "\"a\\u{0}b.000\": a NUL at byte 1; wanted none");
    refused(
        b"\x1b[1m\xff",
        "\"\\u{1b}[1m\\xff\": no number after the last \".\"; wanted FILE.NNN",
    );
    let name = |length: usize| format!("{}.000", "a".repeat(length - 4));
    assert_eq!(chunk(name(255).as_bytes()).number(), 0);
    refused(
        name(256),
        &format!(
            "\"{}.00\"...: 256 bytes; wanted 255 at most",
            "a".repeat(252)
        ),
    );
    // A writer sees to the mac's name too.
    let file = "a".repeat(246);
    assert_eq!(Chunk::new(file.as_bytes(), 0).unwrap().number(), 0);
    let error = Chunk::new(file.as_bytes(), 1000).unwrap_err().to_string();
    assert_eq!(
        error,
        format!(
            "member name \"{file}.1000.hma\"...: 256 bytes; wanted 255 at most"
        )
    );
    let last = Chunk::new(file.as_bytes(), 999).unwrap();
    assert_eq!(last.next().unwrap_err().to_string(), error);
    assert_eq!(
        Chunk::new(b"/a", 0).unwrap_err().to_string(),
        "member name \"/a.000\": an absolute path; wanted a relative one"
    );
}

#[test]
fn the_next_chunk() {
    let next = |name| chunk(name).next().map(Chunk::name);
    assert_eq!(next(b"a.000").unwrap(), b"a.001");
    assert_eq!(next(b"a.999").unwrap(), b"a.1000");
    assert_eq!(
        next(b"a.4294967295").unwrap_err().to_string(),
        "member name \"a.4294967295\": the number is too large; wanted \
         4294967295 at most"
    );
}

#[test]
fn every_file_is_one_run() {
    let run = |names: &[&str]| {
        let mut order = Order::new();
        names
            .iter()
            .map(|name| order.accept(chunk(name.as_bytes())))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| error.to_string())
    };
    assert_eq!(
        run(&["qubes.xml.000", "vm1/a.000", "vm1/a.001", "vm1/b.000"]),
        Ok(vec![NewFile, NewFile, NextChunk, NewFile])
    );
    for (names, text) in [
        (&["a.001"][..], "\"a.001\": first of its file; wanted number 000"),
        (
            &["a.000", "b.1000"],
            "\"b.1000\": first of its file; wanted number 000",
        ),
        (
            &["a.000", "a.002"],
            "\"a.002\": it follows number 000; wanted number 001 or another \
             file",
        ),
        (
            &["a.000", "a.000"],
            "\"a.000\": it follows number 000; wanted number 001 or another \
             file",
        ),
        (
            &["a.000", "b.000", "a.001"],
            "\"a.001\": its file was there before; wanted every file once",
        ),
    ] {
        assert_eq!(run(names), Err(format!("chunk {text}")));
    }
}

#[test]
fn files_are_counted() {
    let mut order = Order::new();
    for number in 0..65_535 {
        let name = format!("f{number}.000");
        order.accept(chunk(name.as_bytes())).unwrap();
    }
    assert_eq!(
        order.accept(chunk(b"g.000")).unwrap_err().to_string(),
        "chunk \"g.000\": more than 65535 files; wanted fewer"
    );
}

proptest! {
    /// What is accepted is written back to the same bytes.
    #[test]
    fn accepted_names_are_written_back(
        name in "[a.0/\u{0}é]{0,6}(\\.[0-9]{0,5})?(\\.hmac)?",
    ) {
        if let Ok(member) = Member::parse(name.as_bytes()) {
            prop_assert_eq!(member.name(), name.as_bytes());
        }
    }

    /// Whatever can be written can be read.
    #[test]
    fn written_names_are_read(
        file in prop::collection::vec(any::<u8>(), 0..20), number: u32,
    ) {
        if let Ok(chunk) = Chunk::new(&file, number) {
            let name = chunk.name();
            prop_assert_eq!(Member::parse(&name), Ok(Member::Chunk(chunk)));
        }
    }

    #[test]
    fn no_bytes_panic(name in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Member::parse(&name);
        let _ = Member::parse(&[&name[..], b".000"].concat());
    }

    /// Model: the numbers of each file, in the order they came.
    #[test]
    fn accepted_chunks_are_runs(
        chunks in prop::collection::vec((0..3_usize, 0..3_u32), 0..12),
    ) {
        let files: [&[u8]; 3] = [b"a", b"b", b"c"];
        let (mut order, mut taken) = (Order::new(), Vec::new());
        for (file, number) in chunks {
            let chunk = Chunk::new(files[file], number).unwrap();
            if order.accept(chunk).is_ok() {
                taken.push((file, number));
            }
        }
        for file in 0..3 {
            let at: Vec<_> =
                (0..taken.len()).filter(|at| taken[*at].0 == file).collect();
            let together = at.windows(2).all(|pair| pair[0] + 1 == pair[1]);
            prop_assert!(together, "{:?}", taken);
            for (wanted, at) in at.iter().enumerate() {
                prop_assert_eq!(taken[*at].1 as usize, wanted);
            }
        }
    }
}
