//! The sockets of a worker's listeners, and which of them may have something to read.
//!
//! Owns the sockets of each listener (UDP, TCP or both; UDP with one message in a datagram, or with
//! packets of QUIC), the queue of UDP sockets to be read, and
//! the flags of TCP sockets with connections to accept. Listeners survive a panic of the event
//! loop, so that queries in the kernel's queues are not lost; [`Listeners::queue_all`] then queues
//! every socket, because the events of some have been consumed. A listener that a reload removed
//! stops reading and stays open until its last replies are sent. Nothing here reads a packet.

use super::token::Token;
use crate::config::QUERY_TIMEOUT;
use crate::control::{Assignment, Sockets};
use crate::engine::key::RelayKey;
use crate::engine::proxy::datagrams::Datagrams;
use crate::moment::Moment;
use crate::sys::socket;
use mio::net::TcpListener;
use mio::unix::SourceFd;
use mio::{Interest, Registry};
use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;

/// The sockets of one listener.
struct Listening {
    /// The UDP socket, unless its datagrams are packets of QUIC, or may begin with headers of the
    /// PROXY protocol.
    datagrams: Option<UdpSocket>,
    /// The UDP socket, if its datagrams may begin with these headers.
    proxied: Option<UdpSocket>,
    /// State of these headers. It stays as long as the listener, also over a reload without the
    /// directive, because replies to proxies may be under way.
    headers: Option<Box<Datagrams>>,
    /// Datagrams may begin with headers now.
    has_headers: bool,
    /// The UDP socket, if its datagrams are packets of QUIC, which may also begin with these
    /// headers.
    packets: Option<UdpSocket>,
    acceptor: Option<TcpListener>,
}

impl Listening {
    /// Registers the sockets of a listener for reading; all are non-blocking.
    fn register(
        (number, protocol, socket, acceptor): Sockets,
        registry: &Registry,
    ) -> io::Result<Self> {
        let mut acceptor = acceptor.map(TcpListener::from_std);
        if let Some(socket) = &socket {
            let mut source = SourceFd(&socket.as_raw_fd());
            registry.register(&mut source, Token::Datagrams(number).pack(), Interest::READABLE)?;
        }
        let (datagrams, packets) = if protocol.is_quic() { (None, socket) } else { (socket, None) };
        if let Some(acceptor) = &mut acceptor {
            registry.register(acceptor, Token::Acceptor(number).pack(), Interest::READABLE)?;
        }
        Ok(Self { datagrams, proxied: None, headers: None, has_headers: false, packets, acceptor })
    }

    /// Returns the UDP socket.
    fn socket(&self) -> Option<&UdpSocket> {
        self.datagrams.as_ref().or(self.proxied.as_ref()).or(self.packets.as_ref())
    }

    /// Stops reading from the sockets; replies may still be sent. Later events must be ignored.
    fn deregister(&mut self, registry: &Registry) {
        if let Some(datagrams) = self.socket() {
            let _ = registry.deregister(&mut SourceFd(&datagrams.as_raw_fd()));
        }
        if let Some(acceptor) = &mut self.acceptor {
            let _ = registry.deregister(acceptor);
        }
    }
}

/// The listeners of a worker, by number.
pub(super) struct Listeners {
    /// `None`: the slot has no sockets.
    sockets: Vec<Option<Listening>>,
    /// Listeners that may have datagrams to read.
    ready: VecDeque<usize>,
    queued: Vec<bool>,
    /// Listeners that may have connections to accept.
    accepting: Vec<bool>,
    /// Time at which the sockets of removed listeners are closed.
    removed_until: Option<Moment>,
}

impl Listeners {
    /// Registers the first sockets of a worker with `count` listeners.
    ///
    /// # Errors
    /// The kernel has no memory for the registration.
    pub(super) fn new(
        count: usize,
        sockets: Vec<Sockets>,
        registry: &Registry,
    ) -> io::Result<Self> {
        let mut listeners = Self {
            sockets: std::iter::repeat_with(|| None).take(count).collect(),
            ready: VecDeque::new(),
            queued: vec![false; count],
            accepting: vec![false; count],
            removed_until: None,
        };
        for own in sockets {
            let number = own.0;
            listeners.sockets[number] = Some(Listening::register(own, registry)?);
        }
        Ok(listeners)
    }

    /// Queues all sockets.
    pub(super) fn queue_all(&mut self) {
        self.ready = (0..self.sockets.len()).collect();
        self.queued.fill(true);
        self.accepting.fill(true);
    }

    /// Queues the UDP socket of listener number `number` for reading.
    pub(super) fn queue(&mut self, number: usize) {
        if !std::mem::replace(&mut self.queued[number], true) {
            self.ready.push_back(number);
        }
    }

    /// Puts the UDP socket of listener number `number` at the head of the queue.
    pub(super) fn queue_first(&mut self, number: usize) {
        if std::mem::replace(&mut self.queued[number], true) {
            self.ready.retain(|other| *other != number);
        }
        self.ready.push_front(number);
    }

    /// Returns true if the UDP socket of listener number `number` is in the queue.
    pub(super) fn is_queued(&self, number: usize) -> bool {
        self.queued[number]
    }

    /// Removes the listener at the head of the queue.
    pub(super) fn next_ready(&mut self) -> Option<usize> {
        let number = self.ready.pop_front()?;
        self.queued[number] = false;
        Some(number)
    }

    /// Returns the length of the queue.
    pub(super) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Marks the TCP socket of listener number `number` as having connections to accept.
    pub(super) fn note_connection(&mut self, number: usize) {
        self.accepting[number] = true;
    }

    /// Returns true if a UDP socket is queued, or a TCP socket may have connections to accept.
    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty() || self.accepting.contains(&true)
    }

    /// Calls `accept` for each TCP socket that may have connections, until it returns false.
    pub(super) fn accept_each(&mut self, mut accept: impl FnMut(usize, &TcpListener) -> bool) {
        for (number, ready) in self.accepting.iter_mut().enumerate() {
            let listening = self.sockets[number].as_ref().filter(|_| *ready);
            let acceptor = listening.and_then(|listening| listening.acceptor.as_ref());
            *ready = acceptor.is_some_and(|acceptor| accept(number, acceptor));
        }
    }

    /// Returns the UDP socket of listener number `number`, for reading. `None`: it has none, or its
    /// datagrams are [`Listeners::proxied`] or [`Listeners::packets`].
    pub(super) fn datagrams(&self, number: usize) -> Option<BorrowedFd<'_>> {
        let listening = self.sockets[number].as_ref()?;
        listening.datagrams.as_ref().map(AsFd::as_fd)
    }

    /// Returns the UDP socket of listener number `number`, for reading, and the state of its
    /// headers, if its datagrams may begin with headers of the PROXY protocol.
    pub(super) fn proxied(&mut self, number: usize) -> Option<(BorrowedFd<'_>, &mut Datagrams)> {
        let Listening { proxied, headers, .. } = self.sockets[number].as_mut()?;
        Some((proxied.as_ref()?.as_fd(), headers.as_mut()?))
    }

    /// Returns the UDP socket of listener number `number`, for replies.
    pub(super) fn socket(&self, number: usize) -> Option<BorrowedFd<'_>> {
        self.sockets[number].as_ref()?.socket().map(AsFd::as_fd)
    }

    /// Returns the address of the proxy that a reply on listener number `number` returns to.
    pub(super) fn relay(&self, number: u16, relay: RelayKey) -> Option<SocketAddr> {
        let listening = self.sockets.get(usize::from(number))?.as_ref()?;
        listening.headers.as_ref()?.sender(relay)
    }

    /// Applies the settings for headers of the PROXY protocol of `assignment`. `hasher` is keyed.
    pub(super) fn set_proxies(&mut self, assignment: &Assignment, hasher: &ahash::RandomState) {
        let Assignment { config, listeners, .. } = assignment;
        for (listening, number) in self.sockets.iter_mut().zip(listeners) {
            let (Some(listening), Some(number)) = (listening, number) else { continue };
            let settings = config.listeners[*number].proxies.as_ref();
            let Listening { datagrams, proxied, headers, has_headers, .. } = listening;
            let socket = datagrams.take().or(proxied.take());
            *has_headers = settings.is_some();
            let Some(settings) = settings else {
                *datagrams = socket;
                headers.iter_mut().for_each(|headers| headers.end_sessions(hasher));
                continue;
            };
            *proxied = socket;
            match headers {
                Some(headers) => headers.reload(settings, hasher),
                None => {
                    *headers = Some(Box::new(Datagrams::new(Arc::clone(settings), hasher)));
                }
            }
        }
    }

    /// Returns the UDP socket of listener number `number`, if it has packets of QUIC.
    pub(super) fn packets(&self, number: usize) -> Option<BorrowedFd<'_>> {
        let listening = self.sockets.get(number)?.as_ref()?;
        listening.packets.as_ref().map(AsFd::as_fd)
    }

    /// Returns the state of headers of the PROXY protocol on listener number `number`, if its
    /// datagrams may begin with some now.
    pub(super) fn headers(&mut self, number: usize) -> Option<&mut Datagrams> {
        let listening = self.sockets.get_mut(number)?.as_mut()?;
        listening.headers.as_deref_mut().filter(|_| listening.has_headers)
    }

    /// Returns true if listener number `number` has sockets.
    pub(super) fn has_sockets(&self, number: usize) -> bool {
        self.sockets[number].is_some()
    }

    /// Stops reading from all listeners.
    pub(super) fn deregister_all(&mut self, registry: &Registry) {
        self.sockets.iter_mut().flatten().for_each(|listening| listening.deregister(registry));
    }

    /// Stops reading from a listener that the new configuration does not have; its sockets are
    /// closed after the time for its last replies.
    pub(super) fn remove(&mut self, now: Moment, number: usize, registry: &Registry) {
        if let Some(listening) = &mut self.sockets[number] {
            listening.deregister(registry);
        }
        self.removed_until = Some(now.plus(QUERY_TIMEOUT));
    }

    /// Replaces the sockets of the listeners in `sockets`; the worker has at least `count`
    /// listeners then.
    pub(super) fn replace(&mut self, count: usize, sockets: Vec<Sockets>, registry: &Registry) {
        let replaced = sockets.iter().map(|(number, ..)| *number).collect::<Vec<_>>();
        // The keys of proxies stay valid, for the replies to queries on the old sockets.
        let headers =
            replaced.iter().map(|number| self.sockets.get_mut(*number)?.as_mut()?.headers.take());
        let headers = headers.collect::<Vec<_>>();
        self.close(|number| replaced.contains(&number));
        let count = count.max(self.sockets.len());
        self.sockets.resize_with(count, || None);
        self.queued.resize(count, false);
        self.accepting.resize(count, false);
        for (own, headers) in sockets.into_iter().zip(headers) {
            let number = own.0;
            let listening = Listening::register(own, registry);
            let listening = listening.expect("the kernel has memory for one more descriptor");
            self.sockets[number] = Some(Listening { headers, ..listening });
        }
    }

    /// Returns the time at which [`Listeners::close_removed`] must be called next.
    pub(super) fn removed_until(&self) -> Option<Moment> {
        self.removed_until
    }

    /// Closes the sockets of removed listeners after the time for their last replies. `numbers`:
    /// for each listener its number in the configuration, or `None`.
    pub(super) fn close_removed(&mut self, now: Moment, numbers: &[Option<usize>]) {
        if self.removed_until.is_some_and(|until| until <= now) {
            self.removed_until = None;
            self.close(|number| numbers.get(number).is_none_or(Option::is_none));
        }
    }

    /// Closes the sockets of these listeners and removes them from the queues.
    fn close(&mut self, which: impl Fn(usize) -> bool) {
        for number in (0..self.sockets.len()).filter(|number| which(*number)) {
            self.sockets[number] = None;
            self.queued[number] = false;
            self.accepting[number] = false;
            self.ready.retain(|other| *other != number);
        }
    }

    /// Returns the packets that the kernel dropped, by the listeners of a configuration with
    /// `count` of them. `numbers` is as for [`Listeners::close_removed`].
    pub(super) fn kernel_drops(&self, count: usize, numbers: &[Option<usize>]) -> Vec<u64> {
        let mut drops = vec![0; count];
        for (listening, number) in self.sockets.iter().zip(numbers) {
            if let (Some(listening), Some(number)) = (listening, number) {
                let lost = listening.socket().and_then(socket::drops);
                drops[*number] += lost.unwrap_or(0);
            }
        }
        drops
    }
}
