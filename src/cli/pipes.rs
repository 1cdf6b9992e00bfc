//! Pipes whose other end may never move: a source that stalls, a reader of
//! stdout that does not read.
//!
//! Lives here: a thread for each, so that a signal is noticed meanwhile. May
//! not live here: what is read or written.

use std::cell::Cell;
use std::fs::File;
use std::io::{Error, ErrorKind, Read, Result, Write, stdout};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::cancel::Canceled;
use super::exit::Failure;
use super::kernel::TICK;
use super::thread;
use crate::fsm::cancel::Gate;

/// A source that may block for ever: a thread reads it, so that a cancel is
/// noticed meanwhile.
pub(super) struct Piped {
    blocks: Receiver<Result<Vec<u8>>>,
    block: Vec<u8>,
    at: usize,
    gate: Arc<Mutex<Gate>>,
}

/// stdout, or what stands for it; a thread writes it.
pub(super) struct Output<'c> {
    name: String,
    blocks: SyncSender<Vec<u8>>,
    written: Receiver<Result<()>>,
    canceled: &'c Canceled,
    /// The thread hangs in a write, and nobody waits for it any more.
    is_stuck: Cell<bool>,
}

/// Bytes that go to a thread, or come from it, at once.
pub(super) const BLOCK_BYTES: usize = 256 * 1024;
/// What a reader of stdout gets after a signal before we leave it.
const PATIENCE: Duration = Duration::from_millis(500);

impl Piped {
    pub(super) fn new(
        mut source: impl Read + Send + 'static,
        name: &str,
        gate: Arc<Mutex<Gate>>,
    ) -> std::result::Result<Self, Failure> {
        let (sender, blocks) = sync_channel(4);
        thread::start(name, move || {
            loop {
                let mut block = vec![0; BLOCK_BYTES];
                let read = source.read(&mut block).map(|count| {
                    block.truncate(count);
                    block
                });
                let over = read.as_ref().map_or(true, Vec::is_empty);
                let interrupted = read
                    .as_ref()
                    .is_err_and(|e| e.kind() == ErrorKind::Interrupted);
                if interrupted {
                    continue;
                }
                if sender.send(read).is_err() || over {
                    return;
                }
            }
        })?;
        Ok(Self { blocks, block: Vec::new(), at: 0, gate })
    }
}

impl Read for Piped {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        while self.at >= self.block.len() {
            match self.blocks.recv_timeout(TICK) {
                Ok(block) => {
                    self.block = block?;
                    self.at = 0;
                    if self.block.is_empty() {
                        return Ok(0);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    // Nobody waits for what it reads ahead any more.
                    if !self.gate.lock().is_open() {
                        return Err(ErrorKind::Interrupted.into());
                    }
                }
                // It has said that it is over.
                Err(RecvTimeoutError::Disconnected) => return Ok(0),
            }
        }
        let left = self.block.get(self.at..).unwrap_or_default();
        let count = left.len().min(buffer.len());
        let (from, to) = (left.get(..count), buffer.get_mut(..count));
        if let (Some(from), Some(to)) = (from, to) {
            to.copy_from_slice(from);
        }
        self.at += count;
        Ok(count)
    }
}

impl<'c> Output<'c> {
    pub(super) fn new(
        canceled: &'c Canceled,
    ) -> std::result::Result<Self, Failure> {
        // Not through the buffer of `stdout`, which looks for lines.
        let out = stdout().as_fd().try_clone_to_owned();
        let out = out.map_err(|error| Failure::io("stdout", &error))?;
        Self::of(out.into(), "stdout", canceled)
    }

    /// Something else.
    pub(super) fn of(
        mut out: File,
        name: &str,
        canceled: &'c Canceled,
    ) -> std::result::Result<Self, Failure> {
        let (blocks, given) = sync_channel::<Vec<u8>>(1);
        let (answers, written) = sync_channel(1);
        thread::start(name, move || {
            for block in given {
                if answers.send(out.write_all(&block)).is_err() {
                    return;
                }
            }
        })?;
        let (name, is_stuck) = (name.to_owned(), Cell::new(false));
        Ok(Self { name, blocks, written, canceled, is_stuck })
    }

    /// Writes all of it. A reader that has gone, such as `head`, is no
    /// failure.
    pub(super) fn print(
        &self,
        data: &[u8],
    ) -> std::result::Result<(), Failure> {
        match { self }.write_all(data) {
            Err(error) if error.kind() == ErrorKind::TimedOut => {
                Err(self.canceled.failure(&self.name))
            }
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                Err(Failure::io(&self.name, &error))
            }
            _ => Ok(()),
        }
    }
}

impl Write for &Output<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        let gone = |_| Error::from(ErrorKind::BrokenPipe);
        if self.is_stuck.get() {
            return Err(ErrorKind::TimedOut.into());
        }
        let block = bytes.chunks(BLOCK_BYTES).next().unwrap_or_default();
        self.blocks.send(block.to_vec()).map_err(gone)?;
        let mut signal = None;
        loop {
            match self.written.recv_timeout(TICK) {
                Ok(written) => return written.map(|()| block.len()),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(ErrorKind::BrokenPipe.into());
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            if !self.canceled.has_signal() {
                continue;
            }
            if signal.get_or_insert_with(Instant::now).elapsed() >= PATIENCE {
                self.is_stuck.set(true);
                return Err(ErrorKind::TimedOut.into());
            }
        }
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}
