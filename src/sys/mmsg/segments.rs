//! Joined datagrams: one send that the kernel segments after most of its work (UDP GSO,
//! `UDP_SEGMENT`). Decides which datagrams may be joined, encodes the request, and recognises the
//! error of a refusal. It does not know sockets or peers.

use crate::sys::control::Control;
use std::io;

/// Maximum number of segments of one send (`UDP_MAX_SEGMENTS`), whose total length is at most that
/// of one datagram.
const COUNT_MAX: usize = 64;
const TOTAL_LEN_MAX: usize = 65_000;
/// Maximum length of a segment: the kernel does not both segment and fragment a datagram, so longer
/// ones than every route carries whole (an IPv6 MTU of 1,280, RFC 8200 section 5) are sent alone.
const SEGMENT_LEN_MAX: usize = 1_232;

/// Returns the number of datagrams of these lengths that form one batch: those as long as the
/// first, and a shorter one after them. At least 1, if there is any.
#[inline]
pub(super) fn run(mut lengths: impl Iterator<Item = usize>) -> usize {
    let Some(first) = lengths.next() else { return 0 };
    if first > SEGMENT_LEN_MAX {
        return 1;
    }
    let most = (TOTAL_LEN_MAX / first.max(1)).clamp(1, COUNT_MAX);
    let mut count = 1;
    while count < most
        && let Some(length) = lengths.next()
        && length <= first
    {
        count += 1;
        if length < first {
            break;
        }
    }
    count
}

/// Requests segmentation into datagrams of `length` bytes, by a control message after the first
/// `used` bytes of `control`; returns the new length.
#[inline]
pub(super) fn encode(length: usize, used: usize, control: &mut Control) -> usize {
    control.append(used, libc::SOL_UDP, libc::UDP_SEGMENT, length as u16)
}

/// Returns true if the error may be due to segmentation, and not to the peer or the connection.
pub(super) fn is_refusal(error: &io::Error) -> bool {
    let refusals = [libc::EINVAL, libc::EIO, libc::EMSGSIZE, libc::EOPNOTSUPP];
    error.raw_os_error().is_some_and(|code| refusals.contains(&code))
}
