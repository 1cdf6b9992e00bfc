//! Names and numbers of block devices, and the command `device`.
//!
//! Lives here: modules by subject. Kernel and Xen are read in `names.txt`;
//! what a machine has is compared with `stat`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

#[cfg(feature = "cli")]
mod command;
mod history;
mod laws;
#[cfg(feature = "cli")]
mod machine;
mod numbers;
#[cfg(feature = "cli")]
mod run;
mod table;
