//! Canonical order (RFC 4034 §6.1), and the NSEC record that covers a name.
//!
//! Names are without their apex and in lower case, as nodes have them.

use super::{Node, Zone};
use std::cmp::Ordering;

/// Maximum number of labels of a name.
pub(super) const LABELS_MAX: usize = 128;

/// Offsets of the labels in a name without its root, or without the apex.
pub(super) struct Labels {
    starts: [u8; LABELS_MAX],
    count: usize,
}

impl Labels {
    pub(super) fn of(name: &[u8]) -> Self {
        let mut labels = Self { starts: [0; LABELS_MAX], count: 0 };
        let mut place = 0;
        while place < name.len() && labels.count < LABELS_MAX {
            labels.starts[labels.count] = place as u8;
            labels.count += 1;
            place += 1 + usize::from(name[place]);
        }
        labels
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Returns the start of the label with this number, or the end of the name behind the last one.
    pub(super) fn start(&self, number: usize, name: &[u8]) -> usize {
        if number < self.count { self.starts[number].into() } else { name.len() }
    }
}

/// Compares two names without their apex, in lower case, in canonical order.
fn compare(one: &[u8], other: &[u8]) -> Ordering {
    let (ones, others) = (Labels::of(one), Labels::of(other));
    let label = |name: &[u8], labels: &Labels, number: usize| {
        let start = labels.start(labels.count - number, name);
        let end = labels.start(labels.count - number + 1, name);
        (start + 1, end)
    };
    for number in 1..=ones.count.min(others.count) {
        let (start, end) = label(one, &ones, number);
        let (other_start, other_end) = label(other, &others, number);
        match one[start..end].cmp(&other[other_start..other_end]) {
            Ordering::Equal => {}
            order => return order,
        }
    }
    ones.count.cmp(&others.count)
}

impl Zone {
    /// Returns true if the zone has NSEC records.
    pub(super) fn is_signed(&self) -> bool {
        !self.chain.is_empty()
    }

    /// Returns the node whose NSEC record matches or covers `name`, which is without the apex and
    /// in lower case.
    pub(super) fn covering(&self, name: &[u8]) -> Option<Node<'_>> {
        let is_before =
            |place: &u32| compare(self.node_at(*place as usize).name(), name) != Ordering::Greater;
        let behind = self.chain.partition_point(is_before);
        let place = self.chain.get(behind.checked_sub(1)?)?;
        Some(self.node_at(*place as usize))
    }
}

#[cfg(test)]
mod tests {
    use super::compare;
    use std::cmp::Ordering;

    #[test]
    fn names_are_in_canonical_order() {
        // RFC 4034 §6.1, without the apex.
        let names: [&[u8]; 8] = [
            b"",
            b"\x01a",
            b"\x08yljkjljk\x01a",
            b"\x01z\x01a",
            b"\x04zabc\x01a",
            b"\x01z",
            b"\x01\x01\x01z",
            b"\x01*\x01z",
        ];
        for (place, one) in names.iter().enumerate() {
            for (other_place, other) in names.iter().enumerate() {
                assert_eq!(compare(one, other), place.cmp(&other_place), "{one:?} {other:?}");
            }
        }
        assert_eq!(compare(b"\x02ab", b"\x01b"), Ordering::Less);
    }
}
