//! Batches of datagrams: `recvmmsg` and `sendmmsg`.
//!
//! Three types. [`RecvBatch`] receives on any socket. [`ReplyBatch`] collects replies to many
//! peers, possibly on several sockets, in buffers of its own. [`QueryBatch`] sends borrowed slices
//! over one connected socket, without a copy. Both senders may join datagrams into one send, if the
//! kernel can segment that (GSO). Buffers, iovecs and headers are wired once, when a batch is made;
//! per batch only lengths are reset. The capacity is fixed when a batch is made, and none allocates
//! after that.
//!
//! The memory is in `Vec`s whose contents are reached only through the pointers wired at the start,
//! so moving a batch moves no datagram.

mod queries;
mod receive;
mod replies;
mod segments;
#[cfg(test)]
mod tests;

pub use queries::QueryBatch;
pub(crate) use receive::Datagram;
pub use receive::RecvBatch;
pub use replies::ReplyBatch;

use super::cvt;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

/// Gap between buffers in bytes, because equal distances that are a power of two would put the
/// heads of all datagrams into the same few sets of the first-level cache.
const STAGGER: usize = 64;

/// Result of a flush.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Datagrams accepted by the kernel.
    pub(crate) sent: usize,
    /// Datagrams given up: the socket's buffer was full (WouldBlock) or the datagram was refused.
    pub(crate) dropped: usize,
    /// Number of sent datagrams that were part of a GSO batch.
    pub(crate) joined: usize,
    /// The kernel refused a GSO batch; its datagrams were sent one by one.
    pub(crate) refused: bool,
}

/// Sends the live memory that `headers` point to, and counts it: each header is one send of as many
/// datagrams as it has iovecs.
///
/// # Errors
/// The error that stopped the rest, and the number of datagrams that were sent.
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

/// Makes one send call; the caller has wired the headers to live memory. Never `Ok(0)`.
fn send_some(socket: BorrowedFd<'_>, headers: &mut [libc::mmsghdr]) -> io::Result<usize> {
    let fd = socket.as_raw_fd();
    if let [header] = headers {
        return send_one(fd, &header.msg_hdr).map(|()| 1);
    }
    let (start, count) = (headers.as_mut_ptr(), headers.len() as libc::c_uint);
    cvt(|| {
        // SAFETY: `start` are `count` headers whose pointers lead to live memory of the callers.
        unsafe { libc::sendmmsg(fd, start, count, libc::MSG_DONTWAIT) }
    })
}

/// Sends the datagram of one header, with the simplest call that can: the fewer structures the
/// kernel has to copy, the cheaper it is.
fn send_one(fd: RawFd, message: &libc::msghdr) -> io::Result<()> {
    let plain =
        message.msg_name.is_null() && message.msg_control.is_null() && message.msg_iovlen == 1;
    let sent = if plain {
        // SAFETY: the header's one iovec is live memory of the callers.
        let libc::iovec { iov_base, iov_len } = unsafe { *message.msg_iov };
        cvt(|| {
            // SAFETY: the iovec is `iov_len` bytes of the callers' live memory.
            unsafe { libc::send(fd, iov_base, iov_len, libc::MSG_DONTWAIT) }
        })
    } else {
        cvt(|| {
            // SAFETY: the header's pointers lead to live memory of the callers.
            unsafe { libc::sendmsg(fd, message, libc::MSG_DONTWAIT) }
        })
    };
    sent.map(drop)
}

/// Returns headers with null pointers.
fn empty_headers(capacity: usize) -> Vec<libc::mmsghdr> {
    // SAFETY: an mmsghdr is made of integers and pointers; all-zero is a valid value.
    let zero: libc::mmsghdr = unsafe { std::mem::zeroed() };
    vec![zero; capacity]
}

/// Returns an iovec with a null pointer.
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
