//! The world of `fsm::restore`: an archive, an attacker, faults, a cancel.
//!
//! Lives here: how the driver answers each effect, and what an attacker can
//! do to the next member. May not live here: the archive and its decoder
//! (`archive`), what must hold (`restore_rules`), or the table.

use core::ops::ControlFlow::{Break, Continue};

use super::archive::{
    Archive, Canon, Content, Decoder, NAMES, Numbers, Piece, Spot,
};
use crate::check::liveness::UNFAIR;
use crate::check::{Model, Property};
use crate::fsm::cancel::{Cancel, Gate};
use crate::fsm::restore::{
    Effect, End, Event, Failure, Lead, Member, Plan, Restore, State,
};

/// One archive, and what happens while it is read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Reading {
    /// What is wanted, and with it which mutant of the machine.
    pub plan: Plan,
    /// The archive as it was written.
    pub archive: Archive,
    /// What binds its chunks.
    pub binding: Binding,
    /// Edits of the attacker.
    pub edits: u8,
    /// Calls that fail.
    pub faults: u8,
    /// Somebody may cancel.
    pub cancel: bool,
    /// Names are noted, for R9; it costs states.
    pub names: bool,
    /// What the driver does wrong.
    pub flaw: Flaw,
}

/// What binds chunks to their names and to this backup.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Binding {
    /// Nothing: plain format 3.
    Nothing,
    /// A filter's checksum binds those of one file: gzip, xz.
    Checksum,
    /// Each mac: format 4, or a manifest that is read first.
    PerChunk,
    /// A manifest that is read last; it says something only with `hold`.
    ManifestAtEnd,
}

/// What a driver does wrong.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Flaw {
    /// Nothing.
    None,
    /// Any end of a decoder is taken for the inner end of archive.
    AnyEnd,
    /// Temporary files stay.
    LeavesTemporary,
    /// No number is reserved for `qubes.xml`.
    IndexAnywhere,
    /// A count that is complete is reported in the words of the manifest, for
    /// which the machine has no row.
    CountMisworded,
}

/// Machine, driver, attacker, and what must be remembered for R1 to R10.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct World {
    /// The machine.
    pub state: State,
    /// Canceled or decided.
    pub gate: Gate,
    /// A cancel was accepted.
    pub accepted: bool,
    /// The place of the next member.
    pub place: u8,
    /// Edits that are left.
    pub edits: u8,
    /// Faults that are left.
    pub faults: u8,
    /// Numbers of files.
    pub numbers: Numbers,
    /// The chunk in memory.
    pub chunk: Option<Chunk>,
    /// The header or its mac was read and is as it was written.
    pub header: bool,
    /// The decoder of the file that is open.
    pub decoder: Decoder,
    /// What became of each file, by number.
    pub fates: [Fate; NAMES],
    /// Names, if they are noted.
    pub canon: Canon,
    /// What went wrong.
    pub wrong: Wrong,
    /// The machine has no row for what it was told: a deadlock.
    pub no_row: bool,
}

/// A chunk in memory.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Chunk {
    /// The name it came under.
    pub name: Spot,
    /// What is in it.
    pub content: Content,
    /// Where it stood.
    pub place: u8,
    /// The mac behind it is that of its content.
    pub fits: bool,
    /// Its mac was verified with the archive's digest.
    pub verified: bool,
}

/// What became of a file.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Fate {
    /// Nothing of it was written.
    #[default]
    Absent,
    /// It is being written, under a temporary name.
    Writing,
    /// It is complete, as far as the decoder knows.
    Ready {
        /// From begin to inner end, under its own name.
        whole: bool,
        /// What was backed up.
        exact: bool,
    },
    /// It has its name.
    Published,
    /// It was given up.
    Lost,
}

/// Violations that a state cannot show later.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Wrong {
    /// R1: the decoder got a chunk that was not verified.
    pub early: bool,
    /// R2: a file was published that is not whole.
    pub torn: bool,
    /// R3: a file was published that was not backed up.
    pub other: bool,
    /// The same for `qubes.xml`.
    pub other_index: bool,
}

/// What happened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// The machine was answered.
    Answer(Effect, Event),
    /// The attacker changed what comes next.
    Edit(Edit, Event),
    /// Somebody canceled.
    Cancel,
}

/// One change of an archive.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Edit {
    /// It goes on at another place; the last place is a cut.
    Jump(u8),
    /// A chunk, with the mac that fits, has other content.
    Content(Content),
    /// A chunk and its mac, or a mac, have another name.
    Name(Spot),
}

const FAULT: Event = Event::Failed(Failure(0));
const BROKEN: Event = Event::Failed(Failure(1));

impl Reading {
    /// An archive of so many files with so many chunks, bound chunk by chunk
    /// and made with the first digest of three; nobody does it harm.
    pub fn honest(files: u8, chunks: u8) -> Self {
        let digest = 0;
        Self {
            plan: Plan { digests: 3, ..Plan::default() },
            archive: Archive { files, chunks, digest, headerless: false },
            binding: Binding::PerChunk,
            edits: 0,
            faults: 0,
            cancel: false,
            names: false,
            flaw: Flaw::None,
        }
    }

    /// The same with so many edits, one fault and a cancel.
    pub fn attacked(files: u8, chunks: u8, edits: u8) -> Self {
        let honest = Self::honest(files, chunks);
        Self { edits, faults: 1, cancel: true, ..honest }
    }

    pub(super) fn is_honest(&self) -> bool {
        self.edits == 0 && self.faults == 0 && !self.cancel
    }

    fn machine(&self, world: &World) -> Restore {
        Restore { plan: self.plan, state: world.state }
    }

    /// Every way in which the next member can come.
    fn members(&self, world: &World, steps: &mut Vec<(Step, World)>) {
        let place = world.place;
        let piece = self.archive.piece(place);
        let (event, next) = self.serve(world, place, None);
        self.push(next, Step::Answer(Effect::Next, event), event, steps);
        if world.edits == 0 {
            return;
        }
        let mut edits = Vec::new();
        let others = (0..=self.archive.len()).filter(|p| *p != place);
        edits.extend(others.map(Edit::Jump));
        if let Piece::Chunk(own) | Piece::Mac(own) = piece {
            let spots = self.archive.spots();
            let others: Vec<_> = spots.filter(|spot| *spot != own).collect();
            edits.extend(others.iter().copied().map(Edit::Name));
            if matches!(piece, Piece::Chunk(_)) {
                let moved = others.into_iter().map(Content::This);
                let new = [Content::Older(own), Content::Forged];
                edits.extend(moved.chain(new).map(Edit::Content));
            }
        }
        for edit in edits {
            let place = match edit {
                Edit::Jump(to) => to,
                Edit::Content(_) | Edit::Name(_) => place,
            };
            let (event, mut next) = self.serve(world, place, Some(edit));
            next.edits -= 1;
            self.push(next, Step::Edit(edit, event), event, steps);
        }
    }

    /// The member at `place`, with this edit.
    fn serve(
        &self,
        world: &World,
        place: u8,
        edit: Option<Edit>,
    ) -> (Event, World) {
        let mut next = world.clone();
        next.place = (place + 1).min(self.archive.len());
        let mut piece = self.archive.piece(place);
        let event = match piece {
            Piece::Header => Event::Named(Member::Header),
            Piece::HeaderMac => {
                next.header = place == world.place;
                Event::Named(Member::HeaderMac)
            }
            Piece::End => Event::Ended,
            Piece::Chunk(own) => {
                let (name, content) = match edit {
                    Some(Edit::Name(name)) => (name, Content::This(own)),
                    Some(Edit::Content(content)) => (own, content),
                    Some(Edit::Jump(_)) | None => (own, Content::This(own)),
                };
                let (fits, verified) = (false, false);
                next.chunk =
                    Some(Chunk { name, content, place, fits, verified });
                piece = Piece::Chunk(name);
                Event::Named(next.numbers.chunk(name))
            }
            Piece::Mac(own) => {
                // An edit of a chunk is one of its mac too.
                let behind = |chunk: &Chunk| chunk.place + 1 == place;
                let ours = next.chunk.filter(behind);
                let name = match (edit, ours) {
                    (Some(Edit::Name(name)), _) => name,
                    (_, Some(chunk)) => chunk.name,
                    (_, None) => own,
                };
                if let Some(chunk) = &mut next.chunk {
                    chunk.fits = match ours {
                        Some(chunk) => chunk.content != Content::Forged,
                        None => chunk.content == Content::This(own),
                    };
                }
                piece = Piece::Mac(name);
                Event::Named(next.numbers.mac(name))
            }
        };
        if self.names {
            next.canon.note(piece);
        }
        (event, next)
    }

    /// The verdict on the chunk in memory.
    fn verify(&self, next: &mut World, digest: u8) -> Event {
        let Some(chunk) = &mut next.chunk else { return Event::Bad };
        let bound = self.binding != Binding::PerChunk
            || chunk.content == Content::This(chunk.name);
        if chunk.fits && bound && digest == self.archive.digest {
            chunk.verified = true;
            Event::Good
        } else {
            Event::Bad
        }
    }

    /// The decoder takes the chunk in memory.
    fn release(
        &self,
        next: &mut World,
        file: u16,
        digest: Option<u8>,
    ) -> Event {
        let Some(chunk) = next.chunk else { return BROKEN };
        next.wrong.early |= !chunk.verified;
        if chunk.verified {
            next.chunk = None;
        }
        if !matches!(next.fates[usize::from(file)], Fate::Writing) {
            next.decoder = Decoder::default();
        }
        next.fates[usize::from(file)] = Fate::Writing;
        let readable = digest.is_none_or(|d| d == self.archive.digest);
        if readable && next.decoder.feed(self.archive, chunk.content) {
            Event::Released
        } else {
            BROKEN
        }
    }

    fn finish(&self, next: &mut World, file: u16) -> Event {
        let name = next.numbers.name(file);
        let decoder = next.decoder;
        let checked = self.binding != Binding::Checksum || decoder.is_even();
        let whole = decoder.is_whole(name);
        if self.flaw != Flaw::AnyEnd && !(whole && checked) {
            return BROKEN;
        }
        let exact = decoder.is_exact(self.archive, name);
        next.fates[usize::from(file)] = Fate::Ready { whole, exact };
        next.decoder = Decoder::default();
        Event::Finished
    }

    fn publish(&self, next: &mut World, file: u16) {
        let (whole, exact) = match next.fates[usize::from(file)] {
            Fate::Ready { whole, exact } => (whole, exact),
            Fate::Absent | Fate::Writing | Fate::Published | Fate::Lost => {
                (false, false)
            }
        };
        next.wrong.torn |= !whole;
        if next.numbers.name(file) == 0 {
            next.wrong.other_index |= !exact;
        } else {
            next.wrong.other |= !exact;
        }
        next.fates[usize::from(file)] = Fate::Published;
    }

    /// Files that are complete.
    pub(super) fn complete(&self, world: &World) -> usize {
        let complete =
            |f: &&Fate| matches!(f, Fate::Ready { .. } | Fate::Published);
        world.fates.iter().filter(complete).count()
    }

    pub(super) fn announced(&self) -> usize {
        usize::from(self.archive.files) + 1
    }

    /// How the driver answers anything but [`Effect::Next`].
    fn perform(&self, next: &mut World, effect: Effect) -> Event {
        match effect {
            Effect::Next => Event::Ended,
            Effect::VerifyLead(Lead::Header, digest) => {
                if next.header && digest == self.archive.digest {
                    Event::Good
                } else {
                    Event::Bad
                }
            }
            Effect::VerifyLead(Lead::Chunk, digest)
            | Effect::Verify(_, digest) => self.verify(next, digest),
            Effect::Parse => Event::Parsed(self.archive.digest),
            Effect::Release(at, digest) => self.release(next, at.file, digest),
            Effect::Finish(file) => self.finish(next, file),
            Effect::Publish(file) => {
                self.publish(next, file);
                Event::Published
            }
            Effect::Drop(file) => {
                next.fates[usize::from(file)] = Fate::Lost;
                next.decoder = Decoder::default();
                next.chunk = None;
                Event::Dropped
            }
            Effect::Count { lost } => {
                let complete = self.complete(next);
                let whole = complete + usize::from(lost) >= self.announced();
                if whole && self.flaw == Flaw::CountMisworded {
                    Event::Good
                } else if whole {
                    Event::Whole
                } else {
                    Event::Missing
                }
            }
            Effect::Bind if next.edits == self.edits => Event::Good,
            Effect::Bind => Event::Bad,
            Effect::Decide => match next.gate.decide() {
                Ok(()) => Event::Decided,
                Err(_) => Event::Canceled,
            },
            Effect::Rename(_) => {
                let ready = |f: &Fate| matches!(f, Fate::Ready { .. });
                if let Some(file) = next.fates.iter().position(ready) {
                    self.publish(next, file as u16);
                }
                Event::Renamed
            }
            Effect::Stop => {
                if self.flaw != Flaw::LeavesTemporary && !self.plan.verify {
                    for fate in &mut next.fates {
                        if is_temporary(*fate) {
                            *fate = Fate::Absent;
                        }
                    }
                }
                next.chunk = None;
                next.decoder = Decoder::default();
                Event::Stopped
            }
        }
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
        steps.push((step, next));
    }

    pub(super) fn end(world: &World) -> Option<End> {
        match world.state {
            State::Over(end) => Some(end),
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
            | State::Dropping(..)
            | State::Counting(_)
            | State::Binding(_)
            | State::Deciding(..)
            | State::Renaming(..)
            | State::Stopping(_) => None,
        }
    }
}

pub(super) fn is_temporary(fate: Fate) -> bool {
    matches!(fate, Fate::Writing | Fate::Ready { .. })
}

impl Model for Reading {
    type State = World;
    type Step = Step;

    fn initial(&self) -> Vec<World> {
        vec![World {
            state: State::First,
            gate: Gate::default(),
            accepted: false,
            place: 0,
            edits: self.edits,
            faults: self.faults,
            numbers: Numbers::new(self.flaw != Flaw::IndexAnywhere),
            chunk: None,
            header: false,
            decoder: Decoder::default(),
            fates: [Fate::default(); NAMES],
            canon: Canon::default(),
            wrong: Wrong::default(),
            no_row: false,
        }]
    }

    fn steps(&self, world: &World, steps: &mut Vec<(Step, World)>) {
        if world.no_row {
            return;
        }
        if self.cancel && !world.accepted {
            let mut next = world.clone();
            if next.gate.cancel() == Cancel::Accepted {
                next.accepted = true;
                steps.push((Step::Cancel, next));
            }
        }
        let effect = match self.machine(world).effect() {
            Continue(effect) => effect,
            Break(_) => return,
        };
        if world.gate.is_canceled() && !effect.is_cleanup() {
            let step = Step::Answer(effect, Event::Canceled);
            self.push(world.clone(), step, Event::Canceled, steps);
            return;
        }
        // What cannot be removed is named in the report: see R6.
        let may_fail = !matches!(effect, Effect::Decide | Effect::Stop);
        if world.faults > 0 && may_fail {
            let faults = world.faults - 1;
            let failed = World { faults, ..world.clone() };
            self.push(failed, Step::Answer(effect, FAULT), FAULT, steps);
        }
        if effect == Effect::Next {
            self.members(world, steps);
        } else {
            let mut next = world.clone();
            let event = self.perform(&mut next, effect);
            self.push(next, Step::Answer(effect, event), event, steps);
        }
    }

    fn is_end(&self, world: &World) -> bool {
        Self::end(world).is_some()
    }

    fn properties(&self) -> Vec<Property<Self>> {
        super::restore_rules::properties(self)
    }

    /// What an attacker has changed is read like anything else.
    fn actor(&self, step: &Step) -> usize {
        match *step {
            Step::Answer(_, FAULT) | Step::Cancel => UNFAIR,
            Step::Answer(..) | Step::Edit(..) => 0,
        }
    }
}
