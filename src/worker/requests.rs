//! Queries of a connection to an upstream that are requests of their own: HTTP, or streams of QUIC.
//!
//! A query is known by its ID on the connection, for the engine; the ID that is sent is 0. Queries
//! that come before the handshake is over, or for which the server has no room, wait here; the
//! engine limits their number, and moves those that wait for too long.

use crate::engine::message::id;
use crate::engine::{ConnectionId, Forwarder, Outgoing};
use std::collections::VecDeque;
use std::time::Duration;

/// Interval between two looks for queries whose replies are not awaited any more.
pub(super) const CANCEL_INTERVAL: Duration = Duration::from_millis(100);

/// A query that waits for its request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub(super) query: Outgoing,
    /// Message ID on the connection.
    pub(super) id: u16,
}

/// A query that was requested.
#[derive(Clone, Copy, Debug)]
struct Called {
    call: u32,
    waiting: Waiting,
}

/// The queries of a connection.
#[derive(Debug, Default)]
pub(super) struct Requests {
    waiting: VecDeque<Waiting>,
    /// Ordered by the numbers of the calls.
    called: Vec<Called>,
}

impl Requests {
    /// Returns the maximum number of bytes of `in_flight` queries.
    pub(super) fn bytes_max(in_flight: usize) -> usize {
        2 * in_flight * (size_of::<Waiting>() + size_of::<Called>())
    }

    /// Queues `queries`.
    pub(super) fn add(&mut self, queries: &[Outgoing], engine: &Forwarder) {
        let known =
            |query: &Outgoing| Some(Waiting { query: *query, id: id(engine.query(query)?)? });
        self.waiting.extend(queries.iter().filter_map(known));
    }

    /// Returns true if no query waits for its request.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Returns the next query that waits for its request on `connection`, and leaves its message in
    /// `scratch`.
    pub(super) fn next(
        &mut self,
        connection: ConnectionId,
        engine: &mut Forwarder,
        scratch: &mut Vec<u8>,
    ) -> Option<Waiting> {
        loop {
            let waiting = self.waiting.pop_front()?;
            // It may have ended, or have been moved to another connection.
            let message = engine.query(&waiting.query);
            if let Some(message) = message.filter(|message| id(message) == Some(waiting.id)) {
                scratch.clear();
                scratch.extend_from_slice(message);
                return Some(waiting);
            }
            engine.forget_moved(connection, waiting.id);
        }
    }

    /// Notes that a query was requested with this number, which is larger than all before.
    pub(super) fn called(&mut self, waiting: Waiting, call: u32) {
        self.called.push(Called { call, waiting });
    }

    /// Puts a query back at the head of those that wait.
    pub(super) fn put_back(&mut self, waiting: Waiting) {
        self.waiting.push_front(waiting);
    }

    /// Removes and returns the query with this number. `None`: the engine has forgotten it, so that
    /// its ID may be that of another one.
    pub(super) fn take(&mut self, call: u32, engine: &Forwarder) -> Option<Waiting> {
        let at = self.called.binary_search_by_key(&call, |called| called.call).ok()?;
        let waiting = self.called.remove(at).waiting;
        engine.awaits(&waiting.query, waiting.id).map(|_| waiting)
    }

    /// Removes the queries that wait for their requests, and returns their IDs.
    pub(super) fn unsent(&mut self) -> impl Iterator<Item = u16> {
        self.waiting.drain(..).map(|waiting| waiting.id)
    }

    /// Returns true if a query was requested and has no reply.
    pub(super) fn has_called(&self) -> bool {
        !self.called.is_empty()
    }

    /// Removes a query whose reply the engine does not wait for any more. Returns the number of its
    /// request.
    pub(super) fn next_abandoned(&mut self, engine: &mut Forwarder) -> Option<u32> {
        let is_abandoned = |called: &Called| {
            let Waiting { query, id } = called.waiting;
            engine.awaits(&query, id) != Some(true)
        };
        let at = self.called.iter().position(is_abandoned)?;
        let Called { call, waiting } = self.called.remove(at);
        engine.forget_moved(waiting.query.connection, waiting.id);
        Some(call)
    }
}
