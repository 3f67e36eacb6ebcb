//! Fuzz target: streams of HTTP/3 clients, with frames and field sections. A stream leads to the
//! same request, violation and points however it is cut, and the bytes kept of it stay in bounds.
//!
//! The corpus is bytes of a stream behind a letter: `r` for a request, `u` for a stream in one
//! direction.

use super::fuzz;
use super::mutate::Mutator;
use onward::http::http3::{PeerStreams, RequestStream};
use onward::http::{Limits, doh, forwarded};

const MUTATOR: Mutator = Mutator {
    separators: b"\0\x01\x20\x40\x51\xd1",
    words: &[
        b"\x00\x00",
        b"\x01\x04\x00\x00\xd1\xd7",
        b"\x04\x00",
        b"\x21\x03abc",
        b"\x07\x01\x08",
        b"\x0d\x01\x08",
        b"\x40\x21",
        b"\x7f\xff",
        b"\xbf\xff\xff\xff",
        b"\xff\x24",
        b"\x50\x01m",
        b"\x51\x01/",
        b"\x51\x84\x61\x4c\xd3\xff",
        b"\x5f\x1d\x17application/dns-message",
        b"\x23:ab\x01z",
        b"\x20\x20",
        b"r",
        b"u",
    ],
};
/// Bytes that may be kept of a request: two field sections and a body, of maximum length.
const KEPT_MAX: usize = 2 * (8 << 10) + 4_096;

/// Outcome of a request stream of `bytes`, which arrive in pieces of this size.
fn request(bytes: &[u8], piece: usize) -> Result<String, String> {
    let (mut stream, mut points) = (RequestStream::default(), 0);
    for piece in bytes.chunks(piece) {
        let outcome = stream.receive(piece, &Limits::DNS);
        points += outcome.map_err(|violation| format!("{violation:?}"))?;
        assert!(stream.len() <= KEPT_MAX, "{} bytes are kept", stream.len());
    }
    let incoming = stream.end().map_err(|violation| format!("{violation:?}"))?;
    let request = incoming.view(7);
    let client = forwarded::client(&request, |address| address.is_ipv4());
    let mut message = [0; doh::QUERY_LEN_MAX];
    let asked = doh::query(&request, &["/dns-query"], &mut message);
    Ok(format!("{points} {request:?} {client:?} {asked:?}"))
}

/// Outcome of a stream of `bytes` in one direction, which arrive in pieces of this size.
fn peer(bytes: &[u8], piece: usize) -> Result<String, String> {
    let (mut streams, mut points) = (PeerStreams::default(), 0);
    for piece in bytes.chunks(piece) {
        let outcome = streams.receive(0, piece, false);
        let heard = outcome.map_err(|violation| format!("{violation:?}"))?;
        points += heard.points;
        if heard.is_refused {
            return Ok("refused".to_owned());
        }
    }
    Ok(format!("{points} {}", streams.count()))
}

#[test]
fn http3() {
    let taken = fuzz("http3", &MUTATOR, |input| {
        let Some((first, bytes)) = input.split_first() else { return false };
        let read = if *first == b'u' { peer } else { request };
        let whole = read(bytes, usize::MAX);
        for piece in [1, 7] {
            assert_eq!(read(bytes, piece), whole, "in pieces of {piece}");
        }
        whole.is_ok()
    });
    assert!(taken > 1_000 || std::env::var_os("FUZZ_ONLY").is_some(), "{taken} have requests");
}
