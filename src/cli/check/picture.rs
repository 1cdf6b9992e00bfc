//! The machines as pictures.
//!
//! Lives here: which machine is meant. May not live here: drawing it; a
//! `fsm::table::Table` can.

use super::arguments::{CheckArguments, Format};
use super::tasks::{check_model, phase_worlds, protocol};
use super::write;
use crate::check::phases::World;
use crate::check::plan::LOCK;
use crate::check::report::Row;
use crate::cli::exit::Failure;
use crate::fsm::protocol::{Protocol, SHIPPED};
use crate::fsm::session::{Role, Session};
use crate::fsm::table::{Table, walk};

/// The table of one machine as a picture; without a model of a whole session
/// of the store.
pub(super) fn picture(
    arguments: &CheckArguments,
    format: Format,
) -> Result<(), Failure> {
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
pub(super) fn machines(rows: &[Row]) -> Result<Vec<(String, Table)>, Failure> {
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
