//! The program: [`onward::run`] with the arguments of the process.
//!
//! Arguments are read in `cli`; what each command does is in the library, where tests can reach
//! it.

use std::process::ExitCode;

fn main() -> ExitCode {
    onward::run(std::env::args_os())
}
