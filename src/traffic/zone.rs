//! Zones, small enough to load, and the answers that follow from them.
//!
//! Each RRset is kept in wire form, by name and type, so that answering only copies. CNAMEs are
//! followed inside the zones, wildcards match the names below them, and absent names are denied
//! with the zone's SOA (RFC 1034 §4.3.2, RFC 2308). Names outside the zones get no answer. Pure.

use crate::traffic::wire::{CLASS_IN, Edns, OPCODE, QR, Question, RD, Writer};
use domain::base::iana::Rtype;
use domain::base::rdata::ComposeRecordData;
use domain::base::{Message, ParsedName, ToName};
use domain::rdata::AllRecordData;
use std::collections::{HashMap, HashSet};

/// Maximum length of a CNAME chain.
const ALIASES_MAX: usize = 8;
/// The AA bit in the third octet of a message.
const AUTHORITATIVE: u8 = 0x04;
const NXDOMAIN: u8 = 3;

/// Records of one name and type: TTL, length and data of each.
type RecordSet = Vec<(u32, Vec<u8>)>;

/// Records of zones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Zones {
    /// RRsets by owner, in wire form and lower case, and type.
    sets: HashMap<Vec<u8>, Vec<(u16, RecordSet)>>,
    /// Names that have records, and all names above them.
    names: HashSet<Vec<u8>>,
    /// Apexes of the zones.
    apexes: HashSet<Vec<u8>>,
}

impl Zones {
    /// Returns true if no zone has an SOA record.
    pub fn is_empty(&self) -> bool {
        self.apexes.is_empty()
    }

    /// Adds a record of `owner` (in wire form and lower case): its TTL and its data.
    pub fn insert(&mut self, owner: Vec<u8>, rtype: u16, record: (u32, Vec<u8>)) {
        if rtype == Rtype::SOA.to_int() {
            self.apexes.insert(owner.clone());
        }
        self.names.extend(suffixes(&owner).map(<[u8]>::to_vec));
        let sets = self.sets.entry(owner).or_default();
        match sets.iter_mut().find(|(own, _)| *own == rtype) {
            Some((_, set)) => set.push(record),
            None => sets.push((rtype, vec![record])),
        }
    }

    /// Writes the answer to `query` and returns its length; `None` if its name is in no zone, it is
    /// no query, or the answer does not fit.
    pub fn respond(&self, query: &[u8], response: &mut [u8]) -> Option<usize> {
        let question = Question::parse(query)?;
        if query[2] & (QR | OPCODE) != 0 || question.class() != CLASS_IN {
            return None;
        }
        let asked = question.name().to_ascii_lowercase();
        let apex = suffixes(&asked).find(|name| self.apexes.contains(*name))?;
        let edns = Edns::find(query, question.end())?;
        let mut writer = Writer::new(response);
        writer.put(&[query[0], query[1], QR | AUTHORITATIVE | query[2] & RD, 0])?;
        writer.put(&[0, 1, 0, 0, 0, 0, 0, 0])?;
        writer.put(question.bytes)?;
        let (answers, exists) = self.put_answers(&mut writer, &asked, question.rtype())?;
        let mut authorities = 0;
        if answers == 0 {
            authorities = self.put_set(&mut writer, apex, apex, Rtype::SOA.to_int())?;
        }
        edns.write(&mut writer)?;
        let length = writer.len();
        response[3] = if exists || answers > 0 { 0 } else { NXDOMAIN };
        for (at, count) in [(6, answers), (8, authorities), (10, edns.count())] {
            response[at..at + 2].copy_from_slice(&count.to_be_bytes());
        }
        Some(length)
    }

    /// Appends the records of `name`, following CNAMEs; returns their number, and whether the name
    /// exists.
    fn put_answers(&self, writer: &mut Writer<'_>, name: &[u8], rtype: u16) -> Option<(u16, bool)> {
        let (mut count, mut name) = (0, name.to_vec());
        for _ in 0..ALIASES_MAX {
            let Some(source) = self.source(&name) else { return Some((count, false)) };
            let found = self.put_set(writer, &name, &source, rtype)?;
            count += found;
            let alias = Rtype::CNAME.to_int();
            if found > 0 || rtype == alias {
                break;
            }
            let Some(target) = self.set(&source, alias).and_then(|set| set.first()) else { break };
            count += self.put_set(writer, &name, &source, alias)?;
            name = target.1.to_ascii_lowercase();
        }
        Some((count, true))
    }

    /// Returns the owner of the records for `name`: the name itself, or the matching wildcard.
    fn source(&self, name: &[u8]) -> Option<Vec<u8>> {
        if self.names.contains(name) {
            return Some(name.to_vec());
        }
        let encloser = suffixes(name).find(|above| self.names.contains(*above))?;
        let wildcard = [&b"\x01*"[..], encloser].concat();
        self.sets.contains_key(&wildcard).then_some(wildcard)
    }

    fn set(&self, name: &[u8], rtype: u16) -> Option<&RecordSet> {
        let sets = self.sets.get(name)?;
        sets.iter().find(|(own, _)| *own == rtype).map(|(_, set)| set)
    }

    /// Appends an RRset of `source` as that of `owner`; returns the number of records.
    fn put_set(
        &self,
        writer: &mut Writer<'_>,
        owner: &[u8],
        source: &[u8],
        rtype: u16,
    ) -> Option<u16> {
        let Some(set) = self.set(source, rtype) else { return Some(0) };
        for (ttl, data) in set {
            writer.put(owner)?;
            writer.put_u16(rtype)?;
            writer.put_u16(CLASS_IN)?;
            writer.put(&ttl.to_be_bytes())?;
            writer.put_u16(data.len() as u16)?;
            writer.put(data)?;
        }
        Some(set.len() as u16)
    }

    /// Returns true if `response` answers `query` with the response code and the records of these
    /// zones, in any order and with any TTL; `None` if the zones have no answer.
    pub fn agrees(&self, query: &[u8], response: &[u8]) -> Option<bool> {
        let mut expected = [0; u16::MAX as usize];
        let length = self.respond(query, &mut expected)?;
        let known = answers(&expected[..length])?;
        Some(answers(response).is_some_and(|told| told == known))
    }
}

/// Returns the response code and the records of the answer section, uncompressed and sorted.
fn answers(message: &[u8]) -> Option<(u8, Vec<Vec<u8>>)> {
    let message = Message::from_octets(message).ok()?;
    let mut records = Vec::new();
    for record in message.answer().ok()? {
        let record = record.ok()?;
        let record = record.to_record::<AllRecordData<_, ParsedName<_>>>().ok()??;
        let mut bytes = record.owner().to_name::<Vec<u8>>().as_slice().to_ascii_lowercase();
        bytes.extend(record.rtype().to_int().to_be_bytes());
        let Ok(()) = record.data().compose_canonical_rdata(&mut bytes);
        records.push(bytes);
    }
    records.sort_unstable();
    Some((message.header().rcode().to_int(), records))
}

/// Returns a name in wire form and all names above it, the root last.
fn suffixes(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(name);
    std::iter::from_fn(move || {
        let name = rest?;
        rest = match *name.first()? {
            0 => None,
            label => name.get(1 + usize::from(label)..),
        };
        Some(name)
    })
}
