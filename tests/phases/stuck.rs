//! Who can only go on by what need not happen is stuck, and L says so.

use qubes_fsm::check::explore::{NO_DEADLOCK, Verdict};
use qubes_fsm::check::phases::backup::{self, Writing};
use qubes_fsm::check::phases::backup_again::{self, Place, WritingAgain};
use qubes_fsm::check::phases::cancel::{self, Cancelation, Process};
use qubes_fsm::check::phases::commit::{self, Beside, Committing};
use qubes_fsm::check::phases::members::{self, Source};
use qubes_fsm::check::phases::restore::{self, Flaw, Reading};
use qubes_fsm::check::phases::restore_again::{self, ReadingAgain};
use qubes_fsm::check::{Model, Property};
use qubes_fsm::fsm::backup::Target;
use qubes_fsm::fsm::members::Announces;
use qubes_fsm::fsm::{backup as backup_fsm, commit as commit_fsm};
use qubes_fsm::fsm::{restore as restore_fsm, restore::Event};

use crate::{all, found};

/// A world in which one step never comes, be it as due as it may.
struct Stuck<M: Model> {
    model: M,
    missing: fn(&M::Step) -> bool,
    ends: fn(&M, &M::State) -> bool,
    /// Whoever may stay away is taken for one who will come.
    all_fair: bool,
}

impl<M: Model> Model for Stuck<M> {
    type State = M::State;
    type Step = M::Step;

    fn initial(&self) -> Vec<M::State> {
        self.model.initial()
    }

    fn steps(&self, at: &M::State, steps: &mut Vec<(M::Step, M::State)>) {
        self.model.steps(at, steps);
        steps.retain(|(step, _)| !(self.missing)(step));
    }

    fn is_end(&self, at: &M::State) -> bool {
        self.model.is_end(at)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let ends = |stuck: &Self, at: &M::State| (stuck.ends)(&stuck.model, at);
        vec![Property::eventually("it ends", ends)]
    }

    fn actor(&self, step: &M::Step) -> usize {
        if self.all_fair { 0 } else { self.model.actor(step) }
    }
}

/// L falls, and would not if whatever may come came.
fn is_stuck<M: Model + Copy>(
    name: &str,
    model: M,
    missing: fn(&M::Step) -> bool,
    ends: fn(&M, &M::State) -> bool,
) {
    for (all_fair, wanted) in [(true, true), (false, false)] {
        let stuck = Stuck { model, missing, ends, all_fair };
        let report = all(&stuck);
        // And it is no deadlock: something could still happen.
        let [(_, _, ends), (_, _, moves)] = report.verdicts.as_slice() else {
            panic!("{name}: two verdicts")
        };
        assert_eq!(matches!(ends, Verdict::Holds), wanted, "{name}");
        assert!(matches!(moves, Verdict::Holds), "{name}");
    }
}

//= spec/phases.md#l-every-fair-path-ends
#[test]
fn who_could_go_on_only_by_what_need_not_happen_is_stuck() {
    is_stuck(
        "members: it dies",
        Source::new(Announces::Before, 4),
        |step| *step == members::Step::Complete,
        Model::is_end,
    );
    is_stuck(
        "cancel: a child ends by itself",
        Cancelation::new(1),
        |step| matches!(step, cancel::Step::Obeys(_)),
        |model, world| {
            let runs = |p: &Process| matches!(p, Process::Running(_));
            let waits = !world.accepted && world.children.iter().any(runs);
            waits || model.is_end(world)
        },
    );
    let synced = |step: &backup::Step| {
        use backup_fsm::{Effect, Event};
        *step == backup::Step::Answer(Effect::Sync, Event::Ok)
    };
    is_stuck(
        "backup: a fault, a cancel or a power cut",
        Writing::troubled(Target::File, &[2, 1], 1),
        synced,
        Model::is_end,
    );
    is_stuck(
        "backup again: a crash too",
        WritingAgain::new(Place::Renamed, 1),
        |step| {
            use backup_fsm::{Effect, Event};
            let synced = backup::Step::Answer(Effect::Sync, Event::Ok);
            *step == backup_again::Step::Own(synced)
        },
        Model::is_end,
    );
    is_stuck(
        "restore: a fault or a cancel",
        Reading::attacked(2, 2, 0),
        |step| {
            let counted = restore_fsm::Effect::Count { lost: 0 };
            *step == restore::Step::Answer(counted, Event::Whole)
        },
        Model::is_end,
    );
    is_stuck(
        "restore again: a crash too",
        ReadingAgain::new(Reading::attacked(1, 1, 0), 1, false),
        |step| *step == restore_again::Step::Synced,
        Model::is_end,
    );
    is_stuck(
        "commit: a fault, a cancel or a crash",
        Committing::troubled(2, Beside::Nobody, 1),
        |step| {
            use commit_fsm::{Effect, Event};
            *step == commit::Step::Answer(Effect::Check, Event::Ok)
        },
        Model::is_end,
    );
}

/// What a machine has no row for ends the run there, whatever else could
/// happen: no cancel, crash or fault leads on from it.
#[test]
fn what_a_machine_refuses_is_a_deadlock() {
    let flaw = Flaw::CountMisworded;
    let honest = Reading { flaw, ..Reading::honest(2, 2) };
    let troubled = Reading { flaw, ..Reading::attacked(2, 2, 0) };
    for (name, reading) in [("honest", honest), ("troubled", troubled)] {
        let report = all(&reading);
        let Some(run) = report.violation(NO_DEADLOCK) else {
            panic!("{name}: no deadlock")
        };
        let Some((step, world)) = run.prefix.last() else {
            panic!("{name}: a deadlock where it begins")
        };
        let counted = restore_fsm::Effect::Count { lost: 0 };
        assert_eq!(*step, restore::Step::Answer(counted, Event::Good));
        assert!(world.no_row && !reading.is_end(world), "{name}");
        assert_eq!(run.prefix.len(), 32, "{name}");
        // And nothing else is wrong with it.
        assert_eq!(found(&report), [("L", 32)], "{name}");
    }
    let again = ReadingAgain::new(troubled, 1, false);
    assert!(all(&again).violation(NO_DEADLOCK).is_some());
}
