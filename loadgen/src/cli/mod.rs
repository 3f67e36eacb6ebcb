//! Command line: the five commands and their options.
//!
//! Arguments are parsed here into the options of the modules that do the work; nothing here sends
//! or answers queries. [`asking`] has the common options of the commands that send queries. An
//! error in a file has its name, line and column; the exit code of bad usage is 2.

pub mod asking;
mod compare;
mod find_max;
mod incident;
mod run;
mod upstream;

use clap::{CommandFactory, Parser, Subcommand};
use std::io;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  loadgen upstream --listen 127.0.0.1:5301 127.0.0.1:5302
      Two upstreams, over UDP and TCP, until SIGINT or SIGTERM.
  onward --listen 127.0.0.1:5300 --forward 127.0.0.1:5301 127.0.0.1:5302
      The forwarder under test.
  loadgen run --server 127.0.0.1:5300 --rate 20000 --seconds 10 --verify --html report.html
      Open loop with 20,000 queries per second, verified answers and an HTML report.
  loadgen find-max --server 127.0.0.1:5300 --p99-max 5ms
      Highest rate with a p99 latency of at most 5 ms and no loss.
  loadgen compare --a 127.0.0.1:5300 --b 127.0.0.1:5301 --rate 5000
      Two servers measured in turn, and the ratios of their results.
  loadgen incident --html incident.html
      Outage behind a virtual address, with and without max_age. Needs root.

Exit codes:
  0  success
  1  a goal was missed
  2  usage error or an invalid file";

/// A load generator for DNS servers that verifies every answer, and a scripted upstream
#[derive(Parser)]
#[command(name = "loadgen", version, after_help = EXAMPLES, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Send queries, verify the answers and print a report
    Run(run::Arguments),
    /// Search for the highest rate that a server sustains within limits
    FindMax(find_max::Arguments),
    /// Measure two servers in turn and compare them
    Compare(compare::Arguments),
    /// Answer over UDP and TCP as a script says until SIGINT or SIGTERM, then print the sources
    Upstream(upstream::Arguments),
    /// Replay the outage of a backend behind a virtual address and measure the shares afterwards
    Incident(incident::Arguments),
}

/// The command line as `clap` knows it, for manual pages and completions.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Runs the command.
pub fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Run(arguments) => run::main(&arguments),
        Command::FindMax(arguments) => find_max::main(&arguments),
        Command::Compare(arguments) => compare::main(&arguments),
        Command::Upstream(arguments) => upstream::main(&arguments),
        Command::Incident(arguments) => incident::main(&arguments),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("loadgen: {error}");
        ExitCode::from(if error.kind() == io::ErrorKind::InvalidInput { 2 } else { 1 })
    })
}

/// Returns an error of bad usage.
fn invalid(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text.into())
}

/// Returns success, or failure after printing the sentences in `faults` to standard error.
fn exit_code(faults: &[String]) -> ExitCode {
    faults.iter().for_each(|fault| eprintln!("loadgen: {fault}"));
    if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::Arguments;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }
}
