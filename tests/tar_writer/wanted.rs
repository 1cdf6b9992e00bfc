//! Members to be written, with data that can be told from any other.

use qubes_fsm::format::tar::{
    Entry, Kind, Mtime, NewEntry, NewKind, Segment, encode, encoded_size, end,
    end_size, padding,
};

use crate::tar_support::{Member, mtime};

/// What a member shall be, once it was written and read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wanted {
    pub(crate) path: Vec<u8>,
    pub(crate) what: What,
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Mtime,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum What {
    File(u64, Option<Vec<Segment>>),
    Directory,
    Symlink(Vec<u8>),
    HardLink(Vec<u8>),
}

/// Both dialects: a whole second, and one with a fraction.
pub(crate) const TIMES: [Mtime; 2] = [
    Mtime { seconds: 1_400_000_000, nanoseconds: 0 },
    Mtime { seconds: 1_400_000_000, nanoseconds: 123_456_789 },
];

impl Wanted {
    pub(crate) fn new(path: impl Into<Vec<u8>>, what: What) -> Self {
        let (path, mtime) = (path.into(), mtime(1_400_000_000, 0));
        Self { path, what, mode: 0o640, uid: 0, gid: 98, mtime }
    }

    pub(crate) fn entry(&self) -> NewEntry<'_> {
        let Self { path, what, mode, uid, gid, mtime } = self;
        let kind = match what {
            What::File(size, map) => {
                NewKind::File { size: *size, map: map.as_deref() }
            }
            What::Directory => NewKind::Directory,
            What::Symlink(target) => NewKind::Symlink { target },
            What::HardLink(target) => NewKind::HardLink { target },
        };
        let (mode, uid, gid, mtime) = (*mode, *uid, *gid, *mtime);
        NewEntry { path, kind, mode, uid, gid, mtime }
    }

    pub(crate) fn size(&self) -> u64 {
        match self.what {
            What::File(size, _) => size,
            What::Directory | What::Symlink(_) | What::HardLink(_) => 0,
        }
    }

    /// Where data is, joined where it touches; nothing is empty.
    pub(crate) fn data(&self) -> Vec<Segment> {
        let whole = [Segment { offset: 0, length: self.size() }];
        let map = match &self.what {
            What::File(_, Some(map)) => map.as_slice(),
            What::File(_, None) => &whole,
            What::Directory | What::Symlink(_) | What::HardLink(_) => &[],
        };
        let mut joined: Vec<Segment> = Vec::new();
        for segment in map.iter().filter(|segment| segment.length > 0) {
            match joined.last_mut() {
                Some(last) if last.offset + last.length == segment.offset => {
                    last.length += segment.length;
                }
                _ => joined.push(*segment),
            }
        }
        joined
    }

    pub(crate) fn is_sparse(&self) -> bool {
        self.data().iter().map(|s| s.length).sum::<u64>() < self.size()
    }

    /// What our decoder shall say of it.
    pub(crate) fn member(&self) -> Member {
        let data = self.data();
        let mut stored = data.iter().map(|segment| segment.length).sum();
        if self.is_sparse() && self.mtime.nanoseconds > 0 {
            stored += self.text_size();
        }
        let kind = match self.what.clone() {
            What::File(..) => Kind::File,
            What::Directory => Kind::Directory,
            What::Symlink(target) => Kind::Symlink { target },
            What::HardLink(target) => Kind::HardLink { target },
        };
        let entry = Entry {
            path: self.path.clone(),
            kind,
            mode: self.mode,
            mtime: self.mtime,
            size: self.size(),
            stored_size: stored,
            sparse: self.is_sparse(),
        };
        let data =
            data.into_iter().map(|segment| (segment.offset, bytes(segment)));
        Member { entry, data: data.collect() }
    }

    /// The map of PAX 1.0 as anyone would write it, and padded.
    fn text_size(&self) -> u64 {
        let What::File(size, Some(map)) = &self.what else { return 0 };
        let mut numbers = Vec::new();
        let mut end = 0;
        for Segment { offset, length } in map.iter().filter(|s| s.length > 0) {
            numbers.extend([*offset, *length]);
            end = offset + length;
        }
        if end < *size {
            numbers.extend([*size, 0]);
        }
        numbers.insert(0, numbers.len() as u64 / 2);
        let text: String = numbers.iter().map(|n| format!("{n}\n")).collect();
        (text.len() as u64).next_multiple_of(512)
    }
}

/// What a file holds there: no byte is 0, and neighbours differ.
pub(crate) fn bytes(Segment { offset, length }: Segment) -> Vec<u8> {
    (offset..offset + length).map(|at| (at % 251) as u8 + 1).collect()
}

/// A whole archive; sizes are checked on the way.
pub(crate) fn written(all: &[Wanted]) -> Vec<u8> {
    let mut out = Vec::new();
    for wanted in all {
        let entry = wanted.entry();
        let start = out.len() as u64;
        let data = encode(&entry, &mut out).unwrap();
        let before = out.len() as u64;
        for segment in wanted.data() {
            out.extend(bytes(segment));
        }
        assert_eq!(out.len() as u64, before + data, "{:?}", wanted.path);
        out.resize(out.len() + padding(data), 0);
        let size = out.len() as u64 - start;
        assert_eq!(Ok(size), encoded_size(&entry), "{:?}", wanted.path);
    }
    let before = out.len();
    end(before as u64, &mut out);
    assert_eq!(out.len(), before + end_size(before as u64));
    assert!(out.len().is_multiple_of(10_240));
    assert!((1024..1024 + 10_240).contains(&(out.len() - before)));
    out
}

/// Each of these in both dialects, the second one below another directory.
pub(crate) fn in_both(all: Vec<Wanted>) -> Vec<Wanted> {
    let mut both = Vec::new();
    for wanted in all {
        for (top, time) in ["g/", "p/"].into_iter().zip(TIMES) {
            let mut wanted = wanted.clone();
            wanted.path = [top.as_bytes(), &wanted.path].concat();
            if let What::HardLink(target) = &mut wanted.what {
                *target = [top.as_bytes(), target].concat();
            }
            wanted.mtime = time;
            both.push(wanted);
        }
    }
    both
}

/// A path of so many bytes, of components of up to 200, begun with a name.
pub(crate) fn long_path(name: &str, length: usize) -> Vec<u8> {
    let mut path = name.as_bytes().to_vec();
    while path.len() < length {
        path.push(if path.len() % 201 == 200 { b'/' } else { b'n' });
    }
    assert!(!path.ends_with(b"/"), "a length that ends in a slash");
    path
}

/// So many pieces of 512 bytes, each at a multiple of a stride.
pub(crate) fn pieces(count: u64, stride: u64) -> Vec<Segment> {
    let piece = |n| Segment { offset: n * stride, length: 512 };
    (0..count).map(piece).collect()
}
