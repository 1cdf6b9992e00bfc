//! `list`, `verify`, `restore` and `cat` as processes: what others do to them
//! while they run, what they leave, what they say, and every exit code.
//!
//! Lives here: modules by subject. The archives are written by tar and
//! openssl (`tests/archive`), or byte by byte where they promise a manifest
//! or must be odd (`tests/damage/writer.rs`).

#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

#[path = "../archive/mod.rs"]
mod archive;
#[path = "../damage/writer.rs"]
mod writer;

mod cat;
mod codes;
mod disk;
mod ends;
mod passphrase;
mod report;
mod running;
mod scene;
mod shared;
mod signals;
mod terminal;
mod text;
