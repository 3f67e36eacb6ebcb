//! TCP and TLS connections, of clients and to upstreams.
//!
//! [`TcpConnection`] moves bytes between a socket and two bounded buffers, an inbox and an outbox,
//! with one read and one write per turn, and returns the result; the event loop handles the
//! messages. Clients and upstreams differ in the maximum length of messages, which is an argument
//! of each call. A TLS connection has a [`Session`] between socket and buffers, and sends no
//! message before the handshake is complete.

use super::fault_of;
use crate::engine::errors::Fault;
use crate::engine::forwarder::TCP_MESSAGE_MAX;
use crate::engine::frame::{Full, Inbox, Outbox};
use crate::tls::{Failure, Received, Session};
use mio::net::TcpStream;
use std::io::{self, Read, Write};

/// Maximum number of bytes that wait in the outbox, two messages of maximum length: the connection
/// of a slow reader is closed when it has more.
const WAITING_MAX: usize = 2 * 65_537;

/// Result of a read or write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// There may be more to read now.
    More,
    /// The kernel has nothing more; an event will follow.
    Blocked,
    /// The other end has closed, or the socket has failed.
    Over,
}

pub(super) struct TcpConnection {
    pub(super) socket: TcpStream,
    pub(super) inbox: Inbox,
    outbox: Outbox,
    /// TLS session between the socket and the buffers.
    tls: Option<Box<Session>>,
    /// The kernel accepts no more bytes; an event will follow.
    blocked: bool,
    /// An event has announced the end of the peer's data, which must be read to its end.
    pub(super) read_closed: bool,
    /// The connection has been read to its end.
    pub(super) half_closed: bool,
    /// Cause of the failure, if the kernel or TLS has reported one.
    fault: Option<Fault>,
    /// The socket has failed, so nothing more is written.
    broken: bool,
    /// Bytes in front of everything else, also of TLS.
    preamble: Option<Box<[u8]>>,
}

impl TcpConnection {
    /// Creates a connection over `socket`. `blocked`: it is not established yet.
    pub(super) fn new(socket: TcpStream, blocked: bool, tls: Option<Session>) -> Self {
        Self {
            socket,
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            tls: tls.map(Box::new),
            blocked,
            read_closed: false,
            half_closed: false,
            fault: None,
            broken: false,
            preamble: None,
        }
    }

    /// Sets the bytes that the connection begins with, once it is established.
    pub(super) fn begin_with(&mut self, preamble: &[u8]) {
        self.preamble = Some(preamble.into());
    }

    /// Writes the bytes that the connection begins with, unless they are written.
    ///
    /// # Errors
    /// The socket has failed.
    pub(super) fn begin(&mut self) -> io::Result<()> {
        let Some(preamble) = self.preamble.take() else { return Ok(()) };
        // The buffer of a new socket has room for them.
        let count = self.socket.write(&preamble)?;
        if count == preamble.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// Returns the maximum number of bytes of a connection whose peer sends messages of at most
    /// `len_max`.
    pub(super) fn bytes_max(len_max: usize, secure: bool) -> usize {
        let boxes =
            Inbox::bytes_max(len_max) + Outbox::bytes_max(usize::from(u16::MAX), WAITING_MAX);
        size_of::<Self>() + boxes + if secure { Session::bytes_max() } else { 0 }
    }

    /// Returns true if messages can be transferred; over TLS, if the handshake is complete.
    pub(super) fn is_open(&self) -> bool {
        self.tls.as_ref().is_none_or(|session| session.is_open())
    }

    /// Returns true if it uses TLS.
    pub(super) fn is_secure(&self) -> bool {
        self.tls.is_some()
    }

    /// Returns true if its TLS session was resumed.
    pub(super) fn is_resumed(&self) -> bool {
        self.tls.as_ref().is_some_and(|session| session.is_resumed())
    }

    /// Returns the protocol that both sides of TLS have agreed on, if any.
    pub(super) fn protocol(&self) -> Option<&[u8]> {
        self.tls.as_ref().and_then(|session| session.protocol())
    }

    /// Returns true if TLS has records to write.
    pub(super) fn wants_write(&self) -> bool {
        self.tls.as_ref().is_some_and(|session| session.wants_write())
    }

    /// Reads once.
    pub(super) fn read(&mut self) -> Progress {
        let room = self.inbox.room();
        if let Some(session) = &mut self.tls {
            let received = session.receive(&mut self.socket, room);
            return self.received(received);
        }
        let capacity = room.len();
        match self.socket.read(room) {
            Ok(0) => {
                self.half_closed = true;
                Progress::Over
            }
            Ok(count) => {
                self.inbox.filled(count);
                let more = count == capacity || self.read_closed;
                if more { Progress::More } else { Progress::Blocked }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Progress::Blocked,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Progress::More,
            Err(error) => {
                self.fault.get_or_insert(fault_of(&error));
                Progress::Over
            }
        }
    }

    /// Returns the result of a read through TLS.
    fn received(&mut self, received: Result<Received, Failure>) -> Progress {
        match received {
            Ok(Received::Bytes { count, more }) => {
                self.inbox.filled(count);
                if more || self.read_closed { Progress::More } else { Progress::Blocked }
            }
            Ok(Received::End) => {
                self.half_closed = true;
                Progress::Over
            }
            Err(failure) => {
                match failure {
                    Failure::Socket(error) => _ = self.fault.get_or_insert(fault_of(&error)),
                    Failure::Tls(fault) => self.fault = Some(Fault::Tls(fault)),
                }
                Progress::Over
            }
        }
    }

    /// Returns the cause of the end: closed by the peer, failed, or a protocol error.
    pub(super) fn fault(&self) -> Fault {
        let closed = if self.half_closed { Fault::Closed } else { Fault::Unknown };
        self.fault.unwrap_or(closed)
    }

    /// Marks the socket as failed. Bytes received before are still read, because they may hold
    /// answers; nothing more is written.
    pub(super) fn break_down(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
        (self.broken, self.read_closed) = (true, true);
    }

    /// Returns true if its socket has failed.
    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Queues a message of at most `len_max` bytes, written by `write`, in the outbox. A full
    /// outbox is flushed first, because many messages in one turn do not mean that the reader is
    /// slow.
    ///
    /// # Errors
    /// The peer reads too slowly; `write` was not called.
    pub(super) fn push(
        &mut self,
        len_max: usize,
        write: impl FnOnce(&mut [u8]) -> usize,
    ) -> Result<(), Full> {
        if self.outbox.waiting().len() > WAITING_MAX {
            // If that fails, the outbox stays full.
            let _ = self.flush();
        }
        self.outbox.push(len_max, WAITING_MAX, write)
    }

    /// Lends the outbox to `write`, which appends bytes of another framing. The caller bounds them.
    pub(super) fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.outbox.append(write);
    }

    /// Returns true if the outbox is empty.
    pub(super) fn is_empty(&self) -> bool {
        self.outbox.waiting().is_empty()
    }

    /// Returns true if the kernel accepts no more bytes now.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked || self.broken
    }

    /// Returns true if nothing waits to be written.
    pub(super) fn is_drained(&self) -> bool {
        self.outbox.waiting().is_empty() && !self.wants_write()
    }

    /// Ends a TLS session: sends a close_notify, if that is possible at once.
    pub(super) fn end(&mut self) {
        if let Some(session) = self.tls.as_mut().filter(|_| !self.blocked) {
            session.end(&mut self.socket);
        }
    }

    /// Ends the sending side, so that the client reads what was sent before it sees the end: a
    /// socket closed with bytes unread would be reset, and the last reply lost.
    pub(super) fn finish(&mut self) {
        self.end();
        // A socket that has failed is closed anyway.
        let _ = self.socket.shutdown(std::net::Shutdown::Write);
    }

    /// Marks the socket as writable. Returns true if it was blocked.
    pub(super) fn unblock(&mut self) -> bool {
        std::mem::take(&mut self.blocked)
    }

    /// Writes the outbox until the kernel accepts no more. Returns the number of bytes of messages
    /// written or, over TLS, encrypted.
    pub(super) fn flush(&mut self) -> Result<usize, io::Error> {
        let mut total = 0;
        while !self.blocked && !self.broken {
            let written = match &mut self.tls {
                Some(session) if session.wants_write() => {
                    session.write(&mut self.socket).map(|_| 0)
                }
                Some(session) => match session.seal(self.outbox.waiting()) {
                    0 => break,
                    count => Ok(count),
                },
                None if self.outbox.waiting().is_empty() => break,
                None => self.socket.write(self.outbox.waiting()),
            };
            match written {
                Ok(count) => {
                    self.outbox.written(count);
                    total += count;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.blocked = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(total)
    }
}

/// Reads once from a connection, and passes each complete message to `handle`.
pub(super) fn receive_messages(
    connection: &mut TcpConnection,
    handle: &mut impl FnMut(&[u8], bool),
) -> Progress {
    let progress = connection.read();
    loop {
        match connection.inbox.next(TCP_MESSAGE_MAX) {
            Ok(Some(message)) => handle(message, false),
            Ok(None) => return progress,
            Err(_) => return Progress::Over,
        }
    }
}

/// Queues the packets on the connection and writes as much as possible. Returns the number of
/// packets for which there was no room.
pub(super) fn send_messages<'p>(
    connection: &mut TcpConnection,
    packets: impl Iterator<Item = &'p [u8]>,
) -> io::Result<usize> {
    let mut dropped = 0;
    for packet in packets {
        let write = |room: &mut [u8]| {
            room.copy_from_slice(packet);
            packet.len()
        };
        dropped += usize::from(connection.push(packet.len(), write).is_err());
    }
    connection.flush().map(|_| dropped)
}

#[cfg(test)]
mod tests {
    use super::{TcpConnection, WAITING_MAX};
    use mio::net::TcpStream;
    use std::net::TcpListener;

    /// Returns a connection, and its peer, which reads nothing.
    fn connection() -> (TcpConnection, std::net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        near.set_nonblocking(true).unwrap();
        let (far, _) = listener.accept().unwrap();
        (TcpConnection::new(TcpStream::from_std(near), false, None), far)
    }

    #[test]
    fn many_messages_in_one_turn_do_not_make_a_slow_reader() {
        let (mut connection, _far) = connection();
        let messages = WAITING_MAX / 2_000 + 20;
        for number in 0..messages {
            assert!(connection.push(2_000, |_| 2_000).is_ok(), "message {number} of {messages}");
        }
    }

    #[test]
    fn a_peer_that_reads_nothing_is_detected_as_slow() {
        let (mut connection, _far) = connection();
        let pushed = (0..4_096).take_while(|_| connection.push(65_535, |_| 65_535).is_ok()).count();
        assert!(pushed < 4_096, "the kernel took {pushed} messages");
        assert!(connection.outbox.waiting().len() <= WAITING_MAX + 65_537);
    }
}
