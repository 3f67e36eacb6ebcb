//! Reloads during a run.
//!
//! A reload changes the selection of upstreams, timeouts, and the source address. Another source
//! address makes an upstream a different one, so its connections are closed and their queries are
//! sent again; all others must keep their connections and counters. Each worker reloads at a turn
//! of its own. Health states are kept, because they belong to the servers.

use super::common::Dice;
use super::laws::require;
use super::net::{Event, Net};
use super::plan::{Plan, Sabotage, ms};
use super::worker::{Input, Worker};
use onward::config::{Config, Forward, Policy, Rcodes};
use onward::engine::Forwarder;
use onward::engine::health::HealthStates;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// Another local address, as the source of upstream queries.
const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 200));

/// Schedules the next reload of all workers.
pub(crate) fn plan_next(net: &mut Net, plan: &Plan) {
    if let Some(most) = plan.reloads {
        let pause = net.dice.time(ms(1), most);
        net.after(pause, Event::Reload);
    }
}

/// Returns a changed configuration for `plan`.
pub(crate) fn renewed(plan: &Plan, dice: &mut Dice) -> Config {
    let mut config = plan.config.clone();
    for forward in config.blocks.iter_mut().flat_map(|block| &mut block.forwards) {
        forward.policy = dice.pick(&[Policy::Random, Policy::RoundRobin, Policy::Sequential]);
        forward.source_address = dice.one_in(2).then_some(SOURCE);
        forward.read_timeout = ms(dice.pick(&[1_000, 1_500, 2_000]));
        forward.failover = Rcodes::default();
        forward.failover.extend([2, 5].into_iter().filter(|_| dice.one_in(2)));
    }
    config
}

fn stanzas(config: &Config) -> impl Iterator<Item = &Forward> {
    config.upstreams().map(|(forward, _)| forward)
}

impl Worker {
    /// Applies `config`.
    pub(super) fn reload(
        &mut self,
        net: &mut Net,
        config: &Config,
        health_states: Arc<HealthStates>,
    ) {
        net.note(|| format!("worker {} gets a new configuration", self.number));
        self.settle(net);
        let before = self.engine.stats();
        if self.sabotage == Sabotage::StartedAfresh {
            self.engine = Forwarder::new(config, [0; 32], health_states);
        } else {
            self.engine.reload(net.now, config, &[Some(0)], health_states);
        }
        let after = self.engine.stats();
        for (upstream, stanza) in stanzas(config).enumerate() {
            let [before, after] = [&before, &after].map(|stats| &stats.upstreams[upstream]);
            let stays = self.laws.connections.is_asked_from(upstream, stanza.source_address);
            let kept = if stays { before.answered } else { 0 };
            let law = "an upstream that stays keeps what it has counted, and no other";
            require(after.answered == kept, law, || format!("{upstream}: {before:?}, {after:?}"));
            let opened = after.pool.opened >= before.pool.opened;
            require(!stays || opened, law, || format!("{upstream}: {before:?}, {after:?}"));
            self.laws.books.believed -= before.answered - kept;
        }
        self.laws.connections.reload(stanzas(config));
        self.laws.books.reloads += 1;
        self.make_room();
        self.settle(net);
    }
}

/// Sends the reload to all workers.
pub(crate) fn happens(
    net: &mut Net,
    plan: &Plan,
    health_states: &Arc<HealthStates>,
    all: &mut [Worker],
) {
    let config = Arc::new(renewed(plan, &mut net.dice));
    for worker in all {
        worker.gets(net, Input::Reload(Arc::clone(&config), Arc::clone(health_states)));
    }
    plan_next(net, plan);
}
