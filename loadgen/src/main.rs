//! The program `loadgen`.
//!
//! Everything is in the library, so that tests and benches can reach it; [`loadgen::cli`] parses
//! the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    loadgen::cli::main()
}
