//! Breadth-first search through every state of a model.
//!
//! Lives here: the search, its limits and what it found. May not live here:
//! what a state means; any state set that forgets (no hash compaction): two
//! states are one only if they are equal.

use core::hash::BuildHasher;
use std::time::{Duration, Instant};

use hashbrown::{DefaultHashBuilder, HashTable};

use super::liveness::{Edge, Graph};
use super::{Kind, Model, Property};

/// How far the search may go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Distinct states; the search stops when one more is found.
    pub states_max: usize,
    /// Wall time; looked at every 1,024 states.
    pub time_max: Duration,
}

/// States that have numbers of 32 bits. More are never kept with all that they
/// are, whatever a limit says.
pub(super) const NUMBERS: usize = u32::MAX as usize - 1;

impl Default for Limits {
    /// All that 32-bit numbers can count, and a day.
    fn default() -> Self {
        Self {
            states_max: NUMBERS,
            time_max: Duration::from_secs(24 * 60 * 60),
        }
    }
}

/// How much of the model was seen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Coverage {
    /// Every reachable state.
    Exhaustive,
    /// Every run within a bound that the report names.
    Bounded,
    /// A limit of states or time came first.
    Cut,
}

/// A run of a model that shows something.
#[derive(Clone, Debug)]
pub struct Trace<M: Model> {
    /// Where it begins.
    pub initial: M::State,
    /// Step by step, each with the state after it.
    pub prefix: Vec<(M::Step, M::State)>,
    /// Then this, for ever; empty for a run that ends.
    pub cycle: Vec<(M::Step, M::State)>,
}

/// What became of one property.
#[derive(Clone, Debug)]
pub enum Verdict<M: Model> {
    /// True, as far as the coverage goes.
    Holds,
    /// False, and here is a shortest run that shows it. For `sometimes`,
    /// which no run can refute, the trace is absent.
    Violated(Option<Trace<M>>),
    /// The search was cut before it could say.
    Undecided,
}

/// What a search found.
#[derive(Clone, Debug)]
pub struct Report<M: Model> {
    /// Distinct states.
    pub states: usize,
    /// Steps between them, each counted once per state it leaves.
    pub edges: usize,
    /// Steps from a beginning to the state farthest from one.
    pub depth: usize,
    /// Wall time.
    pub elapsed: Duration,
    /// Bytes that states, parents and index took, by capacity.
    pub bytes: usize,
    /// Threads that searched: fewer than were asked for where the system gave
    /// no more.
    pub threads: usize,
    /// How much was seen.
    pub coverage: Coverage,
    /// Property by property, in the model's order; last [`NO_DEADLOCK`].
    pub verdicts: Vec<(&'static str, Kind, Verdict<M>)>,
    /// Properties of liveness that this search did not look at.
    pub left_out: Vec<&'static str>,
}

/// The property that every model has.
pub const NO_DEADLOCK: &str = "no deadlock";

impl<M: Model> Report<M> {
    /// The run that violates the property of that name, if one was found.
    pub fn violation(&self, name: &str) -> Option<&Trace<M>> {
        let mut named = self.verdicts.iter().filter(|(n, ..)| *n == name);
        match named.next() {
            Some((_, _, Verdict::Violated(trace))) => trace.as_ref(),
            _ => None,
        }
    }

    /// Whether every property of the model holds and all was seen.
    pub fn proves(&self) -> bool {
        self.left_out.is_empty() && self.holds(|_| true)
    }

    /// Whether every property of safety holds and all was seen: the most that
    /// a search of [`wide`](super::wide) can say of a model that has others.
    pub fn proves_safety(&self) -> bool {
        self.holds(|kind| kind != Kind::Eventually)
    }

    fn holds(&self, is_meant: impl Fn(Kind) -> bool) -> bool {
        let mut meant =
            self.verdicts.iter().filter(|(_, kind, _)| is_meant(*kind));
        self.coverage == Coverage::Exhaustive
            && meant.all(|(_, _, verdict)| matches!(verdict, Verdict::Holds))
    }
}

/// Searches `model`, shortest runs first, until everything or `limits`.
///
/// It goes on after a violation: counts are of the whole model, and every
/// property gets its own shortest run.
pub fn explore<M: Model>(model: &M, limits: Limits) -> Report<M> {
    explore_watched(model, limits, &mut |_| {})
}

/// As [`explore`], and tells `watch` twice a second how far it is.
pub fn explore_watched<M: Model>(
    model: &M,
    limits: Limits,
    watch: &mut dyn FnMut(Progress),
) -> Report<M> {
    Search::new(model, limits).run(watch)
}

/// How far a search is. How far it has to go nobody knows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Progress {
    /// Distinct states so far.
    pub states: usize,
    /// Those among them whose steps are not known yet.
    pub waiting: usize,
    /// Wall time.
    pub elapsed: Duration,
}

/// How often a watcher is told.
pub(super) const WATCH: Duration = Duration::from_millis(500);

struct Search<'m, M: Model> {
    model: &'m M,
    limits: Limits,
    started: Instant,
    hasher: DefaultHashBuilder,
    /// Every distinct state, in the order of discovery.
    states: Vec<M::State>,
    /// The state that each was first reached from; its own number: initial.
    parents: Vec<u32>,
    index: HashTable<u32>,
    edges: usize,
    /// Kept only if a property needs them.
    graph: Option<Graph>,
    properties: Vec<Property<M>>,
    /// The first state that decides each property.
    witness: Vec<Option<u32>>,
    deadlock: Option<u32>,
    cut: bool,
}

impl<'m, M: Model> Search<'m, M> {
    fn new(model: &'m M, limits: Limits) -> Self {
        let states_max = limits.states_max.min(NUMBERS);
        let limits = Limits { states_max, ..limits };
        let properties = model.properties();
        let liveness = properties.iter().any(|p| p.kind == Kind::Eventually);
        Self {
            model,
            limits,
            started: Instant::now(),
            hasher: DefaultHashBuilder::default(),
            states: Vec::new(),
            parents: Vec::new(),
            index: HashTable::new(),
            edges: 0,
            graph: liveness.then(Graph::default),
            witness: vec![None; properties.len()],
            properties,
            deadlock: None,
            cut: false,
        }
    }

    fn run(mut self, watch: &mut dyn FnMut(Progress)) -> Report<M> {
        for state in self.model.initial() {
            let parent = self.states.len() as u32;
            self.add(state, parent);
        }
        let mut depth = 0;
        let mut layer_end = self.states.len();
        let mut next = 0;
        let mut steps = Vec::new();
        let mut told = Duration::ZERO;
        while next < self.states.len() && !self.cut {
            if next == layer_end {
                depth += 1;
                layer_end = self.states.len();
            }
            self.expand(next, &mut steps);
            next += 1;
            if next.is_multiple_of(1024) {
                let elapsed = self.started.elapsed();
                let waiting = self.states.len() - next;
                if elapsed > self.limits.time_max {
                    self.cut |= waiting > 0;
                }
                if elapsed >= told + WATCH {
                    told = elapsed;
                    let states = self.states.len();
                    watch(Progress { states, waiting, elapsed });
                }
            }
        }
        self.report(depth)
    }

    fn expand(&mut self, from: usize, steps: &mut Vec<(M::Step, M::State)>) {
        let Some(state) = self.states.get(from) else { return };
        self.model.steps(state, steps);
        if steps.is_empty()
            && self.deadlock.is_none()
            && !self.model.is_end(state)
        {
            self.deadlock = Some(from as u32);
        }
        self.edges += steps.len();
        for (step, state) in steps.drain(..) {
            let Some(target) = self.add(state, from as u32) else { continue };
            if let Some(graph) = &mut self.graph {
                let actor = self.model.actor(&step) as u8;
                graph.push(Edge { target, actor });
            }
        }
        if let Some(graph) = &mut self.graph {
            graph.close_state();
        }
    }

    /// The number of `state`, new or not; `None`: no room for a new one.
    fn add(&mut self, state: M::State, parent: u32) -> Option<u32> {
        let hash = self.hasher.hash_one(&state);
        let found = self.index.find(hash, |&number| {
            self.states.get(number as usize) == Some(&state)
        });
        if let Some(&number) = found {
            return Some(number);
        }
        if self.states.len() >= self.limits.states_max {
            self.cut = true;
            return None;
        }
        let number = self.states.len() as u32;
        for (property, witness) in self.properties.iter().zip(&mut self.witness)
        {
            let wanted = match property.kind {
                Kind::Always => false,
                Kind::Sometimes => true,
                Kind::Eventually => continue,
            };
            if witness.is_none()
                && (property.test)(self.model, &state) == wanted
            {
                *witness = Some(number);
            }
        }
        let (states, hasher) = (&self.states, &self.hasher);
        self.index.insert_unique(hash, number, |&number| {
            // Every number in the index is that of a state.
            states.get(number as usize).map_or(0, |s| hasher.hash_one(s))
        });
        self.states.push(state);
        self.parents.push(parent);
        Some(number)
    }

    fn report(mut self, depth: usize) -> Report<M> {
        let coverage =
            if self.cut { Coverage::Cut } else { Coverage::Exhaustive };
        let mut verdicts = Vec::new();
        let graph = self.graph.take();
        for (property, witness) in self.properties.iter().zip(&self.witness) {
            let verdict = match (property.kind, witness) {
                (Kind::Always, Some(at)) => {
                    Verdict::Violated(Some(self.trace_to(*at)))
                }
                (Kind::Sometimes, Some(_)) => Verdict::Holds,
                (Kind::Always | Kind::Eventually, None) if self.cut => {
                    Verdict::Undecided
                }
                (Kind::Sometimes, None) if self.cut => Verdict::Undecided,
                (Kind::Always, None) => Verdict::Holds,
                (Kind::Sometimes, None) => Verdict::Violated(None),
                (Kind::Eventually, _) => {
                    self.liveness(property, graph.as_ref())
                }
            };
            verdicts.push((property.name, property.kind, verdict));
        }
        let deadlock = match self.deadlock {
            Some(at) => Verdict::Violated(Some(self.trace_to(at))),
            None if self.cut => Verdict::Undecided,
            None => Verdict::Holds,
        };
        verdicts.push((NO_DEADLOCK, Kind::Always, deadlock));
        Report {
            states: self.states.len(),
            edges: self.edges,
            depth,
            elapsed: self.started.elapsed(),
            bytes: self.states.capacity() * size_of::<M::State>()
                + self.parents.capacity() * size_of::<u32>()
                + self.index.allocation_size(),
            threads: 1,
            coverage,
            verdicts,
            left_out: Vec::new(),
        }
    }

    fn liveness(
        &self,
        property: &Property<M>,
        graph: Option<&Graph>,
    ) -> Verdict<M> {
        let Some(graph) = graph else { return Verdict::Undecided };
        let avoids: Vec<bool> = self
            .states
            .iter()
            .map(|state| !(property.test)(self.model, state))
            .collect();
        match graph.unfair_to(&avoids) {
            None => Verdict::Holds,
            Some(lasso) => {
                let mut trace = self.trace_to(lasso.entry);
                let mut at = lasso.entry;
                for Edge { target, actor } in lasso.cycle {
                    let by =
                        |step: &M::Step| self.model.actor(step) as u8 == actor;
                    trace.cycle.extend(self.step_between(at, target, by));
                    at = target;
                }
                Verdict::Violated(Some(trace))
            }
        }
    }

    fn trace_to(&self, end: u32) -> Trace<M> {
        let mut numbers = vec![end];
        let mut at = end;
        while let Some(&parent) = self.parents.get(at as usize) {
            if parent == at {
                break;
            }
            numbers.push(parent);
            at = parent;
        }
        numbers.reverse();
        let prefix = numbers
            .windows(2)
            .filter_map(|pair| match pair {
                [from, to] => self.step_between(*from, *to, |_| true),
                _ => None,
            })
            .collect();
        // `at` is the number of a state: the walk went through parents.
        let initial = self.states[at as usize].clone();
        Trace { initial, prefix, cycle: Vec::new() }
    }

    /// A wanted step that leads from one state to the other: steps are not
    /// stored.
    fn step_between(
        &self,
        from: u32,
        to: u32,
        wanted: impl Fn(&M::Step) -> bool,
    ) -> Option<(M::Step, M::State)> {
        let from = self.states.get(from as usize)?;
        let to = self.states.get(to as usize)?;
        let mut steps = Vec::new();
        self.model.steps(from, &mut steps);
        steps.into_iter().find(|(step, state)| state == to && wanted(step))
    }
}
