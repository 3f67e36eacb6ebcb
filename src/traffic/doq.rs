//! DNS over QUIC (RFC 9250) on a client's socket: messages become calls, replies messages.
//!
//! Each connection has a socket of its own. Calls beyond the number of streams that the server
//! grants wait here. A call without a reply is cancelled when its query has timed out, so that its
//! stream is free for another. QUIC is that of the forwarder's room; of the DNS in it only the
//! message ID is looked at, which QUIC has as 0.

use crate::moment::Moment;
use crate::quic::{Client, Dialer, Progress, code};
use crate::sys::mmsg::RecvBatch;
use crate::sys::random;
use crate::tls;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

/// Maximum number of messages that wait for streams.
const WAITING_MAX: usize = 64;

/// A call without its reply.
struct Call {
    number: u32,
    /// Message ID of its query.
    id: [u8; 2],
    since: Moment,
}

/// A connection to a server, with its socket.
pub(super) struct QuicConnection {
    socket: UdpSocket,
    client: Client,
    waiting: VecDeque<Box<[u8]>>,
    /// Ordered by number.
    calls: VecDeque<Call>,
    /// The last message that was received.
    received: Vec<u8>,
    /// Datagram that is written.
    buffer: Vec<u8>,
    is_over: bool,
}

impl QuicConnection {
    /// Begins a connection to `server` on `socket`, which is connected there.
    ///
    /// # Errors
    /// The settings are not those of QUIC, the kernel does not accept the first datagram, or there
    /// is no randomness.
    pub(super) fn dial(
        now: Moment,
        (socket, server): (UdpSocket, SocketAddr),
        tls: &tls::Client,
        dialer: &Dialer,
    ) -> io::Result<Self> {
        let handshake = tls.handshake().ok_or(ErrorKind::InvalidInput)?;
        let name = handshake.name();
        let client = dialer.dial(now, server, (handshake.config(), &name), random::seed()?);
        let mut connection = Self {
            socket,
            client: client.ok_or(ErrorKind::InvalidInput)?,
            waiting: VecDeque::new(),
            calls: VecDeque::new(),
            received: Vec::new(),
            buffer: Vec::new(),
            is_over: false,
        };
        connection.flush(now)?;
        Ok(connection)
    }

    /// Queues a message.
    pub(super) fn push(&mut self, message: &[u8]) {
        self.waiting.push_back(message.into());
    }

    /// Returns true if messages should not be queued now.
    pub(super) fn is_backed_up(&self) -> bool {
        self.waiting.len() > WAITING_MAX
    }

    /// Makes calls of waiting messages, and sends the datagrams that are due. A datagram that the
    /// kernel does not accept is lost, as on any way.
    ///
    /// # Errors
    /// The connection is over.
    pub(super) fn flush(&mut self, now: Moment) -> io::Result<()> {
        while let Some(message) = self.waiting.front()
            && let Some(number) = self.client.call(message)
        {
            let id = message.first_chunk().copied().unwrap_or_default();
            self.calls.push_back(Call { number, id, since: now });
            self.waiting.pop_front();
        }
        let Self { client, socket, buffer, is_over, .. } = self;
        client.transmit(now, buffer, |datagram| {
            if let Err(error) = socket.send(datagram) {
                *is_over |= !is_passing(&error);
            }
        });
        if self.is_over { Err(ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    /// Reads one batch; returns whether there may be more.
    ///
    /// # Errors
    /// The socket has failed.
    pub(super) fn receive(&mut self, now: Moment, batch: &mut RecvBatch) -> io::Result<bool> {
        let outcome = match batch.recv(self.socket.as_fd()) {
            Err(error) if is_passing(&error) => Ok(false),
            Err(error) => {
                // Datagrams behind the error are valid.
                let _ = batch.recv(self.socket.as_fd());
                Err(error)
            }
            Ok(count) => Ok(count == batch.capacity()),
        };
        for index in 0..batch.received() {
            self.client.receive(now, batch.datagram(index).bytes);
        }
        outcome
    }

    /// Returns the next message, if there is one.
    pub(super) fn message(&mut self, now: Moment) -> Option<&[u8]> {
        loop {
            match self.client.next(now)? {
                Progress::Reply(number, message) => {
                    let Some(Call { id, .. }) = self.take(number) else { continue };
                    self.received.clear();
                    self.received.extend_from_slice(&message);
                    for (place, byte) in self.received.iter_mut().zip(id) {
                        *place = byte;
                    }
                    return Some(&self.received);
                }
                Progress::Failed(number, _) => _ = self.take(number),
                Progress::Over(_) => self.is_over = true,
                Progress::Connected { .. } => {}
            }
        }
    }

    /// Removes a call.
    fn take(&mut self, number: u32) -> Option<Call> {
        let place = self.calls.binary_search_by_key(&number, |call| call.number).ok()?;
        self.calls.remove(place)
    }

    /// Handles the deadline.
    pub(super) fn on_time(&mut self, now: Moment) {
        self.client.on_time(now);
    }

    /// Cancels calls that are older than `timeout`.
    pub(super) fn cancel(&mut self, now: Moment, timeout: Duration) {
        while let Some(call) = self.calls.front()
            && call.since.plus(timeout) <= now
        {
            self.client.cancel(call.number);
            self.calls.pop_front();
        }
    }

    /// Returns the time of the next call of [`QuicConnection::on_time`].
    pub(super) fn next_deadline(&mut self) -> Option<Moment> {
        self.client.next_deadline()
    }

    /// Closes the connection, and tells the server if a datagram can be sent at once.
    pub(super) fn end(&mut self, now: Moment) {
        if !self.is_over {
            self.client.close(now, code::NONE);
            // Nothing follows that could fail.
            let _ = self.flush(now);
        }
    }
}

/// Returns true if a later call may succeed.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
