//! The upstream query of a client's query, before there is an exchange for it.
//!
//! Owns the buffer in which an upstream query is written. Its bytes and hash decide whether the
//! same query is outstanding already; if not, the new exchange copies them. Clients' queries,
//! refreshes of the cache and probes for loops begin here.

use crate::config::LetterCase;
use crate::engine::chain::Chain;
use crate::engine::exchange::Opening;
use crate::engine::key::Transport;
use crate::engine::message::opt::OPT_LEN;
use crate::engine::message::query::{Query, UPSTREAM_LEN_MAX};
use crate::engine::message::{HEADER_LEN, put_u16, u16_at};
use crate::engine::routes::Routes;
use crate::engine::zones::LowercaseName;
use ahash::RandomState;

/// Server block and stanza of a query that is forwarded.
pub(super) struct Route {
    pub(super) block: usize,
    /// Number under which the query is counted.
    pub(super) label_set: u32,
    pub(super) stanza: usize,
    /// Transport of the client.
    pub(super) transport: Transport,
    /// True if the outcome is stored in the block's cache.
    pub(super) cacheable: bool,
}

/// The buffer of the upstream query that is being written.
pub(super) struct Drafts {
    bytes: [u8; UPSTREAM_LEN_MAX],
    hasher: RandomState,
}

impl Drafts {
    /// Creates the buffer. `hasher` is keyed.
    pub(super) fn new(hasher: RandomState) -> Self {
        Self { bytes: [0; UPSTREAM_LEN_MAX], hasher }
    }

    /// Writes the upstream query for `query`, whose name is `name`, and returns the parameters of
    /// its exchange. `set`: header flags that are set in addition to the client's.
    pub(super) fn write(
        &mut self,
        query: &Query<'_>,
        name: &LowercaseName,
        route: &Route,
        set: u16,
        routes: &mut Routes,
        chains: &[Chain],
    ) -> Opening<'_> {
        let chain = &chains[route.block];
        let len = query.write_upstream(&mut self.bytes, chain.finish_own().udp_size);
        let word = u16_at(&self.bytes, 2).unwrap_or(0) | set;
        put_u16(&mut self.bytes, 2, chain.query_flags().apply(word));
        let draft = &self.bytes[..len];
        let hash = hash_of(&self.hasher, name, draft, route.stanza);
        let stanza = routes.stanza(route.stanza);
        Opening {
            query: draft,
            name_len: query.question.name_len,
            hash,
            stanza: route.stanza as u32,
            transport: stanza.transport(route.transport),
            timeout_class: stanza.timeout_class,
            budget: chain.settings.budget,
            cacheable: route.cacheable,
            randomizes: stanza.letter_case != LetterCase::Off,
        }
    }
}

/// Returns the hash of an upstream query, without letter case, and of its stanza. The length of its
/// options is left out because each attempt rewrites it.
pub(super) fn hash_of(
    hasher: &RandomState,
    name: &LowercaseName,
    query: &[u8],
    stanza: usize,
) -> u32 {
    let name_end = HEADER_LEN + name.as_bytes().len();
    let opt_len = name_end + 4 + OPT_LEN - 2;
    let (flags, fixed, options) = (&query[2..4], &query[name_end..opt_len], &query[opt_len + 2..]);
    hasher.hash_one((name.as_bytes(), flags, fixed, options, stanza)) as u32
}
