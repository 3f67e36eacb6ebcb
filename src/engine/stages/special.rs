//! Special-use names, which no upstream is asked for (RFC 6761, RFC 6303).
//!
//! They do not exist in the DNS of the Internet, or mean another zone in each network, so a query
//! for one that leaves the network fails, and tells others what was asked. Each is answered as an
//! empty zone (RFC 6303 §3). A name that the server block is for is not among them.

use super::super::message::compose::{Composer, NewRecord, Section};
use super::super::message::{HEADER_LEN, QNAME, Question, Rcode, class, flags, rtype};
use super::super::zones::{LowercaseName, Zones};
use crate::config::{Name, ServerBlock};
use ahash::RandomState;

/// TTL in seconds of all records (RFC 6303 §3).
const TTL: u32 = 10_800;
/// Behind the primary server of an SOA record: mailbox, serial, refresh, retry, expire, and TTL of
/// denials (RFC 6303 §3).
const SOA: [&[u8]; 6] = [
    b"\x06nobody\x07invalid\0",
    &1_u32.to_be_bytes(),
    &3_600_u32.to_be_bytes(),
    &1_200_u32.to_be_bytes(),
    &604_800_u32.to_be_bytes(),
    &TTL.to_be_bytes(),
];
/// Zone whose names have no records, so that clients find no encrypted resolver (RFC 9462 §6.4).
const WITHOUT_RECORDS: &str = "resolver.arpa.";
/// The other names, besides those of [`RANGES`].
const NAMES: [&str; 19] = [
    // RFC 6761 §6.2 and §6.4, RFC 6762 §22.1, RFC 7686 §2, RFC 8375 §4, RFC 9476 §2.
    "test.",
    "invalid.",
    "local.",
    "onion.",
    "home.arpa.",
    "alt.",
    // RFC 6303 §4.1 and §4.2.
    "10.in-addr.arpa.",
    "168.192.in-addr.arpa.",
    "254.169.in-addr.arpa.",
    "2.0.192.in-addr.arpa.",
    "100.51.198.in-addr.arpa.",
    "113.0.203.in-addr.arpa.",
    "255.255.255.255.in-addr.arpa.",
    // RFC 6303 §4.4, §4.5 and §4.6.
    "d.f.ip6.arpa.",
    "8.e.f.ip6.arpa.",
    "9.e.f.ip6.arpa.",
    "a.e.f.ip6.arpa.",
    "b.e.f.ip6.arpa.",
    "8.b.d.0.1.0.0.2.ip6.arpa.",
];
/// Reverse zones of a range of numbers (RFC 6303 §4.1, RFC 7793).
const RANGES: [(std::ops::RangeInclusive<u8>, &str); 2] =
    [(16..=31, "172.in-addr.arpa."), (64..=127, "100.in-addr.arpa.")];

/// The names of a server block, with true for those whose names have no records.
pub(crate) struct SpecialNames(Zones<bool>);

impl SpecialNames {
    /// Returns the names that `block` does not serve on purpose. `hasher` is keyed.
    pub(crate) fn new(block: &ServerBlock, hasher: &RandomState) -> Self {
        let ranges = RANGES.into_iter().flat_map(|(numbers, zone)| {
            numbers.map(move |number| (format!("{number}.{zone}"), false))
        });
        let names = NAMES.iter().map(|name| ((*name).to_owned(), false));
        // The unspecified and the loopback address (RFC 6303 §4.3).
        let hosts = ["0", "1"].map(|last| (format!("{last}.{}ip6.arpa.", "0.".repeat(31)), false));
        let all = ranges.chain(names).chain(hosts).chain([(WITHOUT_RECORDS.to_owned(), true)]);
        let all = all.filter_map(|(name, is_empty)| Some((Name::parse(&name).ok()?, is_empty)));
        let is_own = |name: &Name| block.zones().any(|zone| zone.is_within(name));
        let all: Vec<_> = all.filter(|(name, _)| !is_own(name)).collect();
        Self(Zones::new(hasher.clone(), all.iter().map(|(name, is_empty)| (name, *is_empty))))
    }

    /// Returns the number of labels of the special name at or above `name`, and true if all names
    /// below it exist. A query for its DS belongs to the parent zone, which proves that it is not
    /// signed (RFC 8375 §4).
    pub(crate) fn find(&self, name: &LowercaseName, question: &Question) -> Option<(usize, bool)> {
        if question.class != class::IN {
            return None;
        }
        let found = self.0.matches(name).next();
        let is_apex = |labels: usize| name.ancestor_start(labels) == 0;
        found.filter(|(labels, _)| question.rtype != rtype::DS || !is_apex(*labels))
    }
}

/// Writes the answer to a question whose name is at or below a special one of `labels` labels.
pub(crate) fn answer(
    (labels, is_empty): (usize, bool),
    name: &LowercaseName,
    question: &Question,
    mut reply: Composer<'_>,
) -> usize {
    let zone = name.ancestor_start(labels);
    let owner = (0xc000 | (HEADER_LEN + zone) as u16).to_be_bytes();
    let soa = [&owner[..], SOA[0], SOA[1], SOA[2], SOA[3], SOA[4], SOA[5]];
    let record = |rtype, data| NewRecord { owner: &owner, rtype, class: class::IN, ttl: TTL, data };
    let is_apex = zone == 0;
    match question.rtype {
        rtype::SOA if is_apex => {
            reply.record(Section::Answer, &NewRecord { owner: &QNAME, ..record(rtype::SOA, &soa) });
            return reply.end(flags::RA, Rcode::NoError);
        }
        rtype::NS if is_apex => {
            reply.record(Section::Answer, &record(rtype::NS, &[&owner]));
            return reply.end(flags::RA, Rcode::NoError);
        }
        _ => {}
    }
    reply.record(Section::Authority, &record(rtype::SOA, &soa));
    reply.end(flags::RA, if is_apex || is_empty { Rcode::NoError } else { Rcode::NxDomain })
}
