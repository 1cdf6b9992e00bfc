//! A model whose counts are known from other checkers, to check this one.
//!
//! Lives here: the lock protocol in nine coarse steps, closed over its own
//! small state. It shares nothing with `fsm`: TLC, stateright and a third
//! checker counted 100, 1,399, 25,765 and 587,767 distinct states of it for 2
//! to 5 processes, and 148, 2,871, 67,924 and 1,899,340 steps.

use super::{Model, Property};

/// Most processes that [`State`] has room for.
pub const PROCESSES_MAX: usize = 6;

const NONE: u8 = u8::MAX;
const WIDTH: usize = PROCESSES_MAX;
const SLOTS: usize = PROCESSES_MAX + 1;

/// N processes, one transaction each.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Golden {
    /// How many processes, at most [`PROCESSES_MAX`].
    pub processes: usize,
    /// Whether the inode is compared once the lock is granted. Without it
    /// the model loses an update.
    pub recheck: bool,
}

/// Where everybody is: one array of bytes, so that comparing and hashing are
/// one call each. Order: path; version and lock of each inode; then position,
/// descriptor, temporary and version in memory of each process.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct State([u8; 1 + 2 * SLOTS + 4 * WIDTH]);

const PATH: usize = 0;
const VERSION: usize = 1;
const LOCK: usize = VERSION + SLOTS;
const PC: usize = LOCK + SLOTS;
const FD: usize = PC + WIDTH;
const TEMP: usize = FD + WIDTH;
const MEMORY: usize = TEMP + WIDTH;

/// What a process does next, in order.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
enum Pc {
    Open,
    Lock,
    Check,
    Load,
    MakeTemp,
    Write,
    Rename,
    CloseTemp,
    Unlock,
    Done,
}

impl Pc {
    fn of(byte: u8) -> Self {
        match byte {
            0 => Self::Open,
            1 => Self::Lock,
            2 => Self::Check,
            3 => Self::Load,
            4 => Self::MakeTemp,
            5 => Self::Write,
            6 => Self::Rename,
            7 => Self::CloseTemp,
            8 => Self::Unlock,
            _ => Self::Done,
        }
    }
}

impl Golden {
    /// The state after the next step of process `p`, if it can take one.
    pub fn next(&self, state: &State, p: usize) -> Option<State> {
        let State(s) = state;
        let mut next = *s;
        let fd = usize::from(s[FD + p]);
        let temp = usize::from(s[TEMP + p]);
        let pc = match Pc::of(s[PC + p]) {
            Pc::Open => {
                next[FD + p] = s[PATH];
                Pc::Lock
            }
            Pc::Lock if s[LOCK + fd] != NONE => return None,
            Pc::Lock => {
                next[LOCK + fd] = p as u8;
                if self.recheck { Pc::Check } else { Pc::Load }
            }
            Pc::Check if s[FD + p] == s[PATH] => Pc::Load,
            Pc::Check => {
                next[LOCK + fd] = NONE;
                next[FD + p] = NONE;
                Pc::Open
            }
            Pc::Load => {
                next[MEMORY + p] = s[VERSION + fd];
                Pc::MakeTemp
            }
            Pc::MakeTemp => {
                let free = (0..=self.processes as u8).find(|inode| {
                    *inode != s[PATH]
                        && !s[FD..MEMORY].iter().any(|open| open == inode)
                })?;
                next[TEMP + p] = free;
                next[VERSION + usize::from(free)] = 0;
                Pc::Write
            }
            Pc::Write => {
                next[VERSION + temp] = s[MEMORY + p] + 1;
                Pc::Rename
            }
            Pc::Rename => {
                next[PATH] = s[TEMP + p];
                Pc::CloseTemp
            }
            Pc::CloseTemp => {
                next[TEMP + p] = NONE;
                Pc::Unlock
            }
            Pc::Unlock => {
                next[LOCK + fd] = NONE;
                next[FD + p] = NONE;
                next[MEMORY + p] = 0;
                Pc::Done
            }
            Pc::Done => return None,
        };
        next[PC + p] = pc as u8;
        Some(State(next))
    }

    /// The same state with the processes in the order of what they have: one
    /// for all that differ by names. A process whose bytes are another's
    /// holds no lock that the other does not, so no tie is left.
    pub fn sorted(&self, State(s): &State) -> State {
        let mut order: Vec<usize> = (0..self.processes).collect();
        order.sort_by_key(|p| {
            [s[PC + p], s[FD + p], s[TEMP + p], s[MEMORY + p]]
        });
        let mut new = *s;
        for (place, old) in order.iter().enumerate() {
            for part in [PC, FD, TEMP, MEMORY] {
                new[part + place] = s[part + old];
            }
            for slot in LOCK..PC {
                if s[slot] == *old as u8 {
                    new[slot] = place as u8;
                }
            }
        }
        State(new)
    }

    /// Where it begins.
    pub fn start(&self) -> State {
        let mut state = [0; 1 + 2 * SLOTS + 4 * WIDTH];
        state[LOCK..PC].fill(NONE);
        state[PC..FD].fill(Pc::Done as u8);
        state[PC..PC + self.processes].fill(Pc::Open as u8);
        state[FD..MEMORY].fill(NONE);
        State(state)
    }

    /// Whether all are done.
    pub fn all_done(&self, State(state): &State) -> bool {
        state[PC..FD].iter().all(|pc| Pc::of(*pc) == Pc::Done)
    }

    /// Whether every transaction is in the file once all are done.
    pub fn nothing_lost(&self, state: &State) -> bool {
        let State(s) = state;
        !self.all_done(state)
            || usize::from(s[VERSION + usize::from(s[PATH])]) == self.processes
    }
}

impl Model for Golden {
    type State = State;
    type Step = u8;

    fn initial(&self) -> Vec<State> {
        vec![self.start()]
    }

    fn steps(&self, state: &State, steps: &mut Vec<(u8, State)>) {
        for p in 0..self.processes {
            if let Some(next) = self.next(state, p) {
                steps.push((p as u8, next));
            }
        }
    }

    fn is_end(&self, state: &State) -> bool {
        self.all_done(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no lost update", Self::nothing_lost),
            Property::sometimes("all done", Self::all_done),
        ]
    }

    fn actor(&self, step: &u8) -> usize {
        usize::from(*step)
    }
}
