//! HTTP/2 (RFC 9113): a client's connection.
//!
//! The library parses frames and compresses fields; this side collects requests ([`Streams`]),
//! keeps answers until flow control lets them go, and counts what a client sends without use: the
//! points of a connection. At none left, or if its data exceed a bound, the connection ends with
//! GOAWAY and ENHANCE_YOUR_CALM.

use super::limits::{Full, Limits};
use super::request::Request;
use super::response::Response;
use super::streams::Streams;
use crate::sys::nghttp2::{self, Broken, FIELDS_MAX, Field, Session, code};

/// Bytes of a body that a client may send ahead.
const WINDOW: u32 = 16 << 10;
/// Memory of a session without streams, with the largest header block that the library decodes.
const SESSION_BYTES: usize = 192 << 10;
/// Memory of a stream whose response waits.
const STREAM_BYTES: usize = 1 << 10;
/// An empty SETTINGS frame, which must be the first that a server sends.
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
/// Fields whose values repeat from response to response.
const REPEATED: [&str; 3] = ["content-type", "alt-svc", "grpc-status"];

/// A client's connection.
pub(super) struct Http2 {
    /// The library's session; `None`: memory had run out.
    session: Option<Session<Streams>>,
    /// The session has failed, and is not used any more.
    is_broken: bool,
    /// Last frames of a session that has failed.
    last_words: Vec<u8>,
    /// The first frames have been sent.
    has_begun: bool,
    /// The end is announced; new streams are refused when the client has seen that.
    is_announced: bool,
}

impl Http2 {
    pub(super) fn new(limits: Limits) -> Self {
        let bounds = nghttp2::Limits {
            streams_max: limits.outstanding_max,
            header_bytes_max: u32::try_from(limits.header_bytes_max).unwrap_or(u32::MAX),
            window: WINDOW,
            memory_max: memory_max(&limits),
        };
        let session = Session::server(Streams::new(limits), &bounds);
        Self {
            is_broken: session.is_none(),
            session,
            last_words: Vec::new(),
            has_begun: false,
            is_announced: false,
        }
    }

    /// Maximum memory of a connection.
    pub(super) fn bytes_max(limits: &Limits) -> usize {
        size_of::<Self>() + memory_max(limits) + Streams::bytes_max(limits)
    }

    /// Takes received bytes.
    pub(super) fn receive(&mut self, bytes: &[u8]) {
        let is_announced = self.is_announced;
        let outcome = self.with(|session| {
            session.receive(bytes)?;
            if is_announced && session.events_mut().take_pong() {
                session.refuse_streams(session.last_processed())?;
            }
            Ok(())
        });
        self.on_outcome(outcome);
    }

    /// Returns the next complete request, if there is one.
    pub(super) fn next_request(&mut self) -> Option<Request<'_>> {
        if self.is_broken {
            return None;
        }
        self.session.as_mut()?.events_mut().next_request()
    }

    /// Returns the number of a request that the client has cancelled.
    pub(super) fn next_cancelled(&mut self) -> Option<u32> {
        self.session.as_mut()?.events_mut().next_cancelled()
    }

    /// Takes the response to a request.
    pub(super) fn respond(&mut self, id: u32, response: &Response<'_>) -> Result<(), Full> {
        let Some(session) = self.session.as_mut().filter(|_| !self.is_broken) else {
            return Ok(());
        };
        let Some(has_body) = session.events_mut().answer(id, response)? else { return Ok(()) };
        let status = response.status.clamp(100, 999);
        let digit = |unit: u16| b'0' + (status / unit % 10) as u8;
        let status = [digit(100), digit(10), digit(1)];
        let mut digits = itoa::Buffer::new();
        let none = Field { name: b":status", value: &status, repeats: true };
        let mut fields = [none; FIELDS_MAX];
        let mut count = 1;
        let given = response.headers.iter().map(|(name, value)| Field {
            name: name.as_bytes(),
            value,
            repeats: REPEATED.contains(name),
        });
        let len = response.len();
        let has_length = len > 0 && response.trailer.is_none();
        let length = has_length.then(|| Field {
            name: b"content-length",
            value: digits.format(len).as_bytes(),
            repeats: false,
        });
        for (place, field) in fields.iter_mut().skip(1).zip(given.chain(length)) {
            *place = field;
            count += 1;
        }
        let outcome = session.respond(id, fields.get(..count).unwrap_or_default(), has_body);
        self.on_outcome(outcome);
        Ok(())
    }

    /// Appends bytes to send, until `out` has `len_max` or more.
    pub(super) fn transmit(&mut self, out: &mut Vec<u8>, len_max: usize) {
        let before = out.len();
        let outcome = self.with(|session| {
            while out.len() < len_max {
                let Some(bytes) = session.next_bytes()? else { break };
                out.extend_from_slice(bytes);
            }
            Ok(())
        });
        self.has_begun |= out.len() > before;
        self.on_outcome(outcome);
        if out.len() < len_max {
            out.append(&mut self.last_words);
        }
    }

    /// Refuses new requests as soon as the client knows, and completes the others.
    pub(super) fn shut_down(&mut self) {
        if !std::mem::replace(&mut self.is_announced, true) {
            let outcome = self.with(Session::announce_end);
            self.on_outcome(outcome);
        }
    }

    /// Refuses new requests at once: the client learns which of its requests were not read.
    pub(super) fn stop(&mut self) {
        let outcome = self.with(|session| session.refuse_streams(session.events().last_taken()));
        self.on_outcome(outcome);
    }

    pub(super) fn is_over(&self) -> bool {
        match &self.session {
            Some(session) if !self.is_broken => !session.is_live(),
            _ => self.last_words.is_empty(),
        }
    }

    pub(super) fn outstanding(&self) -> usize {
        self.streams().map_or(0, Streams::outstanding)
    }

    pub(super) fn is_within_request(&self) -> bool {
        !self.is_over() && self.streams().is_some_and(Streams::is_receiving)
    }

    pub(super) fn is_answering(&self) -> bool {
        let session = self.session.as_ref().filter(|_| !self.is_broken);
        // After the last GOAWAY the library sends no response any more.
        let is_kept = |session: &Session<Streams>| session.is_live() && session.events().kept() > 0;
        let waits = |session: &Session<Streams>| session.wants_write() || is_kept(session);
        session.is_some_and(waits) || !self.last_words.is_empty()
    }

    /// Bytes of responses that are not sent.
    pub(super) fn kept(&self) -> usize {
        self.streams().map_or(0, Streams::kept)
    }

    /// Bytes that the library holds, and the maximum so far.
    pub(super) fn memory(&self) -> (usize, usize) {
        self.session.as_ref().map_or((0, 0), Session::memory)
    }

    fn streams(&self) -> Option<&Streams> {
        self.session.as_ref().map(Session::events)
    }

    fn with(
        &mut self,
        act: impl FnOnce(&mut Session<Streams>) -> Result<(), Broken>,
    ) -> Result<(), Broken> {
        self.session.as_mut().filter(|_| !self.is_broken).map_or(Ok(()), act)
    }

    /// After a failure, takes leave in place of the library.
    fn on_outcome(&mut self, outcome: Result<(), Broken>) {
        let Err(broken) = outcome else { return };
        self.is_broken = true;
        let code = match broken {
            Broken::Flood => code::ENHANCE_YOUR_CALM,
            Broken::Preface => code::PROTOCOL_ERROR,
            Broken::Other => code::INTERNAL_ERROR,
        };
        let last = self.session.as_ref().map_or(0, Session::last_processed);
        if !self.has_begun {
            self.last_words.extend_from_slice(&SETTINGS);
        }
        self.last_words.extend_from_slice(&[0, 0, 8, 7, 0, 0, 0, 0, 0]);
        self.last_words.extend_from_slice(&last.to_be_bytes());
        self.last_words.extend_from_slice(&code.to_be_bytes());
    }
}

/// Returns the bound of the library's memory.
fn memory_max(limits: &Limits) -> usize {
    SESSION_BYTES + limits.outstanding_max as usize * STREAM_BYTES
}
