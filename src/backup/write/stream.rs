//! The stream of one file of the backup: inner archive, compressed, encrypted.
//!
//! Lives here: the threads that make it, in the order of the stream. May not
//! live here: where the stream is cut and what becomes of it, when it starts.
//!
//! One thread reads and cuts blocks, workers compress them, one puts them in
//! order and encrypts. Nothing is ahead of the reader by more than a few
//! blocks: each waits for who comes next. Whoever drops the stream ends them
//! all.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::thread::{Builder, Scope};

use parking_lot::Mutex;
use zeroize::Zeroizing;

use super::error::WriteError;
use super::source::{Archiver, Facts};
use crate::format::cipher::{Cipher, Encryptor, SALT_BYTES};
use crate::format::compression::{
    self, Assembly, Block, BlockCompressor, BlockFacts, Cutter, Filter, Level,
};

/// What a stream is made from.
pub(super) enum Inner {
    /// Something on disk.
    Archive(Box<Archiver>),
    /// Bytes, and how many were taken.
    Memory(Vec<u8>, usize),
}

/// How it is made.
#[derive(Clone)]
pub(super) struct Making {
    pub(super) level: Level,
    pub(super) cipher: Option<Cipher>,
    pub(super) passphrase: Arc<Zeroizing<Vec<u8>>>,
    pub(super) workers: usize,
    /// Bytes of inner archives that were read, for whoever shows them.
    pub(super) read: Arc<AtomicU64>,
}

/// What comes of it, piece by piece; no piece is empty.
pub(super) enum Piece {
    /// More of the stream.
    Bytes(Vec<u8>),
    /// Its end: everything was read, well.
    End(Facts),
    /// It failed.
    Failed(WriteError),
}

/// The stream, for whoever takes it. Dropped, it ends all that make it.
pub(super) struct Stream {
    pub(super) pieces: Receiver<Piece>,
    wanted: Arc<()>,
}

/// A block that was compressed.
type Done = Result<(Vec<u8>, BlockFacts), compression::EncodeError>;
/// A block to compress, and whom to tell.
struct Job {
    block: Block,
    done: SyncSender<Done>,
    /// Gone with the stream.
    wanted: Weak<()>,
}

/// What comes to whoever puts the stream in order.
enum Next {
    /// Bytes that are not compressed.
    Plain(Vec<u8>),
    /// A block that a worker has.
    Block(Receiver<Done>),
    End(Facts),
    Failed(WriteError),
}

/// Bytes that are read at a time.
const READ_BYTES: usize = 512 * 1024;
/// Pieces that may wait.
const WAITING: usize = 2;

impl Inner {
    fn fill(&mut self, room: &mut [u8]) -> Result<usize, WriteError> {
        match self {
            Self::Archive(archiver) => Ok(archiver.fill(room)?),
            Self::Memory(bytes, taken) => {
                let left = bytes.get(*taken..).unwrap_or_default();
                let count = left.len().min(room.len());
                let (from, to) = (left.get(..count), room.get_mut(..count));
                if let (Some(from), Some(to)) = (from, to) {
                    to.copy_from_slice(from);
                }
                *taken += count;
                Ok(count)
            }
        }
    }

    /// What was read, if nothing has changed meanwhile.
    fn finish(self) -> Result<Facts, WriteError> {
        match self {
            Self::Archive(archiver) => Ok(archiver.finish()?),
            Self::Memory(bytes, _) => {
                Ok(Facts { read_bytes: bytes.len() as u64, ..Facts::default() })
            }
        }
    }
}

/// Starts the threads of one stream.
pub(super) fn start<'scope>(
    scope: &'scope Scope<'scope, '_>,
    inner: Inner,
    making: &Making,
    salt: [u8; SALT_BYTES],
) -> Result<Stream, WriteError> {
    let (pieces, taken) = sync_channel(WAITING);
    let stream = Stream { pieces: taken, wanted: Arc::new(()) };
    let wanted = Arc::downgrade(&stream.wanted);
    let waiting = if making.level.filter() == Filter::None {
        WAITING
    } else {
        making.workers + WAITING
    };
    let (ordered, order) = sync_channel(waiting);
    let jobs = if making.level.filter() == Filter::None {
        None
    } else {
        let (jobs, given) = sync_channel(making.workers);
        let given = Arc::new(Mutex::new(given));
        for _ in 0..making.workers {
            let (given, level) = (Arc::clone(&given), making.level);
            let worker = move || work(&given, level);
            spawn(scope, worker)?;
        }
        Some(jobs)
    };
    let (level, so_far) = (making.level, Arc::clone(&making.read));
    spawn(scope, move || {
        let jobs = jobs.as_ref().map(|jobs| (jobs, &wanted));
        read(inner, level, jobs, &ordered, &so_far);
    })?;
    let encryptor = making
        .cipher
        .map(|cipher| Encryptor::new(cipher, &making.passphrase, salt));
    spawn(scope, move || {
        let last = match arrange(&order, &pieces, level, encryptor) {
            Ok(Some(facts)) => Piece::End(facts),
            Ok(None) => return,
            Err(error) => Piece::Failed(error),
        };
        let _ = pieces.send(last);
    })?;
    Ok(stream)
}

fn spawn<'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() + Send + 'scope,
) -> Result<(), WriteError> {
    let spawned = Builder::new().spawn_scoped(scope, work);
    spawned.map(drop).map_err(WriteError::Thread)
}

/// Reads, and cuts blocks where they are compressed.
fn read(
    mut inner: Inner,
    level: Level,
    jobs: Option<(&SyncSender<Job>, &Weak<()>)>,
    ordered: &SyncSender<Next>,
    so_far: &AtomicU64,
) {
    let mut cutter = Cutter::new(level);
    let mut room = vec![0; READ_BYTES];
    let give = |block: Block| {
        let Some((jobs, wanted)) = jobs else { return false };
        let (done, receiver) = sync_channel(1);
        let job = Job { block, done, wanted: Weak::clone(wanted) };
        ordered.send(Next::Block(receiver)).is_ok() && jobs.send(job).is_ok()
    };
    loop {
        let count = match inner.fill(&mut room) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) => {
                let _ = ordered.send(Next::Failed(error));
                return;
            }
        };
        so_far.fetch_add(count as u64, Ordering::Relaxed);
        if jobs.is_none() {
            let mut piece = std::mem::replace(&mut room, vec![0; READ_BYTES]);
            piece.truncate(count);
            if ordered.send(Next::Plain(piece)).is_err() {
                return;
            }
            continue;
        }
        let mut bytes = room.get(..count).unwrap_or_default();
        while let Some(block) = cutter.push(&mut bytes) {
            if !give(block) {
                return;
            }
        }
    }
    if let Some(block) = cutter.finish()
        && !give(block)
    {
        return;
    }
    let last = inner.finish().map_or_else(Next::Failed, Next::End);
    let _ = ordered.send(last);
}

/// Compresses blocks until there are no more.
fn work(given: &Mutex<Receiver<Job>>, level: Level) {
    let (mut compressor, mut room) = (None, Vec::new());
    loop {
        // One waits with the lock, the others for it.
        let job = given.lock().recv();
        let Ok(job) = job else { return };
        let done = compress(&mut compressor, level, &job, &mut room);
        let _ = job.done.send(done);
    }
}

fn compress(
    compressor: &mut Option<BlockCompressor>,
    level: Level,
    job: &Job,
    room: &mut Vec<u8>,
) -> Done {
    let compressor = match compressor {
        Some(compressor) => compressor,
        None => compressor.insert(BlockCompressor::new(level)?),
    };
    room.clear();
    let (bytes, before) = (job.block.bytes(), job.block.before());
    let is_wanted = || job.wanted.strong_count() > 0;
    let facts = compressor.compress_while(bytes, before, room, &is_wanted)?;
    // A copy, since the room is as large as the block: a chunk that waits for
    // its length is made of many.
    Ok((room.as_slice().to_vec(), facts))
}

/// Puts blocks in order and encrypts. `None`: nobody wants more.
fn arrange(
    order: &Receiver<Next>,
    pieces: &SyncSender<Piece>,
    level: Level,
    mut encryptor: Option<Encryptor>,
) -> Result<Option<Facts>, WriteError> {
    let mut assembly = Assembly::new(level);
    let send = |bytes: Vec<u8>, encryptor: &mut Option<Encryptor>| {
        let bytes = match encryptor {
            None => bytes,
            Some(encryptor) => {
                let mut out = Vec::with_capacity(bytes.len() + 32);
                encryptor.update(&bytes, &mut out);
                out
            }
        };
        bytes.is_empty() || pieces.send(Piece::Bytes(bytes)).is_ok()
    };
    if !send(assembly.start().to_vec(), &mut encryptor) {
        return Ok(None);
    }
    loop {
        // Without a word whoever reads has ended: it was dropped.
        let bytes = match order.recv() {
            Err(_) => return Ok(None),
            Ok(Next::Failed(error)) => return Err(error),
            Ok(Next::Plain(bytes)) => bytes,
            Ok(Next::Block(done)) => {
                let Ok(done) = done.recv() else { return Ok(None) };
                let (bytes, facts) = done?;
                assembly.take(&facts);
                bytes
            }
            Ok(Next::End(facts)) => {
                if !send(assembly.end(), &mut encryptor) {
                    return Ok(None);
                }
                let mut last = Vec::new();
                if let Some(encryptor) = encryptor {
                    encryptor.finish(&mut last);
                }
                let sent =
                    last.is_empty() || pieces.send(Piece::Bytes(last)).is_ok();
                return Ok(sent.then_some(facts));
            }
        };
        if !send(bytes, &mut encryptor) {
            return Ok(None);
        }
    }
}
