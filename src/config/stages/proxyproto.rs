//! `proxyproto { allow CIDR...; default use|ignore|reject|skip; udp_session_tracking DUR [MAX] }`
//!
//! `proxyproto`: which peers of the block's listeners may name their clients in a header of the
//! PROXY protocol. `allow` lists proxies whose headers are used; `default` is the policy for all
//! other peers. Without both, headers of all peers are used, as in the reference.

use super::super::context::Context;
use super::super::duration::{self, show_duration};
use super::super::error::DirectiveError;
use super::super::net::{Net, Nets};
use super::super::numbers;
use super::once;
use crate::corefile::{Cursor, ParseError, Token, did_you_mean};
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

/// Sessions that are remembered without a number, as in the reference.
const SESSIONS_DEFAULT: u32 = 10_240;
/// Maximum number of sessions.
const SESSIONS_MAX: u32 = 1 << 20;

/// Treatment of headers of the PROXY protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ProxyProtocol {
    /// Proxies whose headers are used, as written. Empty: not written.
    allowed: Vec<Net>,
    /// The same, to be searched.
    proxies: Nets,
    /// Policy for other peers. `None`: not written.
    default: Option<ProxyPolicy>,
    /// Memory of clients over UDP. `None`: each datagram has a header of its own.
    pub(crate) sessions: Option<ProxySessions>,
}

/// Treatment of a peer's headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ProxyPolicy {
    /// The header's source is the client. The header is optional.
    Use,
    /// The header is removed, and the peer is the client.
    Ignore,
    /// Packets and connections with a header are refused.
    Reject,
    /// Nothing is read as a header.
    Skip,
}

/// Memory of clients over UDP whose proxy sends the header once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ProxySessions {
    /// Time for which a header is remembered after its last use.
    pub(crate) lifetime: Duration,
    /// Maximum number of sessions of a listener in the process; in the configuration of a worker,
    /// its share.
    pub(crate) count_max: u32,
}

const POLICIES: [(&str, ProxyPolicy); 4] = [
    ("use", ProxyPolicy::Use),
    ("ignore", ProxyPolicy::Ignore),
    ("reject", ProxyPolicy::Reject),
    ("skip", ProxyPolicy::Skip),
];

impl ProxyProtocol {
    /// Returns the policy for the peer at `address`.
    pub(crate) fn policy(&self, address: IpAddr) -> ProxyPolicy {
        if !self.allowed.is_empty() && self.proxies.contains(address.to_canonical()) {
            return ProxyPolicy::Use;
        }
        let unlisted = if self.allowed.is_empty() { ProxyPolicy::Use } else { ProxyPolicy::Ignore };
        self.default.unwrap_or(unlisted)
    }
}

/// Reads the `proxyproto` stanza of a server block.
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    context: &mut Context<'_>,
) -> Result<Option<ProxyProtocol>, DirectiveError> {
    let Some(stanza) = context.stanza("proxyproto", cursor) else { return Ok(None) };
    if !cursor.rest().is_empty() {
        return Err(cursor.argument_error().into());
    }
    let mut settings = ProxyProtocol::default();
    while let Some(property) = cursor.block() {
        match &*property.text {
            "allow" => {
                for word in cursor.expect_rest()? {
                    settings.allowed.push(network(word)?);
                }
            }
            "default" => settings.default = Some(policy(cursor)?),
            "udp_session_tracking" => settings.sessions = sessions(cursor)?,
            other => {
                let known = ["allow", "default", "udp_session_tracking"];
                let suggestion = did_you_mean(other, known);
                let message = format!("unknown option '{other}'{suggestion}");
                return Err(ParseError::at(property, message).into());
            }
        }
    }
    settings.proxies = Nets::new(settings.allowed.iter());
    let default = settings.default.unwrap_or(ProxyPolicy::Use);
    if default == ProxyPolicy::Use && (settings.allowed.is_empty() || settings.default.is_some()) {
        let message = "plugin/proxyproto: every client can claim any address, because headers of \
                       all peers are used: list the proxies with 'allow CIDR' and leave out \
                       'default use'";
        context.warn(&stanza.place, message);
    }
    once(cursor)?;
    Ok(Some(settings))
}

/// Reads a network; unlike elsewhere, its length is not optional, as in the reference.
fn network(word: &Token) -> Result<Net, DirectiveError> {
    let net = Net::parse(&word.text).filter(|_| word.text.contains('/'));
    net.ok_or_else(|| {
        let message = format!(
            "{}: invalid CIDR address: {0}: expected ADDRESS/LENGTH, such as 192.0.2.1/32",
            word.text
        );
        DirectiveError::value(word, message)
    })
}

/// Reads the only value of `default`.
fn policy(cursor: &mut Cursor<'_>) -> Result<ProxyPolicy, DirectiveError> {
    let written = only(cursor)?;
    let known = POLICIES.iter().find(|(name, _)| written.text.eq_ignore_ascii_case(name));
    known.map(|(_, policy)| *policy).ok_or_else(|| {
        let message = format!("default '{}': expected use, ignore, reject or skip", written.text);
        DirectiveError::value(written, message)
    })
}

/// Returns the only argument.
fn only<'a>(cursor: &mut Cursor<'a>) -> Result<&'a Token, DirectiveError> {
    let written = cursor.expect_arg()?;
    if cursor.rest().is_empty() { Ok(written) } else { Err(cursor.argument_error().into()) }
}

/// Reads the values of `udp_session_tracking`. A duration that is not positive turns it off, as in
/// the reference.
fn sessions(cursor: &mut Cursor<'_>) -> Result<Option<ProxySessions>, DirectiveError> {
    let (written, number) = match &cursor.rest()[..] {
        [written] => (*written, None),
        [written, number] => (*written, Some(*number)),
        _ => return Err(cursor.argument_error().into()),
    };
    let nanos = duration::parse(&written.text).map_err(|why| {
        let message = format!("udp_session_tracking: invalid duration '{}': {why}", written.text);
        DirectiveError::value(written, message)
    })?;
    let count_max = number.map_or(Ok(SESSIONS_DEFAULT), |number| {
        let count = numbers::signed(&number.text).ok().and_then(|count| u32::try_from(count).ok());
        count.filter(|count| (1..=SESSIONS_MAX).contains(count)).ok_or_else(|| {
            let message = format!(
                "udp_session_tracking: invalid max sessions '{}': expected a number from 1 to \
                 {SESSIONS_MAX}",
                number.text
            );
            DirectiveError::value(number, message)
        })
    })?;
    let lifetime = Duration::from_nanos(u64::try_from(nanos).unwrap_or(0));
    Ok((!lifetime.is_zero()).then_some(ProxySessions { lifetime, count_max }))
}

/// Writes the stanza of the directive.
pub(super) fn write(settings: &Option<ProxyProtocol>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Some(settings) = settings else { return Ok(()) };
    writeln!(f, "    proxyproto {{")?;
    if !settings.allowed.is_empty() {
        let nets: Vec<_> = settings.allowed.iter().map(ToString::to_string).collect();
        writeln!(f, "        allow {}", nets.join(" "))?;
    }
    if let Some(default) = settings.default {
        let known = POLICIES.iter().find(|(_, policy)| *policy == default);
        writeln!(f, "        default {}", known.map_or("", |(name, _)| name))?;
    }
    if let Some(ProxySessions { lifetime, count_max }) = settings.sessions {
        writeln!(f, "        udp_session_tracking {} {count_max}", show_duration(lifetime))?;
    }
    writeln!(f, "    }}")
}

#[cfg(test)]
mod tests {
    use super::{ProxyPolicy, read};
    use crate::config::context::read_alone;

    #[test]
    fn the_policy_follows_from_allow_and_default() {
        use ProxyPolicy::{Ignore, Reject, Skip, Use};
        for (text, listed, other) in [
            ("proxyproto", Use, Use),
            ("proxyproto {\n default skip\n}", Skip, Skip),
            ("proxyproto {\n allow 192.0.2.0/24\n}", Use, Ignore),
            ("proxyproto {\n allow 192.0.2.0/24 ::1/128\n default REJECT\n}", Use, Reject),
            ("proxyproto {\n allow 192.0.2.0/24\n default use\n}", Use, Use),
        ] {
            let settings = read_alone(text, read).0.unwrap().unwrap();
            let policy = |address: &str| settings.policy(address.parse().unwrap());
            assert_eq!(policy("192.0.2.7"), listed, "{text}");
            assert_eq!(policy("::ffff:192.0.2.7"), listed, "{text}");
            assert_eq!(policy("192.0.3.7"), other, "{text}");
        }
    }
}
