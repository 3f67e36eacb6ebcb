//! The request of one stream (RFC 9114 §4): frames to fields and body, and their rules.
//!
//! What breaks the rules of frames ends the connection; a request that is malformed ends its stream
//! alone. A request beyond a limit is read to its end and becomes a request with a fault, as in all
//! versions.

use super::frames::{Frames, Part, kind};
use super::{Violation, code, qpack};
use crate::http::limits::{DISCARDED_BYTES_MAX, Limits};
use crate::http::request::{Excess, Fault, Incoming, Method};

/// Overhead of a field in the size of a list (RFC 9114 §4.2.2).
const FIELD_OVERHEAD: usize = 32;
/// Fields about a connection, which HTTP/3 has not (RFC 9114 §4.2).
const OF_CONNECTIONS: [&[u8]; 5] =
    [b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"];

/// State of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// The fields are to come.
    #[default]
    Head,
    /// The body may come, or fields behind it.
    Body,
    /// Nothing more may come that is known.
    Trailer,
}

/// The request of one stream, as far as it has arrived.
#[derive(Debug, Default)]
pub struct RequestStream {
    frames: Frames,
    phase: Phase,
    /// Type of the current frame.
    kind: u64,
    /// The current field section.
    section: Vec<u8>,
    /// The current field section is too long to be kept.
    is_section_lost: bool,
    incoming: Incoming,
    /// Length of the body as the client declares it.
    declared: Option<u64>,
    /// Length of the body so far.
    received: u64,
    /// Bytes of frames that are not looked at.
    skipped: usize,
}

impl RequestStream {
    /// Takes what has arrived. Returns points for frames without use.
    ///
    /// # Errors
    /// [`Violation`]: the stream or the connection must end.
    pub fn receive(&mut self, mut bytes: &[u8], limits: &Limits) -> Result<u32, Violation> {
        let mut points = 0;
        while let Some(part) = self.frames.next(&mut bytes) {
            match part {
                Part::Begins(kind, len) => points += self.begin(kind, len, limits)?,
                Part::Payload(payload) => self.payload(payload, limits)?,
                Part::Ends if self.kind == kind::HEADERS => self.end_section(limits)?,
                Part::Ends => {}
            }
        }
        Ok(points)
    }

    /// Handles the type and the length of a frame.
    fn begin(&mut self, kind: u64, len: u64, limits: &Limits) -> Result<u32, Violation> {
        self.kind = kind;
        match (kind, self.phase) {
            (kind::HEADERS, Phase::Head | Phase::Body) => {
                self.section.clear();
                self.is_section_lost = len > limits.header_bytes_max as u64;
                if self.is_section_lost {
                    self.incoming.fault.get_or_insert(Fault::Excess(Excess::Head));
                }
                Ok(0)
            }
            (kind::DATA, Phase::Body) if len == 0 => Ok(1),
            // No client sends one, but it is smuggled past intermediaries that expect none.
            (kind::DATA, Phase::Body)
                if matches!(self.incoming.method, Method::Get | Method::Head) =>
            {
                Err(Violation::Stream(code::MESSAGE_ERROR))
            }
            (kind::DATA, Phase::Body) => Ok(0),
            (
                kind::DATA
                | kind::HEADERS
                | kind::CANCEL_PUSH
                | kind::SETTINGS
                | kind::PUSH_PROMISE
                | kind::GOAWAY
                | kind::MAX_PUSH_ID,
                _,
            ) => Err(Violation::Connection(code::FRAME_UNEXPECTED)),
            _ if kind::OF_HTTP2.contains(&kind) => {
                Err(Violation::Connection(code::FRAME_UNEXPECTED))
            }
            _ => Ok(1),
        }
    }

    /// Takes bytes of a payload.
    fn payload(&mut self, payload: &[u8], limits: &Limits) -> Result<(), Violation> {
        let is_bounded = match self.kind {
            kind::DATA => {
                self.received += payload.len() as u64;
                self.incoming.data(payload, limits)
            }
            kind::HEADERS if !self.is_section_lost => {
                self.section.extend_from_slice(payload);
                true
            }
            _ => {
                self.skipped = self.skipped.saturating_add(payload.len());
                self.skipped <= DISCARDED_BYTES_MAX
            }
        };
        if is_bounded { Ok(()) } else { Err(Violation::Stream(code::EXCESSIVE_LOAD)) }
    }

    /// Handles a field section that is complete.
    fn end_section(&mut self, limits: &Limits) -> Result<(), Violation> {
        let section = std::mem::take(&mut self.section);
        let is_trailer = self.phase == Phase::Body;
        self.phase = if is_trailer { Phase::Trailer } else { Phase::Body };
        if self.is_section_lost {
            return Ok(());
        }
        let mut is_cut = false;
        let mut fields = Fields { is_trailer, has_regular: is_trailer, ..Fields::default() };
        let incoming = &mut self.incoming;
        let decoded = qpack::decode(&section, |name, value| {
            is_cut = !incoming.lists(name.len() + value.len() + FIELD_OVERHEAD, limits);
            if !is_cut {
                fields.take(name, value, incoming);
            }
            !is_cut
        });
        decoded.map_err(|_| Violation::Connection(code::QPACK_DECOMPRESSION_FAILED))?;
        if is_cut || fields.is_complete() {
            self.declared = self.declared.or(fields.length);
            return Ok(());
        }
        Err(Violation::Stream(code::MESSAGE_ERROR))
    }

    /// Returns the request, when the client has ended the stream.
    ///
    /// # Errors
    /// [`Violation`]: there is none.
    pub fn end(&mut self) -> Result<Incoming, Violation> {
        if !self.frames.is_between() {
            return Err(Violation::Connection(code::FRAME_ERROR));
        }
        if self.phase == Phase::Head {
            return Err(Violation::Stream(code::REQUEST_INCOMPLETE));
        }
        if self.declared.is_some_and(|declared| declared != self.received) {
            return Err(Violation::Stream(code::MESSAGE_ERROR));
        }
        Ok(std::mem::take(&mut self.incoming))
    }

    /// Bytes that are kept.
    pub fn len(&self) -> usize {
        self.section.len() + self.incoming.len()
    }

    /// Returns true if no bytes are kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The parts of a field section to which rules apply (RFC 9114 §4.3).
#[derive(Debug, Default)]
struct Fields {
    is_trailer: bool,
    is_malformed: bool,
    /// A field without a colon has come, behind which no other may.
    has_regular: bool,
    has_method: bool,
    is_connect: bool,
    has_scheme: bool,
    has_path: bool,
    /// The value of `:authority`, or of `host`; both must be the same.
    authority: Option<Vec<u8>>,
    has_authority: bool,
    has_host: bool,
    length: Option<u64>,
}

impl Fields {
    /// Takes a field into `incoming`.
    fn take(&mut self, name: &[u8], value: &[u8], incoming: &mut Incoming) {
        let is_control = |byte: &u8| matches!(byte, b'\0' | b'\r' | b'\n');
        let has_space = value.trim_ascii().len() < value.len();
        self.is_malformed |= value.iter().any(is_control) || has_space;
        if name.first() == Some(&b':') {
            return self.take_pseudo(name, value, incoming);
        }
        self.has_regular = true;
        self.is_malformed |= name.is_empty() || !name.iter().all(is_name_byte);
        self.is_malformed |= OF_CONNECTIONS.contains(&name);
        if self.is_trailer {
            return;
        }
        match name {
            b"te" => self.is_malformed |= !value.eq_ignore_ascii_case(b"trailers"),
            b"host" => {
                self.is_malformed |= std::mem::replace(&mut self.has_host, true);
                self.name(value, incoming);
            }
            b"content-length" => {
                let length = number(value);
                self.is_malformed |= length.is_none();
                self.is_malformed |= self.length.is_some() && self.length != length;
                self.length = length;
            }
            _ => incoming.field(name, value),
        }
    }

    /// Takes a field whose name begins with a colon.
    fn take_pseudo(&mut self, name: &[u8], value: &[u8], incoming: &mut Incoming) {
        let has_one = match name {
            b":method" => {
                incoming.method = Method::of(value);
                self.is_connect = value == b"CONNECT";
                self.is_malformed |= value.is_empty() || !value.iter().all(is_token_byte);
                &mut self.has_method
            }
            b":scheme" => {
                self.is_malformed |= value.is_empty();
                &mut self.has_scheme
            }
            b":path" => {
                self.is_malformed |= !value.starts_with(b"/") && value != b"*";
                incoming.set_target(value);
                &mut self.has_path
            }
            b":authority" => {
                self.name(value, incoming);
                &mut self.has_authority
            }
            _ => return self.is_malformed = true,
        };
        self.is_malformed |= std::mem::replace(has_one, true) || self.has_regular;
    }

    /// Takes the name of the server.
    fn name(&mut self, value: &[u8], incoming: &mut Incoming) {
        self.is_malformed |= value.is_empty();
        match &self.authority {
            Some(known) => self.is_malformed |= known != value,
            None => {
                incoming.set_host(value);
                self.authority = Some(value.to_vec());
            }
        }
    }

    /// Returns true if the section keeps the rules, and no field is missing.
    fn is_complete(&self) -> bool {
        let has_all = match (self.is_trailer, self.is_connect) {
            (true, _) => true,
            (false, true) => {
                self.has_method && self.has_authority && !self.has_scheme && !self.has_path
            }
            (false, false) => {
                self.has_method && self.has_scheme && self.has_path && self.authority.is_some()
            }
        };
        has_all && !self.is_malformed
    }
}

/// Returns true for a byte of the name of a field, which has no upper case (RFC 9114 §4.2).
fn is_name_byte(byte: &u8) -> bool {
    is_token_byte(byte) && !byte.is_ascii_uppercase()
}

/// Returns true for a byte of a token (RFC 9110 §5.6.2).
fn is_token_byte(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte)
}

/// Returns the value of decimal digits.
fn number(text: &[u8]) -> Option<u64> {
    let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| is_number)?.parse().ok()
}
