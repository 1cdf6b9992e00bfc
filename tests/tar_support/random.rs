//! Archives by the dozen, the same every time: whole ones, and damaged ones.

use crate::tar_support::{
    GNU, POSIX, Raw, archive, base256, file, gnu_sparse, long, number, pax,
    pax_sparse_0, pax_sparse_1, seal,
};

/// Numbers from a seed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn index(&mut self, end: usize) -> usize {
        usize::try_from(self.below(end as u64)).unwrap()
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.index(from.len())].clone()
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn bytes(&mut self, length: u64) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }

    /// A relative path, unique by its number.
    fn path(&mut self, unique: usize, is_long: bool) -> Vec<u8> {
        let mut path = format!("m{unique}").into_bytes();
        let parts = if is_long { 4 } else { 1 };
        for _ in 0..parts {
            let length = if is_long { 30 + self.below(60) } else { 8 };
            for _ in 0..length {
                let odd: [&[u8]; 5] =
                    ["é".as_bytes(), b"\n", b" ", b"\\", b"="];
                let letter = [b'a' + self.below(26) as u8];
                let is_odd = self.chance(5);
                path.extend(if is_odd { self.pick(&odd) } else { &letter });
            }
            path.push(b'-');
            if is_long {
                path.extend(format!("/p{unique}").bytes());
            }
        }
        path
    }

    /// A map in order, the size of its file, and its data.
    fn map(&mut self) -> (u64, Vec<(u64, u64)>, Vec<u8>) {
        let (mut map, mut end) = (vec![], 0);
        let most = self.pick(&[1, 4, 5, 26, 60]);
        for index in 0..=self.below(most) {
            // The first may begin at 0; later ones may touch.
            let touches = index > 0 && self.chance(20);
            let gap = if touches { 0 } else { self.below(400) };
            let length = 512 * (1 + self.below(4));
            map.push((end + gap, length));
            end += gap + length;
        }
        // The last need not fill its block.
        if let Some((_, length)) = map.last_mut() {
            let less = self.below(512);
            *length -= less;
            end -= less;
        }
        let size = if self.chance(50) { end } else { end + self.below(5000) };
        if size > end || self.chance(20) {
            map.push((size, 0));
        }
        let stored = map.iter().map(|(_, length)| length).sum();
        (size, map, self.bytes(stored))
    }

    /// A member that all readers understand; `twin` is an earlier file.
    fn member(&mut self, unique: usize, twin: &[u8]) -> Vec<u8> {
        let is_long = self.chance(30);
        let path = self.path(unique, is_long);
        let choice = self.below(10);
        if choice < 4 {
            let (size, map, data) = self.map();
            let short = self.path(unique, false);
            return match choice {
                0 => gnu_sparse(&short, size, &map, &data),
                1 => pax_sparse_0(&short, size, &map, &data, true),
                2 => pax_sparse_0(&path, size, &map, &data, false),
                _ => pax_sparse_1(&path, size, &map, &data),
            };
        }
        let (kind, link) = match choice {
            4 => (b'5', vec![]),
            5 if is_long => (b'2', b"../to/".repeat(30)),
            5 => (b'2', b"to \n it".to_vec()),
            6 => (b'1', twin.to_vec()),
            _ => (b'0', vec![]),
        };
        let length = if kind == b'0' { self.below(1600) } else { 0 };
        let data = self.bytes(length);
        let magic = self.pick(&[GNU, POSIX]);
        let mut raw = self.header(magic, kind, &path, &link, length);
        if magic == GNU {
            let mut bytes = vec![];
            if link.len() > 100 {
                bytes.extend(long(b'K', &link));
            }
            if path.len() > 100 || self.chance(10) {
                bytes.extend(long(b'L', &path));
            }
            return [bytes, raw.with(&data)].concat();
        }
        let text = length.to_string();
        let mut records: Vec<(&[u8], &[u8])> = vec![];
        if self.chance(30) {
            records.push((b"comment", b"x\n10 size=9\ny=\n"));
        }
        if path.len() > 100 || self.chance(10) {
            records.push((b"path", &path));
        }
        if link.len() > 100 {
            records.push((b"linkpath", &link));
        }
        if self.chance(20) {
            records.push((b"mtime", b"1700000000.123456789"));
        }
        if kind == b'0' && self.chance(20) {
            records.push((b"size", text.as_bytes()));
            raw.size = number(0);
        }
        let header = if records.is_empty() { vec![] } else { pax(&records) };
        [header, raw.with(&data)].concat()
    }

    /// A header with each number written in one of the ways there are.
    fn header(
        &mut self,
        magic: [u8; 8],
        kind: u8,
        path: &[u8],
        link: &[u8],
        size: u64,
    ) -> Raw {
        let times = [0, 1, 1_000_000_000, 1 << 31, 5_000_000_000];
        let sizes = [
            number(size),
            format!("{size:>11o} ").into_bytes(),
            format!("{size:>12o}").into_bytes(),
            base256(size.into()),
        ];
        let mode = format!("{:07o}\0", 0o700 | self.below(0o100));
        Raw {
            link: link.to_vec(),
            mode: mode.into_bytes(),
            size: self.pick(&sizes),
            mtime: number(self.pick(&times)),
            signed_sum: path.is_ascii() && self.chance(20),
            padding: self.pick(&[0, 0xff]),
            ..Raw::new(magic, kind, path, size)
        }
    }

    /// An archive that all readers understand.
    pub(crate) fn whole(&mut self) -> Vec<u8> {
        let twin = b"twin".to_vec();
        let mut all = vec![file(&twin, b"content")];
        for unique in 0..=self.index(5) {
            all.push(self.member(unique, &twin));
        }
        archive(&all)
    }

    /// Something else somewhere, mostly with a checksum that is right.
    pub(crate) fn damage(&mut self, bytes: &mut Vec<u8>) {
        let blocks = bytes.len() / 512;
        let is_header =
            |block: &usize| bytes[block * 512 + 257..].starts_with(b"ustar");
        let headers: Vec<usize> = (0..blocks).filter(is_header).collect();
        if headers.is_empty() {
            return;
        }
        let header = self.pick(&headers) * 512;
        let mut is_sealed = true;
        match self.below(12) {
            0 | 1 => {
                // Anything but the names.
                let fields =
                    [(100, 24), (124, 24), (156, 1), (257, 8), (329, 183)];
                let (start, length) = self.pick(&fields);
                bytes[header + start + self.index(length)] = self.next() as u8;
            }
            2 => {
                let (at, end) =
                    self.pick(&[(100, 8), (124, 12), (136, 12), (483, 12)]);
                let odd = self.pick(&ODD_NUMBERS);
                bytes[header + at..][..end].copy_from_slice(&odd[..end]);
            }
            3 => {
                let kinds = b"0\x001256789KLSxgXMVDN";
                bytes[header + 156] = self.pick(kinds);
            }
            4 => {
                let magic = self.pick(&[GNU, POSIX, *b"ustar  0", [0; 8]]);
                bytes[header + 257..][..8].copy_from_slice(&magic);
            }
            5 => {
                let from = self.index(blocks) * 512;
                let copy = bytes[from..from + 512].to_vec();
                let at = self.index(blocks) * 512;
                bytes.splice(at..at, copy);
            }
            6 => {
                let at = self.index(blocks) * 512;
                bytes.drain(at..at + 512);
            }
            7 => {
                is_sealed = false;
                let at = header + self.index(512);
                bytes[at] ^= 1 << self.below(8);
            }
            8 => bytes.truncate(self.index(bytes.len())),
            9 => bytes[header + 386 + self.index(110)] = self.next() as u8,
            _ => {
                // The body of a header, a map, or data.
                let at = header + 512 + self.index(200);
                let at = at.min(bytes.len() - 1);
                bytes[at] = self.pick(b"0123456789=\n ,\0x");
            }
        }
        if is_sealed {
            seal(bytes);
        }
    }
}

/// Some of them are numbers to some readers.
const ODD_NUMBERS: [&[u8; 12]; 10] = [
    b"\0\0\0\0\0\0\0\0\0\0\0\0",
    b"            ",
    b"\x000000000001\0",
    b"00000001 234",
    b"00000001\x00234",
    b"-0000000001\0",
    b"\x80\0\0\0\0\0\0\0\0\0\0\x05",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    b"0o000000012\0",
    b"0000_000012\0",
];
