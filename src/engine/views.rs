//! Choice between server blocks of one zone. PURE.
//!
//! Blocks of a zone are candidates in the order of the file, and the first whose view matches gets
//! the query; if none does, the next shorter zone is tried. Built once from the configuration:
//! views that test only the client's network form one sorted table, and all others are evaluated
//! one after the other. Only listeners with a view have this; the others know one block per zone.

mod calls;
mod closures;
mod items;
mod run;
mod terms;

use super::exchange::Client;
use super::message::query::{Asked, Query};
use super::message::rtype;
use super::zones::{LowercaseName, Zones};
use crate::config::view::Test;
use crate::config::{Name, Nets, View};
use ahash::RandomState;
use items::STEPS_MAX;
use run::{Run, Scratch};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Properties of a query that views can test.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// Client that asks.
    pub(crate) client: &'a Client,
    /// The query's id, flags and EDNS.
    pub(crate) asked: &'a Asked,
    /// QNAME in lower case.
    pub(crate) name: &'a LowercaseName,
    /// The type.
    pub(crate) rtype: u16,
    pub(crate) class: u16,
    /// The query's length.
    pub(crate) size: u16,
}

impl<'a> Facts<'a> {
    /// Facts of a query of `client` for `name`.
    pub(crate) fn of(client: &'a Client, query: &'a Query<'_>, name: &'a LowercaseName) -> Self {
        let Query { asked, question, .. } = query;
        let (rtype, class, size) = (question.rtype, question.class, query.size());
        Self { client, asked, name, rtype, class, size }
    }
}

/// A server block that may get the queries of a zone.
pub(crate) struct Candidate<'a> {
    pub(crate) zone: &'a Name,
    /// Queries that it is for; `None`: all.
    pub(crate) view: Option<&'a View>,
    /// True if none of its directives answers queries.
    pub(crate) refuses: bool,
}

/// The candidates of one listener.
pub(crate) struct Views {
    /// Number of its group for each zone.
    zones: Zones<u32>,
    /// True if all candidates are for the root, so that no zone is looked up.
    is_root_alone: bool,
    groups: Vec<Group>,
    /// Address of the listener.
    local: SocketAddr,
    scratch: RefCell<Scratch>,
    /// Steps of work that the query has left, which its candidates share.
    steps: Cell<usize>,
}

/// The candidates of one zone.
#[derive(Default)]
struct Group {
    /// Tests of each candidate, and its number among all.
    candidates: Vec<(Vec<Test>, u32)>,
    steps: Vec<Step>,
}

/// One step of the search for a query that is not for DS.
enum Step {
    /// Adjacent candidates that test only the client's network.
    Clients(Table),
    /// One candidate, by its index in the group.
    Candidate(u32),
}

impl Views {
    /// Builds the views of these candidates, numbered in their order; `local`: the configured
    /// address of the listener. `hasher` is keyed.
    pub(crate) fn new<'a>(
        candidates: impl Iterator<Item = Candidate<'a>>,
        local: SocketAddr,
        hasher: &RandomState,
    ) -> Self {
        let mut numbers: HashMap<&Name, u32> = HashMap::new();
        let mut zones = Vec::new();
        let mut groups: Vec<Group> = Vec::new();
        for (number, candidate) in candidates.enumerate() {
            let Candidate { zone, view, refuses } = candidate;
            let group = *numbers.entry(zone).or_insert_with(|| {
                zones.push((zone, groups.len() as u32));
                groups.push(Group::default());
                groups.len() as u32 - 1
            });
            // At the root, a block that answers nothing is skipped; elsewhere it refuses the query.
            if !refuses || *zone != Name::root() {
                let conditions = view.map_or(&[][..], |view| &view.conditions);
                let tests = conditions.iter().map(|condition| condition.test.clone()).collect();
                groups[group as usize].candidates.push((tests, number as u32));
            }
        }
        for group in &mut groups {
            group.steps = steps(&group.candidates);
        }
        let is_root_alone = matches!(zones[..], [(zone, _)] if *zone == Name::root());
        let zones = Zones::new(hasher.clone(), zones);
        let (scratch, steps) = (RefCell::default(), Cell::new(0));
        Self { zones, is_root_alone, groups, local, scratch, steps }
    }

    /// Returns the number of the candidate that gets a query; `None`: no candidate.
    #[inline]
    pub(crate) fn choose(&self, facts: &Facts<'_>) -> Option<usize> {
        self.steps.set(STEPS_MAX);
        if self.is_root_alone && facts.rtype != rtype::DS {
            return self.first(0, facts).map(|number| number as usize);
        }
        self.choose_by_zone(facts)
    }

    fn choose_by_zone(&self, facts: &Facts<'_>) -> Option<usize> {
        let chosen = if facts.rtype == rtype::DS {
            // DS belongs to the parent's side of a zone cut: the shortest zone except the root.
            let mut found = None;
            for (labels, group) in self.zones.matches(facts.name) {
                if labels > 0 || found.is_none() {
                    found = self.last(group, facts).or(found);
                }
            }
            found
        } else {
            self.zones.matches(facts.name).find_map(|(_, group)| self.first(group, facts))
        };
        chosen.map(|number| number as usize)
    }

    #[inline]
    fn first(&self, group: u32, facts: &Facts<'_>) -> Option<u32> {
        let Group { candidates, steps } = &self.groups[group as usize];
        for step in steps {
            let found = match step {
                Step::Clients(table) => table.find(facts.client.peer.ip().to_canonical()),
                Step::Candidate(place) => {
                    let (tests, number) = &candidates[*place as usize];
                    self.hold(tests, facts).then_some(*number)
                }
            };
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// As in the reference, the last matching candidate gets a query for DS.
    fn last(&self, group: u32, facts: &Facts<'_>) -> Option<u32> {
        let mut candidates = self.groups[group as usize].candidates.iter().rev();
        candidates.find(|(tests, _)| self.hold(tests, facts)).map(|(_, number)| *number)
    }

    fn hold(&self, tests: &[Test], facts: &Facts<'_>) -> bool {
        if tests.is_empty() {
            return true;
        }
        let mut scratch = self.scratch.borrow_mut();
        scratch.clear(self.steps.get());
        let mut run = Run { facts, local: self.local, scratch: &mut scratch };
        let holds = tests.iter().all(|test| run.test(test) == Some(true));
        self.steps.set(scratch.items.steps);
        holds
    }

    /// Returns the reserved memory in bytes, without texts and patterns.
    pub(crate) fn reserved(&self) -> usize {
        let groups = self.groups.iter().map(|group| {
            let tables = group.steps.iter().map(|step| match step {
                Step::Clients(table) => size_of_val(&*table.v4) + size_of_val(&*table.v6),
                Step::Candidate(_) => 0,
            });
            let candidates = size_of_val(&*group.candidates) + size_of_val(&*group.steps);
            candidates + tables.sum::<usize>()
        });
        self.zones.reserved() + groups.sum::<usize>() + size_of_val(&*self.groups)
    }
}

/// Steps of the search, up to a candidate that takes all queries.
fn steps(candidates: &[(Vec<Test>, u32)]) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut nets: Vec<(&Nets, u32)> = Vec::new();
    for (place, (tests, number)) in candidates.iter().enumerate() {
        if let [Test::ClientIn(own)] = &tests[..] {
            nets.push((own, *number));
            continue;
        }
        if !nets.is_empty() {
            steps.push(Step::Clients(Table::new(&std::mem::take(&mut nets))));
        }
        steps.push(Step::Candidate(place as u32));
        if tests.iter().all(|test| *test == Test::Always(true)) {
            return steps;
        }
    }
    if !nets.is_empty() {
        steps.push(Step::Clients(Table::new(&nets)));
    }
    steps
}

/// No candidate.
const NOBODY: u32 = u32::MAX;

/// First candidate for a client's address: the first address of each range, and its candidate.
/// Ranges are adjacent, and the first of them begins at zero.
struct Table {
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u32)>,
}

impl Table {
    /// Builds the table from networks and their candidates, in their order.
    fn new(nets: &[(&Nets, u32)]) -> Self {
        let v4 = ranges(nets, true).into_iter();
        Self {
            v4: v4.map(|(first, candidate)| (first as u32, candidate)).collect(),
            v6: ranges(nets, false),
        }
    }

    /// Returns the candidate for `address`, which is canonical.
    #[inline]
    fn find(&self, address: IpAddr) -> Option<u32> {
        let found = match address {
            IpAddr::V4(ip) => {
                let ip = u32::from(ip);
                self.v4[self.v4.partition_point(|(first, _)| *first <= ip) - 1].1
            }
            IpAddr::V6(ip) => {
                let ip = u128::from(ip);
                self.v6[self.v6.partition_point(|(first, _)| *first <= ip) - 1].1
            }
        };
        (found != NOBODY).then_some(found)
    }
}

/// Returns the ranges of one address family.
fn ranges(nets: &[(&Nets, u32)], is_ipv4: bool) -> Vec<(u128, u32)> {
    let bits = |address: IpAddr| match address {
        IpAddr::V4(ip) => u128::from(u32::from(ip)),
        IpAddr::V6(ip) => ip.into(),
    };
    let end = if is_ipv4 { u128::from(u32::MAX) } else { u128::MAX };
    let mut edges = BTreeSet::from([0]);
    let all = nets.iter().flat_map(|(nets, _)| nets.ranges());
    for (first, last) in all.filter(|(first, _)| first.is_ipv4() == is_ipv4) {
        edges.insert(bits(*first));
        edges.extend(bits(*last).checked_add(1).filter(|next| *next <= end));
    }
    let mut ranges: Vec<(u128, u32)> = Vec::with_capacity(edges.len());
    for edge in edges {
        let address: IpAddr = match is_ipv4 {
            true => Ipv4Addr::from(edge as u32).into(),
            false => Ipv6Addr::from(edge).into(),
        };
        let wanting = nets.iter().find(|(nets, _)| nets.contains(address));
        let candidate = wanting.map_or(NOBODY, |(_, candidate)| *candidate);
        if ranges.last().is_none_or(|(_, before)| *before != candidate) {
            ranges.push((edge, candidate));
        }
    }
    ranges
}

#[cfg(test)]
mod tests;
