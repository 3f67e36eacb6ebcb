//! Readiness, as `/ready` shows it. PURE.
//!
//! A stanza of a block with `ready` is ready when one of its upstreams is not down. Without
//! `monitor continuously` one that was ready when somebody asked stays so until there is another
//! configuration. Workers are always looked at, and nothing is ready that has been told to stop.

use crate::config::Config;
use crate::engine::health::HealthStates;
use std::collections::BTreeSet;
use std::ops::Range;

/// One stanza that is looked at.
struct Stanza {
    zone: String,
    /// Numbers of the upstreams.
    upstreams: Range<usize>,
    continuously: bool,
    /// The stanza was ready once.
    seen: bool,
}

/// State of the stanzas that are checked.
#[derive(Default)]
pub(super) struct Readiness {
    stanzas: Vec<Stanza>,
    /// List of what was not ready at the last request.
    told: String,
}

impl Readiness {
    /// From now on looks at what `config` says.
    pub(super) fn reload(&mut self, config: &Config) {
        self.stanzas.clear();
        let mut first = 0;
        for block in &config.blocks {
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
        if stopping {
            missing.insert("stopping".to_owned());
        }
        let missing = missing.into_iter().collect::<Vec<_>>().join(",");
        let is_news = missing != self.told;
        self.told = missing;
        (&self.told, is_news)
    }
}

#[cfg(test)]
mod tests {
    use super::Readiness;
    use crate::config::{Config, Host};
    use crate::engine::health::HealthStates;
    use std::iter::empty;

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
        assert_eq!(readiness.missing(&health_states, empty(), false), ("", false));
        health_states.set(2, true, true);
        assert_eq!(readiness.missing(&health_states, empty(), false), ("forward b.", true));
        assert_eq!(readiness.missing(&health_states, empty(), false), ("forward b.", false));
        health_states.set(2, false, true);
        assert_eq!(readiness.missing(&health_states, empty(), false), ("", true));
    }

    #[test]
    fn what_was_ready_once_is_not_asked_again_unless_continuously() {
        let (mut readiness, health_states) = readiness();
        (1..4).for_each(|upstream| health_states.set(upstream, true, true));
        assert_eq!(readiness.missing(&health_states, empty(), false).0, "forward .,forward b.");
        (1..4).for_each(|upstream| health_states.set(upstream, false, false));
        assert_eq!(readiness.missing(&health_states, empty(), false).0, "");
        (1..4).for_each(|upstream| health_states.set(upstream, true, true));
        assert_eq!(readiness.missing(&health_states, empty(), false).0, "forward b.");
        let (config, _) = Config::load(TEXT.as_bytes(), "f", &Host::plain()).unwrap();
        readiness.reload(&config);
        assert_eq!(readiness.missing(&health_states, empty(), false).0, "forward .,forward b.");
    }

    #[test]
    fn workers_that_do_not_turn_and_a_stop_are_told() {
        let (mut readiness, health_states) = readiness();
        let missing = readiness.missing(&health_states, [7, 3].into_iter(), true);
        assert_eq!(missing.0, "stopping,worker 3,worker 7");
    }
}
