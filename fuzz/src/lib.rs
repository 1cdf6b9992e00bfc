//! What the fuzz targets do, as a library: the targets call it with bytes of
//! libFuzzer, and `tests/fuzz_seeds.rs` of the crate with the seeds.
//!
//! Lives here: where the parts are. May not live here: an invariant; each is
//! in the file of its target.

// The tests write tar by hand too; there is one such writer.
#[path = "../../tests/tar_support/random.rs"]
mod random;
#[path = "../../tests/tar_support/mod.rs"]
mod tar_support;
pub mod targets;
