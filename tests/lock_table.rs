//! The tables of the machines: which answers are taken, and how each run ends.
//!
//! Every machine is walked in company of a book-keeper that knows nothing of
//! protocols: it hands out the lowest free descriptor, notes what is open,
//! and lets every call fail once or more.

#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]
#![expect(clippy::panic, reason = "a test may fail loudly")]

use std::collections::HashMap;
use std::fmt::Debug;
use std::ops::ControlFlow::{Break, Continue};

use qubes_fsm::fsm::lock::Acquire;
use qubes_fsm::fsm::protocol::{
    Compare, Keep, NAMED, Protocol, SHIPPED, Target,
};
use qubes_fsm::fsm::save::{Outcome, Save};
use qubes_fsm::fsm::session::{Part, Role, Session};
use qubes_fsm::fsm::table::{possible, walk};
use qubes_fsm::fsm::{
    Access, Effect, Errno, Event, Fd, FileId, Machine, Name, lock, save,
};

/// A machine, and the part of it that a refusal names.
trait Named: Machine {
    fn state(self) -> String;
}

impl Named for Acquire {
    fn state(self) -> String {
        format!("{:?}", self.state)
    }
}

impl Named for Save {
    fn state(self) -> String {
        format!("{:?}", self.state)
    }
}

impl Named for Session {
    fn state(self) -> String {
        match self.state.part {
            Part::Acquiring(state) => format!("{state:?}"),
            Part::Saving(_, state) => format!("{state:?}"),
            part @ (Part::OpeningStore(_)
            | Part::Loading(..)
            | Part::ClosingStore(..)
            | Part::Releasing(..)
            | Part::Done(_)) => format!("{part:?}"),
        }
    }
}

#[test]
fn errors_have_the_names_that_the_kernel_gives_them() {
    let rows = [
        (Errno::NO_SPACE, 28, "ENOSPC"),
        (Errno::QUOTA, 122, "EDQUOT"),
        (Errno::NO_ACCESS, 13, "EACCES"),
        (Errno::IO, 5, "EIO"),
        (Errno::INTERRUPTED, 4, "EINTR"),
        (Errno::AGAIN, 11, "EAGAIN"),
        (Errno::NO_ENTRY, 2, "ENOENT"),
        (Errno(71), 71, "errno 71"),
        (Errno::DEADLINE, -1, "the time to wait is over"),
        (Errno::CANCELED, -2, "canceled"),
        (Errno::CHANGED, -3, "changed by somebody else"),
    ];
    for (errno, number, name) in rows {
        assert_eq!((errno.0, errno.to_string().as_str()), (number, name));
        assert_eq!(Event::Failed(errno).to_string(), name);
    }
}

/// Every event that there is, with two descriptors and two files.
fn vocabulary() -> Vec<Event> {
    let file = |inode| FileId { device: 1, inode };
    vec![
        Event::Opened(Fd(0)),
        Event::Opened(Fd(1)),
        Event::Locked,
        Event::File(file(1)),
        Event::File(file(2)),
        Event::Read,
        Event::Swept,
        Event::Written,
        Event::Synced,
        Event::Same,
        Event::Changed,
        Event::Renamed,
        Event::Unlinked,
        Event::Closed,
        Event::Failed(Errno::IO),
    ]
}

fn acquires() -> impl Iterator<Item = Acquire> {
    NAMED.into_iter().flat_map(|protocol| {
        [Acquire::shared(protocol), Acquire::exclusive(protocol)]
    })
}

fn saves() -> impl Iterator<Item = Save> {
    NAMED.into_iter().map(|protocol| Save::new(protocol, Fd(0)))
}

fn sessions() -> impl Iterator<Item = Session> {
    NAMED.into_iter().flat_map(|protocol| {
        let most = if protocol.keep == Keep::Nothing { 1 } else { 3 };
        let writers = (1..=most).map(|saves| Role::Writer { saves });
        writers
            .chain([Role::Reader])
            .map(move |role| Session::new(protocol, role))
    })
}

/// Every state that any possible answer leads to, and where from.
fn reach<M: Machine>(start: M) -> (Vec<M>, Vec<(usize, usize)>) {
    let mut states = vec![start];
    let mut numbers = HashMap::from([(start, 0)]);
    let mut rows = Vec::new();
    let mut next = 0;
    while let Some(&from) = states.get(next) {
        if let Continue(effect) = from.effect() {
            for event in possible(effect) {
                let to = from.step(event).unwrap();
                let number = *numbers.entry(to).or_insert(states.len());
                if number == states.len() {
                    states.push(to);
                }
                rows.push((next, number));
            }
        }
        next += 1;
    }
    (states, rows)
}

/// What is answered is taken; all else is refused, by state and event.
fn takes_answers_only<M: Named>(start: M) {
    for state in reach(start).0 {
        let wanted = match state.effect() {
            Continue(effect) => possible(effect),
            Break(_) => Vec::new(),
        };
        for event in vocabulary() {
            let found = state.step(event);
            if wanted.contains(&event) {
                assert!(found.is_ok(), "{state:?}, {event:?}: {found:?}");
                continue;
            }
            let Err(refusal) = found else {
                panic!("{state:?} takes {event:?}; wanted only {wanted:?}")
            };
            let name = state.state();
            assert_eq!(
                refusal.to_string(),
                format!(
                    "state {name}: event {event:?} is no answer to the call \
                     made there"
                )
            );
            assert_eq!((refusal.state, refusal.event), (name, event));
        }
    }
}

/// From every state the end can be reached.
fn has_no_trap<M: Machine>(start: M) {
    let (states, rows) = reach(start);
    let mut ends: Vec<bool> =
        states.iter().map(|state| state.effect().is_break()).collect();
    loop {
        let before = ends.iter().filter(|end| **end).count();
        for (from, to) in &rows {
            if ends[*to] {
                ends[*from] = true;
            }
        }
        if before == ends.iter().filter(|end| **end).count() {
            break;
        }
    }
    let trap = ends.iter().position(|end| !end).map(|at| states[at]);
    assert_eq!(trap, None);
}

#[test]
fn possible_answers_are_the_vocabulary() {
    let fds = [Fd(0), Fd(1)];
    let mut effects = vec![
        Effect::Sweep,
        Effect::Create,
        Effect::CompareStat,
        Effect::Rename,
        Effect::SyncDirectory,
        Effect::Unlink,
    ];
    for fd in fds {
        effects.extend([
            Effect::Lock(fd, Access::Read),
            Effect::TryLock(fd),
            Effect::StatFd(fd),
            Effect::Read(fd),
            Effect::Write(fd),
            Effect::Sync(fd),
            Effect::CompareContent(fd),
            Effect::Close(fd),
        ]);
    }
    for name in [Name::Store, Name::LockFile, Name::Temp] {
        effects.push(Effect::Open(name, Access::Write));
        effects.push(Effect::StatName(name));
    }
    let mut seen = Vec::new();
    for effect in effects {
        let events = possible(effect);
        // Whatever is asked, the kernel may refuse.
        assert!(events.contains(&Event::Failed(Errno::IO)), "{effect:?}");
        seen.extend(events);
    }
    for event in vocabulary() {
        assert!(seen.contains(&event), "{event:?} answers nothing");
    }
}

#[test]
fn acquire_takes_exactly_the_answers_to_its_calls() {
    acquires().for_each(takes_answers_only);
}

#[test]
fn save_takes_exactly_the_answers_to_its_calls() {
    saves().for_each(takes_answers_only);
}

#[test]
fn session_takes_exactly_the_answers_to_its_calls() {
    sessions().for_each(takes_answers_only);
}

#[test]
fn every_state_leads_to_an_end() {
    acquires().for_each(has_no_trap);
    saves().for_each(has_no_trap);
    sessions().for_each(has_no_trap);
}

/// Labels lose nothing that the table shows: the walk finds the states that
/// this file finds.
#[test]
fn the_table_has_every_state() {
    for session in sessions() {
        let table = walk(session).unwrap();
        let (states, rows) = reach(session);
        assert_eq!(table.states, states.len(), "{session:?}");
        assert!(table.rows.len() <= rows.len(), "{session:?}");
        assert_eq!(table.start, "opening");
        for end in ["done", "failed"] {
            assert!(table.ends.iter().any(|found| found == end));
        }
        assert_eq!(table.ends.len(), 2, "{session:?}: {:?}", table.ends);
    }
}

/// What one process has, kept by somebody who knows no protocol.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
struct Book {
    open: Vec<Fd>,
    /// The descriptor of the temporary file of this save.
    temp: Option<Fd>,
    temp_named: bool,
    written: bool,
    synced: bool,
    locked: bool,
    compared: u8,
    unlink_tried: bool,
    renamed: bool,
    durable: bool,
    /// Saves that were durable, of the whole session.
    acknowledged: u8,
    /// The first failure that is no close's and no sweep's, as the caller must hear it.
    first: Option<Errno>,
}

const FIRST: Errno = Errno(101);
const LATER: Errno = Errno(102);
const OF_CLOSE: Errno = Errno(103);

impl Book {
    /// The answers that the kernel could give now.
    fn answers(&self, effect: Effect) -> Vec<Event> {
        let free = (0..).map(Fd).find(|fd| !self.open.contains(fd)).unwrap();
        let errno = match (effect, self.first) {
            (Effect::Close(_) | Effect::Sweep, _) => OF_CLOSE,
            (_, None) => FIRST,
            (_, Some(_)) => LATER,
        };
        let mut events = Vec::new();
        for inode in [1, 2] {
            let file = FileId { device: 1, inode };
            events.extend(effect.answers(free, file, errno));
        }
        events
    }

    /// Notes what was called and answered, and objects to nonsense.
    fn note(&mut self, protocol: Protocol, effect: Effect, event: Event) {
        if let Effect::Lock(fd, _)
        | Effect::TryLock(fd)
        | Effect::StatFd(fd)
        | Effect::Read(fd)
        | Effect::Write(fd)
        | Effect::Sync(fd)
        | Effect::CompareContent(fd)
        | Effect::Close(fd) = effect
        {
            assert!(self.open.contains(&fd), "{effect:?} of a closed one");
        }
        if effect == Effect::Sweep {
            assert!(protocol.sweep && !self.temp_named, "swept too late");
        }
        if effect == Effect::Create {
            assert!(!self.temp_named, "two temporary files");
            *self = Self {
                open: std::mem::take(&mut self.open),
                first: self.first,
                acknowledged: self.acknowledged,
                ..Self::default()
            };
        }
        if effect == Effect::Rename {
            let locked = self.locked || protocol.keep != Keep::Locked;
            let compared = self.compared == 2 || !protocol.verify;
            assert!(self.temp_named && self.written && self.synced);
            assert!(locked, "renamed before it was locked");
            assert!(compared, "renamed before the store was compared");
        }
        if effect == Effect::SyncDirectory {
            assert!(self.renamed, "the directory is synced too early");
        }
        if effect == Effect::Unlink {
            assert!(self.temp_named, "nothing to unlink");
        }
        match (effect, event) {
            (Effect::Close(fd), _) => self.open.retain(|open| *open != fd),
            (Effect::Unlink, _) => {
                self.unlink_tried = true;
                self.temp_named = false;
            }
            _ => {}
        }
        match (effect, event) {
            (Effect::Create, Event::Opened(fd)) => {
                self.open.push(fd);
                self.temp = Some(fd);
                self.temp_named = true;
            }
            (_, Event::Opened(fd)) => self.open.push(fd),
            (Effect::Write(fd), Event::Written) => {
                assert_eq!(Some(fd), self.temp, "written to another file");
                self.written = true;
            }
            (Effect::Sync(fd), Event::Synced) => {
                assert_eq!(Some(fd), self.temp, "synced another file");
                assert!(self.written, "synced before it was written");
                self.synced = true;
            }
            (Effect::TryLock(fd), Event::Locked) => {
                assert_eq!(Some(fd), self.temp, "locked another file");
                self.locked = true;
            }
            (_, Event::Same) => self.compared += 1,
            (_, Event::Renamed) => {
                self.renamed = true;
                self.temp_named = false;
            }
            (Effect::SyncDirectory, Event::Synced) => {
                self.durable = true;
                self.acknowledged += 1;
            }
            (_, Event::Changed) => {
                self.first.get_or_insert(Errno::CHANGED);
            }
            (Effect::Close(_) | Effect::Sweep, Event::Failed(_)) => {}
            (_, Event::Failed(errno)) => {
                self.first.get_or_insert(errno);
            }
            _ => {}
        }
    }
}

/// Walks machine and book together; every state is shown to `look`, with
/// `None` while there is a next call.
fn keep_book<M: Machine>(
    start: M,
    book: Book,
    protocol: Protocol,
    look: impl Fn(M, &Book, Option<M::Output>),
) -> usize {
    let mut states = vec![(start, book)];
    let mut seen: HashMap<_, ()> =
        states.iter().cloned().map(|state| (state, ())).collect();
    let mut next = 0;
    while let Some((machine, book)) = states.get(next).cloned() {
        next += 1;
        match machine.effect() {
            Break(output) => look(machine, &book, Some(output)),
            Continue(effect) => {
                look(machine, &book, None);
                for event in book.answers(effect) {
                    let mut book = book.clone();
                    book.note(protocol, effect, event);
                    let state = (machine.step(event).unwrap(), book);
                    if seen.insert(state.clone(), ()).is_none() {
                        states.push(state);
                    }
                }
            }
        }
    }
    next
}

#[test]
fn a_failed_acquire_leaves_nothing_open() {
    for acquire in acquires() {
        let look = |_, book: &Book, end: Option<Result<Fd, Errno>>| match end {
            Some(Ok(fd)) => {
                assert_eq!(book.open, [fd]);
                assert_eq!(book.first, None);
            }
            Some(Err(errno)) => {
                assert_eq!(book.open, []);
                assert_eq!(book.first, Some(errno));
            }
            None => assert!(book.open.len() <= 1),
        };
        keep_book(acquire, Book::default(), acquire.protocol, look);
    }
}

#[test]
fn a_save_leaves_open_what_its_outcome_says() {
    for save in saves() {
        let book = Book { open: vec![save.held], ..Book::default() };
        let look = |machine: Save, book: &Book, end: Option<Outcome>| {
            let named = machine.state.has_temp_name();
            assert_eq!(named, book.temp_named, "{machine:?}");
            let Some(outcome) = end else {
                assert_eq!(machine.state.renamed().is_some(), book.renamed);
                return;
            };
            let (held, errno) = match outcome {
                Outcome::Saved(held) => (held, None),
                Outcome::NotDurable(held, errno) => (held, Some(errno)),
                Outcome::Refused(held, errno) => (Some(held), Some(errno)),
            };
            assert_eq!(book.open, Vec::from_iter(held), "{outcome:?}");
            assert_eq!(book.first, errno, "{outcome:?}");
            let refused = matches!(outcome, Outcome::Refused(..));
            assert_eq!(book.renamed, !refused, "{outcome:?}");
            assert_eq!(book.durable, errno.is_none(), "{outcome:?}");
            // What was created and not renamed was unlinked, or tried.
            let created = book.temp.is_some();
            assert_eq!(book.unlink_tried, created && refused, "{book:?}");
            if let (Outcome::Saved(held), Target::Store) =
                (outcome, machine.protocol.target)
            {
                let keeps = machine.protocol.keep != Keep::Nothing;
                assert_eq!(held.is_some(), keeps);
                assert_ne!(held, Some(machine.held));
            }
        };
        let states = keep_book(save, book, save.protocol, look);
        assert!(states > 12, "{states} states are too few for a save");
    }
}

#[test]
fn a_session_leaves_nothing_open() {
    for session in sessions() {
        type End = Option<Result<(), Errno>>;
        let look = |machine: Session, book: &Book, end: End| {
            assert_eq!(machine.has_temp_name(), book.temp_named);
            assert_eq!(machine.acknowledged(), book.acknowledged);
            if let Some(fd) = machine.holds() {
                assert!(book.open.contains(&fd), "{machine:?}, {book:?}");
            }
            let Some(end) = end else { return };
            assert_eq!(book.open, [], "{machine:?}");
            assert_eq!(end.err(), book.first, "{machine:?}");
            let saves = match machine.role {
                Role::Reader => 0,
                Role::Writer { saves } => saves,
            };
            let saved = machine.state.saved;
            assert!(saved <= saves);
            assert!(end.is_err() || saved == saves, "{machine:?}");
            assert!(!book.temp_named);
        };
        keep_book(session, Book::default(), session.protocol, look);
    }
}

/// The calls of a machine to which nothing happens: the first answer of each
/// call, or the one that `choose` likes better.
fn calls<M: Machine>(
    mut machine: M,
    choose: impl Fn(Effect) -> Option<Event>,
) -> Vec<Effect> {
    let mut book = Book::default();
    let mut calls = Vec::new();
    while let Continue(effect) = machine.effect() {
        let event = choose(effect);
        let event = event.unwrap_or_else(|| book.answers(effect)[0]);
        if let Event::Opened(fd) = event {
            book.open.push(fd);
        }
        if let Effect::Close(fd) = effect {
            book.open.retain(|open| *open != fd);
        }
        calls.push(effect);
        machine = machine.step(event).unwrap();
    }
    calls
}

#[test]
fn shipped_makes_its_calls_in_the_order_of_the_spec() {
    let session = Session::new(SHIPPED, Role::Writer { saves: 2 });
    let (old, new) = (Fd(0), Fd(1));
    let save = |held, temp| {
        [
            Effect::Sweep,
            Effect::Create,
            Effect::Write(temp),
            Effect::Sync(temp),
            Effect::TryLock(temp),
            Effect::CompareContent(held),
            Effect::CompareStat,
            Effect::Rename,
            Effect::SyncDirectory,
            Effect::Close(held),
        ]
    };
    let mut wanted = vec![
        Effect::Open(Name::Store, Access::Write),
        Effect::Lock(old, Access::Write),
        Effect::StatFd(old),
        Effect::StatName(Name::Store),
        Effect::Read(old),
    ];
    wanted.extend(save(old, new));
    wanted.extend(save(new, old));
    wanted.push(Effect::Close(old));
    assert_eq!(calls(session, |_| None), wanted);
}

#[test]
fn a_replaced_file_is_closed_and_opened_again() {
    let mut again = std::cell::Cell::new(true);
    let other = FileId { device: 1, inode: 2 };
    let choose = |effect| {
        let stat = matches!(effect, Effect::StatName(_));
        (stat && again.replace(false)).then_some(Event::File(other))
    };
    let found = calls(Acquire::shared(SHIPPED), choose);
    let fd = Fd(0);
    let once = [
        Effect::Open(Name::Store, Access::Read),
        Effect::Lock(fd, Access::Read),
        Effect::StatFd(fd),
        Effect::StatName(Name::Store),
    ];
    let mut wanted = once.to_vec();
    wanted.push(Effect::Close(fd));
    wanted.extend(once);
    assert_eq!(found, wanted);
    assert!(!*again.get_mut());
}

/// When the comparison is made is the whole difference between the histories.
#[test]
fn the_comparison_stands_where_the_protocol_says() {
    for protocol in NAMED {
        let acquire = Acquire::exclusive(protocol);
        let found = calls(acquire, |_| None);
        let place = |wanted: fn(&Effect) -> bool| found.iter().position(wanted);
        let lock = place(|call| matches!(call, Effect::Lock(..))).unwrap();
        let stat = place(|call| matches!(call, Effect::StatName(_)));
        match protocol.compare {
            Compare::Never => assert_eq!(stat, None),
            Compare::BeforeLock => assert!(stat.unwrap() < lock),
            Compare::AfterLock => assert!(stat.unwrap() > lock),
        }
    }
}

#[test]
fn names_are_found_and_nothing_else_is() {
    for protocol in NAMED {
        assert_eq!(Protocol::by_name(protocol.name), Some(protocol));
    }
    assert_eq!(Protocol::by_name("2015"), None);
    assert_eq!(Protocol::by_name(""), None);
}

/// The first states, so that `Acquire` and `Save` begin where they should.
#[test]
fn machines_begin_with_nothing_done() {
    for acquire in acquires() {
        assert_eq!(acquire.state, lock::State::Opening);
    }
    for save in saves() {
        let first = match save.protocol.sweep {
            true => save::State::Sweeping,
            false => save::State::Creating,
        };
        assert_eq!(save.state, first);
    }
}
