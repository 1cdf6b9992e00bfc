//! The store among crashes and faults: counts, verdicts, and what a power cut
//! may leave.
//!
//! Counts are pinned, so that no change of the model goes unseen. What is
//! right must hold with all its twins; `tests/check_command.rs` and
//! `tests/mutants.rs` see that what is wrong is found.

#![cfg(feature = "check")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use qubes_fsm::check::explore::{
    Limits, NO_DEADLOCK, Report, Verdict, explore,
};
use qubes_fsm::check::lock::{S7, S8};
use qubes_fsm::check::plan::{troubles, troubles_of, violated, violated_among};
use qubes_fsm::check::trouble::{
    Flaw, S4, S5_SWEPT, S6, Step, Troubled, words,
};
use qubes_fsm::check::{Coverage, Kind, Model as _};
use qubes_fsm::fsm::protocol::{
    HISTORY_2013, HISTORY_2014, HISTORY_2016, LOCK_FILE, NAMED, Protocol,
    SHIPPED,
};
use qubes_fsm::fsm::{Access, Effect, Errno, Event, Fd, Name};
use qubes_fsm::sim::crash::{Data, Media, Outcome};
use qubes_fsm::sim::disk::{Answer, Disk, PROCESSES, UPDATES, Updates};
use qubes_fsm::sim::fault::ERRNOS;

type Bounds = (usize, usize, u8);

fn all(model: &Troubled) -> Report<Troubled> {
    let report = explore(model, Limits::default());
    assert_eq!(report.coverage, Coverage::Exhaustive);
    report
}

fn broken(report: &Report<Troubled>) -> Vec<&'static str> {
    let verdicts = report.verdicts.iter();
    verdicts
        .filter(|(.., verdict)| !matches!(verdict, Verdict::Holds))
        .map(|(name, ..)| *name)
        .collect()
}

//= spec/lock.md#s4-nothing-acknowledged-is-gone
//= spec/lock.md#s5-leftovers-are-swept
//= spec/lock.md#s6-the-first-cause-is-reported
#[test]
fn what_is_shipped_holds_among_crashes_and_faults() {
    let known: [(Protocol, Bounds, [u8; 2], [usize; 3]); 14] = [
        (SHIPPED, (1, 0, 1), [1, 0], [138, 170, 31]),
        (SHIPPED, (2, 0, 1), [0, 0], [113, 152, 32]),
        (SHIPPED, (2, 0, 1), [1, 0], [2_015, 3_163, 50]),
        (SHIPPED, (2, 0, 1), [0, 1], [1_176, 2_482, 32]),
        (SHIPPED, (2, 0, 1), [0, 2], [4_434, 14_324, 32]),
        (SHIPPED, (2, 0, 1), [1, 1], [21_439, 50_420, 50]),
        (SHIPPED, (2, 0, 1), [2, 0], [17_113, 32_523, 65]),
        (SHIPPED, (2, 0, 2), [1, 0], [11_184, 18_892, 82]),
        (SHIPPED, (2, 1, 1), [1, 0], [15_329, 30_984, 58]),
        (SHIPPED, (3, 0, 1), [1, 0], [35_692, 70_054, 66]),
        (SHIPPED, (3, 0, 1), [0, 1], [17_775, 43_281, 53]),
        (LOCK_FILE, (2, 0, 1), [1, 1], [12_391, 27_492, 39]),
        (LOCK_FILE, (3, 0, 1), [1, 0], [6_906, 12_633, 52]),
        (HISTORY_2014, (2, 0, 1), [1, 1], [61_396, 142_776, 47]),
    ];
    for (protocol, bounds, [crashes, faults], counts) in known {
        let name = protocol.name;
        let model = Troubled::new(protocol, bounds, crashes, faults).unwrap();
        let report = all(&model);
        assert!(report.proves(), "{name} {bounds:?}: {:?}", broken(&report));
        let found = [report.states, report.edges, report.depth];
        assert_eq!(found, counts, "{name} {bounds:?} {crashes} {faults}");
        assert_eq!(model.flaw, Flaw::None);
    }
}

/// Somebody who does not follow the protocol loses nothing by it.
//= spec/lock.md#s8-others-changes-stay
//= spec/lock.md#refuse-what-was-not-loaded
#[test]
fn what_is_shipped_leaves_changes_by_others_alone() {
    let known: [(Bounds, [u8; 2], [usize; 3]); 6] = [
        ((1, 0, 1), [0, 1], [106, 130, 17]),
        ((2, 0, 1), [0, 1], [2_520, 4_344, 33]),
        ((2, 0, 1), [0, 2], [20_892, 41_228, 38]),
        ((2, 0, 1), [1, 1], [25_179, 64_942, 33]),
        ((2, 1, 1), [0, 1], [16_741, 35_062, 43]),
        ((3, 0, 1), [0, 1], [47_146, 96_218, 53]),
    ];
    for (bounds, [faults, changes], counts) in known {
        let model = Troubled::new(SHIPPED, bounds, 0, faults).unwrap();
        let report = all(&model.changed(changes).unwrap());
        assert!(report.proves(), "{bounds:?}: {:?}", broken(&report));
        let found = [report.states, report.edges, report.depth];
        assert_eq!(found, counts, "{bounds:?} {faults} {changes}");
    }
}

/// Whoever refuses nothing overwrites what others write, and each falls as is
/// said of it.
#[test]
fn who_refuses_nothing_is_known() {
    let sizes = (0..3_usize).flat_map(|w| (0..3_usize).map(move |r| (w, r)));
    let sizes = sizes.filter(|(w, r)| (1..=3).contains(&(w + r)));
    for (writers, readers) in sizes {
        for protocol in NAMED {
            let bounds = (writers, readers, 1);
            let model = Troubled::new(protocol, bounds, 0, 0).unwrap();
            let model = model.changed(1).unwrap();
            let found = broken(&all(&model));
            let wanted = violated_among(&model);
            assert_eq!(found, wanted, "{} {bounds:?}", protocol.name);
            let falls = !protocol.verify && writers > 0;
            assert_eq!(found.contains(&S8), falls, "{}", protocol.name);
        }
    }
}

/// Both looks are needed, in this order.
#[test]
fn each_look_sees_what_the_other_cannot() {
    let model = Troubled::new(SHIPPED, (1, 0, 1), 0, 0).unwrap();
    let model = model.changed(1).unwrap();
    let last = |flaw| {
        let model = Troubled { flaw, ..model };
        let report = all(&model);
        let run = report.violation(S8).unwrap();
        let lines = words::lines(&model, run, S8);
        assert_eq!(lines.last().unwrap().text, LOST);
        let mut change = lines.iter().filter(|line| line.text.contains(LOCK));
        change.next().unwrap().text.clone()
    };
    const LOST: &str = "*** what somebody else wrote is gone";
    const LOCK: &str = "somebody without a lock";
    let renames = "*** somebody without a lock renames over 'qubes.xml'";
    let writes = "*** somebody without a lock writes to 'qubes.xml'";
    assert_eq!(last(Flaw::ContentUnchecked), writes);
    assert_eq!(last(Flaw::StatUnchecked), renames);
    assert_eq!(last(Flaw::StatFirst), renames);
}

/// However often a process saves, none of its updates is another's.
#[test]
fn every_update_is_another() {
    let mut all = Updates::default();
    for process in 0..PROCESSES {
        for save in 0..UPDATES as u8 {
            let one = Updates::one(process, save);
            assert_ne!(one, Updates::default());
            assert_eq!(all.shared(one), Updates::default());
            all = all.with(one);
        }
    }
    // A crash between the last rename and the release: all is saved again.
    let model = Troubled::new(SHIPPED, (1, 0, 2), 1, 0).unwrap();
    let mut most = 0;
    let mut states = vec![model.start()];
    let mut steps = Vec::new();
    while let Some(state) = states.pop() {
        most = most.max(state.world.disk.process(0).saves);
        model.steps(&state, &mut steps);
        states.extend(steps.drain(..).map(|(_, next)| next));
    }
    assert_eq!(usize::from(most), UPDATES);
}

/// The twins are asked for where their trouble is.
#[test]
fn every_property_has_its_twin() {
    let twins = |crashes, faults| -> Vec<&str> {
        let model = Troubled::new(SHIPPED, (2, 0, 1), crashes, faults);
        let report = all(&model.unwrap());
        let verdicts = report.verdicts.iter();
        let twins = verdicts.filter(|(_, kind, _)| *kind == Kind::Sometimes);
        twins.map(|(name, ..)| *name).collect()
    };
    let (beside, reported) =
        ("somebody waits beside a new file", "a failure is reported");
    let crashed = [
        beside,
        "all saved, after a crash",
        "a cut can undo what was not promised",
        "a save finds a leftover",
    ];
    assert_eq!(twins(0, 0), [beside]);
    assert_eq!(twins(1, 0), crashed);
    assert_eq!(twins(0, 1), [beside, reported]);
    assert_eq!(twins(1, 1), [&crashed[..], &[reported]].concat());
    let model = Troubled::new(SHIPPED, (2, 0, 1), 1, 1).unwrap();
    let report = all(&model);
    for name in [S4, S5_SWEPT, S6] {
        assert!(report.verdicts.iter().any(|(found, ..)| *found == name));
    }
}

#[test]
fn a_crash_breaks_nothing_of_history_that_was_whole() {
    for protocol in [HISTORY_2013, HISTORY_2014, HISTORY_2016] {
        for (crashes, faults) in [(1, 0), (0, 1)] {
            let model =
                Troubled::new(protocol, (2, 0, 1), crashes, faults).unwrap();
            let name = protocol.name;
            let found = broken(&all(&model));
            assert_eq!(found, violated(&model.sessions), "{name}");
        }
    }
}

#[test]
fn what_has_no_room_is_refused() {
    assert!(Troubled::new(SHIPPED, (2, 0, 1), 2, 0).is_ok());
    assert!(Troubled::new(SHIPPED, (2, 0, 1), 3, 0).is_err());
    assert!(Troubled::new(SHIPPED, (2, 0, 3), 1, 0).is_err());
    assert!(Troubled::new(SHIPPED, (2, 0, 3), 0, 2).is_ok());
    assert!(Troubled::new(SHIPPED, (5, 1, 1), 1, 0).is_err());
    // What a cut leaves of a change by others is not modelled.
    let crashing = Troubled::new(SHIPPED, (2, 0, 1), 1, 0).unwrap();
    let error = crashing.changed(1).unwrap_err().to_string();
    assert!(error.starts_with("1 changes by others with 1 crashes:"));
    assert_eq!(crashing.changed(0), Ok(crashing));
    let plain = Troubled::new(SHIPPED, (2, 0, 1), 0, 0).unwrap();
    assert!(plain.changed(4).is_ok() && plain.changed(5).is_err());
    let error = Troubled::new(SHIPPED, (2, 1, 1), 255, 0).unwrap_err();
    assert!(error.to_string().starts_with("2 writers, 1 readers, 1 saves:"));
}

/// A disk and its medium, told call by call.
struct Machine {
    disk: Disk,
    media: Media,
}

impl Machine {
    fn new() -> Self {
        Self { disk: Disk::new(), media: Media::default() }
    }

    fn call(&mut self, process: usize, effect: Effect) -> Event {
        let before = self.disk;
        let Answer::Event(event) = self.disk.apply(process, effect) else {
            panic!("{effect:?} waits")
        };
        self.media.note(&before, &self.disk, process, effect, event);
        assert!(self.media.is_complete());
        event
    }

    /// `process` has loaded, and does these calls on its new file.
    fn save(&mut self, process: usize, calls: &[Effect]) {
        self.call(process, Effect::Open(Name::Store, Access::Write));
        self.call(process, Effect::Read(Fd(0)));
        for effect in calls {
            let event = self.call(process, *effect);
            assert!(!matches!(event, Event::Failed(_)), "{effect:?}");
        }
    }

    /// Contents and leftovers, in words.
    fn outcomes(&self) -> Vec<String> {
        let outcomes = self.media.outcomes(&self.disk);
        let text = |Outcome { store, leftovers }| match store {
            Data::Empty => format!("empty {leftovers}"),
            Data::Torn => format!("torn {leftovers}"),
            Data::Whole(updates) => format!("{} {leftovers}", updates.0),
        };
        outcomes.into_iter().map(text).collect()
    }
}

const CREATE: Effect = Effect::Create;
const WRITE: Effect = Effect::Write(Fd(1));
const SYNC: Effect = Effect::Sync(Fd(1));
const RENAME: Effect = Effect::Rename;
const DIRECTORY: Effect = Effect::SyncDirectory;

#[test]
fn a_cut_leaves_what_the_calls_before_it_allow() {
    let rows: [(&[Effect], &[&str]); 8] = [
        (&[], &["0 0"]),
        (&[CREATE], &["0 0", "0 1"]),
        (&[CREATE, Effect::Unlink], &["0 0", "0 1"]),
        (&[CREATE, WRITE, SYNC], &["0 0", "0 1"]),
        // Any prefix: not created, created, renamed.
        (&[CREATE, WRITE, SYNC, RENAME], &["0 0", "0 1", "1 0"]),
        (&[CREATE, WRITE, SYNC, RENAME, DIRECTORY], &["1 0"]),
        (&[CREATE, WRITE, RENAME, DIRECTORY], &["empty 0", "torn 0", "1 0"]),
        (&[CREATE, WRITE, RENAME], &["empty 0", "torn 0", "0 0", "0 1", "1 0"]),
    ];
    for (calls, wanted) in rows {
        let mut machine = Machine::new();
        machine.save(0, calls);
        assert_eq!(machine.outcomes(), wanted, "{calls:?}");
    }
}

#[test]
fn a_save_on_top_of_one_that_is_not_durable_can_fall_twice() {
    let mut machine = Machine::new();
    machine.save(0, &[CREATE, WRITE, SYNC, RENAME]);
    machine.save(1, &[CREATE, WRITE, SYNC, RENAME]);
    // P2 has the update of P1 too: bit 0 and bit 4.
    let wanted = ["0 0", "0 1", "1 0", "1 1", "17 0"];
    assert_eq!(machine.outcomes(), wanted);
    machine.call(1, DIRECTORY);
    assert_eq!(machine.outcomes(), ["17 0"]);
}

#[test]
fn a_sweep_may_be_cut_after_each_file() {
    let mut machine = Machine::new();
    for process in [1, 2] {
        machine.save(process, &[CREATE]);
        machine.disk.kill(process);
    }
    machine.save(0, &[DIRECTORY]);
    assert_eq!(machine.outcomes(), ["0 2"]);
    assert_eq!(machine.call(0, Effect::Sweep), Event::Swept);
    assert_eq!(machine.outcomes(), ["0 0", "0 1", "0 2"]);
    machine.call(0, DIRECTORY);
    assert_eq!(machine.outcomes(), ["0 0"]);
}

#[test]
fn media_that_leave_the_same_are_equal() {
    let (mut one, mut other) = (Machine::new(), Machine::new());
    one.save(0, &[CREATE, WRITE, SYNC, RENAME, DIRECTORY]);
    other.save(0, &[CREATE, Effect::Unlink, Effect::Close(Fd(1))]);
    other.disk.kill(0);
    other.save(0, &[CREATE, WRITE, SYNC, RENAME, DIRECTORY]);
    assert_eq!(one.media, other.media);
    assert_eq!(one.media, Media::default());
}

//= spec/lock.md#leftovers-are-swept
#[test]
fn a_sweep_takes_what_nobody_has_locked() {
    let mut disk = Disk::new();
    let call = |disk: &mut Disk, process, effect| {
        let Answer::Event(event) = disk.apply(process, effect) else {
            panic!("{effect:?} waits")
        };
        event
    };
    for process in 1..=3 {
        assert_eq!(call(&mut disk, process, CREATE), Event::Opened(Fd(0)));
    }
    call(&mut disk, 2, Effect::TryLock(Fd(0)));
    disk.kill(3);
    assert_eq!((disk.leftovers(), disk.temp_names()), (1, 3));
    call(&mut disk, 0, Effect::Sweep);
    // That of 2 is locked; that of 1 was not, and that of 3 is nobody's.
    assert_eq!((disk.leftovers(), disk.temp_names()), (0, 1));
    let gone = Event::Failed(Errno::NO_ENTRY);
    assert_eq!(call(&mut disk, 1, RENAME), gone);
    assert_eq!(call(&mut disk, 2, RENAME), Event::Renamed);
}

#[test]
fn a_killed_process_leaves_its_file_and_nothing_else() {
    let mut disk = Disk::new();
    for effect in [
        Effect::Open(Name::Store, Access::Write),
        Effect::Lock(Fd(0), Access::Write),
        Effect::Read(Fd(0)),
        CREATE,
        WRITE,
    ] {
        disk.apply(0, effect);
    }
    disk.kill(0);
    assert!(disk.is_clean(0));
    assert_eq!((disk.leftovers(), disk.process(0).memory), (1, Updates(0)));
    disk.apply(1, Effect::Open(Name::Store, Access::Write));
    let lock = Effect::Lock(Fd(0), Access::Write);
    assert_eq!(disk.apply(1, lock), Answer::Event(Event::Locked));
}

#[test]
fn a_failing_call_does_what_it_does_on_linux() {
    let mut disk = Disk::new();
    disk.apply(0, CREATE);
    disk.apply(0, WRITE);
    disk.fail(0, Effect::Unlink);
    assert_eq!((disk.leftovers(), disk.temp_names()), (1, 1));
    disk.fail(0, Effect::Close(Fd(0)));
    assert!(disk.is_clean(0));
    // A rename that fails is not made.
    disk.apply(1, CREATE);
    let before = disk;
    for effect in [RENAME, DIRECTORY, CREATE, Effect::Sweep] {
        disk.fail(1, effect);
        assert_eq!(disk, before, "{effect:?}");
    }
}

/// What the machine has no row for ends the run there, whatever else could
/// happen: no call of another, no crash or failure leads on from it.
#[test]
fn what_the_machine_refuses_is_a_deadlock() {
    let model = Troubled::new(SHIPPED, (2, 0, 1), 1, 1).unwrap();
    let model = Troubled { flaw: Flaw::SyncMisworded, ..model };
    let report = all(&model);
    let run = report.violation(NO_DEADLOCK).unwrap();
    let (step, state) = run.prefix.last().unwrap();
    let Step::Call(call) = step else { panic!("{step:?}") };
    assert!(matches!(call.effect, Effect::Sync(_)), "{call:?}");
    assert_eq!(call.event, Event::Written);
    assert!(state.world.no_row() && !model.is_end(state));
    let lines = words::lines(&model, run, S7);
    let text: Vec<_> = lines.iter().map(|line| line.text.as_str()).collect();
    let last: Vec<_> = text.iter().rev().take(3).rev().copied().collect();
    assert_eq!(
        last,
        [
            "fsync(4) = 0",
            "*** the machine has no row for Written",
            "*** nobody can go on from here",
        ]
    );
}

#[test]
fn runs_are_told_in_words() {
    let flaw = Flaw::DirectoryNotSynced;
    let model = Troubled::new(SHIPPED, (1, 0, 1), 1, 0).unwrap();
    let model = Troubled { flaw, ..model };
    let report = all(&model);
    let run = report.violation(S4).unwrap();
    let lines = words::lines(&model, run, S4);
    let text: Vec<_> = lines.iter().map(|line| line.text.as_str()).collect();
    let last: Vec<_> = text.iter().rev().take(3).rev().copied().collect();
    assert_eq!(
        last,
        [
            "fsync(directory) = 0",
            "*** power cut: 'qubes.xml' is as it was made",
            "*** what was acknowledged is gone",
        ]
    );
    // A leftover stops everyone: killed, then only a failure could come, and
    // need not.
    let unswept = Protocol { sweep: false, ..SHIPPED };
    let model = Troubled::new(unswept, (1, 0, 1), 1, 1).unwrap();
    let model = Troubled { flaw: Flaw::FixedExclusive, ..model };
    let report = all(&model);
    let run = report.violation(S7).unwrap();
    let lines = words::lines(&model, run, S7);
    let text: Vec<_> = lines.iter().map(|line| line.text.as_str()).collect();
    assert!(text.contains(&"*** killed, and starts again"), "{text:?}");
    assert_eq!(text.last(), Some(&"*** nobody who must go on can"));
    // A failed call, and a driver that does not look.
    let model = Troubled::new(SHIPPED, (1, 0, 1), 0, 1).unwrap();
    let model = Troubled { flaw: Flaw::WriteUnchecked, ..model };
    let report = all(&model);
    let run = report.violation(S6).unwrap();
    let lines = words::lines(&model, run, S6);
    let wanted = "write(4, ...) fails, taken for 0";
    assert!(lines.iter().any(|line| line.text == wanted), "{lines:?}");
    // What a session does after the failure that it goes on to report.
    let last = |flaw| {
        let model = Troubled { flaw, faults: 2, ..model };
        let report = all(&model);
        let run = report.violation(S6).unwrap();
        words::lines(&model, run, S6).pop().unwrap().text
    };
    assert_eq!(
        [Flaw::RenamedAnyway, Flaw::UnlockedFailed, Flaw::LastCause].map(last),
        [
            "*** the store is changed after a failure",
            "*** the lock is given up before the release",
            "*** the first failure is not what it reports",
        ]
    );
    assert_eq!(
        ERRNOS.map(|e| e.to_string()),
        ["ENOSPC", "EIO", "EINTR", "EDQUOT", "EACCES"]
    );
}

/// How often by default, as the specification says it.
#[test]
fn so_many_crashes_and_faults_happen_in_a_run() {
    let sizes = |crash: bool, faults: bool| {
        let mut all = troubles(crash, faults);
        all.extend(troubles_of((4, 0, 1), crash, faults));
        all.into_iter().map(|((writers, readers, saves), crashes, faults)| {
            ((writers + readers, saves), (crashes, faults))
        })
    };
    for ((processes, saves), many) in sizes(true, false) {
        let twice = processes <= 3 && saves == 1;
        assert_eq!(many, (1 + u8::from(twice), 0), "{processes} x{saves}");
    }
    for ((processes, saves), many) in sizes(false, true) {
        assert_eq!(many, (0, 1 + u8::from(processes <= 3)), "x{saves}");
    }
    for ((processes, saves), many) in sizes(true, true) {
        let twice = processes <= 2 && saves == 1;
        let wanted: &[_] = if twice { &[(1, 2), (2, 1)] } else { &[(1, 1)] };
        assert!(wanted.contains(&many), "{processes} x{saves}: {many:?}");
    }
}
