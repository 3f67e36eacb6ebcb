//! The beginning of a client's connection: a header of the PROXY protocol, then a TLS handshake.
//!
//! A header stands in front of everything else, also of TLS. It is looked at in the socket's buffer
//! and taken out when it is complete, so that the bytes behind it stay there for TLS or DNS. The
//! time limit is that of the first query.

use crate::config::ProxyPolicy;
use crate::engine::proxy::{self, Flaw, HEADER_LEN_MAX, Parsed};
use crate::moment::Moment;
use crate::worker::tcp::TcpConnection;
use std::io::{self, Read};
use std::net::SocketAddr;

/// State of a connection that carries no query yet.
#[derive(Clone, Copy)]
pub(super) struct Opening {
    /// Time when it was accepted, or when its header was complete.
    pub(super) since: Moment,
    /// Policy for its header, until that is read.
    pub(super) header: Option<ProxyPolicy>,
    /// A TLS handshake follows.
    pub(super) is_secure: bool,
}

impl Opening {
    /// Returns the state of a new connection, if it does not begin with a query.
    pub(super) fn of(now: Moment, policy: Option<ProxyPolicy>, is_secure: bool) -> Option<Self> {
        let header = policy.filter(|policy| *policy != ProxyPolicy::Skip);
        (header.is_some() || is_secure).then_some(Self { since: now, header, is_secure })
    }

    /// Returns true if the next bytes are those of a TLS handshake.
    pub(super) fn is_shaking(&self) -> bool {
        self.header.is_none()
    }
}

/// Result of [`take_header`].
pub(super) enum HeaderTaken {
    /// The header is not complete.
    Not,
    /// There is no header.
    Absent,
    /// There was a header. `None`: it does not name a client, or is not to be used.
    Taken(Option<SocketAddr>),
    /// The header is refused.
    Refused(Flaw),
    /// The client has closed, or the socket has failed.
    Over,
}

/// Takes the header from the socket of `connection`, if it is complete.
pub(super) fn take_header(connection: &mut TcpConnection, policy: ProxyPolicy) -> HeaderTaken {
    let mut bytes = [0; HEADER_LEN_MAX];
    let len = match connection.socket.peek(&mut bytes) {
        Ok(0) => return HeaderTaken::Over,
        Ok(len) => len,
        Err(error) if is_passing(&error) => return HeaderTaken::Not,
        Err(_) => return HeaderTaken::Over,
    };
    let header = match proxy::read(&bytes[..len]) {
        Parsed::Absent => return HeaderTaken::Absent,
        // The rest will not come.
        Parsed::Partial if connection.read_closed => return HeaderTaken::Refused(Flaw::Cut),
        Parsed::Partial => return HeaderTaken::Not,
        Parsed::Invalid(flaw) => return HeaderTaken::Refused(flaw),
        Parsed::Header(_) if policy == ProxyPolicy::Reject => {
            return HeaderTaken::Refused(Flaw::Rejected);
        }
        Parsed::Header(header) => header,
    };
    match connection.socket.read(&mut bytes[..header.len]) {
        Ok(count) if count == header.len => {
            HeaderTaken::Taken(header.source.filter(|_| policy == ProxyPolicy::Use))
        }
        _ => HeaderTaken::Over,
    }
}

/// Returns true for errors after which an event follows, or the same call may succeed.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
