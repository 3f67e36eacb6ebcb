//! `file`, `auto` and `secondary`: zones that this server answers for, which a loader has read from
//! zone files or transferred from primaries.
//!
//! All zones of the server block are in one table, so that the longest one is found whatever its
//! stanza. The cache is asked before, as in the reference, and never stores an answer of this
//! stage. Names that do not exist fall through if their stanza says so; the forwarder follows an
//! alias that leaves the zones. Zone transfers that
//! `transfer` does not grant are refused.

use super::{QueryContext, Settings, Stage, Step};
use crate::config::ServerBlock;
use crate::engine::authority::answer::{Ask, Outcome, answer};
use crate::engine::message::reply::ExtendedError;
use crate::engine::message::{Rcode, class, rtype};
use crate::engine::zones::Zones;
use ahash::RandomState;

/// The zones of a server block.
pub(crate) struct OwnZones {
    /// Slot of the table.
    slot: usize,
    /// For each stanza: names that fall through if they do not exist.
    fallthrough: Box<[Zones<()>]>,
}

impl Stage for OwnZones {
    const REARRANGED: bool = true;

    fn new(block: &ServerBlock, hasher: &RandomState, settings: &mut Settings) -> Option<Self> {
        let slot = block.own_zones.as_ref()?.slot;
        settings.own_zones = Some(slot);
        let stages = &block.stages;
        let lists = stages.file.iter().map(|file| &file.fallthrough);
        let lists = lists.chain(stages.auto.zones().map(|auto| &auto.fallthrough));
        let lists = lists.chain(stages.secondary.iter().map(|stanza| &stanza.fallthrough));
        let fallthrough = lists
            .map(|list| Zones::new(hasher.clone(), list.iter().flatten().map(|zone| (zone, ()))));
        Some(Self { slot, fallthrough: fallthrough.collect() })
    }

    fn on_query(&self, context: &mut QueryContext<'_, '_>) -> Option<Step> {
        let question = context.query.question;
        if question.class != class::IN {
            return None;
        }
        let (name, data) = (context.name, context.data);
        let table = data.zones(self.slot);
        let entry = table.zone_match(name, question.rtype)?;
        match question.rtype {
            rtype::AXFR | rtype::IXFR => return Some(Step::Refused(Rcode::Refused, None)),
            rtype::OPT => return Some(Step::Refused(Rcode::FormErr, None)),
            _ => {}
        }
        let ask = Ask {
            name,
            rtype: question.rtype,
            dnssec_ok: context.query.asked.edns.is_some_and(|edns| edns.dnssec_ok),
            minimal: context.settings.minimal,
        };
        let passes = |stanza: u32, name: &_| {
            let zones = self.fallthrough.get(stanza as usize);
            zones.is_some_and(|zones| zones.longest(name).is_some())
        };
        match answer(table, entry, &ask, context.answer(), passes) {
            Outcome::Replied(len) => Some(Step::Replied(len)),
            Outcome::Open(len) => Some(Step::Open(len)),
            Outcome::Passed => None,
            Outcome::NotLoaded => {
                Some(Step::Refused(Rcode::ServFail, Some(ExtendedError::NotReady)))
            }
        }
    }
}
