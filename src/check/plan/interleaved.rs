//! Tasks under loom, each in a process of its own.
//!
//! Lives here: the row of such a process before and after it ran, and what it
//! answers. May not live here: the models (`interleave`, `phases::schedules`).

use std::process::{Command, Stdio};
use std::time::Duration;

use super::{LOOM, Means, store_row, violated};
use crate::check::Coverage;
use crate::check::interleave::{self, Bounds, Interleaved, interleave};
use crate::check::lock::Sessions;
use crate::check::phases::rows as phase_rows;
use crate::check::phases::rows::Schedule;
use crate::check::report::{HOLDS, Row, UNDECIDED, VIOLATED};
use crate::check::trace::lines;

/// A process's answer: its row as JSON on stdout.
pub(super) fn loom_row(
    model: &Sessions,
    preemptions: Option<usize>,
    means: &Means,
) -> Row {
    let bound = preemptions.map_or("none".to_owned(), |n| n.to_string());
    let arguments = [
        model.protocol.name.to_owned(),
        model.writers.to_string(),
        model.readers.to_string(),
        model.saves.to_string(),
        bound,
    ];
    let wanted = |property: Option<&str>| {
        property.is_some() != violated(model).is_empty()
    };
    in_process(arguments, store_row(model, "loom"), wanted, means)
}

/// Runs the process of [`LOOM`]; `wanted` says whether a violated property,
/// or none, is what is expected.
fn in_process(
    arguments: [String; 5],
    base: Row,
    wanted: impl Fn(Option<&str>) -> bool,
    means: &Means,
) -> Row {
    let mut command = Command::new(&means.program);
    // Centuries are not told apart.
    let time_max = u64::try_from(means.limits.time_max.as_nanos());
    command
        .arg(LOOM)
        .args(arguments)
        .arg(time_max.unwrap_or(u64::MAX).to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let output = command.spawn().and_then(|mut child| {
        // While it is open, the process knows that we are there.
        let _alive = child.stdin.take();
        child.wait_with_output()
    });
    let brief = base.brief;
    let failed = |note: String| Row {
        coverage: Coverage::Bounded.word().to_owned(),
        property: "all".to_owned(),
        verdict: VIOLATED.to_owned(),
        expected: false,
        note: Some(note),
        ..base
    };
    match output {
        Err(error) => failed(format!("the process did not start: {error}")),
        Ok(output) => match serde_json::from_slice::<Row>(&output.stdout) {
            Ok(row) => {
                let expected = match row.verdict.as_str() {
                    VIOLATED => wanted(Some(&row.property)),
                    HOLDS => wanted(None),
                    _ => true,
                };
                Row { expected, brief, ..row }
            }
            // loom aborts on a deadlock while a guard is held: a finding.
            Err(_) => failed(format!(
                "loom ended with {}: {}",
                output.status,
                String::from_utf8_lossy(&output.stderr).trim().escape_debug()
            )),
        },
    }
}

/// What the process of [`LOOM`] answers.
pub fn loom_process(
    model: Sessions,
    preemptions: Option<usize>,
    time_max: Duration,
) -> Row {
    // Where an update is to be lost, the search must go on until it is.
    let property = violated(&model).first().copied();
    let bounds = Bounds { property, preemptions, time_max };
    if model.processes() > interleave::PROCESSES_MAX {
        return Row {
            coverage: Coverage::Cut.word().to_owned(),
            property: "all".to_owned(),
            verdict: UNDECIDED.to_owned(),
            note: Some(format!(
                "loom has room for {} processes",
                interleave::PROCESSES_MAX
            )),
            ..store_row(&model, "loom")
        };
    }
    let Interleaved { executions, elapsed, coverage, violation } =
        interleave(model, bounds);
    let base = Row {
        executions: Some(executions),
        seconds: elapsed.as_secs_f64(),
        coverage: coverage.word().to_owned(),
        bound: preemptions.map(|n| format!("{n} preemptions")),
        property: property.unwrap_or("all").to_owned(),
        ..store_row(&model, "loom")
    };
    match violation {
        Some(found) => Row {
            verdict: VIOLATED.to_owned(),
            steps: Some(found.calls.len()),
            trace: Some(lines(&model, &found.calls, &found.property)),
            note: Some(
                "loom's run is the first found, not the shortest".into(),
            ),
            property: found.property,
            bound: Some("until found".to_owned()),
            ..base
        },
        None if coverage == Coverage::Cut => {
            Row { verdict: UNDECIDED.to_owned(), ..base }
        }
        None => Row { verdict: HOLDS.to_owned(), ..base },
    }
}

/// The row that stands for models of the gate, before any was run.
fn gate_row(schedule: &Schedule) -> Row {
    let wrong = schedule.violated.is_some();
    Row {
        model: schedule.model.to_owned(),
        protocol: schedule.protocol.to_owned(),
        bounds: schedule.bounds.to_owned(),
        engine: "loom".to_owned(),
        note: wrong.then(|| schedule.about.to_owned()),
        brief: true,
        ..Row::default()
    }
}

pub(super) fn scheduled(number: usize, means: &Means) -> Vec<Row> {
    let Some(schedule) = phase_rows::schedules().into_iter().nth(number) else {
        return Vec::new();
    };
    let arguments = [
        schedule.model.to_owned(),
        number.to_string(),
        "0".to_owned(),
        "0".to_owned(),
        "none".to_owned(),
    ];
    let wanted = |property: Option<&str>| property == schedule.violated;
    vec![in_process(arguments, gate_row(&schedule), wanted, means)]
}

/// What the process of [`LOOM`] answers for the schedules of that number;
/// `None`: there are none.
pub fn schedules_process(number: usize, time_max: Duration) -> Option<Row> {
    let schedule = phase_rows::schedules().into_iter().nth(number)?;
    Some(schedule_row(&schedule, time_max))
}

/// Runs these models one after the other, until one is violated or cut. The
/// coverage is that of the one of which least was seen.
pub fn schedule_row(schedule: &Schedule, time_max: Duration) -> Row {
    let mut row = Row {
        executions: Some(0),
        coverage: Coverage::Exhaustive.word().to_owned(),
        property: "all".to_owned(),
        verdict: HOLDS.to_owned(),
        ..gate_row(schedule)
    };
    let mut coverage = Coverage::Exhaustive;
    let mut least: Option<usize> = None;
    for (model, ends) in &schedule.models {
        let found = model.run(time_max);
        row.executions = row.executions.map(|n| n + found.executions);
        row.seconds += found.elapsed.as_secs_f64();
        coverage = weaker(coverage, found.coverage);
        least = least.into_iter().chain(model.preemptions).min();
        row.coverage = coverage.word().to_owned();
        row.bound = least.map(|n| format!("{n} preemptions"));
        if let Some(property) = found.violated {
            row.verdict = VIOLATED.to_owned();
            row.bound = Some("until found".to_owned());
            row.property = property;
            return row;
        }
        if found.coverage == Coverage::Cut {
            row.verdict = UNDECIDED.to_owned();
            return row;
        }
        // A model that does not come to its ends shows nothing.
        if found.outcomes != *ends {
            row.verdict = VIOLATED.to_owned();
            row.property = "every end is reached".to_owned();
            return row;
        }
    }
    row
}

fn weaker(one: Coverage, other: Coverage) -> Coverage {
    match (one, other) {
        (Coverage::Cut, _) | (_, Coverage::Cut) => Coverage::Cut,
        (Coverage::Bounded, _) | (_, Coverage::Bounded) => Coverage::Bounded,
        (Coverage::Exhaustive, Coverage::Exhaustive) => Coverage::Exhaustive,
    }
}
