//! The words of `fsm::backup`: effects, their answers, plans, ends, causes.
//!
//! Lives here: what the driver is asked for and what it may answer. May not
//! live here: any transition; that is in the machine. Files are numbers, in
//! the order of the plan: names and bytes stay with the driver.

pub use super::restore_call::{At, Failure};

/// Where the archive goes.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Target {
    /// A temporary file, which is renamed when it is whole and durable.
    #[default]
    File,
    /// A pipe or the like: what was written cannot be taken back.
    Stream,
}

/// What is to be written.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Plan {
    /// Files, at least one: `qubes.xml` first, the manifest last.
    pub files: u16,
    /// Where to.
    pub target: Target,
    /// [`Variant::Right`], outside of tests.
    pub variant: Variant,
}

/// What the driver is to do.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Effect {
    /// Create a temporary file beside the target, or take the stream.
    Create,
    /// Write `backup-header`.
    EmitHeader,
    /// Write `backup-header.hmac`.
    EmitHeaderMac,
    /// Start the inner stream of this file: archiver, compressor, cipher.
    Open(u16),
    /// Take so many bytes of it as a chunk may have, at most; then look one
    /// byte ahead.
    Fill(At),
    /// Write this chunk.
    Emit(At),
    /// Wait for everything that made this file's stream; did it end well?
    Reap(u16),
    /// Write the mac of this chunk.
    EmitMac(At),
    /// Wait until the temporary file is on disk.
    Sync,
    /// Ask the gate (`fsm::cancel`).
    Decide,
    /// Rename the temporary file; never over one that exists.
    Rename,
    /// Wait until the name is on disk.
    SyncDir,
    /// Close the stream, wait for its receiver's verdict.
    Close,
    /// End and reap every child and thread.
    Stop,
    /// Remove the temporary file.
    Remove,
}

/// The answer to the last effect: the only way in for news from outside.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Event {
    /// It is done.
    Ok,
    /// A chunk is there.
    Filled {
        /// At least one byte of the file follows it.
        more: bool,
    },
    /// It failed, or a limit was passed.
    Failed(Failure),
    /// A cancel was accepted before.
    Canceled,
}

/// How it ended.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum End {
    /// The archive is whole, under its name and durable; or its receiver
    /// took it.
    Done,
    /// It failed.
    Failed {
        /// The first failure.
        cause: Failure,
        /// The archive is whole and under its name all the same, and only
        /// whether it would survive a power cut is not known.
        published: bool,
    },
    /// It was canceled; and what had been seen to fail by then.
    Canceled(Option<Failure>),
}

/// The end, and what it left.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Over {
    /// The end.
    pub end: End,
    /// The temporary file could not be removed: the report names it.
    pub left: bool,
}

/// Errors that were made once, or could be; tests show that each is found.
/// All but [`Right`](Self::Right) must never be shipped.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Variant {
    /// The table.
    #[default]
    Right,
    /// At the end of a file's stream nobody looks how what made it ended
    /// (core-admin 0cd8281a, 2014).
    ExitIgnored,
    /// That is looked at after the mac was written.
    ReapedLate,
    /// The gate decides after the last mac.
    DecidesLate,
    /// The gate is not asked.
    Undecided,
    /// The gate is asked after the archive has its name (2014).
    DecidesPublished,
    /// The temporary file is not synced.
    Unsynced,
    /// It is synced after the rename.
    RenamedFirst,
    /// The directory is not synced.
    DirUnsynced,
    /// A failure of the clean-up takes the place of the cause.
    CauseReplaced,
    /// Children and threads are not ended.
    StopSkipped,
    /// The temporary file is not removed.
    RemoveSkipped,
    /// What could not be removed is not said.
    LeftUnsaid,
    /// The mac is written before its chunk.
    MacFirst,
}

impl Effect {
    /// Whether this is clean-up, or comes after the decision: it is performed
    /// although a cancel was accepted, and never answered `Canceled`.
    ///
    /// The last mac and the close of a stream come after the decision too; no
    /// cancel is accepted then, so nothing need be known of them here.
    pub fn is_cleanup(self) -> bool {
        matches!(self, Self::Rename | Self::SyncDir | Self::Stop | Self::Remove)
    }

    /// Whether `event` can be the answer.
    pub fn allows(self, event: Event) -> bool {
        match event {
            Event::Ok => !matches!(self, Self::Fill(_)),
            Event::Filled { .. } => matches!(self, Self::Fill(_)),
            Event::Failed(_) => self != Self::Decide,
            Event::Canceled => !self.is_cleanup(),
        }
    }
}
