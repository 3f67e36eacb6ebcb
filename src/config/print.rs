//! The effective configuration, written as a Corefile.
//!
//! Every default is filled in and every address block and file expanded, so that an operator sees
//! what holds. Reading the text again gives the same [`Config`] on any host that has room for it
//! and the same certificates and keys, with three exceptions: a stanza whose files list more
//! nameservers than the language allows to be written out, the number of client connections, which
//! is no directive, and the validity of addresses of host names, because the addresses themselves
//! are written.

use super::built::Built;
use super::duration::show_duration;
use super::forward::{MAX_AGE_JITTER, grpc, https, private, tls};
use super::{
    BindAddress, Config, Forward, LetterCase, Policy, Protocol, Reload, Served, ServerBlock, word,
};
use crate::corefile::DIRECTIVES;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It concerns all blocks alike and stands in the first.
        let mut reload = self.reload;
        self.blocks.iter().try_for_each(|block| block.print(f, reload.take()))
    }
}

/// A server block as it is written without the others.
struct Alone<'a>(&'a ServerBlock);

impl fmt::Display for Alone<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.print(f, None)
    }
}

impl ServerBlock {
    /// Returns the block as it is written in the effective configuration, without `reload`.
    pub(crate) fn text(&self) -> String {
        Alone(self).to_string()
    }

    fn print(&self, f: &mut fmt::Formatter<'_>, reload: Option<Reload>) -> fmt::Result {
        for Served { zone, port, protocol } in &self.keys {
            if *protocol != Protocol::Dns {
                write!(f, "{}://", protocol.scheme())?;
            }
            write!(f, "{}:{port} ", zone.in_corefile())?;
        }
        writeln!(f, "{{")?;
        match self.bind.as_deref() {
            None => {}
            // The language has no shorter way to say: nowhere.
            Some([]) => writeln!(f, "    bind ::1 {{\n        except ::1\n    }}")?,
            Some(addresses) => {
                write!(f, "    bind")?;
                addresses.iter().try_for_each(|address| write!(f, " {address}"))?;
                writeln!(f)?;
            }
        }
        if let Some(reload) = reload {
            writeln!(f, "    reload {reload}")?;
        }
        for directive in DIRECTIVES {
            match Built::of(directive) {
                Some(Built::Stage(row)) => row.write(&self.stages, f)?,
                Some(Built::Forward) => {
                    let stanzas = self.forwards.iter().filter(|stanza| stanza.grpc.is_none());
                    stanzas.into_iter().try_for_each(|stanza| write!(f, "{stanza}"))?;
                }
                Some(Built::Grpc) => {
                    for stanza in &self.forwards {
                        let written = stanza.grpc.iter();
                        written.into_iter().try_for_each(|own| grpc::write(stanza, own, f))?;
                    }
                }
                // Written above, or not built.
                Some(Built::Bind | Built::Reload) | None => {}
            }
        }
        writeln!(f, "}}")
    }
}

impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "    forward {}", self.from.in_corefile())?;
        self.upstreams.iter().try_for_each(|upstream| tls::write_upstream(upstream, f))?;
        writeln!(f, " {{")?;
        if !self.except.is_empty() {
            write!(f, "        except")?;
            word::names(f, &self.except)?;
            writeln!(f)?;
        }
        let policy = match self.policy {
            Policy::Random => "random",
            Policy::RoundRobin => "round_robin",
            Policy::Sequential => "sequential",
        };
        let sizing = &self.sizing;
        writeln!(f, "        policy {policy}")?;
        writeln!(f, "        expire {}", show_duration(self.expire))?;
        write!(f, "        max_age {}", show_duration(self.max_age.unwrap_or(Duration::ZERO)))?;
        if self.max_age_jitter != MAX_AGE_JITTER {
            write!(f, " jitter {}%", self.max_age_jitter)?;
        }
        writeln!(f)?;
        writeln!(f, "        distrust {}", if self.distrust { "on" } else { "off" })?;
        writeln!(f, "        rebalance {}", if self.rebalance { "auto" } else { "off" })?;
        writeln!(f, "        gso {}", if self.gso { "auto" } else { "off" })?;
        if self.letter_case != LetterCase::Off {
            writeln!(f, "        case_randomize {}", self.letter_case.word())?;
        }
        private::write(self.private_answers.as_deref(), f)?;
        writeln!(f, "        max_idle_conns {}", self.max_idle_conns.unwrap_or(0))?;
        writeln!(f, "        read_timeout {}", show_duration(self.read_timeout))?;
        writeln!(f, "        max_connect_attempts {}", self.max_connect_attempts.unwrap_or(0))?;
        writeln!(f, "        max_fails {}", self.health.max_fails)?;
        let no_rec = if self.health.recursion_desired { "" } else { " no_rec" };
        let interval = show_duration(self.health.interval);
        let domain = self.health.domain.in_corefile();
        writeln!(f, "        health_check {interval}{no_rec} domain {domain}")?;
        let switches = [
            ("failfast_all_unhealthy_upstreams", self.failfast),
            ("force_tcp", self.force_tcp),
            ("prefer_udp", self.prefer_udp),
            ("next_on_nodata", self.next_on_nodata),
        ];
        for (switch, _) in switches.iter().filter(|(_, on)| *on) {
            writeln!(f, "        {switch}")?;
        }
        for (option, rcodes) in [("failover", self.failover), ("next", self.next)] {
            if !rcodes.is_empty() {
                let mnemonics = rcodes.mnemonics().collect::<Vec<_>>().join(" ");
                writeln!(f, "        {option} {mnemonics}")?;
            }
        }
        writeln!(f, "        max_concurrent {}", self.max_concurrent.unwrap_or(0))?;
        if let Some(address) = self.source_address {
            writeln!(f, "        source_address {address}")?;
        }
        if self.proxy_protocol {
            writeln!(f, "        proxy_protocol v2")?;
        }
        tls::write(self, f)?;
        https::write(self, f)?;
        writeln!(f, "        spread {}", sizing.spread)?;
        if sizing.stream_spread > 1 {
            writeln!(f, "        stream_spread {}", sizing.stream_spread)?;
        }
        writeln!(f, "        max_conns {}", sizing.max_conns)?;
        writeln!(f, "        max_inflight {} {}", sizing.max_inflight, sizing.tcp_inflight)?;
        writeln!(f, "    }}")
    }
}

impl fmt::Display for BindAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.ip, self.scope_id) {
            (IpAddr::V6(ip), 1..) => write!(f, "{ip}%{}", self.scope_id),
            (ip, _) => write!(f, "{ip}"),
        }
    }
}
