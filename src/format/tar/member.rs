//! From the headers of one member to an [`Entry`], or to why there is none.
//!
//! Lives here: which headers may come together, which of them counts, what a
//! profile allows, `L` and `K`. May not live here: the order of blocks.

use super::error::{Place, TarError};
use super::header::{Flavor, GNU_REAL_SIZE, Header, MODE, SIZE};
use super::pax::{Records, SparseRecords};
use super::sparse::{Map, Segment};
use super::{Entry, Kind, Limits, Profile};

/// Headers before the one of the member itself.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub(super) pax: Option<Records>,
    /// GNU `L`.
    pub(super) path: Option<Vec<u8>>,
    /// GNU `K`.
    pub(super) link: Option<Vec<u8>>,
}

impl Pending {
    /// Whether a member has begun.
    pub(super) fn is_empty(&self) -> bool {
        self.pax.is_none() && self.path.is_none() && self.link.is_none()
    }

    /// The path, if one of these headers gives it.
    pub(super) fn path(&self) -> Option<&[u8]> {
        let pax = self.pax.as_ref();
        let sparse = pax.and_then(|pax| pax.sparse.as_ref()?.name.as_deref());
        let path = pax.and_then(|pax| pax.path.as_deref());
        sparse.or(path).or(self.path.as_deref())
    }
}

/// A header whose body describes the member after it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Meta {
    /// `x`
    Pax,
    /// `L`
    LongPath,
    /// `K`
    LongLink,
}

impl Meta {
    /// How messages call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Pax => "a PAX header",
            Self::LongPath => "a GNU long path",
            Self::LongLink => "a GNU long link",
        }
    }

    /// Largest body; a long name has its NUL in it.
    pub(super) fn limit(self, limits: &Limits) -> (&'static str, u64) {
        let path = limits.path_bytes_max.saturating_add(1);
        match self {
            Self::Pax => ("PAX header bytes", limits.pax_bytes_max),
            Self::LongPath => ("GNU long path bytes", path),
            Self::LongLink => ("GNU long link bytes", path),
        }
    }
}

/// What a type flag asks for.
pub(super) enum Flag {
    Meta(Meta),
    Member(MemberFlag),
}

/// The type flag of a member.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum MemberFlag {
    File,
    GnuSparse,
    Directory,
    Symlink,
    HardLink,
}

impl Flag {
    /// Every type flag that a profile allows.
    ///
    /// Outer archives are written with `--posix`: `x` may come, `L` and `K`
    /// cannot. A global header `g` is refused in both: no program that writes
    /// backups writes one, and it changes the meaning of all that follows.
    pub(super) fn read(
        untrusted_flag: u8,
        profile: Profile,
        at: &Place,
    ) -> Result<Self, TarError> {
        use Profile::Inner;
        Ok(match (untrusted_flag, profile) {
            (b'0' | 0, _) => Self::Member(MemberFlag::File),
            (b'x', _) => Self::Meta(Meta::Pax),
            (b'L', Inner) => Self::Meta(Meta::LongPath),
            (b'K', Inner) => Self::Meta(Meta::LongLink),
            (b'S', Inner) => Self::Member(MemberFlag::GnuSparse),
            (b'5', Inner) => Self::Member(MemberFlag::Directory),
            (b'2', Inner) => Self::Member(MemberFlag::Symlink),
            (b'1', Inner) => Self::Member(MemberFlag::HardLink),
            (found, _) => {
                let (at, name) = (at.clone(), flag_name(found));
                let expected = match profile {
                    //= spec/format3.md#members-are-plain-files
                    Profile::Outer => "regular files only",
                    //= spec/format3.md#kinds-of-inner-members
                    Inner => "files, directories and links only",
                };
                return Err(TarError::Type { at, found, name, expected });
            }
        })
    }
}

fn flag_name(flag: u8) -> &'static str {
    match flag {
        b'1' => "hard link",
        b'2' => "symbolic link",
        b'3' => "character device",
        b'4' => "block device",
        b'5' => "directory",
        b'6' => "FIFO",
        b'7' => "contiguous file",
        b'g' => "global PAX header",
        b'A' => "Solaris access list",
        b'D' => "GNU directory dump",
        b'K' => "GNU long link",
        b'L' => "GNU long path",
        b'M' => "GNU continuation of another volume",
        b'N' => "old GNU long path",
        b'S' => "GNU sparse file",
        b'V' => "GNU volume label",
        b'X' => "Solaris PAX header",
        _ => "unknown",
    }
}

/// What follows the header of a member.
pub(super) enum Body {
    /// Data that belongs here.
    Data(Vec<Segment>),
    /// Blocks with more of an old GNU map.
    Continuation(Map),
    /// The map of PAX 1.0, then data.
    MapText(Map),
}

/// Joins the header of a member and those before it.
pub(super) fn join(
    header: Header<'_>,
    flag: MemberFlag,
    pending: Pending,
    limits: &Limits,
    at: &Place,
) -> Result<(Entry, Body), TarError> {
    check_combination(header, flag, &pending, at)?;
    let size = header.number(&SIZE, at)?;
    let mtime = header.mtime(at)?;
    let mode = header.number(&MODE, at)? & 0o7777;
    let path = pending.path().map_or_else(|| header.path(), <[u8]>::to_vec);
    check_name(&path, "path", limits, at)?;
    let Pending { pax, link: long_link, .. } = pending;
    let pax = pax.unwrap_or_default();
    let stored_size = pax.size.unwrap_or(size);
    let target = || {
        let target = pax.link.or(long_link).unwrap_or_else(|| header.link());
        check_name(&target, "link target", limits, at).map(|()| target)
    };
    let kind = match flag {
        MemberFlag::File | MemberFlag::GnuSparse => Kind::File,
        MemberFlag::Directory => Kind::Directory,
        MemberFlag::Symlink => Kind::Symlink { target: target()? },
        MemberFlag::HardLink => Kind::HardLink { target: target()? },
    };
    check_kind(&kind, &path, stored_size, at)?;
    let sparse = match (flag, pax.sparse) {
        (MemberFlag::GnuSparse, _) => Some(gnu_map(header, limits, at)?),
        (_, Some(records)) => Some(pax_map(records, limits, at)?),
        (_, None) => None,
    };
    let mut entry = Entry {
        path,
        kind,
        mode: u16::try_from(mode).unwrap_or_default(),
        mtime: pax.mtime.unwrap_or(mtime),
        size: stored_size,
        stored_size,
        sparse: sparse.is_some(),
    };
    let body = match sparse {
        None if stored_size == 0 => Body::Data(Vec::new()),
        None => Body::Data(vec![Segment { offset: 0, length: stored_size }]),
        Some((size, map)) => {
            entry.size = size;
            match map {
                Layout::Complete(map) => {
                    Body::Data(map.complete(stored_size, at)?)
                }
                Layout::Continued(map) => Body::Continuation(map),
                Layout::Text(map) => Body::MapText(map),
            }
        }
    };
    Ok((entry, body))
}

/// A map, and whether all of it was in the headers.
enum Layout {
    Complete(Map),
    Continued(Map),
    Text(Map),
}

/// Refuses what readers do not agree about.
fn check_combination(
    header: Header<'_>,
    flag: MemberFlag,
    pending: &Pending,
    at: &Place,
) -> Result<(), TarError> {
    let wrong = |found, expected| {
        Err(TarError::Structure { at: at.clone(), found, expected })
    };
    let is_gnu = header.flavor == Flavor::Gnu;
    let is_sparse = flag == MemberFlag::GnuSparse;
    let pax = pending.pax.as_ref();
    if is_sparse && !is_gnu {
        return wrong("a GNU sparse file with a POSIX header", "a GNU header");
    }
    if !is_sparse && header.has_gnu_rest() {
        return wrong("a GNU header with bytes after its fields", "zeros");
    }
    if is_gnu && pax.is_some() {
        return wrong("a PAX header before a GNU header", "a POSIX header");
    }
    if flag != MemberFlag::File && pax.is_some_and(|p| p.sparse.is_some()) {
        return wrong("a PAX sparse map of no regular file", "none");
    }
    let is_old_directory = header.kind() == 0 && header.path().ends_with(b"/");
    if is_old_directory && pending.path().is_some() {
        // GNU tar judges by the path that counts, Python by this one.
        return wrong(
            "a file of type NUL with the name of a directory",
            "\"0\"",
        );
    }
    let twice = if pending.path.is_some() && pax.is_some() {
        "GNU long path and PAX header"
    } else if pending.link.is_some() && pax.is_some() {
        "GNU long link and PAX header"
    } else {
        return Ok(());
    };
    Err(TarError::Twice { at: at.clone(), what: twice })
}

fn check_name(
    untrusted_name: &[u8],
    field: &'static str,
    limits: &Limits,
    at: &Place,
) -> Result<(), TarError> {
    let at = || at.clone();
    if untrusted_name.is_empty() {
        let fault = "is empty, expected at least one byte";
        return Err(TarError::Name { at: at(), field, fault });
    }
    let found = u64::try_from(untrusted_name.len()).unwrap_or(u64::MAX);
    let limit = limits.path_bytes_max;
    if found > limit {
        let what = "bytes of a path or link target";
        return Err(TarError::Limit { at: at(), what, found, limit });
    }
    Ok(())
}

/// GNU tar steps over the data of a directory or a symbolic link, Python does
/// not; POSIX lets a hard link have data, GNU tar does not. A file `x/` is a
/// directory to GNU tar.
fn check_kind(
    kind: &Kind,
    path: &[u8],
    found: u64,
    at: &Place,
) -> Result<(), TarError> {
    let (name, has_data, may_have_slash) = match kind {
        Kind::File => ("file", true, false),
        Kind::Directory => ("directory", false, true),
        Kind::Symlink { .. } => ("symbolic link", false, false),
        Kind::HardLink { .. } => ("hard link", false, false),
    };
    let at = || at.clone();
    if found > 0 && !has_data {
        return Err(TarError::SizeOfKind { at: at(), kind: name, found });
    }
    if path.ends_with(b"/") && !may_have_slash {
        let fault = "ends in \"/\", expected that of a directory only";
        return Err(TarError::Name { at: at(), field: "path", fault });
    }
    Ok(())
}

fn gnu_map(
    header: Header<'_>,
    limits: &Limits,
    at: &Place,
) -> Result<(u64, Layout), TarError> {
    let size = header.number(&GNU_REAL_SIZE, at)?;
    let mut map = Map::new(size, limits.segments_max);
    let has_ended = map.add_slots(header.slots(), at)?;
    match (has_ended, header.is_extended(at)?) {
        (_, false) => Ok((size, Layout::Complete(map))),
        (false, true) => Ok((size, Layout::Continued(map))),
        // GNU tar would not read that block, Python would.
        (true, true) => Err(TarError::Structure {
            at: at.clone(),
            found: "a continuation of a sparse map that has ended",
            expected: "none",
        }),
    }
}

fn pax_map(
    records: SparseRecords,
    limits: &Limits,
    at: &Place,
) -> Result<(u64, Layout), TarError> {
    let SparseRecords { size, real_size, count, pairs, .. } = records;
    let is_zero = records.map.is_some() || !pairs.is_empty();
    let segments = match (records.major, records.minor) {
        (Some(1), Some(0)) => {
            let (Some(size), None, None, false) =
                (real_size, size, count, is_zero)
            else {
                return Err(contradiction(at));
            };
            let map = Map::new(size, limits.segments_max);
            return Ok((size, Layout::Text(map)));
        }
        (None, None) => match records.map {
            Some(map) if pairs.is_empty() => map,
            None if records.name.is_none() => pairs,
            _ => return Err(contradiction(at)),
        },
        (major, minor) => {
            let (major, minor) = (major.unwrap_or(0), minor.unwrap_or(0));
            return Err(TarError::SparseVersion {
                at: at.clone(),
                major,
                minor,
            });
        }
    };
    let (Some(size), None, true) = (size, real_size, is_zero) else {
        return Err(contradiction(at));
    };
    if count.is_some_and(|count| usize::try_from(count) != Ok(segments.len())) {
        return Err(TarError::Structure {
            at: at.clone(),
            found: "GNU.sparse.numblocks other than the map's length",
            expected: "the same",
        });
    }
    let mut map = Map::new(size, limits.segments_max);
    for segment in segments {
        map.add(segment, at)?;
    }
    Ok((size, Layout::Complete(map)))
}

fn contradiction(at: &Place) -> TarError {
    TarError::Structure {
        at: at.clone(),
        found: "GNU.sparse keys that are incomplete or of several formats",
        expected: "those of 0.0, 0.1 or 1.0",
    }
}

/// The body of `L` or `K`: a name, and one NUL after it.
///
/// Without the NUL, GNU tar and Python read on in the padding; a second one
/// is a part of the name for some readers.
pub(super) fn long_name(
    untrusted_body: &[u8],
    field: &'static str,
    at: Place,
) -> Result<Vec<u8>, TarError> {
    match untrusted_body.strip_suffix(b"\0") {
        Some(name) if !name.contains(&0) => Ok(name.to_vec()),
        _ => {
            let fault = "has not one NUL byte at its end, expected just that";
            Err(TarError::Name { at, field, fault })
        }
    }
}
