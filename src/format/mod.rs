//! What bytes mean, and how they are shown. No reading, no writing.
//!
//! Everything about backups is behind the feature `backup`: it brings ciphers,
//! digests and decompressors that a user of the store alone does not need.

#[cfg(feature = "backup")]
pub mod chunk;
#[cfg(feature = "backup")]
pub mod cipher;
#[cfg(feature = "backup")]
pub mod compression;
pub mod device;
pub mod document;
pub mod escape;
#[cfg(feature = "backup")]
pub mod header;
#[cfg(feature = "backup")]
pub mod hmac;
pub mod kernelopts;
#[cfg(feature = "backup")]
pub mod limits;
#[cfg(feature = "backup")]
pub mod manifest;
#[cfg(feature = "backup")]
pub mod qfile;
mod quote;
mod splice;
#[cfg(feature = "backup")]
pub mod tar;
