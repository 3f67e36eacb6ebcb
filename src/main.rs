//! The program: arguments → Corefile → Config → threads → wait.
//!
//! Everything it says at the start goes to standard output, everything that keeps it from
//! starting is one message on standard error, and its exit code is one of [`Exit`].

use onward::cli::{self, Cli, CliError, Exit, Serve};
use onward::config::Config;
use onward::server::Server;
use onward::sys::cpu;
use onward::sys::signals::Signals;
use onward::{check, demo, host};
use std::fmt::Display;
use std::process::ExitCode;

fn main() -> ExitCode {
    let outcome = match cli::parse(std::env::args_os()) {
        Ok(Cli::Demo(options)) => demo::run(&options).map_err(|error| failed(Exit::Failure, error)),
        Ok(Cli::Check(options)) => check::run(&options).map_err(|why| failed(Exit::Usage, why)),
        Ok(Cli::Serve(options)) => serve(&options),
        Err(CliError::Asked(text)) => {
            println!("{}", text.trim_end());
            Ok(())
        }
        Err(error) => Err(failed(error.exit(), error)),
    };
    outcome.err().unwrap_or(Exit::Clean).into()
}

/// Says why, and how the process ends.
fn failed(exit: Exit, why: impl Display) -> Exit {
    eprintln!("onward: {why}");
    exit
}

/// Serves until a signal says stop.
fn serve(options: &Serve) -> Result<(), Exit> {
    let usage = |error: &dyn Display| failed(Exit::Usage, error);
    let runtime = |error: &dyn Display| failed(Exit::Failure, error);
    // Blocked before any thread exists, so that all inherit it and one waits.
    let signals = Signals::block().map_err(|error| runtime(&error))?;
    let cores = options.placement.workers(&cpu::cores()).map_err(|error| usage(&error))?;
    let (name, text) = options.source.load().map_err(|error| usage(&error))?;
    let host = host::describe(cores.len(), options.dns_port).map_err(|error| runtime(&error))?;
    let (config, warnings) = Config::load(&text, &name, &host).map_err(|error| usage(&error))?;
    for warning in warnings {
        println!("[WARNING] {warning}");
    }
    let server = Server::start(config, &cores, |line| println!("[ERROR] {line}"))
        .map_err(|error| runtime(&error))?;
    if !options.quiet {
        for address in server.addresses() {
            println!("onward listens on {address}, {} workers", cores.len());
        }
    }
    let waited = signals.wait();
    server.stop();
    waited.map(drop).map_err(|error| runtime(&error))
}
