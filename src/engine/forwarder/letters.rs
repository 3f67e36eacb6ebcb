//! `case_randomize`: names of queries over UDP in random letter case.
//!
//! A response over UDP in another case is not accepted, because it may be forged, but it may also
//! come from an upstream that does not keep the case. Neither is an error without a question, which
//! shows no case. The query is sent again over TCP, where a response cannot be forged blindly, so
//! it shows which is true. With `auto`, an upstream that does not keep the case there, or cannot be
//! asked over TCP, gets names in lower case for a while ([`PLAIN_FOR`]).
//!
//! [`PLAIN_FOR`]: crate::engine::health::PLAIN_FOR

use super::Forwarder;
use crate::config::LetterCase;
use crate::engine::errors::{Fault, Operation, Reason};
use crate::engine::exchange::WrongResponse;
use crate::engine::key::{ConnectionId, Transport, Way};
use crate::engine::message::id;
use crate::engine::stats::DropReason;
use crate::moment::Moment;
use rand_chacha::rand_core::Rng;

impl Forwarder {
    /// Spells the name of an attempt at `upstream` over `way`, whose stanza randomises the case.
    #[inline(never)]
    pub(super) fn spell(&mut self, now: Moment, slot: u32, upstream: usize, way: Way) {
        let number = self.exchanges.get(slot).stanza as usize;
        let is_kept = match self.routes.stanza(number).letter_case {
            LetterCase::Off => false,
            LetterCase::On => true,
            LetterCase::Auto => !self.upstreams.health().folds_case(upstream, now),
        };
        let is_spelt = is_kept && way == Way::Datagram;
        let exchange = self.exchanges.get(slot);
        exchange.is_spelt = is_spelt;
        if exchange.forced.is_some() {
            // The spelling of the query over UDP is compared with the response.
            return;
        }
        let bits = if is_spelt { [(); 4].map(|()| self.random.next_u64()) } else { [u64::MAX; 4] };
        self.exchanges.spell_at_random(slot, bits);
    }

    /// Returns an error if the name in `packet` is not spelt as the query in `slot`.
    pub(super) fn check_case(&self, slot: u32, packet: &[u8]) -> Result<(), DropReason> {
        let is_right = self.exchanges.is_spelt_as_sent(slot, packet);
        if is_right { Ok(()) } else { Err(DropReason::ResponseWrongCase) }
    }

    /// Sends the query that `packet` on `connection` answers in another letter case to the same
    /// upstream over TCP.
    #[cold]
    pub(super) fn on_wrong_case(&mut self, now: Moment, connection: ConnectionId, packet: &[u8]) {
        let found = id(packet).and_then(|id| self.exchanges.find(connection, id));
        let Some(slot) = found else { return };
        self.force_tcp(now, connection, slot, WrongResponse::Case);
    }

    /// Ends the attempt of the query in `slot` on `connection`, and sends it to the same upstream
    /// over TCP.
    pub(super) fn force_tcp(
        &mut self,
        now: Moment,
        connection: ConnectionId,
        slot: u32,
        why: WrongResponse,
    ) {
        let reason = Reason::Attempt(Operation::Read, Fault::Unknown);
        let Some(upstream) = self.fail_attempt(now, connection, slot, true, reason) else { return };
        let exchange = self.exchanges.get(slot);
        exchange.transport = Transport::Tcp;
        exchange.forced = Some(why);
        self.attempt_at(now, slot, upstream);
    }

    /// Compares the spelling of `packet` over TCP with that of the query in `slot`, which was
    /// forced there.
    #[cold]
    pub(super) fn compare_case(&mut self, now: Moment, slot: u32, upstream: usize, packet: &[u8]) {
        if self.exchanges.get(slot).randomizes && !self.exchanges.is_spelt_as_sent(slot, packet) {
            self.upstreams.note_folded_case(upstream, now);
        }
    }

    /// Continues after the failure of an attempt that was forced over TCP: the next one is over UDP
    /// from another port, because the upstream may have no TCP.
    #[cold]
    pub(super) fn give_up_tcp(
        &mut self,
        now: Moment,
        slot: u32,
        upstream: usize,
        why: WrongResponse,
    ) {
        let number = self.exchanges.get(slot).stanza as usize;
        let is_auto = self.routes.stanza(number).letter_case == LetterCase::Auto;
        if why == WrongResponse::Case && is_auto {
            self.upstreams.note_folded_case(upstream, now);
        }
        self.choose_transport(slot);
    }
}
