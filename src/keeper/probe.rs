//! One probe: a socket of its own, a query, and an answer or a failure.
//!
//! Each probe has a new socket, so it has a new source port and is independent of the pools'
//! connections. It uses UDP unless the block forces TCP or the upstream uses TLS, whose handshake
//! is part of the connect stage. Nothing here waits: the owner calls [`Probe::on_ready`] when the
//! socket is ready and gives up at [`Probe::deadline`]. As in the reference, the deadline limits
//! each stage (connect, write, read), so that no upstream can hold a probe for ever.

use crate::engine::errors::TlsFault;
use crate::engine::frame::{Inbox, Outbox};
use crate::engine::health::query::ProbeQuery;
use crate::moment::Moment;
use crate::sys::socket;
use crate::tls::{self, Received, Session};
use mio::net::{TcpStream, UdpSocket};
use mio::{Interest, Registry, Token};
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Time limit of the connect stage, including the TLS handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Time limit of the write stage.
const WRITE_TIMEOUT: Duration = Duration::from_secs(1);
/// Time limit of the read stage.
const READ_TIMEOUT: Duration = Duration::from_secs(1);
/// Maximum number of messages that are not the answer, after which a probe fails: a bound on the
/// cost of a flood of forged responses.
pub(super) const STRAYS_MAX: u32 = 64;
/// Maximum length of a message.
pub(super) const MESSAGE_LEN_MAX: usize = 65_535;

/// Reason why a probe failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// No answer in time.
    TimedOut,
    /// The upstream ended the connection.
    Closed,
    /// Too many messages that are not the answer.
    Strays,
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

/// Route of an upstream's probes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) upstream: SocketAddr,
    /// Source address; `None`: the kernel chooses.
    pub(super) source: Option<IpAddr>,
    pub(super) over_tcp: bool,
}

/// A probe in progress.
pub(super) struct Probe {
    link: Link,
    deadline: Moment,
    strays: u32,
}

enum Link {
    Datagram(UdpSocket),
    Stream { stream: Wire, stage: Stage },
}

enum Stage {
    Connecting,
    Handshaking,
    Writing(Outbox),
    Reading(Inbox),
}

impl Probe {
    /// Begins to send `query` by `route`, over TLS if there is a `session`. Events of its socket
    /// carry `token`.
    ///
    /// # Errors
    /// No socket is available, or there is no route to the upstream.
    pub(super) fn begin(
        now: Moment,
        route: Route,
        session: Option<Session>,
        query: &ProbeQuery,
        registry: &Registry,
        token: Token,
    ) -> Result<Self, Failure> {
        let Route { upstream, source, over_tcp } = route;
        let (link, timeout) = if over_tcp {
            let mut stream = TcpStream::from_std(socket::tcp_connecting(upstream, source)?);
            registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
            let stream = Wire { socket: stream, session: session.map(Box::new) };
            (Link::Stream { stream, stage: Stage::Connecting }, CONNECT_TIMEOUT)
        } else {
            let mut socket = UdpSocket::from_std(socket::udp_connected(upstream, source)?);
            registry.register(&mut socket, token, Interest::READABLE)?;
            socket.send(query.as_bytes())?;
            (Link::Datagram(socket), READ_TIMEOUT)
        };
        Ok(Self { link, deadline: now.plus(timeout), strays: 0 })
    }

    /// Returns the time at which the probe fails without a further event.
    pub(super) fn deadline(&self) -> Moment {
        self.deadline
    }

    /// Handles an event of the socket. True: `query` was answered. `buffer` is lent, of
    /// [`MESSAGE_LEN_MAX`] bytes.
    ///
    /// # Errors
    /// The probe has failed.
    pub(super) fn on_ready(
        &mut self,
        now: Moment,
        query: &ProbeQuery,
        buffer: &mut [u8],
    ) -> Result<bool, Failure> {
        let (stream, stage) = match &mut self.link {
            Link::Datagram(socket) => return receive(socket, query, buffer, &mut self.strays),
            Link::Stream { stream, stage } => (stream, stage),
        };
        if let Stage::Connecting = stage {
            if !is_connected(&stream.socket)? {
                return Ok(false);
            }
            *stage = Stage::Handshaking;
        }
        if let Stage::Handshaking = stage {
            if !stream.shake_hands()? {
                return Ok(false);
            }
            *stage = Stage::Writing(framed(query));
            self.deadline = now.plus(WRITE_TIMEOUT);
        }
        if let Stage::Writing(outbox) = stage {
            if !stream.write(outbox)? {
                return Ok(false);
            }
            *stage = Stage::Reading(Inbox::default());
            self.deadline = now.plus(READ_TIMEOUT);
        }
        let Stage::Reading(inbox) = stage else { return Ok(false) };
        read(stream, inbox, query, &mut self.strays)
    }
}

/// Reads datagrams until one is the answer or there are no more.
fn receive(
    socket: &UdpSocket,
    query: &ProbeQuery,
    buffer: &mut [u8],
    strays: &mut u32,
) -> Result<bool, Failure> {
    while let Some(len) = unless_blocked(|| socket.recv(buffer))? {
        if is_answer(query, &buffer[..len], strays)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Reads from the connection until a message is the answer or there is no more for now.
fn read(
    stream: &mut Wire,
    inbox: &mut Inbox,
    query: &ProbeQuery,
    strays: &mut u32,
) -> Result<bool, Failure> {
    while let Some(count) = stream.read(inbox.room())? {
        inbox.filled(count);
        // No length in two bytes is larger than the buffer.
        while let Ok(Some(message)) = inbox.next(MESSAGE_LEN_MAX) {
            if is_answer(query, message, strays)? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Returns true if the connection is established; an event may arrive before that.
fn is_connected(stream: &TcpStream) -> io::Result<bool> {
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    match stream.peer_addr() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotConnected => Ok(false),
        Err(error) => Err(error),
    }
}

/// Returns the query with its length prefix for TCP.
fn framed(query: &ProbeQuery) -> Outbox {
    let (message, mut outbox) = (query.as_bytes(), Outbox::default());
    let copy = |room: &mut [u8]| {
        room.copy_from_slice(message);
        message.len()
    };
    outbox.push(message.len(), 0, copy).expect("nothing waits in a new outbox");
    outbox
}

/// A connection, over TLS or plain TCP.
struct Wire {
    socket: TcpStream,
    session: Option<Box<Session>>,
}

impl Wire {
    /// Continues the handshake, if there is one. True when it is complete.
    fn shake_hands(&mut self) -> Result<bool, Failure> {
        loop {
            let flushed = self.flush()?;
            let Self { socket, session: Some(session) } = self else { return Ok(true) };
            if !flushed || session.is_open() {
                return Ok(flushed);
            }
            // No application data precedes the end of the handshake.
            match session.receive(socket, &mut [0]) {
                Ok(Received::Bytes { more, .. }) => {
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
        let Self { socket, session } = self;
        while let Some(session) = session.as_mut().filter(|session| session.wants_write()) {
            if unless_blocked(|| session.write(socket))?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Writes pending data. True when all of it has been taken.
    fn write(&mut self, outbox: &mut Outbox) -> io::Result<bool> {
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
    fn read(&mut self, room: &mut [u8]) -> Result<Option<usize>, Failure> {
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

fn is_answer(query: &ProbeQuery, message: &[u8], strays: &mut u32) -> Result<bool, Failure> {
    if query.is_answered_by(message) {
        return Ok(true);
    }
    *strays += 1;
    if *strays < STRAYS_MAX { Ok(false) } else { Err(Failure::Strays) }
}

/// Repeats a call after EINTR; `None`: it would block.
fn unless_blocked(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<Option<usize>> {
    loop {
        match call() {
            Ok(count) => return Ok(Some(count)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
