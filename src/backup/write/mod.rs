//! Writes an archive: the driver of `fsm::backup`.
//!
//! Lives here: one arm per effect of the machine, names behind its numbers,
//! texts behind its causes. May not live here: any decision about what is
//! emitted when, or when the archive exists; the machine makes it.
//!
//! To a file, chunks are written as they come and hashed while the next ones
//! are: the file has no name yet, so nobody sees in which order. What is left
//! to be written of it, the codes, is written before it is synced. To a stream
//! one chunk is in memory, since its length stands in front of it.

mod emit;
mod error;
mod kernel;
pub mod report;
pub mod source;
mod stream;

use std::io::Write;
use std::ops::ControlFlow::{Break, Continue};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::RecvTimeoutError;
use std::thread::Scope;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use zeroize::Zeroizing;

use emit::{Emitter, Written};
pub use error::WriteError;
#[doc(hidden)]
pub use kernel::Faults;
use kernel::{Place, random};
use report::{Report, WrittenFile};
use source::{Contents, Facts, SourceFile};
use stream::{Inner, Making, Piece, Stream};

use super::read::CHUNK_BYTES_MAX;
use crate::format::chunk::{Chunk, HEADER_NAME, MAC_SUFFIX};
use crate::format::cipher::Cipher;
use crate::format::compression::{Filter, Level};
use crate::format::escape::Escaped;
use crate::format::header::Header;
use crate::format::hmac::{Digest, MacValue};
use crate::format::limits::FILES_MAX;
use crate::format::manifest::{
    BackupId, Entry, MANIFEST_NAME, Manifest, is_listable,
};
use crate::format::tar::{Mtime, NewEntry, NewKind, encode, end, padding};
use crate::fsm::backup::{
    At, Backup, Effect, End, Event, Failure, Over, Plan, Target, Variant,
};
use crate::fsm::cancel::Gate;

/// Bytes of a chunk, as every writer of format 3 cuts.
//= spec/format3.md#where-a-chunk-ends
pub const CHUNK_BYTES: u64 = 104_857_600;

/// Told often: bytes of inner archives that were read, and the file at hand.
pub type Progress<'o> = Box<dyn FnMut(u64, &[u8]) + 'o>;

/// How an archive is to be written.
pub struct Options<'o> {
    /// The passphrase.
    pub passphrase: Zeroizing<Vec<u8>>,
    /// Encrypt, with AES-256 in CBC mode.
    pub encrypt: bool,
    /// Compress like this.
    pub level: Level,
    /// Cut here; anything but [`CHUNK_BYTES`] is for tests.
    pub chunk_bytes: u64,
    /// Bind all members by a manifest.
    pub manifest: bool,
    /// Threads that compress.
    pub workers: usize,
    /// Who cancels sets it.
    pub gate: Arc<Mutex<Gate>>,
    /// Told often.
    pub progress: Progress<'o>,
    /// A call that fails on purpose, in tests.
    #[doc(hidden)]
    pub faults: Faults,
    /// Work as on a kernel without `O_TMPFILE` and `renameat2`; for tests.
    #[doc(hidden)]
    pub on_old_kernel: bool,
}

impl Options<'_> {
    /// Neither encrypted nor compressed, bound by a manifest, with a gate of
    /// its own, and silent.
    #[must_use]
    pub fn new(passphrase: Zeroizing<Vec<u8>>) -> Self {
        let workers = std::thread::available_parallelism();
        Self {
            passphrase,
            encrypt: false,
            level: Level::NONE,
            chunk_bytes: CHUNK_BYTES,
            manifest: true,
            workers: workers.map_or(1, usize::from),
            gate: Arc::default(),
            progress: Box::new(|_, _| {}),
            faults: Faults::default(),
            on_old_kernel: false,
        }
    }
}

/// Writes the archive to a new file, which gets its name when all of it is on
/// disk; never over an existing one.
///
/// # Errors
/// The first failure; nothing is under the name then, unless the error says
/// that only its durability is not known.
pub fn to_file(
    contents: &Contents,
    path: &Path,
    options: Options<'_>,
) -> Result<Report, WriteError> {
    let place = Place::open(path, options.faults.clone());
    let mut place = place.map_err(|cause| open_error(path, cause))?;
    if options.on_old_kernel {
        place.pretend_old();
    }
    place.sweep();
    run(contents, options, Target::File, |digest| Emitter::file(place, digest))
}

/// Writes the archive to a pipe or the like, in one pass.
///
/// A target whose `write` blocks keeps this function from returning.
///
/// # Errors
/// The first failure; what was written is then no archive that a strict
/// reader takes.
pub fn to_stream(
    contents: &Contents,
    target: impl Write,
    options: Options<'_>,
) -> Result<Report, WriteError> {
    run(contents, options, Target::Stream, |digest| {
        Emitter::stream(Box::new(target), digest)
    })
}

fn open_error(path: &Path, cause: std::io::Error) -> WriteError {
    let path = shown_path(path);
    if cause.kind() == std::io::ErrorKind::AlreadyExists {
        return WriteError::Exists { path };
    }
    WriteError::Target { path, call: "open", cause }
}

fn shown_path(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt as _;
    Escaped(path.as_os_str().as_bytes()).to_string()
}

const DIGEST: Digest = Digest::Sha512;
/// How often whoever waits for a piece looks whether it is canceled.
const TICK: Duration = Duration::from_millis(50);
/// Bytes that all compressors together may take: one of xz at its highest
/// level takes 13 times its block.
const COMPRESSORS_BYTES_MAX: usize = 1 << 30;
const COMPRESSOR_BLOCKS: usize = 13;

/// Threads that compress: as many as were asked for, and as there is memory
/// for.
fn workers(wanted: usize, level: Level) -> usize {
    let each = level.block_bytes().saturating_mul(COMPRESSOR_BLOCKS).max(1);
    wanted.min(COMPRESSORS_BYTES_MAX / each).max(1)
}

fn run<'t>(
    contents: &Contents,
    options: Options<'_>,
    target: Target,
    emitter: impl FnOnce(Digest) -> Emitter<'t>,
) -> Result<Report, WriteError> {
    let found = options.chunk_bytes;
    if found == 0 || found > CHUNK_BYTES_MAX {
        let (least, most) = (1, CHUNK_BYTES_MAX);
        return Err(WriteError::ChunkSize { found, least, most });
    }
    let unlisted = |file: &&SourceFile| !is_listable(&file.name);
    if options.manifest
        && let Some(file) = contents.files.iter().find(unlisted)
    {
        return Err(WriteError::Unlisted { name: file.name.clone() });
    }
    let files = contents.files.len() + usize::from(options.manifest);
    let limit = FILES_MAX;
    let Ok(count) = u16::try_from(files) else {
        return Err(WriteError::TooManyFiles { found: files, limit });
    };
    let promise = match options.manifest {
        true => Some(BackupId::new(random().map_err(WriteError::Random)?)),
        false => None,
    };
    let filter = options.level.filter();
    let filter = (filter != Filter::None).then(|| filter.to_string());
    let header = Header::new(
        DIGEST,
        Cipher::Aes256,
        options.encrypt,
        filter.as_deref(),
        promise,
    )?;
    let making = Making {
        level: options.level,
        cipher: options.encrypt.then_some(Cipher::Aes256),
        passphrase: Arc::new(options.passphrase.clone()),
        workers: workers(options.workers, options.level),
        read: Arc::default(),
    };
    let plan = Plan { files: count, target, variant: Variant::Right };
    std::thread::scope(|scope| {
        let mut writer = Writer {
            contents,
            options,
            header,
            making,
            scope,
            emitter: emitter(DIGEST),
            stream: None,
            rest: Vec::new(),
            ended: None,
            started: Instant::now(),
            chunk: Written::default(),
            failures: Vec::new(),
            report: Report { id: promise, ..Report::default() },
        };
        writer.run(plan)
    })
}

struct Writer<'s, 'e, 'o, 't> {
    contents: &'s Contents,
    options: Options<'o>,
    header: Header,
    making: Making,
    scope: &'s Scope<'s, 'e>,
    emitter: Emitter<'t>,
    /// The stream of the open file.
    stream: Option<Stream>,
    /// What of it was taken and does not fit the chunk.
    rest: Vec<u8>,
    /// It has ended, or failed.
    ended: Option<Result<Facts, WriteError>>,
    started: Instant,
    /// The chunk at hand.
    chunk: Written,
    failures: Vec<Option<WriteError>>,
    report: Report,
}

impl<'s> Writer<'s, '_, '_, '_> {
    fn run(&mut self, plan: Plan) -> Result<Report, WriteError> {
        let mut machine = Backup::new(plan);
        loop {
            let effect = match machine.effect() {
                Continue(effect) => effect,
                Break(over) => return self.over(over),
            };
            let event = if !effect.is_cleanup() && self.is_canceled() {
                Event::Canceled
            } else {
                match self.perform(effect) {
                    Ok(event) => event,
                    Err(WriteError::Canceled) if !effect.is_cleanup() => {
                        Event::Canceled
                    }
                    Err(error) => {
                        let number = self.failures.len() as u16;
                        self.failures.push(Some(error));
                        Event::Failed(Failure(number))
                    }
                }
            };
            machine = machine.step(event)?;
        }
    }

    fn is_canceled(&self) -> bool {
        self.options.gate.lock().is_canceled()
    }

    fn perform(&mut self, effect: Effect) -> Result<Event, WriteError> {
        match effect {
            Effect::Create => {
                let passphrase = &self.making.passphrase;
                self.emitter.create(self.scope, passphrase)?;
            }
            Effect::EmitHeader => {
                let bytes = self.header.to_bytes();
                self.emitter.small(HEADER_NAME, &bytes)?;
            }
            Effect::EmitHeaderMac => self.emitter.mac(HEADER_NAME)?,
            Effect::Open(file) => self.open(file)?,
            Effect::Fill(_) => {
                let more = self.fill()?;
                return Ok(Event::Filled { more });
            }
            Effect::Emit(at) => self.emit(at)?,
            Effect::Reap(file) => self.reap(file)?,
            Effect::EmitMac(at) => {
                let name = self.chunk_name(at)?;
                self.emitter.mac(&name)?;
            }
            Effect::Sync => self.emitter.sync()?,
            Effect::Decide => {
                if self.options.gate.lock().decide().is_err() {
                    return Ok(Event::Canceled);
                }
            }
            Effect::Rename => self.emitter.publish()?,
            Effect::SyncDir => self.emitter.sync_directory()?,
            Effect::Close => self.emitter.close()?,
            Effect::Stop => {
                // Whoever makes the stream ends when nobody takes it.
                self.stream = None;
                self.emitter.stop();
            }
            Effect::Remove => self.emitter.remove()?,
        }
        Ok(Event::Ok)
    }

    /// The name of a file; the manifest is the last.
    fn name(&self, file: u16) -> &[u8] {
        let file = self.contents.files.get(usize::from(file));
        file.map_or(MANIFEST_NAME, |file| &file.name)
    }

    fn chunk_name(&self, at: At) -> Result<Vec<u8>, WriteError> {
        Ok(Chunk::new(self.name(at.file), at.chunk)?.name())
    }

    fn is_manifest(&self, file: u16) -> bool {
        usize::from(file) >= self.contents.files.len()
    }

    fn open(&mut self, file: u16) -> Result<(), WriteError> {
        let inner = if self.is_manifest(file) {
            Inner::Memory(self.manifest()?, 0)
        } else {
            let archiver = self.contents.open(usize::from(file))?;
            Inner::Archive(Box::new(archiver))
        };
        let salt = random().map_err(WriteError::Random)?;
        let stream = stream::start(self.scope, inner, &self.making, salt)?;
        (self.stream, self.ended) = (Some(stream), None);
        self.rest.clear();
        self.report.files.push(WrittenFile {
            name: self.name(file).to_vec(),
            ..WrittenFile::default()
        });
        self.started = Instant::now();
        Ok(())
    }

    /// The inner archive of the manifest: all members are out by now.
    fn manifest(&mut self) -> Result<Vec<u8>, WriteError> {
        let mut manifest = Manifest::new(&self.header)?;
        for member in self.emitter.members()? {
            manifest.push(member)?;
        }
        let text = manifest.to_text(&self.options.passphrase)?;
        let entry = NewEntry {
            path: MANIFEST_NAME,
            kind: NewKind::File { size: text.len() as u64, map: None },
            mode: 0o600,
            uid: 0,
            gid: 0,
            mtime: Mtime::default(),
        };
        let mut archive = Vec::new();
        let data = encode(&entry, &mut archive)?;
        archive.extend(&text);
        archive.resize(archive.len() + padding(data), 0);
        end(archive.len() as u64, &mut archive);
        Ok(archive)
    }

    /// Takes a chunk from the stream; whether something follows.
    fn fill(&mut self) -> Result<bool, WriteError> {
        let limit = match self.report.files.last() {
            // Always one chunk, whatever the size of chunks.
            Some(file) if file.name == MANIFEST_NAME => CHUNK_BYTES_MAX,
            Some(_) | None => self.options.chunk_bytes,
        };
        self.emitter.begin_chunk(self.scope)?;
        let mut taken = 0;
        loop {
            if self.rest.is_empty() && !self.take()? {
                break;
            }
            let room = limit.saturating_sub(taken);
            if room == 0 {
                break;
            }
            let mut piece = std::mem::take(&mut self.rest);
            let room = usize::try_from(room).unwrap_or(usize::MAX);
            if piece.len() > room {
                self.rest = piece.split_off(room);
            }
            taken += piece.len() as u64;
            self.emitter.chunk(piece)?;
        }
        self.chunk = Written { bytes: taken };
        Ok(!self.rest.is_empty())
    }

    /// Takes the next piece; `false` at the end of the stream.
    fn take(&mut self) -> Result<bool, WriteError> {
        let Some(stream) = &self.stream else { return Ok(false) };
        let piece = loop {
            if self.is_canceled() {
                return Err(WriteError::Canceled);
            }
            // A block may take its time.
            match stream.pieces.recv_timeout(TICK) {
                Err(RecvTimeoutError::Timeout) => {}
                piece => break piece,
            }
        };
        match piece {
            Ok(Piece::Bytes(bytes)) => {
                self.rest = bytes;
                let name = self.report.files.last();
                let name = name.map_or(&b""[..], |file| &file.name);
                let read = self.making.read.load(Ordering::Relaxed);
                (self.options.progress)(read, name);
                Ok(true)
            }
            Ok(Piece::End(facts)) => {
                self.ended = Some(Ok(facts));
                self.stream = None;
                Ok(false)
            }
            // What it says is looked at when it is reaped: that is, too,
            // what keeps the last code back.
            Ok(Piece::Failed(error)) => {
                self.ended = Some(Err(error));
                self.stream = None;
                Ok(false)
            }
            // What is missing then is said when it is reaped.
            Err(_) => {
                self.stream = None;
                Ok(false)
            }
        }
    }

    fn emit(&mut self, at: At) -> Result<(), WriteError> {
        let name = self.chunk_name(at)?;
        self.emitter.emit(&name)?;
        if let Some(file) = self.report.files.last_mut() {
            file.chunks += 1;
            file.stored_bytes += self.chunk.bytes;
        }
        Ok(())
    }

    /// How did whatever made the stream end?
    fn reap(&mut self, _: u16) -> Result<(), WriteError> {
        let facts = match self.ended.take() {
            Some(ended) => ended?,
            None => return Err(WriteError::Silent),
        };
        if let Some(file) = self.report.files.last_mut() {
            file.real_bytes = facts.read_bytes;
            file.seconds = self.started.elapsed().as_secs_f64();
        }
        self.report.omissions.extend(facts.omissions);
        Ok(())
    }

    fn over(&mut self, over: Over) -> Result<Report, WriteError> {
        let mut report = std::mem::take(&mut self.report);
        report.archive_bytes = self.emitter.written();
        let known = self.contents.omissions.iter().cloned();
        report.omissions.splice(..0, known);
        let (cause, published) = match over.end {
            End::Done => return Ok(report),
            End::Canceled(_) => (WriteError::Canceled, false),
            End::Failed { cause, published } => {
                let failure = self.failures.get_mut(usize::from(cause.0));
                let cause = failure.and_then(Option::take);
                (cause.unwrap_or(WriteError::Silent), published)
            }
        };
        let note = if published {
            "the archive is whole and has its name, only whether it would \
             survive a power cut is not known"
                .to_owned()
        } else if over.left {
            // The last failure is that of the removal.
            let last = self.failures.last_mut().and_then(Option::take);
            last.map_or_else(String::new, |left| format!("left: {left}"))
        } else {
            return Err(cause);
        };
        Err(WriteError::Noted { cause: Box::new(cause), note })
    }
}

/// A member that was written, for the manifest.
fn entry(name: &[u8], size: u64, mac: &MacValue) -> Entry {
    Entry { mac: mac.bytes().to_vec(), size, name: name.to_vec() }
}

fn mac_name(name: &[u8]) -> Vec<u8> {
    [name, MAC_SUFFIX].concat()
}
