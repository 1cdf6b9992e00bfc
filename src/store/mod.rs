//! One `qubes.xml`, used by several processes and threads at a time.
//!
//! Lives here: what a caller is promised, as types. [`Store::lock`] gives
//! [`Locked`], [`Locked::load`] gives [`Loaded`], [`Loaded::save`] gives
//! [`Durable`]; each takes the one before it, so that a save without lock and
//! load, or after the release, does not compile. Between them run the
//! machines of `fsm`, on the kernel of [`kernel`]. May not live here: the
//! order of calls, and the calls.
//!
//! ```
//! use qubes_fsm::store::Store;
//!
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("qubes.xml");
//! # std::fs::write(&path, "<qubes/>")?;
//! let store = Store::open(&path)?;
//! let loaded = store.lock()?.load()?;
//! let mut content = loaded.content().to_vec();
//! content.extend(b"<!-- seen -->");
//! let durable = loaded.save(content)?;
//! durable.release();
//!
//! let snapshot = store.read()?;
//! assert!(snapshot.content().ends_with(b"<!-- seen -->"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod error;
pub mod kernel;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

pub use crate::format::{document, kernelopts};
pub use error::StoreError;

use crate::fsm::call::{Effect, Event, Fd, Name};
use crate::fsm::lock::Acquire;
use crate::fsm::protocol::SHIPPED;
use crate::fsm::save::{Outcome, Save};
use crate::fsm::{Access, Perform as _, run};
pub use kernel::Observer;
use kernel::{Kernel, Wait};

/// Bytes of a store that are read at most: a hundred times a large one.
pub const BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Where a store is, and how to wait for it. Cheap to clone; threads and
/// processes may each have one.
#[derive(Clone, Debug)]
pub struct Store {
    directory: PathBuf,
    name: OsString,
    /// Bytes that are read at most.
    pub bytes_max: u64,
    /// How long to wait for the lock; `None`: for ever.
    pub wait_max: Option<Duration>,
    /// Set it, from a signal or another thread, to give up waiting.
    pub canceled: Option<Arc<AtomicBool>>,
    /// Hears of every call and its answer; each lock, and each read, is a
    /// session of its own. `check::validate` can say whether what it heard is
    /// a run of the protocol.
    pub observer: Option<Observer>,
}

/// The lock, alone: nobody else loads or saves until it is released.
#[must_use = "dropping it gives the lock back"]
#[derive(Debug)]
pub struct Locked {
    kernel: Kernel,
    fd: Fd,
}

/// The lock, and the content that the store has for as long as it is held.
#[must_use = "dropping it gives the lock back"]
#[derive(Debug)]
pub struct Loaded {
    locked: Locked,
    content: Vec<u8>,
}

/// The new content has the store's name and survives a power cut; the lock is
/// still held.
#[must_use = "dropping it gives the lock back"]
#[derive(Debug)]
pub struct Durable(Loaded);

/// Content that was read under a shared lock: the newest at that time.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Snapshot(Vec<u8>);

/// Content that was read without a lock: complete, since a save renames, but
/// perhaps being replaced while it was read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Unlocked(Vec<u8>);

/// A save that failed. The store is as it was, unless the error is
/// [`StoreError::NotDurable`]; the lock is still held, to load again.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Failed {
    /// Why.
    pub error: StoreError,
    /// The lock, where it is still held.
    pub locked: Option<Box<Locked>>,
}

impl Store {
    /// The store at `path`, which must exist. A symbolic link is followed now
    /// and never again, so that a save does not replace the link.
    ///
    /// # Errors
    /// `NotFound`, or `Call` for what `realpath` refuses.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let full = path
            .canonicalize()
            .map_err(|error| StoreError::from_io(path, "realpath", &error))?;
        let (Some(directory), Some(name)) = (full.parent(), full.file_name())
        else {
            let path = path.to_owned();
            return Err(StoreError::NotAFile { path, found: "a directory" });
        };
        Ok(Self {
            directory: directory.to_owned(),
            name: name.to_owned(),
            bytes_max: BYTES_MAX,
            wait_max: None,
            canceled: None,
            observer: None,
        })
    }

    /// The store's path, without symbolic links.
    pub fn path(&self) -> PathBuf {
        self.directory.join(&self.name)
    }

    /// Waits for the lock and takes it, alone.
    ///
    /// # Errors
    /// `Locked` when the wait is over, `Canceled`, `NotFound`, `NotAFile`,
    /// `Call`.
    pub fn lock(&self) -> Result<Locked, StoreError> {
        self.acquire(Access::Write)
    }

    /// Reads under a shared lock: waits for a writer, not for readers.
    ///
    /// # Errors
    /// As [`lock`](Self::lock), and `TooLarge`.
    pub fn read(&self) -> Result<Snapshot, StoreError> {
        //= spec/lock.md#readers-share
        let loaded = self.acquire(Access::Read)?.load()?;
        Ok(Snapshot(loaded.release()))
    }

    /// Reads without waiting for anybody.
    ///
    /// # Errors
    /// `NotFound`, `NotAFile`, `TooLarge`, `Call`.
    pub fn read_unlocked(&self) -> Result<Unlocked, StoreError> {
        let kernel = self.kernel()?;
        let opening = Effect::Open(Name::Store, Access::Read);
        let Event::Opened(fd) = kernel.perform(opening) else {
            return Err(self.error(&kernel));
        };
        let loaded = Locked { kernel, fd }.load()?;
        Ok(Unlocked(loaded.release()))
    }

    fn acquire(&self, access: Access) -> Result<Locked, StoreError> {
        let kernel = self.kernel()?;
        let acquire = match access {
            Access::Read => Acquire::shared(SHIPPED),
            Access::Write => Acquire::exclusive(SHIPPED),
        };
        match run(acquire, &kernel)? {
            Ok(fd) => Ok(Locked { kernel, fd }),
            Err(_) => Err(self.error(&kernel)),
        }
    }

    fn kernel(&self) -> Result<Kernel, StoreError> {
        let wait = Wait {
            deadline: self.wait_max.map(|wait| Instant::now() + wait),
            canceled: self.canceled.clone(),
        };
        let kernel =
            Kernel::new(&self.directory, &self.name, self.bytes_max, wait)
                .map_err(|errno| {
                    StoreError::call(&self.directory, "open", errno)
                })?;
        Ok(match &self.observer {
            Some(observer) => kernel.observed(observer.clone()),
            None => kernel,
        })
    }

    fn error(&self, kernel: &Kernel) -> StoreError {
        StoreError::of(kernel, self.bytes_max)
    }
}

impl Locked {
    /// Reads the store.
    ///
    /// # Errors
    /// `TooLarge`, `Call`. The lock is gone then.
    pub fn load(self) -> Result<Loaded, StoreError> {
        if self.kernel.perform(Effect::Read(self.fd)) != Event::Read {
            let bytes_max = self.kernel.bytes_max();
            let error = StoreError::of(&self.kernel, bytes_max);
            self.release();
            return Err(error);
        }
        let content = self.kernel.content();
        Ok(Loaded { locked: self, content })
    }

    /// Gives the lock back.
    pub fn release(self) {
        self.kernel.perform(Effect::Close(self.fd));
    }
}

impl Loaded {
    /// What the store holds.
    pub fn content(&self) -> &[u8] {
        &self.content
    }

    /// Refuses if somebody who does not follow the protocol changed the store
    /// since it was loaded. [`save`](Self::save) does so by itself.
    ///
    /// # Errors
    /// `Changed`, `TooLarge`, `Call`.
    pub fn verify(&self) -> Result<(), StoreError> {
        let Locked { kernel, fd } = &self.locked;
        for effect in [Effect::CompareContent(*fd), Effect::CompareStat] {
            if kernel.perform(effect) != Event::Same {
                return Err(StoreError::of(kernel, kernel.bytes_max()));
            }
        }
        Ok(())
    }

    /// Replaces the store's content, and makes it durable.
    ///
    /// # Errors
    /// `Changed` when somebody who does not follow the protocol changed the
    /// store meanwhile, `NoSpace`, `Call`; then the store is as it was.
    /// `NotDurable`: the new content is there, and a power cut may take it.
    pub fn save(self, content: Vec<u8>) -> Result<Durable, Failed> {
        let Locked { kernel, fd } = self.locked;
        let bytes_max = kernel.bytes_max();
        if content.len() as u64 > bytes_max {
            let error = StoreError::TooLarge {
                path: kernel.path().to_owned(),
                bytes: content.len() as u64,
                bytes_max,
            };
            let locked = Some(Box::new(Locked { kernel, fd }));
            return Err(Failed { error, locked });
        }
        kernel.set_content(content);
        let outcome = match run(Save::new(SHIPPED, fd), &kernel) {
            Ok(outcome) => outcome,
            Err(bug) => {
                return Err(Failed { error: bug.into(), locked: None });
            }
        };
        let error = |kernel: &Kernel| StoreError::of(kernel, bytes_max);
        match outcome {
            Outcome::Saved(Some(fd)) => {
                let content = kernel.content();
                let locked = Locked { kernel, fd };
                Ok(Durable(Loaded { locked, content }))
            }
            Outcome::NotDurable(held, _) => {
                let cause = Box::new(error(&kernel));
                let path = kernel.path().to_owned();
                let error = StoreError::NotDurable { path, cause };
                let locked = held.map(|fd| Box::new(Locked { kernel, fd }));
                Err(Failed { error, locked })
            }
            Outcome::Refused(fd, _) => {
                let error = error(&kernel);
                let locked = Some(Box::new(Locked { kernel, fd }));
                Err(Failed { error, locked })
            }
            // The shipped protocol keeps a descriptor.
            Outcome::Saved(None) => {
                let error = error(&kernel);
                Err(Failed { error, locked: None })
            }
        }
    }

    /// Gives the lock back, and with it the right to save.
    pub fn release(self) -> Vec<u8> {
        self.locked.release();
        self.content
    }
}

impl Durable {
    /// Goes on from here, still holding the lock: for another save.
    pub fn again(self) -> Loaded {
        self.0
    }

    /// Gives the lock back.
    pub fn release(self) {
        self.0.locked.release();
    }
}

impl Snapshot {
    /// What the store held.
    pub fn content(&self) -> &[u8] {
        &self.0
    }

    /// The same, owned.
    pub fn into_content(self) -> Vec<u8> {
        self.0
    }
}

impl Unlocked {
    /// What the store held.
    pub fn content(&self) -> &[u8] {
        &self.0
    }

    /// The same, owned.
    pub fn into_content(self) -> Vec<u8> {
        self.0
    }
}

impl From<Failed> for StoreError {
    fn from(failed: Failed) -> Self {
        failed.error
    }
}
