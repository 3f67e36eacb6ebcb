//! A client's connection that carries DNS in requests of HTTP: RFC 8484, or gRPC.
//!
//! Connects the bytes of the connection with [`Server`], and its requests with the engine. A query
//! that was accepted is answered with a DNS message, whatever its response code; everything else is
//! refused with a status. Each request that was read gets its response, so that no client waits for
//! one.

mod requests;

use super::scratch::Scratch;
use crate::config::{Listener, Protocol};
use crate::engine::forwarder::Requested;
use crate::engine::frame::Full;
use crate::engine::message::lifetime::fresh_for;
use crate::engine::{Client, Forwarder, Via};
use crate::http::doh::{self, Refusal};
use crate::http::grpc::{self, Status};
use crate::http::{KEPT_BYTES_MAX, Limits, Request, Server, Version};
use crate::moment::Moment;
use crate::worker::tcp::TcpConnection;
pub(super) use requests::Doh;
use std::io;

/// Number of bytes in the outbox from which on no more are taken from the server.
const OUTBOX_MAX: usize = 1 << 16;
/// Bytes of replies that wait in the server, beyond which no further request is taken: the replies
/// to those that were taken then still fit.
const KEPT_MAX: usize = KEPT_BYTES_MAX / 4;

/// Way in which requests carry DNS.
pub(super) enum Carrier {
    /// DNS over HTTPS (RFC 8484).
    Doh(Doh),
    /// gRPC, as in CoreDNS.
    Grpc {
        /// Maximum number of requests at a time on a connection.
        requests_max: Option<u32>,
    },
}

/// Reason why a request gets no DNS message.
enum Refused {
    Doh(Refusal),
    Grpc(Status),
}

/// HTTP on one connection.
pub(super) struct HttpConnection {
    /// `None`: the TLS handshake, which chooses the version, is not complete.
    server: Option<Server>,
    carrier: Carrier,
    /// No more requests are served.
    is_stopped: bool,
    /// Received requests are not taken, because too many replies wait.
    is_held: bool,
    /// Bytes of replies are in the outbox.
    is_replying: bool,
    /// Replies may name the address of the service over HTTP/3.
    offers_http3: bool,
}

impl HttpConnection {
    /// Creates a connection whose requests carry DNS in this way.
    pub(super) fn new(carrier: Carrier) -> Self {
        Self {
            server: None,
            carrier,
            is_stopped: false,
            is_held: false,
            is_replying: false,
            offers_http3: false,
        }
    }

    /// Treats the requests from now on in this way.
    pub(super) fn reload(&mut self, carrier: Carrier) {
        self.carrier = carrier;
    }

    /// Returns the maximum number of bytes of a connection.
    pub(super) fn bytes_max() -> usize {
        size_of::<Self>() + Server::bytes_max(&Limits::DNS)
    }

    /// Returns the server, once the connection is open.
    fn server(&mut self, connection: &TcpConnection) -> Option<&mut Server> {
        if self.server.is_none() && connection.is_open() {
            self.server = Some(self.carrier.server(connection.protocol()));
        }
        self.server.as_mut()
    }

    /// Takes the requests in `bytes` without serving them.
    #[cfg(test)]
    pub(super) fn take_for_test(&mut self, connection: &TcpConnection, mut bytes: &[u8]) {
        let server = self.server(connection).expect("there is no handshake");
        while !bytes.is_empty() {
            let taken = server.receive(bytes);
            bytes = &bytes[taken..];
            while server.next_request().is_some() {}
        }
    }

    /// Passes the queries of received requests to the engine, until the client may ask no more.
    /// Returns true if it may ask no more before a response is sent.
    ///
    /// # Errors
    /// [`Full`].
    pub(super) fn serve(
        &mut self,
        now: Moment,
        client: Client,
        connection: &mut TcpConnection,
        scratch: &mut Scratch,
        engine: &mut Forwarder,
    ) -> Result<bool, Full> {
        let Some(key) = client.via.connection() else { return Ok(false) };
        if self.server(connection).is_none() {
            return Ok(false);
        }
        self.offers_http3 = self.carrier.offers_http3(&client);
        let Self { server: Some(server), carrier, is_held, is_stopped, offers_http3, .. } = self
        else {
            return Ok(false);
        };
        loop {
            let taken = server.receive(connection.inbox.waiting());
            connection.inbox.taken(taken);
            // The reply to a cancelled request is dropped when it comes.
            while server.next_cancelled().is_some() {}
            loop {
                *is_held = server.kept() > KEPT_MAX;
                if *is_held {
                    break;
                }
                if engine.clients.is_spent(key) {
                    // The client repeats the requests that were not taken.
                    if !std::mem::replace(is_stopped, true) {
                        server.stop();
                    }
                    connection.half_closed = true;
                    return Ok(false);
                }
                if !engine.clients.may_ask(key) {
                    return Ok(true);
                }
                let Some(request) = server.next_request() else { break };
                let id = request.id;
                let client = Client { via: Via::Request(key, id), ..client };
                match carrier.ask(now, client, &request, scratch, engine) {
                    Ok(None) => {}
                    Ok(Some(len)) => {
                        let reply = &scratch.reply[..len];
                        let place = (client.listener, id);
                        carrier.respond(server, place, (reply, *offers_http3), engine)?;
                    }
                    Err(refused) => {
                        carrier.refuse(server, (client.listener, id), &refused, engine)?;
                    }
                }
            }
            if server.is_full() {
                return Ok(true);
            }
            if taken == 0 || connection.inbox.waiting().is_empty() {
                return Ok(false);
            }
        }
    }

    /// Writes the reply to a request: number of its listener, and its own. Bytes that wait in the
    /// server are sent first if there are too many, because many replies in one turn do not mean
    /// that the client is slow.
    ///
    /// # Errors
    /// [`Full`].
    pub(super) fn reply(
        &mut self,
        connection: &mut TcpConnection,
        (listener, request): (u16, u32),
        reply: &[u8],
        engine: &mut Forwarder,
    ) -> Result<(), Full> {
        if self.server.as_ref().is_some_and(|server| server.kept() > KEPT_MAX) {
            // A socket that has failed is closed at the end of the turn.
            let _ = self.flush(connection);
        }
        let Some(server) = &mut self.server else { return Ok(()) };
        self.carrier.respond(server, (listener, request), (reply, self.offers_http3), engine)
    }

    /// Moves bytes from the server to the outbox, and writes that until the kernel accepts no more.
    /// Returns the number of bytes written while the outbox had bytes of replies: acknowledgements
    /// of the protocol are no activity of the client.
    ///
    /// # Errors
    /// The socket has failed.
    pub(super) fn flush(&mut self, connection: &mut TcpConnection) -> io::Result<usize> {
        let mut total = 0;
        loop {
            let count = connection.flush()?;
            if self.is_replying {
                total += count;
            }
            self.is_replying &= !connection.is_empty();
            let Some(server) = &mut self.server else { return Ok(total) };
            if connection.is_blocked() {
                return Ok(total);
            }
            let (mut added, before) = (0, server.kept());
            connection.append(|out| {
                let len = out.len();
                server.transmit(out, OUTBOX_MAX);
                added = out.len() - len;
            });
            self.is_replying |= server.kept() < before;
            if added == 0 {
                return Ok(total);
            }
        }
    }

    /// Returns true if requests were left, because replies waited, and may be taken now.
    pub(super) fn may_go_on(&self) -> bool {
        self.is_held && self.server.as_ref().is_some_and(|server| server.kept() <= KEPT_MAX)
    }

    /// Returns true if a request has begun and its rest is missing.
    pub(super) fn is_within_request(&self) -> bool {
        self.server.as_ref().is_some_and(Server::is_within_request)
    }

    /// Returns true if replies wait in the server.
    pub(super) fn is_answering(&self) -> bool {
        self.server.as_ref().is_some_and(Server::is_answering)
    }

    /// Tells the client that no more requests are read.
    pub(super) fn stop(&mut self) {
        if !std::mem::replace(&mut self.is_stopped, true)
            && let Some(server) = &mut self.server
        {
            server.stop();
        }
    }

    /// Returns true if nothing more comes of the connection.
    pub(super) fn is_over(&self) -> bool {
        self.server.as_ref().is_some_and(Server::is_over)
    }
}

impl Carrier {
    /// Returns the carrier of connections to `listener`; `None`: they carry no HTTP.
    pub(super) fn of(listener: &Listener) -> Option<Self> {
        match listener.protocol {
            Protocol::Dns | Protocol::Tls | Protocol::Https3 | Protocol::Quic => None,
            Protocol::Https => Some(Self::Doh(Doh::new(&listener.http))),
            Protocol::Grpc => Some(Self::Grpc { requests_max: listener.http.requests_max }),
        }
    }

    /// Creates the server of a connection. `protocol`: that of ALPN, if any.
    fn server(&self, protocol: Option<&[u8]>) -> Server {
        match self {
            Self::Doh(_) => Server::new(protocol.and_then(Version::of_alpn), Limits::DNS),
            Self::Grpc { requests_max } => {
                let outstanding_max =
                    Limits::DNS.outstanding_max.min(requests_max.unwrap_or(u32::MAX));
                Server::new(Some(Version::Http2), Limits { outstanding_max, ..Limits::DNS })
            }
        }
    }

    /// Asks the engine. Returns the length of the reply in `scratch`; `None`: it comes later.
    fn ask(
        &self,
        now: Moment,
        client: Client,
        request: &Request<'_>,
        scratch: &mut Scratch,
        engine: &mut Forwarder,
    ) -> Result<Option<usize>, Refused> {
        if let Self::Doh(doh) = self {
            return doh.ask(now, client, request, scratch, engine).map_err(Refused::Doh);
        }
        let Scratch { query, reply } = scratch;
        let len = grpc::query(request, query).inspect_err(|_| {
            // The engine counts only the queries that it gets.
            client.via.connection().inspect(|key| engine.clients.asked(now, *key));
        });
        let len = len.map_err(Refused::Grpc)?;
        match engine.on_request(now, client, &query[..len], reply) {
            Requested::Waits => Ok(None),
            Requested::Replied(len) => Ok(Some(len)),
            Requested::Malformed(_) => Err(Refused::Grpc(Status::InvalidArgument)),
            Requested::Dropped => Err(Refused::Grpc(Status::Internal)),
        }
    }

    /// Returns true if replies to `client` may name the address of the service over HTTP/3.
    fn offers_http3(&self, client: &Client) -> bool {
        matches!(self, Self::Doh(doh) if doh.offers_http3(client.peer))
    }

    /// Writes the reply to a request: number of its listener, and its own.
    fn respond(
        &self,
        server: &mut Server,
        (listener, request): (u16, u32),
        (reply, offers_http3): (&[u8], bool),
        engine: &mut Forwarder,
    ) -> Result<(), Full> {
        let written = match self {
            Self::Doh(doh) => {
                engine.count_response(listener, 200);
                let alt_svc = doh.alt_svc().filter(|_| offers_http3);
                doh::respond(server, request, reply, fresh_for(reply), alt_svc)
            }
            Self::Grpc { .. } => grpc::respond(server, request, reply),
        };
        written.map_err(|_| Full)
    }

    /// Writes the refusal of a request.
    fn refuse(
        &self,
        server: &mut Server,
        (listener, request): (u16, u32),
        refused: &Refused,
        engine: &mut Forwarder,
    ) -> Result<(), Full> {
        let written = match refused {
            Refused::Doh(refusal) => {
                engine.count_response(listener, refusal.status);
                refusal.respond(server, request)
            }
            Refused::Grpc(status) => grpc::refuse(server, request, *status),
        };
        written.map_err(|_| Full)
    }
}
