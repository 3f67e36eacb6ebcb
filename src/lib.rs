//! onward: a DNS forwarder for bare-metal resolver hosts, thread-per-core and synchronous.
//!
//! ```text
//!            SO_REUSEPORT: one UDP socket per worker and address
//! client ──► worker 0 (core c0) ──► its own sockets to every upstream ──► upstream A, B, …
//! client ──► worker 1 (core c1) ──► its own sockets to every upstream ──► upstream A, B, …
//!                 ▲   │ bounded channels + wakers
//!                 │   ▼
//!              keeper: the shared timer wheel (pools, caches), health probes, and the stop
//!              loader: one per data source (hosts file, zones): loads it and reloads it
//!              admin:  endpoints over HTTP: health, ready, metrics, status
//!              transfers: writes zones for the connections of clients
//!              writer: formats and writes query logs, errors and dnstap
//! ```
//!
//! The modules, from the command line to the packets:
//!
//! * [`cli`]: the command line; [`options`]: its options as plain data; [`corefile`]: text to tree;
//!   [`config`]: tree to configuration, for the [`host`] it will run on; [`resolve`]: lookup of
//!   host names in it. [`zonefile`]: pure; the text of a zone to records. [`dnssec`]: pure; keys
//!   and signatures.
//! * [`check`]: the meaning and the limits of a configuration, without serving.
//! * [`doctor`]: host settings that cost performance or safety, with commands to fix them.
//!   [`topology`]: NUMA nodes of the network cards and of the workers' cores.
//! * [`engine`]: pure; every decision about a query. [`wheel`]: pure; timers. [`http`]: pure;
//!   connections of HTTP as bytes, with DoH and gRPC in them. [`quic`]: pure; connections of QUIC
//!   as datagrams, with DNS in their streams.
//! * [`tls`]: certificates, keys and sessions, between a socket and its connection.
//! * [`sys`]: the kernel, the library of HTTP/2, and the only `unsafe`. [`clock`] reads the time,
//!   [`moment`] is its type.
//! * [`worker`]: the event loop of one core. [`keeper`]: the thread of timers and probes.
//!   [`loader`]: the thread of one data source. [`transfers`]: the threads of zone transfers.
//!   [`writer`]: the thread that writes logs. [`admin`]: the thread of the HTTP endpoints.
//!   [`control`]: messages between the threads. [`server`]: start, reload and stop of all of them.
//!   [`service`]: the process around it, from signal to signal.
//! * [`warm`]: the entries of caches, for the process that takes over.
//! * [`blocking`]: calls that may block for ever, on threads that can be given up.
//! * [`status`]: the state of a server as plain data, drawn as a page by [`admin`] and on a
//!   terminal by `top`, both with the human-readable [`figures`].
//! * [`log`]: events as lines of text or JSON.
//! * `traffic`: a client and an upstream for tests, loadgen and the `demo`.
//!
//! `demo`, `top` and `traffic` are features: a service can be built without them.
//!
//! Rules without exception: the engine never does I/O and never reads the clock; sys knows nothing
//! of DNS; a worker takes no decision about a query; no two workers share a mutable byte, except a
//! few words for each upstream (its health state and its EDNS support) and one for each server
//! block (whether its queries loop); nothing is allocated, formatted, locked or logged per packet
//! on the hot path; every queue, table and loop has a named bound and a counter.

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
pub mod dnssec;
pub(crate) mod doctor;
pub mod engine;
pub(crate) mod figures;
pub(crate) mod host;
pub mod http;
pub(crate) mod keeper;
pub mod loader;
pub mod log;
pub mod moment;
pub(crate) mod options;
pub(crate) mod quic;
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
pub(crate) mod transfers;
pub(crate) mod warm;
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

/// Runs the program with these arguments, the first of which is the program's name.
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
            // An error means that the reader has closed the pipe, which is no failure of the
            // program.
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
