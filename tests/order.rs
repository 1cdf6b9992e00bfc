//! Orders that no explorer without crashes can miss: what is durable when, on
//! every path of the machine, whichever calls fail. And that readers share.

#![cfg(feature = "check")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::collections::HashSet;
use std::ops::ControlFlow::{Break, Continue};

use qubes_fsm::check::explore::{Limits, Verdict, explore};
use qubes_fsm::check::lock::{READERS_SHARE, S1_STALE, S2, S7, Sessions};
use qubes_fsm::check::trace::{columns, lines};
use qubes_fsm::fsm::protocol::{
    HISTORY_2013, HISTORY_2016, LOCK_FILE, NAMED, SHIPPED,
};
use qubes_fsm::fsm::save::{Outcome, Save};
use qubes_fsm::fsm::table::possible;
use qubes_fsm::fsm::{Event, Fd, Machine as _};

/// What a save has made durable so far.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
struct Seen {
    file_synced: bool,
    renamed: bool,
    directory_synced: bool,
}

/// Walks every path of a save and looks at each answer and each end.
fn every_path(mut look: impl FnMut(Save, Seen, Option<Event>)) {
    let mut ends = 0;
    for protocol in NAMED {
        let start = (Save::new(protocol, Fd(0)), Seen::default());
        let mut known = HashSet::from([start]);
        let mut left = vec![start];
        while let Some((save, seen)) = left.pop() {
            let effect = match save.effect() {
                Continue(effect) => effect,
                Break(_) => {
                    look(save, seen, None);
                    ends += 1;
                    continue;
                }
            };
            for event in possible(effect) {
                look(save, seen, Some(event));
                let mut next = seen;
                if event == Event::Synced {
                    next.file_synced |= !seen.renamed;
                    next.directory_synced |= seen.renamed;
                }
                next.renamed |= event == Event::Renamed;
                let pair = (save.step(event).unwrap(), next);
                if known.insert(pair) {
                    left.push(pair);
                }
            }
        }
    }
    assert!(ends > 10, "no path came to an end");
}

//= spec/lock.md#durable-before-the-rename
#[test]
fn a_file_is_synced_before_it_gets_the_name() {
    let mut renames = 0;
    every_path(|save, seen, event| {
        if event == Some(Event::Renamed) {
            assert!(seen.file_synced, "{save:?}");
            renames += 1;
        }
    });
    assert!(renames >= NAMED.len());
}

//= spec/lock.md#durable-after-the-rename
#[test]
fn a_save_is_acknowledged_only_when_the_directory_is_synced() {
    let (mut saved, mut not_durable) = (0, 0);
    every_path(|save, seen, event| {
        if event.is_some() {
            return;
        }
        match save.effect() {
            Break(Outcome::Saved(_)) => {
                assert!(seen.renamed && seen.directory_synced, "{save:?}");
                saved += 1;
            }
            Break(Outcome::NotDurable(..)) => {
                assert!(seen.renamed && !seen.directory_synced, "{save:?}");
                not_durable += 1;
            }
            Break(Outcome::Refused(..)) => {
                assert!(!seen.renamed, "{save:?}");
            }
            Continue(effect) => panic!("{effect:?} after the end"),
        }
    });
    assert!(saved >= NAMED.len() && not_durable >= NAMED.len());
}

//= spec/lock.md#readers-share
#[test]
fn two_readers_hold_the_lock_at_a_time() {
    for protocol in [SHIPPED, LOCK_FILE] {
        let model = Sessions::new(protocol, 2, 2, 1).unwrap();
        let report = explore(&model, Limits::default());
        assert!(report.proves(), "{}", protocol.name);
        let share = |(name, _, verdict): &(&str, _, Verdict<Sessions>)| {
            *name == READERS_SHARE && matches!(verdict, Verdict::Holds)
        };
        assert!(report.verdicts.iter().any(share), "{}", protocol.name);
    }
}

/// Fails with the interleaving: try it, and swap comparison and lock.
#[test]
fn the_shipped_protocol_holds() {
    for (writers, readers) in [(2, 0), (3, 0), (2, 1)] {
        let model = Sessions::new(SHIPPED, writers, readers, 1).unwrap();
        let report = explore(&model, Limits::default());
        for (name, _, verdict) in &report.verdicts {
            let Verdict::Violated(trace) = verdict else { continue };
            let steps = trace.iter().flat_map(|trace| &trace.prefix);
            let calls: Vec<_> = steps.map(|(call, _)| *call).collect();
            let lines = lines(&model, &calls, name);
            let picture = columns(&lines, model.processes(), 100);
            panic!("{name}, in {} steps:\n{picture}", calls.len());
        }
        assert!(report.proves());
    }
}

//= spec/lock.md#s1-no-stale-read
//= spec/lock.md#s2-one-holder
//= spec/lock.md#s7-everyone-finishes
#[test]
fn a_reader_is_enough_to_see_the_race() {
    for protocol in [HISTORY_2013, HISTORY_2016] {
        let model = Sessions::new(protocol, 1, 1, 1).unwrap();
        let report = explore(&model, Limits::default());
        assert!(report.violation(S1_STALE).is_some(), "{}", protocol.name);
        assert!(report.violation(S2).is_some(), "{}", protocol.name);
        // They lose updates, but they come to an end.
        assert!(report.violation(S7).is_none(), "{}", protocol.name);
    }
}
