//! The date of a backup, written into the store that it was made of.
//!
//! Lives here: the wait for the lock, load, save; that a failure is an
//! omission, since the archive is complete. May not live here: which qubes get
//! it (`backup::write::source`), the order of calls (`store`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::SystemTime;

use super::cancel::Canceled;
use super::exit::Failure;
use super::kernel::TICK;
use super::{Talk, thread};
use crate::backup::write::source::{Contents, dated};
use crate::store::document::{Document, Limits};
use crate::store::{Loaded, Locked, Store};

/// Tells the store that what is in `contents` was backed up now. What it could
/// not be told is returned, each a sentence.
pub(super) fn write(
    store: &Store,
    contents: &Contents,
    canceled: &Canceled,
    talk: Talk,
) -> Vec<String> {
    match save(store, contents, canceled, talk) {
        Ok(sentences) => sentences,
        Err(failure) => {
            let text = failure.text();
            vec![format!("the date of the backup, for the store: {text}")]
        }
    }
}

fn save(
    store: &Store,
    contents: &Contents,
    canceled: &Canceled,
    talk: Talk,
) -> Result<Vec<String>, Failure> {
    let limits = Limits::default();
    let backed_up = Document::parse(contents.document().to_vec(), &limits)?;
    talk.detail("waiting for the lock of the store");
    let loaded = load(store, canceled)?;
    let now = Document::parse(loaded.content().to_vec(), &limits)?;
    // Under the lock, so that no later backup has written an earlier one.
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let seconds = since.map_or(0, |since| since.as_secs());
    let (content, sentences) = dated(&now, &backed_up, seconds)?;
    if loaded.content() == content {
        loaded.verify()?;
        loaded.release();
    } else {
        loaded.save(content).map_err(|failed| failed.error)?.release();
        talk.detail("the store has the date of the backup, and is durable");
    }
    Ok(sentences)
}

/// Locks and loads; a signal ends the wait, although nothing can be canceled
/// any more.
fn load(store: &Store, canceled: &Canceled) -> Result<Loaded, Failure> {
    let given_up = Arc::new(AtomicBool::new(false));
    let mut store = store.clone();
    store.canceled = Some(Arc::clone(&given_up));
    let (sender, receiver) = sync_channel(1);
    thread::start("lock", move || {
        let _ = sender.send(store.lock().and_then(Locked::load));
    })?;
    loop {
        match receiver.recv_timeout(TICK) {
            Ok(loaded) => return Ok(loaded?),
            Err(RecvTimeoutError::Timeout) => {
                if canceled.has_signal() {
                    given_up.store(true, Ordering::SeqCst);
                }
            }
            // The thread has panicked.
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Failure::other("store", "no answer"));
            }
        }
    }
}
