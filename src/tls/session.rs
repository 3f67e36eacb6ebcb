//! TLS of one connection: between a borrowed socket and the plaintext of the connection.
//!
//! One read and one write of the socket per call, each of bounded size, so that no peer monopolises
//! its worker. Decrypted bytes that do not fit into the caller's buffer wait here, a record at
//! most, and nothing more is read until they are taken. Plaintext is accepted only after the
//! handshake, and with it all verification, so none can be sent before that.

use super::fault::{Evidence, fault_of, of_handshake};
use crate::engine::errors::TlsFault;
use rustls::client::ClientConfig;
use rustls::pki_types::ServerName;
use rustls::server::ServerConfig;
use rustls::{ClientConnection, Connection, HandshakeKind, ServerConnection};
use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;

/// Maximum of plaintext bytes in one record (RFC 8446 §5.1).
const SEALED_MAX: usize = 1 << 14;

/// Result of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// Plaintext was read, perhaps zero bytes.
    Bytes {
        /// Number of bytes, at the beginning of the caller's buffer.
        count: usize,
        /// The session or the socket may have more.
        more: bool,
    },
    /// The peer has closed the session.
    End,
}

/// Reason why a session ended.
#[derive(Debug)]
pub enum Failure {
    /// The socket has failed.
    Socket(io::Error),
    /// TLS has failed; an alert was sent to the peer.
    Tls(TlsFault),
}

/// TLS session of one connection.
pub struct Session {
    connection: Connection,
    /// Decrypted bytes wait to be taken.
    waiting: bool,
    /// Store of the failure's text; none for clients.
    evidence: Option<Arc<Evidence>>,
}

impl Session {
    /// Creates a session with a server that must prove to be `name`.
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

    /// Creates a session with a client.
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

    /// Returns the maximum of bytes that a session can hold: an incoming record and a decrypted
    /// one, an outgoing record, and the largest handshake message.
    pub(crate) fn bytes_max() -> usize {
        const RECORD: usize = SEALED_MAX + 256;
        size_of::<Self>() + 3 * RECORD + (1 << 16)
    }

    /// Returns true if the handshake is over and the peer is verified.
    pub(crate) fn is_open(&self) -> bool {
        !self.connection.is_handshaking()
    }

    /// Returns true if an earlier session was resumed, which costs neither side a signature.
    pub(crate) fn is_resumed(&self) -> bool {
        self.connection.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Returns the protocol that both sides have agreed on (ALPN, RFC 7301), if any.
    pub(crate) fn protocol(&self) -> Option<&[u8]> {
        self.connection.alpn_protocol()
    }

    /// Returns true if something is to be written, such as handshake messages.
    pub fn wants_write(&self) -> bool {
        self.connection.wants_write()
    }

    /// Reads once, and puts plaintext into `room`, which is not empty.
    ///
    /// # Errors
    /// [`Failure`]: the session cannot be used any more.
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
                // After the peer has closed, no event announces the end: it is found by reading on.
                Ok(state) => more |= state.peer_has_closed(),
                Err(error) => {
                    // Sends the alert, which tells the peer why.
                    let _ = self.connection.write_tls(socket);
                    return Err(Failure::Tls(self.failed(&error)));
                }
            }
        }
        match self.connection.reader().read(room) {
            // The peer has sent close_notify.
            Ok(0) => Ok(Received::End),
            Ok(count) => {
                // If `room` is full, only another read shows whether there is more decrypted data.
                // That is there at once or never, independently of the socket.
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

    /// Returns the fault for `error`, and keeps its text.
    fn failed(&self, error: &rustls::Error) -> TlsFault {
        let fault = fault_of(error);
        if let Some(evidence) = &self.evidence
            // The verifier has kept a more specific text about the certificate.
            && !(matches!(error, rustls::Error::InvalidCertificate(_))
                && evidence.of(fault).is_some())
        {
            evidence.keep(fault, of_handshake(error).unwrap_or_else(|| fault.text().to_owned()));
        }
        fault
    }

    /// Returns the text of `fault`, if the session failed with it.
    pub(crate) fn evidence(&self, fault: TlsFault) -> Option<String> {
        self.evidence.as_ref()?.of(fault)
    }

    /// Takes plaintext to be sent, up to one record; returns the number of bytes. Takes none before
    /// the handshake is over, and none while something is to be written.
    pub(crate) fn seal(&mut self, bytes: &[u8]) -> usize {
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

    /// Sends close_notify to the peer, if that does not block.
    pub(crate) fn end(&mut self, socket: &mut impl Write) {
        if self.is_open() {
            self.connection.send_close_notify();
            let _ = self.connection.write_tls(socket);
        }
    }
}

/// Records whether a socket returned as much as was requested.
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
