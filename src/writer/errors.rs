//! Text of a query's error for the log.
//!
//! Operators and their `consolidate` patterns know the reference's words, so these are as close as
//! correct: `read udp 192.0.2.1:53: i/o timeout`. Our own address is left out, because the
//! connection may be closed by the time the error is formatted.

use super::interfaces::Interfaces;
use crate::config::{Config, Name, Plugin, RecordType, ServerBlock};
use crate::engine::errors::{Fault, Operation, QueryError, Reason};
use crate::engine::key::Transport;
use crate::tls::Setup;
use std::fmt::{self, Display};
use std::io;
use std::net::SocketAddr;

/// Query and text of its error.
pub(super) struct Line<'a> {
    pub(super) error: &'a QueryError,
    pub(super) text: &'a str,
}

impl Line<'_> {
    /// Returns the QNAME.
    pub(super) fn name(&self) -> Name {
        Name::of_wire(self.error.name())
    }

    /// Returns the QTYPE.
    pub(super) fn rtype(&self) -> RecordType {
        RecordType(self.error.rtype)
    }
}

impl Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { error, text } = self;
        let (name, rtype) = (self.name(), self.rtype());
        write!(f, "{} {name} {rtype}: {text}", error.rcode as u16)
    }
}

/// Returns the text of a query's error under `config`, whose TLS is `tls`.
pub(super) fn text(
    error: &QueryError,
    config: &Config,
    tls: &Setup,
    interfaces: &mut Interfaces,
) -> String {
    let mut reach = |verb: &str, what: &dyn Display| {
        let Some((address, transport)) = error.upstream else { return what.to_string() };
        let network = match transport {
            Transport::Udp => "udp",
            Transport::Tcp if is_quic(config, error.block, address) => "quic",
            Transport::Tcp => "tcp",
        };
        format!("{verb} {network} {}: {what}", interfaces.show(address))
    };
    match error.reason {
        Reason::Attempt(operation, fault) => {
            let (verb, call) = match operation {
                Operation::Dial => ("dial", "connect"),
                Operation::Read => ("read", "read"),
                Operation::Write => ("write", "write"),
            };
            match fault {
                Fault::TimedOut => reach(verb, &"i/o timeout"),
                Fault::Closed => reach(verb, &"EOF"),
                Fault::System(number) => {
                    reach(verb, &format_args!("{call}: {}", system_text(number)))
                }
                Fault::Tls(fault) => {
                    let upstream = error.upstream.map(|(address, _)| address);
                    let evidence = upstream.and_then(|address| tls.evidence(address, fault));
                    reach(verb, &evidence.as_deref().unwrap_or(fault.text()))
                }
                Fault::Http(fault) => reach(verb, &fault),
                Fault::Quic(fault) => reach(verb, &fault),
                Fault::Unknown => reach(verb, &"connection failed"),
            }
        }
        Reason::NoConnection => reach("dial", &"all connections are in use"),
        Reason::NoHealthyUpstream => "no healthy proxies".into(),
        Reason::NobodyForwards => {
            let block = config.blocks.get(error.block as usize);
            format!("plugin/{}: no next plugin found", block.map_or("errors", last_plugin))
        }
        Reason::NotRewritten => "invalid name after rewrite".into(),
        Reason::OptionsTooLong => "EDNS options after rewrite are too long".into(),
        Reason::TooManyConcurrent(stanza) => {
            let stanza = config.forwards().nth(stanza as usize);
            let maximum = stanza.and_then(|stanza| stanza.max_concurrent).unwrap_or(0);
            format!("concurrent queries exceeded maximum {maximum}")
        }
        Reason::Overloaded => "too many queries are outstanding".into(),
        Reason::Looping => "plugin/loop: forwarding loop".into(),
    }
}

/// Returns true if the upstream at `address` of a server block is asked over QUIC.
fn is_quic(config: &Config, block: u32, address: SocketAddr) -> bool {
    let block = config.blocks.get(block as usize);
    let mut upstreams = block.iter().flat_map(|block| &block.forwards);
    upstreams.any(|forward| {
        let mut upstreams = forward.upstreams.iter();
        upstreams.any(|upstream| upstream.address == address && upstream.is_quic())
    })
}

/// Returns the system's error text with a lower-case first letter, as in the reference.
fn system_text(number: i32) -> String {
    let text = io::Error::from_raw_os_error(number).to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_ascii_lowercase());
    first.into_iter().chain(letters).collect()
}

/// Returns the last directive of the chain, which would have had to pass the query on.
fn last_plugin(block: &ServerBlock) -> &'static str {
    block.plugins().last().map_or("errors", Plugin::name)
}

#[cfg(test)]
mod tests {
    use super::{Interfaces, Line, Setup, text};
    use crate::config::{Config, Host};
    use crate::engine::errors::{Fault, Operation, QueryError, Reason};
    use crate::engine::key::Transport;
    use crate::engine::message::Rcode;

    fn config(directives: &str) -> Config {
        let text = format!(".:0 {{\n bind 127.0.0.1\n errors\n {directives}\n}}\n");
        Config::load(text.as_bytes(), "Corefile", &Host::plain()).unwrap().0
    }

    fn said(reason: Reason, transport: Transport, config: &Config) -> String {
        let upstream = Some(("192.0.2.1:53".parse().unwrap(), transport));
        let error = QueryError::new(0, b"\0", 1, (Rcode::ServFail, reason), upstream);
        text(&error, config, &Setup::default(), &mut Interfaces::default())
    }

    #[test]
    fn a_failed_attempt_has_the_text_of_the_reference() {
        let config = config("");
        for (operation, fault, expected) in [
            (Operation::Read, Fault::TimedOut, "read udp 192.0.2.1:53: i/o timeout"),
            (
                Operation::Read,
                Fault::System(libc::ECONNREFUSED),
                "read udp 192.0.2.1:53: read: connection refused",
            ),
            (
                Operation::Write,
                Fault::System(libc::EPERM),
                "write udp 192.0.2.1:53: write: operation not permitted",
            ),
            (
                Operation::Dial,
                Fault::System(libc::ENETUNREACH),
                "dial udp 192.0.2.1:53: connect: network is unreachable",
            ),
        ] {
            let reason = Reason::Attempt(operation, fault);
            assert_eq!(said(reason, Transport::Udp, &config), expected);
        }
        let closed = Reason::Attempt(Operation::Read, Fault::Closed);
        assert_eq!(said(closed, Transport::Tcp, &config), "read tcp 192.0.2.1:53: EOF");
        let late = Reason::Attempt(Operation::Dial, Fault::TimedOut);
        assert_eq!(said(late, Transport::Tcp, &config), "dial tcp 192.0.2.1:53: i/o timeout");
    }

    #[test]
    fn a_query_that_was_never_sent_is_described_by_its_configuration() {
        let said = |reason, directives| said(reason, Transport::Udp, &config(directives));
        assert_eq!(said(Reason::NobodyForwards, ""), "plugin/errors: no next plugin found");
        assert_eq!(said(Reason::NobodyForwards, "cache"), "plugin/cache: no next plugin found");
        for (directives, last) in [
            ("minimal\n template IN A", "template"),
            ("hosts {\n 192.0.2.1 a\n fallthrough\n }\n loop", "loop"),
            ("hosts {\n 192.0.2.1 a\n fallthrough\n }\n any", "hosts"),
        ] {
            let expected = format!("plugin/{last}: no next plugin found");
            assert_eq!(said(Reason::NobodyForwards, directives), expected);
        }
        let forward = "forward . 192.0.2.1 {\n except a\n max_concurrent 7\n }";
        assert_eq!(said(Reason::NobodyForwards, forward), "plugin/forward: no next plugin found");
        let many = said(Reason::TooManyConcurrent(0), forward);
        assert_eq!(many, "concurrent queries exceeded maximum 7");
        assert_eq!(said(Reason::NoHealthyUpstream, forward), "no healthy proxies");
    }

    #[test]
    fn a_line_has_the_code_the_folded_name_and_the_type() {
        let failed = (Rcode::ServFail, Reason::Looping);
        for (name, rtype, expected) in [
            (&b"\x01A\x07eXam.le\0"[..], 28, "2 a.exam\\.le. AAAA: EOF"),
            (b"\0", 65_280, "2 . TYPE65280: EOF"),
            (b"\x02\n\xff\0", 1, "2 \\010\\255. A: EOF"),
        ] {
            let error = QueryError::new(0, name, rtype, failed, None);
            assert_eq!(Line { error: &error, text: "EOF" }.to_string(), expected);
        }
    }
}
