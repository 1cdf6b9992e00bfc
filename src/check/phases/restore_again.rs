//! `restore`'s world with crashes, and with the run that comes after each.
//!
//! Lives here: what a killed process and a power cut leave of a run in
//! [`Reading`], what the next run into the same directory finds and does, and
//! who else is there. May not live here: a run's own steps (`restore`), what
//! must hold (`restore_again_rules`), or the table.
//!
//! To publish a file is several calls of the driver, and they are apart here:
//! its contents are synced, the directory above it is made, it is renamed,
//! names are synced. Files of qubes are in one directory; `qubes.xml` is
//! beside that. A file that is not published is in the run's stage.
//!
//! A power cut tears what was not synced: it may be empty, a part, or all
//! there. Of the names that were not synced any may be kept, and what was
//! under them before may come back. A kill takes nothing but the locks.

use core::ops::ControlFlow::{Break, Continue};

use super::archive::NAMES;
use super::backup_again::{Content, Made, Other};
use super::restore::{self, Fate, Reading};
use crate::check::liveness::UNFAIR;
use crate::check::{Model, Property};
use crate::fsm::restore::{Effect, End, Event, Failure, Restore};

/// Restores one after the other into one directory, each begun where a crash
/// left the one before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ReadingAgain {
    /// One run of them.
    pub reading: Reading,
    /// Crashes; an end that is not "done" is run again instead.
    pub crashes: u8,
    /// What is there is replaced.
    pub overwrite: bool,
    /// Who else is there.
    pub beside: Beside,
    /// What the driver does wrong.
    pub flaw: Flaw,
}

/// Who else is there.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Beside {
    /// Nobody.
    Nobody,
    /// Somebody who makes a file of the first qube's name, at any time.
    File,
    /// Another restore into the same directory, as far as its stage goes.
    Restore,
}

/// What a driver does wrong.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Flaw {
    /// Nothing.
    None,
    /// A file is written under its final name.
    InPlace,
    /// It is renamed, then its contents are synced.
    RenamedFirst,
    /// Its contents are never synced.
    Unsynced,
    /// Names are not synced.
    NamesUnsynced,
    /// The name of the directory that is restored into is not synced.
    TargetUnsynced,
    /// Stages have one name, and nobody sweeps.
    FixedName,
    /// Nobody sweeps.
    NotSwept,
    /// Who sweeps does not look at locks.
    SweepsHeld,
    /// Once it has the lock, it does not look whether the name is still there.
    NotLookedAgain,
    /// A rename replaces what is there, unasked.
    Replaces,
}

/// This run, what is in the directory, and whoever is beside it.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct World {
    /// How far this run is.
    pub run: Run,
    /// Its machine and its world.
    pub one: restore::World,
    /// How far the file at hand is published.
    pub call: Call,
    /// Its stage.
    pub stage: Made,
    /// A file was in the way of this run.
    pub refused: bool,
    /// The directory that is restored into.
    pub target: Name,
    /// The directory of the qubes' files in it.
    pub folder: Name,
    /// What stands under the final names, `qubes.xml` first.
    pub files: [File; NAMES],
    /// The stage of an earlier run: its files by number.
    pub left: Option<Stage>,
    /// An earlier run was done.
    pub done: bool,
    /// Crashes that are left.
    pub crashes: u8,
    /// Somebody may still make a file.
    pub theirs: bool,
    /// The other restore.
    pub other: Other,
    /// Something of somebody else's is gone.
    pub hurt: bool,
}

/// The files of a stage, by number; some are not there.
pub type Stage = [Option<Content>; NAMES];

/// How far a run is.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Run {
    /// It opens the directory, and makes it if it is missing.
    Opening,
    /// It syncs the name of that.
    Naming,
    /// It removes what the dead have left.
    Sweeping,
    /// It makes its stage.
    Staging,
    /// Its machine runs, or is over.
    Going,
    /// A leftover has the name of its stage: it does not begin.
    Blocked,
}

/// How far a file is published.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Call {
    /// Not begun.
    No,
    /// Its contents are on the disk, and nothing is in its way.
    Synced,
    /// It is renamed.
    Placed,
}

/// A directory.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Name {
    /// There is none.
    Absent,
    /// Its name is not on the disk.
    Fresh,
    /// It is.
    OnDisk,
}

/// What stands under a name.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct File {
    /// Now.
    pub now: What,
    /// What a power cut may bring back: the same, once the name is synced.
    pub before: What,
}

/// A file, or none.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum What {
    /// None.
    Nothing,
    /// Somebody else's.
    Theirs,
    /// Restored by this run or an earlier one.
    Ours {
        /// What is in it.
        content: Content,
        /// That is on the disk.
        synced: bool,
    },
}

/// What happened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// A step of this run's own world.
    Own(restore::Step),
    /// It opened the directory.
    Opened,
    /// It synced the name of that.
    Named,
    /// It removed a file of an old stage, or that stage.
    Swept,
    /// It made its stage.
    Staged,
    /// It locked that, and then looked whether its name is still there.
    Locked,
    /// Something is in the way of a file.
    InTheWay(Effect, Event),
    /// It synced the contents of a file.
    Synced,
    /// It made the directory above a file.
    Folder,
    /// It renamed a file.
    Placed,
    /// The process was killed, and the next run begins.
    Killed,
    /// The power was cut, and the next run begins.
    PowerCut,
    /// It has ended, and is run again.
    Again,
    /// Somebody made a file.
    Theirs,
    /// The other restore did what comes next.
    Other,
}

/// Something is in the way.
const EXISTS: Event = Event::Failed(Failure(2));
const NOTHING: File = File { now: What::Nothing, before: What::Nothing };

impl ReadingAgain {
    /// So many crashes of this run.
    pub fn new(reading: Reading, crashes: u8, overwrite: bool) -> Self {
        let (beside, flaw) = (Beside::Nobody, Flaw::None);
        Self { reading, crashes, overwrite, beside, flaw }
    }

    fn effect(&self, world: &World) -> Option<Effect> {
        let Run::Going = world.run else { return None };
        let plan = self.reading.plan;
        match (Restore { plan, state: world.one.state }).effect() {
            Continue(effect) => Some(effect),
            Break(_) => None,
        }
    }

    /// Whether the run has ended, well or not.
    pub(super) fn is_over(world: &World) -> bool {
        match world.run {
            Run::Opening | Run::Naming | Run::Sweeping | Run::Staging => false,
            Run::Going => Reading::end(&world.one).is_some(),
            Run::Blocked => true,
        }
    }

    pub(super) fn is_done(world: &World) -> bool {
        world.run == Run::Going && Reading::end(&world.one) == Some(End::Done)
    }

    /// The number and the name of the file that is published next.
    pub(super) fn placing(&self, world: &World) -> Option<(usize, usize)> {
        let number = match self.effect(world)? {
            Effect::Publish(file) => usize::from(file),
            Effect::Rename(_) => {
                let ready = |f: &Fate| matches!(f, Fate::Ready { .. });
                world.one.fates.iter().position(ready)?
            }
            Effect::Next
            | Effect::VerifyLead(..)
            | Effect::Parse
            | Effect::Verify(..)
            | Effect::Release(..)
            | Effect::Finish(_)
            | Effect::Drop(_)
            | Effect::Count { .. }
            | Effect::Bind
            | Effect::Decide
            | Effect::Stop => return None,
        };
        let name = world.one.numbers.name(number as u16);
        Some((number, usize::from(name)))
    }

    /// What is in the stage of this run.
    fn staged(&self, world: &World) -> Stage {
        let mut stage = [None; NAMES];
        if self.flaw == Flaw::InPlace {
            return stage;
        }
        for (file, fate) in stage.iter_mut().zip(&world.one.fates) {
            *file = match fate {
                Fate::Absent | Fate::Published | Fate::Lost => None,
                Fate::Writing => Some(Content::Part),
                Fate::Ready { .. } => Some(Content::Whole),
            };
        }
        if world.call == Call::Placed
            && let Some((number, _)) = self.placing(world)
        {
            stage[number] = None;
        }
        stage
    }

    fn has_stage(world: &World) -> bool {
        match world.stage {
            Made::No => false,
            Made::Unlocked { there } | Made::Held { there } => there,
        }
    }

    /// Of a stage that may not be locked yet.
    fn sweep(&self, made: &mut Made) {
        if matches!(self.flaw, Flaw::FixedName | Flaw::NotSwept) {
            return;
        }
        match made {
            Made::Unlocked { there } => *there = false,
            Made::Held { there } if self.flaw == Flaw::SweepsHeld => {
                *there = false;
            }
            Made::No | Made::Held { .. } => {}
        }
    }

    fn lock(&self, there: bool) -> Made {
        if there || self.flaw == Flaw::NotLookedAgain {
            Made::Held { there }
        } else {
            Made::No
        }
    }

    /// What comes before the machine.
    fn begins(&self, world: &World, steps: &mut Vec<(Step, World)>) {
        let mut next = world.clone();
        let step = match world.run {
            Run::Opening => {
                if world.target == Name::Absent {
                    next.target = Name::Fresh;
                }
                next.run = Run::Naming;
                Step::Opened
            }
            Run::Naming => {
                // Whoever made it may have been killed before this.
                if self.flaw != Flaw::TargetUnsynced {
                    next.target = Name::OnDisk;
                }
                next.run = Run::Sweeping;
                Step::Named
            }
            Run::Sweeping => {
                self.sweeps(&mut next);
                Step::Swept
            }
            Run::Staging => match world.stage {
                Made::No
                    if self.flaw == Flaw::FixedName && world.left.is_some() =>
                {
                    next.run = Run::Blocked;
                    Step::Staged
                }
                Made::No => {
                    next.stage = Made::Unlocked { there: true };
                    Step::Staged
                }
                Made::Unlocked { there } | Made::Held { there } => {
                    next.stage = self.lock(there);
                    if let Made::Held { .. } = next.stage {
                        next.run = Run::Going;
                    }
                    Step::Locked
                }
            },
            Run::Going | Run::Blocked => return,
        };
        steps.push((step, next));
    }

    /// What the dead have left goes file by file, then whatever nobody holds.
    fn sweeps(&self, next: &mut World) {
        let kept = matches!(self.flaw, Flaw::FixedName | Flaw::NotSwept);
        if let Some(stage) = next.left.as_mut().filter(|_| !kept) {
            match stage.iter_mut().find(|file| file.is_some()) {
                Some(file) => *file = None,
                None => next.left = None,
            }
            return;
        }
        if let Other::Has(made) = &mut next.other {
            self.sweep(made);
        }
        next.run = Run::Staging;
    }

    /// A file is in the way: the machine is told so.
    fn refuse(
        &self,
        world: &World,
        effect: Effect,
        steps: &mut Vec<(Step, World)>,
    ) {
        let (plan, state) = (self.reading.plan, world.one.state);
        let mut next = world.clone();
        match (Restore { plan, state }).step(EXISTS) {
            Ok(machine) => next.one.state = machine.state,
            Err(_) => next.one.no_row = true,
        }
        next.call = Call::No;
        next.refused = true;
        steps.push((Step::InTheWay(effect, EXISTS), next));
    }

    fn is_in_the_way(&self, world: &World, name: usize) -> bool {
        let replaces = self.overwrite || self.flaw == Flaw::Replaces;
        let own = self.flaw == Flaw::InPlace;
        !replaces && !own && world.files[name].now != What::Nothing
    }

    /// A call of the driver before the answer to what the machine asks for.
    fn calls(&self, world: &World, steps: &mut Vec<(Step, World)>) -> bool {
        let Some(effect) = self.effect(world) else { return false };
        let begun = world.call != Call::No;
        if world.one.gate.is_canceled() && !begun && !effect.is_cleanup() {
            return false;
        }
        // What every qube has is looked for when `qubes.xml` is there.
        if effect == Effect::Finish(0) {
            let mut names = 0..=usize::from(self.reading.archive.files);
            let found = names.any(|name| self.is_in_the_way(world, name));
            if found {
                self.refuse(world, effect, steps);
            }
            return found;
        }
        let Some((number, name)) = self.placing(world) else { return false };
        let whole = match world.one.fates[number] {
            Fate::Ready { whole, .. } => whole,
            Fate::Absent | Fate::Writing | Fate::Published | Fate::Lost => {
                false
            }
        };
        let mut next = world.clone();
        let step = match world.call {
            Call::Placed => return false,
            Call::No | Call::Synced if self.is_in_the_way(world, name) => {
                self.refuse(world, effect, steps);
                return true;
            }
            Call::No => {
                next.call = Call::Synced;
                Step::Synced
            }
            Call::Synced if name > 0 && world.folder == Name::Absent => {
                next.folder = Name::Fresh;
                Step::Folder
            }
            Call::Synced => {
                let late = [Flaw::RenamedFirst, Flaw::Unsynced];
                let synced = !late.contains(&self.flaw);
                let content =
                    if whole { Content::Whole } else { Content::Part };
                let file = &mut next.files[name];
                next.hurt |= file.now == What::Theirs && !self.overwrite;
                file.now = What::Ours { content, synced };
                next.call = Call::Placed;
                Step::Placed
            }
        };
        steps.push((step, next));
        true
    }

    /// What a step of the run's own world did to the directory.
    fn settle(&self, world: &World, step: restore::Step, next: &mut World) {
        let restore::Step::Answer(effect, event) = step else { return };
        match (effect, event) {
            (Effect::Publish(_) | Effect::Rename(_), event) => {
                next.call = Call::No;
                let failed = matches!(event, Event::Failed(_));
                let placed = self.placing(world).filter(|_| !failed);
                if let Some((_, name)) = placed {
                    self.sync_names(name, next);
                }
            }
            (Effect::Release(at, _), Event::Released)
                if self.flaw == Flaw::InPlace =>
            {
                let name = usize::from(next.one.numbers.name(at.file));
                let (content, synced) = (Content::Part, false);
                next.files[name].now = What::Ours { content, synced };
                next.folder = if name > 0 { Name::Fresh } else { next.folder };
            }
            (Effect::Stop, _) => next.stage = Made::No,
            _ => {}
        }
    }

    /// The last calls of publishing.
    fn sync_names(&self, name: usize, next: &mut World) {
        if self.flaw == Flaw::RenamedFirst
            && let What::Ours { synced, .. } = &mut next.files[name].now
        {
            *synced = true;
        }
        if self.flaw == Flaw::NamesUnsynced {
            return;
        }
        if next.folder == Name::Fresh {
            next.folder = Name::OnDisk;
        }
        // Of one directory all names are; the other one's only if the file
        // is in it.
        for (at, file) in next.files.iter_mut().enumerate() {
            if name > 0 || at == 0 {
                file.before = file.now;
            }
        }
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
        self.reading.steps(&world.one, &mut own);
        let is_first = world.call == Call::No;
        let kept = |step: &restore::Step| match step {
            restore::Step::Cancel => is_first,
            restore::Step::Answer(_, Event::Failed(_)) => is_first || !between,
            restore::Step::Answer(..) | restore::Step::Edit(..) => !between,
        };
        own.retain(|(step, _)| kept(step));
        steps.extend(own.into_iter().map(|(step, one)| {
            let mut next = World { one, ..world.clone() };
            self.settle(world, step, &mut next);
            (Step::Own(step), next)
        }));
    }

    /// The next run begins; everything that was held is free.
    fn restart(&self, world: &World) -> World {
        let mut next = world.clone();
        next.done |= Self::is_done(world);
        if Self::has_stage(world) {
            next.left = Some(self.staged(world));
        }
        next.run = Run::Opening;
        next.stage = Made::No;
        next.call = Call::No;
        next.refused = false;
        if let Some(one) = self.reading.initial().pop() {
            let old = &world.one;
            // In all runs together; and what was done wrong stays so.
            next.one = restore::World {
                edits: old.edits,
                faults: old.faults,
                wrong: old.wrong,
                ..one
            };
        }
        next
    }

    /// Everything that a power cut may leave.
    fn cuts(&self, world: &World, steps: &mut Vec<(Step, World)>) {
        let mut base = self.restart(world);
        // It does not outlive the cut either.
        base.other = Other::Over;
        let mut left = vec![base.clone()];
        if let Some(stage) = base.left {
            let synced = self.placing(world).filter(|_| {
                world.call == Call::Synced && self.flaw != Flaw::Unsynced
            });
            let synced = synced.map(|(number, _)| number);
            let mut stages = stages(stage, synced);
            // Before a sweep a stage is no run's own, and all of it is old.
            if !Self::has_stage(world) {
                stages = vec![stage];
            }
            left.extend(
                stages
                    .into_iter()
                    .map(|stage| World { left: Some(stage), ..base.clone() }),
            );
            left[0].left = None;
        }
        for name in 0..NAMES {
            let mut all = Vec::new();
            for world in left {
                for what in cut(world.files[name]) {
                    let mut next = world.clone();
                    next.files[name] = File { now: what, before: what };
                    all.push(next);
                }
            }
            left = all;
        }
        for mut next in left {
            let (_, inside) = next.files.split_at(1);
            let is_used = inside.iter().any(|f| f.now != What::Nothing);
            match (next.folder, is_used) {
                (Name::Fresh, false) => {
                    let mut gone = next.clone();
                    gone.folder = Name::Absent;
                    next.folder = Name::OnDisk;
                    self.cut_target(gone, steps);
                }
                (Name::Fresh, true) => next.folder = Name::OnDisk,
                (Name::Absent | Name::OnDisk, _) => {}
            }
            self.cut_target(next, steps);
        }
    }

    /// The directory may be gone itself, and all that is in it.
    fn cut_target(&self, mut next: World, steps: &mut Vec<(Step, World)>) {
        if next.target == Name::Fresh {
            let gone = World {
                target: Name::Absent,
                folder: Name::Absent,
                files: [NOTHING; NAMES],
                left: None,
                ..next.clone()
            };
            steps.push((Step::PowerCut, gone));
            next.target = Name::OnDisk;
        }
        steps.push((Step::PowerCut, next));
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

    /// Whoever is beside us goes on.
    fn others(&self, world: &World, steps: &mut Vec<(Step, World)>) {
        let mut next = world.clone();
        if world.theirs
            && world.target == Name::OnDisk
            && world.files[1].now == What::Nothing
        {
            let theirs = World { theirs: false, ..next.clone() };
            let theirs = World { folder: Name::OnDisk, ..theirs };
            let file = File { now: What::Theirs, before: What::Theirs };
            let mut files = theirs.files;
            files[1] = file;
            steps.push((Step::Theirs, World { files, ..theirs }));
        }
        next.other = match world.other {
            Other::Over => return,
            // It has the directory open, and so there is one.
            Other::Waits if world.target == Name::Absent => return,
            Other::Waits => {
                self.sweep(&mut next.stage);
                if self.flaw != Flaw::NotSwept {
                    next.left = None;
                }
                Other::Has(Made::No)
            }
            Other::Has(Made::No) => Other::Has(Made::Unlocked { there: true }),
            Other::Has(Made::Unlocked { there }) => {
                Other::Has(self.lock(there))
            }
            Other::Has(Made::Held { there }) => {
                // What it staged is published; or nothing is there any more.
                next.hurt |= !there;
                Other::Over
            }
        };
        steps.push((Step::Other, next));
    }
}

/// What a power cut may leave under a name.
fn cut(file: File) -> Vec<What> {
    let mut all = Vec::new();
    for what in [file.now, file.before] {
        let whats = match what {
            What::Nothing | What::Theirs => vec![what],
            What::Ours { content, synced } => {
                let contents = content.torn(synced).into_iter();
                let ours = |content| What::Ours { content, synced: true };
                contents.map(ours).collect()
            }
        };
        all.extend(whats);
        if file.now == file.before {
            break;
        }
    }
    all
}

/// What a power cut may leave of a stage; one file's contents are synced.
fn stages(stage: Stage, synced: Option<usize>) -> Vec<Stage> {
    let mut all = vec![stage];
    for (number, file) in stage.into_iter().enumerate() {
        let Some(content) = file else { continue };
        let torn = content.torn(synced == Some(number)).into_iter();
        let left: Vec<_> = torn.map(Some).chain([None]).collect();
        all = all
            .into_iter()
            .flat_map(|stage| {
                left.iter().map(move |file| {
                    let mut stage = stage;
                    stage[number] = *file;
                    stage
                })
            })
            .collect();
    }
    all
}

impl Model for ReadingAgain {
    type State = World;
    type Step = Step;

    fn initial(&self) -> Vec<World> {
        let runs = self.reading.initial().into_iter();
        let other = match self.beside {
            Beside::Nobody | Beside::File => Other::Over,
            Beside::Restore => Other::Waits,
        };
        runs.map(|one| World {
            run: Run::Opening,
            one,
            call: Call::No,
            stage: Made::No,
            refused: false,
            target: Name::Absent,
            folder: Name::Absent,
            files: [NOTHING; NAMES],
            left: None,
            done: false,
            crashes: self.crashes,
            theirs: self.beside == Beside::File,
            other,
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
        self.begins(world, steps);
        if world.run == Run::Going {
            let between = self.calls(world, steps);
            self.own(world, between, steps);
        }
    }

    fn is_end(&self, world: &World) -> bool {
        Self::is_over(world) && world.other == Other::Over
    }

    fn properties(&self) -> Vec<Property<Self>> {
        super::restore_again_rules::properties(self)
    }

    fn actor(&self, step: &Step) -> usize {
        match step {
            Step::Own(own) => self.reading.actor(own),
            Step::Opened
            | Step::Named
            | Step::Swept
            | Step::Staged
            | Step::Locked
            | Step::InTheWay(..)
            | Step::Synced
            | Step::Folder
            | Step::Placed => 0,
            Step::Other => 1,
            Step::Killed | Step::PowerCut | Step::Again | Step::Theirs => {
                UNFAIR
            }
        }
    }
}
