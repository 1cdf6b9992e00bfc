//! The `qubes-fsm` command. Everything it does is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    qubes_fsm::cli::main()
}
