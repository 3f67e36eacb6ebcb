//! Clients: they send bursts of queries over UDP or a connection, and check the replies.
//!
//! Names come from a small set, so that questions coincide; letter case, EDNS, flags and IDs are
//! random. At random times, connections are half-closed, closed, reset or left unread. A client
//! gets each reply on a connection once; over UDP the network may duplicate it. In a run without
//! faults every client gets every reply.

use super::common::Dice;
use super::common::wire::{Ask, random_case};
use super::laws::{question, require};
use super::link::{Side, SimConnection};
use super::net::{Event, Net, Port};
use super::plan::{Behaviour, Plan, ZONES, ms};
use onward::moment::Moment;
use std::net::SocketAddr;
use std::time::Duration;

/// The first client's port; later clients have the next ports.
const PORT_FIRST: u16 = 2_000;
/// Maximum time for which a client does not read its connection.
const STALL_MAX: Duration = Duration::from_secs(15);

/// Returns the address of client `number`.
pub(crate) fn address(number: usize) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, 1], PORT_FIRST + number as u16))
}

/// Returns the port of the client with the address `peer`; there may be no such client.
pub(crate) fn port(peer: SocketAddr) -> Port {
    Port::Client(usize::from(peer.port().wrapping_sub(PORT_FIRST)))
}

/// A query that was sent, and the number of its replies.
struct Asked {
    packet: Vec<u8>,
    heard: u32,
    nonsense: bool,
}

pub(crate) struct Client {
    number: usize,
    worker: usize,
    connections: bool,
    connection: Option<SimConnection>,
    /// The client does not read before this time.
    deaf_until: Moment,
    asked: Vec<Asked>,
    last_id: u16,
    budget: usize,
    pub(crate) behaviour: Behaviour,
}

impl Client {
    pub(crate) fn new(number: usize, plan: &Plan) -> Self {
        Self {
            number,
            worker: number % plan.workers,
            connections: number >= plan.datagram_clients,
            connection: None,
            deaf_until: Moment::ZERO,
            asked: Vec::new(),
            last_id: 0,
            budget: plan.behaviour.budget,
            behaviour: plan.behaviour,
        }
    }

    /// Reads postponed replies, sends a burst, and schedules the next one; none from `evening` on.
    pub(crate) fn act(&mut self, net: &mut Net, evening: Moment) {
        self.stirs(net);
        if net.now >= evening || self.budget == 0 {
            return;
        }
        let count = self.budget.min(1 + net.dice.below(self.behaviour.burst));
        self.budget -= count;
        for _ in 0..count {
            self.ask(net);
        }
        if self.connection.is_some() && net.dice.per_mille(self.behaviour.leaves) {
            self.leave(net);
        }
        if net.dice.per_mille(self.behaviour.stalls) {
            self.deaf_until = net.now.plus(net.dice.time(Duration::ZERO, STALL_MAX));
            net.at(self.deaf_until, Event::ClientActs(self.number));
        }
        let pause = net.dice.time(ms(1), self.behaviour.pause);
        net.after(pause, Event::ClientActs(self.number));
    }

    /// Sends one more query, regardless of the budget.
    pub(crate) fn ask(&mut self, net: &mut Net) {
        let nonsense = net.dice.per_mille(self.behaviour.nonsense);
        let again = !self.connections && net.dice.one_in(20) && !self.asked.is_empty();
        // An odd step, so that no ID repeats.
        self.last_id = self.last_id.wrapping_add(40_503);
        let packet = match self.asked.last().filter(|_| again) {
            Some(last) => last.packet.clone(),
            None if nonsense => nonsense_query(&mut net.dice, self.last_id),
            None => query(&mut net.dice, self.last_id),
        };
        let listener = Port::Listener(self.worker);
        if self.connections {
            let dial = |net: &mut Net| net.dial(Port::Client(self.number), listener);
            let new = || SimConnection::new(dial(net), Side::Dialler);
            let connection = self.connection.get_or_insert_with(new);
            // A failed send is noticed at the connection's next event.
            connection.send(net, &packet);
        } else {
            net.datagram(Port::Client(self.number), listener, packet.clone());
        }
        if !again {
            self.asked.push(Asked { packet, heard: 0, nonsense });
        }
    }

    /// Ends the client's connection in a random way.
    fn leave(&mut self, net: &mut Net) {
        let Some(connection) = &mut self.connection else { return };
        match net.dice.below(3) {
            0 if connection.is_drained() => return net.finish(connection.link, Side::Dialler),
            0 | 1 => connection.close(net),
            _ => net.reset(connection.link, Side::Dialler),
        }
        self.connection = None;
        self.asked.clear();
    }

    /// Handles an event of the client's connection.
    pub(crate) fn stirs(&mut self, net: &mut Net) {
        if net.now < self.deaf_until {
            return;
        }
        let Some(mut connection) = self.connection.take() else { return };
        let sent = connection.flush(net).is_ok();
        let open = connection.read_all(net) && sent;
        while let Some(reply) = connection.message() {
            self.hears(&reply);
        }
        if open {
            self.connection = Some(connection);
            return;
        }
        net.note(|| format!("client {} sees its connection closed", self.number));
        connection.close(net);
        // Unanswered queries of this connection stay unanswered.
        self.asked.retain(|asked| asked.heard > 0 || self.behaviour.leaves == 0);
    }

    /// Handles a reply.
    pub(crate) fn hears(&mut self, reply: &[u8]) {
        let asked = self.asked.iter_mut().find(|asked| {
            let same = question(reply) == question(&asked.packet);
            asked.packet.get(..2) == reply.get(..2)
                && (same || asked.nonsense)
                && (asked.heard == 0 || !self.connections)
        });
        let law = "a client hears answers to its own questions, on a connection once";
        require(asked.is_some(), law, || format!("client {}: {reply:?}", self.number));
        asked.expect("just looked").heard += 1;
    }

    /// Starts again with a new connection and other behaviour.
    pub(crate) fn start_afresh(&mut self, net: &mut Net, behaviour: Behaviour) {
        // The old connection may be half-closed or dead.
        if let Some(connection) = self.connection.take() {
            net.reset(connection.link, Side::Dialler);
        }
        self.asked.clear();
        self.deaf_until = Moment::ZERO;
        self.behaviour = behaviour;
    }

    /// Checks that each valid query of this client has a reply.
    pub(crate) fn check_all_heard(&self) {
        for asked in self.asked.iter().filter(|asked| !asked.nonsense) {
            let law = "on a calm day every client hears its answer";
            require(asked.heard > 0, law, || format!("client {}: {:?}", self.number, asked.packet));
        }
    }
}

fn query(dice: &mut Dice, id: u16) -> Vec<u8> {
    let zone = dice.pick(&[ZONES[0], ZONES[1], ZONES[2], ZONES[2]]);
    let store = dice.pick(&[3, 3, 1_000]);
    let name = format!("n{}.{zone}", dice.below(store));
    let name = String::from_utf8(random_case(dice, name.as_bytes())).expect("letters");
    let mut ask = Ask::new(id, &name);
    ask.rtype = dice.pick(&[1, 1, 28]);
    ask.flags = dice.pick(&[0x0100, 0x0100, 0x0100, 0, 0x0110, 0x0120]);
    if dice.one_in(2) {
        ask = ask.with_edns(dice.pick(&[0, 512, 1232, 4096]));
        ask.edns.as_mut().expect("just set").2 = dice.one_in(3);
    }
    ask.bytes()
}

/// Returns a message that cannot be forwarded.
fn nonsense_query(dice: &mut Dice, id: u16) -> Vec<u8> {
    let mut packet = query(dice, id);
    match dice.below(4) {
        0 => packet.truncate(dice.below(12)),
        1 => packet[2] |= 0x80,
        2 => packet[2] |= 0x28,
        _ => packet.truncate(14),
    }
    packet
}
