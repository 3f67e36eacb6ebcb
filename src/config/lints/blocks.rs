//! Warnings about stanzas and server blocks that have no effect because of others.
//!
//! The search begins when all blocks are read and their listeners are known. Each list here may be
//! as long as a configuration, so no list is searched once for each entry of another.

use super::circles;
use crate::config::context::Notes;
use crate::config::draft::Draft;
use crate::config::forward::Stanza;
use crate::config::view::Test;
use crate::config::{Cache, Host, Listener, Name, View};
use crate::corefile::Place;
use std::collections::{HashMap, HashSet};

/// Warns of stanzas and server blocks that have no effect, and of forwarding loops.
pub(in super::super) fn warn(
    drafts: &[Draft],
    listeners: &[Listener],
    host: &Host,
    notes: &mut Notes,
) {
    of_shadows(drafts, listeners, notes);
    of_views(drafts, listeners, notes);
    circles::warn(drafts, listeners, &host.interfaces, notes);
    of_process("cookies", drafts, |own| (own.stages.cookies.as_ref(), &own.places.cookies), notes);
    of_process("late", drafts, |own| (own.stages.late.as_ref(), &own.places.late), notes);
    for draft in drafts {
        of_reach(draft, notes);
        of_hosts(draft, notes);
        of_clients(draft, notes);
        of_erratic(draft, notes);
        if let (Some(_), Some(place)) = (&draft.places.ratelimit, &draft.places.rrl) {
            notes.warn(place, "plugin/rrl: no effect: the server block has 'ratelimit'");
        }
        if let Some(place) = draft.places.metadata.as_ref().filter(|_| !draft.reads_labels) {
            let message = "plugin/metadata: no effect: nothing in this server block reads a label; \
                           leave it out";
            notes.warn(place, message);
        }
        let mut forwards = draft.forwards.iter().filter(|stanza| stanza.forward.grpc.is_none());
        if let Some(last) = forwards.next_back()
            && (!last.forward.next.is_empty() || last.forward.next_on_nodata)
        {
            let message = "plugin/forward: 'next' has no effect: this is the last forward of the \
                           server block that matches";
            notes.warn(&last.place, message);
        }
    }
}

/// Warns of server blocks whose settings of the whole process, in the directive `name`, differ from
/// those of the last one, which apply.
fn of_process<'a, T: PartialEq + 'a>(
    name: &str,
    drafts: &'a [Draft],
    settings: impl Fn(&'a Draft) -> (Option<&'a T>, &'a Option<Place>),
    notes: &mut Notes,
) {
    let last = drafts.iter().rev().find_map(|draft| settings(draft).0);
    for (own, place) in drafts.iter().map(settings) {
        if let Some(place) = place.as_ref().filter(|_| own != last) {
            let message = format!(
                "plugin/{name}: no effect: it applies to the whole process, and a later server \
                 block has other settings"
            );
            notes.warn(place, message);
        }
    }
}

/// Warns of blocks whose addresses are part of what an unbound block listens on: the kernel gives
/// each query to the nearest listener, and those of the bound address go to the block that binds
/// it.
fn of_shadows(drafts: &[Draft], listeners: &[Listener], notes: &mut Notes) {
    let ports = |listener: &&Listener| (listener.address.is_ipv4(), listener.address.port());
    let implied = listeners.iter().filter(|listener| listener.implied);
    let unbound: HashMap<_, _> = implied.map(|listener| (ports(&listener), listener)).collect();
    for listener in listeners.iter().filter(|listener| !listener.implied) {
        let (address, bound) = (listener.address, listener.zones.first());
        let unbound = unbound.get(&ports(&listener)).and_then(|unbound| unbound.zones.first());
        if let (Some((_, bound)), Some((_, unbound))) = (bound, unbound) {
            let [bound, unbound] = [bound, unbound].map(|block| &drafts[*block].keys[0].place);
            let message = format!(
                "plugin/bind: queries to {address} go to the server blocks that bind it, never to \
                 blocks without 'bind' such as {unbound}"
            );
            notes.warn(bound, message);
        }
    }
}

/// Warns of blocks that share a zone with one before them that takes all its queries.
fn of_views(drafts: &[Draft], listeners: &[Listener], notes: &mut Notes) {
    let mut told = HashSet::new();
    for listener in listeners {
        let mut takers: HashMap<&Name, usize> = HashMap::new();
        for (zone, block) in &listener.zones {
            let draft = &drafts[*block];
            let place = draft.places.view.as_ref().unwrap_or(&draft.keys[0].place);
            if let Some(taker) = takers.get(zone).filter(|_| told.insert((*block, zone))) {
                let taker = &drafts[*taker];
                let earlier = taker.places.view.as_ref().unwrap_or(&taker.keys[0].place);
                let message = format!(
                    "plugin/view: this server block gets no query for {zone}: the one at \
                     {earlier}, before it, takes them all"
                );
                notes.warn(place, message);
            }
            let view = draft.stages.view.as_ref();
            let takes_all = |view: &View| {
                view.conditions.iter().all(|condition| condition.test == Test::Always(true))
            };
            if view.is_none_or(takes_all) {
                takers.entry(zone).or_insert(*block);
            }
        }
    }
}

/// Warns of a cache in front of an upstream that learns the client.
fn of_clients(draft: &Draft, notes: &mut Notes) {
    let mut stanzas = draft.forwards.iter();
    if let Some(stanza) = stanzas.find(|stanza| stanza.forward.proxy_protocol)
        && draft.stages.cache.is_some()
    {
        let message = "plugin/forward: proxy_protocol: 'cache' gives the answer for one client to \
                       all others: leave it out if the upstream answers by client address";
        notes.warn(&stanza.place, message);
    }
}

/// Warns of stanzas that no query reaches.
fn of_reach(draft: &Draft, notes: &mut Notes) {
    let served: HashSet<&[u8]> = draft.keys.iter().map(|key| key.name.as_wire()).collect();
    let above: HashSet<&[u8]> = draft.keys.iter().flat_map(|key| key.name.ancestors()).collect();
    let meets = |zone: &Name| {
        above.contains(zone.as_wire()) || zone.ancestors().any(|name| served.contains(name))
    };
    if let (Some(cache), Some(place)) = (&draft.stages.cache, &draft.places.cache) {
        of_cache(cache, !draft.forwards.is_empty(), place, meets, notes);
    }
    // Blocks that take every query for their zone and hand none on.
    let mut takers: HashMap<&[u8], &Place> = HashMap::new();
    for Stanza { forward, place, .. } in &draft.forwards {
        let from = &forward.from;
        if !meets(from) {
            let message = format!(
                "plugin/{}: {from} is outside the zones of the server block: the stanza is never \
                 used",
                forward.plugin()
            );
            notes.warn(place, message);
        }
        if let Some(earlier) = from.ancestors().find_map(|zone| takers.get(zone)) {
            let message = format!(
                "plugin/{}: the stanza is never used: the one at {earlier} matches all its \
                 queries, put this one before it",
                forward.plugin()
            );
            notes.warn(place, message);
        }
        if forward.except.is_empty() && forward.next.is_empty() && !forward.next_on_nodata {
            takers.entry(from.as_wire()).or_insert(place);
        }
    }
}

/// Warns of a `hosts` that fails names that it does not know, which is rarely intended.
fn of_hosts(draft: &Draft, notes: &mut Notes) {
    let fails = draft.stages.hosts.as_ref().is_some_and(|hosts| hosts.fallthrough.is_none());
    if let (true, Some(place)) = (fails, &draft.places.hosts) {
        let message = "plugin/hosts: names that are not in the file get SERVFAIL and are not \
                       passed to the next directive: add 'fallthrough'";
        notes.warn(place, message);
    }
}

/// Warns of an `erratic` that no query reaches, because a directive before it answers them all.
fn of_erratic(draft: &Draft, notes: &mut Notes) {
    let Some(place) = &draft.places.erratic else { return };
    let within = |zone: &Name| draft.keys.iter().all(|key| key.name.is_within(zone));
    let has_all =
        |zones: &Option<Vec<Name>>| zones.as_ref().is_none_or(|zones| zones.iter().any(within));
    let forward = draft
        .forwards
        .iter()
        .find(|stanza| stanza.forward.except.is_empty() && within(&stanza.forward.from));
    let hosts = draft.stages.hosts.as_ref().filter(|hosts| hosts.fallthrough.is_none());
    let template = draft.stages.template.iter().find(|template| {
        template.rtype.is_none()
            && template.class.is_none_or(|class| class == 1)
            && (template.patterns.is_empty() || template.fallthrough.is_empty())
            && has_all(&template.zones)
    });
    let before = match (hosts, forward) {
        _ if template.is_some() => "'template'".to_owned(),
        (Some(hosts), _) if has_all(&hosts.zones) => "'hosts'".to_owned(),
        (_, Some(stanza)) => format!("the 'forward' at {}", stanza.place),
        _ => return,
    };
    let message = format!(
        "plugin/erratic: no effect: {before} answers all queries before it; leave erratic out, or \
         give it a server block of its own"
    );
    notes.warn(place, message);
}

/// Warns of parts of `cache` that have no effect.
fn of_cache(
    cache: &Cache,
    forwards: bool,
    place: &Place,
    meets: impl Fn(&Name) -> bool,
    notes: &mut Notes,
) {
    if !forwards {
        let message = "plugin/cache: no effect: the server block has no forward";
        notes.warn(place, message);
    }
    for zone in cache.zones.iter().filter(|zone| !meets(zone)) {
        let message =
            format!("plugin/cache: {zone} is outside the zones of the server block: no effect");
        notes.warn(place, message);
    }
    let disabled = cache.success.disabled.iter().chain(&cache.denial.disabled);
    for zone in disabled.filter(|zone| !meets(zone)) {
        let message = format!(
            "plugin/cache: disable {zone} has no effect: it is outside the zones of the server \
             block"
        );
        notes.warn(place, message);
    }
}
