//! Checks at primaries on loopback that answer by a script.
//!
//! A script gives the serial of the SOA record, and that of the zone that is transferred: they may
//! differ where several servers share an address.

use super::{Job, Outcome};
use crate::clock::Clock;
use crate::config::{Name, Primary, TransferredSource};
use crate::engine::authority::{Builder, Zone};
use ahash::RandomState;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

const APEX: &[u8] = b"\x01z\0";
const AA: u8 = 4;

/// Answers of a primary.
#[derive(Clone, Copy)]
struct Script {
    /// Flags of the third octet of the header.
    flags: u8,
    /// Serial in the answer to a query for the SOA record.
    told: u32,
    /// Serial of the zone that is transferred. `None`: REFUSED.
    sent: Option<u32>,
}

fn hasher() -> RandomState {
    RandomState::with_seeds(1, 2, 3, 4)
}

fn soa(serial: u32) -> Vec<u8> {
    [&[0, 0][..], &serial.to_be_bytes(), &[0; 16]].concat()
}

fn zone(serial: u32) -> Arc<Zone> {
    let mut builder = Builder::new(APEX, 0, hasher());
    builder.add(APEX, 6, 60, &soa(serial), (0, 0)).unwrap();
    builder.add(b"\x01a\x01z\0", 1, 60, &[192, 0, 2, 1], (0, 0)).unwrap();
    Arc::new(builder.finish().unwrap_or_else(|refused| panic!("{}", refused.what)).zone)
}

/// The reply to a query: a SOA record, or a whole zone.
fn reply(script: Script, query: &[u8]) -> Vec<u8> {
    let rtype = query[16];
    let is_transfer = rtype != 6;
    let serial = if is_transfer { script.sent } else { Some(script.told) };
    let mut bytes = vec![query[0], query[1], 0x80 | script.flags, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    bytes.extend(&query[12..19]);
    let Some(serial) = serial else {
        bytes[3] = 5;
        return bytes;
    };
    bytes[7] = if is_transfer { 3 } else { 1 };
    let mut record = |owner: &[u8], rtype: u8, data: &[u8]| {
        bytes.extend(owner);
        bytes.extend([0, rtype, 0, 1, 0, 0, 0, 60, 0, data.len() as u8]);
        bytes.extend(data);
    };
    record(APEX, 6, &soa(serial));
    if is_transfer {
        record(b"\x01a\x01z\0", 1, &[192, 0, 2, 2]);
        record(APEX, 6, &soa(serial));
    }
    bytes
}

/// A primary, whose thread ends with the test.
fn primary(script: Script) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            let mut len = [0; 2];
            socket.read_exact(&mut len).unwrap();
            let mut query = vec![0; u16::from_be_bytes(len).into()];
            socket.read_exact(&mut query).unwrap();
            let reply = reply(script, &query);
            socket.write_all(&(reply.len() as u16).to_be_bytes()).unwrap();
            socket.write_all(&reply).unwrap();
        }
    });
    address
}

/// The outcome of a check, in words, with `held` at hand.
fn check(held: Option<u32>, is_served: bool, scripts: &[Script]) -> String {
    let primaries = scripts.iter().map(|script| {
        let address = primary(*script);
        Primary { address, tls: None, key: None }
    });
    let primaries: Arc<[Primary]> = primaries.collect();
    let clients: Vec<_> = primaries.iter().map(|_| None).collect();
    let zone_name = Name::parse("z").unwrap();
    let source =
        TransferredSource { zone: zone_name, stanza: 0, primaries, directory: None, catalog: None };
    let job = Job {
        source,
        clients: clients.into(),
        current: held.map(zone),
        is_served,
        is_kept: false,
        hasher: hasher(),
        clock: Clock::start(),
    };
    match job.run().outcome {
        Outcome::Fresh(fresh) => format!("fresh {}", fresh.zone.serial()),
        Outcome::Current => "current".into(),
        Outcome::Stuck(error) => format!("stuck: {error}"),
        Outcome::Failed(error, _) => format!("failed: {error}"),
    }
}

fn good(serial: u32) -> Script {
    Script { flags: AA, told: serial, sent: Some(serial) }
}

#[test]
fn the_newest_serial_is_transferred_and_ours_is_confirmed() {
    assert_eq!(check(None, false, &[good(3)]), "fresh 3");
    assert_eq!(check(Some(9), true, &[good(9), good(8)]), "current");
    assert_eq!(check(Some(9), true, &[good(9), good(10)]), "fresh 10");
}

#[test]
fn a_zone_that_arrives_with_an_older_serial_than_the_primary_told_is_refused() {
    let mixed = Script { told: 10, ..good(5) };
    let outcome = check(Some(9), true, &[mixed]);
    assert!(outcome.starts_with("failed: ") && outcome.contains("not newer"), "{outcome}");
}

#[test]
fn an_expired_zone_gives_way_to_any_serial() {
    let older = check(Some(9), true, &[good(1)]);
    assert!(older.contains("serial 1 is older than ours, 9"), "{older}");
    assert_eq!(check(Some(9), false, &[good(1)]), "fresh 1");
    assert_eq!(check(Some(9), false, &[good(9)]), "current");
}

#[test]
fn a_newer_zone_that_cannot_be_had_leaves_the_confirmed_one() {
    let refusing = Script { sent: None, ..good(10) };
    let outcome = check(Some(9), true, &[good(9), refusing]);
    assert!(outcome.starts_with("stuck: ") && outcome.contains("REFUSED"), "{outcome}");
}

#[test]
fn an_answer_without_authority_confirms_nothing() {
    let outcome = check(Some(9), true, &[Script { flags: 0, ..good(9) }]);
    assert!(outcome.contains("not authoritative"), "{outcome}");
}
