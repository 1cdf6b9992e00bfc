//! A process that runs, and what it came to.
//!
//! Lives here: starting, signalling, waiting with an end. May not live here:
//! archives.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::fs;
use std::io::{Read, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// After this a process hangs, and the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for something that has no event.
pub(crate) fn await_it(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "never came: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub(crate) struct Running {
    child: Child,
    pub(crate) stdin: Option<ChildStdin>,
    out: Collected,
    err: Collected,
}

/// A pipe, read by a thread.
struct Collected {
    bytes: Arc<Mutex<Vec<u8>>>,
    thread: JoinHandle<()>,
}

/// How a process ended.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Collected {
    fn of(pipe: Option<impl Read + Send + 'static>) -> Self {
        let bytes = Arc::<Mutex<Vec<u8>>>::default();
        let shared = Arc::clone(&bytes);
        let thread = std::thread::spawn(move || {
            let Some(mut pipe) = pipe else { return };
            let mut piece = vec![0; 65536];
            while let Ok(count @ 1..) = pipe.read(&mut piece) {
                shared.lock().unwrap().extend(&piece[..count]);
            }
        });
        Self { bytes, thread }
    }

    fn so_far(&self) -> Vec<u8> {
        self.bytes.lock().unwrap().clone()
    }

    fn all(self) -> Vec<u8> {
        self.thread.join().unwrap();
        self.bytes.lock().unwrap().clone()
    }
}

impl Running {
    /// Starts it with stdin open, and reads what it says.
    pub(crate) fn start(command: &mut Command) -> Self {
        Self::start_to(command, Stdio::piped())
    }

    /// The same, with another stdout.
    pub(crate) fn start_to(command: &mut Command, out: Stdio) -> Self {
        command.stdin(Stdio::piped()).stdout(out).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| {
            panic!("{command:?}: {error}");
        });
        let stdin = child.stdin.take();
        let out = Collected::of(child.stdout.take());
        let err = Collected::of(child.stderr.take());
        Self { child, stdin, out, err }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.stdin.as_mut().unwrap().write_all(bytes).unwrap();
    }

    pub(crate) fn out_so_far(&self) -> String {
        String::from_utf8_lossy(&self.out.so_far()).into_owned()
    }

    pub(crate) fn err_so_far(&self) -> String {
        String::from_utf8_lossy(&self.err.so_far()).into_owned()
    }

    /// Returns once a signal would cancel it and not kill it.
    pub(crate) fn await_handlers(&self) {
        await_it("handlers of signals", || catches(self.id()));
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.id(), signal);
    }

    /// Its end, with stdin closed.
    pub(crate) fn finish(mut self) -> Done {
        drop(self.stdin.take());
        self.end()
    }

    /// Its end, with stdin as it is.
    pub(crate) fn end(mut self) -> Done {
        let stdin = self.stdin.take();
        let started = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if started.elapsed() > PATIENCE {
                self.child.kill().unwrap();
                let err = self.err_so_far();
                panic!("it does not end; so far it said {err:?}");
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        drop(stdin);
        let code = status.code().unwrap_or_else(|| {
            panic!("{status}; wanted an exit code");
        });
        let stdout = self.out.all();
        let out = String::from_utf8_lossy(&stdout).into_owned();
        let err = String::from_utf8(self.err.all()).unwrap();
        Done { code, stdout, out, err }
    }

    /// Kills it as nothing can be caught, and reaps it.
    pub(crate) fn slay(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Done {
    /// The one error, without what stands before every error: it is printed
    /// once, whatever else is said.
    pub(crate) fn error(&self) -> &str {
        let all: Vec<&str> =
            self.err.lines().filter(|line| line.contains("ERROR")).collect();
        let [line] = all.as_slice() else { panic!("{self:?}: not one error") };
        let text = line.strip_prefix("qubes-fsm: ERROR: ").unwrap();
        assert!(text.contains(": "), "{text}: no subject");
        text
    }

    /// Lines of JSON; the last is the summary, and knows the real exit.
    pub(crate) fn lines(&self) -> Vec<Value> {
        let parsed = self.out.lines().map(|line| {
            serde_json::from_str::<Value>(line)
                .unwrap_or_else(|error| panic!("{line}: {error}"))
        });
        let lines: Vec<Value> = parsed.collect();
        let Some((last, rest)) = lines.split_last() else {
            panic!("{self:?}: no line")
        };
        assert_eq!(last["type"], "summary");
        assert_eq!(last["exit"], self.code, "{last}");
        assert!(rest.iter().all(|line| line["type"] != "summary"));
        if matches!(self.code, 0 | 3) {
            assert!(last["error"].is_null(), "{last}");
        } else {
            let printed = self.err.replace("\n  because: ", ": ");
            let error = format!(
                "qubes-fsm: ERROR: {}\n",
                last["error"].as_str().unwrap()
            );
            assert!(printed.contains(&error), "{printed:?}: no {error:?}");
        }
        lines
    }

    /// What became of each file: its word and its name.
    pub(crate) fn files(&self) -> Vec<(String, String)> {
        let lines = self.lines();
        let files = lines.iter().filter(|line| line["type"] == "file");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        files.map(|l| (text(&l["state"]), text(&l["name"]))).collect()
    }
}

pub(crate) fn kill(id: u32, signal: Signal) {
    kill_process(Pid::from_raw(id as i32).unwrap(), signal).unwrap();
}

/// Whether a process has handlers for both signals that cancel.
pub(crate) fn catches(id: u32) -> bool {
    let Ok(status) = fs::read_to_string(format!("/proc/{id}/status")) else {
        return false;
    };
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let mask = u64::from_str_radix(mask.unwrap().trim(), 16).unwrap();
    [2, 15].iter().all(|number| mask >> (number - 1) & 1 == 1)
}
