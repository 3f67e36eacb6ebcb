//! Records of queries for `log` and `dnstap`, collected in pages.
//!
//! The forwarder adds a record to the open page for each event; its name and message are appended
//! to the page's bytes. The shell takes a page that is half full, or whose first record has waited
//! for [`PAGE_AGE_MAX`], in exchange for an empty one. Without an empty one the open page stays in
//! use, and records that find no room are lost and counted. The decision to log a query is made
//! here, too, so a query without a record costs almost nothing: its name is matched against the
//! rules of `log`, of which only the first that matches counts, and then the reply's kind
//! ([`kinds`]) against that rule's classes.

pub mod kinds;

use super::key::{Transport, Way};
use super::memory::reserved;
use super::message::query::Asked;
use super::message::{NAME_LEN_MAX, u16_at};
use super::zones::{LowercaseName, Zones};
use crate::config::{Config, LogRule, Name, Protocol, ServerBlock, Stages};
use crate::moment::Moment;
use ahash::RandomState;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Maximum number of records of a page. A page is taken at half of them, so this is twice a batch
/// that is worth a wake-up of the logger.
pub const RECORDS_MAX: usize = 1_024;
/// Maximum length of names and messages of a page: those of all records with long names, or of 200
/// queries with their whole answers.
pub(crate) const BYTES_MAX: usize = 256 * 1_024;
/// Address and protocol of a listener that has been removed.
const NO_LISTENER: (IpAddr, Protocol) = (IpAddr::V4(Ipv4Addr::UNSPECIFIED), Protocol::Dns);
/// Maximum time that a record waits on a page that does not fill.
pub const PAGE_AGE_MAX: Duration = Duration::from_millis(20);

/// Event of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A query has ended that matches this rule of its block's `log`.
    Ended(u16),
    /// A client has sent a query.
    ClientQuery,
    /// A query is sent to an upstream.
    ForwarderQuery,
    /// An upstream has responded.
    ForwarderResponse,
    /// A client gets a reply.
    ClientResponse,
}

/// Position of a record's name or message in its page's bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    start: u32,
    len: u16,
}

/// Logged fields of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replied {
    /// The header's second word.
    pub flags: u16,
    /// The response code of 12 bits.
    pub rcode: u16,
    /// Length of the reply.
    pub size: u16,
}

/// Logged fields of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoggedQuery {
    /// Address of the client; `None`: the query is our own.
    pub peer: Option<SocketAddr>,
    /// Destination address.
    pub local: IpAddr,
    /// Transport of the query.
    pub transport: Transport,
    /// Protocol of the listener that received it.
    pub protocol: Protocol,
    /// Time of arrival.
    pub since: Moment,
    /// Length of the query.
    pub size: u16,
    /// Id, flags and EDNS.
    pub asked: Asked,
    /// QTYPE.
    pub rtype: u16,
    /// QCLASS.
    pub class: u16,
}

/// Values of labels for a query that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Labels {
    /// Last upstream, if there was one.
    pub upstream: Option<SocketAddr>,
    /// Outcome of the reply.
    pub outcome: kinds::ResponseType,
}

/// Record of one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Event.
    pub event: Event,
    /// Number of the server block.
    pub block: u32,
    /// Time of the event.
    pub at: Moment,
    /// The query.
    pub asking: LoggedQuery,
    /// Upstream, way to it and time of the attempt, for events of upstreams.
    pub upstream: Option<(SocketAddr, Way, Moment)>,
    /// The reply, if there is one.
    pub reply: Option<Replied>,
    /// Values of labels, if a format reads them and the query has ended.
    pub labels: Option<Labels>,
    /// QNAME in wire format.
    pub name: Span,
    /// The message; empty if it is not logged.
    pub message: Span,
}

/// Records with their bytes. The memory is reserved once.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Records in the order of the events.
    pub records: Vec<Record>,
    bytes: Vec<u8>,
    /// Number of lines of the query log that were lost since the page before.
    pub log_lost: u64,
    /// Number of messages of `dnstap` that were lost.
    pub tap_lost: u64,
}

impl Page {
    /// An empty page.
    pub fn new() -> Self {
        let (records, bytes) = (Vec::with_capacity(RECORDS_MAX), Vec::with_capacity(BYTES_MAX));
        Self { records, bytes, ..Self::default() }
    }

    /// Returns the bytes at `span`, which belongs to one of the records.
    pub fn bytes(&self, span: Span) -> &[u8] {
        let start = span.start as usize;
        &self.bytes[start..start + usize::from(span.len)]
    }

    /// Adds a record with its name and message. Returns false if there is no room and it is lost.
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

    /// Removes all contents.
    pub fn clear(&mut self) {
        self.records.clear();
        self.bytes.clear();
        (self.log_lost, self.tap_lost) = (0, 0);
    }

    fn is_half_full(&self) -> bool {
        2 * self.records.len() >= self.records.capacity()
            || 2 * self.bytes.len() >= self.bytes.capacity()
    }

    /// Returns the reserved memory of a page in bytes.
    pub(crate) const fn reserved() -> usize {
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

/// Logging settings of a server block.
#[derive(Default)]
struct Wishes {
    rules: Vec<Rule>,
    /// Set if `dnstap` is used; true: with the whole messages.
    taps: Option<bool>,
    /// True if a format reads labels.
    labels: bool,
}

/// Open page of one worker, and the settings of its server blocks.
#[derive(Default)]
pub(crate) struct Journal {
    /// True for each server block with `log` or `dnstap`, or with limits of replies, which are
    /// charged where replies are recorded.
    wanted: Vec<bool>,
    wishes: Vec<Wishes>,
    /// Addresses of the shell's listeners.
    listeners: Vec<(IpAddr, Protocol)>,
    page: Page,
}

impl Journal {
    /// The journal for `config`. `listeners`: number in the configuration of each of the shell's.
    pub(crate) fn new(config: &Config, listeners: &[Option<usize>], hasher: &RandomState) -> Self {
        let blocks = config.blocks.iter().map(|block| &block.stages);
        let wishes = blocks.map(|stages| Wishes {
            rules: stages.log.iter().map(|rule| Rule::new(rule, hasher)).collect(),
            taps: stages.dnstap.iter().map(|tap| tap.full).reduce(|one, other| one || other),
            labels: stages.metadata.is_some() && reads_labels(stages),
        });
        let wishes: Vec<_> = wishes.collect();
        let wants = |wishes: &Wishes| !wishes.rules.is_empty() || wishes.taps.is_some();
        let limits = config.blocks.iter().map(|block| block.rate_limit().is_some());
        let wanted = wishes.iter().map(wants).zip(limits).map(|(wants, limits)| wants || limits);
        let wanted = wanted.collect();
        let known = |listener: &Option<usize>| {
            let listener = listener.and_then(|number| config.listeners.get(number));
            listener.map_or(NO_LISTENER, |listener| (listener.address.ip(), listener.protocol))
        };
        let listeners = listeners.iter().map(known).collect();
        let page = if is_kept(config) { Page::new() } else { Page::default() };
        Self { wanted, wishes, listeners, page }
    }

    /// Adopts the settings of `new`, whose page is empty and which is left with the old ones.
    pub(crate) fn reload(&mut self, new: &mut Self) {
        std::mem::swap(&mut self.wanted, &mut new.wanted);
        std::mem::swap(&mut self.wishes, &mut new.wishes);
        std::mem::swap(&mut self.listeners, &mut new.listeners);
        if self.page.records.capacity() == 0 {
            std::mem::swap(&mut self.page, &mut new.page);
        }
    }

    /// Returns true if this server block has `log` or `dnstap`, or limits of clients.
    #[inline]
    pub(crate) fn wants(&self, block: usize) -> bool {
        self.wanted.get(block).is_some_and(|wanted| *wanted)
    }

    /// Returns the `dnstap` setting of this server block; true: with the whole messages.
    pub(crate) fn taps(&self, block: usize) -> Option<bool> {
        self.wishes.get(block)?.taps
    }

    /// Returns true if a format of this server block reads labels.
    pub(crate) fn reads_labels(&self, block: usize) -> bool {
        self.wishes.get(block).is_some_and(|wishes| wishes.labels)
    }

    /// Returns the rule of this server block's `log` for `name`, and the kinds of replies that it
    /// logs.
    pub(crate) fn rule(&self, block: usize, name: &[u8]) -> Option<(u16, u8)> {
        let rules = &self.wishes.get(block)?.rules;
        let mut folded = None;
        let number = rules.iter().position(|rule| {
            let Some(names) = &rule.names else { return true };
            names.longest(folded.get_or_insert_with(|| LowercaseName::new(name))).is_some()
        })?;
        Some((number as u16, rules[number].kinds))
    }

    /// Returns the address of the shell's listener with this number.
    pub(crate) fn local(&self, listener: u16) -> IpAddr {
        self.listener(listener).0
    }

    /// Returns the protocol of this listener.
    pub(crate) fn protocol(&self, listener: u16) -> Protocol {
        self.listener(listener).1
    }

    fn listener(&self, number: u16) -> (IpAddr, Protocol) {
        self.listeners.get(usize::from(number)).copied().unwrap_or(NO_LISTENER)
    }

    /// Adds a record to the page. Returns false if it is lost.
    pub(crate) fn push(&mut self, record: Record, name: &[u8], message: &[u8]) -> bool {
        debug_assert!(name.len() <= NAME_LEN_MAX);
        self.page.push(record, name, message)
    }

    /// Returns the time at which the page should be taken; in the past if it is half full.
    pub(crate) fn due(&self) -> Option<Moment> {
        let first = self.page.records.first()?;
        Some(if self.page.is_half_full() { Moment::ZERO } else { first.at.plus(PAGE_AGE_MAX) })
    }

    /// Exchanges the page for an empty one, or puts it back.
    pub(crate) fn swap(&mut self, page: &mut Page) {
        std::mem::swap(&mut self.page, page);
    }

    /// Returns the reserved memory in bytes.
    pub(crate) fn reserved(&self) -> usize {
        let page = reserved(&self.page.records) + self.page.bytes.capacity();
        page + reserved(&self.wishes) + self.wanted.capacity() + reserved(&self.listeners)
    }
}

/// Returns true if a format of `log` or `dnstap` reads a label.
fn reads_labels(stages: &Stages) -> bool {
    let formats = stages.log.iter().map(|rule| &rule.format);
    let extras = stages.dnstap.iter().filter_map(|tap| tap.extra.as_ref());
    formats.chain(extras).any(|format| format.contains("{/"))
}

/// Returns true if `config` needs pages.
pub(crate) fn is_kept(config: &Config) -> bool {
    let wants =
        |block: &ServerBlock| !block.stages.log.is_empty() || !block.stages.dnstap.is_empty();
    config.blocks.iter().any(wants)
}

/// Returns the logged fields of a reply of ours with this response code of 12 bits.
pub(crate) fn replied(reply: &[u8], rcode: u16) -> Replied {
    Replied { flags: u16_at(reply, 2).unwrap_or(0), rcode, size: reply.len() as u16 }
}

#[cfg(test)]
mod tests;
