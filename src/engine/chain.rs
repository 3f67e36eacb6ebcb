//! A server block's stages, in the order in which a query meets them.
//!
//! Built once from the configuration; the order is the language's and stands in one place, the
//! body of [`Chain::on_query`]: whatever a block does not have is skipped. A stage lets the query
//! go on, changes what its reply will look like, or ends it: answered here, refused, or dropped.
//! What is left is forwarded, which is the forwarder's business, and what nobody forwards comes
//! back to [`Chain::at_end`]. The stages themselves know neither each other nor the chain.

use super::exchange::Client;
use super::message::Rcode;
use super::message::compose::Composer;
use super::message::query::Query;
use super::message::reply::{ExtendedError, Finish};
use super::stages::any;
use super::stats::StageStats;
use crate::config::ServerBlock;

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
    any: bool,
}

impl Chain {
    /// As `block` says.
    pub fn new(block: &ServerBlock) -> Self {
        let stages = &block.stages;
        let can_answer = stages.can_answer() || !block.forwards.is_empty();
        Self { can_answer, any: stages.any }
    }

    /// What happens to a query before it is forwarded. `out`: where a reply is written.
    pub fn on_query(
        &self,
        client: &Client,
        query: &mut Query<'_>,
        stats: &mut StageStats,
        out: &mut [u8],
    ) -> Step {
        if !self.can_answer {
            return Step::Refused(Rcode::Refused, None);
        }
        let question = query.question;
        if self.any && any::wants(&question) {
            stats.any += 1;
            return Step::Replied(any::answer(self.composer(client, query, out), &question));
        }
        Step::Onward
    }

    /// What happens to a query that nobody forwards.
    pub fn at_end(&self) -> Step {
        Step::Refused(Rcode::ServFail, None)
    }

    /// How replies are finished.
    pub fn finish(&self) -> Finish<'_> {
        Finish::PLAIN
    }

    fn composer<'a>(
        &'a self,
        client: &Client,
        query: &'a Query<'_>,
        out: &'a mut [u8],
    ) -> Composer<'a> {
        let limit = client.stream.map_or(query.asked.udp_limit(), |_| out.len());
        Composer::new(out, limit, &query.asked, query.question_bytes(), self.finish(), None)
    }
}
