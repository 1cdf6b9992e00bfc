//! The records of a PAX header, written.
//!
//! Lives here: which records a member needs, the length of a record. May not
//! live here: the header that they stand in.
//!
//! Source: POSIX.1-2017 `pax`, "pax Extended Header"; GNU tar 1.35 manual,
//! "Storing Sparse Files", for the keys `GNU.sparse.*`.

use super::block::split;
use super::{LINK, NewEntry};
use crate::format::tar::Mtime;

/// What the header of a member with such a link target cannot say. The real
/// size is that of a sparse file.
pub(super) fn body(
    entry: &NewEntry<'_>,
    target: &[u8],
    real_size: Option<u64>,
) -> Vec<u8> {
    let mut body = Vec::new();
    record(b"mtime", time(entry.mtime).as_bytes(), &mut body);
    if target.len() > LINK.len() {
        record(b"linkpath", target, &mut body);
    }
    if let Some(size) = real_size {
        // No `path` beside this name: Python takes the other one.
        record(b"GNU.sparse.major", b"1", &mut body);
        record(b"GNU.sparse.minor", b"0", &mut body);
        record(b"GNU.sparse.name", entry.path, &mut body);
        let size = size.to_string();
        record(b"GNU.sparse.realsize", size.as_bytes(), &mut body);
    } else if split(entry.path).is_none() {
        record(b"path", entry.path, &mut body);
    }
    body
}

/// `LENGTH KEY=VALUE` and a newline; the length counts itself too.
fn record(key: &[u8], value: &[u8], out: &mut Vec<u8>) {
    // A blank, an equals sign, a newline.
    let rest = key.len() + value.len() + 3;
    let mut length = rest;
    loop {
        let next = rest + length.to_string().len();
        if next == length {
            break;
        }
        length = next;
    }
    out.extend(format!("{length} ").into_bytes());
    for part in [key, b"=", value, b"\n"] {
        out.extend(part);
    }
}

/// Seconds with nine decimals; below zero they count away from zero, as a
/// number does, and not up from the second before.
fn time(mtime: Mtime) -> String {
    let Mtime { seconds, nanoseconds } = mtime;
    if seconds >= 0 || nanoseconds == 0 {
        return format!("{seconds}.{nanoseconds:09}");
    }
    let whole = seconds.saturating_add(1).unsigned_abs();
    let fraction = 1_000_000_000_u32.saturating_sub(nanoseconds);
    format!("-{whole}.{fraction:09}")
}
