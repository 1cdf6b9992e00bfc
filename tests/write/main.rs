//! `backup`: what it writes is restored by us and by tar, openssl and the
//! filters; and how it ends when it is canceled, killed, out of space, or when
//! what it reads changes.
//!
//! Lives here: modules by subject. Only what reading is asked for is written
//! by the writer that is tested; trees and readers are others' (`archive`,
//! tar, openssl).

#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

#[path = "../archive/mod.rs"]
mod archive;
#[allow(dead_code, reason = "each test program uses some of it")]
#[path = "../archive/facts.rs"]
mod facts;
#[allow(dead_code, reason = "each test program uses some of it")]
#[path = "../process/running.rs"]
mod running;
#[path = "../archive/trees.rs"]
mod trees;
#[path = "../damage/writer.rs"]
mod writer;

mod cancel;
mod failing;
mod report;
mod roundtrip;
mod scene;
mod table;
mod target;
