//! HTTP/1.1 and 1.0 (RFC 9112): a client's connection.
//!
//! Requests are parsed one after the other from a bounded buffer, and may be pipelined: a request
//! is parsed while earlier ones wait for their responses, which are sent in the order of the
//! requests. Anything by which two servers could disagree about where a request ends is refused,
//! and after a refusal of that kind the connection closes: later bytes are discarded.

use super::chunked::Chunked;
use super::limits::{DISCARDED_BYTES_MAX, Full, KEPT_BYTES_MAX, Limits};
use super::request::{Excess, Fault, Incoming, Method, Request, has_token};
use super::response::{self, Response};
use httparse::{EMPTY_HEADER, Error, Header, Status};
use std::collections::VecDeque;

/// Bytes of sent responses that stay in the buffer at most.
const SENT_BYTES_MAX: usize = 16 << 10;
/// Maximum number of lines of a head.
const LINES_MAX: usize = 64;
/// Capacity that a connection without requests keeps.
const IDLE_BYTES: usize = 2 << 10;
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Part of a request that is expected next.
#[derive(Debug)]
enum State {
    Head,
    /// The rest of a body.
    Body(u64),
    Chunks(Chunked),
    /// None: later bytes are discarded.
    Over,
}

/// A request that has not been answered, or whose response waits for earlier ones.
#[derive(Debug)]
struct Slot {
    id: u32,
    is_head: bool,
    /// The connection closes after the response.
    closes: bool,
    response: Option<Vec<u8>>,
}

/// A client's connection.
#[derive(Debug)]
pub(super) struct Http1 {
    limits: Limits,
    /// Bytes that are not parsed, from `start`. The end of a head is not in the first `scanned`.
    input: Vec<u8>,
    start: usize,
    scanned: usize,
    state: State,
    incoming: Incoming,
    /// The connection closes after the request that is being received.
    closes: bool,
    /// The connection closes as soon as all requests are answered.
    is_leaving: bool,
    last_id: u32,
    slots: VecDeque<Slot>,
    /// Bytes to send, from `sent`.
    output: Vec<u8>,
    sent: usize,
    /// Bytes of responses in slots.
    kept: usize,
}

/// Facts of a head about what follows it.
struct Framing {
    body: State,
    awaits_continue: bool,
}

impl Http1 {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            input: Vec::new(),
            start: 0,
            scanned: 0,
            state: State::Head,
            incoming: Incoming::default(),
            closes: false,
            is_leaving: false,
            last_id: 0,
            slots: VecDeque::new(),
            output: Vec::new(),
            sent: 0,
            kept: 0,
        }
    }

    /// Maximum memory of a connection.
    pub(super) fn bytes_max(limits: &Limits) -> usize {
        let request = limits.header_bytes_max + limits.body_bytes_max;
        let slots = (2 * limits.outstanding_max as usize + 8) * size_of::<Slot>();
        let responses = KEPT_BYTES_MAX + usize::from(u16::MAX) + IDLE_BYTES;
        size_of::<Self>() + 2 * (limits.header_bytes_max + request + responses) + slots
    }

    /// Takes received bytes, as far as there is room. Returns their number.
    pub(super) fn receive(&mut self, bytes: &[u8]) -> usize {
        if matches!(self.state, State::Over) {
            return bytes.len();
        }
        let room = self.limits.header_bytes_max.saturating_sub(self.input.len() - self.start);
        let (taken, _) = bytes.split_at(room.min(bytes.len()));
        if self.start > 0 {
            self.input.drain(..self.start);
            self.start = 0;
        }
        self.input.extend_from_slice(taken);
        taken.len()
    }

    /// Returns the next complete request, if there is one.
    pub(super) fn next_request(&mut self) -> Option<Request<'_>> {
        loop {
            let fault = match &mut self.state {
                State::Over => return None,
                State::Head => match self.take_head() {
                    Ok(true) => continue,
                    Ok(false) => return None,
                    Err(fault) => Some(fault),
                },
                State::Body(left) => {
                    let rest = self.input.get(self.start..).unwrap_or_default();
                    let count = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    let (data, _) = rest.split_at(count);
                    self.incoming.data(data, &self.limits);
                    *left -= count as u64;
                    self.start += count;
                    if *left > 0 {
                        return None;
                    }
                    None
                }
                State::Chunks(chunks) => {
                    let rest = self.input.get(self.start..).unwrap_or_default();
                    let mut fits = true;
                    let take = |data: &[u8]| fits &= self.incoming.data(data, &self.limits);
                    match chunks.decode(rest, take) {
                        Ok(_) if !fits => Some(Fault::Excess(Excess::Body)),
                        Ok((count, is_done)) => {
                            self.start += count;
                            if !is_done {
                                return None;
                            }
                            None
                        }
                        Err(_) => Some(Fault::Malformed),
                    }
                }
            };
            return Some(self.complete(fault));
        }
    }

    /// Ends the request that is being received. With `fault` nothing behind it can be parsed.
    fn complete(&mut self, fault: Option<Fault>) -> Request<'_> {
        let has_body = self.incoming.has_body();
        let is_head = self.incoming.method == Method::Head;
        self.closes |= self.is_leaving || fault.is_some();
        if let Some(fault) = fault {
            self.incoming.fault = Some(fault);
        } else if has_body && (is_head || self.incoming.method == Method::Get) {
            // No client sends one, but an intermediary that does not expect it takes it for a
            // request.
            self.incoming.fault = Some(Fault::Malformed);
            self.closes = true;
        }
        self.state = if self.closes { State::Over } else { State::Head };
        self.scanned = 0;
        if self.closes {
            (self.input, self.start) = (Vec::new(), 0);
        }
        self.last_id = self.last_id.wrapping_add(1).max(1);
        let (id, closes) = (self.last_id, self.closes);
        self.slots.push_back(Slot { id, is_head, closes, response: None });
        self.incoming.view(id)
    }

    /// Takes the head of the next request. Returns false if it is not complete.
    fn take_head(&mut self) -> Result<bool, Fault> {
        if self.is_full() {
            return Ok(false);
        }
        if self.scanned == 0 {
            let rest = self.input.get(self.start..).unwrap_or_default();
            // Empty lines before a request are ignored (RFC 9112 §2.2).
            self.start += rest.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            self.release();
        }
        let rest = self.input.get(self.start..).unwrap_or_default();
        let Some(len) = head_len(rest, self.scanned) else {
            self.scanned = rest.len();
            if rest.len() < self.limits.header_bytes_max {
                return Ok(false);
            }
            self.incoming.clear();
            let is_target = !rest.contains(&b'\n');
            return Err(Fault::Excess(if is_target { Excess::Target } else { Excess::Head }));
        };
        self.incoming.clear();
        self.closes = false;
        let (head, _) = rest.split_at(len);
        let framing = parse(head, &mut self.incoming, &mut self.closes)?;
        self.start += len;
        self.state = framing.body;
        if let State::Body(len) = self.state
            && len > self.limits.body_bytes_max as u64
            && (framing.awaits_continue || len > DISCARDED_BYTES_MAX as u64)
        {
            return Err(Fault::Excess(Excess::Body));
        }
        if framing.awaits_continue && !matches!(self.state, State::Body(0)) {
            self.proceed();
        }
        Ok(true)
    }

    /// Lets the client send the body that it holds back, after the responses before it.
    fn proceed(&mut self) {
        if self.slots.is_empty() {
            self.output.extend_from_slice(CONTINUE);
        } else {
            let response = Some(CONTINUE.to_vec());
            self.kept += CONTINUE.len();
            self.slots.push_back(Slot { id: 0, is_head: false, closes: false, response });
        }
    }

    /// Gives memory back that a connection without a request does not need.
    fn release(&mut self) {
        if self.start == self.input.len() {
            self.start = 0;
            self.input.clear();
            self.input.shrink_to(IDLE_BYTES);
            self.incoming.bytes.shrink_to(IDLE_BYTES);
        }
    }

    /// Takes the response to a request.
    pub(super) fn respond(&mut self, id: u32, response: &Response<'_>) -> Result<(), Full> {
        let awaited = |slot: &Slot| slot.id == id && slot.response.is_none();
        let Some(at) = self.slots.iter().position(awaited) else { return Ok(()) };
        if self.kept() > KEPT_BYTES_MAX {
            return Err(Full);
        }
        // What was sent is dropped now and then, so that a client that always leaves a little to be
        // sent does not make the buffer grow.
        if self.sent > SENT_BYTES_MAX {
            self.output.drain(..self.sent);
            self.sent = 0;
        }
        let Some(slot) = self.slots.get_mut(at) else { return Ok(()) };
        if at > 0 {
            let mut bytes = Vec::new();
            response::write(&mut bytes, response, slot.is_head, slot.closes);
            self.kept += bytes.len();
            slot.response = Some(bytes);
            return Ok(());
        }
        response::write(&mut self.output, response, slot.is_head, slot.closes);
        self.slots.pop_front();
        while let Some(Slot { response: Some(bytes), .. }) = self.slots.front() {
            self.output.extend_from_slice(bytes);
            self.kept -= bytes.len();
            self.slots.pop_front();
        }
        Ok(())
    }

    /// Appends bytes to send, until `out` has `len_max`.
    pub(super) fn transmit(&mut self, out: &mut Vec<u8>, len_max: usize) {
        let waiting = self.output.get(self.sent..).unwrap_or_default();
        let count = waiting.len().min(len_max.saturating_sub(out.len()));
        out.extend_from_slice(waiting.get(..count).unwrap_or_default());
        self.sent += count;
        if self.sent == self.output.len() {
            self.output.clear();
            self.output.shrink_to(IDLE_BYTES);
            self.sent = 0;
        }
    }

    /// Closes the connection after the requests that have begun.
    pub(super) fn shut_down(&mut self) {
        self.is_leaving = true;
        if !self.is_within_request() {
            self.state = State::Over;
            if let Some(last) = self.slots.back_mut() {
                last.closes = true;
            }
        }
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, State::Over) && !self.is_answering() && self.slots.is_empty()
    }

    /// Returns true if a request waits until responses make room for it.
    pub(super) fn is_full(&self) -> bool {
        self.slots.len() >= self.limits.outstanding_max as usize
    }

    #[cfg(test)]
    pub(super) fn bytes_held(&self) -> usize {
        self.output.capacity()
    }

    /// Bytes of responses that are not sent.
    pub(super) fn kept(&self) -> usize {
        self.kept + self.output.len() - self.sent
    }

    pub(super) fn outstanding(&self) -> usize {
        self.slots.iter().filter(|slot| slot.response.is_none()).count()
    }

    pub(super) fn is_within_request(&self) -> bool {
        match self.state {
            State::Head => self.start < self.input.len(),
            State::Body(_) | State::Chunks(_) => true,
            State::Over => false,
        }
    }

    pub(super) fn is_answering(&self) -> bool {
        self.sent < self.output.len() || self.kept > 0
    }
}

/// Returns the length of the head at the beginning of `input`, if it is complete. Its end is not
/// in the first `scanned` bytes.
pub(super) fn head_len(input: &[u8], scanned: usize) -> Option<usize> {
    let from = scanned.saturating_sub(3);
    let fresh = input.get(from..).unwrap_or_default();
    memchr::memchr_iter(b'\n', fresh).map(|at| from + at + 1).find(|end| {
        let head = input.get(..*end).unwrap_or_default();
        head.ends_with(b"\n\n") || head.ends_with(b"\n\r\n")
    })
}

/// Parses a complete head into `incoming`. Sets `closes` if no request may follow.
fn parse(head: &[u8], incoming: &mut Incoming, closes: &mut bool) -> Result<Framing, Fault> {
    let mut lines = [EMPTY_HEADER; LINES_MAX];
    let mut request = httparse::Request::new(&mut lines);
    match request.parse(head) {
        Ok(Status::Complete(len)) if len == head.len() => {}
        Ok(_) => return Err(Fault::Malformed),
        Err(Error::TooManyHeaders) => return Err(Fault::Excess(Excess::Head)),
        Err(Error::Version) => return Err(Fault::Version),
        Err(_) => return Err(Fault::Malformed),
    }
    let method = request.method.unwrap_or_default();
    incoming.method = Method::of(method.as_bytes());
    let target = request.path.unwrap_or_default().as_bytes();
    let (host, path) = origin(target);
    incoming.set_target(path);
    let is_old = request.version == Some(0);
    *closes |= is_old;
    let lines = &*request.headers;
    let named =
        |name: &'static str| lines.iter().filter(move |line| line.name.eq_ignore_ascii_case(name));
    let mut hosts = named("host");
    let first = hosts.next();
    if hosts.next().is_some() || first.is_none() && !is_old {
        return Err(Fault::Malformed);
    }
    if let Some(host) = host.or(first.map(|line| line.value)) {
        incoming.set_host(host);
    }
    for line in lines {
        incoming.field(line.name.as_bytes(), line.value);
    }
    *closes |= named("connection").any(|line| has_token(line.value, b"close"));
    let body = body(lines, is_old)?;
    let awaits_continue =
        !is_old && named("expect").any(|line| line.value.eq_ignore_ascii_case(b"100-continue"));
    Ok(Framing { body, awaits_continue })
}

/// Splits a target into the authority of its absolute form, if it has that, and path and query.
fn origin(target: &[u8]) -> (Option<&[u8]>, &[u8]) {
    let scheme = target.get(..7).filter(|start| start.eq_ignore_ascii_case(b"http://"));
    let scheme =
        scheme.or_else(|| target.get(..8).filter(|start| start.eq_ignore_ascii_case(b"https://")));
    let Some(rest) = scheme.and_then(|scheme| target.get(scheme.len()..)) else {
        return (None, target);
    };
    let end = memchr::memchr2(b'/', b'?', rest).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    (Some(authority), if path.is_empty() { b"/" } else { path })
}

/// Returns the form of the body (RFC 9112 §6.3).
fn body(lines: &[Header<'_>], is_old: bool) -> Result<State, Fault> {
    let named =
        |name: &'static str| lines.iter().filter(move |line| line.name.eq_ignore_ascii_case(name));
    let mut codings = named("transfer-encoding");
    let mut lengths = named("content-length");
    let (coding, length) = (codings.next(), lengths.next());
    if codings.next().is_some() || lengths.next().is_some() {
        return Err(Fault::Malformed);
    }
    match (coding, length) {
        (None, None) => Ok(State::Body(0)),
        (Some(_), Some(_)) => Err(Fault::Malformed),
        (Some(_), None) if is_old => Err(Fault::Malformed),
        (Some(line), None) if line.value.trim_ascii().eq_ignore_ascii_case(b"chunked") => {
            Ok(State::Chunks(Chunked::new()))
        }
        (Some(_), None) => Err(Fault::Coding),
        (None, Some(line)) => {
            let digits = line.value.trim_ascii();
            let is_plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
            let text = std::str::from_utf8(digits).ok().filter(|_| is_plain);
            let length = text.and_then(|text| text.parse().ok());
            length.map(State::Body).ok_or(Fault::Malformed)
        }
    }
}
