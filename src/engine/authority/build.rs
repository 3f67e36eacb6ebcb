//! Building of a zone from records, which are checked and sorted.
//!
//! Each record is kept with a key that sorts names in canonical order (RFC 4034 §6.1): labels from
//! the apex down, each lower-cased and followed by a zero, with zeros and ones in labels escaped.
//! Invalid records are refused with their place; suspicious ones cause warnings.

use super::{NODE_HEAD, SET_HEAD, Zone, below, flag};
use crate::engine::message::rename::MESSAGE_LEN_MAX;
use crate::engine::message::{HEADER_LEN, NAME_LEN_MAX, put_u16, put_u32, rtype, u32_at};
use crate::sys::memory::release;
use ahash::RandomState;
use std::fmt;

/// Maximum number of warnings of one zone that are kept; the others are counted.
const WARNINGS_MAX: usize = 5;
/// Maximum length of all records, so that places fit into 32 bits.
const BYTES_MAX: usize = u32::MAX as usize;
/// Maximum length of an RRset: a message without the header, the question and our OPT.
const SET_MAX: usize = MESSAGE_LEN_MAX - HEADER_LEN - (NAME_LEN_MAX + 4) - OPT_LEN;
/// Length of our OPT, without options.
const OPT_LEN: usize = 11;
/// Length of a record without its data: a pointer to its owner, type, class, TTL and length.
const RECORD_HEAD: usize = 12;
/// Error if a zone exceeds the host's memory.
const NO_MEMORY: &str = "not enough memory for the zone";
/// End of a label in a key, and the escape for zeros and ones in labels.
const CLOSE: u8 = 0;
const ESCAPE: u8 = 1;
/// Types allowed beside a CNAME: signatures, NSEC, and their predecessors.
const BESIDE_CNAME: [u16; 5] = [24, 25, 30, rtype::RRSIG, rtype::NSEC];

/// Error of records that do not form a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// File and line of the record; `None`: the error concerns the whole zone.
    pub(crate) place: Option<(u16, u32)>,
    /// Text of the error.
    pub what: String,
}

/// A zone that was built.
pub struct Built {
    /// The zone.
    pub zone: Zone,
    /// Warnings about it.
    pub(crate) warnings: Vec<String>,
}

/// One record while the zone is built.
#[derive(Clone, Copy)]
struct Entry {
    /// First bytes of its key, which decide most comparisons when sorting.
    head: u32,
    place: u32,
    file: u16,
    rtype: u16,
    line: u32,
}

/// A zone that is being built.
pub struct Builder {
    apex: Box<[u8]>,
    hasher: RandomState,
    /// For each record: the key's length and the key, TTL, the data's length and the data.
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    warnings: Warnings,
}

#[derive(Default)]
struct Warnings {
    texts: Vec<String>,
    more: usize,
}

impl Warnings {
    fn add(&mut self, text: impl FnOnce() -> String) {
        if self.texts.len() < WARNINGS_MAX {
            self.texts.push(text());
        } else {
            self.more += 1;
        }
    }

    fn end(mut self) -> Vec<String> {
        if self.more > 0 {
            self.texts.push(format!("{} more warnings", self.more));
        }
        self.texts
    }
}

impl Builder {
    /// Begins an empty zone. `apex`: in wire format and lower case. `text_len`: approximate length
    /// of the text. `hasher` is keyed.
    pub fn new(apex: &[u8], text_len: usize, hasher: RandomState) -> Self {
        let text_len = text_len.min(BYTES_MAX);
        let (mut bytes, entries) = (Vec::new(), Vec::new());
        // If memory is short, the first record that has no room is refused.
        let _ = bytes.try_reserve(text_len);
        Self { apex: apex.into(), hasher, bytes, entries, warnings: Warnings::default() }
    }

    /// Reserves memory for this number of further records, so that the list is not moved as it
    /// grows.
    pub(crate) fn reserve(&mut self, records: usize) {
        // If memory is short, the first record that has no room is refused.
        let _ = self.entries.try_reserve_exact(records);
    }

    /// Adds a record of class IN. `owner`: as written. `place`: file and line.
    ///
    /// # Errors
    /// The record is invalid in this zone.
    pub fn add(
        &mut self,
        owner: &[u8],
        rtype: u16,
        ttl: u32,
        data: &[u8],
        (file, line): (u16, u32),
    ) -> Result<(), String> {
        let mut folded = [0; 255];
        let folded = folded.get_mut(..owner.len()).ok_or("the name has more than 255 bytes")?;
        folded.copy_from_slice(owner);
        folded.make_ascii_lowercase();
        let Some(name) = below(folded, &self.apex) else {
            let (owner, apex) = (Spelled(owner), Spelled(&self.apex));
            if rtype == rtype::SOA {
                return Err(format!("SOA of {owner}, but the zone is {apex}"));
            }
            self.warnings.add(|| format!("{owner} is not in the zone {apex}: skipped"));
            return Ok(());
        };
        let is_wildcard = name.starts_with(b"\x01*");
        match rtype {
            rtype::SOA if !name.is_empty() => {
                return Err("a SOA record belongs to the zone's own name".into());
            }
            rtype::NS if is_wildcard => {
                return Err("name servers of a wildcard (RFC 4592 §4.2)".into());
            }
            rtype::DNAME if is_wildcard => {
                let owner = Spelled(owner);
                self.warnings.add(|| format!("{owner}: a DNAME of a wildcard is not followed"));
            }
            _ => {}
        }
        let place = self.bytes.len();
        if place + 2 * name.len() + 8 + data.len() > BYTES_MAX {
            return Err("the zone has more than 4 GiB".into());
        }
        let room = self.bytes.try_reserve(2 * name.len() + 8 + data.len());
        room.and_then(|()| self.entries.try_reserve(1)).map_err(|_| NO_MEMORY)?;
        self.bytes.extend([0; 2]);
        write_key(name, &mut self.bytes);
        let key = &self.bytes[place + 2..];
        let mut head = [0; 4];
        let len = key.len().min(head.len());
        head[..len].copy_from_slice(&key[..len]);
        let key_len = key.len() as u16;
        put_u16(&mut self.bytes, place, key_len);
        self.bytes.extend(ttl.to_be_bytes());
        self.bytes.extend((data.len() as u16).to_be_bytes());
        self.bytes.extend_from_slice(data);
        let (head, place) = (u32::from_be_bytes(head), place as u32);
        self.entries.push(Entry { head, place, file, rtype, line });
        Ok(())
    }

    /// Sorts the records and builds the zone.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn finish(mut self) -> Result<Built, Refused> {
        let bytes = &self.bytes;
        // In place, to save memory; records of one RRset keep the order of the file.
        self.entries.sort_unstable_by(|one, other| {
            let heads = one.head.cmp(&other.head);
            let keys = heads.then_with(|| key(bytes, one).cmp(key(bytes, other)));
            keys.then(one.rtype.cmp(&other.rtype)).then(one.place.cmp(&other.place))
        });
        let (mut arena, mut nodes) = (Vec::new(), Vec::new());
        let room = arena.try_reserve(self.bytes.len() + 12 * self.entries.len());
        if room.and_then(|()| nodes.try_reserve(self.entries.len())).is_err() {
            return Err(Refused { place: None, what: NO_MEMORY.into() });
        }
        let mut tree = Tree {
            bytes: &self.bytes,
            apex: &self.apex,
            arena,
            nodes,
            chain: Vec::new(),
            open: Vec::new(),
            last: Vec::new(),
            occluded: None,
            records: 0,
            warnings: self.warnings,
        };
        let entries = &self.entries;
        if entries.first().is_none_or(|first| first.head != 0 || !key(bytes, first).is_empty()) {
            tree.node(b"", &[])?;
        }
        for node in entries
            .chunk_by(|one, other| one.head == other.head && key(bytes, one) == key(bytes, other))
        {
            tree.node(key(bytes, &node[0]), node)?;
        }
        release(self.entries);
        let Tree { arena, nodes, chain, records, warnings, .. } = tree;
        release(self.bytes);
        finish(self.apex, (arena, nodes, chain), records, self.hasher, warnings)
    }
}

/// Assembles the zone.
fn finish(
    apex: Box<[u8]>,
    (mut arena, nodes, chain): (Vec<u8>, Vec<u32>, Vec<u32>),
    records: usize,
    hasher: RandomState,
    mut warnings: Warnings,
) -> Result<Built, Refused> {
    arena.shrink_to_fit();
    let slots = (nodes.len() * 3 / 2 + 2).next_power_of_two();
    let index = vec![0; slots].into_boxed_slice();
    let digest = hasher.hash_one(&arena);
    let (arena, chain) = (arena.into_boxed_slice(), chain.into_boxed_slice());
    let mut zone = Zone { apex, arena, index, chain, hasher, records, serial: 0, digest };
    for place in nodes {
        let mut slot = zone.hasher.hash_one(zone.node_at(place as usize).name()) as usize;
        slot &= slots - 1;
        while zone.index[slot] != 0 {
            slot = (slot + 1) & (slots - 1);
        }
        zone.index[slot] = place + 1;
    }
    let soa = zone.top().set(rtype::SOA).and_then(|set| set.data().next());
    let serial = soa.and_then(|data| u32_at(data, data.len().checked_sub(20)?));
    let Some(serial) = serial else {
        let what = format!("no SOA record for origin {}", Spelled(&zone.apex));
        return Err(Refused { place: None, what });
    };
    zone.serial = serial;
    if zone.top().set(rtype::NS).is_none() {
        warnings.add(|| format!("{} has no NS record", Spelled(&zone.apex)));
    }
    Ok(Built { zone, warnings: warnings.end() })
}

/// Nodes that are being written.
struct Tree<'a> {
    bytes: &'a [u8],
    apex: &'a [u8],
    arena: Vec<u8>,
    nodes: Vec<u32>,
    chain: Vec<u32>,
    /// Key lengths and places of the nodes from the apex down to the last one.
    open: Vec<(usize, u32)>,
    /// Key of the last one.
    last: Vec<u8>,
    /// Key of the last node below which names are occluded.
    occluded: Option<Vec<u8>>,
    records: usize,
    warnings: Warnings,
}

impl Tree<'_> {
    /// Writes a node and its missing ancestors. Calls must be in the order of the keys.
    fn node(&mut self, key: &[u8], entries: &[Entry]) -> Result<(), Refused> {
        let common = self.last.iter().zip(key).take_while(|(one, other)| one == other).count();
        self.open.retain(|(len, _)| *len <= common);
        let mut end = self.open.last().map_or(0, |(len, _)| *len);
        while end < key.len() {
            let len = key[end..].iter().position(|byte| *byte == CLOSE);
            end += len.map_or(key.len() - end, |len| len + 1);
            if end < key.len() {
                self.write_node(&key[..end], &[])?;
            }
        }
        self.write_node(key, entries)
    }

    fn write_node(&mut self, key: &[u8], entries: &[Entry]) -> Result<(), Refused> {
        let place = self.arena.len();
        if place > BYTES_MAX {
            return Err(Refused { place: None, what: "the zone has more than 4 GiB".into() });
        }
        self.arena.extend([0; NODE_HEAD]);
        write_name(key, &mut self.arena);
        self.arena[place + 3] = (self.arena.len() - place - NODE_HEAD) as u8;
        let mut flags = 0;
        let mut count = 0_u16;
        let mut has_nsec = false;
        let is_star = self.arena[place + NODE_HEAD..].starts_with(b"\x01*");
        for set in entries.chunk_by(|one, other| one.rtype == other.rtype) {
            let rtype = set[0].rtype;
            match rtype {
                rtype::NS if !key.is_empty() => flags |= flag::CUT,
                // At a wildcard it is data and redirects no names, not even below the literal `*`.
                rtype::DNAME if !is_star => flags |= flag::DNAME,
                rtype::CNAME => flags |= flag::CNAME,
                rtype::NSEC => has_nsec = true,
                _ => {}
            }
            self.write_set(key, set)?;
            count += 1;
        }
        if flags & flag::CNAME != 0 {
            let other = |entry: &&Entry| {
                entry.rtype != rtype::CNAME && !BESIDE_CNAME.contains(&entry.rtype)
            };
            if let Some(other) = entries.iter().find(other) {
                let what = format!("{} has a CNAME and other records", self.spelled(key));
                return Err(refused(other, what));
            }
        }
        self.warn_of_occluded(key, entries, flags);
        self.last.clear();
        self.last.extend_from_slice(key);
        self.arena[place] = flags;
        put_u16(&mut self.arena, place + 1, count);
        if has_nsec {
            self.chain.push(place as u32);
        }
        if key.is_empty() {
            self.open.push((0, 0));
            return Ok(());
        }
        self.nodes.push(place as u32);
        let parent = self.open.last().map_or(0, |(_, place)| *place as usize);
        if is_star {
            self.arena[parent] |= flag::WILDCARD;
        }
        self.open.push((key.len(), place as u32));
        Ok(())
    }

    /// Warns about records below a DNAME, which are never returned.
    fn warn_of_occluded(&mut self, key: &[u8], entries: &[Entry], flags: u8) {
        let is_below = |above: &Vec<u8>| key.len() > above.len() && key.starts_with(above);
        if self.occluded.as_ref().is_some_and(is_below) {
            if !entries.is_empty() {
                let name = self.spelled(key);
                self.warnings.add(|| format!("{name} is below a DNAME and cannot be asked for"));
            }
        } else if flags & flag::DNAME != 0 {
            self.occluded = Some(key.to_vec());
        }
    }

    /// Writes an RRset: each record once, with the lowest TTL.
    fn write_set(&mut self, key: &[u8], entries: &[Entry]) -> Result<(), Refused> {
        let rtype = entries[0].rtype;
        let bytes = self.bytes;
        let begin = self.arena.len();
        self.arena.extend([0; SET_HEAD]);
        let mut seen = Seen::default();
        let mut count = 0_u16;
        let mut len = 0;
        let (mut ttl, mut differs) = (u32::MAX, false);
        for entry in entries {
            let (own_ttl, data) = parts(bytes, entry);
            differs |= ttl != u32::MAX && ttl != own_ttl;
            ttl = ttl.min(own_ttl);
            if !seen.insert(data) {
                continue;
            }
            if count > 0 && matches!(rtype, rtype::SOA | rtype::CNAME | rtype::DNAME) {
                let what = format!("{} has two records where one can be", self.spelled(key));
                return Err(refused(entry, what));
            }
            self.arena.extend((data.len() as u16).to_be_bytes());
            self.arena.extend_from_slice(data);
            count += 1;
            len += RECORD_HEAD + data.len();
            if len > SET_MAX {
                let (name, rtype) = (self.spelled(key), crate::config::RecordType(rtype));
                let what = format!("the {rtype} records of {name} fit into no message");
                return Err(refused(entry, what));
            }
        }
        // Signatures have the TTLs of their RRsets.
        if differs && rtype != rtype::RRSIG {
            let (name, rtype) = (self.spelled(key), crate::config::RecordType(rtype));
            let text = || format!("TTLs of {name} {rtype} differ: {ttl} is served");
            self.warnings.add(text);
        }
        let len = (self.arena.len() - begin - SET_HEAD) as u32;
        put_u16(&mut self.arena, begin, rtype);
        put_u32(&mut self.arena, begin + 2, ttl);
        put_u16(&mut self.arena, begin + 6, count);
        put_u32(&mut self.arena, begin + 8, len);
        self.records += usize::from(count);
        Ok(())
    }

    fn spelled(&self, key: &[u8]) -> String {
        let mut name = Vec::new();
        write_name(key, &mut name);
        name.extend_from_slice(self.apex);
        Spelled(&name).to_string()
    }
}

/// The distinct data of one RRset. The first few are compared one by one, more are hashed.
#[derive(Default)]
struct Seen<'a> {
    few: Vec<&'a [u8]>,
    many: std::collections::HashSet<&'a [u8]>,
}

impl<'a> Seen<'a> {
    const FEW: usize = 16;

    /// Adds `data`; returns false if they are already present.
    fn insert(&mut self, data: &'a [u8]) -> bool {
        if self.few.len() < Self::FEW {
            let is_new = !self.few.contains(&data);
            if is_new {
                self.few.push(data);
            }
            return is_new;
        }
        if self.many.is_empty() {
            self.many.extend(&self.few);
        }
        self.many.insert(data)
    }
}

fn refused(entry: &Entry, what: String) -> Refused {
    Refused { place: Some((entry.file, entry.line)), what }
}

fn key<'b>(bytes: &'b [u8], entry: &Entry) -> &'b [u8] {
    let place = entry.place as usize;
    let len = usize::from(u16::from_be_bytes([bytes[place], bytes[place + 1]]));
    &bytes[place + 2..place + 2 + len]
}

/// TTL and data of an entry.
fn parts<'b>(bytes: &'b [u8], entry: &Entry) -> (u32, &'b [u8]) {
    let behind = entry.place as usize + 2 + key(bytes, entry).len();
    let ttl = u32_at(bytes, behind).unwrap_or(0);
    let len = usize::from(u16::from_be_bytes([bytes[behind + 4], bytes[behind + 5]]));
    (ttl, &bytes[behind + 6..behind + 6 + len])
}

/// Appends the key of a name without its apex.
fn write_key(name: &[u8], out: &mut Vec<u8>) {
    let mut labels = [0_u8; 128];
    let (mut count, mut place) = (0, 0);
    while place < name.len() {
        labels[count] = place as u8;
        count += 1;
        place += 1 + usize::from(name[place]);
    }
    for place in labels[..count].iter().rev().map(|place| usize::from(*place)) {
        let label = &name[place + 1..place + 1 + usize::from(name[place])];
        if label.iter().all(|byte| *byte > ESCAPE) {
            out.extend_from_slice(label);
        } else {
            label.iter().for_each(|byte| match *byte {
                low @ ..=ESCAPE => out.extend([ESCAPE, low + 1]),
                byte => out.push(byte),
            });
        }
        out.push(CLOSE);
    }
}

/// Appends the name of this key, without the apex.
fn write_name(key: &[u8], out: &mut Vec<u8>) {
    let begin = out.len();
    let labels = key.split(|byte| *byte == CLOSE).filter(|label| !label.is_empty());
    for label in labels.rev() {
        let head = out.len();
        out.push(0);
        let mut is_escaped = false;
        for byte in label {
            match *byte {
                ESCAPE if !is_escaped => is_escaped = true,
                byte if is_escaped => {
                    out.push(byte - 1);
                    is_escaped = false;
                }
                byte => out.push(byte),
            }
        }
        out[head] = (out.len() - head - 1) as u8;
    }
    debug_assert!(out.len() - begin < 255);
}

/// A name in wire format, as text.
struct Spelled<'a>(&'a [u8]);

impl fmt::Display for Spelled<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut room = [0; crate::config::TEXT_LEN_MAX];
        f.write_str(crate::config::spell(self.0, &crate::config::PRESENTATION, &mut room))
    }
}
