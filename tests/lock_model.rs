//! The protocols against a model too simple to be wrong: a list of versions.
//!
//! Up to five processes run by a random schedule on the simulated disk, and
//! calls fail at random. Whatever happens, the store is the last version that
//! was renamed into place; one that was acknowledged is never gone.

#![cfg(feature = "check")]
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::ops::ControlFlow::{Break, Continue};

use proptest::prelude::*;
use qubes_fsm::fsm::protocol::{
    HISTORY_2013, HISTORY_2014, HISTORY_2016, Keep, LOCK_FILE, Protocol,
    SHIPPED, Target,
};
use qubes_fsm::fsm::session::{Role, Session};
use qubes_fsm::fsm::{Effect, Errno, Event, Fd, Machine as _};
use qubes_fsm::sim::disk::{
    Answer, DESCRIPTORS, Disk, PROCESSES, SAVES, Updates,
};

/// Whose turn it is, and whether its call fails.
type Turn = (usize, Option<Errno>);

/// One process, and what its caller would have seen of it.
struct Process {
    session: Session,
    saves: u8,
    first_failure: Option<Errno>,
    /// An unlink failed: the temporary file stays for the next save to sweep.
    temp_left: bool,
}

/// The disk, and beside it the model: versions in the order of their renames.
struct Run {
    disk: Disk,
    processes: Vec<Process>,
    versions: Vec<Updates>,
    /// How many of them, from the oldest, may never be lost: the newest one
    /// that was acknowledged is the last of these.
    acknowledged: usize,
    reads: usize,
    /// Whether a process that reads an old version ends the run.
    strict: bool,
}

impl Run {
    fn new(protocol: Protocol, roles: &[Role]) -> Self {
        let disk = match protocol.target {
            Target::Store => Disk::new(),
            Target::LockFile => Disk::with_lock_file(),
        };
        let processes = roles.iter().map(|role| Process {
            session: Session::new(protocol, *role),
            saves: 0,
            first_failure: None,
            temp_left: false,
        });
        let versions = vec![Updates::default()];
        let processes = processes.collect();
        Self {
            disk,
            processes,
            versions,
            acknowledged: 1,
            reads: 0,
            strict: true,
        }
    }

    /// One call of a process, if it is not finished and need not wait.
    /// Whether it was made.
    fn turn(&mut self, (index, fault): Turn) -> Result<bool, String> {
        let Some(process) = self.processes.get(index) else { return Ok(false) };
        let Continue(effect) = process.session.effect() else {
            return Ok(false);
        };
        let fault = fault.filter(|_| !matches!(effect, Effect::Close(_)));
        let store = self.disk.store();
        let answer = match fault {
            Some(errno) => Answer::Event(Event::Failed(errno)),
            None => self.disk.apply(index, effect),
        };
        let Answer::Event(event) = answer else { return Ok(false) };
        if event != Event::Renamed && self.disk.store() != store {
            return Err(format!("{effect} changed the store"));
        }
        self.note(index, effect, event)?;
        let process = &mut self.processes[index];
        process.session = process.session.step(event).unwrap();
        self.check()?;
        if let Break(end) = self.processes[index].session.effect() {
            self.check_end(index, end)?;
        }
        Ok(true)
    }

    /// The model's side of a call.
    fn note(
        &mut self,
        index: usize,
        effect: Effect,
        event: Event,
    ) -> Result<(), String> {
        let newest = *self.versions.last().unwrap();
        let process = &mut self.processes[index];
        match (effect, event) {
            (Effect::Close(_), Event::Failed(errno)) => {
                return Err(format!("P{index} closes twice: {errno}"));
            }
            // What is not swept harms nobody.
            (Effect::Sweep, Event::Failed(_)) => {}
            (_, Event::Failed(errno)) => {
                process.first_failure.get_or_insert(errno);
                process.temp_left |= effect == Effect::Unlink;
            }
            (_, Event::Changed) => {
                return Err("a holder found the store changed".to_owned());
            }
            (_, Event::Renamed) => {
                let own = Updates::one(index, process.saves);
                process.saves += 1;
                self.versions.push(newest.with(own));
            }
            (Effect::SyncDirectory, Event::Synced) => {
                self.acknowledged = self.versions.len();
            }
            (Effect::Read(fd), Event::Read) => {
                self.reads += 1;
                let seen = self.disk.process(index).memory;
                if self.strict && seen != newest {
                    return Err(format!("P{index} read an old version"));
                }
                let inode = self.disk.opened(index, fd).unwrap().inode;
                if self.strict && inode != self.disk.store().0 {
                    return Err(format!("P{index} read an unlinked file"));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// What is so after every call.
    fn check(&self) -> Result<(), String> {
        let (_, store) = self.disk.store();
        if !store.whole {
            return Err("the store is incomplete".to_owned());
        }
        let lasting = &self.versions[self.acknowledged - 1..];
        if !lasting.contains(&store.content) {
            return Err("an acknowledged update is lost".to_owned());
        }
        // No second holder: what was renamed last is what is there.
        if self.versions.last() != Some(&store.content) {
            return Err("the store is not the last version".to_owned());
        }
        Ok(())
    }

    /// What is so when a process is finished.
    fn check_end(
        &self,
        index: usize,
        end: Result<(), Errno>,
    ) -> Result<(), String> {
        let process = &self.processes[index];
        if end.err() != process.first_failure {
            let first = process.first_failure;
            return Err(format!("P{index} ends {end:?}, wanted {first:?}"));
        }
        let wanted = match process.session.role {
            Role::Reader => 0,
            Role::Writer { saves } => saves,
        };
        if end.is_ok() && process.saves != wanted {
            return Err(format!("P{index} made {} saves", process.saves));
        }
        let open = (0..DESCRIPTORS as u8)
            .any(|fd| self.disk.opened(index, Fd(fd)).is_some());
        if open || self.disk.is_clean(index) == process.temp_left {
            return Err(format!("P{index} left something"));
        }
        Ok(())
    }

    /// By the schedule, then in turns until all are finished.
    fn all(&mut self, schedule: &[Turn]) -> Result<(), String> {
        for turn in schedule {
            self.turn(*turn)?;
        }
        loop {
            let mut moved = false;
            for index in 0..self.processes.len() {
                moved |= self.turn((index, None))?;
            }
            if !moved {
                break;
            }
        }
        let finished = |p: &Process| p.session.effect().is_break();
        match self.processes.iter().all(finished) {
            true => Ok(()),
            false => Err("somebody waits for ever".to_owned()),
        }
    }
}

fn run(
    protocol: Protocol,
    roles: &[Role],
    schedule: &[Turn],
) -> Result<Run, String> {
    let mut run = Run::new(protocol, roles);
    run.all(schedule).map(|()| run)
}

const WRITER: Role = Role::Writer { saves: 1 };

/// P2 opens, then P1 runs to its end, then P2 does.
fn race() -> Vec<Turn> {
    let mut schedule = vec![(1, None), (0, None), (0, None), (1, None)];
    schedule.extend([(0, None); 40]);
    schedule.extend([(1, None); 40]);
    schedule
}

#[test]
fn the_model_sees_the_race_of_2013_and_2016() {
    let text = |protocol| run(protocol, &[WRITER; 2], &race()).err();
    let old = Some("P1 read an old version".to_owned());
    assert_eq!(text(HISTORY_2013), old);
    assert_eq!(text(HISTORY_2016), None, "it has not compared yet");
    let late = [[(1, None); 3].as_slice(), &[(0, None); 40]].concat();
    let found = run(HISTORY_2016, &[WRITER; 2], &late).err();
    assert_eq!(found, old);
    for protocol in [HISTORY_2014, SHIPPED, LOCK_FILE] {
        for schedule in [race(), late.clone()] {
            let run = run(protocol, &[WRITER; 2], &schedule).unwrap();
            assert_eq!((run.versions.len(), run.acknowledged), (3, 3));
        }
    }
}

/// A step later than the stale read, the update is lost indeed.
#[test]
fn the_model_sees_the_lost_update_itself() {
    let mut run = Run::new(HISTORY_2013, &[WRITER; 2]);
    run.strict = false;
    let found = run.all(&race()).unwrap_err();
    assert_eq!(found, "an acknowledged update is lost");
    assert_eq!((run.versions.len(), run.acknowledged), (3, 2));
}

#[test]
fn every_single_failure_leaves_the_store_as_it_was() {
    let role = Role::Writer { saves: 2 };
    let mut refused = 0;
    for protocol in [HISTORY_2014, SHIPPED, LOCK_FILE] {
        let role = if protocol.keep == Keep::Nothing { WRITER } else { role };
        for at in 0..40 {
            let mut schedule = vec![(0, None); at];
            schedule.push((0, Some(Errno::NO_SPACE)));
            let run = run(protocol, &[role], &schedule).unwrap();
            let failed = run.processes[0].first_failure;
            refused += usize::from(failed.is_some());
            let renamed = usize::from(run.processes[0].saves);
            assert_eq!(run.versions.len(), 1 + renamed);
        }
    }
    assert!(refused > 30, "only {refused} calls could fail");
}

fn errnos() -> impl Strategy<Value = Option<Errno>> {
    let errnos = [4, 5, 13, 28, 122].map(Errno).to_vec();
    prop_oneof![
        24 => Just(None),
        1 => prop::sample::select(errnos).prop_map(Some),
    ]
}

fn roles(keeps: bool) -> impl Strategy<Value = Vec<Role>> {
    let most = if keeps { SAVES as u8 } else { 1 };
    let role = prop_oneof![
        2 => (1..=most).prop_map(|saves| Role::Writer { saves }),
        1 => Just(Role::Reader),
    ];
    prop::collection::vec(role, 1..=PROCESSES)
}

fn cases() -> impl Strategy<Value = (Protocol, Vec<Role>, Vec<Turn>)> {
    let protocol = prop_oneof![
        4 => Just(SHIPPED),
        1 => Just(HISTORY_2014),
        1 => Just(LOCK_FILE),
    ];
    protocol.prop_flat_map(|protocol| {
        let turns = prop::collection::vec((0..PROCESSES, errnos()), 0..300);
        let keeps = protocol.keep != Keep::Nothing;
        (Just(protocol), roles(keeps), turns)
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2_000, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn random_schedules_with_failures_lose_nothing(
        (protocol, roles, schedule) in cases(),
    ) {
        match run(protocol, &roles, &schedule) {
            Ok(run) => {
                // Without a failure everybody saved and everybody read.
                let calm =
                    run.processes.iter().all(|p| p.first_failure.is_none());
                prop_assert!(!calm || run.reads == roles.len());
                prop_assert!(!calm || run.acknowledged == run.versions.len());
            }
            Err(text) => return Err(TestCaseError::fail(text)),
        }
    }
}
