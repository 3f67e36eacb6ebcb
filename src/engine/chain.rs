//! A server block's stages, in the order in which a query meets them.
//!
//! Built once from the configuration; the order is the language's and stands in one place, the
//! body of [`Chain::on_query`]: whatever a block does not have is skipped. A stage lets the query
//! go on, changes what its reply will look like, or ends it: answered here, refused, or dropped.
//! What is left is forwarded, which is the forwarder's business, and what nobody forwards comes
//! back to [`Chain::at_end`]. On their way back upstreams' answers are finished as
//! [`Chain::finish`] says and [`Chain::rearrange`] does; `header`, `minimal` and `loadbalance` have
//! no say in replies of our own. The stages themselves know neither each other nor the chain.

use super::exchange::Client;
use super::message::compose::{Composer, write_error};
use super::message::query::Query;
use super::message::reply::{ExtendedError, Finish, Masks};
use super::message::{Rcode, UDP_PAYLOAD_MAX};
use super::stages::{acl, any, chaos, header, loadbalance, local, whoami};
use super::stats::StageStats;
use super::zones::Folded;
use crate::config::{AclAction, Chaos, LoadBalance, Local, Name, QUERY_TIMEOUT, ServerBlock};
use ahash::RandomState;
use std::time::Duration;

/// What a chain makes of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It goes on.
    Onward,
    /// A reply of so many bytes is written.
    Replied(usize),
    /// The client is to be told.
    Refused(Rcode, Option<ExtendedError>),
    /// There is no reply.
    Dropped,
}

/// One server block's stages.
pub struct Chain {
    can_answer: bool,
    nsid: Option<Box<[u8]>>,
    udp_size: u16,
    /// In units of 100 ms.
    keepalive: u16,
    /// What a query may take in all.
    pub budget: Duration,
    local: Option<Local>,
    any: bool,
    chaos: Option<Chaos>,
    loadbalance: Option<LoadBalance>,
    acl: acl::Lists,
    query_flags: Masks,
    answer_flags: Masks,
    minimal: bool,
    /// Below this zone a query is sent that must not come back.
    pub find_loops: Option<Name>,
    whoami: bool,
}

impl Chain {
    /// As `block` says. `idle`: how long its clients' idle streams stay open. `hasher` is keyed.
    pub fn new(block: &ServerBlock, idle: Duration, hasher: &RandomState) -> Self {
        let stages = &block.stages;
        let [query_flags, answer_flags] = header::masks(&stages.header);
        let udp_size = UDP_PAYLOAD_MAX as u16;
        Self {
            can_answer: stages.can_answer() || !block.forwards.is_empty(),
            nsid: stages.nsid.as_ref().map(|name| name.as_bytes().into()),
            udp_size: stages.bufsize.map_or(udp_size, |size| size.min(udp_size)),
            keepalive: u16::try_from(idle.as_millis() / 100).unwrap_or(u16::MAX),
            budget: stages.cancel.map_or(QUERY_TIMEOUT, |timeout| timeout.min(QUERY_TIMEOUT)),
            local: stages.local,
            any: stages.any,
            chaos: stages.chaos.clone(),
            loadbalance: stages.loadbalance.clone(),
            acl: acl::Lists::new(&stages.acl, hasher),
            query_flags,
            answer_flags,
            minimal: stages.minimal,
            find_loops: block.zones.first().filter(|_| stages.find_loops).cloned(),
            whoami: stages.whoami,
        }
    }

    /// What happens to a query before it is forwarded. `name` is its name, `random` draws any
    /// number, `out` is where a reply is written.
    pub fn on_query(
        &self,
        client: &Client,
        query: &mut Query<'_>,
        name: &Folded,
        random: impl FnOnce() -> u32,
        stats: &mut StageStats,
        out: &mut [u8],
    ) -> Step {
        if !self.can_answer {
            return Step::Refused(Rcode::Refused, None);
        }
        if let Some(edns) = &mut query.asked.edns {
            edns.udp_size = edns.udp_size.min(self.udp_size);
        }
        let question = query.question;
        let place = self
            .local
            .and_then(|local| local::place(name.as_bytes(), &question, local.localhost_prefix));
        if let Some(place) = place {
            stats.local += 1;
            return Step::Replied(local::answer(place, &question, self.reply(client, query, out)));
        }
        if self.any && any::wants(&question) {
            stats.any += 1;
            return Step::Replied(any::answer(self.reply(client, query, out), &question));
        }
        if let Some(chaos) = self.chaos.as_ref().filter(|_| chaos::wants(&question)) {
            if !chaos::knows(chaos, name.as_bytes(), &question) {
                stats.chaos_refused += 1;
                return Step::Refused(Rcode::Refused, None);
            }
            stats.chaos += 1;
            let reply = self.reply(client, query, out);
            return Step::Replied(chaos::answer(chaos, name.as_bytes(), random(), reply));
        }
        let step = self.admit(client, query, name, stats, out);
        query.asked.flags = self.query_flags.apply(query.asked.flags);
        step
    }

    /// What `acl` says.
    fn admit(
        &self,
        client: &Client,
        query: &Query<'_>,
        name: &Folded,
        stats: &mut StageStats,
        out: &mut [u8],
    ) -> Step {
        if self.acl.is_empty() {
            return Step::Onward;
        }
        match self.acl.decide(name, query.question.kind, client.peer.ip()) {
            AclAction::Allow => {
                stats.acl_allowed += 1;
                Step::Onward
            }
            AclAction::Block => {
                stats.acl_blocked += 1;
                Step::Refused(Rcode::Refused, Some(ExtendedError::Blocked))
            }
            AclAction::Filter => {
                stats.acl_filtered += 1;
                let (why, question) = (Some(ExtendedError::Filtered), query.question_bytes());
                let (asked, finish) = (&query.asked, self.finish_own());
                Step::Replied(write_error(out, asked, question, Rcode::NoError, why, finish))
            }
            AclAction::Drop => {
                stats.acl_dropped += 1;
                Step::Dropped
            }
        }
    }

    /// What happens to a query that nobody forwards.
    pub fn at_end(
        &self,
        client: &Client,
        query: &Query<'_>,
        stats: &mut StageStats,
        out: &mut [u8],
    ) -> Step {
        if !self.whoami {
            return Step::Refused(Rcode::ServFail, None);
        }
        stats.whoami += 1;
        let reply = self.reply(client, query, out);
        let (peer, transport) = (client.peer, client.transport());
        Step::Replied(whoami::answer(peer, transport, &query.question, reply))
    }

    /// The flags of a query as it goes upstream.
    pub fn query_flags(&self) -> Masks {
        self.query_flags
    }

    /// How replies of our own are finished.
    pub fn finish_own(&self) -> Finish<'_> {
        let nsid = self.nsid.as_deref();
        let (udp_size, keepalive) = (self.udp_size, self.keepalive);
        Finish { udp_size, keepalive, nsid, ..Finish::PLAIN }
    }

    /// How upstreams' answers are finished.
    pub fn finish(&self) -> Finish<'_> {
        Finish { header: self.answer_flags, minimal: self.minimal, ..self.finish_own() }
    }

    /// How what the cache remembers is finished: it was stored as `minimal` would have it.
    pub fn finish_cached(&self) -> Finish<'_> {
        Finish { header: self.answer_flags, ..self.finish_own() }
    }

    /// Lets the addresses in a written answer change places, if that is wanted. `random`: any
    /// number.
    pub fn rearrange(&self, reply: &mut [u8], mut random: impl FnMut() -> u32) {
        if let Some(loadbalance) = &self.loadbalance {
            // A multiplication in place of a division, and no less even.
            let below = |bound: usize| ((u64::from(random()) * bound as u64) >> 32) as usize;
            loadbalance::shuffle(reply, &loadbalance.prefer, below);
        }
    }

    /// A reply of our own, to be composed.
    fn reply<'a>(
        &'a self,
        client: &Client,
        query: &'a Query<'_>,
        out: &'a mut [u8],
    ) -> Composer<'a> {
        let limit = client.stream.map_or(query.asked.udp_limit(), |_| out.len());
        let question = query.question_bytes();
        Composer::new(out, limit, &query.asked, question, self.finish_own(), None)
    }
}
