//! The records of a PAX header.
//!
//! Lives here: where a record ends, which keys mean something, their values.
//! May not live here: which of two headers counts.
//!
//! Source: POSIX.1-2017 `pax`, "pax Extended Header"; GNU tar 1.35 manual,
//! "Storing Sparse Files", for the keys `GNU.sparse.*`.

use std::collections::BTreeSet;

use super::Mtime;
use super::error::{Place, TarError, quoted};
use super::sparse::{Segment, decimal};

/// What one PAX header says, as far as it matters here.
#[derive(Debug, Default)]
pub(super) struct Records {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) mtime: Option<Mtime>,
    pub(super) sparse: Option<SparseRecords>,
}

/// The keys `GNU.sparse.*`; there if at least one of them was given.
#[derive(Debug, Default)]
pub(super) struct SparseRecords {
    pub(super) name: Option<Vec<u8>>,
    pub(super) major: Option<u64>,
    pub(super) minor: Option<u64>,
    /// `size`: the real size in 0.0 and 0.1.
    pub(super) size: Option<u64>,
    /// `realsize`: the same in 1.0.
    pub(super) real_size: Option<u64>,
    pub(super) count: Option<u64>,
    /// `map` of 0.1.
    pub(super) map: Option<Vec<Segment>>,
    /// `offset` and `numbytes` of 0.0, in turn.
    pub(super) pairs: Vec<Segment>,
    /// An `offset` whose `numbytes` did not come yet.
    open: Option<u64>,
}

impl Records {
    /// Reads the body of a PAX header that begins at `start`.
    ///
    /// A record is `LENGTH KEY=VALUE\n`; the length counts all of it. It is
    /// cut by that length alone: a value may hold newlines, and what follows
    /// them is not a record, whatever it looks like.
    ///
    /// # Errors
    /// `Record` for one that is not of that form, `RepeatedKey`, `Key`, and
    /// `Number` or `Name` for a value.
    pub(super) fn read(
        untrusted_body: &[u8],
        start: &Place,
    ) -> Result<Self, TarError> {
        let mut records = Self::default();
        let mut seen = BTreeSet::new();
        let mut rest = untrusted_body;
        while !rest.is_empty() {
            let at = &start.after(untrusted_body.len() - rest.len());
            let (record, after) = split_record(rest)
                .map_err(|fault| TarError::Record { at: at.clone(), fault })?;
            // Sparse format 0.0 is made of these two, in turn.
            let is_list = matches!(
                record.key,
                b"GNU.sparse.offset" | b"GNU.sparse.numbytes"
            );
            if !is_list && !seen.insert(record.key) {
                let key = quoted(record.key);
                return Err(TarError::RepeatedKey { at: at.clone(), key });
            }
            records.add(&record, at)?;
            rest = after;
        }
        match records.sparse.as_ref().and_then(|sparse| sparse.open) {
            None => Ok(records),
            Some(_) => Err(TarError::Structure {
                at: start.clone(),
                found: "GNU.sparse.offset without GNU.sparse.numbytes",
                expected: "both in turn",
            }),
        }
    }

    fn add(
        &mut self,
        untrusted: &Record<'_>,
        at: &Place,
    ) -> Result<(), TarError> {
        let value = untrusted.value;
        match untrusted.key {
            b"path" => self.path = Some(name(value, "path", at)?),
            b"linkpath" => self.link = Some(name(value, "linkpath", at)?),
            b"size" => self.size = Some(decimal(value, "PAX size", at)?),
            b"mtime" => self.mtime = Some(time(value, at)?),
            key if key.starts_with(b"GNU.sparse.") => {
                let sparse = self.sparse.get_or_insert_default();
                sparse.add(untrusted, at)?;
            }
            // One part of a file in several volumes.
            key if key.starts_with(b"GNU.volume.") => {
                let key = quoted(key);
                return Err(TarError::Key { at: at.clone(), key });
            }
            // Owner, times, attributes, comments: not restored.
            _ => {}
        }
        Ok(())
    }
}

impl SparseRecords {
    fn add(
        &mut self,
        untrusted: &Record<'_>,
        at: &Place,
    ) -> Result<(), TarError> {
        let value = untrusted.value;
        let number = |field| decimal(value, field, at).map(Some);
        match untrusted.key {
            b"GNU.sparse.map" | b"GNU.sparse.offset"
                if self.count.is_none() =>
            {
                // GNU tar has no room for the map then.
                return Err(TarError::Structure {
                    at: at.clone(),
                    found: "a sparse map without GNU.sparse.numblocks",
                    expected: "that before it",
                });
            }
            b"GNU.sparse.name" => {
                self.name = Some(name(value, "GNU.sparse.name", at)?);
            }
            b"GNU.sparse.major" => self.major = number("GNU.sparse.major")?,
            b"GNU.sparse.minor" => self.minor = number("GNU.sparse.minor")?,
            b"GNU.sparse.size" => self.size = number("GNU.sparse.size")?,
            b"GNU.sparse.realsize" => {
                self.real_size = number("GNU.sparse.realsize")?;
            }
            b"GNU.sparse.numblocks" => {
                self.count = number("GNU.sparse.numblocks")?;
            }
            b"GNU.sparse.map" => self.map = Some(map(value, at)?),
            b"GNU.sparse.offset" if self.open.is_none() => {
                self.open = number("GNU.sparse.offset")?;
            }
            b"GNU.sparse.numbytes" if self.open.is_some() => {
                let length = decimal(value, "GNU.sparse.numbytes", at)?;
                let offset = self.open.take().unwrap_or_default();
                self.pairs.push(Segment { offset, length });
            }
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
                return Err(TarError::Structure {
                    at: at.clone(),
                    found: "GNU.sparse.offset or GNU.sparse.numbytes alone",
                    expected: "both in turn",
                });
            }
            key => {
                let key = quoted(key);
                return Err(TarError::Key { at: at.clone(), key });
            }
        }
        Ok(())
    }
}

struct Record<'a> {
    key: &'a [u8],
    value: &'a [u8],
}

/// The first record and the rest, or what is wrong with it.
//= spec/format3.md#records-of-a-pax-header
fn split_record(
    untrusted_rest: &[u8],
) -> Result<(Record<'_>, &[u8]), &'static str> {
    let digits = untrusted_rest.iter().take_while(|b| b.is_ascii_digit());
    let digits = digits.count();
    let length = untrusted_rest.get(..digits).unwrap_or_default();
    let length = str::from_utf8(length).ok().and_then(|l| l.parse().ok());
    let length: usize = length.ok_or("has no length, expected digits")?;
    let (record, after) = untrusted_rest
        .split_at_checked(length)
        .ok_or("is longer than its header, expected to end in it")?;
    let text = record.strip_suffix(b"\n");
    let text = text.ok_or("does not end in a newline where its length says")?;
    let text = text.get(digits..).and_then(|text| text.strip_prefix(b" "));
    let text = text.ok_or("has no blank after its length, expected one")?;
    let equals = text.iter().position(|byte| *byte == b'=');
    let equals = equals.ok_or("has no \"=\", expected KEY=VALUE")?;
    match text.split_at_checked(equals) {
        Some((b"", _)) | None => Err("has an empty key, expected KEY=VALUE"),
        // To GNU tar a NUL ends the key.
        Some((key, _)) if key.iter().any(u8::is_ascii_control) => {
            Err("has a control character in its key, expected none")
        }
        Some((key, value)) => {
            let value = value.strip_prefix(b"=").unwrap_or_default();
            Ok((Record { key, value }, after))
        }
    }
}

/// A path: GNU tar ends it at a NUL, Python does not.
fn name(
    untrusted_value: &[u8],
    field: &'static str,
    at: &Place,
) -> Result<Vec<u8>, TarError> {
    if !untrusted_value.contains(&0) {
        return Ok(untrusted_value.to_vec());
    }
    let fault = "holds a NUL byte, expected none";
    Err(TarError::Name { at: at.clone(), field, fault })
}

/// Seconds with an optional fraction, rounded down to nanoseconds.
fn time(untrusted_value: &[u8], at: &Place) -> Result<Mtime, TarError> {
    parse_time(untrusted_value).ok_or_else(|| TarError::Number {
        at: at.clone(),
        field: "PAX mtime",
        found: quoted(untrusted_value),
        expected: "decimal seconds of 64 bits, with or without a fraction",
    })
}

fn parse_time(untrusted_value: &[u8]) -> Option<Mtime> {
    let text = str::from_utf8(untrusted_value).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = whole.strip_prefix('-').unwrap_or(whole);
    let all_digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if digits.is_empty() || !all_digits(digits) || !all_digits(fraction) {
        return None;
    }
    // `-0` is 0 here; what it says about the fraction is looked up below.
    let seconds: i64 = whole.parse().ok()?;
    let (kept, cut) = fraction.split_at_checked(9).unwrap_or((fraction, ""));
    let nanoseconds: u32 = format!("{kept:0<9}").parse().ok()?;
    if !whole.starts_with('-') {
        return Some(Mtime { seconds, nanoseconds });
    }
    let rest = u32::from(cut.bytes().any(|digit| digit != b'0'));
    let below = nanoseconds + rest;
    let seconds = seconds.checked_sub(i64::from(below > 0))?;
    let nanoseconds = if below > 0 { 1_000_000_000 - below } else { 0 };
    Some(Mtime { seconds, nanoseconds })
}

/// `OFFSET,LENGTH,OFFSET,LENGTH...`
fn map(untrusted_value: &[u8], at: &Place) -> Result<Vec<Segment>, TarError> {
    let mut numbers = untrusted_value.split(|byte| *byte == b',');
    let mut segments = Vec::new();
    while let Some(offset) = numbers.next() {
        let field = "GNU.sparse.map";
        let offset = decimal(offset, field, at)?;
        let length = decimal(numbers.next().unwrap_or_default(), field, at)?;
        segments.push(Segment { offset, length });
    }
    Ok(segments)
}
