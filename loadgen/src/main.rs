//! The program `loadgen`.
//!
//! Everything is in the library, so that tests and benches can reach it; [`loadgen::cli`] reads
//! what was typed.

use std::process::ExitCode;

fn main() -> ExitCode {
    loadgen::cli::main()
}
