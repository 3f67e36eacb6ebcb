//! The floor: the kernel's cost of moving the packets, and nothing else.
//!
//! `relay` receives datagrams from clients, replaces their IDs and sends them to an upstream;
//! replies go to the client recorded for the ID. `responder` returns each query with one record
//! added. Neither parses, checks, counts, retries or times out: no forwarder with the same calls
//! can cost less, and any cost beyond the floor is that of a forwarder's own work. Loop, sockets,
//! batches and buffers are those of a plain program and of the forwarder itself (`onward::sys`):
//! one epoll, edge-triggered, up to 64 datagrams per call, one connected socket to each upstream,
//! used in turn. With `--gso`, datagrams of equal length to one destination are sent with one call.
//!
//!     cargo run --release --example floor -- relay [--gso] LISTEN UPSTREAM...
//!     cargo run --release --example floor -- responder LISTEN
//!
//! The program serves until killed. It is not safe for real use: a forged response is passed on,
//! and a client whose ID was reused gets another client's response. Used by `benches/peers/run`.

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use onward::sys::mmsg::{QueryBatch, RecvBatch, ReplyBatch};
use onward::sys::socket;
use std::cmp::Reverse;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// Datagrams per call, and bytes read of each: the forwarder's own limits.
const BATCH: usize = 64;
const DATAGRAM_LEN_MAX: usize = 2048;
/// Events per call of `epoll_wait`.
const EVENTS: usize = 256;
/// Number of IDs of outstanding queries.
const IDS: usize = 1 << 16;
/// Length of an OPT record without options, with which each query to the responder ends.
const OPT_LEN: usize = 11;
/// An address record of the question's name: A, IN, a day, 192.0.2.1.
const RECORD: &[u8; 16] = b"\xc0\x0c\0\x01\0\x01\0\x01\x51\x80\0\x04\xc0\0\x02\x01";

fn main() -> io::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["relay", "--gso", listen, ref upstreams @ ..] => relay(listen, upstreams, true),
        ["relay", listen, ref upstreams @ ..] => relay(listen, upstreams, false),
        ["responder", listen] => respond(address(listen)?),
        _ => Err(usage()),
    }
}

fn relay(listen: &str, upstreams: &[&str], gso: bool) -> io::Result<()> {
    if upstreams.is_empty() {
        return Err(usage());
    }
    let upstreams = upstreams.iter().map(|text| address(text)).collect::<io::Result<Vec<_>>>()?;
    Relay::new(address(listen)?, &upstreams, gso)?.serve()
}

fn usage() -> io::Error {
    invalid("usage: floor relay [--gso] LISTEN UPSTREAM... | floor responder LISTEN")
}

fn address(text: &str) -> io::Result<SocketAddr> {
    text.parse().map_err(|_| invalid(&format!("`{text}` is no address and port")))
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

/// Client of an ID, and its original ID.
#[derive(Clone, Copy)]
struct Asked {
    peer: SocketAddr,
    id: [u8; 2],
}

/// The relay between clients and upstreams.
struct Relay {
    listener: UdpSocket,
    upstreams: Vec<UdpSocket>,
    poll: Poll,
    inbox: RecvBatch,
    responses: RecvBatch,
    replies: ReplyBatch,
    outbox: QueryBatch,
    gso: bool,
    /// Queries with their new ids.
    packets: Vec<[u8; DATAGRAM_LEN_MAX]>,
    /// Upstream, length and position of each query in the batch.
    batch: Vec<Query>,
    asked: Vec<Option<Asked>>,
    id: u16,
    /// Index of the next upstream.
    turn: usize,
}

/// A query, ordered by sending: grouped by upstream, the longest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Query {
    upstream: usize,
    length: Reverse<usize>,
    packet: usize,
}

impl Relay {
    fn new(listen: SocketAddr, upstreams: &[SocketAddr], gso: bool) -> io::Result<Self> {
        let listener = socket::udp_listener(listen, false)?;
        let connected = upstreams.iter().map(|&upstream| socket::udp_connected(upstream, None));
        let upstreams = connected.collect::<io::Result<Vec<_>>>()?;
        // One socket carries what a forwarder spreads over many.
        upstreams.iter().try_for_each(socket::widen_receive_buffer)?;
        let poll = Poll::new()?;
        watch(&poll, 0, &listener)?;
        for (number, upstream) in upstreams.iter().enumerate() {
            watch(&poll, number + 1, upstream)?;
        }
        Ok(Self {
            listener,
            upstreams,
            poll,
            inbox: RecvBatch::new(BATCH, DATAGRAM_LEN_MAX, true),
            responses: RecvBatch::new(BATCH, DATAGRAM_LEN_MAX, false),
            replies: ReplyBatch::new(BATCH, DATAGRAM_LEN_MAX, gso),
            outbox: QueryBatch::new(BATCH),
            gso,
            packets: vec![[0; DATAGRAM_LEN_MAX]; BATCH],
            batch: Vec::with_capacity(BATCH),
            asked: vec![None; IDS],
            id: 0,
            turn: 0,
        })
    }

    /// Receives one batch from each ready socket, repeatedly.
    fn serve(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        let mut ready = vec![false; self.upstreams.len() + 1];
        loop {
            // Edge-triggered: a socket with more data gets no further event.
            let wait = if ready.contains(&true) { Some(std::time::Duration::ZERO) } else { None };
            self.poll.poll(&mut events, wait)?;
            events.iter().for_each(|event| ready[event.token().0] = true);
            if ready[0] {
                ready[0] = self.take_queries();
            }
            for number in 0..self.upstreams.len() {
                if ready[number + 1] {
                    ready[number + 1] = self.take_responses(number);
                }
            }
            self.replies.flush(|_| self.listener.as_fd());
        }
    }

    /// Relays one batch from clients to upstreams; returns true if there may be more.
    fn take_queries(&mut self) -> bool {
        let received = receive(&mut self.inbox, self.listener.as_fd());
        self.batch.clear();
        for number in 0..received {
            let datagram = self.inbox.datagram(number);
            let packet = &mut self.packets[number];
            let length = datagram.bytes.len();
            packet[..length].copy_from_slice(datagram.bytes);
            self.turn = (self.turn + 1) % self.upstreams.len();
            self.batch.push(Query { upstream: self.turn, length: Reverse(length), packet: number });
            let id = [packet[0], packet[1]];
            packet[..2].copy_from_slice(&self.id.to_be_bytes());
            let asked = datagram.peer.map(|peer| Asked { peer, id });
            self.asked[usize::from(self.id)] = asked;
            self.id = self.id.wrapping_add(1);
        }
        if self.gso || self.upstreams.len() > 1 {
            self.batch.sort_unstable();
        }
        for group in self.batch.chunk_by(|a, b| a.upstream == b.upstream) {
            let upstream = self.upstreams[group[0].upstream].as_fd();
            let packets = group.iter().map(|query| &self.packets[query.packet][..query.length.0]);
            // Datagrams that an upstream refuses are lost.
            let _ = self.outbox.send(upstream, packets, self.gso);
        }
        received == BATCH
    }

    /// Relays one batch from an upstream to clients; returns true if there may be more.
    fn take_responses(&mut self, number: usize) -> bool {
        let received = receive(&mut self.responses, self.upstreams[number].as_fd());
        for number in 0..received {
            let response = self.responses.datagram(number).bytes;
            let Some((id, _)) = response.split_first_chunk() else { continue };
            let Some(asked) = self.asked[usize::from(u16::from_be_bytes(*id))] else { continue };
            if self.replies.is_full() {
                self.replies.flush(|_| self.listener.as_fd());
            }
            let reply = self.replies.buffer();
            reply[..response.len()].copy_from_slice(response);
            reply[..2].copy_from_slice(&asked.id);
            self.replies.commit(response.len(), 0, &asked.peer, None);
        }
        received == BATCH
    }
}

/// Returns each query with the record between its question and its OPT.
fn respond(listen: SocketAddr) -> io::Result<()> {
    let socket = socket::udp_listener(listen, false)?;
    let mut poll = Poll::new()?;
    watch(&poll, 0, &socket)?;
    let mut events = Events::with_capacity(EVENTS);
    let mut inbox = RecvBatch::new(BATCH, DATAGRAM_LEN_MAX, true);
    let mut replies = ReplyBatch::new(BATCH, DATAGRAM_LEN_MAX, false);
    loop {
        poll.poll(&mut events, None)?;
        let mut more = true;
        while more {
            let received = receive(&mut inbox, socket.as_fd());
            for number in 0..received {
                let datagram = inbox.datagram(number);
                let Some(peer) = datagram.peer else { continue };
                if let Some(length) = answer(datagram.bytes, replies.buffer()) {
                    replies.commit(length, 0, &peer, None);
                }
            }
            replies.flush(|_| socket.as_fd());
            more = received == BATCH;
        }
    }
}

/// Writes the query as a response with one record; `None` if its length does not allow that.
fn answer(query: &[u8], response: &mut [u8]) -> Option<usize> {
    let (question, opt) = query.split_at_checked(query.len().checked_sub(OPT_LEN)?)?;
    let (head, rest) = response.split_at_mut_checked(question.len())?;
    let (record, rest) = rest.split_at_mut_checked(RECORD.len())?;
    head.copy_from_slice(question);
    // QR; RA; one answer.
    let flags = head.get_mut(2..8)?;
    flags[0] |= 0x80;
    flags[1] |= 0x80;
    flags[5] = 1;
    record.copy_from_slice(RECORD);
    rest.get_mut(..OPT_LEN)?.copy_from_slice(opt);
    Some(query.len() + RECORD.len())
}

fn watch(poll: &Poll, number: usize, socket: &UdpSocket) -> io::Result<()> {
    poll.registry().register(&mut SourceFd(&socket.as_raw_fd()), Token(number), Interest::READABLE)
}

/// Returns the number of datagrams received; pending socket errors are ignored.
fn receive(batch: &mut RecvBatch, socket: BorrowedFd<'_>) -> usize {
    batch.recv(socket).unwrap_or(0)
}
