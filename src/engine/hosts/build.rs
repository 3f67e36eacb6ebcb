//! Builds a table: lines in, records out, then sorted and joined.
//!
//! Each name of each line becomes a record and a slot of the index at once, so the work needs no
//! memory beside the table's own. In the end slots are sorted; records of one name are joined into
//! the first, whose addresses become a list without repetitions. What cannot be read is skipped
//! and counted, and the first of it is remembered.

use super::index::{Index, hash_of, place_of, slot};
use super::lines::{Line, Lines, address, append_name, words};
use super::{STAR, Table, addresses_at, hash_of_address, name_at, tag};
use crate::config::HostsLine;
use crate::engine::message::put_u32;
use crate::sys::memory::prefer_huge_pages;
use ahash::RandomState;
use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;

/// Bytes of records at most: the table stays addressable with 32 bits, lists included.
const BYTES_MAX: usize = 1 << 30;
/// Addresses of a name, and names of an address, that can be found: more fit into no message.
const LIST_MAX: usize = 4_400;
/// The shortest line that is usual, for a first guess at their number.
const LINE_MIN: usize = 16;
/// Addresses whose names are counted while lines are read: block lists have one or two.
const RECENT: usize = 4;
/// Addresses of one name that are compared one by one; more are kept in a set.
const COMPARED_MAX: usize = 32;
/// Bytes of a word that are shown.
const SHOWN_MAX: usize = 40;

/// The table would be larger than it can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge;

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "more than {} MiB of names", BYTES_MAX >> 20)
    }
}

/// What of a text was not understood.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Lines, and single names of lines that are otherwise kept.
    pub count: u64,
    /// The number of the first such line.
    pub line: u64,
    /// Why the first one was skipped.
    pub reason: String,
}

/// A table in the making.
pub struct Builder {
    hasher: RandomState,
    /// Addresses lead back to names.
    reverse: bool,
    lines: Lines,
    line: u64,
    skipped: Skipped,
    records: Records,
}

/// The table's parts, as far as they are known.
struct Records {
    bytes: Vec<u8>,
    slots: Vec<u64>,
    has_wildcards: bool,
    recent: [(Option<IpAddr>, usize); RECENT],
    /// Which of `recent` is given up next.
    oldest: usize,
}

impl Builder {
    /// A table without any entry. `reverse`: names of addresses are to be found too. `text_len`:
    /// about how many bytes will be read. `hasher` is keyed.
    pub fn new(hasher: RandomState, reverse: bool, text_len: usize) -> Self {
        let text_len = text_len.min(BYTES_MAX);
        let records = Records {
            bytes: Vec::with_capacity(text_len),
            slots: Vec::with_capacity(text_len / LINE_MIN),
            has_wildcards: false,
            recent: [(None, 0); RECENT],
            oldest: 0,
        };
        let bytes = (records.bytes.as_ptr().addr(), records.bytes.capacity());
        let slots = (records.slots.as_ptr().addr(), records.slots.capacity() * size_of::<u64>());
        [bytes, slots].iter().for_each(|(address, len)| prefer_huge_pages(*address, *len));
        let (lines, skipped) = (Lines::default(), Skipped::default());
        Self { hasher, reverse, lines, line: 0, skipped, records }
    }

    /// The next piece of the text.
    ///
    /// # Errors
    /// [`TooLarge`]: there is no use in going on.
    pub fn read(&mut self, piece: &[u8]) -> Result<(), TooLarge> {
        let Self { hasher, lines, line, skipped, records, .. } = self;
        lines.read(piece, |text| {
            *line += 1;
            records.read_line(hasher, &text, *line, skipped);
        });
        if records.bytes.len() > BYTES_MAX { Err(TooLarge) } else { Ok(()) }
    }

    /// The text has ended. Returns what of it was skipped.
    pub fn end(&mut self) -> Skipped {
        let Self { hasher, lines, line, skipped, records, .. } = self;
        lines.end(|text| records.read_line(hasher, &text, *line + 1, skipped));
        std::mem::take(&mut self.skipped)
    }

    /// A line of the configuration.
    pub fn add(&mut self, line: &HostsLine) {
        for name in &line.names {
            let place = self.records.bytes.len();
            self.records.bytes.extend_from_slice(name.as_wire());
            self.records.complete(&self.hasher, place, line.address);
        }
    }

    /// The table.
    pub fn finish(self) -> Table {
        let Self { hasher, reverse, records, .. } = self;
        let Records { mut bytes, mut slots, has_wildcards, .. } = records;
        slots.sort_unstable();
        let mut joined = Joined { hasher: &hasher, reverse, back: Vec::new(), entries: 0 };
        let mut kept = 0;
        let mut next = 0;
        while next < slots.len() {
            let same =
                slots[next..].iter().take_while(|slot| hash_of(**slot) == hash_of(slots[next]));
            let end = next + same.count();
            if end == next + 1 {
                slots[kept] = slots[next];
                joined.add_only(&bytes, place_of(slots[next]));
                kept += 1;
            } else {
                for head in joined.join(&mut bytes, &slots[next..end]) {
                    slots[kept] = slot(hash_of(slots[next]), head);
                    kept += 1;
                }
            }
            next = end;
        }
        slots.truncate(kept);
        let Joined { mut back, entries, .. } = joined;
        back.sort_unstable();
        cut_runs(&mut back);
        let (names, addresses) = (Index::new(slots), Index::new(back));
        Table { hasher, bytes: bytes.into(), names, addresses, has_wildcards, entries }
    }
}

impl Records {
    fn read_line(
        &mut self,
        hasher: &RandomState,
        line: &Line<'_>,
        number: u64,
        skipped: &mut Skipped,
    ) {
        let mut skip = |reason: &dyn Fn() -> String| {
            skipped.count += 1;
            if skipped.count == 1 {
                (skipped.line, skipped.reason) = (number, reason());
            }
        };
        let Line::Whole(line) = line else {
            let reason = || format!("it is longer than {} bytes", super::lines::LINE_MAX);
            return skip(&reason);
        };
        let mut words = words(line);
        let Some(first) = words.next() else { return };
        let Some(address) = address(first) else {
            return skip(&|| format!("'{}' is not an IP address{}", shown(first), hint(first)));
        };
        for word in words {
            let place = self.bytes.len();
            if append_name(&mut self.bytes, word) {
                self.complete(hasher, place, address);
            } else {
                skip(&|| format!("'{}' is not a domain name", shown(word)));
            }
        }
    }

    /// Completes the record of the name that begins at `place` and ends the bytes.
    fn complete(&mut self, hasher: &RandomState, place: usize, address: IpAddr) {
        if place > BYTES_MAX {
            return;
        }
        let name = &self.bytes[place..];
        let is_wildcard = name.starts_with(STAR);
        self.has_wildcards |= is_wildcard;
        self.slots.push(slot(super::hash_of(hasher, name), place));
        let one_way = is_wildcard || self.has_enough_names(address);
        let flag = if one_way { tag::ONE_WAY } else { 0 };
        match address {
            IpAddr::V4(ip) => {
                self.bytes.push(tag::V4 | flag);
                self.bytes.extend(ip.octets());
            }
            IpAddr::V6(ip) => {
                self.bytes.push(tag::V6 | flag);
                self.bytes.extend(ip.octets());
            }
        }
    }

    /// Returns true if an answer could not hold one more name of `address`. Only of addresses that
    /// come often: to count all would take a table of its own.
    fn has_enough_names(&mut self, address: IpAddr) -> bool {
        if let Some((_, count)) = self.recent.iter_mut().find(|(known, _)| *known == Some(address))
        {
            *count += 1;
            return *count > LIST_MAX;
        }
        self.recent[self.oldest] = (Some(address), 1);
        self.oldest = (self.oldest + 1) % RECENT;
        false
    }
}

/// What is known of records that were joined.
struct Joined<'a> {
    hasher: &'a RandomState,
    reverse: bool,
    /// Slots of the index of addresses.
    back: Vec<u64>,
    entries: usize,
}

impl Joined<'_> {
    /// Counts the record at `place`, the only one of its name.
    fn add_only(&mut self, bytes: &[u8], place: usize) {
        let behind = place + name_at(bytes, place).len();
        let addresses = addresses_at(bytes, behind);
        let v4 = addresses.v4.iter().map(|octets| IpAddr::from(*octets));
        let v6 = addresses.v6.iter().map(|octets| IpAddr::from(*octets));
        v4.chain(v6).for_each(|address| self.add(bytes, place, behind, address));
    }

    /// Counts `address` of the record at `place`, whose name ends before `behind`.
    fn add(&mut self, bytes: &[u8], place: usize, behind: usize, address: IpAddr) {
        self.entries += 1;
        if !self.reverse || bytes[place..].starts_with(STAR) {
            return;
        }
        self.entries += 1;
        if bytes[behind] & tag::ONE_WAY == 0 {
            self.back.push(slot(hash_of_address(self.hasher, address), place));
        }
    }

    /// Joins the records of each name among those at `slots`, whose hashes are equal; returns the
    /// place of each name's record.
    fn join(&mut self, bytes: &mut Vec<u8>, slots: &[u64]) -> Vec<usize> {
        let mut heads: Vec<(usize, Addresses)> = Vec::new();
        for place in slots.iter().map(|slot| place_of(*slot)) {
            let name = name_at(bytes, place);
            let behind = place + name.len();
            let address = addresses_at(bytes, behind);
            let address = match (address.v4, address.v6) {
                ([ip, ..], _) => IpAddr::from(*ip),
                (_, [ip, ..]) => IpAddr::from(*ip),
                _ => continue,
            };
            let known = heads.iter().position(|(head, _)| bytes[*head..].starts_with(name));
            let number = known.unwrap_or_else(|| {
                heads.push((place, Addresses::default()));
                heads.len() - 1
            });
            if heads[number].1.insert(address) {
                self.add(bytes, place, behind, address);
            }
        }
        heads.iter().map(|(head, addresses)| addresses.write(bytes, *head)).collect()
    }
}

/// The addresses of one name, each once, in the order of the text.
#[derive(Default)]
struct Addresses {
    listed: Vec<IpAddr>,
    /// The same, once there are more than a few.
    set: HashSet<IpAddr>,
}

impl Addresses {
    /// Adds `address`; false if it is there.
    fn insert(&mut self, address: IpAddr) -> bool {
        if self.listed.len() < COMPARED_MAX {
            if self.listed.contains(&address) {
                return false;
            }
        } else {
            if self.set.is_empty() {
                self.set.extend(&self.listed);
            }
            if !self.set.insert(address) {
                return false;
            }
        }
        self.listed.push(address);
        true
    }

    /// Writes them into the record at `head`, as a list if they are several; returns `head`.
    fn write(&self, bytes: &mut Vec<u8>, head: usize) -> usize {
        if self.listed.len() > 1 {
            let behind = head + name_at(bytes, head).len();
            let list = bytes.len() as u32;
            bytes[behind] = tag::LIST | bytes[behind] & tag::ONE_WAY;
            put_u32(bytes, behind + 1, list);
            let v4 = self.listed.iter().filter(|address| address.is_ipv4()).take(LIST_MAX);
            let v6 = self.listed.iter().filter(|address| address.is_ipv6()).take(LIST_MAX);
            for count in [v4.clone().count(), v6.clone().count()] {
                bytes.extend((count as u16).to_be_bytes());
            }
            for address in v4.chain(v6) {
                match address {
                    IpAddr::V4(ip) => bytes.extend(ip.octets()),
                    IpAddr::V6(ip) => bytes.extend(ip.octets()),
                }
            }
        }
        head
    }
}

/// Leaves of slots with equal hashes, which are mostly one address's, the first [`LIST_MAX`].
fn cut_runs(slots: &mut Vec<u64>) {
    let mut run = (0, 0);
    slots.retain(|slot| {
        let hash = hash_of(*slot);
        run = if run.0 == hash { (hash, run.1 + 1) } else { (hash, 1) };
        run.1 <= LIST_MAX
    });
    slots.shrink_to_fit();
}

/// The beginning of a word, as a line of text may hold it.
fn shown(word: &[u8]) -> String {
    let end = word.len().min(SHOWN_MAX);
    let more = if end < word.len() { "..." } else { "" };
    format!("{}{more}", word[..end].escape_ascii())
}

/// Returns the probable mistake in a word that should be an address.
fn hint(word: &[u8]) -> &'static str {
    if word.starts_with(b"\xef\xbb\xbf") {
        " (there is a byte-order mark before it: remove it)"
    } else {
        ""
    }
}
