//! Queries to a server, many at a time, and its answers as sorted text.
//!
//! A query goes over UDP with EDNS and 1,232 bytes, and again over TCP if the answer is truncated.
//! Letter case and order of records are ignored in comparisons.

use super::zones::Question;
use crate::process::TIMEOUT;
use domain::base::{Message, ParsedName};
use domain::rdata::AllRecordData;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

/// Maximum number of outstanding queries.
const WINDOW: usize = 24;
/// Maximum number of transmissions of a query.
const TRIES: usize = 20;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) rcode: u8,
    pub(super) is_authoritative: bool,
    /// True if TC was set over UDP; the records are those received over TCP.
    pub(super) was_truncated: bool,
    /// The records of each section: owner, TTL, type and data.
    pub(super) sections: [Vec<Record>; 3],
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Record {
    pub(super) owner: String,
    pub(super) rtype: u16,
    pub(super) ttl: u32,
    pub(super) data: String,
}

/// Sends all queries and returns their answers.
pub(super) fn ask_all(server: SocketAddr, questions: &[Question]) -> Vec<Answer> {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut answers: Vec<Option<Answer>> = vec![None; questions.len()];
    let mut packet = [0; 4_096];
    for (chunk, begin) in questions.chunks(WINDOW).zip((0..).step_by(WINDOW)) {
        for _ in 0..TRIES {
            let missing = |number: &usize| answers[begin + number].is_none();
            let missing: Vec<usize> = (0..chunk.len()).filter(missing).collect();
            for number in &missing {
                socket.send(&query(&chunk[*number], *number as u16)).unwrap();
            }
            for _ in &missing {
                let Ok(len) = socket.recv(&mut packet) else { break };
                let number = usize::from(u16::from_be_bytes([packet[0], packet[1]]));
                answers[begin + number] = Some(read(&packet[..len]));
            }
        }
    }
    let answers = answers.into_iter().zip(questions);
    let complete = |(answer, question): (Option<Answer>, &Question)| {
        let answer = answer.unwrap_or_else(|| panic!("{server} does not answer {question:?}"));
        if answer.was_truncated { ask_over_tcp(server, question) } else { answer }
    };
    answers.map(complete).collect()
}

fn ask_over_tcp(server: SocketAddr, question: &Question) -> Answer {
    let query = query(question, 7);
    let mut stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream.write_all(&(query.len() as u16).to_be_bytes()).unwrap();
    stream.write_all(&query).unwrap();
    let mut len = [0; 2];
    stream.read_exact(&mut len).unwrap();
    let mut packet = vec![0; u16::from_be_bytes(len).into()];
    stream.read_exact(&mut packet).unwrap();
    Answer { was_truncated: true, ..read(&packet) }
}

pub(super) fn query(question: &Question, id: u16) -> Vec<u8> {
    let mut query = id.to_be_bytes().to_vec();
    query.extend(b"\0\0\0\x01\0\0\0\0\0\x01");
    for label in question.name.split('.') {
        query.push(label.len() as u8);
        query.extend(label.bytes());
    }
    query.push(0);
    query.extend(question.rtype.to_be_bytes());
    query.extend(b"\0\x01\0\0\x29\x04\xd0\0\0");
    query.extend([u8::from(question.dnssec_ok) << 7, 0, 0, 0]);
    query
}

fn read(packet: &[u8]) -> Answer {
    let message = Message::from_octets(packet).unwrap();
    let (_, answer, authority, additional) = message.sections().unwrap();
    let records = |section: domain::base::RecordSection<'_, &[u8]>| {
        let mut records: Vec<Record> = section
            .map(|record| {
                let record = record.unwrap();
                let rtype = record.rtype().to_int();
                let full = record.to_any_record::<AllRecordData<_, ParsedName<_>>>().unwrap();
                let owner = full.owner().to_string().to_ascii_lowercase();
                let data = full.data().to_string().to_ascii_lowercase();
                Record { owner, rtype, ttl: full.ttl().as_secs(), data }
            })
            .filter(|record| record.rtype != 41)
            .collect();
        records.sort();
        records
    };
    let sections = [records(answer), records(authority), records(additional)];
    Answer {
        rcode: packet[3] & 15,
        is_authoritative: packet[2] & 4 != 0,
        was_truncated: packet[2] & 2 != 0,
        sections,
    }
}
