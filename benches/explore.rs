//! Our explorer beside stateright: the golden model of five processes.
//!
//! Both get the same state type and the same next-state function, one thread,
//! and take turns, each time in a new process: what memory a run needs is the
//! growth of its process to its peak. Counts must be equal; speed is told,
//! not judged.

#![expect(clippy::unwrap_used, reason = "a benchmark may fail loudly")]
#![expect(clippy::panic, reason = "a benchmark may fail loudly")]

use std::process::{Command, ExitCode};
use std::time::Instant;

use qubes_fsm::check::explore::{Limits, explore};
use qubes_fsm::check::golden::{Golden, State};
use stateright::{Checker, Model, Property};

/// The model in stateright's terms; an action is a process.
struct Theirs(Golden);

impl Model for Theirs {
    type State = State;
    type Action = u8;

    fn init_states(&self) -> Vec<State> {
        vec![self.0.start()]
    }

    fn actions(&self, _: &State, actions: &mut Vec<u8>) {
        actions.extend(0..self.0.processes as u8);
    }

    fn next_state(&self, last: &State, process: u8) -> Option<State> {
        self.0.next(last, usize::from(process))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no lost update", |model: &Self, state| {
                model.0.nothing_lost(state)
            }),
            Property::sometimes("all done", |model: &Self, state| {
                model.0.all_done(state)
            }),
        ]
    }
}

const ROUNDS: usize = 5;
const OURS: &str = "ours";
const THEIRS: &str = "stateright";

/// What one run came to.
#[derive(Clone, Copy)]
struct Run {
    states: usize,
    edges: usize,
    seconds: f64,
    /// Growth of the process, and what our report says of itself (else 0).
    grown: usize,
    said: usize,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, engine, processes] = arguments.as_slice() {
        let run = measure(engine, processes.parse().unwrap());
        let Run { states, edges, seconds, grown, said } = run;
        println!("{states} {edges} {seconds} {grown} {said}");
        return ExitCode::SUCCESS;
    }
    // `cargo test --benches` only wants to know whether it runs.
    let (processes, wanted) =
        if arguments.iter().any(|argument| argument == "--bench") {
            (5, (587_767, 1_899_340))
        } else {
            (3, (1_399, 2_871))
        };
    let mut runs = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (engine, runs) in [OURS, THEIRS].into_iter().zip(&mut runs) {
            runs.push(start(engine, processes));
        }
    }
    println!(
        "golden model, {processes} processes, 1 thread, {ROUNDS} rounds in \
         turns"
    );
    let [ours, theirs] = &runs;
    let medians =
        [(OURS, ours), (THEIRS, theirs)].map(|(name, runs)| print(name, runs));
    println!("ratio of the medians: {:.2}", medians[0] / medians[1]);
    let counts = |run: &Run| (run.states, run.edges);
    let equal = runs.iter().flatten().all(|run| counts(run) == wanted);
    if equal {
        return ExitCode::SUCCESS;
    }
    eprintln!("counts differ; wanted {wanted:?}");
    ExitCode::FAILURE
}

/// One run, in this process.
fn measure(engine: &str, processes: usize) -> Run {
    let golden = Golden { processes, recheck: true };
    let before = status("VmRSS:");
    let started = Instant::now();
    let (states, edges, said) = match engine {
        OURS => {
            let report = explore(&golden, Limits::default());
            (report.states, report.edges, report.bytes)
        }
        THEIRS => {
            let checker =
                Theirs(golden).checker().threads(1).spawn_bfs().join();
            let edges = checker.state_count() - 1;
            (checker.unique_state_count(), edges, 0)
        }
        other => panic!("no engine {other}"),
    };
    let seconds = started.elapsed().as_secs_f64();
    let grown = status("VmHWM:").saturating_sub(before);
    Run { states, edges, seconds, grown, said }
}

/// The same in a new process.
fn start(engine: &str, processes: usize) -> Run {
    let program = std::env::current_exe().unwrap();
    let output = Command::new(program)
        .args([engine, &processes.to_string()])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let words: Vec<&str> = text.split_whitespace().collect();
    let [states, edges, seconds, grown, said] = words[..] else {
        panic!("{engine} answered {text:?}");
    };
    let number = |word: &str| word.parse::<usize>().unwrap();
    Run {
        states: number(states),
        edges: number(edges),
        seconds: seconds.parse().unwrap(),
        grown: number(grown),
        said: number(said),
    }
}

/// Prints one line; the median of states per second.
fn print(name: &str, runs: &[Run]) -> f64 {
    let rate = |run: &Run| run.states as f64 / run.seconds;
    let mut rates: Vec<f64> = runs.iter().map(rate).collect();
    rates.sort_by(f64::total_cmp);
    let (least, most) = (rates[0], rates[rates.len() - 1]);
    let median = rates[rates.len() / 2];
    let per_state = |bytes: usize| bytes as f64 / runs[0].states as f64;
    let grown = runs.iter().map(|run| run.grown).max().unwrap_or(0);
    println!(
        "{name:10}  {:.2} M distinct states/s (min {:.2}, max {:.2})  {:.0} \
         bytes/state resident{}",
        median / 1e6,
        least / 1e6,
        most / 1e6,
        per_state(grown),
        match runs[0].said {
            0 => String::new(),
            said => format!(", {:.0} by its report", per_state(said)),
        }
    );
    median
}

/// A line of `/proc/self/status`, in bytes.
fn status(name: &str) -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let mut lines = text.lines();
    let line = lines.find_map(|line| line.strip_prefix(name)).unwrap();
    let kib: usize = line.trim().trim_end_matches(" kB").parse().unwrap();
    kib * 1024
}
