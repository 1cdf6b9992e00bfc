//! The tables of the phase machines: every possible answer is taken, every
//! other refused, from every state that any answer leads to.

#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::collections::HashSet;
use std::ops::ControlFlow::{Break, Continue};

use qubes_fsm::fsm::ahead::{self, Ahead, Output, Slot, SourceEnd, Verdict};
use qubes_fsm::fsm::cancel::{Cancel, Canceled, Child, Gate};
use qubes_fsm::fsm::members::{self, Announces, Members};
use qubes_fsm::fsm::restore::{
    At, Cause, Ctx, Effect, End, Event, Failure, Lead, Member, Plan, Restore,
    State,
};

fn at(file: u16, chunk: u32) -> At {
    At { file, chunk }
}

/// Every event that there is, with three files of three chunks.
fn vocabulary() -> Vec<Event> {
    let mut members = vec![Member::Header, Member::HeaderMac, Member::Other];
    for file in 0..3 {
        for chunk in 0..3 {
            members.push(Member::Chunk(at(file, chunk)));
            members.push(Member::Mac(at(file, chunk)));
        }
    }
    let mut events: Vec<_> = members.into_iter().map(Event::Named).collect();
    events.extend((0..3).map(Event::Parsed));
    events.extend([
        Event::Ended,
        Event::Good,
        Event::Bad,
        Event::Released,
        Event::Finished,
        Event::Published,
        Event::Dropped,
        Event::Whole,
        Event::Missing,
        Event::Decided,
        Event::Renamed,
        Event::Stopped,
        Event::Failed(Failure(7)),
        Event::Canceled,
    ]);
    events
}

fn plans() -> Vec<Plan> {
    let all = (0..8).map(|bits| Plan {
        verify: bits & 1 != 0,
        keep_going: bits & 2 != 0,
        hold: bits & 4 != 0,
        digests: 2,
        ..Plan::default()
    });
    all.collect()
}

/// Every machine that any event leads to; `look` sees each.
fn walk(plan: Plan, mut look: impl FnMut(Restore)) -> usize {
    let mut machines = vec![Restore::new(plan)];
    let mut seen: HashSet<_> = machines.iter().copied().collect();
    let mut next = 0;
    while let Some(&machine) = machines.get(next) {
        next += 1;
        look(machine);
        for event in vocabulary() {
            if let Ok(to) = machine.step(event)
                && seen.insert(to)
            {
                machines.push(to);
            }
        }
    }
    machines.len()
}

#[test]
fn restore_takes_possible_answers_and_no_others() {
    for plan in plans() {
        let states = walk(plan, |machine| {
            for event in vocabulary() {
                let wanted = match machine.effect() {
                    Continue(effect) => effect.allows(event),
                    Break(_) => false,
                };
                let taken = machine.step(event);
                assert_eq!(taken.is_ok(), wanted, "{machine:?}, {event:?}");
                if let Err(refused) = taken {
                    let (state, event) = (machine.state, event);
                    assert_eq!(
                        refused.to_string(),
                        format!(
                            "state {state:?}: event {event:?} is no answer \
                             to what was asked there"
                        )
                    );
                }
            }
        });
        assert!(states > 100, "{plan:?}: {states} are too few");
    }
}

/// `verify` asks for nothing that writes; only `hold` renames and binds;
/// only `keep_going` drops.
#[test]
fn restore_asks_only_for_what_the_plan_wants() {
    for plan in plans() {
        let (mut publishes, mut drops, mut binds, mut renames) =
            (false, false, false, false);
        walk(plan, |machine| {
            let Continue(effect) = machine.effect() else { return };
            publishes |= matches!(effect, Effect::Publish(_));
            drops |= matches!(effect, Effect::Drop(_));
            binds |= effect == Effect::Bind;
            renames |= matches!(effect, Effect::Rename(_));
        });
        assert_eq!(publishes, !plan.verify && !plan.hold, "{plan:?}");
        assert_eq!(drops, plan.keep_going, "{plan:?}");
        assert_eq!(binds, plan.hold, "{plan:?}");
        assert_eq!(renames, plan.hold && !plan.verify, "{plan:?}");
    }
}

/// Every end but a cancel comes from the gate.
#[test]
fn restore_ends_only_by_way_of_the_gate() {
    for plan in plans() {
        walk(plan, |machine| {
            let decides = matches!(
                machine.state,
                State::Deciding(..) | State::Renaming(..) | State::Stopping(_)
            );
            for event in vocabulary() {
                let Ok(to) = machine.step(event) else { continue };
                let State::Stopping(end) = to.state else { continue };
                match end {
                    End::Canceled(None) => {
                        assert_eq!(event, Event::Canceled);
                    }
                    End::Canceled(Some(cause)) => {
                        let failed = State::Deciding(End::Failed(cause), 0);
                        assert_eq!(machine.state, failed);
                    }
                    End::Done | End::Omitted { .. } | End::Failed(_) => {
                        assert!(decides, "{machine:?}");
                    }
                }
            }
        });
    }
}

/// Plays `events` and says what was asked for on the way.
fn play(plan: Plan, events: &[Event]) -> (Vec<Effect>, State) {
    let mut machine = Restore::new(plan);
    let mut effects = Vec::new();
    for event in events {
        let Continue(effect) = machine.effect() else { break };
        effects.push(effect);
        machine = machine.step(*event).unwrap();
    }
    (effects, machine.state)
}

fn chunk(file: u16, number: u32) -> [Event; 4] {
    let at = at(file, number);
    [
        Event::Named(Member::Chunk(at)),
        Event::Named(Member::Mac(at)),
        Event::Good,
        Event::Released,
    ]
}

#[test]
fn restore_asks_in_the_order_of_the_table() {
    let plan = Plan { digests: 2, ..Plan::default() };
    let mut events = vec![
        Event::Named(Member::Header),
        Event::Named(Member::HeaderMac),
        Event::Bad,
        Event::Good,
        Event::Parsed(1),
    ];
    events.extend(chunk(0, 0));
    // The next file's first chunk is read, then the one before is finished.
    events.push(Event::Named(Member::Chunk(at(1, 0))));
    events.extend([Event::Finished, Event::Published]);
    events.extend(&chunk(1, 0)[1..]);
    events.extend([
        Event::Ended,
        Event::Finished,
        Event::Published,
        Event::Whole,
        Event::Decided,
        Event::Stopped,
    ]);
    let (effects, state) = play(plan, &events);
    assert_eq!(
        effects,
        [
            Effect::Next,
            Effect::Next,
            Effect::VerifyLead(Lead::Header, 0),
            Effect::VerifyLead(Lead::Header, 1),
            Effect::Parse,
            Effect::Next,
            Effect::Next,
            Effect::Verify(at(0, 0), 1),
            Effect::Release(at(0, 0), None),
            Effect::Next,
            Effect::Finish(0),
            Effect::Publish(0),
            Effect::Next,
            Effect::Verify(at(1, 0), 1),
            Effect::Release(at(1, 0), None),
            Effect::Next,
            Effect::Finish(1),
            Effect::Publish(1),
            Effect::Count { lost: 0 },
            Effect::Decide,
            Effect::Stop,
        ]
    );
    assert_eq!(state, State::Over(End::Done));
}

#[test]
fn restore_without_a_header_keeps_the_digest_that_it_found() {
    let plan = Plan { digests: 3, ..Plan::default() };
    let first = at(0, 0);
    let events = [
        Event::Named(Member::Chunk(first)),
        Event::Named(Member::Mac(first)),
        Event::Bad,
        Event::Bad,
        Event::Good,
        Event::Released,
        Event::Ended,
        Event::Finished,
        Event::Published,
        Event::Whole,
        Event::Decided,
        Event::Stopped,
    ];
    let (effects, state) = play(plan, &events);
    // The artificial header carries it, so that the decoder knows it too.
    assert_eq!(effects[5], Effect::Release(first, Some(2)));
    let end = End::Omitted { headerless: Some(2), lost: 0 };
    assert_eq!(state, State::Over(end));
    // Once, before the first chunk; later ones are released as they are.
    let begin = &events[..6];
    let more = [begin, &[Event::Named(Member::Chunk(at(1, 0)))]].concat();
    let more = [&more[..], &[Event::Finished, Event::Published]].concat();
    let more = [&more[..], &chunk(1, 0)[1..]].concat();
    let (effects, _) = play(plan, &more);
    assert_eq!(
        effects[10..],
        [Effect::Verify(at(1, 0), 2), Effect::Release(at(1, 0), None),]
    );
    // Bad with the whole list: no file is opened.
    let (_, state) = play(
        Plan { digests: 2, ..plan },
        &[events[0], events[1], Event::Bad, Event::Bad],
    );
    assert_eq!(state, State::Deciding(End::Failed(Cause::Passphrase), 0));
}

/// What can be wrong before the first chunk of a file is released, and what
/// it is called. Nothing was opened by then.
#[test]
fn restore_says_what_is_wrong_at_the_beginning() {
    let plan = Plan { digests: 2, keep_going: true, ..Plan::default() };
    let named = Event::Named;
    let (header, mac) = (named(Member::Header), named(Member::HeaderMac));
    let open = [header, mac, Event::Good, Event::Parsed(0)];
    let index = named(Member::Chunk(at(0, 0)));
    let rows: [(&[Event], &[Event], Cause); 19] = [
        (&[], &[Event::Ended], Cause::Truncated),
        (&[], &[mac], Cause::Sequence),
        (&[], &[named(Member::Other)], Cause::Sequence),
        (&[], &[named(Member::Chunk(at(0, 1)))], Cause::Sequence),
        (&[], &[named(Member::Chunk(at(1, 0)))], Cause::Sequence),
        (&[header], &[Event::Ended], Cause::Truncated),
        (&[header], &[header], Cause::Sequence),
        (&[header], &[named(Member::Mac(at(0, 0)))], Cause::Sequence),
        (&[index], &[mac], Cause::Sequence),
        (&[index], &[named(Member::Mac(at(0, 1)))], Cause::Sequence),
        (&[header, mac], &[Event::Bad, Event::Bad], Cause::Passphrase),
        // Verified by one digest, and naming another.
        (&[header, mac, Event::Good], &[Event::Parsed(1)], Cause::Header),
        (
            &[header, mac, Event::Bad, Event::Good],
            &[Event::Parsed(0)],
            Cause::Header,
        ),
        (&open, &[Event::Ended], Cause::Truncated),
        (&open, &[header], Cause::Sequence),
        (&open, &[named(Member::Chunk(at(0, 1)))], Cause::Sequence),
        (&open, &[named(Member::Chunk(at(1, 0)))], Cause::Sequence),
        (&open, &[index, index], Cause::Sequence),
        (&open, &[index, Event::Failed(Failure(3))], Cause::Failed(Failure(3))),
    ];
    for (before, wrong, cause) in rows {
        let events = [before, wrong].concat();
        let (effects, state) = play(plan, &events);
        let failed = State::Deciding(End::Failed(cause), 0);
        assert_eq!(state, failed, "{events:?}");
        let released = |e: &Effect| matches!(e, Effect::Release(..));
        assert!(!effects.iter().any(released), "{events:?}");
    }
}

/// The other chunks of a lost file are passed over: named in order, neither
/// verified nor released.
#[test]
fn restore_passes_the_rest_of_a_lost_file() {
    let plan = Plan { digests: 1, keep_going: true, ..Plan::default() };
    let mut events = vec![
        Event::Named(Member::Header),
        Event::Named(Member::HeaderMac),
        Event::Good,
        Event::Parsed(0),
    ];
    events.extend(chunk(0, 0));
    events.push(Event::Named(Member::Chunk(at(1, 0))));
    events.extend([Event::Finished, Event::Published]);
    events.extend([Event::Named(Member::Mac(at(1, 0))), Event::Bad]);
    events.push(Event::Dropped);
    events.extend(&chunk(1, 1)[..2]);
    events.extend(chunk(2, 0));
    let (effects, state) = play(plan, &events);
    let lost = Ctx {
        digest: 0,
        at: Some(at(2, 0)),
        opened: 3,
        lost: 1,
        ready: 0,
        losing: false,
        headerless: false,
    };
    assert_eq!(state, State::Data(lost));
    assert_eq!(
        effects[12..],
        [
            Effect::Verify(at(1, 0), 0),
            Effect::Drop(1),
            Effect::Next,
            Effect::Next,
            Effect::Next,
            Effect::Next,
            Effect::Verify(at(2, 0), 0),
            Effect::Release(at(2, 0), None),
        ]
    );
    // `qubes.xml` is never left out.
    let bad = [&events[..6], &[Event::Bad]].concat();
    let (_, state) = play(plan, &bad);
    let failed = End::Failed(Cause::Mac(at(0, 0)));
    assert_eq!(state, State::Deciding(failed, 0));
}

#[test]
fn members_takes_possible_answers_and_no_others() {
    let names = (0..4).map(|n| members::Event::Named(members::Member(n)));
    let ends = [true, false].map(|clean| members::Event::End { clean });
    let events: Vec<_> =
        names.chain(ends).chain([members::Event::Given]).collect();
    for announces in [Announces::Before, Announces::After] {
        let mut machines = vec![Members::new(announces)];
        let mut next = 0;
        while let Some(&machine) = machines.get(next) {
            next += 1;
            for event in &events {
                let wanted = match machine.effect() {
                    Continue(effect) => effect.allows(*event),
                    Break(_) => false,
                };
                let to = machine.step(*event);
                assert_eq!(to.is_ok(), wanted, "{machine:?}, {event:?}");
                if let Ok(to) = to
                    && !machines.contains(&to)
                {
                    machines.push(to);
                }
            }
        }
        let wanted = match announces {
            // Asking with and without, giving 4 with each of 5, two ends.
            Announces::Before => 5 + 4 * 5 + 2,
            Announces::After => 1 + 4 + 2,
        };
        assert_eq!(machines.len(), wanted, "{announces:?}");
    }
}

/// Each operation of the gate in each of its states, as in its table.
#[test]
fn gate_answers_as_in_its_table() {
    let (one, two) = (Child(1), Child(2));
    let open = || {
        let mut gate = Gate::default();
        gate.register(one).unwrap();
        gate
    };
    let flagged = || {
        let mut gate = open();
        assert_eq!(gate.cancel(), Cancel::Accepted);
        gate
    };
    let decided = || {
        let mut gate = open();
        gate.decide().unwrap();
        gate
    };
    let running = |gate: &Gate| gate.running().collect::<Vec<_>>();
    let rows: [(&dyn Fn() -> Gate, _, _, _); 3] = [
        (&open, Ok(()), Cancel::Accepted, Ok(())),
        (&flagged, Err(Canceled), Cancel::Already, Err(Canceled)),
        (&decided, Ok(()), Cancel::TooLate, Ok(())),
    ];
    for (start, register, cancel, decide) in rows {
        let mut gate = start();
        assert_eq!(running(&gate), [one]);
        assert_eq!(gate.register(two), register);
        let both = if register.is_ok() { vec![one, two] } else { vec![one] };
        assert_eq!(running(&gate), both);
        gate.forget(one);
        gate.forget(Child(9));
        assert_eq!(running(&gate), both[1..]);

        let mut gate = start();
        let untouched = (cancel, decide) == (Cancel::Accepted, Ok(()));
        assert_eq!(gate.is_open(), untouched);
        let kind = core::mem::discriminant(&gate);
        assert_eq!(gate.cancel(), cancel);
        assert_eq!(running(&gate), [one]);
        let changed = core::mem::discriminant(&gate) != kind;
        assert_eq!(changed, cancel == Cancel::Accepted);
        assert_eq!(gate.is_canceled(), cancel != Cancel::TooLate);

        let mut gate = start();
        let canceled = gate.is_canceled();
        assert_eq!(gate.decide(), decide);
        assert_eq!(gate.is_canceled(), canceled);
        assert_eq!(running(&gate), [one]);
        // Whoever came first stays first.
        assert_eq!(gate.decide(), decide);
        let second = gate.cancel();
        let wanted = if canceled { Cancel::Already } else { Cancel::TooLate };
        assert_eq!(second, wanted);
    }
    assert_eq!(Canceled.to_string(), "canceled");
}

#[test]
fn ahead_takes_possible_events_and_no_others() {
    let mut events = vec![ahead::Event::Take, ahead::Event::Stop];
    for end in [SourceEnd::Clean, SourceEnd::Failed] {
        events.push(ahead::Event::Ended(end));
    }
    for number in 0..3 {
        events.push(ahead::Event::Read(number));
        events.push(ahead::Event::Freed(number));
        for verdict in [Verdict::Good, Verdict::Bad] {
            events.push(ahead::Event::Finished(number, verdict));
        }
    }
    let mut machines = vec![Ahead::new(2)];
    let mut next = 0;
    while let Some(machine) = machines.get(next).cloned() {
        next += 1;
        for event in &events {
            let slots = machine.slots();
            let wanted = match *event {
                ahead::Event::Read(n) => machine.wants() == Some(n),
                ahead::Event::Ended(_) => machine.wants().is_some(),
                ahead::Event::Finished(n, _) => slots.contains(&Slot::Busy(n)),
                ahead::Event::Freed(n) => slots.contains(&Slot::Out(n)),
                ahead::Event::Take => {
                    matches!(machine.output(), Output::Verdict(..))
                }
                // Whether it was stopped before nobody else can tell.
                ahead::Event::Stop => continue,
            };
            let to = machine.clone().step(*event);
            assert_eq!(to.is_ok(), wanted, "{machine:?}, {event:?}");
            if let Ok(to) = to
                && !machines.contains(&to)
            {
                machines.push(to);
            }
        }
        // It can be stopped once, and after that it only waits.
        if let Ok(stopped) = machine.clone().step(ahead::Event::Stop) {
            assert!(stopped.clone().step(ahead::Event::Stop).is_err());
            assert_eq!(stopped.wants(), None);
            assert_eq!(stopped.output(), Output::Waiting);
            let busy = |slot: &Slot| matches!(slot, Slot::Busy(_));
            let busy = stopped.slots().iter().any(busy);
            assert_eq!(stopped.is_over(), !busy);
        }
    }
    assert!(machines.len() > 50, "{} are too few", machines.len());
}

/// A driver that wants none gets one.
#[test]
fn ahead_has_at_least_one_slot() {
    assert_eq!(Ahead::new(0).slots(), [Slot::Free]);
    assert_eq!(Ahead::new(3).slots(), [Slot::Free; 3]);
}
