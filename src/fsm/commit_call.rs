//! The words of `fsm::commit`: effects, their answers, plans, ends.
//!
//! Lives here: what the driver is asked for and what it may answer. May not
//! live here: any transition; that is in the machine. Qubes are numbers, in
//! the order of the plan: names and folders stay with the driver.

pub use super::restore_call::Failure;

/// What is to be put into the store.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Plan {
    /// Qubes, at least one; those that a qube needs are among them.
    pub qubes: u16,
    /// [`Variant::Right`], outside of tests.
    pub variant: Variant,
}

/// What the driver is to do.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Effect {
    /// Take the store's lock, and load the store.
    Lock,
    /// If a note is left over: sync the store, so that it is judged by what
    /// stays; then remove each folder that the note names, by its identity,
    /// and the store does not.
    Settle,
    /// Remove the stages whose lock nobody holds.
    Sweep,
    /// Remove the note, durably; there may be none.
    Forget,
    /// Give the store's lock back.
    Unlock,
    /// Restore into a folder of our own on the same file system, and hold its
    /// lock from now on.
    Stage,
    /// Wait until contents and folders of the stage are on disk.
    SyncFiles,
    /// Are names, numbers and folders free in the store that was loaded?
    Check,
    /// Write and sync a note: which restore this is, and which folders, by
    /// identity, get which names.
    Note,
    /// Rename this qube's folder; never over one that exists.
    Move(u16),
    /// Wait until the new names are on disk.
    SyncDirs,
    /// Ask the gate (`fsm::cancel`).
    Decide,
    /// Save the store with these qubes more, the last one excluded.
    Save {
        /// The first.
        from: u16,
        /// The one behind the last.
        to: u16,
    },
    /// Remove, durably, what was moved.
    Undo,
    /// Remove the stage, and its lock with it.
    Clear,
}

/// The answer to the last effect: the only way in for news from outside.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Event {
    /// It is done.
    Ok,
    /// To `Settle`: the note is of this very restore, and the store has all.
    Whole,
    /// To `Check`: somebody has one of the names.
    Taken,
    /// To `Save`: the store has them, and a power cut may still take them.
    Unsure(Failure),
    /// It failed, and left things as they were.
    Failed(Failure),
    /// A cancel was accepted before.
    Canceled,
}

/// How it ended.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum End {
    /// All qubes are in the store, with their folders.
    Done,
    /// Somebody has one of the names; nothing is in the store.
    Conflict,
    /// It failed.
    Failed {
        /// The first failure.
        cause: Failure,
        /// All is in the store all the same, and only whether it would
        /// survive a power cut is not known. The next run will see.
        saved: bool,
    },
    /// It was canceled; and what had been seen to fail by then.
    Canceled(Option<Failure>),
}

/// The end, and what it left.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Over {
    /// The end.
    pub end: End,
    /// A note, a stage or a folder is left, or may be: the next run removes
    /// it, and the report says so.
    pub owed: bool,
}

/// Errors that were made once, or could be; tests show that each is found.
/// All but [`Right`](Self::Right) must never be shipped.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Variant {
    /// The table.
    #[default]
    Right,
    /// The store has the qubes before their files are there (client 02bc30a).
    EntryFirst,
    /// The save comes before the moves.
    SavedFirst,
    /// One save for each qube.
    OnePerQube,
    /// A cancel saves what is there (core-admin f4194c9d, 2014).
    CancelSaves,
    /// There is no note.
    Unnoted,
    /// The note is removed before the save.
    ForgetsEarly,
    /// The note is removed although nothing could be undone.
    ForgetsOwed,
    /// A cancel undoes nothing.
    NotUndone,
    /// The gate is not asked before the save.
    Undecided,
    /// What was left is swept without the store's lock.
    SweptUnlocked,
    /// Contents are not synced.
    FilesUnsynced,
    /// New names are not synced.
    DirsUnsynced,
    /// The store's lock is given back before the save.
    UnlockedEarly,
    /// Names are looked at before the lock is there.
    CheckedEarly,
    /// Names are not looked at.
    Unchecked,
}

impl Effect {
    /// Whether this is clean-up, or comes after the decision: it is performed
    /// although a cancel was accepted, and never answered `Canceled`.
    pub fn is_cleanup(self) -> bool {
        match self {
            Self::Settle
            | Self::Sweep
            | Self::Forget
            | Self::Unlock
            | Self::Save { .. }
            | Self::Undo
            | Self::Clear => true,
            Self::Lock
            | Self::Stage
            | Self::SyncFiles
            | Self::Check
            | Self::Note
            | Self::Move(_)
            | Self::SyncDirs
            | Self::Decide => false,
        }
    }

    /// Whether it can fail: a lock goes with its descriptor in any case, and
    /// the gate only answers.
    pub fn can_fail(self) -> bool {
        !matches!(self, Self::Unlock | Self::Decide)
    }

    /// Whether `event` can be the answer.
    pub fn allows(self, event: Event) -> bool {
        match event {
            Event::Ok => true,
            Event::Whole => self == Self::Settle,
            Event::Taken => self == Self::Check,
            Event::Unsure(_) => matches!(self, Self::Save { .. }),
            Event::Failed(_) => self.can_fail(),
            Event::Canceled => !self.is_cleanup(),
        }
    }
}
