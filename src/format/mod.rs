//! What bytes mean, and how they are shown. No reading, no writing.

pub mod escape;
