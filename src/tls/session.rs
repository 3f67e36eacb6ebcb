//! One connection's TLS: between a socket that is lent and the plain bytes of a stream.
//!
//! One read and one write of the socket per call, each of bounded size, so that no peer keeps its
//! worker. What was decrypted and finds no room with the caller waits here, a record at most, and
//! nothing more is read until it is taken. Plain bytes are taken only when the handshake is over,
//! and with it all verification: before that nothing can leave that was given here.

use super::fault::{Evidence, fault_of, of_handshake};
use crate::engine::errors::TlsFault;
use rustls::client::ClientConfig;
use rustls::pki_types::ServerName;
use rustls::server::ServerConfig;
use rustls::{ClientConnection, Connection, HandshakeKind, ServerConnection};
use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;

/// Plain bytes that are sealed at once: those of one record (RFC 8446 §5.1).
const SEALED_MAX: usize = 1 << 14;

/// Result of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// Number of plain bytes, perhaps none; `more`: there may be more at once.
    Bytes {
        /// At the beginning of the room that was lent.
        count: usize,
        /// The session or the socket may hold more.
        more: bool,
    },
    /// The other end has closed it.
    End,
}

/// Reason why a session ended.
#[derive(Debug)]
pub enum Failure {
    /// The socket has failed.
    Socket(io::Error),
    /// So has TLS; the other end has been told.
    Tls(TlsFault),
}

/// One connection's TLS.
pub struct Session {
    connection: Connection,
    /// Decrypted bytes wait to be taken.
    waiting: bool,
    /// Store of the failure's text; none for clients.
    evidence: Option<Arc<Evidence>>,
}

impl Session {
    /// With a server that must be known by `name`.
    pub(super) fn connect(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        evidence: Arc<Evidence>,
    ) -> Self {
        let connection = ClientConnection::new(config, name);
        // It fails only for configurations without a version or with a name for ECH.
        let connection = connection.expect("the configuration was made for this").into();
        Self { evidence: Some(evidence), ..Self::of(connection) }
    }

    /// With a client.
    ///
    /// # Errors
    /// There is no randomness.
    pub(super) fn accept(config: Arc<ServerConfig>) -> Result<Self, TlsFault> {
        let connection = ServerConnection::new(config).map_err(|error| fault_of(&error))?;
        Ok(Self::of(connection.into()))
    }

    fn of(mut connection: Connection) -> Self {
        connection.set_buffer_limit(Some(SEALED_MAX));
        Self { connection, waiting: false, evidence: None }
    }

    /// The bytes that one can come to hold: a record on its way in and one decrypted, a record on
    /// its way out, and the largest message of a handshake.
    pub fn bytes_max() -> usize {
        const RECORD: usize = SEALED_MAX + 256;
        size_of::<Self>() + 3 * RECORD + (1 << 16)
    }

    /// Returns true if the handshake is over: the other end is who it should be.
    pub fn is_open(&self) -> bool {
        !self.connection.is_handshaking()
    }

    /// Returns true if an earlier session was resumed, which costs neither side a signature.
    pub fn is_resumed(&self) -> bool {
        self.connection.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Returns true if something is to be written, be it of the handshake.
    pub fn wants_write(&self) -> bool {
        self.connection.wants_write()
    }

    /// Reads once, and puts plain bytes into `room`, which is not empty.
    ///
    /// # Errors
    /// [`Failure`]: there is nothing to be had from it any more.
    pub fn receive(
        &mut self,
        socket: &mut (impl Read + Write),
        room: &mut [u8],
    ) -> Result<Received, Failure> {
        let mut more = false;
        if !self.waiting {
            let mut once = Once { socket, filled: false };
            match self.connection.read_tls(&mut once) {
                Ok(0) => return Ok(Received::End),
                Ok(_) => more = once.filled,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Ok(Received::Bytes { count: 0, more: false });
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {
                    return Ok(Received::Bytes { count: 0, more: true });
                }
                Err(error) => return Err(Failure::Socket(error)),
            }
            match self.connection.process_new_packets() {
                // The end, which no event will announce, is seen by reading on.
                Ok(state) => more |= state.peer_has_closed(),
                Err(error) => {
                    // The other end may care to know why.
                    let _ = self.connection.write_tls(socket);
                    return Err(Failure::Tls(self.failed(&error)));
                }
            }
        }
        match self.connection.reader().read(room) {
            // It has said that it is done.
            Ok(0) => Ok(Received::End),
            Ok(count) => {
                // It cannot be told but by trying whether that was all, if there was no more room.
                // The rest is there at once or never, whatever the socket has.
                more |= self.waiting;
                self.waiting = count == room.len();
                Ok(Received::Bytes { count, more: more || self.waiting })
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                more |= std::mem::take(&mut self.waiting);
                Ok(Received::Bytes { count: 0, more })
            }
            Err(error) => Err(Failure::Socket(error)),
        }
    }

    /// The fault that `error` is, of which everything that is known is kept.
    fn failed(&self, error: &rustls::Error) -> TlsFault {
        let fault = fault_of(error);
        if let Some(evidence) = &self.evidence
            // Of a certificate the verifier has kept more.
            && !(matches!(error, rustls::Error::InvalidCertificate(_))
                && evidence.of(fault).is_some())
        {
            evidence.keep(fault, of_handshake(error).unwrap_or_else(|| fault.text().to_owned()));
        }
        fault
    }

    /// Returns the text of `fault`, by which the session has failed.
    pub fn evidence(&self, fault: TlsFault) -> Option<String> {
        self.evidence.as_ref()?.of(fault)
    }

    /// Takes plain bytes to be sent, as many as make a record; returns how many. None before the
    /// handshake is over, and none while something is to be written.
    pub fn seal(&mut self, bytes: &[u8]) -> usize {
        if !self.is_open() || self.wants_write() {
            return 0;
        }
        let count = bytes.len().min(SEALED_MAX);
        // Writing into memory does not fail.
        self.connection.writer().write(&bytes[..count]).unwrap_or(0)
    }

    /// Writes once from the pending bytes.
    ///
    /// # Errors
    /// The socket's.
    pub fn write(&mut self, socket: &mut impl Write) -> io::Result<usize> {
        self.connection.write_tls(socket)
    }

    /// Tells the other end that nothing more comes, if it can be told at once.
    pub fn end(&mut self, socket: &mut impl Write) {
        if self.is_open() {
            self.connection.send_close_notify();
            let _ = self.connection.write_tls(socket);
        }
    }
}

/// Notes whether a socket gave as much as it was asked for.
struct Once<'a, S> {
    socket: &'a mut S,
    filled: bool,
}

impl<S: Read> Read for Once<'_, S> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let count = self.socket.read(room)?;
        self.filled = count == room.len();
        Ok(count)
    }
}
