//! Readiness, as `/ready` shows it. PURE.
//!
//! A `forward` block of a server block with `ready` is ready when one of its upstreams is not down.
//! Without `monitor continuously` it stays ready once a request has found it so, until the next
//! configuration. The zones of such a server block are ready when each has been loaded once and
//! none has expired.
//! Workers are always checked, and nothing is ready after an order to stop.

use crate::config::{Config, OwnZones};
use crate::control::Loads;
use crate::engine::health::HealthStates;
use std::collections::{BTreeSet, HashSet};
use std::ops::Range;

/// One `forward` block that is checked.
struct Stanza {
    zone: String,
    upstreams: Range<usize>,
    continuously: bool,
    /// The block was ready once.
    seen: bool,
}

/// State of the checked blocks.
#[derive(Default)]
pub(super) struct Readiness {
    stanzas: Vec<Stanza>,
    /// Zones; true if all have been loaded once.
    zones: Vec<(OwnZones, bool)>,
    /// List of the parts that were not ready at the last request.
    told: String,
}

impl Readiness {
    /// Switches to the checks of `config`.
    pub(super) fn reload(&mut self, config: &Config) {
        self.stanzas.clear();
        self.zones.clear();
        let mut first = 0;
        for block in &config.blocks {
            if block.stages.ready.is_some() {
                self.zones.extend(block.own_zones.clone().map(|zones| (zones, false)));
            }
            for forward in &block.forwards {
                let upstreams = first..first + forward.upstreams.len();
                first = upstreams.end;
                let Some(ready) = &block.stages.ready else { continue };
                let (zone, continuously) = (forward.from.to_string(), ready.continuously);
                self.stanzas.push(Stanza { zone, upstreams, continuously, seen: false });
            }
        }
    }

    /// Returns the list of missing parts, in order and separated by commas, and whether it has
    /// changed. Empty: all is ready. `silent` are the workers that do not respond.
    pub(super) fn missing(
        &mut self,
        health_states: &HealthStates,
        loads: &Loads,
        silent: impl Iterator<Item = usize>,
        stopping: bool,
    ) -> (&str, bool) {
        let mut missing: BTreeSet<String> =
            silent.map(|worker| format!("worker {worker}")).collect();
        for stanza in &mut self.stanzas {
            let is_known = stanza.seen && !stanza.continuously;
            if is_known || stanza.upstreams.clone().any(|upstream| !health_states.is_down(upstream))
            {
                stanza.seen = true;
            } else {
                missing.insert(format!("forward {}", stanza.zone));
            }
        }
        for (zones, seen) in &mut self.zones {
            if !*seen {
                let unloaded = unloaded(zones, loads);
                *seen = unloaded.is_empty();
                missing.extend(unloaded);
            }
            if !zones.source.transferred.is_empty() {
                missing.extend(expired(zones, loads));
            }
        }
        if stopping {
            missing.insert("stopping".to_owned());
        }
        let missing = missing.into_iter().collect::<Vec<_>>().join(",");
        let is_news = missing != self.told;
        self.told = missing;
        (&self.told, is_news)
    }
}

/// Returns the parts of `zones` that have not been loaded yet. Files of a directory need not be
/// zones, so they do not count.
fn unloaded(zones: &OwnZones, loads: &Loads) -> Vec<String> {
    let (states, directory) = loads.of_zones(zones.slot);
    let loaded: HashSet<_> =
        states.iter().filter(|state| state.serial.is_some()).map(|state| &*state.zone).collect();
    let transferred = zones.source.transferred.iter().map(|transferred| &transferred.zone);
    let names = zones.source.files.iter().map(|file| &file.zone).chain(transferred);
    let names = names.map(ToString::to_string);
    let missing = names.filter(|name| !loaded.contains(&**name)).map(|name| format!("zone {name}"));
    let source = zones.source.directory.as_ref();
    let searched = directory.is_some_and(|directory| directory.done > 0);
    let directory = source.filter(|_| !searched);
    missing.chain(directory.map(|found| format!("auto {}", found.directory.label))).collect()
}

/// Returns the zones that have expired.
fn expired(zones: &OwnZones, loads: &Loads) -> impl Iterator<Item = String> {
    let (states, _) = loads.of_zones(zones.slot);
    let expired = states.into_iter().filter(|state| state.is_expired);
    expired.map(|state| format!("zone {}", state.zone))
}

#[cfg(test)]
mod tests {
    use super::Readiness;
    use crate::config::{Config, Host};
    use crate::control::{DirectoryState, Loads, ZoneLoads, ZoneState};
    use crate::engine::health::HealthStates;
    use std::iter::empty;
    use std::sync::Arc;

    /// Upstream 0 belongs to no block; of `b` are 1 and 2, continuously, and of `c` 3 is.
    const TEXT: &str = "a {\n forward . ::1\n}\n\
                        b {\n ready {\n monitor continuously\n}\n forward b ::1 ::2\n}\n\
                        c {\n ready\n forward . ::3\n}\n";

    fn readiness() -> (Readiness, HealthStates) {
        let (config, _) = Config::load(TEXT.as_bytes(), "f", &Host::plain()).unwrap();
        let mut readiness = Readiness::default();
        readiness.reload(&config);
        (readiness, HealthStates::new(&config))
    }

    #[test]
    fn a_stanza_is_ready_while_one_of_its_upstreams_is() {
        let (mut readiness, health_states) = readiness();
        health_states.set(0, true, true);
        health_states.set(1, true, true);
        assert_eq!(
            readiness.missing(&health_states, &Loads::default(), empty(), false),
            ("", false)
        );
        health_states.set(2, true, true);
        assert_eq!(
            readiness.missing(&health_states, &Loads::default(), empty(), false),
            ("forward b.", true)
        );
        assert_eq!(
            readiness.missing(&health_states, &Loads::default(), empty(), false),
            ("forward b.", false)
        );
        health_states.set(2, false, true);
        assert_eq!(
            readiness.missing(&health_states, &Loads::default(), empty(), false),
            ("", true)
        );
    }

    #[test]
    fn a_ready_stanza_stays_ready_unless_continuously_monitored() {
        let (mut readiness, health_states) = readiness();
        (1..4).for_each(|upstream| health_states.set(upstream, true, true));
        assert_eq!(
            readiness.missing(&health_states, &Loads::default(), empty(), false).0,
            "forward .,forward b."
        );
        (1..4).for_each(|upstream| health_states.set(upstream, false, false));
        assert_eq!(readiness.missing(&health_states, &Loads::default(), empty(), false).0, "");
        (1..4).for_each(|upstream| health_states.set(upstream, true, true));
        assert_eq!(
            readiness.missing(&health_states, &Loads::default(), empty(), false).0,
            "forward b."
        );
        let (config, _) = Config::load(TEXT.as_bytes(), "f", &Host::plain()).unwrap();
        readiness.reload(&config);
        assert_eq!(
            readiness.missing(&health_states, &Loads::default(), empty(), false).0,
            "forward .,forward b."
        );
    }

    #[test]
    fn zones_are_ready_when_each_has_been_loaded_once() {
        let text = "a {\n file f\n}\n\
                    b {\n ready\n file f b c\n auto {\n directory d\n}\n}\n";
        let (config, _) = Config::load(text.as_bytes(), "f", &Host::plain()).unwrap();
        let mut readiness = Readiness::default();
        readiness.reload(&config);
        let (health_states, loads) = (HealthStates::new(&config), Loads::default());
        let mut missing =
            |loads| readiness.missing(&health_states, loads, empty(), false).0.to_owned();
        assert_eq!(missing(&loads), "auto d,zone b.,zone c.");
        let own: [Arc<ZoneLoads>; 2] = Default::default();
        loads.reload(Vec::new(), own.to_vec());
        let state =
            |zone: &str, serial| ZoneState { zone: zone.into(), serial, ..ZoneState::default() };
        let broken = state("x.b.", None);
        own[1].set(vec![state("b.", Some(1)), state("c.", None), broken.clone()], None);
        assert_eq!(missing(&loads), "auto d,zone c.");
        let directory = DirectoryState { done: 1, ..DirectoryState::default() };
        own[1].set(vec![state("b.", Some(1)), state("c.", Some(1)), broken], Some(directory));
        assert_eq!(missing(&loads), "");
        own[1].set(Vec::new(), None);
        assert_eq!(missing(&loads), "", "once is enough");
    }

    #[test]
    fn a_zone_that_has_expired_is_not_ready_until_it_is_served_again() {
        let text = "a {\n ready\n secondary {\n transfer from ::1\n directory d\n}\n}\n";
        let (config, _) = Config::load(text.as_bytes(), "f", &Host::plain()).unwrap();
        let mut readiness = Readiness::default();
        readiness.reload(&config);
        let (health_states, loads) = (HealthStates::new(&config), Loads::default());
        let own = Arc::<ZoneLoads>::default();
        loads.reload(Vec::new(), vec![Arc::clone(&own)]);
        for (serial, is_expired, expected) in [
            (None, false, "zone a."),
            (Some(1), true, "zone a."),
            (Some(1), false, ""),
            (Some(1), true, "zone a."),
            (Some(2), false, ""),
        ] {
            let state = ZoneState { zone: "a.".into(), serial, is_expired, ..ZoneState::default() };
            own.set(vec![state], None);
            let missing = readiness.missing(&health_states, &loads, empty(), false).0;
            assert_eq!(missing, expected, "{serial:?} {is_expired}");
        }
    }

    #[test]
    fn hanging_workers_and_a_stop_are_reported() {
        let (mut readiness, health_states) = readiness();
        let missing =
            readiness.missing(&health_states, &Loads::default(), [7, 3].into_iter(), true);
        assert_eq!(missing.0, "stopping,worker 3,worker 7");
    }
}
