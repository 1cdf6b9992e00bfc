//! The text of the manifest that binds the members of a backup together.
//!
//! Lives here: where its member may stand, its text, its mac, the comparison
//! with what was read. May not live here: tar, filters and ciphers around
//! the text, and when a file may be published.
//! Source: MANIFEST.md; `R1`.. are its rules.

use core::fmt;
use std::collections::BTreeSet;

use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::chunk::{Chunk, Member};
use super::header::Header;
use super::hmac::{Digest, Mac, MacValue, from_hex, to_hex};
use super::limits::{MANIFEST_BYTES_MAX, OUTER_NAME_BYTES_MAX};
use super::quote::Quoted;

/// The file's name, in the archive and in its own inner archive.
pub const MANIFEST_NAME: &[u8] = b"backup-manifest";

/// The 128 random bits that are new for every backup.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct BackupId([u8; 16]);

/// A manifest: what is in the archive, in its order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Manifest {
    id: BackupId,
    digest: Digest,
    /// The header's `hmac-algorithm` in lower case.
    algorithm: String,
    entries: Vec<Entry>,
}

/// One member of the archive, listed or seen: no `.hmac`, no manifest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// HMAC of its data. Of a member that was seen: the one that was computed
    /// over the bytes read, not the one of its `.hmac`.
    pub mac: Vec<u8>,
    /// Size of its data in bytes.
    pub size: u64,
    /// Its name, 1 to 255 bytes without control characters.
    pub name: Vec<u8>,
}

/// Watches where in the archive the manifest stands (R2).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Place {
    /// The header promises none.
    Unpromised,
    /// It is still to come.
    Before,
    /// It was there; its mac comes next.
    Seen,
    /// Its mac was there: nothing may follow.
    After,
}

/// Why a manifest, or an archive with one, was refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// A manifest that the header does not promise.
    #[error(
        "manifest: the header promises none; wanted no member of \
         backup-manifest"
    )]
    Unpromised,
    /// A second chunk of it.
    #[error(
        "manifest: member {}; wanted backup-manifest.000 alone", Quoted(.name)
    )]
    NotOneChunk {
        /// The name of the member.
        name: Vec<u8>,
    },
    /// Something behind it.
    #[error(
        "manifest: member {} comes after it; wanted it to be the last",
        Quoted(.name)
    )]
    NotLast {
        /// The name of the member.
        name: Vec<u8>,
    },
    /// The archive ends without it.
    #[error(
        "manifest: the archive ends without it; wanted the one that the \
         header promises"
    )]
    Missing,
    /// More than the manifest of any backup.
    #[error("manifest: {found} bytes; wanted {limit} at most")]
    TooLarge {
        /// Size of the text in bytes.
        found: usize,
        /// [`MANIFEST_BYTES_MAX`].
        limit: usize,
    },
    /// The text is not authenticated by its last line.
    #[error(
        "manifest: its mac does not fit; wanted a text made by this backup's \
         writer"
    )]
    Mac,
    /// The text names another backup.
    #[error("manifest: it is of backup {found}; wanted backup {expected}")]
    OtherBackup {
        /// The id that it names.
        found: BackupId,
        /// The id of the header.
        expected: BackupId,
    },
    /// A line, authenticated, that breaks the grammar.
    #[error("manifest line {line}: {}; wanted {expected}", Quoted(.text))]
    Syntax {
        /// Line, from 1.
        line: usize,
        /// The line.
        text: Vec<u8>,
        /// What should be there.
        expected: &'static str,
    },
    /// A member is listed, and was not seen.
    #[error("manifest: no member {}; wanted all that it lists", Quoted(.name))]
    MemberMissing {
        /// The name of the member.
        name: Vec<u8>,
    },
    /// A member was seen, and is not listed there.
    #[error(
        "manifest: member {} is not listed; wanted only those that are",
        Quoted(.name)
    )]
    MemberExtra {
        /// The name of the member.
        name: Vec<u8>,
    },
    /// Two members stand in another order.
    #[error(
        "manifest: member {}; wanted {} at its place",
        Quoted(.found), Quoted(.expected)
    )]
    MemberOrder {
        /// The name of the member that was seen.
        found: Vec<u8>,
        /// The name of the one that is listed.
        expected: Vec<u8>,
    },
    /// A member of another size.
    #[error(
        "manifest: member {}: {found} bytes; wanted {expected}", Quoted(.name)
    )]
    MemberSize {
        /// The name of the member.
        name: Vec<u8>,
        /// The size that was seen, in bytes.
        found: u64,
        /// The size that is listed, in bytes.
        expected: u64,
    },
    /// A member with other data.
    #[error(
        "manifest: member {}: its data is not what was backed up; wanted the \
         data of the listed hmac", Quoted(.name)
    )]
    MemberDigest {
        /// The name of the member.
        name: Vec<u8>,
    },
}

impl BackupId {
    /// The id of these bits, which a writer takes from a random source.
    #[must_use]
    pub fn new(bits: [u8; 16]) -> Self {
        Self(bits)
    }

    /// Reads 32 digits in lower case; `None` for anything else.
    #[must_use]
    pub fn parse(untrusted_digits: &[u8]) -> Option<Self> {
        from_hex(untrusted_digits)?.try_into().ok().map(Self)
    }
}

impl fmt::Display for BackupId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&to_hex(&self.0))
    }
}

impl fmt::Debug for BackupId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "BackupId({self})")
    }
}

impl Place {
    /// Begins at the start of an archive with this header.
    #[must_use]
    pub fn new(header: &Header) -> Self {
        match header.promise() {
            Some(_) => Self::Before,
            None => Self::Unpromised,
        }
    }

    /// Takes the next member; whether it is the manifest, or its mac.
    ///
    /// # Errors
    /// `Unpromised`, `NotOneChunk`, `NotLast`.
    //= spec/format3.md#place-of-the-manifest
    pub fn accept(
        &mut self,
        member: Member<'_>,
    ) -> Result<bool, ManifestError> {
        let (chunk, is_mac) = match member {
            Member::Chunk(chunk) => (Some(chunk), false),
            Member::ChunkMac(chunk) => (Some(chunk), true),
            Member::Header | Member::HeaderMac => (None, false),
        };
        let number = chunk
            .filter(|chunk| chunk.file() == MANIFEST_NAME)
            .map(Chunk::number);
        let name = member.name();
        *self = match (*self, number) {
            (Self::Unpromised, Some(_)) => {
                return Err(ManifestError::Unpromised);
            }
            (Self::Unpromised | Self::Before, None) => return Ok(false),
            (_, Some(1..)) => return Err(ManifestError::NotOneChunk { name }),
            (Self::Before, Some(0)) if !is_mac => Self::Seen,
            (Self::Seen, Some(0)) if is_mac => Self::After,
            // Its mac alone: the order of members is not ours to judge.
            (Self::Before, Some(0)) => Self::Before,
            (Self::Seen | Self::After, _) => {
                return Err(ManifestError::NotLast { name });
            }
        };
        Ok(true)
    }

    /// Takes the end of the archive.
    ///
    /// # Errors
    /// `Missing`.
    pub fn finish(self) -> Result<(), ManifestError> {
        match self {
            Self::Before => Err(ManifestError::Missing),
            Self::Unpromised | Self::Seen | Self::After => Ok(()),
        }
    }
}

impl Entry {
    /// Whether the data read has the listed HMAC, compared in constant time.
    ///
    /// # Errors
    /// `MemberDigest`.
    pub fn check_mac(&self, computed: &MacValue) -> Result<(), ManifestError> {
        self.same_mac(computed.bytes())
    }

    fn same_mac(&self, found: &[u8]) -> Result<(), ManifestError> {
        if self.mac.ct_eq(found).into() {
            return Ok(());
        }
        Err(ManifestError::MemberDigest { name: self.name.clone() })
    }

    fn same_size(&self, found: u64) -> Result<(), ManifestError> {
        let expected = self.size;
        if expected == found {
            return Ok(());
        }
        let name = self.name.clone();
        Err(ManifestError::MemberSize { name, found, expected })
    }
}

impl Manifest {
    /// A manifest to write, with no member yet.
    ///
    /// # Errors
    /// `Unpromised` if the header promises none.
    pub fn new(header: &Header) -> Result<Self, ManifestError> {
        let id = header.promise().ok_or(ManifestError::Unpromised)?;
        let algorithm = header.algorithm().to_ascii_lowercase();
        let (digest, entries) = (header.digest(), Vec::new());
        Ok(Self { id, digest, algorithm, entries })
    }

    /// Lists the next member of the archive.
    ///
    /// # Errors
    /// `Syntax` with the line it would be, for a name or HMAC that cannot be
    /// written; that no name comes twice is for the caller to see.
    pub fn push(&mut self, entry: Entry) -> Result<(), ManifestError> {
        let line = FIRST_LINE + self.entries.len();
        let untrusted_text = entry.to_line();
        self.entries.push(self.entry(line, &untrusted_text)?);
        Ok(())
    }

    /// The text, with its mac in the last line.
    ///
    /// # Errors
    /// `Syntax` if no member is listed; `TooLarge`.
    pub fn to_text(&self, passphrase: &[u8]) -> Result<Vec<u8>, ManifestError> {
        if self.entries.is_empty() {
            return Err(syntax(FIRST_LINE, b"", MEMBER));
        }
        let mut text = Vec::new();
        for line in self.head() {
            text.extend_from_slice(line.as_bytes());
            text.push(b'\n');
        }
        for entry in &self.entries {
            text.extend_from_slice(&entry.to_line());
            text.push(b'\n');
        }
        let mac = mac(self.id, self.digest, passphrase, &text);
        let last = format!("mac={}\n", to_hex(mac.bytes()));
        text.extend_from_slice(last.as_bytes());
        check_size(&text)?;
        Ok(text)
    }

    /// Reads a text; `header` is the authenticated one of the archive (R3).
    ///
    /// The mac is compared first, in constant time and with the header's id.
    /// No line is used before that, but for the id that an error names.
    ///
    /// # Errors
    /// In this order: `Unpromised`, `TooLarge`; `OtherBackup`, else `Mac`,
    /// also for a text without a last line `mac=`; `Syntax`.
    pub fn parse(
        untrusted_text: &[u8],
        header: &Header,
        passphrase: &[u8],
    ) -> Result<Self, ManifestError> {
        let mut manifest = Self::new(header)?;
        check_size(untrusted_text)?;
        let body = manifest.authentic(untrusted_text, passphrase)?;
        let mut lines = body
            .strip_suffix(b"\n")
            .unwrap_or(body)
            .split(|byte| *byte == b'\n')
            .zip(1..);
        for (index, expected) in manifest.head().iter().enumerate() {
            let (text, number) = lines.next().unwrap_or((b"", index + 1));
            if text != expected.as_bytes() {
                let wanted = HEAD.get(index).copied().unwrap_or_default();
                return Err(syntax(number, text, wanted));
            }
        }
        let mut names = BTreeSet::new();
        for (text, number) in lines {
            let entry = manifest.entry(number, text)?;
            if !names.insert(entry.name.clone()) {
                return Err(syntax(number, text, "every name once"));
            }
            manifest.entries.push(entry);
        }
        if manifest.entries.is_empty() {
            return Err(syntax(FIRST_LINE, b"", MEMBER));
        }
        Ok(manifest)
    }

    /// The id of the backup.
    #[must_use]
    pub fn id(&self) -> BackupId {
        self.id
    }

    /// The members, in the order of the archive.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Compares with all members that were read, pairwise from the first
    /// (R4). `seen` has neither macs nor the manifest.
    ///
    /// # Errors
    /// Of the first pair that differs: if the names do, `MemberMissing` if
    /// the listed one was not seen from there on, `MemberExtra` if the seen
    /// one is not listed from there on, else `MemberOrder`; `MemberSize`,
    /// `MemberDigest`.
    //= spec/format3.md#members-are-compared-in-pairs
    pub fn compare(&self, seen: &[Entry]) -> Result<(), ManifestError> {
        pairwise(
            &self.entries,
            seen,
            |entry| &entry.name,
            |listed, seen| {
                listed.same_size(seen.size)?;
                listed.same_mac(&seen.mac)
            },
        )
    }

    /// The same without the members that are left out of both, because they
    /// are of files that are lost. Gives how many were compared.
    ///
    /// # Errors
    /// As [`Manifest::compare`].
    pub fn compare_but(
        &self,
        seen: &[Entry],
        is_left_out: impl Fn(&[u8]) -> bool,
    ) -> Result<usize, ManifestError> {
        let rest = |entries: &[Entry]| {
            let entries = entries.iter();
            let rest = entries.filter(|entry| !is_left_out(&entry.name));
            rest.cloned().collect::<Vec<_>>()
        };
        let entries = rest(&self.entries);
        let compared = entries.len();
        Self { entries, ..self.clone() }.compare(&rest(seen))?;
        Ok(compared)
    }

    /// Compares with names and sizes, before any data is read (R5); each
    /// member is then checked with [`Entry::check_mac`].
    ///
    /// # Errors
    /// As [`Manifest::compare`], but for `MemberDigest`.
    pub fn compare_headers(
        &self,
        seen: &[(Vec<u8>, u64)],
    ) -> Result<(), ManifestError> {
        pairwise(
            &self.entries,
            seen,
            |(name, _)| name,
            |listed, (_, size)| listed.same_size(*size),
        )
    }

    /// The text without its last line, once that fits.
    //= spec/format3.md#key-of-the-manifest
    fn authentic<'a>(
        &self,
        untrusted_text: &'a [u8],
        passphrase: &[u8],
    ) -> Result<&'a [u8], ManifestError> {
        let (expected, digest) = (self.id, self.digest);
        let found = named_id(untrusted_text).filter(|id| *id != expected);
        let split = split_mac(untrusted_text).filter(|(body, value)| {
            mac(expected, digest, passphrase, body).matches(value)
        });
        match (split, found) {
            (_, Some(found)) => {
                Err(ManifestError::OtherBackup { found, expected })
            }
            (None, None) => Err(ManifestError::Mac),
            (Some((body, _)), None) => Ok(body),
        }
    }

    fn head(&self) -> [String; 3] {
        [
            "backup-manifest=1".to_owned(),
            format!("backup-id={}", self.id),
            format!("hmac-algorithm={}", self.algorithm),
        ]
    }

    /// Reads a line `HEX SIZE NAME`.
    //= spec/format3.md#text-of-the-manifest
    fn entry(
        &self,
        line: usize,
        untrusted_text: &[u8],
    ) -> Result<Entry, ManifestError> {
        let mut fields = untrusted_text.splitn(3, |byte| *byte == b' ');
        let mut field = || fields.next().unwrap_or_default();
        let (mac, size, name) = (field(), field(), field());
        let wanted = |expected| syntax(line, untrusted_text, expected);
        let mac = from_hex(mac)
            .filter(|mac| mac.len() == self.digest.bytes())
            .ok_or_else(|| wanted(MEMBER))?;
        let size = decimal(size)
            .ok_or_else(|| wanted("a size of 1 to 19 digits, none in front"))?;
        if !is_listable(name) {
            return Err(wanted(
                "a name of 1 to 255 bytes without control characters",
            ));
        }
        Ok(Entry { mac, size, name: name.to_vec() })
    }
}

/// Whether a line can have this name: 1 to 255 bytes, none a control character.
#[must_use]
pub fn is_listable(name: &[u8]) -> bool {
    !name.is_empty()
        && name.len() <= OUTER_NAME_BYTES_MAX
        && !name.iter().any(u8::is_ascii_control)
}

impl Entry {
    fn to_line(&self) -> Vec<u8> {
        let start = format!("{} {} ", to_hex(&self.mac), self.size);
        [start.as_bytes(), &self.name].concat()
    }
}

/// The line of the first member.
const FIRST_LINE: usize = 4;

const MEMBER: &str = "HEX SIZE NAME, with the length of the digest";

/// What is wanted of the first lines.
const HEAD: [&str; 3] = [
    "\"backup-manifest=1\"",
    "\"backup-id=\" and the id of the header",
    "\"hmac-algorithm=\" and that of the header in lower case",
];

/// `mac` of the last line: the key is bound to backup and manifest, since a
/// qube may have put a forged text under the passphrase's own HMAC.
fn mac(
    id: BackupId,
    digest: Digest,
    passphrase: &[u8],
    body: &[u8],
) -> MacValue {
    let start = format!("{id}!backup-manifest!");
    let length = start.len() + passphrase.len();
    let mut key = Zeroizing::new(Vec::with_capacity(length));
    key.extend_from_slice(start.as_bytes());
    key.extend_from_slice(passphrase);
    let mut mac = Mac::new(digest, &key);
    mac.update(body);
    mac.finish()
}

/// All lines but the last, and the value of the last.
fn split_mac(untrusted_text: &[u8]) -> Option<(&[u8], Vec<u8>)> {
    let lines = untrusted_text.strip_suffix(b"\n")?;
    let end = lines.iter().rposition(|byte| *byte == b'\n')?;
    let (body, last) = lines.split_at_checked(end + 1)?;
    Some((body, from_hex(last.strip_prefix(b"mac=")?)?))
}

/// The id that the second line names.
fn named_id(untrusted_text: &[u8]) -> Option<BackupId> {
    let line = untrusted_text.split(|byte| *byte == b'\n').nth(1)?;
    BackupId::parse(line.strip_prefix(b"backup-id=")?)
}

fn check_size(text: &[u8]) -> Result<(), ManifestError> {
    let (found, limit) = (text.len(), MANIFEST_BYTES_MAX);
    if found > limit {
        return Err(ManifestError::TooLarge { found, limit });
    }
    Ok(())
}

fn syntax(line: usize, text: &[u8], expected: &'static str) -> ManifestError {
    ManifestError::Syntax { line, text: text.to_vec(), expected }
}

/// `0`, or up to 19 digits without a zero in front.
fn decimal(untrusted_digits: &[u8]) -> Option<u64> {
    let is_canonical = match untrusted_digits {
        b"0" => true,
        [b'1'..=b'9', rest @ ..] => {
            rest.len() < 19 && rest.iter().all(u8::is_ascii_digit)
        }
        _ => false,
    };
    let digits = core::str::from_utf8(untrusted_digits).ok()?;
    digits.parse().ok().filter(|_| is_canonical)
}

fn pairwise<S>(
    listed: &[Entry],
    seen: &[S],
    name: impl Fn(&S) -> &Vec<u8>,
    check: impl Fn(&Entry, &S) -> Result<(), ManifestError>,
) -> Result<(), ManifestError> {
    let (mut listed, mut seen) = (listed, seen);
    loop {
        match (listed.split_first(), seen.split_first()) {
            (None, None) => return Ok(()),
            (Some((first, later)), Some((other, others)))
                if first.name == *name(other) =>
            {
                check(first, other)?;
                (listed, seen) = (later, others);
            }
            (Some((first, _)), other) => {
                let expected = first.name.clone();
                let other = other.map(|(other, _)| name(other));
                let is_seen = seen.iter().any(|seen| *name(seen) == expected);
                return Err(match other {
                    Some(found) if is_seen => {
                        misplaced(listed, found, expected)
                    }
                    _ => ManifestError::MemberMissing { name: expected },
                });
            }
            (None, Some((other, _))) => {
                let name = name(other).clone();
                return Err(ManifestError::MemberExtra { name });
            }
        }
    }
}

/// Both names differ, and the listed one comes later.
fn misplaced(
    listed: &[Entry],
    found: &[u8],
    expected: Vec<u8>,
) -> ManifestError {
    let found = found.to_vec();
    if listed.iter().any(|entry| entry.name == found) {
        ManifestError::MemberOrder { found, expected }
    } else {
        ManifestError::MemberExtra { name: found }
    }
}
