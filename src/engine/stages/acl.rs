//! `acl`: access control by client address, name and type.
//!
//! Lists apply in their order; the first line that matches, in the first list whose zones contain
//! the name and that has such a line, decides. Adjacent lines of one list with the same action and
//! types are joined into one, whose networks are one sorted list of disjoint ranges: a list of a
//! hundred thousand prefixes costs seventeen comparisons per query.

use super::{QueryContext, Settings, Stage, Step};
use crate::config::{Acl, AclAction, AclLine, Nets, ServerBlock};
use crate::engine::message::reply::ExtendedError;
use crate::engine::message::{Rcode, flags};
use crate::engine::zones::{LowercaseName, Zones};
use ahash::RandomState;
use std::net::IpAddr;

/// All lists of a server block.
pub(crate) struct Lists(Vec<List>);

struct List {
    /// `None`: all names.
    zones: Option<Zones<()>>,
    lines: Vec<Line>,
}

struct Line {
    action: AclAction,
    /// Sorted. `None`: all types.
    kinds: Option<Vec<u16>>,
    /// `None`: all addresses.
    nets: Option<Nets>,
}

impl Stage for Lists {
    fn new(block: &ServerBlock, hasher: &RandomState, _: &mut Settings) -> Option<Self> {
        let written = &block.stages.acl;
        (!written.is_empty()).then(|| Self::new(written, hasher))
    }

    fn on_query(&self, context: &mut QueryContext<'_, '_>) -> Option<Step> {
        Some(match self.decide(context.name, context.query.question.rtype, context.peer.ip()) {
            AclAction::Allow => Step::Continue,
            AclAction::Block => Step::Refused(Rcode::Refused, Some(ExtendedError::Blocked)),
            AclAction::Filter => {
                let reply = context.reply_with(Some(ExtendedError::Filtered));
                Step::Replied(reply.end(flags::RA, Rcode::NoError))
            }
            AclAction::Drop => Step::Dropped,
        })
    }
}

impl Lists {
    /// Compiles the lists. `hasher` is keyed.
    fn new(written: &[Acl], hasher: &RandomState) -> Self {
        Self(written.iter().map(|acl| List::new(acl, hasher)).collect())
    }

    /// Returns the action on a question for `name` and `rtype` from `address`.
    fn decide(&self, name: &LowercaseName, rtype: u16, address: IpAddr) -> AclAction {
        let address = address.to_canonical();
        let mut lists = self.0.iter();
        let decided = lists.find_map(|list| list.decide(name, rtype, address));
        decided.unwrap_or(AclAction::Allow)
    }
}

impl List {
    fn new(written: &Acl, hasher: &RandomState) -> Self {
        let zones = written.zones.as_ref();
        let zones =
            zones.map(|zones| Zones::new(hasher.clone(), zones.iter().map(|zone| (zone, ()))));
        let alike = |a: &AclLine, b: &AclLine| a.action == b.action && a.kinds == b.kinds;
        let lines = written.lines.chunk_by(alike).map(|lines| {
            let nets = lines.iter().map(|line| line.nets.as_deref());
            let nets: Option<Vec<_>> = nets.collect();
            let mut kinds: Option<Vec<u16>> =
                lines[0].kinds.as_ref().map(|kinds| kinds.iter().map(|rtype| rtype.0).collect());
            kinds.iter_mut().for_each(|kinds| kinds.sort_unstable());
            let nets = nets.map(|nets| Nets::new(nets.into_iter().flatten()));
            Line { action: lines[0].action, kinds, nets }
        });
        Self { zones, lines: lines.collect() }
    }

    fn decide(&self, name: &LowercaseName, rtype: u16, address: IpAddr) -> Option<AclAction> {
        if self.zones.as_ref().is_some_and(|zones| zones.longest(name).is_none()) {
            return None;
        }
        let fits = |line: &&Line| {
            line.kinds.as_ref().is_none_or(|kinds| kinds.binary_search(&rtype).is_ok())
                && line.nets.as_ref().is_none_or(|nets| nets.contains(address))
        };
        self.lines.iter().find(fits).map(|line| line.action)
    }
}

#[cfg(test)]
mod tests {
    use super::Lists;
    use crate::config::{AclAction, Config, Host, Name};
    use crate::engine::zones::LowercaseName;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};
    use std::net::IpAddr;

    fn load(text: &str) -> Config {
        Config::load(format!(". {{\n{text}\n}}\n").as_bytes(), "f", &Host::plain()).unwrap().0
    }

    fn lists(text: &str) -> Lists {
        let hasher = ahash::RandomState::with_seeds(1, 2, 3, 4);
        Lists::new(&load(text).blocks[0].stages.acl, &hasher)
    }

    fn decide(lists: &Lists, name: &str, rtype: u16, address: &str) -> AclAction {
        let name = LowercaseName::new(Name::parse(name).unwrap().as_wire());
        lists.decide(&name, rtype, address.parse().unwrap())
    }

    #[test]
    fn the_first_line_that_fits_decides_and_without_one_the_next_list() {
        let lists = lists(
            "acl a.test {\n allow net 192.0.2.0/28\n drop type ANY\n filter type AAAA MX net ::/0\n}
             acl {\n block net 192.0.2.0/24\n}",
        );
        for (name, rtype, address, action) in [
            ("x.a.test", 255, "192.0.2.5", AclAction::Allow),
            ("x.a.test", 255, "192.0.2.16", AclAction::Drop),
            ("x.a.test", 28, "192.0.2.16", AclAction::Block),
            ("x.a.test", 28, "2001:db8::1", AclAction::Filter),
            ("x.a.test", 1, "2001:db8::1", AclAction::Allow),
            ("b.test", 255, "192.0.2.5", AclAction::Block),
            ("b.test", 255, "::ffff:192.0.2.5", AclAction::Block),
            ("b.test", 255, "198.51.100.1", AclAction::Allow),
        ] {
            assert_eq!(decide(&lists, name, rtype, address), action, "{name} {rtype} {address}");
        }
    }

    #[test]
    fn joined_lines_decide_like_separate_ones() {
        let lists = lists(
            "acl {\n block net 10.0.0.0/8\n block net 192.0.2.1 10.1.0.0/16\n allow\n block\n}",
        );
        assert_eq!(lists.0[0].lines.len(), 3);
        for (address, action) in [
            ("10.255.255.255", AclAction::Block),
            ("10.1.2.3", AclAction::Block),
            ("192.0.2.1", AclAction::Block),
            ("192.0.2.2", AclAction::Allow),
            ("9.255.255.255", AclAction::Allow),
            ("11.0.0.0", AclAction::Allow),
            ("::1", AclAction::Allow),
        ] {
            assert_eq!(decide(&lists, "a", 1, address), action, "{address}");
        }
    }

    #[test]
    fn ranges_contain_the_addresses_of_their_prefixes() {
        let mut random = ChaCha8Rng::seed_from_u64(7);
        for _ in 0..200 {
            // Few bits, so that prefixes overlap.
            let mut word = || random.next_u32();
            let address = |word: u32| match word {
                word if word % 3 == 0 => format!("0:0:0:{:x}::", word >> 28),
                word => format!("10.{}.0.{}", word >> 4 & 3, word >> 8 & 7),
            };
            let addresses: Vec<String> = (0..40).map(|_| address(word())).collect();
            let nets: Vec<String> = (0..12)
                .map(|_| {
                    let address = address(word());
                    let length = 8 + word() % 25;
                    let length = if address.contains(':') { length + 32 } else { length };
                    format!("{address}/{length}")
                })
                .collect();
            let text = format!("acl {{\n block net {}\n}}", nets.join(" "));
            let written = load(&text);
            let lists = lists(&text);
            let nets = written.blocks[0].stages.acl[0].lines[0].nets.as_ref().unwrap();
            for address in &addresses {
                let address: IpAddr = address.parse().unwrap();
                let contained = nets.iter().any(|net| net.contains(address));
                let expected = if contained { AclAction::Block } else { AclAction::Allow };
                let name = LowercaseName::new(b"\0");
                assert_eq!(lists.decide(&name, 1, address), expected, "{address} in {text}");
            }
        }
    }
}
