//! The world of `fsm::backup`: files to back up, faults, a cancel, a power cut.
//!
//! Lives here: what makes a file's stream, what was written, the disk, and how
//! the driver answers each effect. May not live here: what must hold
//! (`backup_rules`), or the table.
//!
//! Lengths are counted in halves of a chunk, so that a chunk is full, half
//! full or empty.

use core::ops::ControlFlow::{Break, Continue};

use crate::check::liveness::UNFAIR;
use crate::check::{Model, Property};
use crate::fsm::backup::{
    At, Backup, Effect, Event, Failure, Over, Plan, State, Target,
};
use crate::fsm::cancel::{Cancel, Child, Gate};

/// Files that a world can have.
pub const FILES: usize = 3;
/// Halves of a chunk.
pub const CHUNK: u8 = 2;

/// One backup, and what happens while it is made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Writing {
    /// What is wanted, and with it which mutant of the machine.
    pub plan: Plan,
    /// Halves of a chunk in each file; of those that the plan has.
    pub lengths: [u8; FILES],
    /// Calls that fail, children that die.
    pub faults: u8,
    /// Somebody may cancel.
    pub cancel: bool,
    /// The power may be cut.
    pub power: bool,
    /// What the driver does wrong.
    pub flaw: Flaw,
}

/// What a driver does wrong.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Flaw {
    /// Nothing.
    None,
    /// It writes under the final name.
    FinalName,
    /// A full chunk is taken for one with more behind it: no look ahead.
    NoLookAhead,
    /// The byte that it looked at is lost.
    ByteLost,
    /// The numbers of chunks go on from file to file.
    NumbersGoOn,
    /// What children say is read after they have ended.
    StderrLate,
    /// What children say is thrown away.
    StderrLost,
    /// A child that a cancel has killed counts as a failure.
    KilledFails,
}

/// Machine, driver, disk, and what must be remembered for B1 to B8.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct World {
    /// The machine.
    pub state: State,
    /// Canceled or decided.
    pub gate: Gate,
    /// A cancel was accepted.
    pub accepted: bool,
    /// Faults that are left.
    pub faults: u8,
    /// The first failure there was.
    pub first: Option<Failure>,
    /// It was a child's.
    pub child_failed: bool,
    /// What it said is kept.
    pub said: bool,
    /// What makes the stream of the open file.
    pub source: Source,
    /// What was written.
    pub written: Written,
    /// Where it is.
    pub disk: Disk,
    /// After a power cut: what is under the final name.
    pub cut: Option<Found>,
    /// The machine has no row for what it was told: a deadlock.
    pub no_row: bool,
}

/// What makes the stream of a file.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Source {
    /// Nothing runs.
    None,
    /// It runs; so much was taken.
    Running {
        /// Halves that were taken.
        taken: u8,
        /// Halves that the chunk at hand has, and where they begin.
        chunk: (u8, u8),
    },
    /// It has died; its output ended there.
    Dead {
        /// Halves that the chunk at hand has, and where they begin.
        chunk: (u8, u8),
    },
}

/// The archive as far as it was written.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Written {
    /// The header, then its mac.
    pub header: u8,
    /// The file of the last chunk.
    pub file: u8,
    /// Chunks of it.
    pub chunks: u8,
    /// Halves of it that have their mac.
    pub halves: u8,
    /// Halves of the last chunk, if its mac is not there yet.
    pub pending: Option<u8>,
    /// Something is out of order, or lost.
    pub broken: bool,
    /// A chunk of nothing follows others.
    pub extra: bool,
    /// Something of a child that ended badly has its mac.
    pub dead: bool,
}

/// The target on disk, or the stream.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Disk {
    /// There is a temporary file.
    pub temporary: bool,
    /// The final name exists.
    pub published: bool,
    /// All that was written is on disk.
    pub synced: bool,
    /// The name is.
    pub dir_synced: bool,
    /// The stream was closed, with a good verdict.
    pub closed: bool,
}

/// What is under the final name after a power cut.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// The archive.
    Whole,
    /// Something else.
    Torn,
}

/// What happened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// The machine was answered.
    Answer(Effect, Event),
    /// A call failed.
    Fails(Effect, Event),
    /// The child that makes the stream died, and its output with it.
    Dies(Effect, Event),
    /// Somebody canceled.
    Cancel,
    /// The power was cut.
    PowerCut,
    /// Nothing, for ever.
    Wait,
}

const ARCHIVER: Child = Child(0);
/// Of a child that we have killed ourselves: no failure, so none of those
/// that are counted.
const KILLED: Failure = Failure(0);

impl Writing {
    /// So many files; nobody does it harm.
    pub fn honest(target: Target, lengths: &[u8]) -> Self {
        let mut all = [0; FILES];
        for (to, from) in all.iter_mut().zip(lengths) {
            *to = *from;
        }
        let files = lengths.len().min(FILES) as u16;
        let variant = Default::default();
        Self {
            plan: Plan { files, target, variant },
            lengths: all,
            faults: 0,
            cancel: false,
            power: false,
            flaw: Flaw::None,
        }
    }

    /// The same with so many faults, a cancel, and a power cut if it goes to
    /// a file.
    pub fn troubled(target: Target, lengths: &[u8], faults: u8) -> Self {
        let power = target == Target::File;
        let honest = Self::honest(target, lengths);
        Self { faults, cancel: true, power, ..honest }
    }

    fn machine(&self, world: &World) -> Backup {
        Backup { plan: self.plan, state: world.state }
    }

    pub(crate) fn length(&self, file: u8) -> u8 {
        self.lengths.get(usize::from(file)).copied().unwrap_or_default()
    }

    pub(super) fn end(world: &World) -> Option<Over> {
        match world.state {
            State::Over(over) => Some(over),
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
            | State::Renaming
            | State::SyncingDir
            | State::Closing
            | State::Stopping(_)
            | State::Removing(_) => None,
        }
    }

    /// A strict reader would take what was written for a whole archive.
    pub(super) fn is_whole(&self, written: &Written) -> bool {
        u16::from(written.file) + 1 == self.plan.files
            && self.is_file_whole(written)
    }

    fn is_file_whole(&self, written: &Written) -> bool {
        !written.broken
            && written.header == 2
            && written.pending.is_none()
            && written.chunks > 0
            && written.halves == self.length(written.file)
    }

    /// A child must not end up in the archive half: what it gave has a mac
    /// only while it runs, or after it ended well.
    fn chunk(&self, next: &mut World, at: At) {
        let (Source::Running { chunk, .. } | Source::Dead { chunk }) =
            next.source
        else {
            next.written.broken = true;
            return;
        };
        let number = match self.flaw {
            Flaw::NumbersGoOn => at.chunk + u32::from(at.file),
            Flaw::None
            | Flaw::FinalName
            | Flaw::NoLookAhead
            | Flaw::ByteLost
            | Flaw::StderrLate
            | Flaw::StderrLost
            | Flaw::KilledFails => at.chunk,
        };
        let (halves, start) = chunk;
        let file = at.file as u8;
        let begins =
            file == next.written.file + 1 && self.is_file_whole(&next.written);
        let written = &mut next.written;
        if begins {
            (written.file, written.chunks, written.halves) = (file, 0, 0);
        }
        let follows = written.file == file
            && written.header == 2
            && number == u32::from(written.chunks)
            && start == written.halves
            && written.pending.is_none();
        written.broken |= !follows;
        written.extra |= halves == 0 && number > 0;
        written.pending = Some(halves);
        written.chunks = written.chunks.saturating_add(1);
    }

    fn mac(next: &mut World, at: At) {
        let dead = matches!(next.source, Source::Dead { .. });
        let written = &mut next.written;
        let number = u32::from(written.chunks);
        let fits = u16::from(written.file) == at.file
            && number.checked_sub(1).is_some();
        match written.pending.take() {
            Some(halves) if fits => written.halves += halves,
            Some(_) | None => written.broken = true,
        }
        written.dead |= dead;
    }

    /// The stream of the open file gives a chunk.
    fn fill(&self, next: &mut World, at: At) -> Event {
        let Source::Running { taken, .. } = next.source else {
            return Event::Filled { more: false };
        };
        let left = self.length(at.file as u8).saturating_sub(taken);
        let halves = left.min(CHUNK);
        let full = halves == CHUNK;
        let more = match self.flaw {
            Flaw::NoLookAhead => full,
            Flaw::None
            | Flaw::FinalName
            | Flaw::ByteLost
            | Flaw::NumbersGoOn
            | Flaw::StderrLate
            | Flaw::StderrLost
            | Flaw::KilledFails => left > CHUNK,
        };
        let lost = u8::from(more && self.flaw == Flaw::ByteLost);
        let taken_now = taken.saturating_add(halves).saturating_add(lost);
        let chunk = (halves, taken);
        next.source = Source::Running { taken: taken_now, chunk };
        Event::Filled { more }
    }

    /// The child dies instead: its output ends in the middle, or it is padded
    /// to its length and only its exit status tells.
    fn die(&self, world: &World, at: At, steps: &mut Vec<(Step, World)>) {
        let Source::Running { taken, .. } = world.source else { return };
        let left = self.length(at.file as u8).saturating_sub(taken);
        let event = Event::Filled { more: false };
        // One byte of a chunk behind others was seen before.
        for halves in [u8::from(at.chunk > 0), left.min(CHUNK)] {
            let mut next = world.clone();
            next.faults -= 1;
            next.source = Source::Dead { chunk: (halves, taken) };
            self.push(next, Step::Dies(Effect::Fill(at), event), event, steps);
        }
    }

    /// How the driver answers.
    fn perform(&self, next: &mut World, effect: Effect) -> Event {
        match effect {
            Effect::Create => {
                let file = self.plan.target == Target::File;
                let named = self.flaw == Flaw::FinalName;
                next.disk.temporary = file && !named;
                next.disk.published = file && named;
                Event::Ok
            }
            Effect::EmitHeader | Effect::EmitHeaderMac => {
                next.written.header += 1;
                Event::Ok
            }
            Effect::Open(_) => match next.gate.register(ARCHIVER) {
                Ok(()) => {
                    let (taken, chunk) = (0, (0, 0));
                    next.source = Source::Running { taken, chunk };
                    Event::Ok
                }
                Err(_) => Event::Canceled,
            },
            Effect::Fill(at) => self.fill(next, at),
            Effect::Emit(at) => {
                self.chunk(next, at);
                next.disk.synced = false;
                Event::Ok
            }
            Effect::EmitMac(at) => {
                Self::mac(next, at);
                next.disk.synced = false;
                Event::Ok
            }
            Effect::Reap(_) => {
                next.gate.forget(ARCHIVER);
                let died = matches!(next.source, Source::Dead { .. });
                // The chunk at hand stays in memory.
                if died { self.blame(next, true) } else { Event::Ok }
            }
            Effect::Sync => {
                next.disk.synced = true;
                Event::Ok
            }
            Effect::Decide => match next.gate.decide() {
                Ok(()) => Event::Ok,
                Err(_) => Event::Canceled,
            },
            Effect::Rename => {
                next.disk.temporary = false;
                next.disk.published = true;
                Event::Ok
            }
            Effect::SyncDir => {
                next.disk.dir_synced = true;
                Event::Ok
            }
            Effect::Close => {
                next.disk.closed = true;
                Event::Ok
            }
            Effect::Stop => {
                next.gate.forget(ARCHIVER);
                next.source = Source::None;
                Event::Ok
            }
            Effect::Remove => {
                next.disk.temporary = false;
                Event::Ok
            }
        }
    }

    /// A failure, numbered in their order.
    fn blame(&self, next: &mut World, child: bool) -> Event {
        let number = self.faults - next.faults;
        let failure = Failure(u16::from(number));
        if next.first.is_none() {
            next.first = Some(failure);
            next.child_failed = child;
            next.said = self.flaw != Flaw::StderrLost;
        }
        Event::Failed(failure)
    }

    /// Pushes `next` with the machine after `event`; a refusal is a deadlock.
    fn push(
        &self,
        mut next: World,
        step: Step,
        event: Event,
        steps: &mut Vec<(Step, World)>,
    ) {
        match self.machine(&next).step(event) {
            Ok(machine) => next.state = machine.state,
            Err(_) => next.no_row = true,
        }
        if let State::Opening(_) | State::Over(_) = next.state
            && next.gate.running().next().is_none()
        {
            next.source = Source::None;
        }
        steps.push((step, next));
    }

    /// What may be under the final name after a power cut.
    fn cuts(&self, world: &World, steps: &mut Vec<(Step, World)>) {
        let disk = world.disk;
        let mut found = Vec::new();
        if !disk.published || !disk.dir_synced {
            found.push(Found::Nothing);
        }
        if disk.published {
            if disk.synced {
                found.push(if self.is_whole(&world.written) {
                    Found::Whole
                } else {
                    Found::Torn
                });
            } else {
                found.push(Found::Torn);
            }
        }
        for found in found {
            let next = World { cut: Some(found), ..world.clone() };
            steps.push((Step::PowerCut, next));
        }
    }

    /// A call fails.
    fn fail(
        &self,
        world: &World,
        effect: Effect,
        steps: &mut Vec<(Step, World)>,
    ) {
        let mut next = world.clone();
        next.faults -= 1;
        let event = self.blame(&mut next, false);
        self.push(next, Step::Fails(effect, event), event, steps);
    }
}

impl Model for Writing {
    type State = World;
    type Step = Step;

    fn initial(&self) -> Vec<World> {
        vec![World {
            state: State::Creating,
            gate: Gate::default(),
            accepted: false,
            faults: self.faults,
            first: None,
            child_failed: false,
            said: true,
            source: Source::None,
            written: Written::default(),
            disk: Disk::default(),
            cut: None,
            no_row: false,
        }]
    }

    fn steps(&self, world: &World, steps: &mut Vec<(Step, World)>) {
        if world.cut.is_some() || world.no_row {
            return;
        }
        if self.power {
            self.cuts(world, steps);
        }
        let effect = match self.machine(world).effect() {
            Continue(effect) => effect,
            Break(_) => return,
        };
        if self.cancel && !world.accepted {
            let mut next = world.clone();
            if next.gate.cancel() == Cancel::Accepted {
                next.accepted = true;
                steps.push((Step::Cancel, next));
            }
        }
        if world.gate.is_canceled() && !effect.is_cleanup() {
            let killed = matches!(world.source, Source::Running { .. })
                && effect != Effect::Decide;
            let event = if killed && self.flaw == Flaw::KilledFails {
                Event::Failed(KILLED)
            } else {
                Event::Canceled
            };
            let step = Step::Answer(effect, event);
            self.push(world.clone(), step, event, steps);
            return;
        }
        if matches!(effect, Effect::Fill(_)) && self.flaw == Flaw::StderrLate {
            // Its stderr is full, and it waits for us as we for it.
            steps.push((Step::Wait, world.clone()));
            return;
        }
        // What cannot be stopped is named in the report, as by `restore`.
        if world.faults > 0 && !matches!(effect, Effect::Decide | Effect::Stop)
        {
            self.fail(world, effect, steps);
            if let Effect::Fill(at) = effect {
                self.die(world, at, steps);
            }
        }
        let mut next = world.clone();
        let event = self.perform(&mut next, effect);
        self.push(next, Step::Answer(effect, event), event, steps);
    }

    fn is_end(&self, world: &World) -> bool {
        world.cut.is_some() || Self::end(world).is_some()
    }

    fn properties(&self) -> Vec<Property<Self>> {
        super::backup_rules::properties(self)
    }

    fn actor(&self, step: &Step) -> usize {
        match step {
            Step::Answer(..) | Step::Wait => 0,
            Step::Fails(..)
            | Step::Dies(..)
            | Step::Cancel
            | Step::PowerCut => UNFAIR,
        }
    }
}
