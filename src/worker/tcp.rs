//! Connections of either direction: a socket, what came in on it, what is to go out.
//!
//! [`TcpConnection`] moves bytes between a TCP socket and two bounded boxes, one read and one write
//! per turn, and says what became of it; the messages are the turn's business. The same for clients
//! and upstreams: they differ in who may send how much, which is an argument of each call. With a
//! [`Session`] between socket and boxes it is a connection of TLS, and nothing of a box leaves
//! before the handshake is over.

use super::fault_of;
use crate::engine::errors::Fault;
use crate::engine::forwarder::TCP_MESSAGE_MAX;
use crate::engine::frame::{Full, Inbox, Outbox};
use crate::tls::{Failure, Received, Session};
use mio::net::TcpStream;
use std::io::{self, Read, Write};

/// Answers that wait for a slow reader, in bytes: the next one that would come on top closes the
/// connection. Two of the longest.
const WAITING_MAX: usize = 2 * 65_537;

/// Result of a read or write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// There may be more at once.
    More,
    /// The kernel has nothing more for now; an event will tell.
    Blocked,
    /// The other end has closed, or the socket has failed.
    Over,
}

/// A TCP connection.
pub(super) struct TcpConnection {
    pub(super) socket: TcpStream,
    pub(super) inbox: Inbox,
    outbox: Outbox,
    /// Between the socket and the boxes.
    tls: Option<Box<Session>>,
    /// The kernel would take no more; its event will tell when it does.
    blocked: bool,
    /// An event has said that the other end sends no more: it is to be read to its end.
    pub(super) read_closed: bool,
    /// The connection has been read to its end.
    pub(super) half_closed: bool,
    /// Cause of the failure, if the kernel or TLS has reported one.
    fault: Option<Fault>,
    /// The socket has failed, so nothing more is written.
    broken: bool,
}

impl TcpConnection {
    /// Over `socket`. `blocked`: it is not connected yet.
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
        }
    }

    /// The bytes that one can come to hold whose other end sends messages of at most `len_max`.
    pub(super) fn bytes_max(len_max: usize, secure: bool) -> usize {
        let boxes =
            Inbox::bytes_max(len_max) + Outbox::bytes_max(usize::from(u16::MAX), WAITING_MAX);
        size_of::<Self>() + boxes + if secure { Session::bytes_max() } else { 0 }
    }

    /// Returns true if messages may come and go: of TLS, whether the handshake is over.
    pub(super) fn is_open(&self) -> bool {
        self.tls.as_ref().is_none_or(|session| session.is_open())
    }

    /// Returns true if its session is a resumed one.
    pub(super) fn is_resumed(&self) -> bool {
        self.tls.as_ref().is_some_and(|session| session.is_resumed())
    }

    /// Returns true if TLS has something of its own to write.
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

    /// The socket has failed. What had come before is to be read to its end, since it may hold
    /// answers; nothing more is written.
    pub(super) fn break_down(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
        (self.broken, self.read_closed) = (true, true);
    }

    /// Returns true if its socket has failed.
    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Has `write` put a message of at most `len_max` bytes into the outbox. When that holds much,
    /// the kernel is asked first whether it takes some: what one turn brings is no sign of a slow
    /// reader.
    ///
    /// # Errors
    /// The other end reads too slowly: `write` was not called.
    pub(super) fn push(
        &mut self,
        len_max: usize,
        write: impl FnOnce(&mut [u8]) -> usize,
    ) -> Result<(), Full> {
        if self.outbox.waiting().len() > WAITING_MAX {
            // If the socket has failed, everything still waits.
            let _ = self.flush();
        }
        self.outbox.push(len_max, WAITING_MAX, write)
    }

    /// Returns true if anything waits to go out.
    pub(super) fn is_drained(&self) -> bool {
        self.outbox.waiting().is_empty() && !self.wants_write()
    }

    /// Nothing more is to be sent, and TLS notifies the other end of that, if that can be done at
    /// once.
    pub(super) fn end(&mut self) {
        if let Some(session) = self.tls.as_mut().filter(|_| !self.blocked) {
            session.end(&mut self.socket);
        }
    }

    /// The kernel says that the socket can be written to; returns whether that is news.
    pub(super) fn unblock(&mut self) -> bool {
        std::mem::take(&mut self.blocked)
    }

    /// Writes what waits, as far as the kernel takes it; returns how many bytes of messages that
    /// was, those that TLS has sealed by now included.
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

/// One read from a connection, and all messages that it has completed.
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

/// Queues the packets on the connection and writes what it takes now; returns how many had no room.
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

    /// A connection, and its other end, which reads nothing.
    fn connection() -> (TcpConnection, std::net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        near.set_nonblocking(true).unwrap();
        let (far, _) = listener.accept().unwrap();
        (TcpConnection::new(TcpStream::from_std(near), false, None), far)
    }

    #[test]
    fn whoever_is_owed_much_in_one_turn_is_not_slow_for_that() {
        let (mut connection, _far) = connection();
        let messages = WAITING_MAX / 2_000 + 20;
        for number in 0..messages {
            assert!(connection.push(2_000, |_| 2_000).is_ok(), "message {number} of {messages}");
        }
    }

    #[test]
    fn whoever_reads_nothing_is_slow_in_the_end() {
        let (mut connection, _far) = connection();
        let pushed = (0..4_096).take_while(|_| connection.push(65_535, |_| 65_535).is_ok()).count();
        assert!(pushed < 4_096, "the kernel took {pushed} messages");
        assert!(connection.outbox.waiting().len() <= WAITING_MAX + 65_537);
    }
}
