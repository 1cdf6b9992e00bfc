//! What `openssl enc -CIPHER -md md5 -pass PASS` makes and undoes.
//!
//! Lives here: the salt in front, the key derivation, CBC with padding, in
//! pieces of any size. May not live here: whether the bytes are authentic.
//! That is known before they come here: a padding that is wrong means damage,
//! or an end that is missing, and not a wrong passphrase.
//! Source: FORMAT.md, "Streams"; openssl `apps/enc.c`, `EVP_BytesToKey`.
//!
//! ```
//! use qubes_fsm::format::cipher::{Cipher, Decryptor, Encryptor};
//! let cipher = Cipher::from_name("aes-256-cbc")?;
//! let (mut stored, mut data) = (Vec::new(), Vec::new());
//! let mut encryptor = Encryptor::new(cipher, b"secret", *b"NaClNaCl");
//! encryptor.update(b"image", &mut stored);
//! encryptor.finish(&mut stored);
//!
//! let mut decryptor = Decryptor::new(cipher, b"secret");
//! decryptor.update(&stored, &mut data)?;
//! decryptor.finish(&mut data)?;
//! assert_eq!(data, b"image");
//! # Ok::<(), qubes_fsm::format::cipher::CipherError>(())
//! ```

use core::fmt;

use aes::{Aes128, Aes192, Aes256};
use cbc::cipher::{
    Array, BlockCipherDecrypt, BlockCipherEncrypt, BlockModeDecrypt,
    BlockModeEncrypt, InnerIvInit, Iv, Key, KeyInit,
};
use md5::{Md5, digest};
use zeroize::{Zeroize as _, Zeroizing};

use super::quote::Quoted;

/// What an encrypted stream begins with; the salt is behind it.
pub const MAGIC: &[u8; 8] = b"Salted__";

/// Length of the salt in bytes.
pub const SALT_BYTES: usize = 8;

/// A cipher of `openssl enc`, always with CBC and PKCS#7.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Cipher {
    /// `aes-128-cbc`.
    Aes128,
    /// `aes-192-cbc`.
    Aes192,
    /// `aes-256-cbc`, what every writer takes by default.
    Aes256,
    /// `des-ede3-cbc`.
    #[cfg(feature = "legacy-ciphers")]
    TripleDes,
    /// `camellia-128-cbc`.
    #[cfg(feature = "legacy-ciphers")]
    Camellia128,
    /// `camellia-192-cbc`.
    #[cfg(feature = "legacy-ciphers")]
    Camellia192,
    /// `camellia-256-cbc`.
    #[cfg(feature = "legacy-ciphers")]
    Camellia256,
    /// `bf-cbc`, with the 128 bits of key that openssl gives it.
    #[cfg(feature = "legacy-ciphers")]
    Blowfish,
    /// `cast5-cbc`.
    #[cfg(feature = "legacy-ciphers")]
    Cast5,
}

/// Undoes a stream that arrives in pieces.
///
/// What it gives is not authenticated by it. After an error it is of no use.
pub struct Decryptor {
    cipher: Cipher,
    passphrase: Zeroizing<Vec<u8>>,
    phase: Decrypting,
}

/// Makes a stream out of data that arrives in pieces.
pub struct Encryptor {
    blocks: Box<dyn Blocks>,
    /// In front of the first output: the magic and the salt.
    head: Vec<u8>,
    /// Data that does not fill a block.
    rest: Vec<u8>,
}

/// Why a cipher, or a stream, was refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CipherError {
    /// A name that is not known.
    #[error(
        "cipher {}: not supported; wanted {}",
        Quoted(.name.as_bytes()), known()
    )]
    Unknown {
        /// The name as it was given.
        name: String,
    },
    /// A name that is known, in a build that leaves its cipher out.
    #[error(
        "cipher {}: not in this build; wanted one with the feature \
         legacy-ciphers", Quoted(.name.as_bytes())
    )]
    NotBuilt {
        /// The name as it was given.
        name: String,
    },
    /// No salt in front.
    #[error(
        "encrypted stream: it begins with {}; wanted \"Salted__\"",
        Quoted(.found)
    )]
    NoSalt {
        /// Its first bytes, 8 at most.
        found: Vec<u8>,
    },
    /// The end before the first block.
    #[error("encrypted stream: {found} bytes; wanted {expected} at least")]
    Truncated {
        /// Size of the stream in bytes.
        found: u64,
        /// Magic, salt and one block, in bytes.
        expected: u64,
    },
    /// The end within a block.
    #[error(
        "encrypted stream: {found} bytes behind the salt; wanted a multiple \
         of {block}"
    )]
    BadLength {
        /// How many bytes there are.
        found: u64,
        /// Size of a block in bytes.
        block: usize,
    },
    /// The last block does not end as one must.
    #[error(
        "encrypted stream: its last block ends with byte {found}; wanted as \
         many equal bytes, 1 to {block}, as each of them says"
    )]
    BadPadding {
        /// The last byte.
        found: u8,
        /// Size of a block in bytes.
        block: usize,
    },
}

impl Cipher {
    /// All of this build.
    pub const ALL: &[Self] = &[
        Self::Aes128,
        Self::Aes192,
        Self::Aes256,
        #[cfg(feature = "legacy-ciphers")]
        Self::TripleDes,
        #[cfg(feature = "legacy-ciphers")]
        Self::Camellia128,
        #[cfg(feature = "legacy-ciphers")]
        Self::Camellia192,
        #[cfg(feature = "legacy-ciphers")]
        Self::Camellia256,
        #[cfg(feature = "legacy-ciphers")]
        Self::Blowfish,
        #[cfg(feature = "legacy-ciphers")]
        Self::Cast5,
    ];

    /// The cipher of this name, in any case.
    ///
    /// # Errors
    /// `NotBuilt` for one that the feature `legacy-ciphers` adds; `Unknown`
    /// for all others, stream ciphers and other names of openssl included.
    pub fn from_name(untrusted_name: &str) -> Result<Self, CipherError> {
        let is = |name: &str| name.eq_ignore_ascii_case(untrusted_name);
        let mut all = Self::ALL.iter().copied();
        all.find(|cipher| is(cipher.name())).ok_or_else(|| {
            let name = untrusted_name.to_owned();
            if LEGACY_NAMES.into_iter().any(is) {
                CipherError::NotBuilt { name }
            } else {
                CipherError::Unknown { name }
            }
        })
    }

    /// The name as openssl and the header spell it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Aes128 => "aes-128-cbc",
            Self::Aes192 => "aes-192-cbc",
            Self::Aes256 => "aes-256-cbc",
            #[cfg(feature = "legacy-ciphers")]
            Self::TripleDes => "des-ede3-cbc",
            #[cfg(feature = "legacy-ciphers")]
            Self::Camellia128 => "camellia-128-cbc",
            #[cfg(feature = "legacy-ciphers")]
            Self::Camellia192 => "camellia-192-cbc",
            #[cfg(feature = "legacy-ciphers")]
            Self::Camellia256 => "camellia-256-cbc",
            #[cfg(feature = "legacy-ciphers")]
            Self::Blowfish => "bf-cbc",
            #[cfg(feature = "legacy-ciphers")]
            Self::Cast5 => "cast5-cbc",
        }
    }

    /// Size of a block in bytes: 8 or 16.
    #[must_use]
    pub fn block_bytes(self) -> usize {
        match self {
            Self::Aes128 | Self::Aes192 | Self::Aes256 => 16,
            #[cfg(feature = "legacy-ciphers")]
            Self::Camellia128 | Self::Camellia192 | Self::Camellia256 => 16,
            #[cfg(feature = "legacy-ciphers")]
            Self::TripleDes | Self::Blowfish | Self::Cast5 => 8,
        }
    }

    fn start(
        self,
        way: Way,
        passphrase: &[u8],
        salt: &[u8; SALT_BYTES],
    ) -> Box<dyn Blocks> {
        match self {
            Self::Aes128 => keyed::<Aes128>(way, passphrase, salt),
            Self::Aes192 => keyed::<Aes192>(way, passphrase, salt),
            Self::Aes256 => keyed::<Aes256>(way, passphrase, salt),
            #[cfg(feature = "legacy-ciphers")]
            Self::TripleDes => keyed::<des::TdesEde3>(way, passphrase, salt),
            #[cfg(feature = "legacy-ciphers")]
            Self::Camellia128 => {
                keyed::<camellia::Camellia128>(way, passphrase, salt)
            }
            #[cfg(feature = "legacy-ciphers")]
            Self::Camellia192 => {
                keyed::<camellia::Camellia192>(way, passphrase, salt)
            }
            #[cfg(feature = "legacy-ciphers")]
            Self::Camellia256 => {
                keyed::<camellia::Camellia256>(way, passphrase, salt)
            }
            #[cfg(feature = "legacy-ciphers")]
            Self::Blowfish => blowfish(way, passphrase, salt),
            #[cfg(feature = "legacy-ciphers")]
            Self::Cast5 => keyed::<cast5::Cast5>(way, passphrase, salt),
        }
    }
}

impl fmt::Display for Cipher {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// What the decryptor waits for.
enum Decrypting {
    /// The magic and the salt; so much of them is there.
    Head(Vec<u8>),
    /// Blocks.
    Body {
        blocks: Box<dyn Blocks>,
        /// At most one block, which may be the last.
        held: Vec<u8>,
        /// Bytes seen behind the salt.
        seen: u64,
    },
}

impl Decryptor {
    /// Begins; the key is derived once the salt is there.
    #[must_use]
    pub fn new(cipher: Cipher, passphrase: &[u8]) -> Self {
        let passphrase = Zeroizing::new(passphrase.to_vec());
        Self { cipher, passphrase, phase: Decrypting::Head(Vec::new()) }
    }

    /// Takes the next piece, of any size; appends what is certain to `out`.
    ///
    /// The last block is kept back, as its end is padding.
    ///
    /// # Errors
    /// `NoSalt`, once 8 bytes are there.
    pub fn update(
        &mut self,
        untrusted_piece: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), CipherError> {
        let mut piece = untrusted_piece;
        if let Decrypting::Head(head) = &mut self.phase {
            let wanted = HEAD_BYTES.saturating_sub(head.len());
            let (start, rest) =
                piece.split_at_checked(wanted).unwrap_or((piece, &[]));
            head.extend_from_slice(start);
            piece = rest;
            if let Some(salt) = salt(head)? {
                let blocks =
                    self.cipher.start(Way::Decrypt, &self.passphrase, &salt);
                let held = Vec::new();
                self.phase = Decrypting::Body { blocks, held, seen: 0 };
            }
        }
        if let Decrypting::Body { blocks, held, seen } = &mut self.phase {
            *seen = seen.saturating_add(piece.len() as u64);
            let start = out.len();
            out.append(held);
            out.extend_from_slice(piece);
            let block = self.cipher.block_bytes();
            // One byte at least stays, so the last block is never given out.
            let fresh = out.len() - start;
            let whole = fresh.saturating_sub(1) / block * block;
            *held = out.split_off(start + whole);
            blocks.crypt(out.get_mut(start..).unwrap_or_default());
        }
        Ok(())
    }

    /// Ends the stream: appends the last block, without its padding.
    ///
    /// # Errors
    /// `NoSalt` or `Truncated` if no block came, `BadLength`, `BadPadding`.
    /// What was given out before is then of no use either.
    pub fn finish(self, out: &mut Vec<u8>) -> Result<(), CipherError> {
        let block = self.cipher.block_bytes();
        let expected = (HEAD_BYTES + block) as u64;
        let (mut blocks, held, seen) = match self.phase {
            Decrypting::Head(mut head) => {
                let found = head.len() as u64;
                head.truncate(MAGIC.len());
                return Err(if MAGIC.starts_with(&head) {
                    CipherError::Truncated { found, expected }
                } else {
                    CipherError::NoSalt { found: head }
                });
            }
            Decrypting::Body { blocks, held, seen } => (blocks, held, seen),
        };
        if seen == 0 {
            let found = HEAD_BYTES as u64;
            return Err(CipherError::Truncated { found, expected });
        }
        if held.len() != block {
            return Err(CipherError::BadLength { found: seen, block });
        }
        let mut last = Zeroizing::new(held);
        blocks.crypt(&mut last);
        let data = unpadded(&last)?;
        out.extend_from_slice(data);
        Ok(())
    }
}

impl fmt::Debug for Decryptor {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Decryptor({}, ..)", self.cipher)
    }
}

impl Encryptor {
    /// Begins; the salt must be new for every stream, from a random source.
    #[must_use]
    pub fn new(
        cipher: Cipher,
        passphrase: &[u8],
        salt: [u8; SALT_BYTES],
    ) -> Self {
        let blocks = cipher.start(Way::Encrypt, passphrase, &salt);
        let head = [&MAGIC[..], &salt].concat();
        Self { blocks, head, rest: Vec::new() }
    }

    /// Takes the next piece, of any size; appends whole blocks to `out`.
    pub fn update(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        out.append(&mut self.head);
        let start = out.len();
        out.append(&mut self.rest);
        out.extend_from_slice(piece);
        let block = self.blocks.block_bytes();
        let whole = (out.len() - start) / block * block;
        self.rest = out.split_off(start + whole);
        self.blocks.crypt(out.get_mut(start..).unwrap_or_default());
    }

    /// Ends the stream: appends the last block, with 1 to 16 bytes of
    /// padding.
    pub fn finish(mut self, out: &mut Vec<u8>) {
        let block = self.blocks.block_bytes();
        let missing = block - self.rest.len() % block;
        let padding = u8::try_from(missing).unwrap_or_default();
        self.update(&vec![padding; missing], out);
    }
}

impl fmt::Debug for Encryptor {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Encryptor(..)")
    }
}

/// Length of what is in front of the blocks.
const HEAD_BYTES: usize = MAGIC.len() + SALT_BYTES;

/// Those of the feature, in builds with and without it.
const LEGACY_NAMES: [&str; 6] = [
    "des-ede3-cbc",
    "camellia-128-cbc",
    "camellia-192-cbc",
    "camellia-256-cbc",
    "bf-cbc",
    "cast5-cbc",
];

/// The names of [`Cipher::ALL`], for an error.
fn known() -> String {
    let names: Vec<_> = Cipher::ALL.iter().map(|c| c.name()).collect();
    names.join(", ")
}

/// The salt, once it is there whole.
fn salt(head: &[u8]) -> Result<Option<[u8; SALT_BYTES]>, CipherError> {
    let Some((magic, salt)) = head.split_first_chunk::<8>() else {
        return Ok(None);
    };
    if magic != MAGIC {
        return Err(CipherError::NoSalt { found: magic.to_vec() });
    }
    Ok(salt.first_chunk().copied())
}

/// Takes the padding off the last block.
//= spec/format3.md#padding
fn unpadded(block: &[u8]) -> Result<&[u8], CipherError> {
    let found = block.last().copied().unwrap_or_default();
    let bad = CipherError::BadPadding { found, block: block.len() };
    let data = block.len().checked_sub(usize::from(found));
    match data.and_then(|data| block.split_at_checked(data)) {
        Some((data, padding))
            if found > 0 && padding.iter().all(|byte| *byte == found) =>
        {
            Ok(data)
        }
        Some(_) | None => Err(bad),
    }
}

/// `EVP_BytesToKey` with one round: fills the parts, one behind the other,
/// with D1, D2, .. where Di = H(Di-1 passphrase salt) and D0 is empty.
//= spec/format3.md#the-key-of-a-stream
fn derive<D: digest::Digest>(
    passphrase: &[u8],
    salt: &[u8; SALT_BYTES],
    parts: [&mut [u8]; 2],
) {
    let mut last = Zeroizing::new(Vec::new());
    let mut used = 0;
    for byte in parts.into_iter().flatten() {
        if used == last.len() {
            let mut hash = D::new();
            hash.update(&*last);
            hash.update(passphrase);
            hash.update(salt);
            last = Zeroizing::new(hash.finalize().to_vec());
            used = 0;
        }
        *byte = last.get(used).copied().unwrap_or_default();
        used += 1;
    }
}

/// Which of the two is done.
#[derive(Clone, Copy)]
enum Way {
    Encrypt,
    Decrypt,
}

/// A cipher under way, whichever it is.
trait Blocks: Send {
    fn block_bytes(&self) -> usize;
    /// Whole blocks, in place; what does not fill a block stays as it is.
    fn crypt(&mut self, data: &mut [u8]);
}

struct Encrypting<C: BlockCipherEncrypt>(cbc::Encryptor<C>);
struct Undoing<C: BlockCipherDecrypt>(cbc::Decryptor<C>);

impl<C: BlockCipherEncrypt + Send> Blocks for Encrypting<C> {
    fn block_bytes(&self) -> usize {
        C::block_size()
    }

    fn crypt(&mut self, data: &mut [u8]) {
        let (blocks, _) = Array::slice_as_chunks_mut(data);
        self.0.encrypt_blocks(blocks);
    }
}

impl<C: BlockCipherDecrypt + Send> Blocks for Undoing<C> {
    fn block_bytes(&self) -> usize {
        C::block_size()
    }

    fn crypt(&mut self, data: &mut [u8]) {
        let (blocks, _) = Array::slice_as_chunks_mut(data);
        self.0.decrypt_blocks(blocks);
    }
}

fn keyed<C>(
    way: Way,
    passphrase: &[u8],
    salt: &[u8; SALT_BYTES],
) -> Box<dyn Blocks>
where
    C: KeyInit + BlockCipherEncrypt + BlockCipherDecrypt + Send + 'static,
{
    let mut key = Key::<C>::default();
    let mut iv = Iv::<cbc::Encryptor<C>>::default();
    derive::<Md5>(passphrase, salt, [&mut key, &mut iv]);
    let cipher = C::new(&key);
    key.zeroize();
    running(way, cipher, &iv)
}

/// `bf-cbc` has a key of 16 bytes, not the 56 that its crate begins with.
#[cfg(feature = "legacy-ciphers")]
fn blowfish(
    way: Way,
    passphrase: &[u8],
    salt: &[u8; SALT_BYTES],
) -> Box<dyn Blocks> {
    let mut key = Zeroizing::new([0; 16]);
    let mut iv = Iv::<cbc::Encryptor<blowfish::Blowfish>>::default();
    derive::<Md5>(passphrase, salt, [&mut *key, &mut iv]);
    let mut cipher = blowfish::Blowfish::bc_init_state();
    cipher.bc_expand_key(&*key);
    running(way, cipher, &iv)
}

fn running<C>(
    way: Way,
    cipher: C,
    iv: &Iv<cbc::Encryptor<C>>,
) -> Box<dyn Blocks>
where
    C: BlockCipherEncrypt + BlockCipherDecrypt + Send + 'static,
{
    match way {
        Way::Encrypt => {
            Box::new(Encrypting(cbc::Encryptor::inner_iv_init(cipher, iv)))
        }
        Way::Decrypt => {
            Box::new(Undoing(cbc::Decryptor::inner_iv_init(cipher, iv)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::hmac::to_hex;
    use super::*;

    /// By `openssl enc -P`: digests that give a half of the key at once, an
    /// uneven part of it, and all of it.
    #[test]
    fn the_key_of_any_digest() {
        fn hex<D: digest::Digest>() -> (String, String) {
            let (mut key, mut iv) = ([0; 32], [0; 16]);
            derive::<D>(b"correct horse", b"NaClNaCl", [&mut key, &mut iv]);
            (to_hex(&key), to_hex(&iv))
        }
        let pair = |key: &str, iv: &str| (key.to_owned(), iv.to_owned());
        assert_eq!(
            hex::<Md5>(),
            pair(
                "bd519f3afe39162e9333711bffecc20e\
                 2d542d6e687e29ed8d883d3d7c8d8e31",
                "a2576f415fac3101a838cef9632b53ad",
            )
        );
        assert_eq!(
            hex::<sha1::Sha1>(),
            pair(
                "bd674c3def52a7d9cb1a29bf4a0dcb09\
                 995235d7bf3505f544a4609af78042bf",
                "ad86f64590beb0ff27e1c8fffe79e3a4",
            )
        );
        assert_eq!(
            hex::<sha2::Sha256>(),
            pair(
                "15f7ff13979dd5f9548e08cc3f5ed783\
                 359258d20368b18108dd9223f9ced22a",
                "c1987ae78d6f44b1bba4d11026d206bd",
            )
        );
    }
}
