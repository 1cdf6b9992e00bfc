//! Reading a backup: what may be decoded, what is complete, what is published.
//!
//! Lives here: every transition of `restore` and `verify`, with the names of
//! the phases in spec terms; its words are in `fsm::restore_call`. May not
//! live here: threads, descriptors, codecs, names, bytes, or whether hashes
//! run in parallel (`fsm::ahead`).
//!
//! One effect, one answer. `Canceled` is an answer to any effect that is no
//! clean-up. Every end but a cancel goes through [`State::Deciding`]: success
//! and failure alike, or a cancel that was accepted is reported as a failure.
//! Source: core-admin-client `restore.py` (`_verify_hmac`,
//! `_retrieve_backup_header`, `restore_do`; dba6798a, 02bc30a).

use core::ops::ControlFlow::{self, Break, Continue};

use super::refused::Refused;
pub use super::restore_call::{
    At, Cause, Effect, End, Event, Failure, Lead, Member, Plan, Variant,
};

/// Reads one archive; the plan never changes on the way.
///
/// ```
/// use core::ops::ControlFlow::Continue;
/// use qubes_fsm::fsm::restore::{Effect, Event, Member, Plan, Restore, Lead};
///
/// let first = Restore::new(Plan { digests: 3, ..Plan::default() });
/// let mac = first.step(Event::Named(Member::Header)).unwrap();
/// let guessing = mac.step(Event::Named(Member::HeaderMac)).unwrap();
/// let verify = Effect::VerifyLead(Lead::Header, 0);
/// assert_eq!(guessing.effect(), Continue(verify));
/// // Nobody may say that it was published: it is not even parsed.
/// assert!(guessing.step(Event::Published).is_err());
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Restore {
    /// What is wanted.
    pub plan: Plan,
    /// Where we are.
    pub state: State,
}

/// What is carried from chunk to chunk.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Ctx {
    /// Which of the fixed list of digests the archive was made with.
    pub digest: u8,
    /// The last chunk that was released, or passed over in a lost file.
    pub at: Option<At>,
    /// Files that were begun. Numbers are given in order of appearance: the
    /// next new file has this number.
    pub opened: u16,
    /// Files that were lost.
    pub lost: u16,
    /// Files that are complete under temporary names.
    pub ready: u16,
    /// The file of `at` is one of the lost.
    pub losing: bool,
    /// There was no header: `digest` was found by trying.
    pub headerless: bool,
}

/// What we wait for.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum State {
    /// The first member: the header, or the first chunk of `qubes.xml`.
    First,
    /// Its mac.
    FirstMac(Lead),
    /// The verdict on it, with this digest of the list.
    Guessing(Lead, u8),
    /// The parse of the header, authenticated with this digest.
    Parsing(u8),
    /// The next chunk.
    Data(Ctx),
    /// The mac of this chunk.
    Mac(Ctx, At),
    /// The verdict on it.
    Verifying(Ctx, At),
    /// The decoder takes it.
    Releasing(Ctx, At),
    /// The decoder's end of the file of `at`.
    Finishing(Ctx, Next),
    /// The file's rename into place.
    Publishing(Ctx, Next),
    /// The removal of what was written of a lost file.
    Dropping(Ctx, Next),
    /// The comparison with what `qubes.xml` announces.
    Counting(Ctx),
    /// The comparison of the manifest with all that was read.
    Binding(Ctx),
    /// The gate's word on this end; so many files are held.
    Deciding(End, u16),
    /// The rename of one held file, of so many.
    Renaming(End, u16, u16),
    /// The end of children, the removal of temporary files.
    Stopping(End),
    /// Nothing.
    Over(End),
}

/// What follows when a file is done with.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Next {
    /// The next member: the file is lost, and its other chunks are passed.
    Member,
    /// The file whose first chunk was read.
    File(At),
    /// The end of the archive.
    End,
}

impl Restore {
    /// Starts with the first member.
    pub fn new(plan: Plan) -> Self {
        Self { plan, state: State::First }
    }

    /// What to do next, or the end.
    pub fn effect(self) -> ControlFlow<End, Effect> {
        Continue(match self.state {
            State::First
            | State::FirstMac(_)
            | State::Data(_)
            | State::Mac(..) => Effect::Next,
            State::Guessing(lead, digest) => Effect::VerifyLead(lead, digest),
            State::Parsing(_) => Effect::Parse,
            State::Verifying(c, at) => Effect::Verify(at, c.digest),
            State::Releasing(c, at) => {
                let forgotten = self.is(Variant::DigestForgotten);
                let artificial = c.headerless && at == At::default();
                let digest = if forgotten { 0 } else { c.digest };
                Effect::Release(at, artificial.then_some(digest))
            }
            State::Finishing(c, _) => Effect::Finish(file(c)),
            State::Publishing(c, _) => Effect::Publish(file(c)),
            State::Dropping(c, _) => Effect::Drop(file(c)),
            State::Counting(c) => Effect::Count { lost: c.lost },
            State::Binding(_) => Effect::Bind,
            State::Deciding(..) => Effect::Decide,
            State::Renaming(_, next, _) => Effect::Rename(next),
            State::Stopping(_) => Effect::Stop,
            State::Over(end) => return Break(end),
        })
    }

    /// Every transition there is; the last arm refuses the rest.
    ///
    /// # Errors
    /// The event is no answer to the effect: a bug of the driver.
    pub fn step(self, event: Event) -> Result<Self, Refused> {
        let state = match (self.state, event) {
            (State::First, Event::Named(Member::Header)) => {
                State::FirstMac(Lead::Header)
            }
            //= spec/format3.md#without-a-header
            // A stripped header; what follows is Omitted at best.
            (State::First, Event::Named(Member::Chunk(at)))
                if at == At::default() =>
            {
                State::FirstMac(Lead::Chunk)
            }
            (State::FirstMac(lead), Event::Named(member))
                if member == lead.mac() =>
            {
                State::Guessing(lead, 0)
            }
            (State::First | State::FirstMac(_), Event::Ended) => {
                self.fail(Cause::Truncated)
            }
            (State::First | State::FirstMac(_), Event::Named(_)) => {
                self.fail(Cause::Sequence)
            }

            (State::Guessing(lead, digest), Event::Bad) => {
                let next = digest.saturating_add(1);
                if next < self.plan.digests {
                    State::Guessing(lead, next)
                } else {
                    self.fail(Cause::Passphrase)
                }
            }
            (State::Guessing(Lead::Header, d), Event::Good) => {
                State::Parsing(d)
            }
            (State::Guessing(Lead::Chunk, digest), Event::Good) => {
                let c = Ctx { opened: 1, headerless: true, ..ctx(digest) };
                State::Releasing(c, At::default())
            }
            (State::Parsing(digest), Event::Parsed(named))
                if named == digest =>
            {
                State::Data(ctx(digest))
            }
            (State::Parsing(_), Event::Parsed(_)) => self.fail(Cause::Header),

            (State::Data(c), Event::Named(Member::Chunk(at)))
                if self.follows(c, at) =>
            {
                self.chunk(c, at)
            }
            (State::Data(c), Event::Named(Member::Chunk(at)))
                if self.begins(c, at) =>
            {
                self.leave(c, Next::File(at))
            }
            (State::Data(_), Event::Named(_)) => self.fail(Cause::Sequence),
            (State::Data(c), Event::Ended) if c.at.is_none() => {
                self.fail(Cause::Truncated)
            }
            (State::Data(c), Event::Ended) => self.leave(c, Next::End),
            (State::Mac(c, at), Event::Named(member))
                if member == Member::Mac(at) || self.any_mac(member) =>
            {
                self.maced(c, at)
            }
            (State::Mac(c, at), Event::Ended) if self.does_without(c, at) => {
                self.leave(c, Next::End)
            }
            (State::Mac(..), Event::Named(_)) => self.fail(Cause::Sequence),
            (State::Mac(..), Event::Ended) => self.fail(Cause::Truncated),
            (State::Verifying(c, at), Event::Good) => self.verified(c, at),
            (State::Verifying(c, at), Event::Bad) => {
                self.lose(c, at, Cause::Mac(at), Next::Member)
            }
            (State::Releasing(c, at), Event::Released)
                if self.is(Variant::FeedsEarly) =>
            {
                State::Mac(c, at)
            }
            (State::Releasing(c, at), Event::Released) => {
                State::Data(Ctx { at: Some(at), ..c })
            }
            (State::Releasing(c, at), Event::Failed(failure)) => {
                self.lose(c, at, Cause::Failed(failure), Next::Member)
            }

            (State::Finishing(c, next), Event::Finished) => {
                self.finished(c, next)
            }
            (State::Finishing(c, next), Event::Failed(failure)) => {
                let at = c.at.unwrap_or_default();
                self.lose(c, at, Cause::Failed(failure), next)
            }
            (State::Publishing(c, next), Event::Published) => {
                if self.is(Variant::PublishesEarly) {
                    State::Finishing(c, next)
                } else {
                    self.go_on(c, next)
                }
            }
            // Clean-up: a failure leaves a name for the report, no more.
            (State::Dropping(c, next), Event::Dropped | Event::Failed(_)) => {
                self.go_on(c, next)
            }
            (State::Counting(c), Event::Whole) => self.whole(c),
            (State::Counting(_), Event::Missing) => self.fail(Cause::Missing),
            (State::Binding(c), Event::Good) => self.close(c),
            (State::Binding(_), Event::Bad) => self.fail(Cause::Binding),

            (State::Deciding(end, held), Event::Decided) => {
                if held > 0 && !matches!(end, End::Failed(_)) {
                    State::Renaming(end, 0, held)
                } else {
                    State::Stopping(end)
                }
            }
            (State::Renaming(end, next, held), Event::Renamed) => {
                let next = next.saturating_add(1);
                if next < held {
                    State::Renaming(end, next, held)
                } else if self.is(Variant::RenamesEarly) {
                    State::Deciding(end, 0)
                } else {
                    State::Stopping(end)
                }
            }
            // After the decision: a cancel comes too late here.
            (State::Renaming(..), Event::Failed(failure)) => {
                State::Stopping(End::Failed(Cause::Failed(failure)))
            }
            (State::Stopping(end), Event::Stopped | Event::Failed(_)) => {
                State::Over(end)
            }

            (State::Deciding(End::Failed(cause), _), Event::Canceled) => {
                State::Stopping(End::Canceled(Some(cause)))
            }
            (
                State::First
                | State::FirstMac(_)
                | State::Guessing(..)
                | State::Parsing(_)
                | State::Data(_)
                | State::Mac(..)
                | State::Verifying(..)
                | State::Releasing(..)
                | State::Finishing(..)
                | State::Publishing(..)
                | State::Counting(_)
                | State::Binding(_)
                | State::Deciding(..),
                Event::Canceled,
            ) => State::Stopping(End::Canceled(None)),
            (
                State::First
                | State::FirstMac(_)
                | State::Guessing(..)
                | State::Parsing(_)
                | State::Data(_)
                | State::Mac(..)
                | State::Verifying(..)
                | State::Publishing(..)
                | State::Counting(_)
                | State::Binding(_),
                Event::Failed(failure),
            ) => self.fail(Cause::Failed(failure)),
            (state, event) => return Err(Refused::new(state, event)),
        };
        Ok(Self { state, ..self })
    }

    fn is(self, variant: Variant) -> bool {
        self.plan.variant == variant
    }

    /// The next chunk of the file that is open.
    //= spec/format3.md#order-of-members
    fn follows(self, c: Ctx, at: At) -> bool {
        let Some(last) = c.at else { return false };
        let next = last.chunk.checked_add(1);
        let gaps = self.is(Variant::NumbersUnchecked);
        at.file == last.file && (gaps || Some(at.chunk) == next)
    }

    /// The first chunk of a file that was not opened before. `qubes.xml` has
    /// the number 0, so nothing can come before it.
    fn begins(self, c: Ctx, at: At) -> bool {
        at.chunk == 0 && (at.file == c.opened || self.comes_again(c, at))
    }

    /// Planted: a file that was there before is taken once more.
    fn comes_again(self, c: Ctx, at: At) -> bool {
        self.is(Variant::FilesTwice)
            && at.file < c.opened
            && c.at.is_some_and(|last| last.file != at.file)
    }

    /// Planted: a file whose last mac did not come is whole all the same.
    fn does_without(self, c: Ctx, at: At) -> bool {
        self.is(Variant::LastMacOptional)
            && c.at.is_some_and(|last| last.file == at.file)
    }

    fn any_mac(self, member: Member) -> bool {
        self.is(Variant::MacNameUnchecked) && matches!(member, Member::Mac(_))
    }

    fn chunk(self, c: Ctx, at: At) -> State {
        if self.is(Variant::FeedsEarly) {
            State::Releasing(c, at)
        } else {
            State::Mac(c, at)
        }
    }

    fn maced(self, c: Ctx, at: At) -> State {
        if c.losing {
            State::Data(Ctx { at: Some(at), ..c })
        } else {
            State::Verifying(c, at)
        }
    }

    fn verified(self, c: Ctx, at: At) -> State {
        if self.is(Variant::FeedsEarly) || self.macs_only() {
            State::Data(Ctx { at: Some(at), ..c })
        } else {
            State::Releasing(c, at)
        }
    }

    fn macs_only(self) -> bool {
        self.plan.verify && self.is(Variant::VerifiesMacsOnly)
    }

    /// The open file gets no further chunk: it must be finished first.
    fn leave(self, c: Ctx, next: Next) -> State {
        let unfinished = next == Next::End && self.is(Variant::LastUnfinished);
        if c.at.is_none() || c.losing || unfinished || self.macs_only() {
            self.go_on(c, next)
        } else if self.is(Variant::PublishesEarly) {
            State::Publishing(c, next)
        } else {
            State::Finishing(c, next)
        }
    }

    fn finished(self, c: Ctx, next: Next) -> State {
        if self.plan.verify || self.is(Variant::PublishesEarly) {
            self.go_on(c, next)
        } else if self.plan.hold {
            let ready = c.ready.saturating_add(1);
            self.go_on(Ctx { ready, ..c }, next)
        } else {
            State::Publishing(c, next)
        }
    }

    fn go_on(self, c: Ctx, next: Next) -> State {
        match next {
            Next::Member => State::Data(c),
            Next::File(at) => {
                let opened = c.opened.saturating_add(1);
                self.chunk(Ctx { opened, losing: false, ..c }, at)
            }
            Next::End if self.macs_only() => self.close(c),
            Next::End if self.is(Variant::NotCounted) => self.whole(c),
            Next::End => State::Counting(c),
        }
    }

    /// Without `keep_going`, and for `qubes.xml`, a lost file is a failure.
    fn lose(self, c: Ctx, at: At, cause: Cause, next: Next) -> State {
        if !self.plan.keep_going || at.file == 0 {
            return self.fail(cause);
        }
        let forgotten = self.is(Variant::LostForgotten);
        let lost = c.lost.saturating_add(u16::from(!forgotten));
        let c = Ctx { at: Some(at), lost, losing: true, ..c };
        State::Dropping(c, next)
    }

    //= spec/format3.md#nothing-unbound-gets-its-name
    fn whole(self, c: Ctx) -> State {
        if self.plan.hold && !self.is(Variant::ManifestIgnored) {
            State::Binding(c)
        } else {
            self.close(c)
        }
    }

    /// Nothing is left to read or to compare.
    fn close(self, c: Ctx) -> State {
        let headerless =
            c.headerless && !self.is(Variant::StrippedHeaderIsDone);
        let lost = if self.is(Variant::ErrorsLogged) { 0 } else { c.lost };
        let end = if headerless || lost > 0 {
            End::Omitted { headerless: headerless.then_some(c.digest), lost }
        } else {
            End::Done
        };
        if self.renames_early(c) {
            State::Renaming(end, 0, c.ready)
        } else if self.is(Variant::SuccessUndecided) {
            State::Stopping(end)
        } else {
            State::Deciding(end, c.ready)
        }
    }

    /// Planted: what is held gets its name before the gate is asked.
    fn renames_early(self, c: Ctx) -> bool {
        self.is(Variant::RenamesEarly) && c.ready > 0
    }

    fn fail(self, cause: Cause) -> State {
        if self.is(Variant::FailureUndecided) {
            State::Stopping(End::Failed(cause))
        } else {
            State::Deciding(End::Failed(cause), 0)
        }
    }
}

fn ctx(digest: u8) -> Ctx {
    Ctx {
        digest,
        at: None,
        opened: 0,
        lost: 0,
        ready: 0,
        losing: false,
        headerless: false,
    }
}

/// The file that is open: asked for only where there is one.
fn file(c: Ctx) -> u16 {
    c.at.unwrap_or_default().file
}
