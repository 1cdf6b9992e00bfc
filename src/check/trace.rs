//! A run as people read it: one column per process, one line per call.
//!
//! Lives here: which lines a run has, the notes beside them, and their text.
//! May not live here: colours; whether a run was to be expected.
//!
//! The form is that of the message of core-admin 247cff33, where the race of
//! 2013 was first written down: P1 left, P2 right, system calls, and a note
//! where a descriptor leads to a file that has no name any more.

use core::fmt::Write as _;

use super::Model;
use super::lock::{Call, Progress, S1, S1_STALE, S2, S3, S5, Sessions, World};
use crate::fsm::call::{Access, Effect, Event, Fd};
use crate::sim::disk::{UPDATES, Updates};

/// One line of a trace.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct Line {
    /// Which step it is, from 1; `None`: no step, somebody waits or a note.
    pub step: Option<usize>,
    /// Whose column, from 1 as in P1.
    pub process: usize,
    /// The call and its answer, or the note.
    pub text: String,
    /// What is so after it, one thing a line: files and who has them open,
    /// for the store. Empty where nothing has changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub state: Vec<String>,
}

/// The lines of a run from its beginning, with a last one that says what
/// `property` lost.
pub fn lines(model: &Sessions, calls: &[Call], property: &str) -> Vec<Line> {
    let mut world = model.start();
    let mut waits = vec![false; model.processes()];
    let mut lines = Vec::new();
    let mut acting = 0;
    for (number, call) in calls.iter().enumerate() {
        let call = match model.advance(&mut world, call.process) {
            Progress::Moved(call) | Progress::Refused(call, _) => call,
            Progress::Blocked(_) | Progress::Done => break,
        };
        acting = call.process;
        let text = match (call.effect, waits.get(acting)) {
            (Effect::Lock(..), Some(true)) => {
                format!("... {} = granted", call.effect)
            }
            _ => format!("{} = {}", call.effect, call.event),
        };
        if let Some(waits) = waits.get_mut(acting) {
            *waits = false;
        }
        let state = facts(model, &world);
        let step = Some(number + 1);
        lines.push(Line { step, process: acting + 1, text, state });
        if world.no_row() {
            lines.push(note_of(acting, refused(call.event)));
        }
        if let Some(text) = note(&world, call) {
            lines.push(note_of(acting, text));
        }
        for (process, waits) in waits.iter_mut().enumerate() {
            let blocked = model.blocked(&world, process);
            if let (Some(effect), false) = (blocked, *waits) {
                *waits = true;
                let text = format!("{effect} ... waits");
                lines.push(note_of(process, text));
            }
        }
    }
    if let Some(text) = loss(model, &world, property) {
        lines.push(note_of(acting, text));
    }
    lines
}

/// What is said below a call whose answer the machine does not know.
pub(super) fn refused(event: Event) -> String {
    format!("*** the machine has no row for {event:?}")
}

/// What is said of an end that should be none: what need not come, such as a
/// crash, may still be possible there.
pub(super) fn stuck<M: Model>(model: &M, end: &M::State) -> &'static str {
    let mut steps = Vec::new();
    model.steps(end, &mut steps);
    match steps.is_empty() {
        true => "*** nobody can go on from here",
        false => "*** nobody who must go on can",
    }
}

/// A line that is no step.
pub(super) fn note_of(process: usize, text: String) -> Line {
    Line { step: None, process: process + 1, text, state: Vec::new() }
}

/// What is on the disk, and what each process has.
pub(super) fn facts(model: &Sessions, world: &World) -> Vec<String> {
    let disk = &world.disk;
    let (store, file) = disk.store();
    let content = |whole: bool, content: Updates| match whole {
        true => updates(model, content),
        false => "incomplete".to_owned(),
    };
    let mut facts = vec![format!(
        "'qubes.xml' is inode {store}: {}",
        content(file.whole, file.content)
    )];
    facts.extend(
        disk.lock_file().map(|it| format!("'qubes.xml.lock' is inode {it}")),
    );
    match disk.leftovers() {
        0 => {}
        left => facts.push(format!("temporary files of the dead: {left}")),
    }
    for process in 0..model.processes() {
        let of = format!("P{}", process + 1);
        if let Some((number, file)) = disk.temporary(process) {
            let content = content(file.whole, file.content);
            facts.push(format!(
                "{of}'s temporary file is inode {number}: {content}"
            ));
        }
        for fd in [Fd(0), Fd(1)] {
            let Some(open) = disk.opened(process, fd) else { continue };
            let lock = match open.ofd {
                None => "",
                Some(Access::Read) => ", read lock",
                Some(Access::Write) => ", write lock",
            };
            let name = match disk.is_linked(open.inode) {
                true => "",
                false => ", which has no name",
            };
            let (number, inode) = (u16::from(fd.0) + 3, open.inode);
            facts.push(format!("{of} fd {number}: inode {inode}{name}{lock}"));
        }
    }
    facts
}

/// Which saves are in a content.
fn updates(model: &Sessions, content: Updates) -> String {
    let mut names = Vec::new();
    for process in 0..model.writers {
        for save in 0..model.saves {
            if content.has(Updates::one(process, save)) {
                let of = process + 1;
                names.push(match model.saves {
                    1 => format!("P{of}'s"),
                    _ => format!("P{of}'s {}.", save + 1),
                });
            }
        }
    }
    let others = (0..UPDATES as u8)
        .any(|change| content.has(Updates::of_others(change)));
    names.extend(others.then(|| "somebody else's".to_owned()));
    match names.as_slice() {
        [] => "as at the beginning".to_owned(),
        [one] => format!("{one} update is in it"),
        some => format!("{} updates are in it", some.join(" and ")),
    }
}

/// The trace in columns: every process has one, `width` characters wide in
/// all.
pub fn columns(lines: &[Line], processes: usize, width: usize) -> String {
    named_columns(lines, &process_names(processes), width)
}

/// P1, P2 and so on.
pub(super) fn process_names(processes: usize) -> Vec<String> {
    (1..=processes).map(|n| format!("P{n}")).collect()
}

/// The same with a name above each column.
pub fn named_columns(lines: &[Line], names: &[String], width: usize) -> String {
    const NUMBER: usize = 5;
    const LEAST: usize = 24;
    let column = width.saturating_sub(NUMBER) / names.len().max(1);
    let column = column.max(LEAST);
    let mut out = " ".repeat(NUMBER);
    for name in names {
        let _ = write!(out, "{name:column$}");
    }
    let mut out = format!("{}\n", out.trim_end());
    for line in lines {
        let number = line.step.map_or_else(String::new, |n| n.to_string());
        let indent = " ".repeat(column * line.process.saturating_sub(1));
        let _ = writeln!(out, "{number:>3}  {indent}{}", line.text);
    }
    out
}

/// What a reader must know to see the danger in a call.
fn note(world: &World, call: Call) -> Option<String> {
    let fd = match (call.effect, call.event) {
        (Effect::Lock(fd, _), Event::Locked) => fd,
        _ => return None,
    };
    let file = world.disk.opened(call.process, fd)?;
    (!world.disk.is_linked(file.inode)).then(|| {
        format!("*** fd {} is a file without a name", u16::from(fd.0) + 3)
    })
}

/// What the last state of a run has lost.
pub(super) fn loss(
    model: &Sessions,
    world: &World,
    property: &str,
) -> Option<String> {
    let (store, file) = world.disk.store();
    let of = |process: usize| format!("P{}", process + 1);
    let processes = 0..model.processes();
    let holders = || {
        processes.clone().filter_map(|process| {
            let fd = model.session(world, process).holds()?;
            Some((process, world.disk.opened(process, fd)?.inode))
        })
    };
    match property {
        S1 => {
            let lost: Vec<String> = (0..model.writers)
                .filter(|&process| {
                    let saves = model.session(world, process).acknowledged();
                    (0..saves).any(|save| {
                        !file.content.has(Updates::one(process, save))
                    })
                })
                .map(of)
                .collect();
            Some(format!(
                "*** the update of {} is lost: 'qubes.xml' is without it",
                lost.join(" and ")
            ))
        }
        S1_STALE => Some(
            "*** holds a lock, and has read what 'qubes.xml' no longer is"
                .to_owned(),
        ),
        S2 => {
            let astray = holders().find(|(_, inode)| *inode != store);
            Some(match astray {
                Some((process, _)) => format!(
                    "*** {} holds a lock on a file that is not 'qubes.xml'",
                    of(process)
                ),
                None => {
                    let all: Vec<_> = holders().map(|(p, _)| of(p)).collect();
                    format!("*** {} both hold the lock", all.join(" and "))
                }
            })
        }
        S3 => Some("*** 'qubes.xml' is incomplete".to_owned()),
        S5 => Some("*** something of a finished process is left".to_owned()),
        _ => None,
    }
}

/// Whether a call asks for a lock that others may have to wait for.
pub fn waits(effect: Effect) -> Option<(Fd, Access)> {
    if let Effect::Lock(fd, access) = effect {
        Some((fd, access))
    } else {
        None
    }
}
