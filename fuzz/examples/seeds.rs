//! Writes the seeds and the dictionaries of every target below a folder, as a
//! rule `fuzz`: `corpus/TARGET`, where cargo-fuzz looks, and `dictionaries`.
//!
//! Lives here: the argument. May not live here: any seed. An example and not
//! a binary, since cargo-fuzz takes each binary for a target.

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let folder = std::env::args_os().nth(1).map(PathBuf::from);
    let Some(folder) = folder else {
        eprintln!("usage: seeds FOLDER");
        return ExitCode::from(2);
    };
    match qubes_fsm_fuzz::targets::write(&folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("seeds: {}: {error}", folder.display());
            ExitCode::FAILURE
        }
    }
}
