//! `qubes-fsm list`, `verify`, `restore`, `cat`: archives for people.
//!
//! Lives here: arguments, progress, what is printed when. May not live here:
//! anything about the archive (`backup`), signals (`cancel`), waiting
//! (`pipes`).

use std::fs::File;
use std::io::{BufWriter, ErrorKind, IsTerminal as _, Write as _};
use std::io::{stderr, stdin, stdout};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};

use super::cancel::Canceled;
use super::exit::{self, Failure};
use super::passphrase::PassphraseOption;
use super::pipes::{BLOCK_BYTES, Output, Piped};
use super::{Talk, report};
use crate::backup::decode::DecodeError;
use crate::backup::filter::{External, Programs};
use crate::backup::read::{
    Goal, Options, Progress, ReadError, read_from_qube_into, read_into,
    read_seekable_into, request,
};
use crate::backup::report::Report;
use crate::backup::tree::Target;
use crate::format::escape::Escaped;
use crate::format::qfile::{BYTES_MAX, ENTRIES_MAX, Limits};

#[derive(Args, Debug)]
pub(super) struct ListArguments {
    #[command(flatten)]
    archive: Archive,
    #[command(flatten)]
    qube: QubeOption,
    /// As one JSON document.
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
pub(super) struct VerifyArguments {
    #[command(flatten)]
    archive: Archive,
    #[command(flatten)]
    qube: QubeOption,
    /// Refuse an archive without a manifest.
    #[arg(long)]
    require_manifest: bool,
    /// Decode the files that are whole even if others are damaged.
    #[arg(long)]
    keep_going: bool,
    /// Decode files however much larger they are than qubes.xml announces.
    #[arg(long)]
    no_decoded_limit: bool,
    /// As JSON lines.
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
pub(super) struct RestoreArguments {
    #[command(flatten)]
    archive: Archive,
    #[command(flatten)]
    qube: QubeOption,
    /// Only these qubes, or files by their path in the archive.
    names: Vec<String>,
    /// The directory to restore into; it is created if it is missing. Setuid,
    /// setgid and sticky are dropped, and counted in the report.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Restore the files that are whole even if others are damaged.
    #[arg(long)]
    keep_going: bool,
    /// Decode files however much larger they are than qubes.xml announces.
    #[arg(long)]
    no_decoded_limit: bool,
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
    /// Decode files however much larger they are than qubes.xml announces.
    #[arg(long)]
    no_decoded_limit: bool,
}

#[derive(Args, Debug)]
struct QubeOption {
    /// The archive is in a qube: stdin and stdout are those of its service
    /// qubes.Restore, which is asked for ARCHIVE; with - nothing is asked.
    #[arg(long)]
    from_qube: bool,
    /// With --from-qube: write the report to FILE instead of stderr.
    #[arg(long, value_name = "FILE", requires = "from_qube")]
    report: Option<PathBuf>,
    /// With --from-qube: bytes that the qube may send at most.
    #[arg(long, value_name = "BYTES", requires = "from_qube")]
    bytes_max: Option<u64>,
    /// With --from-qube: files and directories that it may send at most.
    #[arg(long, value_name = "N", requires = "from_qube")]
    files_max: Option<u64>,
}

/// The service of a qube that sends an archive.
struct Service<'c> {
    stdin: Output<'c>,
    limits: Limits,
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

pub(super) fn list(
    arguments: &ListArguments,
    talk: Talk,
) -> Result<u8, Failure> {
    let canceled = Canceled::by_signal(talk)?;
    let output = arguments.qube.output(&canceled)?;
    let qube = arguments.qube.service(&canceled)?;
    let run = Run {
        shows: false,
        qube: qube.as_ref(),
        ..Run::new(talk, &canceled, &output)
    };
    let mut report = Report::default();
    run.read(&arguments.archive, || Ok(Goal::List), &mut report)?;
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
        let header = report::header(&report);
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
    output.print(text.as_bytes())?;
    Ok(done(&report))
}

pub(super) fn verify(
    arguments: &VerifyArguments,
    talk: Talk,
) -> Result<u8, Failure> {
    let canceled = Canceled::by_signal(talk)?;
    let output = arguments.qube.output(&canceled)?;
    let qube = arguments.qube.service(&canceled)?;
    let run = Run {
        qube: qube.as_ref(),
        json: arguments.json,
        keep_going: arguments.keep_going,
        require_manifest: arguments.require_manifest,
        limit_decoded: !arguments.no_decoded_limit,
        ..Run::new(talk, &canceled, &output)
    };
    run.report(&arguments.archive, || Ok(Goal::Verify))
}

pub(super) fn restore(
    arguments: &RestoreArguments,
    talk: Talk,
) -> Result<u8, Failure> {
    let canceled = Canceled::by_signal(talk)?;
    let output = arguments.qube.output(&canceled)?;
    let qube = arguments.qube.service(&canceled)?;
    let run = Run {
        qube: qube.as_ref(),
        json: arguments.json,
        keep_going: arguments.keep_going,
        require_manifest: arguments.require_manifest,
        limit_decoded: !arguments.no_decoded_limit,
        ..Run::new(talk, &canceled, &output)
    };
    let mut opened = None;
    let done = run.report(&arguments.archive, || {
        let target = Target::open(&arguments.to, arguments.overwrite)?;
        opened = Some(target.clone());
        let swept = target.sweep();
        if swept > 0 {
            let text = format!("unfinished restores removed: {swept}");
            talk.note(&text);
        }
        let wanted = arguments.names.clone();
        Ok(Goal::Restore { target, wanted })
    });
    if let (Err(_), Some(target)) = (&done, &opened) {
        target.remove_if_new();
    }
    done
}

pub(super) fn cat(arguments: &CatArguments, talk: Talk) -> Result<u8, Failure> {
    let limit_decoded = !arguments.no_decoded_limit;
    let canceled = Canceled::by_signal(talk)?;
    let output = Output::new(&canceled)?;
    let run = Run { limit_decoded, ..Run::new(talk, &canceled, &output) };
    let mut buffer = BufWriter::with_capacity(BLOCK_BYTES, &output);
    let mut report = Report::default();
    let (path, buffered) = (arguments.path.clone(), &mut buffer);
    let goal = move || Ok(Goal::Cat { path, output: Some(buffered) });
    run.read(&arguments.archive, goal, &mut report)?;
    for omission in &report.omissions {
        talk.note(&exit::escaped(omission));
    }
    Ok(done(&report))
}

impl QubeOption {
    /// Where the report goes.
    fn output<'c>(
        &self,
        canceled: &'c Canceled,
    ) -> Result<Output<'c>, Failure> {
        if !self.from_qube {
            return Output::new(canceled);
        }
        let Some(path) = &self.report else {
            let out = stderr().as_fd().try_clone_to_owned();
            let out = out.map_err(|error| Failure::io("stderr", &error))?;
            return Output::of(out.into(), "stderr", canceled);
        };
        let (name, path) = (exit::shown(path), path.clone());
        // A named pipe opens when somebody reads from it.
        let file = canceled.wait(&name, move || File::create(path))?;
        let file = file.map_err(|error| Failure::io(&name, &error))?;
        Output::of(file, &name, canceled)
    }

    /// The service, if the archive is in a qube.
    fn service<'c>(
        &self,
        canceled: &'c Canceled,
    ) -> Result<Option<Service<'c>>, Failure> {
        if !self.from_qube {
            return Ok(None);
        }
        if stdout().is_terminal() {
            return Err(Failure::usage(
                "--from-qube: stdout is a terminal; wanted the stdin of a \
                 service qubes.Restore",
            ));
        }
        let limits = Limits {
            bytes_max: self.bytes_max.unwrap_or(BYTES_MAX),
            entries_max: self.files_max.unwrap_or(ENTRIES_MAX),
            ..Limits::default()
        };
        Ok(Some(Service { stdin: Output::new(canceled)?, limits }))
    }
}

impl Service<'_> {
    /// Asks for the archive, unless it comes by itself.
    fn ask(
        &self,
        path: &Path,
        options: &mut Options<'_>,
    ) -> Result<(), Failure> {
        let path = match path.to_str() {
            Some("-") => return Ok(()),
            Some(path) if !path.contains(['\n', '\r']) => path,
            _ => {
                return Err(Failure::usage(&format!(
                    "{}: wanted a path of one line of UTF-8, as the service \
                     reads it",
                    exit::shown(path)
                )));
            }
        };
        self.stdin.print(&request(path, options))
    }

    /// Reads what it sends, and answers. Nothing is read behind the answer:
    /// the service sees that when this process ends.
    fn read(
        &self,
        source: Piped,
        options: Options<'_>,
        report: &mut Report,
        talk: Talk,
    ) -> Result<(), ReadError> {
        let (read, reply) =
            read_from_qube_into(source, self.limits, options, report);
        talk.detail(&format!(
            "qube: answered {} with checksum {:#010x}",
            reply.code, reply.crc
        ));
        // Its reader may be gone; what was read is no worse for that.
        if let Err(failure) = self.stdin.print(&reply.to_bytes()) {
            talk.note(&format!("reply: {}", failure.text()));
        }
        read
    }
}

/// The exit of a run that came to its end.
fn done(report: &Report) -> u8 {
    if report.omissions.is_empty() { 0 } else { exit::OMISSIONS }
}

/// How a run reads and talks.
struct Run<'r> {
    canceled: &'r Canceled,
    output: &'r Output<'r>,
    /// Where the archive comes from, if not from here.
    qube: Option<&'r Service<'r>>,
    talk: Talk,
    json: bool,
    /// Progress, if there is a terminal.
    shows: bool,
    keep_going: bool,
    require_manifest: bool,
    limit_decoded: bool,
}

impl<'r> Run<'r> {
    fn new(talk: Talk, canceled: &'r Canceled, output: &'r Output<'r>) -> Self {
        Self {
            canceled,
            output,
            qube: None,
            talk,
            json: false,
            shows: !talk.quiet,
            keep_going: false,
            require_manifest: false,
            limit_decoded: true,
        }
    }

    /// Reads, and says what became of each file however it ends.
    fn report(
        &self,
        archive: &Archive,
        goal: impl FnOnce() -> Result<Goal<'r>, Failure>,
    ) -> Result<u8, Failure> {
        let mut facts = Report::default();
        let started = Instant::now();
        let read = self.read(archive, goal, &mut facts);
        let elapsed = started.elapsed();
        let (exit, error) = match &read {
            Ok(()) => (done(&facts), None),
            Err(failure) => (failure.code(), Some(failure.text())),
        };
        let text = if self.json {
            report::json_lines(&facts, elapsed, exit, error.as_deref())
        } else {
            report::lines(&facts, elapsed)
        };
        let printed = self.output.print(text.as_bytes());
        read?;
        printed?;
        Ok(exit)
    }

    fn read(
        &self,
        archive: &Archive,
        goal: impl FnOnce() -> Result<Goal<'r>, Failure>,
        report: &mut Report,
    ) -> Result<(), Failure> {
        let canceled = self.canceled;
        let path = &archive.archive;
        let name = exit::shown(path);
        // That of a qube is a path there.
        let here = if self.qube.is_some() { Path::new("-") } else { path };
        let passphrase = archive.passphrase.read(here, canceled, self.talk)?;
        let (source, size) = open(here, canceled)?;
        let goal = goal()?;
        if !matches!(goal, Goal::List) {
            self.talk.detail(&told(&name, size));
        }
        let shows = self.shows && stderr().is_terminal();
        let external = External {
            programs: Programs::default(),
            running: canceled.running.clone(),
        };
        let mut options = Options {
            keep_going: self.keep_going,
            require_manifest: self.require_manifest,
            limit_decoded: self.limit_decoded,
            external_filter: archive.external_filter.then_some(external),
            gate: Arc::clone(&canceled.gate),
            progress: self.progress(size, shows),
            ..Options::new(passphrase, goal)
        };
        if let Some(service) = self.qube {
            service.ask(path, &mut options)?;
        }
        let read = match (source, self.qube) {
            (Source::Piped(piped), Some(service)) => {
                service.read(piped, options, report, self.talk)
            }
            (Source::File(file), _) => {
                read_seekable_into(file, options, report)
            }
            (Source::Piped(piped), None) => read_into(piped, options, report),
        };
        if shows {
            let _ = write!(stderr(), "{CLEAR}");
        }
        self.explain(report);
        match read {
            Ok(()) => Ok(()),
            Err(ReadError::Canceled) => Err(canceled.failure(&name)),
            Err(error) if is_reader_gone(&error) => {
                self.talk.detail(
                    "stdout: its reader has gone; what is left of the \
                     archive was not looked at",
                );
                Err(Failure::silent())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn progress(&self, size: Option<u64>, shows: bool) -> Progress<'r> {
        let output = self.output;
        let json = self.json;
        let started = Instant::now();
        let mut told = Duration::ZERO;
        Box::new(move |bytes: u64, name: &[u8]| {
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
                let _ = output.print(format!("{line}\n").as_bytes());
            }
        })
    }

    /// For those who asked: what was found.
    fn explain(&self, report: &Report) {
        let header = &report.header;
        if header.digest.is_empty() {
            return;
        }
        let none = || "none".to_owned();
        self.talk.detail(&format!(
            "digest {}, cipher {}, filter {}, {}",
            header.digest,
            header.cipher.clone().unwrap_or_else(none),
            header.filter.clone().unwrap_or_else(none),
            report::binding(report),
        ));
        for qube in &report.qubes {
            let [name, path] =
                [&qube.name, &qube.path].map(|t| exit::escaped(t));
            self.talk.more(&format!("qubes.xml announces {name} at {path}"));
        }
    }
}

/// Whether `cat` ended since nobody wants the rest.
fn is_reader_gone(error: &ReadError) -> bool {
    let ReadError::Inner { cause, .. } = error else { return false };
    let DecodeError::Output(error) = &**cause else { return false };
    error.kind() == ErrorKind::BrokenPipe
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

/// How an archive is read, for those who asked.
fn told(name: &str, size: Option<u64>) -> String {
    match size {
        Some(size) => format!(
            "{name}: {size} bytes; a manifest is read first, if one is promised"
        ),
        None => format!(
            "{name}: read once, from a pipe; restored files wait for the \
             manifest at its end, if one is promised"
        ),
    }
}

/// Where an archive comes from.
enum Source {
    /// What can seek.
    File(File),
    /// Anything else.
    Piped(Piped),
}

/// The source, and its size if it has one.
fn open(
    path: &Path,
    canceled: &Canceled,
) -> Result<(Source, Option<u64>), Failure> {
    let gate = Arc::clone(&canceled.gate);
    if path.as_os_str() == "-" {
        let piped = Piped::new(stdin(), "stdin", gate)?;
        return Ok((Source::Piped(piped), None));
    }
    let name = exit::shown(path);
    let failed = |error| Failure::io(&name, &error);
    let owned = path.to_owned();
    // A named pipe opens when somebody writes to it.
    let file = canceled.wait(&name, move || File::open(owned))?;
    let file = file.map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    if meta.is_file() {
        return Ok((Source::File(file), Some(meta.len())));
    }
    if meta.is_dir() {
        let text = "a directory; wanted an archive";
        return Err(Failure::unsupported(&name, text));
    }
    Ok((Source::Piped(Piped::new(file, &name, gate)?), None))
}
