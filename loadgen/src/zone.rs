//! Zone files, small enough to load, and the answers that follow from them.
//!
//! The `domain` crate reads the file; what is kept is each record set in wire form, by name and
//! type, so that answering copies and never composes. Aliases are followed inside the zones,
//! wildcards stand for what is below them, and what is not there is denied with the zone's SOA
//! (RFC 1034 §4.3.2, RFC 2308). Names of no zone are nobody's business here. Pure.

use crate::workload::BadInput;
use domain::base::iana::{Class, Rtype};
use domain::base::rdata::ComposeRecordData;
use domain::base::{Message, ParsedName, ToName};
use domain::rdata::AllRecordData;
use domain::zonefile::inplace::{Entry, Zonefile};
use onward::traffic::wire::{CLASS_IN, Edns, OPCODE, QR, Question, RD, Writer};
use std::collections::{HashMap, HashSet};

/// Aliases of an alias, as far as anybody should follow.
const ALIASES_MAX: usize = 8;
/// The AA bit in the third octet of a message.
const AUTHORITATIVE: u8 = 0x04;
const NXDOMAIN: u8 = 3;

/// Records of one name and one type: time to live, length and data of each.
type RecordSet = Vec<(u32, Vec<u8>)>;

/// Contents of zone files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Zones {
    /// By name, in wire form and small letters, and type.
    sets: HashMap<Vec<u8>, Vec<(u16, RecordSet)>>,
    /// Names that have records, and those above them.
    names: HashSet<Vec<u8>>,
    /// Apexes of the zones.
    apexes: HashSet<Vec<u8>>,
}

impl Zones {
    /// Reads a zone file, which must have an `$ORIGIN` or names that end in a dot.
    ///
    /// # Errors
    /// An entry cannot be read, or there is no SOA record.
    pub fn parse(text: &[u8]) -> Result<Self, BadInput> {
        let mut file = Zonefile::new();
        file.set_default_class(Class::IN);
        file.extend_from_slice(text);
        // The last line may lack its end.
        file.extend_from_slice(b"\n");
        let mut zones = Self::default();
        loop {
            let record = match file.next_entry() {
                Ok(Some(Entry::Record(record))) => record,
                Ok(None) => break,
                Ok(Some(Entry::Include { .. })) => {
                    let text = "$INCLUDE is not followed: write one file".into();
                    return Err(BadInput { line: 1, column: 1, text });
                }
                Err(error) => return Err(place(&error.to_string())),
            };
            let owner = record.owner().to_name::<Vec<u8>>().as_slice().to_ascii_lowercase();
            let mut data = Vec::new();
            let Ok(()) = record.data().compose_rdata(&mut data);
            zones.insert(owner, record.rtype().to_int(), (record.ttl().as_secs(), data));
        }
        if zones.apexes.is_empty() {
            let text = "there is no SOA record here".into();
            return Err(BadInput { line: 1, column: 1, text });
        }
        Ok(zones)
    }

    fn insert(&mut self, owner: Vec<u8>, kind: u16, record: (u32, Vec<u8>)) {
        if kind == Rtype::SOA.to_int() {
            self.apexes.insert(owner.clone());
        }
        self.names.extend(suffixes(&owner).map(<[u8]>::to_vec));
        let sets = self.sets.entry(owner).or_default();
        match sets.iter_mut().find(|(own, _)| *own == kind) {
            Some((_, set)) => set.push(record),
            None => sets.push((kind, vec![record])),
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
        let (answers, exists) = self.put_answers(&mut writer, &asked, question.kind())?;
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

    /// Appends the records of `name`, following aliases; how many, and whether the name exists.
    fn put_answers(&self, writer: &mut Writer<'_>, name: &[u8], kind: u16) -> Option<(u16, bool)> {
        let (mut count, mut name) = (0, name.to_vec());
        for _ in 0..ALIASES_MAX {
            let Some(source) = self.source(&name) else { return Some((count, false)) };
            let found = self.put_set(writer, &name, &source, kind)?;
            count += found;
            let alias = Rtype::CNAME.to_int();
            if found > 0 || kind == alias {
                break;
            }
            let Some(target) = self.set(&source, alias).and_then(|set| set.first()) else { break };
            count += self.put_set(writer, &name, &source, alias)?;
            name = target.1.to_ascii_lowercase();
        }
        Some((count, true))
    }

    /// The name whose records `name` has: its own, or the wildcard that stands for it.
    fn source(&self, name: &[u8]) -> Option<Vec<u8>> {
        if self.names.contains(name) {
            return Some(name.to_vec());
        }
        let encloser = suffixes(name).find(|above| self.names.contains(*above))?;
        let wildcard = [&b"\x01*"[..], encloser].concat();
        self.sets.contains_key(&wildcard).then_some(wildcard)
    }

    fn set(&self, name: &[u8], kind: u16) -> Option<&RecordSet> {
        let sets = self.sets.get(name)?;
        sets.iter().find(|(own, _)| *own == kind).map(|(_, set)| set)
    }

    /// Appends a record set of `source` as that of `owner`; returns how many records it has.
    fn put_set(
        &self,
        writer: &mut Writer<'_>,
        owner: &[u8],
        source: &[u8],
        kind: u16,
    ) -> Option<u16> {
        let Some(set) = self.set(source, kind) else { return Some(0) };
        for (ttl, data) in set {
            writer.put(owner)?;
            writer.put_u16(kind)?;
            writer.put_u16(CLASS_IN)?;
            writer.put(&ttl.to_be_bytes())?;
            writer.put_u16(data.len() as u16)?;
            writer.put(data)?;
        }
        Some(set.len() as u16)
    }

    /// Returns whether `response` answers `query` with the response code and the records of these
    /// zones, in any order and with any time to live; `None` if they do not know.
    pub fn agrees(&self, query: &[u8], response: &[u8]) -> Option<bool> {
        let mut expected = [0; u16::MAX as usize];
        let length = self.respond(query, &mut expected)?;
        let known = answers(&expected[..length])?;
        Some(answers(response).is_some_and(|told| told == known))
    }
}

/// The response code and the records of the answer section, uncompressed, in a fixed order.
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

/// A name in wire form and all names above it, the root last.
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

/// An error of the reader, which begins with its place.
fn place(error: &str) -> BadInput {
    let mut parts = error.splitn(3, ':');
    let mut number = || parts.next().and_then(|part| part.trim().parse().ok()).unwrap_or(1);
    let (line, column) = (number(), number());
    let text = parts.next().unwrap_or(error).trim().to_owned();
    BadInput { line, column, text }
}

#[cfg(test)]
mod tests {
    use super::Zones;
    use domain::base::{Message, Name};
    use std::str::FromStr;

    const ZONE: &str = "$ORIGIN a.test.\n$TTL 60\n\
        @ SOA ns hostmaster 1 3600 600 86400 60\n@ NS ns\nns A 192.0.2.1\n\
        www A 192.0.2.2\nwww A 192.0.2.3\nalias CNAME www\nout CNAME b.test.\n\
        *.wild TXT \"x y\" z\ndeep.below A 192.0.2.4";

    fn query(name: &str, kind: u8) -> Vec<u8> {
        let mut query = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0".to_vec();
        query.extend(Name::<Vec<u8>>::from_str(name).unwrap().as_slice());
        query.extend([0, kind, 0, 1]);
        query
    }

    /// Response code, answers and authorities.
    fn ask(zones: &Zones, name: &str, kind: u8) -> Option<(u8, usize, usize)> {
        let query = query(name, kind);
        let mut buffer = [0; 1_000];
        let length = zones.respond(&query, &mut buffer)?;
        let message = Message::from_octets(&buffer[..length]).unwrap();
        assert!(message.header().aa() && message.header().qr());
        assert_eq!(zones.agrees(&query, &buffer[..length]), Some(true));
        let sections = message.answer().unwrap().map(Result::unwrap).count();
        let authority = message.authority().unwrap().map(Result::unwrap).count();
        Some((message.header().rcode().to_int(), sections, authority))
    }

    #[test]
    fn records_aliases_wildcards_and_absence_are_answered() {
        let zones = Zones::parse(ZONE.as_bytes()).unwrap();
        let cases = [
            ("www.A.test", 1, Some((0, 2, 0))),
            ("www.a.test", 28, Some((0, 0, 1))),
            ("alias.a.test", 1, Some((0, 3, 0))),
            ("alias.a.test", 5, Some((0, 1, 0))),
            ("out.a.test", 1, Some((0, 1, 0))),
            ("x.wild.a.test", 16, Some((0, 1, 0))),
            ("x.y.wild.a.test", 16, Some((0, 1, 0))),
            ("x.wild.a.test", 1, Some((0, 0, 1))),
            ("below.a.test", 1, Some((0, 0, 1))),
            ("nothing.a.test", 1, Some((3, 0, 1))),
            ("a.test", 2, Some((0, 1, 0))),
            ("b.test", 1, None),
        ];
        for (name, kind, expected) in cases {
            assert_eq!(ask(&zones, name, kind), expected, "{name} {kind}");
        }
        assert_eq!(zones.respond(&query("www.a.test", 1), &mut [0; 40]), None, "no room");
    }

    #[test]
    fn another_answer_does_not_agree() {
        let zones = Zones::parse(ZONE.as_bytes()).unwrap();
        let query = query("www.a.test", 1);
        let mut response = [0; 1_000];
        let length = zones.respond(&query, &mut response).unwrap();
        let (first, second) = (28 + 12 + 10, 28 + 26 + 12 + 10);
        let mut swapped = response;
        (swapped[first + 3], swapped[second + 3]) = (response[second + 3], response[first + 3]);
        assert_eq!(zones.agrees(&query, &swapped[..length]), Some(true), "in any order");
        swapped[first + 3] ^= 1;
        assert_eq!(zones.agrees(&query, &swapped[..length]), Some(false));
        assert_eq!(zones.agrees(&query, &response[..length - 1]), Some(false));
    }

    #[test]
    fn what_cannot_be_read_is_told_with_its_place() {
        let error = Zones::parse(b"$ORIGIN a.test.\n@ 60 BOGUS x\n").unwrap_err();
        assert_eq!(error.line, 2, "{error}");
        for text in [&b""[..], b"a.test. 60 A 192.0.2.1", b"$INCLUDE x"] {
            assert!(Zones::parse(text).is_err());
        }
    }
}
