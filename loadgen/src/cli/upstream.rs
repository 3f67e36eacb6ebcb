//! `loadgen upstream`: answers by a script until a signal, and prints the sources of queries.
//!
//! The command reads the script and waits for a signal; [`onward::traffic::upstream`] does the
//! work.

use super::asking::read_file;
use super::invalid;
use crate::dot;
use crate::units;
use crate::workload::BadInput;
use crate::{report, script, zone};
use clap::Args;
use onward::clock::Clock;
use onward::config::Protocol;
use onward::sys::signals::{Signal, Signals};
use onward::traffic::upstream::script::Script;
use onward::traffic::upstream::{Options, Service, Upstream};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

const EXAMPLES: &str = "\
A script has one line per name, `*.` and a zone, or `*` for all other names; the first match
applies. A line has the name and the behaviour for its queries:

  delay=5ms delay=1ms..10ms delay=exp:5ms   delay of the answer
  loss=1% silent                            share of queries without an answer, or all of them
  truncate=5%                               TC bit set, no records
  refuse=1% servfail=1% nxdomain=1% formerr=1%
  wrong-id=1% wrong-question=1% garbage=1% lie=1%
  spoof=20                                  number of forged answers sent before the right one

  # example
  slow.example       delay=100ms
  *.lossy.example    loss=10% delay=exp:2ms
  *                  servfail=0.1%

Examples:
  loadgen upstream --listen 127.0.0.1:5301 127.0.0.1:5302
  loadgen upstream --listen 127.0.0.1:5301 --behave 'delay=exp:2ms loss=0.1%'
  loadgen upstream --listen 127.0.0.1:5301 --stall 3s+1s
  loadgen upstream --listen 127.0.0.1:5301 --zone example.zone --script upstream.script --ports";

/// Minimum interval of printed counters.
const TELL_MIN: Duration = Duration::from_millis(10);

/// Options of `loadgen upstream`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Addresses to listen on; with port 0 the kernel chooses the port
    #[arg(long, value_name = "ADDR", num_args = 1.., required = true)]
    listen: Vec<SocketAddr>,
    /// Run one thread pinned to each of these cores [default: one thread, not pinned]
    #[arg(long, alias = "core", value_name = "N", value_delimiter = ',')]
    cores: Vec<usize>,
    /// Behaviour for names that the script does not list
    #[arg(long, value_name = "WORDS")]
    behave: Option<String>,
    /// Script with the behaviour per name
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
    /// Zone file with the records of some names
    #[arg(long, value_name = "FILE")]
    zone: Option<PathBuf>,
    /// Pause: at this time after the first query, hold back all answers for this time
    #[arg(long, value_name = "WHEN+LENGTH")]
    stall: Option<String>,
    /// Random seed of faults and delays [default: random]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Use TLS with a new certificate for localhost and the listener addresses; the certificate of
    /// its authority is written to FILE
    #[arg(long, value_name = "FILE")]
    tls: Option<PathBuf>,
    /// Answer DNS over HTTPS (HTTP/2 and HTTP/1.1) on connections, or, without --tls, both versions
    /// of HTTP without encryption
    #[arg(long)]
    doh: bool,
    /// Answer DNS over QUIC over UDP, with the certificate of --tls; DNS over TCP is not encrypted
    #[arg(long, requires = "tls", conflicts_with = "doh")]
    doq: bool,
    /// Print every source port
    #[arg(long)]
    ports: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    /// Interval to print the counters of each address since the start, as a line of JSON: `at` is
    /// the wall-clock time, a flow is a connection, or a source port unseen in the last 5 s
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    tell: Option<Duration>,
}

/// Answers until a signal comes.
pub(super) fn main(arguments: &Arguments) -> io::Result<ExitCode> {
    // Blocked before any thread starts, so that all threads inherit the mask.
    let signals = Signals::block()?;
    let seed = arguments.seed.map_or_else(onward::traffic::fresh_seed, Ok)?;
    let script = Arc::new(arguments.script()?);
    let tls = arguments.tls.as_ref().map(|path| {
        let addresses: Vec<_> = arguments.listen.iter().map(SocketAddr::ip).collect();
        let protocol = match (arguments.doh, arguments.doq) {
            (true, _) => Protocol::Https,
            (false, true) => Protocol::Quic,
            (false, false) => Protocol::Tls,
        };
        let (server, authority) = dot::server(&addresses, protocol)?;
        std::fs::write(path, authority)?;
        Ok::<_, io::Error>(server)
    });
    let tls = tls.transpose()?;
    let service = |&address: &SocketAddr| Service { address, script: Arc::clone(&script) };
    let services = arguments.listen.iter().map(service).collect();
    let cores = arguments.cores.clone();
    let upstream = Upstream::start(&Options { services, cores, seed, tls, doh: arguments.doh })?;
    for address in upstream.addresses() {
        let line = format!("listening on {address}");
        if arguments.json { eprintln!("{line}") } else { println!("{line}") }
    }
    match arguments.tell {
        None => while signals.wait(None)? != Some(Signal::Stop) {},
        Some(every) => tell(&upstream, &signals, every.max(TELL_MIN))?,
    }
    let seen = upstream.stop()?;
    if arguments.json {
        print!("{}", report::upstream::json(&seen));
    } else {
        print!("{}", report::upstream::text(&seen, arguments.ports));
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the counters at the interval `every`, until a stop signal.
fn tell(upstream: &Upstream, signals: &Signals, every: Duration) -> io::Result<()> {
    let clock = Clock::start();
    let mut next = clock.now().plus(every);
    loop {
        let rest = next.since(clock.now());
        match signals.wait(Some(rest))? {
            Some(Signal::Stop) => return Ok(()),
            _ if clock.now() < next => {}
            _ => {
                let line = report::upstream::so_far(
                    Clock::calendar(),
                    upstream.addresses(),
                    &upstream.so_far(),
                );
                writeln!(io::stdout().lock(), "{line}")?;
                next = next.plus(every);
            }
        }
    }
}

impl Arguments {
    fn script(&self) -> io::Result<Script> {
        let mut script = match &self.script {
            Some(path) => read_file(path, |bytes| {
                let text = std::str::from_utf8(bytes).map_err(|error| BadInput {
                    line: bytes[..error.valid_up_to()].split(|&byte| byte == b'\n').count(),
                    column: 1,
                    text: "the file is not UTF-8 text".into(),
                })?;
                script::script(text)
            })?,
            None => Script::default(),
        };
        if let Some(path) = &self.zone {
            script.zones = Some(read_file(path, zone::parse)?);
        }
        let told = |option: &str, error: BadInput| {
            invalid(format!("{option}, column {}: {}", error.column, error.text))
        };
        if let Some(words) = &self.behave {
            script.default = script::conduct(words).map_err(|error| told("--behave", error))?;
        }
        if let Some(words) = &self.stall {
            let stall = script::stall(words).map_err(|error| told("--stall", error))?;
            script.stall = Some(stall);
        }
        Ok(script)
    }
}
