//! Truncation: the records that fit into a client's limit.
//!
//! Whole RRsets are omitted from the end: the additional section first, then the authority section
//! of a positive answer, all of it at once, so that no RRset is separated from its signatures
//! (RFC 4035 §3.1.1). TC is set only if a required record is missing (RFC 2181 §9), because TC
//! makes the client retry over TCP. Required are:
//!
//! * the answer section;
//! * the authority section where it is the answer: with any response code but NOERROR, without an
//!   answer, and where it denies or proves something (SOA, NSEC, NSEC3; RFC 2308 §2,
//!   RFC 4035 §3.1.3);
//! * in a referral, the addresses of name servers within the delegated zone (RFC 9471 §3.1).

use super::response::Response;
use super::{NAME_LEN_MAX, Rcode, Record, expand_name, rtype};

/// The kept first part of a response's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    /// End of the part in the packet.
    pub(super) end: usize,
    /// Number of records by section.
    pub(super) counts: [u16; 3],
    /// A required record is missing.
    pub(super) truncated: bool,
}

/// Result of a walk over the authority section.
#[derive(Default)]
struct Authority {
    /// A record denies or proves something.
    proves: bool,
    /// The owner of its first NS record.
    delegated: Option<usize>,
    /// An SOA is present.
    has_soa: bool,
}

/// Returns the whole RRsets of `response` that end at or before `limit`, an offset in `packet`; to
/// be called if not all of them do.
pub(super) fn cut(packet: &[u8], response: &Response, limit: usize) -> Kept {
    let mut kept = Kept { end: response.start, counts: [0; 3], truncated: true };
    let mut authority = Authority::default();
    let mut counts = [0; 3];
    let mut ends = [response.start; 3];
    let mut place = response.start;
    let mut before: Option<Record> = None;
    for section in 0..3 {
        for index in 0..response.counts[section] {
            let Some(record) = Record::parse(packet, place) else { return kept };
            let same_set =
                index > 0 && before.is_some_and(|before| before.is_of_set(&record, packet));
            if !same_set && place <= limit {
                (kept.end, kept.counts) = (place, counts);
            }
            if section == 1 {
                authority.note(&record);
            }
            counts[section] += 1;
            place = record.end;
            before = Some(record);
        }
        ends[section] = place;
    }
    let is_whole = |section: usize| kept.counts[section] == response.counts[section];
    let no_error = response.rcode() == Rcode::NoError as u16;
    let has_answer = response.counts[0] > 0;
    if !is_whole(0) {
        return kept;
    }
    if !is_whole(1) {
        if no_error && has_answer && !authority.proves {
            let counts = [kept.counts[0], 0, 0];
            return Kept { end: ends[0], counts, truncated: false };
        }
        return kept;
    }
    let delegated = authority.delegated.filter(|_| no_error && !has_answer && !authority.has_soa);
    kept.truncated = delegated.is_some_and(|zone| has_glue(packet, kept.end, ends[2], zone));
    kept
}

impl Authority {
    fn note(&mut self, record: &Record) {
        match record.rtype {
            rtype::NS => _ = self.delegated.get_or_insert(record.start),
            rtype::SOA => (self.has_soa, self.proves) = (true, true),
            rtype::NSEC | rtype::NSEC3 => self.proves = true,
            _ => {}
        }
    }
}

/// Returns true if the records from `start` to `end` have an address of a name at or below the one
/// at `zone`.
fn has_glue(packet: &[u8], start: usize, end: usize, zone: usize) -> bool {
    let (mut name, mut zone_name) = ([0; NAME_LEN_MAX], [0; NAME_LEN_MAX]);
    let Some(zone_len) = expand_name(packet, zone, &mut zone_name) else { return false };
    let mut place = start;
    while place < end {
        let Some(record) = Record::parse(packet, place) else { return false };
        place = record.end;
        let is_address = matches!(record.rtype, rtype::A | rtype::AAAA);
        let name_len = expand_name(packet, record.start, &mut name).filter(|_| is_address);
        if name_len.is_some_and(|len| is_below(&name[..len], &zone_name[..zone_len])) {
            return true;
        }
    }
    false
}

/// Returns true if `name` is `zone` or below it. Both are expanded.
fn is_below(name: &[u8], zone: &[u8]) -> bool {
    let mut rest = name;
    while rest.len() > zone.len() {
        let label = usize::from(rest[0]);
        rest = rest.get(1 + label..).unwrap_or_default();
    }
    rest == zone
}

#[cfg(test)]
mod tests {
    use super::{Kept, cut};
    use crate::engine::cache::tests::messages::{
        A, Made, PLAIN, Written, a, cname, name, ns, rrsig, soa,
    };
    use crate::engine::message::rtype;

    const NXDOMAIN: u16 = PLAIN | 3;

    fn glue(owner: &str) -> Written {
        (2, name(owner), A, 60, vec![192, 0, 2, 9])
    }

    /// Returns the kept records by section if the last `lost` records do not fit, and true if a
    /// required one is missing.
    fn kept(header: u16, records: &[Written], lost: usize) -> ([u16; 3], bool) {
        let made = Made::new("w.test", A, header, records);
        let shorter = Made::new("w.test", A, header, &records[..records.len() - lost]);
        let Kept { counts, truncated, end } =
            cut(&made.packet, &made.response, shorter.response.end);
        assert!(end <= shorter.response.end);
        (counts, truncated)
    }

    #[test]
    fn additional_records_go_first_and_nothing_is_missing_without_them() {
        let records = [a("w.test", 60), ns("test", 60), glue("ns.test"), glue("other.test")];
        assert_eq!(kept(PLAIN, &records, 1), ([1, 1, 1], false));
        assert_eq!(kept(PLAIN, &records, 2), ([1, 1, 0], false));
    }

    #[test]
    fn the_authority_section_of_an_answer_goes_as_a_whole() {
        let records = [a("w.test", 60), ns("test", 60), rrsig_of_ns(), glue("ns.test")];
        assert_eq!(kept(PLAIN, &records, 2), ([1, 0, 0], false));
        assert_eq!(kept(PLAIN, &records, 3), ([1, 0, 0], false));
        assert_eq!(kept(PLAIN, &records, 4), ([0, 0, 0], true));
    }

    fn rrsig_of_ns() -> Written {
        let (_, owner, rtype, ttl, data) = rrsig("test", 60, 0, 1);
        (1, owner, rtype, ttl, data)
    }

    #[test]
    fn denials_and_proofs_are_required() {
        let alias = [cname("w.test", "x.test", 60), soa("test", 60, 60)];
        assert_eq!(kept(PLAIN, &alias, 1), ([1, 0, 0], true));
        assert_eq!(kept(NXDOMAIN, &[soa("test", 60, 60), glue("ns.test")], 1), ([0, 1, 0], false));
        assert_eq!(kept(NXDOMAIN, &[soa("test", 60, 60)], 1), ([0, 0, 0], true));
        for rtype in [rtype::NSEC, rtype::NSEC3] {
            let proof = (1, name("v.test"), rtype, 60, vec![0; 30]);
            let wildcard = [a("w.test", 60), ns("test", 60), proof];
            assert_eq!(kept(PLAIN, &wildcard, 1), ([1, 1, 0], true));
        }
    }

    #[test]
    fn a_referral_needs_the_addresses_within_its_zone_and_no_others() {
        let glue_of = |owner: &str| [ns("sub.test", 60), glue("ns.SUB.test"), glue(owner)];
        assert_eq!(kept(PLAIN, &glue_of("ns2.sub.TEST"), 1), ([0, 1, 1], true));
        assert_eq!(kept(PLAIN, &glue_of("sub.test"), 1), ([0, 1, 1], true));
        for sibling in ["ns.test", "xsub.test", "ns.sub.org", "test"] {
            assert_eq!(kept(PLAIN, &glue_of(sibling), 1), ([0, 1, 1], false), "{sibling}");
        }
        assert_eq!(kept(PLAIN, &glue_of("ns.test"), 2), ([0, 1, 0], true));
        assert_eq!(kept(PLAIN, &glue_of("ns.test"), 3), ([0, 0, 0], true));
    }
}
