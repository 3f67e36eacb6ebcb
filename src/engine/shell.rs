//! The contract between an engine and its shell. PURE.
//!
//! A [`Shell`] owns an engine, sockets or a substitute for them, and channels to its neighbours. It
//! passes packets, time and socket errors to the engine, and ends each turn with [`settle`], which
//! carries out the engine's decisions. So the worker, the simulator, tests and benches share one
//! loop and its constants. All calls are resolved at compile time: none on the path of a query is
//! dynamic, and nothing is allocated.

use super::errors::{Fault, Operation};
use super::exchange::{Client, EXCHANGES_MAX};
pub use super::forwarder::TCP_REPLY_SPARE;
use super::forwarder::{Forwarder, Notice, Outgoing, TCP_MESSAGE_MAX};
use super::key::ConnectionId;
use super::memory::reserved;
use crate::moment::Moment;
use std::time::Duration;

/// Maximum length of a datagram that a shell reads. Longer queries get FORMERR, longer responses
/// count as truncated; both exceed the sizes that we or sane clients advertise.
pub const DATAGRAM_LEN_MAX: usize = 2_048;
/// Delay until the next call of [`settle`] when a notice could not be delivered.
pub const NOTICE_RETRY: Duration = Duration::from_millis(10);

/// Environment of an engine.
pub trait Shell {
    /// The engine.
    fn engine(&mut self) -> &mut Forwarder;

    /// Returns the buffers of [`settle`].
    fn buffers(&mut self) -> &mut Buffers;

    /// Opens the socket of `connection`, if it has none, although no query waits for it.
    ///
    /// # Errors
    /// The socket cannot be opened; the engine moves its queries.
    fn open(&mut self, now: Moment, connection: ConnectionId) -> Result<(), Fault>;

    /// Sends `queries` on `connection`, the longest first, and opens its socket first if it has
    /// none. [`Forwarder::query`] returns the bytes of each, or `None` if it has ended meanwhile.
    ///
    /// # Errors
    /// The connection cannot be opened or written to; its queries are moved.
    fn send(
        &mut self,
        now: Moment,
        connection: ConnectionId,
        queries: &[Outgoing],
    ) -> Result<(), (Operation, Fault)>;

    /// Closes the socket of `connection`, if it has one.
    fn close(&mut self, now: Moment, connection: ConnectionId);

    /// Delivers the reply to a failed query.
    fn deliver(&mut self, now: Moment, client: &Client, reply: &[u8]);

    /// Sends all queued replies.
    fn flush(&mut self, _now: Moment) {}

    /// Delivers `notice`. Returns false if it cannot be delivered now.
    fn notice(&mut self, now: Moment, notice: &Notice) -> bool;
}

/// Buffers of [`settle`] between two turns.
#[derive(Default)]
pub struct Buffers {
    sends: Vec<Outgoing>,
    /// Buffer for replies to failed queries: a response that was held back may have any length.
    failure: Box<[u8]>,
}

impl Buffers {
    /// Buffers for the maximum number of decisions in a turn.
    pub fn new() -> Self {
        Self { sends: Vec::with_capacity(EXCHANGES_MAX), failure: vec![0; TCP_MESSAGE_MAX].into() }
    }

    /// Returns the reserved memory in bytes.
    pub(crate) fn reserved(&self) -> usize {
        reserved(&self.sends) + self.failure.len()
    }
}

/// Ends a turn: carries out all decisions of the engine. Returns false if a notice could not be
/// delivered; then it has to be called again within [`NOTICE_RETRY`].
pub fn settle<S: Shell>(shell: &mut S, now: Moment) -> bool {
    let mut delivered = true;
    // The engine's limit on attempts ends this loop.
    loop {
        while let Some(connection) = shell.engine().next_dial() {
            if let Err(fault) = shell.open(now, connection) {
                shell.engine().on_connection_error(now, connection, Operation::Dial, fault);
            }
        }
        send_queries(shell, now);
        deliver_failures(shell, now);
        shell.flush(now);
        while let Some(connection) = shell.engine().next_closed() {
            shell.close(now, connection);
        }
        while let Some(notice) = shell.engine().next_notice(now) {
            if !shell.notice(now, &notice) {
                shell.engine().put_back(notice);
                delivered = false;
            }
        }
        if shell.engine().is_settled() {
            return delivered;
        }
    }
}

/// Sends the queries that the engine has decided to send, grouped by connection, and ends the
/// turn's batches. The queries of a failed connection are moved and sent in the next round; the
/// engine's limit on attempts ends that. Part of [`settle`]; shells that send before the end of the
/// turn call it directly.
pub fn send_queries<S: Shell>(shell: &mut S, now: Moment) {
    let mut sends = std::mem::take(&mut shell.buffers().sends);
    loop {
        shell.engine().swap_sends(&mut sends);
        if sends.is_empty() {
            break;
        }
        sends.sort_unstable_by_key(Outgoing::order);
        for queries in sends.chunk_by(|a, b| a.connection == b.connection) {
            let connection = queries[0].connection;
            if let Err((operation, fault)) = shell.send(now, connection, queries) {
                shell.engine().on_connection_error(now, connection, operation, fault);
            }
        }
        sends.clear();
    }
    shell.buffers().sends = sends;
}

fn deliver_failures<S: Shell>(shell: &mut S, now: Moment) {
    if !shell.engine().has_failures() {
        return;
    }
    let mut failure = std::mem::take(&mut shell.buffers().failure);
    while let Some(reply) = shell.engine().next_failure(&mut failure) {
        shell.deliver(now, &reply.client, &failure[..reply.len]);
    }
    shell.buffers().failure = failure;
}
