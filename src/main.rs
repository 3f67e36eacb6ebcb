//! The program: [`onward::run`] with the arguments of the process.
//!
//! Arguments are parsed in `cli`; the commands themselves are in the library, where tests can reach
//! them.

use std::process::ExitCode;

fn main() -> ExitCode {
    onward::run(std::env::args_os())
}
