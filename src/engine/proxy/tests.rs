//! Headers of the PROXY protocol, byte by byte.
//!
//! Examples of the specification, headers that violate it, and each prefix of a valid header.

use super::{FIXED_LEN, Flaw, HEADER_LEN_MAX, Header, Parsed, Path, WRITTEN_LEN_MAX, read, write};
use std::net::SocketAddr;

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A header of version 2 with this command, family and transport, and these addresses and TLVs.
fn binary(command: u8, kind: u8, rest: &[u8]) -> Vec<u8> {
    let len = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, kind, len[0], len[1]][..], rest].concat()
}

fn source(bytes: &[u8]) -> Result<Option<SocketAddr>, Parsed> {
    match read(bytes) {
        Parsed::Header(Header { len, source, .. }) if len == bytes.len() => Ok(source),
        other => Err(other),
    }
}

#[test]
fn a_line_names_the_client() {
    for (line, expected) in [
        ("TCP4 192.0.2.1 192.0.2.2 5000 53", Some("192.0.2.1:5000")),
        ("TCP6 2001:db8::1 ::2 65535 1", Some("[2001:db8::1]:65535")),
        ("TCP6 ::ffff:192.0.2.1 ::2 7 53", Some("192.0.2.1:7")),
        ("UNKNOWN", None),
        ("UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535", None),
    ] {
        assert_eq!(source(format!("PROXY {line}\r\n").as_bytes()), Ok(expected.map(address)));
    }
}

#[test]
fn a_malformed_line_is_refused() {
    for line in [
        "TCP4 192.0.2.1 192.0.2.2 5000\r\n",
        "TCP4 192.0.2.1 192.0.2.2 5000 53 1\r\n",
        "TCP4 192.0.2.1  192.0.2.2 5000 53\r\n",
        "TCP4 192.0.2.1 192.0.2.2 +5000 53\r\n",
        "TCP4 192.0.2.1 192.0.2.2 65536 53\r\n",
        "TCP4 2001:db8::1 ::2 5000 53\r\n",
        "TCP6 192.0.2.1 192.0.2.2 5000 53\r\n",
        "TCP5 192.0.2.1 192.0.2.2 5000 53\r\n",
        "TCP4 192.0.2.1 192.0.2.2 5000 53\n",
        "TCP4 192.0.2.\u{661} 192.0.2.2 5000 53\r\n",
        "\r\n",
    ] {
        let bytes = format!("PROXY {line}");
        assert_eq!(read(bytes.as_bytes()), Parsed::Invalid(Flaw::Line), "{line}");
    }
    let endless = format!("PROXY UNKNOWN {}", "x".repeat(93));
    assert_eq!(endless.len(), 107);
    assert_eq!(read(endless.as_bytes()), Parsed::Invalid(Flaw::Line));
    assert_eq!(read(&endless.as_bytes()[..106]), Parsed::Partial);
}

#[test]
fn a_binary_header_names_the_client_and_its_tlvs_are_skipped() {
    let v4 = [192, 0, 2, 1, 192, 0, 2, 2, 0x13, 0x88, 0, 53];
    let tlvs = [&v4[..], &[0xea, 0, 2, 1, 1, 4, 0, 0]].concat();
    for kind in [0x10, 0x11, 0x12] {
        assert_eq!(source(&binary(0x21, kind, &v4)), Ok(Some(address("192.0.2.1:5000"))));
    }
    assert_eq!(source(&binary(0x21, 0x12, &tlvs)), Ok(Some(address("192.0.2.1:5000"))));
    let mut v6 = [0; 36];
    (v6[0], v6[1], v6[15], v6[33]) = (0x20, 1, 9, 7);
    assert_eq!(source(&binary(0x21, 0x21, &v6)), Ok(Some(address("[2001::9]:7"))));
    let mut mapped = [0; 36];
    mapped[10..16].copy_from_slice(&[255, 255, 192, 0, 2, 1]);
    assert_eq!(source(&binary(0x21, 0x22, &mapped)), Ok(Some(address("192.0.2.1:0"))));
}

#[test]
fn a_header_without_an_ip_address_is_valid() {
    assert_eq!(source(&binary(0x20, 0, &[])), Ok(None));
    // The family of a proxy's own connection is ignored.
    assert_eq!(source(&binary(0x20, 0x11, &[1, 2])), Ok(None));
    assert_eq!(source(&binary(0x21, 0, &[1, 2, 3])), Ok(None));
    assert_eq!(source(&binary(0x21, 0x31, &[0; 216])), Ok(None));
}

#[test]
fn an_invalid_binary_header_is_refused() {
    let v4 = [0; 12];
    for (bytes, flaw) in [
        (binary(0x11, 0x11, &v4), Flaw::Version),
        (binary(0x22, 0x11, &v4), Flaw::Version),
        (binary(0x21, 0x41, &v4), Flaw::Family),
        (binary(0x21, 0x13, &v4), Flaw::Family),
        (binary(0x21, 0x11, &v4[..11]), Flaw::Length),
        (binary(0x21, 0x21, &[0; 35]), Flaw::Length),
        (binary(0x21, 0x31, &[0; 215]), Flaw::Length),
        (binary(0x21, 0x11, &vec![0; HEADER_LEN_MAX - FIXED_LEN + 1]), Flaw::TooLong),
    ] {
        assert_eq!(read(&bytes), Parsed::Invalid(flaw));
        // The payload is not waited for.
        assert_eq!(read(&bytes[..FIXED_LEN]), Parsed::Invalid(flaw));
    }
    let longest = binary(0x21, 0x11, &vec![0; HEADER_LEN_MAX - FIXED_LEN]);
    assert_eq!(source(&longest), Ok(Some(address("0.0.0.0:0"))));
}

#[test]
fn the_beginning_of_a_header_is_partial_and_the_payload_is_not_read() {
    let line = b"PROXY TCP4 192.0.2.1 192.0.2.2 5000 53\r\n".to_vec();
    let headers = [line, binary(0x21, 0x11, &[0; 20]), binary(0x20, 0, &[])];
    for header in headers {
        for cut in 0..header.len() {
            assert_eq!(read(&header[..cut]), Parsed::Partial, "{cut} of {header:?}");
        }
        let whole = read(&header);
        assert_eq!(read(&[&header[..], b"PROXY "].concat()), whole);
    }
    for other in
        [&b"\0\x1d\x12\x34"[..], b"PRI * HTTP/2.0", b"POST / HTTP/1.1", b"\r\n\r\n\r", b"\x16"]
    {
        assert_eq!(read(other), Parsed::Absent);
    }
}

#[test]
fn a_written_header_is_read_again() {
    for (source_text, destination, len) in [
        ("192.0.2.1:5000", "192.0.2.2:53", 28),
        ("[2001:db8::1]:5000", "[::1]:53", 52),
        ("[2001:db8::1]:5000", "192.0.2.2:53", 52),
        ("192.0.2.1:5000", "[::1]:53", 52),
        ("[::ffff:192.0.2.1]:5000", "192.0.2.2:53", 28),
    ] {
        for is_stream in [false, true] {
            let mut out = [0; WRITTEN_LEN_MAX];
            let path =
                Path { source: address(source_text), destination: address(destination), is_stream };
            assert_eq!(write(Some(&path), &mut out), len);
            let canonical = (path.source.ip().to_canonical(), path.source.port()).into();
            assert_eq!(source(&out[..len]), Ok(Some(canonical)));
            assert_eq!(out[13] & 15, if is_stream { 1 } else { 2 });
        }
    }
    let mut out = [0; WRITTEN_LEN_MAX];
    assert_eq!(write(None, &mut out), FIXED_LEN);
    assert_eq!(source(&out[..FIXED_LEN]), Ok(None));
}
