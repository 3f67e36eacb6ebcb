//! Options of the server, `check` and `doctor` as plain data, with their errors and exit codes.
//!
//! The command line is parsed by `cli`; the spelling of an option is not known here. Everything
//! that depends on the host comes after parsing: [`Source::load`] reads the text of the
//! configuration, and [`Placement::workers`] compares the requested cores with those that exist.

use crate::blocking::Steps;
use crate::corefile::{Cause, read_file, read_text};
use crate::server::Steer;
use crate::worker::IoOptions;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// The file that is read by default.
const COREFILE: &str = "Corefile";
/// The path of standard input.
pub(crate) const DEV_STDIN: &str = "/dev/stdin";

/// Options of `check`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Check {
    /// Options of the server that is checked.
    pub(crate) serve: Serve,
    /// Output format.
    pub(crate) format: CheckFormat,
}

/// Output format of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum CheckFormat {
    /// Text for people
    Text,
    /// One JSON object
    Json,
    /// A drop-in for the systemd unit, with its limits
    Systemd,
}

/// Options of `doctor`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DoctorOptions {
    /// Options of the server.
    pub(crate) serve: Serve,
    /// Output format.
    pub(crate) format: Format,
    /// Time for which counters are watched.
    pub(crate) seconds: Duration,
    /// Directory with `proc` and `sys`.
    pub(crate) root: PathBuf,
}

/// Output format of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Text for people
    Text,
    /// JSON
    Json,
}

/// Options of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Serve {
    /// Source of the configuration.
    pub(crate) source: Source,
    /// Number and cores of workers.
    pub(crate) placement: Placement,
    /// Distribution of datagrams to workers.
    pub(crate) steer: Steer,
    /// I/O options of workers.
    pub(crate) io_options: IoOptions,
    /// Default port of zones.
    pub(crate) dns_port: u16,
    /// Print nothing at the start.
    pub(crate) quiet: bool,
    /// Path of the PID file.
    pub(crate) pidfile: Option<PathBuf>,
    /// Format of the log.
    pub(crate) log_format: Format,
    /// The account to switch to once the sockets are bound.
    pub(crate) user: Option<String>,
    /// Threads that move packets open no files and start no programs.
    pub(crate) sandbox: bool,
}

/// Source of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// From this file, which must exist.
    File(PathBuf),
    /// From standard input.
    Stdin,
    /// From `Corefile` in the working directory.
    WorkingDirectory,
    /// From `--listen` and `--forward`, written as this Corefile.
    Flags(String),
}

/// Number and cores of workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    /// One on each core that this process may run on.
    EveryCore,
    /// One on each of these.
    Cores(Vec<usize>),
    /// A number of workers, on cores of the kernel's choice.
    Unpinned(usize),
}

/// Reason why no command runs.
#[derive(Debug)]
pub(crate) enum CliError {
    /// Help or the version, for standard output.
    Asked(String),
    /// Error in the arguments.
    Usage(String),
    /// `--cores` names cores on which this process may not run.
    MissingCores {
        /// Requested cores that are missing.
        missing: Vec<usize>,
        /// Available cores.
        available: Vec<usize>,
    },
    /// No argument, and no Corefile in the working directory.
    NothingToDo,
    /// The Corefile of this name cannot be read.
    Unreadable(String, io::Error),
}

impl CliError {
    /// Returns the exit status of the error.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Asked(_) => Exit::Clean,
            error => error.cause().into(),
        }
    }

    /// Returns the party that has to change: the command line, unless a file cannot be read.
    pub(crate) fn cause(&self) -> Cause {
        match self {
            Self::Unreadable(..) => Cause::Host,
            Self::Asked(_) | Self::Usage(_) | Self::MissingCores { .. } | Self::NothingToDo => {
                Cause::Text
            }
        }
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked(text) | Self::Usage(text) => out.write_str(text.trim_end()),
            Self::MissingCores { missing, available } => {
                let (missing, available) = (enumerate(missing), enumerate(available));
                write!(
                    out,
                    "--cores: this process is not allowed to run on {missing}; allowed: {available}"
                )
            }
            Self::NothingToDo => {
                let demo = if cfg!(feature = "demo") { TRY_DEMO } else { "" };
                write!(out, "{NOTHING_TO_DO}{demo}{TRY}")
            }
            Self::Unreadable(name, error) => {
                write!(out, "cannot read {name}: {error}")?;
                match error.kind() {
                    io::ErrorKind::NotFound => {
                        out.write_str("; correct the path, or give another with --conf")
                    }
                    io::ErrorKind::PermissionDenied => write!(
                        out,
                        "; give the user that onward runs as read permission \
                         (see ls -l {name})"
                    ),
                    io::ErrorKind::IsADirectory => {
                        out.write_str("; give the path of the file in it, such as {name}/Corefile")
                    }
                    io::ErrorKind::InvalidInput => out.write_str(
                        "; give the path of a regular file, or pass the text on standard input \
                         (--conf -)",
                    ),
                    _ => Ok(()),
                }
            }
        }
    }
}

impl std::error::Error for CliError {}

/// Exit status of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Success.
    Clean,
    /// Something failed at run time, or the host lacks what the configuration needs.
    Failure,
    /// Error in the command line or in the Corefile.
    Usage,
}

impl Exit {
    /// Returns the exit code: 0, 1 or 2.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Clean => 0,
            Self::Failure => 1,
            Self::Usage => 2,
        }
    }
}

impl From<Cause> for Exit {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::Text => Self::Usage,
            Cause::Host => Self::Failure,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

const NOTHING_TO_DO: &str = "\
no Corefile in this directory, and no --conf or --forward on the command line. Try one of these:";
const TRY_DEMO: &str = "
  onward demo                                          run a demonstration on loopback";
const TRY: &str = "
  onward --listen 127.0.0.1:5300 --forward 192.0.2.53  forward without a Corefile
  onward --conf /etc/onward/Corefile                   serve a Corefile";

impl Source {
    /// Returns the configuration's name for messages, and its text. Waits for the end of standard
    /// input if that is the source. Reports its steps to `steps`.
    ///
    /// # Errors
    /// [`CliError::NothingToDo`] if nothing was named and there is no `Corefile`,
    /// [`CliError::Unreadable`] if it cannot be read.
    pub(crate) fn load(&self, steps: &Steps) -> Result<(String, Vec<u8>), CliError> {
        let name = match self {
            Self::Flags(_) => "the command line".to_owned(),
            Self::File(path) => path.display().to_string(),
            Self::WorkingDirectory => COREFILE.to_owned(),
            Self::Stdin => DEV_STDIN.to_owned(),
        };
        let reading = format!("reading {name}");
        let text = match self {
            Self::Flags(text) => Ok(text.clone().into_bytes()),
            Self::File(path) => {
                steps.begin(reading);
                read_file(path)
            }
            Self::WorkingDirectory => {
                steps.begin(reading);
                read_file(Path::new(COREFILE))
            }
            Self::Stdin => {
                // An operator may be typing it.
                steps.begin_endless(reading);
                read_text(io::stdin())
            }
        };
        text.map_err(|error| match (self, error.kind()) {
            (Self::WorkingDirectory, io::ErrorKind::NotFound) => CliError::NothingToDo,
            _ => CliError::Unreadable(String::clone(&name), error),
        })
        .map(|text| (name, text))
    }
}

impl Source {
    /// Reads the source again, for a reload.
    ///
    /// # Errors
    /// As [`Source::load`]; also if the source cannot be read a second time.
    pub(crate) fn load_again(&self, steps: &Steps) -> Result<(String, Vec<u8>), CliError> {
        if *self == Self::Stdin {
            let why = "standard input can be read only once; restart, or use --conf FILE";
            return Err(CliError::Usage(why.into()));
        }
        self.load(steps)
    }
}

impl Placement {
    /// Returns the core of each worker, if it is pinned. `available` are the cores that this
    /// process may run on ([`crate::sys::cpu::cores`]).
    ///
    /// # Errors
    /// [`CliError::MissingCores`].
    pub(crate) fn workers(&self, available: &[usize]) -> Result<Vec<Option<usize>>, CliError> {
        match self {
            Self::Unpinned(count) => Ok(vec![None; *count]),
            Self::EveryCore if available.is_empty() => Ok(vec![None]),
            Self::EveryCore => Ok(available.iter().copied().map(Some).collect()),
            Self::Cores(cores) => {
                let absent = |core: &usize| !available.contains(core);
                let missing: Vec<usize> = cores.iter().copied().filter(absent).collect();
                if missing.is_empty() {
                    return Ok(cores.iter().copied().map(Some).collect());
                }
                Err(CliError::MissingCores { missing, available: available.to_vec() })
            }
        }
    }
}

/// Formats cores as «core 3» or «cores 0, 1, 2».
fn enumerate(cores: &[usize]) -> String {
    let numbers: Vec<String> = cores.iter().map(usize::to_string).collect();
    let noun = if cores.len() == 1 { "core" } else { "cores" };
    format!("{noun} {}", numbers.join(", "))
}

#[cfg(test)]
mod tests {
    use super::{CliError, Exit, Placement, Source};
    use crate::blocking::{STEP_MAX, Steps};
    use crate::clock::Clock;
    use std::io;
    use std::path::PathBuf;

    fn steps() -> Steps {
        Steps::new(Clock::start(), STEP_MAX)
    }

    #[test]
    fn a_core_that_the_host_lacks_is_an_error_that_lists_those_it_has() {
        let cores = Placement::Cores(vec![1, 7]);
        assert_eq!(cores.workers(&[0, 1, 7]).unwrap(), [Some(1), Some(7)]);
        let error = cores.workers(&[0, 1]).unwrap_err();
        let text = "--cores: this process is not allowed to run on core 7; allowed: cores 0, 1";
        assert_eq!((error.to_string().as_str(), error.exit()), (text, Exit::Usage));
        assert_eq!(Placement::EveryCore.workers(&[2, 4]).unwrap(), [Some(2), Some(4)]);
        assert_eq!(Placement::EveryCore.workers(&[]).unwrap(), [None]);
        assert_eq!(Placement::Unpinned(2).workers(&[0]).unwrap(), [None, None]);
    }

    #[test]
    fn exits_have_their_codes() {
        let codes = [Exit::Clean, Exit::Failure, Exit::Usage].map(Exit::code);
        assert_eq!(codes, [0, 1, 2]);
        assert_eq!(CliError::NothingToDo.exit(), Exit::Usage);
        assert_eq!(CliError::Usage(String::new()).exit(), Exit::Usage);
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = Source::File(PathBuf::from("/no/such/Corefile")).load(&steps()).unwrap_err();
        assert!(error.to_string().starts_with("cannot read /no/such/Corefile: "), "{error}");
        assert_eq!(error.exit(), Exit::Failure, "it may be there later");
    }

    #[test]
    fn an_unreadable_file_is_an_error_with_advice() {
        for (kind, hint) in [
            (io::ErrorKind::NotFound, "--conf"),
            (io::ErrorKind::PermissionDenied, "ls -l Corefile"),
            (io::ErrorKind::IsADirectory, "file in it"),
        ] {
            let text = CliError::Unreadable("Corefile".into(), kind.into()).to_string();
            assert!(text.contains(hint) && text.lines().count() == 1, "{text}");
        }
    }

    #[test]
    fn a_pipe_or_directory_is_not_read() {
        let error = Source::File(PathBuf::from("/dev/zero")).load(&steps()).unwrap_err();
        let told = error.to_string();
        let why = "cannot read /dev/zero: not a regular file but a character device; ";
        assert!(told.starts_with(why) && told.contains("--conf -"), "{told}");
    }

    #[test]
    fn without_arguments_and_corefile_the_error_has_examples() {
        let text = CliError::NothingToDo.to_string();
        for hint in ["onward demo", "--listen", "--conf"] {
            assert!(text.contains(hint), "{hint}");
        }
    }
}
