//! Answers from zones: RFC 1034 §4.3.2 with RFC 4592 (wildcards), RFC 6672 (DNAME), RFC 2308
//! (negative answers), RFC 9471 (glue) and, where a zone is signed, RFC 4035 §3.1.
//!
//! An alias is followed within zones of the same table; where it leaves them the reply stays open.
//! Response code and authority section are those of the last name. TC is set only if an answer, a
//! denial, a proof or a name server's address within its own zone is missing.

use super::table::{ZoneEntry, ZoneTable};
use super::walk::{Found, find, full_name, star_below};
use super::{DNSKEY, Node, Set, Zone, below, flag, name_len};
use crate::engine::message::compose::{Composer, NewSet, Section};
use crate::engine::message::rename::Names;
use crate::engine::message::{NAME_LEN_MAX, Rcode, class, flags, rtype, u16_at, u32_at};
use crate::engine::zones::LowercaseName;

/// Maximum number of aliases of one reply.
const ALIASES_MAX: usize = 16;
/// Maximum number of names whose addresses are added to one reply.
const ADDED_MAX: usize = 32;
/// Maximum number of NSEC records of one reply: three for each alias and its end.
const PROOFS_MAX: usize = 3 * (ALIASES_MAX + 1);

/// A question about a zone.
pub struct Ask<'a> {
    /// QNAME.
    pub name: &'a LowercaseName,
    /// QTYPE.
    pub rtype: u16,
    /// Signatures and proofs are wanted (DO).
    pub dnssec_ok: bool,
    /// Positive answers are reduced to their answer section.
    pub minimal: bool,
}

/// Result of a lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A reply of this length was written.
    Replied(usize),
    /// The same; its last alias has a target that these zones do not answer for.
    Open(usize),
    /// The name does not exist and falls through to later stages.
    Passed,
    /// The zone has not been loaded.
    NotLoaded,
}

/// Answers a question about `entry`, a zone of `table`. `passes`: returns true if a name that does
/// not exist falls through, for the stanza with this number.
pub fn answer(
    table: &ZoneTable,
    entry: &ZoneEntry,
    ask: &Ask<'_>,
    mut reply: Composer<'_>,
    passes: impl Fn(u32, &LowercaseName) -> bool,
) -> Outcome {
    let names = reply.names();
    let mut writing = Writing {
        reply,
        names,
        ask,
        aliases: 0,
        seen: [0; ALIASES_MAX + 1],
        dnames: [None; ALIASES_MAX],
        pending: [None; ALIASES_MAX],
        proofs: [None; PROOFS_MAX],
        has_answer: false,
        has_left: false,
        is_full: false,
    };
    let (mut entry, mut name) = (entry, *ask.name);
    loop {
        let Some(zone) = entry.zone.as_deref() else {
            return if writing.aliases == 0 {
                Outcome::NotLoaded
            } else {
                writing.end(Rcode::ServFail)
            };
        };
        let target = match writing.look_up(zone, &name) {
            Stage::Done(rcode) => return writing.end(rcode),
            Stage::Missing(missing) => {
                if passes(entry.stanza, &name) {
                    return if writing.aliases == 0 { Outcome::Passed } else { writing.open() };
                }
                return writing.deny(zone, &name, &missing);
            }
            Stage::Alias(target) => target,
        };
        let hash = table.hasher.hash_one(name.as_bytes());
        writing.seen[writing.aliases - 1] = hash;
        let next = table.hasher.hash_one(target.as_bytes());
        if writing.is_full {
            return writing.end(Rcode::NoError);
        }
        if writing.seen[..writing.aliases].contains(&next) {
            return writing.end(Rcode::ServFail);
        }
        name = target;
        let Some(zone_match) = table.zone_match(&name, ask.rtype) else { return writing.open() };
        writing.has_left |= !std::ptr::eq(zone_match, entry);
        entry = zone_match;
    }
}

/// Result of a lookup of one name.
#[expect(
    clippy::large_enum_variant,
    reason = "it is looked at and gone, and a box would be allocated"
)]
enum Stage<'z> {
    /// The reply is complete.
    Done(Rcode),
    /// There is no such name, or only names below it.
    Missing(Missing<'z>),
    /// An alias to this name.
    Alias(LowercaseName),
}

/// A name that does not exist.
struct Missing<'z> {
    /// The name does not exist; otherwise there are names below it.
    is_name: bool,
    /// Closest encloser.
    encloser: Node<'z>,
}

/// A node of a zone.
#[derive(Clone, Copy)]
struct Spot<'z> {
    zone: &'z Zone,
    place: u32,
}

/// Records a node; returns false if it is present, or there is no room.
fn note<'z>(spots: &mut [Option<Spot<'z>>], zone: &'z Zone, place: u32) -> bool {
    for spot in spots {
        match spot {
            Some(known) if std::ptr::eq(known.zone, zone) && known.place == place => return false,
            Some(_) => {}
            None => {
                *spot = Some(Spot { zone, place });
                return true;
            }
        }
    }
    false
}

/// A reply that is being written.
struct Writing<'a, 'z> {
    reply: Composer<'a>,
    names: Names,
    ask: &'a Ask<'a>,
    aliases: usize,
    /// Hashes of the names so far.
    seen: [u64; ALIASES_MAX + 1],
    /// DNAME records that were written.
    dnames: [Option<Spot<'z>>; ALIASES_MAX],
    /// NSEC records to be written behind the answer section.
    pending: [Option<Spot<'z>>; ALIASES_MAX],
    /// NSEC records that were written.
    proofs: [Option<Spot<'z>>; PROOFS_MAX],
    has_answer: bool,
    /// The chain of aliases has left its first zone.
    has_left: bool,
    /// A required record did not fit.
    is_full: bool,
}

impl<'z> Writing<'_, 'z> {
    /// Looks up one name of the chain and writes its records.
    fn look_up(&mut self, zone: &'z Zone, name: &LowercaseName) -> Stage<'z> {
        let Some(inner) = below(name.as_bytes(), zone.apex()) else {
            return Stage::Done(Rcode::ServFail);
        };
        match find(zone, inner, self.ask.rtype) {
            Found::Cut(cut) => self.refer(zone, &cut),
            Found::Dname(node, end) => self.substitute(zone, &node, &name.as_bytes()[..end]),
            Found::Exact(node) => self.serve(zone, name, &node, None),
            Found::Wildcard(node, next) => self.serve(zone, name, &node, Some(&inner[next..])),
            Found::Missing(encloser) => Stage::Missing(Missing { is_name: true, encloser }),
        }
    }

    /// Answers with the records of a node. `closer`: the node is a wildcard, and this is the next
    /// closer name (RFC 5155 §1.3) of the QNAME.
    fn serve(
        &mut self,
        zone: &'z Zone,
        name: &LowercaseName,
        node: &Node<'z>,
        closer: Option<&[u8]>,
    ) -> Stage<'z> {
        let rtype = self.ask.rtype;
        let is_plain = !matches!(rtype, rtype::CNAME | rtype::ANY | rtype::NSEC | rtype::RRSIG);
        if is_plain && node.is(flag::CNAME) {
            return self.follow(zone, name, node, closer);
        }
        let set = if rtype == rtype::ANY { node.any() } else { node.set(rtype) };
        let Some(set) = set else {
            let has_nothing = node.is_empty() || node.place == 0 && node.is_bare();
            if closer.is_none() && has_nothing {
                return Stage::Missing(Missing { is_name: false, encloser: *node });
            }
            self.write_soa(zone);
            if self.proves(zone) {
                for covered in [Some(node.name()), closer].into_iter().flatten() {
                    zone.covering(covered).iter().for_each(|node| self.prove(zone, node));
                }
            }
            return Stage::Done(Rcode::NoError);
        };
        if rtype == rtype::RRSIG {
            self.write_signatures_only(node, name.as_bytes());
        } else {
            self.require(Section::Answer, node, &set, name.as_bytes());
        }
        self.has_answer = true;
        self.hold(zone, closer);
        self.write_pending();
        if !self.ask.minimal {
            if !matches!(rtype, rtype::NS | rtype::DS | rtype::ANY | DNSKEY) {
                self.write_servers(zone);
            }
            self.write_additional(zone, &set);
        }
        Stage::Done(Rcode::NoError)
    }

    /// Records the proof that no name is closer than a wildcard.
    fn hold(&mut self, zone: &'z Zone, closer: Option<&[u8]>) {
        if self.proves(zone)
            && let Some(node) = closer.and_then(|closer| zone.covering(closer))
        {
            note(&mut self.pending, zone, node.place);
        }
    }

    /// Writes the recorded proofs of the chain at the beginning of the authority section.
    fn write_pending(&mut self) {
        let pending = std::mem::replace(&mut self.pending, [None; ALIASES_MAX]);
        for Spot { zone, place } in pending.into_iter().flatten() {
            self.prove(zone, &zone.node_at(place as usize));
        }
    }

    /// Writes an alias.
    fn follow(
        &mut self,
        zone: &'z Zone,
        name: &LowercaseName,
        node: &Node<'z>,
        closer: Option<&[u8]>,
    ) -> Stage<'z> {
        if self.aliases == ALIASES_MAX {
            return Stage::Done(Rcode::ServFail);
        }
        let set = node.set(rtype::CNAME);
        let target = set.and_then(|set| set.data().next());
        let (Some(set), Some(target)) = (set, target) else { return Stage::Done(Rcode::ServFail) };
        self.require(Section::Answer, node, &set, name.as_bytes());
        self.has_answer = true;
        self.aliases += 1;
        self.hold(zone, closer);
        Stage::Alias(LowercaseName::new(target))
    }

    /// Writes a DNAME and the CNAME that it makes for a name, whose labels before the DNAME's owner
    /// are `before`.
    fn substitute(&mut self, zone: &'z Zone, node: &Node<'z>, before: &[u8]) -> Stage<'z> {
        if self.aliases == ALIASES_MAX {
            return Stage::Done(Rcode::ServFail);
        }
        let set = node.set(rtype::DNAME);
        let target = set.and_then(|set| set.data().next());
        let (Some(set), Some(target)) = (set, target) else { return Stage::Done(Rcode::ServFail) };
        let mut room = [0; NAME_LEN_MAX];
        let owner = full_name(zone, node.name(), &mut room);
        if note(&mut self.dnames, zone, node.place) {
            self.require(Section::Answer, node, &set, owner);
        }
        self.has_answer = true;
        let mut made = [0; NAME_LEN_MAX];
        let len = before.len() + target.len();
        let Some(made) = made.get_mut(..len) else { return Stage::Done(Rcode::YxDomain) };
        made[..before.len()].copy_from_slice(before);
        made[before.len()..].copy_from_slice(target);
        let mut alias = [0; NAME_LEN_MAX];
        let alias_len = before.len() + owner.len();
        alias[..before.len()].copy_from_slice(before);
        alias[before.len()..alias_len].copy_from_slice(owner);
        let head = NewSet {
            owner: &alias[..alias_len],
            rtype: rtype::CNAME,
            class: class::IN,
            ttl: set.ttl,
        };
        let data: &[u8] = made;
        if !self.reply.set(Section::Answer, &head, std::iter::once(data), &mut self.names) {
            self.lack();
        }
        self.aliases += 1;
        let target = LowercaseName::new(made);
        if matches!(self.ask.rtype, rtype::CNAME | rtype::ANY) {
            self.write_pending();
            if self.ask.rtype == rtype::CNAME && !self.ask.minimal {
                self.write_servers(zone);
            }
            return Stage::Done(Rcode::NoError);
        }
        Stage::Alias(target)
    }

    /// Writes a referral.
    fn refer(&mut self, zone: &'z Zone, cut: &Node<'z>) -> Stage<'z> {
        self.write_pending();
        let mut room = [0; NAME_LEN_MAX];
        let owner = full_name(zone, cut.name(), &mut room);
        let Some(set) = cut.set(rtype::NS) else { return Stage::Done(Rcode::ServFail) };
        let head = NewSet { owner, rtype: rtype::NS, class: class::IN, ttl: set.ttl };
        if !self.reply.set(Section::Authority, &head, set.data(), &mut self.names) {
            self.lack();
            return Stage::Done(Rcode::NoError);
        }
        if self.ask.dnssec_ok {
            match cut.set(rtype::DS) {
                Some(signed) => self.require(Section::Authority, cut, &signed, owner),
                None if zone.is_signed() => self.prove(zone, cut),
                None => {}
            }
        }
        for is_within in [true, false] {
            for target in set.data() {
                let target = LowercaseName::new(target);
                let own = target.is_within(owner);
                let Some(inner) = below(target.as_bytes(), zone.apex()) else { continue };
                let Some(node) = zone.node_of(inner).filter(|_| own == is_within) else { continue };
                for rtype in [rtype::A, rtype::AAAA] {
                    let Some(set) = node.set(rtype) else { continue };
                    let head =
                        NewSet { owner: target.as_bytes(), rtype, class: class::IN, ttl: set.ttl };
                    let section = Section::Additional;
                    let fits = self.reply.set(section, &head, set.data(), &mut self.names);
                    if !fits && is_within {
                        self.lack();
                    }
                    if !fits {
                        return Stage::Done(Rcode::NoError);
                    }
                }
            }
        }
        Stage::Done(Rcode::NoError)
    }

    /// Writes the denial of a name or of its data.
    fn deny(mut self, zone: &'z Zone, name: &LowercaseName, missing: &Missing<'_>) -> Outcome {
        self.write_soa(zone);
        let inner = below(name.as_bytes(), zone.apex()).unwrap_or_default();
        if self.proves(zone)
            && let Some(node) = zone.covering(inner)
        {
            self.prove(zone, &node);
            let mut room = [0; NAME_LEN_MAX];
            let star = star_below(missing.encloser.name(), &mut room);
            let star = star.filter(|_| missing.is_name).and_then(|star| zone.covering(star));
            star.iter().for_each(|node| self.prove(zone, node));
        }
        self.end(if missing.is_name { Rcode::NxDomain } else { Rcode::NoError })
    }

    fn open(self) -> Outcome {
        match self.end(Rcode::NoError) {
            Outcome::Replied(len) => Outcome::Open(len),
            other => other,
        }
    }

    fn end(mut self, rcode: Rcode) -> Outcome {
        self.write_pending();
        let bits = if self.has_answer { flags::AA } else { 0 };
        Outcome::Replied(self.reply.end(bits, rcode))
    }

    fn lack(&mut self) {
        self.reply.lacks();
        self.is_full = true;
    }

    /// Writes a required RRset, with its signatures if they are wanted.
    fn require(&mut self, section: Section, node: &Node<'_>, set: &Set<'_>, owner: &[u8]) {
        if !self.is_full && !self.write(section, node, set, owner, set.ttl) {
            self.lack();
        }
    }

    /// Writes an RRset with its signatures, or nothing if they do not fit.
    fn write(
        &mut self,
        section: Section,
        node: &Node<'_>,
        set: &Set<'_>,
        owner: &[u8],
        ttl: u32,
    ) -> bool {
        let (mark, count) = (self.reply.mark(), self.names.count());
        let head = NewSet { owner, rtype: set.rtype, class: class::IN, ttl };
        let mut fits = self.reply.set(section, &head, set.data(), &mut self.names);
        if fits && self.ask.dnssec_ok && set.rtype != rtype::RRSIG {
            let head = NewSet { rtype: rtype::RRSIG, ..head };
            fits = self.reply.set(section, &head, node.signatures(set.rtype), &mut self.names);
        }
        if !fits {
            self.reply.back_to(&mark);
            self.names.keep(count);
        }
        fits
    }

    /// Writes all signatures of a node, each with the TTL of its RRset.
    fn write_signatures_only(&mut self, node: &Node<'_>, owner: &[u8]) {
        let all = node.set(rtype::RRSIG);
        for data in all.into_iter().flat_map(Set::data) {
            let signed = u16_at(data, 0).and_then(|rtype| node.set(rtype));
            let ttl = signed.or(all).map_or(0, |set| set.ttl);
            let head = NewSet { owner, rtype: rtype::RRSIG, class: class::IN, ttl };
            if self.is_full
                || !self.reply.set(Section::Answer, &head, std::iter::once(data), &mut self.names)
            {
                return self.lack();
            }
        }
    }

    /// Writes the SOA of a denial, with a TTL of at most MINIMUM (RFC 2308 §3).
    fn write_soa(&mut self, zone: &Zone) {
        self.write_pending();
        self.has_answer = true;
        let node = zone.top();
        let Some(set) = node.set(rtype::SOA) else { return };
        let data = set.data().next().unwrap_or_default();
        let minimum = data.len().checked_sub(4).and_then(|place| u32_at(data, place));
        let ttl = minimum.map_or(set.ttl, |minimum| minimum.min(set.ttl));
        if !self.is_full && !self.write(Section::Authority, &node, &set, zone.apex(), ttl) {
            self.lack();
        }
    }

    /// Writes the name servers of the zone, if there is room.
    fn write_servers(&mut self, zone: &Zone) {
        let node = zone.top();
        if let Some(set) = node.set(rtype::NS).filter(|_| !self.is_full && !self.has_left) {
            self.write(Section::Authority, &node, &set, zone.apex(), set.ttl);
        }
    }

    /// Writes the addresses of names in the data of `set`, if there is room.
    fn write_additional(&mut self, zone: &Zone, set: &Set<'_>) {
        let place = match set.rtype {
            rtype::NS => 0,
            rtype::MX | rtype::SVCB | rtype::HTTPS => 2,
            rtype::SRV => 6,
            _ => return,
        };
        if self.is_full {
            return;
        }
        let mut added = [0_u32; ADDED_MAX];
        let mut count = 0;
        for data in set.data() {
            let Some(target) = data.get(place..) else { continue };
            let Some(len) = name_len(target) else { continue };
            let target = LowercaseName::new(&target[..len]);
            let Some(inner) = below(target.as_bytes(), zone.apex()) else { continue };
            let Found::Exact(node) = find(zone, inner, rtype::A) else { continue };
            if added[..count].contains(&node.place) {
                continue;
            }
            if count == ADDED_MAX {
                return;
            }
            added[count] = node.place;
            count += 1;
            for rtype in [rtype::A, rtype::AAAA] {
                let Some(set) = node.set(rtype) else { continue };
                let owner = target.as_bytes();
                if !self.write(Section::Additional, &node, &set, owner, set.ttl) {
                    return;
                }
            }
        }
    }

    fn proves(&self, zone: &Zone) -> bool {
        self.ask.dnssec_ok && zone.is_signed()
    }

    /// Writes the NSEC record at a node, once.
    fn prove(&mut self, zone: &'z Zone, node: &Node<'_>) {
        if !note(&mut self.proofs, zone, node.place) {
            return;
        }
        let Some(set) = node.set(rtype::NSEC) else { return };
        let mut room = [0; NAME_LEN_MAX];
        let owner = full_name(zone, node.name(), &mut room);
        self.require(Section::Authority, node, &set, owner);
    }
}
