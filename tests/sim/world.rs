//! All nodes, and the phases of a run.
//!
//! A day of load with all events of the plan; an evening without faults and queries, until nothing
//! happens any more; a morning on which every client sends one query, one after the other, and must
//! get a right answer; and a final jump of time, after which nothing may be left.

use super::client::{self, Client};
use super::common::Dice;
use super::keeper::Keeper;
use super::laws::require;
use super::link::Segment;
use super::net::{Event, Net, Port};
use super::plan::{Behaviour, Plan, Quirks, calm_quirks, calm_shortage, calm_weather, ms};
use super::reload;
use super::upstream::{Upstream, spray};
use super::worker::{Input, Worker};
use onward::engine::health::HealthStates;
use onward::moment::Moment;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Time until everything is idle: the latest dial, the slowest answer, the rarest probe.
const REST_MAX: Duration = Duration::from_secs(90);
/// The final jump.
const JUMP: Duration = Duration::from_secs(3_600);
/// Maximum number of events of a run; more indicate an endless loop.
const EVENTS_MAX: u64 = 5_000_000;

/// All nodes.
pub(crate) struct World {
    plan: Plan,
    net: Net,
    workers: Vec<Worker>,
    clients: Vec<Client>,
    upstreams: Vec<Upstream>,
    keeper: Keeper,
    health_states: Arc<HealthStates>,
    evening: Moment,
    events: u64,
}

/// Events of one run or many, by name: evidence that the runs were not empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally(BTreeMap<&'static str, u64>);

impl World {
    /// `lines_max` is the number of events recorded as text and printed at the end.
    pub(crate) fn new(plan: &Plan, lines_max: usize) -> Self {
        // Independent of the numbers that made the plan.
        let mut dice = Dice::new(!plan.seed);
        let health_states = Arc::new(HealthStates::new(&plan.config));
        let worker = |number| Worker::new(number, plan, Arc::clone(&health_states));
        let upstreams: Vec<_> = (0..plan.upstreams().count())
            .map(|number| Upstream::new(number, plan.quirks, &mut dice))
            .collect();
        let clients = 0..plan.datagram_clients + plan.stream_clients;
        Self {
            net: Net::new(dice, plan.weather, lines_max),
            workers: (0..plan.workers).map(worker).collect(),
            clients: clients.map(|number| Client::new(number, plan)).collect(),
            upstreams,
            keeper: Keeper::new(plan, Arc::clone(&health_states)),
            health_states,
            evening: Moment::ZERO.plus(plan.day),
            events: 0,
            plan: plan.clone(),
        }
    }

    /// The whole run.
    pub(crate) fn run(mut self) -> Tally {
        for client in 0..self.clients.len() {
            let at = self.net.dice.time(Duration::ZERO, ms(1_000));
            self.net.after(at, Event::ClientActs(client));
        }
        (0..self.upstreams.len()).for_each(|number| self.upstreams[number].turn(&mut self.net));
        self.net.after(ms(1), Event::SpooferActs);
        reload::plan_next(&mut self.net, &self.plan);
        self.pass(self.evening);
        self.clear_up();
        self.rest();
        if self.plan.calm {
            self.clients.iter().for_each(Client::check_all_heard);
        }
        self.morning();
        self.rest();
        self.net.now = self.net.now.plus(JUMP);
        self.workers.iter_mut().for_each(|worker| worker.rouse(&mut self.net));
        self.keeper.on_time(&mut self.net);
        self.rest();
        self.tally()
    }

    /// Handles all events until `end`.
    fn pass(&mut self, end: Moment) {
        while let Some(event) = self.net.next(end) {
            self.events += 1;
            let bound = self.events < EVENTS_MAX;
            require(bound, "nothing goes round in circles", || format!("{event:?}"));
            self.happens(event);
        }
        self.net.now = self.net.now.max(end);
    }

    fn happens(&mut self, event: Event) {
        let net = &mut self.net;
        match event {
            Event::Datagram { from, to, packet } => self.datagram(from, to, packet),
            Event::Unreachable(Port::Connection(worker, id)) => {
                self.workers[worker].gets(net, Input::Response(id, None));
            }
            Event::Unreachable(Port::Probe(upstream, probe)) => {
                self.keeper.fails(net, (upstream, probe));
            }
            Event::Unreachable(_) => {}
            Event::Segment { link, to, segment } => {
                let Some(owner) = net.arrive(link, to, segment.clone()) else { return };
                self.stir(owner, link, &segment);
            }
            Event::PathDies(port) => net.kill_path(port),
            Event::LinkDies(link) => net.kill_link(link),
            Event::Answer { upstream, to, query } => {
                self.upstreams[upstream].answer(net, to, &query);
            }
            Event::Wake { worker, sweep, at } => self.keeper.wake_me(net, worker, sweep, at),
            Event::Failed { upstream } => self.keeper.exchange_failed(net, upstream),
            Event::Sweep { worker, sweep } => self.workers[worker].gets(net, Input::Sweep(sweep)),
            Event::ClientActs(client) => self.clients[client].act(net, self.evening),
            Event::UpstreamTurns(upstream) => self.upstreams[upstream].turn(net),
            Event::SpooferActs => self.spoof(),
            Event::Reload if net.now < self.evening => {
                reload::happens(net, &self.plan, &self.health_states, &mut self.workers);
            }
            Event::Reload => {}
            Event::KeeperWakes => self.keeper.on_time(net),
            Event::Turn(worker) => {
                self.workers[worker].turn(net);
                self.keeper.check(self.plan.calm);
            }
        }
    }

    fn datagram(&mut self, from: Port, to: Port, packet: Vec<u8>) {
        let net = &mut self.net;
        match (from, to) {
            (Port::Client(client), Port::Listener(worker)) => {
                let query = Input::Query(client::address(client), packet);
                self.workers[worker].gets(net, query);
            }
            (_, Port::Connection(worker, id)) => {
                self.workers[worker].gets(net, Input::Response(id, Some(packet)));
            }
            (_, Port::Upstream(upstream)) => self.upstreams[upstream].gets(net, from, packet),
            (_, Port::Probe(upstream, probe)) => self.keeper.gets(net, (upstream, probe), &packet),
            (_, Port::Client(client)) => self.clients[client].hears(&packet),
            (_, Port::Listener(_)) => unreachable!("only clients send there: {from:?}"),
        }
    }

    fn stir(&mut self, owner: Port, link: usize, segment: &Segment) {
        let net = &mut self.net;
        match owner {
            Port::Client(client) => self.clients[client].stirs(net),
            Port::Connection(worker, id) => self.workers[worker].gets(net, Input::Stirs(id)),
            Port::Probe(upstream, probe) => self.keeper.stirs(net, (upstream, probe), link),
            Port::Upstream(upstream) => self.upstreams[upstream].stirs(net, link, segment),
            Port::Listener(worker) => {
                let Port::Client(client) = net.links[link].dialler else { return };
                self.workers[worker].gets(net, Input::Client(link, client::address(client)));
            }
        }
    }

    fn spoof(&mut self) {
        let Some(most) = self.plan.spoofer.filter(|_| self.net.now < self.evening) else { return };
        spray(&mut self.net, self.plan.sabotage, &self.workers);
        let pause = self.net.dice.time(ms(1), most);
        self.net.after(pause, Event::SpooferActs);
    }

    /// Ends all faults of network and upstreams.
    fn clear_up(&mut self) {
        self.net.note(|| "evening".into());
        self.net.weather = calm_weather();
        let Quirks { in_order, closes_after, .. } = self.plan.quirks;
        let quirks = Quirks { in_order, closes_after, ..calm_quirks() };
        self.upstreams.iter_mut().for_each(|upstream| upstream.recover(quirks));
        self.workers.iter_mut().for_each(|worker| worker.shortage = calm_shortage());
    }

    /// Waits without queries until nothing happens any more.
    fn rest(&mut self) {
        let begun = self.net.now;
        while let Some(event) = self.net.next(Moment::FOREVER) {
            let rested = self.net.now.since(begun);
            let law = "everything comes to rest";
            require(rested <= REST_MAX, law, || format!("{rested:?}, {event:?}"));
            self.events += 1;
            self.happens(event);
        }
        self.workers.iter().for_each(Worker::check_empty);
        self.keeper.check_empty();
    }

    /// Every client sends one more query and gets an answer.
    fn morning(&mut self) {
        self.net.note(|| "morning".into());
        let behaviour = Behaviour { nonsense: 0, leaves: 0, stalls: 0, ..self.plan.behaviour };
        self.plan.calm = true;
        self.workers.iter_mut().for_each(|worker| worker.laws.calm = true);
        let net = &mut self.net;
        self.clients.iter_mut().for_each(|client| client.start_afresh(net, behaviour));
        for client in 0..self.clients.len() {
            self.clients[client].ask(&mut self.net);
            self.pass(self.net.now.plus(ms(1_000)));
        }
        self.clients.iter().for_each(Client::check_all_heard);
    }

    fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        tally.count("events", self.events);
        tally.count("probes", self.keeper.probes);
        for Worker { engine, laws, .. } in &self.workers {
            let (books, stats) = (&laws.books, engine.stats());
            tally.count("queries", books.queries);
            tally.count("queries dropped in silence", books.silenced);
            tally.count("new configurations", books.reloads);
            tally.count("queries coalesced", stats.coalesced);
            tally.count("queries refused", stats.replies[5]);
            tally.count("queries forgotten", books.forgotten);
            tally.count("right answers", books.right);
            tally.count("servfail", stats.replies[2]);
            tally.count("responses not believed", books.disbelieved);
            for upstream in &stats.upstreams {
                tally.count("attempts", upstream.sent);
                tally.count("attempts failed", upstream.failed + upstream.timed_out);
                for pool in [upstream.pool, upstream.tcp] {
                    tally.count("connections expired", pool.expired);
                    tally.count("connections aged", pool.aged);
                    tally.count("connections surplus", pool.surplus);
                    tally.count("connections broken", pool.broken);
                    tally.count("connections renewed", pool.renewed);
                    tally.count("queries moved", pool.moved);
                    tally.count("queries asked again", pool.asked_again);
                }
            }
        }
        tally
    }
}

impl Tally {
    fn count(&mut self, what: &'static str, more: u64) {
        *self.0.entry(what).or_default() += more;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        other.0.iter().for_each(|(what, more)| self.count(what, *more));
    }

    /// Checks that a run of many seeds has covered every kind of event.
    pub(crate) fn check(&self, seeds: u64) {
        for (what, count) in &self.0 {
            assert!(*count > seeds / 4, "hardly any {what}: {count} in {seeds} seeds");
        }
    }
}
