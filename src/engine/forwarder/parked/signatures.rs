//! Queries whose replies are signed when they are sent (`dnssec`).
//!
//! The query is parked before the cache is asked, and continues from there. Its reply, which an
//! upstream, the cache or a later stage has given, is signed as the last step. A reply that cannot
//! be signed now is SERVFAIL: without signatures a validating client would not accept it.

use super::Errand;
use super::errands::Next;
use crate::engine::authority::table::ZoneTable;
use crate::engine::dnssec::{Job, OnlineSigner, OwnNames, Signed};
use crate::engine::errors::Reason;
use crate::engine::forwarder::Forwarder;
use crate::engine::forwarder::course::{Course, Original, ParkedKey, Scope};
use crate::engine::message::query::Query;
use crate::engine::message::{NAME_LEN_MAX, Rcode};
use crate::engine::zones::LowercaseName;
use crate::moment::Moment;

/// The own zones of a server block, if it has any.
struct Own<'a>(Option<&'a ZoneTable>);

impl OwnNames for Own<'_> {
    fn types_at(&self, name: &LowercaseName, asked: u16, add: &mut dyn FnMut(u16)) -> bool {
        let entry = self.0.and_then(|table| table.zone_match(name, asked));
        let zone = entry.and_then(|entry| entry.zone.as_deref());
        zone.is_some_and(|zone| zone.types_at(name.as_bytes(), add))
    }
}

impl Forwarder {
    /// Serves a query behind `dnssec`, which signs the reply or gives it.
    #[cold]
    pub(in crate::engine::forwarder) fn serve_with_keys(
        &mut self,
        now: Moment,
        query: &mut Query<'_>,
        name: &LowercaseName,
        scope: Scope<'_>,
        out: &mut [u8],
    ) -> Course {
        let Some(signer) = self.chains[scope.block].settings.dnssec.clone() else {
            return self.serve_on(now, query, name, Scope { is_inside: true, ..scope }, out);
        };
        let is_for_keys = signer.has_keys_at(name, query.question.rtype);
        let wants_signatures = query.asked.edns.is_some_and(|edns| edns.dnssec_ok);
        if is_for_keys && !wants_signatures {
            return Course::Replied(self.write_keys(&signer, query, scope, out));
        }
        let Some(key) = self.park(now, query, scope, Errand::Signing(signer.clone())) else {
            return Course::Failed(Rcode::ServFail, Reason::Overloaded, scope.block);
        };
        let course = if is_for_keys {
            Course::Replied(self.write_keys(&signer, query, scope, out))
        } else {
            let own = Original::of_own(query, scope.block, key);
            let inside = Scope { original: Some(&own), is_inside: true, ..scope };
            self.serve_on(now, query, name, inside, out)
        };
        self.settle_own(now, key, query, course, out)
    }

    /// Writes the reply to a query for the DNSKEY records of a zone.
    fn write_keys(
        &self,
        signer: &OnlineSigner,
        query: &Query<'_>,
        scope: Scope<'_>,
        out: &mut [u8],
    ) -> usize {
        let finish = self.chains[scope.block].finish_own();
        signer.write_keys(query, scope.client.transport(), finish, out)
    }

    /// Signs the reply of `len` bytes in `out` to a parked query.
    pub(super) fn sign_parked(
        &mut self,
        now: Moment,
        key: ParkedKey,
        signer: &OnlineSigner,
        len: usize,
        out: &mut [u8],
    ) -> Next {
        let unix = self.unix;
        let Some(parked) = self.parked.get(key) else { return Next::Own(len) };
        let block = parked.zone_match.block();
        let compact_ok = parked.asked.edns.is_some_and(|edns| edns.compact_ok);
        let mut room = [0; NAME_LEN_MAX + 4];
        let question = parked.asking.write(&mut room);
        let Some(table) = block.and_then(|block| self.online.signatures.of(block)) else {
            return Next::Own(len);
        };
        let own = block.and_then(|block| self.chains[block].settings.own_zones);
        let own = Own(own.map(|slot| self.data.zones(slot)));
        let job = Job { reply: &out[..len], compact_ok, question, unix, now };
        let mut written = self.rewriting.borrow_buffer();
        let state = (table, &self.hasher);
        let signed = signer.sign(&job, &own, state, &mut self.online.workroom, &mut written);
        let next = match signed {
            Signed::Unchanged => Next::Own(len),
            Signed::Written(len) => {
                Next::Reply(self.write_reply(key, question, Some(&written[..len]), out))
            }
            Signed::Failed => Next::Reply(self.write_reply(key, question, None, out)),
        };
        self.rewriting.give_back(written);
        next
    }
}
