//! The bench program `connections`: the path of queries over TCP.
//!
//! The module `connections` has the benches. The program has no others, so that their counts are
//! those of a program in which the path has one caller.

mod connections;
mod messages;

use std::process::ExitCode;

fn main() -> ExitCode {
    harness::run(&connections::BENCHES)
}
