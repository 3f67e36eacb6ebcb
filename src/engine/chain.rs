//! A server block's stages, in the order in which a query meets them.
//!
//! A chain is built once from the configuration, in the order of the table `order` in
//! `config::stages`. A macro turns the table into one field and one test for each stage, so that
//! stages a block does not have cost one test. A stage passes the query on, changes the form of its
//! reply, or ends it: answered, refused or dropped. The forwarder forwards the remaining queries;
//! those without a matching `forward` come to [`Chain::at_end`]. Upstreams' answers get the flags
//! of [`Chain::finish`] and the order of [`Chain::rearrange`]; `header`, `minimal` and
//! `loadbalance` do not apply to replies of our own, except those of stages that request it. The
//! stages know neither each other nor the chain.

use super::data::Data;
use super::dnssec::OnlineSigner;
use super::exchange::Client;
use super::message::Rcode;
use super::message::query::Query;
use super::message::reply::{Finish, Masks};
use super::rewrite::Rules;
use super::stages::template::{TemplateStats, Templates};
use super::stages::{self, QueryContext, Settings, Stage, Step};
use super::stats::StageStats;
use super::zones::LowercaseName;
use crate::config::{Plugin, ServerBlock, order};
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
        /// The stages that a block has.
        struct Present {
            $($($module: Option<stages::$module::$Stage>,)?)*
        }

        impl Present {
            fn new(block: &ServerBlock, hasher: &RandomState, settings: &mut Settings) -> Self {
                Self { $($($module: stages::$module::$Stage::new(block, hasher, settings),)?)* }
            }

            /// Passes a query through the stages of the rows from `FIRST` up to but not including
            /// `END`.
            #[inline]
            fn on_query<const FIRST: usize, const END: usize>(
                &self,
                context: &mut QueryContext<'_, '_>,
                stats: &mut StageStats,
            ) -> Step {
                $($(
                    let stage: Option<&stages::$module::$Stage> = self.$module.as_ref();
                    let row = Plugin::$module as usize;
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
                    let row = Plugin::$module as usize;
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

/// Rows at which the sides of the table begin, and the end of the last one.
const FIRST: usize = 0;
/// The row behind `dns64`, where queries that it has parked continue.
const BEHIND_DNS64: usize = Plugin::dns64 as usize + 1;
const REWRITE: usize = Plugin::rewrite as usize;
const CACHE: usize = Plugin::cache as usize;
const END: usize = usize::MAX;

/// Part of the table of stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Stages before `rewrite`, which see the question of the client.
    AsAsked,
    /// Stages between `dns64` and `rewrite`, for a query that `dns64` has parked.
    BehindDns64,
    /// Stages between `rewrite` and `cache`.
    BeforeCache,
    /// Stages after `cache`, which see queries that the cache cannot answer.
    AfterCache,
}

/// One server block's stages.
pub(crate) struct Chain {
    can_answer: bool,
    /// True for sides with a stage, by number; also for the first if all queries are refused.
    sides: [bool; 4],
    /// The settings, changed by all stages.
    pub(crate) settings: Settings,
    /// The block's rules of `rewrite`, if it has any.
    pub(crate) rules: Option<Arc<Rules>>,
    present: Present,
}

impl Chain {
    /// Builds the chain of `block`. `idle`: time-out of its clients' idle connections. `hasher` is
    /// keyed.
    pub(crate) fn new(block: &ServerBlock, idle: Duration, hasher: &RandomState) -> Self {
        let can_answer = block.stages.can_answer() || !block.forwards.is_empty();
        let mut settings = Settings::new(idle);
        let present = Present::new(block, hasher, &mut settings);
        let rules = Rules::new(block);
        let sides = [
            present.has::<FIRST, REWRITE>() || !can_answer,
            present.has::<BEHIND_DNS64, REWRITE>(),
            present.has::<REWRITE, CACHE>() || settings.dnssec.is_some(),
            present.has::<CACHE, END>(),
        ];
        Self { can_answer, sides, settings, rules, present }
    }

    /// Returns true if queries may be parked.
    pub(crate) fn parks(&self) -> bool {
        self.settings.dns64.is_some()
            || self.settings.dnssec.is_some()
            || self.settings.own_zones.is_some()
            || self.rules.as_ref().is_some_and(|rules| rules.may_change_targets())
            || self.present.template.as_ref().is_some_and(Templates::may_leave_aliases)
    }

    /// Returns the maximum length of signatures of replies; 0: there are none.
    pub(crate) fn signature_len(&self) -> usize {
        self.settings.dnssec.as_ref().map_or(0, |signer| signer.signature_len())
    }

    /// Returns true if queries are charged to their clients.
    pub(crate) fn limits_queries(&self) -> bool {
        self.present.ratelimit.is_some()
    }

    /// Returns true if there is a stage on this side.
    #[inline]
    pub(crate) fn looks(&self, side: Side) -> bool {
        self.sides[side as usize]
    }

    /// Passes a query through the stages on one `side` and returns the result. `name` is its
    /// lower-cased name, `data` comes from loaders, and a reply is written into `out`.
    pub(crate) fn on_query(
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
            Side::BeforeCache => {
                let step = self.present.on_query::<REWRITE, CACHE>(&mut context, stats);
                let signs = |signer: &Arc<OnlineSigner>| signer.covers(name, context.query);
                match step {
                    // What the cache, later stages and upstreams answer is signed.
                    Step::Continue if settings.dnssec.as_ref().is_some_and(signs) => Step::Park,
                    step => step,
                }
            }
            Side::AfterCache => self.present.on_query::<CACHE, END>(&mut context, stats),
        }
    }

    /// Returns the result for a query that is not forwarded.
    pub(crate) fn at_end(
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
        // For an authoritative block, the name is in no zone of its own; for any other, nothing is
        // configured to answer it.
        let rcode =
            if self.settings.own_zones.is_some() { Rcode::Refused } else { Rcode::ServFail };
        step.unwrap_or(Step::Refused(rcode, None))
    }

    /// Returns the counters of its templates, in order.
    pub(crate) fn template_stats(&self) -> impl Iterator<Item = TemplateStats> {
        self.present.template.iter().flat_map(Templates::stats)
    }

    /// Returns the changes to the flags of upstream queries.
    pub(crate) fn query_flags(&self) -> Masks {
        self.settings.query_flags
    }

    /// Returns the finish of replies of our own.
    pub(crate) fn finish_own(&self) -> Finish<'_> {
        self.settings.finish_own()
    }

    /// Returns the finish of upstreams' responses.
    pub(crate) fn finish(&self) -> Finish<'_> {
        Finish { minimal: self.settings.minimal, ..self.finish_cached() }
    }

    /// Returns the finish of cached answers; `minimal` was applied when they were stored.
    pub(crate) fn finish_cached(&self) -> Finish<'_> {
        Finish { header: self.settings.answer_flags, ..self.finish_own() }
    }

    /// Reorders the records of a written answer, if a stage does that. `random` returns any number.
    pub(crate) fn rearrange(&self, reply: &mut [u8], random: impl FnMut() -> u32) {
        self.present.rearrange(reply, random);
    }
}
