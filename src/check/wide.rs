//! Breadth-first search for models that are too large for one thread, or for
//! keeping every state: safety only.
//!
//! Lives here: the search by layers with several threads, sets that keep
//! fingerprints, and search among representatives and in fewer orders. May not
//! live here: which states are the same but for names (`symmetry`), whose step
//! is enough (`partial_order`), liveness (`explore`): a fair cycle of
//! representatives need not be one of states.
//!
//! What is found does not depend on the number of threads, unless a limit cuts
//! the search: states of a layer are taken in the order of their shards, and
//! shards by the hash, which is the same in every run.

use core::hash::{BuildHasher, BuildHasherDefault, Hash};
use core::sync::atomic::{AtomicBool, AtomicIsize, AtomicUsize, Ordering};
use std::collections::hash_map::DefaultHasher;
use std::thread;
use std::time::{Duration, Instant};

use hashbrown::HashTable;
use parking_lot::{Mutex, RwLock};

use super::explore::{
    Coverage, Limits, NO_DEADLOCK, Progress, Report, Trace, Verdict, WATCH,
};
use super::partial_order::{Ordered, settle};
use super::symmetry::Symmetric;
use super::{Kind, Property};

/// How a search is made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct How {
    /// Threads that search; at least 1.
    pub threads: usize,
    /// Keep 64 bits of each state instead of all: two states may be taken for
    /// one. With n states the chance of that is n^2 / 2^65 if the hash is
    /// good, so the coverage is `bounded`.
    pub fingerprints: bool,
    /// Of states that are the same but for the names of processes, keep one.
    pub symmetry: bool,
    /// Leave out orders of steps that make no difference, and the states
    /// between such steps. A run that is found need not be a shortest one,
    /// and the depth is that of what is kept.
    pub partial_order: bool,
}

/// Shards of the set: more than threads, so that none waits long.
const SHARDS: usize = 32;
/// States that are taken from a layer at a time.
const PIECE: usize = 1024;

/// A state as it came out of a step.
struct Candidate<S> {
    hash: u64,
    /// The state it came from.
    parent: u64,
    state: S,
}

/// What came of a piece of a layer.
struct Grown<S> {
    buckets: Vec<Vec<Candidate<S>>>,
    edges: usize,
    deadlock: Option<u64>,
}

/// A part of the set, and of the next layer.
struct Shard<S> {
    number: u64,
    known: Known<S>,
    next: Vec<(u64, S)>,
    /// The first state that decides each property.
    witness: Vec<Option<u64>>,
}

/// States have numbers: with all of them kept, shard and place; otherwise the
/// fingerprint. What is known of each: the state it was first reached from.
enum Known<S> {
    All { index: HashTable<u32>, states: Vec<S>, parents: Vec<u64> },
    Prints(HashTable<(u64, u64)>),
}

type Hashing = BuildHasherDefault<DefaultHasher>;

fn hash_of<S: Hash>(state: &S) -> u64 {
    Hashing::default().hash_one(state)
}

fn shard_of(hash: u64) -> usize {
    // The table takes the low bits, and the highest seven.
    (hash >> 40) as usize % SHARDS
}

impl<S: Clone + Eq + Hash> Shard<S> {
    /// Adds what is new; whether `room` was enough.
    fn add(&mut self, found: &Candidate<S>, room: &AtomicIsize) -> bool {
        let Candidate { hash, parent, state } = found;
        let number = match &mut self.known {
            Known::All { index, states, parents } => {
                let is_it = |place: &u32| {
                    states.get(*place as usize).is_some_and(|s| s == state)
                };
                if index.find(*hash, is_it).is_some() {
                    return true;
                }
                if !take(room) {
                    return false;
                }
                let place = states.len() as u32;
                let number = (self.number << 32) | u64::from(place);
                index.insert_unique(*hash, place, |place| {
                    states.get(*place as usize).map_or(0, hash_of)
                });
                states.push(state.clone());
                // A beginning comes from itself.
                parents.push(if *parent == NOBODY { number } else { *parent });
                number
            }
            Known::Prints(prints) => {
                if prints.find(*hash, |(print, _)| print == hash).is_some() {
                    return true;
                }
                if !take(room) {
                    return false;
                }
                let parent = if *parent == NOBODY { *hash } else { *parent };
                prints
                    .insert_unique(*hash, (*hash, parent), |(print, _)| *print);
                *hash
            }
        };
        self.next.push((number, state.clone()));
        true
    }

    fn parent(&self, number: u64) -> Option<u64> {
        match &self.known {
            Known::All { parents, .. } => {
                parents.get(number as u32 as usize).copied()
            }
            Known::Prints(prints) => prints
                .find(number, |(print, _)| *print == number)
                .map(|(_, parent)| *parent),
        }
    }

    fn bytes(&self) -> usize {
        match &self.known {
            Known::All { index, states, parents } => {
                index.allocation_size()
                    + states.capacity() * size_of::<S>()
                    + parents.capacity() * size_of::<u64>()
            }
            Known::Prints(prints) => prints.allocation_size(),
        }
    }

    fn count(&self) -> usize {
        match &self.known {
            Known::All { states, .. } => states.len(),
            Known::Prints(prints) => prints.len(),
        }
    }
}

/// The parent of a beginning.
const NOBODY: u64 = u64::MAX;

/// One less to have.
fn take(room: &AtomicIsize) -> bool {
    room.fetch_sub(1, Ordering::Relaxed) > 0
}

/// Searches `model`, shortest runs first, until everything or `limits`.
/// Properties of liveness are left out of the verdicts.
///
/// # Examples
/// ```
/// use qubes_fsm::check::explore::Limits;
/// use qubes_fsm::check::golden::Golden;
/// use qubes_fsm::check::wide::{How, search};
///
/// let model = Golden { processes: 3, recheck: true };
/// let how = How {
///     threads: 2,
///     fingerprints: false,
///     symmetry: true,
///     partial_order: false,
/// };
/// let report = search(&model, how, Limits::default());
/// // Of 1,399 states that differ by the names of processes.
/// assert_eq!(report.states, 272);
/// assert!(report.proves());
/// ```
pub fn search<M>(model: &M, how: How, limits: Limits) -> Report<M>
where
    M: Symmetric + Ordered + Sync,
    M::State: Send + Sync,
{
    search_watched(model, how, limits, &mut |_| {})
}

/// As [`search`], and tells `watch` twice a second how far it is.
pub fn search_watched<M>(
    model: &M,
    how: How,
    limits: Limits,
    watch: &mut dyn FnMut(Progress),
) -> Report<M>
where
    M: Symmetric + Ordered + Sync,
    M::State: Send + Sync,
{
    Search { model, how, limits, started: Instant::now() }.run(watch)
}

struct Search<'m, M> {
    model: &'m M,
    how: How,
    limits: Limits,
    started: Instant,
}

impl<M> Search<'_, M>
where
    M: Symmetric + Ordered + Sync,
    M::State: Send + Sync,
{
    fn is_late(&self) -> bool {
        self.started.elapsed() > self.limits.time_max
    }

    fn representative(&self, state: M::State) -> M::State {
        match self.how.symmetry {
            true => self.model.representative(&state),
            false => state,
        }
    }

    /// The state after all steps that may be taken alone; tells each.
    fn settled(
        &self,
        state: M::State,
        say: &mut dyn FnMut(M::Step, &M::State),
    ) -> M::State {
        match self.how.partial_order {
            true => settle(self.model, state, say),
            false => state,
        }
    }

    fn candidate(&self, state: M::State, parent: u64) -> Candidate<M::State> {
        let state = self.settled(state, &mut |_, _| {});
        let state = self.representative(state);
        Candidate { hash: hash_of(&state), parent, state }
    }

    fn run(self, watch: &mut dyn FnMut(Progress)) -> Report<M> {
        let properties = self.model.properties();
        let properties: Vec<_> = properties
            .into_iter()
            .filter(|property| property.kind != Kind::Eventually)
            .collect();
        let shards: Vec<_> = (0..SHARDS as u64)
            .map(|number| {
                let known = match self.how.fingerprints {
                    true => Known::Prints(HashTable::new()),
                    false => Known::All {
                        index: HashTable::new(),
                        states: Vec::new(),
                        parents: Vec::new(),
                    },
                };
                let witness = vec![None; properties.len()];
                let next = Vec::new();
                Mutex::new(Shard { number, known, next, witness })
            })
            .collect();
        let room = self.limits.states_max.try_into().unwrap_or(isize::MAX);
        let room = AtomicIsize::new(room);
        // States whose steps are known.
        let done = AtomicUsize::new(0);
        let mut told = Duration::ZERO;
        let mut tell = || {
            let elapsed = self.started.elapsed();
            if elapsed >= told + WATCH {
                told = elapsed;
                let left = room.load(Ordering::Relaxed).max(0) as usize;
                let states = self.limits.states_max.saturating_sub(left);
                let done = done.load(Ordering::Relaxed);
                let waiting = states.saturating_sub(done);
                watch(Progress { states, waiting, elapsed });
            }
        };
        let cut = AtomicBool::new(false);
        let mut first = Grown::new();
        for state in self.model.initial() {
            first.push(self.candidate(state, NOBODY));
        }
        let (mut edges, mut depth) = (0, 0);
        let mut witness = vec![None; properties.len()];
        let mut deadlock = None;
        // Kept from layer to layer, with the room that they have; `filled` of
        // them say what came of this layer.
        let mut grown = vec![RwLock::new(first)];
        let mut filled = 1;
        let mut layer = Vec::new();
        loop {
            // Every shard takes what is its own, piece by piece in order.
            self.each(SHARDS, &mut tell, |number| {
                let Some(shard) = shards.get(number) else { return };
                let mut shard = shard.lock();
                for piece in grown.iter().take(filled) {
                    let piece = piece.read();
                    let bucket = piece.buckets.get(number);
                    for candidate in bucket.into_iter().flatten() {
                        if !shard.add(candidate, &room) {
                            cut.store(true, Ordering::Relaxed);
                            return;
                        }
                    }
                }
                self.test(&mut shard, &properties);
            });
            layer.clear();
            for shard in &shards {
                let mut shard = shard.lock();
                layer.append(&mut shard.next);
                let found = witness.iter_mut().zip(&mut shard.witness);
                for (witness, found) in found {
                    *witness = witness.or(found.take());
                }
            }
            let late = self.is_late();
            if layer.is_empty() || cut.load(Ordering::Relaxed) || late {
                cut.fetch_or(late && !layer.is_empty(), Ordering::Relaxed);
                break;
            }
            depth += 1;
            let pieces: Vec<_> = layer.chunks(PIECE).collect();
            filled = pieces.len();
            if grown.len() < filled {
                grown.resize_with(filled, || RwLock::new(Grown::new()));
            }
            self.each(pieces.len(), &mut tell, |number| {
                let (Some(piece), Some(grown)) =
                    (pieces.get(number), grown.get(number))
                else {
                    return;
                };
                let mut grown = grown.write();
                // What is in it came of the layer before.
                grown.clear();
                if self.is_late() {
                    cut.store(true, Ordering::Relaxed);
                    return;
                }
                self.grow(piece, &mut grown);
                done.fetch_add(piece.len(), Ordering::Relaxed);
            });
            for piece in grown.iter().take(filled) {
                let piece = piece.read();
                edges += piece.edges;
                deadlock = deadlock.or(piece.deadlock);
            }
        }
        let cut = cut.into_inner();
        let shards: Vec<_> =
            shards.into_iter().map(Mutex::into_inner).collect();
        let mut verdicts = Vec::new();
        for (property, witness) in properties.iter().zip(witness) {
            let verdict = match (property.kind, witness) {
                (Kind::Always, Some(number)) => {
                    Verdict::Violated(self.trace(&shards, number))
                }
                (Kind::Sometimes, Some(_)) => Verdict::Holds,
                (_, None) if cut => Verdict::Undecided,
                (Kind::Sometimes, None) => Verdict::Violated(None),
                (Kind::Always | Kind::Eventually, _) => Verdict::Holds,
            };
            verdicts.push((property.name, property.kind, verdict));
        }
        let deadlock = match deadlock {
            Some(number) => Verdict::Violated(self.trace(&shards, number)),
            None if cut => Verdict::Undecided,
            None => Verdict::Holds,
        };
        verdicts.push((NO_DEADLOCK, Kind::Always, deadlock));
        Report {
            states: shards.iter().map(Shard::count).sum(),
            edges,
            // The last layer had nothing new behind it.
            depth: if cut { depth } else { depth.saturating_sub(1) },
            elapsed: self.started.elapsed(),
            bytes: shards.iter().map(Shard::bytes).sum(),
            coverage: match (cut, self.how.fingerprints) {
                (true, _) => Coverage::Cut,
                (false, true) => Coverage::Bounded,
                (false, false) => Coverage::Exhaustive,
            },
            verdicts,
        }
    }

    /// Does each of so many things, by all threads; this one tells how far
    /// the search is.
    fn each(
        &self,
        count: usize,
        tell: &mut dyn FnMut(),
        what: impl Fn(usize) + Sync,
    ) {
        let next = AtomicUsize::new(0);
        // Whether there was one more to do.
        let one = || {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let is_there = number < count;
            if is_there {
                what(number);
            }
            is_there
        };
        let work = || while one() {};
        let others = self.how.threads.min(count).saturating_sub(1);
        thread::scope(|scope| {
            for _ in 0..others {
                scope.spawn(work);
            }
            while one() {
                tell();
            }
        });
    }

    /// Makes every step from the states of a piece.
    fn grow(&self, piece: &[(u64, M::State)], grown: &mut Grown<M::State>) {
        let mut steps = Vec::new();
        for (number, state) in piece {
            self.model.steps(state, &mut steps);
            if steps.is_empty()
                && grown.deadlock.is_none()
                && !self.model.is_end(state)
            {
                grown.deadlock = Some(*number);
            }
            grown.edges += steps.len();
            for (_, state) in steps.drain(..) {
                grown.push(self.candidate(state, *number));
            }
        }
    }

    /// Looks at the states that are new.
    fn test(&self, shard: &mut Shard<M::State>, properties: &[Property<M>]) {
        for (property, witness) in properties.iter().zip(&mut shard.witness) {
            let wanted = property.kind == Kind::Sometimes;
            let mut new = shard.next.iter();
            let is_it = |(_, state): &&(u64, M::State)| {
                (property.test)(self.model, state) == wanted
            };
            *witness = witness.or(new.find(is_it).map(|(number, _)| *number));
        }
    }

    /// A run to the state of this number. Among representatives the names in
    /// it are those of a real run, which starts at a beginning.
    fn trace(&self, shards: &[Shard<M::State>], end: u64) -> Option<Trace<M>> {
        let shard = |number: u64| match self.how.fingerprints {
            true => shards.get(shard_of(number)),
            false => shards.get((number >> 32) as usize),
        };
        let is_it = |number: u64, state: &M::State| match shard(number) {
            Some(Shard { known: Known::All { states, .. }, .. }) => {
                states.get(number as u32 as usize) == Some(state)
            }
            Some(_) => hash_of(state) == number,
            None => false,
        };
        let mut numbers = vec![end];
        let mut at = end;
        loop {
            let parent = shard(at)?.parent(at)?;
            if parent == at {
                break;
            }
            numbers.push(parent);
            at = parent;
        }
        let begin = numbers.pop()?;
        let found = |number: u64, state: &M::State| {
            let state = self.settled(state.clone(), &mut |_, _| {});
            is_it(number, &self.representative(state))
        };
        let mut initial = self.model.initial().into_iter();
        let initial = initial.find(|state| found(begin, state))?;
        let mut prefix = Vec::new();
        let mut state = self.settled(initial.clone(), &mut |step, state| {
            prefix.push((step, state.clone()));
        });
        for number in numbers.into_iter().rev() {
            let mut steps = Vec::new();
            self.model.steps(&state, &mut steps);
            let step =
                steps.into_iter().find(|(_, state)| found(number, state))?;
            state = step.1.clone();
            prefix.push(step);
            state = self.settled(state, &mut |step, state| {
                prefix.push((step, state.clone()));
            });
        }
        Some(Trace { initial, prefix, cycle: Vec::new() })
    }
}

impl<S> Grown<S> {
    fn new() -> Self {
        let buckets = (0..SHARDS).map(|_| Vec::new()).collect();
        Self { buckets, edges: 0, deadlock: None }
    }

    fn clear(&mut self) {
        self.buckets.iter_mut().for_each(Vec::clear);
        (self.edges, self.deadlock) = (0, None);
    }

    fn push(&mut self, candidate: Candidate<S>) {
        let bucket = self.buckets.get_mut(shard_of(candidate.hash));
        if let Some(bucket) = bucket {
            bucket.push(candidate);
        }
    }
}
