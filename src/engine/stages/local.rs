//! `local`: answers for names of the local host.
//!
//! localhost and all names below it have loopback addresses (RFC 6761 §6.3); the reverse zones of
//! 0, 127 and 255 contain only the name of 127.0.0.1 (RFC 6303 §4.2). Unless disabled, names whose
//! first label is localhost are included, because a resolver's search list generates them. Other
//! special-use names are known here, and answered by the forwarder instead of being forwarded.

use super::{QueryContext, Settings, Stage, Step};
use crate::config::{self, ServerBlock};
use crate::engine::message::QNAME;
use crate::engine::message::compose::{Composer, NewRecord, Section};
use crate::engine::message::{HEADER_LEN, Question, Rcode, class, rtype};
use ahash::RandomState;

/// TTL in seconds: a week.
const TTL: u32 = 604_800;
const LOCALHOST: &[u8] = b"\x09localhost\0";
/// Beginning of a local name with a search list.
const PREFIX: &[u8] = b"\x09localhost";
/// The reverse zones.
const REVERSE: [&[u8]; 3] = [
    b"\x010\x07in-addr\x04arpa\0",
    b"\x03127\x07in-addr\x04arpa\0",
    b"\x03255\x07in-addr\x04arpa\0",
];
/// The only name in these besides their apexes.
const LOOPBACK: &[u8] = b"\x011\x010\x010\x03127\x07in-addr\x04arpa\0";
/// Primary server, mailbox, serial, refresh, retry, expire and the TTL of denials.
const SOA: &[&[u8]] =
    &[LOCALHOST, b"\x04root\x09localhost\0", &1_u32.to_be_bytes(), &[0; 12], &TTL.to_be_bytes()];

/// Names of this host.
pub(crate) struct Local(config::Local);

impl Stage for Local {
    fn new(block: &ServerBlock, hasher: &RandomState, settings: &mut Settings) -> Option<Self> {
        let local = block.stages.local?;
        if local.special_names {
            settings.keep_special_names(block, hasher);
        }
        Some(Self(local))
    }

    fn on_query(&self, context: &mut QueryContext<'_, '_>) -> Option<Step> {
        let question = context.query.question;
        let place = place(context.name.as_bytes(), &question, self.0.localhost_prefix)?;
        Some(Step::Replied(answer(place, &question, context.reply())))
    }
}

/// Position of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// A name of this host.
    Host,
    /// The apex of a reverse zone.
    Apex,
    /// The reverse name of 127.0.0.1.
    Loopback,
    /// A name in a reverse zone that does not exist; offset of the zone's name.
    Nothing(usize),
}

/// Returns the position of the lower-cased `name`, if this stage answers for it. `prefix`: names
/// whose first label is localhost are local.
fn place(name: &[u8], question: &Question, prefix: bool) -> Option<Place> {
    if question.class != class::IN {
        return None;
    }
    let below = |zone: &[u8]| {
        let start = name.len().checked_sub(zone.len()).filter(|start| name[*start..] == *zone)?;
        is_label(name, start).then_some(start)
    };
    if below(LOCALHOST).is_some() || (prefix && name.starts_with(PREFIX)) {
        return Some(Place::Host);
    }
    let start = REVERSE.iter().find_map(|zone| below(zone))?;
    Some(match start {
        0 => Place::Apex,
        _ if name == LOOPBACK => Place::Loopback,
        _ => Place::Nothing(start),
    })
}

/// Returns true if a label of `name` begins at `place`.
fn is_label(name: &[u8], place: usize) -> bool {
    let mut at = 0;
    while at < place {
        at += 1 + usize::from(name[at]);
    }
    at == place
}

/// Writes the answer to a question whose name is at `place` and returns its length.
fn answer(place: Place, question: &Question, mut reply: Composer<'_>) -> usize {
    let record = |rtype, data| NewRecord { owner: &QNAME, rtype, class: class::IN, ttl: TTL, data };
    let found = match (place, question.rtype) {
        (Place::Host, rtype::A) => Some(record(rtype::A, &[&[127, 0, 0, 1]])),
        (Place::Host, rtype::AAAA) => {
            Some(record(rtype::AAAA, &[&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]]))
        }
        (Place::Host | Place::Apex, rtype::SOA) => Some(record(rtype::SOA, SOA)),
        (Place::Host | Place::Apex, rtype::NS) => Some(record(rtype::NS, &[LOCALHOST])),
        (Place::Loopback, rtype::PTR) => Some(record(rtype::PTR, &[LOCALHOST])),
        _ => None,
    };
    if let Some(found) = found {
        reply.record(Section::Answer, &found);
        return reply.end(0, Rcode::NoError);
    }
    let (zone, rcode) = match place {
        Place::Nothing(zone) => (zone, Rcode::NxDomain),
        // The zone begins behind the labels 1, 0 and 0.
        Place::Loopback => (6, Rcode::NoError),
        Place::Host | Place::Apex => (0, Rcode::NoError),
    };
    let owner = [0xc0, (HEADER_LEN + zone) as u8];
    reply.record(Section::Authority, &NewRecord { owner: &owner, ..record(rtype::SOA, SOA) });
    reply.end(0, rcode)
}

#[cfg(test)]
mod tests {
    use super::{Place, place};
    use crate::config::Name;
    use crate::engine::message::Question;

    #[test]
    fn names_have_the_right_positions() {
        for (name, with_prefix, without) in [
            ("localhost", Some(Place::Host), Some(Place::Host)),
            ("a.localhost", Some(Place::Host), Some(Place::Host)),
            ("localhost.example.org", Some(Place::Host), None),
            ("xlocalhost", None, None),
            ("localhosts.example", None, None),
            ("a.localhost.example", None, None),
            ("127.in-addr.arpa", Some(Place::Apex), Some(Place::Apex)),
            ("1.0.0.127.in-addr.arpa", Some(Place::Loopback), Some(Place::Loopback)),
            ("2.0.0.127.in-addr.arpa", Some(Place::Nothing(6)), Some(Place::Nothing(6))),
            ("x.255.in-addr.arpa", Some(Place::Nothing(2)), Some(Place::Nothing(2))),
            ("1127.in-addr.arpa", None, None),
            ("10.in-addr.arpa", None, None),
            (".", None, None),
        ] {
            let name_wire = Name::parse(name).unwrap();
            let wire = name_wire.as_wire();
            let question = Question { name_len: wire.len(), rtype: 1, class: 1 };
            assert_eq!(place(wire, &question, true), with_prefix, "{name}");
            assert_eq!(place(wire, &question, false), without, "{name}");
            assert_eq!(place(wire, &Question { class: 3, ..question }, true), None, "{name}");
        }
    }

    #[test]
    fn a_label_that_ends_like_a_zone_is_not_within_it() {
        // One label of eleven bytes, the last ten of which spell localhost and its length.
        let name = b"\x0bx\x09localhost\0";
        let question = Question { name_len: name.len(), rtype: 1, class: 1 };
        assert_eq!(place(name, &question, false), None);
    }
}
