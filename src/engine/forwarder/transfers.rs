//! Zone transfers: from a stage's word that a client may have a zone to the thread that writes it.
//!
//! The engine notes who gets which zone, and the shell draws that with a
//! [`Notice::Transfer`](super::Notice) and hands it to a thread beside the workers, which writes
//! the messages and sends them back to the worker for the client's connection. The query is counted
//! as answered when it is handed over; its connection has it outstanding until the shell reports
//! the last message ([`Forwarder::complete_transfer`]), and a drain waits until the client has read
//! that ([`Forwarder::end_transfer`]). A connection has one transfer at a time.

use super::Forwarder;
use super::course::{Course, Scope};
use crate::engine::authority::Zone;
use crate::engine::authority::difference::Chain;
use crate::engine::authority::train::Train;
use crate::engine::exchange::Client;
use crate::engine::key::{ConnectionKey, Via};
use crate::engine::message::compose::write_error;
use crate::engine::message::query::{Asked, Query};
use crate::engine::message::reply::{ERROR_LEN_MAX, Finish};
use crate::engine::message::{Rcode, reply, rtype};
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
    pub(crate) zone: Arc<Zone>,
    /// Differences that the client gets instead of the whole zone.
    pub(crate) chain: Option<Chain>,
    /// Facts about the query.
    pub asked: Asked,
    /// Name, type and class as the client spelt them.
    pub(crate) question: Box<[u8]>,
    /// Signs the messages.
    pub(crate) signer: Option<Box<Signer>>,
}

impl Transfer {
    /// The messages, without signatures.
    pub fn train(&self) -> Train {
        Train::new(Arc::clone(&self.zone), self.chain.clone(), self.asked, &self.question)
    }

    /// Returns the reply REFUSED, signed like the query at `unix_seconds`.
    pub(crate) fn refusal(&self, unix_seconds: u64) -> Vec<u8> {
        let room = self.signer.as_ref().map_or(0, |signer| signer.room());
        let mut out = vec![0; ERROR_LEN_MAX + room];
        let (asked, question) = (&self.asked, &self.question);
        let len = write_error(&mut out, asked, question, Rcode::Refused, None, Finish::PLAIN);
        let signed = match self.signer.clone() {
            Some(mut signer) => signer.sign(&mut out, len, unix_seconds).unwrap_or(len),
            None => len,
        };
        out.truncate(signed);
        out
    }
}

impl Forwarder {
    /// Notes a transfer that a stage has granted.
    pub(super) fn note_transfer(&mut self, query: &Query<'_>, scope: Scope<'_>) -> Course {
        let Scope { client, block, original, .. } = scope;
        let refused = Course::Refused(Rcode::Refused, None, Some(block));
        let slot = self.chains[block].settings.own_zones;
        let (Some(slot), Via::Connection(connection)) = (slot, client.via) else {
            return refused;
        };
        // A zone is no answer to a query that the server asks itself.
        if original.is_some_and(|original| original.asker.is_some()) {
            return refused;
        }
        let entry = self.data.zones(slot).longest(&LowercaseName::new(query.name()));
        let Some((entry, zone)) = entry.and_then(|entry| Some((entry, entry.zone.as_ref()?)))
        else {
            return refused;
        };
        let is_incremental = query.question.rtype == rtype::IXFR;
        let serial = is_incremental.then(|| query.held_serial()).flatten();
        let chain = serial.and_then(|serial| entry.chain_from(serial));
        if self.transfers.len() >= WAITING_MAX || !self.clients.begin_transfer(connection) {
            return refused;
        }
        self.transfers.push(Transfer {
            client: *client,
            connection,
            zone: Arc::clone(zone),
            chain,
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
        self.counters.rcode(reply::rcode(out));
        let outcome = CountedReply {
            transport: client.transport(),
            took: Duration::ZERO,
            rcode: Rcode::NoError as u16,
            len,
            answered: true,
        };
        self.counters.outcome(label_set, &outcome);
        client.via.connection().inspect(|connection| self.clients.waits(*connection));
        len
    }

    /// The next transfer to be handed to the thread that writes it.
    pub fn next_transfer(&mut self) -> Option<Transfer> {
        (!self.transfers.is_empty()).then(|| self.transfers.remove(0))
    }

    /// Notes that the last message of a transfer is on its connection.
    pub fn complete_transfer(&mut self, connection: ConnectionKey) {
        self.clients.answered(connection);
    }

    /// Notes that the client has read the last message.
    pub fn end_transfer(&mut self, connection: ConnectionKey) {
        self.clients.end_transfer(connection);
    }
}
