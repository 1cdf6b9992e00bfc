//! `qubes-fsm list`, `verify`, `restore`, `cat`: archives for people.
//!
//! Lives here: arguments, progress, reports, signals. May not live here:
//! anything about the archive (`backup`).

use std::fs::File;
use std::io::{
    ErrorKind, IsTerminal as _, Read, Write as _, stderr, stdin, stdout,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use clap::Args;
use parking_lot::Mutex;
use serde_json::{Value, json};
use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;

use super::Talk;
use super::exit::{self, Failure};
use super::passphrase::PassphraseOption;
use crate::backup::filter::{External, Programs, Running};
use crate::backup::read::{Goal, Options, ReadError, read, read_seekable};
use crate::backup::report::{Binding, FileState, Report};
use crate::backup::tree::Target;
use crate::format::escape::Escaped;
use crate::fsm::cancel::{Cancel, Gate};

#[derive(Args, Debug)]
pub(super) struct ListArguments {
    #[command(flatten)]
    archive: Archive,
    /// As one JSON document.
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
pub(super) struct VerifyArguments {
    #[command(flatten)]
    archive: Archive,
    /// Refuse an archive without a manifest.
    #[arg(long)]
    require_manifest: bool,
    /// Decode the files that are whole even if others are damaged.
    #[arg(long)]
    keep_going: bool,
    /// As JSON lines.
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
pub(super) struct RestoreArguments {
    #[command(flatten)]
    archive: Archive,
    /// Only these qubes, or files by their path in the archive.
    names: Vec<String>,
    /// The directory to restore into; it is created if it is missing.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Restore the files that are whole even if others are damaged.
    #[arg(long)]
    keep_going: bool,
    /// Replace files that exist.
    #[arg(long)]
    overwrite: bool,
    /// Refuse an archive without a manifest.
    #[arg(long)]
    require_manifest: bool,
    /// As JSON lines.
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
pub(super) struct CatArguments {
    #[command(flatten)]
    archive: Archive,
    /// Which file, by its path in the archive, such as vm5/private.img.
    path: String,
}

#[derive(Args, Debug)]
struct Archive {
    /// The archive; - is stdin.
    archive: PathBuf,
    #[command(flatten)]
    passphrase: PassphraseOption,
    /// Decompress with the program that the header names, such as lz4, and
    /// not with what is built in.
    #[arg(long)]
    external_filter: bool,
}

/// The gate, and the signal that went through it.
struct Canceled {
    gate: Arc<Mutex<Gate>>,
    running: Running,
    signal: Arc<AtomicU8>,
}

pub(super) fn list(arguments: &ListArguments) -> Result<u8, Failure> {
    let talk = Talk { quiet: true, verbose: 0 };
    let run = Run { json: false, talk, require_manifest: false };
    let (report, _) = run.read(&arguments.archive, Goal::List, false)?;
    let qubes: Vec<Value> = report
        .qubes
        .iter()
        .map(|qube| {
            json!({
                "name": qube.name,
                "class": qube.class,
                "path": qube.path,
                "bytes": qube.bytes,
            })
        })
        .collect();
    let text = if arguments.json {
        let header = header(&report);
        format!("{:#}\n", json!({ "header": header, "qubes": qubes }))
    } else {
        let lines = report.qubes.iter().map(|qube| {
            let [name, class, path] = [&qube.name, &qube.class, &qube.path]
                .map(|text| exit::escaped(text));
            let bytes = qube.bytes.map_or("?".to_owned(), |n| n.to_string());
            format!("{name}\t{class}\t{bytes}\t{path}\n")
        });
        lines.collect()
    };
    exit::print(text.as_bytes())?;
    Ok(if report.omissions.is_empty() { 0 } else { exit::OMISSIONS })
}

pub(super) fn verify(
    arguments: &VerifyArguments,
    talk: Talk,
) -> Result<u8, Failure> {
    let run = Run {
        json: arguments.json,
        talk,
        require_manifest: arguments.require_manifest,
    };
    run.report(&arguments.archive, Goal::Verify, arguments.keep_going)
}

pub(super) fn restore(
    arguments: &RestoreArguments,
    talk: Talk,
) -> Result<u8, Failure> {
    let run = Run {
        json: arguments.json,
        talk,
        require_manifest: arguments.require_manifest,
    };
    let target = Target::open(&arguments.to, arguments.overwrite)?;
    let swept = target.sweep();
    if swept > 0 {
        talk.note(&format!("removed {swept} unfinished restores of the past"));
    }
    let wanted = arguments.names.clone();
    let goal = Goal::Restore { target, wanted };
    run.report(&arguments.archive, goal, arguments.keep_going)
}

pub(super) fn cat(arguments: &CatArguments, talk: Talk) -> Result<u8, Failure> {
    let run = Run { json: false, talk, require_manifest: false };
    let mut output = stdout().lock();
    let goal =
        Goal::Cat { path: arguments.path.clone(), output: Some(&mut output) };
    let (report, _) = run.read(&arguments.archive, goal, false)?;
    for omission in &report.omissions {
        talk.note(omission);
    }
    Ok(if report.omissions.is_empty() { 0 } else { exit::OMISSIONS })
}

/// How a run talks.
struct Run {
    json: bool,
    talk: Talk,
    require_manifest: bool,
}

impl Run {
    fn report(
        &self,
        archive: &Archive,
        goal: Goal<'_>,
        keep_going: bool,
    ) -> Result<u8, Failure> {
        let (report, elapsed) = match self.read(archive, goal, keep_going) {
            Ok(read) => read,
            Err(failure) => {
                if self.json {
                    let exit = failure.code();
                    let error = failure.text();
                    let line = json!({
                        "type": "summary", "exit": exit, "error": error,
                    });
                    exit::print(format!("{line}\n").as_bytes())?;
                }
                return Err(failure);
            }
        };
        let whole = report.omissions.is_empty();
        let exit = if whole { 0 } else { exit::OMISSIONS };
        let text = if self.json {
            json_lines(&report, elapsed, exit)
        } else {
            lines(&report, elapsed)
        };
        exit::print(text.as_bytes())?;
        Ok(exit)
    }

    fn read(
        &self,
        archive: &Archive,
        goal: Goal<'_>,
        keep_going: bool,
    ) -> Result<(Report, Duration), Failure> {
        let passphrase = archive.passphrase.read()?;
        let canceled = Canceled::by_signal(self.talk)?;
        let path = &archive.archive;
        let (source, size) = open(path, &canceled)?;
        let started = Instant::now();
        let shows = stderr().is_terminal() && !self.talk.quiet;
        let json = self.json;
        let mut told = Duration::ZERO;
        let progress = move |bytes: u64, name: &[u8]| {
            let elapsed = started.elapsed();
            if elapsed < told + Duration::from_millis(250) {
                return;
            }
            told = elapsed;
            if shows {
                let line = progress_line(bytes, size, elapsed, name);
                let _ = write!(stderr(), "{CLEAR}{line}");
            }
            if json {
                let line = json!({
                    "type": "progress",
                    "bytes": bytes,
                    "of": size,
                    "file": Escaped(name).to_string(),
                });
                let _ = exit::print(format!("{line}\n").as_bytes());
            }
        };
        let external = External {
            programs: Programs::default(),
            running: canceled.running.clone(),
        };
        let options = Options {
            keep_going,
            require_manifest: self.require_manifest,
            external_filter: archive.external_filter.then_some(external),
            gate: Arc::clone(&canceled.gate),
            progress: Box::new(progress),
            ..Options::new(passphrase, goal)
        };
        let outcome = match source {
            Source::File(file) => read_seekable(file, options),
            Source::Piped(piped) => read(piped, options),
        };
        if shows {
            let _ = write!(stderr(), "{CLEAR}");
        }
        match outcome {
            Ok(report) => Ok((report, started.elapsed())),
            Err(ReadError::Canceled) => {
                let text = "canceled; what is in place is whole";
                Err(Failure::other(&exit::shown(path), text)
                    .with_code(canceled.code()))
            }
            Err(error) => Err(error.into()),
        }
    }
}

const CLEAR: &str = "\r\x1b[K";

fn progress_line(
    bytes: u64,
    size: Option<u64>,
    elapsed: Duration,
    name: &[u8],
) -> String {
    let seconds = elapsed.as_secs_f64();
    let rate = bytes as f64 / seconds.max(0.001);
    let mut line = format!("{} MiB, {:.0} MB/s", bytes >> 20, rate / 1e6);
    if let Some(size) = size.filter(|size| *size > 0) {
        let percent = bytes.saturating_mul(100) / size;
        let left = size.saturating_sub(bytes) as f64 / rate.max(1.0);
        line.push_str(&format!(", {percent} %, {left:.0} s left"));
    }
    format!("{line}, {}", Escaped(name))
}

impl Canceled {
    /// From now on SIGINT and SIGTERM go through the gate: the first one
    /// cancels if it comes before the decision, further ones change nothing.
    fn by_signal(talk: Talk) -> Result<Self, Failure> {
        let failed = |error| Failure::io("signals", &error);
        let mut signals =
            Signals::new([SIGINT, SIGTERM, SIGXFSZ]).map_err(failed)?;
        let gate = Arc::new(Mutex::new(Gate::default()));
        let signal = Arc::new(AtomicU8::new(0));
        let running = Running::new(Arc::clone(&gate));
        let canceled = Self {
            gate,
            running: running.clone(),
            signal: Arc::clone(&signal),
        };
        std::thread::spawn(move || {
            for number in signals.forever() {
                // A file that grows over a limit is an error of `write`.
                if number == SIGXFSZ {
                    continue;
                }
                // Before the cancel: the run may be over right after it.
                let (first, order) = (number as u8, Ordering::SeqCst);
                let _ = signal.compare_exchange(0, first, order, order);
                let answer = running.cancel();
                if answer == Cancel::Accepted {
                    talk.note("canceling");
                    running.kill_rest();
                } else if answer == Cancel::TooLate {
                    talk.note("too late to cancel: it is complete");
                }
            }
        });
        Ok(canceled)
    }

    fn code(&self) -> u8 {
        match self.signal.load(Ordering::SeqCst) {
            0 => exit::INTERRUPTED,
            signal => 128 + signal,
        }
    }
}

/// The source, and its size if it has one.
fn open(
    path: &Path,
    canceled: &Canceled,
) -> Result<(Source, Option<u64>), Failure> {
    if path.as_os_str() == "-" {
        let gate = Arc::clone(&canceled.gate);
        return Ok((Source::Piped(Piped::new(stdin(), gate)), None));
    }
    let failed = |error| Failure::io(&exit::shown(path), &error);
    let file = File::open(path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    if meta.is_file() {
        return Ok((Source::File(file), Some(meta.len())));
    }
    if meta.is_dir() {
        let text = "a directory; wanted an archive";
        return Err(Failure::unsupported(&exit::shown(path), text));
    }
    let gate = Arc::clone(&canceled.gate);
    Ok((Source::Piped(Piped::new(file, gate)), None))
}

/// Where an archive comes from.
enum Source {
    /// What can seek.
    File(File),
    /// Anything else.
    Piped(Piped),
}

/// A source that may block for ever: a thread reads it, so that a cancel is
/// noticed meanwhile.
struct Piped {
    blocks: Receiver<std::io::Result<Vec<u8>>>,
    block: Vec<u8>,
    at: usize,
    gate: Arc<Mutex<Gate>>,
}

impl Piped {
    fn new(
        mut source: impl Read + Send + 'static,
        gate: Arc<Mutex<Gate>>,
    ) -> Self {
        let (sender, blocks) = sync_channel(4);
        std::thread::spawn(move || {
            loop {
                let mut block = vec![0; 256 * 1024];
                let read = source.read(&mut block).map(|count| {
                    block.truncate(count);
                    block
                });
                let over = read.as_ref().map_or(true, Vec::is_empty);
                let interrupted = read
                    .as_ref()
                    .is_err_and(|e| e.kind() == ErrorKind::Interrupted);
                if interrupted {
                    continue;
                }
                if sender.send(read).is_err() || over {
                    return;
                }
            }
        });
        Self { blocks, block: Vec::new(), at: 0, gate }
    }
}

impl Read for Piped {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.at >= self.block.len() {
            match self.blocks.recv_timeout(Duration::from_millis(50)) {
                Ok(block) => {
                    self.block = block?;
                    self.at = 0;
                    if self.block.is_empty() {
                        return Ok(0);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    // Nobody waits for what it reads ahead any more.
                    if !self.gate.lock().is_open() {
                        return Err(ErrorKind::Interrupted.into());
                    }
                }
                // It has said that it is over.
                Err(RecvTimeoutError::Disconnected) => return Ok(0),
            }
        }
        let left = self.block.get(self.at..).unwrap_or_default();
        let count = left.len().min(buffer.len());
        let (from, to) = (left.get(..count), buffer.get_mut(..count));
        if let (Some(from), Some(to)) = (from, to) {
            to.copy_from_slice(from);
        }
        self.at += count;
        Ok(count)
    }
}

fn word(state: FileState) -> &'static str {
    match state {
        FileState::Begun => "begun",
        FileState::Verified => "verified",
        FileState::Restored => "restored",
        FileState::Unbound => "not bound",
        FileState::LeftOut => "left out",
        FileState::Unknown => "unknown",
        FileState::Withheld => "withheld",
        FileState::Lost => "lost",
    }
}

fn binding(report: &Report) -> String {
    match report.binding {
        Binding::NotBound => {
            "not bound: the header promises no manifest, so chunks or files \
             of an older backup under the same passphrase would not be noticed"
                .to_owned()
        }
        Binding::NotCompared => {
            "not bound: the manifest that the header promises was not \
             compared with all that was read, or does not fit"
                .to_owned()
        }
        Binding::Bound(id) => format!("bound: {id}"),
        Binding::Partly { id, read, of } => {
            format!("bound: {read} of {of} members read: {id}")
        }
    }
}

fn header(report: &Report) -> Value {
    json!({
        "digest": report.header.digest,
        "cipher": report.header.cipher,
        "filter": report.header.filter,
        "headerless": report.header.headerless,
    })
}

fn json_lines(report: &Report, elapsed: Duration, exit: u8) -> String {
    let mut text = String::new();
    for file in &report.files {
        let line = json!({
            "type": "file",
            "name": Escaped(&file.name).to_string(),
            "state": word(file.state),
            "chunks": file.chunks,
            "stored_bytes": file.stored_bytes,
            "decoded_bytes": file.decoded_bytes,
        });
        text.push_str(&format!("{line}\n"));
    }
    let line = json!({
        "type": "summary",
        "header": header(report),
        "files": report.files.len(),
        "archive_bytes": report.archive_bytes,
        "seconds": elapsed.as_secs_f64(),
        "binding": binding(report),
        "omissions": report.omissions,
        "exit": exit,
    });
    text.push_str(&format!("{line}\n"));
    text
}

fn lines(report: &Report, elapsed: Duration) -> String {
    let mut text = String::new();
    for file in &report.files {
        text.push_str(&format!(
            "{:8}  {:>14}  {}\n",
            word(file.state),
            file.decoded_bytes,
            Escaped(&file.name)
        ));
    }
    for omission in &report.omissions {
        text.push_str(&format!("omission: {omission}\n"));
    }
    let seconds = elapsed.as_secs_f64();
    text.push_str(&format!(
        "{} files, {} bytes of archive in {seconds:.2} s; digest {}; {}\n",
        report.files.len(),
        report.archive_bytes,
        report.header.digest,
        binding(report)
    ));
    text
}
