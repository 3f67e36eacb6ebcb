//! Framing of DNS messages on a client's connection: lengths, or requests of HTTP.
//!
//! [`Framing`] takes queries from the inbox of a connection, passes them to the engine, and puts
//! replies into its outbox. Everything else about the connection is the same for all protocols.

use super::http::{Carrier, HttpConnection};
use super::scratch::Scratch;
use super::{QUERY_LEN_MAX, Slot};
use crate::config::{Listener, Protocol};
use crate::engine::frame::Full;
use crate::engine::{Client, Forwarder, Via};
use crate::moment::Moment;
use crate::worker::tcp::TcpConnection;
use std::io;

/// End of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::worker) enum Delivery {
    /// The reply waits to be sent.
    Queued,
    /// The reply was not written, because the connection is closed.
    Unwritten,
    /// The reply was written and is lost, because the connection is closed.
    Lost,
}

/// Framing of the messages of one connection.
pub(super) enum Framing {
    /// Each message follows its length (RFC 1035 §4.2.2).
    Length,
    /// Each query is a request of HTTP (RFC 8484).
    Http(Box<HttpConnection>),
}

/// Passes the queries that a connection has received to the engine, until it may ask no more.
///
/// # Errors
/// [`Full`].
pub(super) fn serve(
    now: Moment,
    slot: &mut Slot,
    scratch: &mut Scratch,
    engine: &mut Forwarder,
) -> Result<(), Full> {
    let Slot { listener, peer, local, key, .. } = *slot;
    let local = local.map(|ip| (ip, 0));
    let client = Client { listener, peer, local, via: Via::Connection(key) };
    if let Framing::Http(http) = &mut slot.framing {
        slot.paused = http.serve(now, client, &mut slot.connection, scratch, engine)?;
        return Ok(());
    }
    loop {
        if engine.clients.is_spent(key) {
            // Further queries are not read; the connection closes after the last answer.
            slot.connection.half_closed = true;
            return Ok(());
        }
        if !engine.clients.may_ask(key) {
            slot.paused = true;
            return Ok(());
        }
        let next = slot.connection.inbox.next_or_beginning(QUERY_LEN_MAX);
        let Some((message, cut)) = next else { return Ok(()) };
        let out = &mut scratch.reply[..];
        if let Some(len) = engine.on_query(now, client, message, cut, out) {
            push(&mut slot.connection, &out[..len])?;
        }
    }
}

/// Puts a message into the outbox.
fn push(connection: &mut TcpConnection, message: &[u8]) -> Result<(), Full> {
    connection.push(message.len(), |room| {
        room[..message.len()].copy_from_slice(message);
        message.len()
    })
}

impl Framing {
    /// Creates the framing of a connection to `listener`.
    pub(super) fn of(listener: &Listener) -> Self {
        match Carrier::of(listener) {
            None => Self::Length,
            Some(carrier) => Self::Http(Box::new(HttpConnection::new(carrier))),
        }
    }

    /// Adopts the settings of `listener` after a reload.
    pub(super) fn reload(&mut self, listener: &Listener) {
        if let (Self::Http(http), Some(carrier)) = (self, Carrier::of(listener)) {
            http.reload(carrier);
        }
    }

    /// Returns the maximum number of bytes of the framing of a connection of `protocol`.
    pub(super) fn bytes_max(protocol: Protocol) -> usize {
        match protocol {
            Protocol::Dns | Protocol::Tls | Protocol::Https3 | Protocol::Quic => 0,
            Protocol::Https | Protocol::Grpc => HttpConnection::bytes_max(),
        }
    }

    /// Returns true if a query has begun and its rest is missing.
    pub(super) fn is_within_query(&self, connection: &TcpConnection) -> bool {
        match self {
            Self::Length => connection.inbox.is_within_message(),
            Self::Http(http) => http.is_within_request(),
        }
    }

    /// Puts a reply of at most `len_max` bytes, written by `write`, into the outbox.
    pub(super) fn reply(
        &mut self,
        connection: &mut TcpConnection,
        client: (u16, Via),
        scratch: &mut Scratch,
        engine: &mut Forwarder,
        len_max: usize,
        write: impl FnOnce(&mut Forwarder, &mut [u8]) -> usize,
    ) -> Delivery {
        match (self, client) {
            (Self::Http(http), (listener, Via::Request(_, request))) => {
                let len_max = len_max.min(scratch.reply.len());
                let len = write(engine, &mut scratch.reply[..len_max]);
                let reply = &scratch.reply[..len];
                match http.reply(connection, (listener, request), reply, engine) {
                    Ok(()) => Delivery::Queued,
                    Err(Full) => Delivery::Lost,
                }
            }
            (Self::Http(_), _) => Delivery::Unwritten,
            (Self::Length, _) => match connection.push(len_max, |room| write(engine, room)) {
                Ok(()) => Delivery::Queued,
                Err(Full) => Delivery::Unwritten,
            },
        }
    }

    /// Writes the outbox until the kernel accepts no more. Returns the number of bytes written that
    /// are of replies.
    ///
    /// # Errors
    /// The socket has failed.
    pub(super) fn flush(&mut self, connection: &mut TcpConnection) -> io::Result<usize> {
        match self {
            Self::Length => connection.flush(),
            Self::Http(http) => http.flush(connection),
        }
    }

    /// Returns true if no reply waits to be written.
    pub(super) fn is_drained(&self, connection: &TcpConnection) -> bool {
        let is_empty = match self {
            Self::Length => true,
            Self::Http(http) => !http.is_answering(),
        };
        is_empty && connection.is_drained()
    }

    /// Tells the client that queries from now on are not read. Those that were read are answered.
    pub(super) fn stop(&mut self) {
        if let Self::Http(http) = self {
            http.stop();
        }
    }

    /// Returns true if requests were left, because replies waited, and may be taken now.
    pub(super) fn may_go_on(&self) -> bool {
        matches!(self, Self::Http(http) if http.may_go_on())
    }

    /// Returns true if the framing has ended the connection: once all is written, it is closed.
    pub(super) fn is_over(&self) -> bool {
        matches!(self, Self::Http(http) if http.is_over())
    }
}

#[cfg(test)]
mod tests {
    use super::{Delivery, Framing, Scratch};
    use crate::config::{Config, Host};
    use crate::engine::health::HealthStates;
    use crate::engine::key::{ConnectionKey, Key};
    use crate::engine::{Forwarder, Via};
    use crate::worker::tcp::TcpConnection;
    use mio::net::TcpStream;
    use std::net::TcpListener;
    use std::sync::Arc;

    #[test]
    fn a_reply_that_was_written_and_does_not_fit_is_lost_and_not_unwritten() {
        let text = b"https://.:5300 {\n bind 127.0.0.1\n}\n";
        let (config, _) = Config::load(text, "Corefile", &Host::plain()).unwrap();
        let config = Arc::new(config);
        let states = Arc::new(HealthStates::new(&config));
        let mut engine = Forwarder::with_listeners(&config, &[Some(0)], [7; 32], states);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        near.set_nonblocking(true).unwrap();
        // The kernel accepts nothing.
        let mut connection = TcpConnection::new(TcpStream::from_std(near), true, None);
        let mut framing = Framing::of(&config.listeners[0]);
        let Framing::Http(http) = &mut framing else { unreachable!("the listener is for HTTP") };
        let requests = "GET /dns-query?dns=AAAA HTTP/1.1\r\nhost: m\r\n\r\n".repeat(100);
        http.take_for_test(&connection, requests.as_bytes());
        let (mut scratch, key) = (Scratch::new(), Key { index: 0, generation: 0 });
        let mut reply = |number: u32| {
            let client = (0, Via::Request(ConnectionKey(key), number));
            let mut is_written = false;
            let write = |_: &mut Forwarder, out: &mut [u8]| {
                is_written = true;
                out[..20_000].fill(0);
                20_000
            };
            let engine = &mut engine;
            let delivery =
                framing.reply(&mut connection, client, &mut scratch, engine, 20_000, write);
            (delivery, is_written)
        };
        let mut outcomes = (1..=100).map(&mut reply);
        assert!(outcomes.all(|(delivery, is_written)| match delivery {
            Delivery::Queued | Delivery::Lost => is_written,
            Delivery::Unwritten => false,
        }));
        assert_eq!(reply(100).0, Delivery::Lost);
    }
}
