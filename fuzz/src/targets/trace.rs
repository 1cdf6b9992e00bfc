//! Untrusted traces, of `strace` or of a log: judged or refused, never a
//! panic. A verdict counts what is there, names a line of the text, and holds
//! for all that comes before: what begins a run of the protocol is one.
//!
//! Lives here: that, and runs to begin with. May not live here: what a call
//! means; that is the library's.

use qubes_fsm::check::validate::{Source, TraceError, Validated, validate};
use qubes_fsm::fsm::protocol::{NAMED, Protocol, SHIPPED};

use super::{Seed, refused, texts};

const OWN_LOG: &[u8] = include_bytes!("../../../tests/traces/own.log");
const OWN: &[u8] = include_bytes!("../../../tests/traces/own.strace");
const LOST: &[u8] = include_bytes!("../../../tests/traces/two-2016.strace");

/// Whether it is a run of the shipped protocol.
pub fn run(untrusted_bytes: &[u8]) -> bool {
    for protocol in NAMED {
        judge(untrusted_bytes, protocol, None);
    }
    judge(untrusted_bytes, SHIPPED, Some(b"/tmp/q/qubes.xml"));
    judge(untrusted_bytes, SHIPPED, None)
}

fn judge(untrusted: &[u8], protocol: Protocol, store: Option<&[u8]>) -> bool {
    let validated = match validate(untrusted, protocol, store) {
        Ok(validated) => validated,
        Err(error) => return refused(&error),
    };
    let text = validated.text();
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
    let lines = untrusted.split(|byte| *byte == b'\n').count();
    let calls: u64 = validated.processes.iter().map(|p| p.calls as u64).sum();
    assert!(calls <= lines as u64, "{calls} calls on {lines} lines");
    for sessions in &validated.processes {
        assert!(sessions.finished <= sessions.calls, "{sessions:?}");
    }
    let Some(refused) = &validated.refused else {
        if validated.source == Source::Log {
            begins(untrusted, lines - 1, protocol);
        }
        return true;
    };
    assert!((1..=lines).contains(&refused.line), "{refused:?}");
    assert!(!refused.allowed.is_empty(), "{refused:?}");
    if validated.source == Source::Log {
        begins(untrusted, refused.line - 1, protocol);
    }
    false
}

/// The first `lines` are a run, or nothing at all.
fn begins(untrusted: &[u8], lines: usize, protocol: Protocol) {
    let kept: Vec<_> =
        untrusted.split(|byte| *byte == b'\n').take(lines).collect();
    match validate(&kept.join(&b'\n'), protocol, None) {
        Ok(Validated { refused: None, .. }) | Err(TraceError::Empty) => {}
        other => panic!("{lines} lines, then no more: {other:?}"),
    }
}

/// Runs that were recorded, whole, cut, and out of order.
pub fn seeds() -> Vec<Seed> {
    let lines = |bytes: &[u8]| -> Vec<Vec<u8>> {
        bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
    };
    let cut = |bytes: &[u8], lines_left: usize| {
        lines(bytes)[..lines_left].join(&b'\n')
    };
    let without = |bytes: &[u8], line: usize| {
        let mut lines = lines(bytes);
        lines.remove(line);
        lines.join(&b'\n')
    };
    vec![
        Seed::good("log", OWN_LOG),
        Seed::good("log-cut", &cut(OWN_LOG, 6)),
        Seed::bad("log-unlocked", &without(OWN_LOG, 1)),
        Seed::bad("log-torn", &OWN_LOG[..150]),
        Seed::good("strace", OWN),
        Seed::good("strace-cut", &cut(OWN, 20)),
        Seed::bad("strace-unlocked", &without(OWN, 15)),
        Seed::bad("strace-lost", LOST),
        Seed::bad("empty", b"\n"),
        Seed::bad("other", b"1 read(0, \"\", 1) = 0\n"),
    ]
}

/// What lines of both are made of.
pub fn words() -> Vec<Vec<u8>> {
    texts(&[
        "\"process\":1,",
        "\"session\":1,",
        "\"call\":\"",
        "\"answer\":\"",
        "\"fd\":0,",
        "<unfinished ...>",
        "<... fcntl resumed>",
        "+++ exited with 0 +++",
        "openat(AT_FDCWD</tmp/q>, \"",
        "fcntl(3</tmp/q/qubes.xml>, F_OFD_SETLKW, {l_type=F_WRLCK, \
         l_whence=SEEK_SET, l_start=0, l_len=0}) = 0",
        "rename(\"",
        "renameat2(",
        "fsync(",
        "close(3</tmp/q/qubes.xml>) = 0",
        "unlink(\"",
        " = -1 EAGAIN (Resource temporarily unavailable)",
    ])
}
