//! The bench program `engine`: the path of a query.
//!
//! The module `engine` has the benches. The program has no others, so that their counts are those
//! of a program in which the path has one caller.

mod engine;
mod messages;

use std::process::ExitCode;

fn main() -> ExitCode {
    harness::run(&engine::BENCHES)
}
