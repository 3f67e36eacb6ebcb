//! Fuzz target: headers of the PROXY protocol. Any bytes are accepted or refused, no byte behind a
//! header matters, and the beginning of a header leads to the same result as soon as it is certain.
//!
//! The corpus is raw bytes.

use super::fuzz;
use super::mutate::Mutator;
use onward::config::{Config, Host};
use onward::engine::proxy::datagrams::{Datagrams, Opened};
use onward::engine::proxy::{HEADER_LEN_MAX, Parsed, Path, WRITTEN_LEN_MAX, read, write};
use onward::moment::Moment;
use std::cell::RefCell;

const MUTATOR: Mutator = Mutator {
    separators: b" \r\n.:\0",
    words: &[
        b"\r\n\r\n\0\r\nQUIT\n",
        b"\x21\x11\0\x0c",
        b"\x21\x22\0\x24",
        b"\x20\0\0\0",
        b"\x21\x31\0\xd8",
        b"\xff\xff",
        b"PROXY ",
        b"TCP4 ",
        b"TCP6 ",
        b"UNKNOWN",
        b"192.0.2.1 ",
        b"::1 ",
        b"65535",
        b"\r\n",
    ],
};

/// Checks that the result for the beginning of `bytes` agrees with that for all of them.
fn check_beginnings(bytes: &[u8]) {
    let whole = read(bytes);
    for end in 0..bytes.len() {
        match read(&bytes[..end]) {
            Parsed::Partial => {}
            certain => assert_eq!(certain, whole, "{end} bytes"),
        }
    }
    if let Parsed::Header(header) = whole {
        assert!(header.len <= bytes.len().min(HEADER_LEN_MAX));
        assert_eq!(read(&bytes[..header.len]), whole);
        assert!(matches!(read(&bytes[..header.len - 1]), Parsed::Partial));
    }
}

#[test]
fn proxy() {
    let text = b". {\n proxyproto {\n udp_session_tracking 1h 3\n }\n}\n";
    let (config, _) = Config::load(text, "Corefile", &Host::plain()).unwrap();
    let settings = config.listeners[0].proxies.clone().unwrap();
    let hasher = ahash::RandomState::with_seeds(1, 2, 3, 4);
    let datagrams = RefCell::new(Datagrams::new(settings, &hasher));
    let taken = fuzz("proxy", &MUTATOR, |input| {
        check_beginnings(input);
        let port = u16::from(input.last().copied().unwrap_or(0) & 7) + 1;
        let sender = ([127, 0, 0, 1], port).into();
        let mut datagrams = datagrams.borrow_mut();
        let (rest, source) = match datagrams.open(Moment::ZERO, sender, input) {
            Opened::Own { payload, .. } => (payload, None),
            Opened::Relayed { source, relay, payload, .. } => {
                assert_eq!(datagrams.sender(relay), Some(sender));
                (payload, Some(source))
            }
            Opened::Session | Opened::Dropped(_) => return false,
        };
        assert!(input.ends_with(rest));
        let Parsed::Header(_) = read(input) else { return false };
        // A header that we write for the same client names it again.
        let mut out = [0; WRITTEN_LEN_MAX];
        let path = source.map(|source| Path { source, destination: sender, is_stream: true });
        let len = write(path.as_ref(), &mut out);
        let Parsed::Header(again) = read(&out[..len]) else { panic!("it is a header") };
        assert_eq!((again.len, again.source), (len, path.map(|path| path.source)));
        true
    });
    assert!(taken > 1_000 || std::env::var_os("FUZZ_ONLY").is_some(), "{taken} have headers");
}
