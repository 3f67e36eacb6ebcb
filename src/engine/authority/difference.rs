//! Differences between versions of a zone, for incremental transfers (RFC 1995). PURE.
//!
//! A [`Difference`] has the records that one version has and the next one lacks, and the other way
//! round, each with the SOA record of its version in front. Where the TTL of an RRset has changed,
//! all of its records differ. A loader computes it when a version replaces another; a [`Chain`] is
//! the way from the version of a client to the current one.

use super::{Node, Set, Zone};
use crate::engine::message::{rtype, u16_at, u32_at};
use std::collections::HashSet;
use std::sync::Arc;

/// Length of a packed record without its owner and data: length of the owner, type, TTL, length of
/// the data.
const PACKED_HEAD: usize = 9;
/// Size of an RRset from which on its data are hashed to be compared.
const MANY: u16 = 16;

/// The records by which two versions of a zone differ.
#[derive(Debug)]
pub struct Difference {
    from: u32,
    to: u32,
    removed: Box<[u8]>,
    added: Box<[u8]>,
}

/// A record of a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packed<'d> {
    /// The owner without the apex.
    pub(super) name: &'d [u8],
    pub(super) rtype: u16,
    pub(super) ttl: u32,
    pub(super) data: &'d [u8],
}

impl Difference {
    /// Compares two versions of a zone. `None`: the difference takes more than `bytes_max` bytes,
    /// or a version has no SOA record.
    pub fn between(old: &Zone, new: &Zone, bytes_max: usize) -> Option<Self> {
        let mut sides = Sides { removed: Vec::new(), added: Vec::new(), bytes_max };
        for (zone, side) in [(old, &mut sides.removed), (new, &mut sides.added)] {
            let (ttl, data) = zone.soa()?;
            pack(side, b"", (rtype::SOA, ttl), data);
        }
        let (mut left, mut right) = (Nodes::of(old), Nodes::of(new));
        // Both are in canonical order, so that names are looked up only where they differ.
        loop {
            match (left.peek(), right.peek()) {
                (None, None) => break,
                (Some(one), Some(other)) if one.name() == other.name() => {
                    sides.compare(one, other)?;
                    left.pass();
                    right.pass();
                }
                (Some(one), other) if other.is_none() || new.node_of(one.name()).is_none() => {
                    sides.remove(one)?;
                    left.pass();
                }
                (_, Some(other)) => {
                    sides.add(other)?;
                    right.pass();
                }
                (Some(_), None) => return None,
            }
        }
        let Sides { removed, added, .. } = sides;
        let (from, to) = (old.serial(), new.serial());
        Some(Self { from, to, removed: removed.into(), added: added.into() })
    }

    /// Serial of the old version.
    pub fn from(&self) -> u32 {
        self.from
    }

    /// Serial of the new version.
    pub fn to(&self) -> u32 {
        self.to
    }

    /// Returns the memory in bytes.
    pub fn reserved(&self) -> usize {
        self.removed.len() + self.added.len() + size_of::<Self>()
    }

    /// Returns the record at `place` among the removed or added ones, and the place of the next.
    pub(super) fn record(&self, is_added: bool, place: usize) -> Option<(Packed<'_>, usize)> {
        let bytes = if is_added { &self.added } else { &self.removed };
        let name_len = usize::from(*bytes.get(place)?);
        let fixed = place + 1 + name_len;
        let data = fixed + PACKED_HEAD - 1;
        let len = usize::from(u16_at(bytes, fixed + 6)?);
        let packed = Packed {
            name: bytes.get(place + 1..fixed)?,
            rtype: u16_at(bytes, fixed)?,
            ttl: u32_at(bytes, fixed + 2)?,
            data: bytes.get(data..data + len)?,
        };
        Some((packed, data + len))
    }
}

/// Appends a record.
fn pack(out: &mut Vec<u8>, name: &[u8], (rtype, ttl): (u16, u32), data: &[u8]) {
    out.push(name.len() as u8);
    out.extend_from_slice(name);
    out.extend(rtype.to_be_bytes());
    out.extend(ttl.to_be_bytes());
    out.extend((data.len() as u16).to_be_bytes());
    out.extend_from_slice(data);
}

/// The nodes of a zone, in canonical order.
struct Nodes<'z> {
    zone: &'z Zone,
    place: usize,
}

impl<'z> Nodes<'z> {
    fn of(zone: &'z Zone) -> Self {
        Self { zone, place: 0 }
    }

    fn peek(&self) -> Option<Node<'z>> {
        (self.place < self.zone.arena.len()).then(|| self.zone.node_at(self.place))
    }

    fn pass(&mut self) {
        self.place += self.peek().map_or(0, |node| node.len());
    }
}

/// Both sides of a difference that is being computed.
struct Sides {
    removed: Vec<u8>,
    added: Vec<u8>,
    bytes_max: usize,
}

impl Sides {
    /// Takes the records by which two nodes of one name differ. `None`: there is no room.
    fn compare(&mut self, old: Node<'_>, new: Node<'_>) -> Option<()> {
        // The flags, in the first byte, are no data.
        if old.bytes[1..old.len()] == new.bytes[1..new.len()] {
            return Some(());
        }
        for set in old.sets() {
            lacking(&mut self.removed, old.name(), &set, new.set(set.rtype));
        }
        for set in new.sets() {
            lacking(&mut self.added, new.name(), &set, old.set(set.rtype));
        }
        self.check()
    }

    fn remove(&mut self, node: Node<'_>) -> Option<()> {
        node.sets().for_each(|set| lacking(&mut self.removed, node.name(), &set, None));
        self.check()
    }

    fn add(&mut self, node: Node<'_>) -> Option<()> {
        node.sets().for_each(|set| lacking(&mut self.added, node.name(), &set, None));
        self.check()
    }

    fn check(&self) -> Option<()> {
        let len = self.removed.len() + self.added.len() + size_of::<Difference>();
        (len <= self.bytes_max).then_some(())
    }
}

/// Appends the records of `set` that `other` lacks; the SOA record is there already.
fn lacking(out: &mut Vec<u8>, name: &[u8], set: &Set<'_>, other: Option<Set<'_>>) {
    if set.rtype == rtype::SOA {
        return;
    }
    // The TTL of a set of signatures is that of none of them: each has its own in its data.
    let is_alike = |other: &Set<'_>| other.ttl == set.ttl || set.rtype == rtype::RRSIG;
    let other = other.filter(is_alike);
    let many: Option<HashSet<&[u8]>> =
        other.filter(|other| other.count >= MANY).map(|other| other.data().collect());
    for data in set.data() {
        let is_there = match (&many, &other) {
            (Some(many), _) => many.contains(data),
            (None, Some(other)) => other.data().any(|own| own == data),
            (None, None) => false,
        };
        if !is_there {
            pack(out, name, (set.rtype, set.ttl), data);
        }
    }
}

/// The differences of a zone's last versions, the oldest first.
pub type Differences = Arc<[Arc<Difference>]>;

/// Differences from one version of a zone to the current one.
#[derive(Clone, Debug)]
pub struct Chain {
    all: Differences,
    /// Index of the first one.
    first: usize,
}

impl Chain {
    /// The way from the version with this serial to `zone`. `None`: there is none, or the zone
    /// itself takes less.
    pub fn from(all: &Differences, serial: u32, zone: &Zone) -> Option<Self> {
        let first = all.iter().rposition(|difference| difference.from == serial)?;
        let mut at = serial;
        let mut bytes = 0;
        for difference in &all[first..] {
            if difference.from != at {
                return None;
            }
            at = difference.to;
            bytes += difference.reserved();
        }
        let is_worth = at == zone.serial() && bytes <= zone.arena.len();
        is_worth.then(|| Self { all: Arc::clone(all), first })
    }

    /// Returns the difference with this number, the first of which is 0.
    pub(super) fn difference(&self, number: usize) -> Option<&Difference> {
        self.all.get(self.first + number).map(|difference| &**difference)
    }
}

#[cfg(test)]
mod tests {
    use super::{Chain, Difference, Differences};
    use crate::engine::authority::{Builder, Zone};
    use crate::engine::message::rtype;
    use ahash::RandomState;
    use proptest::prelude::{ProptestConfig, prop_assert, prop_assert_eq, proptest};
    use std::collections::BTreeSet;
    use std::sync::Arc;

    type Records = BTreeSet<(Vec<u8>, u16, u32, Vec<u8>)>;

    /// A zone with this serial; each record is a name, a type, a TTL and data.
    fn zone(serial: u32, records: &[(u8, u8, u8, u8)]) -> Zone {
        let mut builder = Builder::new(b"\x01z\0", 0, RandomState::with_seeds(1, 2, 3, 4));
        let soa = [&[0, 0][..], &serial.to_be_bytes(), &[0; 16]].concat();
        builder.add(b"\x01z\0", rtype::SOA, 1, &soa, (0, 0)).unwrap();
        for (name, kind, ttl, data) in records {
            // At the apex, below an empty non-terminal, at a wildcard, and elsewhere.
            let owner: &[u8] = match name % 6 {
                0 => b"\x01z\0",
                1 => b"\x01b\x01a\x01z\0",
                2 => b"\x01a\x01z\0",
                3 => b"\x01*\x01z\0",
                4 => b"\x02\x00\x01\x01z\0",
                _ => b"\x01c\x01z\0",
            };
            let kind = [rtype::A, 16, 47][usize::from(kind % 3)];
            let data = [&[*data; 3][..], &[u8::from(kind == 16)]].concat();
            builder.add(owner, kind, u32::from(ttl % 2), &data, (0, 0)).unwrap();
        }
        builder.finish().unwrap_or_else(|refused| panic!("{}", refused.what)).zone
    }

    fn records(zone: &Zone) -> Records {
        let mut all = Records::new();
        zone.each_record(|owner, rtype, ttl, data| {
            all.insert((owner.to_vec(), rtype, ttl, data.to_vec()))
        });
        all
    }

    /// The removed or added records of a difference.
    fn side(difference: &Difference, is_added: bool) -> Vec<(Vec<u8>, u16, u32, Vec<u8>)> {
        let mut all = Vec::new();
        let mut place = 0;
        while let Some((record, next)) = difference.record(is_added, place) {
            let owner = [record.name, b"\x01z\0"].concat();
            all.push((owner, record.rtype, record.ttl, record.data.to_vec()));
            place = next;
        }
        all
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn a_difference_turns_one_version_into_the_other(
            one: Vec<(u8, u8, u8, u8)>,
            more: Vec<(u8, u8, u8, u8)>,
            kept: u8,
        ) {
            let count = one.len() * usize::from(kept) / 255;
            let other = [&one[count..], &more].concat();
            let (old, new) = (zone(1, &one), zone(2, &other));
            let difference = Difference::between(&old, &new, usize::MAX).unwrap();
            let mut all = records(&old);
            let (removed, added) = (side(&difference, false), side(&difference, true));
            for list in [&removed, &added] {
                prop_assert_eq!(list[0].1, rtype::SOA, "SOA first");
                let soas = list.iter().filter(|record| record.1 == rtype::SOA);
                prop_assert_eq!(soas.count(), 1);
            }
            for record in &removed {
                prop_assert!(all.remove(record), "{:?} was there", record);
            }
            for record in added {
                prop_assert!(!removed.contains(&record), "{:?} stays", record);
                prop_assert!(all.insert(record), "it was not there");
            }
            prop_assert_eq!(all, records(&new));
            let len = difference.reserved();
            prop_assert!(Difference::between(&old, &new, len).is_some());
            prop_assert!(Difference::between(&old, &new, len - 1).is_none());
        }
    }

    #[test]
    fn a_large_set_differs_by_its_changed_records() {
        let many = |begin: u8| (begin..begin + 100).map(|data| (1, 0, 0, data)).collect::<Vec<_>>();
        let (old, new) = (zone(1, &many(0)), zone(2, &many(1)));
        let difference = Difference::between(&old, &new, usize::MAX).unwrap();
        assert_eq!((side(&difference, false).len(), side(&difference, true).len()), (2, 2));
    }

    #[test]
    fn a_chain_has_no_gap_and_takes_no_more_than_the_zone() {
        let all: Vec<_> = (0..60).map(|name| (5, 0, 0, name)).collect();
        let versions: Vec<_> = (1..=5).map(|serial| zone(serial, &all)).collect();
        let between = |one: usize, other: usize| {
            let (old, new) = (&versions[one - 1], &versions[other - 1]);
            Arc::new(Difference::between(old, new, usize::MAX).unwrap())
        };
        let whole: Differences = [between(1, 2), between(2, 4), between(4, 5)].into();
        let count = |all: &Differences, serial| {
            let chain = Chain::from(all, serial, &versions[4])?;
            Some((0..).take_while(|number| chain.difference(*number).is_some()).count())
        };
        assert_eq!([1, 2, 4].map(|serial| count(&whole, serial)), [Some(3), Some(2), Some(1)]);
        assert_eq!([0, 3, 5].map(|serial| count(&whole, serial)), [None; 3]);
        let gap: Differences = [between(1, 2), between(4, 5)].into();
        assert_eq!([1, 4].map(|serial| count(&gap, serial)), [None, Some(1)]);
        let short: Differences = [between(1, 2), between(2, 4)].into();
        assert_eq!(count(&short, 1), None, "it does not reach the zone");
        let large = [zone(4, &[]), zone(5, &all)];
        let difference = Difference::between(&large[0], &large[1], usize::MAX).unwrap();
        assert_eq!(count(&[Arc::new(difference)].into(), 4), None, "the zone is smaller");
    }
}
