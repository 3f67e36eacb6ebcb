//! Sockets and counters of one address, and its datagrams.
//!
//! One batch of datagrams is received and answered a turn, so that a busy endpoint cannot starve
//! the others. The datagrams are messages, or packets of QUIC.

use super::delayed::{Delayed, Recipient};
use super::desk::{Desk, Fate};
use super::forge;
use super::quic::QuicPeers;
use super::sources::Sources;
use super::{Counts, Seen};
use crate::moment::Moment;
use crate::quic::Outgoing;
use crate::sys::mmsg::{RecvBatch, ReplyBatch};
use crate::sys::pktinfo::Local;
use crate::traffic::wire::u16_at;
use mio::net::TcpListener;
use mio::unix::SourceFd;
use mio::{Interest, Poll, Token};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};

/// The sockets of one address.
pub(super) struct Binding {
    pub(super) address: SocketAddr,
    pub(super) datagrams: UdpSocket,
    pub(super) acceptor: TcpListener,
}

/// Sockets and counters of one address.
pub(super) struct Endpoint {
    pub(super) socket: UdpSocket,
    pub(super) acceptor: TcpListener,
    pub(super) ready: bool,
    pub(super) seen: Seen,
    /// Number of flows of datagrams.
    pub(super) flows: u64,
    /// Connections over QUIC; `None`: datagrams are messages.
    pub(super) quic: Option<QuicPeers>,
}

impl Endpoint {
    pub(super) fn new(
        binding: Binding,
        number: usize,
        poll: &Poll,
        quic: Option<QuicPeers>,
    ) -> io::Result<Self> {
        let Binding { address, datagrams: socket, mut acceptor } = binding;
        let (datagrams, accepts) = (Token(2 * number), Token(2 * number + 1));
        let fd = socket.as_raw_fd();
        poll.registry().register(&mut SourceFd(&fd), datagrams, Interest::READABLE)?;
        poll.registry().register(&mut acceptor, accepts, Interest::READABLE)?;
        let seen = Seen { address, counts: Counts::default(), sources: Sources::default() };
        Ok(Self { socket, acceptor, ready: false, seen, flows: 0, quic })
    }

    /// Receives one batch and answers it; this is endpoint number `number`.
    pub(super) fn turn(
        &mut self,
        number: u16,
        batch: &mut RecvBatch,
        replies: &mut ReplyBatch,
        desk: &mut Desk,
        delayed: &mut Delayed,
        now: impl Fn() -> Moment,
    ) {
        // An error here is the ICMP error of an earlier response: the next call continues after it.
        let received = match batch.recv(self.socket.as_fd()) {
            Ok(received) => received,
            Err(error) => {
                self.ready = error.kind() != io::ErrorKind::WouldBlock;
                return;
            }
        };
        self.ready = received == batch.capacity();
        let now = now();
        let Seen { counts, sources, .. } = &mut self.seen;
        if let Some(quic) = &mut self.quic {
            for i in 0..received {
                quic.receive(now, &batch.datagram(i), |packet| {
                    put(packet, replies, &self.socket, counts);
                });
            }
            quic.serve(now, number, desk, delayed, counts);
            return self.transmit(now, replies);
        }
        counts.queries += received as u64;
        for i in 0..received {
            let datagram = batch.datagram(i);
            let Some(peer) = datagram.peer else { continue };
            let query = datagram.bytes;
            let begins = sources.note(peer.port(), u16_at(query, 0).unwrap_or(0), now);
            self.flows += u64::from(begins);
            for _ in 0..desk.spoofs(number.into(), query) {
                make_room(replies, &self.socket, counts);
                if let Some(length) = desk.spoof(query, replies.buffer()) {
                    replies.commit(length, 0, &peer, datagram.local);
                    counts.spoofed += 1;
                }
            }
            make_room(replies, &self.socket, counts);
            match desk.answer(number.into(), query, replies.buffer(), now, counts) {
                Fate::Nothing | Fate::Unanswerable => {}
                Fate::Send(length) => {
                    let length = forge::fit(query, replies.buffer(), length);
                    replies.commit(length, 0, &peer, datagram.local);
                }
                Fate::Later(length, due) => {
                    let length = forge::fit(query, replies.buffer(), length);
                    let local = datagram.local;
                    let recipient = Recipient::Peer { endpoint: number, peer, local };
                    let kept = delayed.push(due, &replies.buffer()[..length], recipient);
                    counts.dropped += u64::from(!kept);
                }
            }
        }
        flush(replies, &self.socket, counts);
    }

    /// Handles the deadlines of connections over QUIC that have passed.
    pub(super) fn on_time(
        &mut self,
        now: Moment,
        number: u16,
        desk: &mut Desk,
        delayed: &mut Delayed,
        replies: &mut ReplyBatch,
    ) {
        let Some(quic) = &mut self.quic else { return };
        if quic.next_deadline().is_some_and(|due| due <= now) {
            quic.on_time(now);
        }
        quic.serve(now, number, desk, delayed, &mut self.seen.counts);
        self.transmit(now, replies);
    }

    /// Sends the packets of QUIC that are due.
    fn transmit(&mut self, now: Moment, replies: &mut ReplyBatch) {
        let Self { quic: Some(quic), socket, .. } = self else { return };
        // Packets are no responses.
        let mut packets = Counts::default();
        quic.transmit(now, |packet| put(&packet, replies, socket, &mut packets));
        flush(replies, socket, &mut packets);
    }
}

/// Adds a packet of QUIC to those that wait.
fn put(packet: &Outgoing<'_>, replies: &mut ReplyBatch, socket: &UdpSocket, counts: &mut Counts) {
    make_room(replies, socket, counts);
    let Outgoing { peer, local, bytes } = packet;
    // Link-local addresses belong to an interface, which is that of the client's address.
    let interface = match peer {
        SocketAddr::V6(peer) => peer.scope_id(),
        SocketAddr::V4(_) => 0,
    };
    let room = replies.buffer();
    let length = bytes.len().min(room.len());
    room[..length].copy_from_slice(&bytes[..length]);
    replies.commit(length, 0, peer, local.map(|ip| Local { ip, interface }));
}

/// Sends the waiting replies if there is no room for another.
pub(super) fn make_room(replies: &mut ReplyBatch, socket: &UdpSocket, counts: &mut Counts) {
    if replies.is_full() {
        flush(replies, socket, counts);
    }
}

pub(super) fn flush(replies: &mut ReplyBatch, socket: &UdpSocket, counts: &mut Counts) {
    if !replies.is_empty() {
        let outcome = replies.flush(|_| socket.as_fd());
        counts.responses += outcome.sent as u64;
        counts.dropped += outcome.dropped as u64;
    }
}
