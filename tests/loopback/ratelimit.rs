//! `ratelimit` over real sockets, with two workers.
//!
//! A client floods, from one address with many ports; clients of other prefixes ask beside it.

use crate::kit::{A, query};
use crate::{TIMEOUT, start, sum};
use onward::engine::stats::DropReason;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};

/// Queries of the flood between two queries of other clients.
const WAVE: usize = 20;
/// Clients beside the flood, each in a /24 of its own.
const HONEST: usize = 250;
/// Queries of each of them.
const EACH: usize = 2;

/// A socket at this address of the loopback network.
fn socket(address: [u8; 4], target: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(SocketAddr::from((address, 0))).unwrap();
    socket.connect(target).unwrap();
    socket
}

/// The replies that have come: answers, and truncated ones.
fn read(socket: &UdpSocket, counts: &mut [usize; 2]) {
    let mut packet = [0; 1_232];
    while socket.recv(&mut packet).is_ok() {
        counts[usize::from(packet[2] & 2 != 0)] += 1;
    }
}

#[test]
fn a_flood_is_limited_and_clients_of_other_prefixes_are_answered() {
    let server = start("127.0.0.1:0", "whoami\n ratelimit {\n qps 20\n burst 40\n}", 2);
    let target = server.addresses()[0];
    let flood: Vec<_> = (0..16).map(|_| socket([127, 0, 0, 2], target)).collect();
    flood.iter().for_each(|socket| socket.set_nonblocking(true).unwrap());
    let mut counts = [0; 2];
    let mut answered = 0;
    for number in 0..HONEST * EACH {
        for wave in 0..WAVE {
            let socket = &flood[wave % flood.len()];
            socket.send(&query((number * WAVE + wave) as u16, A)).unwrap();
            read(socket, &mut counts);
        }
        let client = socket([127, 1, (number / EACH) as u8, 9], target);
        client.set_read_timeout(Some(TIMEOUT)).unwrap();
        client.send(&query(number as u16, A)).unwrap();
        let mut reply = [0; 1_232];
        let len = client.recv(&mut reply).unwrap_or(0);
        answered += usize::from(len > 12 && reply[2] & 2 == 0);
    }
    assert!(answered * 100 >= HONEST * EACH * 99, "{answered} of {}", HONEST * EACH);
    // A client behind the flooded address asks again over TCP.
    let mut stream = TcpStream::connect(target).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let asked = query(7, A);
    stream.write_all(&[&(asked.len() as u16).to_be_bytes(), &asked[..]].concat()).unwrap();
    let mut head = [0; 6];
    stream.read_exact(&mut head).unwrap();
    assert_eq!((head[3], head[4] & 2), (7, 0), "an answer");
    drop(stream);
    let stats = sum(&server.stats());
    server.stop();
    flood.iter().for_each(|socket| read(socket, &mut counts));
    let sent = (HONEST * EACH * WAVE) as u64;
    let [dropped, truncated, _] = stats.limits[0].limited[0];
    assert_eq!(dropped, stats.dropped(DropReason::RateLimited));
    // What the kernel lost never reached a worker.
    let passed = stats.queries - dropped - truncated - 1;
    assert!(passed < sent / 4, "{passed} of {sent} passed");
    assert!(truncated.abs_diff(dropped) <= 2, "one in two, for each worker: {dropped} {truncated}");
    assert!(counts[1] as u64 <= truncated && counts[1] > 0, "{counts:?}");
}
