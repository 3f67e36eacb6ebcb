//! One probe: a socket of its own, a query, and an answer or a failure.
//!
//! Each probe has a new socket, so it has a new source port and is independent of the pools'
//! connections. It uses UDP unless the block forces TCP or the upstream uses TLS or QUIC, whose
//! handshake is part of the connect stage. Nothing here waits: the owner calls [`Probe::on_ready`]
//! when the socket is ready, and [`Probe::on_due`] at its deadline. As in the reference, the
//! deadline limits each stage (connect, write, read), so that no upstream can hold a probe for
//! ever.

use super::call::Call;
use super::quic::QuicProbe;
use super::wire::{Failure, READ_TIMEOUT, STRAYS_MAX, Wire, unless_blocked};
use crate::config::HttpTarget;
use crate::engine::frame::{Inbox, Outbox};
use crate::engine::health::query::ProbeQuery;
use crate::engine::proxy::{self, WRITTEN_LEN_MAX};
use crate::moment::Moment;
use crate::quic::Dialer;
use crate::sys::socket;
use crate::tls::Client;
use mio::net::{TcpStream, UdpSocket};
use mio::{Interest, Registry, Token};
use std::io::{self, ErrorKind, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Time limit of the connect stage, including the TLS handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Time limit of the write stage.
const WRITE_TIMEOUT: Duration = Duration::from_secs(1);
/// Maximum length of a message.
pub(super) const MESSAGE_LEN_MAX: usize = 65_535;

/// Route of an upstream's probes.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) upstream: SocketAddr,
    /// Source address; `None`: the kernel chooses.
    pub(super) source: Option<IpAddr>,
    pub(super) over_tcp: bool,
    /// Requests that carry the probes; `None`: the upstream does not speak HTTP.
    pub(super) http: Option<Arc<HttpTarget>>,
    /// Datagrams and connections begin with a header of the PROXY protocol, which names no client.
    pub(super) proxied: bool,
}

/// A probe in progress.
pub(super) struct Probe {
    link: Link,
    deadline: Moment,
    strays: u32,
}

enum Link {
    Datagram(UdpSocket),
    Quic(Box<QuicProbe>),
    Stream { stream: Wire, stage: Stage, http: Option<Arc<HttpTarget>> },
}

enum Stage {
    Connecting { proxied: bool },
    Handshaking,
    Writing(Outbox),
    Reading(Inbox),
    Calling(Box<Call>),
}

impl Probe {
    /// Begins to send `query` by `route`, over TLS or QUIC if there is a `client`. Events of its
    /// socket carry `token`.
    ///
    /// # Errors
    /// No socket is available, or there is no route to the upstream.
    pub(super) fn begin(
        now: Moment,
        route: &Route,
        (client, dialer): (Option<&Client>, Option<&Dialer>),
        query: &ProbeQuery,
        registry: &Registry,
        token: Token,
    ) -> Result<Self, Failure> {
        let Route { upstream, source, over_tcp, ref http, proxied } = *route;
        let handshake = client.and_then(Client::handshake);
        let (link, timeout) = if let (Some(handshake), Some(dialer)) = (handshake, dialer) {
            let socket = socket::udp_connected(upstream, source)?;
            if !proxied {
                socket::dont_fragment(&socket, upstream)?;
            }
            let mut socket = UdpSocket::from_std(socket);
            registry.register(&mut socket, token, Interest::READABLE)?;
            let header = if proxied { header() } else { Vec::new() };
            let socket = (socket, upstream);
            let probe = QuicProbe::begin(now, socket, header.into(), handshake, dialer)?;
            (Link::Quic(Box::new(probe)), CONNECT_TIMEOUT)
        } else if over_tcp {
            let session = client.map(Client::session);
            let mut stream = TcpStream::from_std(socket::tcp_connecting(upstream, source)?);
            registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
            let stream = Wire::new(stream, session);
            let http = http.clone();
            (Link::Stream { stream, stage: Stage::Connecting { proxied }, http }, CONNECT_TIMEOUT)
        } else {
            let mut socket = UdpSocket::from_std(socket::udp_connected(upstream, source)?);
            registry.register(&mut socket, token, Interest::READABLE)?;
            match proxied {
                false => socket.send(query.as_bytes())?,
                true => socket.send(&[&header()[..], query.as_bytes()].concat())?,
            };
            (Link::Datagram(socket), READ_TIMEOUT)
        };
        Ok(Self { link, deadline: now.plus(timeout), strays: 0 })
    }

    /// Ends a probe whose outcome is not needed.
    pub(super) fn end(&mut self, now: Moment) {
        if let Link::Quic(probe) = &mut self.link {
            probe.end(now);
        }
    }

    /// Returns the time of the next call of [`Probe::on_due`].
    pub(super) fn due(&self) -> Moment {
        match &self.link {
            Link::Quic(probe) => probe.due().map_or(self.deadline, |due| due.min(self.deadline)),
            _ => self.deadline,
        }
    }

    /// Handles the time given by [`Probe::due`]. True: `query` was answered. `buffer` is lent, of
    /// [`MESSAGE_LEN_MAX`] bytes.
    ///
    /// # Errors
    /// The probe has failed.
    pub(super) fn on_due(
        &mut self,
        now: Moment,
        query: &ProbeQuery,
        buffer: &mut [u8],
    ) -> Result<bool, Failure> {
        match &mut self.link {
            Link::Quic(probe) if now < self.deadline => probe.go_on(now, query, buffer),
            Link::Quic(probe) => {
                probe.end(now);
                Err(Failure::TimedOut)
            }
            _ => Err(Failure::TimedOut),
        }
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
        let (stream, stage, http) = match &mut self.link {
            Link::Datagram(socket) => return receive(socket, query, buffer, &mut self.strays),
            Link::Quic(probe) => {
                let was_connected = probe.is_connected();
                let outcome = probe.go_on(now, query, buffer);
                if probe.is_connected() && !was_connected {
                    self.deadline = now.plus(READ_TIMEOUT);
                }
                return outcome;
            }
            Link::Stream { stream, stage, http } => (stream, stage, http),
        };
        if let Stage::Connecting { proxied } = stage {
            if !is_connected(&stream.socket)? {
                return Ok(false);
            }
            // The buffer of a new socket has room for a header.
            if *proxied && stream.socket.write(&header())? < header().len() {
                return Err(Failure::Io(ErrorKind::WriteZero.into()));
            }
            *stage = Stage::Handshaking;
        }
        if let Stage::Handshaking = stage {
            if !stream.shake_hands()? {
                return Ok(false);
            }
            *stage = match http {
                None => Stage::Writing(framed(query)),
                Some(target) => Stage::Calling(Box::new(Call::begin(stream, target, query))),
            };
            self.deadline = now.plus(WRITE_TIMEOUT);
        }
        if let Stage::Writing(outbox) = stage {
            if !stream.write(outbox)? {
                return Ok(false);
            }
            *stage = Stage::Reading(Inbox::default());
            self.deadline = now.plus(READ_TIMEOUT);
        }
        match stage {
            Stage::Reading(inbox) => read(stream, inbox, query, &mut self.strays),
            Stage::Calling(call) => call.go_on(now, stream, query, &mut self.deadline),
            _ => Ok(false),
        }
    }
}

/// Returns a header of the PROXY protocol that names no client.
fn header() -> Vec<u8> {
    let mut header = vec![0; WRITTEN_LEN_MAX];
    let len = proxy::write(None, &mut header);
    header.truncate(len);
    header
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

fn is_answer(query: &ProbeQuery, message: &[u8], strays: &mut u32) -> Result<bool, Failure> {
    if query.is_answered_by(message) {
        return Ok(true);
    }
    *strays += 1;
    if *strays < STRAYS_MAX { Ok(false) } else { Err(Failure::Strays) }
}
