//! Does what should happen happen, if nobody who can go on waits for ever?
//!
//! Lives here: the graph of a model by numbers, and the search for a fair
//! cycle. May not live here: states.
//!
//! Weak fairness: an actor that could take a step in every state of a cycle
//! takes one in it. A set of states that reach each other is therefore a
//! counterexample exactly if each actor takes a step inside, or cannot take
//! any in one of its states; a run can then visit all of these again and
//! again. A step of [`UNFAIR`] may never be taken: it is no way out of a cycle,
//! and no reason against one. (Tarjan's components; Lichtenstein and Pnueli 1985 for the rule.)

use std::collections::VecDeque;

/// The actor of steps that may never come, such as a crash: no fairness is
/// owed to them.
pub const UNFAIR: usize = 63;

/// A step: where it leads and who takes it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Edge {
    pub(crate) target: u32,
    pub(crate) actor: u8,
}

/// The steps of every state, in the order of the states' numbers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Graph {
    edges: Vec<Edge>,
    /// Where the edges of a state end.
    ends: Vec<usize>,
}

/// A way to avoid something for ever: go to `entry`, then round the cycle.
/// An empty cycle: `entry` has no step at all.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Lasso {
    pub(crate) entry: u32,
    /// The steps from `entry` on; the last leads to `entry` again. By whom
    /// counts: two actors may lead to the same state.
    pub(crate) cycle: Vec<Edge>,
}

impl Graph {
    pub(crate) fn push(&mut self, edge: Edge) {
        self.edges.push(edge);
    }

    /// The state that the edges since the last call belong to is complete.
    pub(crate) fn close_state(&mut self) {
        self.ends.push(self.edges.len());
    }

    fn of(&self, state: u32) -> &[Edge] {
        let state = state as usize;
        let start = match state.checked_sub(1) {
            Some(before) => self.ends.get(before).copied(),
            None => Some(0),
        };
        let end = self.ends.get(state).copied();
        match (start, end) {
            (Some(start), Some(end)) => {
                self.edges.get(start..end).unwrap_or_default()
            }
            _ => &[],
        }
    }

    /// Where a fair run stays for ever among the states that `avoids` marks:
    /// the entry with the smallest number, so with the shortest way to it.
    pub(crate) fn unfair_to(&self, avoids: &[bool]) -> Option<Lasso> {
        let all = self.edges.iter().fold(0u64, |set, e| set | bit(e.actor));
        let actors = all & !bit(UNFAIR as u8);
        let mut best: Option<(u32, Vec<u32>)> = None;
        for component in self.components(avoids) {
            let entry = component.iter().copied().min();
            let Some(entry) = entry else { continue };
            let closer = best.as_ref().is_none_or(|(best, _)| entry < *best);
            if closer && self.is_fair(&component, actors) {
                best = Some((entry, component));
            }
        }
        let (entry, component) = best?;
        Some(Lasso { entry, cycle: self.round(entry, &component, actors) })
    }

    /// Whether a run can stay in `component` for ever without unfairness.
    fn is_fair(&self, component: &[u32], actors: u64) -> bool {
        let inside = sorted(component);
        let fair = |edge: &Edge| usize::from(edge.actor) != UNFAIR;
        let dead = |s: &u32| !self.of(*s).iter().any(fair);
        if component.len() == 1 && component.iter().all(dead) {
            return true;
        }
        let mut taken = 0;
        let mut idle = 0;
        for &state in component {
            let (can, stays) = self.enabled(state, &inside);
            taken |= stays;
            idle |= !can;
        }
        taken != 0 && (taken | idle) & actors == actors
    }

    /// Who can take a step in `state`, and whose steps stay inside.
    fn enabled(&self, state: u32, inside: &[u32]) -> (u64, u64) {
        self.of(state).iter().fold((0, 0), |(can, stays), edge| {
            let actor = bit(edge.actor);
            let stay = inside.binary_search(&edge.target).is_ok();
            (can | actor, if stay { stays | actor } else { stays })
        })
    }

    /// A closed walk in the component on which every actor is seen to take a
    /// step or to be unable to.
    fn round(&self, entry: u32, component: &[u32], actors: u64) -> Vec<Edge> {
        let inside = sorted(component);
        let mut cycle = Vec::new();
        let mut at = entry;
        let mut served = 0;
        while served & actors != actors {
            // The nearest state that serves an actor not served yet, by being
            // unable to go on there or by a step that it takes from there.
            let found = self.walk(at, &inside, |state| {
                let (can, stays) = self.enabled(state, &inside);
                (!can | stays) & actors & !served != 0
            });
            let Some(path) = found else { break };
            for edge in path {
                served |= bit(edge.actor);
                at = edge.target;
                cycle.push(edge);
            }
            let (can, _) = self.enabled(at, &inside);
            served |= !can;
            if served & actors != actors
                && let Some(&edge) = self.of(at).iter().find(|edge| {
                    bit(edge.actor) & !served != 0
                        && inside.binary_search(&edge.target).is_ok()
                })
            {
                served |= bit(edge.actor);
                at = edge.target;
                cycle.push(edge);
            }
        }
        // Back to the entry; at least one step, if there is one.
        if at != entry || cycle.is_empty() {
            let first = self.of(at).iter().find(|edge| {
                cycle.is_empty() && inside.binary_search(&edge.target).is_ok()
            });
            if let Some(&edge) = first {
                at = edge.target;
                cycle.push(edge);
            }
            let back = self.walk(at, &inside, |state| state == entry);
            cycle.extend(back.into_iter().flatten());
        }
        cycle
    }

    /// The shortest walk inside, from `start` to a state that `wanted` likes.
    fn walk(
        &self,
        start: u32,
        inside: &[u32],
        wanted: impl Fn(u32) -> bool,
    ) -> Option<Vec<Edge>> {
        let place = |state: u32| inside.binary_search(&state).ok();
        let mut from = vec![None; inside.len()];
        let mut queue = VecDeque::from([start]);
        while let Some(state) = queue.pop_front() {
            if wanted(state) {
                let mut path = Vec::new();
                let mut at = state;
                while at != start {
                    let step = from.get(place(at)?).copied().flatten();
                    let (before, edge): (u32, Edge) = step?;
                    path.push(edge);
                    at = before;
                }
                path.reverse();
                return Some(path);
            }
            for &edge in self.of(state) {
                let Some(slot) = place(edge.target) else { continue };
                if edge.target != start
                    && let Some(slot @ None) = from.get_mut(slot)
                {
                    *slot = Some((state, edge));
                    queue.push_back(edge.target);
                }
            }
        }
        None
    }

    /// Strongly connected components of the states that `among` marks:
    /// Tarjan's algorithm with a stack of its own instead of recursion.
    fn components(&self, among: &[bool]) -> Vec<Vec<u32>> {
        const NEW: u32 = u32::MAX;
        let count = self.ends.len();
        let inside =
            |s: u32| among.get(s as usize).copied().unwrap_or_default();
        let mut order = vec![NEW; count];
        let mut low = vec![NEW; count];
        let mut on_stack = vec![false; count];
        let mut stack = Vec::new();
        let mut clock = 0;
        let mut components = Vec::new();
        for root in 0..count as u32 {
            if !inside(root) || order[root as usize] != NEW {
                continue;
            }
            let mut calls = vec![(root, 0usize)];
            while let Some((state, next)) = calls.pop() {
                let s = state as usize;
                if next == 0 {
                    order[s] = clock;
                    low[s] = clock;
                    clock += 1;
                    stack.push(state);
                    on_stack[s] = true;
                }
                if let Some(edge) = self.of(state).get(next) {
                    calls.push((state, next + 1));
                    let t = edge.target as usize;
                    if t >= count || !inside(edge.target) {
                        continue;
                    }
                    if order[t] == NEW {
                        calls.push((edge.target, 0));
                    } else if on_stack[t] {
                        low[s] = low[s].min(order[t]);
                    }
                    continue;
                }
                if let Some(&(caller, _)) = calls.last() {
                    let c = caller as usize;
                    low[c] = low[c].min(low[s]);
                }
                if low[s] == order[s] {
                    let mut component = Vec::new();
                    while let Some(member) = stack.pop() {
                        on_stack[member as usize] = false;
                        component.push(member);
                        if member == state {
                            break;
                        }
                    }
                    components.push(component);
                }
            }
        }
        components
    }
}

fn sorted(states: &[u32]) -> Vec<u32> {
    let mut states = states.to_vec();
    states.sort_unstable();
    states
}

fn bit(actor: u8) -> u64 {
    1 << (actor & 63)
}
