//! The upstream side of a worker: queries out, responses in, over UDP, TCP, TLS and QUIC.
//!
//! Owns the upstream sockets, the queue of those that may have something to read, and the batches
//! of datagrams. The engine chooses the connection of each query and validates each response; this
//! part opens sockets, moves bytes, and reports connections that are established or have failed.

use super::fault_of;
use super::sockets::{Socket, Sockets, receive_datagrams};
use super::tcp::{Progress, receive_messages, send_messages};
use crate::clock::Clock;
use crate::control::snapshot::{LoopStats, Ports};
use crate::engine::errors::{Fault, Operation};
use crate::engine::forwarder::AHEAD_MAX;
use crate::engine::proxy::WRITTEN_LEN_MAX;
use crate::engine::shell::DATAGRAM_LEN_MAX;
use crate::engine::stats::DropReason;
use crate::engine::{ConnectionId, Forwarder, Outgoing};
use crate::moment::Moment;
use crate::sys::mmsg::{QueryBatch, RecvBatch};
use crate::tls::Setup;
use mio::Registry;
use mio::event::Event;
use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;

/// Sockets and batches of upstreams.
pub(super) struct UpstreamSide {
    sockets: Sockets,
    responses: RecvBatch,
    queries: QueryBatch,
    headed: Headed,
    /// Connections that may have something to read.
    ready: VecDeque<ConnectionId>,
    /// Buffer for a message of HTTP, which has the memory of the longest.
    scratch: Vec<u8>,
}

impl UpstreamSide {
    /// Creates batches of `batch_max` datagrams, and a table for connections numbered below
    /// `capacity`. `gso`: queries of equal length may be sent with one call.
    pub(super) fn new(
        batch_max: usize,
        capacity: usize,
        gso: bool,
        setup: &Setup,
        clock: Clock,
    ) -> Self {
        Self {
            sockets: Sockets::new(capacity, gso, setup, clock),
            responses: RecvBatch::new(batch_max, DATAGRAM_LEN_MAX, false),
            queries: QueryBatch::new(batch_max),
            headed: Headed::default(),
            ready: VecDeque::with_capacity(capacity),
            scratch: Vec::new(),
        }
    }

    /// Begins a configuration with connections numbered below `capacity`.
    pub(super) fn reload(&mut self, capacity: usize, setup: &Setup) {
        self.sockets.reload(capacity, setup);
    }

    /// Returns the bytes reserved by the sockets and their queue.
    pub(super) fn reserved_sockets(&self) -> usize {
        let ready = self.ready.capacity() * size_of::<ConnectionId>();
        self.sockets.reserved() + ready + self.scratch.capacity()
    }

    /// Returns the bytes reserved by the batches.
    pub(super) fn reserved_batches(&self) -> usize {
        self.responses.reserved() + self.queries.reserved()
    }

    /// Adds the source ports of all sockets.
    pub(super) fn add_ports(&mut self, ports: &mut Ports) {
        self.sockets.add_ports(ports);
    }

    /// Returns the number of connections in the queue.
    pub(super) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Handles an event of a connection: continues writing, and queues it for reading.
    pub(super) fn note(
        &mut self,
        now: Moment,
        id: ConnectionId,
        event: &Event,
        engine: &mut Forwarder,
    ) {
        let Self { sockets, scratch, .. } = self;
        let Some(socket) = sockets.get(id) else { return self.queue(id) };
        if let Some(connection) = socket.tcp() {
            connection.read_closed |= event.is_read_closed();
            if event.is_error() {
                let error = connection.socket.take_error().ok().flatten();
                connection.break_down(error.as_ref().map_or(Fault::Unknown, fault_of));
                return self.queue(id);
            }
            if event.is_writable() && connection.unblock() {
                if let Err(error) = connection.begin().and_then(|()| connection.flush()) {
                    connection.break_down(fault_of(&error));
                    return self.queue(id);
                }
                if connection.is_open() {
                    engine.on_connected(now, id);
                }
                if let Socket::Http(connection) = socket {
                    connection.go_on(now, id, engine, scratch);
                    if connection.tcp.is_broken() {
                        return self.queue(id);
                    }
                }
            }
            if !event.is_readable() && !event.is_read_closed() {
                return;
            }
        }
        self.queue(id);
    }

    /// Queues a connection for reading.
    fn queue(&mut self, id: ConnectionId) {
        if self.sockets.set_queued(id, true) {
            self.ready.push_back(id);
        }
    }

    /// Reads one batch of responses from the connection at the head of the queue, and passes each
    /// to `handle`.
    pub(super) fn receive(
        &mut self,
        now: Moment,
        engine: &mut Forwarder,
        loops: &mut LoopStats,
        mut handle: impl FnMut(&mut Forwarder, ConnectionId, &[u8], bool),
    ) {
        let Some(id) = self.ready.pop_front() else { return };
        if !self.sockets.set_queued(id, false) {
            return;
        }
        let received = match self.sockets.get(id) {
            None => return,
            Some(Socket::Datagrams { socket, .. } | Socket::Headed { socket, .. }) => {
                let expected = engine.outstanding_on(id);
                let received = receive_datagrams(&mut self.responses, socket.as_fd(), expected);
                loops.responses.add(self.responses.received());
                let count = self.responses.received();
                for first in (0..count).step_by(AHEAD_MAX) {
                    let datagrams = first..count.min(first + AHEAD_MAX);
                    let datagrams = datagrams.map(|index| self.responses.datagram(index));
                    engine.prefetch_exchanges(id, datagrams.clone().map(|datagram| datagram.bytes));
                    for datagram in datagrams {
                        handle(engine, id, datagram.bytes, datagram.truncated);
                    }
                }
                // No query is outstanding, so further datagrams answer none: they are read with the
                // next responses.
                let answered = expected > 0 && engine.outstanding_on(id) == 0;
                if answered { received.map(|_| Progress::Blocked) } else { received }
            }
            Some(Socket::Tcp(connection)) => {
                let was_open = connection.is_open();
                let received = match receive_messages(connection, &mut |bytes, truncated| {
                    handle(engine, id, bytes, truncated)
                }) {
                    Progress::Over => Err(connection.fault()),
                    progress => Ok(progress),
                };
                if received.is_ok() && (!was_open || connection.wants_write()) {
                    self.go_on_in_tls(now, id, was_open, engine);
                }
                received
            }
            Some(Socket::Http(connection)) => {
                let progress = connection.receive(now, id, engine, &mut self.scratch, &mut handle);
                let received = match progress {
                    Progress::Over => Err(connection.tcp.fault()),
                    // The error that broke it is read next.
                    _ if connection.tcp.is_broken() => Ok(Progress::More),
                    progress => Ok(progress),
                };
                self.sockets.note_deadline(id);
                received
            }
            Some(Socket::Quic(connection)) => {
                let buffers = (&mut self.responses, &mut self.scratch);
                let received = connection.receive(now, id, engine, buffers, &mut handle);
                loops.responses.add(self.responses.received());
                self.sockets.note_deadline(id);
                received
            }
        };
        if let Err(fault) = received {
            engine.on_connection_error(now, id, Operation::Read, fault);
        }
        if received == Ok(Progress::More) {
            self.queue(id);
        }
    }

    /// Continues a TLS connection after a read: reports a completed handshake, and writes handshake
    /// records and queued queries.
    fn go_on_in_tls(
        &mut self,
        now: Moment,
        id: ConnectionId,
        was_open: bool,
        engine: &mut Forwarder,
    ) {
        let Some(Socket::Tcp(connection)) = self.sockets.get(id) else { return };
        if !was_open && connection.is_open() {
            engine.on_secured(now, id, connection.is_resumed());
        }
        if let Err(error) = connection.flush() {
            connection.break_down(fault_of(&error));
            self.queue(id);
        }
    }

    /// Opens the socket of a connection, if it has none.
    ///
    /// # Errors
    /// The fault of the kernel.
    pub(super) fn open(
        &mut self,
        now: Moment,
        id: ConnectionId,
        engine: &Forwarder,
        registry: &Registry,
    ) -> Result<(), Fault> {
        let opened = self.sockets.open((id, now), None, engine, registry).map(drop);
        self.sockets.note_deadline(id);
        opened.map_err(|error| fault_of(&error))
    }

    /// Returns the time of the next call of [`UpstreamSide::on_time`].
    pub(super) fn next_deadline(&self) -> Option<Moment> {
        self.sockets.next_deadline()
    }

    /// Handles the deadlines of connections that have passed, and queues the connections: what
    /// comes of it is handled with what they receive.
    #[cold]
    pub(super) fn on_time(&mut self, now: Moment) {
        while let Some(id) = self.sockets.next_overdue(now) {
            if let Some(Socket::Quic(connection)) = self.sockets.get(id) {
                connection.on_time(now);
            }
            self.queue(id);
        }
    }

    /// Sends `queries` on a connection, and opens its socket first if it has none. Queries for
    /// which there is no room are counted as dropped.
    ///
    /// # Errors
    /// The connection cannot be opened or written to.
    pub(super) fn send(
        &mut self,
        now: Moment,
        id: ConnectionId,
        queries: &[Outgoing],
        engine: &mut Forwarder,
        registry: &Registry,
        loops: &mut LoopStats,
    ) -> Result<(), (Operation, Fault)> {
        let packets = queries.iter().filter_map(|query| engine.query(query));
        let sent = match self.sockets.open((id, now), queries.first(), engine, registry) {
            Ok(Some(Socket::Datagrams { socket, segments })) => {
                let sent = self.queries.send(socket.as_fd(), packets, *segments);
                sent.map_err(|error| (Operation::Write, error)).map(|sent| {
                    loops.queries_joined += sent.joined as u64;
                    loops.segments_refused += u64::from(sent.refused);
                    (sent.dropped, sent.refused)
                })
            }
            Ok(Some(Socket::Headed { socket, segments })) => {
                self.headed.fill(queries, engine);
                let sent = self.queries.send(socket.as_fd(), self.headed.datagrams(), *segments);
                sent.map_err(|error| (Operation::Write, error))
                    .map(|sent| (sent.dropped, sent.refused))
            }
            Ok(Some(Socket::Tcp(tcp))) => {
                let dropped = send_messages(tcp, packets).unwrap_or_else(|error| {
                    tcp.break_down(fault_of(&error));
                    0
                });
                // Bytes received before the failure are read first.
                if tcp.is_broken() {
                    self.queue(id);
                }
                Ok((dropped, false))
            }
            Ok(Some(Socket::Http(connection))) => {
                connection.send(now, id, queries, engine, &mut self.scratch);
                if connection.tcp.is_broken() {
                    self.queue(id);
                }
                self.sockets.note_deadline(id);
                Ok((0, false))
            }
            Ok(Some(Socket::Quic(connection))) => {
                connection.send(now, id, queries, engine, &mut self.scratch);
                if connection.is_over() {
                    self.queue(id);
                }
                self.sockets.note_deadline(id);
                Ok((0, false))
            }
            Ok(None) => Ok((0, false)),
            Err(error) => Err((Operation::Dial, error)),
        };
        let fault = |(operation, error): (_, io::Error)| (operation, fault_of(&error));
        let (dropped, refused) = sent.map_err(fault)?;
        if refused {
            self.sockets.refuse_segments(id, engine);
        }
        engine.stats_mut().drops[DropReason::QueryNotSent as usize] += dropped as u64;
        Ok(())
    }

    /// Closes the socket of a connection, if it has one.
    pub(super) fn close(&mut self, id: ConnectionId) {
        self.sockets.close(id);
    }
}

/// Queries behind headers of the PROXY protocol, in one buffer.
#[derive(Default)]
struct Headed {
    bytes: Vec<u8>,
    /// End of each datagram.
    ends: Vec<usize>,
}

impl Headed {
    /// Replaces the contents by `queries`, each behind the header for its client.
    fn fill(&mut self, queries: &[Outgoing], engine: &Forwarder) {
        self.bytes.clear();
        self.ends.clear();
        let mut header = [0; WRITTEN_LEN_MAX];
        for query in queries {
            let Some(packet) = engine.query(query) else { continue };
            let len = engine.proxy_header(Some(query), &mut header);
            self.bytes.extend_from_slice(&header[..len]);
            self.bytes.extend_from_slice(packet);
            self.ends.push(self.bytes.len());
        }
    }

    fn datagrams(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.bytes[start..*end])
    }
}
