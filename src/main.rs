//! The program: arguments, and then one of the things that it can do.
//!
//! Everything it says at the start goes to standard output, everything that keeps it from
//! starting is one message on standard error, and its exit code is one of [`Exit`].

use onward::cli::{self, Cli, CliError, Exit};
#[cfg(feature = "demo")]
use onward::demo;
#[cfg(feature = "top")]
use onward::top;
use onward::{check, doctor, service};
use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let outcome = match cli::parse(std::env::args_os()) {
        #[cfg(feature = "demo")]
        Ok(Cli::Demo(options)) => demo::run(&options).map_err(|error| failed(Exit::Failure, error)),
        Ok(Cli::Check(options)) => check::run(&options).map_err(|(exit, why)| failed(exit, why)),
        Ok(Cli::Doctor(options)) => return doctor::run(&options).into(),
        #[cfg(feature = "top")]
        Ok(Cli::Top(options)) => top::run(&options).map_err(|why| failed(Exit::Failure, why)),
        Ok(Cli::Serve(options)) => {
            service::serve(&options).map_err(|(exit, why)| failed(exit, why))
        }
        Err(CliError::Asked(text)) => {
            // Whoever reads it may have seen enough.
            let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
            Ok(())
        }
        Err(error) => Err(failed(error.exit(), error)),
    };
    outcome.err().unwrap_or(Exit::Clean).into()
}

/// Says why, and how the process ends.
fn failed(exit: Exit, why: impl Display) -> Exit {
    let _ = writeln!(std::io::stderr(), "onward: {why}");
    exit
}
