//! The arguments as `clap` reads them: names, syntax, defaults and help texts.
//!
//! Only `cli` uses these types; it converts them to plain values. Help, manual pages and shell
//! completions are made from them, so the doc comments of options are texts for operators.

use super::Gso;
#[cfg(feature = "top")]
use super::values::Interval;
use super::values::{CoreList, Endpoint};
use crate::options::{CheckFormat, Format};
use crate::server::Steer;
use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;

const EXAMPLE_DEMO: &str = "
  onward demo
      Run three upstreams, a forwarder and a client on loopback, and print a report.";
const EXAMPLES: &str = "
  onward --listen 127.0.0.1:5300 --forward 192.0.2.53 [2001:db8::53]:5353
      Forward without a Corefile.
  onward --conf /etc/onward/Corefile --cores 0-3,6
      Serve a Corefile with five workers, each pinned to one core.
  onward --conf /etc/onward/Corefile --cores 0-3 --steer cpu
      Serve each datagram on the core that the network card has given it to.
  onward check --conf /etc/onward/Corefile
      Check the Corefile without listening: print its meaning and limits, or its errors.
  onward doctor --conf /etc/onward/Corefile --cores 0-3
      Check this host for settings that cost performance or safety, with commands to fix them.";
const EXAMPLE_TOP: &str = "
  onward top
      Show the live state of the server on this host (the Corefile needs `status`).";
const CONVENTIONS: &str = "

Single dashes work too: -conf FILE, -dns.port 1053, -quiet, -version.
Without --conf and --forward, ./Corefile is read; --conf - reads standard input.

Exit codes:
  0  stopped by SIGTERM or SIGINT, check found no errors, or help was printed
  1  failure at run time, or the host lacks what the Corefile needs: a retry may succeed
  2  error in the command line or in the Corefile: a retry fails again";

const DOCTOR: &str = "\
Doctor changes nothing. With a Corefile, it checks the host against it: ports, descriptors, cores
and addresses. As root, it also shows which program has port 53.

Exit codes:
  0  no findings
  1  a setting costs performance or safety
  2  onward cannot start, or packets are being lost";

/// Returns the text after the options in the help, with the commands of this build.
fn after_help() -> String {
    let demo = if cfg!(feature = "demo") { EXAMPLE_DEMO } else { "" };
    let top = if cfg!(feature = "top") { EXAMPLE_TOP } else { "" };
    format!("Examples:{demo}{EXAMPLES}{top}{CONVENTIONS}")
}

/// A DNS forwarder: one event loop per core, upstream connections spread evenly and limited in age
#[derive(Parser)]
#[command(name = "onward", version, after_help = after_help())]
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) what: WhatArguments,
    /// Do not print listeners and endpoints at start
    #[arg(long, overrides_with = "quiet")]
    pub(super) quiet: bool,
    /// Write the process ID to this file while serving
    #[arg(long, value_name = "FILE", overrides_with = "pidfile")]
    pub(super) pidfile: Option<PathBuf>,
    /// Log format: text for people, json with one object per line
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Text)]
    #[arg(overrides_with = "log_format")]
    pub(super) log_format: Format,
    /// Switch to this user after binding the sockets, before the first packet (needs root)
    #[arg(long, value_name = "NAME", overrides_with = "user")]
    pub(super) user: Option<String>,
    /// Disable the seccomp sandbox of the worker threads
    #[arg(long)]
    pub(super) no_sandbox: bool,
    #[command(subcommand)]
    pub(super) command: Option<CommandArguments>,
}

/// Options that `serve`, `check` and `doctor` share.
#[derive(clap::Args)]
pub(super) struct WhatArguments {
    /// Corefile to read; - reads standard input
    #[arg(long, value_name = "FILE", overrides_with = "conf")]
    pub(super) conf: Option<OsString>,
    /// Addresses to listen on, without a Corefile (`IP`, `IPv4:PORT` or `[IPv6]:PORT`)
    #[arg(long, value_name = "ADDR", num_args = 1.., requires = "forward")]
    #[arg(conflicts_with = "conf")]
    pub(super) listen: Vec<Endpoint>,
    /// Upstreams for all queries, without a Corefile
    #[arg(long, value_name = "ADDR", num_args = 1.., conflicts_with = "conf")]
    pub(super) forward: Vec<Endpoint>,
    /// Run one worker pinned to each of these cores, such as 0-3,6 or node0 [default: all cores]
    #[arg(long, value_name = "LIST", conflicts_with = "workers")]
    pub(super) cores: Option<CoreList>,
    /// Number of workers, not pinned to cores
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(super) workers: Option<u16>,
    /// Distribution of datagrams to workers: by flow (client address and port), name (QNAME) or cpu
    /// (core that received the packet)
    #[arg(long, value_name = "HOW", value_enum, hide_possible_values = true)]
    #[arg(default_value_t = Steer::Flow, overrides_with = "steer")]
    pub(super) steer: Steer,
    /// Busy-poll for N microseconds before sleeping: lowers latency, uses a full core per worker
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub(super) busy_poll: u32,
    /// Send replies of equal length to one client as one batch (UDP GSO) [default: auto]
    #[arg(long, value_name = "auto|off", value_enum, hide_possible_values = true)]
    #[arg(default_value_t = Gso::Auto, hide_default_value = true, overrides_with = "gso")]
    pub(super) gso: Gso,
    /// Port of server blocks whose key has none
    #[arg(short = 'p', long, value_name = "PORT", default_value_t = 53)]
    #[arg(overrides_with = "dns_port")]
    pub(super) dns_port: u16,
}

#[derive(Subcommand)]
pub(super) enum CommandArguments {
    /// Check a Corefile without listening: print its meaning and limits, or its errors
    Check {
        #[command(flatten)]
        what: WhatArguments,
        /// Output: text, json, or a systemd drop-in with the limits of the unit
        #[arg(long, value_enum, default_value_t = CheckFormat::Text)]
        format: CheckFormat,
    },
    /// Check this host for settings that cost performance or safety, with commands to fix them
    #[command(after_help = DOCTOR)]
    Doctor {
        #[command(flatten)]
        what: WhatArguments,
        /// Output: text or json
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
        /// Seconds to watch the counters of lost packets
        #[arg(long, value_name = "N", default_value_t = 3)]
        #[arg(value_parser = clap::value_parser!(u16).range(0..=3600))]
        seconds: u16,
        /// Directory with proc/ and sys/, such as a copy from another host
        #[arg(long, value_name = "DIR", default_value = "/")]
        root: PathBuf,
    },
    /// Run upstreams, a forwarder and a client on loopback, and print a report
    #[cfg(feature = "demo")]
    Demo {
        /// Seconds for which the client sends queries
        #[arg(long, value_name = "N", default_value_t = 5)]
        #[arg(value_parser = clap::value_parser!(u16).range(1..=3600))]
        seconds: u16,
        /// Keep serving after the report, for queries by hand
        #[arg(long)]
        keep: bool,
        /// Number of workers [default: two, or one on a single core]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
        workers: Option<u16>,
    },
    /// Show the live state of a server with `status`: rates, latencies, connections by age, load
    #[cfg(feature = "top")]
    Top {
        /// Address of the server's `status` endpoint
        #[arg(value_name = "ADDR", default_value = "127.0.0.1:8053")]
        address: String,
        /// Refresh interval, such as 500ms
        #[arg(long, value_name = "TIME", default_value = "1s")]
        interval: Interval,
        /// Print one snapshot as text; exit with 1 if the server does not answer
        #[arg(long)]
        once: bool,
    },
}
