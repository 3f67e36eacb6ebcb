//! The sockets of the engine's connections to upstreams.
//!
//! The engine chooses the connection for a query; this module opens its socket if there is none.
//! Sockets are in a table indexed like the engine's slab, and the id in each slot must match, so
//! that a closed connection is not found.

use super::fault_of;
use super::tcp::{Progress, TcpConnection};
use super::token::Token;
use super::upstream_http::HttpConnection;
use super::upstream_quic::QuicConnection;
use crate::clock::Clock;
use crate::control::snapshot::Ports;
use crate::engine::errors::Fault;
use crate::engine::key::Way;
use crate::engine::proxy::WRITTEN_LEN_MAX;
use crate::engine::{ConnectionId, Dial, Forwarder, Outgoing};
use crate::moment::Moment;
use crate::quic::{Dialer, Timers};
use crate::sys::mmsg::RecvBatch;
use crate::sys::{random, socket};
use crate::tls::{Clients, Setup};
use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Interest, Registry};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;

/// A socket to an upstream.
pub(super) enum Socket {
    /// UDP, connected, so that the kernel drops packets from other addresses.
    Datagrams {
        socket: UdpSocket,
        /// GSO may be used.
        segments: bool,
    },
    /// The same, to an upstream whose datagrams begin with a header of the PROXY protocol.
    Headed {
        socket: UdpSocket,
        /// GSO may be used.
        segments: bool,
    },
    /// TCP or TLS, established or connecting.
    Tcp(Box<TcpConnection>),
    /// HTTP over TLS.
    Http(Box<HttpConnection>),
    /// QUIC, with TLS in it.
    Quic(Box<QuicConnection>),
}

impl Socket {
    /// Returns the connection of TCP that carries its bytes; `None`: there are datagrams.
    pub(super) fn tcp(&mut self) -> Option<&mut TcpConnection> {
        match self {
            Self::Datagrams { .. } | Self::Headed { .. } | Self::Quic(_) => None,
            Self::Tcp(connection) => Some(connection),
            Self::Http(connection) => Some(&mut connection.tcp),
        }
    }

    fn port(&self) -> Option<u16> {
        let address = match self {
            Self::Datagrams { socket, .. } | Self::Headed { socket, .. } => socket.local_addr(),
            Self::Tcp(connection) => connection.socket.local_addr(),
            Self::Http(connection) => connection.tcp.socket.local_addr(),
            Self::Quic(connection) => connection.socket.local_addr(),
        };
        address.ok().map(|address| address.port())
    }
}

/// Maximum number of sockets whose port is requested at once, which takes some hundred
/// microseconds.
const PORTS_ASKED_MAX: usize = 1_024;

struct Slot {
    id: ConnectionId,
    socket: Socket,
    /// Local port, once it was requested.
    port: Option<u16>,
    /// The socket is in the queue of those to be read.
    queued: bool,
    /// Entry in the table of deadlines.
    due: Option<Moment>,
}

/// The upstream sockets of a worker.
pub(super) struct Sockets {
    slots: Vec<Option<Slot>>,
    /// True if GSO is supported and enabled.
    segments: bool,
    /// Upstreams to which the kernel has refused GSO.
    unsegmented: Vec<SocketAddr>,
    /// TLS client settings of the upstreams.
    tls: Clients,
    /// Parameters of connections over QUIC.
    dialer: Option<Dialer>,
    /// Deadlines of connections over QUIC and HTTP.
    timers: Timers,
}

impl Sockets {
    /// Creates a table for connections numbered below `capacity`. `gso`: queries of equal length
    /// may be sent with one call.
    pub(super) fn new(capacity: usize, gso: bool, setup: &Setup, clock: Clock) -> Self {
        let segments = gso && socket::can_segment();
        let slots = std::iter::repeat_with(|| None).take(capacity).collect();
        let tls = Clients::new(setup, &Clients::default());
        let seed = random::seed().expect("the kernel has given randomness before");
        let dialer = clock.instant(Moment::ZERO).map(|origin| Dialer::new(&seed, origin));
        let (unsegmented, timers) = (Vec::new(), Timers::default());
        Self { slots, segments, unsegmented, tls, dialer, timers }
    }

    /// Grows the table for connections numbered below `capacity`, and changes to the TLS settings
    /// of `setup`. GSO is tried again for all upstreams.
    pub(super) fn reload(&mut self, capacity: usize, setup: &Setup) {
        self.unsegmented.clear();
        self.slots.resize_with(capacity.max(self.slots.len()), || None);
        self.tls = Clients::new(setup, &self.tls);
    }

    /// Returns the bytes reserved by the table.
    pub(super) fn reserved(&self) -> usize {
        self.slots.capacity() * size_of::<Option<Slot>>()
    }

    /// Returns the socket of `id`, and opens and registers it if there is none. `first`: the query
    /// that it is opened for. `None`: the engine has closed the connection meanwhile.
    ///
    /// # Errors
    /// No descriptor or port is left, or there is no route.
    pub(super) fn open(
        &mut self,
        (id, now): (ConnectionId, Moment),
        first: Option<&Outgoing>,
        engine: &Forwarder,
        registry: &Registry,
    ) -> io::Result<Option<&mut Socket>> {
        if self.get(id).is_none() {
            let socket = self.dial((id, now), first, engine, registry)?;
            let Some(socket) = socket else { return Ok(None) };
            let slot = Slot { id, socket, port: None, queued: false, due: None };
            if let Some(mut replaced) = self.slots[id.index()].replace(slot) {
                self.timers.remove(id.0.index, &mut replaced.due);
                replaced.end();
            }
        }
        Ok(self.get(id))
    }

    fn dial(
        &self,
        (id, now): (ConnectionId, Moment),
        first: Option<&Outgoing>,
        engine: &Forwarder,
        registry: &Registry,
    ) -> io::Result<Option<Socket>> {
        let Some(dial) = engine.address(id) else { return Ok(None) };
        if dial.way == Some(Way::Quic) {
            let quic = self.dial_quic((id, now), first, engine, registry)?;
            return Ok(Some(Socket::Quic(Box::new(quic))));
        }
        let Dial { upstream, source, gso, http, proxied, .. } = dial;
        let token = Token::Connection(id).pack();
        if engine.is_tcp(id) {
            let mut connection = TcpStream::from_std(socket::tcp_connecting(*upstream, *source)?);
            registry.register(&mut connection, token, Interest::READABLE | Interest::WRITABLE)?;
            let number = engine.upstream_at(id);
            let session = number.and_then(|number| self.tls.session(number));
            let mut connection = TcpConnection::new(connection, true, session);
            if *proxied {
                let mut header = [0; WRITTEN_LEN_MAX];
                let len = engine.proxy_header(first, &mut header);
                connection.begin_with(&header[..len]);
            }
            return Ok(Some(match http {
                None => Socket::Tcp(Box::new(connection)),
                Some(target) => {
                    Socket::Http(Box::new(HttpConnection::new(connection, Arc::clone(target))))
                }
            }));
        }
        let socket = socket::udp_connected(*upstream, *source)?;
        registry.register(&mut SourceFd(&socket.as_raw_fd()), token, Interest::READABLE)?;
        let segments = *gso && self.segments && !self.unsegmented.contains(upstream);
        Ok(Some(match proxied {
            false => Socket::Datagrams { socket, segments },
            true => Socket::Headed { socket, segments },
        }))
    }

    fn dial_quic(
        &self,
        (id, now): (ConnectionId, Moment),
        first: Option<&Outgoing>,
        engine: &Forwarder,
        registry: &Registry,
    ) -> io::Result<QuicConnection> {
        let number = engine.upstream_at(id);
        let (Some(Dial { upstream, source, proxied, .. }), Some(dialer), Some(handshake)) = (
            engine.address(id),
            &self.dialer,
            number.and_then(|number| self.tls.handshake(number)),
        ) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let socket = socket::udp_connected(*upstream, *source)?;
        // A header in front makes datagrams longer than what each path carries unfragmented.
        if !*proxied {
            socket::dont_fragment(&socket, *upstream)?;
        }
        let token = Token::Connection(id).pack();
        registry.register(&mut SourceFd(&socket.as_raw_fd()), token, Interest::READABLE)?;
        let mut header = [0; WRITTEN_LEN_MAX];
        let len = if *proxied { engine.proxy_header(first, &mut header) } else { 0 };
        QuicConnection::dial(now, (socket, *upstream), header[..len].into(), handshake, dialer)
    }

    /// Stops using GSO for the upstream of `id`, because the kernel has refused it.
    pub(super) fn refuse_segments(&mut self, id: ConnectionId, engine: &Forwarder) {
        if let Some(Socket::Datagrams { segments, .. } | Socket::Headed { segments, .. }) =
            self.get(id)
        {
            *segments = false;
        }
        let upstream = engine.address(id).map(|dial| dial.upstream);
        if let Some(upstream) = upstream.filter(|upstream| !self.unsegmented.contains(upstream)) {
            self.unsegmented.push(upstream);
        }
    }

    /// Returns the socket of `id`; `None` if it was closed.
    pub(super) fn get(&mut self, id: ConnectionId) -> Option<&mut Socket> {
        let slot = self.slots.get_mut(id.index()).and_then(Option::as_mut);
        slot.filter(|slot| slot.id == id).map(|slot| &mut slot.socket)
    }

    /// Adds the source ports of all sockets. Each is requested from the kernel once, and at most
    /// [`PORTS_ASKED_MAX`] at a time, so that queries do not wait for long.
    pub(super) fn add_ports(&mut self, ports: &mut Ports) {
        let mut left = PORTS_ASKED_MAX;
        for slot in self.slots.iter_mut().flatten() {
            if slot.port.is_none() && left > 0 {
                left -= 1;
                slot.port = slot.socket.port();
            }
            slot.port.inspect(|port| ports.insert(*port));
        }
    }

    /// Marks the socket of `id` as queued or not. Returns true if that changed.
    pub(super) fn set_queued(&mut self, id: ConnectionId, queued: bool) -> bool {
        let slot = self.slots.get_mut(id.index()).and_then(Option::as_mut);
        let Some(slot) = slot.filter(|slot| slot.id == id) else { return false };
        std::mem::replace(&mut slot.queued, queued) != queued
    }

    /// Closes the socket of `id`, if it has one.
    pub(super) fn close(&mut self, id: ConnectionId) {
        let closed = self.slots[id.index()].take_if(|slot| slot.id == id);
        if let Some(mut slot) = closed {
            self.timers.remove(id.0.index, &mut slot.due);
            slot.end();
        }
    }

    /// Enters the deadline of the connection `id`, if it has one that is earlier than its entry.
    pub(super) fn note_deadline(&mut self, id: ConnectionId) {
        let slot = self.slots.get_mut(id.index()).and_then(Option::as_mut);
        let Some(Slot { socket, due, .. }) = slot.filter(|slot| slot.id == id) else { return };
        let next = match socket {
            Socket::Quic(connection) => connection.next_deadline(),
            Socket::Http(connection) => connection.next_deadline(),
            Socket::Datagrams { .. } | Socket::Headed { .. } | Socket::Tcp(_) => return,
        };
        self.timers.set(id.0.index, due, next);
    }

    /// Returns the first deadline of all connections.
    pub(super) fn next_deadline(&self) -> Option<Moment> {
        self.timers.first()
    }

    /// Returns a connection whose deadline has passed.
    pub(super) fn next_overdue(&mut self, now: Moment) -> Option<ConnectionId> {
        let index = self.timers.next(now)?;
        let slot = self.slots.get_mut(index as usize)?.as_mut()?;
        slot.due = None;
        Some(slot.id)
    }
}

impl Slot {
    /// Closes the socket; over TLS, sends a close_notify first.
    fn end(self) {
        // What is unsent is forgotten first, because the close_notify would count as that.
        match self.socket {
            Socket::Datagrams { .. } | Socket::Headed { .. } => {}
            Socket::Tcp(mut connection) => {
                let _ = socket::forget_unsent(&connection.socket);
                connection.end();
            }
            Socket::Http(mut connection) => {
                let _ = socket::forget_unsent(&connection.tcp.socket);
                connection.end();
            }
            Socket::Quic(mut connection) => connection.end(),
        }
    }
}

/// Reads one batch from a connected socket on which `expected` responses are outstanding. No more
/// datagrams are requested, because finding the queue empty costs half as much as reading one more;
/// if none is expected, the queue is emptied.
///
/// # Errors
/// An ICMP error for the socket.
pub(super) fn receive_datagrams(
    batch: &mut RecvBatch,
    socket: BorrowedFd<'_>,
    expected: usize,
) -> Result<Progress, Fault> {
    let most = if expected == 0 { batch.capacity() } else { expected.min(batch.capacity()) };
    match batch.recv_up_to(socket, most) {
        Ok(count) if count == most => Ok(Progress::More),
        Ok(_) => Ok(Progress::Blocked),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Progress::Blocked),
        Err(error) => {
            // Datagrams queued behind the error are still valid.
            let _ = batch.recv(socket);
            Err(fault_of(&error))
        }
    }
}
