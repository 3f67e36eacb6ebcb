//! Datagrams out on one connected socket, from borrowed memory.
//!
//! Nothing is copied and nothing reordered: callers that want datagrams of equal length to be
//! joined put them next to each other. The contents, and the meaning of an error for a connection,
//! are the caller's business.

use super::segments;
use super::{Sent, empty_headers, empty_iovec, send_wired};
use crate::sys::control::Control;
use std::io;
use std::os::fd::BorrowedFd;

/// Sends slices over one connected socket, without copying them.
///
/// If segmentation is allowed, consecutive slices of equal length, and a shorter one after them,
/// are one send, which the kernel segments after most of its work (UDP GSO).
pub struct QueryBatch {
    headers: Vec<libc::mmsghdr>,
    iovecs: Vec<libc::iovec>,
    controls: Vec<Control>,
}

impl QueryBatch {
    /// Creates a batch of up to `capacity` datagrams per call.
    pub fn new(capacity: usize) -> Self {
        Self {
            headers: empty_headers(capacity),
            iovecs: vec![empty_iovec(); capacity],
            controls: vec![Control::empty(); capacity],
        }
    }

    /// Returns the bytes that it has reserved.
    pub(crate) fn reserved(&self) -> usize {
        size_of_val(&*self.headers) + size_of_val(&*self.iovecs) + size_of_val(&*self.controls)
    }

    /// Sends `packets` over the connected `socket`, in calls of at most the batch's capacity;
    /// `segmented`: those of equal length may be joined. If the kernel refuses to segment a send,
    /// as on routes of small MTU, through IPsec or on devices without checksum offload, its
    /// datagrams are sent one by one.
    ///
    /// A full socket buffer drops the rest; the retry of each query covers that.
    ///
    /// # Errors
    /// The connection cannot be used: an earlier datagram was refused (ICMP), the network or host
    /// is unreachable, the local address was removed. Datagrams sent before stay sent.
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
                        if !segmented || !segments::is_refusal(&error) {
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

    /// Points headers to the packets from `start` to `end`; returns the number of headers.
    fn wire(&mut self, start: usize, end: usize, segmented: bool) -> usize {
        let packets = self.iovecs.as_mut_ptr();
        let (mut next, mut count) = (start, 0);
        while next < end {
            let lengths = self.iovecs[next..end].iter().map(|packet| packet.iov_len);
            let run = if segmented { segments::run(lengths) } else { 1 };
            let message = &mut self.headers[count].msg_hdr;
            message.msg_iov = packets.wrapping_add(next);
            message.msg_iovlen = run as _;
            if run > 1 {
                let control = &mut self.controls[count];
                let used = segments::encode(self.iovecs[next].iov_len, 0, control);
                message.msg_control = (&raw mut *control).cast();
                message.msg_controllen = used as _;
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
