//! One outside program and the pipes to it: the only file of the filters with
//! system calls.
//!
//! Lives here: start, poll, read, write, signal, wait. May not live here:
//! which program, when it is ended, texts of errors.

use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{self, Access, FileType, OFlags};
use rustix::io::{self, Errno as Os};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group,
    pidfd_open, pidfd_send_signal, waitid,
};

/// A call that failed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failed {
    pub(super) call: &'static str,
    pub(super) errno: i32,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ended {
    /// By itself, with this exit status.
    Exit(i32),
    /// By a signal of this number.
    Signal(i32),
}

/// A program that was started and not reaped yet, with a process group of its
/// own. The number stays its own until [`reap`](Self::reap).
#[derive(Debug)]
pub(super) struct Process {
    pid: Pid,
    pidfd: OwnedFd,
}

/// Our ends of the pipes to a program; what is `None` was closed.
#[derive(Debug)]
pub(super) struct Pipes {
    pub(super) input: Option<OwnedFd>,
    pub(super) output: Option<OwnedFd>,
    pub(super) errors: Option<OwnedFd>,
    /// The other end of `input`. It shows what the program did not read, and
    /// while it is open a write cannot raise SIGPIPE.
    unread: OwnedFd,
}

/// What can go on without waiting.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ready {
    pub(super) input: bool,
    pub(super) output: bool,
    pub(super) errors: bool,
    /// The program has ended; it is not reaped.
    pub(super) ended: bool,
}

/// Whether there is a file that we may execute.
pub(super) fn is_program(path: &Path) -> bool {
    let is_file = fs::stat(path).is_ok_and(|stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
    });
    is_file && fs::access(path, Access::EXEC_OK).is_ok()
}

/// Starts `PATH -d -c` with nothing of ours but three pipes.
pub(super) fn start(path: &Path) -> Result<(Process, Pipes), Failed> {
    let (unread, input) =
        pipe_with(PipeFlags::CLOEXEC).map_err(failed("pipe2"))?;
    let copy = io::fcntl_dupfd_cloexec(&unread, 0).map_err(failed("dup"))?;
    let mut child = Command::new(path)
        .args(["-d", "-c"])
        .env_clear()
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::from(copy))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| Failed {
            call: "start",
            errno: error.raw_os_error().unwrap_or_default(),
        })?;
    let output = child.stdout.take().map(OwnedFd::from);
    let errors = child.stderr.take().map(OwnedFd::from);
    let opened = open(child.id()).and_then(|process| {
        for fd in [Some(&input), output.as_ref(), errors.as_ref()] {
            fd.map_or(Ok(()), does_not_block)?;
        }
        Ok(process)
    });
    match opened {
        Ok(process) => {
            let input = Some(input);
            Ok((process, Pipes { input, output, errors, unread }))
        }
        Err(failed) => {
            let _ = child.kill();
            let _ = child.wait();
            Err(failed)
        }
    }
}

fn open(number: u32) -> Result<Process, Failed> {
    let pid = i32::try_from(number).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or(Os::SRCH).map_err(failed("pidfd_open"))?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty());
    Ok(Process { pid, pidfd: pidfd.map_err(failed("pidfd_open"))? })
}

fn does_not_block(fd: &OwnedFd) -> Result<(), Failed> {
    let flags = fs::fcntl_getfl(fd).map_err(failed("fcntl"))?;
    fs::fcntl_setfl(fd, flags | OFlags::NONBLOCK).map_err(failed("fcntl"))
}

impl Process {
    /// Its process id, which is also that of its group.
    pub(super) fn number(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// TERM for it and everything in its group.
    pub(super) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// KILL for it and everything in its group.
    pub(super) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    // A failure says that nobody is left to be signalled. The group's number
    // is nobody else's, since its leader was not reaped; the leader is named
    // apart, since it may have left the group.
    fn signal(&self, signal: Signal) {
        let _ = pidfd_send_signal(&self.pidfd, signal);
        let _ = kill_process_group(self.pid, signal);
    }

    /// How it ended, if it did. It is not reaped.
    pub(super) fn ended(&self) -> Result<Option<Ended>, Failed> {
        let options = WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let status = self.wait(options)?;
        Ok(status.map(|status| match status.terminating_signal() {
            Some(signal) => Ended::Signal(signal),
            None => Ended::Exit(status.exit_status().unwrap_or_default()),
        }))
    }

    /// Waits for its end, at most so long. It is not reaped.
    pub(super) fn await_end(&self, timeout: Duration) {
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        let _ = poll_for(&mut fds, timeout);
    }

    /// Waits for its end and gives its number back.
    pub(super) fn reap(&self) {
        let _ = self.wait(WaitIdOptions::empty());
    }

    fn wait(
        &self,
        options: WaitIdOptions,
    ) -> Result<Option<rustix::process::WaitIdStatus>, Failed> {
        loop {
            let id = WaitId::PidFd(self.pidfd.as_fd());
            match waitid(id, options | WaitIdOptions::EXITED) {
                Err(Os::INTR) => {}
                status => return status.map_err(failed("waitid")),
            }
        }
    }
}

impl Pipes {
    /// Waits until something can go on, at most so long. For room in the
    /// input, and for the end, only if they are wanted.
    pub(super) fn poll(
        &self,
        process: &Process,
        wanted: Ready,
        timeout: Duration,
    ) -> Result<Ready, Failed> {
        let input = self.input.as_ref().filter(|_| wanted.input);
        let output = self.output.as_ref().filter(|_| wanted.output);
        let errors = self.errors.as_ref().filter(|_| wanted.errors);
        let end = Some(&process.pidfd).filter(|_| wanted.ended);
        let all = [
            input.map(|fd| PollFd::new(fd, PollFlags::OUT)),
            output.map(|fd| PollFd::new(fd, PollFlags::IN)),
            errors.map(|fd| PollFd::new(fd, PollFlags::IN)),
            end.map(|fd| PollFd::new(fd, PollFlags::IN)),
        ];
        let is_there = all.each_ref().map(Option::is_some);
        let mut fds: Vec<_> = all.into_iter().flatten().collect();
        poll_for(&mut fds, timeout)?;
        let mut fds = fds.iter();
        let [input, output, errors, ended] = is_there.map(|is_there| {
            let fd = if is_there { fds.next() } else { None };
            fd.is_some_and(|fd| !fd.revents().is_empty())
        });
        Ok(Ready { input, output, errors, ended })
    }

    /// Reads what the program left of its input, once it has ended; `None`
    /// when that was all.
    pub(super) fn read_unread(
        &self,
        buffer: &mut [u8],
    ) -> Result<Option<usize>, Failed> {
        does_not_block(&self.unread)?;
        let read = read(&self.unread, buffer)?;
        Ok(read.filter(|count| *count > 0))
    }
}

/// Reads what is there: `None` if nothing is yet, 0 at the end.
pub(super) fn read(
    fd: &OwnedFd,
    buffer: &mut [u8],
) -> Result<Option<usize>, Failed> {
    match io::read(fd, buffer) {
        Ok(count) => Ok(Some(count)),
        Err(Os::AGAIN | Os::INTR) => Ok(None),
        Err(errno) => Err(failed("read")(errno)),
    }
}

/// Writes what there is room for, perhaps nothing.
pub(super) fn write(fd: &OwnedFd, bytes: &[u8]) -> Result<usize, Failed> {
    match io::write(fd, bytes) {
        Ok(count) => Ok(count),
        Err(Os::AGAIN | Os::INTR) => Ok(0),
        Err(errno) => Err(failed("write")(errno)),
    }
}

fn poll_for(fds: &mut [PollFd<'_>], timeout: Duration) -> Result<(), Failed> {
    let timeout = Timespec::try_from(timeout).ok();
    match poll(fds, timeout.as_ref()) {
        Ok(_) | Err(Os::INTR) => Ok(()),
        Err(errno) => Err(failed("poll")(errno)),
    }
}

fn failed(call: &'static str) -> impl FnOnce(Os) -> Failed {
    move |errno| Failed { call, errno: errno.raw_os_error() }
}
