//! The socket of a probe: a connection over TLS or plain TCP, and the reasons why a probe fails.
//!
//! Nothing here waits: a call that would block returns that. The probe and its HTTP request share
//! it.

use crate::engine::errors::{QuicFault, TlsFault};
use crate::engine::frame::Outbox;
use crate::http;
use crate::http::doh::NoAnswer;
use crate::tls::{self, Received, Session};
use mio::net::TcpStream;
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::time::Duration;

/// Time limit of the read stage.
pub(super) const READ_TIMEOUT: Duration = Duration::from_secs(1);
/// Maximum number of messages that are not the answer, after which a probe fails: a bound on the
/// cost of a flood of forged responses.
pub(super) const STRAYS_MAX: u32 = 64;

/// Bytes that are read at once during a handshake.
const EARLY_LEN: usize = 512;

/// Reason why a probe failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// No answer in time.
    TimedOut,
    /// The upstream ended the connection.
    Closed,
    /// Too many messages that are not the answer.
    Strays,
    /// The reply to an HTTP request carries no answer.
    NoAnswer(NoAnswer),
    /// The HTTP request has no reply.
    Http(http::Failure),
    /// The DNS message in the reply to an HTTP request is not the answer.
    Mismatch,
    /// The query over QUIC has no answer.
    Quic(QuicFault),
    /// The TLS handshake failed, with the details if known.
    Tls(TlsFault, Option<String>),
    /// Error from the kernel, such as refused, unreachable, out of descriptors.
    Io(io::Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut => f.write_str("timed out"),
            Self::Closed => f.write_str("connection closed"),
            Self::Tls(fault, evidence) => f.write_str(evidence.as_deref().unwrap_or(fault.text())),
            Self::Strays => f.write_str("only messages that do not match the probe"),
            Self::NoAnswer(why) => why.fmt(f),
            Self::Http(failure) => failure.fmt(f),
            Self::Quic(fault) => fault.fmt(f),
            Self::Mismatch => f.write_str("http: the DNS message does not answer the query"),
            Self::Io(error) if error.kind() == ErrorKind::ConnectionRefused => {
                f.write_str("refused")
            }
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A connection, over TLS or plain TCP.
pub(super) struct Wire {
    pub(super) socket: TcpStream,
    pub(super) session: Option<Box<Session>>,
    /// Bytes that came with the end of the handshake and are not read yet.
    early: Vec<u8>,
}

impl Wire {
    /// Creates a connection whose handshake, if there is a session, has not begun.
    pub(super) fn new(socket: TcpStream, session: Option<Session>) -> Self {
        Self { socket, session: session.map(Box::new), early: Vec::new() }
    }

    /// Returns the protocol that both sides of TLS have agreed on, if any.
    pub(super) fn protocol(&self) -> Option<&[u8]> {
        self.session.as_ref().and_then(|session| session.protocol())
    }

    /// Continues the handshake, if there is one. True when it is complete.
    pub(super) fn shake_hands(&mut self) -> Result<bool, Failure> {
        loop {
            let flushed = self.flush()?;
            let Self { socket, session: Some(session), early } = self else { return Ok(true) };
            if !flushed || session.is_open() {
                return Ok(flushed);
            }
            // A server of HTTP/2 may send its SETTINGS together with the end of the handshake.
            let mut room = [0; EARLY_LEN];
            match session.receive(socket, &mut room) {
                Ok(Received::Bytes { count, more }) => {
                    early.extend_from_slice(&room[..count]);
                    if !more && !session.wants_write() && !session.is_open() {
                        return Ok(false);
                    }
                }
                Ok(Received::End) => return Err(Failure::Tls(TlsFault::Unfinished, None)),
                Err(failure) => return Err(Failure::of(failure, session)),
            }
        }
    }

    /// Writes pending TLS records. False: the kernel takes no more for now.
    fn flush(&mut self) -> io::Result<bool> {
        let Self { socket, session, .. } = self;
        while let Some(session) = session.as_mut().filter(|session| session.wants_write()) {
            if unless_blocked(|| session.write(socket))?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Writes pending data. True when all of it has been taken.
    pub(super) fn write(&mut self, outbox: &mut Outbox) -> io::Result<bool> {
        while self.flush()? && !outbox.waiting().is_empty() {
            let count = match &mut self.session {
                Some(session) => Some(session.seal(outbox.waiting())),
                None => unless_blocked(|| self.socket.write(outbox.waiting()))?,
            };
            let Some(count) = count else { return Ok(false) };
            outbox.written(count);
        }
        Ok(outbox.waiting().is_empty() && self.flush()?)
    }

    /// Reads once. `None`: there is no more for now.
    pub(super) fn read(&mut self, room: &mut [u8]) -> Result<Option<usize>, Failure> {
        if !self.early.is_empty() {
            let count = room.len().min(self.early.len());
            room[..count].copy_from_slice(&self.early[..count]);
            self.early.drain(..count);
            return Ok(Some(count));
        }
        let Some(session) = &mut self.session else {
            let count = unless_blocked(|| self.socket.read(room))?;
            return if count == Some(0) { Err(Failure::Closed) } else { Ok(count) };
        };
        match session.receive(&mut self.socket, room) {
            Ok(Received::Bytes { count: 0, more: false }) => Ok(None),
            Ok(Received::Bytes { count, .. }) => Ok(Some(count)),
            Ok(Received::End) => Err(Failure::Closed),
            Err(failure) => Err(Failure::of(failure, session)),
        }
    }
}

impl Failure {
    /// Converts the `failure` of `session`.
    fn of(failure: tls::Failure, session: &Session) -> Self {
        match failure {
            tls::Failure::Socket(error) => Self::Io(error),
            tls::Failure::Tls(fault) => Self::Tls(fault, session.evidence(fault)),
        }
    }
}

/// Repeats a call after EINTR; `None`: it would block.
pub(super) fn unless_blocked(
    mut call: impl FnMut() -> io::Result<usize>,
) -> io::Result<Option<usize>> {
    loop {
        match call() {
            Ok(count) => return Ok(Some(count)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
