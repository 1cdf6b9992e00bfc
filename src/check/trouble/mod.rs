//! The store's model with crashes, failing calls, and changes by others.
//!
//! Lives here: when a process dies, the power is cut, a call fails or somebody
//! who does not follow the protocol changes the store, what starts again after
//! it, and what must be true all the same (S1 to S8 of `spec/lock.md`). May not
//! live here: the sessions ([`super::lock`]), what a cut leaves (`sim::crash`),
//! what is done wrong on purpose ([`flaw`]).
//!
//! Crashes, faults and changes are few, and may never come: liveness owes them no
//! fairness ([`UNFAIR`]). A process that died, or that was at work when the
//! power was cut, starts its session again.

pub mod flaw;
pub mod words;

use core::ops::ControlFlow::{Break, Continue};

pub use flaw::Flaw;

use super::liveness::UNFAIR;
use super::lock::{
    Call, Deposed, NO_FAILURE, NoRoom, S1, S1_STALE, S2, S3, S5, S7, S8,
    Sessions, World,
};
use super::{Model, Property};
use crate::fsm::call::{Effect, Errno, Event};
use crate::fsm::protocol::{Keep, Protocol, Target};
use crate::fsm::session::{Part, State};
use crate::fsm::{Machine as _, lock, save};
use crate::sim::crash::{Data, Media, Outcome};
use crate::sim::disk::{PROCESSES, SAVES, UPDATES, Updates};
use crate::sim::fault::{ERRNOS, is_harmless};

/// Sessions among which processes die and calls fail.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Troubled {
    /// Who uses the store.
    pub sessions: Sessions,
    /// Crashes in a run at most, of a process or of the machine.
    pub crashes: u8,
    /// Calls that fail in a run at most.
    pub faults: u8,
    /// Changes in a run at most by somebody who does not follow the protocol;
    /// none where there are crashes.
    pub changes: u8,
    /// What is done wrong.
    pub flaw: Flaw,
}

/// Machine, disk, what lies below it, and what was promised.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Struck {
    /// Machines and disk.
    pub world: World,
    /// What the medium holds; blank once no crash can come any more.
    pub media: Media,
    /// Updates that were acknowledged to a caller.
    pub acknowledged: Updates,
    /// The first failure of each session that it must report.
    causes: [Option<Errno>; PROCESSES],
    /// A session changed what the path leads to after a call of it failed.
    moved: bool,
    /// Crashes that may still come.
    pub crashes: u8,
    /// Failures that may still come.
    pub faults: u8,
    /// Changes by others that may still come.
    pub changes: u8,
    /// Who held the store when such a change came.
    pub deposed: Deposed,
    /// A power cut left what S4 forbids. Nothing happens after that.
    pub gone: bool,
    /// Processes for which somebody has read the store between their two
    /// looks; for a flaw.
    touched: u8,
}

/// Changes by others that the model has no place for.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "{changes} changes by others with {crashes} crashes: the model has room \
     for {UPDATES} changes, and only where nothing crashes"
)]
pub struct NotBoth {
    crashes: u8,
    changes: u8,
}

/// Something that happens.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// A call was made.
    Call(Call),
    /// A call was made, and failed.
    Fault(Call),
    /// The process died: descriptors and locks are gone.
    Killed(usize),
    /// The machine went down, and this is what is left.
    Cut(Outcome),
    /// For flaws: this process did something that is no call of the machine.
    Odd(usize, &'static str),
    /// For a flaw: somebody has read the store, without a lock.
    Touched,
    /// Somebody who does not follow the protocol changed the store.
    Changed(Change),
}

/// How somebody who does not follow the protocol changes the store: in one
/// step, on top of what is there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Change {
    /// By a rename over it.
    Replace,
    /// In place: the same file, in the same tick of the clock.
    Overwrite,
}

impl Struck {
    /// The first failure that the session of `process` must report.
    pub fn cause(&self, process: usize) -> Option<Errno> {
        self.causes.get(process).copied().flatten()
    }

    /// Whether a session has changed what the path leads to after a failure.
    pub fn moved(&self) -> bool {
        self.moved
    }
}

impl Troubled {
    /// So many crashes and faults among these processes.
    ///
    /// # Errors
    /// There is no room for the processes, or for the saves that they make
    /// when they start again.
    pub fn new(
        protocol: Protocol,
        (writers, readers, saves): (usize, usize, u8),
        crashes: u8,
        faults: u8,
    ) -> Result<Self, NoRoom> {
        let plain = Sessions::new(protocol, writers, readers, saves)?;
        // Each crash may come when all is saved and nothing given back.
        let sessions = crashes.saturating_add(1);
        if usize::from(saves.saturating_add(crashes)) > SAVES
            || usize::from(saves.saturating_mul(sessions)) > UPDATES
        {
            return Err(plain.no_room());
        }
        let sessions = Sessions { protocol, ..plain };
        Ok(Self { sessions, crashes, faults, changes: 0, flaw: Flaw::None })
    }

    /// The same with so many changes by somebody who does not follow the
    /// protocol. What a cut leaves of those is not modelled.
    ///
    /// # Errors
    /// There are crashes, or more changes than content can tell apart.
    pub fn changed(self, changes: u8) -> Result<Self, NotBoth> {
        let crashes = self.crashes;
        if changes > 0 && crashes > 0 || usize::from(changes) > UPDATES {
            return Err(NotBoth { crashes, changes });
        }
        Ok(Self { changes, ..self })
    }

    /// Where it begins.
    pub fn start(&self) -> Struck {
        Struck {
            world: self.sessions.start(),
            media: Media::default(),
            acknowledged: Updates::default(),
            causes: [None; PROCESSES],
            moved: false,
            crashes: self.crashes,
            faults: self.faults,
            changes: self.changes,
            deposed: Deposed::default(),
            gone: false,
            touched: 0,
        }
    }

    fn fresh(&self) -> State {
        let lock = lock::State::Opening;
        State { part: Part::Acquiring(lock), saved: 0 }
    }

    fn effect(&self, from: &Struck, process: usize) -> Option<Effect> {
        match self.sessions.session(&from.world, process).effect() {
            Continue(effect) => Some(effect),
            Break(_) => None,
        }
    }

    /// The next call of `process`; `None`: it waits, or is at its end.
    fn call(&self, from: &Struck, process: usize) -> Option<(Step, Struck)> {
        let effect = self.effect(from, process)?;
        let mut to = *from;
        if let Some(step) = flaw::before(self, &mut to, process, effect) {
            return Some((step, to));
        }
        let told = flaw::perform(self, &mut to, process, effect)?;
        let made = match self.flaw.is_answered_only(effect) {
            true => Event::Failed(Errno::IO),
            false => told,
        };
        let call = Call { process, effect, event: told };
        self.answer(from, &mut to, call, made)?;
        Some((Step::Call(call), to))
    }

    /// The same, and the call fails.
    fn fault(
        &self,
        from: &Struck,
        process: usize,
        errno: Errno,
    ) -> Option<(Step, Struck)> {
        let effect = self.effect(from, process)?;
        let mut to = *from;
        to.faults = to.faults.checked_sub(1)?;
        to.world.disk.fail(process, effect);
        if !is_harmless(effect) {
            to.causes.get_mut(process)?.get_or_insert(errno);
        }
        let event = flaw::failed(self, effect, errno);
        let call = Call { process, effect, event };
        self.answer(from, &mut to, call, Event::Failed(errno))?;
        let state = to.world.sessions.get_mut(process)?;
        state.part = flaw::reworded(self, state.part, errno);
        Some((Step::Fault(call), to))
    }

    /// The session takes the answer; medium and promises are kept up. `made`:
    /// what became of the call in truth.
    fn answer(
        &self,
        from: &Struck,
        to: &mut Struck,
        call: Call,
        made: Event,
    ) -> Option<()> {
        let Call { process, effect, event } = call;
        let before = self.sessions.session(&from.world, process);
        let Ok(after) = before.step(event) else {
            to.world.refuse(process);
            return Some(());
        };
        *to.world.sessions.get_mut(process)? = after.state;
        let path = |at: &Struck| {
            let (inode, file) = at.world.disk.store();
            (inode, file.content, file.whole)
        };
        to.moved |= to.cause(process).is_some() && path(from) != path(to);
        self.note_changed(from, to, call);
        if after.holds().is_none() {
            to.deposed = to.deposed.without(process);
        }
        if !after.may_compare() {
            to.world.disk.forget_loaded(process);
        }
        if after.acknowledged() > before.acknowledged() {
            let saves = to.world.disk.process(process).saves;
            let update = Updates::one(process, saves.saturating_sub(1));
            to.acknowledged = to.acknowledged.with(update);
        }
        if to.crashes > 0 {
            let (before, after) = (&from.world.disk, &to.world.disk);
            to.media.note(before, after, process, effect, made);
        }
        Some(())
    }

    /// What comes of a change by others is a failure too, and to be reported:
    /// a deposed save refuses, or has swept the new file of its successor.
    fn note_changed(&self, from: &Struck, to: &mut Struck, call: Call) {
        let Call { process, effect, event } = call;
        let disk = &from.world.disk;
        let why = if event == Event::Changed && from.deposed.has(process) {
            Errno::CHANGED
        } else if event == Event::Failed(Errno::NO_ENTRY)
            && effect == Effect::Rename
            && from.changes < self.changes
            && disk.temporary(process).is_none()
        {
            Errno::NO_ENTRY
        } else {
            return;
        };
        if let Some(cause) = to.causes.get_mut(process) {
            cause.get_or_insert(why);
        }
    }

    /// Somebody who does not follow the protocol changes the store. Not
    /// between the last look that could see it and the rename: no protocol
    /// can tell that.
    fn change(&self, from: &Struck, change: Change) -> Option<(Step, Struck)> {
        let mut to = *from;
        let number = self.changes - from.changes;
        to.changes = to.changes.checked_sub(1)?;
        let blind = from.world.sessions.iter().any(|state| {
            let Part::Saving(_, save) = state.part else { return false };
            matches!(save, save::State::Renaming(_))
                || matches!(save, save::State::ComparingStat(_))
                    && change == Change::Overwrite
        });
        if blind {
            return None;
        }
        match change {
            Change::Replace => {
                if !to.world.disk.replaced_by_others(number) {
                    return None;
                }
            }
            Change::Overwrite => {
                to.world.disk.overwritten_by_others(number);
            }
        }
        for process in 0..self.sessions.processes() {
            if self.sessions.session(&from.world, process).holds().is_some() {
                to.deposed = to.deposed.with(process);
            }
        }
        Some((Step::Changed(change), to))
    }

    /// `process` dies, and starts again.
    fn killed(&self, from: &Struck, process: usize) -> Option<(Step, Struck)> {
        let state = *from.world.sessions.get(process)?;
        // One that has not begun has nothing to lose.
        if matches!(state.part, Part::Done(_)) || state == self.fresh() {
            return None;
        }
        let mut to = *from;
        to.world.disk.kill(process);
        self.begin_again(&mut to, process);
        self.crashed(&mut to);
        Some((Step::Killed(process), to))
    }

    fn begin_again(&self, to: &mut Struck, process: usize) {
        if let Some(state) = to.world.sessions.get_mut(process) {
            *state = self.fresh();
        }
        if let Some(cause) = to.causes.get_mut(process) {
            *cause = None;
        }
    }

    fn crashed(&self, to: &mut Struck) {
        to.crashes = to.crashes.saturating_sub(1);
        to.touched = 0;
        if to.crashes == 0 {
            to.media = Media::default();
        }
    }

    /// The power is cut, and this is left.
    fn cut(&self, from: &Struck, outcome: Outcome) -> (Step, Struck) {
        let mut to = *from;
        let store = match outcome.store {
            Data::Empty | Data::Torn => None,
            Data::Whole(content) => Some(content),
        };
        //= spec/lock.md#s4-nothing-acknowledged-is-gone
        to.gone = !store.is_some_and(|s| s.has(from.acknowledged));
        to.world.disk = from.world.disk.rebooted(store, outcome.leftovers);
        for process in 0..self.sessions.processes() {
            let state = from.world.sessions.get(process);
            if !state.is_some_and(|s| matches!(s.part, Part::Done(_))) {
                self.begin_again(&mut to, process);
            }
        }
        to.media = Media::default();
        self.crashed(&mut to);
        (Step::Cut(outcome), to)
    }

    /// Every property that must hold, with its name.
    const SAFETY: [(&'static str, super::Test<Self>); 11] = [
        (S1, Self::no_lost_update),
        (S1_STALE, |model, at| {
            model.sessions.no_stale_read_but(&at.world, at.deposed)
        }),
        (S2, |model, at| model.sessions.one_holder_but(&at.world, at.deposed)),
        (S3, |model, at| at.gone || model.sessions.never_torn(&at.world)),
        (S4, |_, at| !at.gone),
        (S5, |model, at| model.sessions.nothing_left(&at.world)),
        (S5_SWEPT, Self::swept),
        (S6, |model, at| {
            model.first_cause(at) && !at.moved && model.stays_locked(at)
        }),
        (S8, Self::others_stay),
        (NO_FAILURE, Self::no_failure),
        (ROOM, |_, at| at.media.is_complete()),
    ];

    //= spec/lock.md#s1-no-lost-update
    fn no_lost_update(&self, at: &Struck) -> bool {
        let (_, file) = at.world.disk.store();
        at.gone || file.content.has(at.acknowledged)
    }

    //= spec/lock.md#s8-others-changes-stay
    fn others_stay(&self, at: &Struck) -> bool {
        let (_, file) = at.world.disk.store();
        let changes = 0..self.changes - at.changes;
        changes.map(Updates::of_others).all(|update| file.content.has(update))
    }

    /// While one saves, nothing is there that a crash left before: unless a
    /// call failed, for then it may be the sweep.
    //= spec/lock.md#s5-leftovers-are-swept
    fn swept(&self, at: &Struck) -> bool {
        at.faults < self.faults
            || at.world.disk.leftovers() == 0
            || !at.world.sessions.iter().any(|state| match state.part {
                Part::Saving(_, state) => match state {
                    save::State::Writing(_)
                    | save::State::Syncing(_)
                    | save::State::LockingTemp(_)
                    | save::State::ClosingTemp(_)
                    | save::State::ComparingStat(_)
                    | save::State::ComparingContent(_)
                    | save::State::Renaming(_)
                    | save::State::SyncingDirectory(_)
                    | save::State::ClosingOld(..) => true,
                    save::State::Sweeping
                    | save::State::Creating
                    | save::State::Unlinking(..)
                    | save::State::Discarding(..)
                    | save::State::Ended(_) => false,
                },
                Part::Acquiring(_)
                | Part::OpeningStore(_)
                | Part::Loading(..)
                | Part::ClosingStore(..)
                | Part::Releasing(..)
                | Part::Done(_) => false,
            })
    }

    /// Who says that all went well had no failure, and who reports one
    /// reports the first.
    //= spec/lock.md#s6-the-first-cause-is-reported
    pub(super) fn first_cause(&self, at: &Struck) -> bool {
        let causes = at.causes.iter();
        at.world.sessions.iter().zip(causes).all(|(state, cause)| {
            match (state.part, cause) {
                (Part::Done(reported), Some(_)) => reported == *cause,
                _ => true,
            }
        })
    }

    /// Who goes back after a failure has its lock until the release. One that
    /// never locks its new file has none behind a rename.
    //= spec/lock.md#a-failed-save-changes-nothing
    fn stays_locked(&self, at: &Struck) -> bool {
        let disk = &at.world.disk;
        let mut sessions = at.world.sessions.iter().enumerate();
        sessions.all(|(process, state)| {
            let held = match state.part {
                Part::Saving(
                    held,
                    save::State::Unlinking(..) | save::State::Discarding(..),
                ) => held,
                Part::Releasing(held, Some(_)) => held,
                Part::Saving(..)
                | Part::Releasing(_, None)
                | Part::Acquiring(_)
                | Part::OpeningStore(_)
                | Part::Loading(..)
                | Part::ClosingStore(..)
                | Part::Done(_) => return true,
            };
            // It is not the first file's, which was locked.
            let second =
                state.saved > 0 || matches!(state.part, Part::Releasing(..));
            if second && self.sessions.protocol.keep == Keep::Unlocked {
                return true;
            }
            let locked = disk.opened(process, held).and_then(|h| h.ofd);
            at.cause(process).is_none() || locked.is_some()
        })
    }

    /// Nobody fails to whom nothing happened.
    fn no_failure(&self, at: &Struck) -> bool {
        let causes = at.causes.iter();
        at.world.sessions.iter().zip(causes).all(|(state, cause)| {
            cause.is_some() || !matches!(state.part, Part::Done(Some(_)))
        })
    }

    //= spec/lock.md#s7-everyone-finishes
    fn finished(&self, at: &Struck) -> bool {
        let processes = 0..self.sessions.processes();
        let mut states = processes.filter_map(|p| at.world.sessions.get(p));
        at.gone || states.all(|s| matches!(s.part, Part::Done(_)))
    }

    /// A cut could undo what nobody was promised.
    fn undoable(&self, at: &Struck) -> bool {
        let outcomes = at.media.outcomes(&at.world.disk);
        let stores = outcomes.windows(2).any(|pair| match pair {
            [a, b] => a.store != b.store,
            _ => false,
        });
        at.crashes > 0 && stores && at.acknowledged != Updates::default()
    }

    fn torn_beside(&self, at: &Struck) -> bool {
        let disk = &at.world.disk;
        disk.temp_names() > disk.leftovers()
            && self.sessions.somebody_waits(&at.world)
    }

    fn sweeps(&self, at: &Struck) -> bool {
        at.world.disk.leftovers() > 0
            && at.world.sessions.iter().any(|state| {
                matches!(state.part, Part::Saving(_, save::State::Sweeping))
            })
    }

    fn reports(&self, at: &Struck) -> bool {
        at.world.sessions.iter().zip(&at.causes).any(|(state, cause)| {
            cause.is_some() && state.part == Part::Done(*cause)
        })
    }

    fn all_saved_after_crash(&self, at: &Struck) -> bool {
        at.crashes == 0
            && self.finished(at)
            && !at.gone
            && (0..self.sessions.writers)
                .all(|p| at.acknowledged.has(Updates::one(p, 0)))
    }
}

/// Name of S4.
pub const S4: &str = "S4 nothing acknowledged is gone";
/// Name of S5, for what crashed processes left.
pub const S5_SWEPT: &str = "S5 leftovers are swept";
/// Name of S6.
pub const S6: &str = "S6 the first cause is reported";
/// Name of the property that the model kept all that a cut may leave.
pub const ROOM: &str = "the medium has room";

impl Model for Troubled {
    type State = Struck;
    type Step = Step;

    fn initial(&self) -> Vec<Struck> {
        vec![self.start()]
    }

    fn steps(&self, from: &Struck, steps: &mut Vec<(Step, Struck)>) {
        if from.gone || from.world.no_row() {
            return;
        }
        // What S1 has lost is said once: no cut that follows is to blame.
        let (_, file) = from.world.disk.store();
        let acknowledged = from.acknowledged.shared(file.content);
        let from = &Struck { acknowledged, ..*from };
        for process in 0..self.sessions.processes() {
            steps.extend(self.call(from, process));
            if from.faults > 0 {
                let faults = ERRNOS.into_iter();
                steps.extend(
                    faults.filter_map(|e| self.fault(from, process, e)),
                );
            }
            if from.crashes > 0 {
                steps.extend(self.killed(from, process));
            }
        }
        if from.crashes > 0 {
            let outcomes = from.media.outcomes(&from.world.disk);
            steps.extend(outcomes.into_iter().map(|o| self.cut(from, o)));
        }
        for change in [Change::Replace, Change::Overwrite] {
            steps.extend(self.change(from, change));
        }
        flaw::beside(self, from, steps);
    }

    fn is_end(&self, at: &Struck) -> bool {
        self.finished(at)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties: Vec<_> = Self::SAFETY
            .into_iter()
            .filter(|(name, _)| {
                (*name != S5_SWEPT || self.sessions.protocol.sweep)
                    && (*name != S8 || self.changes > 0)
            })
            .map(|(name, test)| Property::always(name, test))
            .collect();
        properties.push(Property::eventually(S7, Self::finished));
        // Twins: states in which the above could have failed.
        let mut twin = |name, test| {
            properties.push(Property::sometimes(name, test));
        };
        let several =
            self.sessions.processes() > 1 && self.sessions.writers > 0;
        if several && self.sessions.protocol.target == Target::Store {
            twin("somebody waits beside a new file", Self::torn_beside);
        }
        if self.crashes > 0 {
            twin("all saved, after a crash", Self::all_saved_after_crash);
            if self.sessions.writers > 1 {
                twin("a cut can undo what was not promised", Self::undoable);
            }
            if self.sessions.protocol.sweep && self.sessions.writers > 0 {
                twin("a save finds a leftover", Self::sweeps);
            }
        }
        if self.changes > 0 {
            twin("others change what somebody holds", |_, at| {
                at.deposed != Deposed::default()
            });
            if self.sessions.protocol.verify && self.sessions.writers > 0 {
                twin("a change by others is refused", |_, at| {
                    let refused = Part::Done(Some(Errno::CHANGED));
                    at.world.sessions.iter().any(|s| s.part == refused)
                });
            }
        }
        if self.faults > 0 {
            twin("a failure is reported", Self::reports);
        }
        properties
    }

    fn actor(&self, step: &Step) -> usize {
        match step {
            Step::Call(call) => call.process,
            Step::Odd(process, _) => *process,
            Step::Fault(_) | Step::Killed(_) | Step::Cut(_) => UNFAIR,
            Step::Touched | Step::Changed(_) => UNFAIR,
        }
    }
}
