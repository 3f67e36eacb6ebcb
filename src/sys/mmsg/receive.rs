//! Datagrams in: `recvmmsg` on any socket, with or without the addresses of the senders.
//!
//! One call takes all waiting datagrams, up to the batch's capacity; it never blocks. Received
//! datagrams are borrowed from the batch's own buffers until the next call.

use super::{STAGGER, empty_headers, wire_iovecs};
use crate::sys::address::RawAddress;
use crate::sys::control::Control;
use crate::sys::cvt;
use crate::sys::pktinfo::{self, Local};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

/// One received datagram.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// Payload, as far as it fits into the buffer.
    pub bytes: &'a [u8],
    /// The payload was longer than the buffer.
    pub(crate) truncated: bool,
    /// Sender; `None` when the batch was made without addresses (connected sockets).
    pub peer: Option<SocketAddr>,
    /// The destination address, if the socket requests it from the kernel.
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
    /// Creates a batch of `capacity` datagrams of `length` bytes each. `with_addresses`: with the
    /// peer's and the local address too, a cost that a connected socket can avoid.
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

    /// Returns the bytes that it has reserved.
    pub(crate) fn reserved(&self) -> usize {
        let wires = size_of_val(&*self.headers) + size_of_val(&*self._iovecs);
        let addresses = size_of_val(&*self._names) + size_of_val(&*self._controls);
        wires + addresses + self._buffers.len()
    }

    /// Returns the maximum of datagrams per call; after fewer, the socket is drained.
    pub(crate) fn capacity(&self) -> usize {
        self.headers.len()
    }

    /// Returns the number of datagrams of the last call.
    pub(crate) fn received(&self) -> usize {
        self.received
    }

    /// Receives the waiting datagrams, without blocking; returns their number.
    ///
    /// # Errors
    /// `WouldBlock`: there are none. `ConnectionRefused` and the like on a connected socket: an
    /// earlier datagram was answered by an ICMP error, which this call has consumed; more datagrams
    /// may be waiting.
    pub fn recv(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        self.recv_up_to(socket, self.capacity())
    }

    /// Receives at most `most` (at least 1) of them. A caller that knows how many to expect saves
    /// the kernel from looking for one more.
    ///
    /// # Errors
    /// The errors of [`RecvBatch::recv`].
    pub(crate) fn recv_up_to(&mut self, socket: BorrowedFd<'_>, most: usize) -> io::Result<usize> {
        self.reset();
        let count = most.clamp(1, self.headers.len());
        if count == 1 && !self.with_addresses {
            return self.recv_one(socket);
        }
        let (fd, headers) = (socket.as_raw_fd(), self.headers.as_mut_ptr());
        let count = count as libc::c_uint;
        let flags = libc::MSG_DONTWAIT;
        let none = std::ptr::null_mut();
        self.received = cvt(|| {
            // SAFETY: `headers` are `count` headers wired to live memory of this batch.
            unsafe { libc::recvmmsg(fd, headers, count, flags, none) }
        })?;
        Ok(self.received)
    }

    /// Receives one without its addresses: a call without a header costs a quarter less.
    fn recv_one(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        let header = &mut self.headers[0];
        // SAFETY: msg_iov points to this batch's iovec, which lives as long as `self`.
        let libc::iovec { iov_base, iov_len } = unsafe { *header.msg_hdr.msg_iov };
        let fd = socket.as_raw_fd();
        // With MSG_TRUNC the kernel returns the datagram's full length instead of the copied one.
        let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
        let length = cvt(|| {
            // SAFETY: `iov_base` are `iov_len` bytes of this batch's buffers.
            unsafe { libc::recv(fd, iov_base, iov_len, flags) }
        })?;
        header.msg_len = length as libc::c_uint;
        header.msg_hdr.msg_flags = if length > iov_len { libc::MSG_TRUNC } else { 0 };
        self.received = 1;
        Ok(1)
    }

    /// Resets the lengths that the last call overwrote.
    fn reset(&mut self) {
        let used = std::mem::take(&mut self.received);
        if self.with_addresses {
            for header in &mut self.headers[..used] {
                header.msg_hdr.msg_namelen = RawAddress::LEN;
                header.msg_hdr.msg_controllen = Control::LEN;
            }
        }
    }

    /// Returns the datagram at `index` of the last batch, below the number that [`RecvBatch::recv`]
    /// returned.
    #[inline]
    pub fn datagram(&self, index: usize) -> Datagram<'_> {
        let header = &self.headers[..self.received][index];
        let message = &header.msg_hdr;
        // SAFETY: msg_iov points to this batch's iovec, whose buffer lives as long as `self`.
        let iovec = unsafe { &*message.msg_iov };
        let length = (header.msg_len as usize).min(iovec.iov_len);
        // SAFETY: the buffer holds iov_len initialised bytes. Only `recv` writes to it, and it
        // borrows `self` mutably.
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
