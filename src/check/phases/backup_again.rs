//! `backup`'s world with crashes, and with the run that comes after each.
//!
//! Lives here: what a killed process and a power cut leave of a run in
//! [`Writing`], what the next run finds and does before its machine begins,
//! and another backup in the same directory. May not live here: a run's own
//! steps (`backup`), what must hold (`backup_again_rules`), or the table.
//!
//! Here the driver's calls are apart where something may come between them:
//! a temporary file is made, locked, and looked for under its name; a name is
//! given by one rename, or by a link and the removal of the old name.
//!
//! A power cut tears what was not synced: it may be empty, a part, or all
//! there. Of the names that were not synced any may be kept. A kill takes
//! nothing but the locks.

use core::ops::ControlFlow::{Break, Continue};

use super::backup::{self, Writing};
use crate::check::liveness::UNFAIR;
use crate::check::{Model, Property};
use crate::fsm::backup::{Backup, Effect, End, Event, Target};

/// Backups one after the other, each begun where a crash left the one before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct WritingAgain {
    /// One run of them.
    pub writing: Writing,
    /// Crashes; an end that is not "done" is run again instead.
    pub crashes: u8,
    /// What the file system can do.
    pub place: Place,
    /// Another backup is made in the same directory.
    pub beside: bool,
    /// What the driver does wrong.
    pub flaw: Flaw,
}

/// What the file system of the target can do.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Place {
    /// A file has no name until it gets its last one.
    Unnamed,
    /// It has a temporary one, which is renamed.
    Renamed,
    /// The same, by a second link and the removal of the first.
    Linked,
}

/// What a driver does wrong.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Flaw {
    /// Nothing.
    None,
    /// Temporary files have one name, and nobody sweeps.
    FixedName,
    /// Nobody sweeps.
    NotSwept,
    /// Who sweeps does not look at locks.
    SweepsHeld,
    /// Once it has the lock, it does not look whether the name is still there.
    NotLookedAgain,
}

/// This run, what earlier ones left, and whoever is beside it.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct World {
    /// How far this run is.
    pub run: Run,
    /// Its machine and its world.
    pub one: backup::World,
    /// Its temporary file.
    pub made: Made,
    /// The archive has its name, and its temporary one too.
    pub linked: bool,
    /// Under the final name, from an earlier run.
    pub archive: Option<Archive>,
    /// A temporary file of an earlier run.
    pub left: Option<Left>,
    /// An earlier run was done.
    pub done: bool,
    /// Crashes that are left.
    pub crashes: u8,
    /// The other backup.
    pub other: Other,
    /// The other backup lost its file.
    pub hurt: bool,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Run {
    /// It looks whether the name is free.
    Opening,
    /// It removes what the dead have left.
    Sweeping,
    /// Its machine runs, or is over.
    Going,
    /// The name is taken: it does not begin.
    Refused,
    /// A leftover has the name of its temporary file: it does not begin.
    Blocked,
}

/// A temporary file, where it has a name.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Made {
    /// Not made.
    No,
    /// Made, and not locked: who sweeps may take it for one of the dead.
    Unlocked {
        /// The name leads to it.
        there: bool,
    },
    /// Locked.
    Held {
        /// The name leads to it.
        there: bool,
    },
}

/// What is under the final name.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Archive {
    /// What is in it.
    pub content: Content,
    /// That is on the disk.
    pub synced: bool,
    /// The name is.
    pub named: bool,
}

/// What a dead process left under a temporary name.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Left {
    /// What is in it.
    pub content: Content,
    /// That is on the disk.
    pub synced: bool,
}

/// What is in a file.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Content {
    /// Nothing.
    Empty,
    /// A part of an archive, or a torn one.
    Part,
    /// A whole archive.
    Whole,
}

/// The other backup, as far as its temporary file goes.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Other {
    /// There is none, or it has ended.
    Over,
    /// Before it sweeps.
    Waits,
    /// Its temporary file.
    Has(Made),
}

/// What happened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// A step of this run's own world.
    Own(backup::Step),
    /// It looked at the final name.
    Looked,
    /// It swept.
    Swept,
    /// It made its temporary file.
    Made,
    /// It locked that, and then looked whether its name is still there.
    Locked,
    /// It gave the archive its name as a second one.
    Linked,
    /// The process was killed, and the next run begins.
    Killed,
    /// The power was cut, and the next run begins.
    PowerCut,
    /// It has ended, and is run again.
    Again,
    /// The other backup did what comes next.
    Other,
}

impl WritingAgain {
    /// One file, a fault and a cancel, and so many crashes.
    pub fn new(place: Place, crashes: u8) -> Self {
        let writing = Writing::troubled(Target::File, &[1], 1);
        // Here the power is cut.
        let writing = Writing { power: false, ..writing };
        Self { writing, crashes, place, beside: false, flaw: Flaw::None }
    }

    /// The same beside another backup.
    pub fn beside(place: Place, crashes: u8) -> Self {
        Self { beside: true, ..Self::new(place, crashes) }
    }

    fn effect(&self, world: &World) -> Option<Effect> {
        let Run::Going = world.run else { return None };
        let plan = self.writing.plan;
        match (Backup { plan, state: world.one.state }).effect() {
            Continue(effect) => Some(effect),
            Break(_) => None,
        }
    }

    /// Whether the run has ended, well or not.
    pub(super) fn is_over(world: &World) -> bool {
        match world.run {
            Run::Opening | Run::Sweeping => false,
            Run::Going => Writing::end(&world.one).is_some(),
            Run::Refused | Run::Blocked => true,
        }
    }

    pub(super) fn is_done(world: &World) -> bool {
        world.run == Run::Going
            && Writing::end(&world.one).is_some_and(|o| o.end == End::Done)
    }

    /// What this run has written so far.
    pub(super) fn content(&self, world: &World) -> Content {
        let written = &world.one.written;
        match written.header {
            0 => Content::Empty,
            _ if written.dead => Content::Part,
            _ if self.writing.is_whole(written) => Content::Whole,
            _ => Content::Part,
        }
    }

    /// The archive of this run has its name.
    pub(super) fn is_named(world: &World) -> bool {
        world.linked || world.one.disk.published
    }

    /// This run has a temporary file under a name.
    fn has_temporary(&self, world: &World) -> bool {
        let there = match world.made {
            Made::No => false,
            Made::Unlocked { there } | Made::Held { there } => there,
        };
        there && !world.one.disk.published
    }

    /// Removes what nobody holds: leftovers, and what is not locked yet.
    fn sweep(&self, left: &mut Option<Left>, made: &mut Made) {
        if matches!(self.flaw, Flaw::FixedName | Flaw::NotSwept) {
            return;
        }
        *left = None;
        match made {
            Made::Unlocked { there } => *there = false,
            Made::Held { there } if self.flaw == Flaw::SweepsHeld => {
                *there = false;
            }
            Made::No | Made::Held { .. } => {}
        }
    }

    /// Locked by now; is it still there? If not, another one is made.
    fn lock(&self, there: bool) -> Made {
        if there || self.flaw == Flaw::NotLookedAgain {
            Made::Held { there }
        } else {
            Made::No
        }
    }

    /// What comes before the machine, and between its calls.
    fn calls(&self, world: &World, steps: &mut Vec<(Step, World)>) -> bool {
        let mut next = world.clone();
        let step = match (world.run, self.effect(world)) {
            (Run::Opening, _) => {
                let taken = world.archive.is_some();
                next.run = if taken { Run::Refused } else { Run::Sweeping };
                Step::Looked
            }
            (Run::Sweeping, _) => {
                next.run = Run::Going;
                let mut none = Made::No;
                let theirs = match &mut next.other {
                    Other::Has(made) => made,
                    Other::Over | Other::Waits => &mut none,
                };
                self.sweep(&mut next.left, theirs);
                Step::Swept
            }
            (Run::Going, Some(Effect::Create))
                if self.place != Place::Unnamed =>
            {
                match world.made {
                    Made::No if world.one.gate.is_canceled() => return false,
                    Made::No if self.is_blocked(world) => {
                        next.run = Run::Blocked;
                        Step::Made
                    }
                    Made::No => {
                        next.made = Made::Unlocked { there: true };
                        Step::Made
                    }
                    Made::Unlocked { there } => {
                        next.made = self.lock(there);
                        Step::Locked
                    }
                    Made::Held { .. } => return false,
                }
            }
            (Run::Going, Some(Effect::Rename))
                if self.place == Place::Linked && !world.linked =>
            {
                next.linked = true;
                Step::Linked
            }
            (Run::Going | Run::Refused | Run::Blocked, _) => return false,
        };
        steps.push((step, next));
        true
    }

    fn is_blocked(&self, world: &World) -> bool {
        self.flaw == Flaw::FixedName && world.left.is_some()
    }

    /// The steps of the run itself. Before the first call of an effect it may
    /// fail or be canceled; a cancel between two is one behind them.
    fn own(
        &self,
        world: &World,
        between: bool,
        steps: &mut Vec<(Step, World)>,
    ) {
        let mut own = Vec::new();
        self.writing.steps(&world.one, &mut own);
        if between {
            let is_renaming = self.effect(world) == Some(Effect::Rename);
            let is_first = world.made == Made::No || is_renaming;
            own.retain(|(step, _)| match step {
                backup::Step::Cancel | backup::Step::Fails(..) => is_first,
                backup::Step::Answer(..)
                | backup::Step::Dies(..)
                | backup::Step::PowerCut
                | backup::Step::Wait => false,
            });
        }
        steps.extend(own.into_iter().map(|(step, one)| {
            let mut next = World { one, ..world.clone() };
            if let backup::Step::Answer(Effect::Remove, Event::Ok) = step {
                next.made = Made::No;
            }
            if next.one.disk.published {
                next.linked = false;
            }
            (Step::Own(step), next)
        }));
    }

    /// The next run begins; everything that was held is free.
    fn restart(&self, world: &World) -> World {
        let mut next = world.clone();
        next.done |= Self::is_done(world);
        let (content, disk) = (self.content(world), world.one.disk);
        let synced = disk.synced;
        if Self::is_named(world) {
            let named = disk.dir_synced;
            next.archive = Some(Archive { content, synced, named });
        }
        if self.has_temporary(world) {
            next.left = Some(Left { content, synced });
        }
        next.run = Run::Opening;
        next.made = Made::No;
        next.linked = false;
        if let Some(one) = self.writing.initial().pop() {
            // Faults are few in all runs together.
            next.one = backup::World { faults: world.one.faults, ..one };
        }
        next
    }

    /// Everything that a power cut may leave.
    fn cuts(&self, world: &World, steps: &mut Vec<(Step, World)>) {
        let base = self.restart(world);
        let mut archives = Vec::new();
        match base.archive {
            None => archives.push(None),
            Some(archive) => {
                if !archive.named {
                    archives.push(None);
                }
                let contents = archive.content.torn(archive.synced);
                let whole =
                    |content| Archive { content, synced: true, named: true };
                archives.extend(contents.into_iter().map(whole).map(Some));
            }
        }
        let mut lefts = vec![None];
        if let Some(left) = base.left {
            let contents = left.content.torn(left.synced).into_iter();
            let kept = |content| Some(Left { content, synced: true });
            lefts.extend(contents.map(kept));
        }
        for archive in archives {
            for left in &lefts {
                let mut next = World { archive, left: *left, ..base.clone() };
                // It does not outlive the cut either. What it left is one
                // more leftover, like ours.
                next.other = Other::Over;
                steps.push((Step::PowerCut, next));
            }
        }
    }

    fn crash(&self, world: &World, steps: &mut Vec<(Step, World)>) {
        if world.crashes == 0 {
            return;
        }
        let crashes = world.crashes - 1;
        let base = World { crashes, ..world.clone() };
        if !Self::is_over(world) {
            steps.push((Step::Killed, self.restart(&base)));
        } else if !Self::is_done(world) {
            steps.push((Step::Again, self.restart(&base)));
        }
        self.cuts(&base, steps);
    }

    /// The other backup goes on.
    fn others(&self, world: &World, steps: &mut Vec<(Step, World)>) {
        let mut next = world.clone();
        next.other = match world.other {
            Other::Over => return,
            Other::Waits => {
                let mut ours = world.made;
                self.sweep(&mut next.left, &mut ours);
                if !Self::is_over(world) && !world.one.disk.published {
                    next.made = ours;
                }
                Other::Has(Made::No)
            }
            Other::Has(Made::No) => Other::Has(Made::Unlocked { there: true }),
            Other::Has(Made::Unlocked { there }) => {
                Other::Has(self.lock(there))
            }
            Other::Has(Made::Held { there }) => {
                // It is renamed; what has no name cannot be.
                next.hurt |= !there;
                Other::Over
            }
        };
        steps.push((Step::Other, next));
    }
}

impl Content {
    /// What a power cut may leave of it.
    pub(super) fn torn(self, synced: bool) -> Vec<Self> {
        match self {
            content if synced => vec![content],
            Self::Empty => vec![Self::Empty],
            Self::Part => vec![Self::Empty, Self::Part],
            Self::Whole => vec![Self::Empty, Self::Part, Self::Whole],
        }
    }
}

impl Model for WritingAgain {
    type State = World;
    type Step = Step;

    fn initial(&self) -> Vec<World> {
        let runs = self.writing.initial().into_iter();
        let beside = self.beside;
        runs.map(|one| World {
            run: Run::Opening,
            one,
            made: Made::No,
            linked: false,
            archive: None,
            left: None,
            done: false,
            crashes: self.crashes,
            other: if beside { Other::Waits } else { Other::Over },
            hurt: false,
        })
        .collect()
    }

    fn steps(&self, world: &World, steps: &mut Vec<(Step, World)>) {
        if world.one.no_row {
            return;
        }
        self.others(world, steps);
        self.crash(world, steps);
        let between = self.calls(world, steps);
        if world.run == Run::Going {
            self.own(world, between, steps);
        }
    }

    fn is_end(&self, world: &World) -> bool {
        Self::is_over(world) && world.other == Other::Over
    }

    fn properties(&self) -> Vec<Property<Self>> {
        super::backup_again_rules::properties(self)
    }

    fn actor(&self, step: &Step) -> usize {
        match step {
            Step::Own(own) => self.writing.actor(own),
            Step::Looked
            | Step::Swept
            | Step::Made
            | Step::Locked
            | Step::Linked => 0,
            Step::Other => 1,
            Step::Killed | Step::PowerCut | Step::Again => UNFAIR,
        }
    }
}
