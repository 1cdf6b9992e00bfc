//! Which checks there are, what each should find, and running them.
//!
//! Lives here: the default list, the expected verdicts, and the way from a
//! task to its rows. May not live here: the engines.

mod interleaved;
mod replayed;

use std::path::PathBuf;

use super::explore::{
    Limits, NO_DEADLOCK, Progress, Report, Trace, Verdict, explore_watched,
};
use super::golden::Golden;
use super::lock::{Call, S1, S1_STALE, S2, S8, Sessions};
use super::mutants;
use super::phases::rows as phase_rows;
use super::phases::rows::Schedule;
use super::phases::words::{self, Words};
use super::phases::{ENDS, Phase, World};
use super::report::{HOLDS, Row, UNDECIDED, VIOLATED};
use super::trace::lines;
use super::trouble::{self, Troubled};
use super::wide::{How, search_watched};
use super::{Kind, Model};
use crate::fsm::protocol::{
    Compare, HISTORY_2013, HISTORY_2014, HISTORY_2016, LOCK_FILE, SHIPPED,
    Target,
};
use crate::sim::disk::SAVES;

pub use interleaved::{loom_process, schedule_row, schedules_process};
use interleaved::{loom_row, scheduled};
use replayed::kernel_rows;

/// One thing to check.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Task {
    /// The store's model in the explorer.
    Explore(Sessions),
    /// The store's model under loom, in a process of its own.
    Loom(Sessions, Option<usize>),
    /// The store's model with crashes and failing calls, in the explorer.
    Trouble(Troubled),
    /// The row of this number of [`mutants`].
    Mutant(usize),
    /// Runs of the explorer, made again with real processes.
    Kernel(Sessions),
    /// The model whose counts other checkers know.
    Golden(Golden),
    /// The store's model, for safety, with threads or reductions.
    WideExplore(Sessions, How),
    /// The same of the model whose counts other checkers know.
    WideGolden(Golden, How),
    /// The world of a machine of reading backups, in the explorer.
    Phase(Phase),
    /// The schedules of this number of [`phase_rows::schedules`], under loom.
    Schedules(usize),
}

impl Task {
    /// The model, as the command line names it.
    pub fn model(&self) -> &'static str {
        match self {
            Self::Explore(_)
            | Self::Trouble(_)
            | Self::Loom(..)
            | Self::WideExplore(..)
            | Self::Kernel(_) => LOCK,
            Self::Mutant(number) => mutants::model(*number),
            Self::Golden(_) | Self::WideGolden(..) => GOLDEN,
            Self::Phase(phase) => phase.model,
            Self::Schedules(_) => phase_rows::CANCEL,
        }
    }

    /// What is run, in one line.
    pub fn title(&self) -> String {
        match self {
            Self::Explore(model) => store_title(model, "explore"),
            Self::Trouble(model) => {
                let bounds = trouble_bounds(model);
                let name = model.sessions.protocol.name;
                format!("{LOCK} {name} {bounds} explore")
            }
            Self::Mutant(number) => mutants::title(*number),
            Self::Loom(model, None) => store_title(model, "loom"),
            Self::Loom(model, Some(n)) => {
                store_title(model, &format!("loom, at most {n} preemptions"))
            }
            Self::Kernel(model) => store_title(model, "kernel"),
            Self::Golden(golden) => golden_title(golden, "explore"),
            Self::WideExplore(model, how) => {
                store_title(model, &wide_engine(*how))
            }
            Self::WideGolden(golden, how) => {
                golden_title(golden, &wide_engine(*how))
            }
            Self::Phase(Phase { model, protocol, world, .. }) => {
                format!("{model} {protocol} {} explore", world.bounds())
            }
            Self::Schedules(number) => {
                let schedule = phase_rows::schedules().into_iter().nth(*number);
                schedule.map_or_else(String::new, |schedule| {
                    let Schedule { model, protocol, bounds, .. } = schedule;
                    format!("{model} {protocol} {bounds} loom")
                })
            }
        }
    }
}

fn golden_title(golden: &Golden, engine: &str) -> String {
    let recheck = if golden.recheck { "" } else { " no recheck" };
    format!("{GOLDEN}{recheck} {}w {engine}", golden.processes)
}

/// The explorer of so many threads.
fn wide_engine(how: How) -> String {
    match how.threads {
        1 => "explore".to_owned(),
        n => format!("explore x{n}"),
    }
}

fn store_title(model: &Sessions, engine: &str) -> String {
    let Sessions { protocol, writers, readers, saves } = model;
    let name = protocol.name;
    format!("{LOCK} {name} {writers}w+{readers}r x{saves} {engine}")
}

/// How tasks are run.
#[derive(Clone, Debug)]
pub struct Means {
    /// How far each search may go.
    pub limits: Limits,
    /// This program, to start processes for loom and for a replay; they get
    /// [`LOOM`] or [`REPLAY`] and further arguments.
    pub program: PathBuf,
    /// Told twice a second how far a search is.
    pub watch: fn(Progress),
}

/// The store's model, as the command line names it.
pub const LOCK: &str = "lock";
/// The model whose counts are known, as the command line names it.
pub const GOLDEN: &str = "golden";
/// First argument of a process that runs one model under loom.
pub const LOOM: &str = "check-loom";
/// First argument of a process that makes one column of a replay.
pub const REPLAY: &str = "check-replay";
/// How often loom may interrupt where it cannot try everything.
pub const PREEMPTIONS: usize = 2;

/// The default list: history first, then what is shipped, then the check of
/// the checker, then the phases of reading a backup.
pub fn default_tasks() -> Vec<Task> {
    let mut tasks = Vec::new();
    let sessions = |protocol, writers, readers, saves| {
        Sessions::new(protocol, writers, readers, saves).ok()
    };
    let mut explore = |protocol, writers, readers, saves| {
        tasks.extend(
            sessions(protocol, writers, readers, saves).map(Task::Explore),
        );
    };
    explore(HISTORY_2013, 2, 0, 1);
    explore(HISTORY_2013, 3, 0, 1);
    explore(HISTORY_2014, 3, 0, 1);
    explore(HISTORY_2016, 2, 0, 1);
    explore(HISTORY_2016, 3, 0, 1);
    for writers in 1..=4 {
        explore(SHIPPED, writers, 0, 1);
    }
    explore(SHIPPED, 2, 1, 1);
    explore(SHIPPED, 2, 2, 1);
    explore(SHIPPED, 2, 0, 3);
    explore(LOCK_FILE, 3, 0, 1);
    let small = [((2, 0, 1), 1, 0), ((2, 0, 1), 0, 1), ((2, 0, 1), 1, 1)];
    for (bounds, crashes, faults) in small {
        let model = Troubled::new(SHIPPED, bounds, crashes, faults).ok();
        tasks.extend(model.map(Task::Trouble));
    }
    // Who refuses nothing overwrites what others write.
    for protocol in [HISTORY_2014, SHIPPED, LOCK_FILE] {
        let model = Troubled::new(protocol, (2, 0, 1), 0, 0).ok();
        let model = model.and_then(|model| model.changed(1).ok());
        tasks.extend(model.map(Task::Trouble));
    }
    let loom = [
        (HISTORY_2013, 2, 0, None),
        (SHIPPED, 2, 0, None),
        (SHIPPED, 3, 0, Some(PREEMPTIONS)),
        (SHIPPED, 2, 1, Some(PREEMPTIONS)),
    ];
    for (protocol, writers, readers, bound) in loom {
        let model = sessions(protocol, writers, readers, 1);
        tasks.extend(model.map(|model| Task::Loom(model, bound)));
    }
    let kernel = [
        (HISTORY_2013, 2, 0, 1),
        (HISTORY_2016, 2, 0, 1),
        (SHIPPED, 2, 0, 1),
        (SHIPPED, 3, 0, 1),
        (SHIPPED, 2, 0, 2),
    ];
    for (protocol, writers, readers, saves) in kernel {
        let model = sessions(protocol, writers, readers, saves);
        tasks.extend(model.map(Task::Kernel));
    }
    tasks.push(Task::Golden(Golden { processes: 4, recheck: true }));
    tasks.push(Task::Golden(Golden { processes: 2, recheck: false }));
    let phases = phase_rows::all().into_iter();
    tasks.extend(phases.filter(|p| p.by_default).map(Task::Phase));
    let schedules = phase_rows::schedules().into_iter().enumerate();
    let schedules = schedules.filter(|(_, schedule)| schedule.by_default);
    tasks.extend(schedules.map(|(number, _)| Task::Schedules(number)));
    tasks
}

/// Writers, readers, saves; crashes; faults.
pub type Trouble = ((usize, usize, u8), u8, u8);

/// The sizes at which crashes, faults or both are looked at.
pub fn troubles(crash: bool, faults: bool) -> Vec<Trouble> {
    [(1, 0, 1), (2, 0, 1), (2, 0, 2), (2, 1, 1), (3, 0, 1)]
        .into_iter()
        .flat_map(|bounds| troubles_of(bounds, crash, faults))
        .collect()
}

/// Few processes have room for two crashes and for two faults.
pub fn troubles_of(
    bounds: (usize, usize, u8),
    crash: bool,
    faults: bool,
) -> Vec<Trouble> {
    let (writers, readers, saves) = bounds;
    let processes = writers.saturating_add(readers);
    let twice = usize::from(saves) < SAVES - 1;
    match (crash, faults) {
        (true, false) if twice && processes <= 3 => vec![(bounds, 2, 0)],
        (true, false) => vec![(bounds, 1, 0)],
        (false, true) if processes <= 3 => vec![(bounds, 0, 2)],
        (false, true) => vec![(bounds, 0, 1)],
        (true, true) if twice && processes <= 2 => {
            vec![(bounds, 1, 2), (bounds, 2, 1)]
        }
        (true, true) => vec![(bounds, 1, 1)],
        (false, false) => vec![(bounds, 0, 0)],
    }
}

/// Which properties a model is known to violate. All others must hold.
///
/// Who never compares after the lock loses updates as soon as two write, and
/// shows a reader old content as soon as one writes.
pub fn violated(model: &Sessions) -> &'static [&'static str] {
    let broken = [HISTORY_2013, HISTORY_2016].contains(&model.protocol);
    match (broken, model.writers, model.readers) {
        (true, 2.., _) => &[S1, S1_STALE, S2],
        (true, 1, 1..) => &[S1_STALE, S2],
        (true, ..) | (false, ..) => &[],
    }
}

/// The same with crashes, faults and changes by others: of those the last
/// alone decide.
///
/// Who never compares after the lock may hold what others have replaced; who
/// compares, but refuses nothing, overwrites what they wrote, and what was
/// saved on top of that: but not where the lock is on another file.
pub fn violated_among(model: &Troubled) -> Vec<&'static str> {
    let Sessions { protocol, writers, readers, .. } = model.sessions;
    if model.changes == 0 || protocol.verify {
        return violated(&model.sessions).to_vec();
    }
    let locks_store = protocol.target == Target::Store;
    let compares = protocol.compare == Compare::AfterLock;
    let several = writers > 0 && writers.saturating_add(readers) > 1;
    let deposes = locks_store && (several || !compares);
    let all = [
        (S1, locks_store && writers > 1),
        (S1_STALE, deposes),
        (S2, deposes),
        (S8, writers > 0),
    ];
    all.into_iter().filter(|(_, falls)| *falls).map(|(name, _)| name).collect()
}

/// Runs one task; a violated model gives one row per property.
pub fn run(task: Task, means: &Means) -> Vec<Row> {
    match task {
        Task::Explore(model) => {
            let mut watch = means.watch;
            let report = explore_watched(&model, means.limits, &mut watch);
            let base = store_row(&model, "explore");
            let trace = |t: &Trace<Sessions>, property: &str| {
                lasso(&model, t, property)
            };
            rows(base, &report, violated(&model), false, trace)
        }
        Task::Trouble(model) => trouble_rows(&model, means),
        Task::Mutant(number) => mutants::run(number, means),
        Task::Loom(model, preemptions) => {
            vec![loom_row(&model, preemptions, means)]
        }
        Task::Kernel(model) => kernel_rows(&model, means),
        Task::Golden(golden) => {
            let mut watch = means.watch;
            let report = explore_watched(&golden, means.limits, &mut watch);
            let base = golden_row(&golden);
            rows(base, &report, lost(&golden), false, |_, _| None)
        }
        Task::WideExplore(model, how) => {
            let mut watch = means.watch;
            let report = search_watched(&model, how, means.limits, &mut watch);
            let used = How { threads: report.threads, ..how };
            let base = store_row(&model, &wide_engine(used));
            let trace = |t: &Trace<Sessions>, property: &str| {
                lasso(&model, t, property)
            };
            let rows = rows(base, &report, violated(&model), false, trace);
            wide_rows(how, report.threads, rows)
        }
        Task::WideGolden(golden, how) => {
            let mut watch = means.watch;
            let report = search_watched(&golden, how, means.limits, &mut watch);
            let used = How { threads: report.threads, ..how };
            let engine = wide_engine(used);
            let base = Row { engine, ..golden_row(&golden) };
            let rows = rows(base, &report, lost(&golden), false, |_, _| None);
            wide_rows(how, report.threads, rows)
        }
        Task::Phase(phase) => match phase.world {
            World::Members(model) => phase_run(&phase, &model, means),
            World::Ahead(model) => phase_run(&phase, &model, means),
            World::Cancel(model) => phase_run(&phase, &model, means),
            World::Writing(model) => phase_run(&phase, &model, means),
            World::Reading(model) => phase_run(&phase, &model, means),
            World::WritingAgain(model) => phase_run(&phase, &model, means),
            World::ReadingAgain(model) => phase_run(&phase, &model, means),
            World::Committing(model) => phase_run(&phase, &model, means),
        },
        Task::Schedules(number) => scheduled(number, means),
    }
}

fn golden_row(golden: &Golden) -> Row {
    let protocol = if golden.recheck { "" } else { "no recheck" };
    Row {
        model: GOLDEN.to_owned(),
        protocol: protocol.to_owned(),
        writers: golden.processes,
        saves: 1,
        bounds: format!("{}w", golden.processes),
        engine: "explore".to_owned(),
        ..Row::default()
    }
}

/// What the golden model is known to violate.
fn lost(golden: &Golden) -> &'static [&'static str] {
    if golden.recheck { &[] } else { &["no lost update"] }
}

/// Says how the search was made: what it did not look at, and what it may
/// have missed.
fn wide_rows(how: How, used: usize, mut rows: Vec<Row>) -> Vec<Row> {
    let mut ways = Vec::new();
    if how.symmetry {
        ways.push("by symmetry");
    }
    if how.partial_order {
        ways.push("by partial order");
    }
    if how.fingerprints {
        ways.push("probabilistic: 64-bit fingerprints");
    }
    let fewer = format!("by {used} of {} threads", how.threads);
    if used < how.threads {
        ways.push(&fewer);
    }
    for row in &mut rows {
        if row.property == "all" {
            "all safety".clone_into(&mut row.property);
        }
        if !ways.is_empty() {
            row.bound = Some(ways.join("; "));
        }
        if how.partial_order {
            // Layers of what was kept are no steps.
            row.depth = None;
            let note = match row.steps {
                Some(_) => NOT_SHORTEST,
                None => NO_LIVENESS,
            };
            row.note = Some(note.to_owned());
        }
    }
    rows
}

/// What a report says of a run that was found in fewer orders.
pub const NOT_SHORTEST: &str =
    "found in fewer orders: there may be a shorter run";
/// What it says where nothing was found.
pub const NO_LIVENESS: &str =
    "S7 is not looked at: who never finishes may be in the orders left out";

/// The store's model with crashes and faults: what is violated without them
/// is violated with them.
fn trouble_rows(model: &Troubled, means: &Means) -> Vec<Row> {
    let mut watch = means.watch;
    let report = explore_watched(model, means.limits, &mut watch);
    let base = trouble_row(model);
    let trace = |run: &Trace<Troubled>, property: &str| {
        Some(trouble::words::lines(model, run, property))
    };
    rows(base, &report, &violated_among(model), false, trace)
}

/// The row that stands for a model with crashes, before it was run.
pub(super) fn trouble_row(model: &Troubled) -> Row {
    let bounds = trouble_bounds(model);
    Row { bounds, ..store_row(&model.sessions, "explore") }
}

/// Who uses the store, and what happens to them.
fn trouble_bounds(model: &Troubled) -> String {
    let faults = match model.faults {
        0 => String::new(),
        1 => ", fault".to_owned(),
        n => format!(", {n} faults"),
    };
    let crashes = match model.crashes {
        1 => ", crash".to_owned(),
        0 => String::new(),
        n => format!(", {n} crashes"),
    };
    let changes = match model.changes {
        0 => String::new(),
        1 => ", others".to_owned(),
        n => format!(", {n} by others"),
    };
    let who = store_bounds(&model.sessions);
    format!("{who}{crashes}{faults}{changes}")
}

/// The world of a phase; of a mutant only what is expected, or should be.
fn phase_run<M: Words>(phase: &Phase, model: &M, means: &Means) -> Vec<Row> {
    let mut watch = means.watch;
    let report = explore_watched(model, means.limits, &mut watch);
    let wrong = phase.mutant || !phase.violated.is_empty();
    let base = Row {
        model: phase.model.to_owned(),
        protocol: phase.protocol.to_owned(),
        bounds: phase.world.bounds(),
        engine: "explore".to_owned(),
        note: wrong.then(|| phase.about.to_owned()),
        columns: model.columns(),
        brief: true,
        ..Row::default()
    };
    let trace = |run: &Trace<M>, property: &str| {
        Some(words::lines(model, run, property))
    };
    rows(base, &report, phase.violated, phase.mutant, trace)
}

/// The rows of a search: one per violated property, or one for all. A mutant
/// need not come where the twins are, and one that never ends may be stuck.
fn rows<M: Model>(
    base: Row,
    report: &Report<M>,
    broken: &[&str],
    mutant: bool,
    trace: impl Fn(&Trace<M>, &str) -> Option<Vec<super::trace::Line>>,
) -> Vec<Row> {
    let base = Row {
        states: Some(report.states),
        edges: Some(report.edges),
        depth: Some(report.depth),
        seconds: report.elapsed.as_secs_f64(),
        coverage: report.coverage.word().to_owned(),
        ..base
    };
    let mut rows = Vec::new();
    let mut undecided = false;
    for (name, kind, verdict) in &report.verdicts {
        let stuck = *name == NO_DEADLOCK && broken.contains(&ENDS);
        if mutant && (*kind == Kind::Sometimes || stuck) {
            continue;
        }
        let wanted = broken.contains(name);
        let base = || Row { property: (*name).to_owned(), ..base.clone() };
        match verdict {
            Verdict::Violated(run) => rows.push(Row {
                verdict: VIOLATED.to_owned(),
                steps: run.as_ref().map(|t| t.prefix.len() + t.cycle.len()),
                expected: wanted,
                trace: run.as_ref().and_then(|t| trace(t, name)),
                ..base()
            }),
            Verdict::Holds if wanted => rows.push(Row {
                verdict: HOLDS.to_owned(),
                expected: false,
                ..base()
            }),
            Verdict::Holds => {}
            Verdict::Undecided => undecided = true,
        }
    }
    if rows.is_empty() || undecided {
        let verdict = if undecided { UNDECIDED } else { HOLDS };
        rows.push(Row {
            property: "all".to_owned(),
            verdict: verdict.to_owned(),
            // A cut is said by the coverage; it is no wrong verdict.
            expected: true,
            ..base
        });
    }
    rows
}

/// The lines of a run; the cycle of a lasso is set apart by a note.
fn lasso(
    model: &Sessions,
    trace: &Trace<Sessions>,
    property: &str,
) -> Option<Vec<super::trace::Line>> {
    let calls = |steps: &[(Call, _)]| -> Vec<Call> {
        steps.iter().map(|(call, _)| *call).collect()
    };
    let mut all = calls(&trace.prefix);
    let before = all.len();
    all.extend(calls(&trace.cycle));
    let mut lines = lines(model, &all, property);
    let stops = property == NO_DEADLOCK || property == super::lock::S7;
    if stops {
        let text = if trace.cycle.is_empty() {
            "*** nobody can go on from here".to_owned()
        } else {
            format!("*** and again from step {}, for ever", before + 1)
        };
        let state = Vec::new();
        lines.push(super::trace::Line { step: None, process: 1, text, state });
    }
    Some(lines)
}

fn store_row(model: &Sessions, engine: &str) -> Row {
    Row {
        model: LOCK.to_owned(),
        protocol: model.protocol.name.to_owned(),
        writers: model.writers,
        readers: model.readers,
        saves: usize::from(model.saves),
        bounds: store_bounds(model),
        engine: engine.to_owned(),
        ..Row::default()
    }
}

fn store_bounds(model: &Sessions) -> String {
    let mut text = format!("{}w", model.writers);
    if model.readers > 0 {
        text.push_str(&format!("+{}r", model.readers));
    }
    if model.saves > 1 {
        text.push_str(&format!(" x{}", model.saves));
    }
    text
}
