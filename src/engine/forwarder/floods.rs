//! Floods of queries for random names of one zone, while the table of outstanding queries is full.
//!
//! If a zone's servers are silent, each query for a new name of the zone occupies the table for
//! seconds, and some thousand queries per second fill it. A part of the table is a reserve. When
//! only the reserve is left, a sample of the outstanding queries shows whether a suffix of names
//! dominates: new names below it get SERVFAIL, and all other queries use the reserve. As long as
//! the table is not full, nothing is counted for any query. Called by the steps of a query.

use crate::config::Name;
use crate::engine::exchange::{Exchanges, Opening};
use crate::engine::health::HealthStates;
use crate::engine::message::NAME_LEN_MAX;
use crate::engine::message::name::WireName;
use crate::engine::zones::LowercaseName;
use crate::moment::Moment;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::Rng;
use std::time::Duration;

/// Number of outstanding queries in a sample.
const SAMPLE: usize = 32;
/// Number of names of a sample that a dominating suffix has in common: a quarter.
const DOMINATING: usize = SAMPLE / 4;
/// Maximum number of dominating suffixes: three quarters of a sample.
const SUFFIXES_MAX: usize = 3;
/// Time for which the result of a sample is used: a sample takes some 10 µs.
const VALID_FOR: Duration = Duration::from_millis(100);

/// Suffixes that dominate the table of outstanding queries.
pub(super) struct Floods {
    suffixes: [Option<WireName>; SUFFIXES_MAX],
    valid_until: Moment,
    /// Suffix to report to the operator.
    found: Option<Name>,
}

impl Default for Floods {
    fn default() -> Self {
        Self { suffixes: [None; SUFFIXES_MAX], valid_until: Moment::ZERO, found: None }
    }
}

impl Floods {
    /// Opens an exchange in the reserve of the table, unless `name` has a dominating suffix: then
    /// it is counted in `refused`.
    #[cold]
    pub(super) fn open_reserved(
        &mut self,
        now: Moment,
        (name, opening): (&LowercaseName, &Opening<'_>),
        (exchanges, random, refused): (&mut Exchanges, &mut ChaCha12Rng, &mut u64),
        health_states: &HealthStates,
    ) -> Option<u32> {
        if self.valid_until <= now {
            self.valid_until = now.plus(VALID_FOR);
            self.suffixes = dominating(&sample(exchanges, random));
        }
        let dominates = |suffix: &&WireName| is_below(name.as_bytes(), suffix.as_bytes());
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

/// Returns the suffixes that dominate a sample, each the longest. A suffix has two labels or more,
/// because names of a top-level domain have nothing in common.
fn dominating(names: &[LowercaseName]) -> [Option<WireName>; SUFFIXES_MAX] {
    let mut left: Vec<&[u8]> = names.iter().map(LowercaseName::as_bytes).collect();
    let mut found = [None; SUFFIXES_MAX];
    for place in &mut found {
        let of_all = left.iter().flat_map(|name| parents(name));
        let dominates = |suffix: &&[u8]| {
            left.iter().filter(|name| is_below(name, suffix)).count() >= DOMINATING
        };
        let Some(longest) = of_all.filter(dominates).max_by_key(|suffix| label_count(suffix))
        else {
            break;
        };
        *place = Some(WireName::new(longest));
        left.retain(|name| !is_below(name, longest));
    }
    found
}

/// Returns the names above `name` that have two labels or more.
fn parents(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = name;
    std::iter::from_fn(move || {
        rest = rest.get(1 + usize::from(*rest.first()?)..)?;
        Some(rest)
    })
    .take(NAME_LEN_MAX / 2)
    .filter(|parent| label_count(parent) >= 2)
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

/// Returns true if `name` is below `suffix`; both are in lower case.
fn is_below(name: &[u8], suffix: &[u8]) -> bool {
    let mut rest = name;
    while rest.len() > suffix.len() {
        let length = usize::from(rest[0]);
        rest = rest.get(1 + length..).unwrap_or_default();
        if rest == suffix {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::{SAMPLE, dominating, is_below, label_count};
    use crate::engine::zones::LowercaseName;

    fn wire(name: &str) -> Vec<u8> {
        let labels = name.split('.').filter(|label| !label.is_empty());
        let label = |label: &str| [&[label.len() as u8], label.as_bytes()].concat();
        let mut bytes = labels.flat_map(label).collect::<Vec<_>>();
        bytes.push(0);
        bytes
    }

    /// The suffixes that dominate names of these forms, so many of each.
    fn of(forms: &[(usize, &str)]) -> Vec<Vec<u8>> {
        let mut names = Vec::new();
        for (count, form) in forms {
            let name = |number| LowercaseName::new(&wire(&format!("r{number}.{form}")));
            names.extend((0..*count).map(name));
        }
        assert_eq!(names.len(), SAMPLE);
        dominating(&names).iter().flatten().map(|suffix| suffix.as_bytes().to_vec()).collect()
    }

    #[test]
    fn the_longest_suffix_that_a_quarter_has_dominates() {
        assert_eq!(of(&[(30, "Victim.co.uk"), (2, "other.co.uk")]), [wire("victim.co.uk")]);
        assert_eq!(of(&[(8, "a.example"), (24, "test")]), [wire("a.example")]);
        assert_eq!(of(&[(7, "a.example"), (25, "test")]), [] as [Vec<u8>; 0]);
        let half = (16, "x.victim.example");
        assert_eq!(of(&[half, (16, "y.victim.example")]).len(), 2);
    }

    #[test]
    fn a_top_level_domain_and_the_root_do_not_dominate() {
        assert_eq!(of(&[(32, "com")]), [] as [Vec<u8>; 0]);
        assert_eq!(of(&[(32, "")]), [] as [Vec<u8>; 0]);
    }

    #[test]
    fn several_zones_dominate_together() {
        let found = of(&[(12, "a.example"), (10, "b.example"), (8, "c.test"), (2, "d.test")]);
        let mut found = found;
        found.sort();
        assert_eq!(found, [wire("a.example"), wire("b.example"), wire("c.test")]);
    }

    #[test]
    fn a_name_is_below_a_suffix_at_a_label_boundary() {
        let suffix = wire("b.example");
        assert!(is_below(&wire("a.b.example"), &suffix));
        assert!(is_below(&wire("x.a.b.example"), &suffix));
        assert!(!is_below(&suffix, &suffix), "it is the suffix itself");
        assert!(!is_below(&wire("ab.example"), &suffix));
        assert!(!is_below(&wire("example"), &suffix));
        assert_eq!([label_count(&suffix), label_count(&[0])], [2, 0]);
    }
}
