//! The `.hmac` files of format 3: their text, the digests, the computation.
//!
//! Lives here: what openssl writes, which digests there are and the order in
//! which they are tried, HMAC in pieces. May not live here: which key is used
//! for what, and what is done after a mismatch.
//! Source: FORMAT.md, ".hmac files"; `openssl dgst -ALGO -hmac PASS`.
//!
//! ```
//! use qubes_fsm::format::hmac::{Digest, MacText, guess};
//! let mac = MacText::parse(
//!     b"(stdin)= de7c9b85b8b78aa6bc8a7a36f70a90701c9db4d9\n",
//! )?;
//! let data = b"The quick brown fox jumps over the lazy dog";
//! assert_eq!(guess(b"key", data, &mac), Some(Digest::Sha1));
//! # Ok::<(), qubes_fsm::format::hmac::MacTextError>(())
//! ```

use core::fmt;

use ::hmac::digest::common::{BlockSizeUser, Key};
use ::hmac::digest::{self, FixedOutput, MacMarker, Update};
use ::hmac::{EagerHash, Hmac, KeyInit, Mac as _, SimpleHmac};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroize as _;

use super::limits::MAC_TEXT_BYTES_MAX;
use super::quote::Quoted;

/// A digest that an archive may be authenticated with.
///
/// The order of the variants is the order in which they are tried.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Digest {
    /// What every writer takes by default since 2014.
    Sha512,
    /// The default before that.
    Sha1,
    /// SHA-2 of 256 bits.
    Sha256,
    /// SHA-2 of 384 bits.
    Sha384,
    /// SHA-2 of 224 bits.
    Sha224,
    /// RIPEMD of 160 bits.
    Ripemd160,
    /// MD5.
    Md5,
    /// Whirlpool, its last version.
    Whirlpool,
    /// SHA-512 cut to 256 bits, with a start of its own.
    Sha512_256,
    /// SHA-512 cut to 224 bits, with a start of its own.
    Sha512_224,
    /// SHA-3 of 224 bits.
    Sha3_224,
    /// SHA-3 of 256 bits.
    Sha3_256,
    /// SHA-3 of 384 bits.
    Sha3_384,
    /// SHA-3 of 512 bits.
    Sha3_512,
    /// BLAKE2b of 512 bits.
    Blake2b512,
    /// BLAKE2s of 256 bits.
    Blake2s256,
    /// SM3.
    Sm3,
}

/// The text of an `.hmac` file, read.
///
/// Neither its label nor its value is authenticated by itself; compare the
/// value with [`Mac::verify`] only.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MacText {
    value: Vec<u8>,
}

/// An HMAC that is being computed.
///
/// What is kept of the key is wiped at the end, but for the outer key of
/// BLAKE2, which its crate does not wipe.
pub struct Mac(Box<dyn Running>);

/// Every HMAC of [`Digest::ALL`] that is being computed, over the same data.
///
/// All of them are computed and compared whatever matches, so a mismatch
/// takes as long as a match and tells nothing of the digest. That costs
/// about 20 times as much as SHA512 alone, so it is for the header, or for
/// the first chunk where there is none.
pub struct Guess(Vec<(Digest, Mac)>);

/// How what scrypt has encrypted begins: its name, and version 0.
const SCRYPT: &[u8] = b"scrypt\0";

/// Why the text of an `.hmac` file was refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MacTextError {
    /// Larger than any text of openssl.
    #[error("hmac text: {found} bytes; wanted {limit} at most")]
    TooLarge {
        /// Size in bytes.
        found: usize,
        /// [`MAC_TEXT_BYTES_MAX`].
        limit: usize,
    },
    /// What `scrypt enc` writes, which stands here in backups of format 4.
    ///
    /// Source: scrypt's FORMAT, bytes 0 to 6 of encrypted data.
    #[error("hmac text: encrypted by scrypt, as in format 4; wanted format 3")]
    Scrypt,
    /// Something behind the first line.
    #[error("hmac text: {found} lines; wanted one")]
    Lines {
        /// How many.
        found: usize,
    },
    /// Not a label and a value.
    #[error("hmac text {}: {found} times \"=\"; wanted it once", Quoted(.text))]
    Equals {
        /// The line.
        text: Vec<u8>,
        /// How often.
        found: usize,
    },
    /// A label that openssl does not write.
    #[error(
        "hmac text: label {}; wanted \"(NAME)\", \"DIGEST(NAME)\" or \
         \"HMAC-DIGEST(NAME)\"", Quoted(.label)
    )]
    Label {
        /// What is in front of the `=`.
        label: Vec<u8>,
    },
    /// A value that openssl does not write.
    #[error(
        "hmac text: value {}; wanted one space and digits 0-9 a-f in lower \
         case", Quoted(.value)
    )]
    Value {
        /// What is behind the `=`.
        value: Vec<u8>,
    },
    /// A value that no digest has.
    #[error(
        "hmac text: a value of {found} digits; wanted 32, 40, 56, 64, 96 or \
         128"
    )]
    Length {
        /// How many hexadecimal digits.
        found: usize,
    },
}

impl Digest {
    /// All of them, in the fixed order in which they are tried.
    pub const ALL: [Self; 17] = [
        Self::Sha512,
        Self::Sha1,
        Self::Sha256,
        Self::Sha384,
        Self::Sha224,
        Self::Ripemd160,
        Self::Md5,
        Self::Whirlpool,
        Self::Sha512_256,
        Self::Sha512_224,
        Self::Sha3_224,
        Self::Sha3_256,
        Self::Sha3_384,
        Self::Sha3_512,
        Self::Blake2b512,
        Self::Blake2s256,
        Self::Sm3,
    ];

    /// The digest of this name, in any case.
    ///
    /// `RMD160` and `ripemd`, other names of openssl for RIPEMD160, are known
    /// too; its names for signatures (`RSA-SHA512`) are not.
    #[must_use]
    pub fn from_name(untrusted_name: &str) -> Option<Self> {
        let is = |name: &str| name.eq_ignore_ascii_case(untrusted_name);
        if is("rmd160") || is("ripemd") {
            return Some(Self::Ripemd160);
        }
        Self::ALL.into_iter().find(|digest| is(digest.name()))
    }

    /// The name as `openssl list -digest-algorithms` spells it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha512 => "SHA512",
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
            Self::Sha384 => "SHA384",
            Self::Sha224 => "SHA224",
            Self::Ripemd160 => "RIPEMD160",
            Self::Md5 => "MD5",
            Self::Whirlpool => "whirlpool",
            Self::Sha512_256 => "SHA512-256",
            Self::Sha512_224 => "SHA512-224",
            Self::Sha3_224 => "SHA3-224",
            Self::Sha3_256 => "SHA3-256",
            Self::Sha3_384 => "SHA3-384",
            Self::Sha3_512 => "SHA3-512",
            Self::Blake2b512 => "BLAKE2b512",
            Self::Blake2s256 => "BLAKE2s256",
            Self::Sm3 => "SM3",
        }
    }

    /// Length of a value in bytes; its text has twice as many digits.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha1 | Self::Ripemd160 => 20,
            Self::Sha224 | Self::Sha512_224 | Self::Sha3_224 => 28,
            Self::Sha256
            | Self::Sha512_256
            | Self::Sha3_256
            | Self::Blake2s256
            | Self::Sm3 => 32,
            Self::Sha384 | Self::Sha3_384 => 48,
            Self::Sha512
            | Self::Whirlpool
            | Self::Sha3_512
            | Self::Blake2b512 => 64,
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

impl MacText {
    /// Reads the text of an `.hmac` file, at most 4,096 bytes.
    ///
    /// One line, with LF, CRLF or no end, with one `=`: a label as some
    /// openssl writes it and a value in lower case, since other readers
    /// compare the text. What a label says is not looked at, as nothing
    /// authenticates it: `(NAME)` until openssl 1.1, `SHA1(NAME)` and
    /// `SHA2-512(NAME)` since 3, `HMAC-SHA512(NAME)` and
    /// `HMAC-SHA2-512(NAME)` when a file was named. An empty label is
    /// refused, none of them leaves it out.
    ///
    /// # Errors
    /// In this order: `TooLarge`, `Lines`, `Equals`, `Label`, `Value`,
    /// `Length`.
    //= spec/format3.md#text-of-a-code
    pub fn parse(untrusted_text: &[u8]) -> Result<Self, MacTextError> {
        let (found, limit) = (untrusted_text.len(), MAC_TEXT_BYTES_MAX);
        if found > limit {
            return Err(MacTextError::TooLarge { found, limit });
        }
        if untrusted_text.starts_with(SCRYPT) {
            return Err(MacTextError::Scrypt);
        }
        let line =
            untrusted_text.strip_suffix(b"\n").map_or(untrusted_text, |line| {
                line.strip_suffix(b"\r").unwrap_or(line)
            });
        let found = line.split(|byte| *byte == b'\n').count();
        if found != 1 {
            return Err(MacTextError::Lines { found });
        }
        let mut fields = line.split(|byte| *byte == b'=');
        let (label, value) = match (fields.next(), fields.next()) {
            (Some(label), Some(value)) if fields.next().is_none() => {
                (label, value)
            }
            _ => {
                let found = line.iter().filter(|byte| **byte == b'=').count();
                let text = line.to_vec();
                return Err(MacTextError::Equals { text, found });
            }
        };
        if !is_label(label) {
            return Err(MacTextError::Label { label: label.to_vec() });
        }
        let value = value
            .strip_prefix(b" ")
            .filter(|digits| !digits.is_empty())
            .filter(|digits| digits.iter().all(is_hex))
            .ok_or_else(|| MacTextError::Value { value: value.to_vec() })?;
        let found = value.len();
        let bytes = from_hex(value).ok_or(MacTextError::Length { found })?;
        if Digest::ALL.iter().all(|digest| digest.bytes() != bytes.len()) {
            return Err(MacTextError::Length { found });
        }
        Ok(Self { value: bytes })
    }

    /// The text that openssl until 1.1 writes of its standard input, which
    /// every reader takes.
    #[must_use]
    pub fn to_text(&self) -> Vec<u8> {
        format!("(stdin)= {}\n", to_hex(&self.value)).into_bytes()
    }

    /// The value: 16 to 64 bytes.
    #[must_use]
    pub fn value(&self) -> &[u8] {
        &self.value
    }
}

impl From<MacValue> for MacText {
    fn from(value: MacValue) -> Self {
        Self { value: value.0 }
    }
}

/// An HMAC that was computed here.
///
/// Compare it with [`MacValue::matches`] or [`Mac::verify`] only, which take
/// the same time wherever the first difference is.
#[derive(Clone, Debug)]
pub struct MacValue(Vec<u8>);

impl From<&MacValue> for MacText {
    /// What a writer puts beside the data.
    fn from(value: &MacValue) -> Self {
        Self { value: value.0.clone() }
    }
}

impl MacValue {
    /// 16 to 64 bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether these are the same bytes, compared in constant time.
    #[must_use]
    //= spec/format3.md#a-code-is-compared-in-constant-time
    pub fn matches(&self, untrusted_bytes: &[u8]) -> bool {
        self.0.ct_eq(untrusted_bytes).into()
    }
}

impl Mac {
    /// Begins; `key` may have any length, and is the passphrase itself.
    #[must_use]
    //= spec/format3.md#key-and-message
    pub fn new(digest: Digest, key: &[u8]) -> Self {
        Self(match digest {
            Digest::Sha512 => eager::<sha2::Sha512>(key),
            Digest::Sha1 => eager::<sha1::Sha1>(key),
            Digest::Sha256 => eager::<sha2::Sha256>(key),
            Digest::Sha384 => eager::<sha2::Sha384>(key),
            Digest::Sha224 => eager::<sha2::Sha224>(key),
            Digest::Ripemd160 => eager::<ripemd::Ripemd160>(key),
            Digest::Md5 => eager::<md5::Md5>(key),
            Digest::Whirlpool => eager::<whirlpool::Whirlpool>(key),
            Digest::Sha512_256 => eager::<sha2::Sha512_256>(key),
            Digest::Sha512_224 => eager::<sha2::Sha512_224>(key),
            Digest::Sha3_224 => eager::<sha3::Sha3_224>(key),
            Digest::Sha3_256 => eager::<sha3::Sha3_256>(key),
            Digest::Sha3_384 => eager::<sha3::Sha3_384>(key),
            Digest::Sha3_512 => eager::<sha3::Sha3_512>(key),
            // BLAKE2 keeps its last block back, which `Hmac` cannot do.
            Digest::Blake2b512 => lazy::<blake2::Blake2b512>(key),
            Digest::Blake2s256 => lazy::<blake2::Blake2s256>(key),
            Digest::Sm3 => eager::<sm3::Sm3>(key),
        })
    }

    /// Takes the next piece of the data, of any size.
    pub fn update(&mut self, untrusted_data: &[u8]) {
        self.0.update(untrusted_data);
    }

    /// The value over all pieces.
    #[must_use]
    pub fn finish(self) -> MacValue {
        MacValue(self.0.finish())
    }

    /// Whether the value is the one of the text, compared in constant time;
    /// one of another length is not.
    #[must_use]
    pub fn verify(self, mac: &MacText) -> bool {
        self.finish().matches(&mac.value)
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Mac(..)")
    }
}

impl Guess {
    /// Begins all of them with the same key.
    #[must_use]
    pub fn new(key: &[u8]) -> Self {
        let macs = Digest::ALL.map(|digest| (digest, Mac::new(digest, key)));
        Self(macs.into())
    }

    /// Takes the next piece of the data, of any size.
    pub fn update(&mut self, untrusted_data: &[u8]) {
        for (_, mac) in &mut self.0 {
            mac.update(untrusted_data);
        }
    }

    /// The first digest of the order whose value is the one of the text.
    #[must_use]
    pub fn finish(self, mac: &MacText) -> Option<Digest> {
        first_match(
            self.0.into_iter().map(|(digest, own)| (digest, own.verify(mac))),
        )
    }
}

impl fmt::Debug for Guess {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Guess(..)")
    }
}

/// The digest that made a mac: [`Guess`] over data that is there whole.
///
/// `None`: another passphrase, changed data, or a digest that is not known
/// here; which of these it is cannot be told.
#[must_use]
//= spec/format3.md#digests-are-tried-in-one-order
pub fn guess(
    key: &[u8],
    untrusted_data: &[u8],
    mac: &MacText,
) -> Option<Digest> {
    let mut guess = Guess::new(key);
    guess.update(untrusted_data);
    guess.finish(mac)
}

/// The first digest with a match; asks for all of them, always.
fn first_match(
    verdicts: impl Iterator<Item = (Digest, bool)>,
) -> Option<Digest> {
    verdicts.fold(None, |first, (digest, is_match)| {
        first.or(is_match.then_some(digest))
    })
}

/// The part of an HMAC that does not depend on the digest.
trait Running: Send {
    fn update(&mut self, data: &[u8]);
    fn finish(self: Box<Self>) -> Vec<u8>;
}

impl<M: Update + FixedOutput + MacMarker + Send> Running for M {
    fn update(&mut self, data: &[u8]) {
        Update::update(self, data);
    }

    fn finish(self: Box<Self>) -> Vec<u8> {
        (*self).finalize().into_bytes().to_vec()
    }
}

fn eager<D>(key: &[u8]) -> Box<dyn Running>
where
    D: EagerHash + BlockSizeUser,
    Hmac<D>: KeyInit + Running + 'static,
{
    keyed::<D, Hmac<D>>(key)
}

fn lazy<D>(key: &[u8]) -> Box<dyn Running>
where
    D: digest::Digest + BlockSizeUser,
    SimpleHmac<D>: KeyInit + Running + 'static,
{
    keyed::<D, SimpleHmac<D>>(key)
}

/// An HMAC with a key of any length, brought to a block as RFC 2104 says.
///
/// The crate's own function for this answers with a `Result`, and what to do
/// with an error that never comes would be a matter of security.
fn keyed<D, M>(key: &[u8]) -> Box<dyn Running>
where
    D: digest::Digest + BlockSizeUser,
    M: KeyInit + Running + 'static,
{
    let mut block = Key::<M>::default();
    if key.len() > block.len() {
        fill(&mut block, &D::digest(key));
    } else {
        fill(&mut block, key);
    }
    let mac = M::new(&block);
    block.zeroize();
    Box::new(mac)
}

fn fill(block: &mut [u8], start: &[u8]) {
    for (to, from) in block.iter_mut().zip(start) {
        *to = *from;
    }
}

/// `(NAME)`, `DIGEST(NAME)` or `HMAC-DIGEST(NAME)`; of the digest, and so of
/// `HMAC-`, only the alphabet is looked at.
fn is_label(label: &[u8]) -> bool {
    let Some(open) = label.iter().position(|byte| *byte == b'(') else {
        return false;
    };
    let Some((digest, name)) = label.split_at_checked(open) else {
        return false;
    };
    let is_digest =
        |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'/');
    let is_name = |byte: &u8| !byte.is_ascii_control();
    digest.iter().all(is_digest)
        && name.last() == Some(&b')')
        && name.iter().all(is_name)
}

pub(super) fn is_hex(byte: &u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

/// Digits in lower case, an even number of them; else `None`.
pub(super) fn from_hex(untrusted_digits: &[u8]) -> Option<Vec<u8>> {
    let (pairs, rest) = untrusted_digits.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    let nibble = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let byte =
        |[high, low]: &[u8; 2]| Some(nibble(*high)? << 4 | nibble(*low)?);
    pairs.iter().map(byte).collect()
}

/// Two digits for each byte, in lower case.
pub(super) fn to_hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16);
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .flatten()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All digests are asked for, wherever the first match is.
    #[test]
    fn no_match_ends_the_search() {
        for at in 0..=Digest::ALL.len() {
            let mut asked = 0;
            let verdicts = Digest::ALL.into_iter().enumerate();
            let found = first_match(verdicts.map(|(index, digest)| {
                asked += 1;
                (digest, index >= at)
            }));
            assert_eq!(found, Digest::ALL.get(at).copied());
            assert_eq!(asked, Digest::ALL.len());
        }
    }

    #[test]
    fn the_order_is_the_order_of_the_variants() {
        assert!(Digest::ALL.is_sorted());
    }
}
