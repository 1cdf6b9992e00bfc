//! `qubes-fsm check`: which models to check, and in which form to say it.
//!
//! Lives here: arguments, the order of work, the exit code. May not live
//! here: the models and the reports (`check`).

use std::io::{IsTerminal as _, Read as _, Write as _, stderr, stdin, stdout};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::Talk;
use super::compare::{SPECIFIED, Wanted, unspecified};
use super::exit::{self, Failure};
use super::trace;
use crate::check::conform::{self, ConformError};
use crate::check::explore::{Limits, Progress};
use crate::check::golden::{Golden, PROCESSES_MAX};
use crate::check::lock::Sessions;
use crate::check::mutants;
use crate::check::page;
use crate::check::phases::{Phase, World, rows as phase_rows};
use crate::check::plan::{self, GOLDEN, LOCK, Means, Task};
use crate::check::report::{self, Row};
use crate::check::trouble::Troubled;
use crate::check::wide::How;
use crate::fsm::protocol::{LOCK_FILE, NAMED, Protocol, SHIPPED};
use crate::fsm::session::{Role, Session};
use crate::fsm::table::{Table, walk};

#[derive(Args, Debug)]
pub(super) struct CheckArguments {
    /// Which models; all without. See --list.
    models: Vec<String>,
    /// Which protocol of the store, or of the models that are named.
    #[arg(long, value_name = "NAME")]
    protocol: Option<String>,
    /// How many processes save.
    #[arg(long, value_name = "N")]
    writers: Option<usize>,
    /// How many processes only load.
    #[arg(long, value_name = "N")]
    readers: Option<usize>,
    /// How often each writer saves.
    #[arg(long, value_name = "N")]
    saves: Option<u8>,
    /// Let processes die and the power fail, at any step of the store; so
    /// often in a run, or as often as the list has it.
    #[arg(
        long, value_name = "N", num_args = 0..=1, require_equals = true,
        conflicts_with_all = ["engine", "preemptions", "replay"]
    )]
    crash: Option<Option<u8>>,
    /// Let calls of the store fail, any of them; so often in a run, or as
    /// often as the list has it.
    #[arg(
        long, value_name = "N", num_args = 0..=1, require_equals = true,
        conflicts_with_all = ["engine", "preemptions", "replay"]
    )]
    faults: Option<Option<u8>>,
    /// Do everything wrong that can be done wrong, and see each found.
    #[arg(long, conflicts_with_all = [
        "protocol", "writers", "readers", "saves", "crash", "faults",
        "engine", "preemptions", "replay",
    ])]
    mutants: bool,
    /// Search with so many threads; safety only, like the next two. Of lock
    /// and golden.
    #[arg(
        long, value_name = "N",
        value_parser = clap::value_parser!(u16).range(1..=256),
        conflicts_with_all = ["crash", "faults", "mutants", "engine",
                              "preemptions", "replay", "compare_tla"]
    )]
    threads: Option<u16>,
    /// Of states that are the same but for the names of processes, keep one.
    #[arg(long, conflicts_with_all = ["crash", "faults", "mutants", "engine",
                                      "preemptions", "replay", "compare_tla"])]
    symmetry: bool,
    /// Of lock: leave out orders of steps that make no difference. Runs that
    /// are found need not be the shortest.
    #[arg(long, conflicts_with_all = ["mutants", "engine", "preemptions",
                                      "replay", "compare_tla"])]
    partial_order: bool,
    /// Keep 64 bits of each state: less memory, and no certainty.
    #[arg(long, conflicts_with_all = ["crash", "faults", "mutants", "engine",
                                      "preemptions", "replay", "compare_tla"])]
    fingerprints: bool,
    /// What runs the model.
    #[arg(long, value_enum)]
    engine: Option<Engine>,
    /// How often loom may interrupt a process that could go on.
    #[arg(long, value_name = "N")]
    preemptions: Option<usize>,
    /// Cut each search after that time, such as 30s or 5min.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    time_max: Option<Duration>,
    /// Cut each search when it has found so many states.
    #[arg(long, value_name = "N")]
    states_max: Option<usize>,
    /// How to say it.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// The same as --format json.
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Write the report there instead of to stdout.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Make the runs found, or the longest, again with real processes.
    #[arg(long, value_enum)]
    replay: Option<Replay>,
    /// Compare the graph of one model, state by state and edge by edge, with
    /// the one that TLC wrote by -dump dot,actionlabels; nothing is checked.
    #[arg(long, value_name = "FILE",
        conflicts_with_all = ["json", "out", "replay", "engine",
                              "preemptions"])]
    compare_tla: Option<PathBuf>,
    /// Of several worlds of that model this one, as reports name it.
    #[arg(long, value_name = "BOUNDS", requires = "compare_tla")]
    bounds: Option<String>,
    /// Judge a trace instead of a model: a log of store --trace, or what
    /// strace -f -y -e trace=openat,open,fcntl,newfstatat,fstat,rename,\
    /// renameat2,fsync,close,unlink wrote of any program; - is stdin.
    #[arg(long, value_name = "FILE", conflicts_with_all = [
        "threads", "symmetry", "partial_order", "fingerprints",
        "models", "writers", "readers", "saves", "crash", "faults", "mutants",
        "engine", "preemptions", "time_max", "states_max", "format", "out",
        "replay", "compare_tla", "bounds",
    ])]
    trace: Option<PathBuf>,
    /// The store in that trace; without it the file that is locked.
    #[arg(long, value_name = "PATH", requires = "trace")]
    store: Option<PathBuf>,
    /// Run a program, by sh -c, as two processes under every schedule of
    /// their calls on the real kernel, and see whether an update is lost. See
    /// spec/conform.md for what it must answer.
    #[arg(long, value_name = "CMD", conflicts_with_all = [
        "threads", "symmetry", "partial_order", "fingerprints",
        "models", "protocol", "writers", "readers", "saves", "crash", "faults",
        "mutants", "engine", "states_max", "replay", "compare_tla", "bounds",
        "trace",
    ])]
    conform: Option<String>,
    /// How long that program may take for one answer.
    #[arg(long, value_name = "DURATION", requires = "conform",
          value_parser = humantime::parse_duration)]
    answer_max: Option<Duration>,
    /// Print the models and protocols there are.
    #[arg(long)]
    list: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Engine {
    /// Every state, breadth first.
    Explore,
    /// Every schedule, one by one, by the rules of loom.
    Loom,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Format {
    /// Traces in columns and a table.
    Text,
    /// One object per row.
    Json,
    /// One test case per row.
    Junit,
    /// The machine as a picture for Graphviz; nothing is checked.
    Dot,
    /// The machine as a picture for Mermaid; nothing is checked.
    Mermaid,
    /// A page that stands alone.
    Html,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Replay {
    /// On the kernel of this machine, in a temporary directory.
    Kernel,
}

#[derive(Args, Debug)]
pub(super) struct LoomArguments {
    /// Of the store, or the model `cancel`.
    protocol: String,
    /// Of the model `cancel`: which schedules.
    writers: usize,
    readers: usize,
    /// A number, or `none`.
    preemptions: String,
    seconds: u64,
}

#[derive(Args, Debug)]
pub(super) struct ReplayArguments {
    directory: PathBuf,
    protocol: String,
    process: usize,
    saves: u8,
}

/// A day: what "no limit" comes to.
const TIME_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Columns of a report that goes to no terminal.
const WIDTH: usize = 100;

pub(super) fn run(
    arguments: &CheckArguments,
    talk: Talk,
) -> Result<u8, Failure> {
    if arguments.list {
        return exit::print(list().as_bytes()).map(|()| 0);
    }
    if let Some(path) = &arguments.trace {
        let protocol = match &arguments.protocol {
            Some(name) => protocol(name)?,
            None => SHIPPED,
        };
        end_on_signal(talk)?;
        let store = arguments.store.as_deref();
        return trace::judge(path, protocol, store, arguments.json);
    }
    let format = if arguments.json { Format::Json } else { arguments.format };
    if let Format::Dot | Format::Mermaid = format {
        return picture(arguments, format).map(|()| 0);
    }
    let limits = Limits {
        time_max: arguments.time_max.unwrap_or(TIME_MAX),
        states_max: arguments
            .states_max
            .unwrap_or(Limits::default().states_max),
    };
    if let Some(path) = &arguments.compare_tla {
        let wanted = specified(arguments)?;
        end_on_signal(talk)?;
        return wanted.run(path, limits);
    }
    if let Some(command) = &arguments.conform {
        end_on_signal(talk)?;
        let rows = conform(arguments, command, limits.time_max)?;
        return report(arguments, format, &rows, talk);
    }
    let tasks = tasks(arguments)?;
    end_on_signal(talk)?;
    let program = std::env::current_exe()
        .map_err(|error| Failure::io("own program", &error))?;
    let shows = stderr().is_terminal() && !talk.quiet;
    let watch = if shows { progress } else { |_| {} };
    let means = Means { limits, program, watch };
    let started = Instant::now();
    let rows = run_all(&tasks, &means, talk);
    if shows {
        let _ = write!(stderr(), "{CLEAR}");
    }
    talk.detail(&format!("{:.2} s in all", started.elapsed().as_secs_f64()));
    report(arguments, format, &rows, talk)
}

fn report(
    arguments: &CheckArguments,
    format: Format,
    rows: &[Row],
    talk: Talk,
) -> Result<u8, Failure> {
    let text = match format {
        Format::Json => report::json(rows)
            .map_err(|error| Failure::other("report", &error.to_string()))?,
        Format::Junit => report::junit(rows),
        Format::Html => page::page(rows, &machines(rows)?),
        Format::Text | Format::Dot | Format::Mermaid => {
            report::text(rows, WIDTH, talk.verbose > 0)
        }
    };
    write(arguments, &text)?;
    Ok(exit_code(rows))
}

/// One program under all schedules.
fn conform(
    arguments: &CheckArguments,
    command: &str,
    time_max: Duration,
) -> Result<Vec<Row>, Failure> {
    let mut limits = conform::Limits { time_max, ..Default::default() };
    if let Some(preemptions) = arguments.preemptions {
        limits.preemptions = preemptions;
    }
    if let Some(answer_max) = arguments.answer_max {
        limits.answer_max = answer_max;
    }
    let directory = plan::TempDirectory::new()
        .map_err(|error| Failure::io("temporary directory", &error))?;
    conform::conform(command, directory.path(), limits).map_err(|error| {
        let code = match &error {
            ConformError::Io { source, .. } => exit::call_code(source.kind()),
            ConformError::Start { .. }
            | ConformError::Died { .. }
            | ConformError::Hung { .. }
            | ConformError::Nonsense { .. }
            | ConformError::NotRepeated { .. }
            | ConformError::Endless { .. }
            | ConformError::NeverSaved { .. } => exit::PROGRAM,
        };
        Failure::other("check", &error.to_string()).with_code(code)
    })
}

/// Back to the first column, and clear the line.
const CLEAR: &str = "\r\x1b[K";

/// One line on a terminal, again and again. A search does not know how many
/// states there are, so there is no time left to show.
fn progress(progress: Progress) {
    let Progress { states, waiting, elapsed } = progress;
    let rate = states as f64 / elapsed.as_secs_f64() / 1e6;
    let _ = write!(
        stderr(),
        "{CLEAR}{states} states, {waiting} to go on from, {rate:.1} M/s"
    );
}

/// Loom has processes of its own: its tasks run beside the others.
fn run_all(tasks: &[Task], means: &Means, talk: Talk) -> Vec<Row> {
    let is_loom =
        |task: &Task| matches!(task, Task::Loom(..) | Task::Schedules(_));
    let some = |loom: bool| {
        let tasks = tasks.iter().enumerate();
        let tasks = tasks.filter(|(_, task)| is_loom(task) == loom);
        let rows = tasks.map(|(number, task)| {
            talk.detail(&task.title());
            (number, plan::run(*task, means))
        });
        rows.collect::<Vec<_>>()
    };
    let mut rows = std::thread::scope(|scope| {
        let loom = scope.spawn(|| some(true));
        let mut rows = some(false);
        rows.extend(loom.join().unwrap_or_default());
        rows
    });
    rows.sort_by_key(|(number, _)| *number);
    rows.into_iter().flat_map(|(_, rows)| rows).collect()
}

fn exit_code(rows: &[Row]) -> u8 {
    if rows.iter().any(|row| !row.expected) {
        exit::CHECK
    } else if rows.iter().any(|row| row.coverage == "cut") {
        // Nothing is wrong, but not all was seen.
        exit::OMISSIONS
    } else {
        0
    }
}

fn tasks(arguments: &CheckArguments) -> Result<Vec<Task>, Failure> {
    for model in &arguments.models {
        check_model(model)?;
    }
    let named = |name: &str| {
        arguments.models.is_empty()
            || arguments.models.iter().any(|model| model == name)
    };
    if arguments.mutants {
        let rows = 0..mutants::all().len();
        let rows = rows.filter(|number| named(mutants::model(*number)));
        let tasks: Vec<_> = rows.map(Task::Mutant).collect();
        if tasks.is_empty() {
            return Err(Failure::usage(
                "--mutants: none of these models has any; wanted lock, or a \
                 phase of backup or restore",
            ));
        }
        return Ok(tasks);
    }
    let of_store = [
        ("--crash", arguments.crash.is_some()),
        ("--faults", arguments.faults.is_some()),
        ("--threads", arguments.threads.is_some()),
        ("--symmetry", arguments.symmetry),
        ("--partial-order", arguments.partial_order),
        ("--fingerprints", arguments.fingerprints),
        ("--writers", arguments.writers.is_some()),
        ("--readers", arguments.readers.is_some()),
        ("--saves", arguments.saves.is_some()),
        ("--engine", arguments.engine.is_some()),
        ("--preemptions", arguments.preemptions.is_some()),
        ("--replay", arguments.replay.is_some()),
    ];
    let of_store = of_store.into_iter().find(|(_, given)| *given);
    if of_store.is_none() && arguments.protocol.is_none() {
        let tasks = plan::default_tasks().into_iter();
        let tasks = tasks.filter(|task| !is_phase(task) && named(task.model()));
        let mut tasks: Vec<_> = tasks.collect();
        // Who names a phase wants all of it, the mutants too.
        let phases = phase_rows::all().into_iter().filter(|phase| {
            named(phase.model)
                && (phase.by_default || !arguments.models.is_empty())
        });
        tasks.extend(phases.map(Task::Phase));
        let schedules = phase_rows::schedules().into_iter().enumerate();
        let schedules = schedules.filter(|(_, schedule)| {
            named(schedule.model)
                && (schedule.by_default || !arguments.models.is_empty())
        });
        tasks.extend(schedules.map(|(number, _)| Task::Schedules(number)));
        return Ok(tasks);
    }
    let mut tasks = Vec::new();
    for model in &arguments.models {
        if [LOCK, GOLDEN].contains(&model.as_str()) {
            continue;
        }
        if let Some((flag, _)) = of_store {
            return Err(Failure::usage(&format!(
                "{flag}: {model} has no such bound; wanted model {LOCK}"
            )));
        }
        let worlds = phase_worlds(model, arguments.protocol.as_deref())?;
        tasks.extend(worlds.into_iter().map(Task::Phase));
        let schedules = phase_rows::schedules().into_iter().enumerate();
        let schedules = schedules.filter(|(_, schedule)| {
            let protocol = arguments.protocol.as_deref();
            schedule.model == model
                && protocol.is_none_or(|name| name == schedule.protocol)
        });
        tasks.extend(schedules.map(|(number, _)| Task::Schedules(number)));
    }
    if named(LOCK) {
        let mut store = store_tasks(arguments)?;
        store.append(&mut tasks);
        tasks = store;
    } else if named(GOLDEN) {
        tasks.extend(golden_task(arguments)?);
    }
    Ok(tasks)
}

/// The models there are, in the order of the default list.
fn models() -> Vec<&'static str> {
    let mut models = vec![LOCK, GOLDEN];
    for phase in phase_rows::all() {
        if !models.contains(&phase.model) {
            models.push(phase.model);
        }
    }
    models
}

fn is_phase(task: &Task) -> bool {
    matches!(task, Task::Phase(_) | Task::Schedules(_))
}

fn check_model(model: &str) -> Result<(), Failure> {
    let models = models();
    if models.contains(&model) {
        return Ok(());
    }
    Err(Failure::usage(&format!(
        "model {model:?}: no such model; wanted one of {}",
        models.join(", ")
    )))
}

/// The worlds of a phase, of this protocol if one is named; none for models
/// that are no phase.
fn phase_worlds(
    model: &str,
    protocol: Option<&str>,
) -> Result<Vec<Phase>, Failure> {
    let phases = phase_rows::all().into_iter();
    let phases: Vec<_> = phases.filter(|p| p.model == model).collect();
    let Some(protocol) = protocol else { return Ok(phases) };
    let mut names: Vec<_> = phases.iter().map(|p| p.protocol).collect();
    names.dedup();
    if phases.is_empty() || names.contains(&protocol) {
        let named = phases.into_iter().filter(|p| p.protocol == protocol);
        return Ok(named.collect());
    }
    Err(Failure::usage(&format!(
        "{model} {protocol:?}: no such protocol; wanted one of {}",
        names.join(", ")
    )))
}

fn store_tasks(arguments: &CheckArguments) -> Result<Vec<Task>, Failure> {
    let protocols = match &arguments.protocol {
        Some(name) => vec![protocol(name)?],
        None => NAMED.to_vec(),
    };
    let mut tasks = Vec::new();
    if arguments.crash.is_some() || arguments.faults.is_some() {
        if arguments.partial_order {
            return Err(Failure::usage(
                "--partial-order: with --crash or --faults every step can be \
                 the last or fail, so none is independent of what others do; \
                 wanted it without them",
            ));
        }
        return trouble_tasks(arguments);
    }
    for protocol in protocols {
        let model = store_model(arguments, protocol)?;
        match arguments.engine {
            Some(Engine::Loom) => {
                tasks.push(Task::Loom(model, arguments.preemptions));
            }
            None if arguments.preemptions.is_some() => {
                tasks.push(Task::Loom(model, arguments.preemptions));
            }
            Some(Engine::Explore) | None => {
                tasks.push(match arguments.how() {
                    Some(how) => Task::WideExplore(model, how),
                    None => Task::Explore(model),
                });
            }
        }
        if arguments.replay.is_some() {
            tasks.push(Task::Kernel(model));
        }
    }
    Ok(tasks)
}

/// What is asked for among crashes and faults. Without any number: the sizes
/// of the list in `plan`; with one: as many crashes and faults as such a size
/// has there.
fn trouble_tasks(arguments: &CheckArguments) -> Result<Vec<Task>, Failure> {
    let protocols = match &arguments.protocol {
        Some(name) => vec![protocol(name)?],
        None => vec![SHIPPED, LOCK_FILE],
    };
    let CheckArguments { crash, faults, writers, readers, saves, .. } =
        *arguments;
    let sized = writers.or(readers).is_some() || saves.is_some();
    let mut tasks = Vec::new();
    for protocol in protocols {
        let (crash, faults) = (crash.is_some(), faults.is_some());
        let sizes = if sized {
            let bounds = (
                writers.unwrap_or(2),
                readers.unwrap_or(0),
                saves.unwrap_or(1),
            );
            plan::troubles_of(bounds, crash, faults)
        } else {
            plan::troubles(crash, faults)
        };
        for (bounds, crashes, faults) in sizes {
            let crashes = arguments.crash.flatten().unwrap_or(crashes);
            let faults = arguments.faults.flatten().unwrap_or(faults);
            match Troubled::new(protocol, bounds, crashes, faults) {
                Ok(model) if !tasks.contains(&Task::Trouble(model)) => {
                    tasks.push(Task::Trouble(model));
                }
                // The list is for all protocols; not all can save twice.
                Ok(_) => {}
                Err(_) if !sized => {}
                Err(error) => return Err(Failure::usage(&error.to_string())),
            }
        }
    }
    Ok(tasks)
}

/// The one model that is compared with its specification.
fn specified(arguments: &CheckArguments) -> Result<Wanted, Failure> {
    let [model] = arguments.models.as_slice() else {
        return Err(Failure::usage(&format!(
            "--compare-tla: {} models; wanted one: {SPECIFIED}",
            arguments.models.len()
        )));
    };
    check_model(model)?;
    if model != LOCK {
        let protocol = arguments.protocol.as_deref().unwrap_or(SHIPPED.name);
        let worlds = phase_worlds(model, Some(protocol))?;
        if worlds.is_empty() {
            return Err(unspecified(model));
        }
        return Wanted::of_phases(model, worlds, arguments.bounds.as_deref());
    }
    let protocol = match &arguments.protocol {
        Some(name) => protocol(name)?,
        None => SHIPPED,
    };
    if arguments.crash.is_none() && arguments.faults.is_none() {
        return store_model(arguments, protocol).map(Wanted::Store);
    }
    let many =
        |asked: Option<Option<u8>>| asked.map_or(0, |many| many.unwrap_or(1));
    let bounds = (
        arguments.writers.unwrap_or(2),
        arguments.readers.unwrap_or(0),
        arguments.saves.unwrap_or(1),
    );
    let (crashes, faults) = (many(arguments.crash), many(arguments.faults));
    Troubled::new(protocol, bounds, crashes, faults)
        .map(Wanted::Troubled)
        .map_err(|error| Failure::usage(&error.to_string()))
}

fn store_model(
    arguments: &CheckArguments,
    protocol: Protocol,
) -> Result<Sessions, Failure> {
    Sessions::new(
        protocol,
        arguments.writers.unwrap_or(2),
        arguments.readers.unwrap_or(0),
        arguments.saves.unwrap_or(1),
    )
    .map_err(|error| Failure::usage(&error.to_string()))
}

fn golden_task(arguments: &CheckArguments) -> Result<Vec<Task>, Failure> {
    let processes = arguments.writers.unwrap_or(4);
    if !(1..=PROCESSES_MAX).contains(&processes) {
        return Err(Failure::usage(&format!(
            "{GOLDEN}: {processes} processes; wanted 1 to {PROCESSES_MAX}"
        )));
    }
    if arguments.partial_order {
        return Err(Failure::usage(&format!(
            "--partial-order: {GOLDEN} is there for its counts; wanted model \
             {LOCK}"
        )));
    }
    let golden = Golden { processes, recheck: true };
    Ok(vec![match arguments.how() {
        Some(how) => Task::WideGolden(golden, how),
        None => Task::Golden(golden),
    }])
}

impl CheckArguments {
    /// How to search, if it is not the plain way.
    fn how(&self) -> Option<How> {
        let Self { symmetry, partial_order, fingerprints, threads, .. } = *self;
        let plain = !symmetry && !partial_order && !fingerprints;
        (!plain || threads.is_some()).then(|| How {
            threads: usize::from(threads.unwrap_or(1)),
            fingerprints,
            symmetry,
            partial_order,
        })
    }
}

fn protocol(name: &str) -> Result<Protocol, Failure> {
    Protocol::by_name(name).ok_or_else(|| {
        let names = NAMED.map(|protocol| protocol.name).join(", ");
        Failure::usage(&format!(
            "protocol {name:?}: no such protocol; wanted one of {names}"
        ))
    })
}

fn list() -> String {
    let mut text = String::from(
        "model    protocols\n\
         lock     2013       no comparison after the lock: loses updates\n\
        \x20        2014       compares after the lock\n\
        \x20        2016       compares before the lock, keeps a descriptor \
         without a lock: loses updates\n\
        \x20        shipped    ours: spec/lock.md\n\
        \x20        lock-file  a separate lock file\n\
         golden   the coarse model that other checkers have counted\n",
    );
    let phases = phase_rows::all();
    let mut last = ("", "");
    for phase in &phases {
        let model = if phase.model == last.0 { "" } else { phase.model };
        if (phase.model, phase.protocol) != last {
            let (protocol, about) = (phase.protocol, phase.about);
            text.push_str(&format!("{model:8} {protocol}: {about}\n"));
        }
        last = (phase.model, phase.protocol);
    }
    text.push_str("\ndefault checks:\n");
    for task in plan::default_tasks() {
        text.push_str(&format!("  {}\n", task.title()));
    }
    text.push_str("\nchecks where the model is named:\n");
    for phase in phases.into_iter().filter(|phase| !phase.by_default) {
        text.push_str(&format!("  {}\n", Task::Phase(phase).title()));
    }
    for (number, schedule) in phase_rows::schedules().iter().enumerate() {
        if !schedule.by_default {
            let title = Task::Schedules(number).title();
            text.push_str(&format!("  {title}\n"));
        }
    }
    text
}

/// The table of one machine as a picture; without a model of a whole session
/// of the store.
fn picture(arguments: &CheckArguments, format: Format) -> Result<(), Failure> {
    let (title, table) = match arguments.models.as_slice() {
        [] => store_picture(arguments)?,
        [model] if model == LOCK => store_picture(arguments)?,
        [model] => phase_picture(model, arguments.protocol.as_deref())?,
        _ => {
            return Err(Failure::usage(
                "a picture shows one machine; wanted one model",
            ));
        }
    };
    let text =
        if format == Format::Dot { table.dot(&title) } else { table.mermaid() };
    write(arguments, &text)
}

/// The machines that the rows are about, each once: of a phase the first
/// world's.
fn machines(rows: &[Row]) -> Result<Vec<(String, Table)>, Failure> {
    let mut machines: Vec<(String, Table)> = Vec::new();
    for row in rows {
        let (name, table) = match Protocol::by_name(&row.protocol) {
            Some(protocol) if row.model == LOCK => {
                (format!("{LOCK} {}", protocol.name), session(protocol)?)
            }
            Some(_) | None => {
                let worlds = phase_worlds(&row.model, None)?;
                let Some(phase) = worlds.first() else { continue };
                let table = phase.world.table().map_err(|error| {
                    Failure::other("table", &error.to_string())
                })?;
                let Some(table) = table else { continue };
                (row.model.clone(), table)
            }
        };
        if machines.iter().all(|(other, _)| *other != name) {
            machines.push((name, table));
        }
    }
    Ok(machines)
}

fn session(protocol: Protocol) -> Result<Table, Failure> {
    let role = Role::Writer { saves: 1 };
    walk(Session::new(protocol, role))
        .map_err(|error| Failure::other("table", &error.to_string()))
}

fn store_picture(
    arguments: &CheckArguments,
) -> Result<(String, Table), Failure> {
    let protocol = match &arguments.protocol {
        Some(name) => protocol(name)?,
        None => SHIPPED,
    };
    Ok((protocol.name.to_owned(), session(protocol)?))
}

fn phase_picture(
    model: &str,
    protocol: Option<&str>,
) -> Result<(String, Table), Failure> {
    check_model(model)?;
    let first = phase_worlds(model, protocol)?.into_iter().next();
    let table = first.map(|phase| (phase, phase.world.table()));
    let (phase, table) = match table {
        Some((phase, Ok(Some(table)))) => (phase, table),
        Some((_, Err(error))) => {
            return Err(Failure::other("table", &error.to_string()));
        }
        Some((_, Ok(None))) | None => {
            return Err(Failure::usage(&format!(
                "{model}: no picture, its states are numbers; wanted one of \
                 lock, members, cancel, backup, restore, verify, commit"
            )));
        }
    };
    // What is done wrong around the gate does not change it.
    let title = match phase.world {
        World::Cancel(_) => model.to_owned(),
        World::Members(_)
        | World::Ahead(_)
        | World::Writing(_)
        | World::Reading(_)
        | World::WritingAgain(_)
        | World::ReadingAgain(_)
        | World::Committing(_) => {
            format!("{model} {}", phase.protocol)
        }
    };
    Ok((title, table))
}

fn write(arguments: &CheckArguments, text: &str) -> Result<(), Failure> {
    match &arguments.out {
        Some(path) if path.as_os_str() != "-" => std::fs::write(path, text)
            .map_err(|error| Failure::io(&exit::shown(path), &error)),
        _ => exit::print(text.as_bytes()),
    }
}

/// A search cannot be interrupted; its process can.
fn end_on_signal(talk: Talk) -> Result<(), Failure> {
    let mut signals = Signals::new([SIGINT, SIGTERM])
        .map_err(|error| Failure::io("signals", &error))?;
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            plan::clean_up();
            talk.note("canceled");
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}

pub(super) fn loom(arguments: &LoomArguments) -> Result<u8, Failure> {
    std::thread::spawn(|| {
        // The end of this stdin is the end of the process that wants to know.
        let _ = stdin().lock().read_to_end(&mut Vec::new());
        std::process::exit(1);
    });
    let time_max = Duration::from_secs(arguments.seconds);
    let row = if arguments.protocol == phase_rows::CANCEL {
        plan::schedules_process(arguments.writers, time_max)
            .ok_or_else(|| Failure::usage("this command is started by check"))?
    } else {
        let model = Sessions::new(
            protocol(&arguments.protocol)?,
            arguments.writers,
            arguments.readers,
            1,
        )
        .map_err(|error| Failure::usage(&error.to_string()))?;
        let preemptions = arguments.preemptions.parse().ok();
        plan::loom_process(model, preemptions, time_max)
    };
    let text = serde_json::to_string(&row)
        .map_err(|error| Failure::other("report", &error.to_string()))?;
    exit::print(text.as_bytes()).map(|()| 0)
}

pub(super) fn replay(arguments: &ReplayArguments) -> Result<u8, Failure> {
    if stdout().is_terminal() {
        return Err(Failure::usage("this command is started by check"));
    }
    crate::check::replay::serve(
        &arguments.directory,
        protocol(&arguments.protocol)?,
        arguments.process,
        arguments.saves,
        stdin().lock(),
        stdout().lock(),
    )
    .map(|()| 0)
    .map_err(|error| Failure::other("replay", &error.to_string()))
}
