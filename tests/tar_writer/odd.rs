//! Members that some writer or reader has got wrong.

use qubes_fsm::format::tar::Segment;

use crate::tar_support::mtime;
use crate::wanted::{Wanted, What, in_both, long_path, pieces};

const GIB: u64 = 1 << 30;

fn file(path: impl Into<Vec<u8>>, size: u64) -> Wanted {
    Wanted::new(path, What::File(size, None))
}

fn image(path: &str, size: u64, map: &[(u64, u64)]) -> Wanted {
    let segment = |(offset, length): &(u64, u64)| Segment {
        offset: *offset,
        length: *length,
    };
    let map = map.iter().map(segment).collect();
    Wanted::new(path, What::File(size, Some(map)))
}

/// Names with bytes of all sorts, long ones, and links to them.
pub(crate) fn names() -> Vec<Wanted> {
    let mut all = vec![
        file("new\nline/20 path=x\n", 3),
        file("back\\slash\\n", 3),
        file(b"not \xff\xfe utf-8 \xc3".as_slice(), 3),
        file("żółw", 3),
        file("dot/./inside", 3),
        file(" blanks ", 3),
        file("-dash", 3),
        file("25 GNU.sparse.size=1\n", 3),
        Wanted::new("with-slash/", What::Directory),
        Wanted::new("directory", What::Directory),
    ];
    // Long enough for a record whose own length gets a digit more.
    for length in 80..110 {
        all.push(file(vec![b'a' + (length % 26) as u8; length], 1));
    }
    for length in [101, 154, 155, 156, 255, 256, 257, 1000, 4093] {
        let name = format!("l{length}");
        all.push(file(long_path(&name, length), 5));
        let mut sparse = image("", 8192, &[(4096, 512)]);
        sparse.path = long_path(&format!("s{length}"), length);
        all.push(sparse);
        let mut directory = Wanted::new("", What::Directory);
        directory.path = long_path(&format!("d{length}"), length);
        all.push(directory);
    }
    // Cut in prefix and name at the last place, or not at all.
    for (prefix, name) in [
        (153, 98),
        (153, 99),
        (153, 100),
        (153, 101),
        (154, 1),
        (154, 100),
        (3, 101),
    ] {
        let path = [vec![b'p'; prefix], vec![b'q'; name]].join(&b'/');
        all.push(file(path, 2));
    }
    for (length, bytes) in [(100, b'\xc3'), (101, b'\xff'), (254, b'\xe9')] {
        all.push(file(vec![bytes; length], 2));
    }
    all.extend(links());
    let mut all = in_both(all);
    all.push(file("./leading", 3));
    all
}

fn links() -> Vec<Wanted> {
    let mut all = Vec::new();
    let targets: [&[u8]; 10] = [
        b"user/x",
        b"username-like",
        b"user",
        b"/usr/bin/env",
        b"../up",
        b"gone/",
        b".",
        b"a\nb\\",
        b"\xff\xfe",
        b"//",
    ];
    for (index, target) in targets.into_iter().enumerate() {
        let what = What::Symlink(target.to_vec());
        all.push(Wanted::new(format!("soft{index}"), what));
    }
    for length in [99, 100, 101, 255, 256, 4095] {
        let target = vec![b't'; length];
        let what = What::Symlink(target);
        all.push(Wanted::new(format!("soft-{length}"), what));
    }
    for length in [90, 97, 98, 99, 150, 1000, 4093] {
        let target = long_path(&format!("to{length}"), length);
        all.push(file(target.clone(), 9));
        let what = What::HardLink(target);
        all.push(Wanted::new(format!("hard-{length}"), what));
    }
    let name = long_path("both", 300);
    all.push(Wanted::new(name, What::Symlink(vec![b'b'; 300])));
    for wanted in &mut all {
        if matches!(wanted.what, What::Symlink(_)) {
            wanted.mode = 0o777;
        }
    }
    all
}

/// Files with holes, from none to thousands.
pub(crate) fn maps() -> Vec<Wanted> {
    let mut all = vec![
        file("empty", 0),
        file("block", 512),
        file("block-and-one", 513),
        image("map-of-empty", 0, &[]),
        image("no-hole", 5000, &[(0, 5000)]),
        image("no-hole-in-two", 5000, &[(0, 4096), (4096, 904)]),
        image("all-hole", 20 * GIB, &[]),
        image("one-byte-hole", 1, &[]),
        image("hole-at-start", 12288, &[(8192, 4096)]),
        image("hole-at-end", 12288, &[(0, 4096)]),
        image("hole-at-odd-end", 12289, &[(0, 4096)]),
        image("hole-at-both", 20 * GIB + 1, &[(9 * GIB, 8192)]),
        image("odd-end", 9 * GIB + 77, &[(0, 4096), (9 * GIB, 77)]),
        image("touching", 65536, &[(0, 512), (512, 1024), (8192, 4096)]),
        image(
            "empty-segments",
            65536,
            &[(0, 0), (0, 512), (512, 0), (9000, 0), (16384, 10), (65536, 0)],
        ),
    ];
    for count in [3, 4, 5, 24, 25, 26, 45, 46, 47, 10_001] {
        // Many holes in each block of the file system, or a few blocks each.
        let stride = if count > 100 { 1024 } else { 8192 };
        // With a hole behind the data, and without one.
        for (name, hole) in [("end", 0), ("hole", 1)] {
            let size = (count - 1) * stride + 512 + hole;
            let what = What::File(size, Some(pieces(count, stride)));
            all.push(Wanted::new(format!("{name}-{count}"), what));
        }
    }
    in_both(all)
}

/// Modes, owners and times that a file system takes.
pub(crate) fn facts() -> Vec<Wanted> {
    let mut all = Vec::new();
    for mode in [0, 0o7777, 0o4711, 0o2750, 0o1777, 0o644] {
        for what in [What::File(6, None), What::Directory] {
            let path = format!("mode-{mode:o}-{}", all.len());
            let mut wanted = Wanted::new(path, what);
            wanted.mode = mode;
            all.push(wanted);
        }
    }
    for id in [0, 1000, 2_097_151, 2_097_152, 0x7fff_ffff, u32::MAX] {
        let mut wanted = file(format!("id-{id}"), 6);
        (wanted.uid, wanted.gid) = (id, id ^ 1);
        all.push(wanted);
    }
    let mut all = in_both(all);
    for (seconds, nanoseconds) in [
        (0, 0),
        (0, 1),
        (0, 999_999_999),
        (-1, 0),
        (-1, 1),
        (-1, 500_000_000),
        (-1, 999_999_999),
        (-2, 500_000_000),
        (-1_000_000_000, 0),
        (-1_000_000_000, 100_000_000),
        (0x7fff_ffff, 0),
        (0x8000_0000, 10),
        (1_700_000_000, 120_000_000),
    ] {
        let sparse = image("", 4096, &[]).what;
        for what in [
            What::File(0, None),
            sparse,
            What::Directory,
            What::Symlink(b"x".to_vec()),
        ] {
            let mut wanted = Wanted::new(format!("time-{}", all.len()), what);
            wanted.mode = 0o777;
            wanted.mtime = mtime(seconds, nanoseconds);
            all.push(wanted);
        }
    }
    all
}

/// Times that no file system takes, and that readers must still show.
pub(crate) fn far_times() -> Vec<Wanted> {
    let mut all = Vec::new();
    for seconds in [i64::MIN, -(1 << 40), 1 << 33, 1 << 40, i64::MAX] {
        for nanoseconds in [0, 1, 999_999_999] {
            let mut wanted = file(format!("far-{}", all.len()), 1);
            wanted.mtime = mtime(seconds, nanoseconds);
            all.push(wanted);
        }
    }
    all
}
