//! The explorer: known counts, shortest runs, limits, and mutants.
//!
//! The counts of the golden model come from TLC, stateright and a third
//! checker; those of the store's model are pinned, so that no change of it
//! goes unseen.

#![cfg(feature = "check")]
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]
#![expect(clippy::panic, reason = "a test may fail loudly")]

use std::time::Duration;

use qubes_fsm::check::explore::{
    Limits, NO_DEADLOCK, Report, Verdict, explore,
};
use qubes_fsm::check::golden::Golden;
use qubes_fsm::check::lock::{NO_FAILURE, S1, S1_STALE, S2, Sessions};
use qubes_fsm::check::plan::violated;
use qubes_fsm::check::{Coverage, Kind, Model, Property};
use qubes_fsm::fsm::protocol::{
    Compare, HISTORY_2013, HISTORY_2014, HISTORY_2016, Keep, LOCK_FILE, NAMED,
    Protocol, SHIPPED,
};

fn all<M: Model>(model: &M) -> Report<M> {
    let report = explore(model, Limits::default());
    assert_eq!(report.coverage, Coverage::Exhaustive);
    report
}

fn sessions(protocol: Protocol, bounds: Bounds) -> Sessions {
    let (writers, readers, saves) = bounds;
    Sessions::new(protocol, writers, readers, saves).unwrap()
}

/// What is violated, with the length of the run that shows it.
fn found<M: Model>(report: &Report<M>) -> Vec<(&'static str, Option<usize>)> {
    let verdicts = report.verdicts.iter();
    verdicts
        .filter_map(|(name, _, verdict)| match verdict {
            Verdict::Holds => None,
            Verdict::Violated(run) => {
                let run = run.as_ref();
                Some((*name, run.map(|t| t.prefix.len() + t.cycle.len())))
            }
            Verdict::Undecided => panic!("{name}: undecided"),
        })
        .collect()
}

fn verdict<M: Model>(report: &Report<M>, wanted: &str) -> String {
    let mut named = report.verdicts.iter();
    let (_, _, verdict) = named.find(|(name, ..)| *name == wanted).unwrap();
    match verdict {
        Verdict::Holds => "holds".to_owned(),
        Verdict::Violated(None) => "violated".to_owned(),
        Verdict::Violated(Some(run)) => {
            format!("violated in {}", run.prefix.len())
        }
        Verdict::Undecided => "undecided".to_owned(),
    }
}

#[test]
fn golden_counts_are_those_of_other_checkers() {
    let known = [
        (2, 100, 149, 18),
        (3, 1_399, 2_872, 27),
        (4, 25_765, 67_925, 36),
        (5, 587_767, 1_899_341, 45),
    ];
    for (processes, states, edges_and_1, depth) in known {
        let report = all(&Golden { processes, recheck: true });
        assert!(report.proves(), "{processes}: {:?}", found(&report));
        let counts = (report.states, report.edges + 1, report.depth);
        assert_eq!(counts, (states, edges_and_1, depth), "{processes}");
    }
}

#[test]
fn without_the_recheck_two_processes_race() {
    let report = all(&Golden { processes: 2, recheck: false });
    assert!(!report.proves());
    assert_eq!(found(&report), [("no lost update", Some(16))]);
    let one = all(&Golden { processes: 1, recheck: false });
    assert_eq!(found(&one), []);
}

/// Writers, readers, saves.
type Bounds = (usize, usize, u8);
/// States, edges, depth.
type Counts = [usize; 3];

const BOUNDS: [Bounds; 4] = [(2, 0, 1), (3, 0, 1), (2, 1, 1), (2, 2, 1)];
const PINNED: [(Protocol, [Counts; 4]); 5] = [
    (
        HISTORY_2013,
        [
            [130, 182, 20],
            [3_087, 5_661, 30],
            [711, 1_329, 24],
            [4_483, 11_024, 28],
        ],
    ),
    (
        HISTORY_2014,
        [
            [138, 204, 24],
            [2_169, 4_380, 36],
            [832, 1_620, 30],
            [6_308, 16_332, 36],
        ],
    ),
    (
        HISTORY_2016,
        [
            [254, 416, 24],
            [10_061, 23_328, 36],
            [2_764, 6_618, 30],
            [34_438, 110_540, 36],
        ],
    ),
    (
        SHIPPED,
        [
            [107, 144, 30],
            [1_144, 1_977, 50],
            [652, 1_142, 41],
            [4_500, 10_598, 47],
        ],
    ),
    (
        LOCK_FILE,
        [[69, 92, 24], [297, 504, 36], [243, 414, 30], [981, 2_184, 36]],
    ),
];

#[test]
fn counts_of_the_store_are_pinned() {
    for (protocol, counts) in PINNED {
        for (bounds, wanted) in BOUNDS.into_iter().zip(counts) {
            let report = all(&sessions(protocol, bounds));
            let counts = [report.states, report.edges, report.depth];
            assert_eq!(counts, wanted, "{} {bounds:?}", protocol.name);
        }
    }
}

#[test]
fn counts_of_larger_stores_are_pinned() {
    let known = [
        ((1, 0, 1), [16, 15, 15]),
        ((1, 0, 3), [34, 33, 33]),
        ((2, 0, 3), [858, 1_336, 71]),
        ((3, 0, 3), [23_158, 46_854, 104]),
        ((4, 0, 1), [13_472, 28_260, 65]),
        ((3, 2, 1), [64_079, 172_767, 67]),
    ];
    for (bounds, wanted) in known {
        let report = all(&sessions(SHIPPED, bounds));
        assert!(report.proves(), "{bounds:?}: {:?}", found(&report));
        let counts = [report.states, report.edges, report.depth];
        assert_eq!(counts, wanted, "{bounds:?}");
    }
}

/// As many as in TLC: which file a process had loaded tells no states apart
/// once it will not ask for it again.
#[test]
fn what_is_looked_at_no_more_is_forgotten() {
    let report = all(&sessions(HISTORY_2014, (4, 0, 1)));
    let counts = [report.states, report.edges, report.depth];
    assert_eq!(counts, [47_663, 121_392, 48]);
}

#[test]
fn lengths_of_the_historical_races_are_pinned() {
    for bounds in BOUNDS {
        let report = all(&sessions(HISTORY_2013, bounds));
        assert_eq!(
            found(&report),
            [(S1, Some(18)), (S1_STALE, Some(13)), (S2, Some(12))],
            "{bounds:?}"
        );
        let report = all(&sessions(HISTORY_2016, bounds));
        assert_eq!(
            found(&report),
            [(S1, Some(20)), (S1_STALE, Some(16)), (S2, Some(13))],
            "{bounds:?}"
        );
    }
}

/// The race of core-admin 247cff33, call by call.
#[test]
fn the_race_of_2013_is_the_one_that_was_written_down() {
    let report = all(&sessions(HISTORY_2013, (2, 0, 1)));
    let run = report.violation(S1).unwrap();
    let calls: Vec<String> = run
        .prefix
        .iter()
        .map(|(call, _)| {
            format!("P{} {} = {}", call.process + 1, call.effect, call.event)
        })
        .collect();
    assert_eq!(
        calls,
        [
            "P1 open('qubes.xml', O_RDWR) = 3",
            "P1 fcntl(3, SETLKW, F_WRLCK) = granted",
            "P1 read(3) = 0",
            "P1 open(temp-file, O_CREAT|O_EXCL) = 4",
            "P1 write(4, ...) = 0",
            "P1 fsync(4) = 0",
            "P1 close(4) = 0",
            "P2 open('qubes.xml', O_RDWR) = 3",
            "P1 rename(temp-file, 'qubes.xml') = 0",
            "P1 fsync(directory) = 0",
            "P1 close(3) = 0",
            "P2 fcntl(3, SETLKW, F_WRLCK) = granted",
            "P2 read(3) = 0",
            "P2 open(temp-file, O_CREAT|O_EXCL) = 4",
            "P2 write(4, ...) = 0",
            "P2 fsync(4) = 0",
            "P2 close(4) = 0",
            "P2 rename(temp-file, 'qubes.xml') = 0",
        ]
    );
    // The states beside the calls are those that the calls lead to.
    let model = sessions(HISTORY_2013, (2, 0, 1));
    let mut world = run.initial;
    for (call, state) in &run.prefix {
        let mut steps = Vec::new();
        model.steps(&world, &mut steps);
        let step = steps.iter().find(|(c, s)| c == call && s == state);
        world = step.unwrap().1;
    }
    // Shorter runs show what comes before the loss.
    for (name, steps) in [(S2, 12), (S1_STALE, 13)] {
        let shorter = &report.violation(name).unwrap().prefix;
        let shorter: Vec<_> = shorter.iter().map(|(call, _)| *call).collect();
        let begins: Vec<_> =
            run.prefix.iter().map(|(call, _)| *call).take(steps).collect();
        assert_eq!(shorter, begins, "{name}");
    }
}

#[test]
fn the_plan_expects_what_the_explorer_finds() {
    for protocol in NAMED {
        for writers in 0..=3 {
            for readers in 0..=2 {
                let model = Sessions::new(protocol, writers, readers, 1);
                let Ok(model) = model else {
                    assert_eq!(writers + readers, 0);
                    continue;
                };
                if protocol == HISTORY_2016 && (writers, readers) == (3, 2) {
                    // 2.6 million states; the others have at most 174,000.
                    continue;
                }
                let report = all(&model);
                let names: Vec<_> =
                    found(&report).iter().map(|(name, _)| *name).collect();
                assert_eq!(names, violated(&model), "{model:?}");
                assert_eq!(report.proves(), names.is_empty(), "{model:?}");
            }
        }
    }
}

#[test]
fn what_has_no_room_is_refused_in_full() {
    let text = |protocol, (writers, readers, saves)| {
        let model = Sessions::new(protocol, writers, readers, saves);
        model.unwrap_err().to_string()
    };
    let tail = "the model has room for 1 to 5 processes and 1 to 3 saves, \
                and only protocols that keep the lock can save twice";
    for (protocol, bounds, head) in [
        (SHIPPED, (4, 2, 1), "4 writers, 2 readers, 1 saves"),
        (SHIPPED, (0, 0, 1), "0 writers, 0 readers, 1 saves"),
        (SHIPPED, (1, 0, 0), "1 writers, 0 readers, 0 saves"),
        (SHIPPED, (1, 0, 4), "1 writers, 0 readers, 4 saves"),
        (HISTORY_2013, (2, 0, 2), "2 writers, 0 readers, 2 saves"),
        (LOCK_FILE, (2, 0, 2), "2 writers, 0 readers, 2 saves"),
    ] {
        assert_eq!(text(protocol, bounds), format!("{head}: {tail}"));
    }
    assert!(Sessions::new(SHIPPED, usize::MAX, 1, 1).is_err());
}

/// Mutants by configuration: what must be found, and in how many steps.
#[test]
fn mutants_of_the_shipped_protocol_are_found() {
    let loose = Protocol { name: "loose", verify: false, ..SHIPPED };
    let never = Protocol { compare: Compare::Never, ..loose };
    let before = Protocol { compare: Compare::BeforeLock, ..loose };
    let unlocked = Protocol { keep: Keep::Unlocked, ..loose };
    let verified = Protocol { compare: Compare::Never, ..SHIPPED };
    let mutants = [
        (
            never,
            (2, 0, 1),
            vec![(S1, Some(18)), (S1_STALE, Some(13)), (S2, Some(12))],
        ),
        (
            never,
            (2, 1, 1),
            vec![(S1, Some(18)), (S1_STALE, Some(13)), (S2, Some(12))],
        ),
        (
            before,
            (2, 0, 1),
            vec![(S1, Some(22)), (S1_STALE, Some(17)), (S2, Some(16))],
        ),
        (
            unlocked,
            (2, 0, 2),
            vec![(S1, Some(25)), (S1_STALE, Some(18)), (S2, Some(13))],
        ),
        // With one save the same loses nothing yet: it takes a second one.
        (unlocked, (2, 0, 1), vec![(S1_STALE, Some(18)), (S2, Some(13))]),
        // Refusing what was not loaded saves the update, not the user.
        (
            verified,
            (2, 0, 1),
            vec![(S1_STALE, Some(15)), (S2, Some(14)), (NO_FAILURE, Some(24))],
        ),
        // No mutants of the lock: what these leave out is not needed for it.
        (loose, (2, 0, 1), vec![]),
        (Protocol { keep: Keep::Nothing, ..SHIPPED }, (2, 0, 1), vec![]),
    ];
    for (protocol, bounds, wanted) in mutants {
        let report = all(&sessions(protocol, bounds));
        assert_eq!(found(&report), wanted, "{protocol:?} {bounds:?}");
    }
}

/// A counter that goes up to `to`; `limit` is what it must stay below.
struct Counter {
    to: u32,
    limit: u32,
}

impl Model for Counter {
    type State = u32;
    type Step = ();

    fn initial(&self) -> Vec<u32> {
        vec![0]
    }
    fn steps(&self, state: &u32, steps: &mut Vec<((), u32)>) {
        if *state < self.to {
            steps.push(((), state + 1));
        }
    }
    fn is_end(&self, state: &u32) -> bool {
        *state == self.to
    }
    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("below", |model, n| *n < model.limit),
            Property::sometimes("beyond", |model, n| *n > model.to),
            Property::sometimes("at the end", |model, n| *n == model.to),
            Property::eventually("arrives", |model, n| *n == model.to),
        ]
    }
}

const NAMES: [&str; 5] =
    ["below", "beyond", "at the end", "arrives", NO_DEADLOCK];

fn verdicts(report: &Report<Counter>) -> [String; 5] {
    NAMES.map(|name| verdict(report, name))
}

#[test]
fn what_never_happens_is_violated_without_a_run() {
    let report = all(&Counter { to: 9, limit: 10 });
    assert_eq!((report.states, report.edges, report.depth), (10, 9, 9));
    let wanted = ["holds", "violated", "holds", "holds", "holds"];
    assert_eq!(verdicts(&report), wanted);
    assert!(!report.proves());
    assert!(report.violation("beyond").is_none());
    let names: Vec<_> =
        report.verdicts.iter().map(|(name, ..)| *name).collect();
    assert_eq!(names, NAMES);
    assert_eq!(report.verdicts[1].1, Kind::Sometimes);
}

#[test]
fn a_limit_of_states_cuts_and_decides_nothing() {
    let limit = |states_max| Limits { states_max, ..Limits::default() };
    let model = Counter { to: 9, limit: 10 };
    let cut = explore(&model, limit(9));
    assert_eq!((cut.states, cut.coverage), (9, Coverage::Cut));
    assert_eq!(verdicts(&cut), ["undecided"; 5]);
    assert!(!cut.proves());
    // As many as there are is no cut.
    let report = explore(&model, limit(10));
    assert_eq!((report.states, report.coverage), (10, Coverage::Exhaustive));
    // A violation within the limit counts, whatever comes after.
    let cut = explore(&Counter { to: 9, limit: 3 }, limit(5));
    assert_eq!(cut.coverage, Coverage::Cut);
    assert_eq!(verdict(&cut, "below"), "violated in 3");
    assert_eq!(verdict(&cut, "arrives"), "undecided");
}

#[test]
fn a_limit_of_time_cuts_and_decides_nothing() {
    let limits = Limits { time_max: Duration::ZERO, ..Limits::default() };
    let cut = explore(&Counter { to: 5_000, limit: 5_001 }, limits);
    assert_eq!(cut.coverage, Coverage::Cut);
    assert!(cut.states < 5_000, "{}", cut.states);
    assert_eq!(verdicts(&cut), ["undecided"; 5]);
    // For a store it is the same.
    let cut = explore(&sessions(SHIPPED, (2, 2, 1)), limits);
    assert_eq!(cut.coverage, Coverage::Cut);
    for (name, kind, verdict) in &cut.verdicts {
        let seen = matches!(verdict, Verdict::Holds);
        assert!(!seen || *kind == Kind::Sometimes, "{name}: {verdict:?}");
    }
}

/// Two processes that take two locks: P1 the first first, P2 as `order` says.
struct TwoLocks {
    opposite: bool,
}

impl TwoLocks {
    fn wants(&self, process: usize, held: u8) -> usize {
        let turned = self.opposite && process == 1;
        if turned { usize::from(1 - held) } else { usize::from(held) }
    }
}

/// How many locks each has, and who has which.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Locks {
    held: [u8; 2],
    owner: [Option<usize>; 2],
    done: [bool; 2],
}

impl Model for TwoLocks {
    type State = Locks;
    type Step = (usize, usize);

    fn initial(&self) -> Vec<Locks> {
        vec![Locks { held: [0; 2], owner: [None; 2], done: [false; 2] }]
    }
    fn steps(&self, state: &Locks, steps: &mut Vec<(Self::Step, Locks)>) {
        for process in 0..2 {
            let mut next = state.clone();
            if state.done[process] {
                continue;
            }
            if state.held[process] == 2 {
                next.held[process] = 0;
                next.owner = [None; 2];
                next.done[process] = true;
                steps.push(((process, 2), next));
                continue;
            }
            let wanted = self.wants(process, state.held[process]);
            if state.owner[wanted].is_none() {
                next.held[process] += 1;
                next.owner[wanted] = Some(process);
                steps.push(((process, wanted), next));
            }
        }
    }
    fn is_end(&self, state: &Locks) -> bool {
        state.done == [true; 2]
    }
    fn properties(&self) -> Vec<Property<Self>> {
        let done = |_: &Self, state: &Locks| state.done == [true; 2];
        vec![
            Property::sometimes("both are done", done),
            Property::eventually("both come to be done", done),
        ]
    }
    fn actor(&self, step: &Self::Step) -> usize {
        step.0
    }
}

#[test]
fn a_deadlock_is_found_by_its_shortest_run() {
    let report = all(&TwoLocks { opposite: true });
    let run = report.violation(NO_DEADLOCK).unwrap();
    let steps: Vec<_> = run.prefix.iter().map(|(step, _)| *step).collect();
    assert_eq!(steps, [(0, 0), (1, 1)]);
    assert!(run.cycle.is_empty());
    assert_eq!(verdict(&report, "both are done"), "holds");
    // Who is stuck never arrives either: the same run, without a cycle.
    let stuck = report.violation("both come to be done").unwrap();
    assert_eq!((stuck.prefix.len(), stuck.cycle.len()), (2, 0));

    let report = all(&TwoLocks { opposite: false });
    assert!(report.proves(), "{:?}", found(&report));
}

/// States in a row, the last of which should not be.
struct Row;

impl Model for Row {
    type State = u32;
    type Step = ();

    fn initial(&self) -> Vec<u32> {
        vec![0]
    }

    fn steps(&self, state: &u32, steps: &mut Vec<((), u32)>) {
        if *state < 2000 {
            steps.push(((), state + 1));
        }
    }

    fn is_end(&self, state: &u32) -> bool {
        *state == 2000
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![Property {
            name: "below 1500",
            kind: Kind::Always,
            test: |_, state| *state < 1500,
        }]
    }
}

/// Both limits are met at the same state, and nothing waits.
#[test]
fn a_cut_is_not_taken_back() {
    let limits = Limits { states_max: 1024, time_max: Duration::ZERO };
    let report = explore(&Row, limits);
    assert_eq!(report.coverage, Coverage::Cut);
    assert!(!report.proves());
    assert!(matches!(report.verdicts[0].2, Verdict::Undecided));
}
