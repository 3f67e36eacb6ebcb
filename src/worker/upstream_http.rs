//! A connection to an upstream whose queries are HTTP requests: RFC 8484, or gRPC.
//!
//! Connects the bytes of the connection with [`Client`], and its calls with the engine. The message
//! ID that is sent is 0, so that HTTP caches are of use. Queries whose replies are not awaited any
//! more are cancelled a moment later.

use super::requests::{CANCEL_INTERVAL, Requests, Waiting};
use super::tcp::{Progress, TcpConnection};
use crate::config::{HttpCarrier, HttpTarget};
use crate::engine::errors::{Fault, HttpFault};
use crate::engine::message::lifetime::grow_older;
use crate::engine::message::put_u16;
use crate::engine::stats::DropReason;
use crate::engine::{ConnectionId, Forwarder, Outgoing};
use crate::http::doh::{self, NoAnswer};
use crate::http::{Client, Failure, Reply, Version, grpc};
use crate::moment::Moment;
use std::io;
use std::sync::Arc;

/// Maximum number of calls at once on a connection.
const CALLS_MAX: u32 = 256;
/// Number of bytes in the outbox from which on no more are taken from the client.
const OUTBOX_MAX: usize = 1 << 16;

/// HTTP on one connection.
pub(super) struct HttpConnection {
    pub(super) tcp: TcpConnection,
    target: Arc<HttpTarget>,
    /// `None`: the handshake, which chooses the version, is not complete.
    client: Option<Client>,
    requests: Requests,
    /// The server's limit of calls at once, as the engine knows it.
    calls_max: usize,
    /// The server has sent bytes of HTTP.
    has_received: bool,
    /// The engine knows that no more calls can be made.
    is_closing: bool,
    /// Time of the next look for queries to cancel.
    cancel_at: Moment,
}

impl HttpConnection {
    /// Creates a connection for calls to `target`.
    pub(super) fn new(tcp: TcpConnection, target: Arc<HttpTarget>) -> Self {
        let (client, calls_max, requests) = (None, usize::MAX, Requests::default());
        Self {
            tcp,
            target,
            client,
            requests,
            calls_max,
            has_received: false,
            is_closing: false,
            cancel_at: Moment::ZERO,
        }
    }

    /// Returns the maximum number of bytes of a connection whose pool puts at most `in_flight`
    /// queries on it, besides those of TLS and the buffers of its bytes.
    pub(super) fn bytes_max(in_flight: usize) -> usize {
        let queries = Requests::bytes_max(in_flight);
        size_of::<Self>() + queries + OUTBOX_MAX + Client::bytes_max(CALLS_MAX)
    }

    /// Queues `queries` of the connection `id`, and sends as many as there is room for. `scratch`
    /// is lent.
    pub(super) fn send(
        &mut self,
        now: Moment,
        connection: ConnectionId,
        queries: &[Outgoing],
        engine: &mut Forwarder,
        scratch: &mut Vec<u8>,
    ) {
        self.requests.add(queries, engine);
        self.go_on(now, connection, engine, scratch);
    }

    /// Makes calls of the waiting queries and writes them. A socket that fails is broken down.
    pub(super) fn go_on(
        &mut self,
        now: Moment,
        connection: ConnectionId,
        engine: &mut Forwarder,
        scratch: &mut Vec<u8>,
    ) {
        if self.client.is_none() && self.tcp.is_open() {
            let agreed = self.tcp.protocol().and_then(Version::of_alpn);
            let version = match &self.target.carrier {
                // A server that agrees on no protocol speaks the older one.
                HttpCarrier::Doh { .. } => agreed.unwrap_or(Version::Http1),
                HttpCarrier::Grpc => Version::Http2,
            };
            self.client = Some(Client::new(version, CALLS_MAX));
        }
        self.cancel_abandoned(now, engine);
        loop {
            self.call_waiting(connection, engine, scratch);
            self.note_limits(now, connection, engine);
            if let Err(error) = self.flush() {
                return self.tcp.break_down(super::fault_of(&error));
            }
            // A session that has found an error of the server ends when its GOAWAY is sent, and a
            // reply that is refused makes room when its RST_STREAM is.
            self.note_limits(now, connection, engine);
            let has_room = self.client.as_ref().is_some_and(|client| client.capacity() > 0);
            if self.requests.is_empty() || !has_room || self.tcp.is_blocked() {
                return;
            }
        }
    }

    /// Returns the time of the next look for queries to cancel.
    pub(super) fn next_deadline(&self) -> Option<Moment> {
        self.requests.has_called().then_some(self.cancel_at)
    }

    /// Cancels queries whose replies are not awaited any more, after a while.
    fn cancel_abandoned(&mut self, now: Moment, engine: &mut Forwarder) {
        if self.requests.has_called() && now < self.cancel_at {
            return;
        }
        self.cancel_at = now.plus(CANCEL_INTERVAL);
        let Some(client) = &mut self.client else { return };
        while let Some(call) = self.requests.next_abandoned(engine) {
            client.cancel(call);
        }
    }

    fn call_waiting(
        &mut self,
        connection: ConnectionId,
        engine: &mut Forwarder,
        scratch: &mut Vec<u8>,
    ) {
        let Some(client) = &mut self.client else { return };
        while client.capacity() > 0
            && let Some(waiting) = self.requests.next(connection, engine, scratch)
        {
            put_u16(scratch, 0, 0);
            let HttpTarget { authority, carrier } = &*self.target;
            let authority = authority.as_bytes();
            let call = match carrier {
                HttpCarrier::Doh { path, is_get } => {
                    doh::ask(client, authority, path.as_bytes(), *is_get, scratch)
                }
                HttpCarrier::Grpc => grpc::ask(client, self.tcp.is_secure(), authority, scratch),
            };
            match call {
                Some(call) => self.requests.called(waiting, call),
                None => self.requests.put_back(waiting),
            }
        }
    }

    /// Tells the engine how many calls the server allows, and the queries that it will not process.
    fn note_limits(&mut self, now: Moment, connection: ConnectionId, engine: &mut Forwarder) {
        let Some(client) = &mut self.client else { return };
        // Before the server's SETTINGS, a default of the library stands in for its limit.
        let calls_max = if self.has_received { client.calls_max() } else { self.calls_max };
        if std::mem::replace(&mut self.calls_max, calls_max) != calls_max {
            engine.on_calls_max(connection, calls_max);
        }
        if client.is_ending() {
            if !std::mem::replace(&mut self.is_closing, true) {
                engine.on_closing(now, connection);
            }
            for id in self.requests.unsent() {
                engine.on_call_failed(now, connection, id, HttpFault::Unsent);
            }
        }
        while let Some((call, failure)) = client.next_failed() {
            let fault = match failure {
                Failure::Unprocessed => HttpFault::Unprocessed,
                Failure::Reset => HttpFault::Reset,
                Failure::Unusable => HttpFault::Malformed,
                // The whole session has failed, as a socket does.
                Failure::Lost => {
                    self.tcp.break_down(Fault::Http(HttpFault::Malformed));
                    continue;
                }
            };
            let Some(Waiting { id, .. }) = self.requests.take(call, engine) else { continue };
            engine.on_call_failed(now, connection, id, fault);
        }
    }

    /// Returns true if the session has failed, although the socket has not.
    fn has_failed(&self) -> bool {
        matches!(self.tcp.fault(), Fault::Http(_))
    }

    /// Reads once, and passes each answer to `handle`, with the ID of its query.
    pub(super) fn receive(
        &mut self,
        now: Moment,
        connection: ConnectionId,
        engine: &mut Forwarder,
        scratch: &mut Vec<u8>,
        handle: &mut impl FnMut(&mut Forwarder, ConnectionId, &[u8], bool),
    ) -> Progress {
        if self.has_failed() {
            return Progress::Over;
        }
        let was_open = self.tcp.is_open();
        let progress = self.tcp.read();
        if !was_open && self.tcp.is_open() {
            engine.on_secured(now, connection, self.tcp.is_resumed());
        }
        if self.client.is_none() {
            self.go_on(now, connection, engine, scratch);
        }
        let Some(client) = &mut self.client else { return progress };
        let received = self.tcp.inbox.waiting();
        let count = received.len();
        client.receive(received);
        self.has_received |= count > 0;
        self.tcp.inbox.taken(count);
        self.pass_replies(now, connection, engine, scratch, handle);
        self.go_on(now, connection, engine, scratch);
        if let Some(client) = self.client.as_mut().filter(|_| progress == Progress::Over) {
            // It completes a reply whose end is that of the connection. The engine ends the others.
            client.end();
            self.pass_replies(now, connection, engine, scratch, handle);
        }
        if self.has_failed() { Progress::Over } else { progress }
    }

    /// Passes each complete reply to `handle`.
    fn pass_replies(
        &mut self,
        now: Moment,
        connection: ConnectionId,
        engine: &mut Forwarder,
        scratch: &mut Vec<u8>,
        handle: &mut impl FnMut(&mut Forwarder, ConnectionId, &[u8], bool),
    ) {
        let Some(client) = &mut self.client else { return };
        while let Some(reply) = client.next_reply() {
            let Some(Waiting { query, id }) = self.requests.take(reply.id, engine) else {
                engine.stats_mut().drop(DropReason::ResponseUnmatched);
                continue;
            };
            match answer(&self.target.carrier, &reply, id, scratch) {
                Ok(()) => {}
                Err(HttpFault::GrpcStatus(grpc::NOT_FOUND)) if engine.deny(&query, scratch) => {}
                Err(fault) => {
                    engine.on_call_failed(now, connection, id, fault);
                    continue;
                }
            }
            let is_answer = engine.is_answer(connection, scratch);
            handle(engine, connection, scratch, false);
            if !is_answer {
                engine.on_call_failed(now, connection, id, HttpFault::Mismatch);
            }
        }
    }

    /// Writes as much as the kernel accepts.
    fn flush(&mut self) -> io::Result<()> {
        loop {
            self.tcp.flush()?;
            let Some(client) = self.client.as_mut().filter(|_| !self.tcp.is_blocked()) else {
                return Ok(());
            };
            self.tcp.append(|out| client.transmit(out, OUTBOX_MAX));
            if self.tcp.is_empty() {
                return Ok(());
            }
        }
    }

    /// Sends GOAWAY and TLS's end, if that is possible at once.
    pub(super) fn end(&mut self) {
        if let Some(client) = &mut self.client {
            client.shut_down();
            // A socket that has failed is closed anyway.
            let _ = self.flush();
        }
        self.tcp.end();
    }
}

/// Copies the DNS message of a reply into `scratch`, as the response to the query with this `id`.
///
/// # Errors
/// There is no answer in it.
fn answer(
    carrier: &HttpCarrier,
    reply: &Reply<'_>,
    id: u16,
    scratch: &mut Vec<u8>,
) -> Result<(), HttpFault> {
    let answer = match carrier {
        HttpCarrier::Doh { .. } => doh::answer(reply),
        HttpCarrier::Grpc => grpc::answer(reply).map(|message| (message, 0)),
    };
    let (message, age) = answer.map_err(|why| match why {
        NoAnswer::Status(status) => HttpFault::Status(status),
        NoAnswer::NoMessage => HttpFault::NoMessage,
        NoAnswer::GrpcStatus(status) => HttpFault::GrpcStatus(status),
    })?;
    scratch.clear();
    scratch.extend_from_slice(message);
    put_u16(scratch, 0, id);
    if age > 0 {
        grow_older(scratch, age);
    }
    Ok(())
}
