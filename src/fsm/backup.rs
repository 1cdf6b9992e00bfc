//! Writing a backup: what is emitted when, and when the archive exists.
//!
//! Lives here: every transition of `backup`, with the names of the phases in
//! spec terms; its words are in `fsm::backup_call`. May not live here:
//! threads, descriptors, codecs, names, bytes.
//!
//! Three rules are all of it. The mac of a file's last chunk is withheld until
//! whatever made the file's stream has ended well: an archiver pads a file
//! that it cannot read on, and nothing else would notice. A file gets its name
//! when it is whole and on disk. A stream has no rename: its point of no
//! return is the last mac, so the gate decides before that. Source: core-admin
//! `backup.py` (`backup_do`, `handle_streams`; 0cd8281a, 1ad5f9b8), whose
//! errors are the variants.

use core::ops::ControlFlow::{self, Break, Continue};

pub use super::backup_call::{
    At, Effect, End, Event, Failure, Over, Plan, Target, Variant,
};
use super::refused::Refused;

/// Writes one archive; the plan never changes on the way.
///
/// ```
/// use core::ops::ControlFlow::Continue;
/// use qubes_fsm::fsm::backup::{
///     Backup, Effect, Event, Plan, Target, Variant,
/// };
///
/// let (target, variant) = (Target::File, Variant::Right);
/// let mut backup = Backup::new(Plan { files: 1, target, variant });
/// for effect in [Effect::Create, Effect::EmitHeader, Effect::EmitHeaderMac] {
///     assert_eq!(backup.effect(), Continue(effect));
///     backup = backup.step(Event::Ok).unwrap();
/// }
/// // Nobody may say that a chunk is there: its file is not even open.
/// assert!(backup.step(Event::Filled { more: false }).is_err());
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Backup {
    /// What is to be written.
    pub plan: Plan,
    /// Where we are.
    pub state: State,
}

/// What we wait for.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum State {
    /// The temporary file, or the stream.
    Creating,
    /// The header.
    Header,
    /// Its mac.
    HeaderMac,
    /// The inner stream of a file.
    Opening(u16),
    /// Its next chunk.
    Filling(At),
    /// The writing of that chunk.
    Sending(At, Next),
    /// The end of whatever made the stream.
    Reaping(At, Next),
    /// The writing of the chunk's mac.
    Macing(At, Next),
    /// The temporary file on disk.
    Syncing,
    /// The gate's word.
    Deciding(Then),
    /// The name.
    Renaming,
    /// The name on disk.
    SyncingDir,
    /// The receiver's verdict.
    Closing,
    /// The end of children and threads.
    Stopping(End),
    /// The removal of the temporary file.
    Removing(End),
    /// Nothing.
    Over(Over),
}

/// What follows a chunk.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Next {
    /// Another chunk of its file.
    Chunk,
    /// Another file.
    File,
    /// The end of the archive.
    Nothing,
}

/// What is to be done if no cancel came first.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Then {
    /// The archive gets its name.
    Publish,
    /// The last mac goes into the stream.
    LastMac(At),
    /// It fails.
    Fail(Failure),
    /// A mutant: it is done.
    Done,
}

impl Backup {
    /// Starts with nothing there.
    pub fn new(plan: Plan) -> Self {
        Self { plan, state: State::Creating }
    }

    /// What to do next, or the end.
    pub fn effect(self) -> ControlFlow<Over, Effect> {
        Continue(match self.state {
            State::Creating => Effect::Create,
            State::Header => Effect::EmitHeader,
            State::HeaderMac => Effect::EmitHeaderMac,
            State::Opening(file) => Effect::Open(file),
            State::Filling(at) => Effect::Fill(at),
            State::Sending(at, _) if self.is(Variant::MacFirst) => {
                Effect::EmitMac(at)
            }
            State::Sending(at, _) => Effect::Emit(at),
            State::Reaping(at, _) => Effect::Reap(at.file),
            State::Macing(at, _) if self.is(Variant::MacFirst) => {
                Effect::Emit(at)
            }
            State::Macing(at, _) => Effect::EmitMac(at),
            State::Syncing => Effect::Sync,
            State::Deciding(_) => Effect::Decide,
            State::Renaming => Effect::Rename,
            State::SyncingDir => Effect::SyncDir,
            State::Closing => Effect::Close,
            State::Stopping(_) => Effect::Stop,
            State::Removing(_) => Effect::Remove,
            State::Over(over) => return Break(over),
        })
    }

    /// Every transition there is; the last arm refuses the rest.
    ///
    /// # Errors
    /// The event is no answer to the effect: a bug of the driver.
    pub fn step(self, event: Event) -> Result<Self, Refused> {
        let state = match (self.state, event) {
            (State::Creating, Event::Ok) => State::Header,
            (State::Header, Event::Ok) => State::HeaderMac,
            (State::HeaderMac, Event::Ok) => State::Opening(0),
            (State::Opening(file), Event::Ok) => {
                State::Filling(At { file, chunk: 0 })
            }
            (State::Filling(at), Event::Filled { more }) => {
                State::Sending(at, self.next(at, more))
            }
            (State::Sending(at, next), Event::Ok) => self.sent(at, next),
            (State::Reaping(at, next), Event::Ok) => self.reaped(at, next),
            (State::Reaping(at, next), Event::Failed(_))
                if self.is(Variant::ExitIgnored) =>
            {
                self.reaped(at, next)
            }
            (State::Macing(at, next), Event::Ok) => self.maced(at, next),
            (State::Syncing, Event::Ok) => self.synced(),

            (State::Deciding(Then::Publish), Event::Ok) => State::Renaming,
            (State::Deciding(Then::LastMac(at)), Event::Ok) => {
                State::Macing(at, Next::Nothing)
            }
            (State::Deciding(Then::Fail(cause)), Event::Ok) => {
                self.stop(failed(cause))
            }
            (State::Deciding(Then::Done), Event::Ok) => over(End::Done),
            (State::Renaming, Event::Ok) => self.renamed(),
            (State::SyncingDir, Event::Ok) => self.durable(),
            (State::Closing, Event::Ok) => over(End::Done),

            // Clean-up goes on whatever happens; the cause stays.
            (State::Stopping(end), Event::Ok | Event::Failed(_)) => {
                self.remove(self.replaced(end, event))
            }
            (State::Removing(end), Event::Ok) => over(end),
            (State::Removing(end), Event::Failed(_)) => {
                let left = !self.is(Variant::LeftUnsaid);
                State::Over(Over { end: self.replaced(end, event), left })
            }

            // After the decision: a cancel comes too late here.
            (State::Renaming, Event::Failed(cause)) => self.stop(failed(cause)),
            (State::SyncingDir, Event::Failed(cause)) => {
                self.stop(End::Failed { cause, published: true })
            }
            (
                State::Creating
                | State::Header
                | State::HeaderMac
                | State::Opening(_)
                | State::Filling(_)
                | State::Sending(..)
                | State::Reaping(..)
                | State::Macing(..)
                | State::Syncing
                | State::Closing,
                Event::Failed(cause),
            ) => State::Deciding(Then::Fail(cause)),
            (State::Deciding(Then::Fail(cause)), Event::Canceled) => {
                self.stop(End::Canceled(Some(cause)))
            }
            (
                State::Creating
                | State::Header
                | State::HeaderMac
                | State::Opening(_)
                | State::Filling(_)
                | State::Sending(..)
                | State::Reaping(..)
                | State::Macing(..)
                | State::Syncing
                | State::Deciding(_)
                | State::Closing,
                Event::Canceled,
            ) => self.stop(End::Canceled(None)),
            (state, event) => return Err(Refused::new(state, event)),
        };
        Ok(Self { state, ..self })
    }

    fn is(self, variant: Variant) -> bool {
        self.plan.variant == variant
    }

    fn is_stream(self) -> bool {
        self.plan.target == Target::Stream
    }

    fn next(self, at: At, more: bool) -> Next {
        let file = at.file.saturating_add(1);
        match more {
            true => Next::Chunk,
            false if file < self.plan.files => Next::File,
            false => Next::Nothing,
        }
    }

    fn sent(self, at: At, next: Next) -> State {
        match next {
            Next::Chunk => State::Macing(at, next),
            Next::File | Next::Nothing if self.is(Variant::ReapedLate) => {
                self.ended(at, next)
            }
            Next::File | Next::Nothing => State::Reaping(at, next),
        }
    }

    fn reaped(self, at: At, next: Next) -> State {
        if self.is(Variant::ReapedLate) {
            self.left(at, next)
        } else {
            self.ended(at, next)
        }
    }

    /// What made the stream has ended well: its last mac may be written.
    fn ended(self, at: At, next: Next) -> State {
        let undecided =
            self.is(Variant::DecidesLate) || self.is(Variant::Undecided);
        if self.is_stream() && next == Next::Nothing && !undecided {
            State::Deciding(Then::LastMac(at))
        } else {
            State::Macing(at, next)
        }
    }

    fn maced(self, at: At, next: Next) -> State {
        let last = matches!(next, Next::File | Next::Nothing);
        if last && self.is(Variant::ReapedLate) {
            return State::Reaping(at, next);
        }
        self.left(at, next)
    }

    /// The chunk and its mac are out.
    fn left(self, at: At, next: Next) -> State {
        let chunk = at.chunk.saturating_add(1);
        match next {
            Next::Chunk => State::Filling(At { chunk, ..at }),
            Next::File => State::Opening(at.file.saturating_add(1)),
            Next::Nothing if !self.is_stream() => self.whole(),
            Next::Nothing if self.is(Variant::DecidesLate) => {
                State::Deciding(Then::Done)
            }
            Next::Nothing => State::Closing,
        }
    }

    /// The file is whole; it has no name yet.
    fn whole(self) -> State {
        if self.is(Variant::Unsynced) || self.is(Variant::RenamedFirst) {
            self.synced()
        } else {
            State::Syncing
        }
    }

    fn synced(self) -> State {
        if self.is(Variant::RenamedFirst)
            && matches!(self.state, State::Syncing)
        {
            return State::SyncingDir;
        }
        if self.is(Variant::Undecided) || self.is(Variant::DecidesPublished) {
            State::Renaming
        } else {
            State::Deciding(Then::Publish)
        }
    }

    fn renamed(self) -> State {
        if self.is(Variant::RenamedFirst) {
            State::Syncing
        } else if self.is(Variant::DirUnsynced) {
            self.durable()
        } else {
            State::SyncingDir
        }
    }

    fn durable(self) -> State {
        if self.is(Variant::DecidesPublished) {
            State::Deciding(Then::Done)
        } else {
            over(End::Done)
        }
    }

    fn stop(self, end: End) -> State {
        if self.is(Variant::StopSkipped) {
            self.remove(end)
        } else {
            State::Stopping(end)
        }
    }

    /// There is a temporary file, unless it has its name by now.
    fn remove(self, end: End) -> State {
        let published = matches!(end, End::Failed { published: true, .. });
        if self.is_stream() || published || self.is(Variant::RemoveSkipped) {
            over(end)
        } else {
            State::Removing(end)
        }
    }

    /// The end that stays after a failure of the clean-up: the same.
    fn replaced(self, end: End, event: Event) -> End {
        match event {
            Event::Failed(cause) if self.is(Variant::CauseReplaced) => {
                failed(cause)
            }
            Event::Ok
            | Event::Filled { .. }
            | Event::Failed(_)
            | Event::Canceled => end,
        }
    }
}

fn failed(cause: Failure) -> End {
    End::Failed { cause, published: false }
}

fn over(end: End) -> State {
    State::Over(Over { end, left: false })
}
