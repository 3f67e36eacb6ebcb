//! Batches of datagrams: `recvmmsg` and `sendmmsg`.
//!
//! Three shapes, one per direction of travel. [`RecvBatch`] receives on any socket. [`ReplyBatch`]
//! collects replies to many peers, possibly on several sockets, in buffers of its own.
//! [`QueryBatch`] sends slices that somebody else owns over one connected socket, without a copy,
//! several of them as one where the kernel takes that apart. Buffers, iovecs and headers are wired
//! once, when a batch is made; per batch only lengths are reset. All are bounded by the capacity
//! they are made with, and none allocates after that.
//!
//! The memory is in `Vec`s whose contents are reached only through the pointers wired at the start,
//! so moving a batch moves no datagram.

use super::address::RawAddress;
use super::cvt;
use super::pktinfo::{self, Control, Local};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Buffers are this many bytes apart beyond their length: equal distances that are a power of
/// two would put the heads of all datagrams into the same few sets of the first-level cache.
const STAGGER: usize = 64;

/// One received datagram.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// Its payload, as much of it as the buffer held.
    pub bytes: &'a [u8],
    /// The payload was longer than the buffer.
    pub truncated: bool,
    /// Who sent it; `None` when the batch was made without addresses (connected sockets).
    pub peer: Option<SocketAddr>,
    /// The address it was sent to, when the socket asks the kernel for it.
    pub local: Option<Local>,
}

/// Receives up to a fixed number of datagrams in one call.
pub struct RecvBatch {
    headers: Vec<libc::mmsghdr>,
    received: usize,
    with_addresses: bool,
    _iovecs: Vec<libc::iovec>,
    _names: Vec<RawAddress>,
    _controls: Vec<Control>,
    _buffers: Vec<u8>,
}

impl RecvBatch {
    /// Room for `capacity` datagrams of `length` bytes each. `with_addresses`: learn the peer's
    /// and the local address too, which a connected socket need not pay for.
    pub fn new(capacity: usize, length: usize, with_addresses: bool) -> Self {
        let named = if with_addresses { capacity } else { 0 };
        let mut buffers = vec![0u8; capacity * (length + STAGGER)];
        let mut iovecs = wire_iovecs(&mut buffers, capacity, length);
        let mut names = vec![RawAddress::empty(); named];
        let mut controls = vec![Control::empty(); named];
        let mut headers = empty_headers(capacity);
        for (i, header) in headers.iter_mut().enumerate() {
            header.msg_hdr.msg_iov = &raw mut iovecs[i];
            header.msg_hdr.msg_iovlen = 1;
            if with_addresses {
                header.msg_hdr.msg_name = (&raw mut names[i]).cast();
                header.msg_hdr.msg_namelen = RawAddress::LEN;
                header.msg_hdr.msg_control = (&raw mut controls[i]).cast();
                header.msg_hdr.msg_controllen = Control::LEN;
            }
        }
        Self {
            headers,
            received: 0,
            with_addresses,
            _iovecs: iovecs,
            _names: names,
            _controls: controls,
            _buffers: buffers,
        }
    }

    /// The bytes that it has reserved.
    pub fn reserved(&self) -> usize {
        let wires = size_of_val(&*self.headers) + size_of_val(&*self._iovecs);
        let addresses = size_of_val(&*self._names) + size_of_val(&*self._controls);
        wires + addresses + self._buffers.len()
    }

    /// How many datagrams one call takes at most; fewer received means that the socket is drained.
    pub fn capacity(&self) -> usize {
        self.headers.len()
    }

    /// How many the last call has received.
    pub fn received(&self) -> usize {
        self.received
    }

    /// Receives what is there, without waiting; returns how many.
    ///
    /// # Errors
    /// `WouldBlock`: nothing is there. `ConnectionRefused` and the like on a connected socket:
    /// an earlier datagram was answered by an ICMP error, which this call has consumed; datagrams
    /// behind it are still to be received.
    pub fn recv(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        self.reset();
        let (fd, headers) = (socket.as_raw_fd(), self.headers.as_mut_ptr());
        let count = self.headers.len() as libc::c_uint;
        let flags = libc::MSG_DONTWAIT;
        let none = std::ptr::null_mut();
        self.received = cvt(|| {
            // SAFETY: `headers` are `count` headers wired to live memory of this batch.
            unsafe { libc::recvmmsg(fd, headers, count, flags, none) }
        })?;
        Ok(self.received)
    }

    /// Gives back to the kernel the lengths that the last call overwrote.
    fn reset(&mut self) {
        let used = std::mem::take(&mut self.received);
        if self.with_addresses {
            for header in &mut self.headers[..used] {
                header.msg_hdr.msg_namelen = RawAddress::LEN;
                header.msg_hdr.msg_controllen = Control::LEN;
            }
        }
    }

    /// The datagram at `index` of the last batch, below what [`RecvBatch::recv`] returned.
    #[inline]
    pub fn datagram(&self, index: usize) -> Datagram<'_> {
        let header = &self.headers[..self.received][index];
        let message = &header.msg_hdr;
        // SAFETY: msg_iov points to this batch's iovec, whose buffer lives as long as `self`.
        let iovec = unsafe { &*message.msg_iov };
        let length = (header.msg_len as usize).min(iovec.iov_len);
        // SAFETY: the buffer holds iov_len initialised bytes, and nobody writes while `self` is
        // borrowed: only `recv` does, which takes it mutably.
        let bytes = unsafe { std::slice::from_raw_parts(iovec.iov_base.cast::<u8>(), length) };
        let truncated = message.msg_flags & libc::MSG_TRUNC != 0;
        if !self.with_addresses {
            return Datagram { bytes, truncated, peer: None, local: None };
        }
        // SAFETY: msg_name points to this batch's RawAddress, initialised and alive.
        let peer = unsafe { &*message.msg_name.cast::<RawAddress>() }.decode();
        Datagram { bytes, truncated, peer, local: pktinfo::decode(message) }
    }
}

/// What became of the datagrams of a flush.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Handed to the kernel.
    pub sent: usize,
    /// Given up: the socket's buffer was full (WouldBlock) or this datagram was refused.
    pub dropped: usize,
    /// Those of the sent ones that left with others as one.
    pub joined: usize,
    /// The kernel would not take a send apart; what it consists of has left one by one.
    pub refused: bool,
}

/// A reply that waits in a slot of a [`ReplyBatch`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Filled {
    socket: u16,
    slot: u16,
    name_length: u8,
    control_length: u8,
}

/// Collects replies to many peers and sends them with one call per socket.
pub struct ReplyBatch {
    headers: Vec<libc::mmsghdr>,
    iovecs: Vec<libc::iovec>,
    names: Vec<RawAddress>,
    controls: Vec<Control>,
    filled: Vec<Filled>,
    length: usize,
    _buffers: Vec<u8>,
}

impl ReplyBatch {
    /// Room for `capacity` (at most 65,535) replies of up to `length` bytes.
    pub fn new(capacity: usize, length: usize) -> Self {
        assert!(u16::try_from(capacity).is_ok(), "a batch has at most 65,535 slots");
        let mut buffers = vec![0u8; capacity * (length + STAGGER)];
        let iovecs = wire_iovecs(&mut buffers, capacity, length);
        Self {
            headers: empty_headers(capacity),
            iovecs,
            names: vec![RawAddress::empty(); capacity],
            controls: vec![Control::empty(); capacity],
            filled: Vec::with_capacity(capacity),
            length,
            _buffers: buffers,
        }
    }

    /// The bytes that it has reserved.
    pub fn reserved(&self) -> usize {
        let wires = size_of_val(&*self.headers) + size_of_val(&*self.iovecs);
        let addresses = size_of_val(&*self.names) + size_of_val(&*self.controls);
        let filled = self.filled.capacity() * size_of::<Filled>();
        wires + addresses + filled + self._buffers.len()
    }

    /// No slot is left: flush before asking for another.
    pub fn is_full(&self) -> bool {
        self.filled.len() == self.headers.len()
    }

    /// Nothing waits to be sent.
    pub fn is_empty(&self) -> bool {
        self.filled.is_empty()
    }

    /// The next free slot's buffer, to write a reply into before [`ReplyBatch::commit`].
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
        self.filled.push(Filled {
            socket,
            slot: slot as u16,
            name_length: name_length as u8,
            control_length: control_length as u8,
        });
    }

    /// Sends all, one call per socket (more when the kernel takes a part), and empties the batch.
    /// `socket` finds the descriptor of a caller's socket number.
    ///
    /// A full socket buffer drops the rest for that socket: a client that gets no reply asks
    /// again. Any other error concerns the first datagram of the rest alone (an unreachable or
    /// forbidden peer), which is skipped.
    pub fn flush<'fd>(&mut self, socket: impl Fn(u16) -> BorrowedFd<'fd>) -> Sent {
        self.filled.sort_unstable();
        for (header, entry) in self.headers.iter_mut().zip(&self.filled) {
            let slot = usize::from(entry.slot);
            let message = &mut header.msg_hdr;
            message.msg_name = (&raw mut self.names[slot]).cast();
            message.msg_namelen = entry.name_length.into();
            message.msg_iov = &raw mut self.iovecs[slot];
            message.msg_iovlen = 1;
            message.msg_control = match entry.control_length {
                0 => std::ptr::null_mut(),
                _ => (&raw mut self.controls[slot]).cast(),
            };
            message.msg_controllen = entry.control_length.into();
        }
        let mut total = Sent::default();
        let mut rest = &mut self.headers[..];
        for group in self.filled.chunk_by(|a, b| a.socket == b.socket) {
            let (ready, behind) = rest.split_at_mut(group.len());
            let outcome = send_all(socket(group[0].socket), ready);
            total.sent += outcome.sent;
            total.dropped += outcome.dropped;
            rest = behind;
        }
        self.filled.clear();
        total
    }
}

/// Sends `headers`, each wired to live memory by the caller, skipping what the kernel refuses.
fn send_all(socket: BorrowedFd<'_>, headers: &mut [libc::mmsghdr]) -> Sent {
    let mut outcome = Sent::default();
    let mut rest = headers;
    while !rest.is_empty() {
        match send_some(socket, rest) {
            Ok(count) => {
                outcome.sent += count;
                rest = &mut rest[count..];
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                outcome.dropped += rest.len();
                break;
            }
            Err(_) => {
                outcome.dropped += 1;
                rest = &mut rest[1..];
            }
        }
    }
    outcome
}

/// One `sendmmsg`; the headers are wired to live memory by the caller. Never `Ok(0)`.
fn send_some(socket: BorrowedFd<'_>, headers: &mut [libc::mmsghdr]) -> io::Result<usize> {
    let fd = socket.as_raw_fd();
    let (start, count) = (headers.as_mut_ptr(), headers.len() as libc::c_uint);
    cvt(|| {
        // SAFETY: `start` are `count` headers whose pointers lead to live memory of the callers.
        unsafe { libc::sendmmsg(fd, start, count, libc::MSG_DONTWAIT) }
    })
}

/// A control message that has the kernel take a send apart (`UDP_SEGMENT`).
#[derive(Clone, Copy)]
#[repr(C)]
struct Segments {
    header: libc::cmsghdr,
    length: u16,
}

impl Segments {
    /// Into datagrams of so many bytes.
    const fn of(length: u16) -> Self {
        // SAFETY: CMSG_LEN only computes a length.
        let whole = unsafe { libc::CMSG_LEN(size_of::<u16>() as libc::c_uint) };
        let header = libc::cmsghdr {
            cmsg_len: whole as _,
            cmsg_level: libc::SOL_UDP,
            cmsg_type: libc::UDP_SEGMENT,
        };
        Self { header, length }
    }
}

/// The kernel takes one send apart into so many datagrams at most (`UDP_MAX_SEGMENTS`), which are
/// together no longer than one datagram can be.
const SEGMENTS_MAX: usize = 64;
const SEGMENTS_LEN_MAX: usize = 65_000;

/// Sends slices over one connected socket, without copying them.
///
/// Where that is allowed, slices of equal length that follow one another leave as one send, with a
/// shorter one behind them if there is one, and the kernel makes datagrams of it on the far side
/// of most of its work (UDP GSO).
pub struct QueryBatch {
    headers: Vec<libc::mmsghdr>,
    iovecs: Vec<libc::iovec>,
    segments: Vec<Segments>,
}

impl QueryBatch {
    /// Room for `capacity` datagrams a call.
    pub fn new(capacity: usize) -> Self {
        Self {
            headers: empty_headers(capacity),
            iovecs: vec![empty_iovec(); capacity],
            segments: vec![Segments::of(0); capacity],
        }
    }

    /// The bytes that it has reserved.
    pub fn reserved(&self) -> usize {
        size_of_val(&*self.headers) + size_of_val(&*self.iovecs) + size_of_val(&*self.segments)
    }

    /// Sends `packets` over the connected `socket`, in calls of at most the batch's capacity;
    /// `segmented`: those of equal length may leave together. What the kernel then refuses to take
    /// apart, as it does on routes of small MTU, through IPsec or past devices that sum up nothing,
    /// leaves one by one.
    ///
    /// A full socket buffer drops the rest; the retry of each query covers that.
    ///
    /// # Errors
    /// The connection cannot be used: an earlier datagram was refused (ICMP), the network or
    /// host is unreachable, the local address is gone. What was sent before stays sent.
    pub fn send<'a>(
        &mut self,
        socket: BorrowedFd<'_>,
        packets: impl IntoIterator<Item = &'a [u8]>,
        mut segmented: bool,
    ) -> io::Result<Sent> {
        let mut total = Sent::default();
        let mut packets = packets.into_iter();
        loop {
            let mut filled = 0;
            for (iovec, packet) in self.iovecs.iter_mut().zip(&mut packets) {
                iovec.iov_base = packet.as_ptr().cast_mut().cast();
                iovec.iov_len = packet.len();
                filled += 1;
            }
            let mut sent = 0;
            while sent < filled {
                let headers = self.wire(sent, filled, segmented);
                match send_wired(socket, &mut self.headers[..headers], &mut total) {
                    Ok(()) => sent = filled,
                    Err((count, error)) => {
                        sent += count;
                        if error.kind() == io::ErrorKind::WouldBlock {
                            total.dropped += filled - sent + packets.count();
                            return Ok(total);
                        }
                        if !segmented || !is_refusal(&error) {
                            return Err(error);
                        }
                        (segmented, total.refused) = (false, true);
                    }
                }
            }
            if filled < self.iovecs.len() {
                return Ok(total);
            }
        }
    }

    /// Has headers point to the packets from `start` to `end`, and returns how many it takes.
    fn wire(&mut self, start: usize, end: usize, segmented: bool) -> usize {
        let packets = self.iovecs.as_mut_ptr();
        let (mut next, mut count) = (start, 0);
        while next < end {
            let run = if segmented { run(&self.iovecs[next..end]) } else { 1 };
            let message = &mut self.headers[count].msg_hdr;
            message.msg_iov = packets.wrapping_add(next);
            message.msg_iovlen = run as _;
            if run > 1 {
                let segments = &mut self.segments[count];
                segments.length = self.iovecs[next].iov_len as u16;
                message.msg_control = (&raw mut *segments).cast();
                message.msg_controllen = segments.header.cmsg_len;
            } else {
                message.msg_control = std::ptr::null_mut();
                message.msg_controllen = 0;
            }
            next += run;
            count += 1;
        }
        count
    }
}

/// How many of `packets` leave as one: those as long as the first, and a shorter one behind them.
fn run(packets: &[libc::iovec]) -> usize {
    let length = packets[0].iov_len;
    let most = (SEGMENTS_LEN_MAX / length.max(1)).clamp(1, SEGMENTS_MAX).min(packets.len());
    let equal = packets[..most].iter().take_while(|packet| packet.iov_len == length).count();
    let shorter = packets[..most].get(equal).is_some_and(|packet| packet.iov_len < length);
    equal + usize::from(shorter)
}

/// Sends what `headers` point to, which is live memory of the caller's, and counts it.
///
/// # Errors
/// Why the rest did not leave, and how many datagrams did.
fn send_wired(
    socket: BorrowedFd<'_>,
    headers: &mut [libc::mmsghdr],
    total: &mut Sent,
) -> Result<(), (usize, io::Error)> {
    let (mut rest, mut sent) = (headers, 0);
    while !rest.is_empty() {
        let count = send_some(socket, rest).map_err(|error| (sent, error))?;
        for header in &rest[..count] {
            let datagrams = header.msg_hdr.msg_iovlen;
            sent += datagrams;
            total.sent += datagrams;
            total.joined += if datagrams > 1 { datagrams } else { 0 };
        }
        rest = &mut rest[count..];
    }
    Ok(())
}

/// Whether it may be the segmentation that the kernel minds, and not the connection.
fn is_refusal(error: &io::Error) -> bool {
    let refusals = [libc::EINVAL, libc::EIO, libc::EMSGSIZE, libc::EOPNOTSUPP];
    error.raw_os_error().is_some_and(|code| refusals.contains(&code))
}

/// Headers that point nowhere.
fn empty_headers(capacity: usize) -> Vec<libc::mmsghdr> {
    // SAFETY: an mmsghdr is made of integers and pointers; all-zero is a valid value.
    let zero: libc::mmsghdr = unsafe { std::mem::zeroed() };
    vec![zero; capacity]
}

/// An iovec that points nowhere.
const fn empty_iovec() -> libc::iovec {
    libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }
}

/// Cuts `buffers` into `capacity` pieces of `length` bytes, [`STAGGER`] apart.
fn wire_iovecs(buffers: &mut [u8], capacity: usize, length: usize) -> Vec<libc::iovec> {
    let mut pieces = buffers.chunks_exact_mut(length + STAGGER);
    let wire =
        |piece: &mut [u8]| libc::iovec { iov_base: piece.as_mut_ptr().cast(), iov_len: length };
    let iovecs: Vec<_> = pieces.by_ref().map(wire).collect();
    assert_eq!(iovecs.len(), capacity, "the caller makes room for every piece");
    iovecs
}

#[cfg(test)]
mod tests {
    use super::{QueryBatch, RecvBatch, ReplyBatch, Sent};
    use std::net::{SocketAddr, UdpSocket};
    use std::os::fd::{AsFd, AsRawFd};

    fn socket() -> (UdpSocket, SocketAddr) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        (socket, address)
    }

    /// Loopback delivers within the send call, so what was sent is there to be received.
    fn received(batch: &mut RecvBatch, socket: &UdpSocket) -> Vec<Vec<u8>> {
        let count = batch.recv(socket.as_fd()).unwrap_or(0);
        (0..count).map(|i| batch.datagram(i).bytes.to_vec()).collect()
    }

    #[test]
    fn replies_leave_grouped_by_socket_and_reach_their_own_peer() {
        let ((a, _), (b, _)) = (socket(), socket());
        let ((x, to_x), (y, to_y)) = (socket(), socket());
        let mut replies = ReplyBatch::new(4, 100);
        for (number, peer, text) in [(1, to_x, "bx"), (0, to_x, "ax"), (1, to_y, "by")] {
            replies.buffer()[..2].copy_from_slice(text.as_bytes());
            replies.commit(2, number, &peer, None);
        }
        let sent = replies.flush(|number| [&a, &b][usize::from(number)].as_fd());
        assert_eq!(sent, Sent { sent: 3, ..Sent::default() });
        assert!(replies.is_empty());
        let mut batch = RecvBatch::new(8, 100, true);
        let mut at_x = received(&mut batch, &x);
        at_x.sort();
        assert_eq!(at_x, [b"ax".to_vec(), b"bx".to_vec()]);
        assert_eq!(received(&mut batch, &y), [b"by".to_vec()]);
        assert_eq!(batch.datagram(0).peer, Some(b.local_addr().unwrap()));
    }

    #[test]
    fn one_impossible_peer_does_not_keep_the_others_waiting() {
        let ((a, _), (x, to_x)) = (socket(), socket());
        let mut replies = ReplyBatch::new(4, 100);
        for peer in [to_x, "127.0.0.1:0".parse().unwrap(), to_x] {
            replies.commit(12, 0, &peer, None);
        }
        assert_eq!(replies.flush(|_| a.as_fd()), Sent { sent: 2, dropped: 1, ..Sent::default() });
        assert_eq!(received(&mut RecvBatch::new(8, 100, false), &x).len(), 2);
    }

    #[test]
    fn more_packets_than_a_batch_holds_take_several_calls() {
        let ((from, _), (to, address)) = (socket(), socket());
        from.connect(address).unwrap();
        let packets: Vec<[u8; 1]> = (0..10).map(|i| [i]).collect();
        let slices = packets.iter().map(|packet| &packet[..]);
        let sent = QueryBatch::new(4).send(from.as_fd(), slices, false).unwrap();
        assert_eq!(sent, Sent { sent: 10, ..Sent::default() });
        assert_eq!(received(&mut RecvBatch::new(16, 4, false), &to), packets);
    }

    #[test]
    fn packets_of_equal_length_leave_together_and_arrive_apart() {
        let ((from, _), (to, address)) = (socket(), socket());
        from.connect(address).unwrap();
        let lengths = [90, 90, 90, 70, 50, 40, 40, 60];
        let packets: Vec<Vec<u8>> =
            lengths.iter().zip(1..).map(|(length, byte)| vec![byte; *length]).collect();
        for (capacity, joined) in [(8, 6), (3, 5), (1, 0)] {
            let slices = packets.iter().map(|packet| &packet[..]);
            let sent = QueryBatch::new(capacity).send(from.as_fd(), slices, true).unwrap();
            let expected = Sent { sent: 8, joined, ..Sent::default() };
            assert_eq!(sent, expected, "in batches of {capacity}");
            assert_eq!(received(&mut RecvBatch::new(16, 100, false), &to), packets);
        }
    }

    #[test]
    fn more_than_the_kernel_takes_apart_are_several_sends() {
        let ((from, _), (to, address)) = (socket(), socket());
        from.connect(address).unwrap();
        let packets = vec![[7; 60]; 150];
        let slices = packets.iter().map(|packet| &packet[..]);
        let sent = QueryBatch::new(200).send(from.as_fd(), slices, true).unwrap();
        assert_eq!(sent, Sent { sent: 150, joined: 150, ..Sent::default() });
        assert_eq!(received(&mut RecvBatch::new(200, 100, false), &to), packets);
    }

    #[test]
    fn what_the_kernel_refuses_to_take_apart_leaves_one_by_one() {
        let ((from, _), (to, address)) = (socket(), socket());
        from.connect(address).unwrap();
        // Without checksums there is no segmentation.
        let on: libc::c_int = 1;
        let (value, length) = ((&raw const on).cast(), size_of_val(&on) as libc::socklen_t);
        // SAFETY: `value` points to `length` bytes that outlive the call, on an open socket.
        let set = unsafe {
            libc::setsockopt(from.as_raw_fd(), libc::SOL_SOCKET, libc::SO_NO_CHECK, value, length)
        };
        assert_eq!(set, 0);
        let packets: Vec<[u8; 20]> = (0..10).map(|byte| [byte; 20]).collect();
        let slices = packets.iter().map(|packet| &packet[..]);
        let sent = QueryBatch::new(4).send(from.as_fd(), slices, true).unwrap();
        assert_eq!(sent, Sent { sent: 10, refused: true, ..Sent::default() });
        assert_eq!(received(&mut RecvBatch::new(16, 20, false), &to), packets);
    }

    #[test]
    fn a_datagram_longer_than_its_buffer_says_so() {
        let ((from, _), (to, address)) = (socket(), socket());
        from.send_to(&[7; 50], address).unwrap();
        let mut batch = RecvBatch::new(2, 20, true);
        assert_eq!(batch.recv(to.as_fd()).unwrap(), 1);
        let datagram = batch.datagram(0);
        assert_eq!((datagram.bytes, datagram.truncated), (&[7u8; 20][..], true));
    }

    #[test]
    fn refusal_by_the_peer_is_an_error_of_the_connection() {
        let ((from, _), (to, address)) = (socket(), socket());
        drop(to);
        from.connect(address).unwrap();
        let mut batch = QueryBatch::new(4);
        // The first datagram brings the ICMP error, the second call finds it.
        let _ = batch.send(from.as_fd(), [&b"x"[..]], true);
        let error = batch.send(from.as_fd(), [&b"y"[..]], true).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    }
}
