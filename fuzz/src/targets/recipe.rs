//! What the archives of the target `archive` are made of, and how they are
//! made: format 3, in memory, with the writers of the crate.
//!
//! Lives here: the description that `arbitrary` fills, and the making. May
//! not live here: damage, and what a reader should say.

use std::io::Write as _;

use arbitrary::Arbitrary;
use qubes_fsm::format::cipher::{Cipher, Encryptor};
use qubes_fsm::format::header::Header;
use qubes_fsm::format::hmac::{Digest, Mac, MacText};
use qubes_fsm::format::manifest::{BackupId, Entry, MANIFEST_NAME, Manifest};

use crate::tar_support as tar;

/// All archives have it.
pub const PASSPHRASE: &[u8] = b"correct horse";

/// How an archive is written.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub struct Form {
    pub encrypted: bool,
    pub filter: Filter,
    pub digest: u8,
    pub manifest: bool,
    /// Most archives have one.
    headerless: u8,
    /// How small the chunks are.
    chunk: u8,
    /// Members padded as tar does, and zeros behind a compressor.
    padded: bool,
    /// The empty chunk that the old writer leaves.
    empty: bool,
}

/// What an inner archive is compressed with.
#[derive(Arbitrary, Clone, Copy, Debug, Eq, PartialEq)]
pub enum Filter {
    None,
    Gzip,
    Bzip2,
    Xz,
    Zstd,
}

/// A file of the archive.
#[derive(Arbitrary, Clone, Debug)]
pub struct File {
    /// Of [`PLACES`].
    place: u8,
    sparse: Sparse,
    /// Bytes that repeat, so many.
    byte: u8,
    length: u16,
    /// What else is in its inner archive, where it is a folder.
    nodes: Vec<Node>,
}

/// How the holes are written.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Sparse {
    None,
    Gnu(u8),
    Pax00(u8),
    Pax01(u8),
    Pax10(u8),
}

/// A member of an inner archive.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Node {
    File(u8),
    Directory,
    Symlink(u8),
    HardLink,
    LongGnu,
    LongPax,
}

/// A data member of the outer archive, and the text of its code.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Member {
    pub name: Vec<u8>,
    pub data: Vec<u8>,
    pub mac: Vec<u8>,
}

/// A file as it was put in.
#[derive(Clone, Debug)]
pub struct Fact {
    pub name: Vec<u8>,
    pub chunks: Vec<Vec<u8>>,
    pub decoded: u64,
    /// One path in it, and all bytes of that, holes included.
    pub path: String,
    pub content: Vec<u8>,
    /// Without it something is missing that `qubes.xml` announces.
    pub announced: bool,
}

/// An archive, and what it was made of.
#[derive(Clone, Debug)]
pub struct Made {
    pub form: Form,
    pub digest: Digest,
    pub header: bool,
    pub members: Vec<Member>,
    pub facts: Vec<Fact>,
}

/// File, whether it is a folder, and the line that announces it.
const PLACES: [(&str, bool, &str); 6] = [
    (
        "vm5/private.img",
        false,
        "<QubesAppVm qid=\"5\" name=\"work\" backup_content=\"True\" \
         backup_path=\"vm5\"/>",
    ),
    ("vm5/firewall.xml", false, ""),
    (
        "vm7/.",
        true,
        "<QubesTemplateVm qid=\"7\" name=\"fedora\" backup_content=\"True\" \
         backup_path=\"vm7\"/>",
    ),
    (
        "dom0-home/user",
        true,
        "<QubesAdminVm qid=\"0\" name=\"dom0\" backup_content=\"True\" \
         backup_path=\"dom0-home/user\"/>",
    ),
    (
        "vm6/private.img",
        false,
        "<QubesHVm qid=\"6\" name=\"hvm\" backup_content=\"True\" \
         backup_path=\"vm6\"/>",
    ),
    ("nobody/file", false, ""),
];

impl Form {
    /// Makes the archive of these files.
    pub fn make(mut self, files: &[File]) -> Made {
        // Common ones, old and new; a code costs time.
        let digests = [
            Digest::Sha512,
            Digest::Sha256,
            Digest::Sha1,
            Digest::Md5,
            Digest::Whirlpool,
        ];
        let digest = digests[usize::from(self.digest) % digests.len()];
        // Without a header only gzip is found by trying.
        let guessable = matches!(self.filter, Filter::None | Filter::Gzip);
        let header = self.headerless % 8 != 7 || !guessable;
        self.manifest &= header;
        let promise = self.manifest.then(|| BackupId::new([7; 16]));
        let text = Header::new(
            digest,
            Cipher::Aes256,
            self.encrypted,
            self.filter.name(),
            promise,
        )
        .unwrap();
        let mut made = Made {
            form: self,
            digest,
            header,
            members: Vec::new(),
            facts: Vec::new(),
        };
        if header {
            made.push(b"backup-header".to_vec(), text.to_bytes());
        }
        let mut chosen: Vec<(&File, (&str, bool, &str))> = Vec::new();
        for file in files.iter().take(4) {
            let place = PLACES[usize::from(file.place) % PLACES.len()];
            if chosen.iter().all(|(_, other)| other.0 != place.0) {
                chosen.push((file, place));
            }
        }
        made.add_store(&chosen);
        for (file, (name, is_folder, line)) in chosen {
            let (inner, path, content) = file.inner(name, is_folder);
            made.add(name, inner, path, content, !line.is_empty());
        }
        if self.manifest {
            made.add_manifest(&text);
        }
        made
    }
}

impl Filter {
    fn name(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Gzip => Some("gzip"),
            Self::Bzip2 => Some("bzip2"),
            Self::Xz => Some("xz"),
            Self::Zstd => Some("zstd"),
        }
    }

    fn compress(self, plain: &[u8]) -> Vec<u8> {
        match self {
            Self::None => plain.to_vec(),
            Self::Gzip => {
                let level = flate2::Compression::fast();
                let mut out = flate2::write::GzEncoder::new(vec![], level);
                out.write_all(plain).unwrap();
                out.finish().unwrap()
            }
            Self::Bzip2 => {
                let level = bzip2::Compression::fast();
                let mut out = bzip2::write::BzEncoder::new(vec![], level);
                out.write_all(plain).unwrap();
                out.finish().unwrap()
            }
            Self::Xz => {
                let mut out = liblzma::write::XzEncoder::new(vec![], 0);
                out.write_all(plain).unwrap();
                out.finish().unwrap()
            }
            Self::Zstd => {
                let mut out = zstd::Encoder::new(vec![], 1).unwrap();
                // As the program does; without it nothing notices a change.
                out.include_checksum(true).unwrap();
                out.write_all(plain).unwrap();
                out.finish().unwrap()
            }
        }
    }
}

impl File {
    /// The inner archive, the path of its first file, and that one's content.
    fn inner(&self, name: &str, folder: bool) -> (Vec<u8>, String, Vec<u8>) {
        let path = if folder { format!("{name}/0") } else { name.to_owned() };
        let (mut members, content) = (Vec::new(), self.content());
        if folder {
            let top = format!("{name}/");
            members.push(
                tar::Raw::new(tar::GNU, b'5', top.as_bytes(), 0).with(b""),
            );
        }
        members.push(self.file(path.as_bytes(), &content));
        if folder {
            let nodes = self.nodes.iter().take(6).enumerate();
            for (index, node) in nodes {
                members.push(node.member(name, index + 1, &path));
            }
        }
        (tar::archive(&members), path, content)
    }

    /// Data and holes in turn, in pieces of 512 bytes, where it is sparse.
    fn content(&self) -> Vec<u8> {
        let length = usize::from(self.length % 2048);
        let byte = |at: usize| self.byte.wrapping_add((at / 7) as u8);
        let data: Vec<u8> = (0..length).map(byte).collect();
        if self.map().is_none() {
            return data;
        }
        let mut content = Vec::new();
        for piece in data.chunks(512) {
            content.resize(content.len() + 1000, 0);
            content.extend(piece);
        }
        content.resize(content.len() + 3000, 0);
        content
    }

    /// Number of empty entries at the end of the map, if there is one.
    fn map(&self) -> Option<u8> {
        match self.sparse {
            Sparse::None => None,
            Sparse::Gnu(more)
            | Sparse::Pax00(more)
            | Sparse::Pax01(more)
            | Sparse::Pax10(more) => Some(more),
        }
    }

    fn file(&self, path: &[u8], content: &[u8]) -> Vec<u8> {
        let Some(more) = self.map() else { return tar::file(path, content) };
        let length = u64::from(self.length % 2048);
        let size = content.len() as u64;
        let (mut map, mut data) = (Vec::new(), Vec::new());
        let (mut at, mut left) = (1000, length);
        while left > 0 {
            let now = left.min(512);
            map.push((at, now));
            data.extend(&content[at as usize..][..now as usize]);
            (at, left) = (at + now + 1000, left - now);
        }
        map.extend((0..=more % 20).map(|_| (size, 0)));
        match self.sparse {
            Sparse::None => tar::file(path, content),
            Sparse::Gnu(_) => tar::gnu_sparse(path, size, &map, &data),
            Sparse::Pax00(_) => {
                tar::pax_sparse_0(path, size, &map, &data, true)
            }
            Sparse::Pax01(_) => {
                tar::pax_sparse_0(path, size, &map, &data, false)
            }
            Sparse::Pax10(_) => tar::pax_sparse_1(path, size, &map, &data),
        }
    }
}

impl Node {
    fn member(self, top: &str, index: usize, first: &str) -> Vec<u8> {
        let path = format!("{top}/{index}").into_bytes();
        let long = format!("{top}/{index}/{}", "n".repeat(120)).into_bytes();
        let link = |kind, target: &[u8]| {
            let mut raw = tar::Raw::new(tar::GNU, kind, &path, 0);
            raw.link = target.to_vec();
            raw.with(b"")
        };
        match self {
            Self::File(length) => {
                tar::file(&path, &vec![length; usize::from(length)])
            }
            Self::Directory => {
                tar::Raw::new(tar::POSIX, b'5', &path, 0).with(b"")
            }
            Self::Symlink(up) => link(
                b'2',
                &[&b"../".repeat(usize::from(up % 9)), &b"x"[..]].concat(),
            ),
            Self::HardLink => link(b'1', first.as_bytes()),
            Self::LongGnu => [
                tar::long(b'L', &long),
                tar::Raw::new(tar::GNU, b'0', b"n", 4).with(b"long"),
            ]
            .concat(),
            Self::LongPax => [
                // A value may hold what looks like a record.
                tar::pax(&[(b"path", &long), (b"comment", b"\n9 size=1\n")]),
                tar::file(b"n", b"long"),
            ]
            .concat(),
        }
    }
}

impl Made {
    /// Appends a member with its code.
    pub fn push(&mut self, name: Vec<u8>, data: Vec<u8>) {
        let mac = mac_text(self.digest, &data);
        self.members.push(Member { name, data, mac });
    }

    fn add_store(&mut self, chosen: &[(&File, (&str, bool, &str))]) {
        let mut text =
            "<QubesVmCollection default_template=\"7\">\n".to_owned();
        for (_, (_, _, line)) in chosen {
            text.push_str(line);
        }
        text.push_str("</QubesVmCollection>\n");
        let inner = tar::archive(&[tar::file(b"qubes.xml", text.as_bytes())]);
        let path = "qubes.xml".to_owned();
        self.add("qubes.xml", inner, path, text.into_bytes(), true);
    }

    /// Compresses, encrypts and cuts.
    fn add(
        &mut self,
        name: &str,
        mut inner: Vec<u8>,
        path: String,
        content: Vec<u8>,
        announced: bool,
    ) {
        let form = self.form;
        if form.padded {
            inner.resize(inner.len().next_multiple_of(10_240), 0);
        }
        let mut stream = form.filter.compress(&inner);
        if form.padded && form.filter != Filter::None {
            stream.resize(stream.len().next_multiple_of(1024), 0);
        }
        if form.encrypted {
            let salt = [self.facts.len() as u8; 8];
            let mut encryptor =
                Encryptor::new(Cipher::Aes256, PASSPHRASE, salt);
            let mut out = Vec::new();
            encryptor.update(&stream, &mut out);
            encryptor.finish(&mut out);
            stream = out;
        }
        let is_whole = name == "qubes.xml" || name == "backup-manifest";
        // Some 20 chunks at most: each costs a code.
        let least = stream.len() / 20 + 1;
        let size = least.max(16 + 32 * usize::from(form.chunk));
        let size = if is_whole { usize::MAX } else { size };
        let mut chunks: Vec<_> = stream.chunks(size).map(Vec::from).collect();
        if form.empty && !is_whole {
            chunks.push(Vec::new());
        }
        for (number, chunk) in chunks.iter().enumerate() {
            let name = format!("{name}.{number:03}");
            self.push(name.into_bytes(), chunk.clone());
        }
        self.facts.push(Fact {
            name: name.as_bytes().to_vec(),
            chunks,
            decoded: inner.len() as u64,
            path,
            content,
            announced,
        });
    }

    fn add_manifest(&mut self, header: &Header) {
        let mut manifest = Manifest::new(header).unwrap();
        for Member { name, data, mac } in &self.members {
            let mac = MacText::parse(mac).unwrap().value().to_vec();
            let (name, size) = (name.clone(), data.len() as u64);
            manifest.push(Entry { mac, size, name }).unwrap();
        }
        let text = manifest.to_text(PASSPHRASE).unwrap();
        let inner = tar::archive(&[tar::file(MANIFEST_NAME, &text)]);
        let name = "backup-manifest";
        self.add(name, inner, name.to_owned(), text, false);
    }

    /// A code that came to stand alone behind its member is that member's.
    pub fn pair(&mut self) {
        let mut paired: Vec<Member> = Vec::new();
        for member in self.members.drain(..) {
            match paired.last_mut() {
                Some(last)
                    if last.mac.is_empty()
                        && member.mac.is_empty()
                        && member.name
                            == [&last.name, &b".hmac"[..]].concat() =>
                {
                    last.mac = member.data;
                }
                _ => paired.push(member),
            }
        }
        self.members = paired;
    }

    /// The outer archive, and where each data member's data ends in it.
    pub fn outer(&self) -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for member in &self.members {
            let mac = [&member.name, &b".hmac"[..]].concat();
            let pair = [(&member.name, &member.data), (&mac, &member.mac)];
            // The code may have been taken away.
            let count = if member.mac.is_empty() { 1 } else { 2 };
            for (name, data) in pair.into_iter().take(count) {
                bytes.extend(tar::file(name, data));
                if self.form.padded {
                    bytes.extend([0; 1024]);
                }
            }
            ends.push(bytes.len());
        }
        bytes.extend([0; 1024]);
        (bytes, ends)
    }
}

/// The text of a code, as openssl writes it.
pub fn mac_text(digest: Digest, data: &[u8]) -> Vec<u8> {
    let mut mac = Mac::new(digest, PASSPHRASE);
    mac.update(data);
    let mac = mac.finish();
    let hex = mac.bytes().iter().map(|byte| format!("{byte:02x}"));
    format!("(stdin)= {}\n", hex.collect::<String>()).into_bytes()
}
