//! A third-party server as upstream over QUIC, and what only the whole process shows.
//!
//! aioquic is a library in Python, on PyPI. Its test is skipped, with a message, where it is not
//! installed; the variable `PYTHON` names another Python than Debian's.

use super::dot::{Site, kdig, responder};
use super::life::{ask_during, assert_nothing_lost};
use super::process::{Program, Stranger, onward};
use crate::installed::{is_installed, python_with};
use crate::until::until;
use onward::traffic::upstream::Upstream;
use std::fs;
use std::net::SocketAddr;
use std::process::Command;

/// A server of DNS over QUIC that answers any query with 10.7.0.1, and prints its port and how many
/// connections have resumed a session.
const SERVER: &str = r#"
import asyncio, struct, sys
from aioquic.asyncio import QuicConnectionProtocol, serve
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import HandshakeCompleted, StreamDataReceived

class Doq(QuicConnectionProtocol):
    received = None

    def quic_event_received(self, event):
        if isinstance(event, HandshakeCompleted):
            print("handshake", event.alpn_protocol, event.session_resumed,
                  event.early_data_accepted, flush=True)
        if isinstance(event, StreamDataReceived):
            self.received = self.received or {}
            whole = self.received.get(event.stream_id, b"") + event.data
            self.received[event.stream_id] = whole
            if event.end_stream:
                length, query = struct.unpack("!H", whole[:2])[0], whole[2:]
                assert length == len(query) and query[:2] == b"\0\0" and len(query) % 128 == 0
                end = query.index(b"\0", 12) + 5
                answer = query[:2] + b"\x81\x80" + struct.pack("!HHHH", 1, 1, 0, 0)
                answer += query[12:end] + b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\x0a\x07\0\x01"
                self._quic.send_stream_data(
                    event.stream_id, struct.pack("!H", len(answer)) + answer, end_stream=True)
                self.transmit()

class Tickets(dict):
    def add(self, ticket):
        self[ticket.ticket] = ticket

async def main():
    configuration = QuicConfiguration(is_client=False, alpn_protocols=["doq"])
    configuration.load_cert_chain(sys.argv[1], sys.argv[2])
    tickets = Tickets()
    server = await serve("127.0.0.1", 0, configuration=configuration, create_protocol=Doq,
        session_ticket_fetcher=lambda label: tickets.pop(label, None),
        session_ticket_handler=tickets.add, retry=sys.argv[3] == "retry")
    print("port", server._transport.get_extra_info("sockname")[1], flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"#;

#[test]
fn we_ask_aioquic() {
    let Some(python) = python_with("aioquic").filter(|_| is_installed("kdig")) else { return };
    for retry in ["retry", "direct"] {
        let site = Site::new(&format!("aioquic_upstream_{retry}"));
        let mut command = Command::new(&python);
        command.args(["-c", SERVER, &site.path("cert.pem"), &site.path("key.pem"), retry]);
        let port = |line: &str| line.strip_prefix("port ")?.parse::<u16>().ok();
        let (mut server, port) = Program::start(&mut command, port);
        let body = format!(
            "errors\n forward . quic://127.0.0.1:{port} {{\n tls ca.pem\n tls_servername \
             dns.test\n expire 200ms\n max_age 200ms jitter 0\n max_connect_attempts 1\n }}"
        );
        let (_onward, address) = site.onward("", &body);
        let ask = |name: &str| {
            let answer = kdig(address, &["+time=5", name, "A"]);
            assert!(answer.contains("10.7.0.1"), "{retry}: {answer}");
        };
        (0..10).for_each(|number| ask(&format!("n{number}.test")));
        server.wait_for("handshake doq False False");
        // The successor of the first connection resumes its session.
        let mut number = 0;
        until("a session is resumed", || {
            number += 1;
            ask(&format!("m{number}.test"));
            server.has_said("handshake doq True False").then_some(())
        });
    }
}

/// Starts onward with the server block `body` of `scheme`; its port stays the same in upgrades.
fn start(site: &Site, scheme: &str, body: &str) -> (Program, SocketAddr) {
    let file = site.path(&format!("Corefile-of-{}", scheme.len()));
    let write = |port: u16| {
        let root = site.path("");
        let text = format!("{scheme}.:{port} {{\n bind 127.0.0.1\n root {root}\n {body}\n}}\n");
        fs::write(&file, text).unwrap();
    };
    write(0);
    let (program, address) = onward(&["--conf", &file, "--workers", "2"]);
    write(address.port());
    (program, address)
}

/// An upstream, a process that asks it, and one that asks this process over QUIC, with its address.
fn chain(test: &str) -> (Upstream, [Program; 2], SocketAddr) {
    let (site, upstream) = (Site::new(test), responder());
    let body = format!("tls cert.pem key.pem\n forward . {}", upstream.addresses()[0]);
    let (far, server) = start(&site, "quic://", &body);
    let body = format!(
        "errors\n forward . quic://{server} {{\n tls ca.pem\n tls_servername dns.test\n }}"
    );
    let (near, address) = start(&site, "", &body);
    (upstream, [far, near], address)
}

/// Upgrades `program` while `address` is asked. No query may be lost.
fn upgrade_during(address: SocketAddr, program: &mut Program) {
    let mut next = None;
    let tally = ask_during(address, || {
        program.signal("USR2");
        let line = program.wait_for("upgrade complete");
        let number = line.split_whitespace().find_map(|word| word.parse().ok());
        next = Some(Stranger::new(number.expect("the process is named")));
        assert_eq!(program.wait(), Some(0));
    });
    assert_nothing_lost(&tally);
}

#[test]
fn an_upgrade_with_upstreams_over_quic_loses_no_query() {
    let (_upstream, [_far, mut near], address) = chain("doq_upstream_upgrade");
    upgrade_during(address, &mut near);
}

#[test]
fn an_upgrade_of_an_upstream_over_quic_loses_no_query() {
    let (_upstream, [mut far, _near], address) = chain("doq_upstream_upgraded");
    upgrade_during(address, &mut far);
}
