//! Zone transfers to clients that read slowly, not at all, or vanish, and through changes.
//!
//! Clients have a small receive buffer and zones are larger than what the kernel holds for a
//! connection, so that a transfer is in progress until its client has read.

use crate::http::get;
use crate::kit::{A, ask, query_for};
use crate::tcp::{framed, read_message};
use crate::until::until;
use crate::zones::ZoneFile;
use crate::{TIMEOUT, config, start};
use onward::config::Endpoint;
use onward::server::Server;
use socket2::{Domain, SockRef, Socket, Type};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

const AXFR: u16 = 252;
/// Names of a zone that exceeds the buffers of a connection.
const MANY: usize = 15_000;
/// Records of a transfer beside those of the names: SOA, NS, SOA.
const OTHERS: usize = 3;

/// The text of a zone with this number of names, of a kilobyte each.
fn text(names: usize, version: &str) -> String {
    let long = format!("\"{version:x<250}\" ").repeat(4);
    let lines = (0..names).map(|number| format!("n{number} TXT {long}\n"));
    lines.collect::<String>() + &format!("{version} A 192.0.2.1\n")
}

/// A client's end of a transfer.
struct Reading {
    stream: TcpStream,
    /// Records that came.
    records: usize,
    /// Texts of the messages.
    bytes: Vec<u8>,
}

impl Reading {
    /// Asks for the zone from this address.
    fn begin(server: SocketAddr, host: u8) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4_096).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), 0)).into()).unwrap();
        socket.connect(&server.into()).unwrap();
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream.write_all(&framed(&query_for(7, "z", AXFR))).unwrap();
        Self { stream, records: 0, bytes: Vec::new() }
    }

    /// Reads a message; returns its response code.
    fn next(&mut self) -> u8 {
        let message = read_message(&mut self.stream).unwrap();
        self.records += usize::from(u16::from_be_bytes([message[6], message[7]]));
        self.bytes.extend_from_slice(&message);
        message[3] & 15
    }

    /// Reads on until this number of records has come, and nothing behind them.
    fn end(&mut self, records: usize) {
        while self.records < records {
            assert_eq!(self.next(), 0);
        }
        assert_eq!(self.records, records);
        self.stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let error = self.stream.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "the connection stays");
    }

    fn has(&self, text: &str) -> bool {
        self.bytes.windows(text.len()).any(|window| window == text.as_bytes())
    }
}

/// Reads a byte at a time.
struct Bytewise(TcpStream);

impl Read for Bytewise {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let len = room.len().min(1);
        self.0.read(&mut room[..len])
    }
}

/// The number of transfers that ended so, by the metrics.
fn ended(server: &Server, result: &str) -> u64 {
    let pages = server.pages().find(|(_, pages)| pages.contains(&Endpoint::Metrics));
    let text = get(pages.unwrap().0, "/metrics").1;
    let start = format!(
        "onward_zone_transfers_total{{zone=\"z.\",direction=\"out\",result=\"{result}\"}} "
    );
    let count = text.lines().find_map(|line| line.strip_prefix(&start));
    count.map_or(0, |count| count.parse().unwrap())
}

fn body(file: &ZoneFile) -> String {
    file.body("reload 20ms") + "transfer {\n to *\n }\n prometheus 127.0.0.1:0\n"
}

#[test]
fn a_client_that_reads_byte_by_byte_gets_the_whole_zone() {
    let file = ZoneFile::new("bytewise", &text(300, "only"));
    let server = start("127.0.0.1:0", &body(&file), 1);
    let reading = Reading::begin(server.addresses()[0], 1);
    let mut stream = Bytewise(reading.stream);
    let mut records = 0;
    while records < 301 + OTHERS {
        let message = read_message(&mut stream).unwrap();
        records += usize::from(u16::from_be_bytes([message[6], message[7]]));
    }
    assert_eq!(records, 301 + OTHERS);
    until("it is counted", || (ended(&server, "done") == 1).then_some(()));
    server.stop();
}

#[test]
fn clients_that_read_nothing_hold_their_places_until_they_vanish() {
    let file = ZoneFile::new("places", &text(MANY, "only"));
    let server = start("127.0.0.1:0", &body(&file), 1);
    let address = server.addresses()[0];
    // Each has the first message: its transfer has a place.
    let begin = |host: u8| {
        let mut reading = Reading::begin(address, host);
        (reading.next(), reading)
    };
    let mut stalled = Vec::new();
    for host in [1, 1, 1, 1, 2, 2, 2, 2] {
        let (code, reading) = begin(host);
        assert_eq!(code, 0);
        stalled.push(reading);
        if stalled.len() == 4 {
            assert_eq!(begin(1).0, 5, "four are one client's share");
        }
    }
    assert_eq!(begin(3).0, 5, "eight are running");
    assert_eq!(ended(&server, "refused"), 2);
    let reply = ask(address, &query_for(9, "only.z", A));
    assert_eq!(reply[3] & 15, 0, "queries are answered meanwhile");
    // A client vanishes with a reset; its place is free.
    let gone = stalled.remove(0);
    SockRef::from(&gone.stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(gone);
    until("the end of it is counted", || (ended(&server, "closed") == 1).then_some(()));
    let (code, mut last) = begin(3);
    assert_eq!((code, ended(&server, "done")), (0, 0), "none of the others has ended");
    last.end(MANY + 1 + OTHERS);
    // One that reads again after all gets the rest.
    stalled[0].end(MANY + 1 + OTHERS);
    until("both are counted", || (ended(&server, "done") == 2).then_some(()));
    drop(stalled);
    server.stop();
}

#[test]
fn a_transfer_sends_the_zone_as_it_was_when_it_began() {
    let file = ZoneFile::new("versions", &text(MANY, "first"));
    let mut server = start("127.0.0.1:0", &body(&file), 1);
    let address = server.addresses()[0];
    let mut readings = [1, 2].map(|host| Reading::begin(address, host));
    readings.iter_mut().for_each(|reading| assert_eq!(reading.next(), 0));
    file.replace(&text(20, "second"));
    until("the new version", || {
        let reply = ask(address, &query_for(9, "second.z", A));
        (reply[3] & 15 == 0).then_some(())
    });
    let mut other = Reading::begin(address, 1);
    other.end(21 + OTHERS);
    assert!(other.has("secondxx") && !other.has("firstxxx"));
    readings[0].end(MANY + 1 + OTHERS);
    assert!(readings[0].has("firstxxx") && !readings[0].has("secondxx"));
    // A configuration without the zone, and without the listener.
    server.reload(config(&address.to_string(), "whoami")).unwrap();
    assert_eq!(Reading::begin(address, 1).next(), 4, "NOTIMP");
    readings[1].next();
    server.reload(config("127.0.0.2:0", "whoami")).unwrap();
    while readings[1].records < MANY + 1 + OTHERS {
        assert_eq!(readings[1].next(), 0);
    }
    assert!(readings[1].has("firstxxx") && !readings[1].has("secondxx"));
    let end = readings[1].stream.read(&mut [0]).unwrap();
    assert_eq!(end, 0, "its listener is gone, so the connection ends behind the transfer");
    server.stop();
}
