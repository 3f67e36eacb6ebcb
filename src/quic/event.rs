//! Inputs and outputs of an endpoint: packets, connections by number, and events.
//!
//! An event has the data by which the owner of a connection acts on it. Steps that the owner need
//! not act on make no event.

use super::application::Query;
use super::connection::{Connection, Failure, Step};
use crate::engine::key::{ConnectionKey, Key};
use crate::moment::Moment;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// A connection of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Id(pub(super) Key);

/// A received datagram.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packet<'a> {
    /// Address of the sender.
    pub(crate) peer: SocketAddr,
    /// Address of the client, if the sender is a proxy that has named it.
    pub(crate) client: Option<SocketAddr>,
    /// Destination address, where the listener is a wildcard.
    pub(crate) local: Option<IpAddr>,
    /// The payload.
    pub(crate) bytes: &'a [u8],
}

/// A datagram to send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outgoing<'a> {
    /// Destination.
    pub(crate) peer: SocketAddr,
    /// Source address, where the listener is a wildcard.
    pub(crate) local: Option<IpAddr>,
    /// The payload.
    pub(crate) bytes: &'a [u8],
}

/// An event of a connection.
#[derive(Debug)]
pub(crate) enum Event {
    /// A handshake is complete. The owner admits the connection, or closes it.
    Connected {
        /// The connection.
        id: Id,
        /// Address of the client, which is validated.
        peer: SocketAddr,
        /// Duration of the handshake.
        took: Duration,
    },
    /// A handshake has failed.
    Failed(Failure),
    /// A query.
    Query {
        /// The connection.
        key: ConnectionKey,
        /// Number of the stream.
        stream: u32,
        /// Address of the client: the validated one, and the port that it has now.
        peer: SocketAddr,
        /// Destination address, where the listener is a wildcard.
        local: Option<IpAddr>,
        /// The query.
        query: Query,
    },
    /// A client has taken bytes of replies that were waiting.
    Taken {
        /// The connection.
        key: ConnectionKey,
        /// Nothing waits any more.
        is_drained: bool,
    },
    /// A connection is over.
    Closed {
        /// The connection.
        key: ConnectionKey,
        /// Code by which this side has closed it.
        code: Option<u32>,
    },
}

/// Returns the event for a step of a connection, if its owner has to know of it.
pub(super) fn event_of(
    connection: &mut Connection,
    index: u32,
    now: Moment,
    step: Step,
) -> Option<Event> {
    let id = Id(Key { index, generation: connection.generation });
    let peer = connection.peer();
    Some(match step {
        Step::Connected => Event::Connected { id, peer, took: now.since(connection.since) },
        Step::Failed(failure) => Event::Failed(failure),
        Step::Cancelled => return None,
        Step::Query(stream, query) => {
            Event::Query { key: connection.owner?, stream, peer, local: connection.local(), query }
        }
        Step::Taken => Event::Taken { key: connection.owner?, is_drained: connection.is_drained() },
        Step::Closed(code) => Event::Closed { key: connection.owner.take()?, code },
    })
}
