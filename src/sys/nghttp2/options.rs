//! Limits of the library that are the same for each session.
//!
//! Most are tighter than the defaults, because a connection carries small messages only.

use libnghttp2_sys::{
    nghttp2_option, nghttp2_option_set_glitch_rate_limit, nghttp2_option_set_max_continuations,
    nghttp2_option_set_max_deflate_dynamic_table_size, nghttp2_option_set_max_outbound_ack,
    nghttp2_option_set_max_send_header_block_length, nghttp2_option_set_max_settings,
    nghttp2_option_set_stream_reset_rate_limit,
};

/// Maximum length of a header block that is sent.
const SENT_BLOCK_MAX: usize = 8 << 10;
/// Size of the table that compresses the fields that are sent: the few that repeat.
const SENT_TABLE_BYTES: usize = 512;
/// Maximum number of CONTINUATION frames of a header block.
const CONTINUATIONS_MAX: usize = 4;
/// Maximum number of entries in a SETTINGS frame.
const SETTINGS_MAX: usize = 16;
/// Maximum number of acknowledgements that a peer leaves unread.
const ACKNOWLEDGEMENTS_MAX: usize = 256;
/// Resets by the peer, at once and per second.
const RESETS: (u64, u64) = (1_000, 256);
/// Frames that no well-behaved peer sends often (PRIORITY, unknown types, DATA on closed streams),
/// at once and per second.
const GLITCHES: (u64, u64) = (512, 32);

/// Sets the library's limits.
///
/// # Safety
/// `options` is live.
pub(super) unsafe fn limit(options: *mut nghttp2_option) {
    let sizes: [(unsafe extern "C" fn(*mut nghttp2_option, usize), usize); 5] = [
        (nghttp2_option_set_max_send_header_block_length, SENT_BLOCK_MAX),
        (nghttp2_option_set_max_deflate_dynamic_table_size, SENT_TABLE_BYTES),
        (nghttp2_option_set_max_continuations, CONTINUATIONS_MAX),
        (nghttp2_option_set_max_settings, SETTINGS_MAX),
        (nghttp2_option_set_max_outbound_ack, ACKNOWLEDGEMENTS_MAX),
    ];
    for (set, value) in sizes {
        // SAFETY: by the caller's promise.
        unsafe { set(options, value) };
    }
    let rates: [(unsafe extern "C" fn(*mut nghttp2_option, u64, u64), (u64, u64)); 2] = [
        (nghttp2_option_set_stream_reset_rate_limit, RESETS),
        (nghttp2_option_set_glitch_rate_limit, GLITCHES),
    ];
    for (set, (burst, rate)) in rates {
        // SAFETY: by the caller's promise.
        unsafe { set(options, burst, rate) };
    }
}
