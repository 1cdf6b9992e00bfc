//! The system calls of the command line: a terminal that does not show what
//! is typed, and a signal to a program of ours.
//!
//! Lives here: those calls. May not live here: what is asked for, texts of
//! errors.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::process::Child;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno as Os;
use rustix::process::{Pid, Signal, kill_process};
use rustix::termios::{
    LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr,
};
use zeroize::Zeroizing;

/// How often somebody who waits looks whether it was canceled.
pub(super) const TICK: Duration = Duration::from_millis(50);

/// The terminal of this process, silent until it is dropped.
pub(super) struct Terminal {
    file: File,
    before: Termios,
}

impl Terminal {
    /// Opens it, whatever stdin is, and asks. What was typed before is
    /// thrown away: it was shown.
    pub(super) fn ask(question: &str) -> std::io::Result<Self> {
        let mut options = File::options();
        let file = options.read(true).write(true).open("/dev/tty")?;
        let before = tcgetattr(&file)?;
        let mut silent = before.clone();
        // Ctrl-C stays a signal, and a line can still be corrected.
        silent.local_modes.remove(LocalModes::ECHO | LocalModes::ECHONL);
        tcsetattr(&file, OptionalActions::Flush, &silent)?;
        let mut terminal = Self { file, before };
        terminal.file.write_all(question.as_bytes())?;
        Ok(terminal)
    }

    /// What is typed, up to the end of the line; `None` once it is canceled.
    pub(super) fn line(
        &mut self,
        is_canceled: &dyn Fn() -> bool,
    ) -> std::io::Result<Option<Zeroizing<Vec<u8>>>> {
        // The kernel gives at most 4,096 bytes of one line.
        let mut line = Zeroizing::new(Vec::with_capacity(2 * 4096));
        let mut piece = Zeroizing::new([0; 4096]);
        loop {
            if is_canceled() {
                return Ok(None);
            }
            let ready = &mut [PollFd::new(&self.file, PollFlags::IN)];
            let tick = Timespec { tv_sec: 0, tv_nsec: TICK.as_nanos() as i64 };
            match poll(ready, Some(&tick)) {
                Ok(0) | Err(Os::INTR) => continue,
                polled => polled?,
            };
            let count = match self.file.read(&mut *piece) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {
                    continue;
                }
                count => count?,
            };
            line.extend(piece.get(..count).unwrap_or_default());
            if count == 0 || line.contains(&b'\n') {
                return Ok(Some(line));
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.file, OptionalActions::Now, &self.before);
        // The end of the line was not shown either.
        let _ = self.file.write_all(b"\n");
    }
}

/// TERM for a child, which is not reaped yet.
pub(super) fn terminate(child: &Child) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        let _ = kill_process(pid, Signal::TERM);
    }
}
