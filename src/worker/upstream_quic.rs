//! A connection to an upstream over QUIC, with its socket: DNS over QUIC (RFC 9250).
//!
//! Connects the datagrams of the socket with [`Client`], and its calls with the engine. Each
//! connection has a socket of its own, so that its source port is one of many (RFC 5452) and
//! connection tracking may lead each connection to another backend. A datagram that the kernel does
//! not accept is lost, as on any way; an error of ICMP ends the connection, as that of a datagram
//! socket. Queries whose replies are not awaited any more are cancelled a moment later.

use super::fault_of;
use super::requests::{CANCEL_INTERVAL, Requests, Waiting};
use super::tcp::Progress;
use crate::engine::errors::{Fault, QuicFault, TlsFault};
use crate::engine::message::put_u16;
use crate::engine::stats::DropReason;
use crate::engine::{ConnectionId, Forwarder, Outgoing};
use crate::moment::Moment;
use crate::quic::{self, Client, Dialer, End, Refusal};
use crate::sys::mmsg::RecvBatch;
use crate::sys::random;
use crate::sys::socket::{self, is_passing};
use crate::tls::Handshake;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

/// Maximum number of batches read behind an error of the socket: more than its buffer holds.
const LAST_BATCHES_MAX: usize = 256;
/// QUIC on one socket.
pub(super) struct QuicConnection {
    pub(super) socket: UdpSocket,
    /// Bytes in front of each datagram.
    header: Box<[u8]>,
    client: Client,
    tls: Handshake,
    requests: Requests,
    /// The handshake is complete.
    is_established: bool,
    /// The server's limit of calls at once, as the engine knows it.
    calls_max: usize,
    /// Time of the next look for queries to cancel.
    cancel_at: Moment,
    /// Latest time that was passed to a method.
    now: Moment,
    /// Cause of the end, if there is one.
    fault: Option<Fault>,
}

impl QuicConnection {
    /// Begins a connection to `server` on `socket`, which is connected there.
    ///
    /// # Errors
    /// The kernel does not accept the first datagram, or there is no randomness.
    pub(super) fn dial(
        now: Moment,
        (socket, server): (UdpSocket, SocketAddr),
        header: Box<[u8]>,
        tls: Handshake,
        dialer: &Dialer,
    ) -> io::Result<Self> {
        let client = dialer.dial(now, server, (tls.config(), &tls.name()), random::seed()?);
        let client = client.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let (requests, calls_max) = (Requests::default(), usize::MAX);
        let mut connection = Self {
            socket,
            header,
            client,
            tls,
            requests,
            is_established: false,
            calls_max,
            cancel_at: Moment::ZERO,
            now,
            fault: None,
        };
        connection.transmit(&mut Vec::new());
        match connection.fault {
            Some(Fault::System(number)) => Err(io::Error::from_raw_os_error(number)),
            _ => Ok(connection),
        }
    }

    /// Returns the maximum number of bytes of a connection whose pool puts at most `in_flight`
    /// queries on it.
    pub(super) fn bytes_max(in_flight: usize) -> usize {
        size_of::<Self>() + Requests::bytes_max(in_flight) + Client::bytes_max(in_flight)
    }

    /// Returns true if the connection is over, which the engine does not know yet.
    pub(super) fn is_over(&self) -> bool {
        self.fault.is_some()
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
        self.now = now;
        self.requests.add(queries, engine);
        self.go_on(connection, engine, scratch);
    }

    /// Makes calls of the waiting queries, and sends the datagrams that are due.
    fn go_on(&mut self, connection: ConnectionId, engine: &mut Forwarder, scratch: &mut Vec<u8>) {
        if !self.requests.has_called() {
            self.cancel_at = self.now.plus(CANCEL_INTERVAL);
        }
        while self.client.is_open()
            && self.fault.is_none()
            && let Some(waiting) = self.requests.next(connection, engine, scratch)
        {
            match self.client.call(scratch) {
                Some(call) => self.requests.called(waiting, call),
                None => {
                    self.requests.put_back(waiting);
                    break;
                }
            }
        }
        let calls_max = self.client.calls_max();
        if self.client.is_open() && std::mem::replace(&mut self.calls_max, calls_max) != calls_max {
            engine.on_calls_max(connection, calls_max);
        }
        self.transmit(scratch);
    }

    /// Sends the datagrams that are due.
    fn transmit(&mut self, scratch: &mut Vec<u8>) {
        let Self { client, socket, header, fault, now, .. } = self;
        client.transmit(*now, scratch, |datagram| {
            let sent = match header.is_empty() {
                true => socket.send(datagram),
                false => socket.send(&[&**header, datagram].concat()),
            };
            if let Err(error) = sent
                && !is_passing(&error)
            {
                fault.get_or_insert(fault_of(&error));
            }
        });
    }

    /// Reads one batch, and passes each answer to `handle`.
    ///
    /// # Errors
    /// The connection is over.
    pub(super) fn receive(
        &mut self,
        now: Moment,
        connection: ConnectionId,
        engine: &mut Forwarder,
        (batch, scratch): (&mut RecvBatch, &mut Vec<u8>),
        handle: &mut impl FnMut(&mut Forwarder, ConnectionId, &[u8], bool),
    ) -> Result<Progress, Fault> {
        self.now = now;
        let Self { socket, client, tls, fault, .. } = self;
        let progress = receive_datagrams(batch, socket.as_fd(), fault, |datagram| {
            client.receive(now, datagram);
            if !client.is_open() {
                tls.note();
            }
        });
        self.serve(connection, engine, scratch, handle);
        self.fault.map_or(Ok(progress), Err)
    }

    /// Handles the deadline; [`QuicConnection::receive`] has to be called afterwards.
    pub(super) fn on_time(&mut self, now: Moment) {
        self.now = now;
        self.client.on_time(now);
    }

    /// Returns the time of the next call of [`QuicConnection::on_time`].
    pub(super) fn next_deadline(&mut self) -> Option<Moment> {
        let cancel_at = self.requests.has_called().then_some(self.cancel_at);
        self.client.next_deadline().into_iter().chain(cancel_at).min()
    }

    /// Handles the progress of the connection.
    fn serve(
        &mut self,
        connection: ConnectionId,
        engine: &mut Forwarder,
        scratch: &mut Vec<u8>,
        handle: &mut impl FnMut(&mut Forwarder, ConnectionId, &[u8], bool),
    ) {
        let now = self.now;
        while let Some(progress) = self.client.next(now) {
            match progress {
                quic::Progress::Connected { silence, .. } => {
                    self.is_established = true;
                    engine.on_secured(now, connection, self.tls.is_resumed());
                    silence.into_iter().for_each(|max| engine.on_silence_max(connection, max));
                }
                quic::Progress::Reply(call, message) => {
                    let Some(Waiting { id, .. }) = self.requests.take(call, engine) else {
                        engine.stats_mut().drop(DropReason::ResponseUnmatched);
                        continue;
                    };
                    scratch.clear();
                    scratch.extend_from_slice(&message);
                    put_u16(scratch, 0, id);
                    match engine.has_keepalive(connection, scratch) {
                        Some(false) => handle(engine, connection, scratch, false),
                        // RFC 9250 §5.5.2.
                        Some(true) => {
                            self.client.close(now, quic::code::PROTOCOL);
                            self.fault = Some(QuicFault::Violation.into());
                        }
                        None => {
                            // It is counted as dropped.
                            handle(engine, connection, scratch, false);
                            engine.on_call_failed(now, connection, id, QuicFault::Mismatch);
                        }
                    }
                }
                quic::Progress::Failed(call, refusal) => {
                    let Some(Waiting { id, .. }) = self.requests.take(call, engine) else {
                        continue;
                    };
                    let fault = match refusal {
                        Refusal::Load => QuicFault::Refused,
                        Refusal::Reset => QuicFault::Reset,
                        Refusal::TooLong => QuicFault::TooLong,
                    };
                    engine.on_call_failed(now, connection, id, fault);
                }
                quic::Progress::Over(end) => self.end_by(end, connection, engine),
            }
        }
        if self.requests.has_called() && self.cancel_at <= now {
            while let Some(call) = self.requests.next_abandoned(engine) {
                self.client.cancel(call);
            }
            self.cancel_at = now.plus(CANCEL_INTERVAL);
        }
        self.go_on(connection, engine, scratch);
    }

    /// Notes the end of the connection. Queries that were never sent are no failures of a server
    /// that closes connections it has served.
    fn end_by(&mut self, end: End, connection: ConnectionId, engine: &mut Forwarder) {
        let fault = match end {
            End::Closed if self.is_established => Fault::Closed,
            End::Closed => Fault::Tls(TlsFault::Unfinished),
            End::Load => QuicFault::Refused.into(),
            End::Reset => Fault::System(socket::RESET),
            End::Silence => Fault::TimedOut,
            End::Handshake(alert) => Fault::Tls(self.tls.failed(alert)),
            End::Alert(alert) => Fault::Tls(self.tls.refused(alert)),
            End::Version => Fault::Tls(self.tls.unknown_version()),
            End::Violation => QuicFault::Violation.into(),
        };
        self.fault.get_or_insert(fault);
        if self.is_established && end != End::Load {
            engine.on_closing(self.now, connection);
            for id in self.requests.unsent() {
                engine.on_call_failed(self.now, connection, id, QuicFault::Unsent);
            }
        }
    }

    /// Closes the connection, and sends that to the server if it is possible at once.
    pub(super) fn end(&mut self) {
        if self.fault.is_none() {
            self.client.close(self.now, quic::code::NONE);
        }
        self.transmit(&mut Vec::new());
    }
}

/// Reads one batch of a connected socket, and passes each datagram to `take`. An error of the
/// socket is left in `fault`; the datagrams behind it, or behind an earlier one, are read as well.
fn receive_datagrams(
    batch: &mut RecvBatch,
    socket: BorrowedFd<'_>,
    fault: &mut Option<Fault>,
    mut take: impl FnMut(&[u8]),
) -> Progress {
    for _ in 0..LAST_BATCHES_MAX {
        let progress = match batch.recv(socket) {
            Ok(count) if count == batch.capacity() => Progress::More,
            Ok(_) => Progress::Blocked,
            Err(error) if is_passing(&error) => Progress::Blocked,
            Err(error) => {
                fault.get_or_insert(fault_of(&error));
                Progress::More
            }
        };
        for index in 0..batch.received() {
            take(batch.datagram(index).bytes);
        }
        if fault.is_none() || progress == Progress::Blocked {
            return progress;
        }
    }
    Progress::Blocked
}

#[cfg(test)]
mod tests {
    use super::{Progress, receive_datagrams};
    use crate::engine::errors::Fault;
    use crate::sys::mmsg::RecvBatch;
    use mio::unix::SourceFd;
    use mio::{Events, Interest, Poll, Token};
    use std::net::UdpSocket;
    use std::os::fd::{AsFd, AsRawFd};
    use std::time::Duration;

    /// A socket at which five datagrams of one byte have arrived from a peer that is gone.
    fn deserted() -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(peer.local_addr().unwrap()).unwrap();
        socket.set_nonblocking(true).unwrap();
        (0..5).for_each(|byte| _ = peer.send_to(&[byte], socket.local_addr().unwrap()).unwrap());
        socket
    }

    fn read(socket: &UdpSocket, fault: &mut Option<Fault>) -> (Vec<u8>, Progress) {
        let (mut batch, mut bytes) = (RecvBatch::new(2, 16, false), Vec::new());
        let progress = receive_datagrams(&mut batch, socket.as_fd(), fault, |datagram| {
            bytes.extend_from_slice(datagram);
        });
        (bytes, progress)
    }

    #[test]
    fn datagrams_behind_an_error_of_the_socket_are_read() {
        let socket = deserted();
        let mut poll = Poll::new().unwrap();
        let fd = socket.as_raw_fd();
        poll.registry().register(&mut SourceFd(&fd), Token(0), Interest::WRITABLE).unwrap();
        socket.send(b"to nobody").unwrap();
        let mut events = Events::with_capacity(1);
        while !events.iter().any(|event| event.is_error()) {
            poll.poll(&mut events, Some(Duration::from_secs(20))).unwrap();
            assert!(!events.is_empty(), "no error comes");
        }
        let mut fault = None;
        assert_eq!(read(&socket, &mut fault), (vec![0, 1, 2, 3, 4], Progress::Blocked));
        assert_eq!(fault, Some(Fault::System(libc::ECONNREFUSED)));
    }

    #[test]
    fn datagrams_are_read_after_an_error_of_sending() {
        let mut fault = Some(Fault::System(libc::ECONNREFUSED));
        assert_eq!(read(&deserted(), &mut fault), (vec![0, 1, 2, 3, 4], Progress::Blocked));
    }

    #[test]
    fn one_batch_is_read_at_a_time_without_an_error() {
        assert_eq!(read(&deserted(), &mut None), (vec![0, 1], Progress::More));
    }
}
