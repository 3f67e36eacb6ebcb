//! Memory of the forwarder's tables.
//!
//! Each table reports its own size; the sizes are added up by purpose. Data from loaders is shared
//! by all workers and counted at its source.

use super::Forwarder;
use super::parked::Table;
use crate::engine::chain::Chain;
use crate::engine::memory::{EngineMemory, reserved, reserved_boxes};

impl Forwarder {
    /// Returns the memory that the tables have reserved.
    pub fn memory(&self) -> EngineMemory {
        EngineMemory {
            exchanges: self.exchanges.reserved(),
            pools: self.pools.reserved() + reserved(&self.addresses),
            caches: self.caches.reserved(),
            caches_max: self.caches.reserved_max(),
            routes: self.routes.reserved(),
            queues: reserved(&self.sends)
                + reserved(&self.failures)
                + reserved(&self.failing)
                + reserved(&self.remarks)
                + self.delays.reserved()
                + self.errors.reserved()
                + self.journal.reserved()
                + reserved_boxes(&self.upstream_stats)
                + self.tallies.reserved()
                + self.rewriting.reserved()
                + self.parked.reserved()
                + self.watch.reserved(),
            parked_max: self.parked_max(),
        }
    }

    /// Returns the maximum additional bytes that parked queries can reserve.
    fn parked_max(&self) -> usize {
        if self.chains.iter().any(Chain::parks) {
            Table::reserved_max().saturating_sub(self.parked.reserved())
        } else {
            0
        }
    }
}
