//! Untrusted lines of a kernel log: recognised or not, never a panic; what is
//! shown of them has no control characters.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qubes_fsm::store::kernelopts::explain_line;

fuzz_target!(|untrusted_line: &[u8]| {
    if let Some(conflict) = explain_line(untrusted_line) {
        assert!(conflict.first <= conflict.last);
        let text = conflict.explanation();
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
    }
});
