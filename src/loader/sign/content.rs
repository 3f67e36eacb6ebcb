//! The records of a zone that is signed: RRset by RRset, with NSEC records and the records of keys.
//!
//! DNSSEC records of the zone file are left out: those of the keys take their place. Names below a
//! zone cut or a DNAME are passed on, but have no signatures, and neither they nor empty
//! non-terminals have NSEC records (RFC 4035 §2.2, §2.3). The order is the canonical one of the
//! owners, and the same each time.

use super::keys::{CDNSKEY, CDS, DNSKEY, ZoneKey};
use crate::dnssec::Types;
use crate::engine::authority::{Node, Set, Zone};
use crate::engine::message::{rtype, u32_at};

/// Type ZONEMD (RFC 8976), a digest of the zone before it was signed.
const ZONEMD: u16 = 63;
/// Types of the zone file that are left out.
const DROPPED: [u16; 6] = [rtype::RRSIG, rtype::NSEC, DNSKEY, CDS, CDNSKEY, ZONEMD];
/// Offset of the serial number from the end of a SOA's data.
const SERIAL: usize = 20;

/// The records of a zone with those of its keys.
pub(super) struct Content<'z> {
    zone: &'z Zone,
    soa: Vec<u8>,
    /// TTL of the records of keys.
    ttl: u32,
    /// TTL of NSEC records (RFC 9077 §3).
    nsec_ttl: u32,
    /// DNSKEY, CDS and CDNSKEY records.
    keys: [(u16, Vec<Vec<u8>>); 3],
}

/// An RRset of the signed zone.
pub(super) struct RrSet<'a> {
    /// The owner in wire format, in lower case.
    pub(super) owner: &'a [u8],
    /// The type.
    pub(super) rtype: u16,
    /// The TTL in seconds.
    pub(super) ttl: u32,
    /// The data of each record, in the order of the file.
    pub(super) data: &'a [&'a [u8]],
    /// The zone is authoritative for it.
    pub(super) is_signed: bool,
}

impl<'z> Content<'z> {
    /// The content of `zone` with `keys` and this serial number. `None`: it has no SOA record.
    pub(super) fn new(zone: &'z Zone, keys: &[ZoneKey], serial: u32) -> Option<Self> {
        let (ttl, soa) = zone.soa()?;
        let mut soa = soa.to_vec();
        let place = soa.len().checked_sub(SERIAL)?;
        soa[place..place + 4].copy_from_slice(&serial.to_be_bytes());
        let minimum = u32_at(&soa, soa.len() - 4)?;
        let entry_points = || keys.iter().filter(|key| key.is_entry_point);
        let keys = [
            (DNSKEY, keys.iter().map(|key| key.data.clone()).collect()),
            (CDS, entry_points().map(|key| key.ds.clone()).collect()),
            (CDNSKEY, entry_points().map(|key| key.data.clone()).collect()),
        ];
        Some(Self { zone, soa, ttl, nsec_ttl: ttl.min(minimum), keys })
    }

    /// The zone's name.
    pub(super) fn apex(&self) -> &'z [u8] {
        self.zone.apex()
    }

    /// Calls `take` with each RRset except those of signatures, until it returns an error.
    pub(super) fn each_set<E>(
        &self,
        mut take: impl FnMut(&RrSet<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut walk = Walk { nodes: self.zone.nodes(), above: None };
        let (mut types, mut next_data) = (Types::default(), Vec::new());
        let owner_of = |node: &Node<'_>| [node.name(), self.zone.apex()].concat();
        while let Some((node, standing)) = walk.next() {
            let owner = owner_of(&node);
            types.clear();
            for (rtype, ttl, data) in self.sets_of(&node) {
                let is_signed = standing.signs(rtype);
                if is_signed || rtype == rtype::NS {
                    types.add(rtype);
                }
                take(&RrSet { owner: &owner, rtype, ttl, data: &data, is_signed })?;
            }
            if standing == Standing::Hidden {
                continue;
            }
            let mut ahead = walk.clone();
            let next = ahead.find(|(_, standing)| *standing != Standing::Hidden);
            next_data.clear();
            match next {
                Some((next, _)) => next_data.extend(owner_of(&next)),
                None => next_data.extend(self.zone.apex()),
            }
            types.extend(&[rtype::RRSIG, rtype::NSEC]);
            types.write(&mut next_data);
            let (rtype, ttl, data) = (rtype::NSEC, self.nsec_ttl, &[&*next_data][..]);
            take(&RrSet { owner: &owner, rtype, ttl, data, is_signed: true })?;
        }
        Ok(())
    }

    /// The RRsets of a name, in the order of their types.
    fn sets_of<'a>(&'a self, node: &Node<'a>) -> Vec<(u16, u32, Vec<&'a [u8]>)> {
        let own = node.sets().filter(is_kept);
        let mut sets: Vec<_> =
            own.map(|set| (set.rtype, set.ttl, set.data().collect::<Vec<_>>())).collect();
        if node.name().is_empty() {
            for (rtype, ttl, data) in &mut sets {
                if *rtype == rtype::SOA {
                    (*ttl, *data) = (self.ttl, vec![&*self.soa]);
                }
            }
            let of_keys = self.keys.iter().filter(|(_, all)| !all.is_empty());
            sets.extend(of_keys.map(|(rtype, all)| {
                (*rtype, self.ttl, all.iter().map(|data| &**data).collect::<Vec<_>>())
            }));
            sets.sort_by_key(|(rtype, ..)| *rtype);
        }
        sets
    }
}

fn is_kept(set: &Set<'_>) -> bool {
    !DROPPED.contains(&set.rtype)
}

/// Relation of a zone to one of its names.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Authoritative,
    /// A zone cut.
    Cut,
    /// Below a zone cut or a DNAME.
    Hidden,
}

impl Standing {
    /// Returns true if the zone is authoritative for RRsets of this type.
    fn signs(self, rtype: u16) -> bool {
        match self {
            Self::Authoritative => true,
            Self::Cut => rtype == rtype::DS,
            Self::Hidden => false,
        }
    }
}

/// The names that have records, with their standing.
#[derive(Clone)]
struct Walk<'z, I> {
    nodes: I,
    /// Name of the last zone cut or DNAME.
    above: Option<&'z [u8]>,
}

impl<'z, I: Iterator<Item = Node<'z>>> Iterator for Walk<'z, I> {
    type Item = (Node<'z>, Standing);

    fn next(&mut self) -> Option<Self::Item> {
        let has_records = |node: &Node<'z>| node.sets().any(|set| is_kept(&set));
        let node = self.nodes.by_ref().find(has_records)?;
        if self.above.is_some_and(|above| is_below(node.name(), above)) {
            return Some((node, Standing::Hidden));
        }
        let standing = if node.is_cut() { Standing::Cut } else { Standing::Authoritative };
        if node.is_cut() || node.is_redirected() {
            self.above = Some(node.name());
        }
        Some((node, standing))
    }
}

/// Returns true if `name` is below `above`; both are without the apex.
fn is_below(name: &[u8], above: &[u8]) -> bool {
    let mut place = 0;
    while name.len() - place > above.len() {
        place += 1 + usize::from(name[place]);
        if name.len() < place {
            return false;
        }
    }
    place > 0 && name[place..] == *above
}
