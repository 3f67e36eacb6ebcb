//! Connections that a worker has accepted from clients: reading, writing, closing.
//!
//! As in the program: one read per connection and turn, a limit on outstanding queries of a
//! connection, and a connection whose client does not read its replies is closed.

use super::link::{LinkId, Progress, Side, SimConnection};
use super::net::Net;
use super::worker::{Input, Worker};
use onward::engine::key::ConnectionKey;
use onward::engine::{Client, Via};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// Maximum length of a query; a longer one closes its connection.
const QUERY_LEN_MAX: usize = 4096;

struct Slot {
    peer: SocketAddr,
    connection: SimConnection,
    /// The client has closed its sending side.
    half_closed: bool,
    /// The connection is at its query limit, and is read again after a reply.
    paused: bool,
}

#[derive(Default)]
pub(crate) struct Accepted {
    slots: BTreeMap<ConnectionKey, Slot>,
    keys: BTreeMap<LinkId, ConnectionKey>,
    written: BTreeSet<ConnectionKey>,
}

impl Accepted {
    /// Returns the number of connections.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }
}

impl Worker {
    fn accept(&mut self, net: &mut Net, link: LinkId, peer: SocketAddr) {
        let Ok((key, evicted)) = self.engine.admit(net.now, 0, peer.ip()) else {
            self.engine.stats_mut().connections_refused += 1;
            return net.reset(link, Side::Acceptor);
        };
        if let Some(evicted) = evicted {
            self.take_away(net, evicted);
        }
        net.note(|| format!("connection of {peer} is accepted: {key:?}"));
        net.accept(link);
        let connection = SimConnection::new(link, Side::Acceptor);
        self.accepted.keys.insert(link, key);
        let slot = Slot { peer, connection, half_closed: false, paused: false };
        self.accepted.slots.insert(key, slot);
    }

    /// Reads once, also from a new connection, and passes the queries to the engine.
    pub(super) fn read_client(&mut self, net: &mut Net, link: LinkId, peer: SocketAddr) {
        if !net.is_connected(link, Side::Acceptor) {
            self.accept(net, link, peer);
        }
        let Some(key) = self.accepted.keys.get(&link).copied() else { return };
        let Some(slot) = self.accepted.slots.get_mut(&key) else { return };
        self.accepted.written.insert(key);
        if net.is_reset(link, Side::Acceptor) {
            return self.drop_client(net, key);
        }
        let progress = if slot.paused { Progress::More } else { slot.connection.read(net) };
        slot.half_closed |= progress == Progress::Over;
        let client = Client { listener: 0, peer, local: None, via: Via::Connection(key) };
        while let Some(slot) = self.accepted.slots.get_mut(&key) {
            slot.paused = !self.engine.clients.may_ask(key);
            if slot.paused {
                return;
            }
            match slot.connection.inbox.next(QUERY_LEN_MAX).map(|next| next.map(<[u8]>::to_vec)) {
                Ok(Some(message)) => {
                    self.ask(net, client, &message);
                }
                Ok(None) if progress == Progress::More => {
                    return self.inputs.push(Input::Client(link, peer));
                }
                Ok(None) => {
                    if slot.connection.inbox.is_within_message() {
                        self.engine.clients.begins_query(net.now, key);
                    }
                    return;
                }
                Err(_) => return self.drop_client(net, key),
            }
        }
    }

    /// Returns true if a reply can be written to the connection; closes it if its client reads too
    /// slowly.
    pub(super) fn has_room(&mut self, net: &mut Net, key: ConnectionKey) -> bool {
        let full = self.accepted.slots.get(&key).is_some_and(|slot| slot.connection.is_full());
        if full {
            self.drop_client(net, key);
        }
        self.accepted.slots.contains_key(&key)
    }

    /// Writes a reply to the connection.
    pub(super) fn write_client(&mut self, key: ConnectionKey, reply: &[u8]) -> bool {
        let Some(slot) = self.accepted.slots.get_mut(&key) else { return false };
        if slot.paused {
            self.inputs.push(Input::Client(slot.connection.link, slot.peer));
        }
        self.accepted.written.insert(key);
        slot.connection.push(reply).is_ok()
    }

    /// Writes pending replies to the touched connections, and closes those that are finished.
    pub(super) fn flush_clients(&mut self, net: &mut Net) {
        for key in std::mem::take(&mut self.accepted.written) {
            let Some(slot) = self.accepted.slots.get_mut(&key) else { continue };
            let outcome = slot.connection.flush(net);
            if outcome.is_ok_and(|count| count > 0) {
                self.engine.clients.active(net.now, key);
            }
            if slot.connection.is_drained() {
                self.engine.clients.is_read(net.now, key);
            } else {
                self.engine.clients.begins_answer(net.now, key);
            }
            let quiet = self.engine.clients.is_quiet(key);
            let done = slot.half_closed && slot.connection.is_drained() && !slot.paused && quiet;
            if outcome.is_err() || done {
                self.drop_client(net, key);
            }
        }
    }

    /// Closes connections at their idle timeout.
    pub(super) fn expire_clients(&mut self, net: &mut Net) {
        while let Some(key) = self.engine.clients.overdue(net.now) {
            self.drop_client(net, key);
        }
    }

    /// Closes the connection; later replies for it are dropped.
    fn drop_client(&mut self, net: &mut Net, key: ConnectionKey) {
        self.engine.clients.close(key);
        self.take_away(net, key);
    }

    fn take_away(&mut self, net: &mut Net, key: ConnectionKey) {
        if let Some(slot) = self.accepted.slots.remove(&key) {
            net.note(|| format!("connection of {} is closed", slot.peer));
            self.accepted.keys.remove(&slot.connection.link);
            slot.connection.close(net);
        }
    }
}
