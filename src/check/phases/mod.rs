//! The worlds of the phase machines: what happens to them, what must hold.
//!
//! Lives here: for each machine of reading a backup a world that fulfils
//! [`Model`](super::Model), with faults, cancels and attackers in it, and the
//! mutants as values of its configuration. May not live here: a second
//! version of any machine.
//!
//! Unfair steps (a cancel, a fault, a child's own end) may never happen. So a
//! world that could only go on by one of them also has the step "wait", which
//! changes nothing: liveness then sees a run that stays there.

pub mod ahead;
pub mod archive;
pub mod cancel;
pub mod members;
pub mod restore;
pub mod restore_rules;

/// Name of the property that every fair path of a world comes to an end.
pub const ENDS: &str = "L every fair path ends";
