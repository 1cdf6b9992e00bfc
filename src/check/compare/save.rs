//! The store's model with crashes and faults in the words of `spec/Save.tla`.
//!
//! Lives here: which variables its states are beyond those of `Lock.tla`, and
//! which actions its steps. May not live here: either model.

use super::Specified;
use super::lock::{View, main, reason};
use super::value::Value;
use crate::check::trouble::{Change, Step, Struck, Troubled};
use crate::fsm::call::Errno;
use crate::sim::crash::Data;

impl Specified for Troubled {
    const MODULE: &'static str = "Save";

    fn variables(&self, at: &Struck) -> Vec<(&'static str, Value)> {
        let model = &self.sessions;
        // One more for what each crash, fault or change by others may leave.
        let troubles = [self.crashes, self.faults, self.changes];
        let troubles: usize = troubles.into_iter().map(usize::from).sum();
        let slots = model.processes() + 2 + troubles;
        let view = View { model, slots };
        let disk = &at.world.disk;
        let made = (0..model.processes())
            .map(|p| (view.name(p), Value::number(disk.process(p).saves)));
        let left = (1..=slots)
            .filter(|slot| disk.is_leftover(view.place(*slot)))
            .map(|slot| Value::number(slot as u32));
        let below = (1..=slots).map(|slot| {
            let below = at.media.below(view.place(slot));
            Value::sequence(below.map(|b| data(&view, b)))
        });
        let past = at.media.pasts().map(|(store, names)| {
            let store = Value::sequence(store.map(|s| data(&view, s)));
            Value::sequence([store, Value::number(names)])
        });
        let number = (0..model.processes()).map(|p| {
            let number = main(&at.world.sessions[p]).map_or(0, |fd| fd.0);
            (view.name(p), Value::number(number))
        });
        let why = (0..model.processes()).map(|p| {
            let reason = reason(&at.world.sessions[p]);
            (view.name(p), Value::sequence(reason.map(errno)))
        });
        let cause = (0..model.processes())
            .map(|p| (view.name(p), Value::sequence(at.cause(p).map(errno))));
        let deposed = (0..model.processes())
            .filter(|p| at.deposed.has(*p))
            .map(|p| view.name(p));
        let mut variables = view.variables(&at.world);
        variables.extend([
            ("main", Value::function(number)),
            ("made", Value::function(made)),
            ("leftover", Value::set(left)),
            ("below", Value::sequence(below)),
            ("past", Value::set(past)),
            ("acked", view.updates(at.acknowledged)),
            ("crashes", Value::number(at.crashes)),
            ("gone", Value::Truth(at.gone)),
            ("faults", Value::number(at.faults)),
            ("why", Value::function(why)),
            ("cause", Value::function(cause)),
            ("changes", Value::number(at.changes)),
            ("deposed", Value::set(deposed)),
        ]);
        if at.moved() {
            variables.push(("MOVED", Value::Truth(true)));
        }
        if !at.media.is_complete() {
            variables.push(("OVERFLOWN", Value::Truth(true)));
        }
        variables
    }

    fn action(&self, at: &Struck, step: &Step) -> &'static str {
        match step {
            Step::Call(call) => self.sessions.action(&at.world, call),
            Step::Killed(_) => "Kill",
            Step::Cut(_) => "Cut",
            Step::Fault(_) => "Fault",
            Step::Odd(..) => "ODD",
            Step::Touched => "TOUCHED",
            Step::Changed(Change::Replace) => "Replace",
            Step::Changed(Change::Overwrite) => "Overwrite",
        }
    }
}

fn errno(errno: Errno) -> Value {
    match errno {
        Errno::CHANGED => Value::text("changed"),
        errno => Value::text(&errno.to_string()),
    }
}

fn data(view: &View<'_>, data: Data) -> Value {
    match data {
        Data::Empty => Value::sequence([Value::text("empty")]),
        Data::Torn => Value::sequence([Value::text("torn")]),
        Data::Whole(content) => {
            Value::sequence([Value::text("whole"), view.updates(content)])
        }
    }
}
