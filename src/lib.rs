//! x
#![forbid(unsafe_code)]
#[cfg(feature = "check")]
pub mod check;
#[cfg(feature = "cli")]
pub mod cli;
pub mod format;
pub mod fsm;
#[cfg(feature = "check")]
pub mod sim;
pub mod store;
