//! `onward check`: what a configuration means and needs, and what is wrong with it.
//!
//! Reads, validates and resolves as serving does, by the same functions, and refuses what serving
//! would refuse, as far as that can be known without listening: addresses are tried with a socket
//! of any port that nobody is told of. Whether another program has a port is found out when it is
//! bound, and not here. [`Report`] collects the numbers; how it is written is told by its files
//! `text` and `json`.

mod json;
mod report;
mod text;

pub use report::Report;

use crate::cli::{Check, CliError, Format};
use crate::config::{Config, ConfigError};
use crate::server::{self, StartError};
use crate::sys::{cpu, socket};
use crate::{host, worker};
use std::fmt;
use std::io::{self, Write as _};

/// Why it would not be served.
#[derive(Debug)]
pub enum Refusal {
    /// The command line or the file it names.
    CommandLine(CliError),
    /// What the Corefile says.
    Config(ConfigError),
    /// What this host cannot do.
    Start(StartError),
    /// What can be needed at once and is more than the process may open.
    Descriptors {
        /// This many.
        needed: usize,
        /// And it may open no more than this.
        open_files: usize,
    },
    /// The kernel would not say what there is.
    Host(io::Error),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CommandLine(error) => error.fmt(f),
            Self::Config(error) => error.fmt(f),
            Self::Start(error) => error.fmt(f),
            Self::Descriptors { needed, open_files } => write!(
                f,
                "up to {needed} file descriptors can be needed, but the process may open only \
                 {open_files}: listen on fewer addresses, start fewer workers, or raise the limit \
                 (LimitNOFILE= in the systemd unit, or ulimit -Hn)"
            ),
            Self::Host(error) => write!(f, "cannot learn about this host: {error}"),
        }
    }
}

impl std::error::Error for Refusal {}

/// Checks and writes the report to standard output.
///
/// # Errors
/// [`Refusal`]: it would not be served. Machines are told so on standard output too.
pub fn run(options: &Check) -> Result<(), Refusal> {
    let outcome = check(options);
    let text = match (&outcome, options.format) {
        (Ok(report), Format::Text) => report.to_string(),
        (Ok(report), Format::Json) => json::accepted(report),
        (Err(_), Format::Text) => String::new(),
        (Err(refusal), Format::Json) => json::refused(refusal),
    };
    // Whoever asked has gone if this fails; the exit code still tells.
    let _ = io::stdout().write_all(text.as_bytes());
    outcome.map(drop)
}

fn check(options: &Check) -> Result<Report, Refusal> {
    let serve = &options.serve;
    let cores = serve.placement.workers(&cpu::cores()).map_err(Refusal::CommandLine)?;
    let (name, text) = serve.source.load().map_err(Refusal::CommandLine)?;
    let host = host::describe(cores.len(), serve.dns_port).map_err(Refusal::Host)?;
    let (config, warnings) = Config::load(&text, &name, &host).map_err(Refusal::Config)?;
    refuse_what_the_host_lacks(&config).map_err(Refusal::Start)?;
    let needed = config.descriptors().all(cores.len());
    if needed > host.open_files {
        return Err(Refusal::Descriptors { needed, open_files: host.open_files });
    }
    let memory = worker::measure(&config.of_worker(0, cores.len())).map_err(Refusal::Host)?;
    Ok(Report::new(config, warnings, &host, cores, memory))
}

fn refuse_what_the_host_lacks(config: &Config) -> Result<(), StartError> {
    if config.listeners.is_empty() {
        return Err(StartError::NoListener);
    }
    for listener in config.listeners.iter().filter(|listener| !listener.implied) {
        let address = listener.address;
        socket::check_source(address, address.ip())
            .map_err(|error| StartError::Bind(address, error))?;
    }
    server::check_sources(config)
}
