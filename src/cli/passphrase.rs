//! Where the passphrase comes from: a file, a descriptor, a command, or the
//! terminal; never an argument or the environment, which others can read.
//!
//! Lives here: the options and reading. May not live here: what it is for.

use std::fs::File;
use std::io::{IsTerminal as _, Read as _, stdin};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;
use zeroize::Zeroizing;

use super::exit::{self, Failure};

#[derive(Args, Debug)]
#[group(multiple = false)]
pub(super) struct PassphraseOption {
    /// Read the passphrase from the first line of FILE.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Read it from the first line of that open descriptor.
    #[arg(long, value_name = "N")]
    passphrase_fd: Option<u32>,
    /// Read it from the first line that CMD prints.
    #[arg(long, value_name = "CMD")]
    passphrase_command: Option<String>,
}

/// Bytes of a passphrase at most; longer ones are a wrong file.
const BYTES_MAX: u64 = 64 * 1024;

impl PassphraseOption {
    /// The passphrase, asked for on the terminal if nothing else was said.
    pub(super) fn read(&self) -> Result<Zeroizing<Vec<u8>>, Failure> {
        if let Some(path) = &self.passphrase_file {
            let name = exit::shown(path);
            return first_line(&name, open(path)?);
        }
        if let Some(number) = self.passphrase_fd {
            let path = PathBuf::from(format!("/proc/self/fd/{number}"));
            return first_line(&format!("descriptor {number}"), open(&path)?);
        }
        if let Some(command) = &self.passphrase_command {
            return of_command(command);
        }
        if !stdin().is_terminal() {
            return Err(Failure::usage(
                "passphrase: stdin is no terminal to ask on; wanted \
                 --passphrase-file, --passphrase-fd or --passphrase-command",
            ));
        }
        let text = rpassword::prompt_password("Passphrase: ")
            .map_err(|error| Failure::io("terminal", &error))?;
        Ok(Zeroizing::new(text.into_bytes()))
    }
}

fn open(path: &Path) -> Result<File, Failure> {
    File::open(path).map_err(|error| Failure::io(&exit::shown(path), &error))
}

/// Everything up to the first newline, which is not part of it.
fn first_line(
    name: &str,
    file: impl std::io::Read,
) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::io(name, &error))?;
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    if line.len() as u64 > BYTES_MAX {
        let text = format!("first line of more than {BYTES_MAX} bytes");
        return Err(Failure::other(name, &text).with_code(exit::LIMIT));
    }
    if line.is_empty() {
        let text = "an empty first line; wanted a passphrase";
        return Err(Failure::other(name, text).with_code(exit::USAGE));
    }
    Ok(Zeroizing::new(line.to_vec()))
}

fn of_command(command: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let failed = |error| {
        Failure::io("passphrase command", &error).with_code(exit::PROGRAM)
    };
    let mut child = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let output = child.stdout.take();
    let line = output.map(|out| first_line("passphrase command", out));
    let status = child.wait().map_err(failed)?;
    if !status.success() {
        let text = format!("{status}; wanted exit 0");
        return Err(Failure::other("passphrase command", &text)
            .with_code(exit::PROGRAM));
    }
    line.unwrap_or_else(|| Err(Failure::other("passphrase command", "no pipe")))
}
