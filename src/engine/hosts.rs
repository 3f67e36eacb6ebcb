//! Names and addresses of hosts files: one packed table, immutable, shared by all workers.
//!
//! A [`Table`] is one allocation of bytes with two indexes. The bytes are records, one for each
//! name, with its addresses, in the order of a keyed hash (`records`), so a lookup reads two places
//! and allocates nothing. The second index (`index`) maps addresses to the records that have them.
//!
//! [`Builder`] (in `build`) reads the text. Its caller opens the files.

mod build;
mod index;
mod lines;
mod records;
#[cfg(test)]
mod tests;

pub(crate) use build::TooLarge;
pub use build::{Builder, Skipped};

use ahash::RandomState;
use index::Index;
use records::Records;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The label that matches any one label.
const STAR: &[u8] = b"\x01*";
/// Tag byte of a record: the kind of its data, with a flag.
mod tag {
    /// An IPv4 address.
    pub(super) const V4: u8 = 0;
    /// An IPv6 address.
    pub(super) const V6: u8 = 1;
    /// A list: two counts of 16 bits, IPv4 addresses, IPv6 addresses.
    pub(super) const LIST: u8 = 2;
    /// Mask of the kind.
    pub(super) const KIND: u8 = 3;
    /// Reverse lookups of the address do not find the name.
    pub(super) const ONE_WAY: u8 = 4;
}

/// Names with their addresses, and addresses with their names.
pub struct Table {
    hasher: RandomState,
    names: Records,
    addresses: Index,
    has_wildcards: bool,
    entries: usize,
}

/// A name whose record is being prefetched.
#[derive(Clone, Copy, Debug)]
pub struct Ahead(u32);

/// The addresses of a name, in the order of the text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Addresses<'a> {
    /// IPv4 addresses.
    pub(crate) v4: &'a [[u8; 4]],
    /// IPv6 addresses.
    pub(crate) v6: &'a [[u8; 16]],
}

impl Addresses<'_> {
    /// Returns true if `address` is one of them.
    fn contain(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(ip) => self.v4.contains(&ip.octets()),
            IpAddr::V6(ip) => self.v6.contains(&ip.octets()),
        }
    }
}

impl Table {
    /// Number of names and reverse names with an address each, counted as in the reference.
    pub fn entries(&self) -> usize {
        self.entries
    }

    /// Returns the memory in bytes.
    pub fn reserved(&self) -> usize {
        self.names.reserved() + self.addresses.reserved()
    }

    /// Begins to prefetch the record of `name`, which is in lower-cased wire format. Returns the
    /// argument of [`Table::prefetch_record`], which the caller calls when other work is done.
    pub fn prefetch(&self, name: &[u8]) -> Ahead {
        let hash = hash_of(&self.hasher, name);
        self.names.prefetch_word(hash);
        Ahead(hash)
    }

    /// Continues a prefetch.
    pub fn prefetch_record(&self, Ahead(hash): Ahead) {
        self.names.prefetch_bucket(hash);
    }

    /// Returns the addresses of `name`, which is in lower-cased wire format.
    pub fn find(&self, name: &[u8]) -> Option<Addresses<'_>> {
        let record = self.names.find(hash_of(&self.hasher, name), name)?;
        Some(record.addresses())
    }

    /// Returns the addresses of the wildcard that replaces the first label of `name`, with the
    /// offset of the parent in `name`.
    pub(crate) fn find_wildcard(&self, name: &[u8]) -> Option<(usize, Addresses<'_>)> {
        let parent = 1 + usize::from(*name.first()?);
        if !self.has_wildcards || parent + 1 >= name.len() {
            return None;
        }
        let above = &name[parent..];
        let mut buffer = [0; super::message::NAME_LEN_MAX];
        let star = buffer.get_mut(..STAR.len() + above.len())?;
        star[..STAR.len()].copy_from_slice(STAR);
        star[STAR.len()..].copy_from_slice(above);
        Some((parent, self.find(star)?))
    }

    /// Returns the names that have `address`, each in wire format, in the order of the text.
    pub(crate) fn names_of(&self, address: IpAddr) -> impl Iterator<Item = &[u8]> {
        let places = self.addresses.at(hash_of_address(&self.hasher, address));
        let records = places.map(|place| self.names.at(place));
        let having = records.filter(move |record| record.addresses().contain(address));
        having.map(|record| record.name)
    }
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Table({} entries, {} bytes)", self.entries, self.reserved())
    }
}

/// Returns the address of a reverse name in lower-cased wire format (RFC 1035 §3.5, RFC 3596 §2.5).
pub(crate) fn reverse_address(name: &[u8]) -> Option<IpAddr> {
    const V4: &[u8] = b"\x07in-addr\x04arpa\0";
    const V6: &[u8] = b"\x03ip6\x04arpa\0";
    let mut rest = name;
    let mut label = || {
        let (length, behind) = rest.split_first()?;
        let (label, behind) = behind.split_at_checked(usize::from(*length))?;
        rest = behind;
        Some(label)
    };
    if name.ends_with(V4) {
        let mut octets = [0; 4];
        for octet in octets.iter_mut().rev() {
            let digits = label().filter(|digits| matches!(digits, [_] | [b'1'..=b'9', _, ..]))?;
            let digits = std::str::from_utf8(digits).ok()?;
            *octet =
                digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse())?.ok()?;
        }
        return (rest == V4).then(|| Ipv4Addr::from(octets).into());
    }
    let mut bits = 0_u128;
    for place in 0..32 {
        let [digit] = label()? else { return None };
        bits |= u128::from(char::from(*digit).to_digit(16)?) << (4 * place);
    }
    (rest == V6).then(|| IpAddr::from(Ipv6Addr::from(bits)).to_canonical())
}

/// Hash of a name.
fn hash_of(hasher: &RandomState, name: &[u8]) -> u32 {
    (hasher.hash_one(name) >> 32) as u32
}

/// Hash of an address.
fn hash_of_address(hasher: &RandomState, address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(ip) => hash_of(hasher, &ip.octets()),
        IpAddr::V6(ip) => hash_of(hasher, &ip.octets()),
    }
}
