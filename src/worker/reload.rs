//! Reload: change to a new configuration between two turns.
//!
//! First the work of the turn is finished with the old configuration, and queries waiting in the
//! sockets of removed listeners are read; then the engine adopts the new configuration, whose parts
//! were built by another thread. The old parts are returned to that thread to be freed, so that the
//! turn is short for any size of configuration. Sockets of removed listeners stay open for
//! outstanding replies. These are methods of the event loop, because a reload touches every part of
//! it, in an order that only the whole can know.

use super::turn::EventLoop;
use crate::control::Reload;
use crate::engine::data::Contents;
use crate::moment::Moment;

/// Maximum number of batches read from a removed listener: more than its buffer holds.
const LAST_BATCHES_MAX: usize = 256;

impl EventLoop<'_> {
    /// Carries out a reload.
    pub(super) fn reload(&mut self, now: Moment, reload: Reload) {
        let Reload { mut assignment, mut parts, sockets, done } = reload;
        if self.drain_until.is_none() {
            self.settle(now);
            self.leave_listeners(now, &assignment.listeners);
            let (slot, engine) = (&mut *self.slot, &mut self.engine);
            let count = assignment.listeners.len();
            slot.listeners.replace(count, sockets, slot.poll.registry());
            slot.writer.end_page(engine);
            engine.adopt(now, &mut parts);
            slot.keeper.renumber(engine);
            self.upstreams.reload(engine.connections_max(), &assignment.tls);
            slot.writer.reload(assignment.generation, &assignment.config);
            slot.assignment.exchange(&mut assignment);
            slot.assignment.fill(&mut engine.data);
            self.clients.connections.adopt(slot.number, &slot.assignment, engine);
            self.clients.connections.reload(&slot.assignment);
            slot.listeners.set_proxies(&slot.assignment, engine.hasher());
            slot.past.reload();
            self.settle(now);
        }
        // The server may have stopped waiting.
        let _ = done.send((assignment, parts));
    }

    /// Takes the data loaded from a source, unless the source belongs to another configuration.
    pub(super) fn take_data(&mut self, source: u64, contents: Contents) {
        let supplies = &mut self.slot.assignment.data;
        if let Some(slot) = supplies.iter().position(|supply| supply.source == source) {
            supplies[slot].contents = Some(contents.clone());
            self.engine.data.set(slot, contents);
        }
    }

    /// Reads the last queries from listeners that the new configuration does not have.
    fn leave_listeners(&mut self, now: Moment, new: &[Option<usize>]) {
        let old = self.slot.assignment.listeners.clone();
        for (number, listener) in old.iter().enumerate() {
            let stays = new.get(number).is_some_and(Option::is_some);
            if listener.is_none() || stays || !self.slot.listeners.has_sockets(number) {
                continue;
            }
            for _ in 0..LAST_BATCHES_MAX {
                self.slot.listeners.queue_first(number);
                self.receive_queries(now);
                if !self.slot.listeners.is_queued(number) {
                    break;
                }
            }
            self.slot.listeners.note_connection(number);
            self.receive_from_connections(now);
            self.clients.connections.leave(now, number, &mut self.engine);
            self.settle(now);
            self.slot.listeners.remove(now, number, self.slot.poll.registry());
        }
    }
}
