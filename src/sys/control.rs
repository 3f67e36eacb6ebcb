//! Control messages: what travels beside a datagram.
//!
//! `Control` is aligned memory with room for all that one datagram has here: an address
//! (`pktinfo`) and the length of its segments. Their contents are known to those who write
//! and read them.

/// The bytes of an address and a length of segments, headers and padding included.
const CONTROL_LEN: usize = space_of::<libc::in6_pktinfo>() + space_of::<u16>();

/// Memory for control messages, aligned as the kernel's headers demand.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct Control {
    bytes: [u8; CONTROL_LEN],
}

impl Control {
    /// The capacity in bytes.
    pub(super) const LEN: usize = size_of::<Self>();

    /// Zeroed memory.
    pub(super) const fn empty() -> Self {
        Self { bytes: [0; CONTROL_LEN] }
    }

    /// The first `used` bytes: the messages, padding included.
    pub(super) fn messages(&self, used: usize) -> &[u8] {
        &self.bytes[..used]
    }

    /// Writes a message behind the first `used` bytes; returns how many are used then. `data` is a
    /// structure of the kernel's without padding.
    ///
    /// # Panics
    /// There is no room for it.
    pub(super) fn append<T: Copy>(
        &mut self,
        used: usize,
        level: libc::c_int,
        kind: libc::c_int,
        data: T,
    ) -> usize {
        let place = &mut self.bytes[used..][..space_of::<T>()];
        place.fill(0);
        let (start, data_at) = (place.as_mut_ptr(), length_of::<()>());
        let header =
            libc::cmsghdr { cmsg_len: length_of::<T>() as _, cmsg_level: level, cmsg_type: kind };
        // SAFETY: `place` has room for a header and, behind it, for a `T`.
        unsafe { start.cast::<libc::cmsghdr>().write_unaligned(header) };
        let start = start.wrapping_add(data_at);
        // SAFETY: as above; the data of a header begins at `data_at`.
        unsafe { start.cast::<T>().write_unaligned(data) };
        used + space_of::<T>()
    }
}

/// The length of a message about a `T`.
const fn length_of<T>() -> usize {
    // SAFETY: CMSG_LEN only computes a length.
    unsafe { libc::CMSG_LEN(size_of::<T>() as libc::c_uint) as usize }
}

/// The bytes up to the message behind it.
const fn space_of<T>() -> usize {
    // SAFETY: CMSG_SPACE only computes a length.
    unsafe { libc::CMSG_SPACE(size_of::<T>() as libc::c_uint) as usize }
}
