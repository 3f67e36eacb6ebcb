//! Upstreams: most of their responses are right, some are late, truncated, malformed or missing.
//!
//! The right address follows from the name. Some upstreams answer the queries of a connection in
//! order, so that an unanswered query blocks the connection; some close connections after a few
//! answers. An upstream that is down refuses or ignores datagrams and connections until it
//! recovers. The attacker is here too, because it imitates an upstream: it sees no packet, but
//! knows every socket and the questions on it, only not the IDs.

use super::common::Dice;
use super::common::wire::{Writer, question_of, word_at};
use super::laws::{BROKEN, FORGED};
use super::link::{LinkId, Segment, Side, SimConnection};
use super::net::{Event, Net, Port, Via};
use super::plan::{Quirks, Sabotage, ms};
use super::worker::Worker;
use onward::engine::key::Transport;
use onward::moment::Moment;
use onward::traffic::answer::address;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// Maximum time of a slow answer.
const SLOW_MAX: Duration = Duration::from_secs(7);
/// Maximum guesses of one spray.
const SPRAY_MAX: usize = 64;

/// State of an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Well,
    /// Receives packets and never responds.
    Silent,
    /// Closed port: ICMP port unreachable, or a reset.
    Refusing,
}

pub(crate) struct Upstream {
    number: usize,
    pub(crate) quirks: Quirks,
    state: State,
    connections: BTreeMap<LinkId, Accepted>,
    /// True if the queries of a connection are answered in order.
    in_order: bool,
}

/// A connection that the upstream has accepted.
struct Accepted {
    connection: SimConnection,
    /// Time when all received queries are answered, if in order.
    busy_until: Moment,
    answers: usize,
}

impl Upstream {
    pub(crate) fn new(number: usize, quirks: Quirks, dice: &mut Dice) -> Self {
        let in_order = dice.per_mille(quirks.in_order);
        Self { number, quirks, state: State::Well, connections: BTreeMap::new(), in_order }
    }

    /// Goes down or recovers, and schedules the next change.
    pub(crate) fn turn(&mut self, net: &mut Net) {
        let Some(most) = self.quirks.fate else { return };
        let states = [State::Well, State::Well, State::Silent, State::Refusing];
        self.state = net.dice.pick(&states);
        net.note(|| format!("upstream {} is {:?}", self.number, self.state));
        if self.state == State::Refusing {
            for link in std::mem::take(&mut self.connections).into_keys() {
                net.reset(link, Side::Acceptor);
            }
        }
        let delay = net.dice.time(ms(10), most);
        net.after(delay, Event::UpstreamTurns(self.number));
    }

    /// Recovers for good, without further faults.
    pub(crate) fn recover(&mut self, quirks: Quirks) {
        self.state = State::Well;
        self.quirks = quirks;
    }

    /// Handles a datagram of a worker or a probe.
    pub(crate) fn gets(&mut self, net: &mut Net, from: Port, packet: Vec<u8>) {
        match self.state {
            State::Well => self.think(net, Via::Datagram(from), packet),
            State::Silent => {}
            State::Refusing => {
                let delay = net.delay();
                net.after(delay, Event::Unreachable(from));
            }
        }
    }

    /// Handles an event of a connection.
    pub(crate) fn stirs(&mut self, net: &mut Net, link: LinkId, segment: &Segment) {
        match self.state {
            State::Well => {}
            State::Silent => return,
            State::Refusing => return net.reset(link, Side::Acceptor),
        }
        if *segment == Segment::Syn {
            net.accept(link);
            let connection = SimConnection::new(link, Side::Acceptor);
            self.connections.insert(link, Accepted { connection, busy_until: net.now, answers: 0 });
        }
        let Some(Accepted { connection, .. }) = self.connections.get_mut(&link) else { return };
        let open = connection.read_all(net) && connection.flush(net).is_ok();
        let queries: Vec<_> = std::iter::from_fn(|| connection.message()).collect();
        if !open && let Some(accepted) = self.connections.remove(&link) {
            accepted.connection.close(net);
        }
        for query in queries {
            self.think(net, Via::Stream(link), query);
        }
    }

    fn think(&mut self, net: &mut Net, to: Via, query: Vec<u8>) {
        let silent = net.dice.per_mille(self.quirks.silent);
        let slow = net.dice.per_mille(self.quirks.slow);
        let most = if slow { SLOW_MAX } else { self.quirks.think };
        let delay = net.dice.time(Duration::ZERO, most);
        let mut at = net.now.plus(delay);
        if let Via::Stream(link) = to
            && let Some(accepted) = self.connections.get_mut(&link).filter(|_| self.in_order)
        {
            at = accepted.busy_until.max(net.now).plus(delay);
            accepted.busy_until = if silent { Moment::FOREVER } else { at };
        }
        if !silent && at < Moment::FOREVER {
            net.at(at, Event::Answer { upstream: self.number, to, query });
        }
    }

    /// Sends the answer to a query, or what the faults make of it.
    pub(crate) fn answer(&mut self, net: &mut Net, to: Via, query: &[u8]) {
        if self.state != State::Well {
            return;
        }
        let Quirks { garbage, hangs_up, .. } = self.quirks;
        if net.dice.per_mille(garbage) {
            let nonsense = self.garbage(net, query);
            self.say(net, to, nonsense);
        }
        if let Via::Stream(link) = to
            && net.dice.per_mille(hangs_up)
            && let Some(accepted) = self.connections.remove(&link)
        {
            return match net.dice.below(2) {
                0 => accepted.connection.close(net),
                _ => net.reset(link, Side::Acceptor),
            };
        }
        let right = self.right_answer(net, to, query);
        self.say(net, to, right);
        let Via::Stream(link) = to else { return };
        let Some(accepted) = self.connections.get_mut(&link) else { return };
        accepted.answers += 1;
        if self.quirks.closes_after == Some(accepted.answers)
            && let Some(accepted) = self.connections.remove(&link)
        {
            accepted.connection.close(net);
        }
    }

    fn say(&mut self, net: &mut Net, to: Via, packet: Vec<u8>) {
        match to {
            Via::Datagram(to) => net.datagram(Port::Upstream(self.number), to, packet),
            Via::Stream(link) => {
                if let Some(accepted) = self.connections.get_mut(&link) {
                    accepted.connection.send(net, &packet);
                }
            }
        }
    }

    /// Returns a forged response with its mark.
    fn garbage(&self, net: &mut Net, query: &[u8]) -> Vec<u8> {
        let mut packet = response(query, FORGED, 0, 0, &[]);
        match net.dice.below(4) {
            0 => packet[1] ^= 1 << net.dice.below(8),
            1 => packet[13] ^= 0x01,
            2 => packet[2] &= 0x7f,
            _ => {
                packet[3] |= (BROKEN & 0xff) as u8;
                packet.pop();
            }
        }
        packet
    }

    fn right_answer(&self, net: &mut Net, to: Via, query: &[u8]) -> Vec<u8> {
        let datagram = matches!(to, Via::Datagram(_));
        let mut options = Vec::new();
        if !datagram && net.dice.per_mille(self.quirks.keepalive) {
            options = vec![0, 11, 0, 2, 0, net.dice.pick(&[0, 5, 100])];
        }
        let padding = if net.dice.per_mille(self.quirks.long) { net.dice.below(1_000) } else { 0 };
        if datagram && net.dice.per_mille(self.quirks.truncated) {
            // Truncated by the server, or by the receiver's buffer.
            let itself = net.dice.one_in(2);
            return if itself {
                negative(query, 0x0200)
            } else {
                response(query, 0, 3_000, 0, &[])
            };
        }
        if net.dice.per_mille(self.quirks.negative) {
            let rcode = net.dice.pick(&[0, 2, 3, 5]);
            return negative(query, rcode);
        }
        response(query, 0, padding, net.dice.below(2), &options)
    }
}

/// A response without records.
fn negative(query: &[u8], flags: u16) -> Vec<u8> {
    let flags = 0x8080 | word_at(query, 2) & 0x0110 | flags;
    let mut writer = Writer::new([word_at(query, 0), flags, 1, 0, 0, 0]);
    writer.bytes.extend_from_slice(question_of(query));
    writer.bytes
}

/// The right answer, unless `flags` mark it as forged, with a padding record besides.
fn response(query: &[u8], flags: u16, padding: usize, edns: usize, options: &[u8]) -> Vec<u8> {
    let flags = 0x8080 | word_at(query, 2) & 0x0110 | flags;
    let question = question_of(query);
    let (name, kind) = (&question[..question.len() - 4], word_at(question, question.len() - 4));
    let address = address(name, kind);
    let edns = u16::from(edns > 0 || !options.is_empty());
    let counts = [u16::from(address.is_some()), u16::from(padding > 0), edns];
    let [answers, authorities, additionals] = counts;
    let mut writer = Writer::new([word_at(query, 0), flags, 1, answers, authorities, additionals]);
    writer.bytes.extend_from_slice(question);
    let mut data = match address {
        Some(IpAddr::V4(address)) => address.octets().to_vec(),
        Some(IpAddr::V6(address)) => address.octets().to_vec(),
        None => Vec::new(),
    };
    if flags & FORGED != 0 {
        data.fill(66);
    }
    if address.is_some() {
        writer.record(&[0xc0, 12], kind, 1, 300, &data);
    }
    if padding > 0 {
        writer.record(&[0], 16, 1, 300, &vec![0; padding]);
    }
    if edns > 0 {
        writer.opt(1232, 0, 0, false, options);
    }
    writer.bytes
}

/// Sends a spray of guessed responses to a UDP connection of a worker.
pub(crate) fn spray(net: &mut Net, sabotage: Sabotage, workers: &[Worker]) {
    let worker = net.dice.below(workers.len());
    let open = &workers[worker].laws.connections.open;
    let asking = |transport| transport == Transport::Udp;
    let open: Vec<_> = open.iter().filter(|(_, open)| asking(open.transport)).collect();
    if open.is_empty() {
        return;
    }
    let (id, connection) = open[net.dice.below(open.len())];
    let Some(attempt) = connection.attempts.last() else { return };
    let (from, to) = (Port::Upstream(connection.upstream), Port::Connection(worker, *id));
    for _ in 0..1 + net.dice.below(SPRAY_MAX) {
        let mut guess = response(&attempt.query, FORGED, 0, 0, &[]);
        match net.dice.below(4) {
            // The attacker has the ID of another question: this one with another first letter.
            0 => guess[13] ^= 0x01,
            _ if sabotage == Sabotage::IdsKnown => {}
            _ => guess[..2].copy_from_slice(&net.dice.word().to_be_bytes()),
        }
        let delay = net.dice.time(Duration::ZERO, ms(5));
        net.after(delay, Event::Datagram { from, to, packet: guess });
    }
}
