//! Building of a table: reads lines, collects records, sorts and joins them.
//!
//! Each name of each line becomes a record in the part for the first bits of its hash. At the end
//! each part is sorted by hash, copied to the table and freed, so the work needs little memory in
//! addition to the table's. Records of one name are joined into one, with a list of distinct
//! addresses. Invalid text is skipped and counted, and the first mistake is kept.

use super::index::{Index, hash_of, place_of, slot};
use super::lines::{Line, Lines, address, append_name, words};
use super::records::{Record, Writer, append};
use super::{STAR, Table, hash_of_address, tag};
use crate::config::HostsLine;
use crate::engine::message::u32_at;
use crate::sys::memory::release;
use ahash::RandomState;
use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;

/// Maximum length of all records: the table stays addressable with 32 bits, lists included.
const BYTES_MAX: usize = 1 << 30;
/// Approximate length of a part: it fits into a processor's cache while it is sorted.
const PART_LEN: usize = 2 << 20;
/// Maximum number of parts.
const PARTS_MAX: usize = 64;
/// Maximum number of addresses of a name, and of names of an address: more fit into no message.
const LIST_MAX: usize = 4_400;
/// Usual minimum of a line's length, for an estimate of the number of lines.
const LINE_MIN: usize = 16;
/// Number of addresses whose names are counted while lines are read: block lists have one or two.
const RECENT: usize = 4;
/// Maximum number of a name's addresses that are compared one by one; more use a set.
const COMPARED_MAX: usize = 32;
/// Maximum number of bytes of a word that are shown.
const SHOWN_MAX: usize = 40;

/// The table would exceed its maximum size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge;

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "more than {} MiB of names", BYTES_MAX >> 20)
    }
}

/// Text that was skipped because it is invalid.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Number of lines, and of single names of lines that are otherwise kept.
    pub count: u64,
    /// Number of the first such line.
    pub line: u64,
    /// Mistake in the first such line.
    pub reason: String,
}

/// A table that is being built.
pub struct Builder {
    hasher: RandomState,
    /// Addresses can be looked up for their names.
    reverse: bool,
    lines: Lines,
    line: u64,
    skipped: Skipped,
    records: Records,
}

/// Records in the order of the text.
struct Records {
    parts: Vec<Part>,
    /// Length of all parts.
    len: usize,
    /// Number of records in all parts.
    count: u32,
    /// Buffer for a name.
    name: Vec<u8>,
    has_wildcards: bool,
    recent: [(Option<IpAddr>, usize); RECENT],
    /// Index of the next entry of `recent` to replace.
    oldest: usize,
}

/// Records whose hashes begin with the same bits. A record with reverse lookup is followed by its
/// number in the order of the text.
struct Part {
    bytes: Vec<u8>,
    /// Hash and place of each record.
    slots: Vec<u64>,
}

impl Builder {
    /// Begins an empty table. `reverse`: names of addresses can be looked up. `text_len`:
    /// approximate length of the text. `hasher` is keyed.
    pub fn new(hasher: RandomState, reverse: bool, text_len: usize) -> Self {
        let text_len = text_len.min(BYTES_MAX);
        let parts = (text_len / PART_LEN).next_power_of_two().min(PARTS_MAX);
        // Hashes are spread almost evenly.
        let len = text_len / parts + text_len / parts / 16;
        let part =
            || Part { bytes: Vec::with_capacity(len), slots: Vec::with_capacity(len / LINE_MIN) };
        let records = Records {
            parts: std::iter::repeat_with(part).take(parts).collect(),
            len: 0,
            count: 0,
            name: Vec::new(),
            has_wildcards: false,
            recent: [(None, 0); RECENT],
            oldest: 0,
        };
        let (lines, skipped) = (Lines::default(), Skipped::default());
        Self { hasher, reverse, lines, line: 0, skipped, records }
    }

    /// Reads the next piece of the text.
    ///
    /// # Errors
    /// [`TooLarge`]: the table is full.
    pub fn read(&mut self, piece: &[u8]) -> Result<(), TooLarge> {
        let Self { hasher, reverse, lines, line, skipped, records } = self;
        lines.read(piece, |text| {
            *line += 1;
            records.read_line(hasher, *reverse, &text, *line, skipped);
        });
        if records.len > BYTES_MAX { Err(TooLarge) } else { Ok(()) }
    }

    /// Ends the text. Returns the skipped parts.
    pub fn end(&mut self) -> Skipped {
        let Self { hasher, reverse, lines, line, skipped, records } = self;
        lines.end(|text| records.read_line(hasher, *reverse, &text, *line + 1, skipped));
        std::mem::take(&mut self.skipped)
    }

    /// Adds a line of the configuration.
    pub fn add(&mut self, line: &HostsLine) {
        for name in &line.names {
            self.records.add(&self.hasher, self.reverse, name.as_wire(), line.address);
        }
    }

    /// Returns the table.
    pub fn finish(self) -> Table {
        let Self { hasher, reverse, records, .. } = self;
        let Records { mut parts, len, has_wildcards, .. } = records;
        let mut names = 0;
        for part in &mut parts {
            part.slots.sort_unstable();
            names += part.slots.chunk_by(is_same_hash).count();
        }
        let mut joined = Joined {
            hasher: &hasher,
            reverse,
            writer: Writer::new(names, len),
            back: Vec::new(),
            entries: 0,
        };
        for Part { bytes, slots } in parts {
            for same in slots.chunk_by(is_same_hash) {
                joined.join(&bytes, same);
            }
            release(bytes);
            release(slots);
        }
        let Joined { writer, back, entries, .. } = joined;
        let (names, addresses) = (writer.finish(), Index::new(in_order(back)));
        Table { hasher, names, addresses, has_wildcards, entries }
    }
}

fn is_same_hash(one: &u64, other: &u64) -> bool {
    hash_of(*one) == hash_of(*other)
}

impl Records {
    fn read_line(
        &mut self,
        hasher: &RandomState,
        reverse: bool,
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
        let mut name = std::mem::take(&mut self.name);
        for word in words {
            name.clear();
            if append_name(&mut name, word) {
                self.add(hasher, reverse, &name, address);
            } else {
                skip(&|| format!("'{}' is not a domain name", shown(word)));
            }
        }
        self.name = name;
    }

    /// Adds the record of a name. `reverse`: its address can be looked up.
    fn add(&mut self, hasher: &RandomState, reverse: bool, name: &[u8], address: IpAddr) {
        if self.len > BYTES_MAX {
            return;
        }
        let is_wildcard = name.starts_with(STAR);
        self.has_wildcards |= is_wildcard;
        let one_way = !reverse || is_wildcard || self.has_enough_names(address);
        let flag = if one_way { tag::ONE_WAY } else { 0 };
        let hash = super::hash_of(hasher, name);
        let part = (u64::from(hash) * self.parts.len() as u64) >> 32;
        let Part { bytes, slots } = &mut self.parts[part as usize];
        let place = bytes.len();
        slots.push(slot(hash, place));
        match address {
            IpAddr::V4(ip) => append(bytes, tag::V4 | flag, name, &ip.octets()),
            IpAddr::V6(ip) => append(bytes, tag::V6 | flag, name, &ip.octets()),
        }
        if !one_way {
            bytes.extend(self.count.to_be_bytes());
        }
        self.count += 1;
        self.len += bytes.len() - place;
    }

    /// Returns true if an answer could not hold one more name of `address`. Only frequent addresses
    /// are counted, because counting all would take a second table.
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

/// State of joining.
struct Joined<'a> {
    hasher: &'a RandomState,
    reverse: bool,
    writer: Writer,
    /// Reverse entries: hash of the address, number in the order of the text, place of the name.
    back: Vec<[u32; 3]>,
    entries: usize,
}

impl Joined<'_> {
    /// Joins the records of each name among those at `slots`, whose hashes are equal.
    fn join(&mut self, bytes: &[u8], slots: &[u64]) {
        let mut names: Vec<Addresses<'_>> = Vec::new();
        let entries = slots.iter().map(|slot| Entry::read(&bytes[place_of(*slot)..]));
        let hash = hash_of(slots[0]);
        if let [_] = slots {
            entries.for_each(|entry| self.write(hash, entry.name, &[entry]));
            return;
        }
        for entry in entries {
            let known = names.iter().position(|name| name.listed[0].name == entry.name);
            match known {
                Some(number) => names[number].insert(entry),
                None => names.push(Addresses { listed: vec![entry], set: HashSet::new() }),
            }
        }
        for Addresses { listed, .. } in &names {
            self.write(hash, listed[0].name, listed);
        }
    }

    /// Writes the record of `name` with these addresses.
    fn write(&mut self, hash: u32, name: &[u8], listed: &[Entry<'_>]) {
        let place = self.writer.begin(hash);
        let is_listed_back = self.reverse && !name.starts_with(STAR);
        self.entries += listed.len() * if is_listed_back { 2 } else { 1 };
        for Entry { address, number, .. } in listed {
            if let Some(number) = number {
                let hash = hash_of_address(self.hasher, *address);
                self.back.push([hash, *number, place as u32]);
            }
        }
        let bytes = &mut self.writer.bytes;
        match listed {
            [Entry { address: IpAddr::V4(ip), .. }] => append(bytes, tag::V4, name, &ip.octets()),
            [Entry { address: IpAddr::V6(ip), .. }] => append(bytes, tag::V6, name, &ip.octets()),
            _ => append_list(bytes, name, listed),
        }
    }
}

/// Appends a record of several addresses.
fn append_list(bytes: &mut Vec<u8>, name: &[u8], listed: &[Entry<'_>]) {
    let addresses = listed.iter().map(|entry| entry.address);
    let v4 = addresses.clone().filter(IpAddr::is_ipv4).take(LIST_MAX);
    let v6 = addresses.filter(IpAddr::is_ipv6).take(LIST_MAX);
    append(bytes, tag::LIST, name, &(v4.clone().count() as u16).to_be_bytes());
    bytes.extend((v6.clone().count() as u16).to_be_bytes());
    for address in v4.chain(v6) {
        match address {
            IpAddr::V4(ip) => bytes.extend(ip.octets()),
            IpAddr::V6(ip) => bytes.extend(ip.octets()),
        }
    }
}

/// A record of a part.
#[derive(Clone, Copy)]
struct Entry<'a> {
    name: &'a [u8],
    address: IpAddr,
    /// Number in the order of the text, if its address can be looked up.
    number: Option<u32>,
}

impl<'a> Entry<'a> {
    /// Reads the first record of `bytes`.
    fn read(bytes: &'a [u8]) -> Self {
        let (record, behind) = Record::split(bytes);
        let address = match record.addresses() {
            super::Addresses { v4: [ip, ..], .. } => IpAddr::from(*ip),
            super::Addresses { v6: [ip, ..], .. } => IpAddr::from(*ip),
            _ => unreachable!("each record of a part has an address"),
        };
        let number = if record.tag & tag::ONE_WAY == 0 { u32_at(behind, 0) } else { None };
        Self { name: record.name, address, number }
    }
}

/// Addresses of one name, each once, in the order of the text.
struct Addresses<'a> {
    /// Not empty.
    listed: Vec<Entry<'a>>,
    /// The addresses, if there are many.
    set: HashSet<IpAddr>,
}

impl<'a> Addresses<'a> {
    /// Adds an address, unless it is present.
    fn insert(&mut self, entry: Entry<'a>) {
        let is_new = if self.listed.len() < COMPARED_MAX {
            self.listed.iter().all(|known| known.address != entry.address)
        } else {
            if self.set.is_empty() {
                self.set.extend(self.listed.iter().map(|known| known.address));
            }
            self.set.insert(entry.address)
        };
        if is_new {
            self.listed.push(entry);
        }
    }
}

/// Sorts slots by hash and by the order of the text, and keeps the first [`LIST_MAX`] of equal
/// hashes, which mostly belong to one address.
fn in_order(mut back: Vec<[u32; 3]>) -> Vec<u64> {
    back.sort_unstable();
    let runs = back.chunk_by(|one, other| one[0] == other[0]);
    let kept = runs.flat_map(|run| &run[..run.len().min(LIST_MAX)]);
    kept.map(|[hash, _, place]| slot(*hash, *place as usize)).collect()
}

/// Returns the beginning of a word in printable form.
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
