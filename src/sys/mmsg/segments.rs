//! Several datagrams as one send that the kernel takes apart on the far side of most of its work
//! (UDP GSO, `UDP_SEGMENT`): which may leave so, the request to the kernel, and its error when it
//! will not. Who sends what to whom is not known here.

use crate::sys::control::Control;
use std::io;

/// The kernel takes one send apart into at most this number of datagrams (`UDP_MAX_SEGMENTS`),
/// which are together no longer than one datagram can be.
const COUNT_MAX: usize = 64;
const TOTAL_LEN_MAX: usize = 65_000;
/// The kernel does not cut a datagram both into segments and into fragments: longer ones than every
/// route carries whole (an IPv6 MTU of 1,280, RFC 8200 section 5) leave alone.
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

/// Has the kernel take a send apart into datagrams of `length` bytes, by a control message behind
/// the first `used` bytes of `control`; returns how many bytes are used then.
#[inline]
pub(super) fn encode(length: usize, used: usize, control: &mut Control) -> usize {
    control.append(used, libc::SOL_UDP, libc::UDP_SEGMENT, length as u16)
}

/// Returns true if it may be the segmentation that the kernel minds, and not the peer or the
/// connection.
pub(super) fn is_refusal(error: &io::Error) -> bool {
    let refusals = [libc::EINVAL, libc::EIO, libc::EMSGSIZE, libc::EOPNOTSUPP];
    error.raw_os_error().is_some_and(|code| refusals.contains(&code))
}
