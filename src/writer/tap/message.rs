//! Messages for dnstap receivers: the public `dnstap.proto`, as far as it is used.
//!
//! The structs are written by hand with its field numbers and encoded by `prost`. A record becomes
//! a message here; framing and sockets are in other modules.

use crate::config::Protocol;
use crate::engine::journal::{Event, LoggedQuery, Page, Record};
use crate::engine::key::{Transport, Way};
use crate::moment::Moment;
use prost::Message as _;
use std::net::IpAddr;
use std::time::Duration;

/// The envelope.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Dnstap {
    #[prost(bytes = "vec", optional, tag = "1")]
    pub(super) identity: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "2")]
    pub(super) version: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "3")]
    pub(super) extra: Option<Vec<u8>>,
    #[prost(message, optional, tag = "14")]
    pub(super) message: Option<Message>,
    #[prost(int32, required, tag = "15")]
    pub(super) rtype: i32,
}

/// A DNS message with its addresses and times.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Message {
    #[prost(int32, required, tag = "1")]
    pub(super) rtype: i32,
    #[prost(int32, optional, tag = "2")]
    pub(super) socket_family: Option<i32>,
    #[prost(int32, optional, tag = "3")]
    pub(super) socket_protocol: Option<i32>,
    #[prost(bytes = "vec", optional, tag = "4")]
    pub(super) query_address: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "5")]
    pub(super) response_address: Option<Vec<u8>>,
    #[prost(uint32, optional, tag = "6")]
    pub(super) query_port: Option<u32>,
    #[prost(uint32, optional, tag = "7")]
    pub(super) response_port: Option<u32>,
    #[prost(uint64, optional, tag = "8")]
    pub(super) query_time_sec: Option<u64>,
    #[prost(fixed32, optional, tag = "9")]
    pub(super) query_time_nsec: Option<u32>,
    #[prost(bytes = "vec", optional, tag = "10")]
    pub(super) query_message: Option<Vec<u8>>,
    #[prost(uint64, optional, tag = "12")]
    pub(super) response_time_sec: Option<u64>,
    #[prost(fixed32, optional, tag = "13")]
    pub(super) response_time_nsec: Option<u32>,
    #[prost(bytes = "vec", optional, tag = "14")]
    pub(super) response_message: Option<Vec<u8>>,
}

/// The only kind of envelope: it holds a message.
const MESSAGE: i32 = 1;
const CLIENT_QUERY: i32 = 5;
const CLIENT_RESPONSE: i32 = 6;
const FORWARDER_QUERY: i32 = 7;
const FORWARDER_RESPONSE: i32 = 8;
const INET: i32 = 1;
const INET6: i32 = 2;
const UDP: i32 = 1;
const TCP: i32 = 2;
const DOT: i32 = 3;
const DOH: i32 = 4;
const DOQ: i32 = 7;

/// Appends the envelope of a message, after its length as in a data frame.
pub(super) fn push_frame(
    out: &mut Vec<u8>,
    identity: &[u8],
    version: &[u8],
    extra: Option<String>,
    message: Message,
) {
    let envelope = Dnstap {
        identity: (!identity.is_empty()).then(|| identity.to_vec()),
        version: (!version.is_empty()).then(|| version.to_vec()),
        extra: extra.map(String::into_bytes),
        message: Some(message),
        rtype: MESSAGE,
    };
    // A page holds no more bytes than fit into 32 bits.
    out.extend((envelope.encoded_len() as u32).to_be_bytes());
    out.append(&mut envelope.encode_to_vec());
}

/// Returns the message of `record`; `None` if it is not about a DNS message. `origin`: offset from
/// a moment to the wall-clock time. `full`: includes the DNS message itself.
pub(super) fn of_record(
    record: &Record,
    page: &Page,
    origin: Duration,
    full: bool,
) -> Option<Message> {
    let rtype = match record.event {
        Event::Ended(_) => return None,
        Event::ClientQuery => CLIENT_QUERY,
        Event::ClientResponse => CLIENT_RESPONSE,
        Event::ForwarderQuery => FORWARDER_QUERY,
        Event::ForwarderResponse => FORWARDER_RESPONSE,
    };
    let is_response = matches!(rtype, CLIENT_RESPONSE | FORWARDER_RESPONSE);
    let (peer, upstream) = (record.asking.peer, record.upstream);
    let protocol = upstream.map_or_else(|| of_client(&record.asking), |(_, way, _)| of_way(way));
    let family = upstream.map(|(address, ..)| address).or(peer);
    let time = |moment: Moment| origin + moment.since(Moment::ZERO);
    let asked = time(upstream.map_or(record.asking.since, |(.., began)| began));
    let answered = is_response.then(|| time(record.at));
    let bytes = full.then(|| page.bytes(record.message).to_vec());
    let (query_message, response_message) = if is_response { (None, bytes) } else { (bytes, None) };
    Some(Message {
        rtype,
        socket_family: family.map(|address| if address.is_ipv4() { INET } else { INET6 }),
        socket_protocol: Some(protocol),
        query_address: peer.map(|peer| octets(peer.ip())),
        query_port: peer.map(|peer| peer.port().into()),
        response_address: upstream.map(|(address, ..)| octets(address.ip())),
        response_port: upstream.map(|(address, ..)| address.port().into()),
        query_time_sec: Some(asked.as_secs()),
        query_time_nsec: Some(asked.subsec_nanos()),
        query_message,
        response_time_sec: answered.map(|time| time.as_secs()),
        response_time_nsec: answered.map(|time| time.subsec_nanos()),
        response_message,
    })
}

/// Returns the protocol of a client. There is no number for gRPC.
fn of_client(query: &LoggedQuery) -> i32 {
    match (query.protocol, query.transport) {
        (Protocol::Dns, Transport::Udp) => UDP,
        (Protocol::Tls, _) => DOT,
        (Protocol::Https | Protocol::Https3, _) => DOH,
        (Protocol::Quic, _) => DOQ,
        (Protocol::Dns | Protocol::Grpc, _) => TCP,
    }
}

/// Returns the protocol of an attempt.
fn of_way(way: Way) -> i32 {
    match way {
        Way::Datagram => UDP,
        // There is no number for gRPC.
        Way::Tcp | Way::Grpc | Way::SecureGrpc => TCP,
        Way::Secure => DOT,
        Way::Https => DOH,
        Way::Quic => DOQ,
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
