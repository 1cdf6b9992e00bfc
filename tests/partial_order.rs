//! Fewer orders give the same verdicts; and that orders make no difference is
//! looked at, in every state of small instances.

#![cfg(feature = "check")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow::Continue;

use qubes_fsm::check::explore::{
    Coverage, Limits, Report, Trace, Verdict, explore,
};
use qubes_fsm::check::lock::{Sessions, World};
use qubes_fsm::check::mutants::{self, Subject};
use qubes_fsm::check::partial_order::{
    Ahead, Footprint, NUMBERS, Ordered, STORE_NAME, content, links, locks,
    settle,
};
use qubes_fsm::check::symmetry::Symmetric;
use qubes_fsm::check::trouble::{Flaw, Step, Struck, Troubled};
use qubes_fsm::check::wide::{How, search, search_watched};
use qubes_fsm::check::{Kind, Model};
use qubes_fsm::fsm::Machine as _;
use qubes_fsm::fsm::call::{Effect, Errno, Event, Fd, FileId, Name};
use qubes_fsm::fsm::protocol::{
    Compare, Keep, LOCK_FILE, NAMED, Protocol, SHIPPED, Target,
};
use qubes_fsm::fsm::session::{Part, Session};
use qubes_fsm::sim::disk::{DESCRIPTORS, INODES};

/// The five protocols, those of the mutants, and every other that can be
/// configured.
fn protocols() -> Vec<Protocol> {
    let mut all = NAMED.to_vec();
    all.extend(mutants::all().into_iter().filter_map(|mutant| {
        match mutant.subject {
            Subject::Store(model) => Some(model.sessions.protocol),
            Subject::Phase(_) => None,
        }
    }));
    for target in [Target::Store, Target::LockFile] {
        for compare in [Compare::Never, Compare::BeforeLock, Compare::AfterLock]
        {
            for keep in [Keep::Locked, Keep::Unlocked, Keep::Nothing] {
                for verify in [false, true] {
                    all.push(Protocol {
                        name: "any",
                        target,
                        compare,
                        keep,
                        verify,
                        sweep: false,
                    });
                }
            }
        }
    }
    let mut seen: Vec<Protocol> = Vec::new();
    all.retain(|protocol| {
        let plain = Protocol { name: "", sweep: false, ..*protocol };
        let new = !seen.contains(&plain);
        seen.push(plain);
        new
    });
    assert!(all.len() >= 36, "{}", all.len());
    all
}

fn stores() -> Vec<Sessions> {
    let sizes =
        [(1, 1, 1), (2, 0, 1), (2, 1, 1), (3, 0, 1), (1, 2, 1), (2, 0, 2)];
    let mut stores = Vec::new();
    for protocol in protocols() {
        for (writers, readers, saves) in sizes {
            stores.extend(Sessions::new(protocol, writers, readers, saves));
        }
    }
    assert!(stores.len() > 200, "{}", stores.len());
    stores
}

/// Every state of a model, and where each process gets from there.
struct Graph {
    states: Vec<World>,
    next: Vec<Vec<Option<usize>>>,
}

fn graph(model: &Sessions) -> Graph {
    let mut states = model.initial();
    let mut known: HashMap<World, usize> =
        states.iter().copied().zip(0..).collect();
    let mut next = Vec::new();
    while let Some(state) = states.get(next.len()).copied() {
        let steps = (0..model.processes()).map(|process| {
            let (_, after) = model.step_of(&state, process)?;
            Some(*known.entry(after).or_insert_with(|| {
                states.push(after);
                states.len() - 1
            }))
        });
        let steps = steps.collect();
        next.push(steps);
    }
    Graph { states, next }
}

/// The call that comes next.
fn effect(model: &Sessions, world: &World, process: usize) -> Option<Effect> {
    match model.session(world, process).effect() {
        Continue(effect) => Some(effect),
        std::ops::ControlFlow::Break(_) => None,
    }
}

type Prints<'a> = &'a dyn Fn(&World, usize) -> Footprint;

/// Two processes whose next calls are independent by `footprint`, though they
/// are not: one enables or disables the other, or the order makes a
/// difference. Counts those that were looked at.
fn no_diamond(
    model: &Sessions,
    Graph { states, next }: &Graph,
    footprint: Prints,
    looked: &mut usize,
) -> Option<[Effect; 2]> {
    for (state, next_of) in states.iter().zip(next) {
        for one in 0..model.processes() {
            for other in (0..model.processes()).filter(|p| *p != one) {
                // Who is done, or both wait: there is no order.
                let (Some(a), Some(b)) =
                    (effect(model, state, one), effect(model, state, other))
                else {
                    continue;
                };
                let prints = [one, other].map(|p| footprint(state, p));
                let Some(after) = next_of[one] else { continue };
                if prints[0].depends_on(prints[1]) {
                    continue;
                }
                *looked += 1;
                let both = next[after][other];
                let right = match next_of[other] {
                    Some(first) => both.is_some() && next[first][one] == both,
                    None => both.is_none(),
                };
                if !right {
                    return Some([a, b]);
                }
            }
        }
    }
    None
}

/// In every state of small instances: calls whose footprints do not meet
/// neither enable nor disable each other, and both orders come to the same
/// state.
#[test]
fn calls_with_other_footprints_change_places() {
    let mut looked = 0;
    for model in stores() {
        let graph = graph(&model);
        let footprint = |world: &World, p| model.footprint(world, p);
        let found = no_diamond(&model, &graph, &footprint, &mut looked);
        assert_eq!(found, None, "{model:?}");
    }
    assert!(looked > 100_000, "{looked}");
}

/// Where no more crash can come, calls are what they are without: both
/// orders come to the same state, with all that is remembered beside it. The
/// sweep of what was left depends on everything.
#[test]
fn after_a_crash_too() {
    let (mut looked, mut swept) = (0, 0);
    let sizes = [(2, 0, 1), (2, 1, 1)];
    for (protocol, bounds) in [SHIPPED, LOCK_FILE]
        .into_iter()
        .flat_map(|protocol| sizes.map(|bounds| (protocol, bounds)))
    {
        let model = Troubled::new(protocol, bounds, 1, 0).unwrap();
        let call = |from: &Struck, process: usize| {
            let mut steps = Vec::new();
            model.steps(from, &mut steps);
            let mut calls = steps.into_iter();
            calls.find_map(|(step, to)| match step {
                Step::Call(call) if call.process == process => Some(to),
                Step::Call(_)
                | Step::Fault(_)
                | Step::Killed(_)
                | Step::Cut(_)
                | Step::Odd(..)
                | Step::Touched
                | Step::Changed(_) => None,
            })
        };
        let mut states = model.initial();
        let mut known: HashSet<Struck> = states.iter().copied().collect();
        while let Some(from) = states.pop() {
            let mut steps = Vec::new();
            model.steps(&from, &mut steps);
            let new = steps.into_iter().map(|(_, to)| to);
            states.extend(new.filter(|to| known.insert(*to)));
            if from.crashes > 0 || from.gone {
                continue;
            }
            let sessions = &model.sessions;
            for one in 0..sessions.processes() {
                let Some(after) = call(&from, one) else { continue };
                for other in (0..sessions.processes()).filter(|p| *p != one) {
                    let next = effect(sessions, &from.world, other);
                    swept += usize::from(next == Some(Effect::Sweep));
                    let [a, b] = [one, other]
                        .map(|p| sessions.footprint(&from.world, p));
                    if a.depends_on(b) {
                        continue;
                    }
                    let both = call(&after, other);
                    let first = call(&from, other);
                    let turned = first.and_then(|first| call(&first, one));
                    assert_eq!(both.is_some(), first.is_some(), "{from:?}");
                    assert_eq!(both, turned, "{from:?}");
                    looked += 1;
                }
            }
        }
    }
    assert!(looked > 10_000 && swept > 0, "{looked} {swept}");
}

/// Every state: is what may go alone, by `may`, free of what the others may
/// come to, by the graph itself? Else the call that is not.
fn disturbed(
    model: &Sessions,
    Graph { states, next }: &Graph,
    may: &dyn Fn(&World, usize) -> bool,
    looked: &mut Vec<Effect>,
) -> Option<Effect> {
    let safety = model.properties().into_iter();
    let safety: Vec<_> =
        safety.filter(|property| property.kind != Kind::Eventually).collect();
    // What is violated, or found by a twin.
    let says: Vec<u32> = states
        .iter()
        .map(|state| {
            safety.iter().enumerate().fold(0, |all, (bit, property)| {
                let wanted = property.kind == Kind::Sometimes;
                let is = (property.test)(model, state) == wanted;
                all | u32::from(is) << bit
            })
        })
        .collect();
    for process in 0..model.processes() {
        let others: Vec<usize> =
            (0..model.processes()).filter(|p| *p != process).collect();
        let mut disturbs: Vec<bool> = (0..states.len())
            .map(|at| {
                let Some(after) = next[at][process] else { return true };
                says[at] & !says[after] != 0
                    || others.iter().any(|&other| match next[at][other] {
                        Some(first) => {
                            next[after][other].is_none()
                                || next[after][other] != next[first][process]
                        }
                        // It may enable one that waits: that is no step yet.
                        None => false,
                    })
            })
            .collect();
        // Or the others come to where it does.
        loop {
            let mut changed = false;
            for at in (0..states.len()).rev() {
                let comes = !disturbs[at]
                    && others.iter().any(|&other| {
                        next[at][other].is_some_and(|to| disturbs[to])
                    });
                disturbs[at] |= comes;
                changed |= comes;
            }
            if !changed {
                break;
            }
        }
        for (state, disturbs) in states.iter().zip(disturbs) {
            if may(state, process) {
                let effect = effect(model, state, process).unwrap();
                if disturbs {
                    return Some(effect);
                }
                if !looked.contains(&effect) {
                    looked.push(effect);
                }
            }
        }
    }
    None
}

/// In every state of small instances, by the graph itself: whatever the others
/// do before a step that may be taken alone, it stays enabled, commutes with
/// what they do, and mends nothing.
#[test]
fn who_goes_alone_disturbs_nobody() {
    let mut looked = Vec::new();
    for model in stores() {
        let may = |world: &World, p| model.may_go_alone(world, p);
        let found = disturbed(&model, &graph(&model), &may, &mut looked);
        assert_eq!(found, None, "{model:?}");
    }
    let kinds = |is: fn(&Effect) -> bool| looked.iter().any(is);
    assert!(kinds(|e| matches!(e, Effect::Open(Name::Store, _))));
    assert!(kinds(|e| matches!(e, Effect::Open(Name::LockFile, _))));
    assert!(kinds(|e| matches!(e, Effect::Lock(..))));
    assert!(kinds(|e| matches!(e, Effect::TryLock(_))));
    assert!(kinds(|e| matches!(e, Effect::StatFd(_))));
    assert!(kinds(|e| matches!(e, Effect::StatName(_))));
    assert!(kinds(|e| matches!(e, Effect::Read(_))));
    assert!(kinds(|e| matches!(e, Effect::Create)));
    assert!(kinds(|e| matches!(e, Effect::Write(_))));
    assert!(kinds(|e| matches!(e, Effect::Sync(_))));
    assert!(kinds(|e| matches!(e, Effect::CompareStat)));
    assert!(kinds(|e| matches!(e, Effect::CompareContent(_))));
    assert!(kinds(|e| matches!(e, Effect::SyncDirectory)));
    assert!(kinds(|e| matches!(e, Effect::Close(_))));
    assert!(!kinds(|e| matches!(e, Effect::Rename)));
}

/// The footprint of a call without one part of it.
fn without(
    model: &Sessions,
    world: &World,
    process: usize,
    of: fn(&Effect) -> bool,
    parts: u32,
) -> Footprint {
    let whole = model.footprint(world, process);
    match effect(model, world, process) {
        Some(effect) if of(&effect) => Footprint {
            reads: whole.reads & !parts,
            writes: whole.writes & !parts,
        },
        Some(_) | None => whole,
    }
}

fn of_files(part: fn(u8) -> u32) -> u32 {
    (0..INODES as u8).map(part).fold(0, |all, one| all | one)
}

fn is_close(effect: &Effect) -> bool {
    matches!(effect, Effect::Close(_))
}

/// A footprint by hand was wrong once: a close gives back an inode number,
/// and the next new file gets it.
#[test]
fn a_close_that_frees_no_number_is_found() {
    let found = stores().into_iter().find_map(|model| {
        let wrong =
            |world: &World, p| without(&model, world, p, is_close, NUMBERS);
        no_diamond(&model, &graph(&model), &wrong, &mut 0)
    });
    let found = found.unwrap();
    assert!(found.iter().any(is_close), "{found:?}");
    assert!(found.contains(&Effect::Create), "{found:?}");
}

/// Of which calls, and which parts.
type LeftOut = (fn(&Effect) -> bool, u32);

/// And so is each other part that is left out, by the calls themselves.
#[test]
fn each_part_left_out_is_found() {
    let is_rename = |effect: &Effect| matches!(effect, Effect::Rename);
    let is_lock = |effect: &Effect| matches!(effect, Effect::Lock(..));
    let is_open = |effect: &Effect| matches!(effect, Effect::Open(..));
    let is_stat = |effect: &Effect| matches!(effect, Effect::StatName(_));
    let is_compare = |effect: &Effect| matches!(effect, Effect::CompareStat);
    let is_create = |effect: &Effect| matches!(effect, Effect::Create);
    let wrongs: [LeftOut; 7] = [
        (is_rename, STORE_NAME | of_files(links)),
        (is_lock, of_files(locks)),
        (is_open, STORE_NAME | of_files(links)),
        (is_stat, STORE_NAME),
        (is_compare, STORE_NAME | of_files(content)),
        (is_create, NUMBERS),
        (is_close, of_files(locks) | of_files(links)),
    ];
    let models: Vec<_> =
        stores().into_iter().map(|model| (model, graph(&model))).collect();
    for (of, parts) in wrongs {
        let found = models.iter().find_map(|(model, graph)| {
            let wrong = |world: &World, p| without(model, world, p, of, parts);
            no_diamond(model, graph, &wrong, &mut 0)
        });
        let found = found.unwrap_or_else(|| panic!("{parts:b} is not found"));
        assert!(found.iter().any(of), "{found:?}");
    }
}

/// What is wrong with who goes alone is found by the graph.
#[test]
fn a_wrong_choice_is_found() {
    let models: Vec<_> =
        stores().into_iter().map(|model| (model, graph(&model))).collect();
    let found = |may: &dyn Fn(&Sessions, &World, usize) -> bool| {
        models.iter().find_map(|(model, graph)| {
            let may = |world: &World, p| may(model, world, p);
            disturbed(model, graph, &may, &mut Vec::new())
        })
    };
    let others = |model: &Sessions, process: usize| {
        (0..model.processes()).filter(move |other| *other != process)
    };
    let alone_by = |model: &Sessions, world: &World, p, own: Footprint| {
        model.mends_nothing(world, p)
            && model.step_of(world, p).is_some_and(|(call, _)| {
                !matches!(call.event, Event::Changed | Event::Failed(_))
            })
            && others(model, p)
                .all(|other| !own.depends_on(model.ahead(world, other, p)))
    };
    // The right one is not: what follows is seen for what is wrong in it.
    assert_eq!(
        found(&|model, world, p| {
            alone_by(model, world, p, model.footprint(world, p))
        }),
        None
    );
    // Only what the others do next is looked at.
    let next = found(&|model, world, p| {
        let own = model.footprint(world, p);
        model.mends_nothing(world, p)
            && model.step_of(world, p).is_some()
            && others(model, p)
                .all(|q| !own.depends_on(model.footprint(world, q)))
    });
    assert!(next.is_some());
    // A close that frees no number, or that nobody else's close matters to.
    for parts in [NUMBERS, NUMBERS | of_files(links)] {
        let close = found(&|model, world, p| {
            let own = without(model, world, p, is_close, parts);
            alone_by(model, world, p, own)
        });
        assert!(close.is_some_and(|effect| is_close(&effect)));
    }
    // What is held is given up: then S2 is violated no more.
    let release = found(&|model, world, p| {
        let own = model.footprint(world, p);
        matches!(model.session(world, p).state.part, Part::Releasing(..))
            && others(model, p)
                .all(|q| !own.depends_on(model.ahead(world, q, p)))
    });
    assert!(release.is_some_and(|effect| is_close(&effect)));
    // Who finds another file turns back, and is a holder no more.
    let turned = found(&|model, world, p| {
        model.step_of(world, p).is_some_and(|(call, _)| {
            call.event == Event::Changed
                && others(model, p).all(|q| {
                    let own = model.footprint(world, p);
                    !own.depends_on(model.ahead(world, q, p))
                })
        })
    });
    assert!(turned.is_some());
}

/// Whose turn comes first, and what processes are called, does not matter.
#[test]
fn states_settle_in_one_way() {
    let mut turns = 0;
    for model in stores() {
        let settled = |world: World| settle(&model, world, &mut |_, _| {});
        for state in graph(&model).states {
            let end = settled(state);
            assert_eq!(model.alone(&end), None);
            for process in 0..model.processes() {
                if model.may_go_alone(&state, process) {
                    let (_, next) = model.step_of(&state, process).unwrap();
                    assert_eq!(settled(next), end, "{model:?}");
                    turns += 1;
                }
            }
            let mut order: Vec<usize> = (0..model.processes()).collect();
            order[..model.writers].reverse();
            order[model.writers..].reverse();
            let renamed = settled(state.renamed(&order));
            assert_eq!(
                model.representative(&renamed),
                model.representative(&end)
            );
        }
    }
    assert!(turns > 10_000, "{turns}");
}

/// Everything that a session may come to, with what it does there.
fn sessions(model: &Sessions, process: usize) -> Vec<(Session, Vec<Session>)> {
    let files = [0, 1].map(|inode| FileId { device: 0, inode });
    let errno = Errno::IO;
    let mut known = vec![model.session(&model.start(), process)];
    let mut all: Vec<(Session, Vec<Session>)> = Vec::new();
    while let Some(session) = known.get(all.len()).copied() {
        let mut after = Vec::new();
        if let Continue(effect) = session.effect() {
            for fd in (0..DESCRIPTORS as u8).map(Fd) {
                for file in files {
                    let events = effect.answers(fd, file, errno).into_iter();
                    after.extend(events.map(|e| session.step(e).unwrap()));
                }
            }
        }
        for session in &after {
            if !known.contains(session) {
                known.push(*session);
            }
        }
        all.push((session, after));
    }
    all
}

/// A session goes in circles only through the close before it opens again.
#[test]
fn every_circle_has_a_step_that_is_never_alone() {
    let mut circles = 0;
    for model in stores() {
        for process in 0..model.processes() {
            let all = sessions(&model, process);
            for sticky in [true, false] {
                // What ends is taken away, until nothing ends any more.
                let mut left: Vec<_> = all.iter().collect();
                loop {
                    let before = left.len();
                    let here: Vec<Session> =
                        left.iter().map(|(session, _)| *session).collect();
                    left.retain(|(session, after)| {
                        let mut world = model.start();
                        world.sessions[process] = session.state;
                        let goes =
                            !sticky || model.mends_nothing(&world, process);
                        goes && after.iter().any(|to| here.contains(to))
                    });
                    if left.len() == before {
                        break;
                    }
                }
                if sticky {
                    assert!(left.is_empty(), "{model:?}: {left:?}");
                } else {
                    circles += left.len();
                }
            }
        }
    }
    assert!(circles > 0);
}

/// What is said to be ahead of a session is all that comes.
#[test]
fn nothing_comes_that_was_not_ahead() {
    let mut least = Ahead { opens: true, looks: true, renames: true };
    for model in stores() {
        for process in 0..model.processes() {
            let all = sessions(&model, process);
            let mut come: Vec<Ahead> = vec![Ahead::default(); all.len()];
            loop {
                let before = come.clone();
                for (at, (session, after)) in all.iter().enumerate() {
                    let mut ahead = come[at];
                    if let Continue(effect) = session.effect() {
                        ahead.opens |= matches!(effect, Effect::Open(..));
                        ahead.looks |= matches!(
                            effect,
                            Effect::StatName(_) | Effect::CompareStat
                        );
                        ahead.renames |= effect == Effect::Rename;
                    }
                    for (to, later) in all.iter().zip(&before) {
                        if after.contains(&to.0) {
                            ahead.opens |= later.opens;
                            ahead.looks |= later.looks;
                            ahead.renames |= later.renames;
                        }
                    }
                    come[at] = ahead;
                }
                if come == before {
                    break;
                }
            }
            for ((session, _), come) in all.iter().zip(come) {
                let mut world = model.start();
                world.sessions[process] = session.state;
                let said = Ahead::of(&model, &world, process);
                let text = format!("{model:?} {session:?} {come:?} {said:?}");
                assert!(said.opens || !come.opens, "{text}");
                assert!(said.looks || !come.looks, "{text}");
                assert!(said.renames || !come.renames, "{text}");
                least.opens &= said.opens;
                least.looks &= said.looks;
                least.renames &= said.renames;
            }
        }
    }
    assert_eq!(least, Ahead::default());
}

/// What each property of safety comes to.
fn verdicts<M: Model>(report: &Report<M>) -> Vec<(&str, bool)> {
    let safety = report.verdicts.iter();
    let safety = safety.filter(|(_, kind, _)| *kind != Kind::Eventually);
    safety
        .map(|(name, _, verdict)| match verdict {
            Verdict::Holds => (*name, true),
            Verdict::Violated(_) => (*name, false),
            Verdict::Undecided => panic!("{name} is undecided"),
        })
        .collect()
}

/// Every step is one of the model's, and the end is what the property
/// forbids.
fn assert_shows(model: &Sessions, name: &str, trace: &Trace<Sessions>) {
    assert!(model.initial().contains(&trace.initial));
    let mut state = trace.initial;
    for (call, next) in &trace.prefix {
        let mut steps = Vec::new();
        model.steps(&state, &mut steps);
        assert!(steps.contains(&(*call, *next)), "{call:?}");
        state = *next;
    }
    let mut named = model.properties().into_iter();
    match named.find(|property| property.name == name) {
        Some(property) => assert!(!(property.test)(model, &state), "{name}"),
        None => {
            let mut steps = Vec::new();
            model.steps(&state, &mut steps);
            assert!(steps.is_empty() && !model.is_end(&state), "{name}");
        }
    }
}

const FEWER: How = How {
    threads: 1,
    fingerprints: false,
    symmetry: false,
    partial_order: true,
};

/// With partial order every verdict is that of the plain search, whatever
/// else is asked for; a run is one of the model, and may be longer.
#[test]
fn fewer_orders_give_the_same_verdicts() {
    let (mut violated, mut longer, mut least) = (0, 0, usize::MAX);
    for model in stores() {
        let plain = explore(&model, Limits::default());
        for how in [
            FEWER,
            How { symmetry: true, threads: 2, ..FEWER },
            How { symmetry: true, fingerprints: true, ..FEWER },
        ] {
            let found = search(&model, how, Limits::default());
            let said = format!("{model:?} {how:?}");
            assert_eq!(verdicts(&found), verdicts(&plain), "{said}");
            assert!(found.states < plain.states, "{said}");
            least = least.min(found.states * 100 / plain.states);
            let all = match how.fingerprints {
                true => Coverage::Bounded,
                false => Coverage::Exhaustive,
            };
            assert_eq!(found.coverage, all, "{said}");
            for (name, kind, verdict) in &found.verdicts {
                let (Verdict::Violated(trace), Kind::Always) = (verdict, kind)
                else {
                    continue;
                };
                let trace = trace.as_ref().unwrap();
                assert_shows(&model, name, trace);
                let shortest = plain.violation(name).unwrap().prefix.len();
                assert!(trace.prefix.len() >= shortest, "{said} {name}");
                violated += 1;
                longer += usize::from(trace.prefix.len() > shortest);
            }
        }
    }
    assert!(violated > 100 && longer > 0, "{violated} {longer}");
    assert!(least < 20, "{least} %");
}

/// Mutants of the protocol, at their own sizes: each is found, by the
/// properties that its row says.
#[test]
fn mutants_are_found_in_fewer_orders() {
    let mut found = Vec::new();
    for mutant in mutants::all() {
        let Subject::Store(model) = mutant.subject else { continue };
        let troubles = model.crashes + model.faults + model.changes;
        if model.flaw != Flaw::None || troubles > 0 {
            continue;
        }
        let Sessions { protocol, writers, readers, saves } = model.sessions;
        let model = Sessions::new(protocol, writers, readers, saves).unwrap();
        let plain = explore(&model, Limits::default());
        for symmetry in [false, true] {
            let how = How { symmetry, ..FEWER };
            let report = search(&model, how, Limits::default());
            assert_eq!(verdicts(&report), verdicts(&plain));
            // Without the sweep not all falls that falls in its row.
            let found = mutant.found.iter().filter_map(|(name, _)| {
                assert_shows(&model, name, report.violation(name)?);
                Some(*name)
            });
            assert!(found.count() > 1, "{}", mutant.name);
        }
        found.push(mutant.name);
    }
    let all = [
        "2013",
        "2016",
        "no-compare",
        "compare-before-lock",
        "new-file-unlocked",
        "refuses-only",
    ];
    assert_eq!(found, all);
}

/// The numbers that CHANGELOG.md has: all states, by symmetry, by partial
/// order, by both.
#[test]
fn counts_are_those_that_are_told() {
    let ways = [(false, false), (true, false), (false, true), (true, true)];
    let counts = [2, 3, 4, 5].map(|writers| {
        let model = Sessions::new(SHIPPED, writers, 0, 1).unwrap();
        ways.map(|(symmetry, partial_order)| {
            let how = How { symmetry, partial_order, ..FEWER };
            let report = search(&model, how, Limits::default());
            assert!(report.proves_safety());
            report.states
        })
    });
    let known = [
        [107, 55, 31, 17],
        [1_144, 228, 310, 65],
        [13_472, 801, 2_968, 202],
        [215_894, 3_130, 34_084, 640],
    ];
    assert_eq!(counts, known);
}

/// One counter, and a step that takes its time.
struct Slow;

impl Model for Slow {
    type State = u8;
    type Step = u8;

    fn initial(&self) -> Vec<u8> {
        vec![0]
    }

    fn steps(&self, state: &u8, steps: &mut Vec<(u8, u8)>) {
        if *state < 3 {
            std::thread::sleep(std::time::Duration::from_millis(300));
            steps.push((*state, *state + 1));
        }
    }

    fn is_end(&self, state: &u8) -> bool {
        *state == 3
    }

    fn properties(&self) -> Vec<qubes_fsm::check::Property<Self>> {
        Vec::new()
    }
}

impl Symmetric for Slow {
    fn representative(&self, state: &u8) -> u8 {
        *state
    }
}

impl Ordered for Slow {
    fn alone(&self, _: &u8) -> Option<usize> {
        None
    }
}

/// A search that takes longer than half a second says how far it is.
#[test]
fn a_search_by_layers_is_watched() {
    let mut told = Vec::new();
    let how = How { threads: 2, partial_order: false, ..FEWER };
    let report = search_watched(&Slow, how, Limits::default(), &mut |now| {
        told.push((now.states, now.waiting));
    });
    assert_eq!(report.states, 4);
    assert!(!told.is_empty());
    // At the earliest after the second step, when one state waits or none.
    assert!(told.iter().all(|(states, waiting)| {
        (2..=4).contains(states) && *waiting <= 1
    }));
}
