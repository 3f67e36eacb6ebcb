//! Costs of single operations of the parts: benches of `benches/instructions.table`.
//!
//! One program, because each program is linked with optimisation of all crates together, which
//! takes longer than counting all of its benches. A module has the benches whose names begin with
//! its own. The paths of a query and of a connection have programs of their own, `engine` and
//! `connections`: a second caller of a function can end its inlining.

mod cache;
mod corefile;
mod messages;
mod policies;
mod pool;
mod wheel;

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::args().any(|word| word == "--hit-ratios") {
        policies::print_hit_ratios();
        println!();
        policies::shared::print();
        return ExitCode::SUCCESS;
    }
    let modules: [&[harness::Bench]; 4] =
        [&cache::BENCHES, &corefile::BENCHES, &pool::BENCHES, &wheel::BENCHES];
    harness::run(&modules.concat())
}
