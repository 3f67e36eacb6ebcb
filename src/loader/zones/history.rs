//! Differences of the last versions of zones, for incremental transfers (RFC 1995).
//!
//! When a version of a zone that clients may transfer replaces another, and its serial is newer,
//! the difference is computed and kept: [`DIFFERENCES_MAX`] for a zone, of [`ZONE_BYTES_MAX`] bytes
//! together and no more than the zone itself takes, because a client gets the whole zone if that is
//! smaller; the oldest go first. All zones of a server block together keep [`BLOCK_BYTES_MAX`]
//! bytes. A zone whose contents change without a newer serial loses its differences, and so does
//! each zone with a new configuration. No difference begins with a serial that is not newer than
//! each one that was replaced in this way, because two versions may have had it.

use crate::config::Name;
use crate::control::ZoneState;
use crate::engine::authority::Zone;
use crate::engine::authority::difference::{Difference, Differences};
use crate::engine::authority::table::ZoneEntry;
use crate::loader::secondary::is_newer;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

/// Maximum number of differences of a zone.
const DIFFERENCES_MAX: usize = 16;
/// Maximum memory of the differences of a zone.
const ZONE_BYTES_MAX: usize = 16 << 20;
/// Maximum memory of the differences of all zones of a server block.
const BLOCK_BYTES_MAX: usize = 64 << 20;

/// The differences of the zones of a server block.
pub(super) struct Histories {
    /// Zones at or below these may be transferred.
    offered: Vec<Name>,
    by_name: HashMap<Name, History>,
    /// Memory of all of them.
    bytes: usize,
    bytes_max: usize,
}

/// The differences of a zone.
struct History {
    /// The current version.
    zone: Arc<Zone>,
    /// Newest serial that was replaced by one that is not newer. Versions up to it may have been
    /// others with the same serial: no difference can begin with them.
    barrier: Option<u32>,
    kept: VecDeque<Arc<Difference>>,
    bytes: usize,
    /// The same, as tables have them.
    shared: Differences,
}

impl Histories {
    /// Without any. Zones at or below `offered` may be transferred by clients.
    pub(super) fn new(offered: &[Name]) -> Self {
        let (by_name, bytes, bytes_max) = (HashMap::new(), 0, BLOCK_BYTES_MAX);
        Self { offered: offered.to_vec(), by_name, bytes, bytes_max }
    }

    /// Notes the versions that a new table will have, and adds their differences to its entries.
    pub(super) fn note(&mut self, entries: &mut [ZoneEntry]) {
        if self.offered.is_empty() {
            return;
        }
        let mut present = HashSet::new();
        // Of equal names the last counts.
        for entry in entries.iter_mut().rev() {
            let is_offered = self.offered.iter().any(|above| entry.name.is_within(above));
            if !is_offered || !present.insert(entry.name.clone()) {
                continue;
            }
            // A zone that has expired comes back with the version that it had.
            let Some(zone) = &entry.zone else { continue };
            let history = self.by_name.entry(entry.name.clone());
            let history = history.or_insert_with(|| History::new(Arc::clone(zone)));
            if !Arc::ptr_eq(&history.zone, zone) {
                let before = history.bytes;
                let others = self.bytes - before;
                history.advance(zone, self.bytes_max.saturating_sub(others));
                self.bytes = others + history.bytes;
            }
            entry.differences = Arc::clone(&history.shared);
        }
        let bytes = &mut self.bytes;
        self.by_name.retain(|name, history| {
            let is_present = present.contains(name);
            *bytes -= if is_present { 0 } else { history.bytes };
            is_present
        });
        debug_assert_eq!(self.bytes, self.by_name.values().map(|own| own.bytes).sum::<usize>());
    }

    /// Adds the memory of the differences to the states of their zones.
    pub(super) fn tell(&self, states: &mut [ZoneState]) {
        let held = self.by_name.iter().filter(|(_, history)| history.bytes > 0);
        let held: HashMap<String, usize> =
            held.map(|(name, history)| (name.to_string(), history.bytes)).collect();
        for state in states.iter_mut().filter(|_| !held.is_empty()) {
            state.differences = held.get(&state.zone).map_or(0, |bytes| *bytes as u64);
        }
    }
}

impl History {
    fn new(zone: Arc<Zone>) -> Self {
        let (kept, shared) = (VecDeque::new(), Arc::default());
        Self { zone, barrier: None, kept, bytes: 0, shared }
    }

    /// Replaces the version; its differences may take `room` bytes.
    fn advance(&mut self, zone: &Arc<Zone>, room: usize) {
        let old = std::mem::replace(&mut self.zone, Arc::clone(zone));
        if old.serial() == zone.serial() && old.is_same(zone) {
            return;
        }
        let room = room.min(ZONE_BYTES_MAX).min(zone.reserved());
        let is_behind = |barrier: u32| is_newer(old.serial(), barrier);
        let is_later = is_newer(zone.serial(), old.serial());
        let is_usable = is_later && self.barrier.is_none_or(is_behind);
        if !is_later && self.barrier.is_none_or(is_behind) {
            self.barrier = Some(old.serial());
        }
        let difference = if is_usable { Difference::between(&old, zone, room) } else { None };
        match difference {
            None => self.kept.clear(),
            Some(difference) => self.kept.push_back(Arc::new(difference)),
        }
        let sizes = self.kept.iter().map(|difference| difference.reserved());
        self.bytes = sizes.sum();
        while self.bytes > room || self.kept.len() > DIFFERENCES_MAX {
            let Some(oldest) = self.kept.pop_front() else { break };
            self.bytes -= oldest.reserved();
        }
        self.shared = self.kept.iter().cloned().collect();
    }
}

#[cfg(test)]
mod tests {
    use super::{DIFFERENCES_MAX, Histories};
    use crate::config::Name;
    use crate::control::ZoneState;
    use crate::engine::authority::table::ZoneEntry;
    use crate::engine::authority::{Builder, Zone};
    use ahash::RandomState;
    use std::sync::Arc;

    /// A zone with this serial, a marker, and `names` further names.
    fn zone(serial: u32, marker: u8, names: u8) -> Arc<Zone> {
        let mut builder = Builder::new(b"\x01z\0", 0, RandomState::with_seeds(1, 2, 3, 4));
        let soa = [&[0, 0][..], &serial.to_be_bytes(), &[0; 16]].concat();
        builder.add(b"\x01z\0", 6, 1, &soa, (0, 0)).unwrap();
        builder.add(b"\x01m\x01z\0", 1, 60, &[192, 0, 2, marker], (0, 0)).unwrap();
        for number in 0..names {
            let owner = [&[1, number, 1][..], b"z\0"].concat();
            builder.add(&owner, 16, 60, &[200; 201], (0, 0)).unwrap();
        }
        builder.finish().unwrap_or_else(|refused| panic!("{}", refused.what)).zone.into()
    }

    fn histories() -> Histories {
        Histories::new(&[Name::parse("z").unwrap()])
    }

    /// The differences of a table with this zone: the serials of each.
    fn note(histories: &mut Histories, name: &str, zone: Option<&Arc<Zone>>) -> Vec<(u32, u32)> {
        let name = Name::parse(name).unwrap();
        let mut entries = [ZoneEntry::of_file(name, 0, zone.cloned())];
        histories.note(&mut entries);
        entries[0].differences.iter().map(|own| (own.from(), own.to())).collect()
    }

    #[test]
    fn newer_serials_are_kept_up_to_a_number() {
        let mut histories = histories();
        for serial in 1..=40 {
            let found = note(&mut histories, "z", Some(&zone(serial, serial as u8, 50)));
            let count = (serial as usize - 1).min(DIFFERENCES_MAX);
            assert_eq!(found.len(), count, "serial {serial}");
            let last = found.last();
            assert!(serial == 1 || last == Some(&(serial - 1, serial)), "{last:?}");
        }
        let mut states = [ZoneState { zone: "z.".into(), ..ZoneState::default() }];
        histories.tell(&mut states);
        assert_eq!(states[0].differences, histories.bytes as u64);
        assert!(histories.bytes > 0);
        // The zone vanishes, and its differences with it.
        histories.note(&mut []);
        assert_eq!((histories.bytes, histories.by_name.len()), (0, 0));
    }

    #[test]
    fn versions_that_cannot_be_told_apart_are_no_beginning() {
        let mut histories = histories();
        note(&mut histories, "z", Some(&zone(1, 1, 50)));
        assert_eq!(note(&mut histories, "z", Some(&zone(2, 2, 50))), [(1, 2)]);
        assert_eq!(note(&mut histories, "z", Some(&zone(2, 2, 50))), [(1, 2)], "the same again");
        assert_eq!(note(&mut histories, "z", None), [], "it has expired");
        assert_eq!(note(&mut histories, "z", Some(&zone(2, 2, 50))), [(1, 2)], "it is back");
        assert_eq!(note(&mut histories, "z", Some(&zone(2, 3, 50))), [], "the serial is the same");
        assert_eq!(note(&mut histories, "z", Some(&zone(3, 3, 50))), [], "from one of two");
        assert_eq!(note(&mut histories, "z", Some(&zone(4, 4, 50))), [(3, 4)]);
        assert_eq!(note(&mut histories, "z", Some(&zone(3, 5, 50))), [], "an older serial");
        assert_eq!(note(&mut histories, "z", Some(&zone(4, 6, 50))), [], "from an older one");
        assert_eq!(note(&mut histories, "z", Some(&zone(5, 7, 50))), [], "4 was there before");
        assert_eq!(note(&mut histories, "z", Some(&zone(3, 8, 50))), [], "older again");
        assert_eq!(note(&mut histories, "z", Some(&zone(6, 9, 50))), [], "3 was there before");
        assert_eq!(note(&mut histories, "z", Some(&zone(7, 10, 50))), [(6, 7)]);
    }

    #[test]
    fn differences_take_no_more_than_their_zone_and_their_bound() {
        let mut histories = histories();
        note(&mut histories, "z", Some(&zone(1, 1, 0)));
        assert_eq!(note(&mut histories, "z", Some(&zone(2, 2, 0))), [], "larger than the zone");
        note(&mut histories, "z", Some(&zone(2, 9, 0)));
        assert_eq!(note(&mut histories, "z", Some(&zone(3, 3, 50))), []);
        assert_eq!(note(&mut histories, "z", Some(&zone(4, 4, 50))), [(3, 4)]);
        histories.bytes_max = histories.bytes;
        assert_eq!(note(&mut histories, "z", Some(&zone(5, 5, 50))), [(4, 5)], "the oldest goes");
        assert_eq!(note(&mut histories, "z", Some(&zone(6, 6, 90))), [], "it is too large");
    }

    #[test]
    fn zones_that_no_client_may_have_keep_nothing() {
        let mut histories = histories();
        let mut other = Histories::new(&[]);
        for serial in [1, 2] {
            assert_eq!(note(&mut other, "z", Some(&zone(serial, 1, 50))), []);
            assert_eq!(note(&mut histories, "y", Some(&zone(serial, 1, 50))), []);
        }
        // A zone of a file takes the place of another of the same name.
        let name = Name::parse("z").unwrap();
        let hidden = zone(9, 9, 50);
        for serial in [1, 2, 3] {
            let entry = |zone| ZoneEntry::of_file(name.clone(), 0, Some(zone));
            let mut entries = [entry(Arc::clone(&hidden)), entry(zone(serial, 1, 50))];
            histories.note(&mut entries);
            assert!(entries[0].differences.is_empty());
            assert_eq!(entries[1].differences.len(), serial as usize - 1);
        }
    }
}
