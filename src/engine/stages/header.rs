//! `header`: changes of header flags.
//!
//! The rules of a block are two pairs of masks, one for upstream queries and one for upstreams'
//! answers to clients. A later rule overrides an earlier one for its flag.

use super::{QueryContext, Settings, Stage, Step};
use crate::config::{HeaderFlag, HeaderRule, ServerBlock};
use crate::engine::message::flags;
use crate::engine::message::reply::Masks;
use ahash::RandomState;

/// The masks are in the settings, because they also apply to upstream queries.
pub(crate) struct Header;

impl Stage for Header {
    fn new(block: &ServerBlock, _: &RandomState, settings: &mut Settings) -> Option<Self> {
        [settings.query_flags, settings.answer_flags] = masks(&block.stages.header);
        (settings.query_flags != Masks::default()).then_some(Self)
    }

    fn on_query(&self, context: &mut QueryContext<'_, '_>) -> Option<Step> {
        let asked = &mut context.query.asked;
        asked.flags = context.settings.query_flags.apply(asked.flags);
        None
    }
}

/// The masks for queries, and for answers.
fn masks(rules: &[HeaderRule]) -> [Masks; 2] {
    let mut masks = [Masks::default(); 2];
    for rule in rules {
        let bit = match rule.flag {
            HeaderFlag::Aa => flags::AA,
            HeaderFlag::Ra => flags::RA,
            HeaderFlag::Rd => flags::RD,
        };
        let Masks { set, clear } = &mut masks[usize::from(rule.response)];
        let (to, from) = if rule.set { (set, clear) } else { (clear, set) };
        *to |= bit;
        *from &= !bit;
    }
    masks
}

#[cfg(test)]
mod tests {
    use super::masks;
    use crate::config::{HeaderFlag, HeaderRule};

    #[test]
    fn the_last_rule_for_a_flag_holds() {
        let rule = |response, set, flag| HeaderRule { response, set, flag };
        let [query, answer] = masks(&[
            rule(false, false, HeaderFlag::Rd),
            rule(true, true, HeaderFlag::Aa),
            rule(true, true, HeaderFlag::Ra),
            rule(true, false, HeaderFlag::Aa),
        ]);
        assert_eq!((query.apply(0x0110), query.apply(0)), (0x0010, 0));
        assert_eq!((answer.apply(0x8500), answer.apply(0x8100)), (0x8180, 0x8180));
    }
}
