//! A server block's stages, in the order in which a query meets them.
//!
//! Built once from the configuration. The order is that of the table `order` in `config::stages`,
//! and here it becomes code: a field and a test a stage, so that whatever a block does not have is
//! skipped. A stage lets the query go on, changes what its reply will look like, or ends
//! it: answered here, refused, or dropped. What is left is forwarded, which is the forwarder's
//! business, and what nobody forwards comes back to [`Chain::at_end`]. On their way back upstreams'
//! answers are finished as [`Chain::finish`] says and [`Chain::rearrange`] does; `header`,
//! `minimal` and `loadbalance` have no say in replies of our own, save those of stages that ask
//! for it. The stages themselves know neither each other nor the chain.

use super::data::Data;
use super::exchange::Client;
use super::message::Rcode;
use super::message::query::Query;
use super::message::reply::{Finish, Masks};
use super::rewrite::Rules;
use super::stages::template::{TemplateStats, Templates};
use super::stages::{self, QueryContext, Settings, Stage, Step};
use super::stats::StageStats;
use super::zones::LowercaseName;
use crate::config::{ServerBlock, order};
use ahash::RandomState;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::Rng;
use std::sync::Arc;
use std::time::Duration;

macro_rules! chain {
    ($(
        $(#[$doc:meta])*
        $name:literal $field:ident: $told:ty $(, $answers:ident)?
        $(=> $module:ident::$Stage:ident)?;
    )*) => {
        /// The rows of the table, in its order.
        #[allow(non_camel_case_types, dead_code)]
        #[derive(Clone, Copy)]
        enum Row {
            $($field,)*
        }

        /// The stages that a block has.
        struct Present {
            $($($module: Option<stages::$module::$Stage>,)?)*
        }

        impl Present {
            fn new(block: &ServerBlock, hasher: &RandomState, settings: &mut Settings) -> Self {
                Self { $($($module: stages::$module::$Stage::new(block, hasher, settings),)?)* }
            }

            /// Has the stages of the rows from `FIRST` up to but not including `END` look at a
            /// query.
            #[inline]
            fn on_query<const FIRST: usize, const END: usize>(
                &self,
                context: &mut QueryContext<'_, '_>,
                stats: &mut StageStats,
            ) -> Step {
                $($(
                    let stage: Option<&stages::$module::$Stage> = self.$module.as_ref();
                    let row = Row::$module as usize;
                    if FIRST <= row && row < END
                        && let Some(step) =
                            stage.and_then(|stage| stage.on_query(&mut context.again()))
                        && stats.$module.count(step) != Step::Continue
                    {
                        if let (true, Step::Replied(len) | Step::Open(len)) =
                            (stages::$module::$Stage::REARRANGED, step)
                        {
                            let QueryContext { random, out, .. } = context;
                            self.rearrange(&mut out[..len], || random.next_u32());
                        }
                        return step;
                    }
                )?)*
                Step::Continue
            }

            /// Returns true if the block has a stage of the rows from `FIRST` up to but not
            /// including `END`.
            fn has<const FIRST: usize, const END: usize>(&self) -> bool {
                $($(
                    let row = Row::$module as usize;
                    let stage: &Option<stages::$module::$Stage> = &self.$module;
                    if FIRST <= row && row < END && stage.is_some() {
                        return true;
                    }
                )?)*
                false
            }

            fn at_end(
                &self,
                context: &mut QueryContext<'_, '_>,
                stats: &mut StageStats,
            ) -> Option<Step> {
                $($(
                    let stage: Option<&stages::$module::$Stage> = self.$module.as_ref();
                    if let Some(step) = stage.and_then(|stage| stage.at_end(&mut context.again())) {
                        return Some(stats.$module.count(step));
                    }
                )?)*
                None
            }

            fn rearrange(&self, reply: &mut [u8], mut random: impl FnMut() -> u32) {
                $($(
                    let stage: Option<&stages::$module::$Stage> = self.$module.as_ref();
                    stage.inspect(|stage| stage.rearrange(reply, &mut random));
                )?)*
            }
        }
    };
}
order!(chain);

/// Places where the sides of the table begin, and where the last one ends.
const FIRST: usize = 0;
/// Behind `dns64`, which sees the replies to queries that it parks.
const BEHIND_DNS64: usize = Row::dns64 as usize + 1;
const REWRITE: usize = Row::rewrite as usize;
const CACHE: usize = Row::cache as usize;
const END: usize = usize::MAX;

/// Part of the table of stages, by place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Stages before `rewrite`: they see the question of the client.
    AsAsked,
    /// The part of them behind `dns64`, for a query that it has parked.
    BehindDns64,
    /// Stages between `rewrite` and `cache`.
    BeforeCache,
    /// Stages after `cache`: they see queries that the cache cannot answer.
    AfterCache,
}

/// One server block's stages.
pub struct Chain {
    can_answer: bool,
    /// Sides on which there is a stage, by number; the first also where all queries are refused.
    sides: [bool; 4],
    /// As all stages together left them.
    pub settings: Settings,
    /// The block's rules of `rewrite`, if it has any.
    pub rules: Option<Arc<Rules>>,
    present: Present,
}

impl Chain {
    /// As `block` says. `idle`: how long its clients' idle connections stay open. `hasher` is
    /// keyed.
    pub fn new(block: &ServerBlock, idle: Duration, hasher: &RandomState) -> Self {
        let can_answer = block.stages.can_answer() || !block.forwards.is_empty();
        let mut settings = Settings::new(idle);
        let present = Present::new(block, hasher, &mut settings);
        let rules = Rules::new(block);
        let sides = [
            present.has::<FIRST, REWRITE>() || !can_answer,
            present.has::<BEHIND_DNS64, REWRITE>(),
            present.has::<REWRITE, CACHE>(),
            present.has::<CACHE, END>(),
        ];
        Self { can_answer, sides, settings, rules, present }
    }

    /// Returns true if queries may have to wait for the answers to others.
    pub fn parks(&self) -> bool {
        self.settings.dns64.is_some()
            || self.settings.own_zones.is_some()
            || self.rules.as_ref().is_some_and(|rules| rules.may_change_targets())
            || self.present.template.as_ref().is_some_and(Templates::may_leave_aliases)
    }

    /// Returns true if a stage on this side looks at queries.
    #[inline]
    pub fn looks(&self, side: Side) -> bool {
        self.sides[side as usize]
    }

    /// Returns what the stages on one `side` make of a query. `name` is its name, `data` what was
    /// loaded,
    /// `random` draws any number, `out` is where a reply is written.
    pub fn on_query(
        &self,
        side: Side,
        client: &Client,
        query: &mut Query<'_>,
        (name, data): (&LowercaseName, &Data),
        (random, stats): (&mut ChaCha12Rng, &mut StageStats),
        out: &mut [u8],
    ) -> Step {
        if !self.can_answer {
            return Step::Refused(Rcode::Refused, None);
        }
        let (peer, transport, settings) = (&client.peer, client.transport(), &self.settings);
        let mut context =
            QueryContext { peer, transport, query, name, settings, data, random, out };
        match side {
            Side::AsAsked => self.present.on_query::<FIRST, REWRITE>(&mut context, stats),
            Side::BehindDns64 => {
                self.present.on_query::<BEHIND_DNS64, REWRITE>(&mut context, stats)
            }
            Side::BeforeCache => self.present.on_query::<REWRITE, CACHE>(&mut context, stats),
            Side::AfterCache => self.present.on_query::<CACHE, END>(&mut context, stats),
        }
    }

    /// Returns the outcome of a query that is not forwarded.
    pub fn at_end(
        &self,
        client: &Client,
        query: &mut Query<'_>,
        (name, data): (&LowercaseName, &Data),
        random: &mut ChaCha12Rng,
        stats: &mut StageStats,
        out: &mut [u8],
    ) -> Step {
        let (peer, transport, settings) = (&client.peer, client.transport(), &self.settings);
        let mut context =
            QueryContext { peer, transport, query, name, settings, data, random, out };
        let step = self.present.at_end(&mut context, stats);
        // A server of zones has no duty to know others; for any other block it is a mistake.
        let rcode =
            if self.settings.own_zones.is_some() { Rcode::Refused } else { Rcode::ServFail };
        step.unwrap_or(Step::Refused(rcode, None))
    }

    /// The counters of its templates, in their order.
    pub fn template_stats(&self) -> impl Iterator<Item = TemplateStats> {
        self.present.template.iter().flat_map(Templates::stats)
    }

    /// The flags of a query as it goes upstream.
    pub fn query_flags(&self) -> Masks {
        self.settings.query_flags
    }

    /// Returns the finish of replies of our own.
    pub fn finish_own(&self) -> Finish<'_> {
        self.settings.finish_own()
    }

    /// Returns the finish of upstreams' answers.
    pub fn finish(&self) -> Finish<'_> {
        Finish { minimal: self.settings.minimal, ..self.finish_cached() }
    }

    /// Returns how what the cache remembers is finished: it was stored as `minimal` would have it.
    pub fn finish_cached(&self) -> Finish<'_> {
        Finish { header: self.settings.answer_flags, ..self.finish_own() }
    }

    /// Lets the records in a written answer change places, if that is wanted. `random`: any
    /// number.
    pub fn rearrange(&self, reply: &mut [u8], random: impl FnMut() -> u32) {
        self.present.rearrange(reply, random);
    }
}
