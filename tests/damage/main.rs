//! Every kind of damage to an archive: which error names it, which exit code
//! it has, and that nothing wrong is left in the directory. Each row is read
//! clear and encrypted, with and without a manifest, with and without
//! `keep_going`, into an empty directory and one with other files, and once
//! more by the program.
//!
//! Where format 3 without a manifest cannot know, the row says so in its name.

#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

#[macro_use]
mod row;
mod cuts;
mod inner;
mod manifest;
mod order;
mod outer;
mod scene;
mod texts;
mod verdicts;
mod writer;
