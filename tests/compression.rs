//! Filters: streams of the crates' own writers and of Python's, in pieces of
//! any size, cut anywhere, followed by others or by garbage.

#![cfg(feature = "backup")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::io::Write as _;
use std::process::{Command, Stdio};

use proptest::prelude::*;
use qubes_fsm::format::compression::{
    CompressionError, Decompressor, Filter, PIECE_BYTES, PushError,
};

const FILTERS: [Filter; 5] =
    [Filter::Gzip, Filter::Bzip2, Filter::Xz, Filter::Lzma, Filter::Zstd];

fn encode(filter: Filter, data: &[u8]) -> Vec<u8> {
    match filter {
        Filter::None => data.to_vec(),
        Filter::Gzip => {
            let level = flate2::Compression::default();
            let mut writer = flate2::write::GzEncoder::new(vec![], level);
            writer.write_all(data).unwrap();
            writer.finish().unwrap()
        }
        Filter::Bzip2 => {
            let level = bzip2::Compression::default();
            let mut writer = bzip2::write::BzEncoder::new(vec![], level);
            writer.write_all(data).unwrap();
            writer.finish().unwrap()
        }
        Filter::Xz => {
            let mut writer = liblzma::write::XzEncoder::new(vec![], 3);
            writer.write_all(data).unwrap();
            writer.finish().unwrap()
        }
        Filter::Lzma => {
            let options = liblzma::stream::LzmaOptions::new_preset(3).unwrap();
            let stream =
                liblzma::stream::Stream::new_lzma_encoder(&options).unwrap();
            let mut writer =
                liblzma::write::XzEncoder::new_stream(vec![], stream);
            writer.write_all(data).unwrap();
            writer.finish().unwrap()
        }
        Filter::Zstd => {
            let mut writer =
                zstd::stream::write::Encoder::new(vec![], 3).unwrap();
            writer.include_checksum(true).unwrap();
            writer.write_all(data).unwrap();
            writer.finish().unwrap()
        }
    }
}

fn decode(
    filter: Filter,
    stream: &[u8],
    piece: usize,
) -> Result<Vec<u8>, CompressionError> {
    let mut out = Vec::new();
    let mut decoder = Decompressor::new(filter)?;
    for piece in stream.chunks(piece) {
        let pushed = decoder.push(piece, &mut |bytes: &[u8]| {
            assert!(bytes.len() <= PIECE_BYTES && !bytes.is_empty());
            out.extend(bytes);
            Ok::<(), ()>(())
        });
        match pushed {
            Ok(()) => {}
            Err(PushError::Stream(error)) => return Err(error),
            Err(PushError::Sink(())) => panic!("the sink takes everything"),
        }
    }
    decoder.finish()?;
    Ok(out)
}

fn sample(bytes: usize) -> Vec<u8> {
    // Neither constant nor random: words that come again.
    (0..bytes).map(|i| ((i * i / 7) % 61 + i / 4096 % 5) as u8).collect()
}

//= spec/format3.md#names-of-filters
#[test]
fn names_are_those_of_the_header() {
    let named = |name: &[u8]| Filter::by_name(name);
    for (name, filter) in [
        ("gzip", Filter::Gzip),
        ("pigz", Filter::Gzip),
        ("bzip2", Filter::Bzip2),
        ("pbzip2", Filter::Bzip2),
        ("xz", Filter::Xz),
        ("lzma", Filter::Lzma),
        ("zstd", Filter::Zstd),
        ("zstdmt", Filter::Zstd),
    ] {
        assert_eq!(named(name.as_bytes()), Ok(filter), "{name}");
    }
    assert_eq!(
        named(b"rm -rf \x1b").unwrap_err().to_string(),
        "compression filter \"rm -rf \\u{1b}\"; wanted gzip, pigz, bzip2, \
         pbzip2, xz, lzma, zstd or zstdmt"
    );
}

#[test]
fn every_filter_in_pieces_of_any_size() {
    for filter in FILTERS.into_iter().chain([Filter::None]) {
        for bytes in [0, 1, 1000, 300_000] {
            let data = sample(bytes);
            let stream = encode(filter, &data);
            for piece in [1, 7, 4096, PIECE_BYTES, usize::MAX] {
                let found = decode(filter, &stream, piece).unwrap();
                assert!(found == data, "{filter} {bytes} {piece}");
            }
        }
    }
}

#[test]
fn several_members_are_one_stream() {
    for filter in [Filter::Gzip, Filter::Bzip2, Filter::Xz, Filter::Zstd] {
        let mut stream = encode(filter, b"one, ");
        stream.extend(encode(filter, b""));
        stream.extend(encode(filter, b"two"));
        for piece in [1, 1000] {
            let found = decode(filter, &stream, piece).unwrap();
            assert_eq!(found, b"one, two", "{filter}");
        }
    }
}

//= spec/format3.md#ends-of-a-compressed-stream
#[test]
fn garbage_after_the_end_is_refused() {
    for filter in FILTERS {
        for garbage in [&b"garbage, more than a header is long"[..], b"\0x"] {
            let mut stream = encode(filter, b"data");
            stream.extend(garbage);
            let error = decode(filter, &stream, 5).unwrap_err();
            let refused = matches!(
                error,
                CompressionError::Corrupt { .. }
                    | CompressionError::Truncated { .. }
            );
            assert!(refused, "{filter}: {error}");
        }
    }
}

/// tar fills up to 10,240 bytes what its compressor writes to a named pipe.
#[test]
fn zeros_after_the_end_are_padding() {
    for filter in FILTERS {
        let mut stream = encode(filter, b"data");
        stream.resize(10_240, 0);
        for piece in [1, 777, 10_240] {
            assert_eq!(decode(filter, &stream, piece).unwrap(), b"data");
        }
        stream.extend(encode(filter, b"more"));
        let error = decode(filter, &stream, 512).unwrap_err();
        let CompressionError::Corrupt { offset, message, .. } = error else {
            panic!("{filter}: {error}");
        };
        let wanted = "bytes behind the zeros after its end";
        let at = if filter == Filter::Lzma { offset } else { 10_240 };
        assert_eq!((offset, message.as_str()), (at, wanted), "{filter}");
    }
}

#[test]
fn a_cut_is_noticed_at_every_byte() {
    for filter in FILTERS {
        let stream = encode(filter, &sample(2000));
        for end in 0..stream.len() {
            let error = decode(filter, &stream[..end], 64).unwrap_err();
            let offset = end as u64;
            let wanted = CompressionError::Truncated { filter, offset };
            assert_eq!(error, wanted);
        }
    }
    assert_eq!(
        decode(Filter::Xz, b"\xfd7zXZ", 9).unwrap_err().to_string(),
        "xz stream: ends after 5 bytes; wanted its end mark"
    );
}

#[test]
fn a_flipped_bit_is_never_taken_for_the_data() {
    let data = sample(3000);
    for filter in [Filter::Gzip, Filter::Bzip2, Filter::Xz, Filter::Zstd] {
        let stream = encode(filter, &data);
        for at in 0..stream.len() {
            let mut wrong = stream.clone();
            wrong[at] ^= 0x10;
            // Some bits carry nothing, such as the time in a gzip header.
            if let Ok(found) = decode(filter, &wrong, 512) {
                assert!(found == data, "{filter}: byte {at}");
            }
        }
    }
}

#[test]
fn errors_say_where_and_what() {
    let error = decode(Filter::Gzip, b"no gzip at all", 1000).unwrap_err();
    let CompressionError::Corrupt { filter, offset, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!((*filter, *offset), (Filter::Gzip, 0));
    let text = error.to_string();
    assert!(text.starts_with("gzip stream: byte 0: "), "{text}");
    assert!(text.ends_with("; wanted gzip data"), "{text}");
}

/// What asks for more memory than any writer makes it ask for is no damage.
#[test]
fn memory_has_a_limit_of_its_own() {
    // Magic; no content size; a window of 2^(10 + n) bytes; one raw block.
    let zstd = |log: u8| {
        let head = [0x28, 0xb5, 0x2f, 0xfd, 0, (log - 10) << 3, 0x29, 0, 0];
        [&head[..], b"data!"].concat()
    };
    assert_eq!(decode(Filter::Zstd, &zstd(27), 64).unwrap(), b"data!");
    let error = decode(Filter::Zstd, &zstd(28), 64).unwrap_err();
    let (filter, limit) = (Filter::Zstd, 1 << 27);
    let wanted = CompressionError::Memory { filter, offset: 0, limit };
    assert_eq!(error, wanted);
    assert_eq!(
        error.to_string(),
        "zstd stream: byte 0: it asks for more than 134217728 bytes of \
         memory; wanted at most so many"
    );
    let mut options = liblzma::stream::LzmaOptions::new_preset(0).unwrap();
    options.dict_size(256 << 20);
    let mut filters = liblzma::stream::Filters::new();
    filters.lzma2(&options);
    let check = liblzma::stream::Check::Crc32;
    let stream = liblzma::stream::Stream::new_stream_encoder(&filters, check);
    let stream = stream.unwrap();
    let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
    encoder.write_all(b"data").unwrap();
    let stream = encoder.finish().unwrap();
    let error = decode(Filter::Xz, &stream, 1 << 16).unwrap_err();
    let (filter, limit) = (Filter::Xz, 160 << 20);
    assert_eq!(error, CompressionError::Memory { filter, offset: 0, limit });
}

/// A bomb comes out in pieces, and whoever counts them can stop it.
#[test]
fn a_bomb_is_stopped_by_its_sink() {
    for filter in FILTERS {
        let stream = encode(filter, &vec![0; 64 << 20]);
        let mut taken = 0;
        let mut decoder = Decompressor::new(filter).unwrap();
        let pushed = decoder.push(&stream, &mut |bytes: &[u8]| {
            taken += bytes.len();
            if taken > 1 << 20 { Err("too much") } else { Ok(()) }
        });
        assert!(matches!(pushed, Err(PushError::Sink("too much"))));
        assert!(taken <= (1 << 20) + PIECE_BYTES, "{filter}: {taken}");
    }
}

/// Streams that another implementation wrote.
#[test]
fn streams_of_python_are_read() {
    let data = sample(100_000);
    let programs = [
        (Filter::Gzip, "gzip.compress(data)"),
        (Filter::Bzip2, "bz2.compress(data)"),
        (Filter::Xz, "lzma.compress(data)"),
        (Filter::Lzma, "lzma.compress(data, format=lzma.FORMAT_ALONE)"),
    ];
    for (filter, call) in programs {
        let program = format!(
            "import bz2, gzip, lzma, sys\n\
             data = sys.stdin.buffer.read()\n\
             sys.stdout.buffer.write({call})"
        );
        let child = Command::new("python3")
            .args(["-c", &program])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut child = child.unwrap_or_else(|error| {
            panic!("python3: {error}; install the package python3")
        });
        child.stdin.take().unwrap().write_all(&data).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        let found = decode(filter, &output.stdout, 1000).unwrap();
        assert!(found == data, "{filter}");
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_end(
        bytes in proptest::collection::vec(any::<u8>(), 0..2000),
        piece in 1usize..2000,
        which in 0..FILTERS.len(),
    ) {
        let _ = decode(FILTERS[which], &bytes, piece);
    }

    #[test]
    fn damaged_streams_end(
        data in proptest::collection::vec(any::<u8>(), 0..500),
        damage in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..4),
        which in 0..FILTERS.len(),
    ) {
        let mut stream = encode(FILTERS[which], &data);
        for (at, byte) in damage {
            let at = at % stream.len();
            stream[at] = byte;
        }
        let _ = decode(FILTERS[which], &stream, 33);
    }
}
