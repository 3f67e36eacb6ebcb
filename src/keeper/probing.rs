//! Probing of all upstreams: schedules, sockets, health states and log lines.
//!
//! Each upstream's [`Schedule`] decides when to probe and which state follows; this module executes
//! it, publishes the state to the workers in [`HealthStates`], and logs each change. Each upstream
//! has at most one time at which it is due ([`Probing::wake_at`]): the deadline of the probe in
//! progress, or the next probe. A healthy upstream has none.

use super::probe::{MESSAGE_LEN_MAX, Probe, Route};
use super::wire::Failure;
use crate::clock::Clock;
use crate::config::{Config, Forward, HealthCheck, Upstream, rcode_mnemonic};
use crate::engine::health::query::ProbeQuery;
use crate::engine::health::schedule::{Change, Schedule};
use crate::engine::health::{HealthStates, PLAIN_FOR, Quirk, Remark};
use crate::log::{Event, Level, Log, Value};
use crate::moment::Moment;
use crate::quic::Dialer;
use crate::tls::{Client, Setup};
use mio::{Registry, Token};
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::net::SocketAddr;
use std::sync::Arc;

/// Source of log lines about upstreams.
const SOURCE: &str = "plugin/forward";

/// One upstream and its state.
struct Health {
    route: Route,
    /// TLS client, if the upstream uses TLS.
    client: Option<Client>,
    check: HealthCheck,
    query: ProbeQuery,
    schedule: Schedule,
    probe: Option<Probe>,
    /// Time of the next probe; `None` while one is in progress or none is needed.
    next: Option<Moment>,
    /// Number of failed probes.
    failures: u64,
}

/// All upstreams, in the order of the configuration.
pub(super) struct Probing {
    upstreams: Vec<Health>,
    health_states: Arc<HealthStates>,
    registry: Registry,
    random: ChaCha12Rng,
    /// Parameters of probes over QUIC.
    dialer: Option<Dialer>,
    buffer: Vec<u8>,
    stopped: bool,
}

impl Probing {
    /// Creates the probing of the upstreams of `config`, with their state in `health_states`.
    /// Sockets are registered with `registry`, with the upstream's number as the token. `seed` must
    /// be unpredictable.
    pub(super) fn new(
        config: &Config,
        health_states: Arc<HealthStates>,
        tls: &Setup,
        registry: Registry,
        (seed, clock): ([u8; 32], Clock),
    ) -> Self {
        let upstreams = config.upstreams().zip(0..);
        let mut random = ChaCha12Rng::from_seed(seed);
        let mut own = [0; 32];
        random.fill_bytes(&mut own);
        Self {
            upstreams: upstreams
                .map(|((forward, upstream), number)| {
                    Health::new(forward, upstream, tls.client(number))
                })
                .collect(),
            health_states,
            registry,
            random,
            dialer: clock.instant(Moment::ZERO).map(|origin| Dialer::new(&own, origin)),
            buffer: vec![0; MESSAGE_LEN_MAX],
            stopped: false,
        }
    }

    /// Returns the number of upstreams.
    pub(super) fn count(&self) -> usize {
        self.upstreams.len()
    }

    /// Switches to the upstreams of `config`, with their state in `health_states`. Upstreams that
    /// existed before and are probed in the same way keep their state; a probe in progress is sent
    /// anew.
    pub(super) fn reload(
        &mut self,
        now: Moment,
        config: &Config,
        health_states: Arc<HealthStates>,
        tls: &Setup,
        log: Log,
    ) {
        let before = std::mem::take(&mut self.upstreams);
        let mut before: Vec<_> = before.into_iter().enumerate().collect();
        let old_states = std::mem::replace(&mut self.health_states, health_states);
        for (forward, upstream) in config.upstreams() {
            let client = tls.client(self.upstreams.len());
            let mut health = Health::new(forward, upstream, client);
            let same = before.iter().position(|(_, old)| old.is_probed_like(&health));
            let mut probe_again = false;
            if let Some((place, old)) = same.map(|place| before.remove(place)) {
                self.health_states.take_over(self.upstreams.len(), &old_states, place);
                (health.schedule, health.next) = (old.schedule, old.next);
                health.failures = old.failures;
                probe_again = old.probe.is_some();
                old.probe.into_iter().for_each(|mut probe| probe.end(now));
            }
            let (number, schedule) = (self.upstreams.len(), &health.schedule);
            if schedule.is_down() || schedule.is_probing() {
                self.health_states.set(number, schedule.is_down(), schedule.is_probing());
            }
            self.health_states.set_failures(number, health.failures);
            self.upstreams.push(health);
            if probe_again {
                self.begin(now, number, log);
            }
        }
        for (_, old) in before {
            old.probe.into_iter().for_each(|mut probe| probe.end(now));
        }
    }

    /// Handles a worker's report that an exchange with `upstream` failed.
    pub(super) fn on_failed_exchange(&mut self, now: Moment, upstream: usize, log: Log) {
        if !self.stopped && self.upstreams[upstream].schedule.on_failed_exchange() {
            self.begin(now, upstream, log);
        }
    }

    /// Handles an event of the socket of `upstream`'s probe.
    pub(super) fn on_ready(&mut self, now: Moment, upstream: usize, log: Log) {
        let Health { probe, query, .. } = &mut self.upstreams[upstream];
        // An event may arrive after the end of its probe.
        let Some(probe) = probe else { return };
        match probe.on_ready(now, query, &mut self.buffer) {
            Ok(false) => {}
            Ok(true) => self.conclude(now, upstream, Ok(()), log),
            Err(failure) => self.conclude(now, upstream, Err(failure), log),
        }
    }

    /// Handles the time given by [`Probing::wake_at`].
    pub(super) fn on_due(&mut self, now: Moment, upstream: usize, log: Log) {
        let health = &mut self.upstreams[upstream];
        if let Some(probe) = &mut health.probe {
            match probe.on_due(now, &health.query, &mut self.buffer) {
                Ok(false) => {}
                Ok(true) => self.conclude(now, upstream, Ok(()), log),
                Err(failure) => self.conclude(now, upstream, Err(failure), log),
            }
        } else if health.next.take().is_some() && health.schedule.on_due() {
            self.begin(now, upstream, log);
        }
    }

    /// Returns the time of the next [`Probing::on_due`] of `upstream`; `None`: after the next
    /// failed exchange.
    pub(super) fn wake_at(&self, upstream: usize) -> Option<Moment> {
        let health = &self.upstreams[upstream];
        health.probe.as_ref().map(Probe::due).or(health.next)
    }

    /// Counts connections to `upstream` that were closed for `max_age`.
    pub(super) fn tell_retired(&self, upstream: usize, count: u64, log: Log) {
        let address = self.upstreams[upstream].route.upstream;
        let fields = [("upstream", Value::Text(&address)), ("connections", Value::Number(count))];
        let text = "connections closed: max_age reached";
        log.event(&Event::new(Level::Info, SOURCE, &text).with(&fields));
    }

    /// Logs that an upstream sends odd responses.
    pub(super) fn tell_quirk(&self, remark: Remark, log: Log) {
        let Remark { upstream, quirk, rcode } = remark;
        let address = self.upstreams[upstream].route.upstream;
        let rcode = rcode_mnemonic(rcode).unwrap_or("an error");
        let mut fields = vec![("upstream", Value::Text(&address)), ("rcode", Value::Text(&rcode))];
        let minutes = PLAIN_FOR.as_secs() / 60;
        let text = match quirk {
            Quirk::NoEdns => format!(
                "upstream {address} refuses EDNS ({rcode}): queries are sent without EDNS for \
                 {minutes} minutes"
            ),
            Quirk::BareError => format!(
                "upstream {address} returns {rcode} without a question section: it may refuse \
                 queries from this host (not repeated for {minutes} minutes)"
            ),
            Quirk::FoldsCase => {
                fields.truncate(1);
                format!(
                    "upstream {address} does not repeat the letter case of names: with \
                     case_randomize auto it gets lower case for {minutes} minutes, with on all \
                     its queries go over TCP"
                )
            }
            Quirk::Mismatches => {
                fields.truncate(1);
                format!(
                    "responses from {address} match no query: forged, or duplicated by the \
                     network; queries on that port are sent over TCP (not repeated for {minutes} \
                     minutes)"
                )
            }
        };
        log.event(&Event::new(Level::Warning, SOURCE, &text).with(&fields).alone());
    }

    /// Resets the reports of a worker that has panicked, because some of them may be lost.
    pub(super) fn forget_reports(&self) {
        self.health_states.forget_reports();
    }

    /// Ends all probes and sends no more.
    pub(super) fn stop(&mut self, now: Moment) {
        self.stopped = true;
        for health in &mut self.upstreams {
            health.probe.take().into_iter().for_each(|mut probe| probe.end(now));
            health.next = None;
        }
    }

    fn begin(&mut self, now: Moment, upstream: usize, log: Log) {
        let health = &mut self.upstreams[upstream];
        let Health { route, client, query, schedule, .. } = health;
        self.health_states.set(upstream, schedule.is_down(), true);
        query.set_id(self.random.next_u32() as u16);
        query.set_edns(!self.health_states.is_asked_plainly(upstream, now));
        let tls = (client.as_ref(), self.dialer.as_ref());
        match Probe::begin(now, route, tls, query, &self.registry, Token(upstream)) {
            Ok(probe) => health.probe = Some(probe),
            Err(failure) => self.conclude(now, upstream, Err(failure), log),
        }
    }

    /// Handles the end of a probe.
    fn conclude(&mut self, now: Moment, upstream: usize, outcome: Result<(), Failure>, log: Log) {
        let health = &mut self.upstreams[upstream];
        health.probe = None;
        let (change, cause) = match outcome {
            Ok(()) => (health.schedule.on_answered(now), None),
            Err(failure) => {
                let failed = health.schedule.on_unanswered(now, self.random.next_u32());
                health.next = Some(failed.next);
                health.failures += 1;
                self.health_states.set_failures(upstream, health.failures);
                (failed.change, Some(failure))
            }
        };
        let schedule = &health.schedule;
        self.health_states.set(upstream, schedule.is_down(), schedule.is_probing());
        if let Some(change) = change {
            tell(log, health.route.upstream, change, cause);
        }
    }
}

impl Health {
    fn new(forward: &Forward, upstream: &Upstream, client: Option<&Client>) -> Self {
        Self {
            route: Route {
                upstream: upstream.address,
                source: forward.source_address,
                over_tcp: forward.force_tcp || client.is_some() || upstream.http.is_some(),
                http: upstream.http.clone(),
                proxied: forward.proxy_protocol,
            },
            client: client.cloned(),
            check: forward.health.clone(),
            query: ProbeQuery::new(&forward.health),
            schedule: Schedule::new(&forward.health),
            probe: None,
            next: None,
            failures: 0,
        }
    }

    /// Returns true if the state of this upstream also applies to `other`.
    fn is_probed_like(&self, other: &Self) -> bool {
        let same_tls = match (&self.client, &other.client) {
            (None, None) => true,
            (Some(own), Some(other)) => own.is(other),
            _ => false,
        };
        same_tls && (&self.route, &self.check) == (&other.route, &other.check)
    }
}

/// Logs a change of the health state.
fn tell(log: Log, address: SocketAddr, change: Change, cause: Option<Failure>) {
    let upstream = ("upstream", Value::Text(&address));
    match change {
        Change::Up { after } => {
            let seconds = after.as_secs_f64();
            let text = format_args!("upstream {address} is up again after {seconds:.1} s");
            let after = format_args!("{seconds:.3}");
            let fields = [upstream, ("after_s", Value::Text(&after))];
            log.event(&Event::new(Level::Info, SOURCE, &text).with(&fields).alone());
        }
        Change::Down { fails } => {
            let probes = if fails == 1 { "probe" } else { "probes" };
            let cause = cause.map_or_else(String::new, |cause| format!(" (last: {cause})"));
            let text = format_args!("upstream {address} is down: {fails} {probes} failed{cause}");
            let fields = [upstream, ("probes", Value::Number(fails.into()))];
            log.event(&Event::new(Level::Error, SOURCE, &text).with(&fields).alone());
        }
    }
}
