//! DNS over HTTPS (RFC 8484): requests to messages, and messages to responses.
//!
//! A message comes as the body of a POST, or in the query of a GET, as base64url without padding.
//! Its length is checked before it is decoded. The message itself is not looked into.

use super::client::{Call, Client, Reply};
use super::limits::Full;
use super::media::{self, Media};
use super::request::{Excess, Fault, Method, Request};
use super::response::Response;
use super::server::Server;
use std::fmt;

/// Maximum length of a query.
pub const QUERY_LEN_MAX: usize = 4_096;
/// Length of a message without question and records.
pub(super) const HEADER_LEN: usize = 12;
/// Length of the longest query in base64.
const TEXT_LEN_MAX: usize = (QUERY_LEN_MAX * 4).div_ceil(3);
/// Methods of the field `Allow`.
const METHODS: &[u8] = b"GET, HEAD, POST";

/// A refused request: the response's status, and its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status code.
    pub(crate) status: u16,
    /// The body of the response.
    pub(crate) text: &'static str,
}

impl Refusal {
    const fn new(status: u16, text: &'static str) -> Self {
        Self { status, text }
    }

    /// Refuses a request.
    ///
    /// # Errors
    /// The client reads too slowly.
    pub fn respond(&self, server: &mut Server, id: u32) -> Result<(), Full> {
        self.with_response(|response| server.respond(id, response))
    }

    /// Passes the response to `take`, and returns its result.
    pub(crate) fn with_response<T>(&self, take: impl FnOnce(&Response<'_>) -> T) -> T {
        let headers: [(&str, &[u8]); 2] =
            [("content-type", b"text/plain; charset=utf-8"), ("allow", METHODS)];
        let (_, allow) = headers.split_at(1);
        let count = if self.status == 405 { headers.len() } else { headers.len() - allow.len() };
        let headers = headers.get(..count).unwrap_or_default();
        take(&Response::new(self.status, headers, self.text.as_bytes()))
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Malformed => Self::new(400, "malformed HTTP request\n"),
            Fault::Version => Self::new(505, "only HTTP/1.1 and HTTP/2 are supported\n"),
            Fault::Coding => Self::new(501, "the only transfer coding supported is chunked\n"),
            Fault::Excess(Excess::Target) => Self::new(414, "the request target is too long\n"),
            Fault::Excess(Excess::Head) => Self::new(431, "the request header is too large\n"),
            Fault::Excess(Excess::Body) => {
                Self::new(413, "a DNS query has at most 4096 bytes here\n")
            }
        }
    }
}

/// Copies the DNS query of a request to one of `paths` into `message`, which has room for
/// [`QUERY_LEN_MAX`] bytes. Returns its length, which is at least that of a DNS header.
///
/// # Errors
/// The request carries no query.
pub fn query<P: AsRef<[u8]>>(
    request: &Request<'_>,
    paths: &[P],
    message: &mut [u8],
) -> Result<usize, Refusal> {
    if let Some(fault) = request.fault {
        return Err(fault.into());
    }
    let mut parts = request.target.splitn(2, |byte| *byte == b'?');
    let path = parts.next().unwrap_or_default();
    let parameters = parts.next().unwrap_or_default();
    if !paths.iter().any(|known| known.as_ref() == path) {
        let text = "not found: this server answers DNS over HTTPS (RFC 8484), usually at \
                    /dns-query\n";
        return Err(Refusal::new(404, text));
    }
    let len = match request.method {
        Method::Get | Method::Head => from_parameters(parameters, message)?,
        Method::Post => from_body(request, message)?,
        Method::Other => return Err(Refusal::new(405, "only GET and POST are supported\n")),
    };
    if len < HEADER_LEN {
        return Err(Refusal::new(400, "the DNS query is shorter than a DNS header\n"));
    }
    Ok(len)
}

fn from_body(request: &Request<'_>, message: &mut [u8]) -> Result<usize, Refusal> {
    if request.content_type.map(Media::of) != Some(Media::Dns) {
        return Err(Refusal::new(415, "the content type must be application/dns-message\n"));
    }
    let room = message.get_mut(..request.body.len());
    let Some(room) = room.filter(|room| room.len() <= QUERY_LEN_MAX) else {
        return Err(Fault::Excess(Excess::Body).into());
    };
    room.copy_from_slice(request.body);
    Ok(request.body.len())
}

fn from_parameters(parameters: &[u8], message: &mut [u8]) -> Result<usize, Refusal> {
    let mut values = parameters
        .split(|byte| *byte == b'&')
        .filter_map(|parameter| parameter.strip_prefix(b"dns="));
    let (Some(text), None) = (values.next(), values.next()) else {
        return Err(Refusal::new(400, "exactly one parameter 'dns' is needed\n"));
    };
    if text.len() > TEXT_LEN_MAX {
        return Err(Refusal::new(414, "a DNS query has at most 4096 bytes here\n"));
    }
    decode(text, message)
        .ok_or(Refusal::new(400, "the parameter 'dns' must be base64url without padding\n"))
}

/// Decodes base64url without padding (RFC 4648 §5) into `out`. Returns the length.
fn decode(text: &[u8], out: &mut [u8]) -> Option<usize> {
    let len = text.len() / 4 * 3 + [0, 0, 1, 2].get(text.len() % 4)?;
    if text.len() % 4 == 1 {
        return None;
    }
    let out = out.get_mut(..len)?;
    for (digits, bytes) in text.chunks(4).zip(out.chunks_mut(3)) {
        let mut bits = 0;
        for digit in digits {
            bits = bits << 6 | u32::from(value(*digit)?);
        }
        bits <<= 6 * (4 - digits.len());
        for (byte, from) in bytes.iter_mut().zip(bits.to_be_bytes().iter().skip(1)) {
            *byte = *from;
        }
    }
    Some(len)
}

/// Returns the value of a digit of base64url.
fn value(digit: u8) -> Option<u8> {
    match digit {
        b'A'..=b'Z' => Some(digit - b'A'),
        b'a'..=b'z' => Some(digit - b'a' + 26),
        b'0'..=b'9' => Some(digit - b'0' + 52),
        b'-' => Some(62),
        b'_' => Some(63),
        _ => None,
    }
}

/// Answers a request with a DNS message that may be cached for `max_age` seconds. `alt_svc`: the
/// field of this name, for clients that can use HTTP/3.
///
/// # Errors
/// The client reads too slowly.
pub fn respond(
    server: &mut Server,
    id: u32,
    message: &[u8],
    max_age: u32,
    alt_svc: Option<&[u8]>,
) -> Result<(), Full> {
    with_response(message, max_age, alt_svc, |response| server.respond(id, response))
}

/// Passes the response with a DNS message, as of [`respond`], to `take`, and returns its result.
pub(crate) fn with_response<T>(
    message: &[u8],
    max_age: u32,
    alt_svc: Option<&[u8]>,
    take: impl FnOnce(&Response<'_>) -> T,
) -> T {
    const NAME: &[u8] = b"max-age=";
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(max_age).as_bytes();
    let mut age = [0; NAME.len() + 10];
    for (place, byte) in age.iter_mut().zip(NAME.iter().chain(digits)) {
        *place = *byte;
    }
    let age = age.get(..NAME.len() + digits.len()).unwrap_or_default();
    let headers: [(&str, &[u8]); 3] = [
        ("content-type", media::DNS),
        ("cache-control", age),
        ("alt-svc", alt_svc.unwrap_or_default()),
    ];
    let count = if alt_svc.is_some() { 3 } else { 2 };
    let headers = headers.get(..count).unwrap_or_default();
    take(&Response::new(200, headers, message))
}

/// Asks an upstream with a DNS message: by POST, or, with `is_get`, by GET. Returns the number of
/// the call; `None`: the connection has no capacity.
pub fn ask(
    client: &mut Client,
    authority: &[u8],
    path: &[u8],
    is_get: bool,
    message: &[u8],
) -> Option<u32> {
    let both: [(&str, &[u8]); 2] = [("accept", media::DNS), ("content-type", media::DNS)];
    let (accept, _) = both.split_at(1);
    if !is_get {
        let body = [&[], message];
        return client.call(&Call {
            method: Method::Post,
            scheme: b"https",
            authority,
            target: path,
            headers: &both,
            body,
        });
    }
    let mut target = Vec::with_capacity(path.len() + 5 + (message.len() * 4).div_ceil(3));
    target.extend_from_slice(path);
    target.push(if path.contains(&b'?') { b'&' } else { b'?' });
    target.extend_from_slice(b"dns=");
    encode(message, &mut target);
    let body: [&[u8]; 2] = [&[]; 2];
    client.call(&Call {
        method: Method::Get,
        scheme: b"https",
        authority,
        target: &target,
        headers: accept,
        body,
    })
}

/// Appends base64url without padding.
fn encode(bytes: &[u8], out: &mut Vec<u8>) {
    for bytes in bytes.chunks(3) {
        let mut bits = [0; 4];
        for (place, byte) in bits.iter_mut().skip(1).zip(bytes) {
            *place = *byte;
        }
        let bits = u32::from_be_bytes(bits);
        let digits = [18, 12, 6, 0].map(|shift| digit(bits >> shift & 63));
        out.extend(digits.iter().take(bytes.len() + 1));
    }
}

/// Returns the digit of base64url for a value below 64.
fn digit(value: u32) -> u8 {
    match value as u8 {
        value @ 0..26 => b'A' + value,
        value @ 26..52 => b'a' + (value - 26),
        value @ 52..62 => b'0' + (value - 52),
        62 => b'-',
        _ => b'_',
    }
}

/// Reason why a reply is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// The status code is not one of success.
    Status(u16),
    /// The body is not a DNS message.
    NoMessage,
    /// The status of gRPC, which is not one of success.
    GrpcStatus(u32),
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "http: status {status}"),
            Self::NoMessage => f.write_str("http: the reply is not a DNS message"),
            Self::GrpcStatus(status) => write!(f, "grpc: status {status}"),
        }
    }
}

/// Returns the DNS message of an upstream's reply, and the seconds by which its TTLs are too high.
///
/// # Errors
/// There is no answer in it.
pub fn answer<'a>(reply: &Reply<'a>) -> Result<(&'a [u8], u32), NoAnswer> {
    if !(200..300).contains(&reply.status) {
        return Err(NoAnswer::Status(reply.status));
    }
    let is_message = (HEADER_LEN..=usize::from(u16::MAX)).contains(&reply.body.len());
    match reply.media {
        Media::Dns if is_message => Ok((reply.body, reply.age)),
        _ => Err(NoAnswer::NoMessage),
    }
}

#[cfg(test)]
mod tests {
    use super::{QUERY_LEN_MAX, decode, query};
    use crate::http::request::{Excess, Fault, Method, Request};
    use proptest::prelude::{any, prop_assert_eq, proptest};

    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

    /// A naive encoder of base64url.
    fn encode(bytes: &[u8]) -> String {
        let bits: Vec<u8> =
            bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
        let digit = |bits: &[u8]| (0..6).fold(0, |sum, bit| sum * 2 + bits.get(bit).unwrap_or(&0));
        bits.chunks(6).map(|bits| char::from(DIGITS[usize::from(digit(bits))])).collect()
    }

    fn get<'a>(target: &'a str) -> Request<'a> {
        Request {
            id: 1,
            method: Method::Get,
            target: target.as_bytes(),
            host: None,
            content_type: None,
            forwarded: &[],
            forwarded_for: &[],
            body: &[],
            fault: None,
        }
    }

    /// The query of a request, or the status of the refusal.
    fn asked(request: &Request<'_>) -> Result<Vec<u8>, u16> {
        let mut message = [0; QUERY_LEN_MAX];
        let len = query(request, &["/dns-query", "/q"], &mut message);
        len.map(|len| message[..len].to_vec()).map_err(|refusal| refusal.status)
    }

    #[test]
    fn a_query_is_read_from_get_and_from_post() {
        // The examples of RFC 8484 §4.1.1.
        let text = "AAABAAABAAAAAAAAAWE-NjJjaGFyYWN0ZXJsYWJlbC1tYWtlcy1iYXNlNjR1cmwtZGlzdGluY3QtZ\
                    nJvbS1zdGFuZGFyZC1iYXNlNjQHZXhhbXBsZQNjb20AAAEAAQ";
        let target = format!("/dns-query?x=y&dns={text}&dnssec=1");
        let message = asked(&get(&target)).unwrap();
        assert_eq!(message.len(), 94);
        assert_eq!(&message[12..16], b"\x01a>6");
        assert_eq!(asked(&get(&target.replace("dns-query", "q"))).as_ref(), Ok(&message));
        let head = Request { method: Method::Head, ..get(&target) };
        assert_eq!(asked(&head).as_ref(), Ok(&message));
        for content_type in ["application/dns-message", "Application/DNS-Message ; a=b"] {
            let post = Request {
                method: Method::Post,
                content_type: Some(content_type.as_bytes()),
                body: &message,
                ..get("/dns-query?dns=")
            };
            assert_eq!(asked(&post).as_ref(), Ok(&message));
        }
    }

    #[test]
    fn requests_without_a_query_are_refused_by_status() {
        let text = encode(&[7; 12]);
        let longest = encode(&[7; QUERY_LEN_MAX]);
        assert_eq!(longest.len(), 5_462);
        assert_eq!(asked(&get(&format!("/q?dns={longest}"))), Ok(vec![7; QUERY_LEN_MAX]));
        for (target, status) in [
            (format!("/?dns={text}"), 404),
            (format!("/dns-query/?dns={text}"), 404),
            ("*".to_owned(), 404),
            ("/dns-query".to_owned(), 400),
            ("/dns-query?dns=".to_owned(), 400),
            (format!("/dns-query?DNS={text}"), 400),
            (format!("/dns-query?dns={text}&dns={text}"), 400),
            (format!("/dns-query?dns={text}="), 400),
            (format!("/dns-query?dns=+{text}"), 400),
            (format!("/dns-query?dns={text}A"), 400),
            (format!("/dns-query?dns={}", encode(&[7; 11])), 400),
            (format!("/dns-query?dns={longest}A"), 414),
        ] {
            assert_eq!(asked(&get(&target)), Err(status), "{target}");
        }
        let body = &[7; 12];
        let post = Request { method: Method::Post, body, ..get("/dns-query") };
        assert_eq!(asked(&post), Err(415));
        let other = Request { content_type: Some(b"application/dns-json"), ..post };
        assert_eq!(asked(&other), Err(415));
        assert_eq!(asked(&Request { method: Method::Other, ..post }), Err(405));
        for (fault, status) in [
            (Fault::Malformed, 400),
            (Fault::Coding, 501),
            (Fault::Version, 505),
            (Fault::Excess(Excess::Body), 413),
            (Fault::Excess(Excess::Target), 414),
            (Fault::Excess(Excess::Head), 431),
        ] {
            assert_eq!(asked(&Request { fault: Some(fault), ..post }), Err(status));
        }
    }

    proptest! {
        #[test]
        fn base64url_is_decoded(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let (text, mut out) = (encode(&bytes), [0; 40]);
            let mut ours = Vec::new();
            super::encode(&bytes, &mut ours);
            prop_assert_eq!(&ours[..], text.as_bytes());
            let len = decode(text.as_bytes(), &mut out).unwrap();
            prop_assert_eq!(&out[..len], &bytes[..]);
            prop_assert_eq!(decode(text.as_bytes(), &mut out[..len]), Some(len));
            if len > 0 {
                prop_assert_eq!(decode(text.as_bytes(), &mut out[..len - 1]), None);
            }
        }
    }
}
