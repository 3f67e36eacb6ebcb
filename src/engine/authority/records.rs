//! The records of a zone one by one.
//!
//! Loaders need them for transfers that change some records, and for the state of zones on disk;
//! workers do not.

use super::walk::full_name;
use super::{Zone, below};
use crate::engine::message::NAME_LEN_MAX;

impl Zone {
    /// Calls `take` with owner, type, TTL and data of each record, in canonical order of the
    /// owners, until it returns false.
    pub(crate) fn each_record(&self, mut take: impl FnMut(&[u8], u16, u32, &[u8]) -> bool) {
        let mut place = 0;
        while place < self.arena.len() {
            let node = self.node_at(place);
            let mut room = [0; NAME_LEN_MAX];
            let owner = full_name(self, node.name(), &mut room);
            for set in node.sets() {
                for data in set.data() {
                    if !take(owner, set.rtype, set.ttl, data) {
                        return;
                    }
                }
            }
            place += node.len();
        }
    }

    /// Returns true if the zone has the record. `owner` is in lower case.
    pub(crate) fn has_record(&self, owner: &[u8], rtype: u16, data: &[u8]) -> bool {
        let node = below(owner, &self.apex).and_then(|name| self.node_of(name));
        let set = node.and_then(|node| node.set(rtype));
        set.is_some_and(|set| set.data().any(|own| own == data))
    }
}
