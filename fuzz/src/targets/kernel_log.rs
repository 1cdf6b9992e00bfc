//! Untrusted lines of a kernel log: recognised or not, never a panic; what is
//! shown of them has no control characters.
//!
//! Lives here: that, and lines to begin with. May not live here: the options
//! of a kernel.

use qubes_fsm::store::kernelopts::explain_line;

use super::{Seed, texts};

const LINE: &str = "x86/PAT: qubes-gui:664 map pfn expected mapping type \
                    write-back for [mem 0x00093000-0x00093fff], got \
                    uncached-minus";

/// Whether the line tells of a conflict.
pub fn run(untrusted_line: &[u8]) -> bool {
    let Some(conflict) = explain_line(untrusted_line) else { return false };
    assert!(conflict.first <= conflict.last);
    let text = conflict.explanation();
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
    true
}

/// The line, and others like it.
pub fn seeds() -> Vec<Seed> {
    let edit = |from: &str, to: &str| LINE.replacen(from, to, 1).into_bytes();
    vec![
        Seed::good("line", LINE.as_bytes()),
        Seed::good("control", &edit("qubes-gui", "q\u{1b}[2Ji")),
        Seed::good("time", &edit("x86", "[   12.345678] x86")),
        Seed::bad("backwards", &edit("0x00093fff", "0x00000fff")),
        Seed::bad("other", b"x86/PAT: Configuration [0-7]: WB WC"),
        Seed::bad("empty", b""),
    ]
}

/// Its parts.
pub fn words() -> Vec<Vec<u8>> {
    texts(&[
        " map pfn expected mapping type ",
        "write-back",
        "uncached-minus",
        "write-combining",
        " for [mem 0x00093000-0x00093fff], got ",
        "x86/PAT: ",
        "qubes-gui:664",
    ])
}
