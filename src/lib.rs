//! onward: a DNS forwarder for bare-metal resolver hosts, thread-per-core and synchronous.
//!
//! ```text
//!            SO_REUSEPORT: one UDP socket per worker and address
//! client ──► worker 0 (core c0) ──► its own sockets to every upstream ──► upstream A, B, …
//! client ──► worker 1 (core c1) ──► its own sockets to every upstream ──► upstream A, B, …
//!                 ▲   │ bounded channels + wakers
//!                 │   ▼
//!              keeper: the shared timer wheel (pools, caches), health probes, and the stop
//!              loader: one for each source of data (hosts files): reads it, and again
//!              admin:  pages over HTTP: health, ready, metrics, status
//!              writer: formats and writes what is logged of queries
//! ```
//!
//! The rooms, from the words typed to the packets moved:
//!
//! * [`cli`]: the command line; [`options`]: its options as plain data; [`corefile`]: text to tree;
//!   [`config`]: tree to meaning, for the [`host`] it will run on; [`resolve`]: what host names in
//!   it stand for. [`zonefile`]: pure; the text of a zone to records.
//! * [`check`]: what a configuration means and needs, told without serving anybody.
//! * [`doctor`]: what of the host is right, and what mends the rest. [`topology`]: where its cards
//!   are, and whether the workers are near.
//! * [`engine`]: pure; every decision about a query. [`wheel`]: pure; timers.
//! * [`tls`]: certificates, keys and sessions, between a socket and its stream.
//! * [`sys`]: the kernel, and the only `unsafe`. [`clock`] reads the time, [`moment`] is one.
//! * [`worker`]: the loop of one core. [`keeper`]: the thread of timers and probes. [`loader`]: the
//!   thread of a source of data. [`writer`]: the thread that writes. [`admin`]: the thread of
//!   HTTP. [`control`]: what they say to each other. [`server`]: all of it started, renewed and
//!   stopped. [`service`]: the process around it, from signal to signal.
//! * [`blocking`]: what may block for ever, on threads that can be given up.
//! * [`status`]: what onward shows of itself, as plain data: [`admin`] draws it as a page, `top`
//!   on a terminal, both with the [`figures`] that people read.
//! * [`log`]: what happens, as lines for people or for machines.
//! * `traffic`: a client and an upstream for tests, loadgen and the `demo`.
//!
//! `demo`, `top` and `traffic` are features: a service can be built without them.
//!
//! What is absent, always: the engine never does I/O and never asks what time it is; sys knows
//! nothing of DNS; a worker takes no decision about a query; no two workers share a mutable byte,
//! save a few words for each upstream that say whether it is down and takes EDNS, and one for each
//! server block that says whether its queries go in a circle; nothing is allocated, formatted,
//! locked or logged per packet on the hot path; every queue, table and loop has a named bound and a
//! counter.

pub mod admin;
pub mod blocking;
pub(crate) mod check;
pub(crate) mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod corefile;
#[cfg(feature = "demo")]
pub(crate) mod demo;
pub(crate) mod doctor;
pub mod engine;
pub(crate) mod figures;
pub(crate) mod host;
pub(crate) mod keeper;
pub mod loader;
pub mod log;
pub mod moment;
pub(crate) mod options;
pub mod resolve;
pub mod server;
pub(crate) mod service;
pub mod status;
pub mod sys;
pub mod tls;
#[cfg(feature = "top")]
pub mod top;
pub(crate) mod topology;
#[cfg(feature = "traffic")]
pub mod traffic;
pub mod wheel;
pub mod worker;
pub mod writer;
pub mod zonefile;

pub use cli::command;

use cli::Cli;
use options::{CliError, Exit};
use std::ffi::OsString;
use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

/// Runs the program with these arguments, its name first.
///
/// Output at the start goes to standard output, a failure is one message on standard error, and the
/// exit code is 0, 1 (failure at run time) or 2 (error in the arguments or the Corefile).
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let outcome = match cli::parse(arguments) {
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
            // A reader that has closed the pipe has seen enough.
            let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
            Ok(())
        }
        Err(error) => Err(failed(error.exit(), error)),
    };
    outcome.err().unwrap_or(Exit::Clean).into()
}

/// Prints the reason of a failure and returns its exit status.
fn failed(exit: Exit, why: impl Display) -> Exit {
    let _ = writeln!(std::io::stderr(), "onward: {why}");
    exit
}
