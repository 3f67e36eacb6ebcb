//! One table of questions over all transports: the replies are those over TCP.
//!
//! The rows are those of the engine's tests, where their replies are checked. Here real listeners
//! carry them: what a transport adds around a message must not change it.

use crate::certs::{Authority, load};
use crate::doh3::Doh3;
use crate::doq::Doq;
use crate::http2::{base64, body2, get2, grpc2, preface};
use crate::http3::post;
use crate::tcp::{framed, read_message};
use crate::{TIMEOUT, start_with};
use domain::base::iana::Rtype;
use onward::server::Server;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const ROWS: &str = include_str!("../engine/stages/file.txt");

/// Scheme of the listener, whether it has a certificate, and the client.
const TRANSPORTS: [(&str, bool, Ask); 9] = [
    ("dns", false, over_tcp),
    ("tls", true, over_tls),
    ("https", false, over_http2),
    ("https", true, over_http2_in_tls),
    ("https", false, over_http1),
    ("grpc", false, over_grpc),
    ("quic", true, over_quic),
    ("https3", true, over_http3),
    ("https3", true, over_http3_by_post),
];

/// Returns the reply to a query on a connection of its own.
type Ask = fn(SocketAddr, &Arc<ClientConfig>, &[u8]) -> Vec<u8>;

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream
}

fn connect_tls(
    address: SocketAddr,
    client: &Arc<ClientConfig>,
    alpn: &[u8],
) -> StreamOwned<ClientConnection, TcpStream> {
    let mut client = ClientConfig::clone(client);
    client.alpn_protocols = vec![alpn.to_vec()];
    let name = "dns.test".try_into().unwrap();
    let session = ClientConnection::new(Arc::new(client), name).unwrap();
    StreamOwned::new(session, connect(address))
}

fn over_tcp(address: SocketAddr, _: &Arc<ClientConfig>, query: &[u8]) -> Vec<u8> {
    let mut stream = connect(address);
    stream.write_all(&framed(query)).unwrap();
    read_message(&mut stream).unwrap()
}

fn over_tls(address: SocketAddr, client: &Arc<ClientConfig>, query: &[u8]) -> Vec<u8> {
    let mut stream = connect_tls(address, client, b"dot");
    stream.write_all(&framed(query)).unwrap();
    read_message(&mut stream).unwrap()
}

fn get(stream: &mut (impl Read + Write), query: &[u8]) -> Vec<u8> {
    stream.write_all(&[preface(), get2(1, query)].concat()).unwrap();
    body2(stream).1
}

fn over_http2(address: SocketAddr, _: &Arc<ClientConfig>, query: &[u8]) -> Vec<u8> {
    get(&mut connect(address), query)
}

fn over_http2_in_tls(address: SocketAddr, client: &Arc<ClientConfig>, query: &[u8]) -> Vec<u8> {
    get(&mut connect_tls(address, client, b"h2"), query)
}

fn over_http1(address: SocketAddr, _: &Arc<ClientConfig>, query: &[u8]) -> Vec<u8> {
    let mut stream = connect(address);
    let text = base64(query);
    let request =
        format!("GET /dns-query?dns={text} HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut response = Vec::new();
    stream.read_to_end(&mut response).unwrap();
    let head = response.windows(4).position(|end| end == b"\r\n\r\n").expect("a head");
    response.split_off(head + 4)
}

fn over_grpc(address: SocketAddr, _: &Arc<ClientConfig>, query: &[u8]) -> Vec<u8> {
    let mut stream = connect(address);
    stream.write_all(&[preface(), grpc2(1, query)].concat()).unwrap();
    let (_, mut body) = body2(&mut stream);
    // A frame of gRPC, and in it field 1 of a message of protobuf, whose length has 7 bits a byte.
    assert_eq!((body[0], body[5]), (0, 10));
    let length = body[6..].iter().position(|byte| *byte < 128).expect("a length") + 1;
    body.split_off(6 + length)
}

/// The reply without its padding, which is the last option of its OPT.
fn over_quic(address: SocketAddr, client: &Arc<ClientConfig>, query: &[u8]) -> Vec<u8> {
    let mut client = Doq::dial(address, ClientConfig::clone(client));
    let mut reply = client.ask(query);
    client.0.close();
    let opt = reply.windows(3).rposition(|window| window == b"\0\0\x29");
    let padding = reply.iter().rposition(|byte| *byte != 0);
    let (Some(opt), Some(last), true) = (opt, padding, reply.len().is_multiple_of(468)) else {
        return reply;
    };
    // The length of the padding ends with the last byte that is not 0, or one behind it.
    let is_start = |at: &usize| {
        let len = reply.len() - at - 4;
        reply[*at..*at + 4] == [0, 12, (len >> 8) as u8, len as u8]
    };
    let start = (last.saturating_sub(3)..=last).find(is_start).expect("it is padded");
    reply.truncate(start);
    let length = (start - opt - 11) as u16;
    reply[opt + 9..opt + 11].copy_from_slice(&length.to_be_bytes());
    reply
}

fn over_http3(address: SocketAddr, client: &Arc<ClientConfig>, query: &[u8]) -> Vec<u8> {
    let mut client = Doh3::dial(address, ClientConfig::clone(client));
    let reply = client.ask(query);
    client.quic.close();
    reply
}

fn over_http3_by_post(address: SocketAddr, client: &Arc<ClientConfig>, query: &[u8]) -> Vec<u8> {
    let mut client = Doh3::dial(address, ClientConfig::clone(client));
    let (status, reply) = client.request(&post("/dns-query", query));
    client.quic.close();
    assert_eq!(status, 200);
    reply
}

/// The query of a row in wire format. `None`: it would be sent on.
fn query_of(row: &str) -> Option<Vec<u8>> {
    let (question, expected) = row.split_once(' ')?.1.trim().split_once(" => ")?;
    if expected.starts_with("upstream") || question.contains("{long}") {
        return None;
    }
    let mut words = question.split(' ');
    let name = words.next()?.replace('~', ".example.org");
    let rtype: Rtype = words.next()?.parse().expect("a type");
    let (mut class, mut opcode, mut opt) = (1, 0, vec![]);
    for word in words {
        match word {
            "CH" => class = 3,
            "NOTIFY" => opcode = 4 << 3,
            "+e" => opt = b"\0\0\x29\x04\xd0\0\0\0\0\0\0".to_vec(),
            "+do" => opt = b"\0\0\x29\x04\xd0\0\0\x80\0\0\0".to_vec(),
            other => panic!("{other} is not known here"),
        }
    }
    let mut query = vec![0, 0, 1 | opcode, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(!opt.is_empty())];
    for label in name.split('.').filter(|label| !label.is_empty()) {
        query.push(label.len() as u8);
        query.extend(label.as_bytes());
    }
    query.extend([&[0], &rtype.to_int().to_be_bytes()[..], &[0, class], &opt].concat());
    Some(query)
}

/// A directory that is deleted with its test.
struct Directory(PathBuf);

impl Directory {
    fn new(number: usize) -> Self {
        let name = format!("onward-transports-{}-{number}", std::process::id());
        let directory = Self(std::env::temp_dir().join(name));
        fs::create_dir_all(directory.0.join("zones")).unwrap();
        directory
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The Corefile with listeners of `scheme`, and zone files in `directory`.
fn listening(corefile: &str, scheme: &str, with_tls: bool, directory: &Path) -> String {
    let line = |line: &str| {
        if !line.ends_with('{') || line.starts_with(' ') {
            return line.to_owned();
        }
        let keys = line.split(' ').map(|key| match key.split_once(':') {
            Some((zone, _)) => format!("{scheme}://{zone}:0"),
            None => key.to_owned(),
        });
        let tls = if with_tls { "\n tls /dir/cert.pem /dir/key.pem" } else { "" };
        let root = directory.display();
        keys.collect::<Vec<_>>().join(" ") + &format!("\n root {root}{tls}")
    };
    corefile.lines().map(|text| line(text) + "\n").collect()
}

#[test]
fn every_row_has_the_same_reply_over_every_transport() {
    let authority = Authority::new("good");
    let identity = authority.issue(&["dns.test"]);
    let files = [("cert.pem", &*identity.certificate), ("key.pem", &*identity.key)];
    let client = Arc::new(authority.client());
    let mut count = 0;
    for (number, case) in ROWS.split("\n=== ").skip(1).enumerate() {
        let (title, rest) = case.split_once('\n').unwrap();
        let (head, rows) = rest.split_once("--- rows\n").expect("rows");
        let mut parts = head.split("--- file ");
        let corefile = parts.next().unwrap();
        let directory = Directory::new(number);
        for (name, text) in parts.map(|part| part.split_once('\n').unwrap()) {
            fs::write(directory.0.join(name), text).unwrap();
        }
        let serve = |scheme: &str, with_tls: bool| -> Server {
            let text = listening(corefile, scheme, with_tls, &directory.0);
            start_with(load(&text, &files), 1)
        };
        let plain = serve("dns", false);
        for (scheme, with_tls, ask) in TRANSPORTS {
            let server = serve(scheme, with_tls);
            for query in rows.lines().filter_map(query_of) {
                let expected = over_tcp(plain.addresses()[0], &client, &query);
                let found = ask(server.addresses()[0], &client, &query);
                assert_eq!(found, expected, "{title}, over {scheme}: {query:x?}");
                count += 1;
            }
            server.stop();
        }
        plain.stop();
    }
    assert!(count > 9 * 90, "{count} replies");
}
