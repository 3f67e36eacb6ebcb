//! Routing of questions: from listener and name to a server block and its stanza.
//!
//! The longest matching zone wins, and the first of the block's `forward` stanzas whose FROM and
//! `except` match, in the order written. Built once from the configuration; only the rotation among
//! a stanza's upstreams changes afterwards.

use super::key::Transport;
use super::memory::reserved;
use super::message::{class, rtype};
use super::policy::Rotation;
use super::tally::{LabelSets, NOWHERE};
use super::views::{Candidate, Facts, Views};
use super::zones::{LowercaseName, Zones};
use crate::config::{Config, Forward, LetterCase, Listener, Name, Policy, Rcodes, ServerBlock};
use ahash::RandomState;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::time::Duration;

/// Maximum of attempts per query and upstream without a configured limit (RFC 9520 §3.1): upstreams
/// that refuse at once would otherwise get queries as fast as they refuse.
const ATTEMPTS_EACH: u32 = 3;
/// Maximum of failed attempts per query, whatever the configuration.
const FAILURES_MAX: u32 = 64;

/// Address of a listener that is no longer configured.
const NO_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// One `forward` stanza, ready for use.
pub(crate) struct Stanza {
    from: Box<[u8]>,
    except: Zones<()>,
    /// Order in which its upstreams are tried.
    pub(crate) policy: Policy,
    /// Next upstream in turn.
    pub(crate) rotation: Rotation,
    /// Number of the server block; `None`: no server block.
    block: Option<usize>,
    /// Numbers of the upstreams, over all stanzas.
    pub(crate) upstreams: Range<usize>,
    /// Maximum number of failed attempts of a query.
    pub(crate) failures_max: u32,
    /// Index of the attempts' time-out in [`Routes::timeouts`].
    pub(crate) timeout_class: u32,
    /// Responses with these codes are held back while another upstream can be asked.
    pub(crate) failover: Rcodes,
    /// Responses with these codes hand the query to the next stanza.
    pub(crate) next: Rcodes,
    /// NOERROR without an answer record does the same.
    pub(crate) next_on_nodata: bool,
    /// Zones below which `next` hands the query to the plugin behind `grpc`. `None`: it is a
    /// `forward` stanza.
    fallthrough: Option<Zones<()>>,
    /// Reply with SERVFAIL at once when all upstreams are down.
    pub(crate) failfast: bool,
    /// Number of clients that wait for its answers.
    pub(crate) under_way: u32,
    /// Zero in server blocks whose upstreams learn the client, which have `by_client_max`.
    under_way_max: u32,
    by_client_max: u32,
    force_tcp: bool,
    /// UDP whatever the client used; TCP only after a truncated answer.
    pub(crate) prefer_udp: bool,
    /// Case of the letters in names of queries over UDP.
    pub(crate) letter_case: LetterCase,
    /// Answers with addresses of private networks are refused, except for names below these.
    pub(crate) private_answers: Option<Box<Zones<()>>>,
}

/// Result of a search for the stanza after `next`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NextStanza {
    /// Number of the next stanza.
    Stanza(usize),
    /// The stanza is the last of its block.
    End,
    /// Stanzas follow, but none of them handles the name.
    Nowhere,
}

/// Server block and label of metrics of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZoneMatch {
    block: Option<u32>,
    /// Number under which the query is counted.
    pub(crate) label_set: u32,
}

impl ZoneMatch {
    /// No server block, and not counted.
    pub(crate) const NOWHERE: Self = Self { block: None, label_set: NOWHERE };

    /// Number of the server block; `None`: no server block.
    pub fn block(&self) -> Option<usize> {
        self.block.map(|block| block as usize)
    }
}

struct Listening {
    /// Zones of blocks; empty if one has a view, because then all are among the views.
    zones: Zones<ZoneMatch>,
    /// Blocks of a listener with a view, and the match for each.
    views: Option<Box<(Views, Vec<ZoneMatch>)>>,
    /// Classes other than IN are served.
    any_class: bool,
    /// Some of its server blocks have own zones.
    has_own_zones: bool,
    /// Match for questions outside all zones.
    nobody: ZoneMatch,
    /// Configured address.
    local: SocketAddr,
}

/// All listeners, server blocks and stanzas.
pub struct Routes {
    listeners: Vec<Listening>,
    /// Stanzas of each server block.
    blocks: Vec<Range<usize>>,
    stanzas: Vec<Stanza>,
    timeouts: Vec<Duration>,
}

impl Routes {
    /// Builds the routes of `config`. `listeners`: number in the configuration of each of the
    /// shell's listeners; the others serve no block. `label_sets`: those of the configuration.
    /// `hasher` is keyed.
    pub fn new(
        config: &Config,
        listeners: &[Option<usize>],
        label_sets: &LabelSets,
        hasher: &RandomState,
    ) -> Self {
        let (mut timeouts, mut upstreams) = (Vec::new(), 0);
        let (mut blocks, mut stanzas) = (Vec::new(), Vec::new());
        for (number, block) in config.blocks.iter().enumerate() {
            let first = stanzas.len();
            for forward in &block.forwards {
                let timeout_class = class_of(&mut timeouts, forward.read_timeout);
                let own = upstreams..upstreams + forward.upstreams.len();
                upstreams = own.end;
                let mut stanza = Stanza::new(forward, own, timeout_class, hasher);
                stanza.block = Some(number);
                // A query may move from each stanza of the block to those behind it.
                if block.forwards.iter().any(|forward| forward.proxy_protocol) {
                    stanza.by_client_max = std::mem::take(&mut stanza.under_way_max);
                }
                stanzas.push(stanza);
            }
            blocks.push(first..stanzas.len());
        }
        stanzas.push(Stanza::of_nobody(upstreams, hasher));
        let listeners = listeners.iter().map(|number| {
            let listener = number.map(|number| &config.listeners[number]);
            let zones = || listener.into_iter().flat_map(|listener| &listener.zones);
            let any_class = zones().any(|(_, block)| serves_any_class(&config.blocks[*block]));
            let has_own_zones = zones().any(|(_, block)| config.blocks[*block].own_zones.is_some());
            let matches = zones().enumerate().map(|(zone, (_, block))| {
                let label_set = number.map_or(NOWHERE, |listener| label_sets.zone(listener, zone));
                ZoneMatch { block: Some(*block as u32), label_set }
            });
            let matches: Vec<ZoneMatch> = matches.collect();
            let views = listener.filter(|listener| has_views(config, listener)).map(|listener| {
                let candidates = zones().map(|(zone, block)| candidate(config, zone, *block));
                Box::new((Views::new(candidates, listener.address, hasher), matches.clone()))
            });
            let plain = zones().map(|(zone, _)| zone).zip(matches).filter(|_| views.is_none());
            let zones = Zones::new(hasher.clone(), plain);
            let label_set = number.map_or(NOWHERE, |listener| label_sets.dropped(listener));
            let nobody = ZoneMatch { block: None, label_set };
            let local = listener.map_or(NO_ADDRESS, |listener| listener.address);
            Listening { zones, views, any_class, has_own_zones, nobody, local }
        });
        Self { listeners: listeners.collect(), blocks, stanzas, timeouts }
    }

    /// Returns the label set of queries outside all zones of a listener.
    pub(crate) fn dropped(&self, listener: u16) -> u32 {
        self.listeners[usize::from(listener)].nobody.label_set
    }

    /// Returns the reserved memory in bytes.
    pub(crate) fn reserved(&self) -> usize {
        let zones = self.listeners.iter().map(|listener| {
            let views = listener.views.as_ref();
            let views = views
                .map_or(0, |views| size_of_val(&**views) + views.0.reserved() + reserved(&views.1));
            listener.zones.reserved() + views
        });
        let zones: usize = zones.sum();
        let own = |stanza: &Stanza| {
            let private = stanza.private_answers.as_ref();
            let private = private.map_or(0, |zones| size_of_val(&**zones) + zones.reserved());
            stanza.from.len() + stanza.except.reserved() + private
        };
        let stanzas: usize = self.stanzas.iter().map(own).sum();
        let lists = reserved(&self.listeners) + reserved(&self.blocks) + reserved(&self.stanzas);
        lists + zones + stanzas + reserved(&self.timeouts)
    }

    /// Returns the configured address of `listener`.
    pub(crate) fn local(&self, listener: u16) -> SocketAddr {
        self.listeners[usize::from(listener)].local
    }

    /// Returns the distinct time-outs of attempts.
    pub(crate) fn timeouts(&self) -> &[Duration] {
        &self.timeouts
    }

    /// Returns the stanza with this number.
    pub(crate) fn stanza(&mut self, number: usize) -> &mut Stanza {
        &mut self.stanzas[number]
    }

    /// Returns the server block of a stanza, unless that is [`Routes::nowhere`].
    pub(crate) fn block_of(&self, stanza: usize) -> Option<usize> {
        self.stanzas[stanza].block
    }

    /// Returns true if the stanza is for all names that it does not except.
    pub(crate) fn is_for_all(&self, stanza: usize) -> bool {
        self.stanzas[stanza].from.len() == 1
    }

    /// Returns the stanza without upstreams, for questions that no other stanza handles.
    pub(crate) fn nowhere(&self) -> usize {
        self.stanzas.len() - 1
    }

    /// Returns the next stanza in the block of number `stanza` that handles `name`. A stanza of
    /// `grpc` counts only behind another one, as in the reference.
    pub(crate) fn after(&self, stanza: usize, name: &LowercaseName) -> NextStanza {
        if let Some(zones) = &self.stanzas[stanza].fallthrough {
            let falls = zones.longest(name).is_some();
            return if falls { NextStanza::Nowhere } else { NextStanza::End };
        }
        let end = self.stanzas[stanza].block.map_or(0, |block| self.blocks[block].end);
        let mut following = stanza + 1..end;
        let is_forward = |next: usize| self.stanzas[next].fallthrough.is_none();
        if following.is_empty() || !is_forward(following.start) {
            return NextStanza::End;
        }
        let wanted = following.find(|next| self.stanzas[*next].handles(name));
        wanted.map_or(NextStanza::Nowhere, NextStanza::Stanza)
    }

    /// Returns the server block and label of a question on `listener`. `facts` is only called if
    /// there are views. Every query is looked up here, so it is always inlined.
    #[inline(always)]
    pub fn zone_match<'a>(
        &self,
        listener: u16,
        name: &LowercaseName,
        rtype: u16,
        class: u16,
        facts: impl FnOnce() -> Facts<'a>,
    ) -> ZoneMatch {
        let listening = &self.listeners[usize::from(listener)];
        let Listening { zones, any_class, has_own_zones, .. } = listening;
        let zone_match = match rtype {
            _ if class != class::IN && !any_class => None,
            // Names below one of our zones belong to it; only its apex belongs to its parent for
            // DS.
            rtype::DS if *has_own_zones => zones.parents(name),
            rtype::DS => zones.topmost(name),
            _ => zones.longest(name),
        };
        // With views the zones are empty.
        zone_match.unwrap_or_else(|| listening.choose(facts))
    }

    /// Returns the number of the stanza of `block` that handles `name`.
    pub fn stanza_in(&self, block: usize, name: &LowercaseName) -> Option<usize> {
        self.blocks[block].clone().find(|stanza| self.stanzas[*stanza].handles(name))
    }
}

impl Listening {
    /// Returns the match of a question that is in no zone without views.
    fn choose<'a>(&self, facts: impl FnOnce() -> Facts<'a>) -> ZoneMatch {
        let Some((views, matches)) = self.views.as_deref() else { return self.nobody };
        let facts = facts();
        if facts.class != class::IN && !self.any_class {
            return self.nobody;
        }
        views.choose(&facts).map_or(self.nobody, |number| matches[number])
    }
}

fn has_views(config: &Config, listener: &Listener) -> bool {
    listener.zones.iter().any(|(_, block)| config.blocks[*block].stages.view.is_some())
}

fn candidate<'a>(config: &'a Config, zone: &'a Name, block: usize) -> Candidate<'a> {
    let block = &config.blocks[block];
    let refuses = !block.stages.can_answer() && block.forwards.is_empty();
    Candidate { zone, view: block.stages.view.as_ref(), refuses }
}

/// Returns true if listeners of the block accept questions of every class; others accept class IN.
fn serves_any_class(block: &ServerBlock) -> bool {
    !block.forwards.is_empty() || block.stages.chaos.is_some()
}

impl Stanza {
    fn new(
        forward: &Forward,
        upstreams: Range<usize>,
        timeout_class: u32,
        hasher: &RandomState,
    ) -> Self {
        let uncapped = ATTEMPTS_EACH * upstreams.len() as u32;
        Self {
            from: forward.from.as_wire().into(),
            except: Zones::new(hasher.clone(), forward.except.iter().map(|name| (name, ()))),
            policy: forward.policy,
            rotation: Rotation::default(),
            block: None,
            upstreams,
            failures_max: forward.max_connect_attempts.unwrap_or(uncapped).min(FAILURES_MAX),
            timeout_class,
            failover: forward.failover,
            next: forward.next,
            next_on_nodata: forward.next_on_nodata,
            fallthrough: forward.grpc.as_ref().map(|grpc| {
                let zones = grpc.fallthrough.iter().flatten();
                Zones::new(hasher.clone(), zones.map(|zone| (zone, ())))
            }),
            failfast: forward.failfast,
            under_way: 0,
            under_way_max: forward.max_concurrent.unwrap_or(u32::MAX),
            by_client_max: 0,
            force_tcp: forward.force_tcp,
            prefer_udp: forward.prefer_udp,
            letter_case: forward.letter_case,
            private_answers: forward.private_answers.as_ref().map(|except| {
                Box::new(Zones::new(hasher.clone(), except.iter().map(|zone| (zone, ()))))
            }),
        }
    }

    /// The stanza without a name or an upstream; `next`: number of the next upstream.
    fn of_nobody(next: usize, hasher: &RandomState) -> Self {
        Self {
            from: Box::default(),
            except: Zones::new(hasher.clone(), []),
            policy: Policy::Sequential,
            rotation: Rotation::default(),
            block: None,
            upstreams: next..next,
            failures_max: 0,
            timeout_class: 0,
            failover: Rcodes::default(),
            next: Rcodes::default(),
            next_on_nodata: false,
            fallthrough: None,
            failfast: false,
            under_way: 0,
            under_way_max: 0,
            by_client_max: 0,
            force_tcp: false,
            prefer_udp: false,
            letter_case: LetterCase::Off,
            private_answers: None,
        }
    }

    /// Returns true if another client of any address may wait for the stanza's answers.
    pub(crate) fn has_room(&self) -> bool {
        self.under_way < self.under_way_max
    }

    /// Returns true if another client may wait where queries are coalesced by client address.
    pub(crate) fn has_room_by_client(&self) -> bool {
        self.under_way < self.by_client_max
    }

    /// Returns the first transport upstream of a query whose client used `client`.
    pub(crate) fn transport(&self, client: Transport) -> Transport {
        match (self.force_tcp, self.prefer_udp) {
            (true, _) => Transport::Tcp,
            (false, true) => Transport::Udp,
            (false, false) => client,
        }
    }

    /// Returns true for a name at or below FROM that no `except` excludes; FROM is never excluded.
    fn handles(&self, name: &LowercaseName) -> bool {
        name.is_within(&self.from)
            && (name.as_bytes() == &*self.from || self.except.longest(name).is_none())
    }
}

/// Index of `timeout` among the distinct ones, of which there are few.
fn class_of(timeouts: &mut Vec<Duration>, timeout: Duration) -> u32 {
    let known = timeouts.iter().position(|other| *other == timeout);
    let class = known.unwrap_or_else(|| {
        timeouts.push(timeout);
        timeouts.len() - 1
    });
    class as u32
}

#[cfg(test)]
mod tests {
    use super::{FAILURES_MAX, LabelSets, Routes};
    use crate::config::{Config, Host, Name};
    use crate::engine::message::class;
    use crate::engine::views::Facts;
    use crate::engine::zones::LowercaseName;

    fn routes(text: &str) -> Routes {
        let (config, _) = Config::load(text.as_bytes(), "Corefile", &Host::plain()).unwrap();
        let hasher = ahash::RandomState::with_seeds(1, 2, 3, 4);
        Routes::new(&config, &[Some(0)], &LabelSets::of(&config), &hasher)
    }

    fn no_views() -> Facts<'static> {
        unreachable!("there are no views")
    }

    /// Returns the numbers of the block and its stanza.
    fn find(routes: &Routes, name: &str, rtype: u16) -> Option<(usize, Option<usize>)> {
        let name = LowercaseName::new(Name::parse(name).unwrap().as_wire());
        let block = routes.zone_match(0, &name, rtype, class::IN, no_views).block()?;
        Some((block, routes.stanza_in(block, &name)))
    }

    #[test]
    fn the_first_stanza_that_matches_handles_the_name() {
        let routes = routes(
            "lab.test {\n bind 127.0.0.1\n forward a.lab.test 127.0.0.1\n \
             forward lab.test 127.0.0.2 {\n except b.lab.test lab.test\n}\n}\n",
        );
        assert_eq!(find(&routes, "x.a.lab.test", 1), Some((0, Some(0))));
        assert_eq!(
            find(&routes, "lab.test", 1),
            Some((0, Some(1))),
            "FROM itself is never excluded"
        );
        assert_eq!(find(&routes, "c.lab.test", 1), Some((0, None)));
        assert_eq!(find(&routes, "test", 1), None);
    }

    #[test]
    fn classes_other_than_in_need_a_block_that_accepts_them() {
        let name = LowercaseName::new(b"\x01a\x00");
        for (text, block) in [("bind 127.0.0.1\n any", None), ("forward . 127.0.0.1", Some(0))] {
            let routes = routes(&format!(". {{\n {text}\n}}\n"));
            let found = [class::CH, class::IN]
                .map(|class| routes.zone_match(0, &name, 16, class, no_views).block());
            assert_eq!(found, [block, Some(0)], "{text}");
        }
    }

    #[test]
    fn attempts_are_bounded_without_a_configured_limit() {
        let cap = |text: &str| {
            let text = format!(". {{\n forward . 127.0.0.1 {{\n {text}\n}}\n}}\n");
            routes(&text).stanza(0).failures_max
        };
        assert_eq!(cap(""), 2);
        assert_eq!(cap("max_connect_attempts 5"), 5);
        assert_eq!(cap("max_connect_attempts 0"), 3);
        assert_eq!(cap("max_connect_attempts 4000000000"), FAILURES_MAX);
    }
}
