//! The small stages of a server block's chain, one file each. PURE.
//!
//! A stage is a small struct that inspects a question, a client's address or a finished reply, and
//! knows neither the chain nor other stages nor upstreams. It allocates, formats and counts nothing
//! per query. Its interface is the trait [`Stage`], whose calls are resolved at compile time.
//!
//! # Adding a plugin
//!
//! A plugin is a file for its settings, a file for its behaviour, a row of the table, and a section
//! of the documentation. Take `any`, which answers queries for every type with one record:
//!
//! 1. **Its settings.** `config/stages/any.rs` has two functions. `read` takes the directive's
//!    words from a cursor and returns its settings, or an error at the invalid word; it depends on
//!    nothing but the cursor and the context, so that a test can read the directive alone. `write`
//!    writes the settings with every default, so that reading them again gives the same settings.
//!    `any` has no arguments, so its settings are a `bool`; a directive with arguments has a type
//!    of its own, as `local`, which `config/stages/mod.rs` and `config/mod.rs` export.
//! 2. **Its behaviour.** `engine/stages/any.rs`, here, has a type that implements [`Stage`].
//!    [`Stage::new`] takes its settings from the block: [`any::Any`] only its presence,
//!    [`acl::Lists`] the networks, which it sorts. [`Stage::on_query`] returns `None` for queries
//!    that do not concern it; otherwise it writes the reply with a [`Composer`], which handles
//!    sizes and EDNS, and returns a [`Step`]. A stage that changes all replies of its block, or all
//!    upstream queries, changes [`Settings`] in `new`, as [`minimal`]; one that reorders records
//!    has [`Stage::rearrange`], as [`loadbalance`]; one that answers queries without a matching
//!    `forward` has [`Stage::at_end`], as [`whoami`].
//! 3. **Its place.** The table `order` in `config/stages/mod.rs` has one row for each plugin, in
//!    the order in which a query passes them:
//!
//!    ```text
//!    /// Queries for every type are answered here.
//!    "any" any: bool, answers => any::Any;
//!    ```
//!
//!    The row adds a reader for the directive, a field to [`crate::config::Stages`], a test to the
//!    [`Chain`](crate::engine::chain::Chain), counters of the stage's results to
//!    [`StageStats`](crate::engine::stats::StageStats), and the plugin's name to the metrics and to
//!    error messages. Nothing else compares the name: reading, printing and the plugin of an error
//!    take the row. A `mod` line above the table, and one here, name the files. The order of the
//!    rows is that of [`DIRECTIVES`](crate::corefile::DIRECTIVES); a name that is not in there has
//!    to be added first. Without a row, the directive is refused as not supported.
//! 4. **The documentation.** A section in `tuning/COREFILE.md`, with what differs from the
//!    reference and why; the name in the README's row about the Corefile; a line in `CHANGELOG.md`.
//!
//! The tests are: golden cases in `tests/corefile/stages/NAME.txt` for valid, invalid and printed
//! settings, with a row for the directive in `tests/README.md`; a line in the property of
//! `tests/corefile/main.rs`; unit tests in its own file; and `tests/engine/stages/NAME.rs`, which
//! runs it in an engine. If a case of `several.txt` uses the directive as an unsupported one, it
//! needs another.
//!
//! Parts that need more than one query are elsewhere: time, upstreams, answers to further queries
//! ([`Step::Open`], [`Step::Park`]) and memory of its own (`cache`, `loop`) in the forwarder, the
//! restoring of questions in replies (`rewrite`) in the forwarder too, data loaded at run time
//! (`hosts`) in `loader`, counters of its own (`template`) in
//! [`Stats`](crate::engine::stats::Stats) and a file of `admin/metrics`. Further modules of the
//! engine that a stage uses are listed in `tests/tidy.rs`.

pub(crate) mod acl;
pub(crate) mod any;
pub(crate) mod bufsize;
pub(crate) mod cancel;
pub(crate) mod chaos;
pub(crate) mod dns64;
pub(crate) mod dnssec;
pub(crate) mod erratic;
pub(crate) mod file;
pub(crate) mod header;
pub(crate) mod hosts;
pub(crate) mod loadbalance;
pub(crate) mod local;
pub(crate) mod loops;
pub(crate) mod minimal;
pub(crate) mod nsid;
pub(crate) mod ratelimit;
pub(crate) mod special;
pub(crate) mod template;
pub(crate) mod transfer;
pub(crate) mod tsig;
pub(crate) mod whoami;

use super::data::Data;
use super::dnssec::OnlineSigner;
use super::key::Transport;
use super::message::compose::Composer;
use super::message::query::Query;
use super::message::reply::{ExtendedError, Finish, Masks};
use super::message::{Rcode, UDP_PAYLOAD_MAX};
use super::tsig::Keys;
use super::zones::LowercaseName;
use crate::config::{Name, QUERY_TIMEOUT, ServerBlock};
use ahash::RandomState;
use rand_chacha::ChaCha12Rng;
use special::SpecialNames;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Interface of a stage of a server block. All methods except [`Stage::new`] are called for the
/// stages that the block has, in the order of the table; by default they do nothing.
pub(crate) trait Stage: Sized {
    /// True if its replies are reordered like upstreams' answers.
    const REARRANGED: bool = false;

    /// Creates the stage for `block`, and changes the block's `settings`; `None` if no query needs
    /// the stage. `hasher` is keyed.
    fn new(block: &ServerBlock, hasher: &RandomState, settings: &mut Settings) -> Option<Self>;

    /// Returns the result for a query before it is forwarded; `None`: the query does not concern
    /// this stage.
    fn on_query(&self, _: &mut QueryContext<'_, '_>) -> Option<Step> {
        None
    }

    /// Returns the result for a query that is not forwarded.
    fn at_end(&self, _: &mut QueryContext<'_, '_>) -> Option<Step> {
        None
    }

    /// Reorders records in a written reply: an upstream's answer, or that of a stage with
    /// [`Stage::REARRANGED`]. `random` returns any number.
    fn rearrange(&self, _reply: &mut [u8], _random: &mut impl FnMut() -> u32) {}
}

/// Result of a stage for a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The query continues to the next stage.
    Continue,
    /// A reply of this length is written.
    Replied(usize),
    /// A reply of this length is written that may end with an alias: the target of the alias is
    /// looked up and its records appended.
    Open(usize),
    /// The query continues to the next stage, and this stage gets the reply before the client.
    Park,
    /// The client gets the whole zone that it asks for.
    Transfer,
    /// A reply of this length is written; it is sent after this number of microseconds.
    Later(u16, u32),
    /// The client gets this error.
    Refused(Rcode, Option<ExtendedError>),
    /// There is no reply.
    Dropped,
    /// There is no reply, because the client exceeds its limit.
    Limited,
}

/// Settings that apply to all queries of a server block; its stages change them once.
pub(crate) struct Settings {
    /// The server's identifier for clients that ask for NSID.
    pub(crate) nsid: Option<Box<[u8]>>,
    /// The advertised UDP payload size.
    pub(crate) udp_size: u16,
    /// Time for which an idle connection stays open, in units of 100 ms.
    pub(crate) keepalive: u16,
    /// Maximum time of a query.
    pub(crate) budget: Duration,
    /// Changes to the flags of upstream queries.
    pub(crate) query_flags: Masks,
    /// Changes to the flags of upstreams' answers.
    pub(crate) answer_flags: Masks,
    /// Positive answers lose the authority and additional sections.
    pub(crate) minimal: bool,
    /// Synthesis of AAAA records from A records.
    pub(crate) dns64: Option<Arc<dns64::Synthesis>>,
    /// Zone of the probe queries that detect forwarding loops.
    pub(crate) find_loops: Option<Name>,
    /// Zone transfers are passed to the stages, unless they would be forwarded.
    pub(crate) transfers: bool,
    /// A stage grants or refuses transfers of own zones.
    pub(crate) zone_transfers: bool,
    /// Slot of the block's hosts table.
    pub(crate) hosts: Option<usize>,
    /// Slot of the zones that this block serves.
    pub(crate) own_zones: Option<usize>,
    /// Names that are not forwarded by a stanza for all names.
    pub(crate) special_names: Option<Arc<SpecialNames>>,
    /// Keys that sign replies.
    pub(crate) dnssec: Option<Arc<OnlineSigner>>,
    /// Keys of signed messages.
    pub(crate) tsig: Option<Arc<Keys>>,
}

impl Settings {
    /// Lets the forwarder answer special-use names, unless `block` is for them.
    fn keep_special_names(&mut self, block: &ServerBlock, hasher: &RandomState) {
        self.special_names = Some(Arc::new(SpecialNames::new(block, hasher)));
    }

    /// Returns the defaults, before any stage has changed them. `idle`: time-out of clients' idle
    /// connections.
    pub(crate) fn new(idle: Duration) -> Self {
        Self {
            nsid: None,
            udp_size: UDP_PAYLOAD_MAX as u16,
            keepalive: u16::try_from(idle.as_millis() / 100).unwrap_or(u16::MAX),
            budget: QUERY_TIMEOUT,
            query_flags: Masks::default(),
            answer_flags: Masks::default(),
            minimal: false,
            dns64: None,
            find_loops: None,
            transfers: false,
            zone_transfers: false,
            hosts: None,
            own_zones: None,
            special_names: None,
            dnssec: None,
            tsig: None,
        }
    }

    /// Returns the finish of replies of our own.
    pub(crate) fn finish_own(&self) -> Finish<'_> {
        let nsid = self.nsid.as_deref();
        let (udp_size, keepalive) = (self.udp_size, self.keepalive);
        Finish { udp_size, keepalive, nsid, ..Finish::PLAIN }
    }
}

/// A query at a stage, with the means to answer it.
pub(crate) struct QueryContext<'a, 'q> {
    /// Address of the client.
    pub(crate) peer: &'a SocketAddr,
    /// Transport of the client.
    pub(crate) transport: Transport,
    pub(crate) query: &'a mut Query<'q>,
    /// The QNAME.
    pub(crate) name: &'a LowercaseName,
    /// The settings of its server block.
    pub(crate) settings: &'a Settings,
    /// Data that loaders have loaded.
    pub(crate) data: &'a Data,
    /// Source of random numbers.
    pub(crate) random: &'a mut ChaCha12Rng,
    /// Buffer for a reply.
    pub(crate) out: &'a mut [u8],
}

impl<'q> QueryContext<'_, 'q> {
    /// Returns a context for one more stage. Built only for stages that a block has, so that others
    /// cost no more than a test.
    #[inline]
    pub(crate) fn again(&mut self) -> QueryContext<'_, 'q> {
        let Self { peer, transport, query, name, settings, data, random, out } = self;
        let (peer, transport) = (*peer, *transport);
        QueryContext { peer, transport, query, name, settings, data, random, out }
    }

    /// Begins a reply of our own.
    pub(crate) fn reply(&mut self) -> Composer<'_> {
        self.reply_with(None)
    }

    /// Begins a reply to which `header` applies, for stages behind it in the chain.
    pub(crate) fn answer(&mut self) -> Composer<'_> {
        let header = self.settings.answer_flags;
        self.compose(Finish { header, ..self.settings.finish_own() }, None)
    }

    /// Begins a reply of our own with an extended error.
    pub(crate) fn reply_with(&mut self, why: Option<ExtendedError>) -> Composer<'_> {
        self.compose(self.settings.finish_own(), why)
    }

    fn compose<'s>(&'s mut self, finish: Finish<'s>, why: Option<ExtendedError>) -> Composer<'s> {
        let limit = match self.transport {
            Transport::Udp => self.query.asked.udp_limit(),
            Transport::Tcp => self.out.len(),
        };
        let (asked, question) = (&self.query.asked, self.query.question_bytes());
        Composer::new(self.out, limit, asked, question, finish, why)
    }
}
