//! Does a model of ours do what its specification says? Edge by edge.
//!
//! Lives here: which state of a specification a state of ours is
//! ([`Specified`]), and the walk through both graphs. May not live here:
//! reading what TLC writes ([`dump`], [`value`]).
//!
//! Nothing of the specification is made from the code: it is written by hand,
//! TLC makes its graph, and here both are laid side by side. The walk is
//! breadth first, so that the first difference is one that is met soonest.

pub mod ahead;
pub mod backup;
pub mod cancel;
pub mod commit;
pub mod dump;
pub mod lock;
pub mod members;
pub mod restore;
pub mod save;
pub mod value;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::time::Instant;

use self::dump::Dump;
use self::value::{Value, Variables};
use super::Model;
use super::explore::Limits;

/// A model that is specified in TLA+ too.
pub trait Specified: Model {
    /// The module in `spec/`.
    const MODULE: &'static str;

    /// What `state` is in the specification, variable by variable. Different
    /// states must differ there too: it is seen if they do not.
    fn variables(&self, state: &Self::State) -> Vec<(&'static str, Value)>;

    /// What the specification calls `step`, which is taken in `state`.
    fn action(&self, state: &Self::State, step: &Self::Step) -> &'static str;
}

/// What came of a comparison.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Compared {
    /// Both graphs are the same.
    Equal {
        /// Distinct states.
        states: usize,
        /// Steps between them, by action.
        edges: usize,
    },
    /// They are not, and here they part.
    Different(Difference),
    /// A limit came first: nothing is known of the rest.
    Cut {
        /// States that are equal.
        states: usize,
    },
}

/// The first difference.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Difference {
    /// The actions on the way there.
    pub actions: Vec<&'static str>,
    /// The state that both have; none where they part before any.
    pub state: Option<Variables>,
    /// What only our model has there.
    pub code: Vec<Edge>,
    /// What only the specification has there.
    pub specification: Vec<Edge>,
    /// What is wrong where it is no edge.
    pub note: Option<String>,
}

/// A step and the state after it. Without an action: a state to begin with.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Edge {
    /// What the specification calls it.
    pub action: Option<String>,
    /// What it leads to.
    pub to: Variables,
}

/// Walks through both graphs at a time.
pub fn compare<M: Specified>(
    model: &M,
    dump: &Dump,
    limits: Limits,
) -> Compared {
    let mut walk = Walk {
        model,
        dump,
        limits,
        started: Instant::now(),
        met: BTreeMap::new(),
        waiting: VecDeque::new(),
        edges: 0,
    };
    match walk.run() {
        Ok(()) => Compared::Equal { states: walk.met.len(), edges: walk.edges },
        Err(Some(difference)) => Compared::Different(*difference),
        Err(None) => {
            let states = walk.met.len() - walk.waiting.len();
            Compared::Cut { states }
        }
    }
}

struct Walk<'w, M: Specified> {
    model: &'w M,
    dump: &'w Dump,
    limits: Limits,
    started: Instant,
    /// By the number of the specification's state.
    met: BTreeMap<usize, Met<M>>,
    waiting: VecDeque<usize>,
    edges: usize,
}

/// A state that both have.
struct Met<M: Specified> {
    state: M::State,
    /// The state that it was first reached from, and by what.
    from: Option<(usize, &'static str)>,
}

/// A step of ours: to a state of ours, and what it is in the specification.
type Ours<M> = (&'static str, Variables, <M as Model>::State);

/// The first difference, or none where a limit came first.
type Parted = Option<Box<Difference>>;

impl<M: Specified> Walk<'_, M> {
    fn run(&mut self) -> Result<(), Parted> {
        let initial = self.model.initial().into_iter();
        let ours: Vec<Ours<M>> =
            initial.map(|state| ("", self.variables(&state), state)).collect();
        let theirs: BTreeSet<_> =
            self.dump.initial().iter().map(|to| ("", *to)).collect();
        self.sides(None, ours, &theirs)?;
        while let Some(number) = self.waiting.pop_front() {
            let late = self.started.elapsed() > self.limits.time_max;
            if late || self.met.len() > self.limits.states_max {
                self.waiting.push_front(number);
                return Err(None);
            }
            let ours = self.steps(number);
            let theirs = self.dump.steps(number);
            self.edges += theirs.len();
            self.sides(Some(number), ours, &theirs)?;
        }
        // Every state of a dump is reached by its edges, if TLC made it.
        let rest = self.dump.len() - self.met.len();
        if rest > 0 {
            let note = format!(
                "{rest} states of the dump are reached by none of its steps"
            );
            return Err(Some(self.part(None, Vec::new(), Vec::new(), note)));
        }
        Ok(())
    }

    fn variables(&self, state: &M::State) -> Variables {
        let variables = self.model.variables(state).into_iter();
        variables.map(|(name, value)| (name.to_owned(), value)).collect()
    }

    fn steps(&self, number: usize) -> Vec<Ours<M>> {
        let Some(met) = self.met.get(&number) else { return Vec::new() };
        let mut steps = Vec::new();
        self.model.steps(&met.state, &mut steps);
        let named = |(step, to): (M::Step, M::State)| {
            let action = self.model.action(&met.state, &step);
            (action, self.variables(&to), to)
        };
        steps.into_iter().map(named).collect()
    }

    /// Lays what we have in a state beside what the specification has.
    fn sides(
        &mut self,
        from: Option<usize>,
        ours: Vec<Ours<M>>,
        theirs: &BTreeSet<(&str, usize)>,
    ) -> Result<(), Parted> {
        let mut found = BTreeSet::new();
        let mut only_code = Vec::new();
        for (action, to, state) in ours {
            let number = self.dump.number(&to);
            let theirs = number.filter(|n| theirs.contains(&(action, *n)));
            let Some(number) = theirs else {
                only_code.push(edge(action, to));
                continue;
            };
            found.insert((action, number));
            match self.met.get(&number) {
                None => {
                    let from = from.map(|from| (from, action));
                    self.met.insert(number, Met { state, from });
                    self.waiting.push_back(number);
                }
                Some(met) if met.state == state => {}
                Some(met) => {
                    let note = format!(
                        "two states of ours are this one of the \
                         specification: {:?} and {state:?}",
                        met.state
                    );
                    let edges = vec![edge(action, to)];
                    return Err(Some(self.part(from, edges, vec![], note)));
                }
            }
        }
        let missed = theirs.iter().filter(|theirs| !found.contains(theirs));
        let only_theirs: Vec<_> = missed
            .map(|(action, to)| edge(action, self.dump.variables(*to)))
            .collect();
        if only_code.is_empty() && only_theirs.is_empty() {
            return Ok(());
        }
        only_code.sort();
        only_code.dedup();
        Err(Some(self.part(from, only_code, only_theirs, String::new())))
    }

    fn part(
        &self,
        at: Option<usize>,
        code: Vec<Edge>,
        specification: Vec<Edge>,
        note: String,
    ) -> Box<Difference> {
        let mut actions = Vec::new();
        let mut on_the_way = at;
        while let Some(number) = on_the_way {
            let from = self.met.get(&number).and_then(|met| met.from);
            actions.extend(from.map(|(_, action)| action));
            on_the_way = from.map(|(from, _)| from);
        }
        actions.reverse();
        let state = at.map(|number| self.dump.variables(number));
        let note = (!note.is_empty()).then_some(note);
        Box::new(Difference { actions, state, code, specification, note })
    }
}

fn edge(action: &str, to: Variables) -> Edge {
    Edge { action: (!action.is_empty()).then(|| action.to_owned()), to }
}

impl Compared {
    /// What to tell of it, in full.
    pub fn text(&self, title: &str, module: &str) -> String {
        // Nothing is explored but for this.
        let title = title.strip_suffix(" explore").unwrap_or(title);
        match self {
            Self::Equal { states, edges } => format!(
                "{title}, {module}.tla: EQUAL, {states} states and {edges} \
                 edges\n"
            ),
            Self::Cut { states } => format!(
                "{title}, {module}.tla: CUT, nothing is known beyond \
                 {states} states\n"
            ),
            Self::Different(difference) => {
                format!("{title}, {module}.tla: {}", difference.text())
            }
        }
    }
}

impl Difference {
    fn text(&self) -> String {
        let mut text = String::from("DIFFERENT\n");
        let mut line = |line: &str| {
            // Writing into a text does not fail.
            let _ = writeln!(text, "{line}");
        };
        match &self.state {
            None => line("from the beginning"),
            Some(state) => {
                let way = match self.actions.as_slice() {
                    [] => "in the first state".to_owned(),
                    [one] => format!("after {one}, in the state"),
                    more => format!(
                        "after {} steps ({}), in the state",
                        more.len(),
                        more.join(", ")
                    ),
                };
                line(&way);
                for (name, value) in state {
                    line(&format!("    {name} = {value}"));
                }
            }
        }
        let sides = [
            ("only the code has", &self.code),
            ("only the specification has", &self.specification),
        ];
        for (side, edges) in sides {
            if edges.is_empty() {
                line(&format!("{side}: nothing"));
                continue;
            }
            line(&format!("{side}:"));
            for edge in edges {
                let action = edge.action.as_deref().unwrap_or("a first state");
                line(&format!("  {action}, to"));
                for (name, value) in &edge.to {
                    let before = self.state.as_ref();
                    if before.and_then(|s| s.get(name)) != Some(value) {
                        line(&format!("    {name} = {value}"));
                    }
                }
            }
        }
        if let Some(note) = &self.note {
            line(note);
        }
        text
    }
}
