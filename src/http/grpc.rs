//! DNS over gRPC: the one method that CoreDNS has, `coredns.dns.DnsService/Query`.
//!
//! A request and a response are one message each: a byte for compression, four of length, and a
//! `DnsPacket` of protobuf whose field 1 is the DNS message. A refusal is a status in the fields of
//! the response, without a body.

use super::client::{Call, Client, Reply};
use super::doh::{HEADER_LEN, NoAnswer};
use super::limits::Full;
use super::media::{self, Media};
use super::request::{Fault, Method, Request};
use super::response::Response;
use super::server::Server;

/// Path of the method.
const PATH: &[u8] = b"/coredns.dns.DnsService/Query";
/// Bytes before the protobuf.
const PREFIX_LEN: usize = 5;
/// Field 1 of protobuf, with a length.
const FIELD: u8 = 1 << 3 | 2;

/// Status of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The request carries no DNS message.
    InvalidArgument,
    /// The request is too long.
    ResourceExhausted,
    /// No such method; or a compressed message.
    Unimplemented,
    /// The server cannot answer.
    Internal,
    /// The server has too much to do.
    Unavailable,
}

impl Status {
    fn code(self) -> &'static [u8] {
        match self {
            Self::InvalidArgument => b"3",
            Self::ResourceExhausted => b"8",
            Self::Unimplemented => b"12",
            Self::Internal => b"13",
            Self::Unavailable => b"14",
        }
    }
}

/// Copies the DNS message of a request into `message`. Returns its length.
///
/// # Errors
/// The request carries no message that fits.
pub fn query(request: &Request<'_>, message: &mut [u8]) -> Result<usize, Status> {
    match request.fault {
        None => {}
        Some(Fault::Excess(_)) => return Err(Status::ResourceExhausted),
        Some(_) => return Err(Status::InvalidArgument),
    }
    let is_grpc = request.content_type.map(Media::of) == Some(Media::Grpc);
    if request.method != Method::Post || request.target != PATH || !is_grpc {
        return Err(Status::Unimplemented);
    }
    let (packet, rest) = split(request.body)?;
    if !rest.is_empty() {
        return Err(Status::InvalidArgument);
    }
    let found = field(packet).ok_or(Status::InvalidArgument)?;
    let room = message.get_mut(..found.len()).ok_or(Status::ResourceExhausted)?;
    room.copy_from_slice(found);
    Ok(found.len())
}

/// Splits the first message from `body`.
fn split(body: &[u8]) -> Result<(&[u8], &[u8]), Status> {
    let prefix = body.first_chunk::<PREFIX_LEN>().ok_or(Status::InvalidArgument)?;
    let [compressed, len @ ..] = *prefix;
    let rest = body.get(PREFIX_LEN..).unwrap_or_default();
    match compressed {
        0 => {
            let len = usize::try_from(u32::from_be_bytes(len)).unwrap_or(usize::MAX);
            rest.split_at_checked(len).ok_or(Status::InvalidArgument)
        }
        1 => Err(Status::Unimplemented),
        _ => Err(Status::InvalidArgument),
    }
}

/// Returns the DNS message in a `DnsPacket`: its last field 1, as protobuf has it. Unknown fields
/// are skipped. `None`: it is malformed, or has no such field.
fn field(mut packet: &[u8]) -> Option<&[u8]> {
    let mut found = None;
    while !packet.is_empty() {
        let (tag, rest) = varint(packet)?;
        let (value, rest) = match tag & 7 {
            0 => (&[][..], varint(rest)?.1),
            1 => rest.split_at_checked(8)?,
            2 => {
                let (len, rest) = varint(rest)?;
                rest.split_at_checked(usize::try_from(len).ok()?)?
            }
            5 => rest.split_at_checked(4)?,
            _ => return None,
        };
        match tag >> 3 {
            0 => return None,
            1 if tag == u64::from(FIELD) => found = Some(value),
            1 => return None,
            _ => {}
        }
        packet = rest;
    }
    found
}

/// Reads a number; returns the bytes behind it.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0;
    for (at, byte) in bytes.iter().enumerate().take(10) {
        number |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((number, bytes.get(at + 1..)?));
        }
    }
    None
}

/// Answers a request with a DNS message.
///
/// # Errors
/// The client reads too slowly.
pub fn respond(server: &mut Server, id: u32, message: &[u8]) -> Result<(), Full> {
    let mut prefix = [0; PREFIX_LEN + 4];
    let len = frame(message.len(), &mut prefix);
    let response = Response {
        status: 200,
        headers: &[("content-type", media::GRPC)],
        body: [prefix.get(..len).unwrap_or_default(), message],
        trailer: Some(("grpc-status", "0")),
    };
    server.respond(id, &response)
}

/// Writes the bytes before a DNS message of `len`, which is at most 65,535. Returns their number.
fn frame(len: usize, prefix: &mut [u8; PREFIX_LEN + 4]) -> usize {
    let mut number = [0; 3];
    let mut digits = 0;
    let mut rest = len;
    for digit in &mut number {
        digits += 1;
        *digit = (rest & 0x7f) as u8;
        rest >>= 7;
        if rest == 0 {
            break;
        }
        *digit |= 0x80;
    }
    let total = (1 + digits + len) as u32;
    let whole = [0].into_iter().chain(total.to_be_bytes()).chain([FIELD]).chain(number);
    prefix.iter_mut().zip(whole).for_each(|(place, byte)| *place = byte);
    PREFIX_LEN + 1 + digits
}

/// Refuses a request.
///
/// # Errors
/// The client reads too slowly.
pub fn refuse(server: &mut Server, id: u32, status: Status) -> Result<(), Full> {
    let headers: [(&str, &[u8]); 2] =
        [("content-type", media::GRPC), ("grpc-status", status.code())];
    server.respond(id, &Response::new(200, &headers, &[]))
}

/// Asks an upstream with a DNS message, over TLS if the connection `is_secure`. Returns the number
/// of the call; `None`: the connection has no capacity.
pub fn ask(client: &mut Client, is_secure: bool, authority: &[u8], message: &[u8]) -> Option<u32> {
    let mut prefix = [0; PREFIX_LEN + 4];
    let len = frame(message.len(), &mut prefix);
    client.call(&Call {
        method: Method::Post,
        scheme: if is_secure { b"https" } else { b"http" },
        authority,
        target: PATH,
        headers: &[("content-type", media::GRPC), ("te", b"trailers")],
        body: [prefix.get(..len).unwrap_or_default(), message],
    })
}

/// Status of a name that does not exist, as CoreDNS has it.
pub(crate) const NOT_FOUND: u32 = 5;

/// Returns the DNS message of an upstream's reply.
///
/// # Errors
/// There is no answer in it.
pub fn answer<'a>(reply: &Reply<'a>) -> Result<&'a [u8], NoAnswer> {
    match (reply.status, reply.media, reply.grpc_status) {
        (200, Media::Grpc, Some(0)) => {}
        (200, Media::Grpc, Some(status)) => return Err(NoAnswer::GrpcStatus(status)),
        (200, ..) => return Err(NoAnswer::NoMessage),
        (status, ..) => return Err(NoAnswer::Status(status)),
    }
    let (packet, rest) = split(reply.body).map_err(|_| NoAnswer::NoMessage)?;
    let message = field(packet).ok_or(NoAnswer::NoMessage)?;
    let is_message = (HEADER_LEN..=usize::from(u16::MAX)).contains(&message.len());
    if rest.is_empty() && is_message { Ok(message) } else { Err(NoAnswer::NoMessage) }
}

#[cfg(test)]
mod tests {
    use super::{PATH, Status, frame, query};
    use crate::http::request::{Excess, Fault, Method, Request};
    use prost::Message as _;

    /// The message as the protocol's definition has it.
    #[derive(Clone, PartialEq, prost::Message)]
    struct DnsPacket {
        #[prost(bytes = "vec", tag = "1")]
        msg: Vec<u8>,
    }

    fn request(body: &[u8]) -> Request<'_> {
        Request {
            id: 1,
            method: Method::Post,
            target: PATH,
            host: None,
            content_type: Some(b"application/grpc"),
            forwarded: &[],
            forwarded_for: &[],
            body,
            fault: None,
        }
    }

    fn asked(request: &Request<'_>) -> Result<Vec<u8>, Status> {
        let mut message = [0; 4_096];
        query(request, &mut message).map(|len| message[..len].to_vec())
    }

    fn framed(packet: &[u8]) -> Vec<u8> {
        [&[0][..], &(packet.len() as u32).to_be_bytes(), packet].concat()
    }

    #[test]
    fn messages_are_framed_as_prost_frames_them() {
        for len in [0, 1, 12, 127, 128, 512, 16_383, 16_384, 65_535] {
            let msg = vec![7; len];
            let mut prefix = [0; 9];
            let count = frame(len, &mut prefix);
            let ours = [&prefix[..count], &msg].concat();
            let expected = framed(&DnsPacket { msg: msg.clone() }.encode_to_vec());
            // Protobuf leaves an empty field out; both forms mean the same.
            let expected = if len == 0 { framed(&[0x0a, 0]) } else { expected };
            assert!(ours == expected, "{len}");
            if len <= 4_096 {
                assert_eq!(asked(&request(&ours)), Ok(msg));
            }
        }
    }

    #[test]
    fn unknown_fields_are_skipped() {
        let packet = [
            &[0x10, 0x96, 0x01][..],
            &[0x19, 1, 2, 3, 4, 5, 6, 7, 8],
            &[0x0a, 1, b'x', 0x22, 2, b'y', b'z', 0x2d, 1, 2, 3, 4, 0x0a, 2, b'o', b'k'],
        ];
        let body = framed(&packet.concat());
        for content_type in ["application/grpc+proto", "application/grpc;a=b"] {
            let request = Request { content_type: Some(content_type.as_bytes()), ..request(&body) };
            assert_eq!(asked(&request), Ok(b"ok".to_vec()));
        }
    }

    #[test]
    fn requests_without_a_message_get_a_status() {
        let good = framed(&[0x0a, 1, b'x']);
        let base = request(&good);
        let compressed = [&[1][..], &good[1..]].concat();
        let twice = good.repeat(2);
        let long = framed(&DnsPacket { msg: vec![7; 4_097] }.encode_to_vec());
        let status = |request: &Request<'_>| asked(request).unwrap_err();
        assert_eq!(status(&request(&compressed)), Status::Unimplemented);
        assert_eq!(status(&request(&long)), Status::ResourceExhausted);
        let other = Request { target: b"/coredns.dns.DnsService/Watch", ..base };
        assert_eq!(status(&other), Status::Unimplemented);
        assert_eq!(status(&Request { method: Method::Get, ..base }), Status::Unimplemented);
        for content_type in [None, Some(&b"application/grpc-web"[..]), Some(b"text/html")] {
            assert_eq!(status(&Request { content_type, ..base }), Status::Unimplemented);
        }
        let malformed: [&[u8]; 11] = [
            b"",
            &good[..4],
            &good[..7],
            &twice,
            &[2, 0, 0, 0, 3, 0x0a, 1, b'x'],
            &framed(&[]),
            &framed(&[0x0a, 2, b'x']),
            &framed(&[0x08, 1]),
            &framed(&[0x02, 1, b'x']),
            &framed(&[0x0b]),
            &framed(&[0xff; 11]),
        ];
        for body in malformed {
            assert_eq!(status(&request(body)), Status::InvalidArgument, "{body:?}");
        }
        let fault = |fault| Request { fault: Some(fault), ..base };
        let excess = fault(Fault::Excess(Excess::Body));
        assert_eq!(status(&excess), Status::ResourceExhausted);
        assert_eq!(status(&fault(Fault::Malformed)), Status::InvalidArgument);
    }
}
