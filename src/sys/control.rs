//! Control messages: data beside a datagram's payload.
//!
//! `Control` is aligned memory with room for the control messages of one datagram: an address
//! (`pktinfo`) and the length of its segments. Their contents are the business of the callers.

/// The bytes of an address and a segment length, headers and padding included.
const CONTROL_LEN: usize = space_of::<libc::in6_pktinfo>() + space_of::<u16>();

/// Memory for control messages, aligned as the kernel's headers require.
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

    /// Appends a message after the first `used` bytes; returns the new length. `data` is a
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
        // SAFETY: `place` has room for a header and, after it, for a `T`.
        unsafe { start.cast::<libc::cmsghdr>().write_unaligned(header) };
        let start = start.wrapping_add(data_at);
        // SAFETY: as above; the data of a header begins at `data_at`.
        unsafe { start.cast::<T>().write_unaligned(data) };
        used + space_of::<T>()
    }
}

/// Returns the length of a message with a `T`.
const fn length_of<T>() -> usize {
    // SAFETY: CMSG_LEN only computes a length.
    unsafe { libc::CMSG_LEN(size_of::<T>() as libc::c_uint) as usize }
}

/// Returns the offset of the following message.
const fn space_of<T>() -> usize {
    // SAFETY: CMSG_SPACE only computes a length.
    unsafe { libc::CMSG_SPACE(size_of::<T>() as libc::c_uint) as usize }
}
