//! Where the passphrase comes from: a file, a descriptor, a command, or the
//! terminal; never an argument or the environment, which others can read.
//!
//! Lives here: the options and reading. May not live here: what it is for.

use std::fs::File;
use std::io::{ErrorKind, Read, stdin};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use clap::Args;
use zeroize::Zeroizing;

use super::Talk;
use super::cancel::Canceled;
use super::exit::{self, Failure};
use super::kernel::{TICK, Terminal, terminate};

#[derive(Args, Debug)]
#[group(multiple = false)]
pub(super) struct PassphraseOption {
    /// Read the passphrase from the first line of FILE.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Read it from the first line of that open descriptor.
    #[arg(long, value_name = "N", value_parser = descriptor)]
    passphrase_fd: Option<u32>,
    /// Read it from the first line that CMD prints.
    #[arg(long, value_name = "CMD")]
    passphrase_command: Option<String>,
}

/// Bytes of a passphrase at most; longer ones are a wrong file.
const BYTES_MAX: u64 = 64 * 1024;

/// What a command gets between TERM and KILL.
const PATIENCE: Duration = Duration::from_secs(1);

type Passphrase = Zeroizing<Vec<u8>>;

/// A descriptor that was open when this process began: looked at while the
/// arguments are read, before that number could be one of our own.
fn descriptor(text: &str) -> Result<u32, String> {
    let number: u32 = text.parse().map_err(|_| "wanted a number")?;
    match path_of(number).symlink_metadata() {
        Ok(_) => Ok(number),
        Err(_) => Err("it is not open; wanted an open descriptor".to_owned()),
    }
}

fn path_of(descriptor: u32) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{descriptor}"))
}

impl PassphraseOption {
    /// The passphrase, asked for on the terminal if nothing else was said.
    pub(super) fn read(
        &self,
        archive: &Path,
        canceled: &Canceled,
        talk: Talk,
    ) -> Result<Passphrase, Failure> {
        if let Some(path) = &self.passphrase_file {
            let (name, path) = (exit::shown(path), path.clone());
            talk.detail(&format!("passphrase: from {name}"));
            // It may be a pipe whose writer never comes.
            let line = move || first_line(&name, open(&path)?);
            return canceled.wait("passphrase", line)?;
        }
        if let Some(number) = self.passphrase_fd {
            let name = format!("descriptor {number}");
            talk.detail(&format!("passphrase: from {name}"));
            if number == 0 && archive.as_os_str() == "-" {
                return Err(Failure::usage(
                    "descriptor 0: both the passphrase and the archive; \
                     wanted one of them elsewhere",
                ));
            }
            let line = move || {
                if number == 0 {
                    return first_line(&name, stdin().lock());
                }
                first_line(&name, open(&path_of(number))?)
            };
            return canceled.wait("passphrase", line)?;
        }
        if let Some(command) = &self.passphrase_command {
            talk.detail("passphrase: from a command");
            return of_command(command, canceled);
        }
        of_terminal(canceled)
    }

    /// A passphrase that nothing can tell to be wrong: asked for twice, where
    /// it is asked for.
    pub(super) fn read_new(
        &self,
        archive: &Path,
        canceled: &Canceled,
        talk: Talk,
    ) -> Result<Passphrase, Failure> {
        let first = self.read(archive, canceled, talk)?;
        let is_asked = self.passphrase_file.is_none()
            && self.passphrase_fd.is_none()
            && self.passphrase_command.is_none();
        if is_asked && of_terminal_again(canceled)? != first {
            return Err(Failure::usage(
                "passphrase: two different ones; wanted the same twice",
            ));
        }
        Ok(first)
    }
}

fn open(path: &Path) -> Result<File, Failure> {
    File::open(path).map_err(|error| Failure::io(&exit::shown(path), &error))
}

/// Everything up to the first newline, which is not part of it. What is
/// behind it may never come.
fn first_line(name: &str, mut file: impl Read) -> Result<Passphrase, Failure> {
    let mut piece = Zeroizing::new([0; 4096]);
    // Room for all of it: what grows leaves copies.
    let room = BYTES_MAX as usize + piece.len();
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    while !bytes.contains(&b'\n') && bytes.len() as u64 <= BYTES_MAX {
        match file.read(&mut *piece) {
            Ok(0) => break,
            Ok(count) => {
                bytes.extend(piece.get(..count).unwrap_or_default());
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(Failure::io(name, &error)),
        }
    }
    line_of(name, &bytes)
}

fn line_of(name: &str, bytes: &[u8]) -> Result<Passphrase, Failure> {
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    if line.len() as u64 > BYTES_MAX {
        let text = format!(
            "first line of more than {BYTES_MAX} bytes; wanted a passphrase"
        );
        return Err(Failure::other(name, &text).with_code(exit::LIMIT));
    }
    if line.is_empty() {
        let text = "an empty first line; wanted a passphrase";
        return Err(Failure::other(name, text).with_code(exit::USAGE));
    }
    Ok(Zeroizing::new(line.to_vec()))
}

/// On the terminal of this process: stdin may be the archive.
fn of_terminal(canceled: &Canceled) -> Result<Passphrase, Failure> {
    asked("Passphrase: ", canceled)
}

fn of_terminal_again(canceled: &Canceled) -> Result<Passphrase, Failure> {
    asked("The same again: ", canceled)
}

fn asked(
    question: &'static str,
    canceled: &Canceled,
) -> Result<Passphrase, Failure> {
    let name = "passphrase";
    let Ok(mut terminal) = Terminal::ask(question) else {
        return Err(Failure::usage(
            "passphrase: no terminal to ask on; wanted --passphrase-file, \
             --passphrase-fd or --passphrase-command",
        ));
    };
    let line = terminal.line(&|| canceled.is_set());
    drop(terminal);
    let line = line.map_err(|error| Failure::io("terminal", &error))?;
    line_of(name, &line.ok_or_else(|| canceled.failure(name))?)
}

fn of_command(
    command: &str,
    canceled: &Canceled,
) -> Result<Passphrase, Failure> {
    let name = "passphrase command";
    let failed = |error| Failure::io(name, &error).with_code(exit::PROGRAM);
    let mut child = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let Some(mut output) = child.stdout.take() else {
        return Err(Failure::other(name, "no pipe"));
    };
    // To its end: a command that is not read to the end may say that.
    let line = canceled.wait(name, move || {
        let room = BYTES_MAX as usize + 64;
        let mut bytes = Zeroizing::new(Vec::with_capacity(room));
        let read = output.by_ref().take(BYTES_MAX + 1).read_to_end(&mut bytes);
        read.map_err(|error| Failure::io(name, &error))?;
        line_of(name, &bytes)
    });
    let ended = line.and_then(|line| {
        let status = status(&mut child, canceled).map_err(failed)?;
        Ok((line, status.ok_or_else(|| canceled.failure(name))?))
    });
    let (line, status) = match ended {
        Ok(ended) => ended,
        Err(failure) => {
            end(&mut child);
            return Err(failure);
        }
    };
    if !status.success() {
        let text = format!("{status}; wanted exit 0");
        return Err(Failure::other(name, &text).with_code(exit::PROGRAM));
    }
    line
}

/// How it ended; `None` once that is canceled.
fn status(
    child: &mut Child,
    canceled: &Canceled,
) -> std::io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if canceled.is_set() {
            return Ok(None);
        }
        std::thread::sleep(TICK / 5);
    }
}

/// Not in a process group of its own, which could not ask on the terminal:
/// what the command has started ends by itself.
fn end(child: &mut Child) {
    terminate(child);
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        std::thread::sleep(TICK / 5);
    }
    let _ = child.kill();
    let _ = child.wait();
}
