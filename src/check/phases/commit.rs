//! The world of `fsm::commit`: a store, folders, a crash, faults, a cancel,
//! and somebody beside it.
//!
//! Lives here: what is on the disk, what a crash leaves of it, what others
//! do, and how the driver answers each effect. May not live here: what must
//! hold (`commit_rules`), or the table.
//!
//! A kill takes nothing but the locks, and what was not on the disk still is
//! not, so that a later power cut may take it; a save in which it comes may be
//! made. A power cut takes of what this process and those before it wrote:
//! contents that were not synced are torn, and of the names that were not
//! synced any may be kept. Whoever is beside it goes on. Then the same restore
//! is run again.

use core::ops::ControlFlow::{Break, Continue};

use crate::check::liveness::UNFAIR;
use crate::check::{Model, Property};
use crate::fsm::cancel::{Cancel, Gate};
use crate::fsm::commit::{
    Commit, Effect, End, Event, Failure, Over, Plan, State,
};

/// Qubes that a world can have.
pub const QUBES: usize = 3;

/// One restore into a store, and what happens meanwhile.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Committing {
    /// What is wanted, and with it which mutant of the machine.
    pub plan: Plan,
    /// Who else is there.
    pub beside: Beside,
    /// Kills and power cuts; an end that owes something is run again instead.
    pub crashes: u8,
    /// Calls that fail.
    pub faults: u8,
    /// Somebody may cancel.
    pub cancel: bool,
    /// What the driver does wrong.
    pub flaw: Flaw,
}

/// Who else is there.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Beside {
    /// Nobody.
    Nobody,
    /// A writer of the store, who adds a qube of another name.
    Writer,
    /// A writer who takes the name of our first qube, if it is free.
    SameName,
    /// A second restore, as far as it sweeps.
    Sweep,
    /// Somebody who makes a folder of our first qube's name, at any time and
    /// without the store.
    Folder,
}

/// What a driver does wrong.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Flaw {
    /// Nothing.
    None,
    /// It removes stages whose lock somebody holds.
    LiveStages,
    /// It removes every folder that the store does not name.
    EveryFolder,
    /// It undoes what a note names by name, whoever's folder it is.
    UndoneByName,
    /// A rename replaces what is there.
    Replaces,
    /// It saves what it had loaded before it had the lock.
    LoadedEarly,
    /// A note is judged by a store that a power cut may still take back.
    JudgedUnsure,
    /// The store's lock is a file in `/run`: a kill leaves it, a power cut does
    /// not.
    LockFile,
    /// Files are synced as they are written; a stage of a dead run that reads
    /// well is taken as it is, as if it were on the disk.
    StageKept,
}

/// Machine, store, folders, and what must be remembered for K1 to K6.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct World {
    /// The machine.
    pub state: State,
    /// Canceled or decided.
    pub gate: Gate,
    /// A cancel was accepted, in this run.
    pub accepted: bool,
    /// Faults that are left.
    pub faults: u8,
    /// Crashes that are left.
    pub crashes: u8,
    /// An earlier run had all of it in the store.
    pub earlier: bool,
    /// Who has the store's lock.
    pub lock: Option<Who>,
    /// What we loaded.
    pub loaded: Store,
    /// The store.
    pub store: Store,
    /// What a power cut could bring back of our entries.
    pub unsure: bool,
    /// Our note.
    pub note: bool,
    /// Our stage.
    pub stage: Option<Stage>,
    /// What stands under the final names.
    pub folders: [Folder; QUBES],
    /// Something of somebody else was removed, or replaced.
    pub hurt: bool,
    /// Whoever is beside us.
    pub other: Other,
    /// The machine has no row for what it was told, here or beside: a
    /// deadlock.
    pub no_row: bool,
}

/// Who has the lock.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Who {
    /// This restore.
    We,
    /// Whoever is beside it.
    They,
}

/// Entries of the store.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Store {
    /// One bit for each of our qubes.
    pub ours: u8,
    /// The writer's.
    pub theirs: bool,
}

/// The folder into which is restored.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Stage {
    /// Its maker lives, and has its lock.
    pub held: bool,
    /// What is in it is on the disk.
    pub synced: bool,
}

/// What stands under a final name.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Folder {
    /// Nothing.
    Absent,
    /// Somebody else's.
    Theirs,
    /// That of our qube.
    Ours {
        /// Its name is on the disk.
        named: bool,
        /// Its files.
        files: Files,
    },
}

/// The files of a qube.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Files {
    /// They are written.
    Written,
    /// They are on the disk.
    Synced,
    /// A power cut left some of them.
    Torn,
}

/// Whoever is beside us.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Other {
    /// Nobody, or nothing more to be done.
    Over,
    /// Before the lock, or before the folder is made.
    Waits,
    /// Under the lock, with what was loaded.
    HasRead(Store),
    /// The store is saved.
    Saved,
    /// A second restore.
    Sweeps(State),
}

/// What happened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// The machine was answered.
    Answer(Effect, Event),
    /// A call failed.
    Fails(Effect, Event),
    /// Somebody canceled.
    Cancel,
    /// The process was killed, and the same restore is run again.
    Killed,
    /// The same in the middle of a call: what that does is done, and not known
    /// to be durable.
    KilledIn(Effect),
    /// The power was cut, and the same restore is run again.
    PowerCut,
    /// It is run again, to put an end to what was left.
    Again,
    /// The writer has the lock, and has loaded the store.
    TheirLock,
    /// The writer has saved.
    TheirSave,
    /// The writer has given the lock back.
    TheirUnlock,
    /// Somebody makes a folder.
    TheirFolder,
    /// The second restore.
    TheirSweep(Effect, Event),
}

/// Of a call that cannot do what it should: none of those that are counted.
const NOTHING_THERE: Failure = Failure(0);

impl Committing {
    /// So many qubes, and somebody beside; nothing fails.
    pub fn honest(qubes: u16, beside: Beside) -> Self {
        let qubes = qubes.clamp(1, QUBES as u16);
        let plan = Plan { qubes, variant: Default::default() };
        let (crashes, faults, cancel) = (0, 0, false);
        let flaw = Flaw::None;
        Self { plan, beside, crashes, faults, cancel, flaw }
    }

    /// The same with so many crashes, as many faults, and a cancel.
    pub fn troubled(qubes: u16, beside: Beside, troubles: u8) -> Self {
        Self {
            crashes: troubles,
            faults: troubles,
            cancel: true,
            ..Self::honest(qubes, beside)
        }
    }

    fn machine(&self, state: State) -> Commit {
        Commit { plan: self.plan, state }
    }

    /// The entries of all our qubes.
    pub(super) fn all(&self) -> u8 {
        bits(0, self.plan.qubes)
    }

    pub(super) fn end(world: &World) -> Option<Over> {
        match world.state {
            State::Over(over) => Some(over),
            State::Sweeping(_)
            | State::Keeping
            | State::Staging
            | State::SyncingFiles
            | State::Locking
            | State::Checking
            | State::Noting
            | State::Moving(_)
            | State::SyncingDirs
            | State::Deciding(_)
            | State::Saving(..)
            | State::Undoing(_)
            | State::Forgetting(_)
            | State::Unlocking(_)
            | State::Clearing(_) => None,
        }
    }

    /// Removes folders that the store does not name, if a note has them.
    fn settle(&self, next: &mut World) {
        // What the store says must be there for good first.
        next.unsure &= self.flaw == Flaw::JudgedUnsure;
        for (qube, folder) in next.folders.iter_mut().enumerate() {
            // A namesake's entry has its folder elsewhere: this one is ours.
            let named = next.store.ours & bit(qube) != 0;
            let goes = match (*folder, self.flaw) {
                (Folder::Absent, _) => false,
                (_, Flaw::EveryFolder) => true,
                (_, Flaw::UndoneByName) => next.note,
                (
                    Folder::Ours { .. },
                    Flaw::None
                    | Flaw::LiveStages
                    | Flaw::Replaces
                    | Flaw::LoadedEarly
                    | Flaw::JudgedUnsure
                    | Flaw::LockFile
                    | Flaw::StageKept,
                ) => next.note,
                (
                    Folder::Theirs,
                    Flaw::None
                    | Flaw::LiveStages
                    | Flaw::Replaces
                    | Flaw::LoadedEarly
                    | Flaw::JudgedUnsure
                    | Flaw::LockFile
                    | Flaw::StageKept,
                ) => false,
            };
            if goes && !named {
                next.hurt |= *folder == Folder::Theirs;
                *folder = Folder::Absent;
            }
        }
    }

    /// Removes stages, as `who` sees them.
    fn sweep(&self, next: &mut World) {
        let Some(stage) = next.stage else { return };
        if !stage.held || self.flaw == Flaw::LiveStages {
            next.hurt |= stage.held;
            next.stage = None;
        }
    }

    /// The stage of a dead run is taken instead of swept.
    fn keeps_stage(&self, world: &World) -> bool {
        self.flaw == Flaw::StageKept && world.state != State::Keeping
    }

    /// Renames our folder.
    fn rename(&self, next: &mut World, qube: u16) -> Event {
        let Some(stage) = next.stage else {
            return Event::Failed(NOTHING_THERE);
        };
        let Some(folder) = next.folders.get_mut(usize::from(qube)) else {
            return Event::Failed(NOTHING_THERE);
        };
        if *folder != Folder::Absent && self.flaw != Flaw::Replaces {
            return Event::Failed(NOTHING_THERE);
        }
        next.hurt |= *folder == Folder::Theirs;
        let files = if stage.synced { Files::Synced } else { Files::Written };
        *folder = Folder::Ours { named: false, files };
        Event::Ok
    }

    fn is_taken(&self, world: &World) -> bool {
        let entry = world.store.ours != 0
            || (world.store.theirs && self.beside == Beside::SameName);
        entry || world.folders.iter().any(|folder| *folder != Folder::Absent)
    }

    /// One save of what was loaded, with these qubes more.
    fn save(&self, next: &mut World, from: u16, to: u16) {
        let mut store = next.loaded;
        store.ours |= bits(from, to);
        // An entry of that name is replaced.
        if self.beside == Beside::SameName && from == 0 {
            store.theirs = false;
        }
        next.hurt |= next.store.theirs && !store.theirs;
        (next.store, next.loaded) = (store, store);
    }

    /// How the driver answers.
    fn perform(&self, next: &mut World, effect: Effect) -> Event {
        match effect {
            Effect::Lock => {
                next.lock = Some(Who::We);
                if self.flaw != Flaw::LoadedEarly {
                    next.loaded = next.store;
                }
            }
            Effect::Settle => {
                self.settle(next);
                if next.note && next.store.ours == self.all() {
                    return Event::Whole;
                }
            }
            Effect::Sweep if self.keeps_stage(next) => {}
            Effect::Sweep => self.sweep(next),
            Effect::Forget => next.note = false,
            Effect::Unlock => unlock(next, Who::We),
            Effect::Stage => {
                let found = next.stage.filter(|_| self.keeps_stage(next));
                let synced = match found {
                    Some(stage) => stage.synced,
                    None => self.flaw == Flaw::StageKept,
                };
                next.stage = Some(Stage { held: true, synced });
            }
            Effect::SyncFiles if self.flaw == Flaw::StageKept => {}
            Effect::SyncFiles => {
                if let Some(stage) = &mut next.stage {
                    stage.synced = true;
                }
                for folder in &mut next.folders {
                    if let Folder::Ours { files, .. } = folder
                        && *files == Files::Written
                    {
                        *files = Files::Synced;
                    }
                }
                if self.flaw == Flaw::LoadedEarly {
                    next.loaded = next.store;
                }
            }
            Effect::Check => {
                if self.is_taken(next) {
                    return Event::Taken;
                }
            }
            Effect::Note => next.note = true,
            Effect::Move(qube) => return self.rename(next, qube),
            Effect::SyncDirs => {
                for folder in &mut next.folders {
                    if let Folder::Ours { named, .. } = folder {
                        *named = true;
                    }
                }
            }
            Effect::Decide => {
                if next.gate.decide().is_err() {
                    return Event::Canceled;
                }
            }
            Effect::Save { from, to } => {
                self.save(next, from, to);
                next.unsure = false;
            }
            Effect::Undo => {
                for folder in &mut next.folders {
                    if matches!(folder, Folder::Ours { .. }) {
                        *folder = Folder::Absent;
                    }
                }
            }
            Effect::Clear => next.stage = None,
        }
        Event::Ok
    }

    /// Pushes `next` with the machine after `event`; a refusal is a deadlock.
    fn push(
        &self,
        mut next: World,
        step: Step,
        event: Event,
        steps: &mut Vec<(Step, World)>,
    ) {
        match self.machine(next.state).step(event) {
            Ok(machine) => next.state = machine.state,
            Err(_) => next.no_row = true,
        }
        if Self::end(&next).is_some() {
            unlock(&mut next, Who::We);
        }
        steps.push((step, next));
    }

    /// A call fails: it did nothing, or what cannot be told from it.
    fn fail(
        &self,
        world: &World,
        effect: Effect,
        steps: &mut Vec<(Step, World)>,
    ) {
        let mut next = world.clone();
        next.faults -= 1;
        let failure = Failure(u16::from(self.faults - next.faults));
        let event = Event::Failed(failure);
        let mut more = next.clone();
        match effect {
            // Half of it is there.
            Effect::Stage => {
                next.stage = Some(Stage { held: true, synced: false });
            }
            // It may be there.
            Effect::Note => {
                more.note = true;
                self.push(more, Step::Fails(effect, event), event, steps);
            }
            Effect::Save { from, to } => {
                self.save(&mut more, from, to);
                more.unsure = true;
                let event = Event::Unsure(failure);
                self.push(more, Step::Fails(effect, event), event, steps);
            }
            Effect::Lock
            | Effect::Settle
            | Effect::Sweep
            | Effect::Forget
            | Effect::Unlock
            | Effect::SyncFiles
            | Effect::Check
            | Effect::Move(_)
            | Effect::SyncDirs
            | Effect::Decide
            | Effect::Undo
            | Effect::Clear => {}
        }
        self.push(next, Step::Fails(effect, event), event, steps);
    }

    /// The same restore from its beginning.
    fn run_again(&self, world: &World) -> World {
        let mut next = world.clone();
        next.state = Commit::new(self.plan).state;
        next.gate = Gate::default();
        next.accepted = false;
        next.loaded = Store::default();
        next.earlier = next.store.ours == self.all();
        if let Some(stage) = &mut next.stage {
            stage.held = false;
        }
        unlock(&mut next, Who::We);
        next
    }

    /// The process dies, and nothing else does.
    fn kill(&self, world: &World, steps: &mut Vec<(Step, World)>) {
        let mut base = world.clone();
        base.crashes -= 1;
        if let Continue(effect) = self.machine(world.state).effect()
            && let Some(half) = self.half_way(&base, effect)
        {
            steps.push((Step::KilledIn(effect), self.killed(&half)));
        }
        steps.push((Step::Killed, self.killed(&base)));
    }

    fn killed(&self, world: &World) -> World {
        let mut next = self.run_again(world);
        if self.flaw == Flaw::LockFile {
            next.lock = world.lock;
        }
        next
    }

    /// What there is in the middle of a call, where that is neither what was
    /// there before nor what is behind it.
    fn half_way(&self, world: &World, effect: Effect) -> Option<World> {
        // What the gate refuses is not begun.
        if world.gate.is_canceled() && !effect.is_cleanup() {
            return None;
        }
        let mut next = world.clone();
        match effect {
            // Renamed, and the directory not synced.
            Effect::Save { from, to } => {
                self.save(&mut next, from, to);
                next.unsure = true;
            }
            // All is written, and the last file not synced.
            Effect::Stage
                if self.flaw == Flaw::StageKept && world.stage.is_none() =>
            {
                next.stage = Some(Stage { held: true, synced: false });
            }
            Effect::Lock
            | Effect::Settle
            | Effect::Sweep
            | Effect::Forget
            | Effect::Unlock
            | Effect::Stage
            | Effect::SyncFiles
            | Effect::Check
            | Effect::Note
            | Effect::Move(_)
            | Effect::SyncDirs
            | Effect::Decide
            | Effect::Undo
            | Effect::Clear => return None,
        }
        Some(next)
    }

    /// What a power cut may leave, each beginning again.
    fn cut(&self, world: &World, steps: &mut Vec<(Step, World)>) {
        let mut base = world.clone();
        base.crashes -= 1;
        // What it tears does not read well, and is made anew.
        if self.flaw == Flaw::StageKept {
            base.stage = base.stage.filter(|stage| stage.synced);
        }
        let mut left = vec![base];
        if world.unsure {
            let mut older = left.clone();
            for world in &mut older {
                world.store.ours = 0;
                // It did not outlive the cut either, and loads again.
                if let Other::HasRead(store) = &mut world.other {
                    store.ours = 0;
                }
            }
            left.extend(older);
        }
        for qube in 0..QUBES {
            let mut both = Vec::new();
            for mut kept in left {
                let folder = kept.folders.get(qube).copied();
                if let Some(Folder::Ours { named, files }) = folder {
                    if !named {
                        let mut gone = kept.clone();
                        set(&mut gone, qube, Folder::Absent);
                        both.push(gone);
                    }
                    let files = match files {
                        Files::Synced => Files::Synced,
                        Files::Written | Files::Torn => Files::Torn,
                    };
                    set(&mut kept, qube, Folder::Ours { named: true, files });
                }
                both.push(kept);
            }
            left = both;
        }
        for mut world in left {
            world.unsure = false;
            steps.push((Step::PowerCut, self.run_again(&world)));
        }
    }

    /// Whoever is beside us goes on.
    fn others(&self, world: &World, steps: &mut Vec<(Step, World)>) {
        let mut next = world.clone();
        match world.other {
            Other::Over => {}
            Other::Waits if self.beside == Beside::Folder => {
                let free = world.folders.first() == Some(&Folder::Absent);
                if free {
                    next.other = Other::Over;
                    set(&mut next, 0, Folder::Theirs);
                    steps.push((Step::TheirFolder, next));
                }
            }
            Other::Waits => {
                if world.lock.is_none() {
                    next.lock = Some(Who::They);
                    next.other = Other::HasRead(world.store);
                    steps.push((Step::TheirLock, next));
                }
            }
            Other::HasRead(mut store) => {
                let same = self.beside == Beside::SameName;
                if same && store.ours & 1 != 0 {
                    next.other = Other::Over;
                    unlock(&mut next, Who::They);
                    steps.push((Step::TheirUnlock, next));
                } else {
                    store.theirs = true;
                    next.store = store;
                    next.unsure = false;
                    next.other = Other::Saved;
                    steps.push((Step::TheirSave, next));
                }
            }
            Other::Saved => {
                next.other = Other::Over;
                unlock(&mut next, Who::They);
                steps.push((Step::TheirUnlock, next));
            }
            Other::Sweeps(state) => self.other_sweeps(next, state, steps),
        }
    }

    /// The second restore's next step, by the same machine.
    fn other_sweeps(
        &self,
        mut next: World,
        state: State,
        steps: &mut Vec<(Step, World)>,
    ) {
        let machine = self.machine(state);
        let Continue(effect) = machine.effect() else { return };
        match effect {
            Effect::Lock if next.lock.is_some() => return,
            Effect::Lock => next.lock = Some(Who::They),
            Effect::Settle => self.settle(&mut next),
            Effect::Sweep => self.sweep(&mut next),
            Effect::Forget => next.note = false,
            Effect::Unlock => unlock(&mut next, Who::They),
            // Here it has a stage of its own, and is another matter.
            Effect::Stage
            | Effect::SyncFiles
            | Effect::Check
            | Effect::Note
            | Effect::Move(_)
            | Effect::SyncDirs
            | Effect::Decide
            | Effect::Save { .. }
            | Effect::Undo
            | Effect::Clear => return,
        }
        let event = Event::Ok;
        match machine.step(event) {
            Ok(machine) if matches!(machine.state, State::Sweeping(_)) => {
                next.other = Other::Sweeps(machine.state);
            }
            Ok(_) => next.other = Other::Over,
            Err(_) => next.no_row = true,
        }
        steps.push((Step::TheirSweep(effect, event), next));
    }
}

impl Model for Committing {
    type State = World;
    type Step = Step;

    fn initial(&self) -> Vec<World> {
        let state = Commit::new(self.plan).state;
        let other = match self.beside {
            Beside::Nobody => Other::Over,
            Beside::Writer | Beside::SameName | Beside::Folder => Other::Waits,
            Beside::Sweep => Other::Sweeps(state),
        };
        vec![World {
            state,
            gate: Gate::default(),
            accepted: false,
            faults: self.faults,
            crashes: self.crashes,
            earlier: false,
            lock: None,
            loaded: Store::default(),
            store: Store::default(),
            unsure: false,
            note: false,
            stage: None,
            folders: [Folder::Absent; QUBES],
            hurt: false,
            other,
            no_row: false,
        }]
    }

    fn steps(&self, world: &World, steps: &mut Vec<(Step, World)>) {
        if world.no_row {
            return;
        }
        self.others(world, steps);
        let effect = match self.machine(world.state).effect() {
            Continue(effect) => effect,
            Break(over) => {
                if over.owed && world.crashes > 0 {
                    let mut next = self.run_again(world);
                    next.crashes -= 1;
                    steps.push((Step::Again, next));
                    self.cut(world, steps);
                }
                return;
            }
        };
        if world.crashes > 0 {
            self.kill(world, steps);
            self.cut(world, steps);
        }
        if self.cancel && !world.accepted {
            let mut next = world.clone();
            if next.gate.cancel() == Cancel::Accepted {
                next.accepted = true;
                steps.push((Step::Cancel, next));
            }
        }
        if world.gate.is_canceled() && !effect.is_cleanup() {
            let event = Event::Canceled;
            let step = Step::Answer(effect, event);
            self.push(world.clone(), step, event, steps);
            return;
        }
        if world.faults > 0 && effect.can_fail() {
            self.fail(world, effect, steps);
        }
        if effect == Effect::Lock && world.lock.is_some() {
            return;
        }
        let mut next = world.clone();
        let event = self.perform(&mut next, effect);
        self.push(next, Step::Answer(effect, event), event, steps);
    }

    fn is_end(&self, world: &World) -> bool {
        !world.no_row
            && Self::end(world).is_some()
            && (world.other == Other::Over || self.beside == Beside::Folder)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        super::commit_rules::properties(self)
    }

    fn actor(&self, step: &Step) -> usize {
        match step {
            Step::Answer(..) => 0,
            Step::TheirLock
            | Step::TheirSave
            | Step::TheirUnlock
            | Step::TheirSweep(..) => 1,
            Step::Fails(..)
            | Step::Cancel
            | Step::Killed
            | Step::KilledIn(_)
            | Step::PowerCut
            | Step::Again
            | Step::TheirFolder => UNFAIR,
        }
    }
}

/// Whether an end is one that the machine says is done.
pub(super) fn is_done(over: Over) -> bool {
    over.end == End::Done
}

fn set(world: &mut World, qube: usize, folder: Folder) {
    if let Some(place) = world.folders.get_mut(qube) {
        *place = folder;
    }
}

fn unlock(world: &mut World, who: Who) {
    if world.lock == Some(who) {
        world.lock = None;
    }
}

/// The entry of one qube.
pub(super) fn bit(qube: usize) -> u8 {
    1u8.checked_shl(qube as u32).unwrap_or_default()
}

fn bits(from: u16, to: u16) -> u8 {
    (from..to).fold(0, |set, qube| set | bit(usize::from(qube)))
}
