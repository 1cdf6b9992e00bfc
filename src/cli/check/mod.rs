//! `qubes-fsm check`: which models to check, and in which form to say it.
//!
//! Lives here: the order of work, the list, the exit code. May not live here:
//! the models and the reports (`check`).

mod arguments;
mod picture;
mod tasks;

use std::io::{IsTerminal as _, Read as _, Write as _, stderr, stdin, stdout};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Builder;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::exit::{self, Failure};
use super::{Talk, thread, trace};
use crate::check::conform::{self, ConformError};
use crate::check::directory::{self, TempDirectory};
use crate::check::explore::{Limits, Progress};
use crate::check::lock::Sessions;
use crate::check::page;
use crate::check::phases::rows as phase_rows;
use crate::check::plan::{self, Means, Task};
use crate::check::report::{self, Row};
use crate::fsm::protocol::SHIPPED;
use arguments::Format;
pub(super) use arguments::{CheckArguments, LoomArguments, ReplayArguments};
use picture::{machines, picture};
use tasks::{protocol, specified, tasks};

/// A day: what "no limit" comes to.
const TIME_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Columns of a report that goes to no terminal.
const WIDTH: usize = 100;

pub(super) fn run(
    arguments: &CheckArguments,
    talk: Talk,
) -> Result<u8, Failure> {
    if arguments.list {
        let text = if arguments.json { list_json() } else { list() };
        return exit::print(text.as_bytes()).map(|()| 0);
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
    let directory = TempDirectory::new()
        .map_err(|error| Failure::io("temporary directory", &error))?;
    conform::conform(command, directory.path(), limits).map_err(|error| {
        // The signal ended its processes, and is about to end this one.
        while SIGNALED.load(Ordering::Acquire) {
            std::thread::park();
        }
        let code = match &error {
            ConformError::Io { source, .. }
            | ConformError::Thread { source, .. } => {
                exit::call_code(source.kind())
            }
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

/// Loom has processes of its own: its tasks run beside the others, or after
/// them where the system gives no thread.
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
        let beside = Builder::new().spawn_scoped(scope, || some(true));
        let mut rows = some(false);
        rows.extend(match beside {
            Ok(loom) => loom.join().unwrap_or_default(),
            Err(_) => some(true),
        });
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

/// Every check by its title, and whether it is one of those without a name.
fn list_json() -> String {
    let row = |task: &Task, by_default: bool| {
        serde_json::json!({
            "model": task.model(), "check": task.title(), "default": by_default
        })
    };
    let default = plan::default_tasks();
    let named = phase_rows::all().into_iter().filter(|p| !p.by_default);
    let named = named.map(Task::Phase);
    let schedules = phase_rows::schedules().into_iter().enumerate();
    let schedules = schedules.filter(|(_, schedule)| !schedule.by_default);
    let schedules = schedules.map(|(number, _)| Task::Schedules(number));
    let more = named.chain(schedules).map(|task| row(&task, false));
    let rows = default.iter().map(|task| row(task, true)).chain(more);
    format!("{}\n", serde_json::json!({ "checks": rows.collect::<Vec<_>>() }))
}

fn write(arguments: &CheckArguments, text: &str) -> Result<(), Failure> {
    match &arguments.out {
        Some(path) if path.as_os_str() != "-" => replace(path, text)
            .map_err(|error| Failure::io(&exit::shown(path), &error)),
        _ => exit::print(text.as_bytes()),
    }
}

/// Gives a file another content, all of it or nothing.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let old = std::fs::metadata(path).ok();
    if old.as_ref().is_some_and(|old| !old.is_file()) {
        // A pipe or a device: there is nothing to replace.
        return std::fs::write(path, text);
    }
    // A link stays one.
    let path = match old {
        Some(_) => std::fs::canonicalize(path)?,
        None => path.to_owned(),
    };
    let name = format!(".qubes-fsm-check-{}", std::process::id());
    let temporary = path.with_file_name(name);
    let written = std::fs::write(&temporary, text)
        .and_then(|()| match &old {
            Some(old) => {
                std::fs::set_permissions(&temporary, old.permissions())
            }
            None => Ok(()),
        })
        .and_then(|()| std::fs::rename(&temporary, &path));
    if written.is_err() {
        // What is there may be the beginning of it.
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

/// Whether a signal came that ends this process.
static SIGNALED: AtomicBool = AtomicBool::new(false);

/// A search cannot be interrupted; its process can.
fn end_on_signal(talk: Talk) -> Result<(), Failure> {
    let mut signals = Signals::new([SIGINT, SIGTERM])
        .map_err(|error| Failure::io("signals", &error))?;
    thread::start("signals", move || {
        if let Some(signal) = signals.forever().next() {
            SIGNALED.store(true, Ordering::Release);
            conform::clean_up();
            directory::clean_up();
            talk.note("canceled");
            std::process::exit(128 + signal);
        }
    })
}

pub(super) fn loom(arguments: &LoomArguments) -> Result<u8, Failure> {
    thread::start("stdin", || {
        // The end of this stdin is the end of the process that wants to know.
        let _ = stdin().lock().read_to_end(&mut Vec::new());
        std::process::exit(1);
    })?;
    let time_max = Duration::from_nanos(arguments.nanoseconds);
    let row = if arguments.protocol == phase_rows::CANCEL {
        plan::schedules_process(arguments.writers, time_max)
            .ok_or_else(|| Failure::usage("this command is started by check"))?
    } else {
        let model = Sessions::new(
            protocol(&arguments.protocol)?,
            arguments.writers,
            arguments.readers,
            arguments.saves,
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
