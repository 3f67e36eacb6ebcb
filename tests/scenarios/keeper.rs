//! The keeper of a scenario's world: timers, sweeps and probes, without a thread or a socket.
//!
//! The real timer wheel, schedules and health states; only the probes' packets are imagined. What
//! an upstream makes of probes is said by the scenario and is no part of its answers to queries,
//! since that is how a server can look alive to one and dead to the other.

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

/// How long a probe waits for its answer.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// What becomes of probes to an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    Answered,
    Ignored,
    Refused,
}

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Due {
    /// A pool or cache is to be swept.
    Sweep(Sweep),
    /// An upstream's probe has waited long enough, or the next is due.
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

    /// From now on probes to `address`, or to all upstreams, fare like this.
    pub(crate) fn set_manner(&mut self, address: Option<SocketAddr>, manner: Manner) {
        let is_meant = |health: &&mut Health| address.is_none_or(|it| it == health.address);
        self.upstreams.iter_mut().filter(is_meant).for_each(|health| health.manner = manner);
    }

    /// Probes to `upstream` so far.
    pub(crate) fn probes(&self, upstream: usize) -> u64 {
        self.upstreams[upstream].probes
    }

    /// No probe is sent any more, and none is waited for.
    pub(crate) fn stop_probing(&mut self) {
        self.stopped = true;
        (0..self.upstreams.len()).for_each(|upstream| self.set(Due::Probe(upstream), None));
    }

    /// A worker asks to be woken.
    pub(crate) fn wake(&mut self, sweep: Sweep, at: Moment) {
        self.set(Due::Sweep(sweep), Some(at));
    }

    /// A worker says that an exchange with `upstream` failed.
    pub(crate) fn on_failed_exchange(&mut self, now: Moment, upstream: usize) {
        if !self.stopped && self.upstreams[upstream].schedule.on_failed_exchange() {
            self.probe(now, upstream);
        }
    }

    /// The next pool or cache to sweep. Sees to the probes that are due before it.
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

    /// Timers that have not gone off.
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
