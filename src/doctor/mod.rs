//! `onward doctor`: host settings that cost performance or safety, with commands to fix them.
//!
//! Reads files of the kernel under a given root (`read`), compares them with the requirements of a
//! configuration (`judge`, which is pure), and writes a line for each check (`show`). It changes
//! nothing, listens nowhere and sends nothing over the network.

mod facts;
mod judge;
mod read;
mod show;

use crate::check::{self, Refusal};
use crate::options::{CliError, DoctorOptions, Format, Serve};
use crossbeam_channel::RecvTimeoutError;
use facts::Wanted;
use judge::Finding;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

/// Severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    /// As it should be, or unknown.
    Fine,
    /// Something costs performance or safety.
    Advice,
    /// Something prevents onward from starting, or loses packets now.
    Broken,
}

impl From<Verdict> for ExitCode {
    fn from(verdict: Verdict) -> Self {
        Self::from(match verdict {
            Verdict::Fine => 0,
            Verdict::Advice => 1,
            Verdict::Broken => 2,
        })
    }
}

/// Checks the host and writes the findings to standard output; returns the worst verdict.
pub(crate) fn run(options: &DoctorOptions) -> Verdict {
    let (wanted, own) = configuration(&options.serve);
    let mut facts = read::facts(&options.root);
    wait(options.seconds);
    facts.watched = read::counters(&options.root).since(&facts.counters);
    facts.seconds = options.seconds.as_secs();
    let findings: Vec<_> = own.into_iter().chain(judge::judge(&facts, wanted.as_ref())).collect();
    let worst = findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Fine);
    let text = match options.format {
        Format::Text => show::text(&findings, worst),
        Format::Json => show::json(&findings, worst),
    };
    // An error means that the reader has closed the pipe; the exit code still reports the result.
    let _ = io::stdout().write_all(text.as_bytes());
    worst
}

/// Returns the requirements of the configuration, and a finding about it.
fn configuration(serve: &Serve) -> (Option<Wanted>, Option<Finding>) {
    match check::examine(serve) {
        Ok(report) => {
            // Warnings about this host are found below, in the files that are read here.
            let found = match report.warnings.len() {
                0 => "the Corefile can be served".to_owned(),
                odd => format!("the Corefile can be served; onward check prints {odd} warnings"),
            };
            let finding = Finding::fine("configuration", found);
            (Some(Wanted::of(&report, serve.steer)), Some(finding))
        }
        Err(Refusal::CommandLine(CliError::NothingToDo)) => {
            let text = "not checked: use --conf FILE to check the host against a Corefile";
            (None, Some(Finding::fine("configuration", text)))
        }
        Err(refusal) => {
            let finding = Finding::broken("configuration", refusal.to_string())
                .because("onward cannot start with this Corefile")
                .mend("onward check --conf FILE   # repeat after the correction");
            (None, Some(finding))
        }
    }
}

/// Sleeps for `time`.
fn wait(time: Duration) {
    let (_nobody, nothing) = crossbeam_channel::bounded::<()>(0);
    let outcome = nothing.recv_timeout(time);
    debug_assert_eq!(outcome, Err(RecvTimeoutError::Timeout));
}
