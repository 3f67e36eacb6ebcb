//! The table against a naive twin, and its bounds.
//!
//! The twin keeps maps of vectors; texts are random lines with few names and addresses.

use super::build::Builder;
use super::{Addresses, Table, reverse_address};
use crate::config::{HostsLine, Name};
use ahash::RandomState;
use proptest::prelude::{ProptestConfig, Strategy, prop_assert, prop_assert_eq, proptest};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

fn hasher() -> RandomState {
    RandomState::with_seeds(5, 6, 7, 8)
}

fn table(text: &str) -> Table {
    let mut builder = Builder::new(hasher(), true, text.len());
    builder.read(text.as_bytes()).unwrap();
    assert_eq!(builder.end().count, 0, "{text}");
    builder.finish()
}

fn wire(name: &str) -> Vec<u8> {
    Name::parse(name).unwrap().as_wire().to_vec()
}

fn listed(addresses: Addresses<'_>) -> Vec<IpAddr> {
    let v4 = addresses.v4.iter().map(|octets| IpAddr::from(*octets));
    v4.chain(addresses.v6.iter().map(|octets| IpAddr::from(*octets))).collect()
}

/// Few names and addresses, so that they often repeat.
fn line() -> impl Strategy<Value = (IpAddr, Vec<String>)> {
    let address = (0_u8..6).prop_map(|number| match number {
        0..3 => IpAddr::from(Ipv4Addr::new(192, 0, 2, number)),
        _ => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number.into()).into(),
    });
    let name = (0_u8..12).prop_map(|number| match number {
        0 => "*.t".to_owned(),
        1 => ".".to_owned(),
        number => format!("N{number}.t"),
    });
    (address, proptest::collection::vec(name, 0..4))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn the_table_agrees_with_a_naive_twin(lines in proptest::collection::vec(line(), 0..40)) {
        let mut forward: BTreeMap<Vec<u8>, Vec<IpAddr>> = BTreeMap::new();
        let mut back: BTreeMap<IpAddr, Vec<Vec<u8>>> = BTreeMap::new();
        let mut text = String::new();
        for (address, names) in &lines {
            text += &format!("{address} {}\n", names.join(" "));
            for name in names.iter().map(|name| wire(name)) {
                let addresses = forward.entry(name.clone()).or_default();
                if !addresses.contains(address) {
                    addresses.push(*address);
                    if !name.starts_with(b"\x01*") {
                        back.entry(*address).or_default().push(name);
                    }
                }
            }
        }
        let table = table(&text);
        for (name, addresses) in &mut forward {
            addresses.sort_by_key(IpAddr::is_ipv6);
            prop_assert_eq!(&listed(table.find(name).unwrap()), addresses);
        }
        prop_assert!(table.find(&wire("other.t")).is_none());
        for (address, names) in &back {
            prop_assert_eq!(&table.names_of(*address).collect::<Vec<_>>(), names);
        }
        let sum = forward.values().map(Vec::len).sum::<usize>();
        let sum_back = back.values().map(Vec::len).sum::<usize>();
        prop_assert_eq!(table.entries(), sum + sum_back);
        let known: BTreeSet<_> = back.keys().collect();
        let none = IpAddr::from([192, 0, 2, 77]);
        prop_assert!(!known.contains(&none) && table.names_of(none).next().is_none());
        let wildcard = table.find_wildcard(&wire("x.t"));
        let wildcard = wildcard.map(|(parent, found)| (parent, listed(found)));
        prop_assert_eq!(wildcard, forward.get(&wire("*.t")).map(|found| (2, found.clone())));
    }

    #[test]
    fn no_bytes_cause_a_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
        let mut builder = Builder::new(hasher(), true, 0);
        builder.read(&bytes).unwrap();
        builder.end();
        let table = builder.finish();
        let _ = (table.find(&bytes), reverse_address(&bytes));
    }
}

#[test]
fn an_empty_table_finds_nothing() {
    let table = Builder::new(hasher(), true, 0).finish();
    assert!(table.find(b"\0").is_none() && table.find_wildcard(&wire("a.b")).is_none());
    assert_eq!((table.names_of([0; 4].into()).count(), table.entries()), (0, 0));
}

#[test]
fn many_addresses_of_a_name_and_names_of_an_address_are_bounded_and_counted() {
    let many = 6_000_u32;
    let of_one = (0..many).map(|number| format!("{} one.t\n", Ipv4Addr::from(number << 8)));
    let to_one = (0..many).map(|number| format!("255.0.0.1 n{number}.t n{number}.t\n"));
    let between = (0..many)
        .map(|number| format!("{} m{number}.t\n::2 v{number}.t\n", Ipv4Addr::from(number)));
    let text = of_one.chain(to_one).chain(between).collect::<String>();
    let table = table(&text);
    assert_eq!(table.find(&wire("one.t")).unwrap().v4.len(), 4_400);
    let names: Vec<_> = table.names_of([255, 0, 0, 1].into()).collect();
    assert!(names.len() >= 2_200 && names[0] == wire("n0.t"), "{}", names.len());
    assert_eq!(table.names_of("::2".parse().unwrap()).count(), 4_400);
    assert_eq!(table.entries(), 2 * 4 * 6_000);
}

#[test]
fn inline_lines_come_after_the_text() {
    let mut builder = Builder::new(hasher(), false, 0);
    builder.read(b"192.0.2.1 a.t").unwrap();
    builder.end();
    let names = vec![Name::parse("A.t").unwrap(), Name::parse("b.t").unwrap()];
    builder.add(&HostsLine { address: [192, 0, 2, 2].into(), names });
    let table = builder.finish();
    assert_eq!(table.find(&wire("a.t")).unwrap().v4, [[192, 0, 2, 1], [192, 0, 2, 2]]);
    assert_eq!(table.names_of([192, 0, 2, 1].into()).count(), 0, "no_reverse");
    assert_eq!(table.entries(), 3);
}

#[test]
fn reverse_names_are_read_as_addresses() {
    let read = |name: &str| reverse_address(&wire(name)).map(|address| address.to_string());
    assert_eq!(read("1.2.0.192.in-addr.arpa").as_deref(), Some("192.0.2.1"));
    assert_eq!(read("0.0.0.0.in-addr.arpa").as_deref(), Some("0.0.0.0"));
    let v6 = format!("1.{}8.b.d.0.1.0.0.2.ip6.arpa", "0.".repeat(23));
    assert_eq!(read(&v6).as_deref(), Some("2001:db8::1"));
    let mapped = format!("1.0.2.0.0.0.0.c.f.f.f.f.{}ip6.arpa", "0.".repeat(20));
    assert_eq!(read(&mapped).as_deref(), Some("192.0.2.1"));
    for name in [
        ".",
        "a.t",
        "in-addr.arpa",
        "2.0.192.in-addr.arpa",
        "1.1.2.0.192.in-addr.arpa",
        "01.2.0.192.in-addr.arpa",
        "256.2.0.192.in-addr.arpa",
        "x.2.0.192.in-addr.arpa",
        "+1.2.0.192.in-addr.arpa",
        "1.2.0.192.in-addr.arpa.t",
        "ip6.arpa",
        "1.0.ip6.arpa",
    ] {
        assert_eq!(read(name), None, "{name}");
    }
    assert_eq!(read(&format!("1.{v6}")), None);
    assert_eq!(read(&v6.replace('b', "g")), None);
}
