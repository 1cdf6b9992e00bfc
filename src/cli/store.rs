//! `qubes-fsm store`: show and change one `qubes.xml` that others use too.
//!
//! Lives here: arguments, what is printed, the child process of `update`, and
//! signals while waiting. May not live here: the lock (`store`), XML
//! (`format::document`).

use std::ffi::OsString;
use std::io::{ErrorKind, Read, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Map, Value, json};
use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};

use super::exit::{self, Failure};
use super::{Talk, thread, trace};
use crate::store::document::{Document, Limits, Qube};
use crate::store::kernelopts::{
    Origin, Release, explain_line, options_in_force,
};
use crate::store::{BYTES_MAX, Loaded, Store, StoreError};

#[derive(Debug, Subcommand)]
pub(super) enum StoreCommand {
    /// Print the qubes of a store, or one of them.
    Show {
        #[command(flatten)]
        file: StoreFile,
        /// Only this qube.
        qube: Option<String>,
        /// As one JSON document.
        #[arg(long)]
        json: bool,
    },
    /// Print one attribute of a qube.
    Get {
        #[command(flatten)]
        file: StoreFile,
        /// Which qube.
        qube: String,
        /// Which attribute, or property.
        attribute: String,
    },
    /// Change one attribute of a qube; every other byte stays.
    Set {
        #[command(flatten)]
        file: StoreFile,
        /// Which qube.
        qube: String,
        /// Which attribute, or property.
        attribute: String,
        /// Its new value.
        #[arg(allow_hyphen_values = true)]
        value: String,
    },
    /// Let COMMAND edit the store while it is locked: the document on its
    /// stdin, the new one from its stdout.
    Update {
        #[command(flatten)]
        file: StoreFile,
        /// The command and its arguments.
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// Print the kernel options that are in force for a qube.
    Kernelopts {
        /// The store.
        #[arg(
            long,
            value_name = "FILE",
            required_unless_present = "explain_log"
        )]
        store: Option<PathBuf>,
        /// Which qube.
        #[arg(required_unless_present = "explain_log")]
        qube: Option<String>,
        /// Whose defaults to use, instead of those of the release that writes
        /// such a store.
        #[arg(long, value_enum)]
        release: Option<ReleaseName>,
        /// Give up waiting for the lock after that time.
        #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
        wait: Option<Duration>,
        /// Explain the lines of a kernel log that are about the page
        /// attribute table; - is stdin.
        #[arg(long, value_name = "FILE", conflicts_with_all = ["store", "qube", "release"])]
        explain_log: Option<PathBuf>,
        /// As one JSON document.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args, Debug)]
pub(super) struct StoreFile {
    /// The store, usually /var/lib/qubes/qubes.xml.
    #[arg(long, value_name = "FILE")]
    store: PathBuf,
    /// Give up waiting for the lock after that time, such as 5s or 1min;
    /// without it the wait has no end.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    wait: Option<Duration>,
    /// Append every call on the store, and its answer, to that file: one JSON
    /// object per line, for check --trace.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum ReleaseName {
    /// nopat, and more with PCI devices.
    #[value(name = "2014")]
    R2014,
    /// None.
    #[value(name = "2020")]
    R2020,
}

pub(super) fn run(command: &StoreCommand, talk: Talk) -> Result<u8, Failure> {
    let store = match command {
        StoreCommand::Show { file, .. }
        | StoreCommand::Get { file, .. }
        | StoreCommand::Set { file, .. }
        | StoreCommand::Update { file, .. } => Some(&file.store),
        StoreCommand::Kernelopts { store, .. } => store.as_ref(),
    };
    perform(command, talk).map_err(|failure| match store {
        Some(store) => failure.of_document(&exit::shown(store)),
        None => failure,
    })
}

fn perform(command: &StoreCommand, talk: Talk) -> Result<u8, Failure> {
    match command {
        StoreCommand::Show { file, qube, json } => {
            let document = file.read(talk)?;
            show(&document, qube.as_deref(), *json)
        }
        StoreCommand::Get { file, qube, attribute } => {
            let document = file.read(talk)?;
            let value = document.get(qube, attribute)?;
            exit::print(format!("{value}\n").as_bytes())
        }
        StoreCommand::Set { file, qube, attribute, value } => {
            set(file, [qube, attribute, value], talk)
        }
        StoreCommand::Update { file, command } => update(file, command, talk),
        StoreCommand::Kernelopts { explain_log: Some(log), json, .. } => {
            return explain(log, *json, talk);
        }
        StoreCommand::Kernelopts {
            store: Some(store),
            qube: Some(qube),
            release,
            wait,
            json,
            ..
        } => {
            let (store, wait) = (store.clone(), *wait);
            let file = StoreFile { store, wait, trace: None };
            kernelopts(&file.read(talk)?, qube, *release, *json, talk)
        }
        // clap asks for both.
        StoreCommand::Kernelopts { .. } => {
            Err(Failure::usage("wanted --store FILE and QUBE"))
        }
    }
    .map(|()| 0)
}

/// Which signal arrived, if one did.
#[derive(Clone)]
struct Canceled {
    flag: Arc<AtomicBool>,
    signal: Arc<AtomicUsize>,
}

impl Canceled {
    /// From now on SIGINT and SIGTERM only set a flag; a file that grows over
    /// a limit is an error of `write` and not the end of the process.
    fn by_signal() -> Result<Self, Failure> {
        let flag = Arc::new(AtomicBool::new(false));
        let signal = Arc::new(AtomicUsize::new(0));
        let failed = |error| Failure::io("signals", &error);
        for number in [SIGINT, SIGTERM] {
            signal_hook::flag::register_usize(
                number,
                Arc::clone(&signal),
                number as usize,
            )
            .map_err(failed)?;
            signal_hook::flag::register(number, Arc::clone(&flag))
                .map_err(failed)?;
        }
        let ignored = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(SIGXFSZ, ignored).map_err(failed)?;
        Ok(Self { flag, signal })
    }

    fn is_set(&self) -> bool {
        self.flag.load(Ordering::SeqCst)
    }

    /// 130 or 143.
    fn code(&self) -> u8 {
        let signal = self.signal.load(Ordering::SeqCst);
        u8::try_from(128 + signal).unwrap_or(exit::INTERRUPTED)
    }

    /// The failure of a command that was canceled.
    fn failure(&self, path: &Path) -> Failure {
        let path = exit::shown(path);
        Failure::other(&path, "canceled; the store is as it was")
            .with_code(self.code())
    }
}

impl StoreFile {
    fn open(&self, canceled: &Canceled, talk: Talk) -> Result<Store, Failure> {
        let mut store = Store::open(&self.store)?;
        let trace = self.trace.as_ref();
        let observer = trace.map(|path| trace::log_to(path, talk));
        store.observer = observer.transpose()?;
        store.wait_max = self.wait;
        store.canceled = Some(Arc::clone(&canceled.flag));
        Ok(store)
    }

    fn read(&self, talk: Talk) -> Result<Document, Failure> {
        let canceled = Canceled::by_signal()?;
        let snapshot = self
            .open(&canceled, talk)?
            .read()
            .map_err(|error| self.failed(error, &canceled))?;
        parse(snapshot.into_content())
    }

    fn load(&self, canceled: &Canceled, talk: Talk) -> Result<Loaded, Failure> {
        let store = self.open(canceled, talk)?;
        talk.detail("waiting for the lock");
        store
            .lock()
            .and_then(|locked| locked.load())
            .map_err(|error| self.failed(error, canceled))
    }

    fn save(
        &self,
        loaded: Loaded,
        content: Vec<u8>,
        talk: Talk,
    ) -> Result<(), Failure> {
        if loaded.content() == content {
            loaded.verify()?;
            loaded.release();
            talk.detail("nothing to change");
            return Ok(());
        }
        let durable = loaded.save(content).map_err(|failed| {
            // The store's error first; the lock goes with the process.
            Failure::from(failed.error)
        })?;
        durable.release();
        talk.detail("saved and durable");
        Ok(())
    }

    fn failed(&self, error: StoreError, canceled: &Canceled) -> Failure {
        if let StoreError::Canceled { .. } = error {
            canceled.failure(&self.store)
        } else {
            error.into()
        }
    }
}

fn parse(content: Vec<u8>) -> Result<Document, Failure> {
    Ok(Document::parse(content, &Limits::default())?)
}

fn show(
    document: &Document,
    qube: Option<&str>,
    json: bool,
) -> Result<(), Failure> {
    let qubes: Vec<&Qube> = match qube {
        Some(name) => vec![document.qube(name)?],
        None => document.qubes().iter().collect(),
    };
    let text = match (json, qube) {
        (true, _) => {
            let qubes: Vec<Value> = qubes.into_iter().map(object).collect();
            let dialect = format!("{:?}", document.dialect());
            let all = json!({ "dialect": dialect, "qubes": qubes });
            format!("{all:#}\n")
        }
        (false, None) => table(&qubes),
        (false, Some(_)) => qubes.into_iter().map(lines).collect(),
    };
    exit::print(text.as_bytes())
}

fn object(qube: &Qube) -> Value {
    let attributes: Map<String, Value> = qube
        .attributes()
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect();
    json!({
        "name": qube.name(),
        "class": qube.class(),
        "attributes": attributes,
    })
}

fn table(qubes: &[&Qube]) -> String {
    let shown = |text: &str| exit::escaped(text);
    let width = qubes.iter().map(|qube| shown(qube.name()).chars().count());
    let width = width.max().unwrap_or(0);
    let line = |qube: &&Qube| {
        let (name, class) = (shown(qube.name()), shown(qube.class()));
        format!("{name:width$}  {class}\n")
    };
    qubes.iter().map(line).collect()
}

fn lines(qube: &Qube) -> String {
    let mut text = format!(
        "{} ({})\n",
        exit::escaped(qube.name()),
        exit::escaped(qube.class())
    );
    for (name, value) in qube.attributes() {
        let (name, value) = (exit::escaped(name), exit::escaped(value));
        text.push_str(&format!("  {name} = {value}\n"));
    }
    text
}

fn set(
    file: &StoreFile,
    [qube, attribute, value]: [&String; 3],
    talk: Talk,
) -> Result<(), Failure> {
    let canceled = Canceled::by_signal()?;
    let loaded = file.load(&canceled, talk)?;
    let document = parse(loaded.content().to_vec())?;
    let content = document.set(qube, attribute, value)?;
    let flag = "uses_default_kernelopts";
    let default = document.get(qube, flag).is_ok_and(|v| v == "True");
    if canceled.is_set() {
        return Err(canceled.failure(&file.store));
    }
    file.save(loaded, content, talk)?;
    if attribute == "kernelopts" && default {
        talk.note(&format!(
            "{qube}: {flag} is True, so kernelopts has no effect until it is \
             False"
        ));
    }
    Ok(())
}

fn update(
    file: &StoreFile,
    command: &[OsString],
    talk: Talk,
) -> Result<(), Failure> {
    let canceled = Canceled::by_signal()?;
    let loaded = file.load(&canceled, talk)?;
    let content = edit(command, loaded.content(), &canceled, &file.store)?;
    // What is wrong with it is not wrong with the store.
    let document = parse(content).map_err(|failure| {
        let program = command.first().map(Path::new);
        failure.of_document(&program.map_or_else(String::new, exit::shown))
    })?;
    if canceled.is_set() {
        return Err(canceled.failure(&file.store));
    }
    file.save(loaded, document.into_bytes(), talk)
}

/// Runs `command` with `content` on its stdin; what it writes is the result.
fn edit(
    command: &[OsString],
    content: &[u8],
    canceled: &Canceled,
    store: &Path,
) -> Result<Vec<u8>, Failure> {
    let (program, arguments) = match command {
        [program, arguments @ ..] => (program, arguments),
        [] => return Err(Failure::usage("wanted a command after --")),
    };
    let name = exit::shown(Path::new(program));
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| Failure::io(&name, &error).with_code(exit::PROGRAM))?;
    let (Some(mut input), Some(output)) =
        (child.stdin.take(), child.stdout.take())
    else {
        return Err(Failure::other(&name, "no pipe to it"));
    };
    let content = content.to_vec();
    let (sender, receiver) = channel();
    let writes = thread::start(&name, move || {
        // A command that does not read to the end is no failure.
        let _ = input.write_all(&content);
    });
    let reads = writes.and_then(|()| {
        thread::start(&name, move || {
            let mut new = Vec::new();
            let read = output.take(BYTES_MAX + 1).read_to_end(&mut new);
            let _ = sender.send(read.map(|_| new));
        })
    });
    if let Err(failure) = reads {
        end(&mut child);
        return Err(failure);
    }
    let new = loop {
        match receiver.recv_timeout(POLL) {
            Ok(new) => break new,
            Err(RecvTimeoutError::Disconnected) => {
                break Err(ErrorKind::BrokenPipe.into());
            }
            Err(RecvTimeoutError::Timeout) if canceled.is_set() => {
                end(&mut child);
                return Err(canceled.failure(store));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    };
    let too_large = |new: &Vec<u8>| new.len() as u64 > BYTES_MAX;
    if new.as_ref().is_ok_and(too_large) {
        end(&mut child);
        return Err(Failure::other(
            &name,
            &format!("more than {BYTES_MAX} bytes; wanted at most so many"),
        )
        .with_code(exit::LIMIT));
    }
    let status = wait(&mut child, canceled)
        .map_err(|error| Failure::io(&name, &error))?;
    if canceled.is_set() {
        return Err(canceled.failure(store));
    }
    if !status.success() {
        let text =
            format!("{}; wanted exit 0, the store is as it was", ended(status));
        return Err(Failure::other(&name, &text).with_code(exit::PROGRAM));
    }
    new.map_err(|error| Failure::io(&name, &error))
}

/// How often a signal is looked for while a command runs.
const POLL: Duration = Duration::from_millis(20);

fn wait(child: &mut Child, canceled: &Canceled) -> std::io::Result<ExitStatus> {
    let mut pause = Duration::from_micros(100);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if canceled.is_set() {
            end(child);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(POLL);
    }
}

/// Kills and reaps.
fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

fn ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "did not end".to_owned(),
    }
}

fn kernelopts(
    document: &Document,
    qube: &str,
    release: Option<ReleaseName>,
    json: bool,
    talk: Talk,
) -> Result<(), Failure> {
    let release = match release {
        Some(ReleaseName::R2014) => Release::R2014,
        Some(ReleaseName::R2020) => Release::R2020,
        None => Release::of(document.dialect()),
    };
    let found = options_in_force(document, qube, release)?;
    if json {
        let origin = match found.origin {
            Origin::Own => "own",
            Origin::ReleaseDefault(_) => "release default",
            Origin::Dom0 => "dom0",
            Origin::OwnKernel => "own kernel",
        };
        let object = json!({
            "qube": qube,
            "kernelopts": found.options,
            "origin": origin,
            "release": release.to_string(),
        });
        return exit::print(format!("{object:#}\n").as_bytes());
    }
    talk.note(&format!("{}: {}", exit::escaped(qube), found.origin));
    let options = exit::escaped(&found.options);
    exit::print(format!("{options}\n").as_bytes())
}

/// Exit 10 if no line of the log is about the page attribute table.
fn explain(log: &Path, json: bool, talk: Talk) -> Result<u8, Failure> {
    let subject = exit::shown(log);
    let failed = |error| Failure::io(&subject, &error);
    let mut input: Box<dyn Read> = if log.as_os_str() == "-" {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(std::fs::File::open(log).map_err(failed)?)
    };
    let mut found = Vec::new();
    let mut lines = 0usize;
    let mut line = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = input.read(&mut buffer).map_err(failed)?;
        let bytes = buffer.get(..count).unwrap_or_default();
        for byte in bytes {
            if *byte == b'\n' {
                lines += 1;
                found.extend(explain_line(&line).map(|c| (lines, c)));
                line.clear();
            } else if line.len() < LINE_BYTES_MAX {
                // A longer line is no kernel message.
                line.push(*byte);
            }
        }
        if count == 0 {
            break;
        }
        if found.len() > CONFLICTS_MAX {
            break;
        }
    }
    lines += 1;
    found.extend(explain_line(&line).map(|conflict| (lines, conflict)));
    if json {
        let all: Vec<Value> = found
            .iter()
            .map(|(line, conflict)| {
                json!({
                    "line": line,
                    "process": conflict.process,
                    "pid": conflict.pid,
                    "first": format!("{:#x}", conflict.first),
                    "last": format!("{:#x}", conflict.last),
                    "expected": conflict.expected.to_string(),
                    "got": conflict.got.to_string(),
                    "explanation": conflict.explanation(),
                })
            })
            .collect();
        let all = Value::from(all);
        exit::print(format!("{all:#}\n").as_bytes())?;
    } else {
        for (line, conflict) in &found {
            exit::print(format!("line {line}: {conflict}\n").as_bytes())?;
        }
    }
    if found.len() > CONFLICTS_MAX {
        talk.note("there may be more; they would say the same");
    }
    if found.is_empty() {
        return Err(Failure::other(
            &subject,
            "no line about the page attribute table; wanted \"map pfn \
             expected mapping type ..., got ...\"",
        )
        .with_code(exit::NOT_FOUND));
    }
    Ok(0)
}

/// Bytes of a log line that are looked at; the kernel's lines are shorter.
const LINE_BYTES_MAX: usize = 4096;
/// Conflicts that are explained; a crash loop can log millions.
const CONFLICTS_MAX: usize = 1000;
