//! Errors and warnings of building a zone, and a zone against a naive twin.
//!
//! The twin is a sorted map from labels to data. Answers are tested with the engine.

use super::{Builder, Built, Zone, below};
use ahash::RandomState;
use proptest::prelude::{ProptestConfig, prop_assert, prop_assert_eq, proptest};
use std::collections::{BTreeMap, BTreeSet};

const SOA: &[u8] = b"\x01n\0\x01h\0\0\0\0\x07\0\0\0\x01\0\0\0\x02\0\0\0\x03\0\0\0\x04";
const A: u16 = 1;
const NS: u16 = 2;
const CNAME: u16 = 5;
const TXT: u16 = 16;
const DNAME: u16 = 39;

fn wire(text: &str) -> Vec<u8> {
    let labels = text.split('.').filter(|label| !label.is_empty());
    let bytes = labels.flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat());
    bytes.chain([0]).collect()
}

/// Builds a zone `z` of a SOA, a name server and these records.
fn build(records: &[(&str, u16, u32, &[u8])]) -> Result<Built, String> {
    let mut builder = Builder::new(&wire("z"), 0, RandomState::with_seeds(1, 2, 3, 4));
    builder.add(&wire("z"), 6, 60, SOA, (0, 1))?;
    builder.add(&wire("z"), NS, 60, &wire("n.far"), (0, 2))?;
    for ((owner, rtype, ttl, data), line) in records.iter().zip(3..) {
        builder.add(&wire(owner), *rtype, *ttl, data, (0, line))?;
    }
    builder.finish().map_err(|refused| match refused.place {
        Some((_, line)) => format!("{line}: {}", refused.what),
        None => refused.what,
    })
}

#[test]
fn invalid_zones_are_refused() {
    let (b, c) = (&wire("b")[..], &wire("c")[..]);
    let (one, other): (&[u8], &[u8]) = (b"\x7f\0\0\x01", b"\x7f\0\0\x02");
    type Records<'a> = &'a [(&'a str, u16, u32, &'a [u8])];
    let cases: [(Records<'_>, &str); 8] = [
        (&[("a.z", CNAME, 1, b), ("a.z", A, 1, one)], "4: a.z. has a CNAME and other records"),
        (&[("z", CNAME, 1, b)], "2: z. has a CNAME and other records"),
        (&[("a.z", CNAME, 1, b), ("a.z", CNAME, 1, c)], "4: a.z. has two records where one can be"),
        (&[("a.z", DNAME, 1, b), ("a.z", DNAME, 1, c)], "4: a.z. has two records where one can be"),
        (&[("z", 6, 1, &[SOA, b"x"].concat())], "3: z. has two records where one can be"),
        (&[("a.z", 6, 1, SOA)], "a SOA record belongs to the zone's own name"),
        (&[("y", 6, 1, SOA)], "SOA of y., but the zone is z."),
        (&[("*.z", NS, 1, b)], "name servers of a wildcard (RFC 4592 §4.2)"),
    ];
    for (records, error) in cases {
        assert_eq!(build(records).err().as_deref(), Some(error));
    }
    let mut empty = Builder::new(&wire("z"), 0, RandomState::with_seeds(1, 2, 3, 4));
    empty.add(&wire("a.z"), A, 1, other, (0, 1)).unwrap();
    assert_eq!(empty.finish().err().unwrap().what, "no SOA record for origin z.");
}

#[test]
fn an_rrset_that_fits_into_no_message_is_refused() {
    let addresses = |count: u16| {
        let data: Vec<_> = (0..count).map(u16::to_be_bytes).collect();
        let data: Vec<_> = data.iter().map(|low| [&[10, 0], &low[..]].concat()).collect();
        let records: Vec<_> = data.iter().map(|data| ("a.z", A, 1, &data[..])).collect();
        build(&records).map(|built| built.zone.records())
    };
    assert_eq!(addresses(4_078), Ok(4_080));
    assert_eq!(addresses(4_079), Err("4081: the A records of a.z. fit into no message".into()));
}

#[test]
fn suspicious_records_are_warned_of() {
    let one: &[u8] = b"\x7f\0\0\x01";
    let other: &[u8] = b"\x7f\0\0\x02";
    let built = build(&[
        ("y", A, 1, one),
        ("ttl.z", A, 9, one),
        ("ttl.z", A, 7, other),
        ("ttl.z", A, 8, one),
        ("d.z", DNAME, 1, &wire("e")),
        ("x.d.z", A, 1, one),
        ("*.w.z", DNAME, 1, &wire("e")),
    ])
    .unwrap();
    assert_eq!(built.zone.records(), 7);
    assert_eq!(
        built.warnings,
        [
            "y. is not in the zone z.: skipped",
            "*.w.z.: a DNAME of a wildcard is not followed",
            "x.d.z. is below a DNAME and cannot be asked for",
            "TTLs of ttl.z. A differ: 7 is served",
        ]
    );
    let many: Vec<_> = (0..40).map(|_| ("y", A, 1, one)).collect();
    let warnings = build(&many).unwrap().warnings;
    assert_eq!((warnings.len(), warnings[5].as_str()), (6, "35 more warnings"));
}

#[test]
fn the_part_before_the_apex_begins_with_a_label() {
    assert_eq!(below(&wire("a.z"), &wire("z")), Some(&b"\x01a"[..]));
    assert_eq!(below(&wire("z"), &wire("z")), Some(&b""[..]));
    assert_eq!(below(&wire("az"), &wire("z")), None);
    assert_eq!(below(b"\x03a\x01z\0", &wire("z")), None, "these bytes are within a label");
    assert_eq!(below(&wire("a"), &wire("a.z")), None);
    assert_eq!(below(&wire("a"), &wire("")), Some(&b"\x01a"[..]));
}

#[test]
fn equal_records_in_any_order_are_the_same_zone() {
    let records: [(&str, u16, u32, &[u8]); 2] =
        [("a.z", A, 1, b"\x7f\0\0\x01"), ("b.z", TXT, 1, b"\0")];
    let one = build(&records).unwrap().zone;
    let [first, second] = records;
    let other = build(&[second, first]).unwrap().zone;
    assert!(one.is_same(&other));
    let changed = build(&[("a.z", A, 2, b"\x7f\0\0\x01"), second]).unwrap().zone;
    assert!(!one.is_same(&changed), "another TTL");
}

/// All names of a zone, those without records included, in the order of the arena.
fn names(zone: &Zone) -> Vec<Vec<u8>> {
    let mut names = Vec::new();
    let mut place = 0;
    while place < zone.arena.len() {
        let node = zone.node_at(place);
        names.push(node.name().to_vec());
        let sets: usize = node.sets().map(|set| super::SET_HEAD + set.records.len()).sum();
        place += super::NODE_HEAD + node.name().len() + sets;
    }
    names
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn a_zone_has_the_names_of_its_records_and_empty_non_terminals(
        labels in proptest::collection::vec(
            proptest::collection::vec(proptest::collection::vec(0_u8..4, 1..3), 0..5),
            0..30,
        ),
    ) {
        let mut builder = Builder::new(&wire("z"), 0, RandomState::with_seeds(1, 2, 3, 4));
        builder.add(&wire("z"), 6, 60, SOA, (0, 1)).unwrap();
        let mut twin: BTreeMap<Vec<Vec<u8>>, BTreeSet<u8>> = BTreeMap::new();
        twin.insert(Vec::new(), BTreeSet::new());
        for (number, name) in labels.iter().enumerate() {
            let mut owner = Vec::new();
            for label in name {
                owner.push(label.len() as u8);
                owner.extend(label);
            }
            owner.extend(wire("z"));
            builder.add(&owner, TXT, 60, &[1, number as u8], (0, 1)).unwrap();
            let reversed: Vec<Vec<u8>> = name.iter().rev().cloned().collect();
            for len in 0..reversed.len() {
                twin.entry(reversed[..len].to_vec()).or_default();
            }
            twin.entry(reversed).or_default().insert(number as u8);
        }
        let zone = builder.finish().unwrap().zone;
        let inner = |reversed: &Vec<Vec<u8>>| -> Vec<u8> {
            let labels = reversed.iter().rev();
            labels.flat_map(|label| [&[label.len() as u8], &label[..]].concat()).collect()
        };
        // Vectors of labels from the apex down have canonical order.
        let expected: Vec<Vec<u8>> = twin.keys().map(inner).collect();
        prop_assert_eq!(names(&zone), expected);
        for (name, numbers) in &twin {
            let node = zone.node_of(&inner(name)).unwrap();
            let data = node.set(TXT).into_iter().flat_map(|set| set.data());
            let found: BTreeSet<u8> = data.map(|data| data[1]).collect();
            prop_assert_eq!(&found, numbers);
        }
        prop_assert!(zone.find(b"\x02zz").is_none());
    }
}
