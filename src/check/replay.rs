//! A run of the explorer, made again with real processes on a real disk.
//!
//! Lives here: one process per column, told step by step when to make its
//! next call, and the comparison of what the kernel answers with what the
//! simulated disk had answered. May not live here: any call on a store; that
//! is `store::kernel`, and the machine is the one that was explored.
//!
//! [`replay`] is the parent: it starts every process as a child by a command
//! that the caller gives, and talks to it over its stdin and stdout, one line
//! per message. [`serve`] is the child.

use core::ops::ControlFlow::{Break, Continue};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use super::Model;
use super::explore::Limits;
use super::lock::{Call, Sessions, World};
use super::trace::waits;
use crate::fsm::call::{Effect, Errno, Event};
use crate::fsm::protocol::Protocol;
use crate::fsm::session::{Role, Session};
use crate::fsm::{Machine as _, Perform as _};
use crate::sim::disk::Updates;
use crate::store::kernel::{Kernel, Wait};

/// Why a replay stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The directory, a process or a pipe failed.
    #[error("replay: {what}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The kernel did not answer as the simulated disk did.
    #[error(
        "replay: step {step}, P{process}: {effect}: the kernel answered \
         {found:?}; wanted {wanted:?} as on the simulated disk"
    )]
    Different {
        /// Which step, from 1.
        step: usize,
        /// Whose, from 1.
        process: usize,
        /// The call.
        effect: String,
        /// The kernel's answer.
        found: String,
        /// The simulated one.
        wanted: String,
    },
}

/// What a replay saw on the real disk.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Replayed {
    /// Steps that were made.
    pub steps: usize,
    /// Calls that the kernel let wait, as (step before, process), from 1.
    pub blocked: Vec<(usize, usize)>,
    /// Updates that were acknowledged and are not in the real file.
    pub lost: Vec<(usize, u8)>,
    /// Whether the real file holds exactly what the simulated one does.
    pub same_content: bool,
    /// Wall time.
    pub elapsed: Duration,
}

/// Makes `calls` again, in a directory of its own below `directory`.
///
/// `command` starts one child; the replay appends the arguments that
/// [`serve`] wants: directory, protocol, process, saves (0: a reader).
///
/// # Errors
/// Something failed, or the kernel answers differently.
pub fn replay(
    model: &Sessions,
    calls: &[Call],
    directory: &Path,
    command: &dyn Fn() -> Command,
) -> Result<Replayed, ReplayError> {
    let started = Instant::now();
    let store = directory.join(STORE);
    std::fs::write(&store, "").map_err(io("create the store"))?;
    let mut children = Vec::new();
    for process in 0..model.processes() {
        let saves = if process < model.writers { model.saves } else { 0 };
        children.push(Process::start(
            command(),
            directory,
            model.protocol,
            process,
            saves,
        )?);
    }
    let mut world = model.start();
    let mut blocked = Vec::new();
    for (number, call) in calls.iter().enumerate() {
        let step = number + 1;
        if let Some(child) = children.get_mut(call.process) {
            let answer = child.answer()?;
            let wanted = kind(call.event);
            if answer != wanted {
                return Err(ReplayError::Different {
                    step,
                    process: call.process + 1,
                    effect: call.effect.to_string(),
                    found: answer,
                    wanted,
                });
            }
        }
        model.advance(&mut world, call.process);
        // Whoever has to wait now makes its call now, as a real process does.
        for (process, child) in children.iter_mut().enumerate() {
            let Some(effect) = model.blocked(&world, process) else { continue };
            if child.asked {
                continue;
            }
            // The kernel wakes all who wait for a lock, in no order: only who
            // is to get it next waits there.
            let later = calls.iter().skip(step);
            let stays = later
                .map(|call| (call.process, waits(call.effect)))
                .find(|(_, waits)| waits.is_some())
                .is_some_and(|(next, _)| next == process);
            let found = child.begin(stays)?;
            if found != BLOCKED {
                return Err(ReplayError::Different {
                    step,
                    process: process + 1,
                    effect: effect.to_string(),
                    found,
                    wanted: BLOCKED.to_owned(),
                });
            }
            blocked.push((step, process + 1));
        }
    }
    let text = std::fs::read_to_string(&store).map_err(io("read the store"))?;
    let lost = acknowledged(model, &world)
        .into_iter()
        .filter(|(process, save)| {
            !text.lines().any(|line| line == update(*process, *save))
        })
        .collect();
    let same_content = all_updates(model)
        .into_iter()
        .filter(|(process, save)| {
            let one = Updates::one(*process, *save);
            world.disk.store().1.content.has(one)
        })
        .map(|(process, save)| update(process, save))
        .collect::<std::collections::BTreeSet<_>>()
        == text.lines().map(str::to_owned).collect();
    Ok(Replayed {
        steps: calls.len(),
        blocked,
        lost,
        same_content,
        elapsed: started.elapsed(),
    })
}

/// A child's side: makes the session's calls on the real kernel, one per
/// line that it reads, and writes one line per answer.
///
/// `saves` 0 is a reader.
///
/// # Errors
/// A pipe failed, or the directory cannot be opened.
pub fn serve(
    directory: &Path,
    protocol: Protocol,
    process: usize,
    saves: u8,
    input: impl BufRead,
    mut output: impl Write,
) -> Result<(), ReplayError> {
    let kernel =
        Kernel::new(directory, OsStr::new(STORE), BYTES_MAX, Wait::default())
            .map_err(|Errno(number)| ReplayError::Io {
            what: "open the directory",
            source: std::io::Error::from_raw_os_error(number),
        })?;
    let role = match saves {
        0 => Role::Reader,
        saves => Role::Writer { saves },
    };
    // As in `Sessions::new`: nobody crashes here.
    let protocol = Protocol { sweep: false, ..protocol };
    let mut session = Session::new(protocol, role);
    let mut say = |text: &str| {
        writeln!(output, "{text}")
            .and_then(|()| output.flush())
            .map_err(io("answer"))
    };
    for line in input.lines() {
        let line = line.map_err(io("read a command"))?;
        let effect = match session.effect() {
            Continue(effect) => effect,
            Break(_) => return say("done"),
        };
        if let Effect::Write(_) = effect {
            let mut content = kernel.content();
            let line = update(process, session.state.saved);
            content.extend(format!("{line}\n").into_bytes());
            kernel.set_content(content);
        }
        let event = match waits(effect) {
            Some((fd, access)) => {
                let event = kernel.try_lock(fd, access);
                if event == Event::Failed(Errno::AGAIN) {
                    say(BLOCKED)?;
                    if line == TRY {
                        continue;
                    }
                    kernel.perform(effect)
                } else {
                    event
                }
            }
            None => kernel.perform(effect),
        };
        say(&kind(event))?;
        if let Ok(next) = session.step(event) {
            session = next;
        }
    }
    Ok(())
}

/// The longest run of `model` from its beginning to an end; where runs can
/// go in circles, no circle is walked twice. `None`: a limit came first.
pub fn longest_run(model: &Sessions, limits: Limits) -> Option<Vec<Call>> {
    let started = Instant::now();
    let start = model.start();
    let mut best: HashMap<World, usize> = HashMap::new();
    // Depth first with a stack of its own: a state is finished once all its
    // successors are.
    let mut calls = vec![(start, false)];
    let mut popped = 0_usize;
    while let Some((world, expanded)) = calls.pop() {
        popped += 1;
        let late =
            popped.is_multiple_of(1024) && started.elapsed() >= limits.time_max;
        if late || best.len() > limits.states_max {
            return None;
        }
        let steps = steps(model, &world);
        if expanded {
            let lengths =
                steps.iter().filter_map(|(_, next)| best.get(next).copied());
            let length = lengths.max().map_or(0, |longest| longest + 1);
            best.insert(world, length);
        } else if let Entry::Vacant(new) = best.entry(world) {
            new.insert(0);
            calls.push((world, true));
            let new = steps.into_iter().map(|(_, next)| (next, false));
            calls.extend(new.filter(|(next, _)| !best.contains_key(next)));
        }
    }
    let mut run = Vec::new();
    let mut world = start;
    while let Some(length) = best.get(&world).copied().filter(|l| *l > 0) {
        let next = steps(model, &world)
            .into_iter()
            .find(|(_, next)| best.get(next).copied() == Some(length - 1));
        let Some((call, next)) = next else { break };
        run.push(call);
        world = next;
    }
    Some(run)
}

fn steps(model: &Sessions, world: &World) -> Vec<(Call, World)> {
    let mut steps = Vec::new();
    Model::steps(model, world, &mut steps);
    steps
}

/// A child process.
struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// It was told to make its next call, and has found that it must wait.
    asked: bool,
    /// It does so, in the kernel.
    waiting: bool,
}

const STORE: &str = "qubes.xml";
const BLOCKED: &str = "blocked";
const CALL: &str = "call";
const TRY: &str = "try";
const BYTES_MAX: u64 = 1024 * 1024;

impl Process {
    fn start(
        mut command: Command,
        directory: &Path,
        protocol: Protocol,
        process: usize,
        saves: u8,
    ) -> Result<Self, ReplayError> {
        let mut child = command
            .arg(directory)
            .arg(protocol.name)
            .arg(process.to_string())
            .arg(saves.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(io("start a process"))?;
        let pipes = (child.stdin.take(), child.stdout.take());
        let (Some(input), Some(output)) = pipes else {
            let source = std::io::Error::other("no pipe");
            return Err(ReplayError::Io { what: "start a process", source });
        };
        let output = BufReader::new(output);
        Ok(Self { child, input, output, asked: false, waiting: false })
    }

    /// Tells it to make a call that should wait, and hears what happens; it
    /// `stays` in the call, or only sees that it would wait.
    fn begin(&mut self, stays: bool) -> Result<String, ReplayError> {
        self.tell(if stays { CALL } else { TRY })?;
        let answer = self.hear()?;
        self.asked = answer == BLOCKED;
        self.waiting = self.asked && stays;
        Ok(answer)
    }

    /// The answer to its next call, or to the one that waits.
    fn answer(&mut self) -> Result<String, ReplayError> {
        if !self.waiting {
            self.tell(CALL)?;
        }
        self.asked = false;
        self.waiting = false;
        self.hear()
    }

    fn tell(&mut self, word: &str) -> Result<(), ReplayError> {
        writeln!(self.input, "{word}")
            .and_then(|()| self.input.flush())
            .map_err(io("tell a process"))
    }

    fn hear(&mut self) -> Result<String, ReplayError> {
        let mut line = String::new();
        self.output.read_line(&mut line).map_err(io("hear a process"))?;
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may wait for a lock for ever; its work is over either way.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The kind of an answer: numbers of inodes and descriptors may differ.
fn kind(event: Event) -> String {
    match event {
        Event::Opened(_) => "opened".to_owned(),
        Event::File(_) => "file".to_owned(),
        Event::Failed(errno) => format!("failed {errno}"),
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

fn update(process: usize, save: u8) -> String {
    format!("P{} update {}", process + 1, save + 1)
}

fn all_updates(model: &Sessions) -> Vec<(usize, u8)> {
    (0..model.writers)
        .flat_map(|process| (0..model.saves).map(move |save| (process, save)))
        .collect()
}

fn acknowledged(model: &Sessions, world: &World) -> Vec<(usize, u8)> {
    all_updates(model)
        .into_iter()
        .filter(|(process, save)| {
            *save < model.session(world, *process).acknowledged()
        })
        .collect()
}

fn io(what: &'static str) -> impl FnOnce(std::io::Error) -> ReplayError {
    move |source| ReplayError::Io { what, source }
}
