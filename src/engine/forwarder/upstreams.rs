//! The upstreams of an engine: their addresses, health and counters.
//!
//! Owns the facts about each upstream that do not belong to a connection, and the queues of reports
//! about them to the keeper: attempts that fail, and responses that are unusual. The health state
//! is shared with the other workers and the keeper. Connections are in the pools, attempts in
//! [`super::attempts`], and which upstream comes next is decided there.

use super::Dial;
use crate::config::{Config, Forward, HttpCarrier, Upstream};
use crate::engine::errors::{Fault, TlsFault};
use crate::engine::health::{HealthStates, Quirk, Remark};
use crate::engine::key::{Transport, Way};
use crate::engine::memory::{reserved, reserved_boxes};
use crate::engine::pool::{PoolSettings, TrustSettings};
use crate::engine::stats::UpstreamStats;
use crate::moment::Moment;
use ahash::RandomState;
use std::collections::HashMap;
use std::mem::swap;
use std::sync::Arc;

/// Maximum number of queued remarks; more are lost.
const REMARKS_MAX: usize = 64;

/// The upstreams, by number; [`PoolId`](crate::engine::PoolId) has the numbers of their pools.
pub(super) struct Upstreams {
    dials: Vec<Dial>,
    /// Counters; [`Forwarder::stats`](super::Forwarder::stats) adds those of the pools.
    #[expect(clippy::vec_box, reason = "a reload moves thousands of them, at 3 kB each")]
    stats: Vec<Box<UpstreamStats>>,
    health_states: Arc<HealthStates>,
    /// Upstreams at which attempts fail, for the keeper to probe.
    failing: Vec<usize>,
    remarks: Vec<Remark>,
}

/// Upstreams of a new configuration, built beforehand.
pub(super) struct NewUpstreams {
    dials: Vec<Dial>,
    /// Numbers of the upstreams with each [`Dial`], in descending order.
    by_dial: HashMap<Dial, Vec<usize>, RandomState>,
    /// Counters, boxed because upstreams that stay swap them with the old ones.
    #[expect(clippy::vec_box, reason = "as in `Upstreams`")]
    stats: Vec<Box<UpstreamStats>>,
    health_states: Arc<HealthStates>,
}

impl NewUpstreams {
    pub(super) fn new(
        config: &Config,
        health_states: Arc<HealthStates>,
        hasher: &RandomState,
    ) -> Self {
        let dials = dials_of(config);
        let mut by_dial = HashMap::<_, Vec<_>, _>::with_hasher(hasher.clone());
        for (number, dial) in dials.iter().enumerate().rev() {
            by_dial.entry(dial.clone()).or_default().push(number);
        }
        let stats = dials.iter().map(|_| Box::default()).collect();
        Self { dials, by_dial, stats, health_states }
    }

    /// Returns the number of upstreams.
    pub(super) fn count(&self) -> usize {
        self.dials.len()
    }
}

impl Upstreams {
    /// Creates the upstreams of a configuration, without counts.
    pub(super) fn new(upstreams: NewUpstreams) -> Self {
        let NewUpstreams { dials, stats, health_states, .. } = upstreams;
        let failing = Vec::with_capacity(stats.len());
        Self { dials, stats, health_states, failing, remarks: Vec::with_capacity(REMARKS_MAX) }
    }

    /// Returns for each new upstream the old one with the same [`Dial`]. Several equal ones are
    /// matched in their order.
    pub(super) fn match_new(&self, new: &mut NewUpstreams) -> Vec<Option<usize>> {
        let mut stays = vec![None; new.dials.len()];
        for (before, dial) in self.dials.iter().enumerate() {
            if let Some(number) = new.by_dial.get_mut(dial).and_then(Vec::pop) {
                stays[number] = Some(before);
            }
        }
        stays
    }

    /// Continues with the upstreams of `new`, and leaves the old ones there. Upstreams that stay
    /// keep their counters; `stays` has for each new upstream the number of the same old one.
    pub(super) fn reload(&mut self, new: &mut NewUpstreams, stays: &[Option<usize>]) {
        for (stats, before) in new.stats.iter_mut().zip(stays) {
            if let Some(before) = *before {
                swap(stats, &mut self.stats[before]);
            }
        }
        swap(&mut self.stats, &mut new.stats);
        swap(&mut self.dials, &mut new.dials);
        swap(&mut self.health_states, &mut new.health_states);
        self.failing.clear();
        self.remarks.clear();
    }

    /// Returns the number of upstreams.
    pub(super) fn count(&self) -> usize {
        self.dials.len()
    }

    /// Returns the bytes reserved by the addresses.
    pub(super) fn reserved_dials(&self) -> usize {
        reserved(&self.dials)
    }

    /// Returns the bytes reserved by the counters and queues.
    pub(super) fn reserved_queues(&self) -> usize {
        reserved(&self.failing) + reserved(&self.remarks) + reserved_boxes(&self.stats)
    }

    /// Returns the destination of an upstream.
    pub(super) fn dial(&self, upstream: usize) -> &Dial {
        &self.dials[upstream]
    }

    /// Returns the destination of an upstream; `None`: an upstream of an earlier configuration that
    /// is gone.
    pub(super) fn find_dial(&self, upstream: usize) -> Option<&Dial> {
        self.dials.get(upstream)
    }

    /// Returns the transport to an upstream for a query that prefers `transport`.
    pub(super) fn way_to(&self, upstream: usize, transport: Transport) -> Way {
        match (self.dials[upstream].way, transport) {
            (Some(way), _) => way,
            (None, Transport::Tcp) => Way::Tcp,
            (None, Transport::Udp) => Way::Datagram,
        }
    }

    /// Returns the health states, which all workers share.
    pub(super) fn health(&self) -> &HealthStates {
        &self.health_states
    }

    /// Returns the counters of an upstream, to be incremented.
    pub(super) fn stats(&mut self, upstream: usize) -> &mut UpstreamStats {
        &mut self.stats[upstream]
    }

    /// Returns the counters of all upstreams.
    pub(super) fn all_stats(&self) -> impl Iterator<Item = &UpstreamStats> {
        self.stats.iter().map(|stats| &**stats)
    }

    /// Counts a TLS handshake that ended with `fault`; does nothing for an upstream without TLS.
    /// Returns the fault to report.
    pub(super) fn fail_handshake(&mut self, upstream: usize, fault: Fault) -> Fault {
        if self.dials[upstream].tls.is_none() {
            return fault;
        }
        // A connection closed during the handshake gives no other reason.
        let fault = if fault == Fault::Closed { Fault::Tls(TlsFault::Unfinished) } else { fault };
        let counted = if let Fault::Tls(fault) = fault { fault } else { TlsFault::Unfinished };
        self.stats[upstream].handshakes.fail(counted);
        fault
    }

    /// Reports a failed attempt at an upstream to the keeper, unless another worker has done so.
    pub(super) fn report_failure(&mut self, upstream: usize) {
        if self.health_states.report(upstream) {
            self.failing.push(upstream);
        }
    }

    /// Returns the next upstream to report as failing.
    pub(super) fn next_failing(&mut self) -> Option<usize> {
        self.failing.pop()
    }

    /// Takes back a report that could not be delivered; the next failure reports it again.
    pub(super) fn put_back_failing(&self, upstream: usize) {
        self.health_states.take_back(upstream);
    }

    /// Counts an error without a question, with response code `rcode`, and reports it.
    pub(super) fn note_bare_error(&mut self, upstream: usize, now: Moment, rcode: u16) {
        self.stats[upstream].bare_errors += 1;
        if self.health_states.note_bare_error(upstream, now) {
            self.remark(Remark { upstream, quirk: Quirk::BareError, rcode });
        }
    }

    /// Counts a burst of responses that match no query, and reports it.
    pub(super) fn note_mismatches(&mut self, upstream: usize, now: Moment) {
        self.stats[upstream].mismatch_bursts += 1;
        if self.health_states.note_mismatches(upstream, now) {
            self.remark(Remark { upstream, quirk: Quirk::Mismatches, rcode: 0 });
        }
    }

    /// Notes that an upstream does not repeat the letter case of names, and reports it.
    pub(super) fn note_folded_case(&mut self, upstream: usize, now: Moment) {
        if self.health_states.note_folded_case(upstream, now) {
            self.remark(Remark { upstream, quirk: Quirk::FoldsCase, rcode: 0 });
        }
    }

    /// Notes that an upstream refused EDNS with response code `rcode`, and reports it.
    pub(super) fn note_no_edns(&mut self, upstream: usize, now: Moment, rcode: u16) {
        if self.health_states.note_no_edns(upstream, now) {
            self.remark(Remark { upstream, quirk: Quirk::NoEdns, rcode });
        }
    }

    /// Queues a remark for the keeper, or puts one back.
    pub(super) fn remark(&mut self, remark: Remark) {
        if self.remarks.len() < REMARKS_MAX {
            self.remarks.push(remark);
        }
    }

    /// Returns the next remark for the keeper.
    #[inline]
    pub(super) fn next_remark(&mut self) -> Option<Remark> {
        // The queue is short, and the order is kept.
        if self.remarks.is_empty() { None } else { Some(self.remarks.remove(0)) }
    }
}

/// Returns the address of each upstream, and the source address of its queries.
fn dials_of(config: &Config) -> Vec<Dial> {
    let way = |upstream: &Upstream| {
        let carrier = upstream.http.as_ref().map(|target| &target.carrier);
        match (&upstream.tls, carrier) {
            (_, Some(HttpCarrier::Doh { .. })) => Some(Way::Https),
            (None, Some(HttpCarrier::Grpc)) => Some(Way::Grpc),
            (Some(_), Some(HttpCarrier::Grpc)) => Some(Way::SecureGrpc),
            (Some(_), None) if upstream.is_quic() => Some(Way::Quic),
            (Some(_), None) => Some(Way::Secure),
            (None, None) => None,
        }
    };
    let dial = |(forward, upstream): (&Forward, &Upstream)| Dial {
        upstream: upstream.address,
        source: forward.source_address,
        gso: forward.gso,
        tls: upstream.tls.clone(),
        http: upstream.http.clone(),
        way: way(upstream),
        proxied: forward.proxy_protocol,
    };
    config.upstreams().map(dial).collect()
}

/// Returns the settings of the pools of all upstreams, in the order of [`PoolId`].
pub(super) fn pool_settings(config: &Config) -> impl Iterator<Item = PoolSettings> {
    config.upstreams().flat_map(|(forward, _)| upstream_settings(forward))
}

/// Returns the settings of an upstream's two pools, in the order of [`PoolId::of_upstream`].
fn upstream_settings(forward: &Forward) -> [PoolSettings; 2] {
    let udp = PoolSettings {
        expire: forward.expire,
        max_age: forward.max_age,
        jitter: forward.max_age_jitter,
        max_idle: forward.max_idle_conns,
        spread: forward.sizing.spread,
        max_conns: forward.sizing.max_conns,
        max_inflight: forward.sizing.max_inflight,
        tcp: false,
        owned: false,
        trust: TrustSettings {
            distrust: forward.distrust.then_some(forward.read_timeout),
            rebalance: forward.rebalance,
        },
    };
    let (spread, max_inflight) = (forward.sizing.stream_spread, forward.sizing.tcp_inflight);
    let tcp = PoolSettings { spread, max_inflight, tcp: true, ..udp };
    if forward.proxy_protocol {
        let trust = TrustSettings { distrust: None, rebalance: false };
        return [udp, PoolSettings { spread: 1, owned: true, trust, ..tcp }];
    }
    [udp, tcp]
}
