//! DNS over HTTP/3 and over QUIC with aioquic, a client in Python that shares no code with us.
//!
//! It is a library on PyPI. Skipped, with a message, where it is not installed.

use super::dot::{Site, responder, run};
use super::https::query;
use crate::installed::python_with;
use onward::traffic::answer::is_right;

/// Asks over HTTP/3 and prints for each response its status, its fields and its body; over QUIC
/// prints the reply.
const CLIENT: &str = r#"
import asyncio, base64, sys
from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import StreamDataReceived

kind, port, ca, query = sys.argv[1], int(sys.argv[2]), sys.argv[3], bytes.fromhex(sys.argv[4])

class Client(QuicConnectionProtocol):
    def __init__(self, *arguments, **more):
        super().__init__(*arguments, **more)
        self.http = H3Connection(self._quic) if kind == "h3" else None
        self.waiting, self.received = {}, {}

    def quic_event_received(self, event):
        if self.http is None:
            if isinstance(event, StreamDataReceived):
                self.take(event.stream_id, event.data, event.end_stream)
            return
        for event in self.http.handle_event(event):
            if isinstance(event, HeadersReceived):
                self.received.setdefault(event.stream_id, [[], b""])[0] += event.headers
            elif isinstance(event, DataReceived):
                self.received[event.stream_id][1] += event.data
            if isinstance(event, (HeadersReceived, DataReceived)) and event.stream_ended:
                self.waiting[event.stream_id].set_result(self.received[event.stream_id])

    def take(self, stream, data, ended):
        self.received[stream] = self.received.get(stream, b"") + data
        if ended:
            self.waiting[stream].set_result(self.received[stream])

    async def request(self, method, path, body=b"", fields=()):
        stream = self._quic.get_next_available_stream_id()
        self.waiting[stream] = asyncio.get_running_loop().create_future()
        usual = [(b":method", method), (b":scheme", b"https"), (b":authority", b"dns.test"),
                 (b":path", path), (b"user-agent", b"aioquic")]
        self.http.send_headers(stream, usual + list(fields), end_stream=not body)
        if body:
            self.http.send_data(stream, body, end_stream=True)
        self.transmit()
        return await asyncio.wait_for(self.waiting[stream], 20)

    async def ask(self, message):
        stream = self._quic.get_next_available_stream_id()
        self.waiting[stream] = asyncio.get_running_loop().create_future()
        self._quic.send_stream_data(stream, len(message).to_bytes(2, "big") + message, True)
        self.transmit()
        return await asyncio.wait_for(self.waiting[stream], 20)

async def main():
    settings = QuicConfiguration(is_client=True, alpn_protocols=[kind], server_name="dns.test")
    settings.load_verify_locations(ca)
    async with connect("127.0.0.1", port, configuration=settings, create_protocol=Client) as client:
        if kind == "doq":
            replies = await asyncio.gather(*(client.ask(query) for _ in range(20)))
            assert len(set(replies)) == 1
            print(replies[0].hex())
            return
        path = b"/dns-query?dns=" + base64.urlsafe_b64encode(query).rstrip(b"=")
        kind_field = (b"content-type", b"application/dns-message")
        responses = [
            await client.request(b"GET", path),
            await client.request(b"POST", b"/dns-query", query, [kind_field]),
            await client.request(b"GET", b"/"),
            await client.request(b"POST", b"/dns-query", query, [(b"content-type", b"text/plain")]),
        ]
        many = await asyncio.gather(*(client.request(b"GET", path) for _ in range(100)))
        assert all(dict(headers)[b":status"] == b"200" for headers, _ in many)
        for headers, body in responses:
            fields = " ".join((name + b"=" + value).decode() for name, value in headers)
            print(fields, body.hex(), sep="|")
        settings = client.http.received_settings
        print("settings", {int(name): value for name, value in settings.items()})

asyncio.run(main())
"#;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(digits: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(digit).collect()
}

#[test]
fn aioquic_asks_over_http_3() {
    let Some(python) = python_with("aioquic") else { return };
    let (site, upstream) = (Site::new("aioquic_h3"), responder());
    let body = format!("tls cert.pem key.pem\n log\n forward . {}", upstream.addresses()[0]);
    let (mut onward, server) = site.onward("https3://", &body);
    let (message, port, ca) = (query("a.test"), server.port().to_string(), site.path("ca.pem"));
    let said = run(&python, &["-c", CLIENT, "h3", &port, &ca, &hex(&message)]);
    let lines: Vec<_> = said.lines().collect();
    let [get, post, root, text, settings] = lines[..] else { panic!("{said}") };
    for line in [get, post] {
        let (fields, body) = line.split_once('|').unwrap();
        let first = ":status=200 content-type=application/dns-message cache-control=max-age=";
        assert!(fields.starts_with(first), "{line}");
        assert!(fields.ends_with(&format!(" content-length={}", body.len() / 2)), "{line}");
        assert!(is_right(&message, &bytes(body)), "{line}");
    }
    assert!(root.starts_with(":status=404 content-type=text/plain; charset=utf-8 "), "{root}");
    assert!(text.starts_with(":status=415 "), "{text}");
    assert_eq!(settings, "settings {6: 8192}");
    let line = onward.wait_for("a.test");
    assert!(line.contains(" https3 "), "{line}");
}

#[test]
fn aioquic_asks_over_quic() {
    let Some(python) = python_with("aioquic") else { return };
    let (site, upstream) = (Site::new("aioquic_doq"), responder());
    let body = format!("tls cert.pem key.pem\n forward . {}", upstream.addresses()[0]);
    let (_onward, server) = site.onward("quic://", &body);
    let (message, port, ca) = (query("a.test"), server.port().to_string(), site.path("ca.pem"));
    let said = run(&python, &["-c", CLIENT, "doq", &port, &ca, &hex(&message)]);
    let reply = bytes(said.trim());
    let (length, reply) = reply.split_first_chunk::<2>().expect("a length");
    assert_eq!(usize::from(u16::from_be_bytes(*length)), reply.len());
    assert!(is_right(&message, reply), "{said}");
}
