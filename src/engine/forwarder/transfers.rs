//! Zone transfers: from a stage's word that a client may have a zone to the thread that writes it.
//!
//! The engine notes who gets which zone, and the shell draws that with a
//! [`Notice::Transfer`](super::Notice) and hands it to a thread beside the workers, which writes
//! the messages and sends them back to the worker for the client's connection. The query is counted
//! as answered when it is handed over; its connection has it outstanding until the shell says that
//! the last message is there ([`Forwarder::end_transfer`]).

use super::Forwarder;
use super::course::{Course, Scope};
use crate::engine::authority::Zone;
use crate::engine::authority::train::Train;
use crate::engine::exchange::Client;
use crate::engine::key::ConnectionKey;
use crate::engine::message::compose::write_error;
use crate::engine::message::query::{Asked, Query};
use crate::engine::message::reply::Finish;
use crate::engine::message::{Rcode, reply};
use crate::engine::tally::CountedReply;
use crate::engine::tsig::Signer;
use crate::engine::zones::LowercaseName;
use std::sync::Arc;
use std::time::Duration;

/// Transfers that wait for the end of a turn at most; further ones are refused.
const WAITING_MAX: usize = 16;

/// A transfer that a client may have.
pub struct Transfer {
    /// The client, on a connection.
    pub client: Client,
    /// The connection.
    pub connection: ConnectionKey,
    /// The zone.
    pub zone: Arc<Zone>,
    /// Facts about the query.
    pub asked: Asked,
    /// Name, type and class as the client spelt them.
    pub question: Box<[u8]>,
    /// Signs the messages.
    pub signer: Option<Box<Signer>>,
}

impl Transfer {
    /// The messages, without signatures.
    pub fn train(&self) -> Train {
        Train::new(Arc::clone(&self.zone), self.asked, &self.question)
    }

    /// Writes that it is refused into `out`, which holds the longest error; returns the length.
    pub fn refuse(&self, out: &mut [u8]) -> usize {
        write_error(out, &self.asked, &self.question, Rcode::Refused, None, Finish::PLAIN)
    }
}

impl Forwarder {
    /// Notes a transfer that a stage has granted.
    pub(super) fn note_transfer(&mut self, query: &Query<'_>, scope: Scope<'_>) -> Course {
        let Scope { client, block, original, .. } = scope;
        let refused = Course::Refused(Rcode::Refused, None, Some(block));
        let slot = self.chains[block].settings.own_zones;
        let (Some(slot), Some(connection)) = (slot, client.connection) else { return refused };
        // A zone is no answer to a query that the server asks itself.
        if original.is_some_and(|original| original.asker.is_some()) {
            return refused;
        }
        let entry = self.data.zones(slot).longest(&LowercaseName::new(query.name()));
        let Some(zone) = entry.and_then(|entry| entry.zone.as_ref()) else { return refused };
        if self.transfers.len() >= WAITING_MAX {
            return refused;
        }
        self.transfers.push(Transfer {
            client: *client,
            connection,
            zone: Arc::clone(zone),
            asked: query.asked,
            question: query.question_bytes().into(),
            signer: original.and_then(|original| original.signer.clone()),
        });
        Course::Transfer
    }

    /// Counts a query whose transfer was noted. Writes the beginning of its first message into
    /// `out`, for the journal, and returns the length.
    #[cold]
    pub(super) fn count_transfer(
        &mut self,
        client: &Client,
        query: &Query<'_>,
        label_set: u32,
        out: &mut [u8],
    ) -> usize {
        let (asked, question) = (&query.asked, query.question_bytes());
        let len = write_error(out, asked, question, Rcode::NoError, None, Finish::PLAIN);
        self.count_reply(reply::rcode(out));
        let outcome = CountedReply {
            transport: client.transport(),
            took: Duration::ZERO,
            rcode: Rcode::NoError as u16,
            len,
            answered: true,
        };
        self.count_outcome(label_set, &outcome);
        client.connection.inspect(|connection| self.clients.waits(*connection));
        len
    }

    /// The next transfer to be handed to the thread that writes it.
    pub fn next_transfer(&mut self) -> Option<Transfer> {
        self.transfers.pop()
    }

    /// The last message of a transfer is on its connection.
    pub fn end_transfer(&mut self, connection: ConnectionKey) {
        self.clients.answered(connection);
    }
}
