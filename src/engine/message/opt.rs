//! The OPT record (RFC 6891) that onward writes in queries and replies.
//!
//! It is the last record of a message, so that padding (RFC 7830) can be its last option. The
//! callers write the other options.

use super::{option, put_u16, rtype};

/// An OPT record without options.
pub(crate) const OPT_LEN: usize = 11;
/// The code and length of an option.
pub(super) const OPTION_HEAD: usize = 4;
/// Length of an extended error: its option's code, length and info code (RFC 8914 §2).
pub(crate) const EDE_LEN: usize = 6;

/// Writes a padding option (RFC 7830) at `place`, the end of a message whose OPT is its last
/// record. The message becomes a multiple of `block` bytes, or as long as `message` if that is
/// less. Returns the option's length, zero if there is no room.
pub(super) fn pad(message: &mut [u8], place: usize, block: usize) -> usize {
    let padded = (place + OPTION_HEAD).next_multiple_of(block).min(message.len());
    let Some(zeros) = padded.checked_sub(place + OPTION_HEAD) else { return 0 };
    put_u16(message, place, option::PADDING);
    put_u16(message, place + 2, zeros as u16);
    message[place + OPTION_HEAD..padded].fill(0);
    padded - place
}

/// An OPT record of ours, to be followed by `options_len` bytes of options.
pub(crate) fn opt_record(
    udp_size: u16,
    dnssec_ok: bool,
    rcode_high: u8,
    options_len: usize,
) -> [u8; OPT_LEN] {
    let mut opt = [0; OPT_LEN];
    put_u16(&mut opt, 1, rtype::OPT);
    put_u16(&mut opt, 3, udp_size);
    opt[5] = rcode_high;
    opt[7] = if dnssec_ok { 0x80 } else { 0 };
    put_u16(&mut opt, 9, options_len as u16);
    opt
}
