//! Streams made of blocks: what other programs make of them, that the bytes
//! do not depend on who made which block, and how large they get.

#![cfg(feature = "backup")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::cell::Cell;
use std::io::{Read as _, Seek as _, Write as _};
use std::process::{Command, Stdio};
use std::thread;

use proptest::prelude::*;
use qubes_fsm::format::compression::{
    Assembly, Block, BlockCompressor, BlockFacts, Cutter, Decompressor, Filter,
    Level,
};

/// One level of each filter with small blocks, and more of gzip.
const LEVELS: [&str; 7] =
    ["none", "gzip:1", "gzip:6", "gzip:9", "bzip2:1", "xz:0", "zstd:1"];

#[derive(Clone, Copy, Debug)]
enum Kind {
    Zero,
    Random,
    Text,
    /// All of these by turns, in stretches that end anywhere.
    Mixed,
}

const KINDS: [Kind; 4] = [Kind::Zero, Kind::Random, Kind::Text, Kind::Mixed];

/// Numbers that are as good as random (xorshift64*).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn bytes(&mut self, bytes: usize) -> Vec<u8> {
        let words = (0..bytes.div_ceil(8)).map(|_| self.next());
        let mut data: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
        data.truncate(bytes);
        data
    }

    fn data(&mut self, kind: Kind, bytes: usize) -> Vec<u8> {
        match kind {
            Kind::Zero => vec![0; bytes],
            Kind::Random => self.bytes(bytes),
            Kind::Text => self.text(bytes),
            Kind::Mixed => {
                let mut data = Vec::new();
                for kind in KINDS[..3].iter().cycle() {
                    if data.len() >= bytes {
                        break;
                    }
                    let stretch = self.next() as usize % 150_000 + 1;
                    data.extend(self.data(*kind, stretch));
                }
                data.truncate(bytes);
                data
            }
        }
    }

    fn text(&mut self, bytes: usize) -> Vec<u8> {
        let mut text = Vec::new();
        while text.len() < bytes {
            let line =
                format!("{} is not {}, ", self.next() % 5000, text.len());
            text.extend(line.bytes());
        }
        text.truncate(bytes);
        text
    }
}

fn level(text: &str) -> Level {
    text.parse().unwrap()
}

fn cut(level: Level, data: &[u8], piece: usize) -> Vec<Block> {
    let mut cutter = Cutter::new(level);
    let mut blocks = Vec::new();
    for mut piece in data.chunks(piece) {
        while let Some(block) = cutter.push(&mut piece) {
            blocks.push(block);
        }
        assert!(piece.is_empty());
    }
    blocks.extend(cutter.finish());
    blocks
}

type Made = (Vec<u8>, BlockFacts);

fn make(compressor: &mut BlockCompressor, block: &Block) -> Made {
    let mut out = Vec::new();
    let facts =
        compressor.compress(block.bytes(), block.before(), &mut out).unwrap();
    (out, facts)
}

fn assemble(level: Level, made: impl IntoIterator<Item = Made>) -> Vec<u8> {
    let mut assembly = Assembly::new(level);
    let mut stream = assembly.start().to_vec();
    for (bytes, facts) in made {
        stream.extend(bytes);
        assembly.take(&facts);
    }
    stream.extend(assembly.end());
    stream
}

fn compress(level: Level, data: &[u8]) -> Vec<u8> {
    let mut compressor = BlockCompressor::new(level).unwrap();
    let blocks = cut(level, data, usize::MAX);
    let made = blocks.iter().map(|block| make(&mut compressor, block));
    assemble(level, made.collect::<Vec<_>>())
}

fn decode(filter: Filter, stream: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut decoder = Decompressor::new(filter).unwrap();
    let sink = &mut |bytes: &[u8]| {
        out.extend(bytes);
        Ok::<(), ()>(())
    };
    decoder.push(stream, sink).unwrap();
    decoder.finish().unwrap();
    out
}

/// The program that reads a filter, and its package.
fn program(filter: Filter) -> Option<(&'static str, &'static str)> {
    match filter {
        Filter::None | Filter::Lzma => None,
        Filter::Gzip => Some(("gzip", "gzip")),
        Filter::Bzip2 => Some(("bzip2", "bzip2")),
        Filter::Xz => Some(("xz", "xz-utils")),
        Filter::Zstd => Some(("zstd", "zstd")),
    }
}

/// What the program makes of a stream on its stdin.
fn run(filter: Filter, argument: &str, stream: &[u8]) -> Vec<u8> {
    let Some((program, package)) = program(filter) else { panic!("{filter}") };
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(stream).unwrap();
    file.rewind().unwrap();
    let output = Command::new(program)
        .arg(argument)
        .stdin(Stdio::from(file))
        .output()
        .unwrap_or_else(|error| {
            panic!("{program}: {error}; install the package {package}")
        });
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {argument}: {message}");
    output.stdout
}

/// The most that a filter may make of so many bytes.
fn bytes_max(level: Level, bytes: usize) -> usize {
    match level.filter() {
        // It has no way to store.
        Filter::Bzip2 => bytes + bytes / 100 + 600,
        Filter::None
        | Filter::Gzip
        | Filter::Xz
        | Filter::Lzma
        | Filter::Zstd => bytes + bytes / 1000 + 100,
    }
}

#[test]
fn levels_are_what_the_programs_have() {
    for (text, filter, number, shown) in [
        ("none", Filter::None, 0, "none"),
        ("gzip", Filter::Gzip, 6, "gzip:6"),
        ("gzip:1", Filter::Gzip, 1, "gzip:1"),
        ("gzip:9", Filter::Gzip, 9, "gzip:9"),
        ("bzip2", Filter::Bzip2, 9, "bzip2:9"),
        ("bzip2:1", Filter::Bzip2, 1, "bzip2:1"),
        ("xz", Filter::Xz, 6, "xz:6"),
        ("xz:0", Filter::Xz, 0, "xz:0"),
        ("zstd", Filter::Zstd, 3, "zstd:3"),
        ("zstd:19", Filter::Zstd, 19, "zstd:19"),
    ] {
        let level = level(text);
        assert_eq!((level.filter(), level.number()), (filter, number));
        assert_eq!(level.to_string(), shown);
        assert_eq!(shown.parse(), Ok(level));
    }
}

#[test]
fn a_level_that_is_none_is_refused_with_the_range() {
    for (text, message) in [
        ("", "compression \"\"; wanted gzip, bzip2, xz, zstd or none"),
        ("lzma", "compression \"lzma\"; wanted gzip, bzip2, xz, zstd or none"),
        (
            "\x1b:6",
            "compression \"\\u{1b}\"; wanted gzip, bzip2, xz, zstd or none",
        ),
        ("none:", "compression none: level \"\"; wanted no level"),
        ("none:1", "compression none: level \"1\"; wanted no level"),
        (
            "gzip:0",
            "compression gzip: level \"0\"; wanted a number from 1 to 9",
        ),
        ("gzip:", "compression gzip: level \"\"; wanted a number from 1 to 9"),
        (
            "gzip:+6",
            "compression gzip: level \"+6\"; wanted a number from 1 to 9",
        ),
        (
            "gzip:06",
            "compression gzip: level \"06\"; wanted a number from 1 to 9",
        ),
        (
            "gzip:6:1",
            "compression gzip: level \"6:1\"; wanted a number from 1 to 9",
        ),
        (
            "bzip2:10",
            "compression bzip2: level \"10\"; wanted a number from 1 to 9",
        ),
        ("xz:-1", "compression xz: level \"-1\"; wanted a number from 0 to 9"),
        ("xz:6e", "compression xz: level \"6e\"; wanted a number from 0 to 9"),
        (
            "zstd:20",
            "compression zstd: level \"20\"; wanted a number from 1 to 19",
        ),
        (
            "zstd:4294967297",
            "compression zstd: level \"4294967297\"; wanted a number from 1 to 19",
        ),
    ] {
        let error = text.parse::<Level>().unwrap_err();
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn every_program_takes_every_stream() {
    let mut numbers = Numbers(1);
    for level in LEVELS.map(level) {
        let (filter, block) = (level.filter(), level.block_bytes());
        for bytes in [0, 1, block - 1, block, block + 1, block * 2 + 70_000] {
            for kind in KINDS {
                let data = numbers.data(kind, bytes);
                let stream = compress(level, &data);
                let what = format!("{level}, {bytes} bytes, {kind:?}");
                assert!(decode(filter, &stream) == data, "{what}");
                assert!(stream.len() <= bytes_max(level, bytes), "{what}");
                if program(filter).is_some() {
                    assert_eq!(run(filter, "-t", &stream), b"", "{what}");
                    assert!(run(filter, "-dc", &stream) == data, "{what}");
                }
            }
        }
    }
}

/// The levels that are not in the test above; their blocks may be large.
#[test]
fn every_level_makes_a_stream() {
    let data = Numbers(2).data(Kind::Mixed, 100_000);
    for (name, numbers) in
        [("gzip", 1..=9), ("bzip2", 1..=9), ("xz", 0..=9), ("zstd", 1..=19)]
    {
        for number in numbers {
            let level = level(&format!("{name}:{number}"));
            for data in [&data[..], b""] {
                let stream = compress(level, data);
                assert!(decode(level.filter(), &stream) == data, "{level}");
                assert!(run(level.filter(), "-dc", &stream) == data, "{level}");
            }
        }
    }
}

#[test]
fn bytes_do_not_depend_on_who_makes_the_blocks() {
    let mut numbers = Numbers(3);
    for level in LEVELS.map(level) {
        let data = numbers.data(Kind::Mixed, level.block_bytes() * 5 + 12_345);
        let blocks = cut(level, &data, usize::MAX);
        let wanted = compress(level, &data);
        for workers in 1..=4 {
            let mut compressors: Vec<_> = (0..workers)
                .map(|_| BlockCompressor::new(level).unwrap())
                .collect();
            // Whoever is drawn makes whatever is drawn: each has a history.
            let mut order: Vec<usize> = (0..blocks.len()).collect();
            order.sort_by_key(|_| numbers.next());
            let mut made: Vec<Option<Made>> = Vec::new();
            made.resize_with(blocks.len(), || None);
            for at in order {
                let worker = numbers.next() as usize % workers;
                made[at] = Some(make(&mut compressors[worker], &blocks[at]));
            }
            let found = assemble(level, made.into_iter().map(Option::unwrap));
            assert!(found == wanted, "{level}, {workers} workers");
        }
    }
}

/// A compressor and what it makes can go to another thread.
#[test]
fn threads_make_the_same_bytes() {
    let data = Numbers(4).data(Kind::Mixed, 1_500_000);
    for level in ["gzip:6", "zstd:1"].map(level) {
        let blocks = cut(level, &data, usize::MAX);
        let mut compressors: Vec<_> =
            blocks.iter().map(|_| BlockCompressor::new(level)).collect();
        let made: Vec<Made> = thread::scope(|scope| {
            let threads: Vec<_> = blocks
                .iter()
                .zip(&mut compressors)
                .map(|(block, compressor)| {
                    let compressor = compressor.as_mut().unwrap();
                    scope.spawn(move || make(compressor, block))
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(assemble(level, made) == compress(level, &data), "{level}");
    }
}

/// Room that `out` has already changes nothing: deflate ends where it must.
#[test]
fn bytes_do_not_depend_on_the_memory_of_the_output() {
    let mut numbers = Numbers(5);
    for level in LEVELS.map(level) {
        let data = numbers.data(Kind::Mixed, 200_000);
        let mut compressor = BlockCompressor::new(level).unwrap();
        let block = &cut(level, &data, usize::MAX)[0];
        let (wanted, _) = make(&mut compressor, block);
        for room in [0, 1, wanted.len(), wanted.len() + 1, 10_000_000] {
            let mut out = Vec::with_capacity(room + 3);
            out.extend(b"not");
            compressor.compress(block.bytes(), b"", &mut out).unwrap();
            assert!(out[3..] == wanted, "{level}, room for {room} bytes");
            assert_eq!(&out[..3], b"not");
        }
    }
}

#[test]
fn a_stream_is_cut_in_the_same_places_whatever_the_pieces() {
    for level in ["gzip:6", "bzip2:1", "xz:0"].map(level) {
        let size = level.block_bytes();
        let data = Numbers(6).data(Kind::Text, size * 2 + 1000);
        for piece in [1, 4096, size - 1, size, size + 1, data.len()] {
            let mut at = 0;
            for block in cut(level, &data, piece) {
                let end = (at + size).min(data.len());
                assert!(block.bytes() == &data[at..end], "{level} {piece}");
                let window =
                    if level.filter() == Filter::Gzip { 32_768 } else { 0 };
                let before = at.saturating_sub(window);
                assert!(block.before() == &data[before..at], "{level} {piece}");
                at = end;
            }
            assert_eq!(at, data.len());
        }
    }
}

/// A block that comes back leaves nothing of it in the next.
#[test]
fn memory_of_blocks_is_used_again() {
    let level = level("gzip");
    let data = Numbers(7).bytes(level.block_bytes() * 4 + 5);
    let mut cutter = Cutter::new(level);
    let (mut pieces, mut found) = (&data[..], Vec::<u8>::new());
    while let Some(block) = cutter.push(&mut pieces) {
        found.extend(block.bytes());
        cutter.reuse(block);
    }
    let last = cutter.finish().unwrap();
    found.extend(last.bytes());
    assert!(found == data);
    assert_eq!((last.bytes().len(), last.before().len()), (5, 32_768));
}

/// Whoever does not want a slow block any more need not wait for its end.
#[test]
fn a_block_that_nobody_wants_is_given_up() {
    let data = vec![b'x'; 2 << 20];
    for name in ["bzip2", "xz", "zstd:13", "zstd:19"] {
        let mut compressor = BlockCompressor::new(level(name)).unwrap();
        let mut whole = Vec::new();
        compressor.compress(&data, &[], &mut whole).unwrap();
        for wanted in [0, 1, 3] {
            let asked = Cell::new(0);
            let is_wanted = || asked.replace(asked.get() + 1) < wanted;
            let mut part = Vec::new();
            let error = compressor
                .compress_while(&data, &[], &mut part, &is_wanted)
                .unwrap_err();
            assert!(error.to_string().contains("nobody waits"), "{error}");
            assert_eq!(asked.get(), wanted + 1);
            assert!(part.len() < whole.len(), "{name}");
        }
        let asked = Cell::new(0);
        let is_wanted = || asked.replace(asked.get() + 1) < 100;
        let mut same = Vec::new();
        compressor.compress_while(&data, &[], &mut same, &is_wanted).unwrap();
        assert_eq!(same, whole, "{name}");
        assert!(asked.get() >= 8, "{name}: asked {} times", asked.get());
    }
}

#[test]
fn gzip_is_one_member_without_a_name_or_a_time() {
    let data = Numbers(8).data(Kind::Mixed, 1_000_000);
    for (text, speed) in [("gzip:1", 4), ("gzip:6", 0), ("gzip:9", 2)] {
        let stream = compress(level(text), &data);
        let header = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, speed, 3];
        assert_eq!(&stream[..10], header);
        // This reader stops behind the first member.
        let mut left = &stream[..];
        let mut member = flate2::bufread::GzDecoder::new(&mut left);
        let mut found = Vec::new();
        member.read_to_end(&mut found).unwrap();
        assert!(found == data, "{text}");
        assert_eq!(left.len(), 0, "{text}");
    }
}

/// Twenty bytes around, and five for each 65,535.
fn stored(bytes: usize) -> usize {
    20 + bytes + 5 * bytes.div_ceil(65_535)
}

#[test]
fn what_is_random_is_stored() {
    let level = level("gzip:6");
    let mut numbers = Numbers(9);
    // The second is too short to be looked at before, the third has a start
    // that is not random.
    let random = numbers.bytes(200_000);
    assert_eq!(compress(level, &random).len(), stored(200_000));
    let short = numbers.bytes(1500);
    assert_eq!(compress(level, &short).len(), stored(1500));
    let mut starts = vec![b'a'; 10];
    starts.extend(numbers.bytes(2037));
    assert_eq!(compress(level, &starts).len(), stored(2047));
}

/// Random bytes, but some of them more often, or all of them twice.
#[test]
fn what_only_looks_random_is_compressed() {
    let mut numbers = Numbers(10);
    let level = level("gzip:1");
    let uneven: Vec<u8> =
        numbers.bytes(65_536).iter().map(|byte| byte % 200).collect();
    assert!(compress(level, &uneven).len() < 65_536 * 97 / 100);
    // All 256 bytes are equally frequent, and each string comes four times.
    let string = numbers.bytes(16_384);
    let again = [&string[..]; 4].concat();
    assert!(compress(level, &again).len() < 17_500);
    // The same in a tenth of it.
    let mut some = numbers.bytes(65_536);
    some.copy_within(1001..8001, 30_000);
    let wanted = 65_536 - 6000;
    assert!(compress(level, &some).len() < wanted, "copies were not seen");
    // Random at its start alone.
    let mut most = numbers.bytes(4096);
    most.resize(65_536, 7);
    assert!(compress(level, &most).len() < 5000);
}

/// Half of a block is no reason to store the other half, or to deflate both.
#[test]
fn neighbors_of_different_kinds_are_apart() {
    let level = level("gzip:6");
    let mut numbers = Numbers(11);
    let (text, random) = (numbers.text(65_536), numbers.bytes(65_536));
    let alone = compress(level, &text).len() - 20;
    for parts in [[&text, &random, &text], [&text, &text, &random]] {
        let found = compress(level, &parts.map(|part| &part[..]).concat());
        assert!(found.len() < stored(65_536) + alone * 2 + 100);
        assert!(found.windows(100).any(|part| *part == random[..100]));
    }
    // Behind random bytes nothing refers to the block before.
    let before = numbers.text(level.block_bytes());
    let data = [&before[..], &random, &before[..65_536]].concat();
    let stream = compress(level, &data);
    assert!(run(Filter::Gzip, "-dc", &stream) == data);
}

/// The second block begins as the first ends.
#[test]
fn a_block_refers_to_what_was_before_it() {
    let hex = |byte: u8| b"0123456789abcdef"[usize::from(byte & 15)];
    let data: Vec<u8> =
        Numbers(12).bytes(20_000).into_iter().map(hex).collect();
    for level in ["gzip:1", "gzip:6"].map(level) {
        let mut compressor = BlockCompressor::new(level).unwrap();
        let mut bytes = |before: &[u8]| {
            let mut out = Vec::new();
            compressor.compress(&data, before, &mut out).unwrap();
            out.len()
        };
        assert!(bytes(b"") > 10_000);
        assert!(bytes(&data) < 1000);
        // Of more than can be referred to the end is what counts.
        assert!(bytes(&[&b"x".repeat(9000), &data[..]].concat()) < 1000);
    }
}

#[test]
fn the_length_is_counted_modulo_two_to_the_32() {
    let level = level("gzip:1");
    let mut compressor = BlockCompressor::new(level).unwrap();
    let block = vec![0; 1 << 18];
    let facts = compressor.compress(&block, b"", &mut Vec::new()).unwrap();
    let mut assembly = Assembly::new(level);
    for _ in 0..(1 << 14) + 3 {
        assembly.take(&facts);
    }
    let end = assembly.end();
    assert_eq!(end[6..], (3_u32 << 18).to_le_bytes());
}

/// Stretches of any kind and length.
fn any_data() -> impl Strategy<Value = Vec<u8>> {
    let stretch = (0..3_usize, 0..120_000_usize, 1..u64::MAX);
    proptest::collection::vec(stretch, 0..6).prop_map(|stretches| {
        let data = stretches.into_iter().flat_map(|(kind, bytes, seed)| {
            Numbers(seed).data(KINDS[kind], bytes)
        });
        data.collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn what_is_written_is_read(
        data in any_data(),
        piece in 1..300_000_usize,
        which in 0..LEVELS.len(),
    ) {
        let level = level(LEVELS[which]);
        let mut compressor = BlockCompressor::new(level).unwrap();
        let made: Vec<Made> = cut(level, &data, piece)
            .iter()
            .map(|block| make(&mut compressor, block))
            .collect();
        let stream = assemble(level, made);
        prop_assert!(stream == compress(level, &data), "{}", level);
        prop_assert!(decode(level.filter(), &stream) == data, "{}", level);
        prop_assert!(stream.len() <= bytes_max(level, data.len()));
    }

    /// Of little no more is made than a stored block around it.
    #[test]
    fn arbitrary_bytes_do_not_grow(
        data in proptest::collection::vec(any::<u8>(), 1..5000),
    ) {
        let stream = compress(level("gzip:6"), &data);
        prop_assert!(decode(Filter::Gzip, &stream) == data);
        prop_assert!(stream.len() <= stored(data.len()));
    }
}
