//! `transfer`: zones of the server block, whole, for those clients that may have them.
//!
//! The stage refuses a query whose name is no apex, whose client is not among those of the longest
//! matching zone, or whose key is not the required one. A transfer that it grants is written by a
//! thread beside the workers ([`Step::Transfer`]). The stage itself answers an IXFR of a client
//! that is up to date with the SOA alone, and one over UDP, too (RFC 1995 §2). It refuses an AXFR
//! over UDP.

use super::{QueryContext, Settings, Stage, Step};
use crate::config::{Name, ServerBlock, TransferClients, TransferTarget};
use crate::engine::authority::answer::{Ask, Outcome, answer};
use crate::engine::authority::table::ZoneTable;
use crate::engine::key::Transport;
use crate::engine::message::query::SignedBy;
use crate::engine::message::reply::ExtendedError;
use crate::engine::message::{Rcode, class, rtype};
use crate::engine::zones::Zones;
use ahash::RandomState;

/// Clients of transfers.
pub(crate) struct Transfers {
    /// Slot of the block's zones.
    slot: usize,
    /// By zone, the number of its stanza.
    zones: Zones<u32>,
    /// The clients of each stanza.
    stanzas: Box<[Vec<Target>]>,
}

/// Clients, and the signature that they need.
struct Target {
    clients: TransferClients,
    key: RequiredKey,
}

/// The key that queries have to be signed with.
#[derive(Clone, Copy)]
enum RequiredKey {
    /// None is required.
    Any,
    /// The key with this number.
    Number(u32),
    /// A key that the server block does not have: no query is signed with it.
    Unknown,
}

impl Stage for Transfers {
    fn new(block: &ServerBlock, hasher: &RandomState, settings: &mut Settings) -> Option<Self> {
        let slot = block.own_zones.as_ref()?.slot;
        let stanzas = &block.stages.transfer;
        if stanzas.is_empty() {
            return None;
        }
        settings.zone_transfers = true;
        let mut numbered: Vec<_> = (0_u32..).zip(stanzas).collect();
        // Of equal zones the last stanza counts.
        numbered.reverse();
        let own = numbered.iter().flat_map(|(number, stanza)| {
            let all = stanza.zones.is_none().then(|| block.zones());
            let zones = stanza.zones.iter().flatten().chain(all.into_iter().flatten());
            zones.map(move |zone| (zone, *number))
        });
        let zones = Zones::new(hasher.clone(), own);
        let number = |name: &Name| {
            let mut keys = block.stages.tsig.iter().flat_map(|tsig| tsig.keys()).zip(0..);
            keys.find(|(key, _)| key.name == *name).map(|(_, number)| number)
        };
        let target = |target: &TransferTarget| Target {
            clients: target.clients.clone(),
            key: match &target.key {
                None => RequiredKey::Any,
                Some(name) => number(name).map_or(RequiredKey::Unknown, RequiredKey::Number),
            },
        };
        let stanzas = stanzas.iter().map(|stanza| stanza.to.iter().map(target).collect());
        let stanzas = stanzas.collect();
        Some(Self { slot, zones, stanzas })
    }

    fn on_query(&self, context: &mut QueryContext<'_, '_>) -> Option<Step> {
        let question = context.query.question;
        let is_incremental = question.rtype == rtype::IXFR;
        if (question.rtype != rtype::AXFR && !is_incremental) || question.class != class::IN {
            return None;
        }
        let (name, data) = (context.name, context.data);
        let table = data.zones(self.slot);
        let entry = table.longest(name)?;
        if entry.name.as_wire() != name.as_bytes() {
            return Some(Step::Refused(Rcode::NotAuth, None));
        }
        if !self.allows(context) {
            return Some(Step::Refused(Rcode::Refused, Some(ExtendedError::Blocked)));
        }
        let Some(zone) = &entry.zone else {
            return Some(Step::Refused(Rcode::ServFail, Some(ExtendedError::NotReady)));
        };
        let is_datagram = context.transport == Transport::Udp;
        if !is_incremental {
            let refused = Step::Refused(Rcode::Refused, None);
            return Some(if is_datagram { refused } else { Step::Transfer });
        }
        let Some(serial) = context.query.held_serial() else {
            return Some(Step::Refused(Rcode::FormErr, None));
        };
        // A client whose serial is older gets the differences or the whole zone, one whose serial
        // cannot be compared the whole zone (RFC 1982 §3.2).
        let is_behind = (zone.serial().wrapping_sub(serial) as i32) > 0
            || zone.serial().wrapping_sub(serial) == 1 << 31;
        if is_behind && !is_datagram {
            return Some(Step::Transfer);
        }
        Some(soa_alone(context, table))
    }
}

impl Transfers {
    /// Returns true if the client may have the zone that it asks for.
    fn allows(&self, context: &QueryContext<'_, '_>) -> bool {
        let stanza = self.zones.longest(context.name).map(|number| &self.stanzas[number as usize]);
        let address = context.peer.ip();
        stanza.into_iter().flatten().any(|target| {
            let is_signed = match target.key {
                RequiredKey::Any => true,
                RequiredKey::Number(key) => context.query.signed_by == SignedBy::Key(key),
                RequiredKey::Unknown => false,
            };
            is_signed && target.clients.contain(address)
        })
    }
}

/// Writes the SOA of the zone as the reply.
fn soa_alone(context: &mut QueryContext<'_, '_>, table: &ZoneTable) -> Step {
    let name = context.name;
    let ask = Ask { name, rtype: rtype::SOA, dnssec_ok: false, minimal: true };
    let found = table.longest(name);
    match found.map(|entry| answer(table, entry, &ask, context.answer(), |_, _| false)) {
        Some(Outcome::Replied(len) | Outcome::Open(len)) => Step::Replied(len),
        _ => Step::Refused(Rcode::ServFail, None),
    }
}
