//! `backup-header`: what it says, and the bytes that say it.
//!
//! Lives here: lines, keys, the version, what format 3 requires, the promise
//! of a manifest. May not live here: whether the bytes are authentic (they
//! are, when they come here), what a cipher or filter does.
//! Source: FORMAT.md, "backup-header" and "Reading is strict"; MANIFEST.md,
//! R1; core-admin-client 4.4.0 `restore.py`, `BackupHeader`.

use core::fmt;

use super::cipher::{Cipher, CipherError};
use super::hmac::Digest;
use super::limits::HEADER_BYTES_MAX;
use super::manifest::BackupId;
use super::quote::Quoted;

/// The header of an archive in format 3, or what stands for it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Header {
    /// As it is written, in any case and by any name.
    algorithm: String,
    digest: Digest,
    cipher: Option<String>,
    is_encrypted: bool,
    is_compressed: bool,
    filter: Option<String>,
    ignored: Vec<(String, String)>,
    promise: Option<BackupId>,
    is_headerless: bool,
}

/// Which format an archive has; the header alone says it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Version {
    /// Release 2 beta. It wrote no header, and so no `version=1`.
    One,
    /// Release 2: a header without the key `version`.
    Two,
    /// Releases 2 and 3, `version=3`.
    Three,
    /// Since release 4.0, `version=4`.
    Four,
}

/// Why a header was refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// Larger than any header.
    #[error("backup-header: {found} bytes; wanted {limit} at most")]
    TooLarge {
        /// Size in bytes.
        found: usize,
        /// [`HEADER_BYTES_MAX`].
        limit: usize,
    },
    /// A control character, or one outside of ASCII.
    #[error(
        "backup-header line {line}: byte 0x{found:02x}; wanted printable ASCII"
    )]
    NotPrintable {
        /// Line, from 1.
        line: usize,
        /// The byte.
        found: u8,
    },
    /// A line with nothing in it.
    #[error("backup-header line {line}: it is empty; wanted KEY=VALUE")]
    EmptyLine {
        /// Line, from 1.
        line: usize,
    },
    /// Not a key and a value.
    #[error(
        "backup-header line {line}: {} has {found} times \"=\"; wanted it \
         once", Quoted(.text.as_bytes())
    )]
    Equals {
        /// Line, from 1.
        line: usize,
        /// The line.
        text: String,
        /// How often.
        found: usize,
    },
    /// A key of other characters.
    #[error(
        "backup-header line {line}: key {}; wanted only A-Z a-z 0-9 -",
        Quoted(.key.as_bytes())
    )]
    Key {
        /// Line, from 1.
        line: usize,
        /// The key.
        key: String,
    },
    /// A value of other characters, of a key that means something.
    #[error(
        "backup-header line {line}: value {} of {key}; wanted only \
         A-Z a-z 0-9 -", Quoted(.value.as_bytes())
    )]
    Value {
        /// Line, from 1.
        line: usize,
        /// The key.
        key: &'static str,
        /// The value.
        value: String,
    },
    /// A key that means something, again.
    #[error(
        "backup-header line {line}: {key} again, first on line {first}; \
         wanted it once"
    )]
    Duplicate {
        /// Line of the second, from 1.
        line: usize,
        /// The key.
        key: &'static str,
        /// Line of the first, from 1.
        first: usize,
    },
    /// A version of another form than those that are known.
    #[error(
        "backup-header: version {}; wanted 3", Quoted(.value.as_bytes())
    )]
    UnknownVersion {
        /// The value.
        value: String,
    },
    /// A version that is known, and not restored here.
    #[error("backup-header: format version {version}; wanted 3")]
    Unsupported {
        /// Which one.
        version: Version,
    },
    /// A key that must be there.
    #[error("backup-header: no {key}; wanted it {reason}")]
    Missing {
        /// The key.
        key: &'static str,
        /// Why it must be there.
        reason: &'static str,
    },
    /// Neither true nor false.
    #[error(
        "backup-header: value {} of {key}; wanted 1, true, yes, 0, false or \
         no", Quoted(.value.as_bytes())
    )]
    NotBoolean {
        /// The key.
        key: &'static str,
        /// The value.
        value: String,
    },
    /// A digest that is not known here.
    #[error(
        "backup-header: hmac-algorithm {} is not supported; wanted one such \
         as SHA512", Quoted(.name.as_bytes())
    )]
    UnknownDigest {
        /// The name as it is written.
        name: String,
    },
    /// Another digest than the one that verified the header.
    #[error(
        "backup-header: hmac-algorithm {}; wanted {verified}, which verified \
         the header", Quoted(.name.as_bytes())
    )]
    OtherDigest {
        /// The name as it is written.
        name: String,
        /// The digest that was found by trying.
        verified: Digest,
    },
    /// A promise of a manifest that is malformed, or a second one.
    #[error(
        "backup-header line {line}: promise {}; wanted \"1-\" and 32 digits \
         0-9 a-f, once", Quoted(.value.as_bytes())
    )]
    PromiseInvalid {
        /// Line, from 1.
        line: usize,
        /// The value.
        value: String,
    },
    /// A promise of a manifest of another version.
    #[error(
        "backup-header line {line}: promise of a manifest of version \
         {version}; wanted version 1"
    )]
    PromiseUnknown {
        /// Line, from 1.
        line: usize,
        /// The version, digits only.
        version: String,
    },
}

impl Version {
    /// Tells the version of a header, whether it is restored or not.
    ///
    /// Only the lines and the version are looked at. A header without
    /// `version` is of version 2 if it has the keys of that.
    ///
    /// # Errors
    /// In this order: `TooLarge`; for the first bad line `NotPrintable`,
    /// `EmptyLine`, `Equals`, `Key`, `Value`, `Duplicate`, `PromiseInvalid`
    /// for a second promise; `UnknownVersion`, `Missing`.
    pub fn of(untrusted_bytes: &[u8]) -> Result<Self, HeaderError> {
        Lines::parse(untrusted_bytes)?.version()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::One => "1",
            Self::Two => "2",
            Self::Three => "3",
            Self::Four => "4",
        })
    }
}

impl Header {
    /// A header to write.
    ///
    /// `cipher` is named even if the backup is not encrypted, as writers do;
    /// with a `filter` it is compressed. The promise comes last.
    ///
    /// # Errors
    /// `Value` for a filter with other characters than `A-Z a-z 0-9 -`.
    pub fn new(
        digest: Digest,
        cipher: Cipher,
        is_encrypted: bool,
        filter: Option<&str>,
        promise: Option<BackupId>,
    ) -> Result<Self, HeaderError> {
        if let Some(value) = filter {
            check_value(FILTER_LINE, FILTER, value)?;
        }
        Ok(Self {
            algorithm: digest.name().to_owned(),
            digest,
            cipher: Some(cipher.name().to_owned()),
            is_encrypted,
            is_compressed: filter.is_some(),
            filter: filter.map(str::to_owned),
            ignored: Vec::new(),
            promise,
            is_headerless: false,
        })
    }

    /// Stands for the header of an archive that has none.
    ///
    /// It carries the digest that was found on the first chunk; the archive
    /// is read as format 3, and whether and how it is encrypted and
    /// compressed is what the caller was told. It promises no manifest. A
    /// header that somebody took away looks the same, so what is restored
    /// with this one is never a complete success.
    /// Source: core-admin dba6798a, `backup.py`.
    ///
    /// # Errors
    /// `Value`, as [`Header::new`].
    pub fn artificial(
        digest: Digest,
        cipher: Option<Cipher>,
        filter: Option<&str>,
    ) -> Result<Self, HeaderError> {
        let (named, is_encrypted) =
            (cipher.unwrap_or(Cipher::Aes256), cipher.is_some());
        let header = Self::new(digest, named, is_encrypted, filter, None)?;
        Ok(Self { is_headerless: true, ..header })
    }

    /// Reads a header that was authenticated; at most 4,096 bytes.
    ///
    /// Lines `KEY=VALUE` in any order, ending in LF or CRLF, the last one
    /// also in nothing. Keys that mean nothing here are kept and ignored.
    ///
    /// # Errors
    /// As [`Version::of`]; `Unsupported` for another version than 3; then in
    /// this order `Missing`, `NotBoolean`, `UnknownDigest`, `PromiseUnknown`
    /// and `PromiseInvalid`.
    pub fn parse(untrusted_bytes: &[u8]) -> Result<Self, HeaderError> {
        let lines = Lines::parse(untrusted_bytes)?;
        let version = lines.version()?;
        if version != Version::Three {
            return Err(HeaderError::Unsupported { version });
        }
        let algorithm = lines.required(HMAC, ALWAYS)?;
        let is_encrypted = lines.boolean(ENCRYPTED)?;
        let is_compressed = lines.boolean(COMPRESSED)?;
        if is_encrypted {
            lines.required(CRYPTO, "as encrypted is true")?;
        }
        if is_compressed {
            lines.required(FILTER, "as compressed is true")?;
        }
        let digest = Digest::from_name(algorithm).ok_or_else(|| {
            HeaderError::UnknownDigest { name: algorithm.to_owned() }
        })?;
        Ok(Self {
            algorithm: algorithm.to_owned(),
            digest,
            cipher: lines.get(CRYPTO).map(str::to_owned),
            is_encrypted,
            is_compressed,
            filter: lines.get(FILTER).map(str::to_owned),
            ignored: lines.ignored(),
            promise: lines.promise()?,
            is_headerless: false,
        })
    }

    /// The bytes of the header: the keys in the order of all writers, those
    /// that mean nothing behind them, the promise last.
    ///
    /// What a writer wrote and [`Header::parse`] read comes out unchanged.
    /// For an artificial header: the one that would say the same.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let boolean = |value| if value { "True" } else { "False" };
        let promise = self.promise.map(|id| format!("1-{id}"));
        let known = [
            (VERSION, Some("3")),
            (HMAC, Some(&*self.algorithm)),
            (CRYPTO, self.cipher.as_deref()),
            (ENCRYPTED, Some(boolean(self.is_encrypted))),
            (COMPRESSED, Some(boolean(self.is_compressed))),
            (FILTER, self.filter.as_deref()),
        ];
        let ignored =
            self.ignored.iter().map(|(key, value)| (&**key, Some(&**value)));
        known
            .into_iter()
            .chain(ignored)
            .chain([(PROMISE, promise.as_deref())])
            .filter_map(|(key, value)| Some(format!("{key}={}\n", value?)))
            .collect::<String>()
            .into_bytes()
    }

    /// Whether the header names the digest that verified it.
    ///
    /// # Errors
    /// `OtherDigest`.
    //= spec/format3.md#the-header-names-its-own-digest
    pub fn check_digest(&self, verified: Digest) -> Result<(), HeaderError> {
        if self.digest == verified {
            return Ok(());
        }
        let name = self.algorithm.clone();
        Err(HeaderError::OtherDigest { name, verified })
    }

    /// `hmac-algorithm`.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// `hmac-algorithm` as it is written.
    #[must_use]
    pub fn algorithm(&self) -> &str {
        &self.algorithm
    }

    /// The cipher, if the backup is encrypted.
    ///
    /// # Errors
    /// Those of [`Cipher::from_name`]; not for a backup that is not
    /// encrypted, whatever it names.
    pub fn cipher(&self) -> Result<Option<Cipher>, CipherError> {
        let name = self.cipher.as_deref().filter(|_| self.is_encrypted);
        name.map(Cipher::from_name).transpose()
    }

    /// `encrypted`.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.is_encrypted
    }

    /// `compression-filter`, if the backup is compressed.
    #[must_use]
    pub fn filter(&self) -> Option<&str> {
        self.filter.as_deref().filter(|_| self.is_compressed)
    }

    /// The manifest that is promised at the end of the archive.
    #[must_use]
    //= spec/format3.md#the-promise
    pub fn promise(&self) -> Option<BackupId> {
        self.promise
    }

    /// Keys that mean nothing here, with their values, as they came.
    #[must_use]
    pub fn ignored(&self) -> &[(String, String)] {
        &self.ignored
    }

    /// Whether the archive had no header, and this one was made up.
    #[must_use]
    pub fn is_headerless(&self) -> bool {
        self.is_headerless
    }
}

const VERSION: &str = "version";
const HMAC: &str = "hmac-algorithm";
const CRYPTO: &str = "crypto-algorithm";
const ENCRYPTED: &str = "encrypted";
const COMPRESSED: &str = "compressed";
const FILTER: &str = "compression-filter";
/// Of format 4 only.
const BACKUP_ID: &str = "backup-id";
const PROMISE: &str = "backup-manifest";

/// Every key that means something in some version.
const KNOWN: [&str; 8] =
    [VERSION, HMAC, CRYPTO, ENCRYPTED, COMPRESSED, FILTER, BACKUP_ID, PROMISE];

/// Where writers put the filter.
const FILTER_LINE: usize = 6;

/// Why a key must be there that is required of every header.
const ALWAYS: &str = "in every header";

/// `KEY=VALUE`, with the number of its line.
struct Line<'a> {
    number: usize,
    key: &'a str,
    value: &'a str,
}

/// All lines of a header; known keys come once.
struct Lines<'a>(Vec<Line<'a>>);

impl<'a> Lines<'a> {
    //= spec/format3.md#bytes-of-a-header
    fn parse(untrusted_bytes: &'a [u8]) -> Result<Self, HeaderError> {
        let (found, limit) = (untrusted_bytes.len(), HEADER_BYTES_MAX);
        if found > limit {
            return Err(HeaderError::TooLarge { found, limit });
        }
        let mut lines = Self(Vec::new());
        let ended =
            untrusted_bytes.split_inclusive(|byte| *byte == b'\n').enumerate();
        for (index, untrusted_line) in ended {
            let line = line(index + 1, untrusted_line)?;
            lines.check_first(&line)?;
            lines.0.push(line);
        }
        Ok(lines)
    }

    fn check_first(&self, line: &Line<'_>) -> Result<(), HeaderError> {
        let Some(key) = known(line.key) else { return Ok(()) };
        let mut earlier = self.0.iter();
        let Some(first) = earlier.find(|first| first.key == key) else {
            return Ok(());
        };
        let (line, value, first) = (line.number, line.value, first.number);
        Err(if key == PROMISE {
            HeaderError::PromiseInvalid { line, value: value.to_owned() }
        } else {
            HeaderError::Duplicate { line, key, first }
        })
    }

    fn get(&self, key: &str) -> Option<&'a str> {
        self.0.iter().find(|line| line.key == key).map(|line| line.value)
    }

    //= spec/format3.md#keys-that-must-be-there
    fn required(
        &self,
        key: &'static str,
        reason: &'static str,
    ) -> Result<&'a str, HeaderError> {
        self.get(key).ok_or(HeaderError::Missing { key, reason })
    }

    //= spec/format3.md#truth-values
    fn boolean(&self, key: &'static str) -> Result<bool, HeaderError> {
        let value = self.required(key, ALWAYS)?;
        match &*value.to_ascii_lowercase() {
            "1" | "true" | "yes" => Ok(true),
            "0" | "false" | "no" => Ok(false),
            _ => {
                let value = value.to_owned();
                Err(HeaderError::NotBoolean { key, value })
            }
        }
    }

    fn version(&self) -> Result<Version, HeaderError> {
        match self.get(VERSION) {
            Some("1") => Ok(Version::One),
            Some("2") => Ok(Version::Two),
            Some("3") => Ok(Version::Three),
            Some("4") => Ok(Version::Four),
            Some(value) => {
                Err(HeaderError::UnknownVersion { value: value.to_owned() })
            }
            None => {
                let is_two = [HMAC, CRYPTO, ENCRYPTED, COMPRESSED]
                    .into_iter()
                    .all(|key| self.get(key).is_some());
                // These are not of version 2: `version` was lost.
                let is_later = [BACKUP_ID, PROMISE]
                    .into_iter()
                    .any(|key| self.get(key).is_some());
                if is_two && !is_later {
                    return Ok(Version::Two);
                }
                let (key, reason) = (VERSION, ALWAYS);
                Err(HeaderError::Missing { key, reason })
            }
        }
    }

    fn promise(&self) -> Result<Option<BackupId>, HeaderError> {
        let Some(line) = self.0.iter().find(|line| line.key == PROMISE) else {
            return Ok(None);
        };
        let (line, value) = (line.number, line.value);
        let invalid =
            || HeaderError::PromiseInvalid { line, value: value.to_owned() };
        let (version, id) = value.split_once('-').ok_or_else(invalid)?;
        let is_number = version.bytes().all(|byte| byte.is_ascii_digit())
            && !version.is_empty()
            && (version == "0" || !version.starts_with('0'));
        if is_number && version != "1" {
            let version = version.to_owned();
            return Err(HeaderError::PromiseUnknown { line, version });
        }
        let id = BackupId::parse(id.as_bytes()).filter(|_| is_number);
        id.map(Some).ok_or_else(invalid)
    }

    //= spec/format3.md#unknown-keys
    fn ignored(&self) -> Vec<(String, String)> {
        self.0
            .iter()
            .filter(|line| line.key == BACKUP_ID || known(line.key).is_none())
            .map(|line| (line.key.to_owned(), line.value.to_owned()))
            .collect()
    }
}

/// Reads a line with its end.
//= spec/format3.md#lines-of-the-header
fn line(number: usize, untrusted_line: &[u8]) -> Result<Line<'_>, HeaderError> {
    let line =
        untrusted_line.strip_suffix(b"\n").map_or(untrusted_line, |line| {
            line.strip_suffix(b"\r").unwrap_or(line)
        });
    let is_other = |byte: &&u8| !matches!(byte, b' '..=b'~');
    if let Some(found) = line.iter().copied().find(|byte| is_other(&byte)) {
        return Err(HeaderError::NotPrintable { line: number, found });
    }
    // ASCII, as was just seen.
    let line = core::str::from_utf8(line).unwrap_or_default();
    if line.is_empty() {
        return Err(HeaderError::EmptyLine { line: number });
    }
    let (key, value) = line
        .split_once('=')
        .filter(|(_, value)| !value.contains('='))
        .ok_or_else(|| {
            let found = line.matches('=').count();
            let text = line.to_owned();
            HeaderError::Equals { line: number, text, found }
        })?;
    if !key.bytes().all(is_plain) {
        let key = key.to_owned();
        return Err(HeaderError::Key { line: number, key });
    }
    // The promise has an error of its own, which says more.
    if let Some(key) = known(key).filter(|key| *key != PROMISE) {
        check_value(number, key, value)?;
    }
    Ok(Line { number, key, value })
}

fn check_value(
    line: usize,
    key: &'static str,
    value: &str,
) -> Result<(), HeaderError> {
    if value.bytes().all(is_plain) {
        return Ok(());
    }
    Err(HeaderError::Value { line, key, value: value.to_owned() })
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-'
}

fn known(key: &str) -> Option<&'static str> {
    KNOWN.into_iter().find(|known| *known == key)
}
