//! Backups of format 3, read from and written to a file or a pipe.
//!
//! Lives here: what a caller asks of an archive and what it is told, and the
//! driver that gives the answers which the machine `fsm::restore` asks for.
//! May not live here: the order of things (the machine), the meaning of bytes
//! (`format`), system calls (`backup::kernel`).

mod complete;
pub mod decode;
pub mod error;
pub mod filter;
mod kernel;
mod members;
pub mod read;
pub mod refusal;
pub mod report;
mod supply;
pub mod tree;
pub mod write;
