//! An upstream with a small zone, `up.test`, with a record of every type that is rewritten.
//!
//! Recursion is available; owners have the query's spelling. Names whose first label begins with
//! `nx` do not exist, with `sf` fail, with `rf` are refused, with `nosoa` are denied without a SOA.
//! Any other name, in any zone, has the address 192.0.2.99 and no other record.

use crate::common::wire::{Writer, question_of, wire_name, word_at};

/// A record: owner, TTL, type and RDATA, all uncompressed.
type Data = (String, u32, u16, Vec<u8>);

fn words(values: &[u16]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_be_bytes()).collect()
}

fn address(owner: &str, ttl: u32, last: u8) -> Data {
    (owner.into(), ttl, 1, vec![192, 0, 2, last])
}

fn address6(owner: &str, ttl: u32, last: u8) -> Data {
    let mut bytes = vec![0x20, 0x01, 0x0d, 0xb8];
    bytes.resize(15, 0);
    bytes.push(last);
    (owner.into(), ttl, 28, bytes)
}

/// A record whose RDATA is `before` followed by a name below `up.test`.
fn named(owner: &str, ttl: u32, rtype: u16, before: &[u8], name: &str) -> Data {
    (owner.into(), ttl, rtype, [before, &wire_name(&format!("{name}.up.test"))].concat())
}

/// Returns the answer and additional records for `name`, whose first label is `label`.
fn records(name: &str, label: &str, rtype: u16) -> (Vec<Data>, Vec<Data>) {
    let strings = b"\x00\x01\x00\x01\x01u\x01x\x00";
    let one = |record| (vec![record], Vec::new());
    match (label, rtype) {
        ("a", 1) => one(address(name, 300, 10)),
        ("both", 1) => one(address(name, 300, 11)),
        ("both", 28) => one(address6(name, 300, 0x11)),
        ("mail", 1) => one(address(name, 300, 25)),
        ("long", 1) => one(address(name, 5, 31)),
        ("mid", 1) => one(address(name, 2000, 32)),
        ("multi", 1) => ([21, 22, 23].map(|last| address(name, 300, last)).into(), Vec::new()),
        ("mx", 15) => {
            let mail = address("mail.up.test", 300, 25);
            (vec![named(name, 300, 15, &words(&[10]), "mail")], vec![mail])
        }
        ("srv", 33) => {
            let target = address("a.up.test", 300, 10);
            (vec![named(name, 300, 33, &words(&[1, 2, 80]), "a")], vec![target])
        }
        ("p", 12) => one(named(name, 300, 12, b"", "a")),
        ("ns", 2) => one(named(name, 300, 2, b"", "a")),
        ("dn", 39) => one(named(name, 300, 39, b"", "a")),
        ("na", 35) => one(named(name, 300, 35, strings, "a")),
        ("h", 65) => {
            let (owner, ttl, rtype, mut data) = named(name, 300, 65, &words(&[1]), "a");
            data.extend(b"\x00\x01\x00\x03\x02h2");
            one((owner, ttl, rtype, data))
        }
        ("s", 6) => {
            let (owner, ttl, rtype, mut data) = named(name, 300, 6, b"", "a");
            data.extend(wire_name("h.up.test"));
            data.extend([1, 2, 3, 4, 5_u32].iter().flat_map(|word| word.to_be_bytes()));
            one((owner, ttl, rtype, data))
        }
        ("t", 16) => one((name.into(), 300, 16, b"\x0aa.up.test.".to_vec())),
        ("c", _) => {
            let alias = named(name, 300, 5, b"", "a");
            let target = (rtype == 1).then(|| address("a.up.test", 200, 10));
            ([Some(alias), target].into_iter().flatten().collect(), Vec::new())
        }
        ("c2", 1) => {
            let chain = [named(name, 300, 5, b"", "c"), named("c.up.test", 250, 5, b"", "a")];
            (chain.into_iter().chain([address("a.up.test", 200, 10)]).collect(), Vec::new())
        }
        ("cdn", _) => one(named(name, 300, 5, b"", "nx")),
        ("cv6", _) => {
            let alias = named(name, 300, 5, b"", "both");
            let (target, _) = records("both.up.test", "both", if rtype == 28 { 28 } else { 0 });
            (std::iter::once(alias).chain(target).collect(), Vec::new())
        }
        ("spec", 1) => one((name.into(), 300, 1, vec![127, 0, 0, 1])),
        ("priv", 1) => one((name.into(), 300, 1, vec![10, 1, 2, 3])),
        ("v6", 28) => one(address6(name, 300, 0x12)),
        ("mapped" | "mixed", 28) => {
            let mut bytes = vec![0; 10];
            bytes.extend([0xff, 0xff, 192, 0, 2, 1]);
            let mapped = (name.into(), 300, 28, bytes);
            let mixed = (label == "mixed").then(|| records(name, "v6", 28).0);
            (std::iter::once(mapped).chain(mixed.into_iter().flatten()).collect(), Vec::new())
        }
        ("nosoa", 1) => one(address(name, 300, 77)),
        _ => Default::default(),
    }
}

fn soa(owner: &str) -> Data {
    let mut data = [wire_name(&format!("ns.{owner}")), wire_name(&format!("h.{owner}"))].concat();
    data.extend([1, 2, 3, 4, 50_u32].iter().flat_map(|word| word.to_be_bytes()));
    (owner.into(), 100, 6, data)
}

/// The QNAME as text without a trailing dot.
pub(crate) fn name_of(question: &[u8]) -> String {
    let mut labels = Vec::new();
    let mut rest = question;
    while rest[0] != 0 {
        let (label, behind) = rest[1..].split_at(rest[0].into());
        labels.push(String::from_utf8_lossy(label).into_owned());
        rest = behind;
    }
    labels.join(".")
}

pub(crate) fn respond(query: &[u8]) -> Vec<u8> {
    let question = question_of(query);
    let name = name_of(question);
    let rtype = word_at(question, question.len() - 4);
    let class = word_at(question, question.len() - 2);
    let folded = name.to_ascii_lowercase();
    let (label, zone) = folded.split_once('.').unwrap_or((&folded, ""));
    let (mut answer, additional) = match zone {
        "up.test" => records(&name, label, rtype),
        "2.0.192.in-addr.arpa" if rtype == 12 => (vec![named(&name, 300, 12, b"", "a")], vec![]),
        _ => Default::default(),
    };
    let rcode = match label.get(..2) {
        Some("nx") => 3,
        Some("sf") => 2,
        Some("rf") => 5,
        _ if label == "cdn" && zone == "up.test" => 3,
        _ => 0,
    };
    let has_none = matches!(label, "v6" | "mx");
    let known = has_none || zone == "up.test" && !records(&name, label, 255).0.is_empty();
    if rcode == 0 && rtype == 1 && answer.is_empty() && !known {
        answer.push(address(&name, 300, 99));
    }
    let only_aliases = answer.iter().all(|record| record.2 == 5 && rtype != 5);
    let authority = match (rtype, only_aliases, rcode) {
        (_, true, 0 | 3) if label != "nosoa" => {
            vec![soa(if folded.ends_with("up.test") { "up.test" } else { &name })]
        }
        (15 | 33, ..) => vec![("up.test".to_owned(), 300, 2, wire_name("ns.up.test"))],
        _ => Vec::new(),
    };
    let flags = 0x8080 | word_at(query, 2) & 0x0110 | rcode;
    let counts = [&answer, &authority, &additional].map(|section| section.len() as u16);
    let [answers, authorities, additionals] = counts;
    let header = [word_at(query, 0), flags, 1, answers, authorities, additionals + 1];
    let mut writer = Writer::new(header);
    writer.bytes.extend_from_slice(question);
    for (owner, ttl, rtype, data) in answer.iter().chain(&authority).chain(&additional) {
        writer.record(&wire_name(owner), *rtype, class, *ttl, data);
    }
    writer.opt(1232, 0, 0, false, &[]);
    writer.bytes
}
