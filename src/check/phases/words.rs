//! Runs of the phase worlds as people read them: who did what, step by step.
//!
//! Lives here: the columns of each world, its steps in words, and what a
//! violated property means. May not live here: what a step does.

use core::ops::ControlFlow::{Break, Continue};

use super::ahead::{self, A1, A2, A3, A4, Pool};
use super::archive::{Content, Spot};
use super::backup_again_rules::{B9, B10, B11};
use super::backup_rules::{B1, B1_CUT, B2, B3, B4, B5, B6, B7, B8};
use super::cancel::{
    self, C1, C2, C3, C4, Cancelation, Canceler, Ended, Outcome, Process,
    Signal, Worker,
};
use super::commit_rules::{K1, K2, K3, K4, K5, K6};
use super::members::{self, M1, M2, M3, Source};
use super::restore::{self, Edit, Reading};
use super::restore_again_rules::{R11, R12, R13, R14};
use super::restore_rules::{R1, R2, R3, R3_INDEX, R4, R5, R6, R7, R8, R9, R10};
use super::{ENDS, facts};
use crate::check::Model;
use crate::check::explore::Trace;
use crate::check::trace::{Line, stuck};
use crate::fsm::ahead::{Output, SourceEnd, Verdict};
use crate::fsm::cancel::Cancel;
use crate::fsm::members::{Effect as Ask, Event as Answer};
use crate::fsm::restore::{
    At, Cause, Effect, End, Event, Failure, Lead, Member,
};

/// A world whose steps have names that people know.
pub trait Words: Model {
    /// Who acts, one column each.
    fn columns(&self) -> Vec<String>;

    /// What `step` was, from the state before it to the one after: the number
    /// of a column, from 0, and a text. The first one is the step.
    fn say(
        &self,
        before: &Self::State,
        step: &Self::Step,
        after: &Self::State,
    ) -> Vec<(usize, String)>;

    /// What is so in a state, one thing a line.
    fn facts(&self, state: &Self::State) -> Vec<String>;

    /// How a run ended, if it has.
    fn ending(&self, state: &Self::State) -> Option<String>;
}

/// The lines of a run, with a last one that says what `property` missed. A
/// cycle is set apart by a note.
pub fn lines<M: Words>(
    model: &M,
    trace: &Trace<M>,
    property: &str,
) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut before = &trace.initial;
    let mut acting = 0;
    let all = trace.prefix.iter().chain(&trace.cycle);
    for (number, (step, after)) in all.enumerate() {
        let said = model.say(before, step, after);
        let state = model.facts(after);
        for (place, (column, text)) in said.into_iter().enumerate() {
            let step = (place == 0).then_some(number + 1);
            let state = state.clone();
            lines.push(Line { step, process: column + 1, text, state });
            acting = column;
        }
        before = after;
    }
    let mut note = |text: String| {
        let state = Vec::new();
        lines.push(Line { step: None, process: acting + 1, text, state });
    };
    if let Some(text) = model.ending(before) {
        note(format!("*** it ends: {text}"));
    }
    if !trace.cycle.is_empty() {
        let first = trace.prefix.len() + 1;
        note(format!("*** and again from step {first}, for ever"));
    } else if property == ENDS {
        note(stuck(model, before).to_owned());
    }
    if let Some(text) = meaning(property) {
        note(format!("*** {text}"));
    }
    lines
}

/// What it means that a property is violated.
fn meaning(property: &str) -> Option<&'static str> {
    Some(match property {
        M1 => "a member was given that was not whole",
        M2 => "a member was given out of order, or twice",
        M3 => "a whole member is lost, or the end is not what it says",
        A1 => "a verdict came out before its turn",
        A2 => "more chunks are in memory than there is room for",
        A3 => "a serial reader would have said something else",
        A4 => "a hash is still running",
        C1 => "canceled, and accepted to be canceled, are not the same here",
        C2 => "a child is left",
        C3 => "nothing failed by itself",
        C4 => "a signal went to a process that may be anybody's",
        B1 => "what stands under the name is no whole archive",
        B1_CUT => "what a power cut leaves is no whole archive",
        B2 => "it is not whole, or a power cut could still take it",
        B3 => "a reader would take it, and it could still be called off",
        B4 => "canceled, and accepted to be canceled, are not the same here",
        B5 => "a child or a temporary file is left, and nobody says so",
        B6 => "this is not what failed first",
        B7 => "an empty chunk follows a full one",
        B8 => "what the child said is lost",
        B9 => "nobody has that name: a run is refused for what a crash left",
        B10 => "a run goes on beside what a crash left",
        B11 => "a living run has no file under its temporary name any more",
        K1 => "the store has a qube whose folder is missing, or torn",
        K2 => "the store has some of the qubes",
        K3 => "something of somebody else's is gone",
        K4 => "the store is not what the end says, or a cancel was not heard",
        K5 => "something is left, and nobody says so, or can undo it",
        K6 => "nobody else has that name: it was left by an earlier run",
        R1 => "the decoder got a chunk that was not verified",
        R2 => "a file has its name that is not whole",
        R3 => "a file has its name that is not what was backed up",
        R3_INDEX => "'qubes.xml' is not what was backed up",
        R4 => "not every file that was announced is there",
        R5 => "canceled, and accepted to be canceled, are not the same here",
        R6 => "a temporary file is left",
        R7 => "an honest archive, and nobody did it harm",
        R8 => "not every file was decoded to its end",
        R9 => "no writer makes an archive with these names in this order",
        R10 => "there was no authentic header",
        R11 => "it was done, and a power cut took some of it",
        R12 => "a run is refused for what a crash left, or for nothing",
        R13 => "a run goes on beside what a crash left",
        R14 => "something of somebody else's is gone, or of a living run",
        _ => return None,
    })
}

/// The file of a number.
pub(super) fn file(number: u16) -> String {
    if number == 0 {
        "'qubes.xml'".to_owned()
    } else {
        format!("file {number}")
    }
}

fn chunk(at: At) -> String {
    format!("chunk {} of {}", at.chunk, file(at.file))
}

fn spot(spot: Spot) -> String {
    format!("chunk {} of {}", spot.chunk, file(u16::from(spot.name)))
}

impl Words for Source {
    fn columns(&self) -> Vec<String> {
        ["source", "members"].map(str::to_owned).into()
    }

    fn say(
        &self,
        before: &members::World,
        step: &members::Step,
        _: &members::World,
    ) -> Vec<(usize, String)> {
        let source = |text: String| vec![(0, text)];
        match step {
            members::Step::Begin => {
                source(format!("begins member {}", before.begun))
            }
            members::Step::Complete => {
                source(format!("has written all of member {}", before.whole))
            }
            members::Step::Exit => source("ends well".to_owned()),
            members::Step::Die => source("dies".to_owned()),
            members::Step::Answer(event) => {
                let asked = match before.machine.effect() {
                    Continue(Ask::Give(member)) => {
                        format!("give member {}", member.0)
                    }
                    Continue(Ask::Ask) | Break(_) => {
                        "ask for a name".to_owned()
                    }
                };
                let answer = match event {
                    Answer::Named(member) => format!("member {}", member.0),
                    Answer::End { clean: true } => "a good end".to_owned(),
                    Answer::End { clean: false } => "a bad end".to_owned(),
                    Answer::Given => "given".to_owned(),
                };
                vec![(1, format!("{asked} = {answer}"))]
            }
            members::Step::Wait => vec![
                (0, "waits for room".to_owned()),
                (1, "waits for a name".to_owned()),
            ],
        }
    }

    fn facts(&self, world: &members::World) -> Vec<String> {
        facts::of_members(world)
    }

    fn ending(&self, world: &members::World) -> Option<String> {
        self.is_end(world).then(|| {
            let clean = world.machine.effect() == Break(true);
            let how = if clean { "clean" } else { "not clean" };
            format!("{how}, {} of {} given", world.given, self.members)
        })
    }
}

impl Words for Pool {
    fn columns(&self) -> Vec<String> {
        ["source", "hashes", "reader"].map(str::to_owned).into()
    }

    fn say(
        &self,
        before: &ahead::World,
        step: &crate::fsm::ahead::Event,
        _: &ahead::World,
    ) -> Vec<(usize, String)> {
        use crate::fsm::ahead::Event;
        let word = |verdict: Verdict| match verdict {
            Verdict::Good => "good",
            Verdict::Bad => "bad",
        };
        let next = || match before.ahead.output() {
            Output::Verdict(n, verdict) => {
                format!("chunk {n} is {}", word(verdict))
            }
            Output::End(SourceEnd::Clean) => "the end".to_owned(),
            Output::End(SourceEnd::Failed) => "the source failed".to_owned(),
            Output::Waiting => "nothing".to_owned(),
        };
        vec![match *step {
            Event::Read(n) => (0, format!("gives chunk {n} to be hashed")),
            Event::Ended(SourceEnd::Clean) => (0, "ends".to_owned()),
            Event::Ended(SourceEnd::Failed) => (0, "fails".to_owned()),
            Event::Finished(n, verdict) => {
                (1, format!("chunk {n} is {}", word(verdict)))
            }
            Event::Take => (2, format!("takes: {}", next())),
            Event::Freed(n) => (2, format!("has decoded chunk {n}")),
            Event::Stop => (2, format!("takes: {}; stops", next())),
        }]
    }

    fn facts(&self, world: &ahead::World) -> Vec<String> {
        facts::of_ahead(world)
    }

    fn ending(&self, world: &ahead::World) -> Option<String> {
        world.end.map(|end| match end {
            ahead::End::Done => "done".to_owned(),
            ahead::End::Bad(n) => format!("chunk {n} is bad"),
            ahead::End::Source => "the source failed".to_owned(),
        })
    }
}

impl Words for Cancelation {
    fn columns(&self) -> Vec<String> {
        let mut names = vec!["worker".to_owned(), "children".to_owned()];
        if self.cancelers == 1 {
            names.push("canceler".to_owned());
        } else {
            names.extend((1..=self.cancelers).map(|n| format!("canceler {n}")));
        }
        names
    }

    fn say(
        &self,
        before: &cancel::World,
        step: &cancel::Step,
        after: &cancel::World,
    ) -> Vec<(usize, String)> {
        let how = |ended: Ended| match ended {
            Ended::Good => "well",
            Ended::Bad => "badly",
            Ended::Killed => "by a signal",
        };
        vec![match *step {
            cancel::Step::Worker => (0, worker(before, after)),
            cancel::Step::Obeys(child) => {
                (1, format!("child {} ends by a signal", child + 1))
            }
            cancel::Step::Ends(child, ended) => {
                let how = how(ended);
                (1, format!("child {} ends {how}, by itself", child + 1))
            }
            cancel::Step::Cancels(canceler)
            | cancel::Step::Canceler(canceler) => {
                let text = match (
                    before.cancelers[canceler],
                    after.cancelers[canceler],
                ) {
                    (
                        Canceler::Idle | Canceler::Flagging,
                        Canceler::Replied(reply),
                    ) => {
                        let sent = signalled(before, after);
                        format!("cancel = {}{sent}", answer(reply))
                    }
                    (Canceler::Idle, Canceler::Patient) => {
                        format!("cancel = accepted{}", signalled(before, after))
                    }
                    (Canceler::Idle, Canceler::Signalling(_)) => {
                        "notes who is registered".to_owned()
                    }
                    (Canceler::Signalling(0), _) => {
                        "has signalled all of them".to_owned()
                    }
                    (Canceler::Signalling(children), _) => {
                        let child = children.trailing_zeros() + 1;
                        format!("kill(child {child}, SIGKILL)")
                    }
                    (Canceler::Patient, _) => {
                        let sent = signalled(before, after);
                        format!("waits two seconds{sent}")
                    }
                    (from, to) => format!("{from:?}, then {to:?}"),
                };
                (2 + canceler, text)
            }
            cancel::Step::Wait => (0, "waits".to_owned()),
        }]
    }

    fn facts(&self, world: &cancel::World) -> Vec<String> {
        facts::of_cancel(world)
    }

    fn ending(&self, world: &cancel::World) -> Option<String> {
        let Worker::Over(outcome) = world.worker else { return None };
        let end = match outcome {
            Outcome::Done => "done",
            Outcome::Failed => "failed",
            Outcome::Canceled => "canceled",
        };
        let reply = if world.accepted {
            "a cancel was accepted"
        } else {
            "no cancel was accepted"
        };
        Some(format!("{end}; {reply}"))
    }
}

fn answer(reply: Cancel) -> &'static str {
    match reply {
        Cancel::Accepted => "accepted",
        Cancel::Already => "already",
        Cancel::TooLate => "too late",
    }
}

/// Which children got which signal in this step.
fn signalled(before: &cancel::World, after: &cancel::World) -> String {
    let pairs = before.children.iter().zip(&after.children).enumerate();
    let mut text = String::new();
    for (child, pair) in pairs {
        let (Process::Running(old), Process::Running(new)) = pair else {
            continue;
        };
        let name = match new {
            Some(Signal::Term) => "SIGTERM",
            Some(Signal::Kill) => "SIGKILL",
            None => continue,
        };
        if old != new {
            text.push_str(&format!(", kill(child {}, {name})", child + 1));
        }
    }
    text
}

/// A step of the working thread.
fn worker(before: &cancel::World, after: &cancel::World) -> String {
    match before.worker {
        Worker::Looking(_) => {
            let set = before.gate.is_canceled();
            format!("look at the flag = {}", if set { "set" } else { "unset" })
        }
        Worker::Starting(child) => format!("start child {}", child + 1),
        Worker::Registering(child) => {
            let refused = before.gate.is_canceled();
            let answer = if refused { "canceled" } else { "ok" };
            format!("register child {} = {answer}", child + 1)
        }
        Worker::Killing(child) => {
            format!("kill(child {}, SIGKILL)", child + 1)
        }
        Worker::Waiting(child) => {
            let how = match before.children[child] {
                Process::Zombie(Ended::Good) => "ended well",
                Process::Zombie(Ended::Bad) => "ended badly",
                Process::Zombie(Ended::Killed) => "ended by a signal",
                Process::Absent | Process::Running(_) | Process::Reaped => "?",
            };
            format!("wait for child {} = {how}", child + 1)
        }
        Worker::Forgetting(child, _) => format!("forget child {}", child + 1),
        Worker::Reaping(child, _) => format!("reap child {}", child + 1),
        Worker::Deciding(success) => {
            let what = if success { "success" } else { "failure" };
            let canceled = after.worker == Worker::Cleaning(Outcome::Canceled);
            let answer = if canceled { "canceled" } else { "ok" };
            format!("decide for {what} = {answer}")
        }
        Worker::Publishing => "publish".to_owned(),
        Worker::Cleaning(_) => "clean up".to_owned(),
        Worker::Over(_) => "nothing".to_owned(),
    }
}

impl Words for Reading {
    fn columns(&self) -> Vec<String> {
        ["reader", "attacker, canceler"].map(str::to_owned).into()
    }

    fn say(
        &self,
        _: &restore::World,
        step: &restore::Step,
        _: &restore::World,
    ) -> Vec<(usize, String)> {
        match *step {
            restore::Step::Answer(effect, event) => {
                vec![(0, asked(effect, event))]
            }
            restore::Step::Edit(edit, event) => {
                let change = match edit {
                    Edit::Jump(to) if to == self.archive.len() => {
                        "cuts the archive here".to_owned()
                    }
                    Edit::Jump(to) => format!("goes on at member {to}"),
                    Edit::Content(Content::This(from)) => {
                        format!("puts what was in {} here", spot(from))
                    }
                    Edit::Content(Content::Older(from)) => {
                        format!("puts {} of an older backup here", spot(from))
                    }
                    Edit::Content(Content::Forged) => {
                        "puts bytes of its own here".to_owned()
                    }
                    Edit::Name(name) => format!("names it {}", spot(name)),
                };
                vec![(1, change), (0, asked(Effect::Next, event))]
            }
            restore::Step::Cancel => vec![(1, "cancel = accepted".to_owned())],
        }
    }

    fn facts(&self, world: &restore::World) -> Vec<String> {
        facts::of_restore(world)
    }

    fn ending(&self, world: &restore::World) -> Option<String> {
        Self::end(world).map(|end| match end {
            End::Done => "done".to_owned(),
            End::Omitted { headerless: None, lost } => {
                format!("done, {lost} lost")
            }
            End::Omitted { headerless: Some(_), lost: 0 } => {
                "done, without a header".to_owned()
            }
            End::Omitted { headerless: Some(_), lost } => {
                format!("done, {lost} lost, without a header")
            }
            End::Failed(cause) => format!("failed, {}", because(cause)),
            End::Canceled(None) => "canceled".to_owned(),
            End::Canceled(Some(cause)) => {
                format!("canceled, noting: {}", because(cause))
            }
        })
    }
}

fn because(cause: Cause) -> String {
    match cause {
        Cause::Truncated => "truncated".to_owned(),
        Cause::Sequence => "a member is out of sequence".to_owned(),
        Cause::Passphrase => "no digest verifies".to_owned(),
        Cause::Header => "the header names another digest".to_owned(),
        Cause::Mac(at) => format!("the mac of {} does not fit", chunk(at)),
        Cause::Missing => "a file is missing".to_owned(),
        Cause::Binding => "the manifest does not fit".to_owned(),
        Cause::Failed(failure) => failed(failure).to_owned(),
    }
}

/// The worlds know three failures.
fn failed(failure: Failure) -> &'static str {
    match failure.0 {
        0 => "a call failed",
        1 => "the decoder failed",
        _ => "a file is in the way",
    }
}

/// An effect of `restore` and its answer.
pub(super) fn asked(effect: Effect, event: Event) -> String {
    let effect = match effect {
        Effect::Next => "take the next member".to_owned(),
        Effect::VerifyLead(Lead::Header, digest) => {
            format!("verify the header, digest {digest}")
        }
        Effect::VerifyLead(Lead::Chunk, digest) => {
            format!("verify {}, digest {digest}", chunk(At::default()))
        }
        Effect::Parse => "parse the header".to_owned(),
        Effect::Verify(at, digest) => {
            format!("verify {}, digest {digest}", chunk(at))
        }
        Effect::Release(at, None) => format!("decode {}", chunk(at)),
        Effect::Release(at, Some(digest)) => {
            format!("decode {}, told digest {digest}", chunk(at))
        }
        Effect::Finish(number) => {
            format!("wait for the inner end of {}", file(number))
        }
        Effect::Publish(number) => format!("rename {}", file(number)),
        Effect::Drop(number) => format!("remove {}", file(number)),
        Effect::Count { lost: 0 } => "count the files".to_owned(),
        Effect::Count { lost } => format!("count the files, {lost} lost"),
        Effect::Bind => "compare the manifest".to_owned(),
        Effect::Decide => "ask the gate".to_owned(),
        Effect::Rename(place) => format!("rename held file {place}"),
        Effect::Stop => "stop, remove temporary files".to_owned(),
    };
    let event = match event {
        Event::Named(Member::Header) => "backup-header".to_owned(),
        Event::Named(Member::HeaderMac) => "backup-header.hmac".to_owned(),
        Event::Named(Member::Chunk(at)) => chunk(at),
        Event::Named(Member::Mac(at)) => format!("the mac of {}", chunk(at)),
        Event::Named(Member::Other) => "another name".to_owned(),
        Event::Ended => "the end".to_owned(),
        Event::Good => "it fits".to_owned(),
        Event::Bad => "it does not fit".to_owned(),
        Event::Parsed(digest) => format!("digest {digest}"),
        Event::Released
        | Event::Finished
        | Event::Published
        | Event::Dropped
        | Event::Decided
        | Event::Renamed
        | Event::Stopped => "ok".to_owned(),
        Event::Whole => "nothing is missing".to_owned(),
        Event::Missing => "something is missing".to_owned(),
        Event::Failed(failure) => failed(failure).to_owned(),
        Event::Canceled => "canceled".to_owned(),
    };
    format!("{effect} = {event}")
}
