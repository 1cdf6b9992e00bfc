//! `qubes-fsm check`: what it says, in every form, and how it ends.

#![cfg(feature = "cli")]
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use assert_cmd::Command;
use qubes_fsm::fsm::protocol::NAMED;
use serde_json::Value;

/// Exit code, stdout, stderr.
fn check(arguments: &str) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qubes-fsm"));
    let output =
        command.arg("check").args(arguments.split(' ')).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let code = output.status.code().unwrap();
    (code, text(output.stdout), text(output.stderr))
}

fn rows(arguments: &str) -> (i32, Vec<Value>) {
    let (code, out, err) = check(&format!("{arguments} --format json"));
    assert_eq!(err, "");
    let rows: Vec<Value> = serde_json::from_str(&out).unwrap();
    // One object per line, between two brackets.
    assert_eq!(out.lines().count(), rows.len() + 2);
    (code, rows)
}

const FIELDS: [&str; 14] = [
    "model", "protocol", "writers", "readers", "engine", "states", "edges",
    "depth", "seconds", "coverage", "verdict", "property", "steps", "trace",
];

#[test]
fn the_race_of_2013_is_shown_and_made_again_on_the_kernel() {
    let (code, out, err) = check("--protocol 2013 --replay kernel");
    assert_eq!((code, err.as_str()), (0, ""));
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(
        lines[0],
        "lock 2013 (2w, explore): S1 no lost update, violated in 18 steps"
    );
    let head: Vec<&str> = lines[2].split_whitespace().collect();
    assert_eq!(head, ["P1", "P2"]);
    let column = lines[2].find("P2").unwrap();
    let at = |step: &str| {
        let mut lines = lines.iter();
        *lines.find(|line| line.trim_start().starts_with(step)).unwrap()
    };
    // Each process has its column.
    assert_eq!(at("9 ").find("rename(temp-file, 'qubes.xml') = 0"), Some(5));
    assert_eq!(at("8 ").find("open('qubes.xml', O_RDWR)"), Some(column));
    for wanted in [
        "fcntl(3, SETLKW, F_WRLCK) ... waits",
        "... fcntl(3, SETLKW, F_WRLCK) = granted",
        "*** fd 3 is a file without a name",
        "*** the update of P1 is lost: 'qubes.xml' is without it",
    ] {
        let line = lines.iter().find(|line| line.contains(wanted));
        assert_eq!(line.and_then(|line| line.find(wanted)), Some(column));
    }
    let kernel = "     lock 2013 (2w, kernel): S1 no lost update, violated \
                  in 18 steps: 18 steps by 2 real processes; fcntl blocked: \
                  P2 after step 8; updates lost from the real file: P1";
    assert!(lines.contains(&kernel), "{out}");
    assert_eq!(*lines.last().unwrap(), "6 verdicts, each the one expected");
}

#[test]
fn shipped_loses_nothing_on_the_kernel() {
    let (code, rows) = rows("--protocol shipped --replay kernel");
    assert_eq!(code, 0);
    let verdicts: Vec<_> = rows
        .iter()
        .map(|row| (row["engine"].as_str().unwrap(), &row["verdict"]))
        .collect();
    assert_eq!(verdicts.len(), 2);
    for (engine, verdict) in verdicts {
        assert_eq!(verdict, "holds", "{engine}");
    }
    let note = rows[1]["note"].as_str().unwrap();
    assert_eq!(
        note,
        "35 steps by 2 real processes; fcntl blocked: P2 after step 12; \
         updates lost from the real file: none"
    );
}

#[test]
fn the_list_names_every_model_and_every_check() {
    let (code, out, err) = check("--list");
    assert_eq!((code, err.as_str()), (0, ""));
    for protocol in NAMED {
        let named = |line: &&str| {
            line.split_whitespace().any(|word| word == protocol.name)
        };
        assert!(out.lines().any(|line| named(&line)), "{}", protocol.name);
    }
    for model in [
        "golden", "members", "ahead", "cancel", "backup", "restore", "verify",
        "commit",
    ] {
        assert!(out.contains(&format!("\n{model:8} ")), "{model}");
    }
    let checks = out.split("default checks:\n").nth(1).unwrap();
    let (checks, others) =
        checks.split_once("\nchecks where the model is named:\n").unwrap();
    assert_eq!(checks.lines().count(), 93);
    assert_eq!(others.lines().count(), 119);
    assert!(checks.contains("  members after 4 members explore\n"));
    assert!(checks.contains("  cancel flag-after-kill 1 canceler explore\n"));
    assert!(checks.contains("  cancel shipped 1 canceler loom\n"));
    assert!(others.contains("  restore files-twice 2x3, 3 edits, fault"));
    assert!(checks.contains("  lock shipped 4w+0r x1 explore\n"));
    assert!(checks.contains("  lock shipped 2w+0r x1 loom\n"));
    assert!(checks.contains("  lock 2013 2w+0r x1 kernel\n"));
    assert!(checks.contains("  golden no recheck 2w explore\n"));
}

#[test]
fn json_has_every_field_in_every_row() {
    let (code, rows) = rows("--protocol 2013");
    assert_eq!(code, 0);
    assert_eq!(rows.len(), 3);
    for row in &rows {
        for field in FIELDS {
            assert!(row.get(field).is_some(), "{field} is missing: {row}");
        }
        assert_eq!(row["coverage"], "exhaustive");
        let counts = [&row["states"], &row["edges"], &row["depth"]];
        assert_eq!(counts.map(|n| n.as_u64().unwrap()), [130, 182, 20]);
        let trace = row["trace"].as_array().unwrap();
        let steps = trace.iter().filter_map(|line| line["step"].as_u64());
        let wanted = row["steps"].as_u64().unwrap();
        assert!(steps.eq(1..=wanted), "{row}");
    }
    let (code, holding) = self::rows("--protocol shipped --readers 1");
    assert_eq!((code, holding.len()), (0, 1));
    for field in FIELDS {
        assert!(holding[0].get(field).is_some(), "{field}");
    }
    assert_eq!(holding[0]["verdict"], "holds");
    assert_eq!(holding[0]["property"], "all");
    assert_eq!(holding[0]["trace"], Value::Null);
}

#[test]
fn every_form_tells_the_same_steps() {
    let arguments = "--protocol 2016";
    let (_, rows) = rows(arguments);
    let (_, text, _) = check(arguments);
    let (_, junit, _) = check(&format!("{arguments} --format junit"));
    let (_, html, _) = check(&format!("{arguments} --format html"));
    let (_, json, _) = check(&format!("{arguments} --json"));
    assert_eq!(json.matches("\"verdict\":\"violated\"").count(), 3);
    assert_eq!(junit.matches("<testcase ").count(), rows.len());
    assert!(junit.contains("tests=\"3\" failures=\"0\" skipped=\"0\""));
    for row in &rows {
        let property = row["property"].as_str().unwrap();
        let steps = format!("violated in {} steps", row["steps"]);
        let said = |text: &str| {
            text.lines()
                .any(|line| line.contains(property) && line.contains(&steps))
        };
        assert!(said(&text) && said(&junit) && said(&html), "{property}");
    }
    let lengths: Vec<_> =
        rows.iter().map(|row| row["steps"].as_u64().unwrap()).collect();
    assert_eq!(lengths, [20, 16, 13]);
}

#[test]
fn a_cut_search_is_no_proof() {
    let arguments = "--protocol shipped --states-max 10";
    let (code, rows) = rows(arguments);
    assert_eq!(code, 3);
    for row in rows {
        assert_eq!(row["coverage"], "cut");
        assert_eq!(row["verdict"], "undecided");
        assert_eq!(row["states"], 10);
    }
    for format in ["text", "junit", "html", "json"] {
        let (code, out, _) = check(&format!("{arguments} --format {format}"));
        assert_eq!(code, 3, "{format}");
        assert!(out.contains("cut"), "{format}: {out}");
        // A page has a button and colors for it.
        let verdict = match format {
            "html" => "\"verdict holds\"",
            _ => "holds",
        };
        assert!(!out.contains(verdict), "{format}: {out}");
    }
    let (_, junit, _) = check(&format!("{arguments} --format junit"));
    assert!(junit.contains("<skipped message=\"cut, undecided\"/>"));
    // What a run has shown is shown, however the search ended.
    let (code, rows) = self::rows("--protocol 2013 --states-max 100");
    assert_eq!(code, 3);
    let words: Vec<_> =
        rows.iter().map(|row| row["verdict"].as_str().unwrap()).collect();
    assert!(words.contains(&"undecided") && words.contains(&"violated"));
}

/// A replay needs a run of a search: where that was cut there is a row which
/// says so, for each property that a run was to show.
#[test]
fn a_replay_without_a_run_is_undecided() {
    let kernel = |arguments: &str| {
        let (code, rows) = rows(arguments);
        assert_eq!(code, 3, "{arguments}");
        let kernel = rows.into_iter().filter(|row| row["engine"] == "kernel");
        kernel.collect::<Vec<_>>()
    };
    let limit = "--replay kernel --states-max";
    let long = kernel(&format!("--protocol shipped --writers 5 {limit} 100"));
    let short = kernel(&format!("--protocol 2013 {limit} 10"));
    assert_eq!((long.len(), short.len()), (1, 3));
    for row in long.iter().chain(&short) {
        assert_eq!(row["coverage"], "cut", "{row}");
        assert_eq!(row["verdict"], "undecided", "{row}");
        assert_eq!(row["expected"], true, "{row}");
        assert_eq!(row["bound"], Value::Null, "{row}");
        let note = "no run to make again: a limit cut the search for one";
        assert_eq!(row["note"], note, "{row}");
    }
    let properties: Vec<_> = short
        .iter()
        .map(|row| row["property"].as_str().unwrap().split(' ').next())
        .collect();
    assert_eq!(properties, ["S1", "S1", "S2"].map(Some));
    // What is there is made again: the search for it came far enough.
    let (code, some) = rows(&format!("--protocol 2013 {limit} 100"));
    assert_eq!(code, 3);
    let verdicts: Vec<_> = some
        .iter()
        .filter(|row| row["engine"] == "kernel")
        .map(|row| row["verdict"].as_str().unwrap())
        .collect();
    assert!(verdicts.contains(&"violated"), "{verdicts:?}");
    assert_eq!(verdicts.len(), 3);
}

/// As many saves as were asked for.
#[test]
fn loom_saves_as_often_as_it_is_asked_to() {
    let (code, rows) =
        rows("--protocol shipped --writers 1 --saves 2 --engine loom");
    assert_eq!((code, rows.len()), (0, 1));
    assert_eq!(rows[0]["bounds"], "1w x2");
    assert_eq!(
        (&rows[0]["saves"], &rows[0]["verdict"]),
        (&Value::from(2), &Value::from("holds"))
    );
}

/// Less than a second is less than a second for loom, too.
#[test]
fn loom_is_cut_by_a_short_limit() {
    let arguments =
        "--protocol shipped --engine loom --preemptions 1 --time-max 1ns";
    let (code, rows) = rows(arguments);
    assert_eq!((code, rows.len()), (3, 1));
    assert_eq!(rows[0]["coverage"], "cut");
    assert_eq!(rows[0]["verdict"], "undecided");
    let (code, rows) = self::rows("cancel --protocol shipped --time-max 1ns");
    assert_eq!(code, 3);
    let loom: Vec<_> =
        rows.iter().filter(|row| row["engine"] == "loom").collect();
    assert_eq!(loom.len(), 2);
    for row in loom {
        assert_eq!(row["coverage"], "cut", "{row}");
    }
}

#[test]
fn loom_says_whether_it_has_seen_all() {
    let arguments = "--protocol shipped --engine loom --preemptions 1";
    let (code, rows) = rows(arguments);
    assert_eq!((code, rows.len()), (0, 1));
    assert_eq!(rows[0]["engine"], "loom");
    assert_eq!(rows[0]["coverage"], "bounded");
    assert_eq!(rows[0]["bound"], "1 preemptions");
    assert_eq!(rows[0]["verdict"], "holds");
    let (code, rows) = self::rows("--protocol 2013 --engine loom");
    assert_eq!(code, 0);
    assert_eq!(rows[0]["verdict"], "violated");
    assert_eq!(rows[0]["property"], "S1 no lost update");
    let (code, rows) =
        self::rows("--protocol shipped --engine loom --writers 5");
    assert_eq!(code, 3);
    assert_eq!(rows[0]["coverage"], "cut");
    assert_eq!(rows[0]["note"], "loom has room for 4 processes");
}

#[test]
fn what_is_not_there_is_refused_in_full() {
    for (arguments, code, text) in [
        (
            "--protocol nope",
            2,
            "protocol \"nope\": no such protocol; wanted one of 2013, 2014, \
             2016, shipped, lock-file",
        ),
        (
            "--writers 9",
            2,
            "9 writers, 0 readers, 1 saves: the model has room for 1 to 5 \
             processes and 1 to 3 saves, and only protocols that keep the \
             lock can save twice",
        ),
        (
            "--protocol 2013 --saves 2",
            2,
            "2 writers, 0 readers, 2 saves: the model has room for 1 to 5 \
             processes and 1 to 3 saves, and only protocols that keep the \
             lock can save twice",
        ),
        (
            "sock",
            2,
            "model \"sock\": no such model; wanted one of lock, golden, \
             members, ahead, cancel, backup, restore, verify, commit",
        ),
        ("golden --writers 7", 2, "golden: 7 processes; wanted 1 to 6"),
        (
            "--crash=9",
            2,
            "1 writers, 0 readers, 1 saves: the model has room for 1 to 5 \
             processes and 1 to 3 saves, and only protocols that keep the \
             lock can save twice; whoever dies begins again, so each crash \
             takes room",
        ),
        (
            "golden --crash",
            2,
            "--crash: golden has no such bound; wanted model lock",
        ),
        (
            "golden --faults=1",
            2,
            "--faults: golden has no such bound; wanted model lock",
        ),
        (
            "golden --readers 3",
            2,
            "--readers: golden has no such bound; wanted model lock",
        ),
        (
            "golden --saves 2",
            2,
            "--saves: golden has no such bound; wanted model lock",
        ),
        (
            "golden --engine loom",
            2,
            "--engine loom: golden has no such bound; wanted model lock",
        ),
        (
            "golden --preemptions 1",
            2,
            "--preemptions: golden has no such bound; wanted model lock",
        ),
        (
            "golden --replay kernel",
            2,
            "--replay: golden has no such bound; wanted model lock",
        ),
        (
            "golden --protocol 2013",
            2,
            "--protocol: golden has no such bound; wanted model lock",
        ),
        (
            "lock golden --readers 1",
            2,
            "--readers: golden has no such bound; wanted model lock",
        ),
        (
            "lock --engine explore --preemptions 1",
            2,
            "--preemptions: --engine explore has no such bound; wanted \
             --engine loom",
        ),
        (
            "commit --writers 1 --compare-tla Cargo.toml",
            2,
            "--writers: commit has no such bound; wanted model lock",
        ),
        (
            "verify --protocol nope",
            2,
            "verify \"nope\": no such protocol; wanted one of shipped, \
             keep-going, hold, macs-only, any-end",
        ),
        (
            "restore --readers 1",
            2,
            "--readers: restore has no such bound; wanted model lock",
        ),
        (
            "restore --crash",
            2,
            "--crash: restore has no such bound; wanted model lock",
        ),
        (
            "--crash=3 --writers 2",
            2,
            "2 writers, 0 readers, 1 saves: the model has room for 1 to 5 \
             processes and 1 to 3 saves, and only protocols that keep the \
             lock can save twice",
        ),
        (
            "golden --mutants",
            2,
            "--mutants: golden has none; wanted lock, or a phase of backup or \
             restore",
        ),
        (
            "members golden --mutants",
            2,
            "--mutants: golden has none; wanted lock, or a phase of backup or \
             restore",
        ),
    ] {
        let (found, out, err) = check(arguments);
        assert_eq!(err, format!("qubes-fsm: ERROR: {text}\n"));
        assert_eq!((found, out.as_str()), (code, ""), "{arguments}");
    }
    let (code, out, err) = check("--format xml");
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains("invalid value 'xml'"), "{err}");
}

#[test]
fn crashes_and_faults_are_looked_at_where_they_are_asked_for() {
    let (code, rows) = rows("--crash --faults");
    assert_eq!((code, rows.len()), (0, 13));
    for row in &rows {
        assert_eq!(row["coverage"], "exhaustive", "{row}");
        assert_eq!(row["verdict"], "holds", "{row}");
    }
    let bounds = |rows: &[Value], protocol: &str| -> Vec<String> {
        let rows = rows.iter().filter(|row| row["protocol"] == protocol);
        rows.map(|row| row["bounds"].as_str().unwrap().to_owned()).collect()
    };
    let shipped = [
        "1w, crash, 2 faults",
        "1w, 2 crashes, fault",
        "2w, crash, 2 faults",
        "2w, 2 crashes, fault",
        "2w x2, crash, fault",
        "2w+1r, crash, fault",
        "3w, crash, fault",
    ];
    assert_eq!(bounds(&rows, "shipped"), shipped);
    // A lock file is not kept by a save, so there is no second one.
    let once: Vec<_> =
        shipped.into_iter().filter(|text| !text.contains("x2")).collect();
    assert_eq!(bounds(&rows, "lock-file"), once);
    let (code, rows) = self::rows("--crash=2 --protocol shipped --readers 1");
    assert_eq!(
        (code, bounds(&rows, "shipped")),
        (0, vec!["2w+1r, 2 crashes".to_owned()])
    );
}

/// A protocol that is broken without crashes is broken with them, in the same
/// way.
#[test]
fn a_crash_of_history_is_told_in_words() {
    let (code, rows) = rows("--crash --protocol 2016 --writers 2");
    let found: Vec<_> =
        rows.iter().map(|row| row["property"].as_str().unwrap()).collect();
    assert_eq!(
        (code, found),
        (0, vec!["S1 no lost update", "S1 no stale read", "S2 one holder"])
    );
    assert_eq!(rows[0]["bounds"], "2w, 2 crashes");
    assert_eq!(rows[0]["steps"], 20);
}

#[test]
fn every_mutant_is_found_as_its_row_says() {
    let (code, rows) = rows("--mutants");
    assert_eq!(code, 0);
    assert_eq!(rows.len(), 150);
    for row in &rows {
        assert_eq!(row["expected"], true, "{row}");
        assert_eq!(row["coverage"], "exhaustive", "{row}");
        assert!(!row["note"].as_str().unwrap().is_empty(), "{row}");
    }
    let (code, rows) = self::rows("--mutants members");
    assert_eq!((code, rows.len()), (0, 7));
}

/// A search that was cut says nothing of a mutant, neither good nor bad.
#[test]
fn a_cut_mutant_is_undecided() {
    let arguments = "--mutants lock members --states-max 10";
    let (code, rows) = rows(arguments);
    assert_eq!(code, 3);
    let (cut, all): (Vec<_>, Vec<_>) =
        rows.iter().partition(|row| row["coverage"] == "cut");
    assert!(cut.len() > 30 && all.is_empty(), "{all:?}");
    for row in cut {
        assert_eq!(row["verdict"], "undecided", "{row}");
        assert_eq!(row["property"], "all", "{row}");
        assert_eq!(row["steps"], Value::Null, "{row}");
        assert_eq!(row["states"], 10, "{row}");
        assert_eq!(row["expected"], true, "{row}");
    }
    let (code, junit, _) = check(&format!("{arguments} --format junit"));
    assert_eq!(code, 3);
    let count = |text: &str| junit.matches(text).count();
    assert_eq!((count("<failure "), count("<skipped ")), (0, rows.len()));
    let head = format!("failures=\"0\" skipped=\"{}\"", rows.len());
    assert!(junit.contains(&head), "{junit}");
}

#[test]
fn the_golden_model_is_counted() {
    let (code, rows) = rows("golden --writers 3");
    assert_eq!((code, rows.len()), (0, 1));
    assert_eq!(rows[0]["model"], "golden");
    assert_eq!(rows[0]["verdict"], "holds");
    let counts = [&rows[0]["states"], &rows[0]["edges"]];
    assert_eq!(counts.map(|n| n.as_u64().unwrap()), [1_399, 2_871]);
}

/// Every world of a phase, by name: what must hold does, what is done wrong
/// is found, by the properties that it is known to violate and no others.
#[test]
fn the_phases_are_checked_by_name() {
    let (code, rows) =
        rows("members ahead cancel backup restore verify commit");
    assert_eq!((code, rows.len()), (0, 247));
    let (loom, rows): (Vec<_>, Vec<_>) =
        rows.into_iter().partition(|row| row["engine"] == "loom");
    assert_eq!(loom.len(), 9);
    let text = |row: &Value, field: &str| {
        row[field].as_str().unwrap_or_default().to_owned()
    };
    let of = |model: &str, protocol: &str| -> Vec<_> {
        let rows = rows
            .iter()
            .filter(|row| row["model"] == model && row["protocol"] == protocol);
        rows.map(|row| {
            let property = text(row, "property");
            let short = property.split(' ').next().unwrap().to_owned();
            (text(row, "bounds"), short, row["steps"].as_u64())
        })
        .collect()
    };
    let row = |bounds: &str, property: &str, steps| {
        (bounds.to_owned(), property.to_owned(), steps)
    };
    assert_eq!(
        of("members", "before"),
        [row("4 members", "all", None), row("6 members", "all", None)]
    );
    assert_eq!(
        of("members", "after-as-before"),
        [row("4 members", "M3", Some(5)), row("4 members", "L", Some(8))]
    );
    assert_eq!(
        of("ahead", "as-finished"),
        [
            row("2 slots, 4 chunks", "A1", Some(4)),
            row("2 slots, 4 chunks", "A3", Some(4))
        ]
    );
    assert_eq!(
        of("cancel", "second-signals"),
        [row("2 cancelers", "C4", Some(10))]
    );
    // Mutants that survive are said to.
    assert_eq!(
        of("cancel", "signal-later-by-pidfd"),
        [row("1 canceler", "all", None)]
    );
    for row in &rows {
        assert_eq!(row["coverage"], "exhaustive");
        assert_eq!(row["expected"], true);
        assert_eq!(row["trace"].is_null(), row["verdict"] == "holds");
    }
}

/// The gate with real threads' schedules: where loom sees all of them, and
/// what it finds as well as the explorer.
#[test]
fn the_gate_is_checked_under_loom() {
    let loom = |protocol: &str| {
        let (code, rows) = rows(&format!("cancel --protocol {protocol}"));
        assert_eq!(code, 0, "{protocol}");
        let rows = rows.into_iter().filter(|row| row["engine"] == "loom");
        rows.collect::<Vec<_>>()
    };
    let right = loom("shipped");
    assert_eq!(right.len(), 2);
    for (row, coverage, least) in
        [(&right[0], "exhaustive", 300), (&right[1], "bounded", 5_000)]
    {
        assert_eq!(row["verdict"], "holds");
        assert_eq!(row["coverage"], coverage);
        assert!(row["executions"].as_u64().unwrap() > least, "{row}");
    }
    assert_eq!(right[1]["bound"], "2 preemptions");
    for (protocol, property) in [
        ("flag-after-kill", "C3 failed only by itself"),
        ("look-then-publish", "C1 canceled iff accepted"),
        ("signal-later", "C4 no signal to others"),
        ("refused-left", "C2 at an end no child is left"),
    ] {
        let rows = loom(protocol);
        assert_eq!(rows.len(), 1, "{protocol}");
        assert_eq!(rows[0]["verdict"], "violated", "{protocol}");
        assert_eq!(rows[0]["property"], property, "{protocol}");
    }
    // What only hangs is the explorer's.
    assert_eq!(loom("register-blind").len(), 0);
}

/// One configuration of one machine; all it takes is its name.
#[test]
fn a_phase_is_picked_by_its_protocol() {
    let (code, rows) = rows("restore --protocol unbound");
    assert_eq!((code, rows.len()), (0, 2));
    assert_eq!(rows[0]["property"], "R3 what is published was backed up");
    assert_eq!(rows[0]["steps"], 21);
    assert_eq!(rows[0]["bounds"], "2x2, 1 edit, fault, cancel");
    let counts = [&rows[0]["states"], &rows[0]["edges"], &rows[0]["depth"]];
    assert_eq!(counts.map(|n| n.as_u64().unwrap()), [2_963, 3_826, 35]);
    let (code, rows) = self::rows("verify --protocol macs-only");
    assert_eq!((code, rows.len()), (0, 2));
    assert_eq!(rows[1]["property"], "R8 verified means decoded");
    assert_eq!(rows[1]["steps"], 10);
}

/// The runs are in the JSON and, if asked for, in the text: what was done,
/// by whom, and what it means.
#[test]
fn the_run_of_a_phase_is_shown_in_words() {
    let arguments = "cancel --protocol record-dropped";
    let (code, brief, err) = check(arguments);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(brief.starts_with("model "), "{brief}");
    let left = "2 runs are not shown: -v shows them\n\
                3 verdicts, each the one expected\n";
    assert!(brief.ends_with(left), "{brief}");
    let (_, text, _) = check(&format!("{arguments} -v"));
    let wanted = "\
cancel record-dropped (1 canceler, explore): C3 failed only by itself, violated in 10 steps

     worker                         children                       canceler
  1  look at the flag = unset
  2  start child 1
  3  register child 1 = ok
  4                                                                cancel = accepted, kill(child 1, SIGTERM)
  5                                 child 1 ends by a signal
  6  wait for child 1 = ended by a signal
  7  forget child 1
  8  reap child 1
  9  decide for failure = ok
 10  clean up
     *** it ends: failed; a cancel was accepted
     *** nothing failed by itself
";
    assert!(text.contains(wanted), "{text}");
    assert!(!text.contains("not shown"), "{text}");
    let (_, rows) = rows(arguments);
    let names = serde_json::json!(["worker", "children", "canceler"]);
    assert_eq!(rows[1]["columns"], names);
    assert_eq!(
        rows[1]["trace"][3]["text"],
        "cancel = accepted, kill(child 1, SIGTERM)"
    );
    assert_eq!(rows[1]["trace"][3]["process"], 3);
    // A run that goes on for ever says from where.
    let (_, text, _) = check("members --protocol room-for-two -v");
    let wanted = "
  8  waits for room
                                                    waits for a name
                                                    *** and again from step 8, for ever
";
    assert!(text.contains(wanted), "{text}");
    // An attacker has a column of its own.
    let (_, text, _) = check("restore --protocol checksum -v");
    let wanted = "
  5                                                 puts chunk 0 of 'qubes.xml' of an older backup here
     take the next member = chunk 0 of 'qubes.xml'
";
    assert!(text.contains(wanted), "{text}");
}

#[test]
fn the_phases_are_told_in_every_form() {
    let arguments = "ahead --protocol bad-first";
    for (format, wanted) in [
        (
            "junit",
            "<testcase classname=\"ahead bad-first.explore\" \
             name=\"2 slots, 4 chunks: A3 as if serial\"",
        ),
        ("html", "<td>A3 as if serial</td><td class=\"verdict violated\">"),
        ("html", ">violated in 4 steps</a></td>"),
        ("html", "style=\"--column:3\">hashes</span>"),
        ("json", "\"columns\":[\"source\",\"hashes\",\"reader\"]"),
    ] {
        let (code, out, _) = check(&format!("{arguments} --format {format}"));
        assert_eq!(code, 0, "{format}");
        assert!(out.contains(wanted), "{format}: {out}");
    }
    let (code, rows) = rows(&format!("{arguments} --states-max 10"));
    assert_eq!((code, rows.len()), (3, 1));
    assert_eq!(rows[0]["verdict"], "undecided");
}

/// The picture of a phase is that of its machine; `ahead` has none.
#[test]
fn a_phase_can_be_drawn() {
    for (arguments, title, arrow) in [
        ("members", "members before", "\"asking\" -> \"over, clean\""),
        (
            "members --protocol after",
            "members after",
            "\"asking\" -> \"giving\" [label=\"ask: a name\"]",
        ),
        (
            "cancel --protocol reap-first",
            "cancel",
            "\"open\" -> \"flagged\" [label=\"cancel: accepted\"]",
        ),
        (
            "restore",
            "restore shipped",
            "\"verifying\" -> \"releasing\" [label=\"verify: good\"]",
        ),
        (
            "commit",
            "commit shipped",
            "\"deciding, save\" -> \"saving\" [label=\"decide: ok\"]",
        ),
        (
            "verify --protocol macs-only",
            "verify macs-only",
            "\"verifying\" -> \"data\" [label=\"verify: good\"]",
        ),
        ("lock", "shipped", "\"opening\" -> \"locking\""),
    ] {
        let (code, out, _) = check(&format!("{arguments} --format dot"));
        assert_eq!(code, 0, "{arguments}");
        let begin = format!("digraph \"{title}\" {{\n");
        assert!(out.starts_with(&begin), "{arguments}: {out}");
        assert!(out.contains(arrow), "{arguments}: {out}");
    }
    for (arguments, text) in [
        (
            "ahead",
            "ahead: no picture, its states are numbers; wanted one of lock, \
             members, cancel, backup, restore, verify, commit",
        ),
        ("members cancel", "a picture shows one machine; wanted one model"),
        (
            "members --protocol nope",
            "members \"nope\": no such protocol; wanted one of before, \
             after, before-as-after, after-as-before, read-ahead-kept, \
             held-kept, given-after-death, last-dropped, room-for-two",
        ),
    ] {
        let (code, out, err) = check(&format!("{arguments} --format dot"));
        assert_eq!(err, format!("qubes-fsm: ERROR: {text}\n"));
        assert_eq!((code, out.as_str()), (2, ""), "{arguments}");
    }
}

#[test]
fn every_form_can_go_to_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("report");
    let shown = path.display();
    for (format, begin, end) in [
        ("dot", "digraph \"2014\" {\n", "}\n"),
        ("mermaid", "stateDiagram-v2\n", " --> [*]\n"),
        ("html", "<!DOCTYPE html>\n", "</html>\n"),
        (
            "junit",
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite ",
            "</testsuite>\n",
        ),
        ("json", "[\n{\"model\":\"lock\",", "}\n]\n"),
        ("text", "model ", "1 verdicts, each the one expected\n"),
    ] {
        let arguments = format!("--protocol 2014 --format {format}");
        let (code, out, err) = check(&format!("{arguments} --out {shown}"));
        assert_eq!((code, out.as_str(), err.as_str()), (0, "", ""));
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with(begin), "{format}: {text}");
        assert!(text.ends_with(end), "{format}: {text}");
        // A dash is stdout, as without the option.
        let (code, out, _) = check(&format!("{arguments} --out -"));
        assert_eq!(code, 0);
        assert!(out.starts_with(begin), "{format}: {out}");
    }
    let missing = directory.path().join("missing/report");
    let (code, _, err) = check(&format!(
        "--protocol 2014 --format dot --out {}",
        missing.display()
    ));
    assert_eq!(code, 10);
    assert!(err.contains("missing/report"), "{err}");
}

#[test]
fn an_unexpected_file_form_has_no_control_characters() {
    for format in ["text", "json", "junit", "html", "dot", "mermaid"] {
        let (_, out, _) = check(&format!("--protocol 2013 --format {format}"));
        let odd = out.chars().find(|c| c.is_control() && *c != '\n');
        assert_eq!(odd, None, "{format}");
    }
}

/// Where there is no room for the stacks of all threads one searches alone,
/// and the row says so.
#[test]
fn threads_that_the_system_does_not_give_are_not_named() {
    let text = "ulimit -v 9000000 && RUST_MIN_STACK=1073741824 exec \"$0\" \
                check golden --writers 2 --threads 256 --format json";
    let program = env!("CARGO_BIN_EXE_qubes-fsm");
    let output = Command::new("sh").args(["-c", text, program]).output();
    let output = output.unwrap();
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(rows[0]["engine"], "explore");
    assert_eq!(rows[0]["bound"], "by 1 of 256 threads");
    assert_eq!(rows[0]["coverage"], "exhaustive");
}

/// Threads and reductions say what they are, and leave liveness out.
#[test]
fn reductions_are_named() {
    let way = "lock --protocol shipped --writers 3";
    let (code, all) = rows(&format!("{way} --threads 2"));
    assert_eq!(code, 0);
    assert_eq!(all[0]["engine"], "explore x2");
    assert_eq!(all[0]["property"], "all safety");
    assert_eq!(all[0]["coverage"], "exhaustive");
    let (code, fewer) = rows(&format!("{way} --symmetry"));
    assert_eq!(code, 0);
    assert_eq!(fewer[0]["bound"], "by symmetry");
    let states = |rows: &[Value]| rows[0]["states"].as_u64().unwrap();
    assert!(states(&fewer) * 3 < states(&all));
    let (code, prints) = rows(&format!("{way} --fingerprints"));
    assert_eq!(code, 0);
    assert_eq!(prints[0]["coverage"], "bounded");
    let bound = "probabilistic: 64-bit fingerprints";
    assert_eq!(prints[0]["bound"], bound);
    assert_eq!(states(&prints), states(&all));
    // A run among representatives is a real one: its names fit each other.
    let (code, found) = rows("lock --protocol 2013 --writers 3 --symmetry");
    assert_eq!(code, 0);
    let lost = found.iter().find(|row| row["property"] == "S1 no lost update");
    assert_eq!(lost.unwrap()["steps"], 18);
    let (_, golden) = rows("golden --writers 4 --symmetry --threads 2");
    assert_eq!(states(&golden), 1_508);
    // Who names both gets both.
    let (code, both) = rows("lock golden --writers 2 --threads 2");
    assert_eq!(code, 0);
    let last = both.last().unwrap();
    assert_eq!(
        (&last["model"], &last["engine"]),
        (&Value::from("golden"), &Value::from("explore x2"))
    );
    let (_, alone) = rows("golden --writers 2 --threads 2");
    let (_, others) = rows("lock --writers 2 --threads 2");
    assert_eq!((alone.len(), both.len()), (1, others.len() + 1));
    let (code, plain) = rows("golden --writers 2 --engine explore");
    assert_eq!((code, states(&plain)), (0, states(&alone)));
    for wrong in ["members --symmetry", "lock --symmetry --engine loom"] {
        assert_eq!(check(wrong).0, 2, "{wrong}");
    }
}

/// Fewer orders: said in each row, with what that leaves open; refused where
/// it would prove nothing.
#[test]
fn partial_order_is_named() {
    let way = "lock --protocol shipped --writers 3 --partial-order";
    let (code, alone) = rows(way);
    assert_eq!(code, 0);
    assert_eq!(alone[0]["property"], "all safety");
    assert_eq!(alone[0]["coverage"], "exhaustive");
    assert_eq!(alone[0]["bound"], "by partial order");
    assert_eq!(alone[0]["states"], 310);
    assert_eq!(alone[0]["depth"], Value::Null);
    assert_eq!(
        alone[0]["note"],
        "S7 is not looked at: who never finishes may be in the orders left out"
    );
    let (code, both) = rows(&format!("{way} --symmetry --threads 2"));
    assert_eq!(code, 0);
    assert_eq!(both[0]["bound"], "by symmetry; by partial order");
    assert_eq!(both[0]["states"], 65);
    let (code, found) =
        rows("lock --protocol 2013 --writers 3 --partial-order --symmetry");
    assert_eq!(code, 0);
    let lost = found.iter().find(|row| row["property"] == "S1 no lost update");
    let lost = lost.unwrap();
    assert!(lost["steps"].as_u64().unwrap() >= 18);
    assert_eq!(
        lost["note"],
        "found in fewer orders: there may be a shorter run"
    );
    let (_, text, _) = check("lock --protocol 2013 --partial-order");
    assert!(text.contains("there may be a shorter run"), "{text}");
    for (wrong, why) in [
        ("lock --partial-order --crash", "none is independent"),
        ("lock --partial-order --faults", "none is independent"),
        ("golden --partial-order", "golden is there for its counts"),
        ("members --partial-order", "members has no such bound"),
        ("lock --partial-order --engine loom", "cannot be used with"),
        ("lock --partial-order --mutants", "cannot be used with"),
    ] {
        let (code, _, err) = check(wrong);
        assert_eq!(code, 2, "{wrong}");
        assert!(err.contains(why), "{wrong}: {err}");
    }
}

#[test]
fn the_list_has_json() {
    let (code, out, err) = check("--list --json");
    assert_eq!((code, err.as_str()), (0, ""));
    let found: Value = serde_json::from_str(&out).unwrap();
    let checks = found["checks"].as_array().unwrap();
    let is_default = |row: &&Value| row["default"] == true;
    let by_default = checks.iter().filter(is_default).count();
    assert!(by_default > 20 && by_default < checks.len(), "{by_default}");
    let (_, text, _) = check("--list");
    for row in checks {
        assert!(text.contains(row["check"].as_str().unwrap()), "{row}");
    }
}
