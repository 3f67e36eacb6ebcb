//! The records of a zone one by one.
//!
//! Loaders need them for transfers that change some records, for the state of zones on disk, and to
//! sign zones; workers do not.

use super::walk::full_name;
use super::{Node, Zone, below};
use crate::engine::message::NAME_LEN_MAX;

impl Zone {
    /// All names in canonical order, those without records included.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = Node<'_>> + Clone {
        let mut place = 0;
        std::iter::from_fn(move || {
            let node = (place < self.arena.len()).then(|| self.node_at(place))?;
            place += node.len();
            Some(node)
        })
    }

    /// Calls `take` with owner, type, TTL and data of each record, in canonical order of the
    /// owners, until it returns false.
    pub(crate) fn each_record(&self, mut take: impl FnMut(&[u8], u16, u32, &[u8]) -> bool) {
        for node in self.nodes() {
            let mut room = [0; NAME_LEN_MAX];
            let owner = full_name(self, node.name(), &mut room);
            for set in node.sets() {
                for data in set.data() {
                    if !take(owner, set.rtype, set.ttl, data) {
                        return;
                    }
                }
            }
        }
    }

    /// Returns true if the zone has the record. `owner` is in lower case.
    pub(crate) fn has_record(&self, owner: &[u8], rtype: u16, data: &[u8]) -> bool {
        let node = below(owner, &self.apex).and_then(|name| self.node_of(name));
        let set = node.and_then(|node| node.set(rtype));
        set.is_some_and(|set| set.data().any(|own| own == data))
    }
}
