//! Upstreams written as host names, in a running process.
//!
//! The resolver is a socket of the test. When the name gets another address, the process uses it,
//! even if the Corefile has become invalid meanwhile.

use super::process::{Program, TIMEOUT, directory, onward};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// Last byte of the name's address, in 127.0.0.0/8.
type Address = Arc<AtomicU8>;

const QUESTION_AT: usize = 12;
const NO_ERROR: u8 = 0;
const NX_DOMAIN: u8 = 3;

/// Answers each packet at `socket` with the result of `reply`, as long as the process lives.
fn serve(socket: UdpSocket, reply: impl Fn(&[u8]) -> Vec<u8> + Send + 'static) {
    std::thread::spawn(move || {
        let mut packet = [0; 512];
        while let Ok((len, from)) = socket.recv_from(&mut packet) {
            let _ = socket.send_to(&reply(&packet[..len]), from);
        }
    });
}

/// The header with `rcode` and this number of answers, and the question of `query`.
fn header_and_question(query: &[u8], rcode: u8, answers: u8) -> Vec<u8> {
    let name_len = query[QUESTION_AT..].iter().position(|byte| *byte == 0).unwrap() + 1;
    let mut reply = query[..QUESTION_AT + name_len + 4].to_vec();
    reply[2..12].copy_from_slice(&[0x81, 0x80 | rcode, 0, 1, 0, answers, 0, 0, 0, 0]);
    reply
}

/// A resolver with one address for every name, and a TTL of one second.
fn resolver(address: Address) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let at = socket.local_addr().unwrap();
    serve(socket, move |query| {
        let is_a = header_and_question(query, NO_ERROR, 0).ends_with(&[0, 1, 0, 1]);
        let mut reply = header_and_question(query, NO_ERROR, is_a.into());
        if is_a {
            let last = address.load(Ordering::Relaxed);
            reply.extend([0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 127, 0, 0, last]);
        }
        reply
    });
    at
}

/// Upstreams at 127.0.0.1 and 127.0.0.2 with one port, each answering with its own response code.
fn upstreams() -> u16 {
    let first = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = first.local_addr().unwrap().port();
    let second = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, 2), port)).unwrap();
    serve(first, |query| header_and_question(query, NO_ERROR, 0));
    serve(second, |query| header_and_question(query, NX_DOMAIN, 0));
    port
}

/// Returns the response code of the reply of `server`.
fn ask(server: SocketAddr) -> u8 {
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(TIMEOUT)).unwrap();
    let query =
        b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01n\x04test\x00\x00\x01\x00\x01";
    client.send_to(query, server).unwrap();
    let mut reply = [0; 512];
    let len = client.recv(&mut reply).unwrap();
    assert!(len >= query.len());
    reply[3] & 15
}

#[test]
fn a_name_with_another_address_is_followed_without_a_reload() {
    let address = Address::new(AtomicU8::new(1));
    let (resolver, port) = (resolver(Arc::clone(&address)), upstreams());
    let path = directory("names").join("Corefile");
    let text = format!(
        ".:0 {{\n bind 127.0.0.1\n forward . up.test:{port} {{\n resolver {resolver}\n }}\n}}\n"
    );
    std::fs::write(&path, text).unwrap();
    let (mut program, server): (Program, _) =
        onward(&["--conf", path.to_str().unwrap(), "--workers", "1"]);
    assert_eq!(ask(server), NO_ERROR);
    std::fs::write(&path, "half of a Core").unwrap();
    address.store(2, Ordering::Relaxed);
    let new = IpAddr::from([127, 0, 0, 2]);
    let mut line = program.wait_for("plugin/");
    assert!(line.contains(&format!("addresses of 'up.test' are now {new}")), "{line}");
    assert_eq!(ask(server), NX_DOMAIN, "the new address is asked and the old one no more");
    address.store(1, Ordering::Relaxed);
    line = program.wait_for("plugin/");
    assert!(line.contains("addresses of 'up.test' are now 127.0.0.1"), "{line}");
    assert_eq!(ask(server), NO_ERROR);
    assert_eq!(program.end("TERM"), Some(0));
}
