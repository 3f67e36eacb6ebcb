//! The worker as the shell of its engine: carries out decisions with sockets and channels.
//!
//! Each method connects the engine with the part that carries out the decision: the upstream side,
//! the client side, or the link to another thread. No method waits: a notice that does not fit into
//! a channel is put back into the engine.

use super::turn::EventLoop;
use crate::control::ToKeeper;
use crate::engine::errors::{Fault, Operation};
use crate::engine::shell::{self, Buffers, Shell};
use crate::engine::{Client, ConnectionId, Forwarder, Notice, Outgoing};
use crate::moment::Moment;

impl EventLoop<'_> {
    /// Carries out all decisions of the engine.
    pub(super) fn settle(&mut self, now: Moment) {
        self.slot.writer.begin_turn();
        self.slot.keeper.begin_turn();
        self.notices_left = !shell::settle(self, now);
        self.slot.writer.report_lost(self.engine.stats_mut().errors_lost);
    }
}

impl Shell for EventLoop<'_> {
    fn engine(&mut self) -> &mut Forwarder {
        &mut self.engine
    }

    fn buffers(&mut self) -> &mut Buffers {
        &mut self.buffers
    }

    fn open(&mut self, now: Moment, connection: ConnectionId) -> Result<(), Fault> {
        self.upstreams.open(now, connection, &self.engine, self.slot.poll.registry())
    }

    fn send(
        &mut self,
        now: Moment,
        connection: ConnectionId,
        queries: &[Outgoing],
    ) -> Result<(), (Operation, Fault)> {
        let (registry, loops) = (self.slot.poll.registry(), &mut self.slot.loops);
        self.upstreams.send(now, connection, queries, &mut self.engine, registry, loops)
    }

    fn close(&mut self, _: Moment, connection: ConnectionId) {
        self.upstreams.close(connection);
    }

    fn deliver(&mut self, _: Moment, client: &Client, reply: &[u8]) {
        self.clients.deliver(client, reply, &self.slot.listeners, &mut self.engine);
    }

    fn flush(&mut self, now: Moment) {
        let (listeners, loops) = (&self.slot.listeners, &mut self.slot.loops);
        self.clients.flush(now, listeners, &mut self.engine, loops);
    }

    fn notice(&mut self, now: Moment, notice: &Notice) -> bool {
        let (slot, engine) = (&mut *self.slot, &mut self.engine);
        match *notice {
            Notice::Error(error) => slot.writer.report_error(error),
            Notice::Page => slot.writer.report_page(now, engine),
            Notice::Transfer => {
                let (seconds, connections) = (slot.clock.unix(), &mut self.clients.connections);
                slot.transfers.order_next(now, seconds.into(), engine, connections)
            }
            Notice::Notified => {
                let first = engine.first_notified();
                let is_passed = first.is_none_or(|first| slot.assignment.pass_notified(first));
                if is_passed {
                    engine.next_notified();
                }
                is_passed
            }
            Notice::Wake { sweep, at } => slot.keeper.wake(sweep, at),
            Notice::Failing(upstream) => slot.keeper.report(ToKeeper::Failed { upstream }),
            Notice::Odd(remark) => slot.keeper.report(ToKeeper::Odd(remark)),
            Notice::Flood(ref zone) => slot.keeper.report(ToKeeper::Flood { zone: zone.clone() }),
            Notice::Looping { block, peer } => {
                slot.keeper.report(ToKeeper::Looping { message: slot.loop_text(block, peer) })
            }
            Notice::Limited { block, prefix, limit } => {
                let zones = slot.zones_of(block);
                slot.keeper.report(ToKeeper::Limited { zones, prefix, limit })
            }
        }
    }
}
