//! QUIC on one listener: queries of its connections to the engine, and replies back.
//!
//! A reply is a message on the stream of its query, or a response of HTTP. Connections are admitted
//! here; what becomes of their keys is the caller's part.

use crate::engine::forwarder::Requested;
use crate::engine::key::ConnectionKey;
use crate::engine::message::lifetime::fresh_for;
use crate::engine::{Client, Forwarder};
use crate::http::{Response, doh};
use crate::moment::Moment;
use crate::quic::{Application, Endpoint, Id, Query, Reason};
use crate::worker::clients::http::Doh;
use crate::worker::clients::scratch::Scratch;
use std::net::SocketAddr;

/// QUIC on a listener.
pub(super) struct Front {
    pub(super) endpoint: Endpoint,
    /// Settings for requests of HTTP/3. `None`: the streams carry messages (RFC 9250).
    pub(super) doh: Option<Doh>,
    /// The listener was removed.
    pub(super) is_left: bool,
}

impl Front {
    /// Admits a connection whose handshake is complete, or closes it. Returns its key, and that of
    /// the connection that was evicted for it.
    pub(super) fn admit(
        &mut self,
        now: Moment,
        (listener, id, peer): (u16, Id, SocketAddr),
        engine: &mut Forwarder,
    ) -> Option<(ConnectionKey, Option<ConnectionKey>)> {
        let Ok((key, evicted)) = engine.admit(now, listener, peer.ip()) else {
            engine.stats_mut().connections_refused += 1;
            self.count(listener, Reason::Load, engine);
            self.endpoint.close(now, id, Reason::Load);
            return None;
        };
        engine.stats_mut().connections += 1;
        self.endpoint.admit(id, key);
        Some((key, evicted))
    }

    /// Passes a query to the engine. Returns true if the client has to take bytes before all is on
    /// its way.
    ///
    /// # Errors
    /// The connection must be closed.
    pub(super) fn ask(
        &mut self,
        now: Moment,
        (id, stream): (Id, u32),
        client: Client,
        query: &Query,
        (engine, scratch): (&mut Forwarder, &mut Scratch),
    ) -> Result<bool, Reason> {
        let place = (client.listener, id, stream);
        match (query, &self.doh) {
            (Query::Message(message), _) => {
                match engine.on_stream(now, client, message, &mut scratch.reply) {
                    Requested::Waits => Ok(self.endpoint.is_behind(id)),
                    Requested::Replied(len) | Requested::Malformed(Some(len)) => {
                        self.reply(place, &scratch.reply[..len], engine)
                    }
                    Requested::Dropped => {
                        self.count(client.listener, Reason::Other, engine);
                        self.endpoint.refuse(id, stream, Reason::Other);
                        Ok(self.endpoint.is_behind(id))
                    }
                    Requested::Malformed(None) => Err(Reason::Violation),
                }
            }
            (Query::Request(request), Some(doh)) => {
                match doh.ask(now, client, &request.view(stream), scratch, engine) {
                    Ok(None) => Ok(self.endpoint.is_behind(id)),
                    Ok(Some(len)) => self.reply(place, &scratch.reply[..len], engine),
                    Err(refusal) => {
                        engine.count_response(client.listener, refusal.status);
                        refusal.with_response(|response| self.respond(id, stream, response))
                    }
                }
            }
            (Query::Request(_), None) => Err(Reason::Violation),
        }
    }

    /// Hands over the reply to a query: number of its listener, connection, and stream. Returns
    /// true if the client has to take bytes before all is on its way.
    ///
    /// # Errors
    /// The connection must be closed.
    pub(super) fn reply(
        &mut self,
        (listener, id, stream): (u16, Id, u32),
        reply: &[u8],
        engine: &mut Forwarder,
    ) -> Result<bool, Reason> {
        let waits = match self.doh {
            None => self.endpoint.answer(id, stream, reply).map_err(|_| Reason::Load)?,
            Some(_) => doh::with_response(reply, fresh_for(reply), None, |response| {
                self.respond(id, stream, response)
            })?,
        };
        match self.doh {
            None => self.count(listener, Reason::Done, engine),
            Some(_) => engine.count_response(listener, 200),
        }
        Ok(waits)
    }

    /// Hands over a response, as [`Front::reply`].
    fn respond(&mut self, id: Id, stream: u32, response: &Response<'_>) -> Result<bool, Reason> {
        self.endpoint.respond(id, stream, response).map_err(|_| Reason::Load)
    }

    /// Returns the protocol on the streams.
    pub(super) fn application(&self) -> Application {
        if self.doh.is_some() { Application::Http3 } else { Application::Doq }
    }

    /// Counts the code of the end of a stream or connection. Those of HTTP/3 are no statuses.
    pub(super) fn count(&self, listener: u16, reason: Reason, engine: &mut Forwarder) {
        if self.doh.is_none() {
            engine.count_response(listener, Application::Doq.code(reason) as u16);
        }
    }
}
