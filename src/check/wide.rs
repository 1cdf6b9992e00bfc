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
//! shards by the hash, which is the same in every run. Each thread has shards
//! of its own, and takes from others only what they have not begun: what moves
//! between processors is what costs.

use core::hash::{BuildHasher, BuildHasherDefault, Hash};
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::collections::hash_map::DefaultHasher;
use std::time::{Duration, Instant};

use hashbrown::HashTable;
use parking_lot::Mutex;
use rayon::{ThreadPool, ThreadPoolBuilder};

use super::explore::{
    Coverage, Limits, NO_DEADLOCK, NUMBERS, Progress, Report, Trace, Verdict,
    WATCH,
};
use super::partial_order::{Ordered, settle};
use super::symmetry::Symmetric;
use super::{Kind, Property};

/// How a search is made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct How {
    /// Threads that search, the caller's included; at least 1. Where the
    /// system gives no more, that one searches alone.
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
/// States that a thread may add before it asks for more: to ask for each is
/// slow where processors are far from each other.
const ALLOWANCE: usize = 1024;

/// A state as it came out of a step.
struct Candidate<S> {
    hash: u64,
    /// The state it came from.
    parent: u64,
    state: S,
}

/// What came of a piece of a layer.
///
/// Three lists, and not two for each shard: threads that ask for memory wait
/// for each other. Hash and parent are apart from the state: where the hash is
/// enough, a known state is never looked at.
#[repr(align(128))]
struct Grown<S> {
    /// Hash and parent of each candidate, shard by shard, in their order.
    marks: Vec<(u64, u64)>,
    /// Where the states of these are.
    places: Vec<u32>,
    /// Where each shard begins, and the end.
    starts: [usize; SHARDS + 1],
    /// The states in the order in which they came.
    states: Vec<S>,
    edges: usize,
    deadlock: Option<u64>,
}

/// A part of the set, and of the last layer. Two lie side by side and are
/// filled at a time: none may share a cache line, or a pair of lines.
#[repr(align(128))]
struct Shard<S> {
    number: u64,
    known: Known<S>,
    /// What was new, with its numbers.
    layer: Vec<(u64, S)>,
    /// The next candidate to look at: the piece that it came of, and its place
    /// there.
    at: (usize, usize),
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
    fn add(
        &mut self,
        (hash, parent): (u64, u64),
        state: &S,
        room: &mut Room,
    ) -> bool {
        let number = match &mut self.known {
            Known::All { index, states, parents } => {
                let is_it = |place: &u32| {
                    states.get(*place as usize).is_some_and(|s| s == state)
                };
                if index.find(hash, is_it).is_some() {
                    return true;
                }
                if !room.take() {
                    return false;
                }
                let place = states.len() as u32;
                let number = (self.number << 32) | u64::from(place);
                index.insert_unique(hash, place, |place| {
                    states.get(*place as usize).map_or(0, hash_of)
                });
                states.push(state.clone());
                // A beginning comes from itself.
                parents.push(if parent == NOBODY { number } else { parent });
                number
            }
            Known::Prints(prints) => {
                if prints.find(hash, |(print, _)| *print == hash).is_some() {
                    return true;
                }
                if !room.take() {
                    return false;
                }
                let parent = if parent == NOBODY { hash } else { parent };
                prints.insert_unique(hash, (hash, parent), |(print, _)| *print);
                hash
            }
        };
        self.layer.push((number, state.clone()));
        true
    }

    /// Adds what is new of the candidates that it has not looked at; whether
    /// there was room for all.
    fn fill(&mut self, came: &[&Grown<S>], room: &mut Room) -> bool {
        let (first, start) = self.at;
        for (number, piece) in came.iter().enumerate().skip(first) {
            let start = if number == first { start } else { 0 };
            let marked = piece.of_shard(self.number as usize);
            for (place, (mark, state)) in marked.enumerate().skip(start) {
                if !self.add(*mark, state, room) {
                    self.at = (number, place);
                    return false;
                }
            }
        }
        self.at = (came.len(), 0);
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

/// The states that may still be added by all, and by this thread.
struct Room<'a> {
    all: &'a AtomicUsize,
    own: usize,
}

impl<'a> Room<'a> {
    fn new(all: &'a AtomicUsize) -> Self {
        Self { all, own: 0 }
    }

    /// One less to have; whether there was one.
    fn take(&mut self) -> bool {
        if self.own == 0 {
            let less = |left: usize| Some(left - left.min(ALLOWANCE));
            let (set, get) = (Ordering::Relaxed, Ordering::Relaxed);
            let left = self.all.fetch_update(set, get, less);
            self.own = left.unwrap_or(0).min(ALLOWANCE);
        }
        let is_there = self.own > 0;
        self.own = self.own.saturating_sub(1);
        is_there
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.all.fetch_add(self.own, Ordering::Relaxed);
    }
}

/// Searches `model`, shortest runs first, until everything or `limits`.
/// Properties of liveness are left out of the verdicts, and named so.
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
/// assert!(report.proves_safety());
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
    let started = Instant::now();
    let crew = crew(how.threads);
    let crew = crew.as_ref();
    Search { model, how, limits, started, crew }.run(watch)
}

struct Search<'m, M> {
    model: &'m M,
    how: How,
    limits: Limits,
    started: Instant,
    /// The threads beside this one, if there are any.
    crew: Option<&'m ThreadPool>,
}

/// The threads beside this one. Where the system gives no more, the search
/// goes on without.
fn crew(threads: usize) -> Option<ThreadPool> {
    let others = threads.checked_sub(1).filter(|others| *others > 0)?;
    ThreadPoolBuilder::new().num_threads(others).build().ok()
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
        let (left_out, properties): (Vec<_>, Vec<_>) = properties
            .into_iter()
            .partition(|property| property.kind == Kind::Eventually);
        let mut shards: Vec<_> = (0..SHARDS as u64)
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
                let (layer, at) = (Vec::new(), (0, 0));
                Mutex::new(Shard { number, known, layer, at, witness })
            })
            .collect();
        let states_max = match self.how.fingerprints {
            true => self.limits.states_max,
            false => self.limits.states_max.min(NUMBERS),
        };
        let room = AtomicUsize::new(states_max);
        // States whose steps are known.
        let done = AtomicUsize::new(0);
        let mut told = Duration::ZERO;
        let mut tell = || {
            let elapsed = self.started.elapsed();
            if elapsed >= told + WATCH {
                told = elapsed;
                let left = room.load(Ordering::Relaxed);
                let states = states_max.saturating_sub(left);
                let done = done.load(Ordering::Relaxed);
                let waiting = states.saturating_sub(done);
                watch(Progress { states, waiting, elapsed });
            }
        };
        let cut = AtomicBool::new(false);
        let mut first = Grown::new();
        let mut marks = Vec::new();
        for state in self.model.initial() {
            let candidate = self.candidate(state, NOBODY);
            marks.push((candidate.hash, candidate.parent));
            first.states.push(candidate.state);
        }
        first.sort(&marks);
        let (mut edges, mut depth) = (0, 0);
        let mut witness = vec![None; properties.len()];
        let mut deadlock = None;
        // Kept from layer to layer, with the room that they have; `filled` of
        // them say what came of this layer.
        let mut found = first.count();
        let mut grown = vec![Mutex::new(first)];
        let mut filled = 1;
        // Each thread has shards of its own, and of each layer what is in
        // them: what it wrote it also reads.
        let threads = self.crew.map_or(0, ThreadPool::current_num_threads) + 1;
        let own = |thread| (thread..SHARDS).step_by(threads);
        let own_shards: Vec<Vec<_>> =
            (0..threads).map(|thread| own(thread).collect()).collect();
        let mut pieces = Vec::new();
        let mut own_pieces = vec![Vec::new(); threads];
        loop {
            // Every shard takes what is its own, piece by piece in order.
            let came = grown.iter_mut().take(filled);
            let came: Vec<&Grown<_>> =
                came.map(|one| &*one.get_mut()).collect();
            self.each(&own_shards, found, &mut tell, |number| {
                let Some(shard) = shards.get(number) else { return };
                let mut shard = shard.lock();
                shard.layer.clear();
                shard.at = (0, 0);
                shard.fill(&came, &mut Room::new(&room));
                self.test(&mut shard, &properties);
            });
            // Where one found no room, another may have left some.
            for shard in &mut shards {
                let shard = shard.get_mut();
                if shard.at.0 < filled {
                    let is_whole = shard.fill(&came, &mut Room::new(&room));
                    cut.fetch_or(!is_whole, Ordering::Relaxed);
                    self.test(shard, &properties);
                }
            }
            pieces.clear();
            own_pieces.iter_mut().for_each(Vec::clear);
            let mut new = 0;
            for (number, shard) in shards.iter_mut().enumerate() {
                let shard = shard.get_mut();
                let found = witness.iter_mut().zip(&mut shard.witness);
                for (witness, found) in found {
                    *witness = witness.or(found.take());
                }
                let count = shard.layer.len();
                new += count;
                for start in (0..count).step_by(PIECE) {
                    if let Some(own) = own_pieces.get_mut(number % threads) {
                        own.push(pieces.len());
                    }
                    pieces.push((number, start..count.min(start + PIECE)));
                }
            }
            let late = self.is_late();
            if new == 0 || cut.load(Ordering::Relaxed) || late {
                cut.fetch_or(late && new > 0, Ordering::Relaxed);
                break;
            }
            depth += 1;
            filled = pieces.len();
            if grown.len() < filled {
                grown.resize_with(filled, || Mutex::new(Grown::new()));
            }
            let layer: Vec<&[_]> = shards
                .iter_mut()
                .map(|shard| shard.get_mut().layer.as_slice())
                .collect();
            self.each(&own_pieces, new, &mut tell, |number| {
                let (Some((shard, piece)), Some(grown)) =
                    (pieces.get(number), grown.get(number))
                else {
                    return;
                };
                let mut grown = grown.lock();
                // What is in it came of the layer before.
                grown.clear();
                if self.is_late() {
                    cut.store(true, Ordering::Relaxed);
                    return;
                }
                let piece =
                    layer.get(*shard).and_then(|of| of.get(piece.clone()));
                let piece = piece.unwrap_or_default();
                self.grow(piece, &mut grown);
                done.fetch_add(piece.len(), Ordering::Relaxed);
            });
            found = 0;
            for piece in grown.iter_mut().take(filled) {
                let piece = piece.get_mut();
                edges += piece.edges;
                found += piece.count();
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
            threads,
            coverage: match (cut, self.how.fingerprints) {
                (true, _) => Coverage::Cut,
                (false, true) => Coverage::Bounded,
                (false, false) => Coverage::Exhaustive,
            },
            verdicts,
            left_out: left_out.iter().map(|property| property.name).collect(),
        }
    }

    /// Does each of these things, which hold so many states, by all threads if
    /// they are worth it: each thread its own, and then what others have left.
    /// This one tells how far the search is.
    fn each(
        &self,
        own: &[Vec<usize>],
        states: usize,
        tell: &mut dyn FnMut(),
        what: impl Fn(usize) + Sync,
    ) {
        let shares: Vec<_> =
            own.iter().map(|own| (AtomicUsize::new(0), own)).collect();
        // Whether there was one more to do.
        let one = |thread: usize| {
            let (others, first) = shares.split_at(thread.min(shares.len()));
            let number = first.iter().chain(others).find_map(|(next, own)| {
                own.get(next.fetch_add(1, Ordering::Relaxed))
            });
            number.map(|number| what(*number)).is_some()
        };
        let mut work = || {
            while one(0) {
                tell();
            }
        };
        match self.crew {
            Some(crew) if states >= PIECE => crew.in_place_scope(|scope| {
                scope.spawn_broadcast(
                    |_, worker| {
                        while one(worker.index() + 1) {}
                    },
                );
                work();
            }),
            Some(_) | None => work(),
        }
    }

    /// Makes every step from the states of a piece.
    fn grow(&self, piece: &[(u64, M::State)], grown: &mut Grown<M::State>) {
        let mut marks = Vec::with_capacity(4 * piece.len());
        grown.states.reserve(4 * piece.len());
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
                let candidate = self.candidate(state, *number);
                marks.push((candidate.hash, candidate.parent));
                grown.states.push(candidate.state);
            }
        }
        grown.sort(&marks);
    }

    /// Looks at the states that are new.
    fn test(&self, shard: &mut Shard<M::State>, properties: &[Property<M>]) {
        for (property, witness) in properties.iter().zip(&mut shard.witness) {
            let wanted = property.kind == Kind::Sometimes;
            let mut new = shard.layer.iter();
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
        Self {
            marks: Vec::new(),
            places: Vec::new(),
            starts: [0; SHARDS + 1],
            states: Vec::new(),
            edges: 0,
            deadlock: None,
        }
    }

    fn clear(&mut self) {
        self.marks.clear();
        self.places.clear();
        self.states.clear();
        self.starts = [0; SHARDS + 1];
        (self.edges, self.deadlock) = (0, None);
    }

    fn count(&self) -> usize {
        self.states.len()
    }

    /// Puts the marks, which came in the order of the states, shard by shard.
    fn sort(&mut self, marks: &[(u64, u64)]) {
        let mut starts = [0; SHARDS + 1];
        for (hash, _) in marks {
            if let Some(count) = starts.get_mut(shard_of(*hash) + 1) {
                *count += 1;
            }
        }
        let mut end = 0;
        for start in &mut starts {
            end += *start;
            *start = end;
        }
        self.starts = starts;
        self.marks.resize(marks.len(), (0, 0));
        self.places.resize(marks.len(), 0);
        for (place, mark) in marks.iter().enumerate() {
            let Some(next) = starts.get_mut(shard_of(mark.0)) else { continue };
            let slots = (self.marks.get_mut(*next), self.places.get_mut(*next));
            if let (Some(to), Some(at)) = slots {
                (*to, *at) = (*mark, place as u32);
            }
            *next += 1;
        }
    }

    /// The candidates for a shard, in their order.
    fn of_shard(
        &self,
        number: usize,
    ) -> impl Iterator<Item = (&(u64, u64), &S)> {
        let range = match (self.starts.get(number), self.starts.get(number + 1))
        {
            (Some(start), Some(end)) => *start..*end,
            _ => 0..0,
        };
        let marks = self.marks.get(range.clone()).unwrap_or_default();
        let places = self.places.get(range).unwrap_or_default();
        marks.iter().zip(places).filter_map(|(mark, place)| {
            Some((mark, self.states.get(*place as usize)?))
        })
    }
}
