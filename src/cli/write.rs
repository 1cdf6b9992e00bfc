//! `qubes-fsm backup`: writing an archive, for people.
//!
//! Lives here: arguments, the plan as a table, progress, the report. May not
//! live here: what is written when (`backup::write`).

use std::io::{IsTerminal as _, Write as _, stderr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use clap::{ArgGroup, Args};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::Talk;
use super::cancel::Canceled;
use super::date;
use super::exit::{self, Failure, LIMIT, NOT_FOUND, OTHER, USAGE};
use super::passphrase::PassphraseOption;
use super::pipes::Output;
use crate::backup::write::report::Report;
use crate::backup::write::source::{Contents, SourceError};
use crate::backup::write::{
    CHUNK_BYTES, Options, Progress, WriteError, to_file, to_stream,
};
use crate::format::compression::Level;
use crate::format::escape::Escaped;
use crate::store::Store;

#[derive(Args, Debug)]
#[command(group = ArgGroup::new("source").required(true).args(["from", "store"]))]
pub(super) struct BackupArguments {
    /// Only these qubes; with --store also such as are not included in
    /// backups.
    names: Vec<String>,
    /// The directory to back up: `qubes.xml` and the files of its qubes, as
    /// restore leaves them.
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    /// The store, usually /var/lib/qubes/qubes.xml, of release 3 or before:
    /// its qubes that are included in backups, and dom0's home. At the end it
    /// gets the date. Shut the qubes down: a store does not say which run.
    #[arg(long, value_name = "FILE", requires = "root")]
    store: Option<PathBuf>,
    /// The directory of the qubes of the store, usually /var/lib/qubes.
    #[arg(
        long,
        value_name = "DIR",
        requires = "store",
        conflicts_with = "from"
    )]
    root: Option<PathBuf>,
    /// dom0's home; without it that of the first user in the group qubes.
    #[arg(
        long,
        value_name = "DIR",
        requires = "store",
        conflicts_with = "from"
    )]
    home: Option<PathBuf>,
    /// Give up waiting for the lock of the store after that time, such as 5s:
    /// the archive is complete by then and stays. Without it the wait has no
    /// end.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, requires = "store", conflicts_with = "from")]
    wait: Option<Duration>,
    /// The archive to write; a directory gets a new one in it; - is stdout.
    #[arg(long, value_name = "ARCHIVE|DIR|-")]
    to: PathBuf,
    /// Leave this qube out.
    #[arg(long, value_name = "QUBE")]
    exclude: Vec<String>,
    /// Encrypt, with AES-256.
    #[arg(long)]
    encrypt: bool,
    /// Compress: gzip, bzip2, xz or zstd, and a level.
    #[arg(
        long,
        value_name = "FILTER[:LEVEL]",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "gzip"
    )]
    compress: Option<Level>,
    /// Cut files in chunks of so many bytes; for tests.
    #[arg(long, value_name = "BYTES", default_value_t = CHUNK_BYTES)]
    chunk_size: u64,
    /// Do not bind the members by a manifest.
    #[arg(long)]
    no_manifest: bool,
    /// Print what would be backed up, and write nothing.
    #[arg(long)]
    dry_run: bool,
    /// As JSON lines; with --dry-run as one JSON document.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    passphrase: PassphraseOption,
}

const CLEAR: &str = "\r\x1b[K";

pub(super) fn backup(
    arguments: &BackupArguments,
    talk: Talk,
) -> Result<u8, Failure> {
    let canceled = Canceled::by_signal(talk)?;
    let output = Output::new(&canceled)?;
    let (canceled, output) = (&canceled, &output);
    let mut run = Run { arguments, talk, canceled, output, store: None };
    let begun = run.contents().and_then(|contents| {
        let reads = !arguments.dry_run;
        let passphrase = reads.then(|| run.passphrase()).transpose()?;
        Ok((contents, passphrase))
    });
    let (contents, passphrase) = match begun {
        Ok(begun) => begun,
        Err(failure) => {
            run.fail(&failure);
            return Err(failure);
        }
    };
    let Some(passphrase) = passphrase else {
        let text = plan(&contents, arguments.json);
        output.print(text.as_bytes())?;
        let whole = contents.omissions.is_empty();
        return Ok(if whole { 0 } else { exit::OMISSIONS });
    };
    run.write(&contents, passphrase)
}

/// Where the qubes come from.
enum Source {
    Directory(PathBuf),
    Store {
        file: PathBuf,
        root: PathBuf,
        home: Option<PathBuf>,
        wait: Option<Duration>,
    },
}

impl BackupArguments {
    fn source(&self) -> Result<Source, Failure> {
        match (&self.from, &self.store, &self.root) {
            (Some(from), None, None) => Ok(Source::Directory(from.clone())),
            (None, Some(file), Some(root)) => Ok(Source::Store {
                file: file.clone(),
                root: root.clone(),
                home: self.home.clone().or_else(home_of_dom0),
                wait: self.wait,
            }),
            // clap sees to it.
            _ => Err(Failure::usage(
                "wanted either --from DIR or --store FILE --root DIR",
            )),
        }
    }
}

impl Source {
    fn read(
        &self,
        names: &[String],
        exclude: &[String],
        hide_names: bool,
    ) -> Result<(Contents, Option<Store>), Failure> {
        match self {
            Self::Directory(from) => {
                Ok((Contents::from_dir(from, names, exclude)?, None))
            }
            Self::Store { file, root, home, wait } => {
                let mut store = Store::open(file)?;
                store.wait_max = *wait;
                let contents = Contents::from_store(
                    &store.path(),
                    root,
                    home.as_deref(),
                    names,
                    exclude,
                    hide_names,
                )?;
                Ok((contents, Some(store)))
            }
        }
    }
}

/// The home of the first user in the group `qubes`.
///
/// Source: core-admin `core/backup.py`, `backup_prepare`.
fn home_of_dom0() -> Option<PathBuf> {
    let field = |file: &str, name: &str, number: usize| {
        let text = std::fs::read_to_string(file).ok()?;
        let line = text.lines().find(|l| l.split(':').next() == Some(name))?;
        line.split(':').nth(number).map(str::to_owned)
    };
    let members = field("/etc/group", "qubes", 3)?;
    let user = members.split(',').next()?;
    field("/etc/passwd", user, 5).map(PathBuf::from)
}

struct Run<'r> {
    arguments: &'r BackupArguments,
    talk: Talk,
    canceled: &'r Canceled,
    output: &'r Output<'r>,
    /// What is told the date of the backup.
    store: Option<Store>,
}

impl Run<'_> {
    /// What is backed up.
    fn contents(&mut self) -> Result<Contents, Failure> {
        let arguments = self.arguments;
        let source = arguments.source()?;
        let subject = exit::shown(match &source {
            Source::Directory(from) => from,
            Source::Store { file, .. } => file,
        });
        let names = arguments.names.clone();
        let exclude = arguments.exclude.clone();
        let hide_names = arguments.encrypt;
        // A directory on the network may not answer.
        let (mut contents, store) =
            self.canceled.wait(&subject, move || {
                source.read(&names, &exclude, hide_names)
            })??;
        if !arguments.no_manifest {
            contents.leave_out_unlisted();
        }
        self.store = store;
        Ok(contents)
    }

    fn passphrase(&self) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let (subject, option) =
            (Path::new("backup"), &self.arguments.passphrase);
        option.read_new(subject, self.canceled, self.talk)
    }

    fn is_piped(&self) -> bool {
        self.arguments.to.as_os_str() == "-"
    }

    /// The summary of a run that failed before anything was written.
    fn fail(&self, failure: &Failure) {
        // A plan is one document, or none.
        if self.arguments.json && !self.arguments.dry_run {
            let (report, text) = (Report::default(), failure.text());
            let text = json_lines(
                &report,
                Duration::ZERO,
                failure.code(),
                Some(&text),
            );
            // The failure itself is said next.
            let _ = self.tell(&text);
        }
    }

    /// Where the archive is on stdout, the report is not.
    fn tell(&self, text: &str) -> Result<(), Failure> {
        if !self.is_piped() {
            return self.output.print(text.as_bytes());
        }
        if !self.talk.quiet {
            let _ = stderr().write_all(text.as_bytes());
        }
        Ok(())
    }

    fn write(
        &self,
        contents: &Contents,
        passphrase: Zeroizing<Vec<u8>>,
    ) -> Result<u8, Failure> {
        let arguments = self.arguments;
        let to = named(&arguments.to);
        let is_piped = self.is_piped();
        let name = if is_piped { "stdout".into() } else { exit::shown(&to) };
        let shows = stderr().is_terminal() && !self.talk.quiet;
        let options = Options {
            encrypt: arguments.encrypt,
            level: arguments.compress.unwrap_or(Level::NONE),
            chunk_bytes: arguments.chunk_size,
            manifest: !arguments.no_manifest,
            gate: Arc::clone(&self.canceled.gate),
            progress: self.progress(contents, shows, is_piped),
            ..Options::new(passphrase)
        };
        let started = Instant::now();
        let mut written = if is_piped {
            to_stream(contents, self.output, options)
        } else {
            to_file(contents, &to, options)
        };
        if shows {
            let _ = write!(stderr(), "{CLEAR}");
        }
        let elapsed = started.elapsed();
        if let (Ok(report), Some(store)) = (&mut written, &self.store) {
            let told = date::write(store, contents, self.canceled, self.talk);
            report.omissions.extend(told);
        }
        let (exit, error) = match &written {
            Ok(report) if report.omissions.is_empty() => (0, None),
            Ok(_) => (exit::OMISSIONS, None),
            Err(error) if error.is_cancel() => {
                let failure = self.canceled.failure(&name);
                let failure = if let WriteError::Noted { note, .. } = error {
                    failure.with_line(note)
                } else {
                    failure
                };
                (failure.code(), Some(failure))
            }
            Err(error) => {
                let failure = Failure::new(code(error), error);
                (failure.code(), Some(failure))
            }
        };
        let report = written.unwrap_or_default();
        let text = error.as_ref().map(Failure::text);
        let text = if arguments.json {
            json_lines(&report, elapsed, exit, text.as_deref())
        } else if error.is_some() {
            String::new()
        } else {
            lines(&report, &name, elapsed)
        };
        self.tell(&text)?;
        error.map_or(Ok(exit), Err)
    }

    fn progress<'p>(
        &'p self,
        contents: &'p Contents,
        shows: bool,
        is_piped: bool,
    ) -> Progress<'p> {
        let total = contents.on_disk();
        let output = self.output;
        let json = self.arguments.json && !is_piped;
        let started = Instant::now();
        let mut told = Duration::ZERO;
        Box::new(move |bytes: u64, name: &[u8]| {
            let elapsed = started.elapsed();
            if elapsed < told + Duration::from_millis(250) {
                return;
            }
            told = elapsed;
            let file = contents.files.iter().find(|file| file.name == name);
            let qube = file.and_then(|file| file.qube.as_deref());
            if shows {
                let line = progress_line(bytes, total, elapsed, name, qube);
                let _ = write!(stderr(), "{CLEAR}{line}");
            }
            if json {
                let line = json!({
                    "type": "progress",
                    "bytes": bytes,
                    "of": total,
                    "file": Escaped(name).to_string(),
                    "qube": qube,
                });
                let _ = output.print(format!("{line}\n").as_bytes());
            }
        })
    }
}

fn progress_line(
    bytes: u64,
    total: u64,
    elapsed: Duration,
    name: &[u8],
    qube: Option<&str>,
) -> String {
    let rate = bytes as f64 / elapsed.as_secs_f64().max(0.001);
    let percent = bytes.saturating_mul(100).checked_div(total);
    let percent = percent.unwrap_or_default().min(100);
    let left = total.saturating_sub(bytes) as f64 / rate.max(1.0);
    let (done, name) = (bytes >> 20, Escaped(name));
    let rate = rate / 1e6;
    let qube = qube
        .map_or(String::new(), |qube| format!(" ({})", exit::escaped(qube)));
    format!(
        "{done} MiB, {rate:.0} MB/s, {percent} %, {left:.0} s left, \
         {name}{qube}"
    )
}

/// A directory gets a file named after the time, in UTC.
fn named(to: &Path) -> PathBuf {
    if to.as_os_str() == "-" || !to.is_dir() {
        return to.to_owned();
    }
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let now = now.trim_end_matches('Z').replace(':', "");
    to.join(format!("qubes-backup-{now}"))
}

fn code(error: &WriteError) -> u8 {
    match error {
        WriteError::Source(error) => source_code(error),
        WriteError::Noted { cause, .. } => code(cause),
        WriteError::Target { cause, .. } => exit::call_code(cause.kind()),
        WriteError::ChunkSize { .. } => USAGE,
        WriteError::Member(_)
        | WriteError::Name(_)
        | WriteError::TooManyFiles { .. }
        | WriteError::Unlisted { .. } => LIMIT,
        WriteError::Exists { .. }
        | WriteError::Compression(_)
        | WriteError::Header(_)
        | WriteError::Manifest(_)
        | WriteError::Random(_)
        | WriteError::Thread(_)
        | WriteError::Silent
        | WriteError::Refused(_) => OTHER,
        WriteError::Canceled => exit::INTERRUPTED,
    }
}

fn source_code(error: &SourceError) -> u8 {
    match error {
        SourceError::Missing { .. }
        | SourceError::NothingThere { .. }
        | SourceError::NotAnnounced { .. }
        | SourceError::NoFiles { .. }
        | SourceError::NoSuchQube { .. } => NOT_FOUND,
        SourceError::Document(error) => exit::document_code(error),
        SourceError::Limit { .. } => LIMIT,
        SourceError::CannotLeaveOut { .. } | SourceError::NotCore2 { .. } => {
            exit::UNSUPPORTED
        }
        SourceError::NoNumber { .. } => exit::INTEGRITY,
        SourceError::NoHome { .. } => USAGE,
        SourceError::Kind { .. }
        | SourceError::BadPath { .. }
        | SourceError::Outside { .. }
        | SourceError::Shared { .. }
        | SourceError::Changed { .. }
        | SourceError::Encode(_)
        | SourceError::Unfinished { .. }
        | SourceError::Call { .. } => OTHER,
    }
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        Self::new(source_code(&error), &error)
    }
}

fn plan(contents: &Contents, json: bool) -> String {
    if json {
        let files: Vec<Value> = contents
            .files
            .iter()
            .map(|file| {
                json!({
                    "name": Escaped(&file.name).to_string(),
                    "qube": file.qube,
                    "members": file.members,
                    "apparent_bytes": file.apparent,
                    "disk_bytes": file.on_disk,
                })
            })
            .collect();
        let document = json!({
            "files": files,
            "apparent_bytes": contents.apparent(),
            "disk_bytes": contents.on_disk(),
            "omissions": escaped(&contents.omissions),
        });
        return format!("{document:#}\n");
    }
    let mut text = format!("{:>16} {:>16}  file\n", "on disk", "apparent");
    for file in &contents.files {
        let (name, qube) = (Escaped(&file.name), file.qube.as_deref());
        let qube = qube.map_or(String::new(), |qube| {
            format!("  ({})", exit::escaped(qube))
        });
        let (disk, apparent) = (file.on_disk, file.apparent);
        text.push_str(&format!("{disk:>16} {apparent:>16}  {name}{qube}\n"));
    }
    let (disk, apparent) = (contents.on_disk(), contents.apparent());
    let files = contents.files.len();
    text.push_str(&format!("{disk:>16} {apparent:>16}  {files} files\n"));
    text.push_str(&omissions(&contents.omissions));
    text
}

fn escaped(texts: &[String]) -> Vec<String> {
    texts.iter().map(|text| exit::escaped(text)).collect()
}

fn omissions(texts: &[String]) -> String {
    let lines = texts.iter().map(|text| {
        let text = exit::escaped(text);
        format!("omission: {text}\n")
    });
    lines.collect()
}

fn json_lines(
    report: &Report,
    elapsed: Duration,
    exit: u8,
    error: Option<&str>,
) -> String {
    let mut text = String::new();
    for file in &report.files {
        let line = json!({
            "type": "file",
            "name": Escaped(&file.name).to_string(),
            "chunks": file.chunks,
            "stored_bytes": file.stored_bytes,
            "read_bytes": file.real_bytes,
            "seconds": file.seconds,
        });
        text.push_str(&format!("{line}\n"));
    }
    let line = json!({
        "type": "summary",
        "files": report.files.len(),
        "archive_bytes": report.archive_bytes,
        "seconds": elapsed.as_secs_f64(),
        "id": report.id.map(|id| id.to_string()),
        "omissions": escaped(&report.omissions),
        "exit": exit,
        "error": error,
    });
    text.push_str(&format!("{line}\n"));
    text
}

fn lines(report: &Report, name: &str, elapsed: Duration) -> String {
    let header = ["read", "stored", "ratio", "MB/s"];
    let [read, stored, ratio, rate] = header;
    let mut text =
        format!("{read:>14} {stored:>14} {ratio:>6} {rate:>6}  file\n");
    let mut all = 0;
    for file in &report.files {
        let (read, stored) = (file.real_bytes, file.stored_bytes);
        all += read;
        let ratio = stored as f64 / (read as f64).max(1.0);
        let rate = read as f64 / 1e6 / file.seconds.max(1e-6);
        let name = Escaped(&file.name);
        text.push_str(&format!(
            "{read:>14} {stored:>14} {ratio:>6.2} {rate:>6.0}  {name}\n"
        ));
    }
    text.push_str(&omissions(&report.omissions));
    let seconds = elapsed.as_secs_f64();
    let id = report.id.map_or("no manifest".to_owned(), |id| {
        format!("manifest of backup {id}")
    });
    let (files, bytes) = (report.files.len(), report.archive_bytes);
    text.push_str(&format!(
        "{name}: {files} files, {all} bytes read, {bytes} bytes of archive in \
         {seconds:.2} s; {id}\n"
    ));
    text
}
