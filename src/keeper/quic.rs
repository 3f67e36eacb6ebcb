//! A probe over QUIC (RFC 9250): a connection of its own, and one query on a stream.
//!
//! The deadlines of the connection, which repeat lost packets, are within those of the probe. At
//! its end, a probe closes its connection, because the upstream would keep it until its idle
//! time-out.

use super::wire::Failure;
use crate::engine::errors::{QuicFault, TlsFault};
use crate::engine::health::query::ProbeQuery;
use crate::moment::Moment;
use crate::quic::{self, Client, Dialer, End, Progress};
use crate::sys::random;
use crate::sys::socket::is_passing;
use crate::tls::Handshake;
use mio::net::UdpSocket;
use std::io;
use std::net::SocketAddr;

/// A probe that is being sent, or awaits its reply.
pub(super) struct QuicProbe {
    socket: UdpSocket,
    /// Bytes in front of each datagram.
    header: Box<[u8]>,
    client: Client,
    tls: Handshake,
    is_connected: bool,
    is_called: bool,
    /// Next deadline of the connection.
    due: Option<Moment>,
    /// Error of the socket.
    error: Option<io::Error>,
}

impl QuicProbe {
    /// Begins a connection to `upstream` on `socket`, which is connected there.
    ///
    /// # Errors
    /// The kernel does not accept the first datagram, or there is no randomness.
    pub(super) fn begin(
        now: Moment,
        (socket, upstream): (UdpSocket, SocketAddr),
        header: Box<[u8]>,
        tls: Handshake,
        dialer: &Dialer,
    ) -> Result<Self, Failure> {
        let client = dialer.dial(now, upstream, (tls.config(), &tls.name()), random::seed()?);
        let client = client.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let mut probe = Self {
            socket,
            header,
            client,
            tls,
            is_connected: false,
            is_called: false,
            due: None,
            error: None,
        };
        probe.transmit(now, &mut Vec::new());
        probe.error.take().map_or(Ok(probe), |error| Err(Failure::Io(error)))
    }

    /// Returns the next deadline of the connection.
    pub(super) fn due(&self) -> Option<Moment> {
        self.due
    }

    /// Returns true if the handshake is complete and the query was sent.
    pub(super) fn is_connected(&self) -> bool {
        self.is_connected
    }

    /// Continues after an event of the socket, or at a deadline. True: `query` was answered.
    /// `buffer` is lent.
    ///
    /// # Errors
    /// The probe has failed.
    pub(super) fn go_on(
        &mut self,
        now: Moment,
        query: &ProbeQuery,
        buffer: &mut [u8],
    ) -> Result<bool, Failure> {
        let outcome = self.progress(now, query, buffer);
        if !matches!(outcome, Ok(false)) {
            self.end(now);
        }
        outcome
    }

    /// Closes the connection.
    pub(super) fn end(&mut self, now: Moment) {
        self.client.close(now, quic::code::NONE);
        self.transmit(now, &mut Vec::new());
    }

    fn progress(
        &mut self,
        now: Moment,
        query: &ProbeQuery,
        buffer: &mut [u8],
    ) -> Result<bool, Failure> {
        if self.due.is_some_and(|due| due <= now) {
            self.client.on_time(now);
        }
        loop {
            match self.socket.recv(buffer) {
                Ok(len) => {
                    self.client.receive(now, &buffer[..len]);
                    if !self.is_connected {
                        self.tls.note();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if is_passing(&error) => {}
                // Datagrams behind the error are valid.
                Err(error) => _ = self.error.get_or_insert(error),
            }
        }
        while let Some(progress) = self.client.next(now) {
            match progress {
                Progress::Connected { .. } => self.is_connected = true,
                Progress::Reply(_, message) => {
                    let mut message = message.to_vec();
                    message
                        .iter_mut()
                        .zip(query.as_bytes())
                        .take(2)
                        .for_each(|(own, id)| *own = *id);
                    return match query.is_answered_by(&message) {
                        true => Ok(true),
                        false => Err(Failure::Quic(QuicFault::Mismatch)),
                    };
                }
                Progress::Failed(_, quic::Refusal::Load) => {
                    return Err(Failure::Quic(QuicFault::Refused));
                }
                Progress::Failed(..) => return Err(Failure::Quic(QuicFault::Reset)),
                Progress::Over(end) => return Err(self.failure(end)),
            }
        }
        // A server that grants no stream at first may do so later.
        self.is_called = self.is_called || self.client.call(query.as_bytes()).is_some();
        self.transmit(now, &mut Vec::new());
        self.error.take().map_or(Ok(false), |error| Err(Failure::Io(error)))
    }

    /// Sends the datagrams that are due.
    fn transmit(&mut self, now: Moment, buffer: &mut Vec<u8>) {
        let Self { socket, header, client, error, .. } = self;
        client.transmit(now, buffer, |datagram| {
            let sent = socket.send(&[&**header, datagram].concat());
            if let Err(failed) = sent
                && !is_passing(&failed)
            {
                error.get_or_insert(failed);
            }
        });
        self.due = self.client.next_deadline();
    }

    fn failure(&self, end: End) -> Failure {
        let fault = match end {
            End::Closed if self.is_connected => return Failure::Closed,
            End::Closed => TlsFault::Unfinished,
            End::Reset => return Failure::Io(io::ErrorKind::ConnectionReset.into()),
            End::Silence => return Failure::TimedOut,
            End::Load => return Failure::Quic(QuicFault::Refused),
            End::Violation => return Failure::Quic(QuicFault::Violation),
            End::Handshake(alert) => self.tls.failed(alert),
            End::Alert(alert) => self.tls.refused(alert),
            End::Version => self.tls.unknown_version(),
        };
        Failure::Tls(fault, self.tls.evidence(fault))
    }
}
