//! Zones that this server answers for: their data, and the answers from them. PURE.
//!
//! A [`Zone`] is an immutable snapshot in few allocations: the nodes of its tree in canonical order
//! in one array of bytes, each with its RRsets in a form to copy, and a table from the hash of a
//! name to its node. Empty non-terminals are nodes, too (RFC 8020), so a lookup walks from the apex
//! down with one probe for each label. [`Builder`] makes a zone of records; [`table::ZoneTable`]
//! holds those of a server block; `answer` is the algorithm of RFC 1034 §4.3.2 with its later
//! amendments. A loader builds and frees snapshots; workers only read.

pub mod answer;
mod build;
pub mod difference;
mod proof;
mod records;
pub mod table;
pub(crate) mod train;
mod walk;

pub use build::Builder;
pub(crate) use build::{Built, Refused};

use super::message::{rtype, u16_at, u32_at};
use ahash::RandomState;

/// Flags of a node.
mod flag {
    /// A zone cut: name servers below the apex.
    pub(super) const CUT: u8 = 1;
    /// A DNAME: names below it are redirected.
    pub(super) const DNAME: u8 = 2;
    /// An alias.
    pub(super) const CNAME: u8 = 4;
    /// A wildcard child exists.
    pub(super) const WILDCARD: u8 = 8;
}

/// Type DNSKEY (RFC 4034 §2).
const DNSKEY: u16 = 48;
/// Length of a node before its name: flags, number of RRsets, length of the name.
const NODE_HEAD: usize = 4;
/// Length of an RRset before its records: type, TTL, number of records, length of all of them.
const SET_HEAD: usize = 12;

/// A zone.
pub struct Zone {
    /// The apex, in lower case.
    apex: Box<[u8]>,
    arena: Box<[u8]>,
    /// Places of nodes in the arena by hash, plus 1; 0: free. At most two thirds are in use.
    index: Box<[u32]>,
    /// Places of nodes with NSEC records, in canonical order.
    chain: Box<[u32]>,
    hasher: RandomState,
    records: usize,
    serial: u32,
    digest: u64,
}

impl Zone {
    /// The apex in wire format, in lower case.
    pub(crate) fn apex(&self) -> &[u8] {
        &self.apex
    }

    /// The number of records.
    pub fn records(&self) -> usize {
        self.records
    }

    pub(crate) fn serial(&self) -> u32 {
        self.serial
    }

    /// Time at which the last signature over its SOA record expires, in the 32 bits of RFC 4034
    /// §3.1.5. `None`: there is no signature.
    pub(crate) fn expiration(&self) -> Option<u32> {
        let expirations = self.top().signatures(rtype::SOA).filter_map(|data| u32_at(data, 8));
        expirations
            .reduce(|one, other| if one.wrapping_sub(other) as i32 > 0 { one } else { other })
    }

    /// TTL and data of the SOA.
    pub(crate) fn soa(&self) -> Option<(u32, &[u8])> {
        let set = self.top().set(rtype::SOA)?;
        Some((set.ttl, set.data().next()?))
    }

    /// Returns true if both were built from the same records.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        (self.digest, self.serial, self.records, self.arena.len())
            == (other.digest, other.serial, other.records, other.arena.len())
    }

    /// Passes the types at `name`, which is at or below the apex and in lower case, to `add`: at a
    /// zone cut those of the cut itself, and for a name that does not exist those of its wildcard.
    /// Returns false if there is neither the name nor a wildcard for it.
    pub(crate) fn types_at(&self, name: &[u8], add: &mut dyn FnMut(u16)) -> bool {
        let Some(name) = below(name, &self.apex) else { return false };
        let node = self.node_of(name).or_else(|| self.wildcard_for(name));
        let Some(node) = node else { return false };
        let is_cut = node.is(flag::CUT);
        let counts = |set: &Set<'_>| !is_cut || matches!(set.rtype, rtype::NS | rtype::DS);
        node.sets().filter(counts).for_each(|set| add(set.rtype));
        true
    }

    /// Returns the wildcard from which answers for `name`, which does not exist, are made.
    fn wildcard_for(&self, name: &[u8]) -> Option<Node<'_>> {
        let mut rest = name;
        while let Some(len) = rest.first() {
            rest = rest.get(1 + usize::from(*len)..)?;
            if let Some(encloser) = self.node_of(rest) {
                let is_above = encloser.is(flag::WILDCARD);
                let wildcard = [b"\x01*", rest].concat();
                return is_above.then(|| self.find(&wildcard)).flatten();
            }
        }
        None
    }

    /// Returns the memory in bytes.
    pub fn reserved(&self) -> usize {
        self.arena.len() + 4 * (self.index.len() + self.chain.len()) + self.apex.len()
    }

    /// Returns the node of the apex.
    fn top(&self) -> Node<'_> {
        self.node_at(0)
    }

    /// Returns the node of a name at or below the apex. `name` is in lower case, without the apex.
    pub(crate) fn node_of(&self, name: &[u8]) -> Option<Node<'_>> {
        if name.is_empty() { Some(self.top()) } else { self.find(name) }
    }

    /// Returns the node of a name below the apex. `name` is in lower case, without the apex.
    fn find(&self, name: &[u8]) -> Option<Node<'_>> {
        let mask = self.index.len() - 1;
        let mut slot = self.hasher.hash_one(name) as usize & mask;
        loop {
            let place = self.index[slot].checked_sub(1)?;
            let node = self.node_at(place as usize);
            if node.name() == name {
                return Some(node);
            }
            slot = (slot + 1) & mask;
        }
    }

    fn node_at(&self, place: usize) -> Node<'_> {
        Node { bytes: &self.arena[place..], place: place as u32 }
    }
}

impl std::fmt::Debug for Zone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Zone({} records, serial {})", self.records, self.serial)
    }
}

/// A name of a zone, with its records.
#[derive(Clone, Copy)]
pub(crate) struct Node<'z> {
    /// The arena from the node on.
    bytes: &'z [u8],
    place: u32,
}

impl<'z> Node<'z> {
    /// Returns true at a zone cut, below which names are of another zone.
    pub(crate) fn is_cut(&self) -> bool {
        self.is(flag::CUT)
    }

    /// Returns true at a DNAME, below which names are redirected.
    pub(crate) fn is_redirected(&self) -> bool {
        self.is(flag::DNAME)
    }

    fn is(&self, flag: u8) -> bool {
        self.bytes[0] & flag != 0
    }

    /// The name without the apex, in lower case.
    pub(crate) fn name(&self) -> &'z [u8] {
        &self.bytes[NODE_HEAD..NODE_HEAD + usize::from(self.bytes[3])]
    }

    /// Bytes of the node.
    fn len(&self) -> usize {
        let sets: usize = self.sets().map(|set| SET_HEAD + set.records.len()).sum();
        NODE_HEAD + usize::from(self.bytes[3]) + sets
    }

    /// Returns true if the node has no records (an empty non-terminal).
    fn is_empty(&self) -> bool {
        self.bytes[1..3] == [0; 2]
    }

    /// RRsets, in the order of their types.
    pub(crate) fn sets(&self) -> impl Iterator<Item = Set<'z>> + Clone + use<'z> {
        let bytes = self.bytes;
        let mut place = NODE_HEAD + usize::from(bytes[3]);
        (0..u16_at(bytes, 1).unwrap_or(0)).map_while(move |_| {
            let count = u16_at(bytes, place + 6)?;
            let len = u32_at(bytes, place + 8)? as usize;
            let begin = place + SET_HEAD;
            let records = bytes.get(begin..begin + len)?;
            let set = Set {
                rtype: u16_at(bytes, place)?,
                ttl: u32_at(bytes, place + 2)?,
                count,
                records,
            };
            place = begin + len;
            Some(set)
        })
    }

    /// Returns the RRset of this type.
    pub(crate) fn set(&self, rtype: u16) -> Option<Set<'z>> {
        self.sets().find(|set| set.rtype == rtype)
    }

    /// Returns the RRset that answers a query for ANY (RFC 8482 §4.1).
    fn any(&self) -> Option<Set<'z>> {
        let first = [rtype::CNAME, rtype::SOA].into_iter().find_map(|rtype| self.set(rtype));
        let is_data = |set: &Set<'_>| !matches!(set.rtype, rtype::RRSIG | rtype::NSEC);
        first.or_else(|| self.sets().find(is_data)).or_else(|| self.sets().next())
    }

    /// Returns true if the node has only the RRsets of every apex.
    fn is_bare(&self) -> bool {
        let usual = [rtype::SOA, rtype::NS, rtype::RRSIG, rtype::NSEC, DNSKEY];
        self.sets().all(|set| usual.contains(&set.rtype))
    }

    /// Returns the signatures over the node's RRset of a type, in wire format.
    pub(crate) fn signatures(&self, rtype: u16) -> impl Iterator<Item = &'z [u8]> + use<'z> {
        let all = self.set(rtype::RRSIG);
        let data = all.into_iter().flat_map(|set| set.data());
        data.filter(move |data| u16_at(data, 0) == Some(rtype))
    }
}

/// An RRset.
#[derive(Clone, Copy)]
pub(crate) struct Set<'z> {
    /// The type.
    pub(crate) rtype: u16,
    /// The TTL in seconds.
    pub(crate) ttl: u32,
    count: u16,
    /// Length and data of each record.
    records: &'z [u8],
}

impl<'z> Set<'z> {
    /// The data of each record.
    pub(crate) fn data(self) -> impl Iterator<Item = &'z [u8]> + Clone + use<'z> {
        let mut rest = self.records;
        (0..self.count).map_while(move |_| {
            let (len, behind) = rest.split_first_chunk::<2>()?;
            let (data, behind) = behind.split_at_checked(u16::from_be_bytes(*len).into())?;
            rest = behind;
            Some(data)
        })
    }
}

/// Returns the length of the name at the beginning of `bytes`, the root included.
fn name_len(bytes: &[u8]) -> Option<usize> {
    let mut len = 0;
    loop {
        match *bytes.get(len)? {
            0 => return Some(len + 1),
            label => len += 1 + usize::from(label),
        }
    }
}

/// Returns the part of `name` before `apex`, if it is at or below that. Both are in lower case.
fn below<'n>(name: &'n [u8], apex: &[u8]) -> Option<&'n [u8]> {
    let len = name.len().checked_sub(apex.len())?;
    let mut place = 0;
    while place < len {
        place += 1 + usize::from(*name.get(place)?);
    }
    (place == len && name[len..] == *apex).then(|| &name[..len])
}

#[cfg(test)]
mod tests;
