//! The load generator, and the upstream to point a forwarder at.
//!
//! Nothing but arguments and printing around `onward::traffic`: the client that checks every
//! answer, and the responder whose answers it can check. Both can run on hosts of their own, so
//! that neither takes time from the forwarder between them.

use clap::{Parser, Subcommand};
use onward::sys::signals::{Signal, Signals};
use onward::traffic::answer::Behaviour;
use onward::traffic::client::{Client, ClientOptions};
use onward::traffic::responder::{Responder, Service};
use onward::traffic::{fresh_seed, report};
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  loadgen upstream --listen 127.0.0.1:5301 127.0.0.1:5302
      Two upstreams, over UDP and TCP, served by one thread until SIGINT or SIGTERM.
  onward --listen 127.0.0.1:5300 --forward 127.0.0.1:5301 127.0.0.1:5302
      A forwarder between them and the client.
  loadgen run --server 127.0.0.1:5300 --seconds 10 --outstanding 256 --core 1
      Ten seconds of queries, 256 outstanding at any time, from core 1.
  loadgen run --server 127.0.0.1:5300 --tcp --sockets 8 --outstanding 256
      The same on eight TCP streams.

Names are new with every query: what is measured is forwarding, never a cache.

Exit codes of run: 0 every query got its right answer, 1 not so, 2 bad usage.";

/// Asks a forwarder for names that only `loadgen upstream` can answer, and checks every answer.
#[derive(Parser)]
#[command(name = "loadgen", version, after_help = EXAMPLES, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Ask, check the answers, and print what happened
    Run {
        /// The forwarder (or an upstream); sockets take several in turn
        #[arg(long, value_name = "ADDR", num_args = 1.., required = true)]
        server: Vec<SocketAddr>,
        /// For how long to ask
        #[arg(long, value_name = "N", default_value_t = 10)]
        seconds: u64,
        /// Queries outstanding at any time, on all sockets together
        #[arg(long, value_name = "N", default_value_t = 64)]
        outstanding: usize,
        /// Sockets, and so source ports; no more than outstanding queries
        #[arg(long, value_name = "N", default_value_t = 16)]
        sockets: usize,
        /// Over TCP: each socket is a stream
        #[arg(long)]
        tcp: bool,
        /// The core to run on [default: the kernel's choice]
        #[arg(long, value_name = "N")]
        core: Option<usize>,
    },
    /// Answer over UDP and TCP until SIGINT or SIGTERM, and print what was asked
    Upstream {
        /// Where to listen; port 0 lets the kernel choose
        #[arg(long, value_name = "ADDR", num_args = 1.., required = true)]
        listen: Vec<SocketAddr>,
        /// The core to run on [default: the kernel's choice]
        #[arg(long, value_name = "N")]
        core: Option<usize>,
    },
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Run { server, seconds, outstanding, sockets, tcp, core } => {
            let duration = Duration::from_secs(seconds);
            fresh_seed().and_then(|seed| {
                let options = ClientOptions::new(server, seed);
                run(ClientOptions { duration, outstanding, sockets, tcp, core, ..options })
            })
        }
        Command::Upstream { listen, core } => serve(&listen, core),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("loadgen: {error}");
            ExitCode::from(if error.kind() == io::ErrorKind::InvalidInput { 2 } else { 1 })
        }
    }
}

/// Asks; one line a second goes to standard error, the outcome to standard output.
fn run(options: ClientOptions) -> io::Result<ExitCode> {
    let client = Client::start(options)?;
    let mut second = 0;
    for progress in client.progress() {
        if progress.elapsed.as_secs() > second {
            second = progress.elapsed.as_secs();
            eprintln!("{}", report::progress(&progress));
        }
    }
    let summary = client.join()?;
    print!("{}", report::summary(&summary));
    Ok(match report::fault(&summary) {
        None => ExitCode::SUCCESS,
        Some(sentence) => {
            eprintln!("loadgen: {sentence}");
            ExitCode::FAILURE
        }
    })
}

/// Answers until a signal comes.
fn serve(listen: &[SocketAddr], core: Option<usize>) -> io::Result<ExitCode> {
    // Blocked before the responder's thread exists, which inherits that.
    let signals = Signals::block()?;
    let service = |&address| Service { address, behaviour: Behaviour::Answer };
    let services: Vec<Service> = listen.iter().map(service).collect();
    let responder = Responder::start(&services, core)?;
    for address in responder.addresses() {
        println!("listening on {address}");
    }
    while signals.wait(None)? != Some(Signal::Stop) {}
    print!("{}", report::services(&responder.stop()?));
    Ok(ExitCode::SUCCESS)
}
