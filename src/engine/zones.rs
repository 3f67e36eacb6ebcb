//! Map from domain names to values, found by the longest name at or above the QNAME.
//!
//! Routing a query to its server block and the check of `except` are the same lookup. Names are
//! compared in wire format and in lower case, so the bytes from a label's start on are an ancestor.
//! A lookup hashes no ancestor with more labels than the deepest name here: its cost depends on the
//! numbers of labels, not of names.

use super::memory::reserved_map;
use crate::config::Name;
use std::collections::HashMap;

/// A query's name in lower case.
#[derive(Clone, Copy)]
pub struct LowercaseName {
    bytes: [u8; 255],
    len: u8,
    /// Number of labels, without the root.
    count: u8,
}

impl LowercaseName {
    pub(crate) const ROOT: Self = Self { bytes: [0; 255], len: 1, count: 0 };

    /// Lower-cases a name that [`super::message::Question::parse`] accepted.
    pub fn new(name: &[u8]) -> Self {
        let mut folded = Self::ROOT;
        folded.fold(name);
        folded
    }

    /// Replaces the name by `name` in lower case.
    pub(crate) fn fold(&mut self, name: &[u8]) {
        let bytes = &mut self.bytes[..name.len()];
        bytes.copy_from_slice(name);
        bytes.make_ascii_lowercase();
        (self.len, self.count) = (name.len() as u8, label_count(bytes) as u8);
    }

    /// Returns the name in lower case.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Returns the ancestor with `labels` labels (at most as many as the name has); 0 is the root.
    fn ancestor(&self, labels: usize) -> &[u8] {
        let name = self.as_bytes();
        if labels == 0 {
            // The zone of most blocks and stanzas, without a walk.
            return &name[name.len() - 1..];
        }
        let above = usize::from(self.count) - labels;
        (0..above).fold(name, |rest, _| &rest[1 + usize::from(rest[0])..])
    }

    /// Returns the place in the name of its ancestor with `labels` labels, at most as many as the
    /// name has.
    pub(crate) fn ancestor_start(&self, labels: usize) -> usize {
        usize::from(self.len) - self.ancestor(labels).len()
    }

    /// Returns true if the name is at or below `ancestor`.
    pub(crate) fn is_within(&self, ancestor: &[u8]) -> bool {
        let labels = label_count(ancestor);
        labels <= usize::from(self.count) && self.ancestor(labels) == ancestor
    }
}

/// A map from names to values.
pub(crate) struct Zones<T> {
    values: HashMap<Box<[u8]>, T, ahash::RandomState>,
    labels_max: usize,
}

impl<T: Copy> Zones<T> {
    /// Builds the map of `entries`; the first of equal names counts. `hasher` is keyed, because
    /// strangers choose the names that are looked up.
    pub(crate) fn new<'a>(
        hasher: ahash::RandomState,
        entries: impl IntoIterator<Item = (&'a Name, T)>,
    ) -> Self {
        let mut zones = Self { values: HashMap::with_hasher(hasher), labels_max: 0 };
        for (name, value) in entries {
            let wire = name.as_wire();
            zones.labels_max = zones.labels_max.max(label_count(wire));
            zones.values.entry(wire.into()).or_insert(value);
        }
        zones
    }

    /// Returns the reserved memory in bytes.
    pub(crate) fn reserved(&self) -> usize {
        reserved_map(&self.values) + self.values.keys().map(|name| name.len()).sum::<usize>()
    }

    /// The values of the name and its ancestors with their numbers of labels, the longest first.
    pub(crate) fn matches<'a>(
        &'a self,
        name: &'a LowercaseName,
    ) -> impl Iterator<Item = (usize, T)> {
        let deepest = usize::from(name.count).min(self.labels_max);
        let mut rest = name.ancestor(deepest);
        (0..=deepest).rev().filter_map(move |labels| {
            let ancestor = rest;
            rest = rest.get(1 + usize::from(rest[0])..).unwrap_or_default();
            Some((labels, *self.values.get(ancestor)?))
        })
    }

    /// Returns the value of the longest name at or above `name`.
    #[inline(always)]
    pub(crate) fn longest(&self, name: &LowercaseName) -> Option<T> {
        self.matches(name).next().map(|(_, value)| value)
    }

    /// Returns the value of the longest such name; if that is `name` itself, that of
    /// [`Zones::topmost`].
    pub(crate) fn parents(&self, name: &LowercaseName) -> Option<T> {
        let (labels, value) = self.matches(name).next()?;
        if labels == usize::from(name.count) { self.topmost(name) } else { Some(value) }
    }

    /// Returns the value of the shortest such name except the root, otherwise the root's: the
    /// target of a DS query, which belongs to the parent's side of a zone cut.
    pub(crate) fn topmost(&self, name: &LowercaseName) -> Option<T> {
        let mut found = None;
        for (labels, value) in self.matches(name) {
            if labels > 0 || found.is_none() {
                found = Some(value);
            }
        }
        found
    }
}

fn label_count(wire: &[u8]) -> usize {
    let (mut place, mut count) = (0, 0);
    while wire[place] != 0 {
        place += 1 + usize::from(wire[place]);
        count += 1;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::{LowercaseName, Zones};
    use crate::config::Name;

    fn zones(names: &[&'static str]) -> Zones<&'static str> {
        let parsed: Vec<(Name, &str)> =
            names.iter().map(|text| (Name::parse(text).unwrap(), *text)).collect();
        let hasher = ahash::RandomState::with_seeds(1, 2, 3, 4);
        Zones::new(hasher, parsed.iter().map(|(name, text)| (name, *text)))
    }

    fn folded(text: &str) -> LowercaseName {
        let name = Name::parse(text).unwrap();
        LowercaseName::new(&name.as_wire().to_ascii_uppercase())
    }

    #[test]
    fn the_longest_zone_wins_and_siblings_do_not_match() {
        let zones = zones(&["org", "example.org", "."]);
        let find = |name| zones.longest(&folded(name)).unwrap();
        assert_eq!(find("www.example.org"), "example.org");
        assert_eq!(find("example.org"), "example.org");
        assert_eq!(find("xexample.org"), "org");
        assert_eq!(find("com"), ".");
        assert_eq!(find("."), ".");
    }

    #[test]
    fn without_a_zone_there_is_no_value() {
        let zones = zones(&["org", "a.example.org"]);
        assert_eq!(zones.longest(&folded("com")), None);
        assert_eq!(zones.longest(&folded(".")), None);
        assert_eq!(zones.topmost(&folded("com")), None);
    }

    #[test]
    fn ds_belongs_to_the_topmost_zone_but_the_root() {
        let zones = zones(&["org", "example.org", "a.example.org", "."]);
        let find = |name| zones.topmost(&folded(name)).unwrap();
        assert_eq!(find("a.example.org"), "org");
        assert_eq!(find("org"), "org");
        assert_eq!(find("com"), ".");
        assert_eq!(find("."), ".");
    }

    #[test]
    fn a_name_lies_within_itself_and_its_ancestors() {
        let name = folded("www.example.org");
        for (zone, within) in [
            ("www.example.org", true),
            ("example.org", true),
            (".", true),
            ("ww.example.org", false),
            ("a.www.example.org", false),
        ] {
            let zone = Name::parse(zone).unwrap();
            assert_eq!(name.is_within(zone.as_wire()), within, "{zone}");
        }
    }

    #[test]
    fn the_longest_name_has_127_labels() {
        let text = "a.".repeat(127);
        let name = folded(&text);
        assert_eq!(name.as_bytes().len(), 255);
        assert_eq!(zones(&["a.a"]).longest(&name), Some("a.a"));
    }
}
