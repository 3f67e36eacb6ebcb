//! The keeper: the timer wheel, probes, and the health states shared by all workers.
//!
//! As in the program, each pool of each worker and each upstream has at most one timer, which a
//! later request replaces; a due timer becomes a message to the worker, or a probe by the engine's
//! own schedule. Messages take a moment, and a mailbox may be full.

use super::laws::require;
use super::link::{LinkId, Side, SimConnection};
use super::net::{Event, Net, Port};
use super::plan::{Plan, Sabotage};
use onward::engine::Sweep;
use onward::engine::health::HealthStates;
use onward::engine::health::query::ProbeQuery;
use onward::engine::health::schedule::Schedule;
use onward::moment::Moment;
use onward::wheel::{TimerKey, Wheel};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Time limit of a probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// Purpose of a timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Sweep { worker: usize, sweep: Sweep },
    Probe(usize),
}

/// One upstream and its state.
struct Health {
    over_tcp: bool,
    query: ProbeQuery,
    schedule: Schedule,
    /// The number of the outstanding probe, and its connection if it is over TCP.
    probe: Option<(u64, Option<SimConnection>)>,
}

pub(crate) struct Keeper {
    wheel: Wheel<Due>,
    timers: BTreeMap<Due, TimerKey>,
    wakes_at: Option<Moment>,
    upstreams: Vec<Health>,
    health_states: Arc<HealthStates>,
    pub(crate) probes: u64,
    sabotage: Sabotage,
}

impl Keeper {
    pub(crate) fn new(plan: &Plan, health_states: Arc<HealthStates>) -> Self {
        let health = |stanza: &onward::config::Forward| Health {
            over_tcp: stanza.force_tcp,
            query: ProbeQuery::new(&stanza.health),
            schedule: Schedule::new(&stanza.health),
            probe: None,
        };
        Self {
            wheel: Wheel::default(),
            timers: BTreeMap::new(),
            wakes_at: None,
            upstreams: plan.upstreams().map(health).collect(),
            health_states,
            probes: 0,
            sabotage: plan.sabotage,
        }
    }

    /// A worker requests a wake-up.
    pub(crate) fn wake_me(&mut self, net: &mut Net, worker: usize, sweep: Sweep, at: Moment) {
        if self.sabotage != Sabotage::KeeperAsleep {
            self.set(net, Due::Sweep { worker, sweep }, Some(at));
        }
    }

    /// A worker reports a failed exchange with `upstream`.
    pub(crate) fn exchange_failed(&mut self, net: &mut Net, upstream: usize) {
        let begins = self.upstreams[upstream].schedule.on_failed_exchange();
        if begins && self.sabotage == Sabotage::NobodyProbes {
            self.health_states.set(upstream, true, true);
        } else if begins {
            self.begin(net, upstream);
        }
    }

    /// Handles due timers.
    pub(crate) fn on_time(&mut self, net: &mut Net) {
        self.wakes_at = None;
        while let Some(due) = self.wheel.pop_expired(net.now) {
            self.timers.remove(&due);
            match due {
                Due::Sweep { worker, sweep } => {
                    net.mail(Event::Sweep { worker, sweep });
                }
                Due::Probe(upstream) if self.upstreams[upstream].probe.is_some() => {
                    self.conclude(net, upstream, false);
                }
                Due::Probe(upstream) => {
                    if self.upstreams[upstream].schedule.on_due() {
                        self.begin(net, upstream);
                    }
                }
            }
        }
        #[cfg(debug_assertions)]
        self.wheel.check_invariants();
        self.sleep(net);
    }

    fn begin(&mut self, net: &mut Net, upstream: usize) {
        self.probes += 1;
        let health = &mut self.upstreams[upstream];
        health.query.set_id(net.dice.word());
        let (here, there) = (Port::Probe(upstream, self.probes), Port::Upstream(upstream));
        let mut connection = None;
        if health.over_tcp {
            let mut dialled = SimConnection::new(net.dial(here, there), Side::Dialler);
            dialled.push(health.query.as_bytes()).expect("an empty outbox has room");
            connection = Some(dialled);
        } else {
            net.datagram(here, there, health.query.as_bytes().to_vec());
        }
        health.probe = Some((self.probes, connection));
        self.health_states.set(upstream, health.schedule.is_down(), true);
        self.set(net, Due::Probe(upstream), Some(net.now.plus(PROBE_TIMEOUT)));
    }

    /// Handles a datagram for a probe.
    pub(crate) fn gets(&mut self, net: &mut Net, (upstream, number): (usize, u64), packet: &[u8]) {
        let health = &mut self.upstreams[upstream];
        let current = health.probe.as_ref().is_some_and(|probe| probe.0 == number);
        if current && health.query.is_answered_by(packet) {
            self.conclude(net, upstream, true);
        }
    }

    /// Handles an event of a probe's connection.
    pub(crate) fn stirs(&mut self, net: &mut Net, probe: (usize, u64), link: LinkId) {
        let health = &mut self.upstreams[probe.0];
        let Some((_, Some(connection))) = &mut health.probe else { return };
        if connection.link != link {
            return;
        }
        let open = connection.flush(net).is_ok() && connection.read_all(net);
        let messages: Vec<_> = std::iter::from_fn(|| connection.message()).collect();
        for message in messages {
            self.gets(net, probe, &message);
        }
        if !open {
            self.fails(net, probe);
        }
    }

    /// Handles a failure of the probe's socket.
    pub(crate) fn fails(&mut self, net: &mut Net, (upstream, number): (usize, u64)) {
        if self.upstreams[upstream].probe.as_ref().is_some_and(|probe| probe.0 == number) {
            self.conclude(net, upstream, false);
        }
    }

    fn conclude(&mut self, net: &mut Net, upstream: usize, answered: bool) {
        let health = &mut self.upstreams[upstream];
        if let Some((_, Some(connection))) = health.probe.take() {
            connection.close(net);
        }
        let mut next = None;
        if answered {
            health.schedule.on_answered(net.now);
        } else {
            let random = u32::from(net.dice.word()) << 16;
            next = Some(health.schedule.on_unanswered(net.now, random).next);
        }
        let (down, probing) = (health.schedule.is_down(), health.schedule.is_probing());
        net.note(|| format!("upstream {upstream} is probed: {answered}, down: {down}"));
        self.health_states.set(upstream, down, probing);
        self.set(net, Due::Probe(upstream), next);
    }

    /// Replaces the timer for `due`.
    fn set(&mut self, net: &mut Net, due: Due, at: Option<Moment>) {
        let old = match at {
            Some(at) => self.timers.insert(due, self.wheel.insert(at, due)),
            None => self.timers.remove(&due),
        };
        old.and_then(|old| self.wheel.cancel(old));
        self.sleep(net);
    }

    fn sleep(&mut self, net: &mut Net) {
        if let Some(next) = self.wheel.next_deadline()
            && self.wakes_at.is_none_or(|at| next < at)
        {
            self.wakes_at = Some(next);
            net.at(next, Event::KeeperWakes);
        }
    }

    /// Checks that every upstream that is down is probed, and that in a calm run none is down.
    pub(crate) fn check(&self, calm: bool) {
        for upstream in 0..self.upstreams.len() {
            let down = self.health_states.is_down(upstream);
            let cared_for = self.timers.contains_key(&Due::Probe(upstream));
            require(!down || cared_for, "what is down is probed", || format!("{upstream}"));
            require(!down || !calm, "on a calm day nothing is down", || format!("{upstream}"));
        }
    }

    /// Checks that no timer is left and all upstreams are up.
    pub(crate) fn check_empty(&self) {
        let timers = self.wheel.len();
        require(timers == 0, "in the end nothing is left", || format!("{timers} timers"));
        for upstream in 0..self.upstreams.len() {
            let well =
                !self.health_states.is_down(upstream) && !self.health_states.is_probing(upstream);
            require(well, "what has returned is found out to be well", || format!("{upstream}"));
        }
    }
}
