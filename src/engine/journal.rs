//! What queries leave behind for whoever logs them: pages of records.
//!
//! Where a server block has `log` or `dnstap`, the forwarder puts a record on the open page for
//! each thing that is to be told; the names and messages that belong to it lie behind one another
//! in the page's bytes. The shell takes a page that is half full, or whose first record has waited
//! for [`PAGE_AGE_MAX`], in exchange for an empty one. If there is none, records go on to be put on
//! the page that is open, and what finds no room there is lost and counted. Whether a query is
//! told at all is decided here, too, so one that is not costs next to nothing: its name against
//! the rules of `log`, of which the first that has the name is the only one considered, and then
//! the reply's kind ([`kinds`]) against that rule's classes.

pub mod kinds;

use super::key::Transport;
use super::memory::reserved;
use super::message::query::Asked;
use super::message::{NAME_LEN_MAX, u16_at};
use super::zones::{LowercaseName, Zones};
use crate::config::{Config, LogRule, Name, Stages};
use crate::moment::Moment;
use ahash::RandomState;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Records of a page: at half of them it is time to hand it on, so this is twice a batch that is
/// worth a wake-up of whoever takes it.
pub const RECORDS_MAX: usize = 1_024;
/// Bytes of names and messages of a page: of so many records with long names, or of 200 queries
/// with their answers whole.
pub const BYTES_MAX: usize = 256 * 1_024;
/// How long a record waits on a page that does not fill.
pub const PAGE_AGE_MAX: Duration = Duration::from_millis(20);

/// What a record tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A query has ended, which this rule of its block's `log` wants to be told.
    Ended(u16),
    /// A client has asked.
    ClientQuery,
    /// An upstream is asked.
    ForwarderQuery,
    /// An upstream has answered.
    ForwarderResponse,
    /// A client is answered.
    ClientResponse,
}

/// Where a record's name or message lies in its page's bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    start: u32,
    len: u16,
}

/// The reply to a query, as far as it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replied {
    /// The header's second word.
    pub flags: u16,
    /// The response code of 12 bits.
    pub rcode: u16,
    /// The reply's length.
    pub size: u16,
}

/// Who asked, and what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoggedQuery {
    /// Who; `None`: nobody but us.
    pub peer: Option<SocketAddr>,
    /// The address that was asked.
    pub local: IpAddr,
    /// How.
    pub transport: Transport,
    /// Time of arrival.
    pub since: Moment,
    /// The query's length.
    pub size: u16,
    /// Its id, flags and EDNS.
    pub asked: Asked,
    /// The type that it asks for.
    pub rtype: u16,
    /// The class.
    pub class: u16,
}

/// Values of labels for a query that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Labels {
    /// The upstream that was asked last, if one was.
    pub upstream: Option<SocketAddr>,
    /// Outcome of the reply.
    pub outcome: kinds::ResponseType,
}

/// One thing that is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// What.
    pub event: Event,
    /// Of a query in this server block.
    pub block: u32,
    /// Time when
    pub at: Moment,
    /// Of this query.
    pub asking: LoggedQuery,
    /// The upstream, how and when it was asked, if it is about one.
    pub upstream: Option<(SocketAddr, Transport, Moment)>,
    /// The reply, if there is one.
    pub reply: Option<Replied>,
    /// Values of labels, if a format reads them and the query has ended.
    pub labels: Option<Labels>,
    /// The name that was asked for, in wire format.
    pub name: Span,
    /// The message that it is about; empty where nobody wants it.
    pub message: Span,
}

/// Records, and what belongs to them. Its memory is reserved once.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// In the order in which things happened.
    pub records: Vec<Record>,
    bytes: Vec<u8>,
    /// Lines of the log that found no room since the page before.
    pub log_lost: u64,
    /// The same of `dnstap`.
    pub tap_lost: u64,
}

impl Page {
    /// An empty page.
    pub fn new() -> Self {
        let (records, bytes) = (Vec::with_capacity(RECORDS_MAX), Vec::with_capacity(BYTES_MAX));
        Self { records, bytes, ..Self::default() }
    }

    /// Returns the bytes at `span`, which is of one of the records.
    pub fn bytes(&self, span: Span) -> &[u8] {
        let start = span.start as usize;
        &self.bytes[start..start + usize::from(span.len)]
    }

    /// Puts a record on it, with its name and message. False: there is no room, it is lost.
    pub fn push(&mut self, mut record: Record, name: &[u8], message: &[u8]) -> bool {
        let is_long = self.bytes.len() + name.len() + message.len() > self.bytes.capacity();
        if is_long || self.records.len() == self.records.capacity() {
            match record.event {
                Event::Ended(_) => self.log_lost += 1,
                _ => self.tap_lost += 1,
            }
            return false;
        }
        record.name = self.add(name);
        record.message = self.add(message);
        self.records.push(record);
        true
    }

    fn add(&mut self, bytes: &[u8]) -> Span {
        let span = Span { start: self.bytes.len() as u32, len: bytes.len() as u16 };
        self.bytes.extend_from_slice(bytes);
        span
    }

    /// Nothing is on it any more.
    pub fn clear(&mut self) {
        self.records.clear();
        self.bytes.clear();
        (self.log_lost, self.tap_lost) = (0, 0);
    }

    /// Returns true if anything is told by it.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.log_lost == 0 && self.tap_lost == 0
    }

    fn is_half_full(&self) -> bool {
        2 * self.records.len() >= self.records.capacity()
            || 2 * self.bytes.len() >= self.bytes.capacity()
    }

    /// The bytes that one has reserved.
    pub const fn reserved() -> usize {
        RECORDS_MAX * size_of::<Record>() + BYTES_MAX
    }
}

/// A rule of `log`.
struct Rule {
    /// `None`: all names.
    names: Option<Zones<()>>,
    kinds: u8,
}

impl Rule {
    fn new(rule: &LogRule, hasher: &RandomState) -> Self {
        let rtype = |class: &&str| match *class {
            "success" => kinds::SUCCESS,
            "denial" => kinds::DENIAL,
            "error" => kinds::ERROR,
            _ => kinds::ALL,
        };
        let kinds = rule.classes.iter().map(rtype).fold(0, |all, rtype| all | rtype);
        let names = || Zones::new(hasher.clone(), rule.names.iter().map(|name| (name, ())));
        let all = rule.names.contains(&Name::root());
        Self { names: (!all).then(names), kinds }
    }
}

/// What of a server block's queries is told.
#[derive(Default)]
struct Wishes {
    rules: Vec<Rule>,
    /// Somebody is sent what is said, the messages themselves too.
    taps: Option<bool>,
    /// Somebody reads labels.
    labels: bool,
}

/// The open page of one worker, and what is to be put on it.
#[derive(Default)]
pub struct Journal {
    /// True if a server block wants anything told.
    wanted: Vec<bool>,
    wishes: Vec<Wishes>,
    /// The addresses of the shell's listeners.
    locals: Vec<IpAddr>,
    page: Page,
}

impl Journal {
    /// Of what `config` wants, in which the shell's listeners have these numbers.
    pub fn new(config: &Config, listeners: &[Option<usize>], hasher: &RandomState) -> Self {
        let blocks = config.blocks.iter().map(|block| &block.stages);
        let wishes = blocks.map(|stages| Wishes {
            rules: stages.log.iter().map(|rule| Rule::new(rule, hasher)).collect(),
            taps: stages.dnstap.iter().map(|tap| tap.full).reduce(|one, other| one || other),
            labels: stages.metadata.is_some() && reads_labels(stages),
        });
        let wishes: Vec<_> = wishes.collect();
        let wants = |wishes: &Wishes| !wishes.rules.is_empty() || wishes.taps.is_some();
        let wanted = wishes.iter().map(wants).collect();
        let local = |listener: &Option<usize>| {
            let listener = listener.and_then(|number| config.listeners.get(number));
            listener.map_or(Ipv4Addr::UNSPECIFIED.into(), |listener| listener.address.ip())
        };
        let locals = listeners.iter().map(local).collect();
        let page = if is_kept(config) { Page::new() } else { Page::default() };
        Self { wanted, wishes, locals, page }
    }

    /// Goes by `new`, whose page is empty and which is left with what holds no longer.
    pub fn reload(&mut self, new: &mut Self) {
        std::mem::swap(&mut self.wanted, &mut new.wanted);
        std::mem::swap(&mut self.wishes, &mut new.wishes);
        std::mem::swap(&mut self.locals, &mut new.locals);
        if self.page.records.capacity() == 0 {
            std::mem::swap(&mut self.page, &mut new.page);
        }
    }

    /// Returns true if anything of this server block's queries is told.
    #[inline]
    pub fn wants(&self, block: usize) -> bool {
        self.wanted.get(block).is_some_and(|wanted| *wanted)
    }

    /// Returns true if somebody is sent what is said in this server block; true: with the messages.
    pub fn taps(&self, block: usize) -> Option<bool> {
        self.wishes.get(block)?.taps
    }

    /// Returns true if somebody reads labels of queries of this server block.
    pub fn reads_labels(&self, block: usize) -> bool {
        self.wishes.get(block).is_some_and(|wishes| wishes.labels)
    }

    /// Returns the rule of this server block's `log` for `name`, and the kinds of replies it
    /// wants.
    pub fn rule(&self, block: usize, name: &[u8]) -> Option<(u16, u8)> {
        let rules = &self.wishes.get(block)?.rules;
        let mut folded = None;
        let number = rules.iter().position(|rule| {
            let Some(names) = &rule.names else { return true };
            names.longest(folded.get_or_insert_with(|| LowercaseName::new(name))).is_some()
        })?;
        Some((number as u16, rules[number].kinds))
    }

    /// The address of the shell's listener with this number.
    pub fn local(&self, listener: u16) -> IpAddr {
        self.locals.get(usize::from(listener)).copied().unwrap_or(Ipv4Addr::UNSPECIFIED.into())
    }

    /// Puts a record on the page. False: it is lost.
    pub fn push(&mut self, record: Record, name: &[u8], message: &[u8]) -> bool {
        debug_assert!(name.len() <= NAME_LEN_MAX);
        self.page.push(record, name, message)
    }

    /// Returns the instant at which the page should be taken; in the past if it is half full.
    pub fn due(&self) -> Option<Moment> {
        let first = self.page.records.first()?;
        Some(if self.page.is_half_full() { Moment::ZERO } else { first.at.plus(PAGE_AGE_MAX) })
    }

    /// Takes the page in exchange for one that is empty, or puts it back.
    pub fn swap(&mut self, page: &mut Page) {
        std::mem::swap(&mut self.page, page);
    }

    /// The bytes that are reserved.
    pub fn reserved(&self) -> usize {
        let page = reserved(&self.page.records) + self.page.bytes.capacity();
        page + reserved(&self.wishes) + self.wanted.capacity() + reserved(&self.locals)
    }
}

/// Returns true if a format of `log` or `dnstap` has a label.
fn reads_labels(stages: &Stages) -> bool {
    let formats = stages.log.iter().map(|rule| &rule.format);
    let extras = stages.dnstap.iter().filter_map(|tap| tap.extra.as_ref());
    formats.chain(extras).any(|format| format.contains("{/"))
}

/// Returns true if anything is told under `config`: then there are pages.
pub fn is_kept(config: &Config) -> bool {
    let wants = |block: &crate::config::ServerBlock| {
        !block.stages.log.is_empty() || !block.stages.dnstap.is_empty()
    };
    config.blocks.iter().any(wants)
}

/// A reply that we wrote, with this response code of 12 bits, as it is told.
pub fn replied(reply: &[u8], rcode: u16) -> Replied {
    Replied { flags: u16_at(reply, 2).unwrap_or(0), rcode, size: reply.len() as u16 }
}

#[cfg(test)]
mod tests;
