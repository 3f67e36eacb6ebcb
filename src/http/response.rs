//! Responses, and their form in HTTP/1.1.
//!
//! In HTTP/2 the library writes them, in HTTP/3 the room [`http3`](super::http3).

#[derive(Clone, Copy, Debug)]
pub(crate) struct Response<'a> {
    /// The status code.
    pub(crate) status: u16,
    /// Fields, with names in lower case. The length of the body is added to them.
    pub(crate) headers: &'a [(&'static str, &'a [u8])],
    /// The body, in two parts. The response to HEAD has its length, but not its bytes.
    pub(crate) body: [&'a [u8]; 2],
    /// Field behind the body. HTTP/1.1 does without it.
    pub(crate) trailer: Option<(&'static str, &'static str)>,
}

impl<'a> Response<'a> {
    /// Creates a response without a trailer.
    pub(crate) fn new(
        status: u16,
        headers: &'a [(&'static str, &'a [u8])],
        body: &'a [u8],
    ) -> Self {
        Self { status, headers, body: [&[], body], trailer: None }
    }

    /// Length of the body.
    pub(super) fn len(&self) -> usize {
        self.body.iter().map(|part| part.len()).sum()
    }
}

/// Returns the reason phrase of a status code.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        421 => "Misdirected Request",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

/// Appends a response in the form of HTTP/1.1. `closes`: none follows on the connection.
pub(super) fn write(out: &mut Vec<u8>, response: &Response<'_>, is_head: bool, closes: bool) {
    let mut digits = itoa::Buffer::new();
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(digits.format(response.status).as_bytes());
    out.push(b' ');
    out.extend_from_slice(reason(response.status).as_bytes());
    out.extend_from_slice(b"\r\n");
    for (name, value) in response.headers {
        field(out, name, value);
    }
    field(out, "content-length", digits.format(response.len()).as_bytes());
    if closes {
        field(out, "connection", b"close");
    }
    out.extend_from_slice(b"\r\n");
    if !is_head {
        response.body.iter().for_each(|part| out.extend_from_slice(part));
    }
}

fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::{Response, write};

    #[test]
    fn a_head_has_the_length_of_its_body() {
        let headers = [("allow", &b"GET"[..])];
        let response = Response { body: [b"n", b"o\n"], ..Response::new(405, &headers, b"") };
        let mut out = Vec::new();
        write(&mut out, &response, false, false);
        let whole =
            b"HTTP/1.1 405 Method Not Allowed\r\nallow: GET\r\ncontent-length: 3\r\n\r\nno\n";
        assert_eq!(out, whole);
        out.clear();
        write(&mut out, &response, true, true);
        let text = String::from_utf8(out).unwrap();
        assert!(text.ends_with("content-length: 3\r\nconnection: close\r\n\r\n"), "{text}");
    }
}
