//! Functions that the library calls, each of which turns its arguments into one call of [`Events`].
//!
//! None of them can unwind, because `Events` does not panic, and none keeps a reference after it
//! has returned.

use super::{Events, Frame, Kind, Verdict, bytes};
use libnghttp2_sys::{
    NGHTTP2_DATA, NGHTTP2_DATA_FLAG_EOF, NGHTTP2_DATA_FLAG_NO_END_STREAM,
    NGHTTP2_ERR_CALLBACK_FAILURE, NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE, NGHTTP2_FLAG_ACK,
    NGHTTP2_FLAG_END_STREAM, NGHTTP2_FLAG_NONE, NGHTTP2_GOAWAY, NGHTTP2_HCAT_HEADERS,
    NGHTTP2_HEADERS, NGHTTP2_PING, NGHTTP2_SETTINGS, nghttp2_data, nghttp2_data_source,
    nghttp2_frame, nghttp2_frame_hd, nghttp2_goaway, nghttp2_headers, nghttp2_nv, nghttp2_session,
    nghttp2_session_callbacks, nghttp2_session_callbacks_set_on_begin_frame_callback,
    nghttp2_session_callbacks_set_on_begin_headers_callback,
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback,
    nghttp2_session_callbacks_set_on_frame_recv_callback,
    nghttp2_session_callbacks_set_on_header_callback,
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback,
    nghttp2_session_callbacks_set_on_stream_close_callback, nghttp2_session_terminate_session,
    nghttp2_ssize, nghttp2_submit_rst_stream, nghttp2_submit_trailer,
};
use std::ffi::{c_int, c_void};

/// Registers all functions.
///
/// # Safety
/// `callbacks` is live, and its sessions are created with a live `E` as their user data.
pub(super) unsafe fn register<E: Events>(callbacks: *mut nghttp2_session_callbacks) {
    // SAFETY: by the caller's promise.
    unsafe {
        nghttp2_session_callbacks_set_on_begin_frame_callback(callbacks, Some(on_begin_frame::<E>));
    }
    // SAFETY: as above.
    unsafe {
        nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, Some(on_headers::<E>));
    }
    // SAFETY: as above.
    unsafe { nghttp2_session_callbacks_set_on_header_callback(callbacks, Some(on_header::<E>)) };
    // SAFETY: as above.
    unsafe {
        nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, Some(on_data::<E>));
    }
    // SAFETY: as above.
    unsafe { nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, Some(on_frame::<E>)) };
    // SAFETY: as above.
    unsafe {
        nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(
            callbacks,
            Some(on_invalid_frame::<E>),
        );
    }
    // SAFETY: as above.
    unsafe {
        nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, Some(on_close::<E>));
    }
}

/// Returns the receiver of a session's events.
///
/// # Safety
/// `user` is the session's user data, and no other reference to it exists.
unsafe fn events<'a, E: Events>(user: *mut c_void) -> &'a mut E {
    // SAFETY: by the caller's promise; the session's owner holds no reference while the library
    // runs.
    unsafe { &mut *user.cast::<E>() }
}

/// Does to the session and the stream what the verdict says. Returns the library's result code.
fn obey(session: *mut nghttp2_session, stream: i32, verdict: Verdict) -> c_int {
    let outcome = match verdict {
        Verdict::Continue => 0,
        Verdict::Reset(code) => {
            // SAFETY: the session is the one that calls, which allows this in its callbacks.
            unsafe { nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE as u8, stream, code) }
        }
        Verdict::End(code) => {
            // SAFETY: as above.
            unsafe { nghttp2_session_terminate_session(session, code) }
        }
    };
    if outcome == 0 { 0 } else { NGHTTP2_ERR_CALLBACK_FAILURE }
}

/// Returns the header of a frame.
///
/// # Safety
/// `frame` is live.
unsafe fn header(frame: *const nghttp2_frame) -> nghttp2_frame_hd {
    // SAFETY: by the caller's promise; each kind of frame begins with its header.
    unsafe { *frame.cast::<nghttp2_frame_hd>() }
}

unsafe extern "C" fn on_begin_frame<E: Events>(
    session: *mut nghttp2_session,
    hd: *const nghttp2_frame_hd,
    user: *mut c_void,
) -> c_int {
    // SAFETY: the library passes a live header.
    let hd = unsafe { *hd };
    // SAFETY: `user` is the user data of this session.
    let events = unsafe { events::<E>(user) };
    let is_ack = u32::from(hd.flags) & NGHTTP2_FLAG_ACK != 0;
    let is_last = u32::from(hd.flags) & NGHTTP2_FLAG_END_STREAM != 0;
    let kind = match u32::from(hd.type_) {
        NGHTTP2_DATA => Kind::Data { is_empty: hd.length == 0 && !is_last },
        NGHTTP2_HEADERS => Kind::Headers,
        NGHTTP2_SETTINGS | NGHTTP2_PING if is_ack => Kind::Acknowledgement,
        _ => Kind::Other,
    };
    obey(session, hd.stream_id, events.frame_begins(kind))
}

unsafe extern "C" fn on_headers<E: Events>(
    session: *mut nghttp2_session,
    frame: *const nghttp2_frame,
    user: *mut c_void,
) -> c_int {
    // SAFETY: the library passes a live frame.
    let stream = unsafe { header(frame) }.stream_id;
    // SAFETY: the frame has headers in this callback.
    let is_trailer = unsafe { (*frame.cast::<nghttp2_headers>()).cat } == NGHTTP2_HCAT_HEADERS;
    // SAFETY: `user` is the user data of this session.
    let events = unsafe { events::<E>(user) };
    obey(session, stream, events.headers_begin(stream as u32, is_trailer))
}

unsafe extern "C" fn on_header<E: Events>(
    session: *mut nghttp2_session,
    frame: *const nghttp2_frame,
    name: *const u8,
    name_len: usize,
    value: *const u8,
    value_len: usize,
    _flags: u8,
    user: *mut c_void,
) -> c_int {
    // SAFETY: the library passes a live frame.
    let stream = unsafe { header(frame) }.stream_id;
    // SAFETY: `user` is the user data of this session.
    let events = unsafe { events::<E>(user) };
    // SAFETY: the library passes the address and length of a name that lives through this call.
    let name = unsafe { bytes(name, name_len) };
    // SAFETY: as above, of its value.
    let value = unsafe { bytes(value, value_len) };
    match events.header(stream as u32, name, value) {
        Verdict::Continue => 0,
        // The rest of the block is decoded, without calls, so that later blocks can be decoded.
        verdict => match obey(session, stream, verdict) {
            0 => NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE,
            failure => failure,
        },
    }
}

unsafe extern "C" fn on_data<E: Events>(
    session: *mut nghttp2_session,
    _flags: u8,
    stream: i32,
    data: *const u8,
    len: usize,
    user: *mut c_void,
) -> c_int {
    // SAFETY: `user` is the user data of this session.
    let events = unsafe { events::<E>(user) };
    // SAFETY: the library passes the address and length of bytes that live through this call.
    let data = unsafe { bytes(data, len) };
    obey(session, stream, events.data(stream as u32, data))
}

unsafe extern "C" fn on_frame<E: Events>(
    session: *mut nghttp2_session,
    frame: *const nghttp2_frame,
    user: *mut c_void,
) -> c_int {
    // SAFETY: the library passes a live frame.
    let hd = unsafe { header(frame) };
    let stream = hd.stream_id as u32;
    let is_last = u32::from(hd.flags) & NGHTTP2_FLAG_END_STREAM != 0;
    let frame = match u32::from(hd.type_) {
        NGHTTP2_HEADERS | NGHTTP2_DATA if is_last => Frame::End { stream },
        NGHTTP2_DATA => {
            // SAFETY: a frame of this kind is a DATA.
            let padding = unsafe { (*frame.cast::<nghttp2_data>()).padlen };
            if hd.length == 0 || padding < hd.length {
                return 0;
            }
            Frame::Padding
        }
        NGHTTP2_PING if u32::from(hd.flags) & NGHTTP2_FLAG_ACK != 0 => Frame::Pong,
        NGHTTP2_GOAWAY => {
            // SAFETY: a frame of this kind is a GOAWAY.
            let last = unsafe { (*frame.cast::<nghttp2_goaway>()).last_stream_id } as u32;
            Frame::GoAway { last }
        }
        _ => return 0,
    };
    // SAFETY: `user` is the user data of this session.
    let events = unsafe { events::<E>(user) };
    obey(session, hd.stream_id, events.frame(frame))
}

unsafe extern "C" fn on_invalid_frame<E: Events>(
    session: *mut nghttp2_session,
    frame: *const nghttp2_frame,
    _error: c_int,
    user: *mut c_void,
) -> c_int {
    // SAFETY: the library passes a live frame.
    let stream = unsafe { header(frame) }.stream_id;
    // SAFETY: `user` is the user data of this session.
    let events = unsafe { events::<E>(user) };
    obey(session, stream, events.invalid())
}

unsafe extern "C" fn on_close<E: Events>(
    _session: *mut nghttp2_session,
    stream: i32,
    code: u32,
    user: *mut c_void,
) -> c_int {
    // SAFETY: `user` is the user data of this session.
    unsafe { events::<E>(user) }.closed(stream as u32, code);
    0
}

/// Reads the body that a stream sends, and submits the trailer behind it.
pub(super) unsafe extern "C" fn read_body<E: Events>(
    session: *mut nghttp2_session,
    stream: i32,
    room: *mut u8,
    len: usize,
    flags: *mut u32,
    _source: *mut nghttp2_data_source,
    user: *mut c_void,
) -> nghttp2_ssize {
    // SAFETY: `user` is the user data of this session.
    let events = unsafe { events::<E>(user) };
    // SAFETY: the library passes initialized memory of this length, which nothing else uses.
    let room = unsafe { std::slice::from_raw_parts_mut(room, len) };
    let (count, is_last) = events.body(stream as u32, room);
    debug_assert!(count <= len, "more was written than there was room for");
    if !is_last {
        return count as nghttp2_ssize;
    }
    let mut set = NGHTTP2_DATA_FLAG_EOF;
    if let Some((name, value)) = events.trailer(stream as u32) {
        set |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
        let field = nghttp2_nv {
            name: name.as_ptr().cast_mut(),
            value: value.as_ptr().cast_mut(),
            namelen: name.len(),
            valuelen: value.len(),
            flags: 0,
        };
        // SAFETY: the library copies the field, and allows this call here.
        let outcome = unsafe { nghttp2_submit_trailer(session, stream, &raw const field, 1) };
        if outcome != 0 {
            return NGHTTP2_ERR_CALLBACK_FAILURE as nghttp2_ssize;
        }
    }
    // SAFETY: the library passes a place for the flags.
    unsafe { *flags |= set };
    count as nghttp2_ssize
}
