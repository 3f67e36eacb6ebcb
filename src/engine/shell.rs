//! The contract between an engine and the shell around it. PURE.
//!
//! A [`Shell`] owns an engine, sockets or something that stands for them, and ways to its
//! neighbours. It feeds the engine with packets, time and the failures of sockets, and ends each
//! turn with [`settle`], which has it carry out all that the engine has decided. So the worker, the
//! simulator, tests and benches share one loop and the constants of it. Everything is resolved
//! when the program is built: no call on the way of a query is dynamic, and nothing is allocated.

use super::errors::{Fault, Operation};
use super::exchange::{Client, EXCHANGES_MAX};
pub use super::forwarder::TCP_REPLY_SPARE;
use super::forwarder::{Forwarder, Notice, Outgoing, TCP_MESSAGE_MAX};
use super::key::ConnectionId;
use super::memory::reserved;
use crate::moment::Moment;
use std::time::Duration;

/// Bytes of a datagram that a shell reads. Larger queries are FORMERR, larger responses TC; both
/// are beyond anything that we or sane clients advertise.
pub const DATAGRAM_LEN_MAX: usize = 2_048;
/// Delay until the next call of [`settle`] when a notice could not be delivered.
pub const NOTICE_RETRY: Duration = Duration::from_millis(10);

/// Environment of an engine.
pub trait Shell {
    /// The engine.
    fn engine(&mut self) -> &mut Forwarder;

    /// Returns the state that [`settle`] keeps between two turns.
    fn buffers(&mut self) -> &mut Buffers;

    /// Opens the socket of `connection`, if it has none, though no query waits for it.
    ///
    /// # Errors
    /// It cannot be opened: its queries move on.
    fn open(&mut self, now: Moment, connection: ConnectionId) -> Result<(), Fault>;

    /// Sends `queries` on `connection`, the longest first, and opens its socket before if it has
    /// none. [`Forwarder::query`] has the bytes of each, or nothing if it has ended meanwhile.
    ///
    /// # Errors
    /// The connection cannot be opened or written to: its queries move on.
    fn send(
        &mut self,
        now: Moment,
        connection: ConnectionId,
        queries: &[Outgoing],
    ) -> Result<(), (Operation, Fault)>;

    /// Closes the socket of `connection`, if it has one.
    fn close(&mut self, now: Moment, connection: ConnectionId);

    /// Delivers the reply to a query that found no answer.
    fn deliver(&mut self, now: Moment, client: &Client, reply: &[u8]);

    /// Sends all replies that wait.
    fn flush(&mut self, _now: Moment) {}

    /// Delivers `notice`. Returns false if it cannot be delivered now.
    fn notice(&mut self, now: Moment, notice: &Notice) -> bool;
}

/// Buffers that [`settle`] keeps between two turns.
#[derive(Default)]
pub struct Buffers {
    sends: Vec<Outgoing>,
    /// Buffer of replies to failed queries: a reply that was held back may be of any length.
    failure: Box<[u8]>,
}

impl Buffers {
    /// Large enough for all that an engine can decide in a turn.
    pub fn new() -> Self {
        Self { sends: Vec::with_capacity(EXCHANGES_MAX), failure: vec![0; TCP_MESSAGE_MAX].into() }
    }

    /// The bytes that are reserved.
    pub fn reserved(&self) -> usize {
        reserved(&self.sends) + self.failure.len()
    }
}

/// Ends a turn: has `shell` carry out all that its engine has decided. Returns false if a notice
/// could not be delivered: then it has to be called again within [`NOTICE_RETRY`].
pub fn settle<S: Shell>(shell: &mut S, now: Moment) -> bool {
    let mut delivered = true;
    // The engine's bound on attempts ends it.
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

/// Has `shell` send the queries that its engine has decided to send, in groups of one connection;
/// the turn's batches end with that. A connection that fails has its queries moved on, so there may
/// be more to send; the engine's bound on attempts ends that. Part of [`settle`], and for shells
/// that send before the end of the turn.
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
