//! HTTP/2 to an upstream: many calls at once, each a stream.
//!
//! The server's limit of streams is respected, and a GOAWAY or a refusal fails exactly the calls
//! that the server has not processed (RFC 9113 §6.8, §8.7). Frames without use cost points, as for
//! clients: an upstream is not trusted either.

use super::super::limits::POINTS_BACK;
use super::super::request::Method;
use super::{Arriving, BODY_BYTES_MAX, Call, Failure, HEADER_BYTES_MAX, Reply, number};
use crate::sys::nghttp2::{
    self, Broken, Events, FIELDS_MAX, Field, Frame, Kind, Session, Verdict, code,
};
use std::collections::VecDeque;

/// Bytes of a reply that a server may send ahead.
const WINDOW: u32 = 65_535;
/// Bytes of all replies that are not complete, or not taken.
const REPLY_BYTES_MAX: usize = 1 << 20;
/// Memory of a session without streams, and of a stream.
const SESSION_BYTES: usize = 192 << 10;
const STREAM_BYTES: usize = 1 << 10;
/// Bytes of a request's body: a DNS query.
const REQUEST_BYTES_MAX: usize = 1 << 10;
/// Frames without use that a server may send.
const POINTS_MAX: u32 = 256;
/// Overhead of a field in the size of a list (RFC 9113 §6.5.2).
const FIELD_OVERHEAD: usize = 32;
/// Buffers kept for new calls, and their maximum capacity.
const SPARE_MAX: usize = 4;
const SPARE_BYTES: usize = 1 << 10;
/// Fields whose values differ from call to call.
const VARYING: [&str; 1] = ["content-length"];

/// A connection.
pub(super) struct Http2 {
    /// The library's session; `None`: memory had run out.
    session: Option<Session<Calls>>,
    outstanding_max: u32,
    /// No call follows.
    is_leaving: bool,
    /// The session has failed or the connection has ended.
    is_over: bool,
}

impl Http2 {
    pub(super) fn new(outstanding_max: u32) -> Self {
        let limits = nghttp2::Limits {
            streams_max: 0,
            header_bytes_max: HEADER_BYTES_MAX as u32,
            window: WINDOW,
            memory_max: SESSION_BYTES + outstanding_max as usize * STREAM_BYTES,
        };
        let session = Session::client(Calls::new(), &limits);
        Self { is_over: session.is_none(), is_leaving: false, session, outstanding_max }
    }

    /// The session with its streams and requests, and replies with one that is being taken.
    pub(super) fn bytes_max(outstanding_max: u32) -> usize {
        let request = REQUEST_BYTES_MAX + size_of::<Stream>();
        let of_requests = outstanding_max as usize * (STREAM_BYTES + request);
        size_of::<Self>() + SESSION_BYTES + of_requests + REPLY_BYTES_MAX + BODY_BYTES_MAX
    }

    pub(super) fn calls_max(&self) -> usize {
        let allowed = self.session.as_ref().map_or(0, Session::peer_streams_max);
        allowed.min(self.outstanding_max) as usize
    }

    pub(super) fn capacity(&self) -> usize {
        let Some(session) = self.session.as_ref().filter(|_| !self.is_ending()) else { return 0 };
        self.calls_max().saturating_sub(session.events().calls.len())
    }

    pub(super) fn call(&mut self, call: &Call<'_>) -> Option<u32> {
        if self.capacity() == 0 {
            return None;
        }
        let session = self.session.as_mut()?;
        let mut digits = itoa::Buffer::new();
        let len = call.len();
        let is_post = call.method == Method::Post;
        let method: &[u8] = if is_post { b"POST" } else { b"GET" };
        let none = Field { name: b":method", value: method, repeats: true };
        let mut fields = [none; FIELDS_MAX];
        let given = call.headers.iter().map(|(name, value)| Field {
            name: name.as_bytes(),
            value,
            repeats: !VARYING.contains(name),
        });
        let pseudo = [
            none,
            Field { name: b":scheme", value: call.scheme, repeats: true },
            Field { name: b":authority", value: call.authority, repeats: true },
            Field { name: b":path", value: call.target, repeats: is_post },
        ];
        let length = (len > 0).then(|| Field {
            name: b"content-length",
            value: digits.format(len).as_bytes(),
            repeats: false,
        });
        let mut count = 0;
        for (place, field) in fields.iter_mut().zip(pseudo.into_iter().chain(given).chain(length)) {
            *place = field;
            count += 1;
        }
        match session.request(fields.get(..count).unwrap_or_default(), len > 0) {
            Ok(Some(id)) => {
                session.events_mut().begin(id, call);
                Some(id)
            }
            Ok(None) => None,
            Err(_) => {
                self.end();
                None
            }
        }
    }

    pub(super) fn cancel(&mut self, id: u32) {
        let is_known = self.session.as_mut().is_some_and(|session| session.events_mut().forget(id));
        if is_known {
            let outcome = self.with(|session| session.reset(id, code::CANCEL));
            self.on_outcome(outcome);
        }
    }

    pub(super) fn receive(&mut self, bytes: &[u8]) {
        let outcome = self.with(|session| session.receive(bytes));
        self.on_outcome(outcome);
    }

    /// Fails all calls that have no reply.
    pub(super) fn end(&mut self) {
        self.is_over = true;
        if let Some(session) = &mut self.session {
            session.events_mut().fail_all();
        }
    }

    pub(super) fn next_reply(&mut self) -> Option<Reply<'_>> {
        self.session.as_mut()?.events_mut().next_reply()
    }

    pub(super) fn next_failed(&mut self) -> Option<(u32, Failure)> {
        self.session.as_mut()?.events_mut().failed.pop_front()
    }

    pub(super) fn transmit(&mut self, out: &mut Vec<u8>, len_max: usize) {
        let outcome = self.with(|session| {
            while out.len() < len_max {
                let Some(bytes) = session.next_bytes()? else { break };
                out.extend_from_slice(bytes);
            }
            Ok(())
        });
        self.on_outcome(outcome);
    }

    pub(super) fn shut_down(&mut self) {
        self.is_leaving = true;
        let outcome = self.with(|session| session.refuse_streams(session.last_processed()));
        self.on_outcome(outcome);
    }

    pub(super) fn is_ending(&self) -> bool {
        let may_call = self.session.as_ref().is_some_and(Session::may_request);
        self.is_over || self.is_leaving || !may_call
    }

    pub(super) fn outstanding(&self) -> usize {
        self.session.as_ref().map_or(0, |session| session.events().calls.len())
    }

    fn with(
        &mut self,
        act: impl FnOnce(&mut Session<Calls>) -> Result<(), Broken>,
    ) -> Result<(), Broken> {
        self.session.as_mut().filter(|_| !self.is_over).map_or(Ok(()), act)
    }

    /// Ends the connection after a failure, or when the library has nothing more to do.
    fn on_outcome(&mut self, outcome: Result<(), Broken>) {
        let is_live =
            self.session.as_ref().is_some_and(|session| self.is_over || session.is_live());
        if outcome.is_err() || !is_live {
            self.end();
        }
    }
}

#[derive(Debug)]
struct Stream {
    id: u32,
    reply: Arriving,
    is_in_trailer: bool,
    is_complete: bool,
    failure: Option<Failure>,
    /// The call's body, of which this many bytes have been sent.
    body: Vec<u8>,
    sent: usize,
}

/// The calls of a connection.
#[derive(Debug)]
struct Calls {
    /// Ordered by number.
    calls: Vec<Stream>,
    complete: VecDeque<(u32, Arriving)>,
    failed: VecDeque<(u32, Failure)>,
    /// The reply that was taken last.
    current: Arriving,
    spare: Vec<Vec<u8>>,
    points: u32,
    /// Bytes of replies.
    held: usize,
}

impl Calls {
    fn new() -> Self {
        Self {
            calls: Vec::new(),
            complete: VecDeque::new(),
            failed: VecDeque::new(),
            current: Arriving::default(),
            spare: Vec::new(),
            points: POINTS_MAX,
            held: 0,
        }
    }

    fn begin(&mut self, id: u32, call: &Call<'_>) {
        let mut body = self.spare.pop().unwrap_or_default();
        call.body.iter().for_each(|part| body.extend_from_slice(part));
        self.calls.push(Stream {
            id,
            reply: Arriving::default(),
            is_in_trailer: false,
            is_complete: false,
            failure: None,
            body,
            sent: 0,
        });
    }

    fn place(&self, id: u32) -> Option<usize> {
        self.calls.binary_search_by_key(&id, |call| call.id).ok()
    }

    /// Removes a call. Returns false if there is none.
    fn forget(&mut self, id: u32) -> bool {
        let Some(at) = self.place(id) else { return false };
        let call = self.calls.remove(at);
        self.held = self.held.saturating_sub(call.reply.body.len());
        self.recycle(call.body);
        true
    }

    fn fail_all(&mut self) {
        for call in self.calls.drain(..) {
            self.failed.push_back((call.id, call.failure.unwrap_or(Failure::Lost)));
        }
    }

    fn next_reply(&mut self) -> Option<Reply<'_>> {
        let (id, reply) = self.complete.pop_front()?;
        self.held = self.held.saturating_sub(reply.body.len());
        let before = std::mem::replace(&mut self.current, reply);
        self.recycle(before.body);
        Some(self.current.view(id))
    }

    /// Gives a buffer to later calls.
    fn recycle(&mut self, mut buffer: Vec<u8>) {
        let is_useful = (1..=SPARE_BYTES).contains(&buffer.capacity());
        if is_useful && self.spare.len() < SPARE_MAX {
            buffer.clear();
            self.spare.push(buffer);
        }
    }

    fn charge(&mut self) -> Verdict {
        match self.points.checked_sub(1) {
            Some(left) => {
                self.points = left;
                Verdict::Continue
            }
            None => Verdict::End(code::ENHANCE_YOUR_CALM),
        }
    }

    /// Refuses the reply of a call.
    fn refuse(&mut self, at: usize) -> Verdict {
        if let Some(call) = self.calls.get_mut(at) {
            call.failure = Some(Failure::Unusable);
        }
        Verdict::Reset(code::CANCEL)
    }
}

impl Events for Calls {
    fn frame_begins(&mut self, kind: Kind) -> Verdict {
        match kind {
            Kind::Headers | Kind::Acknowledgement | Kind::Data { is_empty: false } => {
                Verdict::Continue
            }
            Kind::Data { is_empty: true } | Kind::Other => self.charge(),
        }
    }

    fn headers_begin(&mut self, stream: u32, is_trailer: bool) -> Verdict {
        if let Some(call) = self.place(stream).and_then(|at| self.calls.get_mut(at)) {
            call.is_in_trailer = is_trailer;
        }
        Verdict::Continue
    }

    fn header(&mut self, stream: u32, name: &[u8], value: &[u8]) -> Verdict {
        let Some(at) = self.place(stream) else { return Verdict::Continue };
        let Some(call) = self.calls.get_mut(at) else { return Verdict::Continue };
        if !call.reply.lists(name.len() + value.len() + FIELD_OVERHEAD) {
            return self.refuse(at);
        }
        if name == b":status" {
            // The final reply behind an interim one looks like a trailer.
            call.is_in_trailer = false;
            let status = number(value).and_then(|status| u16::try_from(status).ok());
            call.reply.begin(status.unwrap_or(0));
        } else if !call.is_in_trailer || name == b"grpc-status" {
            call.reply.field(name, value);
        }
        Verdict::Continue
    }

    fn data(&mut self, stream: u32, bytes: &[u8]) -> Verdict {
        let Some(at) = self.place(stream) else { return Verdict::Continue };
        let Some(call) = self.calls.get_mut(at) else { return Verdict::Continue };
        if call.failure.is_some() {
            return Verdict::Continue;
        }
        let is_bounded = bytes.len() <= REPLY_BYTES_MAX.saturating_sub(self.held);
        if call.reply.body.capacity() == 0 && bytes.len() <= BODY_BYTES_MAX {
            call.reply.body = self.spare.pop().unwrap_or_default();
        }
        if !is_bounded || !call.reply.data(bytes) {
            return self.refuse(at);
        }
        self.held += bytes.len();
        Verdict::Continue
    }

    fn frame(&mut self, frame: Frame) -> Verdict {
        match frame {
            Frame::End { stream } => {
                if let Some(call) = self.place(stream).and_then(|at| self.calls.get_mut(at)) {
                    call.is_complete = true;
                }
            }
            Frame::Padding => return self.charge(),
            Frame::Pong | Frame::GoAway { .. } => {}
        }
        Verdict::Continue
    }

    fn invalid(&mut self) -> Verdict {
        self.charge()
    }

    fn closed(&mut self, stream: u32, code: u32) {
        let Some(at) = self.place(stream) else { return };
        let call = self.calls.remove(at);
        self.recycle(call.body);
        if call.is_complete && call.failure.is_none() {
            // A complete reply stands, however the stream is closed.
            self.points = self.points.saturating_add(POINTS_BACK).min(POINTS_MAX);
            self.complete.push_back((stream, call.reply));
            return;
        }
        self.held = self.held.saturating_sub(call.reply.body.len());
        let failure = call.failure.unwrap_or(match code {
            code::REFUSED_STREAM => Failure::Unprocessed,
            code::PROTOCOL_ERROR => Failure::Unusable,
            _ => Failure::Reset,
        });
        self.failed.push_back((stream, failure));
    }

    fn body(&mut self, stream: u32, room: &mut [u8]) -> (usize, bool) {
        let found = self.place(stream).and_then(|at| self.calls.get_mut(at));
        let Some(call) = found else { return (0, true) };
        let waiting = call.body.get(call.sent..).unwrap_or_default();
        let count = waiting.len().min(room.len());
        if let (Some(room), Some(part)) = (room.get_mut(..count), waiting.get(..count)) {
            room.copy_from_slice(part);
        }
        call.sent += count;
        (count, call.sent == call.body.len())
    }

    fn trailer(&self, _stream: u32) -> Option<(&'static [u8], &'static [u8])> {
        None
    }
}
