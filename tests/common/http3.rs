//! Bytes of HTTP/3 as a client writes and reads them (RFC 9114, RFC 9204), made by hand.
//!
//! Fields are entries of the static table or plain text, so that nothing here needs a table or the
//! Huffman code. Of a response the status and the body are read.

#![allow(dead_code, reason = "each user has its part of this")]

pub(crate) const DATA: u64 = 0;
pub(crate) const HEADERS: u64 = 1;
pub(crate) const GOAWAY: u64 = 7;

/// A control stream with empty settings.
pub(crate) const CONTROL: [u8; 3] = [0, 4, 0];
/// Lines of `:method`, `:scheme` and `content-type` that are entries of the static table.
pub(crate) const GET: u8 = 0xc0 | 17;
pub(crate) const HEAD: u8 = 0xc0 | 18;
pub(crate) const PUT: u8 = 0xc0 | 21;
pub(crate) const POST: u8 = 0xc0 | 20;
pub(crate) const HTTPS: u8 = 0xc0 | 23;
pub(crate) const DNS_MESSAGE: u8 = 0xc0 | 44;
/// Indices of names.
pub(crate) const AUTHORITY: u8 = 0;
pub(crate) const PATH: u8 = 1;

/// A number of variable length.
pub(crate) fn number(value: usize) -> Vec<u8> {
    match value {
        0..0x40 => vec![value as u8],
        0x40..0x4000 => (value as u16 | 0x4000).to_be_bytes().to_vec(),
        _ => (value as u32 | 0x8000_0000).to_be_bytes().to_vec(),
    }
}

/// A frame.
pub(crate) fn frame(kind: u64, payload: &[u8]) -> Vec<u8> {
    [&number(kind as usize)[..], &number(payload.len()), payload].concat()
}

/// A text behind its length, whose first byte has this many bits of it.
fn text(flags: u8, bits: u32, text: &[u8]) -> Vec<u8> {
    let most = (1 << bits) - 1;
    let mut out = vec![flags | text.len().min(most) as u8];
    let mut rest = text.len().saturating_sub(most);
    if text.len() >= most {
        while rest >= 128 {
            out.push(rest as u8 | 128);
            rest >>= 7;
        }
        out.push(rest as u8);
    }
    out.extend_from_slice(text);
    out
}

/// A field with the name of an entry of the static table.
pub(crate) fn named(index: u8, value: &str) -> Vec<u8> {
    [&[0x50 | index][..], &text(0, 7, value.as_bytes())].concat()
}

/// A field.
pub(crate) fn field(name: &str, value: &str) -> Vec<u8> {
    [text(0x20, 3, name.as_bytes()), text(0, 7, value.as_bytes())].concat()
}

/// A field section.
pub(crate) fn section(lines: &[&[u8]]) -> Vec<u8> {
    [&[0, 0][..], &lines.concat()].concat()
}

/// A request without a body, with these lines behind the usual ones.
pub(crate) fn request(method: u8, path: &str, lines: &[&[u8]]) -> Vec<u8> {
    let usual: [&[u8]; 3] = [&[method, HTTPS], &named(AUTHORITY, "dns.test"), &named(PATH, path)];
    frame(HEADERS, &section(&[&usual[..], lines].concat()))
}

/// A POST with a DNS message.
pub(crate) fn post(path: &str, message: &[u8]) -> Vec<u8> {
    [request(POST, path, &[&[DNS_MESSAGE]]), frame(DATA, message)].concat()
}

/// Takes a number of variable length.
fn take_number(bytes: &mut &[u8]) -> u64 {
    let (number, rest) = bytes.split_at(1 << (bytes[0] >> 6));
    *bytes = rest;
    let value = number.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
    value & !(0b11 << (8 * number.len() - 2))
}

/// The frames in `bytes`: type and payload.
pub(crate) fn frames(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let kind = take_number(&mut bytes);
        let len = take_number(&mut bytes) as usize;
        let (payload, rest) = bytes.split_at(len);
        bytes = rest;
        all.push((kind, payload.to_vec()));
    }
    all
}

/// Status and body of a response.
pub(crate) fn response(bytes: &[u8]) -> (u16, Vec<u8>) {
    let frames = frames(bytes);
    let Some(((HEADERS, section), rest)) = frames.split_first() else {
        panic!("no field section: {frames:x?}")
    };
    let status = match section[2..] {
        [0xd9, ..] => 200,
        [0xdb, ..] => 404,
        [0xff, 0x04, ..] => 400,
        [0xff, 0x08, ..] => 500,
        [0x5f, 0x09, 3, a, b, c, ..] => {
            [a, b, c].iter().fold(0, |value, digit| value * 10 + u16::from(digit - b'0'))
        }
        _ => panic!("the status is not known here: {section:x?}"),
    };
    assert!(rest.iter().all(|(kind, _)| *kind == DATA), "{frames:x?}");
    (status, rest.iter().flat_map(|(_, payload)| payload.clone()).collect())
}
