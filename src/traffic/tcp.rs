//! A TCP connection of either end, plain or over TLS: whole messages in, whole messages out (RFC
//! 1035 §4.2.2).
//!
//! Both ends mostly exchange short messages, so the buffers begin small and grow to the longest
//! message. It shares nothing with the engine's framing, for the reason given in [`super::wire`].
//! Nothing is allocated once the outbox has grown to the outstanding bytes.

use super::doh::Http;
use crate::tls::{Failure, Received, Session};
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use std::io::{self, ErrorKind, Read, Write};

/// Bytes of a message's length prefix.
const PREFIX_LEN: usize = 2;
/// Maximum length of a message.
const MESSAGE_LEN_MAX: usize = u16::MAX as usize;
/// Bytes read at once, until a message does not fit.
const INBOX_LEN: usize = 16 * 1024;
/// Maximum of unwritten bytes: beyond it nothing is sent until the peer has read.
const BACKLOG_MAX: usize = 64 * 1024;

/// A connected or connecting TCP connection.
pub(crate) struct MessageConnection {
    socket: TcpStream,
    session: Option<Box<Session>>,
    inbox: Vec<u8>,
    /// Begin of the next message in the inbox, and end of the data.
    start: usize,
    end: usize,
    outbox: Vec<u8>,
    written: usize,
    /// HTTP that carries the messages.
    http: Option<Http>,
}

impl MessageConnection {
    /// Creates a connection over `socket`, whose events have `token`, over TLS if there is a
    /// session.
    ///
    /// # Errors
    /// The kernel cannot watch the socket.
    pub(crate) fn through(
        session: Option<Session>,
        mut socket: TcpStream,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Self> {
        registry.register(&mut socket, token, Interest::READABLE | Interest::WRITABLE)?;
        let (session, inbox) = (session.map(Box::new), vec![0; INBOX_LEN]);
        Ok(Self {
            socket,
            session,
            inbox,
            start: 0,
            end: 0,
            outbox: Vec::new(),
            written: 0,
            http: None,
        })
    }

    /// Carries messages in requests of HTTP.
    pub(super) fn over_http(mut self, http: Http) -> Self {
        self.http = Some(http);
        self
    }

    /// Reads once; returns whether there may be more.
    ///
    /// # Errors
    /// The peer has ended the connection (`UnexpectedEof`), or it has failed.
    pub(crate) fn receive(&mut self) -> io::Result<bool> {
        self.inbox.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        if self.end == self.inbox.len() {
            self.inbox.resize(PREFIX_LEN + MESSAGE_LEN_MAX, 0);
        }
        if self.end == self.inbox.len() {
            // Requests of HTTP/1.1 that wait for the replies to earlier ones.
            return Ok(false);
        }
        let more = self.read()?;
        if self.http.is_some() {
            self.pass_on();
            // Flow control and settings of HTTP/2 are answered.
            self.flush()?;
        }
        if self.is_over() {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(more)
    }

    /// Passes received bytes to HTTP, as far as it has room; returns true if it took some.
    fn pass_on(&mut self) -> bool {
        let Some(http) = &mut self.http else { return false };
        let taken = http.receive(&self.inbox[self.start..self.end]);
        self.start += taken;
        taken > 0
    }

    /// Reads once into the inbox.
    fn read(&mut self) -> io::Result<bool> {
        let room = &mut self.inbox[self.end..];
        if let Some(session) = &mut self.session {
            let received = session.receive(&mut self.socket, room);
            return self.received(received);
        }
        match self.socket.read(room) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                self.end += count;
                Ok(true)
            }
            Err(error) if is_no_news(&error) => Ok(error.kind() == ErrorKind::Interrupted),
            Err(error) => Err(error),
        }
    }

    /// Returns the result of a read through TLS.
    fn received(&mut self, received: Result<Received, Failure>) -> io::Result<bool> {
        match received {
            Ok(Received::Bytes { count, more }) => {
                self.end += count;
                // Sends pending TLS records, and data that waited for the handshake.
                self.flush()?;
                Ok(more || count > 0)
            }
            Ok(Received::End) => Err(ErrorKind::UnexpectedEof.into()),
            Err(Failure::Socket(error)) if is_no_news(&error) => Ok(false),
            Err(Failure::Socket(error)) => Err(error),
            Err(Failure::Tls(fault)) => Err(io::Error::other(fault.text())),
        }
    }

    /// Returns the next complete message, if there is one, and the number that its reply needs.
    pub(crate) fn message(&mut self) -> Option<(u32, &[u8])> {
        if self.http.is_some() {
            return self.carried();
        }
        let waiting = &self.inbox[self.start..self.end];
        let length = usize::from(u16::from_be_bytes(*waiting.first_chunk::<PREFIX_LEN>()?));
        if waiting.len() < PREFIX_LEN + length {
            return None;
        }
        let message = self.start + PREFIX_LEN;
        self.start = message + length;
        Some((0, &self.inbox[message..message + length]))
    }

    /// Returns the next message that HTTP carries.
    fn carried(&mut self) -> Option<(u32, &[u8])> {
        loop {
            if let Some(request) = self.http.as_mut()?.next() {
                return Some((request, self.http.as_ref()?.message()));
            }
            if !self.pass_on() {
                return None;
            }
        }
    }

    /// Queues `message`, of at most 65,535 bytes; at a server, as the reply to `request`.
    pub(crate) fn push(&mut self, request: u32, message: &[u8]) {
        if let Some(http) = &mut self.http {
            return http.push(request, message);
        }
        self.outbox.extend_from_slice(&(message.len() as u16).to_be_bytes());
        self.outbox.extend_from_slice(message);
    }

    /// Writes queued bytes, as far as the kernel takes them; an event reports when it takes more.
    ///
    /// # Errors
    /// The connection could not be established, or has failed.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        loop {
            self.fill();
            let waiting = &self.outbox[self.written..];
            let written = match &mut self.session {
                Some(session) if session.wants_write() => {
                    session.write(&mut self.socket).map(|_| 0)
                }
                Some(session) => match session.seal(waiting) {
                    0 => break,
                    count => Ok(count),
                },
                None if waiting.is_empty() => break,
                None => self.socket.write(waiting),
            };
            match written {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_no_news(&error) => break,
                Err(error) => return Err(error),
            }
        }
        self.outbox.drain(..self.written);
        self.written = 0;
        Ok(())
    }

    /// Moves bytes of HTTP to the outbox, once the connection is open.
    fn fill(&mut self) {
        let Self { session, outbox, http: Some(http), .. } = self else { return };
        let session = session.as_deref();
        if session.is_none_or(Session::is_open) {
            http.begin(session.and_then(Session::protocol), session.is_some());
            http.transmit(outbox, BACKLOG_MAX);
        }
    }

    /// Refuses the `request` of a client, if HTTP carries it, because its message is no query.
    pub(crate) fn refuse(&mut self, request: u32) {
        if let Some(http) = &mut self.http {
            http.refuse(request);
        }
    }

    /// Returns true if messages were left, because replies waited, and may be taken now.
    pub(crate) fn may_go_on(&self) -> bool {
        self.http.as_ref().is_some_and(Http::may_go_on)
    }

    /// Returns true if bytes wait that HTTP takes once it has sent replies.
    pub(crate) fn has_bytes(&self) -> bool {
        self.http.is_some() && self.start < self.end
    }

    /// Returns true if nothing more comes of the connection and all bytes are written.
    pub(crate) fn is_over(&self) -> bool {
        let is_sent = self.outbox.is_empty()
            && !self.session.as_ref().is_some_and(|session| session.wants_write());
        is_sent && self.http.as_ref().is_some_and(Http::is_over)
    }

    /// Returns true if the unwritten bytes have reached their maximum.
    pub(crate) fn is_backed_up(&self) -> bool {
        self.outbox.len() > BACKLOG_MAX || self.http.as_ref().is_some_and(Http::is_full)
    }
}

/// Returns true if the call would block, on data or on the connect.
fn is_no_news(error: &io::Error) -> bool {
    use ErrorKind::{Interrupted, NotConnected, WouldBlock};
    matches!(error.kind(), Interrupted | NotConnected | WouldBlock)
}
