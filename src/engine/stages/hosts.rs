//! `hosts`: answers from a hosts file.
//!
//! Addresses are answered with AA and without RA. A known name without an address of the QTYPE gets
//! an empty answer; an unknown one falls through if `fallthrough` says so, and fails otherwise, as
//! in the reference. Reverse lookups find all names of the address, in any zone; an unknown address
//! always falls through. The owner of an answer is spelt as in the question; `header` and
//! `loadbalance` apply to it.

use super::{QueryContext, Settings, Stage, Step};
use crate::config::{Name, ServerBlock};
use crate::engine::hosts::{Addresses, Table, reverse_address};
use crate::engine::message::QNAME;
use crate::engine::message::compose::{NewRecord, Section};
use crate::engine::message::{Rcode, class, flags, rtype};
use crate::engine::zones::{LowercaseName, Zones};
use ahash::RandomState;
use std::net::IpAddr;

/// Names that the stage looks up, and its action for others.
pub(crate) struct Hosts {
    slot: usize,
    ttl: u32,
    /// `None`: every name of the server block.
    zones: Option<Zones<()>>,
    /// Zones of names that reverse lookups return; `None`: all names.
    back: Option<Zones<()>>,
    fallthrough: Zones<()>,
    fallthrough_unsupported: bool,
}

impl Stage for Hosts {
    const REARRANGED: bool = true;

    fn new(block: &ServerBlock, hasher: &RandomState, settings: &mut Settings) -> Option<Self> {
        let hosts = block.stages.hosts.as_ref()?;
        settings.hosts = Some(hosts.slot);
        let zones =
            |names: &[Name]| Zones::new(hasher.clone(), names.iter().map(|name| (name, ())));
        let served: Vec<_> = block.zones().cloned().collect();
        let back = hosts.zones.as_ref().unwrap_or(&served);
        Some(Self {
            slot: hosts.slot,
            ttl: hosts.ttl,
            zones: hosts.zones.as_deref().map(zones),
            back: (!back.contains(&Name::root())).then(|| zones(back)),
            fallthrough: zones(hosts.fallthrough.as_deref().unwrap_or_default()),
            fallthrough_unsupported: hosts.fallthrough_unsupported,
        })
    }

    fn on_query(&self, context: &mut QueryContext<'_, '_>) -> Option<Step> {
        let question = context.query.question;
        if question.class != class::IN {
            return None;
        }
        let table = context.data.hosts(self.slot);
        if question.rtype == rtype::PTR {
            let address = reverse_address(context.name.as_bytes())?;
            return self.answer_names(context, table, address);
        }
        if !within(self.zones.as_ref(), context.name) {
            return None;
        }
        let may_pass = self.fallthrough.longest(context.name).is_some();
        let Some(found) = self.find(table, context.name, question.rtype) else {
            return (!may_pass).then_some(Step::Refused(Rcode::ServFail, None));
        };
        let is_unsupported = !matches!(question.rtype, rtype::A | rtype::AAAA);
        if is_unsupported && self.fallthrough_unsupported && may_pass {
            return None;
        }
        Some(match question.rtype {
            rtype::A => self.answer(context, found.v4.iter().map(|address| &address[..])),
            rtype::AAAA => self.answer(context, found.v6.iter().map(|address| &address[..])),
            _ => self.answer(context, std::iter::empty()),
        })
    }
}

impl Hosts {
    /// Returns the addresses of `name`, or those of a wildcard if it has none of the type `wanted`.
    fn find<'a>(
        &self,
        table: &'a Table,
        name: &LowercaseName,
        wanted: u16,
    ) -> Option<Addresses<'a>> {
        let own = table.find(name.as_bytes());
        let is_enough = own.is_some_and(|own| match wanted {
            rtype::A => !own.v4.is_empty(),
            rtype::AAAA => !own.v6.is_empty(),
            _ => true,
        });
        if is_enough {
            return own;
        }
        let wildcard = table.find_wildcard(name.as_bytes()).filter(|(parent, _)| {
            let parent = || LowercaseName::new(&name.as_bytes()[*parent..]);
            self.back.is_none() || within(self.back.as_ref(), &parent())
        });
        wildcard.map(|(_, addresses)| addresses).or(own)
    }

    /// Answers with the names of `address`, if there are any.
    fn answer_names(
        &self,
        context: &mut QueryContext<'_, '_>,
        table: &Table,
        address: IpAddr,
    ) -> Option<Step> {
        let is_meant = |name: &&[u8]| {
            self.back.is_none() || within(self.back.as_ref(), &LowercaseName::new(name))
        };
        let mut names = table.names_of(address).filter(is_meant).peekable();
        names.peek()?;
        Some(self.answer(context, names))
    }

    /// Answers with a record of the QTYPE for each of `data`.
    fn answer<'a>(
        &self,
        context: &mut QueryContext<'_, '_>,
        data: impl Iterator<Item = &'a [u8]>,
    ) -> Step {
        let (rtype, class, ttl) = (context.query.question.rtype, class::IN, self.ttl);
        let mut reply = context.answer();
        for data in data {
            let record = NewRecord { owner: &QNAME, rtype, class, ttl, data: &[data] };
            reply.record(Section::Answer, &record);
            if reply.is_full() {
                break;
            }
        }
        Step::Replied(reply.end(flags::AA, Rcode::NoError))
    }
}

/// Returns true if `name` is at or below one of `zones`.
fn within(zones: Option<&Zones<()>>, name: &LowercaseName) -> bool {
    zones.is_none_or(|zones| zones.longest(name).is_some())
}
