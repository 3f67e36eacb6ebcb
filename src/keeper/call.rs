//! A probe as an HTTP request (RFC 8484, or gRPC), over the connection of the probe.
//!
//! The request has the method, path and name of queries. A reply that carries no DNS message
//! is a failure at once.

use super::wire::{Failure, READ_TIMEOUT, STRAYS_MAX, Wire};
use crate::config::{HttpCarrier, HttpTarget};
use crate::engine::frame::Outbox;
use crate::engine::health::query::ProbeQuery;
use crate::http::doh::{self, NoAnswer};
use crate::http::{self, Client, Version, grpc};
use crate::moment::Moment;

/// Bytes that are read at once.
const READ_LEN: usize = 2 << 10;
/// Bytes of the request, which is the only one on its connection.
const SENT_MAX: usize = 1 << 16;

/// A request that is being sent, or awaits its reply.
pub(super) struct Call {
    carrier: HttpCarrier,
    client: Client,
    outbox: Outbox,
    is_sent: bool,
    reads_left: u32,
}

impl Call {
    /// Begins to send `query` to `target` over `wire`, whose handshake is complete.
    pub(super) fn begin(wire: &Wire, target: &HttpTarget, query: &ProbeQuery) -> Self {
        let agreed = wire.protocol().and_then(Version::of_alpn);
        let HttpTarget { authority, carrier } = target;
        let version = match carrier {
            HttpCarrier::Doh { .. } => agreed.unwrap_or(Version::Http1),
            HttpCarrier::Grpc => Version::Http2,
        };
        let mut client = Client::new(version, 1);
        let mut message = query.as_bytes().to_vec();
        // HTTP caches need the same ID in all queries.
        message[..2].fill(0);
        let authority = authority.as_bytes();
        let call = match carrier {
            HttpCarrier::Doh { path, is_get } => {
                doh::ask(&mut client, authority, path.as_bytes(), *is_get, &message)
            }
            HttpCarrier::Grpc => {
                grpc::ask(&mut client, wire.session.is_some(), authority, &message)
            }
        };
        debug_assert!(call.is_some(), "a new connection has room for a call");
        let carrier = carrier.clone();
        Self { carrier, client, outbox: Outbox::default(), is_sent: false, reads_left: STRAYS_MAX }
    }

    /// Continues after an event of the socket. True: `query` was answered. Sets the `deadline` of
    /// the reply.
    ///
    /// # Errors
    /// The probe has failed.
    pub(super) fn go_on(
        &mut self,
        now: Moment,
        wire: &mut Wire,
        query: &ProbeQuery,
        deadline: &mut Moment,
    ) -> Result<bool, Failure> {
        loop {
            if self.write(wire)? && !std::mem::replace(&mut self.is_sent, true) {
                *deadline = now.plus(READ_TIMEOUT);
            }
            let mut room = [0; READ_LEN];
            let is_over = match wire.read(&mut room) {
                Ok(None) => return Ok(false),
                Ok(Some(count)) => {
                    self.client.receive(&room[..count]);
                    false
                }
                Err(Failure::Closed) => {
                    self.client.end();
                    true
                }
                Err(failure) => return Err(failure),
            };
            match self.is_answered(query) {
                // The session ends with its connection.
                Err(Failure::Http(http::Failure::Lost)) if is_over => return Err(Failure::Closed),
                Ok(false) if is_over => return Err(Failure::Closed),
                Ok(false) => {}
                end => return end,
            }
            self.reads_left = self.reads_left.checked_sub(1).ok_or(Failure::Strays)?;
        }
    }

    /// Writes what the client has to send. True when all of it has been taken.
    fn write(&mut self, wire: &mut Wire) -> Result<bool, Failure> {
        self.outbox.append(|out| self.client.transmit(out, SENT_MAX));
        Ok(wire.write(&mut self.outbox)?)
    }

    /// Returns true if the reply has arrived and answers `query`.
    fn is_answered(&mut self, query: &ProbeQuery) -> Result<bool, Failure> {
        if let Some(reply) = self.client.next_reply() {
            let answer = match self.carrier {
                HttpCarrier::Doh { .. } => doh::answer(&reply).map(|(message, _)| message),
                HttpCarrier::Grpc => grpc::answer(&reply),
            };
            // A server that knows that the name does not exist is there.
            if let Err(NoAnswer::GrpcStatus(grpc::NOT_FOUND)) = answer {
                return Ok(true);
            }
            let message = answer.map_err(Failure::NoAnswer)?;
            let mut message = message.to_vec();
            message[..2].copy_from_slice(&query.as_bytes()[..2]);
            return match query.is_answered_by(&message) {
                true => Ok(true),
                false => Err(Failure::Mismatch),
            };
        }
        self.client.next_failed().map_or(Ok(false), |(_, failure)| Err(Failure::Http(failure)))
    }
}
