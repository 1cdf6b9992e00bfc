//! A second opinion on `spec/Lock.tla`; see `tests/tla.rs`. There is nothing
//! here but tests, in a package of their own for the sake of what they need.
