//! Caches that outlive their process.
//!
//! The measure is what the upstream is asked: names that are in the cache cost it no query.

use super::process::{Program, Stranger, TIMEOUT, directory, onward_in};
use super::until::until;
use onward::traffic::answer::Behaviour;
use onward::traffic::upstream::{Service, Upstream};
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::ops::Range;
use std::path::Path;

fn upstream() -> Upstream {
    let address = "127.0.0.1:0".parse().unwrap();
    Upstream::of(vec![Service::new(address, Behaviour::default())]).unwrap()
}

fn write_corefile(directory: &Path, port: u16, upstream: &Upstream, cache: &str) {
    let upstream = upstream.addresses()[0];
    let text = format!(".:{port} {{\n bind 127.0.0.1\n cache {cache}\n forward . {upstream}\n}}\n");
    fs::write(directory.join("Corefile"), text).unwrap();
}

/// Asks for these names, one after the other; all get an address.
#[track_caller]
fn ask(server: SocketAddr, names: Range<u32>) {
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(TIMEOUT)).unwrap();
    client.connect(server).unwrap();
    for number in names {
        let id = (number as u16).to_be_bytes();
        let name = format!("n{number:05}");
        let query = [&id, &b"\x01\0\0\x01\0\0\0\0\0\0\x06"[..], name.as_bytes()];
        let query = [&query.concat(), &b"\x04test\0\0\x01\0\x01"[..]].concat();
        client.send(&query).unwrap();
        let mut reply = [0; 512];
        client.recv(&mut reply).unwrap();
        assert_eq!((&reply[..2], reply[3] & 15, reply[7]), (&id[..], 0, 1), "{name}");
    }
}

fn asked(upstream: &Upstream) -> u64 {
    upstream.counts().unwrap()[0].queries
}

/// Waits for the end of an upgrade and of the first process; returns the next one.
fn next(forwarder: &mut Program) -> Stranger {
    let line = forwarder.wait_for("upgrade complete");
    let number = line.split_whitespace().find_map(|word| word.parse().ok());
    let next = Stranger::new(number.unwrap());
    assert_eq!(forwarder.wait(), Some(0));
    next
}

#[test]
fn an_upgrade_keeps_the_caches() {
    let upstream = upstream();
    let directory = directory("warm_upgrade");
    write_corefile(&directory, 0, &upstream, "");
    let (mut forwarder, address) = onward_in(&directory, &["--workers", "2"]);
    write_corefile(&directory, address.port(), &upstream, "");
    ask(address, 0..3_000);
    assert_eq!(asked(&upstream), 3_000);
    forwarder.signal("USR2");
    forwarder.wait_for("caches of the previous process: 3000 answers are taken over");
    // One of both processes answers; the next one has it in the end.
    ask(address, 3_000..3_100);
    let _next = next(&mut forwarder);
    assert_eq!(asked(&upstream), 3_100);
    ask(address, 0..3_000);
    assert_eq!(asked(&upstream), 3_100, "no name that was cached costs a query");
    // The last entries come after the old process has ended.
    let mut names = 3_000..3_100;
    until("an entry of the last moment", || {
        let name = names.next().expect("one of them comes");
        let before = asked(&upstream);
        ask(address, name..name + 1);
        (asked(&upstream) == before).then_some(())
    });
}

#[test]
fn a_changed_server_block_starts_with_an_empty_cache() {
    let upstream = upstream();
    let directory = directory("cold_upgrade");
    write_corefile(&directory, 0, &upstream, "");
    let (mut forwarder, address) = onward_in(&directory, &["--workers", "1"]);
    write_corefile(&directory, address.port(), &upstream, "60");
    ask(address, 0..100);
    forwarder.signal("USR2");
    forwarder.wait_for("those of 1 server blocks are not taken over");
    let _next = next(&mut forwarder);
    ask(address, 0..100);
    assert_eq!(asked(&upstream), 200);
}
