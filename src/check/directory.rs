//! Directories that real processes work in.
//!
//! Lives here: making one, and removing all of them, also when the process is
//! told to end. May not live here: what is in them.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// A directory that goes with its owner, or with [`clean_up`].
pub(crate) struct TempDirectory(PathBuf);

/// Those that exist, for a process that is told to end.
static DIRECTORIES: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn directories() -> std::sync::MutexGuard<'static, Vec<PathBuf>> {
    DIRECTORIES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes those of replays and kits that are under way; call it before ending
/// the process early.
pub fn clean_up() {
    for directory in directories().drain(..) {
        let _ = std::fs::remove_dir_all(directory);
    }
}

impl TempDirectory {
    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn new() -> std::io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        use std::sync::atomic::{AtomicU64, Ordering};
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let mut builder = std::fs::DirBuilder::new();
        builder.mode(0o700);
        loop {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let name =
                format!("qubes-fsm-replay-{}-{count}", std::process::id());
            let path = std::env::temp_dir().join(name);
            match builder.create(&path) {
                Err(error)
                    if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                created => {
                    created?;
                    directories().push(path.clone());
                    return Ok(Self(path));
                }
            }
        }
    }
}

impl Drop for TempDirectory {
    fn drop(&mut self) {
        directories().retain(|path| *path != self.0);
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
