//! Threads of the command.
//!
//! Lives here: how one is started, and that there may be none to start. May
//! not live here: what it does.

use std::thread::Builder;

use super::exit::Failure;

/// Starts a thread for `subject`. The system may give none: that is an error
/// like any other.
pub(super) fn start(
    subject: &str,
    work: impl FnOnce() + Send + 'static,
) -> Result<(), Failure> {
    let failed = |error| {
        let subject = format!("{subject}: start a thread");
        Failure::io(&subject, &error)
    };
    Builder::new().spawn(work).map(drop).map_err(failed)
}
