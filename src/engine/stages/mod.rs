//! The small stages of a server block's chain, one file each. PURE.
//!
//! A stage is a small struct that looks at a question, a client's address or a finished reply, and
//! knows nothing of the chain, of other stages or of upstreams. Nothing is allocated, formatted or
//! counted in it per query. What it can do is the trait [`Stage`], whose calls are all known when
//! the program is built: no table of functions is followed per query.
//!
//! # Adding a plugin
//!
//! A plugin is a file for its settings, a file for what it does, a row of the table, and a section
//! of the documentation. Take `any`, which answers queries for every type with one record:
//!
//! 1. **Its settings.** `config/stages/any.rs` has two functions. `read` takes the directive's
//!    words from a cursor and returns its settings, or an error at the word that is wrong; it looks
//!    at nothing but the cursor and the context, so that a test can read the directive alone.
//!    `write` writes the settings with every default, so that reading them again gives the same.
//!    `any` has no arguments, so its settings are a `bool`; a directive with arguments has a type
//!    of its own, as `local`, which `config/stages/mod.rs` and `config/mod.rs` export.
//! 2. **What it does.** `engine/stages/any.rs`, here, has a type that implements [`Stage`].
//!    [`Stage::new`] takes from the block what is needed; for [`any::Any`] that is whether it is
//!    there, for [`acl::Lists`] the networks, sorted. [`Stage::on_query`] looks at the question and
//!    says `None` if it is not for it; otherwise it writes the reply with a [`Composer`], which
//!    knows about sizes and EDNS, and says so with a [`Step`]. A stage that changes how all replies
//!    of its block look, or what goes upstream for them, changes [`Settings`] in `new`, as
//!    [`minimal`]; one that moves records has [`Stage::rearrange`], as [`loadbalance`]; one that
//!    answers what nobody forwards has [`Stage::at_end`], as [`whoami`].
//! 3. **Where it stands.** The table `order` in `config/stages/mod.rs` has one row for each, in the
//!    order in which a query meets them:
//!
//!    ```text
//!    /// Queries for every type are answered here.
//!    "any" any: bool, answers => any::Any;
//!    ```
//!
//!    It gives the directive a reader, [`crate::config::Stages`] a field, the
//!    [`Chain`](crate::engine::chain::Chain) a test at this place,
//!    [`StageStats`](crate::engine::stats::StageStats) counters of what became of the queries that
//!    the stage had a say in, and its name to the metrics and to the errors that say which plugin
//!    failed. A `mod` line above it, and one here, name the files. The order of the rows is that of
//!    the language, [`DIRECTIVES`](crate::corefile::DIRECTIVES), where a name that is not among
//!    them has to be put first. Until the row is there, the directive is refused as not supported.
//! 4. **The documentation.** A section in `tuning/COREFILE.md`, with what differs from the
//!    reference and why; the name in the README's row about the Corefile; a line in `CHANGELOG.md`.
//!
//! And tests: golden cases in `tests/corefile/stages/NAME.txt` for what is read, refused and
//! written, with a row for the directive in `tests/README.md`; a line in the property of
//! `tests/corefile/main.rs`; unit tests in its own file; and `tests/engine/stages/NAME.rs` that
//! shows it at work. A case of `several.txt` that has the directive refused as not supported takes
//! another one.
//!
//! A stage that needs more than its block's queries does that part elsewhere: time, upstreams,
//! answers to further queries ([`Step::Open`], [`Step::Park`]) or
//! memory of its own (`cache`, `loop`) in the forwarder, what puts replies back as they were asked
//! for (`rewrite`) in the chain, data loaded while onward runs (`hosts`) in `loader`, counters of
//! its own (`template`) in [`Stats`](crate::engine::stats::Stats) and a file of `admin/metrics`.
//! Other leaves of the engine that it names are a row of `tests/tidy.rs`.

pub mod acl;
pub mod any;
pub mod bufsize;
pub mod cancel;
pub mod chaos;
pub mod dns64;
pub mod erratic;
pub mod file;
pub mod header;
pub mod hosts;
pub mod loadbalance;
pub mod local;
pub mod loops;
pub mod minimal;
pub mod nsid;
pub mod template;
pub mod tsig;
pub mod whoami;

use super::data::Data;
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
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Interface of a stage of a server block. Each method but the first is called for the stages that
/// the block has, in the order of the table, and does nothing unless a stage implements it.
pub trait Stage: Sized {
    /// Records of its replies may change places as those of an upstream's answer may.
    const REARRANGED: bool = false;

    /// As `block` says: changes the block's settings, and returns what meets its queries; `None`
    /// if nothing does. `hasher` is keyed.
    fn new(block: &ServerBlock, hasher: &RandomState, settings: &mut Settings) -> Option<Self>;

    /// Returns the outcome of a query before it is forwarded. `None`: it is no business of this
    /// stage.
    fn on_query(&self, _: &mut QueryContext<'_, '_>) -> Option<Step> {
        None
    }

    /// Returns the outcome of a query that is not forwarded.
    fn at_end(&self, _: &mut QueryContext<'_, '_>) -> Option<Step> {
        None
    }

    /// Lets records of an upstream's answer, or of a stage's that is [`Stage::REARRANGED`], change
    /// places as they are written. `random`: any
    /// number.
    fn rearrange(&self, _reply: &mut [u8], _random: &mut impl FnMut() -> u32) {}
}

/// Result of a stage for a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The query continues to the next stage.
    Continue,
    /// A reply of so many bytes is written.
    Replied(usize),
    /// The same, of which the end may be open: where its last alias leads is looked up for the
    /// type that was asked for, and appended.
    Open(usize),
    /// The query goes on, and the stage sees the reply to it before the client does.
    Park,
    /// A reply of so many bytes is written, which leaves only after so many microseconds.
    Later(u16, u32),
    /// The client is to be told.
    Refused(Rcode, Option<ExtendedError>),
    /// There is no reply.
    Dropped,
}

/// Settings that apply to all queries of a server block; its stages change them once.
pub struct Settings {
    /// The name that clients get who ask which server answers.
    pub nsid: Option<Box<[u8]>>,
    /// The UDP payload that is advertised.
    pub udp_size: u16,
    /// Time for which an idle connection stays open, in units of 100 ms.
    pub keepalive: u16,
    /// Maximum time of a query.
    pub budget: Duration,
    /// The flags of queries as they go upstream.
    pub query_flags: Masks,
    /// The flags of upstreams' answers.
    pub answer_flags: Masks,
    /// Positive answers are stripped of what was not asked for.
    pub minimal: bool,
    /// How IPv6 addresses are made of IPv4 addresses.
    pub dns64: Option<Arc<dns64::Synthesis>>,
    /// Below this zone a query is sent that must not come back.
    pub find_loops: Option<Name>,
    /// Zone transfers are for the stages, unless they would be forwarded.
    pub transfers: bool,
    /// Slot of the zones that are answered here.
    pub own_zones: Option<usize>,
    /// Keys of signed messages.
    pub tsig: Option<Arc<Keys>>,
}

impl Settings {
    /// Before any stage has changed them. `idle`: how long clients' idle connections stay open.
    pub fn new(idle: Duration) -> Self {
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
            own_zones: None,
            tsig: None,
        }
    }

    /// Returns the finish of replies of our own.
    pub fn finish_own(&self) -> Finish<'_> {
        let nsid = self.nsid.as_deref();
        let (udp_size, keepalive) = (self.udp_size, self.keepalive);
        Finish { udp_size, keepalive, nsid, ..Finish::PLAIN }
    }
}

/// A query at a stage, and what it takes to answer it.
pub struct QueryContext<'a, 'q> {
    /// Address of the client.
    pub peer: &'a SocketAddr,
    /// Transport of the client.
    pub transport: Transport,
    /// The query.
    pub query: &'a mut Query<'q>,
    /// The QNAME.
    pub name: &'a LowercaseName,
    /// The settings of its server block.
    pub settings: &'a Settings,
    /// Data that loaders have loaded.
    pub data: &'a Data,
    /// Draws any number.
    pub random: &'a mut ChaCha12Rng,
    /// Buffer for a reply.
    pub out: &'a mut [u8],
}

impl<'q> QueryContext<'_, 'q> {
    /// The same for one more stage. Put together only for a stage that is there, so that one that
    /// is not costs no more than the test for it.
    #[inline]
    pub fn again(&mut self) -> QueryContext<'_, 'q> {
        let Self { peer, transport, query, name, settings, data, random, out } = self;
        let (peer, transport) = (*peer, *transport);
        QueryContext { peer, transport, query, name, settings, data, random, out }
    }

    /// A reply of our own, to be composed.
    pub fn reply(&mut self) -> Composer<'_> {
        self.reply_with(None)
    }

    /// The same for stages behind `header` in the chain, which has a say in it.
    pub fn answer(&mut self) -> Composer<'_> {
        let header = self.settings.answer_flags;
        self.compose(Finish { header, ..self.settings.finish_own() }, None)
    }

    /// A reply of our own with an extended error.
    pub fn reply_with(&mut self, why: Option<ExtendedError>) -> Composer<'_> {
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
