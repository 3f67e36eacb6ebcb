//! Fetching a server's status: one GET over one connection, within a time and a size.
//!
//! Blocking and plain: the caller has a thread for it. No server can keep it longer than
//! [`TIMEOUT`] or make it hold more than [`BYTES_MAX`]; a response without a status is an error
//! with a remedy. The status is drawn elsewhere.

use crate::clock::Clock;
use crate::figures::visible;
use crate::moment::Moment;
use crate::status::Status;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// Default port of `status`.
pub(crate) const PORT: u16 = 8053;
/// Maximum time of a fetch, from the first packet to the last.
pub const TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum size of a response: many times that of the largest host.
pub const BYTES_MAX: usize = 4 << 20;

const PATH: &str = "/status.json";
const TRY: &str = "check that the Corefile has `status` and that this is its address";

/// Reason why there is no status.
#[derive(Debug)]
pub enum FetchError {
    /// The address does not resolve.
    Address(io::Error),
    /// The connection failed.
    Connect(io::Error),
    /// The connection broke.
    Io(io::Error),
    /// No response in time.
    TimedOut,
    /// The response is not HTTP.
    NotHttp,
    /// A status code other than 200.
    Refused(u16),
    /// The answer is larger than [`BYTES_MAX`].
    TooLarge,
    /// The response ended early.
    Truncated,
    /// The response has an unsupported encoding.
    Encoded,
    /// The response is not a status document.
    NotStatus(serde_json::Error),
}

impl fmt::Display for FetchError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(error) => {
                let error = visible(&error.to_string(), 100);
                write!(out, "{error}; expected HOST:PORT or [IPv6]:PORT")
            }
            Self::Connect(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                write!(out, "connection refused; {TRY}")
            }
            Self::Connect(error) => write!(out, "cannot connect: {error}; {TRY}"),
            Self::Io(error) => write!(out, "connection failed: {error}"),
            Self::TimedOut => write!(out, "no answer within {} s; {TRY}", TIMEOUT.as_secs()),
            Self::NotHttp => write!(out, "the response is not HTTP; {TRY}"),
            Self::Refused(404) => write!(out, "{PATH} not found (404); {TRY}"),
            Self::Refused(code) => write!(out, "{PATH} returned status {code}; {TRY}"),
            Self::TooLarge => {
                write!(out, "the response is larger than {} MiB; {TRY}", BYTES_MAX >> 20)
            }
            Self::Truncated => write!(out, "the response ended early"),
            Self::Encoded => {
                write!(
                    out,
                    "the response has a transfer coding; use the address of onward, not of a proxy"
                )
            }
            Self::NotStatus(error) => {
                // The error may quote the server's text.
                let error = visible(&error.to_string(), 100);
                write!(out, "the response is not a status document ({error}); {TRY}")
            }
        }
    }
}

impl std::error::Error for FetchError {}

/// Fetches the status from `address` (`HOST`, `HOST:PORT` or `[IPv6]:PORT`) within `patience`.
///
/// # Errors
/// See [`FetchError`].
pub fn fetch(address: &str, clock: &Clock, patience: Duration) -> Result<Status, FetchError> {
    let deadline = Deadline { clock, at: clock.now().plus(patience) };
    let mut stream = connect(address, &deadline)?;
    let request = format!(
        "GET {PATH} HTTP/1.1\r\nHost: {}\r\nAccept: application/json\r\nConnection: close\r\n\r\n",
        // A line break in a name would make two lines.
        visible(address, 255)
    );
    stream.set_write_timeout(Some(deadline.left()?)).map_err(FetchError::Io)?;
    stream.write_all(request.as_bytes()).map_err(failed)?;
    let answer = read(&mut stream, &deadline)?;
    serde_json::from_slice(body(&answer)?).map_err(FetchError::NotStatus)
}

/// Deadline of a fetch.
struct Deadline<'a> {
    clock: &'a Clock,
    at: Moment,
}

impl Deadline<'_> {
    /// Returns the time left; never zero, which would mean no limit.
    fn left(&self) -> Result<Duration, FetchError> {
        let left = self.at.since(self.clock.now());
        if left.is_zero() { Err(FetchError::TimedOut) } else { Ok(left) }
    }
}

/// Connects to the first of the name's addresses that accepts.
fn connect(address: &str, deadline: &Deadline<'_>) -> Result<TcpStream, FetchError> {
    let found = match address.to_socket_addrs() {
        Ok(found) => Ok(found),
        Err(error) => {
            let inside = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
            (inside.unwrap_or(address), PORT).to_socket_addrs().map_err(|_| error)
        }
    };
    let nobody = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let mut last = FetchError::Address(nobody);
    for candidate in found.map_err(FetchError::Address)? {
        match TcpStream::connect_timeout(&candidate, deadline.left()?) {
            Ok(stream) => return Ok(stream),
            Err(error) if is_late(&error) => last = FetchError::TimedOut,
            Err(error) => last = FetchError::Connect(error),
        }
    }
    Err(last)
}

/// Reads all bytes until the server closes.
fn read(stream: &mut TcpStream, deadline: &Deadline<'_>) -> Result<Vec<u8>, FetchError> {
    let mut answer = Vec::new();
    let mut piece = [0; 16 << 10];
    loop {
        // Set anew for each piece, so that a slow sender does not get more time.
        stream.set_read_timeout(Some(deadline.left()?)).map_err(FetchError::Io)?;
        match stream.read(&mut piece) {
            Ok(0) => return Ok(answer),
            Ok(count) if answer.len() + count > BYTES_MAX => return Err(FetchError::TooLarge),
            Ok(count) => answer.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
}

/// Returns the body of a successful response.
fn body(answer: &[u8]) -> Result<&[u8], FetchError> {
    let Some(code) = code(answer) else {
        return Err(if answer.is_empty() { FetchError::Truncated } else { FetchError::NotHttp });
    };
    if code != 200 {
        return Err(FetchError::Refused(code));
    }
    let end = answer.windows(4).position(|end| end == b"\r\n\r\n").ok_or(FetchError::Truncated)?;
    let (head, body) = (String::from_utf8_lossy(&answer[..end]), &answer[end + 4..]);
    let header = |name: &str| {
        let fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
        let mut fields = fields.filter(|(key, _)| key.trim().eq_ignore_ascii_case(name));
        fields.next().map(|(_, value)| value.trim().to_owned())
    };
    if header("Transfer-Encoding").is_some() {
        return Err(FetchError::Encoded);
    }
    match header("Content-Length").map(|length| length.parse::<usize>()) {
        None => Ok(body),
        Some(Ok(length)) => body.get(..length).ok_or(FetchError::Truncated),
        Some(Err(_)) => Err(FetchError::NotHttp),
    }
}

/// Returns the status code in the first line: `HTTP/1.1 200 OK`.
fn code(answer: &[u8]) -> Option<u16> {
    let rest = answer.strip_prefix(b"HTTP/1.")?;
    let code = rest.strip_prefix(b"1 ").or_else(|| rest.strip_prefix(b"0 "))?.get(..3)?;
    std::str::from_utf8(code).ok()?.parse().ok()
}

fn failed(error: io::Error) -> FetchError {
    if is_late(&error) { FetchError::TimedOut } else { FetchError::Io(error) }
}

/// Returns true for a time-out, which has one of two kinds, depending on the call.
fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
}

#[cfg(test)]
mod tests {
    use super::{FetchError, body};

    #[test]
    fn the_body_has_the_length_and_encoding_of_the_head() {
        let of = |answer: &[u8]| body(answer).map(<[u8]>::to_vec);
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nab+".as_slice();
        assert_eq!(of(head).unwrap(), b"ab");
        assert_eq!(of(b"HTTP/1.0 200 OK\r\n\r\nabc").unwrap(), b"abc");
        for (answer, expected) in [
            ("", "ended early"),
            ("HTTP/1.1 200 OK\r\n", "ended early"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab", "ended early"),
            ("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nab", "is not HTTP"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab", "transfer coding"),
            ("HTTP/2 200\r\n\r\n", "is not HTTP"),
            ("SSH-2.0-x\r\n", "is not HTTP"),
            ("HTTP/1.1 404 Not Found\r\n\r\n", "(404)"),
            ("HTTP/1.1 503 Busy\r\n\r\n", "returned status 503"),
        ] {
            let error: FetchError = of(answer.as_bytes()).unwrap_err();
            assert!(error.to_string().contains(expected), "{answer}: {error}");
        }
    }
}
