//! HTTP requests of clients. PURE.
//!
//! Parses the head of an HTTP/1 request, in however many pieces it arrived ([`has_end`]), into the
//! few facts that matter here: path, host, and whether another request may follow on the
//! connection. A request's body is never read, so a client that sends one gets a response and a
//! close. Any bytes are a request, a refusal, or incomplete.

use httparse::{EMPTY_HEADER, Error, Header, Status};

/// Maximum bytes of a head; browsers with many cookies stay below.
pub(super) const HEAD_BYTES_MAX: usize = 8 << 10;
/// Maximum number of header lines.
const HEADERS_MAX: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request<'a> {
    /// The path without the query string.
    pub(super) path: &'a str,
    /// Name and optional port in the `Host` header or the target.
    pub(super) host: Option<&'a str>,
    /// HEAD: the response has no body.
    pub(super) head_only: bool,
    /// Another request may follow on the connection.
    pub(super) keep: bool,
}

/// Reason why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Malformed request.
    Malformed,
    /// Method other than GET and HEAD.
    Method,
    /// Too many header lines or bytes.
    TooLarge,
}

/// Returns true if the end of a head can be in `input`, of which the first `seen` bytes are known
/// not to contain it: before that parsing is useless.
pub(super) fn has_end(input: &[u8], seen: usize) -> bool {
    let fresh = &input[seen.saturating_sub(3)..];
    fresh.windows(2).any(|pair| pair == b"\n\n") || fresh.windows(3).any(|end| end == b"\n\r\n")
}

/// Parses the request at the beginning of `input`; `None`: its head is incomplete.
///
/// # Errors
/// [`Refusal`]; later bytes on the connection cannot be parsed.
pub(super) fn parse(input: &[u8]) -> Result<Option<Request<'_>>, Refusal> {
    let mut headers = [EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut headers);
    let len = match parsed.parse(input) {
        Ok(Status::Complete(len)) => len,
        Ok(Status::Partial) if input.len() < HEAD_BYTES_MAX => return Ok(None),
        Ok(Status::Partial) | Err(Error::TooManyHeaders) => return Err(Refusal::TooLarge),
        Err(_) => return Err(Refusal::Malformed),
    };
    let (Some(method), Some(target)) = (parsed.method, parsed.path) else {
        return Err(Refusal::Malformed);
    };
    let version = parsed.version;
    let headers = &*parsed.headers;
    let named = host(headers)?;
    if named.is_none() && version == Some(1) {
        return Err(Refusal::Malformed);
    }
    let head_only = match method {
        "GET" => false,
        "HEAD" => true,
        _ => return Err(Refusal::Method),
    };
    let (authority, path) = split(target).ok_or(Refusal::Malformed)?;
    // A pipelined request or a body ends the connection.
    let keep = version == Some(1)
        && len == input.len()
        && !headers.iter().any(|header| is_body(header) || says_close(header));
    Ok(Some(Request { path, host: authority.or(named), head_only, keep }))
}

/// Returns the only `Host`, if there is one.
fn host<'a>(headers: &[Header<'a>]) -> Result<Option<&'a str>, Refusal> {
    let mut hosts = headers.iter().filter(|header| header.name.eq_ignore_ascii_case("host"));
    match (hosts.next(), hosts.next()) {
        (None, _) => Ok(None),
        (Some(host), None) => {
            std::str::from_utf8(host.value).map(Some).map_err(|_| Refusal::Malformed)
        }
        (Some(_), Some(_)) => Err(Refusal::Malformed),
    }
}

/// Splits a target into name and path; it may be in the form for a proxy (RFC 9112 §3.2.2).
fn split(target: &str) -> Option<(Option<&str>, &str)> {
    let scheme = target.get(..7).filter(|scheme| scheme.eq_ignore_ascii_case("http://"));
    let (authority, path) = match scheme {
        None => (None, target),
        Some(scheme) => {
            let rest = &target[scheme.len()..];
            let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
            (Some(authority), if path.starts_with('/') { path } else { "/" })
        }
    };
    let path = path.split(['?', '#']).next().unwrap_or_default();
    path.starts_with('/').then_some((authority, path))
}

fn is_body(header: &Header<'_>) -> bool {
    header.name.eq_ignore_ascii_case("transfer-encoding")
        || (header.name.eq_ignore_ascii_case("content-length") && header.value != b"0")
}

fn says_close(header: &Header<'_>) -> bool {
    header.name.eq_ignore_ascii_case("connection")
        && header
            .value
            .split(|byte| *byte == b',')
            .any(|word| word.trim_ascii().eq_ignore_ascii_case(b"close"))
}

#[cfg(test)]
mod tests {
    use super::{HEAD_BYTES_MAX, Refusal, Request, has_end, parse};
    use proptest::prelude::{ProptestConfig, any, prop_assert_eq, proptest};

    fn of(text: &str) -> Result<Option<Request<'_>>, Refusal> {
        parse(text.as_bytes())
    }

    fn request(text: &str) -> Request<'_> {
        of(text).unwrap().unwrap_or_else(|| panic!("{text:?} is not complete"))
    }

    const CURL: &str = "GET /metrics HTTP/1.1\r\nHost: localhost:9153\r\nAccept: */*\r\n\r\n";

    #[test]
    fn requests_of_common_clients_are_parsed() {
        let expected = Request {
            path: "/metrics",
            host: Some("localhost:9153"),
            head_only: false,
            keep: true,
        };
        assert_eq!(request(CURL), expected);
        let plain = request("HEAD /ready HTTP/1.0\r\n\r\n");
        assert!(plain.head_only && !plain.keep && plain.host.is_none());
        let asked = request("GET /status.json?a=/b#c HTTP/1.1\nhost:[::1]\n\n");
        assert_eq!((asked.path, asked.host), ("/status.json", Some("[::1]")));
        let proxied = request("GET HTTP://m.test/health HTTP/1.1\r\nHost: other\r\n\r\n");
        assert_eq!((proxied.path, proxied.host), ("/health", Some("m.test")));
        assert_eq!(request("GET http://m HTTP/1.1\r\nHost: m\r\n\r\n").path, "/");
    }

    #[test]
    fn a_head_is_parsed_in_any_pieces() {
        for cut in 0..CURL.len() {
            assert_eq!(of(&CURL[..cut]), Ok(None), "{cut}");
            let head = CURL.as_bytes();
            assert!(!has_end(&head[..cut], 0), "{cut}");
            assert!(has_end(head, cut), "{cut}");
        }
    }

    #[test]
    fn the_request_decides_whether_another_may_follow() {
        for (more, keep) in [
            ("", true),
            ("Content-Length: 0\r\n", true),
            ("Connection: keep-alive\r\n", true),
            ("connection: TE, Close\r\n", false),
            ("Content-Length: 3\r\n", false),
            ("Transfer-Encoding: chunked\r\n", false),
        ] {
            let text = format!("GET / HTTP/1.1\r\nHost: m\r\n{more}\r\n");
            assert_eq!(request(&text).keep, keep, "{more}");
        }
        assert!(!request(&format!("{CURL}GET")).keep);
    }

    #[test]
    fn malformed_requests_are_refused() {
        let many = format!("GET / HTTP/1.1\r\nHost: m\r\n{}\r\n", "a: b\r\n".repeat(64));
        let long = format!("GET /{}", "a".repeat(HEAD_BYTES_MAX));
        for (text, refusal) in [
            ("POST /health HTTP/1.1\r\nHost: m\r\n\r\n", Refusal::Method),
            ("GET / HTTP/1.1\r\n\r\n", Refusal::Malformed),
            ("GET / HTTP/1.1\r\nHost: m\r\nHost: n\r\n\r\n", Refusal::Malformed),
            ("GET * HTTP/1.1\r\nHost: m\r\n\r\n", Refusal::Malformed),
            ("GET health HTTP/1.1\r\nHost: m\r\n\r\n", Refusal::Malformed),
            ("GET / HTTP/3.0\r\nHost: m\r\n\r\n", Refusal::Malformed),
            ("\x16\x03\x01\n\r\n", Refusal::Malformed),
            (&many, Refusal::TooLarge),
            (&long, Refusal::TooLarge),
        ] {
            assert_eq!(of(text), Err(refusal), "{}", &text[..text.len().min(60)]);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn no_bytes_cause_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
            let _ = parse(&[b"GET /".as_slice(), &bytes, b" HTTP/1.1\r\nHost: m\r\n\r\n"].concat());
            let _ = parse(&[b"GET / HTTP/1.1\r\nHost: ".as_slice(), &bytes, b"\r\n\r\n"].concat());
        }
        #[test]
        fn an_end_is_found_at_any_cut(
            head in "[a\r\n]{0,12}",
            cut in 0_usize..12,
        ) {
            let (head, cut) = (head.as_bytes(), cut.min(head.len()));
            let at_once = has_end(head, 0);
            prop_assert_eq!(at_once, has_end(&head[..cut], 0) || has_end(head, cut));
        }
    }
}
