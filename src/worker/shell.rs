//! The worker as the shell of its engine: carries out decisions with sockets and channels.
//!
//! One call per connection and turn sends queries, and opens the socket first if there is none.
//! Notices go into the channels of the keeper and the writer without blocking: a notice is put back
//! if its channel is full.

use super::fault_of;
use super::tcp::send_messages;
use super::turn::{EventLoop, WAKES_MAX};
use super::upstream::Socket;
use crate::control::snapshot::LoopStats;
use crate::control::{PartEnd, ToKeeper, TransferOrder, TransferPart};
use crate::engine::errors::{Fault, Operation};
use crate::engine::forwarder::Transfer;
use crate::engine::message::reply::ERROR_LEN_MAX;
use crate::engine::shell::{self, Buffers, Shell};
use crate::engine::stats::DropReason;
use crate::engine::{Client, ConnectionId, Forwarder, Notice, Outgoing};
use crate::moment::Moment;
use crate::sys::mmsg::Sent;
use std::os::fd::AsFd;

impl EventLoop<'_> {
    /// Carries out all decisions of the engine.
    pub(super) fn settle(&mut self, now: Moment) {
        self.page_retry = None;
        // Limited, because a reload requests one for each pool and cache, and each wakes the
        // keeper.
        self.wakes_left = WAKES_MAX;
        self.notices_left = !shell::settle(self, now);
        self.report_lost_errors();
    }
}

impl EventLoop<'_> {
    /// Hands the next transfer on to the thread that writes it. False if that has no room now.
    fn hand_transfer_on(&mut self) -> bool {
        if self.slot.transfers.is_full() {
            return false;
        }
        let Some(transfer) = self.engine.next_transfer() else { return true };
        let (more, reading) = crossbeam_channel::bounded(1);
        let connection = transfer.connection;
        if !self.replies.connections.begin_transfer(connection, more) {
            let part = refusal(&transfer);
            self.replies.connections.refuse_transfer(part, &mut self.engine);
            return true;
        }
        let worker = self.slot.mailbox.clone();
        // Another worker may have taken the last place meanwhile.
        if let Err(transfer) =
            self.slot.transfers.send(TransferOrder { transfer, worker, more: reading })
        {
            self.replies.connections.take_part(refusal(&transfer), &mut self.engine);
        }
        true
    }
}

/// The reply to a transfer that nobody writes.
fn refusal(transfer: &Transfer) -> TransferPart {
    let mut out = vec![0; ERROR_LEN_MAX];
    let len = transfer.refuse(&mut out);
    out.truncate(len);
    TransferPart { connection: transfer.connection, messages: vec![out], end: PartEnd::Last }
}

impl Shell for EventLoop<'_> {
    fn engine(&mut self) -> &mut Forwarder {
        &mut self.engine
    }

    fn buffers(&mut self) -> &mut Buffers {
        &mut self.buffers
    }

    fn open(&mut self, _: Moment, connection: ConnectionId) -> Result<(), Fault> {
        let registry = self.slot.poll.registry();
        let opened = self.sockets.open(connection, &self.engine, registry);
        opened.map(drop).map_err(|error| fault_of(&error))
    }

    fn send(
        &mut self,
        _: Moment,
        connection: ConnectionId,
        queries: &[Outgoing],
    ) -> Result<(), (Operation, Fault)> {
        let packets = queries.iter().filter_map(|query| self.engine.query(query));
        let registry = self.slot.poll.registry();
        let sent = match self.sockets.open(connection, &self.engine, registry) {
            Ok(Some(Socket::Datagrams { socket, segments })) => {
                let sent = self.outgoing.send(socket.as_fd(), packets, *segments);
                sent.map(|sent| note_sent(sent, &mut self.slot.loops))
                    .map_err(|error| (Operation::Write, error))
            }
            Ok(Some(Socket::Tcp(tcp))) => {
                let dropped = send_messages(tcp, packets).unwrap_or_else(|error| {
                    tcp.break_down(fault_of(&error));
                    0
                });
                // Bytes received before the failure are read first.
                if tcp.is_broken() {
                    self.queue_connection(connection);
                }
                Ok((dropped, false))
            }
            Ok(None) => Ok((0, false)),
            Err(error) => Err((Operation::Dial, error)),
        };
        let (dropped, refused) =
            sent.map_err(|(operation, error)| (operation, fault_of(&error)))?;
        if refused {
            self.sockets.refuse_segments(connection, &self.engine);
        }
        self.engine.stats_mut().drops[DropReason::QueryNotSent as usize] += dropped as u64;
        Ok(())
    }

    fn close(&mut self, _: Moment, connection: ConnectionId) {
        self.sockets.close(connection);
    }

    fn deliver(&mut self, _: Moment, client: &Client, reply: &[u8]) {
        self.replies.deliver(client, reply, &self.slot.listeners, &mut self.engine);
    }

    fn flush(&mut self, now: Moment) {
        self.replies.flush(now, &self.slot.listeners, &mut self.engine);
        let (joined, refused) = self.replies.take_counts();
        self.slot.loops.replies_joined += joined;
        self.slot.loops.segments_refused += refused;
    }

    fn notice(&mut self, now: Moment, notice: &Notice) -> bool {
        let slot = &self.slot;
        if let Notice::Wake { .. } = notice {
            let Some(left) = self.wakes_left.checked_sub(1) else { return false };
            self.wakes_left = left;
        }
        let message = match *notice {
            Notice::Error(error) => return self.report_error(error),
            Notice::Page => return self.report_page(now),
            Notice::Transfer => return self.hand_transfer_on(),
            Notice::Failing(upstream) => ToKeeper::Failed { upstream },
            Notice::Odd(remark) => ToKeeper::Odd(remark),
            Notice::Looping { block, peer } => {
                ToKeeper::Looping { message: slot.loop_text(block, peer) }
            }
            Notice::Wake { sweep, at } => ToKeeper::Wake { worker: slot.number, sweep, at },
        };
        slot.keeper.try_send(message).is_ok()
    }
}

/// Counts sent datagrams. Returns the number of those not sent, and true if the kernel refused GSO.
fn note_sent(sent: Sent, loops: &mut LoopStats) -> (usize, bool) {
    loops.queries_joined += sent.joined as u64;
    loops.segments_refused += u64::from(sent.refused);
    (sent.dropped, sent.refused)
}
