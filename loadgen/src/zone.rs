//! Zone files, read by the `domain` crate into the records that an upstream answers with. Pure.
//!
//! One file has one zone or several; an SOA record marks the apex of each. Errors have line and
//! column.

use crate::workload::BadInput;
use domain::base::ToName;
use domain::base::iana::Class;
use domain::base::rdata::ComposeRecordData;
use domain::zonefile::inplace::{Entry, Zonefile};
use onward::traffic::zone::Zones;

/// Parses a zone file, which must have an `$ORIGIN` or names that end in a dot.
///
/// # Errors
/// An entry cannot be read, or there is no SOA record.
pub fn parse(text: &[u8]) -> Result<Zones, BadInput> {
    let mut file = Zonefile::new();
    file.set_default_class(Class::IN);
    file.extend_from_slice(text);
    // The last line may have no line break.
    file.extend_from_slice(b"\n");
    let mut zones = Zones::default();
    loop {
        let record = match file.next_entry() {
            Ok(Some(Entry::Record(record))) => record,
            Ok(None) => break,
            Ok(Some(Entry::Include { .. })) => {
                let text = "$INCLUDE is not supported: write one file".into();
                return Err(BadInput { line: 1, column: 1, text });
            }
            Err(error) => return Err(place(&error.to_string())),
        };
        let owner = record.owner().to_name::<Vec<u8>>().as_slice().to_ascii_lowercase();
        let mut data = Vec::new();
        let Ok(()) = record.data().compose_rdata(&mut data);
        zones.insert(owner, record.rtype().to_int(), (record.ttl().as_secs(), data));
    }
    if zones.is_empty() {
        let text = "the zone file has no SOA record".into();
        return Err(BadInput { line: 1, column: 1, text });
    }
    Ok(zones)
}

/// Converts an error of the parser, which begins with its place.
fn place(error: &str) -> BadInput {
    let mut parts = error.splitn(3, ':');
    let mut number = || parts.next().and_then(|part| part.trim().parse().ok()).unwrap_or(1);
    let (line, column) = (number(), number());
    let text = parts.next().unwrap_or(error).trim().to_owned();
    BadInput { line, column, text }
}

#[cfg(test)]
mod tests {
    use super::parse;
    use domain::base::{Message, Name};
    use onward::traffic::zone::Zones;
    use std::str::FromStr;

    const ZONE: &str = "$ORIGIN a.test.\n$TTL 60\n\
        @ SOA ns hostmaster 1 3600 600 86400 60\n@ NS ns\nns A 192.0.2.1\n\
        www A 192.0.2.2\nwww A 192.0.2.3\nalias CNAME www\nout CNAME b.test.\n\
        *.wild TXT \"x y\" z\ndeep.below A 192.0.2.4";

    fn query(name: &str, rtype: u8) -> Vec<u8> {
        let mut query = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0".to_vec();
        query.extend(Name::<Vec<u8>>::from_str(name).unwrap().as_slice());
        query.extend([0, rtype, 0, 1]);
        query
    }

    /// Returns response code, and numbers of answers and authorities.
    fn ask(zones: &Zones, name: &str, rtype: u8) -> Option<(u8, usize, usize)> {
        let query = query(name, rtype);
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
        let zones = parse(ZONE.as_bytes()).unwrap();
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
        for (name, rtype, expected) in cases {
            assert_eq!(ask(&zones, name, rtype), expected, "{name} {rtype}");
        }
        assert_eq!(zones.respond(&query("www.a.test", 1), &mut [0; 40]), None, "no room");
    }

    #[test]
    fn another_answer_does_not_agree() {
        let zones = parse(ZONE.as_bytes()).unwrap();
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
    fn errors_have_their_place() {
        let error = parse(b"$ORIGIN a.test.\n@ 60 BOGUS x\n").unwrap_err();
        assert_eq!(error.line, 2, "{error}");
        for text in [&b""[..], b"a.test. 60 A 192.0.2.1", b"$INCLUDE x"] {
            assert!(parse(text).is_err());
        }
    }
}
