//! Backups of format 3 that a test writes byte by byte, so that they can be
//! damaged anywhere, and what may be in a directory after reading one.
//!
//! Whole archives that tar and openssl wrote are read in `tests/backup.rs`;
//! here every byte must be the test's own.

#![allow(dead_code, reason = "each test program uses some of it")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::io::Write as _;

use aes::cipher::{BlockCipherEncrypt as _, KeyInit as _};
use md5::{Digest as _, Md5};
use qubes_fsm::format::header::Header;
use qubes_fsm::format::hmac::{Digest, Mac};
use qubes_fsm::format::manifest::{Entry, Manifest};

pub(crate) const PASSPHRASE: &[u8] = b"correct horse";
pub(crate) const ID: &str = "00112233445566778899aabbccddeeff";
pub(crate) const OTHER_ID: &str = "ffeeddccbbaa99887766554433221100";
pub(crate) const CHUNK: usize = 5_000;
pub(crate) const MTIME: i64 = 1_400_000_000;

/// Files of the backup, in the order of the archive.
pub(crate) const FILES: [&str; 6] = [
    "qubes.xml",
    "vm5/private.img",
    "vm5/firewall.xml",
    "vm6/private.img",
    "vm7/.",
    "dom0-home/user",
];

pub(crate) const STORE: &str = "<QubesVmCollection default_template=\"7\">
  <QubesAdminVm qid=\"0\" name=\"dom0\" backup_content=\"True\" \
    backup_path=\"dom0-home/user\"/>
  <QubesTemplateVm qid=\"7\" name=\"fedora\" backup_content=\"True\" \
    backup_path=\"vm7\"/>
  <QubesAppVm qid=\"5\" name=\"work\" backup_content=\"True\" \
    backup_path=\"vm5\"/>
  <QubesAppVm qid=\"6\" name=\"mail\" backup_content=\"True\" \
    backup_path=\"vm6\"/>
</QubesVmCollection>
";

/// What the writer is told: everything here ends up under valid codes, and
/// in the manifest.
#[derive(Clone)]
pub(crate) struct Recipe {
    /// Encrypted and compressed with gzip; clear otherwise.
    pub(crate) sealed: bool,
    pub(crate) bound: bool,
    pub(crate) id: &'static str,
    /// Without the promise.
    pub(crate) header: Vec<u8>,
    pub(crate) files: Vec<File>,
}

#[derive(Clone)]
pub(crate) struct File {
    pub(crate) name: String,
    /// The inner archive.
    pub(crate) inner: Vec<u8>,
    /// What becomes of it, if it is not what the header says.
    pub(crate) stored: Option<Vec<u8>>,
}

/// A member of the outer archive.
#[derive(Clone)]
pub(crate) struct Piece {
    pub(crate) name: Vec<u8>,
    pub(crate) data: Vec<u8>,
    /// Instead of a header of ours, the data and its padding.
    pub(crate) raw: Option<Vec<u8>>,
}

/// The members of an archive, to be damaged on their way.
#[derive(Clone)]
pub(crate) struct Made {
    pub(crate) sealed: bool,
    pub(crate) bound: bool,
    pub(crate) pieces: Vec<Piece>,
    /// Done to the archive at the very end.
    pub(crate) bytes: Vec<u8>,
}

/// The image of a qube: does not compress, differs from every other.
pub(crate) fn image(seed: u32) -> Vec<u8> {
    let mut state = seed;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..17_000).map(next).collect()
}

impl Recipe {
    pub(crate) fn new(sealed: bool, bound: bool) -> Self {
        let word = if sealed { "True" } else { "False" };
        let mut header = format!(
            "version=3\nhmac-algorithm=SHA512\ncrypto-algorithm=aes-256-cbc\n\
             encrypted={word}\ncompressed={word}\n"
        );
        if sealed {
            header.push_str("compression-filter=gzip\n");
        }
        let inner = [
            one(b"qubes.xml", STORE.as_bytes()),
            one(b"vm5/private.img", &image(5)),
            one(b"vm5/firewall.xml", b"<firewall/>"),
            one(b"vm6/private.img", &image(6)),
            archive(&[
                entry(b"vm7/./", b'5', b""),
                entry(b"vm7/./private.img", b'0', b"template"),
                entry(b"vm7/./root.img", b'0', &[7; 700]),
                link(b"vm7/./kernel", b'2', b"root.img"),
            ]),
            archive(&[
                entry(b"dom0-home/user/", b'5', b""),
                entry(b"dom0-home/user/.bashrc", b'0', b"export A=1\n"),
                link(b"dom0-home/user/up", b'2', b"../../x"),
            ]),
        ];
        let files = FILES.iter().zip(inner).map(|(name, inner)| File {
            name: (*name).to_owned(),
            inner,
            stored: None,
        });
        Self {
            sealed,
            bound,
            id: ID,
            header: header.into_bytes(),
            files: files.collect(),
        }
    }

    /// The file of that name.
    pub(crate) fn file(&mut self, name: &str) -> &mut File {
        self.files.iter_mut().find(|file| file.name == name).unwrap()
    }

    /// Gives a file another inner archive.
    pub(crate) fn inner(&mut self, name: &str, entries: &[Vec<u8>]) {
        self.file(name).inner = archive(entries);
    }

    /// Replaces one text in the header, which must be there.
    pub(crate) fn header(&mut self, old: &str, new: &str) {
        let text = String::from_utf8(self.header.clone()).unwrap();
        assert!(text.contains(old), "{old}");
        self.header = text.replacen(old, new, 1).into_bytes();
    }

    /// Replaces one text in `qubes.xml`, which must be there.
    pub(crate) fn store(&mut self, old: &str, new: &str) {
        assert!(STORE.contains(old), "{old}");
        let text = STORE.replacen(old, new, 1);
        self.inner("qubes.xml", &[entry(b"qubes.xml", b'0', text.as_bytes())]);
    }

    /// What the header says is done to an inner archive.
    pub(crate) fn store_form(&self, inner: &[u8]) -> Vec<u8> {
        if self.sealed { encrypt(&gzip(inner)) } else { inner.to_vec() }
    }

    pub(crate) fn make(&self) -> Made {
        let mut made = Made {
            sealed: self.sealed,
            bound: self.bound,
            pieces: Vec::new(),
            bytes: Vec::new(),
        };
        let mut header = self.header.clone();
        if self.bound {
            header.extend(format!("backup-manifest=1-{}\n", self.id).bytes());
        }
        made.push("backup-header", header);
        for file in &self.files {
            let stream = match &file.stored {
                Some(stored) => stored.clone(),
                None => self.store_form(&file.inner),
            };
            // `qubes.xml` is one chunk, as the readers want it.
            let size = if file.name == "qubes.xml" { 1 << 30 } else { CHUNK };
            let mut chunks: Vec<&[u8]> = stream.chunks(size).collect();
            if chunks.is_empty() {
                chunks.push(b"");
            }
            for (number, chunk) in chunks.into_iter().enumerate() {
                let name = format!("{}.{number:03}", file.name);
                made.push(&name, chunk.to_vec());
            }
        }
        if self.bound {
            let text = made.manifest(self.id);
            made.push_manifest(&text);
        }
        made
    }
}

impl Made {
    pub(crate) fn push(&mut self, name: &str, data: Vec<u8>) {
        let at = self.pieces.len();
        self.insert(at, name, data);
    }

    /// Puts a chunk and its valid code at a place.
    pub(crate) fn insert(&mut self, at: usize, name: &str, data: Vec<u8>) {
        let mac = mac_text(&data);
        let name_of_mac = format!("{name}.hmac");
        let plain = |name: &str, data| Piece {
            name: name.as_bytes().to_vec(),
            data,
            raw: None,
        };
        self.pieces.insert(at, plain(&name_of_mac, mac));
        self.pieces.insert(at, plain(name, data));
    }

    /// Puts bytes at a place, whatever they are.
    pub(crate) fn insert_raw(&mut self, at: usize, raw: Vec<u8>) {
        let (name, data) = (b"raw".to_vec(), Vec::new());
        self.pieces.insert(at, Piece { name, data, raw: Some(raw) });
    }

    /// The text of the manifest for the members that are there.
    pub(crate) fn manifest(&self, id: &str) -> Vec<u8> {
        let header = format!(
            "version=3\nhmac-algorithm=SHA512\ncrypto-algorithm=aes-256-cbc\n\
             encrypted=False\ncompressed=False\nbackup-manifest=1-{id}\n"
        );
        let header = Header::parse(header.as_bytes()).unwrap();
        let mut manifest = Manifest::new(&header).unwrap();
        for piece in &self.pieces {
            if !piece.name.ends_with(b".hmac") && piece.raw.is_none() {
                let entry = Entry {
                    mac: mac(PASSPHRASE, &piece.data),
                    size: piece.data.len() as u64,
                    name: piece.name.clone(),
                };
                manifest.push(entry).unwrap();
            }
        }
        manifest.to_text(PASSPHRASE).unwrap()
    }

    pub(crate) fn push_manifest(&mut self, text: &[u8]) {
        let inner = one(b"backup-manifest", text);
        let stored = if self.sealed { encrypt(&gzip(&inner)) } else { inner };
        self.push("backup-manifest.000", stored);
    }

    /// Another text for the manifest, under a valid code of its own.
    pub(crate) fn replace_manifest(&mut self, text: &[u8]) {
        self.remove("backup-manifest.000");
        self.remove("backup-manifest.000.hmac");
        self.push_manifest(text);
    }

    /// Where the member of that name is.
    pub(crate) fn at(&self, name: &str) -> usize {
        let is_it = |piece: &Piece| piece.name == name.as_bytes();
        let at = self.pieces.iter().position(is_it);
        at.unwrap_or_else(|| panic!("no member {name}"))
    }

    pub(crate) fn remove(&mut self, name: &str) {
        let at = self.at(name);
        self.pieces.remove(at);
    }

    pub(crate) fn rename(&mut self, old: &str, new: &str) {
        for suffix in ["", ".hmac"] {
            let at = self.at(&format!("{old}{suffix}"));
            self.pieces[at].name = format!("{new}{suffix}").into_bytes();
        }
    }

    /// The members whose names begin so.
    pub(crate) fn take(&mut self, start: &str) -> Vec<Piece> {
        let is_it =
            |piece: &mut Piece| piece.name.starts_with(start.as_bytes());
        let taken: Vec<_> = self.pieces.extract_if(.., is_it).collect();
        assert!(!taken.is_empty(), "no member {start}");
        taken
    }

    /// Exchanges data and codes of two members, not their names.
    pub(crate) fn exchange(&mut self, one: &str, two: &str) {
        for suffix in ["", ".hmac"] {
            let one = self.at(&format!("{one}{suffix}"));
            let two = self.at(&format!("{two}{suffix}"));
            let data = self.pieces[one].data.clone();
            self.pieces[one].data = self.pieces[two].data.clone();
            self.pieces[two].data = data;
        }
    }

    /// Other data under a valid code, as who has the passphrase can.
    pub(crate) fn sign(&mut self, name: &str, data: Vec<u8>) {
        let at = self.at(name);
        self.pieces[at + 1].data = mac_text(&data);
        self.pieces[at].data = data;
    }

    /// The archive: one tar per member, each with its end mark.
    pub(crate) fn pack(&self) -> Vec<u8> {
        let pieces = self.pieces.iter().flat_map(|p| [p.bytes(), end()]);
        pieces.chain([self.bytes.clone()]).collect::<Vec<_>>().concat()
    }

    /// The archive as one tar with one end mark.
    pub(crate) fn pack_single(&self) -> Vec<u8> {
        let pieces = self.pieces.iter().map(Piece::bytes);
        pieces.chain([end()]).collect::<Vec<_>>().concat()
    }
}

impl Piece {
    fn bytes(&self) -> Vec<u8> {
        match &self.raw {
            Some(raw) => raw.clone(),
            None => entry(&self.name, b'0', &self.data),
        }
    }
}

pub(crate) fn mac(key: &[u8], data: &[u8]) -> Vec<u8> {
    let mut mac = Mac::new(Digest::Sha512, key);
    mac.update(data);
    mac.finish().bytes().to_vec()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// As `openssl dgst` writes it.
pub(crate) fn mac_text(data: &[u8]) -> Vec<u8> {
    format!("(stdin)= {}\n", hex(&mac(PASSPHRASE, data))).into_bytes()
}

pub(crate) fn gzip(data: &[u8]) -> Vec<u8> {
    let level = flate2::Compression::default();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// As `openssl enc -aes-256-cbc -md md5` does, with a fixed salt.
pub(crate) fn encrypt(data: &[u8]) -> Vec<u8> {
    let salt = b"saltsalt";
    let (mut key, mut last) = (Vec::new(), Vec::new());
    while key.len() < 48 {
        last = Md5::digest([&last, PASSPHRASE, salt].concat()).to_vec();
        key.extend(&last);
    }
    let (key, iv) = key.split_at(32);
    let aes = aes::Aes256::new_from_slice(key).unwrap();
    let padding = 16 - data.len() % 16;
    let padded = [data, &vec![padding as u8; padding]].concat();
    let mut chain: [u8; 16] = iv.try_into().unwrap();
    let mut out = [&b"Salted__"[..], salt].concat();
    for block in padded.chunks_exact(16) {
        for (chain, byte) in chain.iter_mut().zip(block) {
            *chain ^= byte;
        }
        let mut block = aes::Block::from(chain);
        aes.encrypt_block(&mut block);
        chain = block.into();
        out.extend(chain);
    }
    out
}

/// A tar header of POSIX; [`sealed`] makes it valid.
pub(crate) fn block(path: &[u8], kind: u8, size: u64) -> [u8; 512] {
    let mut block = [0; 512];
    set(&mut block, 0, path.get(..100).unwrap_or(path));
    set(&mut block, 100, b"0000644\0");
    if kind == b'5' {
        set(&mut block, 100, b"0000755\0");
    }
    set(&mut block, 108, b"0001750\0");
    set(&mut block, 116, b"0001750\0");
    set(&mut block, 124, format!("{size:011o}\0").as_bytes());
    set(&mut block, 136, format!("{MTIME:011o}\0").as_bytes());
    block[156] = kind;
    set(&mut block, 257, b"ustar\x0000");
    block
}

/// Sets a field.
pub(crate) fn set(block: &mut [u8; 512], at: usize, bytes: &[u8]) {
    block[at..][..bytes.len()].copy_from_slice(bytes);
}

/// With its checksum.
pub(crate) fn sealed(mut block: [u8; 512]) -> Vec<u8> {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().copied().map(u32::from).sum();
    set(&mut block, 148, format!("{sum:06o}\0 ").as_bytes());
    block.to_vec()
}

/// A header and its data, filled up with zeros.
pub(crate) fn entry(path: &[u8], kind: u8, data: &[u8]) -> Vec<u8> {
    body(sealed(block(path, kind, data.len() as u64)), data)
}

pub(crate) fn body(mut header: Vec<u8>, data: &[u8]) -> Vec<u8> {
    header.extend(data);
    header.resize(header.len().next_multiple_of(512), 0);
    header
}

/// A link of either kind.
pub(crate) fn link(path: &[u8], kind: u8, target: &[u8]) -> Vec<u8> {
    let mut block = block(path, kind, 0);
    set(&mut block, 157, target);
    sealed(block)
}

/// A PAX header with these records.
pub(crate) fn pax(records: &[(&str, &str)]) -> Vec<u8> {
    let mut text = String::new();
    for (key, value) in records {
        let rest = format!(" {key}={value}\n");
        let mut length = rest.len();
        while length != rest.len() + length.to_string().len() {
            length = rest.len() + length.to_string().len();
        }
        text.push_str(&format!("{length}{rest}"));
    }
    entry(b"PaxHeaders/x", b'x', text.as_bytes())
}

/// The mark at the end of an archive.
pub(crate) fn end() -> Vec<u8> {
    vec![0; 1024]
}

pub(crate) fn archive(entries: &[Vec<u8>]) -> Vec<u8> {
    [entries.concat(), end()].concat()
}

/// An archive of one file.
pub(crate) fn one(path: &[u8], data: &[u8]) -> Vec<u8> {
    archive(&[entry(path, b'0', data)])
}
