//! NOTIFY (RFC 1996) of primaries, for zones that are transferred.
//!
//! A notification counts if it comes from the address of one of the zone's primaries, signed with
//! that primary's key if it has one; all others are refused and change nothing. The engine replies,
//! and notes the zone for the shell, which passes it to the loader of the zones.

use super::Forwarder;
use crate::config::Name;
use crate::engine::exchange::Client;
use crate::engine::message::query::Asked;
use crate::engine::message::{
    HEADER_LEN, Question, Rcode, Record, class, flags, rtype, u16_at, u32_at,
};
use crate::engine::views::Facts;
use crate::engine::zones::LowercaseName;
use std::net::IpAddr;

/// Notifications that wait for the shell at most; further ones get SERVFAIL, so that the primary
/// repeats them.
const WAITING_MAX: usize = 64;
/// Number of bytes of a SOA record's data behind its names.
const SOA_NUMBERS: usize = 20;

/// A notification of a primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notified {
    /// Slot of the zones of the server block.
    pub(crate) slot: usize,
    pub(crate) zone: Name,
    /// Serial of the zone at the primary, if the primary has told it.
    pub serial: Option<u32>,
    pub(crate) primary: IpAddr,
}

impl Forwarder {
    /// Notes a notification of a primary, whose `packet` is verified to be signed with the key
    /// called `key`. Returns the response code: `rcode` for any other packet.
    pub(super) fn note_notified(
        &mut self,
        client: &Client,
        packet: &[u8],
        (rcode, asked, question): (Rcode, &Asked, Option<Question>),
        key: Option<&Name>,
    ) -> Rcode {
        let is_notify = asked.flags & flags::OPCODE == flags::NOTIFY;
        let Some(question) = question.filter(|_| is_notify && rcode == Rcode::Refused) else {
            return rcode;
        };
        let name = &LowercaseName::new(question.name(packet));
        let Question { rtype, class, .. } = question;
        let size = packet.len() as u16;
        let facts = || Facts { client, asked, name, rtype, class, size };
        let zone_match = self.routes.zone_match(client.listener, name, rtype, class, facts);
        let slot = zone_match.block().and_then(|block| self.chains[block].settings.own_zones);
        let Some(slot) = slot.filter(|_| (rtype, class) == (rtype::SOA, class::IN)) else {
            return rcode;
        };
        let Some(entry) = self.data.zones(slot).longest(name) else { return rcode };
        let primary = client.peer.ip().to_canonical();
        let is_known = entry.primaries.iter().any(|known| {
            let is_signed = known.key.as_ref().is_none_or(|own| Some(&own.name) == key);
            known.address.ip().to_canonical() == primary && is_signed
        });
        if entry.name.as_wire() != name.as_bytes() || !is_known {
            return rcode;
        }
        let zone = entry.name.clone();
        let serial = serial_in(packet, &question);
        let notified = Notified { slot, zone, serial, primary };
        if self.notified.contains(&notified) {
            return Rcode::NoError;
        }
        if self.notified.len() >= WAITING_MAX {
            return Rcode::ServFail;
        }
        self.notified.push(notified);
        Rcode::NoError
    }

    /// The notification that [`Forwarder::next_notified`] returns.
    pub(crate) fn first_notified(&self) -> Option<&Notified> {
        self.notified.first()
    }

    /// Returns the next notification, which the shell passes to the loader of the zones.
    pub fn next_notified(&mut self) -> Option<Notified> {
        (!self.notified.is_empty()).then(|| self.notified.remove(0))
    }
}

/// Returns the serial of the SOA record in the answer section of a notification.
fn serial_in(packet: &[u8], question: &Question) -> Option<u32> {
    let record = Record::parse(packet, question.end()).filter(|_| u16_at(packet, 6) == Some(1))?;
    let place = record.end.checked_sub(SOA_NUMBERS).filter(|place| *place > record.data)?;
    debug_assert!(record.start >= HEADER_LEN, "records follow the header");
    (record.rtype == rtype::SOA).then(|| u32_at(packet, place)).flatten()
}
