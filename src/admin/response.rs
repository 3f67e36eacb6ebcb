//! HTTP responses. PURE.
//!
//! A status, a body, and the few necessary header lines: the length, the content type, and that
//! caches must not store it.

use std::io::Write as _;

const TEXT: &str = "text/plain; charset=utf-8";

/// An HTTP response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Response {
    /// The status code.
    pub(super) status: u16,
    /// Content type of the body.
    pub(super) content_type: &'static str,
    /// Header lines besides those that every response has.
    pub(super) headers: &'static [(&'static str, &'static str)],
    pub(super) body: Vec<u8>,
}

impl Response {
    /// Creates a response with a short text.
    pub(super) fn text(status: u16, words: impl Into<Vec<u8>>) -> Self {
        Self { status, content_type: TEXT, headers: &[], body: words.into() }
    }

    /// Encodes the response. `keep`: another request may follow.
    pub(super) fn encode(&self, head_only: bool, keep: bool) -> Vec<u8> {
        let Self { status, content_type, headers, body } = self;
        let mut bytes = Vec::with_capacity(512 + body.len());
        let mut line = |text: std::fmt::Arguments<'_>| {
            let _ = bytes.write_fmt(text);
            bytes.extend_from_slice(b"\r\n");
        };
        line(format_args!("HTTP/1.1 {status} {}", reason(*status)));
        line(format_args!("Content-Type: {content_type}"));
        line(format_args!("Content-Length: {}", body.len()));
        line(format_args!("Cache-Control: no-store"));
        line(format_args!("X-Content-Type-Options: nosniff"));
        for (name, value) in *headers {
            line(format_args!("{name}: {value}"));
        }
        if !keep {
            line(format_args!("Connection: close"));
        }
        line(format_args!(""));
        if !head_only {
            bytes.extend_from_slice(body);
        }
        bytes
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        421 => "Misdirected Request",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::Response;

    #[test]
    fn a_head_has_the_length_of_its_body() {
        let response =
            Response { headers: &[("Allow", "GET, HEAD")], ..Response::text(405, "no\n") };
        let whole = String::from_utf8(response.encode(false, false)).unwrap();
        let (head, body) = whole.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"), "{head}");
        for line in ["Content-Length: 3", "Allow: GET, HEAD", "Connection: close"] {
            assert!(head.lines().any(|found| found == line), "no {line} in {head}");
        }
        assert_eq!(body, "no\n");
        let head_only = String::from_utf8(response.encode(true, true)).unwrap();
        assert!(head_only.ends_with("\r\n\r\n") && head_only.contains("Content-Length: 3\r\n"));
        assert!(!head_only.contains("Connection"));
    }
}
