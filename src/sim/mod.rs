//! A disk and its processes as one value: what the kernel would answer.
//!
//! Lives here: the semantics of the calls in `fsm::call`, as
//! `spec/assumptions.md` states them. May not live here: any protocol.
//!
//! Not here yet: what a crash leaves of writes that were not synced
//! (`sim::crash`), and calls that fail (`sim::fault`). Both wrap
//! [`disk::Disk`]: its [`apply`](disk::Disk::apply) stays the only place that
//! answers a call.

pub mod disk;
