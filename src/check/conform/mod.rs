//! Does a program follow a protocol that loses nothing? Any program, run on
//! the real kernel under every schedule of two of its processes.
//!
//! Lives here: the search through the schedules, and what the real file shows
//! at their ends. May not live here: how a program is talked to
//! (`process`); what a program should do: only what comes of it is judged.
//!
//! The kernel cannot be copied, so a state cannot be looked up: schedules are
//! run from their beginnings, and bounded by how often a process that could
//! go on is interrupted, as loom does.

mod kernel;
mod process;

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::Path;
use std::time::{Duration, Instant};

pub use process::ANSWER_BYTES_MAX;

use super::explore::Coverage;
use super::lock::{S1, S3, S7};
use super::report::{HOLDS, Row, UNDECIDED, VIOLATED};
use super::trace::Line;
use crate::format::escape::Escaped;
use process::{Answer, Process};

/// What a search may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How often a process that could go on may be interrupted.
    pub preemptions: usize,
    /// How long a program may take for one answer.
    pub answer_max: Duration,
    /// How long all of it may take.
    pub time_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            preemptions: 2,
            answer_max: Duration::from_secs(10),
            time_max: Duration::from_secs(24 * 60 * 60),
        }
    }
}

/// Calls of one schedule at most: a program that makes more has no end.
pub const STEPS_MAX: usize = 10_000;

/// Why a program could not be judged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConformError {
    /// It cannot be started.
    #[error("conform: start the program: {source}")]
    Start {
        /// Why.
        source: std::io::Error,
    },
    /// The thread that reads its answers cannot be started.
    #[error("conform: P{process}: start a thread for its answers: {source}")]
    Thread {
        /// Which of both, from 1.
        process: usize,
        /// Why.
        source: std::io::Error,
    },
    /// It ended while it was needed.
    #[error("conform: P{process} ended: {how}; wanted an answer")]
    Died {
        /// Which of both, from 1.
        process: usize,
        /// How.
        how: String,
    },
    /// It did not answer.
    #[error("conform: P{process}: no answer for {answer_max:?}; wanted one")]
    Hung {
        /// Which of both, from 1.
        process: usize,
        /// So long.
        answer_max: Duration,
    },
    /// It answered something else.
    #[error("conform: P{process} answered \"{found}\"; wanted {wanted}")]
    Nonsense {
        /// Which of both, from 1.
        process: usize,
        /// Its answer, escaped.
        found: String,
        /// What may be answered.
        wanted: &'static str,
    },
    /// It did something else the second time.
    #[error(
        "conform: P{process}, step {step}: {found} in a schedule that was \
         repeated; wanted {wanted} as before"
    )]
    NotRepeated {
        /// Which of both, from 1.
        process: usize,
        /// Which step of the schedule, from 1.
        step: usize,
        /// The kind of its answer.
        found: &'static str,
        /// The kind before.
        wanted: &'static str,
    },
    /// A schedule does not end.
    #[error("conform: more calls in one schedule; wanted at most {steps_max}")]
    Endless {
        /// So many may be.
        steps_max: usize,
    },
    /// It never saves, so that nothing could be lost.
    #[error(
        "conform: in no schedule did both save: {why}; wanted one at least"
    )]
    NeverSaved {
        /// What one of both said.
        why: String,
    },
    /// A directory or a store failed.
    #[error("conform: {what}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
}

/// What is wrong at the end of a schedule.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Wrong {
    /// These have saved, and the file is without it.
    Lost(Vec<usize>),
    /// The file is not made of updates; this is found.
    Torn(String),
}

/// A schedule that shows something wrong.
#[derive(Clone, Debug)]
struct Found {
    schedules: u64,
    steps: usize,
    lines: Vec<Line>,
}

/// The processes of a schedule.
const PROCESSES: usize = 2;
/// What the store holds at the beginning.
const START: &str = "start";

/// Runs `command`, by `sh -c`, as two processes through every schedule, each
/// in a new directory below `directory`, and gives a row per property.
///
/// # Errors
/// The program does not answer as it should, or something failed.
pub fn conform(
    command: &str,
    directory: &Path,
    limits: Limits,
) -> Result<Vec<Row>, ConformError> {
    let started = Instant::now();
    let mut search = Search::new(command, directory, limits);
    let coverage = search.run(started)?;
    if let (0, Some(why), Coverage::Exhaustive | Coverage::Bounded) =
        (search.saved, &search.failed, coverage)
    {
        return Err(ConformError::NeverSaved { why: why.clone() });
    }
    let bound = match coverage {
        Coverage::Exhaustive => None,
        Coverage::Bounded | Coverage::Cut => {
            Some(format!("{} preemptions", limits.preemptions))
        }
    };
    let base = Row {
        model: MODEL.to_owned(),
        writers: PROCESSES,
        saves: 1,
        bounds: format!("{PROCESSES}w"),
        engine: "kernel".to_owned(),
        depth: Some(search.depth),
        executions: Some(search.schedules),
        seconds: started.elapsed().as_secs_f64(),
        coverage: coverage.word().to_owned(),
        bound,
        ..Row::default()
    };
    // One row speaks of the whole search.
    let about = format!(
        "{}: both saved in {} of {} schedules, one waited in {}",
        Escaped(command.as_bytes()),
        search.saved,
        search.schedules,
        search.waited
    );
    let end_so = |found: &Found| {
        format!("{} of {} schedules end so", found.schedules, search.schedules)
    };
    let rows = [(S1, &search.lost), (S3, &search.torn), (S7, &search.stuck)];
    let row = |(property, found): (&str, &Option<Found>)| {
        let verdict = match (found, coverage) {
            (Some(_), _) => VIOLATED,
            (None, Coverage::Cut) => UNDECIDED,
            (None, Coverage::Exhaustive | Coverage::Bounded) => HOLDS,
        };
        let found = found.as_ref();
        let note = found.map(end_so);
        let note = match (note, property == S1) {
            (Some(note), true) => Some(format!("{note}; {about}")),
            (None, true) => Some(about.clone()),
            (note, false) => note,
        };
        Row {
            property: property.to_owned(),
            verdict: verdict.to_owned(),
            steps: found.map(|found| found.steps),
            expected: found.is_none(),
            note,
            trace: found.map(|found| found.lines.clone()),
            ..base.clone()
        }
    };
    Ok(rows.into_iter().map(row).collect())
}

/// What rows of the kit have as their model.
pub const MODEL: &str = "conform";

/// Ends the programs of a kit that is under way; call it before ending the
/// process early.
pub fn clean_up() {
    process::clean_up();
}

/// One place of a schedule.
struct Point {
    /// Who goes.
    process: usize,
    /// Who could go instead, and was not tried yet.
    other: Option<usize>,
    /// It is the other of what was tried before.
    second: bool,
    /// What the answer was.
    kind: Option<&'static str>,
}

struct Search<'a> {
    command: &'a str,
    directory: &'a Path,
    limits: Limits,
    processes: Vec<Process>,
    path: Vec<Point>,
    bounded: bool,
    depth: usize,
    /// Directories so far.
    runs: u64,
    /// Schedules that differ.
    schedules: u64,
    saved: u64,
    waited: u64,
    failed: Option<String>,
    lost: Option<Found>,
    torn: Option<Found>,
    stuck: Option<Found>,
}

/// Where both are in a schedule.
#[derive(Default)]
struct Run {
    ended: [bool; PROCESSES],
    saved: [bool; PROCESSES],
    /// Asked for the lock, and nobody has done anything since.
    waits: [bool; PROCESSES],
    /// The trace says that it waits.
    told: [bool; PROCESSES],
    current: Option<usize>,
    preemptions: usize,
    steps: usize,
    waited: bool,
    /// The last choice has changed nothing: another schedule is the same.
    barren: bool,
    lines: Vec<Line>,
}

impl Run {
    fn can_go(&self, process: usize) -> bool {
        let is = |flags: [bool; PROCESSES]| flags.get(process) == Some(&true);
        !is(self.ended) && !is(self.waits)
    }
}

fn set(flags: &mut [bool; PROCESSES], process: usize, value: bool) {
    if let Some(flag) = flags.get_mut(process) {
        *flag = value;
    }
}

impl<'a> Search<'a> {
    fn new(command: &'a str, directory: &'a Path, limits: Limits) -> Self {
        Self {
            command,
            directory,
            limits,
            processes: Vec::new(),
            path: Vec::new(),
            bounded: false,
            depth: 0,
            runs: 0,
            schedules: 0,
            saved: 0,
            waited: 0,
            failed: None,
            lost: None,
            torn: None,
            stuck: None,
        }
    }

    /// Depth first: the last place where another could have gone comes next.
    fn run(&mut self, started: Instant) -> Result<Coverage, ConformError> {
        loop {
            self.schedule()?;
            loop {
                match self.path.last_mut() {
                    None if self.bounded => return Ok(Coverage::Bounded),
                    None => return Ok(Coverage::Exhaustive),
                    Some(point) => {
                        if let Some(other) = point.other.take() {
                            point.process = other;
                            point.second = true;
                            point.kind = None;
                            break;
                        }
                    }
                }
                self.path.pop();
            }
            if started.elapsed() > self.limits.time_max {
                return Ok(Coverage::Cut);
            }
        }
    }

    /// One schedule, from its beginning to its end.
    fn schedule(&mut self) -> Result<(), ConformError> {
        self.runs += 1;
        let directory = self.directory.join(self.runs.to_string());
        std::fs::create_dir(&directory).map_err(io("create a directory"))?;
        let store = directory.join("qubes.xml");
        std::fs::write(&store, format!("{START}\n"))
            .map_err(io("create the store"))?;
        for number in self.processes.len()..PROCESSES {
            let answer_max = self.limits.answer_max;
            let process = Process::start(number, self.command, answer_max)?;
            self.processes.push(process);
        }
        for (number, process) in self.processes.iter_mut().enumerate() {
            process.begin(&update(number), &directory)?;
        }
        let mut run = Run::default();
        let mut step = 0;
        while let Some(process) = self.next(&mut run, step) {
            self.step(&mut run, step, process)?;
            step += 1;
            if step > STEPS_MAX {
                let steps_max = STEPS_MAX;
                return Err(ConformError::Endless { steps_max });
            }
        }
        if !run.barren {
            self.judge(run, &store)?;
        } else if run.ended != [true; PROCESSES] {
            self.processes.clear();
        }
        std::fs::remove_dir_all(&directory).map_err(io("remove a directory"))
    }

    /// Who goes next: as the path says, or else who went last, while it can.
    fn next(&mut self, run: &mut Run, step: usize) -> Option<usize> {
        if let Some(point) = self.path.get(step) {
            let interrupts = run.current != Some(point.process)
                && run.current.is_some_and(|current| run.can_go(current));
            run.preemptions += usize::from(interrupts);
            run.current = Some(point.process);
            return run.current;
        }
        let current = run.current.filter(|current| run.can_go(*current));
        let mut able = (0..PROCESSES).filter(|process| run.can_go(*process));
        let process = current.or_else(|| able.next())?;
        let mut other = (0..PROCESSES)
            .find(|other| *other != process && run.can_go(*other));
        if current.is_some() && run.preemptions >= self.limits.preemptions {
            self.bounded |= other.is_some();
            other = None;
        }
        if run.barren {
            other = None;
        }
        self.path.push(Point { process, other, second: false, kind: None });
        run.current = Some(process);
        Some(process)
    }

    fn step(
        &mut self,
        run: &mut Run,
        step: usize,
        number: usize,
    ) -> Result<(), ConformError> {
        let Some(process) = self.processes.get_mut(number) else {
            return Ok(());
        };
        let answer = process.step()?;
        let kind = match answer {
            Answer::Did(_) => "a call",
            Answer::Wait(_) => "a wait",
            Answer::Done => "the end",
            Answer::Failed(_) => "a failure",
        };
        if let Some(point) = self.path.get_mut(step) {
            let wanted = *point.kind.get_or_insert(kind);
            if wanted != kind {
                return Err(ConformError::NotRepeated {
                    process: number + 1,
                    step: step + 1,
                    found: kind,
                    wanted,
                });
            }
            // Whoever was let go here could not, so nothing has changed, and
            // the other goes on as it did in a schedule before this one.
            let waits = matches!(answer, Answer::Wait(_));
            run.barren |= point.second && waits;
        }
        let told = run.told.get(number) == Some(&true);
        let line = |step: Option<usize>, text: String| Line {
            step,
            process: number + 1,
            text,
            state: Vec::new(),
        };
        if let Answer::Wait(call) = answer {
            set(&mut run.waits, number, true);
            run.waited = true;
            if !told {
                run.lines.push(line(None, format!("{call} ... waits")));
                set(&mut run.told, number, true);
            }
            return Ok(());
        }
        // What it did may be what the other waits for.
        run.waits = [false; PROCESSES];
        set(&mut run.told, number, false);
        match answer {
            Answer::Did(call) => {
                run.steps += 1;
                let again = if told { "... " } else { "" };
                let text = format!("{again}{call}");
                run.lines.push(line(Some(run.steps), text));
            }
            Answer::Done => {
                set(&mut run.ended, number, true);
                set(&mut run.saved, number, true);
            }
            Answer::Failed(why) => {
                set(&mut run.ended, number, true);
                run.lines.push(line(None, format!("*** failed: {why}")));
                self.failed.get_or_insert(why);
            }
            Answer::Wait(_) => {}
        }
        Ok(())
    }

    /// What the end of a schedule shows.
    fn judge(&mut self, run: Run, store: &Path) -> Result<(), ConformError> {
        self.schedules += 1;
        self.depth = self.depth.max(run.steps);
        self.waited += u64::from(run.waited);
        self.saved += u64::from(run.saved == [true; PROCESSES]);
        if run.ended != [true; PROCESSES] {
            // They cannot be told to give up.
            self.processes.clear();
            let text = "*** waits, and nobody can go on".to_owned();
            keep(&mut self.stuck, run, text);
            return Ok(());
        }
        match wrong(&run, store)? {
            Some(Wrong::Lost(lost)) => {
                let names: Vec<_> =
                    lost.iter().map(|n| format!("P{}", n + 1)).collect();
                let text = format!(
                    "*** the update of {} is lost: 'qubes.xml' is without it",
                    names.join(" and ")
                );
                keep(&mut self.lost, run, text);
            }
            Some(Wrong::Torn(found)) => {
                let text = format!("*** 'qubes.xml' {found}");
                keep(&mut self.torn, run, text);
            }
            None => {}
        }
        Ok(())
    }
}

/// The shortest is kept.
fn keep(found: &mut Option<Found>, run: Run, text: String) {
    let schedules = found.as_ref().map_or(0, |found| found.schedules) + 1;
    let Run { steps, mut lines, .. } = run;
    match found {
        Some(found) if found.steps <= steps => found.schedules = schedules,
        Some(_) | None => {
            let process = lines.last().map_or(1, |line| line.process);
            lines.push(Line { step: None, process, text, state: Vec::new() });
            *found = Some(Found { schedules, steps, lines });
        }
    }
}

fn wrong(run: &Run, store: &Path) -> Result<Option<Wrong>, ConformError> {
    let mut untrusted_text = Vec::new();
    let opened = match File::open(store) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Ok(Some(Wrong::Torn("does not exist".to_owned())));
        }
        Err(source) => {
            return Err(ConformError::Io { what: "open the store", source });
        }
    };
    opened
        .take(STORE_BYTES_MAX)
        .read_to_end(&mut untrusted_text)
        .map_err(io("read the store"))?;
    // Each line once, the first one first, and whole.
    let mut lines: Vec<_> = untrusted_text.split(|b| *b == b'\n').collect();
    let ends = lines.pop() == Some(b"");
    let updates: Vec<_> = (0..PROCESSES).map(update).collect();
    let count = |wanted: &str| {
        lines.iter().filter(|line| **line == wanted.as_bytes()).count()
    };
    let known = updates.iter().map(|update| count(update)).sum::<usize>();
    let whole = ends
        && lines.first() == Some(&START.as_bytes())
        && known + 1 == lines.len()
        && updates.iter().all(|update| count(update) < 2);
    if !whole {
        let shown: Vec<u8> = untrusted_text.into_iter().take(80).collect();
        let found = format!("has \"{}\"", Escaped(&shown));
        return Ok(Some(Wrong::Torn(found)));
    }
    let saved = run.saved.iter().enumerate().filter(|(_, saved)| **saved);
    let lost: Vec<_> = saved
        .map(|(process, _)| process)
        .filter(|process| count(&update(*process)) == 0)
        .collect();
    Ok((!lost.is_empty()).then_some(Wrong::Lost(lost)))
}

/// Bytes of a store that are looked at: three lines are wanted.
const STORE_BYTES_MAX: u64 = 64 * 1024;

fn update(process: usize) -> String {
    format!("P{}", process + 1)
}

fn io(what: &'static str) -> impl FnOnce(std::io::Error) -> ConformError {
    move |source| ConformError::Io { what, source }
}
