//! Datagrams out to many peers on several sockets, from buffers of the batch's own.
//!
//! Replies are sent grouped by socket. If segmentation is allowed, replies to one peer from one
//! address are also put next to each other, the longest first, so that those of equal length are
//! joined into one send: clients that are forwarders send many queries from one port.

use super::{STAGGER, Sent, empty_headers, empty_iovec, segments, send_wired, wire_iovecs};
use crate::sys::address::RawAddress;
use crate::sys::control::Control;
use crate::sys::pktinfo::{self, Local};
use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

/// Number of flushes without joined sends after the kernel has refused one: the refusal may have
/// concerned the route to one peer of many, and if it concerns all routes, rare attempts are cheap.
const ALONE: u32 = 1_024;

/// Order of sending: by socket, and if replies may be joined, by peer, the longest first. Peers may
/// have equal numbers, which only prevents joins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Order(u64);

impl Order {
    const SLOT_BITS: u32 = 16;
    const LENGTH_BITS: u32 = 12;
    const PEER_BITS: u32 = 20;

    fn new(socket: u16, slot: u16) -> Self {
        Self(u64::from(socket) << (u64::BITS - u16::BITS) | u64::from(slot))
    }

    /// Order among replies that may be joined.
    fn beside(self, peer: &RawAddress, length: usize) -> Self {
        let peer = peer.digest() >> (u64::BITS - Self::PEER_BITS);
        let longest = (1 << Self::LENGTH_BITS) - 1;
        let shortness = longest - (length as u64).min(longest);
        Self(self.0 | (peer << Self::LENGTH_BITS | shortness) << Self::SLOT_BITS)
    }

    fn socket(self) -> u16 {
        (self.0 >> (u64::BITS - u16::BITS)) as u16
    }

    fn slot(self) -> usize {
        usize::from(self.0 as u16)
    }

    /// Returns the common parameters of replies to one peer on one socket.
    fn way(self) -> u64 {
        self.0 >> (Self::SLOT_BITS + Self::LENGTH_BITS)
    }
}

/// A reply that waits in a slot of a [`ReplyBatch`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Filled {
    order: Order,
    name_length: u8,
    control_length: u8,
}

/// Collects replies to many peers and sends them with one call per socket.
pub struct ReplyBatch {
    headers: Vec<libc::mmsghdr>,
    iovecs: Vec<libc::iovec>,
    /// The iovecs in the order of sending.
    ordered: Vec<libc::iovec>,
    names: Vec<RawAddress>,
    controls: Vec<Control>,
    filled: Vec<Filled>,
    length: usize,
    segmented: bool,
    /// Number of coming flushes without joined sends.
    alone: u32,
    _buffers: Vec<u8>,
}

impl ReplyBatch {
    /// Creates a batch of `capacity` (at most 65,535) replies of up to `length` bytes. `segmented`:
    /// those of equal length to one peer may be joined.
    pub fn new(capacity: usize, length: usize, segmented: bool) -> Self {
        assert!(u16::try_from(capacity).is_ok(), "a batch has at most 65,535 slots");
        let mut buffers = vec![0u8; capacity * (length + STAGGER)];
        let iovecs = wire_iovecs(&mut buffers, capacity, length);
        Self {
            headers: empty_headers(capacity),
            iovecs,
            ordered: vec![empty_iovec(); capacity],
            names: vec![RawAddress::empty(); capacity],
            controls: vec![Control::empty(); capacity],
            filled: Vec::with_capacity(capacity),
            length,
            segmented,
            alone: 0,
            _buffers: buffers,
        }
    }

    /// Returns the bytes that it has reserved.
    pub(crate) fn reserved(&self) -> usize {
        let iovecs = size_of_val(&*self.iovecs) + size_of_val(&*self.ordered);
        let addresses = size_of_val(&*self.names) + size_of_val(&*self.controls);
        let filled = self.filled.capacity() * size_of::<Filled>();
        size_of_val(&*self.headers) + iovecs + addresses + filled + self._buffers.len()
    }

    /// Returns true if no slot is left: flush before the next [`ReplyBatch::buffer`].
    pub fn is_full(&self) -> bool {
        self.filled.len() == self.headers.len()
    }

    /// Returns true if nothing waits to be sent.
    pub(crate) fn is_empty(&self) -> bool {
        self.filled.is_empty()
    }

    /// Returns the next free slot's buffer, to write a reply into before [`ReplyBatch::commit`].
    pub fn buffer(&mut self) -> &mut [u8] {
        let place = self.iovecs[self.filled.len()].iov_base.cast::<u8>();
        // SAFETY: the buffer holds `length` initialised bytes, lives as long as `self`, and is
        // reached through nothing else while `self` is borrowed.
        unsafe { std::slice::from_raw_parts_mut(place, self.length) }
    }

    /// Queues the first `length` bytes of [`ReplyBatch::buffer`] for `peer` on the caller's
    /// socket number `socket`, from `local` if given.
    pub fn commit(&mut self, length: usize, socket: u16, peer: &SocketAddr, local: Option<Local>) {
        let slot = self.filled.len();
        self.iovecs[slot].iov_len = length.min(self.length);
        let (name, name_length) = RawAddress::encode(peer);
        self.names[slot] = name;
        let control_length =
            local.map_or(0, |local| pktinfo::encode(&local, &mut self.controls[slot]));
        let mut order = Order::new(socket, slot as u16);
        if self.segmented {
            order = order.beside(&self.names[slot], length);
        }
        self.filled.push(Filled {
            order,
            name_length: name_length as u8,
            control_length: control_length as u8,
        });
    }

    /// Sends all replies, one call per socket (more when the kernel takes a part), and empties the
    /// batch. `socket` returns the descriptor of a socket number. If the kernel refuses to segment
    /// a send, its datagrams are sent one by one.
    ///
    /// A full socket buffer drops the rest for that socket: a client that gets no reply retries.
    /// Any other error concerns only the first remaining datagram (an unreachable or forbidden
    /// peer), which is skipped.
    pub fn flush<'fd>(&mut self, socket: impl Fn(u16) -> BorrowedFd<'fd>) -> Sent {
        self.filled.sort_unstable();
        for (ordered, filled) in self.ordered.iter_mut().zip(&self.filled) {
            *ordered = self.iovecs[filled.order.slot()];
        }
        let mut total = Sent::default();
        let mut start = 0;
        while let Some(first) = self.filled.get(start) {
            let number = first.order.socket();
            let others = self.filled[start..].iter();
            let count = others.take_while(|filled| filled.order.socket() == number).count();
            self.send(socket(number), start, start + count, &mut total);
            start += count;
        }
        self.filled.clear();
        self.alone = if total.refused { ALONE } else { self.alone.saturating_sub(1) };
        total
    }

    /// Sends the replies from `next` to `end` in the order of sending, all on one socket.
    fn send(&mut self, socket: BorrowedFd<'_>, mut next: usize, end: usize, total: &mut Sent) {
        let mut segmented = self.segmented && self.alone == 0;
        // The first reply of a joined send that the kernel refused.
        let mut doubtful = None;
        while next < end {
            let headers = self.wire(next, end, segmented);
            let outcome = send_wired(socket, &mut self.headers[..headers], total);
            let sent = outcome.as_ref().map_or_else(|(count, _)| *count, |()| end - next);
            // If it can be sent alone, the join was refused; otherwise the peer was.
            total.refused |= sent > 0 && doubtful == Some(next);
            next += sent;
            let Err((_, error)) = outcome else { return };
            if error.kind() == io::ErrorKind::WouldBlock {
                total.dropped += end - next;
                return;
            }
            if segmented && self.joined_at(next, end) > 1 {
                (segmented, doubtful) = (false, Some(next));
            } else {
                total.dropped += 1;
                next += 1;
            }
        }
    }

    /// Points headers to the replies from `next` to `end`; returns the number of headers.
    fn wire(&mut self, mut next: usize, end: usize, segmented: bool) -> usize {
        let mut count = 0;
        while next < end {
            let run = if segmented { self.joined_at(next, end) } else { 1 };
            let Filled { order, name_length, control_length } = self.filled[next];
            let slot = order.slot();
            let (control, mut used) = (&mut self.controls[slot], usize::from(control_length));
            if run > 1 {
                used = segments::encode(self.ordered[next].iov_len, used, control);
            }
            let message = &mut self.headers[count].msg_hdr;
            message.msg_name = (&raw mut self.names[slot]).cast();
            message.msg_namelen = name_length.into();
            message.msg_iov = &raw mut self.ordered[next];
            message.msg_iovlen = run as _;
            message.msg_control = match used {
                0 => std::ptr::null_mut(),
                _ => (&raw mut *control).cast(),
            };
            message.msg_controllen = used as _;
            next += run;
            count += 1;
        }
        count
    }

    /// Returns the number of the replies from `first` to `end` that are sent as one batch with the
    /// first.
    fn joined_at(&self, first: usize, end: usize) -> usize {
        let others = (first..end).take_while(|other| self.go_one_way(first, *other));
        segments::run(others.map(|index| self.ordered[index].iov_len))
    }

    /// Returns true if two replies go to one peer, from one address.
    fn go_one_way(&self, one: usize, other: usize) -> bool {
        let (one, other) = (&self.filled[one], &self.filled[other]);
        let (a, b) = (one.order.slot(), other.order.slot());
        let name = |slot: usize| self.names[slot].bytes();
        let control = |slot: usize| self.controls[slot].messages(one.control_length.into());
        a == b
            || one.order.way() == other.order.way()
                && one.control_length == other.control_length
                && name(a) == name(b)
                && control(a) == control(b)
    }
}
