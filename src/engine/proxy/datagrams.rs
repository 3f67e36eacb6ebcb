//! Datagrams that may begin with a header of the PROXY protocol.
//!
//! [`Datagrams`] belongs to one listener of one worker. It removes the header of each datagram,
//! applies the policy for its sender, remembers sessions, and remembers the proxies to which
//! replies return. The bytes behind a header may be DNS or QUIC: a front calls
//! [`Datagrams::open`] for each datagram, and [`Datagrams::sender`] for a reply.

use super::senders::Senders;
use super::{Flaw, Parsed, read};
use crate::config::{ProxyPolicy, ProxyProtocol, ProxySessions};
use crate::engine::key::RelayKey;
use crate::moment::Moment;
use std::net::SocketAddr;
use std::sync::Arc;

/// Maximum number of addresses of proxies to which replies return. When more are used, a reply to
/// the one that was used least recently is lost.
pub(crate) const RELAYS_MAX: usize = 1 << 16;

/// Result of [`Datagrams::open`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened<'a> {
    /// The sender is the client.
    Own {
        /// Bytes behind the header, if there was one.
        payload: &'a [u8],
        /// A header was removed.
        has_header: bool,
    },
    /// The sender is a proxy.
    Relayed {
        /// The client.
        source: SocketAddr,
        /// Path of the reply.
        relay: RelayKey,
        /// The source is that of a header in this datagram, not of one before.
        has_header: bool,
        /// Bytes behind the header.
        payload: &'a [u8],
    },
    /// A header without a payload, which begins or extends a session.
    Session,
    /// The datagram is dropped.
    Dropped(Flaw),
}

/// State of one listener whose datagrams may have headers.
pub struct Datagrams {
    settings: Arc<ProxyProtocol>,
    relays: Senders<()>,
    sessions: Senders<(SocketAddr, Moment)>,
}

impl Datagrams {
    /// Creates the state of a listener with these settings. `hasher` is keyed.
    pub fn new(settings: Arc<ProxyProtocol>, hasher: &ahash::RandomState) -> Self {
        let sessions_max = settings.sessions.map_or(0, |sessions| sessions.count_max as usize);
        Self {
            settings,
            relays: Senders::new(RELAYS_MAX, hasher.clone()),
            sessions: Senders::new(sessions_max, hasher.clone()),
        }
    }

    /// Returns the maximum number of bytes of a listener with these settings.
    pub(crate) fn bytes_max(settings: &ProxyProtocol) -> usize {
        let sessions = settings.sessions.map_or(0, |sessions| sessions.count_max as usize);
        Senders::<()>::bytes_max(RELAYS_MAX) + Senders::<(SocketAddr, Moment)>::bytes_max(sessions)
    }

    /// Changes the settings. Sessions stay if their lifetime and number do, because the header of
    /// each comes once.
    pub(crate) fn reload(&mut self, settings: &Arc<ProxyProtocol>, hasher: &ahash::RandomState) {
        let has_same_sessions = self.settings.sessions == settings.sessions;
        self.settings = Arc::clone(settings);
        if !has_same_sessions {
            self.sessions = Self::new(Arc::clone(settings), hasher).sessions;
        }
    }

    /// Forgets the sessions, because the listener has no such directive any more. Replies still
    /// return to their proxies.
    pub(crate) fn end_sessions(&mut self, hasher: &ahash::RandomState) {
        self.sessions = Senders::new(0, hasher.clone());
    }

    /// Opens the datagram `bytes` of `sender`.
    pub fn open<'a>(&mut self, now: Moment, sender: SocketAddr, bytes: &'a [u8]) -> Opened<'a> {
        let policy = self.settings.policy(sender.ip());
        if policy == ProxyPolicy::Skip {
            return Opened::Own { payload: bytes, has_header: false };
        }
        let header = match read(bytes) {
            Parsed::Absent => None,
            // Too short for a signature, and for a query.
            Parsed::Partial if bytes.len() < super::SIGNATURE.len() => None,
            Parsed::Partial => return Opened::Dropped(Flaw::Cut),
            Parsed::Invalid(flaw) => return Opened::Dropped(flaw),
            Parsed::Header(header) if header.version != 2 => {
                return Opened::Dropped(Flaw::LineInDatagram);
            }
            Parsed::Header(header) => Some(header),
        };
        let payload = header.map_or(bytes, |header| &bytes[header.len..]);
        let source = match (policy, header) {
            (ProxyPolicy::Reject, Some(_)) => return Opened::Dropped(Flaw::Rejected),
            (ProxyPolicy::Use, Some(header)) => header.source,
            (ProxyPolicy::Use, None) => self.remembered(now, sender),
            (ProxyPolicy::Ignore | ProxyPolicy::Reject | ProxyPolicy::Skip, _) => None,
        };
        let has_header = header.is_some();
        let Some(source) = source else {
            if has_header && policy == ProxyPolicy::Use {
                self.sessions.forget(sender);
            }
            return Opened::Own { payload, has_header };
        };
        if let Some(ProxySessions { lifetime, .. }) = self.settings.sessions {
            self.sessions.set(sender, (source, now.plus(lifetime)));
            if payload.is_empty() {
                return Opened::Session;
            }
        }
        let relay = RelayKey(self.relays.set(sender, ()));
        Opened::Relayed { source, relay, has_header, payload }
    }

    /// Returns the client that `sender` has named before, if it is remembered.
    fn remembered(&mut self, now: Moment, sender: SocketAddr) -> Option<SocketAddr> {
        self.settings.sessions?;
        let (source, until) = *self.sessions.get(sender)?;
        if until <= now {
            self.sessions.forget(sender);
            return None;
        }
        Some(source)
    }

    /// Returns the address of the proxy that a reply returns to. `None`: too many others have been
    /// used since.
    pub fn sender(&self, relay: RelayKey) -> Option<SocketAddr> {
        self.relays.sender(relay.0)
    }
}

#[cfg(test)]
mod tests;
