//! Runs of the explorer that are made again on the kernel.
//!
//! Lives here: which runs, and the row of each. May not live here: the
//! processes that make the calls (`replay`).

use std::process::Command;

use super::{Means, REPLAY, store_row, violated};
use crate::check::Coverage;
use crate::check::directory::TempDirectory;
use crate::check::explore::explore;
use crate::check::lock::{Call, S1, Sessions};
use crate::check::replay::{Replayed, longest_run, replay};
use crate::check::report::{HOLDS, Row, UNDECIDED, VIOLATED};
use crate::check::trace::lines;

/// Every known violation's shortest run again on the kernel; for a model
/// without any, its longest run. Where a limit cut the search for it, a row
/// says so.
pub(super) fn kernel_rows(model: &Sessions, means: &Means) -> Vec<Row> {
    let broken = violated(model);
    if broken.is_empty() {
        return vec![match longest_run(model, means.limits) {
            Some(calls) => kernel_row(model, &calls, None, means),
            None => no_run(model, S1, Coverage::Cut),
        }];
    }
    let report = explore(model, means.limits);
    let rows = broken.iter().map(|name| match report.violation(name) {
        Some(trace) => {
            let calls = trace.prefix.iter().map(|(call, _)| *call);
            let calls: Vec<_> = calls.collect();
            kernel_row(model, &calls, Some(*name), means)
        }
        None => no_run(model, name, report.coverage),
    });
    rows.collect()
}

/// The row of a run that was not found. After a search of everything that is
/// not what is expected.
fn no_run(model: &Sessions, property: &str, coverage: Coverage) -> Row {
    let cut = coverage == Coverage::Cut;
    let why = if cut { "a limit cut the search for one" } else { "none found" };
    Row {
        coverage: coverage.word().to_owned(),
        property: property.to_owned(),
        verdict: UNDECIDED.to_owned(),
        expected: cut,
        note: Some(format!("no run to make again: {why}")),
        ..store_row(model, "kernel")
    }
}

fn kernel_row(
    model: &Sessions,
    calls: &[Call],
    property: Option<&'static str>,
    means: &Means,
) -> Row {
    let base = Row {
        coverage: Coverage::Bounded.word().to_owned(),
        bound: Some("1 schedule".to_owned()),
        property: property.unwrap_or(S1).to_owned(),
        ..store_row(model, "kernel")
    };
    let failed = |note: String| Row {
        verdict: UNDECIDED.to_owned(),
        expected: false,
        note: Some(note),
        ..base.clone()
    };
    let directory = match TempDirectory::new() {
        Ok(directory) => directory,
        Err(error) => {
            return failed(format!("no temporary directory: {error}"));
        }
    };
    let command = || {
        let mut command = Command::new(&means.program);
        command.arg(REPLAY);
        command
    };
    let Replayed { steps, blocked, lost, same_content, elapsed } =
        match replay(model, calls, directory.path(), &command) {
            Ok(replayed) => replayed,
            Err(error) => return failed(error.to_string()),
        };
    // Every answer was the simulated one; for S1 the file itself must show it.
    let violated = match property {
        Some(S1) => !lost.is_empty() && same_content,
        Some(_) => same_content,
        None => !lost.is_empty() || !same_content,
    };
    let waits: Vec<String> = blocked
        .iter()
        .map(|(step, process)| format!("P{process} after step {step}"))
        .collect();
    let mut note = format!(
        "{steps} steps by {} real processes; fcntl blocked: {}",
        model.processes(),
        if waits.is_empty() { "never".to_owned() } else { waits.join(", ") }
    );
    if property == Some(S1) || property.is_none() {
        let lost: Vec<String> = lost
            .iter()
            .map(|(process, _)| format!("P{}", process + 1))
            .collect();
        note.push_str("; updates lost from the real file: ");
        note.push_str(&if lost.is_empty() {
            "none".to_owned()
        } else {
            lost.join(", ")
        });
    }
    Row {
        seconds: elapsed.as_secs_f64(),
        verdict: if violated { VIOLATED } else { HOLDS }.to_owned(),
        steps: violated.then_some(steps),
        expected: violated == property.is_some(),
        depth: Some(steps),
        trace: property.map(|property| lines(model, calls, property)),
        note: Some(note),
        ..base
    }
}
