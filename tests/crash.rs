//! Crash states on a real disk.
//!
//! Every state that the explorer reaches by a crash (two writers, one crash)
//! is made again by real calls in a real directory: the sessions go the way
//! that led there, then a process is dropped with its descriptors, or the
//! directory is given what the power cut left. The real recovery runs on it,
//! through [`Store`]: what it finds and what it leaves must be what the model
//! finds and leaves.

#![cfg(feature = "check")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs;
use std::ops::ControlFlow::{Break, Continue};
use std::path::Path;

use qubes_fsm::check::Model as _;
use qubes_fsm::check::trouble::{Step, Struck, Troubled};
use qubes_fsm::fsm::protocol::SHIPPED;
use qubes_fsm::fsm::session::{Part, Role, Session};
use qubes_fsm::fsm::{Effect, Event, Machine as _, Perform as _};
use qubes_fsm::sim::crash::{Data, Outcome};
use qubes_fsm::sim::disk::{SAVES, Updates};
use qubes_fsm::store::kernel::{Kernel, Wait};
use qubes_fsm::store::{BYTES_MAX, Store};

const WRITERS: usize = 2;
const NAME: &str = "qubes.xml";
/// What a temporary file may hold after a power cut: nothing, a prefix, an old
/// or a new version.
const LEFT: [&str; 4] = ["", "0", "0 0\n", "0 0\n1 0\n"];

/// A run from the beginning that ends with a crash.
struct Crash {
    steps: Vec<Step>,
    /// The state after it.
    state: Struck,
}

/// Every distinct state right after a crash, with a shortest way to it.
fn crashes(model: &Troubled) -> Vec<Crash> {
    let start = model.start();
    let mut known: HashMap<Struck, Option<(Struck, Step)>> =
        HashMap::from([(start, None)]);
    let mut left = std::collections::VecDeque::from([start]);
    let mut found = Vec::new();
    while let Some(from) = left.pop_front() {
        let mut steps = Vec::new();
        model.steps(&from, &mut steps);
        for (step, to) in steps {
            if known.contains_key(&to) {
                continue;
            }
            known.insert(to, Some((from, step)));
            if matches!(step, Step::Killed(_) | Step::Cut(_)) {
                found.push(to);
            } else {
                left.push_back(to);
            }
        }
    }
    let way = |state: Struck| {
        let mut steps = Vec::new();
        let mut at = state;
        while let Some(Some((before, step))) = known.get(&at) {
            steps.push(*step);
            at = *before;
        }
        steps.reverse();
        Crash { steps, state }
    };
    found.into_iter().map(way).collect()
}

/// A process on the real disk.
struct Process {
    session: Session,
    kernel: Kernel,
}

impl Process {
    fn new(directory: &Path) -> Self {
        let role = Role::Writer { saves: 1 };
        let name = OsStr::new(NAME);
        let kernel =
            Kernel::new(directory, name, BYTES_MAX, Wait::default()).unwrap();
        Self { session: Session::new(SHIPPED, role), kernel }
    }

    /// Its next call, which must not wait, with the real answer.
    fn go_on(&mut self, number: usize, save: u8) -> (Effect, Event) {
        let Continue(effect) = self.session.effect() else {
            panic!("process {number} is at its end")
        };
        if let Effect::Write(_) = effect {
            let mut content = self.kernel.content();
            content.extend(line(number, save).into_bytes());
            self.kernel.set_content(content);
        }
        let event = self.kernel.perform(effect);
        self.session = self.session.step(event).unwrap();
        (effect, event)
    }
}

fn line(process: usize, save: u8) -> String {
    format!("{process} {save}\n")
}

fn text(updates: Updates) -> String {
    let all = (0..WRITERS).flat_map(|p| (0..SAVES as u8).map(move |s| (p, s)));
    let there = all.filter(|(p, s)| updates.has(Updates::one(*p, *s)));
    there.map(|(p, s)| line(p, s)).collect()
}

fn lines(text: &str) -> BTreeSet<&str> {
    text.lines().collect()
}

/// The kind of an answer: numbers of inodes and descriptors may differ.
fn kind(event: Event) -> String {
    let text = format!("{event:?}");
    text.split('(').next().unwrap().to_owned()
}

fn temps(directory: &Path) -> usize {
    let names = fs::read_dir(directory).unwrap();
    names.filter(|name| name.as_ref().unwrap().file_name() != NAME).count()
}

/// The directory is what the model says.
fn agrees(directory: &Path, state: &Struck, when: &str) {
    let (_, file) = state.world.disk.store();
    let found = fs::read_to_string(directory.join(NAME)).unwrap();
    let wanted = text(file.content);
    assert!(file.whole, "{when}");
    assert_eq!(lines(&found), lines(&wanted), "{when}");
    let names = usize::from(state.world.disk.temp_names());
    assert_eq!(temps(directory), names, "{when}");
}

/// The way to a crash, by real calls; whoever is not there any more after it
/// is gone.
fn replay(
    model: &Troubled,
    crash: &Crash,
    turn: usize,
    directory: &Path,
) -> Vec<Option<Process>> {
    fs::write(directory.join(NAME), "").unwrap();
    let mut processes: Vec<_> =
        (0..WRITERS).map(|_| Some(Process::new(directory))).collect();
    let mut state = model.start();
    for step in &crash.steps {
        let mut steps = Vec::new();
        model.steps(&state, &mut steps);
        let next =
            steps.into_iter().find(|(found, _)| found == step).unwrap().1;
        match step {
            Step::Call(call) => {
                let save = state.world.disk.process(call.process).saves;
                let process = processes[call.process].as_mut().unwrap();
                let (effect, event) = process.go_on(call.process, save);
                assert_eq!(effect, call.effect);
                assert_eq!(kind(event), kind(call.event), "{effect}");
            }
            Step::Killed(process) => processes[*process] = None,
            Step::Cut(outcome) => {
                processes.fill_with(|| None);
                lay_out(directory, outcome, turn);
            }
            Step::Fault(_)
            | Step::Odd(..)
            | Step::Touched
            | Step::Changed(_) => {
                panic!("{step:?}: not asked for")
            }
        }
        state = next;
    }
    processes
}

/// What a power cut left. A temporary file may hold anything.
fn lay_out(directory: &Path, outcome: &Outcome, turn: usize) {
    for name in fs::read_dir(directory).unwrap() {
        fs::remove_file(name.unwrap().path()).unwrap();
    }
    let content = match outcome.store {
        Data::Empty => String::new(),
        Data::Torn => "0".to_owned(),
        Data::Whole(updates) => text(updates),
    };
    fs::write(directory.join(NAME), content).unwrap();
    for number in 0..usize::from(outcome.leftovers) {
        let content = LEFT[(number + turn) % LEFT.len()];
        let name = format!(".{NAME}.qubes-fsm-dead-{number}");
        fs::write(directory.join(name), content).unwrap();
    }
}

/// `process` goes on alone in the model, as far as it can.
fn alone(model: &Troubled, state: &mut Struck, process: usize) {
    loop {
        let mut steps = Vec::new();
        model.steps(state, &mut steps);
        let own = steps.into_iter().find(|(step, _)| is_call(step, process));
        match own {
            Some((_, next)) => *state = next,
            None => return,
        }
    }
}

fn is_call(step: &Step, process: usize) -> bool {
    matches!(step, Step::Call(call) if call.process == process)
}

fn is_done(state: &Struck, process: usize) -> bool {
    matches!(state.world.sessions[process].part, Part::Done(_))
}

/// A whole session of the library: what `process` does after a restart.
fn recover(directory: &Path, state: &Struck, process: usize) {
    let store = Store::open(&directory.join(NAME)).unwrap();
    let loaded = store.lock().unwrap().load().unwrap();
    let (_, file) = state.world.disk.store();
    let found = String::from_utf8(loaded.content().to_vec()).unwrap();
    assert_eq!(lines(&found), lines(&text(file.content)));
    let save = state.world.disk.process(process).saves;
    let content = found + &line(process, save);
    loaded.save(content.into_bytes()).unwrap().release();
}

/// The crash on a real disk, then everybody to the end.
fn recover_from(model: &Troubled, crash: &Crash, turn: usize) {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path();
    let mut processes = replay(model, crash, turn, directory);
    let when = format!("{:?}", crash.steps);
    let mut state = crash.state;
    agrees(directory, &state, &when);
    // Who lives finishes first: it may have the lock.
    for (number, process) in processes.iter_mut().enumerate() {
        let Some(process) = process else { continue };
        while process.session.effect().is_continue() {
            let save = state.world.disk.process(number).saves;
            process.go_on(number, save);
            let mut steps = Vec::new();
            model.steps(&state, &mut steps);
            let own = |(step, _): &(Step, Struck)| is_call(step, number);
            state = steps.into_iter().find(own).unwrap().1;
            agrees(directory, &state, &when);
        }
        assert!(is_done(&state, number), "{when}");
        assert_eq!(process.session.effect(), Break(Ok(())), "{when}");
    }
    for (number, process) in processes.iter().enumerate() {
        if process.is_none() && !is_done(&state, number) {
            recover(directory, &state, number);
            alone(model, &mut state, number);
            assert!(is_done(&state, number), "{when}");
            agrees(directory, &state, &when);
            assert_eq!(temps(directory), 0, "{when}");
        }
    }
    let (_, file) = state.world.disk.store();
    assert!(file.content.has(state.acknowledged), "{when}");
}

//= spec/lock.md#s4-nothing-acknowledged-is-gone
//= spec/lock.md#s5-leftovers-are-swept
//= spec/lock.md#leftovers-are-swept
#[test]
fn every_crash_state_is_recovered_from_on_a_real_disk() {
    let model = Troubled::new(SHIPPED, (WRITERS, 0, 1), 1, 0).unwrap();
    let (mut killed, mut cut, mut swept) = (0, 0, 0);
    for crash in crashes(&model) {
        let left = crash.state.world.disk.leftovers() > 0;
        swept += usize::from(left);
        let is_cut = matches!(crash.steps.last(), Some(Step::Cut(_)));
        match is_cut {
            true => cut += 1,
            false => killed += 1,
        }
        // After a cut what is left may hold anything: one turn for each.
        let turns = if is_cut && left { LEFT.len() } else { 1 };
        (0..turns).for_each(|turn| recover_from(&model, &crash, turn));
    }
    assert_eq!((killed, cut, swept), (65, 18, 17));
}
