//! Qubes OS store and backup protocols as explicit, checked state machines.
//!
//! `qubes.xml` is one file that several processes lock, rewrite and rename.
//! Here that protocol is a machine that does nothing itself: it names the next
//! system call and is told the answer ([`fsm`]). The same machine runs on the
//! kernel ([`store`]), on a simulated disk, in an exhaustive explorer, under
//! loom, and step by step in real processes (`check`).
//!
//! Without default features this is the small library to embed: [`store`],
//! [`fsm`] and [`mod@format`].
//!
//! ```
//! use qubes_fsm::store::Store;
//! use qubes_fsm::store::document::{Document, Limits};
//!
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("qubes.xml");
//! # std::fs::write(&path, concat!(
//! #     "<QubesVmCollection>",
//! #     "<QubesAppVm name='work' qid='2' memory='400'/>",
//! #     "</QubesVmCollection>",
//! # ))?;
//! let store = Store::open(&path)?;
//! // Nobody else, Python's qubesd included, changes the store from here ...
//! let loaded = store.lock()?.load()?;
//! let document =
//!     Document::parse(loaded.content().to_vec(), &Limits::default())?;
//! let content = document.set("work", "memory", "800")?;
//! let durable = loaded.save(content)?;
//! // ... to here, and a power cut does not take it away.
//! durable.release();
//! # assert!(std::fs::read_to_string(&path)?.contains("memory='800'"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The map of the crate is ARCHITECTURE.md; what the protocol promises, and
//! what it takes for granted, is in the folder `spec`.

#[cfg(feature = "backup")]
pub mod backup;
#[cfg(feature = "check")]
pub mod check;
#[cfg(feature = "cli")]
pub mod cli;
pub mod format;
pub mod fsm;
#[cfg(feature = "check")]
pub mod sim;
pub mod store;
