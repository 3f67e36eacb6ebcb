//! The arguments as `clap` reads them: names, forms, defaults and what help says of each.
//!
//! Only `cli` looks inside; it makes plain values of them. Help, manual pages and completions of
//! shells are all made from these types, so what is written here is what operators read.

use super::values::{CoreList, Endpoint, Interval};
use super::{CheckFormat, Format, Gso};
use crate::server::Steer;
use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  onward demo
      Start three upstreams, a forwarder and a client on loopback; print what happened.
  onward --listen 127.0.0.1:5300 --forward 192.0.2.53 [2001:db8::53]:5353
      Forward without a file.
  onward --conf /etc/onward/Corefile --cores 0-3,6
      Forward as the Corefile says, with one pinned worker on each of five cores.
  onward --conf /etc/onward/Corefile --steer name
      Have each name served by one worker, so that no two caches hold it.
  onward check --conf /etc/onward/Corefile
      Say what the Corefile means and needs, or what is wrong with it; listen nowhere.
  onward doctor --conf /etc/onward/Corefile --cores 0-3
      Say what of this host costs performance or safety, and the command that mends it.
  onward top
      Watch the server on this host, whose Corefile has `status`.

Single dashes work too: -conf FILE, -dns.port 1053, -quiet, -version.
Without --conf and --forward it reads ./Corefile; --conf - reads standard input.

Exit codes:
  0  stopped as asked (SIGTERM, SIGINT), checked and found good, or help was asked for
  1  failed at run time, or the host lacks what the Corefile needs: waiting may mend it
  2  the command line or the text of the Corefile is wrong: waiting mends nothing";

const DOCTOR: &str = "\
It changes nothing. With a Corefile it holds the host against that: ports, descriptors, cores and
addresses. As root it also sees which program has port 53.

Exit codes:
  0  all is well
  1  something costs performance or safety
  2  something keeps onward from starting, or loses packets now";

/// A DNS forwarder: one event loop per core, and connections to the upstreams that are kept
/// young and evenly spread.
#[derive(Parser)]
#[command(name = "onward", version, after_help = EXAMPLES)]
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) what: WhatArguments,
    /// Say nothing at the start
    #[arg(long, overrides_with = "quiet")]
    pub(super) quiet: bool,
    /// Write the number of the process here while it serves
    #[arg(long, value_name = "FILE", overrides_with = "pidfile")]
    pub(super) pidfile: Option<PathBuf>,
    /// Write the log for people or, an object a line, for machines
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Text)]
    #[arg(overrides_with = "log_format")]
    pub(super) log_format: Format,
    /// Become this account once the sockets are bound, before the first packet
    #[arg(long, value_name = "NAME", overrides_with = "user")]
    pub(super) user: Option<String>,
    /// Let threads that move packets ask the kernel for anything, files and programs too
    #[arg(long)]
    pub(super) no_sandbox: bool,
    #[command(subcommand)]
    pub(super) command: Option<CommandArguments>,
}

/// What is served and by how many workers.
#[derive(clap::Args)]
pub(super) struct WhatArguments {
    /// The Corefile to read
    #[arg(long, value_name = "FILE", overrides_with = "conf")]
    pub(super) conf: Option<OsString>,
    /// Listen here, without a Corefile (`IP`, `IPv4:PORT` or `[IPv6]:PORT`)
    #[arg(long, value_name = "ADDR", num_args = 1.., requires = "forward")]
    #[arg(conflicts_with = "conf")]
    pub(super) listen: Vec<Endpoint>,
    /// Forward everything to these, without a Corefile
    #[arg(long, value_name = "ADDR", num_args = 1.., conflicts_with = "conf")]
    pub(super) forward: Vec<Endpoint>,
    /// One worker pinned to each of these cores, such as 0-3,6 or node0 [default: every core]
    #[arg(long, value_name = "LIST", conflicts_with = "workers")]
    pub(super) cores: Option<CoreList>,
    /// So many workers, not pinned to any core
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(super) workers: Option<u16>,
    /// Who gets a datagram: by name (each is one worker's), by cpu that took it in, by flow
    #[arg(long, value_name = "HOW", value_enum, hide_possible_values = true)]
    #[arg(default_value_t = Steer::Flow, overrides_with = "steer")]
    pub(super) steer: Steer,
    /// After work, ask for more for so many microseconds before sleeping: faster, at a core each
    #[arg(long, value_name = "MICROS", default_value_t = 0, hide_default_value = true)]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub(super) busy_poll: u32,
    /// Datagrams of equal length that go one way leave as one send, unless it is off
    #[arg(long, value_name = "auto|off", value_enum, hide_possible_values = true)]
    #[arg(default_value_t = Gso::Auto, hide_default_value = true, overrides_with = "gso")]
    pub(super) gso: Gso,
    /// The port of zones that name none
    #[arg(short = 'p', long, value_name = "PORT", default_value_t = 53)]
    #[arg(overrides_with = "dns_port")]
    pub(super) dns_port: u16,
}

#[derive(Subcommand)]
pub(super) enum CommandArguments {
    /// Say what a configuration means and needs, and what is wrong with it; listen nowhere
    Check {
        #[command(flatten)]
        what: WhatArguments,
        /// For people, for machines, or a drop-in with the limits of a systemd unit
        #[arg(long, value_enum, default_value_t = CheckFormat::Text)]
        format: CheckFormat,
    },
    /// Look at this host: what is right, what costs performance or safety, and what mends it
    #[command(after_help = DOCTOR)]
    Doctor {
        #[command(flatten)]
        what: WhatArguments,
        /// For people or for machines
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
        /// For how long the counters of lost packets are watched
        #[arg(long, value_name = "N", default_value_t = 3)]
        #[arg(value_parser = clap::value_parser!(u16).range(0..=3600))]
        seconds: u16,
        /// Look for proc/ and sys/ here: a copy of another host's
        #[arg(long, value_name = "DIR", default_value = "/")]
        root: PathBuf,
    },
    /// Start upstreams, a forwarder and a client on loopback; print what happened
    Demo {
        /// For how long the client asks
        #[arg(long, value_name = "N", default_value_t = 5)]
        #[arg(value_parser = clap::value_parser!(u16).range(1..=3600))]
        seconds: u16,
        /// Go on serving afterwards, for queries by hand
        #[arg(long)]
        keep: bool,
        /// Workers [default: two, or one on a single core]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
        workers: Option<u16>,
    },
    /// Watch a server whose Corefile has `status`: rates, latencies, connections by age, load
    Top {
        /// Where its `status` listens
        #[arg(value_name = "ADDR", default_value = "127.0.0.1:8053")]
        address: String,
        /// How often it is asked, such as 500ms
        #[arg(long, value_name = "TIME", default_value = "1s")]
        interval: Interval,
        /// Print it once, as text; exit with 1 if there is no answer
        #[arg(long)]
        once: bool,
    },
}
