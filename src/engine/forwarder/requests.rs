//! Queries in requests of HTTP or streams of QUIC, whose client must get a response in any case.
//!
//! A query over UDP or TCP that is malformed beyond a reply, or dropped on purpose, gets silence. A
//! request waits for its response on a connection that others share, so this module returns the
//! reason of the silence, and the shell answers with a status of HTTP (RFC 8484 §4.2.1) or an error
//! code of QUIC (RFC 9250 §4.3).

use super::Forwarder;
use crate::engine::exchange::Client;
use crate::engine::message::query::{Query, Rejection, has_keepalive};
use crate::engine::message::{Rcode, reply};
use crate::moment::Moment;

/// Outcome of a query in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Requested {
    /// A reply of this length is written.
    Replied(usize),
    /// The reply comes later.
    Waits,
    /// The message is no query that could be read. Length of the error that is written, if it could
    /// be answered.
    Malformed(Option<usize>),
    /// The query is dropped.
    Dropped,
}

impl Forwarder {
    /// Handles a query from a request of `client`, as [`Forwarder::on_query`].
    pub(crate) fn on_request(
        &mut self,
        now: Moment,
        client: Client,
        message: &[u8],
        out: &mut [u8],
    ) -> Requested {
        let connection = client.via.connection();
        let outstanding = |engine: &Self| connection.map(|key| engine.clients.outstanding(key));
        let before = outstanding(self);
        let written = self.on_query(now, client, message, false, out);
        let is_malformed = || match Query::parse(message, false) {
            Ok(_) => false,
            Err(Rejection::TooShort | Rejection::IsResponse) => true,
            Err(Rejection::Refusal { rcode, .. }) => rcode == Rcode::FormErr,
        };
        match written {
            Some(len) if reply::rcode(&out[..len]) == Rcode::FormErr as u16 && is_malformed() => {
                Requested::Malformed(Some(len))
            }
            Some(len) => Requested::Replied(len),
            None if outstanding(self) != before => Requested::Waits,
            None if is_malformed() => Requested::Malformed(None),
            None => Requested::Dropped,
        }
    }

    /// Handles a query on a stream of QUIC of `client`. A message that must not come on one is
    /// malformed.
    pub(crate) fn on_stream(
        &mut self,
        now: Moment,
        client: Client,
        message: &[u8],
        out: &mut [u8],
    ) -> Requested {
        if has_keepalive(message) {
            return Requested::Malformed(None);
        }
        self.on_request(now, client, message, out)
    }

    /// Counts a response with this status of HTTP, or code of QUIC, on listener number `listener`.
    pub(crate) fn count_response(&mut self, listener: u16, status: u16) {
        let label_set = self.routes.dropped(listener);
        self.counters.http_response(label_set, status);
    }
}
