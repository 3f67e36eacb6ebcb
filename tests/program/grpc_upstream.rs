//! The gRPC library of Python as an upstream of `grpc`, with and without TLS.
//!
//! Skipped, with a message, where it is not installed (Debian: python3-grpcio, knot-dnsutils).

use super::dot::{Site, kdig, run};
use super::process::{Program, free_port};
use super::until::until;
use crate::installed::is_installed;
use std::net::TcpStream;
use std::process::Command;

/// Answers every query for an address with 10.7.0.1. Arguments: the port without TLS, the port
/// with it, certificate and key.
const SERVER: &str = "
import grpc, struct, sys, threading
from concurrent import futures
plain, secure, certificate, key = sys.argv[1:]
def varint(data, at):
    number = shift = 0
    while True:
        byte = data[at]
        number |= (byte & 0x7f) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return number, at
def answer(packet, context):
    assert packet[0] == 10
    length, at = varint(packet, 1)
    query = packet[at:]
    assert len(query) == length
    end = 12
    while query[end]:
        end += query[end] + 1
    question = query[12:end + 5]
    head = query[:2] + bytes([0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0])
    record = b'\\xc0\\x0c' + struct.pack('>HHIH', 1, 1, 60, 4) + bytes([10, 7, 0, 1])
    message = head + question + record
    assert len(message) < 128
    return bytes([10, len(message)]) + message
handler = grpc.method_handlers_generic_handler(
    'coredns.dns.DnsService', {'Query': grpc.unary_unary_rpc_method_handler(answer)})
server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
server.add_generic_rpc_handlers((handler,))
read = lambda path: open(path, 'rb').read()
server.add_insecure_port('127.0.0.1:' + plain)
server.add_secure_port('127.0.0.1:' + secure,
    grpc.ssl_server_credentials([(read(key), read(certificate))]))
server.start()
threading.Event().wait()
";

#[test]
fn we_ask_the_library_of_grpc() {
    let python = "/usr/bin/python3";
    if !run(python, &["-c", "import grpc; print('here')"]).contains("here") || !is_installed("kdig")
    {
        eprintln!("SKIPPED: python3-grpcio is not installed");
        return;
    }
    let site = Site::new("grpc_upstream");
    let ports = [free_port(), free_port()];
    let [plain, secure] = ports.map(|port| port.to_string());
    let files = [site.path("cert.pem"), site.path("key.pem")];
    let _server = Program::start_silent(
        Command::new(python).args(["-c", SERVER, &plain, &secure]).args(files),
    );
    for (port, options) in [(ports[0], ""), (ports[1], "tls ca.pem\n tls_servername dns.test\n")] {
        until("the server listens", || TcpStream::connect(("127.0.0.1", port)).ok());
        let body = format!("errors\n grpc . 127.0.0.1:{port} {{\n {options} }}");
        let (_onward, server) = site.onward("", &body);
        for _ in 0..5 {
            let answer = kdig(server, &["+time=5", "n1.onward.test", "A"]);
            assert!(answer.contains("10.7.0.1"), "{options}: {answer}");
        }
    }
}
