//! Floods of queries for random names of one zone, while the table of outstanding queries is full.
//!
//! If a zone's servers are silent, each query for a new name of the zone occupies the table for
//! seconds, and some thousand queries per second fill it. A part of the table is a reserve. When
//! only the reserve is left, a sample of the outstanding queries shows whether a suffix of names
//! dominates: new queries below it get SERVFAIL, and all others use the reserve. As long as the
//! table is not full, nothing is counted for any query. A flood over many zones, each with less
//! than a quarter of the table, is found only if they have a suffix of two labels in common; then
//! all other names below that suffix are refused as well. Called by the steps of a query.

use crate::config::Name;
use crate::engine::exchange::{Exchanges, Opening};
use crate::engine::health::HealthStates;
use crate::engine::message::name::WireName;
use crate::engine::zones::LowercaseName;
use crate::moment::Moment;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::Rng;
use std::collections::HashMap;
use std::time::Duration;

/// Number of outstanding queries in a sample.
const SAMPLE: usize = 128;
/// Number of names of a sample that a dominating suffix has in common: a quarter.
const DOMINATING: usize = SAMPLE / 4;
/// The same for a suffix that dominated the last sample, because samples vary.
const STILL_DOMINATING: usize = SAMPLE / 8;
/// Maximum number of dominating suffixes.
const SUFFIXES_MAX: usize = 4;
/// Maximum number of labels of a suffix, which bounds the work for names of many labels.
const LABELS_MAX: usize = 8;
/// Time for which the result of a sample is used.
const VALID_FOR: Duration = Duration::from_millis(100);

/// The table of outstanding queries, randomness, and the counter of refused queries.
type Parts<'a> = (&'a mut Exchanges, &'a mut ChaCha12Rng, &'a mut u64);

type Suffixes = [Option<WireName>; SUFFIXES_MAX];

/// Suffixes that dominate the table of outstanding queries.
#[derive(Default)]
pub(super) struct Floods {
    suffixes: Suffixes,
    valid_until: Moment,
    /// Suffix to report to the operator.
    found: Option<Name>,
}

impl Floods {
    /// Opens an exchange. If only the reserve of the table is left, a `name` with a dominating
    /// suffix gets none, and is counted in `refused`.
    #[inline(always)]
    pub(super) fn open(
        &mut self,
        now: Moment,
        (name, opening): (&LowercaseName, &Opening<'_>),
        (exchanges, random, refused): Parts<'_>,
        health_states: &HealthStates,
    ) -> Option<u32> {
        let opened = exchanges.open(opening, now);
        opened.or_else(|| {
            self.open_reserved(now, (name, opening), (exchanges, random, refused), health_states)
        })
    }

    #[cold]
    fn open_reserved(
        &mut self,
        now: Moment,
        (name, opening): (&LowercaseName, &Opening<'_>),
        (exchanges, random, refused): Parts<'_>,
        health_states: &HealthStates,
    ) -> Option<u32> {
        if self.valid_until <= now {
            self.valid_until = now.plus(VALID_FOR);
            self.suffixes = dominating(&sample(exchanges, random), &self.suffixes);
        }
        let dominates = |suffix: &&WireName| is_within(name.as_bytes(), suffix.as_bytes());
        if let Some(suffix) = self.suffixes.iter().flatten().find(dominates) {
            *refused += 1;
            if health_states.note_flood(now) {
                self.found = Some(Name::of_wire(suffix.as_bytes()));
            }
            return None;
        }
        exchanges.open_reserved(opening, now)
    }

    /// Returns the suffix to report to the operator.
    pub(super) fn next_found(&mut self) -> Option<Name> {
        self.found.take()
    }

    /// Takes back a report that could not be delivered.
    pub(super) fn put_back(&mut self, suffix: Name) {
        self.found = Some(suffix);
    }
}

/// Returns the names of outstanding queries that were drawn by chance, in lower case.
fn sample(exchanges: &Exchanges, random: &mut ChaCha12Rng) -> Vec<LowercaseName> {
    let draw = |_| exchanges.name_near(random.next_u32()).map(LowercaseName::new);
    (0..SAMPLE).filter_map(draw).collect()
}

/// Returns the suffixes that dominate a sample, each the longest. `before`: those of the last
/// sample.
fn dominating(names: &[LowercaseName], before: &Suffixes) -> Suffixes {
    let mut left: Vec<&[u8]> = names.iter().map(LowercaseName::as_bytes).collect();
    let mut found = [None; SUFFIXES_MAX];
    for place in &mut found {
        let mut counts = HashMap::<&[u8], usize>::new();
        for suffix in left.iter().flat_map(|name| suffixes(name)) {
            *counts.entry(suffix).or_default() += 1;
        }
        let is_known =
            |suffix: &[u8]| before.iter().flatten().any(|known| known.as_bytes() == suffix);
        counts.retain(|suffix, count| {
            let least = if is_known(suffix) { STILL_DOMINATING } else { DOMINATING };
            *count >= least
        });
        // Of two with as many labels, the order of their bytes decides.
        let Some(longest) = counts.into_keys().max_by_key(|suffix| (label_count(suffix), *suffix))
        else {
            break;
        };
        *place = Some(WireName::new(longest));
        left.retain(|name| !is_within(name, longest));
    }
    found
}

/// Returns the suffixes of `name` that may dominate, the longest first: of two labels or more, or
/// three in the tree of reverse zones, because names with less have nothing in common.
fn suffixes(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    let count = label_count(name);
    let least = if name.ends_with(b"\x04arpa\0") { 3 } else { 2 };
    let mut rest = Some(name);
    let all = std::iter::from_fn(move || {
        let suffix = rest?;
        rest = suffix.get(1 + usize::from(*suffix.first()?)..);
        Some(suffix)
    });
    let above = count.saturating_sub(LABELS_MAX);
    all.take((count + 1).saturating_sub(least)).skip(above)
}

/// Returns the number of labels of `name`, without the root.
fn label_count(name: &[u8]) -> usize {
    let mut count = 0;
    let mut rest = name;
    while let Some((length @ 1.., behind)) = rest.split_first() {
        count += 1;
        rest = behind.get(usize::from(*length)..).unwrap_or_default();
    }
    count
}

/// Returns true if `name` is `suffix` or below it; both are in lower case.
fn is_within(name: &[u8], suffix: &[u8]) -> bool {
    let mut rest = name;
    while rest.len() > suffix.len() {
        let length = usize::from(rest[0]);
        rest = rest.get(1 + length..).unwrap_or_default();
    }
    rest == suffix
}

#[cfg(test)]
mod tests {
    use super::{SAMPLE, STILL_DOMINATING, Suffixes, dominating, is_within, label_count, suffixes};
    use crate::engine::message::name::WireName;
    use crate::engine::zones::LowercaseName;

    fn wire(name: &str) -> Vec<u8> {
        let labels = name.split('.').filter(|label| !label.is_empty());
        let label = |label: &str| [&[label.len() as u8], label.as_bytes()].concat();
        let mut bytes = labels.flat_map(label).collect::<Vec<_>>();
        bytes.push(0);
        bytes
    }

    /// The suffixes that dominate names of these forms, each with its percentage of the sample.
    fn of(forms: &[(usize, &str)], before: &Suffixes) -> Vec<Vec<u8>> {
        let mut names = Vec::new();
        for (percent, form) in forms {
            let name = |number| LowercaseName::new(&wire(&format!("r{number}.{form}")));
            names.extend((0..percent * SAMPLE / 100).map(name));
        }
        let found = dominating(&names, before);
        let mut found: Vec<_> =
            found.iter().flatten().map(|suffix| suffix.as_bytes().to_vec()).collect();
        found.sort();
        found
    }

    fn new(forms: &[(usize, &str)]) -> Vec<Vec<u8>> {
        of(forms, &Suffixes::default())
    }

    const NONE: [Vec<u8>; 0] = [];

    #[test]
    fn the_longest_suffix_that_a_quarter_has_dominates() {
        assert_eq!(new(&[(90, "Victim.co.uk"), (10, "other.co.uk")]), [wire("victim.co.uk")]);
        assert_eq!(new(&[(25, "a.example"), (75, "test")]), [wire("a.example")]);
        assert_eq!(new(&[(24, "a.example"), (76, "test")]), NONE);
        assert_eq!(new(&[(50, "x.victim.example"), (50, "y.victim.example")]).len(), 2);
    }

    #[test]
    fn a_suffix_that_dominated_the_last_sample_needs_an_eighth() {
        let before = [Some(WireName::new(&wire("a.example"))), None, None, None];
        let some = 100 * STILL_DOMINATING / SAMPLE + 1;
        assert_eq!(of(&[(some, "a.example"), (80, "test")], &before), [wire("a.example")]);
        assert_eq!(of(&[(some - 2, "a.example"), (80, "test")], &before), NONE);
    }

    #[test]
    fn a_top_level_domain_the_root_and_the_reverse_trees_do_not_dominate() {
        for form in ["com", "", "in-addr.arpa", "ip6.arpa"] {
            assert_eq!(new(&[(100, form)]), NONE, "{form}");
        }
        assert_eq!(new(&[(100, "10.in-addr.arpa")]), [wire("10.in-addr.arpa")]);
    }

    #[test]
    fn one_name_with_many_types_dominates() {
        let name = LowercaseName::new(&wire("victim.example"));
        let names: Vec<_> = (0..SAMPLE).map(|_| LowercaseName::new(name.as_bytes())).collect();
        let found = dominating(&names, &Suffixes::default());
        assert!(found[0].is_some_and(|found| found.as_bytes() == wire("victim.example")));
    }

    #[test]
    fn several_zones_dominate_together() {
        let forms = [(35, "a.example"), (30, "b.example"), (26, "c.test"), (9, "d.test")];
        assert_eq!(new(&forms), [wire("a.example"), wire("b.example"), wire("c.test")]);
    }

    #[test]
    fn names_of_many_labels_have_few_suffixes() {
        let name = wire(&"a.".repeat(126));
        let all: Vec<_> = suffixes(&name).collect();
        assert_eq!((all.len(), label_count(all[0]), label_count(all[6])), (7, 8, 2));
        assert_eq!(suffixes(&wire("a.b")).collect::<Vec<_>>(), [wire("a.b")]);
        assert_eq!((suffixes(&wire("a")).count(), suffixes(&[0]).count()), (0, 0));
    }

    #[test]
    fn a_name_is_within_a_suffix_at_a_label_boundary() {
        let suffix = wire("b.example");
        for name in ["b.example", "a.b.example", "x.a.b.example"] {
            assert!(is_within(&wire(name), &suffix), "{name}");
        }
        for name in ["ab.example", "example", "b.example.test"] {
            assert!(!is_within(&wire(name), &suffix), "{name}");
        }
        assert_eq!([label_count(&suffix), label_count(&[0])], [2, 0]);
    }
}
