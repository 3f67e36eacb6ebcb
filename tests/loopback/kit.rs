//! Helpers of the tests with misbehaving upstreams: messages, and sockets with timeouts.
//!
//! Queries carry EDNS, so that a reply can carry an extended error. ID and name follow from the
//! query's number, so that any reply can be matched with its query. Independent of the forwarder.

use crate::{TIMEOUT, any_port};
use onward::traffic::answer::{Behaviour, respond};
use std::net::{SocketAddr, UdpSocket};

/// Type of an address query.
pub(crate) const A: u16 = 1;
/// Type for which [`Behaviour::Answer`] has no data.
pub(crate) const TXT: u16 = 16;

/// The query with this number, which determines its name and ID.
pub(crate) fn query(number: u16, rtype: u16) -> Vec<u8> {
    query_for(number, &format!("N{number}.teSt"), rtype)
}

/// A query with EDNS for `name`.
pub(crate) fn query_for(id: u16, name: &str, rtype: u16) -> Vec<u8> {
    let mut query = id.to_be_bytes().to_vec();
    query.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
    for label in name.split('.') {
        query.push(label.len() as u8);
        query.extend(label.as_bytes());
    }
    query.push(0);
    query.extend([rtype.to_be_bytes(), 1_u16.to_be_bytes()].concat());
    query.extend(b"\0\0\x29\x04\xd0\0\0\0\0\0\0");
    query
}

/// Returns the right answer to `query`.
pub(crate) fn answer_to(query: &[u8]) -> Vec<u8> {
    response_to(query, Behaviour::Answer).unwrap()
}

/// Returns the response of an upstream with this behaviour to `query`.
pub(crate) fn response_to(query: &[u8], behaviour: Behaviour) -> Option<Vec<u8>> {
    let mut response = vec![0; 512];
    let len = respond(query, behaviour, &mut response)?;
    response.truncate(len);
    Some(response)
}

/// A client's UDP socket with a receive timeout.
pub(crate) fn client(target: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(any_port()).unwrap();
    socket.connect(target).unwrap();
    socket.set_read_timeout(Some(TIMEOUT)).unwrap();
    socket
}

/// Receives a datagram.
pub(crate) fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut packet = vec![0; 2048];
    let len = socket.recv(&mut packet).unwrap();
    packet.truncate(len);
    packet
}

/// Returns the reply to `query` from a new client.
pub(crate) fn ask(target: SocketAddr, query: &[u8]) -> Vec<u8> {
    let socket = client(target);
    socket.send(query).unwrap();
    let reply = receive(&socket);
    assert_eq!(reply[..2], query[..2], "the id");
    reply
}

/// The response code of `reply` and the extended error in the OPT at its end.
pub(crate) fn outcome(reply: &[u8]) -> (u8, Option<u16>) {
    let tail = &reply[reply.len() - 6..];
    let error = tail.starts_with(&[0, 15, 0, 2]).then(|| u16::from_be_bytes([tail[4], tail[5]]));
    (reply[3] & 15, error)
}

/// A loopback port that refuses datagrams and connections, and the socket that holds it.
pub(crate) fn refusing() -> (SocketAddr, UdpSocket) {
    // Connected to itself, the socket receives nothing from us; the TCP port has no listener.
    let socket = UdpSocket::bind(any_port()).unwrap();
    let address = socket.local_addr().unwrap();
    socket.connect(address).unwrap();
    (address, socket)
}
