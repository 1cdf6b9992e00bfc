//! A refusal of the phase machines: an answer that its effect cannot have.
//!
//! Lives here: the one error that they share. May not live here: failures of
//! the world, which are events. (`fsm::Unexpected` is the store's; its event
//! is a call of the store.)

use core::fmt;

/// An answer that the effect before it cannot have: a bug of a driver.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("state {state}: event {event} is no answer to what was asked there")]
pub struct Refused {
    /// The state, as `Debug` writes it.
    pub state: String,
    /// The event that has no row in the table, as `Debug` writes it.
    pub event: String,
}

impl Refused {
    pub(crate) fn new(state: impl fmt::Debug, event: impl fmt::Debug) -> Self {
        Self { state: format!("{state:?}"), event: format!("{event:?}") }
    }
}
