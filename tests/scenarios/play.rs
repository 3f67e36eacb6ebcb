//! Runs a scenario, step by step, and reports the first deviation.
//!
//! Every packet that reaches an upstream or a client must be mentioned before time passes, so that
//! instants are exact. At the end every client has its reply or is expected to get none, every drop
//! has been mentioned, and after all deadlines nothing is left.

use super::ask::{Ask, ConnectionOf, Heard, Names};
use super::say::{LengthMax, Lints, Said};
use super::script::{COUNTS, Count, Counts, Failure, Line, PoolCount, Script, Step, Whom};
use super::words::Problem;
use super::world::{Arrival, Delivery, World};
use onward::config::{Config, Host};
use onward::engine::key::ConnectionKey;
use onward::engine::{Client, Via};
use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Jump after the last step: longer than any deadline.
const LAST_JUMP: Duration = Duration::from_secs(7 * 24 * 3600);

/// Runs `script` with all random numbers derived from `seed`. `line` tracks the current step.
pub(crate) fn play(script: &Script, seed: u8, line: &Cell<usize>) -> Result<(), Failure> {
    let loaded = Config::load(script.corefile.as_bytes(), "Corefile", &Host::plain());
    let fail = |problem: Problem| Failure { line: line.get(), problem };
    let (config, _) = loaded.map_err(|error| fail(error.to_string()))?;
    let mut player = Player {
        world: World::new(&config, seed),
        upstreams: config.upstreams().map(|(_, upstream)| upstream.address).collect(),
        listeners: config.listeners.iter().map(|listener| listener.address).collect(),
        asked: BTreeMap::new(),
        queries: HashMap::new(),
        ports: HashMap::new(),
        counted: Vec::new(),
        last_upstream: None,
    };
    player.play(&script.lines, line)?;
    player.end().map_err(fail)
}

struct Player {
    world: World,
    upstreams: Vec<SocketAddr>,
    listeners: Vec<SocketAddr>,
    asked: BTreeMap<usize, Asked>,
    /// Named queries that reached upstreams.
    queries: HashMap<String, Arrival>,
    /// Named source ports and connections.
    ports: HashMap<String, usize>,
    counted: Counts<Count>,
    /// The upstream of the last mentioned query.
    last_upstream: Option<SocketAddr>,
}

/// A client, which sends one query.
struct Asked {
    client: Client,
    packet: Vec<u8>,
    ask: Option<Ask>,
    done: bool,
}

impl Player {
    fn play(&mut self, lines: &[Line], line: &Cell<usize>) -> Result<(), Failure> {
        for Line { number, step } in lines {
            line.set(*number);
            let fail = |problem| Failure { line: *number, problem };
            if let Step::InOneTurn(lines) = step {
                for Line { number, step } in lines {
                    line.set(*number);
                    let fail = |problem| Failure { line: *number, problem };
                    self.step(step).map_err(fail)?;
                }
            } else {
                self.step(step).map_err(fail)?;
            }
            self.world.settle().map_err(fail)?;
        }
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Result<(), Problem> {
        match step {
            Step::Asks { client, ask } => self.asks(*client, ask),
            Step::Sends { client, packet } => self.sends(*client, packet),
            Step::Told { client, said, length_max } => self.told(*client, said, *length_max),
            Step::ToldNothing { client } => self.told_nothing(*client),
            Step::ClosesConnection { client } => {
                let connection = self.connection_of(*client)?;
                self.world.engine.clients.close(connection);
                Ok(())
            }
            Step::ConnectionIs { client, open } => {
                let connection = self.connection_of(*client)?;
                let is = self.world.engine.clients.is_open(connection);
                expect(is == *open, || format!("it is not: open is {is}"))
            }
            Step::Gets { whom, heard, names } => self.gets(*whom, heard, names),
            Step::Answers { query, said, odd } => self.answers(query, said, odd),
            Step::Garbage { query, packet } => {
                let id = self.query(query)?.connection;
                self.open_socket(query)?;
                self.world.response(id, packet, false);
                Ok(())
            }
            Step::Refuses { query } | Step::EndsConnection { query } => {
                self.socket_ends(step, query)
            }
            Step::Becomes { upstream, mode } => {
                self.number_of(*upstream)?;
                self.world.modes.insert(*upstream, *mode);
                Ok(())
            }
            Step::Probed { upstream, manner } => {
                self.number_of(*upstream)?;
                self.world.keeper.set_manner(Some(*upstream), *manner);
                Ok(())
            }
            Step::HasProbes { upstream, count } => {
                let probes = self.world.keeper.probes(self.number_of(*upstream)?);
                expect(probes == *count, || format!("it has had {probes}"))
            }
            Step::IsDown { upstream, down } => {
                let is = self.world.keeper.health_states.is_down(self.number_of(*upstream)?);
                expect(is == *down, || format!("it is not: down is {is}"))
            }
            Step::HasGot { upstream, count } => {
                let number = self.number_of(*upstream)?;
                let sent = self.world.engine.stats().upstreams[number].sent;
                expect(count.contains(&sent), || format!("it has got {sent}"))
            }
            Step::After(time) => self.after(*time),
            Step::Within(time) => self.within(*time),
            Step::NothingFor(time) => {
                self.after(*time)?;
                self.all_is_spoken_of()
            }
            Step::Pool { upstream, tcp, counts } => self.pool(*upstream, *tcp, counts),
            Step::Counted(counts) => {
                self.counted.retain(|(_, old)| counts.iter().all(|(_, new)| old != new));
                self.counted.extend(counts.iter().cloned());
                self.counts_are_right(counts)
            }
            Step::InOneTurn(_) => Err("a turn cannot stand within a turn".into()),
            Step::Stop => {
                self.world.stop();
                Ok(())
            }
        }
    }

    fn asks(&mut self, number: usize, ask: &Ask) -> Result<(), Problem> {
        let packet = ask.bytes(1000 + number as u16);
        let mut client = self.client(number, ask.from);
        if let Some(to) = ask.to {
            let listener = self.listeners.iter().position(|listener| *listener == to);
            let listener = listener.ok_or_else(|| format!("nobody listens on {to}"))?;
            client.listener = listener as u16;
        }
        match ask.connection {
            None => {}
            Some(ConnectionOf::Own) => {
                let connection = self.world.admit(client.peer);
                client.via = Via::Connection(connection.ok_or("the connection is not admitted")?);
            }
            Some(ConnectionOf::Client(other)) => {
                self.connection_of(other)?;
                client = self.asked[&other].client;
            }
        }
        self.ask(number, client, packet, Some(ask))
    }

    fn sends(&mut self, number: usize, packet: &[u8]) -> Result<(), Problem> {
        self.ask(number, self.client(number, None), packet.to_vec(), None)
    }

    fn ask(
        &mut self,
        number: usize,
        client: Client,
        packet: Vec<u8>,
        ask: Option<&Ask>,
    ) -> Result<(), Problem> {
        let beyond_buffer = ask.is_some_and(|ask| ask.beyond_buffer);
        self.world.query(client, &packet, beyond_buffer);
        let asked = Asked { client, packet, ask: ask.cloned(), done: false };
        match self.asked.insert(number, asked) {
            Some(old) if !old.done => Err(format!("client {number} waits for a reply already")),
            _ => Ok(()),
        }
    }

    /// Client `number`, at an address of its own by default.
    fn client(&self, number: usize, from: Option<SocketAddr>) -> Client {
        let ip = [198, 51, 100 + (number / 250) as u8, 1 + (number % 250) as u8];
        let peer = from.unwrap_or_else(|| (ip, 4000).into());
        Client { listener: 0, peer, local: None, via: Via::Datagram }
    }

    fn told(&mut self, number: usize, said: &Said, length_max: LengthMax) -> Result<(), Problem> {
        let asked = self.asked.get(&number).ok_or(format!("client {number} has not asked"))?;
        let is_its = |delivery: &Delivery| {
            delivery.client == asked.client && delivery.packet[..2] == asked.packet[..2]
        };
        let place = self.world.deliveries.iter().position(is_its);
        let place = place.ok_or_else(|| format!("client {number} has got nothing"))?;
        let delivery = self.world.deliveries.remove(place);
        let Delivery { packet, .. } = delivery.expect("it was found there");
        let got = Said::read(&packet, &asked.packet, asked.ask.as_ref())?;
        let expected = said.clone().for_ask(asked.ask.as_ref());
        if got != expected {
            return Err(format!("expected {expected}\n  but got  {got}"));
        }
        let (len, max) = (packet.len(), length_max.unwrap_or(usize::MAX));
        if len > max {
            return Err(format!("the reply has {len} bytes, more than {max}"));
        }
        let done = self.asked.get_mut(&number).map(|asked| &mut asked.done);
        match done.map(|done| std::mem::replace(done, true)) {
            Some(true) => Err(format!("client {number} has had its reply already")),
            _ => Ok(()),
        }
    }

    fn told_nothing(&mut self, number: usize) -> Result<(), Problem> {
        let asked = self.asked.get_mut(&number).ok_or(format!("client {number} has not asked"))?;
        asked.done = true;
        self.all_is_spoken_of()
    }

    fn gets(&mut self, whom: Whom, heard: &Heard, names: &Names) -> Result<(), Problem> {
        if let Whom::This(upstream) = whom {
            self.number_of(upstream)?;
        }
        let is_meant = |upstream: SocketAddr| match whom {
            Whom::This(meant) => upstream == meant,
            Whom::Any => true,
            Whom::Another => self.last_upstream.is_some_and(|last| upstream != last),
        };
        let mut others = String::new();
        let mut found = None;
        for (place, arrival) in self.world.arrivals.iter().enumerate() {
            let other = Heard::read(arrival)?;
            if is_meant(arrival.upstream) && other == *heard {
                found = Some(place);
                break;
            }
            others += &format!("\n  {} got {other}", arrival.upstream);
        }
        let place = found.ok_or_else(|| match &others[..] {
            "" => "no upstream has got anything".to_owned(),
            others => format!("it has not, but{others}"),
        })?;
        let arrival = self.world.arrivals.remove(place).expect("it was found there");
        self.last_upstream = Some(arrival.upstream);
        if let Some(name) = &names.port {
            self.name_port(name, arrival.port)?;
        }
        if let Some(name) = &names.query {
            self.queries.insert(name.clone(), arrival);
        }
        Ok(())
    }

    /// A port has one name, and a name stands for one port.
    fn name_port(&mut self, name: &str, port: usize) -> Result<(), Problem> {
        let known = self.ports.iter().find(|(_, other)| **other == port);
        match (known, self.ports.get(name)) {
            (Some((known, _)), _) if known == name => Ok(()),
            (Some((known, _)), _) => Err(format!("it came from `{known}`, not from `{name}`")),
            (None, Some(_)) => Err(format!("it came from a new one, not from `{name}`")),
            (None, None) => {
                self.ports.insert(name.to_owned(), port);
                Ok(())
            }
        }
    }

    fn answers(&mut self, name: &str, said: &Said, odd: &Lints) -> Result<(), Problem> {
        let packet = said.bytes(&self.query(name)?.packet, odd);
        let socket_of = odd.connection_of.as_deref().unwrap_or(name);
        let id = self.query(socket_of)?.connection;
        if odd.to_closed_port {
            return match self.world.is_open(id) {
                true => Err(format!("the port of `{socket_of}` is still open")),
                false => Ok(()),
            };
        }
        self.open_socket(socket_of)?;
        self.world.response(id, &packet, odd.beyond_buffer);
        Ok(())
    }

    fn socket_ends(&mut self, step: &Step, name: &str) -> Result<(), Problem> {
        self.open_socket(name)?;
        let Arrival { connection, tcp, .. } = *self.query(name)?;
        if tcp == matches!(step, Step::Refuses { .. }) {
            return Err(format!("`{name}` did not come that way: over tcp is {tcp}"));
        }
        self.world.socket_ends(connection);
        Ok(())
    }

    fn after(&mut self, time: Duration) -> Result<(), Problem> {
        self.all_is_spoken_of()?;
        let begun = self.world.now;
        self.world.pass(begun.plus(time))?;
        if self.world.now < begun.plus(time) {
            let passed = self.world.now.since(begun);
            let unspoken = self.unspoken()?;
            return Err(format!("after {passed:?} already {unspoken}"));
        }
        Ok(())
    }

    fn within(&mut self, time: Duration) -> Result<(), Problem> {
        self.all_is_spoken_of()?;
        self.world.pass(self.world.now.plus(time))?;
        match self.world.arrivals.is_empty() && self.world.deliveries.is_empty() {
            true => Err("nothing has happened".into()),
            false => Ok(()),
        }
    }

    fn pool(
        &mut self,
        upstream: SocketAddr,
        tcp: bool,
        counts: &[(RangeInclusive<u64>, PoolCount)],
    ) -> Result<(), Problem> {
        let stats = self.world.engine.stats().upstreams[self.number_of(upstream)?];
        let pool = if tcp { stats.tcp } else { stats.pool };
        let sockets = self.world.sockets_to(upstream, tcp) as u64;
        for (expected, what) in counts {
            let is = match what {
                PoolCount::Connections => sockets,
                PoolCount::Opened => pool.opened,
                PoolCount::Reused => pool.reused,
                PoolCount::Shared => pool.shared,
                PoolCount::Expired => pool.expired,
                PoolCount::Aged => pool.aged,
                PoolCount::Surplus => pool.surplus,
                PoolCount::Broken => pool.broken,
                PoolCount::Renewed => pool.renewed,
                PoolCount::Moved => pool.moved,
                PoolCount::Unmoved => pool.unmoved,
                PoolCount::AskedAgain => pool.asked_again,
                PoolCount::Limited => pool.limited,
            };
            if !expected.contains(&is) {
                let of = format!("{sockets} connections, {pool:?}");
                return Err(format!("{what:?}: expected {}, but {is} of {of}", range(expected)));
            }
        }
        Ok(())
    }

    fn counts_are_right(&self, counts: &[(RangeInclusive<u64>, Count)]) -> Result<(), Problem> {
        for (expected, what) in counts {
            let is = self.world.count(*what);
            if !expected.contains(&is) {
                return Err(format!("{what:?}: expected {}, but {is}", range(expected)));
            }
        }
        Ok(())
    }

    /// Fails if an unmentioned packet has reached an upstream or a client.
    fn all_is_spoken_of(&self) -> Result<(), Problem> {
        let unspoken = self.unspoken()?;
        if unspoken.is_empty() { Ok(()) } else { Err(format!("not spoken of: {unspoken}")) }
    }

    fn unspoken(&self) -> Result<String, Problem> {
        let mut texts = Vec::new();
        for arrival in &self.world.arrivals {
            texts.push(format!("upstream {} gets {}", arrival.upstream, Heard::read(arrival)?));
        }
        for Delivery { client, packet } in &self.world.deliveries {
            let is_its = |(_, asked): &(_, &Asked)| {
                asked.client == *client && asked.packet[..2] == packet[..2]
            };
            let Some((number, asked)) = self.asked.iter().find(is_its) else {
                return Err(format!("a reply to nobody: {client:?} {packet:x?}"));
            };
            let said = Said::read(packet, &asked.packet, asked.ask.as_ref())?;
            texts.push(format!("client {number} gets {said}"));
        }
        Ok(texts.join("; "))
    }

    fn end(&mut self) -> Result<(), Problem> {
        self.all_is_spoken_of()?;
        if let Some((number, _)) = self.asked.iter().find(|(_, asked)| !asked.done) {
            return Err(format!("client {number} is still without a reply"));
        }
        let silently = |count: Count| {
            let told = self.counted.iter().find(|(_, what)| *what == count);
            !told.map_or(0..=0, |(number, _)| number.clone()).contains(&self.world.count(count))
        };
        if let Some((name, count)) = COUNTS.iter().find(|(_, count)| silently(*count)) {
            return Err(format!("not spoken of: {} {name}", self.world.count(*count)));
        }
        self.world.heal();
        self.world.pass(self.world.now.plus(LAST_JUMP))?;
        self.all_is_spoken_of()?;
        self.world.books()?;
        let left = self.world.leftovers();
        if left.is_empty() { Ok(()) } else { Err(format!("at the end: {}", left.join(", "))) }
    }

    fn query(&self, name: &str) -> Result<&Arrival, Problem> {
        self.queries.get(name).ok_or_else(|| format!("no query is called `{name}`"))
    }

    fn open_socket(&self, name: &str) -> Result<(), Problem> {
        match self.world.is_open(self.query(name)?.connection) {
            true => Ok(()),
            false => Err(format!("the port of `{name}` is closed")),
        }
    }

    fn connection_of(&self, client: usize) -> Result<ConnectionKey, Problem> {
        let connection = self.asked.get(&client).and_then(|asked| asked.client.via.connection());
        connection.ok_or_else(|| format!("client {client} has no connection"))
    }

    fn number_of(&self, upstream: SocketAddr) -> Result<usize, Problem> {
        let number = self.upstreams.iter().position(|address| *address == upstream);
        number.ok_or_else(|| format!("the Corefile has no upstream {upstream}"))
    }
}

fn expect(holds: bool, problem: impl Fn() -> Problem) -> Result<(), Problem> {
    if holds { Ok(()) } else { Err(problem()) }
}

fn range(expected: &RangeInclusive<u64>) -> String {
    match (expected.start(), expected.end()) {
        (least, most) if least == most => least.to_string(),
        (least, most) => format!("{least} to {most}"),
    }
}
