//! The source of a backup: what of a directory is in it, and each file of it
//! as an inner archive, judged by GNU tar, by our decoder and by a restore.

#![cfg(feature = "backup")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

mod archive;
#[path = "source/changes.rs"]
mod changes;
#[path = "source/contents.rs"]
mod contents;
#[path = "archive/facts.rs"]
mod facts;
#[path = "source/scene.rs"]
mod scene;
#[path = "source/streams.rs"]
mod streams;
mod tar_support;
#[path = "archive/trees.rs"]
mod trees;
