//! `loop`: detection of forwarding loops.
//!
//! At the start, and after each reload, one query with an unpredictable name is sent to the block's
//! own upstreams. If it is received again while it is young, there is a forwarding loop. Older
//! names are ignored, because they may have been read from a log by then.

use super::{Settings, Stage};
use crate::config::{Name, ServerBlock};
use crate::engine::message::{HEADER_LEN, NAME_LEN_MAX, Question, class, flags, put_u16, rtype};
use crate::moment::Moment;
use ahash::RandomState;
use std::time::Duration;

/// A stage without queries: only its settings are used.
pub(crate) enum Loops {}

impl Stage for Loops {
    fn new(block: &ServerBlock, _: &RandomState, settings: &mut Settings) -> Option<Self> {
        let zone = block.zones().next();
        settings.find_loops = zone.filter(|_| block.stages.loops).cloned();
        None
    }
}

/// Maximum age of a probe, with all its attempts and those of later hops.
const YOUNG: Duration = Duration::from_secs(10);
/// Maximum length of a probe.
pub(crate) const PROBE_LEN_MAX: usize = HEADER_LEN + NAME_LEN_MAX + 4;

/// Probe of one server block, which must not come back.
pub(crate) struct Probe {
    /// QNAME in wire format and lower case.
    name: Box<[u8]>,
    until: Moment,
}

impl Probe {
    /// A probe below `zone`. `nonce`: an unpredictable number; `block`: the block's number, so that
    /// names differ. Returns `None` if the zone leaves no room for a label.
    pub(crate) fn new(zone: &Name, nonce: u64, block: usize, now: Moment) -> Option<Self> {
        let label = format!("loop-{nonce:016x}-{block}");
        let name = [&[label.len() as u8], label.as_bytes(), zone.as_wire()].concat();
        let fits = name.len() <= NAME_LEN_MAX;
        fits.then(|| Self { name: name.into(), until: now.plus(YOUNG) })
    }

    /// Writes the query as a client would ask it and returns its length.
    pub(crate) fn write(&self, out: &mut [u8; PROBE_LEN_MAX]) -> usize {
        for (index, word) in [0, flags::RD, 1, 0, 0, 0].into_iter().enumerate() {
            put_u16(out, 2 * index, word);
        }
        let end = HEADER_LEN + self.name.len();
        out[HEADER_LEN..end].copy_from_slice(&self.name);
        put_u16(out, end, rtype::HINFO);
        put_u16(out, end + 2, class::IN);
        end + 4
    }

    /// Returns true if a received question is this probe; `name` is lower-cased.
    pub(crate) fn is_back(&self, now: Moment, name: &[u8], question: &Question) -> bool {
        question.rtype == rtype::HINFO && now < self.until && *name == *self.name
    }
}

#[cfg(test)]
mod tests {
    use super::{PROBE_LEN_MAX, Probe};
    use crate::config::Name;
    use crate::engine::message::query::Query;
    use crate::moment::Moment;
    use std::time::Duration;

    #[test]
    fn a_probe_is_known_by_its_name_while_it_is_young() {
        let zone = Name::parse("example.org").unwrap();
        let probe = Probe::new(&zone, 0xabc, 7, Moment::ZERO).unwrap();
        let mut out = [0; PROBE_LEN_MAX];
        let len = probe.write(&mut out);
        let query = Query::parse(&out[..len], false).unwrap();
        let (name, question) = (query.name(), query.question);
        assert_eq!(name, b"\x17loop-0000000000000abc-7\x07example\x03org\0");
        let seconds = |count| Moment::ZERO.plus(Duration::from_secs(count));
        assert!(probe.is_back(seconds(9), name, &question));
        assert!(!probe.is_back(seconds(10), name, &question));
        let other = Probe::new(&zone, 0xabc, 8, Moment::ZERO).unwrap();
        assert!(!other.is_back(seconds(0), name, &question));
        let mut other = question;
        other.rtype = 1;
        assert!(!probe.is_back(seconds(0), name, &other));
    }

    #[test]
    fn a_zone_without_room_for_a_label_has_no_probe() {
        let longest = "a.".repeat(127);
        assert!(Probe::new(&Name::parse(&longest).unwrap(), 1, 0, Moment::ZERO).is_none());
    }
}
