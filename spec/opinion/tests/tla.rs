//! The specifications and the machines say the same, without Java: states of
//! the complete graph, verdicts and shortest counterexamples, by two programs
//! that share nothing. `spec/compare.sh` has TLC write the graphs themselves,
//! and compares these edge by edge, in more models.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::fmt::Write as _;
use std::path::Path;

use qubes_fsm::check::explore::{Limits, Verdict, explore};
use qubes_fsm::check::lock::{S1, S1_STALE, S2, S3, S5, Sessions};
use qubes_fsm::check::phases::ahead::Pool;
use qubes_fsm::check::phases::backup::Writing;
use qubes_fsm::check::phases::cancel::Cancelation;
use qubes_fsm::check::phases::commit::{Beside, Committing};
use qubes_fsm::check::phases::members::Source;
use qubes_fsm::check::phases::restore::Reading;
use qubes_fsm::check::trouble::Troubled;
use qubes_fsm::fsm::members::Announces;
use qubes_fsm::fsm::protocol::{
    Compare, HISTORY_2013, HISTORY_2014, HISTORY_2016, Keep, LOCK_FILE,
    Protocol, SHIPPED, Target,
};
use tla_checker::checker::{CheckResult, check};
use tla_checker::load::prepare_from_path;

/// Names in `Lock.tla`, and in the explorer's reports where it has them.
const INVARIANTS: [(&str, Option<&str>); 7] = [
    ("TypeOK", None),
    ("SlotsSuffice", None),
    ("S1NoLostUpdate", Some(S1)),
    ("S1NoStaleRead", Some(S1_STALE)),
    ("S2OneHolder", Some(S2)),
    ("S3Whole", Some(S3)),
    ("S5NoLeftovers", Some(S5)),
];

fn names(prefix: &str, count: usize) -> String {
    let names: Vec<_> = (1..=count).map(|n| format!("{prefix}{n}")).collect();
    names.join(", ")
}

/// The constants of `Lock.tla` for a model of ours.
fn constants(model: &Sessions) -> String {
    let Sessions { protocol, writers, readers, saves } = *model;
    let compare = match protocol.compare {
        Compare::Never => "never",
        Compare::BeforeLock => "before",
        Compare::AfterLock => "after",
    };
    let keep = match protocol.keep {
        Keep::Locked => "locked",
        Keep::Unlocked => "unlocked",
        Keep::Nothing => "nothing",
    };
    let tla = |truth: bool| if truth { "TRUE" } else { "FALSE" };
    format!(
        "CONSTANTS\nWriters = {{{}}}\nReaders = {{{}}}\nSaves = {saves}\n\
         Slots = {}\nCheck = \"{compare}\"\nKeep = \"{keep}\"\n\
         Verify = {}\nLockFile = {}\n",
        names("w", writers),
        names("r", readers),
        writers + readers + 2,
        tla(protocol.verify),
        tla(protocol.target == Target::LockFile),
    )
}

fn run(model: &Sessions, tail: &str) -> CheckResult {
    run_module("Lock", &(constants(model) + tail))
}

fn run_module(module: &str, configuration: &str) -> CheckResult {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run.cfg");
    std::fs::write(&path, configuration).unwrap();
    let specification = root.join(format!("../{module}.tla"));
    let mut prepared =
        prepare_from_path(&specification, Some(&path), &[]).unwrap();
    // The end is no deadlock.
    prepared.checker_config.allow_deadlock = true;
    check(&prepared.spec, &prepared.domains, &prepared.checker_config)
}

/// States, and each violated invariant with its steps.
fn specification(model: &Sessions) -> (usize, Vec<(&'static str, usize)>) {
    let mut left = INVARIANTS.to_vec();
    let mut violated = Vec::new();
    loop {
        let mut tail = String::from("SPECIFICATION Spec\n");
        for (name, _) in &left {
            writeln!(tail, "INVARIANT {name}").unwrap();
        }
        match run(model, &tail) {
            CheckResult::Ok(stats) => {
                violated.sort_unstable();
                return (stats.states_explored, violated);
            }
            CheckResult::InvariantViolation(found, _) => {
                let (name, _) = left.remove(found.violated_invariant);
                violated.push((name, found.trace.len() - 1));
            }
            other => panic!("{model:?}: {other:?}"),
        }
    }
}

/// The same from the explorer.
fn machine(model: &Sessions) -> (usize, Vec<(&'static str, usize)>) {
    let report = explore(model, Limits::default());
    let mut violated = Vec::new();
    for (name, _, verdict) in &report.verdicts {
        if let Verdict::Violated(Some(trace)) = verdict {
            let same = |(_, ours): &&(_, Option<&str>)| *ours == Some(*name);
            let (theirs, _) = INVARIANTS.iter().find(same).unwrap();
            violated.push((*theirs, trace.prefix.len()));
        }
    }
    violated.sort_unstable();
    (report.states, violated)
}

fn compare(protocol: Protocol, sizes: &[(usize, usize, u8)]) {
    for &(writers, readers, saves) in sizes {
        let model = Sessions::new(protocol, writers, readers, saves).unwrap();
        let found = machine(&model);
        assert_eq!(specification(&model), found, "{model:?}");
        println!("{} {writers}w+{readers}r: {found:?}", protocol.name);
    }
}

#[test]
fn history_2013() {
    compare(HISTORY_2013, &[(2, 0, 1), (3, 0, 1)]);
}

#[test]
fn history_2014() {
    compare(HISTORY_2014, &[(2, 0, 1), (3, 0, 1)]);
}

#[test]
fn history_2016() {
    compare(HISTORY_2016, &[(2, 0, 1), (3, 0, 1)]);
}

#[test]
fn shipped() {
    compare(SHIPPED, &[(2, 0, 1), (3, 0, 1), (2, 1, 1), (2, 0, 2)]);
}

#[test]
fn lock_file() {
    compare(LOCK_FILE, &[(2, 0, 1), (3, 0, 1)]);
}

/// States where every one of these invariants holds.
fn holds(module: &str, constants: &str, invariants: &[&str]) -> usize {
    let mut configuration = format!("{constants}SPECIFICATION Spec\n");
    for name in invariants {
        writeln!(configuration, "INVARIANT {name}").unwrap();
    }
    match run_module(module, &configuration) {
        CheckResult::Ok(stats) => stats.states_explored,
        other => panic!("{module}: {constants}: {other:?}"),
    }
}

//= spec/lock.md#s4-nothing-acknowledged-is-gone
//= spec/lock.md#s6-the-first-cause-is-reported
//= spec/lock.md#s8-others-changes-stay
#[test]
fn save() {
    for (writers, crashes, faults, changes) in [
        (1, 1, 0, 0),
        (1, 2, 0, 0),
        (2, 1, 0, 0),
        (1, 0, 1, 0),
        (2, 0, 1, 0),
        (1, 1, 1, 0),
        (1, 0, 1, 1),
        (2, 0, 0, 1),
    ] {
        let model = Troubled::new(SHIPPED, (writers, 0, 1), crashes, faults);
        let model = model.unwrap().changed(changes).unwrap();
        let constants = format!(
            "CONSTANTS\nWriters = {{{}}}\nSaves = 1\nSlots = {}\n\
             Crashes = {crashes}\nFaults = {faults}\nChanges = {changes}\n\
             Errnos = {{\"ENOSPC\", \"EIO\", \"EINTR\", \"EDQUOT\", \
             \"EACCES\"}}\n",
            names("w", writers),
            writers + 2 + usize::from(crashes + faults + changes),
        );
        let invariants = [
            "SlotsSuffice",
            "S1NoLostUpdate",
            "S1NoStaleRead",
            "S2OneHolder",
            "S3Whole",
            "S4NotGone",
            "S5Swept",
            "S5NoLeftovers",
            "S6FirstCause",
            "S8OthersStay",
        ];
        let states = holds("Save", &constants, &invariants);
        let report = explore(&model, Limits::default());
        assert_eq!(states, report.states);
    }
}

//= spec/phases.md#a1-in-order-each-once
//= spec/phases.md#a3-as-if-serial
#[test]
fn ahead() {
    use qubes_fsm::fsm::ahead::Variant;
    for (slots, chunks) in [(1, 4), (2, 4), (3, 4)] {
        let model = Pool { slots, chunks, variant: Variant::Right };
        let constants =
            format!("CONSTANTS\nSlots = {slots}\nChunks = {chunks}\n");
        let invariants =
            ["A1InOrder", "A2Bounded", "A3AsSerial", "A4NothingRuns"];
        let states = holds("Ahead", &constants, &invariants);
        assert_eq!(states, explore(&model, Limits::default()).states);
    }
}

//= spec/phases.md#b1-under-the-name-stands-a-whole-archive
//= spec/phases.md#b3-a-stream-is-whole-only-once-decided
#[test]
fn backup() {
    use qubes_fsm::fsm::backup::Target;
    let (file, stream) = (Target::File, Target::Stream);
    for (target, word, cut) in
        [(file, "file", "TRUE"), (stream, "stream", "FALSE")]
    {
        for (files, lengths, faults) in [(2, [4, 4, 0], 1), (3, [0, 2, 3], 2)] {
            let [first, second, third] = lengths;
            let constants = format!(
                "CONSTANTS\nFiles = {files}\nFirst = {first}\n\
                 Second = {second}\nThird = {third}\nTarget = \"{word}\"\n\
                 Faults = {faults}\nMayCancel = TRUE\nMayCut = {cut}\n"
            );
            let invariants = [
                "B1Whole",
                "B1cCut",
                "B2Durable",
                "B3Decided",
                "B4Canceled",
                "B5NothingLeft",
                "B6Cause",
                "B7NoEmpty",
                "B8Heard",
            ];
            let states = holds("Backup", &constants, &invariants);
            let model = Writing::troubled(target, &lengths[..files], faults);
            assert_eq!(states, explore(&model, Limits::default()).states);
        }
    }
}

//= spec/phases.md#c1-canceled-iff-accepted
//= spec/phases.md#c4-no-signal-to-others
#[test]
fn cancel() {
    for (cancelers, stubborn) in [(1, false), (1, true), (2, false), (2, true)]
    {
        let model = Cancelation { stubborn, ..Cancelation::new(cancelers) };
        let constants = format!(
            "CONSTANTS\nCancelers = {{{}}}\nStubborn = {}\n",
            names("c", cancelers),
            if stubborn { "TRUE" } else { "FALSE" },
        );
        let invariants =
            ["TypeOK", "C1Exact", "C2NobodyRuns", "C3OwnFailure", "C4NoStray"];
        let states = holds("Cancel", &constants, &invariants);
        assert_eq!(states, explore(&model, Limits::default()).states);
    }
}

//= spec/phases.md#r1-nothing-unverified-is-decoded
//= spec/phases.md#r3-what-is-published-was-backed-up
#[test]
fn restore() {
    let mut keeps = Reading::attacked(2, 2, 1);
    keeps.plan.keep_going = true;
    for (model, keep_going, edits, troubled) in [
        (Reading::honest(2, 2), "FALSE", 0, ["0", "FALSE"]),
        (Reading::attacked(2, 2, 1), "FALSE", 1, ["1", "TRUE"]),
        (keeps, "TRUE", 1, ["1", "TRUE"]),
    ] {
        let [faults, cancel] = troubled;
        let constants = format!(
            "CONSTANTS\nFiles = 2\nChunks = 2\nDigests = 3\nMade = 0\n\
             Headerless = FALSE\nVerify = FALSE\nKeepGoing = {keep_going}\n\
             Hold = FALSE\nBinding = \"perchunk\"\nEdits = {edits}\n\
             Faults = {faults}\nMayCancel = {cancel}\n"
        );
        let invariants = [
            "R1NothingEarly",
            "R2Whole",
            "R3Exact",
            "R3Index",
            "R4Everything",
            "R5Canceled",
            "R6NothingLeft",
            "R7Honest",
            "R8Decoded",
            "R10Header",
        ];
        let states = holds("Restore", &constants, &invariants);
        assert_eq!(states, explore(&model, Limits::default()).states);
    }
}

//= spec/phases.md#m1-only-whole-members-are-given
//= spec/phases.md#m3-a-clean-end-means-everything
#[test]
fn members() {
    for (announces, word) in
        [(Announces::Before, "before"), (Announces::After, "after")]
    {
        for count in [4, 6] {
            let model = Source::new(announces, count);
            let constants = format!(
                "CONSTANTS\nAnnounces = \"{word}\"\nMembers = {count}\n\
                 Room = {}\nDies = TRUE\n",
                model.room
            );
            let invariants =
                ["TypeOK", "M1WholeOnly", "M2InOrder", "M3CleanIsAll"];
            let states = holds("Members", &constants, &invariants);
            assert_eq!(states, explore(&model, Limits::default()).states);
        }
    }
}

//= spec/phases.md#k1-an-entry-has-its-folder
//= spec/phases.md#k5-nothing-is-left-unsaid
#[test]
fn commit() {
    for (beside, word) in [
        (Beside::Nobody, "nobody"),
        (Beside::Writer, "writer"),
        (Beside::SameName, "namesake"),
        (Beside::Sweep, "sweep"),
        (Beside::Folder, "folder"),
    ] {
        let model = Committing::troubled(2, beside, 1);
        let constants = format!(
            "CONSTANTS\nQubes = 2\nBeside = \"{word}\"\nCrashes = 1\n\
             Faults = 1\nMayCancel = TRUE\n"
        );
        let invariants = [
            "K1HasFolder",
            "K2AllOrNone",
            "K3NotHurt",
            "K4Exact",
            "K5Said",
            "K6OnlyOthers",
        ];
        let states = holds("Commit", &constants, &invariants);
        assert_eq!(states, explore(&model, Limits::default()).states);
    }
}

/// S7 in the specification, under weak fairness of each process.
//= spec/lock.md#s7-everyone-finishes
#[test]
fn everyone_finishes() {
    for protocol in [HISTORY_2014, HISTORY_2016, SHIPPED] {
        let model = Sessions::new(protocol, 2, 0, 1).unwrap();
        let tail = "SPECIFICATION FairSpec\nPROPERTY S7Finishes\n";
        match run(&model, tail) {
            CheckResult::Ok(stats) => {
                assert_eq!(stats.properties_checked.len(), 1);
            }
            other => panic!("{}: {other:?}", protocol.name),
        }
    }
}
