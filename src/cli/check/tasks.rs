//! From arguments to what is checked.
//!
//! Lives here: which tasks, and what goes together. May not live here: what is
//! checked by default; that is `check::plan`.

use super::arguments::{CheckArguments, Engine};
use crate::check::golden::{Golden, PROCESSES_MAX};
use crate::check::lock::Sessions;
use crate::check::mutants;
use crate::check::phases::{Phase, rows as phase_rows};
use crate::check::plan::{self, GOLDEN, LOCK, Task};
use crate::check::trouble::Troubled;
use crate::cli::compare::{SPECIFIED, Wanted, unspecified};
use crate::cli::exit::Failure;
use crate::fsm::protocol::{LOCK_FILE, NAMED, Protocol, SHIPPED};

pub(super) fn tasks(arguments: &CheckArguments) -> Result<Vec<Task>, Failure> {
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
        for model in &arguments.models {
            if !tasks.iter().any(|task| task.model() == model) {
                return Err(Failure::usage(&format!(
                    "--mutants: {model} has none; wanted lock, or a phase of \
                     backup or restore"
                )));
            }
        }
        return Ok(tasks);
    }
    let of_store = of_store(arguments);
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
        if let Some(flag) = of_store {
            return Err(no_such_bound(flag, model));
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
    }
    // By name only: a bound alone is one of the store.
    if arguments.models.iter().any(|model| model == GOLDEN) {
        tasks.push(golden_task(arguments)?);
    }
    Ok(tasks)
}

/// The first bound that a phase does not have, if one is given.
fn of_store(arguments: &CheckArguments) -> Option<&'static str> {
    given([
        ("--crash", arguments.crash.is_some()),
        ("--faults", arguments.faults.is_some()),
        ("--others", arguments.others.is_some()),
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
    ])
}

/// The first that the golden model does not have.
fn not_of_golden(arguments: &CheckArguments) -> Option<&'static str> {
    given([
        ("--protocol", arguments.protocol.is_some()),
        ("--crash", arguments.crash.is_some()),
        ("--faults", arguments.faults.is_some()),
        ("--others", arguments.others.is_some()),
        ("--readers", arguments.readers.is_some()),
        ("--saves", arguments.saves.is_some()),
        ("--engine loom", arguments.engine == Some(Engine::Loom)),
        ("--preemptions", arguments.preemptions.is_some()),
        ("--replay", arguments.replay.is_some()),
    ])
}

fn given<const N: usize>(
    flags: [(&'static str, bool); N],
) -> Option<&'static str> {
    let mut flags = flags.into_iter();
    flags.find(|(_, given)| *given).map(|(flag, _)| flag)
}

fn no_such_bound(flag: &str, model: &str) -> Failure {
    Failure::usage(&format!(
        "{flag}: {model} has no such bound; wanted model {LOCK}"
    ))
}

/// The models there are, in the order of the default list.
pub(super) fn models() -> Vec<&'static str> {
    let mut models = vec![LOCK, GOLDEN];
    for phase in phase_rows::all() {
        if !models.contains(&phase.model) {
            models.push(phase.model);
        }
    }
    models
}

pub(super) fn is_phase(task: &Task) -> bool {
    matches!(task, Task::Phase(_) | Task::Schedules(_))
}

pub(super) fn check_model(model: &str) -> Result<(), Failure> {
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
pub(super) fn phase_worlds(
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

/// Whether something happens beside the calls of the sessions.
fn is_troubled(arguments: &CheckArguments) -> bool {
    let CheckArguments { crash, faults, others, .. } = arguments;
    crash.is_some() || faults.is_some() || others.is_some()
}

fn store_tasks(arguments: &CheckArguments) -> Result<Vec<Task>, Failure> {
    let protocols = match &arguments.protocol {
        Some(name) => vec![protocol(name)?],
        None => NAMED.to_vec(),
    };
    let mut tasks = Vec::new();
    if is_troubled(arguments) {
        if arguments.partial_order {
            return Err(Failure::usage(
                "--partial-order: with --crash, --faults or --others every \
                 step can be the last, fail or be interfered with, so none is \
                 independent of what others do; wanted it without them",
            ));
        }
        return trouble_tasks(arguments);
    }
    let explores = arguments.engine == Some(Engine::Explore);
    if explores && arguments.preemptions.is_some() {
        return Err(Failure::usage(
            "--preemptions: --engine explore has no such bound; wanted \
             --engine loom",
        ));
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

/// What is asked for among crashes, faults and changes by others. Without any number: the sizes
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
    let mut unfit = None;
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
            let model = Troubled::new(protocol, bounds, crashes, faults);
            let model = match model {
                Ok(model) => Ok(with_others(model, arguments)?),
                Err(error) => Err(error),
            };
            match model {
                Ok(model) if !tasks.contains(&Task::Trouble(model)) => {
                    tasks.push(Task::Trouble(model));
                }
                // The list is for all protocols; not all can save twice.
                Ok(_) => {}
                Err(error) if !sized => {
                    unfit.get_or_insert(error);
                }
                Err(error) => return Err(Failure::usage(&error.to_string())),
            }
        }
    }
    // A bound that fits none of the sizes: nothing would be checked.
    match unfit {
        Some(error) if tasks.is_empty() => Err(Failure::usage(&format!(
            "{error}; whoever dies begins again, so each crash takes room"
        ))),
        Some(_) | None => Ok(tasks),
    }
}

/// The one model that is compared with its specification.
pub(super) fn specified(arguments: &CheckArguments) -> Result<Wanted, Failure> {
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
        if let Some(flag) = of_store(arguments) {
            return Err(no_such_bound(flag, model));
        }
        return Wanted::of_phases(model, worlds, arguments.bounds.as_deref());
    }
    let protocol = match &arguments.protocol {
        Some(name) => protocol(name)?,
        None => SHIPPED,
    };
    if !is_troubled(arguments) {
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
    let model = Troubled::new(protocol, bounds, crashes, faults)
        .map_err(|error| Failure::usage(&error.to_string()))?;
    with_others(model, arguments).map(Wanted::Troubled)
}

/// The same with as many changes by others as are asked for.
fn with_others(
    model: Troubled,
    arguments: &CheckArguments,
) -> Result<Troubled, Failure> {
    let changes = arguments.others.map_or(0, |many| many.unwrap_or(1));
    model.changed(changes).map_err(|error| Failure::usage(&error.to_string()))
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

fn golden_task(arguments: &CheckArguments) -> Result<Task, Failure> {
    if let Some(flag) = not_of_golden(arguments) {
        return Err(no_such_bound(flag, GOLDEN));
    }
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
    Ok(match arguments.how() {
        Some(how) => Task::WideGolden(golden, how),
        None => Task::Golden(golden),
    })
}

pub(super) fn protocol(name: &str) -> Result<Protocol, Failure> {
    Protocol::by_name(name).ok_or_else(|| {
        let names = NAMED.map(|protocol| protocol.name).join(", ");
        Failure::usage(&format!(
            "protocol {name:?}: no such protocol; wanted one of {names}"
        ))
    })
}
