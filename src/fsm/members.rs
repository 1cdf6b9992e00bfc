//! When a named member of an archive may be read.
//!
//! Lives here: the two opposite rules for the two kinds of sources. May not
//! live here: what a member is, its name, its bytes, the process behind it.
//!
//! An external extractor prints a name as it *begins* a member (`tar -v`); an
//! unpacker of qfile prints it when the member is *closed*. Taking one for
//! the other reads half a file, or waits for a name that never comes. Our own
//! readers report a member when its last byte is there: they are
//! [`Announces::After`]. Source: core-admin-client `restore.py`, the header
//! phase and 7e507cba, which cleared a name that had been read ahead.

use core::ops::ControlFlow::{self, Break, Continue};

use super::refused::Refused;

/// When the source of members says a name.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Announces {
    /// Before the member is written: only the next name, or a clean end,
    /// proves it whole. It needs room for three members: a chunk, its mac,
    /// and the one that proves the mac whole.
    Before,
    /// After its last byte. It needs room for two, a chunk and its mac, and
    /// may wait for room before it goes on.
    After,
}

/// A member, as the driver numbers the names of the source.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Member(pub u32);

/// Hands members on, each when all of it is written.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Members {
    /// Which rule.
    pub announces: Announces,
    /// [`Variant::Right`], outside of tests.
    pub variant: Variant,
    /// Where we are.
    pub state: State,
}

/// What we wait for.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum State {
    /// A name, or the end; a member that is announced and not yet proven.
    Asking(Option<Member>),
    /// A member is whole and is being read; then this.
    Giving(Member, Then),
    /// The source has ended, and nothing is left to give.
    Over {
        /// Whether it ended well, by its exit status too.
        clean: bool,
    },
}

/// What follows a member that was given.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Then {
    /// The next name.
    Ask,
    /// The next name; this one is announced already.
    Hold(Member),
    /// The end, which was clean.
    End,
}

/// What the driver is to do.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Effect {
    /// Read one name of the source, or its end with its exit status.
    Ask,
    /// Hand this member to whoever reads the archive, and wait until it has
    /// been read.
    Give(Member),
}

/// The answer to the last effect.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Event {
    /// [`Effect::Ask`]: a name.
    Named(Member),
    /// [`Effect::Ask`]: no further name.
    End {
        /// The source's exit status was good.
        clean: bool,
    },
    /// [`Effect::Give`]: it was read.
    Given,
}

/// Errors that were made once; tests show that each is found. All but
/// [`Right`](Self::Right) must never be shipped.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Variant {
    /// The rules above.
    #[default]
    Right,
    /// One name of an `After` source is read ahead in the header phase and
    /// never cleared (before core-admin-client 7e507cba).
    ReadAheadKept,
    /// The held name is given again and again: the next never replaces it.
    HeldKept,
    /// The last member is given although the extractor died.
    GivenAfterDeath,
    /// The last member is dropped at a clean end.
    LastDropped,
}

impl Effect {
    /// Whether `event` can be the answer.
    pub fn allows(self, event: Event) -> bool {
        match self {
            Self::Ask => {
                matches!(event, Event::Named(_) | Event::End { .. })
            }
            Self::Give(_) => event == Event::Given,
        }
    }
}

impl Members {
    /// Starts with a source that announces members this way.
    pub fn new(announces: Announces) -> Self {
        let variant = Variant::Right;
        Self { announces, variant, state: State::Asking(None) }
    }

    /// What to do next; at the end, whether it was clean.
    pub fn effect(self) -> ControlFlow<bool, Effect> {
        match self.state {
            State::Asking(_) => Continue(Effect::Ask),
            State::Giving(member, _) => Continue(Effect::Give(member)),
            State::Over { clean } => Break(clean),
        }
    }

    /// Every transition there is; the last arm refuses the rest.
    ///
    /// # Errors
    /// The event is no answer to the effect: a bug of the driver.
    pub fn step(self, event: Event) -> Result<Self, Refused> {
        let state = match (self.state, event) {
            (State::Asking(None), Event::Named(name)) => self.first(name),
            // The next name proves the one before it whole.
            (State::Asking(Some(held)), Event::Named(name)) => {
                self.next(held, name)
            }
            // So does a clean end; a death proves nothing.
            (State::Asking(Some(held)), Event::End { clean }) => {
                self.last(held, clean)
            }
            (State::Asking(None), Event::End { clean }) => {
                State::Over { clean }
            }
            (State::Giving(_, then), Event::Given) => match then {
                Then::Ask => State::Asking(None),
                Then::Hold(name) => State::Asking(Some(name)),
                Then::End => State::Over { clean: true },
            },
            (state, event) => return Err(Refused::new(state, event)),
        };
        Ok(Self { state, ..self })
    }

    fn first(self, name: Member) -> State {
        match (self.announces, self.variant) {
            (Announces::Before, _) => State::Asking(Some(name)),
            (Announces::After, Variant::ReadAheadKept) => {
                State::Giving(name, Then::Hold(name))
            }
            (Announces::After, _) => State::Giving(name, Then::Ask),
        }
    }

    fn next(self, held: Member, name: Member) -> State {
        match (self.announces, self.variant) {
            (Announces::After, Variant::ReadAheadKept) => {
                State::Giving(name, Then::Hold(held))
            }
            (_, Variant::HeldKept) => State::Giving(held, Then::Hold(held)),
            _ => State::Giving(held, Then::Hold(name)),
        }
    }

    fn last(self, held: Member, clean: bool) -> State {
        let given = match self.variant {
            Variant::GivenAfterDeath => true,
            Variant::LastDropped => false,
            Variant::Right | Variant::ReadAheadKept | Variant::HeldKept => {
                clean
            }
        };
        if given {
            State::Giving(held, Then::End)
        } else {
            State::Over { clean }
        }
    }
}
