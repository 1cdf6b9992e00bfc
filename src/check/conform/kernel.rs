//! The one system call of the conformance kit: the end of a program and of
//! all that it has started.
//!
//! Lives here: that call. May not live here: when it is made.

use std::process::Child;

use rustix::process::{Pid, Signal, kill_process_group};

/// Kills the process group of a child, which is not reaped yet.
pub(super) fn kill(child: &Child) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        let _ = kill_process_group(pid, Signal::KILL);
    }
}
