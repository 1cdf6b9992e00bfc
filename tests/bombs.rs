//! Archives that ask for much with little: the program must end, soon, with
//! the right exit code, and in less memory than they ask for. The kernel
//! keeps the bound: what needs more is killed by its own allocator.

#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

#[path = "damage/writer.rs"]
mod writer;

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use writer::{
    Made, PASSPHRASE, Recipe, archive, block, end, entry, link, pax, sealed,
    set,
};

const MIB: usize = 1 << 20;

/// The longest that any of these may take, on a machine that is busy too.
const TIME_MAX: Duration = Duration::from_secs(60);

/// What came of it: exit code, and what was said.
struct Outcome {
    exit: Option<i32>,
    text: String,
}

/// Reads an archive with so many MiB of memory.
fn run(command: &str, archive: &[u8], memory_mib: usize) -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::write(path("archive"), archive).unwrap();
    fs::write(path("passphrase"), PASSPHRASE).unwrap();
    let kib = memory_mib * 1024;
    let script = format!("ulimit -d {kib} && exec \"$@\"");
    let mut shell = Command::new("sh");
    shell.args(["-c", &script, "sh", env!("CARGO_BIN_EXE_qubes-fsm")]);
    shell.arg(command).arg("-").arg("--passphrase-file");
    shell.arg(path("passphrase"));
    if command == "restore" {
        shell.arg("--to").arg(path("restored"));
    }
    let start = Instant::now();
    let mut child = shell
        .stdin(Stdio::from(fs::File::open(path("archive")).unwrap()))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("sh: {e}; install the package dash"));
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > TIME_MAX {
            child.kill().unwrap();
            panic!("it goes on and on");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let names = fs::read_dir(path("restored")).into_iter().flatten();
    let names: Vec<_> = names.map(|name| name.unwrap().file_name()).collect();
    let is_left = |name: &std::ffi::OsString| {
        name.to_string_lossy().starts_with(".qubes-fsm")
    };
    assert!(!names.iter().any(is_left), "{names:?}");
    Outcome { exit: output.status.code(), text }
}

fn check(name: &str, command: &str, archive: &[u8], mib: usize, exit: i32) {
    let outcome = run(command, archive, mib);
    let Outcome { exit: found, text } = outcome;
    assert_eq!(found, Some(exit), "{name}: {text}");
}

/// Enough for an archive that asks for nothing.
const LITTLE: usize = 24;

#[test]
fn an_archive_that_asks_for_nothing() {
    for is_sealed in [false, true] {
        let archive = Recipe::new(is_sealed, true).make().pack();
        check("whole", "verify", &archive, LITTLE, 0);
        check("whole", "restore", &archive, LITTLE, 0);
    }
}

/// An archive of one filter, clear.
fn filtered(filter: &str, compress: fn(&[u8]) -> Vec<u8>) -> Recipe {
    let mut recipe = Recipe::new(false, false);
    recipe.header("compressed=False", "compressed=True");
    recipe.header.extend(format!("compression-filter={filter}\n").bytes());
    for file in &mut recipe.files {
        file.stored = Some(compress(&file.inner));
    }
    recipe
}

fn bzip2(data: &[u8]) -> Vec<u8> {
    let level = bzip2::Compression::fast();
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), level);
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn xz(data: &[u8]) -> Vec<u8> {
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn zstd(data: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(data, 1).unwrap()
}

type Compress = fn(&[u8]) -> Vec<u8>;
const FILTERS: [(&str, Compress); 4] =
    [("gzip", writer::gzip), ("bzip2", bzip2), ("xz", xz), ("zstd", zstd)];

/// A file of nothing but zeros, several times the memory there is.
#[test]
fn zeros_compressed() {
    for (filter, compress) in FILTERS {
        let mut recipe = filtered(filter, compress);
        let zeros = vec![0; 96 * MIB];
        let inner = writer::one(b"vm5/private.img", &zeros);
        let stored = compress(&inner);
        assert!(stored.len() < MIB, "{filter}: {}", stored.len());
        recipe.file("vm5/private.img").stored = Some(stored);
        check(filter, "verify", &recipe.make().pack(), LITTLE + 16, 0);
        // More of them than the header of the file says, in a stream that
        // ends nowhere.
        let mut header = sealed(block(b"vm5/private.img", b'0', 1)).clone();
        header.extend(b"x");
        header.resize(1_024, 7);
        let stored = compress(&[header, vec![7; 96 * MIB]].concat());
        recipe.file("vm5/private.img").stored = Some(stored);
        check(filter, "verify", &recipe.make().pack(), LITTLE + 32, 13);
    }
}

/// `qubes.xml` is read into memory, but only so far: by its own header, and
/// by what comes.
#[test]
fn documents_compressed() {
    for (filter, compress) in FILTERS {
        for size in [17 * MIB, 30 * MIB, 96 * MIB] {
            let mut recipe = filtered(filter, compress);
            let inner = writer::one(b"qubes.xml", &vec![b' '; size]);
            recipe.file("qubes.xml").stored = Some(compress(&inner));
            let archive = recipe.make().pack();
            check(filter, "restore", &archive, LITTLE + 48, 17);
        }
    }
}

/// 16 MiB that are allowed: of elements, of one value, of blanks.
#[test]
fn documents_of_16_mib() {
    let head = "<QubesVmCollection default_template=\"None\">";
    let tail = "</QubesVmCollection>";
    let room = 16 * MIB - head.len() - tail.len() - 100;
    for (name, part, exit) in
        [("elements", "<a/>", 17), ("blanks", "    ", 0), ("text", "&lt;", 0)]
    {
        let text = format!("{head}{}{tail}", part.repeat(room / part.len()));
        let mut recipe = filtered("gzip", writer::gzip);
        recipe.files.truncate(1);
        let inner = writer::one(b"qubes.xml", text.as_bytes());
        recipe.file("qubes.xml").stored = Some(writer::gzip(&inner));
        let archive = recipe.make().pack();
        check(name, "restore", &archive, LITTLE + 96, exit);
    }
}

/// Frames that ask the decoder for more memory than any writer does.
#[test]
fn windows_of_decoders() {
    let mut recipe = filtered("zstd", zstd);
    // Magic; no content size; a window of 2^31 bytes.
    let frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, (31 - 10) << 3, 1, 0, 0];
    recipe.file("vm5/private.img").stored = Some(frame);
    check("zstd", "restore", &recipe.make().pack(), LITTLE + 32, 17);

    let mut recipe = filtered("xz", xz);
    let mut options = liblzma::stream::LzmaOptions::new_preset(0).unwrap();
    options.dict_size(1 << 30);
    let mut filters = liblzma::stream::Filters::new();
    filters.lzma2(&options);
    let stream = liblzma::stream::Stream::new_stream_encoder(
        &filters,
        liblzma::stream::Check::Crc32,
    )
    .unwrap();
    let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
    encoder.write_all(b"text").unwrap();
    recipe.file("vm5/private.img").stored = Some(encoder.finish().unwrap());
    check("xz", "restore", &recipe.make().pack(), LITTLE + 32, 17);
}

/// A map with as many pieces as are allowed, and with one more.
#[test]
fn sparse_maps_of_4_million_pieces() {
    for (count, exit) in [(4_000_000_usize, 15), (4_000_001, 17)] {
        let mut text = format!("{count}\n");
        for piece in 0..count {
            text.push_str(&format!("{}\n512\n", piece * 1_024));
        }
        let mut text = text.into_bytes();
        text.resize(text.len().next_multiple_of(512), 0);
        // All is there but the data.
        let size = text.len() + count * 512;
        let keys = pax(&[
            ("GNU.sparse.major", "1"),
            ("GNU.sparse.minor", "0"),
            ("GNU.sparse.name", "vm5/private.img"),
            ("GNU.sparse.realsize", &(count * 1_024 - 512).to_string()),
        ]);
        let header = sealed(block(b"x", b'0', size as u64));
        let inner = [keys, header, text].concat();
        let mut recipe = filtered("gzip", writer::gzip);
        recipe.file("vm5/private.img").stored = Some(writer::gzip(&inner));
        let archive = recipe.make().pack();
        let name = format!("{count}");
        check(&name, "restore", &archive, LITTLE + 80, exit);
    }
}

/// A chunk of 256 MiB, a PAX header of 1 MiB, of which nothing is there.
#[test]
fn claims_of_members_that_do_not_come() {
    let claims = [
        sealed(block(b"vm5/x.000", b'0', 256 * MIB as u64)),
        sealed(block(b"x", b'x', MIB as u64)),
    ];
    for claim in claims {
        let mut made = Recipe::new(false, false).make();
        made.bytes = claim.clone();
        check("outer", "restore", &made.pack(), LITTLE, 15);
        let mut recipe = Recipe::new(false, false);
        let file = recipe.file("dom0-home/user");
        file.inner = claim;
        let cut = if file.inner[156] == b'x' { 15 } else { 13 };
        check("inner", "restore", &recipe.make().pack(), LITTLE, cut);
    }
    // The size of a file in the inner archive makes room nowhere.
    let mut header = block(b"vm5/private.img", b'0', 0);
    header[124..136].fill(0);
    header[124] = 0x80;
    set(&mut header, 128, &(1_u64 << 43).to_be_bytes());
    let mut recipe = Recipe::new(false, false);
    recipe.inner("vm5/private.img", &[sealed(header)]);
    check("8 TiB", "restore", &recipe.make().pack(), LITTLE, 15);
}

/// As many files as are allowed, and one more, each with nothing in it.
#[test]
fn many_files() {
    let recipe = Recipe::new(false, false);
    let code = writer::mac_text(b"");
    for (files, exit) in [(65_535, 0), (65_536, 17)] {
        let mut archive = recipe.make().pack();
        for number in recipe.files.len()..files {
            let name = format!("vm9/{number}.000");
            archive.extend(entry(name.as_bytes(), b'0', b""));
            let name = format!("{name}.hmac");
            archive.extend(entry(name.as_bytes(), b'0', &code));
        }
        archive.extend(end());
        let name = format!("{files} files");
        check(&name, "restore", &archive, LITTLE + 32, exit);
    }
}

/// Members of an inner archive: passed through, or remembered as links.
#[test]
fn many_members() {
    let mut recipe = filtered("gzip", writer::gzip);
    let members: Vec<Vec<u8>> = (0..200_000)
        .map(|number| {
            let name = format!("dom0-home/user/{number}");
            entry(name.as_bytes(), b'0', b"")
        })
        .collect();
    let stored = writer::gzip(&archive(&members));
    recipe.file("dom0-home/user").stored = Some(stored);
    check("files", "verify", &recipe.make().pack(), LITTLE, 0);

    let members: Vec<Vec<u8>> = (0..100_000)
        .map(|number| {
            let name = format!("dom0-home/user/{number}");
            link(name.as_bytes(), b'1', b"dom0-home/user/no")
        })
        .collect();
    let stored = writer::gzip(&archive(&members));
    recipe.file("dom0-home/user").stored = Some(stored);
    check("links", "restore", &recipe.make().pack(), LITTLE + 48, 13);
}

/// Empty tars between members, some 100 MB of them.
#[test]
fn zeros_between_members() {
    let mut made: Made = Recipe::new(false, false).make();
    let at = made.at("vm5/firewall.xml.000");
    made.insert_raw(at, vec![0; 100 * MIB]);
    check("zeros", "verify", &made.pack(), LITTLE, 0);
}

/// Zeros behind the end of an inner archive: some fill it up, some are a bomb.
#[test]
fn zeros_behind_the_end() {
    for (filter, compress) in FILTERS {
        for file in ["qubes.xml", "vm5/private.img"] {
            for (mib, exit) in [(15, 0), (17, 17), (96, 17)] {
                let mut recipe = filtered(filter, compress);
                let file = recipe.file(file);
                let inner = [file.inner.clone(), vec![0; mib * MIB]].concat();
                file.stored = Some(compress(&inner));
                let archive = recipe.make().pack();
                let name = format!("{filter}, {mib} MiB");
                check(&name, "restore", &archive, LITTLE + 16, exit);
            }
        }
    }
}
