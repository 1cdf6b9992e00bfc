//! Does a model do what it should? A contract, a search, and reports.
//!
//! Lives here: the [`Model`] contract that code outside can fulfil, the
//! explorer ([`explore`]), liveness ([`liveness`]), the models of this crate
//! ([`lock`], [`golden`]) and the other ways to run them: under loom
//! ([`interleave`]) and on the real kernel ([`replay`]), and beside their specification
//! ([`compare`]). May not live here:
//! arguments and colours of the command line.

pub mod compare;
pub mod conform;
pub mod directory;
pub mod explore;
pub mod golden;
pub mod interleave;
pub mod liveness;
pub mod lock;
pub mod mutants;
pub mod page;
pub mod partial_order;
pub mod phases;
pub mod plan;
pub mod replay;
pub mod report;
pub mod symmetry;
pub mod trace;
pub mod trouble;
pub mod validate;
pub mod wide;

pub use explore::Coverage;

use core::fmt::Debug;
use core::hash::Hash;

/// What the explorer needs to know of a system.
///
/// ```
/// use qubes_fsm::check::{Model, Property, explore::{Limits, explore}};
///
/// /// Two processes that add one to a counter, not in one step.
/// struct Counter;
///
/// #[derive(Clone, Debug, Eq, Hash, PartialEq)]
/// struct State { counter: u8, read: [Option<u8>; 2], done: [bool; 2] }
///
/// impl Model for Counter {
///     type State = State;
///     type Step = &'static str;
///
///     fn initial(&self) -> Vec<State> {
///         vec![State { counter: 0, read: [None; 2], done: [false; 2] }]
///     }
///     fn steps(&self, state: &State, steps: &mut Vec<(&'static str, State)>) {
///         for p in 0..2 {
///             let mut next = state.clone();
///             match (state.read[p], state.done[p]) {
///                 (None, _) => {
///                     next.read[p] = Some(state.counter);
///                     steps.push(("read", next));
///                 }
///                 (Some(value), false) => {
///                     next.counter = value + 1;
///                     next.done[p] = true;
///                     steps.push(("write", next));
///                 }
///                 (Some(_), true) => {}
///             }
///         }
///     }
///     fn is_end(&self, state: &State) -> bool {
///         state.done == [true; 2]
///     }
///     fn properties(&self) -> Vec<Property<Self>> {
///         vec![Property::always("nothing is lost", |_, state: &State| {
///             state.done != [true; 2] || state.counter == 2
///         })]
///     }
/// }
///
/// let report = explore(&Counter, Limits::default());
/// let trace = report.violation("nothing is lost").unwrap();
/// // read, read, write, write: no shorter run loses an update.
/// assert_eq!(trace.prefix.len(), 4);
/// ```
pub trait Model: Sized {
    /// Everything that decides what can happen next. Small is fast: the
    /// explorer keeps every distinct one.
    type State: Clone + Debug + Eq + Hash;
    /// What a step is called in a trace.
    type Step: Clone + Debug;

    /// Where the system may begin.
    fn initial(&self) -> Vec<Self::State>;

    /// Pushes every step that is enabled in `state`, with the state after it.
    fn steps(
        &self,
        state: &Self::State,
        steps: &mut Vec<(Self::Step, Self::State)>,
    );

    /// Whether nothing more is expected to happen in `state`. A state that
    /// has no step and is no end is a deadlock.
    fn is_end(&self, state: &Self::State) -> bool;

    /// What should be so.
    fn properties(&self) -> Vec<Property<Self>>;

    /// Who takes `step`, below 63: liveness assumes that no actor waits for
    /// ever while it could go on (weak fairness). By default all are one; a
    /// step that may never come is [`UNFAIR`](liveness::UNFAIR).
    fn actor(&self, _step: &Self::Step) -> usize {
        0
    }
}

/// The test of a property in one state.
pub type Test<M> = fn(&M, &<M as Model>::State) -> bool;

/// Something that should be so.
#[derive(Debug)]
pub struct Property<M: Model> {
    /// Its name in reports.
    pub name: &'static str,
    /// In which states the test must be true.
    pub kind: Kind,
    /// The test.
    pub test: Test<M>,
}

/// In which states the test of a property must be true.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// In all that can be reached.
    Always,
    /// In at least one: the twin of an `always` that could hold for want of
    /// states where it might fail.
    Sometimes,
    /// On every fair path, again and again: from wherever the system is, it
    /// comes to such a state.
    Eventually,
}

impl<M: Model> Property<M> {
    /// `test` is true in every reachable state.
    pub fn always(name: &'static str, test: Test<M>) -> Self {
        Self { name, kind: Kind::Always, test }
    }

    /// `test` is true in some reachable state.
    pub fn sometimes(name: &'static str, test: Test<M>) -> Self {
        Self { name, kind: Kind::Sometimes, test }
    }

    /// Whatever happens, a state where `test` is true comes.
    pub fn eventually(name: &'static str, test: Test<M>) -> Self {
        Self { name, kind: Kind::Eventually, test }
    }
}

impl<M: Model> Clone for Property<M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M: Model> Copy for Property<M> {}
