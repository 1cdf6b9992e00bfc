//! Backups of format 3, written to a file or a pipe.
//!
//! Lives here: what the writing side is made of. May not live here: the order
//! of things (`fsm::backup`), the meaning of bytes (`format`).

pub mod source;
