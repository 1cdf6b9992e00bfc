//! A run with crashes and faults, as people read it.
//!
//! Lives here: one line per step, in the column of whoever it happens to. May
//! not live here: columns and their width ([`super::super::trace`]).

use super::{Change, S4, S5_SWEPT, S6, Step, Struck, Troubled};
use crate::check::explore::Trace;
use crate::check::lock::{Call, NO_FAILURE, S7, S8};
use crate::check::trace::{Line, facts, loss, note_of, refused, stuck};
use crate::fsm::call::{Effect, Event};
use crate::sim::crash::{Data, Outcome};

/// The lines of a run, with a last one that says what `property` lost.
pub fn lines(
    model: &Troubled,
    trace: &Trace<Troubled>,
    property: &str,
) -> Vec<Line> {
    let processes = model.sessions.processes();
    let mut waits = vec![false; processes];
    let mut lines = Vec::new();
    let mut acting = 0;
    let steps = trace.prefix.iter().chain(&trace.cycle);
    for (number, (step, state)) in steps.enumerate() {
        acting = actor(step).unwrap_or(acting);
        let waited = waits.get(acting).copied().unwrap_or(false);
        lines.push(Line {
            step: Some(number + 1),
            process: actor(step).unwrap_or(0) + 1,
            text: text(step, waited),
            state: facts(&model.sessions, &state.world),
        });
        if let Some(waits) = waits.get_mut(acting) {
            *waits = false;
        }
        if let Step::Cut(_) = step {
            waits.fill(false);
        }
        for (process, waits) in waits.iter_mut().enumerate() {
            let blocked = model.sessions.blocked(&state.world, process);
            if let (Some(effect), false) = (blocked, *waits) {
                *waits = true;
                let text = format!("{effect} ... waits");
                lines.push(note_of(process, text));
            }
        }
    }
    let last = trace.prefix.iter().chain(&trace.cycle).next_back();
    let end = last.map_or(&trace.initial, |(_, state)| state);
    let mut note = |text| {
        lines.push(note_of(acting, text));
    };
    if let (true, Some((Step::Call(call) | Step::Fault(call), _))) =
        (end.world.no_row(), last)
    {
        note(refused(call.event));
    }
    if let Some(text) = lost(model, end, property) {
        note(text);
    }
    if property == S7 {
        note(if trace.cycle.is_empty() {
            stuck(model, end).to_owned()
        } else {
            let again = trace.prefix.len() + 1;
            format!("*** and again from step {again}, for ever")
        });
    }
    lines
}

fn actor(step: &Step) -> Option<usize> {
    match step {
        Step::Call(call) | Step::Fault(call) => Some(call.process),
        Step::Killed(process) | Step::Odd(process, _) => Some(*process),
        Step::Cut(_) | Step::Touched | Step::Changed(_) => None,
    }
}

fn text(step: &Step, waited: bool) -> String {
    match step {
        Step::Call(call) => {
            let waited = waited && matches!(call.effect, Effect::Lock(..));
            let dots = if waited { "... " } else { "" };
            format!("{dots}{} = {}", call.effect, call.event)
        }
        Step::Fault(call) => {
            let Call { effect, event, .. } = call;
            if matches!(event, Event::Failed(_)) {
                format!("{effect} = {event}")
            } else {
                // A driver that does not look.
                format!("{effect} fails, taken for {event}")
            }
        }
        Step::Killed(_) => "*** killed, and starts again".to_owned(),
        Step::Cut(outcome) => cut(outcome),
        Step::Odd(_, text) => (*text).to_owned(),
        Step::Touched => "somebody reads 'qubes.xml'".to_owned(),
        Step::Changed(Change::Replace) => {
            "*** somebody without a lock renames over 'qubes.xml'".to_owned()
        }
        Step::Changed(Change::Overwrite) => {
            "*** somebody without a lock writes to 'qubes.xml'".to_owned()
        }
    }
}

/// What a power cut left, in one line.
pub fn cut(outcome: &Outcome) -> String {
    let store = match outcome.store {
        Data::Empty => "empty".to_owned(),
        Data::Torn => "incomplete".to_owned(),
        Data::Whole(updates) if updates.0 == 0 => "as it was made".to_owned(),
        Data::Whole(updates) => {
            let names: Vec<_> =
                updates.processes().map(|p| format!("P{}", p + 1)).collect();
            format!("that of {}", names.join(", "))
        }
    };
    let left = match outcome.leftovers {
        0 => String::new(),
        1 => ", a temp-file is left".to_owned(),
        more => format!(", {more} temp-files are left"),
    };
    format!("*** power cut: 'qubes.xml' is {store}{left}")
}

fn lost(model: &Troubled, end: &Struck, property: &str) -> Option<String> {
    match property {
        S8 => Some("*** what somebody else wrote is gone".to_owned()),
        S4 => Some("*** what was acknowledged is gone".to_owned()),
        S5_SWEPT => Some("*** saves beside what a crash left".to_owned()),
        S6 if end.moved() => {
            Some("*** the store is changed after a failure".to_owned())
        }
        S6 if model.first_cause(end) => {
            Some("*** the lock is given up before the release".to_owned())
        }
        S6 => Some("*** the first failure is not what it reports".to_owned()),
        NO_FAILURE => Some("*** fails, and no call did".to_owned()),
        property => loss(&model.sessions, &end.world, property),
    }
}
