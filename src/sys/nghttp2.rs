//! HTTP/2 sessions of libnghttp2: bytes in, events and bytes out.
//!
//! [`Session`] owns a session of the library, its account of memory ([`memory`]) and the receiver
//! of its events ([`Events`]), which is called while received bytes are parsed and while bytes to
//! send are made. The library's own limits are on, tighter than their defaults. After an error
//! ([`Broken`]) the library's session is not called any more, because it may be inconsistent. The
//! library knows no sockets; of the clock it reads the seconds, for its rate limits.

mod callbacks;
mod memory;
mod options;

use libnghttp2_sys::{
    NGHTTP2_ERR_BAD_CLIENT_MAGIC, NGHTTP2_ERR_FLOODED, NGHTTP2_ERR_NOMEM,
    NGHTTP2_ERR_TOO_MANY_CONTINUATIONS, NGHTTP2_FLAG_NONE, NGHTTP2_NV_FLAG_NO_COPY_NAME,
    NGHTTP2_NV_FLAG_NO_INDEX, NGHTTP2_NV_FLAG_NONE, NGHTTP2_SETTINGS_ENABLE_PUSH,
    NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS,
    NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES,
    nghttp2_data_provider2, nghttp2_data_source, nghttp2_mem, nghttp2_nv, nghttp2_option,
    nghttp2_option_del, nghttp2_option_new, nghttp2_session, nghttp2_session_callbacks,
    nghttp2_session_callbacks_del, nghttp2_session_callbacks_new,
    nghttp2_session_check_request_allowed, nghttp2_session_client_new3, nghttp2_session_del,
    nghttp2_session_get_last_proc_stream_id, nghttp2_session_get_remote_settings,
    nghttp2_session_mem_recv2, nghttp2_session_mem_send2, nghttp2_session_server_new3,
    nghttp2_session_want_read, nghttp2_session_want_write, nghttp2_settings_entry,
    nghttp2_submit_goaway, nghttp2_submit_ping, nghttp2_submit_request2, nghttp2_submit_response2,
    nghttp2_submit_rst_stream, nghttp2_submit_settings, nghttp2_submit_shutdown_notice,
};
use memory::Memory;
use std::ffi::{c_int, c_void};
use std::ptr::{NonNull, null, null_mut};

/// Maximum number of fields of a message that is sent.
pub(crate) const FIELDS_MAX: usize = 16;
/// Error codes of HTTP/2 (RFC 9113 §7).
pub(crate) mod code {
    pub(crate) const NO_ERROR: u32 = 0;
    pub(crate) const PROTOCOL_ERROR: u32 = 1;
    pub(crate) const INTERNAL_ERROR: u32 = 2;
    pub(crate) const REFUSED_STREAM: u32 = 7;
    pub(crate) const CANCEL: u32 = 8;
    pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;
}

/// Kind of a frame that begins to arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// DATA. `is_empty`: without bytes, and not the last of its stream.
    Data {
        is_empty: bool,
    },
    Headers,
    /// Acknowledgement of a SETTINGS or a PING.
    Acknowledgement,
    /// Any other.
    Other,
}

/// A frame that has arrived, and is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// The peer's message on the stream is complete.
    End { stream: u32 },
    /// DATA that is all padding, and not the last of its stream.
    Padding,
    /// Acknowledgement of a PING.
    Pong,
    /// GOAWAY: streams of ours above `last` were not processed.
    GoAway { last: u32 },
}

/// Reaction to an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// None.
    Continue,
    /// The stream is reset with this code.
    Reset(u32),
    /// The session ends with a GOAWAY with this code.
    End(u32),
}

/// Receiver of a session's events. No method may panic, because the library is on the stack.
pub(crate) trait Events {
    /// A frame begins to arrive.
    fn frame_begins(&mut self, kind: Kind) -> Verdict;
    /// The fields of a message, or of its trailer, begin to arrive on `stream`.
    fn headers_begin(&mut self, stream: u32, is_trailer: bool) -> Verdict;
    /// A field of them.
    fn header(&mut self, stream: u32, name: &[u8], value: &[u8]) -> Verdict;
    /// Bytes of the body.
    fn data(&mut self, stream: u32, bytes: &[u8]) -> Verdict;
    /// A frame has arrived.
    fn frame(&mut self, frame: Frame) -> Verdict;
    /// An invalid frame has arrived, which the library answers with a reset or a GOAWAY.
    fn invalid(&mut self) -> Verdict;
    /// The stream is closed: its messages are complete, or it was reset with this code.
    fn closed(&mut self, stream: u32, code: u32);
    /// Writes bytes of the body to send; returns their number, and true if the body ends there.
    fn body(&mut self, stream: u32, room: &mut [u8]) -> (usize, bool);
    /// Returns the field behind the body.
    fn trailer(&self, stream: u32) -> Option<(&'static [u8], &'static [u8])>;
}

/// A field of a message to send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field<'a> {
    /// Name in lower case.
    pub(crate) name: &'static [u8],
    pub(crate) value: &'a [u8],
    /// The same value follows again, so it is worth a place in the table of the compression.
    pub(crate) repeats: bool,
}

/// Limits of a session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Streams of the peer at once.
    pub(crate) streams_max: u32,
    /// Maximum size of the fields of a message, which the peer gets; the receiver of events
    /// enforces it.
    pub(crate) header_bytes_max: u32,
    /// Bytes of a body that the peer may send ahead.
    pub(crate) window: u32,
    /// Bytes of memory.
    pub(crate) memory_max: usize,
}

/// Failure after which a session is useless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// The peer floods, or its data exceed the bound of the memory.
    Flood,
    /// The peer does not begin as HTTP/2 demands.
    Preface,
    /// Any other.
    Other,
}

/// Contents of a session that the library refers to, so they stay where they are.
struct Held<E> {
    events: E,
    memory: Memory,
}

pub(crate) struct Session<E: Events> {
    session: NonNull<nghttp2_session>,
    held: NonNull<Held<E>>,
}

// SAFETY: the library ties a session to no thread, and the session is the only owner of what it
// refers to.
unsafe impl<E: Events + Send> Send for Session<E> {}

impl<E: Events> Session<E> {
    /// Creates the session of a server; `None`: memory has run out.
    pub(crate) fn server(events: E, limits: &Limits) -> Option<Self> {
        let mut session = Self::create(events, limits, nghttp2_session_server_new3)?;
        session
            .settings(&[
                (NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, limits.streams_max),
                (NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, limits.window),
                (NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, limits.header_bytes_max),
                (NGHTTP2_SETTINGS_ENABLE_PUSH, 0),
                (NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1),
            ])
            .ok()?;
        Some(session)
    }

    /// Creates the session of a client; `None`: memory has run out.
    pub(crate) fn client(events: E, limits: &Limits) -> Option<Self> {
        let mut session = Self::create(events, limits, nghttp2_session_client_new3)?;
        session
            .settings(&[
                (NGHTTP2_SETTINGS_ENABLE_PUSH, 0),
                (NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, limits.window),
                (NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, limits.header_bytes_max),
            ])
            .ok()?;
        Some(session)
    }

    fn create(events: E, limits: &Limits, new: New) -> Option<Self> {
        let held = Box::new(Held { events, memory: Memory::new(limits.memory_max) });
        let held = NonNull::from(Box::leak(held));
        let session = create(held, new);
        if session.is_none() {
            // SAFETY: it was leaked above, and no session refers to it.
            drop(unsafe { Box::from_raw(held.as_ptr()) });
        }
        Some(Self { session: session?, held })
    }

    fn settings(&mut self, entries: &[(u32, u32)]) -> Result<(), Broken> {
        let none = nghttp2_settings_entry { settings_id: 0, value: 0 };
        let mut list = [none; 8];
        for (place, (settings_id, value)) in list.iter_mut().zip(entries) {
            *place = nghttp2_settings_entry { settings_id: *settings_id as c_int, value: *value };
        }
        let (flags, count) = (NGHTTP2_FLAG_NONE as u8, entries.len().min(list.len()));
        // SAFETY: the session is live, and the library copies the entries.
        sound(unsafe {
            nghttp2_submit_settings(self.session.as_ptr(), flags, list.as_ptr(), count)
        })
    }

    /// The receiver of events.
    pub(crate) fn events(&self) -> &E {
        // SAFETY: it lives as long as the session; the library uses it only while a method that
        // borrows the session mutably runs.
        unsafe { &(*self.held.as_ptr()).events }
    }

    /// The receiver of events.
    pub(crate) fn events_mut(&mut self) -> &mut E {
        // SAFETY: as above.
        unsafe { &mut (*self.held.as_ptr()).events }
    }

    /// Bytes of memory that the library holds, and the maximum so far.
    pub(crate) fn memory(&self) -> (usize, usize) {
        // SAFETY: it lives as long as the session, and is only used through shared references.
        let memory = unsafe { &(*self.held.as_ptr()).memory };
        (memory.used(), memory.peak())
    }

    /// Parses received bytes.
    ///
    /// # Errors
    /// The session must not be used any more.
    pub(crate) fn receive(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        // SAFETY: the session is live, and so are the bytes during the call; no reference to the
        // receiver of events exists.
        let outcome = unsafe {
            nghttp2_session_mem_recv2(self.session.as_ptr(), bytes.as_ptr(), bytes.len())
        };
        sound(c_int::try_from(outcome.min(0)).unwrap_or(c_int::MIN))
    }

    /// Returns the next bytes to send: one frame, of at most 16 KB, or the end of one.
    ///
    /// # Errors
    /// The session must not be used any more.
    pub(crate) fn next_bytes(&mut self) -> Result<Option<&[u8]>, Broken> {
        let mut start = null();
        // SAFETY: the session is live, `start` is a place for an address, and no reference to the
        // receiver of events exists.
        let len = unsafe { nghttp2_session_mem_send2(self.session.as_ptr(), &raw mut start) };
        let Ok(count) = usize::try_from(len) else {
            return Err(broken(c_int::try_from(len).unwrap_or(c_int::MIN)));
        };
        // SAFETY: the bytes are valid until the next call of the session, which needs the borrow
        // that the result has.
        Ok((count > 0).then(|| unsafe { bytes(start, count) }))
    }

    /// Sends the head of a response, and a body, if there is one, as [`Events::body`] writes it. A
    /// stream that is closed is ignored.
    ///
    /// # Errors
    /// The session must not be used any more.
    pub(crate) fn respond(
        &mut self,
        stream: u32,
        fields: &[Field<'_>],
        has_body: bool,
    ) -> Result<(), Broken> {
        let (list, count) = list(fields);
        let source = nghttp2_data_source { ptr: null_mut() };
        let body =
            nghttp2_data_provider2 { source, read_callback: Some(callbacks::read_body::<E>) };
        let body = if has_body { &raw const body } else { null() };
        // SAFETY: the session is live; the library copies the provider, the list, and all of its
        // texts but the names, which are static.
        let outcome = unsafe {
            nghttp2_submit_response2(
                self.session.as_ptr(),
                stream as i32,
                list.as_ptr(),
                count,
                body,
            )
        };
        if outcome == NGHTTP2_ERR_NOMEM { Err(Broken::Flood) } else { Ok(()) }
    }

    /// Sends the head of a request, and a body, if there is one, as [`Events::body`] writes it.
    /// Returns the stream; `None`: no further stream can be opened.
    ///
    /// # Errors
    /// The session must not be used any more.
    pub(crate) fn request(
        &mut self,
        fields: &[Field<'_>],
        has_body: bool,
    ) -> Result<Option<u32>, Broken> {
        let (list, count) = list(fields);
        let source = nghttp2_data_source { ptr: null_mut() };
        let body =
            nghttp2_data_provider2 { source, read_callback: Some(callbacks::read_body::<E>) };
        let body = if has_body { &raw const body } else { null() };
        // SAFETY: the session is live; no priority and no data of the stream are given; the library
        // copies the provider, the list, and all of its texts but the names, which are static.
        let stream = unsafe {
            nghttp2_submit_request2(
                self.session.as_ptr(),
                null(),
                list.as_ptr(),
                count,
                body,
                null_mut(),
            )
        };
        match stream {
            NGHTTP2_ERR_NOMEM => Err(Broken::Flood),
            stream => Ok(u32::try_from(stream).ok()),
        }
    }

    /// Resets a stream.
    ///
    /// # Errors
    /// The session must not be used any more.
    pub(crate) fn reset(&mut self, stream: u32, code: u32) -> Result<(), Broken> {
        let (flags, stream) = (NGHTTP2_FLAG_NONE as u8, stream as i32);
        // SAFETY: the session is live.
        sound(unsafe { nghttp2_submit_rst_stream(self.session.as_ptr(), flags, stream, code) })
    }

    /// Number of streams that the peer allows at once.
    pub(crate) fn peer_streams_max(&self) -> u32 {
        let setting = NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS;
        // SAFETY: the session is live, and the call only reads a number.
        unsafe { nghttp2_session_get_remote_settings(self.session.as_ptr(), setting) }
    }

    /// Returns true if the peer takes further streams.
    pub(crate) fn may_request(&self) -> bool {
        // SAFETY: the session is live, and the call only reads.
        unsafe { nghttp2_session_check_request_allowed(self.session.as_ptr()) != 0 }
    }

    /// Announces a GOAWAY, and sends a PING. The acknowledgement of the PING means that the peer
    /// has seen the announcement.
    ///
    /// # Errors
    /// The session must not be used any more.
    pub(crate) fn announce_end(&mut self) -> Result<(), Broken> {
        // SAFETY: the session is live.
        sound(unsafe { nghttp2_submit_shutdown_notice(self.session.as_ptr()) })?;
        // SAFETY: as above; without data, eight zeros are sent.
        sound(unsafe {
            nghttp2_submit_ping(self.session.as_ptr(), NGHTTP2_FLAG_NONE as u8, null())
        })
    }

    /// Refuses streams of the peer above `last` with a GOAWAY; the others are completed.
    ///
    /// # Errors
    /// The session must not be used any more.
    pub(crate) fn refuse_streams(&mut self, last: u32) -> Result<(), Broken> {
        let (flags, last) = (NGHTTP2_FLAG_NONE as u8, last as i32);
        // SAFETY: the session is live, and no data are given.
        sound(unsafe {
            nghttp2_submit_goaway(self.session.as_ptr(), flags, last, code::NO_ERROR, null(), 0)
        })
    }

    /// Number of the peer's last stream that was taken. Valid for a session that is broken.
    pub(crate) fn last_processed(&self) -> u32 {
        // SAFETY: the session is live, and the call only reads a number.
        unsafe { nghttp2_session_get_last_proc_stream_id(self.session.as_ptr()) as u32 }
    }

    /// Returns true if the session has, or expects, anything to do in either direction.
    pub(crate) fn is_live(&self) -> bool {
        // SAFETY: the session is live, and the call only reads.
        let wants_read = unsafe { nghttp2_session_want_read(self.session.as_ptr()) };
        wants_read != 0 || self.wants_write()
    }

    /// Returns true if a frame can be sent now.
    pub(crate) fn wants_write(&self) -> bool {
        // SAFETY: the session is live, and the call only reads.
        unsafe { nghttp2_session_want_write(self.session.as_ptr()) != 0 }
    }
}

impl<E: Events> Drop for Session<E> {
    fn drop(&mut self) {
        // SAFETY: the session is live, and not used afterwards. This calls no callback but those of
        // the memory.
        unsafe { nghttp2_session_del(self.session.as_ptr()) };
        // SAFETY: it was leaked by `create`, and nothing refers to it any more.
        drop(unsafe { Box::from_raw(self.held.as_ptr()) });
    }
}

/// Function that creates a session, for one of the two sides.
type New = unsafe extern "C" fn(
    *mut *mut nghttp2_session,
    *const nghttp2_session_callbacks,
    *mut c_void,
    *const nghttp2_option,
    *mut nghttp2_mem,
) -> c_int;

/// Creates a session that refers to `held`; `None`: memory has run out.
fn create<E: Events>(held: NonNull<Held<E>>, new: New) -> Option<NonNull<nghttp2_session>> {
    let held = held.as_ptr();
    // SAFETY: the place is live, and no reference is made.
    let events = unsafe { &raw mut (*held).events };
    // SAFETY: as above.
    let memory = unsafe { &raw const (*held).memory };
    let mut session = null_mut();
    let (mut callbacks, mut options) = (null_mut(), null_mut());
    // SAFETY: it is a place for an address.
    let has_callbacks = unsafe { nghttp2_session_callbacks_new(&raw mut callbacks) } == 0;
    // SAFETY: as above.
    let has_options = unsafe { nghttp2_option_new(&raw mut options) } == 0;
    if has_callbacks && has_options {
        // SAFETY: the callbacks are live, and the user data of their only session is an `E`.
        unsafe { callbacks::register::<E>(callbacks) };
        // SAFETY: the options are live.
        unsafe { options::limit(options) };
        let mut functions = memory::functions(memory);
        let (place, functions) = (&raw mut session, &raw mut functions);
        // SAFETY: all are live, and the library copies the callbacks, the options and the
        // functions.
        if unsafe { new(place, callbacks, events.cast(), options, functions) } != 0 {
            session = null_mut();
        }
    }
    // SAFETY: they are null or were made above.
    unsafe { nghttp2_session_callbacks_del(callbacks) };
    // SAFETY: as above.
    unsafe { nghttp2_option_del(options) };
    NonNull::new(session)
}

/// Returns the library's form of fields.
fn list(fields: &[Field<'_>]) -> ([nghttp2_nv; FIELDS_MAX], usize) {
    debug_assert!(fields.len() <= FIELDS_MAX, "too many fields");
    let none = nghttp2_nv {
        name: null_mut(),
        value: null_mut(),
        namelen: 0,
        valuelen: 0,
        flags: NGHTTP2_NV_FLAG_NONE as u8,
    };
    let mut list = [none; FIELDS_MAX];
    for (place, field) in list.iter_mut().zip(fields) {
        let indexing = if field.repeats { NGHTTP2_NV_FLAG_NONE } else { NGHTTP2_NV_FLAG_NO_INDEX };
        *place = nghttp2_nv {
            name: field.name.as_ptr().cast_mut(),
            value: field.value.as_ptr().cast_mut(),
            namelen: field.name.len(),
            valuelen: field.value.len(),
            flags: (NGHTTP2_NV_FLAG_NO_COPY_NAME | indexing) as u8,
        };
    }
    (list, fields.len().min(FIELDS_MAX))
}

/// Returns `len` bytes at `start`, which may be null for none.
///
/// # Safety
/// If `len` is not 0, the bytes live, unchanged, for `'a`.
unsafe fn bytes<'a>(start: *const u8, len: usize) -> &'a [u8] {
    if len == 0 {
        return &[];
    }
    // SAFETY: by the caller's promise.
    unsafe { std::slice::from_raw_parts(start, len) }
}

fn sound(outcome: c_int) -> Result<(), Broken> {
    if outcome == 0 { Ok(()) } else { Err(broken(outcome)) }
}

fn broken(outcome: c_int) -> Broken {
    match outcome {
        NGHTTP2_ERR_NOMEM | NGHTTP2_ERR_FLOODED | NGHTTP2_ERR_TOO_MANY_CONTINUATIONS => {
            Broken::Flood
        }
        NGHTTP2_ERR_BAD_CLIENT_MAGIC => Broken::Preface,
        _ => Broken::Other,
    }
}
