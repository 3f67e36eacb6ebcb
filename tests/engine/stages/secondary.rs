//! NOTIFY for zones that are transferred: only a primary's counts, with its key if it has one.
//!
//! The loader is the test, which takes what the engine notes for it.

use crate::common::wire::{Ask, wire_name};
use crate::world::{World, client, shown};
use onward::config::{Config, Host};
use onward::engine::Client;
use onward::engine::forwarder::Notified;
use std::net::SocketAddr;

const NOTIFY: u16 = 0x2400;
const SOA: u16 = 6;

fn world() -> World {
    let text = ".:53 {\n bind 127.0.0.1\n tsig {\n secret k c2VjcmV0\n }\n \
         secondary z {\n transfer from 198.51.100.1:5353\n directory d\n }\n \
         secondary s {\n transfer from 198.51.100.1 key k\n directory d\n }\n}\n";
    let (config, _) = Config::load(text.as_bytes(), "Corefile", &Host::plain()).unwrap();
    World::new(&config)
}

/// A NOTIFY for `name`, with the SOA record of this serial.
fn notify(name: &str, rtype: u16, serial: u32) -> Vec<u8> {
    let mut bytes = Ask { flags: NOTIFY, rtype, ..Ask::new(7, name) }.bytes();
    bytes[7] = 1;
    bytes.extend(wire_name(name));
    bytes.extend([0, 6, 0, 1, 0, 0, 0, 1, 0, 22, 0, 0]);
    bytes.extend(serial.to_be_bytes());
    bytes.extend([0; 16]);
    bytes
}

/// The reply, and the notification that the loader gets.
fn reply(world: &mut World, from: Client, packet: &[u8]) -> (String, Option<Notified>) {
    world.packet(from, packet);
    let noted = world.engine.next_notified();
    assert!(world.engine.next_notified().is_none());
    let got = world.take_got();
    assert_eq!(got.len(), 1, "{got:?}");
    (shown(&got[0]).lines().next().unwrap_or_default().to_owned(), noted)
}

#[test]
fn a_notification_counts_if_it_is_of_a_primary_and_signed_where_it_must_be() {
    let mut world = world();
    let primary = client(1);
    let other = Client { peer: SocketAddr::from(([198, 51, 100, 2], 5353)), ..primary };
    for (from, name, rtype, is_taken) in [
        (primary, "z", SOA, true),
        (primary, "Z", SOA, true),
        (other, "z", SOA, false),
        (primary, "a.z", SOA, false),
        (primary, "z", 1, false),
        // Its primary has a key, and the notification no signature.
        (primary, "s", SOA, false),
    ] {
        let (shown, noted) = reply(&mut world, from, &notify(name, rtype, 9));
        let expected = if is_taken { "NOERROR aa" } else { "REFUSED" };
        assert!(shown.starts_with(expected), "{name} {rtype}: {shown}");
        let serial = noted.as_ref().and_then(|noted| noted.serial);
        assert_eq!((noted.is_some(), serial), (is_taken, is_taken.then_some(9)), "{name}");
    }
}

#[test]
fn a_zone_that_was_never_transferred_is_servfail_also_for_transfers() {
    let mut world = world();
    world.packet(client(1), &Ask::new(7, "a.z").bytes());
    world.settle();
    let got = world.take_got();
    assert!(shown(&got[0]).starts_with("SERVFAIL"), "{}", shown(&got[0]));
}

#[test]
fn notifications_that_the_loader_cannot_take_yet_are_kept_and_further_ones_not_acknowledged() {
    let mut world = world();
    for serial in 0..64 {
        world.packet(client(1), &notify("z", SOA, serial));
        // The loader is busy: the world takes no notification.
        world.settle();
        assert!(shown(&world.take_got()[0]).starts_with("NOERROR aa"), "{serial}");
    }
    world.packet(client(1), &notify("z", SOA, 64));
    assert!(shown(&world.take_got()[0]).starts_with("SERVFAIL"));
    // One that waits already is acknowledged once more.
    world.packet(client(1), &notify("z", SOA, 7));
    assert!(shown(&world.take_got()[0]).starts_with("NOERROR aa"));
    let waiting = std::iter::from_fn(|| world.engine.next_notified());
    let serials: Vec<_> = waiting.map(|notified| notified.serial).collect();
    assert_eq!(serials, (0..64).map(Some).collect::<Vec<_>>());
}
