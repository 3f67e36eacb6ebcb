//! QUIC (RFC 9000) with DNS in its streams (RFC 9250). PURE: no sockets, no time.
//!
//! A [`Client`] is one connection to an upstream; the rest is the side of the server.
//! An [`Endpoint`] belongs to one listener of one worker. Received datagrams go in, and queries on
//! streams come out of it; replies go in, and datagrams to send come out. Time and randomness are
//! arguments; `Instant` is only the library's form of a moment. `quinn-proto` keeps the state of
//! the transport; this room decides about handshakes, limits, streams and the end of connections.
//! An [`Application`] is what the streams carry: DNS (RFC 9250), or HTTP/3, whose bytes belong to
//! the room `http`. A connection that is closed, by either side, is forgotten as soon as its
//! last datagram is written: packets that still arrive for it get a stateless reset, as after a
//! restart. So a last reply is sent once, and only as much of it as may be sent at once. Admission
//! and idle time-outs are those of all client connections, and belong to the engine.

mod application;
mod client;
mod connection;
mod doq;
mod endpoint;
mod event;
mod http3;
mod outbox;
mod peer;
mod settings;
mod shares;
mod streams;
#[cfg(test)]
mod tests;
mod timers;

pub(crate) use application::{Application, Query, Reason};
pub(crate) use client::{Client, End, Progress, Refusal};
pub(crate) use connection::Failure;
pub(crate) use doq::code;
pub(crate) use endpoint::Endpoint;
pub(crate) use event::{Event, Id, Outgoing, Packet};
pub(crate) use settings::{Dialer, Keys, Settings, named};
pub(crate) use timers::Timers;
