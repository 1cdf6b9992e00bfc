//! `check --compare-tla`: equal graphs are equal, and every planted difference
//! is found where it is met first. The dumps are TLC's (`spec/compare.sh dumps
//! tests/dumps`); that they are still those of the specification is seen by
//! `spec/compare.sh`, which has TLC make them all again.

#![cfg(feature = "check")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::fs;
use std::path::{Path, PathBuf};

use qubes_fsm::check::compare::dump::Dump;
use qubes_fsm::check::compare::value::Value;
use qubes_fsm::check::compare::{Compared, Specified, compare};
use qubes_fsm::check::explore::Limits;
use qubes_fsm::check::phases::World;
use qubes_fsm::check::phases::ahead::Pool;
use qubes_fsm::check::phases::backup::Writing;
use qubes_fsm::check::phases::cancel::Cancelation;
use qubes_fsm::check::phases::commit::{Beside, Committing};
use qubes_fsm::check::phases::members::Source;
use qubes_fsm::check::phases::restore::Reading;
use qubes_fsm::check::phases::rows;
use qubes_fsm::check::trouble::{Flaw, Troubled};
use qubes_fsm::check::{Model, Property};
use qubes_fsm::fsm::members::Announces;
use qubes_fsm::fsm::protocol::{HISTORY_2014, Protocol, SHIPPED};

const SAVE: &str = "save-1w.dot";
const FAULT: &str = "save-fault.dot";
const OTHERS: &str = "save-others.dot";
const AHEAD: &str = "ahead-2x3.dot";
const TO_FILE: &str = "backup-file-4.dot";
const TO_STREAM: &str = "backup-stream-4.dot";
const CANCEL: &str = "cancel-1.dot";
const RESTORE: &str = "restore-2x2.dot";
const MEMBERS: &str = "members-before-4.dot";
const COMMIT: &str = "commit-1.dot";

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dumps").join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap()
}

fn read(text: &str) -> Dump {
    Dump::read(text.as_bytes()).unwrap()
}

fn against<M: Specified>(model: &M, text: &str) -> Compared {
    compare(model, &read(text), Limits::default())
}

/// What drivers and disks do wrong where processes crash has another graph, if
/// it shows with one writer at all.
#[test]
fn flaws_are_different() {
    let text = text(SAVE);
    let right = Troubled::new(SHIPPED, (1, 0, 1), 1, 0).unwrap();
    assert!(matches!(against(&right, &text), Compared::Equal { .. }));
    for (flaw, protocol) in [
        (Flaw::FileNotSynced, SHIPPED),
        (Flaw::DirectoryNotSynced, SHIPPED),
        (Flaw::NotSwept, SHIPPED),
        (Flaw::UnlockedEarly, SHIPPED),
        (Flaw::None, HISTORY_2014),
        (Flaw::None, Protocol { sweep: false, ..SHIPPED }),
        (Flaw::None, Protocol { verify: false, ..SHIPPED }),
    ] {
        let mut model = Troubled { flaw, ..right };
        model.sessions.protocol = protocol;
        let compared = against(&model, &text);
        assert!(matches!(compared, Compared::Different(_)), "{model:?}");
    }
}

/// So has what they do wrong with calls that fail.
#[test]
fn flaws_with_failing_calls_are_different() {
    let text = text(FAULT);
    let right = Troubled::new(SHIPPED, (1, 0, 1), 0, 1).unwrap();
    assert!(matches!(against(&right, &text), Compared::Equal { .. }));
    for flaw in [
        Flaw::TempLeft,
        Flaw::WriteUnchecked,
        Flaw::SyncUnchecked,
        Flaw::DirectoryUnchecked,
        Flaw::RenameUnchecked,
        Flaw::RenamedAnyway,
        Flaw::UnlockedFailed,
    ] {
        let compared = against(&Troubled { flaw, ..right }, &text);
        assert!(matches!(compared, Compared::Different(_)), "{flaw:?}");
    }
}

/// So has what sees less of the changes that others make.
#[test]
fn flaws_beside_others_are_different() {
    let text = text(OTHERS);
    let right = Troubled::new(SHIPPED, (1, 0, 1), 0, 0).unwrap();
    let right = right.changed(1).unwrap();
    assert!(matches!(against(&right, &text), Compared::Equal { .. }));
    let flaws = [Flaw::ContentUnchecked, Flaw::StatUnchecked, Flaw::StatFirst];
    for flaw in flaws {
        let compared = against(&Troubled { flaw, ..right }, &text);
        assert!(matches!(compared, Compared::Different(_)), "{flaw:?}");
    }
    let unchanged = right.changed(0).unwrap();
    let compared = against(&unchanged, &text);
    assert!(matches!(compared, Compared::Different(_)));
}

/// Whatever was done wrong around the gate has another graph.
#[test]
fn every_mutant_of_cancel_is_different() {
    let text = text(CANCEL);
    let mut mutants = 0;
    for phase in rows::all() {
        let World::Cancel(model) = phase.world else { continue };
        let same = model == Cancelation::new(1);
        let compared = against(&model, &text);
        match compared {
            Compared::Equal { .. } => assert!(same, "{}", phase.protocol),
            Compared::Different(_) => assert!(!same, "{}", phase.protocol),
            Compared::Cut { .. } => panic!("{}", phase.protocol),
        }
        mutants += usize::from(phase.mutant);
    }
    assert_eq!(mutants, 13);
}

/// A pool that hands out verdicts otherwise has another graph.
#[test]
fn every_mutant_of_ahead_is_different() {
    use qubes_fsm::fsm::ahead::Variant;
    let text = text(AHEAD);
    let mut mutants = 0;
    for phase in rows::all() {
        let World::Ahead(Pool { variant, .. }) = phase.world else { continue };
        let same = variant == Variant::Right;
        match against(&Pool { slots: 2, chunks: 3, variant }, &text) {
            Compared::Equal { .. } => assert!(same, "{}", phase.protocol),
            Compared::Different(_) => assert!(!same, "{}", phase.protocol),
            Compared::Cut { .. } => panic!("{}", phase.protocol),
        }
        mutants += usize::from(phase.mutant);
    }
    assert_eq!(mutants, 5);
}

/// And so has who writes otherwise; numbers that go on from file to file need
/// a second file, and are seen by `spec/compare.sh`.
#[test]
fn mutants_of_backup_are_different() {
    use qubes_fsm::fsm::backup::Target;
    let texts = [TO_FILE, TO_STREAM].map(text);
    let [to_file, to_stream] = &texts;
    let mut equal = Vec::new();
    let mut mutants = 0;
    for phase in rows::all() {
        let World::Writing(mutant) = phase.world else { continue };
        let target = mutant.plan.target;
        let small = Writing::troubled(target, &[4], 1);
        let mut model = Writing { flaw: mutant.flaw, ..small };
        model.plan.variant = mutant.plan.variant;
        let text = match target {
            Target::File => to_file,
            Target::Stream => to_stream,
        };
        mutants += usize::from(phase.mutant);
        match against(&model, text) {
            Compared::Equal { .. } if phase.mutant => {
                equal.push(phase.protocol);
            }
            Compared::Equal { .. } => {}
            Compared::Different(_) => {
                assert!(phase.mutant, "{}", phase.world.bounds());
            }
            Compared::Cut { .. } => panic!("{}", phase.protocol),
        }
    }
    assert_eq!(equal, ["numbers-go-on", "numbers-go-on"]);
    assert_eq!(mutants, 27);
}

/// And so have those of the reader that read an honest archive otherwise; the
/// rest need an attacker, and are seen by `spec/compare.sh`.
#[test]
fn mutants_of_restore_are_different() {
    let text = text(RESTORE);
    let mut different = Vec::new();
    for phase in rows::all() {
        let World::Reading(mutant) = phase.world else { continue };
        if !phase.mutant || phase.model != "restore" {
            continue;
        }
        let mut model = Reading { flaw: mutant.flaw, ..Reading::honest(2, 2) };
        model.plan.variant = mutant.plan.variant;
        match against(&model, &text) {
            Compared::Equal { .. } => {}
            Compared::Different(_) => different.push(phase.protocol),
            Compared::Cut { .. } => panic!("{}", phase.protocol),
        }
    }
    let wanted = [
        "not-counted",
        "feeds-early",
        "publishes-early",
        "last-unfinished",
        "success-undecided",
        "index-anywhere",
    ];
    assert_eq!(different, wanted);
}

/// Whatever reads a source of that kind wrongly has another graph.
#[test]
fn every_mutant_of_members_is_different() {
    let text = text(MEMBERS);
    let right = Source::new(Announces::Before, 4);
    let mut mutants = 0;
    for phase in rows::all() {
        let World::Members(model) = phase.world else { continue };
        let alike = model.announces == right.announces;
        if !alike || model.members != right.members {
            continue;
        }
        match against(&model, &text) {
            Compared::Equal { .. } => assert_eq!(model, right),
            Compared::Different(_) => assert_ne!(model, right),
            Compared::Cut { .. } => panic!("{}", phase.protocol),
        }
        mutants += usize::from(phase.mutant);
    }
    assert_eq!(mutants, 5);
}

/// So has whatever puts one qube into the store otherwise; the rest need
/// more of them or somebody beside, and are seen by `spec/compare.sh`.
#[test]
fn mutants_of_commit_are_different() {
    let text = text(COMMIT);
    let mut different = Vec::new();
    for phase in rows::all() {
        let World::Committing(mutant) = phase.world else { continue };
        if !phase.mutant {
            continue;
        }
        let beside = Beside::Nobody;
        let mut model = Committing { beside, crashes: 1, ..mutant };
        model.plan.qubes = 1;
        match against(&model, &text) {
            Compared::Equal { .. } => {}
            Compared::Different(_) => different.push(phase.protocol),
            Compared::Cut { .. } => panic!("{}", phase.protocol),
        }
    }
    let wanted = [
        "entry-first",
        "saved-first",
        "unnoted",
        "forgets-early",
        "forgets-owed",
        "not-undone",
        "undecided",
        "swept-unlocked",
        "files-unsynced",
        "dirs-unsynced",
        "unlocked-early",
        "checked-early",
        "unchecked",
        "loaded-early",
        "judged-unsure",
        "lock-file",
        "stage-kept",
    ];
    assert_eq!(different, wanted);
}

/// Each edge taken out of the specification is missed, and so is each that
/// is put in, each state that is another, and each action of another name.
#[test]
fn every_edge_counts() {
    let text = text(RESTORE);
    let model = Reading::honest(2, 2);
    let lines: Vec<&str> = text.lines().collect();
    let is_edge = |line: &&str| line.contains(" -> ");
    let edges = lines.iter().filter(|line| is_edge(line)).count();
    assert_eq!(edges, 34);
    let rest = |taken: usize, put: &str| {
        let mut seen = 0;
        let mut text = String::new();
        for line in &lines {
            let mut line = (*line).to_owned();
            if is_edge(&line.as_str()) {
                if seen == taken {
                    line = put.replace("LINE", &line);
                }
                seen += 1;
            }
            text.push_str(&line);
            text.push('\n');
        }
        text
    };
    assert!(matches!(
        against(&model, &rest(0, "LINE")),
        Compared::Equal { .. }
    ));
    for edge in 0..edges {
        let Compared::Different(difference) = against(&model, &rest(edge, ""))
        else {
            panic!("{edge}");
        };
        // The archive is read in a line: every edge is the only one.
        assert_eq!(difference.actions.len(), edge);
        assert_eq!(difference.code.len(), 1);
        assert_eq!(difference.specification, []);
        let twice = lines.iter().find(|line| is_edge(line)).unwrap();
        let (from, _) = twice.split_once(" -> ").unwrap();
        let put = format!("LINE\n{from} -> {from} [label=\"Wait\"];");
        let Compared::Different(difference) =
            against(&model, &rest(edge, &put))
        else {
            panic!("{edge}");
        };
        assert_eq!(difference.code, []);
        let [added] = difference.specification.as_slice() else {
            panic!("{edge}")
        };
        assert_eq!(added.action.as_deref(), Some("Wait"));
    }
    let renamed = text.replacen("label=\"Publish\"", "label=\"Drop\"", 1);
    assert!(matches!(against(&model, &renamed), Compared::Different(_)));
    let other = text.replacen("header = TRUE", "header = FALSE", 1);
    assert_ne!(other, text);
    assert!(matches!(against(&model, &other), Compared::Different(_)));
}

/// A model that says less of its states than it knows is not equal.
#[test]
fn two_states_that_are_one_in_the_specification_are_seen() {
    struct Two;
    impl Model for Two {
        type State = u8;
        type Step = ();
        fn initial(&self) -> Vec<u8> {
            vec![0]
        }
        fn steps(&self, state: &u8, steps: &mut Vec<((), u8)>) {
            if *state < 2 {
                steps.push(((), state + 1));
            }
        }
        fn is_end(&self, _: &u8) -> bool {
            true
        }
        fn properties(&self) -> Vec<Property<Self>> {
            Vec::new()
        }
    }
    impl Specified for Two {
        const MODULE: &'static str = "Two";
        fn variables(&self, state: &u8) -> Vec<(&'static str, Value)> {
            vec![("x", Value::Truth(*state > 0))]
        }
        fn action(&self, _: &u8, (): &()) -> &'static str {
            "Go"
        }
    }
    let text = "strict digraph DiskGraph {\n\
                1 [label=\"/\\\\ x = FALSE\",style = filled]\n\
                1 -> 2 [label=\"Go\"];\n\
                2 [label=\"/\\\\ x = TRUE\"];\n\
                2 -> 2 [label=\"Go\"];\n}\n";
    let Compared::Different(difference) = against(&Two, text) else {
        panic!("equal")
    };
    let note = "two states of ours are this one of the specification: 1 and 2";
    assert_eq!(difference.note.as_deref(), Some(note));
}

/// The command, where it is built too.
#[cfg(feature = "cli")]
mod command {
    use assert_cmd::Command;
    use qubes_fsm::check::lock::Sessions;

    use super::*;

    const LOCK: &str = "lock-shipped-2w.dot";

    fn shipped() -> Sessions {
        Sessions::new(SHIPPED, 2, 0, 1).unwrap()
    }

    fn command(arguments: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_qubes-fsm"));
        let output = command.arg("check").args(arguments).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let code = output.status.code().unwrap();
        (code, text(output.stdout), text(output.stderr))
    }

    fn compared(file: &str, arguments: &[&str]) -> (i32, String) {
        let path = path(file);
        let mut all = vec!["--compare-tla", path.to_str().unwrap()];
        all.extend(arguments);
        let (code, out, err) = command(&all);
        assert_eq!(err, "", "{arguments:?}");
        (code, out)
    }

    #[test]
    fn equal_graphs_are_equal() {
        for (file, arguments, said) in [
            (
                LOCK,
                &["lock"][..],
                "lock shipped 2w+0r x1, Lock.tla: EQUAL, 107 states and 144 \
                 edges\n",
            ),
            (
                SAVE,
                &["lock", "--writers", "1", "--crash=1"],
                "lock shipped 1w, crash, Save.tla: EQUAL, 138 states and 170 \
                 edges\n",
            ),
            (
                FAULT,
                &["lock", "--writers", "1", "--faults=1"],
                "lock shipped 1w, fault, Save.tla: EQUAL, 93 states and 149 \
                 edges\n",
            ),
            (
                AHEAD,
                &["ahead", "--bounds", "2 slots, 3 chunks"],
                "ahead shipped 2 slots, 3 chunks, Ahead.tla: EQUAL, 405 states \
                 and 526 edges\n",
            ),
            (
                TO_FILE,
                &[
                    "backup",
                    "--bounds",
                    "file of 4 halves, fault, cancel, power cut",
                ],
                "backup shipped file of 4 halves, fault, cancel, power cut, \
                 Backup.tla: EQUAL, 441 states and 457 edges\n",
            ),
            (
                TO_STREAM,
                &["backup", "--bounds", "stream of 4 halves, fault, cancel"],
                "backup shipped stream of 4 halves, fault, cancel, Backup.tla: \
                 EQUAL, 148 states and 162 edges\n",
            ),
            (
                CANCEL,
                &["cancel", "--bounds", "1 canceler"],
                "cancel shipped 1 canceler, Cancel.tla: EQUAL, 174 states and \
                 297 edges\n",
            ),
            (
                RESTORE,
                &["restore", "--bounds", "2x2"],
                "restore shipped 2x2, Restore.tla: EQUAL, 35 states and 34 \
                 edges\n",
            ),
            (
                MEMBERS,
                &["members", "--protocol", "before", "--bounds", "4 members"],
                "members before 4 members, Members.tla: EQUAL, 76 states and 114 \
                 edges\n",
            ),
            (
                COMMIT,
                &["commit", "--bounds", "1 qube, 1 crash, fault, cancel"],
                "commit shipped 1 qube, 1 crash, fault, cancel, Commit.tla: \
                 EQUAL, 541 states and 906 edges\n",
            ),
        ] {
            assert_eq!(compared(file, arguments), (0, said.to_owned()));
        }
    }

    #[test]
    fn a_difference_is_shown_with_both_sides() {
        let (code, out) = compared(LOCK, &["lock", "--protocol", "2014"]);
        assert_eq!(code, 20);
        let wanted = "\
    lock 2014 2w+0r x1, Lock.tla: DIFFERENT
after 7 steps (Open, Lock, Statfd, Statname, Load, Create, Write), in the state
    base = (w1 :> {} @@ w2 :> {})
    content = <<{}, {<<w1, 1>>}, {}, {}>>
    fd = (w1 :> 1 @@ w2 :> 0)
    lock = <<{w1}, {}, {}, {}>>
    name = (w1 :> 2 @@ w2 :> 0)
    path = 1
    pc = (w1 :> \"sync\" @@ w2 :> \"open\")
    saved = (w1 :> 0 @@ w2 :> 0)
    tmp = (w1 :> 2 @@ w2 :> 0)
    whole = <<TRUE, TRUE, FALSE, FALSE>>
only the code has:
  Sync, to
    pc = (w1 :> \"closetmp\" @@ w2 :> \"open\")
only the specification has:
  Sync, to
    pc = (w1 :> \"locktmp\" @@ w2 :> \"open\")
";
        assert_eq!(out, wanted);
    }

    #[test]
    fn a_cut_graph_is_not_equal() {
        let (code, out) = compared(LOCK, &["lock", "--states-max", "10"]);
        let said = "lock shipped 2w+0r x1, Lock.tla: CUT, nothing is known \
                    beyond 7 states\n";
        assert_eq!((code, out.as_str()), (3, said));
        let limits = Limits { states_max: 107, ..Limits::default() };
        let whole = compare(&shipped(), &read(&text(LOCK)), limits);
        assert_eq!(whole, Compared::Equal { states: 107, edges: 144 });
    }

    #[test]
    fn what_is_asked_wrongly_is_said() {
        let file = path(LOCK);
        let file = file.to_str().unwrap();
        for (arguments, code, said) in [
            (
                &["--compare-tla", file][..],
                2,
                "--compare-tla: 0 models; wanted one: lock, members, ahead, \
                 cancel, backup, restore, verify or commit",
            ),
            (
                &["golden", "--compare-tla", file],
                2,
                "--compare-tla: golden has no specification in TLA+; wanted \
                 lock, members, ahead, cancel, backup, restore, verify or commit",
            ),
            (
                &["cancel", "--compare-tla", file],
                2,
                "--bounds: none given; of cancel wanted one of \"1 canceler\", \
                 \"1 canceler, stubborn\", \"2 cancelers\", \"2 cancelers, \
                 stubborn\"",
            ),
            (
                &["lock", "--compare-tla", "/nowhere"],
                10,
                "/nowhere: No such file or directory (os error 2)",
            ),
            (
                &["lock", "--compare-tla", "Cargo.toml"],
                13,
                "Cargo.toml: line 1: \"[package]\"; wanted the first line of \
                 what TLC's -dump dot writes",
            ),
        ] {
            let (found, out, err) = command(arguments);
            assert_eq!((found, out.as_str()), (code, ""), "{arguments:?}");
            assert_eq!(err, format!("qubes-fsm: ERROR: {said}\n"));
        }
    }
}
