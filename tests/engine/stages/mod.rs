//! Effects of a server block's directives on queries and replies, a file for each directive.
//!
//! Meanings, warnings and errors of the
//! directives' texts are in `tests/corefile/stages/`.

mod acl;
mod any;
mod bufsize;
pub(crate) mod cache;
mod cancel;
mod chaos;
mod dns64;
mod dnssec;
mod dnssec_co;
mod erratic;
mod errors;
mod file;
mod header;
mod hosts;
mod loadbalance;
mod local;
mod loops;
mod minimal;
mod nsid;
mod ratelimit;
mod rewrite;
mod rewrite_cname;
mod rewrite_edns0;
mod rewrite_rows;
pub(crate) mod rewrite_zone;
mod secondary;
pub(crate) mod template;
mod template_replies;
mod timeouts;
mod transfer;
mod tsig;
mod view;
mod whoami;

use crate::common::wire::{Ask, Writer, question_of, word_at};
use crate::world::{Got, World, client};
use domain::base::Message;
use onward::engine::Client;
use std::net::SocketAddr;

/// A query without EDNS.
fn ask(name: &str, rtype: u16) -> Ask {
    Ask { rtype, ..Ask::new(7, name) }
}

/// A response with these answer, authority and additional records.
fn response(query: &[u8], rcode: u16, records: [&[(u16, &[u8])]; 3]) -> Vec<u8> {
    let counts = records.map(|records| records.len() as u16);
    let header = [word_at(query, 0), 0x8180 | rcode, 1, counts[0], counts[1], counts[2]];
    let mut writer = Writer::new(header);
    writer.bytes.extend_from_slice(question_of(query));
    for (rtype, data) in records.concat() {
        writer.record(&[0xc0, 12], rtype, 1, 60, data);
    }
    writer.bytes
}

/// Code and data of the options in the reply's OPT, or `None` without an OPT.
fn options(got: &Got) -> Option<Vec<(u16, Vec<u8>)>> {
    let message = Message::from_octets(&got.bytes[..]).expect("a message");
    let opt = message.opt()?;
    let option = |option: Result<domain::base::opt::UnknownOptData<_>, _>| {
        let option = option.expect("an option");
        (option.code().to_int(), Vec::from(option.as_slice()))
    };
    Some(opt.opt().iter().map(option).collect())
}

/// Sends a query from this address and ends the turn.
fn ask_from(world: &mut World, address: &str, ask: &Ask) {
    let peer = SocketAddr::new(address.parse().unwrap(), 4_242);
    world.packet(Client { peer, ..client(1) }, &ask.bytes());
    world.settle();
}

/// Asks over UDP and then over TCP, each time without anything left of the time before. Returns the
/// reply in the notation of `told` for both, or `upstream` where the query was sent on.
fn over_udp_and_tcp(world: &mut World, ask: &Ask, told: impl Fn(&Got) -> String) -> [String; 2] {
    [false, true].map(|is_tcp| over(world, is_tcp, ask, &told))
}

/// The reply over UDP or on a connection, which is over TLS if the world's listener is.
fn over(world: &mut World, is_tcp: bool, ask: &Ask, told: impl Fn(&Got) -> String) -> String {
    let connection = is_tcp.then(|| world.ask_over_tcp(1, ask));
    if connection.is_none() {
        world.ask(1, ask);
    }
    let found = match (world.take_sent().len(), world.take_got().as_slice()) {
        (1, []) => "upstream".to_owned(),
        (0, [got]) => told(got),
        other => panic!("{}: {other:?}", ask.name),
    };
    // The upstream query times out.
    world.pass(6.0);
    world.take_got();
    world.take_sent();
    connection.inspect(|connection| world.engine.clients.close(*connection));
    found
}

/// The Corefile with TLS listeners instead of those for UDP and TCP, at the same ports.
fn over_tls(corefile: &str) -> String {
    let line = |line: &str| {
        let is_head = line.ends_with('{') && !line.starts_with(' ');
        let head = format!("tls://{line}\n tls cert.pem key.pem");
        if is_head { head } else { line.to_owned() }
    };
    corefile.lines().map(|text| line(text) + "\n").collect()
}
