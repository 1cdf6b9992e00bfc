//! One file of a backup, from authenticated chunks to what is inside.
//!
//! Lives here: decryption, decompression and the inner archive, one after the
//! other, and where the content goes. May not live here: anything about
//! authentication; every byte that comes here has passed it.

use std::io::Write;

use crate::format::cipher::{Cipher, CipherError, Decryptor};
use crate::format::compression::{
    CompressionError, Decompressor, Filter, PushError,
};
use crate::format::escape::Escaped;
use crate::format::limits::{DECODED_BYTES_MIN, DECODED_FACTOR};
use crate::format::tar::{
    self, Entry, Event, Kind, PathError, TarError, safe_components,
};

use super::complete::Top;
use super::filter::{self, ExternalFilter, Program, ProgramError, Running};
use super::tree::{Roll, Staged, StagedFile, Time, TreeError};

/// Why a file could not be decoded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Decryption.
    #[error(transparent)]
    Cipher(#[from] CipherError),
    /// The end of an encrypted stream is wrong, and nothing in it has come to
    /// its end before that: what is missing was cut off.
    #[error("{cause}, and an inner archive that ends: the stream is cut off")]
    CipherTruncated {
        /// How the end is wrong.
        cause: CipherError,
    },
    /// The same behind the end of the inner archive: a chunk with the last
    /// zeros and the padding is missing, or the end was changed. The bytes do
    /// not tell which.
    #[error("{cause}; perhaps a chunk is missing at its end")]
    CipherEnd {
        /// How the end is wrong.
        cause: CipherError,
    },
    /// Decompression.
    #[error(transparent)]
    Compression(#[from] CompressionError),
    /// Decompression by an outside program.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The inner archive.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// A path in the inner archive.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Writing what it holds.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A member that is not the file it should be, nor below it.
    #[error("member {found}; wanted {wanted} or something below it")]
    Outside {
        /// Its path, escaped.
        found: String,
        /// The file's name, escaped.
        wanted: String,
    },
    /// The file itself is of another kind than it must be.
    #[error("member {path}: {found}; wanted {wanted}")]
    Kind {
        /// Its path, escaped.
        path: String,
        /// What it is, targets escaped.
        found: String,
        /// What it must be.
        wanted: &'static str,
    },
    /// It is where another file is, or above or below it.
    #[error(
        "at, above or below {other}, which is another file of the archive; \
         wanted files that stand apart"
    )]
    Entangled {
        /// Where that one is, escaped.
        other: String,
    },
    /// The inner archive is empty.
    #[error("no member; wanted {wanted}")]
    Empty {
        /// The file's name, escaped.
        wanted: String,
    },
    /// Something else than one regular file, where one is read into memory.
    #[error("more than one member, or no regular file; wanted one file")]
    NotOneFile,
    /// More bytes than `qubes.xml` lets one expect.
    #[error(
        "more than {limit} bytes, which is {DECODED_FACTOR} times what \
         qubes.xml announces and {DECODED_BYTES_MIN} bytes; wanted at most so \
         many, or the option --no-decoded-limit"
    )]
    Unannounced {
        /// The limit.
        limit: u64,
    },
    /// What shall be printed is no file: a link, or a directory.
    #[error("member {path}: {found}; wanted a regular file")]
    NotAFile {
        /// Its path, escaped.
        path: String,
        /// What it is; of a link, where it leads.
        found: String,
    },
    /// More bytes than what is read into memory may have.
    #[error("more than {limit} bytes; wanted at most so many")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
    /// The output cannot take more.
    #[error("output: {0}")]
    Output(std::io::Error),
}

/// Where the content of a file goes.
pub(super) enum Sink<'o> {
    /// Nowhere: something else is looked for.
    Nothing,
    /// Nowhere: it is judged as if it were restored.
    Roll(Roll),
    /// Into memory.
    Memory(Memory),
    /// Below a directory, under temporary names.
    Tree(Box<Staged>, Option<StagedFile>),
    /// The file of that path to an output, holes as zeros.
    Output(OutputSink<'o>),
}

/// One small file, in memory.
#[derive(Default)]
pub(super) struct Memory {
    pub(super) content: Vec<u8>,
    /// Bytes that it may have.
    pub(super) limit: u64,
    pub(super) mode: u32,
    pub(super) time: Time,
    begun: bool,
}

impl Memory {
    pub(super) fn new(limit: u64) -> Self {
        Self { limit, ..Self::default() }
    }
}

/// One file of an inner archive, written to an output as it comes.
pub(super) struct OutputSink<'o> {
    /// Which: components of its path.
    pub(super) wanted: Vec<Vec<u8>>,
    pub(super) output: &'o mut dyn Write,
    /// The file that is being written: its size, and how far it is.
    open: Option<(u64, u64)>,
    pub(super) found: bool,
}

impl<'o> OutputSink<'o> {
    pub(super) fn new(wanted: Vec<Vec<u8>>, output: &'o mut dyn Write) -> Self {
        Self { wanted, output, open: None, found: false }
    }
}

/// What takes the compression off.
#[derive(Clone)]
pub(super) enum Unpack {
    /// What the first bytes ask for: there is no header to say it.
    Guess,
    BuiltIn(Filter),
    Outside(Program, Running),
}

/// What an inner archive is compressed with.
enum Layer {
    /// Known once the first bytes are seen: there was no header to say it.
    Unknown(Vec<u8>),
    Known(Box<Decompressor>),
    Outside(Box<ExternalFilter>),
}

/// One file being decoded.
pub(super) struct Decoding<'o> {
    decryptor: Option<Decryptor>,
    layer: Layer,
    plain: Vec<u8>,
    inner: Inner<'o>,
}

/// The inner archive, and what becomes of it.
struct Inner<'o> {
    tar: tar::Decoder,
    top: Vec<Vec<u8>>,
    /// What the member of that path may be.
    kind: Top,
    links: Links,
    sink: Sink<'o>,
    members: u64,
    /// Its end mark was there.
    ended: bool,
    decoded: u64,
    /// Bytes that it may have.
    limit: u64,
}

/// A file that came to its end.
pub(super) struct Decoded<'o> {
    pub(super) sink: Sink<'o>,
    /// Bytes of the inner archive.
    pub(super) bytes: u64,
    pub(super) links: Links,
}

/// Symbolic links that an old writer seems to have rewritten with the names.
#[derive(Default)]
pub(super) struct Links {
    /// What their targets begin with; empty: nothing is looked for.
    prefix: Vec<u8>,
    count: u64,
    /// Path and target of the first.
    first: Option<(Vec<u8>, Vec<u8>)>,
}

/// Bytes that are decrypted at a time.
const PIECE: usize = 64 * 1024;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

impl<'o> Decoding<'o> {
    /// Starts a file whose members are at `top` or below.
    pub(super) fn new(
        cipher: Option<Cipher>,
        unpack: Unpack,
        passphrase: &[u8],
        limits: tar::Limits,
        top: Vec<Vec<u8>>,
        sink: Sink<'o>,
    ) -> Result<Self, DecodeError> {
        let layer = match unpack {
            Unpack::Guess => Layer::Unknown(Vec::new()),
            Unpack::BuiltIn(filter) => {
                Layer::Known(Box::new(Decompressor::new(filter)?))
            }
            Unpack::Outside(program, running) => {
                let filter = ExternalFilter::start(&program, &running)?;
                Layer::Outside(Box::new(filter))
            }
        };
        let tar = tar::Decoder::inner(limits);
        let limit = u64::MAX;
        let inner = Inner {
            tar,
            top,
            kind: Top::Any,
            links: Links::default(),
            sink,
            members: 0,
            ended: false,
            decoded: 0,
            limit,
        };
        let decryptor = cipher.map(|cipher| Decryptor::new(cipher, passphrase));
        Ok(Self { decryptor, layer, plain: Vec::new(), inner })
    }

    /// From now on an inner archive of more bytes is refused.
    pub(super) fn limit(&mut self, bytes: u64) {
        self.inner.limit = bytes;
    }

    /// From now on a member of another kind is refused at the top.
    pub(super) fn expect(&mut self, kind: Top) {
        self.inner.kind = kind;
    }

    /// From now on symbolic links to what begins so are counted.
    pub(super) fn watch_links(&mut self, prefix: Vec<u8>) {
        self.inner.links.prefix = prefix;
    }

    /// Takes a chunk, all of it authenticated.
    pub(super) fn push(&mut self, chunk: &[u8]) -> Result<(), DecodeError> {
        for piece in chunk.chunks(PIECE) {
            match &mut self.decryptor {
                None => self.layer.push(piece, &mut self.inner)?,
                Some(decryptor) => {
                    self.plain.clear();
                    decryptor.update(piece, &mut self.plain)?;
                    self.layer.push(&self.plain, &mut self.inner)?;
                }
            }
        }
        Ok(())
    }

    /// Ends the file: every layer must have come to its end.
    pub(super) fn finish(mut self) -> Result<Decoded<'o>, DecodeError> {
        if let Some(decryptor) = self.decryptor {
            self.plain.clear();
            if let Err(cause) = decryptor.finish(&mut self.plain) {
                // A program may still hold back what came to it.
                let _ = self.layer.finish(&mut self.inner);
                return Err(wrong_end(cause, self.inner.ended));
            }
            self.layer.push(&self.plain, &mut self.inner)?;
        }
        self.layer.finish(&mut self.inner)?;
        self.inner.finish()
    }

    /// What was staged so far, to be removed.
    pub(super) fn into_sink(self) -> Sink<'o> {
        self.inner.sink
    }
}

/// What the wrong end of an encrypted stream says of the file.
fn wrong_end(cause: CipherError, ended: bool) -> DecodeError {
    match cause {
        CipherError::BadLength { .. } | CipherError::BadPadding { .. } => {
            if ended {
                DecodeError::CipherEnd { cause }
            } else {
                DecodeError::CipherTruncated { cause }
            }
        }
        CipherError::Unknown { .. }
        | CipherError::NotBuilt { .. }
        | CipherError::NoSalt { .. }
        | CipherError::Truncated { .. } => cause.into(),
    }
}

impl Layer {
    fn push(
        &mut self,
        piece: &[u8],
        inner: &mut Inner<'_>,
    ) -> Result<(), DecodeError> {
        if let Self::Unknown(head) = self {
            head.extend(piece);
            if head.len() < GZIP_MAGIC.len() {
                return Ok(());
            }
            // An inner archive cannot begin so: it begins with a path.
            let filter = if head.starts_with(&GZIP_MAGIC) {
                Filter::Gzip
            } else {
                Filter::None
            };
            let head = std::mem::take(head);
            *self = Self::Known(Box::new(Decompressor::new(filter)?));
            return self.push(&head, inner);
        }
        let sink = &mut |bytes: &[u8]| inner.push(bytes);
        match self {
            Self::Unknown(_) => Ok(()),
            Self::Known(decompressor) => {
                decompressor.push(piece, sink).map_err(|error| match error {
                    PushError::Stream(error) => error.into(),
                    PushError::Sink(error) => error,
                })
            }
            Self::Outside(filter) => Ok(filter.push(piece, sink)?),
        }
    }

    fn finish(self, inner: &mut Inner<'_>) -> Result<(), DecodeError> {
        match self {
            Self::Known(decompressor) => Ok(decompressor.finish()?),
            Self::Unknown(head) => inner.push(&head),
            Self::Outside(filter) => {
                Ok(filter.finish(&mut |bytes: &[u8]| inner.push(bytes))?)
            }
        }
    }
}

impl From<filter::PushError<Self>> for DecodeError {
    fn from(error: filter::PushError<Self>) -> Self {
        match error {
            filter::PushError::Program(error) => error.into(),
            filter::PushError::Sink(error) => error,
        }
    }
}

impl<'o> Inner<'o> {
    fn push(&mut self, untrusted_bytes: &[u8]) -> Result<(), DecodeError> {
        self.decoded =
            self.decoded.saturating_add(untrusted_bytes.len() as u64);
        let limit = self.limit;
        if self.decoded > limit {
            return Err(DecodeError::Unannounced { limit });
        }
        let mut rest = untrusted_bytes;
        loop {
            let (taken, event) = self.tar.push(rest)?;
            rest = rest.get(taken..).unwrap_or_default();
            match event {
                None => return Ok(()),
                Some(Event::Entry(entry)) => {
                    let path = components(&entry.path)?;
                    if !path.starts_with(&self.top) {
                        return Err(self.outside(&entry.path));
                    }
                    if path == self.top
                        && let Some(wanted) = self.kind.refuses(&entry.kind)
                    {
                        let path = joined(&path);
                        let found = found(&entry.kind);
                        return Err(DecodeError::Kind { path, found, wanted });
                    }
                    self.links.see(&entry);
                    self.members += 1;
                    self.sink.entry(&path, &entry)?;
                }
                Some(Event::Data { offset, bytes }) => {
                    self.sink.data(offset, bytes)?;
                }
                Some(Event::EndOfEntry) => self.sink.end_of_entry()?,
                Some(Event::EndOfArchive) => self.ended = true,
            }
        }
    }

    fn finish(self) -> Result<Decoded<'o>, DecodeError> {
        self.tar.finish()?;
        if self.members == 0 {
            return Err(DecodeError::Empty { wanted: joined(&self.top) });
        }
        let mut sink = self.sink;
        if let Sink::Tree(staged, _) = &mut sink {
            // Whatever can go wrong goes wrong before anything is decided.
            staged.complete()?;
        }
        if let Sink::Roll(roll) = &mut sink {
            roll.complete()?;
        }
        Ok(Decoded { sink, bytes: self.decoded, links: self.links })
    }

    //= spec/format3.md#inner-names-stay-within-the-file
    fn outside(&self, untrusted_path: &[u8]) -> DecodeError {
        let found = Escaped(untrusted_path).to_string();
        DecodeError::Outside { found, wanted: joined(&self.top) }
    }
}

impl Links {
    fn see(&mut self, entry: &Entry) {
        let Kind::Symlink { target } = &entry.kind else { return };
        if self.prefix.is_empty() || !target.starts_with(&self.prefix) {
            return;
        }
        self.count += 1;
        let seen = || (entry.path.clone(), target.clone());
        self.first.get_or_insert_with(seen);
    }

    /// What the report says of them, if there are any.
    pub(super) fn sentence(&self) -> Option<String> {
        let (path, target) = self.first.as_ref()?;
        let shown = Escaped;
        Some(format!(
            "symbolic links to {}...: {}, as old writers damaged them; they \
             are as stored, the first is {} -> {}",
            shown(&self.prefix),
            self.count,
            shown(path),
            shown(target)
        ))
    }
}

impl Sink<'_> {
    fn entry(
        &mut self,
        path: &[Vec<u8>],
        entry: &Entry,
    ) -> Result<(), DecodeError> {
        match self {
            Self::Memory(memory) => {
                if entry.kind != Kind::File || memory.begun {
                    return Err(DecodeError::NotOneFile);
                }
                memory.begun = true;
                memory.mode = u32::from(entry.mode);
                memory.time = time_of(entry);
                Ok(())
            }
            Self::Nothing => {
                // A link is judged even where it is not made.
                if let Kind::HardLink { target } = &entry.kind {
                    components(target)?;
                }
                Ok(())
            }
            Self::Roll(roll) => enroll(roll, path, entry),
            Self::Tree(staged, open) => stage(staged, open, path, entry),
            Self::Output(sink) => sink.entry(path, entry),
        }
    }

    fn data(&mut self, offset: u64, bytes: &[u8]) -> Result<(), DecodeError> {
        match self {
            Self::Nothing | Self::Roll(_) => Ok(()),
            Self::Memory(memory) => {
                let limit = memory.limit;
                let end = offset.saturating_add(bytes.len() as u64);
                if end > limit {
                    return Err(DecodeError::TooLarge { limit });
                }
                // `offset` is at most `limit`: a small number.
                memory.content.resize(offset as usize, 0);
                memory.content.extend(bytes);
                Ok(())
            }
            Self::Tree(_, Some(file)) => Ok(file.write_at(offset, bytes)?),
            // The decoder gives data inside of files only.
            Self::Tree(_, None) => Ok(()),
            Self::Output(sink) => sink.data(offset, bytes),
        }
    }

    fn end_of_entry(&mut self) -> Result<(), DecodeError> {
        match self {
            Self::Tree(_, file) => match file.take() {
                Some(file) => Ok(file.close()?),
                None => Ok(()),
            },
            Self::Output(sink) => sink.end_of_entry(),
            Self::Nothing | Self::Roll(_) | Self::Memory(_) => Ok(()),
        }
    }
}

impl OutputSink<'_> {
    fn entry(
        &mut self,
        path: &[Vec<u8>],
        entry: &Entry,
    ) -> Result<(), DecodeError> {
        if path != self.wanted {
            return Ok(());
        }
        let found = match &entry.kind {
            Kind::File => {
                self.found = true;
                self.open = Some((entry.size, 0));
                return Ok(());
            }
            Kind::Directory => "a directory".to_owned(),
            Kind::Symlink { target } => {
                format!("a symbolic link to {}", Escaped(target))
            }
            // Its content came with the target, and is gone by now.
            Kind::HardLink { target } => {
                let target = joined(&components(target)?);
                format!("a hard link to {target}, which has the content")
            }
        };
        Err(DecodeError::NotAFile { path: joined(path), found })
    }

    fn data(&mut self, offset: u64, bytes: &[u8]) -> Result<(), DecodeError> {
        let Some((size, at)) = self.open else { return Ok(()) };
        self.zeros(offset.saturating_sub(at))?;
        self.output.write_all(bytes).map_err(DecodeError::Output)?;
        let end = offset.saturating_add(bytes.len() as u64);
        self.open = Some((size, end));
        Ok(())
    }

    fn end_of_entry(&mut self) -> Result<(), DecodeError> {
        if let Some((size, at)) = self.open.take() {
            self.zeros(size.saturating_sub(at))?;
            // Here, while a cancel is still in time.
            self.output.flush().map_err(DecodeError::Output)?;
        }
        Ok(())
    }

    fn zeros(&mut self, mut count: u64) -> Result<(), DecodeError> {
        let zeros = [0; 4096];
        while count > 0 {
            let some = count.min(zeros.len() as u64);
            let piece = zeros.get(..some as usize).unwrap_or_default();
            self.output.write_all(piece).map_err(DecodeError::Output)?;
            count -= some;
        }
        Ok(())
    }
}

fn stage(
    staged: &mut Staged,
    open: &mut Option<StagedFile>,
    path: &[Vec<u8>],
    entry: &Entry,
) -> Result<(), DecodeError> {
    let time = time_of(entry);
    let mode = u32::from(entry.mode);
    match &entry.kind {
        Kind::File => {
            *open = Some(staged.file(path, entry.size, mode, time)?);
        }
        Kind::Directory => staged.directory(path, mode, time)?,
        Kind::Symlink { target } => staged.symlink(path, target, time)?,
        Kind::HardLink { target } => {
            staged.hard_link(path, &components(target)?)?;
        }
    }
    Ok(())
}

fn enroll(
    roll: &mut Roll,
    path: &[Vec<u8>],
    entry: &Entry,
) -> Result<(), DecodeError> {
    let time = time_of(entry);
    match &entry.kind {
        Kind::File => drop(roll.file(path, time)?),
        Kind::Directory => drop(roll.directory(path, time)?),
        Kind::Symlink { target } => drop(roll.symlink(path, target, time)?),
        Kind::HardLink { target } => {
            drop(roll.hard_link(path, &components(target)?)?);
        }
    }
    Ok(())
}

/// A kind of member, in words.
fn found(kind: &Kind) -> String {
    let to = Escaped;
    match kind {
        Kind::File => "a regular file".to_owned(),
        Kind::Directory => "a directory".to_owned(),
        Kind::Symlink { target } => {
            format!("a symbolic link to {}", to(target))
        }
        Kind::HardLink { target } => format!("a hard link to {}", to(target)),
    }
}

fn time_of(entry: &Entry) -> Time {
    let tar::Mtime { seconds, nanoseconds } = entry.mtime;
    Time { seconds, nanoseconds }
}

fn components(untrusted_path: &[u8]) -> Result<Vec<Vec<u8>>, PathError> {
    let components = safe_components(untrusted_path)?;
    Ok(components.into_iter().map(<[u8]>::to_vec).collect())
}

fn joined(path: &[Vec<u8>]) -> String {
    Escaped(&path.join(&b'/')).to_string()
}
