//! Calls that fail, and what is reported of them.
//!
//! Lives here: the numbers that any call may give, and which failures a
//! session must report. May not live here: what a failing call does to the
//! disk; [`Disk::fail`](super::disk::Disk::fail) does it.

use crate::fsm::call::{Effect, Errno};

/// What any call may fail with: no space, no quota, a broken disk, a signal,
/// no permission. No machine looks at the number, so these stand for all.
pub const ERRNOS: [Errno; 5] = [
    Errno::NO_SPACE,
    Errno::IO,
    Errno::INTERRUPTED,
    Errno::QUOTA,
    Errno::NO_ACCESS,
];

/// Whether a session that goes on after `effect` has failed still comes to a
/// good end: a close has closed all the same, and a leftover that stays harms
/// nobody.
pub fn is_harmless(effect: Effect) -> bool {
    match effect {
        Effect::Close(_) | Effect::Sweep => true,
        Effect::Open(..)
        | Effect::Lock(..)
        | Effect::TryLock(_)
        | Effect::StatFd(_)
        | Effect::StatName(_)
        | Effect::Read(_)
        | Effect::Create
        | Effect::Write(_)
        | Effect::Sync(_)
        | Effect::CompareStat
        | Effect::CompareContent(_)
        | Effect::Rename
        | Effect::SyncDirectory
        | Effect::Unlink => false,
    }
}
