//! The keeper of a scenario's world: timers, sweeps and probes, without a thread or a socket.
//!
//! Timer wheel, schedules and health states are real; only the probes' packets are simulated. The
//! scenario sets the results of probes independently of the answers to queries, because a server
//! can look up to one and down to the other.

use super::common::Dice;
use onward::config::Config;
use onward::engine::Sweep;
use onward::engine::health::HealthStates;
use onward::engine::health::schedule::Schedule;
use onward::moment::Moment;
use onward::wheel::{TimerKey, Wheel};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Time limit of a probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// Result of probes to an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    Answered,
    Ignored,
    Refused,
}

/// Purpose of a timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Due {
    /// The next sweep of a pool or cache.
    Sweep(Sweep),
    /// The timeout of an upstream's probe, or the time of the next one.
    Probe(usize),
}

struct Health {
    address: SocketAddr,
    schedule: Schedule,
    manner: Manner,
    under_way: bool,
    probes: u64,
}

pub(crate) struct Keeper {
    pub(crate) health_states: Arc<HealthStates>,
    upstreams: Vec<Health>,
    wheel: Wheel<Due>,
    timers: HashMap<Due, TimerKey>,
    dice: Dice,
    stopped: bool,
}

impl Keeper {
    pub(crate) fn new(config: &Config, seed: u64) -> Self {
        let upstreams = config.upstreams().map(|(forward, upstream)| Health {
            address: upstream.address,
            schedule: Schedule::new(&forward.health),
            manner: Manner::Answered,
            under_way: false,
            probes: 0,
        });
        Self {
            health_states: Arc::new(HealthStates::new(config)),
            upstreams: upstreams.collect(),
            wheel: Wheel::with_capacity(8),
            timers: HashMap::new(),
            dice: Dice::new(seed),
            stopped: false,
        }
    }

    /// Sets the result of future probes to `address`, or to all upstreams.
    pub(crate) fn set_manner(&mut self, address: Option<SocketAddr>, manner: Manner) {
        let is_meant = |health: &&mut Health| address.is_none_or(|it| it == health.address);
        self.upstreams.iter_mut().filter(is_meant).for_each(|health| health.manner = manner);
    }

    pub(crate) fn probes(&self, upstream: usize) -> u64 {
        self.upstreams[upstream].probes
    }

    /// Stops all probes and cancels those outstanding.
    pub(crate) fn stop_probing(&mut self) {
        self.stopped = true;
        (0..self.upstreams.len()).for_each(|upstream| self.set(Due::Probe(upstream), None));
    }

    /// A worker requests a wake-up for a sweep.
    pub(crate) fn wake(&mut self, sweep: Sweep, at: Moment) {
        self.set(Due::Sweep(sweep), Some(at));
    }

    /// A worker reports a failed exchange with `upstream`.
    pub(crate) fn on_failed_exchange(&mut self, now: Moment, upstream: usize) {
        if !self.stopped && self.upstreams[upstream].schedule.on_failed_exchange() {
            self.probe(now, upstream);
        }
    }

    /// Returns the next pool or cache to sweep, after handling the probes that are due before it.
    pub(crate) fn next_sweep(&mut self, now: Moment) -> Option<Sweep> {
        loop {
            let due = self.wheel.pop_expired(now)?;
            self.timers.remove(&due);
            match due {
                Due::Sweep(sweep) => return Some(sweep),
                Due::Probe(upstream) if self.upstreams[upstream].under_way => {
                    self.conclude(now, upstream, false);
                }
                Due::Probe(upstream) => {
                    if self.upstreams[upstream].schedule.on_due() {
                        self.probe(now, upstream);
                    }
                }
            }
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Moment> {
        self.wheel.next_deadline()
    }

    /// Timers that have not fired.
    pub(crate) fn pending(&self) -> usize {
        self.wheel.len()
    }

    fn probe(&mut self, now: Moment, upstream: usize) {
        let health = &mut self.upstreams[upstream];
        health.probes += 1;
        self.health_states.set(upstream, health.schedule.is_down(), true);
        match health.manner {
            Manner::Answered => self.conclude(now, upstream, true),
            Manner::Refused => self.conclude(now, upstream, false),
            Manner::Ignored => {
                health.under_way = true;
                self.set(Due::Probe(upstream), Some(now.plus(PROBE_TIMEOUT)));
            }
        }
    }

    fn conclude(&mut self, now: Moment, upstream: usize, answered: bool) {
        let health = &mut self.upstreams[upstream];
        health.under_way = false;
        if answered {
            health.schedule.on_answered(now);
        } else {
            let random = self.dice.below(1 << 32) as u32;
            let next = health.schedule.on_unanswered(now, random).next;
            self.set(Due::Probe(upstream), Some(next));
        }
        let schedule = &self.upstreams[upstream].schedule;
        self.health_states.set(upstream, schedule.is_down(), schedule.is_probing());
    }

    /// Moves, sets or cancels a timer.
    fn set(&mut self, due: Due, at: Option<Moment>) {
        let old = match at {
            Some(at) => self.timers.insert(due, self.wheel.insert(at, due)),
            None => self.timers.remove(&due),
        };
        if let Some(old) = old {
            self.wheel.cancel(old);
        }
    }
}
