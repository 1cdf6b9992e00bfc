//! The table of a machine: every state that can be reached, found by walking.
//!
//! Lives here: the walk (that of the machines of reading is in
//! `phase_table`), and the pictures (DOT, Mermaid) made of it. May not
//! live here: a second description of any machine; there is only `step`.

use core::fmt::Write as _;
use core::hash::Hash;
use core::ops::ControlFlow::{Break, Continue};
use std::collections::{BTreeMap, HashSet};

use super::call::{Effect, Errno, Event, Fd, FileId};
use super::{Machine, Unexpected};

/// One row: in state `from`, `effect` was made, `event` came back.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Row {
    /// The label of the state before.
    pub from: String,
    /// The call that is made there.
    pub effect: String,
    /// The kind of its answer.
    pub event: String,
    /// The label of the state after.
    pub to: String,
}

/// A machine's table: rows in the order of a breadth-first walk.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Table {
    /// Where the walk began.
    pub start: String,
    /// Every transition, once, by labels.
    pub rows: Vec<Row>,
    /// The labels of states without a next call.
    pub ends: Vec<String>,
    /// States of the machine that were walked; more than labels.
    pub states: usize,
}

/// Walks `machine` through every possible answer to every call.
///
/// Descriptors are two, files are two, failures are one: enough to reach each
/// transition, since no machine computes with them but by comparing files.
///
/// # Errors
/// A possible answer was refused: `step` lacks a row.
pub fn walk<M: Machine>(machine: M) -> Result<Table, Unexpected> {
    let label = |machine: &M| machine.label();
    walk_by(machine, label, |machine| {
        let effect = match machine.effect() {
            Continue(effect) => effect,
            Break(_) => return Ok(Vec::new()),
        };
        let answers = possible(effect).into_iter().map(|event| {
            let (effect, to) = (verb(effect), machine.step(event)?);
            Ok(Answer { effect, event: answer(event), to })
        });
        answers.collect()
    })
}

/// What can come of a state, for [`walk_by`].
pub(super) struct Answer<S> {
    /// The call that is made there.
    pub(super) effect: String,
    /// The kind of its answer.
    pub(super) event: String,
    /// The state after it.
    pub(super) to: S,
}

/// Walks from `start` wherever `answers` lead; a state without any is an end.
pub(super) fn walk_by<S: Clone + Eq + Hash, E>(
    start: S,
    label: impl Fn(&S) -> String,
    answers: impl Fn(&S) -> Result<Vec<Answer<S>>, E>,
) -> Result<Table, E> {
    let mut table = Table { start: label(&start), ..Table::default() };
    let mut known = HashSet::from([start.clone()]);
    let mut seen = vec![start];
    let mut next = 0;
    while let Some(from) = seen.get(next).cloned() {
        next += 1;
        let answers = answers(&from)?;
        if answers.is_empty() {
            push_new(&mut table.ends, label(&from));
        }
        for Answer { effect, event, to } in answers {
            let (from, to_label) = (label(&from), label(&to));
            let row = Row { from, effect, event, to: to_label };
            push_new(&mut table.rows, row);
            if known.insert(to.clone()) {
                seen.push(to);
            }
        }
    }
    table.states = seen.len();
    Ok(table)
}

/// Every answer of `effect` that the walk tries.
pub fn possible(effect: Effect) -> Vec<Event> {
    let file = |inode| FileId { device: 1, inode };
    let mut events = Vec::new();
    for (fd, file) in [(Fd(0), file(1)), (Fd(1), file(2))] {
        for event in effect.answers(fd, file, Errno::IO) {
            push_new(&mut events, event);
        }
    }
    events
}

impl Table {
    /// The picture in DOT, for Graphviz.
    pub fn dot(&self, title: &str) -> String {
        let mut out = format!("digraph \"{title}\" {{\n");
        out.push_str("  rankdir=TB;\n  node [shape=box, style=rounded];\n");
        let _ = writeln!(out, "  \"{}\" [penwidth=2];", self.start);
        for end in &self.ends {
            let _ = writeln!(out, "  \"{end}\" [peripheries=2];");
        }
        for ((from, to), label) in self.arrows() {
            let _ = writeln!(
                out,
                "  \"{from}\" -> \"{to}\" [label=\"{}\"];",
                label.join("\\n")
            );
        }
        out.push_str("}\n");
        out
    }

    /// The picture in Mermaid, for a README or a review.
    pub fn mermaid(&self) -> String {
        let id = |label: &str| label.replace([' ', ','], "_");
        let mut out = String::from("stateDiagram-v2\n");
        for state in self.states() {
            let _ = writeln!(out, "  state \"{state}\" as {}", id(&state));
        }
        let _ = writeln!(out, "  [*] --> {}", id(&self.start));
        for ((from, to), label) in self.arrows() {
            let (from, to, label) = (id(&from), id(&to), label.join(" | "));
            let _ = writeln!(out, "  {from} --> {to} : {label}");
        }
        for end in &self.ends {
            let _ = writeln!(out, "  {} --> [*]", id(end));
        }
        out
    }

    /// The labels of all states, in the order of the walk.
    pub fn states(&self) -> Vec<String> {
        let mut states = vec![self.start.clone()];
        for row in &self.rows {
            push_new(&mut states, row.to.clone());
        }
        states
    }

    /// Rows between the same two states share one arrow.
    pub fn arrows(&self) -> Vec<((String, String), Vec<String>)> {
        let mut at = BTreeMap::new();
        let mut arrows: Vec<((String, String), Vec<String>)> = Vec::new();
        for row in &self.rows {
            let ends = (row.from.clone(), row.to.clone());
            let label = format!("{}: {}", row.effect, row.event);
            let index = *at.entry(ends.clone()).or_insert(arrows.len());
            match arrows.get_mut(index) {
                Some((_, labels)) => labels.push(label),
                None => arrows.push((ends, vec![label])),
            }
        }
        arrows
    }
}

/// The call without its numbers.
fn verb(effect: Effect) -> String {
    match effect {
        Effect::Open(name, _) => format!("open {name}"),
        Effect::Lock(..) => "lock".to_owned(),
        Effect::TryLock(_) => "try lock".to_owned(),
        Effect::StatFd(_) => "fstat".to_owned(),
        Effect::StatName(name) => format!("stat {name}"),
        Effect::Read(_) => "read".to_owned(),
        Effect::Sweep => "sweep".to_owned(),
        Effect::Create => "create".to_owned(),
        Effect::Write(_) => "write".to_owned(),
        Effect::Sync(_) => "fsync".to_owned(),
        Effect::CompareStat => "compare stat".to_owned(),
        Effect::CompareContent(_) => "compare content".to_owned(),
        Effect::Rename => "rename".to_owned(),
        Effect::SyncDirectory => "fsync directory".to_owned(),
        Effect::Unlink => "unlink".to_owned(),
        Effect::Close(_) => "close".to_owned(),
    }
}

/// The answer without its numbers.
fn answer(event: Event) -> String {
    match event {
        Event::Opened(_) => "opened".to_owned(),
        Event::File(_) => "file".to_owned(),
        Event::Failed(_) => "failed".to_owned(),
        Event::Locked
        | Event::Read
        | Event::Swept
        | Event::Written
        | Event::Synced
        | Event::Same
        | Event::Changed
        | Event::Renamed
        | Event::Unlinked
        | Event::Closed => format!("{event:?}").to_lowercase(),
    }
}

fn push_new<T: PartialEq>(items: &mut Vec<T>, item: T) {
    if !items.contains(&item) {
        items.push(item);
    }
}
