//! The command line: arguments, progress, exit codes.
//!
//! Lives here: what a user types, and what a user is told. May not live here:
//! anything that a program that embeds the library would want to call.

mod backup;
mod cancel;
mod check;
mod code;
mod compare;
mod date;
mod device;
mod exit;
mod kernel;
mod passphrase;
mod pipes;
mod report;
mod store;
mod thread;
mod trace;
mod write;

use std::ffi::OsString;
use std::io::{ErrorKind, Write as _, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::check::plan;
use exit::Failure;

/// Qubes OS store and backup protocols as checked state machines.
#[derive(Debug, Parser)]
#[command(name = "qubes-fsm", version, about, disable_help_subcommand = true)]
struct Arguments {
    /// Say nothing but data and errors.
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Explain more; twice: even more.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check the protocols: explore every interleaving, and show the races of
    /// history.
    Check(check::CheckArguments),
    /// Show and change one qubes.xml that other processes use too.
    #[command(subcommand)]
    Store(store::StoreCommand),
    /// Back up qubes into one archive.
    Backup(write::BackupArguments),
    /// Print the qubes that a backup announces.
    List(backup::ListArguments),
    /// Do everything that restore does but write.
    Verify(backup::VerifyArguments),
    /// Restore files of a backup below a directory.
    Restore(backup::RestoreArguments),
    /// Print one file of a backup.
    Cat(backup::CatArguments),
    /// Say what a block device is: kind, disk, partition, numbers.
    Device(device::DeviceArguments),
    /// Print the completions of a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write one page per command into a directory.
    Man {
        /// Where to write the pages.
        directory: Option<PathBuf>,
    },
    /// One model under loom; started by `check`.
    #[command(name = plan::LOOM, hide = true)]
    Loom(check::LoomArguments),
    /// One column of a replay; started by `check`.
    #[command(name = plan::REPLAY, hide = true)]
    Replay(check::ReplayArguments),
}

/// Runs the command that the arguments of this process name.
pub fn main() -> ExitCode {
    run(std::env::args_os())
}

fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        // `--help` and `--version` are no failures.
        Err(error) if !error.use_stderr() => {
            let printed = error.print().and_then(|()| stdout().flush());
            return match printed {
                Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                    let failure = Failure::io("stdout", &error);
                    failure.print();
                    ExitCode::from(failure.code())
                }
                _ => ExitCode::SUCCESS,
            };
        }
        Err(error) => {
            let text = error.render().ansi().to_string();
            let text = text.replacen("error:", "ERROR:", 1);
            let _ = write!(anstream::stderr(), "qubes-fsm: {text}");
            return ExitCode::from(exit::USAGE);
        }
    };
    let talk = Talk { quiet: arguments.quiet, verbose: arguments.verbose };
    let done = match arguments.command {
        Command::Check(arguments) => check::run(&arguments, talk),
        Command::Store(command) => store::run(&command, talk),
        Command::Backup(arguments) => write::backup(&arguments, talk),
        Command::List(arguments) => backup::list(&arguments, talk),
        Command::Verify(arguments) => backup::verify(&arguments, talk),
        Command::Restore(arguments) => backup::restore(&arguments, talk),
        Command::Cat(arguments) => backup::cat(&arguments, talk),
        Command::Device(arguments) => device::run(&arguments),
        Command::Completions { shell } => completions(shell),
        Command::Man { directory } => man(directory),
        Command::Loom(arguments) => check::loom(&arguments),
        Command::Replay(arguments) => check::replay(&arguments),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            failure.print();
            ExitCode::from(failure.code())
        }
    }
}

/// How much a user wants to hear on stderr.
#[derive(Clone, Copy, Debug)]
struct Talk {
    quiet: bool,
    verbose: u8,
}

impl Talk {
    /// Something worth knowing that is no error.
    fn note(self, text: &str) {
        if !self.quiet {
            let _ = writeln!(anstream::stderr(), "qubes-fsm: {text}");
        }
    }

    /// Something worth knowing for those who asked.
    fn detail(self, text: &str) {
        if self.verbose > 0 {
            self.note(text);
        }
    }

    /// The same for those who asked twice.
    fn more(self, text: &str) {
        if self.verbose > 1 {
            self.note(text);
        }
    }
}

fn completions(shell: clap_complete::Shell) -> Result<u8, Failure> {
    let mut command = Arguments::command();
    let mut out = Vec::new();
    clap_complete::generate(shell, &mut command, "qubes-fsm", &mut out);
    exit::print(&out)?;
    Ok(0)
}

fn man(directory: Option<PathBuf>) -> Result<u8, Failure> {
    let command = Arguments::command();
    match directory {
        Some(directory) => clap_mangen::generate_to(command, &directory)
            .map_err(|error| {
                Failure::io(&directory.display().to_string(), &error)
            })?,
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(command)
                .render(&mut page)
                .map_err(|error| Failure::io("manual page", &error))?;
            exit::print(&page)?;
        }
    }
    Ok(0)
}
