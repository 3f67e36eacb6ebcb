//! Datagrams of proxies and of others, under each policy.
//!
//! The engine and sockets have no part in it; `tests/loopback/proxyproto.rs` joins them.

use super::{Datagrams, Opened};
use crate::config::{Config, Host};
use crate::engine::proxy::{Flaw, Path, WRITTEN_LEN_MAX, write};
use crate::moment::Moment;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

const CLIENT: &str = "[2001:db8::1]:5000";

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// The state of a listener with this body of `proxyproto`.
fn datagrams(body: &str) -> Datagrams {
    let text = format!(". {{\n proxyproto {{\n{body}\n}}\n}}\n");
    let (config, _) = Config::load(text.as_bytes(), "f", &Host::plain()).unwrap();
    let settings = config.listeners[0].proxies.clone().unwrap();
    Datagrams::new(settings, &ahash::RandomState::with_seeds(1, 2, 3, 4))
}

fn header(client: Option<&str>) -> Vec<u8> {
    let mut out = [0; WRITTEN_LEN_MAX];
    let destination = address("192.0.2.53:53");
    let path = client.map(|client| Path { source: address(client), destination, is_stream: false });
    let len = write(path.as_ref(), &mut out);
    out[..len].to_vec()
}

fn at(seconds: u64) -> Moment {
    Moment::ZERO.plus(Duration::from_secs(seconds))
}

#[test]
fn the_policy_decides_about_the_header_of_each_sender() {
    let with = [&header(Some(CLIENT))[..], b"query"].concat();
    let own = |body: &str, sender: &str, bytes: &[u8]| {
        let mut datagrams = datagrams(body);
        match datagrams.open(at(0), address(sender), bytes) {
            Opened::Own { payload, has_header } => {
                format!("own {} {has_header}", payload.escape_ascii())
            }
            Opened::Relayed { source, relay, payload, .. } => {
                assert_eq!(datagrams.sender(relay), Some(address(sender)));
                format!("{source} {}", payload.escape_ascii())
            }
            Opened::Session => "session".to_owned(),
            Opened::Dropped(flaw) => format!("{flaw:?}"),
        }
    };
    let used = format!("{CLIENT} query");
    assert_eq!(own("", "192.0.2.1:7", &with), used);
    assert_eq!(own("", "192.0.2.1:7", b"query"), "own query false");
    assert_eq!(own("allow 192.0.2.1/32", "192.0.2.1:7", &with), used);
    assert_eq!(own("allow 192.0.2.1/32", "192.0.2.9:7", &with), "own query true");
    assert_eq!(own("default ignore", "192.0.2.1:7", b"query"), "own query false");
    assert_eq!(own("default reject", "192.0.2.1:7", &with), "Rejected");
    assert_eq!(own("default reject", "192.0.2.1:7", b"query"), "own query false");
    let skipped = format!("own {} false", with.escape_ascii());
    assert_eq!(own("default skip", "192.0.2.1:7", &with), skipped);
    let local = [&header(None)[..], b"query"].concat();
    assert_eq!(own("", "192.0.2.1:7", &local), "own query true");
}

#[test]
fn an_invalid_header_is_dropped_whatever_the_policy_but_skip() {
    let cut = &header(Some(CLIENT))[..30];
    for body in ["", "default ignore", "default reject"] {
        let mut datagrams = datagrams(body);
        let mut open = |bytes: &[u8]| match datagrams.open(at(0), address("192.0.2.1:7"), bytes) {
            Opened::Dropped(flaw) => Some(flaw),
            _ => None,
        };
        assert_eq!(open(cut), Some(Flaw::Cut));
        assert_eq!(open(b"PROXY UNKNOWN\r\nquery"), Some(Flaw::LineInDatagram));
        assert_eq!(open(b"PROXY TCP4\r\n"), Some(Flaw::Line));
        // Shorter than a signature, these are left to the parser of queries.
        assert_eq!([open(b"\r\n"), open(b"PROXY"), open(b"")], [None; 3]);
    }
}

#[test]
fn a_session_is_remembered_for_its_time_and_refreshed_by_headers() {
    let mut datagrams = datagrams("udp_session_tracking 10s 2");
    let (proxy, other) = (address("192.0.2.1:7"), address("192.0.2.1:8"));
    let mut source =
        |now: u64, sender: SocketAddr, bytes: &[u8]| match datagrams.open(at(now), sender, bytes) {
            Opened::Relayed { source, .. } => Some(source),
            Opened::Session => Some(address("0.0.0.0:1")),
            _ => None,
        };
    assert_eq!(source(0, proxy, b"query"), None);
    assert_eq!(source(0, proxy, &header(Some(CLIENT))), Some(address("0.0.0.0:1")));
    assert_eq!(source(9, proxy, b"query"), Some(address(CLIENT)));
    assert_eq!(source(9, other, b"query"), None);
    // The use at 9 s has extended it.
    assert_eq!(source(18, proxy, b"query"), Some(address(CLIENT)));
    assert_eq!(source(28, proxy, b"query"), None);
    let payload = [&header(Some("192.0.2.7:1"))[..], b"query"].concat();
    assert_eq!(source(30, proxy, &payload), Some(address("192.0.2.7:1")));
    assert_eq!(source(31, proxy, b"query"), Some(address("192.0.2.7:1")));
    // The proxy speaks for itself, and no longer for the client.
    assert_eq!(source(31, other, &payload), Some(address("192.0.2.7:1")));
    assert_eq!(source(31, other, &header(None)), None);
    assert_eq!(source(31, other, b"query"), None);
    // Two others take its place.
    assert!(source(32, other, &payload).is_some());
    assert!(source(32, address("192.0.2.1:9"), &payload).is_some());
    assert_eq!(source(33, proxy, b"query"), None);
}

#[test]
fn without_sessions_a_header_alone_is_an_empty_query() {
    let mut datagrams = datagrams("");
    let alone = header(Some(CLIENT));
    let opened = datagrams.open(at(0), address("192.0.2.1:7"), &alone);
    assert!(matches!(opened, Opened::Relayed { payload: b"", .. }));
}

#[test]
fn sessions_survive_a_reload_with_the_same_lifetime_and_number_and_replies_survive_each() {
    let mut datagrams = datagrams("udp_session_tracking 10s");
    let (proxy, hasher) = (address("192.0.2.1:7"), ahash::RandomState::with_seeds(1, 2, 3, 4));
    let payload = [&header(Some(CLIENT))[..], b"query"].concat();
    let Opened::Relayed { relay, .. } = datagrams.open(at(0), proxy, &payload) else {
        panic!("the header is used")
    };
    let same = Arc::clone(&datagrams.settings);
    datagrams.reload(&Arc::new((*same).clone()), &hasher);
    assert!(matches!(datagrams.open(at(1), proxy, b"query"), Opened::Relayed { .. }));
    let proxies = super::tests::datagrams("udp_session_tracking 10s\n allow 192.0.2.0/24").settings;
    datagrams.reload(&proxies, &hasher);
    assert!(matches!(datagrams.open(at(1), proxy, b"query"), Opened::Relayed { .. }));
    let other = super::tests::datagrams("udp_session_tracking 20s").settings;
    datagrams.reload(&other, &hasher);
    assert!(matches!(datagrams.open(at(1), proxy, b"query"), Opened::Own { .. }));
    assert_eq!(datagrams.sender(relay), Some(proxy));
}
