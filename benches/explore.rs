//! Our explorer beside stateright: the golden model of five processes.
//!
//! All get the same state type and the same next-state function and take
//! turns, each time in a new process: what memory a run needs is the growth of
//! its process to its peak. Then the process runs it again, with memory at hand
//! that the kernel need not clear first. The plain explorer and stateright have
//! one thread; then there is the search by layers, with one and two threads,
//! with states and with fingerprints. Counts must be equal; speed is told, not
//! judged.
//!
//! What two threads can gain is what the machine gives to two processes that
//! share nothing: each search with one thread also runs twice at once. Where
//! two processors are busy elsewhere, or are one, that is little.
//!
//! Last the store with five writers, by symmetry, by partial order, by both
//! and by neither: one verdict.

#![expect(clippy::unwrap_used, reason = "a benchmark may fail loudly")]
#![expect(clippy::panic, reason = "a benchmark may fail loudly")]

use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Instant;

use qubes_fsm::check::explore::{Limits, explore};
use qubes_fsm::check::golden::{Golden, State};
use qubes_fsm::check::lock::Sessions;
use qubes_fsm::check::wide::{How, search};
use qubes_fsm::fsm::protocol::SHIPPED;
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
/// The search by layers: name, threads, fingerprints.
const WIDE: [(&str, usize, bool); 4] = [
    ("wide", 1, false),
    ("wide x2", 2, false),
    ("prints", 1, true),
    ("prints x2", 2, true),
];

/// With one thread, and with two.
const SCALED: [(&str, &str); 2] =
    [("wide", "wide x2"), ("prints", "prints x2")];

/// What one run came to.
#[derive(Clone, Copy)]
struct Run {
    states: usize,
    edges: usize,
    seconds: f64,
    /// Those of a second run in the same process.
    again: f64,
    /// Growth of the process, and what our report says of itself (else 0).
    grown: usize,
    said: usize,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, engine, processes] = arguments.as_slice() {
        let run = measure(engine, processes.parse().unwrap());
        let Run { states, edges, seconds, again, grown, said } = run;
        println!("{states} {edges} {seconds} {again} {grown} {said}");
        return ExitCode::SUCCESS;
    }
    // `cargo test --benches` only wants to know whether it runs.
    let (processes, wanted) =
        if arguments.iter().any(|argument| argument == "--bench") {
            (5, (587_767, 1_899_340))
        } else {
            (3, (1_399, 2_871))
        };
    let engines = [OURS, THEIRS].into_iter().chain(WIDE.map(|(name, ..)| name));
    let engines: Vec<_> = engines.collect();
    let mut runs = vec![Vec::new(); engines.len()];
    let mut twice = vec![Vec::new(); engines.len()];
    for _ in 0..ROUNDS {
        let turns = engines.iter().zip(&mut runs).zip(&mut twice);
        for ((engine, runs), twice) in turns {
            runs.push(wait(start(engine, processes)));
            if SCALED.iter().any(|(one, _)| one == engine) {
                let both = [(); 2].map(|()| start(engine, processes));
                twice.extend(both.map(wait));
            }
        }
    }
    println!("golden model, {processes} processes, {ROUNDS} rounds in turns");
    let medians: Vec<_> = engines
        .iter()
        .zip(&runs)
        .map(|(name, runs)| print(name, runs))
        .collect();
    let place = |name| engines.iter().position(|engine| *engine == name);
    let rate = |name| medians[place(name).unwrap()];
    println!("{OURS} to {THEIRS}: {:.2}", rate(OURS).0 / rate(THEIRS).0);
    for (one, two) in SCALED {
        let (alone, both) = (rate(one), rate(two));
        let at_once = rates(&twice[place(one).unwrap()]);
        println!(
            "{two} to {one}: {:.2}, run again {:.2}; two processes at once: \
             {:.2}, run again {:.2}",
            both.0 / alone.0,
            both.1 / alone.1,
            2.0 * at_once.0 / alone.0,
            2.0 * at_once.1 / alone.1,
        );
    }
    five_writers(if processes == 5 { 5 } else { 2 });
    let counts = |run: &Run| (run.states, run.edges);
    let equal = runs.iter().flatten().all(|run| counts(run) == wanted);
    if equal {
        return ExitCode::SUCCESS;
    }
    eprintln!("counts differ; wanted {wanted:?}");
    ExitCode::FAILURE
}

/// The verdicts of the shipped protocol, with all states, with one of those
/// that are alike, and in fewer orders.
fn five_writers(writers: usize) {
    let model = Sessions::new(SHIPPED, writers, 0, 1).unwrap();
    let mut found = Vec::new();
    for (symmetry, partial_order, words) in [
        (true, true, "by symmetry and partial order"),
        (true, false, "by symmetry"),
        (false, true, "by partial order"),
        (false, false, "all states"),
    ] {
        let how =
            How { threads: 1, fingerprints: false, symmetry, partial_order };
        let report = search(&model, how, Limits::default());
        println!(
            "lock shipped, {writers} writers, {words}: {} states, {:.2} s",
            report.states,
            report.elapsed.as_secs_f64()
        );
        assert!(report.proves_safety());
        let names = report.verdicts.iter().map(|(name, ..)| *name);
        found.push(names.collect::<Vec<_>>());
    }
    assert!(found.iter().all(|names| *names == found[0]));
}

/// Two runs, in this process; what memory the first one needs.
fn measure(engine: &str, processes: usize) -> Run {
    let golden = Golden { processes, recheck: true };
    let before = status("VmRSS:");
    let started = Instant::now();
    let (states, edges, said) = searched(engine, golden);
    let seconds = started.elapsed().as_secs_f64();
    let grown = status("VmHWM:").saturating_sub(before);
    let started = Instant::now();
    let second = searched(engine, golden);
    let again = started.elapsed().as_secs_f64();
    assert_eq!((second.0, second.1), (states, edges));
    Run { states, edges, seconds, again, grown, said }
}

/// Distinct states, edges, and the bytes that a report of ours says.
fn searched(engine: &str, golden: Golden) -> (usize, usize, usize) {
    match engine {
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
        other => {
            let mut ways = WIDE.into_iter();
            let Some((_, threads, fingerprints)) =
                ways.find(|(name, ..)| *name == other)
            else {
                panic!("no engine {other}")
            };
            let how = How {
                threads,
                fingerprints,
                symmetry: false,
                partial_order: false,
            };
            let report = search(&golden, how, Limits::default());
            (report.states, report.edges, report.bytes)
        }
    }
}

/// The same in a new process.
fn start(engine: &str, processes: usize) -> Child {
    let program = std::env::current_exe().unwrap();
    Command::new(program)
        .args([engine, &processes.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// What it came to.
fn wait(child: Child) -> Run {
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let words: Vec<&str> = text.split_whitespace().collect();
    let [states, edges, seconds, again, grown, said] = words[..] else {
        panic!("a run answered {text:?}");
    };
    let number = |word: &str| word.parse::<usize>().unwrap();
    Run {
        states: number(states),
        edges: number(edges),
        seconds: seconds.parse().unwrap(),
        again: again.parse().unwrap(),
        grown: number(grown),
        said: number(said),
    }
}

/// States per second, in order: of the first runs, and of those again.
fn in_order(runs: &[Run]) -> [Vec<f64>; 2] {
    [|run: &Run| run.seconds, |run: &Run| run.again].map(|seconds| {
        let rates = runs.iter().map(|run| run.states as f64 / seconds(run));
        let mut rates: Vec<f64> = rates.collect();
        rates.sort_by(f64::total_cmp);
        rates
    })
}

/// The medians of states per second, first and again.
fn rates(runs: &[Run]) -> (f64, f64) {
    let [first, again] = in_order(runs);
    (first[first.len() / 2], again[again.len() / 2])
}

/// Prints one line; the medians.
fn print(name: &str, runs: &[Run]) -> (f64, f64) {
    let [first, _] = in_order(runs);
    let (least, most) = (first[0], first[first.len() - 1]);
    let (median, again) = rates(runs);
    let per_state = |bytes: usize| bytes as f64 / runs[0].states as f64;
    let grown = runs.iter().map(|run| run.grown).max().unwrap_or(0);
    println!(
        "{name:10}  {:.2} M distinct states/s (min {:.2}, max {:.2}), run \
         again {:.2} M  {:.0} bytes/state resident{}",
        median / 1e6,
        least / 1e6,
        most / 1e6,
        again / 1e6,
        per_state(grown),
        match runs[0].said {
            0 => String::new(),
            said => format!(", {:.0} by its report", per_state(said)),
        }
    );
    (median, again)
}

/// A line of `/proc/self/status`, in bytes.
fn status(name: &str) -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let mut lines = text.lines();
    let line = lines.find_map(|line| line.strip_prefix(name)).unwrap();
    let kib: usize = line.trim().trim_end_matches(" kB").parse().unwrap();
    kib * 1024
}
