//! Fetching a status over a socket: slow, broken, endless and absent responses.
//!
//! The server is scripted; each test waits for a fraction of a second at most.

use super::fixtures::ordinary;
use super::serving::{Server, response};
use onward::clock::Clock;
use onward::status::Status;
use onward::top::fetch::{BYTES_MAX, FetchError, TIMEOUT, fetch};
use onward::top::screen::printed;
use std::io::Write;
use std::net::TcpListener;
use std::time::Duration;

fn ask(address: &str, patience: Duration) -> Result<Status, FetchError> {
    fetch(address, &Clock::start(), patience)
}

#[track_caller]
fn refuses(answer: impl Into<Vec<u8>>, words: &str) {
    let server = Server::with_bytes(answer);
    let error = ask(&server.address.to_string(), TIMEOUT).unwrap_err().to_string();
    assert!(error.contains(words), "{error}");
}

fn json(status: &Status) -> String {
    response("application/json", "", &serde_json::to_string(status).unwrap())
}

#[test]
fn a_status_arrives_whole() {
    let server = Server::start(|path, stream| {
        assert_eq!(path, "/status.json");
        // In pieces, as over a network.
        for piece in json(&ordinary()).as_bytes().chunks(777) {
            stream.write_all(piece).unwrap();
        }
    });
    let status = ask(&server.address.to_string(), TIMEOUT).unwrap();
    // Compared in printed form, because decimals may differ in the last bit.
    assert!(printed(&status) == printed(&ordinary()), "{}", printed(&status));
    assert_eq!(status.traffic.replies, ordinary().traffic.replies);
}

#[test]
fn an_invalid_status_is_refused_with_advice() {
    refuses("", "ended early");
    refuses("garbage\u{1b}[2J\r\n\r\n", "is not HTTP");
    refuses("HTTP/1.1 404 Not Found\r\n\r\n", "check that the Corefile has `status`");
    refuses("HTTP/1.1 500 Oops\r\n\r\n", "returned status 500");
    refuses(response("text/html", "", "<p>hello</p>"), "is not a status document");
    refuses(response("text/html", "", "[1,2]"), "is not a status document");
    refuses(response("text/html", "", &"[".repeat(1_000_000)), "is not a status document");
    let whole = json(&ordinary());
    refuses(&whole.as_bytes()[..whole.len() - 9], "ended early");
    refuses(
        response("application/json", "Transfer-Encoding: chunked\r\n", "{}"),
        "transfer coding",
    );
}

#[test]
fn a_response_of_any_size_is_bounded() {
    let server = Server::start(|_, stream| {
        let head = "HTTP/1.1 200 OK\r\n\r\n[";
        let mut written = stream.write_all(head.as_bytes());
        // Endless, until the client closes the connection.
        for _ in 0..=10 * (BYTES_MAX >> 16) {
            written = written.and_then(|()| stream.write_all(&[b' '; 1 << 16]));
        }
        assert!(written.is_err(), "all of it was taken");
    });
    let error = ask(&server.address.to_string(), TIMEOUT).unwrap_err();
    assert!(matches!(error, FetchError::TooLarge), "{error}");
}

#[test]
fn a_slow_server_times_out() {
    let brief = Duration::from_millis(200);
    // The listener never accepts; only the kernel completes the handshake.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let error = ask(&silent.local_addr().unwrap().to_string(), brief).unwrap_err();
    assert!(matches!(error, FetchError::TimedOut), "{error}");
    // Occasional bytes would take minutes if each restarted the timeout.
    let server = Server::start(|_, stream| {
        let (_nobody, nothing) = crossbeam_channel::bounded::<()>(0);
        while stream.write_all(b"H").is_ok() {
            let _ = nothing.recv_timeout(Duration::from_millis(20));
        }
    });
    let error = ask(&server.address.to_string(), brief).unwrap_err();
    assert!(matches!(error, FetchError::TimedOut), "{error}");
}

#[test]
fn an_unreachable_server_is_named_with_advice() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = ask(&gone.to_string(), TIMEOUT).unwrap_err().to_string();
    assert!(
        error.contains("refused") && error.contains("check that the Corefile has `status`"),
        "{error}"
    );
    for nonsense in ["", "a b", "127.0.0.1:99999", "[::1"] {
        let error = ask(nonsense, TIMEOUT).unwrap_err().to_string();
        assert!(error.contains("HOST:PORT"), "{nonsense}: {error}");
    }
}
