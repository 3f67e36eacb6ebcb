//! HTTP/1.1 to an upstream: one call after the other.
//!
//! The end of a reply is found by its length, its chunks, or the end of the connection. Bytes that
//! belong to no call end the connection, and so does a call that is given up.

use super::super::chunked::Chunked;
use super::super::http1::head_len;
use super::super::request::{Method, has_token};
use super::{Arriving, BODY_BYTES_MAX, Call, Failure, HEADER_BYTES_MAX, Reply};
use httparse::{EMPTY_HEADER, Header, Response};

/// Maximum number of lines of a head.
const LINES_MAX: usize = 64;

#[derive(Debug, Default)]
enum State {
    /// No call is outstanding.
    #[default]
    Idle,
    Head,
    Body(usize),
    Chunks(Chunked),
    /// The body ends with the connection.
    Rest,
    /// The reply is complete.
    Complete,
    /// The call has failed, and with it the connection.
    Failed(Failure),
    Over,
}

/// A connection.
#[derive(Debug, Default)]
pub(super) struct Http1 {
    state: State,
    last_id: u32,
    /// The head of the reply, as far as it has arrived.
    head: Vec<u8>,
    reply: Arriving,
    /// Bytes to send, from `sent`.
    output: Vec<u8>,
    sent: usize,
    /// No call follows.
    closes: bool,
}

impl Http1 {
    pub(super) fn capacity(&self) -> usize {
        usize::from(matches!(self.state, State::Idle) && !self.closes)
    }

    pub(super) fn call(&mut self, call: &Call<'_>) -> Option<u32> {
        if self.capacity() == 0 {
            return None;
        }
        let mut digits = itoa::Buffer::new();
        let method: &[u8] = if call.method == Method::Post { b"POST " } else { b"GET " };
        let out = &mut self.output;
        out.extend_from_slice(method);
        out.extend_from_slice(call.target);
        out.extend_from_slice(b" HTTP/1.1\r\nhost: ");
        out.extend_from_slice(call.authority);
        out.extend_from_slice(b"\r\n");
        let len = call.len();
        let length = (len > 0).then(|| ("content-length", digits.format(len).as_bytes()));
        for (name, value) in call.headers.iter().copied().chain(length) {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"\r\n");
        call.body.iter().for_each(|part| out.extend_from_slice(part));
        self.reply.clear();
        self.state = State::Head;
        self.last_id = self.last_id.wrapping_add(1).max(1);
        Some(self.last_id)
    }

    pub(super) fn cancel(&mut self, id: u32) {
        if id == self.last_id && self.outstanding() > 0 {
            self.state = State::Over;
        }
    }

    pub(super) fn receive(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match self.take(bytes) {
                Ok(0) => return,
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(failure) => self.state = State::Failed(failure),
            }
        }
    }

    /// Takes bytes for the part that is expected next. Returns their number, 0 if none can be used.
    fn take(&mut self, bytes: &[u8]) -> Result<usize, Failure> {
        match &mut self.state {
            State::Head => self.take_head(bytes),
            State::Body(left) => {
                let count = bytes.len().min(*left);
                *left -= count;
                let is_done = *left == 0;
                self.keep(bytes.get(..count).unwrap_or_default())?;
                if is_done {
                    self.state = State::Complete;
                }
                Ok(count)
            }
            State::Chunks(chunks) => {
                let mut fits = true;
                let take = |data: &[u8]| fits &= self.reply.data(data);
                let (count, is_done) = chunks.decode(bytes, take).map_err(|_| Failure::Unusable)?;
                if !fits {
                    return Err(Failure::Unusable);
                }
                if is_done {
                    self.state = State::Complete;
                }
                Ok(count)
            }
            State::Rest => {
                self.keep(bytes)?;
                Ok(bytes.len())
            }
            State::Complete => {
                // Nobody asked for these bytes; they would be taken for the next reply.
                self.closes = true;
                Ok(0)
            }
            State::Idle => {
                self.state = State::Over;
                Ok(0)
            }
            State::Failed(_) | State::Over => Ok(0),
        }
    }

    fn keep(&mut self, data: &[u8]) -> Result<(), Failure> {
        if self.reply.data(data) { Ok(()) } else { Err(Failure::Unusable) }
    }

    fn take_head(&mut self, bytes: &[u8]) -> Result<usize, Failure> {
        let before = self.head.len();
        let room = HEADER_BYTES_MAX.saturating_sub(before).min(bytes.len());
        self.head.extend_from_slice(bytes.get(..room).unwrap_or_default());
        let Some(len) = head_len(&self.head, before) else {
            let is_full = self.head.len() == HEADER_BYTES_MAX;
            return if is_full { Err(Failure::Unusable) } else { Ok(room) };
        };
        let mut head = std::mem::take(&mut self.head);
        head.truncate(len);
        let state = parse(&head, &mut self.reply, &mut self.closes).ok_or(Failure::Unusable)?;
        head.clear();
        self.head = head;
        self.state = state;
        Ok(len - before)
    }

    pub(super) fn end(&mut self) {
        self.state = match std::mem::take(&mut self.state) {
            State::Rest | State::Complete => State::Complete,
            State::Head | State::Body(_) | State::Chunks(_) => State::Failed(Failure::Lost),
            State::Failed(failure) => State::Failed(failure),
            State::Idle | State::Over => State::Over,
        };
        self.closes = true;
    }

    pub(super) fn next_reply(&mut self) -> Option<Reply<'_>> {
        if !matches!(self.state, State::Complete) {
            return None;
        }
        self.state = if self.closes { State::Over } else { State::Idle };
        Some(self.reply.view(self.last_id))
    }

    pub(super) fn next_failed(&mut self) -> Option<(u32, Failure)> {
        let State::Failed(failure) = self.state else { return None };
        self.state = State::Over;
        Some((self.last_id, failure))
    }

    pub(super) fn transmit(&mut self, out: &mut Vec<u8>, len_max: usize) {
        let waiting = self.output.get(self.sent..).unwrap_or_default();
        let count = waiting.len().min(len_max.saturating_sub(out.len()));
        out.extend_from_slice(waiting.get(..count).unwrap_or_default());
        self.sent += count;
        if self.sent == self.output.len() {
            self.output.clear();
            self.sent = 0;
        }
    }

    pub(super) fn shut_down(&mut self) {
        self.closes = true;
    }

    pub(super) fn is_ending(&self) -> bool {
        self.closes || matches!(self.state, State::Failed(_) | State::Over)
    }

    pub(super) fn outstanding(&self) -> usize {
        usize::from(!matches!(self.state, State::Idle | State::Over))
    }
}

/// Parses a complete head. Returns the state behind it; `None`: it is malformed.
fn parse(head: &[u8], reply: &mut Arriving, closes: &mut bool) -> Option<State> {
    let mut lines = [EMPTY_HEADER; LINES_MAX];
    let mut response = Response::new(&mut lines);
    response.parse(head).ok().filter(|status| status.is_complete())?;
    let status = response.code?;
    if status < 200 {
        // An interim reply; the final one follows. No other protocol was asked for.
        return (status != 101).then_some(State::Head);
    }
    reply.begin(status);
    let lines = &*response.headers;
    for line in lines {
        reply.field(line.name.as_bytes(), line.value);
    }
    let has = |name: &str, token: &[u8]| {
        lines
            .iter()
            .any(|line| line.name.eq_ignore_ascii_case(name) && has_token(line.value, token))
    };
    *closes |= has("connection", b"close");
    *closes |= response.version == Some(0) && !has("connection", b"keep-alive");
    let state = body(lines, status)?;
    *closes |= matches!(state, State::Rest);
    Some(state)
}

/// Returns the form of the body (RFC 9112 §6.3); `None`: it is ambiguous or too long.
fn body(lines: &[Header<'_>], status: u16) -> Option<State> {
    let named =
        |name: &'static str| lines.iter().filter(move |line| line.name.eq_ignore_ascii_case(name));
    let mut codings = named("transfer-encoding");
    let mut lengths = named("content-length");
    let (coding, length) = (codings.next(), lengths.next());
    if codings.next().is_some() || lengths.next().is_some() {
        return None;
    }
    match (coding, length) {
        _ if matches!(status, 204 | 304) => Some(State::Complete),
        (Some(_), Some(_)) => None,
        (Some(line), None) => {
            let is_chunked = line.value.trim_ascii().eq_ignore_ascii_case(b"chunked");
            is_chunked.then(|| State::Chunks(Chunked::new()))
        }
        (None, Some(line)) => {
            let len = usize::try_from(super::number(line.value)?).ok()?;
            match len {
                0 => Some(State::Complete),
                1..=BODY_BYTES_MAX => Some(State::Body(len)),
                _ => None,
            }
        }
        (None, None) => Some(State::Rest),
    }
}
