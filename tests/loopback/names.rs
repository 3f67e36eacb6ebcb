//! Upstreams written as host names, over real sockets.
//!
//! The resolver is a script on a socket of the test that records its queries. The lookup is the
//! program's own.

use crate::{TIMEOUT, assert_all_answered, drive, responder};
use onward::config::{Config, Host};
use onward::log::Log;
use onward::resolve;
use onward::server::Server;
use onward::traffic::answer::Behaviour;
use std::net::{SocketAddr, UdpSocket};
use std::thread::JoinHandle;
use std::time::Duration;

/// QNAME in wire format and QTYPE.
type Asked = (Vec<u8>, [u8; 2]);

const A: [u8; 2] = [0, 1];
const AAAA: [u8; 2] = [0, 28];

/// Returns the end of a query's question, and its type.
fn question(query: &[u8]) -> (usize, [u8; 2]) {
    let name_len = query[12..].iter().position(|byte| *byte == 0).unwrap() + 1;
    let end = 12 + name_len + 4;
    (end, [query[end - 4], query[end - 3]])
}

/// Answers two queries: 127.0.0.1 with a TTL of 77 s for A, nothing for AAAA. Returns their names
/// and types.
fn resolver() -> (SocketAddr, JoinHandle<Vec<Asked>>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(TIMEOUT)).unwrap();
    let address = socket.local_addr().unwrap();
    let answering = std::thread::spawn(move || {
        let mut asked = Vec::new();
        for _ in 0..2 {
            let mut packet = [0; 512];
            let (len, from) = socket.recv_from(&mut packet).unwrap();
            let (end, rtype) = question(&packet[..len]);
            asked.push((packet[12..end - 4].to_vec(), rtype));
            let mut answer = packet[..end].to_vec();
            answer[2] |= 0x80;
            if rtype == A {
                answer[7] = 1;
                answer.extend([0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 77, 0, 4, 127, 0, 0, 1]);
            }
            socket.send_to(&answer, from).unwrap();
        }
        asked
    });
    (address, answering)
}

#[test]
fn queries_go_to_the_addresses_that_the_resolver_knows() {
    let (resolver, asked) = resolver();
    let upstream = responder(&[Behaviour::Answer]);
    let text = format!(
        ".:0 {{\n bind 127.0.0.1\n forward . up.test:{} {{\n resolver {resolver}\n}}\n}}\n",
        upstream.addresses()[0].port()
    );
    let host = Host { lookup: Box::new(resolve::addresses), ..Host::plain() };
    let (config, warnings) = Config::load(text.as_bytes(), "Corefile", &host).unwrap();
    assert!(warnings.is_empty());
    let name = b"\x02up\x04test\0".to_vec();
    assert_eq!(asked.join().unwrap(), [(name.clone(), A), (name, AAAA)]);
    let forward = &config.blocks[0].forwards[0];
    assert_eq!(forward.host_names[0].ttl, Duration::from_secs(77));
    assert_eq!(forward.upstreams[0].address, upstream.addresses()[0]);
    let server = Server::start(config, &[None], Log::text(|line| eprintln!("{line}"))).unwrap();
    assert_all_answered(&drive(server.addresses()[0], 4, 100), 100);
    server.stop();
}
