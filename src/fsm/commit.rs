//! Restored qubes into the store: files first, one save last.
//!
//! Lives here: every transition of `commit`; its words are in
//! `fsm::commit_call`. May not live here: archives, descriptors, names, the
//! protocol of the store, which it uses as three effects.
//!
//! Four rules are all of it. The save is the commit: folders are whole and
//! durable before it, and there is one for all qubes. Hours of extraction
//! happen without the store's lock, in a stage whose own lock tells that its
//! maker lives. What is moved is in a note before, so that whoever comes next
//! can undo it. The gate decides right before the save. Source: core-admin
//! f4194c9d, client `02bc30a`, whose errors are the variants.

use core::ops::ControlFlow::{self, Break, Continue};

pub use super::commit_call::{
    Effect, End, Event, Failure, Over, Plan, Variant,
};
use super::refused::Refused;

/// Puts the qubes of one restore into the store; the plan never changes.
///
/// ```
/// use core::ops::ControlFlow::Continue;
/// use qubes_fsm::fsm::commit::{Commit, Effect, Event, Plan, Variant};
///
/// let mut commit = Commit::new(Plan { qubes: 2, variant: Variant::Right });
/// // What earlier runs left goes first, under the store's lock.
/// let sweep = [Effect::Settle, Effect::Sweep, Effect::Forget];
/// for effect in [&[Effect::Lock], &sweep[..], &[Effect::Unlock]].concat() {
///     assert_eq!(commit.effect(), Continue(effect));
///     commit = commit.step(Event::Ok).unwrap();
/// }
/// assert_eq!(commit.effect(), Continue(Effect::Stage));
/// // Nobody may say that a name is taken: nobody was asked.
/// assert!(commit.step(Event::Taken).is_err());
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Commit {
    /// What is to be put there.
    pub plan: Plan,
    /// Where we are.
    pub state: State,
}

/// What we wait for.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum State {
    /// The removal of what earlier runs left.
    Sweeping(Sweep),
    /// The same, where the store has all of this restore already.
    Keeping,
    /// The files, in a folder of our own.
    Staging,
    /// These on disk.
    SyncingFiles,
    /// The store, locked and loaded.
    Locking,
    /// Whether names are free.
    Checking,
    /// The note.
    Noting,
    /// The final name of a qube's folder.
    Moving(u16),
    /// These names on disk.
    SyncingDirs,
    /// The gate's word.
    Deciding(Then),
    /// The store with these qubes, the last one excluded.
    Saving(u16, u16),
    /// The removal of what was moved.
    Undoing(Clean),
    /// The removal of the note.
    Forgetting(Clean),
    /// The store's lock to be gone.
    Unlocking(Clean),
    /// The removal of the stage.
    Clearing(Clean),
    /// Nothing.
    Over(Over),
}

/// The steps of sweeping.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Sweep {
    /// The store, locked and loaded.
    Lock,
    /// What a note names and the store does not.
    Settle,
    /// Stages that nobody holds.
    Stages,
    /// The note.
    Note,
    /// The lock.
    Unlock,
}

/// What is to be done if no cancel came first.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Then {
    /// The qubes go into the store.
    Save,
    /// They are there already.
    Keep,
    /// Somebody has one of the names.
    Conflict,
    /// It fails.
    Fail(Failure, Reach),
}

/// How far we came, and so what is to be cleaned up.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Reach {
    /// Nothing is ours; what others left may be there still.
    Nothing,
    /// The same, under the store's lock.
    Swept,
    /// There is a stage.
    Staged,
    /// And the store's lock.
    Locked,
    /// And a note, and what was moved.
    Noted,
}

/// The end to come, while the rest is put away.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Clean {
    /// The end.
    pub end: End,
    /// There is a stage of ours.
    pub stage: bool,
    /// Something could not be removed.
    pub owed: bool,
}

impl Commit {
    /// Starts with what earlier runs left.
    pub fn new(plan: Plan) -> Self {
        let first = match plan.variant {
            Variant::SweptUnlocked => Sweep::Settle,
            Variant::Right
            | Variant::EntryFirst
            | Variant::SavedFirst
            | Variant::OnePerQube
            | Variant::CancelSaves
            | Variant::Unnoted
            | Variant::ForgetsEarly
            | Variant::ForgetsOwed
            | Variant::NotUndone
            | Variant::Undecided
            | Variant::FilesUnsynced
            | Variant::DirsUnsynced
            | Variant::UnlockedEarly
            | Variant::CheckedEarly
            | Variant::Unchecked => Sweep::Lock,
        };
        Self { plan, state: State::Sweeping(first) }
    }

    /// What to do next, or the end.
    pub fn effect(self) -> ControlFlow<Over, Effect> {
        Continue(match self.state {
            State::Sweeping(Sweep::Lock) | State::Locking => Effect::Lock,
            State::Sweeping(Sweep::Settle) => Effect::Settle,
            State::Sweeping(Sweep::Stages) | State::Keeping => Effect::Sweep,
            State::Sweeping(Sweep::Note) | State::Forgetting(_) => {
                Effect::Forget
            }
            State::Sweeping(Sweep::Unlock) | State::Unlocking(_) => {
                Effect::Unlock
            }
            State::Staging => Effect::Stage,
            State::SyncingFiles => Effect::SyncFiles,
            State::Checking => Effect::Check,
            State::Noting => Effect::Note,
            State::Moving(qube) => Effect::Move(qube),
            State::SyncingDirs => Effect::SyncDirs,
            State::Deciding(_) => Effect::Decide,
            State::Saving(from, to) => Effect::Save { from, to },
            State::Undoing(_) => Effect::Undo,
            State::Clearing(_) => Effect::Clear,
            State::Over(over) => return Break(over),
        })
    }

    /// Every transition there is; the last arm refuses the rest.
    ///
    /// # Errors
    /// The event is no answer to the effect: a bug of the driver.
    pub fn step(self, event: Event) -> Result<Self, Refused> {
        let state = match (self.state, event) {
            (State::Sweeping(Sweep::Lock), Event::Ok) => {
                State::Sweeping(Sweep::Settle)
            }
            (State::Sweeping(Sweep::Settle), Event::Ok) => {
                State::Sweeping(Sweep::Stages)
            }
            (State::Sweeping(Sweep::Settle), Event::Whole) => {
                State::Deciding(Then::Keep)
            }
            (State::Sweeping(Sweep::Stages), Event::Ok) => {
                State::Sweeping(Sweep::Note)
            }
            (State::Sweeping(Sweep::Note), Event::Ok) => {
                State::Sweeping(Sweep::Unlock)
            }
            (State::Sweeping(Sweep::Unlock), Event::Ok) => self.swept(),
            (State::Keeping, Event::Ok) => State::Forgetting(kept(false)),
            (State::Keeping, Event::Failed(_)) => State::Unlocking(kept(true)),

            (State::Staging, Event::Ok) => self.staged(),
            (State::SyncingFiles, Event::Ok) => self.files_synced(),
            (State::Locking, Event::Ok) => self.locked(),
            (State::Checking, Event::Ok) => self.checked(),
            (State::Checking, Event::Taken) => State::Deciding(Then::Conflict),
            (State::Noting, Event::Ok) => self.noted(),
            (State::Moving(qube), Event::Ok) => self.moved(qube),
            (State::SyncingDirs, Event::Ok) => self.dirs_synced(),

            (State::Deciding(Then::Save), Event::Ok) => self.save(),
            (State::Deciding(Then::Keep), Event::Ok) => State::Keeping,
            (State::Deciding(Then::Conflict), Event::Ok) => {
                clean(End::Conflict, Reach::Locked)
            }
            (State::Deciding(Then::Fail(cause, reach)), Event::Ok) => {
                clean(failed(cause), reach)
            }
            (State::Saving(_, to), Event::Ok) => self.saved(to),
            // The store decides what is undone; the note stays for the next.
            (State::Saving(..), Event::Unsure(cause)) => {
                let end = End::Failed { cause, saved: true };
                State::Unlocking(Clean { end, stage: true, owed: true })
            }
            (State::Saving(..), Event::Failed(cause)) => {
                clean(failed(cause), Reach::Noted)
            }

            // Clean-up goes on whatever happens; the cause stays.
            (State::Undoing(rest), Event::Ok) => State::Forgetting(rest),
            // The note stays: it is what the next run undoes by.
            (State::Undoing(rest), Event::Failed(_)) => {
                let owed = Clean { owed: true, ..rest };
                if self.is(Variant::ForgetsOwed) {
                    State::Forgetting(owed)
                } else {
                    State::Unlocking(owed)
                }
            }
            (State::Forgetting(rest), Event::Ok) => self.forgotten(rest),
            (State::Forgetting(rest), Event::Failed(_)) => {
                State::Unlocking(Clean { owed: true, ..rest })
            }
            (State::Unlocking(rest), Event::Ok) => self.unlocked(rest),
            (State::Clearing(Clean { end, owed, .. }), Event::Ok) => {
                State::Over(Over { end, owed })
            }
            (State::Clearing(Clean { end, .. }), Event::Failed(_)) => {
                State::Over(Over { end, owed: true })
            }

            (
                State::Sweeping(
                    Sweep::Lock | Sweep::Settle | Sweep::Stages | Sweep::Note,
                )
                | State::Staging
                | State::SyncingFiles
                | State::Locking
                | State::Checking
                | State::Noting
                | State::Moving(_)
                | State::SyncingDirs,
                Event::Failed(cause),
            ) => State::Deciding(Then::Fail(cause, self.reach())),
            (State::Deciding(Then::Fail(cause, reach)), Event::Canceled) => {
                clean(End::Canceled(Some(cause)), reach)
            }
            (State::Moving(qube), Event::Canceled)
                if self.is(Variant::CancelSaves) && qube > 0 =>
            {
                State::Saving(0, qube)
            }
            (
                State::Noting | State::Moving(_) | State::SyncingDirs,
                Event::Canceled,
            ) if self.is(Variant::NotUndone) => {
                let end = End::Canceled(None);
                State::Forgetting(Clean { end, stage: true, owed: false })
            }
            (
                State::Sweeping(Sweep::Lock)
                | State::Staging
                | State::SyncingFiles
                | State::Locking
                | State::Checking
                | State::Noting
                | State::Moving(_)
                | State::SyncingDirs
                | State::Deciding(Then::Save | Then::Keep | Then::Conflict),
                Event::Canceled,
            ) => clean(End::Canceled(None), self.reach()),
            (state, event) => return Err(Refused::new(state, event)),
        };
        Ok(Self { state, ..self })
    }

    fn is(self, variant: Variant) -> bool {
        self.plan.variant == variant
    }

    /// How far we are.
    fn reach(self) -> Reach {
        match self.state {
            State::Sweeping(Sweep::Lock) => Reach::Nothing,
            State::Sweeping(_)
            | State::Keeping
            | State::Deciding(Then::Keep) => Reach::Swept,
            State::Staging | State::SyncingFiles | State::Locking => {
                Reach::Staged
            }
            State::Checking | State::Deciding(Then::Conflict) => Reach::Locked,
            State::Deciding(Then::Fail(_, reach)) => reach,
            State::Noting
            | State::Moving(_)
            | State::SyncingDirs
            | State::Deciding(Then::Save)
            | State::Saving(..)
            | State::Undoing(_)
            | State::Forgetting(_)
            | State::Unlocking(_)
            | State::Clearing(_)
            | State::Over(_) => Reach::Noted,
        }
    }

    fn swept(self) -> State {
        if self.is(Variant::EntryFirst) {
            State::Locking
        } else {
            State::Staging
        }
    }

    fn staged(self) -> State {
        if self.is(Variant::FilesUnsynced) {
            State::Locking
        } else {
            State::SyncingFiles
        }
    }

    fn files_synced(self) -> State {
        if self.is(Variant::EntryFirst) {
            State::Moving(0)
        } else if self.is(Variant::CheckedEarly) {
            State::Checking
        } else {
            State::Locking
        }
    }

    fn locked(self) -> State {
        if self.is(Variant::CheckedEarly) || self.is(Variant::Unchecked) {
            State::Noting
        } else {
            State::Checking
        }
    }

    fn checked(self) -> State {
        if self.is(Variant::CheckedEarly) {
            State::Locking
        } else if self.is(Variant::EntryFirst) {
            State::Deciding(Then::Save)
        } else if self.is(Variant::Unnoted) {
            State::Moving(0)
        } else {
            State::Noting
        }
    }

    fn noted(self) -> State {
        if self.is(Variant::SavedFirst) {
            State::Deciding(Then::Save)
        } else {
            State::Moving(0)
        }
    }

    fn moved(self, qube: u16) -> State {
        let next = qube.saturating_add(1);
        if next < self.plan.qubes {
            State::Moving(next)
        } else if self.is(Variant::DirsUnsynced) {
            self.dirs_synced()
        } else {
            State::SyncingDirs
        }
    }

    /// Everything is in its place, and the store does not know yet.
    fn dirs_synced(self) -> State {
        let late = self.is(Variant::SavedFirst) || self.is(Variant::EntryFirst);
        if late || self.is(Variant::ForgetsEarly) {
            State::Forgetting(done())
        } else if self.is(Variant::UnlockedEarly) {
            State::Unlocking(done())
        } else if self.is(Variant::Undecided) {
            self.save()
        } else {
            State::Deciding(Then::Save)
        }
    }

    fn save(self) -> State {
        let one = self.is(Variant::OnePerQube);
        State::Saving(0, if one { 1 } else { self.plan.qubes })
    }

    fn saved(self, to: u16) -> State {
        if let Some(state) = self.saved_in_part(to) {
            state
        } else if self.is(Variant::EntryFirst) {
            State::Staging
        } else if self.is(Variant::SavedFirst) {
            State::Moving(0)
        } else if self.is(Variant::ForgetsEarly) {
            State::Unlocking(done())
        } else if self.is(Variant::UnlockedEarly) {
            State::Clearing(done())
        } else {
            State::Forgetting(done())
        }
    }

    /// Planted: a save of some of the qubes.
    fn saved_in_part(self, to: u16) -> Option<State> {
        if to < self.plan.qubes && self.is(Variant::OnePerQube) {
            Some(State::Saving(to, to.saturating_add(1)))
        } else if to < self.plan.qubes {
            let end = End::Canceled(None);
            Some(State::Forgetting(Clean { end, stage: true, owed: false }))
        } else {
            None
        }
    }

    fn forgotten(self, rest: Clean) -> State {
        if self.is(Variant::ForgetsEarly) && rest == done() {
            State::Deciding(Then::Save)
        } else {
            State::Unlocking(rest)
        }
    }

    fn unlocked(self, rest: Clean) -> State {
        let Clean { end, stage, owed } = rest;
        if self.is(Variant::UnlockedEarly) && rest == done() {
            State::Deciding(Then::Save)
        } else if stage {
            State::Clearing(rest)
        } else {
            State::Over(Over { end, owed })
        }
    }
}

/// What is left to do from where `reach` says.
fn clean(end: End, reach: Reach) -> State {
    let (stage, owed) = (true, false);
    match reach {
        Reach::Nothing => State::Over(Over { end, owed: true }),
        Reach::Swept => {
            State::Unlocking(Clean { end, stage: false, owed: true })
        }
        Reach::Staged => State::Clearing(Clean { end, stage, owed }),
        Reach::Locked => State::Unlocking(Clean { end, stage, owed }),
        Reach::Noted => State::Undoing(Clean { end, stage, owed }),
    }
}

fn done() -> Clean {
    Clean { end: End::Done, stage: true, owed: false }
}

/// An earlier run did it all but this.
fn kept(owed: bool) -> Clean {
    Clean { end: End::Done, stage: false, owed }
}

fn failed(cause: Failure) -> End {
    End::Failed { cause, saved: false }
}
