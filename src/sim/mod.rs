//! A disk and its processes as one value: what the kernel would answer.
//!
//! Lives here: the semantics of the calls in `fsm::call`, as
//! `spec/assumptions.md` states them. May not live here: any protocol.
//!
//! [`disk`] answers calls. [`crash`] looks on and knows what a power cut may
//! leave of them; [`fault`] knows which numbers a failing call may give.

pub mod crash;
pub mod disk;
pub mod fault;
