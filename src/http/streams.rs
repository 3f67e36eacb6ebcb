//! The streams of a client's HTTP/2 connection: requests that arrive, and answers that leave.
//!
//! A stream is *receiving* until its request is complete, *ready* until it is taken, *taken* until
//! it is answered, and *answering* until the answer has been sent; if it is reset, it is gone at
//! once. Streams are ordered by their numbers, which only grow. No method panics, because the
//! library is on the stack.

use super::limits::{Full, KEPT_BYTES_MAX, Limits, POINTS_BACK};
use super::request::{Fault, Incoming, Method, Request};
use super::response::Response;
use crate::sys::nghttp2::{Events, Frame, Kind, Verdict, code};
use std::collections::VecDeque;

/// Bytes of all requests that are not taken.
const REQUEST_BYTES_MAX: usize = 128 << 10;
/// Size of fields, as a multiple of their limit, beyond which a block can only be an attack.
const BOMB: usize = 8;
/// Overhead of a field in the size of a list (RFC 9113 §6.5.2).
const FIELD_OVERHEAD: usize = 32;
/// Buffers kept for new streams, and their maximum capacity.
const SPARE_MAX: usize = 4;
const SPARE_BYTES: usize = 1 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Receiving,
    /// The request is complete; or, if it was reset by this side, it never will be.
    Ready,
    Taken,
    Answering,
    /// Reset by this side; the frame that says so has not been sent.
    Reset,
}

#[derive(Debug)]
struct Stream {
    id: u32,
    state: State,
    incoming: Incoming,
    is_in_trailer: bool,
    /// The answer's body, of which this many bytes have been sent.
    body: Vec<u8>,
    sent: usize,
    trailer: Option<(&'static str, &'static str)>,
}

/// The streams of a connection.
#[derive(Debug)]
pub(super) struct Streams {
    limits: Limits,
    /// Ordered by number.
    streams: Vec<Stream>,
    ready: VecDeque<u32>,
    cancelled: VecDeque<u32>,
    /// The request that was taken last.
    current: Incoming,
    spare: Vec<Vec<u8>>,
    points: u32,
    /// Bytes of requests that are not taken.
    held: usize,
    /// Bytes of answers that have not been sent.
    kept: usize,
    /// Number of streams that are taken.
    taken: usize,
    /// Highest stream whose request was ever taken.
    last_taken: u32,
    has_pong: bool,
}

impl Streams {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            streams: Vec::new(),
            ready: VecDeque::new(),
            cancelled: VecDeque::new(),
            current: Incoming::default(),
            spare: Vec::new(),
            points: limits.points_max,
            held: 0,
            kept: 0,
            taken: 0,
            last_taken: 0,
            has_pong: false,
        }
    }

    /// Maximum memory: buffers grow by doubling.
    pub(super) fn bytes_max(limits: &Limits) -> usize {
        let one = size_of::<Stream>() + 2 * size_of::<u32>();
        let request = limits.header_bytes_max + limits.body_bytes_max;
        let answers = KEPT_BYTES_MAX + usize::from(u16::MAX);
        let places = 2 * limits.outstanding_max as usize * one;
        2 * (REQUEST_BYTES_MAX + request + answers) + places + SPARE_MAX * SPARE_BYTES
    }

    /// Returns the next complete request.
    pub(super) fn next_request(&mut self) -> Option<Request<'_>> {
        let id = self.ready.pop_front()?;
        let at = self.place(id)?;
        let stream = self.streams.get_mut(at)?;
        debug_assert_eq!(stream.state, State::Ready);
        stream.state = State::Taken;
        self.taken += 1;
        self.last_taken = self.last_taken.max(id);
        self.held = self.held.saturating_sub(stream.incoming.len());
        let before = std::mem::replace(&mut self.current, std::mem::take(&mut stream.incoming));
        stream.incoming.method = self.current.method;
        let bytes = before.into_bytes();
        // A large buffer would stay with the stream, beyond the bound of a connection.
        stream.body = if bytes.capacity() <= SPARE_BYTES { bytes } else { Vec::new() };
        Some(self.current.view(id))
    }

    /// Returns the number of a request that was taken and then cancelled.
    pub(super) fn next_cancelled(&mut self) -> Option<u32> {
        self.cancelled.pop_front()
    }

    /// Takes the answer to a request. Returns true if it has a body; `None`: it is not awaited.
    pub(super) fn answer(
        &mut self,
        id: u32,
        response: &Response<'_>,
    ) -> Result<Option<bool>, Full> {
        let found = self.place(id).and_then(|at| self.streams.get_mut(at));
        let Some(stream) = found.filter(|stream| stream.state == State::Taken) else {
            return Ok(None);
        };
        if self.kept > KEPT_BYTES_MAX {
            return Err(Full);
        }
        stream.state = State::Answering;
        self.taken -= 1;
        let len = response.len();
        if response.status == 200 && len > 0 {
            self.points = self.points.saturating_add(POINTS_BACK).min(self.limits.points_max);
        }
        let has_body = len > 0 && stream.incoming.method != Method::Head;
        stream.body.clear();
        stream.sent = 0;
        if has_body {
            response.body.iter().for_each(|part| stream.body.extend_from_slice(part));
            stream.trailer = response.trailer;
            self.kept += len;
        }
        Ok(Some(has_body))
    }

    /// Returns true if an acknowledgement of a PING has arrived since the last call.
    pub(super) fn take_pong(&mut self) -> bool {
        std::mem::take(&mut self.has_pong)
    }

    /// Returns the highest stream whose request was taken.
    pub(super) fn last_taken(&self) -> u32 {
        self.last_taken
    }

    pub(super) fn outstanding(&self) -> usize {
        self.taken
    }

    pub(super) fn is_receiving(&self) -> bool {
        self.streams.iter().any(|stream| stream.state == State::Receiving)
    }

    /// Bytes of answers that are not sent.
    pub(super) fn kept(&self) -> usize {
        self.kept
    }

    fn place(&self, id: u32) -> Option<usize> {
        // Mostly it is the last.
        match self.streams.last() {
            Some(last) if last.id == id => Some(self.streams.len() - 1),
            _ => self.streams.binary_search_by_key(&id, |stream| stream.id).ok(),
        }
    }

    /// Takes points for a frame without use.
    fn charge(&mut self) -> Verdict {
        match self.points.checked_sub(1) {
            Some(left) => {
                self.points = left;
                Verdict::Continue
            }
            None => Verdict::End(code::ENHANCE_YOUR_CALM),
        }
    }

    /// Resets a stream, which costs points as well.
    fn reset(&mut self, at: usize, code: u32) -> Verdict {
        if let Some(stream) = self.streams.get_mut(at) {
            stream.state = State::Reset;
        }
        match self.charge() {
            Verdict::Continue => Verdict::Reset(code),
            verdict => verdict,
        }
    }

    /// Gives the memory of a stream to later ones.
    fn recycle(&mut self, stream: Stream) {
        let longer = if stream.body.capacity() > 0 { stream.body } else { stream.incoming.bytes };
        let is_useful = (1..=SPARE_BYTES).contains(&longer.capacity());
        if is_useful && self.spare.len() < SPARE_MAX {
            self.spare.push(longer);
        }
    }
}

impl Events for Streams {
    fn frame_begins(&mut self, kind: Kind) -> Verdict {
        match kind {
            Kind::Headers | Kind::Acknowledgement | Kind::Data { is_empty: false } => {
                Verdict::Continue
            }
            Kind::Data { is_empty: true } | Kind::Other => self.charge(),
        }
    }

    fn headers_begin(&mut self, stream: u32, is_trailer: bool) -> Verdict {
        if let Some(at) = self.place(stream) {
            if let Some(stream) = self.streams.get_mut(at) {
                stream.is_in_trailer = is_trailer;
            }
            return Verdict::Continue;
        }
        let bytes = self.spare.pop().unwrap_or_default();
        self.streams.push(Stream {
            id: stream,
            state: State::Receiving,
            incoming: Incoming::new(bytes),
            is_in_trailer: false,
            body: Vec::new(),
            sent: 0,
            trailer: None,
        });
        Verdict::Continue
    }

    fn header(&mut self, stream: u32, name: &[u8], value: &[u8]) -> Verdict {
        let Some(at) = self.place(stream) else { return Verdict::Continue };
        let limits = self.limits;
        let Some(stream) = self.streams.get_mut(at) else { return Verdict::Continue };
        let incoming = &mut stream.incoming;
        let (before, was_fine) = (incoming.len(), incoming.fault.is_none());
        if !incoming.lists(name.len() + value.len() + FIELD_OVERHEAD, &limits) {
            if incoming.listed() > BOMB * limits.header_bytes_max {
                return Verdict::End(code::ENHANCE_YOUR_CALM);
            }
            return if was_fine { self.charge() } else { Verdict::Continue };
        }
        if stream.is_in_trailer {
            return Verdict::Continue;
        }
        match name {
            b":method" => incoming.method = Method::of(value),
            b":path" => incoming.set_target(value),
            b":authority" | b"host" => incoming.set_host(value),
            _ => incoming.field(name, value),
        }
        self.held += incoming.len() - before;
        if self.held > REQUEST_BYTES_MAX {
            return self.reset(at, code::ENHANCE_YOUR_CALM);
        }
        Verdict::Continue
    }

    fn data(&mut self, stream: u32, bytes: &[u8]) -> Verdict {
        let Some(at) = self.place(stream) else { return Verdict::Continue };
        let limits = self.limits;
        let Some(stream) = self.streams.get_mut(at) else { return Verdict::Continue };
        if stream.state != State::Receiving || bytes.is_empty() {
            return Verdict::Continue;
        }
        let incoming = &mut stream.incoming;
        if matches!(incoming.method, Method::Get | Method::Head) {
            return self.reset(at, code::PROTOCOL_ERROR);
        }
        let before = incoming.len();
        let is_bounded = incoming.data(bytes, &limits);
        self.held += incoming.len() - before;
        if !is_bounded || self.held > REQUEST_BYTES_MAX {
            return self.reset(at, code::ENHANCE_YOUR_CALM);
        }
        Verdict::Continue
    }

    fn frame(&mut self, frame: Frame) -> Verdict {
        match frame {
            Frame::End { stream: id } => {
                let found = self.place(id).and_then(|at| self.streams.get_mut(at));
                if let Some(stream) = found.filter(|stream| stream.state == State::Receiving) {
                    stream.state = State::Ready;
                    self.ready.push_back(id);
                    if matches!(stream.incoming.fault, Some(Fault::Excess(_))) {
                        return self.charge();
                    }
                }
            }
            Frame::Padding => return self.charge(),
            Frame::Pong => self.has_pong = true,
            Frame::GoAway { .. } => {}
        }
        Verdict::Continue
    }

    fn invalid(&mut self) -> Verdict {
        self.charge()
    }

    fn closed(&mut self, stream: u32, _code: u32) {
        let Some(at) = self.place(stream) else { return };
        let stream = self.streams.remove(at);
        match stream.state {
            State::Taken => {
                self.taken -= 1;
                self.cancelled.push_back(stream.id);
            }
            State::Ready => self.ready.retain(|id| *id != stream.id),
            _ => {}
        }
        if !matches!(stream.state, State::Taken | State::Answering) {
            self.held = self.held.saturating_sub(stream.incoming.len());
        }
        self.kept = self.kept.saturating_sub(stream.body.len().saturating_sub(stream.sent));
        self.recycle(stream);
    }

    fn body(&mut self, stream: u32, room: &mut [u8]) -> (usize, bool) {
        let found = self.place(stream).and_then(|at| self.streams.get_mut(at));
        let Some(stream) = found else { return (0, true) };
        let waiting = stream.body.get(stream.sent..).unwrap_or_default();
        let count = waiting.len().min(room.len());
        if let (Some(room), Some(part)) = (room.get_mut(..count), waiting.get(..count)) {
            room.copy_from_slice(part);
        }
        stream.sent += count;
        self.kept = self.kept.saturating_sub(count);
        (count, stream.sent == stream.body.len())
    }

    fn trailer(&self, stream: u32) -> Option<(&'static [u8], &'static [u8])> {
        let stream = self.place(stream).and_then(|at| self.streams.get(at))?;
        stream.trailer.map(|(name, value)| (name.as_bytes(), value.as_bytes()))
    }
}
