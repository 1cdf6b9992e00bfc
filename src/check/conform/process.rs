//! A program under test: one process of its own, which is told to make its
//! next call and answers with one line.
//!
//! Lives here: the lines, and how a program is started and ended. May not
//! live here: which process goes when.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;
use std::time::{Duration, Instant};

use super::ConformError;
use super::kernel;
use crate::format::escape::Escaped;

/// Bytes of an answer at most.
pub const ANSWER_BYTES_MAX: u64 = 4096;
/// How long a program that has closed its stdout may take to end.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a program did when it was told to make its next call.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Answer {
    /// The call, and its answer.
    Did(String),
    /// Another has the lock: nothing has happened.
    Wait(String),
    /// The session is over, and its update saved.
    Done,
    /// The session is over, and its update is not promised.
    Failed(String),
}

/// What a program has written.
struct Line {
    text: Vec<u8>,
    /// Not so where it goes on, further than an answer may.
    whole: bool,
}

/// One program.
pub(super) struct Process {
    /// From 0.
    number: usize,
    child: Arc<Mutex<Child>>,
    input: ChildStdin,
    answers: Receiver<Line>,
    answer_max: Duration,
}

/// Those that run, for a process that is told to end.
static CHILDREN: Mutex<Vec<Arc<Mutex<Child>>>> = Mutex::new(Vec::new());

/// Ends the programs of a kit that is under way; call it before ending the
/// process early.
pub(super) fn clean_up() {
    for child in locked(&CHILDREN).drain(..) {
        end(&mut locked(&child));
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn end(child: &mut Child) {
    // Whoever was reaped has no group any more, or one of somebody else.
    if let Ok(None) = child.try_wait() {
        kernel::kill(child);
    }
    let _ = child.wait();
}

impl Process {
    pub(super) fn start(
        number: usize,
        command: &str,
        answer_max: Duration,
    ) -> Result<Self, ConformError> {
        let failed = |source| ConformError::Start { source };
        let mut child = Command::new("sh")
            .args(["-c", command])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let pipes = (child.stdin.take(), child.stdout.take());
        let child = Arc::new(Mutex::new(child));
        locked(&CHILDREN).push(Arc::clone(&child));
        let (Some(input), Some(output)) = pipes else {
            return Err(failed(std::io::Error::other("no pipe")));
        };
        let (sender, answers) = channel();
        let this = Self { number, child, input, answers, answer_max };
        // It may never answer: whoever waits must not read.
        let started = Builder::new().spawn(move || {
            let mut output = BufReader::new(output);
            while let Some(line) = line(&mut output) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let process = number + 1;
        started.map_err(|source| ConformError::Thread { process, source })?;
        Ok(this)
    }

    /// A new session, on the store in `directory`.
    pub(super) fn begin(
        &mut self,
        update: &str,
        directory: &Path,
    ) -> Result<(), ConformError> {
        let directory = directory.display();
        let answer = self.ask(&format!("begin {update} {directory}"))?;
        if answer == b"ready" {
            return Ok(());
        }
        Err(self.nonsense(&answer, "ready"))
    }

    /// Its next call.
    pub(super) fn step(&mut self) -> Result<Answer, ConformError> {
        let answer = self.ask("step")?;
        let text = |rest: &[u8]| Escaped(rest).to_string();
        if let Some(call) = answer.strip_prefix(b"did ") {
            return Ok(Answer::Did(text(call)));
        }
        if let Some(call) = answer.strip_prefix(b"wait ") {
            return Ok(Answer::Wait(text(call)));
        }
        if let Some(why) = answer.strip_prefix(b"failed ") {
            return Ok(Answer::Failed(text(why)));
        }
        if answer == b"done" {
            return Ok(Answer::Done);
        }
        let wanted = "did CALL, wait CALL, failed TEXT or done";
        Err(self.nonsense(&answer, wanted))
    }

    fn ask(&mut self, question: &str) -> Result<Vec<u8>, ConformError> {
        match self.answers.try_recv() {
            Ok(Line { text, .. }) => {
                return Err(self.nonsense(&text, "nothing before a question"));
            }
            Err(TryRecvError::Disconnected) => return Err(self.died()),
            Err(TryRecvError::Empty) => {}
        }
        let question = format!("{question}\n");
        let told = self.input.write_all(question.as_bytes());
        if told.and_then(|()| self.input.flush()).is_err() {
            return Err(self.died());
        }
        match self.answers.recv_timeout(self.answer_max) {
            Ok(Line { text, whole: true }) => Ok(text),
            Ok(Line { text, whole: false }) => {
                Err(self.nonsense(&text, "a line of at most 4096 bytes"))
            }
            Err(RecvTimeoutError::Disconnected) => Err(self.died()),
            Err(RecvTimeoutError::Timeout) => Err(ConformError::Hung {
                process: self.number + 1,
                answer_max: self.answer_max,
            }),
        }
    }

    fn nonsense(&self, found: &[u8], wanted: &'static str) -> ConformError {
        let found = Escaped(found).to_string();
        let found = found.chars().take(SHOWN_MAX).collect();
        ConformError::Nonsense { process: self.number + 1, found, wanted }
    }

    /// How it ended, once its stdout has.
    fn died(&self) -> ConformError {
        let started = Instant::now();
        let mut child = locked(&self.child);
        let mut how = "closed its stdout".to_owned();
        while started.elapsed() < PATIENCE {
            if let Ok(Some(status)) = child.try_wait() {
                how = status.to_string();
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        ConformError::Died { process: self.number + 1, how }
    }
}

/// Characters of a wrong answer that an error shows.
const SHOWN_MAX: usize = 160;

/// One line without its end; `None` at the end, also in the midst of a line.
fn line(output: &mut BufReader<ChildStdout>) -> Option<Line> {
    let mut text = Vec::new();
    let mut limited = output.take(ANSWER_BYTES_MAX);
    limited.read_until(b'\n', &mut text).ok()?;
    if text.last() == Some(&b'\n') {
        text.pop();
        return Some(Line { text, whole: true });
    }
    let is_long = text.len() as u64 == ANSWER_BYTES_MAX;
    is_long.then_some(Line { text, whole: false })
}

impl Drop for Process {
    fn drop(&mut self) {
        end(&mut locked(&self.child));
        let child = &self.child;
        locked(&CHILDREN).retain(|other| !Arc::ptr_eq(other, child));
    }
}
