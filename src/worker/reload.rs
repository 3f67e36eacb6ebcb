//! Reload: change to a new configuration between two turns.
//!
//! First the work of the turn is finished with the old configuration, and queries waiting in the
//! sockets of removed listeners are read; then the engine adopts the new configuration, whose parts
//! were built by another thread. The old parts are returned to that thread to be freed, so that the
//! turn is short for any size of configuration. Sockets of removed listeners stay open for
//! outstanding replies.

use super::Listening;
use super::turn::EventLoop;
use crate::config::QUERY_TIMEOUT;
use crate::control::{Reload, Remains};
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
            let replaced = sockets.iter().map(|(number, ..)| *number).collect::<Vec<_>>();
            self.close_listeners(|number| replaced.contains(&number));
            let count = assignment.listeners.len().max(self.slot.listeners.len());
            self.slot.listeners.resize_with(count, || None);
            self.queued_listeners.resize(count, false);
            self.ready_acceptors.resize(count, false);
            let registry = self.slot.poll.registry();
            for (number, datagrams, acceptor) in sockets {
                let listening = Listening::register(number, datagrams, acceptor, registry);
                self.slot.listeners[number] =
                    Some(listening.expect("the kernel has memory for one more descriptor"));
            }
            self.end_page();
            self.engine.adopt(now, &mut parts);
            self.renumber_retired();
            self.sockets.reload(self.engine.connections_max(), &assignment.tls);
            self.slot.pages.provide(&assignment.config);
            self.slot.assignment.exchange(&mut assignment);
            self.slot.assignment.fill(&mut self.engine.data);
            // The saved counters are numbered by the old configuration.
            self.slot.past.upstreams.clear();
            self.slot.past.caches.clear();
            self.settle(now);
        }
        // The server may have stopped waiting.
        let _ = done.send(Remains { assignment, parts });
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
            if listener.is_none() || stays || self.slot.listeners[number].is_none() {
                continue;
            }
            for _ in 0..LAST_BATCHES_MAX {
                if self.queued_listeners[number] {
                    self.ready_listeners.retain(|other| *other != number);
                }
                self.ready_listeners.push_front(number);
                self.receive_queries(now);
                if !self.queued_listeners[number] {
                    break;
                }
            }
            self.ready_acceptors[number] = true;
            self.receive_from_clients(now);
            self.replies.connections.leave(now, number, &mut self.engine);
            self.settle(now);
            let registry = self.slot.poll.registry();
            if let Some(gone) = &mut self.slot.listeners[number] {
                gone.deregister(registry);
            }
            self.gone_until = Some(now.plus(QUERY_TIMEOUT));
        }
    }

    /// Closes the sockets of removed listeners after the time for their last replies.
    pub(super) fn close_gone(&mut self, now: Moment) {
        if self.gone_until.is_some_and(|until| until <= now) {
            self.gone_until = None;
            let listeners = self.slot.assignment.listeners.clone();
            self.close_listeners(|number| listeners.get(number).is_none_or(Option::is_none));
        }
    }

    /// Closes the sockets of these listeners and removes them from the queues.
    fn close_listeners(&mut self, which: impl Fn(usize) -> bool) {
        for number in 0..self.slot.listeners.len() {
            if which(number) {
                self.slot.listeners[number] = None;
                self.queued_listeners[number] = false;
                self.ready_acceptors[number] = false;
                self.ready_listeners.retain(|other| *other != number);
            }
        }
    }
}
