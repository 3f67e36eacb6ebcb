//! Counters of queries and replies by server block, zone and address. PURE.
//!
//! A [`LabelSet`] is a zone at a listener; queries outside all zones of a listener have one of
//! their own. Only server blocks with `prometheus` have label sets, and their number is limited: a
//! million zones must not become a million series, so those beyond [`LABEL_SETS_MAX`] share the
//! last. The response times of each upstream, by response code, are here as well. All are plain
//! fields of a worker, which hands out copies. A reload that renumbers label sets moves their
//! counters.

use super::histogram::{Coarse, Latency, Sizes, add_each};
use super::key::Transport;
use super::memory::reserved_boxes;
use super::message::rcode::{RCODES, place_of_rcode};
use super::message::rtype;
use super::stats::StageCounts;
use crate::config::{Config, Name, Protocol};
use ahash::RandomState;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

/// Maximum number of separate label sets. At two kilobytes each, all of them take two megabytes per
/// worker.
pub const LABEL_SETS_MAX: usize = 1_024;
/// No label set: nothing is counted.
pub(crate) const NOWHERE: u32 = u32::MAX;

/// Types with separate counters, in the order of the counters; one more counter is for all others.
/// A, AAAA, CNAME, DNSKEY, DS, MX, NSEC, NSEC3, NS, PTR, RRSIG, SOA, SRV, TXT, HTTPS, SVCB and the
/// query types IXFR, AXFR, ANY.
pub(crate) const RTYPES: [u16; 19] =
    [1, 28, 5, 48, 43, 15, 47, 50, 2, 12, 46, 6, 33, 16, 65, 64, 251, 252, 255];

/// A zone at a listener.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LabelSet {
    /// Address and protocol of the listener; `None`: all label sets beyond the maximum.
    pub server: Option<(SocketAddr, Protocol)>,
    /// The zone; `None`: queries outside all zones.
    pub zone: Option<Name>,
    /// Number of the server block.
    pub block: Option<usize>,
    /// Name of the block's view; empty without one.
    pub(crate) view: Box<str>,
}

impl LabelSet {
    /// Returns the labels, which identify it after a reload; block numbers may change.
    fn key(&self) -> (&Option<(SocketAddr, Protocol)>, &Option<Name>, &str) {
        (&self.server, &self.zone, &self.view)
    }
}

/// Label sets of a configuration, numbered.
#[derive(Clone, Debug, Default)]
pub struct LabelSets {
    /// The label sets, by number.
    pub label_sets: Vec<LabelSet>,
    /// For each listener of the configuration: the number for queries outside all zones, and the
    /// numbers of its zones.
    numbers: Vec<(u32, Vec<u32>)>,
}

impl LabelSets {
    /// Label sets of `config`: none unless a block has `prometheus`.
    pub fn of(config: &Config) -> Self {
        let mut all = Self::default();
        if !config.is_measured() {
            return all;
        }
        for listener in &config.listeners {
            let server = Some((listener.address, listener.protocol));
            let dropped = all.number(LabelSet { server, ..LabelSet::default() });
            let zones = listener.zones.iter().map(|(zone, block)| {
                if !config.blocks[*block].is_measured() {
                    return NOWHERE;
                }
                let view = config.blocks[*block].stages.view.as_ref();
                let view = view.map_or("", |view| &view.name).into();
                all.number(LabelSet { server, zone: Some(zone.clone()), block: Some(*block), view })
            });
            let zones = zones.collect();
            all.numbers.push((dropped, zones));
        }
        all
    }

    /// Returns the number for queries outside all zones of this listener of the configuration.
    pub(crate) fn dropped(&self, listener: usize) -> u32 {
        self.numbers.get(listener).map_or(NOWHERE, |numbers| numbers.0)
    }

    /// Returns the number for this zone of the listener.
    pub(crate) fn zone(&self, listener: usize, zone: usize) -> u32 {
        self.numbers.get(listener).map_or(NOWHERE, |numbers| numbers.1[zone])
    }

    fn number(&mut self, label_set: LabelSet) -> u32 {
        match LABEL_SETS_MAX - self.label_sets.len() {
            0 => {}
            1 => self.label_sets.push(LabelSet::default()),
            _ => self.label_sets.push(label_set),
        }
        self.label_sets.len() as u32 - 1
    }
}

/// Counted properties of a query.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CountedQuery {
    /// Transport of the query.
    pub(crate) transport: Transport,
    /// True if the client has an IPv6 address.
    pub(crate) is_ipv6: bool,
    /// QTYPE.
    pub(crate) rtype: u16,
    /// The DO bit is set.
    pub(crate) dnssec_ok: bool,
    /// Length in bytes.
    pub(crate) len: usize,
}

/// Counted properties of a query's outcome.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CountedReply {
    /// Transport of the query.
    pub(crate) transport: Transport,
    /// Time from the query's arrival to its reply.
    pub(crate) took: Duration,
    /// Response code of the reply, of 12 bits.
    pub(crate) rcode: u16,
    /// Length of the reply; zero if there is no reply.
    pub(crate) len: usize,
    /// True if the chain answered, false if the reply is an error of our own.
    pub(crate) answered: bool,
}

impl CountedReply {
    /// Outcome of a query that was dropped on purpose.
    pub(crate) fn unanswered(transport: Transport) -> Self {
        Self { transport, took: Duration::ZERO, rcode: 0, len: 0, answered: false }
    }
}

/// Codes of DNS over QUIC and statuses of HTTP with separate counters; one more counter is for all
/// others.
pub(crate) const STATUSES: [u16; 16] =
    [0, 2, 4, 5, 200, 400, 404, 405, 413, 414, 415, 431, 500, 501, 503, 505];

/// The counters of one label set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Queries by transport, address family (IPv4 first) and place in [`RTYPES`].
    pub requests: [[[u64; RTYPES.len() + 1]; 2]; 2],
    /// Queries that want DNSSEC records.
    pub(crate) dnssec_ok: u64,
    /// Sizes of queries, by transport.
    pub request_sizes: [Sizes; 2],
    /// Sizes of replies, by transport.
    pub response_sizes: [Sizes; 2],
    /// Time from queries to their replies.
    pub durations: Latency,
    /// Counters of access lists.
    pub acl: StageCounts,
    /// Replies with addresses synthesised by `dns64`.
    pub translated: u64,
    /// Replies of the chain, by response code.
    pub answered: [u64; RCODES],
    /// Replies that are errors of our own, and queries dropped on purpose (code 0).
    pub failed: [u64; RCODES],
    /// Responses of HTTP and QUIC, by place in [`STATUSES`].
    pub http: [u64; STATUSES.len() + 1],
}

impl Tally {
    /// Adds the counts of `other`.
    pub(crate) fn merge(&mut self, other: &Self) {
        let requests = self.requests.as_flattened_mut().as_flattened_mut();
        let others = other.requests.as_flattened().as_flattened();
        add_each(requests, others);
        self.dnssec_ok += other.dnssec_ok;
        for way in 0..2 {
            self.request_sizes[way].merge(&other.request_sizes[way]);
            self.response_sizes[way].merge(&other.response_sizes[way]);
        }
        self.durations.merge(&other.durations);
        self.acl.add(&other.acl);
        self.translated += other.translated;
        add_each(&mut self.answered, &other.answered);
        add_each(&mut self.failed, &other.failed);
        add_each(&mut self.http, &other.http);
    }
}

/// Response times of one upstream, by response code.
pub(crate) type Answers = [Coarse; RCODES];

/// A worker's counters of all label sets and upstreams.
#[derive(Clone, Debug, Default)]
pub struct Tallies {
    /// Label set of each element of [`Tallies::counts`].
    pub label_sets: Vec<LabelSet>,
    /// Counters by label set; boxed, because a reload renumbers them.
    pub counts: Vec<Box<Tally>>,
    /// Response times by upstream, boxed as well; empty if no block has `prometheus`.
    pub upstreams: Vec<Box<Answers>>,
}

/// Places of label sets in [`Tallies::counts`], by their labels.
#[derive(Debug)]
pub(crate) struct LabelPlaces {
    hasher: RandomState,
    /// Place of each label set, by the hash of its labels.
    places: HashMap<u64, usize, RandomState>,
}

impl LabelPlaces {
    /// Builds the places in `label_sets`. `hasher` is keyed.
    pub(crate) fn new(label_sets: &LabelSets, hasher: &RandomState) -> Self {
        let hash = |label_set| hash_of(hasher, label_set);
        let mut places = HashMap::with_hasher(hasher.clone());
        places.extend(label_sets.label_sets.iter().map(hash).zip(0..));
        Self { hasher: hasher.clone(), places }
    }

    /// Returns the place in `label_sets` of the one with the same labels as `label_set`.
    fn find(&self, label_set: &LabelSet, label_sets: &[LabelSet]) -> Option<usize> {
        let place = *self.places.get(&hash_of(&self.hasher, label_set))?;
        (label_sets[place].key() == label_set.key()).then_some(place)
    }
}

fn hash_of(hasher: &RandomState, label_set: &LabelSet) -> u64 {
    hasher.hash_one(label_set.key())
}

impl Tallies {
    /// Empty counters for `config`, whose label sets are `label_sets`.
    pub(crate) fn new(config: &Config, label_sets: &LabelSets) -> Self {
        let upstreams = if config.is_measured() { config.upstreams().count() } else { 0 };
        Self {
            label_sets: label_sets.label_sets.clone(),
            counts: vec![Box::default(); label_sets.label_sets.len()],
            upstreams: vec![Box::default(); upstreams],
        }
    }

    /// Adopts the label sets and upstreams of `new`, keeps the counters of those that stay, and
    /// leaves the old ones in `new`. `places`: places of the label sets of `new`. `stays`: for each
    /// upstream of `new`, its old number, if it had one.
    pub(crate) fn reload(&mut self, new: &mut Self, places: &LabelPlaces, stays: &[Option<usize>]) {
        for (label_set, counted) in self.label_sets.iter().zip(&mut self.counts) {
            if let Some(place) = places.find(label_set, &new.label_sets) {
                std::mem::swap(counted, &mut new.counts[place]);
            }
        }
        for (answers, before) in new.upstreams.iter_mut().zip(stays) {
            if let Some(before) = before.and_then(|number| self.upstreams.get_mut(number)) {
                std::mem::swap(answers, before);
            }
        }
        std::mem::swap(self, new);
    }

    /// Counts a received query.
    #[inline]
    pub(crate) fn ask(&mut self, label_set: u32, asking: &CountedQuery) {
        let Some(tally) = self.counts.get_mut(label_set as usize) else { return };
        let way = way(asking.transport);
        tally.requests[way][usize::from(asking.is_ipv6)][place_of(asking.rtype)] += 1;
        tally.dnssec_ok += u64::from(asking.dnssec_ok);
        tally.request_sizes[way].add(asking.len);
    }

    /// Counts the end of a query.
    #[inline]
    pub(crate) fn end(&mut self, label_set: u32, outcome: &CountedReply) {
        let Some(tally) = self.counts.get_mut(label_set as usize) else { return };
        let by_code = if outcome.answered { &mut tally.answered } else { &mut tally.failed };
        by_code[place_of_rcode(outcome.rcode)] += 1;
        tally.durations.add(outcome.took);
        tally.response_sizes[way(outcome.transport)].add(outcome.len);
    }

    /// Counts a response of HTTP or QUIC.
    pub(crate) fn http_response(&mut self, label_set: u32, status: u16) {
        let Some(tally) = self.counts.get_mut(label_set as usize) else { return };
        let place = STATUSES.iter().position(|known| *known == status);
        tally.http[place.unwrap_or(STATUSES.len())] += 1;
    }

    /// Counts the decision of an access list, if its counters changed from `before` to `after`.
    #[inline]
    pub(crate) fn acl(&mut self, label_set: u32, before: &StageCounts, after: &StageCounts) {
        if before != after
            && let Some(tally) = self.counts.get_mut(label_set as usize)
        {
            tally.acl.add(&after.since(before));
        }
    }

    /// Counts a reply if its addresses were synthesised.
    pub(crate) fn translated(&mut self, label_set: u32, synthesised: bool) {
        if let Some(tally) = self.counts.get_mut(label_set as usize) {
            tally.translated += u64::from(synthesised);
        }
    }

    /// Counts an upstream's response.
    #[inline]
    pub(crate) fn upstream(&mut self, upstream: usize, rcode: u16, took: Duration) {
        if let Some(answers) = self.upstreams.get_mut(upstream) {
            answers[place_of_rcode(rcode)].add(took);
        }
    }

    /// Adds the counts of `other`, which has the same label sets and upstreams.
    pub(crate) fn merge(&mut self, other: &Self) {
        if self.label_sets.is_empty() && self.upstreams.is_empty() {
            *self = other.clone();
            return;
        }
        for (own, other) in self.counts.iter_mut().zip(&other.counts) {
            own.merge(other);
        }
        for (own, other) in self.upstreams.iter_mut().zip(&other.upstreams) {
            for (own, other) in own.iter_mut().zip(other.iter()) {
                own.merge(other);
            }
        }
    }

    /// Returns the reserved memory in bytes.
    pub(crate) fn reserved(&self) -> usize {
        self.label_sets.capacity() * size_of::<LabelSet>()
            + reserved_boxes(&self.counts)
            + reserved_boxes(&self.upstreams)
    }
}

fn way(transport: Transport) -> usize {
    match transport {
        Transport::Udp => 0,
        Transport::Tcp => 1,
    }
}

/// Returns the counter of a type: its index in [`RTYPES`], or `RTYPES.len()` for all others.
fn place_of(asked: u16) -> usize {
    match asked {
        // The majority of queries.
        rtype::A => 0,
        rtype::AAAA => 1,
        _ => RTYPES.iter().position(|known| *known == asked).unwrap_or(RTYPES.len()),
    }
}
