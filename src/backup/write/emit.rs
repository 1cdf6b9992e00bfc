//! Members as they go out: to a file, or to a stream.
//!
//! Lives here: where a member stands, who hashes it, when its code is there.
//! May not live here: the order of members (`fsm::backup`), system calls.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, Scope};

use parking_lot::Mutex;
use zeroize::Zeroizing;

use super::error::WriteError;
use super::kernel::{ArchiveReader, NewArchive, Place};
use super::{entry, mac_name, open_error, shown_path};
use crate::format::hmac::{Digest, Mac, MacText, MacValue};
use crate::format::manifest::Entry;
use crate::format::tar::{end_size, outer_header, padding};

/// The chunk at hand.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Written {
    pub(super) bytes: u64,
}

/// Where members go.
pub(super) struct Emitter<'t> {
    digest: Digest,
    /// Bytes of the archive, as far as its members go.
    at: u64,
    /// Members without their codes.
    members: Vec<Member>,
    /// Bytes of the chunk at hand.
    chunk: u64,
    to: To<'t>,
}

enum To<'t> {
    File(ToFile),
    Stream(ToStream<'t>),
}

struct ToFile {
    place: Place,
    archive: Option<NewArchive>,
    pool: Option<Pool>,
    /// Up to here the disk was asked to write.
    asked: u64,
}

struct ToStream<'t> {
    target: Box<dyn Write + 't>,
    passphrase: Arc<Zeroizing<Vec<u8>>>,
    /// The chunk in memory.
    held: Vec<Arc<Vec<u8>>>,
    hasher: Option<Hasher>,
}

/// A thread that hashes the chunk in memory.
struct Hasher {
    pieces: SyncSender<Arc<Vec<u8>>>,
    value: Receiver<MacValue>,
}

/// A member that is out.
struct Member {
    name: Vec<u8>,
    size: u64,
    mac: Option<MacValue>,
    /// Where the text of its code goes, in a file.
    mac_at: u64,
}

/// Threads that hash what stands in the file.
struct Pool {
    jobs: SyncSender<Job>,
    done: Receiver<(usize, std::io::Result<MacValue>)>,
    waiting: usize,
    passphrase: Arc<Zeroizing<Vec<u8>>>,
}

/// A member of that number, and where its data is.
struct Job {
    member: usize,
    at: u64,
    size: u64,
}

const BLOCK: u64 = 512;
const HASHERS: usize = 2;
/// Chunks that may wait to be hashed: the page cache still has them then.
const AHEAD: usize = 4;
const READ_BYTES: usize = 256 * 1024;
/// Bytes after which the disk is asked to begin writing.
const ASK_BYTES: u64 = 8 << 20;
/// Pieces of a stream that may wait to be hashed.
const PIECES: usize = 4;

impl<'t> Emitter<'t> {
    pub(super) fn file(place: Place, digest: Digest) -> Self {
        let to = ToFile { place, archive: None, pool: None, asked: 0 };
        Self::new(digest, To::File(to))
    }

    pub(super) fn stream(target: Box<dyn Write + 't>, digest: Digest) -> Self {
        let passphrase = Arc::default();
        let (held, hasher) = (Vec::new(), None);
        let to = ToStream { target, passphrase, held, hasher };
        Self::new(digest, To::Stream(to))
    }

    fn new(digest: Digest, to: To<'t>) -> Self {
        Self { digest, at: 0, members: Vec::new(), chunk: 0, to }
    }

    pub(super) fn create<'s>(
        &mut self,
        scope: &'s Scope<'s, '_>,
        passphrase: &Arc<Zeroizing<Vec<u8>>>,
    ) -> Result<(), WriteError> {
        match &mut self.to {
            To::File(to) => {
                let archive = to.place.create();
                let archive = archive
                    .map_err(|e| failed(to.place.path(), "create", e))?;
                let pool =
                    Pool::start(scope, &archive, passphrase, self.digest);
                to.archive = Some(archive);
                to.pool = Some(pool?);
            }
            To::Stream(to) => to.passphrase = Arc::clone(passphrase),
        }
        Ok(())
    }

    /// A member that is small.
    pub(super) fn small(
        &mut self,
        name: &[u8],
        bytes: &[u8],
    ) -> Result<(), WriteError> {
        let none = Arc::default();
        let passphrase = match &self.to {
            To::File(to) => to.pool.as_ref().map_or(&none, |p| &p.passphrase),
            To::Stream(to) => &to.passphrase,
        };
        let mut mac = Mac::new(self.digest, passphrase);
        mac.update(bytes);
        let value = mac.finish();
        self.put(name, bytes)?;
        let (name, size) = (name.to_vec(), bytes.len() as u64);
        self.members.push(Member { name, size, mac: Some(value), mac_at: 0 });
        Ok(())
    }

    /// Header, data and padding, at the end of what is out.
    fn put(&mut self, name: &[u8], bytes: &[u8]) -> Result<(), WriteError> {
        let size = bytes.len() as u64;
        let header = outer_header(name, size, 0)?;
        let padding = vec![0; padding(size)];
        let member = [&header[..], bytes, &padding].concat();
        self.write(&member)?;
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        match &mut self.to {
            To::File(to) => to.write_at(bytes, self.at)?,
            To::Stream(to) => to.write(bytes)?,
        }
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// A chunk begins.
    pub(super) fn begin_chunk<'s>(
        &mut self,
        scope: &'s Scope<'s, '_>,
    ) -> Result<(), WriteError> {
        self.chunk = 0;
        if let To::Stream(to) = &mut self.to {
            to.held.clear();
            let (pieces, given) = sync_channel::<Arc<Vec<u8>>>(PIECES);
            let (done, value) = sync_channel(1);
            let (digest, passphrase) =
                (self.digest, Arc::clone(&to.passphrase));
            spawn(scope, move || {
                let mut mac = Mac::new(digest, &passphrase);
                for piece in given {
                    mac.update(&piece);
                }
                let _ = done.send(mac.finish());
            })?;
            to.hasher = Some(Hasher { pieces, value });
        }
        Ok(())
    }

    /// More of the chunk.
    pub(super) fn chunk(&mut self, piece: Vec<u8>) -> Result<(), WriteError> {
        let at = self.at + BLOCK + self.chunk;
        self.chunk += piece.len() as u64;
        match &mut self.to {
            To::File(to) => to.write_at(&piece, at),
            To::Stream(to) => {
                let piece = Arc::new(piece);
                if let Some(hasher) = &to.hasher {
                    let _ = hasher.pieces.send(Arc::clone(&piece));
                }
                to.held.push(piece);
                Ok(())
            }
        }
    }

    /// The chunk is there: it becomes a member.
    pub(super) fn emit(&mut self, name: &[u8]) -> Result<(), WriteError> {
        let size = self.chunk;
        let header = outer_header(name, size, 0)?;
        let number = self.members.len();
        self.write(&header)?;
        let start = self.at;
        match &mut self.to {
            To::File(to) => {
                self.at += size;
                to.hash(Job { member: number, at: start, size })?;
            }
            To::Stream(to) => {
                for piece in std::mem::take(&mut to.held) {
                    to.write(&piece)?;
                }
                self.at += size;
            }
        }
        self.write(&vec![0; padding(size)])?;
        let (name, mac) = (name.to_vec(), None);
        self.members.push(Member { name, size, mac, mac_at: 0 });
        Ok(())
    }

    /// The code of the last member; in a file its text may follow later.
    pub(super) fn mac(&mut self, name: &[u8]) -> Result<(), WriteError> {
        let digest = self.digest;
        let Some(member) = self.members.last_mut() else { return Ok(()) };
        if let To::Stream(to) = &mut self.to
            && let Some(Hasher { pieces, value }) = to.hasher.take()
        {
            drop(pieces);
            let value = value.recv().map_err(|_| WriteError::Silent)?;
            member.mac = Some(value);
        }
        let text = match &member.mac {
            Some(value) => text_of(value),
            // As long as the text will be.
            None => vec![b' '; text_bytes(digest)],
        };
        member.mac_at = self.at + BLOCK;
        self.put(&mac_name(name), &text)
    }

    /// Members with their codes: waits for them.
    pub(super) fn members(&mut self) -> Result<Vec<Entry>, WriteError> {
        self.settle()?;
        let members = self.members.iter();
        let known = members.filter_map(|member| {
            let mac = member.mac.as_ref()?;
            Some(entry(&member.name, member.size, mac))
        });
        Ok(known.collect())
    }

    /// Waits for every hash.
    fn settle(&mut self) -> Result<(), WriteError> {
        let To::File(to) = &mut self.to else { return Ok(()) };
        while let Some((number, value)) = to.next_hash()? {
            if let Some(member) = self.members.get_mut(number) {
                member.mac = Some(value);
            }
        }
        Ok(())
    }

    /// What is not written yet of a file; then waits for the disk.
    pub(super) fn sync(&mut self) -> Result<(), WriteError> {
        self.settle()?;
        let To::File(to) = &mut self.to else { return Ok(()) };
        for member in &self.members {
            if let Some(value) = &member.mac {
                to.write_at(&text_of(value), member.mac_at)?;
            }
        }
        self.at += end_size(self.at) as u64;
        let Some(archive) = &to.archive else { return Ok(()) };
        let synced = archive.sync(self.at);
        synced.map_err(|e| failed(to.place.path(), "sync", e))
    }

    pub(super) fn publish(&mut self) -> Result<(), WriteError> {
        let To::File(ToFile { place, archive: Some(archive), .. }) = &self.to
        else {
            return Ok(());
        };
        let published = place.publish(archive);
        published.map_err(|cause| {
            if cause.kind() == std::io::ErrorKind::AlreadyExists {
                return open_error(place.path(), cause);
            }
            failed(place.path(), "publish", cause)
        })
    }

    pub(super) fn sync_directory(&mut self) -> Result<(), WriteError> {
        let To::File(to) = &self.to else { return Ok(()) };
        let synced = to.place.sync();
        synced.map_err(|e| failed(to.place.path(), "sync directory", e))
    }

    /// The end mark, for a stream.
    pub(super) fn close(&mut self) -> Result<(), WriteError> {
        self.write(&vec![0; end_size(self.at)])?;
        let To::Stream(to) = &mut self.to else { return Ok(()) };
        to.target.flush().map_err(stream_failed)
    }

    /// Threads end when nobody gives them more.
    pub(super) fn stop(&mut self) {
        match &mut self.to {
            To::File(to) => to.pool = None,
            To::Stream(to) => to.hasher = None,
        }
    }

    pub(super) fn remove(&mut self) -> Result<(), WriteError> {
        let To::File(to) = &mut self.to else { return Ok(()) };
        let Some(archive) = to.archive.take() else { return Ok(()) };
        let removed = to.place.remove(&archive);
        removed.map_err(|e| failed(&to.place.path_of(&archive), "remove", e))
    }

    pub(super) fn written(&self) -> u64 {
        self.at
    }
}

impl ToFile {
    fn write_at(&mut self, bytes: &[u8], at: u64) -> Result<(), WriteError> {
        let Some(archive) = &self.archive else { return Ok(()) };
        let written = archive.write_at(bytes, at);
        written.map_err(|e| failed(self.place.path(), "write", e))?;
        let end = at.saturating_add(bytes.len() as u64);
        let length = end.saturating_sub(self.asked);
        if length >= ASK_BYTES {
            // So that the wait at the end is short.
            archive.begin_writing(self.asked, length);
            self.asked = end;
        }
        Ok(())
    }

    /// Has a chunk hashed; waits if many are waiting.
    fn hash(&mut self, job: Job) -> Result<(), WriteError> {
        let Some(pool) = &mut self.pool else { return Ok(()) };
        pool.waiting += 1;
        // It fails only if all threads have ended, and then no value comes.
        let _ = pool.jobs.send(job);
        Ok(())
    }

    /// The next value there is; `None` if none is waited for.
    fn next_hash(&mut self) -> Result<Option<(usize, MacValue)>, WriteError> {
        let Some(pool) = &mut self.pool else { return Ok(None) };
        if pool.waiting == 0 {
            return Ok(None);
        }
        let hashed = pool.done.recv().map_err(|_| WriteError::Silent)?;
        let (member, value) = hashed;
        pool.waiting -= 1;
        let value = value.map_err(|e| failed(self.place.path(), "read", e))?;
        Ok(Some((member, value)))
    }
}

impl ToStream<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.target.write_all(bytes).map_err(stream_failed)
    }
}

impl Pool {
    fn start<'s>(
        scope: &'s Scope<'s, '_>,
        archive: &NewArchive,
        passphrase: &Arc<Zeroizing<Vec<u8>>>,
        digest: Digest,
    ) -> Result<Self, WriteError> {
        let (jobs, given) = sync_channel::<Job>(AHEAD);
        let given = Arc::new(Mutex::new(given));
        let (values, done) = std::sync::mpsc::channel();
        for _ in 0..HASHERS {
            let reader = archive.reader().map_err(WriteError::Thread)?;
            let (given, values) = (Arc::clone(&given), values.clone());
            let passphrase = Arc::clone(passphrase);
            spawn(scope, move || {
                loop {
                    // One waits with the lock, the other for it.
                    let job = given.lock().recv();
                    let Ok(job) = job else { return };
                    let value = hash(&reader, &job, digest, &passphrase);
                    if values.send((job.member, value)).is_err() {
                        return;
                    }
                }
            })?;
        }
        let passphrase = Arc::clone(passphrase);
        Ok(Self { jobs, done, waiting: 0, passphrase })
    }
}

/// The code of what stands in the file.
fn hash(
    reader: &ArchiveReader,
    job: &Job,
    digest: Digest,
    passphrase: &[u8],
) -> std::io::Result<MacValue> {
    let mut mac = Mac::new(digest, passphrase);
    let mut room = vec![0; READ_BYTES];
    let mut done = 0;
    while done < job.size {
        let left = job.size - done;
        let count = left.min(room.len() as u64) as usize;
        let piece = room.get_mut(..count).unwrap_or_default();
        reader.read_at(piece, job.at.saturating_add(done))?;
        mac.update(piece);
        done += count as u64;
    }
    Ok(mac.finish())
}

fn text_of(value: &MacValue) -> Vec<u8> {
    MacText::from(value).to_text()
}

/// Bytes of the text of a code.
fn text_bytes(digest: Digest) -> usize {
    text_of(&Mac::new(digest, b"").finish()).len()
}

fn failed(
    path: &Path,
    call: &'static str,
    cause: std::io::Error,
) -> WriteError {
    WriteError::Target { path: shown_path(path), call, cause }
}

fn stream_failed(cause: std::io::Error) -> WriteError {
    WriteError::Target { path: "output".to_owned(), call: "write", cause }
}

fn spawn<'s>(
    scope: &'s Scope<'s, '_>,
    work: impl FnOnce() + Send + 's,
) -> Result<(), WriteError> {
    let spawned = Builder::new().spawn_scoped(scope, work);
    spawned.map(drop).map_err(WriteError::Thread)
}
