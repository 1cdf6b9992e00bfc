//! What a check found, one row per model, engine and property.
//!
//! Lives here: rows, and their forms: text, JSON, JUnit; the page is in
//! `page`. May not live here: how a row came about.

use core::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::explore::Coverage;
use super::trace::{Line, named_columns, process_names};

/// One row of a report: the fields of `check --format json`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Row {
    /// Which model.
    pub model: String,
    /// Which variant of it.
    pub protocol: String,
    /// Processes that save.
    pub writers: usize,
    /// Processes that only load.
    pub readers: usize,
    /// Saves of each writer.
    pub saves: usize,
    /// How large the model is, in a few words: writers, readers and saves of
    /// the store, or what the world of a phase has.
    pub bounds: String,
    /// `explore`, `loom` or `kernel`.
    pub engine: String,
    /// Distinct states, where the engine counts them.
    pub states: Option<usize>,
    /// Steps between them.
    pub edges: Option<usize>,
    /// Steps to the state farthest from the beginning.
    pub depth: Option<usize>,
    /// Schedules that were run, where the engine runs them one by one.
    pub executions: Option<u64>,
    /// Wall time.
    pub seconds: f64,
    /// `exhaustive`, `bounded` or `cut`.
    pub coverage: String,
    /// The bound, where there is one.
    pub bound: Option<String>,
    /// `holds`, `violated` or `undecided`.
    pub verdict: String,
    /// Which property; `all` for a row that speaks of all.
    pub property: String,
    /// Steps of the run that violates it.
    pub steps: Option<usize>,
    /// Whether the verdict is the one that is wanted.
    pub expected: bool,
    /// Anything that a reader should know of the run.
    pub note: Option<String>,
    /// The run that violates the property.
    pub trace: Option<Vec<Line>>,
    /// Who has which column of the trace; none: P1, P2 and so on.
    pub columns: Vec<String>,
    /// The text shows the run only where all are asked for, or if it is not
    /// expected.
    #[serde(skip)]
    pub brief: bool,
}

impl Coverage {
    /// The word of the reports.
    pub fn word(self) -> &'static str {
        match self {
            Self::Exhaustive => "exhaustive",
            Self::Bounded => "bounded",
            Self::Cut => "cut",
        }
    }
}

impl Row {
    /// `holds`, `violated in N steps` or `undecided`.
    pub fn verdict_text(&self) -> String {
        match (self.verdict.as_str(), self.steps) {
            (VIOLATED, Some(steps)) => format!("violated in {steps} steps"),
            (verdict, _) => verdict.to_owned(),
        }
    }

    pub(super) fn title(&self) -> String {
        let protocol = if self.protocol.is_empty() {
            String::new()
        } else {
            format!(" {}", self.protocol)
        };
        format!("{}{protocol}", self.model)
    }

    /// The run in its columns.
    fn run(&self, width: usize) -> String {
        let lines = self.trace.as_deref().unwrap_or_default();
        named_columns(lines, &self.column_names(), width)
    }

    /// Who has which column of the run.
    pub(super) fn column_names(&self) -> Vec<String> {
        if self.columns.is_empty() {
            process_names(self.writers + self.readers)
        } else {
            self.columns.clone()
        }
    }

    pub(super) fn coverage_text(&self) -> String {
        match &self.bound {
            Some(bound) => format!("{} ({bound})", self.coverage),
            None => self.coverage.clone(),
        }
    }
}

/// The verdict of a property that is true as far as the coverage goes.
pub const HOLDS: &str = "holds";
/// The verdict of a property that a run violates.
pub const VIOLATED: &str = "violated";
/// The verdict of a search that was cut before it could say.
pub const UNDECIDED: &str = "undecided";

/// One line per row, columns aligned; the phases have a block of their own.
pub fn table(rows: &[Row]) -> String {
    let blocks = rows.chunk_by(|row, next| row.brief == next.brief);
    let blocks: Vec<_> = blocks.map(block).collect();
    blocks.join("\n")
}

fn block(rows: &[Row]) -> String {
    let head = [
        "model", "bounds", "engine", "states", "edges", "depth", "time",
        "coverage", "property", "verdict", "",
    ]
    .map(str::to_owned);
    let count = |n: Option<usize>| n.map_or("-".to_owned(), grouped);
    let lines = rows.iter().map(|row| {
        let states = match row.executions {
            Some(runs) => format!("{} runs", grouped(runs as usize)),
            None => count(row.states),
        };
        let mark = if row.expected { "" } else { "UNEXPECTED" };
        [
            row.title(),
            row.bounds.clone(),
            row.engine.clone(),
            states,
            count(row.edges),
            count(row.depth),
            format!("{:.2} s", row.seconds),
            row.coverage_text(),
            row.property.clone(),
            row.verdict_text(),
            mark.to_owned(),
        ]
    });
    let cells: Vec<_> = core::iter::once(head).chain(lines).collect();
    let mut widths = [0; 11];
    for line in &cells {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    for line in &cells {
        let mut text = String::new();
        for (column, (cell, width)) in line.iter().zip(widths).enumerate() {
            // Numbers stand at the right.
            if (3..=6).contains(&column) {
                let _ = write!(text, "{cell:>width$}  ");
            } else {
                let _ = write!(text, "{cell:width$}  ");
            }
        }
        out.push_str(text.trim_end());
        out.push('\n');
    }
    out
}

/// Titles and traces of the rows that have one, then the table. `all`: those
/// of brief rows too.
pub fn text(rows: &[Row], width: usize, all: bool) -> String {
    let mut out = String::new();
    let mut shown: Vec<&Row> = Vec::new();
    let mut left = 0;
    for row in rows {
        // A run that another picture begins with needs no picture.
        let again = shown.iter().any(|other| begins_with(other, row));
        if row.trace.is_none() || (again && row.expected) {
            continue;
        }
        if row.brief && row.expected && !all {
            left += 1;
            continue;
        }
        picture(&mut out, row, rows, width);
        shown.push(row);
    }
    out.push_str(&table(rows));
    for row in rows {
        // What was done wrong and is found needs no word.
        let plain = row.brief && row.expected && row.verdict == VIOLATED;
        if let (None, Some(note), false) = (&row.trace, &row.note, plain) {
            let (title, bounds) = (row.title(), &row.bounds);
            let _ = writeln!(out, "{title} {bounds} {}: {note}", row.engine);
        }
    }
    if left > 0 {
        let _ = writeln!(out, "{left} runs are not shown: -v shows them");
    }
    out.push_str(&summary(rows));
    out
}

/// Title, columns, and below them the other engines that found the same.
fn picture(out: &mut String, row: &Row, rows: &[Row], width: usize) {
    let title = |row: &Row| {
        let (title, bounds) = (row.title(), &row.bounds);
        format!(
            "{title} ({bounds}, {}): {}, {}",
            row.engine,
            row.property,
            row.verdict_text()
        )
    };
    let _ = writeln!(out, "{}\n", title(row));
    out.push_str(&row.run(width));
    let same = |other: &&Row| {
        other.bounds == row.bounds
            && other.title() == row.title()
            && other.property == row.property
    };
    for other in rows.iter().filter(same) {
        if let Some(note) = &other.note {
            let _ = writeln!(out, "     {}: {note}", title(other));
        }
    }
    out.push('\n');
}

/// Whether `other` shows `row`'s run already, as its beginning or in full.
fn begins_with(other: &Row, row: &Row) -> bool {
    let found = row.engine == "loom" && other.property == row.property;
    other.model == row.model
        && other.protocol == row.protocol
        && (found || steps(other).starts_with(&steps(row)))
}

/// The last line of a report.
pub fn summary(rows: &[Row]) -> String {
    let wrong = rows.iter().filter(|row| !row.expected).count();
    let cut = rows.iter().filter(|row| row.coverage == "cut").count();
    let mut out = format!("{} verdicts", rows.len());
    let _ = match (wrong, cut) {
        (0, 0) => write!(out, ", each the one expected"),
        (0, _) => write!(out, ", none unexpected"),
        (wrong, _) => write!(out, ", {wrong} not the one expected"),
    };
    if cut > 0 {
        let _ = write!(out, ", {cut} cut by a limit");
    }
    out.push('\n');
    out
}

/// An array with one object per row, one row per line.
///
/// # Errors
/// None of the types can fail to be written as JSON; serde's signature.
pub fn json(rows: &[Row]) -> Result<String, serde_json::Error> {
    let lines: Result<Vec<String>, _> =
        rows.iter().map(serde_json::to_string).collect();
    Ok(format!("[\n{}\n]\n", lines?.join(",\n")))
}

/// One test case per row, for CI systems.
pub fn junit(rows: &[Row]) -> String {
    let failures = rows.iter().filter(|row| !row.expected).count();
    let skipped = rows.iter().filter(|row| is_skipped(row)).count();
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(
        out,
        "<testsuite name=\"qubes-fsm check\" tests=\"{}\" \
         failures=\"{failures}\" skipped=\"{skipped}\">",
        rows.len()
    );
    for row in rows {
        let name = format!("{}: {}", row.bounds, row.property);
        let _ = write!(
            out,
            "  <testcase classname=\"{}.{}\" name=\"{}\" time=\"{:.3}\">",
            escape(&row.title()),
            row.engine,
            escape(&name),
            row.seconds
        );
        let verdict =
            format!("{}, {}", row.coverage_text(), row.verdict_text());
        if !row.expected {
            let _ = write!(
                out,
                "<failure message=\"{}\">{}</failure>",
                escape(&verdict),
                escape(&row.run(100))
            );
        } else if is_skipped(row) {
            let _ = write!(out, "<skipped message=\"{}\"/>", escape(&verdict));
        } else {
            let _ =
                write!(out, "<system-out>{}</system-out>", escape(&verdict));
        }
        out.push_str("</testcase>\n");
    }
    out.push_str("</testsuite>\n");
    out
}

/// Cut, and nothing wrong that was seen: what is wrong is a failure.
fn is_skipped(row: &Row) -> bool {
    row.expected && row.coverage == "cut"
}

/// For XML and HTML.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// Who made which call, step by step.
fn steps(row: &Row) -> Vec<(usize, &str)> {
    let lines = row.trace.iter().flatten();
    let steps = lines.filter(|line| line.step.is_some());
    steps.map(|line| (line.process, line.text.as_str())).collect()
}

/// A number with commas.
pub(super) fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
